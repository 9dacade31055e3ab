"""`ncodec eval` and `ncodec compare`: codecs measured on images."""

import json
import math
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from ncodec.cli.batch import INTERRUPTED, exit_code
from ncodec.cli.options import Engine, Json, refuse_both

from ncodec.errors import InputError, NcodecError

if TYPE_CHECKING:
    from ncodec import evaluation


Value = TypeVar("Value")


def _parsed(parse: Callable[[str], Value], text: str, option: str) -> Value:
    """Return what an option's text means; a text that means nothing is wrong usage."""
    try:
        return parse(text)
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _rates(text: str, option: str) -> list[float]:
    """Return rates (bpp), each once, from the lowest."""
    try:
        rates = sorted({float(part) for part in text.split(",")}) if text else []
    except ValueError:
        rates = [math.nan]
    if not all(0 < rate < math.inf for rate in rates):
        raise typer.BadParameter(f"expected bpp such as 0.1,0.2, found {text!r}", param_hint=option)
    return rates


def _read_images(paths: list[Path]) -> tuple[list["evaluation.Image"], list[dict[str, str]]]:
    """Return the images in files and folders, and what could not be read, in the form of `RDCurve.failures`."""
    from ncodec.evaluation import Image, read_image

    files = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
        files += [p for p in inside if not p.name.startswith(".")]
    images, read, gaps = [], [], []
    for file in files:
        try:
            images.append(read_image(file))
            read.append(file)
        except NcodecError as error:
            gaps.append({"image": file.name, "asked": "", "message": str(error)})
    names = [image.name for image in images]
    if len(set(names)) < len(names):  # from several folders
        images = [Image(str(f), i.pixels) for f, i in zip(read, images, strict=True)]
    return images, gaps


def _run_study(study: "evaluation.Study") -> None:
    """Run it with a bar, or, where there is no terminal, a line for each tenth."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None)
        tenth = -1
        for done, total, label in study.run():
            progress.update(
                task, completed=done, total=total, description=label.replace("[", r"\[")
            )
            if not console.is_terminal and total and done * 10 // total > tenth:
                tenth = done * 10 // total
                print(f"ncodec: {done} of {total} measured, {label}", file=sys.stderr, flush=True)


def _study(
    images: list[Path],
    codecs: list[str],
    quality: str,
    anchors: list[str],
    engine: str,
    jobs: int,
    cache: Path | None,
    no_cache: bool,
    low: bool,
    metrics: list[str],
) -> tuple["evaluation.Study", list[dict[str, str]]]:
    """Return what is to be measured, and the images that cannot be read; `anchors` get their codecs' shortest names."""
    from ncodec import evaluation
    from ncodec.inspection import list_models
    from ncodec.parallel import attempt

    parts = quality.split(",") if quality else []
    qualities = [_parsed(evaluation.parse_quality, part, "--quality") for part in parts]
    chosen = codecs or [list_models()[0].base]
    named = [_parsed(evaluation.parse_codec, name, "--codec") for name in chosen]
    known = [evaluation.codec_name(codec) for codec in named]
    for number, name in enumerate(anchors):
        if attempt(evaluation.parse_codec, name) in named:  # however its options are ordered
            anchors[number] = evaluation.codec_name(evaluation.parse_codec(name))
        if anchors[number] not in known:
            evaluation.find_anchor(name)
    pictures, gaps = _read_images(images)
    if not pictures and gaps:
        raise InputError(f"no image can be read: {gaps[0]['message']}")
    kept = evaluation.Cache(None if no_cache else cache or evaluation.default_cache())
    study = evaluation.Study(named, pictures, qualities, kept, engine, jobs, low, metrics)
    for message in study.missing:
        print(f"ncodec: not measured: {message}", file=sys.stderr)
    return study, gaps


Metrics = Annotated[
    list[str],
    typer.Option(
        "--metric",
        metavar="cvvdp|butteraugli|all",
        help="Measure this too, beside PSNR, MS-SSIM and SSIMULACRA2; the package cvvdp, the program butteraugli_main.",
    ),
]


def _metrics(names: list[str]) -> list[str]:
    """Return the metrics that are measured on demand among those named."""
    from ncodec.evaluation.cells import METRICS, ON_DEMAND

    for name in names:
        if name not in (*METRICS, "all"):
            expected = ", ".join((*METRICS, "all"))
            raise typer.BadParameter(f"expected one of {expected}, found {name!r}", param_hint="--metric")  # fmt: skip
    return [name for name in ON_DEMAND if name in names or "all" in names]


