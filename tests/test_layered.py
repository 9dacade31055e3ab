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
from ncodec import codec, container, families, tiles
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
    both = [ncodec.decode(data, "numpy") for data in (top, bottom)]
    assert np.array_equal(ncodec.decode(tiled, "numpy"), np.concatenate(both))


# ---- prefixes


@pytest.mark.parametrize("tile", [0, 64])
def test_prefix(pixels, tile):
    """A file cut after N layers decodes to what the whole file does with N stages, whatever follows."""
    data = encode(pixels, tile=tile)
    head, coded = pieces(data)
    step = len(coded) // 3
    for stages in (1, 2, 3):
        first = ncodec.decode(data, "numpy", stages=stages)
        if not tile:
            assert np.array_equal(first, expected(data, stages=stages))
        prefix = head + b"".join(coded[: stages * step])
        for rest in (b"", b"TI", b"anything", coded[0])[: 4 if stages < 3 else 1]:
            assert np.array_equal(ncodec.decode(prefix + rest, "numpy", stages=stages), first)
        with pytest.raises(TruncatedError, match=HINT):
            ncodec.decode(prefix[:-1], stages=stages)
        if stages < 3:
            with pytest.raises(TruncatedError, match=rf"chunk {stages * step} \(have .*; {HINT}"):
                ncodec.decode(prefix)
            assert not np.array_equal(first, ncodec.decode(data, "numpy"))
    assert np.array_equal(ncodec.decode(data, "numpy", stages=64), ncodec.decode(data, "numpy"))
    with pytest.raises(CorruptPayloadError, match="end: 1 bytes after the last tile"):
        ncodec.decode(data + b"\0", stages=3)


@pytest.mark.parametrize("stages", [0, -1, 1.5, "2", True])
def test_wrong_stages(pixels, stages):
    with pytest.raises(InputError, match="stages: expected an integer of at least 1"):
        ncodec.decode(encode(pixels), stages=stages)


def test_stages_of_an_unlayered_family(crop):
    with pytest.raises(
        InputError, match="in layers, of family tokenizer, planes, found one of family dct"
    ):
        ncodec.decode(ncodec.encode(crop, 4, "dct"), stages=1)


# ---- damage


@pytest.mark.parametrize("tile", [0, 64])
def test_truncated_anywhere(pixels, tile):
    data = encode(Image.fromarray(pixels), tile=tile)
    head, coded = pieces(data)
    ends = np.cumsum([len(head), *map(len, coded)])
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            ncodec.decode(data[:length])
        whole = int((ends[1:] <= length).sum())
        if whole == 0:
            with pytest.raises(TruncatedError):
                ncodec.decode(data[:length], conceal=True)
            continue
        found, lost, skipped = left_of(data[:length])
        assert (lost, skipped) == (len(coded) - whole, length - ends[whole])
        if not tile:
            assert np.array_equal(found, expected(data, range(whole, len(coded))))


def test_flipped_anywhere(pixels):
    """One payload is lost, whichever byte of its chunk it is; metadata are left out; the header is an error."""
    image = Image.fromarray(pixels)
    image.info["xmp"] = b"<x/>"
    data = encode(image)
    head, coded = pieces(data)
    metadata = head.index(b"xMPm")
    ends = np.cumsum([len(head), *map(len, coded)])
    original = ncodec.decode(data, "numpy")
    for place in range(len(data)):
        for flip in (1, 2, 0x20, 0x80, 0xFF):
            damaged = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
            with pytest.raises(NcodecError):
                ncodec.decode(damaged)
            if place < metadata:
                with pytest.raises(NcodecError):
                    ncodec.decode(damaged, conceal=True)
            elif place < len(head):
                picture = codec.decode_picture(damaged, conceal=True)
                assert (picture.lost, picture.skipped_bytes) == (0, len(head) - metadata)
                assert not picture.metadata and np.array_equal(picture.pixels, original)
            else:
                number = int((ends <= place).sum()) - 1
                found, lost, skipped = left_of(damaged)
                assert (lost, skipped) == (1, len(coded[number]))
                assert np.array_equal(found, expected(data, [number]))


