"""encode(image) -> bytes, decode(bytes) -> image: tiles, grey, what is decoded together.

The arithmetic of a tile is its family's (models/registry.py); torch is imported only where a family,
a tensor or `kind="torch"` needs it. Large images are cut into tiles, so that memory stays bounded. Tiles
may overlap to the right and below, where the decoder fades from one into the next.
"""

import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ncodec import container
from ncodec.container import Container, Header, Limits
from ncodec.errors import InputError, NcodecError, WeightsMismatchError, named
from ncodec.image import Picture, from_pillow, to_pillow
from ncodec.models import jpeg, weights
from ncodec.models.registry import Codec, Family, family_by_id

if TYPE_CHECKING:
    from torch import Tensor

TILE = 2048  # pixels
Kind = Literal["pillow", "numpy", "torch"]


@lru_cache(maxsize=4)
def _load(path: Path, mtime_ns: int, device: str) -> weights.LoadedModel:
    return weights.load(path, device)


@lru_cache(maxsize=16)
def _family_of(path: Path, mtime_ns: int) -> Family:
    return weights.family_of(path)


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {device!r}: expected 'auto', 'cpu' or 'cuda'")


def find_device(device: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda". Imports torch.

    Raises:
        InputError: not one of these, or not there.
    """
    _check_device(device)
    import torch

    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise InputError("device 'cuda': not available; expected 'auto', 'cpu' or a working 'cuda'")
    if device == "auto":
        return "cuda" if has_cuda else "cpu"
    return device


def load_model(path: Path, device: str = "auto") -> weights.LoadedModel:
    """Return a model, loaded once per file and device.

    Args:
        path: weights file.
        device: "cpu", "cuda" or "auto" (CUDA where there is one); all the same to a family without torch.

    Raises:
        InputError: no such file or device.
        WeightsMismatchError: the file is damaged or not ours.
    """
    _check_device(device)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    mtime_ns = path.stat().st_mtime_ns
    needs_torch = _family_of(path, mtime_ns).needs_torch
    return _load(path, mtime_ns, find_device(device) if needs_torch else "cpu")


def _as_picture(image: "Image.Image | NDArray[np.uint8] | Tensor | Picture") -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, Image.Image):
        return from_pillow(image)
    torch: Any = sys.modules.get("torch")  # whoever has a tensor has imported it
    if not isinstance(image, np.ndarray) and torch and isinstance(image, torch.Tensor):
        image = _as_array(image)
    if not isinstance(image, np.ndarray):
        raise InputError(f"image: expected Pillow, numpy or torch, found {type(image).__name__}")
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    ):
        raise InputError(
            f"array: expected uint8 [H, W, 3] or [H, W], found {image.dtype} {list(image.shape)}"
        )
    return Picture(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _as_array(image: "Tensor") -> NDArray[Any]:
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


def encode(
    image: "Image.Image | NDArray[np.uint8] | Tensor | Picture",
    quality: float = 4,
    model: str | Path | None = None,
    device: str = "auto",
    tile: int | None = None,
) -> bytes:
    """Return an image as the bytes of an `.nc` file.

    Args:
        image: Pillow image (its ICC, EXIF and XMP travel along); numpy uint8 [H, W, 3] or [H, W];
            torch uint8, or float in [0, 1], [3, H, W], [1, H, W] or [H, W]. Any size from 1x1.
        quality: 1 (smallest) to 8 (best), fractions allowed, to the nearest 0.05.
        model: name of a shipped model or path of a weights file; None is the default model.
        device: "auto", "cpu" or "cuda". Files from any device decode on any other.
        tile: side of the tile grid (pixels, at least 64), 0 for one tile; None tiles large images.

    Raises:
        InputError: an image, quality or device we cannot work with.
        LimitError: the image is larger than decoders accept.
        UnknownModelError, WeightsMismatchError: the model cannot be had.
    """
    return encode_with(load_model(weights.find_by_name(model), device), image, quality, tile)


def encode_with(
    loaded: weights.LoadedModel,
    image: "Image.Image | NDArray[np.uint8] | Tensor | Picture",
    quality: float,
    tile: int | None = None,
) -> bytes:
    """Return an image as the bytes of an `.nc` file, as `encode` does, by a model that is loaded already."""
    picture = _as_picture(image)
    code = container.quality_code(quality)
    if 0 in picture.pixels.shape:
        raise InputError(f"image: expected at least 1x1 pixels, found {list(picture.pixels.shape)}")
    if tile is not None and (tile < 0 or 0 < tile < 64):
        raise InputError(f"tile: expected 0 or at least 64 pixels, found {tile}")
    height, width = picture.pixels.shape[:2]
    if tile is None:
        tile = TILE if max(height, width) > TILE + TILE // 2 else 0
    if tile >= max(height, width):
        tile = 0
    header = Header(
        width,
        height,
        loaded.wire_id,
        loaded.digest,
        code,
        picture.pixels.ndim == 2,
        tile,
        loaded.codec.OVERLAP if tile else 0,
    )
    container.check_limits(header, Limits())
    tiles = [
        loaded.codec.encode_tile(picture.pixels[top:bottom, left:right], code)
        for left, top, right, bottom in header.tile_boxes()
    ]
    return container.write(Container(header, tiles, picture.metadata))


class _File(NamedTuple):
    """A parsed file and what decodes it."""

    name: str  # "" or "file 3: ", ahead of the messages of errors
    container: Container
    codec: Codec | None  # None: a JPEG file
    limits: Limits


class _Tile(NamedTuple):
    file: _File
    codec: Codec
    canvas: NDArray[np.uint8]  # of the whole image, [H, W, 3] or [H, W]
    left: int  # pixels
    top: int
    width: int
    height: int
    payload: bytes


def _open(data: bytes, name: str, model: str | Path | None, device: str, limits: Limits) -> _File:
    with named(name):
        parsed = container.read(data, limits)
        header = parsed.header
        family = family_by_id(header.family)
        if not family.has_weights:
            _check_device(device)
            return _File(name, parsed, None, limits)
        path = (
            weights.find_by_digest(header.weights_digest)
            if model is None
            else weights.find_by_name(model)
        )
        loaded = load_model(path, device)
        if (loaded.digest, loaded.wire_id) != (header.weights_digest, family.wire_id):
            raise WeightsMismatchError(
                f"{path}: file was made with weights {header.weights_digest.hex()} of family {family.name}, "
                f"this is {loaded.digest.hex()}"
            )
        return _File(name, parsed, loaded.codec, limits)


def decode_picture(
    data: bytes, model: str | Path | None = None, device: str = "auto", limits: Limits = Limits()
) -> Picture:
    """Return the pixels and metadata of a file; see `decode`."""
    return _decode_files([_open(data, "", model, device, limits)])[0]


def _decode_files(files: list[_File]) -> list[Picture]:
    """Return the pixels and metadata of files.

    Tiles of equal size, weights and quality are decoded together, whichever files they are from. Those
    of a tiled image must be faded into it in order: they wait for no others than those of their row.
    """
    groups: dict[object, list[_Tile]] = {}
    pictures: list[Picture] = []
    for position, file in enumerate(files):
        header, codec = file.container.header, file.codec
        if codec is None:
            with named(file.name):
                pictures.append(jpeg.picture_of(file.container, file.limits))
            continue
        is_grey = header.is_grey and codec.CODES_GREY
        shape = (header.height, header.width, 3)
        canvas = np.empty(shape[:2] if is_grey else shape, np.uint8)
        pictures.append(Picture(canvas, file.container.metadata))
        for box, payload in zip(header.tile_boxes(), file.container.tiles, strict=True):
            left, top, right, bottom = box
            size = (right - left, bottom - top)
            row = (position, top) if header.tile else None
            tile = _Tile(file, codec, canvas, left, top, *size, payload)
            key = (id(codec), header.quality_code, is_grey, size, row)
            groups.setdefault(key, []).append(tile)
    for tiles in groups.values():
        most = max(tiles[0].codec.batch_pixels // (tiles[0].width * tiles[0].height), 1)
        for first in range(0, len(tiles), most):
            _decode_tiles(tiles[first : first + most])
    return [
        Picture(_grey(picture.pixels), picture.metadata)
        if file.container.header.is_grey
        else picture
        for file, picture in zip(files, pictures, strict=True)
    ]


def _grey(canvas: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one channel [H, W] of a grey image that was coded as three, or as one."""
    if canvas.ndim == 2:
        return canvas
    canvas[:, :, 0] = (canvas.sum(2, dtype=np.uint16) + 1) // 3
    return canvas[:, :, 0].copy()


def _decode_tiles(tiles: list[_Tile]) -> None:
    """Decode tiles of equal size, weights and quality, and put them on their canvases."""
    file, width, height = tiles[0].file, tiles[0].width, tiles[0].height
    header = file.container.header
    with named(file.name if len(tiles) == 1 else ""):
        try:
            decoded = tiles[0].codec.decode_tiles(
                [tile.payload for tile in tiles],
                width,
                height,
                header.quality_code,
                is_grey=tiles[0].canvas.ndim == 2,
                is_faded=header.overlap > 0,
            )
        except NcodecError:
            if len(tiles) == 1:
                raise
            for tile in tiles:  # alone, the one that is damaged raises an error with its name
                _decode_tiles([tile])
            return
    for tile, pixels in zip(tiles, decoded, strict=True):
        area = tile.canvas[tile.top : tile.top + height, tile.left : tile.left + width]
        if header.overlap:
            _fade(area, pixels, header.overlap * (tile.left > 0), header.overlap * (tile.top > 0))
        else:
            area[:] = pixels


def _fade(area: NDArray[np.uint8], tile: NDArray[Any], left: int, top: int) -> None:
    """Draw a tile on its area, fading it in over its first `left` columns and `top` rows (F26)."""
    height, width = area.shape[:2]
    fade = _ramp(height, top)[:, None] * _ramp(width, left)
    fade = fade.reshape(height, width, *[1] * (area.ndim - 2))
    for at in (np.s_[:top], np.s_[top:, :left]):
        before, after, weight = area[at].astype(np.float32), tile[at], fade[at]
        is_low = weight < 0.5
        start, weight = np.where(is_low, before, after), np.where(is_low, weight, weight - 1)
        # Rounded to float32 once, after the sum: the fused multiply-add of torch.lerp.
        faded = start + weight.astype(np.float64) * (after - before)
        area[at] = np.rint(faded.astype(np.float32))
    area[top:, left:] = np.rint(tile[top:, left:], dtype=np.float32)


def _ramp(length: int, overlap: int) -> NDArray[np.float32]:
    """Return the weight of a tile along one axis [length]: rises over its first `overlap` pixels."""
    weight = np.ones(length, np.float32)
    weight[:overlap] = ((np.arange(overlap, dtype=np.float32) + 0.5) / overlap)[:length]
    return weight


@overload
def decode(
    data: bytes,
    kind: Literal["pillow"] = ...,
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
) -> Image.Image: ...
@overload
def decode(
    data: bytes,
    kind: Literal["numpy"],
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
) -> NDArray[np.uint8]: ...
@overload
def decode(
    data: bytes,
    kind: Literal["torch"],
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
) -> "Tensor": ...
def decode(
    data: bytes,
    kind: Kind = "pillow",
    model: str | Path | None = None,
    device: str = "auto",
    limits: Limits = Limits(),
) -> "Image.Image | NDArray[np.uint8] | Tensor":
    """Return the image in the bytes of an `.nc` file.

    Args:
        data: the whole file.
        kind: "pillow" (with ICC, EXIF and XMP in `info`), "numpy" uint8 [H, W, 3] or [H, W], or
            "torch" uint8 [3, H, W] or [1, H, W].
        model: weights file, needed only for models that are not shipped.
        device: "auto", "cpu" or "cuda". Latents are the same everywhere, pixels to within 1.
        limits: what to accept, checked before allocating.

    Raises:
        BadMagicError, UnsupportedVersionError, TruncatedError, ChecksumError, CorruptPayloadError:
            not a file that we can decode.
        LimitError: larger than `limits`.
        UnknownModelError, WeightsMismatchError: the weights cannot be had.
        InputError: `kind` or `device` is not one of those above.
    """
    _check_kind(kind)
    return _as_kind(decode_picture(data, model, device, limits), kind)


def decode_batch(
    files: list[bytes],
    kind: Kind = "pillow",
    model: str | Path | None = None,
    device: str = "auto",
    limits: Limits = Limits(),
) -> "list[Image.Image] | list[NDArray[np.uint8]] | list[Tensor]":
    """Return the images in the bytes of several `.nc` files, in their order.

    Images of equal size, model and quality are decoded together, which is faster on a GPU: the pixels
    are those of `decode` to within 1.

    Args:
        files: the whole files.
        kind: of each image, as in `decode`.
        model: weights file, needed only for models that are not shipped.
        device: "auto", "cpu" or "cuda".
        limits: what to accept of each file, checked before allocating.

    Raises:
        NcodecError: those of `decode`; the message starts with the place of the file in the list.
    """
    _check_kind(kind)
    _check_device(device)
    if isinstance(files, (bytes, bytearray, memoryview, str)):
        raise InputError(f"files: expected a list of files' bytes, found {type(files).__name__}")
    opened = [_open(data, f"file {i}: ", model, device, limits) for i, data in enumerate(files)]
    return [_as_kind(picture, kind) for picture in _decode_files(opened)]  # type: ignore[return-value]


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


def _check_kind(kind: str) -> None:
    if kind not in ("pillow", "numpy", "torch"):
        raise InputError(f"kind: expected 'pillow', 'numpy' or 'torch', found {kind!r}")


def _as_kind(picture: Picture, kind: Kind) -> "Image.Image | NDArray[np.uint8] | Tensor":
    if kind == "pillow":
        return to_pillow(picture)
    if kind == "numpy":
        return picture.pixels
    import torch

    pixels = torch.from_numpy(picture.pixels)
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()
