"""What fills in lost tokens, in integers: values, not tokens, as the mean of what a token may be is none. No torch.

    c [h, w, D], 0 where tokens are lost --line between rows: of stage 0--+--stem--> f [h, w, F] --blocks, 5x5--> out--> + --> c
    which stages are known [h, w, S] -------------------------------------+                                    where they are lost

fill_network.py trains it; specs/tokenizer.md, section 6, has the integers.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ncodec.entropy.tokens import VALUE_MAX, Stage
from ncodec.exact.network import Layer, Network, Tensors, block_layers
from ncodec.threads import get_num_threads

BLOCKS = 4  # that know 5x5 places


def layers(width: int, stages: tuple[Stage, ...]) -> Iterator[Layer]:
    """Yield the layers, for `width` channels; all but the last of blocks add to "masked.fill.f"."""
    D, f = sum(stage.n_values for stage in stages), "masked.fill.f"
    inputs = D + len(stages)
    yield Layer("masked.fill.stem", (width, inputs), "masked.fill.x", f, bound=VALUE_MAX)
    yield from block_layers("masked.fill.blocks", width, BLOCKS, f, 5)
    yield Layer("masked.fill.out", (D, width), f, "masked.fill.c")


class Filling:
    """The network of a weights file. Safe to share between threads.

    Args:
        tensors: `masked.fill.*`.
        stages: what the tokens are.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    def __init__(self, tensors: Tensors, stages: tuple[Stage, ...]) -> None:
        self._n_values = [stage.n_values for stage in stages]
        net = self._network = Network(tensors)
        x = net.input("x", sum(self._n_values) + len(stages), VALUE_MAX)
        f = net.blocks(net.conv(x, "masked.fill.stem"), "masked.fill.blocks", BLOCKS)
        net.outputs = {"added": net.conv(f, "masked.fill.out")}

    def fill(self, c: NDArray[np.int16], is_known: NDArray[np.bool_], n_filled: int) -> None:
        """Add to values c [h, w, D] of lost tokens what the network says. Exact.

        Args:
            c: those of stage 0 from `conceal` where they are lost, 0 where those of later ones are; changed in place.
            is_known: [n, h, w], of the stages that there are.
            n_filled: how many of these are filled in.
        """
        n, height, width = is_known.shape
        known = np.zeros((height, width, len(self._n_values)), np.bool_)
        known[:, :, :n] = is_known.transpose(1, 2, 0)
        x = np.concatenate([c, known], 2, dtype=np.int16)
        (added,) = self._network.run({"x": x}, ("added",), get_num_threads())
        lost = np.repeat(~known & (np.arange(known.shape[2]) < n_filled), self._n_values, 2)
        filled = np.clip(c.astype(np.int32) + added, -VALUE_MAX, VALUE_MAX)
        c[lost] = filled[lost]


def conceal(is_known: NDArray[np.bool_], c: NDArray[np.int16]) -> None:
    """Fill in values c [h, w, D] of the first stage where they are not known: in each column, between the known rows around.

    Where a column has none they stay 0, as those of later stages do: the picture is coarser there.

    Args:
        is_known: [h, w].
        c: changed in place.
    """
    height = len(is_known)
    row = np.broadcast_to(np.arange(height)[:, None], is_known.shape)
    above = np.maximum.accumulate(np.where(is_known, row, -1), 0)
    below = np.minimum.accumulate(np.where(is_known, row, height)[::-1], 0)[::-1]
    i, j = np.nonzero(~is_known & ((above >= 0) | (below < height)))
    first, last = above[i, j], below[i, j]
    first, last = np.where(first < 0, last, first), np.where(last == height, first, last)
    span = np.maximum(last - first, 1)[:, None]
    share = np.where(last > first, i - first, 0)[:, None]  # of the row below, of `span`
    mixed = c[first, j].astype(np.int32) * (span - share) + c[last, j].astype(np.int32) * share
    c[i, j] = (2 * mixed + span) // (2 * span)
