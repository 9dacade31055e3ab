"""Family hyperprior against tests/reference_hyperprior.py: every requirement of specs/hyperprior.md.

The committed vectors hold the shipped weights' files; small models of random weights, made from the specification's
own tables, go where those do not: other sizes, two context steps, every rounding of the quality.
"""

import hashlib
import json
import re

import numpy as np
import pytest
import reference_hyperprior as reference
import reference_rans
from conftest import ROOT
from safetensors.numpy import load_file, save_file

import ncodec
from ncodec import container
from ncodec.errors import FormatError, WeightsMismatchError
from ncodec.selftest import symbols_sha256

SPEC = (ROOT / "specs" / "hyperprior.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests" / "vectors" / "v1"
VECTORS = {
    name: facts["symbols_sha256"]
    for name, facts in json.loads((FOLDER / "vectors.json").read_text()).items()
    if "symbols_sha256" in facts and not name.startswith("dct-")
}
INDEX = json.loads((ROOT / "weights" / "index.json").read_text())["models"]
FILES = [ROOT / "weights" / model["file"] for model in INDEX if model["family"] == "hyperprior"]
SMALL = {"N": 8, "M": 10, "Z": 3, "H": 6, "S": 5, "analysis_blocks": 1, "synthesis_blocks": 2}


# ---------------------------------------------------------------- the specification


def test_requirements():
    """They are numbered without gaps, each names tests that exist, and nothing else is required."""
    parts = re.split(r"^- \*\*H(\d+)\*\*", SPEC, flags=re.MULTILINE)[1:]
    assert [int(n) for n in parts[::2]] == list(range(1, len(parts) // 2 + 1))
    here, musts = (ROOT / "tests" / "test_hyperprior_reference.py").read_text(), 0
    for requirement in parts[1::2]:
        sentence = requirement.split("\n\n")[0]
        names = re.findall(r"`(test_\w+)`", sentence)
        assert "MUST" in sentence and names and all(f"def {name}(" in here for name in names)
        for file, name in re.findall(r"tests/(test_\w+\.py)::(test_\w+)", sentence):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text()
        musts += sentence.count("MUST")
    assert SPEC.count("MUST") == musts


def rows(first, text=SPEC):
    """The table with this heading, its cells as text."""
    table = text.split(f"\n| {first} |")[1].split("\n\n")[0]
    return [line[1:-1].split("|") for line in table.splitlines()[2:]]


def layers(config):
    """Yield name, channels in and out, kernel, is depthwise, of section 1."""
    for name, channels, kernel, which in rows("layer"):
        name, (inputs, outputs) = name.strip(" `"), channels.replace("·", "*").split("→")
        inputs, outputs = eval(inputs, dict(config)), eval(outputs, dict(config))
        first, last = 0, 0
        if found := re.search(r"s = (\d) … (\w+) − 1", which):
            first, last = int(found[1]), config[found[2]] - 1
        for s in range(first, last + 1):
            full = re.sub(r"\bs$|\bs\.", lambda m, s=s: m[0].replace("s", str(s)), name)
            if kernel.strip() == "block":
                yield f"{full}.depth", inputs, inputs, 3, True
                yield f"{full}.expand", inputs, 2 * inputs, 1, False
                yield f"{full}.project", 2 * inputs, inputs, 1, False
            else:
                yield full, inputs, outputs, int(kernel[:2]), "depthwise" in kernel


def tensors_of(config):
    """Return {name: (type, shape)} by section 1; "any" is 0."""
    found = {}
    for name, inputs, outputs, k, is_depthwise in layers(config):
        found[f"{name}.weight"] = ("F16", [outputs, 1 if is_depthwise else inputs, k, k])
        found[f"{name}.bias"] = ("F32", [outputs])
    for name, kind, _ in rows("tensor"):
        dtype, shape = kind.strip().split(" ", 1)
        found[name.strip(" `")] = (dtype, eval(shape.replace("·", "*"), {**config, "any": 0}))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights(path):
    tensors, about = reference.read_tensors(path.read_bytes())
    for name, tensor in load_file(path).items():
        np.testing.assert_array_equal(tensors[name], tensor)
    expected = tensors_of(reference.DEFAULTS | about["config"])
    assert set(tensors) == set(expected)
    for name, (dtype, shape) in expected.items():
        assert tensors[name].dtype == reference.TYPES[dtype], name
        wild = [size or found for size, found in zip(shape, tensors[name].shape, strict=True)]
        assert list(tensors[name].shape) == wild, name


def test_sizes():
    sizes = {name.strip(): int(default) for name, default, _ in rows("size")}
    assert sizes == reference.DEFAULTS
    tensors, about = reference.read_tensors(FILES[0].read_bytes())
    skip_below = reference.Model(FILES[0].read_bytes()).skip_below
    assert about["config"] == sizes and f"`skip_below` {skip_below}." in SPEC
    assert f"{FILES[0].stat().st_size:,} bytes".replace(",", " ") in SPEC.replace("\n", " ")
    macs = 0
    for names, numbers, size_bytes, mac in rows("tensors"):
        starts = tuple(name.rstrip("*") for name in re.findall(r"`(.*?)`", names))
        group = [tensor for name, tensor in tensors.items() if name.startswith(starts)]
        assert sum(tensor.size for tensor in group) == int(numbers.replace(" ", ""))
        assert sum(tensor.nbytes for tensor in group) == int(size_bytes.replace(" ", ""))
        macs += int(mac.replace(" ", "") or 0)
    assert round(macs / 1000, 2) == INDEX[0]["about"]["kmac_per_pixel"]


# ---------------------------------------------------------------- files of the shipped weights


@pytest.fixture(scope="module")
def models():
    found = [reference.Model(path.read_bytes()) for path in FILES]
    return {model.digest: (model, path) for model, path in zip(found, FILES, strict=True)}


def same_pixels(found, expected):
    """Within 1, and nearly all the same: the networks' difference is far less than 1."""
    assert found.shape == expected.shape and found.dtype == expected.dtype == np.uint8
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1 and difference.sum() <= 1 + difference.size // 1000


def digest_of(tiles):
    integers = b"".join(a.astype("<i4").tobytes() for _, _, z, r, _ in tiles for a in (z, r))
    return hashlib.sha256(integers).hexdigest()


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name, models):
    data = (FOLDER / f"{name}.nc").read_bytes()
    model, path = models[reference.read_file(data)[0]["digest"]]
    file, tiles = reference.tiles(data, model)
    assert digest_of(tiles) == VECTORS[name] == symbols_sha256(data, path, "cpu")
    same_pixels(reference.join(file, tiles), ncodec.decode(data, "numpy", device="cpu"))


# ---------------------------------------------------------------- files of random weights


def random_tensors(config, seed=0):
    rng, tensors = np.random.default_rng(seed), {}
    for name, (dtype, shape) in tensors_of(config).items():
        values = rng.normal(size=shape)
        if name.endswith("bias"):
            values *= 0.1
        elif name.endswith("weight"):
            values /= np.sqrt(np.prod(shape[1:]))
        if name in ("g_s.linear.weight", "g_s.head.weight"):
            values *= 0.05
        elif name == "h_a.head.weight":
            values *= 6
        elif name == "log_gain":
            values += 2
        elif name.startswith("exact"):
            values *= 300 if name == "exact.hidden.bias" else 5000
        tensors[name] = values.astype(reference.TYPES[dtype])
    tensors["exact.hidden.shift"], tensors["exact.head.shift"] = np.array(3), np.array(13)
    tensors["exact.index_offset"] += 6000
    for name in ("tables.r", "tables.z"):
        table = np.zeros((64 if name == "tables.r" else 8 * config["Z"], 40), np.uint16)
        for row in table:
            shares = np.exp(-np.arange(rng.integers(1, 41)) / rng.integers(1, 20))
            row[: len(shares)] = np.maximum(16384 * shares / shares.sum(), 1)
            row[0] += 16384 - row.sum(dtype=int)
        tensors[name] = table
    return tensors


def save(folder, tensors, config):
    """Write a weights file; return its path."""
    about = {"name": "small", "family": "hyperprior", "config": config, "skip_below": 9}
    save_file(tensors, folder / "small.safetensors", {"ncodec": json.dumps(about)})
    return folder / "small.safetensors"


@pytest.fixture(scope="module", params=[4, 2])
def small(request, tmp_path_factory):
    config = SMALL | {"context_steps": request.param}
    path = save(tmp_path_factory.mktemp("weights"), random_tensors(config), config)
    return path, reference.Model(path.read_bytes())


def noise(*shape):
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


CASES = {
    "one pixel": (noise(1, 1, 3), 1, 0),
    "odd": (noise(37, 65, 3), 1.45, 0),  # code 9
    "odd grid of z": (noise(81, 40, 3), 1.5, 0),  # code 10
    "grey": (noise(50, 20), 4.55, 0),
    "tiles": (noise(140, 103, 3), 7.95, 64),
    "grey tiles": (noise(70, 131), 7.45, 64),
    "best": (noise(96, 128, 3), 8, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_any_weights(case, small):
    path, model = small
    image, quality, tile = CASES[case]
    data = ncodec.encode(image, quality, path, "cpu", tile)
    file, tiles = reference.tiles(data, model)
    assert digest_of(tiles) == symbols_sha256(data, path, "cpu")
    same_pixels(reference.join(file, tiles), ncodec.decode(data, "numpy", path, "cpu"))
    if case == "best":  # every kind of row and of symbol occurs
        _, _, z, r, _ = tiles[0]
        index = model.index(z, file["code"], 6, 8)
        assert {0, 63} < set(index.flatten().tolist()) and len(np.unique(index)) > 25
        assert (
            np.abs(r).max() > 20 and np.abs(z).max() > 3 and not r[index < model.skip_below].any()
        )


def file_of(model, z, r, index):
    """A file of one tile of 48 x 32 pixels, quality 3, with these latents."""
    channels = model.config["Z"]
    rows_z = [2 * channels + k for k in range(channels) for _ in range(z[0].size)]
    z, r = (
        reference_rans.encode(values.flatten().tolist(), indexes, tables, skip)
        for values, indexes, tables, skip in (
            (z, rows_z, model.tables["tables.z"], 0),
            (r, index.flatten().tolist(), model.tables["tables.r"], model.skip_below),
        )
    )
    return wrap(model, reference_rans.varint(len(z)) + z + r)


def wrap(model, payload):
    header = container.Header(48, 32, 1, model.digest, 40)
    return container.write(container.Container(header, [payload]))


def is_refused(data, path, model):
    """Whether both decoders refuse a file; they agree."""
    try:
        ours = reference.tiles(data, model)
    except ValueError:
        ours = None
    if ours is None:
        with pytest.raises(FormatError):
            ncodec.decode(data, "numpy", path, "cpu")
        return True
    ncodec.decode(data, "numpy", path, "cpu")
    assert digest_of(ours[1]) == symbols_sha256(data, path, "cpu")
    return False


def test_refused(small):
    path, model = small
    z = np.array([[[127, -127]], [[0, 3]], [[-5, 0]]])
    index = model.index(z, 40, 2, 3)
    coded = np.argwhere(index >= model.skip_below)
    r = np.zeros(index.shape, int)
    r[tuple(coded[0])], r[tuple(coded[-1])] = 32767, -32767
    good = file_of(model, z, r, index)
    assert not is_refused(good, path, model)
    for value in (128, -128, 2**31 - 1, -(2**31)):
        bad = np.where(z == 3, value, z)
        no_r = file_of(model, bad, 0 * r, model.index(bad, 40, 2, 3))
        assert is_refused(no_r, path, model)
    for value in (32768, -32768, 2**31 - 1, -(2**31)):
        assert is_refused(file_of(model, z, np.where(r > 0, value, r), index), path, model)
    (payload,) = reference.read_file(good)[1]
    first = 1 + payload[0]  # of section y
    assert not is_refused(wrap(model, payload), path, model)
    for bad in (
        b"", payload[:first], payload[: first + 3], payload + b"\0", payload[:first] + b"\0" + payload[first:],
        bytes([payload[0] + 1]) + payload[1:], b"\x7f" + payload[1:], b"\x80\0" + payload[1:],
    ):  # fmt: skip
        assert is_refused(wrap(model, bad), path, model)


@pytest.mark.parametrize(("name", "value"), [
    ("exact.hidden.shift", 0), ("exact.head.shift", 31), ("exact.head.bias", 2**53), ("exact.hidden.bias", -(2**53)),
    ("tables.r", 1), ("tables.z", 1),
])  # fmt: skip
def test_weights_refused(name, value, tmp_path):
    tensors = random_tensors(reference.DEFAULTS | SMALL)
    if name.endswith("shift"):
        tensors[name] = np.array(value)
    else:
        tensors[name].flat[0] = value
    path = save(tmp_path, tensors, SMALL)
    with pytest.raises(WeightsMismatchError):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    with pytest.raises(ValueError):
        reference.Model(path.read_bytes())


# ---------------------------------------------------------------- section 8


def unshuffle(x, f):
    channels, height, width = x.shape
    x = x.reshape(channels, height // f, f, width // f, f).transpose(0, 2, 4, 1, 3)
    return x.reshape(channels * f * f, height // f, width // f)


def latents_by_text(image, model, code):
    """z and r as section 8 has them."""
    height, width = image.shape[:2]
    x = (
        np.pad(image / 255, ((0, -height % 16), (0, -width % 16), (0, 0)), "edge").transpose(
            2, 0, 1
        )
        - 0.5
    )
    f = model.layer("g_a.stem", unshuffle(x, 8)) * model.at("g_a.gain", code)
    f = model.blocks("g_a.blocks", f, model.config["analysis_blocks"])
    y = model.layer("g_a.linear", unshuffle(x, 16)) + model.layer("g_a.head", unshuffle(f, 2))
    _, h, w = y.shape
    gain = np.exp(model.at("log_gain", code))
    a = np.arcsinh(np.pad(y * gain, ((0, 0), (0, h % 2), (0, w % 2)), "edge"))
    d = model.blocks("h_a.before", model.layer("h_a.stem", np.concatenate([a, np.abs(a)])))
    weight, bias = (model.tensors[f"h_a.down.{key}"].astype(float) for key in ("weight", "bias"))
    d = np.tensordot(weight.reshape(len(bias), -1), unshuffle(d, 2), 1) + bias[:, None, None]
    z = np.rint(model.layer("h_a.head", model.blocks("h_a.after", d))).clip(-127, 127).astype(int)
    coded, steps = model.index(z, code, h, w) >= model.skip_below, []

    def residual(mean):
        steps.append(np.rint((y - mean) * gain).clip(-32767, 32767) * coded)
        return steps[-1]

    model.y_hat(z, code, h, w, residual)
    p = reference.PHASE[np.arange(h)[:, None] % 2, np.arange(w) % 2]
    step_of = (p + np.arange(len(y))[:, None, None]) % 4 * len(steps) // 4
    return z, np.take_along_axis(np.array(steps), step_of[None], 0)[0]


def test_encoder(small, models, sample):
    """But for a rounding here and there, which the float networks decide."""
    shipped = next(iter(models.values()))
    for model, path in (shipped, small[::-1]):
        image = sample[200:281, 300:345]
        _, ((_, _, z, r, _),) = reference.tiles(ncodec.encode(image, 4.35, path, "cpu"), model)
        for found, expected in zip(latents_by_text(image, model, 67), (z, r), strict=True):
            assert np.mean(found != expected) < 1e-3
