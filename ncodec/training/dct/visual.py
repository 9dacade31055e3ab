"""Tunes family `dct` for eyes: `python -m ncodec.training.dct.visual PACK... --start WEIGHTS --out FILE` (specs/training.md).

    errors of files, by frequency --gradient of SSIMULACRA2--> sensitivity of Y, Cb, Cr
    Knobs, sensitivity --> matrices, encoder's tuning --files of crops--> mean BD-rate over SSIMULACRA2
      ^------------------------- Nelder and Mead 1965 ---------------------------/
    contexts and filters once more, of the files that came of it (program.py)

Crops to tune on are the training pack's; SSIMULACRA2 tunes, other metrics and eyes judge (specs/training.md has both).
"""

import argparse
import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from ncodec.dct import _dct
from ncodec.dct.parameters import YCBCR, Tensors, Tuning
from ncodec.errors import InputError
from ncodec.metrics import bd_rate, bpp
from ncodec.models.dct.codec import Options
from ncodec.nn.ssimulacra2 import ssimulacra2
from ncodec.nn.threads import one_thread
from ncodec.quality import quality_code
from ncodec.training.dct.matrices import named_frequencies
from ncodec.training.dct.program import crops, train_contexts, train_filters

QUALITIES = (2.0, 4.5, 7.0)
HEADER_BYTES = 40
OCTAVES = 7  # frequencies of a sensitivity: 2^-7 ... 2^-1 cycles a sample
USUAL_VARIANCE = 60.0  # of 8-bit luma, means of 4x4, where steps stay as they are; the median of 60 of the pack's crops is 109
# Of chroma: the share of its sensitivity that counts, as SSIMULACRA2 sees less of chroma than Butteraugli and CVVDP do, and octaves
# that all of it weighs more, as eyes saw small saturated things fade.
CHROMA, COLOUR = 0.25, 0.5
TO_RGB = torch.tensor(YCBCR / 65536, dtype=torch.float32)


@dataclass(frozen=True)
class Knobs:
    """What is searched for; each is positive."""

    weight_slope: float = 0.36
    offset_slope: float = 0.165
    constant: float = 70.0
    luma: float = 0.8  # share of luma's sensitivity that counts
    matrix: float = 0.7  # share of the sensitivity, in steps, that matrices take up
    lmbda: float = 1.2

    def apply(self, start: Tensors, measured: NDArray[np.float64]) -> tuple[Tensors, Tuning]:
        """Return weights of Y, Cb, Cr with other matrices, and what tunes their encoder; `measured` [3, OCTAVES]: sensitivity (log2)."""
        sensitivity = self.luma * measured * np.array([[1], [CHROMA], [CHROMA]])
        sensitivity[1:] += COLOUR
        matrix = start["matrix"].astype(float)  # [8, 2, 5, 64], of 1/32 octave
        finer = -0.5 * self.matrix * np.stack([sensitivity[0], sensitivity[1:].mean(0)])
        for size in range(5):
            side = 4 << size
            grid = np.array(named_frequencies(size)) / (2 * side)  # cycles a sample
            cycles = np.hypot(grid[:, None], grid).ravel()
            for chroma in range(2):
                matrix[:, chroma, size] += 32 * at_frequency(finer[chroma], cycles)
        tuning = Tuning(
            self.lmbda, self.weight_slope, self.offset_slope, self.constant,
            -math.log2(2 * USUAL_VARIANCE + self.constant),
            tuple(tuple(np.round(row, 2).tolist()) for row in sensitivity),
        )  # fmt: skip
        rounded = np.clip(np.round(matrix), -127, 127).astype(np.int8)
        return start | {"matrix": rounded, "colour": YCBCR}, tuning


