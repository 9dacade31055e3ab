"""A tokenizer of sixty lines: the mean colour of 16x16 pixels, three digits of three levels a stage, each stage a half of the last.

pixels --mean--> [h, w, 3] --stages: -1, 0 or 1 times the step, the rest to the next--> tokens [n, h, w] of 27
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors.numpy import save_file

from ncodec import families
from ncodec.errors import CorruptPayloadError
from ncodec.families import Family
from ncodec.models import weights
from ncodec.models.protocol import EncodeOptions
from ncodec.models.weights import Model
from ncodec.quality import quality_of
from ncodec.shards import STRIDE, stages_of

FAMILY = Family("tiny", 97, "tiny_tokenizer", is_layered=True, has_tokens=True, stride=16)
DIGITS = np.array([1, 3, 9], np.int32)


@dataclass(frozen=True)
class Options(EncodeOptions):
    ranges: int = 1


class Stage(NamedTuple):
    size: int
    levels: tuple[int, ...] = (3, 3, 3)


class TinyCodec:
    OVERLAP = batch_pixels = 0
    ONE_THREAD = False
    stages = (Stage(27),) * 8

    def __init__(self, steps):
        self.steps = steps

    def analyse(self, pixels, quality_code):
        colour = np.broadcast_to(pixels.reshape(*pixels.shape[:2], -1), (*pixels.shape[:2], 3))
        padding = [(0, -side % STRIDE) for side in colour.shape[:2]]
        blocks = np.pad(colour, [*padding, (0, 0)], "edge").astype(np.int32)
        height, width = blocks.shape[0] // STRIDE, blocks.shape[1] // STRIDE
        rest = blocks.reshape(height, STRIDE, width, STRIDE, 3).mean((1, 3)) - 128
        tokens = []
        for step in self.steps[: stages_of(quality_of(quality_code))]:
            levels = np.rint(rest / step).clip(-1, 1).astype(np.int32)
            rest = rest - levels * int(step)
            tokens.append((levels + 1) @ DIGITS)
        return np.stack(tokens).astype(np.int32)

    def synthesise(self, tokens, quality_code):
        levels = tokens[..., None] // DIGITS % 3 - 1
        levels[tokens < 0] = 0
        colour = 128 + np.tensordot(self.steps[: len(tokens)].astype(np.int32), levels, 1)
        return colour.clip(0, 255).astype(np.int16).repeat(STRIDE, 0).repeat(STRIDE, 1)

    def layout(self, quality_code, options):
        return stages_of(quality_of(quality_code)), options.ranges

    def write(self, tokens, quality_code, ranges, is_second=False):
        bounds = [i * tokens.shape[1] // ranges for i in range(ranges + 1)]
        return [
            [zlib.compress(grid[a:b].astype(np.uint8).tobytes()) for a, b in pairwise(bounds)]
            for grid in tokens
        ]

    def read(self, parts, quality_code, size, is_second=False):
        try:
            flat = b"".join(zlib.decompress(payload) for row in parts for payload in row)
            return np.frombuffer(flat, np.uint8).reshape(len(parts), *size).astype(np.int32)
        except (zlib.error, ValueError) as error:
            raise CorruptPayloadError(f"section 'tiny': {error}") from error

    def encode_tile(self, pixels, quality_code, options, bit_depth=8):
        return self.write(self.analyse(pixels, quality_code), quality_code, options.ranges)

    def decode_tiles(self, payloads, quality_code, format):
        (parts,) = payloads
        size = (-(-format.height // STRIDE), -(-format.width // STRIDE))
        pixels = self.synthesise(self.read(parts, quality_code, size), quality_code)
        pixels = pixels[: format.height, : format.width].astype(np.uint8)
        return [pixels if format.channels == 3 else pixels[:, :, 0]]


def make_codec(tensors, about, device):
    return TinyCodec(tensors["steps"])


def write_model(path: Path, first: int = 64) -> Model:
    """Write a weights file, the steps from `first` on; return its index entry."""
    steps = np.array([max(first >> i, 1) for i in range(8)], np.int16)
    save_file({"steps": steps}, path, {"ncodec": json.dumps({"name": "tiny", "family": "tiny"})})
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Model("tiny", "tiny", "ms-ssim", str(path), digest, {}, {})


def ship(path):
    """Ship the model in `path`, made by `write_model`, last; in this process, for good."""
    entry = write_model(Path(path))
    models = [*weights.list_models(), entry]
    families.FAMILIES += (FAMILY,)
    weights.list_models = lambda: models
