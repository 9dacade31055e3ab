"""Family `lossless`, until its own coder is there: deflate of what the pixel at the left does not tell."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncodec.container import Parts
from ncodec.errors import CorruptPayloadError
from ncodec.models.protocol import EncodeOptions, TileFormat, only_payload


@dataclass(frozen=True)
class Options(EncodeOptions):
    """Nothing of hidden colour yet."""

    exact: bool = False


class LosslessCodec:
    """A `protocol.Codec`."""

    OVERLAP = 0
    batch_pixels = 0

    def layout(self, quality_code: int, options: EncodeOptions) -> tuple[int, int]:
        """Return (1, 1): one layer and range."""
        return 1, 1

    def encode_tile(
        self,
        pixels: NDArray[Any],
        quality_code: int,
        options: EncodeOptions,
        bit_depth: int = 8,
    ) -> Parts:
        """Return the payload of a tile."""
        return [[zlib.compress(np.ascontiguousarray(pixels).tobytes(), 6)]]

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles."""
        dtype = np.uint8 if format.bit_depth <= 8 else np.uint16
        try:
            return [
                np.frombuffer(zlib.decompress(only_payload(parts)), dtype).reshape(format.shape)
                for parts in payloads
            ]
        except (zlib.error, ValueError) as error:
            raise CorruptPayloadError(f"section 'lossless': {error}") from error


def make_codec(tensors: Any, about: Any, device: str) -> LosslessCodec:
    """Return the codec."""
    return LosslessCodec()
