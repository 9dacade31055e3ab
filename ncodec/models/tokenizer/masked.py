"""The masked transformer in integers: logits of tokens from all that is known around them. What decodes; no torch.

    values of the stages before [h, w, inputs] --stem--> [h, w, d] --blocks, 5x5--> cut into windows [n, R·C, d]
    + positions --layers: attention in a window; each place by itself--> head of the stage --> logits [h, w, nodes]

It sees the stages before, and of the stage itself nothing: all places in one run, whose logits are added to those of the
coder's own network, which knows the tokens to the left and above (entropy/tokens.hpp). It has a small network beside it that
fills in lost tokens (filling.py). transformer.py trains it; specs/tokenizer.md has the integers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ncodec.entropy.tokens import VALUE_MAX, Stage, TokenCoder
from ncodec.errors import InputError, named
from ncodec.exact.network import LEAKY_SLOPE, Known, Layer, Network, Tensors, block_layers
from ncodec.exact.network import known_of as known_of_layers
from ncodec.models.tokenizer import filling
from ncodec.models.tokenizer.filling import Filling
from ncodec.nn import HEAD
from ncodec.threads import get_num_threads

SIDE = 12  # of a window, at most
MLP = 2  # what is wider inside a layer, by this factor
NORM_BITS = 10
LOGIT_BITS = 8
SCORE_MAX = 8190  # of q and k: 32 products of them stay below 2^31
OCTAVE_BITS = 6  # of differences of scores
NORMED = 1 + int((1024 << 2 * NORM_BITS) ** 0.5)  # the largest norm of 1024 channels


@dataclass(frozen=True)
class MaskedConfig:
    """Sizes of a masked transformer.

    Raises:
        InputError: there is none such.
    """

    d: int = 160  # channels, a multiple of 32
    blocks: int = 3  # that know 5x5 places
    layers: int = 3  # of attention
    near: int = 64  # hidden units of the coder's network of each stage
    fill: int = 96  # channels of what fills in lost tokens

    def __post_init__(self) -> None:
        for name, most in (
            ("d", 1024),
            ("blocks", 64),
            ("layers", 64),
            ("near", 1024),
            ("fill", 1024),
        ):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{name}: expected 1 to {most}, found {value!r}")
        if self.d % HEAD:
            raise InputError(f"d: expected a multiple of {HEAD}, found {self.d}")


def layers(c: MaskedConfig, stages: tuple[Stage, ...]) -> Iterator[Layer]:
    """Yield the layers; all add to "masked.f" but those whose results have names of their own."""
    d, f = c.d, "masked.f"

    def of_norm(name: str, out: int, result: str, unit: float = 1.0) -> Layer:
        return Layer(name, (out, d), "masked.norm", result, result_unit=unit, bound=NORMED)

    yield Layer("masked.stem", (d, n_inputs(stages)), "masked.x", f, bound=VALUE_MAX)
    yield from block_layers("masked.blocks", d, c.blocks, f, 5)
    for k in range(c.layers):
        name = f"masked.layers.{k}"
        yield of_norm(f"{name}.q", d, f"{name}.q", float(np.log2(np.e)) / HEAD**0.5)  # octaves
        yield of_norm(f"{name}.k", d, f"{name}.k")
        yield of_norm(f"{name}.v", d, f"{name}.v")
        yield Layer(f"{name}.o", (d, d), f"{name}.v", f)
        yield of_norm(f"{name}.up", MLP * d, f"{name}.up")
        yield Layer(f"{name}.down", (d, MLP * d), f"{name}.up", f)
    for s, stage in enumerate(stages):
        name = f"masked.heads.{s}"
        yield of_norm(f"{name}.hidden", d, f"{name}.hidden")
        yield Layer(f"{name}.out", (stage.nodes, d), f"{name}.hidden", "masked.logits")
    yield from filling.layers(c.fill, stages)


def n_inputs(stages: tuple[Stage, ...]) -> int:
    """Return the channels of the input: values, their magnitudes, which stage it is."""
    return 2 * sum(stage.n_values for stage in stages) + len(stages)


def known_of(c: MaskedConfig, stages: tuple[Stage, ...]) -> Known:
    """Return the tensors."""
    known: Known = {"masked.positions": (np.int16, (SIDE * SIDE, c.d))}
    known |= {f"masked.layers.{k}.shift": (np.uint8, ()) for k in range(c.layers)}
    before = 0
    for s, stage in enumerate(stages):
        n = stage.n_values
        ours: Known = {
            "hidden.weight": (np.int16, (c.near, 4 * n + 9 * before)),
            "hidden.bias": (np.int32, (c.near,)),
            "head.weight": (np.int16, (stage.nodes, c.near)),
            "head.bias": (np.int32, (stage.nodes,)),
            "shifts": (np.int32, (2,)),
        }
        if stage.levels:
            ours["own.weight"] = (np.int16, (stage.nodes, 2 * n))
        known |= {f"masked.tokens.{s}.{name}": expected for name, expected in ours.items()}
        before += n
    return known | known_of_layers(layers(c, stages))


def plane(tensors: Tensors, c: MaskedConfig, stages: tuple[Stage, ...]) -> Network:
    """x [h, w, inputs] -> f [h, w, d]."""
    net = Network(tensors)
    f = net.conv(net.input("x", n_inputs(stages), VALUE_MAX), "masked.stem")
    net.outputs = {"f": net.blocks(f, "masked.blocks", c.blocks)}
    return net


def windows(tensors: Tensors, c: MaskedConfig, stages: tuple[Stage, ...]) -> Network:
    """f [n, R·C, d], of n windows, places [n, R·C, 1] -> "logits.s" [n, R·C, nodes] of each stage s."""
    net = Network(tensors)
    g = net.graph
    position = g.embed(net.input("places", 1), tensors["masked.positions"], "masked.positions")
    f = g.add(net.input("f", c.d), position)

    def attend(name: str, x: int) -> int:
        q, key = (net.score(x, f"{name}.{part}", SCORE_MAX) for part in "qk")
        shift = int(tensors[f"{name}.shift"])
        return g.attention(q, key, net.conv(x, f"{name}.v"), c.d // HEAD, shift)

    for k in range(c.layers):
        name = f"masked.layers.{k}"
        f = net.transformer_layer(f, name, NORM_BITS, partial(attend, name))
    f = g.norm(f, NORM_BITS)
    for s in range(len(stages)):
        x = g.leaky(net.conv(f, f"masked.heads.{s}.hidden"), LEAKY_SLOPE)
        net.outputs[f"logits.{s}"] = net.conv(x, f"masked.heads.{s}.out")
    return net


class Masked:
    """The transformer of a weights file, the coder that it helps, and what fills in lost tokens. Safe to share between threads.

    Args:
        tensors: `masked.*`, those of `known_of`, and values of trees, `tokens.{s}.values`.
        config: sizes.
        stages: what the tokens are.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    def __init__(self, tensors: Tensors, config: MaskedConfig, stages: tuple[Stage, ...]) -> None:
        self.stages = stages
        with named("weights: "):
            self._plane, self._windows = (
                make(tensors, config, stages) for make in (plane, windows)
            )
            self.filling = Filling(tensors, stages)
        ours = {name.removeprefix("masked."): array for name, array in tensors.items() if name.startswith("masked.tokens.")}  # fmt: skip
        shared = {name: array for name, array in tensors.items() if name.endswith(".values")}
        with named("masked."):
            self.coder = TokenCoder(stages, ours | shared)

    def encode(
        self, tokens: NDArray[np.int32], stage: int, depth: int, first: int, end: int
    ) -> bytes:
        """Return the payload of rows `first` to `end` of a stage, as `TokenCoder.encode` does. Exact."""
        logits = self._before(tokens, stage, first, end)
        return self.coder.encode(tokens, stage, depth, first, end, logits)

    def decode(
        self,
        payload: bytes,
        tokens: NDArray[np.int32],
        stage: int,
        depth: int,
        first: int,
        end: int,
    ) -> None:
        """Set `tokens[stage, first:end]`, as `TokenCoder.decode` does. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: `payload` is damaged.
        """
        logits = self._before(tokens, stage, first, end)
        self.coder.decode(payload, tokens, stage, depth, first, end, logits)

    def _before(
        self, tokens: NDArray[np.int32], stage: int, first: int, end: int
    ) -> NDArray[np.int16]:
        """Return logits [places, nodes] of rows of a stage by those before it."""
        rows = tokens[:stage, first:end]
        values = np.zeros((end - first, tokens.shape[2], self.coder.n_values), np.int16)
        if stage:
            values = self.coder.values(rows, self.stages[stage - 1].units)
        logits = self.logits(values, stage)
        return logits.reshape(-1, logits.shape[2])

    def logits(self, values: NDArray[np.int16], stage: int) -> NDArray[np.int16]:
        """Return logits [h, w, nodes] of the decisions of a stage (1/256 nats). Exact.

        Args:
            values: [h, w, D], of the stages before, and 0.
            stage: which.
        """
        height, width = values.shape[:2]
        logits = np.empty((height, width, self.stages[stage].nodes), np.int16)
        if not logits.size:
            return logits
        x = inputs_of(values, stage, len(self.stages))
        (f,) = self._plane.run({"x": x}, ("f",), get_num_threads())
        for rows in spans(height):
            for columns in spans(width):
                self._run(f, stage, rows, columns, logits)
        return logits

    def _run(
        self,
        f: NDArray[np.int16],
        stage: int,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        logits: NDArray[np.int16],
    ) -> None:
        """Set the logits of windows of one size: `rows` [n, R], `columns` [m, C]."""
        (n, R), (m, C) = rows.shape, columns.shape
        at = (rows[:, None, :, None], columns[None, :, None, :])  # [n, m, R, C]
        place = (np.arange(R)[:, None] * SIDE + np.arange(C)).astype(np.int16)
        feeds = {
            "f": f[at].reshape(n * m, R * C, -1),
            "places": np.tile(place.reshape(1, -1, 1), (n * m, 1, 1)),
        }
        (made,) = self._windows.run(feeds, (f"logits.{stage}",), get_num_threads())
        logits[at] = made.reshape(n, m, R, C, -1)


def inputs_of(values: NDArray[np.int16], stage: int, n_stages: int) -> NDArray[np.int16]:
    """Return what the transformer sees [h, w, inputs] of values [h, w, D]."""
    flags = np.zeros((*values.shape[:2], n_stages), np.int16)
    flags[..., stage] = 1
    return np.concatenate([values, np.abs(values), flags], 2)


def sides(n: int) -> list[int]:
    """Return the sides of windows along n places: as few as can be, as equal as can be, the larger ones last.

    >>> sides(20), sides(49), sides(1)
    ([10, 10], [9, 10, 10, 10, 10], [1])
    """
    count = -(-n // SIDE)
    edges = [i * n // count for i in range(count + 1)]
    return sorted(end - start for start, end in pairwise(edges))


def spans(n: int) -> list[NDArray[np.int64]]:
    """Return the places of windows along n places, [windows, side] for each side that there is."""
    lengths = sides(n)
    starts = np.cumsum([0, *lengths[:-1]])
    return [
        starts[np.equal(lengths, side)][:, None] + np.arange(side) for side in sorted(set(lengths))
    ]
