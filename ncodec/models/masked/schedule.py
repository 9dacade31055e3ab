"""Which latents are decoded in which step: quantised low-discrepancy sequences (QLDS). No torch.

    window 16x16:  places in the order of a low-discrepancy sequence --cut at 256 (i / S)^2.2--> groups 0 ... S-1

After M2T (https://arxiv.org/abs/2304.07313): few places first, far from each other, and more in every step. Roberts'
R2 sequence is quantised to the window's grid; places that come again are passed over. A tile is cut into as few
windows as there can be, of equal sides, 9 to 16, but for the last (a tile of up to 16 is one); of a smaller window, the
schedule has those places that are within.
"""

from functools import lru_cache
from itertools import product
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

    shape: int  # number of the windows' shape in this tile
    sides: tuple[int, int]  # of the windows
    corners: NDArray[np.intp]  # [windows, 2], of the tile
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


class Span(NamedTuple):
    """Windows of one length along an axis."""

    side: int
    starts: NDArray[np.intp]


def side_of(length: int) -> int:
    """Return the side of windows along an axis of so many latents.

    >>> [side_of(n) for n in (1, 16, 17, 40, 48)]
    [1, 16, 9, 14, 16]
    """
    return -(-length // -(-length // WINDOW))


def _spans(length: int) -> list[Span]:
    """Return the windows along an axis: those of the usual side, and the last."""
    side = side_of(length)
    starts = np.arange(0, length, side)
    last = length - int(starts[-1])
    if last == side:
        return [Span(side, starts)]
    return [Span(side, starts[:-1]), Span(last, starts[-1:])]


@lru_cache(maxsize=16)
def batches(height: int, width: int, steps: int) -> list[list[Batch]]:
    """Return what is decoded in each step of a tile of latents [height, width]."""
    group = groups(steps)
    row, column = np.divmod(np.arange(PLACES), WINDOW)
    plan: list[list[Batch]] = [[] for _ in range(steps)]
    for shape, (rows, columns) in enumerate(product(_spans(height), _spans(width))):
        corners = np.stack(np.meshgrid(rows.starts, columns.starts, indexing="ij"), -1).reshape(
            -1, 2
        )
        is_within = (row < rows.side) & (column < columns.side)
        for step in range(steps):
            places = np.flatnonzero((group == step) & is_within)
            if len(places):
                plan[step].append(
                    Batch(
                        shape,
                        (rows.side, columns.side),
                        corners,
                        corners[:, :1] + row[places],
                        corners[:, 1:] + column[places],
                        places,
                    )
                )
    return plan
