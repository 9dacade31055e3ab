"""Pictures -> image files: what a format cannot hold is refused, or said in a notice.

16 bits     PNG, TIFF, PPM: written here, since Pillow writes 8; other formats: rounded, with a notice
alpha       refused where a format has none, unless a background is given
lossy       JPEG, AVIF, HEIF: quality 95 unless another is asked for; WebP, JPEG XL: lossless unless one is
colours     GIF: 256 of them, with a notice; PGM and PBM: refused; ICO: up to 256x256
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncodec.errors import InputError, NcodecError
from ncodec.image.alpha import flattened
from ncodec.image.picture import Picture, of_depth, to_pillow
from ncodec.image.plugins import FORM_OF_SUFFIX, add_plugin, reason
from ncodec.metadata.pictures import fitted, options_for

PNG_LEVEL = 4  # of zlib: half the time of 6, Pillow's own, for 3 % more bytes
ROWS = 16  # of a 16-bit PNG that are filtered together

ALPHA = {
    "PNG",
    "TIFF",
    "WEBP",
    "AVIF",
    "JPEG2000",
    "HEIF",
    "JXL",
    "GIF",
    "ICO",
    "TGA",
    "QOI",
    "DDS",
    "SGI",
}
DEEP = {"PNG", "TIFF", "PPM"}
LOSSY = {"JPEG", "MPO", "AVIF", "HEIF", "PDF"}  # without a choice
LOSSY_IF_ASKED = {"WEBP", "JXL"}
QUALITY = 95  # of these, and of 100


def write(
    picture: Picture,
    target: IO[bytes],
    suffix: str,
    quality: int | None = None,
    background: tuple[int, int, int] | None = None,
) -> tuple[str, ...]:
    """Write a picture in the format of `suffix` (".png", ".jpg", …) with its metadata; return notices of what it could not hold.

    Args:
        picture: of any depth, with or without alpha.
        target: where to write.
        suffix: of the format.
        quality: of lossy formats, 1 to 100 as Pillow counts; None is 95, or lossless where the format can be.
        background: RGB of 8 bits that alpha is laid on; None keeps alpha.

    Raises:
        InputError: a format that we cannot write, or that cannot hold this picture; a quality that it does not have.
    """
    suffix = suffix.lower()
    form = _form_of(suffix)
    if quality is not None:
        _check_quality(form, suffix, quality)
    if background is not None:
        picture = flattened(picture, background)
    if picture.alpha is not None and form not in ALPHA:
        raise InputError(
            f"output {suffix!r}: cannot hold transparency: use .png, or --background COLOUR"
        )
    notices = []
    if picture.bit_depth > 8 and form not in DEEP:
        notices.append(f"{suffix} holds 8 bits a channel: {picture.bit_depth} are rounded")
        picture = of_depth(picture, 8)
    try:
        notices += _write(picture, target, form, suffix, quality)
    except (NcodecError, MemoryError):
        raise
    except Exception as error:  # of metadata that the format's plugin does not take, anything
        raise InputError(
            f"output {suffix!r}: cannot write {list(picture.pixels.shape)} pixels with their metadata ({reason(error)})"
        ) from error
    return tuple(notices)


def _form_of(suffix: str) -> str:
    """Return Pillow's name of a format."""
    if suffix in FORM_OF_SUFFIX:
        add_plugin(FORM_OF_SUFFIX[suffix])
    Image.preinit()
    if suffix not in Image.EXTENSION:
        Image.init()  # the rarer formats: a tenth of a second
    form = Image.EXTENSION.get(suffix)
    if form is None or form not in Image.SAVE or form == "ICNS" or suffix == ".pfm":
        raise InputError(f"output {suffix!r}: not a format that is written; use .png")
    return form


def _check_quality(form: str, suffix: str, quality: int) -> None:
    if form not in LOSSY | LOSSY_IF_ASKED:
        raise InputError(
            f"output {suffix!r}: has no quality: it is lossless, or has one way to be written"
        )
    if not 1 <= quality <= 100:
        raise InputError(f"output quality: expected 1 to 100, found {quality}")


