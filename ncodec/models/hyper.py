"""The hyperprior and the context of families hyperprior and ftic, as integers. No torch.

    y --h_a--> z --[grid of neighbours]--> bytes        z --h_s--> table indexes, not rounded
                                                        z --h_m--> features --context's steps--> means

Layers, graphs and what else their weights files hold (specs/hyperprior.md, H3 to H8).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncodec.entropy import FrequencyTables
from ncodec.entropy.neighbours import (
    GRID_MAX,
    N_EIGHTHS,
    N_NEIGHBOURS,
    N_WIDTHS,
    NAMES,
    NeighbourCoder,
)
from ncodec.errors import CorruptPayloadError, InputError, needing
from ncodec.exact.network import (
    LARGEST,
    LOG_BITS,
    PIXEL_BITS,
    X_BITS,
    Array,
    Known,
    Layer,
    Network,
    Tensors,
    at_quality,
    block_layers,
    gain_at,
    in_colour,
    known_of_gains,
    power,
)
from ncodec.models.trunk import GAINS as TRUNK_GAINS
from ncodec.models.trunk import Trunk
from ncodec.nn import N_SCALES, STRIDE
from ncodec.quality import N_QUALITIES

Z_STRIDE = 2  # latents of y per latent of z
Z_MAX = GRID_MAX  # bound of |z|
R_MAX = LARGEST  # bound of |r|

INDEX_BITS = 8  # of a table row
STEPS_BITS = 5  # of a latent step, in what h_a sees
ASINH_BITS = 12  # asinh of 1024 steps is 7.6
FIXED_BITS = {
    "x": X_BITS, "z": 0, "h_s.hidden": INDEX_BITS, "index": INDEX_BITS, "pixels": PIXEL_BITS, "steps": STEPS_BITS,
    "h_a.asinh": ASINH_BITS,
}  # fmt: skip
GAINS = (*TRUNK_GAINS, ("h_m.gain", "h_m.up", "features"))


class Sizes(Trunk, Protocol):
    """Sizes of the networks."""

    @property
    def Z(self) -> int:
        """Channels of z at 1/32."""
        ...

    @property
    def H(self) -> int:
        """Width of the hyper and context networks."""
        ...

    @property
    def S(self) -> int:
        """Width of the network of table indexes."""
        ...

    @property
    def B(self) -> int:
        """Width of the network that knows z's neighbours."""
        ...


def hyper_layers(c: Sizes) -> Iterator[Layer]:
    """Yield the layers of h_a, h_s and h_m."""
    yield Layer("h_a.stem", (c.H, c.M), "h_a.asinh", "h_a.before")
    yield Layer("h_a.stem_positive", (c.H, c.M), "h_a.asinh", "h_a.before")
    yield from block_layers("h_a.before", c.H, 1, "h_a.before")
    yield Layer("h_a.down", (c.H, 4 * c.H), "h_a.before", "h_a.after")
    yield from block_layers("h_a.after", c.H, 1, "h_a.after")
    yield Layer("h_a.head", (c.Z, c.H), "h_a.after", "z")
    yield Layer("h_s.hidden", (c.S, 9 * c.Z), "z", "h_s.hidden", bound=Z_MAX)
    yield Layer("h_s.head", (4 * c.M, c.S), "h_s.hidden", "index", shuffled=2)
    yield Layer("h_m.stem", (c.H, c.Z), "z", "h_m.blocks", bound=Z_MAX)
    yield from block_layers("h_m.blocks", c.H, 1, "h_m.blocks")
    yield Layer("h_m.up", (4 * c.H, c.H), "h_m.blocks", "h_m.up", shuffled=2)


