"""Files of more than 8 bits a channel, which Pillow cuts to 8 without a word: how deep they are, and all of their bits.

    Pillow's raw modes:  "RGB;16B" takes the high byte of each number, "RGB;16L" of the same bytes the low one
    PNG, TIFF            decoded twice, so; TIFF with its channels apart by imagecodecs
    PPM, SGI             numbers as they lie in the file
    JPEG 2000, AVIF, JXL by imagecodecs; HEIF by pillow-heif
    Others               refused

What a file's own header says of its depth is read here: SIZ (JPEG 2000), av1C (AVIF), ImageMetadata (JPEG XL), DXGI (DDS).
"""

import re
import sys
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncodec.errors import InputError

Deep = tuple[NDArray[np.uint16], int]
"""Planes [H, W] or [H, W, 2 to 4], alpha last, and their bit depth."""

LOW_BYTE = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
DEEP_RAW = re.compile(r";(9|1[0-6]|32|64)")  # in Pillow's raw modes: bits of a number
SHALLOW_RAW = re.compile(r"BGR;1[56]|BGRA;1[56]|ARGB;1[56]")  # 5 or 6 bits a channel
MIN_IS_WHITE = 0  # of TIFF's PhotometricInterpretation, 262
CODED = ("JPEG2000", "AVIF", "HEIF", "JXL")
BC6H = (94, 95, 96)  # of DXGI_FORMAT: half floats


def read_deep(image: Image.Image, raw: bytes) -> Deep | None:
    """Return the planes of a file of 9 to 16 bits; None where Pillow reads all that is there.

    Args:
        image: what Pillow opened, at the frame that is meant; not loaded yet.
        raw: the file; b"" where it is not known.

    Raises:
        InputError: more bits than anything here reads.
    """
    form, tags = image.format or "", getattr(image, "tag_v2", {})
    modes = " ".join(_raw_modes(image))
    if image.mode in ("F", "I") and form != "PPM":
        raise InputError(
            f"expected integers of at most 16 bits, found mode {image.mode} {modes}: convert it first"
        )
    if form == "PPM" and raw:
        return _read_netpbm(image, raw)
    if form == "SGI" and raw[3:4] == b"\2":
        return _read_sgi(image, raw)
    if form in CODED and raw:
        return _read_coded(image, raw, form)
    if form == "TIFF" and raw and tags.get(284) == 2 and len(tags.get(258, ())) > 1:
        if max(tags[258]) > 8:
            return _read_planar(image, raw)
    if form == "DDS" and raw[84:88] == b"DX10" and int.from_bytes(raw[128:132], "little") in BC6H:
        raise InputError("half floats (BC6H): expected integers; convert it first")
    if image.mode.startswith("I;16"):
        return _grey(image)
    if image.mode == "CMYK" or not DEEP_RAW.search(SHALLOW_RAW.sub("", modes)):
        return None
    if form in ("PNG", "TIFF") and raw:
        return _read_twice(image, raw)
    raise InputError(
        f"more than 8 bits a channel, which are not read of {form} (mode {image.mode} {modes}): convert it first"
    )


def _raw_modes(image: Image.Image) -> list[str]:
    """Return the raw modes of an image that is not loaded: first, or alone, of the decoders' arguments."""
    args = [tile[3] for tile in getattr(image, "tile", [])]
    first = [arg[0] if isinstance(arg, tuple) and arg else arg for arg in args]
    return [mode for mode in first if isinstance(mode, str)]


def _loaded(image: Image.Image, mode: str = "", raw_mode: str = "") -> NDArray[Any]:
    """Return an image's pixels, unpacked by another raw mode where one is given."""
    if raw_mode:
        image._mode = mode
        image.tile = [  # type: ignore[attr-defined]
            tile._replace(
                args=raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:])
            )
            for tile in image.tile  # type: ignore[attr-defined]
        ]
    image.load()
    return np.asarray(image)


def _grey(image: Image.Image) -> Deep:
    """Return what Pillow reads whole: one channel of 16 bits, or of TIFF's 12."""
    tags = getattr(image, "tag_v2", {})
    depth = max(tags.get(258, (16,)))
    pixels = _loaded(image).astype(np.uint16)
    if tags.get(262) == MIN_IS_WHITE:
        pixels = np.uint16((1 << depth) - 1) - pixels
    key = image.info.get("transparency")
    if isinstance(key, int):  # PNG's tRNS
        return np.dstack([pixels, np.where(pixels == key, 0, 65535).astype(np.uint16)]), depth
    return pixels, depth


