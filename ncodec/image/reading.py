"""Files and Pillow's images -> pictures: modes, transparency, colour without a place in RGB, frames.

    L, RGB, P, 1, YCbCr                  as they are, palettes expanded
    LA, RGBA, PA, P and tRNS             colour and straight alpha; opaque alpha is dropped
    CMYK, YCCK, Lab                      to sRGB by their ICC profile, with a notice
    9 to 16 bits                         deep.py
    HSV, floats, 32 bits, CMYK without a profile, animations without a frame: refused

Whatever Pillow and its plugins raise is one error that names the file.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ncodec.container import Limits
from ncodec.errors import InputError, LimitError, NcodecError
from ncodec.image.deep import read_deep
from ncodec.image.picture import Picture, of_planes
from ncodec.image.plugins import add_plugin, reason
from ncodec.metadata import exif
from ncodec.metadata.pictures import of_image

COLOUR_OF_MODE = {
    **dict.fromkeys(("1", "L", "LA", "La"), "L"),
    **dict.fromkeys(("RGB", "RGBA", "RGBa", "RGBX", "YCbCr", "P", "PA"), "RGB"),
}


def read(source: Path | IO[bytes], name: str, frame: int | None = None) -> Picture:
    """Return the picture in a file that Pillow reads.

    Args:
        source: path or open file.
        name: that errors begin with.
        frame: which picture of an animation or of pages, counted from 0.

    Raises:
        InputError: the file cannot be read, or is not an image we can carry.
        LimitError: larger than what decoders accept.
    """
    with _naming(name), _our_limit(), warnings.catch_warnings():
        # Of large images, which our own limits are for, and of damage, which ends in an error or in none.
        warnings.simplefilter("ignore")
        raw = source.read_bytes() if isinstance(source, Path) else source.read()
        with _open(raw) as image:
            _choose_frame(image, frame)
            return _picture_of(image, raw)


def from_pillow(image: Image.Image, name: str = "image") -> Picture:
    """Return the pixels and metadata of a Pillow image; what is not loaded yet may have more than 8 bits.

    Raises:
        InputError: of a mode we cannot carry, or of several frames.
        LimitError: larger than what decoders accept.
    """
    with _naming(name), _our_limit():
        _choose_frame(image, None)
        return _picture_of(image, _file_of(image))


def _picture_of(image: Image.Image, raw: bytes) -> Picture:
    """Return the picture of one frame; of what Pillow hides, the file tells."""
    limits = Limits()
    if max(image.size) > limits.side or image.width * image.height > limits.pixels:
        raise LimitError(
            f"{image.width}x{image.height}: limited to {limits.pixels} pixels and sides of {limits.side}"
        )
    is_premultiplied = image.mode in ("La", "RGBa") or "RGBa" in str(getattr(image, "tile", ""))
    deep = read_deep(image, raw)
    if deep is None:
        image.load()  # ahead of `info`: PNG's text may stand after the pixels
    kept, left_out = of_image(image, raw)
    if image.format == "JXL" and "exif" in kept:
        kept["exif"] = exif.upright(kept["exif"])  # the decoder has turned the pixels
    notices = []
    if is_premultiplied:
        notices.append("premultiplied alpha is converted to straight alpha")
    if image.mode in ("CMYK", "LAB"):
        notices.append(f"{image.mode} is converted to sRGB of 8 bits")
        image = _in_srgb(image)
        kept = {key: value for key, value in kept.items() if key not in ("icc", "cicp")}
    planes, depth = deep or (_planes_of(image, raw), 8)
    return replace(of_planes(planes, depth), metadata=kept, notices=(*notices, *left_out))


def _planes_of(image: Image.Image, raw: bytes) -> NDArray[np.uint8]:
    """Return [H, W] or [H, W, 2 to 4], alpha last, of an image of 8 bits or fewer."""
    if image.mode not in COLOUR_OF_MODE:
        raise InputError(
            f"expected RGB, grey or palette, found mode {image.mode}: convert it first"
        )
    colour = COLOUR_OF_MODE[image.mode]
    key = image.info.get("transparency")
    if isinstance(key, int) and colour == "L":  # PNG's tRNS, in steps of the file's own depth
        key *= (
            255 // ((1 << raw[24]) - 1)
            if image.format == "PNG" and image.mode == "L" and raw
            else 1
        )
        grey = np.asarray(image.convert("L"))
        return np.dstack([grey, np.where(grey == key, 0, 255).astype(np.uint8)])
    if image.mode == "La":
        image = image.convert("LA")
    return np.asarray(image.convert(colour + "A" if image.has_transparency_data else colour))


def _in_srgb(image: Image.Image) -> Image.Image:
    """Return a CMYK image in sRGB by its ICC profile; Lab needs none.

    Raises:
        InputError: CMYK has no profile.
    """
    from PIL import ImageCms

    icc = image.info.get("icc_profile")
    if image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif icc:
        source = ImageCms.ImageCmsProfile(BytesIO(icc))
    else:
        raise InputError(
            "CMYK without an ICC profile, so that its colours are unknown: convert it to RGB first "
            "(a JPEG file is kept whole by --jpeg)"
        )
    converted = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert converted is not None
    return converted


def _choose_frame(image: Image.Image, frame: int | None) -> None:
    """Go to the frame that is meant.

    Raises:
        InputError: there are several and none is said, or it is not there.
    """
    # A PSD opens with all of its layers together, which are no frames.
    n_frames = 1 if image.format == "PSD" else getattr(image, "n_frames", 1)
    if frame is None and n_frames > 1 and not _is_first_of_its_kind(image, n_frames):
        raise InputError(
            f"expected one frame, found {n_frames}: --frame N takes one of 0 to {n_frames - 1} (in Python a copy() of it)"
        )
    if frame is not None and not 0 <= frame < n_frames:
        raise InputError(f"frame: expected 0 to {n_frames - 1}, found {frame}")
    if frame:
        image.seek(frame)


def _is_first_of_its_kind(image: Image.Image, n_frames: int) -> bool:
    """Return whether the other frames are views and thumbnails (MPO), or smaller copies (TIFF: NewSubfileType)."""
    if image.format != "TIFF":
        return image.format == "MPO"
    for frame in range(1, n_frames):
        image.seek(frame)
        if not image.tag_v2.get(254, 0) & 1:  # type: ignore[attr-defined]
            return False
    image.seek(0)
    return True


def _open(raw: bytes) -> Image.Image:
    """Return a file as Pillow opens it, with its plugins for HEIF and JPEG XL where they are installed."""
    try:
        return Image.open(BytesIO(raw))
    except UnidentifiedImageError:
        if raw[4:8] == b"ftyp":
            form = "HEIF"
        elif raw[:2] == b"\xff\x0a" or raw[4:8] == b"JXL ":
            form = "JPEG XL"
        else:
            raise
    add_plugin(form)
    return Image.open(BytesIO(raw))


def _file_of(image: Image.Image) -> bytes:
    """Return the file of an image that is not loaded yet; b"" where it is, or there is none."""
    file = getattr(image, "fp", None)
    if file is None or getattr(image, "_im", None) is not None:
        return b""
    with suppress(OSError, ValueError):
        position = file.tell()
        file.seek(0)
        raw: bytes = file.read()
        file.seek(position)
        return raw
    return b""


_limit_lock = threading.Lock()
_limit_depth = 0
_limit_before: int | None = None


@contextmanager
def _our_limit() -> Iterator[None]:
    """Raise Pillow's limit of pixels to ours meanwhile.

    It is one for all threads: the first to come raises it, the last to leave restores it.
    """
    global _limit_depth, _limit_before
    with _limit_lock:
        if _limit_depth == 0:
            _limit_before = Image.MAX_IMAGE_PIXELS
            if _limit_before is not None:  # what is twice as large is an error
                Image.MAX_IMAGE_PIXELS = max(_limit_before, Limits().pixels // 2)
        _limit_depth += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_depth -= 1
            if _limit_depth == 0:
                Image.MAX_IMAGE_PIXELS = _limit_before


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Make whatever is raised an error that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except NcodecError as error:
        raise type(error)(f"{name}: {error}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise LimitError(f"{name}: {error}") from error
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from error
    except Exception as error:  # Pillow's plugins raise anything on damaged files
        raise InputError(f"{name}: damaged image ({reason(error)})") from error
