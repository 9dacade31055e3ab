"""The header: what precedes the coded tiles, and where these lie in the image (specs/format.md, sections 2 and 4)."""

from dataclasses import dataclass

from ncodec.bytestream import ByteReader, Bytes, varint
from ncodec.entropy import crc32c
from ncodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptPayloadError,
    FormatError,
    TruncatedError,
    UnsupportedVersionError,
)
from ncodec.quality import MAX_QUALITY_CODE, quality_of

MAGIC = b"\x89NC"  # the high bit catches 7-bit transfers, CR LF and LF catch text-mode ones
VERSION = 1
SIGNATURE = MAGIC + b"1\r\n\x1a\n"
MAX_HEADER = 64  # bytes, and more than any header has
DIGEST_BYTES = 8
NO_WEIGHTS = bytes(DIGEST_BYTES)  # the digest of a family without weights
FLAG_GREY, FLAG_TILED, FLAG_LAYERED, FLAG_SECOND, FLAG_FORMAT = 1, 2, 4, 8, 16
FORMAT_DEPTH, FORMAT_ALPHA = 15, 16  # of the format byte: bit depth less 1; tiles hold alpha
MAX_BIT_DEPTH = 16
USUAL_FORMAT = 7  # 8 bits, no alpha in tiles: then there is no format byte
MIN_TILE = 64  # pixels
MAX_LAYERS, MAX_RANGES = 64, 4096


Box = tuple[int, int, int, int]  # left, top, right, bottom (pixels)


