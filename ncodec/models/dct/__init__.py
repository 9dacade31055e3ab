"""Family `dct`: integers from end to end; the C++ is in ncodec/dct."""
