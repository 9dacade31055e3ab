"""Learns the steps and matrices of quantisation of family `dct` from coefficients, by gradient descent.

    coefficients / step --choose--> levels --count--> bits of a level in its context
          ^                          |                     |
          |                          v                     v
       Adam <------- slope of ( weight x error      +     bits )

After Duong et al., "Multi-rate adaptive transform coding for video compression" (arXiv 2210.14308): the
transform is the same at every rate, the matrices depend on it. The bits are those of an ideal conditional
code: counted probabilities of a level given its frequency, the levels above it in frequency and the energy
around the block. Levels are the encoder's own choice, probabilities the best for them: an alternation as
that of Chou, Lookabaugh and Gray (1989), whose steps descend the gradient.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ncodec.dct import _dct
from ncodec.dct.parameters import Tensors
from ncodec.quality import QUALITY_STEPS

GRID = ((0, 1, 2, 3, 4, 5, 6, 7), (0, 1, 2, 3, 5, 8, 11, 15), (0, 1, 2, 4, 7, 12, 20, 31))
QUALITIES, PLANES, SIZES = 8, 3, 5
CELLS, TEMPLATES, ENERGIES, TOP = 64, 9, 4, 4
# Octaves: the best steps of a dependent quantiser over those of the scalar one here (measured).
DEPENDENT = 1 / 8
REACH = 0.1  # octaves between the steps that a slope is measured at, and here
Key = tuple[int, int, int]  # quality - 1, plane, log2 of the side - 2


@dataclass(frozen=True)
class Blocks:
    """Orthonormal coefficients of one plane and size at one quality.

    Args:
        coefficients: [n, side, side] of the coded side (32 at most), vertical frequency first.
        energy: [n], 0 … 7, of the blocks around, as contexts know it (levels.hpp).
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


def named_frequencies(size: int) -> tuple[int, ...]:
    """Return the eight frequencies that a matrix of block size 4 << `size` names (D7)."""
    return GRID[min(max(size - 1, 0), 2)]


