from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTEXTS: int
MIXERS: int
WORTH_SHAPE: tuple[int, int, int]

class Parameters:
    def __init__(self, tensors: dict[str, Any]) -> None: ...

class Tuning:
    is_visual: bool
    weight_slope: float
    offset_slope: float
    constant: float
    usual: float
    sensitivity: list[list[float]]
    def __init__(self) -> None: ...

class EncoderOptions:
    lmbda: float
    least_log2: int
    most_log2: int
    optimised_levels: bool
    full_trials: int
    is_quick: bool
    is_thorough: bool
    binary_depth: int
    ternary: bool
    price: float
    network: bool
    turned: bool
    wiener: bool
    tuning: Tuning
    def __init__(self) -> None: ...

class BlockFormat:
    def __init__(
        self,
        log2: int,
        quality_code: int,
        bit_depth: int,
        entropy: int,
        kind: int,
        is_flat: bool,
        is_chroma: bool,
    ) -> None: ...

def encode(
    pixels: NDArray[Any],
    parameters: Parameters,
    quality_code: int,
    kind: int,
    chroma_shift: int,
    options: EncoderOptions,
    bit_depth: int = 8,
) -> bytes: ...
def decode(
    payload: bytes,
    parameters: Parameters,
    quality_code: int,
    width: int,
    height: int,
    is_grey: bool,
    bit_depth: int = 8,
) -> NDArray[Any]: ...
def count(
    pixels: NDArray[np.uint8], parameters: Parameters, quality_code: int, options: EncoderOptions
) -> tuple[NDArray[np.uint32], NDArray[np.int32], float]: ...
def filter_sums(
    pixels: NDArray[np.uint8],
    parameters: Parameters,
    quality_code: int,
    options: EncoderOptions,
    is_chroma: bool,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def reconstruct(
    pixels: NDArray[np.uint8], parameters: Parameters, quality_code: int, options: EncoderOptions
) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]: ...
def learned_blocks(
    pixels: NDArray[np.uint8], parameters: Parameters, quality_code: int, options: EncoderOptions
) -> list[
    tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.float32], NDArray[np.float32]]
]: ...
def leaf_coefficients(
    pixels: NDArray[np.uint8],
    parameters: Parameters,
    quality_code: int,
    kind: int,
    options: EncoderOptions,
) -> list[tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int16]]]: ...
def worth_networks() -> NDArray[np.float32]: ...
def split_trials(
    pixels: NDArray[np.uint8],
    parameters: Parameters,
    quality_code: int,
    options: EncoderOptions,
    slack: float,
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]: ...
def encode_blocks(
    blocks: NDArray[np.int16],
    width: int,
    parameters: Parameters,
    format: BlockFormat,
    lmbda: float,
    optimised: bool,
) -> tuple[bytes, NDArray[np.int16]]: ...
def decode_blocks(
    payload: bytes, offset: int, n: int, width: int, parameters: Parameters, format: BlockFormat
) -> NDArray[np.int16]: ...
def transform_blocks(
    blocks: NDArray[np.int16], parameters: Parameters, format: BlockFormat
) -> NDArray[np.float32]: ...
def reconstruct_blocks(
    levels: NDArray[np.int16], parameters: Parameters, format: BlockFormat
) -> NDArray[np.int16]: ...
def count_blocks(
    blocks: NDArray[np.int16],
    width: int,
    parameters: Parameters,
    format: BlockFormat,
    lmbda: float,
    optimised: bool,
) -> tuple[NDArray[np.uint32], NDArray[np.int32], float, NDArray[np.uint8]]: ...
def intra_residuals(
    source: NDArray[np.uint8], reference: NDArray[np.uint8], log2: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]: ...
