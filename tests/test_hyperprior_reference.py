"""Family hyperprior against tests/reference_hyperprior.py: every requirement of specs/hyperprior.md.

The committed vectors hold the shipped weights' files; small models of random weights, made from the specification's
own tables, go where those do not: other sizes, two context steps, every rounding of the quality. All is equal to the bit.
"""

import hashlib
import json
import re
from fnmatch import fnmatch

import numpy as np
import pytest
import reference_exact
import reference_hyperprior as reference
import reference_rans
from conftest import ROOT
from PIL import Image
from random_weights import (
    layers,
    random_layer,
    random_neighbours,
    random_tables,
    rows,
    tensors_of,
)
from safetensors.numpy import load_file, save_file

import ncodec
from ncodec import container
from ncodec.errors import FormatError, InputError, WeightsMismatchError
from ncodec.models.hyperprior import graphs
from ncodec.models.hyperprior.codec import Latents, Options
from ncodec.models.hyperprior.device import DeviceCodec
from ncodec.models.load import load_by_name
from ncodec.models.protocol import TileFormat
from ncodec.selftest import symbols_sha256
from ncodec.tiles import fade

SPEC = (ROOT / "specs" / "hyperprior.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests" / "vectors" / "v1"
VECTORS = {
    name: facts["symbols_sha256"]
    for name, facts in json.loads((FOLDER / "vectors.json").read_text()).items()
    if "symbols_sha256" in facts
    and not name.startswith(("dct-", "fsq-", "bsq-", "vq-", "masked-", "ftic-", "lossless-"))
}
INDEX = json.loads((ROOT / "weights" / "index.json").read_text())["models"]
MODELS = [model for model in INDEX if model["family"] == "hyperprior"]
FILES = [ROOT / "weights" / model["file"] for model in MODELS]
SMALL = {"N": 8, "M": 10, "Z": 3, "H": 6, "S": 5, "B": 7}
SMALL |= {"analysis_blocks": 1, "synthesis_blocks": 2}


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights(path):
    tensors, about = reference.read_tensors(path.read_bytes())
    for name, tensor in load_file(path).items():
        np.testing.assert_array_equal(tensors[name], tensor)
    expected = tensors_of(reference.DEFAULTS | about["config"], SPEC)
    assert set(tensors) == set(expected)
    for name, (dtype, shape) in expected.items():
        assert tensors[name].dtype == reference.TYPES[dtype], name
        wild = [size or found for size, found in zip(shape, tensors[name].shape, strict=True)]
        assert list(tensors[name].shape) == wild, name


def test_sizes():
    sizes = {name.strip(): int(default) for name, default, _ in rows("size", SPEC)}
    assert sizes == reference.DEFAULTS
    model = next(model for model in MODELS if model["tune"] == "psnr")
    data = (ROOT / "weights" / model["file"]).read_bytes()
    tensors, about = reference.read_tensors(data)
    skip_below = reference.Model(data).skip_below
    assert about["config"] == sizes and f"`skip_below` {skip_below}." in SPEC
    macs = 0
    for names, numbers, size_bytes, mac in rows("tensors", SPEC):
        patterns = re.findall(r"`(.*?)`", names)
        group = [tensors[name] for name in tensors if any(fnmatch(name, p) for p in patterns)]
        assert sum(tensor.size for tensor in group) == int(numbers.replace(" ", ""))
        assert sum(tensor.nbytes for tensor in group) == int(size_bytes.replace(" ", ""))
        macs += int(mac.replace(" ", "") or 0)
    assert round(macs / 1000, 2) == model["about"]["kmac_per_pixel"]


# ---------------------------------------------------------------- files of the shipped weights


@pytest.fixture(scope="module")
def models():
    found = [reference.Model(path.read_bytes()) for path in FILES]
    return {model.digest: (model, path) for model, path in zip(found, FILES, strict=True)}


def same_pixels(found, expected):
    assert found.dtype == expected.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def digest_of(file, tiles):
    pixels = (reference.finished(file, tile) for _, _, _, _, tile in tiles)
    parts = (tile.astype(tile.dtype.newbyteorder("<")).tobytes() for tile in pixels)
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("name", VECTORS)
def test_vector(name, models):
    data = (FOLDER / f"{name}.nc").read_bytes()
    model, path = models[reference.read_file(data)[0]["digest"]]
    file, tiles = reference.tiles(data, model)
    assert digest_of(file, tiles) == VECTORS[name] == symbols_sha256(data, path, "cpu")
    pixels = reference.join(file, tiles)
    same_pixels(ncodec.decode(data, "numpy", device="cpu"), pixels)
    with Image.open(FOLDER / f"{name}.png") as picture:
        same_pixels(np.asarray(picture), pixels)


# ---------------------------------------------------------------- files of random weights


BOUNDS = {"h_s.hidden": (127, 3), "h_m.stem": (127, 3)}  # of inputs
BOUNDS |= {"g_a.linear": (255, 120), "g_a.stem": (255, 120)}


def random_tensors(config, seed=0):
    rng, values = np.random.default_rng(seed), {}
    shapes = tensors_of(config, SPEC)
    for name, shape in layers(config, SPEC):
        bound = BOUNDS.get(name, (32767, 4000))
        values |= random_layer(rng, name, shape, *bound, 4 if name == "h_a.head" else 4000)
    for name in ("g_a.gain", "h_m.gain", "g_s.gain"):
        values[name] = rng.integers(-3000, 32768, shapes[name][1])
        values[f"{name}_shift"] = np.array(rng.integers(13, 15))
    values["log_gain"] = rng.normal(-8, 1, shapes["log_gain"][1]) * 4096
    values["log_unit"] = rng.normal(8, 1, shapes["log_unit"][1]) * 4096
    values["index_offset"] = rng.normal(5000, 3000, shapes["index_offset"][1])
    values["h_a.asinh"] = rng.integers(-32767, 32768, 1 << 16)
    values |= random_neighbours(rng, {name: shape for name, (_, shape) in shapes.items()})
    for name in ("tables.r", "tables.z", "tables.z_alone"):
        values[name] = random_tables(rng, shapes[name][1][0])
    return {name: values[name].astype(reference.TYPES[kind]) for name, (kind, _) in shapes.items()}


def save(folder, tensors, config, skip_below=9, family="hyperprior"):
    """Write a weights file; return its path."""
    about = {"name": "small", "family": family, "config": config, "skip_below": skip_below}
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


def same_latents(data, path, tiles):
    """z, index and r of a file's tiles."""
    header, codec = container.peek_header(data), load_by_name(path, "cpu").codec
    payloads = reference.read_file(data)[1]
    for payload, box, (_, _, z, r, _) in zip(payloads, header.tile_boxes(), tiles, strict=True):
        width, height = box[2] - box[0], box[3] - box[1]
        found = codec.decode_latents(payload, header.quality_code, width, height)
        np.testing.assert_array_equal(found.z, z)
        np.testing.assert_array_equal(found.r, r)


@pytest.mark.parametrize("case", CASES)
def test_any_weights(case, small):
    path, model = small
    image, quality, tile = CASES[case]
    data = ncodec.encode(image, quality, path, "cpu", tile)
    file, tiles = reference.tiles(data, model)
    same_latents(data, path, tiles)
    assert digest_of(file, tiles) == symbols_sha256(data, path, "cpu")
    pixels = reference.join(file, tiles)
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), pixels)
    if case == "best":  # every kind of row, of symbol and of pixel occurs
        _, _, z, r, _ = tiles[0]
        index = model.index(z, file["code"], 6, 8)
        assert {0, 63} < set(index.flatten().tolist()) and len(np.unique(index)) > 25
        assert np.abs(r).max() > 20 and np.abs(z).max() > 3
        offset = model.at("neighbours.offset", file["code"])
        looks = [model.neighbours.look(z, i, j, offset) for i, j in np.ndindex(z.shape[:2])]
        rows, whole = np.array(looks).swapaxes(0, 1)
        assert len(np.unique(rows)) > 25 and len(np.unique(whole)) > 5
        assert not r[index < model.skip_below].any() and len(np.unique(pixels)) > 200


