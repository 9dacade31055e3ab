"""Family lossless: what comes back, damage, sizes. Its rules are tested in test_lossless_reference.py."""

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageDraw

from ncodec.errors import CorruptPayloadError, FormatError, InputError, TruncatedError
from ncodec.lossless import _lossless
from ncodec.models.lossless.codec import LosslessCodec, Options
from ncodec.models.protocol import TileFormat, only_payload

CODEC = LosslessCodec()


@pytest.fixture(scope="module")
def photo():
    with Image.open(ROOT / "kodak_eval" / "kodim23.png") as image:
        return np.asarray(image.crop((200, 200, 296, 264)))


def drawing():
    image = Image.new("RGB", (160, 96), (240, 240, 240))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 160, 14), fill=(40, 60, 90))
    for i in range(5):
        draw.text((6, 16 + 14 * i), f"Some words, again and again {i % 2}", fill=(20, 20, 20))
    return np.asarray(image)


def encode(pixels, bit_depth=8, **options):
    return only_payload(CODEC.encode_tile(pixels, 0, Options(**options), bit_depth))


def decode(payload, like, bit_depth=8):
    channels = like.shape[2] if like.ndim == 3 else 1
    format = TileFormat(like.shape[1], like.shape[0], channels, bit_depth)
    return CODEC.decode_tiles([[[payload]]], 0, format)[0]


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bit_depth", [8, 10, 16])
def test_round_trip(channels, bit_depth):
    """Noise, ramps, few values, all the same; of one pixel and up; contiguous or not."""
    rng = np.random.default_rng(bit_depth)
    dtype, most = (np.uint8 if bit_depth == 8 else np.uint16), (1 << bit_depth) - 1
    for effort, (h, w) in ((1, (1, 1)), (2, (1, 9)), (3, (7, 1)), (2, (9, 37))):
        ramp = np.arange(h)[:, None, None] * 3 + np.arange(w)[:, None] * 5 + np.arange(channels)
        for pixels in (
            rng.integers(0, most + 1, (h, w, channels)),
            ramp * (1 + most // 300) % (most + 1),
            rng.integers(0, 4, (h, w, channels)) * (most // 3),
            np.full((h, w, channels), most),
        ):
            pixels = pixels.astype(dtype)[:, ::-1]
            pixels = pixels[..., 0] if channels == 1 else pixels
            payload = encode(pixels, bit_depth, effort=effort, exact=True)
            back = decode(payload, pixels, bit_depth)
            assert back.dtype == dtype and back.shape == pixels.shape
            assert np.array_equal(back, pixels)


def test_hidden_colour(photo):
    alpha = np.zeros((*photo.shape[:2], 1), np.uint8)
    alpha[10:50, 20:] = 255
    pixels = np.concatenate([photo, alpha], 2)
    exact, cleaned = encode(pixels, exact=True), encode(pixels)
    assert np.array_equal(decode(exact, pixels), pixels)
    assert np.array_equal(decode(cleaned, pixels), np.where(alpha == 0, 0, pixels))
    assert len(cleaned) < 0.6 * len(exact)


def test_sizes(photo):
    """Photographs beat deflate by far, drawings are tiny, rare values cost nothing, and efforts are worth theirs."""
    assert len(encode(photo, effort=3)) < len(encode(photo)) < len(encode(photo, effort=1)) < 9250
    assert len(encode(drawing())) < 1000
    deep = photo.astype(np.uint16)
    plain = len(encode(photo))
    assert len(encode(deep * 257, 16)) < plain + 64 and len(encode(deep * 4, 10)) < plain + 64
    assert len(encode(np.full((64, 64, 3), 77, np.uint8))) < 16


@pytest.mark.parametrize("make", [drawing, lambda: drawing() // 3 + np.arange(160, dtype=np.uint8)[:, None]])  # fmt: skip
def test_every_truncation(make):
    pixels = make()[:40, :60]
    payload = encode(pixels)
    for size in range(len(payload)):
        with pytest.raises(TruncatedError, match="ends before the last bin"):
            decode(payload[:size], pixels)


def test_bytes_left_over(photo):
    payload = encode(photo[:9, :9])
    with pytest.raises(CorruptPayloadError, match="left over"):
        decode(payload + b"\0", photo[:9, :9])


def test_damaged():
    """Any bytes are pixels or an error of the format, and so is a payload of other pixels."""
    rng = np.random.default_rng(5)
    outcomes = set()
    for k in range(250):
        channels, bit_depth = 1 + k % 4, (8, 12, 16)[k % 3]
        data = rng.integers(0, 256, rng.integers(0, 120), np.uint8)
        data[:1] |= (0, 0x80, 0xC0, 0xFF)[k // 4 % 4]
        like = np.zeros((5, 6, channels), np.uint8 if bit_depth == 8 else np.uint16)
        try:
            decode(data.tobytes(), like, bit_depth)
        except FormatError as error:
            outcomes.add(str(error))
    assert {o.split(": ")[1] for o in outcomes} >= {"ends before the last bin", "bytes are left over after the last bin"}  # fmt: skip
    assert any("values" in o or "palette" in o for o in outcomes)


def test_input():
    for pixels, bit_depth, message in (
        (np.zeros((2, 2, 5), np.uint8), 8, "channels"),
        (np.zeros((0, 2, 1), np.uint8), 8, "sides"),
        (np.full((2, 2, 1), 1024, np.uint16), 10, "beyond the bit depth"),
        (np.zeros((2, 2, 1), np.uint8), 9, "beyond their type"),
        (np.zeros((2, 2, 1), np.uint16), 17, "bit depth"),
    ):
        with pytest.raises(InputError, match=message):
            _lossless.encode(pixels, bit_depth, 2, False)
    with pytest.raises(TypeError):
        _lossless.encode(np.zeros((2, 2, 1), np.int32), 8, 2, False)
