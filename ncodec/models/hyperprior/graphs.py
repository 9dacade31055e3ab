"""The networks of family `hyperprior` as exact integer graphs (specs/hyperprior.md, specs/exact.md). No torch.

    x --analysis--> y, z                        indexes, r --coder--> bytes
    y, z --closing--> indexes, r                  the encoder's loop: its own means, from its own decoded values
    z --indexing--> indexes                     rows of the tables of r
    z, r --synthesis--> pixels                  means and y_hat by the same steps as in `closing`

Tensors are [h, w, channels], int16. Vectors depend on the quality alone (`hyper_vectors`).
"""

from collections.abc import Callable

from ncodec.exact.network import Network, Tensors
from ncodec.models.hyper import (
    Z_MAX,
    context_features,
    context_mean,
    features_of,
    hyper_analysis,
    rounded_rows,
    unrounded_rows,
)
from ncodec.models.hyperprior.layers import HyperpriorConfig
from ncodec.models.trunk import analyse, synthesise

See = Callable[[Network, int, int], int]  # what else a step makes of its features [h, w, H]


def nothing_else(net: Network, f: int, step: int) -> int:
    """Return f."""
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
    features = features_of(net, c, z, like)
    y_hat = -1
    for step in range(c.context_steps):
        f = see(net, context_features(net, features, y_hat, step), step)
        mean = context_mean(net, f, y_hat, step)
        y = g.add(mean, net.scaled(residual(step, mean), "unit", c.M))
        before = y_hat if step else g.clamp(y, 0, 0)
        y_hat = g.merge(before, y, step, c.context_steps)
    return y_hat


def analysis(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """x [H, W, 3], twice the 8-bit values less 255 -> y [h, w, M], z [h/2, w/2, Z]."""
    net = Network(tensors)
    y = analyse(net, c)
    z = hyper_analysis(net, c, y)
    net.outputs = {"y": y, "z": z}
    return net


def indexing(tensors: Tensors, c: HyperpriorConfig) -> Network:
    """z [h/2, w/2, Z], grid [h, w, 1] (any values) -> indexes [h, w, M]."""
    net = Network(tensors)
    z, grid = net.input("z", c.Z, Z_MAX), net.input("grid", 1)
    net.outputs = {"indexes": rounded_rows(net, unrounded_rows(net, c, z, grid))}
    return net


def closing(
    tensors: Tensors, c: HyperpriorConfig, skip_below: int, see: See = nothing_else
) -> Network:
    """y [h, w, M], z [h/2, w/2, Z] -> indexes and r [h, w, M]: residuals of means from what is decoded so far."""
    net = Network(tensors)
    g = net.graph
    y, z = net.input("y", c.M), net.input("z", c.Z, Z_MAX)
    indexes = rounded_rows(net, unrounded_rows(net, c, z, y))
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
