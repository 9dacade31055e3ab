"""The tensors of a hyperprior's weights file: layers, their shapes, what their integers stand for. No torch.

A tensor's values are its integers times 2**-bits. A layer's `source` and `result` name tensors; the weights file's
"fraction_bits" has the bits of each, which only training needs: the integers run without.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncodec.entropy.neighbours import GRID_MAX, N_EIGHTHS, N_NEIGHBOURS, N_WIDTHS
from ncodec.errors import InputError
from ncodec.nn import N_SCALES
from ncodec.quality import N_QUALITIES

STRIDE = 16  # pixels per latent of y
BLOCK_DIMENSION = 3 * STRIDE**2  # of the linear path's blocks
Z_STRIDE = 2  # latents of y per latent of z
Z_MAX = GRID_MAX  # bound of |z|
LARGEST = 32767  # of any tensor
R_MAX = LARGEST  # bound of |r|
X_MAX = 255  # of what analysis sees: twice the 8-bit value, less 255

INDEX_BITS = 8  # of a table row
PIXEL_BITS = 6  # of an 8-bit step
STEPS_BITS = 5  # of a latent step, in what h_a sees
ASINH_BITS = 12  # asinh of 1024 steps is 7.6
X_BITS = 9  # x, -1/2 to 1/2, is its integers · 2**-9 · 512/510
FIXED_BITS = {
    "x": X_BITS, "z": 0, "h_s.hidden": INDEX_BITS, "index": INDEX_BITS, "pixels": PIXEL_BITS, "steps": STEPS_BITS,
    "h_a.asinh": ASINH_BITS,
}  # fmt: skip
GAINS = (  # linear in quality: of which tensor, with which result
    ("g_a.gain", "g_a.stem", "g_a.blocks"),
    ("h_m.gain", "h_m.up", "features"),
    ("g_s.gain", "g_s.stem", "g_s.blocks"),
)


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


class Layer(NamedTuple):
    """A convolution: dense, [out, in] of vectors, or depthwise, [channels, k, k]."""

    name: str
    shape: tuple[int, ...]  # of the weight
    source: str  # its input
    result: str  # what it is, or what it is added to
    unshuffled: int = 1  # the input was unshuffled by this factor
    shuffled: int = 1  # the output will be shuffled
    unit: float = 1.0  # the float layer's weights are multiplied by it,
    result_unit: float = 1.0  # and its result
    bound: int = LARGEST  # of the input


def layers(c: HyperpriorConfig) -> Iterator[Layer]:
    """Yield the layers of specs/hyperprior.md."""

    def blocks(name: str, width: int, count: int, trunk: str) -> Iterator[Layer]:
        for k in range(count):
            block = f"{name}.{k}"
            yield Layer(f"{block}.depth", (width, 3, 3), trunk, f"{block}.depth")
            yield Layer(f"{block}.expand", (2 * width, width), f"{block}.depth", f"{block}.expand")
            yield Layer(f"{block}.project", (width, 2 * width), f"{block}.expand", trunk)

    def of_x(name: str, shape: tuple[int, ...], result: str, factor: int) -> Layer:
        return Layer(name, shape, "x", result, unshuffled=factor, unit=512 / 510, bound=X_MAX)

    def to_pixels(name: str, shape: tuple[int, ...], source: str, factor: int) -> Layer:
        return Layer(name, shape, source, "pixels", shuffled=factor, result_unit=255.0)

    yield of_x("g_a.linear", (c.M, BLOCK_DIMENSION), "y", STRIDE)
    yield of_x("g_a.stem", (c.N, 192), "g_a.stem", 8)
    yield from blocks("g_a.blocks", c.N, c.analysis_blocks, "g_a.blocks")
    yield Layer("g_a.head", (c.M, 4 * c.N), "g_a.blocks", "y", unshuffled=2)
    yield Layer("h_a.stem", (c.H, c.M), "h_a.asinh", "h_a.before")
    yield Layer("h_a.stem_positive", (c.H, c.M), "h_a.asinh", "h_a.before")
    yield from blocks("h_a.before", c.H, 1, "h_a.before")
    yield Layer("h_a.down", (c.H, 4 * c.H), "h_a.before", "h_a.after")
    yield from blocks("h_a.after", c.H, 1, "h_a.after")
    yield Layer("h_a.head", (c.Z, c.H), "h_a.after", "z")
    yield Layer("h_s.hidden", (c.S, 9 * c.Z), "z", "h_s.hidden", bound=Z_MAX)
    yield Layer("h_s.head", (4 * c.M, c.S), "h_s.hidden", "index", shuffled=2)
    yield Layer("h_m.stem", (c.H, c.Z), "z", "h_m.blocks", bound=Z_MAX)
    yield from blocks("h_m.blocks", c.H, 1, "h_m.blocks")
    yield Layer("h_m.up", (4 * c.H, c.H), "h_m.blocks", "h_m.up", shuffled=2)
    for step in range(c.context_steps):
        name = f"context.{step}"
        if step:
            yield Layer(f"{name}.neighbours", (c.M, 5, 5), "y", f"{name}.neighbours")
            yield Layer(f"{name}.stem", (c.H, c.M), f"{name}.neighbours", "features")
            yield Layer(f"{name}.linear", (c.M, 5, 5), "y", "y")
        yield from blocks(f"{name}.blocks", c.H, 1, "features")
        yield Layer(f"{name}.head", (c.M, c.H), "features", "y")
    yield to_pixels("g_s.linear", (BLOCK_DIMENSION, c.M), "y", STRIDE)
    yield Layer("g_s.stem", (4 * c.N, c.M), "y", "g_s.stem", shuffled=2)
    yield from blocks("g_s.blocks", c.N, c.synthesis_blocks, "g_s.blocks")
    yield to_pixels("g_s.head", (192, c.N), "g_s.blocks", 8)


def check_tensors(tensors: Mapping[str, NDArray[Any]], c: HyperpriorConfig) -> None:
    """Raise ValueError unless the tensors are those of specs/hyperprior.md, H3."""
    known: dict[str, tuple[type, tuple[int | None, ...]]] = {  # None: any length
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
    for name, width in zip((gain for gain, _, _ in GAINS), (c.N, c.H, c.N), strict=True):
        known |= {name: (np.int16, (N_QUALITIES, width)), f"{name}_shift": (np.uint8, ())}
    for layer in layers(c):
        known |= {
            f"{layer.name}.weight": (np.int16, layer.shape),
            f"{layer.name}.bias": (np.int32, layer.shape[:1]),
            f"{layer.name}.shift": (np.uint8, layer.shape[:1]),
        }
    if strange := sorted(tensors.keys() ^ known.keys()):
        raise ValueError(f"{strange[0]}: {'unknown' if strange[0] in tensors else 'missing'}")
    for name, (kind, shape) in known.items():
        found = tensors[name]
        if found.dtype != kind:
            raise ValueError(f"{name}: expected {np.dtype(kind)}, found {found.dtype}")
        sides = zip(shape, found.shape, strict=False)
        if found.ndim != len(shape) or any(side not in (None, n) for side, n in sides):
            raise ValueError(f"{name}: expected {list(shape)}, found {list(found.shape)}")
        if kind is np.int16 and found.min(initial=0) < -LARGEST:
            raise ValueError(f"{name}: expected at least {-LARGEST}, found {found.min()}")
    for name, _, _ in GAINS:
        if tensors[f"{name}_shift"] > 30:
            raise ValueError(f"{name}_shift: expected at most 30, found {tensors[f'{name}_shift']}")


def checked_bits(found: Any, c: HyperpriorConfig) -> dict[str, int]:
    """Return "fraction_bits" of a weights file; ValueError unless it names the tensors of `layers`, and no others."""
    names = {name for layer in layers(c) for name in (layer.source, layer.result)}
    if not isinstance(found, dict) or found.keys() != names:
        raise ValueError("fraction_bits: expected those of the layers' inputs and results")
    for name, bits in found.items():
        if type(bits) is not int or abs(bits) > 32:
            raise ValueError(f"fraction_bits, {name}: expected -32 to 32, found {bits!r}")
    return found
