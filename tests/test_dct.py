"""Family dct: exact round trips of any size; damage and hostile payloads end in errors of ours, and soon.

That a payload decodes to the encoder's own samples is held by tests/fuzz/fuzz_dct.cpp, whose seeds
tests/test_fuzz.py replays.
"""

import hashlib
import json
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT, SAMPLE, tuned_dct
from PIL import Image
from safetensors.numpy import load_file, save_file
from test_dct_reference import random_network

import ncodec
from ncodec import container
from ncodec.container import Container
from ncodec.dct import _dct
from ncodec.dct.parameters import initial
from ncodec.errors import (
    CorruptPayloadError,
    InputError,
    NcodecError,
    TruncatedError,
    WeightsMismatchError,
)
from ncodec.metrics import bd_rate, psnr
from ncodec.models.dct.codec import SUBSAMPLINGS, TRANSFORMS, DctCodec, Options
from ncodec.models.load import load_by_name
from ncodec.models.protocol import TileFormat, only_payload
from ncodec.models.weights import find_by_name, models_by_name
from ncodec.quality import lmbda_of
from ncodec.quality import quality_code as quality_code_of
from ncodec.tiles import USUAL_TILE
from ncodec.training.dct.visual import points_of

SIZES = [(1, 1), (1, 9), (7, 5), (63, 65), (200, 130)]
FREE = load_by_name("dct", "cpu", "psnr").codec
TENSORS, TUNING = tuned_dct()
TUNED = DctCodec(_dct.Parameters(TENSORS), TUNING)
WAYS = [{"transform": t, "subsampling": s} for t in TRANSFORMS for s in SUBSAMPLINGS]


def encode(pixels, quality_code=60, codec=FREE, **options):
    return only_payload(codec.encode_tile(pixels, quality_code, Options(**options)))


def decode(payload, pixels, quality_code, codec=FREE):
    height, width = pixels.shape[:2]
    format = TileFormat(width, height, 1 if pixels.ndim == 2 else 3)
    return codec.decode_tiles([[[payload]]], quality_code, format)[0]


def cut(sample, height, width, is_grey=False):
    piece = sample[150 : 150 + height, 300 : 300 + width]
    return piece[:, :, 1] if is_grey else piece


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("quality", "codec", "least"), [
    (1, FREE, 21), (4.35, FREE, 28), (8, FREE, 33), (4.35, TUNED, 24),
], ids=["1", "4.35", "8", "tuned"])  # fmt: skip
@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way.values()))
def test_round_trip(sample, size, quality, codec, least, way):
    """`least`: dB of the worst case, a few pixels of chroma in 4:2:0."""
    code = quality_code_of(quality)
    for is_grey in (False, True):
        pixels = cut(sample, *size, is_grey)
        payload = encode(pixels, code, codec, **way)
        decoded = decode(payload, pixels, code, codec)
        assert decoded.dtype == np.uint8 and decoded.shape == pixels.shape
        assert psnr(pixels, decoded) > least
        assert payload == encode(pixels, code, codec, **way)  # the same bytes every time
        assert np.array_equal(decoded, decode(payload, pixels, code, codec))


@pytest.mark.parametrize("pixels", [
    np.zeros((70, 90, 3), np.uint8), np.full((70, 90), 255, np.uint8),
    np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8),
    np.kron(np.indices((9, 11)).sum(0) % 2, np.full((8, 8), 255)).astype(np.uint8),
], ids=["black", "white", "noise", "chessboard"])  # fmt: skip
@pytest.mark.parametrize(("code", "codec"), [(0, FREE), (67, FREE), (67, TUNED), (140, FREE)])
def test_extremes(pixels, code, codec):
    decoded = decode(encode(pixels, code, codec), pixels, code, codec)
    assert psnr(pixels, decoded) > (30 if code == 140 else 7)
    if pixels.min() == pixels.max():
        assert np.abs(decoded.astype(int) - pixels).max() <= 2


@pytest.mark.parametrize(("rows", "columns", "quality", "way"), [
    ((150, 230), (200, 264), 4, {"transform": "angle", "least": 8, "most": 8}), ((146, 226), (241, 341), 2, {"most": 16}),
])  # fmt: skip
def test_what_is_given_up_is_never_chosen(sample, rows, columns, quality, way):
    """A split that was given up at just the cost of the best so far was once taken for a choice."""
    pixels = sample[slice(*rows), slice(*columns)]
    for some in (pixels, pixels[:, :, 0]):
        picture = ncodec.decode(ncodec.encode(some.copy(), quality, "dct", **way), kind="numpy")
        assert psnr(some, picture) > 20


