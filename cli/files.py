"""Which files are read and written: folders as inputs, names of outputs, standard streams.

All that can be refused is refused here, before anything is written. No input is ever overwritten.
"""

import os
import shlex
import sys
from collections.abc import Callable, Collection
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
    """Return what to read and write; makes the folder of -o.

    Args:
        inputs: files; folders, in which the files directly in them are meant; "-".
        output: file, folder, "-", or None: beside the inputs.
        kinds: suffixes of the files that are meant in a folder.
        derive: the suffix of an input's output.
        force: overwrite names that are derived.
        skip_existing: leave outputs that exist as they are.

    Raises:
        UsageError: these do not go together.
        InputError: an input would be overwritten, or two outputs have one name; the folder cannot be made.
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
        _refuse_losses([(inputs[0], output)], [])
        is_there = skip_existing and os.path.isfile(output)
        return [Item(inputs[0], output, is_skipped=is_there)]
    if "-" in inputs:
        raise UsageError("standard input needs -o: a file, or `-` for standard output")

    names, items = [], []
    for name in inputs:
        inside = _in_folder(name, kinds) if os.path.isdir(name) else [name]
        if not inside:
            wanted = ", ".join(sorted(kinds))
            items.append(Item(name, "", InputError(f"{name}: no files in it that end in {wanted}")))
        names += inside
    pairs = []
    for name in names:
        folder = Path(name).parent if output is None else Path(output)
        pairs.append((name, str(folder / (Path(name).stem + derive(name)))))
    _refuse_losses(pairs, _clashes(pairs))
    for name, target in pairs:
        exists = os.path.lexists(target) and not force
        trouble = None
        if exists and not skip_existing:
            trouble = InputError(
                f"{target}: exists already; --force replaces it, --skip-existing leaves it, -o names another"
            )
        items.append(Item(name, target, trouble, exists and skip_existing))
    if output is not None and pairs:
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: cannot make the folder: {error.strerror}") from error
    return items


def _in_folder(folder: str, kinds: Collection[str]) -> list[str]:
    """Return the files directly in a folder that have one of these suffixes; no hidden ones."""
    try:
        inside = sorted(Path(folder).iterdir())
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    return [
        str(path)
        for path in inside
        if path.suffix.lower() in kinds and not path.name.startswith(".") and path.is_file()
    ]


def _clashes(pairs: list[tuple[str, str]]) -> list[str]:
    """Return a line for each output that several inputs have."""
    sources: dict[str, list[str]] = {}
    for name, target in pairs:
        folder, file = os.path.split(target)
        sources.setdefault(os.path.join(os.path.realpath(folder), file), []).append(name)
    shared = {target: names for target, names in sources.items() if len(names) > 1}
    return [
        f"{os.path.relpath(target)}: would be written from {' and '.join(names)}"
        for target, names in shared.items()
    ]


def _refuse_losses(pairs: list[tuple[str, str]], clashes: list[str]) -> None:
    """Refuse outputs that are inputs too, and those that would overwrite each other: all in one message."""
    files = {}
    for name, _ in pairs:
        if os.path.isfile(name):
            about = os.stat(name)
            files[about.st_dev, about.st_ino] = name
    lost = []
    for name, target in pairs:
        if os.path.isfile(target):
            about = os.stat(target)
            if files.get((about.st_dev, about.st_ino)) == name:
                lost.append(f"{name}: would be written over itself; -o names another output")
            elif (about.st_dev, about.st_ino) in files:
                lost.append(f"{target}: is an input too, and would be lost")
    if lost or clashes:
        raise InputError("\n".join(lost + clashes))
