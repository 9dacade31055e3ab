"""What several verbs' options share: their names, their help, and what is refused as wrong usage (exit code 2)."""

import math
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from ncodec.errors import InputError

# Click's, or typer's own copy of it, whichever this typer raises.
UsageError: Any = typer.BadParameter.__bases__[0]

Value = TypeVar("Value")
RUNNING = "Many files, machines, reports"  # a part of the help


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


def parse_quality(text: str) -> float:
    """Return a quality of 1 to 8; another's is wrong usage, also 90 or 90%, with a hint at the scale."""
    from ncodec.quality import quality_code

    number = _number(text.removesuffix("%"))
    if number is None:
        raise typer.BadParameter(f"expected a number from 1 to 8, found {text!r}")
    return checked(quality_code, number)


def parse_size(text: str) -> int:
    """Return a number of bytes: 40000, 40k, 40kB, 1.5M, 40KiB; another text is wrong usage.

    >>> parse_size("40k"), parse_size("1.5 MB"), parse_size("40KiB")
    (40000, 1500000, 40960)
    """
    digits = text.strip().rstrip("kKmMgGiBb")
    unit = text.strip()[len(digits) :].lower().removesuffix("b")
    factor = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
    number = _number(digits)
    if number is None or unit not in factor or number * factor[unit] < 1:
        raise typer.BadParameter(
            f"expected bytes such as 40000, 40k, 1.5M or 40KiB, found {text!r}"
        )
    return int(number * factor[unit])


def parse_colour(text: str) -> tuple[int, int, int]:
    """Return red, green and blue of a colour's name, #rrggbb or another way that Pillow knows."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise typer.BadParameter(
            f"expected a colour such as white or #ff8000, found {text!r}"
        ) from None
    return red, green, blue


def parse_region(text: str) -> tuple[int, int, int, int]:
    """Return X, Y, width and height of a part of a picture (pixels)."""
    try:
        left, top, width, height = (int(word) for word in text.replace("x", ",").split(","))
    except ValueError:
        raise typer.BadParameter(f"expected X,Y,WIDTH,HEIGHT in pixels, found {text!r}") from None
    if min(left, top) < 0 or min(width, height) < 1:
        raise typer.BadParameter(
            f"expected X and Y from 0 on, WIDTH and HEIGHT from 1 on, found {text!r}"
        )
    return left, top, width, height


def parse_scale(text: str) -> float:
    """Return a scale that decoding has."""
    scales = {"1": 1.0} | {f"1/{2**n}": 1 / 2**n for n in range(1, 5)}
    number = scales.get(text.strip()) or _number(text)
    if number is None or number not in scales.values():
        raise typer.BadParameter(f"expected {', '.join(scales)}, found {text!r}")
    return number


def _number(text: str) -> float | None:
    """Return what a text says, if it is a finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


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


def refuse_both(*options: tuple[str, bool]) -> None:
    """Refuse options, each with whether it was given, of which there may be one at most."""
    given = [name for name, is_given in options if is_given]
    if len(given) > 1:
        raise UsageError(f"either {' or '.join(given)}")


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
        parser=parse_quality,
        metavar="QUALITY",
        help="1 (smallest) to 8 (best), fractions allowed.",
        show_default="4",
    ),
]
Background = Annotated[
    Any,
    typer.Option(
        parser=parse_colour,
        metavar="COLOUR",
        help="Lay transparent pictures onto this colour: white, #ff8000.",
        show_default="transparency is kept",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        rich_help_panel=RUNNING, callback=check_device, help="cpu, or cuda, which needs torch."
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        rich_help_panel=RUNNING,
        min=0,
        help="Files at once, each on one thread; 0: one a core. 1: all cores on one.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        rich_help_panel=RUNNING, min=1, help="Threads, without --jobs.", show_default="all cores"
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        rich_help_panel=RUNNING,
        callback=_check_engine,
        help="local, or ray: the cluster of RAY_ADDRESS, else one on this machine.",
    ),
]
Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=RUNNING, help="Print JSON, one object a line.")
]
Quiet = Annotated[bool, typer.Option("--quiet", rich_help_panel=RUNNING, help="Print errors only.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force", rich_help_panel=RUNNING, help="Overwrite names that ncodec derives itself."
    ),
]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing", rich_help_panel=RUNNING, help="Leave outputs that are there as they are."
    ),
]
