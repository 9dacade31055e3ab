"""Write the malformed files of this folder, and expected.json: `python tests/attacks/make_attacks.py`.

Does not import ncodec, so the files do not depend on the code they test: sections are coded by
tests/reference_rans.py with the tables of the shipped weights. Same bytes always.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np  # noqa: E402
import reference_ftic  # noqa: E402
import reference_masked  # noqa: E402
import reference_rans  # noqa: E402
import reference_tokenizer  # noqa: E402
from reference_hyperprior import read_tensors  # noqa: E402

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
    family: bytes = b"\x04",
    digest: bytes = DIGEST,
) -> bytes:
    """Return a header with a valid checksum, whatever its fields say."""
    data = SIGNATURE + bytes([flags]) + width + height + family + digest + bytes([quality]) + grid
    return data + crc32c(data)


def chunk(kind: bytes, payload: bytes) -> bytes:
    """Return a chunk with a valid checksum."""
    return kind + varint(len(payload)) + payload + crc32c(kind + payload)


def attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of every file, by name."""
    tile = chunk(b"TILE", b"abc")
    good = header() + tile
    icc = chunk(b"iCCP", b"\0profile")
    metadata_length = varint(2**24 + 1)
    four = header(flags=2, width=varint(128), height=varint(128), grid=varint(64) + b"\x00")
    layered = header(flags=4, grid=b"\x02\x02")  # two layers of two ranges
    parts = [chunk(b"TILE", varint(number) + b"abc") for number in range(5)]
    return {
        "empty": ("TruncatedError", b""),
        "signature_cut": ("TruncatedError", good[:5]),
        "png": ("BadMagicError", b"\x89PNG\r\n\x1a\n" + good[8:]),
        "crlf_to_lf": ("BadMagicError", good.replace(b"\r\n", b"\n")),
        "lf_to_crlf": ("BadMagicError", good.replace(b"\n", b"\r\n")),
        "seven_bits": ("BadMagicError", bytes(byte & 0x7F for byte in good)),
        "version_2": ("UnsupportedVersionError", good[:3] + b"2" + good[4:]),
        "unknown_flag": ("UnsupportedVersionError", header(flags=32) + tile),
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
        "tiles_16640": (
            "LimitError",
            header(flags=2, width=varint(4097), height=varint(16_384), grid=b"\x40\x00"),
        ),
        # tiles of 1024 that overlap by as much: each pixel but those at the edges is coded four times
        "pixels_coded_four_times": (
            "LimitError",
            header(flags=2, width=varint(16_384), height=varint(8192), grid=varint(1024) * 2),
        ),
        "icc_over_16_mib": ("LimitError", header() + b"iCCP" + metadata_length + b"abc"),
        "exif_over_16_mib": ("LimitError", header() + b"eXIF" + metadata_length + b"abc"),
        "xmp_over_16_mib": ("LimitError", header() + b"xMPm" + metadata_length + b"abc"),
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
        "layers_0": ("CorruptPayloadError", header(flags=4, grid=b"\x00\x01") + parts[0]),
        "layers_65": ("CorruptPayloadError", header(flags=4, grid=b"\x41\x01") + parts[0]),
        "ranges_0": ("CorruptPayloadError", header(flags=4, grid=b"\x01\x00") + parts[0]),
        "ranges_4097": (
            "CorruptPayloadError",
            header(flags=4, grid=b"\x01" + varint(4097)) + parts[0],
        ),
        "layers_missing": ("TruncatedError", header(flags=4)[:-4]),
        "layers_64_of_513": ("LimitError", header(flags=4, grid=b"\x40" + varint(513))),
        "layered_no_number": ("TruncatedError", layered + chunk(b"TILE", b"")),
        "layered_number_not_shortest": (
            "CorruptPayloadError",
            layered + chunk(b"TILE", b"\x80\x00"),
        ),
        "layered_cut": ("TruncatedError", layered + b"".join(parts[:2])),
        "layered_twice": (
            "CorruptPayloadError",
            layered + b"".join(parts[i] for i in (0, 1, 1, 2, 3)),
        ),
        "layered_gap": ("CorruptPayloadError", layered + b"".join(parts[i] for i in (0, 1, 3))),
        "layered_swapped": (
            "CorruptPayloadError",
            layered + b"".join(parts[i] for i in (0, 2, 1, 3)),
        ),
        "layered_five": ("CorruptPayloadError", layered + b"".join(parts)),
    }


