"""JPEG XL through imagecodecs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ncodec.errors import InputError
from ncodec.evaluation.peers.common import Pixels, check_option


def _imagecodecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise InputError("codec jxl needs imagecodecs: pip install 'ncodec[eval]'") from error
    return imagecodecs


@dataclass(frozen=True)
class JpegXl:
    """JPEG XL (lossy: XYB, VarDCT) by libjxl; its quality is the Butteraugli distance, 25 to 0.05; or lossless."""

    effort: int = 7
    lossless: bool = False

    WORST: ClassVar[float] = 25
    BEST: ClassVar[float] = 0.05
    STEP: ClassVar[float] = 0
    QUALITIES: ClassVar[tuple[float, ...]] = (20, 14, 9, 6, 4, 2.8, 2, 1.2, 0.7)
    LOW: ClassVar[tuple[float, ...]] = (25, 20, 17, 14, 9)

    def __post_init__(self) -> None:
        check_option("jxl", "effort", self.effort, range(1, 11))

    def versions(self) -> dict[str, str]:
        codecs = _imagecodecs()
        return {"imagecodecs": codecs.__version__, "libjxl": codecs.jpegxl_version()}

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        return bytes(
            _imagecodecs().jpegxl_encode(
                pixels,
                distance=None if self.lossless else quality,
                effort=self.effort,
                lossless=self.lossless,
                numthreads=1,
            )
        )

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        return np.asarray(_imagecodecs().jpegxl_decode(data, numthreads=1))
