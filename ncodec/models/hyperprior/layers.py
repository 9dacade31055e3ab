"""The tensors of a hyperprior's weights file: layers, their shapes, what their integers stand for. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from ncodec.entropy.neighbours import GRID_MAX, N_EIGHTHS, N_NEIGHBOURS, N_WIDTHS
from ncodec.errors import InputError
from ncodec.exact.network import (
    LARGEST,
    PIXEL_BITS,
    X_BITS,
    Known,
    Layer,
    Tensors,
    block_layers,
    check_tensors,
    known_of,
    known_of_gains,
)
from ncodec.models.trunk import GAINS as TRUNK_GAINS
from ncodec.models.trunk import analysis_layers, synthesis_layers
from ncodec.nn import BLOCK_DIMENSION, N_SCALES
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


@dataclass(frozen=True)
class HyperpriorConfig:
    """Sizes of one model. The defaults are `hyperprior-s`.

    Raises:
        InputError: there is no such model.
    """

    N: int = 128  # width of the trunk at 1/8
    M: int = 320  # channels of y at 1/16
    Z: int = 64  # channels of z at 1/32
    H: int = 160  # width of the hyper and context networks
    S: int = 128  # width of the network of table indexes
    B: int = 64  # width of the network that knows z's neighbours
    analysis_blocks: int = 6
    synthesis_blocks: int = 10
    context_steps: int = 4  # or 2

    def __post_init__(self) -> None:
        for size in (field.name for field in fields(self)):
            value = getattr(self, size)
            most = 256 if size.endswith("_blocks") else 1024
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{size}: expected 1 to {most}, found {value!r}")
        for name, holds, expected in (
            ("M", self.M <= BLOCK_DIMENSION, f"at most {BLOCK_DIMENSION}, the dimension of a 16x16 RGB block"),
            ("context_steps", self.context_steps in (2, 4), "2 or 4"),
        ):  # fmt: skip
            if not holds:
                raise InputError(f"{name}: expected {expected}, found {getattr(self, name)!r}")


def layers(c: HyperpriorConfig) -> Iterator[Layer]:
    """Yield the layers of specs/hyperprior.md."""
    yield from analysis_layers(c)
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
    for step in range(c.context_steps):
        name = f"context.{step}"
        if step:
            yield Layer(f"{name}.neighbours", (c.M, 5, 5), "y", f"{name}.neighbours")
            yield Layer(f"{name}.stem", (c.H, c.M), f"{name}.neighbours", "features")
            yield Layer(f"{name}.linear", (c.M, 5, 5), "y", "y")
        yield from block_layers(f"{name}.blocks", c.H, 1, "features")
        yield Layer(f"{name}.head", (c.M, c.H), "features", "y")
    yield from synthesis_layers(c)


def known_tensors(c: HyperpriorConfig) -> Known:
    """Return the tensors of specs/hyperprior.md, H3."""
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
    gains = {"g_a.gain": c.N, "g_s.gain": c.N, "h_m.gain": c.H}
    return known | known_of_gains(gains) | known_of(layers(c))


def check_hyperprior(tensors: Tensors, c: HyperpriorConfig) -> None:
    """Raise ValueError unless the tensors are those of `known_tensors`."""
    check_tensors(tensors, known_tensors(c))
