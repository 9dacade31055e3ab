"""Distortion and rate, each with its formula, range and peak."""

import hashlib
import importlib.metadata
import importlib.util
import re
import shutil
import subprocess
import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ncodec.errors import InputError, needing

if TYPE_CHECKING:
    from ncodec.image import Picture

DISPLAY = "standard_4k"  # CVVDP's: 30 inches, 3840x2160, at 0.75 m (75.4 pixels a degree), 200 cd/m², sRGB
BUTTERAUGLI = "butteraugli_main"
ROWS = 256  # of pictures, compared at once


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return 10 log10(255² / MSE) in dB over all channels of two 8-bit images; infinite if equal."""
    mse = float(np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2))
    return float("inf") if mse == 0 else 10 * float(np.log10(255**2 / mse))


def of_pictures(metric: str, a: "Picture", b: "Picture") -> float:
    """Return "psnr" or "ssimulacra2" of the colour of a reference `a` and of `b`, pictures of one size, depth and number of channels.

    PSNR: over pixels of which something is to be seen (alpha of `a` above 0), at the peak of their depth. SSIMULACRA2: at 8
    bits, on mid-grey where transparent, as if the colour were sRGB; of the package, else our own in torch.

    Raises:
        InputError: neither the package nor torch is there; a side is under 8 pixels.
    """
    if metric == "ssimulacra2":
        return _ssimulacra2_of(_on_grey(a), _on_grey(b))
    total = n = 0
    for top in range(0, len(a.pixels), ROWS):
        rows = slice(top, top + ROWS)
        difference = a.pixels[rows].astype(np.int64) - b.pixels[rows]
        if a.alpha is not None:
            difference = difference[a.alpha[rows] > 0]
        total, n = total + int((difference**2).sum()), n + difference.size
    peak = 2**a.bit_depth - 1
    return 10 * float(np.log10(peak**2 * n / total)) if total else float("inf")


def _on_grey(picture: "Picture") -> NDArray[np.uint8]:
    """Return a picture as 8-bit RGB [H, W, 3], on mid-grey where it is transparent."""
    peak = np.float32(2**picture.bit_depth - 1)
    pixels = picture.pixels if picture.channels == 3 else np.stack([picture.pixels] * 3, axis=2)
    if picture.alpha is not None:
        alpha = picture.alpha[:, :, None] / peak
        pixels = pixels * alpha + peak / 2 * (1 - alpha)
    if pixels.dtype == np.uint8:
        return pixels
    return np.rint(pixels * (255 / peak)).astype(np.uint8)


def _ssimulacra2_of(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    if importlib.util.find_spec("ssimulacra2"):
        return ssimulacra2(a, b)
    with needing("SSIMULACRA2", "eval"):
        import torch
    from ncodec.nn.ssimulacra2 import ssimulacra2 as of_batch

    _check_sides("SSIMULACRA2", a, 8)
    with torch.no_grad():
        pair = [torch.from_numpy(x.transpose(2, 0, 1)[None] / np.float32(255)) for x in (a, b)]
        return float(of_batch(*pair))


def bpp(size_bytes: int, width: int, height: int) -> float:
    """Return file bits per pixel, header included."""
    return 8 * size_bytes / (width * height)


def _check_sides(metric: str, a: NDArray[np.uint8], least: int) -> None:
    if min(a.shape[:2]) < least:
        raise InputError(f"{metric}: expected sides of {least} pixels or more, found {a.shape[:2]}")


def ms_ssim(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return MS-SSIM, 0 to 1, of two 8-bit RGB images [H, W, 3]: mean over R, G and B, peak 255.

    Five scales, Gaussian window of 11 (sigma 1.5), as CompressAI measures it. Source: Wang 2003; pytorch-msssim, which needs torch.

    Raises:
        InputError: a side is under 161 pixels, too short for five scales.
    """
    import pytorch_msssim
    import torch

    _check_sides("MS-SSIM", a, 161)
    pair = [torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float32)) for x in (a, b)]
    return float(pytorch_msssim.ms_ssim(*pair, data_range=255))


