"""Tokenizers' files that lose what they hold: ranges of rows, or their end.

    python kodak_eval/losses.py FOLDER_OF_PNG [--model fsq-s]... [--images 24] > kodak_eval/results/losses.md

A model with a network that fills in lost tokens (beside its masked transformer) has a table without it, from neighbours alone, too.

Losses: a file of `ranges=16` has n = stages x 16 TILE chunks. Of these, 5, 10 and 20 % (the nearest number, at random,
seeded by image, quality and share) are overwritten from end to end with random bytes, and the file is decoded with
`conceal=True`. A range of a stage is coded by the stages before: "tokens gone" counts those that hang on a lost one too.

Prefixes: the file of quality 8, cut behind its stage n, beside the file of quality n. Pixels are equal by design.

Every figure is a mean over the images.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import ncodec
from ncodec import container
from ncodec.bytestream import varint
from ncodec.evaluation import Image, compare, read_image
from ncodec.metrics import bpp, ms_ssim, psnr
from ncodec.models import weights
from ncodec.models.weights import family_named

RANGES = 16
QUALITIES = (2, 4, 8)
SHARES = (0.0, 0.05, 0.1, 0.2)


def chunks_of(data: bytes) -> list[slice]:
    """Return where the TILE chunks of a layered file lie, in its order."""
    chunks, end = [], 0
    for number, payload in enumerate(container.read(data).payloads):
        assert payload is not None
        body = varint(number) + payload
        chunk = b"TILE" + varint(len(body)) + body
        start = data.index(chunk, end)
        end = start + len(chunk) + 4  # CRC
        chunks.append(slice(start, end))
    assert end == len(data)
    return chunks


def choose(n: int, share: float, seed: tuple[int, ...]) -> list[int]:
    """Return which of n chunks are lost: a share of them, in order."""
    count = math.floor(share * n + 0.5)
    return sorted(np.random.default_rng(seed).choice(n, count, replace=False).tolist())


def lose(data: bytes, lost: list[int], seed: tuple[int, ...]) -> bytes:
    """Return a file with some of its TILE chunks overwritten by noise."""
    random, damaged = np.random.default_rng(seed), bytearray(data)
    chunks = chunks_of(data)
    for number in lost:
        place = chunks[number]
        damaged[place] = random.bytes(place.stop - place.start)
    return bytes(damaged)


def gone(lost: list[int], stages: int, ranges: int) -> float:
    """Return the share of tokens that are absent: of a lost range of a stage, and of the stages after it."""
    left = np.ones((stages, ranges), bool)
    left.flat[lost] = False
    return 1 - float(np.logical_and.accumulate(left).mean())


def without_transformer(model: str, folder: str) -> str:
    """Return the path of a model's weights without its masked transformer; "" if it has none."""
    tensors, about, _ = weights.read(weights.find_by_name(model))
    if not about.pop("masked", None):
        return ""
    path = f"{folder}/weights.safetensors"
    kept = {name: array for name, array in tensors.items() if not name.startswith("masked.")}
    save_file(kept, path, {"ncodec": json.dumps(about)})
    return path


def losses(images: list[Image], model: str) -> Iterator[str]:
    """Yield the lines of the table of losses."""
    yield "| quality | bpp | chunks lost | tokens gone | PSNR (dB) | MS-SSIM | SSIMULACRA2 |"
    yield "|---" * 7 + "|"
    files = {
        (q, i): ncodec.encode(image.pixels, q, model, tile=0, ranges=RANGES)
        for q, (i, image) in product(QUALITIES, enumerate(images))
    }
    for q, share in product(QUALITIES, SHARES):
        rows = []
        for i, image in enumerate(images):
            data, n = files[q, i], q * RANGES
            seed = (i, q, round(100 * share))
            lost = choose(n, share, seed)
            decoded = ncodec.decode(lose(data, lost, seed), "numpy", model, conceal=True)
            values = compare(image.pixels, decoded)
            rate = bpp(len(data), image.pixels.shape[1], image.pixels.shape[0])
            rows.append([rate, len(lost) / n, gone(lost, q, RANGES), *values.values()])
        rate, chunks, tokens, *values = np.mean(rows, 0)
        yield (
            f"| {q} | {rate:.4f} | {chunks:.1%} | {tokens:.1%} "
            f"| {values[0]:.2f} | {values[1]:.4f} | {values[2]:.1f} |"
        )


def prefixes(images: list[Image], model: str) -> Iterator[str]:
    """Yield the lines of the table of prefixes."""
    yield "| stages | prefix of quality 8 (bpp) | file of that quality (bpp) | equal pixels | PSNR (dB) | MS-SSIM |"
    yield "|---" * 6 + "|"
    whole = [ncodec.encode(image.pixels, 8, model, tile=0) for image in images]
    for n in range(1, 9):
        rows = []
        for image, data in zip(images, whole, strict=True):
            height, width = image.pixels.shape[:2]
            prefix = data[: chunks_of(data)[n - 1].stop]
            alone = ncodec.encode(image.pixels, n, model, tile=0)
            decoded = ncodec.decode(prefix, "numpy", model, stages=n)
            is_equal = np.array_equal(decoded, ncodec.decode(alone, "numpy", model))
            rates = [bpp(len(file), width, height) for file in (prefix, alone)]
            values = [metric(image.pixels, decoded) for metric in (psnr, ms_ssim)]
            rows.append([*rates, is_equal, *values])
        rate, rate_alone, equal, *values = np.mean(rows, 0)
        yield (
            f"| {n} | {rate:.4f} | {rate_alone:.4f} | {equal * len(images):.0f} of {len(images)} "
            f"| {values[0]:.2f} | {values[1]:.4f} |"
        )


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", help="all tokenizers that ship, if not given")
    parser.add_argument("--images", type=int, help="the first so many")
    options = parser.parse_args()
    files = sorted(options.folder.glob("*.png"))[: options.images]
    images = [read_image(file) for file in files]
    tokenizers = [m.name for m in ncodec.list_models() if family_named(m.family).has_tokens]
    print(f"# Losses and prefixes\n\n{len(images)} images of `{options.folder.name}`.")
    for model in options.model or tokenizers:
        with tempfile.TemporaryDirectory() as folder:
            tables = [("Losses", losses, model), ("Prefixes", prefixes, model)]
            if neighbours := without_transformer(model, folder):
                tables.insert(1, ("Losses, from neighbours alone", losses, neighbours))
            for title, table, used in tables:
                print(f"\n## {title}, {Path(model).stem}\n")
                for line in table(images, used):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
