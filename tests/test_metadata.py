"""Metadata: packed to few bytes and restored; colour, density and orientation from and to every format."""

import hashlib
import io
import re
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageCms, ImageOps

from ncodec import container
from ncodec.container import Container, Header, Limits
from ncodec.entropy import crc32c
from ncodec.errors import CorruptPayloadError, LimitError
from ncodec.image import Picture
from ncodec.metadata import colour, exif, icc, packing, pictures, profiles

PIXELS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3
GREY = PIXELS[:, :, 0].copy()


def block(order="<", **tags):
    """Return an EXIF block of SHORTs by tag: _112=6."""
    entries = [
        struct.pack(f"{order}HHIHH", int(tag[1:], 16), 3, 1, value, 0)
        for tag, value in sorted(tags.items())
    ]
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return exif.PREFIX + head + b"".join(entries) + bytes(4)


def read(data):
    """Return the metadata of a file, and notices."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return pictures.of_image(image, data)


def saved(picture, form, **options):
    """Return a picture as a file of a format, and notices."""
    fit, notices = pictures.fitted(picture, form)
    stream = io.BytesIO()
    Image.fromarray(fit.pixels).save(stream, form, **pictures.options_for(fit, form), **options)
    return stream.getvalue(), notices


def png_with(*chunks, image=PIXELS):
    """Return a PNG file with chunks ahead of its pixels."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    data = stream.getvalue()
    extra = [
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    ]
    return data[:33] + b"".join(extra) + data[33:]


# Packing.


def test_known_profiles():
    """What is made is, to the byte, what files in the wild hold: the digests are of these."""
    text = (ROOT / "specs" / "format.md").read_text()
    table = re.findall(r"^\| (\d+) \| [^|]+ \| (\d+) \| `(\w{16})` \|$", text, re.M)
    made = [
        (str(n), str(len(p)), hashlib.sha256(p).hexdigest()[:16])
        for n, p in enumerate(profiles.known())
    ]
    assert made == table


def test_dictionaries_are_those_of_the_specification():
    text = (ROOT / "specs" / "format.md").read_text()
    for kind, chunk in (("icc", "iCCP"), ("exif", "eXIF"), ("xmp", "xMPm")):
        made = packing.dictionary(kind)
        length, digest = re.search(rf"\| {chunk} \| ([\d ]+) \| `(\w+)`", text).groups()
        assert (len(made), hashlib.sha256(made).hexdigest()) == (
            int(length.replace(" ", "")),
            digest,
        )


def test_packed_is_small_and_comes_back():
    """Bytes at most: a number for a known profile; what differs in little costs little; the rest one byte more."""
    hp = profiles.known()[-1]
    today = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    packet = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 5.5.0">\n'
        ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n  <rdf:Description rdf:about=""\n'
        '    xmlns:xmp="http://ns.adobe.com/xap/1.0/"\n   xmp:Rating="3"/>\n </rdf:RDF>\n</x:xmpmeta>\n'
        + (" " * 100 + "\n") * 20
        + '<?xpacket end="w"?>'
    ).encode()
    noise = np.random.default_rng(0).bytes(400)
    for kind, value, most in [
        *(("icc", profile, 2) for profile in profiles.known()),
        ("icc", hp[:67] + b"\2" + hp[68:], 50),
        ("icc", today, 40),
        ("xmp", packet, 100),
        ("exif", block(_112=6, _128=2), 25),
        ("exif", block(">", _112=6, _128=2), 25),
        *((kind, noise, 401) for kind in ("icc", "exif", "xmp")),
        ("cicp", b"\x09\x10\0\1", 4),
    ]:
        packed = packing.packed(kind, value)
        assert packing.unpacked(kind, packed, "", len(value)) == value and len(packed) <= most


@pytest.mark.parametrize(
    "kind, payload, words",
    [
        ("icc", b"", "form"),
        ("icc", b"\3", "form"),
        ("xmp", b"\2\0", "form"),
        ("icc", b"\2", "number"),
        ("icc", bytes([2, 200]), "number"),
        ("icc", b"\2\0\0", "number"),
        ("exif", b"\1\xff", "invalid"),
        ("exif", packing.packed("exif", bytes(99))[:-1], "ends early"),
        ("exif", packing.packed("exif", bytes(99)) + b"\0", "left over"),
        ("cicp", b"\1\2\3", "4 bytes"),
        ("phys", b"\1\2\3", "9 bytes"),
    ],
)
def test_corrupt_metadata(kind, payload, words):
    """Refused by whole files' readers; left out where damage is forgiven."""
    assert packing.packed("exif", bytes(99))[0] == packing.DEFLATED
    with pytest.raises(CorruptPayloadError, match=f"here: .*{words}"):
        packing.unpacked(kind, payload, "here", 1 << 24)
    header = Header(3, 2, 4, bytes(8), 60)
    data = container.write(Container(header, [[[b"abc"]]], {"xmp": b"<x/>"}))
    name = container.METADATA[kind]
    bad = name + bytes([len(payload)]) + payload
    bad += crc32c(payload, crc32c(name)).to_bytes(4, "little")
    start = data.index(b"xMPm") if kind != "xmp" else data.index(b"TILE")
    data = data[: data.index(b"xMPm")] + bad + data[start:]
    with pytest.raises(CorruptPayloadError, match=name.decode()):
        container.read(data)
    left = container.read(data, conceal=True)
    assert left.metadata == (
        {} if kind == "xmp" else {"xmp": b"<x/>"}
    ) and left.skipped_bytes == len(bad)


