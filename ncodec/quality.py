"""One quality scale for every family: 1 (smallest files) to 8 (best), fractions allowed; each names a lambda.
(Family tokenizer is for lower rates: there a quality is a number of stages.)

quality       1 ... 8, to the nearest 1/20
quality code  (quality - 1) * 20, what a header holds
lambda        of lambda * 255**2 * MSE + bpp: the field's own scale (CompressAI), geometric in between
"""

from numbers import Real

from ncodec.errors import InputError

MIN_QUALITY, MAX_QUALITY = 1, 8
N_QUALITIES = MAX_QUALITY - MIN_QUALITY + 1
QUALITY_STEPS = 20  # per unit of quality
MAX_QUALITY_CODE = (MAX_QUALITY - MIN_QUALITY) * QUALITY_STEPS
LAMBDAS = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)  # of qualities 1 … 8


def quality_code(quality: float) -> int:
    """Return the header's code for a quality in [1, 8], to the nearest 0.05.

    Raises:
        InputError: `quality` is outside [1, 8] or not a number.
    """
    if not isinstance(quality, Real) or not MIN_QUALITY <= quality <= MAX_QUALITY:
        raise InputError(
            f"quality: expected {MIN_QUALITY} (smallest file) to {MAX_QUALITY} (best), found {quality!r}{_hint(quality)}"
        )
    return round((float(quality) - MIN_QUALITY) * QUALITY_STEPS)


def _hint(quality: object) -> str:
    """Return which qualities look like those of JPEG, where one of these is given (by SSIMULACRA2, family dct)."""
    if not isinstance(quality, int | float) or not 10 <= quality <= 100:
        return ""
    return "; 4 looks like a JPEG of quality 50, 6 like one of 75, 8 like one of 90"


def quality_of(code: int) -> float:
    """Return the quality of a code."""
    return MIN_QUALITY + code / QUALITY_STEPS


def lmbda_of(code: int) -> float:
    """Return the lambda of a quality code; of bpp + lambda * (mean squared error of 8-bit pixels).

    >>> lmbda_of(0), lmbda_of(60)
    (0.0018, 0.013)
    """
    low = min(code // QUALITY_STEPS, N_QUALITIES - 2)
    fraction = (code - QUALITY_STEPS * low) / QUALITY_STEPS
    return LAMBDAS[low] * (LAMBDAS[low + 1] / LAMBDAS[low]) ** fraction
