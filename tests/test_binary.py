"""The binary coder equals its specification (specs/binary.md) and its plain-Python reference."""

import re
import shutil
import subprocess
import threading

import numpy as np
import pytest
import reference_binary
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from ncodec.entropy.binary import BYPASS, MAX_CONTEXTS, BinaryDecoder, BinaryEncoder
from ncodec.errors import CorruptPayloadError, InputError, NcodecError, TruncatedError

SPEC = (ROOT / "specs" / "binary.md").read_text()
EXAMPLE_BINS = [0, 0, 0, 0, 0, 1, 0, 1, 1]
EXAMPLE_CONTEXTS = [0, 0, 0, BYPASS, BYPASS, BYPASS, BYPASS, 0, 0]
EXAMPLE_PAYLOAD = bytes.fromhex("06 2B")
quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
streams = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3) | st.just(BYPASS)), max_size=400)


def random_stream(n, seed=0, n_contexts=4, bypass=0.1):
    """Bins whose P(1) goes from 0.01 to 0.5 over the contexts, some of them bypass."""
    rng = np.random.default_rng(seed)
    contexts = rng.integers(0, n_contexts, n)
    p_one = np.geomspace(0.01, 0.5, n_contexts)[contexts]
    is_bypass = rng.random(n) < bypass
    p_one[is_bypass], contexts[is_bypass] = 0.5, BYPASS
    return (rng.random(n) < p_one).astype(np.uint8), contexts.astype(np.uint16)


def encode(bins, contexts, n_contexts=4):
    encoder = BinaryEncoder(n_contexts)
    encoder.encode(np.array(bins, np.uint8), np.array(contexts, np.uint16))
    return encoder.finish()


def decode(payload, contexts, n_contexts=4):
    decoder = BinaryDecoder(payload, n_contexts)
    bins = decoder.decode(np.array(contexts, np.uint16)).tolist()
    decoder.finish()
    return bins


def reference_encode(bins, contexts, n_contexts=4, trace=None):
    bins, contexts = np.array(bins).tolist(), np.array(contexts).tolist()
    return reference_binary.encode(bins, contexts, n_contexts, trace)


def reference_decode(payload, contexts, n_contexts=4, trace=None):
    return reference_binary.decode(payload, np.array(contexts).tolist(), n_contexts, trace)


def assert_both_code(bins, contexts, n_contexts=4):
    """Both encoders make the same payload and both decoders read it. Returns it."""
    bins, contexts = list(map(int, bins)), list(map(int, contexts))
    payload = encode(bins, contexts, n_contexts)
    assert payload == reference_encode(bins, contexts, n_contexts)
    assert decode(payload, contexts, n_contexts) == bins
    assert reference_decode(payload, contexts, n_contexts) == bins
    return payload


def assert_refused(error, payload, contexts, match, n_contexts=1):
    """Both decoders refuse the payload, ours with this error."""
    with pytest.raises(error, match=match):
        decode(payload, contexts, n_contexts)
    with pytest.raises(ValueError):
        reference_decode(payload, contexts, n_contexts)


def ideal_bits(bins, contexts, n_contexts):
    """Sum of -log2 of the model's own probabilities."""
    trace = []
    reference_encode(bins, contexts, n_contexts, trace)
    p_one = np.array([step[2] for step in trace]) / 2**17
    return float(-np.log2(np.where(np.array(bins) == 1, p_one, 1 - p_one)).sum())


# The specification


def test_every_rule_names_its_tests():
    rules = re.findall(r"^- \*\*B(\d+)\*\*(.*?)(?=^- \*\*B|^#|^$)", SPEC, re.M | re.S)
    assert [int(number) for number, _ in rules] == list(range(1, len(rules) + 1))
    assert f"B1 to B{len(rules)}" in SPEC
    for number, text in rules:
        tests = re.findall(r"tests/test_binary\.py::(\w+)", text)
        assert "MUST" in text and tests, f"B{number}"
        assert all(callable(globals().get(name)) for name in tests), f"B{number}"
    assert len(re.findall("MUST", SPEC)) == sum(text.count("MUST") for _, text in rules)
    for name in re.findall(r"`(test_\w+)`", SPEC):
        assert callable(globals().get(name)), name


