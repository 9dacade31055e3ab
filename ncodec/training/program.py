"""`ncodec train`: config + images -> a run folder, ready to encode with.

RUN/run.json            how to repeat it: config, data digest, versions, device, commit; one entry a start
RUN/log.jsonl           a JSON line per event
RUN/checkpoint.json     to resume from: names its shards, checkpoint-00-of-07-1a2b3c4d.pt …, at most 16 MiB each
RUN/curves.png          loss, and rate-distortion on the validation images
RUN/model.safetensors   the exported weights, with their entry in RUN/index.json
RUN/check.json          real files of the exported weights against the float network
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from ncodec.errors import InputError
from ncodec.models.load import find_device
from ncodec.nn.training import Lessons
from ncodec.training.checkpoint import MANIFEST
from ncodec.training.config import Config
from ncodec.training.data import Images, ImageStore, load_images
from ncodec.training.export import check_export, export
from ncodec.training.loop import process_group, train_until_spent
from ncodec.training.record import record_start, write_json
from ncodec.training.rehearsal import Rehearsal
from ncodec.training.report import Log, plot
from ncodec.training.run import Budget, Run, read_network, resume_run, start_run
from ncodec.training.validation import EVERY_QUALITY, center_crops, validate

VALIDATE_EVERY_S = 300.0
LEARNED = 512  # images that tell the export what the network makes of them
VALIDATION_QUALITIES = (1.0, 3.0, 5.0, 8.0)


def train(
    config: Config,
    data: list[Path],
    validation: list[Path],
    out: Path,
    budget: Budget,
    resume: bool = False,
    device: str = "cpu",
    save_every_s: float = 120.0,
    start_from: Path | None = None,
    is_compiled: bool = False,
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
        resume: go on from RUN/checkpoint.json.
        device: "cpu" or "cuda".
        save_every_s: seconds between checkpoints.
        start_from: weights file to start from, with a new optimiser state; not with `resume`.
        is_compiled: by torch.compile, where that works (rehearsal.py).

    Raises:
        InputError: no usable image, a run in `out` that is not resumed, a checkpoint or weights that do not
            fit the config, a first loss that is not finite, or `out` cannot be written, or the extra "train" is not installed.
        WeightsMismatchError: `start_from` is damaged, or not a weights file of ncodec.
        KeyboardInterrupt: ended by a signal; the checkpoint is written.
    """
    _check_installed()
    where, checkpoint = _torch_device(device), out / MANIFEST
    with _writing(out):
        check_folder(out, resume)
        rank, world = process_group(where)
        torch.backends.cudnn.benchmark = True  # crops are all of one size
        if config.training.batch % world:
            raise InputError(f"config: training.batch: expected a multiple of {world} processes, "
                             f"found {config.training.batch}")  # fmt: skip
        start = read_network(config, start_from) if start_from is not None else None
        images, watched = _images(data, validation, config.training.crop)
        crops = center_crops(watched.pixels, config.recipe.CROP_STRIDE)
        learned = center_crops(images.pixels, config.recipe.CROP_STRIDE, LEARNED)
        if resume:
            run = resume_run(config, budget, where, checkpoint)
        else:
            run = start_run(config, budget, where, images.pixels, start)
        if rank == 0:
            out.mkdir(parents=True, exist_ok=True)
            record_start(out / "run.json", run, data, images, watched, world, resume)
            if not resume:
                (out / "log.jsonl").unlink(missing_ok=True)
                run.save(checkpoint)  # whatever happens from here on can be resumed
        lessons = config.recipe.lessons(run.network, images.pixels)
        store = ImageStore(images.pixels, where)
        del images, watched  # the store has a copy
        is_stopped = _steps(run, store, lessons, crops, out, save_every_s, rank, world, is_compiled)
        if dist.is_initialized():
            dist.destroy_process_group()
        if is_stopped:
            raise KeyboardInterrupt(f"{out}: stopped at step {run.step}; --resume goes on")
        if rank == 0:
            _finish(run, learned, crops, out)


