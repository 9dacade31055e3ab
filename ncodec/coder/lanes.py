"""rANS decoding as tensor operations: all chunks and lanes at once, one Python step per row of lanes.

    chunk 0 | lane 0 | lane 1 | ... |        step 0: symbols 0 ... lanes-1 of every chunk
    chunk 1 | lane 0 | lane 1 | ... |        step 1: the next lanes symbols of every chunk
      ...

The same algorithm as the kernel in triton_rans.py, for devices without Triton, and as its reference.
Words are handed out in symbol order by a prefix sum over the lanes that need one. The first lane with
a problem decides what is wrong with a chunk, as if its symbols had been decoded one after the other.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ncodec.entropy import FREQ_BITS, FrequencyTables

MAX_LANES = 32
STATE_LOW = 1 << 16
BUCKET_BITS = 6  # a bucket of the look-up table spans 64 of the 2**14 slots
# What can be wrong with a chunk; 0 is nothing.
BAD_INDEX, TRUNCATED, BAD_ESCAPE, LEFT_OVER, BAD_FIRST_STATE, BAD_FINAL_STATE = range(1, 7)
# A table entry in one word: start | frequency | entry | is it the row's last, the escape?
FREQ_SHIFT, ENTRY_SHIFT, LAST_SHIFT = 14, 29, 43


class DeviceTables(NamedTuple):
    """Frequency tables as the decoders on a device read them."""

    entries: Tensor  # [sum of sizes] int64, packed as above, row after row
    buckets: Tensor  # [k * 256] int32, place in `entries` of the first entry that reaches a bucket
    n_rows: int


class Chunks(NamedTuple):
    """Where chunks lie, on the device: [K] each."""

    start: Tensor  # int64, offset of the chunk's first byte in the data
    size: Tensor  # int32, bytes
    lanes: Tensor  # int32, 1 ... 32
    first: Tensor  # int64, place of the chunk's first symbol in `rows`
    n_symbols: Tensor  # int32


@lru_cache(maxsize=16)
def device_tables(tables: FrequencyTables, device: torch.device) -> DeviceTables:
    """Return the tables on a device, made once for each."""
    slots = np.arange(0, 1 << FREQ_BITS, 1 << BUCKET_BITS)
    entries, buckets, offset = [], [], 0
    for frequencies, size in zip(tables.frequencies.astype(np.int64), tables.sizes, strict=True):
        f = frequencies[:size]
        start, entry = np.cumsum(f) - f, np.arange(size)
        last = (entry == size - 1).astype(np.int64)
        entries.append(start | f << FREQ_SHIFT | entry << ENTRY_SHIFT | last << LAST_SHIFT)
        buckets.append(offset + np.searchsorted(start, slots, "right") - 1)
        offset += int(size)
    return DeviceTables(
        torch.from_numpy(np.concatenate(entries)).to(device),
        torch.from_numpy(np.concatenate(buckets).astype(np.int32)).to(device),
        len(entries),
    )


def _byte(data: Tensor, at: Tensor, mask: Tensor) -> Tensor:
    """Return data[at] where `mask` holds, else 0, as int64; nothing is read elsewhere."""
    return torch.where(mask, data[torch.where(mask, at, 0)].long(), 0)


def decode_chunks(
    data: Tensor, chunks: Chunks, rows: Tensor, tables: DeviceTables
) -> tuple[Tensor, Tensor]:
    """Return the symbols of all chunks, and what is wrong with each. Exact.

    Args:
        data: [bytes] uint8, holds all chunks.
        chunks: K of them.
        rows: [n] int32, table row of every coded symbol.
        tables: on the same device.

    Returns:
        [n] int32 symbols, and [K] int32: 0 or one of the numbers above.
    """
    lane = torch.arange(MAX_LANES, device=data.device)[None]
    start, size, lanes, first, count = (t.long()[:, None] for t in chunks)
    word, end = 4 * lanes, size  # both relative to the chunk's start
    problem = torch.where(word > end, TRUNCATED, 0)
    used = lane < lanes
    readable = used & (problem == 0)
    x = sum(
        (_byte(data, start + 4 * lane + i, readable) << 8 * i for i in range(4)),
        start=torch.zeros_like(lane),
    )
    problem = torch.where((readable & (x < STATE_LOW)).any(1, True), BAD_FIRST_STATE, problem)
    symbols = torch.zeros(len(rows) + 1, dtype=torch.int32, device=data.device)  # last: the rest
    for step in range(int((-(-count // lanes)).max())):
        j = step * lanes + lane
        active = used & (j < count) & (problem == 0)
        row = rows[torch.where(active, first + j, 0)].long()
        bad_index = active & (row >= tables.n_rows)
        row = torch.where(active & ~bad_index, row, 0)
        # the entry whose interval holds the slot
        slot = x & ((1 << FREQ_BITS) - 1)
        at = tables.buckets[(row << FREQ_BITS - BUCKET_BITS) + (slot >> BUCKET_BITS)].long()
        while True:
            packed = tables.entries[at]
            start_slot = packed & ((1 << FREQ_SHIFT) - 1)
            frequency = packed >> FREQ_SHIFT & ((1 << ENTRY_SHIFT - FREQ_SHIFT) - 1)
            past = slot >= start_slot + frequency
            if not past.any():
                break
            at = at + past
        entry = packed >> ENTRY_SHIFT & ((1 << LAST_SHIFT - ENTRY_SHIFT) - 1)
        # the state, and a word for those lanes that need one
        new = frequency * (x >> FREQ_BITS) + slot - start_slot
        needs = active & (new < STATE_LOW)
        word_after = word + 2 * needs.cumsum(1)
        in_chunk = needs & (word_after <= size)
        low = _byte(data, start + word_after - 2, in_chunk)
        high = _byte(data, start + word_after - 1, in_chunk)
        new = torch.where(needs, new << 16 | high << 8 | low, new)
        x = torch.where(active, new, x)
        wrong = torch.where(needs & (word_after > end), TRUNCATED, 0)
        wrong = torch.where(bad_index, BAD_INDEX, wrong)
        # escapes, lane after lane: rare
        pending = active & (packed >> LAST_SHIFT > 0)
        while pending.any():
            k = torch.where(pending, lane, MAX_LANES).amin(1, True)
            here = lane == k
            lower = torch.where(here, word_after, 0).sum(1, True)
            entry_k = torch.where(here, entry, 0).sum(1, True)
            end, rest, wrong_k = _escape(data, start, lower, end, k < MAX_LANES)
            wrong_k = torch.where((wrong_k == 0) & (entry_k + rest >= 1 << 32), BAD_ESCAPE, wrong_k)
            entry = torch.where(here, entry + rest, entry)
            wrong = torch.where(here & (wrong == 0), wrong_k, wrong)
            late = needs & (lane > k) & (wrong == 0) & (word_after > end)
            wrong = torch.where(late, TRUNCATED, wrong)
            pending = pending & ~here
        word = word_after[:, -1:]
        first_wrong = torch.where(wrong > 0, lane, MAX_LANES).amin(1, True)
        problem = problem + torch.where(lane == first_wrong, wrong, 0).sum(1, True)
        place = torch.where(active, first + j, len(rows))
        symbols[place] = ((entry >> 1) ^ -(entry & 1)).int()
    final = (used & (x != STATE_LOW)).any(1, True)
    problem = torch.where((problem == 0) & (word != end), LEFT_OVER, problem)
    problem = torch.where((problem == 0) & final, BAD_FINAL_STATE, problem)
    return symbols[:-1], problem[:, 0].int()


def _escape(
    data: Tensor, start: Tensor, lower: Tensor, end: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Read one escape of each chunk in `mask` downwards from `end`, not below `lower`: [K, 1] all.

    Returns:
        The new end, the escape's value, and what is wrong with it.
    """
    rest, wrong = torch.zeros_like(end), torch.zeros_like(end)
    for shift in range(0, 35, 7):
        wrong = torch.where(mask & (end <= lower), TRUNCATED, wrong)
        mask = mask & (end > lower)
        end = end - mask.long()
        byte = _byte(data, start + end, mask)
        if shift:  # not the shortest form
            wrong = torch.where(mask & (byte == 0), BAD_ESCAPE, wrong)
        rest = rest + ((byte & 0x7F) << shift)
        mask = mask & (byte >= 0x80)
    wrong = torch.where(mask, torch.where(end <= lower, TRUNCATED, BAD_ESCAPE), wrong)
    return end, rest, wrong
