"""Exact integer networks: graphs of 16-bit tensors, the same values on every machine (specs/exact.md).

    weights --Graph: shapes, shifts and bounds checked--> operations --run(feeds, wanted)--> tensors
                                                              |
                                            C++ here; torch on a GPU (device.py)

A tensor is int16 [h, w, channels]; in a graph it is known by a number, which every method returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncodec.errors import WeightsMismatchError
from ncodec.exact import _exact

Array = NDArray[Any]

EXP = (32767 * 2.0 ** (np.arange(1024) / -64) + 0.5).astype(np.int32)  # of X23
EXP[1023] = 0


def _cosines(k: int) -> Array:
    f, t = np.arange(k)[:, None], np.arange(k)
    entries = 2.0**13 * np.sqrt(np.where(f, 2, 1) / k) * np.cos(np.pi * (2 * t + 1) * f / (2 * k))
    return np.floor(entries + 0.5).astype(np.int32)


COSINES = {k: _cosines(k) for k in (4, 8, 16)}  # D of X27


class Operation(NamedTuple):
    """One node of a graph: what other executors read."""

    kind: str  # of specs/exact.md, or "input" or "vector"
    name: str  # what errors call it
    inputs: tuple[int, ...]  # tensors and vectors, in the order of specs/exact.md
    channels: int  # of its result
    bound: int  # of its result's magnitude
    arrays: tuple[Array, ...] = ()  # weight, bias, shift; or table
    numbers: tuple[int, ...] = ()  # such as a factor of `shuffle`, or `step, steps` of `merge`


class Graph:
    """Operations in the order in which they were added.

    Every method below but `run` and `bound` adds one and returns its number.

    Raises:
        WeightsMismatchError: from any of them: a shape, shift or bound that specs/exact.md forbids, or a tensor
            that is not there.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.kept: dict[Any, Any] = {}  # what other executors made of its arrays
        self._graph = _exact.Graph()

    def _add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[int],
        numbers: Sequence[int] = (),
        arrays: Sequence[Array] = (),
    ) -> int:
        try:
            number = self._graph.add(kind, name, list(inputs), list(numbers), list(arrays))
        except WeightsMismatchError as error:
            raise WeightsMismatchError(f"{name or kind}: {error}") from error
        channels, bound = self._graph.describe(number)
        self.operations.append(
            Operation(kind, name, tuple(inputs), channels, bound, tuple(arrays), tuple(numbers))
        )
        return number

    def input(self, name: str, channels: int, bound: int = 32767) -> int:
        """Return a tensor that comes with each run, [h, w, channels] within ±bound."""
        return self._add("input", name, (), (channels, bound))

    def vector(self, name: str, channels: int) -> int:
        """Return a vector that comes with each run, [channels] within ±32767."""
        return self._add("vector", name, (), (channels,))

    def conv(self, x: int, weight: Array, bias: Array, shift: Array, name: str = "") -> int:
        """X1. `weight` int16 [O, C], `bias` int32 [O], `shift` uint8 [O]."""
        return self._add("conv", name, (x,), (), (weight, bias, shift))

    def depthwise(
        self, x: int, weight: Array, bias: Array, shift: Array, replicate: bool = False, name: str = ""
    ) -> int:  # fmt: skip
        """X2. `weight` int16 [C, k, k], `bias` int32 [C], `shift` uint8 [C]."""
        return self._add("depthwise", name, (x,), (int(replicate),), (weight, bias, shift))

    def patches(self, x: int) -> int:
        """X4."""
        return self._add("patches", "", (x,))

    def shuffle(self, x: int, factor: int) -> int:
        """X5."""
        return self._add("shuffle", "", (x,), (factor,))

    def unshuffle(self, x: int, factor: int) -> int:
        """X6."""
        return self._add("unshuffle", "", (x,), (factor,))

    def pad(self, x: int, multiple: int) -> int:
        """X7."""
        return self._add("pad", "", (x,), (multiple,))

    def crop(self, x: int, like: int) -> int:
        """X8."""
        return self._add("crop", "", (x, like))

    def fold(self, x: int, side: int, heads: int) -> int:
        """X24: windows as rows, a head's channels as columns."""
        return self._add("fold", "", (x,), (side, heads))

    def unfold(self, x: int, like: int, side: int, heads: int) -> int:
        """X25: what `fold` makes of a tensor of the size and channels of `like`, back."""
        return self._add("unfold", "", (x, like), (side, heads))

    def add(self, x: int, y: int) -> int:
        """X9."""
        return self._add("add", "", (x, y))

    def subtract(self, x: int, y: int) -> int:
        """X10."""
        return self._add("subtract", "", (x, y))

    def offset(self, x: int, vector: int) -> int:
        """X11."""
        return self._add("offset", "", (x, vector))

    def scale(self, x: int, factors: int, shifts: int) -> int:
        """X12: both are vectors."""
        return self._add("scale", "", (x, factors, shifts))

    def shift(self, x: int, bits: int) -> int:
        """X13."""
        return self._add("shift", "", (x,), (bits,))

    def leaky(self, x: int, slope: int) -> int:
        """X14: `slope` in units of 2**-15."""
        return self._add("leaky", "", (x,), (slope,))

    def clamp(self, x: int, low: int, high: int) -> int:
        """X15."""
        return self._add("clamp", "", (x,), (low, high))

    def table(self, x: int, table: Array, name: str = "") -> int:
        """X16. `table` int16 [65536]."""
        return self._add("table", name, (x,), (), (table,))

    def gate(self, x: int, y: int, least: int) -> int:
        """X17."""
        return self._add("gate", "", (x, y), (least,))

    def merge(self, x: int, y: int, step: int, steps: int) -> int:
        """X18."""
        return self._add("merge", "", (x, y), (step, steps))

    def embed(self, x: int, table: Array, name: str = "") -> int:
        """X20. `table` int16 [n, C]."""
        return self._add("embed", name, (x,), (), (table,))

    def join(self, x: int, y: int) -> int:
        """X21."""
        return self._add("join", "", (x, y))

    def norm(self, x: int, bits: int) -> int:
        """X22: the result in units of 2**-bits of its root mean square."""
        return self._add("norm", "", (x,), (bits,))

    def attention(self, q: int, k: int, v: int, heads: int, shift: int) -> int:
        """X23: differences of scores in units of 2**-(shift + 6) of an octave."""
        return self._add("attention", "", (q, k, v), (heads, shift))

    def window_attention(
        self, q: int, k: int, v: int, windows: Array, bias: Array, shift: int, name: str = ""
    ) -> int:
        """X26. `windows` int32 [heads, 4]: height, width, and by how much they are moved; `bias` int32 [n]: the heads' tables."""
        return self._add("window_attention", name, (q, k, v), (shift,), (windows, bias))

    def modulate(self, x: int, weight: Array, bits: int, name: str = "") -> int:
        """X27. `weight` int16 [k, k, C], of vertical and horizontal frequencies, in units of 2**-bits."""
        return self._add("modulate", name, (x,), (bits,), (weight,))

    def bound(self, x: int) -> int:
        """Return the largest magnitude that a tensor's values can have."""
        return self.operations[x].bound

    def run(
        self,
        feeds: Mapping[int, Array],
        wanted: Sequence[int],
        threads: int = 1,
        variant: str | None = None,
    ) -> list[NDArray[np.int16]]:
        """Return the values of some tensors; only what they need is computed.

        Args:
            feeds: int16 [h, w, channels] for every input and [channels] for every vector that is needed.
            wanted: tensors.
            threads: of the CPU, at most; the values do not depend on it.
            variant: one of `variants()`; by default the fastest. The values do not depend on it.

        Raises:
            InputError: one is missing, not contiguous int16, of the wrong shape, beyond its bound, or sizes of tensors do not fit.
        """
        return self._graph.run(list(feeds.items()), list(wanted), threads, variant or "")


def variants() -> list[str]:
    """Return the executor's implementations on this processor, the fastest last. All are bit-identical."""
    return _exact.variants()
