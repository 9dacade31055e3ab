"""Trains the parameters of family `dct`: `python -m ncodec.training.dct PACK... --out FILE` (specs/training.md).

    crops --encode--> counts of bins by context ----> starts, confidences      (likelihood)
                  --> final weights of the mixers --> first weights            (mean)
                  --> sums of differences ----------> filters of the classes   (least squares)
                  --> coefficients of the blocks ---> steps and matrices       (gradient descent, torch)

One set of parameters for the whole curve: each is found at the eight integer qualities and interpolated.
"""

import argparse
import io
import json
import tarfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

from ncodec.dct import _dct
from ncodec.dct.parameters import Tensors, Tuning, initial
from ncodec.models.dct.codec import Options
from ncodec.quality import QUALITY_STEPS

QUALITIES = range(1, 9)
IN_THE_LOOP = np.int16(30)  # of 1/256 octave
CAP = 30  # bins of an image that count for a start: later ones meet an adapted context
CONFIDENCES = np.array([0, 1, 2, 3, 5, 8, 12, 20, 32, 50, 80, 128, 200, 255])


def crops(packs: Iterable[Path], count: int) -> list[NDArray[np.uint8]]:
    """Return `count` images, spread evenly over tar files."""
    packs = list(packs)
    images = []
    for pack in packs:
        with tarfile.open(pack) as tar:
            members = [m for m in tar.getmembers() if m.isfile()]
            for member in members[:: max(len(members) * len(packs) // count, 1)]:
                file = tar.extractfile(member)
                assert file is not None
                images.append(np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")))
    return images[:count]


def read(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Return a weights file's tensors and what it says of itself."""
    with safe_open(path, "np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def options(quality: int, tuning: Tuning | None = None) -> _dct.EncoderOptions:
    """Return the encoder's usual options at a quality."""
    return Options().for_encoder((quality - 1) * QUALITY_STEPS, tuning)


@dataclass
class Work:
    """One encoding of a crop for its statistics."""

    kind: str  # "count", "luma" or "chroma"
    pixels: NDArray[np.uint8]
    quality: int
    tensors: Tensors
    tuning: Tuning | None

    def __call__(self) -> Any:
        parameters, code = _dct.Parameters(self.tensors), (self.quality - 1) * QUALITY_STEPS
        chosen = options(self.quality, self.tuning)
        if self.kind == "count":
            return _dct.count(self.pixels, parameters, code, chosen)
        return _dct.filter_sums(self.pixels, parameters, code, chosen, self.kind == "chroma")


def run(work: Work) -> Any:
    """Do a piece of work, in any process."""
    return work()


def fit_starts(counts: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return starts [2, contexts] for counts [8, contexts, 2] of bins 0 and 1 by quality.

    The stretched probability is linear in the quality: maximum likelihood by Newton's method, with a
    prior of one bin of each value and, for the slope, of a standard deviation of 1.
    """
    t = np.arange(8)[:, None] / 7
    s = np.zeros((2, counts.shape[1]))
    n = counts.sum(2) + 1
    ones = counts[:, :, 1] + 0.5
    for _ in range(50):
        p = 1 / (1 + np.exp(-(s[0] * (1 - t) + s[1] * t)))
        g = ones - n * p
        h = n * p * (1 - p)
        slope = s[1] - s[0]
        g0, g1 = (g * (1 - t)).sum(0) + slope, (g * t).sum(0) - slope
        a, b, c = (
            (h * (1 - t) ** 2).sum(0) + 1 + 1e-3,
            (h * t * (1 - t)).sum(0) - 1,
            (h * t**2).sum(0) + 1 + 1e-3,
        )
        det = a * c - b * b
        s += np.clip(np.stack([(c * g0 - b * g1) / det, (a * g1 - b * g0) / det]), -1, 1)
    return np.clip(np.round(s * 16), -127, 127).astype(np.int8)


def fit_confidences(counts: NDArray[np.float64], starts: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return how many bins each start is worth, [contexts], for counts [images, 8, contexts, 2].

    The one of CONFIDENCES with the largest likelihood of the images' counts, each image's probability
    drawn from a beta distribution around the start.
    """
    from scipy.special import gammaln

    t = np.arange(8)[:, None] / 7
    p = 1 / (1 + np.exp(-(starts[0] * (1 - t) + starts[1] * t) / 16))
    p = np.clip(p, 1e-3, 1 - 1e-3)
    scores = []
    for confidence in CONFIDENCES:
        a, b = (confidence + 0.5) * p, (confidence + 0.5) * (1 - p)
        zeros, ones = counts[..., 0], counts[..., 1]
        score = gammaln(ones + a) + gammaln(zeros + b) - gammaln(ones + zeros + a + b)
        scores.append((score + gammaln(a + b) - gammaln(a) - gammaln(b)).sum((0, 1)))
    return CONFIDENCES[np.argmax(scores, 0)].astype(np.uint8)


def train_contexts(
    tensors: Tensors,
    images: list[NDArray[np.uint8]],
    pool: ProcessPoolExecutor,
    tuning: Tuning | None = None,
) -> float:
    """Fit starts, confidences and weights in place; return the mean bits of an encoding before."""
    work = [Work("count", image, q, tensors, tuning) for image in images for q in QUALITIES]
    results = list(pool.map(run, work, chunksize=8))
    counts = np.stack([c for c, _, _ in results]).astype(np.float64)
    weights = np.stack([w for _, w, _ in results]).astype(np.float64)
    counts = counts.reshape(len(images), 8, *counts.shape[1:])
    total = counts.sum(3, keepdims=True)
    capped = counts * np.minimum(1, CAP / np.maximum(total, 1))
    tensors["start"] = starts = fit_starts(capped.sum(0))
    tensors["confidence"] = fit_confidences(
        counts * np.minimum(1, 200 / np.maximum(total, 1)), starts
    )
    tensors["weights"] = np.clip(np.round(weights.mean(0) / 4), -32768, 32767).astype(np.int16)
    return float(np.mean([bits for _, _, bits in results]))


def train_filters(
    tensors: Tensors,
    images: list[NDArray[np.uint8]],
    pool: ProcessPoolExecutor,
    tuning: Tuning | None = None,
) -> None:
    """Solve for luma's and then chroma's filters in place."""
    for kind in ("luma", "chroma"):
        for q in QUALITIES:
            work = [Work(kind, image, q, tensors, tuning) for image in images]
            products, targets = (
                np.sum(s, 0) for s in zip(*pool.map(run, work, chunksize=4), strict=True)
            )
            n = targets.shape[1]
            ridge = np.eye(n) * (1e-3 * np.einsum("cii->c", products)[:, None, None] / n + 1e-6)
            solved = np.linalg.solve(products + ridge, targets[:, :, None])[:, :, 0]
            taps = np.clip(np.round(solved * 128), -127, 127).astype(np.int8)
            name = f"{kind}_filter"
            tensors[name][q - 1] = taps.reshape(tensors[name][q - 1].shape)


def train_matrices(tensors: Tensors, images: list[NDArray[np.uint8]]) -> None:
    """Learn steps and matrices in place.

    The blocks are taken as they are, so the learning does not see that later ones are predicted from
    them; nor that a filter follows: IN_THE_LOOP is what steps are better enlarged by (measured).
    """
    from ncodec.training.dct.matrices import Blocks, Key, leaf_blocks, learn

    blocks: dict[Key, Blocks] = {}
    for q in QUALITIES:
        blocks |= leaf_blocks(images, tensors, q, options(q))
    learned = learn(blocks, tensors["log_step"], tensors["matrix"])
    tensors["log_step"] = learned.log_step + IN_THE_LOOP
    tensors["matrix"] = learned.matrix


def main() -> None:
    """Run the stages in turn, twice; write the weights file after each round."""
    from safetensors.numpy import load_file, save_file

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("packs", nargs="+", type=Path, help="tar files of images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", default="dct")
    parser.add_argument(
        "--start", type=Path, help="a weights file to go on from, its matrices kept"
    )
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    images = crops(arguments.packs, arguments.images)
    tensors = dict(load_file(arguments.start)) if arguments.start else initial()
    began = time.monotonic()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for number in range(arguments.rounds):
            bits = train_contexts(tensors, images, pool)
            print(
                f"round {number}: {bits:.0f} bits before, contexts {time.monotonic() - began:.0f} s",
                flush=True,
            )
            if number == 0 and not arguments.start:
                train_matrices(tensors, images[:24])
                print(f"round {number}: matrices {time.monotonic() - began:.0f} s", flush=True)
            train_filters(tensors, images[::3], pool)
            print(f"round {number}: filters {time.monotonic() - began:.0f} s", flush=True)
            about = {"name": arguments.name, "family": "dct"}
            save_file(tensors, arguments.out, {"ncodec": json.dumps(about)})
