"""Decoding on a device equals the specification's reference and the C++: same symbols, same errors."""

import os

import numpy as np
import pytest
import reference_rans
import torch
from test_entropy import LANES, TABLES, random_stream

from ncodec.coder import device, lanes
from ncodec.coder.device import decode_on_device
from ncodec.coder.lanes import device_tables
from ncodec.entropy import decode_symbols, encode_symbols
from ncodec.errors import CorruptPayloadError, InputError, NcodecError, TruncatedError

ROWS = TABLES.frequencies.tolist()


@pytest.fixture(params=["lanes", "triton"])
def path(request, monkeypatch):
    """Decode on the CPU with tensors, or with Triton's interpreter of the kernel, which takes a hundred times as long."""
    if request.param == "triton":
        if torch.cuda.is_available():
            pytest.skip("the interpreter is for machines without CUDA: test_real_kernel runs here")
        pytest.importorskip("triton", reason="Triton is on Linux only")
        from ncodec.coder import triton_rans

        assert os.environ["TRITON_INTERPRET"] == "1"
        monkeypatch.setattr(lanes, "decode_chunks", triton_rans.decode_chunks)
    return request.param


def tensor(*indexes):
    return torch.from_numpy(np.stack(indexes).astype(np.int64))


def with_escapes(n, seed, skip_below=0, extremes=False):
    """A random stream where every 20th symbol or so is far outside its row."""
    symbols, indexes = random_stream(n, seed)
    rng = np.random.default_rng(seed)
    far = rng.random(n) < 0.05
    symbols[far] = rng.integers(-(2**31), 2**31 - 1, n)[far] >> rng.integers(0, 31, n)[far]
    symbols[indexes < skip_below] = 0
    return symbols, indexes


def reference(symbols, indexes, skip_below=0, lanes=1, chunks=1):
    return reference_rans.encode(
        symbols.tolist(), indexes.tolist(), ROWS, skip_below, lanes, chunks=chunks
    )


@pytest.mark.parametrize("n_lanes", LANES)
@pytest.mark.parametrize("skip_below", [0, 2])
@pytest.mark.parametrize("n", [1, 2, 31, 165])
def test_same_symbols_as_cpp(path, n, skip_below, n_lanes):
    symbols, indexes = with_escapes(n, n + n_lanes, skip_below)
    payload = encode_symbols(symbols, indexes, TABLES, skip_below, n_lanes)
    assert np.array_equal(decode_symbols(payload, indexes, TABLES, skip_below), symbols)
    decoded = decode_on_device([payload], tensor(indexes), TABLES, skip_below)
    assert decoded.dtype == torch.int32 and np.array_equal(decoded[0].numpy(), symbols)


@pytest.mark.parametrize("n_lanes", [1, 8, 32])
@pytest.mark.parametrize("chunks", [2, 3, 7])
def test_chunks(path, chunks, n_lanes):
    symbols, indexes = with_escapes(150, chunks, 1)
    payload = reference(symbols, indexes, 1, n_lanes, chunks)
    assert payload[0] >= 8 and payload[1] == chunks
    decoded = decode_on_device([payload], tensor(indexes), TABLES, 1)
    assert np.array_equal(decoded[0].numpy(), symbols)


def test_chunk_for_every_symbol(path):
    symbols, indexes = with_escapes(20, 3)
    payload = reference(symbols, indexes, 0, 2, 20)
    assert decode_on_device([payload], tensor(indexes), TABLES).tolist() == [symbols.tolist()]


def test_batch(path):
    """Payloads of different sizes, lanes and chunks, one of them empty; any shape."""
    streams = [with_escapes(60, seed, 2) for seed in range(4)]
    streams.append((np.zeros(60, np.int32), np.ones(60, np.uint16)))  # all skipped
    payloads = [
        reference(*stream, 2, n_lanes, chunks)
        for stream, n_lanes, chunks in zip(streams, (1, 4, 32, 2, 1), (1, 2, 1, 5, 1), strict=True)
    ]
    assert payloads[-1] == b"" and len(set(map(len, payloads))) == 5
    indexes = tensor(*(indexes for _, indexes in streams)).reshape(5, 3, 4, 5)
    decoded = decode_on_device(payloads, indexes, TABLES, 2)
    assert torch.equal(decoded.reshape(5, 60), tensor(*(s for s, _ in streams)).int())


