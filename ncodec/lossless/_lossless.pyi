from numpy import uint8, uint16
from numpy.typing import NDArray

def encode(
    pixels: NDArray[uint8] | NDArray[uint16], bit_depth: int, effort: int, exact: bool
) -> bytes: ...
def decode(
    payload: bytes, width: int, height: int, channels: int, bit_depth: int
) -> NDArray[uint8] | NDArray[uint16]: ...
