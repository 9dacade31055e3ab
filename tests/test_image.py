"""Pictures in and out: colour, depth and alpha are carried, converted with a notice, or refused: never silently wrong."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngImageFile

from ncodec import image
from ncodec.errors import InputError, LimitError

R = np.random.default_rng(0)
RGB = R.integers(0, 256, (6, 9, 3), np.uint8)
RGBA = R.integers(0, 256, (6, 9, 4), np.uint8)
DEEP = R.integers(0, 65536, (70, 11, 4), np.uint16)


def saved(picture, form, **options):
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return io.BytesIO(stream.getvalue())


def png(width, height, depth, kind, rows, *chunks, interlaced=0):
    """A PNG of given filtered rows; chunks as (name, content) ahead of them."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    out = b"\x89PNG\r\n\x1a\n"
    for name, content in [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]:
        out += struct.pack(">I", len(content)) + name + content
        out += struct.pack(">I", zlib.crc32(name + content))
    return io.BytesIO(out)


def tiff(planes, order, photometric=2, extra=None, deflated=False, apart=False):
    """A TIFF of 16-bit pixels, in strips of 4 rows; deflated ones as differences; with its channels apart."""
    height, width, n = planes.shape
    if deflated:
        planes = np.diff(planes, axis=1, prepend=np.zeros((height, 1, n), np.uint16))
    parts = [planes[..., i] for i in range(n)] if apart else [planes]
    strips = [
        part[i : i + 4].astype(f"{order}u2").tobytes()
        for part in parts
        for i in range(0, height, 4)
    ]
    strips = [zlib.compress(strip) for strip in strips] if deflated else strips
    tags = [(256, 3, [width]), (257, 3, [height]), (258, 3, [16] * n)]
    tags += [(259, 3, [8 if deflated else 1])]
    tags += [(262, 3, [photometric]), (273, 4, []), (277, 3, [n]), (278, 3, [4])]
    tags += [(279, 4, [len(strip) for strip in strips])]
    tags += [(284, 3, [2])] if apart else []
    tags += [(317, 3, [2])] if deflated else []
    tags += [(338, 3, [extra])] if extra is not None else []
    at = 8 + 2 + 12 * len(tags) + 4
    first = at + sum(4 * len(strips) if tag in (273, 279) else 2 * len(v) for tag, _, v in tags)
    offsets = [first + sum(map(len, strips[:i])) for i in range(len(strips))]
    entries, tail = b"", b""
    for tag, kind, values in tags:
        values = offsets if tag == 273 else values
        content = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        entries += struct.pack(f"{order}HHI", tag, kind, len(values))
        entries += (
            content.ljust(4, b"\0")
            if len(content) <= 4
            else struct.pack(f"{order}I", at + len(tail))
        )
        tail += content if len(content) > 4 else b""
    tail = tail.ljust(first - at, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + tail
    return io.BytesIO(head + body + b"".join(strips))


def written(picture, suffix, **options):
    stream = io.BytesIO()
    notices = image.write(picture, stream, suffix, **options)
    return image.read(io.BytesIO(stream.getvalue()), f"x{suffix}"), notices


# 8 bits and alpha


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(RGB[:, :, 0]), RGB[:, :, 0]),
        (Image.fromarray(RGB).convert("RGBA"), RGB),  # opaque
        (Image.fromarray(RGB[:, :, 0]).convert("LA"), RGB[:, :, 0]),
        (Image.fromarray(RGB[:, :, 0] > 99), np.where(RGB[:, :, 0] > 99, 255, 0)),
        (Image.fromarray(RGBA), RGBA),
        (Image.fromarray(RGBA[:, :, :2]), RGBA[:, :, :2]),
    ],
)
def test_modes_carried(picture, expected):
    read = image.read(saved(picture, "PNG"), "a.png")
    assert np.array_equal(read.planes(), expected)
    assert np.array_equal(image.from_pillow(picture).planes(), expected)


def test_palettes_are_expanded():
    picture = Image.fromarray(RGB).quantize(8)
    expected = picture.convert("RGB")
    assert np.array_equal(image.read(saved(picture, "PNG"), "p.png").planes(), expected)
    half = bytes([0, 99, *[255] * 6])
    read = image.read(saved(picture, "PNG", transparency=half), "p.png")
    assert np.array_equal(read.pixels, expected)
    assert np.array_equal(read.alpha, np.array(bytearray(half))[np.asarray(picture)])


