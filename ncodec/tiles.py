"""Tiles of pictures: cut for the encoder; decoded in groups and put together.

    many files of a tile each --group by size, codec, quality--> decode_tiles --> pixels
    one file of many tiles --some ahead, on threads--> decode_tiles --fade--> row of tiles: band --reduce--> pixels
                                                                        |
                                   overlapping tiles fade into what is there, in file order

Tiles keep the memory of large images bounded: of a region or a reduced picture only some are decoded, and a
row of them is there at once, with those that are decoded ahead.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncodec.container import MIN_TILE, Box, Container, Header, Parts
from ncodec.errors import InputError, NcodecError, named
from ncodec.models.protocol import Codec, TileFormat
from ncodec.threads import side_by_side

USUAL_TILE = 2048  # pixels
LOST = 128  # of the 8-bit pixels of a tile that is lost
Piece = tuple[
    NDArray[Any], NDArray[Any] | None
]  # rows of pixels [n, w] or [n, w, C], and of alpha [n, w]
Progress = Callable[[int, int], None]  # told how many tiles are done, of how many
ROWS = 64  # that are faded, or made smaller, at once: memory stays near the image's


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
    """A parsed file, or the alpha within one, and what decodes its tiles."""

    name: str  # "" or "file 3: ", ahead of the messages of errors
    container: Container
    codec: Codec
    stride: int  # of the family (pixels)
    batch_pixels: int  # tiles are decoded together up to so many coded ones; 0: one by one
    at_once: int = 1  # so many of its tiles may be decoded, or wait to be drawn, where its codec has ONE_THREAD


class _Tile(NamedTuple):
    file: OpenFile
    box: Box
    parts: Parts

    @property
    def format(self) -> TileFormat:
        """What it decodes to."""
        return format_of(self.file.container.header, self.box)

    @property
    def is_lost(self) -> bool:
        """Whether nothing is left of it that a codec could decode; in layered families codecs conceal by themselves."""
        return self.parts == [[None]] and not self.file.container.header.is_layered


def format_of(header: Header, box: Box) -> TileFormat:
    """Return what the tile (left, top, right, bottom) of a file decodes to."""
    left, top, right, bottom = box
    return TileFormat(
        right - left,
        bottom - top,
        header.channels,
        header.bit_depth,
        is_faded=header.overlap > 0,
        is_second=header.is_second,
    )


def decode_files(files: list[OpenFile]) -> list[NDArray[Any]]:
    """Return the pixels of files, whole: [H, W] or [H, W, channels], uint8 or, of more than 8 bits, uint16.

    Files of one tile each of equal size, weights and quality are decoded together.

    Raises:
        FormatError: a payload is damaged; the message starts with the file's name.
    """
    found: dict[int, NDArray[Any]] = {}
    groups: dict[object, list[int]] = {}
    for number, file in enumerate(files):
        header = file.container.header
        if header.tile:
            rows = bands(file, (0, 0, header.width, header.height))
            size = header.height, header.width
            found[number], _ = together(((band, None) for band in rows), size)
        else:
            parts = file.container.tiles[0]
            format = format_of(header, header.tile_boxes()[0])
            key = (id(file.codec), header.quality_code, len(parts), len(parts[0]), format)
            groups.setdefault(key, []).append(number)
    batches = [
        batch
        for numbers in groups.values()
        for batch in _batches([_tiles_of(files[number])[0] for number in numbers])
    ]
    found |= zip(chain(*groups.values()), _decode(batches), strict=True)
    return [found[number] for number in range(len(files))]


def bands(
    file: OpenFile, region: Box, progress: Progress = lambda done, total: None
) -> Iterator[NDArray[Any]]:
    """Yield the pixels of a region from the top, in bands of a row of tiles: [n, w] or [n, w, channels].

    Each band is there until the next one is asked for.

    Args:
        file: of which the tiles that reach into the region have been read.
        region: (left, top, right, bottom), within the picture.
        progress: called with the tiles that are done, and how many there are.

    Raises:
        FormatError: as `decode_files`.
    """
    header = file.container.header
    left, top, right, bottom = region
    tiles = [tile for tile in _tiles_of(file) if _meet(tile.box, region)]
    if not header.tile:
        (pixels,) = _decode([tiles])
        yield pixels[top:bottom, left:right]
        progress(1, 1)
        return
    rows = [list(row) for _, row in groupby(tiles, key=lambda tile: tile.box[1])]
    first = min(tile.box[0] for tile in tiles)  # columns of the canvas
    last = max(tile.box[2] for tile in tiles)
    n_rows = max(row[0].format.height for row in rows)
    shape = (n_rows, last - first, *[header.channels] * (header.channels > 1))
    canvas = np.zeros(shape, dtype_of(header))  # rows of pixels from `row_top` on
    n_done = 0
    decoded = _decode([batch for row in rows for batch in _batches(row)])
    for number, row in enumerate(rows):
        row_top, row_bottom = row[0].box[1], row[0].box[3]
        for tile in row:
            pixels = next(decoded)
            area = canvas[: row_bottom - row_top, tile.box[0] - first : tile.box[2] - first]
            if header.overlap:
                above, before = (header.overlap * (tile.box[i] > 0) for i in (1, 0))
                fade(area, pixels, before, above)
            else:
                area[:] = pixels
            del pixels  # ahead of the next tile's
            n_done += 1
            progress(n_done, len(tiles))
        end = rows[number + 1][0].box[1] if number + 1 < len(rows) else row_bottom
        if end > top:
            wanted = slice(max(top - row_top, 0), min(end, bottom) - row_top)
            yield canvas[wanted, left - first : right - first]
        canvas[: row_bottom - end] = canvas[end - row_top : row_bottom - row_top]


def dtype_of(header: Header) -> type[np.uint8] | type[np.uint16]:
    """Return the type of a file's pixels."""
    return np.uint8 if header.bit_depth <= 8 else np.uint16


