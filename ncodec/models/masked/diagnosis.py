"""What limits a masked transformer: where the bits of latents are, by step and slice of channels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ncodec.metrics import psnr
from ncodec.models.masked.codec import MaskedCodec
from ncodec.models.masked.schedule import batches
from ncodec.models.protocol import TileFormat
from ncodec.quality import QUALITY_STEPS


@dataclass(frozen=True)
class Diagnosis:
    """Means over images. Bits are by the tables, those of a place are of all its channels."""

    bpp: float  # of payloads
    psnr: float  # dB
    first_step_bits: float  # of a place in the first step
    last_step_bits: float
    first_slice_percent: float  # of all bits
    coded_percent: float  # of latents; the others are skipped
    tables_percent: float  # bits above the entropy of each table's symbols


class _Count:
    """A `Steps` that writes nothing, but keeps what is coded."""

    def __init__(self) -> None:
        self.symbols: list[NDArray[np.int32]] = []
        self.indexes: list[NDArray[np.int16]] = []

    def code_steps(self, *_: object) -> "_Count":
        return self

    def code(self, symbols: NDArray[np.int32], indexes: NDArray[np.int16]) -> NDArray[np.int32]:
        self.symbols.append(symbols)
        self.indexes.append(indexes)
        return symbols

    def finish(self) -> None:
        pass


def diagnose(codec: MaskedCodec, x: Tensor, quality: int) -> Diagnosis:
    """Return where the bits are at one quality.

    Args:
        codec: on the CPU.
        x: images [B, 3, H, W] uint8, sides multiples of 16.
        quality: 1 ... 8.
    """
    code, c = (quality - 1) * QUALITY_STEPS, codec.config
    frequencies = codec.tables_r.frequencies.astype(np.float64)
    cost = -np.log2(np.maximum(frequencies, 0.5) / frequencies.sum(1, keepdims=True))
    counts = np.zeros_like(frequencies)
    by_step, places = np.zeros(c.steps), np.zeros(c.steps)
    by_slice = np.zeros(len(c.slices))
    rates, quality_of = [], []
    for picture in x.permute(0, 2, 3, 1).numpy():
        count = _Count()
        y = codec.analyse(picture, code)
        codec.code(count, y, y.shape[:2], code)  # type: ignore[arg-type]
        parts = iter(zip(count.symbols, count.indexes, strict=True))
        for step, plan in enumerate(batches(*y.shape[:2], c.steps)):
            for batch in plan:
                places[step] += batch.rows.size
                for a in range(len(c.slices)):
                    symbols, indexes = next(parts)
                    entry = np.where(symbols < 0, -2 * symbols - 1, 2 * symbols)
                    entry = np.minimum(entry, frequencies.shape[1] - 1)
                    coded = indexes >= codec.skip_below
                    np.add.at(counts, (indexes[coded], entry[coded]), 1)
                    bits = cost[indexes, entry][coded].sum()
                    by_step[step] += bits
                    by_slice[a] += bits
        format = TileFormat(picture.shape[1], picture.shape[0], 3)
        parts_of = codec.encode_tile(picture, code, None)  # type: ignore[arg-type]
        rates.append(8 * len(parts_of[0][0] or b"") / picture[..., 0].size)
        decoded = codec.decode_tiles([parts_of], code, format)[0]
        quality_of.append(psnr(picture, decoded))
    total = by_step.sum()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    entropy = -(counts * np.log2(np.maximum(share, 1e-30))).sum()
    used = np.flatnonzero(places)
    return Diagnosis(
        bpp=float(np.mean(rates)),
        psnr=float(np.mean(quality_of)),
        first_step_bits=float(by_step[used[0]] / places[used[0]]),
        last_step_bits=float(by_step[used[-1]] / places[used[-1]]),
        first_slice_percent=float(100 * by_slice[0] / total),
        coded_percent=float(100 * counts.sum() / (places.sum() * c.M)),
        tables_percent=float(100 * ((counts * cost).sum() / entropy - 1)),
    )
