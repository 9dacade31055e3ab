"""Integers to bytes and back: interleaved rANS with per-symbol tables (specs/entropy.md). Exact.

The coder is C++ (rans.hpp, payload.hpp); this file holds the tables and what codes with them.
"""

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

import ncodec.entropy._rans as _rans
from ncodec.errors import InputError

FREQ_BITS = 14

crc32c = _rans.crc32c


class FrequencyTables:
    """Rows of integer frequencies, each summing to 2**14; checked once, when constructed.

    Entry e of a row stands for the symbol 0, -1, 1, -2, 2, … (zigzag); the row's last positive entry
    is the escape, which any other symbol is coded with.

    Args:
        frequencies: [k, s] uint16, positive from the left, then zeros; k <= 2**16, s <= 2**14.

    Raises:
        InputError: a row does not sum to 2**14, or has a zero between positive entries.
    """

    def __init__(self, frequencies: NDArray[np.uint16]) -> None:
        if not isinstance(frequencies, np.ndarray):
            raise InputError(f"frequencies: expected a numpy array, found {type(frequencies).__name__}")  # fmt: skip
        if frequencies.ndim != 2 or frequencies.dtype != np.uint16:
            raise InputError(
                f"frequencies: expected uint16 [k, s], found {frequencies.dtype} {list(frequencies.shape)}"
            )
        self.frequencies = np.array(frequencies, order="C")  # a copy: it was checked as it is now
        self._coder = _rans.make_tables(self.frequencies)

    @classmethod
    def from_pmf(cls, rows: list[ArrayLike]) -> "FrequencyTables":
        """Return tables for rows of probabilities in zigzag order, the last one for the escape."""
        quantised = [quantise_pmf(np.asarray(row, np.float64)) for row in rows]
        if not quantised:
            raise InputError("rows: expected at least one, found none")
        table = np.zeros((len(rows), max(map(len, quantised))), np.uint16)
        for row, frequencies in zip(table, quantised, strict=True):
            row[: len(frequencies)] = frequencies
        return cls(table)

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """[k] entries of each row, the escape included."""
        return (self.frequencies > 0).sum(1)

    def ideal_bits(self, symbols: NDArray[np.int32], indexes: NDArray[np.uint16]) -> float:
        """Return the code length of `symbols` under the tables: -log2(f / 2**14), plus escape bytes.

        Skipped symbols have none: leave them out.

        Raises:
            InputError: shapes differ, or an index is not a row.
        """
        if np.shape(symbols) != np.shape(indexes):
            raise InputError(f"indexes: expected one per symbol, found {np.shape(indexes)} for {np.shape(symbols)}")  # fmt: skip
        if np.size(indexes) and not 0 <= np.min(indexes) <= np.max(indexes) < len(self.sizes):
            raise InputError(f"indexes: expected rows below {len(self.sizes)}, found {np.max(indexes)}")  # fmt: skip
        entries = np.where(
            symbols >= 0, 2 * symbols.astype(np.int64), -2 * symbols.astype(np.int64) - 1
        )
        escape = self.sizes[indexes] - 1
        frequencies = self.frequencies[indexes, np.minimum(entries, escape)]
        rest = (entries - escape)[entries >= escape]
        escape_bytes = sum(int((rest >= 1 << bits).sum()) for bits in (7, 14, 21, 28)) + len(rest)
        return float((FREQ_BITS - np.log2(frequencies)).sum() + 8 * escape_bytes)