@pytest.mark.parametrize(("effort", "trials"), [(1, 4), (2, 16), (9, 16)])
def test_more_trials_than_candidates(sample, effort, trials):
    """Effort 1 has one or two for a block, others at most 24, whatever number is to be tried."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    for some in (pixels, sample[:100, :100].copy()):
        data = ncodec.encode(some, 2, "dct", effort=effort, trials=trials)
        assert psnr(some, ncodec.decode(data, kind="numpy")) > 7


def test_efforts(sample):
    """Higher ones cost less: bits + lambda x error."""
    pixels, costs = sample[160:320, 256:416].copy(), []
    for effort in (1, 4, 9):
        payload = encode(pixels, effort=effort)
        error = np.square(decode(payload, pixels, 60).astype(int) - pixels).sum() / 3
        costs.append(8 * len(payload) + lmbda_of(60) * error)
    assert costs == sorted(costs, reverse=True) and costs[-1] < 0.95 * costs[0]


def test_parameters_that_know_nothing(crop):
    """Those that training starts from, and any that it might end with."""
    naive = DctCodec(_dct.Parameters(initial()))
    payload = encode(crop, codec=naive)
    assert psnr(crop, decode(payload, crop, 60, naive)) > 29
    assert len(encode(crop)) < len(payload)


def test_visual_tuning(sample):
    """At the same SSIMULACRA2 fewer bits, and more at the same PSNR; a smooth square has finer steps than a busy one."""
    pixels = sample[96:352, 256:512]
    plain, visual = (
        points_of(pixels, *way)
        for way in ((load_file(find_by_name("dct", "psnr")), None), (TENSORS, TUNING))
    )
    assert bd_rate(plain, visual)[0] < -3
    x = np.full((64, 128, 3), 90, np.uint8) + np.random.default_rng(0).integers(
        0, 9, (64, 128, 1), np.uint8
    )
    x[:, 64:] += np.kron(np.indices((8, 8)).sum(0) % 2, np.full((8, 8), 120))[..., None].astype(
        np.uint8
    )
    error = np.square(decode(encode(x, 40, TUNED), x, 40, TUNED).astype(int) - x).mean((0, 2))
    assert error[72:].mean() > 2 * error[:56].mean()


def test_arrays_that_are_not_contiguous(sample):
    piece = sample[100:164, 100:180]
    expected = encode(piece.copy())
    for same in (piece, np.asfortranarray(piece), np.repeat(piece, 2, 1)[:, ::2]):
        assert encode(same) == expected
    flipped = piece[::-1, ::-1]
    assert encode(flipped) == encode(flipped.copy())
    bgr = piece[:, :, ::-1]
    assert encode(bgr) == encode(bgr.copy())
    grey = piece[:, :, 1]
    assert encode(grey) == encode(grey.copy())


def test_subsampling_is_chosen_by_cost(sample):
    crops = [sample[y : y + 64, x : x + 64] for y in (0, 200, 400) for x in (0, 300, 600)]
    for pixels in crops:
        payloads = {s: encode(pixels, 0, subsampling=s) for s in SUBSAMPLINGS}  # fmt: skip
        costs = {}
        for name, payload in payloads.items():
            error = np.square(decode(payload, pixels, 0).astype(int) - pixels).sum() / 3
            costs[name] = 8 * len(payload) + lmbda_of(0) * error
        assert encode(pixels, 0, subsampling="auto") == payloads[min(costs, key=costs.get)]
        assert encode(pixels, 0) == payloads["4:4:4"]


@pytest.mark.parametrize("options", [
    {"least": 64}, {"most": 8}, {"least": 8, "most": 16}, {"rdoq": False}, {"trials": 1}, {"trials": 4},
], ids=str)  # fmt: skip
def test_choices(crop, options):
    payload = encode(crop, **options)
    assert payload != encode(crop) or options == {"trials": 4}
    assert psnr(crop, decode(payload, crop, 60)) > 29


@pytest.mark.parametrize("options", [
    {"transform": "dst"}, {"subsampling": "4:2:2"}, {"least": 5}, {"most": 4}, {"least": 32, "most": 16}, {"trials": 0},
], ids=str)  # fmt: skip
def test_bad_choices(options):
    with pytest.raises(InputError, match="dct: "):
        Options(**options)


# ---------------------------------------------------------------- files


def test_files(sample):
    for pixels in (cut(sample, 63, 65), cut(sample, 63, 65, True)):
        data = ncodec.encode(Image.fromarray(pixels), 4.35, "dct")
        about = ncodec.info(data)
        assert (about.family, about.quality) == ("dct", 4.35) and about.model.startswith("dct-")
        assert about.channels == (1 if pixels.ndim == 2 else 3)
        decoded = ncodec.decode(data, "numpy")
        assert decoded.shape == pixels.shape and psnr(pixels, decoded) > 29
        batch = ncodec.decode_batch([data, data], "numpy")
        assert all(np.array_equal(decoded, one) for one in batch)


def test_tiles(sample):
    """A strip over the side of a tile: two tiles, side by side, each as it would be alone."""
    strip = np.concatenate([sample[:70]] * 5, 1)[:, :3100]
    data = ncodec.encode(strip, 4, "dct")
    parsed = container.read(data)
    assert (parsed.header.tile, parsed.header.overlap, len(parsed.tiles)) == (USUAL_TILE, 0, 2)
    decoded = ncodec.decode(data, "numpy")
    assert decoded.shape == strip.shape and psnr(strip, decoded) > 30
    alone = ncodec.encode(strip[:, USUAL_TILE:], 4, "dct", tile=0)
    assert np.array_equal(ncodec.decode(alone, "numpy"), decoded[:, USUAL_TILE:])


def test_threads(sample):
    pieces = [sample[y : y + 128, x : x + 128] for y in (0, 128, 256) for x in (0, 256, 512)]
    files = [ncodec.encode(piece, 4, "dct") for piece in pieces]
    alone = [ncodec.decode(data, "numpy") for data in files]
    with ThreadPoolExecutor(2) as pool:
        again = list(pool.map(lambda data: ncodec.decode(data, "numpy"), files))
        encoded = list(pool.map(lambda piece: ncodec.encode(piece, 4, "dct"), pieces))
    assert all(np.array_equal(a, b) for a, b in zip(alone, again, strict=True))
    assert encoded == files


PROGRAM = """
import sys
sys.modules["torch"] = None  # importing it fails from here on
from pathlib import Path
import numpy as np
from typer.testing import CliRunner
from PIL import Image
import ncodec
from ncodec.cli.main import app
source, folder = sys.argv[1], Path(sys.argv[2])
for command in (
    ["encode", source, "--model", "dct", "-q", "4", "-o", folder / "a.nc"],
    ["decode", folder / "a.nc", "-o", folder / "a.png"],
    ["info", folder / "a.nc", "--json"],
):
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, (command, done.output, done.exception)
data = (folder / "a.nc").read_bytes()
assert np.array_equal(ncodec.decode(data, "numpy"), np.asarray(Image.open(folder / "a.png")))
assert len(ncodec.encode(Image.open(source), 4, "dct")) == len(data)
assert sys.modules["torch"] is None
"""


def test_no_torch(tmp_path):
    command = [sys.executable, "-W", "error", "-c", PROGRAM, SAMPLE, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def payload(sample):
    return encode(cut(sample, 135, 201))


def test_truncated(sample, payload):
    pixels = cut(sample, 135, 201)
    for size in [*range(12), *range(12, len(payload), 37), len(payload) - 1]:
        with pytest.raises(NcodecError) as caught:
            decode(payload[:size], pixels, 60)
        # Cut bytes that were 0 leave an end that is not the encoder's.
        assert caught.type in (TruncatedError, CorruptPayloadError)
    with pytest.raises(TruncatedError, match="'dct'"):
        decode(b"", pixels, 60)


def test_left_over(sample, payload):
    with pytest.raises(CorruptPayloadError, match="left over"):
        decode(payload + b"\0", cut(sample, 135, 201), 60)


@pytest.mark.parametrize("flags", [2, 3, 6, 7, 10, 17, 25, 64, 128, 255])
def test_unknown_flags(sample, payload, flags):
    """Bit 0: 4:2:0; bits 1 and 2: 0, the exact transform, or 2, the approximation; bit 3: offsets of steps; bit 4: a network, not of 4:2:0; bit 5: a turn."""
    with pytest.raises(CorruptPayloadError):
        decode(bytes([flags]) + payload[1:], cut(sample, 135, 201), 60)


def test_grey_is_not_subsampled(sample):
    grey = cut(sample, 20, 20, True)
    payload = encode(grey)
    assert payload[0] & 15 == 0
    with pytest.raises(CorruptPayloadError):
        decode(b"\1" + payload[1:], grey, 60)


def test_corrupted(sample, payload):
    """Of 300 damaged payloads each is refused or decodes: the CRC is the container's, not the family's."""
    rng, pixels, refused = random.Random(0), cut(sample, 135, 201), 0
    payloads = payload, encode(pixels, codec=TUNED)
    for number in range(300):
        damaged = bytearray(payloads[number % 2])
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            decode(bytes(damaged), pixels, rng.choice([0, 60, 140]))
        except (TruncatedError, CorruptPayloadError):
            refused += 1
    assert refused > 290


def test_noise_as_payload():
    rng = random.Random(1)
    for size in range(200):
        noise = bytes([rng.choice([0, 1, 4, 5, 8, 13])]) + rng.randbytes(size)
        is_grey = noise[0] % 2 == 0 and size % 2 == 1
        shape = (rng.randint(1, 200), rng.randint(1, 200), 3)[: 2 if is_grey else 3]
        with pytest.raises((TruncatedError, CorruptPayloadError)):
            decode(noise, np.empty(shape), rng.randrange(141))


def test_a_cut_tile_ends_at_its_first_square():
    """2^24 pixels from 4 bytes: refused at once, not after decoding as many squares of nothing."""
    begin = time.monotonic()
    with pytest.raises(TruncatedError):
        _dct.decode(b"\0\1\2\3", FREE.parameters, 0, 4096, 4096, False)
    assert time.monotonic() - begin < 2  # seconds; a whole tile of this size takes half of one


def test_damage_is_named(sample):
    good = ncodec.encode(sample[:64, :64], 4, "dct")
    bad = container.write(Container(container.read(good).header, [[[b"\0no"]]]))
    with pytest.raises(NcodecError, match=r"^file 1: section 'dct'"):
        ncodec.decode_batch([good, bad], "numpy")


# ---------------------------------------------------------------- weights


def load_weights(path, tensors=TENSORS, tuning=vars(TUNING)):
    about = {"name": "other", "family": "dct", "tune": "visual", "tuning": tuning}
    save_file(tensors, path, {"ncodec": json.dumps(about)})
    return load_by_name(path, "cpu").codec


@pytest.mark.parametrize("change", [
    {"matrix": None}, {"start": TENSORS["start"][:, :-1].copy()}, {"matrix": TENSORS["matrix"].astype(np.int16)},
    {"start": np.full_like(TENSORS["start"], -128)}, {"learned": TENSORS["learned"][..., :-1].copy()},
    {"colour": np.full((3, 3), -(1 << 17), np.int32)},
], ids=["missing", "shape", "type", "range", "learned", "colour"])  # fmt: skip
def test_other_weights_are_refused(tmp_path, change):
    tensors = {name: tensor for name, tensor in (TENSORS | change).items() if tensor is not None}
    with pytest.raises(WeightsMismatchError, match=r"other\.safetensors"):
        load_weights(tmp_path / "other.safetensors", tensors)


@pytest.mark.parametrize("change", [
    {"network.head.weight": None}, {"network.scale": np.zeros((8, 47), np.int16)},
    {"network.gain": np.full((8, 48), -32768, np.int16)}, {"network.conv.1.bias": np.zeros(64, np.int16)},
    {"network.tail.weight": np.full((48, 64), 32767, np.int16)}, {"network.inverse.shift": np.zeros(48, np.uint8)},
    {"network.sides.weight": np.zeros((65, 12), np.int16)},
], ids=str)  # fmt: skip
def test_other_networks_are_refused(tmp_path, change):
    tensors = TENSORS | random_network(0)
    load_weights(tmp_path / "same.safetensors", tensors)
    tensors = {name: tensor for name, tensor in (tensors | change).items() if tensor is not None}
    with pytest.raises(WeightsMismatchError, match=r"other\.safetensors"):
        load_weights(tmp_path / "other.safetensors", tensors)


@pytest.mark.parametrize("change", [
    {"lmbda": 0}, {"lmbda": float("nan")}, {"constant": float("inf")}, {"usual": -17}, {"weight_slope": "steep"},
    {"offset_slope": 10**400}, {"offset_slope": None}, {"sensitivity": [[0] * 7] * 2},
    {"sensitivity": [[0] * 7] * 2 + [[0] * 6]}, {"sensitivity": [[0] * 6 + [float("nan")]] * 3},
    {"sensitivity": [[17] * 7] * 3}, {"sensitivity": 3}, [], "tuning",
], ids=lambda change: str(change)[:40])  # fmt: skip
def test_other_tunings_are_refused(tmp_path, change):
    assert load_weights(tmp_path / "same.safetensors").tuning == TUNING
    tuning = vars(TUNING) | change if isinstance(change, dict) else change
    with pytest.raises(WeightsMismatchError, match=r"other\.safetensors"):
        load_weights(tmp_path / "other.safetensors", tuning=tuning)


def test_no_weights_of_a_family_without(tmp_path):
    save_file({"a": np.zeros(1)}, tmp_path / "a.safetensors", {"ncodec": json.dumps({"name": "a", "family": "jpeg"})})  # fmt: skip
    with pytest.raises(WeightsMismatchError):
        load_by_name(tmp_path / "a.safetensors", "cpu")


@pytest.mark.parametrize("entry", models_by_name()["dct"], ids=lambda entry: entry.name)
def test_shipped_file(entry):
    assert entry.family == "dct" and list(entry.self_test) == ["file", "symbols_sha256", "psnr"]
    assert entry.about["parameters_bytes"] == entry.path.stat().st_size
    assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
    assert (ROOT / "weights" / f"{entry.name}.safetensors").is_file()
    assert ncodec.list_models()[0].name == "dct-visual"  # the default
