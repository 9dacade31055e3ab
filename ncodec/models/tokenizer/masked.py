"""The masked transformer in integers: logits of tokens from all that is known around them. What decodes; no torch.

    values known [h, w, inputs] --stem--> [h, w, d] --blocks, 5x5--> cut into windows [n, R·C, d]
    + positions --layers: attention in a window; each place by itself--> head of the stage --> logits [h, w, nodes]

A stage is coded in groups of places (QLDS of https://arxiv.org/abs/2304.07313): each knows the stages before, and the groups before.
transformer.py trains it, specs/tokenizer.md has the integers.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ncodec.entropy.tokens import VALUE_MAX, Stage, TokenCoder
from ncodec.errors import InputError, named
from ncodec.exact.network import LARGEST, LEAKY_SLOPE, Array, Known, Layer, Network, Tensors
from ncodec.exact.network import known_of as known_of_layers
from ncodec.threads import get_num_threads

SIDE = 12  # of a window, at most
HEAD = 32  # channels of a head of attention
MLP = 2  # what is wider inside a block or layer, by this factor
NORM_BITS = 10
LOGIT_BITS = 8
SCORE_MAX = 8190  # of q and k: 32 products of them stay below 2^31
OCTAVE_BITS = 6  # of differences of scores
NORMED = 1 + int((1024 << 2 * NORM_BITS) ** 0.5)  # the largest norm of 1024 channels
ENDS = (7, 32, 77, 144)  # of groups, in places of a window: 144·(i/4)^2.2


@dataclass(frozen=True)
class MaskedConfig:
    """Sizes of a masked transformer.

    Raises:
        InputError: there is none such.
    """

    d: int = 160  # channels, a multiple of 32
    blocks: int = 3  # that know 5x5 places
    layers: int = 3  # of attention

    def __post_init__(self) -> None:
        for name, most in (("d", 1024), ("blocks", 64), ("layers", 64)):
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
    for k in range(c.blocks):
        name = f"masked.blocks.{k}"
        yield Layer(f"{name}.depth", (d, 5, 5), f, f"{name}.depth")
        yield Layer(f"{name}.expand", (MLP * d, d), f"{name}.depth", f"{name}.expand")
        yield Layer(f"{name}.project", (d, MLP * d), f"{name}.expand", f)
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


def n_inputs(stages: tuple[Stage, ...]) -> int:
    """Return the channels of the input: values, their magnitudes, whether this stage's are known, which stage it is."""
    return 2 * sum(stage.n_values for stage in stages) + 1 + len(stages)


