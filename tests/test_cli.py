"""The command line: verbs, options, exit codes, many files; what needs a process of its own last."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import ncodec
from conftest import SAMPLE
from PIL import Image
from PIL.ExifTags import Base
from PIL.PngImagePlugin import PngInfo

import ncodec as library
from ncodec import codec, threads
from ncodec.errors import InputError

NCODEC = str(Path(sys.executable).parent / "ncodec")
DCT = ("--model", "dct")


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def crops(tmp_path):
    """A folder of three small images."""
    folder = tmp_path / "crops"
    folder.mkdir()
    picture = Image.open(SAMPLE)
    for i, box in enumerate([(0, 0, 48, 32), (200, 100, 251, 133), (300, 200, 340, 220)]):
        picture.crop(box).save(folder / f"crop{i}.png")
    return folder


# ---------------------------------------------------------------- a file


@pytest.mark.parametrize("model", [(), DCT], ids=["default", "dct"])
def test_encode_decode_info(crops, tmp_path, model):
    done = ncodec("encode", crops / "crop0.png", "-q", "5.55", *model, "-o", tmp_path / "a.nc")
    size = (tmp_path / "a.nc").stat().st_size
    assert f"{size} bytes" in done.out and " bpp, " in done.out and "dB" not in done.out
    about = json.loads(ncodec("info", tmp_path / "a.nc", "--json").out)
    assert [about[key] for key in ("width", "height", "quality", "size_bytes", "input")] == [
        48, 32, pytest.approx(5.55), size, str(tmp_path / "a.nc"),
    ]  # fmt: skip
    done = ncodec("decode", tmp_path / "a.nc", "-o", tmp_path / "a.png")
    assert done.out.startswith(f"{tmp_path}/a.png: 48x32, ")
    difference = pixels(tmp_path / "a.png").astype(int) - pixels(crops / "crop0.png")
    assert np.abs(difference).mean() < 6


def test_metrics_are_measured_when_asked(crops, tmp_path, monkeypatch):
    words = ("encode", crops / "crop0.png", *DCT, "-o", tmp_path / "a.nc")
    assert "dB, measured in" in ncodec(*words, "--metrics").out
    about = json.loads(ncodec(*words, "--metrics", "--json").out)
    assert about["psnr"] > 25 and about["metrics_s"] > 0 and about["encode_s"] > 0
    monkeypatch.setattr(codec, "decode_picture", None)  # nor is anything decoded otherwise
    about = json.loads(ncodec(*words, "--json").out)
    assert "psnr" not in about and about["size_bytes"] == (tmp_path / "a.nc").stat().st_size


def test_standard_streams(crops, tmp_path):
    done = ncodec("encode", "-", *DCT, "-o", "-", data=(crops / "crop1.png").read_bytes())
    assert done.data.startswith(b"\x89NC1") and "51x33" not in done.err and "bpp" in done.err
    png = ncodec("decode", "-", "-o", "-", data=done.data).data
    (tmp_path / "x.png").write_bytes(png)
    assert pixels(tmp_path / "x.png").shape == (33, 51, 3)
    assert json.loads(ncodec("info", "-", "--json", data=done.data).out)["width"] == 51
    assert "standard input: not an image" in ncodec("encode", "-", "-o", "-", data=b"x", code=6).err
    assert "standard input: signature" in ncodec("decode", "-", "-o", "-", data=b"x", code=3).err


def test_info_of_several_files(crops, tmp_path):
    for i in (0, 1):
        ncodec("encode", crops / f"crop{i}.png", *DCT, "-o", tmp_path / f"{i}.nc")
    done = ncodec("info", tmp_path / "0.nc")
    assert "quality         4.00\n" in done.out and "metadata        -\n" in done.out
    bpp = 8 * (tmp_path / "0.nc").stat().st_size / (48 * 32)
    assert f"bpp             {bpp:.4f}\n" in done.out
    done = ncodec("info", tmp_path / "0.nc", "none.nc", SAMPLE, tmp_path / "1.nc", code=6)
    lines, size = done.out.splitlines(), (tmp_path / "0.nc").stat().st_size
    assert (
        lines[0]
        == f"{tmp_path}/0.nc: 48x32 RGB, 8 bits, dct-visual, q 4.00, {size} bytes, {bpp:.4f} bpp"
    )
    assert len(lines) == 2 and lines[1].startswith(f"{tmp_path}/1.nc: 51x33 RGB")
    assert done.err.startswith("ncodec: none.nc: No such") and f"ncodec: {SAMPLE}: sig" in done.err
    lines = ncodec("info", tmp_path / "0.nc", tmp_path / "1.nc", "--json").out.splitlines()
    assert [json.loads(line)["width"] for line in lines] == [48, 51]
    assert json.loads(lines[0])["bpp"] == bpp  # programs get every digit


def test_models():
    shown = ncodec("models").out
    assert shown.startswith(f"{library.list_models()[0].name} (dct): tune visual")
    lines = [json.loads(line) for line in ncodec("models", "--json").out.splitlines()]
    assert [line["name"] for line in lines] == [m.name for m in library.list_models()]
    image = np.zeros((16, 16, 3), np.uint8)
    *texts, last = shown.splitlines()
    assert last == "lossless: no weights"
    for line, text in zip(lines, texts, strict=True):
        efforts = line["about"].get("efforts", [])
        told = f", effort {'/'.join(map(str, efforts))}," if efforts else ""
        assert told in text + "," and ("effort" in text) == bool(efforts)
        for effort in efforts:
            library.encode(image, 4, line["name"], effort=effort)
        for effort in {1, 2, 3, 4, 5} - set(efforts):
            with pytest.raises(InputError, match="effort"):
                library.encode(image, 4, line["name"], effort=effort)


def test_stages_of_a_file_without(crops, tmp_path):
    ncodec("encode", crops / "crop0.png", "--model", "masked-s", "-o", tmp_path / "a.nc")
    done = ncodec("decode", tmp_path / "a.nc", "--stages", 3, "-o", tmp_path / "a.png", code=6)
    assert "expected a file in layers, of family tokenizer, found one of family masked" in done.err
    assert "leave stages (--stages) out" in done.err


def test_info_tells_efforts_that_files_tell(crops, tmp_path):
    for effort in (1, 2):
        out = tmp_path / f"{effort}.nc"
        ncodec("encode", crops / "crop0.png", "--model", "fsq-s", "--effort", effort, "-o", out)
        assert f"\ncoding          {effort}\n" in ncodec("info", out).out
        assert json.loads(ncodec("info", out, "--json").out)["coding"] == effort


# ---------------------------------------------------------------- options of families


def test_options_reach_the_encoder(crops, tmp_path):
    image, out = Image.open(crops / "crop0.png"), tmp_path / "a.nc"
    for words, options in (
        (("--effort", 1), {"effort": 1}),
        (("--tune", "psnr"), {"tune": "psnr"}),
        (
            ("--option", "transform=angle", "--option", "subsampling=4:2:0"),
            {"transform": "angle", "subsampling": "4:2:0"},
        ),
        (("--option", "rdoq=false", "--option", "trials=2"), {"rdoq": False, "trials": 2}),
        (("--tile", 64), {"tile": 64}),
    ):
        ncodec("encode", crops / "crop0.png", *DCT, *words, "-o", out)
        assert out.read_bytes() == library.encode(image, 4, "dct", **options), words


@pytest.fixture
def clear(tmp_path):
    """A picture that fades out to nothing, 130x70 and lying on its side, with two texts that are not carried."""
    with Image.open(SAMPLE) as picture:
        image = picture.crop((300, 100, 430, 170))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    texts = PngInfo()
    for key in ("Author", "Title"):
        texts.add_text(key, "somebody")
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    image.save(tmp_path / "clear.png", pnginfo=texts, exif=exif)
    return tmp_path / "clear.png"


def test_options_of_pictures(clear, tmp_path):
    image, out = Image.open(clear), tmp_path / "a.nc"
    flat = Image.new("RGBA", image.size, "#ff8000")
    flat.alpha_composite(image)
    for words, options in (
        (("--alpha-quality", 2.5), {"alpha_quality": 2.5}),
        (("--exact", "--tile", 64), {"exact": True, "tile": 64}),
        (("--lossless",), {"lossless": True}),
        (("--strip",), {"strip": True}),
        (("--target-size", "1.5k"), {"target_size": 1500}),
        (("--target-bpp", 0.8), {"target_bpp": 0.8}),
        (("--target-psnr", 33), {"target_psnr": 33}),
        (("--target-ssimulacra2", 60), {"target_ssimulacra2": 60}),
    ):
        done = ncodec("encode", clear, *words, "-o", out)
        assert out.read_bytes() == library.encode(image, **options), words
        if "target" in words[0]:
            assert f", q {library.info(out.read_bytes()).quality:.2f}, " in done.out
    ncodec("encode", clear, "--background", "#ff8000", "--lossless", "-o", out)
    assert library.info(out.read_bytes()).alpha is None
    difference = library.decode(out.read_bytes(), "numpy").astype(int) - flat.convert("RGB")
    assert np.abs(difference).max() <= 1
    about = json.loads(ncodec("encode", clear, "--lossless", "--metrics", "--json", "-o", out).out)
    assert about["quality"] is None and about["psnr"] is None
    ncodec("encode", clear, "--strip", "-o", out)
    about = library.info(out.read_bytes())
    assert (about.width, about.height, about.metadata) == (70, 130, {})
    message = "target_size: expected at least"
    assert message in ncodec("encode", clear, "--target-size", 9, "-o", out, code=6).err


def test_lossless_of_a_jpeg_file(clear, tmp_path):
    Image.open(clear).convert("RGB").save(tmp_path / "a.jpg")
    ncodec("encode", tmp_path / "a.jpg", clear, "--lossless", "-o", f"{tmp_path}/out/")
    ncodec("decode", tmp_path / "out", "-o", f"{tmp_path}/back/")
    assert (tmp_path / "back" / "a.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()
    assert np.array_equal(pixels(tmp_path / "back" / "clear.png"), pixels(clear))
    ncodec("decode", tmp_path / "out" / "a.nc", "--scale", "1/2", "-o", tmp_path / "half.jpg")
    assert pixels(tmp_path / "half.jpg").shape == (35, 65, 3)
    strip = ("encode", tmp_path / "a.jpg", "--lossless", "--strip", "-o", tmp_path / "b.nc")
    assert "a.jpg: comes back byte for byte, metadata included" in ncodec(*strip, code=6).err
    done = ncodec("encode", clear, "--jpeg", "-o", tmp_path / "b.nc", code=6)
    assert "--jpeg takes JPEG files, and this is none; --lossless takes any" in done.err


def test_a_frame_of_an_animation(tmp_path):
    frames = [Image.new("L", (9, 8), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    words = ("encode", tmp_path / "a.gif", "-o", tmp_path / "a.nc")
    assert "found 2: --frame N takes one of 0 to 1" in ncodec(*words, code=6).err
    ncodec(*words, "--frame", 1)
    assert abs(library.decode((tmp_path / "a.nc").read_bytes(), "numpy").mean() - 200) < 3


def test_what_decode_makes_of_a_file(clear, tmp_path):
    ncodec("encode", clear, "--tile", 64, "-o", tmp_path / "a.nc")
    data = (tmp_path / "a.nc").read_bytes()
    for words, options in (
        (("--crop", "100,10,20,30"), {"region": (100, 10, 20, 30)}),
        (("--scale", "1/4"), {"scale": 1 / 4}),
        (("--scale", 0.5, "--crop", "9,9,32,32"), {"region": (9, 9, 32, 32), "scale": 1 / 2}),
    ):
        ncodec("decode", tmp_path / "a.nc", *words, "-o", tmp_path / "a.png")
        assert np.array_equal(pixels(tmp_path / "a.png"), library.decode(data, "numpy", **options))
    sizes = []
    for quality in (90, 10):
        jpg = ("-o", tmp_path / "a.jpg", "--output-quality", quality)
        ncodec("decode", tmp_path / "a.nc", *jpg, "--background", "white")
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert sizes[1] < sizes[0]
    assert "--background COLOUR" in ncodec("decode", tmp_path / "a.nc", *jpg, code=6).err
    for words, message in (
        (("--crop", "1,2,3"), "expected X,Y,WIDTH,HEIGHT in pixels, found '1,2,3'"),
        (("--crop", "1,2,0,4"), "WIDTH and HEIGHT from 1 on"),
        (("--scale", "1/3"), "expected 1, 1/2, 1/4, 1/8, 1/16, found '1/3'"),
        (("--output-quality", 0), "--output-quality"),
    ):
        assert message in ncodec("decode", tmp_path / "a.nc", *words, code=2).err


def test_notices(clear, tmp_path):
    words = ("encode", clear, "-o", tmp_path / "a.nc")
    assert ncodec(*words).err == f"ncodec: {clear}: note: 2 text chunks: left out\n"
    done = ncodec(*words, "--json")
    assert json.loads(done.out)["notices"] == ["2 text chunks: left out"] and done.err == ""
    assert ncodec(*words, "--quiet").err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*DCT, "--effort", 99), ", effort: expected 1, 2, 3, 4, 5, 6, 7, 8, 9, found 99"),
        (
            ("--model", "vq-s", "--effort", 2),
            "model vq-s, effort: expected 1, as these weights have no masked transformer, found 2",
        ),
        (
            ("--model", "fsq-s", "--option", "ranges=900"),
            "model fsq-s, ranges: expected 1 to 256, found 900",
        ),
        ((*DCT, "--tune", "beauty"), "psnr, found 'beauty'"),
        (
            ("--model", "masked-s", "--tune", "visual"),
            "model masked-s, tune: expected psnr, found 'visual'",
        ),
        ((*DCT, "--option", "colour=red"), "no option 'colour'; it has effort"),
        ((*DCT, "--option", "transform=fft"), "expected transform among"),
        ((*DCT, "--option", "least=many"), "expected int"),
        ((*DCT, "--option", "quality=3"), "no option 'quality'"),
        ((*DCT, "--option", "tune=psnr"), "no option 'tune'"),
        ((*DCT, "--option", "device=cpu"), "no option 'device'"),
        ((*DCT, "--option", "transform"), "expected KEY=VALUE, found 'transform'"),
        ((*DCT, "--effort", 1, "--option", "effort=2"), "'effort' is given twice"),
        (("--effort", 10), ", effort: expected 1, 2, 3, 4, 5, 6, 7, 8, 9, found 10"),
        (("--tile", 63), "expected 0 or at least 64 pixels, found 63"),
        (("-q", 9), "--quality': quality: expected 1 (smallest file) to 8 (best), found 9.0\n"),
        (("-q", 90), "found 90.0; 4 looks like a JPEG of quality 50, 6 like one of 75, 8 like one"),
        (("--quality", "75%"), "found 75.0; 4 looks like a JPEG of quality 50"),
        (("-q", 0), "found 0"),
        (("-q", "nan"), "expected a number from 1 to 8, found 'nan'"),
        (("-q", "high"), "expected a number from 1 to 8, found 'high'"),
        (("--target-size", "40q"), "expected bytes such as 40000, 40k, 1.5M or 40KiB, found '40q'"),
        (("--target-size", "0"), "found '0'"),
        (("--target-bpp", -1), "target_bpp: expected more than 0, found -1.0"),
        (("--target-psnr", "inf"), "target_psnr: expected more than 0, found inf"),
        (("--target-size", "9k", "--target-bpp", 1), "either --target-size or --target-bpp"),
        (("-q", 3, "--target-psnr", 40), "either --quality or --target-psnr"),
        (
            ("--lossless", "--target-size", "9k"),
            "--lossless loses nothing and has no --target-size",
        ),
        (("--lossless", "--alpha-quality", 3), "has no --alpha-quality"),
        (("--lossless", "--jpeg"), "either --lossless or --jpeg"),
        (("--alpha-quality", "90"), "found 90.0; 4 looks like"),
        (
            ("--background", "reddish"),
            "expected a colour such as white or #ff8000, found 'reddish'",
        ),
        (("--frame", -1), "--frame"),
        (("--device", "tpu"), "'tpu'"),
        (
            ("--model", "vq-s", "--effort", 2),
            "effort: expected 1, as these weights have no masked",
        ),
        (("--engine", "slurm"), "expected local or ray, found 'slurm'"),
        (("--jobs", -1), "--jobs"),
        (("--jobs", 2, "--threads", 2), "either --threads or --jobs"),
        (("--force", "--skip-existing"), "either --force or --skip-existing"),
        (("--quiet", "--json"), "either --quiet or --json"),
        (("--jpeg", "-q", 3), "--jpeg loses nothing and has no --quality"),
        (("--jpeg", *DCT), "has no --model"),
        (("--jpeg", "--effort", 1), "has no --effort"),
        (("--lossless", "--tune", "psnr"), "--lossless loses nothing and has no --tune"),
        (("--lossless", "--option", "a=b"), "no option 'a'"),
        (("--jpeg", "--option", "a=b"), "has no --option"),
        (("--jpeg", "--strip"), "--jpeg loses nothing and has no --strip"),
        (("--jpeg", "--tile", 64), "has no --tile"),
        (("--jpeg", "--metrics"), "has no --metrics"),
        (("--psnr",), "no option --psnr; ncodec encode has --output, --quality, "),
        (("--qualty", 3), "no option --qualty; --quality?"),
        (("--lossles",), "no option --lossles; --lossless?"),
        (("--target",), "no option --target; --target-size or --target-bpp or --target-psnr or "),
        (("--crop", "1,1,8,8"), "no option --crop; ncodec encode has"),
        (("-x",), "no option -x; ncodec encode has"),
        (("-o",), "requires an argument"),
    ],
)
def test_wrong_usage(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ncodec("encode", SAMPLE, *words, code=2)
    assert message in done.err and done.err.endswith("\nTry 'ncodec encode --help'.\n")
    assert list(tmp_path.iterdir()) == [] and not SAMPLE.with_suffix(".nc").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["encode", "missing.png", "-o", "x.nc"], 6, "missing.png: No such file"),
        (["encode", SAMPLE, "--model", "nope", "-o", "x.nc"], 5, "nope"),
        (["encode", SAMPLE, SAMPLE, "-o", "x.nc"], 2, "2 inputs need a folder: -o x.nc/"),
        (["encode", SAMPLE, SAMPLE, "-o", "-"], 2, "standard output takes one file"),
        (["encode", SAMPLE, *DCT, "-o", "no/such/folder/x.nc"], 6, "cannot write"),
        (["encode", "-"], 2, "standard input needs -o"),
        (["encode"], 2, "IN..."),
        (["decode", SAMPLE, "-o", "x.png"], 3, f"{SAMPLE}: signature"),
        (["decode", "missing.nc", "-o", "x.png"], 6, "missing.nc"),
        (["decode", "missing.nc", "--model", "nope"], 5, "nope"),
        (["decode", "missing.nc", "--effort", "3"], 2, "ncodec decode has --output"),
        (["info", SAMPLE], 3, "kodim23.png: signature"),
        (["info"], 2, "FILE..."),
        (["frobnicate"], 2, "frobnicate"),
        (["bench", "frobnicate"], 2, "frobnicate"),
        (["eval", SAMPLE, "--quality", "high"], 2, "expected 4, 0.25bpp or 35dB"),
        (["eval", SAMPLE, "--codec", "gif"], 2, "'gif': expected one of"),
        (["train", "x.toml"], 2, "--data"),
    ],
)
def test_bad_calls(arguments, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in ncodec(*arguments, code=code).err
    assert list(tmp_path.iterdir()) == []  # nothing half-written is left


@pytest.mark.parametrize(
    "words", [["-h"], [], ["bench"], ["encode", "-h"], ["bench", "coder", "-h"]]
)
def test_help(words):
    done = ncodec(*words)
    assert "Usage: ncodec" in done.out and done.err == ""
    assert ncodec("-V").out == ncodec("--version").out == f"ncodec {library.__version__}\n"


# ---------------------------------------------------------------- many files


def test_a_folder_into_a_folder(crops, tmp_path):
    (crops / "notes.txt").touch()
    (crops / ".hidden.png").touch()
    out = tmp_path / "out"
    lines = ncodec("encode", crops, *DCT, "-o", f"{out}/", "--json").out.splitlines()
    reports = [json.loads(line) for line in lines]
    assert names(out) == ["crop0.nc", "crop1.nc", "crop2.nc"]
    for i, report in enumerate(reports):
        assert report["output"] == str(out / f"crop{i}.nc")
        assert report["size_bytes"] == (out / f"crop{i}.nc").stat().st_size
    ncodec("decode", out, "-o", f"{tmp_path}/back/")
    assert pixels(tmp_path / "back" / "crop1.png").shape == (33, 51, 3)
    (tmp_path / "empty").mkdir()
    done = ncodec("decode", tmp_path / "empty", out, "-o", f"{tmp_path}/again/", code=6)
    assert "empty: no files in it that end in .nc" in done.err
    assert names(tmp_path / "again") == ["crop0.png", "crop1.png", "crop2.png"]


def test_existing_outputs(crops, tmp_path):
    """The others go on; --skip-existing leaves them; --force and -o replace them."""
    out, words = tmp_path / "out", ("encode", crops, *DCT)
    ncodec(*words[:1], crops / "crop1.png", *DCT, "-o", f"{out}/")
    before = (out / "crop1.nc").read_bytes()
    done = ncodec(*words, "-q", 8, "-o", out, code=6)
    assert done.err.count("\n") == 1 and "crop1.nc: exists already" in done.err
    assert names(out) == ["crop0.nc", "crop1.nc", "crop2.nc"]
    assert (out / "crop1.nc").read_bytes() == before
    done = ncodec(*words, "-q", 8, "-o", out, "--skip-existing")
    assert done.out.count("exists already, skipped") == 3 and done.err == ""
    line = ncodec(*words, "-o", out, "--skip-existing", "--json").out.splitlines()[0]
    assert json.loads(line) == {
        "input": str(crops / "crop0.png"), "output": str(out / "crop0.nc"), "skipped": True,
    }  # fmt: skip
    assert (out / "crop1.nc").read_bytes() == before
    ncodec(*words, "-q", 8, "-o", out, "--force")
    assert (out / "crop1.nc").read_bytes() != before
    named = ("encode", crops / "crop1.png", *DCT, "-o", out / "crop1.nc")
    assert "skipped" in ncodec(*named, "--skip-existing").out
    ncodec(*named)  # named: overwritten
    assert (out / "crop1.nc").read_bytes() == before


def test_one_bad_file_among_many(crops, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nonsense")
    done = ncodec(
        "encode", bad, crops, tmp_path / "none.png", *DCT, "-o", f"{tmp_path}/out/", code=6
    )
    assert f"ncodec: {bad}: not an image" in done.err and "none.png: No such file" in done.err
    assert names(tmp_path / "out") == ["crop0.nc", "crop1.nc", "crop2.nc"]
    (tmp_path / "out" / "crop1.nc").write_bytes(b"nonsense")
    done = ncodec("decode", tmp_path / "out", "-o", f"{tmp_path}/back/", code=3)
    assert f"ncodec: {tmp_path}/out/crop1.nc: signature" in done.err
    assert names(tmp_path / "back") == ["crop0.png", "crop2.png"]
    done = ncodec("encode", tmp_path / "out" / "crop0.nc", "-o", tmp_path / "x.nc", code=6)
    assert "is an .nc file already" in done.err


def test_an_exception_that_nobody_foresaw(crops, tmp_path, monkeypatch):
    encode = codec.encode_picture

    def encode_some(picture, *words, **options):
        if picture.pixels.shape[0] == 33:
            raise AssertionError("of another library")
        return encode(picture, *words, **options)

    monkeypatch.setattr(codec, "encode_picture", encode_some)
    done = ncodec("encode", crops, *DCT, "-o", f"{tmp_path}/out/", code=6)
    assert done.err == f"ncodec: {crops}/crop1.png: AssertionError: of another library\n"
    assert names(tmp_path / "out") == ["crop0.nc", "crop2.nc"]


def test_ctrl_c_says_what_is_done(crops, tmp_path, monkeypatch):
    encode = codec.encode_picture

    def encode_until_interrupted(picture, *words, **options):
        if picture.pixels.shape[0] == 20:
            raise KeyboardInterrupt
        return encode(picture, *words, **options)

    monkeypatch.setattr(codec, "encode_picture", encode_until_interrupted)
    done = ncodec("encode", crops, *DCT, "-o", f"{tmp_path}/out/", code=130)
    assert done.err == "ncodec: interrupted; 2 of 3 done\n"
    assert names(tmp_path / "out") == ["crop0.nc", "crop1.nc"]


def test_jobs_give_what_one_process_gives(crops, tmp_path):
    (crops / "bad.png").touch()
    for jobs in (1, 2):
        ncodec("encode", crops, *DCT, "-o", f"{tmp_path}/{jobs}/", "--jobs", jobs, code=6)
    (crops / "bad.png").unlink()
    for name in ("crop0", "crop1", "crop2"):
        coded = [(tmp_path / f"{jobs}" / f"{name}.nc").read_bytes() for jobs in (1, 2)]
        assert coded[0] == coded[1]
    for jobs in (1, 2):
        ncodec("decode", tmp_path / "1", "-o", f"{tmp_path}/back{jobs}/", "--jobs", jobs)
    for path in (tmp_path / "back1").iterdir():
        assert path.read_bytes() == (tmp_path / "back2" / path.name).read_bytes()


def test_what_a_terminal_shows(crops, tmp_path, monkeypatch):
    """A bar; a line each of a few, a summary of many; lines where standard output is a file; nothing if quiet."""
    monkeypatch.setenv("COLUMNS", "200")
    out, both = ("-o", f"{tmp_path}/out/", "--force"), ("out", "err")
    few = ncodec("encode", crops, *DCT, *out, terminals=both)
    assert "3/3" in few.err and few.err.count(" bpp, ") == 3 and few.out == ""
    one = ncodec("encode", crops / "crop0.png", *DCT, *out, terminals=both)
    assert "crop0.png" in one.err and " bpp, " in one.err
    for i in range(9):
        Image.new("RGB", (8, 8), (i, 9, 9)).save(crops / f"flat{i}.png")
    many = ncodec("encode", crops, *DCT, *out, terminals=both)
    assert "12 of 12 done: " in many.err and "bpp" not in many.err
    piped = ncodec("encode", crops, *DCT, *out, terminals=("err",))
    assert piped.out.count(" bpp, ") == 12 and "12/12" in piped.err
    assert "bpp" not in piped.err and "done" not in piped.err
    objects = ncodec("encode", crops, *DCT, *out, "--json", terminals=("err",)).out.splitlines()
    assert len([json.loads(line) for line in objects]) == 12
    (crops / "bad.png").touch()
    for terminals in ((), both):
        quiet = ncodec("encode", crops, *DCT, *out, "--quiet", terminals=terminals, code=6)
        assert quiet.out == "" and quiet.err.count("\n") == 1 and "bad.png" in quiet.err


def test_threads(crops, tmp_path, monkeypatch):
    import torch

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(threads, "_chosen", None)
    before = torch.get_num_threads()
    try:
        ncodec("encode", crops / "crop0.png", *DCT, "--threads", 2, "-o", tmp_path / "a.nc")
        assert library.get_num_threads() == torch.get_num_threads() == 2
        assert os.environ["OMP_NUM_THREADS"] == "2"
    finally:
        torch.set_num_threads(before)


def test_a_terminal_shows_the_tiles_of_one_picture(clear, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    both = ("out", "err")
    done = ncodec("encode", clear, "--tile", 64, "-o", tmp_path / "a.nc", terminals=both)
    assert "6 of 6 tiles" in done.err
    done = ncodec("decode", tmp_path / "a.nc", "-o", tmp_path / "a.png", terminals=both)
    assert "6 of 6 tiles" in done.err


# ---------------------------------------------------------------- processes of their own


def shell(line, code, **environment):
    done = subprocess.run(["bash", "-c", line], capture_output=True, env=os.environ | environment)
    assert done.returncode == code, (line, done.stdout[-500:], done.stderr[-1000:])
    assert b"Traceback" not in done.stderr
    return done


def test_full_disk_and_closed_streams(crops, tmp_path):
    ncodec("encode", crops / "crop0.png", *DCT, "-o", tmp_path / "a.nc")
    for line, message in (
        (f"{NCODEC} info {tmp_path}/a.nc > /dev/full", b"No space left"),
        (f"{NCODEC} info - <&-", b"standard input is closed"),
        (f"{NCODEC} decode {tmp_path}/a.nc -o - >&-", b"standard output is closed"),
        (f"PYTHONIOENCODING=ascii {NCODEC} encode --help", b""),
    ):
        assert message in shell(line, 6 if message else 0).stderr
    shell(f"{NCODEC} decode {tmp_path}/a.nc -o - 2>&- > {tmp_path}/a.png", 0)
    assert pixels(tmp_path / "a.png").shape == (32, 48, 3)  # and no line of text behind it
    assert (tmp_path / "a.png").read_bytes().endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_broken_pipe_is_no_success(tmp_path, unbuffered):
    """Also where Python does not buffer: a write into a pipe then takes a part."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    (tmp_path / "a.nc").write_bytes(library.encode(noise, 1, "dct"))
    line = f"{NCODEC} decode {tmp_path}/a.nc -o - | head -c 10 > /dev/null; exit ${{PIPESTATUS[0]}}"
    assert shell(line, 1, PYTHONUNBUFFERED=unbuffered).stderr == b""
    line = f"{NCODEC} decode {tmp_path}/a.nc -o - | (sleep 0.2; cat) > {tmp_path}/a.png; exit ${{PIPESTATUS[0]}}"
    shell(line, 0, PYTHONUNBUFFERED=unbuffered)
    assert np.array_equal(pixels(tmp_path / "a.png"), library.decode((tmp_path / "a.nc").read_bytes(), "numpy"))  # fmt: skip


