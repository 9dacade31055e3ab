"""Integers <-> a tile's payload: one section per coded quantity, the same calls in both directions.

    payload | length of every section but the last, varint each | section 0 | section 1 | ...

A model's `code` method calls `coder.code(...)` once per section: with a Writer it encodes what it is
given, with a Reader it ignores the symbols and returns those of the file. Their arrays are numpy's; of
tensors on a GPU, device.py has the Reader, which takes many tiles at once.
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncodec.bytestream import ByteReader, varint
from ncodec.entropy import FrequencyTables, SymbolDecoder, decode_symbols, encode_symbols
from ncodec.entropy.neighbours import NeighbourCoder
from ncodec.errors import named
from ncodec.threads import get_num_threads


class Coder(Protocol):
    """What `model.code` needs from either direction."""

    def code(
        self,
        section: str,
        symbols: Any | None,
        indexes: Any,
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> Any:
        """Return the section's symbols, int32, shaped like `indexes` (any shape, integer rows of `tables`)."""
        ...

    def code_grid(
        self,
        section: str,
        z: Any | None,
        size: tuple[int, ...],
        neighbours: NeighbourCoder,
        offset: NDArray[Any],
    ) -> Any:
        """Return the section's z [h, w, Z]; `size` is h and w, `offset` the quality's (entropy/neighbours.py)."""
        ...

    def code_steps(
        self, section: str, n_symbols: int, tables: FrequencyTables, skip_below: int = 0
    ) -> "Steps":
        """Return what codes the section's `n_symbols` in steps, where a step's indexes follow from the steps before."""
        ...


class Steps(Protocol):
    """A section that is coded in steps: one payload, as `Coder.code` of all of them would be."""

    def code(self, symbols: Any | None, indexes: Any) -> Any:
        """Return the next symbols, int32, shaped like `indexes` (any shape, integer rows of the tables)."""
        ...

    def finish(self) -> None:
        """End the section, after its last symbol."""
        ...


def _as_rows(indexes: NDArray[Any]) -> NDArray[np.uint16]:
    return np.ascontiguousarray(indexes, np.uint16).reshape(-1)


class Writer:
    """Collects the sections that a model codes for one tile; `payload()` joins them."""

    def __init__(self) -> None:
        self.sections: list[bytes] = []

    def code(
        self,
        section: str,
        symbols: NDArray[np.int32] | None,
        indexes: NDArray[Any],
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> NDArray[np.int32]:
        assert symbols is not None and symbols.shape == indexes.shape, section
        flat = np.ascontiguousarray(symbols).reshape(-1)
        threads = get_num_threads()
        self.sections.append(
            encode_symbols(flat, _as_rows(indexes), tables, skip_below, threads=threads)
        )
        return symbols

    def code_grid(
        self,
        section: str,
        z: NDArray[np.int16] | None,
        size: tuple[int, ...],
        neighbours: NeighbourCoder,
        offset: NDArray[Any],
    ) -> NDArray[np.int16]:
        assert z is not None and z.shape[:2] == size, section
        self.sections.append(neighbours.encode(z, offset))
        return z

    def code_steps(
        self, section: str, n_symbols: int, tables: FrequencyTables, skip_below: int = 0
    ) -> "WriterSteps":
        return WriterSteps(self.sections, section, n_symbols, tables, skip_below)

    def payload(self) -> bytes:
        """Return all sections as one payload."""
        lengths = b"".join(varint(len(section)) for section in self.sections[:-1])
        return lengths + b"".join(self.sections)


class WriterSteps:
    """Collects the steps of a section, whose place is kept; `finish` encodes them."""

    def __init__(
        self,
        sections: list[bytes],
        section: str,
        n_symbols: int,
        tables: FrequencyTables,
        skip_below: int,
    ) -> None:
        self._sections, self._place = sections, len(sections)
        sections.append(b"")
        self._section, self._n_symbols = section, n_symbols
        self._tables, self._skip_below = tables, skip_below
        self._symbols: list[NDArray[np.int32]] = [np.empty(0, np.int32)]
        self._rows: list[NDArray[np.uint16]] = [np.empty(0, np.uint16)]

    def code(self, symbols: NDArray[np.int32] | None, indexes: NDArray[Any]) -> NDArray[np.int32]:
        assert symbols is not None and symbols.shape == indexes.shape, self._section
        self._symbols.append(symbols.flatten())  # a copy, for the caller may reuse its arrays
        self._rows.append(_as_rows(indexes).copy())
        return symbols

    def finish(self) -> None:
        symbols, rows = np.concatenate(self._symbols), np.concatenate(self._rows)
        assert len(symbols) == self._n_symbols, self._section
        self._sections[self._place] = encode_symbols(
            symbols, rows, self._tables, self._skip_below, chunks=1
        )


class Reader:
    """Hands out the sections of a payload in order.

    Raises:
        TruncatedError, CorruptPayloadError: the payload does not hold `n_sections` sections.
    """

    def __init__(self, payload: bytes, n_sections: int) -> None:
        self.sections = split(payload, n_sections)
        self._next = iter(self.sections)

    def code(
        self,
        section: str,
        symbols: NDArray[np.int32] | None,
        indexes: NDArray[Any],
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> NDArray[np.int32]:
        rows, threads = _as_rows(indexes), get_num_threads()
        with named(f"section {section!r}: "):
            flat = decode_symbols(next(self._next), rows, tables, skip_below, threads)
        return flat.reshape(indexes.shape)

    def code_grid(
        self,
        section: str,
        z: NDArray[np.int16] | None,
        size: tuple[int, ...],
        neighbours: NeighbourCoder,
        offset: NDArray[Any],
    ) -> NDArray[np.int16]:
        with named(f"section {section!r}: "):
            return neighbours.decode(next(self._next), size, offset)

    def code_steps(
        self, section: str, n_symbols: int, tables: FrequencyTables, skip_below: int = 0
    ) -> "ReaderSteps":
        return ReaderSteps(section, SymbolDecoder(next(self._next), n_symbols, tables, skip_below))


class ReaderSteps:
    """Decodes a section step by step."""

    def __init__(self, section: str, decoder: SymbolDecoder) -> None:
        self._section, self._decoder = section, decoder

    def code(self, symbols: NDArray[np.int32] | None, indexes: NDArray[Any]) -> NDArray[np.int32]:
        with named(f"section {self._section!r}: "):
            return self._decoder.decode(_as_rows(indexes)).reshape(indexes.shape)

    def finish(self) -> None:
        with named(f"section {self._section!r}: "):
            self._decoder.finish()


def split(payload: bytes, n_sections: int) -> list[bytes]:
    """Return the sections of one payload.

    Raises:
        TruncatedError, CorruptPayloadError: it does not hold so many.
    """
    source = ByteReader(payload)
    names = [f"section {i}" for i in range(n_sections)]
    lengths = [source.varint(f"{name} length") for name in names[:-1]]
    sections = [source.take(length, name) for name, length in zip(names, lengths, strict=False)]
    return [*sections, payload[source.offset :]]
