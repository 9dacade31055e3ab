"""A model in two tunes is two weights files, NAME-visual and NAME-psnr: found by name, made by ship, read by digest."""

from pathlib import Path

import flat_family
import numpy as np
import pytest
from command import ncodec as command
from PIL import Image

import ncodec
from ncodec import families
from ncodec.errors import InputError, WeightsMismatchError
from ncodec.evaluation.peers import codec_name, parse_codec
from ncodec.models import weights
from ncodec.models.load import load_by_name
from ncodec.training.ship import ship


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The shipped models, all of a family whose steps are its weights: `plain`, and `flat`, shipped as one before it had two tunes."""
    monkeypatch.setattr(families, "FAMILIES", families.FAMILIES + flat_family.FAMILIES)
    monkeypatch.setattr(weights, "DIR", tmp_path / "shipped")
    weights.DIR.mkdir()
    (weights.DIR / "index.json").write_text('{"models": []}')
    for name, first, about in (
        ("flat", 64, {}),
        ("plain", 16, {}),
        ("flat-visual", 32, {"tune": "visual"}),
    ):
        source = tmp_path / f"{name}.safetensors"
        flat_family.write_model(source, first, **about)
        ship(source, name, weights.DIR)
    return weights.DIR


def test_what_ship_makes_of_two_tunes(folder, tmp_path):
    """The first has its tune's name from then on, and its place; whichever ships again takes its own."""
    names = ["flat-visual", "flat-psnr", "plain"]
    tunes = ["visual", "psnr", "psnr"]
    for again in (None, "flat-psnr", "flat"):
        if again:
            assert ship(tmp_path / "flat.safetensors", again, folder)["name"] == "flat-psnr"
        entries = ncodec.list_models()
        assert [entry.name for entry in entries] == names
        assert [(entry.tune, entry.base) for entry in entries] == list(
            zip(tunes, ["flat", "flat", "plain"], strict=True)
        )
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            [*(f"{name}.safetensors" for name in names), "index.json"]
        )
    with pytest.raises(
        InputError, match="plain-visual: expected weights of tune visual, found psnr"
    ):
        ship(tmp_path / "plain.safetensors", "plain-visual", folder)


@pytest.mark.parametrize(
    ("model", "tune", "found"),
    [
        (None, None, "flat-visual"),
        (None, "psnr", "flat-psnr"),
        ("flat", None, "flat-visual"),
        ("flat", "visual", "flat-visual"),
        ("flat-psnr", None, "flat-psnr"),
        ("flat-psnr", "psnr", "flat-psnr"),
        ("plain", "psnr", "plain"),
        ("flat", "beauty", "model flat, tune: expected visual, psnr, found 'beauty'"),
        ("flat-psnr", "visual", "model flat-psnr, tune: expected psnr, found 'visual'"),
        ("plain", "visual", "model plain, tune: expected psnr, found 'visual'"),
        (Path("flat-visual.safetensors"), "visual", "flat"),  # what it says itself
        (Path("flat.safetensors"), "visual", "safetensors, tune: expected psnr, found 'visual'"),
        ("stored", None, "stored"),
        ("stored", "psnr", "model stored, tune: expected none, as it has no weights, found 'psnr'"),
    ],
    ids=str,
)
def test_names(folder, tmp_path, model, tune, found):
    if isinstance(model, Path):
        model = tmp_path / model
    if "tune: " in found:
        with pytest.raises(InputError, match=found):
            load_by_name(model, tune=tune)
    else:
        assert load_by_name(model, tune=tune).name == found


def test_tokenizers_say_ms_ssim_by_their_family():
    assert {entry.tune for entry in ncodec.list_models() if entry.family == "tokenizer"} == {
        "ms-ssim"
    }
    assert weights.tune_of(weights.find_by_name("fsq-s", "ms-ssim")) == "ms-ssim"


def test_training_starts_from_psnr(folder, tmp_path):
    assert weights.find_start("flat") == folder / "flat-psnr.safetensors"
    for model in ("flat-visual", "plain"):
        assert weights.find_start(model) == weights.find_by_name(model)
    file = tmp_path / "flat-visual.safetensors"
    assert weights.find_start(file) == file


def test_files_of_both(folder, crop):
    """Each decodes by its digest, whichever tune the model's name means; not by the name of the other."""
    files = [ncodec.encode(crop, 1, "flat", tune=tune) for tune in ("visual", "psnr")]
    assert files[0] == ncodec.encode(crop, 1) == ncodec.encode(crop, 1, "flat-visual")
    assert [ncodec.info(data).model for data in files] == ["flat-visual", "flat-psnr"]
    for data, step in zip(files, (32, 64), strict=True):
        for model in (None, "flat"):
            assert np.array_equal(ncodec.decode(data, "numpy", model), crop // step * step)
    assert len(ncodec.decode_batch(files)) == 2
    with pytest.raises(WeightsMismatchError):
        ncodec.decode(files[1], model="flat-visual")


def test_command(folder, crop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(crop).save("a.png")
    for words, model in (
        ((), "flat-visual"),
        (("--tune", "psnr"), "flat-psnr"),
        (("--model", "flat", "--tune", "psnr"), "flat-psnr"),
        (("--model", "plain"), "plain"),
    ):
        assert " dB" in command("encode", "a.png", *words, "--metrics", "-o", "a.nc").out
        assert f" {model}\n" in command("info", "a.nc").out
    command("decode", "a.nc", "--model", "plain", "-o", "b.png")
    done = command("encode", "a.png", "--model", "plain", "--tune", "visual", "-o", "b.nc", code=2)
    assert "model plain, tune: expected psnr, found 'visual'" in done.err
    shown = command("models", "--verify").out.splitlines()
    assert [line.split(",")[0] for line in shown] == [
        "flat-visual (flat): tune visual", "flat-psnr (flat): tune psnr", "plain (flat): tune psnr",
    ]  # fmt: skip
    assert all(line.endswith(": verified") for line in shown)


def test_codecs_of_a_study(folder, crop):
    sizes = {}
    for name in ("flat", "flat:tune=psnr", "flat-psnr", "ncodec:tune=psnr", "flat-visual"):
        codec = parse_codec(name)
        assert codec_name(codec) == name
        data = codec.encode(crop, 1)
        assert codec.decode(data, crop.shape[:2]).shape == crop.shape
        sizes[name] = (len(data), codec.versions()["weights"])
    visual, psnr = sizes["flat-visual"], sizes["flat-psnr"]
    assert visual != psnr and list(sizes.values()) == [visual, psnr, psnr, psnr, visual]
    with pytest.raises(InputError, match="model flat-psnr, tune: expected psnr, found 'visual'"):
        parse_codec("flat-psnr:tune=visual")
