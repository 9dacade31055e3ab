"""Varints and a bounded reader: how the container, the coders' payloads and the JPEG model read bytes."""

from mmap import mmap

from ncodec.errors import CorruptPayloadError, TruncatedError

Bytes = bytes | bytearray | memoryview | mmap


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

    def __init__(self, data: Bytes) -> None:
        self.data, self.offset = data, 0

    def take(self, count: int, what: str) -> bytes:
        """Return the next `count` bytes, or raise TruncatedError."""
        self.skip(count, what)
        return bytes(self.data[self.offset - count : self.offset])

    def skip(self, count: int, what: str) -> None:
        """Pass over the next `count` bytes, or raise TruncatedError."""
        if count > len(self.data) - self.offset:
            raise TruncatedError(
                f"{what}: need {count} bytes at offset {self.offset}, file has {len(self.data) - self.offset}"
            )
        self.offset += count

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
