"""What colour the pixels of a file are in: its ICC profile, its code points, or a profile made of what else it says.

PNG          cICP before iCCP before sRGB before gAMA and cHRM
AVIF, HEIF   ICC profile, else nclx; both where nclx says PQ or HLG
TIFF         ICC profile, else PrimaryChromaticities, WhitePoint, TransferFunction
others       ICC profile, else Adobe RGB where EXIF says so
"""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from ncodec.metadata import exif as exif_block
from ncodec.metadata import icc, profiles

SRGB = (1, 13)  # primaries and transfer function, by H.273
HDR = (16, 18)  # transfer functions: PQ, HLG
SRGB_GAMMA = 0.45455
ROUGHLY = 0.002  # in chromaticities, as files round them; of a gamma
UNKNOWN = 2  # in code points


def colour_of(image: Image.Image, exif: bytes, raw: bytes) -> tuple[dict[str, bytes], list[str]]:
    """Return what there is to be kept of "icc" and "cicp", nothing of sRGB without a profile; and notices.

    Args:
        image: as Pillow has loaded it.
        exif: block, b"" where there is none.
        raw: the bytes of its file, where they are known.
    """
    profile = image.info.get("icc_profile") or _jp2_profile(raw)
    points = image.info.get("cicp") or png_chunks(raw).get(b"cICP")
    nclx = _nclx(raw)
    if nclx is not None and (not profile or nclx[1] in HDR):
        points = nclx
    if points is not None and (len(points) != 4 or UNKNOWN in points[:2]):
        points = None
    said = points or icc.points_of(profile or b"")
    if said and profile in (icc.of_cicp(said, False), icc.of_cicp(said, True)):
        profile, points = None, said  # it was made of them, and says no more
    kept = {"icc": profile} if profile else {}
    if points is not None and (profile or tuple(points[:2]) != SRGB):
        kept["cicp"] = points
    if profile or points is not None:
        return kept, []
    try:
        what, made = _made(image, exif, raw)
    except (ArithmeticError, ValueError, TypeError, struct.error, np.linalg.LinAlgError):
        return {}, ["colour: chromaticities or a curve that make no sense are left out"]
    if made is None:
        return {}, []
    return {"icc": made}, [f"{what}: carried as an ICC profile"]


def _made(image: Image.Image, exif: bytes, raw: bytes) -> tuple[str, bytes | None]:
    """Return what says the colour, and the profile made of it; None if it is sRGB."""
    is_grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;")
    what, curve = list[str](), icc.transfer_curve(13)
    primaries: Any = icc.PRIMARIES[1]
    if image.format == "PNG" and "srgb" not in image.info and b"sRGB" not in png_chunks(raw):
        exponent, xy = image.info.get("gamma"), image.info.get("chromaticity")
        if exponent is not None and abs(exponent - SRGB_GAMMA) > ROUGHLY:
            if not 0.05 < exponent < 20:
                raise ValueError
            what, curve = ["gAMA"], icc.gamma(1 / exponent)
        if xy and not is_grey and not _are_srgb(xy):
            what, primaries = [*what, "cHRM"], _pairs(xy)
    elif image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        xy = (*tags.get(318, ()), *tags.get(319, ()))
        if len(xy) == 8 and not is_grey and not _are_srgb(xy):
            what, primaries, curve = (
                ["PrimaryChromaticities"],
                _pairs(xy),
                icc.gamma(2.2),
            )  # its default
        if table := tags.get(301, ()):
            values = _thinned(table[: len(table) // 3] if len(table) % 3 == 0 else table)
            light = [65535 * profiles.srgb(k / (len(values) - 1)) for k in range(len(values))]
            if max(abs(a - b) for a, b in zip(values, light, strict=True)) > 500:
                what, curve = [*what, "TransferFunction"], icc.sampled(values)
    elif _is_adobe_rgb(exif) and not is_grey:
        what, primaries, curve = ["Adobe RGB by EXIF"], icc.ADOBE_RGB, icc.gamma(563 / 256)
    if not what:
        return "", None
    name = ", ".join(what)
    assert curve is not None
    return name, icc.of_grey(name, curve) if is_grey else icc.of_primaries(name, primaries, curve)


def _are_srgb(xy: Any) -> bool:
    """Return whether chromaticities, white's first, are those of sRGB."""
    return bool(np.abs(np.array(xy, float) - np.ravel(icc.PRIMARIES[1])).max() < ROUGHLY)


def _pairs(xy: Any) -> tuple[tuple[float, float], ...]:
    numbers = [float(value) for value in xy]
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _thinned(table: Any) -> list[int]:
    """Return up to 4096 values of a curve."""
    chosen = np.linspace(0, len(table) - 1, min(len(table), 4096)).round().astype(int).tolist()
    return [int(table[number]) for number in chosen]


def _is_adobe_rgb(exif: bytes) -> bool:
    """Return whether EXIF says so: by 2 as colour space, or by DCF's R03."""
    space = exif_block.entries(exif, exif_block.EXIF).get(0xA001)
    interop = exif_block.entries(exif, exif_block.EXIF, exif_block.INTEROP).get(1)
    if space is None or space.value == 1:
        return False
    return space.value == 2 or (interop is not None and exif_block.text(exif, interop) == b"R03")


def is_srgb(profile: bytes) -> bool:
    """Return whether a profile leaves every colour of a grid where sRGB has it, within 2 of 255."""
    from PIL import ImageCms

    steps = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(steps, steps, steps), 3).reshape(len(steps), -1, 3)
    grey = np.arange(256, dtype=np.uint8)[None]
    image = Image.fromarray(grey if profile[16:20] == b"GRAY" else colours)
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        shown = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ImportError):
        return False  # of colours that are unknown
    change = np.asarray(shown, np.int16) - np.asarray(image.convert("RGB"), np.int16)
    return bool(np.abs(change).max() <= 2)


