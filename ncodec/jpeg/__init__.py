"""JPEG files made smaller, and restored byte for byte (specs/jpeg.md).

    file -> | skeleton: all but the scans | padding bits | coefficients |
               deflate ----------------------'   our binary coder -'

Standard library only, but for the C++ extension. What the model does not know, or cannot restore, is kept as
it is: every JPEG file has a payload. A file that holds several pictures one behind the other has one of each.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ncodec.bytestream import ByteReader, varint
from ncodec.errors import CorruptPayloadError, InputError, LimitError, NcodecError
from ncodec.jpeg import _jpeg
from ncodec.jpeg.dictionary import dictionary

RAW, MODELLED, DEFLATED, SEVERAL = range(4)
SIGNATURE = b"\xff\xd8"
MAX_BLOCKS = 3 * (1 << 28) // 64  # 2**28 pixels of three components: 1.5 GiB of coefficients
MAX_SIZE = 1 << 30  # bytes of a file
MAX_PICTURES = 16  # in a file, each with a payload
MAX_SEGMENTS = 1 << 16  # of a picture: bounds the time that a hostile file takes
# Markers of segments, and EOI: 00 after FF is data, RST0 to RST7 are the scan's, TEM and SOI stand alone.
MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]")
END, START_OF_SCAN, NUMBER_OF_LINES = 0xD9, 0xDA, 0xDC
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True)
class JpegHeader:
    """What the frame header says. `width`, `height`: pixels."""

    width: int
    height: int
    n_components: int
    bits: int = 8  # a sample
    marker: int = 0xC0

    @property
    def kind(self) -> str:
        """The kind of JPEG, such as `12 bits, arithmetic coding`; "" for baseline, extended and progressive of 8 bits."""
        names = [f"{self.bits} bits"] if self.bits != 8 else []
        names += ["hierarchical"] if self.marker & 4 else []
        names += ["lossless"] if self.marker & 3 == 3 else []
        names += ["arithmetic coding"] if self.marker & 8 else []
        return ", ".join(names)


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each marker's segment after SOI, up to EOI and with it; junk between them is passed over.

    Raises:
        InputError: there are more than `MAX_SEGMENTS`.
    """
    at = len(SIGNATURE)
    for _ in range(MAX_SEGMENTS):
        if (found := MARKER.search(data, at)) is None:
            return
        at, marker = found.end(), data[found.end() - 1]
        length = 0 if marker == END else int.from_bytes(data[at : at + 2], "big")
        if at + length > len(data) or (length < 2 and marker != END):
            return
        yield marker, at, at + length
        if marker == END:
            return
        at += length
    raise InputError(f"JPEG: more than {MAX_SEGMENTS} segments")


def _frame(data: bytes) -> JpegHeader | None:
    frame = None
    for marker, start, end in segments(data):
        if frame is None and marker in FRAMES and end - start >= 8:
            bits, height, width, n_components = struct.unpack_from(">BHHB", data, start + 2)
            frame = JpegHeader(width, height, n_components, bits, marker)
        elif marker == NUMBER_OF_LINES and frame and end - start >= 4:
            return replace(frame, height=int.from_bytes(data[start + 2 : start + 4], "big"))
        if frame and frame.height:
            break
    return frame


def header(data: bytes) -> JpegHeader:
    """Return what the first frame header of a JPEG file says, of whatever kind.

    Raises:
        InputError: not a JPEG file, or one without a whole frame header, or of more than `MAX_SEGMENTS` before it.
    """
    found = _frame(data) if data.startswith(SIGNATURE) else None
    if found is None:
        raise InputError("JPEG: no frame header")
    return found


def count_scans(data: bytes) -> int:
    """Return how many scan headers a JPEG file has before its end; raises as `segments`."""
    return sum(marker == START_OF_SCAN for marker, _, _ in segments(data))


def compress(data: bytes, max_blocks: int = MAX_BLOCKS) -> bytes:
    """Return a payload from which `restore` makes the same file; that is tried before returning.

    Args:
        data: a whole JPEG file.
        max_blocks: files of more blocks of 64 coefficients are not modelled.

    Raises:
        InputError: not a JPEG file, or larger than `restore` accepts.
    """
    if not data.startswith(SIGNATURE):
        raise InputError(f"JPEG: expected a file that begins with FF D8, found {data[:2].hex(' ')}")
    if len(data) > MAX_SIZE:
        raise InputError(f"JPEG: {len(data)} bytes, files are limited to {MAX_SIZE}")
    pictures = _split(data)
    if len(pictures) == 1:
        return _compress_one(data, max_blocks)
    payloads = [_compress_one(picture, max_blocks) for picture in pictures]
    payload = bytes([SEVERAL]) + b"".join(varint(len(p)) + p for p in payloads)
    return min(payload, bytes([RAW]) + data, key=len)


