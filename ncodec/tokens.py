"""Pictures <-> tokens <-> files: what those who train on tokens need of a family with tokens.

    picture --tokenize--> Tokens --file_of----> .nc file     encode(picture) == file_of(tokenize(picture))
    picture <-detokenize- Tokens <-tokens_of--- .nc file     decode(file) == detokenize(tokens_of(file))

Exact, as files are: the same tokens give the same pixels on every machine.
"""

from pathlib import Path
from typing import Any, cast

import numpy as np

from ncodec import container
from ncodec.codec import check_stages
from ncodec.container import Container, Header, Limits
from ncodec.errors import (
    CorruptPayloadError,
    InputError,
    UnknownModelError,
    WeightsMismatchError,
    named,
)
from ncodec.families import family_by_id
from ncodec.image import Kind, Picture, as_kind, check_kind, picture_of, plain
from ncodec.models import weights
from ncodec.models.load import LoadedModel, load_by_name, load_file, load_for
from ncodec.models.protocol import Tokenizer, options_of
from ncodec.quality import MAX_QUALITY, quality_code, quality_of
from ncodec.shards import ABSENT, STRIDE, Tokens, integers, stages_of

__all__ = ["Tokens", "detokenize", "file_of", "tokenize", "tokens_of"]


def tokenize(
    image: Any, quality: float = MAX_QUALITY, model: str | Path | None = None, device: str = "cpu"
) -> Any:
    """Return the `Tokens` of a picture, or a list of those of several.

    Args:
        image: what `encode` takes; or several: a list of these, numpy uint8 [B, H, W, 3], or torch [B, 3, H, W].
        quality: 1 to 8: so many stages, all of them if not given; of a fraction the last one in part.
        model: name of a shipped tokenizer or path of a weights file; None is the first that is shipped.
        device: "cpu" or "cuda", which needs torch. The tokens are the same.

    Raises:
        InputError: an image, quality or device we cannot work with; a model of a family without tokens.
        LimitError: an image is larger than decoders accept.
        UnknownModelError, WeightsMismatchError: the model cannot be had.
    """
    loaded, code = load_tokenizer(model, device), quality_code(quality)
    if isinstance(image, (list, tuple)) or getattr(image, "ndim", 0) == 4:
        return [analyse(one, code, loaded, f"image {i}: ") for i, one in enumerate(image)]
    return analyse(image, code, loaded)


def analyse(image: Any, code: int, loaded: LoadedModel, place: str = "") -> Tokens:
    """Return the tokens of one picture, of a quality code; `place` goes ahead of errors' messages."""
    with named(place):
        picture = plain(picture_of(image), "tokenize")
        height, width = picture.pixels.shape[:2]
        _check_size(width, height, loaded, Limits())
        grid = codec_of(loaded).analyse(picture.pixels, code)
        return Tokens(
            grid, _sizes(loaded)[: len(grid)], quality_of(code), width, height, loaded.name,
            loaded.digest.hex(), picture.channels == 1, metadata=picture.metadata,
        )  # fmt: skip


def detokenize(
    tokens: Any, kind: Kind = "pillow", model: str | Path | None = None, device: str = "cpu"
) -> Any:
    """Return the picture of tokens, or a list of those of several. Exact.

    Args:
        tokens: `Tokens`, or a grid of integers [stages, h, w], numpy or torch, such as a generator's: a picture of
            16 w x 16 h pixels; -1 is an absent token. Or several: a list, or [B, stages, h, w].
        kind: of each picture, as in `decode`.
        model: of `Tokens`, a weights file, needed only for models that are not shipped; of grids, as in `tokenize`.
        device: "cpu" or "cuda", which needs torch. The pixels are the same.

    Raises:
        InputError: tokens, kind or device that we cannot work with.
        LimitError: the picture is larger than decoders accept.
        UnknownModelError, WeightsMismatchError: the weights cannot be had, or the tokens are of others.
    """
    check_kind(kind)
    if isinstance(tokens, (list, tuple)) or getattr(tokens, "ndim", 0) == 4:
        return [
            as_kind(_picture(one, model, device, f"tokens {i}: "), kind)
            for i, one in enumerate(tokens)
        ]
    return as_kind(_picture(tokens, model, device), kind)


def _picture(tokens: Any, model: str | Path | None, device: str, place: str = "") -> Picture:
    with named(place):
        if isinstance(tokens, Tokens):
            loaded = _load_for(tokens, model, device)
        else:
            loaded = load_tokenizer(model, device)
            tokens = _of_grid(tokens, loaded)
        _check_size(tokens.width, tokens.height, loaded, Limits())
        codec = codec_of(loaded)
        pixels = codec.synthesise(tokens.grid, quality_code(tokens.quality))
        pixels = pixels[: tokens.height, : tokens.width]
        if tokens.is_grey:  # as F23 of specs/format.md
            pixels = (pixels.sum(2, dtype=np.int16) + 1) // 3
        return Picture(pixels.astype(np.uint8), tokens.metadata)


def _of_grid(grid: Any, loaded: LoadedModel) -> Tokens:
    """Return the tokens of a grid, of a picture that it fills."""
    array, sizes = integers(grid), _sizes(loaded)
    n, height, width = array.shape
    if n > len(sizes):
        raise InputError(f"grid: expected 1 to {len(sizes)} stages, found {list(array.shape)}")
    return Tokens(
        array,
        sizes[:n],
        float(n),
        width * STRIDE,
        height * STRIDE,
        loaded.name,
        loaded.digest.hex(),
    )


