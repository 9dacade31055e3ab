"""The tensors of a hyperprior's weights file: layers, their shapes, what their integers stand for. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from ncodec.errors import InputError
from ncodec.exact.network import Layer, Tensors, check_tensors, known_of
from ncodec.models.hyper import context_layers, hyper_layers, known_of_hyper
from ncodec.models.trunk import analysis_layers, synthesis_layers
from ncodec.nn import BLOCK_DIMENSION


@dataclass(frozen=True)
class HyperpriorConfig:
    """Sizes of one model. The defaults are `hyperprior-s`.

    Raises:
        InputError: there is no such model.
    """

    N: int = 128  # width of the trunk at 1/8
    M: int = 320  # channels of y at 1/16
    Z: int = 64  # channels of z at 1/32
    H: int = 160  # width of the hyper and context networks
    S: int = 128  # width of the network of table indexes
    B: int = 64  # width of the network that knows z's neighbours
    analysis_blocks: int = 6
    synthesis_blocks: int = 10
    context_steps: int = 4  # or 2

    def __post_init__(self) -> None:
        for size in (field.name for field in fields(self)):
            value = getattr(self, size)
            most = 256 if size.endswith("_blocks") else 1024
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{size}: expected 1 to {most}, found {value!r}")
        for name, holds, expected in (
            ("M", self.M <= BLOCK_DIMENSION, f"at most {BLOCK_DIMENSION}, the dimension of a 16x16 RGB block"),
            ("context_steps", self.context_steps in (2, 4), "2 or 4"),
        ):  # fmt: skip
            if not holds:
                raise InputError(f"{name}: expected {expected}, found {getattr(self, name)!r}")


def layers(c: HyperpriorConfig) -> Iterator[Layer]:
    """Yield the layers of specs/hyperprior.md."""
    yield from analysis_layers(c)
    yield from hyper_layers(c)
    for step in range(c.context_steps):
        yield from context_layers(c, step)
    yield from synthesis_layers(c)


def check_hyperprior(tensors: Tensors, c: HyperpriorConfig) -> None:
    """Raise ValueError unless the tensors are those of specs/hyperprior.md, H3."""
    check_tensors(tensors, known_of_hyper(c) | known_of(layers(c)))
