"""Checkpoints of CompressAI: its forward pass in our layers, files by our coder, errors that say what was found."""

import math
import re
import zipfile

import numpy as np
import pytest
import torch
from command import ncodec
from PIL import Image as PillowImage
from safetensors.torch import save_file
from small_compressai import M, N, random_state

from ncodec.errors import (
    CorruptPayloadError,
    FormatError,
    InputError,
    UnknownModelError,
    WeightsMismatchError,
)
from ncodec.evaluation import Image, codec_name, parse_codec, rd_curve, read_curves
from ncodec.evaluation.report import to_html
from ncodec.models.compressai import FileCodec, Network, gaussian_mass, load

# Of CompressAI 1.2.8 with `random_state`, on `photograph`: bits of y and z by its likelihoods, mean and deviation of x_hat.
FIGURES = {
    "bmshj2018-factorized": [9206.15, 0.502375, 0.284332],
    "bmshj2018-factorized-relu": [8738.62, 0.472261, 0.125326],
    "bmshj2018-hyperprior": [7522.54, 517.36, 0.426383, 0.197106],
    "mbt2018-mean": [7299.34, 425.49, 0.426306, 0.195864],
}
NAMES = list(FIGURES)


@pytest.fixture(scope="module")
def photograph(sample) -> np.ndarray:
    return sample[100:228, 200:456]


def old_names(state, pattern):
    """Return a state dict as other versions of CompressAI name the densities' tensors: `_matrix{}`, `_matrices.{}`."""
    single = {"matrices": "matrix", "biases": "bias", "factors": "factor"}

    def renamed(match):
        return f"entropy_bottleneck._{single[match[1]] if pattern == 'single' else match[1]}{'.' if pattern == 'list' else ''}{match[2]}"

    return {re.sub(r"entropy_bottleneck\.(\w+)\.(\d)", renamed, k): v for k, v in state.items()}


def network_of(name) -> Network:
    network = Network(name, N, M)
    network.load_state_dict(random_state(name))
    return network.eval()


@torch.inference_mode()
def forward(network, pixels):
    """Return x_hat, not clamped, and the bits of y and z by the densities: the forward pass, with no coder in it."""
    densities = network.entropy_bottleneck

    def by_density(v):
        v_hat = (v - densities.medians).round() + densities.medians
        return v_hat, densities.mass(v_hat.reshape(v.shape[1], 1, -1))

    x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255
    y = network.g_a(x)
    if not network.has_z:
        y_hat, *p = by_density(y)
    else:
        z_hat, p_z = by_density(network.h_a(y if network.has_means else y.abs()))
        scales, means = network.gaussian(z_hat)
        y_hat = (y - means).round() + means
        p = [gaussian_mass(y_hat - means, scales), p_z]
    return network.g_s(y_hat), [-values.clamp_min(1e-9).log2().sum().item() for values in p]


@pytest.mark.parametrize("name", NAMES)
def test_forward_pass_is_compressais_and_files_are_what_it_estimates(name, photograph):
    network = network_of(name)
    x_hat, bits = forward(network, photograph)
    *expected_bits, mean, deviation = FIGURES[name]
    assert [x_hat.mean().item(), x_hat.std().item()] == pytest.approx([mean, deviation], abs=1e-5)
    assert bits == pytest.approx(expected_bits, 2e-3)  # it takes the upper tails as 1 - (1 - p)
    codec = FileCodec(network)
    data = codec.encode(photograph)
    assert abs(len(data) * 8 / sum(bits) - 1) < 0.03
    expected = (x_hat[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    assert (codec.decode(data, photograph.shape[:2]) == expected).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (33, 65), (64, 64)])
