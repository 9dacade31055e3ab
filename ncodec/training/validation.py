"""Rate and distortion of a network on whole images: estimated, as training sees it."""

from collections.abc import Callable

import torch
from torch import Tensor

from ncodec.metrics import psnr
from ncodec.nn.training import Objective, TrainingOutput
from ncodec.training.loss import rate_distortion_loss

IMAGES, SIDE = 16, 320  # at most so many, cut to so many pixels
LOSSLESS_DB = 120.0  # stands for infinity
EVERY_QUALITY = tuple(map(float, range(1, 9)))


def center_crops(images: list[Tensor], stride: int, count: int = IMAGES) -> list[Tensor]:
    """Return the middles of the first images, uint8 [3, h, w], h and w multiples of `stride` up to 320."""
    crops = []
    for image in images[:count]:
        height, width = (min(SIDE, side) // stride * stride for side in image.shape[1:])
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        crops.append(image[:, top : top + height, left : left + width].contiguous())
    return crops


@torch.no_grad()
def validate(
    network: Callable[[Tensor, Tensor], TrainingOutput],
    images: list[Tensor],
    qualities: tuple[float, ...],
    device: torch.device,
    objective: Objective,
) -> list[dict[str, float]]:
    """Return estimated bpp, mean PSNR (dB, 8-bit pixels) and loss of images, one point per quality.

    Args:
        network: called with images [1, 3, H, W] and qualities [1].
        images: uint8 [3, H, W].
        qualities: one point each.
        device: where the network is.
        objective: of the recipe.
    """
    points = []
    for quality in qualities:
        rows = []
        for image in images:
            x = image[None].to(device).float() / 255
            q = torch.full((1,), quality, device=device)
            out = network(x, q)
            assert out.x_hat is not None
            value, parts = rate_distortion_loss(out, x, q, objective)
            pixels = (out.x_hat[0].clamp(0, 1) * 255).round().to(torch.uint8).cpu()
            decibels = min(psnr(pixels.numpy(), image.numpy()), LOSSLESS_DB)
            kept = {name: float(part) for name, part in parts.items() if name != "mse"}
            rows.append({"psnr": decibels, "loss": float(value)} | kept)
        means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
        points.append({"quality": quality} | means)
    return points
