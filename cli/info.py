"""`ncodec info`: what .nc files say of themselves."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from ncodec.cli import files
from ncodec.cli.batch import exit_code, print_error
from ncodec.cli.options import Json

from ncodec.errors import NcodecError, named


def info(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help=".nc files, or `-` for standard input."),
    ],
    as_json: Json = False,
) -> None:
    """Say what .nc files hold; verifies their checksums."""
    from ncodec.inspection import info as info_of

    codes = []
    for number, name in enumerate(inputs):
        try:
            data = files.read_bytes(name)
            with named(f"{files.shown(name)}: "):
                about = asdict(info_of(data))
        except NcodecError as error:
            print_error(error)
            codes.append(exit_code(error))
            continue
        if as_json:
            print(json.dumps({"input": name, **about}), flush=True)
            continue
        if len(inputs) > 1:
            print(f"{'' if number == 0 else chr(10)}{files.shown(name)}:")
        _print_table(about)
    if codes:
        raise SystemExit(max(codes))


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
