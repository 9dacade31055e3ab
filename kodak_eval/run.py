"""The Kodak studies: shipped models and conventional codecs, from real files.

    python kodak_eval/run.py measure FOLDER_OF_24_PNG    measures, writes results/kodak.*, the README, weights/index.json
    python kodak_eval/run.py low FOLDER_OF_24_PNG        the same at low rates, tokenizers among the codecs: results/low_rates.*
    python kodak_eval/run.py visual FOLDER_OF_24_PNG     what the pictures look like, CVVDP and Butteraugli too: results/visual.*
    python kodak_eval/run.py lossless FOLDER_OF_24_PNG   lossless codecs: results/lossless.*
    python kodak_eval/run.py readme                      writes the README's plot and tables from results/ again

What is in the cache of `ncodec eval` is not measured again. A codec that cannot run here (vvenc needs its
programs on the PATH) keeps the curve that results/kodak.json has of it. VTM itself takes hours: its
published curve is the anchor.
"""

import json
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ncodec.errors import InputError, NcodecError
from ncodec.evaluation import (
    Cache,
    Image,
    RDCurve,
    Study,
    bd_rate,
    bd_rate_of_images,
    default_cache,
    find_anchor,
    read_curves,
    spread_at,
    write_report,
)
from ncodec.evaluation.cells import ON_DEMAND
from ncodec.evaluation.report import (
    AXES,
    lossless_rows,
    markdown_table,
    number,
    speed_table,
    summary_markdown,
    views_of,
)
from ncodec.evaluation.study import read_image
from ncodec.files import write_whole
from ncodec.models.weights import base_of, family_named, list_models, models_by_name

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
INDEX = HERE.parent / "weights" / "index.json"
CONVENTIONAL = (
    "jpeg",
    "jpeg:subsampling=4:4:4",
    "webp",
    "avif",
    "avif:tune=psnr",
    "avif:subsampling=4:2:0",
    "avif:speed=2,tune=psnr",
    "jxl",
    "jpeg2000",
    "hevc",
    "svtav1",
    "vvenc",
)
VISUAL = ("dct", "hyperprior-s", "avif", "avif:tune=psnr", "jxl", "vvenc", "webp", "jpeg")
VISUAL_METRICS = ("ssimulacra2", "cvvdp", "butteraugli", "ms_ssim")  # of the README's table
LOOK = 70  # mean SSIMULACRA2 at which the README compares spreads
LOW_PEERS = ("avif", "jxl", "webp")
LOW_RATES = (0.03, 0.06, 0.1, 0.2)  # bpp
LOSSLESS_ANCHOR = "jxl:effort=9,lossless=true"
LOSSLESS = (
    "lossless",
    LOSSLESS_ANCHOR,
    "webp:lossless=true",
    "png:optimiser=oxipng",
    "png",
    "jxl:lossless=true",
)

app = typer.Typer(pretty_exceptions_enable=False)


def with_earlier(
    codecs: list[str], measured: list[RDCurve], earlier: list[RDCurve]
) -> list[RDCurve]:
    """Return a curve of each codec: as measured now, or earlier where it was not, or could not be."""
    old = {curve.codec: curve for curve in earlier}
    new = {curve.codec: curve for curve in measured}
    for name, curve in new.items():
        if not len(curve.points) and name in old:
            print(f"{name}: kept as it was: {curve.failures[0]['message']}", file=sys.stderr)
    kept = old | {name: curve for name, curve in new.items() if len(curve.points)}
    return [kept.get(name) or new[name] for name in codecs if name in kept or name in new]


def anchors_among(curves: list[RDCurve]) -> list[RDCurve]:
    """Return what the study is compared with: the published VTM curve, and AVIF as measured."""
    return [find_anchor("vtm"), find_anchor("avif:tune=psnr", curves)]


def record_in_index(curves: list[RDCurve]) -> None:
    """Write the measured models' BD-rates into their entries, where `ncodec models` shows them."""
    index = json.loads(INDEX.read_text())
    measured = {curve.codec: curve for curve in curves}
    for entry in index["models"]:
        curve = measured.get(for_psnr(base_of(entry["name"], entry["tune"])))
        if curve is not None and entry["tune"] == "psnr":
            percent = bd_rate(curve, find_anchor("vtm")).percent
            entry["about"]["kodak_bd_rate_vs_vtm_percent"] = round(percent, 1)
    write_whole(INDEX, (json.dumps(index, indent=2) + "\n").encode())


