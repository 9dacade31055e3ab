"""The parameters of family `dct`, as arrays of a weights file (their meaning: specs/dct.md)."""

from math import log2, sqrt

import numpy as np
from numpy.typing import NDArray

from ncodec.dct import _dct
from ncodec.quality import LAMBDAS

Tensors = dict[str, NDArray[np.generic]]


def initial() -> Tensors:
    """Return parameters that know nothing: flat matrices, even odds, no filters but deblocking."""
    # A uniform quantiser's error falls as fast as lambda asks at step^2 = 6 / (lambda ln 2), of 8 bits.
    steps = [4 * sqrt(6 / (lmbda * 0.6931)) for lmbda in LAMBDAS]
    return {
        "log_step": np.array([[round(256 * log2(s))] * 3 for s in steps], np.int16),
        "matrix": np.zeros((8, 2, 5, 64), np.int8),
        "strength": np.array([[58, 8, 58, 8, 32, 32]] * 8, np.uint8),
        "luma_filter": np.zeros((8, 25, 12), np.int8),
        "chroma_filter": np.zeros((8, 2, 5, 11), np.int8),
        "start": np.zeros((2, _dct.CONTEXTS), np.int8),
        "confidence": np.zeros(_dct.CONTEXTS, np.uint8),
        "weights": np.full((_dct.MIXERS, 3), 6500, np.int16),
    }
