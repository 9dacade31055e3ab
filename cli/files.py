"""Which files are read and written: folders as inputs, names of outputs, standard streams.

    photos/ -o out/     photos/a/b.jpg --> out/a/b.nc

All that can be refused is refused here, before anything is written. No input is ever overwritten.
"""

import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from ncodec.cli.options import UsageError

from ncodec.errors import InputError
from ncodec.files import write_whole

# Of images, in folders and as the second of two names.
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".jp2",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".heic", ".heif", ".jxl",
)  # fmt: skip
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")


class Item(NamedTuple):
    """A file to work on, and what becomes of it."""

    source: str
    target: str
    trouble: InputError | None = None  # why it will not be worked on
    is_skipped: bool = False


def shown(name: str) -> str:
    """Return the name of an input as messages have it."""
    return "standard input" if name == "-" else name


def suffix_of(name: str) -> str:
    """Return a name's suffix in lower case."""
    return Path(name).suffix.lower()


def read_bytes(name: str) -> bytes:
    """Return what is in a file, or in standard input."""
    if name == "-" and sys.stdin is None:
        raise InputError("standard input is closed")
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{shown(name)}: {error.strerror}") from error


def write_output(target: str, data: bytes) -> None:
    """Write a file whole or not at all, or standard output, or into a device or pipe.

    Raises:
        InputError: it cannot be written.
        OSError: standard output cannot be; BrokenPipeError where its reader has gone.
    """
    if target == "-":
        _write_standard_output(data)
        return
    path = Path(target)
    try:
        if path.exists() and not path.is_file():  # /dev/null, a pipe: nothing to rename over
            path.write_bytes(data)
        else:
            write_whole(path, data)
    except OSError as error:
        raise InputError(f"{target}: cannot write: {error.strerror}") from error


def _write_standard_output(data: bytes) -> None:
    if sys.stdout is None:
        raise InputError("standard output is closed")
    sys.stdout.flush()
    rest = memoryview(data)
    while rest:  # under PYTHONUNBUFFERED it takes what fits into a pipe, and says so
        rest = rest[sys.stdout.buffer.write(rest) :]
    sys.stdout.buffer.flush()


def split_output(
    verb: str, inputs: list[str], output: str | None, is_output: Callable[[str], bool]
) -> tuple[list[str], str | None]:
    """Return inputs and output, where two names without -o may be one of each, as other programs have it.

    Raises:
        UsageError: the output among the inputs exists: only -o overwrites; or it is a folder.
    """
    if output is not None or len(inputs) < 2:
        return inputs, output
    last, others = inputs[-1], inputs[:-1]
    if last == "-":
        raise UsageError(f"standard output is -o -: {_command(verb, others, '-')}")
    if (last.endswith("/") or os.path.isdir(last)) and not any(map(os.path.isdir, others)):
        raise UsageError(
            f"{last} is a folder, and last: {_command(verb, others, last)} writes into it; "
            "named first, what is in it is read"
        )
    if len(inputs) != 2 or not is_output(last):
        return inputs, output
    if os.path.exists(last):
        raise UsageError(
            f"{last} is no input, and exists: {_command(verb, others, last)} overwrites it"
        )
    return others, last


def _command(verb: str, inputs: list[str], output: str) -> str:
    names = [shlex.quote(name) for name in inputs[:2]] + ["..."] * (len(inputs) > 2)
    return f"ncodec {verb} {' '.join(names)} -o {shlex.quote(output)}"