def ssimulacra2(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return SSIMULACRA2 of a reference `a` and `b`, 8-bit sRGB [H, W, 3]: 100 is equal, 90 looks so, 30 is low.

    Source: Sneyers 2022, https://github.com/cloudinary/ssimulacra2; its Python package.

    Raises:
        InputError: a side is under 8 pixels.
    """
    from PIL import Image
    from ssimulacra2 import compute_ssimulacra2

    _check_sides("SSIMULACRA2", a, 8)
    files = BytesIO(), BytesIO()
    for pixels, file in zip((a, b), files, strict=True):
        Image.fromarray(pixels).save(file, "PPM")
    return float(compute_ssimulacra2(*files))


def cvvdp(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return ColorVideoVDP of a reference `a` and `b`, 8-bit sRGB [H, W, 3], in JOD on the display `DISPLAY`: 10 is equal.

    One JOD less: 75 % of viewers prefer the other picture. Source: Mantiuk 2024, https://github.com/gfxdisp/ColorVideoVDP; its
    package, whose image metric reads its parameters from its own files.

    Raises:
        InputError: the package is missing, or a side is under 8 pixels.
    """
    import torch

    _check_sides("CVVDP", a, 8)
    with torch.no_grad():
        return float(_cvvdp().predict(b, a, dim_order="HWC")[0])


@cache
def _cvvdp() -> Any:
    version_of("cvvdp")
    import torch

    try:
        import pycvvdp
    except RuntimeError:
        # torchvision's operators do not load beside a torch without CUDA, and its import ends where it describes these
        # two. CVVDP calls neither.
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import pycvvdp
    return pycvvdp.cvvdp(display_name=DISPLAY, device=torch.device("cpu"), quiet=True)


def butteraugli(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the 3-norm of Butteraugli's map of a reference `a` and `b`, 8-bit sRGB [H, W, 3]: 0 is equal; larger is worse.

    At 80 cd/m², the program's default. Source: libjxl's `butteraugli_main`.

    Raises:
        InputError: the program is missing, or failed, or a side is under 8 pixels, where it says 0.
    """
    from PIL import Image

    _check_sides("Butteraugli", a, 8)
    version_of("butteraugli")
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}.ppm" for name in ("a", "b")]
        for pixels, file in zip((a, b), files, strict=True):
            Image.fromarray(pixels).save(file)
        done = subprocess.run([BUTTERAUGLI, *files], capture_output=True, text=True)
    found = re.search(r"^3-norm: (\S+)$", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise InputError(f"{BUTTERAUGLI}: code {done.returncode}: {done.stderr.strip()[-200:]}")
    return float(found[1])


def version_of(metric: str) -> str:
    """Return what decides on the values of "cvvdp" or "butteraugli": version and display, digest of the program.

    Raises:
        InputError: it cannot run here; the message says what to install.
    """
    if metric == "cvvdp":
        try:
            return f"{importlib.metadata.version('cvvdp')} {DISPLAY}"
        except importlib.metadata.PackageNotFoundError:
            raise InputError(
                "CVVDP needs the package cvvdp: pip install 'ncodec[visual]'"
            ) from None
    path = shutil.which(BUTTERAUGLI)
    if path is None:
        raise InputError(f"Butteraugli needs the program {BUTTERAUGLI} (Debian: libjxl-devtools)")
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def bd_rate(
    anchor: list[tuple[float, float]], test: list[tuple[float, float]]
) -> tuple[float, tuple[float, float]]:
    """Return Bjøntegaard's rate difference of `test` against `anchor` (percent) and the overlap in quality.

    log10(bpp) over quality by monotone piecewise cubics (pchip), integrated over the common interval;
    negative is better. Source: ITU-T VCEG-M33 with pchip for the fit; the package bjontegaard.

    Args:
        anchor, test: points (bpp, quality: PSNR in dB, or any metric that rises), at least two each.

    Raises:
        InputError: under two points, a value that is not finite, a rate of zero, two points of one quality,
            or curves that share no interval.
    """
    import bjontegaard

    curves = [
        np.array(sorted(points, key=lambda p: p[1]), float).reshape(-1, 2)
        for points in (anchor, test)
    ]
    for name, curve in zip(("anchor", "curve"), curves, strict=True):
        if len(curve) < 2:
            raise InputError(f"{name}: expected two points or more, found {len(curve)}")
        if not np.isfinite(curve).all() or (curve[:, 0] <= 0).any():
            raise InputError(
                f"{name}: expected finite points and rates over 0, found {curve.tolist()}"
            )
        if not (np.diff(curve[:, 1]) > 0).all():
            raise InputError(f"{name}: expected different qualities, found {curve[:, 1].tolist()}")
    low = float(max(curve[0, 1] for curve in curves))
    high = float(min(curve[-1, 1] for curve in curves))
    if high <= low:
        raise InputError(
            f"curves do not overlap: one begins at {low:.4g}, the other ends at {high:.4g}"
        )
    (anchor_rates, anchor_values), (rates, values) = (curve.T for curve in curves)
    percent = bjontegaard.bd_rate(
        anchor_rates, anchor_values, rates, values,
        method="pchip", require_matching_points=False, min_overlap=0,
    )  # fmt: skip
    return float(percent), (low, high)
