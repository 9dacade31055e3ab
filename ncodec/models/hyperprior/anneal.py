"""Latents refined for one image, for the same decoder: an encoder that searches. Needs torch.

    u --v = u - mean * gain--> softly rounded r --+--> y_hat --g_s--> x_hat --> lambda * 255**2 * MSE
    ^                 ^--- mean <---- context ----+                              + bits(v) + pull(v, r)
    +------------------ gradient, straight through the rounding -----------------+

u is y in latent steps. After Yang et al. 2020, "Improving Inference for Neural Image Compression"
(https://arxiv.org/abs/2006.04240): rounding that hardens while gradient descent goes on. They sample it, for thousands
of steps. For ten, three things differ:

- nothing is sampled: r is the mean of floor and ceiling by their probabilities;
- bits are the tables', linear from one integer to the next: the slope is what rounding up will cost;
- v is pulled to r, as strongly as distortion is curved. Straight through the rounding, a latent feels the error of its
  own rounding, which drives it back over the threshold, and again: that part cancels, and what it feels is the others.

z stays as it is: refined too, files became larger.

Weights of tune visual are followed by their own objective, in part SSIMULACRA2's, whose curvature differs from latent to
latent: steps are a tenth as long there, or some are too long.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncodec.entropy import FREQ_BITS, FrequencyTables
from ncodec.models.hyperprior.layers import Z_STRIDE
from ncodec.models.hyperprior.network import Hyperprior
from ncodec.nn import STRIDE
from ncodec.nn.gain import at_quality, lmbda_at_quality
from ncodec.nn.quantize import bound
from ncodec.nn.ssimulacra2 import ssimulacra2
from ncodec.nn.threads import one_thread
from ncodec.nn.training import VISUAL, Objective
from ncodec.quality import lmbda_of, quality_of

# Rounding to steps s costs c * s**2 / 24 bits; where gains have reached their lambda, an octave of s costs what it saves, 1.
CURVATURE = 12 / math.log(2)  # c: of lambda * 255**2 * MSE, bits per squared latent step
LEARNING_RATE = 0.5 / CURVATURE  # latent steps, per bit per latent step
MOMENTUM = 0.5
SHORTER = 0.1  # steps towards SSIMULACRA2
WARMEST, COLDEST = 0.3, 0.05  # temperatures of rounding
EDGE = 1e-4  # latent steps; atanh(1) is infinite
WINDOW = 64  # latents a side that are refined together,
MARGIN = 4  # and those around them that are refined again


class _Window(NamedTuple):
    """What of an image its latents are refined for: [1, C, ...], channels last."""

    x: Tensor  # [1, 3, 16 h, 16 w] in [0, 1]
    z_hat: Tensor  # [1, Z, ceil(h/2), ceil(w/2)]
    indexes: Tensor  # [1, M, h, w]
    coded: Tensor  # [1, M, h, w], bool


@one_thread()
@torch.enable_grad()
def refine(
    model: Hyperprior,
    pixels: NDArray[np.uint8],
    quality_code: int,
    y: NDArray[np.float32],
    z: NDArray[np.int16],
    indexes: NDArray[np.int16],
    tables: FrequencyTables,
    skip_below: int,
    steps: int,
    tune: str,
) -> NDArray[np.float32]:
    """Return y [h, w, M] of which the encoder's closed loop makes a better file.

    Args:
        model: on the CPU, without gradients, channels last.
        pixels: [16 h, 16 w, 3].
        quality_code: (quality - 1) * 20.
        y: [h, w, M], as g_a has it.
        z: [ceil(h/2), ceil(w/2), Z].
        indexes: [h, w, M], rows of `tables`.
        tables: of residuals.
        skip_below: residuals with a smaller index are not coded, they are 0.
        steps: of gradient descent, each as long as three decodes.
        tune: of the weights.
    """
    slopes = torch.from_numpy(_slopes(tables))
    objective = VISUAL if tune == "visual" else Objective()
    height, width = y.shape[:2]
    refined = y.copy()
    for i in range(0, height, WINDOW):
        for j in range(0, width, WINDOW):
            top, left = max(i - MARGIN, 0), max(j - MARGIN, 0)
            bottom, right = min(i + WINDOW + MARGIN, height), min(j + WINDOW + MARGIN, width)
            here = (slice(top, bottom), slice(left, right))
            window = _Window(
                _tensor(pixels[tuple(slice(s.start * STRIDE, s.stop * STRIDE) for s in here)])
                / 255,
                _tensor(z[tuple(slice(s.start // Z_STRIDE, -(-s.stop // Z_STRIDE)) for s in here)]),
                _tensor(indexes[here]).long(),
                _tensor(indexes[here]) >= skip_below,
            )
            found = _descend(
                model, window, quality_code, _tensor(y[here]), slopes, steps, objective
            )
            inner = found[0].permute(1, 2, 0)[i - top :, j - left :][:WINDOW, :WINDOW]
            refined[i : i + WINDOW, j : j + WINDOW] = inner.numpy()
    return refined


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return [1, C, h, w] of [h, w, C]."""
    return torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1)[None]


