"""Variable rate: one row of a table per integer quality 1...8, interpolated linearly between rows.

Gain vectors after Cui et al. 2021 (https://arxiv.org/abs/2003.02012). Gains that span decades are
stored as logarithms, so that interpolation is geometric, like lambda itself.
"""

import torch
from torch import Tensor

from ncodec.quality import LAMBDAS, MIN_QUALITY, N_QUALITIES


def at_quality(table: Tensor, q: Tensor) -> Tensor:
    """Return the rows of a table at fractional qualities. Float: never reaches `indexes`.

    Args:
        table: [8, C], row i for quality i + 1.
        q: [B], qualities in [1, 8].

    Returns:
        [B, C, 1, 1], to multiply [B, C, H, W] with.
    """
    position = (q - MIN_QUALITY).clamp(0, N_QUALITIES - 1)
    low = position.floor().clamp(max=N_QUALITIES - 2)
    fraction = (position - low)[:, None]
    row = low.long()
    rows = torch.lerp(table[row], table[row + 1], fraction)
    return rows[:, :, None, None]


def lmbda_at_quality(q: Tensor, lambdas: tuple[float, ...] = LAMBDAS) -> Tensor:
    """Return lambda [B] for qualities [B]; geometric between its values at qualities 1 … 8."""
    table = torch.tensor(lambdas, device=q.device).log()[:, None]
    return at_quality(table, q).exp().flatten()
