"""The Kodak study: real files written and read by the installed `ncodec` command, JPEG and WebP beside.

    python kodak_eval/run.py FOLDER_OF_24_PNG [--out kodak_eval/results]

Per quality: mean of the images' bits per pixel (file bytes x 8 / pixels) and mean of their RGB PSNR
(dB, 8 bits, from the decoded PNG files). BD-rate: pchip over PSNR of those mean curves against the
published VTM curve (anchors.json says where it is from). Writes kodak.json and kodak.md, and the BD-rate
into the model's entry in weights/index.json.
"""

import io
import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import typer
from PIL import Image
from scipy.interpolate import PchipInterpolator

from ncodec.metrics import bd_rate, bpp, psnr

HERE = Path(__file__).parent
QUALITIES = range(1, 9)
JPEG_QUALITIES = (5, 8, 12, 18, 25, 35, 50, 65, 75, 85, 90, 94, 96)
WEBP_QUALITIES = (0, 3, 8, 15, 25, 40, 55, 70, 80, 87, 92, 95, 97, 99, 100)


def pixels_of(path: Path) -> np.ndarray:  # type: ignore[type-arg]
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def ncodec_lines(*arguments: str) -> list[dict[str, float]]:
    command = [str(Path(sys.executable).parent / "ncodec"), *arguments, "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    return [json.loads(line) for line in done.stdout.splitlines()]


def measure_ncodec(images: list[Path], model: str) -> list[dict[str, float]]:
    """Return one point per quality, from files that the command wrote and read back."""
    points = []
    for quality in QUALITIES:
        with tempfile.TemporaryDirectory() as folder:
            encoded = ncodec_lines(
                "encode",
                *map(str, images),
                "-q",
                str(quality),
                "--model",
                model,
                "-o",
                f"{folder}/",
            )
            files = [str(Path(folder) / f"{image.stem}.nc") for image in images]
            decoded = ncodec_lines("decode", *files, "-o", f"{folder}/")
            rates, psnrs = [], []
            for image, file in zip(images, files, strict=True):
                pixels = pixels_of(image)
                rates.append(bpp(Path(file).stat().st_size, pixels.shape[1], pixels.shape[0]))
                psnrs.append(psnr(pixels, pixels_of(Path(file).with_suffix(".png"))))
        points.append(
            {
                "quality": quality,
                "bpp": float(np.mean(rates)),
                "psnr": float(np.mean(psnrs)),
                "encode_s": float(np.median([line["encode_s"] for line in encoded])),
                "decode_s": float(np.median([line["decode_s"] for line in decoded])),
            }
        )
        print(points[-1], flush=True)
    return points


def measure_pillow(
    images: list[Path], form: str, qualities: tuple[int, ...], **options: int
) -> list[dict[str, float]]:
    points = []
    for quality in qualities:
        rates, psnrs = [], []
        for image in images:
            pixels = pixels_of(image)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, form, quality=quality, **options)
            rates.append(bpp(len(stream.getvalue()), pixels.shape[1], pixels.shape[0]))
            psnrs.append(psnr(pixels, np.asarray(Image.open(stream).convert("RGB"))))
        points.append(
            {"quality": quality, "bpp": float(np.mean(rates)), "psnr": float(np.mean(psnrs))}
        )
    return points


def pairs(points: list[dict[str, float]]) -> list[tuple[float, float]]:
    return [(p["bpp"], p["psnr"]) for p in points]


def psnr_at(points: list[dict[str, float]], rate: float) -> float | None:
    """Return a curve's PSNR at a rate, by pchip over log(bpp); None outside the curve."""
    curve = np.array(sorted(pairs(points)))
    if not curve[0, 0] <= rate <= curve[-1, 0]:
        return None
    return float(PchipInterpolator(np.log(curve[:, 0]), curve[:, 1])(np.log(rate)))


def table(results: dict[str, list[dict[str, float]]]) -> str:
    lines = [
        "| q | bpp | PSNR (dB) | WebP at that rate | JPEG at that rate | encode (s) | decode (s) |",
        "|---|---|---|---|---|---|---|",
    ]
    for p in results["ncodec"]:
        others = [psnr_at(results[name], p["bpp"]) for name in ("webp", "jpeg")]
        shown = ["-" if v is None else f"{v:.2f}" for v in others]
        lines.append(
            f"| {p['quality']} | {p['bpp']:.4f} | {p['psnr']:.2f} | {shown[0]} | {shown[1]} "
            f"| {p['encode_s']:.2f} | {p['decode_s']:.2f} |"
        )
    return "\n".join(lines)


def record_in_index(model: str, percent: float) -> None:
    """Write a shipped model's BD-rate into its entry, where `ncodec models` shows it."""
    file = HERE.parent / "weights" / "index.json"
    index = json.loads(file.read_text())
    for entry in index["models"]:
        if entry["name"] == model:
            entry["about"]["kodak_bd_rate_vs_vtm_percent"] = round(percent, 1)
    file.write_text(json.dumps(index, indent=2) + "\n")


def main(images: Path, out: Path = HERE / "results", model: str = "hyperprior-s") -> None:
    files = sorted(images.glob("kodim*.png"))
    if len(files) != 24:
        raise typer.BadParameter(
            f"expected the 24 Kodak images kodim01.png … in {images}, found {len(files)}"
        )
    results = {
        "ncodec": measure_ncodec(files, model),
        "jpeg": measure_pillow(files, "JPEG", JPEG_QUALITIES, optimize=1),
        "webp": measure_pillow(files, "WEBP", WEBP_QUALITIES, method=6),
    }
    vtm = json.loads((HERE / "anchors.json").read_text())["vtm"]
    anchor = list(zip(vtm["bpp"], vtm["psnr-rgb"], strict=True))
    lines = [table(results), ""]
    comparisons = [(name, "vtm", anchor) for name in results]
    comparisons += [("ncodec", name, pairs(results[name])) for name in ("webp", "jpeg")]
    bd_rates = {}
    for name, other, curve in comparisons:
        rate, (low, high) = bd_rate(curve, pairs(results[name]))
        bd_rates[f"{name} vs {other}"] = {"percent": rate, "overlap_db": [low, high]}
        lines.append(
            f"BD-rate of {name} against {other}: {rate:+.1f} % (overlap {low:.1f} to {high:.1f} dB)  "
        )
    about = {
        "bd_rate": bd_rates,
        "model": model,
        "machine": f"{platform.machine()}, {platform.processor() or 'CPU'}",
        "versions": {name: version(name) for name in ("ncodec", "torch", "pillow", "numpy")},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "kodak.json").write_text(json.dumps(about | results, indent=1) + "\n")
    (out / "kodak.md").write_text("\n".join(lines) + "\n")
    record_in_index(model, bd_rates["ncodec vs vtm"]["percent"])
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)
