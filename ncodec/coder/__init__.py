"""Tensors <-> a tile's payload: one section per coded quantity, the same calls in both directions.

    payload | length of every section but the last, varint each | section 0 | section 1 | ...

A model's `code` method calls `coder.code(...)` once per section: with a Writer it encodes what it is
given, with a Reader it ignores the symbols and returns those of the file. A Reader takes the payloads
of several tiles of one size: a batch, decoded together where the indexes are on a GPU.
"""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncodec.bytestream import ByteReader, varint
from ncodec.coder.device import decode_on_device
from ncodec.entropy import FrequencyTables, decode_symbols, encode_symbols
from ncodec.errors import FormatError


class Coder(Protocol):
    """What `model.code` needs from either direction."""

    batch: int  # tiles that are coded together: first dimension of `indexes`

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
    """Collects the sections that a model codes for one tile; `payload()` joins them."""

    batch = 1

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
        threads = torch.get_num_threads()
        self.sections.append(
            encode_symbols(flat, _as_rows(indexes), tables, skip_below, threads=threads)
        )
        return symbols

    def payload(self) -> bytes:
        """Return all sections as one payload."""
        lengths = b"".join(varint(len(section)) for section in self.sections[:-1])
        return lengths + b"".join(self.sections)


class Reader:
    """Hands out the sections of a batch of payloads in order: `sections[b][k]` is section k of payload b.

    Raises:
        TruncatedError, CorruptPayloadError: a payload does not hold `n_sections` sections.
    """

    def __init__(self, payloads: list[bytes], n_sections: int) -> None:
        self.batch = len(payloads)
        self.sections = [_split(payload, n_sections) for payload in payloads]
        self._next = 0

    def code(
        self,
        section: str,
        symbols: Tensor | None,
        indexes: Tensor,
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> Tensor:
        assert len(indexes) == self.batch, section
        payloads = [sections[self._next] for sections in self.sections]
        self._next += 1
        try:
            if indexes.is_cuda:
                return decode_on_device(payloads, indexes, tables, skip_below)
            threads = torch.get_num_threads()
            flat = [
                decode_symbols(payload, _as_rows(rows), tables, skip_below, threads)
                for payload, rows in zip(payloads, indexes, strict=True)
            ]
        except FormatError as error:
            raise type(error)(f"section {section!r}: {error}") from error
        return torch.from_numpy(np.stack(flat)).reshape(indexes.shape)


def _split(payload: bytes, n_sections: int) -> list[bytes]:
    """Return the sections of one payload."""
    source = ByteReader(payload)
    names = [f"section {i}" for i in range(n_sections)]
    lengths = [source.varint(f"{name} length") for name in names[:-1]]
    sections = [source.take(length, name) for name, length in zip(names, lengths, strict=False)]
    return [*sections, payload[source.offset :]]