def table_after(title):
    """The rows of the first table after a title, numbers where they are."""
    lines = SPEC.split(title, 1)[1].split("\n\n")[1].splitlines()[2:]
    return [[int(c) for c in re.findall(r"\d+", line)] for line in lines]


def test_worked_example():
    encoder, decoder = [], []
    assert reference_encode(EXAMPLE_BINS, EXAMPLE_CONTEXTS, 1, encoder) == EXAMPLE_PAYLOAD
    assert reference_decode(EXAMPLE_PAYLOAD, EXAMPLE_CONTEXTS, 1, decoder) == EXAMPLE_BINS
    assert_both_code(EXAMPLE_BINS, EXAMPLE_CONTEXTS, 1)
    estimates, rows = [1 << 15, 1 << 15], []
    for v, k, step in zip(EXAMPLE_BINS, EXAMPLE_CONTEXTS, encoder, strict=True):
        low, width, share, upper, new_low, new_width, _ = step
        shown = estimates if k != BYPASS else []
        rows.append([v, *shown, share, low, width, upper, new_low, new_width])
        if k != BYPASS:
            assert share == sum(estimates)
            q, s = estimates
            estimates = [q + 4095 * v - (q >> 4), s + 511 * v - (s >> 7)]
    assert table_after("\nEncoder:") == rows
    assert table_after("\nDecoder, offset") == [
        [offset, width, upper, width - upper, v, new_offset, new_width]
        for offset, width, _, upper, v, new_offset, new_width in decoder
    ]
    # The numbers in the text: the eighth bin's shift, the ninth's carry, the payload.
    low, width, _, upper, shifted, new_width, shifts = encoder[7]
    assert (shifts, low + width - upper, upper) == (1, shifted >> 8, new_width >> 8)
    assert (shifted >> 8, shifted >> 32, shifted % 2**32) == (94617240, 5, 2747176960)
    assert (encoder[8][4] - 5 * 2**32, encoder[8][4] + 2**24 - 1 >> 24) == (5011392337, 1579)
    for shown in ("94617240", "2747176960", "5011392337", "26486228817", "1579", "`06 2B`"):
        assert shown in SPEC


def test_contexts_begin_at_one_half():
    # The first bin of every context costs 1 bit, whatever it is.
    assert encode([0, 1] * 8, range(16), 16) == b"\x55\x55"


def test_estimates_stay_in_their_intervals():
    for rate, low, high in [(4, 15, 65520), (7, 127, 65408)]:
        estimate = np.arange(low, high + 1)
        for v in (0, 1):
            updated = estimate - (estimate >> rate) + v * (65535 >> rate)
            assert low <= updated.min() and updated.max() <= high
            # The ends are reached, and kept.
            x = 1 << 15
            for _ in range(3000):
                x += v * (65535 >> rate) - (x >> rate)
            assert x == (high if v else low)
    # The C++ there: bins that cost the most and the least, after long runs.
    for v in (0, 1):
        assert_both_code([v] * 3000 + [1 - v] * 3 + [v] * 3000 + [1 - v], [0] * 6004, 1)


def test_contexts_are_independent():
    # 3000 zeros teach context 0 alone: the ones that follow cost 1 bit elsewhere, many there.
    zeros = len(encode([0] * 3000, [0] * 3000))
    learnt = len(encode([0] * 3000 + [1] * 8, [0] * 3008))
    for elsewhere in (range(1, 9), [BYPASS] * 8):
        assert len(encode([0] * 3000 + [1] * 8, [*[0] * 3000, *elsewhere], 9)) <= zeros + 1
    assert learnt >= zeros + 4
    # Nor do bypass bins teach anything.
    payload = encode([1] * 800 + [0], [BYPASS] * 800 + [0])
    assert payload == b"\xff" * 100 + b"\x00"


def test_bypass_costs_one_bit():
    bins = np.random.default_rng(0).integers(0, 2, 8 * 999)
    payload = assert_both_code(bins, [BYPASS] * len(bins), 0)
    assert payload == np.packbits(bins.astype(np.uint8)).tobytes()


def test_nothing_coded_is_empty():
    assert encode([], []) == reference_encode([], []) == b""
    assert BinaryEncoder(0).finish() == b""
    assert decode(b"", []) == reference_decode(b"", []) == []
    BinaryDecoder(b"", 0).finish()
    assert_refused(CorruptPayloadError, b"\0", [], "left over")
    assert_refused(TruncatedError, b"", [0], "ends before")


