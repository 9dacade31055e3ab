"""Weights: shipped models by name and tune, files by path, and the files' own form.

    dct --> dct-visual, dct-psnr     a model, and the weights of its tunes: what errors are weighed by
    masked-s                         has one tune, and no other name

A weights file is safetensors: the integers of a family's layers and tables, as its specification names them,
and a JSON text under the metadata key "ncodec": name, family, what make_codec reads, and "tune" where it is not the family's.
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

# What reading a file that is not ours may raise.
NOT_OURS = (
    SafetensorError, KeyError, OverflowError, TypeError, ValueError, RuntimeError, StopIteration,
)  # fmt: skip
# Of a model that has both, which are NAME-visual and NAME-psnr in the index; the usual one first.
TUNES = ("visual", "psnr")


@dataclass(frozen=True)
class Model:
    """The weights of a shipped model in one tune, as weights/index.json describes them."""

    name: str  # no other's
    family: str
    tune: str  # what errors are weighed by
    file: str
    sha256: str
    about: dict[str, Any]  # parameters, kmac_per_pixel, efforts, training: for people
    self_test: dict[str, Any]  # see ncodec/selftest.py

    @property
    def base(self) -> str:
        """The model's name in all its tunes."""
        return base_of(self.name, self.tune)

    @property
    def path(self) -> Path:
        """Where the weights are installed."""
        return DIR / self.file

    @property
    def digest(self) -> bytes:
        """What the header of a file made with these weights says."""
        return bytes.fromhex(self.sha256)[:DIGEST_BYTES]


def list_models() -> list[Model]:
    """Return the shipped models, each tune for itself; the first is the default."""
    return [Model(**entry) for entry in json.loads((DIR / "index.json").read_text())["models"]]


def base_of(name: str, tune: str) -> str:
    """Return a name without its tune: "dct" of "dct-visual"."""
    return name.removesuffix(f"-{tune}")


def models_by_name() -> dict[str, list[Model]]:
    """Return the shipped models by what a user may name: a model, its usual tune first, or one of its tunes.

    The first is the default model.
    """
    entries = list_models()
    named: dict[str, list[Model]] = {entry.base: [] for entry in entries}
    for entry in sorted(entries, key=lambda entry: entry.tune != TUNES[0]):
        named[entry.base].append(entry)
    return named | {entry.name: [entry] for entry in entries if entry.name not in named}


def find_by_name(model: str | Path | None, tune: str | None = None) -> Path:
    """Return the weights file of a shipped model, of a path, or of the default model (None).

    Args:
        model: a model's name, the name of one of its tunes, or a path.
        tune: that it has; None: its usual one, or what it is.

    Raises:
        UnknownModelError: neither a shipped name nor an existing file.
        InputError: it has no such tune.
        WeightsMismatchError: with a tune, the path's is not a weights file of ncodec.
    """
    named = models_by_name()
    if not isinstance(model, (str, Path, type(None))):
        raise InputError(f"model: expected a name or a path, found {type(model).__name__}")
    name = next(iter(named)) if model is None else str(model)
    if name in named:
        tunes = {entry.tune: entry.path for entry in named[name]}
        check_tune(name, list(tunes), tune)
        return named[name][0].path if tune is None else tunes[tune]
    with suppress(OSError):  # a name that no file may have
        if Path(name).is_file():
            if tune is not None:
                check_tune(name, [tune_of(Path(name))], tune)
            return Path(name)
    raise UnknownModelError(
        f"model {name!r}: expected one of {', '.join(named)}, or a weights file"
    )


def check_tune(model: str, tunes: list[str], tune: str | None) -> None:
    """Raise InputError unless a tune, if one is asked for, is among those of a model."""
    if tune is not None and not (isinstance(tune, str) and tune in tunes):
        expected = ", ".join(tunes) or "none, as it has no weights"
        raise InputError(f"model {model}, tune: expected {expected}, found {tune!r}")


def find_start(model: str | Path) -> Path:
    """Return the weights that training starts from: as `find_by_name`, but "psnr" of a model that comes in tunes."""
    is_choice = len(models_by_name().get(str(model), [])) > 1
    return find_by_name(model, "psnr" if is_choice else None)


def find_by_digest(digest: bytes, model: str | Path | None = None) -> Path:
    """Return the weights with the digest of a file's header, or, without it, those of a model that is named.

    Raises:
        UnknownModelError: no shipped model has it, and none is named; or it cannot be had.
    """
    entries = list_models() if model is None else models_by_name().get(str(model), [])
    for entry in entries:
        if entry.digest == digest:
            return entry.path
    if model is not None:
        return find_by_name(model)
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
    except NOT_OURS as error:
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


def tune_of(path: Path) -> str:
    """Return what errors are weighed by in a weights file: as it says, or as its family does.

    Raises:
        InputError: the file cannot be read.
        WeightsMismatchError: it is not a weights file of ncodec.
    """
    with reading(path), safe_open(path, "np") as file:
        about = json.loads((file.metadata() or {})["ncodec"])
        family = family_named(about["family"])  # TypeError unless it is a table
        tune = about.get("tune", family.tune)
        if not (isinstance(tune, str) and tune):
            raise ValueError(f"tune: expected a name, found {tune!r}")
        return tune


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
