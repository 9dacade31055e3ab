"""JPEG files restored byte for byte, smaller; damaged ones and damaged payloads refused. specs/jpeg.md, J1 to J22."""

import io
import random
import zlib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from ncodec import jpeg
from ncodec.bytestream import varint
from ncodec.errors import (
    CorruptPayloadError,
    InputError,
    LimitError,
    NcodecError,
    TruncatedError,
)
from ncodec.jpeg import DEFLATED, MODELLED, RAW, SEVERAL, _jpeg
from ncodec.jpeg.dictionary import dictionary

PICTURE = Image.open(ROOT / "kodak_eval" / "kodim23.png").convert("RGB")
SIZES = [(1, 1), (8, 8), (7, 9), (16, 16), (17, 33), (33, 17), (64, 1), (1, 64), (97, 83)]


def make(size=(97, 83), mode="RGB", **options):
    """Return a JPEG file of a part of the picture, with every kind of block."""
    left, top = 300, 200
    image = PICTURE.crop((left, top, left + size[0], top + size[1])).convert(mode)
    out = io.BytesIO()
    image.save(out, "JPEG", **({"quality": 85} | options))
    return out.getvalue()


def assert_restored(data, mode=None):
    payload = jpeg.compress(data)
    assert jpeg.restore(payload) == data
    assert len(payload) <= len(data) + 1
    if mode is not None:
        assert payload[0] == mode
    return payload


def split(payload):
    """Return the fields of a modelled payload: file size, skeleton, padding, coded."""
    reader = jpeg.ByteReader(payload)
    assert reader.take(1, "")[0] == MODELLED
    size, n_skeleton, n_padding, n_deflated = (reader.varint("") for _ in range(4))
    both = jpeg._inflate(reader.take(n_deflated, ""), n_skeleton + n_padding)
    return size, both[:n_skeleton], both[n_skeleton:], payload[reader.offset :]


def join(size, skeleton, padding, coded):
    deflated = jpeg._deflate(skeleton + padding)
    sizes = (size, len(skeleton), len(padding), len(deflated))
    return bytes([MODELLED]) + b"".join(map(varint, sizes)) + deflated + coded


def scans(data):
    """Return where each scan's bytes begin and end."""
    found, at = [], 2
    while data[at + 1] != 0xD9:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at] != 0xFF or data[at + 1] in (0, *range(0xD0, 0xD8)):
            raise AssertionError("not at a marker")
        if data[at + 1] == 0xDA:
            start = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            end = start
            while data[end] != 0xFF or data[end + 1] in (0, *range(0xD0, 0xD8)):
                end += 1
            found.append((start, end))
            at = end
    return found


def read_bits(data, start, end):
    plain = data[start:end].replace(b"\xff\x00", b"\xff")
    return "".join(f"{byte:08b}" for byte in plain)


# Round trips


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_sizes(size, subsampling, progressive):
    data = make(size, subsampling=subsampling, progressive=progressive)
    assert_restored(data, MODELLED)


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 98, 100])
@pytest.mark.parametrize("progressive", [False, True])
def test_qualities(quality, progressive):
    assert_restored(make(quality=quality, progressive=progressive), MODELLED)


@pytest.mark.parametrize("mode", ["L", "CMYK", "YCbCr"])
@pytest.mark.parametrize("progressive", [False, True])
def test_components(mode, progressive):
    data = make(mode=mode, progressive=progressive)
    assert_restored(data, MODELLED)
    found = jpeg.header(data)
    assert (found.width, found.height, found.kind) == (97, 83, "")
    assert found.n_components == {"L": 1, "CMYK": 4}.get(mode, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"optimize": True},
        {"progressive": True, "optimize": True},
        {"restart_marker_blocks": 1},
        {"restart_marker_blocks": 3, "progressive": True},
        {"restart_marker_rows": 1},
        {"restart_marker_rows": 1, "subsampling": 0, "optimize": True},
        {"comment": b"a comment", "dpi": (300, 300), "icc_profile": bytes(range(256)) * 40},
        {"exif": b"Exif\0\0" + bytes(500)},
    ],
    ids=lambda options: "-".join(options),
)
def test_options(options):
    assert_restored(make(**options), MODELLED)


