"""Alpha, depth, regions and scales, as codec.py and the container carry them (specs/format.md)."""

import io
from dataclasses import replace

import numpy as np
import pytest
import reference_hyperprior

import ncodec
from ncodec import container
from ncodec.codec import decode_picture, encode_picture
from ncodec.container import Container, Limits
from ncodec.container.header import header_bytes
from ncodec.entropy import crc32c
from ncodec.errors import CorruptPayloadError, InputError, LimitError, NcodecError
from ncodec.image import Picture, filled
from ncodec.models.load import load_by_name

MODELS = ("dct", "hyperprior-s", "fsq-s")


@pytest.fixture(scope="module")
def rgba(sample):
    """[150, 170, 4], of all alphas, hidden colour and all."""
    row, column = np.mgrid[:150, :170]
    alpha = np.clip(np.hypot(row - 70, column - 80) * 6 - 120, 0, 255)
    return np.dstack([sample[:150, :170], alpha]).astype(np.uint8)


@pytest.mark.parametrize("tile", [0, 64])
@pytest.mark.parametrize("model", MODELS)
def test_alpha_is_lossless_beside_lossy_colour(rgba, model, tile):
    data = ncodec.encode(rgba, 3, model, tile=tile)
    decoded = ncodec.decode(data, "numpy")
    assert np.array_equal(decoded[:, :, 3], rgba[:, :, 3])
    assert ncodec.info(data).alpha == "lossless"
    (again,) = ncodec.decode_batch([data], "numpy")
    assert np.array_equal(again, decoded)


def test_lossy_alpha_is_smaller(rgba):
    plain, lossy = (ncodec.encode(rgba, 3, alpha_quality=q) for q in (None, 2))
    assert len(lossy) < len(plain) and ncodec.info(lossy).alpha == "2"
    error = ncodec.decode(lossy, "numpy")[:, :, 3].astype(int) - rgba[:, :, 3]
    assert 0 < np.abs(error).mean() < 8
    with pytest.raises(InputError, match="alpha_quality: quality"):
        ncodec.encode(rgba, 3, alpha_quality=90)


def test_hidden_colour_costs_nothing(rgba):
    """Noise under alpha 0 is not coded, but on demand; what is seen is as good."""
    noisy = rgba.copy()
    hidden = noisy[:, :, 3] == 0
    noisy[hidden, :3] = np.random.default_rng(0).integers(0, 256, (hidden.sum(), 3))
    cleaned, exact = (ncodec.encode(noisy, 6, exact=exact) for exact in (False, True))
    assert len(cleaned) < 0.8 * len(exact)
    assert np.array_equal(filled(Picture(noisy[:, :, :3], alpha=noisy[:, :, 3])).pixels[~hidden], noisy[~hidden, :3])  # fmt: skip
    everything = Picture(noisy[:, :, :3], alpha=np.zeros_like(hidden, np.uint8))
    assert (
        len({filled(everything).pixels.tobytes()[i] for i in range(9)}) == 1
    )  # nothing is seen: flat


@pytest.mark.parametrize("depth", [9, 10, 12, 16])
@pytest.mark.parametrize("model", MODELS)
def test_depths(sample, model, depth):
    """More bits in, as many out, finer than 8 would be; the file is that of the same picture in 8 bits, nearly."""
    largest = (1 << depth) - 1
    smooth = np.linspace(0.2, 0.6, 96 * 96).reshape(96, 96)
    deep = np.rint(np.dstack([smooth, smooth.T, smooth]) * largest).astype(np.uint16)
    data = ncodec.encode(deep, 8, model, bit_depth=depth)
    decoded = ncodec.decode(data, "numpy")
    assert decoded.dtype == np.uint16 and decoded.max() <= largest
    assert ncodec.info(data).bit_depth == depth
    eight = np.rint(deep * (255 / largest)).astype(np.uint8)
    plain = ncodec.decode(ncodec.encode(eight, 8, model), "numpy")
    assert np.abs(decoded * (255 / largest) - plain).mean() < 1
    if model == "dct":
        errors = (np.square(decoded / largest - deep / largest), np.square(plain / 255 - deep / largest))  # fmt: skip
        assert errors[0].mean() < (0.8 if depth == 9 else 0.7) * errors[1].mean()


