"""The masked transformer of tokens, to be trained: P(tokens of a stage | the stages before, those of this one to the left and above).

    values of the stages before --stem--> [h, w, d] --blocks, 5x5--> windows
    windows + positions --layers: attention among the places of a window; then each by itself--> [n, d]
                        --head of the stage--> + --> a logit for each decision of the stage's token
    values at 3x3 places: the stages before, and to the left and above of this one --near--^

So a picture costs one run a stage. Lost tokens are filled in by a network beside it (fill_network.py). masked.py has it in integers.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ncodec.entropy.tokens import Stage
from ncodec.errors import InputError
from ncodec.models.tokenizer.fill_network import Block, Filling
from ncodec.models.tokenizer.masked import MLP, SIDE, MaskedConfig, spans
from ncodec.nn.tokens import HIDDEN_BITS, LEFT, LOGIT_BITS, decisions_of, values_of
from ncodec.nn.transformer import SLOPE, TransformerLayer, norm

HIDDEN_UNIT = 2**HIDDEN_BITS  # of the networks that it starts from
Span = NDArray[np.int64]  # places of windows along an axis, [windows, places of each]


class Near(nn.Module):
    """What values at 3x3 places say of a stage by themselves: [B, h, w, E + D_s] -> [B, h, w, B]. Starts as the coder's network."""

    mask: Tensor  # [1, E + D_s, 3, 3]

    def __init__(self, before: int, n_values: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(before + n_values, width, 3, padding=1)
        mask = torch.ones(1, before + n_values, 3, 3)
        mask[:, before:] = 0
        for i, j in LEFT:
            mask[:, before:, 1 + i, 1 + j] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, c: Tensor) -> Tensor:
        weight = self.hidden.weight * self.mask
        f = functional.conv2d(c.permute(0, 3, 1, 2), weight, self.hidden.bias, padding=1)
        return f.permute(0, 2, 3, 1).relu()


class Head(nn.Module):
    """Logits of a stage's decisions (nats): from features [P, d + B] and the token's own values [P, D_s].

    Args:
        stage: its tokens.
        table: [2^(bits + 1) - 1, D_s], values of a tree.
        d: channels of the transformer's features.
        width: those of `Near`.
    """

    coded: Tensor  # digits: [tokens, nodes], whether a token takes a decision,
    ones: Tensor  # and how it goes
    mask: Tensor  # digits: [nodes, 2 D_s], the digits before a node's
    apart: Tensor  # trees: [nodes, D_s], between a node's children

    def __init__(self, stage: Stage, table: NDArray[np.int16] | None, d: int, width: int) -> None:
        super().__init__()
        self.stage, self.d = stage, d
        self.near = nn.Parameter(torch.zeros(stage.nodes, width))
        self.hidden = nn.Linear(d, d)
        self.bias = nn.Parameter(torch.zeros(stage.nodes))
        self.weight = nn.Parameter(torch.zeros(stage.nodes, d))
        if stage.levels:
            tokens = np.arange(stage.size, dtype=np.int32)
            nodes, bins, _ = decisions_of(stage, tokens)  # [size, K]
            coded, ones = np.zeros((2, stage.size, stage.nodes), np.float32)
            rows, columns = np.nonzero(nodes >= 0)
            coded[rows, nodes[rows, columns]] = 1
            ones[rows, nodes[rows, columns]] = bins[rows, columns]
            self.register_buffer("coded", torch.from_numpy(coded), persistent=False)
            self.register_buffer("ones", torch.from_numpy(ones), persistent=False)
            digit = np.repeat(np.arange(stage.units), np.subtract(stage.levels, 1))
            mask = np.tile(np.arange(stage.units) < digit[:, None], 2)
            self.register_buffer("mask", torch.from_numpy(mask).float(), persistent=False)
            self.own = nn.Parameter(torch.zeros(stage.nodes, 2 * stage.units))
        else:
            assert table is not None
            children = torch.from_numpy(table[1:].reshape(stage.nodes, 2, -1)).float()
            apart = children[:, 1] - children[:, 0]
            self.register_buffer("apart", apart / apart.abs().max().clamp_min(1))
            self.shared = nn.Parameter(torch.zeros(stage.n_values, d))

    def out(self) -> Tensor:
        """Return weights [nodes, d]. A tree's: a linear map of what parts its children, and what is their own."""
        return self.weight if self.stage.levels else self.weight + self.apart @ self.shared

    def decisions(self, f: Tensor) -> Tensor:
        """Return logits [P, nodes] of features f [P, d + B], what own digits add apart."""
        return functional.linear(
            self._wide(f), torch.cat([self.out(), self.near], 1), self.bias
        ).float()

    def _wide(self, f: Tensor) -> Tensor:
        """Return [P, d + B], what logits are linear in."""
        hidden = functional.leaky_relu(self.hidden(norm(f[:, : self.d])), SLOPE)
        return torch.cat([hidden, f[:, self.d :]], 1)

    def cost(self, f: Tensor, tokens: Tensor, own: Tensor) -> Tensor:
        """Return nats [P] of tokens [P] of values `own` [P, D_s] at places of features f [P, d + B]."""
        if self.stage.levels:
            logits = self.decisions(f)
            with torch.autocast(f.device.type, enabled=False):
                logits = logits + functional.linear(
                    torch.cat([own, own.abs()], 1), self.own * self.mask
                )
            coded, ones = self.coded[tokens], self.ones[tokens]
            return functional.binary_cross_entropy_with_logits(
                logits, ones, coded, reduction="none"
            ).sum(1)
        depth = torch.arange(self.stage.bits, device=tokens.device)
        prefix = tokens[:, None] >> (self.stage.bits - depth)
        nodes = (1 << depth) - 1 + prefix
        ones = (tokens[:, None] >> (self.stage.bits - 1 - depth)) & 1
        heads = functional.embedding(nodes, torch.cat([self.out(), self.near], 1))
        logits = torch.einsum("pkd,pd->pk", heads, self._wide(f).float()) + self.bias[nodes]
        return functional.binary_cross_entropy_with_logits(
            logits, ones.float(), reduction="none"
        ).sum(1)


