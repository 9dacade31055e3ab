"""Layered files: prefixes, ranges, and what is left of damaged ones; by a toy family (planes_family.py)."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import planes_family
import pytest
from command import ncodec as run
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import ncodec
from ncodec import codec, container, families
from ncodec.bytestream import varint
from ncodec.container import SIGNATURE, Container, Header, Limits, chunks
from ncodec.entropy import crc32c
from ncodec.errors import (
    ChecksumError,
    CorruptPayloadError,
    FormatError,
    InputError,
    LimitError,
    NcodecError,
    TruncatedError,
)
from ncodec.models.protocol import TileFormat

HINT = "decode --conceal"  # of the message


def chunk(kind, payload):
    """A chunk with a valid checksum."""
    return kind + varint(len(payload)) + payload + crc32c(kind + payload).to_bytes(4, "little")


def header_bytes(fields):
    """A header of these fields with a valid checksum."""
    return SIGNATURE + fields + crc32c(SIGNATURE + fields).to_bytes(4, "little")


@pytest.fixture(autouse=True)
def planes(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, planes_family.FAMILY))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)


def encode(pixels, quality=2.4, ranges=3, **choices):
    """A file of 3 layers of 3 ranges, unless it is told otherwise."""
    return ncodec.encode(pixels, quality, "planes", ranges=ranges, **choices)


def pieces(data):
    """The header and metadata of a file, and its TILE chunks."""
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"TILE"]
    return data[: starts[0]], [data[a:b] for a, b in pairwise([*starts, len(data)])]


def expected(data, lost=(), stages=None):
    """The pixels of an untiled file without some of its payloads, by their numbers."""
    parsed = container.read(data)
    header = parsed.header
    kept = [None if i in lost else payload for i, payload in enumerate(parsed.payloads)]
    parts = [kept[i : i + header.ranges] for i in range(0, len(kept), header.ranges)][:stages]
    format = TileFormat(header.width, header.height, header.channels)
    return planes_family.PlanesCodec().decode_tiles([parts], header.quality_code, format)[0]


def left_of(data, **choices):
    """Pixels of a damaged file, how much is lost, and how many bytes were skipped."""
    picture = codec.decode_picture(data, conceal=True, **choices)
    return picture.pixels, picture.lost, picture.skipped_bytes


# ---- sound files


def test_layered_header(pixels):
    data = encode(pixels)
    start = bytes.fromhex("04 32 46 61 0000000000000000 1c 03 03")
    assert data.startswith(header_bytes(start))
    assert container.read(data).header == Header(
        50, 70, 97, bytes(8), 28, is_layered=True, layers=3, ranges=3
    )
    one = encode(pixels[:, :, 0], 1, 1, tile=64)  # one layer, one range: layered all the same
    assert one.startswith(
        header_bytes(bytes.fromhex("07 32 46 61 0000000000000000 00 40 00 01 01"))
    )
    assert container.peek_header(one).is_layered and container.read(one).header.n_payloads == 2
    most = replace(
        container.read(data).header, layers=64, ranges=300, tile=2**35 - 1, overlap=2**35 - 1
    )
    assert (
        len(container.header.header_bytes(replace(most, family=2**35 - 1))) <= container.MAX_HEADER
    )


@pytest.mark.parametrize(("layers", "ranges"), [(0, 1), (65, 1), (1, 0), (1, 4097)])
def test_layers_and_ranges(layers, ranges):
    fields = bytes.fromhex("04 03 02 61 0000000000000000 00") + varint(layers) + varint(ranges)
    message = f"header: expected 1 to 64 layers of 1 to 4096 ranges, found {layers}, {ranges}"
    with pytest.raises(CorruptPayloadError, match=message):
        container.read(header_bytes(fields) + chunk(b"TILE", b"\0"), conceal=True)
    fields = bytes.fromhex("04 03 02 61 0000000000000000 00") + varint(64) + varint(512)
    with pytest.raises(TruncatedError):
        container.read(header_bytes(fields))


def test_families_and_layers(pixels, crop):
    """The flag is that of the family."""
    for data, message in (
        (encode(pixels), "header: expected layers of family planes"),
        (ncodec.encode(crop, 4, "dct"), "header: expected no layers of family dct"),
    ):
        parsed = container.read(data)
        header = replace(parsed.header, is_layered=not parsed.header.is_layered, layers=1, ranges=1)
        other = container.write(Container(header, [[parsed.tiles[0][0][:1]]]))
        with pytest.raises(CorruptPayloadError, match=message):
            ncodec.decode(other)
    data = container.write(Container(Header(1, 1, 3, bytes(8), 0, is_layered=True), [[[b""]]]))
    with pytest.raises(
        CorruptPayloadError, match=r"header: expected no .*layers .* of family jpeg"
    ):
        ncodec.decode(data)


def test_order_and_numbers(pixels):
    """For each layer, for each tile, for each range; and the number first."""
    for tile, n_tiles in ((0, 1), (64, 2)):
        data = encode(pixels, tile=tile)
        parsed, (_, coded) = container.read(data), pieces(data)
        assert (len(parsed.tiles), parsed.lost, len(coded)) == (n_tiles, 0, 9 * n_tiles)
        numbered = [
            chunk(b"TILE", bytes([(layer * n_tiles + t) * 3 + i]) + parsed.tiles[t][layer][i])
            for layer in range(3)
            for t in range(n_tiles)
            for i in range(3)
        ]
        assert coded == numbered
        assert container.write(parsed) == data


def test_empty_ranges_and_info(pixels):
    data = encode(pixels, 7.3, 200)  # 5 rows of blocks, 7 layers
    parsed = container.read(data)
    assert [len(p) for p in parsed.payloads].count(0) == 7 * 195
    assert pieces(data)[1][-1][:7] == b"TILE\x04\xf7\x0a"  # number 1399 and two bytes
    assert np.array_equal(ncodec.decode(data, "numpy"), expected(data))
    about = ncodec.info(data)
    assert (about.family, about.tiles, about.layers, about.ranges) == ("planes", 1, 7, 200)
    assert ncodec.info(encode(pixels, 8, 1)).quality == 8


def test_round_trip(pixels):
    for image in (pixels, pixels[:, :, 1], pixels[:1, :1], pixels[:17]):
        data = encode(image)
        assert np.array_equal(ncodec.decode(data, "numpy"), expected(data))
        assert len(ncodec.decode_batch([data, encode(image, ranges=1)])) == 2
    tiled = encode(pixels, tile=64)
    top, bottom = (encode(part) for part in (pixels[:64], pixels[64:]))
    both, k = coded[2] + coded[3], len(varint(len(container.read(data).payloads[2])))
    both = (
        b"TILE" + varint(len(both) - 8 - k) + both[4 + k :]
    )  # a length that takes two chunks for one
    assert len(both) == len(coded[2] + coded[3])
    assert left_of(head + b"".join([*coded[:2], both, *coded[4:]]))[1] == 4
    for nothing in (head, head + coded[0][:-1], head + b"x"):
        with pytest.raises(FormatError):
            ncodec.decode(nothing, conceal=True)


def test_unlayered_without_tiles(crop):
    data = ncodec.encode(crop, 2)
    damaged = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ChecksumError, match="chunk 0 'TILE': CRC-32C is"):
        ncodec.decode(damaged, conceal=True)
    assert np.array_equal(ncodec.decode(data, "numpy", conceal=True), ncodec.decode(data, "numpy"))


def test_jpeg_files(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    data = ncodec.encode_jpeg((tmp_path / "a.jpg").read_bytes())
    assert ncodec.decode(data, conceal=True).size == (50, 70)
    with pytest.raises(ChecksumError):
        ncodec.decode(data[:-1] + bytes([data[-1] ^ 1]), conceal=True)
    with pytest.raises(InputError, match="stages: family jpeg has none"):
        ncodec.decode(data, stages=1)


# ---- what people see


def test_pillow_says_what_is_concealed(pixels):
    data = encode(pixels)
    assert "concealed" not in ncodec.decode(data, conceal=True).info
    image = ncodec.decode(data[:-1], conceal=True)
    assert image.info == {"concealed": 1, "skipped_bytes": len(pieces(data)[1][8]) - 1}
    assert ncodec.decode(data[:-1], "numpy", conceal=True).shape == (70, 50, 3)


def test_command_line(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    a, b = tmp_path / "a.nc", tmp_path / "b.png"
    run(
        "encode",
        tmp_path / "a.png",
        "--model",
        "planes",
        "--option",
        "ranges=3",
        "-q",
        "2.4",
        "-o",
        a,
    )
    data = a.read_bytes()
    assert data == encode(pixels)
    table = run("info", a).out
    assert re.search("layers +3\nranges +3\n", table)
    about = json.loads(run("info", a, "--json").out)
    assert (about["layers"], about["ranges"]) == (3, 3)

    run("decode", a, "--stages", 2, "-o", b)
    assert np.array_equal(np.asarray(Image.open(b)), expected(data, stages=2))
    done = run("decode", a, "--conceal", "-o", b)
    assert "damaged" not in done.out
    head, coded = pieces(data)
    a.write_bytes(head + b"".join(coded[:5]) + b"TI")
    done = run("decode", a, "-o", b, code=3)
    assert "decode --conceal (conceal=True), or fewer --stages, shows what is there" in done.err
    run("info", a, code=3)
    run("decode", a, "--stages", 1, "-o", b)
    done = run("decode", a, "--conceal", "-o", b)
    assert "; damaged: 4 lost and concealed, 2 bytes skipped\n" in done.out
    assert np.array_equal(np.asarray(Image.open(b)), expected(data, range(5, 9)))
    facts = json.loads(run("decode", a, "--conceal", "--json", "-o", b).out)
    assert (facts["lost"], facts["skipped_bytes"]) == (4, 2)
    assert "lost" not in json.loads(run("decode", a, "--stages", 1, "--json", "-o", b).out)
    run("decode", a, "--stages", 0, "-o", b, code=2)
    a.write_bytes(ncodec.encode(pixels, 4, "dct"))
    run("decode", a, "--stages", 1, "-o", b, code=6)
