"""Codecs run for real, cells are measured and kept, curves are what their definitions say."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SAMPLE
from ncodec.cli.main import main
from PIL import Image as PillowImage

from ncodec import container
from ncodec.codec import decode, encode
from ncodec.errors import InputError, UnknownModelError
from ncodec.evaluation import (
    CODECS,
    Cache,
    Image,
    RDCurve,
    Study,
    Target,
    bd_rate,
    bd_rate_of_images,
    bd_table,
    codec_name,
    compare,
    find_anchor,
    list_anchors,
    on_device,
    parse_codec,
    parse_quality,
    rd_curve,
    read_curves,
    spread_at,
    to_json,
    value_at,
)
from ncodec.evaluation.cells import Cell, digest_of, measure
from ncodec.evaluation.peers.common import is_lossless
from ncodec.evaluation.peers.video import to_pixels, to_planes
from ncodec.evaluation.rates import lossless_table, measured_metrics, points_of
from ncodec.evaluation.study import curve_of_cells
from ncodec.metrics import BUTTERAUGLI, ms_ssim, psnr, ssimulacra2, version_of
from ncodec.models.weights import find_by_name, models_by_name

BUILT_IN = ["jpeg", "webp", "avif", "jxl", "jpeg2000", "hevc", "svtav1"]
NCODEC = str(Path(sys.executable).parent / "ncodec")

# A codec of two programs: the "file" is the raw planes. It takes vvencapp's and VTM's arguments.
PROGRAM = """#!{python}
import shutil, sys
arguments = sys.argv[1:]
if "--version" in arguments or "--help" in arguments:
    print("vvencapp: version 1.0-test"); sys.exit()
def value(*names):
    return next(arguments[i + 1] for i, word in enumerate(arguments) if word in names)
if {fails!r}:
    print("cannot go on"); sys.exit(3)
source = value("--input", "-i", "-b") if {encodes!r} else value("-b")
target = value("--output", "-b") if {encodes!r} else value("-o")
if {encodes!r}:
    source = value("--input", "-i")
