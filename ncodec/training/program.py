"""`ncodec train`: config + images -> a run folder, ready to encode with.

RUN/run.json            how to repeat it: config, data digest, versions, device, commit; one entry a start
RUN/log.jsonl           a JSON line per event
RUN/checkpoint.pt       to resume from
RUN/curves.png          loss, and rate-distortion on the validation images
RUN/model.safetensors   the exported weights, with their entry in RUN/index.json
RUN/check.json          real files of the exported weights against the float model
"""

import json
import os
import platform
import signal
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

from ncodec.codec import find_device
from ncodec.parallel import cpu_name
from ncodec.errors import InputError
from ncodec.training.config import Config
from ncodec.training.data import Images, ImageStore, load_images
from ncodec.training.export import check_export, export, write_json
from ncodec.training.loop import (
    Budget,
    Run,
    process_group,
    resume_run,
    start_run,
    train_until_spent,
)
from ncodec.training.report import Log, plot
from ncodec.training.validation import center_crops, validate

VALIDATE_EVERY_S = 300.0
VALIDATION_QUALITIES = (1.0, 3.0, 5.0, 8.0)


def _commit() -> str | None:
    """Return the commit of the checkout ncodec runs from, "+" where files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).resolve().parent), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # not just any repository around us
        return git("describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.CalledProcessError):
        return None


def _record_start(
    out: Path, run: Run, data: list[Path], train: Images, validation: Images, world: int
) -> None:
    """Append how this start can be repeated to run.json, and say what changed since the last."""
    file = out / "run.json"
    starts: list[dict[str, Any]] = []
    if run.step > 0 and file.exists():
        try:
            starts = json.loads(file.read_text())
        except ValueError as error:
            raise InputError(f"{file}: damaged ({error}); remove it to go on") from error
    packages = ["ncodec", "torch", "numpy", "pillow"]
    cuda = run.device.type == "cuda"
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "config": run.config.to_dict(),
        "budget": vars(run.budget),
        "step": run.step,
        "processes": world,
        "data": {
            "paths": [str(path.resolve()) for path in data],
            "images": len(train.pixels),
            "left_out": len(train.left_out),
            "sha256": train.digest,
        },
        "validation": {"images": len(validation.pixels), "sha256": validation.digest},
        "device": torch.cuda.get_device_name(run.device) if cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in packages},
        "commit": _commit(),
    }
    for key in ("config", "data", "validation"):
        if starts and _essence(starts[-1][key]) != _essence(start[key]):
            print(f"ncodec: {out}: resumed with other {key} than before", file=sys.stderr)
    write_json(file, [*starts, start])


def _essence(value: Any) -> Any:
    return value.get("sha256", value)


def train(
    config: Config,
    data: list[Path],
    validation: list[Path],
    out: Path,
    budget: Budget,
    resume: bool = False,
    device: str = "auto",
    save_every_s: float = 120.0,
    start_from: Path | None = None,
) -> None:
    """Train, export and check one model; leaves the run folder described above.

    Under torchrun, every process is one worker of the same run. SIGINT and SIGTERM end it after the
    step in hand, with a checkpoint.

    Args:
        config: what to train.
        data: tar shards or folders of images.
        validation: the same, never trained on; empty: up to 16 of `data` are held out.
        out: run folder.
        budget: minutes or steps; neither with `resume` means what is left, or, once all is spent, only to
            export again.
        resume: go on from RUN/checkpoint.pt.
        device: "auto", "cpu" or "cuda".
        save_every_s: seconds between checkpoints.
        start_from: weights file to start from, with a new optimiser state.

    Raises:
        InputError: no usable image, a run in `out` that is not resumed, or a checkpoint that does not fit,
            or `out` cannot be written, or the extra "train" is not installed.
        KeyboardInterrupt: ended by a signal; the checkpoint is written.
    """
    for package in ("matplotlib", "scipy"):
        if find_spec(package) is None:
            raise InputError(f"ncodec train needs {package}: pip install 'ncodec[train]'")
    if not hasattr(torch.optim, "Muon"):
        raise InputError(f"ncodec train needs torch 2.9 or later, found {torch.__version__}")
    try:
        _train(config, data, validation, out, budget, resume, device, save_every_s, start_from)
    except OSError as error:
        raise InputError(f"{error.filename or out}: {error.strerror}") from error


def _train(
    config: Config,
    data: list[Path],
    validation: list[Path],
    out: Path,
    budget: Budget,
    resume: bool,
    device: str,
    save_every_s: float,
    start_from: Path | None,
) -> None:
    device = find_device(device)
    where = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if device == "cuda" else device)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists() != resume:
        found = "no checkpoint.pt to resume" if resume else "holds a run already"
        raise InputError(f"{out}: {found}{'' if resume else ': --resume, or another folder'}")
    rank, world = process_group(where)
    if config.training.batch % world:
        raise InputError(f"config: training.batch: expected a multiple of {world} processes, "
                         f"found {config.training.batch}")  # fmt: skip
    images = load_images(data, config.training.crop)
    if validation:
        watched = load_images(validation, config.training.crop)
        images = images.without(watched)
    else:
        images, watched = images.hold_out()
    if not images.pixels:
        raise InputError("no image to train on: all of them are validation images")
    crops = center_crops(watched.pixels)
    run = (
        resume_run(config, budget, where, checkpoint)
        if resume
        else start_run(config, budget, where, images.pixels, start_from)
    )
    if rank == 0:
        out.mkdir(parents=True, exist_ok=True)
        _record_start(out, run, data, images, watched, world)
        if not crops:
            print(
                "ncodec: no validation: too few images to hold some out (--validation)",
                file=sys.stderr,
            )
        if not resume:
            (out / "log.jsonl").unlink(missing_ok=True)
            run.save(checkpoint)  # whatever happens from here on can be resumed
    store = ImageStore(images.pixels, where)
    count = len(images.pixels)
    del images
    with Log(out / "log.jsonl" if rank == 0 else None) as log:
        origin = {"weights": str(start_from), "optimizer": "new"} if start_from else {}
        log.write(event="start", step=run.step, images=count, device=str(where), processes=world, **origin)
        stopped = _steps(run, store, crops, log, checkpoint, save_every_s, rank, world)
        log.write(event="stopped" if stopped else "end", step=run.step, minutes=run.elapsed_s / 60,
                  skipped=run.skipped)  # fmt: skip
    if dist.is_initialized():
        dist.destroy_process_group()
    if stopped:
        raise KeyboardInterrupt(f"{out}: stopped at step {run.step}; --resume goes on")
    if rank == 0:
        _finish(run, crops, out)


def _steps(
    run: Run,
    store: ImageStore,
    crops: list[Tensor],
    log: Log,
    checkpoint: Path,
    save_every_s: float,
    rank: int,
    world: int,
) -> bool:
    """Train until the budget is spent; the first process logs, saves and validates. Return: by a signal?"""
    last_save = last_validation = run.elapsed_s
    signals: list[int] = []

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

    before = {
        number: signal.signal(number, lambda number, _: signals.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        train_until_spent(run, store, rank, world, on_step, stop=lambda: bool(signals))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if rank == 0:
        run.save(checkpoint)
        if crops and not signals:
            log.validation(run, validate(run.ema, crops, tuple(map(float, range(1, 9)))))
    return bool(signals)


def _finish(run: Run, crops: list[Tensor], out: Path) -> None:
    """Export, check the export on the validation images, and plot."""
    weights = out / "model.safetensors"
    (out / "check.json").unlink(missing_ok=True)
    export(out / "checkpoint.pt", weights)
    print(f"{weights}: {weights.stat().st_size} bytes")
    if crops:
        report = check_export(run.ema, weights, crops)
        write_json(out / "check.json", report)
        rate = report["bd_rate_percent"]
        verdict = "within 1 %" if report["ok"] else (
            "NOT within 1 %, as it is with tiny images or barely trained models: see check.json"
        )  # fmt: skip
        print(f"exported integers against the float model: BD-rate "
              f"{'unknown' if rate is None else f'{rate:+.2f} %'}, files against the estimate "
              f"{report['size_percent']:+.2f} %: {verdict}")  # fmt: skip
    plot(out)
    print(f"try it: ncodec encode photo.png --model {weights} -o photo.nc")
