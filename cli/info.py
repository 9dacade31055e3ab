"""`ncodec info`: what .nc files say of themselves: a table of one, a line each of several."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from ncodec.cli import files
from ncodec.cli.batch import exit_code, print_error
from ncodec.cli.options import Json

from ncodec.errors import InputError, NcodecError, named

if TYPE_CHECKING:
    from ncodec.inspection import Info


def info(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help=".nc files, folders (all .nc files below them), or `-` for standard input.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say what .nc files hold; verifies their checksums."""
    from ncodec.inspection import info as info_of

    names, codes = [], []
    for given in inputs:
        inside, troubles = files.inside(given, [".nc"]) if os.path.isdir(given) else ([given], [])
        if not inside and not troubles:
            troubles = [InputError(f"{given}: no files in it that end in .nc")]
        names += inside
        for trouble in troubles:
            print_error(trouble)
            codes.append(exit_code(trouble))
    for name in names:
        try:
            data = files.read_bytes(name)
            with named(f"{files.shown(name)}: "):
                about = info_of(data)
        except NcodecError as error:
            print_error(error)
            codes.append(exit_code(error))
            continue
        if as_json:
            print(json.dumps({"input": name, **asdict(about)}), flush=True)
        elif names != inputs or len(names) > 1:
            print(f"{files.shown(name)}: {_line(about)}", flush=True)
        else:
            _print_table(asdict(about))
    if codes:
        raise SystemExit(max(codes))


def _line(about: "Info") -> str:
    """Return what is usually asked for, on a line."""
    channels = ("grey" if about.channels == 1 else "RGB") + (" and alpha" if about.alpha else "")
    size = f"{about.width}x{about.height} {channels}, {about.bit_depth} bits"
    parts = [size, about.model or about.family]
    if about.quality is not None:
        parts.append(f"q {about.quality:.2f}")
    return ", ".join([*parts, f"{about.size_bytes} bytes", f"{about.bpp:.4f} bpp"])


def _print_table(about: dict[str, Any]) -> None:
    shown = {key: "-" if value is None else value for key, value in about.items()}
    shown["bpp"] = f"{about['bpp']:.4f}"
    if about["quality"] is not None:
        shown["quality"] = f"{about['quality']:.2f}"
    packed = shown.pop("packed_bytes")
    sizes = [
        f"{name} {n} bytes ({packed[name]} in the file)" for name, n in about["metadata"].items()
    ]
    shown["metadata"] = ", ".join(sizes) or "-"
    width = max(map(len, shown))
    for key, value in shown.items():
        print(f"{key:{width}}  {value}")