shutil.copy(source, target)
"""


@pytest.fixture(scope="module")
def images(sample) -> list[Image]:
    """Two small images, one with odd sides; large enough for MS-SSIM."""
    return [Image("a", sample[100:276, 300:476]), Image("b", sample[200:379, 100:263])]


@pytest.fixture
def program(tmp_path):
    def make(name, encodes, fails=False):
        path = tmp_path / name
        path.write_text(PROGRAM.format(python=sys.executable, encodes=encodes, fails=fails))
        path.chmod(0o755)
        return path

    return make


# ---------------------------------------------------------------- codecs


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("jpeg", "jpeg"),
        ("avif:speed=2,tune=psnr", "avif:speed=2,tune=psnr"),
        ("avif:speed=6,subsampling=4:2:0", "avif:subsampling=4:2:0"),
        ("jpeg:progressive=True", "jpeg:progressive=true"),
        ("hyperprior-s", "hyperprior-s"),
        ("ncodec", "ncodec"),
        ("hyperprior-s:device=cuda", "hyperprior-s:device=cuda"),
        ("dct", "dct"),
        ("dct:rdoq=false,transform=angle,network=true", "dct:transform=angle,rdoq=false"),
        ("dct:effort=2,tune=psnr", "dct:tune=psnr,effort=2"),
        ("dct-psnr", "dct-psnr"),
        ("jxl:lossless=true,effort=9", "jxl:effort=9,lossless=true"),
        ("png:optimiser=oxipng", "png:optimiser=oxipng"),
        ("lossless", "lossless"),
        ("ncodec:model=/a/b.safetensors", "ncodec:model=/a/b.safetensors"),
    ],
)
def test_names(text, name):
    codec = parse_codec(text)
    assert codec_name(codec) == name and parse_codec(name) == codec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gif", r"'gif': expected one of jpeg, .*hyperprior-s"),
        ("jpeg:quality=3", r"subsampling=….*found 'quality=3'"),
        ("webp:method", "found 'method'"),
        ("webp:method=best", "expected int, found 'best'"),
        ("jpeg:progressive=1", "expected true or false"),
        ("hevc:subsampling=4:2:2", r"subsampling among 4:4:4, 4:2:0, found '4:2:2'"),
        ("avif:subsampling=4:0:0", "found '4:0:0'"),
        ("avif:speed=100", "found 100"),
        ("jxl:effort=0", "found 0"),
        ("hyperprior-s:model=x", "found 'model=x'"),
        ("dct:transform=wavelet", "transform among dct, angle, found 'wavelet'"),
        ("dct:least=32,most=8", "least 32 is more than most 8"),
        ("dct:effort=0", "effort: expected 1, 2, 3, 4, 5, 6, 7, 8, 9, found 0"),
        ("hyperprior-s:trials=2", "model hyperprior-s: no option 'trials'; it has effort"),
        ("dct:tune=beauty", "model dct, tune: expected .*psnr, found 'beauty'"),
        ("masked-s:tune=visual,effort=2", "model masked-s, tune: expected psnr, found 'visual'"),
        ("dct:model=x", "found 'model=x'"),
        ("webp:method=3,method=4", "found 'method=4'"),
    ],
)
def test_bad_names(text, message):
    with pytest.raises(InputError, match=message):
        parse_codec(text)


@pytest.mark.parametrize("name", [*BUILT_IN, "avif:subsampling=4:2:0", "hevc:subsampling=4:2:0"])
def test_a_better_quality_is_larger_and_nearer(name, images):
    codec = parse_codec(name)
    assert all(codec.versions().values())
    for image in images:
        found = []
        for quality in (codec.QUALITIES[1], codec.QUALITIES[-2]):
            data = codec.encode(image.pixels, quality)
            assert data == codec.encode(image.pixels, quality)
            decoded = codec.decode(data, image.pixels.shape[:2])
            assert decoded.shape == image.pixels.shape and decoded.dtype == np.uint8
            found.append((len(data), psnr(image.pixels, decoded)))
        (size, low), (larger, high) = found
        assert larger > 1.5 * size and high > low + 3 and high > 34


def test_lossless_codecs(images):
    """One file an image, whatever quality is asked for; bytes are compared, not curves."""
    names = ["png", "jxl:effort=1,lossless=true", "jpeg"]
    study = Study([*names, "webp:method=0,lossless=true"], images, [50, 80])
    for _ in study.run():
        pass
    png, jxl, jpeg, webp = curves = study.curves()
    assert [curve.is_lossless for curve in curves] == [True, True, False, True]
    assert list(png.points["asked"]) == ["0"] and math.isinf(png.points["psnr"][0])
    assert bd_table(curves, [png, jpeg]).empty and measured_metrics([png]) != []
    table = lossless_table(curves, png).set_index("codec")
    assert set(table.index) == {png.codec, jxl.codec, webp.codec}
    sizes = {c.codec: [len(study.file_of(c.codec, i.name, "0")) for i in images] for c in (png, jxl)}  # fmt: skip
    row, pixels = table.loc[jxl.codec], sum(image.pixels.size // 3 for image in images)
    assert row["size_bytes"] == sum(sizes[jxl.codec])
    assert row["bpp"] == pytest.approx(8 * sum(sizes[jxl.codec]) / pixels)
    percents = [100 * (a / b - 1) for a, b in zip(*(sizes[c.codec] for c in (jxl, png)), strict=True)]  # fmt: skip
    assert row["percent"] == pytest.approx(np.mean(percents))
    assert row["total_percent"] == pytest.approx(100 * (sum(sizes[jxl.codec]) / sum(sizes[png.codec]) - 1))  # fmt: skip
    assert row["encode_mb_s"] == pytest.approx(3e-6 * pixels / jxl.cells["encode_s"].sum())
    assert math.isnan(lossless_table(curves)["percent"][0])


def test_a_lossless_codec_that_loses_is_a_gap(images, monkeypatch):
    png = parse_codec("png")
    decode = type(png).decode
    monkeypatch.setattr(type(png), "decode", lambda self, *given: decode(self, *given) ^ 1)
    with pytest.raises(InputError, match="expected the same pixels"):
        measure((Cell("png", "0", digest_of(images[0].pixels), png.versions()), images[0].pixels))


def test_files_are_what_their_names_say(images):
    signatures = {
        "jpeg": b"\xff\xd8",
        "webp": b"RIFF",
        "jpeg2000": b"\0\0\0\x0cjP",
        "jxl": b"\xff\x0a",
    }
    signatures |= {"avif": b"\0\0\0\x20ftypavif", "hevc": b"\0\0\0\1\x40", "svtav1": b"\x12\0\x0a"}
    for name, signature in signatures.items():
        codec = parse_codec(name)
        assert codec.encode(images[0].pixels, codec.QUALITIES[4]).startswith(signature), name
    ours = parse_codec("hyperprior-s").encode(images[0].pixels, 3)
    assert container.read(ours).header.quality == 3


def test_choices_of_dct(images, tmp_path):
    """Each option changes the file, any decodes as any other does; a copy of the weights is the same model."""
    pixels = images[0].pixels
    plain = parse_codec("dct")
    expected = plain.encode(pixels, 4)
    assert expected == encode(pixels, 4, "dct")
    for options in (
        "transform=angle",
        "subsampling=4:2:0",
        "least=16",
        "most=16",
        "rdoq=false",
        "trials=1",
    ):
        other = parse_codec(f"dct:{options}")
        data = other.encode(pixels, 4)
        assert data != expected, options
        assert np.array_equal(other.decode(data, pixels.shape[:2]), decode(data, "numpy"))
    path = tmp_path / "copy.safetensors"
    path.write_bytes(find_by_name("dct").read_bytes())
    copy = parse_codec(f"ncodec:model={path}")
    assert copy.encode(pixels, 4) == expected and copy.versions() == plain.versions()
    assert "torch" not in plain.versions()


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_colour_conversion_alone_loses_little(subsampling, images):
    for image in images:
        planes = to_planes(image.pixels, subsampling)
        back = to_pixels(planes, image.pixels.shape[:2])
        assert psnr(image.pixels, back) > (58 if subsampling == "4:4:4" else 36)
    grey = np.full((6, 8, 3), 128, np.uint8)
    y, cb, cr = to_planes(grey, subsampling)
    assert (y == round(128 / 255 * 1023)).all() and (cb == 512).all() and (cr == 512).all()


@pytest.mark.parametrize("codec", ["vvenc", "vtm"])
def test_programs(codec, program, images, tmp_path):
    (tmp_path / "cfg").mkdir()
    (tmp_path / "cfg" / "encoder_intra_vtm.cfg").touch()
    encoder, decoder = program("encoder", True), program("decoder", False)
    name = f"{codec}:encoder={encoder},decoder={decoder}"
    curve = rd_curve(name, images, [32])
    assert not curve.failures and curve.points["psnr"][0] > (58 if codec == "vtm" else 36)
    assert (curve.cells["encode_mib"] > 1).all()  # of the program
    assert "1.0-test" in str(curve.about["versions"]) or codec == "vtm"

    broken = program("broken", True, fails=True)
    curve = rd_curve_or_failures(f"{codec}:encoder={broken},decoder={decoder}", images)
    assert "broken ended with code 3: cannot go on" in curve.failures[0]["message"]


def rd_curve_or_failures(name, images) -> RDCurve:
    study = Study([name], images, [32])
    for _ in study.run():
        pass
    return study.curves()[0]


@pytest.mark.parametrize("codec", ["vvenc", "vtm"])
def test_missing_programs(codec, images, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match=rf"not on the PATH; name it with {codec}:\w+=FILE"):
        parse_codec(codec).versions()


@pytest.mark.parametrize("codec", ["vvenc", "vtm"])
def test_real_programs(codec, images):
    try:
        parse_codec(codec).versions()
    except InputError as error:
        pytest.skip(str(error))
    curve = rd_curve(codec, images[:1], [32])
    assert not curve.failures and curve.points["psnr"][0] > 34 and curve.points["bpp"][0] < 0.5


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own
def test_compressai(images, tmp_path):
    """An untrained network's files, through the same path as a trained one's."""
    name = f"compressai:model=bmshj2018-factorized,checkpoint={tmp_path}/q{{q}}.pt"
    codec = parse_codec(name)
    try:
        codec.versions()
    except InputError as error:
        assert "needs the package compressai" in str(error)
        pytest.skip(str(error))
    import torch
    from compressai.zoo import image_models

    torch.manual_seed(0)
    torch.save(image_models[codec.model](1, pretrained=False).state_dict(), tmp_path / "q1.pt")
    study = Study([name], images, [1, 2])
    for _ in study.run():
        pass
    (curve,) = study.curves()
    assert curve.cells["image"].tolist() == ["a", "b"] and (curve.cells["size_bytes"] > 20).all()
    assert {f["asked"] for f in curve.failures} == {"2"} and "q2.pt" in curve.failures[0]["message"]
    with pytest.raises(UnknownModelError, match="expected model bmshj2018-factorized"):
        parse_codec("compressai:model=elic").versions()


# ---------------------------------------------------------------- metrics


def test_metrics_of_equal_and_of_different_images(sample):
    crop = sample[:200, :300]
    equal = compare(crop, crop)
    assert equal == {"psnr": math.inf, "ms_ssim": 1.0, "ssimulacra2": 100.0}
    noisy = np.clip(crop + np.random.default_rng(0).normal(0, 8, crop.shape), 0, 255).astype(
        np.uint8
    )
    worse = np.clip(crop + np.random.default_rng(0).normal(0, 24, crop.shape), 0, 255).astype(
        np.uint8
    )
    for metric in (psnr, ms_ssim, ssimulacra2):
        assert metric(crop, crop) > metric(crop, noisy) > metric(crop, worse)


def test_metrics_of_a_small_image(sample):
    crop = sample[:100, :100]
    with pytest.raises(InputError, match="161 pixels"):
        ms_ssim(crop, crop)
    values = compare(crop, crop // 2)
    assert math.isnan(values["ms_ssim"]) and math.isfinite(values["ssimulacra2"])


@pytest.mark.parametrize(("metric", "equal"), [("cvvdp", 10), ("butteraugli", 0)])
@pytest.mark.filterwarnings("ignore")  # of what CVVDP imports
def test_metrics_on_demand(metric, equal, sample):
    """Equal is perfect, and worse is worse, where they are installed; too small has none."""
    try:
        version_of(metric)
    except InputError as error:
        pytest.skip(str(error))
    crop = sample[:96, :128]
    values = [compare(crop, crop // n * n, [metric])[metric] for n in (1, 16, 48)]
    assert values[0] == equal
    assert values == sorted(values, reverse=metric == "cvvdp") and len(set(values)) == 3
    assert math.isnan(compare(crop[:7], crop[:7], [metric])[metric])


def test_ms_ssim_is_compressais(sample):
    """JPEG 50 of kodim23; the published JPEG curve's MS-SSIM was measured with the same package."""
    curve = rd_curve("jpeg", [Image("kodim23", sample)], [50])
    assert curve.points["ms_ssim"][0] == pytest.approx(0.9764, abs=2e-3)


