"""Exact networks: every executor here equals tests/reference_exact.py, which is specs/exact.md in numpy.

    random operations, feeds --every variant, 1 and 3 threads; torch--> the same integers, within their bounds

Each sentence X1, X2, … of the specification names its test.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference_exact as reference
import torch
from conftest import ROOT

from ncodec.errors import InputError, WeightsMismatchError
from ncodec.exact import COSINES, EXP, Graph, variants
from ncodec.exact.device import run_on_device

LARGEST = 32767
EVERY = np.arange(-LARGEST, LARGEST + 1, dtype=np.int16).reshape(17, 257, 15)  # value
EDGES = [-32767, -32766, -16385, -16384, -16383, -2, -1, 0, 1, 2, 16383, 16384, 16385, 32766, 32767]
PAIRS = np.array(np.meshgrid(EDGES, EDGES), np.int16)[:, :, None]  # [2, 15, 1, 15]
CHANNELS = [1, 2, 3, 15, 16, 17, 31, 64, 160]
SIZES = [(1, 1), (1, 7), (5, 1), (2, 3), (7, 9), (17, 34)]


def described(graph):
    return [(op.kind, op.inputs, op.numbers, op.arrays) for op in graph.operations]


def check(graph, feeds, wanted):
    """Return tensors as the reference computes them, which every executor has to equal."""
    expected = reference.run(described(graph), feeds, wanted)
    for number, values in zip(wanted, expected, strict=True):
        assert np.abs(values).max() <= graph.bound(number)
    for variant in variants():
        for threads in (1, 3):
            found = graph.run(feeds, wanted, threads, variant)
            assert all(tensor.dtype == np.int16 for tensor in found)
            same(expected, found, f"{variant}, {threads} threads")
    same(expected, on_device(graph, feeds, wanted, "cpu"), "torch")
    return expected


def same(expected, found, who):
    for values, tensor in zip(expected, found, strict=True):
        np.testing.assert_array_equal(tensor, values, who)


def negated(feeds):
    return {number: -x if x.ndim == 3 else x for number, x in feeds.items()}


def on_device(graph, feeds, wanted, device):
    """Return what torch computes beside another image, the negative."""
    other = negated(feeds)
    batch = {
        number: torch.tensor(np.stack([x, other[number]]) if x.ndim == 3 else x, device=device)
        for number, x in feeds.items()
    }
    found = run_on_device(graph, batch, wanted)
    assert all(tensor.device.type == device and tensor.dtype == torch.int32 for tensor in found)
    expected = reference.run(described(graph), other, wanted)
    same(expected, [tensor[1].cpu().numpy() for tensor in found], "torch, the negative")
    return [tensor[0].cpu().numpy() for tensor in found]


def check_one(kind, inputs, *rest, bound=LARGEST, **options):
    """Return what one operation makes of some tensors and vectors."""
    graph, feeds = Graph(), {}
    for x in inputs:
        number = graph.input("x", x.shape[2], bound) if x.ndim == 3 else graph.vector("v", len(x))
        feeds[number] = np.ascontiguousarray(x)
    return check(graph, feeds, [getattr(graph, kind)(*feeds, *rest, **options)])[0]


def tensor_of(rng, shape, bound=LARGEST):
    """Return any values, or extreme ones, or small ones."""
    kind = rng.integers(4)
    if kind == 0:
        return (bound * rng.integers(-1, 2, shape)).astype(np.int16)
    most = min(bound, 9) if kind == 1 else bound
    return rng.integers(-most, most + 1, shape).astype(np.int16)


def parameters(rng, shape, bound, full=False):
    """Return weight, bias and shift that keep X3; `full` ones keep it by as little as |b| ≤ 2^30 lets them."""
    outputs = shape[0]
    shift = rng.integers(*((1, 31) if rng.integers(2) else (8, 16)), outputs)
    room = 2**31 - 1 - (1 << (shift - 1))
    magnitude = 2 ** rng.uniform(1, 15, (outputs, 1))
    weight = np.clip(rng.uniform(-1, 1, (outputs, np.prod(shape[1:]))) * magnitude, -LARGEST, LARGEST)  # fmt: skip
    largest = np.abs(weight).sum(1, keepdims=True) * max(bound, 1)
    weight = np.trunc(weight * np.minimum(1, 0.999 * room[:, None] / largest)).astype(np.int64)
    rest = np.minimum(room - bound * np.abs(weight).sum(1), 2**30)
    bias = rest * rng.choice([-1, 1], outputs) if full else rng.integers(-rest, rest + 1)
    return weight.reshape(shape).astype(np.int16), bias.astype(np.int32), shift.astype(np.uint8)


# ---------------------------------------------------------------- the specification


def test_sentences_name_their_tests():
    text = (ROOT / "specs" / "exact.md").read_text()
    sentences = re.findall(r"^- \*\*X(\d+)\*\* .*(?:\n  .*)*", text, re.M)
    named = re.findall(r"^- \*\*X\d+\*\* .*(?:\n  .*)*\(((?:`test_\w+`(?:, )?)+)\)$", text, re.M)
    assert sentences == [str(k) for k in range(1, 28)] and len(named) == 27
    assert all(name in globals() for name in re.findall(r"test_\w+", "".join(named)))


def test_reference_by_hand():
    ref, x = reference.OPERATIONS, np.arange(-4, 5)
    assert ref["shift"](x, 1).tolist() == [-2, -1, -1, 0, 0, 1, 1, 2, 2]
    assert ref["shift"](x, 0).tolist() == x.tolist()
    assert ref["leaky"](np.array([-3, -2, 5]), 16384).tolist() == [-1, -1, 5]
    assert ref["scale"](np.array([-3, 3]), np.array([1, 1]), np.array([1, 0])).tolist() == [-1, 3]
    assert ref["add"](np.array([32767, -32767]), np.array([1, -1])).tolist() == [32767, -32767]
    assert ref["shuffle"](np.arange(8).reshape(1, 1, 8), 2).tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]  # fmt: skip
    assert ref["unshuffle"](np.arange(4).reshape(2, 2, 1), 2).tolist() == [[[0, 1, 2, 3]]]
    assert ref["pad"](np.array([[[1], [2], [3]]]), 2)[..., 0].tolist() == [[1, 2, 3, 3]] * 2
    assert ref["patches"](np.array([[[1, 2], [3, 4]]]))[0, 0].tolist() == [*[0] * 8, 1, 2, 3, 4, *[0] * 6]  # fmt: skip
    row = np.array([[[1], [2], [3]]])
    ones = np.ones((1, 3, 3), int), np.array([0]), np.array([1])
    assert ref["depthwise"](row, 0, *ones).ravel().tolist() == [2, 3, 3]  # 3, 6, 5 halved, upwards
    assert ref["depthwise"](row, 1, *ones).ravel().tolist() == [6, 9, 12]
    assert ref["conv"](np.array([[[1, -2]]]), np.array([[3, 4]]), np.array([2]), np.array([1])).item() == -1  # fmt: skip
    none, all_ = np.zeros((2, 2, 2), int), np.ones((2, 2, 2), int)
    step = sum(s * ref["merge"](none, all_, s, 4) for s in range(4))
    assert step[..., 0].tolist() == [[0, 2], [3, 1]] and step[..., 1].tolist() == [[1, 3], [0, 2]]
    assert ref["merge"](none, all_, 0, 2)[..., 0].tolist() == [[1, 0], [0, 1]]
    assert ref["embed"](np.array([[[-5], [1], [9]]]), np.array([[1, 2], [3, 4]])).tolist() == [[[1, 2], [3, 4], [3, 4]]]  # fmt: skip
    assert ref["join"](row, row[:, :1]).ravel().tolist() == [1, 2, 3, 1]
    assert ref["norm"](np.array([[[3, -4, 0, 0]]]), 8).ravel().tolist() == [
        307,
        -410,
        0,
        0,
    ]  # rms 2.5
    q, k, v = (np.array([column]).T[None] for column in ([1], [0, -64, -128], [9000, 12000, 15000]))
    # 32767, 16384 (16383.5 rounded), 8192; their sum 57343, 2^31 // 57343 = 37449
    p = [32767 * 37449 >> 16, 16384 * 37449 >> 16, 8192 * 37449 >> 16]
    assert ref["attention"](q, k, v, 1, 0).item() == sum(map(int.__mul__, p, [9000, 12000, 15000])) + 2**14 >> 15  # fmt: skip
    x = np.arange(12).reshape(2, 3, 2)  # of two heads with a channel each
    assert ref["fold"](x, 2, 2).tolist() == [[[0, 2, 6, 8, 1, 3, 7, 9]], [[4, 0, 10, 0, 5, 0, 11, 0]]]  # fmt: skip
    assert ref["fold"](x, 2, 1).tolist() == [[[0, 2, 6, 8], [1, 3, 7, 9]], [[4, 0, 10, 0], [5, 0, 11, 0]]]  # fmt: skip
    assert np.array_equal(ref["unfold"](ref["fold"](x, 2, 2), x, 2, 2), x)
    none, v = np.zeros((1, 4, 1), int), np.array([[[1000], [2000], [3000], [4000]]])
    # Windows of places 0 and 1, 2 and 3; the one to the right has 2^-9 of one's own weight, to the left 2^-10
    made = ref["window_attention"](none, none, v, 0, [(1, 3, 0, 1)], np.array([0, 0, 640, 64, 0]))
    assert made.ravel().tolist() == [1002, 1999, 3002, 3999]
    half = np.zeros((4, 4, 1), int)
    half[0, 0] = 2048
    assert ref["modulate"](np.full((4, 4, 1), 1000), 12, half).ravel().tolist() == [1500] * 16


# ---------------------------------------------------------------- single operations


@pytest.mark.parametrize("channels", CHANNELS)
def test_conv(channels):
    rng = np.random.default_rng(channels)
    for k, (h, w) in enumerate(SIZES):
        outputs, bound = CHANNELS[(k + channels) % len(CHANNELS)], int(rng.choice([0, 1, 700, LARGEST]))  # fmt: skip
        weights = parameters(rng, (outputs, channels), bound, k % 2)
        check_one("conv", [tensor_of(rng, (h, w, channels), bound)], *weights, bound=bound)


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("side", [3, 5])
def test_depthwise(side, replicate):
    rng = np.random.default_rng(side)
    for k, channels in enumerate(CHANNELS):
        for h, w in SIZES:
            weights = parameters(rng, (channels, side, side), LARGEST, k % 2)
            check_one(
                "depthwise", [tensor_of(rng, (h, w, channels))], *weights, replicate=replicate
            )


@pytest.mark.parametrize("shift, shape", [(1, (2,)), (1, (33,)), (30, (16,)), (1, (3, 3)), (16, (5, 5))])  # fmt: skip
def test_sums_just_fit(shift, shape):
    """A sum of 2^31 − 1, of either sign, is computed; a bias with which it might be 2^31 is refused."""
    kind = "conv" if len(shape) == 1 else "depthwise"
    taps, half = int(np.prod(shape)), 1 << shift - 1
    total = min((2**31 - 1 - half) // LARGEST, LARGEST * taps)
    weight = np.full(taps, total // taps)
    weight[: total % taps] += 1
    weight *= np.where(np.arange(taps) % 3, 1, -1)
    bias = 2**31 - 1 - half - LARGEST * total
    x = np.zeros((*shape, 1) if kind == "depthwise" else (1, 1, taps), np.int16)
    x.reshape(-1)[:] = LARGEST * np.sign(weight)
    middle = tuple(side // 2 for side in x.shape[:2])
    arrays = np.int16(weight).reshape(1, *shape), np.int32([bias]), np.uint8([shift])
    made = check_one(kind, [x], *arrays)
    assert made[middle] == min(LARGEST, 2**31 - 1 >> shift)
    assert reference.largest_sum(LARGEST, *arrays).item() == 2**31 - 1
    arrays = arrays[0], -arrays[1], arrays[2]
    assert check_one(kind, [-x], *arrays)[middle] == max(-LARGEST, -(2**31) + 1 + 2 * half >> shift)
    for more in (1, -1):
        arrays = arrays[0], np.int32([more * (bias + 1)]), arrays[2]
        with pytest.raises(WeightsMismatchError, match=r"2\^31.*2147483648"):
            check_one(kind, [x], *arrays)


@pytest.mark.parametrize("kind", ["patches", "pad", "shuffle", "unshuffle"])
@pytest.mark.parametrize("h, w", SIZES)
def test_rearrangements(kind, h, w):
    rng = np.random.default_rng(h)
    for channels in CHANNELS[:-1]:
        if kind == "patches":
            check_one(kind, [tensor_of(rng, (h, w, channels))])
            continue
        for factor in (2, 3, 16) if channels < 4 else (2, 4):
            if kind == "pad":
                check_one(kind, [tensor_of(rng, (h, w, channels))], factor)
            elif kind == "shuffle":
                check_one(kind, [tensor_of(rng, (h, w, channels * factor**2))], factor)
            elif h * w * channels * factor**2 < 50_000:
                check_one(kind, [tensor_of(rng, (h * factor, w * factor, channels))], factor)


def test_pad_by_one_and_far():
    x = np.arange(6, dtype=np.int16).reshape(2, 3, 1)
    assert np.array_equal(check_one("pad", [x], 1), x)
    assert check_one("pad", [x], 100).shape == (100, 100, 1)


def test_shuffle_and_unshuffle_undo_each_other():
    rng, graph = np.random.default_rng(0), Graph()
    x = graph.input("x", 32)
    back = graph.unshuffle(graph.shuffle(x, 4), 4)
    fed = tensor_of(rng, (5, 3, 32))
    assert np.array_equal(check(graph, {x: fed}, [back])[0], fed)


def test_crop():
    rng = np.random.default_rng(0)
    for channels in CHANNELS:
        for h, w in SIZES:
            like = tensor_of(rng, (1 + h // 2, 1 + w // 2, 3))
            check_one("crop", [tensor_of(rng, (h, w, channels)), like])
            check_one("crop", [tensor_of(rng, (h, w, channels)), tensor_of(rng, (h, w, channels))])


@pytest.mark.parametrize("kind", ["add", "subtract"])
def test_add_and_subtract(kind):
    made = check_one(kind, list(PAIRS))
    assert {LARGEST, -LARGEST} <= set(made.ravel().tolist())
    check_one(kind, [EVERY, EVERY[::-1]])


def test_add_a_tensor_to_itself():
    graph = Graph()
    x = graph.input("x", 15)
    check(graph, {x: EVERY}, [graph.add(x, x), graph.subtract(x, x), graph.gate(x, x, 0)])


def test_offset():
    check_one("offset", [EVERY, np.array(EDGES, np.int16)])


def test_scale():
    for bits in (0, 1, 2, 14, 15, 16, 29, 30):
        check_one("scale", [EVERY, np.array(EDGES, np.int16), np.full(15, bits, np.int16)])
    check_one("scale", [EVERY, np.array(EDGES, np.int16), np.arange(0, 30, 2, np.int16)])


def test_shift():
    for bits in range(16):
        check_one("shift", [EVERY], bits)


def test_leaky():
    for slope in (0, 1, 2, 3277, 16384, 32766, LARGEST):
        made = check_one("leaky", [EVERY], slope)
        assert slope or (made == np.maximum(EVERY, 0)).all()


def test_clamp():
    for low, high in ((-LARGEST, LARGEST), (0, 0), (-1, 5), (-LARGEST, -LARGEST), (7, LARGEST)):
        check_one("clamp", [EVERY], low, high)


def test_table():
    table = np.random.default_rng(0).integers(-LARGEST, LARGEST + 1, 65536).astype(np.int16)
    assert np.array_equal(check_one("table", [EVERY], table).ravel(), table[1:])


def test_gate():
    for least in (-LARGEST, -1, 0, 1, LARGEST):
        check_one("gate", [EVERY[:, ::-1], EVERY], least)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_merge(steps):
    rng = np.random.default_rng(steps)
    for channels in CHANNELS:
        for h, w in SIZES:
            x, y = (tensor_of(rng, (h, w, channels)) for _ in range(2))
            for step in range(steps):
                check_one("merge", [x, y], step, steps)


# ---------------------------------------------------------------- transformers


def test_embed():
    rng = np.random.default_rng(0)
    for rows, channels in ((1, 1), (2, 3), (7, 16), (257, 33), (32768, 2)):
        table = rng.integers(-LARGEST, LARGEST + 1, (rows, channels)).astype(np.int16)
        made = check_one("embed", [EVERY.reshape(5, -1, 1)], table).reshape(-1, channels)
        assert (
            np.array_equal(made[LARGEST:][:rows], table[:32768])
            and (made[:LARGEST] == table[0]).all()
        )


def test_join():
    rng = np.random.default_rng(0)
    for channels in CHANNELS:
        for h, w in SIZES:
            for other in (1, 7, 300):
                check_one("join", [tensor_of(rng, (h, n, channels)) for n in (w, other)])


@pytest.mark.parametrize("bits", range(1, 13))
def test_norm(bits):
    rng = np.random.default_rng(bits)
    for channels in CHANNELS:
        check_one("norm", [tensor_of(rng, (3, 5, channels))], bits)
        powers = np.arange(16)[:, None] + rng.integers(-1, 2, channels)
        check_one("norm", [np.clip(1 << np.maximum(powers, 0), 0, LARGEST).astype(np.int16)[None]], bits)  # fmt: skip
        assert not check_one("norm", [zeros(1, 2, channels)], bits).any()


@pytest.mark.parametrize("channels", [1, 2, 3, 5, 96, 192, 1000, 1023, 1024])
def test_norm_bound(channels):
    """A channel alone has the largest result; the bound is kept, and is not far from it."""
    x = zeros(1, 60, channels)
    x[0, :, -1] = [*range(50), *np.geomspace(50, LARGEST, 10)]
    x[0, ::2, -1] *= -1
    for bits in (1, 4, 6, 9, 10, 12):
        graph = Graph()
        fed = graph.input("x", channels)
        made = graph.norm(fed, bits)
        most = np.abs(check(graph, {fed: x}, [made])[0]).max()
        assert most <= graph.bound(made) <= min(LARGEST, 1.13 * channels**0.5 * 2**bits + 1)
        assert most >= min(LARGEST, 0.99 * channels**0.5 * 2**bits - 1)


def attend(q, k, v, heads, shift, bound):
    graph = Graph()
    feeds = {graph.input("x", x.shape[2], most): x for x, most in ((q, bound), (k, bound), (v, LARGEST))}  # fmt: skip
    return check(graph, feeds, [graph.attention(*feeds, heads, shift)])[0]


@pytest.mark.parametrize("channels, heads", [(1, 1), (2, 2), (3, 1), (6, 2), (16, 1), (17, 1), (64, 2), (96, 3), (66, 2)])  # fmt: skip
def test_attention(channels, heads):
    rng = np.random.default_rng(channels)
    most = int(((2**31 - 1) // (channels // heads)) ** 0.5)
    for h, n, t in ((1, 1, 1), (2, 3, 2), (1, 13, 31), (3, 12, 32), (2, 25, 33), (1, 7, 200)):
        for bound in (0, 9, 300, min(most, LARGEST)):
            q, k = (tensor_of(rng, (h, side, channels), bound) for side in (n, t))
            v = tensor_of(rng, (h, t, channels))
            for shift in (0, int(rng.integers(1, 24)), 24):
                attend(q, k, v, heads, shift, bound)


def test_attention_of_every_exponent():
    """Two keys whose scores differ by d: the second's weight is EXP[d], 0 from 1023 on."""
    for shift in (0, 3):
        d = np.arange(1100, dtype=np.int16) << shift
        q = np.ones((len(d), 1, 1), np.int16)
        k = np.stack([zeros(len(d)), -d], 1)[..., None]
        for low, high in ((LARGEST, 0), (-LARGEST, LARGEST), (0, LARGEST)):
            v = np.broadcast_to(np.array([[[low], [high]]], np.int16), k.shape)
            made = attend(q, k, v.copy(), 1, shift, LARGEST).ravel()
        assert made[:2].tolist() == [16383, 16295] and made[1022] == 1 and not made[1023:].any()


