"""Family ftic: one image whatever computes it; integers against the float network; training; hostile files and weights. What is hyperprior's is tested there."""

import json
import sys

import numpy as np
import pytest
import torch
from ncodec.cli.main import main
from PIL import Image
from random_weights import damaged, outcomes_of_mutations
from safetensors.numpy import save_file
from small_ftic import CONFIG, SMALL, fitted, small_network, small_weights
from small_tokenizer import photos

import ncodec
from ncodec import exact
from ncodec.coder import Writer
from ncodec.errors import FormatError, InputError
from ncodec.exact.network import Network
from ncodec.metrics import psnr
from ncodec.models import weights
from ncodec.models.ftic import graphs, quantise, recipe
from ncodec.models.ftic.codec import Options, make_codec
from ncodec.models.ftic.layers import Fat, FticConfig
from ncodec.models.ftic.network import interleaved
from ncodec.models.hyperprior import recipe as hyperprior
from ncodec.models.protocol import TileFormat
from ncodec.nn import HEAD, frequency, priors
from ncodec.nn.windows import CHANNEL_WINDOW
from ncodec.training.config import read_config

ROUNDED = 0.01  # of a file's bytes


@pytest.fixture(scope="module")
def codec():
    return make_codec(*small_weights(), "cpu")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The path of a weights file."""
    tensors, about = small_weights()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(tensors, path, {"ncodec": json.dumps(about)})
    return path


def pixels_of(photo):
    return np.ascontiguousarray(photo.permute(1, 2, 0).numpy())


# ---- the same pixels


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("channels", "is_faded"), [(1, True), (3, False)])
def test_devices_decode_the_same_pixels(codec, sample, device, channels, is_faded):
    """By torch as by the executor, tiles together as apart; they encode the same, too."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    other = codec.on_device(device)
    format = TileFormat(150, 33, channels, is_faded=is_faded)
    pixels = sample[:33, :150] if channels == 3 else sample[:33, :150, 0]
    tiles = [codec.encode_tile(part, 107, Options()) for part in (pixels, pixels[::-1])]
    assert other.encode_tile(pixels, 107, Options()) == tiles[0]
    expected, found = (by.decode_tiles(tiles, 107, format) for by in (codec, other))
    assert np.array_equal(found, expected)
    assert found[0].dtype == expected[0].dtype == (np.float32 if is_faded else np.uint8)


# ---- integers against floats


@pytest.mark.parametrize("size", [(1, 1), (5, 37), (16, 16), (18, 7), (33, 20)])
@pytest.mark.parametrize("is_moved", [False, True])
def test_windows_at_borders(size, is_moved):
    """A FAT block as floats, which pad and mask, and as integers, which do not: alike at every place, of tiles of any size."""
    network, (tensors, about) = small_network(), small_weights()
    fat = Fat(f"g_s.fat.{int(is_moved)}", CONFIG.N, "g_s.blocks", is_moved)
    unit = 2.0 ** about["fraction_bits"]["g_s.blocks"]
    net = Network(tensors)
    net.outputs = {"y": graphs._fat(net, net.input("x", CONFIG.N), fat)}
    x = np.random.default_rng(size).normal(0, 0.8, (*size, CONFIG.N))
    x = np.rint(x * unit).astype(np.int16)
    (found,) = net.run({"x": x}, ("y",), 1)
    with torch.no_grad():
        expected = network.g_s.fat[int(is_moved)](torch.from_numpy(x / unit).float().movedim(2, 0)[None])  # fmt: skip
    error = found / unit - expected[0].movedim(0, 2).numpy()
    changed = float((expected[0].movedim(0, 2) - torch.from_numpy(x / unit)).square().mean().sqrt())
    assert changed > 0.05 and np.abs(error).max() < 0.25 * changed, (np.abs(error).max(), changed)


def test_windows_do_not_see_each_other():
    """What a place becomes depends on its own windows alone: attention and blocks of frequencies, moved or not."""
    torch.manual_seed(0)
    x = torch.randn(1, CONFIG.N, 40, 24)
    for is_moved in (False, True):
        attention = frequency.WindowAttention(CONFIG.N, is_moved)
        torch.nn.init.normal_(attention.o.weight)
        changed = x.clone()
        changed[:, :, 39] += 1
        with torch.no_grad():
            differs = (attention(x) != attention(changed)).any(1)[0].any(1)
        first = 24 if is_moved else 32  # of the largest window that holds row 39
        assert not differs[:first].any() and differs[39]


