"""A small network of family tokenizer with random weights, and as a weights file has it."""

from functools import cache
from typing import Any

import numpy as np
import torch
from conftest import SAMPLE
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ncodec.models.tokenizer import recipe
from ncodec.models.tokenizer.network import Tokenizer
from ncodec.nn.tokens import fit

SMALL = {"N": 16, "M": 96, "H": 12, "B": 6, "analysis_blocks": 1, "synthesis_blocks": 1, "deep_blocks": 1}  # fmt: skip


def photos() -> list[Tensor]:
    """Return pieces of the bundled photograph, uint8 [3, 128, 192]."""
    pixels = np.asarray(Image.open(SAMPLE)).transpose(2, 0, 1)
    return [torch.from_numpy(pixels[:, 128 * i : 128 * i + 128, 192 * i : 192 * i + 192].copy()) for i in range(4)]  # fmt: skip


@cache
def small_network(quantiser: str) -> Tokenizer:
    """Return a network whose layers all matter, its stages made for `photos`."""
    torch.manual_seed(0)
    network = Tokenizer(recipe.Config(quantiser=quantiser, **SMALL))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("g_") and name.endswith("weight") and not parameter.any():
                parameter.normal_(std=0.02)
        for gain in (network.g_s.deep_gain, network.g_s.gain):
            gain.uniform_(0.5, 1.5)
    recipe.initialise_stages(network, photos())
    return network.eval()


@cache
def small_weights(quantiser: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return tensors and metadata; the coder has learned a little."""

    def fitted(*arguments: Any) -> dict[str, NDArray[Any]]:
        return fit(*arguments, steps=5)

    learned, recipe.fit = recipe.fit, fitted
    try:
        tensors, about = recipe.to_weights(small_network(quantiser), photos())
    finally:
        recipe.fit = learned
    return tensors, {"name": "small", "family": "tokenizer"} | about
