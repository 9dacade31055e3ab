"""Does a shipped model still decode what it decoded when it was shipped?

The model's index entry holds a small file and what came out of it. Of float pixels (registry:
`needs_torch`) that is the SHA-256 of the integer latents, which every machine must reproduce, and the PSNR
against the picture it was made from; of exact ones the SHA-256 of the pixels.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncodec import container
from ncodec.codec import decode, encode, load_model
from ncodec.container import Limits
from ncodec.errors import NcodecError, WeightsMismatchError
from ncodec.metrics import psnr
from ncodec.models import weights
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
        path: the weights it was made with, of family hyperprior.
        device: "cpu" or "cuda": the digest is the same.
    """
    parsed = container.read(data, Limits())
    codec: Any = load_model(path, device).codec  # a HyperpriorCodec
    digest = hashlib.sha256()
    for box, payload in zip(parsed.header.tile_boxes(), parsed.tiles, strict=True):
        left, top, right, bottom = box
        size = (right - left, bottom - top)
        for latents in codec.decode_latents([payload], *size, parsed.header.quality_code):
            digest.update(latents.cpu().numpy().astype("<i4").tobytes())
    return digest.hexdigest()


def _outcome(data: bytes, path: Path) -> dict[str, Any]:
    """Return what a file decodes to with these weights, under the index's names."""
    pixels = decode(data, "numpy", path, "cpu")
    if weights.family_of(path).needs_torch:
        quality_db = round(psnr(picture(), pixels), 3)
        return {"latents_sha256": latents_sha256(data, path), "psnr": quality_db}
    return {"pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest()}


def make_self_test(path: Path) -> dict[str, Any]:
    """Return the "self_test" of a weights file's index entry."""
    data = encode(picture(), QUALITY, path, "cpu")
    return {"file": base64.b64encode(data).decode(), **_outcome(data, path)}


def verify(entry: Model) -> None:
    """Check a shipped model: digest of its file, latents and pixels of its self-test.

    Raises:
        WeightsMismatchError: any of them is not what the index says.
    """
    try:
        data = base64.b64decode(entry.self_test["file"], validate=True)
        for name, found in _outcome(data, entry.path).items():  # loading checks the file's digest
            expected = entry.self_test[name]
            is_same = abs(found - expected) <= TOLERANCE_DB if name == "psnr" else found == expected
            if not is_same:
                raise WeightsMismatchError(f"expected {name} {expected}, found {found}")
    except (NcodecError, KeyError, TypeError, ValueError) as error:
        raise WeightsMismatchError(f"{entry.name}: self-test: {error}") from error