@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("depth", [9, 12, 16])
def test_depth_of_networks(sample, depth, is_grey):
    """F50: what the decoder in plain Python makes of the latents."""
    pixels = sample[:40, :50, 1] if is_grey else sample[:40, :50]
    deep = (pixels.astype(np.uint16) << depth - 8) + 1
    data = ncodec.encode(deep, 5, "hyperprior-s", bit_depth=depth)
    loaded = load_by_name("hyperprior-s")
    ((payload,),) = container.read(data).tiles[0]
    latents = loaded.codec.decode_latents(payload, 80, 50, 40)
    tile = loaded.codec.synthesise(latents, 80, is_rounded=False)[:40, :50]
    expected = reference_hyperprior.deepened(tile, is_grey, depth)
    found = ncodec.decode(data, "numpy")
    assert np.array_equal(found, expected[:, :, 0] if is_grey else expected)


def test_grey_and_tiles_in_depth():
    """Overlapping tiles fade in the picture's depth."""
    ramp = np.tile(np.linspace(0, 4095, 200).astype(np.uint16), (90, 1))
    for model in ("dct", "hyperprior-s"):
        tiled = ncodec.decode(ncodec.encode(ramp, 8, model, tile=64, bit_depth=12), "numpy")
        assert tiled.shape == ramp.shape and np.abs(tiled.astype(int) - ramp).max() < 300


@pytest.mark.parametrize("model", [*MODELS, "lossless"])
@pytest.mark.parametrize("tile", [0, 64])
def test_regions_and_scales(rgba, model, tile, tmp_path):
    """A region is a part of the whole; a scale the mean of squares, weighed by alpha."""
    data = ncodec.encode(rgba, model=model, tile=tile)
    whole = ncodec.decode(data, "numpy")
    path = tmp_path / "a.nc"
    path.write_bytes(data)
    for x, y, w, h in ((0, 0, 170, 150), (63, 64, 2, 1), (100, 90, 500, 500), (5, 0, 1, 150)):
        for source in (data, path, io.BytesIO(data)):
            part = ncodec.decode(source, "numpy", region=(x, y, w, h))
            assert np.array_equal(part, whole[y : y + h, x : x + w])
    for factor in (2, 16):
        small = ncodec.decode(data, "numpy", region=(3, 5, 101, 83), scale=1 / factor)
        assert small.shape == (-(-83 // factor), -(-101 // factor), 4)
        cut = whole[5:88, 3:104].astype(float)
        for at in ((0, 0), (1, 2), (small.shape[0] - 1, small.shape[1] - 1)):
            square = cut[at[0] * factor :, at[1] * factor :][:factor, :factor]
            weights = square[:, :, 3:] + 1e-9
            colour = (square[:, :, :3] * weights).sum((0, 1)) / weights.sum()
            if weights.sum() > 1:
                assert np.abs(small[at][:3] - colour).max() <= 0.51
            assert abs(small[at][3] - square[:, :, 3].mean()) <= 0.51


def test_only_the_tiles_of_a_region_are_read(sample):
    """Damage elsewhere is not seen; memory is that of the part."""
    data = bytearray(ncodec.encode(sample, 4, tile=64))
    data[-9] ^= 1  # in the last tile
    with pytest.raises(NcodecError):
        ncodec.decode(bytes(data))
    assert ncodec.decode(bytes(data), region=(0, 0, 128, 64)).size == (128, 64)
    limits = Limits(memory_bytes=64 * 64 * 58 + 3 * 64 * 64 * 4)
    ncodec.decode(bytes(data), region=(10, 10, 20, 20), limits=limits)
    data[-9] ^= 1
    with pytest.raises(LimitError, match="memory"):
        ncodec.decode(bytes(data), limits=limits)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({"region": (400, 0, 5, 5)}, "region: expected a part of 170x150"),
        ({"region": (0, 0, 0, 5)}, "region: expected integers"),
        ({"region": (0, 0, 5)}, "region: expected integers"),
        ({"region": (0, 0, 5, 1.5)}, "region: expected integers"),
        ({"scale": 0.3}, "scale: expected 1, 1/2"),
        ({"scale": True}, "scale: expected 1, 1/2"),
        ({"data": "nowhere.nc"}, "nowhere.nc: No such file"),
        ({"data": 5}, "data: expected bytes, a path or an open file"),
    ],
)
def test_bad_parts(rgba, way, message):
    data = ncodec.encode(rgba, 2)
    with pytest.raises(InputError, match=message):
        ncodec.decode(**{"data": data, **way})


