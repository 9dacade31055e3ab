"""A trained masked transformer <-> the integers of a weights file (specs/tokenizer.md).

transformer --magnitudes on tokens--> fraction bits --nn/integers.py--> integers
weights file --floats--> transformer

Files do not say the fraction bits. With any others it computes the same: what lies between two layers is doubled by one and
halved by the next, and what all add to is normed. Usual ones leave steps of training the size that they had.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ncodec.exact.network import Array
from ncodec.models.tokenizer.fill_network import random_losses
from ncodec.models.tokenizer.masked import (
    LOGIT_BITS,
    NORM_BITS,
    OCTAVE_BITS,
    SCORE_MAX,
    layers,
    spans,
)
from ncodec.models.tokenizer.transformer import Head, Masked
from ncodec.nn.integers import Watch, float_layer, floats, fraction_bits, integer_layer, rounded
from ncodec.nn.tokens import LEFT, integers_of

LARGEST_OF_SCORES = 32767 / SCORE_MAX
FIXED_BITS = {
    "masked.x": 0,
    "masked.norm": NORM_BITS,
    "masked.logits": LOGIT_BITS,
    "masked.fill.x": 0,
    "masked.fill.c": 0,
}
STREAM_BITS, USUAL_BITS = 11, 12  # of masked.f, and between layers
ADDED = ("stem", "project", "o", "down")  # modules whose results make up f


def _tensor_of(module: str) -> str:
    """Return the tensor that a module's result is, or is added to."""
    trunk, parts = "masked.f", module.split(".")
    if parts[0] == "fill" and len(parts) > 1:
        trunk, parts = "masked.fill.f", parts[1:]
    is_sum = parts[-1] in ADDED or (parts[0] in ("blocks", "layers") and len(parts) == 2)
    return trunk if is_sum else f"masked.{module}"


@torch.no_grad()
def ranges(network: Masked, tokens: Tensor) -> dict[str, float]:
    """Return the largest magnitude of every tensor of `layers`.

    Args:
        network: float.
        tokens: [n, S, h, w].
    """
    rows, columns = (spans(n)[0] for n in tokens.shape[2:])
    rng, metric = np.random.default_rng(0), torch.eye(len(network.unit))
    with Watch(network, _tensor_of) as watch:
        for s in range(len(network.stages)):
            f = network.features(*network.seen(tokens, s), rows, columns)
            network.parts_of(s)[1].decisions(f.flatten(0, -2))
            network.fill_errors(tokens, random_losses(tokens.shape, s + 1, rng), s + 1, metric)
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
            raise ValueError(
                f"{name}: expected scores of 6 to 30 bits, found {shift + OCTAVE_BITS}"
            )
        tensors[f"{name}.shift"] = np.array(shift, np.uint8)
    positions = network.positions.flatten(0, 1) * 2.0 ** bits["masked.f"]
    tensors["masked.positions"] = rounded(positions, np.int16)
    for s in range(len(network.stages)):
        arrays = near_arrays(network, s)
        tensors |= {f"masked.tokens.{s}.{name}": array for name, array in arrays.items()}
    return tensors, bits


@torch.no_grad()
def load_integers(network: Masked, tensors: Mapping[str, Array]) -> None:
    """Give a float network what integers `masked.*` say, as near as they tell.

    Raises:
        KeyError, ValueError, RuntimeError: tensors are missing or of the wrong shape.
    """
    made = list(layers(network.config, network.stages))
    bits = {layer.result: USUAL_BITS for layer in made} | FIXED_BITS | {"masked.f": STREAM_BITS}
    for k in range(network.config.layers):
        name = f"masked.layers.{k}"
        bits[f"{name}.k"] = int(tensors[f"{name}.shift"]) + OCTAVE_BITS - USUAL_BITS
    network.start_from(
        {
            name.removeprefix("masked."): part
            for name, part in tensors.items()
            if name.startswith("masked.")
        }
    )
    for layer in made:
        weight, bias = float_layer(tensors, layer, bits)
        name = layer.name.removeprefix("masked.")
        if name.startswith("heads.") and name.endswith(".out"):
            head = network.get_submodule(name.removesuffix(".out"))
            assert isinstance(head, Head)
            head.weight.copy_(weight)
            continue
        module = network.get_submodule(name)
        assert isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None
        of_input, of_result = _units(network, name)
        module.weight.copy_((weight * of_result[:, None] / of_input).view_as(module.weight))
        module.bias.copy_(bias * of_result)
    positions = floats(tensors["masked.positions"]) * 2.0**-STREAM_BITS
    network.positions.copy_(positions.view_as(network.positions))


def _units(network: Masked, name: str) -> tuple[Tensor, Tensor]:
    """Return what files' inputs of a layer are multiplied by [in], and their results [out], to be the float network's."""
    unit, flags, one = network.unit, torch.ones(len(network.stages)), torch.ones(1)
    if name == "stem":
        return torch.cat([unit, unit, flags]), one
    if name == "fill.stem":
        return torch.cat([unit, flags]), one
    return one, unit if name == "fill.out" else one


def _layer(network: Masked, name: str) -> tuple[Tensor, Tensor]:
    """Return weight [out, in, 1, 1] or [C, 1, k, k] and bias of a layer."""
    if name.startswith("heads.") and name.endswith(".out"):
        head = network.get_submodule(name.removesuffix(".out"))
        assert isinstance(head, Head)
        weight = head.out().detach()[:, :, None, None]
        return weight, torch.zeros(len(weight))  # the bias is the coder's
    module = network.get_submodule(name)
    assert isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None
    weight, bias = module.weight.detach(), module.bias.detach()
    of_input, of_result = _units(network, name)
    bias = bias / of_result
    if isinstance(module, nn.Linear):
        weight = (weight * of_input / of_result[:, None])[:, :, None, None]
    return weight, bias


def near_arrays(network: Masked, s: int) -> dict[str, Array]:
    """Return the network of a stage's neighbours as entropy/tokens.py has it."""
    near, head = network.parts_of(s)
    assert near.hidden.bias is not None
    n = network.stages[s].n_values
    weight = near.hidden.weight.detach().permute(0, 2, 3, 1)  # [B, 3, 3, E + D_s]
    before = weight.shape[3] - n
    left = [weight[:, 1 + i, 1 + j, before:] for i, j in LEFT]
    hidden = torch.cat([*left, weight[..., :before].flatten(1)], 1)
    own = head.own * head.mask if head.stage.levels else None
    return integers_of(hidden, near.hidden.bias, head.near, head.bias, own)