def test_light_commands_do_not_import_torch():
    program = (
        "import sys, contextlib\n"
        "from ncodec.cli.main import main\n"
        "for words in (['--help'], ['encode', '-h'], ['models'], ['--version'], ['encode', 'x', '-q', '9']):\n"
        "    sys.argv = ['ncodec', *words]\n"
        "    with contextlib.suppress(SystemExit): main()\n"
        "sys.exit(int('torch' in sys.modules or 'PIL' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    program = "import sys, ncodec; ncodec.info; sys.exit(int('torch' in sys.modules))"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_completion():
    """Verbs, their options, and verbs of verbs; else names of files, which bash itself completes."""
    script = ncodec("completion", "bash").out
    for words, expected in (
        ("ncodec en", "encode"),
        ("ncodec encode a.png --target-s", "--target-size --target-ssimulacra2"),
        ("ncodec bench net", "networks"),
        ("ncodec decode a", ""),
    ):
        line = f"COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _ncodec; echo ${{COMPREPLY[@]}}"
        assert shell(f"{script}\n{line}", 0).stdout.decode().strip() == expected
    assert ncodec("completion", "zsh").out.endswith(script)
    fish = ncodec("completion", "fish").out
    assert "complete -c ncodec -n '__fish_seen_subcommand_from decode' -l crop\n" in fish
    assert "bash|zsh|fish" in ncodec("completion", "tcsh", code=2).err


def test_as_a_module():
    done = subprocess.run([sys.executable, "-m", "ncodec", "-V"], capture_output=True, check=True)
    assert done.stdout.decode() == f"ncodec {library.__version__}\n"
