"""Lossless JPEG recompression measured: ncodec.jpeg beside JPEG XL's transcoding.

    python kodak_eval/jpeg.py FOLDER_OF_PNG [--repeats 5]      writes results/jpeg.json and results/jpeg.md

Each picture is saved by Pillow as a JPEG, 4:2:0, standard Huffman tables, at four qualities; then, as extra checks, at
quality 85 progressive, 4:4:4, with optimised tables and as RGB (Adobe transform 0, 4:4:4). Every payload is restored and compared byte for byte. Speeds are
of one thread, in MB (10^6 bytes) of JPEG a second, the best of several runs over all files. JPEG XL: `cjxl
--lossless_jpeg=1` where the PATH has it (efforts 7 and 9), and imagecodecs' libjxl at its one effort.
"""

import argparse
import io
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
from PIL import Image
from PIL import __version__ as pillow_version

from ncodec import jpeg
from ncodec.jpeg import _jpeg

RESULTS = Path(__file__).parent / "results"
CASES: dict[str, dict[str, Any]] = {
    "quality 50": {"quality": 50},
    "quality 75": {"quality": 75},
    "quality 90": {"quality": 90},
    "quality 95": {"quality": 95},
    "85, progressive": {"quality": 85, "progressive": True},
    "85, 4:4:4": {"quality": 85, "subsampling": 0},
    "85, optimised": {"quality": 85, "optimize": True},
    "85, RGB": {"quality": 85, "subsampling": 0, "keep_rgb": True},
}
EFFORTS = (7, 9)


def make_files(folder: Path, options: dict[str, Any]) -> list[bytes]:
    """Return every picture of a folder as a JPEG file."""
    files = []
    for path in sorted(folder.glob("*.png")):
        out = io.BytesIO()
        Image.open(path).convert("RGB").save(out, "JPEG", **options)
        files.append(out.getvalue())
    return files


def fastest(work: Callable[[], Any], repeats: int) -> float:
    """Return the shortest of several times (seconds of this thread's CPU)."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def cjxl_size(files: list[bytes], effort: int) -> int:
    """Return the bytes of JPEG XL files made by the program."""
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.jpg", Path(folder) / "out.jxl"
        for data in files:
            source.write_bytes(data)
            options = ["--lossless_jpeg=1", "-e", str(effort), "--num_threads=0"]
            subprocess.run(["cjxl", source, target, *options], check=True, capture_output=True)
            total += target.stat().st_size
    return total


def measure(files: list[bytes], repeats: int) -> dict[str, Any]:
    """Return sizes and speeds of one case, every file restored and compared."""
    payloads = [jpeg.compress(data) for data in files]
    for data, payload in zip(files, payloads, strict=True):
        assert jpeg.restore(payload) == data
    size = sum(map(len, files))
    row: dict[str, Any] = {
        "files": len(files),
        "jpeg_bytes": size,
        "ncodec_bytes": sum(map(len, payloads)),
        "modelled": sum(payload[0] == jpeg.MODELLED for payload in payloads),
        "jxl_bytes": {"imagecodecs": sum(len(imagecodecs.jpegxl_encode_jpeg(d)) for d in files)},
    }
    if shutil.which("cjxl"):
        row["jxl_bytes"] |= {
            f"cjxl effort {effort}": cjxl_size(files, effort) for effort in EFFORTS
        }
    row["saved_percent"] = percent(size, row["ncodec_bytes"])
    row["jxl_saved_percent"] = {k: percent(size, n) for k, n in row["jxl_bytes"].items()}
    speeds = {
        "compress": lambda: [jpeg.compress(data) for data in files],
        "compress_unverified": lambda: [_jpeg.take_apart(d, jpeg.MAX_BLOCKS) for d in files],
        "restore": lambda: [jpeg.restore(payload) for payload in payloads],
    }
    row["mb_per_s"] = {
        k: round(size / 1e6 / fastest(work, repeats), 2) for k, work in speeds.items()
    }
    return row


def percent(before: int, after: int) -> float:
    """Return how much smaller (percent)."""
    return round(100 - 100 * after / before, 2)


def markdown(cases: dict[str, dict[str, Any]], about: dict[str, str]) -> str:
    """Return the table."""
    names = list(next(iter(cases.values()))["jxl_bytes"])
    head = ["files", "JPEG, bytes", "ncodec, bytes", "saved"]
    head += [f"JPEG XL, {name}" for name in names]
    head += ["compress, unverified", "compress", "restore"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in cases.items():
        speed = row["mb_per_s"]
        cells = [name, f"{row['jpeg_bytes']:,}", f"{row['ncodec_bytes']:,}"]
        cells += [f"**{row['saved_percent']:.2f} %**"]
        cells += [f"{row['jxl_saved_percent'][k]:.2f} %" for k in names]
        cells += [f"{speed[k]:.1f}" for k in ("compress_unverified", "compress", "restore")]
        lines.append("| " + " | ".join(cells) + " |")
    versions = ", ".join(f"{name} {version}" for name, version in about.items())
    lines.append(f"\nSpeeds in MB of JPEG a second, one thread. {versions}.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    about = {"Pillow": pillow_version, "imagecodecs": imagecodecs.jpegxl_version()}
    if shutil.which("cjxl"):
        run = subprocess.run(["cjxl", "--version"], capture_output=True, text=True)
        about["cjxl"] = run.stdout.split()[1]
    cases = {}
    for name, settings in CASES.items():
        cases[name] = measure(make_files(options.folder, settings), options.repeats)
        print(name, json.dumps(cases[name]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    result = {"about": about, "cases": cases}
    (RESULTS / "jpeg.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "jpeg.md").write_text(markdown(cases, about))


if __name__ == "__main__":
    main()
