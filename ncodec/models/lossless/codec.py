"""Family `lossless`: pixels come back as they are. No weights, no qualities; alpha within the tiles.

Each tile is one payload of `_lossless` (specs/lossless.md), decoded and compared before it is returned.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ncodec.container import Parts
from ncodec.lossless import _lossless
from ncodec.models.protocol import EncodeOptions, TileFormat, only_payload

USUAL_EFFORT = 2


@dataclass(frozen=True)
class Options(EncodeOptions):
    """What an encoder is free to choose."""

    exact: bool = False  # keep colour under alpha 0; otherwise it decodes as 0

    EFFORTS: ClassVar[tuple[int, ...]] = (1, 2, 3)


class LosslessCodec:
    """A `protocol.Codec`."""

    OVERLAP = 0  # pixels: nothing to fade
    ONE_THREAD = True
    batch_pixels = 0

    def layout(self, quality_code: int, options: EncodeOptions) -> tuple[int, int]:
        """Return (1, 1): one layer and range."""
        return 1, 1

    def encode_tile(
        self, pixels: NDArray[Any], quality_code: int, options: EncodeOptions, bit_depth: int = 8
    ) -> Parts:
        """Return the payload of a tile [h, w] or [h, w, 1 … 4], uint8 or uint16. It has been decoded and compared."""
        assert isinstance(options, Options)
        height, width = pixels.shape[:2]
        tile = np.ascontiguousarray(pixels).reshape(height, width, -1)
        effort = options.effort or USUAL_EFFORT
        payload = _lossless.encode(tile, bit_depth, effort, options.exact)
        channels = tile.shape[2]
        expected = tile
        if channels % 2 == 0 and not options.exact:
            expected = np.where(tile[..., -1:] == 0, 0, tile)
        decoded = _lossless.decode(payload, width, height, channels, bit_depth)
        assert np.array_equal(decoded, expected), "a tile decodes to what was encoded"
        return [[payload]]

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        return [
            _lossless.decode(
                only_payload(parts), format.width, format.height, format.channels, format.bit_depth
            ).reshape(format.shape)
            for parts in payloads
        ]


def make_codec(tensors: Any, about: dict[str, Any], device: str) -> LosslessCodec:
    """Return the codec; there are no tensors, and `device` changes nothing."""
    return LosslessCodec()
