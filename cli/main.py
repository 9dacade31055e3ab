"""`ncodec encode | decode | info | models | eval | compare | train | bench`. No arithmetic here; torch is imported when work begins.

Exit codes: 2 usage, 3 format, 4 limit, 5 model, 6 input (a missing file or an image we cannot carry).
"""

import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ncodec import __version__
from ncodec.errors import FormatError, InputError, LimitError, ModelError, NcodecError, named
from ncodec.files import write_whole

if TYPE_CHECKING:
    from ncodec import evaluation

app = typer.Typer(
    help="A neural image codec: small files that decode alike on any machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
EXIT_CODES = ((FormatError, 3), (LimitError, 4), (ModelError, 5), (InputError, 6))

Inputs = Annotated[list[str], typer.Argument(metavar="IN...", help="Files; `-` is standard input.")]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="OUT",
        help="File (overwritten), folder, or `-` for standard output.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="Name of a shipped model, or a weights file.", show_default="the first"
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Engine = Annotated[
    str, typer.Option(help="local, or ray: the cluster of RAY_ADDRESS, else one on this machine.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite names that ncodec derives itself.")]


def _read_bytes(name: str) -> bytes:
    if name == "-" and sys.stdin is None:
        raise InputError("standard input is closed")
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name}: {error.strerror}") from error


def _write_whole(target: str, data: bytes) -> None:
    """Write a file whole or not at all, or standard output, or into a device or pipe."""
    if target == "-":
        if sys.stdout is None:
            raise InputError("standard output is closed")
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.exists() and not path.is_file():  # /dev/null, a pipe: nothing to rename over
        try:
            path.write_bytes(data)
        except OSError as error:
            raise InputError(f"{target}: cannot write: {error.strerror}") from error
        return
    try:
        write_whole(path, data)
    except OSError as error:
        raise InputError(f"{target}: cannot write: {error.strerror}") from error


def _check_not_input(source: str, target: str) -> None:
    if os.path.isfile(source) and os.path.isfile(target) and os.path.samefile(source, target):
        raise InputError(f"{target}: is the input too, and would be lost")


def _targets(
    inputs: list[str], output: str | None, suffix_of: Callable[[str], str], force: bool
) -> list[tuple[str, str]]:
    """Return (input, output) pairs; checked before any work begins. `suffix_of` an input is its output's."""
    into_folder = (
        output is not None and output != "-" and (output.endswith("/") or os.path.isdir(output))
    )
    if len(inputs) > 1 and not (output is None or into_folder):
        raise typer.BadParameter(
            f"{len(inputs)} inputs need a folder: -o {output}/", param_hint="-o"
        )
    if output is not None and not into_folder:
        _check_not_input(inputs[0], output)
        return [(inputs[0], output)]
    if "-" in inputs:
        raise typer.BadParameter("standard input needs a file name or `-`", param_hint="-o")
    pairs = []
    for name in inputs:
        folder = Path(name).parent if output is None else Path(output)
        pairs.append((name, str(folder / (Path(name).stem + suffix_of(name)))))
    seen: dict[str, str] = {}
    for name, target in pairs:
        if target in seen:
            raise InputError(f"{target}: would be written from both {seen[target]} and {name}")
        _check_not_input(name, target)
        if os.path.lexists(target) and not force:
            raise InputError(f"{target}: exists already; name it with -o, or use --force")
        seen[target] = name
    if output is not None:
        try:
            Path(output).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{output}: cannot make the folder: {error.strerror}") from error
    return pairs


