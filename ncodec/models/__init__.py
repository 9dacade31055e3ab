"""Families: each a folder whose codec.py encodes and decodes tiles of pixels, as protocol.py asks."""