# Sampling factors that Pillow does not write: each component's blocks are those of another file.
@pytest.mark.parametrize("factors", [0x12, 0x41, 0x14, 0x42])
def test_other_subsamplings(factors):
    h, v = factors >> 4, factors & 15
    data = make((16, 16), subsampling=0)
    frame = data.index(b"\xff\xc0")
    ((start, end),) = scans(data)
    # An MCU of h * v + 2 blocks, all without coefficients: DC category 0, end of block.
    luma, chroma = "00" + "1010", "00" + "00"
    width, height = 8 * h * 2, 8 * v * 3
    bits = (luma * (h * v) + chroma * 2) * 6
    bits += "1" * (-len(bits) % 8)
    scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    changed = bytearray(data[:start] + scan + data[end:])
    changed[frame + 5 : frame + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    changed[frame + 11] = factors
    payload = jpeg.compress(bytes(changed))
    assert jpeg.restore(payload) == bytes(changed)
    assert _jpeg.take_apart(bytes(changed), jpeg.MAX_BLOCKS) is not None


def test_scans_that_are_not_interleaved():
    # A baseline file with a scan for each component: cut from a progressive file, which has such AC scans.
    grey = make((24, 20), "L", subsampling=0)
    data = make((24, 20), subsampling=0)
    ((start, end),) = scans(grey)
    ((colour_start, _),) = scans(data)
    head = data[: colour_start - 14]
    scan = grey[start:end]
    parts = [bytes([0xFF, 0xDA, 0, 8, 1, component, 0, 0, 63, 0]) + scan for component in (1, 2, 3)]
    assert_restored(head + b"".join(parts) + b"\xff\xd9", MODELLED)


# What is around the scans


def test_bytes_after_the_end():
    assert_restored(make() + b"anything \xff\xd8\xff\xda" * 10, MODELLED)


def test_bytes_between_segments():
    """Junk before a marker, and bytes behind a scan that libjpeg skips: kept, and they cost next to nothing."""
    data = make(restart_marker_blocks=4)
    at = data.index(b"\xff\xc4")
    plain = len(jpeg.compress(data))
    for changed in (
        data[:at] + b"junk \xff\0" + data[at:],
        data[:-2] + bytes(5000) + b"\xff\xd9",
        data[:-2] + b"\xff\0" * 100 + b"\0\xff\xff\xd9",
    ):
        assert len(assert_restored(changed, MODELLED)) < plain + 40


def test_no_huffman_tables():
    """Frames of Motion JPEG leave out the tables of annex K."""
    data = make(optimize=False)
    start, end = data.index(b"\xff\xc4"), data.index(b"\xff\xda")
    assert_restored(data[:start] + data[end:], MODELLED)


def test_scans_are_counted():
    data = make(progressive=True, comment=b"\xff\xda" * 300)
    assert jpeg.count_scans(data) == 10


def test_several_pictures():
    """MPO, gain maps: a payload a picture, what is between them kept."""
    one, other = make(quality=90), make((40, 30), "L")
    gap = b"\0" * 30
    payload = assert_restored(one + gap + other + other, SEVERAL)
    parts = sum(len(jpeg.compress(data)) for data in (one, other, other))
    assert len(payload) < parts + 20
    for damaged in (payload[:-1], b"\3", b"\3" + payload[1:3], b"\3" + (varint(2) + b"\0a") * 17):
        with pytest.raises((CorruptPayloadError, TruncatedError)):
            jpeg.restore(damaged)
    with pytest.raises(LimitError):
        jpeg.restore(payload, len(one) + 40)
    assert_restored(one + other[:10], MODELLED)


def test_no_end_marker():
    assert_restored(make()[:-2], MODELLED)
    assert_restored(make()[:-1], MODELLED)


def test_fill_bytes():
    data = make()
    assert_restored(data.replace(b"\xff\xdb", b"\xff\xff\xff\xdb"), MODELLED)
    assert_restored(data[:-2] + b"\xff\xff\xff\xd9", MODELLED)


@pytest.mark.parametrize("quality, options", [(70, {}), (85, {"restart_marker_blocks": 2})])
def test_other_padding(quality, options):
    data = make((90, 83), quality=quality, **options)
    skeleton, padding, coded = _jpeg.take_apart(data, jpeg.MAX_BLOCKS)
    assert padding == b""  # all 1s
    ((start, end),) = scans(data)
    n = 1 + sum(data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7 for i in range(start, end))
    rng = random.Random(1)
    for padding in (bytes(n), bytes(rng.choice([0, 0xFF]) for _ in range(n)), rng.randbytes(n)):
        other = with_padding(skeleton, padding, coded, len(data))
        assert other != data
        payload = assert_restored(other, MODELLED)
        assert len(split(payload)[2]) == n


def with_padding(skeleton, padding, coded, about):
    """Return the file; where 1s no longer end in FF 00 it is a little smaller."""
    for size in range(about - 100, about + 100):
        try:
            return _jpeg.put_together(skeleton, padding, coded, size, jpeg.MAX_BLOCKS)
        except CorruptPayloadError:
            continue
    raise AssertionError("no size fits")


def test_missing_restart_marker_is_kept():
    data = make(restart_marker_blocks=2)
    at = data.index(b"\xff\xd3")
    assert_restored(data[:at] + data[at + 2 :])
    assert_restored(data[:at] + b"\xff\xd5" + data[at + 2 :], None)


@pytest.mark.parametrize(
    "marker, bits, kind",
    [
        (0xC3, 8, "lossless"), (0xC5, 8, "hierarchical"), (0xC9, 8, "arithmetic coding"),
        (0xCF, 12, "12 bits, hierarchical, lossless, arithmetic coding"), (0xC1, 12, "12 bits"),
    ],
)  # fmt: skip
def test_other_kinds_are_kept(marker, bits, kind):
    data = make().replace(b"\xff\xc0\x00\x11\x08", bytes([0xFF, marker, 0, 17, bits]))
    assert assert_restored(data)[0] in (RAW, DEFLATED)
    found = jpeg.header(data)
    assert (found.width, found.height, found.kind) == (97, 83, kind)


def test_choices_of_other_encoders_are_kept():
    # An end of block written as runs of 16 zeros: legal, but not what libjpeg writes.
    data = make((8, 8), "L", quality=50)
    ((start, end),) = scans(data)
    dc = "00"
    for tail in ("1010", "11111111001" * 3 + "1010"):
        bits = dc + tail
        bits += "1" * (-len(bits) % 8)
        scan = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
        changed = data[:start] + scan + data[end:]
        Image.open(io.BytesIO(changed)).load()
        is_ours = tail == "1010"
        assert (jpeg._model(changed, jpeg.MAX_BLOCKS) is not None) == is_ours
        assert_restored(changed)


# Damage


@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_files(progressive):
    data = make((40, 30), progressive=progressive, restart_marker_blocks=2)
    for size in range(2, len(data), 5):
        assert_restored(data[:size])


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x89PNG", b"\xd8\xff"])
def test_not_a_jpeg(data):
    with pytest.raises(InputError):
        jpeg.compress(data)
    with pytest.raises(InputError):
        jpeg.header(data)


def damage(data, rng):
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        kind, at = rng.randrange(4), rng.randrange(len(damaged))
        if kind == 0:
            damaged[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            damaged[at] = rng.randrange(256)
        elif kind == 2:
            del damaged[at : at + rng.randint(1, 3)]
        else:
            damaged[at:at] = rng.randbytes(rng.randint(1, 3))
    return bytes(damaged)


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_files_are_restored_as_they_are(progressive):
    rng = random.Random(5)
    files = [make((48, 40), progressive=progressive, restart_marker_blocks=n) for n in (0, 3)]
    for i in range(400):
        data = files[i % 2]
        damaged = damage(data[:700] if i % 4 == 0 else data, rng)
        try:
            payload = jpeg.compress(damaged)
        except InputError:
            assert not damaged.startswith(b"\xff\xd8")
            continue
        assert jpeg.restore(payload) == damaged


@pytest.mark.parametrize("progressive", [False, True])
def test_damaged_payloads_are_refused(progressive):
    rng = random.Random(6)
    payload = jpeg.compress(make((48, 40), progressive=progressive, restart_marker_blocks=3))
    size, skeleton, padding, coded = split(payload)
    refused = 0
    for i in range(600):
        if i % 3 == 0:
            damaged = damage(payload, rng)
        elif i % 3 == 1:
            damaged = join(size, damage(skeleton, rng), padding, coded)
        else:
            damaged = join(size, skeleton, padding, damage(coded, rng))
        try:
            jpeg.restore(damaged, 1 << 20, 1 << 12)
        except NcodecError:
            refused += 1
    assert refused > 500


def test_every_truncated_payload():
    payload = jpeg.compress(make((24, 24)))
    for size in range(len(payload)):
        with pytest.raises((TruncatedError, CorruptPayloadError)):
            jpeg.restore(payload[:size])


def test_bytes_left_over():
    payload = jpeg.compress(make((24, 24)))
    for extra in (b"\0", b"\xff", b"\0\0\0\0"):
        with pytest.raises(CorruptPayloadError):
            jpeg.restore(payload + extra)


# The payload, field by field (specs/jpeg.md, sections 2 and 3)


def test_modes():
    assert jpeg.restore(b"\x00anything") == b"anything"
    deflated = jpeg._deflate(b"anything")
    assert jpeg.restore(b"\x02" + varint(8) + deflated) == b"anything"
    with pytest.raises(CorruptPayloadError, match="mode 4, expected 0 to 3"):
        jpeg.restore(b"\x04")
    with pytest.raises(TruncatedError, match="mode"):
        jpeg.restore(b"")


def test_deflated_sizes():
    deflated = jpeg._deflate(b"anything")
    for size in (0, 7, 9):
        with pytest.raises(CorruptPayloadError, match=f"does not hold {size} bytes"):
            jpeg.restore(b"\x02" + varint(size) + deflated)
    with pytest.raises(CorruptPayloadError, match="does not hold"):
        jpeg.restore(b"\x02" + varint(8) + deflated + b"\0")
    with pytest.raises(CorruptPayloadError, match="damaged"):
        jpeg.restore(b"\x02" + varint(8) + b"\xff\xff\xff")


def test_size_of_the_file():
    size, *rest = split(jpeg.compress(make((24, 24))))
    for wrong in (size - 1, size + 1, size + 1000, size // 2):
        with pytest.raises(CorruptPayloadError):
            jpeg.restore(join(wrong, *rest))


def test_skeleton_larger_than_the_file():
    size, skeleton, padding, coded = split(jpeg.compress(make((24, 24))))
    with pytest.raises(CorruptPayloadError, match="larger than the file"):
        jpeg.restore(join(size, skeleton + bytes(size), padding, coded))


def test_padding_is_one_byte_an_interval():
    size, skeleton, padding, coded = split(jpeg.compress(make((24, 24))))
    assert padding == b""
    with pytest.raises(CorruptPayloadError, match="padding"):
        jpeg.restore(join(size, skeleton, b"\xff\xff", coded))
    assert jpeg.restore(join(size, skeleton, b"\xff", coded)) == make((24, 24))


def test_skeletons_without_scans():
    coded = split(jpeg.compress(make((24, 24))))[3]
    for skeleton in (b"", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"\x00\x01"):
        with pytest.raises(CorruptPayloadError):
            jpeg.restore(join(100, skeleton, b"", coded))


def test_coefficient_without_a_code():
    # Huffman tables of optimised files have the codes of that file alone.
    out = io.BytesIO()
    Image.new("RGB", (24, 24)).save(out, "JPEG", quality=85, optimize=True)
    size, skeleton, padding, _ = split(jpeg.compress(out.getvalue()))
    coded = split(jpeg.compress(make((24, 24), quality=85)))[3]
    with pytest.raises(CorruptPayloadError, match="no Huffman code"):
        jpeg.restore(join(size, skeleton, padding, coded))


def test_dictionary():
    assert zlib.crc32(dictionary()) == 0xD0CDBEA8  # part of the format
    for quality in (1, 37, 75, 100):
        skeleton = _jpeg.take_apart(make(quality=quality), jpeg.MAX_BLOCKS)[0]
        assert len(skeleton) > 600 and len(jpeg._deflate(skeleton)) < 40


# Limits


def test_limits():
    data = make((64, 64))
    payload = jpeg.compress(data)
    n_blocks = 64 + 2 * 16
    assert jpeg.restore(payload, len(data), n_blocks) == data
    with pytest.raises(LimitError, match="limited to"):
        jpeg.restore(payload, len(data) - 1)
    with pytest.raises(LimitError, match="more blocks"):
        jpeg.restore(payload, max_blocks=n_blocks - 1)
    assert jpeg.compress(data, max_blocks=n_blocks - 1)[0] in (RAW, DEFLATED)
    with pytest.raises(LimitError):
        jpeg.restore(bytes([RAW]) + data, len(data) - 1)
    with pytest.raises(LimitError):
        jpeg.restore(bytes([DEFLATED]) + varint(1 << 31))


def test_small_payload_of_a_large_image():
    # 65535 x 65535 pixels would be 25 GB of coefficients.
    size, skeleton, padding, coded = split(jpeg.compress(make((24, 24))))
    at = skeleton.index(b"\xff\xc0")
    large = skeleton[: at + 5] + b"\xff\xff\xff\xff" + skeleton[at + 9 :]
    with pytest.raises(LimitError):
        jpeg.restore(join(size, large, padding, coded))
    with pytest.raises(TruncatedError):
        jpeg.restore(join(size, large, padding, coded), max_blocks=1 << 40)
    data = make((24, 24))
    at = data.index(b"\xff\xc0")
    assert_restored(data[: at + 5] + b"\xff\xff\xff\xff" + data[at + 9 :])


def test_flat_image_fits_its_bound():
    # The least bits that a block can take are what decoders allocate by (J17).
    out = io.BytesIO()
    Image.new("L", (4096, 4096), 128).save(out, "JPEG", quality=50)
    payload = assert_restored(out.getvalue(), MODELLED)
    coded = split(payload)[3]
    n_blocks = 512 * 512
    assert n_blocks <= 438 * (len(coded) + 1) < 2 * n_blocks


# Size


def test_components_are_predicted():
    """Red, green and blue have most in common: 29 % are saved in JPEG XL, 34 % here, 22 % without prediction."""
    data = make((300, 200), quality=85, subsampling=0, keep_rgb=True)
    payload = assert_restored(data, MODELLED)
    assert len(payload) < 0.68 * len(data)


@pytest.mark.parametrize("quality, percent", [(50, 22), (75, 20), (90, 18), (95, 18)])
def test_savings(quality, percent):
    data = make((768 - 300, 512 - 200), quality=quality)
    payload = assert_restored(data, MODELLED)
    assert len(payload) < (1 - percent / 100) * len(data)


def test_noise_is_still_restored():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for quality in (1, 50, 100):
        out = io.BytesIO()
        Image.fromarray(noise).save(out, "JPEG", quality=quality, subsampling=0)
        assert_restored(out.getvalue(), MODELLED)


# The same bytes for ever: a payload made when the format was fixed, 32 x 32 pixels of the picture

PAYLOAD = bytes.fromhex(
    "01d405f1040019c39a5206cfbc0238e92930282025d0d1a437d4921e4a8203000769131498b07c2244ad5dd4"
    "1a804cc6e9bb6263857b0e853a8b05613524b6bec7d78eeb7bfae4481a440f259fefa723beacb5f8d001ba7d"
    "87684f32289afe45b582c1f7aa47cb08965a066597a4cddd4ed640e77ad571298e68d1dbb5d699f9f56506"
)


def test_payload_of_a_known_file():
    data = jpeg.restore(PAYLOAD)
    assert (len(data), zlib.crc32(data)) == (724, 0x324217FE)
    assert split(jpeg.compress(data)) == split(PAYLOAD)
