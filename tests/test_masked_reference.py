"""Family masked against tests/reference_masked.py: every requirement of specs/masked.md.

The committed vectors hold the shipped weights' files; small models of random weights, made from the specification's
own tables, of both kinds of passes, go where those do not: windows of every kind, other steps and slices. All is equal to the bit.
"""

import hashlib
import json
import re
from fnmatch import fnmatch
from itertools import accumulate

import numpy as np
import pytest
import reference_exact
import reference_masked as reference
import reference_rans
from conftest import ROOT
from PIL import Image
from random_weights import evaluated, layers, random_layer, random_tables, rows
from reference_hyperprior import TYPES, finished, join, read_file, read_tensors
from safetensors.numpy import load_file, save_file

import ncodec
from ncodec import container
from ncodec.coder import Reader
from ncodec.errors import FormatError, WeightsMismatchError
from ncodec.models.load import load_by_name
from ncodec.models.masked import graphs
from ncodec.models.masked.codec import Options
from ncodec.models.masked.recipe import kmac_per_pixel
from ncodec.models.masked.schedule import batches, groups, order
from ncodec.selftest import symbols_sha256

SPEC = (ROOT / "specs" / "masked.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests" / "vectors" / "v1"
INDEX = json.loads((ROOT / "weights" / "index.json").read_text())["models"]
INDEX = [model for model in INDEX if model["family"] == "masked"]
FILES = [ROOT / "weights" / model["file"] for model in INDEX]
VECTORS = {
    name: facts["symbols_sha256"]
    for name, facts in json.loads((FOLDER / "vectors.json").read_text()).items()
    if name.startswith("masked-")
}
SMALL = {"N": 8, "M": 10, "D": 64, "U": 24, "H": 12, "layers": 2, "steps": 3, "slices": [2, 3, 5]}
SMALL |= {"analysis_blocks": 1, "synthesis_blocks": 2}


# ---------------------------------------------------------------- the specification


def test_requirements():
    """They are numbered without gaps, each names tests that exist, and nothing else is required."""
    parts = re.split(r"^- \*\*K(\d+)\*\*", SPEC, flags=re.MULTILINE)[1:]
    assert [int(n) for n in parts[::2]] == list(range(1, len(parts) // 2 + 1))
    here, musts = (ROOT / "tests" / "test_masked_reference.py").read_text(), 0
    for requirement in parts[1::2]:
        sentence = requirement.split("\n\n")[0]
        names = re.findall(r"`(test_\w+)`", sentence)
        assert "MUST" in sentence and names and all(f"def {name}(" in here for name in names)
        for file, name in re.findall(r"tests/(test_\w+\.py)::(test_\w+)", sentence):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text()
        musts += sentence.count("MUST")
    assert SPEC.count("MUST") == musts


def tensors_of(config):
    """Return {name: (type, shape)} by section 1; "any" is 0."""
    slices = config["slices"]
    names = config | {"C": slices, "E": [0, *accumulate(slices)], "A": len(slices), "any": 0}
    found = {}
    for name, shape in layers(names, SPEC):
        found |= {f"{name}.weight": ("I16", shape), f"{name}.bias": ("I32", shape[:1])}
        found[f"{name}.shift"] = ("U8", shape[:1])
    for name, kind, _ in rows("tensor", SPEC):
        found[name.strip(" `")] = evaluated(kind, names)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights(path):
    tensors, about = read_tensors(path.read_bytes(), "masked")
    for name, tensor in load_file(path).items():
        np.testing.assert_array_equal(tensors[name], tensor)
    expected = tensors_of(reference.DEFAULTS | about["config"])
    assert set(tensors) == set(expected)
    for name, (dtype, shape) in expected.items():
        assert tensors[name].dtype == TYPES[dtype], name
        wild = [size or found for size, found in zip(shape, tensors[name].shape, strict=True)]
        assert list(tensors[name].shape) == wild, name


def test_sizes():
    """The tables of section 10: the defaults of the reference, and what tensors of these sizes take."""
    sizes = {name.strip(): json.loads(default) for name, default, _ in rows("size", SPEC)}
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
    assert set(shapes) == {"tables.r"}
    assert macs / 1000 == pytest.approx(kmac_per_pixel({}, {"config": sizes}), abs=0.005)
    for model in INDEX:
        if model["name"] == "masked-s":
            about = read_tensors((ROOT / "weights" / model["file"]).read_bytes(), "masked")[1]
            assert about["config"] == sizes


def test_schedule():
    """Section 2, of every number of steps and of tiles of every kind."""
    assert order().tolist() == reference.order()
    halves = [256 * (i / s) ** 2.2 % 1 for s in range(1, 65) for i in range(1, s + 1)]
    assert min(abs(part - 0.5) for part in halves) > 1e-4
    for steps in range(1, 65):
        assert groups(steps).tolist() == reference.step_of_places(steps)
    assert np.bincount(groups(8)).tolist() == [3, 9, 18, 26, 35, 45, 55, 65]
    for h, w in ((1, 1), (3, 40), (16, 17), (17, 34), (50, 33)):
        windows = [list(map(tuple, kind)) for kind in reference.batches(h, w)]
        for step, plan in enumerate(batches(h, w, 8)):
            for batch in plan:
                found = [(*corner, *batch.sides) for corner in batch.corners.tolist()]
                assert found == windows[batch.shape]
                window = reference.Window(found[0], {})
                expected = [p for p in window.places if reference.step_of_places(8)[p] == step]
                assert batch.places.tolist() == expected
                i, j = window.here(expected)
                assert batch.rows[0].tolist() == i.tolist()
                assert batch.columns[0].tolist() == j.tolist()


# ---------------------------------------------------------------- files of the shipped weights


def same_pixels(found, expected):
    assert found.dtype == expected.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def digest_of(file, tiles):
    pixels = (finished(file, tile) for *_, tile in tiles)
    parts = (tile.astype(tile.dtype.newbyteorder("<")).tobytes() for tile in pixels)
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture(scope="module")
def models():
    found = [reference.Model(path.read_bytes()) for path in FILES]
    return {model.digest: (model, path) for model, path in zip(found, FILES, strict=True)}


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name, models):
    data = (FOLDER / f"{name}.nc").read_bytes()
    model, path = models[read_file(data)[0]["digest"]]
    file, tiles = reference.tiles(data, model)
    assert digest_of(file, tiles) == VECTORS[name] == symbols_sha256(data, path, "cpu")
    pixels = join(file, tiles)
    same_pixels(ncodec.decode(data, "numpy", device="cpu"), pixels)
    with Image.open(FOLDER / f"{name}.png") as picture:
        same_pixels(np.asarray(picture), pixels)


# ---------------------------------------------------------------- files of random weights


BOUNDS = {"g_a.linear": (255, 120), "g_a.stem": (255, 120)}  # of inputs
LOGS = {"log_gain": -8, "log_unit": 8, "log_mean": -1}  # octaves


def random_tensors(config, seed=0):
    rng, values, shapes = np.random.default_rng(seed), {}, tensors_of(config)
    for name, (_, shape) in shapes.items():
        if name.endswith(".weight"):
            layer = name.removesuffix(".weight")
            values |= random_layer(rng, layer, shape, *BOUNDS.get(layer, (32767, 4000)))
    for name in ("g_a.gain", "g_s.gain"):
        values[name] = rng.integers(-3000, 32768, shapes[name][1])
        values[f"{name}_shift"] = np.array(rng.integers(13, 15))
    for name, octaves in LOGS.items():
        values[name] = rng.normal(octaves, 1, shapes[name][1]) * 4096
    values["index_offset"] = rng.normal(5000, 3000, shapes["index_offset"][1])
    values["score_bits"] = rng.integers(20, 27, shapes["score_bits"][1])
    for name in ("asinh", "asinh_beyond"):
        values[name] = rng.integers(-32767, 32768, 1 << 16)
    for name in ("mode", "group", "unknown_places", "known_places", "null"):
        values[name] = rng.normal(0, 3000, shapes[name][1])
    values["tables.r"] = random_tables(rng, 64)
    return {name: values[name].astype(TYPES[kind]) for name, (kind, _) in shapes.items()}


def save(folder, tensors, config, skip_below=9):
    """Write a weights file; return its path."""
    about = {"name": "small", "family": "masked", "config": config, "skip_below": skip_below}
    save_file(tensors, folder / "small.safetensors", {"ncodec": json.dumps(about)})
    return folder / "small.safetensors"


@pytest.fixture(scope="module", params=["m2t", "mt"])
def small(request, tmp_path_factory):
    config = SMALL | {"passes": request.param}
    path = save(tmp_path_factory.mktemp("weights"), random_tensors(config), config)
    return path, reference.Model(path.read_bytes())


def noise(*shape):
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


CASES = {
    "one pixel": (noise(1, 1, 3), 1, 0),
    "two windows": (noise(37, 300, 3), 1.45, 0),  # code 9; the second is cut
    "four windows": (noise(275, 289, 3), 1.5, 0),  # of four sizes
    "grey": (noise(50, 20), 4.55, 0),
    "tiles": (noise(140, 103, 3), 7.95, 64),
    "grey tiles": (noise(70, 131), 7.45, 64),
    "best": (noise(64, 64, 3), 8, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_any_weights(case, small):
    path, model = small
    image, quality, tile = CASES[case]
    data = ncodec.encode(image, quality, path, "cpu", tile)
    file, tiles = reference.tiles(data, model)
    codec = load_by_name(path, "cpu").codec
    for payload, (_, _, y_hat, _) in zip(read_file(data)[1], tiles, strict=True):
        found = codec.code(Reader(payload, 1), None, y_hat.shape[:2], file["code"])
        np.testing.assert_array_equal(found, y_hat)
    assert digest_of(file, tiles) == symbols_sha256(data, path, "cpu")
    pixels = join(file, tiles)
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), pixels)
    if case == "best":  # every kind of row and of pixel occurs
        index = list(model.rows(file["code"], model.zeros(64, 64), [0] * 2000))
        assert max(index) == 63 and len(set(index)) > 15 and len(np.unique(pixels)) > 200
        assert len(np.unique(y_hat)) > 100


@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("overlap", [1, 64])
def test_overlaps(small, overlap, is_grey):
    """Overlaps that ncodec does not write are faded as exactly."""
    path, model = small
    codec = load_by_name(path, "cpu").codec
    header = container.Header(99, 75, 6, model.digest, 71, is_grey, 64, overlap)
    image = noise(75, 99) if is_grey else noise(75, 99, 3)
    tiles = [
        codec.encode_tile(image[top:bottom, left:right], 71, Options())
        for left, top, right, bottom in header.tile_boxes()
    ]
    data = container.write(container.Container(header, tiles))
    expected = reference.decode(data, path.read_bytes())
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), expected)


