"""With torch blocked: all of the command with the shipped models; families that the package does not know, with and without weights."""

import subprocess
import sys
from dataclasses import replace

import flat_family
import numpy as np
import pytest
from conftest import ROOT

import ncodec
from ncodec import container, families
from ncodec.errors import CorruptPayloadError, InputError, NcodecError, WeightsMismatchError
from ncodec.models import weights
from ncodec.models.load import load_file
from ncodec.models.protocol import EncodeOptions
from ncodec.selftest import make_self_test, verify

PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path

sys.modules["torch"] = None  # importing it fails from here on
sys.path.insert(0, sys.argv[1])
folder = Path(sys.argv[2])

import flat_family
import numpy as np
from PIL import Image
from typer.testing import CliRunner

import ncodec
from ncodec import errors, families, inspection, selftest
from ncodec.cli.main import app
from ncodec.models import weights

families.FAMILIES += flat_family.FAMILIES
entry = flat_family.write_model(folder / "flat.safetensors")
weights.list_models = inspection.list_models = lambda: [entry]

pixels = np.random.default_rng(0).integers(0, 256, (70, 150, 3), np.uint8)
for image in (pixels, pixels[:, :, 1]):
    for tile in (0, 64):
        data = ncodec.encode(image, 4, device="cpu", tile=tile)
        assert np.array_equal(ncodec.decode(data, "numpy", device="cpu"), image // 8 * 8)
data = ncodec.encode(Image.fromarray(pixels), 8)
assert np.array_equal(ncodec.decode(data), pixels)
assert len(ncodec.decode_batch([data, data], "numpy")) == 2
assert ncodec.info(data).family == "flat"
for wrong in (lambda: ncodec.encode(pixels, device="gpu0"), lambda: ncodec.decode(data, device="auto"), lambda: ncodec.encode([1])):
    try:
        wrong()
    except errors.InputError:
        continue
    raise AssertionError

entry = replace(entry, self_test=selftest.make_self_test(entry.path))
assert list(entry.self_test) == ["file", "symbols_sha256", "psnr"]
Image.fromarray(pixels).save(folder / "a.png")
for command, output in (
    (["encode", folder / "a.png", "-q", "8", "--metrics", "-o", folder / "a.nc"], "inf dB"),
    (["decode", folder / "a.nc", "-o", folder / "b.png"], "150x70"),
    (["info", folder / "a.nc"], "flat"),
    (["models", "--verify"], "flat (flat): tune psnr: verified\\n"),
):
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0 and output in done.stdout, (command, done.output, done.exception)
assert np.array_equal(np.asarray(Image.open(folder / "b.png")), pixels)
assert sys.modules["torch"] is None
"""


def test_round_trip_where_torch_is_missing(tmp_path):
    run_blocked(PROGRAM, ROOT / "tests", tmp_path)


SHIPPED = """
import contextlib, io, os, sys
from pathlib import Path

sys.modules["torch"] = None  # importing it fails from here on
import numpy as np
from PIL import Image

import ncodec
from ncodec import errors, selftest
from ncodec.cli.main import main

model = sys.argv[1]
os.chdir(sys.argv[2])


def run(line, shown, code=0):
    sys.argv = ["ncodec", *line.split()]
    out = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main()
            found = 0
        except SystemExit as end:
            found = end.code or 0
    out.seek(0)
    text = out.read()
    assert found == code and shown in text, (line, found, text)


picture = np.kron(np.random.default_rng(0).integers(0, 256, (9, 13, 3)), np.ones((20, 20, 1))).astype(np.uint8)
Image.fromarray(picture).save("a.png")
Path("more").mkdir()
Image.fromarray(picture[:70, :90, 0]).save("more/b.png")
Image.fromarray(picture[50:]).save("more/c.png")
run(f"encode a.png --model {model} -q 3.5 --metrics --threads 2 -o a.nc", " dB, measured")
run("decode a.nc -o b.png", "260x180")
run(f"encode more --model {model} --tile 64", "more/c.nc")
run("decode more --force --jobs 2", "more/b.png")
run("info a.nc more/b.nc", model)
with open("a.nc", "rb") as file:
    data = file.read()
assert np.array_equal(ncodec.decode(data, "numpy"), np.asarray(Image.open("b.png")))
assert len(ncodec.decode_batch([data, Path("more/b.nc").read_bytes()])) == 2
(entry,) = [entry for entry in ncodec.list_models() if entry.name == model]
selftest.verify(entry)
assert selftest.make_self_test(entry.path)["symbols_sha256"] == entry.self_test["symbols_sha256"]

torch = "needs torch: pip install 'ncodec[torch]'\\n"
run(f"encode a.png --model {model} --device cuda -o c.nc", f"ncodec: device 'cuda' {torch}", 6)
run("decode a.nc --device cuda -o c.png", f"device 'cuda' {torch}", 6)
if entry.family == "hyperprior":
    run(f"encode a.png --model {model} --effort 2 -o c.nc", f"a.png: effort 2 {torch}", 6)
assert not Path("c.nc").exists()
run("decode a.nc --device auto -o c.png", "expected 'cpu' or 'cuda'", 2)
run("compare a.png b.png", "ncodec: compare needs torch: pip install 'ncodec[eval]'\\n", 6)
run("train hyperprior-s --data more", "ncodec: train needs torch: pip install 'ncodec[train]'\\n", 6)
for wrong in (lambda: ncodec.decode(data, "torch"), lambda: ncodec.encode(picture, device="cuda")):
    try:
        wrong()
    except errors.InputError as error:
        assert str(error) + chr(10) in (f"kind 'torch' {torch}", f"device 'cuda' {torch}"), error
        continue
    raise AssertionError
assert sys.modules["torch"] is None
"""

MODELS = [entry.name for entry in ncodec.list_models()]


def run_blocked(program, *arguments):
    """Run a program that blocks torch, in a process of its own."""
    command = [sys.executable, "-W", "error", "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=arguments[-1])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", MODELS)
def test_shipped_models_where_torch_is_missing(model, tmp_path):
    """All of the command, and one line on how to get what is missing."""
    run_blocked(SHIPPED, model, tmp_path)


BENCH = """
import sys

sys.modules["torch"] = None  # importing it fails from here on
import numpy as np

from ncodec.evaluation import bench

bench.median_seconds = lambda work, budget_s=1.0: (work(), 1.0)[1]
rows = []
bench.bench_image(np.full((100, 120, 3), 90, np.uint8), lambda stream, row: rows.append(row))
assert len(rows) == 6 and all(row["bytes"] for row in rows)
bench.N_SYMBOLS, bench.N_LARGE = 1 << 12, 1 << 14
found = bench.bench_coder(lambda stream, row: None)
assert found["machine"]["gpu"] is None and "cores" in found["machine"]
assert sys.modules["torch"] is None
"""


def test_bench_where_torch_is_missing(tmp_path):
    run_blocked(BENCH, tmp_path)


@pytest.fixture
def flat(monkeypatch, tmp_path):
    """Ship the family's model last; return its index entry."""
    monkeypatch.setattr(families, "FAMILIES", families.FAMILIES + flat_family.FAMILIES)
    entry = flat_family.write_model(tmp_path / "flat.safetensors")
    models = [*ncodec.list_models(), entry]
    monkeypatch.setattr(weights, "list_models", lambda: models)
    return entry


def test_families_in_one_batch(flat, sample):
    """Files of two families, grey and colour, tiled or not: each decodes as it does alone."""
    a, b = sample[:64, :64], sample[100:164, 100:164]
    cases = [(a, "flat", 0), (a, "hyperprior-s", 0), (a[:, :, 0], "flat", 0), (b, "flat", 0)]
    cases += [(sample[:64, :192], "flat", 64), (b[:, :, 0], "flat", 0), (a, "flat", 0)]
    files = [ncodec.encode(pixels, 4, model, tile=tile) for pixels, model, tile in cases]
    loaded = load_file(flat.path).codec
    batch = ncodec.decode_batch(files, "numpy")
    assert loaded.batches == [2, 1, 2, 1, 2]  # the tiles of the image, colour, grey: two at once
    for data, pixels, (original, model, _) in zip(files, batch, cases, strict=True):
        assert np.array_equal(pixels, ncodec.decode(data, "numpy"))
        assert model != "flat" or np.array_equal(pixels, original // 8 * 8)


def test_a_family_without_weights(flat, crop):
    """Its name is its model's; codec.py knows nothing of it, nor takes it for a JPEG file."""
    for pixels in (crop, crop[:, :, 1]):
        data = ncodec.encode(pixels, None, "stored", effort=1, tile=64)
        assert np.array_equal(ncodec.decode(data, "numpy"), pixels)
        assert len(ncodec.encode(pixels, None, "stored", effort=9, tile=64)) < len(data)
    about = ncodec.info(data)
    assert (about.family, about.model, about.quality, about.tiles) == ("stored", "stored", None, 12)
    assert about.weights_digest == "00" * 8
    with pytest.raises(InputError, match="model stored, effort: expected 1, 9, found 5"):
        ncodec.encode(crop, model="stored", effort=5)
    with pytest.raises(
        InputError, match="model stored, tune: expected none, as it has no weights, found 'psnr'"
    ):
        ncodec.encode(crop, model="stored", tune="psnr")
    with pytest.raises(InputError, match="model flat: no option 'effort'; it has no options"):
        ncodec.encode(crop, model="flat", effort=1)
    with pytest.raises(InputError, match="not a JPEG file"):
        ncodec.decode_jpeg(data)
    parsed = container.read(data)
    with_digest = replace(parsed.header, weights_digest=b"12345678")
    with pytest.raises(CorruptPayloadError, match="expected no weights digest"):
        ncodec.decode(container.write(replace(parsed, header=with_digest)))
    batch = ncodec.decode_batch([data, ncodec.encode(crop, 4, "flat"), data], "numpy")
    assert np.array_equal(batch[2], crop[:, :, 1]) and np.array_equal(batch[1], crop // 8 * 8)


@pytest.mark.parametrize(
    "arguments",
    [{"tile": "64"}, {"tile": 64.5}, {"tile": [64]}, {"tile": float("nan")}, {"model": 5}, {"model": b"dct"},
     {"effort": float("inf"), "model": "dct"}, {"trials": 1.5, "model": "dct"}, {"rdoq": 1, "model": "dct"}],
    ids=str,
)  # fmt: skip
def test_arguments_of_wrong_types(crop, arguments):
    with pytest.raises(InputError):
        ncodec.encode(crop, **arguments)


def test_files_of_a_wrong_type():
    for wrong in (None, b"bytes", 3, "text"):
        with pytest.raises(InputError, match="expected a list of files' bytes"):
            ncodec.decode_batch(wrong)


def test_damage_names_the_file(flat, crop):
    good = ncodec.encode(crop, 4, "flat")
    bad = container.write(container.Container(container.read(good).header, [[[b"no"]]]))
    with pytest.raises(NcodecError, match=r"^file 1: section 'flat'"):
        ncodec.decode_batch([good, bad, good])


def test_overlap_of_exact_tiles(flat, crop):
    """Tiles of integers fade as well, if a file says so: here all of them are of one colour."""
    header = container.read(ncodec.encode(crop, 8, "flat", tile=64)).header
    header = replace(header, overlap=16)
    net = load_file(flat.path).codec
    for shape in ((3,), ()):
        header = replace(header, is_grey=not shape)
        tiles = [
            net.encode_tile(
                np.full((bottom - top, right - left, *shape), 77, np.uint8), 140, EncodeOptions()
            )
            for left, top, right, bottom in header.tile_boxes()
        ]
        pixels = ncodec.decode(container.write(container.Container(header, tiles)), "numpy")
        assert pixels.shape == (*crop.shape[:2], *shape) and (pixels == 77).all()


def test_self_test_of_exact_pixels(flat):
    test = make_self_test(flat.path)
    verify(replace(flat, self_test=test))
    for wrong in ({"file": test["file"]}, test | {"symbols_sha256": "00"}):
        with pytest.raises(WeightsMismatchError, match=r"flat: self-test: .*symbols_sha256"):
            verify(replace(flat, self_test=wrong))
