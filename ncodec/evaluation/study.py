"""A study: rate-distortion curves of codecs over images, as tables and as JSON.

    images x codecs x qualities --run_all(measure)--> cells --mean over the images--> RDCurve

A point of a curve is the mean over ALL images of bits per pixel and of each metric (so PSNR is the mean
of the images' PSNRs, as CompressAI has it, not the PSNR of the mean MSE). Where an image failed at a
quality, that quality has no point, and the failure is kept with the curve.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ncodec.anchors import DIR as ANCHORS
from ncodec.codec import decode_picture
from ncodec.errors import InputError, NcodecError, named
from ncodec.evaluation.cells import (
    COLUMNS,
    METRICS,
    ON_DEMAND,
    Cache,
    Cell,
    Measurement,
    digest_of,
    judges_of,
    lacking,
    machine,
    measure_or_complete,
)
from ncodec.evaluation.peers import Codec, codec_name, parse_codec
from ncodec.evaluation.peers.common import ASKED_OF_LOSSLESS, Pixels, is_lossless
from ncodec.image import plain
from ncodec.image import read as read_picture
from ncodec.parallel import run_all
from ncodec.search import Target, text_of

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "ncodec study 1"
POINT_COLUMNS = ["asked", *COLUMNS]
CELL_COLUMNS = ["image", "asked", *COLUMNS, "machine"]


@dataclass(frozen=True)
class Image:
    """An image to measure on: its name, unique in a study, and RGB pixels [H, W, 3]."""

    name: str
    pixels: Pixels


def read_image(path: Path) -> Image:
    """Return the image in a file, named by it; grey becomes RGB, an .nc file is decoded.

    Raises:
        InputError: it cannot be read, or holds what is not measured: transparency, more than 8 bits.
        FormatError, LimitError, ModelError: it is an .nc file that cannot be decoded.
    """
    if path.suffix == ".nc":
        try:
            picture = decode_picture(path.read_bytes())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
    else:
        picture = read_picture(path, str(path))
    with named(f"{path}: "):
        pixels = plain(picture, "eval").pixels
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    return Image(path.name, pixels)


@dataclass
class RDCurve:
    """What is known of one codec. A published curve has points and no cells."""

    codec: str
    points: "pd.DataFrame"  # POINT_COLUMNS; a row a quality, means over the images, in order of bpp
    cells: "pd.DataFrame"  # CELL_COLUMNS; a row an image and quality
    failures: list[dict[str, str]] = field(default_factory=list)  # image, asked, message
    about: dict[str, Any] = field(default_factory=dict)  # versions, images, a note; or source

    @property
    def is_lossless(self) -> bool:
        """Whether every file kept every pixel: then the bytes are all there is to compare."""
        return bool(len(self.cells)) and bool(np.isposinf(self.cells["psnr"]).all())


# ---------------------------------------------------------------- measuring


def rd_curve(
    codec: Codec | str,
    images: Sequence[Image],
    qualities: Sequence[float | Target] = (),
    *,
    cache: Cache = Cache(None),
    engine: str = "local",
    jobs: int = 1,
    metrics: Sequence[str] = (),
) -> RDCurve:
    """Return the measured rate-distortion curve of one codec.

    Args:
        codec: as `parse_codec` takes or gives it.
        images: names must differ.
        qualities: in the codec's own scale, or targets; default: the codec's `QUALITIES`.
        cache: cells found there are not measured again.
        engine, jobs: as for `run_all`.
        metrics: as for `Study`.

    Raises:
        InputError, ModelError: no such codec, something that it needs is missing, or images share a name.
    """
    study = Study([codec], images, qualities, cache, engine, jobs, metrics=metrics)
    for _ in study.run():
        pass
    (curve,) = study.curves()
    if not len(curve.cells) and curve.failures:
        raise InputError(f"{curve.codec}: {curve.failures[0]['message']}")
    return curve


class Study:
    """Several codecs measured on the same images; cells run in any order, on any engine.

    `run()` yields (cells done, cells in all, cell or failure) as it goes, `curves()` is what came of it.
    """

    def __init__(
        self,
        codecs: Sequence[Codec | str],
        images: Sequence[Image],
        qualities: Sequence[float | Target] = (),
        cache: Cache = Cache(None),
        engine: str = "local",
        jobs: int = 1,
        is_low: bool = False,
        metrics: Sequence[str] = (),
    ) -> None:
        """Check what can be checked before any work: names, codecs.

        Args:
            is_low: curves of low rates, the codecs' `LOW`.
            metrics: those `ON_DEMAND` that are wanted; `missing` says which cannot run here: they are NaN.

        Raises:
            InputError: no images, two images of one name, or no such codec, option or metric.
        """
        names = [image.name for image in images]
        if not names:
            raise InputError("images: expected one or more, found none")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"images: expected different names, found {twice!r} twice")
        self.codecs = [parse_codec(c) if isinstance(c, str) else c for c in codecs]
        self.names = [codec_name(codec) for codec in self.codecs]
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f"codecs: {twice!r} is named twice")
        self.images, self.qualities = images, qualities
        self.cache, self.engine, self.jobs, self.is_low = cache, engine, jobs, is_low
        self.judges, self.missing = judges_of(metrics)
        self.digests = {image.name: digest_of(image.pixels) for image in images}
        self.found: dict[tuple[str, str, str], Measurement] = {}  # codec, asked, image
        self.failures: dict[str, list[dict[str, str]]] = {name: [] for name in self.names}
        self.versions: dict[str, dict[str, str]] = {}

    def run(self) -> Iterator[tuple[int, int, str]]:
        """Measure; yield (done, in all, what was done last). What fails becomes a failure of its curve."""
        yield from self._measure(
            [
                (name, asked, image)
                for codec, name in zip(self.codecs, self.names, strict=True)
                for asked in self.asked_of(codec)
                for image in self.images
            ]
        )

    def _measure(self, wanted: list[tuple[str, str, Image]]) -> Iterator[tuple[int, int, str]]:
        """Measure codecs at qualities or targets on images, as `run` does."""
        codecs = dict(zip(self.names, self.codecs, strict=True))
        for name in dict.fromkeys(name for name, _, _ in wanted):
            if name not in self.versions:
                try:
                    self.versions[name] = codecs[name].versions()
                except NcodecError as error:
                    self.versions[name] = {}  # it cannot run
                    self._fail(name, "", "", error)
        tasks = [
            (Cell(name, asked, self.digests[image.name], self.versions[name], self.judges), image)
            for name, asked, image in wanted
            if self.versions[name]
        ]
        todo = []
        for cell, image in tasks:
            cached = self.cache.get(cell)
            if cached is None or lacking(cell, cached):
                todo.append((cell, image, cached))
            else:
                self.found[cell.codec, cell.asked, image.name] = cached
        done = len(tasks) - len(todo)
        yield done, len(tasks), f"{done} cells from the cache"
        items = ((cell, image.pixels, known) for cell, image, known in todo)
        for number, outcome in run_all(measure_or_complete, items, self.engine, self.jobs):
            cell, image, _ = todo[number]
            label = f"{cell.codec} {cell.asked} {image.name}"
            if isinstance(outcome, NcodecError):
                self._fail(cell.codec, image.name, cell.asked, outcome)
                label += f": {outcome}"
            else:
                try:
                    self.cache.put(cell, outcome)
                except InputError as error:  # a full disk: go on without
                    self.cache = Cache(None)
                    label += f": nothing more is kept: {error}"
                self.found[cell.codec, cell.asked, image.name] = outcome
            done += 1
            yield done, len(tasks), label

    def _fail(self, name: str, image: str, asked: str, error: NcodecError) -> None:
        self.failures[name].append({"image": image, "asked": asked, "message": str(error)})

    def asked_of(self, codec: Codec) -> list[str]:
        """Return the qualities and targets of a codec, each once, as `text_of` writes them; of a lossless one `ASKED_OF_LOSSLESS`."""
        if is_lossless(codec):
            return [ASKED_OF_LOSSLESS]
        own = codec.LOW if self.is_low else codec.QUALITIES
        return list(dict.fromkeys(map(text_of, self.qualities or own)))

    def file_of(self, codec: str, image: str, asked: str) -> bytes:
        """Return the file that was measured for one cell, by the quality or target that was asked for."""
        return self.found[codec, asked, image].data

    def at_equal_bytes(
        self, leader: str, images: Sequence[Image], rates: Sequence[float]
    ) -> dict[tuple[str, float, str], Measurement]:
        """Return files of equal bytes, by image, rate and codec: of `leader` nearest to a rate (bpp), of the others to its bytes; not of lossless ones.

        Searched for each of the study's images that is given, and kept in the cache like other targets. What fails is not there.
        """
        found = {}

        def search(names: Sequence[str], sizes: dict[tuple[str, float], float]) -> None:
            wanted = {
                (image.name, rate, name): (name, text_of(Target(sizes[image.name, rate], "bpp")), image)
                for name in names
                for rate in rates
                for image in images
            }  # fmt: skip
            for _ in self._measure(list(wanted.values())):
                pass
            for key, (name, asked, image) in wanted.items():
                if (cell := (name, asked, image.name)) in self.found:
                    found[key] = self.found[cell]

        asked = {(image.name, rate): rate for image in images for rate in rates}
        search([leader], asked)
        sizes = {(i, rate): float(first.row["bpp"]) for (i, rate, _), first in found.items()}
        kept = {name for c, name in zip(self.codecs, self.names, strict=True) if is_lossless(c)}
        search([name for name in self.names if name != leader and name not in kept], asked | sizes)
        return found

    def curves(self) -> list[RDCurve]:
        """Return a curve a codec, in the order they were named."""
        curves = []
        unwanted = {name: math.nan for name in ON_DEMAND if name not in self.judges}
        for codec, name in zip(self.codecs, self.names, strict=True):
            rows = [
                {"image": image.name, "asked": asked}
                | self.found[name, asked, image.name].row
                | unwanted
                for asked in self.asked_of(codec)
                for image in self.images
                if (name, asked, image.name) in self.found
            ]
            about: dict[str, Any] = {
                "versions": self.versions.get(name, {}),
                "images": self.digests,
            }
            if note := getattr(codec, "NOTE", ""):  # what not to expect of its files
                about["note"] = note
            failures = list(self.failures[name])
            curves.append(curve_of_cells(name, rows, len(self.images), failures, about))
        return curves


def curve_of_cells(
    codec: str,
    rows: list[dict[str, Any]],
    n_images: int,
    failures: list[dict[str, str]],
    about: dict[str, Any],
) -> RDCurve:
    """Return the curve of measured rows; a quality that lacks an image, or is not finite, gives no point."""
    import pandas as pd

    cells = pd.DataFrame(rows, columns=CELL_COLUMNS)
    points = []
    for asked, group in cells.groupby("asked", sort=False):
        if len(group) == n_images:
            points.append(
                {"asked": asked} | {c: float(group[c].mean(skipna=False)) for c in COLUMNS}
            )
    table = pd.DataFrame(points, columns=POINT_COLUMNS).sort_values("bpp")
    return RDCurve(codec, table.reset_index(drop=True), cells, failures, about)


# ---------------------------------------------------------------- JSON


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: infinity and NaN as text, seven digits."""
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else str(value)
    return value.item() if isinstance(value, np.generic) else value


