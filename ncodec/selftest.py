"""Does a shipped model still decode what it decoded when it was shipped?

The model's index entry holds a small file and what came out of it: the SHA-256 of its integer latents,
which every machine must reproduce, and the PSNR of its pixels against the picture it was made from.
"""

import base64
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncodec import container
from ncodec.codec import decode, decode_latents, encode, load_model
from ncodec.container import Limits
from ncodec.errors import NcodecError, WeightsMismatchError
from ncodec.metrics import psnr
from ncodec.models.weights import Model

SIDE, QUALITY = 96, 4  # pixels
TOLERANCE_DB = 0.05  # float pixels may differ by 1 between machines


def picture() -> NDArray[np.uint8]:
    """Return the test picture [96, 96, 3]: discs and slopes, by integer arithmetic alone."""
    row, column = np.mgrid[:SIDE, :SIDE]
    disc = (row - 40) ** 2 + (column - 56) ** 2
    red = (row * 2 + disc // 40) % 200
    green = np.where(disc < 900, 220, 30 + column)
    blue = (column * row // 40 + 64 * (row // 24 % 2)) % 256
    return np.stack([red, green, blue], 2).astype(np.uint8)


def latents_sha256(data: bytes, path: Path, device: str = "cpu") -> str:
    """Return the digest of all tiles' z and r, int32 little-endian, in coding order.

    Args:
        data: the whole file.
        path: the weights it was made with.
        device: "cpu" or "cuda": the digest is the same.
    """
    parsed = container.read(data, Limits())
    codec = load_model(path, device).codec
    digest = hashlib.sha256()
    for box, payload in zip(parsed.header.tile_boxes(), parsed.tiles, strict=True):
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        for latents in decode_latents(codec, [payload], *size, parsed.header.quality_code):
            digest.update(latents.cpu().numpy().astype("<i4").tobytes())
    return digest.hexdigest()


def make_self_test(path: Path) -> dict[str, str | float]:
    """Return the "self_test" of a weights file's index entry."""
    data = encode(picture(), QUALITY, path, "cpu")
    return {
        "file": base64.b64encode(data).decode(),
        "latents_sha256": latents_sha256(data, path),
        "psnr": round(psnr(picture(), decode(data, "numpy", path, "cpu")), 3),
    }


def verify(entry: Model) -> None:
    """Check a shipped model: digest of its file, latents and pixels of its self-test.

    Raises:
        WeightsMismatchError: any of them is not what the index says.
    """
    try:
        test = entry.self_test
        data, expected = base64.b64decode(test["file"], validate=True), float(test["psnr"])
        latents = latents_sha256(data, entry.path)  # loading checks the file's digest
        found = psnr(picture(), decode(data, "numpy", entry.path, "cpu"))
    except (NcodecError, KeyError, TypeError, ValueError) as error:
        raise WeightsMismatchError(f"{entry.name}: self-test: {error}") from error
    if latents != test.get("latents_sha256"):
        raise WeightsMismatchError(
            f"{entry.name}: self-test: expected latents {test.get('latents_sha256')}, found {latents}"
        )
    if abs(found - expected) > TOLERANCE_DB:
        raise WeightsMismatchError(
            f"{entry.name}: self-test: expected {expected} dB, found {found:.3f} dB"
        )
