"""Metadata of image files <-> Picture.metadata; what is not carried, or cannot be written, is said in notices.

name   | bytes                                      | from
icc    | ICC profile                                | the file's, or made of what else says its colour (colour.py)
cicp   | primaries, transfer, matrix, full range    | PNG's cICP, nclx of AVIF and HEIF
exif   | "Exif", two zeros, directories             | EXIF; TIFF's own tags (exif.py)
xmp    | XMP packet                                 | XMP
phys   | pixels per metre: x, y; 1 (as PNG's pHYs)  | pHYs, JFIF, TIFF's resolution, where EXIF does not say the same
"""

import re
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncodec.metadata import colour, exif, icc

if TYPE_CHECKING:
    from ncodec.image import Picture

HOLD = {"AVIF", "HEIF", "JPEG", "JXL", "MPO", "PNG", "TIFF", "WEBP"}  # profiles, EXIF and XMP
HOLD_DENSITY = {"BMP", "DIB", "JPEG", "MPO", "PCX", "PNG", "TIFF"}
REWRITE_EXIF = {"AVIF", "HEIF", "TIFF"}  # tag by tag
SEGMENT_BYTES = 65533 - 2  # of JPEG, in which EXIF and XMP stand whole
XMP_HEAD_BYTES = 29
INCH = 0.0254  # metres

# TIFF tags that say how the pixels lie in that file: size, depth, strips, tiles, JPEG tables, colour, XMP, ICC.
LAYOUT_TAGS = {
    *range(254, 267),
    273,
    *range(277, 282),
    284,
    *range(290, 294),
    301,
    *range(317, 348),
}
LAYOUT_TAGS |= {*range(512, 533), 700, 34377, 34675}
RESOLUTION_TAGS = {exif.X_RESOLUTION, exif.Y_RESOLUTION, exif.RESOLUTION_UNIT}

XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:=["']|>))([1-8])""")
TURNS = {
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (1, True),
    6: (3, False),
    7: (3, True),
    8: (1, False),
}
"""Of an orientation: quarter turns to the left, and whether the rows are mirrored ahead of them."""


def of_image(image: Image.Image, raw: bytes = b"") -> tuple[dict[str, bytes], list[str]]:
    """Return the metadata of a Pillow image by name, and notices: what was made of others, what is left out.

    Args:
        image: any.
        raw: the bytes of its file, where they are known: they have what Pillow does not tell.
    """
    if image.format == "PNG":
        image.load()  # what stands after the pixels
    block, bad = _exif_of(image)
    found, notices = colour.colour_of(image, block, raw)
    found |= {"exif": block, "xmp": _xmp_of(image), "phys": _phys_of(image, block, raw)}
    if bad:
        notices.append(f"EXIF: {_listed(bad)} of wrong types left out")
    if out := _left_out(image, raw):
        notices.append(f"{', '.join(out)}: left out")
    return {
        name: value for name, value in found.items() if isinstance(value, bytes) and value
    }, notices


def _exif_of(image: Image.Image) -> tuple[bytes, list[int]]:
    """Return the EXIF block, b"" where there is none, and the tags that it is without."""
    block = image.info.get("exif")
    if isinstance(block, bytes) and block:
        return (
            block if block.startswith(exif.PREFIX) else exif.PREFIX + block
        ), []  # WebP's has none
    if image.format == "TIFF":
        return exif.sound(image.getexif(), LAYOUT_TAGS | RESOLUTION_TAGS)
    tags = image.getexif()
    if set(tags) == {exif.ORIENTATION} and XMP_ORIENTATION.search(_xmp_of(image)):
        return b"", []  # Pillow has it from there
    return exif.sound(tags, LAYOUT_TAGS)


