"""The codecs that can be measured, by name: `NAME[:option=value,…]`, such as `avif:speed=2,tune=psnr`.

A codec turns RGB pixels into the bytes of a file and back, on one thread. What it needs is imported
when it is first used; what is missing is said in one message.
"""

import importlib.metadata
import importlib.util
import sys
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from io import BytesIO
from types import ModuleType
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image, features

from ncodec.errors import InputError, UnknownModelError
from ncodec.evaluation.video import Hevc, Pixels, SvtAv1, Vtm, Vvenc, check_option
from ncodec.models.dct import Choices, DctCodec
from ncodec.models.weights import LoadedModel, find_by_name


class Codec(Protocol):
    """What can be measured. Fields of the dataclass are its options."""

    WORST: ClassVar[float]  # quality of the smallest files, for the search of targets
    BEST: ClassVar[float]  # quality of the largest
    STEP: ClassVar[float]  # between two qualities; 0: any number
    QUALITIES: ClassVar[tuple[float, ...]]  # of a curve, where none are asked for

    def versions(self) -> dict[str, str]:
        """Return the versions of all that decides on bytes and pixels.

        Raises:
            InputError, ModelError: a library, program or model is missing.
        """
        ...

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        """Return the file of an RGB image [H, W, 3]."""
        ...

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        """Return RGB [H, W, 3]; `shape` (H, W) is for streams that do not hold their own size."""
        ...


# ---------------------------------------------------------------- Pillow


def _save(pixels: Pixels, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, form, **options)
    return stream.getvalue()


def _load(data: bytes) -> Pixels:
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _pillow_versions(feature: str) -> dict[str, str]:
    if not features.check(feature):
        raise InputError(f"this build of Pillow has no {feature}")
    return {"pillow": importlib.metadata.version("pillow"), feature: str(features.version(feature))}


@dataclass(frozen=True)
class Jpeg:
    """JPEG by libjpeg-turbo, Huffman tables optimised; quality 1 to 100."""

    subsampling: str = "4:2:0"
    progressive: bool = False

    WORST: ClassVar[float] = 1
    BEST: ClassVar[float] = 100
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (5, 10, 18, 30, 45, 60, 75, 85, 92, 96)

    def __post_init__(self) -> None:
        check_option("jpeg", "subsampling", self.subsampling, ("4:4:4", "4:2:2", "4:2:0"))

    def versions(self) -> dict[str, str]:
        return _pillow_versions("libjpeg_turbo")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _save(
            pixels, "JPEG", quality=round(quality), optimize=True,
            progressive=self.progressive, subsampling=self.subsampling,
        )  # fmt: skip

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return _load(data)


@dataclass(frozen=True)
class Webp:
    """WebP (lossy, so 4:2:0) by libwebp; quality 0 to 100."""

    method: int = 6

    WORST: ClassVar[float] = 0
    BEST: ClassVar[float] = 100
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (0, 5, 15, 30, 50, 70, 82, 90, 95, 98)

    def __post_init__(self) -> None:
        check_option("webp", "method", self.method, range(7))

    def versions(self) -> dict[str, str]:
        return _pillow_versions("webp")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _save(pixels, "WEBP", quality=round(quality), method=self.method)

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return _load(data)


@dataclass(frozen=True)
class Avif:
    """AVIF by libaom through libavif, 8 bits; quality 0 to 100. `tune`: libaom's, empty for its default."""

    speed: int = 6
    subsampling: str = "4:4:4"
    tune: str = ""

    WORST: ClassVar[float] = 0
    BEST: ClassVar[float] = 100
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (8, 20, 32, 44, 54, 64, 74, 82, 90)

    def __post_init__(self) -> None:
        check_option("avif", "subsampling", self.subsampling, ("4:4:4", "4:2:2", "4:2:0"))
        check_option("avif", "speed", self.speed, range(11))

    def versions(self) -> dict[str, str]:
        return _pillow_versions("avif")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _save(
            pixels, "AVIF", quality=round(quality), speed=self.speed, codec="aom", max_threads=1,
            subsampling=self.subsampling, advanced={"tune": self.tune} if self.tune else {},
        )  # fmt: skip

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return _load(data)


@dataclass(frozen=True)
class Jpeg2000:
    """JPEG 2000 by OpenJPEG: 9/7 wavelet, one layer at a given PSNR (dB, which is its quality)."""

    WORST: ClassVar[float] = 10
    BEST: ClassVar[float] = 60
    STEP: ClassVar[float] = 0
    QUALITIES: ClassVar[tuple[float, ...]] = (24, 26, 28, 30, 32, 34, 37, 40, 43)

    def versions(self) -> dict[str, str]:
        return _pillow_versions("jpg_2000")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _save(
            pixels, "JPEG2000", quality_mode="dB", quality_layers=[quality],
            irreversible=True, mct=1,
        )  # fmt: skip

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return _load(data)


# ---------------------------------------------------------------- imagecodecs


def _imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise InputError("codec jxl needs imagecodecs: pip install 'ncodec[eval]'") from error
    return imagecodecs


