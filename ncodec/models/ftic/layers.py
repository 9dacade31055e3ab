"""The tensors of weights of family ftic: layers, their shapes, what their integers stand for. No torch."""

from dataclasses import dataclass, fields

from ncodec.errors import InputError
from ncodec.nn import BLOCK_DIMENSION, HEAD


@dataclass(frozen=True)
class FticConfig:
    """Sizes of one model. The defaults are `ftic-s`.

    Raises:
        InputError: there is no such model.
    """

    N: int = 128  # width of the trunk at 1/8
    M: int = 320  # channels of y at 1/16
    D: int = 128  # width of the branches at 1/16
    Z: int = 64  # channels of z at 1/32
    H: int = 160  # width of the hyper and context networks
    S: int = 128  # width of the network of table indexes
    B: int = 64  # width of the network that knows z's neighbours
    analysis_blocks: int = 6
    synthesis_blocks: int = 10
    fat: int = 2  # FAT blocks at 1/8, on either side
    deep_fat: int = 2  # and at 1/16
    layers: int = 2  # of T-CA

    def __post_init__(self) -> None:
        for size in (field.name for field in fields(self)):
            value = getattr(self, size)
            most = 256 if size.endswith("_blocks") else 1024
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{size}: expected 1 to {most}, found {value!r}")
        for name, holds, expected in (
            ("M", self.M <= BLOCK_DIMENSION, f"at most {BLOCK_DIMENSION}, the dimension of a 16x16 RGB block"),
            *((name, getattr(self, name) % (4 * HEAD) == 0, f"a multiple of {4 * HEAD}") for name in "ND"),
            ("H", self.H % HEAD == 0, f"a multiple of {HEAD}"),
            ("fat", self.fat <= min(self.analysis_blocks, self.synthesis_blocks), "at most as many as residual blocks"),
        ):  # fmt: skip
            if not holds:
                raise InputError(f"{name}: expected {expected}, found {getattr(self, name)!r}")
