"""Residual blocks of intra prediction: what learned matrices and adaptive entropy coding bring.

    python kodak_eval/residuals.py PACK_FOLDER FOLDER_OF_24_PNG        (about 20 minutes on one core)

The experiment of "Multi-rate adaptive transform coding for video compression" (arXiv 2210.14308) with our
own parts. Blocks of 8x8, 16x16 and 32x32 of luma (BT.601) are predicted by the best of 35 modes (planar,
DC, angular; least Hadamard sum) from the samples around them in the picture as family `dct`, untrained,
decodes it at the same quality: as in an encoder's loop, and the same residuals for every system.

A system is a matrix and an entropy model, both fitted to residuals of training crops (train-001.tar and on):

    flat, static         one step a quality; one probability a frequency and bin, fitted at each quality
    learned, static      matrices learned for that code (ncodec.training.matrices)
    learned, contexts    matrices learned for a conditional code; mixed contexts, fixed
    learned, adaptive    the same, adapting; what `ncodec.dct.BlockCoder` does
    flat, adaptive       without the matrices
    learned, adaptive, angle     its transform replaced by that of small integers

In the first table all systems choose levels by rate and distortion (RDOQ), each for its own probabilities; in
the second they round with a dead zone, and matrices are learned for that. Rates are of payloads, one an image,
headers included; distortion is of the decoded residuals, which is that of the picture. Writes
results/residuals.json and .md: BD-rates, means over the images.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import ncodec.dct._dct as _dct
from ncodec.dct import BlockCoder
from ncodec.dct.parameters import Tensors, initial
from ncodec.metrics import bd_rate
from ncodec.quality import lmbda_of
from ncodec.training.dct.matrices import Blocks, learn
from ncodec.training.dct.program import CAP, crops, fit_confidences, fit_starts

RESULTS = Path(__file__).parent / "results"
QUALITIES = range(1, 9)
SIDES = (8, 16, 32)
CROPS = 12
ENTROPIES = {"static": "frequency", "contexts": "conditional", "adaptive": "adaptive"}


@dataclass(frozen=True)
class System:
    """A row of the table."""

    name: str
    matrix: str
    entropy: str
    transform: str = "dct"
    optimised: bool = True

    @property
    def fit(self) -> tuple[str, str, bool]:
        """Systems of one fit share their parameters."""
        return self.matrix, self.entropy, self.optimised


KINDS = (
    System("flat, static", "flat", "static"),
    System("learned, static", "learned", "static"),
    System("learned, contexts", "learned", "contexts"),
    System("learned, adaptive", "learned", "adaptive"),
    System("flat, adaptive", "flat", "adaptive"),
    System("learned, adaptive, angle", "learned", "adaptive", "angle"),
)
SYSTEMS = KINDS + tuple(replace(s, name=f"{s.name}; rounding", optimised=False) for s in KINDS)
Residuals = dict[tuple[int, int], NDArray[np.int16]]  # by quality, side


def residuals_of(image: NDArray[np.uint8]) -> Residuals:
    """Return the residual blocks [n, side, side] of an image's luma, of 10 bits."""
    luma = np.asarray(Image.fromarray(image).convert("L"))
    parameters = _dct.Parameters(initial())
    out = {}
    for q in QUALITIES:
        options = _dct.EncoderOptions()
        options.lmbda, options.least_log2, options.full_trials = lmbda_of(20 * (q - 1)), 3, 1
        data = _dct.encode(luma, parameters, 20 * (q - 1), 0, 0, options)
        decoded = _dct.decode(data, parameters, 20 * (q - 1), luma.shape[1], luma.shape[0], True)
        for side in SIDES:
            out[q, side] = _dct.intra_residuals(luma, decoded, side.bit_length() - 1)[0]
    return out


def format_of(system: System, q: int, side: int) -> _dct.BlockFormat:
    """Return the blocks' format for the C++ functions."""
    entropy = ("static", "contexts", "adaptive").index(system.entropy)
    return _dct.BlockFormat(side.bit_length() - 1, 20 * (q - 1), 10, entropy, 0, False, False)


def width_of(blocks: NDArray[np.int16], aspect: float) -> int:
    """Return how many blocks a row has in an image of this ratio of sides."""
    return round((len(blocks) * aspect) ** 0.5)