def known_of(c: MaskedConfig, stages: tuple[Stage, ...]) -> Known:
    """Return the tensors."""
    known: Known = {"masked.positions": (np.int16, (SIDE * SIDE, c.d))}
    known |= {f"masked.layers.{k}.shift": (np.uint8, ()) for k in range(c.layers)}
    for s, stage in enumerate(stages):
        if stage.levels:
            known[f"masked.heads.{s}.own"] = (np.int16, (stage.nodes, 2 * stage.units))
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
    for k in range(c.layers):
        name = f"masked.layers.{k}"
        x = g.norm(f, NORM_BITS)
        q, key = (g.clamp(net.conv(x, f"{name}.{part}"), -SCORE_MAX, SCORE_MAX) for part in "qk")
        shift = int(tensors[f"{name}.shift"])
        mixed = g.attention(q, key, net.conv(x, f"{name}.v"), c.d // HEAD, shift)
        f = g.add(f, net.conv(mixed, f"{name}.o"))
        x = g.leaky(net.conv(g.norm(f, NORM_BITS), f"{name}.up"), LEAKY_SLOPE)
        f = g.add(f, net.conv(x, f"{name}.down"))
    f = g.norm(f, NORM_BITS)
    for s in range(len(stages)):
        x = g.leaky(net.conv(f, f"masked.heads.{s}.hidden"), LEAKY_SLOPE)
        net.outputs[f"logits.{s}"] = net.conv(x, f"masked.heads.{s}.out")
    return net


class Masked:
    """The transformer of a weights file. Safe to share between threads.

    Args:
        tensors: `masked.*`, those of `known_of`.
        config: sizes.
        stages: what the tokens are.
        coder: of these tokens.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    def __init__(
        self, tensors: Tensors, config: MaskedConfig, stages: tuple[Stage, ...], coder: TokenCoder
    ) -> None:
        self.stages, self._coder = stages, coder
        with named("weights: "):
            self._plane, self._windows = (
                make(tensors, config, stages) for make in (plane, windows)
            )
        self._own = [
            tensors.get(f"masked.heads.{s}.own", np.zeros((0, 0), np.int16))
            for s in range(len(stages))
        ]

    def encode(
        self, tokens: NDArray[np.int32], stage: int, depth: int, first: int, end: int
    ) -> bytes:
        """Return the payload of rows `first` to `end` of a stage, as `TokenCoder.encode` does. Exact."""
        coder = self._coder.given_encoder(stage, depth, self._own[stage])
        self._code(coder, tokens[: stage + 1, first:end].copy(), depth)
        return coder.finish()

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
        coder = self._coder.given_decoder(stage, depth, self._own[stage], payload)
        rows = tokens[: stage + 1, first:end].copy()
        self._code(coder, rows, depth)
        coder.finish()
        tokens[stage, first:end] = rows[stage]

    def _code(self, coder: object, tokens: NDArray[np.int32], depth: int) -> None:
        """Code the last stage of tokens [n, h, w], group by group; a decoder changes them."""
        group = groups(*tokens.shape[1:])
        for number in range(len(ENDS)) if depth else ():
            is_here = group == number
            if is_here.any():
                logits = self.logits(tokens, group < number, depth)[is_here]
                some = tokens[-1][is_here]
                coder.code(some, logits)
                tokens[-1][is_here] = some

    def filled(self, tokens: NDArray[np.int32], depth: int) -> NDArray[np.int32]:
        """Return tokens [n, h, w] with what is likeliest in place of absent ones, -1, stage by stage. Exact.

        Args:
            tokens: of the first n stages.
            depth: units of tokens of stage n - 1.
        """
        tokens = tokens.copy()
        for s in range(len(tokens)):
            lost = tokens[s] < 0
            if not lost.any():
                continue
            units = depth if s == len(tokens) - 1 else self.stages[s].units
            coder = self._coder.given_guesser(s, units, self._own[s])
            some = np.zeros(np.count_nonzero(lost), np.int32)
            coder.code(some, self.logits(tokens[: s + 1], ~lost, units)[lost])
            tokens[s][lost] = some
        return tokens

    def logits(
        self, tokens: NDArray[np.int32], is_known: NDArray[np.bool_], depth: int
    ) -> NDArray[np.int16]:
        """Return logits [h, w, nodes] of the decisions of stage n - 1 (1/256 nats). Exact.

        Args:
            tokens: [n, h, w]; those of the last stage count where `is_known` [h, w].
            depth: units of them.
        """
        s, (height, width) = len(tokens) - 1, tokens.shape[1:]
        tokens = tokens.copy()
        tokens[s][~is_known] = -1
        x = inputs_of(self._coder.values(tokens, depth), is_known, s, len(self.stages))
        (f,) = self._plane.run({"x": x}, ("f",), get_num_threads())
        logits = np.empty((height, width, self.stages[s].nodes), np.int16)
        for rows in spans(height):
            for columns in spans(width):
                self._run(f, s, rows, columns, logits)
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


def inputs_of(
    values: NDArray[np.int16], is_known: NDArray[np.bool_], stage: int, n_stages: int
) -> NDArray[np.int16]:
    """Return what the transformer sees [h, w, inputs] of values [h, w, D]."""
    flags = np.zeros((*is_known.shape, 1 + n_stages), np.int16)
    flags[..., 0] = is_known
    flags[..., 1 + stage] = 1
    return np.concatenate([values, np.abs(values), flags], 2)


def order() -> NDArray[np.int64]:
    """Return [SIDE, SIDE], the rank of each place: Roberts' R2 sequence on the grid of a window."""
    phi = 1.32471795724474602596  # its cube is 1 + phi
    rank = np.full((SIDE, SIDE), -1)
    n = k = 0
    while k < SIDE * SIDE:
        n += 1
        i, j = (int((0.5 + n / phi**a) % 1 * SIDE) for a in (1, 2))
        if rank[i, j] < 0:
            rank[i, j], k = k, k + 1
    return rank


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


def groups(height: int, width: int) -> NDArray[np.int64]:
    """Return the group of each place [height, width]."""
    i, j = (np.concatenate([np.arange(side) for side in sides(n)] or [[]]).astype(int) for n in (height, width))
    return np.searchsorted(ENDS, order()[i][:, j], side="right")