def _slopes(tables: FrequencyTables) -> NDArray[np.float32]:
    """Return bits(r + 1) - bits(r) [k, 2 n] of residuals r = -n … n - 1; escapes all have one byte."""
    n = tables.frequencies.shape[1] // 2
    r = np.arange(-n, n + 1)
    entries = np.where(r >= 0, 2 * r, -2 * r - 1)
    escape = tables.sizes[:, None] - 1
    frequencies = np.take_along_axis(tables.frequencies, np.minimum(entries, escape), 1)
    bits = FREQ_BITS - np.log2(frequencies.astype(np.float32)) + 8 * (entries >= escape)
    return np.diff(bits).astype(np.float32)


def _descend(
    model: Hyperprior, window: _Window, quality_code: int, y: Tensor, slopes: Tensor, steps: int, objective: Objective
) -> Tensor:  # fmt: skip
    """Return y [1, M, h, w] after gradient descent."""
    gain = at_quality(model.log_gain, torch.tensor([quality_of(quality_code)])).exp()
    u = (y * gain).requires_grad_()
    optimizer = torch.optim.SGD([u], momentum=MOMENTUM)
    rate = LEARNING_RATE * (SHORTER if objective.ssimulacra2 else 1)
    for step in range(steps):
        temperature = WARMEST * (COLDEST / WARMEST) ** (step / max(steps - 1, 1))
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        _loss(model, window, quality_code, u, gain, slopes, temperature, objective).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return u.detach() / gain


def _loss(
    model: Hyperprior, window: _Window, quality_code: int, u: Tensor, gain: Tensor, slopes: Tensor, temperature: float, objective: Objective
) -> Tensor:  # fmt: skip
    """Return what falls where the loss of the file does (bits, up to a constant)."""
    x, z_hat, indexes, coded = window
    n = slopes.shape[1] // 2
    bits = pull = torch.zeros(())

    def residual(mask: Tensor, mean: Tensor) -> Tensor:
        nonlocal bits, pull
        v = (u - mean * gain) * coded
        low = v.detach().floor()
        r = _softly_rounded(v.detach(), temperature) * coded
        bits = bits + (mask * v * slopes[indexes, low.long().clamp(-n, n - 1) + n]).sum()
        pull = pull + (mask * (v - r).square()).sum()
        return v + (r - v.detach())

    q = torch.tensor([quality_of(quality_code)])
    y_hat = model.reconstruct_y(z_hat, q, (u.shape[2], u.shape[3]), residual)
    x_hat = bound(model.g_s(y_hat, q), 0, 1)
    distortion = lmbda_of(quality_code) * 255**2 * (x_hat - x).square().sum() / 3
    if objective.ssimulacra2:
        lost = lmbda_at_quality(q, objective.points) * (100 - ssimulacra2(x, x_hat))
        distortion = torch.lerp(distortion, lost.sum() * x[0, 0].numel(), objective.ssimulacra2)
    return distortion + bits + CURVATURE / 2 * pull


def _softly_rounded(v: Tensor, temperature: float) -> Tensor:
    """Return the mean of floor and ceiling, whose probabilities are exp(-atanh(distance) / temperature)."""
    low = v.floor()
    up = (v - low).clamp(EDGE, 1 - EDGE)
    return low + torch.sigmoid((up.atanh() - (1 - up).atanh()) / temperature)