def test_frequencies():
    """Cosines are orthonormal; weights 0 leave x as it is, weights all w make it (1 + w) x, wherever the plane ends."""
    basis = frequency.cosines(16)
    torch.testing.assert_close(basis @ basis.T, torch.eye(16), atol=1e-6, rtol=0)
    modulation = frequency.FrequencyModulation(4)
    x = torch.randn(2, 4, 21, 35)
    for weight in (0.0, 0.75):
        torch.nn.init.constant_(modulation.weight, weight)
        with torch.no_grad():
            torch.testing.assert_close(modulation(x), (1 + weight) * x, atol=1e-4, rtol=1e-4)


def test_channels_are_folded_as_integers_are():
    """Windows of places, channels as tokens: nn/frequency's and X24's."""
    x = np.random.default_rng(0).integers(-99, 99, (11, 18, 2 * HEAD)).astype(np.int16)
    graph = exact.Graph()
    there = graph.input("x", 2 * HEAD)
    folded = graph.fold(there, CHANNEL_WINDOW, 2)
    back = graph.unfold(folded, there, CHANNEL_WINDOW, 2)
    found, again = graph.run({there: x}, [folded, back])
    theirs = frequency._fold(torch.from_numpy(x).float().movedim(2, 0)[None], 2)
    assert np.array_equal(theirs.transpose(1, 2).flatten(2).numpy(), found)  # [P, e, heads·64]
    assert np.array_equal(again, x)
    like = torch.zeros(1, 2 * HEAD, 11, 18)
    assert np.array_equal(frequency._unfold(theirs, like)[0].movedim(0, 2).numpy(), x)


def float_result(network, pixels, quality):
    """Return 8-bit pixels and bytes of an image [H, W, 3] whose sides are multiples of 32."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    with torch.no_grad():
        out = network.estimate(x, torch.tensor([float(quality)]))
    x_hat = out.x_hat[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return x_hat, float(out.bits["y"]) / 8


def test_integers_are_the_network(codec):
    """Windows whole and cut."""
    for quality, photo, least in ((4, photos()[1], 45), (8, photos()[0], 50)):
        pixels, code = pixels_of(photo), 20 * (quality - 1)
        expected, size = float_result(small_network(), pixels, quality)
        writer, latents = Writer(), codec.analyse(pixels, code)
        codec.code(writer, latents, latents.r.shape[:2], code)
        assert psnr(expected, codec.synthesise(latents, code).astype(np.uint8)) > least
        assert abs(len(writer.sections[1]) - 5 - size) < ROUNDED * size + 2  # 5: the coder's state


def test_every_part_matters():
    """What this file holds against the integers is not what a transformer of zeros gives."""
    network, pixels = small_network(), pixels_of(photos()[0])[:64, :96]
    expected, size = float_result(network, pixels, 4)
    for part in ("g_a.fat.0.attention.bias", "g_a.fat.1.modulation", "g_a.deep.head", "g_s.deep.fat.0.attention.o", "g_s.fat.1.down",
                 "context.2.channels.1.o", "context.3.channels.0.down"):  # fmt: skip
        state = network.state_dict()
        state |= {name: 0 * tensor for name, tensor in state.items() if name.startswith(part)}
        without = recipe.build(CONFIG).eval()
        without.load_state_dict(state)
        found, other = float_result(without, pixels, 4)
        assert other != pytest.approx(size, rel=1e-5) or psnr(expected, found) < 60, part


def test_a_network_from_integers_is_the_same():
    """Its file has the same integers, but for rounding; and the same picture."""
    tensors, about = small_weights()
    again = recipe.from_weights(tensors, about).eval()
    state = again.state_dict()
    for name, theirs in small_network().state_dict().items():
        if not name.startswith("prior_"):
            rows = theirs.abs().amax(tuple(range(1, theirs.dim())), keepdim=True)
            assert float(((state[name] - theirs).abs() / (rows + 1e-3)).mean()) < 2e-3, name
    pixels = pixels_of(photos()[0])[:64]
    expected, size = float_result(small_network(), pixels, 4)
    found, other = float_result(again, pixels, 4)
    assert psnr(expected, found) > 50 and other == pytest.approx(size, rel=0.01)


def macs_of(graph, feeds, wanted):
    """Return multiply-accumulates of a run."""
    needed, total, places = set(wanted), 0, {}
    for number in range(max(wanted), -1, -1):
        if number in needed:
            needed |= set(graph.operations[number].inputs)
    for number in sorted(needed):
        operation = graph.operations[number]
        if operation.kind == "input":
            places[number] = feeds[number].shape[:2]
        if operation.kind in ("input", "vector"):
            continue
        rows, columns = places[operation.inputs[0]]
        if operation.kind == "shuffle":
            rows, columns = (side * operation.numbers[0] for side in (rows, columns))
        elif operation.kind == "join":
            columns += places[operation.inputs[1]][1]
        elif operation.kind == "fold":
            side, heads = operation.numbers
            rows = rows * columns // side**2
            columns = graph.operations[operation.inputs[0]].channels // heads
        elif operation.kind in ("crop", "unfold"):
            rows, columns = places[operation.inputs[1]]
        places[number] = rows, columns
        area = rows * columns
        if operation.kind in ("conv", "depthwise"):
            total += area * operation.arrays[0].size
        elif operation.kind == "attention":
            total += 2 * area * places[operation.inputs[1]][1] * operation.channels
        elif operation.kind == "window_attention":
            total += 2 * area * HEAD * sum(int(a * b) for a, b, _, _ in operation.arrays[0])
        elif operation.kind == "modulate":
            total += 4 * area * len(operation.arrays[0]) * operation.channels
    return total


def test_kmac_per_pixel_is_what_graphs_do(codec, monkeypatch):
    """Of whole windows; z's neighbours are not graphs."""
    run, counted = exact.Graph.run, []

    def counting(graph, feeds, wanted, *more):
        counted.append(macs_of(graph, feeds, wanted))
        return run(graph, feeds, wanted, *more)

    parts = codec.encode_tile(np.zeros((256, 256, 3), np.uint8), 60, Options())
    monkeypatch.setattr(exact.Graph, "run", counting)
    codec.decode_tiles([parts], 60, TileFormat(256, 256, 3))
    neighbours = (6 * CONFIG.B + 4) * CONFIG.Z / 32**2
    found = 1000 * recipe.kmac_per_pixel(*small_weights())
    assert sum(counted) / 256**2 + neighbours == pytest.approx(found, rel=1e-12)