# ---------------------------------------------------------------- cells and cache


def test_a_cell_is_a_file(images):
    codec = parse_codec("webp")
    cell = Cell("webp", "50", digest_of(images[0].pixels), codec.versions())
    found = measure((cell, images[0].pixels))
    decoded = codec.decode(found.data, (176, 176))
    assert found.data == codec.encode(images[0].pixels, 50)
    assert found.row["size_bytes"] == len(found.data)
    assert found.row["bpp"] == 8 * len(found.data) / 176**2
    assert found.row["psnr"] == psnr(images[0].pixels, decoded)
    assert 0 < found.row["decode_s"] < found.row["encode_s"] < 5
    assert found.row["machine"]


def test_peak_memory_is_that_of_the_work(sample):
    """A model's activations at 512x768 take tens of MiB; JPEG needs a few."""
    image = [Image("kodim23", sample)]
    ours, jpeg = rd_curve("hyperprior-s", image, [4]), rd_curve("jpeg", image, [50])
    assert 5 < ours.points["encode_mib"][0] < 200
    assert jpeg.points["encode_mib"][0] < 20


@pytest.mark.parametrize("target", ["0.5bpp", "35dB"])
@pytest.mark.parametrize("name", ["jpeg", "jxl", "hyperprior-s", "dct", "hevc"])
def test_targets(name, target, images):
    curve = rd_curve(name, images, [parse_quality(target)])
    column, value = ("bpp", 0.5) if target.endswith("bpp") else ("psnr", 35)
    close = 0.06 if column == "bpp" else 0.6
    assert curve.cells[column].tolist() == pytest.approx([value, value], abs=close)
    assert curve.points["asked"].tolist() == [target]


def test_a_target_out_of_reach_gives_the_nearest(images):
    curve = rd_curve("hyperprior-s", images, [Target(0.0001, "bpp")])
    assert curve.cells["quality"].tolist() == pytest.approx([1, 1], abs=0.05)


@pytest.mark.parametrize("text", ["", "best", "nan", "-1bpp", "0dB", "4 5"])
def test_bad_qualities(text):
    with pytest.raises(InputError, match=r"expected 4, 0\.25bpp or 35dB"):
        parse_quality(text)


def test_cache(images, tmp_path, monkeypatch):
    cache = Cache(tmp_path / "cells")
    first = rd_curve("jpeg", images, [20, 60], cache=cache)
    assert len(list((tmp_path / "cells").glob("*.json"))) == 4
    monkeypatch.setattr("ncodec.evaluation.study.run_all", lambda work, items, *_: no_work(items))
    again = rd_curve("jpeg", images, [20, 60], cache=cache)  # seconds too: nothing was measured
    assert again.cells.equals(first.cells)
    # Any of these is another cell: the quality, the codec's options, the image, a version.
    with pytest.raises(AssertionError, match="1 cells"):
        rd_curve("jpeg", images[:1], [61], cache=cache)
    with pytest.raises(AssertionError, match="1 cells"):
        rd_curve("jpeg:progressive=true", images[:1], [60], cache=cache)
    with pytest.raises(AssertionError, match="1 cells"):
        rd_curve("jpeg", [Image("a", images[0].pixels[::-1])], [60], cache=cache)
    monkeypatch.setattr("ncodec.evaluation.peers.pillow.features.version", lambda _: "0.1")
    with pytest.raises(AssertionError, match="1 cells"):
        rd_curve("jpeg", images[:1], [60], cache=cache)


def no_work(items):
    items = list(items)
    assert not items, f"{len(items)} cells"
    return iter(())


def test_a_damaged_cell_is_measured_again(images, tmp_path):
    cache = Cache(tmp_path)
    first = rd_curve("jpeg", images[:1], [20], cache=cache)
    for suffix, damage in (
        (".json", b"{"),
        (".json", b"[1]"),
        (".json", b"{}"),
        (".file", b"short"),
    ):
        (file,) = tmp_path.glob(f"*{suffix}")
        file.write_bytes(damage)
        again = rd_curve("jpeg", images[:1], [20], cache=cache)
        assert again.cells["psnr"].equals(first.cells["psnr"])
        assert json.loads(next(tmp_path.glob("*.json")).read_text())["size_bytes"] > 1000


@pytest.fixture
def judge(tmp_path, monkeypatch):
    """Return a function that puts a program `butteraugli_main` on the PATH; there is no other. Cells run in this process."""
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    (tmp_path / "programs").mkdir()
    for module in ("study",):
        monkeypatch.setattr(
            f"ncodec.evaluation.{module}.run_all",
            lambda work, items, *_: enumerate(map(work, items)),
        )

    def put(says):
        program = tmp_path / "programs" / BUTTERAUGLI
        program.write_text(f"#!{sys.executable}\nprint({says!r})\n")
        program.chmod(0o755)

    return put


