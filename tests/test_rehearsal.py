"""What a training run does ahead of its first step, and on a machine that is there for half an hour."""

import json
import subprocess
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import typer
from conftest import SAMPLE
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ncodec.errors import InputError
from ncodec.training import once, rehearsal, report
from ncodec.training.checkpoint import SHARD_BYTES
from ncodec.training.config import read_config
from ncodec.training.data import ImageStore, load_images
from ncodec.training.loop import draw_batch, gradients
from ncodec.training.loss import rate_distortion_loss
from ncodec.training.rehearsal import Rehearsal, peak_flops, rehearse
from ncodec.training.run import Budget, start_run

CPU = torch.device("cpu")
TINY = """
family = "hyperprior"
model = {N = 16, M = 48, Z = 8, H = 16, S = 16, analysis_blocks = 1, synthesis_blocks = 1, context_steps = 2}
training = {batch = 2, crop = 64, learning_rate = 1e-2}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    for i in range(3):
        Image.open(SAMPLE).crop((100 * i, 60, 100 * i + 96, 156)).save(path / f"{i}.png")
    return path


class Restless(nn.Module):
    """A network that changes with every step, and draws random numbers."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Conv2d(8, 16, 1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.register_buffer("steps", torch.zeros(()))

    def loss(self, x):
        self.steps += 1
        torch.rand(3)
        loss = self.depthwise(self.dense(x)).square().mean()
        loss.backward()
        return loss.detach()


def test_a_rehearsal_counts_and_leaves_everything_as_it_was():
    """Also depthwise convolutions' gradients, which are not dense ones'; of the input there are none."""
    network, x = Restless(), torch.ones(2, 8, 12, 12)
    before, random = network.state_dict()["dense.weight"].clone(), torch.get_rng_state()
    found = rehearse(network, lambda: network.loss(x), CPU, is_compiled=False)
    places = 2 * 12 * 12
    assert found.flops == 2 * places * 8 * 16 * 2 + 2 * places * 16 * 9 * 3
    assert found.seconds > 0 and found.memory_bytes is None and not found.is_compiled
    assert network.steps == 0 and torch.equal(network.dense.weight, before)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    with pytest.raises(InputError, match=r"expected a finite loss, .* \(loss nan\)"):
        rehearse(network, lambda: network.loss(x * torch.nan), CPU, is_compiled=False)


def broken(graph, inputs):
    raise RuntimeError("no such\ncompiler")


def wrong(graph, inputs):
    return lambda *arguments: tuple(3 * part for part in graph(*arguments))


@pytest.mark.parametrize("backend", ["aot_eager", broken, wrong])
def test_compiled_in_place_or_not_at_all(tiny, folder, backend, monkeypatch, capsys):
    """Names of weights, loss and gradients are as before; what fails, or computes something else, is said in a line."""
    torch._dynamo.reset()
    images = load_images([folder], 64).pixels
    config = read_config(tiny, ["training.bfloat16=false"])
    run = start_run(config, Budget(None, 9), CPU, images)
    with torch.no_grad():  # nothing silent
        for parameter in run.network.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    store = ImageStore(images, CPU)

    def once():
        return gradients(run, run.network, *draw_batch(store, config.training, 0, 0, 1), 0.0)[0]

    def all_of_it():
        loss, network = once(), run.network
        return {"loss": loss} | {n: p.grad for n, p in network.named_parameters()}

    expected, names = all_of_it(), list(run.network.state_dict())
    monkeypatch.setattr(rehearsal, "COMPILER", backend)
    torch._dynamo.utils.counters.clear()
    found = rehearse(run.network, once, CPU, is_compiled=True)
    assert found.is_compiled == (backend == "aot_eager")
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert backend == broken or graphs >= 6  # the network's parts
    said = capsys.readouterr().err
    reason = {broken: "no such compiler", wrong: "(expected a loss of"}.get(backend, "")
    assert said.count("\n") == bool(reason) and reason in said
    assert list(run.network.state_dict()) == names
    for name, value in all_of_it().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5, msg=name)


