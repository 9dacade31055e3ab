"""Grids of tokens in stages to bytes and back; P of every decision from a network of what is decoded. Exact.

    tokens [n, h, w], a stage and some rows of it --encode--> payload
                                                  --values--> values [h, w, D], what a picture is made of

The network and the coder are C++ (tokens.hpp); specs/tokenizer.md has the integers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ncodec.entropy._rans as _rans
from ncodec.errors import InputError, WeightsMismatchError, named

VALUE_MAX = 127  # bound of a value
MOST_LEVELS = 128  # of a digit: values of 2·level - 127
MOST_BITS = 16  # of a tree
SIZE_END = 1 << 31  # tokens are int32
NAMES = {  # the arrays of a stage's network, and their types
    "hidden.weight": np.int16,  # [B, 4 D_s + 9 D of the stages before]
    "hidden.bias": np.int32,  # [B]
    "head.weight": np.int16,  # [nodes, B]
    "head.bias": np.int32,  # [nodes]
    "shifts": np.int32,  # [2], of hidden and head
}


@dataclass(frozen=True)
class Stage:
    """What the tokens of a stage are: lists of digits, or indices of a tree.

    Args:
        levels: L_k of each digit, 2 to 128. A token is Σ l_k L_0 … L_{k-1}: digit 0 runs fastest.
        bits: of an index, 1 to 16: a path from the root of a tree, most significant bit first.
        channels: values of a tree's token.

    Raises:
        WeightsMismatchError: neither kind, or beyond these bounds.

    >>> fsq, vq = Stage(levels=(5, 5, 3, 3, 3)), Stage(bits=10, channels=8)
    >>> [(stage.size, stage.units, stage.n_values, stage.nodes) for stage in (fsq, vq)]
    [(675, 5, 5, 14), (1024, 10, 8, 1023)]
    """

    levels: tuple[int, ...] = ()
    bits: int = 0
    channels: int = 0

    def __post_init__(self) -> None:
        if self.levels:
            good = not self.bits and not self.channels and self.size < SIZE_END
            good &= all(2 <= level <= MOST_LEVELS for level in self.levels)
        else:
            good = 1 <= self.bits <= MOST_BITS and self.channels >= 1
        if not good:
            raise WeightsMismatchError(
                f"a stage of tokens: expected levels of 2 to {MOST_LEVELS}, or bits of 1 to "
                f"{MOST_BITS} with channels, found {self}"
            )

    @property
    def size(self) -> int:
        """Tokens there are."""
        return math.prod(self.levels) if self.levels else 1 << self.bits

    @property
    def units(self) -> int:
        """Depths a token can be coded to, 0 apart: digits, or bits."""
        return len(self.levels) or self.bits

    def cut(self, tokens: NDArray[np.int32], depth: int) -> NDArray[np.int32]:
        """Return tokens as they are known to a depth: 0 in the digits or bits beyond.

        >>> Stage(levels=(5, 3)).cut(np.array([14], np.int32), 1), Stage(bits=4, channels=1).cut(np.array([14], np.int32), 2)
        (array([4], dtype=int32), array([12], dtype=int32))
        """
        if self.levels:
            return tokens % math.prod(self.levels[:depth])
        return tokens >> (self.bits - depth) << (self.bits - depth)

    @property
    def n_values(self) -> int:
        """Channels of a token's value, D_s."""
        return len(self.levels) or self.channels

    @property
    def nodes(self) -> int:
        """Decisions there are."""
        return sum(level - 1 for level in self.levels) if self.levels else self.size - 1


