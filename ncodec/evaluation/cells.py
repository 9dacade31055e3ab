"""One cell of a study: an image, a codec, a quality -> file, metrics, seconds, memory; and their cache.

pixels --encode--> bytes of the file --decode--> pixels_hat
  |       |             |                 |          |
  |    seconds,        bpp            seconds,       |
  |    memory                         memory         |
  +- psnr, ms_ssim, ssimulacra2; cvvdp, butteraugli -+

The last two are slow, and measured where they are asked for: also later, from the kept file.
"""

import ctypes
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ncodec.errors import InputError, NcodecError
from ncodec.evaluation.peers import Codec, parse_codec
from ncodec.evaluation.peers.common import Pixels, is_lossless
from ncodec.files import write_whole
from ncodec.metrics import bpp, butteraugli, cvvdp, ms_ssim, psnr, ssimulacra2, version_of
from ncodec.parallel import cpu_name
from ncodec.search import Target, find_quality, parse_quality
from ncodec.threads import cores

Value = TypeVar("Value")

MEASUREMENT = 1  # raise it when what `measure` measures changes: old cells are then measured again
ALWAYS = {"psnr": psnr, "ms_ssim": ms_ssim, "ssimulacra2": ssimulacra2}
ON_DEMAND = {
    "cvvdp": cvvdp,
    "butteraugli": butteraugli,
}  # half a second for an image of Kodak, and a program
METRICS = ALWAYS | ON_DEMAND


@dataclass(frozen=True)
class Cell:
    """What to measure. `versions`: the codec's, as the asking machine has them; `judges`: those of metrics `ON_DEMAND`."""

    codec: str  # as `codec_name` writes it
    asked: str  # quality or target, as `text_of` writes it
    image: str  # digest of the pixels
    versions: dict[str, str] = field(hash=False)
    judges: dict[str, str] = field(
        hash=False, default_factory=dict
    )  # not in the key: added to a kept cell

    def key(self) -> str:
        """Return the name of this cell in the cache: SHA-256 of all that its result depends on."""
        facts = {
            "measurement": MEASUREMENT, "codec": self.codec, "asked": self.asked,
            "image": self.image, "versions": self.versions | metric_versions(),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Measurement:
    """What was measured: the row of a table (see `COLUMNS`), and the file itself."""

    row: dict[str, Any]
    data: bytes


# Name, unit or meaning of every measured column.
COLUMNS = {
    "quality": "the codec's own scale",
    "size_bytes": "whole file",
    "bpp": "file bits per pixel",
    "psnr": "dB, RGB, 8 bits",
    "ms_ssim": "0 to 1, RGB",
    "ssimulacra2": "100 is perfect",
    "cvvdp": "JOD, 10 is perfect",
    "butteraugli": "3-norm, 0 is perfect",
    "encode_s": "seconds, one thread",
    "decode_s": "seconds, one thread",
    "encode_mib": "peak memory beyond what was in use (MiB)",
    "decode_mib": "peak memory beyond what was in use (MiB)",
}


def digest_of(pixels: Pixels) -> str:
    """Return SHA-256 of an image's size and RGB pixels, 32 hexadecimal digits of it."""
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:32]


def metric_versions() -> dict[str, str]:
    """Return the versions of the libraries that measure in every cell."""
    return {name: importlib.metadata.version(name) for name in ("pytorch-msssim", "ssimulacra2")}


def machine() -> str:
    """Return a line on this machine: processor, cores, system."""
    return f"{cpu_name()}, {cores()} cores, {platform.system()}, Python {platform.python_version()}"


# ---------------------------------------------------------------- seconds and memory


