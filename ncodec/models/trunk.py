"""The transform that families hyperprior and masked share, as integers: pixels <-> latents. No torch.

    x --g_a--> y [h, w, M]         y_hat --g_s--> pixels [16 h, 16 w, 3]

A linear 16x16 block transform and, beside it, residual blocks at 1/8 (specs/hyperprior.md, H4 and H9).
"""

from collections.abc import Iterator
from typing import Protocol

from ncodec.exact.network import (
    PIXEL_BITS,
    X_MAX,
    Layer,
    Network,
    block_layers,
    layer_of_x,
    layer_to_pixels,
)
from ncodec.nn import BLOCK_DIMENSION, STRIDE

GAINS = (  # linear in quality: of which tensor, with which result
    ("g_a.gain", "g_a.stem", "g_a.blocks"),
    ("g_s.gain", "g_s.stem", "g_s.blocks"),
)


class Trunk(Protocol):
    """Sizes of the transform."""

    @property
    def N(self) -> int:
        """Width at 1/8."""
        ...

    @property
    def M(self) -> int:
        """Channels of y at 1/16."""
        ...

    @property
    def analysis_blocks(self) -> int: ...

    @property
    def synthesis_blocks(self) -> int: ...


def analysis_layers(c: Trunk) -> Iterator[Layer]:
    """Yield the layers of g_a."""
    yield layer_of_x("g_a.linear", (c.M, BLOCK_DIMENSION), "y", STRIDE)
    yield layer_of_x("g_a.stem", (c.N, 192), "g_a.stem", 8)
    yield from block_layers("g_a.blocks", c.N, c.analysis_blocks, "g_a.blocks")
    yield Layer("g_a.head", (c.M, 4 * c.N), "g_a.blocks", "y", unshuffled=2)


def synthesis_layers(c: Trunk) -> Iterator[Layer]:
    """Yield the layers of g_s."""
    yield layer_to_pixels("g_s.linear", (BLOCK_DIMENSION, c.M), "y", STRIDE)
    yield Layer("g_s.stem", (4 * c.N, c.M), "y", "g_s.stem", shuffled=2)
    yield from block_layers("g_s.blocks", c.N, c.synthesis_blocks, "g_s.blocks")
    yield layer_to_pixels("g_s.head", (192, c.N), "g_s.blocks", 8)


def analysis_stem(net: Network, c: Trunk) -> tuple[int, int]:
    """Return the input "x" [H, W, 3], twice the 8-bit values less 255, padded, and what blocks begin with, [2h, 2w, N]."""
    g = net.graph
    x = g.pad(net.input("x", 3, X_MAX), STRIDE)
    return x, net.scaled(net.conv(g.unshuffle(x, 8), "g_a.stem"), "g_a.gain", c.N)


def analyse(net: Network, c: Trunk) -> int:
    """Return y [h, w, M] of the input "x"."""
    g = net.graph
    x, f = analysis_stem(net, c)
    f = net.blocks(f, "g_a.blocks", c.analysis_blocks)  # [2h, 2w, N]
    return g.add(
        net.conv(g.unshuffle(x, STRIDE), "g_a.linear"), net.conv(g.unshuffle(f, 2), "g_a.head")
    )


def synthesise(net: Network, c: Trunk, y_hat: int) -> dict[str, int]:
    """Return what `pixels_of` does, of y_hat alone."""
    g = net.graph
    f = net.scaled(g.shuffle(net.conv(y_hat, "g_s.stem"), 2), "g_s.gain", c.N)
    return pixels_of(net, y_hat, net.blocks(f, "g_s.blocks", c.synthesis_blocks))


def pixels_of(net: Network, y_hat: int, f: int) -> dict[str, int]:
    """Return "pixels" [16 h, 16 w, 3], 0 … 255, and "unrounded", in 1/64 of these, of y_hat and f [2h, 2w, N]."""
    g = net.graph
    f = net.conv(f, "g_s.head")  # [2h, 2w, 192]
    x_hat = g.add(g.shuffle(net.conv(y_hat, "g_s.linear"), STRIDE), g.shuffle(f, 8))
    x_hat = g.clamp(x_hat, 0, 255 << PIXEL_BITS)
    return {"unrounded": x_hat, "pixels": g.shift(x_hat, PIXEL_BITS)}