def evaluate(
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...", help="Files and folders; or one JSON file of an earlier study."
        ),
    ],
    codecs: Annotated[
        list[str],
        typer.Option(
            "--codec",
            metavar="NAME[:option=value,...]",
            help="Such as hyperprior-s, dct, dct:transform=angle, lossless, jpeg, webp, avif:speed=2, jxl, jxl:lossless=true, png, jpeg2000, hevc, svtav1, vvenc, vtm, "
            "compressai:FILE|FOLDER of checkpoints.",
            show_default="the first shipped model",
        ),
    ] = [],  # noqa: B006
    quality: Annotated[
        str,
        typer.Option(
            help="In the codecs' own scales: 1,2,4; or targets searched for each image: 0.25bpp,0.5bpp or 35dB.",
            show_default="a curve of each codec",
        ),
    ] = "",
    low: Annotated[
        bool, typer.Option("--low", help="Curves of low rates, each codec's from its lowest on.")
    ] = False,
    at: Annotated[
        str,
        typer.Option(
            metavar="BPP,...", help="Print a table of every metric at these rates, such as 0.1,0.2."
        ),
    ] = "",
    anchors: Annotated[
        list[str],
        typer.Option(
            "--anchor",
            metavar="NAME|FILE",
            help="For BD-rates: a codec of this study, a published Kodak curve (vtm, av1, ...), or a JSON file.",
        ),
    ] = [],  # noqa: B006
    metrics: Metrics = [],  # noqa: B006
    reports: Annotated[
        list[Path],
        typer.Option("--report", metavar="OUT", help=".html, .md, .svg, .png, .csv or .json."),
    ] = [],  # noqa: B006
    jobs: Annotated[int, typer.Option(min=0, help="Processes of one thread; 0: one a core.")] = 1,
    engine: Engine = "local",
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of measured cells.", show_default="~/.cache/ncodec/eval"),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Measure everything anew.")] = False,
    visual: Annotated[int, typer.Option(min=0, help="Images to show in the HTML report.")] = 3,
    visual_bpp: Annotated[
        str,
        typer.Option(
            metavar="BPP,...",
            help="Rates to show them at: those of the first anchor's files (or codec's); the others' have its bytes.",
        ),
    ] = "0.15,0.3,0.6",
) -> None:
    """Measure codecs on images: rate-distortion curves, BD-rates, reports. Prints a summary."""
    from ncodec import evaluation
    from ncodec.evaluation import report

    # Ended from outside, it ends its processes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    refuse_both(("--quality", bool(quality)), ("--low", low))
    rates, view_rates = _rates(at, "--at"), _rates(visual_bpp, "--visual-bpp")
    wanted = _metrics(metrics)
    for path in reports:
        report.check_report(path)
    views: list[Any] = []
    if [path.suffix for path in images] == [".json"]:
        if codecs or quality or low or metrics:
            raise typer.BadParameter("an earlier study is not measured again", param_hint="--codec")
        curves = evaluation.read_curves(images[0])
        for name in anchors:
            evaluation.find_anchor(name, curves)
    else:
        study, gaps = _study(
            images, codecs, quality, anchors, engine, jobs, cache, no_cache, low, wanted
        )
        try:
            _run_study(study)
        except KeyboardInterrupt:
            kept = study.cache.folder
            where = f"what was measured is in {kept}" if kept else "nothing was kept"
            print(f"ncodec: interrupted; {where}; the same command goes on", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        curves = study.curves()
        for curve in curves:
            curve.failures.extend(gaps)
        if any(path.suffix == ".html" for path in reports):
            views = report.views_of(study, visual, view_rates, anchors[0] if anchors else "")
    found = [evaluation.find_anchor(name, curves) for name in anchors]
    lossy, lossy_anchors = report.lossy(curves), report.lossy(found)
    if len(lossy) < len(curves):
        print(
            f"Lossless: bytes\n\n{report.lossless_markdown(curves, found)}",
            end="\n\n" if lossy else "\n",
            flush=True,
        )
    if lossy:
        print(report.summary_markdown(lossy, lossy_anchors), flush=True)
    measured = [anchor for anchor in lossy_anchors if len(anchor.cells)]
    if measured:
        print(f"\n{report.metrics_markdown(lossy, measured)}", flush=True)
    if rates and lossy:
        print(f"\n{report.rates_markdown(lossy, lossy_anchors, rates)}", flush=True)
    if quality:
        for curve in lossy:
            print(f"\n{curve.codec}\n\n{report.points_markdown(curve)}", flush=True)
    for path in reports:
        report.write_report(path, curves, found, views, rates)
    for row in evaluation.bd_table(curves, found).to_dict("records"):
        if row["note"] and row["metric"] == "psnr":
            print(f"ncodec: {row['codec']} against {row['anchor']}: {row['note']}", file=sys.stderr)
    for curve in curves:
        if "note" in curve.about:
            print(f"ncodec: {curve.codec}: {curve.about['note']}", file=sys.stderr)
    lines = report.gaps_of(curves)
    for line in lines:
        print(f"ncodec: gap: {line}", file=sys.stderr)
    if lines:
        raise SystemExit(exit_code(InputError()))


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Reference: an image or an .nc file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.")],
    metrics: Metrics = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Print PSNR, MS-SSIM and SSIMULACRA2 of two images of one size, and what else is asked for."""
    from ncodec.evaluation import compare as compare_pixels
    from ncodec.evaluation.cells import ALWAYS, judges_of
    from ncodec.evaluation.study import read_image

    first, second = read_image(a).pixels, read_image(b).pixels
    if first.shape != second.shape:
        sizes = [f"{x.shape[1]}x{x.shape[0]}" for x in (first, second)]
        raise InputError(f"{b}: expected {sizes[0]} pixels as {a}, found {sizes[1]}")
    judges, missing = judges_of(_metrics(metrics))
    for message in missing:
        print(f"ncodec: not measured: {message}", file=sys.stderr)
    values = compare_pixels(first, second, [*ALWAYS, *judges])
    if as_json:
        print(json.dumps({k: v if math.isfinite(v) else str(v) for k, v in values.items()}))
        return
    for name, value in values.items():
        unit, digits = {"psnr": (" dB", 4), "ms_ssim": ("", 6), "cvvdp": (" JOD", 4)}.get(name, ("", 4))  # fmt: skip
        note = " (too small for it)" if math.isnan(value) else ""
        print(f"{name:11}  {value:.{digits}f}{unit}{note}")
