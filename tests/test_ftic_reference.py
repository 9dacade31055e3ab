"""Family ftic against tests/reference_ftic.py: every requirement of specs/ftic.md.

The committed vectors hold the shipped weights' files; small models of random weights, made from the specification's
own tables, go where those do not: windows at every border, other numbers of blocks, two steps. All is equal to the bit.
What is hyperprior's is tested there.
"""

import json
import re
from fnmatch import fnmatch

import numpy as np
import pytest
import reference_ftic as reference
from conftest import ROOT
from PIL import Image
from random_weights import evaluated, layers, random_layer, rows
from random_weights import tensors_of as simple_tensors_of
from reference_hyperprior import TYPES, join, read_file, read_tensors, tiles
from safetensors.numpy import load_file
from test_hyperprior_reference import SPEC as HYPERPRIOR
from test_hyperprior_reference import (
    are_refused,
    at_the_limit,
    digest_of,
    latents_by_text,
    noise,
    same_latents,
    same_pixels,
    save,
)
from test_hyperprior_reference import random_tensors as random_tensors_of_hyperprior

import ncodec
from ncodec.errors import WeightsMismatchError
from ncodec.models.ftic.recipe import kmac_per_pixel
from ncodec.models.hyperprior.codec import Latents
from ncodec.models.load import load_by_name
from ncodec.selftest import symbols_sha256

SPEC = (ROOT / "specs" / "ftic.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests" / "vectors" / "v1"
INDEX = json.loads((ROOT / "weights" / "index.json").read_text())["models"]
FILES = [ROOT / "weights" / model["file"] for model in INDEX if model["family"] == "ftic"]
VECTORS = {
    name: facts["symbols_sha256"]
    for name, facts in json.loads((FOLDER / "vectors.json").read_text()).items()
    if name.startswith("ftic-")
}
SMALL = {"N": 128, "M": 10, "D": 128, "Z": 3, "H": 64, "S": 5, "B": 7}
SMALL |= {"analysis_blocks": 2, "synthesis_blocks": 3, "fat": 2, "deep_fat": 1, "layers": 2}


# ---------------------------------------------------------------- the specification


def test_requirements():
    """They are numbered without gaps, each names tests that exist, and nothing else is required."""
    parts = re.split(r"^- \*\*A(\d+)\*\*", SPEC, flags=re.MULTILINE)[1:]
    assert [int(n) for n in parts[::2]] == list(range(1, len(parts) // 2 + 1))
    here, musts = (ROOT / "tests" / "test_ftic_reference.py").read_text(), 0
    for requirement in parts[1::2]:
        sentence = requirement.split("\n\n")[0]
        names = re.findall(r"`(test_\w+)`", sentence)
        assert "MUST" in sentence and names and all(f"def {name}(" in here for name in names)
        for file, name in re.findall(r"tests/(test_\w+\.py)::(test_\w+)", sentence):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text()
        musts += sentence.count("MUST")
    assert SPEC.count("MUST") == musts


def blocks(config):
    """Yield name, table and width of FAT blocks and T-CA's layers, by section 1."""
    for name, (width, _) in layers(config, SPEC):
        if ".fat." in name:
            yield name, "of a FAT block", width
        elif name.endswith(".channels"):
            for k in range(config["layers"]):
                yield f"{name}.{k}", "of a T-CA layer", width


def tensors_of(config):
    """Return {name: (type, shape)} by section 1; "any" is 0."""
    found = simple_tensors_of(config, HYPERPRIOR)
    weights = {name: shape for name, shape in layers(config, SPEC) if not re.search(r"fat\.\d|channels$", name)}  # fmt: skip
    for block, table, width in blocks(config):
        for part, what, _ in rows(table, SPEC):
            name, sizes = f"{block}.{part.strip(' `')}", {"W": width}
            if "→" in what:
                inputs, outputs = (eval(side.replace("·", "*"), sizes) for side in what.split("→"))
                weights[name] = [outputs, inputs]
            else:
                found[name] = evaluated(what, sizes)
    for name, shape in weights.items():
        found |= {f"{name}.weight": ("I16", shape), f"{name}.bias": ("I32", shape[:1])}
        found[f"{name}.shift"] = ("U8", shape[:1])
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights(path):
    tensors, about = read_tensors(path.read_bytes(), "ftic")
    for name, tensor in load_file(path).items():
        np.testing.assert_array_equal(tensors[name], tensor)
    expected = tensors_of(reference.DEFAULTS | about["config"])
    assert set(tensors) == set(expected)
    for name, (dtype, shape) in expected.items():
        assert tensors[name].dtype == TYPES[dtype], name
        wild = [size or found for size, found in zip(shape, tensors[name].shape, strict=True)]
        assert list(tensors[name].shape) == wild, name


def test_sizes():
    """The tables of section 7: the defaults of the reference, and what tensors of these sizes take."""
    sizes = {name.strip(): int(default) for name, default, _ in rows("size", SPEC)}
    assert sizes == reference.DEFAULTS
    shapes, macs = tensors_of(sizes), 0
    for names, *cells in rows("tensors", SPEC):
        patterns = re.findall(r"`(.*?)`", names)
        group = [shapes.pop(name) for name in list(shapes) if any(fnmatch(name, p) for p in patterns)]  # fmt: skip
        counts = [int(np.prod(shape)) for _, shape in group]
        widths = [np.dtype(TYPES[dtype]).itemsize for dtype, _ in group]
        size_bytes = sum(n * width for n, width in zip(counts, widths, strict=True))
        numbers, said_bytes, mac = (int(cell.replace(" ", "") or 0) for cell in cells)
        assert (names, numbers, said_bytes) == (names, sum(counts), size_bytes)
        macs += mac
    assert set(shapes) == {"tables.r", "tables.z", "tables.z_alone"}
    assert macs / 1000 == pytest.approx(kmac_per_pixel({}, {"config": sizes}), abs=0.005)
    for path in FILES:
        assert (
            path.stem != "ftic-s" or read_tensors(path.read_bytes(), "ftic")[1]["config"] == sizes
        )


# ---------------------------------------------------------------- files of the shipped weights


@pytest.fixture(scope="module")
def models():
    found = [reference.Model(path.read_bytes()) for path in FILES]
    return {model.digest: (model, path) for model, path in zip(found, FILES, strict=True)}


def same_file(data, path, model, expected=None):
    """Latents and pixels of a file; return its tiles and pixels."""
    file, found = tiles(data, model)
    same_latents(data, path, found)
    digest = digest_of(file, found)
    assert digest == (expected or digest) == symbols_sha256(data, path, "cpu")
    pixels = join(file, found)
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), pixels)
    return found, pixels


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name, models):
    data = (FOLDER / f"{name}.nc").read_bytes()
    model, path = models[read_file(data)[0]["digest"]]
    _, pixels = same_file(data, path, model, VECTORS[name])
    same_pixels(ncodec.decode(data, "numpy", device="cpu"), pixels)
    with Image.open(FOLDER / f"{name}.png") as picture:
        same_pixels(np.asarray(picture), pixels)