class Masked(nn.Module):
    """The transformer, the heads of all stages, and what fills in lost tokens.

    Args:
        config: sizes.
        stages: what the tokens are.
        tables: by stage, int16 values [2^(bits + 1) - 1, D_s] of trees.
    """

    unit: Tensor  # [D], 1 / the usual magnitude of values

    def __init__(
        self, config: MaskedConfig, stages: Sequence[Stage], tables: Mapping[int, NDArray[np.int16]]
    ) -> None:
        super().__init__()
        self.config, self.stages = config, tuple(stages)
        d = config.d
        every = [
            torch.from_numpy(
                values_of(stage, tables.get(s), np.arange(stage.size, dtype=np.int32), stage.units)
            ).float()
            for s, stage in enumerate(stages)
        ]
        for s, values in enumerate(every):
            self.register_buffer(f"values_{s}", values, persistent=False)  # [size, D_s]
        n_values = sum(stage.n_values for stage in stages)
        self.register_buffer(
            "unit", torch.cat([v.square().mean(0).rsqrt() for v in every]), persistent=False
        )
        self.stem = nn.Linear(2 * n_values + len(stages), d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(config.blocks))
        self.positions = nn.Parameter(0.02 * torch.randn(SIDE, SIDE, d))
        self.layers = nn.ModuleList(TransformerLayer(d, MLP * d) for _ in range(config.layers))
        sizes = [stage.n_values for stage in stages]
        self.near = nn.ModuleList(Near(sum(sizes[:s]), n, config.near) for s, n in enumerate(sizes))
        self.heads = nn.ModuleList(
            Head(stage, tables.get(s), d, config.near) for s, stage in enumerate(stages)
        )
        self.fill = Filling(config.fill, stages, self.unit)

    def parts_of(self, stage: int) -> tuple[Near, Head]:
        """Return what a stage has of its own."""
        near, head = self.near[stage], self.heads[stage]
        assert isinstance(near, Near) and isinstance(head, Head)
        return near, head

    def values(self, tokens: Tensor, stage: int) -> Tensor:
        """Return [..., D_s], values of a stage's tokens [...]; 0 of -1."""
        table = self.get_buffer(f"values_{stage}")
        return table[tokens.clamp_min(0)] * (tokens >= 0)[..., None]

    def seen(self, tokens: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Return inputs [B, h, w, ...] and what is near [B, h, w, B], of what is known of tokens [B, S, h, w] at a stage."""
        parts = [self.values(tokens[:, k], k) for k in range(stage)]
        own = self.values(tokens[:, stage], stage)
        near = self.parts_of(stage)[0](torch.cat([*parts, own], -1))
        c = torch.cat([*parts, own * 0], -1)
        c = functional.pad(c, (0, len(self.unit) - c.shape[-1])) * self.unit
        flags = c.new_zeros(*c.shape[:-1], len(self.stages))
        flags[..., stage] = 1
        return torch.cat([c, c.abs(), flags], -1), near

    def features(self, x: Tensor, near: Tensor, rows: Span, columns: Span) -> Tensor:
        """Return [B, n, m, R, C, d + B] of what is `seen` at n x m windows of rows [n, R] and columns [m, C]."""
        f = self.stem(x)
        for block in self.blocks:
            f = block(f)
        f = windowed(f, rows, columns) + self.positions[: rows.shape[1], : columns.shape[1]]
        shape = f.shape
        f = f.flatten(0, 2).flatten(1, 2)  # [B n m, R C, d]
        for layer in self.layers:
            f = layer(f, f, None)
        return torch.cat([f.view(shape), windowed(near, rows, columns)], -1)

    def cost(self, f: Tensor, tokens: Tensor, rows: Span, columns: Span, stage: int) -> Tensor:
        """Return nats of each token of a stage [B, h, w] of some windows, in order; f are their features."""
        some = windowed(tokens, rows, columns).flatten()
        _, head = self.parts_of(stage)
        return head.cost(f.flatten(0, -2), some, self.values(some, stage))

    def fill_errors(self, tokens: Tensor, known: Tensor, n_stages: int, metric: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return what `Filling.errors` does, of tokens [B, S, h, w]."""
        c = torch.cat([self.values(tokens[:, s], s) for s in range(len(self.stages))], -1)
        return self.fill.errors(c, known, n_stages, metric)

    @torch.no_grad()
    def start_from(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Begin as the networks of entropy/tokens.py, `tokens.*`, code.

        Raises:
            InputError: `near` is too small for them.
        """
        before = 0
        for s, stage in enumerate(self.stages):
            near, head = self.parts_of(s)
            arrays = {
                name: torch.from_numpy(tensors[f"tokens.{s}.{name}"]).float()
                for name in ("hidden.weight", "hidden.bias", "head.weight", "head.bias")
            }
            to_hidden, to_logit = (2.0 ** -tensors[f"tokens.{s}.shifts"]).tolist()
            n, width = stage.n_values, len(arrays["hidden.bias"])
            if width > self.config.near:
                raise InputError(
                    f"near: expected at least the tokenizer's {width}, found {self.config.near}"
                )
            left, around = arrays["hidden.weight"][:, : 4 * n], arrays["hidden.weight"][:, 4 * n :]
            assert near.hidden.bias is not None
            weight = torch.zeros_like(near.hidden.weight).permute(0, 2, 3, 1)  # [B, 3, 3, E + D_s]
            weight[:width, :, :, :before] = around.view(width, 3, 3, before)
            for k, (i, j) in enumerate(LEFT):
                weight[:width, 1 + i, 1 + j, before:] = left[:, k * n : k * n + n]
            scale = to_hidden / HIDDEN_UNIT
            near.hidden.weight.copy_(weight.permute(0, 3, 1, 2) * scale)
            near.hidden.bias[:width] = arrays["hidden.bias"] * scale
            scale = to_logit / 2**LOGIT_BITS
            head.near[:, :width] = arrays["head.weight"] * (scale * HIDDEN_UNIT)
            head.bias.copy_(arrays["head.bias"] * scale)
            if stage.levels:
                own = torch.from_numpy(tensors[f"tokens.{s}.own.weight"]).float()
                head.own[:, : own.shape[1]] = own * scale
            before += n

    def file_bits(self, tokens: Tensor, n_stages: int) -> Tensor:
        """Return what a file has for the first stages of one picture's tokens [1, S, h, w], bits; no context adapted."""
        height, width = tokens.shape[2:]
        bits = torch.zeros((), device=tokens.device)
        for stage in range(n_stages):
            seen = self.seen(tokens, stage)
            for rows, columns in product(spans(height), spans(width)):
                f = self.features(*seen, rows, columns)
                bits += self.cost(f, tokens[:, stage], rows, columns, stage).sum()
        return bits / math.log(2)


def windowed(x: Tensor, rows: Span, columns: Span) -> Tensor:
    """Return [B, n, m, R, C, ...] of x [B, h, w, ...], at rows [n, R] and columns [m, C]."""
    return x[:, rows[:, None, :, None], columns[None, :, None, :]]


def random_windows(n: int, rng: np.random.Generator) -> Span:
    """Return windows along n places: those of a file, or, more rarely, one anywhere."""
    if rng.random() < 0.7:
        return spans(n)[0]
    side = int(rng.integers(min(n, SIDE // 3), min(n, SIDE) + 1))
    return rng.integers(n - side + 1) + np.arange(side)[None]
