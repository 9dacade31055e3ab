"""What `ncodec train` needs of a family: the whole contract between them.

    start(config, images), from_weights(...) --> network --training/loop.py--> network --to_weights--> weights file

A network is an nn.Module; network(x, q, noise, progress) returns a `TrainingOutput`:

    x         images [B, 3, H, W] in [0, 1], H and W multiples of the recipe's CROP_STRIDE, or their lessons
    q         qualities [B] in [1, 8]
    noise     one generator per image, on the network's device: rates to train with; None (default): without noise
    progress  spent share of the budget, 0 ... 1 (default): what a network approximates while it learns, the last
              part of a budget computes as the file will
"""

import importlib
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from numpy.typing import NDArray
from torch import Tensor, nn

from ncodec.errors import InputError
from ncodec.families import RECIPES
from ncodec.nn.training import Lessons, Objective, ParameterGroups, TrainingOutput

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@runtime_checkable
class Recipe(Protocol):
    """A module of a family, the one that families.FAMILIES names."""

    @property
    def Config(self) -> "type[DataclassInstance]":
        """Sizes of a network: the table [model] of a config, "config" in a weights file.

        It raises InputError, as `field: expected ..., found ...`, on what cannot be built.
        """
        ...

    @property
    def CROP_STRIDE(self) -> int:
        """Pixels: sides of the images that a network takes are multiples of it."""
        ...

    @property
    def OBJECTIVES(self) -> dict[str, Objective]:
        """What training lowers, by tune; the first is the usual one."""
        ...

    @property
    def EFFORT(self) -> int | None:
        """Of the files whose rates it estimates; None: the family's usual one."""
        ...

    def build(self, config: Any) -> nn.Module:
        """Return a network with random weights, to load others into."""
        ...

    def start(self, config: Any, images: list[Tensor]) -> nn.Module:
        """Return the network that training starts with.

        Args:
            config: its sizes.
            images: uint8 [3, H, W], those to train on.
        """
        ...

    def as_start(
        self, config: Any, tensors: dict[str, NDArray[Any]], about: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what a weights file to start from says of itself, its "family" and "config" as a config of this recipe has them.

        Args:
            config: sizes of the network to train.
            tensors: of the file.
            about: what it says.
        """
        ...

    def from_weights(self, tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> nn.Module:
        """Return the network that `to_weights` was given, as near as a weights file tells; `about` is `as_start`'s.

        Raises:
            ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
        """
        ...

    def lessons(self, network: Any, images: list[Tensor]) -> Lessons | None:
        """Return how crops become lessons; None: the network learns from images alone.

        Args:
            network: as training starts, or goes on.
            images: uint8 [3, H, W], those to train on.
        """
        ...

    def parameter_groups(self, network: Any) -> ParameterGroups:
        """Return the parameters of a network by how they are trained."""
        ...

    def estimate(self, network: Any, x: Tensor, q: Tensor) -> TrainingOutput:
        """Return what the network's weights file will reconstruct, and the bits of its payloads."""
        ...

    def to_weights(
        self, network: Any, images: list[Tensor]
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Return what a weights file holds, and what it says of itself: "config" and what else decoding needs.

        Args:
            network: trained, on the CPU.
            images: some that it was trained on, uint8 [3, H, W], sides multiples of CROP_STRIDE.
        """
        ...

    def kmac_per_pixel(self, tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> float:
        """Return thousands of multiply-accumulates that decoding takes per pixel."""
        ...

    def diagnose(self, codec: Any, x: Tensor, quality: int) -> "DataclassInstance":
        """Return the figures, numbers all, that tell what limits a model at one quality.

        Args:
            codec: on the CPU.
            x: images [B, 3, H, W] uint8, sides multiples of CROP_STRIDE.
            quality: 1 ... 8.
        """
        ...


def load_recipe(family: str) -> Recipe:
    """Return how a family is trained.

    Raises:
        InputError: there is no such family, or `ncodec train` does not train it.
    """
    if family not in RECIPES:
        names = ", ".join(RECIPES)
        raise InputError(
            f"family: expected one that ncodec train trains ({names}), found {family!r}"
        )
    return cast(Recipe, importlib.import_module(RECIPES[family]))