def test_carry_through_a_run_of_ff():
    # Bins that keep 2^30 inside the interval: the bytes before it stay 3F FF FF …. Then the upper part.
    bins, target = [0], 1 << 30
    while True:
        reference_encode([*bins, 1], [0] * (len(bins) + 1), 1, trace := [])
        low, width, _, upper, _, _, _ = trace[-1]
        shifts = trace[-2][6]
        border = low + width - upper
        assert low < target << 8 * shifts < low + width
        if shifts >= 6 and target << 8 * shifts < border:
            break
        bins.append(int(border <= target << 8 * shifts))
    bins.append(1)
    contexts = [0] * len(bins)
    written = low >> 32  # before the last bin
    carried = border >> 32
    assert written.to_bytes(shifts, "big") == b"\x3f" + b"\xff" * (shifts - 1)
    assert carried.to_bytes(shifts, "big") == b"\x40" + b"\x00" * (shifts - 1)
    payload = assert_both_code(bins, contexts, 1)
    assert payload.startswith(b"\x40" + b"\x00" * (shifts - 1))


def test_calls_do_not_matter():
    bins, contexts = random_stream(3000)
    payload = encode(bins, contexts)
    rng = np.random.default_rng(1)
    for n_cuts in (0, 1, 7, 400):
        cuts = np.sort(rng.integers(0, 3001, n_cuts))  # empty pieces too
        encoder, decoder = BinaryEncoder(4), BinaryDecoder(payload, 4)
        pieces = zip(np.split(bins, cuts), np.split(contexts, cuts), strict=True)
        for some_bins, some_contexts in pieces:
            encoder.encode(some_bins, some_contexts)
            np.testing.assert_array_equal(decoder.decode(some_contexts), some_bins)
        assert encoder.finish() == payload
        decoder.finish()


def test_truncated():
    bins = [0, 1, 1, 0, 1, 0, 0, 1] * 4
    payload = encode(bins, [BYPASS] * 32)  # a byte for 8 bins
    decoder = BinaryDecoder(payload[:1], 4)
    # The payload's byte and 3 zeros last 32 bins; a fifth byte is needed once the range is below 2^24.
    assert decoder.decode(np.full(8, BYPASS, np.uint16)).tolist() == bins[:8]
    decoder.finish()
    decoder = BinaryDecoder(payload[:1], 4)
    with pytest.raises(TruncatedError, match="ends before the last bin"):
        decoder.decode(np.full(32, BYPASS, np.uint16))
    for _ in range(2):
        with pytest.raises(TruncatedError):
            decoder.decode(np.full(1, BYPASS, np.uint16))
    with pytest.raises(TruncatedError):
        decoder.finish()
    assert_refused(TruncatedError, payload[:3], [BYPASS] * 32, "ends before")


def test_left_over():
    payload = encode([1, 0, 1], [0, 0, 0], 1)
    for extra in (b"\0", b"\0\0\0\0\0\0"):
        assert_refused(CorruptPayloadError, payload + extra, [0, 0, 0], "left over")
    # Fewer bins than were coded, none at all among them.
    payload = encode([1, 0] * 20, [0] * 40, 1)
    for n in (0, 1, 20):
        assert_refused(CorruptPayloadError, payload, [0] * n, "left over")


def test_bad_end():
    # One bin 0 leaves [0, 2^31): the encoder's end is 00, and 01 … 7F are as good but not its own.
    for end in range(256):
        if end in (0, 128):
            assert decode(bytes([end]), [0], 1) == reference_decode(bytes([end]), [0]) == [end >> 7]
        else:
            assert_refused(CorruptPayloadError, bytes([end]), [0], "smallest in the final interval")


def test_accepted_payloads_are_the_encoders():
    contexts = [0, 1, BYPASS, 0, 0, 1, 0, 1, 0, 0, 0]
    accepted = 0
    for value in range(256 + 65536):
        payload = value.to_bytes(1, "big") if value < 256 else (value - 256).to_bytes(2, "big")
        try:
            bins = decode(payload, contexts, 2)
        except NcodecError:
            continue
        assert encode(bins, contexts, 2) == payload
        accepted += 1
    assert accepted == 2 ** len(contexts)  # every sequence of bins, once


# Round trips


@given(streams)
@quick
def test_round_trip(stream):
    assert_both_code([v for v, _ in stream], [k for _, k in stream])


