"""The coder equals its specification (specs/entropy.md) and its plain-Python reference."""

import re
import subprocess
import sys
import threading
from itertools import pairwise

import constriction
import numpy as np
import pytest
import reference_rans
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from variants_program import AARCH64, NATIVE, output_of

from ncodec.entropy import (
    FrequencyTables,
    SymbolDecoder,
    crc32c,
    decode_symbols,
    encode_symbols,
    quantise_pmf,
    variants,
)
from ncodec.errors import CorruptPayloadError, InputError, NcodecError, TruncatedError

LANES = [1, 2, 4, 8, 16, 32]
INT32 = np.iinfo(np.int32)
SPEC = (ROOT / "specs" / "entropy.md").read_text()
EXAMPLE = [[8192, 8191, 1]]  # 0, -1, escape
EXAMPLE_PAYLOAD = bytes.fromhex("00 04 20 01 00 FF 3F 01 C6")  # of -1, 100, 0
ONE_ROW = FrequencyTables(np.array(EXAMPLE, np.uint16))
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def laplace_tables() -> FrequencyTables:
    """Rows from nearly certain to nearly flat, one that has only the escape, one with rare entries."""
    rows = []
    for scale, size in [(0.05, 3), (0.5, 6), (2, 24), (8, 96), (40, 300)]:
        entries = np.arange(size)
        pmf = np.exp(-(entries + 1) // 2 / scale)
        rows.append([*(pmf / pmf.sum()), 2**-13])
    return FrequencyTables.from_pmf([*rows, [1.0], [1.0, 1e-30, 1e-30]])


TABLES = laplace_tables()
SCALES = np.array([0.05, 0.5, 2, 8, 40, 3, 0.1])


def random_stream(n, seed=0, rows=7):
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, rows, n).astype(np.uint16)
    return np.rint(rng.laplace(0, SCALES[indexes])).astype(np.int32), indexes


def zeros(n):
    return np.zeros(n, np.uint16)


def reference_encode(symbols, indexes, tables, skip_below=0, lanes=1, trace=None):
    rows = tables.frequencies.tolist()
    return reference_rans.encode(symbols.tolist(), indexes.tolist(), rows, skip_below, lanes, trace)


def reference_decode(payload, indexes, tables, skip_below=0, trace=None):
    rows = tables.frequencies.tolist()
    return reference_rans.decode(payload, indexes.tolist(), rows, skip_below, trace)


def assert_refused(error, payload, n, match="", tables=ONE_ROW, skip_below=0):
    """Both decoders refuse n symbols of row 0, ours with this error."""
    with pytest.raises(error, match=match):
        decode_symbols(payload, zeros(n), tables, skip_below)
    with pytest.raises(ValueError):
        reference_decode(payload, zeros(n), tables, skip_below)


# The specification


def test_every_rule_names_its_tests():
    rules = re.findall(r"^- \*\*E(\d+)\*\*(.*?)(?=^- \*\*E|^#|^$)", SPEC, re.M | re.S)
    assert [int(number) for number, _ in rules] == list(range(1, len(rules) + 1))
    for number, text in rules:
        tests = re.findall(r"tests/test_entropy\.py::(\w+)", text)
        assert "MUST" in text and tests, f"E{number}"
        assert all(callable(globals().get(name)) for name in tests), f"E{number}"
    assert len(re.findall("MUST", SPEC)) == sum(text.count("MUST") for _, text in rules)


def test_worked_example():
    symbols, encoder, decoder = np.array([-1, 100, 0], np.int32), [], []
    assert encode_symbols(symbols, zeros(3), ONE_ROW) == EXAMPLE_PAYLOAD
    assert reference_encode(symbols, zeros(3), ONE_ROW, trace=encoder) == EXAMPLE_PAYLOAD
    assert encoder == [(65536, 131072), (131072, 2147500031), (2147500031, 73732)]
    assert reference_decode(EXAMPLE_PAYLOAD, zeros(3), ONE_ROW, trace=decoder) == [-1, 100, 0]
    assert decoder == [(73732, 2147500031), (2147500031, 131072), (131072, 65536)]
    assert decode_symbols(EXAMPLE_PAYLOAD, zeros(3), ONE_ROW).tolist() == [-1, 100, 0]
    assert EXAMPLE_PAYLOAD.hex(" ").upper() in SPEC
    for state in {x for pair in encoder for x in pair}:
        assert f" {state} " in SPEC


@pytest.mark.parametrize(
    "row",
    [[16383, 0], [16384, 1], [0, 16384], [8192, 0, 8192], [0, 0], [65535, 16385], [16384, 0, 1]],
)
def test_tables_refused(row):
    with pytest.raises(InputError, match="row 1"):
        FrequencyTables(np.array([[16384] + [0] * (len(row) - 1), row], np.uint16))


def test_table_is_two_dimensional():
    with pytest.raises(InputError, match=r"expected uint16 \[k, s\]"):
        FrequencyTables(np.array([16384], np.uint16))
    with pytest.raises(InputError, match="int64"):  # 81920 would wrap to 16384
        FrequencyTables(np.array([[81920]], np.int64))
    with pytest.raises(InputError, match="expected a numpy array, found NoneType"):
        FrequencyTables(None)
    with pytest.raises(InputError, match="rows: expected at least one"):
        FrequencyTables.from_pmf([])
    frequencies = np.array([[16384]], np.uint16)
    tables = FrequencyTables(frequencies)
    frequencies[:] = 0
    assert tables.frequencies.tolist() == [[16384]]
    for symbols, indexes in ([0, 0], [0]), ([0], [1]):
        with pytest.raises(InputError, match="indexes: expected"):
            tables.ideal_bits(np.array(symbols, np.int32), np.array(indexes, np.uint16))
    for options in ({"skip_below": -1}, {"skip_below": 2**32}, {"threads": 2**31}):
        with pytest.raises(InputError, match=f"{next(iter(options))}: expected"):
            encode_symbols(np.zeros(1, np.int32), zeros(1), ONE_ROW, **options)


