"""What limits a tokenizer: what the tokens of each stage cost, and what they are worth."""

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ncodec.metrics import psnr
from ncodec.models.tokenizer.codec import TokenizerCodec
from ncodec.models.tokenizer.stages import STRIDE
from ncodec.nn.tokens import coded_bits, static_bits
from ncodec.quality import QUALITY_STEPS


@dataclass(frozen=True)
class Diagnosis:
    """The last stage of a quality, and the pictures of all its stages. Bits are those of a token."""

    stage: int
    bpp: float  # of all stages, payloads alone
    psnr: float  # dB, mean
    raw_bits: float  # log2 of the codebook's size
    used_percent: float  # of the codebook
    static_bits: float  # entropy of the frequencies, on these images, of its tokens or of their digits, the lesser
    coded_bits: float  # in files
    saved_percent: float  # of the lesser of raw and static


def diagnose(codec: TokenizerCodec, x: Tensor, quality: int) -> Diagnosis:
    """Return what stage `quality` costs, and what is had with it.

    Args:
        codec: on the CPU.
        x: images [B, 3, H, W] uint8, sides multiples of 16.
        quality: 1 ... 8.
    """
    code = (quality - 1) * QUALITY_STEPS
    pictures = [picture.permute(1, 2, 0).numpy() for picture in x]
    tokens = np.stack([codec.analyse(picture, code) for picture in pictures])  # [B, n, h, w]
    decoded = [codec.synthesise(grid, code).astype(np.uint8) for grid in tokens]
    coded = coded_bits(codec.coder, tokens)  # [n]
    stage, last = codec.stages[quality - 1], tokens[:, -1]
    raw, static = (
        math.log2(stage.size),
        float(static_bits(codec.stages[:quality], tokens)[-1].min()),
    )
    return Diagnosis(
        stage=quality,
        bpp=float(coded.sum()) / STRIDE**2,
        psnr=float(np.mean([psnr(a, b) for a, b in zip(pictures, decoded, strict=True)])),
        raw_bits=raw,
        used_percent=100 * len(np.unique(last)) / stage.size,
        static_bits=static,
        coded_bits=float(coded[-1]),
        saved_percent=100 * (1 - float(coded[-1]) / min(raw, static)),
    )
