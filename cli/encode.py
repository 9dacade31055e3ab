"""`ncodec encode`: images into .nc files."""

import time
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from ncodec.cli import batch, files
from ncodec.cli.batch import Progress, Report, no_progress
from ncodec.cli.options import (
    Background,
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
    parse_quality,
    parse_size,
    refuse_both,
    use_threads,
)

from ncodec.errors import InputError, named

if TYPE_CHECKING:
    from ncodec.search import Target

JPEG_START = b"\xff\xd8"


class Way(NamedTuple):
    """How images are encoded."""

    quality: float | None
    model: str | None
    tune: str | None
    device: str
    tile: int | None
    options: dict[str, Any]  # of the family
    has_metrics: bool = False
    is_lossless: bool = False
    alpha_quality: float | None = None
    is_exact: bool = False  # colour under alpha 0 is kept
    is_stripped: bool = False
    frame: int | None = None
    background: tuple[int, int, int] | None = None
    target: "Target | None" = None  # in place of the quality


def encode_image(
    way: Way, source: str, data: bytes, progress: Progress = no_progress
) -> tuple[bytes, Report]:
    """Return the .nc file of an image file, and the report; on any machine."""
    from ncodec import codec, container, image, metrics
    from ncodec.families import family_by_id
    from ncodec.metadata.pictures import stripped

    name = files.shown(source)
    if container.peek_header(data) is not None:
        raise InputError(f"{name}: is an .nc file already; an output is named by -o")
    if way.is_lossless and data.startswith(JPEG_START) and way.frame is None:
        if way.is_stripped:
            raise InputError(f"{name}: comes back byte for byte, metadata included: no --strip")
        return encode_jpeg("--lossless", source, data)
    picture = image.read(BytesIO(data), name, way.frame)
    if way.background is not None:
        picture = image.flattened(picture, way.background)
    if way.is_stripped:
        picture = stripped(picture)
    height, width = picture.pixels.shape[:2]
    begin = time.perf_counter()
    with named(f"{name}: "):
        coded = codec.encode_picture(
            picture, way.quality, way.model, way.device, way.tile, tune=way.tune, lossless=way.is_lossless,
            alpha_quality=way.alpha_quality, exact=way.is_exact, target=way.target, progress=progress,
            **way.options,
        )  # fmt: skip
    seconds = time.perf_counter() - begin
    header = container.peek_header(coded)
    assert header is not None
    quality = header.quality if family_by_id(header.family).has_quality else None
    bpp = metrics.bpp(len(coded), width, height)
    facts = {
        "input": source, "width": width, "height": height, "quality": quality, "size_bytes": len(coded), "bpp": bpp,
        "encode_s": seconds, "notices": list(picture.notices),
    }  # fmt: skip
    chosen = f"q {quality:.2f}, " if way.target else ""
    text = f"{len(coded)} bytes, {bpp:.4f} bpp, {chosen}{seconds:.2f} s"
    if way.has_metrics:
        begin = time.perf_counter()
        decoded = codec.decode_picture(coded, way.model, way.device)
        psnr = metrics.of_pictures("psnr", picture, decoded)
        seconds = time.perf_counter() - begin
        facts |= {"psnr": psnr if psnr != float("inf") else None, "metrics_s": seconds}
        text += f"; {psnr:.2f} dB, measured in {seconds:.2f} s"
    return coded, Report(facts, text)


