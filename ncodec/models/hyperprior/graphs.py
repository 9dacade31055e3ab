"""The networks of family `hyperprior` as exact integer graphs (specs/hyperprior.md, specs/exact.md). No torch.

    x --analysis--> y, z                        indexes, r --coder--> bytes
    y, z --closing--> indexes, r                  the encoder's loop: its own means, from its own decoded values
    z --indexing--> indexes                     rows of the tables of r
    z, r --synthesis--> pixels                  means and y_hat by the same steps as in `closing`

Tensors are [h, w, channels], int16. Vectors depend on the quality alone (`vectors`).
"""

from collections.abc import Callable

import numpy as np

from ncodec.exact.network import LOG_BITS, Array, Network, Tensors, at_quality, gain_at, power
from ncodec.models.hyperprior.layers import (
    GAINS,
    INDEX_BITS,
    STEPS_BITS,
    Z_MAX,
    Z_STRIDE,
    HyperpriorConfig,
)
from ncodec.models.trunk import analyse, synthesise
from ncodec.nn import N_SCALES


def _indexes(net: Network, c: HyperpriorConfig, z: int, like: int) -> int:
    """Return table rows [h, w, M] of z [h/2, w/2, Z]."""
    g = net.graph
    hidden = g.leaky(net.conv(g.patches(z), "h_s.hidden"), 0)
    index = g.crop(g.shuffle(net.conv(hidden, "h_s.head"), Z_STRIDE), like)
    index = g.offset(index, net.vector("index_offset", c.M))
    return g.clamp(g.shift(index, INDEX_BITS), 0, N_SCALES - 1)


See = Callable[[Network, int, int], int]


def nothing_else(net: Network, f: int, step: int) -> int:
    """Return f: what more a step of the context makes of its features [h, w, H], in families that go on from here."""
    return f


def y_hat_of(
    net: Network,
    c: HyperpriorConfig,
    z: int,
    like: int,
    residual: Callable[[int, int], int],
    see: See = nothing_else,
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
        f = see(net, net.blocks(f, f"{name}.blocks", 1), step)
        mean = net.conv(f, f"{name}.head")
        if step:
            mean = g.add(mean, net.depthwise(y_hat, f"{name}.linear"))
        y = g.add(mean, net.scaled(residual(step, mean), "unit", c.M))
        before = y_hat if step else g.clamp(y, 0, 0)
        y_hat = g.merge(before, y, step, c.context_steps)
    return y_hat


def analysis(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """x [H, W, 3], twice the 8-bit values less 255 -> y [h, w, M], z [h/2, w/2, Z]."""
    net = Network(tensors)
    y = analyse(net, c)
    net.outputs = {"y": y, "z": z_of(net, c, y)}
    return net


def z_of(net: Network, c: HyperpriorConfig, y: int) -> int:
    """Return z [h/2, w/2, Z] of y [h, w, M]."""
    g = net.graph
    steps = g.pad(net.scaled(y, "steps", c.M), Z_STRIDE)
    a = g.table(steps, net.tensors["h_a.asinh"], "h_a.asinh")
    f = g.add(net.conv(a, "h_a.stem"), net.conv(g.leaky(a, 0), "h_a.stem_positive"))
    f = net.conv(g.unshuffle(net.blocks(f, "h_a.before", 1), Z_STRIDE), "h_a.down")
    return g.clamp(net.conv(net.blocks(f, "h_a.after", 1), "h_a.head"), -Z_MAX, Z_MAX)


def indexing(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """z [h/2, w/2, Z], grid [h, w, 1] (any values) -> indexes [h, w, M]."""
    net = Network(tensors)
    z, grid = net.input("z", c.Z, Z_MAX), net.input("grid", 1)
    net.outputs = {"indexes": _indexes(net, c, z, grid)}
    return net


def closing(
    tensors: Tensors, c: HyperpriorConfig, skip_below: int, see: See = nothing_else
) -> Network:
    """y [h, w, M], z [h/2, w/2, Z] -> indexes and r [h, w, M]: residuals of means from what is decoded so far."""
    net = Network(tensors)
    g = net.graph
    y, z = net.input("y", c.M), net.input("z", c.Z, Z_MAX)
    indexes = _indexes(net, c, z, y)
    parts: list[int] = []

    def residual(step: int, mean: int) -> int:
        parts.append(g.gate(net.scaled(g.subtract(y, mean), "gain", c.M), indexes, skip_below))
        return parts[-1]

    y_hat = y_hat_of(net, c, z, y, residual, see)
    r = parts[0]
    for step in range(1, c.context_steps):
        r = g.merge(r, parts[step], step, c.context_steps)
    net.outputs = {"indexes": indexes, "r": r, "y_hat": y_hat}
    return net


def synthesis(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """z [h/2, w/2, Z], r [h, w, M] -> pixels [16 h, 16 w, 3]: 0 … 255, and "unrounded" in 1/64 of them."""
    net = Network(tensors)
    z, r = net.input("z", c.Z, Z_MAX), net.input("r", c.M)
    y_hat = y_hat_of(net, c, z, r, lambda step, mean: r)
    net.outputs = {"y_hat": y_hat, **synthesise(net, c, y_hat)}
    return net


def vectors(tensors: Tensors, quality_code: int) -> dict[str, Array]:
    """Return what the networks know of the quality."""
    found = {"index_offset": at_quality(tensors["index_offset"], quality_code).astype(np.int16)}
    for name, _, _ in GAINS:
        found |= gain_at(tensors, name, quality_code)
    gain = at_quality(tensors["log_gain"], quality_code)
    for name, logarithm in (
        ("gain", gain),
        ("steps", gain + (STEPS_BITS << LOG_BITS)),
        ("unit", at_quality(tensors["log_unit"], quality_code)),
    ):
        found[f"{name}.factor"], found[f"{name}.shift"] = power(logarithm)
    return found
