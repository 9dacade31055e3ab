"""`ncodec encode`: images into .nc files."""

import time
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import Annotated, Any, Literal, NamedTuple

import typer
from ncodec.cli import batch, files
from ncodec.cli.batch import Report
from ncodec.cli.options import (
    Device,
    Engine,
    Force,
    Jobs,
    Json,
    ModelOption,
    Output,
    Quality,
    Quiet,
    SkipExisting,
    Threads,
    UsageError,
    checked,
    refuse_both,
    use_threads,
)

from ncodec.errors import InputError, named

USUAL_QUALITY = 4.0


class Way(NamedTuple):
    """How images are encoded."""

    quality: float
    model: str | None
    tune: str | None
    device: str
    tile: int | None
    options: dict[str, Any]  # of the family
    has_metrics: bool


def encode_image(way: Way, source: str, data: bytes) -> tuple[bytes, Report]:
    """Return the .nc file of an image file, and the report; on any machine."""
    from ncodec import codec, container, image, metrics
    from ncodec.quality import quality_code, quality_of

    name = files.shown(source)
    if container.peek_header(data) is not None:
        raise InputError(f"{name}: is an .nc file already; an output is named by -o")
    picture = image.read(BytesIO(data), name)
    height, width = picture.pixels.shape[:2]
    begin = time.perf_counter()
    with named(f"{name}: "):
        coded = codec.encode(
            picture, way.quality, way.model, way.device, way.tile, tune=way.tune, **way.options
        )
    seconds = time.perf_counter() - begin
    bpp = metrics.bpp(len(coded), width, height)
    facts = {
        "input": source, "width": width, "height": height, "quality": quality_of(quality_code(way.quality)),
        "size_bytes": len(coded), "bpp": bpp, "encode_s": seconds,
    }  # fmt: skip
    text = f"{len(coded)} bytes, {bpp:.4f} bpp, {seconds:.2f} s"
    if way.has_metrics:
        begin = time.perf_counter()
        decoded = codec.decode_picture(coded, way.model, way.device)
        psnr = metrics.psnr(picture.pixels, decoded.pixels)
        seconds = time.perf_counter() - begin
        facts |= {"psnr": psnr if psnr != float("inf") else None, "metrics_s": seconds}
        text += f"; {psnr:.2f} dB, measured in {seconds:.2f} s"
    return coded, Report(facts, text)


def encode_jpeg(option: str, source: str, data: bytes) -> tuple[bytes, Report]:
    """Return the .nc file of a JPEG file, which it brings back, and the report; on any machine."""
    from ncodec import codec, container, metrics

    name = files.shown(source)
    if not data.startswith(b"\xff\xd8"):
        only = " only, so far" if option == "--lossless" else ""
        raise InputError(f"{name}: {option} takes JPEG files{only}, and this is none")
    begin = time.perf_counter()
    with named(f"{name}: "):
        coded = codec.encode_jpeg(data)
    seconds = time.perf_counter() - begin
    header = container.read(coded).header
    savings = 100 * (1 - len(coded) / len(data))
    facts = {
        "input": source, "width": header.width, "height": header.height, "jpeg_bytes": len(data),
        "size_bytes": len(coded), "savings_percent": savings,
        "bpp": metrics.bpp(len(coded), header.width, header.height), "encode_s": seconds,
    }  # fmt: skip
    compared = f"{abs(savings):.1f} % {'less' if savings >= 0 else 'more'} than the JPEG"
    text = f"{len(coded)} bytes, {compared}, which comes back byte for byte, {seconds:.2f} s"
    return coded, Report(facts, text)


def _check_tile(tile: int | None) -> int | None:
    if tile is None:
        return None
    from ncodec.tiles import tile_for

    return checked(lambda side: tile_for(1, 1, side), tile)


def _options(effort: int | None, assignments: Sequence[str]) -> dict[str, Any]:
    """Return the options of a family that are given: {"effort": 4, "transform": "angle"}."""
    given: dict[str, Any] = {} if effort is None else {"effort": effort}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not (key and equals):
            raise typer.BadParameter(
                f"expected KEY=VALUE, found {assignment!r}", param_hint="--option"
            )
        if key in given:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint="--option")
        given[key] = value
    return given