def context_layers(c: Sizes, step: int) -> Iterator[Layer]:
    """Yield the layers of a step of the context."""
    name = f"context.{step}"
    if step:
        yield Layer(f"{name}.neighbours", (c.M, 5, 5), "y", f"{name}.neighbours")
        yield Layer(f"{name}.stem", (c.H, c.M), f"{name}.neighbours", "features")
        yield Layer(f"{name}.linear", (c.M, 5, 5), "y", "y")
    yield from block_layers(f"{name}.blocks", c.H, 1, "features")
    yield Layer(f"{name}.head", (c.M, c.H), "features", "y")


def known_of_hyper(c: Sizes) -> Known:
    """Return the tensors of a weights file that are of no layer."""
    known: Known = {
        "log_gain": (np.int32, (N_QUALITIES, c.M)),
        "log_unit": (np.int32, (N_QUALITIES, c.M)),
        "index_offset": (np.int16, (N_QUALITIES, c.M)),
        "h_a.asinh": (np.int16, (1 << 16,)),
        "tables.r": (np.uint16, (N_SCALES, None)),
        "tables.z": (np.uint16, (N_EIGHTHS * N_WIDTHS, None)),
        "tables.z_alone": (np.uint16, (N_QUALITIES * c.Z, None)),  # of training
        "neighbours.offset": (np.int16, (N_QUALITIES, 2 * c.Z)),
        "neighbours.hidden.weight": (np.int16, (c.B, N_NEIGHBOURS * c.Z)),
        "neighbours.hidden.bias": (np.int32, (c.B,)),
        "neighbours.head.weight": (np.int16, (2 * c.Z, c.B)),
        "neighbours.own.weight": (np.int16, (N_NEIGHBOURS, c.Z)),
        "neighbours.shifts": (np.int32, (3,)),
    }
    return known | known_of_gains({"g_a.gain": c.N, "g_s.gain": c.N, "h_m.gain": c.H})


def hyper_analysis(net: Network, c: Sizes, y: int) -> int:
    """Return z [h/2, w/2, Z] of y [h, w, M]."""
    g = net.graph
    steps = g.pad(net.scaled(y, "steps", c.M), Z_STRIDE)
    a = g.table(steps, net.tensors["h_a.asinh"], "h_a.asinh")
    f = g.add(net.conv(a, "h_a.stem"), net.conv(g.leaky(a, 0), "h_a.stem_positive"))
    f = net.conv(g.unshuffle(net.blocks(f, "h_a.before", 1), Z_STRIDE), "h_a.down")
    return g.clamp(net.conv(net.blocks(f, "h_a.after", 1), "h_a.head"), -Z_MAX, Z_MAX)


def unrounded_rows(net: Network, c: Sizes, z: int, like: int) -> int:
    """Return table rows [h, w, M] of z [h/2, w/2, Z], in units of 2**-INDEX_BITS."""
    g = net.graph
    hidden = g.leaky(net.conv(g.patches(z), "h_s.hidden"), 0)
    index = g.crop(g.shuffle(net.conv(hidden, "h_s.head"), Z_STRIDE), like)
    return g.offset(index, net.vector("index_offset", c.M))


def rounded_rows(net: Network, index: int) -> int:
    """Return the rows themselves."""
    return net.graph.clamp(net.graph.shift(index, INDEX_BITS), 0, N_SCALES - 1)


def features_of(net: Network, c: Sizes, z: int, like: int) -> int:
    """Return what the context knows of z: [h, w, H]."""
    g = net.graph
    f = net.blocks(net.conv(z, "h_m.stem"), "h_m.blocks", 1)
    f = g.crop(g.shuffle(net.conv(f, "h_m.up"), Z_STRIDE), like)
    return net.scaled(f, "h_m.gain", c.H)


def context_features(net: Network, features: int, y_hat: int, step: int) -> int:
    """Return what a step of the context makes of y_hat so far (of the first step: of nothing), [h, w, H]."""
    name, f = f"context.{step}", features
    if step:
        around = net.depthwise(y_hat, f"{name}.neighbours")
        f = net.graph.add(f, net.conv(around, f"{name}.stem"))
    return net.blocks(f, f"{name}.blocks", 1)


