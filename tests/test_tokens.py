"""Tokens: pictures to tokens and back, files, shards, `ncodec tokenize`; with a tiny tokenizer, and those that ship."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny_tokenizer
import torch
from command import ncodec as command
from conftest import ROOT
from PIL import Image
from safetensors.numpy import load_file, save_file

import ncodec
from ncodec import container, families, shards
from ncodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptPayloadError,
    FormatError,
    InputError,
    LimitError,
    TruncatedError,
    UnknownModelError,
    UnsupportedVersionError,
    WeightsMismatchError,
)
from ncodec.models import weights
from ncodec.shards import KEY, Usage, load, pack, read_index, stages_of

SHIPPED = [
    entry.name
    for entry in ncodec.list_models()
    if weights.family_named(entry.family).has_tokens
]  # fmt: skip


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """Ship the tiny tokenizer last, in the processes that are started, too; return its name."""
    monkeypatch.setattr(families, "FAMILIES", families.FAMILIES)
    monkeypatch.setattr(weights, "list_models", weights.list_models)
    (tmp_path / "site").mkdir()
    path = str(tmp_path / "site" / "tiny.safetensors")
    tiny_tokenizer.ship(path)
    (tmp_path / "site" / "sitecustomize.py").write_text(
        f"import sys; sys.path.append({str(ROOT / 'tests')!r})\n"
        f"import tiny_tokenizer; tiny_tokenizer.ship({path!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return "tiny"


@pytest.fixture
def tokens(tiny, crop):
    return ncodec.tokenize(crop, model=tiny)


@pytest.fixture
def photos(tmp_path, sample, monkeypatch):
    """A folder of seven images of different sizes, one of them grey, one turned, one hidden; it is the current one's."""
    monkeypatch.chdir(tmp_path)
    for number in range(7):
        path = tmp_path / "photos" / ("cats" if number % 2 else "dogs") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(sample[40 * number :][: 90 + number, : 60 + 20 * number])
        exif = Image.Exif()
        if number == 3:
            exif[274] = 6  # stands on its side
        (image.convert("L") if number == 2 else image).save(path, exif=exif)
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    return tmp_path / "photos"


