"""A small network of family tokenizer with random weights, and as a weights file has it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from conftest import SAMPLE
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ncodec.models.tokenizer import recipe
from ncodec.models.tokenizer.masked import MaskedConfig
from ncodec.models.tokenizer.masked_quantise import to_integers
from ncodec.models.tokenizer.network import Tokenizer
from ncodec.models.tokenizer.transformer import Masked
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


MASKED = {"d": 32, "blocks": 1, "layers": 1, "near": 6, "fill": 16}


def tables_of(tensors: Mapping[str, NDArray[Any]]) -> dict[int, NDArray[np.int16]]:
    """Return the values of trees, by stage."""
    return {s: tensors[f"tokens.{s}.values"] for s in range(8) if f"tokens.{s}.values" in tensors}


@cache
def small_transformer(quantiser: str) -> Masked:
    """Return a masked transformer for the tokens of `small_weights`, whose layers all matter."""
    tensors, about = small_weights(quantiser)
    stages = recipe.Config(**about["config"]).stages
    torch.manual_seed(1)
    transformer = Masked(MaskedConfig(**MASKED), stages, tables_of(tensors))
    transformer.start_from(tensors)
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter += 0.05 * torch.randn_like(parameter) * (0.5 + parameter.abs().mean())
        transformer.fill.out.weight.normal_()
    return transformer.eval()


def small_tokens(quantiser: str) -> NDArray[np.int32]:
    """Return the tokens [4, 8, 8, 12] of `photos`."""
    tensors, about = small_weights(quantiser)
    return recipe.grids_of_tokens(tensors, recipe.Config(**about["config"]), photos())


@cache
def small_masked(quantiser: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return tensors and metadata, with a masked transformer."""
    tensors, about = small_weights(quantiser)
    tokens = torch.from_numpy(small_tokens(quantiser)).long()
    ours, _ = to_integers(small_transformer(quantiser), tokens)
    return tensors | ours, about | {"masked": MASKED}