@dataclass(frozen=True)
class Header:
    """What precedes the coded tiles. Colour is sRGB, or as the metadata say."""

    width: int  # pixels
    height: int  # pixels
    family: int  # wire id of the decoder program, specs/registry.md
    weights_digest: bytes  # first 8 bytes of the weights file's SHA-256
    quality_code: int  # (quality - 1) * 20
    is_grey: bool = False
    tile: int = 0  # side of the tile grid (pixels), 0: one tile
    overlap: int = 0  # pixels by which a tile reaches into its right and lower neighbours
    is_layered: bool = (
        False  # its tiles are coded in layers and ranges, each payload with its number
    )
    layers: int = 1  # that refine each other
    ranges: int = 1  # of a tile's layer, each coded apart
    is_second: bool = False  # coded the second way that its family has
    bit_depth: int = 8  # of every channel
    has_alpha: bool = (
        False  # tiles hold alpha as their last channel; in other files a chunk does, if any
    )

    @property
    def quality(self) -> float:
        """Quality in [1, 8]."""
        return quality_of(self.quality_code)

    @property
    def channels(self) -> int:
        """What tiles hold: 1 or 3, and one more of alpha."""
        return (1 if self.is_grey else 3) + self.has_alpha

    @property
    def sample_bytes(self) -> int:
        """1, or 2 of more than 8 bits."""
        return 1 if self.bit_depth <= 8 else 2

    @property
    def n_tiles(self) -> int:
        """How many tiles there are."""
        return -(-self.width // self.tile) * -(-self.height // self.tile) if self.tile else 1

    @property
    def n_payloads(self) -> int:
        """How many TILE chunks there are: for each layer, for each tile, for each range."""
        return self.layers * self.n_tiles * self.ranges

    @property
    def coded_pixels(self) -> int:
        """The tiles' areas together: what overlaps counts as often as it is coded."""
        width, height = (
            sum(end - start for start, end in self._spans(side))
            for side in (self.width, self.height)
        )
        return width * height

    def tiles_in(self, region: Box) -> list[int]:
        """Return the numbers of the tiles that reach into a region (left, top, right, bottom), in order."""
        left, top, right, bottom = region
        return [
            number
            for number, box in enumerate(self.tile_boxes())
            if box[0] < right and box[2] > left and box[1] < bottom and box[3] > top
        ]

    def largest_tile(self, stride: int = 1) -> int:
        """Return the area of the largest tile in whole strides (pixels)."""
        reach = self.tile + self.overlap if self.tile else max(self.width, self.height)
        columns, rows = (-(-min(side, reach) // stride) for side in (self.width, self.height))
        return columns * rows * stride**2

    def tile_boxes(self) -> list[Box]:
        """Return the coded area (left, top, right, bottom) of each tile, row by row, in pixels."""
        columns, rows = self._spans(self.width), self._spans(self.height)
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _spans(self, side: int) -> list[tuple[int, int]]:
        """Return where the tiles begin and end along an axis of so many pixels."""
        if not self.tile:
            return [(0, side)]
        reach = self.tile + self.overlap
        return [(start, min(start + reach, side)) for start in range(0, side, self.tile)]


def header_bytes(header: Header) -> bytes:
    """Return a header as the first bytes of a file, checksum included."""
    assert len(header.weights_digest) == DIGEST_BYTES
    assert header.is_layered or header.layers == header.ranges == 1
    assert 1 <= header.layers <= MAX_LAYERS and 1 <= header.ranges <= MAX_RANGES
    flags = FLAG_GREY * header.is_grey | FLAG_TILED * bool(header.tile)
    flags |= FLAG_LAYERED * header.is_layered | FLAG_SECOND * header.is_second
    form = (header.bit_depth - 1) | FORMAT_ALPHA * header.has_alpha
    flags |= FLAG_FORMAT * (form != USUAL_FORMAT)
    fields = bytes([flags]) + varint(header.width) + varint(header.height) + varint(header.family)
    fields += header.weights_digest + bytes([header.quality_code])
    if form != USUAL_FORMAT:
        fields += bytes([form])
    if header.tile:
        fields += varint(header.tile) + varint(header.overlap)
    if header.is_layered:
        fields += varint(header.layers) + varint(header.ranges)
    return SIGNATURE + fields + crc32c(SIGNATURE + fields).to_bytes(4, "little")


def _read_signature(source: ByteReader) -> None:
    n_bytes = min(8, len(source.data))
    signature = source.take(n_bytes, "signature")
    if signature == SIGNATURE:
        return
    if signature[:3] == MAGIC and signature[4:] == SIGNATURE[4:]:
        raise UnsupportedVersionError(
            f"signature: expected version {VERSION}, found {signature[3:4].decode('latin-1')!r}: update ncodec"
        )
    if len(signature) < 8 and SIGNATURE.startswith(signature):
        raise TruncatedError(f"signature: need 8 bytes, file has {len(signature)}")
    raise BadMagicError(f"signature: expected {SIGNATURE!r}, found {signature!r}: not an .nc file")


def read_header(source: ByteReader) -> Header:
    """Return the header that `source` begins with.

    Raises:
        FormatError: it is damaged, or not one of version 1.
    """
    _read_signature(source)
    flags = source.take(1, "header")[0]
    if flags & ~(FLAG_GREY | FLAG_TILED | FLAG_LAYERED | FLAG_SECOND | FLAG_FORMAT):
        raise UnsupportedVersionError(f"header: unknown flags {flags:#04x}: update ncodec")
    width, height = source.varint("header width"), source.varint("header height")
    family = source.varint("header family")
    digest = source.take(DIGEST_BYTES, "header weights digest")
    quality_code = source.take(1, "header quality")[0]
    form = source.take(1, "header format")[0] if flags & FLAG_FORMAT else USUAL_FORMAT
    tile, overlap = (
        (source.varint("header tile"), source.varint("header overlap"))
        if flags & FLAG_TILED
        else (0, 0)
    )
    layers, ranges = (
        (source.varint("header layers"), source.varint("header ranges"))
        if flags & FLAG_LAYERED
        else (1, 1)
    )
    expected = crc32c(bytes(source.data[: source.offset]))
    found = int.from_bytes(source.take(4, "header checksum"), "little")
    if found != expected:
        raise ChecksumError(f"header: CRC-32C is {expected:#010x}, file says {found:#010x}")
    if not width or not height:
        raise CorruptPayloadError(
            f"header: expected sides of at least 1 pixel, found {width}x{height}"
        )
    if quality_code > MAX_QUALITY_CODE:
        raise CorruptPayloadError(f"header: quality code {quality_code} exceeds {MAX_QUALITY_CODE}")
    is_known = form <= FORMAT_DEPTH | FORMAT_ALPHA and form & FORMAT_DEPTH >= USUAL_FORMAT
    if flags & FLAG_FORMAT and (form == USUAL_FORMAT or not is_known):
        raise CorruptPayloadError(f"header: format byte {form:#04x} is none that an encoder writes")
    if flags & FLAG_TILED and not (tile >= MIN_TILE and overlap <= tile):
        raise CorruptPayloadError(
            f"header: expected tile >= {MIN_TILE} and overlap <= tile, found {tile}, {overlap}"
        )
    if not (1 <= layers <= MAX_LAYERS and 1 <= ranges <= MAX_RANGES):
        raise CorruptPayloadError(
            f"header: expected 1 to {MAX_LAYERS} layers of 1 to {MAX_RANGES} ranges, found {layers}, {ranges}"
        )
    return Header(
        width, height, family, digest, quality_code, bool(flags & FLAG_GREY), tile, overlap,
        bool(flags & FLAG_LAYERED), layers, ranges, bool(flags & FLAG_SECOND),
        (form & FORMAT_DEPTH) + 1, bool(form & FORMAT_ALPHA),
    )  # fmt: skip


def peek_header(data: Bytes) -> Header | None:
    """Return the header that the first bytes of a file are, None where they are not one."""
    try:
        return read_header(ByteReader(data))
    except FormatError:
        return None