@pytest.mark.parametrize(("depth", "key"), [(1, 1), (2, 2), (4, 15), (8, 7), (16, 0x0102)])
def test_grey_that_is_transparent(depth, key):
    """PNG's tRNS of a grey image counts in the file's own steps."""
    row = key.to_bytes(2, "big") if depth == 16 else bytes([key << (8 - depth)])
    row = b"\0" + row + bytes(3)
    read = image.read(png(2, 1, depth, 0, row, (b"tRNS", key.to_bytes(2, "big"))), "a.png")
    most = 65535 if depth == 16 else 255
    assert read.alpha.tolist() == [[0, most]]
    assert read.pixels[0, 0] == key * most // ((1 << depth) - 1)


def test_colour_that_is_transparent():
    for depth, form in ((8, ">u1"), (16, ">u2")):
        pixels = np.array([[1, 2, 3], [1, 2, 4]], form)
        key = struct.pack(">3H", 1, 2, 3)
        read = image.read(png(2, 1, depth, 2, b"\0" + pixels.tobytes(), (b"tRNS", key)), "a.png")
        assert np.array_equal(read.pixels[0], pixels)
        assert read.alpha.tolist() == [[0, (1 << depth) - 1]]


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_premultiplied_alpha_is_said(mode):
    picture = Image.fromarray(np.full((1, 1, 4), 128, np.uint8)).convert(
        "LA" if mode == "La" else "RGBA"
    )
    read = image.from_pillow(picture.convert(mode))
    assert abs(int(read.pixels.max()) - 128) <= 1 and read.alpha.tolist() == [[128]]
    assert "premultiplied" in read.notices[0]


def test_straight_from_deep_and_premultiplied():
    planes = np.array([[[100, 0, 500, 1000], [0, 0, 0, 0], [7, 8, 9, 65535]]], np.uint16)
    read = image.read(tiff(planes, "<", extra=1), "a.tif")
    assert np.array_equal(read.alpha, planes[:, :, 3]) and "premultiplied" in read.notices[0]
    assert read.pixels[0].tolist() == [[6554, 0, 32768], [0, 0, 0], [7, 8, 9]]


# More than 8 bits


@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_there_and_back(n, suffix):
    planes = DEEP[:, :, 0] if n == 1 else DEEP[:, :, -n:]
    again, notices = written(image.picture_of(planes), suffix)
    if (n, suffix) == (2, ".tif"):  # which Pillow does not read
        planes = planes[:, :, [0, 0, 0, 1]]
    assert again.bit_depth == 16 and np.array_equal(again.planes(), planes) and not notices


def test_png_filters_are_worth_it():
    """A gradient packs well under the filters, and badly without."""
    ramp = np.arange(200 * 200, dtype=np.uint16).reshape(200, 200) * np.uint16(7)
    stream = io.BytesIO()
    image.write(image.picture_of(ramp), stream, ".png")
    assert len(stream.getvalue()) < ramp.nbytes / 20


def test_interlaced_png_of_16_bits():
    """Adam7: seven passes, each with its own rows."""
    planes = DEEP[:11, :, :3]
    height, width = planes.shape[:2]
    rows = b""
    for x, y, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:  # fmt: skip
        rows += b"".join(b"\0" + row.astype(">u2").tobytes() for row in planes[y::dy, x::dx])
    read = image.read(png(width, height, 16, 2, rows, interlaced=1), "a.png")
    assert np.array_equal(read.pixels, planes)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("deflated", [False, True])
def test_tiff_of_16_bits(order, n, deflated):
    planes = DEEP[:, :, :n]
    stream = tiff(planes, order, 1 if n == 1 else 2, 2 if n == 4 else None, deflated)
    read = image.read(stream, "a.tif")
    assert np.array_equal(read.planes(), planes.squeeze()) and read.bit_depth == 16


def test_tiff_with_its_channels_apart():
    pytest.importorskip("imagecodecs")
    planes = DEEP[:8, :, :3]
    stream = tiff(planes, "<", apart=True)
    assert np.array_equal(image.read(stream, "a.tif").pixels, planes)


