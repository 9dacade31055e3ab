"""Pictures <-> files, Pillow, numpy and torch. Decisions about colour and modes live here.

    file --read---> Pillow --from_pillow--> Picture <--picture_of-- numpy, torch
    file <--write-- Pillow <--to_pillow---- Picture --as_kind-----> numpy, torch

A picture is RGB or grey, 8 bits a channel, in sRGB or in the space of its ICC profile, which travels
with it. What this version cannot carry (alpha, 16 bits, CMYK, animation) is refused where Pillow shows it.
"""

import sys
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ncodec.errors import InputError, NcodecError, needing

if TYPE_CHECKING:
    from torch import Tensor

PNG_LEVEL = 4  # of zlib: half the time of 6, Pillow's own, for 3 % more bytes
Kind = Literal["pillow", "numpy", "torch"]

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
    """Pixels [H, W, 3] or, grey, [H, W], and metadata by name ("icc", "exif", "xmp", "cicp", "phys").

    Pixels and alpha are uint8 of 8 bits, else uint16 below 2**bit_depth. Alpha is straight.
    """

    pixels: NDArray[Any]
    metadata: dict[str, bytes] = field(default_factory=dict)
    bit_depth: int = 8
    alpha: NDArray[Any] | None = None  # [H, W]; None: opaque
    notices: tuple[str, ...] = ()  # of what was converted or left out
    lost: int = (
        0  # payloads of a damaged file that are concealed: of tiles, or of ranges of their layers
    )
    skipped_bytes: int = 0  # bytes of a damaged file that belong to no sound chunk

    @property
    def channels(self) -> int:
        """Of colour: 1 or 3."""
        return 1 if self.pixels.ndim == 2 else 3

    def planes(self) -> NDArray[Any]:
        """Return pixels and alpha together: [H, W], [H, W, 2], [H, W, 3] or [H, W, 4]."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])

    def with_planes(self, planes: NDArray[Any]) -> "Picture":
        """Return the picture with other pixels and alpha, as `planes` gives them."""
        if planes.ndim == 2 or planes.shape[2] == 3:
            return replace(self, pixels=planes, alpha=None)
        colour = planes[:, :, 0] if planes.shape[2] == 2 else planes[:, :, :3]
        return replace(self, pixels=colour, alpha=planes[:, :, -1])


def picture_of(
    image: "Image.Image | NDArray[Any] | Tensor | Picture", bit_depth: int | None = None
) -> Picture:
    """Return the picture of whatever `encode` takes; `bit_depth`: of uint16 arrays, 16 where it is not given.

    Raises:
        InputError: not an image, not of 8 bits, of other channels than 1 or 3, or of no pixels.
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise InputError(
                f"image: expected at least 1x1 pixels, found {image.width}x{image.height}"
            )
        return from_pillow(image)
    torch: Any = sys.modules.get("torch")  # whoever has a tensor has imported it
    if not isinstance(image, np.ndarray) and torch and isinstance(image, torch.Tensor):
        image = _array_of(image)
    if not isinstance(image, np.ndarray):
        raise InputError(f"image: expected Pillow, numpy or torch, found {type(image).__name__}")
    if image.dtype not in (np.uint8, np.uint16) or not (
        image.ndim == 2 or (image.ndim == 3 and 1 <= image.shape[2] <= 4)
    ):
        raise InputError(
            "array: expected uint8 or uint16 [H, W] or [H, W, 1 … 4], "
            f"found {image.dtype} {list(image.shape)}"
        )
    if 0 in image.shape:
        raise InputError(f"image: expected at least 1x1 pixels, found {list(image.shape)}")
    depth = 8 if image.dtype == np.uint8 else bit_depth or 16
    if depth != 8 and not 9 <= depth <= 16:
        raise InputError(f"bit_depth: expected 9 to 16 of uint16, found {depth!r}")
    largest = (1 << depth) - 1
    if depth < 16 and image.max() > largest:
        raise InputError(f"array: expected values up to {largest}, found {image.max()}")
    planes = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    picture = Picture(planes, bit_depth=depth).with_planes(planes)
    is_opaque = picture.alpha is not None and bool((picture.alpha == largest).all())
    return replace(picture, alpha=None) if is_opaque else picture


def _array_of(image: "Tensor") -> NDArray[Any]:
    """Return a tensor [3, H, W], [1, H, W] or [H, W] as [H, W, 3] or [H, W], floats as uint8."""
    image = image.detach()
    if image.dim() not in (2, 3) or (image.dim() == 3 and image.shape[0] not in (1, 3)):
        raise InputError(
            f"tensor: expected [3, H, W], [1, H, W] or [H, W], found {list(image.shape)}"
        )
    if image.is_floating_point() and image.numel():
        if not (0 <= float(image.min()) and float(image.max()) <= 1):
            raise InputError("tensor: float pixels must lie in [0, 1]")
        image = (image * 255).round().byte()
    array = image.cpu().numpy()
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    return array if array.ndim == 2 else array.transpose(1, 2, 0)


def check_kind(kind: str) -> None:
    """Raise InputError unless `as_kind` knows it."""
    if kind not in ("pillow", "numpy", "torch"):
        raise InputError(f"kind: expected 'pillow', 'numpy' or 'torch', found {kind!r}")


