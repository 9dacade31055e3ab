"""A model in one go, on a machine that is there for half an hour: `python -m ncodec.training.once CONFIG DATA... --minutes M`.

    rehearsal --> training, a checkpoint a minute --> weights, their check --> pytest -m gpu --> FOLDER/summary.json

FOLDER is a run folder (program.py) with gpu_tests.txt, every file small enough to carry away. `--resume` goes on in it, with
what is left of its minutes, should the machine have gone away. On a GPU if there is one.
"""

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ncodec.errors import NcodecError
from ncodec.models.weights import find_start
from ncodec.training.checkpoint import SHARD_BYTES
from ncodec.training.config import read_config
from ncodec.training.program import check_folder, train
from ncodec.training.record import write_json
from ncodec.training.run import Budget

SAVE_EVERY_S = 60.0
TESTS_S = 300.0  # after which they are ended
ROOT = Path(__file__).resolve().parents[2]  # of a checkout


def gpu_tests(log: Path) -> str | None:
    """Run the tests that need a GPU, as `log` has it; return how they ended, or None without a GPU or a checkout."""
    if not torch.cuda.is_available() or not (ROOT / "tests").is_dir():
        return None
    options = [
        "-q",
        "-m",
        "gpu",
        "-n",
        "4",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",  # where that plugin is, it refuses to start beside xdist
        "--continue-on-collection-errors",
    ]
    with log.open("w") as file:
        try:
            subprocess.run([sys.executable, "-m", "pytest", *options], cwd=ROOT, stdout=file,
                           stderr=subprocess.STDOUT, timeout=TESTS_S)  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"not done after {TESTS_S:g} s"
    return log.read_text().strip().rpartition("\n")[2]


def summary(out: Path) -> dict[str, Any]:
    """Return what is in a run folder: its last lines, its check without curves, its files (bytes)."""
    events, path = [], out / "log.jsonl"
    for line in path.read_text().splitlines() if path.is_file() else []:
        with suppress(ValueError):  # a line that a kill cut short
            events.append(json.loads(line))
    found: dict[str, Any] = {
        "rehearsal": next((e for e in reversed(events) if e.get("event") == "rehearsal"), None),
        "last": next((e for e in reversed(events) if "progress" in e), None),
        "validation": next((e for e in reversed(events) if "validation" in e), None),
    }
    if (out / "check.json").is_file():
        check = json.loads((out / "check.json").read_text())
        found["check"] = {key: check[key] for key in check.keys() - {"float", "files"}}
    found["files"] = {p.name: p.stat().st_size for p in sorted(out.iterdir()) if p.is_file()}
    found["too_large"] = [name for name, size in found["files"].items() if size > SHARD_BYTES]
    return found


def main(
    config: Annotated[str, typer.Argument(help="As of ncodec train.")],
    data: Annotated[list[Path], typer.Argument(help="Folders or tar shards of images.")],
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Of training; loading, export and tests are beside it. With --resume: by default what is left of them."
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Run folder.")] = Path("once-run"),
    start_from: Annotated[str | None, typer.Option("--from", help="Weights to start from.")] = None,
    validation: Annotated[list[Path], typer.Option(help="Images never trained on.")] = [],  # noqa: B006
    assignments: Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE")] = [],  # noqa: B006
    is_compiled: Annotated[bool, typer.Option("--compile")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on in the run folder.")] = False,
) -> None:
    """Train, export, test, and leave a summary; what is there when something fails stays, and is summed up."""
    if resume and start_from is not None:
        raise typer.BadParameter("either --from or --resume", param_hint="--from")
    if minutes is None and not resume:
        raise typer.BadParameter("how long?", param_hint="--minutes")
    if minutes is not None and not 0 < minutes < float("inf"):
        raise typer.BadParameter(
            f"expected a positive number, found {minutes}", param_hint="--minutes"
        )
    begin, device = time.monotonic(), "cuda" if torch.cuda.is_available() else "cpu"
    origin = None if start_from is None else find_start(start_from)
    settings, budget = read_config(config, assignments), Budget(minutes, None)
    check_folder(out, resume)
    ended, tests = "failed", None
    try:
        train(settings, data, validation, out, budget, resume, device,
              SAVE_EVERY_S, origin, is_compiled)  # fmt: skip
        ended = "finished"
        tests = gpu_tests(out / "gpu_tests.txt")
    except KeyboardInterrupt:
        ended = "stopped; --resume goes on"
    finally:
        if (out / "run.json").is_file():  # it began
            about = {
                "ended": ended,
                "device": device,
                "seconds": round(time.monotonic() - begin, 1),
            }
            write_json(out / "summary.json", about | {"gpu_tests": tests} | summary(out))
            print((out / "summary.json").read_text())
    if ended != "finished":
        raise typer.Exit(130)


if __name__ == "__main__":
    try:
        typer.run(main)
    except NcodecError as error:
        sys.exit(f"once: {error}")
