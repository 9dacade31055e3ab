"""Training of family `dct`, which has no network: `python -m ncodec.training.dct` (program.py)."""