# ---------------------------------------------------------------- files of random weights


def random_tensors(config, seed=0):
    values = random_tensors_of_hyperprior(config, seed)
    rng, shapes = np.random.default_rng(seed), tensors_of(config)
    for name in sorted(shapes.keys() - values.keys()):
        shape = shapes[name][1]
        layer, _, part = name.rpartition(".")
        if part == "weight" and f"{layer}.shift" in shapes:
            values |= random_layer(rng, layer, shape)
        elif part == "score_bits":
            values[name] = np.array(rng.integers(22, 27))
        elif name.endswith("modulation.bits"):
            values[name] = np.array(12)
        elif name.endswith(("attention.bias", "modulation.weight")):
            values[name] = rng.normal(0, 1 << 25 if part == "bias" else 3000, shape)
    return {name: values[name].astype(TYPES[kind]) for name, (kind, _) in shapes.items()}


def saved(folder, tensors, config=SMALL, skip_below=9):
    """Write a weights file; return its path."""
    return save(folder, tensors, config, skip_below, "ftic")


@pytest.fixture(scope="module", params=[4, 2])
def small(request, tmp_path_factory):
    config = SMALL | {"context_steps": request.param}
    tensors = random_tensors(reference.DEFAULTS | config)
    path = saved(tmp_path_factory.mktemp("weights"), tensors, config)
    return path, reference.Model(path.read_bytes())