def test_missing_chunks(pixels):
    data = encode(pixels)
    head, coded = pieces(data)
    for missing in ([0], [8], [3, 4], [0, 1, 2, 5], range(8), range(1, 9), [2, 4, 6]):
        rest = head + b"".join(c for i, c in enumerate(coded) if i not in missing)
        found, lost, skipped = left_of(rest)
        assert (lost, skipped) == (len(missing), 0)
        assert np.array_equal(found, expected(data, missing))
        with pytest.raises(FormatError):
            ncodec.decode(rest)
    for nothing in (head, head + b"anything", head + coded[0][:-1]):
        with pytest.raises(FormatError):
            ncodec.decode(nothing, conceal=True)


def test_chunks_out_of_order(pixels):
    data = encode(pixels)
    head, coded = pieces(data)
    twice = head + b"".join(coded[:4] + coded[3:])
    with pytest.raises(CorruptPayloadError, match="chunk 4 'TILE': expected number 4, found 3"):
        ncodec.decode(twice)
    found, lost, skipped = left_of(twice)
    assert (lost, skipped) == (0, len(coded[3])) and np.array_equal(found, expected(data))
    forged = chunk(b"TILE", b"\x03" + coded[4][6:-4])  # of the first two of one number, the first
    assert left_of(head + b"".join(coded[:4]) + forged + b"".join(coded[4:]))[1:] == (
        0,
        len(forged),
    )
    backwards = head + b"".join(coded[::-1])
    with pytest.raises(CorruptPayloadError, match="chunk 0 'TILE': expected number 0, found 8"):
        ncodec.decode(backwards)
    found, lost, skipped = left_of(backwards)
    assert (lost, skipped) == (0, 0) and np.array_equal(found, expected(data))


@pytest.mark.parametrize("number", [b"", b"\x80", b"\x09", b"\x83\x00", varint(2**35 - 1)])
def test_wrong_numbers(pixels, number):
    data = encode(pixels)
    head, coded = pieces(data)
    wrong = chunk(b"TILE", number)
    damaged = head + b"".join(coded[:3]) + wrong + b"".join(coded[4:])
    with pytest.raises(FormatError, match="chunk 3 'TILE'"):
        ncodec.decode(damaged)
    found, lost, skipped = left_of(damaged)
    assert (lost, skipped) == (1, len(wrong)) and np.array_equal(found, expected(data, [3]))


def test_other_chunks_while_concealing(pixels):
    data = encode(pixels)
    head, coded = pieces(data)
    tiles, other = b"".join(coded), chunk(b"abCD", b"x")
    xmp, icc = chunk(b"xMPm", b"\0<x/>"), chunk(b"iCCP", b"\0i")
    original = expected(data)
    bad = xmp.replace(b"<x/>", b"<y/>")
    for metadata, known, n_skipped in (
        (other + xmp, {"xmp": b"<x/>"}, 0),
        (xmp + chunk(b"xMPm", b"again"), {"xmp": b"<x/>"}, 14),
        (bad + icc, {"icc": b"i"}, len(bad)),
        (b"junk" + icc, {"icc": b"i"}, 4),
        (b"iCCP" + varint(2**24 + 1) + xmp, {"xmp": b"<x/>"}, 8),  # beyond the limit: damage
    ):
        picture = codec.decode_picture(head + metadata + tiles, conceal=True)
        assert (picture.metadata, picture.lost, picture.skipped_bytes) == (known, 0, n_skipped)
        assert np.array_equal(picture.pixels, original)
    between = head + coded[0] + xmp + b"junk" + b"".join(coded[1:]) + b"more"
    assert left_of(between)[1:] == (0, len(xmp) + 8)
    with pytest.raises(NcodecError, match="unknown critical chunk"):
        ncodec.decode(head + chunk(b"ABCD", b"x") + tiles, conceal=True)
    with pytest.raises(LimitError, match="chunks: more than 9"):
        ncodec.decode(head + other + tiles, conceal=True, limits=Limits(chunks=9))