def test_progress_counts_tiles(sample):
    done = []
    data = encode_picture(Picture(sample[:100, :150]), 4, tile=64, progress=lambda *n: done.append(n))  # fmt: skip
    decode_picture(data, progress=lambda *n: done.append(n))
    assert done == [(n, 6) for n in range(1, 7)] * 2


def parsed_of(rgba, **way):
    return container.read(ncodec.encode(rgba, 2, **way))


def test_format_byte(rgba):
    """F46: absent in the usual case, else the only one of its kind."""
    plain = container.read(ncodec.encode(rgba[:, :, :3], 2)).header
    deep = replace(plain, bit_depth=12)
    usual, other = (header_bytes(header) for header in (plain, deep))
    assert len(other) == len(usual) + 1 and other[8] == 16 and other[-5] == 11
    assert container.peek_header(other) == deep
    for form in (7, 3, 22, 32, 64, 128):
        forged = other[:-5] + bytes([form])
        data = forged + crc32c(forged).to_bytes(4, "little")
        with pytest.raises(CorruptPayloadError, match="format byte"):
            container.read(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: replace(p, header=replace(p.header, has_alpha=True)), "in a file whose tiles hold alpha"),
        (lambda p: replace(p, header=replace(p.header, has_alpha=True), alpha=None), "tiles of family dct hold no alpha"),
        (lambda p: replace(p, alpha=replace(p.alpha, header=replace(p.alpha.header, family=5))), "does not code alpha"),
        (lambda p: replace(p, alpha=replace(p.alpha, header=replace(p.alpha.header, family=3))), "does not code alpha"),
        (lambda p: replace(p, alpha=replace(p.alpha, header=replace(p.alpha.header, weights_digest=b"12345678"))), "no weights digest"),
        (lambda p: replace(p, alpha=replace(p.alpha, tiles=[[[b""]]] * len(p.alpha.tiles))), "."),
    ],
)  # fmt: skip
def test_wrong_alpha(rgba, damage, message):
    """F47 to F49."""
    data = container.write(damage(parsed_of(rgba, tile=64)))
    with pytest.raises(NcodecError, match=message):
        ncodec.decode(data)


def test_alpha_twice_and_cut(rgba):
    whole = parsed_of(rgba, tile=64)
    data = container.write(whole)
    at = data.index(b"ALPH")
    size = data.index(b"TILE") - at
    with pytest.raises(CorruptPayloadError, match="appears twice"):
        ncodec.decode(data[:at] + data[at : at + size] * 2 + data[at + size :])
    damaged = bytearray(data)
    damaged[at + 20] ^= 4
    with pytest.raises(NcodecError, match="ALPH"):
        ncodec.decode(bytes(damaged))
    assert ncodec.decode(bytes(damaged), conceal=True).mode == "RGB"
    assert isinstance(whole, Container)
