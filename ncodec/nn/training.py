"""What passes between `ncodec train` and a network in training, whatever its family (training/recipe.py)."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ncodec.quality import LAMBDAS


class TrainingOutput(NamedTuple):
    """What the loss needs: reconstructions, and the bits of each image by what they are spent on."""

    x_hat: Tensor  # [B, 3, H, W]
    bits: dict[str, Tensor]  # [B] each
    penalty: Tensor | None = (
        None  # [B], bits a pixel that are not coded, such as a commitment to codes
    )


class Objective(NamedTuple):
    """What training lowers (training/loss.py)."""

    lambdas: tuple[float, ...] = LAMBDAS  # of qualities 1 … 8, geometric in between
    empty_bpp: float = 0.03  # what keeps crops that cost nothing from counting most
    ms_ssim: float = 0.0  # share of the distortion that is MS-SSIM's, 0 … 1


class ParameterGroups(NamedTuple):
    """Every parameter of a network, once."""

    matrices: Sequence[nn.Parameter]  # [out, in] or [out, in, 1, 1], of dense layers: Muon
    others: list[
        tuple[float, Sequence[nn.Parameter]]
    ]  # each with its share of the learning rate: AdamW
