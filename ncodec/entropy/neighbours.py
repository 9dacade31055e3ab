"""A grid of vectors of integers to bytes and back, each position with rows from its decoded neighbours. Exact.

    b c d      [a; b; c; d] --hidden--> ReLU --head--> + --> mean, width of every channel of z --> row of the tables
    a z        of the channel itself ------own---------^ + offset

The network and the coder are C++ (neighbours.hpp); specs/hyperprior.md has the integers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ncodec.entropy._rans as _rans
from ncodec.entropy import FrequencyTables

N_NEIGHBOURS = 4  # left, above left, above, above right
N_EIGHTHS, N_WIDTHS = 8, 32  # row 8·width + eighth: the mean is (eighth - 4) / 8
MEAN_BITS = 8  # fraction of means and widths
GRID_MAX = 127  # bound of |z|
NAMES = {  # the arrays of a network, and their types
    "hidden.weight": np.int16,  # [B, 4 Z]
    "hidden.bias": np.int32,  # [B]
    "head.weight": np.int16,  # [2 Z, B]: means, then widths
    "own.weight": np.int16,  # [4, Z]
    "shifts": np.int32,  # [3], of hidden, head and own
}


class NeighbourCoder:
    """Codes grids z [h, w, Z] whose rows depend on what surrounds them.

    Args:
        arrays: those of `NAMES`.
        tables: 256 rows, for eight fractions of the mean and 32 widths.

    Raises:
        WeightsMismatchError: shapes do not fit, or sums could leave 32 bits.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], tables: FrequencyTables) -> None:
        hidden, bias, head, own, shifts = (
            np.ascontiguousarray(arrays[name], kind) for name, kind in NAMES.items()
        )
        self._network = _rans.make_network(hidden, bias, head, own, shifts.tolist())
        self.channels = own.shape[1]
        self.tables = tables

    def encode(self, z: NDArray[Any], offset: NDArray[Any]) -> bytes:
        """Return the section of z [h, w, Z], |z| <= 127. Exact.

        Args:
            z: integers.
            offset: [2 Z], what the quality adds to means and widths, in 1/256.
        """
        assert -GRID_MAX <= z.min(initial=0) and z.max(initial=0) <= GRID_MAX  # -128 has no abs
        return self._network.encode(self.tables._coder, _int16(offset), _int16(z))

    def decode(
        self, payload: bytes, size: tuple[int, ...], offset: NDArray[Any]
    ) -> NDArray[np.int16]:
        """Return z [h, w, Z], `size` is h and w. Exact: same result on every platform.

        Raises:
            TruncatedError, CorruptPayloadError: `payload` is damaged, or |z| exceeds 127.
        """
        z = np.empty((*size, self.channels), np.int16)
        self._network.decode(self.tables._coder, _int16(offset), payload, z)
        return z


def _int16(values: NDArray[Any]) -> NDArray[np.int16]:
    return np.ascontiguousarray(values, np.int16)
