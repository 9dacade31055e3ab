"""The bytes that most JPEG files begin with: deflate's preset dictionary for skeletons (specs/jpeg.md, section 3).

| DQT of qualities 1 to 100 | SOI, JFIF | frame headers | the four DHT of T.81, annex K | scan headers |
"""

from functools import cache

# T.81, tables K.1 and K.2, in zigzag order.
_LUMINANCE = bytes.fromhex(
    "100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a333d3c3933"
    "383740485c4e404457453738506d51575f626768673e4d71797064785c656763"
)
_CHROMINANCE = bytes.fromhex("111212181518" + "2f1a1a2f63" + "42384263" + "63" * 49)
# T.81, tables K.3 to K.6: numbers of codes of each length, then the symbols.
_DC_SYMBOLS = bytes(range(12))
_DC = (
    bytes.fromhex("00010501010101010100000000000000") + _DC_SYMBOLS,
    bytes.fromhex("00030101010101010101010000000000") + _DC_SYMBOLS,
)
_AC = (
    bytes.fromhex(
        "0002010303020403050504040000017d01020300041105122131410613516107"
        "227114328191a1082342b1c11552d1f02433627282090a161718191a25262728"
        "292a3435363738393a434445464748494a535455565758595a63646566676869"
        "6a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7"
        "a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2"
        "e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    ),
    bytes.fromhex(
        "0002010204040304070504040001027700010203110405213106124151076171"
        "1322328108144291a1b1c109233352f0156272d10a162434e125f11718191a26"
        "2728292a35363738393a434445464748494a535455565758595a636465666768"
        "696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5"
        "a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9da"
        "e2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa"
    ),
)


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
    for number in range(2):
        parts.append(_segment(0xC4, bytes([number]) + _DC[number]))
        parts.append(_segment(0xC4, bytes([0x10 | number]) + _AC[number]))
    parts.append(bytes.fromhex("ffda0008010100003f00ffda000c03010002110311003f00ffd9"))
    return b"".join(parts)