def test_any_size(name, size, photograph):
    """Images lie in the middle of zeros, as CompressAI's evaluation has them."""
    pixels, codec = photograph[: size[0], : size[1]], FileCodec(network_of(name))
    sides = [-(-side // 64) * 64 for side in size]
    top, left = ((side - inner) // 2 for side, inner in zip(sides, size, strict=True))
    padded = np.zeros((*sides, 3), np.uint8)
    padded[top : top + size[0], left : left + size[1]] = pixels
    whole = codec.decode(codec.encode(padded), tuple(sides))
    found = codec.decode(codec.encode(pixels), size)
    assert (found == whole[top : top + size[0], left : left + size[1]]).all()


def test_forms_of_checkpoints(tmp_path):
    """Every name that CompressAI's versions use, and every wrapping, give the same network."""
    state = random_state("mbt2018-mean")
    tables = {"gaussian_conditional.scale_table": torch.ones(64), "g_a.1.beta_reparam.pedestal": torch.ones(1),
              "entropy_bottleneck._quantized_cdf": torch.ones(8, 9, dtype=torch.int32), "entropy_bottleneck.target": torch.ones(3),
              "entropy_bottleneck.likelihood_lower_bound.bound": torch.ones(1), "gaussian_conditional._offset": torch.ones(0)}  # fmt: skip
    forms = {
        "a.pth.tar": {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in old_names(state | tables, "single").items()}},
        "b.pt": old_names(state | tables, "list"),
        "c.pth": {"network": state},
    }  # fmt: skip
    for file, form in forms.items():
        torch.save(form, tmp_path / file)
    save_file(state, tmp_path / "d.safetensors")
    for file in [*forms, "d.safetensors"]:
        network = load(tmp_path / file)
        assert (network.name, network.N, network.M) == ("mbt2018-mean", N, M)
        assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def changed(name, drop="", **more):
    state = {k: v for k, v in random_state(name).items() if not (drop and k.startswith(drop))}
    return state | {k.replace("__", "."): v for k, v in more.items()}


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"PK\x03\x04 and no more", InputError, "not a checkpoint that loads as data alone"),
        ({"epoch": 3, "loss": 0.1}, InputError, "expected a state dict, found dict of epoch, loss"),
        (7, InputError, "expected a state dict, found int"),
        (changed("mbt2018-mean", context_prediction__weight=torch.ones(24, M, 5, 5)), UnknownModelError,
         "expected bmshj2018-factorized.* or mbt2018-mean, found context_prediction: an autoregressive one"),
        ({"g_a.0.conv1.weight": torch.ones(8, 3, 3, 3), "h_a.0.weight": torch.ones(8, 8, 3, 3)}, UnknownModelError,
         "found modules g_a, h_a without convolutions g_a.0 and g_a.6"),
        (changed("bmshj2018-hyperprior", Gain=torch.ones(8)), UnknownModelError, "found bmshj2018-hyperprior and besides Gain"),
        (changed("mbt2018-mean", "g_s.3."), WeightsMismatchError, "mbt2018-mean lacks 2 tensors: g_s.3.beta, g_s.3.gamma"),
        (changed("mbt2018-mean", "h_s.4."), WeightsMismatchError, "lacks 2 tensors: h_s.4.bias, h_s.4.weight"),
        (changed("bmshj2018-factorized", g_a__2__weight=torch.ones(8, 8, 3, 3)), WeightsMismatchError,
         r"g_a.2.weight: expected \[8, 8, 5, 5\] of bmshj2018-factorized with N=8, M=12, found \[8, 8, 3, 3\]"),
        (changed("bmshj2018-factorized", g_s__6__bias=torch.tensor([0, math.nan, 0])), WeightsMismatchError, "g_s.6.bias: expected finite"),
    ],
)  # fmt: skip
def test_what_is_no_such_checkpoint(content, error, message, tmp_path):
    path = tmp_path / "a.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(error, match=rf"^{re.escape(str(path))}: .*{message}"):
        load(path)


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save(Network("bmshj2018-factorized", N, M), tmp_path / "a.pth")  # a pickled object
    with pytest.raises(InputError, match=r"data alone \(holds more than tensors, or is damaged\)$"):
        load(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        (torch.ones(N, 3, 5, 5).to_sparse(), "a dense tensor of floats, found sparse_coo, cpu, float32"),
        (torch.ones(2**40, 3, 5, 5, device="meta"), "a dense tensor of floats, found strided, meta, float32"),
        (torch.ones(N, 3, 5, 5, dtype=torch.complex64), "a dense tensor of floats, found strided, cpu, complex64"),
        (torch.ones(N, 3, 5, 5, dtype=torch.int8), "a dense tensor of floats, found strided, cpu, int8"),
        (torch.ones(()).expand(2**40, 3, 5, 5), r"what a file of \d+ bytes holds, found \[1099511627776, 3, 5, 5\]"),
        (torch.ones(2**40, 0, 5, 5), r"what a file of \d+ bytes holds, found \[1099511627776, 0, 5, 5\]"),
        (torch.ones(2**20, 1, 1, 1), r"expected \[1048576, 3, 5, 5\] of .*, found \[1048576, 1, 1, 1\]"),  # would be N² of 25
    ],
)  # fmt: skip
def test_tensors_that_are_not_weights(weight, found, tmp_path):
    """Refused ahead of any arithmetic, by name: nothing of the size that they claim is ever made."""
    torch.save(changed("mbt2018-mean", g_a__0__weight=weight), tmp_path / "a.pth")
    with pytest.raises(
        (InputError, WeightsMismatchError), match=rf"a\.pth: g_a\.0\.weight: .*{found}"
    ):
        load(tmp_path / "a.pth")


