"""A study as people read it: one HTML file, plots, Markdown, CSV.

    curves, anchors --> write_report("x.html" | ".md" | ".svg" | ".png" | ".csv" | ".json")

The HTML file (report.html.j2) holds everything that it shows, Plotly included: nothing is loaded.
"""

import base64
import importlib.metadata
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PillowImage

from ncodec.errors import InputError, NcodecError
from ncodec.evaluation.cells import ALWAYS, COLUMNS, METRICS
from ncodec.evaluation.peers.common import Pixels, is_lossless
from ncodec.evaluation.rates import (
    bd_rate,
    bd_table,
    looks,
    lossless_table,
    measured_metrics,
    points_of,
    spread_at,
    value_at,
    value_of,
)
from ncodec.evaluation.study import RDCurve, Study, to_json
from ncodec.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".html", ".md", ".svg", ".png", ".csv", ".json")
AXES = {  # of `quality_of`: all rise
    "psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM (dB)", "ssimulacra2": "SSIMULACRA2", "cvvdp": "CVVDP (JOD)",
    "butteraugli": "Butteraugli (dB)",
}  # fmt: skip
HEADS = {  # of the values themselves, and their digits
    "psnr": ("PSNR (dB)", 2), "ms_ssim": ("MS-SSIM", 4), "ssimulacra2": ("SSIMULACRA2", 1), "cvvdp": ("CVVDP (JOD)", 3),
    "butteraugli": ("Butteraugli", 2),
}  # fmt: skip
RATES = (0.25, 0.5, 1.0)  # bpp at which the summary shows PSNR
LOOKS = (50, 60, 70, 80)  # mean SSIMULACRA2 at which spreads are compared
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 4)  # bpp
LARGEST_VIEW = 1024  # pixels: larger images are cut to their middle for the visual comparison
DEFINITIONS = (
    "A point is the mean over all images of file bits per pixel (whole file, header included) and of each metric: "
    "RGB PSNR (8 bits, peak 255; mean of the images' PSNRs), MS-SSIM (RGB, five scales; plotted as -10 log10(1 - x) dB), "
    "SSIMULACRA2; where they were asked for, CVVDP (JOD, 10 is perfect) and Butteraugli's 3-norm (0 is perfect; plotted as "
    "-10 log10(x) dB). BD-rate: log10(bpp) by pchip over the metric of these mean curves, integrated over the overlap; "
    "negative is better; of images: each of its own curve, then mean and standard deviation. Points that a smaller file "
    "beats are left out of BD-rates. Seconds: one thread, fastest of up to three runs within a second, without loading; "
    "median over all cells. Memory: peak beyond what the process had before (or of the program that was run)."
)


@dataclass(frozen=True)
class View:
    """One picture of the visual comparison."""

    image: str
    rate: str  # of the anchor's file, as it was asked for; "": the original
    label: str
    values: dict[str, str]  # heading -> quality, bpp and metrics
    uri: str  # data: of a lossless WebP


