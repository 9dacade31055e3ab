"""What a picture is, and pictures <-> numpy, torch, Pillow's images.

A picture is colour or grey of 8 to 16 bits a channel, with or without straight alpha, in sRGB or in the space that its
metadata say.
"""

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncodec.errors import InputError, WrongTypeError, needing
from ncodec.metadata.pictures import info_of

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["pillow", "numpy", "torch"]


@dataclass(frozen=True)
class Picture:
    """Pixels [H, W, 3] or, grey, [H, W]; alpha [H, W]; metadata by name ("icc", "exif", "xmp", "cicp", "phys").

    Pixels and alpha are uint8 of 8 bits, else uint16 below 2**bit_depth. Alpha is straight.
    """

    pixels: NDArray[Any]
    metadata: dict[str, bytes] = field(default_factory=dict)
    bit_depth: int = 8
    alpha: NDArray[Any] | None = None  # [H, W]; None: opaque
    notices: tuple[str, ...] = ()  # of what was converted or left out
    # payloads of a damaged file that are concealed: of tiles, or of ranges of their layers
    lost: int = 0
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


def of_planes(planes: NDArray[Any], bit_depth: int = 8) -> Picture:
    """Return the picture of [H, W] or [H, W, 1 to 4], alpha last; alpha that is opaque everywhere is dropped."""
    planes = planes[:, :, 0] if planes.ndim == 3 and planes.shape[2] == 1 else planes
    picture = Picture(planes, bit_depth=bit_depth).with_planes(planes)
    alpha = picture.alpha
    if alpha is not None:
        is_opaque = bool((alpha == (1 << bit_depth) - 1).all())
        alpha = None if is_opaque else np.ascontiguousarray(alpha)
    return replace(picture, pixels=np.ascontiguousarray(picture.pixels), alpha=alpha)


def picture_of(
    image: "Image.Image | NDArray[Any] | Tensor | Picture", bit_depth: int | None = None
) -> Picture:
    """Return the picture of whatever `encode` takes.

    Args:
        image: Pillow image; array [H, W] or [H, W, C] or tensor [H, W] or [C, H, W], alpha last of 1 to 4 channels,
            of uint8, uint16, or floats in [0, 1].
        bit_depth: of uint16 arrays (None: 16), whose values are below 2**bit_depth, or to round floats to (None: 8).

    Raises:
        WrongTypeError: no image, or of numbers that are none of these.
        InputError: of other channels, of no pixels, or of values that are out of range.
    """
    if isinstance(image, Picture):
        return image
    torch: Any = sys.modules.get("torch")  # whoever has a tensor has imported it
    is_tensor = torch is not None and isinstance(image, torch.Tensor)
    if not is_tensor and not isinstance(image, (np.ndarray, Image.Image)):
        raise WrongTypeError(
            f"image: expected Pillow, numpy or torch, found {type(image).__name__}"
        )
    if 0 in (image.size if isinstance(image, Image.Image) else image.shape):
        size = image.size if isinstance(image, Image.Image) else image.shape
        raise InputError(f"image: expected at least 1x1 pixels, found {list(size)}")
    if isinstance(image, Image.Image):
        from ncodec.image.reading import from_pillow

        if bit_depth is not None:
            raise InputError("bit_depth: of arrays alone; a Pillow image has its own")
        return from_pillow(image)
    if is_tensor:
        image = image.detach().cpu().numpy()  # type: ignore[union-attr]
        image = image.transpose(1, 2, 0) if image.ndim == 3 else image
    return _picture_of_array(image, bit_depth, "tensor" if is_tensor else "array")  # type: ignore[arg-type]