# ---- training


def test_start_is_hyperprior(monkeypatch):
    """To the bit: the network that training starts from makes of images what hyperprior-s does."""
    monkeypatch.setattr(priors, "fit_to_tables", lambda *_: None)  # takes its time
    trunk = hyperprior.from_weights(*weights.read(weights.find_start("hyperprior-s"))[:2]).eval()
    network = recipe.start(recipe.Config(), []).eval()
    x, q = photos()[0][None].float() / 255, torch.tensor([4.35])
    with torch.no_grad():
        found, expected = network.estimate(x, q), trunk.estimate(x, q)
    assert torch.equal(found.x_hat, expected.x_hat)
    for part, bits in expected.bits.items():
        torch.testing.assert_close(found.bits[part], bits, rtol=1e-5, atol=0)


def test_start_from_images():
    """Of other sizes: y are principal components, and with M = 24 of 768 a picture comes back, blurred."""
    network = recipe.start(CONFIG, photos()).eval()
    x = photos()[1][None].float() / 255
    y = network.g_a(x, torch.tensor([8.0])).detach()[0].flatten(1)
    spread = y.square().mean(1)
    assert spread[0] > 20 * spread[-1] > 0
    assert psnr(*(pixels_of(p) for p in (photos()[1], network.estimate(x, torch.tensor([8.0])).x_hat[0].clamp(0, 1).mul(255).byte()))) > 20  # fmt: skip


def test_gradients_reach_every_parameter():
    """A few steps; keys of nothing but silent branches come last."""
    torch.manual_seed(0)
    network = recipe.start(CONFIG, photos()).train()
    groups = recipe.parameter_groups(network)
    learning = [p for _, part in [*groups.matrices, *groups.others] for p in part]
    assert {id(p) for p in learning} == {id(p) for p in network.parameters()}
    x, q = photos()[0][None, :, :64, :96].float() / 255, torch.tensor([4.0])
    optimizer, reached = torch.optim.Adam(learning, 3e-4), set()
    noise, losses = [torch.Generator().manual_seed(0)], []
    for _ in range(5):
        out = network(x, q, noise)
        loss = 3000 * (out.x_hat - x).square().mean() + sum(out.bits.values()).sum() / x[0, 0].numel()  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    # Of a constant for all keys a softmax knows nothing.
    still = {n for n, _ in network.named_parameters()} - reached
    assert all(name.endswith("k.bias") for name in still), still