def for_psnr(model: str, **options: str) -> str:
    """Return the codec of a model as it is tuned for PSNR, by its name alone where it has one tune."""
    chosen = {"tune": "psnr"} if len(models_by_name()[model]) > 1 else {}
    texts = [f"{name}={value}" for name, value in (chosen | options).items()]
    return f"{model}:{','.join(texts)}" if texts else model


def models(has_tokens: bool) -> list[str]:
    """Return the shipped models that are tokenizers, or that are not."""
    bases = [m.base for m in list_models() if family_named(m.family).has_tokens is has_tokens]
    return [for_psnr(base) for base in dict.fromkeys(bases)]


def read_kodak(folder: Path) -> list[Image]:
    """Return the 24 images of a folder."""
    files = sorted(folder.glob("kodim*.png"))
    if len(files) != 24:
        raise typer.BadParameter(
            f"expected the 24 Kodak images kodim01.png … in {folder}, found {len(files)}"
        )
    return [read_image(file) for file in files]


def run(study: Study) -> None:
    """Measure, and say from time to time how far it is."""
    begin, last = time.monotonic(), 0.0
    for done, total, label in study.run():
        if time.monotonic() - last > 20 or done == total:
            last = time.monotonic()
            print(f"{done} of {total}, {last - begin:.0f} s: {label}", file=sys.stderr, flush=True)


Only = Annotated[list[str], typer.Option("--codec", help="Measure these; others are kept.")]


def chosen(only: list[str], codecs: Sequence[str]) -> Sequence[str]:
    """Return those of a study's codecs that are named, or all."""
    if unknown := set(only) - set(codecs):
        raise typer.BadParameter(f"expected some of {', '.join(codecs)}, found {min(unknown)}")
    return only or codecs


@app.command()
def measure(
    images: Path,
    only: Only = [],  # noqa: B006
    jobs: int = os.cpu_count() or 1,
    cache: Path = default_cache(),
    out: Path = RESULTS / "kodak.json",
) -> None:
    """Measure everything, or some; with the default `out`, write the README and the index too."""
    codecs = [*models(has_tokens=False), for_psnr("hyperprior-s", effort="2"), *CONVENTIONAL]
    study = Study(chosen(only, codecs), read_kodak(images), (), Cache(cache), "local", jobs)
    run(study)
    earlier = read_curves(out) if out.exists() else []
    curves = with_earlier(codecs, study.curves(), earlier)
    anchors = anchors_among(curves)
    write_report(out, curves, anchors)
    write_report(
        out.with_suffix(".html"), curves, anchors, views_of(study, 3, (0.15, 0.3, 0.6), "avif")
    )
    print(f"{out} and its HTML report are written", file=sys.stderr)
    if out == RESULTS / "kodak.json":
        record_in_index(curves)
        readme()


@app.command()
def low(
    images: Path,
    jobs: int = os.cpu_count() or 1,
    cache: Path = default_cache(),
    out: Path = RESULTS / "low_rates.json",
) -> None:
    """Measure at low rates; with the default `out`, write what is made of it too."""
    codecs = [*models(has_tokens=True), for_psnr("dct"), for_psnr("hyperprior-s"), *LOW_PEERS]
    study = Study(codecs, read_kodak(images), (), Cache(cache), "local", jobs, is_low=True)
    run(study)
    curves = study.curves()
    write_report(out, curves, low_anchors(curves))
    if out == RESULTS / "low_rates.json":
        readme()


def low_anchors(curves: list[RDCurve]) -> list[RDCurve]:
    """Return what the study of low rates is compared with."""
    return [find_anchor(name, curves) for name in ("avif", "webp")]


@app.command()
def visual(
    images: Path,
    only: Only = [],  # noqa: B006
    jobs: int = os.cpu_count() or 1,
    cache: Path = default_cache(),
    out: Path = RESULTS / "visual.json",
) -> None:
    """Measure what pictures look like, by all metrics; with the default `out`, write the README too."""
    study = Study(chosen(only, VISUAL), read_kodak(images), (), Cache(cache), "local", jobs, metrics=tuple(ON_DEMAND))  # fmt: skip
    if study.missing:
        raise InputError("; ".join(study.missing))
    run(study)
    # Without its programs, vvenc is at least what the study of PSNR has of it.
    earlier = [c for path in (RESULTS / "kodak.json", out) if path.exists() for c in read_curves(path)]  # fmt: skip
    curves = with_earlier(list(VISUAL), study.curves(), earlier)
    write_report(out, curves, [])
    if "avif" in study.names:
        views = views_of(study, 3, (0.15, 0.3, 0.6), "avif")
        write_report(out.with_suffix(".html"), curves, [find_anchor("avif", curves)], views)
    if out == RESULTS / "visual.json":
        readme()