def _read_twice(image: Image.Image, raw: bytes) -> Deep:
    """Return the colours of a PNG or TIFF: high bytes and low bytes of one more decoding each."""
    whole = _raw_modes(image)[0]
    if not re.fullmatch(r"(LA|RGB[XAa]?);16[BLN]", whole):
        raise InputError(f"more than 8 bits a channel in raw mode {whole}: convert it first")
    if image.format == "PNG" and image.tell():
        raise InputError("of a PNG of 16 bits the first frame alone is read")
    if whole == "LA;16B":  # has no opposite; but four bytes a pixel are four channels
        return _loaded(image, "RGBA", "RGBA").view(">u2").astype(np.uint16), 16
    name, order = whole[:-1].replace("a", "A"), whole[-1]
    with Image.open(BytesIO(raw)) as again:
        if frame := image.tell():
            again.seek(frame)
        low = _loaded(again, image.mode, name + LOW_BYTE[order])
    high = _loaded(image, image.mode, name + order)
    planes = high.astype(np.uint16) << 8 | low
    key = image.info.get("transparency")
    if isinstance(key, tuple) and planes.shape[2] == 3:  # PNG's tRNS
        alpha = np.where((planes == np.array(key, np.uint16)).all(2), 0, 65535)
        planes = np.dstack([planes, alpha.astype(np.uint16)])
    if whole[3] == "a":
        planes = _straight(planes)
    return planes, 16


def _read_planar(image: Image.Image, raw: bytes) -> Deep:
    """Return the colours of a TIFF in which each channel lies apart, which Pillow cannot read twice."""
    planes = _imagecodecs("TIFF with its channels apart", 16).tiff_decode(raw, index=image.tell())
    if image.mode not in ("RGB", "RGBA") or planes.dtype != np.uint16 or planes.ndim != 3:
        raise InputError(
            f"more than 8 bits a channel, channels apart, {image.mode}: convert it first"
        )
    planes = np.moveaxis(planes[: len(image.mode)], 0, 2)
    is_premultiplied = 1 in image.tag_v2.get(338, ())  # type: ignore[attr-defined]
    return _straight(planes) if is_premultiplied else planes, 16


def _imagecodecs(form: str, depth: int) -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise InputError(
            f"{depth} bits a channel: to read them of {form} takes imagecodecs: pip install imagecodecs"
        ) from error
    return imagecodecs


