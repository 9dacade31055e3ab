"""The transform of families hyperprior and masked, as it trains: g_a and g_s (models/trunk.py has its integers).

In the style of DCVC-UF-Intra (https://github.com/microsoft/DCVC): pixel-unshuffle, 1x1 and
depthwise convolutions, gain vectors per quality; plus a linear path, a 16x16 block transform that
starts as the PCA of the training images, added to the non-linear branch on both sides
(cf. AuxT, https://arxiv.org/abs/2502.13000).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ncodec.nn import BLOCK_DIMENSION, STRIDE
from ncodec.nn.blocks import LinearPath, depth_conv_blocks, zero_
from ncodec.nn.gain import at_quality
from ncodec.quality import N_QUALITIES


class Analysis(nn.Module):
    """g_a: x [B, 3, H, W] -> y [B, M, H/16, W/16]; N is its width at 1/8."""

    def __init__(self, N: int, M: int, blocks: int) -> None:
        super().__init__()
        self.linear = LinearPath(BLOCK_DIMENSION, M, 1)
        self.stem = nn.Conv2d(3 * 64, N, 1)
        self.gain = nn.Parameter(torch.ones(N_QUALITIES, N))
        self.blocks = depth_conv_blocks(N, blocks)
        self.head = zero_(nn.Conv2d(4 * N, M, 1))

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        x = x - 0.5
        f = self.stem(pixel_unshuffle(x, 8)) * at_quality(self.gain, q)  # [B, N, H/8, W/8]
        f = self.blocks(f)
        return self.linear(pixel_unshuffle(x, STRIDE)) + self.head(pixel_unshuffle(f, 2))


class Synthesis(nn.Module):
    """g_s: y_hat [B, M, H/16, W/16] -> x_hat [B, 3, H, W]."""

    def __init__(self, N: int, M: int, blocks: int) -> None:
        super().__init__()
        self.linear = LinearPath(M, BLOCK_DIMENSION, 1)
        self.stem = nn.Conv2d(M, 4 * N, 1)
        self.gain = nn.Parameter(torch.ones(N_QUALITIES, N))
        self.blocks = depth_conv_blocks(N, blocks)
        self.head = zero_(nn.Conv2d(N, 3 * 64, 1))

    def forward(self, y_hat: Tensor, q: Tensor) -> Tensor:
        f = pixel_shuffle(self.stem(y_hat), 2) * at_quality(self.gain, q)  # [B, N, H/8, W/8]
        f = self.head(self.blocks(f))
        x_hat = pixel_shuffle(self.linear(y_hat), STRIDE)  # [B, 3, H, W]
        x_hat += pixel_shuffle(f, 8)  # in place: memory is largest here
        return x_hat.add_(0.5)
