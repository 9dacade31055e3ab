"""Families that the package does not know: added by a row and a module, with torch blocked, with and without weights."""

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
        for device in ("auto", "cpu", "cuda"):
            data = ncodec.encode(image, 4, device=device, tile=tile)
            assert np.array_equal(ncodec.decode(data, "numpy", device=device), image // 8 * 8)
data = ncodec.encode(Image.fromarray(pixels), 8)
assert np.array_equal(ncodec.decode(data), pixels)
assert len(ncodec.decode_batch([data, data], "numpy")) == 2
assert ncodec.info(data).family == "flat"
for wrong in (lambda: ncodec.encode(pixels, device="gpu0"), lambda: ncodec.decode(data, device=""), lambda: ncodec.encode([1])):
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
    (["models", "--verify"], "flat (flat): verified\\n"),
):
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0 and output in done.stdout, (command, done.output, done.exception)
assert np.array_equal(np.asarray(Image.open(folder / "b.png")), pixels)
assert sys.modules["torch"] is None
"""


def test_round_trip_where_torch_is_missing(tmp_path):
    command = [sys.executable, "-W", "error", "-c", PROGRAM, ROOT / "tests", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


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
    assert loaded.batches == [
        2,
        1,
        2,
        2,
        1,
    ]  # colour, grey, and the tiles of the image: two at once
    for data, pixels, (original, model, _) in zip(files, batch, cases, strict=True):
        assert np.array_equal(pixels, ncodec.decode(data, "numpy"))
        assert model != "flat" or np.array_equal(pixels, original // 8 * 8)


def test_a_family_without_weights(flat, crop):
    """Its name is its model's; codec.py knows nothing of it, nor takes it for a JPEG file."""
    for pixels in (crop, crop[:, :, 1]):
        data = ncodec.encode(pixels, 4, "stored", effort=1, tile=64)
        assert np.array_equal(ncodec.decode(data, "numpy"), pixels)
        assert len(ncodec.encode(pixels, 4, "stored", effort=9, tile=64)) < len(data)
    about = ncodec.info(data)
    assert (about.family, about.model, about.quality, about.tiles) == ("stored", "stored", None, 12)
    assert about.weights_digest == "00" * 8
    with pytest.raises(InputError, match="model stored, effort: expected 1, 9, found 5"):
        ncodec.encode(crop, model="stored", effort=5)
    with pytest.raises(InputError, match="model stored: no option 'tune'; it has effort, header"):
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
    bad = container.write(container.Container(container.read(good).header, [b"no"]))
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