def plan(
    inputs: list[str],
    output: str | None,
    kinds: Collection[str],
    derive: Callable[[str], str],
    force: bool,
    skip_existing: bool,
) -> list[Item]:
    """Return what to read and write; makes the folders that it takes.

    An input whose output would be lost, or would be a loss, is an item in trouble; the others are not.

    Args:
        inputs: files; folders, in which all files below them are meant; "-".
        output: file, folder, "-", or None: beside the inputs. What lies below a folder keeps its place below -o.
        kinds: suffixes of the files that are meant in a folder.
        derive: the suffix of an input's output.
        force: overwrite names that are derived.
        skip_existing: leave outputs that exist as they are.

    Raises:
        UsageError: these do not go together.
        InputError: a folder cannot be made.
    """
    has_folder = any(os.path.isdir(name) for name in inputs)
    into_folder = (
        output is not None and output != "-" and (output.endswith("/") or os.path.isdir(output))
    )
    if output is not None and not into_folder:
        if has_folder or len(inputs) > 1:
            given = "a folder as input" if len(inputs) == 1 else f"{len(inputs)} inputs"
            if output == "-":
                raise UsageError(f"standard output takes one file, found {given}")
            needs = "needs one as output" if len(inputs) == 1 else "need a folder"
            raise UsageError(f"{given} {needs}: -o {output}/")
        trouble = _losses([(inputs[0], output)]).get(0)
        is_there = skip_existing and os.path.isfile(output) and trouble is None
        return [Item(inputs[0], output, trouble, is_there)]
    if "-" in inputs:
        raise UsageError("standard input needs -o: a file, or `-` for standard output")

    items: list[Item] = []
    pairs: dict[tuple[str, str], tuple[str, str]] = {}  # a file that is named twice is done once
    for given in inputs:
        names, troubles = inside(given, kinds) if os.path.isdir(given) else ([given], [])
        if not names and not troubles:
            wanted = ", ".join(sorted(kinds))
            troubles = [InputError(f"{given}: no files in it that end in {wanted}")]
        items += [Item(given, "", trouble) for trouble in troubles]
        for name in names:
            below = os.path.dirname(os.path.relpath(name, given)) if name != given else ""
            folder = Path(name).parent if output is None else Path(output) / below
            target = str(folder / (Path(name).stem + derive(name)))
            pairs.setdefault((_place(name), _place(target)), (name, target))
    todo = list(pairs.values())
    losses = _losses(todo)
    for number, (name, target) in enumerate(todo):
        trouble = losses.get(number)
        exists = os.path.lexists(target) and not force and trouble is None
        if exists and not skip_existing:
            trouble = InputError(
                f"{target}: exists already; --force replaces it, --skip-existing leaves it, -o names another"
            )
        items.append(Item(name, target, trouble, exists and skip_existing))
    if output is not None:
        _make_folders({os.path.dirname(item.target) for item in items if item.trouble is None})
    return items


def inside(folder: str, kinds: Collection[str]) -> tuple[list[str], list[InputError]]:
    """Return the files below a folder that have one of these suffixes, sorted, and what cannot be looked into.

    Hidden files are left out, and what is in hidden or linked folders.
    """
    found: list[str] = []
    errors: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=errors.append):
        folders[:] = [name for name in folders if not name.startswith(".")]
        shown = [name for name in names if suffix_of(name) in kinds and not name.startswith(".")]
        found += [os.path.join(place, name) for name in shown]
    files = [name for name in found if os.path.isfile(name)]
    troubles = [InputError(f"{error.filename}: {error.strerror}") for error in errors]
    return sorted(files, key=lambda name: Path(name).parts), troubles


def _place(name: str) -> str:
    """Return a name as it is for one file however it is written; links are not followed but in its folder."""
    folder, file = os.path.split(name)
    return os.path.join(os.path.realpath(folder), file)


def _make_folders(folders: Iterable[str]) -> None:
    for folder in folders:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: cannot make the folder: {error.strerror}") from error


def _losses(pairs: list[tuple[str, str]]) -> dict[int, InputError]:
    """Return what is wrong with the pairs of input and output, by their numbers: an input or another's output would be lost."""
    inputs = {_file(name) for name, _ in pairs} - {None}
    sources: dict[str, list[str]] = {}
    for name, target in pairs:
        sources.setdefault(_place(target), []).append(name)
    troubles = {}
    for number, (name, target) in enumerate(pairs):
        others = " and ".join(other for other in sources[_place(target)] if other != name)
        if _file(target) in inputs and _file(target) == _file(name):
            troubles[number] = "would be written over itself; -o names another output"
        elif _file(target) in inputs:
            troubles[number] = f"its output {target} is an input too, and would be lost"
        elif others:
            troubles[number] = (
                f"its output {target} would be that of {others}, too; -o names another"
            )
    return {number: InputError(f"{pairs[number][0]}: {text}") for number, text in troubles.items()}


def _file(name: str) -> tuple[int, int] | None:
    """Return what tells a file from others, however it is named or linked; None where there is none."""
    if name == "-" or not os.path.isfile(name):
        return None
    about = os.stat(name)
    return about.st_dev, about.st_ino