def quantise_pmf(pmf: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Return positive integer frequencies close to `pmf` that sum to 2**14.

    Every entry gets 1 and the rest is shared in proportion, the largest remainders rounded up.

    >>> quantise_pmf(np.array([0.5, 0.25, 0.25])).tolist()
    [8192, 4096, 4096]
    """
    total = 1 << FREQ_BITS
    if pmf.ndim != 1 or not 1 <= len(pmf) <= total:
        raise InputError(f"pmf: expected 1 to {total} probabilities, found shape {list(pmf.shape)}")
    if not ((pmf >= 0) & (pmf <= 2**53)).all() or not pmf.sum() > 0:
        raise InputError("pmf: expected finite weights of at least 0, not all 0")
    share = pmf / pmf.sum() * (total - len(pmf))
    frequencies = np.floor(share).astype(np.int64)
    missing = total - len(pmf) - frequencies.sum()
    frequencies[np.argsort(frequencies - share, kind="stable")[:missing]] += 1
    return (frequencies + 1).astype(np.uint16)


def _check_options(skip_below: int, threads: int) -> None:
    if not 0 <= skip_below < 1 << 32:
        raise InputError(f"skip_below: expected 0 to 2**32 - 1, found {skip_below}")
    if not 1 <= threads < 1 << 31:
        raise InputError(f"threads: expected 1 to 2**31 - 1, found {threads}")


def variants() -> list[str]:
    """Return the coder's implementations on this processor, the fastest last. All are bit-identical."""
    vector = _rans.vector_name()
    return ["scalar", vector] if vector else ["scalar"]


def encode_symbols(
    symbols: NDArray[np.int32],
    indexes: NDArray[np.uint16],
    tables: FrequencyTables,
    skip_below: int = 0,
    lanes: int | None = None,
    chunks: int | None = None,
    threads: int = 1,
    variant: str | None = None,
) -> bytes:
    """Return one section's payload. Exact: same bytes on every platform.

    Args:
        symbols: [n] int32, contiguous, numpy or torch (CPU); no other thread may change it meanwhile.
        indexes: [n] uint16, row of `tables` for each symbol; likewise.
        tables: frequencies.
        skip_below: symbols whose index is smaller are not coded; they must be 0.
        lanes: 1, 2, 4 … 32 interleaved states; by default one for every KiB of a chunk, about.
        chunks: parts that can be decoded at the same time, at most one a coded symbol; by default
            one for every 32 KiB.
        threads: of the CPU, at most one a chunk; the bytes do not depend on it.
        variant: one of `variants()`; by default the fastest. The bytes do not depend on it.

    Raises:
        InputError: shapes differ, an index is not a row, a skipped symbol is not 0, or an option is out of range.
        TypeError: an array is not contiguous or of another type.

    >>> t = FrequencyTables.from_pmf([[0.5, 0.2, 0.2, 0.1]])
    >>> rows = np.zeros(4, np.uint16)
    >>> decode_symbols(encode_symbols(np.array([0, 1, -1, 90], np.int32), rows, t), rows, t).tolist()
    [0, 1, -1, 90]
    """
    log_lanes = -1
    if lanes is not None:
        if lanes not in (1, 2, 4, 8, 16, 32):
            raise InputError(f"lanes: expected 1, 2, 4, 8, 16 or 32, found {lanes}")
        log_lanes = int(lanes).bit_length() - 1
    if chunks is not None and not 1 <= chunks < 1 << 32:
        raise InputError(f"chunks: expected 1 to 2**32 - 1, found {chunks}")
    _check_options(skip_below, threads)
    return tables._coder.encode(
        symbols, indexes, skip_below, log_lanes, chunks or 0, threads, variant
    )


def decode_symbols(
    payload: bytes,
    indexes: NDArray[np.uint16],
    tables: FrequencyTables,
    skip_below: int = 0,
    threads: int = 1,
    variant: str | None = None,
) -> NDArray[np.int32]:
    """Return the symbols coded in one section. Exact: same result on every platform.

    Args:
        payload: bytes of one section, as written by `encode_symbols` (specs/entropy.md).
        indexes: [n] uint16, row of `tables` for each symbol, in coding order; no other thread may
            change it meanwhile.
        tables: frequencies.
        skip_below: symbols whose index is smaller are 0.
        threads: of the CPU, at most one a chunk of the payload.
        variant: one of `variants()`; by default the fastest.

    Returns:
        [n] symbols, in latent steps, before means are added.

    Raises:
        TruncatedError: `payload` ends before symbol n.
        CorruptPayloadError: bytes are left over, or the final state is wrong. Not all damage shows: that is
            what the container's checksums are for.
        InputError: an index is not a row of the tables, or an option is out of range.
        TypeError: `payload` is not bytes, or `indexes` is not contiguous or of another type.
    """
    _check_options(skip_below, threads)
    symbols = np.empty(len(indexes), np.int32)  # by numpy: on huge pages where it is large
    tables._coder.decode(payload, indexes, skip_below, threads, variant, symbols)
    return symbols


class SymbolDecoder:
    """Decodes one section a step at a time: the rows of a step may follow from the symbols before it. Exact.

    Args:
        payload: of all steps' symbols in order, by `encode_symbols(..., chunks=1)`.
        n_symbols: how many there are, the skipped ones too.
        tables, skip_below, variant: as for `decode_symbols`.

    Raises:
        InputError: an option is out of range.
        TypeError: `payload` is not bytes.

    >>> t = FrequencyTables.from_pmf([[0.5, 0.2, 0.2, 0.1]])
    >>> rows = np.zeros(4, np.uint16)
    >>> decoder = SymbolDecoder(encode_symbols(np.array([0, 1, -1, 90], np.int32), rows, t, chunks=1), 4, t)
    >>> decoder.decode(rows[:3]).tolist(), decoder.decode(rows[3:]).tolist()
    ([0, 1, -1], [90])
    >>> decoder.finish()
    """

    def __init__(
        self,
        payload: bytes,
        n_symbols: int,
        tables: FrequencyTables,
        skip_below: int = 0,
        variant: str | None = None,
    ) -> None:
        _check_options(skip_below, threads=1)
        if not 0 <= n_symbols < 1 << 63:
            raise InputError(f"n_symbols: expected 0 to 2**63 - 1, found {n_symbols}")
        self._coder = _rans.SymbolDecoder(tables._coder, payload, n_symbols, skip_below, variant)

    def decode(self, indexes: NDArray[np.uint16]) -> NDArray[np.int32]:
        """Return the next [n] symbols.

        Args:
            indexes: [n] uint16, row of the tables for each; no other thread may change it meanwhile.

        Raises:
            TruncatedError, CorruptPayloadError: as `decode_symbols`, or the payload is in chunks; every later call
                raises it too.
            InputError: an index is not a row or fewer symbols are left (nothing is decoded then), the decoder is
                finished, or another thread is using it.
            TypeError: `indexes` is not contiguous or of another type.
        """
        symbols = np.empty(len(indexes), np.int32)
        self._coder.decode(indexes, symbols)
        return symbols

    def finish(self) -> None:
        """Check that the payload ends with the last symbol.

        Raises:
            CorruptPayloadError: bytes are left over, or the final state is wrong.
            TruncatedError: the payload ended before.
            InputError: fewer than `n_symbols` were decoded, the decoder is finished, or another thread is using it.
        """
        self._coder.finish()
