"""The models of CompressAI, where its package is installed."""

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from ncodec.errors import InputError, UnknownModelError
from ncodec.evaluation.peers.common import Pixels


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
