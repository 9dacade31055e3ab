"""`ncodec train`: config + images -> a run folder, ready to encode with.

RUN/run.json            how to repeat it: config, data digest, versions, device, commit; one entry a start
RUN/log.jsonl           a JSON line per event
RUN/checkpoint.pt       to resume from
RUN/curves.png          loss, and rate-distortion on the validation images
RUN/model.safetensors   the exported weights, with their entry in RUN/index.json
"""

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ncodec.errors import InputError
from ncodec.training.config import Config
from ncodec.training.data import Images, ImageStore, load_images
from ncodec.training.export import check_export, export
from ncodec.training.loop import (
    Budget,
    Run,
    process_group,
    resume_run,
    start_run,
    train_until_spent,
)
from ncodec.training.report import Log, plot
from ncodec.training.validation import best_skip_below, center_crops, validate

VALIDATE_EVERY_S = 300.0
VALIDATION_QUALITIES = (1.0, 3.0, 5.0, 8.0)


def find_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda"; under torchrun, this process's own.

    Raises:
        InputError: not one of these, or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda") or (name == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            f"device {name!r}: not available; expected 'auto', 'cpu' or a working 'cuda'"
        )
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if name == "cuda" else name)


def _commit() -> str | None:
    """Return the commit of the checkout ncodec runs from, "+" where files differ from it."""
    here = Path(__file__).resolve().parent
    try:
        describe = [
            "git",
            "-C",
            str(here),
            "describe",
            "--always",
            "--dirty=+",
            "--abbrev=40",
            "--exclude=*",
        ]
        return subprocess.run(describe, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _record_start(out: Path, run: Run, train: Images, validation: Images, world: int) -> None:
    """Append how this start can be repeated to run.json."""
    file = out / "run.json"
    starts: list[dict[str, Any]] = (
        json.loads(file.read_text()) if run.step and file.exists() else []
    )
    cuda = run.device.type == "cuda"
    starts.append(
        {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "command": sys.argv,
            "config": run.config.to_dict(),
            "budget": vars(run.budget),
            "step": run.step,
            "processes": world,
            "data": {
                "images": len(train.pixels),
                "left_out": len(train.left_out),
                "sha256": train.digest,
            },
            "validation": {"images": len(validation.pixels), "sha256": validation.digest},
            "device": torch.cuda.get_device_name(run.device) if cuda else _cpu_name(),
            "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("ncodec", "torch", "numpy", "pillow")},
            "commit": _commit(),
        }
    )
    file.write_text(json.dumps(starts, indent=1) + "\n")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def train(
    config: Config,
    data: list[Path],
    validation: list[Path],
    out: Path,
    budget: Budget,
    resume: bool = False,
    device: str = "auto",
    save_every_s: float = 120.0,
) -> None:
    """Train, export and check one model; leaves the run folder described above.

    Under torchrun, every process is one worker of the same run.

    Args:
        config: what to train.
        data: tar shards or folders of images.
        validation: the same, never trained on; empty: up to 16 of `data` are held out.
        out: run folder.
        budget: minutes or steps; neither with `resume` means what is left.
        resume: go on from RUN/checkpoint.pt.
        device: "auto", "cpu" or "cuda".
        save_every_s: seconds between checkpoints.

    Raises:
        InputError: no usable image, a run in `out` that is not resumed, or a checkpoint that does not fit.
    """
    for package in ("matplotlib", "scipy"):
        if find_spec(package) is None:
            raise InputError(f"ncodec train needs {package}: pip install 'ncodec[train]'")
    where = find_device(device)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists() != resume:
        found = (
            "holds a run already: --resume, or another folder"
            if not resume
            else "no checkpoint.pt to resume"
        )
        raise InputError(f"{out}: {found}")
    rank, world = process_group(where)
    if config.training.batch % world:
        raise InputError(f"config: training.batch: expected a multiple of {world} processes, "
                         f"found {config.training.batch}")  # fmt: skip
    images = load_images(data, config.training.crop)
    if validation:
        watched = load_images(validation, config.training.crop)
    else:
        images, watched = images.hold_out()
    crops = center_crops(watched.pixels)
    run = (
        resume_run(config, budget, where, checkpoint)
        if resume
        else start_run(config, budget, where, images.pixels)
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        if rank == 0:
            _record_start(out, run, images, watched, world)
    except OSError as error:
        raise InputError(f"{out}: cannot write: {error.strerror}") from error
    store = ImageStore(images.pixels, where)
    count = len(images.pixels)
    del images
    with Log(out / "log.jsonl" if rank == 0 else None) as log:
        log.write(event="start", step=run.step, images=count, device=str(where), processes=world)
        _train(run, store, crops, log, checkpoint, save_every_s, rank, world)
        log.write(event="end", step=run.step, minutes=run.elapsed_s / 60, skipped=run.skipped)
    if dist.is_initialized():
        dist.destroy_process_group()
    if rank == 0:
        _finish(run, crops, out)


def _train(
    run: Run,
    store: ImageStore,
    crops: list[Tensor],
    log: Log,
    checkpoint: Path,
    save_every_s: float,
    rank: int,
    world: int,
) -> None:
    """Train until the budget is spent; the first process logs, saves and validates on the way."""
    last_save = last_validation = run.elapsed_s

    def on_step(run: Run, measured: Tensor) -> None:
        nonlocal last_save, last_validation
        if rank > 0:
            return
        log.step(run, measured)
        if run.elapsed_s - last_save >= save_every_s:
            run.save(checkpoint)
            last_save = run.elapsed_s
        if crops and run.elapsed_s - last_validation >= VALIDATE_EVERY_S:
            log.validation(run, validate(run.ema, crops, VALIDATION_QUALITIES))
            last_validation = run.elapsed_s

    train_until_spent(run, store, rank, world, on_step)
    if rank == 0:
        run.save(checkpoint)
        if crops:
            log.validation(run, validate(run.ema, crops, tuple(map(float, range(1, 9)))))


def _finish(run: Run, crops: list[Tensor], out: Path) -> None:
    """Export, check the export on the validation images, and plot."""
    weights = out / "model.safetensors"
    skip_below = best_skip_below(run.ema, crops) if crops else 0
    export(out / "checkpoint.pt", weights, skip_below)
    print(f"{weights}: {weights.stat().st_size} bytes")
    if crops:
        report = check_export(run.ema, weights, skip_below, crops)
        (out / "check.json").write_text(json.dumps(report, indent=1) + "\n")
        print(f"exported integers against the float model: BD-rate {report['bd_rate_percent']:+.2f} %, "
              f"files against the estimate {report['size_percent']:+.2f} % "
              f"({'within' if report['ok'] else 'NOT WITHIN'} 1 %)")  # fmt: skip
    plot(out)
    print(f"try it: ncodec encode photo.png --model {weights} -o photo.nc")
