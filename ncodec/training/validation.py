"""Rate and distortion of a model on whole images: estimated, as training sees it."""

import torch
from torch import Tensor

from ncodec.metrics import psnr
from ncodec.models.hyperprior import Hyperprior
from ncodec.training.config import CROP_STRIDE
from ncodec.training.loop import rate_distortion_loss

IMAGES, SIDE = 16, 320  # at most so many, cut to so many pixels
LOSSLESS_DB = 120.0  # stands for infinity


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
