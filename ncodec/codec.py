"""encode(image) -> bytes, decode(bytes) -> image: pad, tile, crop, round.

Tiles overlap to the right and below by `OVERLAP` pixels, where the decoder fades from one into the
next; only images of more than one tile have them, so memory stays bounded.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from ncodec import container
from ncodec.coder import Reader, Writer
from ncodec.container import Container, Header, Limits
from ncodec.errors import InputError, NcodecError, WeightsMismatchError, named
from ncodec.image import Picture, from_pillow, to_pillow
from ncodec.models import weights
from ncodec.models.registry import family_by_id

if TYPE_CHECKING:
    from ncodec.models.hyperprior import HyperpriorCodec, Latents

TILE, OVERLAP = 2048, 32  # pixels
# Tiles are decoded together up to so many pixels, or one by one where a single one has more: memory
# grows with them, 70 to 130 bytes a pixel on the CPU (specs/format.md, section 5).
BATCH_PIXELS = {"cpu": 1 << 22, "cuda": 1 << 25}
Kind = Literal["pillow", "numpy", "torch"]


@lru_cache(maxsize=4)
def _load(path: Path, mtime_ns: int, device: str) -> weights.LoadedModel:
    return weights.load(path, device)


def find_device(device: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises:
        InputError: not one of these, or not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            f"device {device!r}: not available; expected 'auto', 'cpu' or a working 'cuda'"
        )
    return device


def load_model(path: Path, device: str = "auto") -> weights.LoadedModel:
    """Return a model, loaded once per file and device.

    Args:
        path: weights file.
        device: "cpu", "cuda" or "auto" (CUDA where there is one).

    Raises:
        InputError: no such file or device.
        WeightsMismatchError: the file is damaged or not ours.
    """
    device = find_device(device)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    return _load(path, path.stat().st_mtime_ns, device)


def _as_picture(image: Image.Image | NDArray[np.uint8] | Tensor | Picture) -> Picture:
    if isinstance(image, Picture):
        return image
    if isinstance(image, Image.Image):
        return from_pillow(image)
    if isinstance(image, Tensor):
        image = image.detach()
        if image.dim() not in (2, 3) or (image.dim() == 3 and image.shape[0] not in (1, 3)):
            raise InputError(
                f"tensor: expected [3, H, W], [1, H, W] or [H, W], found {list(image.shape)}"
            )
        if image.is_floating_point() and image.numel():
            if not (0 <= float(image.min()) and float(image.max()) <= 1):
                raise InputError("tensor: float pixels must lie in [0, 1]")
            image = (image * 255).round().to(torch.uint8)
        array = image.cpu().numpy()
        array = array[0] if array.ndim == 3 and len(array) == 1 else array
        image = array if array.ndim == 2 else array.transpose(1, 2, 0)
    if not isinstance(image, np.ndarray):
        raise InputError(f"image: expected Pillow, numpy or torch, found {type(image).__name__}")
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    ):
        raise InputError(
            f"array: expected uint8 [H, W, 3] or [H, W], found {image.dtype} {list(image.shape)}"
        )
    return Picture(image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image)


def _encode_tile(codec: "HyperpriorCodec", pixels: NDArray[np.uint8], quality_code: int) -> bytes:
    x = torch.from_numpy(pixels.copy()).to(codec.index_offset.device)
    x = x[None].expand(3, -1, -1) if x.dim() == 2 else x.permute(2, 0, 1)
    height, width = x.shape[1:]
    x = x[None].float() / 255
    x = pad(x, (0, -width % codec.STRIDE, 0, -height % codec.STRIDE), mode="replicate")
    latents = codec.analyse(x, quality_code)
    writer = Writer()
    codec.code(
        writer, latents, (x.shape[2] // codec.STRIDE, x.shape[3] // codec.STRIDE), quality_code
    )
    return writer.payload()


def encode(
    image: Image.Image | NDArray[np.uint8] | Tensor | Picture,
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
    loaded = load_model(weights.find_by_name(model), device)
    header = Header(
        width,
        height,
        loaded.wire_id,
        loaded.digest,
        code,
        picture.pixels.ndim == 2,
        tile,
        OVERLAP if tile else 0,
    )
    container.check_limits(header, Limits())
    tiles = [
        _encode_tile(loaded.codec, picture.pixels[top:bottom, left:right], code)
        for left, top, right, bottom in header.tile_boxes()
    ]
    return container.write(Container(header, tiles, picture.metadata))


def _fade(length: int, overlap: int, is_first: bool) -> Tensor:
    """Return the weight of a tile along one axis [length]: rises over its first `overlap` pixels."""
    weight = torch.ones(length)
    if not is_first:
        ramp = (torch.arange(overlap) + 0.5) / max(overlap, 1)
        weight[:overlap] = ramp[:length]
    return weight


class _File(NamedTuple):
    """A parsed file and what decodes it."""

    name: str  # "" or "file 3: ", ahead of the messages of errors
    container: Container
    codec: "HyperpriorCodec"


class _Tile(NamedTuple):
    file: _File
    canvas: NDArray[np.uint8]  # of the whole image, [H, W, 3]
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
        return _File(name, parsed, loaded.codec)


def decode_picture(
    data: bytes, model: str | Path | None = None, device: str = "auto", limits: Limits = Limits()
) -> Picture:
    """Return the pixels and metadata of a file; see `decode`."""
    return _decode_files([_open(data, "", model, device, limits)], device)[0]


def _decode_files(files: list[_File], device: str) -> list[Picture]:
    """Return the pixels and metadata of files.

    Tiles of equal size, weights and quality are decoded together, whichever files they are from. Those
    of a tiled image must be faded into it in order: they wait for no others than those of their row.
    """
    batch_pixels = BATCH_PIXELS[find_device(device)]
    groups: dict[object, list[_Tile]] = {}
    canvases = []
    for position, file in enumerate(files):
        header = file.container.header
        canvases.append(np.empty((header.height, header.width, 3), np.uint8))
        for box, payload in zip(header.tile_boxes(), file.container.tiles, strict=True):
            left, top, right, bottom = box
            size = (right - left, bottom - top)
            row = (position, top) if header.tile else None
            tile = _Tile(file, canvases[-1], left, top, *size, payload)
            key = (id(file.codec), header.quality_code, size, row)
            groups.setdefault(key, []).append(tile)
    for tiles in groups.values():
        most = max(batch_pixels // (tiles[0].width * tiles[0].height), 1)
        for first in range(0, len(tiles), most):
            _decode_tiles(tiles[first : first + most])
    for file, canvas in zip(files, canvases, strict=True):
        if file.container.header.is_grey:
            canvas[:, :, 0] = (canvas.sum(2, dtype=np.uint16) + 1) // 3
    return [
        Picture(
            canvas[:, :, 0].copy() if file.container.header.is_grey else canvas,
            file.container.metadata,
        )
        for file, canvas in zip(files, canvases, strict=True)
    ]


def decode_latents(
    codec: "HyperpriorCodec", payloads: list[bytes], width: int, height: int, quality_code: int
) -> "Latents":
    """Return the latents of tiles of one size (pixels) and quality. Exact.

    Raises:
        TruncatedError, CorruptPayloadError: a payload is damaged.
    """
    size = (-(-height // codec.STRIDE), -(-width // codec.STRIDE))
    return codec.code(Reader(payloads, len(codec.SECTIONS)), None, size, quality_code)


def _decode_tiles(tiles: list[_Tile]) -> None:
    """Decode tiles of equal size, weights and quality, and put them on their canvases."""
    codec, header = tiles[0].file.codec, tiles[0].file.container.header
    width, height = tiles[0].width, tiles[0].height
    with named(tiles[0].file.name if len(tiles) == 1 else ""):
        try:
            payloads = [tile.payload for tile in tiles]
            latents = decode_latents(codec, payloads, width, height, header.quality_code)
        except NcodecError:
            if len(tiles) == 1:
                raise
            for tile in tiles:  # alone, the one that is damaged raises an error with its name
                _decode_tiles([tile])
            return
    x_hat = codec.synthesise(latents, header.quality_code)[:, :, :height, :width]
    pixels = x_hat.clamp_(0, 1).mul_(255).permute(0, 2, 3, 1)
    if not header.tile:  # there is nothing to fade into
        pixels = pixels.round().to(torch.uint8)
    for tile, own in zip(tiles, pixels.cpu(), strict=True):
        if header.tile:
            _blend(tile.canvas, own, tile.left, tile.top, header.overlap)
        else:
            tile.canvas[:] = own.numpy()


def _blend(canvas: NDArray[np.uint8], tile: Tensor, left: int, top: int, overlap: int) -> None:
    """Fade a tile [h, w, 3] into the canvas over its first `overlap` rows and columns."""
    height, width = tile.shape[:2]
    fade = _fade(height, overlap, top == 0)[:, None] * _fade(width, overlap, left == 0)[None, :]
    area = canvas[top : top + height, left : left + width]
    before = torch.from_numpy(area).float()
    area[:] = (
        torch.lerp(before, tile, fade[:, :, None]).round().clamp(0, 255).to(torch.uint8).numpy()
    )


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
) -> Tensor: ...
def decode(
    data: bytes,
    kind: Kind = "pillow",
    model: str | Path | None = None,
    device: str = "auto",
    limits: Limits = Limits(),
) -> Image.Image | NDArray[np.uint8] | Tensor:
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
) -> list[Image.Image] | list[NDArray[np.uint8]] | list[Tensor]:
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
    find_device(device)
    if isinstance(files, (bytes, bytearray, memoryview, str)):
        raise InputError(f"files: expected a list of files' bytes, found {type(files).__name__}")
    opened = [_open(data, f"file {i}: ", model, device, limits) for i, data in enumerate(files)]
    return [_as_kind(picture, kind) for picture in _decode_files(opened, device)]  # type: ignore[return-value]


def _check_kind(kind: str) -> None:
    if kind not in ("pillow", "numpy", "torch"):
        raise InputError(f"kind: expected 'pillow', 'numpy' or 'torch', found {kind!r}")


def _as_kind(picture: Picture, kind: Kind) -> Image.Image | NDArray[np.uint8] | Tensor:
    if kind == "pillow":
        return to_pillow(picture)
    if kind == "numpy":
        return picture.pixels
    pixels = torch.from_numpy(picture.pixels)
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()
