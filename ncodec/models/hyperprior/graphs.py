"""The networks of family `hyperprior` as exact integer graphs (specs/hyperprior.md, specs/exact.md). No torch.

    x --analysis--> y, z                        indexes, r --coder--> bytes
    y, z --closing--> indexes, r                  the encoder's loop: its own means, from its own decoded values
    z --indexing--> indexes                     rows of the tables of r
    z, r --synthesis--> pixels                  means and y_hat by the same steps as in `closing`

Tensors are [h, w, channels], int16. Vectors depend on the quality alone (`vectors`).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ncodec.exact.network import PIXEL_BITS, X_MAX, Array, Network, Tensors, at_quality, gain_at
from ncodec.models.hyperprior.layers import (
    INDEX_BITS,
    STEPS_BITS,
    STRIDE,
    Z_MAX,
    Z_STRIDE,
    HyperpriorConfig,
)
from ncodec.nn import N_SCALES

LOG_BITS = 12  # fraction of an octave
# Mantissas of 2**(k / 4096), k = 0 … 4095: none is within 7e-5 of a half, so any float64 gives these.
EXP2 = np.rint(2.0 ** (14 + np.arange(1 << LOG_BITS) / (1 << LOG_BITS))).astype(np.int16)


def _indexes(net: Network, c: HyperpriorConfig, z: int, like: int) -> int:
    """Return table rows [h, w, M] of z [h/2, w/2, Z]."""
    g = net.graph
    hidden = g.leaky(net.conv(g.patches(z), "h_s.hidden"), 0)
    index = g.crop(g.shuffle(net.conv(hidden, "h_s.head"), Z_STRIDE), like)
    index = g.offset(index, net.vector("index_offset", c.M))
    return g.clamp(g.shift(index, INDEX_BITS), 0, N_SCALES - 1)


def _y_hat(
    net: Network, c: HyperpriorConfig, z: int, like: int, residual: Callable[[int, int], int]
) -> int:
    """Return y_hat [h, w, M] of z, in the context's steps; `residual(step, mean)` is r in latent steps."""
    g = net.graph
    features = net.blocks(net.conv(z, "h_m.stem"), "h_m.blocks", 1)
    features = g.crop(g.shuffle(net.conv(features, "h_m.up"), Z_STRIDE), like)
    features = net.scaled(features, "h_m.gain", c.H)
    y_hat = -1
    for step in range(c.context_steps):
        name = f"context.{step}"
        f = features
        if step:
            f = g.add(f, net.conv(net.depthwise(y_hat, f"{name}.neighbours"), f"{name}.stem"))
        mean = net.conv(net.blocks(f, f"{name}.blocks", 1), f"{name}.head")
        if step:
            mean = g.add(mean, net.depthwise(y_hat, f"{name}.linear"))
        y = g.add(mean, net.scaled(residual(step, mean), "unit", c.M))
        before = y_hat if step else g.clamp(y, 0, 0)
        y_hat = g.merge(before, y, step, c.context_steps)
    return y_hat