def test_exponents_are_not_near_a_half():
    exact = 32767 * 2.0 ** (-np.arange(1023) / 64)
    assert exact[64] == 16383.5 and EXP[64] == 16384  # the only one
    assert np.abs(np.delete(exact, 64) % 1 - 0.5).min() > 1e-4  # float64 is right to 1e-11
    assert np.array_equal(EXP[:-1], np.rint(exact)) and EXP[1022] == 1 and EXP[1023] == 0
    fine = (65534 * 2.0 ** (-np.arange(64) / 64)).astype(int)  # as kernels.hpp has it
    k = np.arange(1023) // 64
    assert np.array_equal(EXP[:-1], fine[np.arange(1023) % 64] + (1 << k) >> k + 1)


@pytest.mark.parametrize("keys", [2, 3, 255, 256, 16384, 32768])
def test_attention_to_keys_alike(keys):
    """Equal shares, rounded down, never more than 1 in all."""
    q, v = np.ones((1, 2, 1), np.int16), np.full((1, keys, 1), LARGEST, np.int16)
    made = attend(q, np.ones_like(v), v, 1, 0, LARGEST)
    assert 0 <= made.min() and made.max() <= LARGEST
    assert keys > 256 or made.min() > 0.99 * LARGEST


def test_scores_just_fit():
    """Scores of ±(2^31 − 2 · 2^16 + 2), whose difference takes 32 bits."""
    q = np.full((1, 1, 2), LARGEST, np.int16)
    k = np.stack([q[0], -q[0]], 1)
    v = np.array([[[5, -6], [LARGEST, LARGEST]]], np.int16)
    for shift in (0, 22, 24):
        attend(q, k, v, 1, shift, LARGEST)
    assert attend(q, k, v, 1, 24, LARGEST).tolist() != attend(q, k, v, 1, 0, LARGEST).tolist()