def _reset_peak() -> int | None:
    """Give unused memory back, start the peak anew, return the memory in use (bytes); Linux only."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    return _memory("VmRSS")


def _memory(what: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/self/status has no {what}")


def _timed(work: Callable[[], Value], child_peaks: list[int]) -> tuple[Value, float, float]:
    """Return the result, the fastest of up to three runs within a second (s), and the first's peak memory (MiB).

    The peak is of this process beyond what it had, or of a program that it ran, whichever is larger.
    """
    child_peaks.clear()
    before = _reset_peak()
    begin = time.perf_counter()
    value = work()
    seconds = [time.perf_counter() - begin]
    peak = float("nan")
    if before is not None:
        peak = max([_memory("VmHWM") - before, *child_peaks]) / 2**20
    while len(seconds) < 3 and sum(seconds) < 1:
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return value, min(seconds), peak


def measure(cell_and_pixels: tuple[Cell, Pixels]) -> Measurement:
    """Return what one cell is worth: the file is written and read back by the codec.

    Raises:
        NcodecError: the codec failed, or gave something else than an image of the same size.
    """
    cell, pixels = cell_and_pixels
    codec = _codec_of(cell)
    peaks: list[int] = getattr(codec, "child_peaks", [])
    try:
        asked = parse_quality(cell.asked)
        quality = _quality_for(codec, pixels, asked) if isinstance(asked, Target) else asked
        if not is_lossless(codec):
            check_quality(codec, quality)
        data, encode_s, encode_mib = _timed(lambda: codec.encode(pixels, quality), peaks)
        decoded, decode_s, decode_mib = _timed(lambda: codec.decode(data, pixels.shape[:2]), peaks)
    except NcodecError:
        raise
    except Exception as error:  # a foreign library's own: this cell is a gap, the rest goes on
        raise InputError(f"{type(error).__name__}: {error}") from error
    if decoded.shape != pixels.shape or decoded.dtype != np.uint8:
        raise InputError(
            f"decoder: expected {pixels.shape} uint8, found {decoded.shape} {decoded.dtype}"
        )
    if is_lossless(codec) and not np.array_equal(decoded, pixels):
        raise InputError("decoder: expected the same pixels of a lossless codec, found others")
    height, width = pixels.shape[:2]
    row = {
        "quality": quality, "size_bytes": len(data), "bpp": bpp(len(data), width, height),
        **compare(pixels, decoded, [*ALWAYS, *cell.judges]),
        "encode_s": encode_s, "decode_s": decode_s,
        "encode_mib": encode_mib, "decode_mib": decode_mib, "machine": machine(),
        "judges": cell.judges,
    }  # fmt: skip
    return Measurement(row, data)


def lacking(cell: Cell, measured: Measurement) -> dict[str, str]:
    """Return the wanted metrics `ON_DEMAND`, with versions, that a measurement has not, or from another version."""
    has = measured.row.get("judges", {})
    return {name: version for name, version in cell.judges.items() if has.get(name) != version}


def complete(work: tuple[Cell, Pixels, Measurement]) -> Measurement:
    """Return a measurement with the metrics that it lacked: its file is decoded again.

    Raises:
        NcodecError: the codec failed.
    """
    cell, pixels, measured = work
    codec = _codec_of(cell)
    missing = lacking(cell, measured)
    try:
        decoded = codec.decode(measured.data, pixels.shape[:2])
    except NcodecError:
        raise
    except Exception as error:
        raise InputError(f"{type(error).__name__}: {error}") from error
    judges = measured.row.get("judges", {}) | missing
    return Measurement(
        measured.row | compare(pixels, decoded, missing) | {"judges": judges}, measured.data
    )


def measure_or_complete(work: tuple[Cell, Pixels, Measurement | None]) -> Measurement:
    """Return what a cell is worth, from nothing or from what is known of it; raises what these raise."""
    cell, pixels, known = work
    return measure((cell, pixels)) if known is None else complete((cell, pixels, known))


def _codec_of(cell: Cell) -> Codec:
    """Return the codec of a cell; raise InputError where this machine has other versions than the asking one."""
    codec = parse_codec(cell.codec)
    wanted = cell.versions | cell.judges
    found = codec.versions() | {name: version_of(name) for name in cell.judges}
    if found != wanted:
        raise InputError(f"versions on {platform.node()}: expected {wanted}, found {found}")
    return codec


def _quality_for(codec: Codec, pixels: Pixels, target: Target) -> float:
    """Return the quality whose file of an image comes nearest to a target."""
    height, width = pixels.shape[:2]

    def reached(quality: float) -> float:
        data = codec.encode(pixels, quality)
        if target.metric == "bpp":
            return bpp(len(data), width, height)
        return psnr(pixels, codec.decode(data, (height, width)))

    return find_quality(reached, target.value, codec.WORST, codec.BEST, codec.STEP)


def check_quality(codec: Codec, quality: float) -> None:
    """Raise InputError unless a quality lies on a codec's scale: libraries round and clamp in silence."""
    low, high = sorted((codec.WORST, codec.BEST))
    is_step = not codec.STEP or quality == round(quality / codec.STEP) * codec.STEP
    if not (low <= quality <= high and is_step):
        numbers = "whole numbers from" if codec.STEP else "from"
        raise InputError(f"quality: expected {numbers} {low:g} to {high:g}, found {quality:g}")


