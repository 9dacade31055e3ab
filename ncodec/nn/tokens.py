"""P(tokens | what is decoded): fitted to the tokens of a trained tokenizer, then rounded to the integers of the coder.

    tokens of many images --fit--> a StageModel for each stage --to_arrays--> `tokens.{s}.*` of entropy/tokens.py

A stage's model gives logits of its tokens' decisions from the values around them, and is fitted by itself. What the
coder adapts while it codes is not part of it.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ncodec.entropy.tokens import VALUE_MAX, Stage, TokenCoder

LOGIT_BITS = 8  # the coder's logits are in 1/256 nats
HIDDEN_BITS = 6  # fraction of hidden values: more would leave head.weight fewer of its 16 bits
HIDDEN_MAX = WEIGHT_MAX = 2**15 - 1
SUM_MAX = 2**31 - 2**29  # of an integer layer, its rounding (up to 2^28) and that of weights apart
MOST_SHIFT = 29
BATCH, LEARNING_RATE, MOST_STEPS = 512, 2e-2, 4000
PARTIAL = 0.2  # share of steps whose stage is coded to less than full depth
DECAY = 3e-4  # of a tree's weights that are a node's own
LEFT = [(0, -1), (-1, -1), (-1, 0), (-1, 1)]  # rows, columns from a place: decoded before it
AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def values_of(
    stage: Stage, table: NDArray[np.int16] | None, tokens: NDArray[np.int32], depth: int
) -> NDArray[np.int16]:
    """Return [..., D_s], values of tokens of which `depth` units are coded; 0 of absent ones, -1."""
    if stage.levels:
        levels = np.stack(np.unravel_index(tokens.clip(0), stage.levels, "F"), -1)
        values = (2 * levels - np.subtract(stage.levels, 1)) * (np.arange(stage.units) < depth)
    else:
        assert table is not None
        values = table[(1 << depth) - 1 + (tokens.clip(0) >> (stage.bits - depth))]
    return (values * (tokens >= 0)[..., None]).astype(np.int16)


def decisions_of(
    stage: Stage, tokens: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    """Return nodes and bins of the decisions of tokens [P], [P, K] each, and the unit of each column.

    A node of -1: there is no such decision.
    """
    if not stage.levels:
        prefixes = tokens[:, None].astype(np.int64) >> np.arange(stage.bits, -1, -1)
        nodes = (1 << np.arange(stage.bits)) - 1 + prefixes[:, :-1]
        return nodes, (prefixes[:, 1:] & 1).astype(np.float32), np.arange(stage.bits)
    nodes_of, bins_of, units, first = [], [], [], 0
    for unit, n in enumerate(stage.levels):
        level = tokens // math.prod(stage.levels[:unit]) % n
        paths = [_path(n, one) for one in range(n)]
        longest = max(map(len, paths))
        padded = np.array([path + [(-1, 0)] * (longest - len(path)) for path in paths])[level]
        nodes_of.append(np.where(padded[..., 0] < 0, -1, padded[..., 0] + first))
        bins_of.append(padded[..., 1].astype(np.float32))
        units += [unit] * longest
        first += n - 1
    return np.concatenate(nodes_of, 1), np.concatenate(bins_of, 1), np.array(units)


def _path(n_levels: int, level: int) -> list[tuple[int, int]]:
    """Return the nodes and bins of a digit's level: [centre?] which side? [further from the centre? ...]."""
    side, odd = n_levels // 2, n_levels % 2
    path = [(0, int(level != side))] if odd else []
    if odd and level == side:
        return path
    is_above = level >= side + odd
    path.append((odd, int(is_above)))
    distance = level - side - odd if is_above else side - 1 - level
    first = odd + 1 + is_above * (side - 1)
    return path + [(first + i, int(distance > i)) for i in range(min(distance + 1, side - 1))]


