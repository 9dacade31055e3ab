"""Family `jpeg`: JPEG files, smaller, and restored byte for byte."""
