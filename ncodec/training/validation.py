"""Rate and distortion of a model on whole images: estimated, as training sees it."""

import math

import torch
from torch import Tensor

from ncodec.errors import InputError
from ncodec.metrics import bd_rate, psnr
from ncodec.models.hyperprior import Hyperprior
from ncodec.nn.priors import N_SCALES
from ncodec.training.config import CROP_STRIDE
from ncodec.training.loop import rate_distortion_loss

IMAGES, SIDE = 16, 320  # at most so many, cut to so many pixels
LOSSLESS_DB = 120.0  # stands for infinity
# Tried: residuals are not coded in the table rows where ±1 takes so many bits more than 0.
SKIP_BITS = (math.inf, 10.0, 8.0, 7.0, 6.0, 5.0, 4.5, 4.0, 3.0)


def center_crops(images: list[Tensor]) -> list[Tensor]:
    """Return the middles of the first images, uint8 [3, h, w], h and w multiples of 32 up to 320."""
    crops = []
    for image in images[:IMAGES]:
        height, width = (min(SIDE, side - side % CROP_STRIDE) for side in image.shape[1:])
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        crops.append(image[:, top : top + height, left : left + width].contiguous())
    return crops


@torch.no_grad()
def validate(
    model: Hyperprior, images: list[Tensor], qualities: tuple[float, ...], skip_below: int = 0
) -> list[dict[str, float]]:
    """Return estimated bpp, mean PSNR (dB, 8-bit pixels) and loss of images, one point per quality."""
    device = model.log_gain.device
    points = []
    for quality in qualities:
        rows = []
        for image in images:
            x = image[None].to(device).float() / 255
            q = torch.full((1,), quality, device=device)
            out = model(x, q, skip_below=skip_below)
            loss, bpp, _ = rate_distortion_loss(out, x, q)
            pixels = (out.x_hat[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
            decibels = min(psnr(pixels.numpy(), image.numpy()), LOSSLESS_DB)
            rows.append((float(bpp), decibels, float(loss)))
        bpp, decibels, loss = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        points.append({"quality": quality, "bpp": bpp, "psnr": decibels, "loss": loss})
    return points


@torch.no_grad()
def best_skip_below(model: Hyperprior, images: list[Tensor]) -> int:
    """Return from which table row on residuals are worth coding: the choice of the lowest BD-rate.

    (The loss would choose more: it also falls where a point only moves along the curve.)
    """

    def curve(skip_below: int) -> list[tuple[float, float]]:
        points = validate(model, images, (1.0, 3.0, 5.0, 8.0), skip_below)
        return [(point["bpp"], point["psnr"]) for point in points]

    size, row = torch.arange(2.0)[:, None], torch.arange(float(N_SCALES))
    p = model.prior_r.likelihood(size.to(model.log_gain.device), row.to(model.log_gain.device))
    dearer = (p[0] / p[1]).log2()  # [rows], falling
    tried = sorted({int((dearer > bits).sum()) for bits in SKIP_BITS})
    everything = curve(0)
    try:
        return min(tried, key=lambda skip_below: bd_rate(everything, curve(skip_below))[0])
    except InputError:  # flat curves: nothing learned, or images of one colour
        return 0