def context_mean(net: Network, f: int, y_hat: int, step: int) -> int:
    """Return the means of y [h, w, M] that a step of the context knows."""
    mean = net.conv(f, f"context.{step}.head")
    if step:
        mean = net.graph.add(mean, net.depthwise(y_hat, f"context.{step}.linear"))
    return mean


def hyper_vectors(tensors: Tensors, quality_code: int) -> dict[str, Array]:
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


REFINEMENTS = {1: 0, 2: 5, 3: 20}  # steps of anneal.py, by effort
USUAL_EFFORT = 1


def refined(
    floats: Callable[[], Any],
    y_bits: int | None,
    effort: int,
    pixels: NDArray[np.uint8],
    quality_code: int,
    latents: tuple[Array, Array, Array],
    tables: FrequencyTables,
    skip_below: int,
) -> NDArray[np.int16]:
    """Return y [h, w, M] of an image [H, W, 3] or [H, W] after gradient descent, for an effort above 1.

    Args:
        floats: makes the float network of these integers, an `anneal.Refinable`.
        y_bits: fraction bits of y; None: the weights file does not tell.
        effort: of REFINEMENTS.
        pixels, quality_code: what to encode.
        latents: y, z and indexes at effort 1.
        tables, skip_below: of residuals.

    Raises:
        InputError: torch or `y_bits` are missing.
    """
    if y_bits is None:
        raise InputError(f"effort {effort}: the weights file has no fraction_bits")
    with needing(f"effort {effort}", "torch"):
        from ncodec.models import anneal
    y, z, indexes = latents
    unit = np.float32(2.0**y_bits)  # an int16 divided by it is float32
    padding = [(0, -side % STRIDE) for side in pixels.shape[:2]]
    padded = np.pad(in_colour(pixels), [*padding, (0, 0)], "edge")
    steps = REFINEMENTS[effort]
    found = anneal.refine(
        floats(),
        padded,
        quality_code,
        np.divide(y, unit, dtype=np.float32),
        z,
        indexes,
        tables,
        skip_below,
        steps,
    )
    return np.rint(np.nan_to_num(found * unit)).clip(-LARGEST, LARGEST).astype(np.int16)


def asinh_table() -> NDArray[np.int16]:
    """Return what a weights file has of asinh, by steps in units of 2**-STEPS_BITS."""
    steps = np.arange(-LARGEST - 1, LARGEST + 1) / 2**STEPS_BITS
    table = np.rint(np.arcsinh(steps) * 2**ASINH_BITS).astype(np.int16)
    table[0] = table[1]  # of -32768, which does not occur
    return table


def neighbour_coder(tensors: Mapping[str, Array]) -> NeighbourCoder:
    """Return what codes z."""
    own = {name: tensors[f"neighbours.{name}"] for name in NAMES}
    return NeighbourCoder(own, FrequencyTables(tensors["tables.z"]))


def z_offset(tensors: Mapping[str, Array], quality_code: int) -> NDArray[np.int16]:
    """Return what the quality adds to means and widths of z."""
    return at_quality(tensors["neighbours.offset"], quality_code).astype(np.int16)


def z_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of z, of those of y."""
    height, width = size
    return -(-height // Z_STRIDE), -(-width // Z_STRIDE)


def check_r(largest: int) -> None:
    """Raise CorruptPayloadError unless the largest |r| of a section is one that the networks take."""
    if largest > R_MAX:
        raise CorruptPayloadError(f"section 'y': expected |r| <= {R_MAX}, found {largest}")


def checked_skip(about: Mapping[str, Any]) -> int:
    """Return "skip_below" of a weights file; ValueError unless it is a number of rows."""
    skip_below = about["skip_below"]
    if type(skip_below) is not int or not 0 <= skip_below <= N_SCALES:
        raise ValueError(f"skip_below: expected 0 to {N_SCALES}, found {skip_below!r}")
    return skip_below