def test_bomb():
    """No more than the limit is allocated of metadata that would unpack to 16 MB."""
    payload = packing.packed("xmp", bytes(1 << 24))
    assert len(payload) < 1 << 15
    tracemalloc.start()
    with pytest.raises(LimitError, match="unpacks to more than 100000 bytes"):
        packing.unpacked("xmp", payload, "here", 100_000)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_files_hold_packed_metadata():
    kept = {
        "icc": profiles.known()[-1],
        "exif": block(_112=6),
        "xmp": b"<x/>",
        "cicp": b"\x09\x10\0\1",
        "phys": bytes(8) + b"\1",
    }
    data = container.write(Container(Header(3, 2, 4, bytes(8), 60), [[[b"abc"]]], kept))
    parsed = container.read(data)
    assert parsed.metadata == kept and parsed.packed_bytes["icc"] == 2
    with pytest.raises(LimitError, match="iCCP"):
        container.read(data, Limits(metadata_bytes=1000))


# Colour.


XY_SRGB = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
XY_P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)


@pytest.mark.parametrize(
    "chunks, kept, name",
    [
        ([(b"gAMA", 45455)], [], ""),
        ([(b"gAMA", 45455), (b"cHRM", XY_SRGB)], [], ""),
        ([(b"gAMA", 100000)], ["icc"], "gAMA"),
        ([(b"gAMA", 45455), (b"cHRM", XY_P3)], ["icc"], "cHRM"),
        ([(b"gAMA", 100000), (b"cHRM", XY_P3)], ["icc"], "gAMA, cHRM"),
        ([(b"sRGB", b"\0"), (b"gAMA", 100000)], [], ""),
        ([(b"gAMA", 1)], [], "make no sense"),
        ([(b"cHRM", (0,) * 8)], [], "make no sense"),
        ([(b"cICP", b"\1\x0d\0\1"), (b"gAMA", 100000)], [], ""),
        ([(b"cICP", b"\x0c\x0d\0\1"), (b"gAMA", 100000)], ["cicp"], ""),
        ([(b"cICP", b"\2\2\0\1"), (b"gAMA", 100000)], ["icc"], "gAMA"),
        ([(b"cICP", b"\1\x0d\0\1"), (b"iCCP", b"x\0\0" + zlib.compress(profiles.known()[-1]))], ["cicp", "icc"], ""),
    ],
)  # fmt: skip
def test_colour_of_png(chunks, kept, name):
    """cICP before iCCP before sRGB before gAMA and cHRM; of sRGB nothing is kept."""
    packed = [(k, struct.pack(f">{len(c)}I", *c) if isinstance(c, tuple) else c) for k, c in
              ((k, (c,) if isinstance(c, int) else c) for k, c in chunks)]  # fmt: skip
    found, notices = read(png_with(*packed))
    assert sorted(found) == kept and name in "".join(notices)


def test_made_profiles_mean_what_was_said():
    """Little CMS makes of them what their curves and primaries say, for colour and grey."""
    srgb = ImageCms.createProfile("sRGB")
    linear, _ = read(png_with((b"gAMA", struct.pack(">I", 100000))))
    grey, _ = read(png_with((b"gAMA", struct.pack(">I", 100000)), image=GREY))
    ramp = np.arange(256, dtype=np.uint8)[None]
    light = ramp / 255
    expected = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    for profile, image in ((linear["icc"], np.dstack([ramp] * 3)), (grey["icc"], ramp)):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(
            Image.fromarray(image), source, srgb, outputMode="RGB", flags=ImageCms.Flags.NOOPTIMIZE
        )
        assert abs(np.asarray(shown)[0, :, 1] - expected[0]).max() <= 1.5
    assert colour.is_srgb(icc.of_primaries("x", icc.PRIMARIES[1], icc.transfer_curve(13)))
    made = icc.of_cicp(b"\x0c\x0d\0\1", False)
    assert not colour.is_srgb(made) and b"cicp" in made
    columns = [made[made.index(b"XYZ ", 400) :][20 * i + 8 : 20 * i + 20] for i in range(3)]
    apple = [struct.pack(">3i", *column) for column in profiles.P3_XYZ]
    assert columns == apple