def interpolation(size: int) -> torch.Tensor:
    """Return the weights [coded side, 8] of the named frequencies, as parameters.hpp has them."""
    side = min(4 << size, 32)
    grid = named_frequencies(size)
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

    def __init__(self, blocks: Blocks, size: int, conditional: bool, optimised: bool) -> None:
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
        self.conditional, self.optimised = conditional, optimised
        self.levels = torch.zeros_like(self.magnitude)
        self.bits: torch.Tensor | None = None

    def contexts(self) -> torch.Tensor:
        """Return the context [n, side, side] of each level: its frequency, and those above it."""
        if not self.conditional:
            return (self.place - self.place % (TEMPLATES * ENERGIES)).expand(self.levels.shape)
        m = torch.nn.functional.pad(self.levels.clamp(max=7), (0, 2, 0, 2))
        s = self.levels.shape[1]
        total = (
            m[:, :s, 1 : s + 1] + m[:, :s, 2:] + m[:, 1 : s + 1, :s] + m[:, 1 : s + 1, 1 : s + 1]
        )
        total += m[:, 2:, :s]
        edges = torch.tensor([0.5, 1.5, 2.5, 4.5, 6.5, 9.5, 13.5])
        template = torch.bucketize(total, edges)
        last = torch.where(self.levels > 0, self.diagonal, -1).amax((1, 2), keepdim=True)
        # Nothing above: to be the last one costs its place.
        template[self.diagonal >= last] = TEMPLATES - 1
        return self.place + template * ENERGIES

    def cost(self, step: torch.Tensor, kept_error: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what every coefficient costs (bits) with a step [side, side], and its level.

        The levels are the encoder's: rounded, one less, or 0, whichever costs least; or, if not
        optimised, rounded with a dead zone (enc_quantise.hpp).
        """
        ratio = self.magnitude / step
        error = self.weight * step**2
        if self.bits is None or not self.optimised:
            level = (ratio + 1 / 3).floor()
            if self.bits is None:
                return (ratio - level) ** 2 * error, level
            candidates = [level]
        else:
            high = (ratio + 0.5).floor()
            candidates = [torch.zeros_like(high), (high - 1).clamp(min=0), high]
        best = chosen = paid = None
        for level in candidates:
            beyond = (level - TOP).clamp(min=0)
            bits = self.bits[self.rows + level.clamp(max=TOP).long()] + beyond * self.tail
            off = (ratio - level) ** 2 * error
            cost = off + bits
            if best is None or chosen is None or paid is None:
                best, chosen, paid = cost, level, kept_error * off + bits
            else:
                is_less = cost < best
                chosen = torch.where(is_less, level, chosen)
                paid = torch.where(is_less, kept_error * off + bits, paid)
                best = torch.minimum(cost, best)
        assert chosen is not None and paid is not None
        return paid, chosen

    def slope(self, step: torch.Tensor, kept_error: float) -> torch.Tensor:
        """Return by how much the cost rises with an octave of step, [side, side].

        By differences, levels chosen anew: a coefficient's cost has corners, the sum over blocks is
        smooth. The probabilities are the best ones where we are, so that their change counts in second
        order only.
        """
        more = self.cost(step * 2**REACH, kept_error)[0].sum(0)
        less = self.cost(step * 2**-REACH, kept_error)[0].sum(0)
        return (more - less) / (2 * REACH)

    def choose(self, step: torch.Tensor, kept_error: float) -> float:
        """Quantise with a step [side, side] and fit the probabilities; return bits + error."""
        self.levels = self.cost(step, kept_error)[1]
        return self.count() + kept_error * float(
            self.weight * ((self.magnitude - self.levels * step) ** 2).sum()
        )

    def count(self) -> float:
        """Fit the probabilities to the levels; return the bits of all of them."""
        self.rows = self.contexts() * (TOP + 1)
        symbols = self.levels.clamp(max=TOP).long()
        n = CELLS * TEMPLATES * ENERGIES
        counts = torch.bincount((self.rows + symbols).flatten(), minlength=n * (TOP + 1)).float()
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
        total = self.bits[self.rows + symbols].sum() + beyond.sum() * self.tail
        return float(total)


def learn(
    blocks: Callable[[int], Mapping[Key, Blocks]] | Mapping[Key, Blocks],
    log_step: NDArray[np.generic],
    matrix: NDArray[np.generic],
    *,
    iterations: int = 40,
    rate: float = 0.02,
    smoothness: float = 0.02,
    kept_error: float = 1.0,
    learns_matrix: bool = True,
    conditional: bool = True,
    optimised: bool = True,
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
        conditional: the code that will be used knows the levels around, not the frequency alone.
        optimised: the encoder chooses levels by rate and distortion.
        sample: coefficients at most of each key.
    """
    torch.manual_seed(0)
    given = (
        blocks
        if isinstance(blocks, Mapping)
        else {k: b for q in range(QUALITIES) for k, b in blocks(q).items()}
    )
    quantisers = {
        key: Quantiser(b.sample(sample), key[2], conditional, optimised)
        for key, b in given.items()
        if len(b.coefficients)
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
        return torch.exp2(base[q, plane] - DEPENDENT + w @ o @ w.T)

    for key, q in quantisers.items():  # probabilities of where we start
        for _ in range(3):
            q.choose(steps(key).detach(), kept_error)
    costs = []
    for iteration in range(iterations):
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, 2 * (iterations - iteration) / iterations)
        adam.zero_grad()
        cost = 0.0
        loss = smoothness * _roughness(offset)
        for key, q in quantisers.items():
            step = steps(key)
            cost += q.choose(step.detach(), kept_error) / q.share / n
            slope = q.slope(step.detach(), kept_error) / q.share / n
            loss = loss + (slope * step.log2()).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        costs.append(cost)
    with torch.no_grad():
        o = (offset + offset.transpose(3, 4)) / 2
        learned = np.round(o.numpy() * 32).clip(-127, 127).astype(np.int8)
        return Learned(
            np.round(base.numpy() * 256).astype(np.int16),
            learned.reshape(QUALITIES, 2, SIZES, 64),
            costs,
        )


def leaf_blocks(
    images: Iterable[NDArray[np.uint8]],
    tensors: Tensors,
    quality: int,
    options: _dct.EncoderOptions,
    sample: int = 1 << 18,
) -> dict[Key, Blocks]:
    """Return the blocks that the image codec makes of images at a quality 1 … 8, sampled, for `learn`."""
    parameters = _dct.Parameters(dict(tensors))
    colour = np.asarray(tensors["colour"], np.float64) / 65536
    weights = np.square(colour).mean(0)  # as enc_residual.hpp
    encodings = [
        _dct.leaf_coefficients(image, parameters, (quality - 1) * QUALITY_STEPS, 0, options)
        for image in images
    ]
    out = {}
    for size in range(SIZES):
        about = np.concatenate([e[size][0] for e in encodings])
        coefficients = np.concatenate([e[size][1] for e in encodings])
        for plane in range(PLANES):
            of_plane = about[:, 0] == plane
            if of_plane.any():
                # Of 10-bit samples, as enc_residual.hpp.
                weight = options.lmbda / 16 * weights[plane]
                blocks = Blocks(coefficients[of_plane], about[of_plane, 2], weight)
                out[quality - 1, plane, size] = blocks.sample(sample)
    return out


def _roughness(offset: torch.Tensor) -> torch.Tensor:
    total = offset.square().mean() * 0.05
    for axis in (0, 3, 4):
        total = total + torch.diff(offset, n=2, dim=axis).square().mean()
    return total
