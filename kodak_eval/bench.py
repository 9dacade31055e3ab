"""Speed and overhead of the coder, and in-process seconds of encode and decode. Run it on an idle machine.

python kodak_eval/bench.py [IMAGE] [--out kodak_eval/results/bench.json]
"""

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image

import ncodec
from ncodec import container
from ncodec.codec import load_model
from ncodec.coder import Reader
from ncodec.entropy import FrequencyTables, decode_symbols, encode_symbols
from ncodec.models import weights

HERE = Path(__file__).parent


def best_of(work: Callable[[], object], repeats: int = 9) -> tuple[float, float]:
    """Return the median and the minimum wall time (s), after one warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds)), min(seconds)


def bench_coder(
    tables: FrequencyTables, indexes: np.ndarray, symbols: np.ndarray, skip_below: int
) -> dict[str, float]:  # type: ignore[type-arg]
    payload = encode_symbols(symbols, indexes, tables, skip_below)
    encode_s = best_of(lambda: encode_symbols(symbols, indexes, tables, skip_below))[0]
    decode_s = best_of(lambda: decode_symbols(payload, indexes, tables, skip_below))[0]
    coded = indexes >= skip_below
    ideal = tables.ideal_bits(symbols[coded], indexes[coded]) / 8
    return {
        "symbols": len(symbols),
        "coded_symbols": int(coded.sum()),
        "bytes": len(payload),
        "overhead_percent": 100 * (len(payload) / ideal - 1),
        "overhead_bytes": len(payload) - ideal,
        "encode_msymbols_s": len(symbols) / encode_s / 1e6,
        "decode_msymbols_s": len(symbols) / decode_s / 1e6,
    }


def main(image: Path = HERE / "kodim23.png", out: Path = HERE / "results" / "bench.json") -> None:
    codec = load_model(weights.find_by_name(None), "cpu").codec
    results: dict[str, object] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
    }
    rng = np.random.default_rng(0)
    starts = codec.tables_r.frequencies.astype(np.int64)
    for name, count, rows in (
        ("drawn, all 64 tables", 4_000_000, 64),
        ("drawn, tables 0-31", 4_000_000, 32),
        ("drawn, 64 tables, 40 k symbols", 40_000, 64),
        ("drawn, tables 0-31, 20 symbols", 20, 32),
    ):
        indexes = rng.integers(0, rows, count).astype(np.uint16)
        symbols = np.zeros(count, np.int32)
        for row in range(
            rows
        ):  # draw every symbol from its own table; escapes become the next symbol
            at = np.flatnonzero(indexes == row)
            entries = np.searchsorted(
                np.cumsum(starts[row]), rng.integers(0, 1 << 14, len(at)), "right"
            )
            symbols[at] = np.where(entries % 2, -(entries + 1) // 2, entries // 2)
        results[name] = bench_coder(codec.tables_r, indexes, symbols, 0)
    with Image.open(image) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    for quality in (1, 4, 8):
        data = ncodec.encode(pixels, quality, device="cpu")
        parsed = container.read(data)
        size = (-(-pixels.shape[0] // codec.STRIDE), -(-pixels.shape[1] // codec.STRIDE))
        code = parsed.header.quality_code
        latents = codec.code(Reader(parsed.tiles[:1], 2), None, size, code)
        indexes = codec.indexes(latents.z.long(), code, size).numpy().astype(np.uint16).ravel()
        results[f"{image.name} q{quality}, y"] = bench_coder(
            codec.tables_r, indexes, latents.r.numpy().ravel(), codec.skip_below
        )
        results[f"{image.name} q{quality}"] = {
            "bytes": len(data),
            "beyond_payload_bytes": len(data)
            - sum(map(len, Reader(parsed.tiles[:1], 2).sections[0])),
            "encode_s": best_of(lambda q=quality: ncodec.encode(pixels, q, device="cpu"))[0],  # type: ignore[misc]
            "decode_s": best_of(lambda d=data: ncodec.decode(d, "numpy", device="cpu"))[0],  # type: ignore[misc]
        }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    typer.run(main)