def _tiles_of(file: OpenFile) -> list[_Tile]:
    boxes = file.container.header.tile_boxes()
    return [_Tile(file, *pair) for pair in zip(boxes, file.container.tiles, strict=True)]


def _meet(box: Box, region: Box) -> bool:
    return box[0] < region[2] and box[2] > region[0] and box[1] < region[3] and box[3] > region[1]


def _batches(tiles: list[_Tile]) -> Iterator[list[_Tile]]:
    """Yield tiles of one weights file and quality in lists that are decoded together, each of one size."""
    for _, same in groupby(tiles, key=lambda tile: tile.format):
        group = list(same)
        pixels = min(tile.file.batch_pixels for tile in group)
        most = max(pixels // group[0].format.coded_pixels(group[0].file.stride), 1)
        for first in range(0, len(group), most):
            yield group[first : first + most]


def _decode(batches: list[list[_Tile]]) -> Iterator[NDArray[Any]]:
    """Yield the pixels of the tiles of batches, in their order."""

    def most(batch: list[_Tile]) -> int:
        file = batch[0].file
        return file.at_once if file.codec.ONE_THREAD else 1

    for at_once, some in groupby(batches, most):
        yield from chain.from_iterable(side_by_side(_decode_together, list(some), at_once))


def _decode_together(tiles: list[_Tile]) -> list[NDArray[Any]]:
    """Return the pixels of tiles of equal size, weights, quality and layout."""
    with named(tiles[0].file.name if len(tiles) == 1 else ""):
        try:
            return _decoded(tiles)
        except NcodecError:
            if len(tiles) == 1:
                raise
    # Alone, the one that is damaged raises an error with its name.
    return [pixels for tile in tiles for pixels in _decode_together([tile])]


def _decoded(tiles: list[_Tile]) -> list[NDArray[Any]]:
    """Return the pixels of tiles of equal size, weights, quality and layout; grey of those that are lost."""
    header, format = tiles[0].file.container.header, tiles[0].format
    kept = [tile.parts for tile in tiles if not tile.is_lost]
    decoded = iter(
        tiles[0].file.codec.decode_tiles(kept, header.quality_code, format) if kept else []
    )
    grey = dtype_of(header)(LOST << header.bit_depth - 8)
    return [
        np.broadcast_to(grey, format.shape) if tile.is_lost else next(decoded) for tile in tiles
    ]


def together(pieces: Iterable[Piece], size: tuple[int, int]) -> Piece:
    """Return pixels and alpha, put together from pieces that come from the top; `size`: height and width."""
    whole: Piece | None = None
    row = 0
    for piece in pieces:
        if whole is None:
            pixels, alpha = piece
            whole = (
                np.empty((*size, *pixels.shape[2:]), pixels.dtype),
                None if alpha is None else np.empty(size, alpha.dtype),
            )
        for canvas, some in zip(whole, piece, strict=True):
            if canvas is not None and some is not None:
                canvas[row : row + len(some)] = some
        row += len(piece[0])
    assert whole is not None
    return whole


def reduced(rows: Iterable[Piece], factor: int) -> Iterator[Piece]:
    """Yield rows of pixels and alpha at 1/factor: means of squares, rounded, colour weighed by alpha.

    Args:
        rows: pixels [n, w] or [n, w, 3] and alpha [n, w] or None, from the top, any n at a time.
        factor: side of the squares; those at the right and at the bottom may be cut.
    """
    left: Piece | None = None
    for pixels, alpha in rows:
        if left is not None:
            pixels = np.concatenate([left[0], pixels])
            alpha = None if alpha is None or left[1] is None else np.concatenate([left[1], alpha])
        whole = len(pixels) // factor * factor
        for first in range(0, whole, ROWS):  # few at once: sums are wide
            at = np.s_[first : min(first + ROWS, whole)]
            yield _reduced(pixels[at], None if alpha is None else alpha[at], factor)
        left = pixels[whole:].copy(), None if alpha is None else alpha[whole:].copy()
    if left is not None and len(left[0]):
        yield _reduced(*left, factor)


def _reduced(pixels: NDArray[Any], alpha: NDArray[Any] | None, factor: int) -> Piece:
    counts = _sums(np.ones(pixels.shape[:2], np.int64), factor)
    weights = counts if alpha is None else _sums(alpha, factor)
    weighed = pixels if alpha is None else (pixels.T.astype(np.int64) * alpha.T).T
    divisors = np.maximum(weights, 1).reshape(*weights.shape, *[1] * (pixels.ndim - 2))
    colour = ((_sums(weighed, factor) + divisors // 2) // divisors).astype(pixels.dtype)
    if alpha is None:
        return colour, None
    return colour, ((weights + counts // 2) // counts).astype(alpha.dtype)


def _sums(plane: NDArray[Any], factor: int) -> NDArray[np.int64]:
    """Return the sums of squares of a plane [h, w, ...]: int64 [ceil(h / factor), ceil(w / factor), ...]."""
    down = np.add.reduceat(plane, np.arange(0, len(plane), factor), 0, np.int64)
    return np.add.reduceat(down, np.arange(0, plane.shape[1], factor), 1, np.int64)


def fade(area: NDArray[Any], tile: NDArray[Any], left: int, top: int) -> None:
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
    before: NDArray[Any], after: NDArray[Any], weights: NDArray[np.float32]
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