def test_smaller_copies_in_a_tiff_are_no_frames():
    stream = io.BytesIO()
    small = Image.fromarray(RGB[::2, ::2])
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(RGB).save(stream, "TIFF", save_all=True, append_images=[small])
    assert np.array_equal(image.read(io.BytesIO(stream.getvalue()), "a.tif").pixels, RGB)


def test_tiff_whose_least_is_white():
    planes = DEEP[:, :, :1]
    read = image.read(tiff(planes, "<", photometric=0), "a.tif")
    assert np.array_equal(read.pixels, 65535 - planes[:, :, 0])


@pytest.mark.parametrize(("most", "depth"), [(511, 9), (1023, 10), (4095, 12), (65535, 16)])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_netpbm(kind, most, depth):
    n = 1 if kind in ("P2", "P5") else 3
    values = R.integers(0, most + 1, (2, 3, n))
    body = (
        " ".join(map(str, values.flat)).encode()
        if kind in ("P2", "P3")
        else values.astype(">u2").tobytes()
    )
    data = f"{kind}\n# a comment\n3 2\n{most}\n".encode() + body
    read = image.read(io.BytesIO(data), "a.ppm")
    assert read.bit_depth == depth and np.array_equal(read.pixels, values.squeeze())
    again, _ = written(read, ".pgm" if n == 1 else ".ppm")
    assert again.bit_depth == depth and np.array_equal(again.pixels, read.pixels)
    with pytest.raises(InputError, match=r"a\.ppm: damaged"):
        image.read(io.BytesIO(data[:-8]), "a.ppm")


def test_netpbm_of_other_numbers():
    read = image.read(io.BytesIO(b"P2 3 1 1000 0 500 1000"), "a.pgm")
    assert read.bit_depth == 10 and read.pixels.tolist() == [[0, 512, 1023]]
    with pytest.raises(InputError, match="up to 1000, found 1001"):
        image.read(io.BytesIO(b"P2 3 1 1000 0 500 1001"), "a.pgm")


def test_sgi_of_16_bits():
    planes = DEEP[:5, :, :3]
    head = struct.pack(">hBBHHHH", 474, 0, 2, 3, planes.shape[1], 5, 3).ljust(512, b"\0")
    data = head + planes[::-1].transpose(2, 0, 1).astype(">u2").tobytes()
    assert np.array_equal(image.read(io.BytesIO(data), "a.rgb").pixels, planes)


def test_sgi_of_16_bits_in_runs():
    """Two literal numbers, then one thrice; both channels of rows have the same bytes."""
    row = np.array([128 + 2, 7, 1000, 3, 65535, 0], ">u2").tobytes()
    head = struct.pack(">hBBHHHH", 474, 1, 2, 3, 5, 2, 3).ljust(512, b"\0")
    data = head + struct.pack(">12I", *[560] * 6, *[len(row)] * 6) + row
    read = image.read(io.BytesIO(data), "a.rgb")
    assert read.pixels[..., 0].tolist() == [[7, 1000, 65535, 65535, 65535]] * 2
    with pytest.raises(InputError, match="damaged"):
        image.read(io.BytesIO(data[:-4]), "a.rgb")


@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("depth", [12, 16])
def test_jpeg_2000(n, depth):
    imagecodecs = pytest.importorskip("imagecodecs")
    planes = DEEP[:, :, -n:].squeeze() >> (16 - depth)
    data = imagecodecs.jpeg2k_encode(planes, bitspersample=depth, level=0, reversible=True)
    read = image.read(io.BytesIO(data), "a.jp2")
    assert read.bit_depth == depth and np.array_equal(read.planes(), planes)


@pytest.mark.parametrize("depth", [10, 12])
def test_avif(depth, monkeypatch):
    imagecodecs = pytest.importorskip("imagecodecs")
    ramp = np.linspace(0, (1 << depth) - 1, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint16)
    data = imagecodecs.avif_encode(ramp, level=100, bitspersample=depth)
    read = image.read(io.BytesIO(data), "a.avif")
    assert read.bit_depth == depth and abs(read.pixels.astype(int) - ramp).max() <= 1
    monkeypatch.setitem(__import__("sys").modules, "imagecodecs", None)
    with pytest.raises(InputError, match=rf"a\.avif: {depth} bits .*pip install imagecodecs"):
        image.read(io.BytesIO(data), "a.avif")