class Given:
    """A coder whose residuals are given, whatever the rows are."""

    def __init__(self, rng, model):
        self.rng, self.model, self.coded = rng, model, []

    def code_steps(self, *_):
        return self

    def code(self, symbols, indexes):
        r = self.rng.choice([-32767, -1, 0, 1, 32767], indexes.shape).astype(np.int32)
        r[indexes < self.model.skip_below] = 0
        self.coded += r[indexes >= self.model.skip_below].tolist()
        return r

    def finish(self):
        pass


class Ahead(list):
    """What a decoder has of symbols so far, when all are known: as many as it has asked for."""

    def __init__(self, symbols):
        super().__init__()
        self.rest = iter(symbols)

    def follow(self, rows):
        for _ in rows:
            self.append(next(self.rest))


@pytest.mark.parametrize("code", [0, 77, 140])
def test_extremes(small, code):
    """Residuals that no encoder makes: sums saturate alike."""
    path, model = small
    codec, given = load_by_name(path, "cpu").codec, Given(np.random.default_rng(code), model)
    found = codec.code(given, None, (3, 18), code)
    y_hat, symbols = model.zeros(18 * 16, 3 * 16), Ahead(given.coded)
    symbols.follow(model.rows(code, y_hat, symbols))
    np.testing.assert_array_equal(found, y_hat)
    assert (np.abs(found) == 32767).any()
    unrounded = codec.synthesise(found, code, is_rounded=False)
    np.testing.assert_array_equal(unrounded, model.pixels(y_hat, code, 18 * 16, 3 * 16))