class StageModel(nn.Module):
    """Logits of a stage's decisions (nats).

    Args:
        stage: its tokens.
        table: [2^(bits + 1) - 1, D_s], values of a tree.
        before: channels of the stages before.
        width: hidden units.
    """

    mask: Tensor  # digits: [nodes, D_s], the digits before a node's
    apart: Tensor  # trees: [nodes, D_s], between a node's children
    unit: Tensor  # [inputs], 1 / their usual magnitude

    def __init__(
        self, stage: Stage, table: NDArray[np.int16] | None, before: int, width: int
    ) -> None:
        super().__init__()
        self.stage = stage
        inputs = 4 * stage.n_values + 9 * before
        self.register_buffer("unit", torch.ones(inputs))
        self.hidden = nn.Linear(inputs, width)
        self.bias = nn.Parameter(torch.zeros(stage.nodes))
        self.weight = nn.Parameter(torch.zeros(stage.nodes, width))
        if stage.levels:
            digit = np.repeat(np.arange(stage.units), np.subtract(stage.levels, 1))
            mask = np.arange(stage.units) < digit[:, None]
            self.register_buffer("mask", torch.from_numpy(mask).float())
            self.own = nn.Parameter(torch.zeros(stage.nodes, stage.units))
        else:
            assert table is not None
            children = torch.from_numpy(table[1:].reshape(stage.nodes, 2, -1)).float()
            apart = children[:, 1] - children[:, 0]
            self.register_buffer("apart", apart / apart.abs().max().clamp_min(1))
            self.shared = nn.Parameter(torch.zeros(stage.n_values, width))

    def forward(self, x: Tensor, own: Tensor, nodes: Tensor) -> Tensor:
        """Return logits of nodes [P, K] from inputs [P, inputs] and the tokens' own values [P, D_s]."""
        hidden = torch.relu(self.hidden(x * self.unit))
        if self.stage.levels:
            logits = functional.linear(hidden, self.weight, self.bias)
            return (logits + functional.linear(own, self.own * self.mask)).gather(1, nodes)
        heads = functional.embedding(nodes, self.head())
        return torch.einsum("pkb,pb->pk", heads, hidden) + self.bias[nodes]

    def head(self) -> Tensor:
        """Return head weights [nodes, B]. A tree's: a linear map of what parts its children, and what is their own."""
        return self.weight if self.stage.levels else self.weight + self.apart @ self.shared

    @torch.no_grad()
    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the integers of entropy/tokens.py."""
        own = self.own * self.mask if self.stage.levels else None
        return integers_of(
            self.hidden.weight * self.unit, self.hidden.bias, self.head(), self.bias, own
        )


@torch.no_grad()
def integers_of(
    hidden: Tensor, hidden_bias: Tensor, head: Tensor, head_bias: Tensor, own: Tensor | None
) -> dict[str, NDArray[np.generic]]:
    """Return the integers of entropy/tokens.py of a network: hidden [B, inputs], head [nodes, B]; own [nodes, ...] of digits."""
    of_logit, of_hidden = 2.0**LOGIT_BITS, 2.0**HIDDEN_BITS
    hidden_shift = _shift(
        [of_hidden * hidden],
        VALUE_MAX * hidden.abs().sum(1) * of_hidden + hidden_bias.abs() * of_hidden,
    )
    added = torch.zeros(len(head), 1) if own is None else own
    head_sums = HIDDEN_MAX / of_hidden * head.abs().sum(1) + VALUE_MAX * added.abs().sum(1)
    head_shift = _shift(
        [head * (of_logit / of_hidden), added * of_logit],
        (head_sums + head_bias.abs()) * of_logit,
    )
    arrays = {
        "hidden.weight": _integers(hidden * of_hidden, hidden_shift, np.int16),
        "hidden.bias": _integers(hidden_bias * of_hidden, hidden_shift, np.int32),
        "head.weight": _integers(head * (of_logit / of_hidden), head_shift, np.int16),
        "head.bias": _integers(head_bias * of_logit, head_shift, np.int32),
        "shifts": np.array([hidden_shift, head_shift], np.int32),
    }
    if own is not None:
        arrays["own.weight"] = _integers(own * of_logit, head_shift, np.int16)
    return arrays


def _shift(weights: list[Tensor], sums: Tensor) -> int:
    """Return the largest shift whose weights, and sums of these with their inputs, stay in range."""
    shift, largest = MOST_SHIFT, max(float(w.abs().max()) for w in weights)
    while shift > 1 and (largest * 2**shift > WEIGHT_MAX or float(sums.max()) * 2**shift > SUM_MAX):
        shift -= 1
    return shift


def _integers(values: Tensor, bits: int, kind: type) -> NDArray[np.generic]:
    scaled = np.rint(values.double().numpy() * 2.0**bits)
    return scaled.clip(np.iinfo(kind).min + 1, np.iinfo(kind).max).astype(kind)


def fit(
    stages: Sequence[Stage],
    tokens: NDArray[np.int32],
    tables: Mapping[int, NDArray[np.int16]] | None = None,
    width: int = 48,
    steps: int = MOST_STEPS,
    seed: int = 0,
) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of `TokenCoder` that code such tokens at least cost, `tokens.{s}.*`.

    Args:
        stages: what the tokens are.
        tokens: [N, S, h, w], of N images, each of all stages.
        tables: by stage, int16 values [2^(bits + 1) - 1, D_s] of trees; they are returned as `tokens.{s}.values`.
        width: hidden units of a stage.
        steps: of gradient descent, for each stage.
    """
    tensors: dict[str, NDArray[np.generic]] = {}
    for s, stage in enumerate(stages):
        table = None if stage.levels else (tables or {})[s]
        field = Field(stages[: s + 1], tokens[:, : s + 1], dict(tables or {}))
        model = fit_stage(field, width, steps, seed + s)
        tensors |= {f"tokens.{s}.{name}": array for name, array in model.to_arrays().items()}
        if table is not None:
            tensors[f"tokens.{s}.values"] = table
    return tensors


