"""What a network in training gives the loop, whatever its family."""

from typing import NamedTuple

from torch import Tensor


class TrainingOutput(NamedTuple):
    """What the loss needs: reconstructions, and the bits of each image by what they are spent on."""

    x_hat: Tensor  # [B, 3, H, W]
    bits: dict[str, Tensor]  # [B] each
