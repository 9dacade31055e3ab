"""Graphs of any operations with any parameters: ncodec's errors, or the reference's integers from every variant.

    input | an operation: kind, inputs, numbers, arrays | … | feeds, as they are needed | threads |

Most of what the bytes say is made valid, so that graphs grow; numbers out of range, arrays of other types, shapes
and strides, and feeds that do not fit are among it. What is beyond LARGEST_TENSOR ends a graph.
Run by `python tests/fuzz/run.py --only exact`.
"""

import random
from typing import Any

import numpy as np
import reference_exact as reference
from fuzz import structure

from ncodec.errors import InputError, WeightsMismatchError
from ncodec.exact import Graph, variants

MAX_LEN = 512
OPERATIONS = 16
LARGEST_TENSOR = 1 << 14  # values
KINDS = [*reference.OPERATIONS, "input", "vector", "conv", "shuffle"]
TENSORS = {"crop": 2, "unfold": 2, "add": 2, "subtract": 2, "gate": 2, "merge": 2, "join": 2, "attention": 3, "window_attention": 3}  # fmt: skip
VECTORS = {"offset": 1, "scale": 2}
NUMBERS: dict[str, list[list[int]]] = {  # choices of each
    "input": [[1, 2, 3, 4, 15, 16, 17, 32, 64, 70, 256], [0, 1, 100, 4000, 32767]],
    "vector": [[1, 2, 3, 4, 15, 16, 17, 32, 64]],
    "depthwise": [[0, 1]],
    "shuffle": [[2, 2, 2, 3, 4, 8]],
    "unshuffle": [[2, 2, 3, 16]],
    "pad": [[1, 2, 4, 7, 16]],
    "fold": [[1, 2, 2, 3, 5], [1, 1, 2, 4]],
    "unfold": [[1, 2, 2, 3, 5], [1, 1, 2, 4]],
    "shift": [[0, 1, 8, 15]],
    "leaky": [[0, 1, 3277, 32767]],
    "clamp": [[-32767, -5, 0], [0, 9, 32767]],
    "gate": [[-32767, 0, 1, 32767]],
    "merge": [[0, 0, 1, 3], [1, 2, 4, 4]],
    "norm": [[1, 6, 10, 12]],
    "attention": [[1, 1, 2, 4], [0, 6, 12, 24]],
    "window_attention": [[0, 6, 12, 24]],
    "modulate": [[0, 1, 10, 15]],
}
ODD = [-1, 0, 1, 5, 31, 255, 32768, -32768, 65536, 65537, 2**30, 2**31 - 1, -(2**31), 2**31, 2**70]
TYPES = ["int8", "uint8", "uint16", "int32", "int64", "float32", "float64", "bool", ">i2", "complex64", "object", "U2"]  # fmt: skip


