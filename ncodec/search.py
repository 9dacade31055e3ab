"""The quality that meets a target: so many bits a pixel, or so many decibels."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from ncodec.errors import InputError

UNITS = {"bpp": "bpp", "psnr": "dB"}  # of targets
STEPS = 14  # every quality of a scale of 100, or 1/16384 of a continuous one


@dataclass(frozen=True)
class Target:
    """Instead of a quality: the quality, searched per image, that comes nearest to a value of `metric`."""

    value: float
    metric: str  # a key of UNITS


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


def find_quality(
    reached: Callable[[float], float], wanted: float, worst: float, best: float, step: float = 0
) -> float:
    """Return the quality that comes nearest to what is wanted: the scale is halved repeatedly.

    Args:
        reached: what a quality gives, growing from `worst` to `best`; called once a quality.
        wanted: of `reached`.
        worst: quality of the smallest files.
        best: quality of the largest; it may be the smaller number.
        step: between two qualities; 0: any number.

    >>> find_quality(lambda quality: quality**2, 10, 1, 8, step=1)
    3.0
    """
    low, high = 0.0, 1.0  # of the way from worst to best
    values: dict[float, float] = {}
    for _ in range(STEPS):
        middle = (low + high) / 2
        quality = worst + (best - worst) * middle
        if step:
            quality = float(round(quality / step) * step)
        if quality not in values:
            values[quality] = reached(quality)
        if values[quality] < wanted:
            low = middle
        else:
            high = middle
    return min(values, key=lambda quality: abs(values[quality] - wanted))