def tokens_of(
    data: bytes,
    stages: int | None = None,
    model: str | Path | None = None,
    limits: Limits = Limits(),
) -> Tokens:
    """Return the tokens in an `.nc` file; no pixels are decoded.

    Args:
        data: the file; of `stages` of them, as much of it as they take.
        stages: how many; None: all.
        model: weights file, needed only for models that are not shipped.
        limits: what to accept, checked before allocating.

    Raises:
        FormatError, LimitError, UnknownModelError, WeightsMismatchError: as `decode`.
        InputError: the file's family has no tokens, or not so many stages; or the file has several tiles.
    """
    check_stages(stages)
    parsed = container.read(data, limits, stages)
    header = parsed.header
    family = family_by_id(header.family)
    if not family.has_tokens:
        raise InputError(f"file: its family {family.name} has no tokens; {_expected()}")
    if header.n_tiles > 1:
        raise InputError(
            f"file: {header.n_tiles} tiles, which have a grid of tokens each: encode with tile=0 (--tile 0) for one"
        )
    if header.layers > stages_of(header.quality):
        raise CorruptPayloadError(
            f"header: expected at most {stages_of(header.quality)} layers of quality {header.quality:g}, found {header.layers}"
        )
    loaded = load_for(header, model)
    _check_size(header.width, header.height, loaded, limits)
    n = header.layers if stages is None else min(stages, header.layers)
    quality = header.quality if n == stages_of(header.quality) else float(n)
    size = (-(-header.height // STRIDE), -(-header.width // STRIDE))
    grid = codec_of(loaded).read(parsed.tiles[0], quality_code(quality), size, header.is_second)
    return Tokens(
        grid, _sizes(loaded)[: len(grid)], quality, header.width, header.height, loaded.name,
        loaded.digest.hex(), header.is_grey, metadata=parsed.metadata,
    )  # fmt: skip


def file_of(tokens: Tokens, model: str | Path | None = None, **choices: Any) -> bytes:
    """Return tokens as the bytes of an `.nc` file: those of `encode` with `tile=0`.

    Args:
        tokens: none of them absent.
        model: weights file, needed only for models that are not shipped.
        choices: of the family's encoder, as in `encode`, such as `ranges=16`.

    Raises:
        InputError: tokens that are absent, or an option that the family has not.
        UnknownModelError, WeightsMismatchError: the weights cannot be had, or the tokens are of others.
    """
    loaded = _load_for(tokens, model, "cpu")
    codec, code = codec_of(loaded), quality_code(tokens.quality)
    absent = np.argwhere(tokens.grid == ABSENT)
    if len(absent):
        stage, row, column = absent[0]
        raise InputError(
            f"grid: a file has all tokens, found {len(absent)} absent, the first of stage {stage + 1} at {row}, {column}"
        )
    options = options_of(loaded.family.load().Options, loaded.name, choices)
    layers, ranges = loaded.layout(code, options)
    header = Header(
        tokens.width, tokens.height, loaded.family.wire_id, loaded.digest, code, tokens.is_grey,
        is_layered=True, layers=layers, ranges=ranges, is_second=options.is_second,
    )  # fmt: skip
    parts = codec.write(tokens.grid, code, ranges, options.is_second)
    return container.write(Container(header, [parts], tokens.metadata))


def load_tokenizer(model: str | Path | None, device: str = "cpu") -> LoadedModel:
    """Return a model whose family has tokens, by name or file; None is the first that is shipped.

    Raises:
        InputError: its family has none; no such device.
        UnknownModelError, WeightsMismatchError: it cannot be had.
    """
    names = _names()
    if model is None and not names:
        raise UnknownModelError("model: no tokenizer is shipped; expected a weights file")
    loaded = load_by_name(names[0] if model is None else model, device)
    codec_of(loaded)
    return loaded


def codec_of(loaded: LoadedModel) -> Tokenizer:
    """Return the codec of a model; InputError unless it has tokens."""
    family = loaded.family
    if not family.has_tokens:
        raise InputError(
            f"model {loaded.name}: its family {family.name} has no tokens; {_expected()}"
        )
    return cast(Tokenizer, loaded.codec)


def _sizes(loaded: LoadedModel) -> tuple[int, ...]:
    return tuple(stage.size for stage in codec_of(loaded).stages)


def _names() -> list[str]:
    entries = weights.list_models()
    return [entry.name for entry in entries if weights.family_named(entry.family).has_tokens]


def _expected() -> str:
    return f"expected {', '.join([*_names(), 'or a weights file of a tokenizer'])}"


def _load_for(tokens: Tokens, model: str | Path | None, device: str) -> LoadedModel:
    """Return what made the tokens: by their digest, of the shipped models or of the one that is named."""
    if not isinstance(tokens, Tokens):
        raise InputError(f"tokens: expected ncodec.Tokens, found {type(tokens).__name__}")
    with named(f"tokens of model {tokens.model}: " if model is None else ""):
        path = weights.find_by_digest(bytes.fromhex(tokens.weights_digest), model)
        loaded = load_file(path, device)
    if loaded.digest.hex() != tokens.weights_digest:
        raise WeightsMismatchError(
            f"tokens: of model {tokens.model} with weights {tokens.weights_digest}, this is {loaded.name}, {loaded.digest.hex()}"
        )
    sizes = _sizes(loaded)[: tokens.n_stages]
    if sizes != tokens.codebooks:
        raise InputError(
            f"codebooks: expected {sizes} of model {loaded.name}, found {tokens.codebooks}"
        )
    return loaded


def _check_size(width: int, height: int, loaded: LoadedModel, limits: Limits) -> None:
    """Raise LimitError where one tile of this size would be more than `limits` allow."""
    header = Header(width, height, loaded.family.wire_id, loaded.digest, 0)
    container.check_limits(header, limits)
    container.check_memory(header, loaded.family.stride, loaded.family.bytes_a_pixel, limits)