def compare(a: Pixels, b: Pixels, metrics: Iterable[str] = tuple(ALWAYS)) -> dict[str, float]:
    """Return metrics of a reference and another RGB image of its size; NaN where they are too small for one.

    Raises:
        InputError: a metric `ON_DEMAND` cannot run here.
    """
    values = {}
    for name in metrics:
        if name in ON_DEMAND:
            version_of(name)
        try:
            values[name] = METRICS[name](a, b)
        except InputError:
            values[name] = float("nan")
    return values


def judges_of(names: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Return versions of those metrics `ON_DEMAND` that can run here, and for the others what is missing.

    Raises:
        InputError: no such metric.
    """
    judges, missing = {}, []
    for name in dict.fromkeys(names):
        if name not in METRICS:
            raise InputError(f"metric: expected one of {', '.join(METRICS)}, found {name!r}")
        if name in ON_DEMAND:
            try:
                judges[name] = version_of(name)
            except InputError as error:
                missing.append(str(error))
    return judges, missing


# ---------------------------------------------------------------- cache


def default_cache() -> Path:
    """Return the folder of measured cells: ncodec/eval under XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ncodec" / "eval"


@dataclass(frozen=True)
class Cache:
    """Measured cells in a folder: KEY.json and KEY.file, the codec's own bytes. None: nothing is kept."""

    folder: Path | None

    def __post_init__(self) -> None:
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cache {self.folder}: {error.strerror}") from error

    def get(self, cell: Cell) -> Measurement | None:
        """Return a measured cell, or None; a damaged one is as if it were not there."""
        if self.folder is None:
            return None
        path = self.folder / cell.key()
        try:
            row = json.loads(path.with_suffix(".json").read_text())
            data = path.with_suffix(".file").read_bytes()
            is_whole = row["size_bytes"] == len(data)
            nan = dict.fromkeys(ON_DEMAND, "nan")
            numbers = {name: float((nan | row)[name]) for name in COLUMNS}
        except (OSError, ValueError, LookupError, TypeError):
            return None
        if not is_whole:
            return None
        return Measurement(row | numbers | {"size_bytes": len(data)}, data)

    def put(self, cell: Cell, measurement: Measurement) -> None:
        """Keep a measured cell.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.folder is None:
            return
        path = self.folder / cell.key()
        row = {k: v if _is_plain(v) else str(v) for k, v in measurement.row.items()}
        try:
            write_whole(path.with_suffix(".file"), measurement.data)
            write_whole(path.with_suffix(".json"), json.dumps(row).encode())
        except OSError as error:
            raise InputError(f"cache {self.folder}: {error.strerror}") from error


def _is_plain(value: object) -> bool:
    """Return whether JSON can hold it: infinity and NaN are written as text."""
    return not isinstance(value, float) or np.isfinite(value)
