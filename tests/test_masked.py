"""Family masked in use: one text in both directions, one image whatever computes it; integers against the float network; training; hostile files and weights."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from ncodec.cli.main import main
from PIL import Image
from random_weights import damaged, outcomes_of_mutations
from safetensors.numpy import save_file
from small_masked import SMALL, initialised, small_network, small_weights
from small_tokenizer import photos

import ncodec
from ncodec import exact, threads
from ncodec.coder import Reader, Writer
from ncodec.errors import CorruptPayloadError, FormatError, InputError
from ncodec.exact.network import image_input
from ncodec.metrics import psnr
from ncodec.models import weights
from ncodec.models.hyperprior import recipe as hyperprior
from ncodec.models.load import load_by_name
from ncodec.models.masked import recipe
from ncodec.models.masked.codec import Options, make_codec
from ncodec.models.masked.device import DeviceCodec
from ncodec.models.masked.diagnosis import diagnose
from ncodec.models.masked.lessons import LATENT_BITS, Lesson, cost_of_opinions
from ncodec.models.masked.network import LESSONS_SHARE, Masked
from ncodec.models.masked.schedule import PLACES, WINDOW, batches, groups, order, side_of
from ncodec.models.protocol import TileFormat
from ncodec.nn import priors
from ncodec.nn.gain import at_quality, lmbda_at_quality
from ncodec.nn.training import Lessons
from ncodec.quality import quality_code
from ncodec.training.config import read_config
from ncodec.training.run import read_network

ROUNDED = 0.01  # of a file's bytes


@pytest.fixture(scope="module", params=["m2t", "mt"])
def passes(request):
    return request.param


@pytest.fixture(scope="module")
def codec(passes):
    return make_codec(*small_weights(passes), "cpu")


@pytest.fixture(scope="module")
def small(passes, tmp_path_factory):
    """The path of a weights file."""
    tensors, about = small_weights(passes)
    path = tmp_path_factory.mktemp("weights") / f"{passes}.safetensors"
    save_file(tensors, path, {"ncodec": json.dumps(about)})
    return path


def pixels_of(photo):
    return np.ascontiguousarray(photo.permute(1, 2, 0).numpy())


# ---- schedule


def test_order_takes_each_place_once():
    places = order()
    assert sorted(places.tolist()) == list(range(PLACES))
    n = np.arange(1, 9)  # Roberts' sequence, with its first place at 1/2
    rho = 1.324717957244746
    expected = np.stack([(0.5 + n / rho) % 1, (0.5 + n / rho**2) % 1], 1) * WINDOW
    assert (places[:8, None] // [WINDOW, 1] % WINDOW == expected.astype(int)).all()


def test_first_places_are_far_from_each_other():
    for n, least in ((3, 7), (12, 3), (30, 1.4)):
        row, column = np.divmod(order()[:n], WINDOW)
        distance = np.hypot(row[:, None] - row, column[:, None] - column) + 99 * np.eye(n)
        assert distance.min() >= least


@pytest.mark.parametrize("steps", [1, 2, 8, 12, 64])
def test_groups_grow(steps):
    sizes = np.bincount(groups(steps), minlength=steps)
    assert sizes.sum() == PLACES and (sizes > 0).all()
    share = np.cumsum(sizes) / PLACES - (np.arange(1, steps + 1) / steps) ** 2.2
    assert np.abs(share).max() <= (0.5 + steps * (steps > 12)) / PLACES


def test_windows_are_equal():
    for n in range(1, 600):
        side = side_of(n)
        assert side <= WINDOW and -(-n // side) == -(-n // WINDOW)
        assert side == n if n <= WINDOW else side > WINDOW // 2


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (16, 16), (17, 33), (50, 19)])
def test_each_latent_is_decoded_once(size):
    found = np.zeros(size, int)
    for step, plan in enumerate(batches(*size, 8)):
        for batch in plan:
            assert batch.rows.shape == (len(batch.corners), len(batch.places))
            np.add.at(found, (batch.rows, batch.columns), 1)
            assert (groups(8)[batch.places] == step).all()
    assert (found == 1).all()


# ---- one text


def test_decoders_have_the_latents_of_the_encoder(codec):
    """Tiles of any size, latents of any."""
    rng = np.random.default_rng(0)
    for k, height in enumerate([*range(1, 20), 24, 33, 40]):
        width = (7 * height) % 40 + 1 if k % 3 else 1
        y = rng.normal(0, 3000, (height, width, codec.config.M)).astype(np.int16)
        writer = Writer()
        expected = codec.code(writer, y, y.shape[:2], 7 * k)
        reader = Reader(writer.payload(), 1)
        np.testing.assert_array_equal(codec.code(reader, None, y.shape[:2], 7 * k), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_sizes(codec, sample, channels):
    """Of pixels, too; faded and not."""
    for height in range(1, 41, 3):
        width = (17 * height) % 40 + 1
        pixels = sample[200 : 200 + height, 300 : 300 + width]
        pixels = np.ascontiguousarray(pixels if channels == 3 else pixels[:, :, 1])
        parts = codec.encode_tile(pixels, 60, Options())
        (plain,) = codec.decode_tiles([parts], 60, TileFormat(width, height, channels))
        assert plain.dtype == np.uint8 and plain.shape == pixels.shape
        format = TileFormat(width, height, channels, is_faded=True)
        (faded,) = codec.decode_tiles([parts], 60, format)
        assert faded.dtype == np.float32 and faded.shape == pixels.shape
        unit = 64 if channels == 3 else 192
        assert np.allclose(faded * unit, np.rint(faded * unit), atol=1e-2)
        assert np.abs(faded - plain).max() <= (0.5 if channels == 3 else 1)


def test_files(small, sample):
    """Tiles that overlap, several at once; grey."""
    for pixels, tile in ((sample[:150, :200], 64), (sample[:130, :70, 1], 64), (sample[:9, :300], 0)):  # fmt: skip
        data = ncodec.encode(pixels, 6.35, small, tile=tile)
        decoded = ncodec.decode(data, "numpy", small)
        assert decoded.shape == pixels.shape and psnr(pixels, decoded) > 26


# ---- the same file and pixels


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("variant", exact.variants())
def test_pixels_are_those_of_every_variant_and_thread(
    small, sample, monkeypatch, variant, n_threads
):
    """Encoder as well: the same file."""
    pixels = sample[100:229, 200:511]
    expected = ncodec.encode(pixels, 4.35, small)
    decoded = ncodec.decode(expected, "numpy", small)
    run, used = exact.Graph.run, set()

    def run_as(graph, feeds, wanted, threads=1):
        used.add(threads)
        return run(graph, feeds, wanted, threads, variant)

    monkeypatch.setattr(threads, "_chosen", n_threads)
    monkeypatch.setattr(exact.Graph, "run", run_as)
    assert ncodec.encode(pixels, 4.35, small) == expected
    assert np.array_equal(ncodec.decode(expected, "numpy", small), decoded)
    assert used == {n_threads}


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("is_faded", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_devices_decode_the_same_pixels(codec, sample, device, is_faded, channels):
    """By torch as by the executor; they encode the same, too."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    other = DeviceCodec(codec.tensors, codec.config, codec.skip_below, device)
    format = TileFormat(290, 33, channels, is_faded=is_faded)
    pixels = sample[:33, :290] if channels == 3 else sample[:33, :290, 0]
    parts = codec.encode_tile(pixels, 107, Options())
    assert other.encode_tile(pixels, 107, Options()) == parts
    (expected,) = codec.decode_tiles([parts], 107, format)
    (found,) = other.decode_tiles([parts], 107, format)
    assert found.dtype == expected.dtype == (np.float32 if is_faded else np.uint8)
    assert found.shape == format.shape and np.array_equal(found, expected)