@pytest.mark.parametrize("is_grey", [False, True])
@pytest.mark.parametrize("overlap", [1, 20, 64])
def test_overlaps(small, overlap, is_grey):
    """Overlaps that ncodec does not write are faded as exactly."""
    path, model = small
    codec = load_by_name(path, "cpu").codec
    header = container.Header(99, 75, 4, model.digest, 71, is_grey, 64, overlap)
    image = noise(75, 99) if is_grey else noise(75, 99, 3)
    tiles = [
        codec.encode_tile(image[top:bottom, left:right], 71, Options())
        for left, top, right, bottom in header.tile_boxes()
    ]
    data = container.write(container.Container(header, tiles))
    same_pixels(
        ncodec.decode(data, "numpy", path, "cpu"), reference.decode(data, path.read_bytes())
    )


@pytest.mark.parametrize("overlap", [3, 20, 32, 63])
def test_fading(overlap):
    """Any tiles, grey ones in thirds of 1/64, on any image: no sum is rounded otherwise."""
    rng = np.random.default_rng(overlap)
    for denominator in (64, 192):
        area = rng.integers(0, 256, (2 * overlap, 999, 1), np.uint8)
        tile = rng.integers(0, 255 * denominator + 1, area.shape).astype(np.float32)
        tile /= np.float32(denominator)
        ramps = reference.ramp(len(area), 1, overlap), reference.ramp(area.shape[1], 1, overlap)
        expected = reference.faded(area.astype(np.float32), tile, ramps[0][:, None] * ramps[1])
        fade(area, tile, overlap, overlap)
        np.testing.assert_array_equal(area, expected)