@pytest.mark.parametrize("transfer", [1, 4, 7, 8, 13, 16, 17, 18])
def test_transfer_functions(transfer):
    """Curves rise from black to white; what they were taken from is not measured again here."""
    curve = icc.transfer_curve(transfer)
    assert curve is not None and icc.of_cicp(bytes([9, transfer, 0, 1]), False)
    if curve[:4] == b"curv":
        values = np.frombuffer(curve[12:], ">u2").astype(int)
        assert values[0] == 0 and values[-1] >= 65534 and (np.diff(values) >= 0).all()
    # PQ: 10 bits 520 are 100 cd/m² of 10 000 (ITU-R BT.2100); HLG: half the signal is 1/12 of the light
    middle = {16: (520 / 1023, 100 / 10000), 18: (0.5, 1 / 12)}
    if transfer in middle:
        at, light = middle[transfer]
        assert abs(values[round(at * 4095)] / 65535 - light) < 0.02 * light


def test_colour_of_other_files():
    """AVIF's nclx counts without a profile, or if it is HDR; TIFF's chromaticities, EXIF's Adobe RGB make profiles."""
    for profile, points, kept in (
        (None, (1, 13), []),
        (None, (12, 13), ["cicp"]),
        (None, (2, 2), []),
        (profiles.known()[14], (1, 13), ["icc"]),
        (profiles.known()[14], (12, 16), ["cicp", "icc"]),
    ):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).save(stream, "AVIF", icc_profile=profile)
        data = stream.getvalue()
        at = data.index(b"nclx") + 4
        found, _ = read(data[:at] + struct.pack(">HH", *points) + data[at + 4 :])
        assert sorted(found) == kept and found.get("cicp", bytes([*points, 0, 1])) == bytes(
            [*points, 0, 1]
        )
    tags = Image.Exif()
    tags[318], tags[319] = (0.3127, 0.329), (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "TIFF", tiffinfo=tags)
    found, notices = read(stream.getvalue())
    assert list(found) == ["icc"] and "PrimaryChromaticities" in notices[0]
    for interop, kept in (("R03", ["exif", "icc"]), ("R98", ["exif"])):
        tags = Image.Exif()
        tags[exif.EXIF] = {0xA001: 0xFFFF, exif.INTEROP: {1: interop}}
        stream = io.BytesIO()
        Image.fromarray(PIXELS).save(stream, "JPEG", exif=tags.tobytes())
        assert sorted(read(stream.getvalue())[0]) == kept


# Density, orientation, and what is left out.


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_formats_hold_metadata(form):
    """All comes back, cICP by way of a profile where it has to, but no density where a format has no such thing."""
    kept = {
        "icc": profiles.known()[14],
        "exif": block(">", _112=6),
        "xmp": b"<x/>",
        "phys": struct.pack(">IIB", 11811, 2835, 1),
    }
    data, notices = saved(Picture(PIXELS, kept), form)
    found, more = read(data)
    assert not notices and not more
    if form in ("WEBP", "AVIF"):
        del kept["phys"]
    if form == "TIFF":  # Pillow turns it as it loads it
        del kept["exif"]
    assert found == kept
    data, _ = saved(Picture(PIXELS, {"cicp": b"\x0c\x0d\0\1"}), form)
    assert read(data)[0] == {"cicp": b"\x0c\x0d\0\1"}
    with Image.open(io.BytesIO(data)) as image:
        made = None if form == "PNG" else icc.of_cicp(b"\x0c\x0d\0\1", False)
        assert image.info.get("icc_profile") == made


@pytest.mark.parametrize("form", ["BMP", "PPM", "GIF", "JPEG2000"])
def test_formats_without_exif_are_turned(form):
    picture = Picture(PIXELS, {"icc": profiles.known()[14], "exif": block(_112=6)})
    fit, notices = pictures.fitted(picture, form)
    assert (fit.pixels == np.rot90(PIXELS, 3)).all() and set(pictures.options_for(fit, form)) <= {
        "dpi"
    }
    assert "colour space" in notices[0] and "EXIF" in notices[1]


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_turned_as_pillow_turns(value, order):
    image = Image.fromarray(PIXELS)
    image.getexif()[exif.ORIENTATION] = value
    expected = np.asarray(ImageOps.exif_transpose(image))
    phys = struct.pack(">IIB", 1, 2, 1)
    for kept in (
        {"exif": block(order, _112=value)},
        {"xmp": b'<x tiff:Orientation="%d"/>' % value},
    ):
        turned = pictures.turned(Picture(PIXELS, {**kept, "phys": phys}, alpha=GREY))
        assert (turned.pixels == expected).all() and turned.alpha.shape == expected.shape[:2]
        assert pictures.orientation(turned.metadata) == 1
        assert turned.metadata["phys"] == (phys if value < 5 else struct.pack(">IIB", 2, 1, 1))