# ---------------------------------------------------------------- windows and frequencies


def test_fold_and_unfold():
    rng = np.random.default_rng(0)
    for side, heads, e in ((1, 1, 3), (2, 3, 1), (3, 2, 5), (8, 2, 33), (16, 1, 2)):
        for h, w in [*SIZES, (side, side + 1)]:
            x = tensor_of(rng, (h, w, heads * e))
            folded = check_one("fold", [x], side, heads).astype(np.int16)
            assert np.array_equal(check_one("unfold", [folded, x], side, heads), x)
            check_one("unfold", [tensor_of(rng, folded.shape), x], side, heads)


def tables(rng, windows, most):
    """Return windows and their biases, as `window_attention` takes them."""
    n = sum((2 * a - 1) * (2 * b - 1) for a, b, _, _ in windows)
    return np.array(windows, np.int32), tensor_of(rng, (n,)).astype(np.int32) * most // LARGEST


WINDOWS = [(1, 1, 0, 0), (4, 4, 2, 2), (3, 5, 2, 4), (16, 2, 8, 1), (6, 32, 0, 31), (32, 32, 16, 16)]  # fmt: skip


@pytest.mark.parametrize("e", [1, 3, 16, 17, 32])
def test_window_attention(e):
    rng = np.random.default_rng(e)
    for k, (h, w) in enumerate([*SIZES, (9, 8), (33, 5)]):
        bound = int(rng.choice([0, 9, 300, 7000]))
        windows = [WINDOWS[(k + i) % len(WINDOWS)] for i in range(3)]
        shift = (0, int(rng.integers(1, 24)), 24)[k % 3]
        tensors = [tensor_of(rng, (h, w, 3 * e), bound) for _ in range(3)]
        most = int(rng.choice([0, 200, 2**31 - 1 - e * bound**2]))
        check_one("window_attention", tensors, *tables(rng, windows, most), shift, bound=bound)


def test_a_window_of_everything():
    """All places, no bias: attention of a row of them; moved by all but one, each quarter is on its own."""
    rng = np.random.default_rng(0)
    x = tensor_of(rng, (5, 7, 6), 500)
    none = tables(rng, [(5, 7, 0, 0), (32, 32, 0, 0)], 0)
    made = check_one("window_attention", [x, x, x], *none, 9, bound=500)
    assert np.array_equal(made.reshape(1, 35, 6), attend(*[x.reshape(1, 35, 6)] * 3, 2, 9, 500))
    moved = check_one("window_attention", [x, x, x], *tables(rng, [(6, 8, 5, 7)], 0), 9, bound=500)
    assert np.array_equal(moved[:1, :1], x[:1, :1])
    corner = x[1:, 1:].reshape(1, 24, 6)
    assert np.array_equal(moved[1:, 1:].reshape(1, 24, 6), attend(*[corner] * 3, 1, 9, 500))