def test_extremes(small):
    """Latents that no encoder makes: sums saturate alike."""
    path, model = small
    rng = np.random.default_rng(0)
    codec = load_by_name(path, "cpu").codec
    z = rng.choice([-127, 127], (2, 2, model.config["Z"])).astype(np.int16)
    r = rng.choice([-32767, 0, 32767], (3, 4, model.config["M"])).astype(np.int16)
    for code in (0, 77, 140):
        expected = model.pixels(z, r, code, 64, 48)
        found = codec.synthesise(Latents(z, r, r), code, is_rounded=False)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(codec.indexes(z, code, (3, 4)), model.index(z, code, 3, 4))
        section = section_z(model, z.astype(int), code)
        offset = codec.z_offset(code)
        assert codec.neighbours.encode(z, offset) == section
        np.testing.assert_array_equal(codec.neighbours.decode(section, (2, 2), offset), z)


def test_together(small):
    """Tiles decoded together by the executor for GPUs, here on the CPU."""
    path, _ = small
    codec = load_by_name(path, "cpu").codec
    device = DeviceCodec(codec.tensors, codec.config, codec.skip_below, {}, "cpu")
    payloads = [codec.encode_tile(noise(37, 50 + k, 3)[:, :50], 50, Options()) for k in range(2)]
    for channels, is_faded in ((3, False), (3, True), (1, False), (1, True)):
        format = TileFormat(50, 37, channels, is_faded=is_faded)
        found = device.decode_tiles(payloads, 50, format)
        np.testing.assert_array_equal(found, codec.decode_tiles(payloads, 50, format))


def test_only_a_search_needs_fraction_bits(small):
    path, _ = small
    with pytest.raises(InputError, match="effort 2: the weights file has no fraction_bits"):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu", effort=2)


def test_quality(small):
    """Every code and, of what is a power of 2, every exponent that 32 bits hold: vectors that saturate too."""
    _, model = small
    for code in range(141):
        same_vectors(model, code)
    tensors, shape = model.tensors, model.tensors["log_gain"].shape
    rng = np.random.default_rng(0)
    for scale in (1 << 17, 1 << 31):
        logs = [rng.integers(-scale, scale, shape).astype("<i4") for _ in range(2)]
        model.tensors = tensors | dict(zip(("log_gain", "log_unit"), logs, strict=True))
        for code in (0, 1, 70, 139, 140):
            same_vectors(model, code)
    model.tensors = tensors


