"""Family jpeg: JPEG files in `.nc` files and back, byte for byte; their pixels as Pillow decodes them. Without torch."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacks.make_attacks import jpeg_file
from conftest import SAMPLE
from PIL import Image

import ncodec
from ncodec import container, jpeg
from ncodec.container import Container, Limits
from ncodec.errors import (
    CorruptPayloadError,
    InputError,
    LimitError,
    NcodecError,
    UnsupportedVersionError,
)

NCODEC = str(Path(sys.executable).parent / "ncodec")


def make(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", **({"quality": 85} | options))
    return stream.getvalue()


@pytest.fixture(scope="module")
def picture():
    with Image.open(SAMPLE) as image:
        return image.convert("RGB").crop((100, 100, 401, 300))


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"progressive": True}, {"quality": 100}], ids=str)  # fmt: skip
def test_round_trip(picture, mode, options):
    data = make(picture.convert(mode), **options)
    coded = ncodec.encode_jpeg(data)
    assert len(coded) < 0.9 * len(data)
    assert ncodec.decode_jpeg(coded) == data
    about = ncodec.info(coded)
    assert (about.family, about.model, about.quality, about.tiles) == ("jpeg", None, None, 1)
    assert (about.width, about.height, about.channels) == (*picture.size, 1 if mode == "L" else 3)
    assert about.weights_digest == "00" * 8 and about.size_bytes == len(coded)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(ncodec.decode(coded, "numpy"), expected)
    other = ncodec.encode(picture, 4, "dct")
    batch = ncodec.decode_batch([other, coded, coded], "numpy")
    assert np.array_equal(batch[1], expected) and np.array_equal(batch[2], expected)
    assert np.array_equal(batch[0], ncodec.decode(other, "numpy"))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 3), (17, 33)])
def test_sizes(picture, size):
    data = make(picture.crop((0, 0, *size)))
    assert ncodec.decode_jpeg(ncodec.encode_jpeg(data)) == data


def test_metadata_travels_inside(picture):
    exif = picture.getexif()
    exif[0x0112] = 6
    data = make(picture, icc_profile=b"profile" * 40, exif=exif.tobytes())
    coded = ncodec.encode_jpeg(data)
    decoded = ncodec.decode(coded)
    assert decoded.info["icc_profile"] == b"profile" * 40 and decoded.getexif()[0x0112] == 6
    assert container.read(coded).metadata == {}


def test_flat_images_stay_small():
    """8 Mpixel of black, in a file of half a kilobyte and less: none grows by more than a few bytes."""
    data = make(Image.new("L", (4000, 2000)), quality=75)
    coded = ncodec.encode_jpeg(data)
    assert len(coded) < 500 < len(data)
    assert ncodec.decode_jpeg(coded) == data
    tiny = make(Image.new("L", (1, 1)), quality=75)
    assert len(ncodec.encode_jpeg(tiny)) < len(tiny) + 60


def test_larger_than_a_tile_may_be():
    """24 Mpixel, a camera's usual size: no tile of a network, so not limited as one."""
    data = make(Image.effect_noise((600, 400), 60).resize((6000, 4000)), quality=30)
    coded = ncodec.encode_jpeg(data)
    assert ncodec.decode_jpeg(coded) == data
    with pytest.raises(LimitError, match="pixels are limited"):
        ncodec.decode_jpeg(coded, Limits(pixels=1 << 24))


def test_memory_is_limited():
    """Of the pixels and of the file alike, by the header alone."""
    coded = ncodec.encode_jpeg(make(Image.new("L", (2000, 1000))))
    for decode in (ncodec.decode, ncodec.decode_jpeg):
        with pytest.raises(LimitError, match="bytes of memory, limited to 1048576"):
            decode(coded, limits=Limits(memory_bytes=1 << 20))


def test_what_pillow_cannot_show_is_restored(picture):
    data = make(picture.convert("CMYK"))
    coded = ncodec.encode_jpeg(data)
    assert ncodec.decode_jpeg(coded) == data
    with pytest.raises(UnsupportedVersionError, match=r"CMYK.*can be restored"):
        ncodec.decode(coded)


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", SAMPLE.read_bytes()], ids=["empty", "cut", "png"]
)
def test_other_input(data):
    with pytest.raises(InputError, match="JPEG"):
        ncodec.encode_jpeg(data)


def test_no_height():
    """It is 0 in the frame header where a DNL segment behind the first scan has it: legal, and nobody's."""
    data = bytearray(jpeg_file(1))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 7] = b"\0\0"
    with pytest.raises(InputError, match="expected at least 1x1 pixels, found 1x0"):
        ncodec.encode_jpeg(bytes(data))
    data[-2:] = b"\xff\xdc\0\4\0\1\xff\xd9"
    coded = ncodec.encode_jpeg(bytes(data))
    assert ncodec.decode_jpeg(coded) == data and ncodec.info(coded).height == 1


