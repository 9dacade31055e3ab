"""Blocks of frequency-aware transformers (FTIC, https://arxiv.org/abs/2310.16387): FAT blocks, attention over channels.

    FatBlock           x --+-- norm -- attention in windows of four shapes --+-- norm -- FFN -- modulation --+-- x
                           +-------------------------------------------------+-------------------------------+
    ChannelAttention   x --+-- norm -- attention over channels --+-- norm -- FFN --+-- x
                           +-------------------------------------+-----------------+

Heads have HEAD channels. A quarter of them attend within 4x4 places, a quarter within 16x16, 4x16 and 16x4: small windows
see high frequencies, large ones low, oblong ones those of one direction. Every second block moves its windows by half.
Windows at the borders are smaller: no place is made up. What both begin with is the identity.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad, scaled_dot_product_attention

from ncodec.nn import HEAD
from ncodec.nn.blocks import zero_
from ncodec.nn.transformer import LEAST, SLOPE
from ncodec.nn.windows import CHANNEL_WINDOW, MODULATED, Window, bias_sizes, windows_of

ABSENT = -1e4  # score of a place that there is not


def norm(x: Tensor) -> Tensor:
    """Return x [B, C, h, w], each place over its root mean square."""
    return x * torch.rsqrt(x.float().square().mean(1, keepdim=True) + LEAST)


def cosines(side: int) -> Tensor:
    """Return the orthonormal DCT-II [side, side], a row a frequency."""
    f, t = torch.arange(side)[:, None], torch.arange(side)
    basis = (math.pi * (2 * t + 1) * f / (2 * side)).cos() * math.sqrt(2 / side)
    return torch.where(f == 0, math.sqrt(1 / side), basis)


def _in_windows(x: Tensor, window: Window, heads: int) -> Tensor:
    """Return [B · windows, heads, places, channels of a head] of x [B, h, w, C], 0 where there is no place."""
    a, b, dy, dx = window
    height, width = x.shape[1] + dy, x.shape[2] + dx
    x = pad(x, (0, 0, dx, -width % b, dy, -height % a))
    batch, height, width, channels = x.shape
    x = x.view(batch, height // a, a, width // b, b, heads, channels // heads)
    return x.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, heads, a * b, channels // heads)


def _of_windows(x: Tensor, window: Window, like: Tensor) -> Tensor:
    """Return [B, h, w, C] of what `_in_windows` gave; h and w are those of `like`."""
    a, b, dy, dx = window
    batch, height, width = like.shape[:3]
    rows, columns = -(-(height + dy) // a), -(-(width + dx) // b)
    x = x.view(batch, rows, columns, x.shape[1], a, b, -1).permute(0, 1, 4, 2, 5, 3, 6)
    return x.reshape(batch, rows * a, columns * b, -1)[:, dy : dy + height, dx : dx + width]


class WindowAttention(nn.Module):
    """Frequency-decomposition window attention [B, N, h, w] -> [B, N, h, w], with a bias of relative positions."""

    def __init__(self, width: int, is_moved: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.o = zero_(nn.Conv2d(width, width, 1))
        self.windows = windows_of(width // HEAD, is_moved)
        # Of the heads, one after the other: a row of (2a-1)(2b-1) differences of places, in units of the softmax.
        self.bias = nn.Parameter(torch.zeros(sum(bias_sizes(self.windows))))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).permute(0, 2, 3, 1) for layer in (self.q, self.k, self.v))
        biases, parts, head = torch.split(self.bias, bias_sizes(self.windows)), [], 0
        for window in dict.fromkeys(self.windows):
            heads = self.windows.count(window)
            own = slice(head * HEAD, (head + heads) * HEAD)
            table = torch.stack(biases[head : head + heads])
            here, keys, values = (_in_windows(t[..., own], window, heads) for t in (q, k, v))
            mask = self._mask(window, table, x).to(here.dtype)
            parts.append(
                _of_windows(scaled_dot_product_attention(here, keys, values, mask), window, q)
            )
            head += heads
        return self.o(torch.cat(parts, -1).permute(0, 3, 1, 2))

    @staticmethod
    def _mask(window: Window, table: Tensor, x: Tensor) -> Tensor:
        """Return what is added to scores, [B · windows or 1, heads, places, places]."""
        a, b, dy, dx = window
        place = torch.arange(a * b, device=x.device)
        i, j = place // b, place % b
        difference = (i[None] - i[:, None] + a - 1) * (2 * b - 1) + j[None] - j[:, None] + b - 1
        bias = table[:, difference][None]
        height, width = x.shape[2:]
        if not (dy or dx or height % a or width % b):
            return bias
        there = torch.ones(1, height, width, 1, device=x.device)
        absent = (_in_windows(there, window, 1) - 1) * -ABSENT  # [windows, 1, places, 1]
        return (bias + absent.mT).repeat(len(x), 1, 1, 1)


class FrequencyModulation(nn.Module):
    """x plus blocks of it, MODULATED x MODULATED places, whose frequencies are weighted; of a channel and frequency each a weight.

    The paper weights x's own frequencies with what starts at 1; here is what is more than 1, so integers lose nothing at 0.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.zeros(MODULATED, MODULATED, width)
        )  # vertical, horizontal frequency
        self.register_buffer("basis", cosines(MODULATED), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        y, basis = x, self.basis.to(x.dtype)
        if height % MODULATED or width % MODULATED:
            y = pad(x, (0, -width % MODULATED, 0, -height % MODULATED), "replicate")
        y = y.permute(0, 2, 3, 1)  # [B, h, w, C]
        batch, rows, columns, channels = y.shape
        y = y.reshape(
            batch, rows // MODULATED, MODULATED, columns // MODULATED, MODULATED, channels
        )
        y = torch.einsum("ft,brtcuk->brfcuk", basis, torch.einsum("gu,brtcuk->brtcgk", basis, y))
        y = y * self.weight[:, None].to(x.dtype)
        y = torch.einsum("ft,brfcuk->brtcuk", basis, torch.einsum("gu,brtcgk->brtcuk", basis, y))
        y = y.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)
        return x + y[:, :, :height, :width]