def learn_matrix(system: System, tensors: Tensors, training: list[Residuals]) -> None:
    """Replace the steps of `tensors`: all matrices, or, of flat ones, one step a quality."""
    parameters = _dct.Parameters(tensors)
    blocks = {}
    for q in QUALITIES:
        for side in SIDES:
            form = format_of(System("", "flat", "adaptive"), q, side)
            weight = lmbda_of(20 * (q - 1)) / 16
            c = [_dct.transform_blocks(r[q, side], parameters, form) for r in training]
            e = [
                _dct.count_blocks(
                    r[q, side], width_of(r[q, side], 1), parameters, form, 16 * weight, True
                )[3]
                for r in training
            ]
            kind = Blocks(np.concatenate(c), np.concatenate(e), weight)
            blocks[q - 1, 0, side.bit_length() - 3] = kind.sample(1 << 18)
    learned = learn(
        blocks,
        tensors["log_step"],
        tensors["matrix"],
        learns_matrix=system.matrix == "learned",
        conditional=system.entropy != "static",
        optimised=system.optimised,
        iterations=24,
        rate=0.04,
    )
    tensors["log_step"], tensors["matrix"] = learned.log_step, learned.matrix


def fit(system: System, first: Tensors, training: list[Residuals]) -> dict[int, Tensors]:
    """Return the parameters of a system by quality: steps, matrices and starting states."""
    tensors = dict(first)
    learn_matrix(system, tensors, training)
    if system.entropy != "adaptive":
        fit_contexts(replace(system, entropy="adaptive"), tensors, training[::2])
    fitted = fit_contexts(system, tensors, training)
    return fitted if system.entropy == "static" else {q: tensors for q in QUALITIES}


def fit_contexts(system: System, tensors: Tensors, training: list[Residuals]) -> dict[int, Tensors]:
    """Fit the starting states of `tensors`, twice; return them fitted to each quality alone."""
    each = {q: tensors for q in QUALITIES}
    for _ in range(2):
        counts, weights = [], []
        for r in training:
            for q in QUALITIES:
                parameters = _dct.Parameters(each[q])
                of_sides = [
                    _dct.count_blocks(
                        r[q, side],
                        width_of(r[q, side], 1),
                        parameters,
                        format_of(system, q, side),
                        lmbda_of(20 * (q - 1)),
                        system.optimised,
                    )
                    for side in SIDES
                ]
                counts.append(np.sum([c for c, _, _, _ in of_sides], 0, dtype=np.float64))
                weights.append(np.mean([w for _, w, _, _ in of_sides], 0))
        counted = np.array(counts).reshape(len(training), 8, -1, 2)
        total = np.maximum(counted.sum(3, keepdims=True), 1)
        is_static = system.entropy == "static"
        cap = 1e9 if is_static or system.entropy == "contexts" else CAP
        tensors["start"] = fit_starts((counted * np.minimum(1, cap / total)).sum(0))
        if system.entropy == "adaptive":
            tensors["confidence"] = fit_confidences(
                counted * np.minimum(1, 200 / total),
                tensors["start"],  # type: ignore[arg-type]
            )
            mean = np.mean(weights, 0) / 4
            tensors["weights"] = np.clip(np.round(mean), -32768, 32767).astype(np.int16)
        if is_static:
            ones, n = counted[..., 1].sum(0) + 0.5, counted.sum((0, 3)) + 1
            starts = np.clip(np.round(16 * np.log(ones / (n - ones))), -127, 127).astype(np.int8)
            each = {q: tensors | {"start": np.stack([starts[q - 1]] * 2)} for q in QUALITIES}
    return each


def measure(
    system: System, q: int, side: int, tensors: Tensors, r: Residuals, width: int
) -> tuple[float, float]:
    """Return bits a sample and PSNR (dB) of an image's blocks, decoded from their payload."""
    coder = BlockCoder(
        q,
        tensors,
        entropy=ENTROPIES[system.entropy],  # type: ignore[arg-type]
        transform=system.transform,  # type: ignore[arg-type]
        bit_depth=10,
        optimised=system.optimised,
    )
    blocks = r[q, side]
    data = coder.encode(blocks, width)
    error = np.mean((coder.decode(data) - blocks.astype(np.float64)) ** 2)
    return 8 * len(data) / blocks.size, float(10 * np.log10(1023**2 / error))


