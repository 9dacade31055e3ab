"""The networks of family `ftic` as exact integer graphs (specs/ftic.md, specs/exact.md). No torch.

    x --analysis--> y, z                        indexes, r --coder--> bytes
    y, z --closing--> indexes, r                  the encoder's loop: its own means, from its own decoded values
    z --indexing--> indexes                     rows of the tables of r: hyperprior's
    z, r --synthesis--> pixels                  means and y_hat by the same slices as in `closing`

Those of hyperprior (models/hyperprior/graphs.py), with FAT blocks between residual blocks and on a branch at 1/16, and with
T-CA in the steps of its context. Vectors depend on the quality alone (`vectors`).
"""

from functools import partial

import numpy as np

from ncodec.exact.network import EXPONENT_BITS, Network, Tensors
from ncodec.models.ftic.layers import (
    NORM_BITS,
    SCORE_MAX,
    Fat,
    FticConfig,
    deep_fat_of,
    fat_of,
)
from ncodec.models.hyperprior import graphs as hyperprior
from ncodec.models.hyperprior.graphs import See, indexing, vectors, y_hat_of, z_of
from ncodec.models.hyperprior.layers import Z_MAX
from ncodec.models.trunk import analysis_stem, pixels_of
from ncodec.nn import HEAD, STRIDE
from ncodec.nn.windows import CHANNEL_WINDOW, windows_of

__all__ = ["analysis", "closing", "indexing", "synthesis", "vectors"]


def _shift(net: Network, name: str) -> int:
    return int(net.tensors[f"{name}.score_bits"]) - EXPONENT_BITS


def _parts(net: Network, seen: int, name: str) -> tuple[int, int, int]:
    """Return q, k and v of an attention."""
    q, k = (net.score(seen, f"{name}.{part}", SCORE_MAX) for part in "qk")
    return q, k, net.conv(seen, f"{name}.v")


def _fat(net: Network, x: int, fat: Fat) -> int:
    """Return x after a FAT block."""
    g, name = net.graph, f"{fat.name}.attention"
    q, k, v = _parts(net, g.norm(x, NORM_BITS), name)
    windows = np.array(windows_of(fat.width // HEAD, fat.is_moved), np.int32)
    seen = g.window_attention(
        q, k, v, windows, net.tensors[f"{name}.bias"], _shift(net, name), name
    )
    x = g.add(x, net.conv(seen, f"{name}.o"))
    name = f"{fat.name}.modulation"
    weight, bits = net.tensors[f"{name}.weight"], int(net.tensors[f"{name}.bits"])
    return g.add(x, g.modulate(net.feed_forward(x, fat.name, NORM_BITS), weight, bits, name))


def _interleaved(net: Network, f: int, side: str, c: FticConfig, blocks: int) -> int:
    """Return f after residual blocks, a FAT block after each equal share of them."""
    share = -(-blocks // c.fat)
    for k, fat in enumerate(fat_of(c, side)):
        f = net.blocks(f, f"{side}.blocks", min((k + 1) * share, blocks), first=k * share)
        f = _fat(net, f, fat)
    return f


def _deep(net: Network, f: int, side: str, c: FticConfig) -> int:
    """Return what the branch at 1/16 adds."""
    f = net.conv(f, f"{side}.deep.stem")
    for fat in deep_fat_of(c, side):
        f = _fat(net, f, fat)
    return net.conv(f, f"{side}.deep.head")


def analysis(tensors: Tensors, c: FticConfig) -> Network:
    """x [H, W, 3], twice the 8-bit values less 255 -> y [h, w, M], z [h/2, w/2, Z]."""
    net = Network(tensors)
    g = net.graph
    x, f = analysis_stem(net, c)
    f = g.unshuffle(_interleaved(net, f, "g_a", c, c.analysis_blocks), 2)  # [h, w, 4N]
    y = g.add(net.conv(g.unshuffle(x, STRIDE), "g_a.linear"), net.conv(f, "g_a.head"))
    y = g.add(y, _deep(net, f, "g_a", c))
    net.outputs = {"y": y, "z": z_of(net, c, y)}
    return net


def _channels(c: FticConfig) -> See:
    """Return what T-CA makes of the features of slices, which come in turn."""
    kept: list[tuple[int, int]] = []  # keys and values of each layer, of the slices before

    def see(net: Network, f: int, step: int) -> int:
        g, heads = net.graph, c.H // HEAD

        def attend(k: int, name: str, seen: int) -> int:
            parts = _parts(net, seen, name)
            q, keys, values = (g.fold(part, CHANNEL_WINDOW, heads) for part in parts)
            if step:
                keys, values = g.join(kept[k][0], keys), g.join(kept[k][1], values)
            kept[k : k + 1] = [(keys, values)]
            found = g.attention(q, keys, values, heads, _shift(net, name))
            return g.unfold(found, seen, CHANNEL_WINDOW, heads)

        for k in range(c.layers):
            name = f"context.{step}.channels.{k}"
            f = net.transformer_layer(f, name, NORM_BITS, partial(attend, k, name))
        return f

    return see


def closing(tensors: Tensors, c: FticConfig, skip_below: int) -> Network:
    """y [h, w, M], z [h/2, w/2, Z] -> indexes and r [h, w, M]: residuals of means from what is decoded so far."""
    return hyperprior.closing(tensors, c, skip_below, _channels(c))


def synthesis(tensors: Tensors, c: FticConfig) -> Network:
    """z [h/2, w/2, Z], r [h, w, M] -> pixels [16 h, 16 w, 3]: 0 … 255, and "unrounded" in 1/64 of them."""
    net = Network(tensors)
    g = net.graph
    z, r = net.input("z", c.Z, Z_MAX), net.input("r", c.M)
    y_hat = y_hat_of(net, c, z, r, lambda step, mean: r, _channels(c))
    f = g.add(net.conv(y_hat, "g_s.stem"), _deep(net, y_hat, "g_s", c))
    f = net.scaled(g.shuffle(f, 2), "g_s.gain", c.N)
    f = _interleaved(net, f, "g_s", c, c.synthesis_blocks)
    net.outputs = {"y_hat": y_hat, **pixels_of(net, y_hat, f)}
    return net