def test_a_kept_cell_is_completed_not_encoded_again(images, judge, tmp_path, monkeypatch):
    judge("9.5\n3-norm: 1.5")
    cache = Cache(tmp_path / "cells")
    before = rd_curve("jpeg", images, [20, 60], cache=cache)
    assert before.points["butteraugli"].isna().all()
    assert (
        "butteraugli" not in to_json([before]) and measured_metrics([before])[-1] == "ssimulacra2"
    )
    monkeypatch.setattr("ncodec.evaluation.peers.pillow.Jpeg.encode", None)  # cannot be called
    after = rd_curve("jpeg", images, [20, 60], cache=cache, metrics=["butteraugli"])
    assert after.points["butteraugli"].tolist() == [1.5, 1.5]
    same = ["bpp", "psnr", "ms_ssim", "encode_s"]
    assert after.points[same].equals(before.points[same])
    assert points_of(after, "butteraugli")[0][1] == pytest.approx(-1.761, abs=1e-3)  # dB, rising
    # Kept; not shown where it is not asked for; measured again by another program.
    monkeypatch.setattr("ncodec.evaluation.peers.pillow.Jpeg.decode", None)
    again = rd_curve("jpeg", images, [20, 60], cache=cache, metrics=["butteraugli"])
    assert again.cells.equals(after.cells)
    assert rd_curve("jpeg", images, [20, 60], cache=cache).points["butteraugli"].isna().all()
    monkeypatch.undo()
    judge("3-norm: 2.5")
    monkeypatch.setenv("PATH", str(tmp_path / "programs"))
    other = rd_curve("jpeg", images[:1], [20], cache=cache, metrics=["butteraugli"])
    assert other.points["butteraugli"][0] == 2.5


def test_a_judge_that_is_missing_or_fails(images, judge):
    """Its column has nothing, a message says what to install, and nothing else fails; a judge that says nothing is a NaN."""
    study = Study(["jpeg"], images[:1], [20], metrics=["butteraugli"])
    assert study.missing == [f"Butteraugli needs the program {BUTTERAUGLI} (Debian: libjxl-devtools)"]  # fmt: skip
    for _ in study.run():
        pass
    (curve,) = study.curves()
    assert curve.points["butteraugli"].isna().all() and curve.points["psnr"].notna().all()
    judge("no distance")
    curve = rd_curve("jpeg", images[:1], [20], metrics=["butteraugli"])
    assert curve.points["butteraugli"].isna().all() and not curve.failures
    with pytest.raises(InputError, match=r"expected one of psnr, .*, found 'vmaf'"):
        Study(["jpeg"], images, metrics=["vmaf"])


def test_an_interrupted_study_goes_on(images, tmp_path):
    cache = Cache(tmp_path)
    study = Study(["jpeg"], images, [20, 40, 60], cache)
    for done, _, _ in study.run():
        if done == 2:
            break
    kept = len(list(tmp_path.glob("*.json")))
    assert 2 <= kept < 6
    study = Study(["jpeg"], images, [20, 40, 60], cache)
    assert next(study.run())[:2] == (kept, 6)


def test_a_worker_with_other_versions_is_refused(images):
    cell = Cell("webp", "50", digest_of(images[0].pixels), {"pillow": "1.0"})
    with pytest.raises(InputError, match=r"expected \{'pillow': '1.0'\}, found"):
        measure((cell, images[0].pixels))


# ---------------------------------------------------------------- curves


def test_a_point_is_the_mean_over_the_images(images):
    curve = rd_curve("webp", images, [80, 30, 80])
    assert curve.points["asked"].tolist() == ["30", "80"]
    for point in curve.points.to_dict("records"):
        cells = curve.cells[curve.cells["asked"] == point["asked"]]
        assert cells["image"].tolist() == ["a", "b"]
        for column in ("bpp", "psnr", "ms_ssim", "ssimulacra2"):
            assert point[column] == pytest.approx(cells[column].mean(), rel=1e-12)


def test_one_cell_that_fails_is_a_gap(images):
    tiny = Image("tiny", images[0].pixels[:1, :1])
    curve = rd_curve_or_failures("svtav1", [images[0], tiny])
    assert [f["image"] for f in curve.failures] == ["tiny"] and curve.failures[0]["message"]
    assert curve.cells["image"].tolist() == ["a"] and len(curve.points) == 0
    note = bd_table([curve], [find_anchor("vtm")])["note"][0]
    assert "expected two points or more, found 0" in note and "gaps: 1" in note


def test_a_metric_that_one_image_lacks_has_no_points(images):
    small = Image("small", images[0].pixels[:100])
    curve = rd_curve("jpeg", [images[0], small], [30, 60])
    assert curve.points["ms_ssim"].isna().all() and curve.points["psnr"].notna().all()
    table = bd_table([curve], [find_anchor("vtm")])
    assert "points that are not finite: 2" in table[table["metric"] == "ms_ssim"]["note"].iloc[0]


@pytest.mark.parametrize(
    ("name", "quality"), [("jpeg", 101), ("jpeg", -1), ("webp", 30.5), ("hevc", 52), ("jxl", 0)]
)
def test_qualities_off_the_scale_are_gaps(name, quality, images):
    with pytest.raises(InputError, match=r"quality: expected .* to .*, found"):
        rd_curve(name, images[:1], [quality])


def test_an_earlier_study_of_the_same_codec_is_an_anchor(images, tmp_path):
    curve = rd_curve("jpeg", images, [20, 60])
    (tmp_path / "before.json").write_text(to_json([curve]))
    before = find_anchor(str(tmp_path / "before.json"))
    assert bd_table([curve], [before])["percent"].abs().max() < 1e-3
    assert len(bd_table([curve], [curve])) == 0


def test_the_current_folder_is_not_imported(folder, tmp_path, monkeypatch):
    """A checkout, or anything named as a module, in the folder where the command is run."""
    monkeypatch.chdir(tmp_path)
    for name in ("ncodec.py", "queue.py", "numpy.py"):
        (tmp_path / name).write_text("raise RuntimeError('imported from the current folder')")
    arguments = ("eval", folder / "a.png", "--codec", "jpeg", "--quality", 50, "--no-cache")
    assert "1 of 1" in ncodec(*arguments).stderr
    assert "1 of 1" in ncodec(*arguments, "--engine", "ray", "--jobs", 1).stderr


def test_a_codec_that_cannot_run_is_a_gap(images):
    study = Study(["jpeg", "vvenc:encoder=/nowhere/vvencapp,decoder=/bin/true"], images[:1], [50])
    for _ in study.run():
        pass
    jpeg, vvenc = study.curves()
    assert len(jpeg.points) == 1 and not jpeg.failures
    assert "/nowhere/vvencapp" in vvenc.failures[0]["message"] and len(vvenc.points) == 0
    with pytest.raises(InputError, match="nowhere"):
        rd_curve("vvenc:encoder=/nowhere/vvencapp,decoder=/bin/true", images[:1])


