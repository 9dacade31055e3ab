"""Family `lossless`: pixels as they are."""