def test_jpeg_xl_and_heif():
    """Where their plugins are installed; else the message says what to install."""
    for name, start in (
        ("a.jxl", b"\xff\x0a" + bytes(9)),
        ("a.heic", bytes(4) + b"ftypheic" + bytes(9)),
    ):
        with pytest.raises(InputError, match=name):
            image.read(io.BytesIO(start), name)
    imagecodecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("pillow_jxl")
    for planes in (DEEP, DEEP[:, :, 0], RGB, RGBA[:, :, :2]):
        data = imagecodecs.jpegxl_encode(planes, lossless=True)
        assert np.array_equal(image.read(io.BytesIO(data), "a.jxl").planes(), planes)
    assert np.array_equal(written(image.picture_of(RGBA), ".jxl")[0].planes(), RGBA)
    heif = pytest.importorskip("pillow_heif")
    pixels = np.linspace(0, 65535, 64 * 64 * 3).astype(np.uint16)
    stream = io.BytesIO()
    heif.from_bytes("RGB;16", (64, 64), pixels.tobytes()).save(stream, quality=100, chroma=444)
    read = image.read(io.BytesIO(stream.getvalue()), "a.heic")
    assert read.bit_depth == 10 and abs(read.pixels.ravel() - pixels / 64).max() < 5
    again, notices = written(read, ".heic")
    assert abs(again.pixels.astype(int) - (read.pixels >> 2)).max() < 9 and "8 bits" in notices[0]


def test_pillow_image_that_is_not_loaded_has_all_its_bits():
    stream = io.BytesIO()
    image.write(image.picture_of(DEEP), stream, ".png")
    with Image.open(stream) as opened:
        assert np.array_equal(image.picture_of(opened).planes(), DEEP)
    grey = Image.fromarray(DEEP[:, :, 0])
    assert grey.mode == "I;16" and np.array_equal(image.picture_of(grey).pixels, DEEP[:, :, 0])


def test_bmp_of_5_and_6_bits():
    masks = struct.pack("<3I", 0xF800, 0x7E0, 0x1F)
    head = struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0) + masks
    data = b"BM" + struct.pack("<IHHI", 14 + len(head) + 4, 0, 0, 14 + len(head)) + head
    assert image.read(io.BytesIO(data + b"\x1f\xf8\0\0"), "a.bmp").pixels.tolist() == [
        [[255, 0, 255]]
    ]


# What is converted, and what is refused


def test_cmyk_without_profile_lab_with_none():
    cmyk = Image.fromarray(RGB).convert("CMYK")
    with pytest.raises(InputError, match=r"a\.tif: CMYK without an ICC profile.*--jpeg"):
        image.read(saved(cmyk, "TIFF"), "a.tif")
    lab = ImageCms.profileToProfile(
        Image.fromarray(RGB),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    read = image.read(saved(lab, "TIFF"), "a.tif")
    assert abs(read.pixels.astype(int) - RGB).mean() < 2 and "sRGB" in read.notices[0]


def test_cmyk_goes_through_its_profile(monkeypatch):
    """A profile of CMYK is too large to make here: that it is used, and goes away, is what this says."""
    made = []

    def convert(picture, source, target, intent, mode, **_):
        made.append(source)
        return Image.fromarray(RGB)

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cmyk = Image.fromarray(RGB).convert("CMYK")
    read = image.read(saved(cmyk, "TIFF", icc_profile=profile), "a.tif")
    assert made and "icc" not in read.metadata and np.array_equal(read.pixels, RGB)
    assert read.notices == ("CMYK is converted to sRGB of 8 bits",)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (saved(Image.fromarray(RGB[:, :, 0].astype(np.float32)), "TIFF"), "16 bits, found mode F"),
        (saved(Image.fromarray(RGB[:, :, 0].astype(np.int32)), "TIFF"), "16 bits, found mode I"),
        (io.BytesIO(b"DDS |" + bytes(8)), "a.img"),
        (io.BytesIO(b"not an image"), "not an image"),
        (io.BytesIO(saved(Image.fromarray(RGB.repeat(30, 0)), "PNG").getvalue()[:200]), "a.img"),
    ],
)
def test_refused(stream, message):
    with pytest.raises(InputError, match=message) as caught:
        image.read(stream, "a.img")
    assert str(caught.value).startswith("a.img: ")