@app.command()
def lossless(
    images: Path,
    only: Only = [],  # noqa: B006
    jobs: int = os.cpu_count() or 1,
    cache: Path = default_cache(),
    out: Path = RESULTS / "lossless.json",
) -> None:
    """Measure lossless codecs; with the default `out`, write the README too."""
    study = Study(chosen(only, LOSSLESS), read_kodak(images), (), Cache(cache), "local", jobs)
    run(study)
    earlier = read_curves(out) if out.exists() else []
    curves = with_earlier(list(LOSSLESS), study.curves(), earlier)
    write_report(out, curves, [])
    if out == RESULTS / "lossless.json":
        readme()


def visual_markdown(curves: list[RDCurve]) -> str:
    """Return the README's table: BD-rates of images against AVIF, best SSIMULACRA2 first, spreads of a look, seconds."""
    anchor = find_anchor("avif", curves)
    speeds = speed_table(curves).set_index("codec")
    rows = []
    for curve in curves:
        rates = [bd_rate_of_images(curve, anchor, metric).percent for metric in VISUAL_METRICS]
        shown = ["-" if curve is anchor else number(rate, 1, "+") for rate in rates]
        for place, metric in enumerate(VISUAL_METRICS):
            if curve is not anchor and math.isfinite(rates[place]):
                shown[place] += r"\*" * bool(bd_rate(curve, anchor, metric).warning)
        seconds = [number(speeds[name][curve.codec], 3) for name in ("encode_s", "decode_s")]
        cells = [curve.codec, *shown, number(spread_at(curve, LOOK), 1), *seconds]
        rows.append((rates[0], cells))
    head = ["codec", *(AXES[metric].partition(" (")[0] for metric in VISUAL_METRICS)]
    head += [f"spread at {LOOK}", "encode (s)", "decode (s)"]
    return markdown_table(head, [cells for _, cells in sorted(rows, key=lambda row: row[0])])


@app.command()
def readme() -> None:
    """Write what is made of results/kodak.json, visual.json, lossless.json and low_rates.json: .md and .svg beside them, and the README's figures."""
    curves = read_curves(RESULTS / "kodak.json")
    anchors = anchors_among(curves)
    write_report(RESULTS / "kodak.md", curves, anchors)
    write_report(RESULTS / "kodak.svg", curves, anchors)
    parts = ["![Rate-distortion curves on Kodak](kodak_eval/results/kodak.svg)"]
    parts += [summary_markdown(curves, anchors)]
    write_between("kodak", parts)
    if (RESULTS / "visual.json").exists():
        curves = read_curves(RESULTS / "visual.json")
        anchors = [find_anchor("avif", curves)]
        write_report(RESULTS / "visual.md", curves, anchors)
        write_report(RESULTS / "visual.svg", curves, anchors)
        title = (
            "By what pictures look like: BD-rates against `avif` (%), mean of the images', and the spread of SSIMULACRA2 over "
            f"the images at the quality where its mean is {LOOK} (kodak_eval/results/visual.md has all). Seconds: of a busy machine, but for `vvenc` and `avif:tune=psnr`. "
            r"\*: under 60 % of one of the curves is in both."
        )
        write_between("visual", [title, visual_markdown(curves)], "\n")
    if (RESULTS / "lossless.json").exists():
        curves = read_curves(RESULTS / "lossless.json")
        anchors = [find_anchor(LOSSLESS_ANCHOR, curves)]
        write_report(RESULTS / "lossless.md", curves, anchors)
        head, *rows = lossless_rows([c for c in curves if c.codec != "png"], anchors)
        write_between("lossless", [markdown_table(head, rows)], "\n")
    if (RESULTS / "low_rates.json").exists():
        curves = read_curves(RESULTS / "low_rates.json")
        anchors = low_anchors(curves)
        write_report(RESULTS / "low_rates.md", curves, anchors, rates=LOW_RATES)
        write_report(RESULTS / "low_rates.svg", curves, anchors)


def write_between(name: str, parts: list[str], gap: str = "\n\n") -> None:
    """Write paragraphs between the README's marks of this name, where it has them."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = README.read_text()
    if begin not in text:
        return
    before, after = text[: text.index(begin)], text[text.index(end) + len(end) :]
    paragraphs = [begin, "\n\n".join(parts), end]
    write_whole(README, (before + gap.join(paragraphs) + after).encode())


if __name__ == "__main__":
    try:
        app()
    except NcodecError as error:
        sys.exit(f"kodak_eval: {error}")