def test_stages_of_a_damaged_file(pixels):
    """What is lost beyond the stages that are asked for is not counted."""
    data = encode(pixels)
    head, coded = pieces(data)
    damaged = head + b"".join(coded[:2] + coded[3:7])
    assert left_of(damaged, stages=1)[1:] == (1, 0)
    assert left_of(damaged)[1:] == (3, 0)
    found, lost, _ = left_of(damaged, stages=2)
    assert lost == 1 and np.array_equal(found, expected(data, [2], stages=2))
    with pytest.raises(FormatError):  # of the first layer nothing is left
        ncodec.decode(head + b"".join(coded[3:]), stages=1, conceal=True)


def test_tiles_of_which_nothing_is_left(pixels):
    data = encode(pixels, tile=64)
    head, coded = pieces(data)
    upper = [c for i, c in enumerate(coded) if i // 3 % 2 == 0]
    found, lost, skipped = left_of(head + b"".join(upper))
    assert (lost, skipped) == (9, 0) and (found[64:] == 128).all()
    assert np.array_equal(found[:64], ncodec.decode(data, "numpy")[:64])


def test_a_codec_conceals_by_itself(pixels, monkeypatch):
    """Even with one layer and one range."""
    monkeypatch.setattr(tiles, "LOST", 1)
    data = encode(pixels, 1, 1, tile=64)
    head, coded = pieces(data)
    found, lost, skipped = left_of(head + coded[0])
    assert (lost, skipped) == (1, 0) and (found[64:] == 128).all()


def test_damage_in_many_places(pixels):
    """Damage that does not end in an error is counted, and so is all that is lost."""
    data = encode(pixels, tile=64)
    head, coded = pieces(data)
    original, rng = ncodec.decode(data, "numpy"), np.random.default_rng(0)
    n_decoded = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 9)):
            place, kind = int(rng.integers(len(head), len(damaged))), rng.integers(4)
            if kind == 0:
                damaged[place] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                del damaged[place : place + int(rng.integers(1, 40))]
            elif kind == 2:
                damaged[place:place] = rng.bytes(int(rng.integers(1, 9)))
            else:
                damaged[place:place] = b"TILE" + varint(int(rng.integers(0, 200)))
            if len(damaged) < len(head) + 9:
                break
        try:
            found, lost, skipped = left_of(bytes(damaged))
        except FormatError:
            continue
        n_decoded += 1
        assert found.shape == original.shape and lost <= len(coded)
        assert lost or np.array_equal(found, original)
        assert lost or skipped or damaged == data
        (kept,) = {len(container.read(bytes(damaged), conceal=True).payloads)}
        assert kept == len(coded)
    assert n_decoded > 250


@settings(database=None, derandomize=True, deadline=None)
@given(st.binary(max_size=80))
def test_noise(noise):
    data = encode(np.zeros((40, 40), np.uint8))
    head, coded = pieces(data)
    parsed = container.read(head + coded[0] + noise, conceal=True)
    assert parsed.payloads.count(None) == parsed.lost == 8 and parsed.skipped_bytes == len(noise)


def false_marks(kind):
    """A megabyte that looks like chunks and is none."""
    if kind == "long":  # each claims half of the rest
        return b"".join(b"TILE" + varint((1 << 19) - 4 * i) for i in range(1 << 17))
    if kind == "short":
        return b"TILE" * (1 << 18)
    return (b"iCCP" + varint(1 << 18)) * (1 << 17)