def test_a_missing_model(images):
    with pytest.raises((InputError, UnknownModelError), match=r"nowhere\.safetensors"):
        rd_curve("ncodec:model=nowhere.safetensors", images[:1])


@pytest.mark.parametrize(
    ("images_of", "codecs", "message"),
    [
        (lambda a, b: [], ["jpeg"], "expected one or more"),
        (lambda a, b: [a, a], ["jpeg"], "found 'a' twice"),
        (lambda a, b: [a, b], ["jpeg", "jpeg:progressive=false"], "'jpeg' is named twice"),
    ],
)
def test_bad_studies(images_of, codecs, message, images):
    with pytest.raises(InputError, match=message):
        Study(codecs, images_of(*images))


def test_json_round_trip(images, tmp_path):
    curves = [rd_curve("jpeg", images, [20, 60]), rd_curve("jxl", images, [4, 1])]
    curves[0].failures.append({"image": "c", "asked": "20", "message": "no"})
    (tmp_path / "s.json").write_text(to_json(curves))
    again = read_curves(tmp_path / "s.json")
    assert to_json(again) == to_json(curves)
    assert [c.codec for c in again] == ["jpeg", "jxl"] and again[0].failures == curves[0].failures
    assert np.allclose(again[0].points["psnr"], curves[0].points["psnr"])


def test_infinity_and_nan_survive_json(tmp_path):
    curve = find_anchor("av1")
    curve.points.loc[0, "psnr"], curve.points.loc[1, "psnr"] = math.inf, math.nan
    (tmp_path / "s.json").write_text(to_json([curve]))
    json.loads((tmp_path / "s.json").read_text(), parse_constant=lambda text: pytest.fail(text))
    (again,) = read_curves(tmp_path / "s.json")
    assert again.points["psnr"][0] == math.inf and math.isnan(again.points["psnr"][1])
    assert len(points_of(again, "psnr")) == len(curve.points) - 2  # neither is a point


@pytest.mark.parametrize("text", [
    "", "[]", "[1, 2]", '{"format": "ncodec study 1"}', '{"format": "ncodec study 1", "curves": [3]}',
    '{"name": "x", "bpp": ["a"], "psnr": [1]}', '{"name": "x", "bpp": [1, 2], "psnr": [1]}',
    '{"name": "x", "bpp": [1]}', '{"name": "x", "psnr": [1]}', '{"bpp": [1], "psnr": [1]}',
    '{"name": 5, "bpp": [1], "psnr": [1]}', '{"name": "x", "images": [1], "bpp": [1], "psnr": [1]}',
    '{"name": "x", "bpp": [[1]], "psnr": [1]}', '{"name": "x", "bpp": 1, "psnr": 1}',
])  # fmt: skip
def test_bad_json(text, tmp_path):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(InputError, match="expected a study or a published curve"):
        read_curves(tmp_path / "s.json")


# ---------------------------------------------------------------- BD-rate


@pytest.mark.parametrize(
    ("name", "percent"),
    [
        ("hm", 23.3), ("bpg", 22.0), ("av1", 16.2), ("webp", 78.8), ("jpeg", 208), ("vtm", 0),
        ("mbt2018-mean", 21.3), ("bmshj2018-hyperprior", 30.5), ("mbt2018", 11.0),
        ("cheng2020-anchor", 3.7), ("elic2022", -7.0),
    ],
)  # fmt: skip
def test_published_pairs(name, percent):
    found = bd_rate(find_anchor(name), find_anchor("vtm"))
    assert found.percent == pytest.approx(percent, abs=0.5)


def curve(name, points):
    rows = [
        {"image": "a", "asked": str(i), "quality": i, "bpp": b, "psnr": p, "ms_ssim": 0.9, "ssimulacra2": p}
        for i, (b, p) in enumerate(points)
    ]  # fmt: skip
    return curve_of_cells(name, rows, 1, [], {"images": {"a": "0"}})


def test_overlap_points_and_warning():
    anchor = curve("anchor", [(0.1, 20), (0.2, 25), (0.4, 30), (0.8, 35), (1.6, 40)])
    found = bd_rate(curve("c", [(0.2, 30), (0.4, 35), (0.8, 40), (1.6, 45)]), anchor)
    assert (found.low, found.high, found.points, found.anchor_points) == (30, 40, 3, 3)
    assert found.percent == pytest.approx(-50)
    assert (found.share, found.anchor_share) == pytest.approx((2 / 3, 0.5))
    assert found.warning == "only 50.0% of the anchor's range is in both curves"
    assert bd_rate(anchor, anchor).warning == "" and bd_rate(anchor, anchor).percent == 0


def test_curves_that_cannot_be_compared():
    vtm = find_anchor("vtm")
    single = curve("single", [(0.5, 30)])
    apart = curve("apart", [(0.5, 10), (0.6, 12)])
    nan = curve("nan", [(0.5, math.nan), (0.7, 33)])
    flat = curve("flat", [(0.5, 30), (0.7, 30)])
    for other, message in (
        (single, "expected two points or more, found 1"),
        (apart, "do not overlap"),
        (nan, "expected two points or more, found 1"),
        (flat, "expected two points or more, found 1"),
    ):
        with pytest.raises(InputError, match=message):
            bd_rate(other, vtm)
    with pytest.raises(InputError, match="expected one of psnr"):
        bd_rate(vtm, vtm, "vmaf")
    table = bd_table([single, apart, vtm], [vtm])
    assert (
        table["percent"].isna().all()
        and all(table["note"])
        and set(table["codec"]) == {"single", "apart"}
    )


def curve_of_images(name, rates, values, metric="ssimulacra2"):
    """A curve of images "a", "b", …; rates and values [image][quality]."""
    rows = [
        {"image": image, "asked": str(q), "quality": q, "bpp": rate, metric: value}
        for image, of_image in zip("abcd", zip(rates, values, strict=True), strict=False)
        for q, (rate, value) in enumerate(zip(*of_image, strict=True))
    ]
    digests = {image: image * 32 for image in "abcd"[: len(rates)]}
    return curve_of_cells(name, rows, len(rates), [], {"images": digests})


