"""Write tests/vectors/v1: the only program that does. Run it for a new format or new weights only:
`python tests/make_vectors.py coder|dct|ftic|hyperprior|jpeg|lossless|masked|tokenizer ...`.

Each vector is an .nc file (of a model: its digest ends the name) with a PNG of what it decoded to on the machine that
made it, and the SHA-256 of what every machine must find in it; of a JPEG file, of that. Those
of weights that are no longer shipped go: until 1.0 no promise holds to old files. coder.json has
payloads of the entropy coders alone, with their tables, indexes and symbols.
"""

import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import ncodec
from ncodec import container
from ncodec.entropy import FrequencyTables, encode_symbols
from ncodec.entropy.binary import BYPASS, BinaryEncoder
from ncodec.families import FAMILIES, family_by_id
from ncodec.models import weights
from ncodec.selftest import symbols_sha256

FOLDER = Path(__file__).parent / "vectors" / "v1"
SAMPLE = Path(__file__).parent.parent / "kodak_eval" / "kodim23.png"


def facts_of(data: bytes, device: str = "cpu") -> dict[str, str]:
    """Return what every machine must find in a file."""
    family = family_by_id(container.read(data).header.family)
    if family.holds == "file":  # its pixels are Pillow's
        return {"file_sha256": hashlib.sha256(ncodec.decode_jpeg(data)).hexdigest()}
    return {"symbols_sha256": symbols_sha256(data, device=device)}


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


