"""p(z | its neighbours): fitted to the z of a trained model, then rounded to the integers that the coder runs on.

    z of many images, by quality --fit--> NeighbourPrior --to_arrays--> arrays of entropy/neighbours.py, tables

What is learned is all the decoder needs: a mean and a width per channel. The shape around the mean is a mixture of
two logistics, the same in every channel, and depends on the width alone: that makes a row of a table.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ncodec.entropy import FREQ_BITS, FrequencyTables
from ncodec.entropy.neighbours import GRID_MAX, MEAN_BITS, N_EIGHTHS, N_NEIGHBOURS, N_WIDTHS
from ncodec.nn.gain import at_quality
from ncodec.quality import N_QUALITIES, QUALITY_STEPS, quality_of

WIDTH_MIN, WIDTH_MAX = 0.05, 12.0  # scale of a logistic, in steps of z
LOG_WIDTH_STEP = math.log(WIDTH_MAX / WIDTH_MIN) / (N_WIDTHS - 1)
FLOOR = 2.0**-FREQ_BITS  # what a table gives to any symbol, about
BATCH, LEARNING_RATE, MOST_STEPS = 384, 6e-3, 4000
WEIGHT_MAX, SUM_MAX = 2**15 - 1, 2**31 - 2**20  # of an integer layer; its sums, rounding apart
HIDDEN_MAX = 2**15 - 1


class NeighbourPrior(nn.Module):
    """Mean and width of z [P, Z] from x [P, 4 Z], its neighbours, at qualities [P] (1 to 8).

    Args:
        mean, std: [8, Z] of z at each quality, where it starts.
        width: hidden units.
    """

    unit: Tensor  # [Z]

    def __init__(self, mean: Tensor, std: Tensor, width: int) -> None:
        super().__init__()
        channels = mean.shape[1]
        self.register_buffer("unit", 1 / (std.mean(0) + 0.1))
        self.hidden = nn.Linear(N_NEIGHBOURS * channels, width)
        self.head = nn.Linear(width, 2 * channels, bias=False)
        nn.init.zeros_(self.head.weight)
        self.own = nn.Parameter(torch.zeros(N_NEIGHBOURS, channels))
        log_width = (0.55 * std / WIDTH_MIN).log()
        self.offset = nn.Parameter(torch.cat([mean, log_width], 1))  # [8, 2 Z]
        self.shape = nn.Parameter(
            torch.tensor([-2.0, 0.0, 0.8, 0.0])
        )  # weight, ratio: of the log width

    def forward(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Return means (steps of z) and log(width / WIDTH_MIN), [P, Z] each."""
        channels = self.own.shape[1]
        scaled = x * self.unit.repeat(N_NEIGHBOURS)
        out = (
            self.head(torch.relu(self.hidden(scaled)))
            + at_quality(self.offset, quality)[:, :, 0, 0]
        )
        mean, log_width = out.split(channels, 1)
        own = (scaled.view(-1, N_NEIGHBOURS, channels) * self.own).sum(1)
        return mean + own, log_width

    def likelihood(self, z: Tensor, mean: Tensor, log_width: Tensor) -> Tensor:
        """Return p(z)."""
        log_width = log_width.clamp(0, (N_WIDTHS - 1) * LOG_WIDTH_STEP) + math.log(WIDTH_MIN)
        share = torch.sigmoid(self.shape[0] + self.shape[1] * log_width)
        narrow = torch.exp(-log_width)
        wide = torch.exp(-log_width - self.shape[2] - self.shape[3] * log_width)
        a = (z - mean).abs()
        return torch.lerp(_box(a, narrow), _box(a, wide), share)

    @torch.no_grad()
    def start_linear(self, x: Tensor, z: Tensor) -> None:
        """Let every channel be predicted linearly from itself; z [P, Z] has no mean."""
        channels = self.own.shape[1]
        for c in range(channels):
            own = x[:, c::channels].double()
            moments = own.T @ own + torch.eye(N_NEIGHBOURS)
            self.own[:, c] = torch.linalg.solve(moments, own.T @ z[:, c].double()) / self.unit[c]

    @torch.no_grad()
    def among(self, places: Tensor, channels: int) -> "NeighbourPrior":
        """Return the prior of more channels, of which this one's are at `places` and the others 0."""
        width = len(self.hidden.bias)
        dead = torch.zeros(N_QUALITIES, channels)
        whole = NeighbourPrior(dead, dead + WIDTH_MIN, width)
        both = torch.cat([places, channels + places])
        inputs = (torch.arange(N_NEIGHBOURS)[:, None] * channels + places).flatten()
        whole.unit[places] = self.unit
        whole.hidden.weight.zero_()[:, inputs] = self.hidden.weight
        whole.hidden.bias.copy_(self.hidden.bias)
        whole.head.weight[both] = self.head.weight
        whole.own[:, places] = self.own
        whole.offset[:, both] = self.offset
        whole.shape.copy_(self.shape)
        return whole

    @torch.no_grad()
    def tables(self) -> FrequencyTables:
        """Return a row for every fraction of the mean and width."""
        rows: list[ArrayLike] = []
        symbols = torch.arange(2 * GRID_MAX + 1, dtype=torch.float64)
        symbols = torch.where(symbols % 2 == 0, symbols / 2, -(symbols + 1) / 2)  # zigzag
        for row in range(N_WIDTHS * N_EIGHTHS):
            mean = torch.tensor((row % N_EIGHTHS - N_EIGHTHS // 2) / N_EIGHTHS, dtype=torch.float64)
            width = torch.tensor(row // N_EIGHTHS * LOG_WIDTH_STEP, dtype=torch.float64)
            p = self.likelihood(symbols, mean, width)
            outside = (1 - p.cumsum(0)).clamp_min(FLOOR / 2)
            end = min(int((outside >= FLOOR).sum()) + 1, len(p))
            rows.append(torch.cat([p[:end], outside[end - 1 : end]]).numpy())
        return FrequencyTables.from_pmf(rows)

    @torch.no_grad()
    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the integers of entropy/neighbours.py, and "offset" [8, 2 Z]."""
        channels = self.own.shape[1]
        row = torch.ones(2 * channels)
        row[channels:] = 1 / LOG_WIDTH_STEP  # the network's widths are in rows
        hidden = self.hidden.weight * self.unit.repeat(N_NEIGHBOURS)
        head = self.head.weight * row[:, None]
        own = self.own * self.unit
        hidden_bits = _bits(hidden, GRID_MAX, 1, self.hidden.bias)
        head_bits, own_bits = _bits(head, HIDDEN_MAX, 1), _bits(own, GRID_MAX, 0)
        return {
            "hidden.weight": _integers(hidden, hidden_bits, np.int16),
            "hidden.bias": _integers(self.hidden.bias, hidden_bits, np.int32),
            "head.weight": _integers(head, head_bits, np.int16),
            "own.weight": _integers(own, own_bits, np.int16),
            "shifts": np.array(
                [hidden_bits - MEAN_BITS, head_bits, own_bits - MEAN_BITS], np.int32
            ),
            "offset": _integers(self.offset * row, MEAN_BITS, np.int16),
        }


def _box(a: Tensor, c: Tensor) -> Tensor:
    """Return the mass of a logistic of scale 1/c on [a - 0.5, a + 0.5], a >= 0: accurate in the tail."""
    return torch.sigmoid((0.5 - a) * c) - torch.sigmoid((-0.5 - a) * c)


def _bits(weight: Tensor, bound: int, axis: int, bias: Tensor | None = None) -> int:
    """Return how many fraction bits, up to 14, leave weights and their sums with inputs within ±bound in range."""
    total = float((weight.abs().sum(axis) * bound + (0 if bias is None else bias.abs())).max())
    largest = float(weight.abs().max())
    bits = 14
    while largest * 2**bits > WEIGHT_MAX or total * 2**bits > SUM_MAX:
        bits -= 1
    return bits


def _integers(values: Tensor, bits: int, kind: type) -> NDArray[np.generic]:
    return np.rint(values.double().numpy() * 2.0**bits).astype(kind)


def neighbours_of(z: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return [n, h, w, 4 Z], the neighbours of z [n, h, w, Z]: left, above left, above, above right; 0 outside."""
    height, width = z.shape[1:3]
    around = np.pad(z, ((0, 0), (1, 0), (1, 1), (0, 0)))
    places = [(1, 0), (0, 0), (0, 1), (0, 2)]
    return np.concatenate([around[:, i : i + height, j : j + width] for i, j in places], 3)


def fit(
    z: Mapping[int, NDArray[np.integer]], width: int, steps: int | None = None, seed: int = 0
) -> NeighbourPrior:
    """Return the prior of z that costs least.

    Args:
        z: by quality code, those of the eight qualities among them, [n, h, w, Z], |z| <= 127. Codes between are
            worth having: a channel that is constant may change its value there.
        width: hidden units.
        steps: of gradient descent; None: eight times all positions, at most 4000 (a minute or two).
    """
    channels = z[0].shape[3]
    alive = np.flatnonzero(
        [any(grid[..., c].any() for grid in z.values()) for c in range(channels)]
    )
    grids = {code: np.ascontiguousarray(grid[..., alive]) for code, grid in z.items()}
    x = torch.cat([torch.from_numpy(neighbours_of(grid)).flatten(0, 2) for grid in grids.values()])
    targets = {code: torch.from_numpy(grid).flatten(0, 2) for code, grid in grids.items()}
    target = torch.cat(list(targets.values()))
    quality = torch.cat([torch.full((len(t),), quality_of(code)) for code, t in targets.items()])
    whole = [targets[q * QUALITY_STEPS].float() for q in range(N_QUALITIES)]
    mean = torch.stack([t.mean(0) for t in whole])
    std = torch.stack([t.std(0) for t in whole]).clamp_min(WIDTH_MIN)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prior = NeighbourPrior(mean, std, width)
    prior.start_linear(x, target.float() - at_quality(mean, quality)[:, :, 0, 0])
    steps = steps or min(8 * len(target) // BATCH + 1, MOST_STEPS)
    optimizer = torch.optim.Adam(prior.parameters())
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 - step / steps)
        batch = torch.randint(len(target), (BATCH,), generator=generator)
        p = prior.likelihood(target[batch].float(), *prior(x[batch].float(), quality[batch]))
        loss = -(p + FLOOR).log2().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return prior.among(torch.from_numpy(alive), channels)