def _compress_one(data: bytes, max_blocks: int) -> bytes:
    """Return the payload of a file as one picture, whatever is behind that."""
    payload = _model(data, max_blocks)
    if payload is None or len(payload) > 0.95 * len(data):
        deflated = bytes([DEFLATED]) + varint(len(data)) + _deflate(data)
        payload = min(payload or deflated, deflated, key=len)
    return min(payload, bytes([RAW]) + data, key=len)


def _split(data: bytes) -> list[bytes]:
    """Return the pictures of a file, such as of MPO or a gain map behind a photograph: each from its SOI to the next one's."""
    pictures: list[bytes] = []
    while len(pictures) < MAX_PICTURES - 1:
        try:
            ends = [end for marker, _, end in segments(data) if marker == END]
            start = data.find(SIGNATURE + b"\xff", ends[0]) if ends else -1
            if start < 0 or _frame(data[start:]) is None:
                break
        except InputError:  # too many segments
            break
        pictures.append(data[:start])
        data = data[start:]
    return [*pictures, data]


def restore(payload: bytes, max_size: int = MAX_SIZE, max_blocks: int = MAX_BLOCKS) -> bytes:
    """Return the JPEG file. Exact: the bytes that `compress` was given, on every platform.

    Args:
        payload: as written by `compress`.
        max_size: of the file (bytes).
        max_blocks: of 64 coefficients, 128 bytes of memory each.

    Raises:
        TruncatedError: the payload ends early.
        CorruptPayloadError: it breaks a rule of the specification.
        LimitError: the file is larger than the limits allow.
    """
    reader = ByteReader(payload)
    mode = reader.take(1, "JPEG: mode")[0]
    if mode != SEVERAL:
        return _restore_one(payload, max_size, max_blocks)
    pictures: list[bytes] = []
    while reader.offset < len(payload):
        if len(pictures) == MAX_PICTURES:
            raise CorruptPayloadError(f"JPEG: more than {MAX_PICTURES} pictures")
        size = reader.varint("JPEG: size of a picture's payload")
        one = reader.take(size, "JPEG: payload of a picture")
        pictures.append(_restore_one(one, max_size, max_blocks))
        max_size -= len(pictures[-1])
    if len(pictures) < 2:
        raise CorruptPayloadError(f"JPEG: expected two pictures or more, found {len(pictures)}")
    return b"".join(pictures)


def _restore_one(payload: bytes, max_size: int, max_blocks: int) -> bytes:
    """Return the file, or the one picture of several, in a payload of any other mode."""
    reader = ByteReader(payload)
    mode = reader.take(1, "JPEG: mode")[0]
    if mode == RAW:
        _check_size(len(payload) - 1, max_size)
        return payload[1:]
    if mode not in (MODELLED, DEFLATED):
        raise CorruptPayloadError(f"JPEG: mode {mode}, expected 0 to 3")
    size = reader.varint("JPEG: size of the file")
    _check_size(size, max_size)
    if mode == DEFLATED:
        return _inflate(payload[reader.offset :], size)
    n_skeleton = reader.varint("JPEG: size of the skeleton")
    n_padding = reader.varint("JPEG: size of the padding")
    # A skeleton is part of the file; each byte of padding is of an interval of one byte or more.
    if n_skeleton + n_padding > size:
        raise CorruptPayloadError("JPEG: skeleton and padding are larger than the file")
    deflated = reader.take(reader.varint("JPEG: size of the deflated part"), "JPEG: deflated part")
    both = _inflate(deflated, n_skeleton + n_padding)
    coded = payload[reader.offset :]
    return _jpeg.put_together(both[:n_skeleton], both[n_skeleton:], coded, size, max_blocks)


def _model(data: bytes, max_blocks: int) -> bytes | None:
    """Return a payload in mode MODELLED, or None where it would not restore the file."""
    try:
        parts = _jpeg.take_apart(data, max_blocks)
        if parts is None:
            return None
        skeleton, padding, coded = parts
        deflated = _deflate(skeleton + padding)
        sizes = (len(data), len(skeleton), len(padding), len(deflated))
        payload = bytes([MODELLED]) + b"".join(map(varint, sizes)) + deflated + coded
        return payload if restore(payload, MAX_SIZE, max_blocks) == data else None
    except NcodecError:  # an encoder whose choices are not ours
        return None


def _check_size(size: int, max_size: int) -> None:
    if size > max_size:
        raise LimitError(f"JPEG: a file of {size} bytes, limited to {max_size}")


def _deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary())
    return coder.compress(data) + coder.flush()


def _inflate(deflated: bytes, size: int) -> bytes:
    coder = zlib.decompressobj(-15, dictionary())
    try:
        data = coder.decompress(deflated, size + 1)  # one more: 0 would mean no bound
    except zlib.error as error:
        raise CorruptPayloadError(f"JPEG: the deflated part is damaged: {error}") from error
    if len(data) != size or not coder.eof or coder.unused_data:
        raise CorruptPayloadError(f"JPEG: the deflated part does not hold {size} bytes")
    return data
