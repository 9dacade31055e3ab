"""What passes between `ncodec train` and a network in training, whatever its family (training/recipe.py)."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn


class TrainingOutput(NamedTuple):
    """What the loss needs: reconstructions, and the bits of each image by what they are spent on."""

    x_hat: Tensor  # [B, 3, H, W]
    bits: dict[str, Tensor]  # [B] each


class ParameterGroups(NamedTuple):
    """Every parameter of a network, once."""

    matrices: Sequence[nn.Parameter]  # [out, in] or [out, in, 1, 1], of dense layers: Muon
    others: list[
        tuple[float, Sequence[nn.Parameter]]
    ]  # each with its share of the learning rate: AdamW
