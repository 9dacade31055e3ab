"""Payloads -> symbols on the device that holds their indexes; symbols never visit the host. Needs torch.

    host     payloads --read_directories--> bytes, places of all chunks ----+
                                                                            | copied to the device
    device   indexes --compact--> rows of coded symbols --------------------+--decode_chunks--> symbols
                                                                                                  | expand
    host     <-- one small copy: what is wrong with each chunk, coded symbols a payload     [B, ...] int32

`DeviceReader` is the Reader of several tiles of one size. `decode_on_device`, which it calls, means what
`ncodec.entropy.decode_symbols` means, for several payloads at once: the same symbols, the same errors.
"""

from importlib.util import find_spec
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncodec.bytestream import ByteReader
from ncodec.coder import lanes, split
from ncodec.coder.lanes import Chunks, DeviceTables, device_tables
from ncodec.entropy import FrequencyTables
from ncodec.entropy.neighbours import NeighbourCoder
from ncodec.errors import (
    CorruptPayloadError,
    FormatError,
    InputError,
    NcodecError,
    TruncatedError,
    named,
)

CHUNKED = 8  # in byte 0
MAX_BYTES = 2**31 - 1  # of one payload: places in it are int32
MAX_ROWS = 1 << 16  # of tables
NOT_A_ROW = -1  # in place of a number of coded symbols: one of them has no row of the tables
PROBLEMS: dict[int, tuple[type[NcodecError], str]] = {
    lanes.BAD_INDEX: (InputError, "a symbol's index is not a row of the tables"),
    lanes.TRUNCATED: (TruncatedError, "the payload ends before the last symbol"),
    lanes.BAD_ESCAPE: (
        CorruptPayloadError,
        "an escape exceeds 32 bits or is not the shortest form",
    ),
    lanes.LEFT_OVER: (CorruptPayloadError, "bytes are left over after the last symbol"),
    lanes.BAD_FIRST_STATE: (CorruptPayloadError, "a first coder state is below 2^16"),
    lanes.BAD_FINAL_STATE: (
        CorruptPayloadError,
        "a final coder state is not 2^16, where the encoder began",
    ),
}


class Directory(NamedTuple):
    """The start of one payload, up to its chunks."""

    lanes: int
    n_chunks: int
    starts: list[int]  # offset of each chunk in the payload; empty after an error
    ends: list[int]
    error: FormatError | None  # reported only if any symbol is coded


class Resident(NamedTuple):
    """Payloads on a device, chunk by chunk: [K] each but `data`."""

    data: Tensor  # uint8, all payloads
    start: Tensor  # int64, offset in data
    size: Tensor  # int32, bytes
    lanes: Tensor  # int32
    payload: Tensor  # int64, which one
    number: Tensor  # int64, of the chunk in its payload
    n_chunks: Tensor  # int64, of that payload


def read_directory(payload: bytes, n_symbols: int) -> Directory:
    """Return where a payload's chunks lie.

    Args:
        payload: of one section.
        n_symbols: at most as many are coded.
    """
    n_lanes = n_chunks = 1
    try:
        if not payload:
            raise TruncatedError("0 bytes, expected symbols")
        if payload[0] & 7 > 5 or payload[0] >= 2 * CHUNKED:
            raise CorruptPayloadError(
                "byte 0: expected log2 of at most 32 lanes, plus 8 if chunked"
            )
        if len(payload) > MAX_BYTES:
            raise CorruptPayloadError(f"{len(payload)} bytes, expected at most {MAX_BYTES}")
        n_lanes = 1 << (payload[0] & 7)
        source = ByteReader(payload)
        source.take(1, "byte 0")
        sizes = []
        if payload[0] & CHUNKED:
            found = source.varint("number of chunks")
            if not 2 <= found <= n_symbols:
                raise CorruptPayloadError(
                    f"number of chunks: expected 2 to {n_symbols}, found {found}"
                )
            n_chunks = found
            sizes = [source.varint("size of a chunk") for _ in range(n_chunks - 1)]
        starts = [source.offset]
        for size in sizes:
            starts.append(starts[-1] + size)
        if starts[-1] > len(payload):
            raise TruncatedError(f"chunks reach to {starts[-1]}, payload has {len(payload)} bytes")
    except FormatError as error:
        return Directory(n_lanes, n_chunks, [], [], error)
    return Directory(n_lanes, n_chunks, starts, [*starts[1:], len(payload)], None)


def place(payloads: list[bytes], directories: list[Directory], device: torch.device) -> Resident:
    """Return the payloads' bytes and the places of their chunks on a device."""
    table, offset = [], 0
    for b, (payload, d) in enumerate(zip(payloads, directories, strict=True)):
        for c, (start, end) in enumerate(zip(d.starts, d.ends, strict=True)):
            table.append((offset + start, end - start, d.lanes, b, c, d.n_chunks))
        offset += len(payload)
    joined = torch.frombuffer(bytearray(b"".join(payloads)) or bytearray(1), dtype=torch.uint8)
    columns = torch.tensor(table, dtype=torch.int64).reshape(-1, 6).to(device).T.contiguous()
    start, size, n_lanes, *rest = columns
    return Resident(joined.to(device), start, size.int(), n_lanes.int(), *rest)


