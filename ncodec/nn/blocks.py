"""Convolutional blocks: 1x1 and depthwise convolutions, and the float32 linear path.

    DepthConvBlock      x --+-- depthwise 3x3 -- 1x1 -- LeakyReLU -- 1x1 --+-- x
                            +----------------------------------------------+

After DCVC-UF-Intra (https://github.com/microsoft/DCVC): at 1/8 resolution a 1x1 convolution of width
N costs N**2 / 64 multiplications per pixel, a depthwise one next to nothing.
"""

import torch
from torch import Tensor, nn


class DepthConvBlock(nn.Module):
    """Residual block [B, N, H, W] -> [B, N, H, W]; starts as nearly the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.project = nn.Conv2d(2 * width, width, 1)
        self.activation = nn.LeakyReLU(0.1, inplace=True)
        with torch.no_grad():
            self.project.weight *= 0.2

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.activation(self.expand(self.depth(x))))


def depth_conv_blocks(width: int, count: int) -> nn.Sequential:
    """Return `count` blocks in a row, [B, width, H, W] -> [B, width, H, W]."""
    return nn.Sequential(*[DepthConvBlock(width) for _ in range(count)])


class LinearPath(nn.Conv2d):
    """A convolution that stays float32 under autocast.

    The linear path carries latents of several hundred quantisation steps: bfloat16 (8 bits) would
    round them by more than half a step.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def zero_(layer: nn.Conv2d) -> nn.Conv2d:
    """Return the layer with weights and bias set to zero: a branch that starts silent."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