def same_vectors(model, code):
    found, expected = graphs.vectors(model.tensors, code), model.vectors(code)
    names = {".factor": ".m", ".shift": ".t"}
    found = {
        re.sub(r"\.(factor|shift)$", lambda m: names[m[0]], name): v for name, v in found.items()
    }
    assert found.keys() == expected.keys()
    for name, vector in expected.items():
        np.testing.assert_array_equal(found[name], vector, name)
        assert np.abs(vector).max() <= 32767


def section_z(model, z, code, **how):
    offset = model.at("neighbours.offset", code)
    return model.neighbours.encode(z, model.tables["tables.z"], offset, **how)


def file_of(model, z, r, index, **how):
    """A file of one tile of 48 x 32 pixels, quality 3, with these latents."""
    rows, tables = index.flatten().tolist(), model.tables["tables.r"]
    r = reference_rans.encode(r.flatten().tolist(), rows, tables, model.skip_below)
    z = section_z(model, z, 40, **how)
    return wrap(model, reference_rans.varint(len(z)) + z + r)


def wrap(model, payload):
    header = container.Header(48, 32, 4, model.digest, 40)
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
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), reference.join(*ours))
    return False


def test_refused(small):
    path, model = small
    z = np.array([[[127, 0, -5], [-127, 3, 0]]])
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
    for how in ({"lanes": 2}, {"lanes": 32}, {"chunks": 2}):
        assert is_refused(file_of(model, z, r, index, **how), path, model)
    for value in (32768, -32768, 2**31 - 1, -(2**31)):
        assert is_refused(file_of(model, z, np.where(r > 0, value, r), index), path, model)
    (payload,) = reference.read_file(good)[1]
    first = 1 + payload[0]  # of section y
    assert not is_refused(wrap(model, payload), path, model)
    for size in range(payload[0]):  # of section z
        cut = reference_rans.varint(size) + payload[1 : 1 + size] + payload[first:]
        assert is_refused(wrap(model, cut), path, model)
    for byte in (1, 5, 8, 16, 255):
        assert is_refused(wrap(model, payload[:1] + bytes([byte]) + payload[2:]), path, model)
    for bad in (
        b"", payload[:first], payload[: first + 3], payload + b"\0", payload[:first] + b"\0" + payload[first:],
        bytes([payload[0] + 1]) + payload[1:], b"\x7f" + payload[1:], b"\x80\0" + payload[1:],
    ):  # fmt: skip
        assert is_refused(wrap(model, bad), path, model)


