"""A trained hyperprior <-> the integers of its weights file (specs/hyperprior.md, section 1).

network, images --ranges--> fraction bits of every tensor --nn/integers.py--> weights, biases, shifts
weights file --floats--> network
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ncodec.exact.network import LARGEST, LOG_BITS, Array, Layer, tensors_of
from ncodec.models.hyperprior.layers import (
    ASINH_BITS,
    FIXED_BITS,
    GAINS,
    INDEX_BITS,
    STEPS_BITS,
    HyperpriorConfig,
    layers,
)
from ncodec.models.hyperprior.network import Hyperprior
from ncodec.nn.integers import (
    HALF,
    OCTAVE,
    Watch,
    bias_order,
    extremes,
    float_layer,
    fraction_bits,
    integer_gain,
    integer_layer,
    rounded,
    to_torch,
)
from ncodec.quality import N_QUALITIES


@torch.no_grad()
def ranges(model: Hyperprior, images: list[Tensor]) -> dict[str, float]:
    """Return the largest magnitude of every tensor of `layers` on images, at all qualities.

    Args:
        model: float.
        images: uint8 [3, H, W], sides multiples of 32.
    """

    def rename(name: str) -> str:
        return "features" if name.startswith("context.") and name.endswith(".blocks") else name

    def of_y(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        see("y", output if module is model.g_a else inputs[0])

    def of_stem(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # its two halves
        a, weight = inputs[0].chunk(2, 1)[0], model.h_a.stem.weight.chunk(2, 1)
        see("h_a.before", conv2d(a, weight[0] - weight[1]), conv2d(a.relu(), 2 * weight[1]))

    was_training = model.training
    model.eval()
    watch = Watch(model, rename)
    see = watch.see
    with watch:
        handles = [m.register_forward_hook(of_y) for m in (model.g_a, model.g_s, *model.context)]
        handles.append(model.h_a.stem.register_forward_hook(of_stem))
        for image in images:
            x = (image.float() / 255)[None].contiguous(memory_format=torch.channels_last)
            for q in range(1, N_QUALITIES + 1):
                model.estimate(x, torch.tensor([float(q)]))
    for handle in handles:
        handle.remove()
    model.train(was_training)
    return watch.found


def _float_layer(named: dict[str, nn.Module], layer: Layer) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer; h_a.stem sees [a; |a|], and |a| = 2 max(a, 0) - a."""
    module = named[layer.name.removesuffix("_positive")]
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    if not layer.name.startswith("h_a.stem"):
        return module.weight, module.bias
    plain, magnitude = module.weight.chunk(2, 1)
    if layer.name == "h_a.stem":
        return plain - magnitude, module.bias
    return 2 * magnitude, torch.zeros_like(module.bias)


def to_integers(model: Hyperprior, images: list[Tensor]) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the networks' tensors of a weights file, and the fraction bits that they were made with.

    Args:
        model: float, on the CPU.
        images: to calibrate on, uint8 [3, H, W], sides multiples of 32.

    Raises:
        ValueError: weights that integers cannot hold.
    """
    bits = fraction_bits(ranges(model, [*images, *extremes()]), FIXED_BITS)
    named = dict(model.named_modules())
    tensors: dict[str, Array] = {}
    for layer in layers(model.config):
        tensors |= integer_layer(
            *_float_layer(named, layer), layer, bits, HALF.get(layer.name, 0.0)
        )
    steps = np.arange(-LARGEST - 1, LARGEST + 1) / 2**STEPS_BITS
    tensors["h_a.asinh"] = np.rint(np.arcsinh(steps) * 2**ASINH_BITS).astype(np.int16)
    tensors["h_a.asinh"][0] = tensors["h_a.asinh"][1]  # of -32768, which does not occur
    gain, shrink = model.log_gain.double(), model.log_shrink.double()
    tensors["log_gain"] = rounded(gain * OCTAVE - bits["y"] * 2**LOG_BITS, np.int32)
    tensors["log_unit"] = rounded((shrink - gain) * OCTAVE + bits["y"] * 2**LOG_BITS, np.int32)
    tensors["index_offset"] = rounded(model.index_offset * 2.0**INDEX_BITS, np.int16)
    for name, source, result in GAINS:
        table, power = model.get_parameter(name), bits[result] - bits[source]
        tensors[name], tensors[f"{name}_shift"] = integer_gain(table, power)
    return tensors, {name: bits[name] for name in sorted(tensors_of(layers(model.config)))}


def from_integers(
    tensors: Mapping[str, Array], config: HyperpriorConfig, bits: Mapping[str, int]
) -> Hyperprior:
    """Return the float network whose integers these are, as near as they tell.

    Raises:
        KeyError, ValueError, RuntimeError: tensors or fraction bits are missing or of the wrong shape.
    """
    model = Hyperprior(config)
    named = dict(model.named_modules())

    def floats(name: str) -> Tensor:
        return torch.from_numpy(tensors[name].astype(np.float64))

    with torch.no_grad():
        for layer in layers(config):
            module = named[layer.name.removesuffix("_positive")]
            assert isinstance(module, nn.Conv2d) and module.bias is not None
            weight, bias = float_layer(tensors, layer, bits, HALF.get(layer.name, 0.0))
            if layer.name == "h_a.stem":
                module.weight.copy_(torch.cat([weight, 0 * weight], 1)[:, :, None, None])
            elif layer.name == "h_a.stem_positive":  # the next one: of max(a, 0) = (a + |a|) / 2
                module.weight += torch.cat([weight, weight], 1)[:, :, None, None] / 2
                continue
            else:
                module.weight.copy_(to_torch(weight, layer, module.weight.shape))
            module.bias[bias_order(layer, len(bias))] = bias.float()
        gain = floats("log_gain") / OCTAVE + bits["y"] * math.log(2)
        model.log_gain.copy_(gain)
        model.log_shrink.copy_(floats("log_unit") / OCTAVE - bits["y"] * math.log(2) + gain)
        model.index_offset.copy_(floats("index_offset") * 2.0**-INDEX_BITS)
        for name, source, result in GAINS:
            power = int(tensors[f"{name}_shift"]) + bits[result] - bits[source]
            model.get_parameter(name).copy_(floats(name) * 2.0**-power)
    return model