def _straight(planes: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return [H, W, 4] of 16 bits with colour divided by alpha."""
    alpha = planes[:, :, 3:].astype(np.uint32)
    colour = (planes[:, :, :3].astype(np.uint32) * 65535 + alpha // 2) // np.maximum(alpha, 1)
    return np.dstack([np.minimum(colour, 65535), alpha]).astype(np.uint16)


def _read_netpbm(image: Image.Image, raw: bytes) -> Deep | None:
    """Return PGM and PPM of a maxval above 255; other maxvals than 2**n - 1 are scaled to the next."""
    codec, _, offset, args = image.tile[0]  # type: ignore[attr-defined]
    most = 65535 if args == "I;16B" else args[1] if isinstance(args, tuple) else 255
    if most < 256 or image.mode == "F":
        return None
    shape = (image.height, image.width) if image.mode == "I" else (image.height, image.width, 3)
    count = int(np.prod(shape))
    if codec == "ppm_plain":
        words = re.sub(rb"#[^\r\n]*", b"", raw[offset:]).split()
        numbers = np.array(words[:count], np.int64)
    else:
        numbers = np.frombuffer(raw[offset : offset + 2 * count], ">u2")
    if len(numbers) < count:
        raise InputError(f"damaged image (expected {count} numbers, found {len(numbers)})")
    if count and not 0 <= numbers.min() <= numbers.max() <= most:
        raise InputError(f"damaged image (expected numbers up to {most}, found {numbers.max()})")
    depth = int(most).bit_length()
    wanted = (1 << depth) - 1
    if most != wanted:
        numbers = (numbers.astype(np.int64) * wanted + most // 2) // most
    return numbers.reshape(shape).astype(np.uint16), depth


def _read_sgi(image: Image.Image, raw: bytes) -> Deep:
    """Return an SGI file of two bytes a channel: planes, the last row first."""
    n_planes = max(int.from_bytes(raw[10:12], "big"), 1)
    shape = (n_planes, image.height, image.width)
    count = int(np.prod(shape))
    if raw[2]:
        rows = range(n_planes * image.height)
        numbers = np.concatenate([_run_lengths(raw, row, image.width) for row in rows])
    else:
        numbers = np.frombuffer(raw[512 : 512 + 2 * count], ">u2")
    if len(numbers) != count:
        raise InputError(f"damaged image (expected {count} numbers, found {len(numbers)})")
    planes = numbers.reshape(shape)[:, ::-1].astype(np.uint16)
    return planes[0] if n_planes == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0)), 16


def _run_lengths(raw: bytes, number: int, width: int) -> NDArray[np.uint16]:
    """Return a row of an SGI file: runs of a count, with 128 if as many numbers follow, else of one number so often."""
    n_rows = int.from_bytes(raw[8:10], "big") * max(int.from_bytes(raw[10:12], "big"), 1)
    start, length = (
        int.from_bytes(raw[at : at + 4], "big")
        for at in (512 + 4 * number, 512 + 4 * (n_rows + number))
    )
    words = np.frombuffer(raw[start : start + length // 2 * 2], ">u2")
    runs, at, room = [words[:0]], 0, width
    while at + 1 < len(words) and room > 0 and (count := int(words[at]) & 127):
        is_literal = bool(words[at] & 128)
        runs.append(
            words[at + 1 : at + 1 + count] if is_literal else words[at + 1 : at + 2].repeat(count)
        )
        at, room = at + 1 + (count if is_literal else 1), room - count
    return np.concatenate(runs)


def _read_coded(image: Image.Image, raw: bytes, form: str) -> Deep | None:
    """Return pictures of formats whose Pillow plugins cut colours to 8 bits."""
    depths = {"JPEG2000": _depth_of_j2k, "AVIF": _depth_of_avif, "JXL": _depth_of_jxl}
    depth = image.info.get("bit_depth", 8) if form == "HEIF" else depths[form](raw)
    if depth <= 8:
        return None
    if form == "HEIF":
        import pillow_heif

        file = pillow_heif.open_heif(BytesIO(raw), convert_hdr_to_8bit=False, hdr_to_16bit=False)
        return np.asarray(file[image.tell()]).astype(np.uint16), depth
    if form == "JPEG2000" and image.mode == "I;16":  # which Pillow shifts to 16 bits
        return (_loaded(image) >> (16 - depth)).astype(np.uint16), depth
    imagecodecs = _imagecodecs(form, depth)
    if form == "AVIF":
        planes = imagecodecs.avif_decode(raw, index=image.tell())
    elif form == "JXL":
        planes = imagecodecs.jpegxl_decode(raw)
        depth = 16
    else:
        if b"colr\1\0\0\0\0\0\x12" in raw[:4096]:
            raise InputError("sYCC of more than 8 bits: convert it first")
        planes = imagecodecs.jpeg2k_decode(raw)
    if planes.dtype != np.uint16 or planes.shape[:2] != (image.height, image.width):
        raise InputError(
            f"expected uint16 of {image.width}x{image.height}, found {planes.dtype} {list(planes.shape)}"
        )
    return planes, depth


def _depth_of_j2k(raw: bytes) -> int:
    """Return the most bits of any component, by SIZ (T.800, A.5.1)."""
    at = raw.find(b"\xff\x4f\xff\x51") + 2
    n_components = int.from_bytes(raw[at + 38 : at + 40], "big")
    return max(
        ((size & 127) + 1 for size in raw[at + 40 : at + 40 + 3 * n_components : 3]), default=8
    )


def _depth_of_avif(raw: bytes) -> int:
    """Return the most bits of any image in the file, by the av1C boxes: marker and version, profile, then flags."""
    flags = [found[1][0] for found in re.finditer(rb"av1C\x81.(.)", raw, re.DOTALL)]
    return max((12 if flag & 0x20 else 10 if flag & 0x40 else 8 for flag in flags), default=8)


def _depth_of_jxl(raw: bytes) -> int:
    """Return the bits of a JPEG XL file by its SizeHeader and ImageMetadata (ISO/IEC 18181-1, annex D).

    Raises:
        InputError: floats, an animation or a preview.
    """
    if raw[:2] != b"\xff\x0a":  # boxes
        box = re.search(rb"jxl(c|p....)(?=\xff\x0a)", raw, re.DOTALL)
        raw = raw[box.end() : box.end() + 64] if box else b"\xff\x0a\1"
    bits, at = int.from_bytes(raw[2:64], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return bits >> (at - count) & ((1 << count) - 1)

    def skip_size() -> None:
        is_small = take(1)
        take(5 if is_small else (9, 13, 18, 30)[take(2)])
        if not take(3):  # of the sides' ratio
            take(5 if is_small else (9, 13, 18, 30)[take(2)])

    skip_size()
    if take(1):  # all as usual
        return 8
    if take(1):
        take(3)  # orientation
        if take(1):
            skip_size()  # intrinsic
        if take(1) or take(1):
            raise InputError("JPEG XL with a preview or an animation: convert it first")
    if take(1):
        raise InputError("floats (JPEG XL): expected integers; convert it first")
    size = take(2)
    return (8, 10, 12)[size] if size < 3 else 1 + take(6)