def _write(
    picture: Picture, target: IO[bytes], form: str, suffix: str, quality: int | None
) -> list[str]:
    """Write what the format can hold; return notices."""
    picture, notices = fitted(picture, form)
    if form == "PPM":
        target.write(_netpbm(picture, suffix))
        return notices
    options = options_for(picture, form)
    if form == "JXL" and options.pop("icc_profile", None):
        notices.append("JXL is written without its colour profile, which the plugin cannot")
    if picture.bit_depth > 8:
        data = _png16(picture, options) if form == "PNG" else _tiff16(picture, options)
        target.write(data)
        return notices
    image = to_pillow(replace(picture, metadata={}))
    if form == "PNG":
        options["compress_level"] = PNG_LEVEL
    if form in LOSSY:
        options["quality"] = quality or QUALITY
    if form in LOSSY_IF_ASKED:
        options |= (
            {"lossless": True, "exact": True}
            if quality is None
            else {"quality": quality, "exact": True}
        )
    if form == "JPEG":
        options["subsampling"] = 0
    if form == "AVIF":
        options["subsampling"] = "4:4:4"
    if form == "HEIF":
        options["chroma"] = 444
    if form == "ICO":
        if max(image.size) > 256:
            raise InputError(
                f"output {suffix!r}: holds up to 256x256 pixels, found {image.width}x{image.height}"
            )
        options["sizes"] = [image.size]
    if form == "GIF":
        image, is_exact = _with_palette(picture)
        if not is_exact:
            notices.append(".gif holds 256 colours: others are replaced by the nearest")
    image.save(target, form, **options)
    return notices


def _with_palette(picture: Picture) -> tuple[Image.Image, bool]:
    """Return a picture of up to 256 colours, and whether they are all there were; alpha is all or nothing."""
    alpha, pixels = picture.alpha, picture.pixels
    if alpha is not None and not np.isin(alpha, (0, 255)).all():
        raise InputError(
            "output '.gif': cannot hold half transparency: use .png, or --background COLOUR"
        )
    colour = pixels if pixels.ndim == 3 else pixels[:, :, None].repeat(3, 2)
    if alpha is not None:
        colour = colour * (alpha > 0)[:, :, None]  # one for all that is not seen
    most = 256 if alpha is None else 255
    image = Image.fromarray(colour)
    is_exact = image.getcolors(most) is not None
    if is_exact:
        numbers = colour.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        found, indexes = np.unique(numbers, return_inverse=True)
        palette = (
            np.stack([found >> 16, found >> 8 & 255, found & 255], 1).astype(np.uint8).tobytes()
        )
        image = Image.fromarray(indexes.reshape(numbers.shape).astype(np.uint8))
        image.putpalette(palette)
    else:
        image = image.quantize(most)
    if alpha is not None:
        image.putpalette(bytes(image.getpalette() or ()).ljust(768, b"\0"))
        image.paste(255, mask=Image.fromarray(255 - alpha))
        image.info["transparency"] = 255
    return image, is_exact


def _netpbm(picture: Picture, suffix: str) -> bytes:
    """Return PGM of grey and PPM of colour, with a maxval of all the bits; PBM of black and white."""
    pixels = picture.pixels
    height, width = pixels.shape[:2]
    if suffix in (".pgm", ".pbm") and pixels.ndim == 3:
        raise InputError(f"output {suffix!r}: cannot hold colour: use .ppm")
    most = (1 << picture.bit_depth) - 1
    if suffix == ".pbm":
        if not np.isin(pixels, (0, most)).all():
            raise InputError("output '.pbm': cannot hold more than black and white: use .pgm")
        return b"P4\n%d %d\n" % (width, height) + np.packbits(pixels == 0, 1).tobytes()
    if suffix == ".ppm" and pixels.ndim == 2:
        pixels = pixels[:, :, None].repeat(3, 2)
    kind = b"P5" if pixels.ndim == 2 else b"P6"
    return (
        b"%s\n%d %d\n%d\n" % (kind, width, height, most)
        + pixels.astype(">u2" if most > 255 else "u1").tobytes()
    )


