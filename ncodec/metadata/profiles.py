"""The ICC profiles that most pictures carry, made from facts, to the byte: each costs a file two bytes (packing.py)."""

import math
from collections.abc import Sequence
from functools import cache
from struct import pack

from ncodec.metadata.icc import (
    D50,
    SRGB_CURVE,
    XYZ,
    Tags,
    columns_of,
    curves_of,
    names,
    numbers,
    parametric,
    profile,
    sampled,
    white,
)  # fmt: skip

D65: XYZ = (0xF351, 0x10000, 0x116CC)
D65_ADAPTED = (0x10C42, 0x5DE, -3290, 0x793, 0xFD90, -1118, -605, 0x3DC, 0xC06E)  # to D50
SRGB_XYZ: tuple[XYZ, XYZ, XYZ] = ((0x6FA2, 0x38F5, 0x390), (0x6299, 0xB785, 0x18DA), (0x24A0, 0xF84, 0xB6CF))  # fmt: skip
P3_XYZ: tuple[XYZ, XYZ, XYZ] = ((0x83DF, 0x3DBF, -69), (0x4ABF, 0xB137, 0xAB9), (0x2838, 0x110B, 0xC8B9))  # fmt: skip
BLACK = ("bkpt", numbers("XYZ ", 0, 0, 0))
CHAD = ("chad", numbers("sf32", *D65_ADAPTED))
MEASURED = b"meas" + bytes(4) + pack(">I16x", 1)


def text(words: str) -> bytes:
    """Return an element of ASCII."""
    return b"text" + bytes(4) + words.encode("ascii") + b"\0"


def description(words: str, is_mac: bool = False) -> bytes:
    """Return the description of a profile of version 2; `is_mac` says it twice."""
    ascii_ = words.encode("ascii") + b"\0"
    again = ascii_ if is_mac else b""
    head = b"desc" + bytes(4) + pack(">I", len(ascii_)) + ascii_ + bytes(10)
    return head + bytes([len(again)]) + again.ljust(67, b"\0")


def srgb(x: float) -> float:
    """Return the light of an sRGB value in [0, 1], by IEC 61966-2-1."""
    return x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4


@cache
def srgb_table() -> bytes:
    """Return sRGB's curve as most profiles have it, by 1024 values."""
    return sampled([round(65535 * srgb(k / 1023)) for k in range(1024)])


def _hp_srgb(intent: int) -> bytes:
    tags = [
        ("cprt", text("Copyright (c) 1998 Hewlett-Packard Company")),
        ("desc", description("sRGB IEC61966-2.1", True)),
        white(D65), BLACK, *columns_of(SRGB_XYZ),
        ("dmnd", description("IEC http://www.iec.ch", True)),
        ("dmdd", description("IEC 61966-2.1 Default RGB colour space - sRGB", True)),
        ("vued", description("Reference Viewing Condition in IEC61966-2.1", True)),
        ("view", numbers("view", 0x13A4FE, 0x145F2E, 0x10CF14, 0x3EDCC, 0x4130B, 0x35C9E, 1)),
        ("lumi", numbers("XYZ ", 0x4C0956, 0x500000, 0x571FE7)),
        ("meas", MEASURED + pack(">II", 0x28F, 2)),
        ("tech", b"sig \0\0\0\0CRT "), *curves_of(srgb_table()),
    ]  # fmt: skip
    return profile(tags, 0x02100000, cmm="Lino", date=(1998, 2, 9, 6, 49, 0), platform="MSFT", maker="IEC ", model="sRGB",
                   intent=intent, creator="HP  ")  # fmt: skip


def _black_scaled() -> bytes:
    tags = [
        ("desc", description("sRGB IEC61966-2-1 black scaled")),
        *columns_of(SRGB_XYZ, "b"), *curves_of(srgb_table(), "b"),
        ("dmdd", description("IEC 61966-2-1 Default RGB Colour Space - sRGB")),
        *columns_of(SRGB_XYZ, "g"), *curves_of(srgb_table(), "g"),
        ("lumi", numbers("XYZ ", 0, 0x500000, 0)), ("meas", MEASURED + pack(">II", 0, 2)),
        ("bkpt", numbers("XYZ ", 790, 819, 676)),
        *columns_of(SRGB_XYZ, "r"), *curves_of(srgb_table(), "r"),
        ("tech", b"sig \0\0\0\0CRT "),
        ("vued", description("Reference Viewing Condition in IEC 61966-2-1")), white(D50),
        ("cprt", text("Copyright International Color Consortium, 2009")),
        ("chad", numbers("sf32", 0x10C44, 0x5DF, -3290, 0x794, 0xFD8F, -1119, -606, 0x3DB, 0xC075)),
    ]  # fmt: skip
    return profile(
        tags, 0x02000000, date=(2009, 3, 27, 21, 36, 31), attributes=1 << 32, has_id=True
    )


