"""Learns the steps and matrices of quantisation of family `dct` from coefficients, by gradient descent.

    coefficients / step --choose--> levels --count--> bits of a level in its context
          ^                          |                     |
          |                          v                     |
       Adam <---- gradient of bits + weight x error <------+

After Duong et al., "Multi-rate adaptive transform coding for video compression" (arXiv 2210.14308): the
transform is the same at every rate, the matrices depend on it. The bits are those of an ideal conditional
code: counted probabilities of a level given its frequency, the levels above it in frequency and the energy
around the block. Levels and probabilities are optimal for the steps (the alternation of Chou, Lookabaugh and
Gray 1989), so the gradient of the minimum is the gradient of the error with both held fixed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

GRID = ((0, 1, 2, 3, 4, 5, 6, 7), (0, 1, 2, 3, 5, 8, 11, 15), (0, 1, 2, 4, 7, 12, 20, 31))
QUALITIES, PLANES, SIZES = 8, 3, 5
CELLS, TEMPLATES, ENERGIES, TOP = 64, 9, 4, 4
Key = tuple[int, int, int]  # quality - 1, plane, log2 of the side - 2


@dataclass(frozen=True)
class Blocks:
    """Orthonormal coefficients of one plane and size at one quality.

    Args:
        coefficients: [n, side, side] of the coded side (32 at most), vertical frequency first.
        energy: [n], 0 … 15, of the blocks around, as contexts know it.
        weight: bits that a squared error of 1 is worth.
        share: of all such blocks that these are; less than 1 for a sample.
    """

    coefficients: NDArray[np.float32]
    energy: NDArray[np.integer]
    weight: float
    share: float = 1.0

    def sample(self, most: int, seed: int = 0) -> "Blocks":
        """Return blocks of at most `most` coefficients, chosen at random."""
        n, side, _ = self.coefficients.shape
        few = max(most // side**2, 1)
        if n <= few:
            return self
        chosen = np.sort(np.random.default_rng(seed).choice(n, few, replace=False))
        return replace(
            self,
            coefficients=self.coefficients[chosen],
            energy=self.energy[chosen],
            share=self.share * few / n,
        )


@dataclass(frozen=True)
class Learned:
    """Tensors of a weights file, and the mean cost (bits a coefficient) after each iteration."""

    log_step: NDArray[np.int16]  # [8, 3], of 1/256 octave
    matrix: NDArray[np.int8]  # [8, 2, 5, 64], of 1/32 octave
    costs: list[float]


def interpolation(size: int) -> torch.Tensor:
    """Return the weights [coded side, 8] of the named frequencies, as parameters.hpp has them."""
    side = min(4 << size, 32)
    grid = GRID[min(max(size - 1, 0), 2)]
    out = torch.zeros(side, 8)
    for f in range(side):
        g = max(i for i in range(8) if grid[i] <= f)
        after = (f - grid[g]) / (grid[g + 1] - grid[g]) if g < 7 else 0.0
        out[f, g] += 1 - after
        if after:
            out[f, g + 1] += after
    return out


class Quantiser:
    """The levels and bits of one set of blocks while its steps change."""

    def __init__(self, blocks: Blocks, size: int) -> None:
        self.magnitude = torch.from_numpy(np.abs(blocks.coefficients))
        self.weight, self.share = blocks.weight, blocks.share
        side = self.magnitude.shape[1]
        self.weights = interpolation(size)
        near = self.weights.argmax(1)
        frequency = torch.arange(side)
        self.diagonal = frequency[:, None] + frequency
        cell = near[:, None] * 8 + near
        energy = torch.from_numpy(np.minimum(np.asarray(blocks.energy, np.int64), 7)) // 2
        self.place = cell * TEMPLATES * ENERGIES + energy[:, None, None]
        self.levels = torch.zeros_like(self.magnitude)
        self.bits: torch.Tensor | None = None

    def contexts(self) -> torch.Tensor:
        """Return the context [n, side, side] of each level, from those above it in frequency."""
        m = torch.nn.functional.pad(self.levels.clamp(max=7), (0, 2, 0, 2))
        s = self.levels.shape[1]
        total = (
            m[:, :s, 1 : s + 1] + m[:, :s, 2:] + m[:, 1 : s + 1, :s] + m[:, 1 : s + 1, 1 : s + 1]
        )
        total += m[:, 2:, :s]
        edges = torch.tensor([0.5, 1.5, 2.5, 4.5, 6.5, 9.5, 13.5])
        template = torch.bucketize(total, edges)
        last = torch.where(self.levels > 0, self.diagonal, -1).amax((1, 2), keepdim=True)
        template[self.diagonal >= last] = (
            TEMPLATES - 1
        )  # nothing above: to be the last one costs its place
        return self.place + template * ENERGIES

    def choose(self, step: torch.Tensor) -> None:
        """Choose levels for a step [side, side]: rounded, one less, or 0."""
        ratio = self.magnitude / step
        if self.bits is None:
            self.levels = (ratio + 1 / 3).floor()
            return
        contexts = self.contexts() * (TOP + 1)
        error = self.weight * step**2
        high = (ratio + 0.5).floor()
        best, chosen = ratio**2 * error + self.bits[contexts], torch.zeros_like(high)
        for level in ((high - 1).clamp(min=0), high):
            beyond = (level - TOP).clamp(min=0)
            bits = self.bits[contexts + level.clamp(max=TOP).long()] + beyond * self.tail
            cost = (ratio - level) ** 2 * error + bits
            chosen = torch.where(cost < best, level, chosen)
            best = torch.minimum(cost, best)
        self.levels = chosen

    def count(self) -> float:
        """Fit the probabilities to the levels; return the bits of all of them."""
        contexts, symbols = self.contexts().flatten(), self.levels.clamp(max=TOP).long().flatten()
        n = CELLS * TEMPLATES * ENERGIES
        counts = torch.bincount(contexts * (TOP + 1) + symbols, minlength=n * (TOP + 1)).float()
        counts = counts.reshape(CELLS, TEMPLATES, ENERGIES, TOP + 1)
        general = counts.sum((0, 2), keepdim=True) + torch.tensor([1.0, 0.5, 0.25, 0.12, 0.12])
        by_cell = counts.sum(2, keepdim=True) + 8 * general / general.sum(3, keepdim=True)
        fitted = counts + 8 * by_cell / by_cell.sum(3, keepdim=True)
        table = -(fitted / fitted.sum(3, keepdim=True)).log2()
        beyond = (self.levels - TOP).clamp(min=0)
        coded = (self.levels >= TOP).sum() + 1.0
        more = float(((beyond.sum() + 0.5) / coded).clamp(min=0.1))
        table[..., 1:] += 1  # signs
        self.tail = float(np.log2((1 + more) / more))  # a geometric tail
        table[..., TOP] += float(np.log2(1 + more))
        self.bits = table.flatten()
        total = self.bits[contexts * (TOP + 1) + symbols].sum() + beyond.sum() * self.tail
        return float(total)

    def error(self, step: torch.Tensor) -> torch.Tensor:
        """Return the weighted error, differentiable by the step."""
        return self.weight * ((self.magnitude - self.levels * step) ** 2).sum()


def learn(
    blocks: Callable[[int], Mapping[Key, Blocks]] | Mapping[Key, Blocks],
    log_step: NDArray[np.int16],
    matrix: NDArray[np.int8],
    *,
    iterations: int = 40,
    rate: float = 0.02,
    smoothness: float = 0.02,
    kept_error: float = 1.0,
    learns_matrix: bool = True,
    sample: int = 1 << 18,
) -> Learned:
    """Return steps and matrices that minimise bits + weight x error, from given ones.

    Args:
        blocks: by quality - 1, plane and size; what is missing keeps its steps.
        log_step: [8, 3] and
        matrix: [8, 2, 5, 64] to start from (ncodec.dct.parameters).
        iterations: of Adam over all blocks.
        rate: its steps (octaves).
        smoothness: bits per coefficient that a second difference of an octave costs, along
            frequency and quality; the weight of the data is that of its levels over 0.
        kept_error: the part of the error that later stages, such as loop filters, leave.
        learns_matrix: learn frequencies and sizes too, not only a step a plane.
        sample: coefficients at most of each key.
    """
    torch.manual_seed(0)
    given = (
        blocks
        if isinstance(blocks, Mapping)
        else {k: b for q in range(QUALITIES) for k, b in blocks(q).items()}
    )
    quantisers = {
        key: Quantiser(b.sample(sample), key[2]) for key, b in given.items() if len(b.coefficients)
    }
    base = torch.from_numpy(log_step.astype(np.float32) / 256).requires_grad_()
    offset = torch.from_numpy(matrix.astype(np.float32) / 32).reshape(QUALITIES, 2, SIZES, 8, 8)
    offset = offset.clone().requires_grad_(learns_matrix)
    adam = torch.optim.Adam([base, offset] if learns_matrix else [base], lr=rate, betas=(0.8, 0.95))
    n = sum(q.magnitude.numel() / q.share for q in quantisers.values())

    def steps(key: Key) -> torch.Tensor:
        q, plane, size = key
        o = offset[q, min(plane, 1), size]
        o = (o + o.T) / 2  # images have no preferred direction
        w = quantisers[key].weights
        return torch.exp2(base[q, plane] + w @ o @ w.T)

    for key, q in quantisers.items():  # probabilities of where we start
        with torch.no_grad():
            for _ in range(3):
                q.choose(steps(key))
                q.count()
    costs = []
    for iteration in range(iterations):
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, 2 * (iterations - iteration) / iterations)
        adam.zero_grad()
        bits = error = 0.0
        for key, q in quantisers.items():
            step = steps(key)
            with torch.no_grad():
                q.choose(step)
                bits += q.count() / q.share
            loss = q.error(step) / q.share
            error += loss.item()
            (kept_error * loss / n).backward()  # type: ignore[no-untyped-call]
        costs.append((bits + kept_error * error) / n)
        (smoothness * _roughness(offset)).backward()  # type: ignore[no-untyped-call]
        adam.step()
    with torch.no_grad():
        o = (offset + offset.transpose(3, 4)) / 2
        learned = np.round(o.numpy() * 32).clip(-127, 127).astype(np.int8)
        return Learned(
            np.round(base.numpy() * 256).astype(np.int16),
            learned.reshape(QUALITIES, 2, SIZES, 64),
            costs,
        )


def _roughness(offset: torch.Tensor) -> torch.Tensor:
    total = offset.square().mean() * 0.05
    for axis in (0, 3, 4):
        total = total + torch.diff(offset, n=2, dim=axis).square().mean()
    return total
