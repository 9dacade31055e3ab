"""Curves compared: BD-rates of the mean curves and of every image, values at rates, looks of qualities.

    mean over images, one curve --> bd_rate            also rewards sharing bits between images at one quality
    cells, a curve an image -----> bd_rate_of_images   does not: how good is the coding? mean and spread
    cells, at each quality ------> looks, spread_at    do all images look alike at one quality?

A metric is compared as a quality that rises (`quality_of`). Of a curve, points that a smaller file beats are
left out, and counted: what is left rises, and has one rate for each quality.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ncodec.anchors import DIR as ANCHORS
from ncodec.errors import InputError
from ncodec.evaluation.cells import METRICS
from ncodec.evaluation.study import RDCurve
from ncodec.metrics import bd_rate as bd_rate_of_points

if TYPE_CHECKING:
    import pandas as pd

LEAST_OVERLAP = 0.6  # of either curve's range: below, a BD-rate says little
Points = list[tuple[float, float]]  # (bpp, quality)


# ---------------------------------------------------------------- points


def quality_of(metric: str, value: float) -> float:
    """Return a metric's value as a quality that rises: MS-SSIM x as -10 log10(1 - x), Butteraugli as -10 log10(x), both dB.

    >>> quality_of("ms_ssim", 0.99), quality_of("butteraugli", 10), quality_of("cvvdp", 9.5)
    (20.0, -10.0, 9.5)
    """
    loss = {"ms_ssim": 1 - value, "butteraugli": value}.get(metric)
    if loss is None:
        return value
    return round(-10 * math.log10(loss), 12) if loss > 0 else math.inf if loss == 0 else math.nan


def value_of(metric: str, quality: float) -> float:
    """Return the metric's own value of a quality: the inverse of `quality_of`."""
    loss = 10 ** (-quality / 10)
    return {"ms_ssim": 1 - loss, "butteraugli": loss}.get(metric, quality)


def _points(rates: Iterable[float], values: Iterable[float], metric: str) -> Points:
    pairs = [(float(x), quality_of(metric, float(y))) for x, y in zip(rates, values, strict=True)]
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def points_of(curve: RDCurve, metric: str) -> Points:
    """Return (bpp, quality) of the points where both are finite."""
    if metric not in METRICS:
        raise InputError(f"metric: expected one of {', '.join(METRICS)}, found {metric!r}")
    return _points(curve.points["bpp"], curve.points[metric], metric)


def points_of_images(curve: RDCurve, metric: str) -> dict[str, Points]:
    """Return the same for each image, by the digest of its pixels; nothing for a published curve."""
    found = {}
    for image, cells in curve.cells.groupby("image", sort=False):
        if digest := curve.about["images"].get(image):
            found[digest] = _points(cells["bpp"], cells[metric], metric)
    return found


def front(points: Points) -> Points:
    """Return the points of a curve that no smaller file equals or beats, in order of rate.

    >>> front([(0.1, 20), (0.3, 22), (0.2, 25), (0.4, 30)])
    [(0.1, 20), (0.2, 25), (0.4, 30)]
    """
    kept: Points = []
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or quality > kept[-1][1]:
            kept.append((rate, quality))
    return kept


def measured_metrics(curves: Sequence[RDCurve]) -> list[str]:
    """Return the metrics that any of the curves has."""
    return [m for m in METRICS if any(curve.points[m].notna().any() for curve in curves)]


# ---------------------------------------------------------------- BD-rates


@dataclass(frozen=True)
class BdRate:
    """Bjøntegaard's rate difference, and how far it can be trusted."""

    percent: float  # negative: fewer bits than the anchor
    metric: str
    low: float  # overlap: the metric's values from low to high are in both curves
    high: float
    points: int  # of the curve within the overlap
    anchor_points: int
    share: float  # of the curve's range that is overlap, 0 to 1
    anchor_share: float
    beaten: int = 0  # points left out, of both curves: smaller files are as good

    @property
    def warning(self) -> str:
        """Why not to trust it, or ''."""
        parts = [
            f"only {share:.1%} of the {name}'s range is in both curves"
            for share, name in ((self.share, "curve"), (self.anchor_share, "anchor"))
            if share < LEAST_OVERLAP
        ]
        if self.beaten:
            parts.append(f"not monotone, points left out: {self.beaten}")
        return " and ".join(parts)