def _picture_of_array(array: NDArray[Any], bit_depth: int | None, what: str) -> Picture:
    shape = "[C, H, W]" if what == "tensor" else "[H, W, C]"
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        found = array.transpose(2, 0, 1) if what == "tensor" and array.ndim == 3 else array
        raise InputError(
            f"{what}: expected [H, W] or {shape} of 1 to 4 channels, found {list(found.shape)}"
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    is_float = np.issubdtype(array.dtype, np.floating)
    if not is_float and array.dtype not in (np.uint8, np.uint16):
        raise WrongTypeError(
            f"{what}: expected uint8, uint16 or floats in [0, 1], found {array.dtype}"
        )
    depth = bit_depth or (16 if array.dtype == np.uint16 else 8)
    if depth not in ((8,) if array.dtype == np.uint8 else range(8 if is_float else 9, 17)):
        raise InputError(
            f"bit_depth: {depth} is not that of {array.dtype} {what}s: uint8 has 8, uint16 9 to 16, floats any of them"
        )
    if is_float:
        if not (array.min() >= 0 and array.max() <= 1):
            raise InputError(f"{what}: float pixels must lie in [0, 1]")
        array = np.rint(array.astype(np.float64) * ((1 << depth) - 1))
        array = array.astype(np.uint8 if depth == 8 else np.uint16)
    if depth < 16 and (most := int(array.max())) >> depth:
        raise InputError(f"{what}: expected values below 2**{depth} (bit_depth), found {most}")
    return of_planes(array, depth)


def check_kind(kind: str) -> None:
    """Raise InputError unless `as_kind` knows it."""
    if kind not in ("pillow", "numpy", "torch"):
        raise InputError(f"kind: expected 'pillow', 'numpy' or 'torch', found {kind!r}")


def as_kind(picture: Picture, kind: Kind) -> "Image.Image | NDArray[Any] | Tensor":
    """Return a picture as Pillow (`to_pillow`), numpy [H, W] or [H, W, 2 to 4], or torch [1 to 4, H, W].

    Arrays are uint8, or uint16 of more than 8 bits, as stored: EXIF's orientation is not applied.
    """
    if kind == "pillow":
        return to_pillow(picture)
    if kind == "numpy":
        return picture.planes()
    with needing("kind 'torch'", "torch"):
        import torch
    pixels = torch.from_numpy(picture.planes())
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def to_depth(pixels: NDArray[Any], old: int, new: int) -> NDArray[Any]:
    """Return pixels of `old` bits as the nearest of `new` bits. Exact where `new` is more."""
    if old == new:
        return pixels
    most, wanted = (1 << old) - 1, (1 << new) - 1
    scaled = (pixels.astype(np.uint32) * np.uint32(wanted) + np.uint32(most // 2)) // np.uint32(
        most
    )
    return scaled.astype(np.uint8 if new == 8 else np.uint16)


def of_depth(picture: Picture, bit_depth: int) -> Picture:
    """Return a picture of another depth."""
    alpha = picture.alpha
    alpha = None if alpha is None else to_depth(alpha, picture.bit_depth, bit_depth)
    pixels = to_depth(picture.pixels, picture.bit_depth, bit_depth)
    return replace(picture, pixels=pixels, alpha=alpha, bit_depth=bit_depth)


def to_pillow(picture: Picture) -> Image.Image:
    """Return a Pillow image, of mode L, LA, RGB, RGBA or, grey of more than 8 bits, I;16 (scaled to 16).

    Other pictures of more than 8 bits are rounded to 8, all that Pillow has: `info["bit_depth"]` then says how many there were.
    `info` holds the metadata under Pillow's names; of damage "concealed" and "skipped_bytes".
    """
    is_deep = picture.bit_depth > 8
    is_deep_grey = is_deep and picture.channels == 1 and picture.alpha is None
    image = Image.fromarray(of_depth(picture, 16 if is_deep_grey else 8).planes())
    image.info.update(info_of(picture))
    if is_deep and not is_deep_grey:
        image.info["bit_depth"] = picture.bit_depth
    if picture.lost or picture.skipped_bytes:
        image.info |= {"concealed": picture.lost, "skipped_bytes": picture.skipped_bytes}
    return image
