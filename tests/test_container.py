"""The `.nc` container, one test per numbered requirement of specs/format.md. No trained model needed."""

import ast
import json
import random
import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from attacks import make_attacks
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from small_hyperprior import small_weights

import ncodec
from ncodec import codec, container, errors, families, tiles
from ncodec.bytestream import ByteReader, varint
from ncodec.coder import Reader, Writer
from ncodec.coder.device import DeviceReader
from ncodec.container import Container, Header, Limits
from ncodec.entropy import FrequencyTables, crc32c, encode_symbols
from ncodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptPayloadError,
    FormatError,
    InputError,
    LimitError,
    NcodecError,
    TruncatedError,
    UnknownModelError,
    UnsupportedVersionError,
    WeightsMismatchError,
)
from ncodec.models import load
from ncodec.models.hyperprior import codec as hyperprior
from ncodec.quality import quality_code

SPEC = (ROOT / "specs" / "format.md").read_text()
ATTACKS = ROOT / "tests" / "attacks"
DIGEST = bytes.fromhex("0123456789abcdef")
HEADER = Header(3, 2, 4, DIGEST, 60)
# Section 6 of the specification, byte by byte.
SIGNATURE = bytes.fromhex("894e43310d0a1a0a")
FIELDS = bytes.fromhex("00 03 02 04 0123456789abcdef 3c")
HEADER_BYTES = SIGNATURE + FIELDS + bytes.fromhex("312e3500")
TILE = b"TILE" + b"\x03" + b"abc" + bytes.fromhex("63fd9d30")
FILE = HEADER_BYTES + TILE


def le32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def header_bytes(fields: bytes) -> bytes:
    """A header of these fields with a valid checksum."""
    return SIGNATURE + fields + le32(crc32c(SIGNATURE + fields))


def chunk(kind: bytes, payload: bytes) -> bytes:
    """A chunk with a valid checksum."""
    return kind + varint(len(payload)) + payload + le32(crc32c(kind + payload))


# ---- the specification itself


def requirements() -> dict[int, str]:
    bullets = re.findall(r"^- \*\*F(\d+)\*\* (.*?)(?=\n\n|\n- |\Z)", SPEC, re.M | re.S)
    return {int(number): text for number, text in bullets}


@cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / f"{file}.py").read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_requirement_names_tests():
    found = requirements()
    assert sorted(found) == list(range(1, len(found) + 1)) and len(found) >= 30
    for number, text in found.items():
        names = re.findall(r"(?:tests/(\w+)\.py::)?\b(test_\w+)\b(?!\.py)", text)
        assert "MUST" in text and names, f"F{number}"
        for file, name in names:
            assert name in functions_of(file or "test_container"), f"F{number}: {name}"


def test_nothing_is_required_without_a_number():
    numbered = sum(text.count("MUST") for text in requirements().values())
    assert SPEC.count("MUST") == numbered


def test_limits_table():
    rows = re.findall(r"^\| (\w+) \| ([\d 2^]+) \|", SPEC.split("## 5.")[1].split("## 6.")[0], re.M)
    table = {name: eval_power(text) for name, text in rows}
    assert table == vars(Limits())


def eval_power(text: str) -> int:
    base, _, exponent = text.replace(" ", "").partition("^")
    return int(base) ** int(exponent or 1)


# ---- varints


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0),
        ("03", 3),
        ("7f", 127),
        ("80 01", 128),
        ("80 06", 768),
        ("a0 9c 01", 20_000),
        ("ff ff ff ff 7f", 2**35 - 1),
    ],
)
def test_varint_bytes(data, value):
    assert varint(value) == bytes.fromhex(data)
    assert ByteReader(bytes.fromhex(data)).varint("x") == value


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("80 00", "x: varint at offset .* is not the shortest form"),
        ("83 80 00", "x: varint at offset .* is not the shortest form"),
        ("ff ff ff ff 80 01", "x: varint at offset 0 is longer than 5 bytes"),
    ],
)
def test_varint(data, message):
    with pytest.raises(CorruptPayloadError, match=message):
        ByteReader(bytes.fromhex(data)).varint("x")


def test_varint_cut():
    with pytest.raises(TruncatedError, match="x: need 1 bytes at offset 1, file has 0"):
        ByteReader(b"\x80").varint("x")


@settings(database=None, derandomize=True, deadline=None)
@given(st.integers(0, 2**35 - 1))
def test_varint_round_trip(value):
    source = ByteReader(varint(value) + b"rest")
    assert source.varint("x") == value and source.take(4, "rest") == b"rest"


def test_reader_is_bounded():
    source = ByteReader(b"abcd")
    assert source.take(3, "start") == b"abc"
    with pytest.raises(TruncatedError, match="place: need 2 bytes at offset 3, file has 1"):
        source.take(2, "place")


# ---- sections in steps

ROW = FrequencyTables(np.array([[8192, 8191, 1]], np.uint16))


def code_all(coder, steps, after):
    """A model's code method: three steps of a section, then a section, the same calls in both directions."""
    section = coder.code_steps("y", 9, ROW)
    y = []
    for step in range(3):
        indexes = np.zeros((1, 3), np.uint8)
        y.append(section.code(None if steps is None else steps[step], indexes))
    section.finish()
    return np.array(y), coder.code("after", after, np.zeros(2, np.uint16), ROW)


