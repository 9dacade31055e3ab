"""Training images: tar shards or folders, decoded once into memory; crops drawn by a seeded generator."""

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pixel_unshuffle

from ncodec.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"}


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield str(file), file.read_bytes()
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as shard:
            for member in shard:
                stream = shard.extractfile(member) if member.isfile() else None
                if stream is not None and Path(member.name).suffix.lower() in SUFFIXES:
                    yield f"{path}:{member.name}", stream.read()
    else:
        raise InputError(f"{path}: expected a folder of images or a tar shard")


def load_images(paths: Iterable[Path], min_side: int) -> list[Tensor]:
    """Return the images under `paths` as uint8 tensors [3, H, W].

    Args:
        paths: folders (searched to the bottom) and tar shards.
        min_side: images with a shorter side (pixels) are left out.

    Raises:
        InputError: a path is neither, or an image cannot be decoded, or none is left.
    """
    images = []
    for path in paths:
        for name, data in _files(Path(path)):
            try:
                picture = Image.open(io.BytesIO(data)).convert("RGB")
            except OSError as error:
                raise InputError(f"{name}: not a readable image ({error})") from error
            if min(picture.size) >= min_side:
                images.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous())
    if not images:
        raise InputError(f"no image of at least {min_side}x{min_side} pixels under the data paths")
    return images


def random_crops(images: list[Tensor], count: int, size: int, rng: np.random.Generator) -> Tensor:
    """Return `count` random crops [count, 3, size, size], float in [0, 1], flipped and transposed."""
    crops = []
    for i in rng.integers(len(images), size=count):
        height, width = images[i].shape[1:]
        top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
        crop = images[i][:, top : top + size, left : left + size]
        flips = [axis for axis, turn in zip((1, 2), rng.integers(2, size=2), strict=True) if turn]
        crop = crop.flip(flips)
        crops.append(crop.transpose(1, 2) if rng.integers(2) else crop)
    return torch.stack(crops).float() / 255


def block_pca(
    images: list[Tensor], block: int, components: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the principal components of image blocks and their root mean squares.

    Args:
        images: uint8 [3, H, W].
        block: side of the blocks (pixels).
        components: how many to keep, the largest first.

    Returns:
        basis [components, 3·block²], orthonormal rows in the order of `pixel_unshuffle`; std [components].
    """
    rng = np.random.default_rng(seed)
    moments = torch.zeros(3 * block**2, 3 * block**2, dtype=torch.float64)
    n_blocks = 0
    for image in images:
        height, width = (side - side % block for side in image.shape[1:])
        rows = pixel_unshuffle(image[:, :height, :width].float() / 255 - 0.5, block).flatten(1).T
        rows = rows[torch.from_numpy(rng.permutation(len(rows))[:64])]
        moments += (rows.T @ rows).double()
        n_blocks += len(rows)
    power, vectors = torch.linalg.eigh(moments / n_blocks)
    order = power.argsort(descending=True)[:components]
    return vectors[:, order].T.float(), power[order].clamp_min(1e-12).sqrt().float()