def _png16(picture: Picture, options: dict[str, Any]) -> bytes:
    """Return a PNG of 16 bits a channel: the chunks that Pillow writes around one pixel, with other IHDR and IDAT."""
    planes = of_depth(picture, 16).planes()
    planes = planes[:, :, None] if planes.ndim == 2 else planes
    height, width, n_channels = planes.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[n_channels]
    stream = BytesIO()
    Image.new("L" if n_channels < 3 else "RGB", (1, 1)).save(stream, "PNG", **options)
    around = stream.getvalue()
    out, at = [around[:8]], 8
    while at < len(around):
        end = at + 12 + int.from_bytes(around[at : at + 4], "big")
        name = around[at + 4 : at + 8]
        if name == b"IHDR":
            out.append(_chunk(name, struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)))
        elif name == b"IDAT":
            packer = zlib.compressobj(PNG_LEVEL)
            packed = [packer.compress(rows) for rows in _filtered(planes)]
            out.append(_chunk(name, b"".join(packed) + packer.flush()))
        else:
            out.append(around[at:end])
        at = end
    return b"".join(out)


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def _filtered(planes: NDArray[np.uint16]) -> Iterator[bytes]:
    """Yield PNG's filtered rows, some at a time: of the five filters the one of the least sum of absolute differences."""
    height, width, n_channels = planes.shape
    size = 2 * n_channels
    padded = np.zeros((ROWS + 1, size + width * size), np.uint8)  # a row above, a pixel to the left
    for top in range(0, height, ROWS):
        rows = planes[top : top + ROWS]
        n = len(rows)
        padded[1 : n + 1, size:] = rows.astype(">u2").view(np.uint8).reshape(n, -1)
        x, a = padded[1 : n + 1, size:], padded[1 : n + 1, :-size]
        b, c = padded[:n, size:], padded[:n, :-size]
        candidates = [x, x - a, x - b, x - ((a & b) + ((a ^ b) >> 1)), x - _paeth(a, b, c)]
        costs = [np.minimum(plane, -plane).sum(1, dtype=np.uint32) for plane in candidates]
        best = np.argmin(costs, 0)
        out = np.empty((n, 1 + width * size), np.uint8)
        for row, kind in enumerate(best):
            out[row, 0], out[row, 1:] = kind, candidates[kind][row]
        yield out.tobytes()
        padded[0] = padded[n]


def _paeth(a: NDArray[np.uint8], b: NDArray[np.uint8], c: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return which of left, up and upper left is nearest to left + up - upper left."""
    up, left = (plane.astype(np.int16) - c for plane in (b, a))
    to_a, to_b, to_c = abs(up), abs(left), abs(up + left)
    return np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))


def _tiff16(picture: Picture, options: dict[str, Any]) -> bytes:
    """Return a TIFF of 16 bits a channel: what Pillow writes of the same bytes as twice as wide, with two tags mended."""
    planes = of_depth(picture, 16).planes()
    if planes.ndim == 3 and planes.shape[2] == 2:
        planes = planes[:, :, [0, 0, 0, 1]]  # grey and alpha of 16 bits is what few programs read
    planes = np.ascontiguousarray(planes, "<u2")
    height, width = planes.shape[:2]
    stream = BytesIO()
    Image.fromarray(planes.view(np.uint8).reshape(height, 2 * width, *planes.shape[2:])).save(
        stream, "TIFF", **options
    )
    data = bytearray(stream.getvalue())
    (at,) = struct.unpack_from("<I", data, 4)
    (n_tags,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * n_tags, 12):
        tag, _, count = struct.unpack_from("<HHI", data, entry)
        if tag == 256:  # ImageWidth, as LONG
            struct.pack_into("<HII", data, entry + 2, 4, 1, width)
        elif tag == 258:  # BitsPerSample: SHORTs, in the entry where they fit
            where = entry + 8 if count < 3 else struct.unpack_from("<I", data, entry + 8)[0]
            struct.pack_into(f"<{count}H", data, where, *[16] * count)
    return bytes(data)