class FatBlock(nn.Module):
    """Frequency-aware transformer block [B, N, h, w] -> [B, N, h, w], N a multiple of 4 HEAD; starts as the identity."""

    def __init__(self, width: int, is_moved: bool) -> None:
        super().__init__()
        self.attention = WindowAttention(width, is_moved)
        self.up = nn.Conv2d(width, 2 * width, 1)
        self.down = zero_(nn.Conv2d(2 * width, width, 1))
        self.modulation = FrequencyModulation(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(norm(x))
        return x + self.modulation(self.down(leaky_relu(self.up(norm(x)), SLOPE)))


def fat_blocks(width: int, count: int) -> nn.Sequential:
    """Return `count` blocks in a row, the windows of every second moved."""
    return nn.Sequential(*[FatBlock(width, is_moved=k % 2 == 1) for k in range(count)])


def _fold(x: Tensor, heads: int) -> Tensor:
    """Return [B · windows, heads, channels of a head, places] of x [B, C, h, w]; 0 where there is no place."""
    k = CHANNEL_WINDOW
    x = pad(x, (0, -x.shape[3] % k, 0, -x.shape[2] % k))
    batch, channels, height, width = x.shape
    x = x.reshape(batch, heads, channels // heads, height // k, k, width // k, k)
    return x.permute(0, 3, 5, 1, 2, 4, 6).reshape(-1, heads, channels // heads, k * k)


def _unfold(x: Tensor, like: Tensor) -> Tensor:
    """Return [B, C, h, w] of what `_fold` gave; h and w are those of `like`."""
    k, (height, width) = CHANNEL_WINDOW, like.shape[2:]
    rows, columns = -(-height // k), -(-width // k)
    x = x.reshape(len(like), rows, columns, *x.shape[1:3], k, k)
    x = x.permute(0, 3, 4, 1, 5, 2, 6).reshape(len(like), -1, rows * k, columns * k)
    return x[:, :, :height, :width]


Kept = list[tuple[Tensor, Tensor]]  # keys and values of slices decoded before


class ChannelAttention(nn.Module):
    """A slice's part of a layer of T-CA: its channels attend to theirs and to those of slices before, by places of a window."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.o = zero_(nn.Conv2d(width, width, 1))
        self.up = nn.Conv2d(width, 2 * width, 1)
        self.down = zero_(nn.Conv2d(2 * width, width, 1))
        self.heads = width // HEAD

    def forward(self, x: Tensor, kept: Kept) -> Tensor:
        """Return x [B, H, h, w]; keys and values are added to `kept`."""
        seen = norm(x)
        kept.append((_fold(self.k(seen), self.heads), _fold(self.v(seen), self.heads)))
        keys, values = (torch.cat(part, 2) for part in zip(*kept, strict=True))
        out = scaled_dot_product_attention(_fold(self.q(seen), self.heads), keys, values)
        x = x + self.o(_unfold(out, x).contiguous(memory_format=torch.channels_last))
        return x + self.down(leaky_relu(self.up(norm(x)), SLOPE))


def channel_attention(width: int, layers: int) -> nn.ModuleList:
    """Return a slice's layers."""
    return nn.ModuleList(ChannelAttention(width) for _ in range(layers))