@pytest.mark.parametrize(("name", "value"), [
    ("h_s.hidden.shift", 0), ("h_s.head.shift", 31), ("h_s.head.bias", 2**30 + 1), ("g_s.linear.bias", -(2**30) - 1),
    ("g_s.blocks.1.depth.shift", 0), ("context.1.linear.shift", 31), ("h_m.stem.weight", -32768), ("index_offset", -32768),
    ("g_s.gain", -32768), ("h_a.asinh", -32768), ("g_a.gain_shift", 31), ("h_m.gain_shift", 31), ("tables.r", 1), ("tables.z", 1),
    ("neighbours.shifts", 0), ("neighbours.shifts", -1), ("neighbours.shifts", 31), ("neighbours.shifts", 2**31 - 1), ("neighbours.hidden.bias", -(2**31)),
    ("neighbours.offset", -32768), ("neighbours.own.weight", -32768),
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
    bias = "g_s.head.bias"
    for bad in (
        good | {bias: good[bias].astype(np.int16)}, good | {bias: good[bias][1:]}, good | {"more": good[bias]},
        {name: tensor for name, tensor in good.items() if name != bias}, good | {"tables.r": good["tables.r"][1:]},
    ):  # fmt: skip
        are_refused(save(tmp_path, bad, SMALL))
    for skip_below in (-1, 65, None, 1.5):
        are_refused(save(tmp_path, good, SMALL, skip_below))


@pytest.mark.parametrize("layer", ["h_s.head", "h_m.up", "context.2.neighbours", "g_s.blocks.1.project", "g_s.linear"])  # fmt: skip
def test_sums_just_fit(layer, tmp_path):
    """X3 with the bounds that X19 finds for a layer's input: 2^31 - 1 fits, 2^31 does not."""
    tensors = random_tensors(reference.DEFAULTS | SMALL)
    net = reference.Model(save(tmp_path, tensors, SMALL).read_bytes()).net
    bias = at_the_limit(net, tensors, layer)
    path = save(tmp_path, tensors, SMALL)
    reference.Model(path.read_bytes())
    ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    bias[0] -= 1
    are_refused(save(tmp_path, tensors, SMALL))


def at_the_limit(net, tensors, layer):
    """Change the first row of a layer's weight so that its sum just fits; return the bias."""
    bounds = reference_exact.bounds(net.operations)
    bound = next(
        bounds[operation[1][0]]
        for operation in net.operations
        if operation[3] and np.shares_memory(operation[3][0], net.tensors[f"{layer}.weight"])
    )
    weight, bias, shift = (tensors[f"{layer}.{part}"] for part in ("weight", "bias", "shift"))
    most = min(2**30 // bound, 32767 * weight[0].size)  # of the row's magnitudes
    share = most // weight[0].size
    weight[0] = share
    weight[0].flat[0] += most - share * weight[0].size
    shift[0] = 30
    bias[0] = -(2**31 - 1 - bound * most - 2**29)
    return bias


def are_refused(path, model=reference.Model):
    with pytest.raises(WeightsMismatchError):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    with pytest.raises(ValueError):
        model(path.read_bytes())


# ---------------------------------------------------------------- section 10


def y_of(net, c, x):
    """y of an image, its sides multiples of 16."""
    f = net.layer(net.add("unshuffle", x, numbers=(8,)), "g_a.stem")
    f = net.blocks(net.scaled(f, "g_a.gain", c["N"]), "g_a.blocks", c["analysis_blocks"])
    head = net.layer(net.add("unshuffle", f, numbers=(2,)), "g_a.head")
    return net.add("add", net.layer(net.add("unshuffle", x, numbers=(16,)), "g_a.linear"), head)


def networks_by_text(model, y_of):
    """The encoder's networks as section 10 has them, and what they give."""
    c = model.config
    net = model.network(model.tensors)
    y = y_of(net, c, net.add("pad", net.input("x", 3, 255), numbers=(16,)))
    a = net.add("pad", net.scaled(y, "steps", c["M"]), numbers=(2,))
    a = net.add("table", a, arrays=(model.tensors["h_a.asinh"],))
    positive = net.layer(net.add("leaky", a, numbers=(0,)), "h_a.stem_positive")
    d = net.blocks(net.add("add", net.layer(a, "h_a.stem"), positive), "h_a.before")
    d = net.layer(net.add("unshuffle", d, numbers=(2,)), "h_a.down")
    z = net.layer(net.blocks(d, "h_a.after"), "h_a.head")
    z = net.add("clamp", z, numbers=(-127, 127))
    net.check()

    loop = model.network(model.tensors)
    y_in, z_in = loop.input("y", c["M"], 32767), loop.input("z", c["Z"], 127)
    index, parts = model.index_of(loop, z_in, y_in), []

    def residual(s, mean):
        r = loop.scaled(loop.add("subtract", y_in, mean), "gain", c["M"])
        parts.append(loop.add("gate", r, index, numbers=(model.skip_below,)))
        return parts[-1]

    model.y_hat_of(loop, z_in, y_in, residual)
    r = parts[0]
    for s, part in enumerate(parts[1:], 1):
        r = loop.add("merge", r, part, numbers=(s, len(parts)))
    loop.check()
    return (net, y, z), (loop, r)


def latents_by_text(image, model, code, y_of=y_of):
    (net, *outputs), (loop, residuals) = networks_by_text(model, y_of)
    vectors = model.vectors(code)
    y, z = net.run(vectors | {"x": 2 * image.astype(int) - 255}, *outputs)
    return z, loop.run(vectors | {"y": y, "z": z}, residuals)[0]


def test_encoder(small, models, sample):
    shipped = next(iter(models.values()))
    for model, path in (shipped, small[::-1]):
        image = sample[200:281, 300:345]
        _, ((_, _, z, r, _),) = reference.tiles(ncodec.encode(image, 4.35, path, "cpu"), model)
        assert z.any() and r.any()
        for found, expected in zip(latents_by_text(image, model, 67), (z, r), strict=True):
            np.testing.assert_array_equal(found, expected)