@pytest.mark.parametrize("n_contexts, bypass", [(1, 0.0), (1, 0.5), (4, 0.1), (64, 0.1), (0, 1.0)])
@pytest.mark.parametrize("n", [0, 1, 2, 15, 5000])
def test_same_bytes_as_reference(n, n_contexts, bypass):
    bins, contexts = random_stream(n, n, max(n_contexts, 1), bypass)
    payload = assert_both_code(bins, contexts, n_contexts)
    assert (len(payload) == 0) == (n == 0)


@pytest.mark.parametrize("k", [0, BYPASS])
@pytest.mark.parametrize("v", [0, 1])
def test_long_runs_of_one_value(v, k):
    payload = assert_both_code([v] * 20_000, [k] * 20_000, 1)
    if k == BYPASS:
        assert payload == bytes([255 * v]) * 2500
    for n in range(1, 40):
        assert_both_code([v] * n, [k] * n, 1)


@pytest.mark.parametrize("v", [0, 1])
def test_rare_bins_in_long_runs(v):
    bins = np.full(20_000, v)
    bins[::997] = 1 - v
    assert_both_code(bins, [0] * len(bins), 1)


def test_all_contexts():
    contexts = np.arange(65536).astype(np.uint16)  # the last is bypass
    bins = (contexts % 3 == 0).astype(np.uint8)
    payload = encode(bins, contexts, MAX_CONTEXTS)
    assert payload == np.packbits(bins).tobytes()
    assert decode(payload, contexts, MAX_CONTEXTS) == bins.tolist()


def test_large_round_trip():
    bins, contexts = random_stream(1_000_000, n_contexts=64)
    decoder = BinaryDecoder(encode(bins, contexts, 64), 64)
    np.testing.assert_array_equal(decoder.decode(contexts), bins)
    decoder.finish()


# Size


@pytest.mark.parametrize("p_one", [0.0, 1e-4, 0.002, 0.03, 0.3, 0.5, 0.9, 0.999, 1.0])
def test_size_is_the_ideal(p_one):
    n = 30_000
    bins = (np.random.default_rng(5).random(n) < p_one).astype(np.uint8)
    contexts = np.zeros(n, np.uint16)
    ideal = ideal_bits(bins, contexts, 1)
    # 1 byte for the end; rounding is far below 0.1 %, and may go either way.
    assert 0.999 * ideal <= 8 * len(encode(bins, contexts, 1)) <= 1.001 * ideal + 8


def test_size_of_mixed_contexts():
    bins, contexts = random_stream(60_000, n_contexts=64)
    assert 8 * len(encode(bins, contexts, 64)) <= 1.001 * ideal_bits(bins, contexts, 64) + 8


def test_least_bits_of_a_bin():
    n = 1_000_000
    for v in (0, 1):
        size = len(encode(np.full(n, v), np.zeros(n), 1))
        assert n <= 5120 * (size + 1)
        assert size < 0.0016 * n / 8 + 20  # the last part is for learning


# Arrays and objects


def test_numpy_and_torch_arrays():
    bins, contexts = random_stream(1000)
    payload = encode(bins, contexts)
    bins.flags.writeable = False
    encoder = BinaryEncoder(4)
    encoder.encode(bins, torch.from_numpy(contexts))
    assert encoder.finish() == payload
    decoded = BinaryDecoder(payload, 4).decode(torch.from_numpy(contexts))
    assert isinstance(decoded, np.ndarray) and decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, bins)
    decoded[:] = 7  # the caller's own


@pytest.mark.parametrize(
    "bins, contexts",
    [
        (np.zeros(4, np.int64), np.zeros(4, np.uint16)),
        (np.zeros(4, np.int8), np.zeros(4, np.uint16)),
        (np.zeros(4, bool), np.zeros(4, np.uint16)),
        (np.zeros(4, np.uint8), np.zeros(4, np.int16)),
        (np.zeros(4, np.uint8), np.zeros(4, np.uint8)),
        (np.zeros(4, np.uint8), np.zeros(4, ">u2")),
        (np.zeros(8, np.uint8)[::2], np.zeros(4, np.uint16)),
        (np.zeros(4, np.uint8), np.zeros(8, np.uint16)[::2]),
        (np.zeros((2, 2), np.uint8), np.zeros(4, np.uint16)),
        ([0, 0, 0, 0], np.zeros(4, np.uint16)),
        (np.zeros(4, np.uint8), None),
    ],
)
def test_other_arrays_are_type_errors(bins, contexts):
    encoder = BinaryEncoder(4)
    with pytest.raises(TypeError):
        encoder.encode(bins, contexts)
    assert encoder.finish() == b""
    if (
        not isinstance(contexts, np.ndarray)
        or contexts.dtype != np.uint16
        or contexts.strides[0] != 2
    ):
        with pytest.raises(TypeError):
            BinaryDecoder(b"\0", 4).decode(contexts)