def _report_all(
    pairs: list[tuple[str, str]],
    outcomes: Iterable[tuple[int, dict[str, Any] | NcodecError]],
    as_json: bool,
) -> None:
    """Print what came of every pair, with a bar for many; go on after a bad one, then exit with its code."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    failed: NcodecError | None = None
    is_quiet = len(pairs) == 1 or not console.is_terminal
    for number, outcome in track(outcomes, "", len(pairs), console=console, disable=is_quiet):
        source, target = pairs[number]
        if isinstance(outcome, NcodecError):
            if len(pairs) == 1:
                raise outcome
            message = str(outcome) if source in str(outcome) else f"{source}: {outcome}"
            console.print(
                f"ncodec: {message}", style="red", markup=False, highlight=False, soft_wrap=True
            )
            failed = outcome
        else:
            text = outcome.pop("text")
            line = json.dumps(outcome) if as_json else text
            print(line, file=sys.stderr if target == "-" else sys.stdout, flush=True)
    if failed is not None:
        raise SystemExit(_exit_code(failed))


def _encode_jpeg(source: str, read: bytes, lossless: bool) -> tuple[bytes, dict[str, Any]]:
    """Return the .nc file of a JPEG file, and the report."""
    from ncodec import codec, container, metrics

    if not read.startswith(b"\xff\xd8"):
        wanted = (
            "--lossless takes JPEG files only, so far" if lossless else "--jpeg takes JPEG files"
        )
        raise InputError(f"{source}: {wanted}, and this is none")
    begin = time.perf_counter()
    with named(f"{source}: "):
        data = codec.encode_jpeg(read)
    seconds = time.perf_counter() - begin
    header = container.read(data).header
    savings = 100 * (1 - len(data) / len(read))
    return data, {
        "input": source, "width": header.width, "height": header.height, "jpeg_bytes": len(read),
        "size_bytes": len(data), "savings_percent": savings,
        "bpp": metrics.bpp(len(data), header.width, header.height), "encode_s": seconds,
        "text": f"{len(data)} bytes, {abs(savings):.1f} % {'less' if savings >= 0 else 'more'} than the JPEG,"
        f" which comes back byte for byte, {seconds:.2f} s",
    }  # fmt: skip


def _encode_one(
    task: tuple[str, bytes | NcodecError, float | Literal["jpeg", "lossless"], str | None, str],
) -> tuple[bytes, dict[str, Any]]:
    """Return the .nc file and the report of (name, bytes, quality or way, model, device); on any machine."""
    from ncodec import codec, image, metrics

    source, read, quality, model, device = task
    if isinstance(read, NcodecError):
        raise read
    if isinstance(quality, str):
        return _encode_jpeg(source, read, quality == "lossless")
    picture = image.read(BytesIO(read), source)
    begin = time.perf_counter()
    data = codec.encode(picture, quality, model, device)
    seconds = time.perf_counter() - begin
    decoded = codec.decode_picture(data, model, device)
    height, width = picture.pixels.shape[:2]
    psnr = metrics.psnr(picture.pixels, decoded.pixels)
    bpp = metrics.bpp(len(data), width, height)
    return data, {
        "input": source, "width": width, "height": height, "quality": quality,
        "size_bytes": len(data), "bpp": bpp, "psnr": psnr if psnr != float("inf") else None,
        "encode_s": seconds,
        "text": f"{len(data)} bytes, {bpp:.4f} bpp, {psnr:.2f} dB, {seconds:.2f} s",
    }  # fmt: skip


@app.command()
def encode(
    inputs: Inputs,
    output: Output = None,
    quality: Annotated[
        float | None,
        typer.Option(
            "-q",
            "--quality",
            help="1 (smallest) to 8 (best), fractions allowed.",
            show_default="4",
        ),
    ] = None,
    model: ModelOption = None,
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
    device: Device = "auto",
    jobs: Annotated[
        int,
        typer.Option(
            min=0, help="Images at once, each on one thread; 0: one a core. 1: all cores on one."
        ),
    ] = 1,
    engine: Engine = "local",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compress images into .nc files. Prints bytes, bits per pixel, PSNR and seconds."""
    if (jpeg or lossless) and not (quality is None and model is None):
        raise typer.BadParameter(
            "files that lose nothing have no quality and no model", param_hint="--jpeg"
        )
    pairs = _targets(inputs, output, lambda name: ".nc", force)
    from ncodec.parallel import attempt, run_all

    lossy = 4.0 if quality is None else quality
    way: Any = "jpeg" if jpeg else "lossless" if lossless else lossy
    tasks = ((source, attempt(_read_bytes, source), way, model, device) for source, _ in pairs)
    here = ((number, attempt(_encode_one, task)) for number, task in enumerate(tasks))
    is_here = jobs == 1 and engine == "local"
    encoded = here if is_here else run_all(_encode_one, tasks, engine, jobs)

    def written() -> Iterator[tuple[int, dict[str, Any] | NcodecError]]:
        for number, outcome in encoded:
            if isinstance(outcome, NcodecError):
                yield number, outcome
                continue
            (data, report), target = outcome, pairs[number][1]
            try:
                _write_whole(target, data)
                yield number, report | {"output": target, "text": f"{target}: {report['text']}"}
            except NcodecError as error:
                yield number, error

    _report_all(pairs, written(), as_json)


