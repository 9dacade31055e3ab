"""Family tokenizer against tests/reference_tokenizer.py: the requirements of specs/tokenizer.md but those of the coder alone.

The committed vectors hold the shipped weights' files; small models of random weights, made from the specification's
own tables, of all three quantisers, go where those do not. All is equal to the bit.
"""

import hashlib
import json
import re
from dataclasses import replace
from fnmatch import fnmatch

import numpy as np
import pytest
import reference_exact
import reference_tokenizer as reference
from attacks.make_attacks import chunk, varint
from conftest import ROOT
from PIL import Image
from random_weights import evaluated, layers, random_layer, rows
from reference_hyperprior import TYPES, finished, join, read_file
from safetensors.numpy import load_file, save_file

import ncodec
from ncodec import container
from ncodec.codec import decode_picture
from ncodec.errors import FormatError, InputError, WeightsMismatchError
from ncodec.exact.network import gain_at
from ncodec.models.load import load_by_name
from ncodec.models.tokenizer.codec import conceal, rows_of
from ncodec.models.tokenizer.masked import spans
from ncodec.models.tokenizer.stages import STAGES, depth_of_last, n_stages
from ncodec.selftest import symbols_sha256

SPEC = (ROOT / "specs" / "tokenizer.md").read_text(encoding="utf-8")
FOLDER = ROOT / "tests" / "vectors" / "v1"
INDEX = json.loads((ROOT / "weights" / "index.json").read_text())["models"]
INDEX = [model for model in INDEX if model["family"] == "tokenizer"]
FILES = [ROOT / "weights" / model["file"] for model in INDEX]
VECTORS = {
    name: facts["symbols_sha256"]
    for name, facts in json.loads((FOLDER / "vectors.json").read_text()).items()
    if name.startswith(tuple(model["name"] for model in INDEX))
}
SMALL = {"N": 8, "M": 10, "H": 6, "B": 7}
SMALL |= {"analysis_blocks": 1, "synthesis_blocks": 2, "deep_blocks": 1}


# ---------------------------------------------------------------- the specification