@pytest.mark.parametrize("kind", ["long", "short", "metadata"])
def test_false_marks_take_linear_time(pixels, kind, monkeypatch):
    head, coded = pieces(encode(pixels))
    data = head + coded[0] + false_marks(kind) + b"".join(coded[1:])
    work, checksum = [], chunks.crc32c

    def counted(data, crc=0):
        work.append(len(data))
        return checksum(data, crc)

    monkeypatch.setattr(chunks, "crc32c", counted)
    parsed = container.read(data, conceal=True)
    assert parsed.payloads[0] is not None
    assert sum(work) <= (chunks.MOST_VAIN + 2) * len(data) and len(work) <= 2 * (1 << 15) + 99


def test_false_marks_are_passed(pixels):
    """As many as there may be chunks."""
    data = encode(pixels)
    head, coded = pieces(data)
    found, lost, skipped = left_of(head + coded[0] + b"TILE" * 30_000 + b"".join(coded[1:]))
    assert (lost, skipped) == (0, 120_000) and np.array_equal(found, expected(data))


def test_limits_of_layers(pixels):
    with pytest.raises(
        LimitError, match="header: 7 layers of 2 tiles of 4096 ranges, chunks are limited to 32768"
    ):
        encode(pixels, 8, 4096, tile=64)
    data = encode(pixels)
    with pytest.raises(
        LimitError, match="3 layers of 1 tiles of 3 ranges, chunks are limited to 8"
    ):
        ncodec.decode(data, limits=Limits(chunks=8), conceal=True, stages=1)
    assert ncodec.decode(data, limits=Limits(chunks=9)).size == (50, 70)


def test_overhead_of_layers(pixels):
    """2 bytes of the header, and of each payload its number and its chunk."""
    data = encode(pixels)
    payloads = container.read(data).payloads
    assert len(data) - sum(map(len, payloads)) == 27 - 2 + 2 + 9 * (9 + 1)


# ---- unlayered families


@pytest.mark.parametrize("model", ["dct", "hyperprior-s"])
def test_unlayered_tiles(sample, model):
    image = sample[:128, :192]
    data = ncodec.encode(image, 2, model, tile=64)
    original = ncodec.decode(data, "numpy")
    head, coded = pieces(data)
    overlap = container.peek_header(data).overlap
    for number in (0, 3, 5):
        damaged = [
            *coded[:number],
            coded[number][:-1] + bytes([coded[number][-1] ^ 1]),
            *coded[number + 1 :],
        ]
        with pytest.raises(ChecksumError):
            ncodec.decode(head + b"".join(damaged))
        found, lost, skipped = left_of(head + b"".join(damaged))
        assert (lost, skipped) == (1, len(coded[number]))
        top, left = 64 * (number // 3), 64 * (number % 3)
        inner = np.s_[top + overlap : top + 64, left + overlap : left + 64]
        assert (found[inner] == 128).all()
        far = np.ones(image.shape[:2], bool)
        far[top : top + 64 + overlap, left : left + 64 + overlap] = False
        assert np.array_equal(found[far], original[far])
    cut = head + b"".join(coded[:4]) + coded[4][:-5]
    with pytest.raises(TruncatedError) as caught:
        ncodec.decode(cut)
    assert HINT not in str(caught.value)
    found, lost, skipped = left_of(cut)
    assert (lost, skipped) == (2, len(coded[4]) - 5)
    assert np.array_equal(found[:64, :96], original[:64, :96])
    for broken in (
        b"x" + coded[2][1:],
        coded[2][4:],
    ):  # its length is not to be trusted: the rest is lost
        assert left_of(head + b"".join([*coded[:2], broken, *coded[3:]]))[1] == 4
    two = coded[2] + coded[3]
    k = len(varint(len(two) - 9))
    one = b"TILE" + varint(len(two) - 8 - k) + two[4 + k :]  # the length takes both for one
    assert len(one) == len(two) and left_of(head + b"".join([*coded[:2], one, *coded[4:]]))[1] == 4
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
    with pytest.raises(
        InputError, match="found one of family jpeg, which is decoded whole: leave stages"
    ):
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
    assert "decode --conceal (conceal=True) or --stages 1 shows what is there" in done.err
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