@dataclass(frozen=True)
class JpegXl:
    """JPEG XL (lossy: XYB, VarDCT) by libjxl; its quality is the Butteraugli distance, 25 to 0.05."""

    effort: int = 7

    WORST: ClassVar[float] = 25
    BEST: ClassVar[float] = 0.05
    STEP: ClassVar[float] = 0
    QUALITIES: ClassVar[tuple[float, ...]] = (20, 14, 9, 6, 4, 2.8, 2, 1.2, 0.7)

    def __post_init__(self) -> None:
        check_option("jxl", "effort", self.effort, range(1, 11))

    def versions(self) -> dict[str, str]:
        codecs = _imagecodecs()
        return {"imagecodecs": codecs.__version__, "libjxl": codecs.jpegxl_version()}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return bytes(
            _imagecodecs().jpegxl_encode(
                pixels, distance=quality, effort=self.effort, lossless=False, numthreads=1
            )
        )

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return np.asarray(_imagecodecs().jpegxl_decode(data, numthreads=1))


# ---------------------------------------------------------------- learned codecs


@dataclass(frozen=True)
class Ncodec:
    """A model of ours: a shipped one by its name, or a weights file by `ncodec:model=FILE`."""

    model: str = ""  # the first shipped one
    device: str = "cpu"

    WORST: ClassVar[float] = 1
    BEST: ClassVar[float] = 8
    STEP: ClassVar[float] = 0
    QUALITIES: ClassVar[tuple[float, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)

    def versions(self) -> dict[str, str]:
        from ncodec import __version__
        from ncodec.codec import find_device, load_model

        find_device(self.device)
        loaded = load_model(find_by_name(self.model or None), "cpu")
        return {
            "ncodec": __version__,
            "weights": loaded.digest.hex(),
            "torch": importlib.metadata.version("torch"),
        }

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        from ncodec import codec

        return codec.encode(pixels, quality, self.model or None, self.device)

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        from ncodec import codec

        return codec.decode(data, "numpy", self.model or None, self.device)


@dataclass(frozen=True)
class Dct(Choices):
    """Family dct, shipped or from a weights file, with its encoder's choices as options."""

    model: str = "dct"

    WORST: ClassVar[float] = 1
    BEST: ClassVar[float] = 8
    STEP: ClassVar[float] = 0
    QUALITIES: ClassVar[tuple[float, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)

    def _loaded(self) -> LoadedModel:
        from ncodec.codec import load_model

        loaded = load_model(find_by_name(self.model), "cpu")
        if not isinstance(loaded.codec, DctCodec):
            raise InputError(f"codec dct: {self.model} is not a model of family dct")
        own = {option.name: getattr(self, option.name) for option in fields(Choices)}
        return replace(loaded, codec=loaded.codec.with_choices(Choices(**own)))

    def versions(self) -> dict[str, str]:
        from ncodec import __version__

        return {"ncodec": __version__, "weights": self._loaded().digest.hex()}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        from ncodec import codec

        return codec.encode_with(self._loaded(), pixels, quality)

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        from ncodec import codec

        return codec.decode(data, "numpy", self.model, "cpu")


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


# ---------------------------------------------------------------- names

CODECS: dict[str, type[Codec]] = {
    "jpeg": Jpeg,
    "webp": Webp,
    "avif": Avif,
    "jxl": JpegXl,
    "jpeg2000": Jpeg2000,
    "hevc": Hevc,
    "svtav1": SvtAv1,
    "vvenc": Vvenc,
    "vtm": Vtm,
    "ncodec": Ncodec,
    "dct": Dct,
    "compressai": CompressAi,
}


def _value(text: str, kind: type, place: str) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise InputError(f"{place}: expected true or false, found {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{place}: expected {kind.__name__}, found {text!r}") from error


def parse_codec(text: str) -> Codec:
    """Return the codec named by `NAME[:option=value,…]`; NAME is a key of `CODECS` or a shipped model.

    Raises:
        InputError: no such name or option, or a value of the wrong kind.

    >>> parse_codec("avif:speed=2,subsampling=4:2:0")
    Avif(speed=2, subsampling='4:2:0', tune='')
    """
    from ncodec.models.weights import list_models

    name, _, rest = text.partition(":")
    models = [model.name for model in list_models()]
    kind: Any = CODECS.get(name) or (Ncodec if name in models else None)
    given: dict[str, object] = {"model": name} if kind is Ncodec and name in models else {}
    if kind is None:
        known = dict.fromkeys([*CODECS, *models])
        raise InputError(f"codec {name!r}: expected one of {', '.join(known)}")
    kinds: dict[str, Any] = {option.name: option.type for option in fields(kind) if option.init}
    for part in rest.split(",") if rest else []:
        option, equals, value = part.partition("=")
        if option not in kinds or not equals or option in given:
            raise InputError(
                f"codec {text!r}: expected options {', '.join(k + '=…' for k in kinds if k not in given)}, "
                f"found {part!r}"
            )
        given[option] = _value(value, kinds[option], f"codec {text!r}, {option}")
    return kind(**given)


def codec_name(codec: Codec) -> str:
    """Return the shortest text that `parse_codec` turns into this codec: defaults are left out.

    >>> codec_name(parse_codec("avif:tune=,speed=2"))
    'avif:speed=2'
    """
    from ncodec.models.weights import list_models

    changed = {
        option.name: getattr(codec, option.name)
        for option in fields(codec)  # type: ignore[arg-type]
        if option.init and getattr(codec, option.name) != option.default
    }  # fmt: skip
    name = next(key for key, kind in CODECS.items() if isinstance(codec, kind))
    if name == "ncodec" and changed.get("model") in [model.name for model in list_models()]:
        name = changed.pop("model")
    options = ",".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in changed.items()
    )
    return f"{name}:{options}" if options else name
