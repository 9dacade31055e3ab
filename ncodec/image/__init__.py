"""Pictures <-> files, Pillow, numpy and torch. Decisions about colour, depth and modes live here.

    file --read----> Pillow --from_pillow--> Picture <--picture_of-- numpy, torch
    file <--write--- Pillow <--to_pillow---- Picture --as_kind-----> numpy, torch

picture: what a Picture is, arrays; alpha: with and without it; reading and, above 8 bits, deep: files in; writing: files out. Whatever is converted
or left out on the way is refused or said in a notice, never silent.
"""

from ncodec.image.alpha import filled, flattened, plain
from ncodec.image.picture import Kind, Picture, as_kind, check_kind, picture_of, to_pillow
from ncodec.image.reading import from_pillow, read
from ncodec.image.writing import write

__all__ = [
    "Kind",
    "Picture",
    "as_kind",
    "check_kind",
    "filled",
    "flattened",
    "from_pillow",
    "picture_of",
    "plain",
    "read",
    "to_pillow",
    "write",
]