def test_stripped():
    """What changes the look stays: another colour space, and the pixels are turned."""
    kept = {"exif": block(_112=6), "xmp": b"<x/>", "phys": bytes(9)}
    for colours, left in (
        ({"icc": profiles.known()[-1]}, []),
        ({"icc": profiles.known()[14]}, ["icc"]),
        ({"icc": b"damaged"}, ["icc"]),
        ({"cicp": b"\x0c\x0d\0\1"}, ["cicp"]),
        ({"cicp": b"\1\x0d\0\1", "icc": profiles.known()[14]}, []),
    ):
        bare = pictures.stripped(Picture(PIXELS, {**kept, **colours}))
        assert list(bare.metadata) == left and bare.pixels.shape == (4, 6, 3)


def test_density_that_exif_has_is_not_kept_twice():
    tags = Image.Exif()
    tags[exif.X_RESOLUTION] = tags[exif.Y_RESOLUTION] = 300.0
    tags[exif.RESOLUTION_UNIT] = 2
    for dpi, kept in ((300, ["exif"]), (72, ["exif", "phys"])):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).save(stream, "JPEG", exif=tags.tobytes(), dpi=(dpi, dpi))
        found, _ = read(stream.getvalue())
        assert sorted(found) == kept
        with Image.open(io.BytesIO(saved(Picture(PIXELS, found), "PNG")[0])) as image:
            assert round(image.info["dpi"][0]) == dpi


def test_pillow_is_told():
    """An image that is decoded has its colour and density in `info`, and comes back as it was."""
    kept = {"cicp": b"\x0c\x0d\0\1", "xmp": b"<x/>", "phys": struct.pack(">IIB", 11811, 2835, 1)}
    image = Image.fromarray(PIXELS)
    image.info |= pictures.info_of(Picture(PIXELS, kept))
    assert image.info["dpi"] == (300, 72)
    assert image.info["icc_profile"] == icc.of_cicp(kept["cicp"], False)
    assert pictures.of_image(image) == (kept, [])


def test_what_is_left_out_is_said():
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "JPEG", comment=b"hello")
    data = stream.getvalue()
    for payload in (b"\xff\xeb\0\4ab", b"\xff\xed\0\x1cPhotoshop 3.0\x008BIM\4\4\0\0\0\0\0\0"):
        data = data[:2] + payload + data[2:]
    assert read(data)[1] == ["comment, Photoshop and IPTC data, APP11: left out"]
    found, notices = read(
        png_with(
            (b"tEXt", b"a\0b"), (b"tEXt", b"c\0d"), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>")
        )
    )
    assert found == {"xmp": b"<x/>"} and notices == ["2 text chunks: left out"]


def test_exif_that_a_format_cannot_hold():
    """Tags of the wrong type are dropped, the others stay; of what is no EXIF, BigTIFF's too, nothing is left."""
    bad = (
        exif.PREFIX
        + b"MM\0*\0\0\0\x08\0\2"
        + struct.pack(">HHII", 0x11A, 2, 4, 0x61626300)
        + struct.pack(">HHIHH", 0xA402, 3, 1, 1, 0)
    )
    data, notices = saved(Picture(PIXELS, {"exif": bad + bytes(4)}), "TIFF")
    assert notices == ["EXIF: tag 0x011a cannot be written as TIFF, left out"]
    assert exif.entries(read(data)[0]["exif"])[0xA402].value == 1
    for block_ in (b"Exif\0\0II+\0\x08\0\0\0" + bytes(8), b"Exif\0\0MM"):
        assert saved(Picture(PIXELS, {"exif": block_}), "TIFF")[1] == ["EXIF: damaged, left out"]
    assert "too many for JPEG" in saved(Picture(PIXELS, {"xmp": bytes(70000)}), "JPEG")[1][0]


def test_tags_of_a_tiff():
    """A TIFF's own tags become EXIF of the classic kind, without those of its layout; BigTIFF's, too."""
    tags = Image.Exif()
    tags[0x10E] = "hello"
    for options in ({}, {"big_tiff": True}):
        stream = io.BytesIO()
        Image.fromarray(PIXELS).save(stream, "TIFF", exif=tags, dpi=(300, 300), **options)
        found, notices = read(stream.getvalue())
        assert set(exif.entries(found["exif"])) == {0x10E} and not notices
        assert found["phys"] == struct.pack(">IIB", 11811, 11811, 1)