def test_quality(small):
    """Every code and, of what is a power of 2, every exponent that 32 bits hold: vectors that saturate too."""
    path, model = small
    c = load_by_name(path, "cpu").codec.config
    tensors, shape = model.tensors, model.tensors["log_gain"].shape
    rng = np.random.default_rng(0)
    for scale in (0, 1 << 17, 1 << 31):
        if scale:
            logs = {name: rng.integers(-scale, scale, shape).astype("<i4") for name in LOGS}
            model.tensors = tensors | logs
        for code in (0, 1, 70, 139, 140) if scale else range(141):
            found, expected = graphs.vectors(model.tensors, c, code), model.vectors(code)
            for name, vector in found.items():
                kind, *place = re.sub("factor$", "m", re.sub("shift$", "t", name)).split(".")
                if kind in ("g_a", "g_s", "mode"):
                    channels = slice(None)
                    whole = ".".join([kind, *place])
                else:
                    n, *part = place
                    channels = slice(int(n)) if kind in ("fine", "steps") else model.slices[int(n)]
                    whole = ".".join([kind, *part])
                np.testing.assert_array_equal(vector, expected[whole][channels], name)
                assert np.abs(vector.astype(int)).max() <= 32767
    model.tensors = tensors


def wrap(model, payload):
    header = container.Header(40, 33, 6, model.digest, 140)
    return container.write(container.Container(header, [[[payload]]]))


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
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), join(*ours))
    return False


