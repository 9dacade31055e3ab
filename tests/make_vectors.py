"""Write tests/vectors/v1: the only program that does. Run it for a new format or new weights only.

Each vector is an .nc file of a shipped model with the SHA-256 of its integer latents and a PNG of what
it decoded to on the machine that made it. Old vectors stay: files decode for ever.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

import ncodec
from ncodec import container
from ncodec.codec import load_model
from ncodec.coder import Reader
from ncodec.models import weights

FOLDER = Path(__file__).parent / "vectors" / "v1"
SAMPLE = Path(__file__).parent.parent / "kodak_eval" / "kodim23.png"


def latents_digest(data: bytes, device: str = "cpu") -> str:
    """Return the SHA-256 of all tiles' z and r, int32 little-endian, in coding order."""
    parsed = container.read(data)
    codec = load_model(weights.find_by_digest(parsed.header.weights_digest), device).codec
    digest = hashlib.sha256()
    for (left, top, right, bottom), payload in zip(
        parsed.header.tile_boxes(), parsed.tiles, strict=True
    ):
        size = (-(-(bottom - top) // codec.STRIDE), -(-(right - left) // codec.STRIDE))
        reader = Reader(payload, len(codec.SECTIONS))
        for tensor in codec.code(reader, None, size, parsed.header.quality_code):
            digest.update(tensor.cpu().numpy().astype("<i4").tobytes())
    return digest.hexdigest()


def main() -> None:
    with Image.open(SAMPLE) as picture:
        photo = np.asarray(picture)
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    cases = {
        "photo-q1": (photo[100:300, 200:456], 1, 0),
        "photo-q4.35-odd": (photo[33:166, 77:278], 4.35, 0),
        "photo-q8": (photo[300:400, 500:628], 8, 0),
        "one-pixel": (photo[:1, :1], 4, 0),
        "one-row": (photo[:1, :50], 4, 0),
        "black": (np.zeros((48, 64, 3), np.uint8), 4, 0),
        "noise-escapes-q8": (noise, 8, 0),
        "grey": (photo[100:164, 200:280, 1], 4, 0),
        "tiles": (photo[100:260, 200:420], 4, 64),
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    index = {}
    for name, (pixels, quality, tile) in cases.items():
        data = ncodec.encode(pixels, quality, device="cpu", tile=tile)
        (FOLDER / f"{name}.nc").write_bytes(data)
        Image.fromarray(ncodec.decode(data, "numpy", device="cpu")).save(FOLDER / f"{name}.png")
        index[name] = {"latents_sha256": latents_digest(data)}
    (FOLDER / "vectors.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
