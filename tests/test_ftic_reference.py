"""Family ftic against tests/reference_ftic.py: every requirement of specs/ftic.md.

The committed vectors hold the shipped weights' files; a small model of random weights, made from the specification's
own tables, goes where those do not: windows at every border, other numbers of blocks. All is equal to the bit.
"""

import hashlib
import json
import re
from fnmatch import fnmatch

import numpy as np
import pytest
import reference_exact
import reference_ftic as reference
import reference_rans
from conftest import ROOT
from PIL import Image
from random_weights import (
    evaluated,
    layers,
    random_layer,
    random_neighbours,
    random_tables,
    rows,
)
from random_weights import tensors_of as simple_tensors_of
from reference_hyperprior import TYPES, boxes, finished, join, read_file, read_tensors
from safetensors.numpy import load_file, save_file

import ncodec
from ncodec import container
from ncodec.errors import FormatError, WeightsMismatchError
from ncodec.models.ftic.codec import Options
from ncodec.models.ftic.device import DeviceCodec
from ncodec.models.ftic.recipe import kmac_per_pixel
from ncodec.models.hyperprior.codec import Latents
from ncodec.models.load import load_by_name
from ncodec.models.protocol import TileFormat
from ncodec.selftest import symbols_sha256

SPEC = (ROOT / "specs" / "ftic.md").read_text(encoding="utf-8")
HYPERPRIOR = (ROOT / "specs" / "hyperprior.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests" / "vectors" / "v1"
INDEX = json.loads((ROOT / "weights" / "index.json").read_text())["models"]
INDEX = [model for model in INDEX if model["family"] == "ftic"]
FILES = [ROOT / "weights" / model["file"] for model in INDEX]
VECTORS = {
    name: facts["symbols_sha256"]
    for name, facts in json.loads((FOLDER / "vectors.json").read_text()).items()
    if name.startswith("ftic-")
}
SMALL = {"N": 128, "M": 10, "D": 128, "Z": 3, "H": 64, "S": 5, "B": 7}
SMALL |= {"analysis_blocks": 2, "synthesis_blocks": 3, "fat": 2, "deep_fat": 1, "layers": 2}
FULL = reference.DEFAULTS | SMALL


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
    for model in INDEX:
        if model["name"] == "ftic-s":
            about = read_tensors((ROOT / "weights" / model["file"]).read_bytes(), "ftic")[1]
            assert about["config"] == sizes


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


BOUNDS = {"h_s.hidden": (127, 3), "h_m.stem": (127, 3)}  # of inputs
BOUNDS |= {"g_a.linear": (255, 120), "g_a.stem": (255, 120)}
LOGS = {"log_gain": -8, "log_unit": 8}  # octaves


def random_tensors(config, seed=0):
    rng, shapes = np.random.default_rng(seed), tensors_of(config)
    values = random_neighbours(rng, {name: shape for name, (_, shape) in shapes.items()})
    for name, (_, shape) in shapes.items():
        layer, _, part = name.rpartition(".")
        if part == "weight" and f"{layer}.shift" in shapes:
            result = 4 if layer == "h_a.head" else 4000
            values |= random_layer(rng, layer, shape, *BOUNDS.get(layer, (32767, 4000)), result)
        elif name.endswith(("score_bits", "modulation.bits")):
            values[name] = np.array(rng.integers(22, 27) if part == "score_bits" else 12)
        elif name.endswith(("attention.bias", "modulation.weight")):
            values[name] = rng.normal(0, 1 << 25 if part == "bias" else 3000, shape)
        elif name.endswith("gain"):
            values[name] = rng.integers(-3000, 32768, shape)
            values[f"{name}_shift"] = np.array(rng.integers(13, 15))
        elif name.startswith("tables."):
            values[name] = random_tables(rng, shape[0])
    for name, octaves in LOGS.items():
        values[name] = rng.normal(octaves, 1, shapes[name][1]) * 4096
    values["index_offset"] = rng.normal(5000, 3000, shapes["index_offset"][1])
    values["h_a.asinh"] = rng.integers(-32767, 32768, 1 << 16)
    return {name: values[name].astype(TYPES[kind]) for name, (kind, _) in shapes.items()}


def save(folder, tensors, config=SMALL, skip_below=9):
    """Write a weights file; return its path."""
    about = {"name": "small", "family": "ftic", "config": config, "skip_below": skip_below}
    save_file(tensors, folder / "small.safetensors", {"ncodec": json.dumps(about)})
    return folder / "small.safetensors"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = save(tmp_path_factory.mktemp("weights"), random_tensors(FULL))
    return path, reference.Model(path.read_bytes())


def noise(*shape):
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


CASES = {
    "one pixel": (noise(1, 1, 3), 1, 0),
    "odd": (noise(37, 65, 3), 1.45, 0),  # code 9; latents of which z has a half too many
    "windows": (noise(150, 130, 3), 1.5, 0),  # of all kinds, cut and moved
    "grey": (noise(50, 20), 4.55, 0),
    "tiles": (noise(140, 71, 3), 7.95, 64),
    "grey tiles": (noise(70, 81), 7.45, 64),
    "best": (noise(64, 64, 3), 8, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_any_weights(case, small):
    path, model = small
    image, quality, tile = CASES[case]
    data = ncodec.encode(image, quality, path, "cpu", tile)
    file, tiles = reference.tiles(data, model)
    codec = load_by_name(path, "cpu").codec
    for payload, box, (_, _, z, r, _) in zip(read_file(data)[1], boxes(file), tiles, strict=True):
        found = codec.decode_latents(payload, file["code"], *box[2:])
        np.testing.assert_array_equal(found.z, z)
        np.testing.assert_array_equal(found.r, r)
    assert digest_of(file, tiles) == symbols_sha256(data, path, "cpu")
    pixels = join(file, tiles)
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), pixels)
    if case == "best":  # every kind of row and of pixel occurs
        _, _, z, r, _ = tiles[0]
        index = model.index(z, file["code"], 4, 4)
        assert index.max() == 63 and len(np.unique(index)) > 15 and len(np.unique(pixels)) > 200
        assert np.abs(r).max() > 20 and np.abs(z).max() > 3


def test_two_slices(tmp_path):
    """Context of a checkerboard."""
    config = SMALL | {"context_steps": 2}
    path = save(tmp_path, random_tensors(FULL | config), config)
    data = ncodec.encode(noise(40, 55, 3), 6, path, "cpu")
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), reference.decode(data, path.read_bytes()))  # fmt: skip


