"""Whole files: a header, ancillary chunks, one TILE chunk a tile (specs/format.md, section 3)."""

from dataclasses import dataclass, field

from ncodec.bytestream import ByteReader, varint
from ncodec.container.header import Header, header_bytes, read_header
from ncodec.container.limits import Limits, check_limits
from ncodec.entropy import crc32c
from ncodec.errors import (
    ChecksumError,
    CorruptPayloadError,
    InputError,
    LimitError,
    UnsupportedVersionError,
)

METADATA = {"icc": b"iCCP", "exif": b"eXIF", "xmp": b"xMPm"}
NAMES = {kind: name for name, kind in METADATA.items()}


@dataclass(frozen=True)
class Container:
    """A parsed file: header, one payload per tile, metadata by name ("icc", "exif", "xmp")."""

    header: Header
    tiles: list[bytes]
    metadata: dict[str, bytes] = field(default_factory=dict)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    crc = crc32c(payload, crc32c(kind))
    return kind + varint(len(payload)) + payload + crc.to_bytes(4, "little")


def write(container: Container, limits: Limits = Limits()) -> bytes:
    """Return the file's bytes.

    Raises:
        LimitError: the image or its metadata is larger than a decoder with `limits` would accept.
    """
    check_limits(container.header, limits)
    assert len(container.tiles) == container.header.n_tiles
    assert set(container.metadata) <= set(METADATA)
    parts = [header_bytes(container.header)]
    for name, kind in METADATA.items():
        if payload := container.metadata.get(name):
            if len(payload) > limits.metadata_bytes:
                raise LimitError(
                    f"{name}: {len(payload)} bytes, limited to {limits.metadata_bytes}"
                )
            parts.append(_chunk(kind, payload))
    parts += [_chunk(b"TILE", payload) for payload in container.tiles]
    return b"".join(parts)


def _read_chunk(
    source: ByteReader, number: int, progress: str, limits: Limits
) -> tuple[bytes, bytes, str]:
    """Return the next chunk's type and payload, and the place that errors about it name."""
    kind = source.take(4, f"chunk {number} ({progress})")
    if not kind.isalpha():
        raise CorruptPayloadError(f"chunk {number}: type {kind!r} is not 4 letters")
    place = f"chunk {number} {kind.decode()!r}"
    length = source.varint(f"{place} length")
    if kind in NAMES and length > limits.metadata_bytes:
        raise LimitError(f"{place}: {length} bytes, limited to {limits.metadata_bytes}")
    payload = source.take(length, place)
    expected = crc32c(payload, crc32c(kind))
    found = int.from_bytes(source.take(4, f"{place} checksum"), "little")
    if found != expected:
        raise ChecksumError(f"{place}: CRC-32C is {expected:#010x}, file says {found:#010x}")
    return kind, payload, place


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
    header = read_header(source)
    check_limits(header, limits)
    tiles: list[bytes] = []
    metadata: dict[str, bytes] = {}
    n_chunks = 0
    while len(tiles) < header.n_tiles:
        if n_chunks == limits.chunks:
            raise LimitError(f"chunks: more than {limits.chunks}")
        progress = f"have {len(tiles)} of {header.n_tiles} tiles"
        kind, payload, place = _read_chunk(source, n_chunks, progress, limits)
        n_chunks += 1
        if kind == b"TILE":
            tiles.append(payload)
        elif tiles:
            raise CorruptPayloadError(f"{place}: stands between or after TILE chunks")
        elif kind in NAMES:
            if NAMES[kind] in metadata:
                raise CorruptPayloadError(f"{place}: appears twice")
            metadata[NAMES[kind]] = payload
        elif kind[:1].isupper():
            raise UnsupportedVersionError(f"{place}: unknown critical chunk: update ncodec")
    if source.offset != len(source.data):
        raise CorruptPayloadError(
            f"end: {len(source.data) - source.offset} bytes after the last tile"
        )
    return Container(header, tiles, metadata)