@pytest.mark.parametrize("payload", [bytearray(b"\0"), memoryview(b"\0"), "", None, 1])
def test_other_payloads_are_type_errors(payload):
    with pytest.raises(TypeError):
        BinaryDecoder(payload, 4)


def test_number_of_contexts():
    for n_contexts in (-1, 65536, 1 << 40):
        for make in (BinaryEncoder, lambda n: BinaryDecoder(b"", n)):
            with pytest.raises(InputError, match="0 to 65535"):
                make(n_contexts)
    for n_contexts in (1.5, "4", None):
        with pytest.raises(TypeError):
            BinaryEncoder(n_contexts)


@pytest.mark.parametrize("n_contexts, bad", [(4, 4), (4, 65534), (0, 0), (65535 - 1, 65534)])
def test_context_out_of_range(n_contexts, bad):
    contexts = np.array([BYPASS, BYPASS, bad, BYPASS], np.uint16)
    bins = np.array([1, 0, 1, 1], np.uint8)
    encoder = BinaryEncoder(n_contexts)
    with pytest.raises(InputError, match=rf"bin 2 of 4: expected a context below {n_contexts},"):
        encoder.encode(bins, contexts)
    assert encoder.finish() == b""  # nothing was coded
    decoder = BinaryDecoder(b"\xb0", n_contexts)
    with pytest.raises(InputError, match="bin 2 of 4"):
        decoder.decode(contexts)
    assert decoder.decode(np.full(4, BYPASS, np.uint16)).tolist() == [1, 0, 1, 1]
    decoder.finish()
    for code in (reference_binary.encode, lambda b, *rest: reference_binary.decode(b"\0", *rest)):
        with pytest.raises(ValueError, match="context"):
            code(bins.tolist(), contexts.tolist(), n_contexts)


def test_neither_0_nor_1():
    encoder = BinaryEncoder(1)
    for value in (2, 3, 255):
        with pytest.raises(InputError, match="bin 1 of 3: expected 0 or 1"):
            encoder.encode(np.array([0, value, 0], np.uint8), np.zeros(3, np.uint16))
    assert encoder.finish() == b""


def test_lengths_differ():
    with pytest.raises(InputError, match="3, found 2"):
        BinaryEncoder(1).encode(np.zeros(3, np.uint8), np.zeros(2, np.uint16))


def test_use_after_finish():
    encoder, decoder = BinaryEncoder(1), BinaryDecoder(b"", 1)
    encoder.finish()
    decoder.finish()
    for use in (
        encoder.finish,
        decoder.finish,
        lambda: encoder.encode(np.zeros(1, np.uint8), np.zeros(1, np.uint16)),
        lambda: decoder.decode(np.zeros(1, np.uint16)),
    ):
        with pytest.raises(InputError, match="finished"):
            use()


def test_other_threads_run_and_are_refused():
    # The interpreter's lock is released while coding: we get to call, and are told that it is in use.
    bins, contexts = np.zeros(5_000_000, np.uint8), np.zeros(5_000_000, np.uint16)
    payload = encode(bins, contexts)
    seen = set()

    def attempt(name, code, *arrays):
        try:
            code(*arrays)
        except InputError as error:
            assert "another thread" in str(error)
            seen.add(name)

    for _ in range(50):
        encoder, decoder = BinaryEncoder(1), BinaryDecoder(payload, 1)
        for name, code, arrays in [
            ("encoder", encoder.encode, (bins, contexts)),
            ("decoder", decoder.decode, (contexts,)),
        ]:
            thread = threading.Thread(target=attempt, args=(name, code, *arrays))
            thread.start()
            while thread.is_alive():
                attempt(name, code, *(array[:0] for array in arrays))
            thread.join()
        if len(seen) == 2:
            break
    assert seen == {"encoder", "decoder"}