def test_kinds_that_pillow_cannot_show_are_restored(picture):
    """12 bits a sample, say: width and height are in the frame header, and that is enough."""
    data = make(picture).replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c")
    coded = ncodec.encode_jpeg(data)
    assert ncodec.decode_jpeg(coded) == data and len(coded) < len(data) + 50
    with pytest.raises(UnsupportedVersionError, match=r"\(12 bits\); .* can be restored"):
        ncodec.decode(coded)


def test_several_pictures(picture):
    """Also where one is larger than the first, whose sides the header has: that one is kept as it is."""
    small, large = make(picture.crop((0, 0, 30, 20))), make(picture)
    for data in (large + small, small + large):
        assert ncodec.decode_jpeg(ncodec.encode_jpeg(data)) == data
    assert ncodec.decode(ncodec.encode_jpeg(large + small)).size == picture.size


def test_marks_of_scans_in_comments(picture):
    data = make(picture, comment=b"\xff\xda" * 300)
    assert ncodec.decode(ncodec.encode_jpeg(data)).size == picture.size


def test_cut_file_is_restored(picture):
    data = make(picture)[:-500]
    coded = ncodec.encode_jpeg(data)
    assert ncodec.decode_jpeg(coded) == data
    with pytest.raises(UnsupportedVersionError, match="can be restored"):
        ncodec.decode(coded)


def test_files_of_other_families(picture):
    with pytest.raises(InputError, match="use decode"):
        ncodec.decode_jpeg(ncodec.encode(picture, 4, "dct"))
    with pytest.raises(NcodecError, match="signature"):
        ncodec.decode_jpeg(b"")


def test_another_size_is_refused(picture):
    parsed = container.read(ncodec.encode_jpeg(make(picture)))
    for change in ({"width": 302}, {"height": 199}, {"is_grey": True}):
        other = container.write(Container(replace(parsed.header, **change), parsed.tiles))
        for decode in (ncodec.decode, ncodec.decode_jpeg):
            with pytest.raises(CorruptPayloadError, match="section 'jpeg'"):
                decode(other)


def test_a_larger_frame_is_refused_before_its_blocks_are_made(picture):
    """A header of 16x16 pixels over a payload of 4000x4000: memory follows the header."""
    payload = jpeg.compress(make(Image.new("L", (4000, 4000))))
    header = container.read(
        ncodec.encode_jpeg(make(picture.crop((0, 0, 16, 16)).convert("L")))
    ).header
    with pytest.raises(NcodecError, match="section 'jpeg'"):
        ncodec.decode_jpeg(container.write(Container(header, [[[payload]]])))


def test_errors_name_the_file(picture):
    coded = ncodec.encode_jpeg(make(picture))
    parsed = container.read(coded)
    bad = container.write(Container(parsed.header, [[[parsed.payloads[0][:-9]]]]))
    with pytest.raises(NcodecError, match=r"^file 1: section 'jpeg'"):
        ncodec.decode_batch([coded, bad])


# ---------------------------------------------------------------- the command


