"""Family "planes", layered, at its smallest: the mean of each 16x16 block, a bit of it a layer, highest first. No weights.

A bit of layer k adds or takes 64 >> k from 128; a lost one does neither. Range i holds rows i·h // R … of blocks.
"""

from dataclasses import dataclass

import numpy as np

from ncodec.errors import CorruptPayloadError
from ncodec.families import Family
from ncodec.models.protocol import EncodeOptions

FAMILY = Family("planes", 97, "planes_family", has_weights=False, is_layered=True, stride=16)
MOST = 7  # layers


@dataclass(frozen=True)
class Options(EncodeOptions):
    ranges: int = 1


def rows_of(height, ranges):
    """Return the slice of each range's rows of blocks, of a tile so many pixels high."""
    h = -(-height // 16)
    return [np.s_[i * h // ranges : (i + 1) * h // ranges] for i in range(ranges)]


class PlanesCodec:
    OVERLAP, ONE_THREAD, batch_pixels = 0, False, 1 << 20

    def layout(self, quality_code, options):
        return min(1 + -(-quality_code // 20), MOST), options.ranges

    def encode_tile(self, pixels, quality_code, options, bit_depth=8):
        layers, ranges = self.layout(quality_code, options)
        edges = [(0, -side % 16) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2)
        padded = np.pad(pixels, edges, "edge")
        blocks = padded.reshape(padded.shape[0] // 16, 16, padded.shape[1] // 16, 16, -1)
        means, values = blocks.mean((1, 3)), np.full(blocks.shape[::2], 128)
        parts = []
        for k in range(layers):
            bits = means >= values
            values += np.where(bits, 64 >> k, -(64 >> k))
            parts.append(
                [np.packbits(bits[rows]).tobytes() for rows in rows_of(len(pixels), ranges)]
            )
        return parts

    def decode_tiles(self, payloads, quality_code, format):
        assert len({(len(parts), *map(len, parts)) for parts in payloads}) == 1, "one layout"
        return [self._decode(parts, format) for parts in payloads]

    def _decode(self, parts, format):
        size = (-(-format.height // 16), -(-format.width // 16), format.channels)
        values = np.full(size, 128, np.uint8)
        for k, layer in enumerate(parts):
            for rows, payload in zip(rows_of(format.height, len(layer)), layer, strict=True):
                if payload is None:
                    continue
                n = values[rows].size
                if len(payload) != -(-n // 8):
                    raise CorruptPayloadError(
                        f"section 'planes': expected {-(-n // 8)} bytes, found {len(payload)}"
                    )
                bits = np.unpackbits(np.frombuffer(payload, np.uint8), count=n)
                step = np.where(bits, 64 >> k, -(64 >> k)).reshape(values[rows].shape)
                values[rows] = values[rows] + step
        pixels = values.repeat(16, 0).repeat(16, 1)[: format.height, : format.width]
        return pixels.reshape(format.shape)


def make_codec(tensors, about, device):
    return PlanesCodec()
