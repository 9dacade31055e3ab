"""Trains the matrices of learned modes: `python -m ncodec.training.dct.learned PACK... --start WEIGHTS --out FILE`.

    crops --encode, no learned modes--> blocks: samples beside them, residual of their mean, cost of the usual mode
    blocks --matrices--> costs of learned modes --soft, then hard choice, where the usual mode costs more--> Adam

Costs are the encoder's estimates by transform (enc_kernels.hpp), with the sine transform where a block may have it; of
those beyond the low frequencies that a mode predicts, nothing changes. Contexts have to be trained afterwards.
"""

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from ncodec.dct import _dct
from ncodec.dct.parameters import Tensors
from ncodec.models.dct.codec import Options
from ncodec.training.dct.program import crops, read

SHAPES = ((4, 4), (4, 8), (4, 16), (8, 8), (8, 16), (16, 16))  # height, width
MATRICES, SIDE, SINE_SIDE = (
    8,
    4,
    8,
)  # of low frequencies, and of those of the sine transform that are looked at
TRUE = 0.69  # of an estimate, what a block costs in the end (measured)
FLAG, NO_FLAG = 2.0, 0.4  # bits
BATCH = 2048
SCALE = 32.0  # of a matrix: what `inverse` takes for the mean of a block


def dct(n: int) -> Tensor:
    """Return the orthonormal cosine transform, [n, n]."""
    k, x = torch.arange(n)[:, None], torch.arange(n)
    rows = torch.cos(math.pi * (2 * x + 1) * k / (2 * n)) * math.sqrt(2 / n)
    rows[0] /= math.sqrt(2)
    return rows


def dst(n: int) -> Tensor:
    """Return the orthonormal sine transform, [n, n]."""
    k, x = torch.arange(n)[:, None], torch.arange(n)
    return torch.sin(math.pi * (2 * k + 1) * (x + 1) / (2 * n + 1)) * 2 / math.sqrt(2 * n + 1)


def estimate(ratio: Tensor, error: Tensor, place: Tensor) -> Tensor:
    """Return about the bits and the weighted error of coefficients in half-steps, as the encoder does."""
    r = ratio.abs()
    return TRUE * torch.minimum(r * r * error, place + 1.75 * torch.log2(1 + r) + error / 3)


class Transform:
    """What blocks [n, h, w] cost by one transform, if so much of its low frequencies is predicted.

    Of `turned` ones the prediction is of the transposed block.
    """

    def __init__(self, rows: Tensor, columns: Tensor, side: int, basis: Tensor) -> None:
        h, w = min(side, len(rows)), min(side, len(columns))
        self.rows, self.columns, self.low = rows, columns, (slice(None), slice(h), slice(w))
        # From frequencies [16] of a mode to those here, [16, h * w], orthonormal.
        self.basis = (rows @ basis @ columns.T)[:, :h, :w].flatten(1)

    def prepare(self, blocks: Tensor, tables: Tensor, turned: bool) -> tuple[Tensor, ...]:
        """Return coefficients, tables of the low frequencies, [n, k] each, and the cost of the others, [n]."""
        inverse, error, place = tables.unbind(1)
        c = self.rows @ blocks @ self.columns.T
        costs = estimate(c * inverse, error, place)
        rest = costs.sum((1, 2)) - costs[self.low].sum((1, 2))
        low = [v[self.low] for v in (c, inverse, error, place)]
        return *((v.mT if turned else v).flatten(1) for v in low), rest


class Blocks:
    """The blocks of one shape: inputs and transforms by orientation, cost of the usual mode, weight."""

    def __init__(
        self,
        shape: tuple[int, int],
        found: list[tuple[NDArray[np.generic], ...]],
        weight: list[float],
    ) -> None:
        h, w = shape
        counts = torch.tensor([len(f[0]) for f in found])
        inputs, residuals, costs = (
            torch.from_numpy(np.concatenate([f[i] for f in found]).astype(np.float32))
            for i in range(3)
        )
        tables = torch.from_numpy(np.stack([f[3] for f in found])).repeat_interleave(counts, 0)
        self.weight = torch.tensor(weight).repeat_interleave(counts)
        self.usual = costs[:, 0] + TRUE * costs[:, 1]
        rows, columns = (dst(n) if n == 4 else dct(n) for n in (h, w))
        basis = torch.stack(
            [torch.outer(rows[v], columns[u]) for v in range(SIDE) for u in range(SIDE)]
        )
        basis = basis * math.sqrt(h * w)
        self.transforms = [Transform(rows, columns, SIDE, basis)]
        if w > 4:
            self.transforms.append(Transform(dst(h), dst(w), SINE_SIDE, basis))
        self.orientations = 1 + (h == w)
        self.inputs = [inputs[:, k] for k in range(self.orientations)]
        self.known = [
            [t.prepare(residuals, tables, k > 0) for t in self.transforms]
            for k in range(self.orientations)
        ]

    def costs(self, k: int, chosen: Tensor, predicted: Tensor, kinds: int = 2) -> Tensor:
        """Return costs [n, modes] of predicted frequencies [n, modes, 16], of blocks `chosen`, orientation k."""
        found = []
        for t, known in zip(self.transforms[:kinds], self.known[k][:kinds], strict=True):
            c, inverse, error, place, rest = (v[chosen][:, None] for v in known)
            ratio = (c - predicted @ t.basis) * inverse
            found.append(estimate(ratio, error, place).sum(2) + rest)
        return torch.stack(found).amin(0)


