"""Tokens of pictures, and the files that hold them. No model is needed here, no torch.

    Tokens                one picture: a grid [stages, h, w], with all that makes pixels or an `.nc` file of it
    *.safetensors         several pictures: save, load, pack, unpack
    folder/index.json     many such files, of `ncodec tokenize`: read_shards

A file of tokens is safetensors, so that nothing in it is run: a tensor "tokens" int16 (int32 where a codebook is
larger than that), the grids one after the other, each [stages, h, w] row by row, and a JSON text under the metadata
key "ncodec-tokens": version, model, weights, quality, codebooks, crc32c of all tensors' bytes in the order of their
names, and of each image name, width, height, grey.
ICC profile, EXIF and XMP of image i are tensors "i.icc", "i.exif", "i.xmp".
"""

import json
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors import numpy as safetensors

from ncodec.container import METADATA
from ncodec.entropy import crc32c
from ncodec.errors import (
    BadMagicError,
    ChecksumError,
    CorruptPayloadError,
    InputError,
    NcodecError,
    UnsupportedVersionError,
    named,
)
from ncodec.files import write_whole
from ncodec.quality import QUALITY_STEPS, quality_code, quality_of

VERSION = 1
KEY = "ncodec-tokens"
INDEX = "index.json"
STRIDE = 16  # pixels of a token's side
ABSENT = -1
SHARED = ("version", "model", "weights", "quality", "codebooks")  # by all images of a file


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one picture: a token a stage and 16x16 pixels. A prefix of the stages is a coarser picture.

    `dataclasses.replace(tokens, grid=...)` is another picture of the same model and size.

    Raises:
        InputError: these are not a picture's: type, shape or range; the message says which.
    """

    grid: NDArray[np.int32]  # [stages, h, w], each 0 ... codebook - 1, or -1: absent
    codebooks: tuple[int, ...]  # sizes, one a stage
    quality: float  # 1 to 8: so many stages, of a fraction the last one in part
    width: int  # of the picture (pixels)
    height: int  # of the picture (pixels)
    model: str  # its name
    weights_digest: str  # first 8 bytes of the weights file's SHA-256, in hex
    is_grey: bool = False
    name: str = ""  # of the file that the picture was in, where that is known
    metadata: dict[str, bytes] = field(default_factory=dict, repr=False)  # "icc", "exif", "xmp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "grid", integers(self.grid))
        if isinstance(self.codebooks, list):
            object.__setattr__(self, "codebooks", tuple(self.codebooks))
        object.__setattr__(self, "quality", quality_of(quality_code(self.quality)))
        n = stages_of(self.quality)
        is_known = isinstance(self.metadata, dict) and self.metadata.keys() <= METADATA.keys()
        if not is_known or not all(isinstance(v, bytes) for v in self.metadata.values()):
            raise InputError(
                f"metadata: expected bytes by the names {', '.join(METADATA)}, found {self.metadata!r}"
            )
        are_sizes = isinstance(self.codebooks, tuple) and all(
            isinstance(size, int) and size > 0 for size in self.codebooks
        )
        if not are_sizes or len(self.codebooks) != n:
            raise InputError(f"codebooks: expected {n} sizes, found {self.codebooks!r}")
        if not all(isinstance(side, int) and side > 0 for side in (self.width, self.height)):
            raise InputError(f"size: expected at least 1x1, found {self.width!r}x{self.height!r}")
        if not all(isinstance(text, str) for text in (self.model, self.name, self.weights_digest)):
            raise InputError("model, weights_digest, name: expected text")
        if not re.fullmatch("[0-9a-f]{16}", self.weights_digest):
            raise InputError(
                f"weights_digest: expected 16 hex digits, found {self.weights_digest!r}"
            )
        if not isinstance(self.is_grey, bool):
            raise InputError(f"is_grey: expected a bool, found {self.is_grey!r}")
        shape = (n, -(-self.height // STRIDE), -(-self.width // STRIDE))
        if self.grid.shape != shape:
            raise InputError(
                f"grid: expected {list(shape)} of quality {self.quality:g} and {self.width}x{self.height} pixels, "
                f"found {list(self.grid.shape)}"
            )
        for stage, (tokens, size) in enumerate(zip(self.grid, self.codebooks, strict=True)):
            low, high = int(tokens.min()), int(tokens.max())
            if low < ABSENT or high >= size:
                raise InputError(
                    f"grid: stage {stage + 1}: expected 0 to {size - 1}, found {low if low < ABSENT else high}"
                )

    @property
    def n_stages(self) -> int:
        """How many stages there are."""
        return len(self.grid)

    def stages(self, n: int) -> "Tokens":
        """Return the first n stages: a coarser picture.

        Raises:
            InputError: there are not so many.
        """
        if not isinstance(n, int) or not 1 <= n <= self.n_stages:
            raise InputError(f"stages: expected 1 to {self.n_stages}, found {n!r}")
        quality = min(self.quality, float(n))
        return replace(self, grid=self.grid[:n], codebooks=self.codebooks[:n], quality=quality)

    def save(self, path: str | Path) -> None:
        """Write a file of tokens (.safetensors), whole or not at all.

        Raises:
            InputError: it cannot be written.
        """
        save_bytes(Path(path), pack([self]))

    @staticmethod
    def load(path: str | Path) -> "Tokens":
        """Return the tokens that `save` has written, checked.

        Raises:
            FormatError: not a file of one picture's tokens, or damaged.
            InputError: it cannot be read.
        """
        images = load(path)
        if len(images) != 1:
            raise InputError(f"{path}: expected the tokens of one image, found {len(images)}")
        return images[0]


def stages_of(quality: float) -> int:
    """Return how many stages a quality has; of a fraction the last one is there in part.

    >>> stages_of(1), stages_of(3), stages_of(3.5)
    (1, 3, 4)
    """
    return 1 - (-quality_code(quality) // QUALITY_STEPS)


def integers(array: Any) -> NDArray[np.int32]:
    """Return a grid of integers, an array or tensor [stages, h, w], as int32.

    Raises:
        InputError: not integers, of other dimensions, empty, or beyond int32.
    """
    torch: Any = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch and isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = array.float().numpy() if array.is_floating_point() else array.numpy()
    wanted = "integers [stages, h, w]"
    if not isinstance(array, np.ndarray):
        raise InputError(f"grid: expected {wanted}, found {type(array).__name__}")
    if array.dtype.kind not in "iu" or array.ndim != 3 or 0 in array.shape:
        raise InputError(f"grid: expected {wanted}, found {array.dtype} {list(array.shape)}")
    if array.dtype.itemsize >= 4 and (array.max() >= 2**31 or array.min() < -(2**31)):
        raise InputError(f"grid: expected 32 bits, found {array.min()} to {array.max()}")
    return np.ascontiguousarray(array, np.int32)


# ---------------------------------------------------------------- files


def _shared(tokens: Tokens) -> dict[str, Any]:
    """Return what the images of a file have in common."""
    facts = (VERSION, tokens.model, tokens.weights_digest, tokens.quality, list(tokens.codebooks))
    return dict(zip(SHARED, facts, strict=True))


def pack(images: Sequence[Tokens], **extra: Any) -> bytes:
    """Return a file of tokens; the same bytes from the same images.

    Args:
        images: of one model and quality, at least one.
        extra: more facts for its JSON text.

    Raises:
        InputError: of several models or qualities, or none.
    """
    if not images:
        raise InputError("tokens: expected at least one image, found none")
    shared = _shared(images[0])
    if any(_shared(image) != shared for image in images):
        raise InputError("tokens: expected images of one model and quality, found several")
    fits = max(shared["codebooks"]) <= 2**15
    flat = np.concatenate([image.grid.ravel() for image in images])
    tensors: dict[str, NDArray[Any]] = {"tokens": flat.astype(np.int16 if fits else np.int32)}
    for number, image in enumerate(images):
        for key, value in image.metadata.items():
            tensors[f"{number}.{key}"] = np.frombuffer(value, np.uint8)
    facts = [
        {"name": i.name, "width": i.width, "height": i.height, "grey": i.is_grey} for i in images
    ]
    shared["crc32c"] = _checksum(tensors)
    # One key: several would be written in an order of their own.
    return safetensors.save(tensors, {KEY: json.dumps(shared | {"images": facts} | extra)})


def _checksum(tensors: dict[str, NDArray[Any]]) -> int:
    """Return the CRC-32C of all tensors' bytes, in the order of their names."""
    crc = 0
    for name in sorted(tensors):
        crc = crc32c(tensors[name].tobytes(), crc)
    return crc


