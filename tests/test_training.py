"""The training program: learns, resumes to the bit, agrees over processes, exports what it evaluates."""

import errno
import hashlib
import json
import math
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import namedtuple
from contextlib import suppress
from dataclasses import astuple, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, SAMPLE
from ncodec.cli.main import main
from PIL import Image
from pytorch_msssim import ms_ssim

import ncodec
from ncodec.errors import InputError
from ncodec.families import FAMILIES
from ncodec.files import write_whole
from ncodec.metrics import psnr
from ncodec.models import weights
from ncodec.models.hyperprior.diagnosis import diagnose
from ncodec.models.hyperprior.network import Hyperprior, step_masks
from ncodec.models.hyperprior.recipe import block_pca
from ncodec.models.load import load_by_name
from ncodec.models.protocol import EncodeOptions, TileFormat
from ncodec.nn.gain import at_quality, lmbda_at_quality
from ncodec.nn.priors import FactorizedPrior, ScaleMixture, probabilities_of
from ncodec.nn.ssimulacra2 import ssimulacra2
from ncodec.nn.training import Objective, TrainingOutput
from ncodec.quality import LAMBDAS
from ncodec.training import checkpoint
from ncodec.training import ship as shipping
from ncodec.training.checkpoint import MANIFEST, read_checkpoint, write_checkpoint
from ncodec.training.config import read_config
from ncodec.training.data import ImageStore, load_images
from ncodec.training.loop import Kept, draw_batch, training_step
from ncodec.training.loss import rate_distortion_loss
from ncodec.training.optimizer import Muon, learning_rate_factor
from ncodec.training.program import train
from ncodec.training.recipe import Recipe, load_recipe
from ncodec.training.report import Log
from ncodec.training.run import Budget, start_run
from ncodec.training.validation import center_crops

TINY = """
family = "hyperprior"
[model]
N = 16
M = 48
Z = 8
H = 16
S = 16
analysis_blocks = 1
synthesis_blocks = 1
[training]
batch = 4
crop = 64
learning_rate = 1e-2
"""
CPU = torch.device("cpu")
STEPS = 60
STOPPED = 40


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """As the command runs here: sums in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    picture = Image.open(SAMPLE)
    for i in range(6):
        picture.crop((100 * i, 60 * i, 100 * i + 128, 60 * i + 128)).save(path / f"{i}.png")
    return path


@pytest.fixture(scope="module")
def shard(folder):
    path = folder.parent / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for i in range(6):
            tar.add(folder / f"{i}.png", f"{i}.png")
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    (path.parent / "validation").mkdir()
    shutil.copy(SAMPLE, path.parent / "validation")
    return path


def words(tiny, data, out, *more):
    """Return the words of a command."""
    watched = tiny.parent / "validation" if tiny.exists() else data
    arguments = ["--data", str(data), "--validation", str(watched), "--out", str(out)]
    return ["train", str(tiny), *arguments, "--device", "cpu", *map(str, more)]


def process(*arguments, torchrun=0):
    """Start a command."""
    program = [str(Path(sys.executable).parent / "ncodec")]
    if torchrun:
        start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(torchrun)]
        program = [*start, "--no-python", *program]
    return subprocess.Popen(
        [*program, *words(*arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: exit code, standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["ncodec", *words(*arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return code, capsys.readouterr().err

    return run


def weights_of(out):
    return read_checkpoint(out / MANIFEST, CPU)


def log_of(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def largest_difference(a, b, part):
    return max(float((a[part][k] - b[part][k]).abs().max()) for k in a[part])


@pytest.fixture(scope="module")
def trained(tiny, folder, tmp_path_factory):
    """A run by the command, never interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    done = process(tiny, folder, out, "--steps", STEPS)
    said = done.communicate(timeout=240)[1]
    assert done.returncode == 0, said
    return out


