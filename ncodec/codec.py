"""encode(image) -> bytes, decode(bytes) -> image.

    encode   image --> Picture --> tiles --family's codec--> payloads --> container
                           `alpha, where tiles do not hold it: a grey picture of its own
    decode   container --> limits, family, weights --> tiles --family's codec--> Picture --> image
                           a region of it, smaller: the tiles that it takes, a row of them at a time

The arithmetic of a tile is its family's (models/protocol.py); torch is imported for `device="cuda"`,
`kind="torch"` and a family's efforts that need it only.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from io import BytesIO
from itertools import chain
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from numpy.typing import NDArray
from PIL import Image

from ncodec import container, families
from ncodec.bytestream import Bytes
from ncodec.container import Box, Container, Header, Limits
from ncodec.errors import CorruptPayloadError, InputError, NcodecError, named
from ncodec.families import Family, family_by_id
from ncodec.files import Source, is_source, reading
from ncodec.image import Kind, Picture, as_kind, check_kind, filled, picture_of, read
from ncodec.metadata.pictures import stripped
from ncodec.metrics import bpp, of_pictures
from ncodec.models.jpeg import codec as jpeg
from ncodec.models.load import LoadedModel, find_device, load_by_name, load_for
from ncodec.models.protocol import EncodeOptions, options_of
from ncodec.quality import quality_code
from ncodec.search import Target, encode_to_target, target_of
from ncodec.threads import get_num_threads, side_by_side
from ncodec.tiles import (
    OpenFile,
    Piece,
    Progress,
    bands,
    decode_files,
    reduced,
    tile_for,
    together,
)

if TYPE_CHECKING:
    from torch import Tensor

USUAL_QUALITY = 4.0
LOSSLESS = "lossless"  # the model that loses nothing
ALPHA_MODEL, ALPHA_TUNE = "dct", "psnr"  # of alpha that loses something
SCALES = (1, 2, 4, 8, 16)  # one pixel for so many by so many


def encode(
    image: "Image.Image | NDArray[Any] | Tensor | Picture | Source",
    quality: float | None = None,
    model: str | Path | None = None,
    device: str = "cpu",
    tile: int | None = None,
    effort: int | None = None,
    tune: str | None = None,
    *,
    lossless: bool = False,
    alpha_quality: float | None = None,
    exact: bool = False,
    bit_depth: int | None = None,
    strip: bool = False,
    target_size: int | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    target_ssimulacra2: float | None = None,
    **choices: Any,
) -> bytes:
    """Return an image as the bytes of an `.nc` file.

    Args:
        image: Pillow image (its ICC, EXIF and XMP travel along); numpy uint8 or uint16, [H, W] or [H, W, 1 … 4], alpha
            last; torch uint8, or float in [0, 1], [C, H, W] or [H, W]; or an image file: its path, bytes, or itself, open.
            Any size from 1x1.
        quality: 1 (smallest) to 8 (best), fractions allowed, to the nearest 0.05; None: 4.
        model: name of a shipped model or path of a weights file; None is the default model.
        device: "cpu" or "cuda", which needs torch. Files from any device decode on any other.
        tile: side of the tile grid (pixels, at least 64), 0 for one tile; None tiles large images.
        effort: more is slower and smaller, where the model's family has efforts; None is the usual one.
        tune: what errors are weighed by: "visual" or "psnr", where the model comes in both; None is the usual one.
        lossless: keep every pixel: model "lossless", which has no quality.
        alpha_quality: as `quality`, of alpha; None keeps alpha as it is.
        exact: keep the colour of pixels that are transparent altogether; otherwise it is what costs least.
        bit_depth: of uint16 arrays, 9 to 16; None: 16.
        strip: leave out metadata but what changes the look; an orientation is applied.
        target_size: in place of a quality: the best one whose file has at most so many bytes.
        target_bpp: likewise, in bits per pixel.
        target_psnr: in place of a quality: that of the smallest file of at least so many dB (`metrics.of_pictures`).
        target_ssimulacra2: likewise, of SSIMULACRA2, which takes the extra `eval`, or torch.
        choices: others of the family's encoder, such as `transform="angle"` (specs/guide.md).

    Raises:
        InputError: an image, quality, device, tune or option we cannot work with; a target that no quality meets.
        LimitError: the image is larger than decoders accept.
        UnknownModelError, WeightsMismatchError: the model cannot be had.
    """
    picture = _read_or_take(image, bit_depth)
    if strip:
        picture = stripped(picture)
    target = target_of(
        size=target_size, bpp=target_bpp, psnr=target_psnr, ssimulacra2=target_ssimulacra2
    )
    return encode_picture(
        picture, quality, model, device, tile, effort, tune, lossless=lossless,
        alpha_quality=alpha_quality, exact=exact, target=target, **choices,
    )  # fmt: skip


def encode_batch(
    images: "Sequence[Image.Image | NDArray[Any] | Tensor | Picture | Source]",
    jobs: int = 0,
    bit_depth: int | None = None,
    **options: Any,
) -> list[bytes]:
    """Return images as the bytes of `.nc` files, in their order, encoded side by side.

    Args:
        images: of each what `encode` takes.
        jobs: how many at once, each in a process of its own, on one thread; 0: one a core.
        bit_depth: of uint16 arrays, as of `encode`.
        options: others of `encode`, the same for all.

    Raises:
        NcodecError: those of `encode`; the message starts with the place of the image in the list.
    """
    from ncodec.parallel import run_all  # sockets and processes: slow to import

    if not isinstance(images, (list, tuple)):
        raise InputError(f"images: expected a list of images, found {type(images).__name__}")

    def pictures() -> Iterator[Picture]:
        for number, image in enumerate(images):
            with named(f"image {number}: "):
                picture = _read_or_take(image, bit_depth)
            yield picture

    files = [b""] * len(images)
    for number, coded in run_all(partial(encode, **options), pictures(), jobs=jobs):
        with named(f"image {number}: "):
            if isinstance(coded, NcodecError):
                raise coded
        files[number] = coded
    return files


def _read_or_take(image: Any, bit_depth: int | None) -> Picture:
    """Return the picture of what `encode` takes: of image files, too."""
    if not is_source(image):
        return picture_of(image, bit_depth)
    with reading(image) as content:
        name = str(image) if isinstance(image, (str, os.PathLike)) else "image"
        return read(BytesIO(content), name)


def encode_picture(
    picture: Picture,
    quality: float | None = None,
    model: str | Path | None = None,
    device: str = "cpu",
    tile: int | None = None,
    effort: int | None = None,
    tune: str | None = None,
    *,
    lossless: bool = False,
    alpha_quality: float | None = None,
    exact: bool = False,
    target: Target | None = None,
    progress: Progress = lambda done, total: None,
    **choices: Any,
) -> bytes:
    """Return a picture as the bytes of an `.nc` file; see `encode`.

    Args:
        target: in place of a quality.
        progress: called with the tiles that are done, and how many there are.
    """
    if lossless and (quality is not None or model is not None or tune is not None):
        raise InputError("lossless: has no quality, model or tune")
    if target is not None and quality is not None:
        raise InputError(f"expected a quality or target_{target.metric}, found both")
    loaded = load_by_name(LOSSLESS if lossless else model, device, tune)
    family, alpha = loaded.family, picture.alpha
    if target is not None and not family.has_quality:
        raise InputError(f"target_{target.metric}: model {loaded.name} has no quality")
    if quality is not None and not family.has_quality:
        raise InputError(f"quality: model {loaded.name} has none")
    if family.has_alpha and alpha_quality is not None:
        raise InputError(f"alpha_quality: model {loaded.name} keeps alpha as it is")
    given = {"effort": effort, **choices} | ({"exact": True} if family.has_alpha and exact else {})
    options = options_of(family.load().Options, loaded.name, given)
    if alpha is not None and not family.has_alpha and not exact:
        picture = filled(picture)
    asked = USUAL_QUALITY if quality is None else quality
    code = quality_code(asked) if family.has_quality else 0
    height, width = picture.pixels.shape[:2]
    side = tile_for(width, height, tile)
    layers, ranges = loaded.layout(code, options)
    header = Header(
        width=width,
        height=height,
        family=family.wire_id,
        weights_digest=loaded.digest,
        quality_code=code,
        is_grey=picture.channels == 1,
        tile=side,
        overlap=loaded.codec.OVERLAP if side else 0,
        is_layered=family.is_layered,
        layers=layers,
        ranges=ranges,
        is_second=options.is_second,
        bit_depth=picture.bit_depth,
        has_alpha=alpha is not None and family.has_alpha,
    )
    container.check_limits(header, Limits())
    _check_memory(header, family, Limits())
    pixels = picture.planes() if family.has_alpha else picture.pixels
    coded_alpha = None
    if alpha is not None and not family.has_alpha:
        coded_alpha = _encode_alpha(alpha, header, alpha_quality)

    def coded(code: int) -> bytes:
        layers, ranges = loaded.layout(code, options)
        h = replace(header, quality_code=code, layers=layers, ranges=ranges)
        tiles = _encode_tiles(pixels, h, loaded, options, progress)
        return container.write(Container(h, tiles, picture.metadata, alpha=coded_alpha))

    def score(data: bytes) -> float:
        assert target is not None
        return of_pictures(target.metric, picture, decode_picture(data, model, device))

    if target is None:
        return coded(code)
    rates = {"size": len, "bpp": lambda data: bpp(len(data), width, height)}
    return encode_to_target(coded, rates.get(target.metric, score), target)[0]


def _encode_tiles(
    pixels: NDArray[Any],
    header: Header,
    loaded: LoadedModel,
    options: EncodeOptions,
    progress: Progress = lambda done, total: None,
) -> list[container.Parts]:
    """Return the payloads of the tiles of pixels [H, W] or [H, W, channels]."""

    def encoded(box: Box) -> container.Parts:
        left, top, right, bottom = box
        piece = pixels[top:bottom, left:right]
        return loaded.codec.encode_tile(piece, header.quality_code, options, header.bit_depth)

    at_once = _at_once([header], Limits()) if loaded.codec.ONE_THREAD else 1
    tiles = []
    for parts in side_by_side(encoded, header.tile_boxes(), at_once):
        tiles.append(parts)
        progress(len(tiles), header.n_tiles)
    return tiles


def _encode_alpha(alpha: NDArray[Any], header: Header, quality: float | None) -> Container:
    """Return alpha [H, W] in tiles of a picture's grid, as it is or at a quality."""
    if quality is None:
        loaded, code = load_by_name(LOSSLESS), 0
    else:
        with named("alpha_quality: "):
            code = quality_code(quality)
        loaded = load_by_name(ALPHA_MODEL, tune=ALPHA_TUNE)
    h = container.alpha_header(header, loaded.family.wire_id, loaded.digest, code)
    options = options_of(loaded.family.load().Options, loaded.name, {})
    return Container(h, _encode_tiles(alpha, h, loaded, options))


