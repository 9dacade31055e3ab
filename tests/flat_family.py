"""Two families of fifty lines, for tests/test_torchless.py: what specs/architecture.md tells to write, at its smallest.

flat      pixels to a multiple of a step, deflated; the steps are its weights. Exact.
stored    pixels, deflated: no weights, no qualities, an effort. Lossless.
"""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ncodec.errors import CorruptPayloadError
from ncodec.families import Family
from ncodec.models.protocol import EncodeOptions
from ncodec.models.weights import Model

FAMILIES = (
    Family("flat", 99, "flat_family"),
    Family("stored", 98, "stored_family", has_weights=False, has_quality=False, has_alpha=True),
)

Options = EncodeOptions


class FlatCodec:
    OVERLAP = 0
    ONE_THREAD = False
    batch_pixels = 64 * 64 * 2

    def __init__(self, steps):
        self.steps = steps
        self.batches = []

    def layout(self, quality_code, options):
        return 1, 1

    def encode_tile(self, pixels, quality_code, options, bit_depth=8):
        step = self.steps[quality_code // 20]
        return [[zlib.compress((pixels // step).tobytes())]]

    def decode_tiles(self, payloads, quality_code, format):
        self.batches.append(len(payloads))
        try:
            tiles = [
                np.frombuffer(zlib.decompress(p), np.uint8).reshape(format.shape)
                for ((p,),) in payloads
            ]
        except (zlib.error, ValueError) as error:
            raise CorruptPayloadError(f"section 'flat': {error}") from error
        return [tile * self.steps[quality_code // 20] for tile in tiles]


def make_codec(tensors, about, device):
    assert isinstance(tensors["steps"], np.ndarray)
    return FlatCodec(tensors["steps"])


def write_model(path: Path, first: int = 64, **about: str) -> Model:
    """Write a weights file, the steps from `first` on; return its index entry, with no self-test and nothing to say of itself."""
    steps = np.array([max(first >> i, 1) for i in range(8)], np.uint8)
    about = {"name": "flat", "family": "flat"} | about
    save_file({"steps": steps}, path, {"ncodec": json.dumps(about)})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model("flat", "flat", "psnr", str(path), digest, {}, {})
