"""Family dct's C++ against tests/reference_dct.py: every requirement of specs/dct.md.

Real payloads come from the committed vectors and from the encoder; payloads of random bins, with random
parameters too, go where an encoder does not.
"""

import random
import re
import struct

import numpy as np
import pytest
import reference_dct as reference
from conftest import ROOT, tuned_dct
from PIL import Image
from safetensors.numpy import load_file

from ncodec import container
from ncodec.dct import _dct
from ncodec.dct.parameters import initial
from ncodec.errors import CorruptPayloadError, TruncatedError
from ncodec.models.dct.codec import SUBSAMPLINGS, TRANSFORMS, DctCodec, Options
from ncodec.models.protocol import TileFormat, only_payload
from ncodec.models.weights import find_by_digest, find_by_name
from ncodec.quality import quality_code

FOLDER = ROOT / "tests" / "vectors" / "v1"
VECTORS = sorted(path.stem for path in FOLDER.glob("dct-*.nc"))
MOST_PIXELS = 100_000  # of a vector: 10 s
TENSORS = load_file(find_by_name("dct", "psnr"))


def test_tables():
    assert (reference.N_CONTEXTS, reference.N_MIXERS) == (_dct.CONTEXTS, _dct.MIXERS)
    text = reference.SPEC.read_text(encoding="utf-8")
    assert f"C = {_dct.CONTEXTS} and M = {_dct.MIXERS}." in text
    spec = "((((1·2) + 0)·5 + 2)·6 + 3)·8 + 4"
    assert spec in text and eval(spec.replace("·", "*")) == reference.at("SIG_A", 1, 0, 2, 3, 4)


@pytest.mark.parametrize("name", [
    "SQUASH", "COSINES", "SINES_4", "SINES_8", "SINES_16", "ANGLE", "CUBIC", "CLASS_START", "CLASS_BITS", "PAIRS",
    "SWAPPED", "MIRRORED", "NEXT NEXT_STATE", "ODD_4 ANGLE_ODD_4", "ODD_8 ANGLE_ODD_8",
    "ODD_16 ANGLE_ODD_16",
])  # fmt: skip
def test_numbers(name):
    """Each number of the specification is that of the C++, also where no test would miss it."""
    ours, theirs = name.split() * (2 - name.count(" "))
    files = [*(ROOT / "ncodec" / "dct").glob("*.hpp"), ROOT / "ncodec" / "entropy" / "logistic.hpp"]
    text = "".join(p.read_text() for p in files)
    (body,) = re.findall(rf"\b{theirs}(?:\[\w+\])* = (\{{[^;]*);", text)
    found = [int(n) for n in re.findall(r"-?\d+", body)]
    assert found[: len(reference.TABLES[ours])] == reference.TABLES[ours]
    assert len(found) - len(reference.TABLES[ours]) == (name == "CLASS_START")  # its end


