"""Family tokenizer in use: one file, one image, whatever computes it; integers against the float network; training; hostile weights."""

import json
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import ROOT
from ncodec.cli.main import main
from PIL import Image
from random_weights import outcomes_of_mutations
from safetensors.numpy import save_file
from small_tokenizer import (
    MASKED,
    SMALL,
    photos,
    small_masked,
    small_network,
    small_tokens,
    small_transformer,
    small_weights,
    tables_of,
)

import ncodec
from ncodec import container, exact, threads
from ncodec.errors import FormatError, InputError, NcodecError
from ncodec.metrics import psnr
from ncodec.models.load import load_by_name
from ncodec.models.protocol import TileFormat
from ncodec.models.tokenizer import masked_recipe, recipe
from ncodec.models.tokenizer.codec import Options
from ncodec.models.tokenizer.device import DeviceCodec
from ncodec.models.tokenizer.fill_network import metric_of, random_losses
from ncodec.models.tokenizer.filling import conceal
from ncodec.models.tokenizer.masked import MaskedConfig, spans
from ncodec.models.tokenizer.network import REVIVED_BELOW, Tokenizer
from ncodec.models.tokenizer.quantise import thresholds, to_integers, tree
from ncodec.models.tokenizer.stages import STAGES, depth_of_last, n_stages
from ncodec.models.tokenizer.transformer import Masked
from ncodec.models.weights import find_by_name
from ncodec.models.weights import read as read_weights
from ncodec.nn.integers import extremes
from ncodec.training.checkpoint import read_checkpoint
from ncodec.training.config import read_config
from ncodec.training.run import read_network

SHIPPED = [model.name for model in ncodec.list_models() if model.family == "tokenizer"]


@pytest.fixture(scope="module", params=STAGES)
def quantiser(request):
    return request.param


@pytest.fixture(scope="module")
def small(quantiser, tmp_path_factory):
    """The path of a weights file."""
    tensors, about = small_weights(quantiser)
    path = tmp_path_factory.mktemp("weights") / f"{quantiser}.safetensors"
    save_file(tensors, path, {"ncodec": json.dumps(about)})
    return path


# ---- the same file and pixels


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("variant", exact.variants())
def test_pixels_are_those_of_every_variant_and_thread(
    small, sample, monkeypatch, variant, n_threads
):
    """Encoder as well: the same file."""
    pixels = sample[100:229, 200:341]
    expected = ncodec.encode(pixels, 4.35, small, ranges=2)
    decoded = ncodec.decode(expected, "numpy", small)
    run, used = exact.Graph.run, []

    def run_as(graph, feeds, wanted, threads=1):
        used.append(threads)
        return run(graph, feeds, wanted, threads, variant)

    monkeypatch.setattr(threads, "_chosen", n_threads)
    monkeypatch.setattr(exact.Graph, "run", run_as)
    assert ncodec.encode(pixels, 4.35, small, ranges=2) == expected
    assert np.array_equal(ncodec.decode(expected, "numpy", small), decoded)
    assert used == [n_threads] * 2  # analysis, synthesis


