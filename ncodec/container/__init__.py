"""The `.nc` container, version 1: bytes <-> header and chunks (specs/format.md).

    | signature, 8 | header fields, varints | CRC-32C | ancillary chunks ... | TILE chunks ... |
    chunk: | type, 4 letters | length, varint | payload | CRC-32C of type and payload |

Everything is validated, limits included, before anything is allocated or decoded. Little-endian.
Standard library only, but for the CRC, which is in the C++ extension.
"""

from dataclasses import dataclass, field
from numbers import Integral, Real

from ncodec.entropy import crc32c
from ncodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptPayloadError,
    FormatError,
    InputError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)

MAGIC = b"\x89NC"  # the high bit catches 7-bit transfers, CR LF and LF catch text-mode ones
VERSION = 1
SIGNATURE = MAGIC + b"1\r\n\x1a\n"
MAX_HEADER = 64  # bytes, and more than any header has
QUALITY_STEPS = 20  # per unit of quality
MAX_QUALITY_CODE = 7 * QUALITY_STEPS
FLAG_GREY, FLAG_TILED = 1, 2
PADDING = b"pADd"
STRIDE = 16  # pixels: sides are decoded in whole multiples of it
TILE_COST = 8192  # pixels that decode in the time that a tile takes whatever its size
WASTE = 4  # what coded pixels count in a file that has over 5/4 as many as the image has pixels
JPEG = 3  # the family whose one TILE is a recompressed JPEG file (specs/format.md, section 11)
METADATA = {"icc": b"iCCP", "exif": b"eXIF", "xmp": b"xMPm"}


@dataclass(frozen=True)
class Limits:
    """What a decoder accepts; checked before any allocation.

    The defaults admit any camera's photograph. A tile of 2**24 pixels takes 1.3 GiB to decode
    (whole process, CPU). `pixels_per_byte` keeps a small file from being a large image, as deflate's
    1032 : 1 does: 1 KiB decodes within 64 MiB beyond the model.

    Raises:
        InputError: a limit is not an integer, or negative, or no pixel is allowed per byte.
    """

    side: int = 65_535  # pixels
    pixels: int = 1 << 28
    tile_pixels: int = 1 << 24  # of the largest coded area: what memory depends on
    tiles: int = 1 << 16
    metadata_bytes: int = 1 << 24  # each of ICC, EXIF, XMP
    chunks: int = 1 << 17
    pixels_per_byte: int = 512  # coded pixels (specs/format.md, section 5) per byte of the file
    free_pixels: int = 1 << 16  # coded pixels that a file of any size may have

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = int(name == "pixels_per_byte")
            if not isinstance(value, Integral) or value < least:
                raise InputError(
                    f"Limits: {name}: expected an integer of at least {least}, found {value!r}"
                )