def test_extremes(path):
    symbols = np.array([-(2**31), 2**31 - 1, 0, -1, 2**31 - 1], np.int32)
    indexes = np.full(5, 5, np.uint16)  # the row that has only the escape
    payload = encode_symbols(symbols, indexes, TABLES, lanes=4)
    assert decode_on_device([payload], tensor(indexes), TABLES)[0].tolist() == symbols.tolist()


def test_nothing():
    assert decode_on_device([], torch.zeros(0, 3, dtype=torch.int64), TABLES).shape == (0, 3)
    assert decode_on_device([b"", b""], torch.zeros(2, 0, dtype=torch.int64), TABLES).shape == (
        2,
        0,
    )
    with pytest.raises(CorruptPayloadError, match=r"payload 1 of 2: .*left over"):
        decode_on_device([b"", b"\0"], torch.zeros(2, 0, dtype=torch.int64), TABLES)
    with pytest.raises(InputError, match="expected 2, found 1"):
        decode_on_device([b""], torch.zeros(2, 0, dtype=torch.int64), TABLES)


def outcome(decode):
    try:
        return decode()
    except NcodecError as error:
        return type(error)


def damaged(payload, rng):
    data = bytearray(payload)
    kind = rng.integers(5)
    if kind == 0:
        del data[rng.integers(len(data)) :]
    elif kind == 1:
        data += bytes(rng.integers(0, 256, rng.integers(1, 4)).tolist())
    elif kind == 2:
        data[-rng.integers(1, 8)] = rng.choice([0, 0x80, 0xFF])  # among the escapes
    else:
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(data)


def test_hostile_payloads_fail_like_cpp(path):
    """Truncations, additions and flips, seeded; also indexes that are no row."""
    rng = np.random.default_rng(5)
    found = []
    for k in range(400 if path == "lanes" else 40):
        symbols, indexes = with_escapes(50, k % 7)
        payload = encode_symbols(symbols, indexes, TABLES, 0, LANES[k % 6], chunks=1 + k % 4)
        payload = damaged(payload, rng)
        if k % 5 == 0:
            indexes[rng.integers(50)] = rng.choice([7, 65535])
        expected = outcome(lambda p=payload, i=indexes: decode_symbols(p, i, TABLES).tolist())
        ours = outcome(
            lambda p=payload, i=indexes: decode_on_device([p], tensor(i), TABLES)[0].tolist()
        )
        assert ours == expected, (k, payload.hex())
        found.append(expected)
    kinds = {expected if isinstance(expected, type) else list for expected in found}
    assert kinds >= {TruncatedError, CorruptPayloadError, InputError}


def test_every_truncation(path):
    symbols, indexes = with_escapes(30, 1)
    payload = encode_symbols(symbols, indexes, TABLES, lanes=8)
    for size in range(0, len(payload), 1 if path == "lanes" else 5):
        cut = payload[:size]
        expected = outcome(lambda cut=cut: decode_symbols(cut, indexes, TABLES))
        assert outcome(lambda cut=cut: decode_on_device([cut], tensor(indexes), TABLES)) == expected


def reference_outcome(payload, indexes):
    try:
        return reference_rans.decode(payload, indexes.tolist(), ROWS)
    except ValueError as error:
        return TruncatedError if str(error) == "truncated" else CorruptPayloadError


def test_hostile_chunks_fail_like_the_reference(path):
    symbols, indexes = with_escapes(40, 2)
    rng = np.random.default_rng(6)
    payload = reference(symbols, indexes, 0, 4, 3)
    cases = [payload[:size] for size in range(len(payload))]
    cases += [damaged(payload, rng) for _ in range(150)]
    cases += [
        payload[:k] + bytes([b]) + payload[k + 1 :] for k in range(4) for b in range(0, 256, 5)
    ]
    for case in cases if path == "lanes" else cases[::14]:
        expected = reference_outcome(case, indexes)
        ours = outcome(lambda c=case: decode_on_device([c], tensor(indexes), TABLES)[0].tolist())
        assert ours == expected, case.hex()