def _check_memory(
    header: Header, family: Family, limits: Limits, region: Box | None = None, factor: int = 1
) -> None:
    held = container.memory_of_image(header, region, factor)
    container.check_memory(header, family.stride, family.bytes_a_pixel, limits, held)


def _at_once(headers: list[Header], limits: Limits) -> int:
    """Return how many tiles there is memory for, of colour and alpha each: not more than keep all threads busy."""
    families = [family_by_id(header.family) for header in headers]
    tile_bytes = sum(
        header.largest_tile(family.stride) * family.bytes_a_pixel
        for header, family in zip(headers, families, strict=True)
    )
    room = limits.memory_bytes - sum(map(container.memory_of_image, headers))
    return max(min(room // tile_bytes, 2 * get_num_threads()), 1)


def _open(
    name: str, parsed: Container, model: str | Path | None, device: str, limits: Limits
) -> tuple[OpenFile, OpenFile | None]:
    """Return a parsed file of tiles, and the alpha that a chunk of it holds, each with what decodes it.

    Raises:
        CorruptPayloadError: alpha is of a family that holds more than a grey plane, or in layers.
    """
    colour, alpha = _opened(name, parsed, model, device, limits), None
    headers = [parsed.header]
    if parsed.alpha is not None:
        with named("alpha: "):
            family = family_by_id(parsed.alpha.header.family)
            if family.holds != "tiles" or family.is_layered:
                raise CorruptPayloadError(f"family {family.name} does not code alpha")
            room = max(limits.memory_bytes - container.memory_of_image(parsed.header), 0)
            _check_memory(parsed.alpha.header, family, replace(limits, memory_bytes=room))
            alpha = _opened(name, parsed.alpha, None, device, limits)
        headers.append(parsed.alpha.header)
    at_once = _at_once(headers, limits)  # of each: colour's go on while alpha's are decoded
    return colour._replace(at_once=at_once), alpha and alpha._replace(at_once=at_once)


def _opened(
    name: str, parsed: Container, model: str | Path | None, device: str, limits: Limits
) -> OpenFile:
    """Return tiles of one family with what decodes them, one after the other."""
    family = family_by_id(parsed.header.family)
    loaded = load_for(parsed.header, model, device)
    room = limits.memory_bytes - container.memory_of_image(parsed.header)
    most = min(loaded.codec.batch_pixels, room // family.bytes_a_pixel)
    return OpenFile(name, parsed, loaded.codec, family.stride, most)


def _decode_named(
    files: Sequence[tuple[str, Bytes]],
    model: str | Path | None,
    device: str,
    limits: Limits,
) -> list[Picture]:
    """Return the pictures of files, each with the name that goes ahead of its errors' messages."""
    pictures: dict[int, Picture] = {}
    colour: dict[int, OpenFile] = {}
    alpha: dict[int, OpenFile] = {}
    for number, (name, data) in enumerate(files):
        with named(name):
            parsed = container.read(data, limits)
            family = _family_of(parsed, None)
            _check_memory(parsed.header, family, limits)
            if family.holds == "file":
                find_device(device)
                pictures[number] = family.load().picture_of(parsed, limits)
                continue
            colour[number], opened = _open(name, parsed, model, device, limits)
            if opened is not None:
                alpha[number] = opened
    opened_files = [*colour.values(), *alpha.values()]
    decoded = decode_files(opened_files)
    for number, file, pixels in zip([*colour, *alpha], opened_files, decoded, strict=True):
        if number in pictures:
            pictures[number] = replace(pictures[number], alpha=pixels)
        else:
            picture = _picture(file.container, pixels)
            has_alpha = file.container.header.has_alpha
            pictures[number] = picture.with_planes(pixels) if has_alpha else picture
    return [pictures[number] for number in range(len(files))]


def _picture(parsed: Container, pixels: NDArray[Any], alpha: NDArray[Any] | None = None) -> Picture:
    """Return the picture of a file that was decoded."""
    depth, lost = parsed.header.bit_depth, (parsed.lost, parsed.skipped_bytes)
    return Picture(pixels, parsed.metadata, depth, alpha, (), *lost)


def _family_of(parsed: Container, stages: int | None) -> Family:
    """Return the family of a file.

    Raises:
        UnsupportedVersionError: it is unknown.
        CorruptPayloadError: alpha within tiles of a family that has none there.
        InputError: `stages` of one that is not layered.
    """
    family = family_by_id(parsed.header.family)
    if parsed.header.has_alpha and not family.has_alpha:
        raise CorruptPayloadError(f"header: tiles of family {family.name} hold no alpha")
    if stages is not None and not family.is_layered:
        layered = ", ".join(known.name for known in families.FAMILIES if known.is_layered)
        raise InputError(
            f"stages: expected a file in layers, of family {layered}, found one of family {family.name}, "
            "which is decoded whole: leave stages (--stages) out"
        )
    return family


def check_stages(stages: int | None) -> None:
    """Raise InputError unless it is a number of stages, or None for all of them."""
    is_number = isinstance(stages, Integral) and not isinstance(stages, bool) and stages >= 1
    if stages is not None and not is_number:
        raise InputError(f"stages: expected an integer of at least 1, found {stages!r}")


def factor_of(scale: float) -> int:
    """Return how many pixels by how many a scale makes one of.

    Raises:
        InputError: none of 1, 1/2, 1/4, 1/8, 1/16.

    >>> factor_of(0.25)
    4
    """
    for factor in SCALES:
        if isinstance(scale, Real) and not isinstance(scale, bool) and scale * factor == 1:
            return factor
    raise InputError(f"scale: expected 1, 1/2, 1/4, 1/8 or 1/16, found {scale!r}")


def box_of(region: tuple[int, int, int, int] | None) -> Box | None:
    """Return a region (x, y, w, h) as (left, top, right, bottom).

    Raises:
        InputError: not four integers, or not of at least one pixel.
    """
    if region is None:
        return None
    try:
        x, y, width, height = region
        whole = [isinstance(v, Integral) and not isinstance(v, bool) for v in region]
    except (TypeError, ValueError):
        whole = [False]
    if not all(whole) or width < 1 or height < 1:
        raise InputError(f"region: expected integers (x, y, width, height), found {region!r}")
    return int(x), int(y), int(x + width), int(y + height)


def decode_picture(
    data: Source,
    model: str | Path | None = None,
    device: str = "cpu",
    limits: Limits = Limits(),
    stages: int | None = None,
    conceal: bool = False,
    region: tuple[int, int, int, int] | None = None,
    scale: float = 1,
    progress: Progress = lambda done, total: None,
) -> Picture:
    """Return the pixels and metadata of a file; see `decode`.

    Args:
        progress: called with the tiles that are done, and how many there are.
    """
    check_stages(stages)
    box, factor = box_of(region), factor_of(scale)
    with reading(data) as content:
        parsed = container.read(content, limits, stages, conceal, box)
        family = _family_of(parsed, stages)
        if family.holds == "file":
            _check_memory(parsed.header, family, limits)
            find_device(device)
            picture = family.load().picture_of(parsed, limits)
            return _part(picture, parsed.region, factor)
        return _decode_part(parsed, family, model, device, limits, factor, progress)


def _part(picture: Picture, region: Box | None, factor: int) -> Picture:
    """Return a region (all, if None) of a picture at 1/factor."""
    left, top, right, bottom = region or (0, 0, *picture.pixels.shape[1::-1])
    pixels = picture.pixels[top:bottom, left:right]
    alpha = None if picture.alpha is None else picture.alpha[top:bottom, left:right]
    if factor > 1:
        height, width = (-(-side // factor) for side in pixels.shape[:2])
        pixels, alpha = together(reduced([(pixels, alpha)], factor), (height, width))
    return replace(picture, pixels=pixels, alpha=alpha)


def _decode_part(
    parsed: Container,
    family: Family,
    model: str | Path | None,
    device: str,
    limits: Limits,
    factor: int,
    progress: Progress,
) -> Picture:
    """Return a file's region, or all of it, at 1/factor: a row of tiles at a time."""
    header = parsed.header
    region = parsed.region or (0, 0, header.width, header.height)
    _check_memory(header, family, limits, parsed.region, factor)
    colour, alpha_file = _open("", parsed, model, device, limits)
    alphas = None if alpha_file is None else bands(alpha_file, region)

    def pieces() -> Iterator[Piece]:
        for band in bands(colour, region, progress):
            if header.has_alpha:
                piece = Picture(band).with_planes(band)
                yield piece.pixels, piece.alpha
            else:
                yield band, None if alphas is None else next(alphas)

    found = pieces() if factor == 1 else reduced(pieces(), factor)
    pixels, alpha = next(found)
    width, height = (-(-(region[i + 2] - region[i]) // factor) for i in (0, 1))
    if len(pixels) < height:
        pixels, alpha = together(chain([(pixels, alpha)], found), (height, width))
    return _picture(parsed, pixels, alpha)


@overload
def decode(
    data: Source,
    kind: Literal["pillow"] = ...,
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
    stages: int | None = ...,
    conceal: bool = ...,
    *,
    region: tuple[int, int, int, int] | None = ...,
    scale: float = ...,
) -> Image.Image: ...
@overload
def decode(
    data: Source,
    kind: Literal["numpy"],
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
    stages: int | None = ...,
    conceal: bool = ...,
    *,
    region: tuple[int, int, int, int] | None = ...,
    scale: float = ...,
) -> NDArray[Any]: ...
@overload
def decode(
    data: Source,
    kind: Literal["torch"],
    model: str | Path | None = ...,
    device: str = ...,
    limits: Limits = ...,
    stages: int | None = ...,
    conceal: bool = ...,
    *,
    region: tuple[int, int, int, int] | None = ...,
    scale: float = ...,
) -> "Tensor": ...
def decode(
    data: Source,
    kind: Kind = "pillow",
    model: str | Path | None = None,
    device: str = "cpu",
    limits: Limits = Limits(),
    stages: int | None = None,
    conceal: bool = False,
    *,
    region: tuple[int, int, int, int] | None = None,
    scale: float = 1,
) -> "Image.Image | NDArray[Any] | Tensor":
    """Return the image in an `.nc` file.

    Args:
        data: the bytes of the file, its path, or an open binary file.
        kind: "pillow" (with ICC, EXIF and XMP in `info`), "numpy" [H, W] or [H, W, C], C = 2, 3 or 4 with alpha
            last, or "torch" [C, H, W]; uint8, or uint16 of more than 8 bits.
        model: weights file, needed only for models that are not shipped.
        device: "cpu" or "cuda", which needs torch. The pixels are the same.
        limits: what to accept, checked before allocating.
        stages: of a layered family (specs/guide.md), how many of them to decode, at most: a coarser picture, from
            the beginning of the file alone. None: all.
        conceal: decode what is left of a file that is damaged or cut. A Pillow image's `info` then has "concealed",
            how many tiles or ranges of their layers are lost, and "skipped_bytes", the bytes of no sound chunk.
        region: (x, y, width, height) in pixels, cut to the picture: only this part. Of a tiled file only the tiles
            that it takes are read (from a path) and decoded.
        scale: 1, 1/2, 1/4, 1/8 or 1/16: the mean of so many by so many pixels, a row of tiles in memory at a time.

    Raises:
        BadMagicError, UnsupportedVersionError, TruncatedError, ChecksumError, CorruptPayloadError:
            not a file that we can decode.
        LimitError: larger than `limits`.
        UnknownModelError, WeightsMismatchError: the weights cannot be had.
        InputError: `kind`, `device` or `scale` is not one of those above, or is not there; no such file; `stages` of a
            family without; nothing of the picture is in `region`.
    """
    check_kind(kind)
    picture = decode_picture(data, model, device, limits, stages, conceal, region, scale)
    return as_kind(picture, kind)


def decode_batch(
    files: Sequence[Source],
    kind: Kind = "pillow",
    model: str | Path | None = None,
    device: str = "cpu",
    limits: Limits = Limits(),
) -> "list[Image.Image] | list[NDArray[Any]] | list[Tensor]":
    """Return the images in the bytes of several `.nc` files, in their order.

    Images of equal size, model and quality are decoded together, which is faster on a GPU: the pixels
    are those of `decode`. Others are decoded side by side, where a tile takes one thread.

    Args:
        files: of each what `decode` takes.
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
    with ExitStack() as stack:
        named_files = []
        for number, source in enumerate(files):
            with named(f"file {number}: "):
                named_files.append((f"file {number}: ", stack.enter_context(reading(source))))
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
