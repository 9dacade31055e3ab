"""RUN/run.json: how a run can be repeated, one entry a start."""

import json
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ncodec.errors import InputError
from ncodec.files import write_whole
from ncodec.parallel import cpu_name
from ncodec.training.data import Images
from ncodec.training.run import Run

PACKAGES = ("ncodec", "torch", "numpy", "pillow")


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


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


def record_start(
    file: Path,
    run: Run,
    data: list[Path],
    train: Images,
    validation: Images,
    world: int,
    is_resumed: bool,
) -> None:
    """Append this start to run.json, and say what changed since the last.

    Raises:
        InputError: the file holds something else.
    """
    starts: list[dict[str, Any]] = []
    if is_resumed and file.exists():
        try:
            starts = json.loads(file.read_text())
        except ValueError as error:
            raise InputError(f"{file}: damaged ({error}); remove it to go on") from error
    is_cuda = run.device.type == "cuda"
    start = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": sys.argv,
        "config": run.config.to_dict(),
        "from": run.origin,
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
        "device": torch.cuda.get_device_name(run.device) if is_cuda else cpu_name(),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "commit": _commit(),
    }
    for key in ("config", "data", "validation"):
        if starts and _essence(starts[-1][key]) != _essence(start[key]):
            print(f"ncodec: {file.parent}: resumed with other {key} than before", file=sys.stderr)
    write_json(file, [*starts, start])


def _essence(value: Any) -> Any:
    return value.get("sha256", value)
