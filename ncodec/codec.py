"""encode(image) -> bytes, decode(bytes) -> image.

    encode   image --> Picture --> tiles --family's codec--> payloads --> container
    decode   container --> limits, family, weights --> tiles --family's codec--> Picture --> image

The arithmetic of a tile is its family's (models/protocol.py); torch is imported for `device="cuda"`,
`kind="torch"` and a family's efforts that need it only.
"""

from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncodec import container, families
from ncodec.container import Container, Header, Limits
from ncodec.errors import InputError, named
from ncodec.families import Family, family_by_id
from ncodec.image import Kind, Picture, as_kind, check_kind, picture_of
from ncodec.models.jpeg import codec as jpeg
from ncodec.models.load import find_device, load_by_name, load_for
from ncodec.models.protocol import options_of
from ncodec.quality import quality_code
from ncodec.tiles import OpenFile, decode_files, tile_for

if TYPE_CHECKING:
    from torch import Tensor


def encode(
    image: "Image.Image | NDArray[np.uint8] | Tensor | Picture",
    quality: float = 4,
    model: str | Path | None = None,
    device: str = "cpu",
    tile: int | None = None,
    effort: int | None = None,
    tune: str | None = None,
    **choices: Any,
) -> bytes:
    """Return an image as the bytes of an `.nc` file.

    Args:
        image: Pillow image (its ICC, EXIF and XMP travel along); numpy uint8 [H, W, 3] or [H, W];
            torch uint8, or float in [0, 1], [3, H, W], [1, H, W] or [H, W]. Any size from 1x1.
        quality: 1 (smallest) to 8 (best), fractions allowed, to the nearest 0.05.
        model: name of a shipped model or path of a weights file; None is the default model.
        device: "cpu" or "cuda", which needs torch. Files from any device decode on any other.
        tile: side of the tile grid (pixels, at least 64), 0 for one tile; None tiles large images.
        effort: more is slower and smaller, where the model's family has efforts; None is the usual one.
        tune: what errors are weighed by: "visual" or "psnr", where the model comes in both; None is the usual one.
        choices: others of the family's encoder, such as `transform="angle"` (specs/guide.md).

    Raises:
        InputError: an image, quality, device, tune or option we cannot work with.
        LimitError: the image is larger than decoders accept.
        UnknownModelError, WeightsMismatchError: the model cannot be had.
    """
    loaded = load_by_name(model, device, tune)
    given = {"effort": effort, **choices}
    options = options_of(loaded.family.load().Options, loaded.name, given)
    picture = picture_of(image)
    height, width = picture.pixels.shape[:2]
    code = quality_code(quality) if loaded.family.has_quality else 0
    layers, ranges = loaded.layout(code, options)
    side = tile_for(width, height, tile)
    header = Header(
        width=width,
        height=height,
        family=loaded.family.wire_id,
        weights_digest=loaded.digest,
        quality_code=code,
        is_grey=picture.channels == 1,
        tile=side,
        overlap=loaded.codec.OVERLAP if side else 0,
        is_layered=loaded.family.is_layered,
        layers=layers,
        ranges=ranges,
        is_second=options.is_second,
    )
    container.check_limits(header, Limits())
    _check_memory(header, loaded.family, Limits())
    tiles = [
        loaded.codec.encode_tile(picture.pixels[top:bottom, left:right], code, options)
        for left, top, right, bottom in header.tile_boxes()
    ]
    return container.write(Container(header, tiles, picture.metadata))


def _check_memory(header: Header, family: Family, limits: Limits) -> None:
    container.check_memory(header, family.stride, family.bytes_a_pixel, limits)