def test_requirements():
    """They are numbered without gaps, and each names tests that exist."""
    text = reference.SPEC.read_text(encoding="utf-8")
    parts = re.split(r"^- \*\*D(\d+)\*\*", text, flags=re.MULTILINE)[1:]
    assert [int(n) for n in parts[::2]] == list(range(1, len(parts) // 2 + 1))
    here = (ROOT / "tests" / "test_dct_reference.py").read_text()
    for requirement in parts[1::2]:
        sentence = requirement.split("\n\n")[0]
        names = re.findall(r"`(test_\w+)`", sentence)
        assert names and all(f"def {name}(" in here for name in names)
        for file, name in re.findall(r"tests/(test_\w+\.py)::(test_\w+)", sentence):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text()


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name):
    parsed = container.read((FOLDER / f"{name}.nc").read_bytes())
    header = parsed.header
    if header.width * header.height > MOST_PIXELS:
        pytest.skip("large")
    assert header.overlap == 0
    tensors = load_file(find_by_digest(header.weights_digest))
    with Image.open(FOLDER / f"{name}.png") as picture:
        expected = np.asarray(picture)
    side = header.tile or max(expected.shape)
    corners = [(y, x) for y in range(0, header.height, side) for x in range(0, header.width, side)]
    for (y, x), payload in zip(corners, parsed.payloads, strict=True):
        tile = expected[y : y + side, x : x + side]
        height, width = tile.shape[:2]
        decoded = reference.decode(
            payload, tensors, header.quality_code, width, height, tile.ndim == 2
        )
        np.testing.assert_array_equal(decoded, tile)


def test_vectors_are_there():
    assert len(VECTORS) >= 9


# ---------------------------------------------------------------- payloads of the encoder


def same(payload, tensors, code, width, height, is_grey):
    """Both decoders' pixels are the same, or both refuse for the same reason; return whether they decode."""
    try:
        expected = reference.decode(payload, tensors, code, width, height, is_grey)
    except ValueError as error:
        kind = TruncatedError if str(error) == "truncated" else CorruptPayloadError
        with pytest.raises(kind, match="left over" if str(error) == "left over" else None):
            _dct.decode(payload, _dct.Parameters(tensors), code, width, height, is_grey)
        return False
    found = _dct.decode(payload, _dct.Parameters(tensors), code, width, height, is_grey)
    np.testing.assert_array_equal(found, expected)
    return True


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(("quality", "is_tuned"), [(1, False), (4.35, True), (8, False)])
def test_encoder(sample, transform, subsampling, quality, is_tuned):
    code = quality_code(quality)
    tensors, tuning = tuned_dct() if is_tuned else (TENSORS, None)
    free = DctCodec(_dct.Parameters(tensors), tuning)
    options = Options(transform=transform, subsampling=subsampling)
    sizes = [(24, 16), (33, 40)] if quality < 8 else [(16, 24)]
    for number, (height, width) in enumerate(sizes):
        pixels = sample[200 : 200 + height, 300 + 70 * number :][:, :width]
        payload = only_payload(free.encode_tile(pixels, code, options))
        assert payload[0] & 8 == 8 * is_tuned
        assert same(payload, tensors, code, width, height, False)
        if subsampling == "4:4:4":
            payload = only_payload(free.encode_tile(pixels[:, :, 1], code, options))
            assert same(payload, tensors, code, width, height, True)


@pytest.mark.parametrize("depth", [9, 16])
def test_more_bits(sample, depth):
    """D59, D60: 16-bit pixels in and out."""
    free, tensors = DctCodec(_dct.Parameters(TENSORS)), TENSORS
    deep = (sample[200:224, 300:340].astype(np.uint16) << depth - 8) + 1
    for pixels, subsampling in ((deep, "4:4:4"), (deep, "4:2:0"), (deep[:, :, 1], "4:4:4")):
        parts = free.encode_tile(pixels, 100, Options(subsampling=subsampling), depth)
        (found,) = free.decode_tiles(
            [parts], 100, TileFormat(40, 24, 1 if pixels.ndim == 2 else 3, depth)
        )
        payload, is_grey = only_payload(parts), pixels.ndim == 2
        expected = reference.decode(payload, tensors, 100, 40, 24, is_grey, depth)
        assert found.dtype == np.uint16 and np.array_equal(found, expected)


def test_large_blocks(sample):
    """64x64, beyond the edge of a square, in a picture without detail, and an edge through it; other steps there."""
    ramp = np.add.outer(np.arange(130), np.arange(70))[..., None] * [0.4, 0.5, 0.6] + 30
    ramp[:, 40:] += 25 * (np.arange(130)[:, None, None] > 77)
    (tensors, tuning), options = tuned_dct(), Options(subsampling="4:2:0", least=16)
    free = DctCodec(_dct.Parameters(tensors), tuning)
    payload = only_payload(free.encode_tile(ramp.astype(np.uint8), 30, options))
    assert same(payload, tensors, 30, 70, 130, False)


# ---------------------------------------------------------------- payloads of random bins


class Writer:
    """A source of bins that chooses them at random and writes them down (specs/binary.md)."""

    def __init__(self, seed):
        self.random, self.odds = random.Random(seed), None
        self.low, self.width, self.shifts = 0, 1 << 32, 0

    def decode(self, share):
        odds = share / 2**17 if self.odds is None else self.odds
        value, upper = int(self.random.random() < odds), self.width * share >> 17
        if value:
            self.low, self.width = self.low + self.width - upper, upper
        else:
            self.width -= upper
        while self.width < 1 << 24:
            self.low, self.width, self.shifts = self.low << 8, self.width << 8, self.shifts + 1
        return value

    def payload(self):
        return (self.low + (1 << 24) - 1 >> 24).to_bytes(self.shifts + 1, "big")


class RandomBins(reference.Bins):
    """Mixed bins with odds by name, else as the model has them; `trust`: how often the model is asked."""

    def __init__(self, seed, odds, trust, tensors, code):
        super().__init__(Writer(seed), tensors, code)
        self.odds, self.trust, self.random = odds, trust, random.Random(seed)

    def mixed(self, name, *rest, **ends):
        is_free = name in self.odds and self.random.random() > self.trust
        is_sign = name == "OFFSET" and rest[0] == [1]
        self.source.odds = (0.5 if is_sign else self.odds[name]) if is_free else None
        value = super().mixed(name, *rest, **ends)
        self.source.odds = None
        return value

    def bypass(self, count):
        self.source.odds = self.odds.get("BYPASS")
        value = super().bypass(count)
        self.source.odds = None
        return value


LARGE = {"OFFSET": 0.9, "SPLIT": 0.1, "QUAD": 0.4, "VERTICAL": 0.5, "TERNARY": 0.4, "WHOLE": 0.4, "LIKELY": 0.1, "LEARNED": 0.4, "CODED": 0.3, "SIG": 0.1, "BIG": 0.2, "GROUP": 0.2, "LAST": 0.7, "SINE": 0.5, "SIGN": 0.4, "CHROMA": 0.3}  # fmt: skip
SMALL = LARGE | {"SPLIT": 0.8, "CODED": 0.5, "SIG": 0.3}
EXTREME = SMALL | {
    "OFFSET": 0.6,
    "SPLIT": 0.5,
    "BIG": 0.97,
    "SIG": 0.9,
    "GROUP": 0.9,
    "BYPASS": 0.9,
    "SIGN": 0.8,
}
FEW = SMALL | {"OFFSET": 0.6, "SPLIT": 0.3, "CODED": 0.1, "LAST": 0.2, "BIG": 0.05}


def random_parameters(seed):
    """Any that are of the right shapes."""
    rng, tensors = np.random.default_rng(seed), initial()
    for name, tensor in tensors.items():
        about = np.iinfo(tensor.dtype)
        if name in ("luma_filter", "chroma_filter", "matrix"):
            shape, spread = tensor.shape, 60 if name == "matrix" else 127
            tensors[name] = rng.integers(-spread, spread, shape, tensor.dtype)
        elif name == "colour":
            tensors[name] = rng.integers(-25000, 25000, (3, 3), np.int32) + 90000 * np.eye(
                3, dtype=np.int32
            )
        elif name != "log_step":
            tensors[name] = rng.integers(about.min + 1, about.max, tensor.shape, tensor.dtype)
        elif seed % 2:
            tensors[name] = rng.integers(-3000, 9000, tensor.shape, tensor.dtype)
    return tensors


def random_network(seed):
    """Integers that leave room in every sum, and change most samples."""
    rng, made = np.random.default_rng(seed), {}
    layers = {
        "forward": ((48, 48), 7), "high": ((48, 3, 3), 8), "head": ((64, 48), 9), "sides": ((64, 12), 3),
        "tail": ((48, 64), 9), "inverse": ((48, 48), 12),
    }  # fmt: skip
    for k in range(4):
        layers |= {f"squeeze.{k}": ((32, 64), 9), f"conv.{k}": ((64, 288), 11)}
    for name, (shape, shift) in layers.items():
        made[f"network.{name}.weight"] = rng.integers(-127, 128, shape, np.int16)
        made[f"network.{name}.bias"] = rng.integers(-1 << shift, 1 << shift, shape[0], np.int32)
        made[f"network.{name}.shift"] = rng.integers(shift, shift + 2, shape[0], np.uint8)
    for name in ("scale", "gain"):
        made[f"network.{name}"] = rng.integers(0, 4000, (8, 48), np.int16)
    for k, channels in enumerate((32, 32, 32, 32, 64)):
        made[f"network.factor.{k}"] = rng.integers(-8000, 8000, (8, channels), np.int16)
        made[f"network.offset.{k}"] = rng.integers(-2000, 2000, (8, channels), np.int16)
    return made


def of_random_bins(seed, tensors):
    """Compare the decoders on a payload that is as good as any, though no encoder would make it."""
    rng, is_grey = random.Random(seed), seed % 6 == 5
    odds, flags = (LARGE, SMALL, FEW, EXTREME)[seed % 4], seed // 4 % 4 // (1 + is_grey)
    flags = (0, 12)[flags] if is_grey else (8, 1, 12, 5)[flags]
    (low, width), (_, height) = ((60, 140), (60, 80)) if odds is LARGE else ((1, 60), (1, 40))
    width, height, code = rng.randint(low, width), rng.randint(low, height), rng.randint(0, 140)
    if "network.gain" in tensors and not flags & 1:
        flags |= 16
    bins = RandomBins(seed, odds, rng.choice([0, 0.2, 0.9]), tensors, code)
    turn = [rng.randint(-128, 127) for _ in range(3 * (not is_grey and seed % 3 > 0))]
    flags |= 32 * bool(turn)
    expected = reference.decode_bins(
        bins, flags, turn or (0, 0, 0), tensors, code, width, height, is_grey
    )
    payload = struct.pack(f"B{len(turn)}b", flags, *turn) + bins.source.payload()
    found = _dct.decode(payload, _dct.Parameters(tensors), code, width, height, is_grey)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(40))