def test_steps_write_one_section():
    y, after = np.arange(9, dtype=np.int32).reshape(3, 1, 3) - 4, np.array([1, 2], np.int32)
    writer = Writer()
    code_all(writer, y, after)
    rows = np.zeros(9, np.uint16)
    assert writer.sections[0] == encode_symbols(y.reshape(-1), rows, ROW, chunks=1)
    payload = writer.payload()
    for read, wanted in zip(code_all(Reader(payload, 2), None, None), (y, after), strict=True):
        assert read.tolist() == wanted.tolist()


def test_steps_are_copied_and_keep_their_place():
    writer = Writer()
    steps = writer.code_steps("y", 4, ROW)
    y = np.zeros(2, np.int32)
    for value in (3, 4):
        y[:] = value
        steps.code(y, np.zeros(2, np.uint16))
    writer.code("after", np.zeros(1, np.int32), np.zeros(1, np.uint16), ROW)
    steps.finish()
    reader = Reader(writer.payload(), 2)
    assert reader.code("y", None, np.zeros(4, np.uint16), ROW).tolist() == [3, 3, 4, 4]
    assert reader.code("after", None, np.zeros(1, np.uint16), ROW).tolist() == [0]


def test_errors_of_steps_name_the_section():
    writer = Writer()
    code_all(writer, np.full((3, 1, 3), 5, np.int32), np.zeros(2, np.int32))
    y, after = writer.sections
    for damaged, error, message in [
        (y[:-2], TruncatedError, r"section 'y': symbol \d of 9: the payload ends"),
        (y[:5] + b"\0" + y[5:], CorruptPayloadError, "section 'y': bytes are left over"),
    ]:
        with pytest.raises(error, match=message):
            code_all(Reader(varint(len(damaged)) + damaged + after, 2), None, None)


# ---- signature and header


def test_example():
    assert container.write(Container(HEADER, [[[b"abc"]]])) == FILE
    assert container.read(FILE) == Container(HEADER, [[[b"abc"]]], {})
    block = SPEC.split("## 6.")[1].split("```")[1]
    rows = re.findall(r"^((?:[0-9A-F]{2} )+)  ", block, re.M)
    assert bytes.fromhex("".join(rows)) == FILE


def test_crc32c():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(b"") == 0
    assert crc32c(b"6789", crc32c(b"12345")) == 0xE3069283
    assert le32(crc32c(b"TILEabc")) == make_attacks.crc32c(b"TILEabc") == FILE[-4:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"\r\n", b"\n"),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b"\r\n", b"\r"),
        lambda data: data.replace(b"\x1a", b""),
        lambda data: bytes(byte & 0x7F for byte in data),
        lambda data: b"\x89PNG\r\n\x1a\n" + data[8:],
        lambda data: b"\xff\xd8",
        lambda data: b"\x00" * 100,
    ],
)
def test_signature(damage):
    assert FILE[:8] == b"\x89NC1\r\n\x1a\n" == SIGNATURE
    with pytest.raises(BadMagicError, match=r"signature: expected .* found .*: not an \.nc file"):
        container.read(damage(FILE))


@pytest.mark.parametrize("version", [b"0", b"2", b"\xff"])
def test_other_version(version):
    message = "signature: expected version 1, found '.': update ncodec"
    with pytest.raises(UnsupportedVersionError, match=message):
        container.read(FILE[:3] + version + FILE[4:])


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        (FIELDS, HEADER),
        (
            bytes.fromhex("01 03 02 04 0123456789abcdef 00"),
            replace(HEADER, quality_code=0, is_grey=True),
        ),
        (
            bytes.fromhex("02 03 02 8002 0123456789abcdef 8c c001 20"),
            replace(HEADER, family=256, quality_code=140, tile=192, overlap=32),
        ),
        (
            bytes.fromhex("03 8006 8004 04 0123456789abcdef 3c 8010 00"),
            replace(HEADER, width=768, height=512, is_grey=True, tile=2048),
        ),
    ],
)
def test_header_bytes(fields, header):
    data = header_bytes(fields) + TILE
    assert container.write(Container(header, [[[b"abc"]]] * header.n_tiles)) == data
    assert container.read(data).header == header


HEADERS = st.builds(
    Header,
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    family=st.integers(0, 2**35 - 1),
    weights_digest=st.binary(min_size=8, max_size=8),
    quality_code=st.integers(0, 140),
    is_grey=st.booleans(),
    tile=st.just(0) | st.integers(64, 2**35 - 1),
)


@settings(database=None, derandomize=True, deadline=None)
@given(
    HEADERS,
    st.integers(0, 64),
    st.dictionaries(st.sampled_from(["icc", "exif", "xmp"]), st.binary(min_size=1, max_size=20)),
    st.binary(max_size=200),
)
def test_round_trip(header, overlap, metadata, payload):
    header = replace(header, overlap=overlap if header.tile else 0)
    tiles = [[[payload[i:]]] for i in range(len(header.tile_boxes()))]
    original = Container(header, tiles, metadata)
    assert container.read(container.write(original)) == original