def encode_jpeg(
    option: str, source: str, data: bytes, progress: Progress = no_progress
) -> tuple[bytes, Report]:
    """Return the .nc file of a JPEG file, which it brings back, and the report; on any machine."""
    from ncodec import codec, container, metrics

    name = files.shown(source)
    if not data.startswith(JPEG_START):
        raise InputError(
            f"{name}: {option} takes JPEG files, and this is none; --lossless takes any"
        )
    begin = time.perf_counter()
    with named(f"{name}: "):
        coded = codec.encode_jpeg(data)
    seconds = time.perf_counter() - begin
    header = container.read(coded).header
    savings = 100 * (1 - len(coded) / len(data))
    facts = {
        "input": source, "width": header.width, "height": header.height, "jpeg_bytes": len(data),
        "size_bytes": len(coded), "savings_percent": savings,
        "bpp": metrics.bpp(len(coded), header.width, header.height), "encode_s": seconds, "notices": [],
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


def _target_of(values: dict[str, float | None]) -> "Target | None":
    """Return the target that is given; one that no file can have is wrong usage."""
    from ncodec.search import target_of

    try:
        return target_of(**values)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


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
    loaded = load_by_name("lossless" if way.is_lossless else way.model, way.device, way.tune)
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
            help="Images, folders (all images below them), or `-` for standard input.",
        ),
    ],
    output: Output = None,
    quality: Quality = None,
    target_size: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="BYTES",
            help="The best quality whose file has at most so many bytes: 40000, 40k, 1.5M, 40KiB.",
        ),
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(metavar="BPP", help="As --target-size, in bits per pixel.")
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(metavar="DB", help="The smallest file of at least that PSNR.")
    ] = None,
    target_ssimulacra2: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            help="The smallest file of at least that SSIMULACRA2: 70 looks good, 90 alike. Extra `eval`.",
        ),
    ] = None,
    lossless: Annotated[
        bool,
        typer.Option(
            "--lossless",
            help="Keep every pixel; JPEG files come back byte for byte. No quality, no model.",
        ),
    ] = False,
    jpeg: Annotated[
        bool, typer.Option("--jpeg", help="As --lossless, of JPEG files only.")
    ] = False,
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
    alpha_quality: Annotated[
        float | None,
        typer.Option(
            parser=parse_quality,
            metavar="QUALITY",
            help="Of transparency, as --quality.",
            show_default="lossless",
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Keep the colour of what is wholly transparent, too."),
    ] = False,
    background: Background = None,
    frame: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Of an animation this frame, from 0 on."),
    ] = None,
    strip: Annotated[
        bool,
        typer.Option(
            "--strip", help="Leave out EXIF, XMP and all else that does not change the look."
        ),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            callback=_check_tile,
            metavar="PIXELS",
            help="Side of the tile grid, at least 64; 0: one tile.",
            show_default="tiles for large images",
        ),
    ] = None,
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
    targets: dict[str, float | None] = {
        "size": target_size, "bpp": target_bpp, "psnr": target_psnr, "ssimulacra2": target_ssimulacra2,
    }  # fmt: skip
    given = {
        "--quality": quality is not None,
        **{f"--target-{metric}": value is not None for metric, value in targets.items()},
        "--model": model is not None,
        "--tune": tune is not None,
        "--alpha-quality": alpha_quality is not None,
    }
    of_pictures = {
        "--effort": effort is not None,
        "--option": bool(assignments),
        "--exact": exact,
        "--background": background is not None,
        "--frame": frame is not None,
        "--strip": strip,
        "--tile": tile is not None,
        "--metrics": metrics,
    }
    if lossless or jpeg:
        way_of_jpeg = "--jpeg" if jpeg else "--lossless"
        for name, is_given in (given | (of_pictures if jpeg else {})).items():
            if is_given:
                raise UsageError(f"{way_of_jpeg} loses nothing and has no {name}")
    refuse_both(*[(name, given[name]) for name in given if name == "--quality" or "target" in name])
    refuse_both(("--lossless", lossless), ("--jpeg", jpeg))
    refuse_both(("--force", force), ("--skip-existing", skip_existing))
    refuse_both(("--quiet", quiet), ("--json", as_json))
    target = _target_of(targets)
    options = _options(effort, assignments)
    inputs, output = files.split_output(
        "encode", inputs, output, lambda name: files.suffix_of(name) == ".nc"
    )
    use_threads(threads, jobs)

    work: batch.Work
    if jpeg:
        work = partial(encode_jpeg, "--jpeg")
    else:
        way = Way(
            quality, model, tune, device, tile, options, metrics, lossless, alpha_quality, exact, strip, frame,
            background, target,
        )  # fmt: skip
        if options or model is not None or tune is not None or device != "cpu" or lossless:
            _check_model(way)
        work = partial(encode_image, way)
    kinds = files.JPEG_SUFFIXES if jpeg else files.IMAGE_SUFFIXES
    items = files.plan(inputs, output, kinds, lambda _: ".nc", force, skip_existing)
    batch.run(items, work, jobs, engine, quiet, as_json)
