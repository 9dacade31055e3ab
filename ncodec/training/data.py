"""Training images: tar shards or folders, decoded once into memory; crops drawn on the device.

files --decode, reduce--> uint8 images --> ImageStore, one flat buffer on the device
                                               | gather: crop, flip, transpose; of each step, random numbers alone are copied there
                                               v
                                            batch [B, 3, crop, crop]
"""

import hashlib
import io
import os
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ncodec.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff"}
MODES = {"RGB", "L", "1", "P", "YCbCr", "CMYK"}  # what converts to RGB without guessing
KEEP_SIDE = 640  # pixels: photographs are reduced as long as the shorter side stays above it
READ_AHEAD = 64  # files
HELD_OUT, HELD_OUT_SHARE = 16, 0.02  # images for validation when none are given
MEMORY_SHARE = (
    1 / 3
)  # of this machine's memory for images, and for lessons; twice that while images are packed


@dataclass(frozen=True)
class Images:
    """Decoded images [3, H, W] uint8, the SHA-256 of each one's file, and what was left out."""

    pixels: list[Tensor]
    digests: list[bytes]
    left_out: list[str]

    @property
    def digest(self) -> str:
        """SHA-256 over the files' digests, sorted: the same for shards and for a folder."""
        return hashlib.sha256(b"".join(sorted(self.digests))).hexdigest()

    def _part(self, which: list[int]) -> "Images":
        return Images(
            [self.pixels[i] for i in which], [self.digests[i] for i in which], self.left_out
        )

    def hold_out(self) -> tuple["Images", "Images"]:
        """Return (the rest, a few for validation): those with the smallest digests, on any machine."""
        count = min(HELD_OUT, round(len(self.pixels) * HELD_OUT_SHARE))
        order = sorted(range(len(self.pixels)), key=lambda i: self.digests[i])
        return self._part(sorted(order[count:])), self._part(order[:count])

    def without(self, others: "Images") -> "Images":
        """Return the images that are not among the others."""
        known = set(others.digests)
        return self._part([i for i, digest in enumerate(self.digests) if digest not in known])


def memory() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _files(path: Path) -> Iterator[tuple[str, bytes | Path | str]]:
    """Yield names with a file, its bytes, or (a str) why there are none."""
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES):
            yield str(file), file
    elif path.is_file() and tarfile.is_tarfile(path):
        try:
            with tarfile.open(path) as shard:
                for member in shard:
                    stream = shard.extractfile(member) if member.isfile() else None
                    if stream is not None and Path(member.name).suffix.lower() in SUFFIXES:
                        yield f"{path}:{member.name}", stream.read()
                assert shard.fileobj is not None
                shard.fileobj.seek(shard.offset)
                if shard.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
                    yield str(path), f"damaged at byte {shard.offset}, the rest is not read"
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            yield str(path), f"damaged, the rest is not read ({error})"
    else:
        raise InputError(f"{path}: expected a folder of images or a tar shard")


