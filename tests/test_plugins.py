"""Pillow, imageio and desktops know .nc files: they behave as these programs' own formats do."""

import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from io import BytesIO
from xml.etree import ElementTree

import imageio.v3 as iio
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError

import ncodec
import ncodec.imageio
import ncodec.pillow
from ncodec import codec, container
from ncodec.errors import InputError, NcodecError

NETCDF = b"CDF\x01" + bytes(60)


def saved(image: Image.Image, **options) -> BytesIO:
    file = BytesIO()
    image.save(file, "NCODEC", **options)
    return file


def pixels_of(shape: tuple[int, ...], dtype=np.uint8) -> np.ndarray:
    ramp = np.arange(np.prod(shape), dtype=np.int64).reshape(shape) * 7
    return (ramp % np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize(
    ("mode", "channels", "dtype"),
    [("L", 1, np.uint8), ("LA", 2, np.uint8), ("RGB", 3, np.uint8), ("RGBA", 4, np.uint8), ("I;16", 1, np.uint16)],
)  # fmt: skip
def test_pillow_opens_what_it_saved(mode, channels, dtype, tmp_path):
    """By suffix and signature; the mode is known before, the pixels after loading."""
    pixels = pixels_of((13, 21, channels)[: 2 + (channels > 1)], dtype)
    Image.fromarray(pixels).save(tmp_path / "x.nc", lossless=True, exact=True)
    with Image.open(tmp_path / "x.nc") as image:
        assert (image.format, image.mode, image.size) == ("NCODEC", mode, (21, 13))
        assert image.get_format_mimetype() == "image/x-ncodec" and image._im is None
        assert np.array_equal(np.asarray(image), pixels) and image.mode == mode
    parser = ImageFile.Parser()
    parser.feed((tmp_path / "x.nc").read_bytes())
    assert np.array_equal(parser.close(), pixels)


def test_deep_colour_opens_as_8_bits_and_says_so():
    pixels = pixels_of((9, 10, 3), np.uint16)
    image = Image.open(BytesIO(ncodec.encode(pixels, lossless=True)))
    assert image.mode == "RGB" and image.info["bit_depth"] == 16
    assert np.array_equal(np.asarray(image), np.rint(pixels / 257))


def test_what_pillow_saves_of_info():
    """As of PNG and AVIF: the profile unasked, all else when asked."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a picture"
    image = Image.new("RGB", (40, 30))
    image.info |= {"icc_profile": icc, "exif": exif.tobytes(), "xmp": b"<x/>", "dpi": (300, 300)}
    found = Image.open(saved(image)).info
    assert found["icc_profile"] == icc and not found.keys() & {"exif", "xmp", "dpi"}
    assert "icc_profile" not in Image.open(saved(image, icc_profile=None)).info
    xmp = np.random.default_rng(0).bytes(70_000)  # more than is read at first
    again = Image.open(saved(image, exif=exif, xmp=xmp, dpi=(72, 144)))
    assert again.getexif()[0x010E] == "a picture" and again.info["xmp"] == xmp
    assert np.allclose(again.info["dpi"], (72, 144), atol=0.02)


def test_thumbnails_are_decoded_small(crop, monkeypatch):
    scales = []
    decode = codec.decode_picture
    monkeypatch.setattr(codec, "decode_picture", lambda *a, scale, **k: scales.append(scale) or decode(*a, scale=scale, **k))  # fmt: skip
    file = saved(Image.fromarray(crop), quality=5)
    with Image.open(file) as image:  # 201x135
        assert image.draft(None, (50, 33)) == ("RGB", (0, 0, 201 / 4, 135 / 4))
        assert image.draft(None, (20, 10)) is None and image.size == (51, 34)
        small = np.asarray(image)
    whole = Image.open(file)
    assert np.abs(small - np.asarray(whole.reduce(4)).astype(int)).max() <= 1
    with Image.open(file) as image:
        image.thumbnail((32, 32))
        whole.thumbnail((32, 32), reducing_gap=None)
        assert scales == [1 / 4, 1, 1 / 2] and image.size == whole.size == (32, 22)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(whole)).mean() < 2


def test_damaged_files_fail_as_pillow_s_users_expect(sample, monkeypatch):
    """Other files are unidentified, damage ahead of the tiles as well; of the rest verify and load tell."""
    with pytest.raises(UnidentifiedImageError, match="cannot identify"):
        Image.open(BytesIO(NETCDF))
    data = bytearray(saved(Image.fromarray(sample[:128, :192]), tile=64, quality=1).getvalue())
    with pytest.raises(UnidentifiedImageError, match="header: CRC"):
        Image.open(BytesIO(data[:9] + b"\x7f" + data[10:]))
    data[-9] ^= 1
    with pytest.raises(OSError, match="CRC-32C") as caught:
        Image.open(BytesIO(data)).verify()
    assert isinstance(caught.value.__cause__, NcodecError)
    Image.open(BytesIO(data[:99])).close()
    with pytest.raises(OSError, match="CRC-32C"):
        Image.open(BytesIO(data)).load()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = Image.open(BytesIO(data))
    image.load()
    assert image.info["concealed"] == 1


def test_what_pillow_cannot_save(tmp_path):
    image = Image.new("RGB", (20, 20))
    with pytest.raises(ValueError, match=r"quality: expected 1 .* to 8"):
        image.save(tmp_path / "x.nc", quality=90)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="one image"):
        image.save(tmp_path / "x.nc", save_all=True, append_images=[image])
    with pytest.raises(OSError, match="mode F"):
        saved(Image.new("F", (20, 20)))


@pytest.fixture
def packed_jpeg() -> bytes:
    """A JPEG file with orientation 6, made smaller."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (48, 32)).save(file := BytesIO(), "JPEG", exif=exif, dpi=(72, 72))
    return ncodec.encode_jpeg(file.getvalue())


def test_a_smaller_jpeg_file_opens(packed_jpeg):
    image = Image.open(BytesIO(packed_jpeg))
    assert image.mode == "L" and image.getexif()[0x0112] == 6


def test_the_thumbnailer_turns_and_fits(packed_jpeg, tmp_path, monkeypatch):
    """By the program that the installed file names."""
    lines = (ROOT / "share/thumbnailers/ncodec.thumbnailer").read_text().splitlines()
    program, *arguments = dict(line.split("=") for line in lines[1:])["Exec"].split()
    (script,) = entry_points(group="console_scripts", name=program)
    (tmp_path / "x.nc").write_bytes(packed_jpeg)
    given = {"%i": tmp_path / "x.nc", "%o": tmp_path / "out.Q1X2", "%s": 16}
    monkeypatch.setattr(sys, "argv", [program, *(str(given[name]) for name in arguments)])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    script.load()()
    with Image.open(given["%o"]) as image:
        assert (image.format, image.size) == ("PNG", (11, 16))


def test_desktops_tell_files_by_their_content(packed_jpeg, tmp_path):
    """Ours by the signature, whatever other file has the suffix is NetCDF's."""
    xml = ROOT / "share/mime/packages/ncodec.xml"
    (magic,) = (
        match.get("value") for match in ElementTree.parse(xml).iter() if "offset" in match.keys()
    )
    assert magic.encode().decode("unicode_escape").encode("latin-1") == container.SIGNATURE
    if not (shutil.which("update-mime-database") and shutil.which("gio")):
        pytest.skip("no update-mime-database or gio")
    (tmp_path / "mime/packages").mkdir(parents=True)
    shutil.copy(xml, tmp_path / "mime/packages")
    subprocess.run(["update-mime-database", tmp_path / "mime"], check=True, capture_output=True)
    for name, data, found in (
        ("a.nc", packed_jpeg, "image/x-ncodec"),
        ("b.nc", NETCDF, "application/x-netcdf"),
    ):
        (tmp_path / name).write_bytes(data)
        shown = subprocess.run(
            ["gio", "info", "-a", "standard::content-type", tmp_path / name],
            capture_output=True, text=True, env={"XDG_DATA_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert f"content-type: {found}" in shown.stdout


@pytest.mark.parametrize("shape", [(12, 17), (12, 17, 3), (12, 17, 4)])
def test_imageio_reads_what_it_wrote(shape, tmp_path):
    pixels = pixels_of(shape, np.uint16)
    path = tmp_path / "x.nc"
    iio.imwrite(path, pixels, lossless=True)
    assert np.array_equal(iio.imread(path), pixels)
    assert iio.imread(path, index=...).shape == (1, *shape)
    properties = iio.improps(path)
    assert (properties.shape, properties.dtype) == (shape, np.uint16)
    assert np.array_equal(
        next(iio.imiter(path, scale=1 / 2)), ncodec.decode(path, "numpy", scale=1 / 2)
    )
    assert iio.imread(iio.imwrite("<bytes>", [pixels], extension=".nc")).shape == shape


def test_imageio_metadata_and_refusals(packed_jpeg, tmp_path):
    found = iio.immeta(packed_jpeg)
    assert found["family"] == "jpeg" and found["exif"].startswith(b"Exif")
    with pytest.raises(InputError, match="index"):
        iio.imread(packed_jpeg, index=1)
    with iio.imopen(tmp_path / "x.nc", "w") as file, pytest.raises(InputError, match="one image"):
        file.write(np.zeros((2, 8, 8), np.uint8), is_batch=True)
    (tmp_path / "x.nc").write_bytes(NETCDF)
    with pytest.raises(OSError, match="can not handle"):
        iio.imread(tmp_path / "x.nc", plugin="ncodec")
