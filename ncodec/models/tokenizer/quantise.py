"""A trained tokenizer <-> the integers of its weights file (specs/tokenizer.md, section 1).

network --folded--> layers without y: E and D in the layers around them --nn/integers.py--> integers
weights file --floats--> a network whose y is [v; 0 ...] and y_hat [E D c; c; 0 ...]: it computes the same
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ncodec.entropy.tokens import VALUE_MAX
from ncodec.exact.network import Array, tensors_of
from ncodec.models.tokenizer.layers import (
    DIGIT_BITS,
    FIXED_BITS,
    GAINS,
    V_BITS,
    layers,
)
from ncodec.models.tokenizer.network import ROOM, Tokenizer
from ncodec.models.tokenizer.stages import TokenizerConfig
from ncodec.nn.integers import (
    HALF,
    Watch,
    at_qualities,
    extremes,
    float_layer,
    floats,
    fraction_bits,
    integer_gains,
    integer_layer,
    load_gains,
    load_layer,
    rounded,
)
from ncodec.quality import N_QUALITIES

OF_V = ("g_a.linear", "g_a.head", "g_a.deep_head")  # E is folded into these
OF_C = ("g_s.linear", "g_s.stem", "g_s.deep_stem")  # D into these


@torch.no_grad()
def ranges(network: Tokenizer, images: list[Tensor]) -> dict[str, float]:
    """Return the largest magnitude of every tensor of `layers` on images, at all qualities.

    Args:
        network: float.
        images: uint8 [3, H, W], sides multiples of 16.
    """
    with Watch(network, lambda name: name) as watch:
        watch.hook(network.g_a.stem, lambda m, i, out: watch.see("g_a.blocks", out))
        watch.hook(network.g_a.down, lambda m, i, out: watch.see("g_a.deep", out))
        stem: list[Tensor] = []  # stem and up add to one tensor
        watch.hook(network.g_s.stem, lambda m, i, out: stem.append(out))
        watch.hook(network.g_s.up, lambda m, i, out: watch.see("g_s.stem", out, out + stem.pop()))
        for x, q in at_qualities(images, range(1, N_QUALITIES + 1)):
            network(x, q)
    return watch.found


def tree(codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Return a codebook as a balanced binary tree: which code each leaf is, and the vectors of all nodes in heap order.

    From the root on, the codes of a node are parted in two halves by 2-means of equal sizes: a prefix of a leaf's bits
    is an index into a smaller codebook (https://arxiv.org/abs/2307.08265).

    Args:
        codebook: [2**bits, d].
    """
    order = torch.arange(len(codebook))[None]  # [nodes of a depth, codes of each]
    vectors = []
    while True:
        vectors.append(codebook[order].mean(1))
        if order.shape[1] == 1:
            return order.flatten(), torch.cat(vectors)
        order = torch.cat([_halves(codebook, node) for node in order])


def _halves(codebook: Tensor, codes: Tensor) -> Tensor:
    """Return codes [n] in two halves [2, n/2], by 2-means along the line between the means."""
    rows = codebook[codes].double()
    deviation = rows - rows.mean(0)
    direction = torch.linalg.svd(deviation, full_matrices=False)[2][0]
    for _ in range(10):
        ranked = codes[(rows @ direction).argsort()].view(2, -1)
        low, high = codebook[ranked].double().mean(1)
        direction = high - low
    return ranked


def values_of(network: Tokenizer) -> dict[str, Array]:
    """Return the values of code vectors, and their fraction bits; those of digits are fixed."""
    if network.config.quantiser != "vq":
        return {"value_bits": np.array(DIGIT_BITS, np.uint8)}
    codebooks = network.codebooks.detach()
    bits = math.floor(math.log2(VALUE_MAX / float(codebooks.abs().max())))
    tensors = {"value_bits": np.array(bits, np.uint8)}
    for s, codebook in enumerate(codebooks):
        tensors[f"tokens.{s}.values"] = rounded(tree(codebook)[1] * 2.0**bits, np.int16)
    return tensors


