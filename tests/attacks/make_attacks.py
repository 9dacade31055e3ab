"""Write the malformed files of this folder, and expected.json: `python tests/attacks/make_attacks.py`.

Needs neither ncodec nor a model, so the files do not depend on the code they test. Same bytes always.
"""

import json
from pathlib import Path

HERE = Path(__file__).parent
SIGNATURE = b"\x89NC1\r\n\x1a\n"
DIGEST = bytes.fromhex("0123456789abcdef")


def crc32c(data: bytes) -> bytes:
    """Return the CRC-32C of `data`, four bytes, little-endian."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return (crc ^ 0xFFFFFFFF).to_bytes(4, "little")


def varint(value: int) -> bytes:
    """Return LEB128."""
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def header(
    flags: int = 0,
    width: bytes = b"\x03",
    height: bytes = b"\x02",
    quality: int = 60,
    grid: bytes = b"",
) -> bytes:
    """Return a header with a valid checksum, whatever its fields say."""
    data = SIGNATURE + bytes([flags]) + width + height + b"\x01" + DIGEST + bytes([quality]) + grid
    return data + crc32c(data)


def chunk(kind: bytes, payload: bytes) -> bytes:
    """Return a chunk with a valid checksum."""
    return kind + varint(len(payload)) + payload + crc32c(kind + payload)


def attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of every file, by name."""
    tile = chunk(b"TILE", b"abc")
    good = header() + tile
    icc = chunk(b"iCCP", b"profile")
    four = header(flags=2, width=varint(128), height=varint(128), grid=varint(64) + b"\x00")
    return {
        "empty": ("TruncatedError", b""),
        "signature_cut": ("TruncatedError", good[:5]),
        "png": ("BadMagicError", b"\x89PNG\r\n\x1a\n" + good[8:]),
        "crlf_to_lf": ("BadMagicError", good.replace(b"\r\n", b"\n")),
        "lf_to_crlf": ("BadMagicError", good.replace(b"\n", b"\r\n")),
        "seven_bits": ("BadMagicError", bytes(byte & 0x7F for byte in good)),
        "version_2": ("UnsupportedVersionError", good[:3] + b"2" + good[4:]),
        "unknown_flag": ("UnsupportedVersionError", header(flags=4) + tile),
        "header_cut": ("TruncatedError", good[:14]),
        "header_checksum": ("ChecksumError", good[:9] + b"\x04" + good[10:]),
        "zero_width": ("CorruptPayloadError", header(width=b"\x00") + tile),
        "zero_height": ("CorruptPayloadError", header(height=b"\x00") + tile),
        "varint_not_shortest": ("CorruptPayloadError", header(width=b"\x83\x00") + tile),
        "varint_six_bytes": ("CorruptPayloadError", header(width=b"\x83" + b"\x80" * 4 + b"\x01")),
        "quality_141": ("CorruptPayloadError", header(quality=141) + tile),
        "tile_63": ("CorruptPayloadError", header(flags=2, grid=b"\x3f\x00") + tile),
        "overlap_65": ("CorruptPayloadError", header(flags=2, grid=b"\x40\x41") + tile),
        "side_65536": ("LimitError", header(width=varint(65_536)) + tile),
        "pixels_65535x65535": ("LimitError", header(width=varint(65_535), height=varint(65_535))),
        "tiles_66560": (
            "LimitError",
            header(flags=2, width=varint(4097), height=varint(65_520), grid=b"\x40\x00"),
        ),
        "no_chunk": ("TruncatedError", header()),
        "chunk_type_digit": ("CorruptPayloadError", header() + chunk(b"TIL3", b"abc")),
        "chunk_length_16_gib": (
            "TruncatedError",
            header() + b"TILE" + varint(1 << 34) + b"abc" + crc32c(b"TILEabc"),
        ),
        "chunk_checksum": ("ChecksumError", header() + tile.replace(b"abc", b"abd")),
        "chunk_checksum_cut": ("TruncatedError", good[:-1]),
        "unknown_critical": ("UnsupportedVersionError", header() + chunk(b"DEPT", b"\x0a") + tile),
        "icc_twice": ("CorruptPayloadError", header() + icc + icc + tile),
        "icc_between_tiles": ("CorruptPayloadError", four + tile + icc + tile * 3),
        "icc_after_tile": ("CorruptPayloadError", good + icc),
        "three_of_four_tiles": ("TruncatedError", four + tile * 3),
        "five_of_four_tiles": ("CorruptPayloadError", four + tile * 5),
        "trailing_byte": ("CorruptPayloadError", good + b"\x00"),
    }


if __name__ == "__main__":
    for name, (_, data) in attacks().items():
        (HERE / f"{name}.nc").write_bytes(data)
    expected = {f"{name}.nc": error for name, (error, _) in attacks().items()}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