@pytest.mark.parametrize("flags", [32, 64, 128, 255])
def test_unknown_flags(flags):
    message = f"header: unknown flags {flags:#04x}: update ncodec"
    with pytest.raises(UnsupportedVersionError, match=message):
        container.read(header_bytes(bytes([flags]) + FIELDS[1:]) + TILE)


def test_header_checksum():
    assert HEADER_BYTES[-4:] == le32(crc32c(SIGNATURE + FIELDS)) == le32(0x00352E31)
    message = "header: CRC-32C is 0x00352e31, file says 0x00352e30"
    with pytest.raises(ChecksumError, match=message):
        container.read(SIGNATURE + FIELDS + bytes.fromhex("302e3500") + TILE)


@pytest.mark.parametrize(("sides", "found"), [("00 02", "0x2"), ("03 00", "3x0"), ("00 00", "0x0")])
def test_zero_side(sides, found):
    fields = b"\x00" + bytes.fromhex(sides) + FIELDS[3:]
    message = f"header: expected sides of at least 1 pixel, found {found}"
    with pytest.raises(CorruptPayloadError, match=message):
        container.read(header_bytes(fields) + TILE)


def test_quality_code():
    read = container.read(header_bytes(FIELDS[:-1] + b"\x8c") + TILE)
    assert read.header.quality == 8
    with pytest.raises(CorruptPayloadError, match="header: quality code 141 exceeds 140"):
        container.read(header_bytes(FIELDS[:-1] + b"\x8d") + TILE)


def test_quality_of_code():
    assert [quality_code(q) for q in (1, 1.05, 4, 4.024, 4.026, 8)] == [
        0,
        1,
        60,
        60,
        61,
        140,
    ]
    for quality in (0.99, 8.01, float("nan")):
        with pytest.raises(InputError, match=r"quality: expected 1 .* to 8 .*, found"):
            quality_code(quality)


def test_tile_fields():
    tiled = b"\x02" + FIELDS[1:]
    assert container.read(header_bytes(tiled + b"\x40\x40") + TILE).header.overlap == 64
    for grid, found in ((b"\x3f\x00", "63, 0"), (b"\x40\x41", "64, 65"), (b"\x00\x00", "0, 0")):
        message = f"header: expected tile >= 64 and overlap <= tile, found {found}"
        with pytest.raises(CorruptPayloadError, match=message):
            container.read(header_bytes(tiled + grid) + TILE)


def test_unknown_family():
    data = header_bytes(FIELDS.replace(b"\x04\x01\x23", b"\x63\x01\x23")) + TILE
    assert container.read(data).header.family == 99
    with pytest.raises(
        UnsupportedVersionError, match=r"header: model family 99 is unknown, expected 2 \(dct\)"
    ):
        ncodec.decode(data)


def test_other_weights(monkeypatch):
    with pytest.raises(UnknownModelError, match="0123456789abcdef"):
        ncodec.decode(FILE)
    other = SimpleNamespace(digest=bytes(8), family=families.family_by_id(4))
    monkeypatch.setattr(load, "load_file", lambda path, device: other)
    message = "made with weights 0123456789abcdef of family hyperprior, this is 0000000000000000"
    with pytest.raises(WeightsMismatchError, match=message):
        ncodec.decode(FILE, model=ncodec.list_models()[0].name)


# ---- chunks


def test_chunk_bytes():
    noise = random.Random(0).randbytes(199)
    long = Container(HEADER, [[[b"abc"]]], {"icc": noise})
    icc = b"iCCP" + b"\xc8\x01\x00" + noise + le32(crc32c(b"iCCP\x00" + noise))
    assert container.write(long) == HEADER_BYTES + icc + TILE
    assert container.read(HEADER_BYTES + icc + TILE) == long


@pytest.mark.parametrize("kind", [b"TIL3", b"TIL ", b"\x00ILE", b"TIL\xc4"])
def test_chunk_type(kind):
    with pytest.raises(CorruptPayloadError, match=r"chunk 0: type b.* is not 4 letters"):
        container.read(HEADER_BYTES + chunk(kind, b"abc"))


@pytest.mark.parametrize("kind", [b"TILE", b"iCCP", b"abCD"])
def test_chunk_checksum(kind):
    damaged = chunk(kind, b"abc").replace(b"abc", b"abd")
    message = f"chunk 0 '{kind.decode()}': CRC-32C is 0x[0-9a-f]{{8}}, file says 0x"
    with pytest.raises(ChecksumError, match=message):
        container.read(HEADER_BYTES + damaged + TILE)


@pytest.mark.parametrize("kind", [b"DEPT", b"Abcd", b"ICCP", b"Tile"])
def test_unknown_critical(kind):
    message = f"chunk 0 '{kind.decode()}': unknown critical chunk: update ncodec"
    with pytest.raises(UnsupportedVersionError, match=message):
        container.read(HEADER_BYTES + chunk(kind, b"") + TILE)


