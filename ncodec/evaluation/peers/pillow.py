"""Still-picture codecs that come with Pillow: JPEG, WebP, AVIF, JPEG 2000, PNG."""

import importlib.metadata
from dataclasses import dataclass
from io import BytesIO
from typing import Any, ClassVar

import numpy as np
from PIL import Image, features

from ncodec.errors import InputError
from ncodec.evaluation.peers.common import Pixels, check_option


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
    LOW: ClassVar[tuple[float, ...]] = (1, 3, 5, 8, 10, 14)

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
    """WebP by libwebp: lossy, so 4:2:0, quality 0 to 100; or lossless, then at the quality (effort) 100."""

    method: int = 6
    lossless: bool = False

    WORST: ClassVar[float] = 0
    BEST: ClassVar[float] = 100
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (0, 5, 15, 30, 50, 70, 82, 90, 95, 98)
    LOW: ClassVar[tuple[float, ...]] = (0, 1, 2, 5, 15)

    def __post_init__(self) -> None:
        check_option("webp", "method", self.method, range(7))

    def versions(self) -> dict[str, str]:
        return _pillow_versions("webp")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        if self.lossless:
            return _save(pixels, "WEBP", lossless=True, quality=100, method=self.method)
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
    LOW: ClassVar[tuple[float, ...]] = (0, 4, 8, 14, 20, 32)

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
    LOW: ClassVar[tuple[float, ...]] = (16, 18, 20, 22, 24, 26, 28)

    def versions(self) -> dict[str, str]:
        return _pillow_versions("jpg_2000")

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return _save(
            pixels, "JPEG2000", quality_mode="dB", quality_layers=[quality],
            irreversible=True, mct=1,
        )  # fmt: skip

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return _load(data)


@dataclass(frozen=True)
class Png:
    """PNG by Pillow, its `optimize` on: lossless; then by an optimiser, `oxipng` (the package pyoxipng) at its level 6."""

    optimiser: str = ""

    lossless: ClassVar[bool] = True
    WORST: ClassVar[float] = 0
    BEST: ClassVar[float] = 0
    STEP: ClassVar[float] = 1
    QUALITIES: ClassVar[tuple[float, ...]] = (0,)
    LOW: ClassVar[tuple[float, ...]] = (0,)

    def __post_init__(self) -> None:
        check_option("png", "optimiser", self.optimiser, ("", "oxipng"))

    def versions(self) -> dict[str, str]:
        found = _pillow_versions("zlib")
        if self.optimiser:
            try:
                found["pyoxipng"] = importlib.metadata.version("pyoxipng")
            except importlib.metadata.PackageNotFoundError as error:
                raise InputError(
                    "codec png:optimiser=oxipng needs pyoxipng: pip install pyoxipng"
                ) from error
        return found

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        if not self.optimiser:
            return _save(pixels, "PNG", optimize=True)
        import oxipng

        return bytes(oxipng.optimize_from_memory(_save(pixels, "PNG", compress_level=1), level=6))

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return _load(data)