def weights_of(model: str) -> bytes:
    """Return the weights file of a shipped model, of tune psnr where there are several; b"" where it is not shipped."""
    folder = HERE.parent.parent / "weights"
    models = json.loads((folder / "index.json").read_text())["models"]
    files = {model["name"]: model["file"] for model in models}
    file = files.get(f"{model}-psnr", files.get(model))
    return (folder / file).read_bytes() if file else b""


class Weights:
    """The shipped hyperprior-s, read without ncodec: tables, and the rows of a pixel whose z are all 0, at quality 1.

    A single z has no neighbours: its rows and the whole parts of its means are those of x = 0.
    """

    def __init__(self) -> None:
        data = weights_of("hyperprior-s")
        self.digest = hashlib.sha256(data).digest()[:8]
        self.start = 8 + int.from_bytes(data[:8], "little")
        self.data, self.names = data, json.loads(data[8 : self.start])
        about = json.loads(self.names["__metadata__"]["ncodec"])
        self.skip_below = about["skip_below"]
        self.tables_z, self.tables_r = self.matrix("tables.z", "H"), self.matrix("tables.r", "H")
        self.rows_z, self.wholes = self.rows_of_first()
        self.rows_r = [row for row in self.rows_of_zeros() if row >= self.skip_below]

    def numbers(self, name: str, kind: str) -> list[int]:
        """Return a tensor's integers, of a type of the module struct, flat."""
        low, high = self.names[name]["data_offsets"]
        return list(memoryview(self.data[self.start + low : self.start + high]).cast(kind))

    def matrix(self, name: str, kind: str) -> list[list[int]]:
        """Return a tensor [rows, columns]."""
        flat, width = self.numbers(name, kind), self.names[name]["shape"][1]
        return [flat[i : i + width] for i in range(0, len(flat), width)]

    def rows_of_first(self) -> tuple[list[int], list[int]]:
        """Return the row of each z (specs/hyperprior.md), and the whole part of its mean."""

        def rounded(a: int, s: int) -> int:
            return (a + (1 << s - 1)) >> s

        s_hidden, s_head, _ = self.numbers("neighbours.shifts", "i")
        biases = self.numbers("neighbours.hidden.bias", "i")
        hidden = [min(max(rounded(b, s_hidden), 0), 32767) for b in biases]
        weight, offsets = self.matrix("neighbours.head.weight", "h"), self.matrix("neighbours.offset", "h")[0]  # fmt: skip
        sums = [sum(w * h for w, h in zip(row, hidden, strict=True)) for row in weight]
        head = [min(max(rounded(a, s_head), -32767), 32767) for a in sums]
        known = [a + offset for a, offset in zip(head, offsets, strict=True)]
        means, widths = known[: len(known) // 2], known[len(known) // 2 :]
        eighths = [min(max(rounded(mean, 5), -1016), 1016) for mean in means]
        wholes = [rounded(eighth, 3) for eighth in eighths]
        rows = [
            8 * min(max(rounded(width, 8), 0), 31) + eighth - 8 * whole + 4
            for width, eighth, whole in zip(widths, eighths, wholes, strict=True)
        ]
        return rows, wholes

    def rows_of_zeros(self) -> list[int]:
        """Return the row of each r (specs/hyperprior.md): with z = 0 the first layer gives its bias."""

        def layer(name: str, sums: list[int]) -> list[int]:
            bias, shift = self.numbers(f"{name}.bias", "i"), self.numbers(f"{name}.shift", "B")
            rounded = (
                (a + b + (1 << s - 1)) >> s for a, b, s in zip(sums, bias, shift, strict=True)
            )
            return [min(max(a, -32767), 32767) for a in rounded]

        hidden = layer("h_s.hidden", [0] * self.names["h_s.hidden.bias"]["shape"][0])
        weight = self.matrix("h_s.head.weight", "h")
        sums = [sum(w * max(h, 0) for w, h in zip(row, hidden, strict=True)) for row in weight]
        offsets = self.matrix("index_offset", "h")[0]
        first = layer("h_s.head", sums)[: len(offsets)]  # of the 2x2 positions
        return [
            min(max((index + offset + 128) >> 8, 0), 63)
            for index, offset in zip(first, offsets, strict=True)
        ]


WEIGHTS = Weights()
N_R = len(WEIGHTS.rows_r)
assert 10 < N_R < 32, "lane 31 is to have no symbol"
SYMBOLS = [(-1) ** k * (k % 3 if k < 10 else k % 2) for k in range(N_R)]  # no escapes


def section_z(z: list[int], **how: int) -> bytes:
    """Return a section z of the one-pixel image."""
    symbols = [value - whole for value, whole in zip(z, WEIGHTS.wholes, strict=True)]
    return reference_rans.encode(symbols, WEIGHTS.rows_z, WEIGHTS.tables_z, **how)


def z_with(value: int, k: int) -> bytes:
    """Return a section z whose z are 0 but for one of channel k."""
    z = [0] * len(WEIGHTS.wholes)
    z[k] = value
    return section_z(z)


def section_y(symbols: list[int], **how: int) -> bytes:
    """Return a section y of the one-pixel image, all z being 0."""
    rows, tables = WEIGHTS.rows_r, WEIGHTS.tables_r
    return reference_rans.encode(symbols, rows, tables, WEIGHTS.skip_below, **how)


def reason(y: bytes) -> str:
    """Return why the reference refuses a section y, "" where it does not."""
    try:
        reference_rans.decode(y, WEIGHTS.rows_r, WEIGHTS.tables_r, WEIGHTS.skip_below)
    except ValueError as error:
        return str(error)
    return ""


def one_pixel(payload: bytes, **fields: Any) -> bytes:
    """Return a file of one pixel at quality 1, made with the shipped weights."""
    fields = {"digest": WEIGHTS.digest, "quality": 0, **fields}
    return header(width=b"\x01", height=b"\x01", **fields) + chunk(b"TILE", payload)


Z = section_z([0] * len(WEIGHTS.rows_z))
Y = section_y(SYMBOLS)


def control(chunks: int = 1) -> bytes:
    """Return a valid file, from which those of `coded_attacks` depart."""
    y = section_y(SYMBOLS, chunks=chunks)
    return one_pixel(varint(len(Z)) + Z + y)


def coded_attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of the files whose container is sound, by name."""
    whole = varint(len(Z)) + Z + Y
    words = (Y[:-2] + k.to_bytes(2, "little") for k in range(1 << 16))
    final = next(y for y in words if reason(y) == "final state")
    idle = section_y([0] * N_R, lanes=32)  # the last lanes have no symbol
    escaped = section_y(
        [0] * (N_R - 1) + [5000]
    )  # entry 10000: two escape bytes, the last of the payload
    plain, value = escaped[:-2], int.from_bytes(escaped[:-3:-1], "little")
    low, high = value % 256, value // 256
    chunked = section_y(SYMBOLS, chunks=2)
    assert reason(Y) == reason(escaped) == reason(chunked) == "" and chunked[:2] == b"\x08\x02"
    ys = {
        "y_empty": ("truncated", b""),
        "y_lanes_6": ("lanes", b"\x06" + Y[1:]),
        "y_states_cut": ("truncated", Y[:4]),
        "y_initial_state": ("initial state", Y[:1] + b"\xff\xff\x00\x00" + Y[5:]),
        "y_final_state": ("final state", final),
        "y_final_state_of_idle_lane": ("final state", idle[:125] + b"\x01" + idle[126:]),
        "y_word_missing": ("truncated", Y[:-2]),
        "y_left_over": ("left over", Y + b"\x00"),
        "y_escape_missing": ("truncated", plain),
        "y_escape_six_bytes": ("escape", plain + b"\x00" + b"\x80" * 4 + bytes([low])),
        "y_escape_over_32_bits": ("escape", plain + b"\x7f" + b"\xff" * 4),
        "y_escape_not_shortest": (
            "escape not in shortest form",
            plain + b"\x00" + bytes([high | 0x80, low]),
        ),
        "y_byte_0_is_16": ("lanes", b"\x10" + Y[1:]),
        "y_chunked_lanes_6": ("lanes", b"\x0e" + chunked[1:]),
        "y_chunks_0": ("chunks", b"\x08\x00" + Y[1:]),
        "y_chunks_1": ("chunks", b"\x08\x01" + Y[1:]),
        "y_chunks_too_many": (
            "chunks",
            b"\x08" + bytes([N_R + 1]) + b"\x04" * N_R + b"\x00\x00\x01\x00" * (N_R + 1),
        ),
        "y_chunks_cut": ("truncated", b"\x08"),
        "y_chunks_not_shortest": ("varint not in shortest form", b"\x08\x82\x00" + chunked[2:]),
        "y_chunks_six_bytes": ("varint", b"\x08" + b"\x82" + b"\x80" * 5 + chunked[2:]),
        "y_chunk_length": ("truncated", b"\x08\x02" + varint(len(chunked)) + chunked[3:]),
        "y_chunk_length_16_gib": ("truncated", b"\x08\x02" + varint(1 << 34) + chunked[3:]),
        "y_chunk_length_not_shortest": (
            "varint not in shortest form",
            b"\x08\x02" + bytes([chunked[2] | 0x80]) + b"\x00" + chunked[3:],
        ),
        "y_chunk_too_short": ("truncated", b"\x08\x02\x03" + chunked[3:]),
    }
    files = {}
    for name, (why, y) in ys.items():
        assert reason(y) == why, (name, reason(y))
        error = "TruncatedError" if why == "truncated" else "CorruptPayloadError"
        files[name] = (error, one_pixel(varint(len(Z)) + Z + y))
    wholes = WEIGHTS.wholes
    most, least = wholes.index(max(wholes)), wholes.index(min(wholes))
    zs = {
        "z_128": z_with(128, -1),
        "z_minus_128": z_with(-128, -1),
        # the largest and least symbols: with the mean's whole part they leave 32 bits, if it has their sign
        "z_2_31": z_with(2**31 - 1 + wholes[most], most),
        "z_minus_2_31": z_with(-(2**31) + wholes[least], least),
        # sections that are sound but for H15
        "z_lanes_2": section_z([0] * len(wholes), lanes=2),
        "z_lanes_32": section_z([0] * len(wholes), lanes=32),
        "z_chunks_2": section_z([0] * len(wholes), chunks=2),
        "z_lanes_6": b"\x06" + Z[1:],
        "z_initial_state": Z[:1] + b"\xff\xff\x00\x00" + Z[5:],
    }
    for name, z in zs.items():
        files[name] = ("CorruptPayloadError", one_pixel(varint(len(z)) + z + Y))
    for name, z in (("z_states_cut", Z[:4]), ("z_word_missing", Z[:-2])):
        files[name] = ("TruncatedError", one_pixel(varint(len(z)) + z + Y))
    for name, number in (("r_32768", 32768), ("r_minus_32768", -32768), ("r_2_31", 2**31 - 1)):
        y = section_y([number] + [0] * (N_R - 1))
        files[name] = ("CorruptPayloadError", one_pixel(varint(len(Z)) + Z + y))
    return files | {
        "tile_empty": ("TruncatedError", one_pixel(b"")),
        "z_length": ("TruncatedError", one_pixel(varint(len(Z + Y) + 1) + Z + Y)),
        "z_length_not_shortest": (
            "CorruptPayloadError",
            one_pixel(bytes([len(Z) | 0x80, 0]) + Z + Y),
        ),
        "z_empty": ("TruncatedError", one_pixel(b"\x00" + Y)),
        "z_left_over": ("CorruptPayloadError", one_pixel(varint(len(Z) + 1) + Z + b"\x00" + Y)),
        "unknown_family": ("UnsupportedVersionError", one_pixel(whole, family=b"\x63")),
        "unknown_digest": ("UnknownModelError", one_pixel(whole, digest=DIGEST)),
        "layers_of_hyperprior": (
            "CorruptPayloadError",
            one_pixel(b"\x00" + whole, flags=4, grid=b"\x01\x01"),
        ),
    }


def jpeg_file(width: int, scans: int = 1) -> bytes:
    """Return a grey JPEG file, one pixel high, of a block a scan, black: all of its codes are one bit, 0."""

    def segment(code: int, content: bytes) -> bytes:
        return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2, "big") + content

    tables = segment(0xDB, bytes([0]) + bytes([1] * 64))
    tables += segment(0xC4, bytes([0, 1, *bytes(15), 0])) + segment(
        0xC4, bytes([16, 1, *bytes(15), 0])
    )
    frame = segment(0xC0, bytes([8, 0, 1, 0, width, 1, 1, 0x11, 0]))
    scan = segment(0xDA, bytes([1, 1, 0, 0, 63, 0])) + b"\x3f"
    return b"\xff\xd8" + tables + frame + scan * scans + b"\xff\xd9"


def jpeg_pixel(payload: bytes, **fields: Any) -> bytes:
    """Return a file of one pixel, grey, of family jpeg."""
    known = {"flags": 1, "family": b"\x03", "digest": bytes(8), "quality": 0}
    head = header(width=b"\x01", height=b"\x01", **(known | fields))
    return head + chunk(b"TILE", payload)


def jpeg_attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of files of family jpeg; their payloads hold the JPEG file as it is, mode 0."""
    plain = b"\x00" + jpeg_file(1)
    with_icc = jpeg_pixel(plain)
    with_icc = (
        with_icc[: -len(chunk(b"TILE", plain))] + chunk(b"iCCP", b"\0x") + chunk(b"TILE", plain)
    )
    corrupt = {
        "jpeg_digest": jpeg_pixel(plain, digest=DIGEST),
        "jpeg_quality": jpeg_pixel(plain, quality=60),
        "jpeg_tiled": jpeg_pixel(plain, flags=3, grid=b"\x40\x00"),
        "jpeg_icc": with_icc,
        "jpeg_layers": jpeg_pixel(b"\x00" + plain, flags=5, grid=b"\x01\x01"),
        "jpeg_width": jpeg_pixel(b"\x00" + jpeg_file(2)),
        "jpeg_not_grey": jpeg_pixel(plain, flags=0),
        "jpeg_no_frame": jpeg_pixel(b"\x00\xff\xd8\xff\xd9"),
        "jpeg_scans": jpeg_pixel(b"\x00" + jpeg_file(1, 257)),
        "jpeg_mode_4": jpeg_pixel(b"\x04" + plain[1:]),
    }
    files = {name: ("CorruptPayloadError", data) for name, data in corrupt.items()}
    return files | {"jpeg_empty": ("TruncatedError", jpeg_pixel(b""))}


def dct_pixel(payload: bytes, flags: int = 0) -> bytes:
    """Return a file of one pixel, made with the shipped weights of model dct."""
    digest = hashlib.sha256(weights_of("dct")).digest()[:8]
    return one_pixel(payload, flags=flags, family=b"\x02", digest=digest, quality=60)


def dct_attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of files of family dct, by name."""
    corrupt = {
        "dct_transform_1": dct_pixel(b"\x02\x00"),
        "dct_transform_3": dct_pixel(b"\x06\x00"),
        "dct_bit_6": dct_pixel(b"\x40\x00"),
        "dct_grey_turned": dct_pixel(b"\x20" + bytes(4), flags=1),
        "dct_grey_subsampled": dct_pixel(b"\x01\x00", flags=1),
        "dct_left_over": dct_pixel(b"\x00" + b"\x55" * 64),
        "dct_offsets_left_over": dct_pixel(b"\x08" + b"\x55" * 64),
    }
    files = {name: ("CorruptPayloadError", data) for name, data in corrupt.items()}
    truncated = {"dct_empty": b"", "dct_no_bins": b"\x00", "dct_no_turn": b"\x20\x00\x00"}
    return files | {name: ("TruncatedError", dct_pixel(data)) for name, data in truncated.items()}


def tokens_file(chunks: list[bytes], layers: int = 1, ranges: int = 1, **fields: Any) -> bytes:
    """Return a file of 64x16 pixels, four tokens a stage, quality 1, made with the shipped weights of model fsq-s."""
    known = {"flags": 4, "family": b"\x05", "quality": 0, "grid": bytes([layers, ranges])}
    known |= {
        "width": b"\x40",
        "height": b"\x10",
        "digest": hashlib.sha256(weights_of("fsq-s")).digest()[:8],
    }
    payloads = [varint(number) + payload for number, payload in enumerate(chunks)]
    return header(**(known | fields)) + b"".join(chunk(b"TILE", data) for data in payloads)


def tokens_payload() -> bytes:
    """Return a payload of stage 0."""
    data = weights_of("fsq-s")
    stage = reference_tokenizer.STAGES["fsq"][:1]
    coder = reference_tokenizer.Tokens(stage, read_tensors(data, "tokenizer")[0])
    return coder.encode(np.array([[[0, 1023, 500, 77]]]), 0, 3, 0, 1)


def tokens_attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of files of family tokenizer; `tokens_file([tokens_payload()])` is sound."""
    good = tokens_payload()
    corrupt = {
        "tokens_left_over": tokens_file([good + b"\0"]),
        "tokens_layers": tokens_file([good, good], layers=2),
        "tokens_range_not_empty": tokens_file([b"\0", good], ranges=2),
        "tokens_unlayered": tokens_file([good], flags=0, grid=b""),
    }
    files = {name: ("CorruptPayloadError", data) for name, data in corrupt.items()}
    truncated = {
        "tokens_empty": tokens_file([b""]),
        "tokens_cut": tokens_file([good[:2]]),
    }
    return files | {name: ("TruncatedError", data) for name, data in truncated.items()}


def masked_attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of files of one pixel of family masked, by name."""
    if not (data := weights_of("masked-s")):
        return {}
    model = reference_masked.Model(data)
    rows = list(model.rows(60, model.zeros(1, 1), [0] * model.config["M"]))

    def pixel(payload: bytes, **fields: Any) -> bytes:
        known = {"family": b"\x06", "digest": model.digest, "quality": 60}
        return one_pixel(payload, **(known | fields))

    def with_last(r: int, **how: int) -> bytes:
        return reference_rans.encode([0] * (len(rows) - 1) + [r], rows, model.table, **how)

    good = with_last(0)
    corrupt = {
        "masked_left_over": pixel(good + b"\0"),
        "masked_initial_state": pixel(good[:1] + b"\xff\xff\0\0" + good[5:]),
        "masked_lanes_6": pixel(b"\6" + good[1:]),
        "masked_chunks_2": pixel(with_last(0, chunks=2)),
        "masked_r_32768": pixel(with_last(32768)),
        "masked_r_minus_32768": pixel(with_last(-32768)),
        "masked_r_2_31": pixel(with_last(2**31 - 1)),
        "masked_second_way": pixel(good, flags=8),
        "masked_layers": pixel(b"\0" + good, flags=4, grid=b"\x01\x01"),
    }
    attacks = {name: ("CorruptPayloadError", data) for name, data in corrupt.items()}
    truncated = {"masked_empty": b"", "masked_cut": good[:4]}
    return attacks | {name: ("TruncatedError", pixel(data)) for name, data in truncated.items()}


def ftic_attacks() -> dict[str, tuple[str, bytes]]:
    """Return error class and bytes of files of one pixel of family ftic, by name."""
    if not (data := weights_of("ftic-s")):
        return {}
    model = reference_ftic.Model(data)
    z = np.zeros((1, 1, model.config["Z"]), np.int64)
    index = model.index(z, 60, 1, 1).flatten()
    rows = index[index >= model.skip_below].tolist()

    def pixel(payload: bytes, **fields: Any) -> bytes:
        known = {"family": b"\x07", "digest": model.digest, "quality": 60}
        return one_pixel(payload, **(known | fields))

    def first_with(value: int) -> bytes:
        tables, offset = model.tables["tables.z"], model.at("neighbours.offset", 60)
        section: bytes = model.neighbours.encode(z + value, tables, offset)
        return varint(len(section)) + section

    def last_with(r: int) -> bytes:
        symbols = [0] * (len(rows) - 1) + [r]
        return reference_rans.encode(symbols, rows, model.tables["tables.r"])

    first, last = first_with(0), last_with(0)
    corrupt = {
        "ftic_left_over": pixel(first + last + b"\0"),
        "ftic_r_32768": pixel(first + last_with(32768)),
        "ftic_z_128": pixel(first_with(128) + last),
        "ftic_second_way": pixel(first + last, flags=8),
        "ftic_layers": pixel(b"\0" + first + last, flags=4, grid=b"\x01\x01"),
    }
    attacks = {name: ("CorruptPayloadError", data) for name, data in corrupt.items()}
    truncated = {"ftic_empty": b"", "ftic_no_y": first, "ftic_cut": first + last[:4]}
    return attacks | {name: ("TruncatedError", pixel(data)) for name, data in truncated.items()}


def every_attack() -> dict[str, tuple[str, bytes]]:
    """Return all files by name; all but those of `attacks` need a decoder to be refused."""
    return (
        attacks()
        | coded_attacks()
        | dct_attacks()
        | jpeg_attacks()
        | tokens_attacks()
        | masked_attacks()
        | ftic_attacks()
    )


if __name__ == "__main__":
    for name, (_, data) in every_attack().items():
        (HERE / f"{name}.nc").write_bytes(data)
    expected = {f"{name}.nc": error for name, (error, _) in every_attack().items()}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