def test_any_bins(seed):
    """Modes, sizes, levels and escapes that no encoder would choose; samples at both ends."""
    of_random_bins(seed, TENSORS)


@pytest.mark.parametrize("seed", range(20))
def test_any_parameters(seed):
    of_random_bins(seed, random_parameters(seed))


@pytest.mark.parametrize("seed", [2, 5, 8, 10])
def test_network(sample, seed):
    """One that changes most samples, of random bins; and one that adds 1 to luma, of an encoder that may want it."""
    tensors = TENSORS | random_network(seed)
    of_random_bins(seed, tensors)
    for name in ("weight", "bias"):
        tensors[f"network.tail.{name}"] = np.zeros_like(tensors[f"network.tail.{name}"])
    tensors["network.inverse.bias"] = (np.arange(48) < 16) << tensors[
        "network.inverse.shift"
    ].astype(np.int32)
    parameters, pixels = _dct.Parameters(tensors), sample[100:172, 300:440] // 4 + 90
    for shown in (pixels, pixels[:, :, 1]):
        (payload,), (plain,) = (
            DctCodec(parameters).encode_tile(shown, 10 * seed, Options(network=network))[0]
            for network in (True, False)
        )
        assert (payload[0] & ~32, plain[0] & ~32) == (16, 0)
        assert same(payload, tensors, 10 * seed, 140, 72, shown.ndim == 2)
        refused = {k: v for k, v in tensors.items() if not k.startswith("network.")}
        assert not same(payload, refused, 10 * seed, 140, 72, shown.ndim == 2)