def _layer(network: Tokenizer, name: str) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer, E or D folded in, of values in steps; in float64."""
    module = network.get_submodule(name)
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    weight, bias = module.weight.detach().double(), module.bias.detach().double()
    encode, decode = network.encode.detach().double(), network.decode.detach().double()
    centre = network.centre.detach().double()
    if name in OF_V:
        folded = torch.einsum("dm,mi...->di...", encode, weight)
        offset = bias - centre if name == "g_a.linear" else bias
        return folded, encode @ offset
    if name in OF_C:
        matrix = weight[:, :, 0, 0]
        return (matrix @ decode)[:, :, None, None], bias + matrix @ centre
    return weight, bias


def to_integers(
    network: Tokenizer, images: list[Tensor]
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the networks' tensors of a weights file, and the fraction bits that they were made with.

    Args:
        network: float, on the CPU.
        images: to calibrate on, uint8 [3, H, W], sides multiples of 16.

    Raises:
        ValueError: weights that integers cannot hold.
    """
    bits = fraction_bits(ranges(network, [*images, *extremes()]), FIXED_BITS)
    tensors = values_of(network)
    bits["c"] = int(tensors["value_bits"])
    for layer in layers(network.config):
        weight, bias = _layer(network, layer.name)
        tensors |= integer_layer(weight, bias, layer, bits, HALF.get(layer.name, 0.0))
    tensors |= integer_gains(network, GAINS, bits)
    fed = network.encode.double() @ network.decode.double()
    stage = torch.arange(len(network.sizes)).repeat_interleave(torch.tensor(network.sizes))
    if network.config.quantiser == "bsq":
        stage = torch.arange(len(fed))  # signs follow one another
    fed = torch.where(stage[:, None] > stage, fed, 0.0)  # what a value takes from those after it
    tensors["feedback"] = rounded(fed * 2.0 ** (V_BITS - bits["c"]), np.int32)
    if network.config.quantiser != "vq":
        tensors["thresholds"] = np.concatenate(
            [thresholds(level) for stage in network.config.stages for level in stage.levels]
        )
    return tensors, {name: bits[name] for name in sorted(tensors_of(layers(network.config)))}


def thresholds(levels: int) -> Array:
    """Return where v passes from each level of a digit to the next, [levels - 1]."""
    reach = (levels - 1) / 2
    edges = np.arange(levels - 1) + 0.5 - reach
    u = edges if levels == 2 else (reach + ROOM) * np.arctanh(edges / (reach + ROOM))
    return np.rint(u * 2**V_BITS).astype(np.int16)


def from_integers(
    tensors: Mapping[str, Array], config: TokenizerConfig, bits: Mapping[str, int]
) -> Tokenizer:
    """Return a float network whose integers these are, as near as they tell.

    Raises:
        KeyError, ValueError, RuntimeError: tensors or fraction bits are missing or of the wrong shape.
    """
    network = Tokenizer(config)
    D = sum(network.sizes)
    if config.M < D:
        raise ValueError(f"M: expected at least {D}, found {config.M}")
    fed = floats(tensors["feedback"]) * 2.0 ** (bits["c"] - V_BITS)
    encode = torch.eye(D, dtype=torch.float64) + fed  # v of values c, as they would be unquantised
    with torch.no_grad():
        for layer in layers(config):
            weight, bias = float_layer(tensors, layer, bits, HALF.get(layer.name, 0.0))
            if layer.name in OF_V:
                weight, bias = (
                    _padded(
                        torch.linalg.solve_triangular(encode, x.view(D, -1), upper=False),
                        config.M,
                        0,
                    )
                    for x in (weight, bias)
                )
                bias = bias[:, 0]
            elif layer.name in OF_C:
                weight = _padded(weight, config.M, 1)
            module = network.get_submodule(layer.name)
            assert isinstance(module, nn.Conv2d)
            load_layer(module, weight, bias, layer)
        network.encode[:, :D] = encode
        network.decode[:D] = torch.eye(D)
        load_gains(network, GAINS, tensors, bits)
        if config.quantiser == "vq":
            leaves = [
                tensors[f"tokens.{s}.values"][-stage.size :]
                for s, stage in enumerate(config.stages)
            ]
            network.codebooks.copy_(floats(np.stack(leaves)) * 2.0 ** -bits["c"])
    return network


def _padded(x: Tensor, size: int, axis: int) -> Tensor:
    """Return a matrix with zeros after it, up to `size` along an axis."""
    shape = list(x.shape)
    shape[axis] = size - shape[axis]
    return torch.cat([x, x.new_zeros(shape)], axis)
