"""What training lowers: rate and distortion of a sample at its quality's lambda.

    J = lambda * 255**2 * D + bits / pixels        loss = log(J + empty)

D is the mean squared error, or in part MS-SSIM's; or the first term is in part price * (100 - SSIMULACRA2). The loss is relative: a crop counts by the share of its own cost
that it saves, so neither one rate nor busy crops dominate; a few hundredths of a bit a pixel keep empty ones from doing so.
"""

import torch
from torch import Tensor

from ncodec.nn.gain import lmbda_at_quality
from ncodec.nn.ssimulacra2 import ssimulacra2
from ncodec.nn.training import Objective, TrainingOutput

MS_SSIM_UNIT = 0.02  # squared error (unit interval) that 1 - MS-SSIM = 1 is worth, as at CompressAI's pairs of lambdas


def rate_distortion_loss(
    out: TrainingOutput, x: Tensor | None, q: Tensor, objective: Objective
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of a batch, and what it is made of: means of "bpp", each part's bpp, "mse" (unit interval), "ms_ssim" and "ssimulacra2" if they count.

    Args:
        out: of the network.
        x: images [B, 3, H, W] in [0, 1]; sides above 160 where MS-SSIM counts. None: of lessons, whose bits are per pixel.
        q: their qualities [B].
        objective: of the recipe.
    """
    pixels = 1 if x is None else x.shape[2] * x.shape[3]
    means = {f"bpp_{name}": bits / pixels for name, bits in out.bits.items()}
    bpp = torch.stack(list(out.bits.values())).sum(0) / pixels
    means["bpp"] = cost = bpp
    if x is not None and out.x_hat is not None:
        distortion = means["mse"] = (out.x_hat - x).square().flatten(1).mean(1)
        if objective.ms_ssim:
            from pytorch_msssim import ms_ssim

            with torch.autocast(x.device.type, enabled=False):
                similar = ms_ssim(out.x_hat.float(), x, data_range=1.0, size_average=False)
            means["ms_ssim"] = similar
            distortion = torch.lerp(distortion, MS_SSIM_UNIT * (1 - similar), objective.ms_ssim)
        distortion = lmbda_at_quality(q, objective.lambdas) * 255**2 * distortion
        if objective.ssimulacra2:
            with torch.autocast(x.device.type, enabled=False):
                score = means["ssimulacra2"] = ssimulacra2(x, out.x_hat.float().clamp(0, 1))
            lost = lmbda_at_quality(q, objective.points) * (100 - score)
            distortion = torch.lerp(distortion, lost, objective.ssimulacra2)
        cost = cost + distortion
    if out.penalty is not None:
        cost = cost + out.penalty
    return (cost + objective.empty_bpp).log().mean(), {
        name: value.detach().mean() for name, value in means.items()
    }