def at_frequency(octaves: NDArray[np.float64], cycles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values at frequencies (cycles a sample) of [OCTAVES] at 2^-7 ... 2^-1, linear between, constant beyond."""
    return np.interp(np.log2(np.maximum(cycles, 1e-9)), np.arange(OCTAVES) - 7, octaves)


def tensor_of(pixels: NDArray[np.uint8]) -> Tensor:
    """Return pixels [H, W, 3] as [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)


# ---------------------------------------------------------------- sensitivity


@one_thread()
def measure_sensitivity(pixels: NDArray[np.uint8], tensors: Tensors) -> NDArray[np.float64]:
    """Return [2, 3, OCTAVES]: SSIMULACRA2 lost and squared error, by plane and frequency, summed over files of a crop.

    Every frequency's error in the decoded picture has a factor 1; the metric's gradient by it is what that error costs.
    """
    side = 64
    k, n = torch.arange(side)[:, None], torch.arange(side)
    dct = (
        torch.cos(math.pi * k * (2 * n + 1) / (2 * side)) * (2 / side) ** 0.5
    )  # orthonormal but for row 0
    dct[0] /= 2**0.5
    cycles = torch.hypot(k.float(), n.float()) / (2 * side)
    band = (cycles.clamp_min(1e-9).log2() + 7.5).floor().clamp(0, OCTAVES - 1).long()
    height, width = (s - s % side for s in pixels.shape[:2])
    pixels = pixels[:height, :width]
    x, parameters = tensor_of(pixels), _dct.Parameters(tensors)
    sums = torch.zeros(2, 3, OCTAVES, dtype=torch.float64)
    for quality in QUALITIES:
        code = quality_code(quality)
        payload = _dct.encode(pixels, parameters, code, 0, 0, Options().for_encoder(code))
        decoded = _dct.decode(payload, parameters, code, width, height, False)
        error = torch.einsum("ij,bjhw->bihw", TO_RGB.inverse(), tensor_of(decoded) - x)
        blocks = error.reshape(3, height // side, side, width // side, side)
        coefficients = torch.einsum("kn,chnwm,lm->chwkl", dct, blocks, dct)
        factors = torch.ones(3, OCTAVES, requires_grad=True)
        changed = coefficients * factors[:, band][:, None, None]
        error = torch.einsum("kn,chwkl,lm->chnwm", dct, changed, dct).reshape(1, 3, height, width)
        score = ssimulacra2(x, x + torch.einsum("ij,bjhw->bihw", TO_RGB, error))
        (gradient,) = torch.autograd.grad(score.sum(), factors)
        lost = -gradient.double() / -gradient[0].sum()
        squares = coefficients.square().sum((1, 2)).flatten(1).double()
        energy = torch.zeros(3, OCTAVES, dtype=torch.float64)
        energy.index_add_(1, band.flatten(), squares)
        sums[0] += lost
        sums[1] += energy / energy[0].sum()
    return sums.numpy()


def sensitivity_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log2 of what a squared error costs, [3, OCTAVES] at 2^-7 ... 2^-1 cycles a sample; luma's, by what it loses, is 0 in the mean.

    Cr counts no less than Cb: the metric hardly sees it, eyes see tints in skies.
    """
    lost, energy = sums
    found = np.log2(np.maximum(lost / energy, 2.0**-4))  # an error may seem to help
    found[2] = found[1:].max(0)
    return found


# ---------------------------------------------------------------- search


@one_thread()
def points_of(
    pixels: NDArray[np.uint8], tensors: Tensors, tuning: Tuning | None
) -> list[tuple[float, float]]:
    """Return (bpp, SSIMULACRA2) of a crop's files."""
    height, width = pixels.shape[:2]
    parameters, points = _dct.Parameters(tensors), []
    for quality in QUALITIES:
        code = quality_code(quality)
        payload = _dct.encode(pixels, parameters, code, 0, 0, Options().for_encoder(code, tuning))
        decoded = _dct.decode(payload, parameters, code, width, height, False)
        with torch.no_grad():
            score = float(ssimulacra2(tensor_of(pixels), tensor_of(decoded)))
        points.append((bpp(len(payload) + HEADER_BYTES, width, height), score))
    return points


class Search:
    """Mean over crops of BD-rates (percent) against the weights that it starts from."""

    def __init__(
        self, start: Tensors, images: list[NDArray[np.uint8]], pool: ProcessPoolExecutor
    ) -> None:
        self.start, self.images, self.pool = start, images, pool
        sums = list(pool.map(partial(measure_sensitivity, tensors=start), images))
        self.measured = sensitivity_of(np.sum(sums, 0))
        self.anchor = self.points(start, None)

    def points(self, tensors: Tensors, tuning: Tuning | None) -> list[list[tuple[float, float]]]:
        """Return a curve a crop."""
        return list(self.pool.map(partial(points_of, tensors=tensors, tuning=tuning), self.images))

    def percent(self, logarithms: NDArray[np.float64]) -> float:
        """Return what is to be small, for the logarithms of the knobs."""
        knobs = Knobs(*np.exp(logarithms).tolist())
        rates = []
        for anchor, curve in zip(
            self.anchor, self.points(*knobs.apply(self.start, self.measured)), strict=True
        ):
            try:
                rates.append(bd_rate(anchor, curve)[0])
            except InputError:  # a crop whose curves do not overlap says nothing
                continue
        result = float(np.mean(rates))
        print(f"{result:+.2f} % of {len(rates)} crops: {knobs}", flush=True)
        return result


def main() -> None:
    """Measure, search, train contexts and filters, write the weights file."""
    from scipy.optimize import minimize

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("packs", nargs="+", type=Path, help="tar files of images")
    parser.add_argument("--start", type=Path, required=True, help="weights of tune psnr")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="dct-visual")
    parser.add_argument("--images", type=int, default=12, help="crops to search on")
    parser.add_argument(
        "--tries", type=int, default=40, help="0: the knobs that the program begins with"
    )
    parser.add_argument(
        "--contexts",
        type=int,
        default=100,
        help="crops to train contexts on; a third of them, filters",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    images = crops(arguments.packs, max(arguments.images, arguments.contexts))
    start = dict(load_file(arguments.start))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        search = Search(
            start, images[:: max(len(images) // arguments.images, 1)][: arguments.images], pool
        )
        print("sensitivity", search.measured.round(2).tolist(), flush=True)
        best = np.log(astuple(Knobs()))
        if arguments.tries:
            options = {
                "maxfev": arguments.tries,
                "initial_simplex": best + np.vstack([np.zeros(6), 0.4 * np.eye(6)]),
            }
            best = minimize(search.percent, best, method="Nelder-Mead", options=options).x
        tensors, tuning = Knobs(*np.exp(best).tolist()).apply(start, search.measured)
        about = {"name": arguments.name, "family": "dct", "tune": "visual", "tuning": vars(tuning)}
        save_file(tensors, arguments.out, {"ncodec": json.dumps(about)})
        train_contexts(tensors, images[: arguments.contexts], pool, tuning)
        print("contexts", flush=True)
        train_filters(tensors, images[: arguments.contexts : 3], pool, tuning)
        save_file(tensors, arguments.out, {"ncodec": json.dumps(about)})


if __name__ == "__main__":
    main()