def train(blocks: Blocks, seconds: float) -> NDArray[np.int16]:
    """Return matrices [8, 16, 16]."""
    torch.manual_seed(0)
    matrices = torch.nn.Parameter(torch.randn(16, MATRICES * 16) / 16)
    adam = torch.optim.Adam([matrices], betas=(0.9, 0.99))
    modes = MATRICES * blocks.orientations
    uses = torch.ones(modes)
    began, step, done = time.monotonic(), 0, 0.0
    while done < 1:
        adam.param_groups[0]["lr"] = 7e-4 * min(1.0, (step + 1) / 50, (1.01 - done) / 0.7)
        i = torch.randint(len(blocks.usual), (BATCH,))
        usual, weight = blocks.usual[i], blocks.weight[i] / blocks.weight[i].sum()
        predicted = [(x[i] @ matrices).reshape(BATCH, MATRICES, 16) for x in blocks.inputs]
        if done < 0.25:  # by the usual transform alone
            costs = torch.cat([blocks.costs(k, i, p, 1) for k, p in enumerate(predicted)], 1)
            late, heat = 1 - 4 * done, 7 - 24 * done
            every = torch.cat(
                [costs + math.log2(modes) + FLAG, usual[:, None] + NO_FLAG + 8 * late], 1
            )
            loss = (-heat * torch.logsumexp(-every / heat, 1) * weight).sum()
        else:
            with torch.no_grad():
                costs = torch.cat([blocks.costs(k, i, p) for k, p in enumerate(predicted)], 1)
                least, mode = (
                    costs - (uses / uses.sum()).log2().clamp(min=-math.log2(modes) - 1.5) + FLAG
                ).min(1)
                used = least < usual + NO_FLAG + 3 * max(0.0, 1 - done / 0.6)
                uses = 0.98 * uses + 0.02 * torch.bincount(mode[used], minlength=modes) + 0.01
            loss = torch.zeros(())
            for k, p in enumerate(predicted):
                of_mode = p[torch.arange(BATCH), mode % MATRICES][:, None]
                loss = (
                    loss
                    + (
                        blocks.costs(k, i, of_mode)[:, 0]
                        * weight
                        * (used & (mode // MATRICES == k))
                    ).sum()
                )
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        step, done = step + 1, (time.monotonic() - began) / seconds
    found = matrices.detach().numpy().reshape(16, MATRICES, 16).transpose(1, 2, 0)
    return np.clip(np.round(found * SCALE * 1024), -32767, 32767).astype(np.int16)


def encode(
    work: tuple[NDArray[np.uint8], int], tensors: Tensors
) -> list[tuple[NDArray[np.generic], ...]]:
    """Return the blocks of a crop at a quality code, by shape; in any process."""
    image, code = work
    return list(
        _dct.learned_blocks(image, _dct.Parameters(tensors), code, Options().for_encoder(code))
    )


def main() -> None:
    """Encode the crops, each at a random quality, train shape by shape."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("packs", nargs="+", type=Path, help="tar files of images")
    parser.add_argument("--start", type=Path, required=True, help="a weights file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=850)
    parser.add_argument("--seconds", type=float, default=60, help="of each of six shapes")
    parser.add_argument("--jobs", type=int, default=2)
    a = parser.parse_args()
    tensors, about = read(a.start)
    plain = tensors | {"learned": np.zeros_like(tensors["learned"])}
    images = crops(a.packs, a.images)
    codes = np.random.default_rng(0).integers(0, 141, len(images)).tolist()
    with ProcessPoolExecutor(a.jobs) as pool:
        found = list(pool.map(partial(encode, tensors=plain), zip(images, codes, strict=True)))
    # A bit saved counts by the bits of pictures of its quality.
    bits = [sum(float(TRUE * of_shape[2].sum()) for of_shape in f) for f in found]
    weight = np.exp(-np.polyval(np.polyfit(codes, np.log(np.maximum(bits, 1)), 2), codes)).tolist()
    for number, shape in enumerate(SHAPES):
        tensors["learned"][number] = train(
            Blocks(shape, [f[number] for f in found], weight), a.seconds
        )
        print(f"{shape[0]}x{shape[1]}: {sum(len(f[number][0]) for f in found)} blocks", flush=True)
    save_file(tensors, a.out, about)


if __name__ == "__main__":
    main()