CASES = {
    "one pixel": (noise(1, 1, 3), 1, 0),
    "odd": (noise(37, 65, 3), 1.45, 0),  # code 9; latents of which z has a half too many
    "windows": (noise(150, 130, 3), 1.5, 0),  # of all kinds, cut and moved
    "grey tiles": (noise(70, 81), 7.45, 64),
    "best": (noise(64, 64, 3), 8, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_any_weights(case, small):
    path, model = small
    image, quality, tile = CASES[case]
    found, pixels = same_file(ncodec.encode(image, quality, path, "cpu", tile), path, model)
    if case == "best":  # every kind of residual and of pixel occurs
        _, _, z, r, _ = found[0]
        assert np.abs(r).max() > 20 and np.abs(z).max() > 3 and len(np.unique(pixels)) > 200


def test_extremes(small):
    """Latents that no encoder makes: sums saturate alike."""
    path, model = small
    codec, rng = load_by_name(path, "cpu").codec, np.random.default_rng(0)
    z = rng.choice([-127, 127], (2, 5, model.config["Z"])).astype(np.int16)
    r = rng.choice([-32767, 0, 32767], (3, 9, model.config["M"])).astype(np.int16)
    for code in (0, 77, 140):
        found = codec.synthesise(Latents(z, r, r), code, is_rounded=False)
        np.testing.assert_array_equal(found, model.pixels(z, r, code, 9 * 16, 3 * 16))
        np.testing.assert_array_equal(codec.indexes(z, code, (3, 9)), model.index(z, code, 3, 9))


# ---------------------------------------------------------------- weights


@pytest.fixture(scope="module")
def good():
    return random_tensors(reference.DEFAULTS | SMALL)


@pytest.mark.parametrize(("name", "value"), [
    ("g_s.fat.1.up.shift", 31), ("g_s.deep.stem.bias", 2**30 + 1), ("context.0.channels.1.q.bias", -(2**30) - 1), ("context.3.channels.0.o.shift", 0),
    ("g_s.fat.0.attention.v.weight", -32768), ("index_offset", -32768), ("tables.r", 1), ("neighbours.shifts", 31),
    ("g_s.fat.0.attention.score_bits", 5), ("context.2.channels.1.score_bits", 31), ("g_a.fat.0.attention.score_bits", 5), ("g_s.fat.1.modulation.bits", 16),
    ("g_s.fat.1.modulation.weight", -32768), ("g_s.fat.1.attention.bias", -(2**31)),
])  # fmt: skip
def test_weights_refused(name, value, good, tmp_path):
    changed = good[name].copy()
    changed.flat[0] = value
    tensors = good | {name: changed}
    if name.endswith(".bias") and "attention.bias" not in name:  # not by X3
        weight = name.replace("bias", "weight")
        tensors[weight] = good[weight].copy()
        tensors[weight][0] = 0
    are_refused(saved(tmp_path, tensors), reference.Model)


def test_tensors_refused(good, tmp_path):
    """Another type or shape, a tensor too many or too few, a `skip_below` that is no row; hyperprior's file by another name."""
    bias, weight = "g_s.fat.1.attention.bias", "g_s.deep.fat.0.modulation.weight"
    for bad in (
        good | {bias: good[bias].astype(np.int16)}, good | {bias: good[bias][1:]}, good | {"more": good[bias]}, good | {weight: good[weight][:8]},
        {name: tensor for name, tensor in good.items() if name != bias}, random_tensors_of_hyperprior(reference.DEFAULTS | SMALL),
    ):  # fmt: skip
        are_refused(saved(tmp_path, bad), reference.Model)
    are_refused(saved(tmp_path, good, SMALL, 65), reference.Model)


@pytest.mark.parametrize("layer", ["context.3.channels.0.o", "context.0.channels.1.down", "g_s.deep.head", "g_s.fat.1.up", "g_s.blocks.2.project"])  # fmt: skip
def test_sums_just_fit(layer, good, tmp_path):
    """X3 with the bounds that X19 finds for a layer's input: 2^31 - 1 fits, 2^31 does not."""
    net = reference.Model(saved(tmp_path, good).read_bytes()).net
    tensors = {name: tensor.copy() for name, tensor in good.items()}
    bias = at_the_limit(net, tensors, layer)
    fits_until(tmp_path, tensors, bias, -1)


def test_scores_just_fit(good, tmp_path):
    """X26: with the largest score, of 32 channels, the bias is below 2^31."""
    name = "g_s.fat.1.attention.bias"
    tensors = good | {name: good[name].copy()}
    tensors[name][0] = 2**31 - 1 - 32 * 4095**2
    fits_until(tmp_path, tensors, tensors[name], 1)


def fits_until(folder, tensors, bias, step):
    """Whether weights are good, but not with one more on the first bias."""
    path = saved(folder, tensors)
    reference.Model(path.read_bytes())
    ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    bias[0] += step
    are_refused(saved(folder, tensors), reference.Model)


@pytest.mark.parametrize("more", [
    {"N": 64}, {"M": 769}, {"D": 192}, {"H": 48}, {"fat": 3}, {"deep_fat": 0}, {"layers": True}, {"context_steps": 3},
])  # fmt: skip
def test_sizes_refused(more, tmp_path):
    """Section 7 has the bounds of sizes."""
    path = saved(tmp_path, {"any": np.zeros(1, np.int16)}, SMALL | more)
    with pytest.raises(WeightsMismatchError, match=f"{next(iter(more))}: expected"):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")


# ---------------------------------------------------------------- section 8


def y_of(net, c, x):
    """y of an image, its sides multiples of 16."""
    f = net.layer(net.add("unshuffle", x, numbers=(8,)), "g_a.stem")
    f = net.between(net.scaled(f, "g_a.gain", c["N"]), "g_a", c, c["analysis_blocks"])
    f = net.add("unshuffle", f, numbers=(2,))
    linear = net.layer(net.add("unshuffle", x, numbers=(16,)), "g_a.linear")
    y = net.add("add", linear, net.layer(f, "g_a.head"))
    return net.add("add", y, net.deep(f, "g_a", c))


def test_encoder(small, models, sample):
    for model, path in (*list(models.values())[:1], small[::-1]):
        image = sample[200:281, 300:345]
        _, ((_, _, z, r, _),) = tiles(ncodec.encode(image, 4.35, path, "cpu"), model)
        assert z.any() and r.any()
        for found, expected in zip(latents_by_text(image, model, 67, y_of), (z, r), strict=True):
            np.testing.assert_array_equal(found, expected)