@pytest.mark.parametrize(("overlap", "is_grey"), [(1, False), (64, True)])
def test_overlaps(small, overlap, is_grey):
    """Overlaps that ncodec does not write are faded as exactly."""
    path, model = small
    codec = load_by_name(path, "cpu").codec
    header = container.Header(99, 75, 7, model.digest, 71, is_grey, 64, overlap)
    image = noise(75, 99) if is_grey else noise(75, 99, 3)
    tiles = [
        codec.encode_tile(image[top:bottom, left:right], 71, Options())
        for left, top, right, bottom in header.tile_boxes()
    ]
    data = container.write(container.Container(header, tiles))
    expected = reference.decode(data, path.read_bytes())
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), expected)


@pytest.mark.parametrize("code", [0, 77, 140])
def test_extremes(small, code):
    """Latents that no encoder makes: sums saturate alike."""
    path, model = small
    rng, codec = np.random.default_rng(code), load_by_name(path, "cpu").codec
    z = rng.choice([-127, 127], (2, 5, model.config["Z"])).astype(np.int16)
    r = rng.choice([-32767, 0, 32767], (3, 9, model.config["M"])).astype(np.int16)
    expected = model.pixels(z, r, code, 9 * 16, 3 * 16)
    found = codec.synthesise(Latents(z, r, r), code, is_rounded=False)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(codec.indexes(z, code, (3, 9)), model.index(z, code, 3, 9))


def test_together(small):
    """Tiles decoded together by the executor for GPUs, here on the CPU."""
    path, _ = small
    codec = load_by_name(path, "cpu").codec
    device = DeviceCodec(codec.tensors, codec.config, codec.skip_below, {}, "cpu")
    payloads = [codec.encode_tile(noise(37, 150 + k, 3)[:, :150], 50, Options()) for k in range(2)]
    for channels, is_faded in ((3, False), (1, True)):
        format = TileFormat(150, 37, channels, is_faded=is_faded)
        found = device.decode_tiles(payloads, 50, format)
        np.testing.assert_array_equal(found, codec.decode_tiles(payloads, 50, format))


def file_of(model, z, r, index, **how):
    """A file of one tile of 40 x 33 pixels, best quality, with these latents; `how` section z is coded."""
    rows, tables = index.flatten().tolist(), model.tables["tables.r"]
    y = reference_rans.encode(r.flatten().tolist(), rows, tables, model.skip_below)
    offset = model.at("neighbours.offset", 140)
    z = model.neighbours.encode(z, model.tables["tables.z"], offset, **how)
    return wrap(model, reference_rans.varint(len(z)) + z + y)