def _decode(min_side: int, file: tuple[str, bytes | Path | str]) -> tuple[Tensor, bytes] | str:
    """Return an image [3, H, W] and its file's digest, or why it is left out."""
    name, source = file
    if isinstance(source, str):
        return f"{name}: {source}"
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
        picture = Image.open(io.BytesIO(data))
        if picture.mode not in MODES or "transparency" in picture.info:
            return f"{name}: expected RGB or grey without transparency, found mode {picture.mode}"
        width, height = picture.size
        if min(width, height) < min_side:
            return f"{name}: expected at least {min_side} pixels a side, found {width}x{height}"
        keep = max(KEEP_SIDE, min_side)
        if min(width, height) >= 2 * keep:  # JPEG: decode at half, quarter or eighth size
            factor = min(width, height) // keep
            picture.draft(None, (width // factor, height // factor))
        rgb = picture.convert("RGB")
        factor = min(rgb.size) // keep
        rgb = rgb.reduce(factor) if factor > 1 else rgb
        pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()
    except UnidentifiedImageError:
        return f"{name}: not an image that Pillow knows"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{name}: not a readable image ({error})"
    return pixels, hashlib.sha256(data).digest()


def load_images(paths: Iterable[Path], min_side: int) -> Images:
    """Return the different images under `paths`, decoded on all cores.

    Photographs of many megapixels are reduced by an integer factor (box filter) to a shorter side of
    640 to 1279 pixels: thousands fit into memory, and what camera and JPEG did to single pixels is gone.
    Copies of a file count once; of an animation, the first frame. Images that cannot be used are left out
    and said so on stderr. Loading stops, and says so, when a third of this machine's memory is full.

    Args:
        paths: folders (searched to the bottom, linked folders aside) and tar shards.
        min_side: images with a shorter side (pixels) are left out.

    Raises:
        InputError: a path is neither, or no image is left.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    room = memory() * MEMORY_SHARE / int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    paths = [Path(path) for path in paths]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: expected a folder of images or a tar shard, found nothing")
    images, seen = Images([], [], []), set()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for path in track(paths, "images", console=console, disable=not console.is_terminal):
            files = _files(path)
            while room > 0 and (chunk := list(islice(files, READ_AHEAD))):
                for result in pool.map(partial(_decode, min_side), chunk):
                    if isinstance(result, str):
                        images.left_out.append(result)
                    elif result[1] not in seen:
                        seen.add(result[1])
                        images.pixels.append(result[0])
                        images.digests.append(result[1])
                        room -= result[0].numel()
            if room <= 0:
                images.left_out.append(f"{path}: memory is full, the rest is not read")
                break
    for reason in images.left_out[:5]:
        print(f"ncodec: left out: {reason}", file=sys.stderr)
    if len(images.left_out) > 5:
        print(f"ncodec: left out: {len(images.left_out) - 5} more", file=sys.stderr)
    if not images.pixels:
        found = f"; {len(images.left_out)} left out" if images.left_out else ""
        raise InputError(
            f"no image of at least {min_side}x{min_side} pixels under "
            f"{', '.join(map(str, paths))}{found}"
        )
    return images


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a copy from the CPU does not wait for what a GPU is doing."""
    if device.type == "cuda" and values.is_cpu:
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


class ImageStore:
    """Images in one flat uint8 buffer on a device, from which random crops are gathered.

    Args:
        images: uint8 [3, H, W], of any sizes.
        device: where crops are wanted; the buffer lies there too where it fits into half the free memory.
    """

    def __init__(self, images: list[Tensor], device: torch.device) -> None:
        self.device = device
        sizes = torch.tensor([image.shape[1:] for image in images])
        self.heights, self.widths = sizes[:, 0], sizes[:, 1]
        lengths = 3 * self.heights * self.widths
        self.starts = lengths.cumsum(0) - lengths
        buffer = torch.cat([image.flatten() for image in images])
        if device.type == "cuda" and len(buffer) < torch.cuda.mem_get_info(device)[0] // 2:
            buffer = buffer.to(device)
        self.buffer = buffer

    def random_crops(self, size: int, rng: np.random.Generator, count: int, part: slice) -> Tensor:
        """Return crops [part of count, 3, size, size], float in [0, 1], flipped and transposed at random.

        Args:
            size: side (pixels), at most that of the smallest image.
            rng: decides everything, for the whole batch: its parts agree in every process.
            count: crops in the batch.
            part: which of them to return.
        """
        which = torch.from_numpy(rng.integers(len(self.starts), size=count))
        u = torch.from_numpy(rng.random((2, count)))
        flip_rows, flip_columns, transpose = torch.from_numpy(rng.integers(2, size=(3, count)) == 1)
        height, width = self.heights[which], self.widths[which]
        top, left = (u[0] * (height - size + 1)).long(), (u[1] * (width - size + 1)).long()
        corner = self.starts[which] + top * width + left
        chosen = (corner, height * width, width, flip_rows, flip_columns, transpose)
        there = to_device(torch.stack([v[part] for v in chosen]), self.buffer.device)  # one copy
        corner, plane, width, flip_rows, flip_columns, transpose = there[:, :, None, None]
        ascending = torch.arange(size, device=self.buffer.device)
        rows = torch.where(flip_rows > 0, ascending.flip(0), ascending).mT  # [B, size, 1]
        columns = torch.where(flip_columns > 0, ascending.flip(0), ascending)  # [B, 1, size]
        pixel = rows * width + columns
        pixel = corner + torch.where(transpose > 0, pixel.mT, pixel)
        channel = torch.arange(3, device=self.buffer.device)[:, None, None]
        crops = self.buffer[pixel[:, None] + plane[:, None] * channel]
        return to_device(crops, self.device).float() / 255