def _xmp_of(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp", b"")
    return xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b""


def _listed(tags: list[int]) -> str:
    return f"tag{'s' * (len(tags) > 1)} {', '.join(f'0x{tag:04x}' for tag in tags)}"


def _left_out(image: Image.Image, raw: bytes) -> list[str]:
    """Return what there is in a file that pictures have no place for."""
    out = []
    if image.format == "PNG":
        carried = ("XML:com.adobe.xmp", "Raw profile type exif")
        if n_texts := sum(key not in carried for key in getattr(image, "text", {})):
            out.append(f"{n_texts} text chunk{'s' * (n_texts > 1)}")
    if image.info.get("comment") and image.format != "JPEG2000":  # whose encoder signs in it
        out.append("comment")
    if image.format in ("JPEG", "MPO"):
        if b"http://ns.adobe.com/xmp/extension/\0" in raw:
            out.append("extended XMP")
        if image.info.get("photoshop"):
            out.append("Photoshop and IPTC data")
        known = {"COM", "APP0", "APP1", "APP2", "APP13", "APP14"}
        out += sorted({name for name, _ in getattr(image, "applist", [])} - known)
    return out


# Density.


def _phys(x: float, y: float, metres: float) -> bytes:
    """Return pHYs's bytes of pixels per so many metres; b"" of none."""
    numbers = [round(value / metres) if 0 < value < 1e8 else 0 for value in (x, y)]
    return struct.pack(">IIB", *numbers, 1) if all(numbers) else b""


def _phys_of(image: Image.Image, block: bytes, raw: bytes) -> bytes:
    """Return the density of an image, b"" where there is none or EXIF says the same."""
    info = image.info
    found = b""
    if image.format in ("JPEG", "MPO"):
        metres = {1: INCH, 2: 0.01}.get(info.get("jfif_unit", 0))
        if metres:
            x, y = info["jfif_density"]
            found = _phys(x, y, metres)
    elif image.format == "PNG" and raw:
        chunk = colour.png_chunks(raw).get(b"pHYs", b"")
        found = chunk if len(chunk) == 9 and chunk[8] == 1 else b""
    elif isinstance(dpi := info.get("dpi"), tuple) and len(dpi) == 2:
        # Of a TIFF without tags of resolution Pillow says 1.
        if image.format != "TIFF" or exif.X_RESOLUTION in getattr(image, "tag_v2", {}):
            found = _phys(float(dpi[0]), float(dpi[1]), INCH)
    return b"" if found == _phys_in(block) else found


def _phys_in(block: bytes) -> bytes:
    """Return the density that EXIF says, b"" where it does not."""
    tags = exif.entries(block)
    if not tags.keys() >= RESOLUTION_TAGS or tags[exif.RESOLUTION_UNIT].value not in (2, 3):
        return b""
    x, y = (exif.ratio(block, tags[tag]) for tag in (exif.X_RESOLUTION, exif.Y_RESOLUTION))
    return _phys(x, y, INCH if tags[exif.RESOLUTION_UNIT].value == 2 else 0.01)


def _dpi(metadata: dict[str, bytes]) -> tuple[float, float] | None:
    """Return pixels per inch: whole numbers where these are what was meant."""
    phys = metadata.get("phys") or _phys_in(metadata.get("exif", b""))
    if not phys or phys[8] != 1:
        return None
    x, y = struct.unpack(">II", phys[:8])
    return _per_inch(x), _per_inch(y)


def _per_inch(per_metre: int) -> float:
    whole = round(per_metre * INCH)
    return whole if round(whole / INCH) == per_metre else per_metre * INCH


# Orientation.


def orientation(metadata: dict[str, bytes]) -> int:
    """Return how the pixels lie, 1 to 8, by EXIF, else by XMP."""
    block = metadata.get("exif", b"")
    if exif.ORIENTATION not in exif.entries(block):
        found = XMP_ORIENTATION.search(metadata.get("xmp", b""))
        return int(found[2]) if found else 1
    return exif.orientation(block)


def turned(picture: "Picture") -> "Picture":
    """Return a picture whose pixels lie as they are shown, and whose metadata say so."""
    kept = dict(picture.metadata)
    quarters, is_mirrored = TURNS.get(orientation(kept), (0, False))
    if not quarters and not is_mirrored:
        return picture
    if "exif" in kept:
        kept["exif"] = exif.upright(kept["exif"])
    if "xmp" in kept:
        kept["xmp"] = XMP_ORIENTATION.sub(rb"\g<1>1", kept["xmp"])
    if quarters % 2 and "phys" in kept:
        kept["phys"] = kept["phys"][4:8] + kept["phys"][:4] + kept["phys"][8:]

    def turn(plane: NDArray[Any]) -> NDArray[Any]:
        mirrored = plane[:, ::-1] if is_mirrored else plane
        return np.ascontiguousarray(np.rot90(mirrored, quarters))

    alpha = None if picture.alpha is None else turn(picture.alpha)
    return replace(picture, pixels=turn(picture.pixels), alpha=alpha, metadata=kept)


def stripped(picture: "Picture") -> "Picture":
    """Return a picture without metadata but what changes its look: it is turned, and keeps a colour space other than sRGB."""
    kept = {name: value for name, value in picture.metadata.items() if name in ("icc", "cicp")}
    if "cicp" in kept:
        is_srgb = tuple(kept["cicp"][:2]) == colour.SRGB
    else:
        is_srgb = "icc" in kept and colour.is_srgb(kept["icc"])
    return replace(turned(picture), metadata={} if is_srgb else kept)


# Writing.


def fitted(picture: "Picture", form: str) -> tuple["Picture", list[str]]:
    """Return a picture with the metadata that a format can hold, turned where that cannot say how it lies; and notices.

    Args:
        picture: any.
        form: Pillow's name of the format, such as "PNG".
    """
    kept, notices = dict(picture.metadata), list[str]()
    if form not in HOLD:
        is_srgb = (
            tuple(kept["cicp"][:2]) == colour.SRGB
            if "cicp" in kept
            else colour.is_srgb(kept.get("icc", b""))
        )
        if kept.keys() & {"icc", "cicp"} and not is_srgb:
            notices.append(f"{form} holds no colour space: the pixels are in another than sRGB")
        if lost := [name.upper() for name in ("exif", "xmp") if name in kept]:
            notices.append(f"{form} holds no {' and '.join(lost)}: left out")
        turned_ = turned(picture)
        return replace(
            turned_, metadata={k: v for k, v in turned_.metadata.items() if k == "phys"}
        ), notices
    if form in REWRITE_EXIF and "exif" in kept:
        kept["exif"], bad = _rewritten(kept["exif"])
        if bad is None:
            notices.append("EXIF: damaged, left out")
        elif bad:
            notices.append(f"EXIF: {_listed(bad)} cannot be written as {form}, left out")
    if form in ("JPEG", "MPO"):
        for name, head in (("exif", 0), ("xmp", XMP_HEAD_BYTES)):
            if len(kept.get(name, b"")) + head > SEGMENT_BYTES:
                notices.append(
                    f"{name.upper()}: {len(kept.pop(name))} bytes are too many for JPEG, left out"
                )
    return replace(
        picture, metadata={name: value for name, value in kept.items() if value}
    ), notices


def _rewritten(block: bytes) -> tuple[bytes, list[int] | None]:
    """Return EXIF as Pillow writes it, and the tags that this is without; None where all are lost."""
    tags = Image.Exif()
    try:
        tags.load(block)
        return exif.sound(tags, LAYOUT_TAGS)
    except MemoryError:
        raise
    except Exception:  # as _fits in exif.py
        return b"", None


def info_of(picture: "Picture") -> dict[str, Any]:
    """Return the metadata of a picture as Pillow's `info` has them; a profile stands for "cicp", which is there besides."""
    kept = picture.metadata
    names = {"icc": "icc_profile", "exif": "exif", "xmp": "xmp", "cicp": "cicp"}
    info: dict[str, Any] = {name: kept[key] for key, name in names.items() if key in kept}
    if dpi := _dpi(kept):
        info["dpi"] = dpi
    if (
        "cicp" in kept
        and "icc" not in kept
        and (made := icc.of_cicp(kept["cicp"], picture.channels == 1))
    ):
        info["icc_profile"] = made
    return info


def options_for(picture: "Picture", form: str) -> dict[str, Any]:
    """Return Pillow's options that save the metadata of a picture, which is `fitted`: icc_profile, exif, xmp, pnginfo, dpi."""
    kept, options = picture.metadata, dict[str, Any]()
    if form in HOLD_DENSITY and (dpi := _dpi(kept)):
        options["dpi"] = dpi
    if form not in HOLD:
        return options
    profile = kept.get("icc")
    if profile is None and "cicp" in kept and form != "PNG":
        profile = icc.of_cicp(kept["cicp"], picture.channels == 1)
    options |= {"icc_profile": profile} if profile else {}
    options |= {name: kept[name] for name in ("exif", "xmp") if name in kept}
    if form == "PNG":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        if "cicp" in kept:
            chunks.add(b"cICP", kept["cicp"])
        if "xmp" in options:
            chunks.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = chunks
    if form == "TIFF" and ("exif" in options or "xmp" in options):
        tags = Image.Exif()
        tags.load(options.get("exif", b""))
        if "xmp" in options:
            tags[700] = options.pop("xmp")
        options["exif"] = tags
    return options