def _decode_named(
    files: list[tuple[str, bytes]],
    model: str | Path | None,
    device: str,
    limits: Limits,
    stages: int | None = None,
    conceal: bool = False,
) -> list[Picture]:
    """Return the pictures of files, each with the name that goes ahead of its errors' messages."""
    pictures: dict[int, Picture] = {}
    tiled: dict[int, OpenFile] = {}
    for number, (name, data) in enumerate(files):
        with named(name):
            parsed = container.read(data, limits, stages, conceal)
            family = family_by_id(parsed.header.family)
            if stages is not None and not family.is_layered:
                layered = ", ".join(known.name for known in families.FAMILIES if known.is_layered)
                raise InputError(
                    f"stages: expected a file in layers, of family {layered}, found one of family {family.name}, "
                    "which is decoded whole: leave stages (--stages) out"
                )
            _check_memory(parsed.header, family, limits)
            if family.holds == "file":
                find_device(device)
                pictures[number] = family.load().picture_of(parsed, limits)
            else:
                loaded = load_for(parsed.header, model, device)
                room = limits.memory_bytes - container.memory_of_image(parsed.header)
                most = min(loaded.codec.batch_pixels, room // family.bytes_a_pixel)
                tiled[number] = OpenFile(name, parsed, loaded.codec, family.stride, most)
    pictures |= zip(tiled, decode_files(list(tiled.values())), strict=True)
    return [pictures[number] for number in range(len(files))]


def check_stages(stages: int | None) -> None:
    """Raise InputError unless it is a number of stages, or None for all of them."""
    is_number = isinstance(stages, Integral) and not isinstance(stages, bool) and stages >= 1
    if stages is not None and not is_number:
        raise InputError(f"stages: expected an integer of at least 1, found {stages!r}")


def decode_picture(
    data: bytes,
    model: str | Path | None = None,
    device: str = "cpu",
    limits: Limits = Limits(),
    stages: int | None = None,
    conceal: bool = False,
) -> Picture:
    """Return the pixels and metadata of a file; see `decode`."""
    check_stages(stages)
    return _decode_named([("", data)], model, device, limits, stages, conceal)[0]


@overload
def decode(
    data: bytes,
    kind: Literal["pillow"] = ...,
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
    stages: int | None = ...,
    conceal: bool = ...,
) -> Image.Image: ...
@overload
def decode(
    data: bytes,
    kind: Literal["numpy"],
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
    stages: int | None = ...,
    conceal: bool = ...,
) -> NDArray[np.uint8]: ...
@overload
def decode(
    data: bytes,
    kind: Literal["torch"],
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
    stages: int | None = ...,
    conceal: bool = ...,
) -> "Tensor": ...
def decode(
    data: bytes,
    kind: Kind = "pillow",
    model: str | Path | None = None,
    device: str = "cpu",
    limits: Limits = Limits(),
    stages: int | None = None,
    conceal: bool = False,
) -> "Image.Image | NDArray[np.uint8] | Tensor":
    """Return the image in the bytes of an `.nc` file.

    Args:
        data: the whole file.
        kind: "pillow" (with ICC, EXIF and XMP in `info`), "numpy" uint8 [H, W, 3] or [H, W], or
            "torch" uint8 [3, H, W] or [1, H, W].
        model: weights file, needed only for models that are not shipped.
        device: "cpu" or "cuda", which needs torch. The pixels are the same.
        limits: what to accept, checked before allocating.
        stages: of a layered family (specs/guide.md), how many of them to decode, at most: a coarser picture, from
            the beginning of the file alone. None: all.
        conceal: decode what is left of a file that is damaged or cut. A Pillow image's `info` then has "concealed",
            how many tiles or ranges of their layers are lost, and "skipped_bytes", the bytes of no sound chunk.

    Raises:
        BadMagicError, UnsupportedVersionError, TruncatedError, ChecksumError, CorruptPayloadError:
            not a file that we can decode.
        LimitError: larger than `limits`.
        UnknownModelError, WeightsMismatchError: the weights cannot be had.
        InputError: `kind` or `device` is not one of those above, or is not there; `stages` of a family without.
    """
    check_kind(kind)
    return as_kind(decode_picture(data, model, device, limits, stages, conceal), kind)


def decode_batch(
    files: list[bytes],
    kind: Kind = "pillow",
    model: str | Path | None = None,
    device: str = "cpu",
    limits: Limits = Limits(),
) -> "list[Image.Image] | list[NDArray[np.uint8]] | list[Tensor]":
    """Return the images in the bytes of several `.nc` files, in their order.

    Images of equal size, model and quality are decoded together, which is faster on a GPU: the pixels
    are those of `decode`.

    Args:
        files: the whole files.
        kind: of each image, as in `decode`.
        model: weights file, needed only for models that are not shipped.
        device: "cpu" or "cuda".
        limits: what to accept of each file, checked before allocating.

    Raises:
        NcodecError: those of `decode`; the message starts with the place of the file in the list.
    """
    check_kind(kind)
    find_device(device)
    if not isinstance(files, (list, tuple)):
        raise InputError(f"files: expected a list of files' bytes, found {type(files).__name__}")
    named_files = [(f"file {i}: ", data) for i, data in enumerate(files)]
    pictures = _decode_named(named_files, model, device, limits)
    return [as_kind(picture, kind) for picture in pictures]  # type: ignore[return-value]


def encode_jpeg(data: bytes) -> bytes:
    """Return a JPEG file as the bytes of an `.nc` file, from which `decode_jpeg` makes the same file.

    That is tried before returning. `decode` returns the image that is in it.

    Args:
        data: the whole JPEG file: 8 bits, Huffman coding, baseline or progressive.

    Raises:
        InputError: not such a file.
        LimitError: the image is larger than decoders accept.
    """
    return jpeg.pack(data)


def decode_jpeg(data: bytes, limits: Limits = Limits()) -> bytes:
    """Return the JPEG file that `encode_jpeg` was given, byte for byte.

    Args:
        data: the whole `.nc` file.
        limits: what to accept, checked before allocating.

    Raises:
        FormatError, LimitError: as `decode`.
        InputError: a file of another family.
    """
    return jpeg.read(data, limits)
