"""Family "stored" of flat_family.py: lossless, without weights and qualities, with an effort of its own."""

import zlib
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ncodec.errors import CorruptPayloadError
from ncodec.models.protocol import EncodeOptions


@dataclass(frozen=True)
class Options(EncodeOptions):
    header: bool = True
    EFFORTS: ClassVar[tuple[int, ...]] = (1, 9)


class StoredCodec:
    OVERLAP, ONE_THREAD, batch_pixels = 0, True, 0

    def layout(self, quality_code, options):
        return 1, 1

    def encode_tile(self, pixels, quality_code, options, bit_depth=8):
        assert quality_code == 0
        return [[zlib.compress(pixels.tobytes(), options.effort or 9)]]

    def decode_tiles(self, payloads, quality_code, format):
        (((payload,),),) = payloads
        try:
            dtype = np.uint8 if format.bit_depth <= 8 else np.uint16
            return [np.frombuffer(zlib.decompress(payload), dtype).reshape(format.shape)]
        except (zlib.error, ValueError) as error:
            raise CorruptPayloadError(f"section 'stored': {error}") from error


def make_codec(tensors, about, device):
    assert tensors == {} and about == {} and device == "cpu"
    return StoredCodec()