@pytest.mark.parametrize("kind", [b"dEPT", b"aBCD", b"iCCp", b"tILE"])
def test_unknown_ancillary(kind):
    data = (
        HEADER_BYTES
        + chunk(kind, b"whatever")
        + chunk(b"xMPm", b"\0<x/>")
        + chunk(kind, b"")
        + TILE
    )
    assert container.read(data) == Container(HEADER, [[[b"abc"]]], {"xmp": b"<x/>"})


FOUR = header_bytes(
    bytes.fromhex("02 8001 8001 04 0123456789abcdef 3c 40 00")
)  # 128x128, tiles of 64


def test_tile_chunks():
    tiles = [b"a", b"b", b"c", b"d"]
    chunks = [chunk(b"TILE", payload) for payload in tiles]
    assert container.read(FOUR + b"".join(chunks)).payloads == tiles
    message = r"chunk 3 \(have 3 of 4 tiles\): need 4 bytes at offset 59, file has 0"
    with pytest.raises(TruncatedError, match=message):
        container.read(FOUR + b"".join(chunks[:3]))
    with pytest.raises(CorruptPayloadError, match="end: 10 bytes after the last tile"):
        container.read(FOUR + b"".join(chunks) + chunks[0])


@pytest.mark.parametrize("kind", [b"iCCP", b"aBCD", b"ABCD"])
def test_chunk_after_tile(kind):
    between = FOUR + chunk(b"TILE", b"a") + chunk(kind, b"x") + chunk(b"TILE", b"b") * 3
    message = f"chunk 1 '{kind.decode()}': stands between or after TILE chunks"
    with pytest.raises(CorruptPayloadError, match=message):
        container.read(between)
    with pytest.raises(CorruptPayloadError, match="end: 10 bytes after the last tile"):
        container.read(FILE + chunk(kind, b"x"))


def test_trailing_bytes():
    with pytest.raises(CorruptPayloadError, match="end: 1 bytes after the last tile"):
        container.read(FILE + b"\x00")
    with pytest.raises(CorruptPayloadError, match="end: 37 bytes after the last tile"):
        container.read(FILE + FILE)


@pytest.mark.parametrize("kind", [b"iCCP", b"eXIF", b"xMPm", b"cICP"])
def test_metadata_twice(kind):
    data = HEADER_BYTES + chunk(kind, b"\0\0\0\0") + chunk(kind, b"") + TILE
    with pytest.raises(CorruptPayloadError, match=f"chunk 1 '{kind.decode()}': appears twice"):
        container.read(data)


def test_metadata_any_order():
    data = (
        HEADER_BYTES
        + chunk(b"xMPm", b"\0x")
        + chunk(b"iCCP", b"\0i")
        + chunk(b"eXIF", b"\0e")
        + TILE
    )
    assert container.read(data).metadata == {"icc": b"i", "exif": b"e", "xmp": b"x"}


def test_sections():
    assert Reader(b"\x02" + b"zz" + b"yyy", 2).sections == [b"zz", b"yyy"]
    assert Reader(b"\x00", 2).sections == [b"", b""]
    with pytest.raises(TruncatedError, match="section 0: need 97 bytes at offset 1, file has 2"):
        Reader(b"abc", 2)
    with pytest.raises(TruncatedError, match="section 0 length: need 1 bytes"):
        Reader(b"", 2)
    with pytest.raises(CorruptPayloadError, match=r"section 0 length: .* not the shortest form"):
        Reader(b"\x82\x00zzyyy", 2)


def test_damaged_section_is_named():
    tables = FrequencyTables.from_pmf([[0.5, 0.25, 0.25]])
    rows = np.zeros((1, 2, 2), np.int64)
    writer = Writer()
    writer.code("z", np.ones((1, 2, 2), np.int32), rows, tables)
    with pytest.raises(TruncatedError, match="section 'z': "):
        Reader(writer.payload()[:-1], 1).code("z", None, rows, tables)
    with pytest.raises(TruncatedError, match="section 'z': payload 1 of 2: "):
        files = [writer.payload(), writer.payload()[:-1]]
        DeviceReader(files, 1).code("z", None, torch.zeros(2, 1, 2, 2).long(), tables)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.int64])
