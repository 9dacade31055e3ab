"""Tensors <-> a tile's payload: one section per coded quantity, the same calls in both directions.

    payload | length of every section but the last, varint each | section 0 | section 1 | ...

A model's `code` method calls `coder.code(...)` once per section: with a Writer it encodes what it is
given, with a Reader it ignores the symbols and returns those of the file.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncodec.container import ByteReader, varint
from ncodec.entropy import FrequencyTables, decode_symbols, encode_symbols
from ncodec.errors import FormatError


class Coder(Protocol):
    """What `model.code` needs from either direction."""

    def code(
        self,
        section: str,
        symbols: Tensor | None,
        indexes: Tensor,
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> Tensor:
        """Return the section's symbols, int32, shaped like `indexes` (any shape, integer rows of `tables`)."""
        ...


def _as_rows(indexes: Tensor) -> NDArray[np.uint16]:
    return np.ascontiguousarray(indexes.cpu().numpy().astype(np.uint16).reshape(-1))


class Writer:
    """Collects the sections that a model codes; `payload()` joins them."""

    def __init__(self) -> None:
        self.sections: list[bytes] = []

    def code(
        self,
        section: str,
        symbols: Tensor | None,
        indexes: Tensor,
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> Tensor:
        assert symbols is not None and symbols.shape == indexes.shape, section
        flat = np.ascontiguousarray(symbols.cpu().numpy().astype(np.int32).reshape(-1))
        self.sections.append(encode_symbols(flat, _as_rows(indexes), tables, skip_below))
        return symbols

    def payload(self) -> bytes:
        """Return all sections as one payload."""
        lengths = b"".join(varint(len(section)) for section in self.sections[:-1])
        return lengths + b"".join(self.sections)


class Reader:
    """Hands out the sections of a payload in order.

    Raises:
        TruncatedError, CorruptPayloadError: the payload does not hold `n_sections` sections.
    """

    def __init__(self, payload: bytes, n_sections: int) -> None:
        source = ByteReader(payload)
        names = [f"section {i}" for i in range(n_sections)]
        lengths = [source.varint(f"{name} length") for name in names[:-1]]
        self.sections = [
            source.take(length, name) for name, length in zip(names, lengths, strict=False)
        ]
        self.sections.append(payload[source.offset :])
        self._next = 0

    def code(
        self,
        section: str,
        symbols: Tensor | None,
        indexes: Tensor,
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> Tensor:
        payload = self.sections[self._next]
        self._next += 1
        try:
            flat = decode_symbols(payload, _as_rows(indexes), tables, skip_below)
        except FormatError as error:
            raise type(error)(f"section {section!r}: {error}") from error
        return torch.from_numpy(flat).reshape(indexes.shape).to(indexes.device)