def test_zip_files_that_inflate(tmp_path):
    torch.save(random_state("mbt2018-mean"), tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as stored, zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed:  # fmt: skip
        for entry in stored.namelist():
            packed.writestr(entry, stored.read(entry))
    with pytest.raises(InputError, match="entries are compressed or overlap"):
        load(tmp_path / "b.pth")


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_end_in_errors_of_ours_or_in_pixels(name, photograph):
    codec, rng = FileCodec(network_of(name)), np.random.default_rng(0)
    data, shape = codec.encode(photograph), photograph.shape
    for length in (0, 1, 2, 3, len(data) // 2, len(data) - 1):
        with pytest.raises(FormatError):
            codec.decode(data[:length], shape[:2])
    with pytest.raises(CorruptPayloadError, match="expected 64x64, found 256x128"):
        codec.decode(data, (64, 64))
    for at in rng.integers(0, len(data), 30):
        broken = bytearray(data)
        broken[at] ^= 1 << rng.integers(8)
        try:
            assert codec.decode(bytes(broken), shape[:2]).shape == shape
        except FormatError:
            pass


def test_latents_that_no_coder_takes(photograph):
    network = network_of("mbt2018-mean")
    with torch.no_grad():
        network.h_a[4].bias.fill_(1e9)
    with pytest.raises(InputError, match="section 'z': latents are not finite, or beyond 16777216"):
        FileCodec(network).encode(photograph)


def test_a_folder_is_a_curve(photograph, tmp_path):
    """Qualities are files by the numbers in their names; the command says what its files are not."""
    for file, name in (
        ("l=0.013.pt", "mbt2018-mean"),
        ("l=0.0067.pth.tar", "bmshj2018-factorized"),
    ):
        torch.save(random_state(name), tmp_path / file)
    (tmp_path / "notes.txt").write_text("not one")
    PillowImage.fromarray(photograph[:64, :64]).save(tmp_path / "a.png")
    name = f"compressai:{tmp_path}"
    done = ncodec("eval", tmp_path / "a.png", "--codec", name, "--no-cache", "--report", tmp_path / "r.json")  # fmt: skip
    note = f"{name}: float32: files decode in the process that wrote them, and need not elsewhere"
    assert note in done.err
    (curve,) = read_curves(tmp_path / "r.json")
    assert sorted(curve.points["asked"]) == ["1", "2"]
    first = curve.about["versions"]["quality 1"]
    assert first.startswith("l=0.0067.pth.tar (bmshj2018-factorized, N=8, M=12, ")
    html = to_html([curve], [], [])
    assert "note: float32: files decode" in html and first in html


def test_a_checkpoint_that_does_not_load_is_a_gap(photograph, tmp_path):
    (tmp_path / "q1.pth").write_bytes(b"damaged")
    torch.save(random_state("mbt2018-mean"), tmp_path / "q2.pth")
    curve = rd_curve(f"compressai:{tmp_path}", [Image("a", photograph[:64, :64])])
    assert list(curve.points["asked"]) == ["2"]
    assert curve.about["versions"]["quality 1"] == "q1.pth (does not load)"
    (gap,) = curve.failures
    assert gap["asked"] == "1" and "q1.pth: not a checkpoint" in gap["message"]
    (tmp_path / "q2.pth").unlink()
    with pytest.raises(InputError, match="not a checkpoint"):
        rd_curve(f"compressai:{tmp_path}", [Image("a", photograph[:64, :64])])


def test_names(tmp_path):
    for file in ("a.pth", "l=2.pth", "b,.pth", ".c.pth", "runs.tar", "d.pth.tar"):
        (tmp_path / file).touch()
    name = f"compressai:{tmp_path}/l=2.pth,{tmp_path}/a.pth"
    codec = parse_codec(name)
    assert codec_name(codec) == name and [path.name for path in codec.files] == ["l=2.pth", "a.pth"]
    assert codec.QUALITIES == (1, 2) and codec.BEST == 2
    in_folder = [path.name for path in parse_codec(f"compressai:{tmp_path}").files]
    assert in_folder == ["a.pth", "b,.pth", "d.pth.tar", "l=2.pth"]
    assert len(parse_codec(f"compressai:{tmp_path}/b,.pth").files) == 1
    with pytest.raises(InputError, match="expected names with commas between, found an empty one"):
        parse_codec(f"compressai:{tmp_path}/a.pth,")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"expected files \.pth, .*, found none"):
        parse_codec(f"compressai:{tmp_path}/empty")
    with pytest.raises(InputError, match="expected a file, a folder or option=…, found 'modl=x'"):
        parse_codec("compressai:modl=x")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own
@pytest.mark.parametrize("name", NAMES)
def test_against_the_package(name, photograph, tmp_path):
    """Weights written by CompressAI's own models: x_hat, likelihoods and bytes of its forward pass and its coder."""
    try:
        parse_codec("compressai").versions()
    except InputError as error:
        pytest.skip(str(error))
    from compressai import models

    kind = {
        "bmshj2018-factorized": models.FactorizedPrior, "bmshj2018-factorized-relu": models.FactorizedPriorReLU,
        "bmshj2018-hyperprior": models.ScaleHyperprior, "mbt2018-mean": models.MeanScaleHyperprior,
    }[name]  # fmt: skip
    theirs = kind(N, M).eval()
    theirs.load_state_dict(theirs.state_dict() | random_state(name))
    theirs.update(force=True, update_quantiles=True)
    torch.save(theirs.state_dict(), tmp_path / "a.pth.tar")
    network = load(tmp_path / "a.pth.tar")
    assert network.name == name
    x_hat, bits = forward(network, photograph)
    x = torch.from_numpy(np.array(photograph)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        out = theirs(x)
        strings = theirs.compress(x)["strings"]
    estimates = [-p.log2().sum().item() for p in out["likelihoods"].values()]
    assert (x_hat - out["x_hat"]).abs().max() < 1e-4 and bits == pytest.approx(estimates, 2e-3)
    ours = len(FileCodec(network).encode(photograph))
    print(
        f"{name}: {sum(estimates) / 8:.0f} estimated, {ours} ours, {sum(len(string) for (string,) in strings)} theirs"
    )
    assert abs(ours - sum(len(string) for (string,) in strings)) < 0.02 * ours + 40