# ---- integers against the float network


def float_result(network, pixels, quality):
    """Return 8-bit pixels and bytes of an image [H, W, 3] whose sides are multiples of 16."""
    x = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float() / 255
    out = recipe.estimate(network, x, torch.tensor([float(quality)]))
    x_hat = out.x_hat[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return x_hat, float(out.bits["y"]) / 8


@pytest.mark.parametrize("quality", [1, 3, 8])
def test_integers_are_the_network(passes, codec, quality):
    """One window, and several."""
    network, code = small_network(passes), 20 * (quality - 1)
    wide = np.concatenate([pixels_of(photo) for photo in photos()], 1)
    for pixels in (pixels_of(photos()[1]), wide[:64]):
        expected, size = float_result(network, pixels, quality)
        parts = codec.encode_tile(pixels, code, Options())
        (decoded,) = codec.decode_tiles([parts], code, TileFormat(*pixels.shape[1::-1], 3))
        assert psnr(expected, decoded) > 50
        assert abs(psnr(pixels, decoded) - psnr(pixels, expected)) < 0.02
        assert abs(len(parts[0][0]) - 5 - size) < ROUNDED * size  # 5: the coder's state


def test_one_pass_is_all_steps():
    """M2T: what is kept of latents is what their own step saw of those around, be windows of one size or not."""
    network, wide = small_network("m2t"), torch.cat(photos(), 2)
    q = torch.tensor([4.0])
    for image in (photos()[1], torch.cat([wide[:, :, :288]] * 3, 1)[:, :272]):
        with torch.no_grad():
            y = network.g_a(image[None].float() / 255, q).permute(0, 2, 3, 1)
            y_hat, bits = network.close(y, q)
            height, width = y.shape[1:3]
            total, usual = 0.0, (side_of(height), side_of(width))
            for batch in batches(height, width, 1)[0]:
                corners, n = torch.from_numpy(batch.corners), len(batch.corners)
                many = (part.expand(n, -1, -1, -1) for part in (y, y_hat))
                coded = network.code(*many, corners, batch.sides, q.expand(n), None, usual=usual)
                total += float(coded.bits.sum())
        assert total == pytest.approx(float(bits), rel=1e-5)


def test_estimates_are_files(sample):
    """Of what ships, on a picture with little in it."""
    network = recipe.from_weights(*weights.read(weights.find_by_name("masked-s"))[:2]).eval()
    pixels, codec = np.ascontiguousarray(sample[:160, :160]), load_by_name("masked-s").codec
    estimated = sum(float_result(network, pixels, quality)[1] for quality in (1, 4, 8))
    files = sum(len(codec.encode_tile(pixels, code, Options())[0][0]) - 5 for code in (0, 60, 140))
    assert files == pytest.approx(estimated, rel=0.02)


def test_every_part_matters(passes):
    """What this file holds against the integers is not what a transformer of zeros gives."""
    network, pixels = small_network(passes), pixels_of(photos()[0])
    size = float_result(network, pixels, 4)[1]
    for part in ("layers.0.o", "layers.1.o", "mode", "near", "content", "linear", "energy", "heads.1.own", "heads.2.around"):  # fmt: skip
        state = network.state_dict()
        state |= {name: 0 * tensor for name, tensor in state.items() if name.startswith(part)}
        without = recipe.build(network.config).eval()
        without.load_state_dict(state)
        assert float_result(without, pixels, 4)[1] != pytest.approx(size, rel=1e-5), part


def test_a_network_from_integers_is_the_same():
    """Its file says the same again, but for rounding; and the same picture."""
    passes = "m2t"
    network = small_network(passes)
    tensors, about = small_weights(passes)
    again = recipe.from_weights(tensors, about).eval()
    same, said = recipe.to_weights(again, photos())
    assert same.keys() == tensors.keys() and said["skip_below"] == about["skip_below"]
    assert said["config"] == about["config"]
    for name, tensor in same.items():
        expected = tensors[name].astype(float)
        assert tensor.dtype == tensors[name].dtype
        assert name == "tables.r" or tensor.shape == expected.shape
        is_fine = not name.endswith((".bias", ".shift")) and name != "tables.r"
        if said["fraction_bits"] == about["fraction_bits"] and is_fine:
            rows = np.abs(expected).max(tuple(range(1, expected.ndim)) or 0, keepdims=True)
            near = np.abs(tensor - expected) <= 1 + rows / 512
            assert near.mean() > 0.98, name
    for quality in (1, 8):
        pixels = pixels_of(photos()[0])
        expected, size = float_result(network, pixels, quality)
        found, other = float_result(again, pixels, quality)
        assert psnr(expected, found) > 50 and other == pytest.approx(size, rel=0.005)


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
        if operation.kind == "join":
            columns += places[operation.inputs[1]][1]
        places[number] = rows, columns
        if operation.kind in ("conv", "depthwise"):
            total += rows * columns * operation.arrays[0].size
        elif operation.kind == "attention":
            keys = places[operation.inputs[1]][1]
            total += 2 * rows * columns * keys * operation.channels
    return total


def test_kmac_per_pixel_is_what_graphs_do(codec, passes, monkeypatch):
    """Of four whole windows; the null token's pass does not grow with them."""
    run, counted = exact.Graph.run, []

    def counting(graph, feeds, wanted, *more):
        if passes == "mt" or graph is not codec._transformer.null.graph:
            counted.append(macs_of(graph, feeds, wanted))
        return run(graph, feeds, wanted, *more)

    parts = codec.encode_tile(np.zeros((512, 512, 3), np.uint8), 60, Options())
    monkeypatch.setattr(exact.Graph, "run", counting)
    codec.decode_tiles([parts], 60, TileFormat(512, 512, 3))
    found = recipe.kmac_per_pixel(*small_weights(passes))
    assert sum(counted) / 512**2 / 1000 == pytest.approx(found, rel=1e-12)


def test_diagnosis_speaks_of_files(codec):
    x = torch.stack(photos()[:2])
    found = diagnose(codec, x, 5)
    sizes = [len(codec.encode_tile(pixels_of(photo), 80, Options())[0][0]) for photo in x]
    assert found.bpp == pytest.approx(8 * sum(sizes) / x[:, 0].numel())
    assert 20 < found.psnr < 60 and 0 <= found.coded_percent <= 100
    places = np.bincount(groups(codec.config.steps)[[16 * i + j for i in range(8) for j in range(12)]])  # fmt: skip
    assert found.first_step_bits > 0 and found.last_step_bits > 0 and len(places) == 4
    least = min(found.first_step_bits, found.last_step_bits) * 96
    assert least < 8 * np.mean(sizes)
    assert 0 < found.first_slice_percent < 100 and found.tables_percent > -1


# ---- training


@pytest.fixture
def folder(tmp_path, sample):
    """Four pictures to train on, and one apart."""
    for i in range(5):
        path = tmp_path / ("data" if i < 4 else "validation")
        path.mkdir(exist_ok=True)
        Image.fromarray(sample[80 * i : 80 * i + 96, 140 * i : 140 * i + 112]).save(path / f"{i}.png")  # fmt: skip
    return tmp_path / "data"


def of_its_own(network, images):
    """Lessons of a network's own latents, whose mean is 0."""

    @torch.no_grad()
    def of(x, q):
        y = network.g_a(x, q).permute(0, 2, 3, 1).mul(2**LATENT_BITS).round().short()
        return Lesson(
            y,
            y,
            0 * y,
            torch.full_like(y, 20, dtype=torch.uint8),
            torch.ones_like(y[:, 0, 0]).float(),
        )

    return Lessons(of, 0.5)


def test_training_by_its_command(passes, folder, tmp_path, monkeypatch):
    """A few steps with lessons and without, exported, checked: files are what the float network says."""
    monkeypatch.setattr(recipe, "start", lambda config, images: initialised(config))
    monkeypatch.setattr(recipe, "lessons", of_its_own)
    learned, seen = Masked._learn, []
    monkeypatch.setattr(Masked, "_learn", lambda *args: seen.append(args[-1]) or learned(*args))
    config, out = tmp_path / "tiny.toml", tmp_path / "run"
    sizes = "\n".join(f"{name} = {list(size) if name == 'slices' else size}" for name, size in SMALL.items())  # fmt: skip
    config.write_text(
        f'family = "masked"\n[model]\npasses = "{passes}"\n{sizes}\n'
        "[training]\nbatch = 2\ncrop = 96\nlearning_rate = 1e-4\n"
    )
    words = ["ncodec", "train", config, "--data", folder, "--out", out]
    words += ["--validation", tmp_path / "validation"]
    words += ["--device", "cpu", "--steps", 4]
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    main()
    assert seen[-2:] == [1.0, pytest.approx(1 - 0.25 / LESSONS_SHARE)]  # after a rehearsal
    check = json.loads((out / "check.json").read_text())
    for file, trained in zip(check["files"], check["float"], strict=True):
        assert abs(file["psnr"] - trained["psnr"]) < 0.1
        assert file["bpp"] == pytest.approx(trained["bpp"], rel=0.15)  # headers
    model = out / "model.safetensors"
    pixels = pixels_of(photos()[0])
    assert psnr(pixels, ncodec.decode(ncodec.encode(pixels, 8, model), "numpy", model)) > 25


def test_start_takes_the_trunk(monkeypatch):
    """Latents of hyperprior-s in another order, and its pixels; a transformer that expects 0."""
    monkeypatch.setattr(priors, "fit_to_tables", lambda *_: None)  # takes its time
    config = recipe.Config()
    trunk = hyperprior.from_weights(*weights.read(weights.find_start("hyperprior-s"))[:2])
    network = recipe.start(config, photos()[:1])
    x, q = photos()[0][None].float() / 255, torch.tensor([4.0])
    with torch.no_grad():
        y, theirs = network.g_a(x, q), trunk.g_a(x, q)
        torch.testing.assert_close(
            y.flatten(1).sort().values, theirs.flatten(1).sort().values, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(network.g_s(y, q), trunk.g_s(theirs, q), atol=1e-4, rtol=1e-4)
    cost = y[0].square().mean((1, 2)).sqrt()
    ends = [int(end) for end in np.cumsum(config.slices)]
    assert cost[: ends[0]].mean() > 5 * cost[ends[-2] :].mean()  # dearest first
    assert psnr(*(pixels_of(p) for p in (photos()[0], network.estimate(x, q).x_hat[0].clamp(0, 1).mul(255).byte()))) > 30  # fmt: skip
    with pytest.raises(InputError, match="N: expected 128, that of hyperprior-s, found 64"):
        recipe.start(replace(config, N=64), photos()[:1])


def test_configs(small, passes, tmp_path, monkeypatch):
    """What ships has the defaults; a run may start from weights of its config, whose slices are an array."""
    assert read_config("masked-s").model == recipe.Config()
    monkeypatch.setattr(priors, "fit_to_tables", lambda *_: None)
    sizes = "\n".join(f"{name} = {json.dumps(size)}" for name, size in SMALL.items())
    config = tmp_path / "small.toml"
    config.write_text(f'family = "masked"\n[model]\npasses = "{passes}"\n{sizes}\n')
    network, said = read_network(read_config(config), small)
    assert network.config == small_network(passes).config and said["weights"] == "small"
    with pytest.raises(InputError, match="start from the config's model"):
        read_network(read_config(config, ["model.slices=[12, 12]"]), small)
    with pytest.raises(InputError, match="slices: expected at most 16, together 24"):
        read_config(config, ["model.slices=[12]"])
    with pytest.raises(InputError, match="slices: expected tuple, found 24"):
        read_config(config, ["model.slices=24"])


def test_lessons_are_what_hyperprior_says(monkeypatch):
    """Latents, means and rows as in its files, channels in the transformer's order, wherever the run begins; costs as pixels have them."""
    monkeypatch.setattr(priors, "fit_to_tables", lambda *_: None)
    image = photos()[0][:, :96, :64]
    network = recipe.start(recipe.Config(), [image])
    codec = load_by_name("hyperprior-s-psnr", "cpu").codec
    tutor = recipe.lessons(network, [image]).of.__self__
    tutor.coded_from = codec.skip_below
    lesson = tutor.lesson(image[None] / 255, torch.tensor([4.0]))
    x = image_input(pixels_of(image))
    y, z = codec._run(codec._analysis, quality_code(4), "y", "z", x=x)
    row, y_hat = codec._run(codec._closing, quality_code(4), "indexes", "y_hat", y=y, z=z)
    unit = 2.0 ** -codec.fraction_bits["y"]
    theirs = {"y": y * unit, "y_hat": y_hat * unit, "row": row}
    for name, found in lesson._asdict().items():
        if name in theirs:
            scale = 1 if name == "row" else 2.0**-LATENT_BITS
            error = (
                found[0].double().numpy() * scale - theirs[name].reshape(6, 4, -1)[..., tutor.order]
            )
            assert np.abs(error).mean() < (0.2 if name == "row" else 0.01), name
    gain = at_quality(network.log_gain, torch.tensor([4.0])).exp().flatten(1)
    shrunk = (lesson.y_hat - lesson.mean) * 2.0**-LATENT_BITS * gain
    shrunk /= (
        at_quality(tutor.teacher.log_shrink[:, tutor.order], torch.tensor([4.0])).exp().flatten(1)
    )
    assert (shrunk - shrunk.round()).abs().mean() < 0.05  # residuals in whole steps
    # an error of one channel, in pixels
    latents = lesson.y_hat[0].permute(2, 0, 1)[None] * 2.0**-LATENT_BITS
    q, step = torch.tensor([4.0]), 0.01
    for channel in (0, 5):
        wrong = latents.clone()
        wrong[:, channel] += step * torch.randn(
            latents.shape[2:], generator=torch.Generator().manual_seed(0)
        )
        with torch.no_grad():
            error = (network.g_s(wrong, q) - network.g_s(latents, q)).square().sum()
        expected = lmbda_at_quality(q) * 255**2 / 3 * error / (wrong - latents).square().sum()
        assert float(lesson.cost[0, channel]) == pytest.approx(float(expected), rel=0.5)
    odd = tutor.lesson(image[None, :, :80, :48] / 255, q)  # latents of which z has a half too many
    torch.testing.assert_close(odd.y[:, :3, :2], lesson.y[:, :3, :2], rtol=0, atol=2)
    assert odd.row.shape == (1, 5, 3, 320)
    again = recipe.lessons(network, [image]).of.__self__  # as a resumed run has them
    assert torch.equal(again.log_cost, tutor.log_cost)
    network.g_a.linear.weight.data.add_(1)
    assert recipe.lessons(network, [image]) is None
    assert recipe.lessons(initialised(recipe.Config(**SMALL)), [image]) is None


def test_opinions_cost_what_tables_lose():
    """Bits more a residual when its row, or its mean, is a little beside; for rows that are neither the first nor the last."""
    prior = priors.ScaleMixture().requires_grad_(False)
    of_row, of_mean = cost_of_opinions(prior)
    r = torch.arange(-300.0, 301)
    for row in (20.0, 35.0, 50.0):
        p = prior.likelihood(r, torch.tensor(row))
        other = prior.likelihood(r, torch.tensor(row + 0.2))
        lost = float((p * (p / other).log2()).sum()) / 0.2**2
        assert float(of_row[int(row)]) == pytest.approx(lost, rel=0.15)
        other = prior.likelihood(r + 0.1, torch.tensor(row))
        lost = float((p * (p / other).log2()).sum()) / 0.1**2
        assert float(of_mean[int(row)]) == pytest.approx(lost, rel=0.15)


def test_steps_lower_the_loss(passes):
    """Gradients reach every parameter that is to learn."""
    torch.manual_seed(0)
    network = initialised(recipe.Config(passes=passes, **SMALL)).train()
    groups_of = recipe.parameter_groups(network)
    learning = [p for _, part in [*groups_of.matrices, *groups_of.others] for p in part]
    assert {id(p) for p in learning} == {id(p) for p in network.parameters() if p.requires_grad}
    assert not any(p.requires_grad for p in network.g_a.parameters())
    x, q = photos()[0][None].float() / 255, torch.tensor([4.0])
    noise, losses = [torch.Generator().manual_seed(0)], []
    optimizer, reached = torch.optim.Adam(learning, 1e-3), set()
    for step in range(40):
        out = network(x, q, noise)
        loss = 3000 * (out.x_hat - x).square().mean() + out.bits["y"].sum() / x[0, 0].numel()
        optimizer.zero_grad()
        loss.backward()
        reached |= {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
        optimizer.step()
        if step in (0, 39):
            now = network.estimate(x, q)
            error = (now.x_hat - x).square().mean()
            losses.append(float(3000 * error + now.bits["y"] / x[0, 0].numel()))
    assert losses[1] < losses[0]
    still = {n for n, p in network.named_parameters() if p.requires_grad} - reached
    # keys of all that attends to one token only, or, in MT, no token at all
    assert still <= ({"null"} if passes == "mt" else set()), still


# ---- files and weights that are not right


def test_r_beyond_the_networks(codec):
    """A residual of 32768, in the last step."""
    y = np.zeros((2, 3, codec.config.M), np.int16)

    class Hostile(Writer):
        def code_steps(self, *_):
            return self

        def code(self, symbols, indexes):
            return np.where(indexes >= 0, self.value, 0).astype(np.int32)

        def finish(self):
            pass

    for value in (32767, -32767, 32768, -32768, 2**31 - 1, -(2**31)):
        writer = Hostile()
        writer.value = value
        if abs(value) == 32767:
            codec.code(writer, y, (2, 3), 60)
            continue
        with pytest.raises(CorruptPayloadError, match=r"section 'y': expected \|r\| <= 32767, found"):  # fmt: skip
            codec.code(writer, y, (2, 3), 60)


def test_hostile_payloads(codec):
    """Any change ends in an error about the payload, or in pixels: never in another error."""
    pixels, rng = pixels_of(photos()[0])[:48, :80], np.random.default_rng(0)
    payload, outcomes = codec.encode_tile(pixels, 60, Options())[0][0], []
    format = TileFormat(80, 48, 3)
    for _ in range(150):
        data = damaged(payload, rng)
        try:
            (found,) = codec.decode_tiles([[[data]]], 60, format)
            assert found.shape == pixels.shape
            outcomes.append(True)
        except FormatError as error:
            assert "section 'y'" in str(error)
            outcomes.append(False)
    assert sum(outcomes) < 20 and not all(outcomes)


def test_hostile_weights(passes, sample, tmp_path):
    """Any change ends in an error about the weights, or in a model that codes: never in another error."""
    pixels = sample[100:133, 200:250]
    outcomes = outcomes_of_mutations(*small_weights(passes), pixels, tmp_path, 100)
    assert 5 < sum(outcomes) < 85, sum(outcomes)


def test_options(small, sample):
    with pytest.raises(InputError, match="no option 'effort'"):
        ncodec.encode(sample[:16, :16], 4, small, effort=2)
    with pytest.raises(InputError, match="tune: expected psnr, found 'x'"):
        ncodec.encode(sample[:16, :16], 4, small, tune="x")
    assert load_by_name(small).codec.layout(60, Options()) == (1, 1)
