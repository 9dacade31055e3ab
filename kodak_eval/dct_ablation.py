"""What each part of family `dct` and each effort is worth: BD-rates of encodings that go without it, or at it.

    python kodak_eval/dct_ablation.py FOLDER [--weights FILE] [--jobs 2]     writes results/dct_ablation.json and .md

Real payloads and decoded pixels of every picture (of every second with --every 2) at qualities 1, 2.5, 4, 6 and 8; BD-rate (PSNR, pchip) between the
curves of mean bits per pixel and mean PSNR, against everything switched on. Seconds are of one thread's CPU, means over
the pictures at quality 4.
"""

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ncodec.weights import DIR
from PIL import Image
from safetensors.numpy import load_file

from ncodec import metrics
from ncodec.dct import _dct
from ncodec.dct.parameters import Tensors, initial
from ncodec.models.dct.codec import SEARCHES, DctCodec, Options
from ncodec.models.protocol import TileFormat, only_payload
from ncodec.quality import quality_code

RESULTS = Path(__file__).parent / "results"
QUALITIES = (1.0, 2.5, 4.0, 6.0, 8.0)


def flat_matrices(tensors: Tensors) -> None:
    tensors["matrix"] = np.zeros_like(tensors["matrix"])


def untrained_contexts(tensors: Tensors) -> None:
    tensors |= {name: initial()[name] for name in ("start", "confidence", "weights")}


def still_contexts(tensors: Tensors) -> None:
    """255 bins of confidence: each moves a probability by 1/256 and no further bin counts less."""
    tensors["confidence"] = np.full_like(tensors["confidence"], 255)


def no_class_filter(tensors: Tensors) -> None:
    for name in ("luma_filter", "chroma_filter"):
        tensors[name] = np.zeros_like(tensors[name])


def no_filters(tensors: Tensors) -> None:
    no_class_filter(tensors)
    tensors["strength"] = tensors["strength"] * np.array([0, 0, 0, 0, 1, 1], np.uint8)
    tensors.pop("network.gain", None)


@dataclass(frozen=True)
class Variant:
    """Choices of the encoder, and what becomes of the parameters."""

    name: str
    choices: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Tensors], None] | None = None


VARIANTS = (
    Variant("everything"),
    *(Variant(f"effort {effort}", {"effort": effort}) for effort in SEARCHES),
    Variant("blocks of 8 only", {"least": 8, "most": 8}),
    Variant("blocks up to 16", {"most": 16}),
    Variant("no sides of 4", {"least": 8}),
    Variant("squares only", {"cuts": 0}),
    Variant("no thirds", {"thirds": False}),
    Variant("flat matrices", change=flat_matrices),
    Variant("contexts start untrained", change=untrained_contexts),
    Variant("contexts hardly adapt", change=still_contexts),
    Variant("levels rounded, no trellis", {"rdoq": False}),
    Variant("planes of the weights, not the picture's", {"turned": False}),
    Variant("no network", {"network": False}),
    Variant("no class filter", change=no_class_filter),
    Variant("no last filter", {"wiener": False}),
    Variant("no filter at all", {"network": False, "wiener": False}, no_filters),
    Variant("4:2:0 always", {"subsampling": "4:2:0"}),
    Variant("angle-similarity transforms", {"transform": "angle"}),
    Variant("one luma mode in full", {"trials": 1}),
)


def measure(task: tuple[Variant, Path, float, Path]) -> tuple[float, float, float, float]:
    """Return bits per pixel, PSNR (dB) and the CPU's seconds to encode and decode."""
    variant, picture, quality, weights = task
    tensors = load_file(weights)
    if variant.change:
        variant.change(tensors)
    codec = DctCodec(_dct.Parameters(tensors))
    pixels = np.asarray(Image.open(picture).convert("RGB"))
    height, width = pixels.shape[:2]
    code = quality_code(quality)
    times = [time.thread_time()]
    parts = codec.encode_tile(pixels, code, Options(**variant.choices))
    times.append(time.thread_time())
    (decoded,) = codec.decode_tiles([parts], code, TileFormat(width, height, 3))
    times.append(time.thread_time())
    bpp = metrics.bpp(len(only_payload(parts)) + 38, width, height)  # 38: the rest of the file
    return bpp, metrics.psnr(pixels, decoded), times[1] - times[0], times[2] - times[1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="PNG files")
    parser.add_argument("--weights", type=Path, default=DIR / "dct-psnr.safetensors")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "dct_ablation.json")
    arguments = parser.parse_args()
    pictures = sorted(arguments.folder.glob("*.png"))[:: arguments.every]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for variant in VARIANTS:
            tasks = [(variant, p, q, arguments.weights) for q in QUALITIES for p in pictures]
            results = np.array(list(pool.map(measure, tasks, chunksize=4)))
            bpp, psnr, encode, decode = results.reshape(len(QUALITIES), len(pictures), 4).mean(1).T
            row: dict[str, Any] = {"name": variant.name, "bpp": bpp.tolist(), "psnr": psnr.tolist()}
            first = rows[0] if rows else row
            curves = [list(zip(r["bpp"], r["psnr"], strict=True)) for r in (first, row)]
            row["bd_rate"] = metrics.bd_rate(*curves)[0]
            at = QUALITIES.index(4.0)
            row |= {"encode_s": float(encode[at]), "decode_s": float(decode[at])}
            rows.append(row)
            print(f"{variant.name}: {row['bd_rate']:+.2f} %", flush=True)
    report = {"qualities": QUALITIES, "pictures": len(pictures), "variants": rows}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    names = ", ".join(picture.stem for picture in pictures)
    lines = [f"Of {len(pictures)} pictures: {names}.", ""]
    lines += ["| variant | BD-rate | encode, s | decode, s |", "|---|---|---|---|"]
    lines += [
        f"| {r['name']} | {r['bd_rate']:+.2f} % | {r['encode_s']:.2f} | {r['decode_s']:.4f} |"
        for r in rows
    ]
    arguments.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