def _check_model(way: Way) -> None:
    """Refuse a model that cannot be had, a tune or options that it has not, ahead of all work.

    Raises:
        UsageError: no such tune; the family has no such option, or not with that value, or its weights lack it.
        InputError, UnknownModelError, WeightsMismatchError: the device or the model cannot be had.
    """
    from ncodec.models.load import find, load_by_name
    from ncodec.models.protocol import options_of

    try:
        find(way.model, way.tune)
    except InputError as error:
        raise UsageError(str(error)) from error
    loaded = load_by_name(way.model, way.device, way.tune)
    try:
        options = options_of(loaded.family.load().Options, loaded.name, way.options)
        loaded.layout(0, options)  # weights may lack what their family has
    except InputError as error:
        raise UsageError(str(error)) from error


def encode(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="IN...",
            help="Images, folders (the images directly in them), or `-` for standard input.",
        ),
    ],
    output: Output = None,
    quality: Quality = None,
    model: ModelOption = None,
    effort: Annotated[
        int | None,
        typer.Option(
            help="More is slower and smaller; `ncodec models` lists the efforts that models have.",
            show_default="the family's",
        ),
    ] = None,
    tune: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What errors are weighed by: visual or psnr, where `ncodec models` lists the model in both.",
            show_default="visual, where the model has it",
        ),
    ] = None,
    assignments: Annotated[
        list[str],
        typer.Option(
            "--option",
            metavar="KEY=VALUE",
            help="A choice of the family's own, such as dct's transform=angle; repeatable.",
        ),
    ] = [],  # noqa: B006
    tile: Annotated[
        int | None,
        typer.Option(
            callback=_check_tile,
            metavar="PIXELS",
            help="Side of the tile grid, at least 64; 0: one tile.",
            show_default="tiles for large images",
        ),
    ] = None,
    jpeg: Annotated[
        bool,
        typer.Option(
            "--jpeg",
            help="Make JPEG files smaller; `decode` brings them back byte for byte. No quality, no model.",
        ),
    ] = False,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Lose nothing: JPEG files only, as --jpeg.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Decode again and print the PSNR, timed apart.")
    ] = False,
    device: Device = "cpu",
    jobs: Jobs = 1,
    threads: Threads = None,
    engine: Engine = "local",
    force: Force = False,
    skip_existing: SkipExisting = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compress images into .nc files. Prints bytes, bits per pixel and seconds.

    Without -o, IN.nc beside each input. `encode IN OUT.nc` is `encode IN -o OUT.nc` where OUT.nc is not there yet.
    """
    way_of_jpeg: Literal["", "--jpeg", "--lossless"] = (
        "--jpeg" if jpeg else "--lossless" if lossless else ""
    )
    if way_of_jpeg:
        for name, is_given in (
            ("--quality", quality is not None),
            ("--model", model is not None),
            ("--effort", effort is not None),
            ("--tune", tune is not None),
            ("--option", bool(assignments)),
            ("--tile", tile is not None),
            ("--metrics", metrics),
        ):
            if is_given:
                raise UsageError(f"{way_of_jpeg} loses nothing and has no {name}")
    refuse_both(("--force", force), ("--skip-existing", skip_existing))
    refuse_both(("--quiet", quiet), ("--json", as_json))
    options = _options(effort, assignments)
    inputs, output = files.split_output(
        "encode", inputs, output, lambda name: files.suffix_of(name) == ".nc"
    )
    kinds = files.JPEG_SUFFIXES if way_of_jpeg else files.IMAGE_SUFFIXES
    use_threads(threads, jobs)

    work: batch.Work
    if way_of_jpeg:
        work = partial(encode_jpeg, way_of_jpeg)
    else:
        asked = USUAL_QUALITY if quality is None else quality
        way = Way(asked, model, tune, device, tile, options, metrics)
        if options or model is not None or tune is not None or device != "cpu":
            _check_model(way)
        work = partial(encode_image, way)
    items = files.plan(inputs, output, kinds, lambda _: ".nc", force, skip_existing)
    batch.run(items, work, jobs, engine, quiet, as_json)