def test_bfloat16_needs_no_gradient_scaling(tiny, folder):
    """A loss 2^16 times as large has gradients 2^16 times as large, to the bit: nothing underflows that scaling would save."""
    images = load_images([folder], 64).pixels
    config = read_config(tiny)
    run = start_run(config, Budget(None, 9), CPU, images)
    store, found = ImageStore(images, CPU), []
    for scale in (1, 2**16):
        x, q, noise = draw_batch(store, config.training, 0, 0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            out = run.network(x, q, noise, 0.0)
            loss, _ = rate_distortion_loss(out, x, q, config.objective)
        run.network.zero_grad()
        (loss * scale).backward()
        named = run.network.named_parameters()
        found.append({name: p.grad.clone() / scale for name, p in named if p.grad is not None})
    assert all(torch.equal(gradient, found[1][name]) for name, gradient in found[0].items())
    assert sum(gradient.count_nonzero() for gradient in found[0].values()) > 10_000


def test_peaks_by_name(monkeypatch):
    names = {
        "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H200": 989e12,
        "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA L4": None,
    }  # fmt: skip
    for name, peak in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(torch.device("cuda:0")) == peak
    assert peak_flops(CPU) is None


@pytest.mark.parametrize("peak", [1e12, None])
def test_log_has_flops_a_second_and_their_share_of_the_peak(peak, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "peak_flops", lambda device: peak)
    monkeypatch.setattr(report, "LOG_EVERY_S", 0.0)
    options = SimpleNamespace(batch=4)
    run = SimpleNamespace(
        device=CPU, step=7, elapsed_s=1.0, skipped=0, progress=0.5, config=SimpleNamespace(training=options)
    )  # fmt: skip
    with report.Log(tmp_path / "log.jsonl") as log:
        log.rehearsal(run, Rehearsal(0.5, 2_000_000_000, 0.01, None, False), world=2)
        log.step(run, {"loss": torch.tensor(1.0), "mse": torch.tensor(0.1)})
    first, second = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert first["flops"] == 4_000_000_000 and first["tflops_per_s"] == pytest.approx(0.4)
    speed = second["images_per_s"] / 4 * 4e9 / 1e12
    assert second["tflops_per_s"] == pytest.approx(speed)
    if peak is None:
        assert "mfu" not in first and "mfu" not in second
    else:
        assert first["mfu"] == pytest.approx(0.2) and second["mfu"] == pytest.approx(speed / 2)


def test_of_crops_only_random_numbers_are_copied_to_a_device(folder):
    """In one piece; the images are there."""
    copies = Counter()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            options = options or {}
            if function is torch.ops.aten._to_copy.default and "device" in options:
                copies[arguments[0].device.type, str(options["device"])] += 1
            return function(*arguments, **options)

    store = ImageStore(load_images([folder], 64).pixels, CPU)
    store.buffer, store.device = store.buffer.to("meta"), torch.device("meta")  # as if on a GPU
    with Watch():
        crops = store.random_crops(64, np.random.default_rng(0), 4, slice(4))
    assert crops.shape == (4, 3, 64, 64) and crops.is_meta
    assert copies == {("cpu", "meta"): 1}


def test_once_leaves_all_there_is_to_carry_away(tiny, folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "run"
    train = once.train
    monkeypatch.setattr(once, "train", lambda *a: train(*a[:7], 0.0, *a[8:]))  # saves each step
    options = {"minutes": 0.01, "out": out, "validation": [folder.parent / "watched"]}
    (folder.parent / "watched").mkdir(exist_ok=True)
    Image.open(SAMPLE).crop((0, 0, 64, 64)).save(folder.parent / "watched" / "a.png")
    once.main(str(tiny), [folder], **options)
    found = json.loads((out / "summary.json").read_text())
    assert found["ended"] == "finished" and found["device"] == "cpu" and found["gpu_tests"] is None
    assert found["rehearsal"]["flops"] > 1e6 and len(found["validation"]["validation"]) == 8
    assert isinstance(found["check"]["ok"], bool) and "float" not in found["check"]
    names = {"model.safetensors", "checkpoint.json", "log.jsonl", "run.json", "check.json"}
    assert names <= found["files"].keys() and not found["too_large"]
    assert max(found["files"].values()) <= SHARD_BYTES
    monkeypatch.setattr(once, "train", stopped)
    with pytest.raises(typer.Exit):
        once.main(str(tiny), [folder], **options | {"minutes": None}, resume=True)
    assert json.loads((out / "summary.json").read_text())["ended"] == "stopped; --resume goes on"
    assert "checkpoint" in capsys.readouterr().out
    with pytest.raises(InputError, match="holds a run already"):
        once.main(str(tiny), [folder], **options)
    assert json.loads((out / "summary.json").read_text())["ended"] == "stopped; --resume goes on"
    for minutes in (None, 0, -1, float("inf"), float("nan")):
        with pytest.raises(typer.BadParameter):
            once.main(str(tiny), [folder], **options | {"minutes": minutes, "out": tmp_path / "x"})
    assert not (tmp_path / "x").exists()


def stopped(config, data, validation, out, budget, resume, *rest):
    assert resume and budget.minutes is None  # what is left
    raise KeyboardInterrupt


def test_once_runs_the_tests_that_need_a_gpu(tmp_path, monkeypatch):
    asked = []

    def run(command, stdout, timeout, **rest):
        asked.append(command)
        stdout.write("...\n4 passed, 2 deselected in 9.00s\n")
        if len(asked) == 2:
            raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(once.subprocess, "run", run)
    log = tmp_path / "gpu_tests.txt"
    assert once.gpu_tests(log) is None and not asked  # no GPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert once.gpu_tests(log) == "4 passed, 2 deselected in 9.00s"
    assert asked[0][asked[0].index("-m", 3) + 1] == "gpu"
    assert once.gpu_tests(log) == "not done after 300 s"