def test_sections_of_any_shape(kind):
    """Symbols have the shape of their indexes, whose integers may be of any type, in any order in memory."""
    tables = FrequencyTables.from_pmf([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    rng = np.random.default_rng(0)
    shapes = [(2, 3, 4), (), (0, 5), (7,)]
    indexes = [rng.integers(0, 2, shape).astype(kind) for shape in shapes]
    indexes.append(np.broadcast_to(kind([[0], [1]]), (2, 30)))
    indexes.append(indexes[0].transpose(2, 0, 1))
    symbols = [np.int32(rng.integers(-3, 4, rows.shape) * (rows > 0)) for rows in indexes]
    writer = Writer()
    for k, (values, rows) in enumerate(zip(symbols, indexes, strict=True)):
        assert writer.code(f"{k}", values, rows, tables, 1) is values
    readers = Reader(writer.payload(), 6), DeviceReader([writer.payload()] * 2, 6)
    for k, (values, rows) in enumerate(zip(symbols, indexes, strict=True)):
        decoded = readers[0].code(f"{k}", None, rows, tables, 1)
        assert decoded.dtype == np.int32 and np.array_equal(decoded, values)
        pair = torch.from_numpy(np.stack([rows, rows]).astype(np.int64))
        assert readers[1].code(f"{k}", None, pair, tables, 1).tolist() == [values.tolist()] * 2


# ---- damage


def damaged_file() -> bytes:
    """Two tiles and a metadata chunk, with every kind of field."""
    header = replace(HEADER, width=100, tile=64, overlap=8)
    return container.write(Container(header, [[[b"abc"]], [[b"defgh"]]], {"exif": b"Exif"}))


def test_flipped_bits_and_bytes():
    """Every damaged byte is noticed; nothing but an NcodecError comes out."""
    data = damaged_file()
    for place in range(len(data)):
        for flip in [1 << bit for bit in range(8)] + [0xFF, 0x55]:
            damaged = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
            with pytest.raises(NcodecError):
                container.read(damaged)


def test_truncation():
    data = damaged_file()
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            container.read(data[:length])


def test_dropped_and_doubled_bytes():
    data = damaged_file()
    for place in range(len(data)):
        for middle in (b"", data[place : place + 1] * 2):
            damaged = data[:place] + middle + data[place + 1 :]
            if damaged != data:
                with pytest.raises(NcodecError):
                    container.read(damaged)


@settings(database=None, derandomize=True, deadline=None)
@given(st.binary(max_size=60))
def test_noise_after_a_good_header(noise):
    for start in (SIGNATURE, HEADER_BYTES, FOUR):
        with pytest.raises(NcodecError):
            container.read(start + noise)


EXPECTED = json.loads((ATTACKS / "expected.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_attacks(name):
    data = (ATTACKS / name).read_bytes()
    with pytest.raises(NcodecError) as caught:
        ncodec.decode(data)
    assert caught.type is getattr(errors, EXPECTED[name])
    assert re.match(r"(signature|header|chunk|end|section|stage)\b.*: ?", str(caught.value))
    if name[:-3] not in make_attacks.attacks():
        assert container.read(data).header.width in (1, 64)  # the container is sound
    else:
        with pytest.raises(caught.type):
            ncodec.info(data)


@pytest.mark.parametrize("chunks", [1, 2, make_attacks.N_R])
def test_what_attacks_depart_from_decodes(chunks):
    assert ncodec.decode(make_attacks.control(chunks), "numpy").shape == (1, 1, 3)


def test_what_attacks_on_tokens_depart_from_decodes():
    data = make_attacks.tokens_file([make_attacks.tokens_payload()])
    assert ncodec.decode(data, "numpy").shape == (16, 64, 3)


def test_what_attacks_on_jpeg_depart_from_decodes():
    data = make_attacks.jpeg_pixel(b"\0" + make_attacks.jpeg_file(1))
    assert ncodec.decode(data, "numpy").tolist() == [[128]]
    assert ncodec.decode_jpeg(data) == make_attacks.jpeg_file(1)


def test_attacks_are_as_their_script_writes_them():
    written = {f"{name}.nc": attack for name, attack in make_attacks.every_attack().items()}
    assert {name: error for name, (error, _) in written.items()} == EXPECTED
    assert {path.name for path in ATTACKS.glob("*.nc")} == set(EXPECTED)
    readme = (ATTACKS / "README.md").read_text()
    for name, (_, data) in written.items():
        assert (ATTACKS / name).read_bytes() == data, name
        assert re.search(rf"[| ]{name[:-3]}[, ]", readme), name


# ---- limits


@pytest.mark.parametrize(
    ("header", "limits", "message"),
    [
        (replace(HEADER, width=65_536), Limits(), "65536x2, sides are limited to 65535"),
        (replace(HEADER, height=65_536), Limits(), "3x65536, sides are limited to 65535"),
        (replace(HEADER, width=16_385, height=18_400), Limits(), "pixels are limited to 300000000"),
        (HEADER, Limits(pixels=5), "header: 3x2, pixels are limited to 5"),
        (
            replace(HEADER, width=4097, height=16_384, tile=64),
            Limits(),
            "16640 tiles, limited to 16384",
        ),
        (replace(HEADER, width=65, tile=64), Limits(tiles=1), "header: 2 tiles, limited to 1"),
    ],
)
def test_write_keeps_limits(header, limits, message):
    with pytest.raises(LimitError, match=message):
        container.write(Container(header, []), limits)


def test_write_keeps_metadata_limit():
    with pytest.raises(LimitError, match="exif: 16777216 bytes, limited to 16777215"):
        container.write(Container(HEADER, [[[b""]]], {"exif": bytes(2**24)}))


def test_limits():
    with pytest.raises(LimitError, match="header: 3x2, sides are limited to 2"):
        container.read(FILE, Limits(side=2))
    with pytest.raises(LimitError, match="header: 3x2, pixels are limited to 5"):
        container.read(FILE, Limits(pixels=5))
    with pytest.raises(LimitError, match="header: 4 tiles, limited to 3"):
        container.read(FOUR, Limits(tiles=3))
    data = HEADER_BYTES + chunk(b"iCCP", b"\0001234") + chunk(b"aBCD", b"12345") + TILE
    with pytest.raises(LimitError, match="chunk 0 'iCCP': 5 bytes, limited to 4"):
        container.read(data, Limits(metadata_bytes=4))
    with pytest.raises(LimitError, match="chunk 0 'xMPm': 16777217 bytes, limited to 16777216"):
        container.read(HEADER_BYTES + b"xMPm" + varint(2**24 + 1))
    with pytest.raises(LimitError, match="chunks: more than 2"):
        container.read(data, Limits(chunks=2))
    for bad in ({"pixels": 1e6}, {"side": -1}, {"tiles": None}):
        with pytest.raises(InputError, match=f"Limits: {next(iter(bad))}: expected an integer"):
            Limits(**bad)
    with pytest.raises(InputError, match=r"limits: expected .*, found NoneType"):
        container.read(FILE, None)
    exact = Limits(side=3, pixels=6, tiles=1, metadata_bytes=5, chunks=3)
    assert container.read(data, exact).payloads == [b"abc"]
    assert not issubclass(LimitError, FormatError)


@pytest.mark.parametrize(
    ("header", "coded"),
    [
        (HEADER, 6),
        (replace(HEADER, width=300, height=200, tile=128), 300 * 200),
        (replace(HEADER, width=300, height=200, tile=128, overlap=32), 364 * 232),
        (replace(HEADER, width=128, height=64, tile=64, overlap=64), 192 * 64),
        (replace(HEADER, width=100, height=50, tile=512, overlap=9), 100 * 50),
    ],
)
def test_coded_pixels(header, coded):
    """What overlaps counts as often as it is coded."""
    boxes = [(b[2] - b[0]) * (b[3] - b[1]) for b in header.tile_boxes()]
    assert header.coded_pixels == sum(boxes) == coded
    assert header.largest_tile() == max(boxes) and header.n_tiles == len(boxes)
    container.check_limits(header, Limits(pixels=coded))
    with pytest.raises(LimitError, match=f"limited to {coded - 1}"):
        container.check_limits(header, Limits(pixels=coded - 1))


def test_memory():
    """The image, and what the family takes for the largest tile in whole strides; before anything is allocated."""
    header = replace(HEADER, width=300, height=200, tile=128, overlap=32)
    needed = (300 * 200 + 300 * 192) * 3 + 160 * 160 * 130  # the image, and a row of tiles
    container.check_memory(header, 16, 130, Limits(memory_bytes=needed))
    message = f"takes {needed} bytes of memory, limited to {needed - 1}"
    with pytest.raises(LimitError, match=message):
        container.check_memory(header, 16, 130, Limits(memory_bytes=needed - 1))
    needed = 6 * 3 + 256 * families.family_by_id(4).bytes_a_pixel  # 3x2 pixels are coded as 16x16
    with pytest.raises(LimitError, match=f"a tile of 256 coded pixels takes {needed} bytes"):
        ncodec.decode(FILE, limits=Limits(memory_bytes=needed - 1))
    with pytest.raises(UnknownModelError):  # the next check
        ncodec.decode(FILE, limits=Limits(memory_bytes=needed))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (header_bytes(bytes.fromhex("00 ffff03 ffff03") + FIELDS[3:]), LimitError),
        (header_bytes(b"\x00" + varint(2**35 - 1) * 2 + FIELDS[3:]), LimitError),
        (header_bytes(b"\x02" + varint(2**35 - 1) * 2 + FIELDS[3:] + b"\x40\x00"), LimitError),
        (HEADER_BYTES + b"TILE" + varint(2**35 - 1) + b"abc", TruncatedError),
        (HEADER_BYTES + b"iCCP" + varint(2**30) + b"abc", LimitError),
        (HEADER_BYTES + b"iCCP" + varint(2**24) + b"abc", TruncatedError),
        (HEADER_BYTES + b"aBCD" + varint(2**30) + b"abc", TruncatedError),
    ],
)
def test_limits_come_before_allocation(data, error):
    tracemalloc.start()
    try:
        with pytest.raises(error):
            container.read(data)
        assert tracemalloc.get_traced_memory()[1] < 2**18
    finally:
        tracemalloc.stop()


def test_overhead():
    z, y = b"z" * 600, b"y" * 19_398
    payload = b"\xd8\x04" + z + y
    assert len(payload) == 20_000 and Reader(payload, 2).sections == [z, y]
    data = container.write(Container(replace(HEADER, width=768, height=512), [[[payload]]]))
    assert len(data) - len(z) - len(y) == 40
    largest = replace(HEADER, width=16_383, height=1024, is_grey=True, quality_code=140)
    assert len(container.write(Container(largest, [[[bytes(2**21 - 1)]]]))) - (2**21 - 1) + 2 <= 40


# ---- pixels: a stand-in for a model, so that geometry and colour are tested to the bit


class Painted(hyperprior.HyperpriorCodec):
    """A codec whose tiles have one colour each, in turn, in 1/64 of an 8-bit step."""

    def __init__(self, paint: Callable[[int], tuple[float, ...]]) -> None:
        self.paint, self.sizes = paint, []

    def decode_latents(self, payload, quality_code, width, height):
        self.sizes.append((-(-height // 16), -(-width // 16)))
        return self.sizes[-1]

    def synthesise(self, latents, quality_code, is_rounded=True):
        colour = np.rint(64 * np.array(self.paint(len(self.sizes) - 1))).astype(np.int16)
        colour = (colour + 32) >> 6 if is_rounded else colour
        return np.broadcast_to(colour, (16 * latents[0], 16 * latents[1], 3))


@pytest.fixture
def paint(monkeypatch):
    """Return decode(header, paint) -> pixels, sizes of the latents."""

    def decode(header, function):
        painted = Painted(function)
        loaded = SimpleNamespace(codec=painted)
        monkeypatch.setattr(codec, "load_for", lambda header, model, device: loaded)
        data = container.write(Container(header, [[[b"\x00"]]] * len(header.tile_boxes())))
        return ncodec.decode(data, "numpy"), painted.sizes

    return decode


@pytest.mark.parametrize(
    ("colour", "grey"),
    [
        ((7, 7, 7), 7),
        ((7, 7, 8), 7),
        ((7, 8, 8), 8),
        ((255, 255, 255), 255),
        ((254, 255, 255), 255),
        ((0, 0, 1), 0),
    ],
)
def test_grey(paint, colour, grey):
    pixels, _ = paint(replace(HEADER, is_grey=True), lambda i: colour)
    assert pixels.shape == (2, 3) and (pixels == grey).all()
    pixels, _ = paint(HEADER, lambda i: colour)
    assert pixels.shape == (2, 3, 3) and pixels[0, 0].tolist() == [round(c) for c in colour]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(1, 1, (1, 1)), (16, 17, (2, 1)), (33, 15, (1, 3))]
)
def test_crop(paint, width, height, size):
    pixels, sizes = paint(replace(HEADER, width=width, height=height), lambda i: (1, 2, 3))
    assert pixels.shape == (height, width, 3) and sizes == [size]


def test_tile_boxes(paint):
    header = replace(HEADER, width=150, height=70, tile=64, overlap=8)
    assert header.tile_boxes() == [
        (0, 0, 72, 70),
        (64, 0, 136, 70),
        (128, 0, 150, 70),
        (0, 64, 72, 70),
        (64, 64, 136, 70),
        (128, 64, 150, 70),
    ]
    assert HEADER.tile_boxes() == [(0, 0, 3, 2)]
    assert replace(HEADER, tile=64, overlap=64).tile_boxes() == [(0, 0, 3, 2)]
    pixels, sizes = paint(replace(header, overlap=0), lambda i: (10.0 * i,) * 3)
    assert pixels[[0, 0, 0, 69, 69, 69], [0, 64, 149, 0, 127, 128], 0].tolist() == [
        0,
        10,
        20,
        30,
        40,
        50,
    ]
    assert sizes == [(4, 4), (4, 4), (4, 2), (1, 4), (1, 4), (1, 2)]


def test_fading(paint):
    """Equal to the formula of the specification, to the bit."""
    header = replace(HEADER, width=150, height=70, tile=64, overlap=8)
    colours = [0, 255, 40, 200, 90, 160]
    pixels, _ = paint(header, lambda i: (colours[i],) * 3)
    expected = [[0] * 150 for _ in range(70)]
    for (left, top, right, bottom), colour in zip(header.tile_boxes(), colours, strict=True):
        for i in range(top, bottom):
            for j in range(left, right):
                fade = (min(i - top + 0.5, 8) / 8 if top and i - top < 8 else 1) * (
                    (j - left + 0.5) / 8 if left and j - left < 8 else 1
                )
                expected[i][j] = round(expected[i][j] + (colour - expected[i][j]) * fade)
    assert np.abs(pixels[:, :, 0] - np.array(expected)).max() == 0
    assert pixels[0, 62:74, 0].tolist() == [0, 0, 16, 48, 80, 112, 143, 175, 207, 239, 255, 255]


def test_fading_of_fractions():
    """As torch.lerp in float32 has it, but for ties where that has no fused multiply-add."""
    rng = np.random.default_rng(0)
    area = rng.integers(0, 256, (200, 301, 3), np.uint8)
    tile = (255 * rng.random(area.shape)).astype(np.float32)
    ramp = (torch.arange(24) + 0.5) / 24
    fade = torch.ones(200, 301, 1)
    fade[:24] *= ramp[:, None, None]
    fade[:, :24] *= ramp[:, None]
    expected = torch.lerp(torch.from_numpy(area).float(), torch.from_numpy(tile), fade).round()
    tiles.fade(area, tile, 24, 24)
    difference = np.abs(area - expected.numpy())
    assert difference.max() <= 1 and difference.sum() <= 3


# ---- family hyperprior, with random weights of a small model


@pytest.fixture(scope="module")
def small() -> hyperprior.HyperpriorCodec:
    tensors, about = small_weights()
    return hyperprior.make_codec(tensors, about, "cpu")


def test_coding_order(small):
    """The sections hold [2, 2, Z], then [3, 4, M], flattened."""
    rng = np.random.default_rng(1)
    z = rng.integers(-3, 4, (2, 2, 4)).astype(np.int16)
    indexes = small.indexes(z, 67, (3, 4))
    r = (rng.integers(-3, 4, (3, 4, 8)) * (indexes >= 12)).astype(np.int16)
    writer = Writer()
    small.code(writer, hyperprior.Latents(z, indexes, r), (3, 4), 67)
    places = [(i, j, m) for i in range(3) for j in range(4) for m in range(8)]
    section_z = small.neighbours.encode(z, small.z_offset(67))  # position by position
    section_r = encode_symbols(
        np.int32([r[p] for p in places]),
        np.uint16([indexes[p] for p in places]),
        small.tables_r,
        12,
    )
    assert writer.payload() == varint(len(section_z)) + section_z + section_r
    back = small.decode_latents(writer.payload(), 67, width=50, height=48)
    for ours, theirs in zip(back, (z, indexes, r), strict=True):
        assert np.array_equal(ours, theirs) and ours.dtype == np.int16


@pytest.mark.parametrize("value", [32768, -32768, 2**31 - 1, -(2**31)])
def test_bound_of_r(small, value):
    z = np.zeros((1, 1, 4), np.int16)
    indexes = small.indexes(z, 60, (1, 1))
    coded = indexes >= small.skip_below
    assert coded.any()
    for edge, is_refused in ((np.sign(value) * 32767, False), (value, True)):
        writer = Writer()
        writer.code_grid("z", z, (1, 1), small.neighbours, small.z_offset(60))
        r = (coded * np.int64(edge)).astype(np.int32)
        writer.code("y", r, indexes, small.tables_r, small.skip_below)
        if is_refused:
            with pytest.raises(CorruptPayloadError, match=r"section 'y': expected \|r\| <= 32767"):
                small.decode_latents(writer.payload(), 60, 16, 16)
        else:
            assert np.array_equal(small.decode_latents(writer.payload(), 60, 16, 16).r, r)


@pytest.mark.parametrize("code", [0, 13, 60, 127, 140])
def test_scale_indexes(small, code):
    """In Python's unbounded integers."""
    rng = np.random.default_rng(code)
    z = rng.integers(-127, 128, (2, 3, 4)).astype(np.int16)

    def layer(name):
        return [
            small.tensors[f"h_s.{name}.{part}"].tolist() for part in ("weight", "bias", "shift")
        ]

    def rounded(total, shift):
        return min(max((total + 2 ** (shift - 1)) >> shift, -32767), 32767)

    weight, bias, shift = layer("hidden")
    a = {}
    for o in range(6):
        for i in range(2):
            for j in range(3):
                acc = bias[o]
                for u in range(3):
                    for v in range(3):
                        if 0 <= i + u - 1 < 2 and 0 <= j + v - 1 < 3:
                            here = z[i + u - 1, j + v - 1].tolist()
                            acc += sum(weight[o][4 * (3 * u + v) + k] * here[k] for k in range(4))
                a[o, i, j] = max(rounded(acc, shift[o]), 0)
    weight, bias, shift = layer("head")
    t = min(code // 20, 6)
    g = code - 20 * t
    offsets = small.tensors["index_offset"].tolist()
    indexes = small.indexes(z, code, (3, 5))
    for m in range(8):
        offset = (offsets[t][m] * (20 - g) + offsets[t + 1][m] * g) // 20
        for i in range(3):
            for j in range(5):
                o = (2 * (i % 2) + j % 2) * 8 + m
                acc = bias[o] + sum(weight[o][k] * a[k, i // 2, j // 2] for k in range(6))
                d = min(max(rounded(acc, shift[o]) + offset, -32767), 32767)
                assert indexes[i, j, m] == min(max((d + 128) >> 8, 0), 63)
    assert len(np.unique(indexes)) > 10


def test_skip_below(small):
    """Skipped latents take no bits and come back as 0."""
    z = np.zeros((2, 2, 4), np.int16)
    indexes = small.indexes(z, 60, (4, 4))
    assert small.skip_below == 12
    coded = indexes >= 12
    assert 0 < coded.sum() < coded.size
    writer = Writer()
    small.code(writer, hyperprior.Latents(z, indexes, coded.astype(np.int16)), (4, 4), 60)
    only = encode_symbols(np.ones(coded.sum(), np.int32), np.uint16(indexes[coded]), small.tables_r)
    assert writer.sections[1] == only
    assert np.array_equal(small.decode_latents(writer.payload(), 60, 64, 64).r, coded)


# ---- registry


def registry_rows() -> list[list[str]]:
    text = (ROOT / "specs" / "registry.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    assert rows[0] == ["name", "wire id", "module", "status"]
    return rows[2:]


def test_families_table():
    active = [row[:3] for row in registry_rows() if row[3].startswith("active")]
    assert active == [[f.name, str(f.wire_id), f.module] for f in families.FAMILIES]


def test_families_ids_are_unique():
    ids = [int(row[1]) for row in registry_rows()]
    assert ids == sorted(set(ids)) and ids[0] >= 1
    assert len({row[0] for row in registry_rows()}) == len(ids)


def test_families_modules_load():
    for family in families.FAMILIES:
        assert families.family_by_id(family.wire_id) is family
        assert hasattr(family.load(), "make_codec") == (family.holds == "tiles")
        assert hasattr(family.load(), "picture_of") == (family.holds == "file")
