"""What a decoder accepts, compared with a header before anything is allocated (specs/format.md, section 5)."""

from dataclasses import dataclass
from numbers import Integral

from ncodec.container.header import Box, Header
from ncodec.errors import InputError, LimitError


@dataclass(frozen=True)
class Limits:
    """What a decoder accepts. The defaults admit any camera's photograph.

    Time is bounded by `pixels` and `tiles`, memory by `memory_bytes`, whatever the size of the file: a flat
    picture of 4096x4096 is honest in 100 bytes.

    Raises:
        InputError: a limit is not an integer, or negative.
    """

    side: int = 65_535  # pixels
    pixels: int = 300_000_000  # of the tiles together, overlaps counted as often as they are coded
    tiles: int = 1 << 14
    chunks: int = 1 << 15
    metadata_bytes: int = 1 << 24  # each of ICC, EXIF, XMP, unpacked
    memory_bytes: int = 4 << 30  # that decoding takes beyond the model, as `check_memory` counts it

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, Integral) or value < 0:
                raise InputError(
                    f"Limits: {name}: expected an integer of at least 0, found {value!r}"
                )


def check_limits(header: Header, limits: Limits) -> None:
    """Raise LimitError where an image is larger than `limits` allow."""
    size = f"header: {header.width}x{header.height}"
    if max(header.width, header.height) > limits.side:
        raise LimitError(f"{size}, sides are limited to {limits.side}")
    if header.width * header.height > limits.pixels:  # first: cheap however many tiles it says
        raise LimitError(f"{size}, pixels are limited to {limits.pixels}")
    if header.n_tiles > limits.tiles:
        raise LimitError(f"header: {header.n_tiles} tiles, limited to {limits.tiles}")
    if header.n_payloads > limits.chunks:
        raise LimitError(
            f"header: {header.layers} layers of {header.n_tiles} tiles of {header.ranges} ranges, "
            f"chunks are limited to {limits.chunks}"
        )
    if header.coded_pixels > limits.pixels:
        raise LimitError(
            f"{size} in tiles of {header.coded_pixels} pixels together, limited to {limits.pixels}"
        )


def memory_of_image(header: Header, region: Box | None = None, factor: int = 1) -> int:
    """Return how many bytes the decoded image has, and the row of tiles that it is put together from.

    Args:
        header: of the file.
        region: (left, top, right, bottom), within the image; None: all of it.
        factor: so many by so many pixels become one.
    """
    left, top, right, bottom = region or (0, 0, header.width, header.height)
    pixels = -(-(right - left) // factor) * -(-(bottom - top) // factor)
    if header.tile:
        reach = header.tile + header.overlap
        row = min(header.height, reach) + min(header.height, header.overlap)
        pixels += min(header.width, right - left + 2 * reach) * row
    elif region or factor > 1:
        pixels += header.width * header.height
    return pixels * header.channels * header.sample_bytes


def check_memory(
    header: Header, stride: int, bytes_a_pixel: int, limits: Limits, held: int | None = None
) -> None:
    """Raise LimitError where decoding would take more memory than `limits` allow.

    Counted: the image, and for each pixel of the largest tile, in whole strides, what its family takes.

    Args:
        header: of the file.
        stride: of the family (pixels).
        bytes_a_pixel: of the family (ncodec/families.py).
        limits: what to accept.
        held: `memory_of_image`, where not all of it is decoded.
    """
    tile = header.largest_tile(stride)
    needed = (memory_of_image(header) if held is None else held) + tile * bytes_a_pixel
    if needed > limits.memory_bytes:
        raise LimitError(
            f"header: {header.width}x{header.height} with a tile of {tile} coded pixels takes "
            f"{needed} bytes of memory, limited to {limits.memory_bytes}"
        )
