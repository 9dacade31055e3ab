from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXTS: int
MIXERS: int

class Parameters:
    def __init__(self, tensors: dict[str, Any]) -> None: ...

class EncoderOptions:
    lmbda: float
    least_log2: int
    most_log2: int
    optimised_levels: bool
    full_trials: int
    def __init__(self) -> None: ...

def encode(
    pixels: NDArray[np.uint8],
    parameters: Parameters,
    quality_code: int,
    kind: int,
    chroma_shift: int,
    options: EncoderOptions,
) -> bytes: ...
def decode(
    payload: bytes,
    parameters: Parameters,
    quality_code: int,
    width: int,
    height: int,
    is_grey: bool,
) -> NDArray[np.uint8]: ...
def count(
    pixels: NDArray[np.uint8],
    parameters: Parameters,
    quality_code: int,
    options: EncoderOptions,
) -> tuple[NDArray[np.uint32], NDArray[np.int32], float]: ...
def filter_sums(
    pixels: NDArray[np.uint8],
    parameters: Parameters,
    quality_code: int,
    options: EncoderOptions,
    is_chroma: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
