"""What a file and the shipped models say of themselves: info(bytes), list_models(). No torch here."""

from dataclasses import dataclass

from ncodec import container
from ncodec.bytestream import Bytes
from ncodec.container import Container, Limits
from ncodec.families import family_by_id
from ncodec.files import Source, reading
from ncodec.metrics import bpp
from ncodec.models.weights import list_models

__all__ = ["Info", "info", "list_models"]


@dataclass(frozen=True)
class Info:
    """What a file says of itself."""

    width: int  # pixels
    height: int  # pixels
    channels: int  # of colour: 1 or 3
    bit_depth: int
    alpha: str | None  # "lossless" or its quality, None where there is none
    colour: (
        str  # "sRGB", "ICC profile", or "CICP 9/16/0/1": primaries, transfer, matrix, full range
    )
    quality: float | None  # None where the family has no qualities
    family: str
    model: str | None  # name of the shipped model, None where it is not among them
    weights_digest: str
    tiles: int
    layers: int  # of each tile, 1 where the family has no layers
    ranges: int  # of each layer of a tile
    coding: int  # 2: the second way that its family has, effort 2 of tokenizers; else 1
    size_bytes: int
    bpp: float  # file bits per pixel
    metadata: dict[str, int]  # bytes of "icc", "exif", "xmp", "cicp", "phys"
    packed_bytes: dict[str, int]  # what of the file they take, without the frames of their chunks


def _alpha_of(parsed: Container) -> str | None:
    """Return how alpha is coded."""
    if parsed.header.has_alpha:
        return "lossless"
    if parsed.alpha is None:
        return None
    header = parsed.alpha.header
    return f"{header.quality:g}" if family_by_id(header.family).has_quality else "lossless"


def _colour_of(metadata: dict[str, bytes]) -> str:
    """Return what the pixels' colours are relative to."""
    if "cicp" in metadata:
        return f"CICP {'/'.join(map(str, metadata['cicp']))}"
    return "ICC profile" if "icc" in metadata else "sRGB"


def info(data: Source, limits: Limits = Limits()) -> Info:
    """Return what a file (its bytes, its path, or itself, open) says of itself, all checksums verified, nothing decoded.

    Raises:
        FormatError, LimitError: as `decode`.
    """
    with reading(data) as content:
        return _info(content, limits)


def _info(data: Bytes, limits: Limits) -> Info:
    parsed = container.read(data, limits)
    h = parsed.header
    family = family_by_id(h.family)
    names = [entry.name for entry in list_models() if entry.digest == h.weights_digest]
    names += [family.name] * (not family.has_weights and family.holds == "tiles")
    return Info(
        width=h.width,
        height=h.height,
        channels=h.channels - h.has_alpha,
        bit_depth=h.bit_depth,
        alpha=_alpha_of(parsed),
        colour="the JPEG file's" if family.holds == "file" else _colour_of(parsed.metadata),
        quality=h.quality if family.has_quality else None,
        family=family.name,
        model=names[0] if names else None,
        weights_digest=h.weights_digest.hex(),
        tiles=len(parsed.tiles),
        layers=h.layers,
        ranges=h.ranges,
        coding=2 if h.is_second else 1,
        size_bytes=len(data),
        bpp=bpp(len(data), h.width, h.height),
        metadata={name: len(payload) for name, payload in parsed.metadata.items()},
        packed_bytes=parsed.packed_bytes,
    )
