"""The parameters of family `dct`, as arrays of a weights file (their meaning: specs/dct.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncodec.dct import _dct
from ncodec.quality import LAMBDAS

Tensors = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Tuning:
    """What an encoder that tunes for eyes weighs errors by; "tuning" of what a weights file says of itself.

    Where luma's local variance is v (8-bit samples, means of 4x4, windows of 5x5 of these), an error's *visibility* is
    1 / (2 v + constant). It weighs 2 ** (weight_slope * (log2(visibility) - usual)) times its square, in 8x8, and steps
    are -offset_slope * (log2(visibility) - usual) octaves coarser, in 32x32.
    """

    lmbda: float  # times that of the quality
    weight_slope: float
    offset_slope: float
    constant: float
    usual: float
    # [3][7]: log2 of the weight of an error of Y, Cb, Cr at 1/128 ... 1/2 cycle a sample
    sensitivity: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Tuning | None":
        """Return that of a weights file, None if it is not tuned so.

        Raises:
            KeyError, TypeError, ValueError: it is not as this version expects.
        """
        if about.get("tuning") is None:
            return None
        numbers = {name: float(about["tuning"][name]) for name in NUMBERS}
        sensitivity = tuple(tuple(map(float, row)) for row in about["tuning"]["sensitivity"])
        for name, (low, high) in NUMBERS.items():
            if not low <= numbers[name] <= high:
                raise ValueError(f"{name}: expected {low} to {high}, found {numbers[name]}")
        if [len(row) for row in sensitivity] != [7] * 3 or not all(
            abs(v) <= 16 for row in sensitivity for v in row
        ):
            raise ValueError("sensitivity: expected 3 x 7 numbers of -16 to 16")
        return cls(**numbers, sensitivity=sensitivity)

    def for_encoder(self) -> _dct.Tuning:
        """Return it as the C++ takes it."""
        tuning = _dct.Tuning()
        tuning.is_visual = True
        for name in NUMBERS:
            if name != "lmbda":
                setattr(tuning, name, getattr(self, name))
        tuning.sensitivity = [list(row) for row in self.sensitivity]
        return tuning


NUMBERS = {
    "lmbda": (0.1, 10),
    "weight_slope": (0, 2),
    "offset_slope": (0, 2),
    "constant": (1, 10000),
    "usual": (-16, 0),
}


# What R, G and B are of three planes, less the middle, of 1/65536: a grey axis and two across it, all at right angles and
# of length sqrt(3), so that an error of any plane weighs as much; and BT.601, full range.
OPPONENT = np.array([[65536, -46341, 80265], [65536, -46341, -80265], [65536, 92682, 0]], np.int32)
YCBCR = np.array([[65536, 0, 91881], [65536, -22553, -46802], [65536, 116130, 0]], np.int32)


def initial() -> Tensors:
    """Return parameters that know nothing: flat matrices, even odds, no filters but deblocking."""
    # A uniform quantiser's error falls as fast as lambda asks at step^2 = 6 / (lambda ln 2), of 8 bits.
    steps = [4 * sqrt(6 / (lmbda * 0.6931)) for lmbda in LAMBDAS]
    return {
        "colour": OPPONENT.copy(),
        "log_step": np.array([[round(256 * log2(s))] * 3 for s in steps], np.int16),
        "matrix": np.zeros((8, 2, 5, 64), np.int8),
        "strength": np.array([[58, 8, 58, 8, 32, 32]] * 8, np.uint8),
        "luma_filter": np.zeros((8, 25, 12), np.int8),
        "chroma_filter": np.zeros((8, 2, 5, 11), np.int8),
        "learned": np.zeros((6, 8, 16, 16), np.int16),
        "start": np.zeros((2, _dct.CONTEXTS), np.int8),
        "confidence": np.zeros(_dct.CONTEXTS, np.uint8),
        "weights": np.full((_dct.MIXERS, 3), 6500, np.int16),
    }
