r"""What limits a trained hyperprior, at one quality: where its bits and errors are, and what some changes could win.

    images --codec--> latents, table rows --shipped tables--> bits --\
                 \--> reconstructions --> errors ---------------------+--> Diagnosis
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from ncodec.entropy import FrequencyTables
from ncodec.exact.network import LOG_BITS, PIXEL_BITS
from ncodec.models.hyperprior.codec import HyperpriorCodec, Latents
from ncodec.models.hyperprior.layers import INDEX_BITS
from ncodec.nn import STRIDE
from ncodec.nn.priors import LOG_SCALE_STEP
from ncodec.quality import LAMBDAS, QUALITY_STEPS

Array = NDArray[Any]

GAIN_CHANGE = 1.05  # of all gains, for the slope
RGB_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])


@dataclass(frozen=True)
class Diagnosis:
    """One quality. Rates and errors are means over all images."""

    quality: int
    loss: float  # (lambda · 255² · MSE + bpp) / sqrt(lambda)
    bpp: float
    psnr: float  # dB, of the mean MSE
    z_percent: float  # of the rate
    z_live: int  # channels of z that are not constant
    y_coded_percent: float  # of the latents; the others are skipped
    y_half: int  # channels that take half of y's rate
    y_silent: int  # channels without a residual other than 0
    tables_percent: float  # y's rate above the entropy of the residuals of each row
    context_percent: float  # of that entropy, what scales that see their neighbours could save
    gain_down_percent: float  # of the loss, with all steps 5 % coarser
    gain_up_percent: float  # ... finer: both positive where the gains have reached their lambda
    mse_y: float  # of 8-bit luma
    mse_cb: float
    mse_cr: float
    edge_percent: float  # more MSE on the border pixels of a 16x16 block than in its middle


def _entropy(symbols: NDArray[np.int32]) -> float:
    """Return the empirical code length of symbols (bits)."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float(-(counts * np.log2(counts / len(symbols))).sum())


def _table_bits(tables: FrequencyTables, symbols: Array, rows: Array) -> float:
    rows = np.broadcast_to(rows, symbols.shape).astype(np.uint16).ravel()
    return tables.ideal_bits(symbols.astype(np.int32).ravel(), rows)


@dataclass(frozen=True)
class _Coding:
    """Images [B, H, W, 3] as one quality codes them."""

    latents: Latents  # [B, h, w, channels] each
    z_bits: float
    y_bits: NDArray[np.float64]  # per channel
    error: Array  # of the decoded images, in 8-bit steps
    loss: float


def _code(codec: HyperpriorCodec, x: Array, code: int) -> _Coding:
    tiles = [codec.analyse(image, code) for image in x]
    pixels = np.stack([codec.synthesise(tile, code, is_rounded=False) for tile in tiles])
    latents = Latents(*(np.stack(part) for part in zip(*tiles, strict=True)))
    z, index, r = latents
    offset = codec.z_offset(code)
    z_bits = sum(8 * len(codec.neighbours.encode(grid, offset)) for grid in z)
    coded = index >= codec.skip_below
    y_bits = [
        _table_bits(codec.tables_r, r[..., c][coded[..., c]], index[..., c][coded[..., c]])
        for c in range(r.shape[-1])
    ]
    error = pixels / 2.0**PIXEL_BITS - x
    lmbda = LAMBDAS[code // QUALITY_STEPS]
    bpp = (z_bits + sum(y_bits)) / (x.size / 3)
    loss = float((lmbda * np.square(error).mean() + bpp) / lmbda**0.5)
    return _Coding(latents, float(z_bits), np.array(y_bits), error, loss)


def _loss_with_other_gains(codec: HyperpriorCodec, x: Array, code: int, factor: float) -> float:
    """Return the loss with all gains `factor` times as large, and the tables that belong to them."""
    t, shift = codec.tensors, np.log2(factor)
    octaves = round(shift * 2**LOG_BITS)
    rows = round(shift * np.log(2) / LOG_SCALE_STEP * 2**INDEX_BITS)
    changed: dict[str, Array] = {
        "log_gain": t["log_gain"] + np.int32(octaves),
        "log_unit": t["log_unit"] - np.int32(octaves),
        "index_offset": t["index_offset"] + np.int16(rows),
    }
    other = HyperpriorCodec(dict(t) | changed, codec.config, codec.skip_below, codec.fraction_bits)
    return _code(other, x, code).loss


def _context_saving(codec: HyperpriorCodec, latents: Latents) -> tuple[float, float]:
    """Return the entropy of residuals given their rows, and given the sizes of their neighbours as well (bits).

    Every latent sees its four neighbours in its channel and all channels in those places, more than any
    decoder could know: how large they are against what their rows expect, in nine classes.
    """
    r, rows = (torch.from_numpy(part).movedim(3, 1).long() for part in (latents.r, latents.indexes))
    coded = rows >= codec.skip_below
    size = r.abs().clamp(max=20) * coded
    expected = torch.zeros(len(codec.tables_r.sizes))
    used = sorted(set(rows[coded].tolist()))
    for row in used:
        expected[row] = size[rows == row].float().mean()
    known = expected[rows] * coded
    cross = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])[None, None]

    def around(t: Tensor) -> Tensor:  # [B, C, h, w]
        own = conv2d(t.flatten(0, 1)[:, None].float(), cross, padding=1).view(t.shape)
        return own + 0.1 * conv2d(t.sum(1, keepdim=True).float(), cross, padding=1)

    ratio = ((around(size) + 0.5) / (around(known) + 0.5)).log()
    classes = torch.bucketize(ratio, torch.tensor([-1.2, -0.7, -0.35, -0.1, 0.1, 0.35, 0.7, 1.2]))
    alone = together = 0.0
    for row in used:
        here = rows == row
        symbols, kinds = r[here].numpy(), classes[here].numpy()
        entropy = _entropy(symbols)
        # A class's parameters cost half a log of its count.
        parts = [symbols[kinds == kind] for kind in np.unique(kinds)]
        split = sum(_entropy(part) + 0.5 * np.log2(len(part)) for part in parts)
        alone += entropy
        together += min(entropy, split)
    return alone, together


