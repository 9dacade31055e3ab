"""The networks of family `ftic` as exact integer graphs (specs/ftic.md, specs/exact.md). No torch.

    x --analysis--> y, z
    z --knowing--> features, base                    what z tells of means and of table rows
    features, base, y_hat so far, keys and values so far --slicing--> mean, indexes, keys, values      of slice 0 … 3
    y, mean, indexes --closing--> r                  the encoder's residuals
    y_hat so far, mean, r --opening--> y_hat         with those of the slice
    y_hat --synthesis--> pixels

Tensors are [h, w, channels], int16; of a slice all channels and places are computed, and those of the step of `merge`
(specs/exact.md, X18) count. Vectors depend on the quality alone (`hyper_vectors`).
"""

import numpy as np

from ncodec.exact.network import LEAKY_SLOPE, Network, Tensors
from ncodec.models.ftic.layers import (
    EXPONENT_BITS,
    NORM_BITS,
    SCORE_MAX,
    STEPS,
    Fat,
    FticConfig,
    deep_fat_of,
    fat_of,
)
from ncodec.models.hyper import (
    Z_MAX,
    context_features,
    context_mean,
    features_of,
    hyper_analysis,
    rounded_rows,
    unrounded_rows,
)
from ncodec.models.trunk import analysis_stem, pixels_of
from ncodec.nn import HEAD, STRIDE
from ncodec.nn.windows import CHANNEL_WINDOW, windows_of


def _score(net: Network, seen: int, name: str) -> int:
    return net.graph.clamp(net.conv(seen, name), -SCORE_MAX, SCORE_MAX)


def _shift(net: Network, name: str) -> int:
    return int(net.tensors[f"{name}.score_bits"]) - EXPONENT_BITS


def _forward(net: Network, x: int, name: str) -> int:
    """Return down(leaky(up(norm(x))))."""
    g = net.graph
    up = net.conv(g.norm(x, NORM_BITS), f"{name}.up")
    return net.conv(g.leaky(up, LEAKY_SLOPE), f"{name}.down")


def _fat(net: Network, x: int, fat: Fat) -> int:
    """Return x after a FAT block."""
    g, name = net.graph, f"{fat.name}.attention"
    seen = g.norm(x, NORM_BITS)
    q, k, v = (
        _score(net, seen, f"{name}.q"),
        _score(net, seen, f"{name}.k"),
        net.conv(seen, f"{name}.v"),
    )
    windows = np.array(windows_of(fat.width // HEAD, fat.is_moved), np.int32)
    seen = g.window_attention(
        q, k, v, windows, net.tensors[f"{name}.bias"], _shift(net, name), name
    )
    x = g.add(x, net.conv(seen, f"{name}.o"))
    name = f"{fat.name}.modulation"
    weight, bits = net.tensors[f"{name}.weight"], int(net.tensors[f"{name}.bits"])
    return g.add(x, g.modulate(_forward(net, x, fat.name), weight, bits, name))


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
    net.outputs = {"y": y, "z": hyper_analysis(net, c, y)}
    return net


def knowing(tensors: Tensors, c: FticConfig) -> Network:
    """z [h/2, w/2, Z], grid [h, w, 1] (any values) -> features [h, w, H], base [h, w, M]."""
    net = Network(tensors)
    z, grid = net.input("z", c.Z, Z_MAX), net.input("grid", 1)
    net.outputs = {
        "features": features_of(net, c, z, grid),
        "base": unrounded_rows(net, c, z, grid),
    }
    return net


def slicing(tensors: Tensors, c: FticConfig, step: int) -> Network:
    """features [h, w, H], base and y_hat [h, w, M], keys.k, values.k [windows, …, H · 64 / HEAD] -> mean, indexes [h, w, M]; and these.

    The first slice knows of no y_hat, keys and values.
    """
    net = Network(tensors)
    g, heads = net.graph, c.H // HEAD
    features, base = net.input("features", c.H), net.input("base", c.M)
    y_hat = net.input("y_hat", c.M) if step else -1
    f = context_features(net, features, y_hat, step)
    for k in range(c.layers):
        name = f"context.{step}.channels.{k}"
        seen = g.norm(f, NORM_BITS)
        q, keys = (
            g.fold(_score(net, seen, f"{name}.{part}"), CHANNEL_WINDOW, heads) for part in "qk"
        )
        values = g.fold(net.conv(seen, f"{name}.v"), CHANNEL_WINDOW, heads)
        if step:
            area = heads * CHANNEL_WINDOW**2
            keys = g.join(net.input(f"keys.{k}", area, SCORE_MAX), keys)
            values = g.join(net.input(f"values.{k}", area), values)
        if step + 1 < STEPS:
            net.outputs |= {f"keys.{k}": keys, f"values.{k}": values}
        seen = g.unfold(
            g.attention(q, keys, values, heads, _shift(net, name)), f, CHANNEL_WINDOW, heads
        )
        f = g.add(f, net.conv(seen, f"{name}.o"))
        f = g.add(f, _forward(net, f, name))
    rows = g.add(base, net.conv(f, f"context.{step}.rows"))
    net.outputs |= {"mean": context_mean(net, f, y_hat, step), "indexes": rounded_rows(net, rows)}
    return net


def closing(tensors: Tensors, c: FticConfig, skip_below: int) -> Network:
    """y, mean, indexes [h, w, M] -> r: residuals in latent steps."""
    net = Network(tensors)
    g = net.graph
    y, mean, indexes = (net.input(name, c.M) for name in ("y", "mean", "indexes"))
    net.outputs = {"r": g.gate(net.scaled(g.subtract(y, mean), "gain", c.M), indexes, skip_below)}
    return net


def opening(tensors: Tensors, c: FticConfig, step: int) -> Network:
    """mean, r, y_hat so far (of the first slice: of nothing) [h, w, M] -> y_hat."""
    net = Network(tensors)
    g = net.graph
    mean, r = net.input("mean", c.M), net.input("r", c.M)
    y = g.add(mean, net.scaled(r, "unit", c.M))
    before = net.input("y_hat", c.M) if step else g.clamp(y, 0, 0)
    net.outputs = {"y_hat": g.merge(before, y, step, STEPS)}
    return net


def synthesis(tensors: Tensors, c: FticConfig) -> Network:
    """y_hat [h, w, M] -> pixels [16 h, 16 w, 3]: 0 … 255, and "unrounded" in 1/64 of them."""
    net = Network(tensors)
    g = net.graph
    y_hat = net.input("y_hat", c.M)
    f = g.add(net.conv(y_hat, "g_s.stem"), _deep(net, y_hat, "g_s", c))
    f = net.scaled(g.shuffle(f, 2), "g_s.gain", c.N)
    net.outputs = pixels_of(net, y_hat, _interleaved(net, f, "g_s", c, c.synthesis_blocks))
    return net
