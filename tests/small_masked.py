"""A small network of family masked: block transforms that are those of the bundled photograph, a transformer of random weights; and as a weights file has it."""

import math
from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from small_tokenizer import photos
from torch import Tensor

from ncodec.models.masked import recipe
from ncodec.models.masked.network import Masked
from ncodec.nn.priors import index_of_scale

SMALL = {"N": 8, "M": 24, "D": 64, "U": 48, "H": 24, "layers": 2, "steps": 4, "slices": (4, 8, 12)}
SMALL |= {"analysis_blocks": 1, "synthesis_blocks": 1}


def blocks_of(picture: Tensor) -> Tensor:
    """Return 16x16 blocks [n, 768] of a picture uint8 [3, H, W], -1/2 to 1/2, as `pixel_unshuffle` has them."""
    blocks = torch.nn.functional.pixel_unshuffle(picture[None].float() / 255 - 0.5, 16)
    return blocks[0].flatten(1).T


def initialised(config: recipe.Config) -> Masked:
    """Return a network that has files' sizes: its channels are principal components, its tables as wide as these need."""
    network = recipe.build(config)
    blocks = torch.cat([blocks_of(photo) for photo in photos()])
    basis = torch.linalg.svd(blocks, full_matrices=False).Vh[: config.M]  # [M, 768]
    with torch.no_grad():
        for layer, matrix in ((network.g_a.linear, basis), (network.g_s.linear, basis.T)):
            layer.weight.copy_(matrix[:, :, None, None])
            layer.bias.zero_()
        network.log_gain += math.log(2.0) * torch.linspace(1, 4.5, 8)[:, None]
        scale = (blocks @ basis.T).square().mean(0).sqrt()
        rows = index_of_scale(0.8 * scale * network.log_gain.exp())
        network.index_offset.copy_(rows.clamp(2, 60))
    return network


@cache
def small_network(passes: str) -> Masked:
    """Return a network whose layers all matter."""
    torch.manual_seed(0)
    network = initialised(recipe.Config(passes=passes, **SMALL))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(("layers", "heads", "g_a.head", "g_s.head")) and not parameter.any():
                parameter.normal_(std=0.01)
        network.linear.normal_(std=0.03)
        network.energy.normal_(std=0.03)
        network.mode.normal_(std=0.5)
        network.log_shrink.uniform_(-0.1, 0)
    return network.eval()


@cache
def small_weights(passes: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return tensors and metadata."""
    tensors, about = recipe.to_weights(small_network(passes), photos())
    return tensors, {"name": "small", "family": "masked"} | about