def hyperprior_vectors(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return files of hyperprior-s, in all its tunes."""
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
    tunes = weights.models_by_name()["hyperprior-s"]
    return {
        f"{case}-{model.digest.hex()[:8]}": ncodec.encode(
            pixels, quality, model.name, device="cpu", tile=tile
        )
        for model in tunes
        for case, (pixels, quality, tile) in cases.items()
    }


def dct_vectors(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return files of the models of family dct: both transforms and subsamplings; of tune visual, offsets of steps."""
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    cases: dict[str, tuple[NDArray[np.uint8], float, int, dict[str, object]]] = {
        "q1": (photo[100:300, 200:456], 1, 0, {}),
        "q4.35-odd": (photo[33:166, 77:278], 4.35, 0, {}),
        "q8": (photo[300:400, 500:628], 8, 0, {}),
        "angle": (photo[300:400, 500:628], 5, 0, {"transform": "angle"}),
        "420-odd": (photo[33:100, 77:176], 3, 0, {"subsampling": "4:2:0"}),
        "angle-420": (photo[33:100, 77:176], 7, 0, {"transform": "angle", "subsampling": "4:2:0"}),
        "least-blocks": (photo[300:364, 500:564], 6, 0, {"most": 8}),
        "one-pixel": (photo[:1, :1], 4, 0, {}),
        "one-row": (photo[:1, :50], 4, 0, {}),
        "black": (np.zeros((48, 64, 3), np.uint8), 4, 0, {}),
        "noise-q8": (noise, 8, 0, {}),
        "grey": (photo[100:164, 200:280, 1], 4, 0, {}),
        "tiles": (photo[100:260, 200:420], 4, 64, {}),
    }
    ramp = (np.add.outer(np.arange(90), np.arange(136))[..., None] // [2, 3, 4] + 40).astype(
        np.uint8
    )
    ramp[50:, 80:] = photo[300:340, 500:556]
    visual = {case: cases[case] for case in ("angle-420", "q8", "grey")}
    visual["smooth"] = (ramp, 2, 0, {})
    return {
        f"{model.name}-{case}-{model.digest.hex()[:8]}": ncodec.encode(
            pixels, quality, model.name, tile=tile, **choices
        )
        for model in weights.list_models()
        if model.family == "dct"
        for case, (pixels, quality, tile, choices) in (
            visual if model.tune == "visual" else cases
        ).items()
    }


def tokenizer_vectors(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return files of the tokenizers."""
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    cases: dict[str, tuple[NDArray[np.uint8], float, int, dict[str, object]]] = {
        "q1": (photo[100:300, 200:456], 1, 0, {}),
        "q4.35-odd": (photo[33:166, 77:278], 4.35, 0, {}),
        "q8": (photo[300:400, 500:628], 8, 0, {}),
        "one-pixel": (photo[:1, :1], 8, 0, {}),
        "black": (np.zeros((48, 64, 3), np.uint8), 3, 0, {}),
        "noise-q8": (noise, 8, 0, {}),
        "grey": (photo[100:164, 200:280, 1], 5, 0, {}),
        "tiles-ranges": (photo[100:260, 200:420], 2.5, 64, {"ranges": 3}),
    }
    second: dict[str, tuple[NDArray[np.uint8], float, int, dict[str, object]]] = {
        "effort2": (photo[100:305, 200:463], 5.5, 0, {"effort": 2}),
        "effort2-tiles-ranges": (photo[100:260, 200:420], 2.5, 128, {"effort": 2, "ranges": 2}),
    }
    models = [model for model in weights.list_models() if model.family == "tokenizer"]
    return {
        f"{model.name}-{case}-{model.digest.hex()[:8]}": ncodec.encode(
            pixels, quality, model.name, tile=tile, **choices
        )
        for model in models
        for case, (pixels, quality, tile, choices) in (
            cases | (second if "masked" in weights.read(model.path)[1] else {})
        ).items()
    }


def files_of(
    family: str, cases: dict[str, tuple[NDArray[np.uint8], float, int]]
) -> dict[str, bytes]:
    """Return files of pixels, quality and tile by every model of a family."""
    return {
        f"{model.name}-{case}-{model.digest.hex()[:8]}": ncodec.encode(
            pixels, quality, model.name, device="cpu", tile=tile
        )
        for model in weights.list_models()
        if model.family == family
        for case, (pixels, quality, tile) in cases.items()
    }


def masked_vectors(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return files of the masked transformers: one window, two, four of four sizes."""
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    cases = {
        "q1": (photo[100:164, 200:480], 1, 0),
        "q4.35-odd": (photo[33:166, 77:178], 4.35, 0),
        "q8": (photo[300:364, 500:628], 8, 0),
        "four-windows": (photo[200:473, 300:573], 2.5, 0),
        "one-pixel": (photo[:1, :1], 4, 0),
        "black": (np.zeros((48, 64, 3), np.uint8), 4, 0),
        "noise-q8": (noise, 8, 0),
        "grey": (photo[100:164, 200:280, 1], 4, 0),
        "tiles": (photo[100:200, 200:330], 4, 64),
    }
    return files_of("masked", cases)


def ftic_vectors(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return files of the frequency-aware transformers: windows of all kinds, whole, cut and moved."""
    noise = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    cases = {
        "q1": (photo[100:164, 200:345], 1, 0),
        "q4.35-odd": (photo[33:146, 77:178], 4.35, 0),
        "q8": (photo[300:364, 500:596], 8, 0),
        "windows": (photo[200:360, 300:450], 2.5, 0),
        "one-pixel": (photo[:1, :1], 4, 0),
        "black": (np.zeros((48, 64, 3), np.uint8), 4, 0),
        "noise-q8": (noise, 8, 0),
        "grey": (photo[100:164, 200:280, 1], 4, 0),
        "tiles": (photo[100:180, 200:330], 4, 64),
    }
    return files_of("ftic", cases)


def jpeg_vectors(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return recompressed JPEG files."""
    colour, grey = (
        Image.fromarray(photo[100:196, 200:321]),
        Image.fromarray(photo[100:150, 200:270, 1]),
    )
    cases = {
        "420": (colour, {"quality": 85}),
        "444-q95": (colour, {"quality": 95, "subsampling": 0}),
        "progressive": (colour, {"quality": 75, "progressive": True}),
        "restarts": (colour, {"quality": 60, "restart_marker_rows": 1}),
        "grey": (grey, {"quality": 80}),
        "one-pixel": (colour.crop((0, 0, 1, 1)), {"quality": 90}),
    }
    made = {}
    for case, (image, options) in cases.items():
        stream = io.BytesIO()
        image.save(stream, "JPEG", **options)
        made[f"jpeg-{case}"] = ncodec.encode_jpeg(stream.getvalue())
    return made


def lossless_vectors(photo: NDArray[np.uint8]) -> dict[str, bytes]:
    """Return files of family lossless: photographs and palettes, depths, alpha that hides colour."""
    alpha = np.clip(np.arange(61) * 9 - 100, 0, 255).astype(np.uint8)
    cases = {
        "photo": (photo[100:148, 200:261], {}),
        "smallest": (photo[100:148, 200:261], {"effort": 3}),
        "alpha": (np.dstack([photo[100:148, 200:261], np.tile(alpha, (48, 1))]), {"effort": 1}),
        "palette": (photo[100:148, 200:261] // 85 * 85, {}),
        "grey-16-bits": (photo[100:148, 200:261, 1].astype(np.uint16) ** 2, {}),
        "one-pixel": (photo[:1, :1], {}),
    }
    return {f"lossless-{name}": ncodec.encode(pixels, lossless=True, **options) for name, (pixels, options) in cases.items()}  # fmt: skip


MAKERS = {
    "hyperprior": hyperprior_vectors,
    "dct": dct_vectors,
    "ftic": ftic_vectors,
    "jpeg": jpeg_vectors,
    "lossless": lossless_vectors,
    "masked": masked_vectors,
    "tokenizer": tokenizer_vectors,
}


def is_shipped(data: bytes) -> bool:
    """Return whether the weights that a file was made with, if any, are among those of this package."""
    header = container.read(data).header
    known = [model.digest for model in weights.list_models()]
    weightless = [family.wire_id for family in FAMILIES if not family.has_weights]
    return header.weights_digest in known or header.family in weightless


def main() -> None:
    names = sys.argv[1:]
    if not names or set(names) - {"coder", *MAKERS}:
        sys.exit(f"expected some of coder, {', '.join(MAKERS)}")
    if "coder" in names:
        coder = json.dumps(coder_vectors(), indent=None, separators=(",", ":"))
        (FOLDER / "coder.json").write_text(coder.replace("},", "},\n") + "\n")
    with Image.open(SAMPLE) as picture:
        photo = np.asarray(picture)
    index = json.loads((FOLDER / "vectors.json").read_text())
    for name in list(index):
        if not is_shipped((FOLDER / f"{name}.nc").read_bytes()):
            del index[name]
            for suffix in (".nc", ".png"):
                (FOLDER / f"{name}{suffix}").unlink()
    for maker in names:
        for name, data in MAKERS[maker](photo).items() if maker in MAKERS else ():
            (FOLDER / f"{name}.nc").write_bytes(data)
            Image.fromarray(ncodec.decode(data, "numpy", device="cpu")).save(FOLDER / f"{name}.png")
            index[name] = facts_of(data)
    (FOLDER / "vectors.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    main()
