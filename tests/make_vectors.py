"""Write tests/vectors/v1: the only program that does. Run it for a new format or new weights only.

Each vector is an .nc file of the default model (its digest ends the name) with the SHA-256 of its integer latents and a PNG of what
it decoded to on the machine that made it. Old vectors stay: files decode for ever.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import ncodec
from ncodec import container
from ncodec.models import weights
from ncodec.selftest import latents_sha256

FOLDER = Path(__file__).parent / "vectors" / "v1"
SAMPLE = Path(__file__).parent.parent / "kodak_eval" / "kodim23.png"


def latents_digest(data: bytes, device: str = "cpu") -> str:
    """Return `latents_sha256` of a file made with shipped weights."""
    digest = container.read(data).header.weights_digest
    return latents_sha256(data, weights.find_by_digest(digest), device)


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
    digest = weights.list_models()[0].digest.hex()[:8]
    index = json.loads((FOLDER / "vectors.json").read_text())
    for case, (pixels, quality, tile) in cases.items():
        name = f"{case}-{digest}"
        data = ncodec.encode(pixels, quality, device="cpu", tile=tile)
        (FOLDER / f"{name}.nc").write_bytes(data)
        Image.fromarray(ncodec.decode(data, "numpy", device="cpu")).save(FOLDER / f"{name}.png")
        index[name] = {"latents_sha256": latents_digest(data)}
    (FOLDER / "vectors.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
