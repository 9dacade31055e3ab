"""The README's picture: one crop by several codecs, from files of equal bytes.

python kodak_eval/picture.py KODAK/kodim19.png       writes results/equal_bytes.webp

original | jpeg | avif           each with its bytes and SSIMULACRA2 (of the whole image)
jxl      | dct  | hyperprior-s
"""

import os
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont

from ncodec.errors import NcodecError
from ncodec.evaluation import Cache, Study, default_cache, read_image
from ncodec.files import write_whole

CODECS = ("jpeg", "avif", "jxl", "dct", "hyperprior-s")
LEADER = "avif"  # its file's bytes are everyone's
COLUMNS = 3
LINE = 22  # pixels of a label


def main(
    image: Path,
    rate: float = 0.3,
    left: int = 120,
    top: int = 440,
    width: int = 264,
    height: int = 184,
    jobs: int = os.cpu_count() or 1,
    out: Path = Path(__file__).parent / "results" / "equal_bytes.webp",
) -> None:
    """Write the crop at (left, top) of an image as codecs leave it at AVIF's bytes; `rate`: of AVIF's file (bpp)."""
    whole = read_image(image)
    study = Study(CODECS, [whole], (), Cache(default_cache()), "local", jobs)
    found = study.at_equal_bytes(LEADER, study.images, [rate])
    crop = np.s_[top : top + height, left : left + width]
    tiles = [("original", whole.pixels[crop])]
    for codec, name in zip(study.codecs, study.names, strict=True):
        measured = found[whole.name, rate, name]
        pixels = codec.decode(measured.data, whole.pixels.shape[:2])
        label = f"{name}, {len(measured.data)} bytes, {measured.row['ssimulacra2']:.0f}"
        tiles.append((label, pixels[crop]))
    height, width = tiles[0][1].shape[:2]
    rows = -(-len(tiles) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * (width + 4) - 4, rows * (height + LINE)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for number, (label, pixels) in enumerate(tiles):
        x, y = number % COLUMNS * (width + 4), number // COLUMNS * (height + LINE)
        draw.text((x + 2, y + 3), label, "black", font)
        canvas.paste(Image.fromarray(pixels), (x, y + LINE))
    stream = BytesIO()
    canvas.save(stream, "WEBP", lossless=True, method=6)
    write_whole(out, stream.getvalue())
    print(f"{out}: {canvas.width}x{canvas.height}, {len(stream.getvalue())} bytes")


if __name__ == "__main__":
    try:
        typer.run(main)
    except NcodecError as error:
        sys.exit(f"picture: {error}")
