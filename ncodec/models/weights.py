"""Weights: shipped models by name, files by path, and the files' own form.

A weights file is safetensors: the integers of a family's layers and tables, as its specification names them,
and a JSON text under the metadata key "ncodec".
Its digest, the first 8 bytes of its SHA-256, stands in every file made with it.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ncodec import families
from ncodec.container.header import DIGEST_BYTES
from ncodec.errors import InputError, UnknownModelError, WeightsMismatchError
from ncodec.nn import N_SCALES
from ncodec.weights import DIR


@dataclass(frozen=True)
class Model:
    """A shipped model, as weights/index.json describes it."""

    name: str
    family: str
    file: str
    sha256: str
    about: dict[str, Any]  # parameters, kmac_per_pixel, efforts, training: for people
    self_test: dict[str, Any]  # see ncodec/selftest.py

    @property
    def path(self) -> Path:
        """Where the weights are installed."""
        return DIR / self.file

    @property
    def digest(self) -> bytes:
        """What the header of a file made with these weights says."""
        return bytes.fromhex(self.sha256)[:DIGEST_BYTES]


def list_models() -> list[Model]:
    """Return the shipped models; the first is the default."""
    return [Model(**entry) for entry in json.loads((DIR / "index.json").read_text())["models"]]


def find_by_name(model: str | Path | None) -> Path:
    """Return the weights file of a shipped model, of a path, or of the default model (None).

    Raises:
        UnknownModelError: neither a shipped name nor an existing file.
    """
    entries = list_models()
    if model is None:
        return entries[0].path
    for entry in entries:
        if entry.name == str(model):
            return entry.path
    if not isinstance(model, (str, Path)):
        raise InputError(f"model: expected a name or a path, found {type(model).__name__}")
    with suppress(OSError):  # a name that no file may have
        if Path(model).is_file():
            return Path(model)
    names = ", ".join(entry.name for entry in entries)
    raise UnknownModelError(f"model {str(model)!r}: expected one of {names}, or a weights file")


def find_by_digest(digest: bytes) -> Path:
    """Return the shipped weights with the digest of a file's header.

    Raises:
        UnknownModelError: no shipped model has it.
    """
    for entry in list_models():
        if entry.digest == digest:
            return entry.path
    raise UnknownModelError(
        f"header: weights {digest.hex()} are not among the shipped models; give them by --model FILE"
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a file that is not ours raises into a WeightsMismatchError."""
    try:
        yield
    except WeightsMismatchError as error:
        raise WeightsMismatchError(f"{path}: {error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        raise WeightsMismatchError(
            f"{path}: not a weights file of this version of ncodec ({error})"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error


def family_of(path: Path) -> families.Family:
    """Return the family of a weights file, by its metadata alone.

    Raises:
        InputError: the file cannot be read.
        WeightsMismatchError: it is not a weights file of ncodec.
    """
    with reading(path), safe_open(path, "np") as file:
        return family_named(json.loads((file.metadata() or {})["ncodec"])["family"])


def family_named(name: str) -> families.Family:
    """Return the family that a weights file names; StopIteration if none with weights has the name."""
    return next(f for f in families.FAMILIES if f.name == name and f.has_weights)


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any], bytes]:
    """Return the tensors of a weights file, what it says of itself, and its SHA-256.

    Raises:
        InputError: the file cannot be read.
        WeightsMismatchError: it is damaged, or not a weights file of ncodec.
    """
    with reading(path):
        digest = hashlib.sha256(path.read_bytes()).digest()
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {})["ncodec"])
            return {name: file.get_tensor(name) for name in file.keys()}, about, digest


def checked_skip(about: Mapping[str, Any]) -> int:
    """Return "skip_below" of a weights file; ValueError unless it is a number of rows."""
    skip_below = about["skip_below"]
    if type(skip_below) is not int or not 0 <= skip_below <= N_SCALES:
        raise ValueError(f"skip_below: expected 0 to {N_SCALES}, found {skip_below!r}")
    return skip_below
