"""Networks of layers as graphs: layers by name, tensors of a weights file, vectors by quality. No torch.

    layer "g_s.stem" --> tensors g_s.stem.weight, .bias, .shift --> conv or depthwise of an exact.Graph

A tensor's values are its integers times 2**-bits. A layer's `source` and `result` name tensors; a weights file's
"fraction_bits" has the bits of each, which only training needs: the integers run without.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncodec.exact import Graph
from ncodec.quality import N_QUALITIES, QUALITY_STEPS

Array = NDArray[Any]
Tensors = Mapping[str, Array]
Known = dict[
    str, tuple[type, tuple[int | None, ...]]
]  # tensors' types and shapes; None: any length

LARGEST = 32767  # of any tensor
LEAKY_SLOPE = 3277  # 0.1 in units of 2**-15
X_MAX = 255  # of what analysis sees: twice the 8-bit value, less 255
PIXEL_BITS = 6  # of an 8-bit step
X_BITS = 9  # x, -1/2 to 1/2, is its integers · 2**-9 · 512/510
LOG_BITS = 12  # fraction of an octave
EXPONENT_BITS = 6  # X23: an octave is so many steps of the exponential's table,
MOST_SCORE_BITS = 24 + EXPONENT_BITS  # and scores have so many fraction bits at most
# Mantissas of 2**(k / 4096), k = 0 … 4095: none is within 7e-5 of a half, so any float64 gives these.
EXP2 = np.rint(2.0 ** (14 + np.arange(1 << LOG_BITS) / (1 << LOG_BITS))).astype(np.int16)


def octaves(terms: int) -> float:
    """Return the octaves of exp(q·k / sqrt(terms)) that a score q·k of so many terms is in units of."""
    return math.log2(math.e) / math.sqrt(terms)


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


def block_layers(name: str, width: int, count: int, trunk: str, kernel: int = 3) -> Iterator[Layer]:
    """Yield the layers of residual blocks on the tensor `trunk`."""
    for k in range(count):
        block = f"{name}.{k}"
        yield Layer(f"{block}.depth", (width, kernel, kernel), trunk, f"{block}.depth")
        yield Layer(f"{block}.expand", (2 * width, width), f"{block}.depth", f"{block}.expand")
        yield Layer(f"{block}.project", (width, 2 * width), f"{block}.expand", trunk)


def layer_of_x(name: str, shape: tuple[int, ...], result: str, factor: int) -> Layer:
    """Return a layer that sees the image, unshuffled."""
    return Layer(name, shape, "x", result, unshuffled=factor, unit=512 / 510, bound=X_MAX)


def layer_to_pixels(
    name: str, shape: tuple[int, ...], source: str, factor: int, **more: Any
) -> Layer:
    """Return a layer whose result, shuffled, is added to the pixels."""
    return Layer(name, shape, source, "pixels", shuffled=factor, result_unit=255.0, **more)


def known_of(layers: Iterator[Layer]) -> Known:
    """Return the tensors of layers."""
    known: Known = {}
    for layer in layers:
        known |= {
            f"{layer.name}.weight": (np.int16, layer.shape),
            f"{layer.name}.bias": (np.int32, layer.shape[:1]),
            f"{layer.name}.shift": (np.uint8, layer.shape[:1]),
        }
    return known


def known_of_gains(widths: Mapping[str, int]) -> Known:
    """Return the tensors of gains, an entry a channel and quality."""
    known: Known = {}
    for name, width in widths.items():
        known |= {name: (np.int16, (N_QUALITIES, width)), f"{name}_shift": (np.uint8, ())}
    return known


def check_tensors(tensors: Tensors, known: Known) -> None:
    """Raise ValueError unless the tensors are those known, -32768 not among their 16-bit integers."""
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
        if name.endswith("gain_shift") and found > 30:
            raise ValueError(f"{name}: expected at most 30, found {found}")


def tensors_of(layers: Iterator[Layer]) -> set[str]:
    """Return the names of what layers see and make."""
    return {name for layer in layers for name in (layer.source, layer.result)}


def checked_bits(found: Any, layers: Iterator[Layer]) -> dict[str, int]:
    """Return "fraction_bits" of a weights file; ValueError unless it names the tensors of the layers, and no others."""
    names = tensors_of(layers)
    if not isinstance(found, dict) or found.keys() != names:
        raise ValueError("fraction_bits: expected those of the layers' inputs and results")
    for name, bits in found.items():
        if type(bits) is not int or abs(bits) > 32:
            raise ValueError(f"fraction_bits, {name}: expected -32 to 32, found {bits!r}")
    return found


@dataclass
class Network:
    """A graph under construction, and then with names for what goes in and comes out."""

    tensors: Tensors
    graph: Graph = field(default_factory=Graph)
    inputs: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)

    def input(self, name: str, channels: int, bound: int = LARGEST) -> int:
        self.inputs[name] = self.graph.input(name, channels, bound)
        return self.inputs[name]

    def vector(self, name: str, channels: int) -> int:
        if name not in self.inputs:
            self.inputs[name] = self.graph.vector(name, channels)
        return self.inputs[name]

    def _layer(self, name: str) -> tuple[Array, Array, Array]:
        weight, bias, shift = (
            self.tensors[f"{name}.{part}"] for part in ("weight", "bias", "shift")
        )
        return weight, bias, shift

    def conv(self, x: int, name: str) -> int:
        return self.graph.conv(x, *self._layer(name), name=name)

    def depthwise(self, x: int, name: str) -> int:
        return self.graph.depthwise(x, *self._layer(name), name=name)

    def blocks(self, x: int, name: str, end: int, first: int = 0) -> int:
        """Return x after residual blocks `first` … `end` - 1: x + project(leaky(expand(depth(x))))."""
        for k in range(first, end):
            block = f"{name}.{k}"
            f = self.conv(self.depthwise(x, f"{block}.depth"), f"{block}.expand")
            f = self.conv(self.graph.leaky(f, LEAKY_SLOPE), f"{block}.project")
            x = self.graph.add(x, f)
        return x

    def transformer_layer(self, x: int, name: str, bits: int, attend: Callable[[int], int]) -> int:
        """Return x + o(attend(norm(x))), and to that down(leaky(up(norm))) added; norms have so many fraction bits."""
        g = self.graph
        x = g.add(x, self.conv(attend(g.norm(x, bits)), f"{name}.o"))
        return g.add(x, self.feed_forward(x, name, bits))

    def feed_forward(self, x: int, name: str, bits: int) -> int:
        """Return down(leaky(up(norm(x)))); the norm has so many fraction bits."""
        up = self.conv(self.graph.norm(x, bits), f"{name}.up")
        return self.conv(self.graph.leaky(up, LEAKY_SLOPE), f"{name}.down")

    def score(self, x: int, name: str, most: int) -> int:
        """Return q or k of an attention, clamped."""
        return self.graph.clamp(self.conv(x, name), -most, most)

    def scaled(self, x: int, name: str, channels: int) -> int:
        """Return x times a vector that comes as mantissas and shifts."""
        factors, shifts = (self.vector(f"{name}.{part}", channels) for part in ("factor", "shift"))
        return self.graph.scale(x, factors, shifts)

    def run(self, feeds: Mapping[str, Array], wanted: tuple[str, ...], threads: int) -> list[NDArray[np.int16]]:  # fmt: skip
        """Return some of `outputs`; `feeds` may hold more than this network takes."""
        numbers = {number: feeds[name] for name, number in self.inputs.items() if name in feeds}
        return self.graph.run(numbers, [self.outputs[name] for name in wanted], threads)


def at_quality(table: Array, quality_code: int) -> NDArray[np.int64]:
    """Return the row at quality 1 + code / 20, between the eight rows of a table of integers, rounded down. Exact."""
    low = min(quality_code // QUALITY_STEPS, N_QUALITIES - 2)
    fraction = quality_code - low * QUALITY_STEPS
    rows = table.astype(np.int64)
    blend = rows[low] * (QUALITY_STEPS - fraction) + rows[low + 1] * fraction
    return np.floor_divide(blend, QUALITY_STEPS)


def gain_at(tensors: Tensors, name: str, quality_code: int) -> dict[str, Array]:
    """Return a gain at a quality, as the factors and shifts that `Network.scaled` takes."""
    factor = at_quality(tensors[name], quality_code).astype(np.int16)
    shift = np.full_like(factor, tensors[f"{name}_shift"])
    return {f"{name}.factor": factor, f"{name}.shift": shift}


def power(logarithm: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return 2**(logarithm / 4096) as mantissas, 2**14 … 2**15, and shifts 0 … 30; what is beyond, as near as these can."""
    mantissa = EXP2[logarithm & ((1 << LOG_BITS) - 1)]
    shift = 14 - (logarithm >> LOG_BITS)
    mantissa = mantissa >> np.clip(shift - 30, 0, 15).astype(np.int16)
    return mantissa, np.clip(shift, 0, 30).astype(np.int16)


def in_colour(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels [h, w, 3], of grey [h, w] as three equal channels."""
    if pixels.ndim == 3:
        return pixels
    return np.broadcast_to(pixels[:, :, None], (*pixels.shape, 3))


def image_input(pixels: NDArray[Any], bit_depth: int = 8) -> NDArray[np.int16]:
    """Return what analysis sees of pixels [h, w, 3] or, grey, [h, w]: [h, w, 3], -255 … 255."""
    if bit_depth == 8:
        return np.ascontiguousarray(2 * in_colour(pixels).astype(np.int16) - X_MAX)
    largest = (1 << bit_depth) - 1
    halves = (in_colour(pixels).astype(np.uint32) * (2 * X_MAX) + largest // 2) // largest
    return np.ascontiguousarray(halves.astype(np.int16) - X_MAX)