class Source:
    """Bytes of an input, read once from the front; zeros when it is used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def choose(self, choices: list[Any]) -> Any:
        return choices[self.byte() % len(choices)]

    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.byte(), self.byte()])

    def rarely(self) -> bool:
        return self.byte() > 250


def any_integers(source: Source, shape: tuple[int, ...], most: int, dtype: str) -> Any:
    rng, edge = source.rng(), source.choose([0, 1, most, most, most // 9])
    if source.byte() % 2:
        return (edge * rng.integers(-1, 2, shape)).astype(dtype)
    return rng.integers(-edge, edge + 1, shape).astype(dtype)


def spoilt(source: Source, array: Any) -> Any:
    """Return an array, now and then of another type, shape or order, or none at all."""
    if not source.rarely():
        return array
    how = source.byte() % 7
    if how == 0:
        return array.astype(source.choose(TYPES))
    if how == 1:
        return array[..., : source.byte() % 3]
    if how == 2:
        return array[::-1]
    if how == 3:
        return np.repeat(array, 2, -1)[..., ::2]
    if how == 4:
        return array[None]
    if how == 5:
        return source.choose([None, "weight", 3, [[1, 2]], array.tolist()])
    return array.T.copy().T


def arrays_of(source: Source, kind: str, channels: int, bound: int) -> list[Any]:
    if kind == "table":
        return [spoilt(source, any_integers(source, (65536,), 32767, "int16"))]
    if kind == "embed":
        shape = source.choose([1, 2, 5, 300]), source.choose([1, 2, 4, 16, 17])
        return [spoilt(source, any_integers(source, shape, 32767, "int16"))]
    if kind == "window_attention":
        heads = source.choose([n for n in (1, 2, 3, 4) if channels % n == 0])
        sides = source.rng().integers(1, source.choose([3, 9, 33]), (heads, 2))
        moved = source.rng().integers(0, sides)
        n = int((2 * sides - 1).prod(1).sum())
        most = source.choose([0, 2000, 2**30, 2**31 - 1 - min(2**30, channels // heads * bound**2)])
        windows = np.concatenate([sides, moved + source.rarely()], 1).astype(np.int32)
        return [spoilt(source, windows), spoilt(source, any_integers(source, (n,), most, "int32"))]
    if kind == "modulate":
        side = source.choose([4, 8, 16, 4, 8, 16, 4, 5])
        return [spoilt(source, any_integers(source, (side, side, channels), 32767, "int16"))]
    if kind not in ("conv", "depthwise"):
        return [np.zeros(3, np.int16)] if source.rarely() else []
    outputs = channels if kind == "depthwise" else source.choose([1, 2, 15, 16, 17, 40, 128])
    side = source.choose([3, 5, 3, 5, 3, 5, 1, 7])
    shape = (outputs, side, side) if kind == "depthwise" else (outputs, channels)
    taps = max(1, int(np.prod(shape[1:])))
    most = 32768 if source.rarely() else min(2047, (2**31 - 2**30 - 1) // (taps * max(bound, 1)))
    weight = any_integers(source, shape, most, "int32").clip(-32768, 32767).astype(np.int16)
    bias = any_integers(source, (outputs,), 2**29 - (0 if source.rarely() else 1), "int32")
    shift = np.full(outputs, source.choose([1, 2, 8, 15, 28, 29, 0 if source.rarely() else 20]), np.uint8)  # fmt: skip
    if source.rarely():
        bias, shift = bias * 4, shift + np.uint8(5)
    return [spoilt(source, array) for array in (weight, bias, shift)]


def add(source: Source, graph: Graph) -> int:
    """Add an operation, as its inputs and the bytes say.

    Raises:
        WeightsMismatchError: it is refused.
        TypeError: a number is not an int of C++, or an array no array.
    """
    of = [[n for n, op in enumerate(graph.operations) if (op.kind == "vector") == is_vector] for is_vector in (False, True)]  # fmt: skip
    kind = "input" if not of[0] else "warp" if source.rarely() else source.choose(KINDS)
    wants = [TENSORS.get(kind, int(kind not in ("input", "vector"))), VECTORS.get(kind, 0)]
    inputs = []
    for numbers, n in zip(of, wants, strict=True):
        for _ in range(n):
            number = source.byte() % (len(graph.operations) + 2) - 1
            known = numbers and not source.rarely()
            inputs.append(numbers[-1 - source.byte() % len(numbers)] if known else number)
    folds = [op for op in graph.operations if op.kind == "fold"]
    if kind == "unfold" and folds and source.byte() % 4:
        fold = source.choose(folds)  # as little else fits
        made = graph.operations.index(fold)
        return graph._add(kind, "", [made, fold.inputs[0]], fold.numbers, [])
    numbers = [source.choose(ODD if source.rarely() else choices) for choices in NUMBERS.get(kind, [])]  # fmt: skip
    if kind == "vector" and of[0] and source.byte() % 4:
        numbers = [graph.operations[of[0][-1 - source.byte() % len(of[0])]].channels]
    if source.rarely():
        numbers = [*numbers, 1] if source.byte() % 2 else numbers[1:]
    x = graph.operations[inputs[0]] if inputs and 0 <= inputs[0] < len(graph.operations) else None
    arrays = arrays_of(source, kind, x.channels if x else 4, x.bound if x else 9)
    return graph._add(kind, "", inputs, numbers, arrays)


def feed(source: Source, graph: Graph, number: int, size: tuple[int, int]) -> Any:
    operation = graph.operations[number]
    if operation.kind == "vector":
        values = any_integers(
            source, (operation.channels,), source.choose([30, 30, 32767]), "int16"
        )
        return spoilt(source, np.abs(values) if source.byte() % 4 else values)
    if source.byte() % 8 == 0:
        size = source.byte() % 9, source.byte() % 9
    bound = 32768 if source.rarely() else operation.bound
    values = any_integers(source, (*size, operation.channels), bound, "int32")
    return spoilt(source, values.clip(-32768, 32767).astype(np.int16))


def check(data: bytes) -> bool:
    """Return whether a graph of three operations or more was computed.

    Raises:
        AssertionError, anything but ncodec's errors: a bug.
    """
    source, graph = Source(data), Graph()
    size = 1 + source.byte() % 12, 1 + source.byte() % 12
    feeds: dict[int, Any] = {}
    computed: dict[int, Any] = {}  # each without what others need
    for _ in range(OPERATIONS):
        before = len(graph.operations)
        try:
            number = add(source, graph)
        except (WeightsMismatchError, TypeError) as error:
            assert str(error) and len(graph.operations) == before
            continue
        assert graph.operations[number].channels >= 1 and 0 <= graph.bound(number) <= 32767
        if graph.operations[number].kind in ("input", "vector"):
            feeds[number] = feed(source, graph, number, size)
            if refused(graph, {number: feeds[number]}, []):
                shape = size if graph.operations[number].kind == "input" else ()
                feeds[number] = np.ones((*shape, graph.operations[number].channels), np.int16)
                feeds[number] *= graph.bound(number) > 0
        if graph.operations[number].kind == "vector":
            continue
        if refused(graph, feeds, [number]):
            continue
        alone = graph.run(feeds, [number])[0]
        if alone.size > LARGEST_TENSOR:
            break
        computed[number] = alone
    if not computed:
        return False
    threads = 1 + source.byte() % 3
    described = [(op.kind, op.inputs, op.numbers, op.arrays) for op in graph.operations]
    assert [op.bound for op in graph.operations] == reference.bounds(described)
    expected = reference.run(described, feeds, computed)
    made = {variant: graph.run(feeds, [*computed], threads, variant) for variant in variants()}
    for variant, tensors in {"alone": [*computed.values()], **made}.items():
        for number, values, found in zip(computed, expected, tensors, strict=True):
            assert found.dtype == np.int16 and np.array_equal(found, values), (variant, number)
            assert np.abs(values).max() <= graph.bound(number)
    return len(computed) > 2


def refused(graph: Graph, feeds: dict[int, Any], wanted: list[int]) -> bool:
    """Return whether a run is refused, by every variant alike."""
    found = set()
    for variant in variants():
        try:
            graph.run(feeds, wanted, 2, variant)
            found.add("")
        except InputError as error:
            assert str(error), "an error says what is wrong"
            found.add(str(error))
    assert len(found) == 1, found
    return found != {""}


def mutate(data: bytes, size: int, seed: int, change: structure.Change | None = None) -> bytes:
    """Return changed bytes, at most `size`; `change` is atheris.Mutate while fuzzing."""
    return (change or structure.havoc(random.Random(seed)))(data, size)
