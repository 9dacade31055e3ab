"""EXIF as bytes: "Exif", two zeros, a TIFF file of directories. What is looked up and patched in place, and what Pillow can write again.

| "II*\\0" or "MM\\0*" | offset of a directory |     a directory: | n | n entries: tag, type, count, value or offset | next |
"""

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

from PIL import Image

PREFIX = b"Exif\0\0"
ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x112, 0x11A, 0x11B, 0x128
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005  # tags that point to directories


class Entry(NamedTuple):
    """An entry of a directory."""

    kind: int
    n: int
    value: int  # or offset of what is longer than 4 bytes
    at: int  # offset of the value's field in the EXIF block


def order_of(exif: bytes) -> str:
    """Return ">" or "<"; "" of what is no EXIF."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(exif[6:10], "") if exif[:6] == PREFIX else ""


def entries(exif: bytes, *path: int) -> dict[int, Entry]:
    """Return the entries by tag of the first directory, or of that which the tags in `path` lead to; none of damaged ones."""
    order = order_of(exif)
    if not order:
        return {}
    try:
        (at,) = struct.unpack_from(f"{order}I", exif, 10)
        for pointer in (*path, None):
            (n,) = struct.unpack_from(f"{order}H", exif, 6 + at)
            out = {}
            for entry in range(8 + at, 8 + at + 12 * n, 12):
                tag, kind, count = struct.unpack_from(f"{order}HHI", exif, entry)
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), exif, entry + 8)
                out[tag] = Entry(kind, count, value, entry + 8)
            if pointer is not None:
                at = out[pointer].value
    except (struct.error, KeyError):
        return {}
    return out


def text(exif: bytes, entry: Entry) -> bytes:
    """Return the text of an entry, without the zero at its end."""
    at = entry.at if entry.n <= 4 else 6 + entry.value
    return exif[at : at + entry.n].rstrip(b"\0")


def ratio(exif: bytes, entry: Entry) -> float:
    """Return a ratio; 0 where there is none."""
    try:
        above, below = struct.unpack_from(f"{order_of(exif)}II", exif, 6 + entry.value)
    except struct.error:
        return 0.0
    return float(above / below) if entry.kind == 5 and below else 0.0


def orientation(exif: bytes) -> int:
    """Return 1 to 8, 1 where EXIF does not say."""
    entry = entries(exif).get(ORIENTATION)
    return entry.value if entry and entry.kind == 3 and 1 <= entry.value <= 8 else 1


def upright(exif: bytes) -> bytes:
    """Return EXIF with 1 for the orientation, else as it is."""
    entry = entries(exif).get(ORIENTATION)
    if entry is None or entry.kind != 3:
        return exif
    return exif[: entry.at] + struct.pack(f"{order_of(exif)}H", 1) + exif[entry.at + 2 :]


def sound(tags: Image.Exif, without: Iterable[int] = ()) -> tuple[bytes, list[int]]:
    """Return the tags that Pillow can write, as an EXIF block of classic TIFF (b"" without any), and those that it cannot.

    Args:
        tags: EXIF, or a TIFF file's own tags.
        without: tags that are not looked at.
    """
    out, bad = Image.Exif(), list[int]()
    out.endian = tags.endian
    for tag in sorted({*tags, EXIF, GPS} - set(without)):
        if tag not in (EXIF, GPS):
            if _fits(tag, value := tags.get(tag)):
                out[tag] = value
            else:
                bad.append(tag)
            continue
        inner = dict(tags.get_ifd(tag))
        if INTEROP in inner:
            inner[INTEROP] = dict(tags.get_ifd(INTEROP))
        bad += [key for key, value in inner.items() if not _fits(tag, {key: value})]
        if kept := {key: value for key, value in inner.items() if key not in bad}:
            out[tag] = kept
    return (out.tobytes() if len(out) else b""), sorted(bad)


def _fits(tag: int, value: Any) -> bool:
    one = Image.Exif()
    one[tag] = value
    try:
        one.tobytes()
    except MemoryError:
        raise
    except Exception:  # of what is not of the tag's type, Pillow raises anything
        return False
    return True