def test_refused(small):
    path, model = small
    rows, symbols = [], Ahead([1, -1] * 1000)
    y_hat = model.zeros(40, 33)

    def seen():
        for row in model.rows(140, y_hat, symbols):
            rows.append(row)
            yield row

    symbols.follow(seen())
    symbols = [1, -1] * (len(rows) // 2)
    symbols, n = symbols + [1] * (len(rows) - len(symbols)), len(rows)

    def payload_of(**more):
        return reference_rans.encode(symbols, rows, model.table, **more)

    good = payload_of()
    assert n > 20 and not is_refused(wrap(model, good), path, model)
    for lanes in (2, 32):
        assert not is_refused(wrap(model, payload_of(lanes=lanes)), path, model)
    for chunks in (2, n):
        assert is_refused(wrap(model, payload_of(chunks=chunks)), path, model)
    assert symbols[-1] == (-1) ** (n + 1)
    for value in (32767, -32767):
        symbols[-1] = value
        assert not is_refused(wrap(model, payload_of()), path, model)
    for value in (32768, -32768, 2**31 - 1, -(2**31)):
        symbols[-1] = value
        assert is_refused(wrap(model, payload_of()), path, model)
    for bad in (
        b"", good[:1], good[:4], good[:-1], good + b"\0", good[:6] + b"\0" + good[6:], b"\x06" + good[1:], b"\x10" + good[1:],
        bytes([8]) + good[1:], good[:1] + b"\xff\xff\0\0" + good[5:], bytes([0, 0, 0, 1, 0]),
    ):  # fmt: skip
        assert is_refused(wrap(model, bad), path, model)


def test_nothing_coded(tmp_path):
    """Where every row is skipped the payload is empty."""
    path = save(tmp_path, random_tensors(reference.DEFAULTS | SMALL), SMALL, skip_below=64)
    model = reference.Model(path.read_bytes())
    data = ncodec.encode(noise(33, 40, 3), 8, path, "cpu")
    assert read_file(data)[1] == [b""] and not is_refused(data, path, model)
    for bad in (b"\0", bytes([0, 0, 0, 1, 0])):
        assert is_refused(wrap(model, bad), path, model)


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(("name", "value"), [
    ("near.0.shift", 0), ("linear.2.shift", 31), ("content.bias", 2**30 + 1), ("g_s.linear.bias", -(2**30) - 1),
    ("layers.1.q.shift", 0), ("layers.0.k.shift", 31), ("heads.2.own.weight", -32768), ("index_offset", -32768), ("null", -32768),
    ("g_s.gain", -32768), ("asinh", -32768), ("asinh_beyond", -32768), ("g_a.gain_shift", 31), ("tables.r", 1), ("score_bits", 5), ("score_bits", 31),
    ("unknown_places", -32768), ("group", -32768), ("mode", -32768),
])  # fmt: skip
def test_weights_refused(name, value, tmp_path):
    tensors = random_tensors(reference.DEFAULTS | SMALL)
    if name.endswith("_shift"):
        tensors[name] = np.array(value, np.uint8)
    else:
        tensors[name].flat[0] = value
    if name.endswith(".bias"):  # not by X3
        tensors[name.replace("bias", "weight")][0] = 0
    are_refused(save(tmp_path, tensors, SMALL))


def test_tensors_refused(tmp_path):
    """Another type or shape, a tensor too many or too few, a `skip_below` that is no row."""
    good = random_tensors(reference.DEFAULTS | SMALL)
    bias = "heads.1.own_positive.bias"
    for bad in (
        good | {bias: good[bias].astype(np.int16)}, good | {bias: good[bias][1:]}, good | {"more": good[bias]},
        {name: tensor for name, tensor in good.items() if name != bias}, good | {"tables.r": good["tables.r"][1:]},
    ):  # fmt: skip
        are_refused(save(tmp_path, bad, SMALL))
    for skip_below in (-1, 65, None, 1.5):
        are_refused(save(tmp_path, good, SMALL, skip_below))


SUMS = [
    ("m2t", "layers.1.up"), ("m2t", "layers.0.o"), ("mt", "layers.0.o"), ("m2t", "content_positive"), ("mt", "near.2"),
    ("m2t", "heads.1.own"), ("mt", "heads.0.mean"), ("m2t", "g_s.blocks.1.project"),
]  # fmt: skip


@pytest.mark.parametrize(("passes", "layer"), SUMS)
def test_sums_just_fit(passes, layer, tmp_path):
    """X3 with the bounds that X19 finds for a layer's input: 2^31 - 1 fits, 2^31 does not."""
    config = SMALL | {"passes": passes}
    tensors = random_tensors(reference.DEFAULTS | config)
    model = reference.Model(save(tmp_path, tensors, config).read_bytes())
    by_pass = [model.passing, model.content] if passes == "mt" else [model.null, model.asking, model.telling]  # fmt: skip
    bound = 0
    for net in (*model.around, *by_pass, *model.heads, model.synthesis):
        bounds = reference_exact.bounds(net.operations)
        for _, inputs, _, arrays in net.operations:
            if arrays and np.shares_memory(arrays[0], model.tensors[f"{layer}.weight"]):
                bound = max(bound, bounds[inputs[0]])
    weight, bias, shift = (tensors[f"{layer}.{part}"] for part in ("weight", "bias", "shift"))
    most = min(2**30 // bound, 32767 * weight[0].size)  # of the row's magnitudes
    share = most // weight[0].size
    weight[0] = share
    weight[0].flat[0] += most - share * weight[0].size
    shift[0] = 30
    bias[0] = -(2**31 - 1 - bound * most - 2**29)
    path = save(tmp_path, tensors, config)
    reference.Model(path.read_bytes())
    ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    bias[0] -= 1
    are_refused(save(tmp_path, tensors, config))


def are_refused(path):
    with pytest.raises(WeightsMismatchError):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    with pytest.raises(ValueError):
        reference.Model(path.read_bytes())


@pytest.mark.parametrize("more", [
    {"N": 0}, {"M": 769}, {"D": 48}, {"D": 288}, {"layers": 65}, {"steps": 0}, {"steps": 65}, {"passes": "twice"}, {"slices": [10, 1]},
    {"slices": []}, {"slices": "10"}, {"slices": [11, -1]}, {"slices": [1] * 17}, {"slices": [True, 9]}, {"U": 1025}, {"H": 1.5}, {"analysis_blocks": 257},
])  # fmt: skip
def test_sizes_refused(more, tmp_path):
    """Section 10 has the bounds of sizes."""
    path = save(tmp_path, random_tensors(reference.DEFAULTS | SMALL), SMALL | more)
    with pytest.raises(WeightsMismatchError, match=f"{next(iter(more))}: expected"):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")


# ---------------------------------------------------------------- section 11


def test_encoder(small, models, sample):
    shipped = list(models.values())[:1]
    for model, path in (*shipped, small[::-1]):
        c, image = model.config, sample[200:281, 300:345]
        net = reference.Graph(model.tensors)
        x = net.add("pad", net.input("x", 3, 255), numbers=(16,))
        f = net.layer(net.add("unshuffle", x, numbers=(8,)), "g_a.stem")
        f = net.blocks(net.scaled(f, "g_a.gain", c["N"]), "g_a.blocks", c["analysis_blocks"])
        head = net.layer(net.add("unshuffle", f, numbers=(2,)), "g_a.head")
        y = net.add("add", net.layer(net.add("unshuffle", x, numbers=(16,)), "g_a.linear"), head)
        net.wanted = [y]
        net.check()
        (y,) = reference.run(net, model.vectors(67), x=2 * image.astype(int) - 255)
        _, ((_, _, found, _),) = reference.tiles(ncodec.encode(image, 4.35, path, "cpu"), model)
        y_hat = 0 * y
        assert not list(model.rows(67, y_hat, [], y)) and y_hat.any()
        np.testing.assert_array_equal(found, y_hat)
