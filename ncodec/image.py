"""Pictures <-> arrays and metadata. Decisions about colour live here.

A picture is RGB or grey, 8 bits a channel, in sRGB or in the space of its ICC profile, which travels
with it. What this version cannot carry (alpha, 16 bits, CMYK, animation) is refused, never dropped.
"""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ncodec.errors import InputError

COLOUR_OF_MODE = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "RGB": "RGB",
    "RGBA": "RGB",
    "YCbCr": "RGB",
    "P": "RGB",
    "PA": "RGB",
}


EXIF_PREFIX = b"Exif\0\0"
# TIFF tags that say how the pixels lie in that file: size, depth, strips, tiles, JPEG tables, XMP, ICC.
LAYOUT_TAGS = {*range(254, 267), 273, *range(277, 282), 284, *range(290, 294), *range(317, 348)}
LAYOUT_TAGS |= {*range(512, 533), 700, 34377, 34675}


@dataclass(frozen=True)
class Picture:
    """8-bit pixels [H, W, 3] or, grey, [H, W], and metadata by name ("icc", "exif", "xmp")."""

    pixels: NDArray[np.uint8]
    metadata: dict[str, bytes] = field(default_factory=dict)


def from_pillow(image: Image.Image, name: str = "image") -> Picture:
    """Return the pixels and metadata of a Pillow image; palettes are expanded, opaque alpha dropped.

    Raises:
        InputError: transparency, more than 8 bits, CMYK, Lab or HSV, or several frames.
    """
    raw = " ".join(str(tile[3]) for tile in getattr(image, "tile", []))
    if ";16" in raw or image.mode.startswith(("I", "F")):
        raise InputError(
            f"{name}: expected 8 bits a channel, found mode {image.mode} {raw}: convert it first"
        )
    if image.mode not in COLOUR_OF_MODE:
        raise InputError(
            f"{name}: expected RGB, grey or palette, found mode {image.mode}: convert it first"
        )
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
        raise InputError(f"{name}: expected one frame, found {getattr(image, 'n_frames', 1)}")
    metadata = {
        "icc": image.info.get("icc_profile"),
        "exif": image.info.get("exif"),
        "xmp": image.info.get("xmp"),
    }
    try:
        image.load()
        if not metadata["exif"] and len(exif := without_layout(image.getexif())):
            metadata["exif"] = exif.tobytes()  # a TIFF's own tags
        if image.has_transparency_data:
            alpha = image.convert("LA" if image.mode in ("L", "LA") else "RGBA").getchannel("A")
            if alpha.getextrema() != (255, 255):
                raise InputError(
                    f"{name}: has transparency, which this version cannot carry: flatten it first"
                )
        image = image.convert(COLOUR_OF_MODE[image.mode])
    except (OSError, SyntaxError) as error:
        raise InputError(f"{name}: damaged image ({error})") from error
    pixels = np.asarray(image)
    if metadata["exif"] and not metadata["exif"].startswith(EXIF_PREFIX):
        metadata["exif"] = EXIF_PREFIX + metadata["exif"]  # WebP has none, JPEG needs it
    kept = {key: value for key, value in metadata.items() if isinstance(value, bytes) and value}
    return Picture(pixels, kept)


def without_layout(exif: Image.Exif) -> Image.Exif:
    """Return EXIF data less the tags that only describe the TIFF file it was in."""
    for tag in LAYOUT_TAGS & set(exif):
        del exif[tag]
    return exif


def to_pillow(picture: Picture) -> Image.Image:
    """Return a Pillow image whose `info` holds the metadata under Pillow's names."""
    image = Image.fromarray(picture.pixels)
    for key, name in (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp")):
        if key in picture.metadata:
            image.info[name] = picture.metadata[key]
    return image


def read(source: Path | IO[bytes], name: str) -> Picture:
    """Return the picture in a file that Pillow reads.

    Raises:
        InputError: the file cannot be read, or is not an image we can carry.
    """
    try:
        with warnings.catch_warnings():
            # Our own limits are larger than Pillow's warning, and are checked when encoding.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                return from_pillow(image, name)
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {error}") from error
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from error


def write(picture: Picture, target: IO[bytes], suffix: str) -> None:
    """Write a picture in the format of `suffix` (".png", ".jpg", …) with its metadata.

    Raises:
        InputError: Pillow cannot write that format.
    """
    Image.init()
    form = Image.EXTENSION.get(suffix.lower())
    if form is None or form not in Image.SAVE:
        raise InputError(f"output {suffix!r}: not a format that Pillow writes; use .png")
    image = to_pillow(picture)
    options: dict[str, Any] = {
        k: image.info[k] for k in ("icc_profile", "exif", "xmp") if k in image.info
    }
    if form == "PNG" and "xmp" in options:
        from PIL.PngImagePlugin import PngInfo

        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
        options["pnginfo"] = text
    if form == "JPEG":
        options |= {"quality": 95, "subsampling": 0}
    try:
        if form == "TIFF" and ("exif" in options or "xmp" in options):
            tags = Image.Exif()
            tags.load(options.get("exif", b""))
            options["exif"] = without_layout(tags)
            if "xmp" in options:
                tags[700] = options.pop("xmp")
        image.save(target, form, **options)
    except (OSError, ValueError, KeyError, SyntaxError) as error:
        raise InputError(
            f"output {suffix!r}: cannot write {list(picture.pixels.shape)} pixels with their metadata ({error})"
        ) from error
