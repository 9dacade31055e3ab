from typing import Any

import numpy as np
from numpy.typing import NDArray

class Tables:
    def encode(
        self,
        symbols: Any,
        indexes: Any,
        skip_below: int,
        log_lanes: int,
        chunks: int,
        threads: int,
        variant: str | None,
    ) -> bytes: ...
    def decode(
        self, payload: bytes, indexes: Any, skip_below: int, threads: int, variant: str | None
    ) -> NDArray[np.int32]: ...

def vector_name() -> str | None: ...
def make_tables(frequencies: NDArray[np.uint16]) -> Tables: ...
def crc32c(data: bytes, crc: int = 0) -> int: ...
