"""The networks of family `masked` as exact integer graphs (specs/masked.md, specs/exact.md). No torch.

    x --analysis--> y                                             y_hat --synthesis--> pixels
    content, y_hat --surroundings--> near, linear, energy         of a tile [h, w, C]: what is decoded around each latent

    near --asking, with keys and values--> f                      of windows [windows, places, C]: latents to decode,
    f, linear, energy, y_hat of the slices before --head--> mean, index     a slice of channels at a time
    y, mean, index --closing--> r         mean, r --opening--> y_hat
    y_hat, near --telling, with keys and values--> content, keys, values                   and those just decoded

With passes="mt" `passing` is both asking and telling: all places of a window, and no keys or values are kept.
Vectors depend on the quality alone (`vectors`).
"""

from functools import partial

import numpy as np

from ncodec.exact.network import (
    EXPONENT_BITS,
    LEAKY_SLOPE,
    LOG_BITS,
    Array,
    Network,
    Tensors,
    at_quality,
    gain_at,
    power,
)
from ncodec.models.masked.layers import (
    FINE_BITS,
    INDEX_BITS,
    NORM_BITS,
    SCORE_MAX,
    STEPS_BITS,
    MaskedConfig,
)
from ncodec.models.trunk import GAINS, analyse, synthesise
from ncodec.nn import HEAD, N_SCALES


def analysis(tensors: Tensors, c: MaskedConfig) -> Network:
    """x [H, W, 3], twice the 8-bit values less 255 -> y [h, w, M]."""
    net = Network(tensors)
    net.outputs = {"y": analyse(net, c)}
    return net


def synthesis(tensors: Tensors, c: MaskedConfig) -> Network:
    """y_hat [h, w, M] -> pixels [16 h, 16 w, 3]: 0 … 255, and "unrounded" in 1/64 of them."""
    net = Network(tensors)
    net.outputs = synthesise(net, c, net.input("y_hat", c.M))
    return net


def _steps(net: Network, y_hat: int, channels: int) -> tuple[int, int]:
    """Return asinh of the first channels of y_hat in latent steps, and its positive part."""
    g = net.graph
    fine = g.table(net.scaled(y_hat, f"fine.{channels}", channels), net.tensors["asinh"], "asinh")
    steps = net.scaled(y_hat, f"steps.{channels}", channels)
    a = g.add(fine, g.table(steps, net.tensors["asinh_beyond"], "asinh_beyond"))
    return a, g.leaky(a, 0)


def surroundings(tensors: Tensors, c: MaskedConfig, step: int) -> Network:
    """content [h, w, D], y_hat [h, w, M], 0 where not decoded -> near [h, w, D], linear and energy [h, w, M]."""
    net = Network(tensors)
    g = net.graph
    content, y_hat = net.input("content", c.D), net.input("y_hat", c.M)
    a, positive = _steps(net, y_hat, c.M)
    magnitude = g.subtract(positive, g.subtract(a, positive))
    net.outputs = {
        "near": net.depthwise(content, f"near.{step}"),
        "linear": net.depthwise(y_hat, f"linear.{step}"),
        "energy": net.depthwise(magnitude, f"energy.{step}"),
    }
    return net


def _both(net: Network, y_hat: int, channels: int, name: str) -> int:
    """Return a layer of asinh and its magnitude."""
    a, positive = _steps(net, y_hat, channels)
    return net.graph.add(net.conv(a, name), net.conv(positive, f"{name}_positive"))