@pytest.mark.parametrize(
    "stream",
    [
        png(1, 1, 8, 3, b"\0\0"),
        png(1, 1, 8, 0, b"\0\0", (b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21)))),
        io.BytesIO(b"II*\0\x08\0\0\0" + bytes(6)),
        io.BytesIO(b"II+\0\x08\0\0\0" + b"\xff" * 8),
        io.BytesIO(b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHHIII", 3, 9, 9, 16, 3, 0, 0, 0)),
        io.BytesIO(b"P6 9 9 255 abc"),
    ],
    ids=["no palette", "large text", "no size", "far directory", "PSD of 16 bits", "short"],
)
def test_damaged_files(stream):
    """Of AssertionError, ValueError, TypeError, struct.error, KeyError there is one error, which names the file."""
    with pytest.raises(InputError, match=r"^a\.img: "):
        image.read(stream, "a.img")


def test_half_floats_are_refused():
    head = b"DDS " + struct.pack("<7I", 124, 0x1007, 4, 4, 16, 0, 0) + bytes(44)
    head += struct.pack("<II4s5I", 32, 4, b"DX10", 0, 0, 0, 0, 0) + bytes(20)
    data = head + struct.pack("<5I", 95, 3, 0, 1, 0) + bytes(16)
    with pytest.raises(InputError, match=r"a\.dds: half floats"):
        image.read(io.BytesIO(data), "a.dds")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_frames(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    stream = saved(frames[0], form, save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="found 3: --frame N takes one of 0 to 2"):
        image.read(stream, "a.gif")
    stream.seek(0)
    assert (
        abs(image.read(stream, "a.gif", frame=1).pixels[0, 0].astype(int) - (0, 255, 0)).max() < 3
    )
    stream.seek(0)
    with pytest.raises(InputError, match=r"a\.gif: frame: expected 0 to 2, found 3"):
        image.read(stream, "a.gif", frame=3)


def test_first_of_views_largest_of_icons_all_layers():
    first, second = Image.new("L", (8, 8), 9), Image.new("L", (8, 8), 99)
    views = saved(first, "MPO", save_all=True, append_images=[second])
    assert image.read(views, "a.mpo").pixels.max() < 20
    icon = saved(
        Image.fromarray(np.full((64, 64, 3), 7, np.uint8)), "ICO", sizes=[(16, 16), (64, 64)]
    )
    assert image.read(icon, "a.ico").pixels.shape == (64, 64, 3)


@pytest.mark.parametrize("mode", ["HSV", "I", "F"])
def test_odd_modes_are_refused(mode):
    with pytest.raises(InputError, match=rf"^image: .*mode {mode}"):
        image.from_pillow(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("step", ["open", "load", "getexif"])
@pytest.mark.parametrize("error", [ValueError, IndexError, RuntimeError, AssertionError, struct.error], ids=lambda e: e.__name__)  # fmt: skip
def test_what_plugins_raise_is_an_input_error(monkeypatch, step, error):
    """Pillow's plugins let any exception of theirs out, wherever a damaged file is first read."""
    stream = saved(Image.fromarray(RGB), "PNG")

    def fail(*_):
        raise error("what they say")

    monkeypatch.setattr(Image if step == "open" else PngImageFile, step, fail)
    with pytest.raises(InputError, match=r"a\.png: .*what they say"):
        image.read(stream, "a.png")


def test_counting_frames_may_fail():
    class Broken(Image.Image):
        @property
        def n_frames(self):
            raise ValueError("negative tile size")

    broken = Broken()
    broken._mode = "RGB"
    with pytest.raises(InputError, match=r"image: damaged image .*negative tile size"):
        image.from_pillow(broken)


def test_the_limit_of_pixels_is_ours(monkeypatch):
    """Pillow's own, which is one for all of a process, is as before afterwards."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    picture = saved(Image.fromarray(RGB), "PNG")
    assert image.read(picture, "a.png").pixels.shape == RGB.shape
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.undo()
    for width, height in ((30_000, 20_000), (70_000, 1)):
        with pytest.raises(LimitError, match=r"a\.png: "):
            image.read(png(width, height, 8, 0, b""), "a.png")


# Arrays


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_arrays_in_and_out(n):
    planes = DEEP[:, :, :n].squeeze()
    for array in (planes, (planes >> 8).astype(np.uint8)):
        picture = image.picture_of(array)
        assert np.array_equal(image.as_kind(picture, "numpy"), array)
        assert np.array_equal(image.picture_of(array.astype(array.dtype.newbyteorder(">"))).planes(), array)  # fmt: skip
        tensor = image.as_kind(picture, "torch")
        assert tensor.shape[0] == n and np.array_equal(image.picture_of(tensor).planes(), array)
    floats = planes / 65535
    assert np.array_equal(image.picture_of(floats, 16).planes(), planes)
    assert np.array_equal(image.picture_of(floats).planes(), np.rint(floats * 255))
    channels_first = torch.from_numpy(floats if n == 1 else floats.transpose(2, 0, 1))
    assert np.array_equal(image.picture_of(channels_first).planes(), np.rint(floats * 255))


@pytest.mark.parametrize(
    ("array", "depth", "message"),
    [
        (np.zeros((2, 2), np.int32), None, "int32"),
        (np.zeros((2, 2, 5), np.uint8), None, "1 to 4 channels"),
        (np.zeros((2, 0, 3), np.uint8), None, "1x1"),
        (np.full((2, 2), 1024, np.uint16), 10, r"below 2\*\*10 .*found 1024"),
        (np.zeros((2, 2), np.uint8), 10, "bit_depth"),
        (np.zeros((2, 2), np.uint16), 8, "bit_depth"),
        (np.full((2, 2), 1.5), None, "lie in"),
        (np.full((2, 2), np.nan), None, "lie in"),
        ("photo", None, "found str"),
    ],
)
def test_arrays_refused(array, depth, message):
    with pytest.raises(InputError, match=message) as caught:
        image.picture_of(array, depth)
    assert isinstance(caught.value, TypeError) == ("found str" in message or "int32" in message)


def test_pillow_out_of_deep_pictures():
    grey, colour = image.picture_of(DEEP[:, :, 0] >> 6, 10), image.picture_of(DEEP)
    as_grey, as_colour = image.to_pillow(grey), image.to_pillow(colour)
    assert as_grey.mode == "I;16" and np.asarray(as_grey).max() > 64000
    assert as_colour.mode == "RGBA" and as_colour.info["bit_depth"] == 16
    assert np.array_equal(np.asarray(as_colour), np.rint(DEEP / 257))


# Writing


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


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_deep_with_metadata(suffix):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    facts = {"icc": b"p" * 200, "exif": exif.tobytes(), "xmp": b"<x/>"}
    again, _ = written(image.Picture(DEEP[:, :, :3], facts, bit_depth=16), suffix)
    assert again.metadata["icc"] == facts["icc"] and again.metadata["xmp"] == b"<x/>"
    assert b"maker" in again.metadata["exif"] and np.array_equal(again.pixels, DEEP[:, :, :3])


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tga", ".jp2", ".ico"])
@pytest.mark.parametrize("planes", [RGB, RGBA, RGB[:, :, 0], RGBA[:, :, :2]], ids=["RGB", "RGBA", "L", "LA"])  # fmt: skip
def test_lossless_formats(suffix, planes):
    """WebP and JPEG 2000 too, unless a quality is asked for; some have no grey."""
    again, notices = written(image.picture_of(planes), suffix)
    found = again.planes()
    if found.shape != planes.shape:
        found = found[:, :, 0] if planes.ndim == 2 else found[:, :, [0, 3]]
    assert np.array_equal(found, planes) and not notices


def test_webp_keeps_colour_that_is_not_seen():
    planes = np.dstack([RGB, np.where(RGB[:, :, 0] > 99, 255, 0).astype(np.uint8)])
    assert np.array_equal(written(image.picture_of(planes), ".webp")[0].planes(), planes)


def test_quality(sample):
    picture = image.Picture(sample[:64, :64])
    for suffix in (".jpg", ".webp", ".avif"):
        sizes = []
        for quality in (20, 90):
            stream = io.BytesIO()
            image.write(picture, stream, suffix, quality=quality)
            sizes.append(len(stream.getvalue()))
        assert sizes[0] < sizes[1] / 1.5
    usual = written(picture, ".avif")[0].pixels.astype(float) - picture.pixels
    assert (usual**2).mean() < 2
    for suffix, quality, message in ((".png", 90, "no quality"), (".jpg", 0, "1 to 100"), (".jpg", 101, "1 to 100")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            image.write(picture, io.BytesIO(), suffix, quality=quality)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_formats_without_alpha(suffix):
    picture = image.picture_of(RGBA)
    with pytest.raises(InputError, match=rf"{suffix}.*cannot hold transparency.*--background"):
        image.write(picture, io.BytesIO(), suffix)
    again, _ = written(picture, suffix, background=(255, 0, 9))
    alpha = RGBA[:, :, 3:] / 255
    expected = RGBA[:, :, :3] * alpha + np.array([255, 0, 9]) * (1 - alpha)
    if suffix != ".jpg":
        assert abs(again.pixels - expected).max() <= 0.5


def test_pillow_shows_colour_that_has_a_number():
    """CICP alone becomes a profile, which Pillow's images have."""
    shown = image.to_pillow(image.Picture(RGB, {"cicp": b"\x0c\x0d\0\1"}))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(shown.info["icc_profile"]))
    assert profile.profile.red_primary[1][0] == pytest.approx(0.68, abs=0.05)


def test_flattening_grey_and_deep():
    grey = image.picture_of(np.dstack([DEEP[:, :, 0], DEEP[:, :, 1]]))
    alpha = DEEP[:, :, 1] / 65535
    expected = DEEP[:, :, 0] * alpha + 65535 * (1 - alpha)
    assert abs(image.flattened(grey, (255, 255, 255)).pixels - expected).max() <= 0.5
    assert image.flattened(grey, (255, 0, 0)).pixels.shape == (70, 11, 3)


def test_rounded_to_8_bits_with_a_notice():
    again, notices = written(image.picture_of(DEEP[:, :, :3]), ".bmp")
    assert notices == (".bmp holds 8 bits a channel: 16 are rounded",)
    assert np.array_equal(again.pixels, np.rint(DEEP[:, :, :3] / 257))


def test_gif_is_exact_or_says_so(sample):
    few = RGB // 86 * 86
    again, notices = written(image.Picture(few), ".gif")
    assert np.array_equal(again.pixels, few) and not notices
    seen = np.dstack([few, np.where(few[:, :, 0] > 0, 255, 0).astype(np.uint8)])
    again, notices = written(image.picture_of(seen), ".gif")
    assert np.array_equal(again.alpha, seen[:, :, 3]) and not notices
    assert np.array_equal(again.pixels[again.alpha > 0], few[again.alpha > 0])
    many = np.dstack([sample[:64, :64], np.full((64, 64), 255, np.uint8)])
    many[:9, :, 3] = 0
    for planes in (many, many[:, :, :3]):
        again, notices = written(image.picture_of(planes), ".gif")
        assert "256 colours" in notices[0]
        off = abs(again.pixels.astype(int) - many[:, :, :3])[9:]
        assert off.mean() < 6 and again.planes().shape == planes.shape
        assert planes.shape[2] == 3 or np.array_equal(again.alpha, many[:, :, 3])
    with pytest.raises(InputError, match="half transparency"):
        image.write(image.picture_of(RGBA), io.BytesIO(), ".gif")


@pytest.mark.parametrize(
    ("suffix", "pixels", "message"),
    [
        (".pgm", RGB, r"\.pgm.*cannot hold colour: use \.ppm"),
        (".pbm", RGB, "colour"),
        (".pbm", RGB[:, :, 0], "black and white"),
        (".ico", np.zeros((8, 257), np.uint8), "256x256 pixels, found 257x8"),
        (".xyz", RGB, r"\.xyz"),
        (".icns", RGB, r"\.icns"),
        (".pfm", RGB, r"\.pfm"),
    ],
)
def test_what_a_format_cannot_hold_is_refused(suffix, pixels, message):
    with pytest.raises(InputError, match=message):
        image.write(image.Picture(pixels), io.BytesIO(), suffix)


def test_pbm():
    black = np.where(RGB[:, :, 0] > 99, 255, 0).astype(np.uint8)
    assert np.array_equal(written(image.Picture(black), ".pbm")[0].pixels, black)


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


def test_what_pillow_raises_in_writing(monkeypatch):
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match=r"output '\.png': cannot write .*division by zero"):
        image.write(image.Picture(RGB), io.BytesIO(), ".png")