def main() -> None:
    """Fit, measure, write."""
    pack, folder = map(Path, sys.argv[1:3])
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {what}", flush=True)

    training = [residuals_of(x) for x in crops(sorted(pack.glob("train-00[1-6].tar")), CROPS)]
    say("residuals of the training crops")
    first = initial()
    fit_contexts(
        System("", "flat", "adaptive"), first, training[::4]
    )  # for energies, and to begin with
    fits: dict[tuple[str, str, bool], dict[int, Tensors]] = {}
    for system in SYSTEMS:
        if system.fit not in fits:
            fits[system.fit] = fit(system, first, training)
            say(f"fitted {system.fit}")
    points: dict[str, dict[str, list[list[tuple[float, float]]]]] = {
        s.name: {str(side): [] for side in SIDES} for s in SYSTEMS
    }
    paths = sorted(folder.glob("*.png"))
    for path in paths:
        image = np.asarray(Image.open(path).convert("RGB"))
        r = residuals_of(image)
        for system in SYSTEMS:
            for side in SIDES:
                width = image.shape[1] // side
                points[system.name][str(side)].append(
                    [measure(system, q, side, fits[system.fit][q], r, width) for q in QUALITIES]
                )
        say(path.name)
    tables = {
        s.name: {
            "log_step": fits[s.fit][4]["log_step"][:, 0].tolist(),
            "matrix": fits[s.fit][4]["matrix"][:, 0, 1:4].tolist(),
        }
        for s in SYSTEMS
        if s.transform == "dct"
    }
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS
    )
    about = {"images": len(paths), "crops": CROPS, "commit": commit.stdout.strip()}
    write(points, about | {"tables": tables})


def write(points: dict[str, Any], about: dict[str, Any]) -> None:
    """Write both files of results."""
    lines = [
        "# Residual blocks of intra prediction",
        "",
        f"BD-rate (percent, PSNR) against *flat, static*; in brackets, against the row above; mean over {about['images']}",
        f"images. What was done: `kodak_eval/residuals.py`, at commit {about['commit']}.",
    ]
    summary: dict[str, dict[str, list[float]]] = {}
    for title, optimised in (
        ("Levels by rate and distortion", True),
        ("Levels by rounding", False),
    ):
        lines += [
            "",
            f"## {title}",
            "",
            "| system | " + " | ".join(f"{s}x{s}" for s in SIDES) + " |",
        ]
        lines.append("|---|" + "---|" * len(SIDES))
        rows = [s for s in SYSTEMS if s.optimised is optimised]
        before = rows[0]
        for system in rows:
            cells, row = [], {}
            for side in map(str, SIDES):
                own = points[system.name][side]
                row[side] = [_mean_bd(points[other.name][side], own) for other in (rows[0], before)]
                cells.append(f"{row[side][0]:+.2f} ({row[side][1]:+.2f})")
            summary[system.name] = row
            lines.append(f"| {system.name.split(';')[0]} | " + " | ".join(cells) + " |")
            before = system
    lines += [
        "",
        "RDOQ against rounding, *learned, adaptive*: "
        + ", ".join(
            f"{side}x{side} {_mean_bd(points['learned, adaptive; rounding'][side], points['learned, adaptive'][side]):+.2f}"
            for side in map(str, SIDES)
        )
        + ".",
    ]
    curves = {
        name: {side: np.mean(values, 0).round(4).tolist() for side, values in of_sides.items()}
        for name, of_sides in points.items()
    }
    result = about | {"bd_rate": summary, "mean_points": curves}
    (RESULTS / "residuals.json").write_text(json.dumps(result) + "\n")
    (RESULTS / "residuals.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _mean_bd(
    anchor: list[list[tuple[float, float]]], own: list[list[tuple[float, float]]]
) -> float:
    return round(float(np.mean([bd_rate(a, b)[0] for a, b in zip(anchor, own, strict=True)])), 2)


if __name__ == "__main__":
    main()
