"""A trained masked transformer -> the integers of a weights file (specs/tokenizer.md).

transformer --magnitudes on tokens--> fraction bits --nn/integers.py--> integers
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ncodec.exact.network import Array
from ncodec.models.tokenizer.masked import (
    LOGIT_BITS,
    NORM_BITS,
    OCTAVE_BITS,
    SCORE_MAX,
    layers,
    spans,
)
from ncodec.models.tokenizer.transformer import Masked
from ncodec.nn.integers import Watch, fraction_bits, integer_layer, rounded

OWN_BITS = 14  # of weights of own values (entropy/tokens.hpp)
FIXED_BITS = {"masked.x": 0, "masked.norm": NORM_BITS, "masked.logits": LOGIT_BITS}
ADDED = ("stem", "project", "o", "down")  # modules whose results make up f


def _tensor_of(module: str) -> str:
    """Return the tensor that a module's result is, or is added to."""
    parts = module.split(".")
    is_sum = parts[-1] in ADDED or (parts[0] in ("blocks", "layers") and len(parts) == 2)
    return "masked.f" if is_sum else f"masked.{module}"


@torch.no_grad()
def ranges(network: Masked, tokens: Tensor) -> dict[str, float]:
    """Return the largest magnitude of every tensor of `layers`.

    Args:
        network: float.
        tokens: [n, S, h, w].
    """
    generator = torch.Generator().manual_seed(0)
    rows, columns = (spans(n)[0] for n in tokens.shape[2:])
    with Watch(network, _tensor_of) as watch:
        for s, head in enumerate(network.heads):
            for share in (0.0, 0.1, 0.5, 0.9):
                known = torch.rand(tokens[:, s].shape, generator=generator) < share
                x = network.inputs(tokens, s, known)
                f = network.features(x, rows, columns)
                head.decisions(f.flatten(0, -2))
    return watch.found


def to_integers(network: Masked, tokens: Tensor) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the tensors `masked.*`, and the fraction bits that they were made with.

    Args:
        network: float, on the CPU.
        tokens: to calibrate on, [n, S, h, w].
    """
    made = list(layers(network.config, network.stages))
    wanted = {layer.result for layer in made}
    units = {layer.result: layer.result_unit for layer in made}
    found = {
        name: most * units[name] * (LARGEST_OF_SCORES if name[-2:] in (".q", ".k") else 1)
        for name, most in ranges(network, tokens).items()
        if name in wanted
    }
    bits = fraction_bits(found, FIXED_BITS)
    tensors: dict[str, Array] = {}
    for layer in made:
        weight, bias = _layer(network, layer.name.removeprefix("masked."))
        tensors |= integer_layer(weight, bias, layer, bits)
    for k in range(network.config.layers):
        name = f"masked.layers.{k}"
        shift = bits[f"{name}.q"] + bits[f"{name}.k"] - OCTAVE_BITS
        if not 0 <= shift <= 24:
            raise ValueError(f"{name}: expected scores of 6 to 30 bits, found {shift + OCTAVE_BITS}")
        tensors[f"{name}.shift"] = np.array(shift, np.uint8)
    positions = network.positions.flatten(0, 1) * 2.0 ** bits["masked.f"]
    tensors["masked.positions"] = rounded(positions, np.int16)
    for s, head in enumerate(network.heads):
        if head.stage.levels:
            own = (head.own * head.mask * 2.0**OWN_BITS).clamp(-32767, 32767)
            tensors[f"masked.heads.{s}.own"] = rounded(own, np.int16)
    return tensors, bits


LARGEST_OF_SCORES = 32767 / SCORE_MAX


def _layer(network: Masked, name: str) -> tuple[Tensor, Tensor]:
    """Return weight [out, in, 1, 1] or [C, 1, k, k] and bias of a layer."""
    if name.endswith(".out"):
        head = network.get_submodule(name.removesuffix(".out"))
        return head.out().detach()[:, :, None, None], head.bias.detach()
    module = network.get_submodule(name)
    assert isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None
    weight, bias = module.weight.detach(), module.bias.detach()
    if name == "stem":
        flags = torch.ones(weight.shape[1] - 2 * len(network.unit))
        weight = weight * torch.cat([network.unit, network.unit, flags])
    if isinstance(module, nn.Linear):
        return weight[:, :, None, None], bias
    return weight, bias