def check_report(path: Path) -> None:
    """Raise InputError unless `write_report` knows the form of a path by its suffix, and its folder exists."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"report {path}: expected a name in {', '.join(SUFFIXES)}")
    if not path.resolve().parent.is_dir():
        raise InputError(f"report {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise InputError(f"report {path}: is a folder")
    if not os.access(path.resolve().parent, os.W_OK):
        raise InputError(f"report {path}: the folder cannot be written")


def write_report(
    path: Path,
    curves: Sequence[RDCurve],
    anchors: Sequence[RDCurve],
    views: Sequence[View] = (),
    rates: Sequence[float] = (),
) -> None:
    """Write a study in the form that the suffix names, whole or not at all; `rates`: of a table of metrics at rates (bpp).

    Raises:
        InputError: an unknown suffix, or the file cannot be written.
    """
    check_report(path)
    form = path.suffix.lower()
    if form == ".html":
        data = to_html(curves, anchors, views, rates).encode(errors="backslashreplace")
    elif form == ".md":
        data = to_markdown(curves, anchors, rates).encode(errors="backslashreplace")
    elif form == ".csv":
        data = all_cells(curves).to_csv(index=False).encode(errors="backslashreplace")
    elif form == ".json":
        data = to_json(curves).encode()
    else:
        data = to_plot(lossy(_with(curves, anchors)), form)
    try:
        write_whole(path, data)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from error


def _with(curves: Sequence[RDCurve], anchors: Sequence[RDCurve]) -> list[RDCurve]:
    """Return the curves, and the anchors that are not among them."""
    known = {id(curve) for curve in curves}
    return [*curves, *(anchor for anchor in anchors if id(anchor) not in known)]


# ---------------------------------------------------------------- tables


def all_cells(curves: Sequence[RDCurve]) -> "pd.DataFrame":
    """Return the cells of all curves, a row an image, codec and quality."""
    import pandas as pd

    tables = [curve.cells.assign(codec=curve.codec) for curve in curves if len(curve.cells)]
    columns = ["codec", "image", "asked", *COLUMNS, "machine"]
    return pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)


def speed_table(curves: Sequence[RDCurve]) -> "pd.DataFrame":
    """Return a row a codec: medians over its cells of seconds and of megapixels a second, and peak memory (MiB)."""
    import pandas as pd

    rows = []
    for curve in curves:
        cells = curve.cells
        if not len(cells):
            continue
        megapixels = cells["size_bytes"] * 8 / cells["bpp"] / 1e6
        rows.append(
            {
                "codec": curve.codec,
                "encode_s": float(cells["encode_s"].median()),
                "decode_s": float(cells["decode_s"].median()),
                "encode_mpixel_s": float((megapixels / cells["encode_s"]).median()),
                "decode_mpixel_s": float((megapixels / cells["decode_s"]).median()),
                "encode_mib": float(cells["encode_mib"].max()),
                "decode_mib": float(cells["decode_mib"].max()),
            }
        )
    names = ["codec", "encode_s", "decode_s", "encode_mpixel_s", "decode_mpixel_s"]
    return pd.DataFrame(rows, columns=[*names, "encode_mib", "decode_mib"])


def machines_of(curves: Sequence[RDCurve]) -> list[str]:
    """Return the machines that measured, each once."""
    return sorted({str(name) for curve in curves for name in curve.cells["machine"]})


def number(value: float, digits: int, sign: str = "") -> str:
    """Return it as tables show it; "-" where it is not finite."""
    return f"{value:{sign}.{digits}f}" if math.isfinite(value) else "-"


def summary_rows(curves: Sequence[RDCurve], anchors: Sequence[RDCurve]) -> list[dict[str, Any]]:
    """Return a row a codec: BD-rates over PSNR, PSNR at `RATES`, seconds; best first against the first anchor."""
    deltas = bd_table(curves, anchors)
    speeds = speed_table(curves).set_index("codec")
    rows = []
    for curve in curves:
        mine = deltas[(deltas["codec"] == curve.codec) & (deltas["metric"] == "psnr")]
        rates = dict(zip(mine["anchor"], mine["percent"], strict=True))
        rows.append(
            {
                "codec": curve.codec,
                "bd_rates": [rates.get(anchor.codec, math.nan) for anchor in anchors],
                "psnrs": [value_at(curve, "psnr", rate) for rate in RATES],
                "encode_s": speeds["encode_s"].get(curve.codec, math.nan),
                "decode_s": speeds["decode_s"].get(curve.codec, math.nan),
                "gaps": len(curve.failures),
            }
        )

    def order(row: dict[str, Any]) -> float:
        first = row["bd_rates"][0] if anchors else math.nan
        if anchors and row["codec"] == anchors[0].codec:
            return 0.0
        return first if math.isfinite(first) else math.inf

    return sorted(rows, key=order)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|").replace("\n", " ") for cell in cells] for cells in lines)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in escaped)


def summary_markdown(curves: Sequence[RDCurve], anchors: Sequence[RDCurve]) -> str:
    """Return the summary as a Markdown table."""
    head = [
        "codec",
        *(f"BD-rate vs {anchor.codec} (%)" for anchor in anchors),
        *(f"PSNR at {rate:g} bpp (dB)" for rate in RATES),
        "encode (s)",
        "decode (s)",
    ]
    rows = [
        [
            row["codec"] + (" (gaps)" if row["gaps"] else ""),
            *(number(value, 1, "+") for value in row["bd_rates"]),
            *(number(value, 2) for value in row["psnrs"]),
            number(row["encode_s"], 3),
            number(row["decode_s"], 3),
        ]
        for row in summary_rows(curves, anchors)
    ]
    return markdown_table(head, rows)


def rate_cells(curves: Sequence[RDCurve]) -> str:
    """Return what the cells of `rate_rows` are."""
    names = [HEADS[metric][0] for metric in measured_metrics(curves)]
    number = ("no", "one", "two", "three", "four", "five")[len(names)]
    return (
        f"{', '.join(names)} at rates on the mean curves; -: beyond a curve's own rates. BD-rates over the same "
        f"{number} metrics; *: under 60 % of one of the curves is in both."
    )


def rate_rows(
    curves: Sequence[RDCurve], anchors: Sequence[RDCurve], rates: Sequence[float]
) -> list[list[str]]:
    """Return the cells of a table, its head first: a row a codec, of every metric values at rates (bpp) and BD-rates."""
    head = ["codec", "its rates (bpp)", *(f"{rate:g} bpp" for rate in rates)]
    rows = [[*head, *(f"BD-rates vs {anchor.codec} (%)" for anchor in anchors)]]
    metrics = measured_metrics(curves)
    for curve in curves:
        bpp = curve.points["bpp"]
        span = f"{bpp.min():.3f} to {bpp.max():.3f}" if len(bpp) else "-"
        row = [curve.codec + (" (gaps)" if curve.failures else ""), span]
        row += [_joined([_at(curve, metric, rate) for metric in metrics]) for rate in rates]
        row += [_joined([_bd(curve, anchor, metric) for metric in metrics]) for anchor in anchors]
        rows.append(row)
    return rows


def _at(curve: RDCurve, metric: str, rate: float) -> str:
    digits = 3 if metric == "ms_ssim" else HEADS[metric][1]
    return number(value_of(metric, value_at(curve, metric, rate)), digits)


def _bd(curve: RDCurve, anchor: RDCurve, metric: str) -> str:
    if curve is anchor:
        return "-"
    try:
        found = bd_rate(curve, anchor, metric)
    except InputError:
        return "-"
    return number(found.percent, 1, "+") + ("*" if found.warning else "")


def _joined(cells: Sequence[str]) -> str:
    return "-" if set(cells) == {"-"} else ", ".join(cells)


def rates_markdown(
    curves: Sequence[RDCurve], anchors: Sequence[RDCurve], rates: Sequence[float]
) -> str:
    """Return what `rate_rows` does as a Markdown table, and what its cells are."""
    head, *rows = rate_rows(curves, anchors, rates)
    return f"{markdown_table(head, rows)}\n\n{rate_cells(curves).replace('*', chr(92) + '*')}"


def points_markdown(curve: RDCurve) -> str:
    """Return the points of a curve as a Markdown table."""
    metrics = measured_metrics([curve])
    head = ["quality", "bpp", *(HEADS[metric][0] for metric in metrics), "encode (s)", "decode (s)"]
    rows = [
        [
            str(p["asked"]),
            number(p["bpp"], 4),
            *(number(p[metric], HEADS[metric][1]) for metric in metrics),
            number(p["encode_s"], 3),
            number(p["decode_s"], 3),
        ]
        for p in curve.points.to_dict("records")
    ]
    return markdown_table(head, rows)


METRIC_CELLS = (
    "BD-rates (%): mean ± standard deviation over the images, each of its own curve; in brackets that of the mean curves, "
    "which also rewards how a codec shares bits between images at one quality."
)


def metric_rows(curves: Sequence[RDCurve], anchor: RDCurve) -> list[list[str]]:
    """Return the cells of a table, its head first: a row a codec, a column a metric, of each BD-rates of images and of mean curves."""
    table = bd_table(curves, [anchor])
    metrics = [metric for metric in AXES if metric in set(table["metric"])]
    rows = [["codec", *(HEADS[metric][0].partition(" (")[0] for metric in metrics)]]
    for curve in curves:
        mine = table[table["codec"] == curve.codec].set_index("metric")
        cells = ["-"] * len(metrics) if curve is anchor else [_both(mine.loc[m]) for m in metrics]
        rows.append([curve.codec + (" (gaps)" if curve.failures else ""), *cells])
    return rows


def _both(row: Any) -> str:
    """Return the BD-rates of a row of `bd_table` as `METRIC_CELLS` says."""
    whole = f"({number(row['percent'], 1, '+')})"
    if not math.isfinite(row["image_percent"]):
        return whole if math.isfinite(row["percent"]) else "-"
    return f"{row['image_percent']:+.1f} ± {row['image_spread']:.1f} {whole}"


def metrics_markdown(curves: Sequence[RDCurve], anchors: Sequence[RDCurve]) -> str:
    """Return what `metric_rows` does as Markdown tables, one an anchor, and what their cells are."""
    parts = [METRIC_CELLS]
    for anchor in anchors:
        head, *rows = metric_rows(curves, anchor)
        parts.append(markdown_table([f"vs {anchor.codec}", *head[1:]], rows))
    return "\n\n".join(parts)


LOOK_CELLS = (
    "Standard deviation of SSIMULACRA2 over the images at the quality where its mean is the column's (between qualities "
    "linear; -: beyond them): small is better, a quality means a look. Then mean ± standard deviation at the codec's qualities."
)


def look_rows(curves: Sequence[RDCurve]) -> list[list[str]]:
    """Return the cells of a table, its head first: a row a codec, spreads of SSIMULACRA2 at `LOOKS` and at its own qualities."""
    rows = [["codec", *(f"at {look}" for look in LOOKS), "at its qualities"]]
    for curve in curves:
        own = looks(curve).to_dict("records")
        if own:
            shown = [f"{row['asked']}: {row['mean']:.1f} ± {row['spread']:.1f}" for row in own]
            spreads = [number(spread_at(curve, look), 2) for look in LOOKS]
            rows.append([curve.codec, *spreads, "; ".join(shown)])
    return rows


def looks_markdown(curves: Sequence[RDCurve]) -> str:
    """Return what `look_rows` does as a Markdown table, and what its cells are."""
    head, *rows = look_rows(curves)
    return f"{LOOK_CELLS}\n\n{markdown_table(head, rows)}"


def bd_markdown(curves: Sequence[RDCurve], anchors: Sequence[RDCurve]) -> str:
    """Return every BD-rate as a Markdown table, with overlap and number of points."""
    head = [
        "codec",
        "anchor",
        "metric",
        "BD-rate (%)",
        "of images (%)",
        "overlap",
        "points, anchor's",
        "of the curve, anchor",
        "note",
    ]
    rows = []
    for row in bd_table(curves, anchors).to_dict("records"):
        shown = [row["codec"], row["anchor"], AXES[row["metric"]], number(row["percent"], 1, "+")]
        shown.append(_of_images(row))
        if math.isfinite(row["percent"]):
            shown += [
                f"{row['low']:.1f} to {row['high']:.1f}",
                f"{row['points']:.0f}, {row['anchor_points']:.0f}",
                f"{row['share']:.1%}, {row['anchor_share']:.1%}",
            ]
        else:
            shown += ["-", "-", "-"]
        rows.append([*shown, row["note"] or ""])
    return markdown_table(head, rows)


def _of_images(row: Any) -> str:
    """Return mean and spread of the BD-rates of images, and the number of images."""
    if not row["images"]:
        return "-"
    return f"{row['image_percent']:+.1f} ± {row['image_spread']:.1f} ({row['images']})"


def gaps_of(curves: Sequence[RDCurve]) -> list[str]:
    """Return what could not be measured, a line each; what is common to several codecs is one line."""
    codecs: dict[tuple[str, str], list[str]] = {}  # (what, message) -> codecs
    for curve in curves:
        for gap in curve.failures:
            what = " ".join(filter(None, [gap["image"], gap["asked"] and f"at {gap['asked']}"]))
            codecs.setdefault((what, gap["message"]), []).append(curve.codec)
    lines = []
    for (what, message), names in codecs.items():
        name = f"all {len(curves)} codecs" if 1 < len(names) == len(curves) else ", ".join(names)
        lines.append(": ".join(filter(None, [name, what, message])))
    return lines


LOSSLESS_CELLS = (
    "Whole files, all images together; bpp: bits a pixel. Against the anchor: mean of the images' sizes, and of the total. "
    "MB/s: 10^6 bytes of RGB pixels a second, one thread."
)


def lossless_rows(curves: Sequence[RDCurve], anchors: Sequence[RDCurve] = ()) -> list[list[str]]:
    """Return the cells of a table of the lossless codecs, its head first, smallest files first; of anchors the first lossless one counts."""
    anchor = next((one for one in anchors if one.is_lossless), None)
    head = ["codec", "bytes", "bpp", "encode (MB/s)", "decode (MB/s)"]
    against = [f"vs {anchor.codec}, images (%)", "total (%)"] if anchor else []
    rows = [[*head[:3], *against, *head[3:]]]
    gaps = {curve.codec for curve in curves if curve.failures}
    for row in lossless_table(curves, anchor).to_dict("records"):
        cells = [
            row["codec"] + (" (gaps)" if row["codec"] in gaps else ""),
            f"{row['size_bytes']:,}",
            f"{row['bpp']:.3f}",
        ]
        if anchor:
            sizes = (row["percent"], row["total_percent"])
            cells += (
                ["-"] * 2
                if row["codec"] == anchor.codec
                else [number(size, 2, "+") for size in sizes]
            )
        rows.append([*cells, f"{row['encode_mb_s']:.2f}", f"{row['decode_mb_s']:.2f}"])
    return rows


def lossless_markdown(curves: Sequence[RDCurve], anchors: Sequence[RDCurve] = ()) -> str:
    """Return what `lossless_rows` does as a Markdown table, and what its cells are."""
    head, *rows = lossless_rows(curves, anchors)
    return f"{markdown_table(head, rows)}\n\n{LOSSLESS_CELLS}"


def lossy(curves: Sequence[RDCurve]) -> list[RDCurve]:
    """Return the curves but those of lossless codecs."""
    return [curve for curve in curves if not curve.is_lossless]


def to_markdown(
    curves: Sequence[RDCurve], anchors: Sequence[RDCurve], rates: Sequence[float] = ()
) -> str:
    """Return a study as Markdown: bytes of lossless codecs, summary, BD-rates by all metrics, looks, metrics at rates, BD-rates, gaps, points of every codec."""
    parts = ["# Rate-distortion study", DEFINITIONS]
    parts += [f"Machine: {name}" for name in machines_of(curves)]
    gaps = gaps_of(curves)
    if any(curve.is_lossless for curve in curves):
        parts += ["## Lossless: bytes", lossless_markdown(curves, anchors)]
    curves, anchors = lossy(curves), lossy(anchors)
    if curves:
        parts += _rate_distortion(curves, anchors, rates)
    if gaps:
        parts += ["## Gaps", "\n".join(f"- {gap}" for gap in gaps)]
    for curve in curves:
        if len(curve.points):
            parts += [f"## {curve.codec}", points_markdown(curve)]
    return "\n\n".join(parts) + "\n"


def _rate_distortion(
    curves: Sequence[RDCurve], anchors: Sequence[RDCurve], rates: Sequence[float]
) -> list[str]:
    parts = ["## Summary", summary_markdown(curves, anchors)]
    if anchors:
        parts += ["## All metrics", metrics_markdown(curves, anchors)]
    parts += ["## A quality means a look", looks_markdown(curves)]
    if rates:
        parts += ["## At rates", rates_markdown(curves, anchors, rates)]
    if anchors:
        parts += ["## BD-rates", bd_markdown(curves, anchors)]
    return parts


# ---------------------------------------------------------------- plots


def to_plot(curves: Sequence[RDCurve], form: str) -> bytes:
    """Return the measured metrics over bpp (log axis) as a picture; `form`: ".svg" or ".png".

    The first curve is drawn thick and on top; published ones are dashed.
    """
    from matplotlib import colormaps, rc_context
    from matplotlib.figure import Figure

    metrics = measured_metrics(curves) or ["psnr"]
    rows = -(-len(metrics) // 3)
    figure = Figure(figsize=(15, 5.2 * rows), layout="constrained")
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    axes = figure.subplots(rows, 3, squeeze=False).flatten()
    rates = [rate for curve in curves for rate in curve.points["bpp"]] or [1.0]
    ticks = [t for t in TICKS if min(rates) / 1.5 < t < 2 * max(rates)]
    for unused in axes[len(metrics) :]:
        unused.set_axis_off()
    for axis, metric in zip(axes, metrics, strict=False):
        for i, curve in enumerate(curves):
            points = np.array(sorted(points_of(curve, metric))).reshape(-1, 2)
            if len(points):
                style = "-o" if len(curve.cells) else "--"
                axis.plot(
                    points[:, 0], points[:, 1], style, color=colours[i % len(colours)],
                    markersize=3 if i else 5, linewidth=1.3 if i else 2.6, zorder=3 - i / 100,
                    label=curve.codec if axis is axes[0] else None,
                )  # fmt: skip
        axis.set(xlabel="bits per pixel", ylabel=AXES[metric], xscale="log")
        axis.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axis.grid(alpha=0.3)
    figure.legend(loc="outside right center", fontsize=8)
    stream = BytesIO()
    with rc_context({"svg.hashsalt": "ncodec"}):  # the same curves give the same file
        metadata = {"Date": None} if form == ".svg" else {}
        figure.savefig(stream, format=form[1:], dpi=110, metadata=metadata)
    return stream.getvalue()


# ---------------------------------------------------------------- visual comparison


def _data_uri(pixels: Pixels) -> str:
    height, width = pixels.shape[:2]
    top, left = max(0, height - LARGEST_VIEW) // 2, max(0, width - LARGEST_VIEW) // 2
    stream = BytesIO()
    middle = pixels[top : top + LARGEST_VIEW, left : left + LARGEST_VIEW]
    PillowImage.fromarray(middle).save(stream, "WEBP", lossless=True, method=2)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def views_of(study: Study, n_images: int, rates: Sequence[float], anchor: str = "") -> list[View]:
    """Return the first images and what every codec's file of equal bytes decodes to.

    Args:
        n_images: so many of the study's.
        rates: bpp; the anchor's file of an image nearest to each is searched, and its bytes are everyone's.
        anchor: a codec of the study; others: its first. Lossless ones are not shown: they are the original.
    """
    images = study.images[:n_images]
    shown = {n: c for n, c in zip(study.names, study.codecs, strict=True) if not is_lossless(c)}
    if not shown:
        return []
    leader = anchor if anchor in shown else next(iter(shown))
    found = study.at_equal_bytes(leader, images, rates)
    views = []
    for image in images:
        views.append(View(image.name, "", "original", {}, _data_uri(image.pixels)))
        for rate in rates:
            for name, codec in shown.items():
                measured = found.get((image.name, rate, name))
                if measured is None:
                    continue
                try:
                    pixels = codec.decode(measured.data, image.pixels.shape[:2])
                except NcodecError:
                    continue  # measured on another machine, by a program that this one lacks
                row = measured.row
                values = {"quality": f"{row['quality']:.4g}", "bpp": f"{row['bpp']:.3f}"}
                for metric in (*ALWAYS, *study.judges):
                    head, digits = HEADS[metric]
                    values[head] = number(row[metric], digits)
                views.append(View(image.name, f"{rate:g} bpp", name, values, _data_uri(pixels)))
    return views


# ---------------------------------------------------------------- HTML


def _json_in_html(value: object) -> str:
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _plot_data(curves: Sequence[RDCurve]) -> list[dict[str, Any]]:
    """Return the curves as the page's script wants them: for each metric bpp, value and what hovering shows."""
    shown = []
    for curve in curves:
        asked = dict(zip(curve.points["bpp"], curve.points["asked"], strict=True))
        metrics = {}
        for metric in AXES:
            points = sorted(points_of(curve, metric))
            metrics[metric] = {
                "x": [round(x, 5) for x, _ in points],
                "y": [round(y, 4) for _, y in points],
                "quality": [asked[x] if isinstance(asked[x], str) else "" for x, _ in points],
            }
        shown.append({"name": curve.codec, "published": not len(curve.cells), "metrics": metrics})
    return shown