def test_scores_and_bias_just_fit():
    """Scores of ±(2^31 − 1): to itself, and to the place below, whose value alone counts or does not."""
    graph, rest = Graph(), 2**31 - 1 - LARGEST**2
    x, v = graph.input("x", 1), graph.input("v", 1)
    for sign in (1, -1):
        windows, bias = np.array([[2, 1, 0, 0]], np.int32), np.int32([0, rest * sign, -rest * sign])
        feeds = {x: np.int16([[[LARGEST]], [[-LARGEST * sign]]]), v: np.int16([[[0]], [[9000]]])}
        made = graph.window_attention(x, x, v, windows, bias, 21)
        assert check(graph, feeds, [made])[0][0, 0, 0] == (0 if sign > 0 else 9000)
        with pytest.raises(WeightsMismatchError, match=r"2\^31.*2147483648"):
            graph.window_attention(x, x, v, windows, bias - np.int32([0, 0, sign]), 21)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_modulate(side):
    rng = np.random.default_rng(side)
    for channels in (1, 3, 32, 33, 70):
        for h, w in [*SIZES, (side, side + 1)]:
            x, weight = tensor_of(rng, (h, w, channels)), tensor_of(rng, (side, side, channels))
            for bits in (0, int(rng.integers(1, 15)), 15):
                check_one("modulate", [x], weight, bits)
        assert np.array_equal(check_one("modulate", [x], 0 * weight, bits), x)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_modulate_by_one(side):
    """What comes back is x, but for rounding; a pattern of one frequency by the weight of that alone."""
    x = np.random.default_rng(side).integers(-9000, 9001, (2 * side, side, 3)).astype(np.int16)
    made = check_one("modulate", [x], np.full((side, side, 3), 1 << 12, np.int16), 12)
    assert 0 < np.abs(made - 2 * x).max() < 30
    f, g = side // 2, 1
    x = (COSINES[side][f][:, None, None] * COSINES[side][g][:, None] >> 12).astype(np.int16)
    weight = zeros(side, side, 1)
    weight[f, g] = 1 << 12
    assert np.abs(check_one("modulate", [x], weight, 12) - 2 * x).max() < 16
    assert np.abs(check_one("modulate", [x], 4096 - weight, 12) - x).max() < 30


@pytest.mark.parametrize("side", [4, 8, 16])
def test_cosines(side):
    """Entries are not near a half, so any cosine will do; sums fit; and every sum is as large as it gets."""
    f, t = np.indices((side, side))
    exact = 2**13 * np.sqrt(np.where(f, 2, 1) / side) * np.cos(np.pi * (2 * t + 1) * f / side / 2)
    d = COSINES[side]
    assert np.abs(exact % 1 - 0.5).min() > 0.02 and np.array_equal(d, np.rint(exact))
    assert np.abs(d @ d.T - 2**26 * np.eye(side)).max() < 2**26 / 4000
    assert max(np.abs(d).sum(0).max(), np.abs(d).sum(1).max()) <= 2**15
    for row in (*d, *d.T):
        x = LARGEST * np.where(row < 0, -1, 1).astype(np.int16)
        extreme = np.broadcast_to(x[:, None] * np.ones(side, np.int16), (side, side))
        for image in (extreme, extreme.T, -extreme):
            check_one("modulate", [image[..., None].copy()], np.full((side, side, 1), LARGEST, np.int16), 0)  # fmt: skip


def test_a_transformer():
    """Layers as a masked transformer has them: their stages, and queries fewer than keys."""
    rng, graph = np.random.default_rng(0), Graph()
    x, past = graph.input("x", 1), graph.input("past", 24, 2000)
    feeds = {x: rng.integers(0, 9, (3, 5, 1)).astype(np.int16), past: tensor_of(rng, (3, 40, 24), 2000)}  # fmt: skip
    y = graph.embed(x, tensor_of(rng, (9, 24)))
    for _ in range(2):
        q, k, v = (graph.clamp(graph.conv(graph.norm(y, 8), *realistic(rng, (24, 24))), -2000, 2000) for _ in range(3))  # fmt: skip
        o = graph.attention(q, graph.join(past, k), graph.join(past, v), 3, 14)
        y = graph.add(y, graph.conv(o, *realistic(rng, (24, 24))))
        y = graph.add(y, graph.attention(q, k, k, 3, 14))  # of tensors of the stage before
    check(graph, feeds, [y])
    check(graph, feeds, [*range(len(graph.operations))])


def test_frequency_blocks():
    """Windows, frequencies and channels as a frequency-aware transformer has them, joined with what was there before."""
    rng, graph = np.random.default_rng(0), Graph()
    x = graph.input("x", 24, 2000)
    feeds = {x: tensor_of(rng, (9, 18, 24), 2000)}

    def projected(y):
        return graph.clamp(graph.conv(graph.norm(y, 8), *realistic(rng, (24, 24))), -2000, 2000)

    y, before = x, None
    for moved in (0, 1):
        windows = [(4, 4, 2 * moved, 2 * moved), (16, 4, 8 * moved, 2 * moved), (4, 16, 0, 8 * moved)]  # fmt: skip
        o = graph.window_attention(*(projected(y) for _ in range(3)), *tables(rng, windows, 9999), 14)  # fmt: skip
        y = graph.add(y, graph.conv(o, *realistic(rng, (24, 24))))
        y = graph.add(y, graph.modulate(projected(y), tensor_of(rng, (8, 8, 24)), 15))
        q, k, v = (graph.fold(projected(y), 8, 3) for _ in range(3))
        before = (graph.join(before[0], k), graph.join(before[1], v)) if before else (k, v)
        y = graph.add(y, graph.unfold(graph.attention(q, *before, 3, 14), x, 8, 3))
    check(graph, feeds, [y])
    check(graph, feeds, [*range(len(graph.operations))])


# ---------------------------------------------------------------- graphs

KINDS = [*reference.OPERATIONS, "conv", "conv", "depthwise", "input"]
MOST_VALUES, MOST_PRODUCTS = 1 << 15, 1 << 21  # of a tensor, of a convolution