def analysis(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """x [H, W, 3], twice the 8-bit values less 255 -> y [h, w, M], z [h/2, w/2, Z]."""
    net = Network(tensors)
    g = net.graph
    x = g.pad(net.input("x", 3, X_MAX), STRIDE)
    f = net.scaled(net.conv(g.unshuffle(x, 8), "g_a.stem"), "g_a.gain", c.N)
    f = net.blocks(f, "g_a.blocks", c.analysis_blocks)  # [2h, 2w, N]
    y = g.add(
        net.conv(g.unshuffle(x, STRIDE), "g_a.linear"), net.conv(g.unshuffle(f, 2), "g_a.head")
    )
    steps = g.pad(net.scaled(y, "steps", c.M), Z_STRIDE)
    a = g.table(steps, tensors["h_a.asinh"], "h_a.asinh")
    f = g.add(net.conv(a, "h_a.stem"), net.conv(g.leaky(a, 0), "h_a.stem_positive"))
    f = net.conv(g.unshuffle(net.blocks(f, "h_a.before", 1), Z_STRIDE), "h_a.down")
    z = g.clamp(net.conv(net.blocks(f, "h_a.after", 1), "h_a.head"), -Z_MAX, Z_MAX)
    net.outputs = {"y": y, "z": z}
    return net


def indexing(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """z [h/2, w/2, Z], grid [h, w, 1] (any values) -> indexes [h, w, M]."""
    net = Network(tensors)
    z, grid = net.input("z", c.Z, Z_MAX), net.input("grid", 1)
    net.outputs = {"indexes": _indexes(net, c, z, grid)}
    return net


def closing(tensors: Tensors, c: HyperpriorConfig, skip_below: int) -> Network:
    """y [h, w, M], z [h/2, w/2, Z] -> indexes and r [h, w, M]: residuals of means from what is decoded so far."""
    net = Network(tensors)
    g = net.graph
    y, z = net.input("y", c.M), net.input("z", c.Z, Z_MAX)
    indexes = _indexes(net, c, z, y)
    parts: list[int] = []

    def residual(step: int, mean: int) -> int:
        parts.append(g.gate(net.scaled(g.subtract(y, mean), "gain", c.M), indexes, skip_below))
        return parts[-1]

    y_hat = _y_hat(net, c, z, y, residual)
    r = parts[0]
    for step in range(1, c.context_steps):
        r = g.merge(r, parts[step], step, c.context_steps)
    net.outputs = {"indexes": indexes, "r": r, "y_hat": y_hat}
    return net


def synthesis(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """z [h/2, w/2, Z], r [h, w, M] -> pixels [16 h, 16 w, 3]: 0 … 255, and "unrounded" in 1/64 of them."""
    net = Network(tensors)
    g = net.graph
    z, r = net.input("z", c.Z, Z_MAX), net.input("r", c.M)
    y_hat = _y_hat(net, c, z, r, lambda step, mean: r)
    f = net.scaled(g.shuffle(net.conv(y_hat, "g_s.stem"), 2), "g_s.gain", c.N)
    f = net.conv(net.blocks(f, "g_s.blocks", c.synthesis_blocks), "g_s.head")  # [2h, 2w, 192]
    x_hat = g.add(g.shuffle(net.conv(y_hat, "g_s.linear"), STRIDE), g.shuffle(f, 8))
    x_hat = g.clamp(x_hat, 0, 255 << PIXEL_BITS)
    net.outputs = {"y_hat": y_hat, "unrounded": x_hat, "pixels": g.shift(x_hat, PIXEL_BITS)}
    return net


def _power(logarithm: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return 2**(logarithm / 4096) as mantissas, 2**14 … 2**15, and shifts 0 … 30; what is beyond, as near as these can."""
    mantissa = EXP2[logarithm & ((1 << LOG_BITS) - 1)]
    shift = 14 - (logarithm >> LOG_BITS)
    mantissa = mantissa >> np.clip(shift - 30, 0, 15).astype(np.int16)
    return mantissa, np.clip(shift, 0, 30).astype(np.int16)


def vectors(tensors: Tensors, quality_code: int) -> dict[str, Array]:
    """Return what the networks know of the quality."""
    found = {"index_offset": at_quality(tensors["index_offset"], quality_code).astype(np.int16)}
    for name in ("g_a.gain", "h_m.gain", "g_s.gain"):
        found |= gain_at(tensors, name, quality_code)
    gain = at_quality(tensors["log_gain"], quality_code)
    for name, logarithm in (
        ("gain", gain),
        ("steps", gain + (STEPS_BITS << LOG_BITS)),
        ("unit", at_quality(tensors["log_unit"], quality_code)),
    ):
        found[f"{name}.factor"], found[f"{name}.shift"] = _power(logarithm)
    return found
