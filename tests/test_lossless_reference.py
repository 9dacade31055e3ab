"""Family lossless's C++ against tests/reference_lossless.py: every requirement of specs/lossless.md."""

import re

import numpy as np
import pytest
import reference_lossless as reference
from conftest import ROOT

from ncodec.errors import CorruptPayloadError, TruncatedError
from ncodec.lossless import _lossless

SPEC = ROOT / "specs" / "lossless.md"


def test_requirements():
    """They are numbered without gaps, and the tests that they name exist."""
    text = SPEC.read_text(encoding="utf-8")
    numbers = [int(n) for n in re.findall(r"^- \*\*L(\d+)\*\*", text, flags=re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    for file, name in re.findall(r"tests/(test_\w+\.py)::(test_\w+)", text):
        assert f"def {name}(" in (ROOT / "tests" / file).read_text()


def same(payload, shape, bit_depth):
    """Whether both decode alike, or both refuse."""
    height, width, channels = shape
    try:
        expected = reference.decode(payload, width, height, channels, bit_depth)
    except reference.Damaged as error:
        kind = TruncatedError if str(error) == "truncated" else CorruptPayloadError
        with pytest.raises(kind):
            _lossless.decode(payload, width, height, channels, bit_depth)
        return False
    found = _lossless.decode(payload, width, height, channels, bit_depth)
    return np.array_equal(found, np.array(expected).reshape(shape))


def picture(channels, bit_depth, rng):
    """A smooth one, somewhat noisy."""
    most, (y, x) = (1 << bit_depth) - 1, np.mgrid[:9, :21]
    waves = (np.sin(x / 5) + np.cos(y / 4)) * most / 5 + most / 2
    channel = waves[..., None] + np.arange(channels) * most / 50
    noisy = np.clip(channel + rng.normal(0, most / 60, channel.shape), 0, most)
    return noisy.astype(np.uint8 if bit_depth == 8 else np.uint16)


@pytest.mark.parametrize(("channels", "bit_depth"), [(1, 8), (1, 16), (2, 16), (3, 8), (3, 11), (4, 8), (4, 16)])  # fmt: skip
def test_any_picture(channels, bit_depth, monkeypatch):
    rng = np.random.default_rng(channels * bit_depth)
    pixels = picture(channels, bit_depth, rng)
    sparse = pixels >> (bit_depth - 4) << (bit_depth - 4)
    drawn = np.zeros((16, 18, channels), pixels.dtype)  # few colours
    drawn[4:9, 5:9], drawn[12:15, :] = pixels[:1, :1], pixels[:3, :1] // 2
    mixed = np.concatenate([drawn[:, :9]] * 2 + [rng.integers(0, 1 << bit_depth, (15, 9, channels), pixels.dtype)])  # fmt: skip
    if channels % 2 == 0:
        for made, share in ((pixels, 0.7), (mixed, 0.95)):
            made[..., -1] *= rng.random(made.shape[:2]) < share
    rests, whole = [], reference.decode_indexes

    def decode_indexes(*arguments):
        rests.append(True)
        return whole(*arguments)

    monkeypatch.setattr(reference, "decode_indexes", decode_indexes)
    for effort, made, exact in ((1, pixels, True), (2, pixels, False), (3, sparse, False), (2, drawn, True), (1, mixed, False)):  # fmt: skip
        payload = _lossless.encode(np.ascontiguousarray(made), bit_depth, effort, exact)
        assert same(payload, made.shape, bit_depth)
    assert len(rests) > 1, "palettes are among them"


def test_any_bytes():
    """Payloads that no encoder makes."""
    rng = np.random.default_rng(3)
    for k in range(60):
        data = rng.integers(0, 256, 40, np.uint8)
        data[0] |= (0, 0x80, 0xC0)[k % 3]
        same(data.tobytes(), (3, 4, 1 + k % 4), (8, 16)[k % 2])
