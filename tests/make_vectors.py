"""Write tests/vectors/v1: the only program that does. Run it for a new format or new weights only.

Each vector is an .nc file of the default model (its digest ends the name) with the SHA-256 of its integer latents and a PNG of what
it decoded to on the machine that made it. Old vectors stay: files decode for ever. coder.json has payloads of the
entropy coders alone, with their tables, indexes and symbols.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import ncodec
from ncodec import container
from ncodec.entropy import FrequencyTables, encode_symbols
from ncodec.entropy.binary import BYPASS, BinaryEncoder
from ncodec.models import weights
from ncodec.selftest import latents_sha256

FOLDER = Path(__file__).parent / "vectors" / "v1"
SAMPLE = Path(__file__).parent.parent / "kodak_eval" / "kodim23.png"


def latents_digest(data: bytes, device: str = "cpu") -> str:
    """Return `latents_sha256` of a file made with shipped weights."""
    digest = container.read(data).header.weights_digest
    return latents_sha256(data, weights.find_by_digest(digest), device)


def coder_vectors() -> dict[str, dict[str, object]]:
    """Return rANS payloads of every number of lanes, in chunks and not, and one of the binary coder."""
    rng = np.random.default_rng(0)
    rows = [np.exp(-((np.arange(size) + 1) // 2) / scale) for scale, size in ((0.3, 4), (2, 20), (30, 200))]  # fmt: skip
    tables = FrequencyTables.from_pmf([*rows, [1.0]])  # the last row has only the escape
    frequencies = [[int(f) for f in row if f] for row in tables.frequencies]
    vectors: dict[str, dict[str, object]] = {}

    def add(name: str, n: int, lanes: int, chunks: int, skip_below: int = 0) -> None:
        indexes = rng.integers(0, 4, n).astype(np.uint16)
        symbols = np.rint(rng.laplace(0, np.array([0.3, 2, 30, 300])[indexes])).astype(np.int32)
        if n > 9:
            symbols[3:9] = [2**31 - 1, -(2**31), 63, 64, -8192, 8192]
        symbols[indexes < skip_below] = 0
        payload = encode_symbols(symbols, indexes, tables, skip_below, lanes, chunks)
        vectors[name] = {
            "frequencies": frequencies, "indexes": indexes.tolist(), "skip_below": skip_below,
            "symbols": symbols.tolist(), "payload": payload.hex(), "lanes": lanes, "chunks": chunks,
        }  # fmt: skip

    for lanes in (1, 2, 4, 8, 16, 32):
        add(f"rans-{lanes}-lanes", 333, lanes, 1)
        add(f"rans-{lanes}-lanes-3-chunks-skip", 500, lanes, 3, skip_below=1)
    add("rans-nothing-coded", 5, 1, 1, skip_below=4)
    add("rans-one-symbol-32-lanes", 1, 32, 1)
    contexts = rng.integers(0, 5, 999).astype(np.uint16)
    bins = (rng.random(999) < np.array([0.001, 0.1, 0.5, 0.9, 0.5])[contexts]).astype(np.uint8)
    contexts[contexts == 4] = BYPASS
    encoder = BinaryEncoder(4)
    encoder.encode(bins, contexts)
    vectors["binary"] = {
        "contexts": contexts.tolist(), "bins": bins.tolist(), "payload": encoder.finish().hex(),
    }  # fmt: skip
    return vectors


def main() -> None:
    coder = json.dumps(coder_vectors(), indent=None, separators=(",", ":"))
    (FOLDER / "coder.json").write_text(coder.replace("},", "},\n") + "\n")
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
