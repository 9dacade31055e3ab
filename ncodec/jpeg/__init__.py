"""JPEG files made smaller, and restored byte for byte (specs/jpeg.md).

    file -> | skeleton: all but the scans | padding bits | coefficients |
               deflate ----------------------'   our binary coder -'

Standard library only, but for the C++ extension. What the model does not know, or cannot restore, is kept as
it is: every JPEG file has a payload.
"""

import zlib
from dataclasses import dataclass

from ncodec.bytestream import ByteReader, varint
from ncodec.errors import CorruptPayloadError, InputError, LimitError, NcodecError
from ncodec.jpeg import _jpeg
from ncodec.jpeg.dictionary import dictionary

RAW, MODELLED, DEFLATED = range(3)
SIGNATURE = b"\xff\xd8"
MAX_BLOCKS = 3 * (1 << 28) // 64  # 2**28 pixels of three components: 1.5 GiB of coefficients
MAX_SIZE = 1 << 30  # bytes of a file


@dataclass(frozen=True)
class JpegHeader:
    """What the frame header says. `width`, `height`: pixels."""

    width: int
    height: int
    n_components: int


def header(data: bytes) -> JpegHeader:
    """Return what the frame header of a JPEG file says.

    Raises:
        InputError: not a JPEG file, or not one of 8 bits with Huffman coding, or without a frame header.
    """
    found = _jpeg.header(data) if data.startswith(SIGNATURE) else None
    if found is None:
        raise InputError("JPEG: no frame header of 8 bits and Huffman coding")
    return JpegHeader(*found)


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
    payload = _model(data, max_blocks) or bytes([DEFLATED]) + varint(len(data)) + _deflate(data)
    return min(payload, bytes([RAW]) + data, key=len)


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
    if mode == RAW:
        _check_size(len(payload) - 1, max_size)
        return payload[1:]
    if mode not in (MODELLED, DEFLATED):
        raise CorruptPayloadError(f"JPEG: mode {mode}, expected 0 to 2")
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
    """Return the payload in mode MODELLED, or None where it would not restore the file."""
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
