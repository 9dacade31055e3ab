"""ICC profiles made from facts: primaries, curves, names; profiles.py has those that most pictures carry.

    | header, 128 | number of tags | signature, offset, length of each tag | elements, each at a multiple of 4 |

Numbers in elements are in 1/65536 (s15Fixed16). ICC.1:2022 has the elements, sections 7 and 10.
"""

from collections.abc import Sequence
from hashlib import md5
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tags = Sequence[tuple[str, bytes]]
XYZ = tuple[int, int, int]
"""X, Y, Z in 1/65536."""

XY = tuple[float, float]
"""Chromaticities x and y."""

D50: XYZ = (0xF6D6, 0x10000, 0xD32D)
SRGB_CURVE = (0x26666, 0xF2A7, 0xD59, 0x13D0, 0xA5B)  # g, a, b, c, d of IEC 61966-2-1


def names(words: str, end: str = "") -> bytes:
    """Return an element with a text in US English."""
    utf16 = (words + end).encode("utf-16-be")
    return b"mluc" + bytes(4) + pack(">II4sII", 1, 12, b"enUS", len(utf16), 28) + utf16


def numbers(kind: str, *values: int) -> bytes:
    """Return an element of numbers in 1/65536: "XYZ ", "sf32", "chrm"."""
    return kind.encode() + bytes(4) + pack(f">{len(values)}i", *values)


def parametric(function: int, *values: int) -> bytes:
    """Return a curve by a formula: 0 is x^g; 3 and 4 are (a x + b)^g from d on, c x below it."""
    return b"para" + bytes(4) + pack(f">H2x{len(values)}i", function, *values)


def sampled(values: Sequence[int]) -> bytes:
    """Return a curve by its values 0 … 65535 at equal distances; a single one is a gamma in 1/256."""
    return b"curv" + bytes(4) + pack(f">I{len(values)}H", len(values), *values)


def profile(
    tags: Tags,
    version: int = 0x04400000,
    space: str = "RGB ",
    *,
    device: str = "mntr",
    cmm: str = "",
    date: tuple[int, ...] = (0, 0, 0, 0, 0, 0),
    platform: str = "",
    maker: str = "",
    model: str = "",
    attributes: int = 0,
    intent: int = 0,
    creator: str = "",
    has_id: bool = False,
    is_shared: bool = True,
) -> bytes:
    """Return a profile.

    Args:
        tags: signature and element of each, in their order.
        version: as in the header.
        space: of the pixels: "RGB " or "GRAY".
        device, cmm, date, platform, maker, model, attributes, intent, creator: the header's other fields.
        has_id: put the MD5 of the profile into the header.
        is_shared: write an element once that several tags have.
    """
    start = 132 + 12 * len(tags)
    table, elements, places = pack(">I", len(tags)), bytearray(), dict[bytes, int]()
    for signature, element in tags:
        if not is_shared or element not in places:
            places[element] = start + len(elements)
            elements += element + bytes(-len(element) % 4)
        table += pack(">4sII", signature.encode(), places[element], len(element))
    size = start + len(elements)
    out = bytearray(pack(
        ">I4sI4s4s4s6H4s4sI4s4sQI3i4s44x", size, cmm.encode(), version, device.encode(), space.encode(), b"XYZ ", *date,
        b"acsp", platform.encode(), 0, maker.encode(), model.encode(), attributes, intent, *D50, creator.encode(),
    ))  # fmt: skip
    out += table + elements
    if has_id:
        plain = bytes(out[:64]) + bytes(4) + bytes(out[68:])
        out[84:100] = md5(plain, usedforsecurity=False).digest()
    return bytes(out)


def columns_of(columns: Sequence[XYZ], order: str = "rgb") -> list[tuple[str, bytes]]:
    """Return the tags of the primaries, in an order."""
    return [(f"{c}XYZ", numbers("XYZ ", *columns["rgb".index(c)])) for c in order]


def curves_of(curve: bytes, order: str = "rgb") -> list[tuple[str, bytes]]:
    """Return the tags of the channels' curves, which are one."""
    return [(f"{c}TRC", curve) for c in order]


def white(xyz: XYZ) -> tuple[str, bytes]:
    """Return the tag of a white point."""
    return "wtpt", numbers("XYZ ", *xyz)