def about(path: Path) -> dict[str, Any]:
    """Return the JSON text of a file of tokens: quick, and says nothing of the tokens themselves.

    Raises:
        FormatError: not a file of tokens, damaged, or of a newer version.
        InputError: it cannot be read.
    """
    with _reading(path), safe_open(path, "np") as file:
        return _about(file)


def coded_bytes(path: Path) -> list[int]:
    """Return how many bytes the tokens of a shard take in `.nc` files, by stage; as `about`."""
    with _reading(path), safe_open(path, "np") as file:
        facts = _about(file)
        sizes = [int(size) for size in facts["coded_bytes"]]
        if len(sizes) != stages_of(facts["quality"]):
            raise CorruptPayloadError(f"coded_bytes: found {sizes}")
        return sizes


def load(path: str | Path) -> list[Tokens]:
    """Return the tokens in a file, all of them checked.

    Raises:
        FormatError: not a file of tokens, damaged, or of a newer version.
        InputError: it cannot be read.
    """
    with _reading(Path(path)), safe_open(path, "np") as file:
        facts = _about(file)
        expected = _checksum({name: file.get_tensor(name) for name in file.keys()})
        if facts["crc32c"] != expected:
            raise ChecksumError(f"CRC-32C is {expected:#010x}, file says {facts['crc32c']!r}")
        flat = file.get_tensor("tokens")
        if flat.dtype not in (np.int16, np.int32) or flat.ndim != 1:
            raise CorruptPayloadError(
                f"tokens: expected int16 or int32 [n], found {flat.dtype} {list(flat.shape)}"
            )
        n, place = stages_of(facts["quality"]), 0
        images, names = [], set(file.keys())
        for number, image in enumerate(facts["images"]):
            shape = (n, -(-image["height"] // STRIDE), -(-image["width"] // STRIDE))
            end = place + shape[0] * shape[1] * shape[2]
            if not min(shape) > 0 or end > len(flat):
                raise CorruptPayloadError(
                    f"image {number}: expected {list(shape)} tokens, found {len(flat) - place}"
                )
            keys = [key for key in METADATA if f"{number}.{key}" in names]
            metadata = {key: file.get_tensor(f"{number}.{key}").tobytes() for key in keys}
            grid = flat[place:end].reshape(shape)
            with named(f"image {number}: "):
                images.append(
                    Tokens(
                        grid, facts["codebooks"], facts["quality"], image["width"], image["height"],
                        facts["model"], facts["weights"], image["grey"], image["name"], metadata,
                    )
                )  # fmt: skip
            place = end
        if place != len(flat):
            raise CorruptPayloadError(f"tokens: expected {place}, found {len(flat)}")
        return images


def _about(file: Any) -> dict[str, Any]:
    text = (file.metadata() or {}).get(KEY)
    if text is None:
        raise BadMagicError("not a file of tokens")
    facts = json.loads(text)
    if facts["version"] != VERSION:
        raise UnsupportedVersionError(
            f"expected version {VERSION}, found {facts['version']!r}: update ncodec"
        )
    if not isinstance(facts["images"], list) or not facts["images"]:
        raise CorruptPayloadError("expected at least one image, found none")
    if not all(isinstance(image["name"], str) for image in facts["images"]):
        raise CorruptPayloadError("expected text as names of images")
    return dict(facts)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Name the file in errors from within; what a damaged one raises becomes a FormatError."""
    try:
        yield
    except InputError as error:  # of Tokens: what is in the file is none
        raise CorruptPayloadError(f"{path}: {error}") from error
    except NcodecError as error:
        raise type(error)(f"{path}: {error}") from error
    except SafetensorError as error:
        raise BadMagicError(f"{path}: damaged, or not a file of tokens ({error})") from error
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CorruptPayloadError(f"{path}: damaged ({reason})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def save_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all; InputError where it cannot be written."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error


# ---------------------------------------------------------------- folders of `ncodec tokenize`


def read_index(folder: str | Path) -> dict[str, Any]:
    """Return what index.json of a folder of shards says, its files' names checked.

    Raises:
        InputError: there is none: no such folder, or `ncodec tokenize` has not finished.
        FormatError: it is damaged, or of a newer version.
    """
    path = Path(folder) / INDEX
    if Path(folder).is_dir() and not path.exists():
        raise InputError(
            f"{path}: not there: `ncodec tokenize` has not finished; the same command again goes on"
        )
    with _reading(path):
        try:
            index = dict(json.loads(path.read_bytes()))
        except FileNotFoundError as error:
            raise OSError(error.errno, "no such folder of shards") from error
        if index["version"] != VERSION:
            raise UnsupportedVersionError(
                f"expected version {VERSION}, found {index['version']!r}: update ncodec"
            )
        for shard in index["shards"]:
            if Path(shard["file"]).name != shard["file"]:
                raise CorruptPayloadError(
                    f"expected a file of this folder, found {shard['file']!r}"
                )
        return index


def read_shards(folder: str | Path) -> Iterator[Tokens]:
    """Yield the tokens of the images in a folder that `ncodec tokenize` has written, in its order.

    One shard is in memory at a time. For an order of your own: `read_index(folder)["shards"]`, and `load` of each.

    Raises:
        InputError: no such folder, an unfinished one, or a shard is missing.
        FormatError: a file is damaged, or is not what the index says.
    """
    index = read_index(folder)
    for shard in index["shards"]:
        path = Path(folder) / shard["file"]
        images = load(path)
        if (
            any(_shared(images[0])[key] != index[key] for key in SHARED)
            or len(images) != shard["images"]
        ):
            raise CorruptPayloadError(f"{path}: not the file that {INDEX} is about")
        yield from images


class Usage:
    """How the tokens of many images use their codebooks, and what bits they take: fixed, by histograms, coded.

    Args:
        codebooks: sizes, one a stage.
        levels: of a token's digits, of each stage, the first digit fastest; () where a token has none.
    """

    def __init__(self, codebooks: Sequence[int], levels: Sequence[tuple[int, ...]] = ()) -> None:
        self.levels = levels or [()] * len(codebooks)
        self.counts = [np.zeros(size, np.int64) for size in codebooks]
        self.coded_bytes = [0] * len(codebooks)

    def add(self, images: Iterable[Tokens], coded_bytes: Sequence[int]) -> None:
        """Count the tokens of images, which together take so many bytes in `.nc` files, by stage."""
        self.coded_bytes = [a + b for a, b in zip(self.coded_bytes, coded_bytes, strict=True)]
        for image in images:
            for count, grid in zip(self.counts, image.grid, strict=True):
                count += np.bincount(grid[grid != ABSENT], minlength=len(count))

    def stages(self) -> list[dict[str, float | None]]:
        """Return of each stage: stage, codebook (size), used (share of it that occurs at all), perplexity (2**entropy_bits).

        And, a token: raw_bits, log2(codebook); entropy_bits, of these tokens' histogram: the least that static
        frequencies take; digit_bits, the same of each digit's own histogram, None where there are no digits; coded_bits,
        in `.nc` files, payloads alone.
        """
        rows = []
        for stage, (count, levels, size_bytes) in enumerate(
            zip(self.counts, self.levels, self.coded_bytes, strict=True)
        ):
            n = max(int(count.sum()), 1)
            entropy = _entropy(count)
            by_digit = count.reshape(levels[::-1] or -1)
            axes = range(by_digit.ndim)
            digits = [_entropy(by_digit.sum(tuple({*axes} - {axis}))) for axis in axes]
            rows.append(
                {
                    "stage": stage + 1,
                    "codebook": len(count),
                    "used": np.count_nonzero(count) / len(count),
                    "perplexity": 2.0**entropy,
                    "raw_bits": math.log2(len(count)),
                    "digit_bits": sum(digits) if levels else None,
                    "entropy_bits": entropy,
                    "coded_bits": 8 * size_bytes / n,
                }
            )
        return rows


def _entropy(count: NDArray[np.int64]) -> float:
    """Return the bits a symbol of a histogram."""
    p = count[count > 0] / max(int(count.sum()), 1)
    return float((p * np.log2(1 / p)).sum())