def as_kind(picture: Picture, kind: Kind) -> "Image.Image | NDArray[np.uint8] | Tensor":
    """Return a picture as Pillow, numpy [H, W, 3] or [H, W], or torch [3, H, W] or [1, H, W]."""
    if kind == "pillow":
        return to_pillow(picture)
    if kind == "numpy":
        return picture.planes()
    with needing("kind 'torch'", "torch"):
        import torch
    pixels = torch.from_numpy(picture.planes())
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


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
    try:
        if (n_frames := getattr(image, "n_frames", 1)) > 1 and image.format != "MPO":
            raise InputError(f"{name}: expected one frame, found {n_frames}")
        image.load()  # ahead of `info`: PNG's text may stand after the pixels
        metadata = {
            "icc": image.info.get("icc_profile"),
            "exif": image.info.get("exif"),
            "xmp": image.info.get("xmp"),
        }
        if not metadata["exif"] and len(exif := without_layout(image.getexif())):
            metadata["exif"] = exif.tobytes()  # a TIFF's own tags
        if image.has_transparency_data:
            alpha = image.convert("LA" if image.mode in ("L", "LA") else "RGBA").getchannel("A")
            if alpha.getextrema() != (255, 255):
                raise InputError(
                    f"{name}: has transparency, which this version cannot carry: flatten it first"
                )
        image = image.convert(COLOUR_OF_MODE[image.mode])
    except (NcodecError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise anything on damaged files
        raise InputError(f"{name}: damaged image ({_reason(error)})") from error
    pixels = np.asarray(image)
    if metadata["exif"] and not metadata["exif"].startswith(EXIF_PREFIX):
        metadata["exif"] = EXIF_PREFIX + metadata["exif"]  # WebP has none, JPEG needs it
    kept = {key: value for key, value in metadata.items() if isinstance(value, bytes) and value}
    return Picture(pixels, kept)


def filled(picture: Picture) -> Picture:
    """Return a picture with colour that costs little where alpha is 0: what its surroundings fade into.

    From coarse to fine: means of squares of what is seen, at sides of 2, 4, …, fill what is not.
    """
    assert picture.alpha is not None
    seen = picture.alpha > 0
    if seen.all():
        return picture
    colour = picture.pixels.astype(np.float32).reshape(*seen.shape, -1)
    means = _filled(colour, seen.astype(np.float32)[:, :, None])
    mixed = np.where(seen[:, :, None], colour, means)
    return replace(
        picture, pixels=np.rint(mixed).astype(picture.pixels.dtype).reshape(picture.pixels.shape)
    )


def _filled(colour: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return colours [h, w, c], weighed by `weights` [h, w, 1] in 0 … 1; where these are low, those of a coarser plane."""
    height, width = weights.shape[:2]
    if max(height, width) == 1:
        return colour * (weights > 0)
    padding = [(0, height % 2), (0, width % 2), (0, 0)]
    weighed, sums = (
        np.pad(plane, padding).reshape(-(-height // 2), 2, -(-width // 2), 2, -1).sum((1, 3))
        for plane in (colour * weights, weights)
    )
    coarse = _filled(weighed / np.maximum(sums, 1e-6), np.minimum(sums, 1))
    fine = coarse.repeat(2, 0).repeat(2, 1)[:height, :width]
    return colour * weights + fine * (1 - weights)


def without_layout(exif: Image.Exif) -> Image.Exif:
    """Return EXIF data less the tags that only describe the TIFF file it was in."""
    for tag in LAYOUT_TAGS & set(exif):
        del exif[tag]
    return exif


def to_pillow(picture: Picture) -> Image.Image:
    """Return a Pillow image whose `info` holds the metadata under Pillow's names; of damage "concealed" and "skipped_bytes"."""
    image = Image.fromarray(picture.planes())
    for key, name in (("icc", "icc_profile"), ("exif", "exif"), ("xmp", "xmp")):
        if key in picture.metadata:
            image.info[name] = picture.metadata[key]
    if picture.lost or picture.skipped_bytes:
        image.info |= {"concealed": picture.lost, "skipped_bytes": picture.skipped_bytes}
    return image


def read(source: Path | IO[bytes], name: str) -> Picture:
    """Return the picture in a file that Pillow reads.

    Raises:
        InputError: the file cannot be read, or is not an image we can carry.
    """
    try:
        with warnings.catch_warnings():
            # Of large images, which our own limits are for, and of damage, which ends in an error or in none.
            warnings.simplefilter("ignore")
            with Image.open(source) as image:
                return from_pillow(image, name)
    except (NcodecError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{name}: not an image that Pillow can read") from error
    except OSError as error:
        raise InputError(f"{name}: {error.strerror or error}") from error
    except Exception as error:  # as above; n_frames and open raise, too
        raise InputError(f"{name}: damaged image ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Return what another library's exception says, by its name where it says nothing."""
    return str(error) or type(error).__name__


def write(picture: Picture, target: IO[bytes], suffix: str) -> None:
    """Write a picture in the format of `suffix` (".png", ".jpg", …) with its metadata.

    Raises:
        InputError: Pillow cannot write that format.
    """
    Image.preinit()
    if suffix.lower() not in Image.EXTENSION:
        Image.init()  # the rarer formats: a tenth of a second
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
    if form == "PNG":
        options["compress_level"] = PNG_LEVEL
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
    except MemoryError:
        raise
    except Exception as error:  # of metadata that the format's plugin does not take, anything
        raise InputError(
            f"output {suffix!r}: cannot write {list(picture.pixels.shape)} pixels with their metadata ({_reason(error)})"
        ) from error
