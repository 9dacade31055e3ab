"""Pictures in and out: colour is carried or refused, never silently wrong."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from ncodec import image
from ncodec.errors import InputError

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def saved(picture, form, **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return io.BytesIO(stream.getvalue())


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(RGB[:, :, 0]), RGB[:, :, 0]),
        (Image.fromarray(RGB).convert("RGBA"), RGB),  # opaque
        (Image.fromarray(RGB[:, :, 0]).convert("LA"), RGB[:, :, 0]),
        (Image.fromarray(RGB[:, :, 0] > 99), np.where(RGB[:, :, 0] > 99, 255, 0)),
    ],
)
def test_modes_carried(picture, expected):
    assert np.array_equal(image.read(saved(picture, "PNG"), "a.png").pixels, expected)


def test_palette_is_expanded():
    picture = Image.fromarray(RGB).quantize(8)
    expected = np.asarray(picture.convert("RGB"))
    assert np.array_equal(image.read(saved(picture, "PNG"), "p.png").pixels, expected)


def png16_rgb():
    """A 16-bit RGB PNG, which Pillow would open as 8-bit RGB without a word."""
    import struct

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    row = b"\0" + bytes(range(12))
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row * 2))
        + chunk(b"IEND", b"")
    )


def transparent():
    picture = Image.fromarray(RGB).convert("RGBA")
    picture.putpixel((0, 0), (1, 2, 3, 254))
    return picture


def palette_transparent():
    return saved(Image.fromarray(RGB).quantize(8), "PNG", transparency=0)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (png16_rgb(), "8 bits"),
        (saved(Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257), "PNG"), "8 bits"),
        (saved(Image.fromarray(RGB[:, :, 0].astype(np.float32)), "TIFF"), "8 bits"),
        (saved(transparent(), "PNG"), "transparency"),
        (palette_transparent(), "transparency"),
        (saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"), "CMYK"),
        (saved(Image.fromarray(RGB).convert("LAB"), "TIFF"), "LAB"),
        (
            saved(
                Image.fromarray(RGB),
                "GIF",
                save_all=True,
                append_images=[Image.fromarray(255 - RGB)],
            ),
            "one frame",
        ),
        (io.BytesIO(b"not an image"), "not an image"),
        (io.BytesIO(saved(Image.fromarray(RGB.repeat(30, 0)), "PNG").getvalue()[:200]), "a.img"),
    ],
)
def test_refused(stream, message):
    with pytest.raises(InputError, match=message):
        image.read(stream, "a.img")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_written_with_metadata(suffix):
    exif = Image.Exif()
    exif[0x0112] = 8
    picture = image.Picture(RGB, {"icc": b"p" * 200, "exif": exif.tobytes(), "xmp": b"<x/>"})
    stream = io.BytesIO()
    image.write(picture, stream, suffix)
    again = Image.open(io.BytesIO(stream.getvalue()))
    assert again.getexif()[0x0112] == 8
    assert again.info.get("icc_profile", b"") == b"p" * 200
    assert image.read(io.BytesIO(stream.getvalue()), "b").metadata["xmp"] == b"<x/>"


@pytest.mark.parametrize("mode", ["P", "YCbCr", "L", "RGB"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_tiff_to_tiff(mode, orientation):
    """A TIFF's layout tags describe that file: they must not describe ours."""
    source = Image.fromarray(RGB)
    source = source.quantize(8) if mode == "P" else source.convert(mode)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = orientation, "maker"
    picture = image.read(saved(source, "TIFF", exif=exif), "a.tif")
    stream = io.BytesIO()
    image.write(picture, stream, ".tif")
    with Image.open(io.BytesIO(stream.getvalue())) as again:
        again.load()
        assert np.array_equal(np.asarray(again), picture.pixels)
        assert again.getexif()[0x010F] == "maker"


def test_plain_tiff_has_no_exif():
    assert image.read(saved(Image.fromarray(RGB), "TIFF"), "a.tif").metadata == {}


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp", ".avif"])
def test_exif_of_webp(suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = image.read(saved(Image.fromarray(RGB), "WEBP", exif=exif, lossless=True), "a.webp")
    stream = io.BytesIO()
    image.write(picture, stream, suffix)
    with Image.open(io.BytesIO(stream.getvalue())) as again:
        assert again.getexif()[0x0112] == 6


def test_bad_exif_is_one_error():
    with pytest.raises(InputError, match="metadata"):
        image.write(image.Picture(RGB, {"exif": b"junk"}), io.BytesIO(), ".tif")


@pytest.mark.parametrize("mode", ["RGBa", "RGBX", "HSV", "La"])
def test_odd_modes_are_refused(mode):
    with pytest.raises(InputError, match=mode):
        image.from_pillow(Image.new(mode, (4, 4)))


def test_unknown_output_format():
    with pytest.raises(InputError, match=r"\.xyz"):
        image.write(image.Picture(RGB), io.BytesIO(), ".xyz")


@pytest.mark.parametrize("step", ["open", "load", "getexif"])
@pytest.mark.parametrize("error", [ValueError, IndexError, RuntimeError, AssertionError, Image.DecompressionBombError], ids=lambda e: e.__name__)  # fmt: skip
def test_what_plugins_raise_is_an_input_error(monkeypatch, step, error):
    """Pillow's plugins let any exception of theirs out, wherever a damaged file is first read."""
    stream = saved(Image.fromarray(RGB), "PNG")

    def fail(*_):
        raise error("what they say")

    monkeypatch.setattr(Image if step == "open" else PngImageFile, step, fail)
    with pytest.raises(InputError, match=r"a\.png: .*what they say"):
        image.read(stream, "a.png")


def test_text_after_the_pixels():
    """PNG's XMP may stand behind IDAT: it is known once the pixels are read."""
    data = saved(Image.fromarray(RGB), "PNG").getvalue()
    text = b"iTXtXML:com.adobe.xmp\0\0\0\0\0<x/>"
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    late = data[:-12] + chunk + data[-12:]
    assert image.read(io.BytesIO(late), "a.png").metadata == {"xmp": b"<x/>"}


def test_counting_frames_may_fail():
    class Broken(Image.Image):
        @property
        def n_frames(self):
            raise ValueError("negative tile size")

    broken = Broken()
    broken._mode = "RGB"
    with pytest.raises(InputError, match=r"image: damaged image .*negative tile size"):
        image.from_pillow(broken)


def test_metadata_that_a_format_cannot_hold(monkeypatch):
    """Tags of the wrong type, BigTIFF's header: the plugins raise anything, and what comes of it is one error."""
    for exif in (
        b"Exif\0\0II+\0\x08\0\0\0" + bytes(8),
        b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x1a\0\2\0\0\0\4abc\0",
    ):
        try:
            image.write(image.Picture(RGB, {"exif": exif}), io.BytesIO(), ".tif")
        except InputError as error:
            assert "output '.tif': cannot write" in str(error)
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match=r"cannot write .*division by zero"):
        image.write(image.Picture(RGB), io.BytesIO(), ".png")
