"""A family without torch, for tests/test_torchless.py: pixels to a multiple of a step, deflated. Exact."""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ncodec.errors import CorruptPayloadError
from ncodec.models.registry import Family
from ncodec.models.weights import Model

FAMILY = Family("flat", 99, "flat_family")


class FlatCodec:
    OVERLAP, CODES_GREY = 0, True
    batch_pixels = 64 * 64 * 2

    def __init__(self, steps):
        self.steps = steps
        self.batches = []

    def encode_tile(self, pixels, quality_code):
        step = self.steps[quality_code // 20]
        return zlib.compress((pixels // step).tobytes())

    def decode_tiles(self, payloads, width, height, quality_code, is_grey, is_faded):
        self.batches.append(len(payloads))
        shape = (height, width) if is_grey else (height, width, 3)
        try:
            tiles = [np.frombuffer(zlib.decompress(p), np.uint8).reshape(shape) for p in payloads]
        except (zlib.error, ValueError) as error:
            raise CorruptPayloadError(f"section 'flat': {error}") from error
        return [tile * self.steps[quality_code // 20] for tile in tiles]


def from_tensors(tensors, about, device):
    assert device == "cpu" and isinstance(tensors["steps"], np.ndarray)
    return FlatCodec(tensors["steps"])


def write_model(path: Path) -> Model:
    """Write a weights file; return its index entry, with no self-test and nothing to say of itself."""
    steps = np.array([64, 32, 16, 8, 4, 2, 1, 1], np.uint8)
    save_file({"steps": steps}, path, {"ncodec": json.dumps({"name": "flat", "family": "flat"})})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model("flat", "flat", str(path), digest, {}, {})