def test_entries_are_zigzag():
    # After one symbol of frequency 1 the state's low 14 bits are the start of its entry.
    tables = FrequencyTables(np.array([[16384 - 8, *[1] * 8]], np.uint16))
    for entry, symbol in enumerate([0, -1, 1, -2, 2, -3, 3, -4]):
        payload = encode_symbols(np.array([symbol], np.int32), zeros(1), tables)
        start = 0 if entry == 0 else 16376 + entry - 1
        x = ((65536 // 16376) << 14) + 65536 % 16376 if entry == 0 else (65536 << 14) + start
        assert payload == b"\0" + x.to_bytes(4, "little")


def test_nothing_coded_is_empty():
    for n in (0, 1, 5):
        empty = encode_symbols(np.zeros(n, np.int32), zeros(n), TABLES, skip_below=1)
        assert empty == b"" == reference_encode(np.zeros(n, np.int32), zeros(n), TABLES, 1)
        assert decode_symbols(b"", zeros(n), TABLES, 1).tolist() == [0] * n
        assert_refused(CorruptPayloadError, b"\0", n, "left over", skip_below=1)
        assert_refused(CorruptPayloadError, EXAMPLE_PAYLOAD, n, "left over", skip_below=1)
    assert decode_symbols(b"", zeros(0), TABLES).dtype == np.int32
    assert_refused(TruncatedError, b"", 1, "symbol 0 of 1: the payload ends")


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("skip_below", range(8))
def test_skip_below(skip_below, lanes):
    symbols, indexes = random_stream(400, seed=skip_below)
    coded = indexes >= skip_below
    symbols[~coded] = 0
    payload = encode_symbols(symbols, indexes, TABLES, skip_below, lanes)
    assert payload == encode_symbols(symbols[coded], indexes[coded], TABLES, lanes=lanes)
    assert payload == reference_encode(symbols, indexes, TABLES, skip_below, lanes)
    np.testing.assert_array_equal(decode_symbols(payload, indexes, TABLES, skip_below), symbols)
    assert reference_decode(payload, indexes, TABLES, skip_below) == symbols.tolist()


def test_skipped_symbol_that_is_not_zero():
    with pytest.raises(InputError, match="symbol 2 of 3"):
        encode_symbols(np.array([0, 5, -1], np.int32), np.array([0, 1, 0], np.uint16), TABLES, 1)


def test_lanes_byte():
    for value in (6, 7, 14, 15, 16, 21, 32, 128, 255):
        payload = bytes([value]) + EXAMPLE_PAYLOAD[1:] + bytes(1024)
        assert_refused(CorruptPayloadError, payload, 3, "byte 0")
    for log_lanes, lanes in enumerate(LANES):
        symbols = np.zeros(3, np.int32)
        assert encode_symbols(symbols, zeros(3), ONE_ROW, lanes=lanes)[0] == log_lanes
    for lanes in (0, 3, 64, -1):
        with pytest.raises(InputError, match="lanes"):
            encode_symbols(np.zeros(1, np.int32), zeros(1), ONE_ROW, lanes=lanes)


def test_initial_states():
    assert_refused(CorruptPayloadError, bytes.fromhex("00 FF FF 00 00"), 1, "state")
    # Two lanes, the second unused: it is checked all the same.
    assert decode_symbols(bytes.fromhex("01 00 00 02 00 00 00 01 00"), zeros(1), ONE_ROW) == [0]
    assert_refused(CorruptPayloadError, bytes.fromhex("01 00 00 02 00 FF FF 00 00"), 1, "state")


@pytest.mark.parametrize("lanes", LANES)
def test_symbol_j_belongs_to_lane_j_mod_lanes(lanes):
    symbols = np.array([0, -1] * 20, np.int32)[: min(40, 5 * lanes)]  # 5 bits a lane: no word
    payload = encode_symbols(symbols, zeros(len(symbols)), ONE_ROW, lanes=lanes)
    assert len(payload) == 1 + 4 * lanes
    for lane in range(lanes):
        own = symbols[lane::lanes].copy()
        alone = encode_symbols(own, zeros(len(own)), ONE_ROW, lanes=1)[1:]
        assert payload[1 + 4 * lane : 5 + 4 * lane] == alone


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("n", [1, 2, 3, 31, 32, 33, 1000])
def test_same_bytes_as_reference(n, lanes):
    symbols, indexes = random_stream(n, seed=n)
    payload = encode_symbols(symbols, indexes, TABLES, lanes=lanes)
    assert payload == reference_encode(symbols, indexes, TABLES, lanes=lanes)
    assert reference_decode(payload, indexes, TABLES) == symbols.tolist()
    np.testing.assert_array_equal(decode_symbols(payload, indexes, TABLES), symbols)


@pytest.mark.parametrize(
    "symbol, escape",
    [
        (1, "00"),  # entry 2 - 2
        (64, "7E"),
        (-65, "7F"),
        (65, "01 80"),
        (100, "01 C6"),
        (8193, "01 80 80"),
        (INT32.max, "0F FF FF FF FC"),  # entry 2^32 - 2, less 2
        (INT32.min, "0F FF FF FF FD"),  # entry 2^32 - 1, less 2
    ],
)
def test_escape_bytes(symbol, escape):
    symbols = np.array([symbol], np.int32)
    payload = encode_symbols(symbols, zeros(1), ONE_ROW)
    assert payload == bytes.fromhex("00 FF 3F 00 40" + escape)
    assert payload == reference_encode(symbols, zeros(1), ONE_ROW)
    assert decode_symbols(payload, zeros(1), ONE_ROW).tolist() == [symbol]
    assert reference_decode(payload, zeros(1), ONE_ROW) == [symbol]


def test_escape_longer_than_needed():
    payload = bytes.fromhex("00 FF 3F 00 40 00 80 80 80 FE")
    assert_refused(CorruptPayloadError, payload, 1, "not the shortest form")


def test_escapes_of_first_symbols_come_last():
    payload = encode_symbols(np.array([100, 64, 1], np.int32), zeros(3), ONE_ROW)
    assert payload.endswith(bytes.fromhex("00 7E 01 C6"))


@pytest.mark.parametrize("lanes", LANES)
def test_extremes(lanes):
    symbols = np.array([INT32.min, INT32.max, 0, -1, INT32.max, INT32.min, 1], np.int32)
    for row in range(7):
        indexes = np.full(7, row, np.uint16)
        payload = encode_symbols(symbols, indexes, TABLES, lanes=lanes)
        assert payload == reference_encode(symbols, indexes, TABLES, lanes=lanes)
        assert decode_symbols(payload, indexes, TABLES).tolist() == symbols.tolist()
        assert reference_decode(payload, indexes, TABLES) == symbols.tolist()


@pytest.mark.parametrize(
    "escape",
    [
        "0F FF FF FF FE",  # 2^32 - 2, plus the 2 of the row: 2^32
        "10 80 80 80 80",  # 2^32
        "7F FF FF FF FF",  # 2^35 - 1
        "00 80 80 80 80 80",  # six bytes
    ],
)
def test_escape_too_large(escape):
    payload = bytes.fromhex("00 FF 3F 00 40" + escape)
    assert_refused(CorruptPayloadError, payload, 1, "symbol 0 of 1: its escape")


@pytest.mark.parametrize(
    "payload, n",
    [
        ("", 3),
        ("00", 3),  # no state
        ("00 04 20 01", 3),  # part of a state
        ("01 04 20 01 00 FF 3F 01", 3),  # part of lane 1's state
        ("00 04 20 01 00", 3),  # no word
        ("00 04 20 01 00 FF", 3),  # half a word
        ("00 04 20 01 00 FF 3F", 3),  # no escape byte
        ("00 04 20 01 00 FF 3F C6", 3),  # the escape's second byte would be the word's
    ],
)
def test_truncated(payload, n):
    assert_refused(TruncatedError, bytes.fromhex(payload), n, r"symbol \d of 3: the payload ends")


def test_left_over():
    # One byte, then a whole word, between the words and the escapes.
    for extra in ("00", "00 00"):
        payload = bytes.fromhex("00 04 20 01 00 FF 3F" + extra + "01 C6")
        assert_refused(CorruptPayloadError, payload, 3, "left over")
    # Fewer symbols than were coded: the escape's bytes remain.
    assert_refused(CorruptPayloadError, EXAMPLE_PAYLOAD, 1, "left over")


def test_final_states():
    assert_refused(
        CorruptPayloadError, bytes.fromhex("00 00 40 02 00"), 1, "state"
    )  # ends at 73728
    assert_refused(CorruptPayloadError, EXAMPLE_PAYLOAD, 2, "state")  # one symbol is missing
    # The unused second lane must hold 2^16.
    assert_refused(CorruptPayloadError, bytes.fromhex("01 00 00 02 00 01 00 01 00"), 1, "state")


def test_index_not_a_row():
    with pytest.raises(InputError, match="symbol 1 of 2"):
        encode_symbols(np.zeros(2, np.int32), np.array([0, 1], np.uint16), ONE_ROW)
    payload = encode_symbols(np.zeros(2, np.int32), zeros(2), ONE_ROW)
    with pytest.raises(InputError, match="symbol 1 of 2"):
        decode_symbols(payload, np.array([0, 1], np.uint16), ONE_ROW)
    with pytest.raises(ValueError):
        reference_rans.decode(payload, [0, 1], EXAMPLE)


# Round trips


@given(
    st.lists(st.tuples(st.integers(INT32.min, INT32.max) | st.integers(-9, 9), st.integers(0, 6))),
    st.integers(0, 7),
    st.sampled_from(LANES),
)
@quick
def test_round_trip(pairs, skip_below, lanes):
    symbols = np.array([s if r >= skip_below else 0 for s, r in pairs], np.int32)
    indexes = np.array([r for _, r in pairs], np.uint16)
    payload = encode_symbols(symbols, indexes, TABLES, skip_below, lanes)
    assert payload == reference_encode(symbols, indexes, TABLES, skip_below, lanes)
    assert decode_symbols(payload, indexes, TABLES, skip_below).tolist() == symbols.tolist()
    assert reference_decode(payload, indexes, TABLES, skip_below) == symbols.tolist()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.lists(st.integers(-30, 30)))
@quick
def test_round_trip_any_table(pmf, values):
    tables = FrequencyTables.from_pmf([[*pmf, 1e-9]])
    symbols = np.array(values, np.int32)
    payload = encode_symbols(symbols, zeros(len(values)), tables)
    assert payload == reference_encode(symbols, zeros(len(values)), tables)
    assert decode_symbols(payload, zeros(len(values)), tables).tolist() == values


@pytest.mark.parametrize("lanes", [*LANES, None])
def test_large_round_trip(lanes):
    symbols, indexes = random_stream(300_000)
    payload = encode_symbols(symbols, indexes, TABLES, lanes=lanes)
    assert payload[0] == 8 + (5 if lanes is None else LANES.index(lanes)) and payload[1] > 2
    for threads in (1, 3):
        np.testing.assert_array_equal(
            decode_symbols(payload, indexes, TABLES, threads=threads), symbols
        )
        again = encode_symbols(symbols, indexes, TABLES, lanes=lanes, threads=threads)
        assert again == payload


# Chunks and variants


def chunked(head: bytes, *bodies: bytes) -> bytes:
    """One lane, in chunks: `head` follows byte 0 in place of count and sizes."""
    return b"\x08" + head + b"".join(bodies)


def test_chunk_bytes():
    # Two symbols of row [8192, 8191, 1], a chunk each: 0 and -1, from state 2^16.
    first, second = (131072).to_bytes(4, "little"), ((8 << 14) + 8 + 8192).to_bytes(4, "little")
    payload = chunked(b"\x02\x04", first, second)
    symbols = np.array([0, -1], np.int32)
    assert encode_symbols(symbols, zeros(2), ONE_ROW, lanes=1, chunks=2) == payload
    assert decode_symbols(payload, zeros(2), ONE_ROW).tolist() == [0, -1]
    assert reference_decode(payload, zeros(2), ONE_ROW) == [0, -1]
    assert payload.hex(" ").upper() in SPEC


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("chunks", [1, 2, 3, 7, 100])
def test_chunks(chunks, lanes, variant):
    for n, skip_below in [(100, 0), (333, 0), (1000, 2), (2500, 3)]:
        symbols, indexes = random_stream(n, seed=n)
        symbols[indexes < skip_below] = 0
        symbols[n // 2] = 0 if indexes[n // 2] < skip_below else -(2**31)
        payload = encode_symbols(
            symbols, indexes, TABLES, skip_below, lanes, chunks, variant=variant
        )
        rows = TABLES.frequencies.tolist()
        assert payload == reference_rans.encode(
            symbols.tolist(), indexes.tolist(), rows, skip_below, lanes, chunks=chunks
        )
        assert reference_decode(payload, indexes, TABLES, skip_below) == symbols.tolist()
        decoded = decode_symbols(payload, indexes, TABLES, skip_below, variant=variant)
        np.testing.assert_array_equal(decoded, symbols)


def test_more_chunks_than_symbols():
    assert encode_symbols(np.zeros(3, np.int32), zeros(3), ONE_ROW, chunks=9)[1] == 3
    payload = encode_symbols(np.zeros(3, np.int32), zeros(3), ONE_ROW, lanes=1, chunks=3)
    assert_refused(CorruptPayloadError, payload, 2, "chunks: expected 2 to")
    with pytest.raises(InputError, match="chunks"):
        encode_symbols(np.zeros(3, np.int32), zeros(3), ONE_ROW, chunks=0)


def test_chunk_count_and_sizes():
    body = (131072).to_bytes(4, "little")  # one symbol 0
    for head in (b"\x00", b"\x01", b"\x82\x00", b"\x02\x84\x00", b"\x82\x80\x80\x80\x80\x01"):
        assert_refused(CorruptPayloadError, chunked(head, body, body), 2, "chunks: ")
    for head in (b"", b"\x02", b"\x02\x80", b"\xff\xff\xff\xff\x0f"):
        assert_refused(NcodecError, chunked(head), 2, ".")
    for size in (9, 127):  # beyond the payload; of two chunks, one has no room
        assert_refused(TruncatedError, chunked(bytes([2, size]), body, body), 2, "symbol")
    assert_refused(TruncatedError, chunked(b"\x02\x03", body, body), 2, ".")
    assert_refused(CorruptPayloadError, chunked(b"\x02\x05", body, b"\0", body), 2, "left over")
    assert_refused(CorruptPayloadError, chunked(b"\x02\x04", body, body, b"\0"), 2, "left over")


@pytest.mark.parametrize("skip_below", [0, 1])
def test_millions_of_chunks(skip_below):
    """What finds the chunks is linear: were it not, this would take hours."""
    n = 3_000_000
    hostile = b"\x08" + bytes([n & 127 | 128, n >> 7 & 127 | 128, n >> 14 & 127 | 128, n >> 21])
    indexes = np.ones(n, np.uint16)
    with pytest.raises(TruncatedError, match=f"symbol 0 of {n}"):
        decode_symbols(hostile + bytes(n - 1) + b"x", indexes, TABLES, skip_below)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's RLIMIT_AS")
@pytest.mark.parametrize("threads", [1, 3])
def test_out_of_memory(threads):
    program = f"""
import resource, numpy as np
from ncodec.entropy import FrequencyTables, encode_symbols
tables = FrequencyTables.from_pmf([[0.5, 0.3, 0.2]])
symbols, indexes = np.zeros(40_000_000, np.int32), np.zeros(40_000_000, np.uint16)
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (10 << 20),) * 2)
try:
    encode_symbols(symbols, indexes, tables, chunks=4, threads={threads})
except MemoryError:
    print("MemoryError")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "MemoryError\n", done.stderr


def test_lanes_of_small_chunks():
    symbols, indexes = random_stream(100_000, seed=3)
    one = encode_symbols(symbols, indexes, TABLES, chunks=1)
    many = encode_symbols(symbols, indexes, TABLES, chunks=200)
    assert one[0] == 5 and many[0] < 8 + 2 and len(many) < len(one) * 1.02


def test_each_chunk_ends_as_it_began():
    body = (131072).to_bytes(4, "little")
    wrong = (131074).to_bytes(4, "little")
    assert decode_symbols(chunked(b"\x02\x04", body, body), zeros(2), ONE_ROW).tolist() == [0, 0]
    for pair in ((wrong, body), (body, wrong)):
        assert_refused(CorruptPayloadError, chunked(b"\x02\x04", *pair), 2, "final")


@pytest.mark.parametrize("threads", [1, 3])
def test_streams_of_several_segments(threads):
    # The coder looks through 2^20 symbols at a time: one segment is skipped at each end, one in the middle.
    segment, rng = 1 << 20, np.random.default_rng(1)
    n = 5 * segment + 7
    indexes = rng.integers(0, 3, n).astype(np.uint16)
    for skipped in (0, 2, 4):
        indexes[skipped * segment : (skipped + 1) * segment + 7] = 0
    symbols = np.where(indexes >= 1, rng.integers(-3, 4, n), 0).astype(np.int32)
    coded = indexes >= 1
    for chunks in (1, 2, 7):
        payload = encode_symbols(symbols, indexes, TABLES, 1, 8, chunks, threads)
        assert payload == encode_symbols(symbols[coded], indexes[coded], TABLES, 0, 8, chunks)
        np.testing.assert_array_equal(decode_symbols(payload, indexes, TABLES, 1, threads), symbols)
    symbols[4 * segment + 9] = 1
    with pytest.raises(InputError, match=f"symbol {4 * segment + 9} of {n}: .* expected 0"):
        encode_symbols(symbols, indexes, TABLES, 1, threads=threads)
    symbols[4 * segment + 9] = 0
    indexes[3 * segment + 9] = len(TABLES.sizes)
    with pytest.raises(InputError, match=f"symbol {3 * segment + 9} of {n}: .* not a row"):
        encode_symbols(symbols, indexes, TABLES, 1, threads=threads)


@pytest.mark.parametrize("variant", variants())
def test_more_rows_than_the_fine_look_up_holds(variant):
    frequencies = np.full((300, 1024), 16, np.uint16)
    tables = FrequencyTables(frequencies)
    rng = np.random.default_rng(2)
    indexes = rng.integers(0, 300, 20_000).astype(np.uint16)
    symbols = rng.integers(-520, 520, 20_000).astype(np.int32)  # some are escapes
    payload = encode_symbols(symbols, indexes, tables, variant=variant)
    assert payload == encode_symbols(symbols, indexes, tables, variant="scalar")
    np.testing.assert_array_equal(decode_symbols(payload, indexes, tables, variant=variant), symbols)  # fmt: skip


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("lanes", [8, 16, 32])
def test_variants_agree_on_damage(lanes, variant):
    symbols, indexes = random_stream(600, seed=lanes)
    good = encode_symbols(symbols, indexes, TABLES, lanes=lanes)
    assert good == encode_symbols(symbols, indexes, TABLES, lanes=lanes, variant=variant)
    rng = np.random.default_rng(lanes)

    def outcome(payload, variant):
        try:
            return decode_symbols(payload, indexes, TABLES, variant=variant).tolist()
        except NcodecError as error:
            return type(error), str(error)

    for _ in range(300):
        damaged = bytearray(good)
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(0, len(damaged))] = rng.integers(0, 256)
        payload = bytes(damaged[: rng.integers(1, len(damaged) + 1)])
        assert outcome(payload, variant) == outcome(payload, "scalar")


@pytest.mark.parametrize(
    "compiler, emulator, variant", [(*NATIVE, "avx2|neon"), (*AARCH64, "neon")]
)
def test_vector_variants_without_python(compiler, emulator, variant, tmp_path):
    printed = output_of(ROOT / "tests" / "variants.cpp", compiler, emulator, tmp_path)
    assert re.match(rf"({variant}): \d+ streams, [1-9]\d* of them refused", printed)


def test_threads():
    for threads in (0, -1):
        with pytest.raises(InputError, match="threads: expected 1 to"):
            encode_symbols(np.zeros(1, np.int32), zeros(1), ONE_ROW, threads=threads)
        with pytest.raises(InputError, match="threads: expected 1 to"):
            decode_symbols(EXAMPLE_PAYLOAD, zeros(3), ONE_ROW, threads=threads)


def test_unknown_variant():
    with pytest.raises(InputError, match="variant sse: expected scalar"):
        encode_symbols(np.zeros(1, np.int32), zeros(1), ONE_ROW, variant="sse")
    with pytest.raises(InputError, match="variant sse: expected scalar"):
        decode_symbols(EXAMPLE_PAYLOAD, zeros(3), ONE_ROW, variant="sse")


@pytest.mark.parametrize("variant", variants())
def test_every_frequency(variant):
    """The vector encoder divides in float32: each frequency, at the ends of a state's range, is exact."""
    n = 1 << 14
    frequencies = np.zeros((n - 2, 3), np.uint16)
    frequencies[:, 0] = np.arange(1, n - 1)
    frequencies[:, 1] = 1
    frequencies[:, 2] = n - 1 - frequencies[:, 0]
    tables = FrequencyTables(frequencies)
    rng = np.random.default_rng(0)
    indexes = rng.integers(0, n - 2, 400_000).astype(np.uint16)
    symbols = -(rng.random(400_000) < 0.3).astype(np.int32)
    payload = encode_symbols(symbols, indexes, tables, chunks=1, variant=variant)
    assert payload == encode_symbols(symbols, indexes, tables, chunks=1, variant="scalar")
    decoded = decode_symbols(payload, indexes, tables, variant=variant)
    np.testing.assert_array_equal(decoded, symbols)


# Arrays


def test_numpy_and_torch_arrays():
    symbols, indexes = random_stream(1000)
    payload = encode_symbols(symbols, indexes, TABLES)
    frozen = symbols.copy()
    frozen.flags.writeable = False
    assert encode_symbols(frozen, indexes, TABLES) == payload
    as_torch = torch.from_numpy(symbols), torch.from_numpy(indexes)
    assert encode_symbols(*as_torch, TABLES) == payload
    decoded = decode_symbols(payload, as_torch[1], TABLES)
    assert isinstance(decoded, np.ndarray) and decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)
    decoded[:] = 7  # the caller's own


@pytest.mark.parametrize(
    "symbols, indexes",
    [
        (np.zeros(4, np.int64), zeros(4)),
        (np.zeros(4, np.uint32), zeros(4)),
        (np.zeros(4, np.float32), zeros(4)),
        (np.zeros(4, ">i4"), zeros(4)),
        (np.zeros(4, np.int32), np.zeros(4, np.int32)),
        (np.zeros(4, np.int32), np.zeros(4, np.int16)),
        (np.zeros(8, np.int32)[::2], zeros(4)),
        (np.zeros(4, np.int32), zeros(8)[::2]),
        (np.zeros(4, np.int32)[::-1], zeros(4)),
        (np.zeros((2, 2), np.int32), zeros(4)),
        (np.zeros(4, np.int32), np.zeros((2, 2), np.uint16)),
        ([0, 0, 0, 0], zeros(4)),
        (torch.zeros(4, dtype=torch.int64), zeros(4)),
        (torch.zeros(8, dtype=torch.int32)[::2], zeros(4)),
        (None, zeros(4)),
    ],
)
def test_other_arrays_are_type_errors(symbols, indexes):
    with pytest.raises(TypeError):
        encode_symbols(symbols, indexes, TABLES)


def test_other_types_are_type_errors_when_decoding():
    payload = encode_symbols(np.zeros(4, np.int32), zeros(4), TABLES)
    for indexes in (np.zeros(4, np.int32), zeros(8)[::2], [0, 0, 0, 0]):
        with pytest.raises(TypeError):
            decode_symbols(payload, indexes, TABLES)
    for other in (bytearray(payload), memoryview(payload), "", None):
        with pytest.raises(TypeError):
            decode_symbols(other, zeros(4), TABLES)


def test_lengths_differ():
    with pytest.raises(InputError, match="3, found 2"):
        encode_symbols(np.zeros(3, np.int32), zeros(2), TABLES)


# Size


@pytest.mark.parametrize("lanes", [1, None])
@pytest.mark.parametrize("row, n", [(1, 120_000), (2, 60_000), (3, 40_000), (4, 25_000)])
def test_overhead_of_large_streams(row, n, lanes):
    indexes = np.full(n, row, np.uint16)
    symbols = np.rint(np.random.default_rng(row).laplace(0, SCALES[row], n)).astype(np.int32)
    size = len(encode_symbols(symbols, indexes, TABLES, lanes=lanes))
    assert size >= 16 * 1024
    assert size < 1.005 * TABLES.ideal_bits(symbols, indexes) / 8


@pytest.mark.parametrize("n", range(1, 51))
def test_overhead_of_tiny_streams(n):
    symbols, indexes = random_stream(n, seed=n)
    size = len(encode_symbols(symbols, indexes, TABLES))
    assert size < TABLES.ideal_bits(symbols, indexes) / 8 + 16


def test_overhead_of_nearly_certain_symbols():
    # 16 383 / 16 384: the least a symbol can cost, 9e-5 bits.
    tables = FrequencyTables(np.array([[16383, 1]], np.uint16))
    n = 2_000_000
    symbols = np.zeros(n, np.int32)
    size = len(encode_symbols(symbols, zeros(n), tables))
    assert size < 1.005 * tables.ideal_bits(symbols, zeros(n)) / 8 + 16


def test_lanes_and_chunks_grow_with_the_payload():
    for n, log_lanes, chunks in [
        (100, 0, 1),
        (1000, 0, 1),
        (6000, 1, 1),
        (24_000, 3, 1),
        (70_000, 5, 1),
        (300_000, 5, 4),
    ]:
        symbols, indexes = random_stream(n, rows=5)
        payload = encode_symbols(symbols, indexes, TABLES)
        full = len(encode_symbols(symbols, indexes, TABLES, lanes=32, chunks=1))
        assert log_lanes == min(5, max(0, (full >> 10).bit_length() - 1))
        assert chunks == max(1, full >> 15)
        assert payload[0] == (8 + log_lanes if chunks > 1 else log_lanes)
        assert chunks == 1 or payload[1] == chunks


def test_ideal_bits():
    symbols = np.array([0, -1, 1, 65, INT32.min], np.int32)
    expected = 1 + (14 - np.log2(8191)) + (14 + 8) + (14 + 16) + (14 + 40)
    assert ONE_ROW.ideal_bits(symbols, zeros(5)) == pytest.approx(expected)


@pytest.mark.parametrize("row, n", [(2, 60_000), (3, 40_000), (4, 25_000)])
def test_size_equals_constriction(row, n):
    frequencies = TABLES.frequencies[row, : TABLES.sizes[row]]
    rng = np.random.default_rng(row)
    # Entries without the escape, whose bytes constriction does not know.
    inside = frequencies[:-1] / frequencies[:-1].sum()
    entries = rng.choice(len(inside), n, p=inside).astype(np.int32)
    model = constriction.stream.model.Categorical(frequencies / 2**14, perfect=True)
    oracle = constriction.stream.stack.AnsCoder()
    oracle.encode_reverse(entries, model)
    symbols = np.where(entries % 2 == 0, entries // 2, -(entries + 1) // 2).astype(np.int32)
    size = len(encode_symbols(symbols, np.full(n, row, np.uint16), TABLES))
    assert size >= 16 * 1024
    assert abs(size - oracle.num_bits() / 8) < 0.005 * size


# Damaged payloads


def decode_or_refuse(payload, indexes):
    """Decode with both; they refuse the same payloads and agree on the others."""
    try:
        ours = decode_symbols(payload, indexes, TABLES).tolist()
    except NcodecError:
        ours = None
    try:
        theirs = reference_decode(payload, indexes, TABLES)
    except ValueError:
        theirs = None
    assert ours == theirs


@pytest.mark.parametrize("lanes", [1, 4, 32])
def test_every_truncation(lanes):
    symbols, indexes = random_stream(60, seed=lanes)
    payload = encode_symbols(symbols, indexes, TABLES, lanes=lanes)
    for size in range(len(payload)):
        with pytest.raises((TruncatedError, CorruptPayloadError)):
            decode_symbols(payload[:size], indexes, TABLES)
        decode_or_refuse(payload[:size], indexes)


@pytest.mark.parametrize("lanes", [1, 4, 32])
def test_every_flipped_bit(lanes):
    symbols, indexes = random_stream(50, seed=lanes)
    payload = encode_symbols(symbols, indexes, TABLES, lanes=lanes)
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        decode_or_refuse(bytes(damaged), indexes)


@given(st.binary(max_size=300), st.integers(0, 60), st.integers(0, 5))
@quick
def test_random_payloads(noise, n, log_lanes):
    indexes = random_stream(n, seed=n)[1]
    decode_or_refuse(noise, indexes)
    decode_or_refuse(bytes([log_lanes]) + noise, indexes)


def test_random_damage_of_a_large_payload():
    rng = np.random.default_rng(0)
    symbols, indexes = random_stream(20_000)
    payload = encode_symbols(symbols, indexes, TABLES)
    for _ in range(300):
        damaged = bytearray(payload[: rng.integers(1, len(payload) + 1)])
        for _ in range(rng.integers(0, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            decode_symbols(bytes(damaged), indexes, TABLES)
        except NcodecError:
            pass


# Steps


def decode_in_steps(payload, indexes, cuts, tables=TABLES, skip_below=0, variant=None):
    """Return all symbols, of steps that end at the sorted `cuts` and at the end."""
    decoder = SymbolDecoder(payload, len(indexes), tables, skip_below, variant)
    bounds = [0, *sorted(cuts), len(indexes)]
    steps = [decoder.decode(indexes[a:b]) for a, b in pairwise(bounds)]
    decoder.finish()
    return np.concatenate(steps)


def outcome_of(decode, *arguments, **options):
    """Return the symbols, or the error and its message."""
    try:
        return decode(*arguments, **options).tolist()
    except NcodecError as error:
        return type(error), str(error)


@given(
    st.lists(st.tuples(st.integers(INT32.min, INT32.max) | st.integers(-9, 9), st.integers(0, 6))),
    st.lists(st.floats(0, 1), max_size=12),
    st.integers(0, 7),
    st.sampled_from(LANES),
    st.sampled_from(variants()),
)
@quick
def test_steps(pairs, cuts, skip_below, lanes, variant):
    symbols = np.array([s if r >= skip_below else 0 for s, r in pairs], np.int32)
    indexes = np.array([r for _, r in pairs], np.uint16)
    payload = encode_symbols(symbols, indexes, TABLES, skip_below, lanes, chunks=1)
    cuts = [round(cut * len(pairs)) for cut in cuts]
    decoded = decode_in_steps(payload, indexes, cuts, TABLES, skip_below, variant)
    assert decoded.tolist() == symbols.tolist()


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("lanes", [*LANES, None])
@pytest.mark.parametrize("skip_below", [0, 2])
def test_many_steps_of_a_large_payload(lanes, variant, skip_below):
    """Longer than the blocks that skipped symbols are taken out of, and no step ends a group of lanes."""
    symbols, indexes = random_stream(100_000)
    symbols[indexes < skip_below] = 0
    payload = encode_symbols(symbols, indexes, TABLES, skip_below, lanes, chunks=1)
    cuts = np.random.default_rng(0).integers(0, len(symbols), 23)
    decoded = decode_in_steps(payload, indexes, cuts, TABLES, skip_below, variant)
    np.testing.assert_array_equal(decoded, symbols)


def test_a_step_a_symbol():
    symbols, indexes = random_stream(200)
    for lanes in LANES:
        payload = encode_symbols(symbols, indexes, TABLES, lanes=lanes)
        decoded = decode_in_steps(payload, indexes, range(1, 200))
        assert decoded.tolist() == symbols.tolist()


def test_steps_are_one_chunk():
    symbols, indexes = random_stream(300_000)
    payload = encode_symbols(symbols, indexes, TABLES)
    assert payload[0] & 8
    for _ in range(2):
        with pytest.raises(CorruptPayloadError, match="byte 0: expected one chunk"):
            decode_in_steps(payload, indexes, [10])
    one = encode_symbols(symbols, indexes, TABLES, chunks=1)
    assert one[0] == 5 and len(one) < len(payload)  # as many lanes, and no cost
    symbols, indexes = random_stream(1000)  # a small payload is the same, of one lane
    payload = encode_symbols(symbols, indexes, TABLES)
    assert payload == encode_symbols(symbols, indexes, TABLES, chunks=1) and payload[0] == 0


def test_steps_of_which_nothing_is_coded():
    for cuts in ([], [0, 0, 2]):
        assert decode_in_steps(b"", zeros(5), cuts, TABLES, 1).tolist() == [0] * 5
        assert decode_in_steps(b"", zeros(0), [], TABLES).tolist() == []
        for payload in (b"\0", EXAMPLE_PAYLOAD):
            with pytest.raises(CorruptPayloadError, match="left over"):
                decode_in_steps(payload, zeros(5), cuts, TABLES, 1)
    with pytest.raises(TruncatedError, match="symbol 0 of 1: the payload ends"):
        decode_in_steps(b"", zeros(1), [], ONE_ROW)


@pytest.mark.parametrize("variant", variants())
@pytest.mark.parametrize("lanes, n, skip_below", [(1, 60, 0), (4, 60, 3), (32, 700, 0), (8, 700, 2)])  # fmt: skip
def test_damaged_steps(lanes, n, skip_below, variant):
    """Each error is that of all symbols at once, its message too; later calls raise it again."""
    symbols, indexes = random_stream(n, seed=lanes)
    symbols[indexes < skip_below] = 0
    good = encode_symbols(symbols, indexes, TABLES, skip_below, lanes, chunks=1)
    rng = np.random.default_rng(lanes)
    flips = [(bit // 8, good[bit // 8] ^ 1 << bit % 8) for bit in range(8 * len(good))]
    damaged = [good[:size] for size in range(len(good))]
    damaged += [good[:at] + bytes([byte]) + good[at + 1 :] for at, byte in flips[:: n // 50]]
    damaged += [good + extra for extra in (b"\0", b"\0\0", bytes(100))]
    damaged += [rng.bytes(rng.integers(1, 300)) for _ in range(100)]
    refused = set()
    for payload in damaged:
        cuts = rng.integers(0, n, 5)
        found = outcome_of(decode_in_steps, payload, indexes, cuts, TABLES, skip_below, variant)
        if payload and 8 <= payload[0] < 14:
            assert found[0] is CorruptPayloadError and "one chunk" in found[1]
        else:
            assert found == outcome_of(decode_symbols, payload, indexes, TABLES, skip_below)
        refused.add(found[0])
    assert {TruncatedError, CorruptPayloadError} <= refused


def test_steps_after_an_error():
    decoder = SymbolDecoder(EXAMPLE_PAYLOAD[:-2], 3, ONE_ROW)
    assert decoder.decode(zeros(1)).tolist() == [-1]
    for call in (
        lambda: decoder.decode(zeros(2)),
        lambda: decoder.decode(zeros(0)),
        decoder.finish,
    ):
        with pytest.raises(TruncatedError, match="symbol 1 of 3: the payload ends before it"):
            call()
    decoder = SymbolDecoder(EXAMPLE_PAYLOAD, 3, ONE_ROW)
    for indexes, message in [
        (np.array([0, 1], np.uint16), "symbol 1 of 3: its index is not a row"),
        (zeros(4), "indexes: expected at most the 3 symbols left of 3, found 4"),
    ]:
        with pytest.raises(InputError, match=message):
            decoder.decode(indexes)
    assert decoder.decode(zeros(2)).tolist() == [-1, 100]  # all was as before
    with pytest.raises(InputError, match="symbol 2 of 3: its index is not a row"):
        decoder.decode(np.ones(1, np.uint16))
    with pytest.raises(InputError, match="finish: expected 3 symbols decoded, found 2"):
        decoder.finish()
    for call in (lambda: decoder.decode(zeros(1)), decoder.finish):
        with pytest.raises(InputError, match="the coder is finished"):
            call()


def test_options_of_steps():
    for options, message in [
        ({"variant": "sse"}, "variant sse: expected scalar"),
        ({"skip_below": -1}, "skip_below: expected"),
        ({"n_symbols": -1}, "n_symbols: expected"),
        ({"n_symbols": 2**63}, "n_symbols: expected"),
    ]:
        with pytest.raises(InputError, match=message):
            SymbolDecoder(EXAMPLE_PAYLOAD, **{"n_symbols": 3, "tables": ONE_ROW} | options)
    with pytest.raises(TypeError):
        SymbolDecoder(bytearray(EXAMPLE_PAYLOAD), 3, ONE_ROW)
    decoder = SymbolDecoder(EXAMPLE_PAYLOAD, 3, ONE_ROW)
    for indexes in (np.zeros(3, np.int32), zeros(6)[::2], [0, 0, 0], np.zeros((3, 1), np.uint16)):
        with pytest.raises(TypeError):
            decoder.decode(indexes)
    assert decoder.decode(torch.from_numpy(zeros(3))).tolist() == [-1, 100, 0]


def test_steps_keep_tables_and_payload():
    symbols, indexes = random_stream(1000)
    payload = bytes(bytearray(encode_symbols(symbols, indexes, TABLES)))
    decoder = SymbolDecoder(payload, 1000, laplace_tables())
    del payload
    assert decoder.decode(indexes).tolist() == symbols.tolist()
    decoder.finish()


def test_steps_on_other_threads_are_refused():
    n = 3_000_000
    payload = encode_symbols(np.zeros(n, np.int32), zeros(n), ONE_ROW, chunks=1)
    seen = set()

    def attempt(decoder, indexes):
        try:
            decoder.decode(indexes)
        except InputError as error:
            assert "another thread" in str(error)
            seen.add(len(indexes))

    for _ in range(50):
        decoder = SymbolDecoder(payload, n, ONE_ROW)
        thread = threading.Thread(target=attempt, args=(decoder, zeros(n)))
        thread.start()
        while thread.is_alive():
            attempt(decoder, zeros(0))
        thread.join()
        if seen:
            break
    assert seen


# Tables and checksums


@given(st.lists(st.floats(0, 1), min_size=1, max_size=500).filter(lambda p: sum(p) > 0))
@quick
def test_quantise_pmf(pmf):
    frequencies = quantise_pmf(np.array(pmf))
    assert frequencies.dtype == np.uint16
    assert frequencies.sum(dtype=np.int64) == 1 << 14 and (frequencies > 0).all()
    # 1 each, and the rest in proportion.
    share = np.array(pmf) / np.sum(pmf) * ((1 << 14) - len(pmf))
    assert (abs(frequencies - 1 - share) <= 1).all()


@pytest.mark.parametrize(
    "pmf",
    [
        [1.0],
        [1, 1e-300],
        [1e-300, 1e-300],
        [5e-324, 1],
        [0, 1],
        [1, *[1e-12] * 5000],
        np.ones(16384),
        np.random.default_rng(0).random(16383),
    ],
    ids=range(8),
)
def test_quantise_pmf_of_tiny_probabilities(pmf):
    frequencies = quantise_pmf(np.array(pmf, np.float64))
    assert frequencies.sum(dtype=np.int64) == 1 << 14 and frequencies.min() >= 1


@pytest.mark.parametrize(
    "pmf", [[], [0, 0], [-0.1, 1.1], [np.nan, 1], [np.inf, 1], np.ones(16385)], ids=range(6)
)
def test_quantise_pmf_refused(pmf):
    with pytest.raises(InputError, match="pmf"):
        quantise_pmf(np.array(pmf, np.float64))


def test_crc32c():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(b"56789", crc32c(b"1234")) == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