@dataclass(frozen=True)
class ImageBdRates:
    """BD-rates of the images, each of its own curve."""

    percent: float  # mean over the images; NaN: there are none
    spread: float  # standard deviation over the images
    images: int  # that have a BD-rate
    failed: int  # that have none: their curves do not overlap, or have under two points
    narrow: int  # where under `LEAST_OVERLAP` of a curve is in both
    beaten: int  # where a curve is not monotone, and points were left out

    @property
    def warning(self) -> str:
        """What to know about it, or ''."""
        parts = {
            "images without a BD-rate": self.failed, "images with little in both curves": self.narrow,
            "images with a curve that is not monotone": self.beaten,
        }  # fmt: skip
        return "; ".join(f"{text}: {n}" for text, n in parts.items() if n)


def _bd_rate(points: Points, others: Points, metric: str) -> BdRate:
    kept, kept_others = front(points), front(others)
    percent, (low, high) = bd_rate_of_points(kept_others, kept)

    def within(pairs: Points) -> tuple[int, float]:
        inside = sum(low <= value <= high for _, value in pairs)
        return inside, (high - low) / (pairs[-1][1] - pairs[0][1])

    (n, share), (n_anchor, anchor_share) = within(kept), within(kept_others)
    beaten = len(points) - len(kept) + len(others) - len(kept_others)
    return BdRate(percent, metric, low, high, n, n_anchor, share, anchor_share, beaten)


def bd_rate(curve: RDCurve, anchor: RDCurve, metric: str = "psnr") -> BdRate:
    """Return Bjøntegaard's rate difference of the mean curve of `curve` against that of `anchor`, over a metric's `quality_of`.

    Raises:
        InputError: no such metric, or curves that cannot be compared (see `metrics.bd_rate`).
    """
    return _bd_rate(points_of(curve, metric), points_of(anchor, metric), metric)


def bd_rate_of_images(curve: RDCurve, anchor: RDCurve, metric: str = "psnr") -> ImageBdRates:
    """Return mean and spread of the BD-rates of the images that both curves were measured on."""
    others = points_of_images(anchor, metric)
    pairs = [
        (mine, others[d]) for d, mine in points_of_images(curve, metric).items() if d in others
    ]
    found = []
    for mine, other in pairs:
        try:
            found.append(_bd_rate(mine, other, metric))
        except InputError:
            continue
    percents = [rate.percent for rate in found]
    return ImageBdRates(
        float(np.mean(percents)) if found else math.nan,
        float(np.std(percents)) if found else math.nan,
        len(found),
        len(pairs) - len(found),
        sum(min(rate.share, rate.anchor_share) < LEAST_OVERLAP for rate in found),
        sum(rate.beaten > 0 for rate in found),
    )


def bd_table(curves: Sequence[RDCurve], anchors: Sequence[RDCurve]) -> "pd.DataFrame":
    """Return a row for each curve, anchor and metric: BD-rates (percent) of mean curves and of images, overlap, points, a note.

    A pair that cannot be compared has NaN and the reason in its note; an anchor is not compared with itself, nor are lossless codecs (`lossless_table`).
    """
    import pandas as pd

    rows = []
    for anchor in anchors:
        for curve in curves:
            if curve is anchor or curve.is_lossless or anchor.is_lossless:
                continue
            for metric in METRICS:
                row: dict[str, Any] = {"codec": curve.codec, "anchor": anchor.codec}
                if not points_of(anchor, metric):
                    continue  # published without this metric
                try:
                    found = bd_rate(curve, anchor, metric)
                    row |= asdict(found) | {"note": found.warning}
                except InputError as error:
                    row |= {"metric": metric, "percent": float("nan"), "note": str(error)}
                of_images = bd_rate_of_images(curve, anchor, metric)
                row |= {
                    "image_percent": of_images.percent, "image_spread": of_images.spread, "images": of_images.images,
                }  # fmt: skip
                notes = [str(row["note"]), of_images.warning]
                if _images(curve) != _images(anchor):
                    notes.append("not the anchor's images")
                lost = len(curve.points) - len(points_of(curve, metric))
                if lost:
                    notes.append(f"points that are not finite: {lost}")
                if curve.failures:
                    notes.append(f"gaps: {len(curve.failures)}")
                row["note"] = "; ".join(filter(None, notes))
                rows.append(row)
    columns = ["codec", "anchor", "metric", "percent", "image_percent", "image_spread", "images"]
    columns += ["low", "high", "points", "anchor_points", "share", "anchor_share", "note"]
    return pd.DataFrame(rows, columns=columns)


