from collections.abc import Sequence
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
        self,
        payload: bytes,
        indexes: Any,
        skip_below: int,
        threads: int,
        variant: str | None,
        symbols: NDArray[np.int32],
    ) -> None: ...

class SymbolDecoder:
    def __init__(
        self,
        tables: Tables,
        payload: bytes,
        n_symbols: int,
        skip_below: int,
        variant: str | None,
    ) -> None: ...
    def decode(self, indexes: Any, symbols: NDArray[np.int32]) -> None: ...
    def finish(self) -> None: ...

class NeighbourNetwork:
    def encode(self, tables: Tables, offset: NDArray[np.int16], z: NDArray[np.int16]) -> bytes: ...
    def decode(
        self, tables: Tables, offset: NDArray[np.int16], payload: bytes, z: NDArray[np.int16]
    ) -> None: ...

class BinaryEncoder:
    def __init__(self, n_contexts: int) -> None: ...
    def encode(self, bins: Any, contexts: Any) -> None: ...
    def finish(self) -> bytes: ...

class BinaryDecoder:
    def __init__(self, payload: bytes, n_contexts: int) -> None: ...
    def decode(self, contexts: Any) -> NDArray[np.uint8]: ...
    def finish(self) -> None: ...

class TokenStage: ...

class TokenStages:
    def __init__(self, stages: Sequence[TokenStage]) -> None: ...
    def encode(
        self,
        tokens: NDArray[np.int32],
        stage: int,
        depth: int,
        first: int,
        end: int,
        logits: NDArray[np.int16] | None,
    ) -> bytes: ...
    def decode(
        self,
        payload: bytes,
        tokens: NDArray[np.int32],
        stage: int,
        depth: int,
        first: int,
        end: int,
        logits: NDArray[np.int16] | None,
    ) -> None: ...
    def values(self, tokens: NDArray[np.int32], depth: int, values: NDArray[np.int16]) -> None: ...

def make_token_stage(
    levels: Sequence[int],
    bits: int,
    before: int,
    table: NDArray[Any],
    hidden: NDArray[Any],
    hidden_bias: NDArray[Any],
    head: NDArray[Any],
    head_bias: NDArray[Any],
    shifts: Sequence[int],
) -> TokenStage: ...
def make_network(
    hidden: NDArray[np.int16],
    hidden_bias: NDArray[np.int32],
    head: NDArray[np.int16],
    own: NDArray[np.int16],
    shifts: Sequence[int],
) -> NeighbourNetwork: ...
def vector_name() -> str | None: ...
def make_tables(frequencies: NDArray[np.uint16]) -> Tables: ...
def crc32c(data: bytes, crc: int = 0) -> int: ...