def random_graph(seed):
    """Return a graph of a few operations of any kind, its feeds, and its tensors."""
    rng = np.random.default_rng(seed)
    graph, feeds, sizes = Graph(), {}, {}

    def new_input(h, w, channels):
        bound = int(rng.choice([0, 1, 255, 4000, LARGEST, LARGEST]))
        number = graph.input(f"x{seed}", channels, bound)
        feeds[number], sizes[number] = tensor_of(rng, (h, w, channels), bound), (h, w)
        return number

    def new_vector(channels, low, high):
        number = graph.vector("v", channels)
        feeds[number] = rng.integers(low, high + 1, channels).astype(np.int16)
        return number

    def partner(x):
        (h, w), channels = sizes[x], graph.operations[x].channels
        fit = [n for n in sizes if sizes[n] == (h, w) and graph.operations[n].channels == channels]
        return rng.choice(fit) if rng.integers(4) else new_input(h, w, channels)

    def beside(x):  # of as many rows and channels
        (h, _), channels = sizes[x], graph.operations[x].channels
        fit = [n for n in sizes if sizes[n][0] == h and graph.operations[n].channels == channels]
        return int(rng.choice(fit)) if rng.integers(2) else new_input(h, rng.integers(1, 20), channels)  # fmt: skip

    def clamped(x, terms, bias=0):  # for X23 and X26
        most = int(((2**31 - 1 - bias) // terms) ** 0.5)
        if graph.bound(x) > most:
            sizes[graph.clamp(x, -most, most)] = sizes[x]
            return list(sizes)[-1]
        return x

    new_input(*rng.integers(1, 20, 2), rng.choice(CHANNELS))
    while len(sizes) < 12:
        x, kind = int(rng.choice(list(sizes))), rng.choice(KINDS)
        (h, w), channels, bound = sizes[x], graph.operations[x].channels, graph.bound(x)
        factor = int(rng.integers(2, 5))
        rest, size = (), (h, w)
        if kind == "input":
            new_input(*rng.integers(1, 20, 2), rng.choice(CHANNELS))
            continue
        if kind == "conv":
            outputs = rng.choice(CHANNELS)
            if h * w * channels * outputs > MOST_PRODUCTS:
                continue
            rest = parameters(rng, (outputs, channels), bound, rng.integers(2))
        elif kind == "depthwise":
            side = rng.choice([3, 5])
            rest = *parameters(rng, (channels, side, side), bound), bool(rng.integers(2))
        elif kind == "patches":
            if 9 * h * w * channels > MOST_VALUES:
                continue
        elif kind == "shuffle":
            if channels % factor**2:
                continue
            rest, size = (factor,), (h * factor, w * factor)
        elif kind == "unshuffle":
            if h % factor or w % factor:
                continue
            rest, size = (factor,), (h // factor, w // factor)
        elif kind == "pad":
            size = h + -h % factor, w + -w % factor
            if size[0] * size[1] * channels > MOST_VALUES:
                continue
            rest = (factor,)
        elif kind == "crop":
            smaller = [n for n in sizes if sizes[n][0] <= h and sizes[n][1] <= w]
            rest = (int(rng.choice(smaller)),)
            size = sizes[rest[0]]
        elif kind == "fold":
            heads, k = int(rng.choice([n for n in (1, 2, 3, 5) if channels % n == 0])), int(rng.integers(1, 6))  # fmt: skip
            if (h + k) * (w + k) * channels > MOST_VALUES:
                continue
            rest, size = (k, heads), (-(-h // k) * -(-w // k), channels // heads)
        elif kind == "unfold":
            folds = [n for n in sizes if graph.operations[n].kind == "fold"]
            if not folds:
                continue
            x = partner(int(rng.choice(folds)))
            fold = next(graph.operations[n] for n in folds if sizes[n] == sizes[x] and graph.operations[n].channels == graph.operations[x].channels)  # fmt: skip
            rest, size = (fold.inputs[0], *fold.numbers), sizes[fold.inputs[0]]
        elif kind in ("add", "subtract"):
            rest = (partner(x),)
        elif kind == "gate":
            rest = partner(x), int(rng.integers(-300, 300))
        elif kind == "merge":
            steps = int(rng.choice([1, 2, 4]))
            rest = partner(x), int(rng.integers(steps)), steps
        elif kind == "offset":
            rest = (new_vector(channels, -LARGEST, LARGEST),)
        elif kind == "scale":
            rest = new_vector(channels, -LARGEST, LARGEST), new_vector(channels, 0, 30)
        elif kind == "shift":
            rest = (int(rng.integers(16)),)
        elif kind == "leaky":
            rest = (int(rng.choice([0, 3277, rng.integers(LARGEST + 1)])),)
        elif kind == "clamp":
            rest = tuple(sorted(rng.integers(-LARGEST, LARGEST + 1, 2).tolist()))
        elif kind == "table":
            most = rng.integers(LARGEST + 1)
            rest = (rng.integers(-most, most + 1, 65536).astype(np.int16),)
        elif kind == "embed":
            x = partner(x) if channels == 1 else new_input(h, w, 1)
            rest = (tensor_of(rng, (int(rng.integers(1, 20)), int(rng.choice(CHANNELS)))),)
        elif kind == "join":
            rest = (beside(x),)
            size = h, w + sizes[rest[0]][1]
        elif kind == "norm":
            if channels > 1024:
                continue
            rest = (int(rng.integers(1, 13)),)
        elif kind == "attention":
            heads = int(rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))
            k = beside(x)
            v = partner(k)
            rest = clamped(k, channels // heads), v, heads, int(rng.integers(25))
            x = clamped(x, channels // heads)
        elif kind == "window_attention":
            heads, most = int(rng.choice([n for n in (1, 2, 3, 5) if channels % n == 0])), int(rng.choice([0, 999, 2**30]))  # fmt: skip
            sides = rng.integers(1, rng.choice([5, 33]), (heads, 2))
            rest = tables(rng, np.concatenate([sides, rng.integers(0, sides)], 1), most)
            k, v = clamped(partner(x), channels // heads, most), partner(x)
            rest, x = (k, v, *rest, int(rng.integers(25))), clamped(x, channels // heads, most)
        elif kind == "modulate":
            side = int(rng.choice([4, 8, 16]))
            rest = tensor_of(rng, (side, side, channels)), int(rng.integers(16))
        sizes[getattr(graph, kind)(x, *rest)] = size
    return graph, feeds, list(sizes)


@pytest.mark.parametrize("part", range(8))
def test_random_graphs(part):
    for seed in range(40 * part, 40 * part + 40):
        graph, feeds, tensors = random_graph(seed)
        check(graph, feeds, tensors)
        for number in tensors[-3:]:  # alone: what it needs may be computed together
            expected = reference.run(described(graph), feeds, [number])
            for variant in variants():
                same(expected, graph.run(feeds, [number], 2, variant), (seed, number, variant))


def residual_blocks(rng, h, w, channels, n):
    """Return a chain of blocks, as networks have, its feeds and its end."""
    graph = Graph()
    first = x = graph.input("x", channels, 4000)
    for _ in range(n):
        y = graph.depthwise(x, *realistic(rng, (channels, 3, 3)), replicate=bool(rng.integers(2)))
        y = graph.leaky(graph.conv(y, *realistic(rng, (2 * channels, channels))), 3277)
        x = graph.add(x, graph.conv(y, *realistic(rng, (channels, 2 * channels))))
    return graph, {first: tensor_of(rng, (h, w, channels), 4000)}, x


def realistic(rng, shape):
    """Return weights of 12 bits, which keep the magnitude of what they see."""
    taps = np.prod(shape[1:])
    weight = np.clip(rng.normal(0, 300, shape), -2047, 2047)
    shift = np.full(shape[0], round(np.log2(300 * np.sqrt(taps))))
    return weight.astype(np.int16), rng.integers(-9999, 9999, shape[0]).astype(np.int32), shift.astype(np.uint8)  # fmt: skip


@pytest.mark.parametrize("h, w, channels", [(67, 45, 32), (3, 300, 17), (131, 2, 48)])
def test_blocks_of_many_rows(h, w, channels):
    graph, feeds, last = residual_blocks(np.random.default_rng(h), h, w, channels, 3)
    check(graph, feeds, [last])
    check(graph, feeds, [*range(len(graph.operations))])


def test_only_what_is_needed():
    graph = Graph()
    x, y = graph.input("x", 1), graph.input("y", 1)
    graph.add(x, y)
    fed = np.ones((1, 1, 1), np.int16)
    doubled = graph.add(x, x)
    assert [v.item() for v in graph.run({x: fed}, [doubled, x, doubled])] == [2, 1, 2]
    assert graph.run({}, []) == []
    found = run_on_device(graph, {x: torch.ones(1, 1, 1, 1).int()}, [doubled, x, doubled])
    assert [v.item() for v in found] == [2, 1, 2] and run_on_device(graph, {}, []) == []


def test_a_graph_may_grow_and_results_are_the_callers():
    graph = Graph()
    x = graph.input("x", 1)
    fed = np.full((1, 1, 1), 5, np.int16)
    y = graph.add(x, x)
    first = graph.run({x: fed}, [x, y])
    z = graph.add(y, x)
    first[0][:] = first[1][:] = 9
    assert [v.item() for v in graph.run({x: fed}, [x, y, z])] == [5, 10, 15] and fed.item() == 5


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("part", range(4))
def test_bounds(part):
    for seed in range(1000 + 50 * part, 1050 + 50 * part):
        graph = random_graph(seed)[0]
        assert [op.bound for op in graph.operations] == reference.bounds(described(graph))


def test_beyond_bound():
    graph = Graph()
    x, v = graph.input("x", 2, 100), graph.vector("v", 2)
    y = graph.offset(x, v)
    fed, values = np.array([[[100, -100]]], np.int16), np.array([-LARGEST, LARGEST], np.int16)
    assert graph.run({x: fed, v: values}, [y])[0].ravel().tolist() == [-32667, 32667]
    for wrong in (101, -101, -32768):
        fed[0, 0, 1] = wrong
        for variant in variants():
            with pytest.raises(InputError, match=rf"x.*100.*{abs(wrong)}"):
                graph.run({x: fed, v: values}, [y], variant=variant)
        with pytest.raises(InputError, match=rf"x.*100.*{abs(wrong)}"):
            run_on_device(graph, {x: torch.tensor(fed[None]), v: torch.tensor(values)}, [y])
    fed[:], values[0] = 0, -32768
    with pytest.raises(InputError, match=r"v.*32767.*32768"):
        graph.run({x: fed, v: values}, [y])
    with pytest.raises(InputError, match=r"v.*32767.*32768"):
        run_on_device(graph, {x: torch.tensor(fed[None]), v: torch.tensor(values)}, [y])


# ---------------------------------------------------------------- refusals


def zeros(*shape, dtype=np.int16):
    return np.zeros(shape, dtype)


def conv_of(weight, bias=0, shift=1, outputs=1):
    return weight, np.full(outputs, bias, np.int32), np.full(outputs, shift, np.uint8)


def within(graph, windows, n, bias_type=np.int32, windows_type=np.int32, shift=0, lowest=0, v=0):
    """Add attention of the tensor X, of a bound of 9, within windows, with n biases."""
    q = graph.clamp(X, -9, 9)
    bias = np.full(n, lowest, bias_type)
    return graph.window_attention(q, q, v, np.array(windows, windows_type), bias, shift)


X, Y, V = 0, 1, 2  # tensors of 4 and 2 channels, a vector of 4
WRONG_GRAPHS = {
    "no such tensor": (lambda g: g.add(X, 9), "input 1: there is no operation 9"),
    "one that would be its own": (lambda g: g.pad(3, 2), "input 0: there is no operation 3"),
    "negative": (lambda g: g.shift(-1, 0), "there is no operation -1"),
    "vector for a tensor": (lambda g: g.add(X, V), "expected a tensor, found vector v"),
    "tensor for a vector": (lambda g: g.offset(X, Y), "expected a vector, found input y"),
    "vector of other channels": (lambda g: g.offset(Y, V), "expected 2 channels, found 4"),
    "scale of other channels": (lambda g: g.scale(Y, V, V), "expected 2 channels, found 4"),
    "add": (lambda g: g.add(X, Y), "expected 4 channels, found 2"),
    "subtract": (lambda g: g.subtract(X, Y), "expected 4 channels, found 2"),
    "gate": (lambda g: g.gate(X, Y, 0), "expected 4 channels, found 2"),
    "merge": (lambda g: g.merge(X, Y, 0, 2), "expected 4 channels, found 2"),
    "no channels": (lambda g: g.input("z", 0), "channels: expected 1 to 65536, found 0"),
    "no vector": (lambda g: g.vector("z", 0), "channels: expected 1 to 65536, found 0"),
    "many channels": (lambda g: g.input("z", 65537), "channels: expected 1 to 65536, found 65537"),
    "channels grow": (lambda g: g.unshuffle(g.input("z", 300), 16), "channels.*76800"),
    "channels grow ninefold": (lambda g: g.patches(g.input("z", 9000)), "channels.*81000"),
    "bound": (lambda g: g.input("z", 1, 32768), "bound: expected 0 to 32767, found 32768"),
    "negative bound": (lambda g: g.input("z", 1, -1), "bound: expected 0 to 32767, found -1"),
    "weight's channels": (lambda g: g.conv(X, *conv_of(zeros(1, 3))), r"int16 \[any, 4\], found int16 \[1, 3\]"),
    "weight's type": (lambda g: g.conv(X, *conv_of(zeros(1, 4, dtype=np.int32))), r"weight: expected int16.*int32"),
    "float weight": (lambda g: g.conv(X, *conv_of(zeros(1, 4, dtype=np.float32))), "weight: expected int16"),
    "weight's rank": (lambda g: g.conv(X, *conv_of(zeros(4))), r"weight.*found int16 \[4\]"),
    "no outputs": (lambda g: g.conv(X, *conv_of(zeros(0, 4), outputs=0)), r"weight.*\[0, 4\]|found 0"),
    "strided weight": (lambda g: g.conv(X, *conv_of(zeros(1, 8)[:, ::2])), "found not contiguous int16"),
    "transposed weight": (lambda g: g.conv(X, *conv_of(zeros(4, 2).T, outputs=2)), "found not contiguous int16"),
    "weight of -32768": (lambda g: g.conv(X, *conv_of(zeros(1, 4) - 32767 - 1)), "weight of output 0: found -32768"),
    "sum": (lambda g: g.conv(X, *conv_of(zeros(1, 4) + 32767)), r"output 0: expected sums below 2\^31, found up to 4294705157"),
    "bias's length": (lambda g: g.conv(X, *conv_of(zeros(1, 4), outputs=2)), r"bias: expected int32 \[1\], found int32 \[2\]"),
    "bias": (lambda g: g.conv(X, *conv_of(zeros(1, 4), bias=2**30 + 1)), "bias of output 0: expected -1073741824 to"),
    "lowest bias": (lambda g: g.conv(X, *conv_of(zeros(1, 4), bias=-(2**31))), "bias of output 0.*found -2147483648"),
    "no shift": (lambda g: g.conv(X, *conv_of(zeros(1, 4), shift=0)), "shift of output 0: expected 1 to 30, found 0"),
    "shift": (lambda g: g.conv(X, *conv_of(zeros(1, 4), shift=31)), "shift of output 0: expected 1 to 30, found 31"),
    "shift's type": (lambda g: g.conv(X, zeros(1, 4), zeros(1, dtype=np.int32), zeros(1)), r"shift: expected uint8 \[1\]"),
    "depthwise of 1": (lambda g: g.depthwise(Y, *conv_of(zeros(2, 1, 1), outputs=2)), r"int16 \[2, 3, 3\], found int16 \[2, 1, 1\]"),
    "depthwise of 7": (lambda g: g.depthwise(Y, *conv_of(zeros(2, 7, 7), outputs=2)), r"found int16 \[2, 7, 7\]"),
    "not square": (lambda g: g.depthwise(Y, *conv_of(zeros(2, 5, 3), outputs=2)), r"int16 \[2, 5, 5\], found int16 \[2, 5, 3\]"),
    "depthwise's channels": (lambda g: g.depthwise(Y, *conv_of(zeros(3, 3, 3), outputs=3)), r"found int16 \[3, 3, 3\]"),
    "depthwise's sum": (lambda g: g.depthwise(Y, *conv_of(zeros(2, 3, 3) + 9999, outputs=2)), r"output 0: expected sums below 2\^31"),
    "depthwise's shift": (lambda g: g.depthwise(Y, *conv_of(zeros(2, 3, 3), 0, 0, 2)), "shift of output 0"),
    "shuffle": (lambda g: g.shuffle(Y, 2), "channels: expected a multiple of 4, found 2"),
    "shuffle by 1": (lambda g: g.shuffle(X, 1), "factor: expected 2 to 16, found 1"),
    "shuffle by 17": (lambda g: g.shuffle(X, 17), "factor: expected 2 to 16, found 17"),
    "unshuffle by 0": (lambda g: g.unshuffle(X, 0), "factor: expected 2 to 16, found 0"),
    "pad to 0": (lambda g: g.pad(X, 0), "multiple: expected 1 to 65536, found 0"),
    "shift of 16": (lambda g: g.shift(X, 16), "bits: expected 0 to 15, found 16"),
    "negative shift": (lambda g: g.shift(X, -1), "bits: expected 0 to 15, found -1"),
    "slope": (lambda g: g.leaky(X, 32768), "slope: expected 0 to 32767, found 32768"),
    "negative slope": (lambda g: g.leaky(X, -1), "slope: expected 0 to 32767, found -1"),
    "low": (lambda g: g.clamp(X, -32768, 0), "low: expected -32767 to 32767, found -32768"),
    "high": (lambda g: g.clamp(X, 0, 32768), "high: expected 0 to 32767, found 32768"),
    "low above high": (lambda g: g.clamp(X, 1, 0), "high: expected 1 to 32767, found 0"),
    "table's length": (lambda g: g.table(X, zeros(65535)), r"table: expected int16 \[65536\], found int16 \[65535\]"),
    "table's type": (lambda g: g.table(X, zeros(65536, dtype=np.int32)), "table: expected int16"),
    "table of -32768": (lambda g: g.table(X, zeros(65536) - 32767 - 1), "table: expected 0 to 32767, found 32768"),
    "least": (lambda g: g.gate(X, X, 32768), "least: expected -32767 to 32767, found 32768"),
    "embed of channels": (lambda g: g.embed(X, zeros(3, 4)), "channels of places: expected 1 to 1, found 4"),
    "embed's table": (lambda g: g.embed(g.input("i", 1), zeros(3)), r"table: expected int16 \[any, any\], found int16 \[3\]"),
    "embed's type": (lambda g: g.embed(g.input("i", 1), zeros(3, 4, dtype=np.int32)), "table: expected int16"),
    "embed without rows": (lambda g: g.embed(g.input("i", 1), zeros(0, 4)), r"table.*\[0, 4\]|found 0"),
    "embed of many rows": (lambda g: g.embed(g.input("i", 1), zeros(32769, 1)), "rows: expected 1 to 32768, found 32769"),
    "embed without channels": (lambda g: g.embed(g.input("i", 1), zeros(3, 0)), r"table.*\[3, 0\]|found 0"),
    "embed of -32768": (lambda g: g.embed(g.input("i", 1), zeros(3, 4) - 32767 - 1), "table: expected 0 to 32767, found 32768"),
    "join": (lambda g: g.join(X, Y), "expected 4 channels, found 2"),
    "norm's bits": (lambda g: g.norm(X, 13), "bits: expected 1 to 12, found 13"),
    "norm without bits": (lambda g: g.norm(X, 0), "bits: expected 1 to 12, found 0"),
    "norm of many": (lambda g: g.norm(g.input("z", 1025), 8), "channels: expected 1 to 1024, found 1025"),
    "keys": (lambda g: g.attention(g.input("z", 4, 9), Y, X, 1, 0), "input 1: expected 4 channels, found 2"),
    "values": (lambda g: g.attention(g.input("z", 4, 9), X, Y, 1, 0), "input 2: expected 4 channels, found 2"),
    "no heads": (lambda g: g.attention(X, X, X, 0, 0), "heads: expected 1 to 4, found 0"),
    "many heads": (lambda g: g.attention(X, X, X, 5, 0), "heads: expected 1 to 4, found 5"),
    "heads": (lambda g: g.attention(X, X, X, 3, 0), "heads: expected a divisor of 4, found 3"),
    "attention's shift": (lambda g: g.attention(X, X, X, 4, 25), "shift: expected 0 to 24, found 25"),
    "attention's negative shift": (lambda g: g.attention(X, X, X, 4, -1), "shift: expected 0 to 24, found -1"),
    "scores": (lambda g: g.attention(X, X, X, 1, 0), r"bounds: expected sums below 2\^31, found up to 4294705156"),
    "fold by 0": (lambda g: g.fold(X, 0, 1), "side: expected 1 to 16, found 0"),
    "fold by 17": (lambda g: g.fold(X, 17, 1), "side: expected 1 to 16, found 17"),
    "fold's heads": (lambda g: g.fold(X, 2, 3), "heads: expected a divisor of 4, found 3"),
    "fold without heads": (lambda g: g.fold(X, 2, 0), "heads: expected 1 to 4, found 0"),
    "fold into many": (lambda g: g.fold(g.input("z", 600), 16, 300), "channels: expected 1 to 65536, found 76800"),
    "unfold by 17": (lambda g: g.unfold(X, X, 17, 1), "side: expected 1 to 16, found 17"),
    "unfold's channels": (lambda g: g.unfold(X, X, 1, 2), "channels: expected 2, found 4"),
    "unfold's heads": (lambda g: g.unfold(X, Y, 1, 4), "heads: expected 1 to 2, found 4"),
    "unfold's divisor": (lambda g: g.unfold(X, X, 1, 3), "heads: expected a divisor of 4, found 3"),
    "windows' type": (lambda g: within(g, [[1, 1, 0, 0]], 1, windows_type=np.int64), r"windows: expected int32 \[any, 4\]"),
    "windows' shape": (lambda g: within(g, [[1, 1, 0]], 1), r"windows: expected int32 \[any, 4\], found int32 \[1, 3\]"),
    "windows of no head": (lambda g: within(g, np.zeros((0, 4)), 0), r"windows.*\[0, 4\]|heads: .*found 0"),
    "windows of heads": (lambda g: within(g, [[1, 1, 0, 0]] * 3, 3), "heads: expected a divisor of 4, found 3"),
    "no height": (lambda g: within(g, [[1, 1, 0, 0], [0, 1, 0, 0]], 1), "height of head 1: expected 1 to 32, found 0"),
    "width": (lambda g: within(g, [[1, 33, 0, 0]], 65), "width of head 0: expected 1 to 32, found 33"),
    "dy": (lambda g: within(g, [[2, 1, 2, 0]], 3), "dy of head 0: expected 0 to 1, found 2"),
    "dx": (lambda g: within(g, [[2, 1, 0, -1]], 3), "dx of head 0: expected 0 to 0, found -1"),
    "bias of windows": (lambda g: within(g, [[2, 3, 0, 0], [1, 2, 0, 0]], 17), r"bias: expected int32 \[18\], found int32 \[17\]"),
    "bias's type of windows": (lambda g: within(g, [[1, 1, 0, 0]], 1, np.int16), r"bias: expected int32 \[1\]"),
    "shift of windows": (lambda g: within(g, [[1, 1, 0, 0]], 1, shift=25), "shift: expected 0 to 24, found 25"),
    "lowest bias of windows": (lambda g: within(g, [[1, 1, 0, 0]], 1, lowest=-(2**31)), r"expected sums below 2\^31, found up to 2147483972"),
    "scores of windows": (lambda g: g.window_attention(X, X, X, np.int32([[1, 1, 0, 0]]), zeros(1, dtype=np.int32), 0), r"expected sums below 2\^31, found up to 4294705156"),
    "keys of windows": (lambda g: g.window_attention(Y, X, Y, np.int32([[1, 1, 0, 0]]), zeros(1, dtype=np.int32), 0), "expected 2 channels, found 4|2\\^31"),
    "values of windows": (lambda g: within(g, [[1, 1, 0, 0]], 1, v=Y), "input 2: expected 4 channels, found 2"),
    "modulate by 5": (lambda g: g.modulate(X, zeros(5, 5, 4), 0), r"weight: expected int16 \[16, 16, 4\], found int16 \[5, 5, 4\]"),
    "modulate not square": (lambda g: g.modulate(X, zeros(8, 4, 4), 0), r"weight: expected int16 \[8, 8, 4\]"),
    "modulate's channels": (lambda g: g.modulate(X, zeros(4, 4, 3), 0), r"weight: expected int16 \[4, 4, 4\]"),
    "modulate's type": (lambda g: g.modulate(X, zeros(4, 4, 4, dtype=np.int32), 0), "weight: expected int16"),
    "modulate by -32768": (lambda g: g.modulate(X, zeros(4, 4, 4) - 32767 - 1, 0), "found -32768"),
    "modulate's bits": (lambda g: g.modulate(X, zeros(4, 4, 4), 16), "bits: expected 0 to 15, found 16"),
    "steps": (lambda g: g.merge(X, X, 0, 3), "steps: expected 1, 2 or 4, found 3"),
    "step": (lambda g: g.merge(X, X, 2, 2), "step: expected 0 to 1, found 2"),
    "negative step": (lambda g: g.merge(X, X, -1, 2), "step: expected 0 to 1, found -1"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_GRAPHS)
def test_refused(case):
    graph = Graph()
    assert (graph.input("x", 4), graph.input("y", 2), graph.vector("v", 4)) == (X, Y, V)
    build, message = WRONG_GRAPHS[case]
    before = len(graph.operations)
    with pytest.raises(WeightsMismatchError, match=message):
        build(graph)
    x = graph.add(X, X)  # the graph is what it was, and goes on
    assert x - before in (0, 1) and len(graph.operations) == x + 1
    assert graph.run({X: zeros(1, 1, 4) + 1}, [x])[0].tolist() == [[[2, 2, 2, 2]]]


def test_errors_name_the_operation():
    graph = Graph()
    x = graph.input("x", 4)
    with pytest.raises(WeightsMismatchError, match=r"^g_s\.3\.expand: weight"):
        graph.conv(x, *conv_of(zeros(1, 3)), name="g_s.3.expand")
    with pytest.raises(WeightsMismatchError, match=r"^pad: multiple"):
        graph.pad(x, 0)


FED = {X: zeros(2, 3, 4), Y: zeros(2, 3, 2), V: zeros(4)}
WRONG_FEEDS = {
    "missing": ({X: None}, "input x"),
    "missing vector": ({V: None}, "vector v"),
    "type": ({X: zeros(2, 3, 4, dtype=np.int32)}, r"input x: expected int16 \[h, w, 4\], found int32"),
    "unsigned": ({X: zeros(2, 3, 4, dtype=np.uint16)}, "input x: expected int16"),
    "big-endian": ({X: zeros(2, 3, 4).astype(">i2")}, "expected"),
    "rank": ({X: zeros(6, 4)}, r"input x.*\[6, 4\]"),
    "channels": ({X: zeros(2, 3, 5)}, r"input x.*\[2, 3, 5\]"),
    "not contiguous": ({X: zeros(2, 6, 4)[:, ::2]}, "input x.*not contiguous"),
    "channels first": ({X: zeros(4, 2, 3).transpose(1, 2, 0)}, "input x.*not contiguous"),
    "backwards": ({X: zeros(2, 3, 4)[::-1]}, "input x.*not contiguous"),
    "no rows": ({X: zeros(0, 3, 4)}, "input x.*0"),
    "no columns": ({X: zeros(2, 0, 4)}, "input x.*0"),
    "beyond bound": ({Y: zeros(2, 3, 2) + 8}, r"input y.*±7.*8"),
    "vector's type": ({V: zeros(4, dtype=np.int64)}, r"vector v: expected int16 \[4\]"),
    "vector's length": ({V: zeros(5)}, r"vector v.*\[5\]"),
    "vector of a shift": ({V: zeros(4) + 31}, "scale.*0 to 30.*31"),
    "vector of a negative shift": ({V: zeros(4) - 1}, "scale.*0 to 30.*-1"),
    "one more": ({3: zeros(2, 3, 4)}, "3"),
    "no such tensor": ({99: zeros(2, 3, 4)}, "99"),
    "another size": ({Y: zeros(3, 2, 2)}, "add.*2 x 3.*3 x 2"),
    "list": ({X: [[[0]]]}, "expected an array"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_FEEDS)
def test_run_refused(case):
    graph = Graph()
    assert (graph.input("x", 4), graph.input("y", 2, 7), graph.vector("v", 4)) == (X, Y, V)
    scaled = graph.scale(X, V, V)
    last = graph.add(graph.conv(scaled, *conv_of(zeros(2, 4), outputs=2)), Y)
    changed, message = WRONG_FEEDS[case]
    feeds = {n: x for n, x in (FED | changed).items() if x is not None}
    graph.run(FED, [last])
    for variant in variants():
        with pytest.raises(InputError, match=message):
            graph.run(feeds, [last], variant=variant)


def test_grids_that_do_not_fit():
    graph = Graph()
    x, y = graph.input("x", 4), graph.input("y", 4)
    v = graph.vector("v", 4)
    small, row, many = graph.input("z", 4), graph.input("q", 1), graph.input("k", 1)
    thin, one_window = graph.input("t", 4), (np.int32([[1, 1, 0, 0]]), zeros(1, dtype=np.int32))
    feeds = {x: zeros(3, 4, 4), y: zeros(3, 3, 4), v: zeros(4)}
    feeds |= {
        small: zeros(2, 4, 4),
        row: zeros(1, 1, 1),
        many: zeros(1, 32769, 1),
        thin: zeros(2, 3, 4),
    }
    batch = {n: torch.tensor(f[None] if f.ndim == 3 else f) for n, f in feeds.items()}
    for number, message in (
        (graph.add(x, y), "add.*one size"),
        (graph.subtract(x, y), "subtract.*one size"),
        (graph.gate(x, y, 0), "gate.*one size"),
        (graph.merge(x, y, 0, 2), "merge.*one size"),
        (graph.unshuffle(x, 2), "unshuffle.*multiples of 2"),
        (graph.crop(y, x), "crop.*3 *x *3"),
        (graph.join(x, small), "join.*as many rows"),
        (graph.unfold(x, y, 2, 1), "unfold.*4 *x *4.*3"),  # of 3 x 4
        (graph.unfold(thin, small, 2, 1), "unfold.*2 *x *4.*3"),
        (graph.window_attention(row, many, row, *one_window, 0), "window_attention.*one size"),
        (graph.window_attention(row, row, many, *one_window, 0), "window_attention.*one size"),
        (graph.attention(small, small, x, 4, 0), "attention.*keys and values"),
        (graph.attention(small, x, x, 4, 0), "attention.*keys and values"),
        (graph.attention(x, small, x, 4, 0), "attention.*keys and values"),
        (graph.attention(x, y, x, 4, 0), "attention.*keys and values"),
        (graph.attention(row, many, many, 1, 0), "attention.*at most 32768"),
        (v, "wanted"),
        (-1, "wanted"),
        (99, "wanted"),
    ):
        with pytest.raises(InputError, match=message):
            graph.run(feeds, [number])
        with pytest.raises(InputError, match=message):
            run_on_device(graph, batch, [number])
    far = graph.pad(x, 65536)
    with pytest.raises(InputError, match=r"pad.*2\^29"):
        graph.run(feeds, [far])


def test_options_refused():
    graph = Graph()
    x = graph.input("x", 1)
    with pytest.raises(InputError, match=r"threads.*0"):
        graph.run({x: zeros(1, 1, 1)}, [x], threads=0)
    with pytest.raises(InputError, match="sse9"):
        graph.run({x: zeros(1, 1, 1)}, [x], variant="sse9")


@pytest.mark.parametrize(
    "wrong, message",
    [
        (None, "input x: missing"),
        (torch.zeros(1, 2, 3, 4), "integers"),
        (torch.zeros(2, 3, 4).int(), r"\[B, h, w, 4\]"),
        (torch.zeros(1, 2, 3, 5).int(), r"\[1, 2, 3, 5\]"),
        (torch.zeros(1, 0, 3, 4).int(), r"\[1, 0, 3, 4\]"),
        (torch.zeros(1, 2, 3, 4).int() - 2**31, "2147483648"),
    ],
)
def test_device_refuses(wrong, message):
    graph = Graph()
    x, v = graph.input("x", 4), graph.vector("v", 4)
    y = graph.scale(x, v, v)
    feeds = {v: torch.zeros(4).int()} | ({} if wrong is None else {x: wrong})
    with pytest.raises(InputError, match=message):
        run_on_device(graph, feeds, [y])
    for shift in (-1, 31):
        with pytest.raises(InputError, match=r"scale.*30"):
            run_on_device(graph, {x: torch.zeros(1, 2, 3, 4).int(), v: torch.tensor([0, 0, 0, shift])}, [y])  # fmt: skip


# ---------------------------------------------------------------- threads, processes, devices


def test_threads_share_a_graph():
    rng = np.random.default_rng(0)
    graph, feeds, last = residual_blocks(rng, 40, 30, 16, 2)
    inputs = [{n: tensor_of(rng, x.shape, 4000) for n, x in feeds.items()} for _ in range(6)]
    expected = [reference.run(described(graph), fed, [last]) for fed in inputs]
    with ThreadPoolExecutor(6) as pool:
        made = pool.map(lambda k: graph.run(inputs[k % 6], [last], threads=1 + k % 3), range(60))
        for k, found in enumerate(made):
            same(expected[k % 6], found, k)


FORK = """
import multiprocessing, os, sys, warnings
warnings.simplefilter("ignore")  # of Python 3.12, about forks beside threads
import numpy as np
import test_exact
graph, feeds, last = test_exact.residual_blocks(np.random.default_rng(0), 40, 30, 16, 2)

def run(_):
    return graph.run(feeds, [last], threads=3)[0].tobytes()

here = run(0)
process = os.fork()
if not process:
    os._exit(run(0) != here)
assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert set(pool.map(run, range(8))) == {here}
print("alike")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_forks():
    """No thread of the parent's is needed, or waited for, in its children."""
    paths = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", FORK],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stdout == "alike\n", done.stderr


@pytest.mark.gpu
def test_gpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for seed in range(200):
        graph, feeds, tensors = random_graph(seed)
        expected = reference.run(described(graph), feeds, tensors)
        same(expected, on_device(graph, feeds, tensors, "cuda"), seed)
    for channels in (48, 112):
        graph, feeds, last = residual_blocks(np.random.default_rng(0), 67, 45, channels, 2)
        expected = reference.run(described(graph), feeds, [last])
        same(expected, on_device(graph, feeds, [last], "cuda"), channels)


def test_a_tensor_of_more_than_16_million_pixels():
    """As a file in one tile may have."""
    graph = Graph()
    x = graph.input("x", 1)
    y = graph.clamp(graph.shift(x, 1), -9, 9)
    data = np.zeros((4097, 4099, 1), np.int16)
    data[-1, -1] = 5
    (found,) = graph.run({x: data}, [y], 3)
    assert found.shape == data.shape and found[-1, -1, 0] == 3 and found.sum() == 3