def _images(curve: RDCurve) -> set[str]:
    """Return the digests of the images that a curve was measured on."""
    images = curve.about.get("images", {})
    if images == "kodak":
        return set((ANCHORS / "kodak-images.txt").read_text().split())
    return set(images.values())


# ---------------------------------------------------------------- lossless


def lossless_table(curves: Sequence[RDCurve], anchor: RDCurve | None = None) -> "pd.DataFrame":
    """Return a row a lossless codec, smallest files first: bytes, bpp, size against the anchor, speed.

    Columns: `codec`; `images`; `size_bytes` of all files; `bpp` of them; `percent`, mean over the images of size / anchor's size - 1, and
    `total_percent`, the same of the sums, both over the images of either, NaN without anchor; `encode_mb_s`, `decode_mb_s`: 10^6 bytes of
    RGB pixels a second, of all images together.
    """
    import pandas as pd

    others = anchor.cells.set_index("image")["size_bytes"] if anchor else pd.Series(dtype=float)
    rows = []
    for curve in curves:
        if not curve.is_lossless:
            continue
        cells = curve.cells.set_index("image")
        pixels = float((cells["size_bytes"] * 8 / cells["bpp"]).sum())
        common = cells.index.intersection(others.index)
        mine, theirs = cells["size_bytes"][common], others[common]
        rows.append(
            {
                "codec": curve.codec,
                "images": len(cells),
                "size_bytes": int(cells["size_bytes"].sum()),
                "bpp": 8 * float(cells["size_bytes"].sum()) / pixels,
                "percent": 100 * float((mine / theirs - 1).mean()),
                "total_percent": 100 * float(mine.sum() / theirs.sum() - 1)
                if len(common)
                else math.nan,
                "encode_mb_s": 3e-6 * pixels / float(cells["encode_s"].sum()),
                "decode_mb_s": 3e-6 * pixels / float(cells["decode_s"].sum()),
            }
        )
    columns = ["codec", "images", "size_bytes", "bpp", "percent", "total_percent"]
    table = pd.DataFrame(rows, columns=[*columns, "encode_mb_s", "decode_mb_s"])
    return table.sort_values("size_bytes").reset_index(drop=True)


# ---------------------------------------------------------------- values and looks


def value_at(curve: RDCurve, metric: str, rate: float) -> float:
    """Return a metric at a rate (bpp), by pchip over log(bpp), as `quality_of`; NaN outside the curve."""
    from scipy.interpolate import PchipInterpolator

    best = dict(sorted(points_of(curve, metric)))  # one point a rate
    points = np.array(list(best.items())).reshape(-1, 2)
    if len(points) < 2 or not points[0, 0] <= rate <= points[-1, 0]:
        return float("nan")
    return float(PchipInterpolator(np.log(points[:, 0]), points[:, 1])(np.log(rate)))


def looks(curve: RDCurve) -> "pd.DataFrame":
    """Return, for each quality that all images have: `asked`, mean and spread of SSIMULACRA2 over the images, in order of the mean."""
    import pandas as pd

    rows = []
    for asked in curve.points["asked"]:
        values = curve.cells.loc[curve.cells["asked"] == asked, "ssimulacra2"]
        if len(values):
            rows.append({"asked": asked, "mean": values.mean(), "spread": values.std(ddof=0)})
    table = pd.DataFrame(rows, columns=["asked", "mean", "spread"])
    return table.sort_values("mean").reset_index(drop=True)


def spread_at(curve: RDCurve, look: float) -> float:
    """Return the standard deviation of SSIMULACRA2 over the images at the quality of this mean, between qualities linear; NaN beyond."""
    table = looks(curve)
    if not len(table):
        return math.nan
    return float(np.interp(look, table["mean"], table["spread"], math.nan, math.nan))
