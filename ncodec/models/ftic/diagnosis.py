"""What limits a frequency-aware transformer: where the bits of latents are, by slice."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ncodec.coder import Writer
from ncodec.metrics import psnr
from ncodec.models.ftic.codec import FticCodec
from ncodec.quality import QUALITY_STEPS


@dataclass(frozen=True)
class Diagnosis:
    """Means over images."""

    bpp: float  # of payloads
    psnr: float  # dB
    z_percent: float  # of the payloads' bytes


def diagnose(codec: FticCodec, x: Tensor, quality: int) -> Diagnosis:
    """Return what limits a model at one quality.

    Args:
        codec: on the CPU.
        x: images [B, 3, H, W] uint8, sides multiples of 32.
        quality: 1 ... 8.
    """
    code, rows = QUALITY_STEPS * (quality - 1), []
    for image in x.permute(0, 2, 3, 1).numpy():
        image = np.ascontiguousarray(image)
        y, z = codec.analyse(image, code)
        writer = Writer()
        y_hat, _ = codec.code(writer, (y, z), y.shape[:2], code)
        pixels = codec.synthesise(y_hat, code).astype(np.uint8)
        size = len(writer.payload())
        share = len(writer.sections[0]) / size
        rows.append(
            (8 * size / (image.shape[0] * image.shape[1]), psnr(pixels, image), 100 * share)
        )
    return Diagnosis(*(float(mean) for mean in np.mean(rows, 0)))
