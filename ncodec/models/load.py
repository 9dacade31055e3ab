"""Models, ready to run: found by name, file or a header's digest, loaded once per file and device."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ncodec import families
from ncodec.container import NO_WEIGHTS, Header
from ncodec.container.header import DIGEST_BYTES
from ncodec.errors import CorruptPayloadError, InputError, WeightsMismatchError, named, needing
from ncodec.families import Family, family_by_id
from ncodec.models import weights
from ncodec.models.protocol import Codec, EncodeOptions


@dataclass(frozen=True)
class LoadedModel:
    """A codec ready to run, with what identifies it."""

    name: str
    family: Family
    digest: bytes
    codec: Codec

    def layout(self, quality_code: int, options: EncodeOptions) -> tuple[int, int]:
        """Return the layers and ranges of a file; what the codec refuses of options names the model."""
        with named(f"model {self.name}, "):
            return self.codec.layout(quality_code, options)


def check_device(device: str) -> None:
    """Raise InputError unless it is the name of a device: they come as text or as torch.device."""
    if str(device) not in ("cpu", "cuda"):
        raise InputError(f"device {device!r}: expected 'cpu' or 'cuda'")


def find_device(device: str) -> str:
    """Return the name of a device that is there: "cpu" or "cuda", for which torch is imported.

    Raises:
        InputError: not one of these, or not there.
    """
    check_device(device)
    if str(device) == "cpu":
        return "cpu"
    with needing("device 'cuda'", "torch"):
        import torch
    if not torch.cuda.is_available():
        raise InputError("device 'cuda': not available; expected 'cpu' or a working 'cuda'")
    return "cuda"


@lru_cache(maxsize=4)
def _load_file(path: Path, mtime_ns: int, device: str) -> LoadedModel:
    tensors, about, digest = weights.read(path)
    name = ""
    for entry in weights.list_models():
        if entry.path == path:
            name = entry.name
            if entry.sha256 != digest.hex():
                raise WeightsMismatchError(
                    f"{path}: expected SHA-256 {entry.sha256}, found {digest.hex()}"
                )
    with weights.reading(path):
        family = weights.family_named(about["family"])
        codec: Codec = family.load().make_codec(tensors, about, device)
        return LoadedModel(name or about["name"], family, digest[:DIGEST_BYTES], codec)


@lru_cache(maxsize=16)
def _weightless(family: Family) -> LoadedModel:
    return LoadedModel(family.name, family, NO_WEIGHTS, family.load().make_codec({}, {}, "cpu"))


def load_file(path: Path, device: str = "cpu") -> LoadedModel:
    """Return the model in a weights file.

    Args:
        path: weights file.
        device: "cpu" or "cuda".

    Raises:
        InputError: no such file or device.
        WeightsMismatchError: the file is damaged or not ours.
    """
    found = find_device(device)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    return _load_file(path, path.stat().st_mtime_ns, found)


def find(model: str | Path | None, tune: str | None = None) -> Family | Path:
    """Return where a model is: a family without weights, by its name, or what `weights.find_by_name` finds.

    Raises:
        UnknownModelError, WeightsMismatchError: it cannot be had.
        InputError: it has no such tune.
    """
    for family in families.FAMILIES:
        if family.name == str(model) and not family.has_weights and family.holds == "tiles":
            weights.check_tune(family.name, [], tune)
            return family
    return weights.find_by_name(model, tune)


def load_by_name(
    model: str | Path | None, device: str = "cpu", tune: str | None = None
) -> LoadedModel:
    """Return a model by its shipped name, its weights file, the name of a family without weights, or the default (None).

    Raises:
        InputError: no such device, or not in that tune.
        UnknownModelError, WeightsMismatchError: it cannot be had.
    """
    found = find(model, tune)
    if isinstance(found, Path):
        return load_file(found, device)
    find_device(device)
    return _weightless(found)


def load_for(header: Header, model: str | Path | None, device: str = "cpu") -> LoadedModel:
    """Return what decodes a file: by the digest in its header, of the shipped models or of the one that is named.

    Raises:
        InputError: no such device.
        UnsupportedVersionError: the family is unknown.
        CorruptPayloadError: layers, or a digest of weights, in a file of a family without; or no layers in one with.
        UnknownModelError, WeightsMismatchError: the weights cannot be had, or the file was made with others.
    """
    family = family_by_id(header.family)
    if header.is_layered != family.is_layered:
        raise CorruptPayloadError(
            f"header: expected {'' if family.is_layered else 'no '}layers of family {family.name}"
        )
    if header.is_second and not family.has_second:
        raise CorruptPayloadError(f"header: family {family.name} has no second way of coding")
    if not family.has_weights:
        find_device(device)
        if header.weights_digest != NO_WEIGHTS:
            raise CorruptPayloadError(
                f"header: expected no weights digest of family {family.name}, found {header.weights_digest.hex()}"
            )
        return _weightless(family)
    path = weights.find_by_digest(header.weights_digest, model)
    loaded = load_file(path, device)
    if (loaded.digest, loaded.family.wire_id) != (header.weights_digest, family.wire_id):
        raise WeightsMismatchError(
            f"{path}: file was made with weights {header.weights_digest.hex()} of family {family.name}, "
            f"this is {loaded.digest.hex()}"
        )
    return loaded
