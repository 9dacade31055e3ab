"""A trained hyperprior <-> the integers of its weights file (specs/hyperprior.md, section 1).

network, images --ranges--> fraction bits of every tensor --nn/integers.py--> weights, biases, shifts
weights file --floats--> network
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncodec.exact.network import LARGEST, Array, Layer, tensors_of
from ncodec.models.hyperprior.layers import (
    ASINH_BITS,
    FIXED_BITS,
    GAINS,
    STEPS_BITS,
    HyperpriorConfig,
    layers,
)
from ncodec.models.hyperprior.network import Hyperprior
from ncodec.nn.integers import (
    HALF,
    Watch,
    at_qualities,
    extremes,
    float_layer,
    float_of,
    fraction_bits,
    integer_gains,
    integer_layer,
    integer_steps,
    load_float,
    load_gains,
    load_steps,
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

    watch = Watch(model, rename)
    with watch:
        watch.hook_latents(model.g_a, model.g_s, *model.context)
        watch.hook_halved(model.h_a.stem)
        for x, q in at_qualities(images, range(1, N_QUALITIES + 1)):
            model.estimate(x, q)
    return watch.found


def asinh_table() -> NDArray[np.int16]:
    """Return what a weights file has of asinh, by steps in units of 2**-STEPS_BITS."""
    steps = np.arange(-LARGEST - 1, LARGEST + 1) / 2**STEPS_BITS
    table = np.rint(np.arcsinh(steps) * 2**ASINH_BITS).astype(np.int16)
    table[0] = table[1]  # of -32768, which does not occur
    return table


def to_integers(model: Hyperprior, images: list[Tensor]) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the networks' tensors of a weights file, and the fraction bits that they were made with.

    Args:
        model: float, on the CPU.
        images: to calibrate on, uint8 [3, H, W], sides multiples of 32.

    Raises:
        ValueError: weights that integers cannot hold.
    """
    bits = fraction_bits(ranges(model, [*images, *extremes()]), FIXED_BITS)
    return integers_of(model, list(layers(model.config)), bits)


def integers_of(
    model: Hyperprior, layers: list[Layer], bits: dict[str, int]
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the tensors of layers, of asinh, steps and gains, and the fraction bits of what the layers see and make."""
    named = dict(model.named_modules())
    tensors: dict[str, Array] = {}
    for layer in layers:
        tensors |= integer_layer(*float_of(named, layer), layer, bits, HALF.get(layer.name, 0.0))
    tensors["h_a.asinh"] = asinh_table()
    tensors |= integer_steps(model, bits) | integer_gains(model, GAINS, bits)
    return tensors, {name: bits[name] for name in sorted(tensors_of(iter(layers)))}


def from_integers(
    tensors: Mapping[str, Array], config: HyperpriorConfig, bits: Mapping[str, int]
) -> Hyperprior:
    """Return the float network whose integers these are, as near as they tell.

    Raises:
        KeyError, ValueError, RuntimeError: tensors or fraction bits are missing or of the wrong shape.
    """
    model = Hyperprior(config)
    load_integers(model, layers(config), tensors, bits)
    return model


def load_integers(
    model: Hyperprior,
    layers: Iterable[Layer],
    tensors: Mapping[str, Array],
    bits: Mapping[str, int],
) -> None:
    """Give a network what `integers_of` was given."""
    named = dict(model.named_modules())
    for layer in layers:
        weight, bias = float_layer(tensors, layer, bits, HALF.get(layer.name, 0.0))
        load_float(named, weight, bias, layer)
    load_steps(model, tensors, bits)
    load_gains(model, GAINS, tensors, bits)
