"""rANS decoding on a GPU: one program, that is one warp, decodes one chunk (specs/entropy.md).

    thread = lane:   slot -> bucket -> entry -> new state      each lane on its own
    warp:            which lanes need a word? one bit each      -> a word's place is a population count
                     which lanes escape?      one bit each      -> if any (rare), one after the other

The same algorithm as lanes.py, which says more. Every read is masked by the chunk's bounds. Bits are
gathered by a sum over the warp, which is one instruction (`redux`) on compute capability 8.0 and later.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ncodec.coder import lanes
from ncodec.coder.lanes import Chunks, DeviceTables

BAD_INDEX = tl.constexpr(lanes.BAD_INDEX)
TRUNCATED = tl.constexpr(lanes.TRUNCATED)
BAD_ESCAPE = tl.constexpr(lanes.BAD_ESCAPE)
LEFT_OVER = tl.constexpr(lanes.LEFT_OVER)
BAD_FIRST_STATE = tl.constexpr(lanes.BAD_FIRST_STATE)
BAD_FINAL_STATE = tl.constexpr(lanes.BAD_FINAL_STATE)
MAX_LANES = tl.constexpr(lanes.MAX_LANES)


@triton.jit
def _ones(bits):
    """Return the number of ones in uint32 `bits`, int32."""
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    bits = bits + (bits >> 8)
    bits = bits + (bits >> 16)
    return (bits & 63).to(tl.int32)


@triton.jit
def _kernel(
    data, start, size, n_lanes, first, count, rows, n_rows, buckets, entries, symbols, problems
):  # fmt: skip
    chunk = tl.program_id(0)
    body = data + tl.load(start + chunk)
    bytes_ = tl.load(size + chunk)
    n = tl.load(count + chunk)
    lanes_ = tl.load(n_lanes + chunk)
    place = tl.load(first + chunk)
    rows_here, symbols_here = rows + place, symbols + place

    lane = tl.arange(0, MAX_LANES)
    bit = tl.full((MAX_LANES,), 1, tl.uint32) << lane.to(tl.uint32)
    used = lane < lanes_
    word, end = 4 * lanes_, bytes_
    problem = (word > end).to(tl.int32) * TRUNCATED
    readable = lane < tl.where(problem == 0, lanes_, 0)
    x = tl.zeros((MAX_LANES,), tl.uint32)
    for i in tl.static_range(4):
        byte = tl.load(body + 4 * lane + i, mask=readable, other=0)
        x = x | (byte.to(tl.uint32) << (8 * i))
    low = tl.max((readable & (x < 65536)).to(tl.int32), 0)
    problem = tl.where(low > 0, BAD_FIRST_STATE, problem)

    j = n * 0
    following = tl.load(rows_here + lane, mask=lane < tl.minimum(n, lanes_), other=0)
    while (j < n) & (problem == 0):
        active = lane < tl.minimum(n - j, lanes_)
        row = following  # of this step: the load was issued a step ago
        next_ = j + lanes_
        following = tl.load(
            rows_here + next_ + lane, mask=lane < tl.minimum(n - next_, lanes_), other=0
        )
        bad_index = active & (row >= n_rows)
        row = tl.where(bad_index, 0, row)
        # the entry whose interval holds the slot
        slot = (x & 16383).to(tl.int32)
        at = tl.load(buckets + row * 256 + (slot >> 6), mask=active, other=0)
        packed = tl.load(entries + at, mask=active, other=0)
        begin = (packed & 16383).to(tl.int32)
        frequency = ((packed >> 14) & 32767).to(tl.int32)
        past = (active & (slot >= begin + frequency)).to(tl.int32)
        while tl.max(past, 0) > 0:
            at += past
            packed = tl.load(entries + at, mask=active, other=0)
            begin = (packed & 16383).to(tl.int32)
            frequency = ((packed >> 14) & 32767).to(tl.int32)
            past = (active & (slot >= begin + frequency)).to(tl.int32)
        entry = (packed >> 29) & 16383  # int64: an escape may exceed 32 bits
        is_escape = active & ((packed >> 43) > 0)
        # the state, and a word for those lanes that need one
        new = frequency.to(tl.uint32) * (x >> 14) + (slot - begin).to(tl.uint32)
        needs = active & (new < 65536)
        needing = tl.sum(tl.where(needs, bit, 0), 0).to(tl.uint32)
        at_word = word + 2 * _ones(needing & (bit - 1))
        in_chunk = needs & (at_word + 2 <= bytes_)
        low_byte = tl.load(body + at_word, mask=in_chunk, other=0).to(tl.uint32)
        high_byte = tl.load(body + at_word + 1, mask=in_chunk, other=0).to(tl.uint32)
        new = tl.where(needs, (new << 16) | (high_byte << 8) | low_byte, new)
        x = tl.where(active, new, x)
        # escapes and problems, lane after lane: rare
        special = tl.sum(tl.where(is_escape | bad_index, bit, 0), 0).to(tl.uint32)
        word_after = word + 2 * _ones(needing)
        if (special != 0) | (word_after > end):
            wrong = tl.where(needs & (at_word + 2 > end), TRUNCATED, 0)
            wrong = tl.where(bad_index, BAD_INDEX, wrong)
            pending = tl.sum(tl.where(is_escape, bit, 0), 0).to(tl.uint32)
            while pending != 0:
                others = pending & (pending - 1)
                mine = pending ^ others  # the lowest bit
                pending = others
                here = bit == mine
                lower = word + 2 * _ones(needing & (mine | (mine - 1)))
                rest = tl.sum(tl.where(here, entry, 0), 0)
                shift = rest * 0
                wrong_here = lower * 0
                going = lower * 0 + 1
                while going > 0:
                    inside = end > lower
                    end = tl.where(inside, end - 1, end)
                    leb128 = tl.load(body + end, mask=inside & (shift <= 28), other=0).to(tl.int64)
                    long = (shift > 28) | ((leb128 == 0) & (shift > 0))
                    wrong_here = tl.where(inside, tl.where(long, BAD_ESCAPE, 0), TRUNCATED)
                    rest += (leb128 & 127) << shift
                    shift += 7
                    going = ((wrong_here == 0) & (leb128 >= 128)).to(tl.int32)
                too_large = (wrong_here == 0) & ((rest >> 32) > 0)
                wrong_here = tl.where(too_large, BAD_ESCAPE, wrong_here)
                entry = tl.where(here, rest, entry)
                wrong = tl.where(here & (wrong == 0), wrong_here, wrong)
                late = needs & (bit > mine) & (wrong == 0) & (at_word + 2 > end)
                wrong = tl.where(late, TRUNCATED, wrong)
            key = tl.min(tl.where(wrong > 0, lane * 8 + wrong, MAX_LANES * 8), 0)
            problem = tl.where(key < MAX_LANES * 8, key & 7, problem)
        word = word_after
        symbol = (entry >> 1) ^ -(entry & 1)
        tl.store(symbols_here + j + lane, symbol.to(tl.int32), mask=active)
        j = next_

    problem = tl.where((problem == 0) & (word != end), LEFT_OVER, problem)
    final = tl.max((used & (x != 65536)).to(tl.int32), 0)
    problem = tl.where((problem == 0) & (final > 0), BAD_FINAL_STATE, problem)
    tl.store(problems + chunk, problem)


def decode_chunks(
    data: Tensor, chunks: Chunks, rows: Tensor, tables: DeviceTables
) -> tuple[Tensor, Tensor]:
    """Return the symbols of all chunks, and what is wrong with each: `lanes.decode_chunks`, one launch."""
    symbols = torch.empty(len(rows), dtype=torch.int32, device=data.device)
    problems = torch.empty(len(chunks.start), dtype=torch.int32, device=data.device)
    with torch.cuda.device_of(data):
        _kernel[(len(problems),)](
            data, *chunks, rows, tables.n_rows, tables.buckets, tables.entries, symbols, problems,
            num_warps=1,
        )  # fmt: skip
    return symbols, problems