def _edge_percent(error: Array) -> float:
    """Return how much more squared error [B, H, W, 3] has on the border of a linear path's block than in its middle."""
    squared = np.square(error).mean((0, 3))
    place = squared.reshape(-1, STRIDE, squared.shape[1] // STRIDE, STRIDE).mean((0, 2))  # [16, 16]
    edge = np.concatenate([place[0], place[-1], place[1:-1, 0], place[1:-1, -1]]).mean()
    return 100 * float(edge / place[4:12, 4:12].mean() - 1)


def diagnose(codec: HyperpriorCodec, x: Tensor, quality: int) -> Diagnosis:
    """Return what limits a model at one quality.

    Args:
        codec: on the CPU.
        x: images [B, 3, H, W] uint8, H and W multiples of 32.
        quality: 1 … 8.
    """
    code = (quality - 1) * QUALITY_STEPS
    images = x.permute(0, 2, 3, 1).contiguous().numpy()
    found = _code(codec, images, code)
    (z, index, r), error = found.latents, found.error
    z_bits, y_bits = found.z_bits, float(found.y_bits.sum())
    alone, together = _context_saving(codec, found.latents)
    down, up = (
        _loss_with_other_gains(codec, images, code, factor)
        for factor in (1 / GAIN_CHANGE, GAIN_CHANGE)
    )
    mse_y, mse_cb, mse_cr = map(float, np.square(error @ RGB_TO_YCBCR.T).mean((0, 1, 2)))
    shares = np.sort(found.y_bits)[::-1].cumsum() / max(y_bits, 1.0)
    return Diagnosis(
        quality=quality,
        loss=found.loss,
        bpp=(z_bits + y_bits) / (images.size / 3),
        psnr=float(-10 * np.log10(np.square(error).mean() / 255**2)),
        z_percent=100 * z_bits / (z_bits + y_bits),
        z_live=int((z != z[:1, :1, :1]).any((0, 1, 2)).sum()),
        y_coded_percent=100 * float((index >= codec.skip_below).mean()),
        y_half=int((shares < 0.5).sum()) + 1,
        y_silent=int((r == 0).all((0, 1, 2)).sum()),
        tables_percent=100 * (y_bits / alone - 1) if alone else 0.0,
        context_percent=100 * (1 - together / alone) if alone else 0.0,
        gain_down_percent=100 * (down / found.loss - 1),
        gain_up_percent=100 * (up / found.loss - 1),
        mse_y=mse_y,
        mse_cb=mse_cb,
        mse_cr=mse_cr,
        edge_percent=_edge_percent(error),
    )