def _adobe(name: str, tags: Tags, space: str, device: str = "mntr", intent: int = 0) -> bytes:
    """Return a profile as Adobe's of 1999 are."""
    head = [
        ("cprt", text("Copyright 1999 Adobe Systems Incorporated")),
        ("desc", description(name)),
    ]
    return profile([*head, *tags], 0x02100000, space, device=device, cmm="ADBE", date=(1999, 6, 3, 0, 0, 0),
                   platform="APPL", maker="none", intent=intent, creator="ADBE", is_shared=False)  # fmt: skip


def _dot_gain(gain: float) -> bytes:
    """Return the profile of a press that prints 50 % as 50 % + `gain`: a power, no steeper than 16 at black."""
    power = math.log(0.5 - gain) / math.log(0.5)
    values = [max(16 * k, round(65535 * (k / 255) ** power)) for k in range(256)]
    tags = [white(D50), BLACK, ("kTRC", sampled(values))]
    return _adobe(f"Dot Gain {round(gain * 100)}%", tags, "GRAY", "prtr", 1)


def _display_p3(year: int) -> bytes:
    """Return Apple's profile of 2015, 2017 or 2022."""
    copyright_, name, light = f"Copyright Apple Inc., {year}", "Display P3", D65
    words = [("desc", description(name)), ("cprt", text(copyright_))]
    date, curve = (2017, 7, 7, 13, 22, 32), SRGB_CURVE
    if year == 2015:
        date, curve = (2015, 10, 14, 13, 8, 57), (0x26666, 0xF2B0, 0xD50, 0x13B6, 0x9FC)
    if year == 2022:
        words = [("desc", names(name)), ("cprt", names(copyright_))]
        date, light = (2022, 1, 1, 0, 0, 0), (0xF6D5, 0x10000, 0xD32C)
    curves = parametric(3, *curve)
    tags = [
        *words,
        white(light),
        *columns_of(P3_XYZ),
        ("rTRC", curves),
        CHAD,
        *curves_of(curves, "bg"),
    ]
    return profile(tags, 0x04000000, cmm="appl", date=date, platform="APPL", maker="APPL",
                   intent=int(year == 2015), creator="appl", has_id=True)  # fmt: skip


def _google() -> list[bytes]:
    """Return sRGB as Android and Chrome write it, and as Google's cameras do."""
    columns = ((0x6FA0, 0x38F5, 0x390), (0x6297, 0xB787, 0x18D9), (0x249F, 0xF84, 0xB6C3))
    android = [
        ("desc", names("sRGB Gamut with sRGB Transfer") + b"\0\0"), *columns_of(SRGB_XYZ), white(D50),
        *curves_of(parametric(4, *SRGB_CURVE, 0, 0)), ("cprt", names("Google Inc. 2022")),
    ]  # fmt: skip
    camera = [
        ("desc", names("sRGB IEC61966-2.1", "\0")),
        ("cprt", names("Copyright (c) 2023 Google Inc.", "\0")),
        white(D50), BLACK, *columns_of(columns), ("rTRC", parametric(3, *SRGB_CURVE)),
        ("chad", numbers("sf32", 0x10C42, 0x5DE, -3289, 0x793, 0xFD90, -1117, -604, 0x3DC, 0xC06E)),
        *curves_of(parametric(3, *SRGB_CURVE), "bg"),
    ]  # fmt: skip
    date = (2023, 3, 9, 10, 57, 0)
    return [
        profile(android, 0x04300000, intent=1, is_shared=False),
        profile(camera, 0x04000000, date=date, maker="GOOG", creator="GOOG", has_id=True),
    ]


