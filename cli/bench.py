"""`ncodec bench`: how fast this machine is."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from ncodec.cli.files import write_output
from ncodec.cli.options import check_device

from ncodec.errors import InputError, named, needing

bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
Record = Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")]


def _speed_printer() -> Callable[[str, dict[str, Any]], None]:
    """Return what prints a line of a benchmark, under its stream's name when that is new."""
    printed = ""

    def report(stream: str, row: dict[str, Any]) -> None:
        nonlocal printed
        if stream != printed:
            typer.echo(
                f"{stream}\n  {'':38}{'encode':>9}{'decode':>9}  Msymbols/s, bytes, overhead"
            )
        printed = stream
        typer.echo(_speed_line(row))

    return report


def _speed_line(row: dict[str, Any]) -> str:
    if "symbols" not in row:  # of a whole codec
        speeds = f"encode {row['encode_s']:.3f} s, decode {row['decode_s']:.3f} s"
        return f"  {row['coder']:38}{'-':>9}{'-':>9}  {row['bytes']:,}; whole {speeds}"
    both = [row[way + "_msymbols_s"] for way in ("encode", "decode")]
    speeds = "".join(f"{'-':>9}" if speed is None else f"{speed:9.1f}" for speed in both)
    line = f"  {row['coder']:38}{speeds}  {row['bytes']:,}"
    line += "" if row["overhead_percent"] is None else f" {row['overhead_percent']:+.3f} %"
    if "encode_s" in row:
        line += f"; whole encode {row['encode_s']:.3f} s, decode {row['decode_s']:.3f} s: the coder takes "
        line += f"{row['coder_share_of_encode_percent']:.2f} and {row['coder_share_of_decode_percent']:.2f} %"
    return line


def _print_row(row: dict[str, Any]) -> None:
    """Print a row of decoding on a device."""
    shares = ", ".join(f"{stage} {share:.0f} %" for stage, share in row["share_percent"].items())
    typer.echo(
        f"  quality {row['quality']}, {row['batch']:2} together: {1000 * row['seconds']:8.2f} ms, "
        f"{row['kodak_images_s']:7.3g} Kodak images/s; {shares}"
    )


def _check_writable(record: Path | None) -> None:
    """Refuse a name that cannot be written before the work, not after it."""
    if record and (
        record.is_dir() or not record.parent.is_dir() or not os.access(record.parent, os.W_OK)
    ):
        raise InputError(f"{record}: cannot write there")


def _print_machine(results: dict[str, Any], record: Path | None) -> None:
    typer.echo(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    if record:
        write_output(str(record), (json.dumps(results, indent=1) + "\n").encode())


@bench_app.command("coder")
def bench_coder(record: Record = None) -> None:
    """Speed of the entropy coders: ours in every variant, constriction's and CompressAI's where installed. About a minute."""
    from ncodec.evaluation import bench

    _check_writable(record)
    _print_machine(bench.bench_coder(_speed_printer()), record)


@bench_app.command("image")
def bench_image(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="A picture of at most 2^24 pixels.")
    ],
    device: Annotated[
        str | None,
        typer.Option(
            callback=check_device,
            help="cuda, or cpu: decoding by torch into the memory of this device, alone and in batches.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="With --device: a model of family hyperprior or ftic.")
    ] = None,
    record: Record = None,
) -> None:
    """Seconds of a whole encode and decode of an image, the entropy coder's share of them, and model dct's seconds; with --device, of decoding on it."""
    import numpy as np

    from ncodec.evaluation import bench
    from ncodec.image import plain, read

    _check_writable(record)
    with named(f"{image}: "):
        pixels = plain(read(image, str(image)), "bench").pixels
    pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)
    if device is None:
        if model is not None:
            raise typer.BadParameter("only with --device", param_hint="--model")
        _print_machine(bench.bench_image(pixels, _speed_printer()), record)
        return
    with needing("bench image --device", "torch"):
        from ncodec.evaluation import on_device
    _print_machine(on_device.bench_image(pixels, device, model, _print_row), record)


@bench_app.command("networks")
def bench_networks(record: Record = None) -> None:
    """Speed of integer networks in every variant, on one thread, beside PyTorch's and, where installed, ONNX Runtime's float32. About a minute."""
    from ncodec.evaluation import networks

    _check_writable(record)
    printed: set[str] = set()

    def report(network: str, row: dict[str, Any]) -> None:
        if network not in printed:
            typer.echo(f"{network}\n  {'':38}{'GMAC/s':>9}{'ms':>9}")
        printed.add(network)
        typer.echo(f"  {row['executor']:38}{row['gmac_s']:9.1f}{1000 * row['seconds']:9.2f}")

    results = networks.bench_networks(report)
    for name in results["absent"]:
        typer.echo(f"not installed: {name}")
    _print_machine(results, record)