def _note(curve: RDCurve) -> dict[str, str]:
    return {"note:": str(curve.about["note"])} if "note" in curve.about else {}


def to_html(
    curves: Sequence[RDCurve],
    anchors: Sequence[RDCurve],
    views: Sequence[View] = (),
    rates: Sequence[float] = (),
) -> str:
    """Return the report as one self-contained page.

    Raises:
        InputError: Plotly or Jinja2 is not installed.
    """
    try:
        import jinja2
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise InputError(
            "HTML reports need Plotly and Jinja2: pip install 'ncodec[eval]'"
        ) from error

    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (Path(__file__).parent / "report.html.j2").read_text()
    )
    images = sorted({str(name) for curve in curves for name in curve.cells["image"]})
    cells, speeds, machines, gaps = (
        all_cells(curves),
        speed_table(curves),
        machines_of(curves),
        gaps_of(curves),
    )
    lossless = lossless_rows(curves, anchors)
    n_codecs, known = len(curves), _with(curves, anchors)
    curves, anchors = lossy(curves), lossy(anchors)
    metrics = measured_metrics(shown := _with(curves, anchors))
    columns = ["codec", "image", "asked", *(c for c in COLUMNS if c not in METRICS or c in metrics)]
    return template.render(
        version=importlib.metadata.version("ncodec"),
        definitions=DEFINITIONS,
        n_images=len(images),
        n_codecs=n_codecs,
        machines=machines,
        lossless=lossless,
        lossless_cells=LOSSLESS_CELLS,
        versions=[(c.codec, (c.about.get("versions") or {"source": c.about.get("source", "")}) | _note(c)) for c in known],
        rates=RATES,
        anchors=[anchor.codec for anchor in anchors],
        summary=summary_rows(curves, anchors),
        at_rates=rate_rows(curves, anchors, rates) if rates else [],
        rate_cells=rate_cells(curves),
        by_metric=[(anchor.codec, metric_rows(curves, anchor)) for anchor in anchors],
        metric_cells=METRIC_CELLS,
        looks=look_rows(curves),
        look_cells=LOOK_CELLS,
        deltas=bd_table(curves, anchors).to_dict("records"),
        axes={metric: AXES[metric] for metric in AXES if metric in metrics or metric in ALWAYS},
        of_images=_of_images,
        speeds=speeds.to_dict("records"),
        gaps=gaps,
        number=number,
        isfinite=math.isfinite,
        plotly=get_plotlyjs(),
        data=_json_in_html(
            {
                "axes": AXES,
                "curves": _plot_data(shown),
                "columns": columns,
                "units": COLUMNS,
                "cells": [
                    [_plain_cell(value) for value in row] for row in cells[columns].itertuples(index=False)
                ],
                "views": [vars(view) for view in views],
            }
        ),
    )  # fmt: skip


def _plain_cell(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