@dataclass(frozen=True)
class Header:
    """What precedes the coded latents. Colour is sRGB, or as the ICC profile says; 8 bits a channel."""

    width: int  # pixels
    height: int  # pixels
    family: int  # wire id of the decoder program, specs/registry.md
    weights_digest: bytes  # first 8 bytes of the weights file's SHA-256
    quality_code: int  # (quality - 1) * 20
    is_grey: bool = False
    tile: int = 0  # side of the tile grid (pixels), 0: one tile
    overlap: int = 0  # pixels by which a tile reaches into its right and lower neighbours

    @property
    def coded_pixels(self) -> int:
        """What decoding costs: the tiles' areas in whole strides, and `TILE_COST` a tile."""
        columns, rows = self._spans(self.width), self._spans(self.height)
        width, height = (
            sum(-(-(end - start) // STRIDE) * STRIDE for start, end in spans)
            for spans in (columns, rows)
        )
        return width * height + len(columns) * len(rows) * TILE_COST

    @property
    def quality(self) -> float:
        """Quality in [1, 8]."""
        return 1 + self.quality_code / QUALITY_STEPS

    def tile_boxes(self) -> list[tuple[int, int, int, int]]:
        """Return the coded area (left, top, right, bottom) of each tile, row by row, in pixels."""
        columns, rows = self._spans(self.width), self._spans(self.height)
        return [(left, top, right, bottom) for top, bottom in rows for left, right in columns]

    def _spans(self, side: int) -> list[tuple[int, int]]:
        """Return where the tiles begin and end along an axis of so many pixels."""
        if not self.tile:
            return [(0, side)]
        reach = self.tile + self.overlap
        return [(start, min(start + reach, side)) for start in range(0, side, self.tile)]


@dataclass(frozen=True)
class Container:
    """A parsed file: header, one payload per tile, metadata by name ("icc", "exif", "xmp")."""

    header: Header
    tiles: list[bytes]
    metadata: dict[str, bytes] = field(default_factory=dict)


def varint(value: int) -> bytes:
    """Return a non-negative integer as LEB128: 7 bits a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class ByteReader:
    """A bounded reader: every read goes through `take`, which names what it was reading."""

    def __init__(self, data: bytes) -> None:
        self.data, self.offset = data, 0

    def take(self, count: int, what: str) -> bytes:
        """Return the next `count` bytes, or raise TruncatedError."""
        if count > len(self.data) - self.offset:
            raise TruncatedError(
                f"{what}: need {count} bytes at offset {self.offset}, file has {len(self.data) - self.offset}"
            )
        self.offset += count
        return self.data[self.offset - count : self.offset]

    def varint(self, what: str) -> int:
        """Return the next LEB128 integer, of 5 bytes at most and in its shortest form."""
        value = 0
        for shift in range(0, 35, 7):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift > 0:
                    raise CorruptPayloadError(
                        f"{what}: varint at offset {self.offset} is not the shortest form"
                    )
                return value
        raise CorruptPayloadError(
            f"{what}: varint at offset {self.offset - 5} is longer than 5 bytes"
        )


def check_limits(header: Header, limits: Limits) -> None:
    """Raise LimitError where an image is larger than `limits` allow."""
    if max(header.width, header.height) > limits.side:
        raise LimitError(
            f"header: {header.width}x{header.height}, sides are limited to {limits.side}"
        )
    if header.width * header.height > limits.pixels:
        raise LimitError(
            f"header: {header.width}x{header.height}, pixels are limited to {limits.pixels}"
        )
    if header.family == JPEG:  # has no tiles, and takes less memory a pixel than any network
        return
    reach = header.tile + header.overlap if header.tile else limits.side
    tile_pixels = min(header.width, reach) * min(header.height, reach)
    if tile_pixels > limits.tile_pixels:
        raise LimitError(
            f"header: a tile has {tile_pixels} pixels, limited to {limits.tile_pixels}"
        )
    if header.tile:
        tiles = -(-header.width // header.tile) * -(-header.height // header.tile)
        if tiles > limits.tiles:
            raise LimitError(f"header: {tiles} tiles, limited to {limits.tiles}")


def bytes_needed(header: Header, limits: Limits) -> int:
    """Return the size (bytes) below which a file with this header is refused, 0 for small images."""
    coded = header.coded_pixels
    if coded <= limits.free_pixels:
        return 0
    if 4 * coded > 5 * header.width * header.height:
        coded *= WASTE
    return -(-coded // limits.pixels_per_byte)


def _header_bytes(header: Header) -> bytes:
    flags = FLAG_GREY * header.is_grey | FLAG_TILED * bool(header.tile)
    fields = bytes([flags]) + varint(header.width) + varint(header.height) + varint(header.family)
    fields += header.weights_digest + bytes([header.quality_code])
    if header.tile:
        fields += varint(header.tile) + varint(header.overlap)
    return SIGNATURE + fields + crc32c(SIGNATURE + fields).to_bytes(4, "little")


def _chunk(kind: bytes, payload: bytes) -> bytes:
    crc = crc32c(payload, crc32c(kind))
    return kind + varint(len(payload)) + payload + crc.to_bytes(4, "little")


def write(container: Container, limits: Limits = Limits()) -> bytes:
    """Return the file's bytes.

    Raises:
        LimitError: the image or its metadata is larger than a decoder with `limits` would accept.
    """
    check_limits(container.header, limits)
    assert len(container.tiles) == len(container.header.tile_boxes())
    assert len(container.header.weights_digest) == 8 and set(container.metadata) <= set(METADATA)
    parts = [_header_bytes(container.header)]
    for name, kind in METADATA.items():
        if payload := container.metadata.get(name):
            if len(payload) > limits.metadata_bytes:
                raise LimitError(
                    f"{name}: {len(payload)} bytes, limited to {limits.metadata_bytes}"
                )
            parts.append(_chunk(kind, payload))
    tiles = [_chunk(b"TILE", payload) for payload in container.tiles]
    missing = bytes_needed(container.header, limits) - sum(map(len, parts + tiles))
    if missing > 0:
        parts.append(_padding(missing))
    return b"".join(parts + tiles)


def _padding(size: int) -> bytes:
    """Return the shortest padding chunk of at least `size` bytes."""
    zeros = max(size - 8 - len(varint(size)), 0)  # one less where the varint is then shorter
    while len(chunk := _chunk(PADDING, bytes(zeros))) < size:
        zeros += 1
    return chunk


def _read_header(source: ByteReader) -> Header:
    signature = source.take(8, "signature") if len(source.data) >= 8 else source.data
    if signature != SIGNATURE:
        if signature[:3] == MAGIC and signature[4:] == SIGNATURE[4:]:
            raise UnsupportedVersionError(
                f"signature: expected version {VERSION}, found {signature[3:4].decode('latin-1')!r}: update ncodec"
            )
        if len(signature) < 8 and SIGNATURE.startswith(signature):
            raise TruncatedError(f"signature: need 8 bytes, file has {len(signature)}")
        raise BadMagicError(
            f"signature: expected {SIGNATURE!r}, found {signature!r}: not an .nc file"
        )
    flags = source.take(1, "header")[0]
    if flags & ~(FLAG_GREY | FLAG_TILED):
        raise UnsupportedVersionError(f"header: unknown flags {flags:#04x}: update ncodec")
    width, height = source.varint("header width"), source.varint("header height")
    family = source.varint("header family")
    digest = source.take(8, "header weights digest")
    quality_code = source.take(1, "header quality")[0]
    tile, overlap = (
        (source.varint("header tile"), source.varint("header overlap"))
        if flags & FLAG_TILED
        else (0, 0)
    )
    expected = crc32c(source.data[: source.offset])
    found = int.from_bytes(source.take(4, "header checksum"), "little")
    if found != expected:
        raise ChecksumError(f"header: CRC-32C is {expected:#010x}, file says {found:#010x}")
    if not width or not height:
        raise CorruptPayloadError(
            f"header: expected sides of at least 1 pixel, found {width}x{height}"
        )
    if quality_code > MAX_QUALITY_CODE:
        raise CorruptPayloadError(f"header: quality code {quality_code} exceeds {MAX_QUALITY_CODE}")
    if flags & FLAG_TILED and not (tile >= 64 and overlap <= tile):
        raise CorruptPayloadError(
            f"header: expected tile >= 64 and overlap <= tile, found {tile}, {overlap}"
        )
    return Header(
        width, height, family, digest, quality_code, bool(flags & FLAG_GREY), tile, overlap
    )


def family_of(data: bytes) -> int | None:
    """Return the family that the first bytes of a file name, None where they are not a header."""
    try:
        return _read_header(ByteReader(data)).family
    except FormatError:
        return None


def read(data: bytes | bytearray | memoryview, limits: Limits = Limits()) -> Container:
    """Return the header, tile payloads and metadata of a file, everything checked.

    Raises:
        BadMagicError, UnsupportedVersionError, TruncatedError, ChecksumError, CorruptPayloadError,
        LimitError: each names the place, what was expected and what was found.
        InputError: `data` is not bytes.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(f"data: expected bytes, found {type(data).__name__}")
    if not isinstance(limits, Limits):
        raise InputError(f"limits: expected ncodec.Limits, found {type(limits).__name__}")
    source = ByteReader(bytes(data))
    header = _read_header(source)
    check_limits(header, limits)
    if len(source.data) < (needed := bytes_needed(header, limits)):
        raise LimitError(
            f"header: {header.width}x{header.height} in a file of {len(source.data)} bytes, "
            f"{limits.pixels_per_byte} coded pixels per byte take at least {needed}"
        )
    n_tiles = len(header.tile_boxes())
    tiles: list[bytes] = []
    metadata: dict[str, bytes] = {}
    names = {kind: name for name, kind in METADATA.items()}
    for n_chunks in range(limits.chunks + 1):
        if len(tiles) == n_tiles:
            break
        if n_chunks == limits.chunks:
            raise LimitError(f"chunks: more than {limits.chunks}")
        kind = source.take(4, f"chunk {n_chunks} (have {len(tiles)} of {n_tiles} tiles)")
        if not kind.isalpha():
            raise CorruptPayloadError(f"chunk {n_chunks}: type {kind!r} is not 4 letters")
        place = f"chunk {n_chunks} {kind.decode()!r}"
        length = source.varint(f"{place} length")
        if kind in names and length > limits.metadata_bytes:
            raise LimitError(f"{place}: {length} bytes, limited to {limits.metadata_bytes}")
        payload = source.take(length, place)
        expected = crc32c(payload, crc32c(kind))
        found = int.from_bytes(source.take(4, f"{place} checksum"), "little")
        if found != expected:
            raise ChecksumError(f"{place}: CRC-32C is {expected:#010x}, file says {found:#010x}")
        if kind == b"TILE":
            tiles.append(payload)
        elif tiles:
            raise CorruptPayloadError(f"{place}: stands between or after TILE chunks")
        elif kind in names:
            if names[kind] in metadata:
                raise CorruptPayloadError(f"{place}: appears twice")
            metadata[names[kind]] = payload
        elif kind[:1].isupper():
            raise UnsupportedVersionError(f"{place}: unknown critical chunk: update ncodec")
    if source.offset != len(source.data):
        raise CorruptPayloadError(
            f"end: {len(source.data) - source.offset} bytes after the last tile"
        )
    return Container(header, tiles, metadata)


def quality_code(quality: float) -> int:
    """Return the header's code for a quality in [1, 8], to the nearest 0.05.

    Raises:
        InputError: `quality` is outside [1, 8] or not a number.
    """
    if not isinstance(quality, Real) or not 1 <= quality <= 8:
        raise InputError(f"quality: expected 1 to 8, found {quality!r}")
    return round((quality - 1) * QUALITY_STEPS)