class Field:
    """Tokens of the last of some stages, all images' in a row, and what is around them.

    Args:
        stages, tokens: [N, S, h, w], the stages before and this one.
        tables: values of trees by stage.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        tokens: NDArray[np.int32],
        tables: Mapping[int, NDArray[np.int16]],
    ) -> None:
        _, n_stages, _, width = tokens.shape
        border = ((0, 0), (0, 0), (1, 1), (1, 1))
        padded = np.pad(tokens, border, constant_values=-1).swapaxes(0, 1).reshape(n_stages, -1)
        self.stage, self.table = stages[-1], tables.get(n_stages - 1)
        self.here = padded[-1]  # [P], -1 around each image
        earlier = [
            values_of(stage, tables.get(s), padded[s], stage.units).astype(np.int8)
            for s, stage in enumerate(stages[:-1])
        ]
        self.before = np.concatenate([np.zeros((len(self.here), 0), np.int8), *earlier], 1)
        self.places = np.flatnonzero(self.here >= 0)
        self.nodes, bins, self.units = decisions_of(self.stage, self.here[self.places])
        self.bins = bins.astype(np.float32)
        self._stride = width + 2

    def inputs(self, which: NDArray[np.integer], depth: int) -> tuple[Tensor, Tensor]:
        """Return x [B, inputs] of some of `places`, and the tokens' own values [B, D_s]."""
        at = self.places[which]
        left, around = (
            at[:, None] + np.array([i * self._stride + j for i, j in offsets])
            for offsets in (LEFT, AROUND)
        )
        x = np.concatenate(
            [
                values_of(self.stage, self.table, self.here[left], depth).reshape(len(at), -1),
                self.before[around].reshape(len(at), -1),
            ],
            1,
        )
        own = values_of(self.stage, self.table, self.here[at], self.stage.units)
        return torch.from_numpy(x).float(), torch.from_numpy(own).float()

    def cost(self, model: StageModel, which: NDArray[np.integer], depth: int) -> Tensor:
        """Return what the first `depth` units of some of `places` cost, nats a token."""
        x, own = self.inputs(which, depth)
        nodes = self.nodes[which]
        logits = model(x, own, torch.from_numpy(nodes.clip(0)))
        is_coded = torch.from_numpy(((nodes >= 0) & (self.units < depth)).astype(np.float32))
        bins = torch.from_numpy(self.bins[which])
        return functional.binary_cross_entropy_with_logits(
            logits, bins, is_coded, reduction="sum"
        ) / len(which)


def fit_stage(field: Field, width: int, steps: int, seed: int) -> StageModel:
    """Return the model of a field's tokens that costs least; `width` hidden units, `steps` of gradient descent."""
    stage, rng = field.stage, np.random.default_rng(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = StageModel(stage, field.table, field.before.shape[1], width)
    x, _ = field.inputs(rng.integers(len(field.places), size=8 * BATCH), stage.units)
    model.unit[:] = 1 / (x.square().mean(0).sqrt() + 0.5)
    seen = np.bincount(field.nodes[field.nodes >= 0], minlength=stage.nodes)
    ones = np.bincount(field.nodes[field.nodes >= 0], field.bins[field.nodes >= 0], stage.nodes)
    model.bias.data[:] = torch.from_numpy(np.log((ones + 0.5) / (seen - ones + 0.5)))
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        is_partial = stage.units > 1 and rng.random() < PARTIAL
        depth = int(rng.integers(1, stage.units)) if is_partial else stage.units
        loss = field.cost(model, rng.integers(len(field.places), size=BATCH), depth)
        if not stage.levels:
            loss = loss + DECAY * model.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def coded_bits(coder: TokenCoder, tokens: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return [S], bits a token of each stage as the coder writes tokens [N, S, h, w], a payload for each image and stage."""
    size = [
        sum(len(coder.encode(image, s, stage.units, 0, image.shape[1])) for image in tokens)
        for s, stage in enumerate(coder.stages[: tokens.shape[1]])
    ]
    return 8.0 * np.array(size) / tokens[:, 0].size


def static_bits(stages: Sequence[Stage], tokens: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return [S, 2], entropies of each stage's tokens [N, S, h, w] (bits): of whole tokens, and the sum of their digits'.

    That is what an ideal coder with fixed frequencies would need. A tree has one digit.
    """
    bits = []
    for s, stage in enumerate(stages):
        levels = np.unravel_index(tokens[:, s].ravel(), stage.levels, "F") if stage.levels else ()
        digits = [_entropy(level) for level in levels]
        whole = _entropy(tokens[:, s])
        bits.append([whole, sum(digits) if digits else whole])
    return np.array(bits)


def _entropy(values: NDArray[np.integer]) -> float:
    counts = np.unique(values, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log2(share)).sum())
