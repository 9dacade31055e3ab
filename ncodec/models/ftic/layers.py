"""The tensors of weights of family ftic: layers, their shapes, what their integers stand for. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ncodec.errors import InputError
from ncodec.exact.network import (
    EXPONENT_BITS,
    MOST_SCORE_BITS,
    Known,
    Layer,
    Tensors,
    check_tensors,
    known_of,
    octaves,
)
from ncodec.models.hyperprior.layers import FIXED_BITS as HYPERPRIOR_BITS
from ncodec.models.hyperprior.layers import HyperpriorConfig, known_tensors
from ncodec.models.hyperprior.layers import layers as hyperprior_layers
from ncodec.nn import HEAD
from ncodec.nn.windows import CHANNEL_WINDOW, MODULATED, WINDOWS, bias_sizes, windows_of

NORM_BITS = 11  # of what a layer sees: the root of HEAD · 8 channels is 16
SCORE_MAX = 4095  # q and k are clamped to it
BITS = {"score_bits": (EXPONENT_BITS, MOST_SCORE_BITS), "modulation.bits": (0, 15)}  # X23, X27
MOST_BIAS = 1 << 29  # of a score
OCTAVES = octaves(HEAD)  # of a score q·k,
CHANNEL_OCTAVES = octaves(CHANNEL_WINDOW**2)  # and of one over the places of a window
FIXED_BITS = HYPERPRIOR_BITS | {"norm": NORM_BITS}


@dataclass(frozen=True)
class FticConfig(HyperpriorConfig):
    """Sizes of one model: those of hyperprior, and these. The defaults are `ftic-s`.

    Raises:
        InputError: there is no such model.
    """

    D: int = 128  # width of the branches at 1/16
    fat: int = 2  # FAT blocks at 1/8, on either side
    deep_fat: int = 2  # and at 1/16
    layers: int = 2  # of T-CA, in each step of the context

    def __post_init__(self) -> None:
        super().__post_init__()
        quarters = HEAD * len(WINDOWS)
        for name, holds, expected in (
            *((name, getattr(self, name) % quarters == 0, f"a multiple of {quarters}") for name in "ND"),
            ("H", self.H % HEAD == 0, f"a multiple of {HEAD}"),
            ("fat", self.fat <= min(self.analysis_blocks, self.synthesis_blocks), "at most as many as residual blocks"),
        ):  # fmt: skip
            if not holds:
                raise InputError(f"{name}: expected {expected}, found {getattr(self, name)!r}")


def attention_layers(name: str, width: int, unit: float, stream: str) -> Iterator[Layer]:
    """Yield q, k, v and o; `unit`: octaves of a score."""
    yield Layer(f"{name}.q", (width, width), "norm", f"{name}.q", result_unit=unit)
    yield Layer(f"{name}.k", (width, width), "norm", f"{name}.k")
    yield Layer(f"{name}.v", (width, width), "norm", f"{name}.v")
    yield Layer(f"{name}.o", (width, width), f"{name}.v", stream)


def forward_layers(name: str, width: int, stream: str) -> Iterator[Layer]:
    """Yield the feed-forward network."""
    yield Layer(f"{name}.up", (2 * width, width), "norm", f"{name}.up")
    yield Layer(f"{name}.down", (width, 2 * width), f"{name}.up", stream)


class Fat(NamedTuple):
    """A FAT block: its name, its width, the tensor that it is added to, and whether its windows are moved."""

    name: str
    width: int
    stream: str
    is_moved: bool


def fat_of(c: FticConfig, side: str) -> list[Fat]:
    """Return the FAT blocks at 1/8 of g_a or g_s."""
    return [Fat(f"{side}.fat.{k}", c.N, f"{side}.blocks", k % 2 == 1) for k in range(c.fat)]


def deep_fat_of(c: FticConfig, side: str) -> list[Fat]:
    """Return the FAT blocks at 1/16 of g_a or g_s."""
    return [Fat(f"{side}.deep.fat.{k}", c.D, f"{side}.deep", k % 2 == 1) for k in range(c.deep_fat)]


def all_fat(c: FticConfig) -> list[Fat]:
    """Return every FAT block."""
    return [fat for side in ("g_a", "g_s") for fat in fat_of(c, side) + deep_fat_of(c, side)]


def channel_layers(c: FticConfig) -> Iterator[str]:
    """Yield the names of T-CA's layers, slice by slice."""
    for step in range(c.context_steps):
        for k in range(c.layers):
            yield f"context.{step}.channels.{k}"


def layers(c: FticConfig) -> Iterator[Layer]:
    """Yield the layers of specs/ftic.md."""
    yield from hyperprior_layers(c)
    yield Layer("g_a.deep.stem", (c.D, 4 * c.N), "g_a.blocks", "g_a.deep", unshuffled=2)
    yield Layer("g_a.deep.head", (c.M, c.D), "g_a.deep", "y")
    yield Layer("g_s.deep.stem", (c.D, c.M), "y", "g_s.deep")
    yield Layer("g_s.deep.head", (4 * c.N, c.D), "g_s.deep", "g_s.stem", shuffled=2)
    for name in channel_layers(c):
        yield from attention_layers(name, c.H, CHANNEL_OCTAVES, "features")
        yield from forward_layers(name, c.H, "features")
    for fat in all_fat(c):
        yield from attention_layers(f"{fat.name}.attention", fat.width, OCTAVES, fat.stream)
        yield from forward_layers(fat.name, fat.width, fat.stream)


def check_ftic(tensors: Tensors, c: FticConfig) -> None:
    """Raise ValueError unless the tensors are those of specs/ftic.md."""
    known: Known = {}
    for fat in all_fat(c):
        places = sum(bias_sizes(windows_of(fat.width // HEAD, fat.is_moved)))
        known |= {
            f"{fat.name}.attention.bias": (np.int32, (places,)),
            f"{fat.name}.attention.score_bits": (np.uint8, ()),
            f"{fat.name}.modulation.weight": (np.int16, (MODULATED, MODULATED, fat.width)),
            f"{fat.name}.modulation.bits": (np.uint8, ()),
        }
    for name in channel_layers(c):
        known |= {f"{name}.score_bits": (np.uint8, ())}
    check_tensors(tensors, known_tensors(c) | known | known_of(layers(c)))
    for name in known:
        for end, (least, most) in BITS.items():
            if name.endswith(end) and not least <= tensors[name] <= most:
                raise ValueError(f"{name}: expected {least} to {most}, found {tensors[name]}")