def _suffix_of_decoded(name: str) -> str:
    """Return what an .nc file decodes to unless it is told otherwise, by its first bytes."""
    from ncodec import container

    try:
        with open(name, "rb") as file:
            is_jpeg = container.family_of(file.read(container.MAX_HEADER)) == container.JPEG
    except OSError:  # said again, and for good, when it is decoded
        is_jpeg = False
    return ".jpg" if is_jpeg else ".png"


@app.command()
def decode(
    inputs: Inputs,
    output: Output = None,
    model: ModelOption = None,
    device: Device = "auto",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Restore images from .nc files; the suffix of -o chooses the format, PNG by default.

    Of a JPEG file that was made smaller it restores the file itself, unless -o names another format.
    """
    from ncodec import container
    from ncodec.parallel import attempt

    pairs = _targets(inputs, output, _suffix_of_decoded, force)
    from ncodec import codec, image

    def work(pair: tuple[str, str]) -> dict[str, Any]:
        source, target = pair
        data = _read_bytes(source)
        is_jpeg = container.family_of(data) == container.JPEG
        suffix = "" if target == "-" else Path(target).suffix.lower()
        begin = time.perf_counter()
        if is_jpeg and suffix in ("", *JPEG_SUFFIXES):
            restored = codec.decode_jpeg(data)
            seconds = time.perf_counter() - begin
            header = container.read(data).header
            width, height = header.width, header.height
        else:
            picture = codec.decode_picture(data, model, device)
            seconds = time.perf_counter() - begin
            stream = BytesIO()
            image.write(picture, stream, suffix or ".png")
            restored = stream.getvalue()
            height, width = picture.pixels.shape[:2]
        _write_whole(target, restored)
        return {
            "input": source, "output": target, "width": width, "height": height, "decode_s": seconds,
            "text": f"{target}: {width}x{height}, {seconds:.2f} s",
        }  # fmt: skip

    _report_all(pairs, ((n, attempt(work, pair)) for n, pair in enumerate(pairs)), as_json)


@app.command()
def info(file: Annotated[str, typer.Argument(metavar="FILE")], as_json: Json = False) -> None:
    """Say what an .nc file holds; verifies its checksums."""
    data = _read_bytes(file)
    from ncodec.inspection import info as info_of

    about = asdict(info_of(data))
    if as_json:
        print(json.dumps(about))
        return
    width = max(map(len, about))
    for key, value in about.items():
        print(f"{key:{width}}  {value}")


@app.command()
def models(
    as_json: Json = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Check digests and decode each model's self-test.")
    ] = False,
) -> None:
    """List the shipped models; the first is the default."""
    from ncodec.inspection import list_models

    failed: NcodecError | None = None
    for entry in list_models():
        if verify:
            from ncodec.selftest import verify as verify_model

            try:
                verify_model(entry)
            except NcodecError as error:
                print(f"ncodec: {error}", file=sys.stderr)
                failed = error
                continue
        if as_json:
            shown = {k: v for k, v in asdict(entry).items() if k != "self_test"}
            print(json.dumps(shown | ({"verified": True} if verify else {})))
            continue
        parts = (
            f"{entry.name} ({entry.family})",
            _facts(entry.about),
            "verified" if verify else "",
        )
        print(": ".join(part for part in parts if part))
    if failed is not None:
        raise SystemExit(_exit_code(failed))


def _facts(about: dict[str, Any]) -> str:
    """Return what is known of a model, in words."""
    facts = []
    if "parameters" in about:
        facts.append(f"{about['parameters'] / 1e6:.1f} M parameters")
    if "parameters_bytes" in about:
        facts.append(f"{about['parameters_bytes'] / 1e3:.0f} kB of parameters, exact pixels")
    if "kmac_per_pixel" in about:
        facts.append(f"{about['kmac_per_pixel']:.1f} kMAC/pixel to decode")
    if "kodak_bd_rate_vs_vtm_percent" in about:
        facts.append(f"Kodak BD-rate vs VTM {about['kodak_bd_rate_vs_vtm_percent']:+.1f} %")
    if "training_steps" in about:
        facts.append(
            f"trained {about['training_steps']} steps, {about['training_minutes']:.0f} min"
            f" on {about.get('training_device', 'an unknown device')}"
        )
    if about.get("superseded"):
        facts.append("superseded, here to decode old files")
    return ", ".join(facts)


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


@app.command("eval")
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
            help="Such as hyperprior-s, dct, dct:transform=angle, jpeg, webp, avif:speed=2, jxl, jpeg2000, hevc, svtav1, vvenc, vtm.",
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
    anchors: Annotated[
        list[str],
        typer.Option(
            "--anchor",
            metavar="NAME|FILE",
            help="For BD-rates: a codec of this study, a published Kodak curve (vtm, av1, ...), or a JSON file.",
        ),
    ] = [],  # noqa: B006
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
    visual_bpp: Annotated[float, typer.Option(min=0.001, help="Rate to show them near.")] = 0.25,
) -> None:
    """Measure codecs on images: rate-distortion curves, BD-rates, reports. Prints a summary."""
    from ncodec import evaluation
    from ncodec.parallel import attempt
    from ncodec.evaluation import report

    # Ended from outside, it ends its processes as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for path in reports:
        report.check_report(path)
    views = []
    if [path.suffix for path in images] == [".json"]:
        if codecs or quality:
            raise typer.BadParameter("an earlier study is not measured again", param_hint="--codec")
        curves = evaluation.read_curves(images[0])
        for name in anchors:
            evaluation.find_anchor(name, curves)
    else:
        qualities = (
            [evaluation.parse_quality(part) for part in quality.split(",")] if quality else []
        )
        from ncodec.inspection import list_models

        named = [evaluation.parse_codec(name) for name in codecs or [list_models()[0].name]]
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
        study = evaluation.Study(named, pictures, qualities, kept, engine, jobs)
        try:
            _run_study(study)
        except KeyboardInterrupt:
            where = "nothing was kept" if no_cache else f"what was measured is in {kept.folder}"
            print(f"ncodec: interrupted; {where}; the same command goes on", file=sys.stderr)
            raise SystemExit(130) from None
        curves = study.curves()
        for curve in curves:
            curve.failures.extend(gaps)
        if any(path.suffix == ".html" for path in reports):
            views = report.views_of(study, visual, visual_bpp)
    found = [evaluation.find_anchor(name, curves) for name in anchors]
    print(report.summary_markdown(curves, found), flush=True)
    if quality:
        for curve in curves:
            print(f"\n{curve.codec}\n\n{report.points_markdown(curve)}", flush=True)
    for path in reports:
        report.write_report(path, curves, found, views)
    for row in evaluation.bd_table(curves, found).to_dict("records"):
        if row["note"] and row["metric"] == "psnr":
            print(f"ncodec: {row['codec']} against {row['anchor']}: {row['note']}", file=sys.stderr)
    lines = report.gaps_of(curves)
    for line in lines:
        print(f"ncodec: gap: {line}", file=sys.stderr)
    if lines:
        raise SystemExit(_exit_code(InputError()))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="Reference: an image or an .nc file.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it.")],
    as_json: Json = False,
) -> None:
    """Print PSNR, MS-SSIM and SSIMULACRA2 of two images of one size."""
    from ncodec.evaluation import compare as compare_pixels
    from ncodec.evaluation.study import read_image

    first, second = read_image(a).pixels, read_image(b).pixels
    if first.shape != second.shape:
        sizes = [f"{x.shape[1]}x{x.shape[0]}" for x in (first, second)]
        raise InputError(f"{b}: expected {sizes[0]} pixels as {a}, found {sizes[1]}")
    values = compare_pixels(first, second)
    if as_json:
        print(json.dumps({k: v if math.isfinite(v) else str(v) for k, v in values.items()}))
        return
    for name, unit, digits in (("psnr", " dB", 4), ("ms_ssim", "", 6), ("ssimulacra2", "", 4)):
        note = " (too small for it)" if math.isnan(values[name]) else ""
        print(f"{name:11}  {values[name]:.{digits}f}{unit}{note}")


bench_app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")
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


def _check_writable(record: Path | None) -> None:
    """Refuse a name that cannot be written before the work, not after it."""
    if record and (
        record.is_dir() or not record.parent.is_dir() or not os.access(record.parent, os.W_OK)
    ):
        raise InputError(f"{record}: cannot write there")


def _print_machine(results: dict[str, Any], record: Path | None) -> None:
    typer.echo(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    if record:
        _write_whole(str(record), (json.dumps(results, indent=1) + "\n").encode())


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
    record: Record = None,
) -> None:
    """Seconds of a whole encode and decode of an image, the entropy coder's share of them, and model dct's seconds."""
    import numpy as np

    from ncodec.evaluation import bench
    from ncodec.image import read

    _check_writable(record)
    pixels = read(image, str(image)).pixels
    pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, 2)
    _print_machine(bench.bench_image(pixels, _speed_printer()), record)


@app.command()
def train(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="TOML file, or the name of a shipped model.")
    ],
    data: Annotated[
        list[Path], typer.Option(metavar="PATH...", help="Folders or tar shards of images.")
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Run folder: weights, checkpoint, log.")] = None,
    validation: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH...", help="As --data, never trained on; default: some held out."
        ),
    ] = [],  # noqa: B006
    minutes: Annotated[
        float | None, typer.Option(help="Time budget; the learning rate follows the clock.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Budget in steps instead: repeatable to the bit on a CPU.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --out.")] = False,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL|FILE",
            help="Start from these weights (not the optimiser's state).",
        ),
    ] = None,
    device: Device = "auto",
    assignments: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Such as training.batch=16.")
    ] = [],  # noqa: B006
    save_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 120,
) -> None:
    """Train a model on your images; leaves OUT/model.safetensors to encode with.

    One process a core or GPU: OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 --no-python ncodec train ...
    """
    if not data:
        raise typer.BadParameter("folders or tar shards of images", param_hint="--data")
    out = out or Path(f"{Path(config).stem}-run")
    for value, name in ((minutes, "--minutes"), (steps, "--steps")):
        if value is not None and not 0 < value < float("inf"):
            raise typer.BadParameter(f"expected more than 0, found {value}", param_hint=name)
    if minutes is not None and steps is not None:
        raise typer.BadParameter("either --minutes or --steps", param_hint="--steps")
    if minutes is None and steps is None and not resume:
        minutes = 60
    from ncodec.training.config import read_config
    from ncodec.training.loop import Budget
    from ncodec.training.program import train as train_model

    if resume and start_from is not None:
        raise typer.BadParameter("either --from or --resume", param_hint="--from")
    from ncodec.models.weights import find_by_name

    origin = None if start_from is None else find_by_name(start_from)
    settings, budget = read_config(config, assignments), Budget(minutes, steps)
    try:
        train_model(settings, data, validation, out, budget, resume, device, save_every, origin)
    except KeyboardInterrupt as error:
        print(f"ncodec: {error or 'interrupted'}", file=sys.stderr)
        raise SystemExit(130) from None


def _version(value: bool) -> None:
    if value:
        print(f"ncodec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


def _repeat_option(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """Return `--data A B` as `--data A --data B`, which is how typer wants it."""
    repeated: list[str] = []
    current = ""
    for word, before in zip(arguments, ["", *arguments], strict=False):
        if word.startswith("-"):
            current = word if word in options else ""
        elif current and before != current:
            repeated.append(current)
        repeated.append(word)
    return repeated


def _exit_code(error: NcodecError) -> int:
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def main() -> None:
    """Run the command line; library errors become one line and an exit code."""
    if sys.stdout is not None:  # a report must not fail on a name that the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    arguments = sys.argv[1:]
    if arguments[:1] == ["train"]:
        arguments = _repeat_option(arguments, ("--data", "--validation"))
    try:
        app(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
    except NcodecError as error:
        print(f"ncodec: {error}", file=sys.stderr)
        sys.exit(_exit_code(error))
    except ModuleNotFoundError as error:
        extra = arguments[0] if arguments[0] in ("eval", "train") else "eval"
        remedy = "torch, or use --model dct" if error.name == "torch" else f"'ncodec[{extra}]'"
        print(f"ncodec: {error}: pip install {remedy}", file=sys.stderr)
        sys.exit(6)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # standard output on a full disk; files have errors of their own
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"ncodec: standard output: {error.strerror}", file=sys.stderr)
        sys.exit(6)