def png_chunks(raw: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG file ahead of the pixels that Pillow does not tell of, or not whole."""
    out, at = dict[bytes, bytes](), 8
    while raw[:4] == b"\x89PNG" and at + 12 <= len(raw):
        size, kind = struct.unpack_from(">I4s", raw, at)
        if kind == b"IDAT":
            break
        if kind in (b"cICP", b"sRGB", b"pHYs"):
            out[kind] = raw[at + 8 : at + 8 + size]
        at += 12 + size
    return out


def _boxes(raw: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of the content of the boxes (ISO/IEC 14496-12) between two offsets."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", raw, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,), head = struct.unpack_from(">Q", raw, start + 8), 16
        stop = min(start + size, end) if size else end
        if stop < start + head:
            return
        yield kind, start + head, stop
        start = stop


def _nclx(raw: bytes) -> bytes | None:
    """Return the code points of the main picture in an AVIF or HEIF file, for RGB: matrix 0, full range."""
    if raw[4:8] != b"ftyp":
        return None
    try:
        meta = {kind: (a, b) for kind, a, b in _boxes(raw, 0, len(raw))}[b"meta"]
        inner = {kind: (a, b) for kind, a, b in _boxes(raw, meta[0] + 4, meta[1])}
        about = {kind: (a, b) for kind, a, b in _boxes(raw, *inner[b"iprp"])}
        properties = list(_boxes(raw, *about[b"ipco"]))
        start = inner[b"pitm"][0]
        (item,) = struct.unpack_from(">I" if raw[start] else ">H", raw, start + 4)
        for number in _properties_of(raw, about[b"ipma"][0], item):
            kind, at, _ = properties[number - 1]
            if kind == b"colr" and raw[at : at + 4] == b"nclx":
                primaries, transfer = struct.unpack_from(">HH", raw, at + 4)
                return bytes([primaries, transfer, 0, 1])
    except (KeyError, IndexError, ValueError, struct.error):
        pass  # what is damaged says nothing: Pillow has read the picture all the same
    return None


def _properties_of(raw: bytes, at: int, item: int) -> list[int]:
    """Return the numbers of an item's properties, from an `ipma` whose content begins at an offset."""
    version, is_long = raw[at], raw[at + 3] & 1
    (n_items,) = struct.unpack_from(">I", raw, at + 4)
    at += 8
    for _ in range(n_items):
        (found,) = struct.unpack_from(">I" if version else ">H", raw, at)
        at += 4 if version else 2
        n, at = raw[at], at + 1
        numbers = struct.unpack_from(f">{n}{'H' if is_long else 'B'}", raw, at)
        at += n << is_long
        if found == item:
            return [number & (0x7FFF if is_long else 0x7F) for number in numbers]
    return []


def _jp2_profile(raw: bytes) -> bytes | None:
    """Return the ICC profile in a JPEG 2000 file."""
    if raw[4:8] != b"jP  ":
        return None
    for kind, start, end in _boxes(raw, 0, len(raw)):
        for inner, a, b in _boxes(raw, start, end) if kind == b"jp2h" else ():
            if inner == b"colr" and raw[a] == 2:
                return raw[a + 3 : b]
    return None