def _attention(net: Network, c: MaskedConfig, k: int, q: int, keys: int, values: int) -> int:
    shift = int(net.tensors["score_bits"][k]) - EXPONENT_BITS
    return net.graph.attention(q, keys, values, c.D // HEAD, shift)


def asking(tensors: Tensors, c: MaskedConfig) -> Network:
    """near and places [W, n, D]; keys.k, values.k [W, t, D] of every layer -> f [W, n, D]."""
    net = Network(tensors)
    g = net.graph
    x = g.add(net.input("near", c.D), net.input("places", c.D))
    x = g.offset(x, net.vector("mode", c.D))

    def attend(k: int, seen: int) -> int:
        kept = (net.input(f"keys.{k}", c.D, SCORE_MAX), net.input(f"values.{k}", c.D))
        return _attention(net, c, k, net.score(seen, f"layers.{k}.q", SCORE_MAX), *kept)

    for k in range(c.layers):
        x = net.transformer_layer(x, f"layers.{k}", NORM_BITS, partial(attend, k))
    net.outputs = {"f": g.norm(x, NORM_BITS)}
    return net


def telling(tensors: Tensors, c: MaskedConfig, is_first: bool) -> Network:
    """near and places [W, n, D], y_hat [W, n, M]; keys.k, values.k so far -> content, and keys.k, values.k with these.

    The first is the null token: places [1, 1, D] alone, and nothing to attend to but itself.
    """
    net = Network(tensors)
    g = net.graph
    x = g.offset(net.input("places", c.D), net.vector("mode", c.D))
    if not is_first:
        content = _both(net, net.input("y_hat", c.M), c.M, "content")
        x = g.add(g.add(x, net.input("near", c.D)), content)
        net.outputs["content"] = content

    def attend(k: int, seen: int) -> int:
        name = f"layers.{k}"
        keys, values = net.score(seen, f"{name}.k", SCORE_MAX), net.conv(seen, f"{name}.v")
        if not is_first:
            keys = g.join(net.input(f"keys.{k}", c.D, SCORE_MAX), keys)
            values = g.join(net.input(f"values.{k}", c.D), values)
        net.outputs |= {f"keys.{k}": keys, f"values.{k}": values}
        return _attention(net, c, k, net.score(seen, f"{name}.q", SCORE_MAX), keys, values)

    for k in range(c.layers):
        x = net.transformer_layer(x, f"layers.{k}", NORM_BITS, partial(attend, k))
    return net


def passing(tensors: Tensors, c: MaskedConfig) -> Network:
    """near, places and content [W, PLACES, D], content 0 where not decoded -> f [W, PLACES, D]."""
    net = Network(tensors)
    g = net.graph
    x = g.add(net.input("near", c.D), net.input("places", c.D))
    x = g.add(g.offset(x, net.vector("mode", c.D)), net.input("content", c.D))

    def attend(k: int, seen: int) -> int:
        q, keys = (net.score(seen, f"layers.{k}.{part}", SCORE_MAX) for part in "qk")
        return _attention(net, c, k, q, keys, net.conv(seen, f"layers.{k}.v"))

    for k in range(c.layers):
        x = net.transformer_layer(x, f"layers.{k}", NORM_BITS, partial(attend, k))
    net.outputs = {"f": g.norm(x, NORM_BITS)}
    return net


def content(tensors: Tensors, c: MaskedConfig) -> Network:
    """y_hat [W, n, M] -> content [W, n, D]: all that `passing` needs of what was decoded."""
    net = Network(tensors)
    net.outputs = {"content": _both(net, net.input("y_hat", c.M), c.M, "content")}
    return net


def head(tensors: Tensors, c: MaskedConfig, a: int) -> Network:
    """f [W, n, D], linear and energy [W, n, slice], y_hat of the slices before -> mean, index [W, n, slice]."""
    net = Network(tensors)
    g, name = net.graph, f"heads.{a}"
    before, channels = c.slice(a).start, c.slices[a]
    energy = net.input("energy", channels)
    hidden = net.conv(net.input("f", c.D), f"{name}.f")
    hidden = g.add(hidden, net.conv(energy, f"{name}.around"))
    if before:
        hidden = g.add(hidden, _both(net, net.input("y_hat", before), before, f"{name}.own"))
    hidden = g.leaky(hidden, LEAKY_SLOPE)
    mean = net.scaled(net.conv(hidden, f"{name}.mean"), f"mean.{a}", channels)
    index = g.add(net.conv(hidden, f"{name}.index"), energy)
    index = g.offset(index, net.vector(f"index_offset.{a}", channels))
    net.outputs = {
        "mean": g.add(mean, net.input("linear", channels)),
        "index": g.clamp(g.shift(index, INDEX_BITS), 0, N_SCALES - 1),
    }
    return net


def closing(tensors: Tensors, c: MaskedConfig, a: int, skip_below: int) -> Network:
    """y, mean, index [W, n, slice] -> r: the encoder's residuals in latent steps."""
    net = Network(tensors)
    g, channels = net.graph, c.slices[a]
    y, mean, index = (net.input(name, channels) for name in ("y", "mean", "index"))
    r = net.scaled(g.subtract(y, mean), f"gain.{a}", channels)
    net.outputs = {"r": g.gate(r, index, skip_below)}
    return net


def opening(tensors: Tensors, c: MaskedConfig, a: int) -> Network:
    """mean, r [W, n, slice] -> y_hat."""
    net = Network(tensors)
    channels = c.slices[a]
    mean, r = net.input("mean", channels), net.input("r", channels)
    net.outputs = {"y_hat": net.graph.add(mean, net.scaled(r, f"unit.{a}", channels))}
    return net


def vectors(tensors: Tensors, c: MaskedConfig, quality_code: int) -> dict[str, Array]:
    """Return what the networks know of the quality."""
    found = {"mode": at_quality(tensors["mode"], quality_code).astype(np.int16)}
    for name, _, _ in GAINS:
        found |= gain_at(tensors, name, quality_code)
    gain = at_quality(tensors["log_gain"], quality_code)
    offset = at_quality(tensors["index_offset"], quality_code).astype(np.int16)
    steps = {
        "fine": power(gain + (FINE_BITS << LOG_BITS)),
        "steps": power(gain + (STEPS_BITS << LOG_BITS)),
    }
    powers = {
        "gain": power(gain),
        "unit": power(at_quality(tensors["log_unit"], quality_code)),
        "mean": power(at_quality(tensors["log_mean"], quality_code)),
    }
    for a in range(len(c.slices)):
        channels = c.slice(a)
        found[f"index_offset.{a}"] = offset[channels]
        for name, (factor, shift) in powers.items():
            found[f"{name}.{a}.factor"], found[f"{name}.{a}.shift"] = (
                factor[channels],
                shift[channels],
            )
    for n in {c.M, *(c.slice(a).start for a in range(1, len(c.slices)))}:
        for name, (factor, shift) in steps.items():
            found[f"{name}.{n}.factor"], found[f"{name}.{n}.shift"] = factor[:n], shift[:n]
    return found
