"""Family hyperprior: one file, one image, whatever computes it; integers against the float network; hostile weights."""

import json

import numpy as np
import pytest
import reference_hyperprior as reference
import torch
from random_weights import outcomes_of_mutations
from safetensors.numpy import save_file
from small_hyperprior import small_network, small_weights

import ncodec
from ncodec import container, exact, threads
from ncodec.coder import Writer
from ncodec.errors import CorruptPayloadError, InputError, WeightsMismatchError
from ncodec.metrics import psnr
from ncodec.models.hyperprior.device import DeviceCodec
from ncodec.models.hyperprior.layers import layers
from ncodec.models.hyperprior.quantise import from_integers, ranges, to_integers
from ncodec.models.hyperprior.recipe import from_weights
from ncodec.models.load import load_by_name
from ncodec.models.protocol import EncodeOptions, TileFormat
from ncodec.models.weights import find_by_name
from ncodec.models.weights import read as read_weights
from ncodec.nn.integers import extremes

MODELS = [model.name for model in ncodec.list_models() if model.family == "hyperprior"]


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return request.param


@pytest.fixture(scope="module")
def float_network(model):
    tensors, about, _ = read_weights(find_by_name(model))
    return from_weights(tensors, about)


# ---- the same pixels


@pytest.mark.parametrize("variant", exact.variants())
@pytest.mark.parametrize("n_threads", [1, 3])
def test_pixels_are_those_of_every_variant_and_thread(
    model, sample, monkeypatch, variant, n_threads
):
    """Encoder as well: the same file."""
    pixels = sample[100:229, 200:341]
    expected = ncodec.encode(pixels, 4.35, model)
    run = exact.Graph.run
    used = []

    def run_as(graph, feeds, wanted, threads=1):
        used.append(threads)
        return run(graph, feeds, wanted, threads, variant)

    decoded = ncodec.decode(expected, "numpy")
    monkeypatch.setattr(threads, "_chosen", n_threads)
    monkeypatch.setattr(exact.Graph, "run", run_as)
    assert ncodec.encode(pixels, 4.35, model) == expected
    assert np.array_equal(ncodec.decode(expected, "numpy"), decoded)
    assert used == [n_threads] * 4  # analysis, closing; indexing, synthesis