def listing(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize("model", ["tiny", *SHIPPED])
@pytest.mark.parametrize("quality", [1, 2.5, 8])
def test_tokens_pixels_and_files_agree(tiny, crop, model, quality):
    """Whichever way: pixels are those of the file, the file is that of `encode`."""
    for pixels in (crop, crop[:, :, 1], crop[:1, :1], crop[:16, :33]):
        found = ncodec.tokenize(pixels, quality, model)
        height, width = pixels.shape[:2]
        assert found.grid.dtype == np.int32
        assert found.grid.shape == (stages_of(quality), -(-height // 16), -(-width // 16))
        assert (found.width, found.height, found.quality, found.model) == (
            width,
            height,
            quality,
            model,
        )
        data = ncodec.encode(pixels, quality, model, tile=0)
        assert ncodec.file_of(found) == data
        back = ncodec.tokens_of(data)
        assert np.array_equal(back.grid, found.grid) and vars(back).keys() == vars(found).keys()
        assert all(vars(back)[key] == value for key, value in vars(found).items() if key != "grid")
        assert np.array_equal(ncodec.detokenize(found, "numpy"), ncodec.decode(data, "numpy"))
        assert found.weights_digest == ncodec.info(data).weights_digest


@pytest.mark.parametrize("model", ["tiny", *SHIPPED])
def test_stages_are_coarser_pictures(tiny, crop, model):
    found, data = ncodec.tokenize(crop, 3.5, model), ncodec.encode(crop, 3.5, model, tile=0)
    for n, quality in ((1, 1), (3, 3), (4, 3.5)):
        coarse = found.stages(n)
        assert (coarse.quality, coarse.n_stages, len(coarse.codebooks)) == (quality, n, n)
        assert np.array_equal(coarse.grid, found.grid[:n])
        assert np.array_equal(ncodec.tokens_of(data, stages=n).grid, coarse.grid)
        assert ncodec.tokens_of(data, stages=n).quality == quality
        assert np.array_equal(
            ncodec.detokenize(coarse, "numpy"), ncodec.decode(data, "numpy", stages=n)
        )
    for wrong in (0, 5, 1.0, None):
        with pytest.raises(InputError, match="stages: expected 1 to 4, found"):
            found.stages(wrong)


def test_a_prefix_of_a_file(tiny, crop):
    data = ncodec.encode(crop, 8, tiny, tile=0)
    cut = data[: len(ncodec.encode(crop, 4, tiny, tile=0)) + 10]
    assert ncodec.tokens_of(cut, stages=4).n_stages == 4
    with pytest.raises(TruncatedError):
        ncodec.tokens_of(cut)


def test_batches(tiny, sample):
    """Lists, arrays and tensors of images; of tokens, lists and grids, numpy and torch."""
    some = np.stack([sample[:70, :90], sample[70:140, :90]])
    alone = [ncodec.tokenize(image, 3, tiny) for image in some]
    tensor = torch.from_numpy(some).permute(0, 3, 1, 2)
    images = [Image.fromarray(image) for image in some]
    for batch in (some, tensor, tensor.float() / 255, images, tuple(some), [some[0], images[1]]):
        found = ncodec.tokenize(batch, 3, tiny)
        assert isinstance(found, list) and len(found) == 2
        assert all(np.array_equal(a.grid, b.grid) for a, b in zip(found, alone, strict=True))
    assert ncodec.tokenize([], 3, tiny) == []
    pixels = ncodec.detokenize(alone, "numpy")
    assert all(image.shape == (70, 90, 3) for image in pixels)
    grids = np.stack([one.grid for one in alone])
    for several in (grids, grids.astype(np.int64), torch.from_numpy(grids).long(), list(grids)):
        filled = ncodec.detokenize(several, "numpy", model=tiny)
        for image, whole in zip(pixels, filled, strict=True):
            assert whole.shape == (80, 96, 3) and np.array_equal(whole[:70, :90], image)
    as_tensor = ncodec.detokenize(alone[0], "torch")
    assert as_tensor.shape == (3, 70, 90) and as_tensor.dtype == torch.uint8
    assert np.array_equal(np.asarray(ncodec.detokenize(alone[0])), pixels[0])
    assert ncodec.detokenize(torch.zeros(1, 1, 2, dtype=torch.int32), "numpy", tiny).shape == (
        16,
        32,
        3,
    )


def test_metadata_travels(tiny, crop, tmp_path):
    image = Image.fromarray(crop)
    image.info["icc_profile"] = b"profile"
    found = ncodec.tokenize(image, model=tiny)
    assert ncodec.file_of(found) == ncodec.encode(image, 8, tiny)
    found.save(tmp_path / "a.safetensors")
    assert ncodec.Tokens.load(tmp_path / "a.safetensors").metadata == {"icc": b"profile"}
    assert ncodec.detokenize(found).info["icc_profile"] == b"profile"


def test_ranges_are_a_choice_of_the_file(tokens, crop):
    data = ncodec.encode(crop, 8, "tiny", tile=0, ranges=3)
    assert ncodec.file_of(tokens, ranges=3) == data != ncodec.file_of(tokens)
    assert np.array_equal(ncodec.tokens_of(data).grid, tokens.grid)
    with pytest.raises(InputError, match="model tiny: no option 'effort'; it has ranges"):
        ncodec.file_of(tokens, effort=1)


def test_absent_tokens(tokens):
    grid = tokens.grid.copy()
    grid[2:, 3:] = -1
    grid[0, 0, 0] = -1
    holed = replace(tokens, grid=grid)
    assert ncodec.detokenize(holed, "numpy").shape == (135, 201, 3)
    with pytest.raises(InputError, match=r"found .* absent, the first of stage 1 at 0, 0"):
        ncodec.file_of(holed)


def test_another_picture_of_the_same_model(tokens):
    """What a generator does."""
    rng = np.random.default_rng(0)
    new = replace(tokens, grid=torch.from_numpy(rng.integers(0, 27, tokens.grid.shape)))
    assert new.grid.dtype == np.int32
    data = ncodec.file_of(new)
    assert np.array_equal(ncodec.decode(data, "numpy"), ncodec.detokenize(new, "numpy"))


# ---------------------------------------------------------------- bad inputs


def test_models_without_tokens_are_named_with_those_that_have(tiny, crop):
    names = ", ".join([*SHIPPED, "tiny"])
    for call in (
        lambda: ncodec.tokenize(crop, model="dct"),
        lambda: ncodec.detokenize(np.zeros((1, 2, 2), int), model="dct"),
        lambda: ncodec.tokens_of(ncodec.encode(crop, 4, "dct")),
    ):
        with pytest.raises(
            InputError, match=f"family dct has no tokens; expected {names}, or a weights file"
        ):
            call()
    with pytest.raises(UnknownModelError, match="'nothing'"):
        ncodec.tokenize(crop, model="nothing")


def test_a_file_in_tiles_has_no_grid(tiny, crop):
    data = ncodec.encode(crop, 2, tiny, tile=64)
    with pytest.raises(InputError, match=r"12 tiles.*encode with tile=0"):
        ncodec.tokens_of(data)


def test_layers_that_the_quality_has_not(tiny, crop):
    """Fewer are a coarser picture, as for decode; more are damage."""
    parsed = container.read(ncodec.encode(crop, 2, tiny, tile=0))
    more = replace(parsed, header=replace(parsed.header, quality_code=60))
    coarse = ncodec.tokens_of(container.write(more))
    assert coarse.quality == 2
    np.testing.assert_array_equal(coarse.grid, ncodec.tokenize(crop, 2, tiny).grid)
    fewer = replace(parsed, header=replace(parsed.header, quality_code=0))
    with pytest.raises(CorruptPayloadError, match="at most 1 layers of quality 1, found 2"):
        ncodec.tokens_of(container.write(fewer))


def test_other_weights(tokens, tmp_path):
    entry = tiny_tokenizer.write_model(tmp_path / "other.safetensors", first=50)
    with pytest.raises(WeightsMismatchError, match="of model tiny with weights"):
        ncodec.detokenize(tokens, model=entry.path)
    strange = replace(tokens, weights_digest="0123456789abcdef")
    for call in (ncodec.detokenize, ncodec.file_of):
        with pytest.raises(UnknownModelError, match=r"tokens of model tiny.*0123456789abcdef"):
            call(strange)
    own = ncodec.tokenize(np.zeros((20, 20, 3), np.uint8), model=entry.path)
    assert np.array_equal(
        ncodec.detokenize(own, "numpy", model=entry.path),
        ncodec.decode(ncodec.file_of(own, model=entry.path), "numpy", model=entry.path),
    )
    with pytest.raises(InputError, match=r"codebooks: expected .27.* found .28"):
        ncodec.detokenize(replace(tokens, codebooks=(28,) * 8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": np.zeros((8, 9, 13), np.float32)}, "expected integers .*float32"),
        ({"grid": torch.zeros(8, 9, 13)}, "expected integers .*float32"),
        ({"grid": np.zeros((8, 9, 13), bool)}, "expected integers .*bool"),
        ({"grid": [[1]]}, "expected integers .*list"),
        ({"grid": np.zeros((8, 9), int)}, r"expected integers .*\[8, 9\]"),
        ({"grid": np.zeros((7, 9, 13), int)}, r"expected \[8, 9, 13\] of quality 8 and 201x135.*\[7, 9, 13\]"),
        ({"grid": np.full((8, 9, 13), 27)}, "stage 1: expected 0 to 26, found 27"),
        ({"grid": np.full((8, 9, 13), -2)}, "stage 1: expected 0 to 26, found -2"),
        ({"grid": np.full((8, 9, 13), 2**33)}, "expected 32 bits"),
        ({"grid": np.full((8, 9, 13), 2**63, np.uint64)}, "expected 32 bits"),
        ({"width": 0}, "expected at least 1x1"),
        ({"width": 12.5}, "expected at least 1x1"),
        ({"width": 500}, r"expected \[8, 9, 32\]"),
        ({"quality": 3}, "codebooks: expected 3"),
        ({"quality": 9}, "quality: expected 1"),
        ({"codebooks": (27,) * 7 + (0,)}, "codebooks"),
        ({"codebooks": 27}, "codebooks"),
        ({"weights_digest": "xyz"}, "16 hex digits"),
        ({"model": None}, "expected text"),
        ({"is_grey": 1}, "expected a bool"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_tokens_that_are_none(tokens, change, message):
    with pytest.raises(InputError, match=message):
        replace(tokens, **change)


def test_arguments_that_are_none(tokens, tiny, crop):
    for call, message in (
        (
            lambda: ncodec.tokenize([crop, "photo.png"], model=tiny),
            "^image 1: image: expected Pillow",
        ),
        (
            lambda: ncodec.tokenize(crop[None].astype(float), model=tiny),
            "^image 0: array: float pixels",
        ),
        (lambda: ncodec.tokenize(None, model=tiny), "expected Pillow"),
        (lambda: ncodec.tokenize(crop, 0, tiny), "quality"),
        (lambda: ncodec.tokenize(crop, 3, tiny, "tpu"), "device"),
        (lambda: ncodec.detokenize(tokens, "jpeg"), "kind"),
        (lambda: ncodec.detokenize([tokens, 3]), "^tokens 1: grid: expected integers"),
        (lambda: ncodec.detokenize(np.zeros((2, 3, 4)), model=tiny), "expected integers .*float64"),
        (lambda: ncodec.detokenize(np.zeros((9, 3, 4), int), model=tiny), "expected 1 to 8 stages"),
        (
            lambda: ncodec.detokenize(np.full((1, 3, 4), 27), model=tiny),
            "expected 0 to 26, found 27",
        ),
        (lambda: ncodec.file_of(tokens.grid), "expected ncodec.Tokens, found ndarray"),
        (lambda: ncodec.tokens_of("photo.nc"), "expected bytes, found str"),
        (lambda: ncodec.tokens_of(b"", stages=0), "stages"),
    ):
        with pytest.raises(InputError, match=message):
            call()
    with pytest.raises(LimitError):
        ncodec.detokenize(np.zeros((1, 5000, 5000), np.int8), model=tiny)
    with pytest.raises(BadMagicError):
        ncodec.tokens_of(b"not a file of ours")


# ---------------------------------------------------------------- files of tokens


def test_save_and_load(tokens, tmp_path):
    path = tmp_path / "a.safetensors"
    for one in (tokens, replace(tokens, name="ä.png", is_grey=True), tokens.stages(2)):
        one.save(path)
        again = ncodec.Tokens.load(str(path))
        assert np.array_equal(again.grid, one.grid) and again.grid.dtype == np.int32
        assert all(vars(again)[key] == value for key, value in vars(one).items() if key != "grid")
        assert path.read_bytes() == pack([again])
    wide = replace(tokens, codebooks=(2**16,) * 8, grid=tokens.grid + 2**15)
    wide.save(path)
    assert np.array_equal(ncodec.Tokens.load(path).grid, wide.grid)
    path.write_bytes(pack([tokens, tokens]))
    assert len(load(path)) == 2
    with pytest.raises(InputError, match="one image, found 2"):
        ncodec.Tokens.load(path)
    with pytest.raises(InputError, match="several"):
        pack([tokens, tokens.stages(2)])
    with pytest.raises(InputError, match=r"nowhere.*No such file"):
        ncodec.Tokens.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot write"):
        tokens.save(tmp_path / "no folder" / "a")


def damage(path, tensors=None, **facts):
    """Write a file of tokens again, with other tensors and facts; a fact None is left out."""
    before = shards.about(path)
    kept = {key: value for key, value in (before | facts).items() if value is not None}
    changed = load_file(path) | (tensors or {})
    kept["crc32c"] = shards._checksum(changed)
    save_file(changed, path, {KEY: json.dumps(kept)})


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"version": 2}, UnsupportedVersionError, "expected version 1, found 2"),
        ({"version": None}, CorruptPayloadError, "'version'"),
        ({"images": []}, CorruptPayloadError, "at least one image"),
        ({"images": 5}, CorruptPayloadError, "at least one image"),
        ({"images": [{"name": "a"}]}, CorruptPayloadError, "'height'"),
        ({"images": [{"name": 5, "width": 201, "height": 135, "grey": False}]}, CorruptPayloadError, "text"),
        ({"images": [{"name": "a", "width": 10**9, "height": 10**9, "grey": False}]}, CorruptPayloadError, "found 936"),
        ({"images": [{"name": "a", "width": 16, "height": 16, "grey": False}]}, CorruptPayloadError, "expected 8, found"),
        ({"images": [{"name": "a", "width": -1, "height": 16, "grey": False}]}, CorruptPayloadError, "image 0"),
        ({"images": [{"name": "a", "width": 201, "height": "135", "grey": False}]}, CorruptPayloadError, "damaged"),
        ({"images": [{"name": "a", "width": 201, "height": 135, "grey": 7}]}, CorruptPayloadError, "is_grey"),
        ({"codebooks": [5] * 8}, CorruptPayloadError, "image 0: grid: stage 1: expected 0 to 4"),
        ({"codebooks": 8}, CorruptPayloadError, "codebooks: expected 8 sizes, found 8"),
        ({"quality": "good"}, CorruptPayloadError, "quality"),
        ({"quality": 2}, CorruptPayloadError, "codebooks"),
        ({"weights": "no"}, CorruptPayloadError, "16 hex digits"),
        ({"tensors": {"tokens": np.full(936, 99, np.int16)}}, CorruptPayloadError, "found 99"),
        ({"tensors": {"tokens": np.zeros(936, np.float32)}}, CorruptPayloadError, "expected int16 or int32"),
        ({"tensors": {"tokens": np.zeros((8, 9, 13), np.int16)}}, CorruptPayloadError, "expected int16 or int32"),
        ({"tensors": {"tokens": np.zeros(935, np.int16)}}, CorruptPayloadError, "found 935"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_damaged_files(tokens, tmp_path, change, error, message):
    path = tmp_path / "a.safetensors"
    tokens.save(path)
    damage(path, **change)
    with pytest.raises(error, match=message) as raised:
        load(path)
    assert str(raised.value).startswith(str(path))


def test_bytes_that_are_no_file_of_tokens(tokens, tmp_path):
    path = tmp_path / "a.safetensors"
    tokens.save(path)
    data = path.read_bytes()
    np.savez(tmp_path / "b.npz", tokens=np.array([object()], object))  # pickled
    save_file({"tokens": np.zeros(3, np.int16)}, tmp_path / "c.safetensors")
    for bad in (
        b"",
        b"tokens",
        data[:-1],
        data + b"x",
        (tmp_path / "b.npz").read_bytes(),
        (tmp_path / "c.safetensors").read_bytes(),
    ):
        path.write_bytes(bad)
        with pytest.raises(BadMagicError, match=r"a.safetensors: .*not a file of tokens"):
            load(path)
    rng = np.random.default_rng(0)
    for _ in range(300):  # what is still read has the tokens that were written
        bad = bytearray(data)
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        path.write_bytes(bad)
        try:
            np.testing.assert_array_equal(load(path)[0].grid, tokens.grid)
        except FormatError:
            pass
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    with pytest.raises(ChecksumError, match=r"a.safetensors: CRC-32C"):
        load(path)
    save_file({"tokens": np.zeros(3, np.int16)}, path, {KEY: "[" * 100_000})
    with pytest.raises(CorruptPayloadError, match="RecursionError"):
        load(path)


@pytest.mark.parametrize("metadata", [None, {"x": b"1"}, {"icc": "text"}])
def test_metadata_refused(tokens, metadata):
    with pytest.raises(InputError, match="metadata: expected bytes by the names icc, exif, xmp"):
        replace(tokens, metadata=metadata)


# ---------------------------------------------------------------- ncodec tokenize


def test_shards(tiny, photos):
    done = command("tokenize", "photos", "--model", "tiny", "-o", "shards/", "--shard-size", 3)
    assert sorted(listing(photos.parent / "shards")) == [
        "index.json", *(f"tokens-0000{i}.safetensors" for i in range(3)),
    ]  # fmt: skip
    found = list(ncodec.read_shards("shards"))
    assert [one.name for one in found] == [
        "cats/1.png", "cats/3.png", "cats/5.png", "dogs/0.png", "dogs/2.png", "dogs/4.png", "dogs/6.png",
    ]  # fmt: skip
    for one in found:
        with Image.open(photos / one.name) as image:
            upright = image.rotate(-90, expand=True) if one.name == "cats/3.png" else image.copy()
        assert np.array_equal(one.grid, ncodec.tokenize(upright, model="tiny").grid)
        assert (one.width, one.height) == upright.size and one.metadata == {}
        assert one.is_grey == (one.name == "dogs/2.png")
    index = read_index("shards")
    assert [shard["images"] for shard in index["shards"]] == [3, 3, 1]
    assert index["tokens"] == sum(one.grid.size for one in found) and index["images"] == 7
    assert "shards/tokens-00002.safetensors: 1 images, " in done.out
    assert "3 shards, 7 images" in done.out and "model tiny, quality 8" in done.out


def test_statistics(tiny, photos):
    """By their definitions, and the same on the screen, in JSON and in the index."""
    out = command("tokenize", photos, "--model", "tiny", "-o", "shards", "-q", "2", "--json").out
    assert json.loads(out) == read_index("shards")
    found = list(ncodec.read_shards("shards"))
    for row, stage in zip(json.loads(out)["stages"], range(2), strict=True):
        flat = np.concatenate([one.grid[stage].ravel() for one in found])
        p = np.bincount(flat)[np.bincount(flat) > 0] / len(flat)
        entropy = -(p * np.log2(p)).sum()
        coded = sum(len(container.read(ncodec.file_of(one)).tiles[0][stage][0]) for one in found)
        assert row["stage"] == stage + 1 and row["codebook"] == 27
        assert row["used"] == len(p) / 27
        assert np.isclose(row["entropy_bits"], entropy) and np.isclose(
            row["perplexity"], 2**entropy
        )
        assert np.isclose(row["coded_bits"], 8 * coded / len(flat))
        assert np.isclose(row["raw_bits"], np.log2(27))
        digits = np.stack([flat % 3, flat // 3 % 3, flat // 9])
        shares = np.stack([(digits == level).mean(1) for level in range(3)])
        with np.errstate(divide="ignore", invalid="ignore"):
            assert np.isclose(row["digit_bits"], -np.nansum(shares * np.log2(shares)))
        assert row["entropy_bits"] <= row["digit_bits"] + 1e-9 <= row["raw_bits"] + 2e-9
    first, second = json.loads(out)["stages"]
    table = command("tokenize", photos, "--model", "tiny", "-o", "shards", "-q", "2").out
    assert f"{row['perplexity']:.1f}" in table
    raw, coded = (first[kind] + second[kind] for kind in ("raw_bits", "coded_bits"))
    (total,) = [line.split() for line in table.splitlines() if line.startswith("all ")]
    assert total[1] == f"{raw:.2f}" and f"{100 * coded / raw - 100:+.1f}" in total


def test_usage_of_nothing_and_of_one():
    usage = Usage([4, 4])
    assert usage.stages()[0] == {
        "stage": 1, "codebook": 4, "used": 0, "perplexity": 1, "raw_bits": 2, "digit_bits": None,
        "entropy_bits": 0, "coded_bits": 0,
    }  # fmt: skip
    one = ncodec.Tokens(np.array([[[3]], [[-1]]]), (4, 4), 2, 5, 5, "tiny", "0" * 16)
    usage.add([one], [2, 0])
    first, second = usage.stages()
    assert (first["used"], first["coded_bits"], second["used"]) == (0.25, 16, 0)
    assert str(first["entropy_bits"]) == "0.0"  # not -0.0


def test_bits_of_digits():
    """The first digit, which runs fastest, is always 1; the second is 0, 1 or 2, as often."""
    usage = Usage([6], [(2, 3)])
    grid = np.array([[[1, 3, 5]]])
    usage.add([ncodec.Tokens(grid, (6,), 1, 48, 16, "tiny", "0" * 16)], [0])
    (row,) = usage.stages()
    assert np.isclose(row["digit_bits"], np.log2(3)) and np.isclose(row["entropy_bits"], np.log2(3))


def test_jobs_change_nothing(tiny, photos):
    for jobs in ("1", "2"):
        command(
            "tokenize", "photos", "--model", "tiny", "-o", jobs, "--shard-size", 2, "--jobs", jobs
        )
    assert listing(photos.parent / "1") == listing(photos.parent / "2")


def test_squares(tiny, photos):
    for option, side in (("--crop", 48), ("--resize", 100)):
        command("tokenize", "photos", "--model", "tiny", "-o", option[2:], option, side)
        found = list(ncodec.read_shards(option[2:]))
        assert {(one.width, one.height) for one in found} == {(side, side)}
    with Image.open(photos / "dogs" / "0.png") as image:
        box = (6, 21, 54, 69)
        middle = ncodec.tokenize(image.crop(box), model="tiny")
    assert np.array_equal(
        next(one for one in ncodec.read_shards("crop") if one.name == "dogs/0.png").grid,
        middle.grid,
    )
    done = command("tokenize", "photos", "--model", "tiny", "-o", "large", "--crop", 92, code=6)
    assert "photos/dogs/0.png: expected 92x92 pixels, found 60x90" in done.err
    names = [one.name for one in ncodec.read_shards("large")]
    assert names == ["cats/3.png", "cats/5.png", "dogs/2.png", "dogs/4.png", "dogs/6.png"]
    assert read_index("large")["failed"] == ["cats/1.png", "dogs/0.png"]


KILLED = """
import sys
sys.path.append(sys.argv.pop(1))
from ncodec import shards
from ncodec.cli.main import main

def save_bytes(path, data, save=shards.save_bytes):
    if path.name.startswith("tokens-00002"):
        import os, signal
        (path.parent / ".ncodec-half.tmp").write_bytes(data[:10])
        os.kill(os.getpid(), signal.SIGKILL)
    save(path, data)

shards.save_bytes = save_bytes
main()
"""


def test_killed_and_started_again(tiny, photos, monkeypatch):
    """Whole shards stay, the rest is made, and all of it is what one run would have made."""
    arguments = ["tokenize", "photos", "--model", "tiny", "--shard-size", "2", "-o"]
    command(*arguments, "whole")
    killed = subprocess.run([sys.executable, "-c", KILLED, ROOT / "tests", *arguments, "again"])
    assert killed.returncode == -signal.SIGKILL
    there = listing(photos.parent / "again")
    assert sorted(there) == [
        ".ncodec-half.tmp",
        "tokens-00000.safetensors",
        "tokens-00001.safetensors",
    ]
    with pytest.raises(InputError, match="`ncodec tokenize` has not finished"):
        next(ncodec.read_shards("again"))
    stamps = {path: path.stat().st_mtime_ns for path in (photos.parent / "again").iterdir()}
    done = command(*arguments, "again")
    assert done.out.count("exists already") == 2
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    os.unlink("again/.ncodec-half.tmp")
    assert listing(photos.parent / "again") == listing(photos.parent / "whole")
    assert command(*arguments, "again").out.count("exists already") == 4


def test_interrupted(tiny, photos, monkeypatch):
    monkeypatch.setattr(
        "ncodec.cli.tokenize.finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    done = command("tokenize", "photos", "--model", "tiny", "-o", "out", code=130)
    assert "interrupted; 0 of 1 shards are there, the same command goes on" in done.err


def test_images_that_fail_are_named_and_tried_again(tiny, photos):
    good = (photos / "cats" / "3.png").read_bytes()
    (photos / "cats" / "3.png").write_bytes(b"no image")
    arguments = ("tokenize", "photos", "--model", "tiny", "-o", "out", "--shard-size", 4)
    for _ in range(2):
        done = command(*arguments, code=6)
        assert "ncodec: photos/cats/3.png: image: not an image" in done.err
        assert read_index("out")["failed"] == ["cats/3.png"]
        assert len(list(ncodec.read_shards("out"))) == 6
    (photos / "cats" / "3.png").write_bytes(good)
    command(*arguments)
    command(*arguments[:-3], "whole", *arguments[-2:])
    assert listing(photos.parent / "out") == listing(photos.parent / "whole")


def test_what_is_refused(tiny, photos):
    os.mkdir("empty")
    base = ("tokenize", "photos", "--model", "tiny", "-o", "out")
    command(*base, "--shard-size", 4)
    before = listing(photos.parent / "out")
    for arguments, code, message in (
        (("tokenize", "empty", "--model", "tiny", "-o", "new"), 6, "empty: no files in it that end in"),
        (("tokenize", "nothing.png", "--model", "tiny", "-o", "new"), 6, "nothing.png: No such file"),
        (("tokenize", "photos", "--model", "dct", "-o", "new"), 6, "has no tokens; expected"),
        (("tokenize", "photos", "--model", "nothing", "-o", "new"), 5, "model 'nothing'"),
        (("tokenize", "photos", "--model", "tiny"), 2, "--output"),
        (("tokenize", "-", "--model", "tiny", "-o", "new"), 2, "not standard input"),
        (("tokenize", "photos/cats/1.png", "photos/cats/1.png", "--model", "tiny", "-o", "new"), 6, "named twice"),
        (("tokenize", "photos", "--model", "tiny", "-o", "photos/notes.txt"), 6, "cannot make the folder"),
        ((*base, "-q", 9), 2, "quality: expected 1"),
        ((*base, "--crop", 9, "--resize", 9), 2, "either --crop or --resize"),
        ((*base, "--shard-size", 4, "-q", 3), 6, "of another run: expected quality 3.0, found 8.0"),
        ((*base, "--shard-size", 4, "--resize", 32), 6, "expected resize 32, found None"),
        ((*base, "--shard-size", 3), 6, "of another run: expected cats/1.png to cats/5.png, found dogs/0.png"),
        ((*base, "--shard-size", 7), 6, "of another run: expected 1 shards, found this one"),
    ):  # fmt: skip
        assert message in command(*arguments, code=code).err
    assert listing(photos.parent / "out") == before
    assert not os.path.exists("new/index.json") and not list(photos.parent.glob("new/tokens*"))


def test_shards_that_are_damaged(tiny, photos):
    command("tokenize", "photos", "--model", "tiny", "-o", "out")
    shard, index = (
        photos.parent / "out" / "tokens-00000.safetensors",
        photos.parent / "out" / "index.json",
    )
    good, text = shard.read_bytes(), json.loads(index.read_text())
    shard.write_bytes(good[:-1])
    assert (
        "tokens-00000.safetensors: damaged"
        in command("tokenize", "photos", "--model", "tiny", "-o", "out", code=3).err
    )
    with pytest.raises(BadMagicError, match="tokens-00000"):
        list(ncodec.read_shards("out"))
    shard.write_bytes(good)
    for change, error, message in (
        ({"version": 9}, UnsupportedVersionError, "version 1, found 9"),
        ({"quality": 3}, CorruptPayloadError, "not the file that index.json is about"),
        ({"shards": [{"file": "../a", "images": 1}]}, CorruptPayloadError, "a file of this folder"),
        ({"shards": [{"file": "a", "images": 1}]}, InputError, "No such file"),
        ({"shards": 5}, CorruptPayloadError, "damaged"),
    ):
        index.write_text(json.dumps(text | change))
        with pytest.raises(error, match=message):
            list(ncodec.read_shards("out"))
    index.write_text("{")
    with pytest.raises(CorruptPayloadError, match=r"index\.json"):
        read_index("out")
    with pytest.raises(InputError, match="no such folder of shards"):
        read_index("nowhere")


def test_quiet_and_a_terminal(tiny, photos):
    assert command("tokenize", "photos", "--model", "tiny", "-o", "a", "--quiet").out == ""
    done = command("tokenize", "photos", "--model", "tiny", "-o", "b", terminals=("out", "err"))
    assert "7 images" in done.out + done.err
    many = command(
        "tokenize", "photos/cats", "photos/dogs/0.png", "--model", "tiny", "-o", "c", "--json"
    )
    assert json.loads(many.out)["images"] == 4
    assert next(one.name for one in ncodec.read_shards("c")) == "photos/cats/1.png"


TORCHLESS = """
import sys

sys.modules["torch"] = None  # importing it fails from here on
import numpy as np
import ncodec
from ncodec.cli.main import main

main()
(first, *_) = found = list(ncodec.read_shards("out"))
assert len(found) == 7 and ncodec.detokenize(first, "numpy").shape == (91, 80, 3)
assert np.array_equal(ncodec.tokens_of(ncodec.file_of(first)).grid, first.grid)
try:
    ncodec.detokenize(first, "torch")
except ncodec.errors.InputError as error:
    assert str(error) == "kind 'torch' needs torch: pip install 'ncodec[torch]'"
else:
    raise AssertionError
"""


def test_without_torch(tiny, photos):
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        TORCHLESS,
        "tokenize",
        "photos",
        "--model",
        "tiny",
        "-o",
        "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
