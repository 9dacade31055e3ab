"""Tiles of pictures: cut for the encoder; decoded in groups and put together.

    files --> tiles --group by size, codec, quality--> decode_tiles --> canvas
                                                          |
                        overlapping tiles fade into what is there, in file order

The tiles of a large image keep memory bounded; those of many small images are decoded together, which is
faster on a GPU.
"""

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncodec.container import MIN_TILE, Container, Header, Parts
from ncodec.errors import InputError, NcodecError, named
from ncodec.image import Picture
from ncodec.models.protocol import Codec, TileFormat

USUAL_TILE = 2048  # pixels
LOST = 128  # of the pixels of a tile that is lost
ROWS = 64  # that are faded at once: memory stays near the image's


def tile_for(width: int, height: int, asked: int | None) -> int:
    """Return the side of the tile grid of an image, 0 for one tile.

    Args:
        width: of the image (pixels).
        height: of the image (pixels).
        asked: at least 64, 0 for one tile; None tiles large images.

    Raises:
        InputError: not one of these.
    """
    if asked is not None and (not isinstance(asked, Integral) or asked < 0 or 0 < asked < MIN_TILE):
        raise InputError(f"tile: expected 0 or at least {MIN_TILE} pixels, found {asked!r}")
    longest = max(width, height)
    if asked is None:
        asked = USUAL_TILE if longest > USUAL_TILE + USUAL_TILE // 2 else 0
    return asked if asked < longest else 0


class OpenFile(NamedTuple):
    """A parsed file and what decodes its tiles."""

    name: str  # "" or "file 3: ", ahead of the messages of errors
    container: Container
    codec: Codec
    stride: int  # of the family (pixels)
    batch_pixels: int  # tiles are decoded together up to so many coded ones; 0: one by one


class _Tile(NamedTuple):
    file: OpenFile
    format: TileFormat
    canvas: NDArray[np.uint8]  # of the whole image, [H, W, 3] or [H, W]
    left: int  # pixels
    top: int  # pixels
    parts: Parts

    @property
    def is_lost(self) -> bool:
        """Whether nothing is left of it that a codec could decode; in layered families codecs conceal by themselves."""
        return self.parts == [[None]] and not self.file.container.header.is_layered


def format_of(header: Header, box: tuple[int, int, int, int]) -> TileFormat:
    """Return what the tile (left, top, right, bottom) of a file decodes to."""
    left, top, right, bottom = box
    return TileFormat(
        right - left,
        bottom - top,
        header.channels,
        is_faded=header.overlap > 0,
        is_second=header.is_second,
    )


def decode_files(files: list[OpenFile]) -> list[Picture]:
    """Return the pixels and metadata of files.

    Tiles of equal size, weights and quality are decoded together, whichever files they are from. Those
    of a tiled image must be faded into it in order: they wait for no others than those of their row.

    Raises:
        FormatError: a payload is damaged; the message starts with the file's name.
    """
    groups: dict[object, list[_Tile]] = {}
    pictures: list[Picture] = []
    for position, file in enumerate(files):
        header = file.container.header
        canvas = np.empty(format_of(header, (0, 0, header.width, header.height)).shape, np.uint8)
        lost, skipped_bytes = file.container.lost, file.container.skipped_bytes
        pictures.append(Picture(canvas, file.container.metadata, lost, skipped_bytes))
        for box, parts in zip(header.tile_boxes(), file.container.tiles, strict=True):
            left, top, _, _ = box
            tile = _Tile(file, format_of(header, box), canvas, left, top, parts)
            row = (position, top) if header.tile else None
            key = (id(file.codec), header.quality_code, len(parts), len(parts[0]), tile.format, row)
            groups.setdefault(key, []).append(tile)
    for tiles in groups.values():
        pixels = min(tile.file.batch_pixels for tile in tiles)
        most = max(pixels // tiles[0].format.coded_pixels(tiles[0].file.stride), 1)
        for first in range(0, len(tiles), most):
            _decode_together(tiles[first : first + most])
    return pictures


def _decode_together(tiles: list[_Tile]) -> None:
    """Decode tiles of equal size, weights, quality and layout, and put them on their canvases."""
    file, format = tiles[0].file, tiles[0].format
    header = file.container.header
    with named(file.name if len(tiles) == 1 else ""):
        try:
            decoded = _decoded(tiles)
        except NcodecError:
            if len(tiles) == 1:
                raise
            for tile in tiles:  # alone, the one that is damaged raises an error with its name
                _decode_together([tile])
            return
    for tile, pixels in zip(tiles, decoded, strict=True):
        area = tile.canvas[
            tile.top : tile.top + format.height, tile.left : tile.left + format.width
        ]
        if header.overlap:
            fade(area, pixels, header.overlap * (tile.left > 0), header.overlap * (tile.top > 0))
        else:
            area[:] = pixels


def _decoded(tiles: list[_Tile]) -> list[NDArray[Any]]:
    """Return the pixels of tiles of equal size, weights, quality and layout; grey of those that are lost."""
    file, format = tiles[0].file, tiles[0].format
    kept = [tile.parts for tile in tiles if not tile.is_lost]
    code = file.container.header.quality_code
    decoded = iter(file.codec.decode_tiles(kept, code, format) if kept else [])
    grey = np.uint8(LOST)
    return [
        np.broadcast_to(grey, format.shape) if tile.is_lost else next(decoded) for tile in tiles
    ]


def fade(area: NDArray[np.uint8], tile: NDArray[Any], left: int, top: int) -> None:
    """Draw a tile on its area, fading it in over its first `left` columns and `top` rows (F26)."""
    height, width = area.shape[:2]
    rows, columns = _ramp(height, top), _ramp(width, left)
    for first in range(0, height, ROWS):
        at = np.s_[first : min(first + ROWS, height)]
        faded = width if first < top else left  # columns that may weigh less than 1
        weights = rows[at][:, None] * columns[:faded]
        weights = weights.reshape(*weights.shape, *[1] * (area.ndim - 2))
        area[at, :faded] = _faded(area[at, :faded], tile[at, :faded], weights)
        area[at, faded:] = np.rint(tile[at, faded:], dtype=np.float32)


def _faded(
    before: NDArray[np.uint8], after: NDArray[Any], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return before + (after - before) · weights, rounded to integers; as torch.lerp in float32 has it."""
    start = before.astype(np.float32)
    is_low = weights < 0.5
    near, rest = np.where(is_low, start, after), np.where(is_low, weights, weights - 1)
    # Rounded to float32 once, after the sum: the fused multiply-add of torch.lerp.
    mixed = near + rest.astype(np.float64) * (after - start)
    return np.rint(mixed.astype(np.float32))


def _ramp(length: int, overlap: int) -> NDArray[np.float32]:
    """Return the weight of a tile along one axis [length]: rises over its first `overlap` pixels."""
    weight = np.ones(length, np.float32)
    weight[:overlap] = ((np.arange(overlap, dtype=np.float32) + 0.5) / overlap)[:length]
    return weight