class TokenCoder:
    """Codes grids of tokens [n, h, w], a stage and a range of rows at a time. Safe to share between threads.

    Args:
        stages: what the tokens are.
        tensors: of a weights file: `tokens.{s}.` and each of `NAMES`; `own.weight` int16 of digits, [nodes, D_s], or [nodes,
            2 D_s] of values and then their magnitudes; `values` int16 [2^(bits + 1) - 1, D_s] of a tree.

    Raises:
        WeightsMismatchError: a tensor is missing or does not fit, or sums could leave 32 bits.
    """

    def __init__(self, stages: Sequence[Stage], tensors: Mapping[str, NDArray[Any]]) -> None:
        self.stages = tuple(stages)
        made, before = [], 0
        for s, stage in enumerate(self.stages):
            table = "own.weight" if stage.levels else "values"
            with named(f"tokens.{s}: "):
                arrays = {
                    name: _tensor(tensors, f"tokens.{s}.", name, kind)
                    for name, kind in {**NAMES, table: np.int16}.items()
                }
                wide = (stage.n_values, 2 * stage.n_values) if stage.levels else (stage.n_values,)
                if arrays["shifts"].shape != (2,) or arrays[table].shape[1] not in wide:
                    raise WeightsMismatchError(
                        f"expected shifts of [2] and {table} of [..., {stage.n_values}], found "
                        f"{arrays['shifts'].shape} and {arrays[table].shape}"
                    )
                made.append(
                    _rans.make_token_stage(
                        stage.levels,
                        stage.bits,
                        before,
                        arrays[table],
                        arrays["hidden.weight"],
                        arrays["hidden.bias"],
                        arrays["head.weight"],
                        arrays["head.bias"],
                        arrays["shifts"].tolist(),
                    )
                )
            before += stage.n_values
        self.n_values = before
        self._coder = _rans.TokenStages(made)

    def encode(
        self,
        tokens: NDArray[np.int32],
        stage: int,
        depth: int,
        first: int,
        end: int,
        logits: NDArray[np.int16] | None = None,
    ) -> bytes:
        """Return the payload of rows `first` to `end` of a stage. Exact.

        Args:
            tokens: [n, h, w] int32, n > stage; in these rows 0 to size - 1, in `stage` and all before it.
            stage: which one.
            depth: units that are coded of its tokens; the stages before are known in full.
            first, end: rows, end excluded.
            logits: int16 [places of the rows, nodes], what is added to each decision's (1/256 nats).

        Raises:
            InputError: a token, the stage, the depth or the rows are out of range.
        """
        _check(stage, first, end)
        return self._coder.encode(np.ascontiguousarray(tokens), stage, depth, first, end, logits)

    def decode(
        self,
        payload: bytes,
        tokens: NDArray[np.int32],
        stage: int,
        depth: int,
        first: int,
        end: int,
        logits: NDArray[np.int16] | None = None,
    ) -> None:
        """Set `tokens[stage, first:end]`; what is not coded of a token is 0. Exact: same result on every platform.

        After an error they hold anything within 0 to size - 1, or what they held.

        Args:
            payload: as `encode` made it of the same tokens of the stages before, depth, rows and logits.
            tokens: [n, h, w] int32, contiguous; the stages before are read.

        Raises:
            TruncatedError, CorruptPayloadError: `payload` is damaged.
            InputError: a token of a stage before, the stage, the depth or the rows are out of range.
            TypeError: `tokens` is not contiguous int32.
        """
        _check(stage, first, end)
        self._coder.decode(payload, tokens, stage, depth, first, end, logits)

    def values(self, tokens: NDArray[np.int32], depth: int) -> NDArray[np.int16]:
        """Return [h, w, D], the values of all stages in order. Exact.

        Args:
            tokens: [n, h, w] int32, of the first n stages; values of the others, and of absent tokens, -1, are 0.
            depth: units known of tokens of stage n - 1.

        Raises:
            InputError: a token or the depth is out of range.
        """
        values = np.zeros((*tokens.shape[1:], self.n_values), np.int16)
        self._coder.values(np.ascontiguousarray(tokens), depth, values)
        return values


def _tensor(
    tensors: Mapping[str, NDArray[Any]], prefix: str, name: str, kind: type
) -> NDArray[Any]:
    """Return one tensor, contiguous and of its type."""
    array = tensors.get(prefix + name)
    n_axes = 2 if name.endswith("weight") or name == "values" else 1
    if array is None or array.dtype != kind or array.ndim != n_axes:
        found = "none" if array is None else f"{array.dtype} of {array.ndim}"
        raise WeightsMismatchError(
            f"{name}: expected {np.dtype(kind)} of {n_axes} axes, found {found}"
        )
    return np.ascontiguousarray(array)


def _check(stage: int, first: int, end: int) -> None:
    if min(stage, first, end) < 0:
        raise InputError(
            f"expected a stage and rows of 0 and up, found stage {stage}, rows {first} to {end}"
        )