def test_bd_rates_of_images():
    """Half the bits for one image and the same for the other: -25 % ± 25 %; images are matched by their pixels."""
    looks_like = [[30, 50, 70], [40, 60, 80]]
    anchor = curve_of_images("anchor", [[0.2, 0.4, 0.8], [0.1, 0.2, 0.4]], looks_like)
    mine = curve_of_images("mine", [[0.1, 0.2, 0.4], [0.1, 0.2, 0.4]], looks_like)
    found = bd_rate_of_images(mine, anchor, "ssimulacra2")
    assert (found.percent, found.spread, found.images) == pytest.approx((-25, 25, 2))
    assert found.warning == ""
    row = bd_table([mine], [anchor]).set_index("metric").loc["ssimulacra2"]
    assert (row["image_percent"], row["image_spread"], row["images"]) == pytest.approx((-25, 25, 2))
    mine.about["images"] = {"a": "b" * 32, "b": "c" * 32}  # its first image is the anchor's second
    assert bd_rate_of_images(mine, anchor, "ssimulacra2").images == 1
    assert bd_rate_of_images(mine, find_anchor("vtm")).images == 0


def test_curves_that_are_not_monotone():
    """A point that a smaller file beats is left out of the BD-rate, and counted: of the mean curve, and by image."""
    rates = [[0.2, 0.4, 0.5, 0.8], [0.1, 0.2, 0.25, 0.4]]
    anchor = curve_of_images("anchor", rates, [[30, 50, 55, 70], [40, 60, 65, 80]])
    mine = curve_of_images("mine", rates, [[30, 50, 40, 70], [40, 60, 61, 80]])
    straight = [[row[i] for i in (0, 1, 3)] for row in rates]
    without = curve_of_images("without", straight, [[30, 50, 70], [40, 60, 80]])
    found = bd_rate(mine, anchor, "ssimulacra2")
    assert found.percent == bd_rate(without, anchor, "ssimulacra2").percent and found.beaten == 1
    assert found.warning == "not monotone, points left out: 1"
    of_images = bd_rate_of_images(mine, anchor, "ssimulacra2")
    assert (of_images.images, of_images.beaten) == (2, 1)
    assert of_images.warning == "images with a curve that is not monotone: 1"
    apart = curve_of_images("apart", rates, [[10, 12, 14, 16], [40, 60, 65, 80]])
    assert bd_rate_of_images(apart, anchor, "ssimulacra2").failed == 1


def test_spread_of_looks():
    """Means 50 and 70, standard deviations 10 and 2: between them on a line, beyond them unknown."""
    mine = curve_of_images("mine", [[0.1, 0.2], [0.1, 0.2]], [[40, 68], [60, 72]])
    assert [spread_at(mine, look) for look in (50, 60, 70)] == pytest.approx([10, 6, 2])
    assert math.isnan(spread_at(mine, 71)) and math.isnan(spread_at(find_anchor("vtm"), 50))


def test_other_images_than_the_anchors_are_noted(images):
    other = bd_table([rd_curve("jpeg", images, [20, 60])], [find_anchor("vtm")])
    assert "not the anchor's images" in other["note"][0]
    assert "images" not in bd_table([find_anchor("av1")], [find_anchor("vtm")])["note"][0]


def test_anchors(images, tmp_path):
    assert {"vtm", "av1", "hm", "bpg", "webp", "jpeg"} <= set(list_anchors())
    assert all(find_anchor(name).about["source"] for name in list_anchors())
    mine = rd_curve("jpeg", images, [20, 60])
    assert find_anchor("jpeg", [mine]) is mine  # a codec of the study comes first
    (tmp_path / "mine.json").write_text(to_json([mine]))
    assert find_anchor(str(tmp_path / "mine.json")).codec == "jpeg"
    (tmp_path / "two.json").write_text(to_json([mine, find_anchor("vtm")]))
    with pytest.raises(InputError, match="expected one curve, found 2"):
        find_anchor(str(tmp_path / "two.json"))
    with pytest.raises(
        InputError, match=r"'h264': expected a codec of this study, a file, or one of av1"
    ):
        find_anchor("h264")


def test_every_codec_is_known():
    """Each name of the table, and each shipped model, gives a codec whose default curve lies on its scale."""
    for name in [*CODECS, *models_by_name()]:
        codec = parse_codec(name)
        low, high = sorted((codec.WORST, codec.BEST))
        assert all(low <= quality <= high for quality in (*codec.QUALITIES, *codec.LOW))
        assert is_lossless(codec) or (len(codec.QUALITIES) >= 5 and len(codec.LOW) >= 3)


@pytest.mark.parametrize("name", ["webp", "avif", "jxl", "dct"])
def test_curves_of_low_rates(name, images):
    """They begin with the smallest file that the codec can make, and rise in every metric and in rate."""
    study = Study([name], images, is_low=True)
    for _ in study.run():
        pass
    (curve,) = study.curves()
    codec = parse_codec(name)
    assert len(curve.points) == len(codec.LOW) and not curve.failures
    assert curve.points["quality"][0] == codec.WORST
    for metric in ("bpp", "psnr", "ms_ssim"):
        assert (np.diff(curve.points[metric]) > 0).all(), metric


def test_low_rates_of_our_models():
    """All qualities of a tokenizer, the first of others."""
    kinds = {name: len(parse_codec(name).LOW) for name in models_by_name()}
    assert kinds["dct"] == kinds["hyperprior-s"] == 3
    assert all(n == 8 for name, n in kinds.items() if name[:3] in ("fsq", "bsq", "vq-"))


