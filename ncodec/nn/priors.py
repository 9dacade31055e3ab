"""Probability models: p(symbol) in training, integer frequencies when the weights are exported.

    y   zero-mean scale mixture of two Gaussians per row; a row is an index 0...63 on a logarithmic scale
    z   mixture of three logistics per channel and quality

Only `indexes` and integer `tables` reach the entropy coder; everything here runs in training and export.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ncodec.entropy import FREQ_BITS, FrequencyTables
from ncodec.nn import N_SCALES
from ncodec.nn.gain import at_quality
from ncodec.nn.quantize import uniform_noise, with_gradient_of
from ncodec.quality import N_QUALITIES

SCALE_MIN, SCALE_MAX = 0.11, 128.0
LOG_SCALE_STEP = math.log(SCALE_MAX / SCALE_MIN) / (N_SCALES - 1)
LIKELIHOOD_MIN = 1e-9
# Of a residual far outside its row: 14 bits of the table, some 6 of value.
ESCAPE_LIKELIHOOD = 2.0**-20
LONGEST_ROW = 511  # symbols; wider ones are escapes
TAIL = 2.0**-FREQ_BITS
# Fewer would save rate on photographs (0.2 % at 5 bits), and lose what the model did not foresee: whole blocks
# of bright flat images, by tens of levels.
SKIP_BITS = 12.0


def index_of_scale(scale: Tensor) -> Tensor:
    """Return the real-valued index whose standard deviation is `scale` (latent steps)."""
    return (scale.log() - math.log(SCALE_MIN)) / LOG_SCALE_STEP


def _gaussian_box(r: Tensor, scale: Tensor) -> Tensor:
    """Return the mass of N(0, scale**2) on [r - 0.5, r + 0.5]; |r| keeps the tails accurate."""
    a = r.abs()
    c = math.sqrt(0.5) / scale
    return 0.5 * (torch.erfc((a - 0.5) * c) - torch.erfc((a + 0.5) * c))


class ScaleMixture(nn.Module):
    """Zero-mean density whose width is set by a table index and whose tails are learned.

    Scales come from z alone, so a row sees symbols of several true scales: a mixture of a narrow and
    a wide Gaussian fits better than one Gaussian. Weight and ratio vary linearly with the index.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-1.4, 0.0]))  # logit of the wide part's weight
        self.ratio = nn.Parameter(torch.tensor([0.7, 0.0]))  # log of wide / narrow

    def likelihood(self, r: Tensor, index: Tensor, learn: bool = True) -> Tensor:
        """Return p(r), shaped like `r`, for residuals in latent steps and real-valued indexes.

        Without `learn` only `r` gets a gradient.
        """
        weight: Tensor = self.weight
        log_ratio: Tensor = self.ratio
        if not learn:
            weight, log_ratio, index = weight.detach(), log_ratio.detach(), index.detach()
        scale = torch.exp(index * LOG_SCALE_STEP + math.log(SCALE_MIN))
        t = index / (N_SCALES - 1)
        wide = torch.sigmoid(weight[0] + weight[1] * t)
        ratio = torch.exp(log_ratio[0] + log_ratio[1] * t)
        p = torch.lerp(_gaussian_box(r, scale), _gaussian_box(r, scale * ratio), wide)
        return p.clamp_min(LIKELIHOOD_MIN)

    def bits(self, r: Tensor, index: Tensor, noise: list[torch.Generator] | None) -> Tensor:
        """Return what residuals cost, shaped like them: rounded, but with noise in their gradient (nn/quantize.py).

        Args:
            r: not rounded yet, in latent steps.
            index: real-valued.
            noise: one generator per image; None: as in files, no gradient of `r`.
        """
        hard = self.likelihood(r.detach().round(), index)
        if noise is None:
            return -hard.clamp_min(ESCAPE_LIKELIHOOD).log2()
        soft = self.likelihood(r + uniform_noise(r, noise), index, learn=False)
        return with_gradient_of(-hard.log2(), -soft.log2())

    def fit(self, frequencies: Tensor) -> None:
        """Take the probabilities of tables [64, s], one row an index."""
        rows = torch.arange(N_SCALES).double()[:, None]
        fit_to_tables(self, frequencies, lambda symbols: self.likelihood(symbols, rows))

    @torch.no_grad()
    def rows_that_skip(self) -> int:
        """Return how many of the first rows need no coding: there ±1 takes `SKIP_BITS` more than 0."""
        index = torch.arange(float(N_SCALES), device=self.weight.device)
        zero, one = (self.likelihood(torch.full_like(index, r), index) for r in (0.0, 1.0))
        dear = (zero / one).log2() > SKIP_BITS
        return int(dear.cumprod(0).sum())

    @torch.no_grad()
    def pmf_rows(self, longest: int, tail: float) -> list[Tensor]:
        """Return per index p(0), p(-1), p(1), …, and last the mass outside: what tables are made of.

        A row ends where less than `tail` is outside, or at `longest` symbols.
        """
        rows = []
        for index in range(N_SCALES):
            half = torch.arange(longest // 2 + 1, dtype=torch.float64)
            p = self.double().likelihood(half, torch.tensor(float(index), dtype=torch.float64))
            outside = 1 - (2 * p.cumsum(0) - p[0])
            last = int((outside >= tail).sum().clamp(max=longest // 2))
            row = torch.cat([p[:1], p[1 : last + 1].repeat_interleave(2)])
            rows.append(torch.cat([row, outside[last].clamp_min(tail / 2)[None]]))
        return rows


def frequencies_of(prior: "ScaleMixture | FactorizedPrior") -> NDArray[np.uint16]:
    """Return the tables of a weights file that say what a prior does, [rows, longest]."""
    rows = deepcopy(prior).pmf_rows(LONGEST_ROW, TAIL)  # in float64, which it stays
    frequencies: NDArray[Any] = FrequencyTables.from_pmf([row.numpy() for row in rows]).frequencies
    return frequencies


def probabilities_of(frequencies: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return symbols [s], their probabilities [k, s] and the escape's [k]: the inverse of `quantise_pmf`.

    Args:
        frequencies: [k, s] as in `entropy.FrequencyTables`: zigzag order, the last of a row its escape.
    """
    frequencies = frequencies.double()
    entries = torch.arange(frequencies.shape[1])
    symbols = torch.where(entries % 2 == 0, entries // 2, -(entries + 1) // 2).double()
    sizes = (frequencies > 0).sum(1, keepdim=True)
    # `quantise_pmf` gives every entry 1, and shares the rest.
    share = (frequencies - 1).clamp_min(0) / (2**FREQ_BITS - sizes)
    return symbols, share.where(entries < sizes - 1, 0), share.gather(1, sizes - 1)[:, 0]


def fit_to_tables(
    prior: nn.Module, frequencies: Tensor, likelihoods: Callable[[Tensor], Tensor]
) -> None:
    """Set a prior's parameters so that it has the probabilities of integer tables, as near as it can.

    Args:
        prior: changed in place.
        frequencies: [k, s] as in `entropy.FrequencyTables`.
        likelihoods: p [k, s] of symbols [s], one row a table, by `prior`.
    """
    symbols, share, escape = probabilities_of(frequencies)
    is_symbol = share > 0
    prior.double()
    optimizer = torch.optim.LBFGS(prior.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def cross_entropy() -> Tensor:
        optimizer.zero_grad()
        p = likelihoods(symbols).where(is_symbol, 0)
        outside = (1 - p.sum(1)).clamp_min(LIKELIHOOD_MIN)
        coded = share * p.clamp_min(LIKELIHOOD_MIN).log()
        loss = -(coded.sum(1) + escape * outside.log()).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(cross_entropy)  # type: ignore[no-untyped-call]
    prior.float()


class FactorizedPrior(nn.Module):
    """p(z): three logistics per channel and quality, after Balle et al. 2018's factorised prior."""

    N_MIX = 3

    def __init__(self, channels: int) -> None:
        super().__init__()
        shape = (N_QUALITIES, channels * self.N_MIX)
        self.mean = nn.Parameter(
            torch.tensor([-0.5, 0.0, 0.5]).repeat(channels).expand(shape).clone()
        )
        self.log_scale = nn.Parameter(
            torch.tensor([0.0, -1.0, 0.0]).repeat(channels).expand(shape).clone()
        )
        self.logit = nn.Parameter(torch.zeros(shape))

    def likelihood(self, z: Tensor, q: Tensor) -> Tensor:
        """Return p(z) [B, Z, H, W] at qualities q [B]."""
        batch, channels = z.shape[:2]
        parts = (batch, channels, self.N_MIX, 1, 1)
        mean = at_quality(self.mean, q).reshape(parts)
        c = torch.exp(-at_quality(self.log_scale, q).reshape(parts))
        weight = at_quality(self.logit, q).reshape(parts).softmax(2)
        a = (z[:, :, None] - mean).abs()
        p = torch.sigmoid((0.5 - a) * c) - torch.sigmoid((-0.5 - a) * c)
        return (weight * p).sum(2).clamp_min(LIKELIHOOD_MIN)

    def fit(self, frequencies: Tensor) -> None:
        """Take the probabilities of tables [8 Z, s], row (quality - 1) · Z + channel."""
        q = torch.arange(1.0, N_QUALITIES + 1, dtype=torch.float64)
        channels = self.mean.shape[1] // self.N_MIX

        def likelihoods(symbols: Tensor) -> Tensor:
            grid = symbols.expand(N_QUALITIES, channels, 1, -1)
            return self.likelihood(grid, q).flatten(0, 2)  # [8 Z, s]

        symbols, share, _ = probabilities_of(frequencies)
        mean = share @ symbols
        std = (share @ symbols**2 - mean**2).clamp_min(0.01).sqrt()
        with torch.no_grad():
            spread = torch.tensor([-0.5, 0.0, 0.5], dtype=torch.float64)
            self.mean.copy_((mean[:, None] + std[:, None] * spread).view_as(self.mean))
            self.log_scale.copy_((std[:, None] * 0.5).log().expand(-1, 3).reshape_as(self.mean))
        fit_to_tables(self, frequencies, likelihoods)

    @torch.no_grad()
    def pmf_rows(self, longest: int, tail: float) -> list[Tensor]:
        """Return per quality and channel p(0), p(-1), p(1), …, and last the mass outside."""
        half = longest // 2
        support = torch.arange(-half, half + 1, dtype=torch.float64)
        zigzag = torch.stack(
            [torch.arange(-1, -half - 1, -1), torch.arange(1, half + 1)], 1
        ).flatten()
        order = torch.cat([torch.zeros(1, dtype=torch.long), zigzag]) + half
        rows = []
        for quality in range(N_QUALITIES):
            q = torch.tensor([1.0 + quality], dtype=torch.float64)
            channels = self.mean.shape[1] // self.N_MIX
            grid = support.expand(1, channels, 1, -1)
            p = self.double().likelihood(grid, q)[0, :, 0][:, order]  # [Z, symbols]
            outside = 1 - p.cumsum(1)
            for row, rest in zip(p, outside, strict=True):
                end = min(int((rest >= tail).sum()) + 1, len(row))
                rows.append(torch.cat([row[:end], rest[end - 1].clamp_min(tail / 2)[None]]))
        return rows
