"""Residual blocks: `ncodec.dct.BlockCoder` (specs/dct_blocks.md) and the learning of its matrices."""

import hashlib
import re

import numpy as np
import pytest
from conftest import ROOT

from ncodec.dct import BlockCoder, _dct, load_parameters
from ncodec.dct.parameters import initial
from ncodec.errors import (
    CorruptPayloadError,
    InputError,
    LimitError,
    NcodecError,
    TruncatedError,
    UnknownModelError,
    WeightsMismatchError,
)

SIDES = (4, 8, 16, 32, 64)
PARAMETERS = initial()


def residuals(side, n=6, seed=0, most=255):
    """Blocks that look like residuals: smooth, of changing strength, some of them 0."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(n, side + 4, side + 4))
    smooth = sum(noise[:, y : y + side, x : x + side] for y in range(5) for x in range(5))
    strength = rng.choice([0, 1, 4, 16], n)
    return np.clip(smooth * strength[:, None, None], -most, most).astype(np.int16)


def coder(q=4, **options):
    return BlockCoder(q, PARAMETERS, **options)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("q", [1, 4.35, 8])
def test_round_trip_is_exact(side, q):
    blocks = residuals(side)
    for options in (
        {},
        {"entropy": "conditional", "matrix": "flat"},
        {"entropy": "frequency", "plane": "chroma"},
        {"transform": "angle", "bit_depth": 10},
        {"optimised": False, "bit_depth": 9},
    ):
        one = coder(q, **options)
        for width in (None, 2, 4):
            data = one.encode(blocks, width)
            decoded = coder().decode(data)  # options are the payload's
            np.testing.assert_array_equal(decoded, one.reconstruct(one.quantise(blocks, width)))
            assert decoded.dtype == np.int16 and decoded.shape == blocks.shape


@pytest.mark.parametrize("side", SIDES)
def test_error_falls_with_quality(side):
    # Smooth blocks: 64x64 keeps only its low frequencies.
    blocks = np.repeat(np.repeat(residuals(4, 12), side // 4, 1), side // 4, 2)
    errors, sizes = [], []
    for q in (1, 3, 5, 8):
        data = coder(q, optimised=False).encode(blocks)
        errors.append(np.mean((coder().decode(data) - blocks.astype(float)) ** 2))
        sizes.append(len(data))
    assert errors == sorted(errors, reverse=True) and sizes == sorted(sizes)


def test_transform_is_orthonormal():
    for side in SIDES:
        blocks = residuals(side)
        for transform in ("dct", "angle") + ("dst",) * (side <= 16):
            c = coder(transform=transform).transform(blocks)
            energy = np.sum(blocks.astype(float) ** 2)
            assert np.sum(c.astype(float) ** 2) == pytest.approx(energy, rel=0.01)


def test_bytes_are_the_same_everywhere():
    """Decoding is exact: levels of integers give these residuals on every machine."""
    levels = np.zeros((2, 16, 16), np.int16)
    levels[0, :4, :4] = np.arange(-8, 8).reshape(4, 4)
    levels[1, 15, 15] = 3
    digest = hashlib.sha256(coder().reconstruct(levels).astype("<i2").tobytes()).hexdigest()
    assert digest[:16] == "3f2e1d3aaa8ca96f"


def test_full_scale_fits():
    for depth in (8, 9, 10):
        most = (1 << depth) - 1
        for side in SIDES:
            blocks = np.full((2, side, side), most, np.int16)
            blocks[1, ::2] = -most
            one = coder(8, bit_depth=depth)
            assert np.abs(one.decode(one.encode(blocks))).max() <= most


def test_no_blocks():
    data = coder().encode(np.zeros((0, 8, 8), np.int16))
    assert len(data) == 5 and coder().decode(data).shape == (0, 8, 8)


def test_payload_is_as_specified():
    text = (ROOT / "specs" / "dct_blocks.md").read_text()
    example = re.search(r"`((?:[0-9A-F]{2} )+[0-9A-F]{2})`", text)
    blocks = np.zeros((200, 8, 8), np.int16)
    one = coder(4, entropy="conditional", plane="chroma")
    assert one.encode(blocks, 20)[:6] == bytes.fromhex(example[1])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: d[:3], TruncatedError),
        (lambda d: d[:5], TruncatedError),
        (lambda d: d[:-1], TruncatedError),
        (lambda d: d + b"\0", CorruptPayloadError),
        (lambda d: bytes([d[0] | 3]) + d[1:], CorruptPayloadError),
        (lambda d: bytes([d[0] | 3 << 3]) + d[1:], CorruptPayloadError),
        (lambda d: bytes([d[0] | 3 << 6]) + d[1:], CorruptPayloadError),
        (lambda d: d[:1] + b"\x8d" + d[2:], CorruptPayloadError),
        (lambda d: d[:2] + b"\x07" + d[3:], CorruptPayloadError),
        (lambda d: d[:4] + b"\0" + d[5:], CorruptPayloadError),
        (lambda d: d[:4] + b"\x63" + d[5:], CorruptPayloadError),
        (lambda d: d[:3] + b"\xff\xff\xff\xff\x0f" + d[4:], LimitError),
    ],
)
def test_damaged_payloads(change, error):
    data = coder().encode(residuals(8))
    with pytest.raises(error):
        coder().decode(change(data))


def test_fuzz():
    rng = np.random.default_rng(0)
    for side in SIDES:
        data = np.frombuffer(coder(8).encode(residuals(side), 2), np.uint8)
        for _ in range(150):
            damaged = data.copy()
            at = rng.integers(0, len(data), rng.integers(1, 4))
            damaged[at] ^= rng.integers(1, 256, len(at)).astype(np.uint8)
            damaged = damaged[: rng.integers(0, len(data) + 1)] if rng.random() < 0.3 else damaged
            try:
                coder().decode(damaged.tobytes(), max_samples=1 << 16)
            except NcodecError:
                pass


def test_arguments():
    for bad in (
        {"q": 0.5},
        {"q": 4.01},
        {"q": float("nan")},
        {"entropy": "huffman"},
        {"matrix": "round"},
        {"transform": "fourier"},
        {"bit_depth": 12},
        {"plane": "alpha"},
        {"lmbda": 0.0},
    ):
        with pytest.raises(InputError):
            coder(**bad)
    with pytest.raises(WeightsMismatchError):
        BlockCoder(4, {})
    with pytest.raises(WeightsMismatchError):
        BlockCoder(4, PARAMETERS | {"log_step": np.zeros(3, np.int16)})
    with pytest.raises(UnknownModelError):
        load_parameters("no/such/file")
    for shape in ((4, 8), (4, 8, 16), (4, 12, 12), (4, 2, 2)):
        with pytest.raises(InputError):
            coder().encode(np.zeros(shape, np.int16))
    with pytest.raises(InputError):
        coder().encode(np.full((1, 8, 8), 256, np.int16))
    with pytest.raises(InputError):
        coder().encode(np.zeros((4, 8, 8), np.int16), width=5)
    with pytest.raises(InputError):
        coder(transform="dst").encode(np.zeros((4, 32, 32), np.int16))
    with pytest.raises(TypeError):
        coder().encode(np.zeros((4, 8, 8), np.int32))
    with pytest.raises(TypeError):
        coder().encode(np.zeros((4, 8, 16), np.int16)[:, :, ::2])


def test_not_a_weights_file(tmp_path):
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(WeightsMismatchError):
        load_parameters(tmp_path / "no.safetensors")


def test_ordering():
    """Contexts that adapt beat what nothing is known of, by far: the parameters are untrained."""
    blocks = residuals(8, 400, seed=1)
    sizes = {
        entropy: len(coder(6, entropy=entropy, optimised=False).encode(blocks, 20))
        for entropy in ("frequency", "conditional", "adaptive")
    }
    assert sizes["adaptive"] < 0.9 * sizes["conditional"]
    assert sizes["adaptive"] < 0.9 * sizes["frequency"]


def test_leaves_are_what_the_encoder_transforms():
    rng = np.random.default_rng(2)
    pixels = np.clip(128 + np.cumsum(rng.normal(0, 6, (72, 104, 3)), 1), 0, 255).astype(np.uint8)
    options = _dct.EncoderOptions()
    options.binary_depth = 0  # leaves that are no squares are left out
    leaves = _dct.leaf_coefficients(pixels, _dct.Parameters(PARAMETERS), 100, 0, options)
    area = np.zeros(3, int)
    step = 2.0 ** (PARAMETERS["log_step"][5, 0] / 256)
    for size, (about, coefficients, levels) in enumerate(leaves):
        np.add.at(area, about[:, 0], (4 << size) ** 2)
        off = np.abs(coefficients - levels * step / 2)[levels != 0]
        assert (off < 1.51 * step).all()  # of half-steps: a neighbour of the nearest, or one less
    assert area.tolist() == [72 * 104] * 3


def test_matrices_learn_what_pays():
    """Strong low and weak high frequencies, far too fine steps: learning finds coarser ones."""
    from ncodec.training.dct.matrices import Blocks, learn

    rng = np.random.default_rng(3)
    scale = 60 / (1 + np.add.outer(np.arange(8), np.arange(8))) ** 1.5
    blocks = {}
    for q in (0, 7):
        c = (rng.laplace(size=(100, 8, 8)) * scale).astype(np.float32)
        blocks[q, 0, 1] = Blocks(c, np.zeros(100, np.int64), 18 / 0.6931 / 24.0**2 / 3)
    log_step = np.full((8, 3), round(256 * np.log2(12)), np.int16)
    for optimised in (True, False):
        learned = learn(
            blocks, log_step, PARAMETERS["matrix"], iterations=6, rate=0.1, optimised=optimised
        )
        assert learned.costs[-1] < learned.costs[0] - 0.01
        assert learned.log_step.dtype == np.int16 and learned.matrix.dtype == np.int8
        assert learned.matrix.shape == (8, 2, 5, 64)
        wider = (
            learned.log_step[[0, 7], 0] + 8 * learned.matrix[[0, 7], 0, 1].mean(1) - log_step[0, 0]
        )
        assert (wider > 25).all()  # of 1/256 octave
        assert (learned.log_step[1:7] == log_step[1:7]).all()  # nothing to learn from
        assert not learned.matrix[:, 1].any()