def test_training_by_its_command(tmp_path, sample, monkeypatch):
    """A few steps, exported, checked: files are what the float network says."""
    for i in range(4):
        path = tmp_path / ("data" if i < 3 else "validation")
        path.mkdir(exist_ok=True)
        Image.fromarray(sample[80 * i : 80 * i + 96, 140 * i : 140 * i + 112]).save(path / f"{i}.png")  # fmt: skip
    config, out = tmp_path / "tiny.toml", tmp_path / "run"
    sizes = "\n".join(f"{name} = {size}" for name, size in (SMALL | {"fat": 1}).items())
    config.write_text(
        f'family = "ftic"\n[model]\n{sizes}\n[training]\nbatch = 2\ncrop = 64\nlearning_rate = 1e-4\n'
    )
    words = ["ncodec", "train", config, "--data", tmp_path / "data", "--out", out, "--steps", 3]
    words += ["--validation", tmp_path / "validation", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    monkeypatch.setattr(hyperprior, "fit", fitted)
    monkeypatch.setattr(quantise, "RANGE_QUALITIES", (8.0,))
    main()
    check = json.loads((out / "check.json").read_text())
    for file, trained in zip(check["files"], check["float"], strict=True):
        assert abs(file["psnr"] - trained["psnr"]) < 0.1
        assert file["bpp"] == pytest.approx(trained["bpp"], rel=0.15)  # headers


def test_configs():
    """What ships has the defaults; the larger one fits what is promised."""
    assert read_config("ftic-s").model == recipe.Config()
    network = recipe.build(read_config("ftic-m").model)
    decoding = sum(p.numel() for n, p in network.named_parameters() if not n.startswith("prior_"))
    assert 14 << 20 < 2 * decoding < 16 << 20
    plain = read_config("ftic-m").model
    blocks = interleaved(torch.zeros(1, 128, 2, 2), network.g_a.blocks, network.g_a.fat)
    assert blocks.shape == (1, 128, 2, 2) and plain.fat == plain.analysis_blocks


@pytest.mark.parametrize(("more", "message"), [
    ({"N": 64}, "N: expected a multiple of 128, found 64"), ({"D": 160}, "D: expected a multiple of 128, found 160"),
    ({"H": 48}, "H: expected a multiple of 32, found 48"), ({"M": 800}, "M: expected at most 768, the dimension of a 16x16 RGB block, found 800"),
    ({"fat": 7}, "fat: expected at most as many as residual blocks, found 7"), ({"layers": 0}, "layers: expected 1 to 1024, found 0"),
    ({"S": 1.0}, "S: expected 1 to 1024, found 1.0"), ({"synthesis_blocks": 300}, "synthesis_blocks: expected 1 to 256, found 300"),
])  # fmt: skip
def test_sizes_that_no_model_has(more, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        FticConfig(**more)


# ---- files and weights that are not right


def test_hostile_payloads(codec):
    """Any change ends in an error about the payload, or in pixels: never in another error."""
    pixels, rng = pixels_of(photos()[0])[:48, :80], np.random.default_rng(0)
    payload, outcomes = codec.encode_tile(pixels, 60, Options())[0][0], []
    format = TileFormat(80, 48, 3)
    for _ in range(60):
        data = damaged(payload, rng)
        try:
            (found,) = codec.decode_tiles([[[data]]], 60, format)
            assert found.shape == pixels.shape
            outcomes.append(True)
        except FormatError as error:
            assert "section" in str(error)
            outcomes.append(False)
    assert sum(outcomes) < 10 and not all(outcomes)


def test_hostile_weights(sample, tmp_path):
    """Any change ends in an error about the weights, or in a model that codes: never in another error."""
    pixels = sample[100:133, 200:250]
    outcomes = outcomes_of_mutations(*small_weights(), pixels, tmp_path, 24)
    assert 1 < sum(outcomes) < 22, sum(outcomes)


def test_efforts(small, sample):
    """Higher efforts are of the file's floats, and cost less for what they lose."""
    pixels = sample[200:264, 300:364]
    usual, more = (ncodec.encode(pixels, 6, small, effort=effort) for effort in (1, 2))
    costs = [
        len(data) * 8 / 64**2 + 0.0483 * 10 ** (-psnr(pixels, ncodec.decode(data, "numpy", small)) / 10) * 255**2
        for data in (usual, more)
    ]  # fmt: skip
    assert costs[1] < costs[0]
