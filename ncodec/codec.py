"""encode(image) -> bytes, decode(bytes) -> image: pad, tile, crop, round.

Tiles overlap to the right and below by `OVERLAP` pixels, where the decoder fades from one into the
next; only images of more than one tile have them, so memory stays bounded.
"""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from ncodec import container
from ncodec.coder import Reader, Writer
from ncodec.container import Container, Header, Limits
from ncodec.errors import InputError, WeightsMismatchError
from ncodec.image import Picture, from_pillow, to_pillow
from ncodec.models import weights
from ncodec.models.registry import family_by_id

if TYPE_CHECKING:
    from ncodec.models.hyperprior import HyperpriorCodec

TILE, OVERLAP = 2048, 32  # pixels
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


def _decode_tile(
    codec: "HyperpriorCodec", payload: bytes, width: int, height: int, quality_code: int
) -> Tensor:
    """Return one tile's pixels [3, height, width], float in 0 … 255."""
    size = (-(-height // codec.STRIDE), -(-width // codec.STRIDE))
    latents = codec.code(Reader(payload, len(codec.SECTIONS)), None, size, quality_code)
    x_hat = codec.synthesise(latents, quality_code)[0, :, :height, :width]
    return x_hat.clamp_(0, 1).mul_(255)


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


def decode_picture(
    data: bytes, model: str | Path | None = None, device: str = "auto", limits: Limits = Limits()
) -> Picture:
    """Return the pixels and metadata of a file; see `decode`."""
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
    canvas = np.empty((header.height, header.width, 3), np.uint8)
    for box, payload in zip(header.tile_boxes(), parsed.tiles, strict=True):
        left, top, right, bottom = box
        pixels = _decode_tile(
            loaded.codec, payload, right - left, bottom - top, header.quality_code
        ).cpu()
        if header.tile:
            _blend(canvas, pixels.permute(1, 2, 0), left, top, header.overlap)
        else:
            canvas[:] = pixels.permute(1, 2, 0).round().to(torch.uint8).numpy()
    if header.is_grey:
        canvas = ((canvas.sum(2, dtype=np.uint16) + 1) // 3).astype(np.uint8)
    return Picture(canvas, parsed.metadata)


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
    if kind not in ("pillow", "numpy", "torch"):
        raise InputError(f"kind: expected 'pillow', 'numpy' or 'torch', found {kind!r}")
    picture = decode_picture(data, model, device, limits)
    if kind == "pillow":
        return to_pillow(picture)
    if kind == "numpy":
        return picture.pixels
    pixels = torch.from_numpy(picture.pixels)
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()
