"""What several verbs' options share: their names, their help, and what is refused as wrong usage (exit code 2)."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from ncodec.errors import InputError

# Click's, or typer's own copy of it, whichever this typer raises.
UsageError: Any = typer.BadParameter.__bases__[0]

Value = TypeVar("Value")


def checked(check: Callable[[Value], Any], value: Value) -> Value:
    """Return a value of an option if the library takes it; its refusal is wrong usage."""
    try:
        check(value)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    return value


def check_device(device: str | None) -> str | None:
    """Return the name of a device, or None for none; another's is wrong usage."""
    if device in (None, "cpu"):
        return device
    from ncodec.models.load import check_device as check

    return checked(check, device)


def _check_engine(engine: str) -> str:
    from ncodec.parallel import ENGINES

    if engine not in ENGINES:
        raise typer.BadParameter(f"expected {' or '.join(ENGINES)}, found {engine!r}")
    return engine


def _check_quality(quality: float | None) -> float | None:
    from ncodec.quality import MAX_QUALITY, MIN_QUALITY

    if quality is not None and not MIN_QUALITY <= quality <= MAX_QUALITY:
        raise typer.BadParameter(
            f"expected {MIN_QUALITY} (smallest files) to {MAX_QUALITY} (best), found {quality:g};"
            " 4 is the usual one, 8 is hard to tell from the original"
        )
    return quality


def use_threads(threads: int | None, jobs: int) -> None:
    """Let the library have so many threads, and torch, if it will be imported."""
    if threads is None:
        return
    if jobs != 1:
        raise UsageError("either --threads or --jobs: each job has one thread")
    from ncodec.threads import set_num_threads

    set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def refuse_both(first: tuple[str, bool], second: tuple[str, bool]) -> None:
    """Refuse two options, each with whether it was given, that do not go together."""
    if first[1] and second[1]:
        raise UsageError(f"either {first[0]} or {second[0]}")


Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="File (overwritten), folder, or `-` for standard output.",
        show_default="beside the input",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="Name of a shipped model, or a weights file.", show_default="the first"
    ),
]
Quality = Annotated[
    float | None,
    typer.Option(
        "-q",
        "--quality",
        callback=_check_quality,
        help="1 (smallest) to 8 (best), fractions allowed.",
        show_default="4",
    ),
]
Device = Annotated[
    str, typer.Option(callback=check_device, help="cpu, or cuda, which needs torch.")
]
Jobs = Annotated[
    int,
    typer.Option(
        min=0, help="Files at once, each on one thread; 0: one a core. 1: all cores on one."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads, without --jobs.", show_default="all cores"),
]
Engine = Annotated[
    str,
    typer.Option(
        callback=_check_engine,
        help="local, or ray: the cluster of RAY_ADDRESS, else one on this machine.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite names that ncodec derives itself.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave outputs that are there as they are.")
]