def wrap(model, payload):
    header = container.Header(40, 33, 7, model.digest, 140)
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
    """Section by section as of hyperprior, whose tests have more."""
    path, model = small
    z = np.array([[[127, 0, -5], [-127, 3, 0]], [[1, 0, 0], [0, 0, 2]]])
    index = model.index(z, 140, 3, 3)
    coded = np.argwhere(index >= model.skip_below)
    r = np.zeros(index.shape, int)
    r[tuple(coded[0])], r[tuple(coded[-1])] = 32767, -32767
    good = file_of(model, z, r, index)
    assert not is_refused(good, path, model)
    for value in (32768, -32768, 2**31 - 1):
        assert is_refused(file_of(model, z, np.where(r > 0, value, r), index), path, model)
    for value in (128, -128):
        bad = np.where(z == 3, value, z)
        assert is_refused(file_of(model, bad, 0 * r, model.index(bad, 140, 3, 3)), path, model)
    for how in ({"lanes": 2}, {"chunks": 2}):
        assert is_refused(file_of(model, z, r, index, **how), path, model)
    (payload,) = read_file(good)[1]
    first = 1 + payload[0]  # of section y
    for bad in (
        b"", payload[:first], payload[: first + 3], payload + b"\0", payload[:first] + b"\0" + payload[first:],
        bytes([payload[0] + 1]) + payload[1:], b"\x7f" + payload[1:], b"\x80\0" + payload[1:],
    ):  # fmt: skip
        assert is_refused(wrap(model, bad), path, model)


def test_nothing_coded(tmp_path):
    """Where every row is skipped section y is empty."""
    path = save(tmp_path, random_tensors(FULL), skip_below=64)
    model = reference.Model(path.read_bytes())
    data = ncodec.encode(noise(33, 40, 3), 8, path, "cpu")
    (payload,) = read_file(data)[1]
    assert payload[0] == len(payload) - 1 and not is_refused(data, path, model)
    assert is_refused(wrap(model, payload + b"\0"), path, model)


# ---------------------------------------------------------------- weights


def are_refused(path):
    with pytest.raises(WeightsMismatchError):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    with pytest.raises(ValueError):
        reference.Model(path.read_bytes())


@pytest.mark.parametrize(("name", "value"), [
    ("h_s.hidden.shift", 0), ("g_s.fat.1.up.shift", 31), ("g_s.deep.stem.bias", 2**30 + 1), ("context.0.channels.1.q.bias", -(2**30) - 1),
    ("context.3.channels.0.o.shift", 0), ("context.2.channels.0.down.weight", -32768), ("g_s.fat.0.attention.v.weight", -32768), ("index_offset", -32768),
    ("g_a.gain_shift", 31), ("tables.r", 1), ("tables.z", 1), ("neighbours.shifts", 31),
    ("g_s.fat.0.attention.score_bits", 5), ("g_s.deep.fat.0.attention.score_bits", 31), ("context.2.channels.1.score_bits", 5), ("context.0.channels.0.score_bits", 31),
    ("g_a.fat.0.attention.score_bits", 5), ("g_s.fat.1.modulation.bits", 16), ("g_s.fat.1.modulation.weight", -32768), ("g_s.fat.1.attention.bias", -(2**31)),
])  # fmt: skip
def test_weights_refused(name, value, tmp_path):
    tensors = random_tensors(FULL)
    if tensors[name].ndim == 0:
        tensors[name] = np.array(value, np.uint8)
    else:
        tensors[name].flat[0] = value
    if name.endswith(".bias") and "attention.bias" not in name:  # not by X3
        tensors[name.replace("bias", "weight")][0] = 0
    are_refused(save(tmp_path, tensors))


def test_tensors_refused(tmp_path):
    """Another type or shape, a tensor too many or too few, a `skip_below` that is no row."""
    good = random_tensors(FULL)
    bias, weight = "g_s.fat.1.attention.bias", "g_s.deep.fat.0.modulation.weight"
    for bad in (
        good | {bias: good[bias].astype(np.int16)}, good | {bias: good[bias][1:]}, good | {"more": good[bias]}, good | {weight: good[weight][:8]},
        {name: tensor for name, tensor in good.items() if name != bias}, good | {"tables.r": good["tables.r"][1:]},
    ):  # fmt: skip
        are_refused(save(tmp_path, bad))
    for skip_below in (-1, 65, None, 1.5):
        are_refused(save(tmp_path, good, SMALL, skip_below))


SUMS = [
    "h_m.up", "context.2.neighbours", "context.3.channels.0.o", "context.0.channels.1.down", "g_s.deep.head", "g_s.fat.1.up",
    "g_s.blocks.2.project",
]  # fmt: skip


