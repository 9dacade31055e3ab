"""The network that fills in lost tokens, to be trained: the mean of their values by all that is known around them.

    c [B, h, w, D], what `line_of` gives where tokens are lost  --+
    which stages are known [B, h, w, S]                         --+--stem--> blocks, 5x5 --out--> + --> c, there alone

The mean and not the likeliest, as it is the least squared error that is wanted: of pixels, as the linear path of the
decoder makes them. It starts as what it is given. filling.py has it in integers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ncodec.entropy.tokens import Stage
from ncodec.exact.network import PIXEL_BITS
from ncodec.models.tokenizer.filling import BLOCKS, conceal
from ncodec.nn.transformer import SLOPE


class Block(nn.Module):
    """Neighbours within 5x5, then each place by itself; added. [B, h, w, d]."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(d, d, 5, padding=2, groups=d)
        self.expand, self.project = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        nn.init.zeros_(self.project.weight), nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor) -> Tensor:
        near = self.depth(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.project(functional.leaky_relu(self.expand(near), SLOPE))


class Filling(nn.Module):
    """What fills in tokens of these stages.

    Args:
        width: channels.
        stages: what the tokens are.
        unit: [D], 1 / the usual magnitude of values.
    """

    unit: Tensor
    of_channel: Tensor  # [D], the stage of each channel

    def __init__(self, width: int, stages: Sequence[Stage], unit: Tensor) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self.register_buffer("unit", unit, persistent=False)
        sizes = torch.tensor([stage.n_values for stage in stages])
        of_channel = torch.arange(len(stages)).repeat_interleave(sizes)
        self.register_buffer("of_channel", of_channel, persistent=False)
        self.stem = nn.Linear(len(unit) + len(stages), width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(BLOCKS))
        self.out = nn.Linear(width, len(unit))
        nn.init.zeros_(self.out.weight), nn.init.zeros_(self.out.bias)

    def forward(self, c: Tensor, known: Tensor) -> Tensor:
        """Return what to add to values c [B, h, w, D], in their units, where stages are not known [B, h, w, S]."""
        f = self.stem(torch.cat([c * self.unit, known.to(c.dtype)], -1))
        for block in self.blocks:
            f = block(f)
        return self.out(f).float() / self.unit

    def errors(
        self, c: Tensor, known: Tensor, n_stages: int, metric: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the squared error [B], a sum over places, of what is filled in, and that of what it starts from.

        Args:
            c: [B, h, w, D], all of them.
            known: [B, h, w, S].
            n_stages: that there are: those after them are not known, and are left 0.
            metric: [D, D], of `metric_of`.
        """
        seen = c * known[..., self.of_channel]
        n = self.stages[0].n_values
        seen[..., :n] = line_of(seen[..., :n], known[..., 0])
        wanted = (~known & (torch.arange(len(self.stages), device=c.device) < n_stages))[
            ..., self.of_channel
        ]
        added = self(seen, known)
        with torch.autocast(c.device.type, enabled=False):
            filled, line = (e * wanted for e in (seen + added - c, seen - c))
            of_filled, of_line = ((e @ metric * e).sum((1, 2, 3)) for e in (filled, line))
        return of_filled, of_line


def metric_of(tensors: Mapping[str, NDArray[Any]]) -> Tensor:
    """Return [D, D], e' M e being the squared error of a place's samples that errors e of values make, 8-bit steps squared."""
    shift = tensors["g_s.linear.shift"].astype(np.float64) + PIXEL_BITS
    linear = tensors["g_s.linear.weight"] * 2.0 ** -shift[:, None]  # [768, D]
    return torch.from_numpy(linear.T @ linear / len(linear)).float()


def line_of(c: Tensor, known: Tensor) -> Tensor:
    """Return values c [B, h, w, D_0] of stage 0, those that are not known [B, h, w] as `conceal` fills them in."""
    B, h, w, n = c.shape
    side_by_side = c.transpose(0, 1).reshape(h, B * w, n).cpu().numpy().astype(np.int16)
    conceal(known.transpose(0, 1).reshape(h, B * w).cpu().numpy(), side_by_side)
    return torch.from_numpy(side_by_side).view(h, B, w, n).transpose(0, 1).to(c)


def random_losses(shape: Sequence[int], n_stages: int, rng: np.random.Generator) -> Tensor:
    """Return which tokens [B, S, h, w] are known of files of some stages, [B, h, w, S].

    Ranges of rows of a stage are lost, or, more rarely, any places; and with them those of later stages.
    """
    B, S, height, width = shape
    known = np.zeros((B, S, height, width), np.bool_)
    for one in known[:, :n_stages]:
        share = rng.uniform(0.05, 0.3)
        if rng.random() < 0.85:
            side = int(rng.choice([1, 2, 2, 2, 3, 4, 5]))
            ranges = (np.arange(height) + rng.integers(side)) // side
            one[:] = (rng.random((n_stages, ranges[-1] + 1)) >= share)[:, ranges, None]
        else:
            one[:] = rng.random(one.shape) >= share
    return torch.from_numpy(np.logical_and.accumulate(known, 1)).permute(0, 2, 3, 1)
