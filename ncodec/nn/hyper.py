"""The hyperprior and the context of families hyperprior and ftic, as they train: h_a, h_m, h_s and steps of context.

    y --h_a--> z --> [rANS] --> z_hat --h_m--> features --context--> means
                                  +--h_s--> table indexes

Z_STRIDE latents of y a side are one of z. All of it is float here; files are made by its integers (models/hyper.py).
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from ncodec.nn.blocks import LinearPath, depth_conv_blocks, zero_
from ncodec.nn.gain import at_quality
from ncodec.quality import N_QUALITIES


class Sizes(Protocol):
    """Sizes of the networks."""

    @property
    def M(self) -> int:
        """Channels of y."""
        ...

    @property
    def Z(self) -> int:
        """Channels of z."""
        ...

    @property
    def H(self) -> int:
        """Width of the hyper and context networks."""
        ...

    @property
    def S(self) -> int:
        """Width of the network of table indexes."""
        ...


class HyperAnalysis(nn.Module):
    """h_a: y in latent steps [B, M, h, w], h and w even -> z [B, Z, h/2, w/2]."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2 * c.M, c.H, 1)
        self.before = depth_conv_blocks(c.H, 1)
        self.down = nn.Conv2d(c.H, c.H, 2, stride=2)
        self.after = depth_conv_blocks(c.H, 1)
        self.head = nn.Conv2d(c.H, c.Z, 1)
        with torch.no_grad():
            self.head.weight *= 4.0  # z starts with a spread of about one step, not all zero

    def forward(self, y_steps: Tensor) -> Tensor:
        y_steps = torch.asinh(y_steps)
        f = self.before(self.stem(torch.cat([y_steps, y_steps.abs()], 1)))
        return self.head(self.after(self.down(f))).to(self.head.weight.dtype)


class HyperMean(nn.Module):
    """h_m: z_hat [B, Z, h/2, w/2] -> features for the means [B, H, h, w]."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.stem = nn.Conv2d(c.Z, c.H, 1)
        self.blocks = depth_conv_blocks(c.H, 1)
        self.up = nn.Conv2d(c.H, 4 * c.H, 1)
        self.gain = nn.Parameter(torch.ones(N_QUALITIES, c.H))

    def forward(self, z_hat: Tensor, q: Tensor) -> Tensor:
        return pixel_shuffle(self.up(self.blocks(self.stem(z_hat))), 2) * at_quality(self.gain, q)


class HyperScale(nn.Module):
    """h_s: z_hat [B, Z, h/2, w/2] -> table indexes, less an offset for the quality [B, M, h, w]."""

    def __init__(self, c: Sizes) -> None:
        super().__init__()
        self.hidden = LinearPath(c.Z, c.S, 3, padding=1)
        self.head = zero_(LinearPath(c.S, 4 * c.M, 1))

    def forward(self, z_hat: Tensor) -> Tensor:
        return pixel_shuffle(self.head(torch.relu(self.hidden(z_hat))), 2)


class ContextStep(nn.Module):
    """One step of the context: y_hat so far and hyper features -> means [B, M, h, w]."""

    def __init__(self, c: Sizes, first: bool) -> None:
        super().__init__()
        self.first = first
        if not first:
            self.neighbours = LinearPath(c.M, c.M, 5, padding=2, groups=c.M)
            self.stem = nn.Conv2d(c.M, c.H, 1)
            self.linear = zero_(LinearPath(c.M, c.M, 5, padding=2, groups=c.M))
        self.blocks = depth_conv_blocks(c.H, 1)
        self.head = zero_(nn.Conv2d(c.H, c.M, 1))

    def forward(
        self, y_hat: Tensor, features: Tensor, see: Callable[[Tensor], Tensor] = lambda f: f
    ) -> Tensor:
        """Return means; `see` is what else is made of the features [B, H, h, w]."""
        if self.first:  # nothing decoded yet: y_hat is zero
            return self.head(see(self.blocks(features))).to(self.head.weight.dtype)
        f = features + self.stem(self.neighbours(y_hat))
        return self.linear(y_hat) + self.head(see(self.blocks(f)))


def step_masks(steps: int, channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return which latents each context step decodes, [steps, channels, height, width], bool.

    Channel c takes the four positions of each 2x2 cell in the order (0,0), (1,1), (0,1), (1,0),
    started c mod 4 places later, in equal shares: with four steps (the quadtree partition of DCVC-DC)
    every step sees every position of the cell in some channel, with two it is a checkerboard.
    """
    order = torch.tensor([[0, 2], [3, 1]], device=device)
    row = torch.arange(height, device=device) % 2
    column = torch.arange(width, device=device) % 2
    phase = order[row[:, None], column[None, :]]
    step = (phase[:, :, None] + torch.arange(channels, device=device)) % 4 * steps // 4
    return torch.stack([step == k for k in range(steps)]).permute(0, 3, 1, 2)  # channels last
