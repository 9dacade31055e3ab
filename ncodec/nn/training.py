"""What passes between `ncodec train` and a network in training, whatever its family (training/recipe.py)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ncodec.quality import LAMBDAS


class TrainingOutput(NamedTuple):
    """What the loss needs: reconstructions, and the bits of each image by what they are spent on."""

    x_hat: Tensor | None  # [B, 3, H, W]; None: of lessons, whose errors are in `penalty`
    bits: dict[str, Tensor]  # [B] each; of lessons, per pixel
    penalty: Tensor | None = (
        None  # [B], bits a pixel that are not coded, such as a commitment to codes
    )


class Objective(NamedTuple):
    """What training lowers (training/loss.py)."""

    lambdas: tuple[float, ...] = LAMBDAS  # of qualities 1 … 8, geometric in between
    empty_bpp: float = 0.03  # what keeps crops that cost nothing from counting most
    ms_ssim: float = 0.0  # share of the distortion that is MS-SSIM's, 0 … 1
    ssimulacra2: float = 0.0  # share of what distortion costs that is SSIMULACRA2's, 0 … 1
    points: tuple[float, ...] = ()  # bpp that one of its points costs at qualities 1 … 8


# A point costs as many bits as along the curve of hyperprior-s, tune psnr: either term alone leaves qualities at their rates.
VISUAL = Objective(ssimulacra2=0.45, points=tuple(0.0043 * 21.5 ** (k / 7) for k in range(8)))


class Lessons(NamedTuple):
    """What is worth computing of a crop but once: with it a network learns, at first, without looking at images."""

    of: Callable[
        [Tensor, Tensor], Sequence[Tensor]
    ]  # x [1, 3, H, W], q [1] -> a NamedTuple of tensors [1, ...]
    share: float  # of a budget, from its beginning on


def no_lessons(network: Any, images: list[Tensor]) -> None:
    """Return None: a network that learns from images alone."""


def as_it_is(config: Any, tensors: Any, about: dict[str, Any]) -> dict[str, Any]:
    """Return what a weights file says of itself: it is the recipe's own."""
    return about


Group = tuple[
    float, Sequence[nn.Parameter]
]  # a share of the learning rate, and what learns with it


class ParameterGroups(NamedTuple):
    """Every parameter of a network, once."""

    matrices: Sequence[Group]  # [out, in] or [out, in, 1, 1], of dense layers: Muon
    others: Sequence[Group]  # AdamW