@pytest.fixture(scope="module")
def masked(quantiser, tmp_path_factory):
    """The path of a weights file with a masked transformer."""
    tensors, about = small_masked(quantiser)
    path = tmp_path_factory.mktemp("weights") / f"{quantiser}-masked.safetensors"
    save_file(tensors, path, {"ncodec": json.dumps(about)})
    return path


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("variant", exact.variants())
def test_masked_files_are_those_of_every_variant_and_thread(
    masked, sample, monkeypatch, variant, n_threads
):
    pixels = sample[100:329, 200:441]
    expected = ncodec.encode(pixels, 4.35, masked, effort=2, ranges=2)
    run = exact.Graph.run

    def run_as(graph, feeds, wanted, threads=1):
        return run(graph, feeds, wanted, threads, variant)

    monkeypatch.setattr(threads, "_chosen", n_threads)
    monkeypatch.setattr(exact.Graph, "run", run_as)
    assert ncodec.encode(pixels, 4.35, masked, effort=2, ranges=2) == expected
    other = ncodec.encode(pixels, 4.35, masked, ranges=2)
    decoded = [ncodec.decode(data, "numpy", masked) for data in (expected, other)]
    assert expected != other and np.array_equal(*decoded)
    tokens = ncodec.tokens_of(expected, model=masked)
    again = ncodec.file_of(tokens, masked, effort=2, ranges=2)
    assert np.array_equal(ncodec.tokens_of(again, model=masked).grid, tokens.grid)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("is_faded", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_devices_decode_the_same_pixels(small, sample, device, is_faded, channels):
    """By torch as by the executor."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    codec = load_by_name(small).codec
    other = DeviceCodec(codec.tensors, codec.config, device)
    format = TileFormat(50, 33, channels, is_faded=is_faded)
    parts = codec.encode_tile(sample[:33, :50], 107, Options(ranges=2))
    parts[0][1] = None  # lost
    (expected,) = codec.decode_tiles([parts], 107, format)
    (found,) = other.decode_tiles([parts], 107, format)
    assert found.dtype == expected.dtype == (np.float32 if is_faded else np.uint8)
    assert found.shape == format.shape and np.array_equal(found, expected)


# ---- integers against the float network


def float_result(network, pixels, quality):
    """Return values [h, w, D] and 8-bit pixels of an image [H, W, 3] whose sides are multiples of 16."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    q = torch.tensor([float(quality)])
    with torch.no_grad():
        values = network.values(network.g_a(x), network.coded(q))[0][0].permute(1, 2, 0).numpy()
        x_hat = network(x, q).x_hat
    x_hat = x_hat[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return values, x_hat


@pytest.mark.parametrize("quality", [1, 3, 8])
def test_integers_are_the_network(quantiser, small, quality):
    """Values but for few that lie at a threshold, and what follows from them; pixels likewise."""
    codec, code = load_by_name(small).codec, 20 * (quality - 1)
    scale = 2.0 ** -int(codec.tensors["value_bits"])
    for photo in photos()[:2]:
        pixels = photo.permute(1, 2, 0).numpy()
        values, expected = float_result(small_network(quantiser), pixels, quality)
        tokens = codec.analyse(pixels, code)
        found = codec.coder.values(tokens, depth_of_last(code, codec.stages)) * scale
        same = (np.abs(found - values) <= scale / 2).all(2)
        assert same.mean() > 0.6  # of all stages: a token that differs changes those after it
        decoded = codec.synthesise(tokens, code).astype(np.uint8)
        assert psnr(expected, decoded) > 40
        assert abs(psnr(pixels, decoded) - psnr(pixels, expected)) < 0.1


def test_integers_are_the_transformer(quantiser, masked):
    """Logits of the integers are those of the float network, with its neighbours' apart, within 1/64 nat."""
    codec, network = load_by_name(masked).codec, small_transformer(quantiser)
    grid = small_tokens(quantiser)[:1]
    h, w = grid.shape[2:]
    for s, stage in enumerate(codec.stages):
        seen = grid[0, : s + 1].copy()
        seen[s] = -1
        found = codec._masked.logits(codec.coder.values(seen, stage.units), s)
        head = network.heads[s]
        with torch.no_grad():
            x, near = network.seen(torch.from_numpy(grid).long(), s)
            f = network.features(x, 0 * near, spans(h)[0], spans(w)[0])[0, 0, 0]
            expected = (head.decisions(f.flatten(0, 1)) - head.bias).numpy()
        assert expected.std() > 0.02
        assert np.abs(found.reshape(expected.shape) / 256 - expected).max() < 1 / 64


@pytest.mark.parametrize("n_stages", [1, 3, 8])
def test_what_is_filled_in(quantiser, masked, n_stages):
    """Values are the line, to which the float network's are added and rounded; where tokens are known, theirs."""
    codec, network = load_by_name(masked).codec, small_transformer(quantiser)
    tokens = torch.from_numpy(small_tokens(quantiser)[:1]).long()
    known = random_losses(tokens.shape, n_stages, np.random.default_rng(n_stages))
    known[:, 2:4] = False
    grid = np.where(known[0].permute(2, 0, 1), tokens[0], -1)[:n_stages].astype(np.int32)
    c = codec.coder.values(grid, codec.stages[n_stages - 1].units)
    size = codec.stages[0].n_values
    conceal(grid[0] >= 0, c[:, :, :size])
    found = c.copy()
    codec._masked.filling.fill(found, grid >= 0, n_stages)
    with torch.no_grad():
        added = network.fill(torch.from_numpy(c)[None].float(), known)[0]
    lost = ~known[..., network.fill.of_channel][0].numpy()
    lost[:, :, sum(stage.n_values for stage in codec.stages[:n_stages]) :] = False
    assert lost.any() and np.array_equal(found[~lost], c[~lost])
    expected = (c + added.numpy()).clip(-127, 127)[lost]
    assert np.abs(expected - c[lost]).max() > 1 and np.abs(found[lost] - expected).max() < 0.6


def test_it_learns_to_fill_in(quantiser):
    """It starts as the line, and its errors are soon smaller."""
    tensors = small_weights(quantiser)[0]
    network = Masked(
        MaskedConfig(**MASKED), small_transformer(quantiser).stages, tables_of(tensors)
    )
    tokens, rng = torch.from_numpy(small_tokens(quantiser)).long(), np.random.default_rng(0)
    known, metric = random_losses(tokens.shape, 3, rng), metric_of(tensors)
    optimizer, ratios = torch.optim.Adam(network.fill.parameters(), 3e-3), []
    for _ in range(30):
        filled, line = network.fill_errors(tokens, known, 3, metric)
        ratios.append((filled.sum() / line.sum()).item())
        optimizer.zero_grad()
        (filled / line.mean()).mean().backward()
        optimizer.step()
    assert ratios[0] == pytest.approx(1) and ratios[-1] < 0.8


def test_a_network_from_integers_is_the_same(quantiser):
    """It gives the same integers again, but for their rounding; and the same picture."""
    network = small_network(quantiser)
    tensors, about = small_weights(quantiser)
    again = recipe.from_weights(tensors, about).eval()
    same, bits = to_integers(again, photos())
    for name, tensor in same.items():
        expected = tensors[name].astype(float)
        if name.endswith(".weight") and bits == about["fraction_bits"]:
            rows = np.abs(expected).reshape(len(expected), -1).max(1)
            rows = rows.reshape(-1, *[1] * (expected.ndim - 1))
            near = np.abs(tensor - expected) <= 1 + rows / 512
            assert near.mean() > 0.98, name
    for quality in (1, 4, 8):
        pixels = photos()[0].permute(1, 2, 0).numpy()
        _, expected = float_result(network, pixels, quality)
        _, found = float_result(again, pixels, quality)
        assert psnr(expected, found) > 40


@pytest.mark.parametrize("model", SHIPPED)
@pytest.mark.parametrize("quality", [1, 4, 8])
def test_integers_cost_nothing(model, sample, quality):
    tensors, about, _ = read_weights(find_by_name(model))
    network, codec = recipe.from_weights(tensors, about).eval(), load_by_name(model).codec
    code = 20 * (quality - 1)
    for k, pixels in enumerate([sample[:256, :256], sample[160:416, 300:556], *map(_hwc, extremes())]):  # fmt: skip
        _, expected = float_result(network, np.ascontiguousarray(pixels), quality)
        decoded = codec.synthesise(codec.analyse(pixels, code), code).astype(np.uint8)
        found, limit = psnr(pixels, decoded), psnr(pixels, expected)
        most = 30 if model == "vq-s" and k > 1 else 45  # its v leaves 32 steps there, and saturates
        assert found > min(limit, most) - (0.1 if k < 2 else 0.3), (k, found, limit)


def _hwc(picture):
    return np.ascontiguousarray(picture.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 8, 16])
def test_thresholds_are_the_rounding(levels):
    """Of the float quantiser, but for u within 1/1024 of a threshold."""
    quantiser = "bsq" if levels == 2 else "fsq"
    stages = STAGES[quantiser]
    network = small_network(quantiser)
    found = [
        (s, k) for s, stage in enumerate(stages) for k, n in enumerate(stage.levels) if n == levels
    ]
    if not found:
        pytest.skip("no such digit")
    s, k = found[0]
    edges = thresholds(levels).astype(int)
    assert len(edges) == levels - 1 and (np.diff(edges) > 0).all() and (edges == -edges[::-1]).all()
    u = np.arange(-20_000, 20_001)
    u = u[np.abs(u[:, None] - edges).min(1) > 1]
    x = torch.zeros(1, stages[s].n_values, 1, len(u))
    x[0, k, 0] = torch.from_numpy(u / 1024).float()
    values = network.quantise(x, s)[0][0, k, 0].numpy()
    assert np.array_equal(np.rint(values * 2), 2 * np.searchsorted(edges, u) - (levels - 1))


def test_coded_is_the_depth(quantiser):
    """Training knows of every quality what files hold of it; trees' stages count when they are whole."""
    network, stages = small_network(quantiser), STAGES[quantiser]
    for code in range(141):
        coded = network.coded(torch.tensor([1 + code / 20]))[0, :, 0, 0].numpy()
        n, wanted = n_stages(code), []
        for s, stage in enumerate(stages):
            depth = depth_of_last(code, stages) if s == n - 1 else stage.units * (s < n)
            if not stage.levels:
                depth = stage.n_values * (depth == stage.units and (s < n - 1 or code % 20 == 0))
            wanted += [1.0] * depth + [0.0] * (stage.n_values - depth)
        assert coded.tolist() == wanted, code


# ---- trees, codebooks


def test_tree_is_balanced_and_prefixes_are_means():
    rng = np.random.default_rng(0)
    codebook = torch.from_numpy(rng.normal(size=(64, 3)) ** 3).float()
    order, nodes = tree(codebook)
    assert sorted(order.tolist()) == list(range(64)) and nodes.shape == (127, 3)
    torch.testing.assert_close(nodes[63:], codebook[order])
    for depth in range(7):
        means = codebook[order].view(1 << depth, -1, 3).mean(1)
        torch.testing.assert_close(nodes[(1 << depth) - 1 : (1 << depth + 1) - 1], means)
    spread = [
        float((codebook[order].view(1 << depth, -1, 3) - nodes[(1 << depth) - 1 : (2 << depth) - 1, None]).square().mean())
        for depth in range(7)
    ]  # fmt: skip
    assert all(a > b for a, b in pairwise(spread)) and spread[3] < 0.3 * spread[0]


def test_dead_codes_come_back():
    """Codes that nothing is near take vectors of the batch; without training none moves."""
    network = Tokenizer(recipe.Config(quantiser="vq", **SMALL))
    with torch.no_grad():
        network.codebooks.normal_()
        network.codebooks[0, 500:] += 1000.0
        network.used[:] = 2 * REVIVED_BELOW
    u = torch.randn(1, 8, 32, 32)
    before = network.codebooks.detach().clone()
    network.eval()
    network.quantise(u, 0)
    assert torch.equal(network.codebooks, before)
    network.train()
    for _ in range(120):
        network.quantise(u, 0)
    assert float(network.codebooks[0].detach().abs().max()) < 10
    assert torch.equal(network.codebooks[1:], before[1:])


def test_k_means_of_few_rows():
    """Fewer than there are codes: a start on few images."""
    rows = torch.randn(10, 3)
    centres = recipe.k_means(rows, 16)
    assert centres.shape == (16, 3) and centres.isfinite().all()
    assert (torch.cdist(rows, centres).amin(1) < 1e-5).sum() >= 8


# ---- training


@pytest.fixture
def folder(tmp_path, sample):
    """Four pictures to train on, and one apart."""
    for i in range(5):
        path = tmp_path / ("data" if i < 4 else "validation")
        path.mkdir(exist_ok=True)
        Image.fromarray(sample[80 * i : 80 * i + 192, 140 * i : 140 * i + 176]).save(
            path / f"{i}.png"
        )
    return tmp_path / "data"


def test_training_by_its_command(quantiser, folder, tmp_path, monkeypatch):
    """A few steps, exported, checked; the file's tokens are those of the trained network."""

    def start(config, images):
        network = recipe.build(config)
        recipe.initialise_stages(network, images)
        return network

    def fitted(*arguments, learned=recipe.fit):
        return learned(*arguments, steps=3)

    monkeypatch.setattr(recipe, "start", start)
    monkeypatch.setattr(recipe, "fit", fitted)
    config, out = tmp_path / "tiny.toml", tmp_path / "run"
    sizes = "\n".join(f"{name} = {size}" for name, size in SMALL.items())
    config.write_text(
        f'family = "tokenizer"\n[model]\nquantiser = "{quantiser}"\n{sizes}\n'
        "[training]\nbatch = 2\ncrop = 176\nlearning_rate = 1e-3\n"
    )
    words = ["ncodec", "train", config, "--data", folder, "--out", out]
    words += ["--validation", tmp_path / "validation"]
    for more in (["--steps", 4], ["--resume", "--steps", 2]):
        monkeypatch.setattr(sys, "argv", [*map(str, [*words, "--device", "cpu", *more])])
        main()
    check = json.loads((out / "check.json").read_text())
    # After steps so few rates mean nothing yet, but files decode to what the network makes.
    for file, trained in zip(check["files"], check["float"], strict=True):
        assert abs(file["psnr"] - trained["psnr"]) < 3
    pixels, model = photos()[0].permute(1, 2, 0).numpy(), out / "model.safetensors"
    for quality in (1, 4.5, 8):
        data = ncodec.encode(pixels, quality, model)
        assert ncodec.decode(data, "numpy", model).shape == pixels.shape
    state = read_checkpoint(out / "checkpoint.json", torch.device("cpu"))
    network = recipe.build(recipe.Config(**state["config"]["model"]))
    network.load_state_dict(state["ema"])
    _, expected = float_result(network.eval(), pixels, 4)
    data = ncodec.encode(pixels, 4, model)
    assert psnr(expected, ncodec.decode(data, "numpy", model)) > 35


def test_masked_training_by_its_command(quantiser, small, folder, tmp_path, monkeypatch):
    """A transformer for given weights; the file has those, and it; its rates are estimated."""
    config, out = tmp_path / "tiny.toml", tmp_path / "run"
    sizes = "\n".join(f"{name} = {size}" for name, size in MASKED.items())
    config.write_text(
        f'family = "tokenizer-masked"\n[model]\nof = "{small}"\n{sizes}\n'
        "[training]\nbatch = 8\ncrop = 176\nlearning_rate = 2e-3\n"
    )
    words = ["ncodec", "train", config, "--data", folder, "--out", out]
    words += ["--validation", tmp_path / "validation", "--device", "cpu"]
    for more in (["--steps", 3], ["--resume", "--steps", 5]):
        monkeypatch.setattr(sys, "argv", [*map(str, [*words, *more])])
        main()
    words[words.index(out)] = tmp_path / "on"
    words += ["--steps", 1, "--from", out / "model.safetensors"]
    monkeypatch.setattr(sys, "argv", [*map(str, words)])
    main()
    started, ended = (
        [
            e["validation"]
            for e in map(json.loads, (folder / "log.jsonl").read_text().splitlines())
            if "validation" in e
        ]
        for folder in (tmp_path / "on", out)
    )
    rates = {point["quality"]: point["bpp"] for point in ended[-1]}
    for point in started[0]:
        assert point["bpp"] == pytest.approx(rates[point["quality"]], rel=0.01)
    tensors, about, _ = read_weights(out / "model.safetensors")
    given, said, _ = read_weights(small)
    assert about["masked"] == MASKED and about["config"] == said["config"]
    assert all(np.array_equal(tensors[name], array) for name, array in given.items())
    check = json.loads((out / "check.json").read_text())
    for file, trained in zip(check["files"], check["float"], strict=True):
        assert file["psnr"] == pytest.approx(trained["psnr"])  # the tokens are the same
        # Contexts adapt, and payloads are short.
        assert 0.7 < file["bpp"] / trained["bpp"] < 1.3


def test_masked_training_goes_on(quantiser, small, masked, tmp_path):
    """From weights with a transformer for the same tokens: what it was, but for the rounding of weights."""
    sizes = "\n".join(f"{name} = {size}" for name, size in MASKED.items())
    path = tmp_path / "tiny.toml"
    path.write_text(f'family = "tokenizer-masked"\n[model]\nof = "{small}"\n{sizes}\n')
    network, said = read_network(read_config(path), masked)
    assert network.config == read_config(path).model and said["optimizer"] == "new"
    tokens = torch.from_numpy(small_tokens(quantiser)[:1]).long()
    start = masked_recipe.start(network.config, [])
    with torch.no_grad():
        expected, found, untrained = (
            float(part.file_bits(tokens, 8))
            for part in (small_transformer(quantiser), network.transformer, start.transformer)
        )
    assert abs(found / expected - 1) < 1e-4 and abs(untrained / expected - 1) > 3e-4
    known = random_losses(tokens.shape, 8, np.random.default_rng(0))
    with torch.no_grad():
        expected, found, untrained = (
            float(part.fill_errors(tokens, known, 8, torch.eye(len(part.unit)))[0])
            for part in (small_transformer(quantiser), network.transformer, start.transformer)
        )
    assert abs(found / expected - 1) < 1e-3 and abs(untrained / expected - 1) > 1e-2
    for changes, message in (
        (
            ["model.near=7"],
            "start from the config's model: expected .*'near': 7.*found .*'near': 6",
        ),
        (["model.of=fsq-s"], "masked[.]safetensors: its transformer is not for tokens of fsq-s"),
    ):
        with pytest.raises(InputError, match=message):
            read_network(read_config(path, changes), masked)
    with pytest.raises(InputError, match="found weights of family tokenizer without"):
        read_network(read_config(path), small)


def test_masked_training_needs_a_tokenizer():
    for of, message in (
        ("masked-s", "expected a tokenizer, found masked-s of family masked"),
        ("none", "model 'none': expected one of dct, hyperprior-s"),
    ):
        with pytest.raises(NcodecError, match=f"config: model.of: {message}"):
            masked_recipe.build(masked_recipe.Config(of=of))


@pytest.mark.parametrize("name", ["fsq-s", "bsq-s", "vq-s"])
def test_start_takes_a_trunk(name):
    """What ships starts from a model that ships; its stages tell pictures apart."""
    config = read_config(ROOT / "configs" / f"{name}.toml").model
    network = recipe.start(config, photos())
    x = photos()[0][None].float() / 255
    pixels = photos()[0].permute(1, 2, 0).numpy()
    found = [psnr(pixels, float_result(network.eval(), pixels, q)[1]) for q in (1, 4, 8)]
    assert found[0] < found[1] < found[2] and found[2] > 20
    network.train()
    out = network(x, torch.tensor([8.0]))
    (out.x_hat - x).square().mean().backward()
    learns = (
        ("decode", "g_s.gain")
        if name == "vq-s"
        else ("encode", "decode", "g_a.linear.weight", "g_s.gain")
    )
    for part in learns:
        assert network.get_parameter(part).grad.abs().max() > 0, part


def test_steps_lower_the_loss(quantiser):
    """Gradients reach every parameter, through the quantiser too."""
    torch.manual_seed(0)
    network = recipe.build(recipe.Config(quantiser=quantiser, **SMALL))
    recipe.initialise_stages(network, photos())
    network.train()
    x, q = photos()[0][None].float() / 255, torch.tensor([8.0])
    noise = [torch.Generator().manual_seed(0)]
    losses, optimizer = [], torch.optim.Adam(network.parameters(), 2e-4)
    for _ in range(12):
        out = network(x, q, noise)
        loss = 1000 * (out.x_hat - x).square().mean() + out.bits["tokens"].sum() / x[0, 0].numel()
        loss = loss + out.penalty.sum()
        optimizer.zero_grad()
        loss.backward()
        learning = [(n, p) for n, p in network.named_parameters() if p.requires_grad]
        still = [n for n, p in learning if p.grad is None or not p.grad.any()]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert (quantiser == "vq") == (not network.g_a.linear.weight.requires_grad)
    silent = {"g_a.deep", "g_a.down", "g_s.deep", "g_s.deep_stem", "g_s.deep_gain", "g_a.blocks", "g_a.stem", "g_s.blocks", "g_s.stem", "g_s.gain", "prior.scale"}  # fmt: skip
    assert not [name for name in still if not name.startswith(tuple(silent))], still


# ---- files and weights that are not right


def test_options():
    for ranges in (0, 257, -1):
        with pytest.raises(InputError, match="ranges: expected 1 to 256"):
            Options(ranges=ranges)


def test_info_of_more_layers_than_the_quality_has(small, sample):
    data = ncodec.encode(sample[:40, :40], 3, small)
    parsed = container.read(data)
    header = parsed.header
    lower = container.write(
        container.Container(container.Header(**{**vars(header), "quality_code": 20}), parsed.tiles)
    )
    with pytest.raises(FormatError, match="expected at most 2 layers at quality 2, found 3"):
        ncodec.decode(lower, "numpy", small)


def test_hostile_weights(quantiser, sample, tmp_path):
    """Any change ends in an error about the weights, or in a model that codes: never in another error."""
    pixels = sample[100:133, 200:250]
    outcomes = outcomes_of_mutations(*small_weights(quantiser), pixels, tmp_path, 100)
    assert 15 < sum(outcomes) < 85, sum(outcomes)


def test_hostile_weights_with_a_transformer(quantiser, sample, tmp_path):
    pixels = sample[100:133, 200:250]
    outcomes = outcomes_of_mutations(*small_masked(quantiser), pixels, tmp_path, 100, effort=2)
    assert 15 < sum(outcomes) < 85, sum(outcomes)