# From C++, a bin at a time

PROGRAM = """
#include <cstdio>
#include "binary.hpp"
using namespace ncodec;
int main() {
  BinaryContext context;
  BinaryEncoder encoder;
  for (int i = 0; i < 1000; ++i) i % 3 ? encoder.encode(i % 7 == 0, context) : encoder.encode_bypass(i & 1);
  const std::vector<uint8_t> payload = encoder.finish();
  for (uint8_t byte : payload) std::printf("%02x", byte);
  context = BinaryContext();
  BinaryDecoder decoder(payload.data(), payload.size());
  int wrong = 0, ones = 0, truncated = 0;
  for (int i = 0; i < 1000; ++i)
    wrong += i % 3 ? decoder.decode(context) != (i % 7 == 0) : decoder.decode_bypass() != uint32_t(i & 1);
  wrong += decoder.status() != BinaryStatus::ok || decoder.finish() != BinaryStatus::ok;
  for (int noise = 0; noise < 65536; ++noise) {
    const uint8_t bytes[2] = {uint8_t(noise >> 8), uint8_t(noise)};
    BinaryDecoder short_decoder(bytes, 2);
    context = BinaryContext();
    for (int i = 0; i < 99; ++i) {
      const bool is_truncated = short_decoder.status() == BinaryStatus::truncated;
      ones += short_decoder.decode(context) && is_truncated;
    }
    truncated += short_decoder.status() == BinaryStatus::truncated;
  }
  std::printf(" %d %d %d", wrong, ones, truncated > 30000);
}
"""


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_from_cpp(tmp_path):
    # No Python, no exceptions, no warnings; 0 for all bins after a truncation.
    (tmp_path / "main.cpp").write_text(PROGRAM)
    flags = ["-std=c++17", "-O1", "-fno-exceptions", "-Wall", "-Wextra", "-Werror"]
    include = f"-I{ROOT / 'ncodec' / 'entropy'}"
    program = str(tmp_path / "program")
    subprocess.run(["c++", *flags, include, str(tmp_path / "main.cpp"), "-o", program], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    bins = [int(i % 7 == 0) if i % 3 else i & 1 for i in range(1000)]
    payload = encode(bins, [0 if i % 3 else BYPASS for i in range(1000)], 1)
    assert output == f"{payload.hex()} 0 0 1"


# Damaged payloads


def decode_or_refuse(payload, contexts):
    """Decode with both; they refuse the same payloads and agree on the others, which are canonical."""
    try:
        ours = decode(payload, contexts)
    except NcodecError:
        ours = None
    try:
        theirs = reference_decode(payload, contexts)
    except ValueError:
        theirs = None
    assert ours == theirs
    assert ours is None or encode(ours, contexts) == payload


@pytest.mark.parametrize("seed", range(3))
def test_every_truncation(seed):
    bins, contexts = random_stream(300, seed)
    payload = encode(bins, contexts)
    for size in range(len(payload)):
        decode_or_refuse(payload[:size], contexts)
        decode_or_refuse(payload[size:], contexts)
    # Bypass bins take a byte for 8 whatever they are: every truncation is found.
    payload = encode(bins, [BYPASS] * 300)
    for size in range(len(payload)):
        assert_refused(TruncatedError, payload[:size], [BYPASS] * 300, "ends before")


@pytest.mark.parametrize("seed", range(3))
def test_every_flipped_bit(seed):
    bins, contexts = random_stream(200, seed)
    payload = encode(bins, contexts)
    for bit in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[bit // 8] ^= 1 << bit % 8
        decode_or_refuse(bytes(damaged), contexts)


@given(st.binary(max_size=60), streams)
@quick
def test_random_payloads(noise, stream):
    decode_or_refuse(noise, [k for _, k in stream])


def test_random_damage_of_a_large_payload():
    rng = np.random.default_rng(0)
    bins, contexts = random_stream(20_000)
    payload = encode(bins, contexts)
    refused = 0
    for _ in range(200):
        damaged = bytearray(payload[: rng.integers(1, len(payload) + 1)])
        for _ in range(rng.integers(0, 4)):
            damaged[rng.integers(len(damaged))] = rng.integers(256)
        try:
            decode(bytes(damaged), contexts)
        except (TruncatedError, CorruptPayloadError):
            refused += 1
    assert refused > 150