@pytest.mark.parametrize(
    ("head", "error", "match"),
    [
        ("06", CorruptPayloadError, "byte 0"),
        ("07", CorruptPayloadError, "byte 0"),
        ("0e", CorruptPayloadError, "byte 0"),
        ("10", CorruptPayloadError, "byte 0"),
        ("80", CorruptPayloadError, "byte 0"),
        ("08", TruncatedError, "number of chunks"),
        ("08 00", CorruptPayloadError, "number of chunks: expected 2 to 9, found 0"),
        ("08 01", CorruptPayloadError, "found 1"),
        ("08 0a", CorruptPayloadError, "found 10"),
        ("08 06 00", CorruptPayloadError, "6 chunks, but only 5 coded symbols"),
        ("08 82 00", CorruptPayloadError, "shortest"),
        ("08 ff ff ff ff ff 01", CorruptPayloadError, "longer than 5 bytes"),
        ("08 03 04", TruncatedError, "size of a chunk"),
        ("08 02 7f 00 00 01 00", TruncatedError, "chunks reach to 130"),
        ("08 02 03 00 00 01 00 00 01 00", TruncatedError, "chunk 0 of 2"),
        ("00 ff ff 00 00", CorruptPayloadError, "first coder state"),
        ("", TruncatedError, "0 bytes"),
    ],
)
def test_bad_heads(path, head, error, match):
    """Nine symbols, four of them skipped; the second payload of two."""
    indexes = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1], np.uint16)
    good = encode_symbols(np.zeros(9, np.int32), indexes, TABLES, 1)
    with pytest.raises(error, match=f"payload 1 of 2: .*{match}"):
        decode_on_device([good, bytes.fromhex(head)], tensor(indexes, indexes), TABLES, 1)


def test_tables_are_made_once():
    cpu = torch.device("cpu")
    assert device_tables(TABLES, cpu) is device_tables(TABLES, cpu)


def test_negative_index_is_not_a_row():
    """As in decode_symbols, whose indexes are uint16."""
    payload = encode_symbols(np.zeros(2, np.int32), np.zeros(2, np.uint16), TABLES)
    with pytest.raises(InputError, match="not a row"):
        decode_on_device([payload], torch.tensor([[0, -1]]), TABLES, 0)


@pytest.mark.gpu
@pytest.mark.parametrize("chunks", [1, 64])
def test_real_kernel(chunks):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    n = 20_000
    for n_lanes in LANES:
        streams = [with_escapes(n, seed, 1) for seed in range(3)]
        payloads = [reference(*stream, 1, n_lanes, chunks) for stream in streams]
        indexes = tensor(*(indexes for _, indexes in streams)).cuda()
        decoded = decode_on_device(payloads, indexes, TABLES, 1)
        assert decoded.is_cuda
        assert torch.equal(decoded.cpu(), tensor(*(s for s, _ in streams)).int())


@pytest.mark.gpu
def test_real_kernel_large_and_hostile():
    """4 million symbols; then damage, which ends in the same error as in the C++."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    symbols, indexes = with_escapes(1 << 22, 0)
    payload = encode_symbols(symbols, indexes, TABLES)
    decoded = decode_on_device([payload], tensor(indexes).cuda(), TABLES)
    assert np.array_equal(decoded[0].cpu().numpy(), symbols)
    rng = np.random.default_rng(7)
    symbols, indexes = with_escapes(3000, 1)
    payload = encode_symbols(symbols, indexes, TABLES, lanes=32)
    for _ in range(300):
        case = damaged(payload, rng)
        expected = outcome(lambda c=case: decode_symbols(c, indexes, TABLES).tolist())
        ours = outcome(
            lambda c=case: decode_on_device([c], tensor(indexes).cuda(), TABLES)[0].tolist()
        )
        assert ours == expected, case.hex()


def test_resident_payloads_need_no_host():
    """What decode_on_device is made of can be called on payloads that are already on the device."""
    symbols, indexes = with_escapes(100, 9)
    payload = encode_symbols(symbols, indexes, TABLES)
    cpu = torch.device("cpu")
    resident = device.place([payload], [device.read_directory(payload, 100)], cpu)
    ours, n_coded, problems = device.decode_resident(
        resident, tensor(indexes), device_tables(TABLES, cpu), 0
    )
    assert ours[0].tolist() == symbols.tolist()
    assert n_coded.tolist() == [100] and problems.tolist() == [0]


def test_arguments():
    symbols, indexes = with_escapes(20, 3)
    payload = encode_symbols(symbols, indexes, TABLES)
    for wrong in (tensor(indexes).float(), np.zeros((1, 20), np.int32), None):
        with pytest.raises(TypeError, match="tensor of integers"):
            decode_on_device([payload], wrong, TABLES)
    for skip_below in (-1, 1 << 17, 1 << 31):
        with pytest.raises(InputError, match="skip_below"):
            decode_on_device([payload], tensor(indexes), TABLES, skip_below)
    for index in (-1, 65536, 65537, 2**31):
        far = tensor(indexes).long()
        far[0, 3] = index
        with pytest.raises(InputError, match="not a row"):
            decode_on_device([payload], far, TABLES)
