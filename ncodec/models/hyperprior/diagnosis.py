r"""What limits a trained hyperprior, at one quality: where its bits and errors are, and what some changes could win.

    images --codec--> latents, table rows --shipped tables--> bits --\
                 \--> reconstructions --> errors ---------------------+--> Diagnosis
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

from ncodec.entropy import FrequencyTables
from ncodec.models.hyperprior.codec import HyperpriorCodec, Latents
from ncodec.models.hyperprior.network import STRIDE
from ncodec.nn.exact import FRACTION_BITS
from ncodec.nn.priors import LOG_SCALE_STEP
from ncodec.quality import LAMBDAS, QUALITY_STEPS

GAIN_CHANGE = 1.05  # of all gains, for the slope
RGB_TO_YCBCR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]]
)


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


def _table_bits(tables: FrequencyTables, symbols: Tensor, rows: Tensor) -> float:
    return tables.ideal_bits(
        symbols.flatten().numpy(), rows.expand(symbols.shape).flatten().numpy().astype(np.uint16)
    )


@dataclass(frozen=True)
class _Coding:
    """Images [B, 3, H, W] as one quality codes them."""

    latents: Latents
    rows: Tensor  # of the tables of residuals
    z_bits: NDArray[np.float64]  # per channel
    y_bits: NDArray[np.float64]  # per channel
    error: Tensor  # of the decoded images, in 8-bit steps
    loss: float


def _code(codec: HyperpriorCodec, x: Tensor, code: int) -> _Coding:
    latents = codec.analyse(x, code)
    z, r = latents.z, latents.r
    rows = codec.indexes(z.long(), code, (x.shape[2] // STRIDE, x.shape[3] // STRIDE))
    first = code // QUALITY_STEPS * z.shape[1]
    z_bits = [
        _table_bits(codec.tables_z, z[:, c], torch.tensor(first + c)) for c in range(z.shape[1])
    ]
    coded = rows >= codec.skip_below
    y_bits = [
        _table_bits(codec.tables_r, r[:, c][coded[:, c]], rows[:, c][coded[:, c]])
        for c in range(r.shape[1])
    ]
    error = 255 * (codec.synthesise(latents, code).clamp(0, 1) - x)
    lmbda = LAMBDAS[code // QUALITY_STEPS]
    bpp = (sum(z_bits) + sum(y_bits)) / (x.numel() / 3)
    loss = float((lmbda * error.square().mean() + bpp) / lmbda**0.5)
    return _Coding(latents, rows, np.array(z_bits), np.array(y_bits), error, loss)


def _loss_with_other_gains(codec: HyperpriorCodec, x: Tensor, code: int, factor: float) -> float:
    """Return the loss with all gains `factor` times as large, and the tables that belong to them."""
    gain, offset = codec.model.log_gain, codec.index_offset
    shift = np.log(factor)
    try:
        codec.model.log_gain = torch.nn.Parameter(gain + shift, requires_grad=False)
        codec.index_offset = offset + round(shift / LOG_SCALE_STEP * 2**FRACTION_BITS)
        return _code(codec, x, code).loss
    finally:
        codec.model.log_gain, codec.index_offset = gain, offset


def _context_saving(codec: HyperpriorCodec, r: Tensor, rows: Tensor) -> tuple[float, float]:
    """Return the entropy of residuals given their rows, and given the sizes of their neighbours as well (bits).

    Every latent sees its four neighbours in its channel and all channels in those places, more than any
    decoder could know: how large they are against what their rows expect, in nine classes.
    """
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


def _edge_percent(error: Tensor) -> float:
    """Return how much more squared error [B, 3, H, W] has on the border of a linear path's block than in its middle."""
    blocks = error.square().mean((0, 1)).reshape(-1, STRIDE, error.shape[3] // STRIDE, STRIDE)
    place = blocks.mean((0, 2))  # [16, 16]
    edge = torch.cat([place[0], place[-1], place[1:-1, 0], place[1:-1, -1]]).mean()
    return 100 * float(edge / place[4:12, 4:12].mean() - 1)


def diagnose(codec: HyperpriorCodec, x: Tensor, quality: int) -> Diagnosis:
    """Return what limits a model at one quality.

    Args:
        codec: on the CPU.
        x: images [B, 3, H, W] in [0, 1], H and W multiples of 32.
        quality: 1 … 8.
    """
    code = (quality - 1) * QUALITY_STEPS
    found = _code(codec, x, code)
    z, r, rows, error = found.latents.z, found.latents.r, found.rows, found.error
    z_bits, y_bits = float(found.z_bits.sum()), float(found.y_bits.sum())
    alone, together = _context_saving(codec, r, rows)
    down, up = (
        _loss_with_other_gains(codec, x, code, factor) for factor in (1 / GAIN_CHANGE, GAIN_CHANGE)
    )
    ycbcr = torch.einsum("oc,bchw->obhw", RGB_TO_YCBCR, error).square().flatten(1).mean(1)
    mse_y, mse_cb, mse_cr = map(float, ycbcr)
    shares = np.sort(found.y_bits)[::-1].cumsum() / max(y_bits, 1.0)
    return Diagnosis(
        quality=quality,
        loss=found.loss,
        bpp=(z_bits + y_bits) / (x.numel() / 3),
        psnr=float(-10 * (error.square().mean() / 255**2).log10()),
        z_percent=100 * z_bits / (z_bits + y_bits),
        z_live=int((z != z[:1, :, :1, :1]).any(3).any(2).any(0).sum()),
        y_coded_percent=100 * float((rows >= codec.skip_below).float().mean()),
        y_half=int((shares < 0.5).sum()) + 1,
        y_silent=int((r == 0).all(3).all(2).all(0).sum()),
        tables_percent=100 * (y_bits / alone - 1) if alone else 0.0,
        context_percent=100 * (1 - together / alone) if alone else 0.0,
        gain_down_percent=100 * (down / found.loss - 1),
        gain_up_percent=100 * (up / found.loss - 1),
        mse_y=mse_y,
        mse_cb=mse_cb,
        mse_cr=mse_cr,
        edge_percent=_edge_percent(error),
    )