def _columns(table: "pd.DataFrame") -> dict[str, list[Any]]:
    """Return the columns; of metrics `ON_DEMAND`, those that were measured."""
    names = [n for n in table if n not in ON_DEMAND or not table[n].isna().all()]
    return {str(name): [_plain(v) for v in table[name].tolist()] for name in names}


def to_json(curves: Sequence[RDCurve]) -> str:
    """Return a study as JSON, tables by column; `from_json` reads it."""
    text = {
        "format": FORMAT,
        "machine": machine(),
        "curves": [
            {
                "codec": curve.codec, "about": curve.about, "failures": curve.failures,
                "points": _columns(curve.points), "cells": _columns(curve.cells),
            }
            for curve in curves
        ],
    }  # fmt: skip
    return json.dumps(text, indent=1) + "\n"


def _table(columns: dict[str, list[Any]], texts: Sequence[str], wanted: Sequence[str]) -> Any:
    """Return a table of the wanted columns; NaN where JSON has none, infinity and NaN from its texts."""
    import pandas as pd

    def values(name: str) -> list[Any]:
        return [
            v if name in texts else float(v) if isinstance(v, str) else v for v in columns[name]
        ]

    return pd.DataFrame({name: values(name) for name in columns}).reindex(columns=list(wanted))


def _curve(
    codec: str,
    points: dict[str, list[Any]],
    cells: dict[str, list[Any]],
    failures: list[dict[str, str]],
    about: dict[str, Any],
) -> RDCurve:
    """Return a curve from what JSON holds.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: it holds something else.
    """
    import pandas as pd

    texts = ["image", "asked", "machine"]
    images = about.get("images", {})
    if not isinstance(codec, str) or (images != "kodak" and not isinstance(images, dict)):
        raise ValueError(f"name {codec!r}, images {images!r}")
    if "bpp" not in points or not set(METRICS) & set(points):
        raise ValueError(f"curve {codec!r} has {', '.join(points)}, but needs bpp and a metric")
    table = _table(points, texts, POINT_COLUMNS)
    for name in COLUMNS:
        table[name] = pd.to_numeric(table[name])
    gaps = [{key: str(gap[key]) for key in ("image", "asked", "message")} for gap in failures]
    ordered = table.sort_values("bpp").reset_index(drop=True)
    return RDCurve(codec, ordered, _table(cells, texts, CELL_COLUMNS), gaps, about)