FORMATS = [
    TileFormat(width, 33, channels, is_faded=is_faded)
    for width in (49, 64)
    for channels in (3, 1)
    for is_faded in (False, True)
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def on_device(model, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    net = load_by_name(model).codec
    return net, DeviceCodec(net.tensors, net.config, net.skip_below, net.fraction_bits, device)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("device", DEVICES)
def test_devices_decode_the_same_pixels(model, sample, device, format):
    """By torch as by the executor: alone and several tiles together."""
    net, other = on_device(model, device)
    tiles = [sample[y : y + format.height, y : y + format.width] for y in (0, 100, 200)]
    tiles = [tile if format.channels == 3 else tile[:, :, 1] for tile in tiles]
    payloads = [net.encode_tile(tile, 67, EncodeOptions()) for tile in tiles]
    expected = net.decode_tiles(payloads, 67, format)
    assert other.encode_tile(tiles[0], 67, EncodeOptions()) == payloads[0]
    for together in (
        other.decode_tiles(payloads, 67, format),
        [other.decode_tiles([p], 67, format)[0] for p in payloads],
    ):
        for ours, theirs in zip(together, expected, strict=True):
            assert ours.dtype == theirs.dtype == (np.float32 if format.is_faded else np.uint8)
            assert ours.shape == theirs.shape == format.shape and np.array_equal(ours, theirs)


@pytest.mark.parametrize("device", DEVICES)
def test_devices_refuse_the_same(model, device):
    """Latents past their bounds, with the words of the CPU."""
    net, other = on_device(model, device)
    zeros = np.zeros((1, 1, net.config.Z), np.int16)
    indexes = net.indexes(zeros, 140, (1, 1))
    coded = indexes >= net.skip_below
    tables = [row[row > 0].tolist() for row in net.neighbours.tables.frequencies]
    neighbours, offset = reference.Neighbours(net.tensors), net.z_offset(140).astype(np.int64)
    for z, r in ((128, 0), (-(2**30), 0), (0, 32768), (0, -(2**31))):
        writer = Writer()
        writer.sections.append(neighbours.encode(np.full(zeros.shape, z), tables, offset))
        writer.code(
            "y", np.where(coded, r, 0).astype(np.int32), indexes, net.tables_r, net.skip_below
        )
        said = []
        for codec in (net, other):
            with pytest.raises(CorruptPayloadError) as error:
                codec.decode_tiles([[[writer.payload()]]], 140, TileFormat(16, 16, 3))
            said.append(str(error.value))
        assert said[0] == said[1]


def test_faded_tiles_are_in_64ths(model, sample):
    net = load_by_name(model).codec
    parts = net.encode_tile(sample[:40, :50], 60, EncodeOptions())
    (plain,) = net.decode_tiles([parts], 60, TileFormat(50, 40, 3))
    (faded,) = net.decode_tiles([parts], 60, TileFormat(50, 40, 3, is_faded=True))
    assert (plain.dtype, faded.dtype) == (np.uint8, np.float32)
    assert np.array_equal(faded * 64, np.rint(faded * 64)) and (faded != np.rint(faded)).any()
    assert np.array_equal(plain, np.floor(faded + 0.5))


# ---- what is in a file


@pytest.mark.parametrize("quality", [1, 4, 8])
def test_tables_say_the_size_of_the_file(model, sample, quality):
    data = ncodec.encode(sample, quality, model)
    net, code = load_by_name(model).codec, round(20 * (quality - 1))
    (payload,) = container.read(data).payloads
    z, index, r = net.decode_latents(payload, code, sample.shape[1], sample.shape[0])
    coded = index >= net.skip_below
    assert not r[~coded].any()
    bits = net.tables_r.ideal_bits(r[coded].astype(np.int32), index[coded].astype(np.uint16))
    bits += 8 * len(net.neighbours.encode(z, net.z_offset(code)))
    assert bits / 8 == pytest.approx(len(data) - 40, rel=0.01)  # 40: all that the container adds


# ---- integers against the float network


def float_result(network, pixels, quality):
    """Return 8-bit pixels and bits of an image [H, W, 3] whose sides are multiples of 32."""
    x = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255
    with torch.no_grad():
        out = network.estimate(x, torch.tensor([float(quality)]))
    x_hat = out.x_hat[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return x_hat, float(sum(out.bits.values()))


@pytest.mark.parametrize("quality", [1, 4, 8])
def test_integers_cost_nothing(model, float_network, sample, quality):
    net, code = load_by_name(model).codec, 20 * (quality - 1)
    for pixels in (sample[:256, :256], sample[160:416, 300:556]):
        expected, bits = float_result(float_network, pixels, quality)
        parts = net.encode_tile(pixels, code, EncodeOptions())
        (decoded,) = net.decode_tiles([parts], code, TileFormat(256, 256, 3))
        difference = psnr(pixels, decoded) - psnr(pixels, expected)
        assert -0.05 < difference < 0.1  # as measured: -0.049 to 0.079; roundings differ
        # 12 bytes are the coder's; the network does not know what z's neighbours save.
        assert 0.95 * bits < 8 * len(parts[0][0]) < 1.01 * bits


@pytest.mark.parametrize("quality", [1, 5, 8])
def test_extremes_do_not_saturate(model, float_network, quality):
    """No picture is worse by much than the float network has it: pictures of one colour, patterns, noise."""
    net, code = load_by_name(model).codec, 20 * (quality - 1)
    for k, picture in enumerate(extremes()):
        pixels = np.ascontiguousarray(picture.numpy().transpose(1, 2, 0))
        expected, _ = float_result(float_network, pixels, quality)
        parts = net.encode_tile(pixels, code, EncodeOptions())
        (decoded,) = net.decode_tiles([parts], code, TileFormat(128, 128, 3))
        found, limit = psnr(pixels, decoded), psnr(pixels, expected)
        assert found > min(limit, 45) - 0.3, (k, found, limit)


def test_integers_hold_the_network():
    """Weights to half a step of 12 bits or finer, of which a row has one size; and the same integers again."""
    network = small_network()
    tensors, bits = to_integers(network, [])
    again = from_integers(tensors, network.config, bits)
    expected, found = network.state_dict(), again.state_dict()
    for name in (name for name in expected if not name.startswith("prior_")):
        difference, largest = (found[name] - expected[name]).abs(), expected[name].abs()
        if name.endswith("weight"):
            difference, largest = difference.flatten(1), largest.flatten(1).amax(1, keepdim=True)
        else:
            largest = largest.max().clamp_min(1.0)
        assert (difference <= largest * 2.0**-10).all(), name
    same, same_bits = to_integers(again, [])
    assert same_bits == bits and all(np.array_equal(same[name], tensors[name]) for name in tensors)
    for layer in layers(network.config):
        assert tensors[f"{layer.name}.weight"].shape == layer.shape


def test_ranges_see_y_where_it_is_larger_than_y_hat():
    """What the encoder's y takes counts, coded or not."""
    network, picture = small_network(), extremes()[3]
    found = ranges(network, [picture])["y"]
    with torch.no_grad():
        y = network.g_a(picture.float()[None] / 255, torch.tensor([8.0]))
    assert found >= float(y.abs().max())


# ---- weights that are not right


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("index_offset", lambda t: t[:3], r"index_offset: expected \[8, 320\], found \[3, 320\]"),
        ("h_s.head.bias", lambda t: np.full_like(t, -(2**31)), "h_s.head: bias"),
        ("h_s.hidden.weight", lambda t: t.T, r"h_s.hidden.weight: expected \[128, 576\]"),
        ("tables.z", lambda t: t[1:], r"tables.z: expected \[256, None\], found \[255,"),
        ("h_s.other.bias", lambda t: np.zeros(128, np.int32), "h_s.other.bias: unknown"),
        ("g_s.gain", lambda t: None, "g_s.gain: missing"),
        ("h_s.head.shift", lambda t: t + np.uint8(40), "h_s.head: shift"),
        ("h_s.head.shift", np.zeros_like, "h_s.head: shift"),
        ("g_s.gain_shift", lambda t: np.array(31, np.uint8), "g_s.gain_shift: expected at most 30"),
        ("h_s.head.weight", lambda t: t.astype(np.float32), "h_s.head.weight: expected int16, found float32"),
        ("h_s.head.weight", lambda t: np.full_like(t, -(2**15)), "h_s.head.weight: expected at least -32767"),
        ("h_s.head.weight", lambda t: np.full_like(t, 32767), "h_s.head: "),
        ("g_s.gain", lambda t: t.astype(np.int32), "g_s.gain: expected int16, found int32"),
        ("context_steps", 3, "context_steps: expected 2 or 4, found 3"),
        ("N", 2000, "N: expected 1 to 1024, found 2000"),
        ("skip_below", -1, "skip_below: expected 0 to 64, found -1"),
        ("skip_below", True, "skip_below: expected 0 to 64, found True"),
    ],
    ids=lambda v: v if isinstance(v, str) and " " not in v else "",
)  # fmt: skip
def test_weights_that_are_not_right(model, crop, tmp_path, name, change, message):
    """Each tensor, its shape, its kind, its bounds; no others."""
    tensors, about, _ = read_weights(find_by_name(model))
    if callable(change):
        changed = change(tensors.pop(name, None)) if name in tensors else change(None)
        tensors |= {} if changed is None else {name: np.array(changed, order="C")}
    else:
        (about if name == "skip_below" else about["config"])[name] = change
    save_file(tensors, tmp_path / "a.safetensors", {"ncodec": json.dumps(about)})
    with pytest.raises((WeightsMismatchError, InputError), match=message):
        ncodec.encode(crop, 4, tmp_path / "a.safetensors")


def test_hostile_weights(sample, tmp_path):
    """Any change ends in an error about the weights, or in a model that codes: never in another error."""
    pixels = sample[100:133, 200:250]
    outcomes = outcomes_of_mutations(*small_weights(), pixels, tmp_path, 300)
    assert 50 < sum(outcomes) < 250, sum(outcomes)
