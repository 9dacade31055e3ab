"""Lessons: what hyperprior-s knows of a crop, made once (training/loop.py), for the transformer to learn from.

    x, q --hyperprior-s--> y, y_hat, mean, row -----> Lesson ---> rate of y, and penalty:
                                                                  cost (y_hat - its y_hat)^2 + taught(mean, row)

What hyperprior-s expects of a latent says the same as the latent, with far less noise. It knows z, and neighbours that are
decoded later here; what cannot be known from what is decoded is noise to the transformer, and the rate decides. Its y_hat is the
target, rather than y, as g_s expects residuals that shrink. An error costs what it costs in pixels, by the derivative of g_s.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from ncodec.models.hyperprior.layers import Z_STRIDE
from ncodec.models.hyperprior.network import Hyperprior
from ncodec.nn import N_SCALES, STRIDE
from ncodec.nn.gain import at_quality, lmbda_at_quality
from ncodec.nn.priors import ScaleMixture
from ncodec.nn.trunk import Synthesis
from ncodec.quality import N_QUALITIES

LATENT_BITS = 9  # fraction bits of latents kept: +-64
FAR = 300  # latent steps, beyond which no row expects residuals
Z_PIXELS = STRIDE * Z_STRIDE
PROBES = 3  # random directions in pixels


class Lesson(NamedTuple):
    """Of crops, latents in 2^-LATENT_BITS, channels in the transformer's order."""

    y: Tensor  # int16 [B, h, w, M]
    y_hat: Tensor  # int16 [B, h, w, M]
    mean: Tensor  # int16 [B, h, w, M]
    row: Tensor  # uint8 [B, h, w, M], of the table of the residual
    cost: Tensor  # [B, M], bits a pixel, times pixels, per squared error of y_hat


class Tutor:
    """Makes lessons.

    Args:
        teacher: hyperprior-s.
        order: of its channels, int64 [M].
        cost: [8, M], of `cost_of_errors`.
    """

    def __init__(self, teacher: Hyperprior, order: Tensor, cost: Tensor) -> None:
        self.teacher, self.order = teacher.requires_grad_(False), order
        self.log_cost = cost.log()
        self.coded_from = teacher.prior_r.rows_that_skip()

    @torch.no_grad()
    def lesson(self, x: Tensor, q: Tensor) -> Lesson:
        """Return what is kept of images [B, 3, H, W] at qualities [B], H and W multiples of 16."""
        teacher = self.teacher
        height, width = x.shape[2:]
        x = pad(x, (0, -width % Z_PIXELS, 0, -height % Z_PIXELS), mode="replicate")
        y, z, index = teacher.analyse(x, q)
        index = index.round()
        y_hat, r = teacher.close(y, z.round(), q, index >= self.coded_from)
        unit = (at_quality(teacher.log_shrink, q) - at_quality(teacher.log_gain, q)).exp()
        places = slice(height // STRIDE), slice(width // STRIDE)
        y, y_hat, r, index = (part[(..., *places)] for part in (y, y_hat, r, index))
        kept = [
            self._places(latents * 2**LATENT_BITS).round().clamp(-32768, 32767).short()
            for latents in (y, y_hat, y_hat - r.round() * unit)
        ]
        cost = at_quality(self.log_cost, q).exp().flatten(1)
        return Lesson(kept[0], kept[1], kept[2], row=self._places(index).byte(), cost=cost)

    def _places(self, x: Tensor) -> Tensor:
        """[B, M, h, w] -> [B, h, w, M], channels in order."""
        return x.permute(0, 2, 3, 1)[..., self.order].contiguous()


def order_of(ours: Tensor, theirs: Tensor) -> Tensor | None:
    """Return where our channels are among theirs, by the rows of one layer's weights [M, n]; None: they are others."""
    distance, order = torch.cdist(ours.float(), theirs.float()).min(1)
    is_same = len(torch.unique(order)) == len(theirs) and bool(
        (distance < 0.05 * theirs.norm(dim=1)[order]).all()
    )
    return order if is_same else None


def cost_of_errors(
    g_s: Synthesis, latents: Callable[[Tensor], Tensor], device: torch.device
) -> Tensor:
    """Return what a squared error of y_hat costs, by quality and channel [8, M]: lambda · 255² · squared error, its sum over pixels.

    Args:
        g_s: from y_hat to pixels.
        latents: y_hat [B, M, h, w] of some images at qualities [1].
        device: of both.
    """
    costs, generator = [], torch.Generator(device).manual_seed(0)  # a resumed run has the same
    for quality in torch.arange(1.0, N_QUALITIES + 1, device=device)[:, None]:
        y_hat = latents(quality).detach().requires_grad_()
        x_hat = g_s(y_hat, quality.expand(len(y_hat)))
        total = torch.zeros(y_hat.shape[1], device=device)
        for _ in range(PROBES):  # the mean square over directions is the sum over pixels
            probe = torch.randn(x_hat.shape, generator=generator, device=device)
            (slope,) = torch.autograd.grad(x_hat, y_hat, probe, retain_graph=True)
            total += slope.square().mean((0, 2, 3)) / PROBES
        costs.append(lmbda_at_quality(quality) * 255**2 / 3 * total)
    return torch.stack(costs).clamp_min(1e-9)


@torch.no_grad()
def cost_of_opinions(prior: ScaleMixture) -> tuple[Tensor, Tensor]:
    """Return what other opinions of a residual cost, by its row [64]: bits per squared step of the row, and of the mean.

    Half the Fisher information of the row's density, by differences of half a row and a quarter of a latent step.
    """
    device = prior.weight.device
    r = torch.arange(-FAR, FAR + 1.0, device=device)
    row = torch.arange(float(N_SCALES), device=device)[:, None]

    def log(shift: float, rows: float) -> Tensor:
        return prior.likelihood((r + shift).expand(N_SCALES, -1), row + rows).log()

    p = log(0, 0).exp()
    by_row, by_mean = log(0, 0.5) - log(0, -0.5), 2 * (log(0.25, 0) - log(-0.25, 0))
    return tuple((p * v.square()).sum(1) / (2 * math.log(2)) for v in (by_row, by_mean))  # type: ignore[return-value]
