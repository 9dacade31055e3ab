"""A small network of family ftic: block transforms that are those of the bundled photograph, blocks of random weights; and as a weights file has it."""

from functools import cache
from typing import Any

import torch
from numpy.typing import NDArray
from small_tokenizer import photos

from ncodec.models.ftic import recipe
from ncodec.models.ftic.network import Ftic
from ncodec.models.hyperprior import recipe as hyperprior
from ncodec.nn.neighbours import NeighbourPrior, fit

SMALL = {"N": 128, "M": 24, "D": 128, "Z": 4, "H": 64, "S": 6, "B": 8}  # N and D are the least
SMALL |= {"analysis_blocks": 2, "synthesis_blocks": 3, "fat": 2, "deep_fat": 1, "layers": 2}
CONFIG = recipe.Config(**SMALL)


@cache
def small_network() -> Ftic:
    """Return a network whose layers all matter, its windows at every border too."""
    torch.manual_seed(0)
    network = recipe.start(CONFIG, photos())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("attention.bias", "modulation.weight")):
                parameter.normal_(std=0.5)
            elif name.endswith("o.weight") or (
                name.startswith("context.") and "head.weight" in name
            ):
                parameter.normal_(std=0.05)
            elif name.endswith("weight") and not parameter.any():
                parameter.normal_(std=0.01)
        network.h_s.head.weight.normal_(std=0.3)
        network.log_shrink.uniform_(-0.1, 0)
    return network.eval()


def fitted(*arguments: Any) -> NeighbourPrior:
    """Return z's neighbours after few steps."""
    return fit(*arguments, steps=5)


@cache
def small_weights() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return tensors and metadata; the coder of z has learned a little."""
    learned, hyperprior.fit = hyperprior.fit, fitted
    try:
        tensors, about = recipe.to_weights(small_network(), photos()[:2])
    finally:
        hyperprior.fit = learned
    return tensors, {"name": "small", "family": "ftic"} | about