def test_run_folder_says_everything(trained, folder):
    (start,) = json.loads((trained / "run.json").read_text())
    assert start["config"]["model"]["N"] == 16 and start["config"]["training"]["batch"] == 4
    assert (
        start["data"]["images"] == 6 and start["data"]["sha256"] == load_images([folder], 64).digest
    )
    assert (
        start["versions"]["torch"] == torch.__version__.split("+")[0] or start["versions"]["torch"]
    )
    assert start["processes"] == 1 and start["device"] and "commit" in start
    assert start["from"] == {} and "from" not in log_of(trained)[0]
    log = log_of(trained)
    assert log[0]["event"] == "start" and log[-1] == log[-1] | {
        "event": "end",
        "step": STEPS,
        "skipped": 0,
    }
    assert log[1]["event"] == "rehearsal" and log[1]["flops"] > 1e6
    curve = next(e["validation"] for e in log if "validation" in e)
    assert [p["quality"] for p in curve] == list(range(1, 9))
    assert all(a["bpp"] < b["bpp"] for a, b in pairwise(curve))
    assert all(p["bpp"] == pytest.approx(p["bpp_y"] + p["bpp_z"]) and p["bpp_z"] > 0 for p in curve)
    assert (trained / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_export_is_what_was_trained(trained):
    """Real files follow the float model; to 1 % once trained (kodak_eval/results/training), here to 4 %."""
    check = json.loads((trained / "check.json").read_text())
    assert abs(check["bd_rate_percent"]) <= 4 and abs(check["size_percent"]) <= 4
    within = abs(check["bd_rate_percent"]) <= 1 and abs(check["size_percent"]) <= 1
    assert check["ok"] == within
    index = json.loads((trained / "index.json").read_text())["models"]
    assert [m["name"] for m in index] == ["tiny"] and index[0]["about"]["training_steps"] == STEPS


def test_ship(trained, tmp_path):
    index = tmp_path / "index.json"
    known = [{"name": n, "tune": "psnr", "file": f"{n}.safetensors"} for n in ("tiny", "b")]
    index.write_text(json.dumps({"models": known}))
    entry = shipping.ship(trained, None, tmp_path)
    models = json.loads(index.read_text())["models"]
    assert [m["name"] for m in models] == ["tiny", "b"] and models[0] == entry
    assert entry["file"] == "tiny.safetensors" and entry["self_test"]["file"]
    shipped = (tmp_path / "tiny.safetensors").read_bytes()
    assert hashlib.sha256(shipped).hexdigest() == entry["sha256"]
    assert entry["about"]["training_steps"] == STEPS and entry["about"]["kmac_per_pixel"] > 0
    models[0]["about"]["kodak_bd_rate_vs_vtm_percent"] = 1.5  # measured since
    index.write_text(json.dumps({"models": models}))
    again = shipping.ship(
        trained / "model.safetensors", "c", tmp_path
    )  # a file, under another name
    assert again["about"] == models[0]["about"] and again["file"] == "c.safetensors"
    assert [m["name"] for m in json.loads(index.read_text())["models"]] == ["tiny", "b", "c"]
    dct = shipping.ship(weights.find_by_name("dct"), None, tmp_path)
    assert dct["family"] == "dct" and dct["about"]["parameters_bytes"] > 10_000
    assert (entry["about"]["efforts"], dct["about"]["efforts"]) == ([1, 2, 3], [*range(1, 10)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: not a finished run"):
        shipping.ship(tmp_path / "empty", None, tmp_path)
    with pytest.raises(InputError, match="not a run folder or a weights file"):
        shipping.ship(tmp_path / "absent", None, tmp_path)


def test_ship_writes_again_what_names_the_weights(trained, tmp_path, monkeypatch, capsys):
    done = []
    monkeypatch.setattr(shipping, "DIR", tmp_path / "weights")
    monkeypatch.setattr(shipping.subprocess, "run", lambda command, check: done.append(command))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "index.json").write_text('{"models": []}')
    shipping.main(trained)
    assert not done  # not a checkout
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    shipping.main(trained)
    shipping.main(weights.find_by_name("dct"))
    scripts = [Path(command[1]) for command in done]
    assert all(script.is_file() for script in scripts)
    names = ["make_vectors.py", "make_attacks.py", "make_seeds.py"]
    assert [script.name for script in scripts] == names * 2
    assert [done[0][2], done[3][2]] == ["hyperprior", "dct"]
    assert "kodak_eval/run.py measure" in capsys.readouterr().out


def test_trained_model_encodes(trained):
    image = np.asarray(Image.open(SAMPLE))[:128, :192]
    model = trained / "model.safetensors"
    data = ncodec.encode(image, 6, model)
    assert ncodec.info(data).model is None
    assert psnr(image, ncodec.decode(data, "numpy", model)) > 24


def test_resume_after_kill_gives_the_same_weights(tiny, folder, trained, tmp_path, run):
    out = tmp_path / "killed"
    killed = process(tiny, folder, out, "--steps", STEPS, "--save-every", 0)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # until a checkpoint from the middle is there
        with suppress(InputError, OSError):  # it is being replaced
            if weights_of(out)["step"] >= 10:
                break
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert 10 <= weights_of(out)["step"] < STEPS
    assert run(tiny, folder, out, "--resume")[0] == 0
    assert weights_of(out)["step"] == STEPS
    for part in ("model", "ema"):
        assert largest_difference(weights_of(out), weights_of(trained), part) == 0
    digests = [(o / "model.safetensors").read_bytes() for o in (out, trained)]
    assert digests[0] == digests[1]


def test_two_processes_give_the_single_process_result(tiny, folder, tmp_path, run):
    more = ("--steps", 6, "--set", "training.bfloat16=false")
    two = process(tiny, folder, tmp_path / "two", *more, torchrun=2)
    assert run(tiny, folder, tmp_path / "one", *more)[0] == 0
    half = run(tiny, folder, tmp_path / "half", *more, "--set", "training.batch=2")
    assert half[0] == 0
    said = two.communicate(timeout=240)[1]
    assert two.returncode == 0, said
    one, two, half = (weights_of(tmp_path / name) for name in ("one", "two", "half"))
    start = start_run(read_config(tiny), Budget(None, 6), CPU, load_images([folder], 64).pixels)
    first = {"model": start.network.state_dict()}
    moved = largest_difference(one, first, "model")
    assert largest_difference(one, two, "model") < 0.01 * moved
    # A process alone with its own share would have gone elsewhere:
    assert largest_difference(one, half, "model") > 0.1 * moved


def copy_of(trained, out):
    out.mkdir()
    for path in (*trained.glob("checkpoint*"), trained / "run.json", trained / "log.jsonl"):
        shutil.copy(path, out)
    return out


def test_a_checkpoint_is_shards_replaced_as_a_whole(tmp_path, monkeypatch):
    """Shards of at most SHARD_BYTES; a write that fails leaves the old state, and nothing else."""
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 16384)
    manifest = tmp_path / MANIFEST
    state = {key: torch.arange(5000.0) * i for i, key in enumerate(sorted(checkpoint.KEYS))}
    write_checkpoint(manifest, state)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(first) > 10 and max(map(len, first.values())) <= 16384
    monkeypatch.setattr(checkpoint, "write_whole", fails_at(3))
    with pytest.raises(InputError, match=r"checkpoint\.json: cannot write \(No space left"):
        write_checkpoint(manifest, state | {"step": torch.ones(9000)})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    monkeypatch.undo()
    write_checkpoint(manifest, state | {"step": torch.ones(9000)})  # in one shard now
    (shard,) = set(path.name for path in tmp_path.iterdir()) - {MANIFEST}
    assert re.fullmatch(r"checkpoint-00-of-01-[0-9a-f]{8}\.pt", shard)
    found = read_checkpoint(manifest, CPU)
    assert torch.equal(found["ema"], state["ema"]) and len(found["step"]) == 9000
    data = bytearray((tmp_path / shard).read_bytes())
    data[5000] ^= 1
    (tmp_path / shard).write_bytes(data)
    with pytest.raises(InputError, match=rf"{shard}: damaged: expected SHA-256 [0-9a-f]+, found"):
        read_checkpoint(manifest, CPU)
    (tmp_path / shard).unlink()
    with pytest.raises(InputError, match=rf"{shard}: missing; .*checkpoint\.json names it"):
        read_checkpoint(manifest, CPU)


def fails_at(count):
    """Return a write_whole of a disk that is full after `count` files."""
    left = iter(range(count))

    def write(path, data):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_whole(path, data)

    return write


def test_second_budget(tiny, folder, trained, tmp_path, run):
    out = copy_of(trained, tmp_path / "again")
    code, said = run(tiny, folder, out, "--resume", "--minutes", 0.02, "--set", "training.batch=2")
    assert code == 0, said
    assert "resumed with other config" in said and "other data" not in said
    state = weights_of(out)
    assert state["step"] > STEPS and state["budget"]["first_step"] == STEPS
    assert state["elapsed_s"] - state["budget"]["first_second"] >= 1.2
    assert [s["step"] for s in json.loads((out / "run.json").read_text())] == [0, STEPS]


def test_resume_of_a_spent_budget_exports_again(tiny, folder, trained, tmp_path, run):
    out = copy_of(trained, tmp_path / "again")
    with (out / "log.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')  # what a kill leaves
    code, said = run(tiny, folder, out, "--resume")
    assert code == 0, said
    assert weights_of(out)["step"] == STEPS
    ours, theirs = ((o / "model.safetensors").read_bytes() for o in (out, trained))
    assert ours == theirs and (out / "curves.png").exists()


def test_ctrl_c_keeps_what_was_learned(tiny, folder, trained, tmp_path, run, monkeypatch):
    out, count, before = tmp_path / "stopped", Log.step, signal.getsignal(signal.SIGINT)

    def step(log, now, measured):
        if now.step == STOPPED:
            signal.raise_signal(signal.SIGINT)
        count(log, now, measured)

    monkeypatch.setattr(Log, "step", step)
    code, said = run(tiny, folder, out, "--steps", STEPS)
    assert code == 130 and "--resume goes on" in said and "Traceback" not in said
    assert signal.getsignal(signal.SIGINT) is before
    assert weights_of(out)["step"] == STOPPED and not (out / "model.safetensors").exists()
    assert log_of(out)[-1]["event"] == "stopped"
    monkeypatch.undo()
    train(read_config(tiny), [folder], [tiny.parent / "validation"], out, Budget(None, None), True)
    assert largest_difference(weights_of(out), weights_of(trained), "ema") == 0


def test_start_from_weights(tiny, folder, trained, tmp_path, run):
    """The run starts at the exported model, whose loss it has, and says so."""
    out, model = tmp_path / "on", trained / "model.safetensors"
    code, said = run(tiny, folder, out, "--from", model, "--steps", 2)
    assert code == 0, said
    origin = {
        "weights": "tiny",
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "optimizer": "new",
    }
    (start,) = json.loads((out / "run.json").read_text())
    events = log_of(out)
    assert events[0]["from"] == origin == start["from"] and start["step"] == 0
    last = {p["quality"]: p for e in log_of(trained) for p in e.get("validation", [])}
    assert events[1]["step"] == 0
    for point in events[1]["validation"]:
        expected = last[point["quality"]]
        assert point["loss"] == pytest.approx(expected["loss"], abs=0.01)  # of a logarithm: 1 %
        assert point["bpp_z"] == pytest.approx(expected["bpp_z"], rel=0.05)
        assert point["psnr"] == pytest.approx(expected["psnr"], abs=0.05)
    assert (
        weights_of(out)["step"] == 2
        and weights_of(out)["optimizer"]["adamw"]["state"][0]["step"] == 2
    )


def test_a_resume_at_step_0_keeps_what_the_run_started_from(tiny, folder, trained, tmp_path, run):
    """Here for the eye: the tune is in the weights file, SSIMULACRA2 in what is logged."""
    out, model = tmp_path / "on", trained / "model.safetensors"
    eye = ("--set", "tune=visual")
    assert run(tiny, folder, out, "--from", model, "--steps", 1, *eye)[0] == 0
    assert [weights.tune_of(path / "model.safetensors") for path in (out, trained)] == [
        "visual",
        "psnr",
    ]
    point = next(event for event in log_of(out) if "validation" in event)["validation"][0]
    assert point["ssimulacra2"] < 90 and "ssimulacra2" not in log_of(trained)[-2]["validation"][0]
    first = weights_of(out) | {
        "step": 0,
        "elapsed_s": 0.0,
    }  # as a kill ahead of the first step leaves it
    write_checkpoint(out / MANIFEST, first)
    assert run(tiny, folder, out, "--resume", *eye)[0] == 0
    starts = json.loads((out / "run.json").read_text())
    assert [s["from"].get("weights") for s in starts] == ["tiny", None]


def test_a_network_from_weights_exports_the_same_but_tables(trained, folder):
    """As far as its fraction bits are the same; a tensor's largest value may have crossed a power of two."""
    recipe = load_recipe("hyperprior")
    tensors, about, _ = weights.read(trained / "model.safetensors")
    network = recipe.from_weights(tensors, about)
    images = center_crops(load_images([folder], 64).pixels, 32)
    again, said = recipe.to_weights(network, images)
    assert {"name": "tiny", "family": "hyperprior", "tune": "psnr"} | said | {
        "fraction_bits": 0
    } == about | {"fraction_bits": 0}
    assert (
        set(again) == set(tensors) and said["fraction_bits"].keys() == about["fraction_bits"].keys()
    )
    found, expected = recipe.from_weights(again, said).state_dict(), network.state_dict()
    for name in (name for name in expected if not name.startswith("prior_")):
        difference = (found[name] - expected[name]).abs().max()
        assert difference <= 1e-3 * expected[name].abs().max(), name


def test_what_cannot_be_started_from(tiny, folder, trained, tmp_path, run):
    (tmp_path / "text.safetensors").write_text("no weights")
    model, dct = trained / "model.safetensors", weights.find_by_name("dct")
    cases = [
        ((model, "--set", "model.N=24"), 6, "'N': 24.* found .*'N': 16"),
        ((dct,), 6, r"expected \{'family': 'hyperprior'.* found \{'family': 'dct'"),
        ((tmp_path / "text.safetensors",), 5, "not a weights file"),
        ((model, "--resume"), 2, "either --from or --resume"),
    ]
    for more, code, message in cases:
        found = run(tiny, folder, tmp_path / "x", "--steps", 1, "--from", *more)
        assert found[0] == code and re.search(message, found[1]), found
        assert "Traceback" not in found[1] and not (tmp_path / "x").exists()


def test_bad_runs_end_in_one_line(tiny, folder, trained, tmp_path, run):
    other = tmp_path / "dct.toml"
    other.write_text('family = "dct"')
    cases = [
        ((tiny, folder, trained, "--steps", 1), "holds a run already"),
        ((tiny, folder, tmp_path / "none", "--resume"), "no checkpoint.json"),
        ((tiny, tmp_path / "absent", tmp_path / "x"), "absent: expected a folder"),
        ((tmp_path / "no.toml", folder, tmp_path / "x"), "expected a TOML file or one of bsq-s, fsq-s, ftic-m, ftic-s, hyperprior-m"),
        ((tiny, folder, tmp_path / "x", "--set", "training.batch=many"), "expected int, found 'many'"),
        ((tiny, folder, tmp_path / "x", "--set", "model.width=3"), "model.width: unknown"),
        ((tiny, folder, tmp_path / "x", "--set", "training.crop=100"), "a multiple of 32"),
        ((tiny, folder, tmp_path / "x", "--set", "training.crop=512"), "no image of at least 512x512"),
        ((tiny, folder, trained, "--resume", "--steps", 9, "--set", "model.N=24"), "same model"),
        ((tiny, folder, tmp_path / "x", "--set", "model.context_steps=3"),
         "config: model.context_steps: expected 2 or 4, found 3"),
        ((tiny, folder, tmp_path / "x", "--set", "tune=ears"), "config: tune: expected one of psnr, visual, found 'ears'"),
        ((tiny, folder, tmp_path / "x", "--set", "model.M=900"), "model.M: expected at most 768"),
        ((tiny, folder, tmp_path / "x", "--set", "model.H=0"), "model.H: expected 1 to 1024, found 0"),
        ((other, folder, tmp_path / "x"), "config: family: expected one that ncodec train trains (hyperprior, tokenizer, masked, ftic, tokenizer-masked), found 'dct'"),
        ((tiny, tiny.parent / "validation", tmp_path / "x"), "all of them are validation images"),
        ((tiny, folder, tmp_path / ("x" * 300)), "File name too long"),
    ]  # fmt: skip
    for arguments, message in cases:
        code, said = run(*arguments)
        assert code == 6 and message in said and "Traceback" not in said, (message, said)
    assert not (tmp_path / "x").exists()
    code, said = run(tiny, folder, tmp_path / "x", "--minutes", 0)
    assert code == 2 and "more than 0" in said
    with pytest.raises(InputError, match="device 'tpu'"):
        train(read_config(tiny), [folder], [], tmp_path / "x", Budget(None, 1), device="tpu")


def test_every_recipe_keeps_the_contract():
    recipes = [load_recipe(family.name) for family in FAMILIES if family.recipe]
    assert recipes and all(isinstance(recipe, Recipe) for recipe in recipes)
    for recipe in recipes:
        network = recipe.build(recipe.Config())
        matrices, others = recipe.parameter_groups(network)
        grouped = [id(p) for _, group in (*matrices, *others) for p in group]
        learning = [p for p in network.parameters() if p.requires_grad]
        assert sorted(grouped) == sorted(map(id, learning))


def test_many_paths_after_data(tiny, folder, shard, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "ncodec.training.program.train",
        lambda config, data, validation, *rest: seen.update(data=data, validation=validation),
    )
    words = ["ncodec", "train", str(tiny), "--data", str(folder), str(shard), "--validation", "a b"]
    monkeypatch.setattr(sys, "argv", [*words, "c", "--out", str(tmp_path)])
    with suppress(SystemExit):
        main()
    assert seen == {"data": [folder, shard], "validation": [Path("a b"), Path("c")]}


def test_what_cannot_be_resumed(tiny, folder, trained, tmp_path, run, monkeypatch):
    older = weights_of(trained)
    older["optimizer"] = older["optimizer"]["adamw"]
    for state, message in (
        (older, "trained with another optimiser"),
        ({"model": {}}, "not a checkpoint of ncodec train (without"),
        (b"{not really", "not a checkpoint"),
    ):
        if isinstance(state, bytes):
            (tmp_path / MANIFEST).write_bytes(state)
        else:
            write_checkpoint(tmp_path / MANIFEST, state)
        code, said = run(tiny, folder, tmp_path, "--resume", "--steps", 5)
        assert code == 6 and message in said and "Traceback" not in said, said
        assert all(file.name.startswith("checkpoint") for file in tmp_path.iterdir())
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(InputError, match=r"needs torch 2\.9 or later, found 2\."):
        train(read_config(tiny), [folder], [], tmp_path / "new", Budget(None, 5))


def test_muon_takes_every_1x1_convolution_and_adamw_the_rest(tiny):
    """Of a step by Muon all singular values are about the same, whatever the gradient's."""
    config = read_config(tiny)
    model = Hyperprior(config.model).to(memory_format=torch.channels_last)
    optimizer = Muon(config.recipe.parameter_groups(model), 0.01)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step(0.01)
    for name, module in model.named_modules():
        if type(module) is torch.nn.Conv2d and module.kernel_size == (1, 1):
            step = (module.weight.detach() - before[f"{name}.weight"]).flatten(1)
            values = torch.linalg.svdvals(step) / (0.01 * 0.2 * max(step.shape) ** 0.5)
            assert 0.5 < values.min() and values.max() < 1.4, name
        elif isinstance(module, torch.nn.Conv2d) and "linear" not in name:
            step = module.weight.detach() - before[f"{name}.weight"]  # AdamW's first: the sign
            torch.testing.assert_close(step.abs(), torch.full_like(step, 0.01), rtol=0.01, atol=0)


def test_steps_lower_the_loss_and_skip_what_is_not_finite(tiny, shard):
    config = read_config(tiny, ["training.learning_rate=3e-3"])
    images = load_images([shard], 64).pixels
    state = start_run(config, Budget(None, 1000), CPU, images)
    store = ImageStore(images, CPU)
    state.step, found = 300, []  # past the warm-up
    for step in range(24):
        batch = draw_batch(store, config.training, step % 4, 0, 1)
        found.append(training_step(state, state.network, *batch, progress=0.1))
    losses = [float(measured["loss"]) for measured in found]
    first, last = np.mean(losses[:4]), np.mean(losses[-4:])
    assert last < first - 0.03
    assert float(found[0]["bpp"]) == pytest.approx(float(found[0]["bpp_y"] + found[0]["bpp_z"]))
    before = {k: v.clone() for k, v in state.network.state_dict().items()}
    x, q, noise = draw_batch(store, config.training, 0, 0, 1)
    training_step(state, state.network, x * torch.nan, q, noise, progress=0.1)
    assert state.skipped == 1 and state.step == 325
    assert all(torch.equal(v, before[k]) for k, v in state.network.state_dict().items())


def test_lessons_are_made_once_and_fit_into_memory(shard, monkeypatch):
    """Lesson k is the same whenever it is drawn, at its own quality; there are three an image, or as many as memory has room for."""
    Pair = namedtuple("Pair", "x twice")
    made = []
    store = ImageStore(load_images([shard], 64).pixels, CPU)
    options = replace(read_config("hyperprior-s").training, crop=64)

    def of(x, q):
        made.append(q)
        return Pair(x.half(), 2 * x)

    kept = Kept(of, store, options)
    (lessons, q), (again, same) = kept.lessons([3, 1, 3]), Kept(of, store, options).lessons([1, 3])
    assert len(made) == 6 and kept.count == 3 * len(store.starts)  # numbers 0, 3, 1; twice
    assert torch.equal(lessons.x[1:], again.x) and torch.equal(q[1:], same) and q[0] == q[2] != q[1]
    x, q, noise = draw_batch(store, options, 5, 0, 1, kept)
    assert x.twice.shape == (8, 3, 64, 64) and len(noise) == 8 and q.shape == (8,)
    monkeypatch.setattr("ncodec.training.loop.memory", lambda: 3 * 2.5 * (6 * 64**2 * 3))
    assert Kept(of, store, options).count == 2
    lone = TrainingOutput(None, {"y": torch.tensor([2.0])}, torch.tensor([0.5]))
    loss, parts = rate_distortion_loss(lone, None, torch.tensor([1.0]), Objective())
    assert float(loss) == pytest.approx(math.log(2.53)) and set(parts) == {"bpp", "bpp_y"}


def test_loss_is_what_the_specification_says(tiny):
    """specs/training.md: log(lambda · 255² · MSE + bpp + 0.03)."""
    out = Hyperprior(read_config(tiny).model).eval()(
        torch.rand(2, 3, 32, 32), torch.tensor([1.0, 8.0])
    )
    x, q = torch.zeros(2, 3, 32, 32), torch.tensor([1.0, 8.0])
    lmbda, mse = torch.tensor([0.0018, 0.18]), out.x_hat.square().mean((1, 2, 3))
    cost = lmbda * 255**2 * mse + (out.bits["y"] + out.bits["z"]) / 32**2
    loss, parts = rate_distortion_loss(out, x, q, Objective())
    torch.testing.assert_close(loss, (cost + 0.03).log().mean())
    assert set(parts) == {"bpp", "mse", "bpp_y", "bpp_z"}


def test_objective():
    """specs/training.md: other lambdas, half MS-SSIM, what is not coded; and in part SSIMULACRA2 at a price."""
    x, q = torch.rand(2, 3, 176, 176), torch.tensor([1.0, 8.0])
    x_hat = (x + 0.1 * torch.rand_like(x)).clamp(0, 1)
    out = TrainingOutput(x_hat, {"tokens": torch.tensor([10.0, 20.0])}, torch.tensor([0.5, 0.25]))
    lambdas, rest = (0.1, *[0.2] * 6, 0.4), torch.tensor([10.0, 20.0]) / 176**2 + out.penalty + 0.01
    loss, parts = rate_distortion_loss(out, x, q, Objective(lambdas, 0.01, 0.5))
    mse = (x_hat - x).square().mean((1, 2, 3))
    likeness = ms_ssim(x_hat, x, data_range=1.0, size_average=False)
    distortion = mse / 2 + 0.02 * (1 - likeness) / 2
    cost = torch.tensor([0.1, 0.4]) * 255**2 * distortion
    torch.testing.assert_close(loss, (cost + rest).log().mean())
    torch.testing.assert_close(parts["ms_ssim"], likeness.mean())

    seen, objective = ssimulacra2(x, x_hat), Objective(lambdas, 0.01, 0.5, 0.75, (1.0, *[3.0] * 7))
    loss, parts = rate_distortion_loss(out, x, q, objective)
    lost = torch.tensor([1.0, 3.0]) * (100 - seen)
    torch.testing.assert_close(loss, (cost / 4 + lost * 3 / 4 + rest).log().mean())
    torch.testing.assert_close(parts["ssimulacra2"], seen.mean())


@pytest.mark.gpu
@pytest.mark.parametrize("more", [(), ("--compile",)])
def test_trains_on_cuda(tiny, folder, tmp_path, run, more):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    code, said = run(tiny, folder, tmp_path / "cuda", "--steps", 30, "--device", "cuda", *more)
    assert code == 0, said
    assert weights_of(tmp_path / "cuda")["step"] == 30
    assert log_of(tmp_path / "cuda")[1]["is_compiled"] == bool(more)


def test_learning_rate_warms_up_and_falls():
    assert learning_rate_factor(0, 0.0) == pytest.approx(1 / 300)
    assert learning_rate_factor(1000, 0.0) == pytest.approx(1)
    assert learning_rate_factor(1000, 0.5) == pytest.approx(0.505)
    assert learning_rate_factor(1000, 1.0) == pytest.approx(0.01)


def test_rate_in_training_is_that_of_the_symbols(tiny, folder):
    """Noise gives the residuals their gradient and changes nothing else: not the rate, nor what tables learn."""
    config = read_config(tiny)
    state = start_run(config, Budget(None, 10), CPU, load_images([folder], 64).pixels)
    store = ImageStore(load_images([folder], 64).pixels, CPU)
    x, q, noise = draw_batch(store, config.training, 0, 0, 1)
    other = draw_batch(store, config.training, 1, 0, 1)[2]
    found = []
    for generators in (noise, other):
        state.network.zero_grad()
        y_bits = state.network(x, q, generators).bits["y"]
        y_bits.sum().backward()
        gradients = {n: p.grad for n, p in state.network.named_parameters() if p.grad is not None}
        found.append((y_bits.detach(), {n: g.clone() for n, g in gradients.items()}))
    (bits, one), (same_bits, two) = found
    assert torch.equal(bits, same_bits)
    in_file = state.network(x, q, None).bits["y"].detach()  # where the rate of an escape is capped
    torch.testing.assert_close(bits, in_file, rtol=0.01, atol=0)
    for name in ("prior_r.weight", "prior_r.ratio", "index_offset", "h_s.head.weight"):
        assert torch.equal(one[name], two[name]) and one[name].any(), name
    weight = "g_a.linear.weight"
    assert (one[weight] - two[weight]).abs().max() > 0.1 * one[weight].abs().max()


def test_estimate_is_the_file_size(trained):
    """What the model estimates without noise is what its exported integers write, on a whole photograph."""
    state = weights_of(trained)
    recipe = load_recipe("hyperprior")
    model = recipe.build(recipe.Config(**state["config"]["model"]))
    model.load_state_dict(state["ema"])
    image = np.asarray(Image.open(SAMPLE))
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    for quality in (2.0, 6.0):
        with torch.no_grad():
            out = recipe.estimate(model, x, torch.tensor([quality]))
        size = len(ncodec.encode(image, quality, trained / "model.safetensors"))
        assert float(sum(out.bits.values())) / 8 == pytest.approx(size, rel=0.03)


def test_priors_fitted_to_tables_give_them_back(trained):
    """To 0.001 bits a symbol, in the mean over the rows; the shipped tables to 0.0003."""
    tensors, about, _ = weights.read(trained / "model.safetensors")
    priors = {"tables.r": ScaleMixture(), "tables.z_alone": FactorizedPrior(about["config"]["Z"])}
    for name, prior in priors.items():
        frequencies = torch.from_numpy(tensors[name])
        _, share, escape = probabilities_of(frequencies)
        prior.fit(frequencies)
        rows = prior.pmf_rows(511, 2.0**-14)
        found = torch.nn.utils.rnn.pad_sequence([row[:-1] for row in rows], batch_first=True)
        found = torch.nn.functional.pad(found, (0, share.shape[1]))[:, : share.shape[1]]
        cost = share * (share.clamp_min(1e-12) / found.clamp_min(1e-9)).log2()
        outside = torch.stack([row[-1] for row in rows])
        cost = cost.sum(1) + escape * (escape.clamp_min(1e-12) / outside).log2()
        assert -1e-4 < float(cost.mean()) < 1e-3, name


def test_rows_that_skip_are_those_where_one_is_dear():
    prior = ScaleMixture()
    assert prior.rows_that_skip() == 0  # its wide part reaches 1 from the first row on
    prior.weight.data.copy_(torch.tensor([-9.0, 0.0]))
    rows = prior.rows_that_skip()
    table = [row.double().log2() for row in prior.pmf_rows(511, 2.0**-40)]
    prices = [float(row[0] - row[1]) for row in table]  # of -1
    assert 0 < rows < 64 and prices[rows] <= 12 < prices[rows - 1]
    prior.weight.data.copy_(torch.tensor([0.0, -1000.0]))
    assert prior.rows_that_skip() == 0  # dear are some rows after a cheap first one


def test_folder_and_shard_are_the_same_data(folder, shard, tmp_path, capsys):
    a, b = load_images([folder], 64), load_images([shard], 64)
    assert a.digest == b.digest and len(a.pixels) == 6
    assert all(torch.equal(x, y) for x, y in zip(a.pixels, b.pixels, strict=True))
    kept, held = a.hold_out()
    assert len(kept.pixels) == 6 and not held.pixels  # too few to hold any out
    many = type(a)(a.pixels * 20, [bytes([i]) * 32 for i in range(120)], [])
    kept, held = many.hold_out()
    assert (len(kept.pixels), held.digests) == (118, [bytes([0]) * 32, bytes([1]) * 32])


def test_what_cannot_be_used_is_left_out_and_said(tmp_path, capsys):
    cases = {"a": ("RGBA", 80), "grey": ("L", 80), "palette": ("P", 96), "small": ("RGB", 30)}
    for name, (mode, side) in cases.items():
        Image.new(mode, (side, side)).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    images = load_images([tmp_path], 64)
    assert [list(p.shape) for p in images.pixels] == [[3, 80, 80], [3, 96, 96]]
    assert len(images.left_out) == 3
    said = capsys.readouterr().err
    assert all(
        re.search(f"left out: .*{name}", said) for name in ("a.png", "small.png", "broken.jpg")
    )


def test_damaged_shards_are_said(shard, tmp_path, capsys):
    data = bytearray(shard.read_bytes())
    (tmp_path / "cut.tar").write_bytes(data[: len(data) // 2])
    with tarfile.open(shard) as tar:
        third = tar.getmembers()[2].offset
    data[third : third + 512] = b"damage" * 85 + b"!!"
    (tmp_path / "middle.tar").write_bytes(data)
    for name, least in (("cut.tar", 2), ("middle.tar", 2)):
        images = load_images([tmp_path / name], 64)
        assert least <= len(images.pixels) < 6
        assert re.search(f"{name}: damaged", capsys.readouterr().err)


def test_copies_and_validation_images_are_not_trained_on(folder, shard):
    images = load_images([folder, shard, folder], 64)
    assert len(images.pixels) == 6
    others = type(images)(images.pixels[:2], images.digests[:2], [])
    assert images.without(others).digests == images.digests[2:]


def test_large_photographs_are_reduced(tmp_path):
    photo = Image.new("RGB", (3000, 2000), "teal")
    photo.save(tmp_path / "a.jpg", quality=95)
    photo.save(tmp_path / "b.png", compress_level=1)
    jpeg, png = (list(pixels.shape) for pixels in load_images([tmp_path], 64).pixels)
    assert jpeg == [3, 1000, 1500]  # by 2: what JPEG's own halving gives
    assert png == [3, 667, 1000]  # by 3: the shorter side stays above 640


def test_bad_data(tmp_path):
    with pytest.raises(InputError, match="absent: expected a folder of images or a tar"):
        load_images([tmp_path / "absent"], 64)
    with pytest.raises(InputError, match="no image of at least 64x64 pixels"):
        load_images([tmp_path], 64)
    (tmp_path / "text.tar").write_bytes(b"x")
    with pytest.raises(InputError, match=r"text\.tar: expected a folder of images or a tar"):
        load_images([tmp_path / "text.tar"], 64)


def test_crops_are_pieces_of_the_images_and_agree_between_processes(shard):
    images = load_images([shard], 64).pixels[:2]
    store = ImageStore(images, CPU)
    whole, first, second = (
        store.random_crops(64, np.random.default_rng(7), 8, part)
        for part in (slice(0, 8), slice(0, 4), slice(4, 8))
    )
    assert torch.equal(whole, torch.cat([first, second]))
    windows = torch.cat([i.unfold(1, 64, 1).unfold(2, 64, 1).flatten(1, 2) for i in images], 1)
    pieces = {w.contiguous().numpy().tobytes() for w in windows.permute(1, 0, 2, 3)}
    seen = set()
    for crop in (whole * 255).round().to(torch.uint8):
        variants = {}
        for transpose in (False, True):
            for flips in ([], [1], [2], [1, 2]):
                v = crop.transpose(1, 2) if transpose else crop
                variants[(transpose, *flips)] = (
                    v.flip(flips).contiguous().numpy().tobytes() in pieces
                )
        assert any(variants.values())
        seen |= {k for k, found in variants.items() if found}
    assert len(seen) > 2


def test_center_crops_are_multiples_of_32():
    image = torch.zeros(3, 100, 333, dtype=torch.uint8)
    assert [list(crop.shape) for crop in center_crops([image], 32)] == [[3, 96, 320]]


def test_pca_is_orthonormal(shard):
    basis, std = block_pca(load_images([shard], 64).pixels, 16, 48)
    assert torch.allclose(basis @ basis.T, torch.eye(48), atol=1e-4)
    assert (std.diff() <= 0).all()


@pytest.mark.parametrize("name", ["hyperprior-s", "hyperprior-s-visual", "hyperprior-m"])
def test_shipped_configs_keep_their_limits(name):
    config = read_config(name)
    limit = 8e6 if name == "hyperprior-m" else 4e6
    assert sum(p.numel() for p in Hyperprior(config.model).parameters()) <= limit
    assert config.name == name and config.training.crop % 32 == 0


def test_lambdas():
    q = torch.tensor([1.0, 4.5, 8.0])
    lmbda = lmbda_at_quality(q).tolist()
    assert lmbda == pytest.approx(
        [LAMBDAS[0], (LAMBDAS[3] * LAMBDAS[4]) ** 0.5, LAMBDAS[7]], rel=1e-5
    )
    table = torch.arange(8.0)[:, None]
    assert at_quality(table, q).flatten().tolist() == [0, 3.5, 7]


@pytest.mark.parametrize("steps", [2, 4])
def test_context_steps_take_every_latent_once(steps):
    masks = step_masks(steps, 5, 4, 6, CPU)
    assert masks.shape == (steps, 5, 4, 6)
    assert torch.equal(masks.sum(0), torch.ones(5, 4, 6, dtype=torch.long))
    assert (masks.sum((2, 3)) == 24 // steps).all()  # each step takes its share of every channel


def test_priors_sum_to_one():
    for row in ScaleMixture().pmf_rows(511, 2.0**-14)[:40]:
        assert float(row.sum()) == pytest.approx(1, abs=1e-4)
    for row in FactorizedPrior(2).pmf_rows(511, 2.0**-14):
        assert float(row.sum()) == pytest.approx(1, abs=1e-4)


def test_diagnosis_of_a_model_speaks_of_its_files():
    codec = load_by_name("hyperprior-s", "cpu").codec
    image = np.asarray(Image.open(SAMPLE))
    crops = np.stack([image[:192, :192], image[128:320, 320:512]])
    before = {name: tensor.copy() for name, tensor in codec.tensors.items()}
    found = diagnose(codec, torch.from_numpy(crops).permute(0, 3, 1, 2), 5)
    assert all(np.array_equal(codec.tensors[name], tensor) for name, tensor in before.items())
    payloads = [codec.encode_tile(crop, 80, EncodeOptions()) for crop in crops]
    bits = 8 * sum(len(payload) for ((payload,),) in payloads)
    assert found.bpp == pytest.approx(bits / (2 * 192**2), rel=0.03)
    pixels = np.stack(codec.decode_tiles(payloads, 80, TileFormat(192, 192, 3)))
    error = pixels.astype(float) - crops
    assert found.psnr == pytest.approx(10 * np.log10(255**2 / np.square(error).mean()), abs=0.05)
    luma = np.square(error @ [0.299, 0.587, 0.114]).mean()
    assert found.mse_y == pytest.approx(luma, rel=0.03)
    lmbda = LAMBDAS[4]
    loss = (lmbda * np.square(error).mean() + found.bpp) / lmbda**0.5
    assert found.loss == pytest.approx(loss, rel=0.01)
    assert 1 < found.z_percent < 15 and 1 <= found.z_live <= 64
    assert (
        1 <= found.y_half <= 160 and 0 <= found.y_silent < 320 and 0 < found.y_coded_percent < 100
    )
    assert -1 < found.tables_percent < 8 and found.context_percent < 5
    assert abs(found.gain_down_percent) < 2 and abs(found.gain_up_percent) < 2
    black = diagnose(
        codec, torch.zeros(1, 3, 64, 64, dtype=torch.uint8), 1
    )  # hardly anything to divide by
    assert all(np.isfinite(astuple(black)))


def test_diagnose_by_its_command(tiny, trained, monkeypatch, capsys):
    program = ROOT / "ncodec" / "training" / "diagnose.py"

    def diagnose_model(model):
        monkeypatch.setattr(sys, "argv", ["diagnose", str(model), str(tiny.parent / "validation")])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(program), run_name="__main__")
        return end.value.code

    assert (
        diagnose_model("dct")
        == "diagnose: family: expected one that ncodec train trains (hyperprior, tokenizer, masked, ftic, tokenizer-masked), found 'dct'"
    )
    assert not diagnose_model(trained / "model.safetensors")
    head, line, *rows = capsys.readouterr().out.splitlines()
    assert (
        head.startswith("| quality | loss | bpp |") and set(line) == {"|", "-"} and len(rows) == 8
    )
    assert [len(row.split("|")) for row in rows] == [len(head.split("|"))] * 8


def test_dct_training_by_its_command(folder, tmp_path, monkeypatch):
    """Two crops, one round; the matrices, which take most of the time, have a test in test_blocks.py."""
    with tarfile.open(tmp_path / "pack.tar", "w") as tar:
        for i in (0, 3):
            Image.open(folder / f"{i}.png").crop((0, 0, 64, 64)).save(tmp_path / f"{i}.png")
            tar.add(tmp_path / f"{i}.png", f"{i}.png")
    given, out = weights.find_by_name("dct"), tmp_path / "own.safetensors"
    options = ["--start", given, "--rounds", 1, "--jobs", 1, "--name", "own", "--out", out]
    monkeypatch.setattr(sys, "argv", list(map(str, ["dct", tmp_path / "pack.tar", *options])))
    runpy.run_module("ncodec.training.dct", run_name="__main__")
    before, after = weights.read(given), weights.read(out)
    assert after[1] == {"name": "own", "family": "dct"}
    assert (before[0]["matrix"] == after[0]["matrix"]).all()
    assert (before[0]["start"] != after[0]["start"]).any() and set(before[0]) == set(after[0])
    image = np.asarray(Image.open(folder / "0.png"))
    assert psnr(image, ncodec.decode(ncodec.encode(image, 6, out), "numpy", out)) > 30