def test_values_at_rates():
    """On the curve, at its ends, beyond it; where two qualities have one rate, the better one counts."""
    mine = curve("c", [(0.1, 20), (0.2, 25), (0.2, 26), (0.4, 30)])
    assert [value_at(mine, "psnr", rate) for rate in (0.1, 0.2, 0.4)] == [20, 26, 30]
    assert 26 < value_at(mine, "psnr", 0.3) < 30
    assert math.isnan(value_at(mine, "psnr", 0.099)) and math.isnan(value_at(mine, "psnr", 0.41))


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def folder(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("images")
    for image in images:
        PillowImage.fromarray(image.pixels).save(path / f"{image.name}.png")
    PillowImage.fromarray(images[0].pixels[..., 1]).save(path / "grey.png")
    return path


def ncodec(*arguments, code=0, **environment):
    done = subprocess.run(
        [NCODEC, *map(str, arguments)], capture_output=True, text=True, timeout=600, env=os.environ | environment
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout[-800:], done.stderr[-3000:])
    assert "Traceback" not in done.stderr
    return done


def test_eval(folder, tmp_path):
    reports = [
        tmp_path / f"out{suffix}" for suffix in (".html", ".md", ".svg", ".png", ".csv", ".json")
    ]
    done = ncodec(
        "eval", folder, "--codec", "jpeg", "--codec", "hyperprior-s", "--quality", "0.4bpp,0.8bpp",
        "--anchor", "jpeg", "--anchor", "vtm", "--jobs", 2, "--cache", tmp_path / "cache",
        *(word for path in reports for word in ("--report", path)),
    )  # fmt: skip
    assert "| hyperprior-s | -" in done.stdout  # fewer bits than JPEG
    assert "12 of 12" in done.stderr and "not the anchor's images" in done.stderr
    curves = read_curves(tmp_path / "out.json")
    assert [len(c.cells) for c in curves] == [6, 6] and set(curves[0].cells["image"]) == {
        "a.png",
        "b.png",
        "grey.png",
    }
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 13
    assert (tmp_path / "out.md").read_text().startswith("# Rate-distortion study")
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")
    with PillowImage.open(tmp_path / "out.png") as plot:
        assert plot.width > 1000
    # From the JSON alone, the same report; from the cache, the same results.
    ncodec(
        "eval",
        tmp_path / "out.json",
        "--anchor",
        "jpeg",
        "--anchor",
        "vtm",
        "--report",
        tmp_path / "again.md",
    )
    assert (tmp_path / "again.md").read_text() == (tmp_path / "out.md").read_text()
    ncodec(
        "eval", folder, "--codec", "jpeg", "--codec", "hyperprior-s", "--quality", "0.4bpp,0.8bpp",
        "--cache", tmp_path / "cache", "--report", tmp_path / "cached.json",
    )  # fmt: skip
    assert (tmp_path / "cached.json").read_text() == (tmp_path / "out.json").read_text()


def test_eval_of_lossless_codecs(folder, tmp_path):
    reports = [tmp_path / f"r{suffix}" for suffix in (".html", ".md", ".svg", ".json")]
    done = ncodec(
        "eval", folder / "a.png", "--codec", "png", "--codec", "jxl:effort=1,lossless=true", "--anchor", "png", "--no-cache",
        *(word for path in reports for word in ("--report", path)),
    )  # fmt: skip
    title, _, head, _, first, last = done.stdout.splitlines()[:6]
    assert title == "Lossless: bytes"
    assert head == "| codec | bytes | bpp | vs png, images (%) | total (%) | encode (MB/s) | decode (MB/s) |"  # fmt: skip
    assert first.startswith("| jxl:effort=1,lossless=true | ") and last.split(" | ")[3] == "-"
    assert "BD-rate" not in done.stdout + done.stderr
    assert f"{head}\n" in reports[1].read_text()
    assert "Lossless: bytes</h2>" in reports[0].read_text()
    assert all(curve.is_lossless for curve in read_curves(reports[3]))


def test_eval_at_low_rates(folder, tmp_path):
    """The table is printed, and is in the reports; from the JSON alone it is the same."""
    common = ("--at", "0.2,0.01", "--anchor", "webp")
    done = ncodec(
        "eval", folder / "a.png", "--codec", "webp", "--codec", "dct", "--low", *common,
        "--no-cache", "--visual", 0, "--report", tmp_path / "s.json", "--report", tmp_path / "s.md", "--report", tmp_path / "s.html",
    )  # fmt: skip
    head = "| codec | its rates (bpp) | 0.01 bpp | 0.2 bpp | BD-rates vs webp (%) |"
    assert head in done.stdout and "8 of 8" in done.stderr
    table = done.stdout[done.stdout.index(head) :]
    webp = read_curves(tmp_path / "s.json")[0]
    assert f"| webp | {webp.points['bpp'][0]:.3f} to {webp.points['bpp'][4]:.3f} | - |" in table
    assert re.search(r"\| dct \| [\d. to]+ \| - \| (\d+\.\d\d, 0\.\d{3}, -?\d+\.\d|-) \|", table)
    again = ncodec("eval", tmp_path / "s.json", *common).stdout
    assert table in again and table.strip() in (tmp_path / "s.md").read_text()
    assert "<th>0.01 bpp</th>" in (tmp_path / "s.html").read_text()


def test_ctrl_c_ends_everything_and_the_same_command_goes_on(folder, program, tmp_path):
    """The encoder of the second codec sleeps: it is ended too."""
    sleeper = tmp_path / "sleeper"
    sleeper.write_text(f'#!/bin/sh\n[ "$1" = --version ] || exec sleep 1000.{os.getpid()}\n')
    sleeper.chmod(0o755)
    decoder = program("decoder", False)
    command = [NCODEC, "eval", folder / "a.png", "--codec", "jpeg", "--quality", "30", "--cache", tmp_path / "cells"]  # fmt: skip
    slow = ["--codec", f"vvenc:encoder={sleeper},decoder={decoder}"]
    running = subprocess.Popen(
        [*command, *slow],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's & ignores it
    )
    sleeping = f"sleep 1000.{os.getpid()}"
    deadline = time.monotonic() + 60
    while subprocess.run(["pgrep", "-f", sleeping], stdout=subprocess.DEVNULL).returncode:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, printed = running.communicate(timeout=60)
    assert running.returncode == 130 and "Traceback" not in printed
    assert "ncodec: interrupted; what was measured is in" in printed
    assert subprocess.run(["pgrep", "-f", sleeping], stdout=subprocess.DEVNULL).returncode == 1
    assert "1 of 1 measured, 1 cells from the cache" in ncodec(*command[1:]).stderr


def test_ray_gives_what_local_gives(folder, tmp_path):
    """A local cluster of two workers; then batch encoding on it."""
    for engine in ("local", "ray"):
        ncodec(
            "eval", folder / "a.png", folder / "b.png", "--codec", "webp", "--codec", "hyperprior-s", "--quality", "3,5",
            "--engine", engine, "--jobs", 2, "--no-cache", "--report", tmp_path / f"{engine}.json",
            OMP_NUM_THREADS="2",  # what the user has set; cells have one thread all the same
        )  # fmt: skip
        ncodec(
            "encode",
            folder / "a.png",
            folder / "grey.png",
            "-o",
            f"{tmp_path}/{engine}/",
            "--engine",
            engine,
            "--jobs",
            2,
        )
    local, ray = (read_curves(tmp_path / f"{engine}.json") for engine in ("local", "ray"))
    exact = ["image", "asked", "quality", "size_bytes", "bpp", "psnr", "ms_ssim", "ssimulacra2"]
    for a, b in zip(local, ray, strict=True):
        assert len(a.cells) == 4 and a.cells[exact].equals(b.cells[exact])
    for name in ("a.nc", "grey.nc"):
        assert (tmp_path / "local" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()


def test_batch_encoding_with_a_bad_file(folder, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    done = ncodec("encode", tmp_path / "bad.png", folder / "a.png", folder / "b.png", tmp_path / "none.png",
                  "-o", f"{tmp_path}/out/", "--jobs", 2, code=6)  # fmt: skip
    assert "bad.png" in done.stderr and "none.png" in done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.nc", "b.nc"]


def test_unreadable_images_and_missing_programs_are_gaps(folder, tmp_path):
    (tmp_path / "broken.png").write_bytes((folder / "a.png").read_bytes()[:2000])
    done = ncodec(
        "eval", folder / "a.png", tmp_path / "broken.png", tmp_path / "missing.png", "--codec", "jpeg",
        "--codec", "vtm:encoder=nowhere", "--quality", "30,60", "--anchor", "vtm", "--no-cache", "--visual", 0,
        "--report", tmp_path / "r.html", "--report", tmp_path / "r.md", code=6,
    )  # fmt: skip
    for report in (done.stderr, (tmp_path / "r.md").read_text(), (tmp_path / "r.html").read_text()):
        assert (
            "broken.png" in report and "missing.png" in report and "vtm:encoder=nowhere" in report
        )
    assert "| jpeg (gaps) |" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--codec", "gif"], 2, "'gif': expected one of"),
        (["--quality", "high"], 2, "expected 4, 0.25bpp or 35dB"),
        (["--anchor", "h264"], 6, "h264"),
        (["--report", "x.pdf"], 6, "x.pdf: expected a name in .html"),
        (["--report", "no/such/x.html"], 6, "there is no folder no/such"),
        (["--engine", "slurm", "--codec", "jpeg", "--no-cache"], 2, "'slurm'"),
        (["--jobs", "-1"], 2, "Invalid value for '--jobs': "),
        (["--at", "0.1,low"], 2, "expected bpp such as 0.1,0.2, found '0.1,low'"),
        (["--at", "0.1,0"], 2, "found '0.1,0'"),
        (["--visual-bpp", "high"], 2, "expected bpp such as 0.1,0.2, found 'high'"),
        (
            ["--metric", "vmaf"],
            2,
            "expected one of psnr, ms_ssim, ssimulacra2, cvvdp, butteraugli, all, found 'vmaf'",
        ),
        (["--low", "--quality", "3"], 2, "either --quality or --low"),
        (["--codec", "jpeg", "--codec", "jpeg"], 6, "named twice"),
        (["--codec", "jpeg", "--cache", "/dev/null/x"], 6, "/dev/null/x"),
    ],
)
def test_bad_calls(arguments, code, message, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = ncodec("eval", folder / "a.png", *arguments, code=code)
    assert message in done.stderr.replace("\n", " ")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_measure(tmp_path):
    assert "expected one or more" in ncodec("eval", tmp_path, "--codec", "jpeg", code=6).stderr
    assert "typo.png" in ncodec("eval", "typo.png", "--codec", "jpeg", code=6).stderr
    (tmp_path / "s.json").write_text("{}")
    assert "expected a study" in ncodec("eval", tmp_path / "s.json", code=6).stderr


def test_compare(folder, tmp_path):
    ncodec("encode", folder / "a.png", "-o", tmp_path / "a.nc")
    ncodec("decode", tmp_path / "a.nc", "-o", tmp_path / "a.png")
    values = json.loads(ncodec("compare", folder / "a.png", tmp_path / "a.png", "--json").stdout)
    with PillowImage.open(folder / "a.png") as a, PillowImage.open(tmp_path / "a.png") as b:
        expected = compare(np.asarray(a), np.asarray(b))
    assert values == expected
    assert ncodec("compare", folder / "a.png", tmp_path / "a.nc").stdout.startswith(
        f"psnr         {values['psnr']:.4f} dB"
    )
    assert "inf dB" in ncodec("compare", folder / "a.png", folder / "a.png").stdout
    assert (
        "expected 176x176 pixels"
        in ncodec("compare", folder / "a.png", folder / "b.png", code=6).stderr
    )
    assert "missing.png" in ncodec("compare", folder / "a.png", "missing.png", code=6).stderr


def test_the_sample_is_kodim23(sample):
    """The digests of kodak-images.txt are of these pixels."""
    from ncodec.anchors import DIR

    with PillowImage.open(SAMPLE) as image:
        assert digest_of(np.asarray(image)) == (DIR / "kodak-images.txt").read_text().split()[22]


def test_bench_on_a_device(monkeypatch, capsys, crop):
    """By torch on the CPU: pixels are those of decode (it asserts so), alone and together; errors without a GPU."""
    monkeypatch.setattr(on_device, "QUALITIES", (1,))
    monkeypatch.setattr(on_device, "median_seconds", lambda work: (work(), 0.5)[1])
    found = on_device.bench_image(crop[:24, :40], "cpu", None, lambda row: None)
    assert [row["batch"] for row in found["rows"]] == [1, 2] and found["device"] == "cpu"
    for row in found["rows"]:
        assert list(row["share_percent"]) == ["container", "z", "indexing", "coder", "synthesis"]
        assert sum(row["share_percent"].values()) == pytest.approx(100)
        assert row["kodak_images_s"] == pytest.approx(row["batch"] * 24 * 40 / 768 / 512 / 0.5)
    with pytest.raises(InputError, match="expected one of family hyperprior"):
        on_device.bench_image(crop, "cpu", "dct", lambda row: None)
    monkeypatch.setattr(on_device.torch.cuda, "is_available", lambda: False)
    words = ["ncodec", "bench", "image", str(SAMPLE), "--device", "cuda"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 6 and "device 'cuda': not available" in capsys.readouterr().err


def test_bench_of_networks(monkeypatch):
    """All executors compute the same, and each gets a row."""
    from ncodec.evaluation import networks

    network = [("conv", 8, 16), ("block", 16, 1), ("depthwise", 16, 5)]
    monkeypatch.setattr(networks, "NETWORKS", {"small": network})
    monkeypatch.setattr(networks, "BUDGET_S", 0.0)
    computed = [run().astype(float) for run in networks.runs_of(network).values()]
    assert computed[0].shape == (64, 96, 16) and computed[0].std() > 100
    assert all(np.abs(one - computed[0]).max() < 3 for one in computed)
    for layer, most in ((("attention", 16, 2), 20), (("norm", 16, 1), 3)):  # EXP has steps of 1 %
        exact, *others = [run().astype(float) for run in networks.runs_of([layer]).values()]
        assert exact.std() > 100 and all(np.abs(one - exact).max() < most for one in others)
    rows = []
    results = networks.bench_networks(lambda name, row: rows.append(row["executor"]))
    assert rows == list(networks.runs_of(network)) and "PyTorch float32, conv2d" in rows
    row = results["networks"]["small"][0]
    macs = 64 * 96 * (8 * 16 + 9 * 16 + 4 * 16**2 + 25 * 16)
    assert row["gmac_s"] * row["seconds"] == pytest.approx(macs / 1e9)
    json.dumps(results)
