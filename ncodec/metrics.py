"""Distortion and rate, each with its formula, range and peak."""

import numpy as np
from numpy.typing import NDArray

from ncodec.errors import InputError


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return 10 log10(255² / MSE) in dB over all channels of two 8-bit images; infinite if equal."""
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))


def bpp(size_bytes: int, width: int, height: int) -> float:
    """Return file bits per pixel, header included."""
    return 8 * size_bytes / (width * height)


def bd_rate(
    anchor: list[tuple[float, float]], test: list[tuple[float, float]]
) -> tuple[float, tuple[float, float]]:
    """Return Bjøntegaard's rate difference of `test` against `anchor` (percent) and the PSNR overlap (dB).

    log10(bpp) over PSNR by monotone piecewise cubics (pchip), integrated over the common PSNR interval;
    negative is better. Source: ITU-T VCEG-M33, with pchip for the cubic fit.

    Args:
        anchor, test: points (bpp, PSNR in dB), at least two each.

    Raises:
        InputError: the curves share no PSNR interval, or PSNR does not rise along one.
    """
    from scipy.interpolate import PchipInterpolator

    curves = [np.array(sorted(points, key=lambda p: p[1])) for points in (anchor, test)]
    for curve in curves:
        if not (np.diff(curve[:, 1]) > 0).all():
            raise InputError(f"curve: expected different PSNRs, found {curve[:, 1].tolist()}")
    low = max(curve[0, 1] for curve in curves)
    high = min(curve[-1, 1] for curve in curves)
    if high <= low:
        raise InputError(f"curves do not overlap in PSNR: {low:.2f} > {high:.2f} dB")
    integrals = [PchipInterpolator(c[:, 1], np.log10(c[:, 0])).integrate(low, high) for c in curves]
    return float((10 ** ((integrals[1] - integrals[0]) / (high - low)) - 1) * 100), (
        float(low),
        float(high),
    )
