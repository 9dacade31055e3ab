"""The masked transformer of tokens, to be trained: P(tokens of a stage | the stages before, what is known of this one).

    values of the stages before, and of this one where known --stem--> [h, w, d] --blocks, 5x5--> windows
    windows + positions --layers: attention among all places of a window; then each by itself--> [n, d]
                        --head of the stage--> a logit for each decision of the stage's token

A place whose token is unknown has values 0 and its flag off (MT of https://arxiv.org/abs/2304.07313); masks are random in training, so
one network serves any order of places, and fills in any set of lost ones. masked.py has it in integers.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ncodec.entropy.tokens import Stage
from ncodec.models.tokenizer.masked import HEAD, MLP, SIDE, MaskedConfig
from ncodec.nn.tokens import decisions_of, values_of

SLOPE = 0.1  # of leaky ReLU


def rms(x: Tensor) -> Tensor:
    """Return x [..., d], each place over the root of its mean square."""
    return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)


class Block(nn.Module):
    """Neighbours within 5x5, then each place by itself; added. [B, h, w, d]."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(d, d, 5, padding=2, groups=d)
        self.expand, self.project = nn.Linear(d, MLP * d), nn.Linear(MLP * d, d)
        nn.init.zeros_(self.project.weight), nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        near = self.depth(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.project(functional.leaky_relu(self.expand(near), SLOPE))


class Layer(nn.Module):
    """Attention among the places of a window, then each place by itself; both added. [B, n, d]."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.up, self.down = nn.Linear(d, MLP * d), nn.Linear(MLP * d, d)
        for layer in (self.o, self.down):
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        f = rms(x)
        q, k, v = (part(f).unflatten(-1, (-1, HEAD)).transpose(1, 2) for part in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) * HEAD**-0.5).softmax(-1).to(v.dtype)
        x = x + self.o((weights @ v).transpose(1, 2).flatten(2))
        return x + self.down(functional.leaky_relu(self.up(rms(x)), SLOPE))


class Head(nn.Module):
    """Logits of a stage's decisions (nats): from features [P, d] and the token's own values [P, D_s].

    Args:
        stage: its tokens.
        table: [2^(bits + 1) - 1, D_s], values of a tree.
        d: channels of features.
    """

    def __init__(self, stage: Stage, table: NDArray[np.int16] | None, d: int) -> None:
        super().__init__()
        self.stage = stage
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
        """Return logits [P, nodes] of features f [P, d], what own digits add apart."""
        f = functional.leaky_relu(self.hidden(rms(f)), SLOPE)
        return functional.linear(f, self.out(), self.bias).float()

    def cost(self, f: Tensor, tokens: Tensor, own: Tensor) -> Tensor:
        """Return nats [P] of tokens [P] of values `own` [P, D_s] at places of features f [P, d]."""
        if self.stage.levels:
            logits = self.decisions(f)
            with torch.autocast(f.device.type, enabled=False):
                logits = logits + functional.linear(torch.cat([own, own.abs()], 1), self.own * self.mask)
            coded, ones = self.coded[tokens], self.ones[tokens]
            return functional.binary_cross_entropy_with_logits(logits, ones, coded, reduction="none").sum(1)
        f = functional.leaky_relu(self.hidden(rms(f)), SLOPE)
        depth = torch.arange(self.stage.bits)
        prefix = tokens[:, None] >> (self.stage.bits - depth)
        nodes = (1 << depth) - 1 + prefix
        ones = (tokens[:, None] >> (self.stage.bits - 1 - depth)) & 1
        heads = functional.embedding(nodes, self.out())
        logits = torch.einsum("pkd,pd->pk", heads, f.float()) + self.bias[nodes]
        return functional.binary_cross_entropy_with_logits(logits, ones.float(), reduction="none").sum(1)


class Masked(nn.Module):
    """The transformer and the heads of all stages.

    Args:
        config: sizes.
        stages: what the tokens are.
        tables: by stage, int16 values [2^(bits + 1) - 1, D_s] of trees.
    """

    def __init__(
        self, config: MaskedConfig, stages: Sequence[Stage], tables: Mapping[int, NDArray[np.int16]]
    ) -> None:
        super().__init__()
        self.config, self.stages = config, tuple(stages)
        d = config.d
        every = [
            torch.from_numpy(values_of(stage, tables.get(s), np.arange(stage.size, dtype=np.int32), stage.units)).float()
            for s, stage in enumerate(stages)
        ]
        for s, values in enumerate(every):
            self.register_buffer(f"values_{s}", values, persistent=False)  # [size, D_s]
        n_values = sum(stage.n_values for stage in stages)
        self.register_buffer("unit", torch.cat([v.square().mean(0).rsqrt() for v in every]), persistent=False)
        self.stem = nn.Linear(2 * n_values + 1 + len(stages), d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(config.blocks))
        self.positions = nn.Parameter(0.02 * torch.randn(SIDE, SIDE, d))
        self.layers = nn.ModuleList(Layer(d) for _ in range(config.layers))
        self.heads = nn.ModuleList(Head(stage, tables.get(s), d) for s, stage in enumerate(stages))

    def values(self, tokens: Tensor, stage: int) -> Tensor:
        """Return [..., D_s], values of a stage's tokens [...]; 0 of -1."""
        table = self.get_buffer(f"values_{stage}")
        return table[tokens.clamp_min(0)] * (tokens >= 0)[..., None]

    def inputs(self, tokens: Tensor, stage: int, is_known: Tensor) -> Tensor:
        """Return [B, h, w, inputs] of tokens [B, S, h, w]: what is known at a stage.

        Args:
            is_known: [B, h, w], of this stage's tokens.
        """
        parts = [self.values(tokens[:, k], k) for k in range(stage)]
        parts.append(self.values(tokens[:, stage], stage) * is_known[..., None])
        c = torch.cat(parts, -1)
        c = functional.pad(c, (0, len(self.unit) - c.shape[-1])) * self.unit
        flags = torch.zeros(*c.shape[:-1], 1 + len(self.stages))
        flags[..., 0] = is_known
        flags[..., 1 + stage] = 1
        return torch.cat([c, c.abs(), flags], -1)

    def features(self, x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
        """Return [B, n, m, R, C, d] of inputs [B, h, w, ...]: n x m windows of R x C places, from (rows[0], columns[0]) on.

        Args:
            rows: the first of the windows, and their height R; as many windows as there are wholly.
            columns: likewise.
        """
        f = self.stem(x)
        for block in self.blocks:
            f = block(f)
        (top, R), (left, C) = rows, columns
        n, m = (x.shape[1] - top) // R, (x.shape[2] - left) // C
        f = f[:, top : top + n * R, left : left + m * C] .unflatten(2, (m, C)).unflatten(1, (n, R)).transpose(2, 3)
        f = f + self.positions[:R, :C]
        shape = f.shape
        f = f.flatten(0, 2).flatten(1, 2)
        for layer in self.layers:
            f = layer(f)
        return f.view(shape)


def windowed(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return [B, n, m, R, C, ...] of x [B, h, w, ...], as `Masked.features` does."""
    (top, R), (left, C) = rows, columns
    n, m = (x.shape[1] - top) // R, (x.shape[2] - left) // C
    return x[:, top : top + n * R, left : left + m * C].unflatten(2, (m, C)).unflatten(1, (n, R)).transpose(2, 3)
