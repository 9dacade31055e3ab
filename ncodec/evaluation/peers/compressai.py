"""The models of CompressAI: its zoo, where its package is installed; and checkpoints, without it."""

import hashlib
import importlib.metadata
import importlib.util
import os.path
import re
import sys
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ncodec.bytestream import ByteReader, varint
from ncodec.errors import CorruptPayloadError, InputError, NcodecError, UnknownModelError, needing
from ncodec.evaluation.peers.common import Pixels

if TYPE_CHECKING:
    from ncodec.models.compressai import FileCodec

CHECKPOINTS = (".pth", ".pt", ".pth.tar", ".safetensors")  # what counts in a folder


def _compressai() -> Any:
    """Return the package compressai; where torchvision is missing, which it imports for its data sets only, without it."""
    try:
        if "torchvision" not in sys.modules and not importlib.util.find_spec("torchvision"):
            stub = ModuleType("torchvision")
            stub.transforms = ModuleType("torchvision.transforms")  # type: ignore[attr-defined]
            sys.modules |= {"torchvision": stub, "torchvision.transforms": stub.transforms}
        import compressai
        import compressai.zoo.image
    except (ImportError, RuntimeError) as error:
        raise InputError(f"codec compressai needs the package compressai: {error}") from error
    return compressai


@dataclass(frozen=True)
class CompressAi:
    """A model of CompressAI's zoo, by its own name; quality 1 to 8, of which each is a network of its own."""

    model: str = "mbt2018-mean"
    metric: str = "mse"
    checkpoint: str = ""  # a state dict instead of the download; {q} in the name is the quality
    device: str = "cpu"

    WORST: ClassVar[float] = 1
    BEST: ClassVar[float] = 8
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)
    LOW: ClassVar[tuple[float, ...]] = (1, 2, 3)
    STRIDE: ClassVar[int] = 64

    def versions(self) -> dict[str, str]:
        package = _compressai()
        names = [name for name in package.zoo.image_models if not name.endswith("-vbr")]
        if self.model not in names:
            raise UnknownModelError(
                f"codec compressai: expected model {', '.join(names)}, found {self.model!r}"
            )
        return {"compressai": package.__version__, "torch": importlib.metadata.version("torch")}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Return the entropy coder's strings, each behind its length (4 bytes), after 7 bytes of sizes."""
        import torch

        x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(self.device) / 255
        height, width = x.shape[2:]
        padding = (0, -width % self.STRIDE, 0, -height % self.STRIDE)
        with torch.inference_mode():
            padded = torch.nn.functional.pad(x, padding, mode="replicate")
            coded = _compressai_network(self, round(quality)).compress(padded)
        head = bytes([round(quality), len(coded["strings"]), len(coded["strings"][0])])
        head += b"".join(int(side).to_bytes(2, "little") for side in coded["shape"])
        parts = [string for strings in coded["strings"] for string in strings]
        return head + b"".join(len(part).to_bytes(4, "little") + part for part in parts)

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        import torch

        quality, n_groups, n_strings = data[:3]
        size = [int.from_bytes(data[at : at + 2], "little") for at in (3, 5)]
        parts, at = [], 7
        while at < len(data):
            length = int.from_bytes(data[at : at + 4], "little")
            parts.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        strings = [parts[i * n_strings : (i + 1) * n_strings] for i in range(n_groups)]
        with torch.inference_mode():
            x_hat = _compressai_network(self, quality).decompress(strings, size)["x_hat"]
        x_hat = x_hat[0, :, : shape[0], : shape[1]].clamp(0, 1)
        return (x_hat * 255).round().byte().permute(1, 2, 0).cpu().numpy()


@lru_cache(maxsize=2)
def _compressai_network(codec: CompressAi, quality: int) -> Any:
    """Return a network that is ready to code. Its files decode only where its floats come out the same."""
    import torch

    zoo = _compressai().zoo.image
    if codec.checkpoint:
        path = codec.checkpoint.replace("{q}", str(quality))
        state = torch.load(path, map_location="cpu", weights_only=True)
        network = zoo.model_architectures[codec.model].from_state_dict(state)
    else:
        network = zoo.image_models[codec.model](quality, metric=codec.metric, pretrained=True)
    network = network.to(codec.device).eval()
    network.update(force=True)
    return network


