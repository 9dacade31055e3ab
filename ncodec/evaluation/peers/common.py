"""What every codec that can be measured is."""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ncodec.errors import InputError

Pixels = NDArray[np.uint8]  # [H, W, 3]


ASKED_OF_LOSSLESS = "0"  # instead of a quality: a lossless codec has one file an image


class Codec(Protocol):
    """What can be measured. Fields of the dataclass are its options.

    One that has a true `lossless`, as option or property, is asked for no quality (it is given 0), and must decode to
    the same pixels.
    """

    WORST: ClassVar[float]  # quality of the smallest files, for the search of targets
    STEP: ClassVar[float]  # between two qualities; 0: any number

    @property
    def BEST(self) -> float:
        """Quality of the largest files."""
        ...

    @property
    def QUALITIES(self) -> tuple[float, ...]:
        """Qualities of a curve, where none are asked for."""
        ...

    @property
    def LOW(self) -> tuple[float, ...]:
        """Qualities of a curve of low rates: from the smallest files to some 0.3 bpp."""
        ...

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


def is_lossless(codec: Codec) -> bool:
    """Return whether a codec keeps every pixel."""
    return bool(getattr(codec, "lossless", False))


def check_option(codec: str, option: str, value: object, allowed: Sequence[object]) -> None:
    """Raise InputError unless an option has one of the allowed values."""
    if value not in allowed:
        names = ", ".join(map(str, allowed))
        raise InputError(f"codec {codec}: expected {option} among {names}, found {value!r}")


# ---------------------------------------------------------------- PyAV