@pytest.mark.parametrize("layer", SUMS)
def test_sums_just_fit(layer, tmp_path):
    """X3 with the bounds that X19 finds for a layer's input: 2^31 - 1 fits, 2^31 does not."""
    tensors = random_tensors(FULL)
    model = reference.Model(save(tmp_path, tensors).read_bytes())
    bounds = reference_exact.bounds(model.net.operations)
    bound = next(
        bounds[inputs[0]]
        for _, inputs, _, arrays in model.net.operations
        if arrays and np.shares_memory(arrays[0], model.tensors[f"{layer}.weight"])
    )
    weight, bias, shift = (tensors[f"{layer}.{part}"] for part in ("weight", "bias", "shift"))
    most = min(2**30 // bound, 32767 * weight[0].size)  # of the row's magnitudes
    share = most // weight[0].size
    weight[0] = share
    weight[0].flat[0] += most - share * weight[0].size
    shift[0] = 30
    bias[0] = -(2**31 - 1 - bound * most - 2**29)
    path = save(tmp_path, tensors)
    reference.Model(path.read_bytes())
    ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    bias[0] -= 1
    are_refused(save(tmp_path, tensors))


def test_scores_just_fit(tmp_path):
    """X26: with the largest score, of 32 channels, the bias is below 2^31."""
    tensors, name = random_tensors(FULL), "g_s.fat.1.attention.bias"
    tensors[name][-1] = 2**31 - 1 - 32 * 4095**2
    path = save(tmp_path, tensors)
    reference.Model(path.read_bytes())
    ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    tensors[name][-1] += 1
    are_refused(save(tmp_path, tensors))


@pytest.mark.parametrize("more", [
    {"N": 64}, {"N": 1025}, {"M": 769}, {"D": 192}, {"H": 48}, {"H": 0}, {"fat": 3}, {"deep_fat": 0}, {"layers": True}, {"Z": 1.5}, {"S": 1025}, {"B": "7"},
    {"analysis_blocks": 257},
])  # fmt: skip
def test_sizes_refused(more, tmp_path):
    """Section 7 has the bounds of sizes."""
    path = save(tmp_path, {"any": np.zeros(1, np.int16)}, SMALL | more)
    with pytest.raises(WeightsMismatchError, match=f"{next(iter(more))}: expected"):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")


# ---------------------------------------------------------------- section 8


def encoder_of(model):
    """The encoder's network as section 8 has it: y and z."""
    c, net = model.config, reference.Graph(model.tensors)
    x = net.add("pad", net.input("x", 3, 255), numbers=(16,))
    f = net.layer(net.add("unshuffle", x, numbers=(8,)), "g_a.stem")
    f = net.between(net.scaled(f, "g_a.gain", c["N"]), "g_a", c, c["analysis_blocks"])
    f = net.add("unshuffle", f, numbers=(2,))
    linear = net.layer(net.add("unshuffle", x, numbers=(16,)), "g_a.linear")
    y = net.add("add", net.add("add", linear, net.layer(f, "g_a.head")), net.deep(f, "g_a", c))
    a = net.add("pad", net.scaled(y, "steps", c["M"]), numbers=(2,))
    a = net.add("table", a, arrays=(model.tensors["h_a.asinh"],))
    positive = net.layer(net.add("leaky", a, numbers=(0,)), "h_a.stem_positive")
    d = net.blocks(net.add("add", net.layer(a, "h_a.stem"), positive), "h_a.before")
    d = net.layer(net.add("unshuffle", d, numbers=(2,)), "h_a.down")
    z = net.layer(net.blocks(d, "h_a.after"), "h_a.head")
    net.check()
    return net, y, net.add("clamp", z, numbers=(-127, 127))


def loop_of(model):
    """The encoder's loop: r."""
    c, net, parts = model.config, reference.Graph(model.tensors), []
    y, z = net.input("y", c["M"], 32767), net.input("z", c["Z"], 127)
    index = model.index_of(net, z, y)

    def residual(s, mean):
        r = net.scaled(net.add("subtract", y, mean), "gain", c["M"])
        parts.append(net.add("gate", r, index, numbers=(model.skip_below,)))
        return parts[-1]

    model.y_hat_of(net, z, y, residual)
    r = parts[0]
    for s, part in enumerate(parts[1:], 1):
        r = net.add("merge", r, part, numbers=(s, len(parts)))
    net.check()
    return net, r


def test_encoder(small, models, sample):
    shipped = list(models.values())[:1]
    for model, path in (*shipped, small[::-1]):
        image, vectors = sample[200:281, 300:345], model.vectors(67)
        (net, *wanted), (loop, residuals) = encoder_of(model), loop_of(model)
        y, z = net.run(vectors | {"x": 2 * image.astype(int) - 255}, *wanted)
        (r,) = loop.run(vectors | {"y": y, "z": z}, residuals)
        _, ((_, _, *found, _),) = reference.tiles(ncodec.encode(image, 4.35, path, "cpu"), model)
        assert z.any() and r.any()
        for ours, expected in zip(found, (z, r), strict=True):
            np.testing.assert_array_equal(ours, expected)
