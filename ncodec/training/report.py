"""What a run says of itself: log.jsonl, the live table on a terminal, and curves.png at the end."""

import json
import math
import sys
import time
from collections import deque
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from torch import Tensor

from ncodec.training.rehearsal import Rehearsal, peak_flops
from ncodec.training.run import Run

LOG_EVERY_S = 20.0
SHOWN_VALIDATIONS = 4
LOOK = {"ssimulacra2": "SSIMULACRA2", "psnr": "PSNR (dB)"}  # what is shown: the first that is known


class Log(AbstractContextManager["Log"]):
    """A JSON line per event in a file; on a terminal a live table, otherwise the same lines.

    Args:
        path: log.jsonl, appended to; None in processes that are not the first.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        if path and path.exists() and not path.read_bytes().endswith(b"\n"):
            with path.open("a") as file:
                file.write("\n")  # after a line that a kill cut short
        self.sums: dict[str, Tensor] = {}  # of what steps measured
        self.counted, self.since = 0, time.monotonic()
        self.flops = 0  # of a step of all processes, and what their devices do a second at most
        self.peak_flops: float | None = None
        self.now: dict[str, Any] = {}  # the last line of means
        self.validations: deque[dict[str, Any]] = deque(maxlen=SHOWN_VALIDATIONS)
        console = Console(stderr=True)
        self.live = (
            Live(console=console, auto_refresh=False) if path and console.is_terminal else None
        )

    def __enter__(self) -> "Log":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def write(self, **fields: Any) -> None:
        """Write one event."""
        if self.path is None:
            return
        line = json.dumps(fields)
        with self.path.open("a") as file:
            file.write(line + "\n")
        if self.live is None:
            print(line, file=sys.stderr, flush=True)

    def rehearsal(self, run: Run, rehearsal: Rehearsal, world: int) -> None:
        """Write what a step is, and count from here on.

        Args:
            run: that begins, or goes on.
            rehearsal: of one process's share of a batch.
            world: processes, each with a device of its own.
        """
        self.flops, peak = world * rehearsal.flops, peak_flops(run.device)
        self.peak_flops = None if peak is None else world * peak
        found = rehearsal._asdict() | {"flops": self.flops}
        self.write(event="rehearsal", step=run.step, **found, **self._speed(rehearsal.seconds))
        self.counted, self.since = 0, time.monotonic()

    def _speed(self, step_s: float) -> dict[str, float]:
        """Return what of a device's FLOP/s steps of the network take; the share where its peak is known."""
        flops_per_s = self.flops / step_s
        share = {} if self.peak_flops is None else {"mfu": flops_per_s / self.peak_flops}
        return {"tflops_per_s": flops_per_s / 1e12} | share

    def step(self, run: Run, measured: dict[str, Tensor]) -> None:
        """Count what `training_step` returned; write a line of means when one is due."""
        if self.path is None:
            return
        if self.counted == 0 or measured.keys() != self.sums.keys():  # images after lessons
            self.counted, self.sums = 0, measured
        else:
            self.sums = {name: total + measured[name] for name, total in self.sums.items()}
        self.counted += 1
        seconds = time.monotonic() - self.since
        if seconds < LOG_EVERY_S:
            return
        means = {name: float(total) / self.counted for name, total in self.sums.items()}
        mse = means.pop("mse", 0.0)  # lessons have none
        fields = {
            "step": run.step,
            "minutes": round(run.elapsed_s / 60, 3),
            **means,
            "psnr": -10 * math.log10(mse) if mse > 0 else None,
            "images_per_s": self.counted * run.config.training.batch / seconds,
            **self._speed(seconds / self.counted),
            "skipped": run.skipped,
            "progress": round(run.progress, 5),
        }
        self.write(**fields)
        self.now = fields
        self.refresh(run)
        self.counted, self.since = 0, time.monotonic()

    def validation(self, run: Run, points: list[dict[str, float]]) -> None:
        """Write a rate-distortion curve of the EMA weights."""
        self.write(step=run.step, minutes=round(run.elapsed_s / 60, 3), validation=points)
        self.validations.append({"step": run.step, "points": points})
        self.refresh(run)
        self.since = time.monotonic()

    def refresh(self, run: Run) -> None:
        """Draw the table anew."""
        if self.live is None or not self.now:
            return
        now = self.now
        left_s = run.elapsed_s - run.budget.first_second
        left_s *= max(0.0, 1 - run.progress) / max(run.progress, 1e-9)
        table = Table("loss", "bpp", LOOK[_metric(now)], "images/s", "time left", "step", "skipped",
                      title=run.config.name)  # fmt: skip
        table.add_row(f"{now['loss']:.3f}", f"{now['bpp']:.4f}", _look(now), f"{now['images_per_s']:.1f}",
                      f"{left_s / 60:.0f} min", str(now["step"]), str(now["skipped"]))  # fmt: skip
        for shown in self.validations:
            for point in shown["points"]:
                table.add_row(f"{point['loss']:.3f}", f"{point['bpp']:.4f}", _look(point),
                              "validation", f"q {point['quality']:g}", str(shown["step"]), "")  # fmt: skip
        self.live.update(table, refresh=True)


def _metric(point: dict[str, Any]) -> str:
    return next(metric for metric in LOOK if metric in point)


def _look(point: dict[str, Any]) -> str:
    """Return how near pictures are to the originals, in words."""
    value = point[_metric(point)]
    return "-" if value is None else f"{value:.2f}"


def plot(run_folder: Path) -> None:
    """Draw loss over minutes and the first and last validation curves as curves.png."""
    from matplotlib.figure import Figure

    events = []
    for line in (run_folder / "log.jsonl").read_text().splitlines():
        with suppress(ValueError):  # a line that a kill cut short
            events.append(json.loads(line))
    steps = [e for e in events if "progress" in e]
    validations = [e for e in events if "validation" in e]
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    loss, curve = figure.subplots(1, 2)
    losses = [e["loss"] for e in steps]
    loss.plot([e["minutes"] for e in steps], losses, color="tab:gray", lw=0.8, label="training")
    known = set(LOOK).intersection(*(e["validation"][0] for e in validations))
    metric = next(name for name in LOOK if name in known)
    if validations:
        mean = [sum(p["loss"] for p in e["validation"]) / len(e["validation"]) for e in validations]
        loss.plot([e["minutes"] for e in validations], mean, "o-", ms=3, label="validation (EMA)")
        for event, name in ((validations[0], "first"), (validations[-1], "last")):
            points = event["validation"]
            curve.plot([p["bpp"] for p in points], [p[metric] for p in points], "o-",
                       label=f"{name}: step {event['step']}")  # fmt: skip
        curve.legend()
    loss.set(xlabel="minutes", ylabel="loss (log J)")
    loss.legend()
    curve.set(xlabel="bits per pixel (estimated)", ylabel=LOOK[metric], title="validation images")
    figure.savefig(run_folder / "curves.png", dpi=120)
