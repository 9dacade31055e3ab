"""A trained hyperprior <-> the integers of its weights file (specs/hyperprior.md, section 1).

network, images --ranges--> fraction bits of every tensor --nn/integers.py--> weights, biases, shifts
weights file --floats--> network
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ncodec.exact.network import LARGEST, Array, Layer, tensors_of
from ncodec.models.hyper import ASINH_BITS, FIXED_BITS, GAINS, STEPS_BITS
from ncodec.models.hyperprior.layers import HyperpriorConfig, layers
from ncodec.models.hyperprior.network import Hyperprior
from ncodec.nn.integers import (
    HALF,
    Watch,
    at_qualities,
    bias_order,
    extremes,
    float_layer,
    fraction_bits,
    halves,
    integer_gains,
    integer_layer,
    integer_steps,
    load_gains,
    load_steps,
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
        a, (plain, positive) = inputs[0].chunk(2, 1)[0], halves(model.h_a.stem.weight)
        see("h_a.before", conv2d(a, plain), conv2d(a.relu(), positive))

    watch = Watch(model, rename)
    see = watch.see
    with watch:
        for module in (model.g_a, model.g_s, *model.context):
            watch.hook(module, of_y)
        watch.hook(model.h_a.stem, of_stem)
        for x, q in at_qualities(images, range(1, N_QUALITIES + 1)):
            model.estimate(x, q)
    return watch.found


def _float_layer(named: dict[str, nn.Module], layer: Layer) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer."""
    module = named[layer.name.removesuffix("_positive")]
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    if not layer.name.startswith("h_a.stem"):
        return module.weight, module.bias
    plain, positive = halves(module.weight)
    if layer.name == "h_a.stem":
        return plain, module.bias
    return positive, torch.zeros_like(module.bias)


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
    tensors |= integer_steps(model, bits) | integer_gains(model, GAINS, bits)
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
    load_steps(model, tensors, bits)
    load_gains(model, GAINS, tensors, bits)
    return model
