"""Does a shipped model still decode what it decoded when it was shipped?

The model's index entry holds a small file and what came out of it: the SHA-256 of what every machine must
reproduce, its pixels, and the PSNR against the picture
it was made from.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncodec import container
from ncodec.codec import decode, encode
from ncodec.errors import NcodecError, WeightsMismatchError
from ncodec.metrics import psnr
from ncodec.models.load import load_for
from ncodec.models.weights import Model
from ncodec.tiles import format_of

SIDE, QUALITY = 96, 4  # pixels
TOLERANCE_DB = 0.002  # of a float's last digit: the pixels are the same


def picture() -> NDArray[np.uint8]:
    """Return the test picture [96, 96, 3]: discs and slopes, by integer arithmetic alone."""
    row, column = np.mgrid[:SIDE, :SIDE]
    disc = (row - 40) ** 2 + (column - 56) ** 2
    red = (row * 2 + disc // 40) % 200
    green = np.where(disc < 900, 220, 30 + column)
    blue = (column * row // 40 + 64 * (row // 24 % 2)) % 256
    return np.stack([red, green, blue], 2).astype(np.uint8)


def symbols_sha256(data: bytes, model: Path | None = None, device: str = "cpu") -> str:
    """Return the digest of all tiles' pixels, in the file's order, ahead of their fading.

    Args:
        data: the whole file, of a family of tiles.
        model: the weights it was made with; None finds shipped ones.
        device: "cpu" or "cuda": the digest is the same.
    """
    parsed = container.read(data)
    header = parsed.header
    codec = load_for(header, model, device).codec
    digest = hashlib.sha256()
    for box, parts in zip(header.tile_boxes(), parsed.tiles, strict=True):
        (pixels,) = codec.decode_tiles([parts], header.quality_code, format_of(header, box))
        digest.update(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _outcome(data: bytes, path: Path) -> dict[str, Any]:
    """Return what a file decodes to with these weights, under the index's names."""
    quality_db = psnr(picture(), decode(data, "numpy", path, "cpu"))
    return {"symbols_sha256": symbols_sha256(data, path), "psnr": round(quality_db, 3)}


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