# ---------------------------------------------------------------- damage


def test_refused(sample):
    pixels = sample[100:116, 100:124]
    ((payload,),) = DctCodec(_dct.Parameters(TENSORS)).encode_tile(pixels, 60, Options())
    assert same(payload, TENSORS, 60, 24, 16, False)
    flags = [bytes([b]) + payload[1:] for b in (2, 3, 6, 7, 10, 17, 25, 64, 128, 255)]
    short = [payload[:n] for n in (0, 1, 2, len(payload) // 2, len(payload) - 1)]
    for damaged in (*flags, *short, payload + b"\0"):
        assert not same(damaged, TENSORS, 60, 24, 16, False)
    ((grey,),) = DctCodec(_dct.Parameters(TENSORS)).encode_tile(pixels[..., 0], 60, Options())
    assert same(grey, TENSORS, 60, 24, 16, True)
    assert not same(b"\1" + grey[1:], TENSORS, 60, 24, 16, True)
    assert not same(b"\x20\0\0\0" + grey[1:], TENSORS, 60, 24, 16, True)


def test_damaged(sample):
    pixels, rng = sample[100:116, 100:124], random.Random(0)
    ((payload,),) = DctCodec(_dct.Parameters(TENSORS)).encode_tile(pixels, 100, Options())
    decoded = 0
    for _ in range(40):
        damaged = bytearray(payload)
        damaged[rng.randrange(1, len(payload))] ^= 1 << rng.randrange(8)
        decoded += same(bytes(damaged), TENSORS, 100, 24, 16, False)
    assert decoded < 5