# ---------------------------------------------------------------- checkpoints


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints of CompressAI's models, in layers and with a coder of our own (ncodec/models/compressai.py).

    Quality n is the n-th of `paths`: files and folders, commas between; of a folder, its checkpoints, by the numbers in
    their names. One that does not load is a gap in the curve. They should come in order of their rates, for targets.
    """

    paths: str

    WORST: ClassVar[float] = 1
    STEP: ClassVar[float] = 1
    NOTE: ClassVar[str] = (
        "float32: files decode in the process that wrote them, and need not elsewhere; "
        "pixels are CompressAI's up to float rounding, bytes are our coder's"
    )

    def __post_init__(self) -> None:
        if not self.files:
            raise InputError(
                f"codec compressai: expected files {', '.join(CHECKPOINTS)} in {self.paths}, found none"
            )

    @cached_property
    def files(self) -> list[Path]:
        """The checkpoints, in order of their qualities."""
        found: list[Path] = []
        is_one = os.path.exists(self.paths)  # a name may have commas
        for part in [self.paths] if is_one else self.paths.split(","):
            if not part:
                raise InputError(f"codec compressai: expected names with commas between, found an empty one in {self.paths!r}")  # fmt: skip
            if os.path.isdir(part):
                try:
                    inside = [p for p in Path(part).iterdir() if _is_checkpoint(p)]
                except OSError as error:
                    raise InputError(f"codec compressai: {part}: {error.strerror}") from error
                found += sorted(inside, key=_by_numbers)
            elif os.path.isfile(part):
                found.append(Path(part))
            else:
                raise InputError(f"codec compressai: expected a file, a folder or option=…, found {part!r}")  # fmt: skip
        return found

    @property
    def BEST(self) -> float:
        return len(self.files)

    @property
    def QUALITIES(self) -> tuple[float, ...]:
        return tuple(range(1, len(self.files) + 1))

    @property
    def LOW(self) -> tuple[float, ...]:
        return self.QUALITIES[:3]

    def versions(self) -> dict[str, str]:
        facts, gaps = {}, []
        with needing("codec compressai", "eval"):
            for n, path in enumerate(self.files, 1):
                try:
                    facts[f"quality {n}"] = _facts(path)
                except NcodecError as error:  # this quality's gap: encode says so again
                    gaps.append(error)
                    facts[f"quality {n}"] = f"{path.name} (does not load)"
        if len(gaps) == len(self.files):
            raise gaps[0]
        return {name: importlib.metadata.version(name) for name in ("ncodec", "torch")} | facts

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Return the quality (varint) and the file that ncodec/models/compressai.py says."""
        return varint(round(quality)) + _codec(self.files[round(quality) - 1]).encode(pixels)

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        source = ByteReader(data)
        quality = source.varint("quality")
        if not 1 <= quality <= self.BEST:
            raise CorruptPayloadError(f"quality: expected 1 to {self.BEST}, found {quality}")
        return _codec(self.files[quality - 1]).decode(data[source.offset :], shape)


def _is_checkpoint(path: Path) -> bool:
    return path.name.endswith(CHECKPOINTS) and not path.name.startswith(".") and path.is_file()


def _by_numbers(path: Path) -> list[Any]:
    """Return what sorts names by the numbers in them: q2 ahead of q10, 0.0067 ahead of 0.013."""
    parts = re.split(r"(\d+(?:\.\d+)?)", path.name)
    return [float(part) if k % 2 else part for k, part in enumerate(parts)]


@cache
def _facts(path: Path) -> str:
    """Return a line on a checkpoint: its name, model, digest."""
    from ncodec.models.compressai import load

    network = load(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return f"{path.name} ({network.name}, N={network.N}, M={network.M}, {digest})"


@lru_cache(maxsize=2)
def _codec(path: Path) -> "FileCodec":
    from ncodec.models.compressai import FileCodec, load

    return FileCodec(load(path))