def decode_resident(
    resident: Resident, indexes: Tensor, tables: DeviceTables, skip_below: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the symbols of payloads that are on the device. Exact; nothing waits for the host.

    Args:
        resident: B payloads, K chunks.
        indexes: [B, n], integers.
        tables: on the same device.
        skip_below: symbols whose index is smaller are 0.

    Returns:
        [B, n] int32 symbols; [B] coded symbols, or NOT_A_ROW; [K] int32, what is wrong with each chunk (lanes.py).
    """
    batch, n = indexes.shape
    rows = indexes.clamp(-1, MAX_ROWS).int()
    rows = torch.where(rows < 0, MAX_ROWS, rows)  # no row of any table, and never skipped
    coded = rows >= skip_below
    rank = coded.cumsum(1)
    n_coded = rank[:, -1] if n else torch.zeros_like(rank.sum(1))
    base = torch.arange(batch, device=rows.device)[:, None] * n
    to = torch.where(coded, base + rank - 1, batch * n)  # one more, for all that are skipped
    compact = torch.zeros(batch * n + 1, dtype=torch.int32, device=rows.device)
    compact.scatter_(0, to.flatten(), rows.flatten())
    count = n_coded[resident.payload]
    first = resident.number * count // resident.n_chunks
    last = (resident.number + 1) * count // resident.n_chunks
    chunks = Chunks(
        resident.start, resident.size, resident.lanes, resident.payload * n + first, (last - first).int()
    )  # fmt: skip
    if len(resident.start):
        if rows.device.type == "cuda" and find_spec("triton"):
            from ncodec.coder import triton_rans

            decode_chunks = triton_rans.decode_chunks
        else:
            decode_chunks = lanes.decode_chunks
        symbols, problems = decode_chunks(resident.data, chunks, compact, tables)
    else:
        symbols, problems = torch.zeros_like(compact), resident.size
    is_row = (~coded | (rows < tables.n_rows)).all(1)
    return torch.where(coded, symbols[to], 0), torch.where(is_row, n_coded, NOT_A_ROW), problems


class DeviceReader:
    """Hands out the sections of B payloads in order: a Reader whose indexes are tensors [B, ...], symbols too.

    Raises:
        TruncatedError, CorruptPayloadError: a payload does not hold `n_sections` sections.
    """

    def __init__(self, payloads: list[bytes], n_sections: int) -> None:
        self._tiles = [iter(split(payload, n_sections)) for payload in payloads]

    def code(
        self,
        section: str,
        symbols: Tensor | None,
        indexes: Tensor,
        tables: FrequencyTables,
        skip_below: int = 0,
    ) -> Tensor:
        payloads = [next(tile) for tile in self._tiles]
        with named(f"section {section!r}: "):
            return decode_on_device(payloads, indexes, tables, skip_below)

    def code_grid(
        self,
        section: str,
        z: NDArray[np.int16] | None,
        size: tuple[int, ...],
        neighbours: NeighbourCoder,
        offset: NDArray[Any],
    ) -> NDArray[np.int16]:
        """Return grids [B, h, w, Z], by the CPU: position by position is nothing for a GPU."""
        with named(f"section {section!r}: "):
            return np.stack([neighbours.decode(next(tile), size, offset) for tile in self._tiles])


def decode_on_device(
    payloads: list[bytes], indexes: Tensor, tables: FrequencyTables, skip_below: int = 0
) -> Tensor:
    """Return the symbols of several sections, on the device of their indexes. Exact.

    Args:
        payloads: B of them, as written by `encode_symbols` (specs/entropy.md).
        indexes: [B, ...], integers, row of `tables` for each symbol.
        tables: frequencies.
        skip_below: symbols whose index is smaller are 0.

    Returns:
        int32, like `indexes`.

    Raises:
        TruncatedError: a payload ends before its last symbol.
        CorruptPayloadError: bytes are left over, or a state is wrong.
        InputError: an index is not a row of the tables, or there is not one payload for each batch element.
        TypeError: indexes are not a tensor of integers.
    """
    if not isinstance(indexes, Tensor) or indexes.is_floating_point() or indexes.is_complex():
        raise TypeError("indexes: expected a tensor of integers")
    if not 0 <= skip_below <= MAX_ROWS:
        raise InputError(f"skip_below: expected 0 to {MAX_ROWS}, found {skip_below}")
    if len(payloads) != len(indexes):
        raise InputError(f"payloads: expected {len(indexes)}, found {len(payloads)}")
    if indexes.numel() == 0 and not any(payloads):
        return indexes.int()
    flat = indexes.reshape(len(indexes), indexes.numel() // len(indexes))
    directories = [read_directory(payload, flat.shape[1]) for payload in payloads]
    symbols, n_coded, problems = decode_resident(
        place(payloads, directories, indexes.device),
        flat,
        device_tables(tables, indexes.device),
        skip_below,
    )
    found = torch.cat([n_coded, problems.long()]).tolist()  # the one copy that waits
    of_chunks = iter(found[len(payloads) :])
    for b, (payload, directory) in enumerate(zip(payloads, directories, strict=True)):
        with named(f"payload {b} of {len(payloads)}: "):
            _check(payload, directory, found[b], list(islice(of_chunks, len(directory.starts))))
    return symbols.reshape(indexes.shape)


def _check(payload: bytes, directory: Directory, n: int, problems: list[int]) -> None:
    """Raise what is wrong with one payload of n coded symbols, if anything."""
    if n == NOT_A_ROW:
        raise InputError(PROBLEMS[lanes.BAD_INDEX][1])
    if n == 0:
        if payload:
            raise CorruptPayloadError(f"no symbol is coded, {len(payload)} bytes are left over")
        return
    if directory.n_chunks > n:
        raise CorruptPayloadError(f"{directory.n_chunks} chunks, but only {n} coded symbols")
    if directory.error:
        raise directory.error
    for c, problem in enumerate(problems):
        if problem:
            error, text = PROBLEMS[problem]
            raise error(text if len(problems) == 1 else f"chunk {c} of {len(problems)}: {text}")
