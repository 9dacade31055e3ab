"""The bytes that most JPEG files begin with: deflate's preset dictionary for skeletons (specs/jpeg.md, section 3).

| DQT of qualities 1 to 100 | SOI, JFIF | frame headers | the four DHT of T.81, annex K | scan headers |
"""

from functools import cache

from ncodec.jpeg._jpeg import huffman_tables

# T.81, tables K.1 and K.2, in zigzag order.
_LUMINANCE = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933"
    "383740485c4e404457453738506d51575f626768673e4d71797064785c656763"
)
_CHROMINANCE = bytes.fromhex("111212181518" + "2f1a1a2f63" + "42384263" + "63" * 49)


def _segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def _scaled(table: bytes, quality: int) -> bytes:
    """Return a quantisation table as libjpeg's jpeg_set_quality scales it."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return bytes(min(max((q * scale + 50) // 100, 1), 255) for q in table)


@cache
def dictionary() -> bytes:
    """Return the preset dictionary. Exact: a payload cannot be restored with another."""
    parts = []
    for quality in range(1, 101):
        for number, table in enumerate((_LUMINANCE, _CHROMINANCE)):
            parts.append(_segment(0xDB, bytes([number]) + _scaled(table, quality)))
    parts.append(bytes.fromhex("ffd8ffe000104a46494600010100000100010000"))
    for marker, sampling in ((0xC2, 0x22), (0xC0, 0x11), (0xC0, 0x21), (0xC0, 0x22)):
        frame = bytes.fromhex("080000000003") + bytes([1, sampling, 0, 2, 0x11, 1, 3, 0x11, 1])
        parts.append(_segment(marker, frame))
    for destination, table in zip((0x00, 0x10, 0x01, 0x11), huffman_tables(), strict=True):
        parts.append(_segment(0xC4, bytes([destination]) + table))
    parts.append(bytes.fromhex("ffda0008010100003f00ffda000c03010002110311003f00ffd9"))
    return b"".join(parts)