def _compact(name: str, columns: Sequence[XYZ], chad: Sequence[int]) -> bytes:
    """Return a profile as the Compact ICC Profiles of version 4 are, which libvips and sharp embed."""
    tags = [
        ("desc", names(name)),
        ("cprt", names("CC0")),
        white(D50),
        ("chad", numbers("sf32", *chad)),
    ]
    curve = parametric(3, 0x26669, *SRGB_CURVE[1:])
    tags += [*columns_of(columns), *curves_of(curve)] if columns else [("kTRC", curve)]
    return profile(tags, 0x04200000, "RGB " if columns else "GRAY", cmm="lcms", date=(2018, 3, 20, 9, 14, 29),
                   platform="MSFT", maker="saws", model="ctrl", creator="hand", has_id=True)  # fmt: skip


def _lcms() -> list[bytes]:
    """Return what Little CMS makes, and GIMP with it, less the dates: they are of the day."""
    chad = (0x10C42, 0x5DE, -3291, 0x793, 0xFD90, -1119, -606, 0x3DC, 0xC06E)
    curve, grey = parametric(3, *SRGB_CURVE), "D65 Grayscale with sRGB TRC"

    def colour(name: str, rights: str, least: int) -> list[tuple[str, bytes]]:
        columns = (
            (0x6FA0, 0x38F5, 0x390),
            (0x6297, 0xB787, 0x18D9),
            (0x249F, 0xF84, 0xB6C3 + least),
        )
        xy = (0x30000, 0xA3D7, 0x547B + least, 0x4CCD, 0x999A, 0x2666 + least, 0xF5C)
        return [
            ("desc", names(name)), ("cprt", names(rights)), white(D50), ("chad", numbers("sf32", *chad)),
            *columns_of(columns, "rbg"), *curves_of(curve), ("chrm", numbers("chrm", *xy)),
        ]  # fmt: skip

    free = "Public Domain"
    pillow = colour("sRGB built-in", "No copyright, use freely", 0)
    gimp = [
        *colour("GIMP built-in sRGB", free, 1),
        ("dmnd", names("GIMP")),
        ("dmdd", names("sRGB")),
    ]
    gimp_grey = [
        ("desc", names(f"GIMP built-in {grey}")), ("cprt", names(free)), white(D65),
        ("kTRC", curve), ("dmnd", names("GIMP")), ("dmdd", names(grey)),
    ]  # fmt: skip

    def made(tags: Tags, version: int, space: str = "RGB ") -> bytes:
        return profile(tags, version, space, cmm="lcms", platform="APPL", creator="lcms")

    return [made(pillow, 0x04400000), made(gimp, 0x04300000), made(gimp_grey, 0x04300000, "GRAY")]


@cache
def known() -> tuple[bytes, ...]:
    """Return the profiles that a number stands for. Exact, and so is their order (specs/format.md, section 3)."""
    gamma = sampled([0x233])
    adobe = ((0x9C18, 0x4FA5, 0x4FC), (0x348D, 0xA02C, 0xF95), (0x2631, 0x102F, 0xBE9C))
    compact = (0x10C3F, 0x5DD, -3290, 0x790, 0xFD92, -1119, -606, 0x3DC, 0xC071)
    compact_p3 = (0x10C42, 0x5DE, -3291, 0x793, 0xFD90, -1119, -434, 0x39A, 0xC014)
    return (
        *_lcms(),
        _compact("sGry", (), compact),
        _compact("sRGB", ((0x6FA0, 0x38F2, 0x38F), (0x6296, 0xB789, 0x18DA), (0x24A0, 0xF85, 0xB6C4)), compact),
        _compact("sP3C", ((0x83DF, 0x3DBF, 0), (0x4ABF, 0xB137, 0xAB5), (0x2838, 0x110A, 0xC878)), compact_p3),
        *_google(),
        _dot_gain(0.15),
        _dot_gain(0.20),
        _adobe("Gray Gamma 2.2", [white((0xF354, 0x10000, 0x116CF)), BLACK, ("kTRC", gamma)], "GRAY"),
        _black_scaled(),
        _display_p3(2015),
        _display_p3(2022),
        _display_p3(2017),
        _adobe("Adobe RGB (1998)", [white(D65), BLACK, *curves_of(gamma), *columns_of(adobe)], "RGB "),
        _hp_srgb(1),
        _hp_srgb(0),
    )  # fmt: skip