# By the numbers of ITU-T H.273, table 2: white, red, green, blue.
_D65, _C = (0.3127, 0.3290), (0.310, 0.316)
PRIMARIES: dict[int, tuple[XY, XY, XY, XY]] = {
    1: (_D65, (0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),  # BT.709, sRGB
    4: (_C, (0.670, 0.330), (0.210, 0.710), (0.140, 0.080)),
    5: (_D65, (0.640, 0.330), (0.290, 0.600), (0.150, 0.060)),
    6: (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    8: (_C, (0.681, 0.319), (0.243, 0.692), (0.145, 0.049)),
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # DCI-P3
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
    22: (_D65, (0.630, 0.340), (0.295, 0.605), (0.155, 0.077)),
}
ADOBE_RGB = (_D65, (0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def gamma(exponent: float) -> bytes:
    """Return the curve x^exponent."""
    return parametric(0, round(65536 * exponent))


def _video(alpha: float, slope: float, end: float) -> bytes:
    """Return the inverse of alpha x^0.45 - (alpha - 1), of slope x at black, up to the value `end`."""
    values = (1 / 0.45, 1 / alpha, (alpha - 1) / alpha, 1 / slope, end)
    return parametric(3, *(round(65536 * value) for value in values))


def _pq(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return light / (10 000 cd/m²) of SMPTE ST 2084."""
    root = x ** (4096 / 2523 / 128)
    ratio = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
    return np.asarray(ratio ** (16384 / 2610))


def _hlg(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the light of the scene of ARIB STD-B67."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(x <= 0.5, x * x / 3, (np.exp((x - c) / a) + b) / 12)


def transfer_curve(transfer: int) -> bytes | None:
    """Return the curve of a transfer function by its number in ITU-T H.273, table 3; None of what has none here."""
    if transfer in (1, 6, 11, 12, 14, 15):
        return _video(1.099, 4.5, 0.081)
    if transfer == 7:
        return _video(1.1115, 4.0, 0.0912)
    if transfer == 13:
        return parametric(3, *SRGB_CURVE)
    if transfer in (16, 18):
        light = (_pq if transfer == 16 else _hlg)(np.arange(4096) / 4095)
        return sampled([round(65535 * value) for value in np.clip(light, 0, 1).tolist()])
    exponents = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
    return gamma(exponents[transfer]) if transfer in exponents else None


def of_primaries(
    name: str, primaries: tuple[XY, XY, XY, XY], curve: bytes, extra: Tags = ()
) -> bytes:
    """Return the profile of RGB by the chromaticities of white, red, green and blue, and the channels' curve."""
    xyz = np.array([(x / y, 1.0, (1 - x - y) / y) for x, y in primaries])
    light = xyz[1:].T * np.linalg.solve(xyz[1:].T, xyz[0])  # the columns add up to white
    cones = np.array(D50) / 65536 @ BRADFORD.T / (xyz[0] @ BRADFORD.T)
    adapted = np.linalg.inv(BRADFORD) @ (cones[:, None] * BRADFORD)
    chad = numbers("sf32", *(round(65536 * value) for value in adapted.ravel().tolist()))
    columns: list[Any] = [
        tuple(map(round, column)) for column in (65536 * adapted @ light).T.tolist()
    ]
    tags = [*_words(name), white(D50), ("chad", chad), *columns_of(columns), *curves_of(curve)]
    return profile([*tags, *extra])


def of_grey(name: str, curve: bytes, extra: Tags = ()) -> bytes:
    """Return the profile of grey by its curve."""
    return profile([*_words(name), white(D50), ("kTRC", curve), *extra], space="GRAY")


def of_cicp(code_points: bytes, is_grey: bool) -> bytes | None:
    """Return the profile of colour by its code points (primaries, transfer, matrix, full range); None where these say too little."""
    primaries, curve = PRIMARIES.get(code_points[0]), transfer_curve(code_points[1])
    if curve is None or (primaries is None and not is_grey):
        return None
    name, extra = (
        f"CICP {code_points[0]}/{code_points[1]}",
        [("cicp", b"cicp" + bytes(4) + code_points)],
    )
    if is_grey or primaries is None:
        return of_grey(name, curve, extra)
    return of_primaries(name, primaries, curve, extra)


def points_of(profile: bytes) -> bytes | None:
    """Return the code points in a profile, None where it has none."""
    at = profile.find(b"cicp" + bytes(4))
    return profile[at + 8 : at + 12] if at >= 0 and at + 12 <= len(profile) else None


def _words(name: str) -> list[tuple[str, bytes]]:
    return [("desc", names(name)), ("cprt", names("CC0"))]
