"""The quality that meets a target: a size, bits a pixel, decibels, SSIMULACRA2.

    value |              high      rates grow nearly exponentially with the quality, scores nearly linearly: a line through
          |            .           the nearest on either side (rates: their logarithms) meets the target near `guess`. That is
    target|- - - - ?- - - - -      encoded and is the new nearest on its side, until both are neighbours, or one is close
          |    .                   enough: 4 or 5 of 141 qualities.
          | low  guess
          +---------------- code

A size is a ceiling, for which the best quality is wanted that keeps to it; a score is a floor, for which the smallest file is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ncodec.errors import InputError
from ncodec.quality import MAX_QUALITY, MAX_QUALITY_CODE, MIN_QUALITY

UNITS = {"bpp": "bpp", "psnr": "dB"}  # of the targets that have a text
RATES = {"size": " bytes", "bpp": " bpp"}  # metrics that are ceilings, and their units
FLOORS = {"psnr": " dB", "ssimulacra2": ""}
SPANS = {"size": 2.1, "bpp": 2.1, "psnr": 11.0, "ssimulacra2": 45.0}  # of a usual curve: nepers, dB
START = 3 / 7  # of the way from the worst quality to the best: quality 4
ENOUGH = 0.99  # of a ceiling; a step of quality is 2 % of a file
CLOSE = 0.001  # of a continuous scale's target: nepers; ten times as many dB
FINE = 1 << 14  # steps of a continuous scale
NO_NOISE = 120.0  # stands for an infinite PSNR (dB)


@dataclass(frozen=True)
class Target:
    """Instead of a quality: what its file shall reach, searched per image."""

    value: float
    metric: str  # a key of SPANS


def text_of(asked: float | Target) -> str:
    """Return how a quality or target is written: 4, 0.25bpp, 35dB."""
    if isinstance(asked, Target):
        return f"{asked.value:g}{UNITS[asked.metric]}"
    return f"{asked:g}"


def parse_quality(text: str) -> float | Target:
    """Return the quality, or the target, that a text names.

    Raises:
        InputError: neither a number nor one with the unit bpp or dB.

    >>> parse_quality("4"), parse_quality("0.25bpp"), parse_quality("35dB")
    (4.0, Target(value=0.25, metric='bpp'), Target(value=35.0, metric='psnr'))
    """
    stripped = text.strip()
    metric = next((m for m, unit in UNITS.items() if stripped.lower().endswith(unit.lower())), None)
    number = stripped[: -len(UNITS[metric])] if metric else stripped
    try:
        value = float(number)
    except ValueError:
        value = float("nan")
    if not math.isfinite(value) or (metric and value <= 0):
        raise InputError(f"quality: expected 4, 0.25bpp or 35dB, found {text!r}")
    return Target(value, metric) if metric else value


def target_of(**values: float | None) -> Target | None:
    """Return the target among named values of which at most one is given: size=40_000, bpp=, psnr=, ssimulacra2=.

    Raises:
        InputError: several, or one that no file can reach.

    >>> target_of(size=None, psnr=35)
    Target(value=35, metric='psnr')
    """
    given = [Target(value, metric) for metric, value in values.items() if value is not None]
    if len(given) > 1:
        names = " and ".join(f"target_{target.metric}" for target in given)
        raise InputError(f"expected one target, found {names}")
    for target in given:
        if not math.isfinite(target.value) or (
            target.value <= 0 and target.metric != "ssimulacra2"
        ):
            raise InputError(
                f"target_{target.metric}: expected more than 0, found {target.value!r}"
            )
    return given[0] if given else None


def encode_to_target(
    encode: Callable[[int], bytes], measure: Callable[[bytes], float], target: Target
) -> tuple[bytes, int]:
    """Return the file that meets a target, and its quality code.

    Of files whose rate is no higher than the target the one of the best quality (or one that has 99 % of it); of files whose
    score is no lower the smallest.

    Args:
        encode: makes a file of a quality code; called once for each that is tried.
        measure: what of the target's metric a file has.
        target: what is to be met.

    Raises:
        InputError: the smallest file is too large, or the best one not good enough; the message says what they are.
    """
    files: dict[int, bytes] = {}

    def value_of(code: int) -> float:
        files[code] = encode(code)
        return measure(files[code])

    wanted, is_ceiling = target.value, target.metric in RATES

    def is_enough(value: float) -> bool:
        return ENOUGH * wanted <= value <= wanted if is_ceiling else value == wanted

    aim = wanted * (1 + ENOUGH) / 2 if is_ceiling else wanted
    tried = _search(value_of, target.metric, wanted, aim, MAX_QUALITY_CODE, is_enough)
    if is_ceiling:
        met = [code for code, value in tried.items() if value <= wanted]
    else:
        met = [code for code, value in tried.items() if value >= wanted]
    if not met:
        raise InputError(_out_of_reach(target, tried))
    code = max(met) if is_ceiling else min(met, key=lambda code: len(files[code]))
    return files[code], code


def _out_of_reach(target: Target, tried: dict[int, float]) -> str:
    """Return what is wrong with a target that no quality meets: the end of the range on its side."""
    bound, end, quality = "most", max(tried.values()), MAX_QUALITY
    if target.metric in RATES:
        bound, end, quality = "least", min(tried.values()), MIN_QUALITY
    unit = (RATES | FLOORS)[target.metric]
    return (
        f"target_{target.metric}: expected at {bound} {end:.6g}{unit}, which quality {quality} has, "
        f"found {target.value:g}"
    )


def find_quality(
    reached: Callable[[float], float], target: Target, worst: float, best: float, step: float = 0
) -> float:
    """Return the quality that comes nearest to a target.

    Args:
        reached: what of the target's metric a quality has, growing from `worst` to `best`; called once a quality.
        target: what is wanted.
        worst: quality of the smallest files.
        best: quality of the largest; it may be the smaller number.
        step: between two qualities; 0: any number.

    >>> find_quality(lambda quality: 2**quality, Target(9, "bpp"), 1, 8, step=1)
    3.0
    """
    last = round(abs(best - worst) / step) if step else FINE
    close = CLOSE * (1 if target.metric in RATES else 10)

    def quality(position: int) -> float:
        return round(worst + (best - worst) * position / last, 10)

    def is_close(value: float) -> bool:
        return (
            not step
            and abs(_height(value, target.metric) - _height(target.value, target.metric)) < close
        )

    tried = _search(
        lambda position: reached(quality(position)), target.metric, target.value, target.value, last, is_close
    )  # fmt: skip
    return quality(min(tried, key=lambda position: abs(tried[position] - target.value)))


def _height(value: float, metric: str) -> float:
    """Return a value on the axis where curves are nearly straight."""
    return math.log(value) if metric in RATES else min(value, NO_NOISE)


def _search(
    value_of: Callable[[int], float],
    metric: str,
    wanted: float,
    aim: float,
    last: int,
    is_enough: Callable[[float], bool],
) -> dict[int, float]:
    """Return the values of the codes that were tried, among 0 … `last`, in their order.

    The last one is enough; or two neighbours are among them, below what is wanted and not; or an end of the scale, where
    all are on one side.
    """
    values: dict[int, float] = {}
    low, high = -1, last + 1  # values[low] < wanted <= values[high], where they are known
    code, usual, goal = round(START * last), SPANS[metric] / last, _height(aim, metric)
    widths = [last, last]
    while True:
        values[code] = value_of(code)
        low, high, before = (code, high, low) if values[code] < wanted else (low, code, high)
        if is_enough(values[code]) or high - low == 1:
            return values
        heights = {c: _height(values[c], metric) for c in (low, high, before) if c in values}
        if low in values and high in values:
            step = (goal - heights[code]) * (high - low) / (heights[high] - heights[low])
            is_flat = before in heights and heights[before] == heights[code]
            if is_flat or widths[-2] < 2 * (
                high - low
            ):  # a bent curve: two lines have not halved the range
                step = (low + high) // 2 - code
            widths.append(high - low)
        else:  # all on one side so far
            slope = (
                (heights[before] - heights[code]) / (before - code) if before in values else usual
            )
            step = (goal - heights[code]) / max(slope, usual / 4)
            if len(values) > 2:
                step = math.copysign(max(abs(step), 2 * abs(code - before)), step)
        code = min(max(code + round(step), low + 1), high - 1)
