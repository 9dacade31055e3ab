"""What limits a trained model: `python -m ncodec.training.diagnose MODEL IMAGES...`, a Markdown table.

Images are coded with a weights file at the eight qualities. Each line says where the bits and the errors of one
quality are, and what some changes to the model could win; which figures, says its family's recipe.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ncodec.errors import NcodecError, needing
from ncodec.models.load import load_by_name
from ncodec.quality import N_QUALITIES


def main(
    model: Annotated[str, typer.Argument(help="A shipped model, or a weights file.")],
    images: Annotated[list[Path], typer.Argument(help="Tar shards and folders of images.")],
) -> None:
    """Print what limits a model on the middles of the first 16 images (320 pixels a side)."""
    with needing("it", "train"):
        import torch

        from ncodec.training.data import load_images
        from ncodec.training.recipe import load_recipe
        from ncodec.training.validation import SIDE, center_crops
    loaded = load_by_name(model, "cpu")
    recipe = load_recipe(loaded.family.name)
    crops = center_crops(load_images(images, SIDE).pixels, recipe.CROP_STRIDE)
    x = torch.stack(crops)
    for quality in range(1, N_QUALITIES + 1):
        figures = asdict(recipe.diagnose(loaded.codec, x, quality))
        if quality == 1:
            print("| " + " | ".join(figures) + " |\n|" + "---|" * len(figures))
        print("| " + " | ".join(f"{v:.4g}" for v in figures.values()) + " |", flush=True)


if __name__ == "__main__":
    try:
        typer.run(main)
    except NcodecError as error:
        sys.exit(f"diagnose: {error}")