def read_curves(path: str | Path) -> list[RDCurve]:
    """Return the curves in a JSON file: a study, or a published curve in the form of kodak_eval/anchors.

    Raises:
        InputError: it cannot be read or is neither.
    """
    try:
        text = json.loads(Path(path).read_text())
        if isinstance(text, dict) and text.get("format") == FORMAT:
            names = ("codec", "points", "cells", "failures", "about")
            return [_curve(*(curve[name] for name in names)) for curve in text["curves"]]
        points = {key: text[key] for key in ("bpp", *METRICS) if key in text}
        about = {key: value for key, value in text.items() if key not in points}
        return [_curve(text["name"], points, {}, [], about)]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a study or a published curve in JSON ({type(error).__name__}: {error})"
        ) from error


def list_anchors() -> list[str]:
    """Return the names of the published Kodak curves that ncodec knows.

    >>> "vtm" in list_anchors()
    True
    """
    return sorted(path.stem for path in ANCHORS.glob("*.json"))


def find_anchor(name: str, curves: Sequence[RDCurve] = ()) -> RDCurve:
    """Return an anchor: a codec of `curves`, a published curve by its name, or a JSON file of one curve.

    Raises:
        InputError: none of these.
    """
    for curve in curves:
        if curve.codec == name:
            return curve
    if name in list_anchors():
        return read_curves(ANCHORS / f"{name}.json")[0]
    if Path(name).suffix != ".json" and not Path(name).is_file():
        raise InputError(
            f"anchor {name!r}: expected a codec of this study, a file, or one of {', '.join(list_anchors())}"
        )
    found = read_curves(Path(name))
    if len(found) != 1:
        raise InputError(f"anchor {name}: expected one curve, found {len(found)}")
    return found[0]
