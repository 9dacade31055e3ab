"""Which latents are decoded in which step: quantised low-discrepancy sequences (QLDS). No torch.

    window 16x16:  places in the order of a low-discrepancy sequence --cut at 256 (i / S)^2.2--> groups 0 ... S-1

After M2T (https://arxiv.org/abs/2304.07313): few places first, far from each other, and more in every step. Roberts'
R2 sequence is quantised to the window's grid; places that come again are passed over. Windows lie on a grid from the
upper left corner of a tile; one that its edges cut keeps those places that are within.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOW = 16  # latents a side
PLACES = WINDOW**2
POWER = 2.2  # of the cumulative share
# 2^32 / rho and 2^32 / rho^2, rounded; rho^3 = rho + 1
R2 = (3242174889, 2447445414)


class Batch(NamedTuple):
    """Places of one group in windows of one shape, which go through the network together."""

    shape: int  # which of the shapes: 2 · (rows are cut) + (columns are cut)
    rows: NDArray[np.intp]  # [windows, n], of the tile
    columns: NDArray[np.intp]
    places: NDArray[np.intp]  # [n], row · WINDOW + column within the window


def order() -> NDArray[np.intp]:
    """Return the places of a window, row · WINDOW + column, in the order of the sequence."""
    n = np.arange(1, 4 * PLACES, dtype=np.uint64)
    row, column = (
        ((n * np.uint64(a) + np.uint64(1 << 31)) % (1 << 32)) >> np.uint64(28) for a in R2
    )
    places = (row * WINDOW + column).astype(np.intp)
    _, first = np.unique(places, return_index=True)
    return places[np.sort(first)]


def groups(steps: int) -> NDArray[np.intp]:
    """Return the step in which each place of a window is decoded, [PLACES]."""
    ends = [max(i, round(PLACES * (i / steps) ** POWER)) for i in range(1, steps + 1)]
    found = np.empty(PLACES, np.intp)
    found[order()] = np.searchsorted(ends, np.arange(PLACES), "right")
    return found


@lru_cache(maxsize=16)
def batches(height: int, width: int, steps: int) -> list[list[Batch]]:
    """Return what is decoded in each step of a tile of latents [height, width]."""
    group = groups(steps)
    row, column = np.divmod(np.arange(PLACES), WINDOW)
    plan: list[list[Batch]] = [[] for _ in range(steps)]
    whole = height // WINDOW, width // WINDOW
    cut = height % WINDOW, width % WINDOW
    for shape in range(4):
        rows_are_cut, columns_are_cut = divmod(shape, 2)
        sides = (
            cut[0] if rows_are_cut else WINDOW,
            cut[1] if columns_are_cut else WINDOW,
        )
        tops = np.array([whole[0]] if rows_are_cut else range(whole[0]), np.intp) * WINDOW
        lefts = np.array([whole[1]] if columns_are_cut else range(whole[1]), np.intp) * WINDOW
        corners = np.stack(np.meshgrid(tops, lefts, indexing="ij"), -1).reshape(-1, 2)
        for step in range(steps):
            places = np.flatnonzero((group == step) & (row < sides[0]) & (column < sides[1]))
            if len(places) and len(corners):
                plan[step].append(
                    Batch(
                        shape,
                        corners[:, :1] + row[places],
                        corners[:, 1:] + column[places],
                        places,
                    )
                )
    return plan
