"""What training lowers: rate and distortion of a sample at its quality's lambda.

    J = lambda * 255**2 * MSE + bits / pixels        loss = log(J + 0.03)

The loss is relative: a crop counts by the share of its own cost that it saves, so neither one rate nor busy crops
dominate; 0.03 bits a pixel keep empty ones from doing so.
"""

import torch
from torch import Tensor

from ncodec.nn.gain import lmbda_at_quality
from ncodec.nn.training import TrainingOutput

EMPTY_BPP = 0.03


def rate_distortion_loss(
    out: TrainingOutput, x: Tensor, q: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a batch, and what it is made of: means of "bpp", "mse" (unit interval) and each part's bpp.

    Args:
        out: of the network.
        x: images [B, 3, H, W] in [0, 1].
        q: their qualities [B].
    """
    pixels = x.shape[2] * x.shape[3]
    parts = {f"bpp_{name}": bits / pixels for name, bits in out.bits.items()}
    bpp = torch.stack(list(out.bits.values())).sum(0) / pixels
    mse = (out.x_hat - x).square().flatten(1).mean(1)
    lmbda = lmbda_at_quality(q)
    cost = lmbda * 255**2 * mse + bpp
    means = {"bpp": bpp, "mse": mse} | parts
    return (cost + EMPTY_BPP).log().mean(), {
        name: value.detach().mean() for name, value in means.items()
    }