def run(*arguments, code=0, data=None):
    done = subprocess.run([NCODEC, *map(str, arguments)], input=data, capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return done


@pytest.mark.parametrize("option", ["--jpeg", "--lossless"])
def test_command(picture, tmp_path, option):
    original = make(picture, icc_profile=b"x" * 100)
    photo, coded = tmp_path / "photo.jpg", tmp_path / "photo.nc"
    photo.write_bytes(original)
    done = run("encode", photo, "-o", coded, option, "--json")
    about = json.loads(done.stdout)
    assert about["jpeg_bytes"] == len(original) and about["size_bytes"] == coded.stat().st_size
    assert about["savings_percent"] == pytest.approx(
        100 * (1 - about["size_bytes"] / len(original))
    )
    assert (about["width"], about["height"]) == picture.size
    assert b"% less than the JPEG" in run("encode", photo, "-o", coded, option).stdout
    assert b"exists already" in run("decode", coded, code=6).stderr  # photo.jpg, derived
    for target in ("again.jpg", "again.JPEG", "again"):
        run("decode", coded, "-o", tmp_path / target)
        assert (tmp_path / target).read_bytes() == original
    (tmp_path / "out").mkdir()
    done = run("decode", coded, "-o", tmp_path / "out", "--json")
    assert json.loads(done.stdout)["output"] == str(tmp_path / "out" / "photo.jpg")
    assert (tmp_path / "out" / "photo.jpg").read_bytes() == original
    assert run("decode", "-", "-o", "-", data=coded.read_bytes()).stdout == original
    run("decode", coded, "-o", tmp_path / "pixels.png")
    with Image.open(tmp_path / "pixels.png") as decoded, Image.open(photo) as expected:
        assert np.array_equal(np.asarray(decoded), np.asarray(expected))
        assert decoded.info["icc_profile"] == b"x" * 100
    assert json.loads(run("info", coded, "--json").stdout)["family"] == "jpeg"


def test_command_on_other_images(tmp_path):
    for option, message in (("--jpeg", b"takes JPEG files"), ("--lossless", b"JPEG files only")):
        done = run("encode", SAMPLE, "-o", tmp_path / "a.nc", option, code=6)
        assert message in done.stderr and b"kodim23.png" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_command_on_mixed_files(picture, tmp_path):
    """Each to its own format; jobs work as well."""
    for name, left in (("a", 0), ("b", 20)):
        (tmp_path / f"{name}.jpg").write_bytes(make(picture.crop((left, 0, left + 90, 80))))
    run(
        "encode",
        tmp_path / "a.jpg",
        tmp_path / "b.jpg",
        "--jpeg",
        "--jobs",
        2,
        "-o",
        f"{tmp_path}/nc/",
    )
    run("encode", tmp_path / "a.jpg", "--model", "dct", "-o", tmp_path / "nc" / "c.nc")
    names = [tmp_path / "nc" / f"{name}.nc" for name in "abc"]
    run("decode", *names, "-o", f"{tmp_path}/out/")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg", "b.jpg", "c.png"]
    for name in "ab":
        assert (tmp_path / "out" / f"{name}.jpg").read_bytes() == (
            tmp_path / f"{name}.jpg"
        ).read_bytes()


PROGRAM = """
import sys
sys.modules["torch"] = None  # importing it fails from here on
from pathlib import Path
import ncodec
from ncodec.cli.main import app
from typer.testing import CliRunner
photo, folder = Path(sys.argv[1]), Path(sys.argv[2])
for command in (["encode", photo, "--jpeg", "-o", folder / "a.nc"], ["decode", folder / "a.nc", "-o", folder / "b.jpg"],
                ["decode", folder / "a.nc", "-o", folder / "b.png"], ["info", folder / "a.nc"]):
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, (command, done.output, done.exception)
assert (folder / "b.jpg").read_bytes() == photo.read_bytes()
assert ncodec.decode_jpeg(ncodec.encode_jpeg(photo.read_bytes())) == photo.read_bytes()
assert ncodec.decode((folder / "a.nc").read_bytes()).size == (301, 200)
assert sys.modules["torch"] is None
"""


def test_no_torch(picture, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(make(picture))
    command = [sys.executable, "-W", "error", "-c", PROGRAM, tmp_path / "photo.jpg", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_bomb(picture):
    """Zeros behind a small JPEG deflate 1000 : 1: their size is limited by the header, not by the payload."""
    data = make(picture)
    parsed = container.read(ncodec.encode_jpeg(data))
    size = 16 * 320 * 224 + (1 << 24) + 1
    with pytest.raises(LimitError, match="limited to"):
        ncodec.encode_jpeg(data + bytes(size - len(data)))
    payload = jpeg.compress(data + bytes(size - len(data)))
    bomb = container.write(replace(parsed, tiles=[[[payload]]]))
    for decode in (ncodec.decode, ncodec.decode_jpeg):
        with pytest.raises(LimitError, match="limited to"):
            decode(bomb)
        with pytest.raises(LimitError, match="limited to"):
            decode(ncodec.encode_jpeg(data + bytes(1 << 21)), limits=Limits(metadata_bytes=0))
    with pytest.raises(InputError, match="expected bytes"):
        ncodec.encode_jpeg(None)
    assert ncodec.decode_jpeg(ncodec.encode_jpeg(bytearray(data))) == data


def test_many_segments(picture):
    """Each is a step of a loop: a file of nothing else is kept, and not shown."""
    data = make(picture)
    at = data.index(b"\xff\xda")
    data = data[:at] + b"\xff\xfe\0\2" * (jpeg.MAX_SEGMENTS + 1) + data[at:]
    coded = ncodec.encode_jpeg(data)
    assert ncodec.decode_jpeg(coded) == data
    with pytest.raises(CorruptPayloadError, match="more than 65536 segments"):
        ncodec.decode(coded)


def test_no_quality(tmp_path, picture):
    photo = tmp_path / "photo.jfif"
    photo.write_bytes(make(picture))
    for option in (("-q", "4"), ("--model", "dct")):
        command = [NCODEC, "encode", photo, "--jpeg", *option, "-o", tmp_path / "a.nc"]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == 2 and not (tmp_path / "a.nc").exists()
    run("encode", photo, "--jpeg", "-o", tmp_path / "a.nc")
    run("decode", tmp_path / "a.nc", "-o", tmp_path / "again.JFIF")
    assert (tmp_path / "again.JFIF").read_bytes() == photo.read_bytes()