def test_requirements():
    """They are numbered without gaps, each names tests that exist, and nothing else is required."""
    parts = re.split(r"^- \*\*T(\d+)\*\*", SPEC, flags=re.MULTILINE)[1:]
    assert [int(n) for n in parts[::2]] == list(range(1, len(parts) // 2 + 1))
    texts = {path.name: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    here = texts["test_tokenizer_reference.py"] + texts["test_tokens_coder.py"]
    words = 0
    for requirement in parts[1::2]:
        sentence = requirement.split("\n\n")[0]
        names = re.findall(r"`(test_\w+)`", sentence)
        assert re.search("MUST|SHOULD", sentence) and names
        assert all(f"def {name}(" in here for name in names), names
        for file, name in re.findall(r"tests/(test_\w+\.py)::(test_\w+)", sentence):
            assert f"def {name}(" in texts[file]
        words += len(re.findall("MUST|SHOULD", sentence))
    assert len(re.findall("MUST|SHOULD", SPEC)) == words


def described(stage):
    if isinstance(stage, int):
        return f"an index of a tree of {stage} bits, D_s = {reference.CHANNELS}"
    if len(set(stage)) == 1:
        return f"{len(stage)} digits of {stage[0]} levels"
    return f"digits of {', '.join(map(str, stage))} levels"


def test_stages():
    """The table of section 1, the reference and ncodec have the same stages."""
    found = {name: [] for name in STAGES}
    for name, which, text in rows("quantiser", SPEC):
        first, last = re.match(r" (\d)(?: … (\d))? $", which).groups()
        assert len(found[name.strip()]) == int(first)
        found[name.strip()] += [text.strip()] * (int(last or first) + 1 - int(first))
    for name, stages in reference.STAGES.items():
        assert found.pop(name) == [described(stage) for stage in stages]
        assert [stage.levels or stage.bits for stage in STAGES[name]] == stages
        assert {stage.channels for stage in STAGES[name]} <= {0, reference.CHANNELS}
    assert not found


def names_of(config):
    """Return what shapes are made of: sizes of the config and of every stage, of section 2."""
    stages = STAGES[config["quantiser"]]
    sizes, nodes = [s.n_values for s in stages], [s.nodes for s in stages]
    names = config | {"D": sum(sizes), "K": sum(nodes)}
    each = zip(sizes, nodes, strict=True)
    return names, [{"D_s": d, "N_s": n, "E_s": sum(sizes[:s])} for s, (d, n) in enumerate(each)]


def tensors_of(config):
    """Return {name: (type, shape)} by section 1."""
    names, of_stages = names_of(config)
    found, is_vq = {}, config["quantiser"] == "vq"
    for name, shape in layers(names, SPEC):
        found |= {f"{name}.weight": ("I16", shape), f"{name}.bias": ("I32", shape[:1])}
        found[f"{name}.shift"] = ("U8", shape[:1])
    for name, kind, which in rows("tensor", SPEC):
        name = name.strip(" `")
        if ("vq" in which) > is_vq or ("fsq, bsq" in which and is_vq):
            continue
        for s, of_stage in enumerate(of_stages):
            full = name.replace("tokens.s.", f"tokens.{s}.")
            found[full] = evaluated(kind, names | of_stage)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_weights(path):
    tensors, about = reference.read_tensors(path.read_bytes(), "tokenizer")
    for name, tensor in load_file(path).items():
        np.testing.assert_array_equal(tensors[name], tensor)
    expected = tensors_of(reference.DEFAULTS | about["config"])
    if "masked" in about:
        expected |= masked_tensors_of(reference.DEFAULTS | about["config"], about["masked"])
    assert set(tensors) == set(expected)
    for name, (dtype, shape) in expected.items():
        assert tensors[name].dtype == TYPES[dtype], name
        assert list(tensors[name].shape) == list(shape), name


@pytest.mark.parametrize("quantiser", STAGES)
def test_sizes(quantiser):
    sizes = {name.strip(): int(default) for name, default, _ in rows("size", SPEC)}
    config = reference.DEFAULTS | {"quantiser": quantiser}
    assert sizes == {name: size for name, size in reference.DEFAULTS.items() if type(size) is int}
    shapes, macs = tensors_of(config), 0
    for names, *cells in rows("model: tensors", SPEC):
        if not names.startswith(f" {quantiser}-s:"):
            continue
        patterns = re.findall(r"`(.*?)`", names)
        group = [shapes[name] for name in shapes if any(fnmatch(name, p) for p in patterns)]
        numbers, size_bytes, mac = (int(cell.replace(" ", "") or 0) for cell in cells)
        sizes = [int(np.prod(shape)) for _, shape in group]
        assert (len(group) > 0, numbers) == (True, sum(sizes))
        widths = [np.dtype(TYPES[dtype]).itemsize for dtype, _ in group]
        assert size_bytes == sum(n * width for n, width in zip(sizes, widths, strict=True))
        macs += mac
    for model in INDEX:
        if model["name"] == f"{quantiser}-s":
            assert round(macs / 1000, 2) == model["about"]["kmac_per_pixel"]
            path = ROOT / "weights" / model["file"]
            config = reference.read_tensors(path.read_bytes(), "tokenizer")[1]["config"]
            assert reference.DEFAULTS | {"quantiser": quantiser} == config
    most = sum(
        sum(stage.bits or sum(n // 2 + n % 2 for n in stage.levels) for stage in stages)
        for stages in [STAGES[quantiser]]
    )
    said = int(re.search(r"in all 8 stages at most (\d+) a pixel", SPEC)[1])
    assert most * config["B"] / 256 <= said


# ---------------------------------------------------------------- files of the shipped weights


@pytest.fixture(scope="module")
def models():
    found = [reference.Model(path.read_bytes()) for path in FILES]
    return {model.digest: (model, path) for model, path in zip(found, FILES, strict=True)}


def same_pixels(found, expected):
    assert found.dtype == expected.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def digest_of(file, tiles):
    pixels = (finished(file, tile) for *_, tile in tiles)
    parts = (tile.astype(tile.dtype.newbyteorder("<")).tobytes() for tile in pixels)
    return hashlib.sha256(b"".join(parts)).hexdigest()


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


OF_TOKENS = {"hidden.weight": 300, "hidden.bias": 5000, "head.weight": 600, "head.bias": 9000, "own.weight": 600, "values": 127}  # fmt: skip
BOUNDS = {"g_a.linear": (255, 120), "g_a.stem": (255, 120)}  # of inputs
BOUNDS |= {f"g_s.{name}": (127, 3) for name in ("linear", "stem", "deep_stem")}


def random_tensors(quantiser, seed=0):
    config = SMALL | {"quantiser": quantiser}
    rng, values, shapes = np.random.default_rng(seed), {}, tensors_of(config)
    for name, shape in layers(names_of(config)[0], SPEC):
        values |= random_layer(rng, name, shape, *BOUNDS.get(name, (32767, 4000)))
    for name in ("g_s.deep_gain", "g_s.gain"):
        values[name] = rng.integers(-3000, 32768, shapes[name][1])
        values[f"{name}_shift"] = np.array(rng.integers(13, 15))
    for name, (_, shape) in shapes.items():
        if name.startswith("tokens."):
            most = OF_TOKENS.get(name.split(".", 2)[2], 0)
            values[name] = rng.integers(-most, most + 1, shape) if most else rng.integers(6, 10, shape)  # fmt: skip
    edges = [np.sort(rng.normal(size=n - 1)) * 4000 for s in STAGES[quantiser] for n in s.levels]
    values["thresholds"] = np.concatenate([[], *edges])
    values["feedback"] = rng.normal(size=shapes["feedback"][1]) * 60
    values["value_bits"] = np.array(5)
    return {name: values[name].astype(TYPES[kind]) for name, (kind, _) in shapes.items()}


def save(folder, tensors, quantiser, **more):
    """Write a weights file; return its path."""
    config = SMALL | {"quantiser": quantiser}
    about = {"name": "small", "family": "tokenizer", "config": config | more}
    save_file(tensors, folder / "small.safetensors", {"ncodec": json.dumps(about)})
    return folder / "small.safetensors"


@pytest.fixture(scope="module", params=STAGES)
def small(request, tmp_path_factory):
    tensors = random_tensors(request.param)
    path = save(tmp_path_factory.mktemp("weights"), tensors, request.param)
    return path, reference.Model(path.read_bytes())


def noise(*shape):
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


CASES = {  # image, quality, tile, ranges
    "one pixel": (noise(1, 1, 3), 1, 0, 1),
    "odd": (noise(37, 65, 3), 1.45, 0, 1),  # code 9
    "ranges": (noise(81, 40, 3), 3, 0, 4),
    "more ranges than rows": (noise(17, 33, 3), 2.05, 0, 5),
    "grey": (noise(50, 20), 4.55, 0, 1),
    "tiles": (noise(140, 103, 3), 6.95, 64, 2),
    "grey tiles": (noise(70, 131), 2.45, 64, 1),
    "best": (noise(64, 80, 3), 8, 0, 2),
}


def file_of(case, path):
    image, quality, tile, ranges = CASES[case]
    return ncodec.encode(image, quality, path, "cpu", tile, ranges=ranges)


def same_tokens(data, path, model, tiles):
    """Tokens and values of a file's tiles."""
    parsed, codec = container.read(data), load_by_name(path, "cpu").codec
    for parts, (*_, tokens, _) in zip(parsed.tiles, tiles, strict=True):
        code = parsed.header.quality_code
        found = codec.read(parts, code, tokens.shape[1:])
        np.testing.assert_array_equal(found, tokens)
        values = codec.coder.values(found, depth_of_last(code, codec.stages))
        np.testing.assert_array_equal(values, model.values(tokens, code))


@pytest.mark.parametrize("case", CASES)
def test_any_weights(case, small):
    path, model = small
    data = file_of(case, path)
    file, tiles = reference.tiles(data, model)
    same_tokens(data, path, model, tiles)
    assert digest_of(file, tiles) == symbols_sha256(data, path, "cpu")
    pixels = join(file, tiles)
    same_pixels(ncodec.decode(data, "numpy", path, "cpu"), pixels)
    if case == "best":  # many tokens of every stage, and pixels of every kind
        ((*_, tokens, _),) = tiles
        assert min(len(np.unique(grid)) for grid in tokens) > 8 and len(np.unique(pixels)) > 200


def test_extremes(small):
    """Tokens that no encoder makes, any of a quality."""
    path, model = small
    codec, rng = load_by_name(path, "cpu").codec, np.random.default_rng(0)
    for code in (0, 77, 140):
        for edges in (False, True):
            sizes = [stage.size for stage in codec.stages[: n_stages(code)]]
            shape = (3, 5)
            grids = [rng.choice([0, n - 1], shape) if edges else rng.integers(0, n, shape) for n in sizes]  # fmt: skip
            tokens = np.stack(grids).astype(np.int32)
            found = codec.synthesise(tokens, code, is_rounded=False)
            np.testing.assert_array_equal(found, model.pixels(tokens, code))


def test_quality(small):
    _, model = small
    for code in range(141):
        for name in ("g_s.deep_gain", "g_s.gain"):
            found = gain_at(model.tensors, name, code)
            np.testing.assert_array_equal(found[f"{name}.factor"], model.at(name, code))
            assert set(found[f"{name}.shift"].tolist()) == {int(model.tensors[f"{name}_shift"])}


def test_fractions(small):
    """Stages and depths of every code; files of some."""
    path, model = small
    stages = load_by_name(path, "cpu").codec.stages
    for code in range(141):
        n = n_stages(code)
        assert n == 1 - (-code // 20)
        assert depth_of_last(code, stages) == model.depth(n - 1, code)
        assert all(model.depth(s, code) == stages[s].units for s in range(n - 1))
    depths = {model.depth(1, code) for code in range(1, 21)}
    assert depths == set(range(1, stages[1].units + 1))  # each is some quality's
    image = noise(20, 36, 3)
    for code in range(1, 141, 9):
        data = ncodec.encode(image, 1 + code / 20, path, "cpu")
        file, tiles = reference.tiles(data, model)
        same_tokens(data, path, model, tiles)
        same_pixels(ncodec.decode(data, "numpy", path, "cpu"), join(file, tiles))


def test_ranges(small):
    """Rows as the text has them; payloads of no rows are empty."""
    path, _ = small
    for h in (1, 2, 7, 64):
        for n in (1, 2, 5, 64, 256):
            edges = [(i * h // n, (i + 1) * h // n) for i in range(n)]
            assert rows_of(h, n) == edges
    data = file_of("more ranges than rows", path)
    for payloads in container.read(data).tiles[0]:
        sizes = [len(payload) for payload in payloads]
        assert [size > 0 for size in sizes] == [False, False, True, False, True]


def wrap(model, parts, code=40, **more):
    """A file of one tile of 40 x 33 pixels."""
    header = container.Header(
        40, 33, 5, model.digest, code, is_layered=True, layers=len(parts), ranges=len(parts[0])
    )
    return container.write(container.Container(replace(header, **more), [parts]))


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


def parts_of(path, quality=3, ranges=2):
    data = ncodec.encode(noise(33, 40, 3), quality, path, "cpu", ranges=ranges)
    return container.read(data).tiles[0]


def test_refused_files(small):
    """Payloads cut, left over, of other stages and ranges, empty; and those of empty ranges that are not."""
    path, model = small
    good = parts_of(path)
    assert not is_refused(wrap(model, good), path, model)
    for s in range(3):
        for i in range(2):
            payload = good[s][i]
            outcomes = []
            for bad in (
                b"", payload + b"\0", payload + payload, payload[:1], payload[:-1], b"\xff" * len(payload),
                good[s][1 - i], good[(s + 1) % 3][i],
            ):  # fmt: skip
                parts = [list(ranges) for ranges in good]
                parts[s][i] = bad
                outcomes.append(is_refused(wrap(model, parts), path, model))
            assert all(outcomes[:3]) and sum(outcomes) > 5, (
                s,
                i,
                outcomes,
            )  # some are other tokens
    thin = parts_of(path, ranges=8)  # of 3 rows
    assert not is_refused(wrap(model, thin), path, model)
    for bad in (b"\0", b"\0\0\0\0", thin[1][-1]):
        parts = [list(ranges) for ranges in thin]
        assert not parts[1][0]
        parts[1][0] = bad
        assert is_refused(wrap(model, parts), path, model)


def test_layers_refused(small):
    """One more than the quality has; fewer are a prefix."""
    path, model = small
    parts = parts_of(path, 8)
    for code, n in ((0, 1), (1, 2), (20, 2), (39, 3), (140, 8)):
        header = {"code": code}
        coded = parts_of(path, 1 + code / 20)
        for count in range(1, 9):
            more = coded[:count] + parts[len(coded) : count]
            data = wrap(model, more, **header)
            assert is_refused(data, path, model) == (count > n), (code, count)
    data = wrap(model, [*parts, parts[-1]], 140)
    assert is_refused(data, path, model)


@pytest.mark.parametrize("case", ["tiles", "ranges", "odd", "best"])
def test_prefixes(case, small):
    """The first stages of a file, cut there or not, are the file of a lower quality."""
    path, model = small
    image, _, tile, ranges = CASES[case]
    data = file_of(case, path)
    header = container.peek_header(data)
    n_tiles, (start, chunks) = header.n_tiles, pieces(data)
    for n in range(1, header.layers + 1):
        file, tiles = reference.tiles(data, model, n)
        pixels = join(file, tiles)
        same_pixels(ncodec.decode(data, "numpy", path, "cpu", stages=n), pixels)
        if n < header.layers:
            cut = start + b"".join(chunks[: n * n_tiles * ranges])
            cut = ncodec.decode(cut, "numpy", path, "cpu", stages=n)
            lower = ncodec.encode(image, n, path, "cpu", tile, ranges=ranges)
            same_pixels(cut, pixels)
            same_pixels(ncodec.decode(lower, "numpy", path, "cpu"), pixels)
    with_more = ncodec.decode(data, "numpy", path, "cpu", stages=header.layers + 3)
    same_pixels(with_more, pixels)


def pieces(data):
    """The header of a file and its TILE chunks, by number."""
    payloads = container.read(data).payloads
    found = [chunk(b"TILE", varint(i) + payload) for i, payload in enumerate(payloads)]
    return data[: len(data) - sum(map(len, found))], found


@pytest.mark.parametrize("case", ["ranges", "more ranges than rows", "grey tiles", "best"])
def test_concealing(case, small):
    """Any payloads lost."""
    path, model = small
    data, rng = file_of(case, path), np.random.default_rng(0)
    start, chunks = pieces(data)
    n = len(chunks)
    for share in (1 / n, 0.2, 0.6):
        lost = set(np.flatnonzero(rng.random(n) < share).tolist()) or {int(rng.integers(n))}
        pixels = join(*reference.tiles(data, model, lost=lost))
        left = [chunks[k] for k in range(n) if k not in lost]
        picture = decode_picture(start + b"".join(left), path, "cpu", conceal=True)
        same_pixels(np.asarray(picture.pixels), pixels)
        assert picture.lost == len(lost)


def test_concealed_values():
    """By hand: between rows, above the first and below the last, columns apart, halves up, negative ones too."""

    def filled(known, values):
        c = np.array(values, np.int16)[:, None, None]
        c[~np.array(known, bool)] = 0
        conceal(np.array(known, bool)[:, None], c)
        return c[:, 0, 0].tolist()

    assert filled([1, 0, 1], [3, 0, 4]) == [3, 4, 4]  # 3.5
    assert filled([1, 0, 1], [-3, 0, -4]) == [-3, -3, -4]  # -3.5
    assert filled([1, 0, 0, 1], [-2, 0, 0, 2]) == [-2, -1, 1, 2]  # -2/3, 2/3
    assert filled([0, 0, 5, 0], [0, 0, 7, 0]) == [7] * 4
    assert filled([0, 0], [1, 1]) == [0, 0]
    c = np.array([[[1], [9]], [[0], [0]], [[3], [0]]], np.int16)
    conceal(np.array([[1, 1], [0, 0], [1, 0]], bool), c)
    assert c[:, :, 0].tolist() == [[1, 9], [2, 9], [3, 9]]


# ---------------------------------------------------------------- weights that are refused


@pytest.mark.parametrize(("name", "value"), [
    ("g_s.linear.shift", 0), ("g_s.stem.shift", 31), ("g_s.deep_stem.bias", 2**30 + 1), ("g_s.up.bias", -(2**30) - 1),
    ("g_s.blocks.1.depth.shift", 0), ("g_s.deep.0.expand.shift", 31), ("g_s.head.weight", -32768), ("g_s.gain", -32768),
    ("g_s.deep_gain_shift", 31), ("g_s.gain_shift", 31), ("value_bits", 11), ("tokens.0.shifts", 0), ("tokens.3.shifts", 31),
    ("tokens.7.hidden.bias", -(2**31)), ("tokens.2.head.bias", 2**31 - 1), ("tokens.1.hidden.weight", -32768),
    ("tokens.1.own.weight", -32768), ("tokens.4.values", 128), ("tokens.4.values", -128),
])  # fmt: skip
def test_weights_refused(name, value, tmp_path):
    quantiser = "vq" if "values" in name else "fsq"
    tensors = random_tensors(quantiser)
    if name.endswith(("_shift", "value_bits")):
        tensors[name] = np.array(value, np.uint8)
    else:
        tensors[name].flat[0] = value
    if name.startswith("g_s") and name.endswith(".bias"):  # not by X3
        tensors[name.replace("bias", "weight")][0] = 0
    are_refused(save(tmp_path, tensors, quantiser))


@pytest.mark.parametrize("quantiser", STAGES)
def test_tensors_refused(quantiser, tmp_path):
    """Another type or shape, a tensor too many or too few, another quantiser's, a size that they have not."""
    good = random_tensors(quantiser)
    bias, table = "g_s.head.bias", f"tokens.5.{'values' if quantiser == 'vq' else 'own.weight'}"
    for bad in (
        good | {bias: good[bias].astype(np.int16)}, good | {bias: good[bias][1:]}, good | {"more": good[bias]},
        {name: tensor for name, tensor in good.items() if name != bias}, good | {table: good[table][1:]},
        {name: tensor for name, tensor in good.items() if name != table},
    ):  # fmt: skip
        are_refused(save(tmp_path, bad, quantiser))
    for other in STAGES.keys() - {quantiser}:
        are_refused(save(tmp_path, good, other))
    are_refused(save(tmp_path, good, quantiser, B=8))


@pytest.mark.parametrize("layer", ["g_s.deep.0.depth", "g_s.deep.0.project", "g_s.up", "g_s.blocks.1.project", "g_s.head"])  # fmt: skip
def test_sums_of_layers_just_fit(layer, tmp_path):
    """X3 with the bounds that X19 finds for a layer's input: 2^31 - 1 fits, 2^31 does not."""
    tensors = random_tensors("bsq")
    net = reference.Model(save(tmp_path, tensors, "bsq").read_bytes()).net
    bounds = reference_exact.bounds(net.operations)
    bound = next(
        bounds[operation[1][0]]
        for operation in net.operations
        if operation[3] and np.shares_memory(operation[3][0], net.tensors[f"{layer}.weight"])
    )
    weight, bias, shift = (tensors[f"{layer}.{part}"] for part in ("weight", "bias", "shift"))
    most = min(2**30 // bound, 32767 * weight[0].size)  # of the row's magnitudes
    weight[0].flat[:] = np.arange(weight[0].size) < most % weight[0].size
    weight[0] += most // weight[0].size
    shift[0] = 30
    bias[0] = -(2**31 - 1 - bound * most - 2**29)
    path = save(tmp_path, tensors, "bsq")
    reference.Model(path.read_bytes())
    data = ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    same_pixels(
        ncodec.decode(data, "numpy", path, "cpu"), reference.decode(data, path.read_bytes())
    )
    bias[0] -= 1
    are_refused(save(tmp_path, tensors, "bsq"))


def are_refused(path):
    with pytest.raises(WeightsMismatchError):
        ncodec.encode(noise(16, 16, 3), 4, path, "cpu")
    with pytest.raises(ValueError):
        reference.Model(path.read_bytes())


# ---------------------------------------------------------------- section 9


def tokens_by_text(image, model, code):
    c = model.config
    net = reference.Network(model.tensors)
    x = net.add("pad", net.input("x", 3, 255), numbers=(16,))
    f = net.layer(net.add("unshuffle", x, numbers=(8,)), "g_a.stem")
    f = net.add("unshuffle", net.blocks(f, "g_a.blocks", c["analysis_blocks"]), numbers=(2,))
    v = net.layer(net.add("unshuffle", x, numbers=(16,)), "g_a.linear")
    v = net.add("add", v, net.layer(f, "g_a.head"))
    deep = net.blocks(net.layer(f, "g_a.down"), "g_a.deep", c["deep_blocks"])
    v = net.add("add", v, net.layer(deep, "g_a.deep_head"))
    net.check()
    pixels = image[:, :, None].repeat(3, 2) if image.ndim == 2 else image
    (v,) = net.run({"x": 2 * pixels.astype(int) - 255}, v)

    feedback, values = model.tensors["feedback"].astype(np.int64), np.zeros_like(v)
    tokens, start, first = [], 0, 0
    for s, stage in enumerate(model.stages[: 1 - (-code // 20)]):
        size, depth = model.coder.channels(s), model.depth(s, code)
        of_stage = slice(start, start + size)
        u = v[:, :, of_stage] - values[:, :, :start] @ feedback[of_stage, :start].T
        grid, place = np.zeros(u.shape[:2], np.int64), 1
        if isinstance(stage, tuple):
            for k, n in enumerate(stage[:depth]):
                edges = model.tensors["thresholds"][first : first + n - 1]
                own = values[:, :, start : start + k] @ feedback[start + k, start : start + k]
                level = ((u[:, :, k] - own)[:, :, None] > edges).sum(2)
                values[:, :, start + k] = 2 * level - (n - 1)
                grid += place * level
                place, first = place * n, first + n - 1
        else:
            nodes = model.tensors[f"tokens.{s}.values"][2**depth - 1 : 2 ** (depth + 1) - 1]
            y = nodes.astype(np.int64) << 10 - model.tensors["value_bits"].astype(np.int64)
            grid = ((y**2).sum(1) - 2 * u @ y.T).argmin(2) << stage - depth
        for i, j in np.ndindex(grid.shape):
            values[i, j, of_stage] = model.coder.value(s, int(grid[i, j]), depth)
        tokens.append(grid)
        start += size
    return np.stack(tokens)


def test_encoder(small, models, sample):
    cases = [(*small[::-1], sample[200:281, 300:345], 67), (*small[::-1], noise(18, 33), 140)]
    cases += [(model, path, sample[100:150, 200:233], 127) for model, path in models.values()]
    for model, path, image, code in cases:
        tokens = load_by_name(path, "cpu").codec.analyse(image, code)
        np.testing.assert_array_equal(tokens, tokens_by_text(image, model, code))
        assert min(len(np.unique(grid)) for grid in tokens) > 1


# ---------------------------------------------------------------- the masked transformer, section 10

TRANSFORMER = {"d": 32, "blocks": 1, "layers": 2, "near": 5, "fill": 24}


def masked_tensors_of(config, masked):
    """Return {name: (type, shape)} by section 10."""
    names, of_stages = names_of(config)
    names, found = names | masked, {}
    for name, channels, _, which in rows("masked layer", SPEC):
        name, (inputs, outputs) = name.strip(" `"), channels.split("→")
        many = re.search(r"s = 0 … (\w+)", which)
        if many:  # up to a size less 1, or a number
            many = int(many[1]) + 1 if many[1].isdigit() else masked[many[1]]
        else:
            many = 8 if "heads.s" in name else 1
        for s in range(many):
            full, known = name.replace(".s.", f".{s}."), names | (of_stages[s] if s < 8 else {})
            i, o = (eval(text.replace("·", "*"), dict(known)) for text in (inputs, outputs))
            shape = [o, 5, 5] if "depthwise" in which else [o, i]
            found |= {f"{full}.weight": ("I16", shape), f"{full}.bias": ("I32", [o])}
            found[f"{full}.shift"] = ("U8", [o])
    for name, kind, which in rows("masked tensor", SPEC):
        name = name.strip(" `")
        if "fsq, bsq" in which and config["quantiser"] == "vq":
            continue
        many = {"masked.layers.s.shift": masked["layers"], "masked.positions": 1}.get(name, 8)
        for s in range(many):
            found[name.replace(".s.", f".{s}.")] = evaluated(kind, names | of_stages[s])
    return found


def random_masked(quantiser, seed=1):
    """Tensors of both sections."""
    config = SMALL | {"quantiser": quantiser}
    rng, tensors = np.random.default_rng(seed), random_tensors(quantiser)
    shapes = masked_tensors_of(config, TRANSFORMER)
    for name, (kind, shape) in shapes.items():
        if name.endswith(".weight") and ".tokens." not in name:
            full = name.removesuffix(".weight")
            bound, result = (127, 3000) if "stem" in name else (32767, 3000)
            usual = 40 if "stem" in name else 1000
            if full.endswith(".out"):  # values, logits
                result = 40 if "fill" in full else 700
            values = random_layer(rng, full, shape, bound, usual, result)
            tensors |= {n: v.astype(TYPES[shapes[n][0]]) for n, v in values.items()}
        elif ".tokens." in name:
            most = OF_TOKENS.get(name.split(".", 3)[3], 0)
            values = rng.integers(-most, most + 1, shape) if most else rng.integers(6, 10, shape)
            tensors[name] = values.astype(TYPES[kind])
        elif name.endswith("positions"):
            tensors[name] = rng.integers(-2000, 2001, shape).astype(TYPES[kind])
        elif name.endswith(".shift") and not shape:
            tensors[name] = np.array(rng.integers(12, 17), TYPES[kind])
    return tensors


def save_masked(folder, tensors, quantiser, **more):
    path = save(folder, tensors, quantiser)
    about = {"name": "small", "family": "tokenizer", "config": SMALL | {"quantiser": quantiser}}
    about["masked"] = TRANSFORMER | more
    save_file(tensors, path, {"ncodec": json.dumps(about)})
    return path


@pytest.fixture(scope="module", params=STAGES)
def with_masked(request, tmp_path_factory):
    tensors = random_masked(request.param)
    path = save_masked(tmp_path_factory.mktemp("weights"), tensors, request.param)
    return path, reference.Model(path.read_bytes())


@pytest.mark.parametrize("case", ["one pixel", "odd", "more ranges than rows", "tiles", "wide"])
def test_masked(case, with_masked):
    """Tokens and pixels of files of effort 2; their payloads are other bytes."""
    path, model = with_masked
    cases = CASES | {"wide": (noise(35, 213, 3), 2.4, 0, 2)}
    image, quality, tile, ranges = cases[case]
    files = [
        ncodec.encode(image, quality, path, "cpu", tile, effort, ranges=ranges) for effort in (1, 2)
    ]
    file, tiles = reference.tiles(files[1], model)
    assert file["is_second"] and files[0] != files[1]
    header = container.read(files[1]).header
    assert header.is_second and not container.read(files[0]).header.is_second
    codec = load_by_name(path, "cpu").codec
    for parts, (*_, tokens, _) in zip(container.read(files[1]).tiles, tiles, strict=True):
        found = codec.read(parts, header.quality_code, tokens.shape[1:], True)
        np.testing.assert_array_equal(found, tokens)
    pixels = join(file, tiles)
    for data in files:
        same_pixels(ncodec.decode(data, "numpy", path, "cpu"), pixels)


def test_masked_windows():
    for n in range(1, 200):
        expected = reference.windows_of(n)
        found = [row.tolist() for span in spans(n) for row in span]
        assert found == expected and [i for one in expected for i in one] == list(range(n))
        assert max(map(len, expected)) <= 12


def test_masked_refused(with_masked, small, tmp_path):
    """Without a transformer, and of another family; damaged payloads."""
    path, model = with_masked
    image = noise(33, 40, 3)
    with pytest.raises(InputError, match="effort: expected 1, as these weights have no masked"):
        ncodec.encode(image, 3, small[0], effort=2)
    good = container.read(ncodec.encode(image, 3, path, "cpu", effort=2)).tiles[0]
    data = wrap(small[1], good, is_second=True)
    assert is_refused(data, small[0], small[1])
    assert not is_refused(wrap(model, good, is_second=True), path, model)
    for s in range(3):
        for bad in (b"", good[s][0] + b"\0", good[s][0][:1]):
            parts = [list(ranges) for ranges in good]
            parts[s][0] = bad
            assert is_refused(wrap(model, parts, is_second=True), path, model)
    other = container.read(ncodec.encode(image, 3, "dct"))
    data = container.write(replace(other, header=replace(other.header, is_second=True)))
    with pytest.raises(FormatError, match="family dct has no second way"):
        ncodec.decode(data)


@pytest.mark.parametrize("effort", [1, 2])
def test_masked_concealing(effort, with_masked):
    """Any payloads lost, of files of either effort."""
    path, model = with_masked
    image, quality, _, ranges = CASES["ranges"]
    data = ncodec.encode(image, quality, path, "cpu", 0, effort, ranges=ranges)
    rng = np.random.default_rng(effort)
    start, chunks = pieces(data)
    n = len(chunks)
    for share in (1 / n, 0.3, 0.6):
        lost = set(np.flatnonzero(rng.random(n) < share).tolist()) or {int(rng.integers(n))}
        file, found = reference.tiles(data, model, lost=lost)
        left = [chunks[k] for k in range(n) if k not in lost]
        picture = decode_picture(start + b"".join(left), path, "cpu", conceal=True)
        same_pixels(np.asarray(picture.pixels), join(file, found))
        assert picture.lost == len(lost)


@pytest.mark.parametrize(("name", "value"), [
    ("masked.stem.shift", 0), ("masked.blocks.0.depth.shift", 31), ("masked.layers.1.q.bias", 2**30 + 1), ("masked.heads.3.out.shift", 0),
    ("masked.tokens.2.shifts", 0), ("masked.tokens.7.hidden.bias", -(2**31)), ("masked.positions", -32768), ("masked.layers.0.shift", 25),
    ("masked.fill.stem.shift", 0), ("masked.fill.out.bias", 2**30 + 1),
])  # fmt: skip
def test_masked_weights(name, value, tmp_path):
    tensors = random_masked("fsq")
    expected = masked_tensors_of(SMALL | {"quantiser": "fsq"}, TRANSFORMER)
    shapes = reference.shapes_of_masked(SMALL | {"quantiser": "fsq"}, TRANSFORMER)
    assert {n: (TYPES[k], list(s)) for n, (k, s) in expected.items()} == {n: (k, list(s)) for n, (k, s) in shapes.items()}  # fmt: skip
    good = save_masked(tmp_path, tensors, "fsq")
    load_by_name(good, "cpu")
    changed = tensors[name].copy()
    changed.reshape(-1)[-1] = value
    path = save_masked(tmp_path, tensors | {name: changed}, "fsq")
    with pytest.raises(ValueError):
        reference.Model(path.read_bytes())
    with pytest.raises(WeightsMismatchError):
        load_by_name(path, "cpu")
    for more in ({"d": 48}, {"layers": 0}, {"near": 1025}, {"fill": 1025}, {"more": 1}):
        with pytest.raises(WeightsMismatchError):
            load_by_name(save_masked(tmp_path, tensors, "fsq", **more), "cpu")