def _check_installed() -> None:
    for package in ("matplotlib", "scipy"):
        if find_spec(package) is None:
            raise InputError(f"ncodec train needs {package}: pip install 'ncodec[train]'")
    if not hasattr(torch.optim, "Muon"):
        raise InputError(f"ncodec train needs torch 2.9 or later, found {torch.__version__}")


def check_folder(out: Path, resume: bool) -> None:
    """Raise InputError unless a run can start in a folder, or go on."""
    if (out / MANIFEST).exists() != resume:
        found = "no checkpoint.json to resume" if resume else "holds a run already"
        raise InputError(f"{out}: {found}{'' if resume else ': --resume, or another folder'}")


def _torch_device(device: str) -> torch.device:
    kind = find_device(device)
    return torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if kind == "cuda" else kind)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn what a file system refuses into an InputError."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or out}: {error.strerror}") from error


def _images(data: list[Path], validation: list[Path], crop: int) -> tuple[Images, Images]:
    """Return the images to train on, and those to watch."""
    images = load_images(data, crop)
    if validation:
        watched = load_images(validation, crop)
        images = images.without(watched)
    else:
        images, watched = images.hold_out()
        if not watched.pixels:
            print(
                "ncodec: no validation: too few images to hold some out (--validation)",
                file=sys.stderr,
            )
    if not images.pixels:
        raise InputError("no image to train on: all of them are validation images")
    return images, watched


def _steps(
    run: Run,
    store: ImageStore,
    lessons: Lessons | None,
    crops: list[Tensor],
    out: Path,
    save_every_s: float,
    rank: int,
    world: int,
    is_compiled: bool,
) -> bool:
    """Train until the budget is spent; the first process logs, saves and validates. Return: by a signal?"""
    last_save = last_validation = run.elapsed_s
    signals: list[int] = []
    log = Log(out / "log.jsonl" if rank == 0 else None)

    def watch(qualities: tuple[float, ...]) -> None:
        if crops:
            points = validate(run.ema, crops, qualities, run.device, run.config.objective)
            log.validation(run, points)

    def on_rehearsal(rehearsal: Rehearsal) -> None:
        log.rehearsal(run, rehearsal, world)

    def on_step(run: Run, measured: dict[str, Tensor]) -> None:
        nonlocal last_save, last_validation
        if rank > 0:
            return
        log.step(run, measured)
        if run.elapsed_s - last_save >= save_every_s:
            run.save(out / MANIFEST)
            last_save = run.elapsed_s
        if run.elapsed_s - last_validation >= VALIDATE_EVERY_S:
            watch(VALIDATION_QUALITIES)
            last_validation = run.elapsed_s

    with log, _caught(signals):
        log.write(event="start", step=run.step, images=len(store.starts), device=str(run.device),
                  processes=world, **({"from": run.origin} if run.origin else {}))  # fmt: skip
        if run.origin and rank == 0:
            watch(VALIDATION_QUALITIES)  # what the weights are worth that it starts from
        train_until_spent(run, store, lessons, rank, world, on_rehearsal, on_step,
                          stop=lambda: bool(signals), is_compiled=is_compiled)  # fmt: skip
        if rank == 0:
            run.save(out / MANIFEST)
            if not signals:
                watch(EVERY_QUALITY)
        log.write(event="stopped" if signals else "end", step=run.step, minutes=run.elapsed_s / 60,
                  skipped=run.skipped)  # fmt: skip
    return bool(signals)


@contextmanager
def _caught(signals: list[int]) -> Iterator[None]:
    """Collect SIGINT and SIGTERM."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda number, _: signals.append(number)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _finish(run: Run, learned: list[Tensor], crops: list[Tensor], out: Path) -> None:
    """Export, check the export on the validation images, and plot.

    Args:
        run: finished.
        learned: some images that it was trained on.
        crops: validation images.
        out: the run folder.
    """
    weights = out / "model.safetensors"
    (out / "check.json").unlink(missing_ok=True)
    export(out / MANIFEST, weights, learned)
    print(f"{weights}: {weights.stat().st_size} bytes")
    if crops:
        report = check_export(run, weights, crops)
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
