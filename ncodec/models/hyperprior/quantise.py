"""A trained hyperprior <-> the integers of its weights file (specs/hyperprior.md, section 1).

    network, images --ranges--> fraction bits of every tensor --integers--> weights, biases, shifts
    weights file --floats--> network

A tensor's values are its integers times 2**-bits, with as many bits as keep the largest magnitude on photographs and
on `extremes` within 16 bits. A layer's weights have a power of two for each output
channel: 12 bits, or fewer where 32-bit sums could overflow (X3 of specs/exact.md).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d

from ncodec.models.hyperprior.graphs import LOG_BITS
from ncodec.models.hyperprior.layers import (
    ASINH_BITS,
    FIXED_BITS,
    GAINS,
    INDEX_BITS,
    LARGEST,
    STEPS_BITS,
    HyperpriorConfig,
    Layer,
    layers,
)
from ncodec.models.hyperprior.network import ContextStep, Hyperprior
from ncodec.nn.blocks import DepthConvBlock
from ncodec.quality import N_QUALITIES

Array = NDArray[Any]
WEIGHT_MAX = 2**11 - 1  # 12 bits
BIAS_MAX = 2**30
ACCUMULATOR = 2**31 - 1
MAX_SHIFT = 30
HALF = {"g_s.linear": 127.5}  # of the pixels' range: x is 1/2 below them
OCTAVE = 2**LOG_BITS / math.log(2)


def extremes() -> list[Tensor]:
    """Return pictures [3, 128, 128] that no photograph exceeds: even ones, coarse and fine patterns, noise."""
    side = 128
    i, j = np.mgrid[:side, :side]
    rng = np.random.default_rng(0)
    grey = [np.full((side, side), level) for level in (0, 255)]
    grey += [((i + 1) // cell + (j + 1) // cell) % 2 * 255 for cell in (1, 2, 3, 6, 16)]
    grey += [j // 2 % 2 * 255, rng.integers(0, 2, (side, side)) * 255]
    pictures = [np.stack([picture] * 3) for picture in grey]
    pictures += [np.broadcast_to(np.array(colour)[:, None, None], (3, side, side)) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]  # fmt: skip
    pictures.append(rng.integers(0, 256, (3, side, side)))
    return [torch.from_numpy(picture.astype(np.uint8)) for picture in pictures]


@torch.no_grad()
def ranges(model: Hyperprior, images: list[Tensor]) -> dict[str, float]:
    """Return the largest magnitude of every tensor of `layers` on images, at all qualities.

    Args:
        model: float.
        images: uint8 [3, H, W], sides multiples of 32.
    """
    found: dict[str, float] = {}

    def see(name: str, *tensors: Tensor) -> None:
        found[name] = max(found.get(name, 0.0), *(float(x.abs().max()) for x in tensors))

    def watch(name: str) -> Any:
        parent = name.rpartition(".")[0]

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if isinstance(module, DepthConvBlock):
                see("features" if name.startswith("context.") else parent, inputs[0], output)
            elif isinstance(module, ContextStep):
                see("y", inputs[0], output)
            elif name in ("g_a", "g_s"):
                see("y", output if name == "g_a" else inputs[0])
            elif name == "h_a.stem":  # its two halves
                a, weight = inputs[0].chunk(2, 1)[0], model.h_a.stem.weight.chunk(2, 1)
                see(
                    parent + ".before",
                    conv2d(a, weight[0] - weight[1]),
                    conv2d(a.relu(), 2 * weight[1]),
                )
            elif name:
                see(name, output)

        return hook

    handles = [m.register_forward_hook(watch(name)) for name, m in model.named_modules()]
    was_training = model.training
    model.eval()
    try:
        for image in images:
            x = (image.float() / 255)[None].contiguous(memory_format=torch.channels_last)
            for q in range(1, N_QUALITIES + 1):
                model.estimate(x, torch.tensor([float(q)]))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
    return found


def fraction_bits(found: dict[str, float]) -> dict[str, int]:
    """Return the fraction bits of tensors by their largest magnitudes."""
    bits = {name: math.floor(math.log2(LARGEST / max(most, 1e-6))) for name, most in found.items()}
    return bits | FIXED_BITS


def _rounded(x: Tensor, kind: Any) -> Array:
    return torch.round(x.detach().double()).numpy().astype(kind)


def _integers(weight: Tensor, bias: Tensor, layer: Layer, bits: dict[str, int]) -> dict[str, Array]:
    """Return weights [O, ...], biases [O] and shifts [O] of a layer.

    Raises:
        ValueError: no shift of 1 … 30 turns its sums into its result.
    """
    source, result = bits[layer.source], bits[layer.result]
    weight, bias = weight.detach().double(), bias.detach().double()
    whole, offset = torch.zeros_like(weight), torch.zeros_like(bias)
    shift = np.zeros(len(weight), np.uint8)
    largest = (
        WEIGHT_MAX if layer.bound == LARGEST else LARGEST
    )  # small inputs leave more for weights
    for o, (row, b) in enumerate(zip(weight, bias, strict=True)):
        power = math.floor(math.log2(largest / max(float(row.abs().max()), 1e-30)))
        power = min(power, MAX_SHIFT + result - source)
        while True:
            if power + source - result < 1:
                raise ValueError(
                    f"{layer.name}: row {o}: its result needs more bits than its weights leave"
                )
            shift[o] = power + source - result
            whole[o], offset[o] = (
                torch.round(row * 2.0**power),
                torch.round(b * 2.0 ** (power + source)),
            )
            most = whole[o].abs().sum() * layer.bound + offset[o].abs() + 2.0 ** (shift[o] - 1.0)
            if most <= ACCUMULATOR and offset[o].abs() <= BIAS_MAX:
                break
            power -= 1
    return {
        "weight": whole.numpy().astype(np.int16),
        "bias": offset.numpy().astype(np.int32),
        "shift": shift,
    }


def _to_ours(weight: Tensor, layer: Layer) -> Tensor:
    """Return a layer's weight with channels in the order of specs/exact.md."""
    out, fan_in, kernel = weight.shape[:3]
    if fan_in == 1 and kernel > 1:  # depthwise
        return weight[:, 0]
    weight = weight.permute(0, 2, 3, 1).reshape(out, -1)  # (u, v, c)
    f = layer.unshuffled**2
    weight = weight.view(out, -1, f).transpose(1, 2).reshape(out, -1)
    f = layer.shuffled**2
    return weight.view(-1, f, weight.shape[1]).transpose(0, 1).reshape(out, -1)


def _to_torch(weight: Tensor, layer: Layer, shape: torch.Size) -> Tensor:
    """Return what `_to_ours` was given."""
    out, fan_in, kernel = shape[:3]
    if fan_in == 1 and kernel > 1:
        return weight[:, None]
    f = layer.shuffled**2
    weight = weight.reshape(f, -1, weight.shape[1]).transpose(0, 1).reshape(out, -1)
    f = layer.unshuffled**2
    weight = weight.view(out, f, -1).transpose(1, 2).reshape(out, -1)
    return weight.view(out, kernel, shape[3], fan_in).permute(0, 3, 1, 2)


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


def _bias_order(layer: Layer, n: int) -> Tensor:
    """Return which of torch's output channels each of ours is."""
    return torch.arange(n).view(-1, layer.shuffled**2).T.flatten()


def to_integers(model: Hyperprior, images: list[Tensor]) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the networks' tensors of a weights file, and the fraction bits that they were made with.

    Args:
        model: float, on the CPU.
        images: to calibrate on, uint8 [3, H, W], sides multiples of 32.

    Raises:
        ValueError: weights that integers cannot hold.
    """
    bits = fraction_bits(ranges(model, [*images, *extremes()]))
    named = dict(model.named_modules())
    tensors: dict[str, Array] = {}
    for layer in layers(model.config):
        weight, bias = _float_layer(named, layer)
        weight = _to_ours(weight.detach(), layer) * layer.unit * layer.result_unit
        bias = bias.detach()[_bias_order(layer, len(bias))] * layer.result_unit
        integers = _integers(weight, bias + HALF.get(layer.name, 0.0), layer, bits)
        tensors |= {f"{layer.name}.{part}": array for part, array in integers.items()}
    steps = np.arange(-LARGEST - 1, LARGEST + 1) / 2**STEPS_BITS
    tensors["h_a.asinh"] = np.rint(np.arcsinh(steps) * 2**ASINH_BITS).astype(np.int16)
    tensors["h_a.asinh"][0] = tensors["h_a.asinh"][1]  # of -32768, which does not occur
    gain, shrink = model.log_gain.double(), model.log_shrink.double()
    tensors["log_gain"] = _rounded(gain * OCTAVE - bits["y"] * 2**LOG_BITS, np.int32)
    tensors["log_unit"] = _rounded((shrink - gain) * OCTAVE + bits["y"] * 2**LOG_BITS, np.int32)
    tensors["index_offset"] = _rounded(model.index_offset * 2.0**INDEX_BITS, np.int16)
    for name, source, result in GAINS:
        table = model.get_parameter(name).detach().double() * 2.0 ** (bits[result] - bits[source])
        shift = math.floor(math.log2(LARGEST / max(float(table.abs().max()), 1e-4)))
        tensors[name] = _rounded(table * 2.0**shift, np.int16)
        tensors[f"{name}_shift"] = np.array(shift, np.uint8)
    used = {name for layer in layers(model.config) for name in (layer.source, layer.result)}
    return tensors, {name: bits[name] for name in sorted(used)}


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

    def layer_of(layer: Layer) -> tuple[Tensor, Tensor]:
        weight, bias, shift = (
            floats(f"{layer.name}.{part}") for part in ("weight", "bias", "shift")
        )
        power = shift - bits[layer.source] + bits[layer.result]  # of the weights [O]
        weight = weight * 2.0 ** -power.view(-1, *[1] * (weight.dim() - 1))
        bias = bias * 2.0 ** -(power + bits[layer.source])
        bias = bias - HALF.get(layer.name, 0.0)
        return weight / layer.unit / layer.result_unit, bias / layer.result_unit

    with torch.no_grad():
        for layer in layers(config):
            module = named[layer.name.removesuffix("_positive")]
            assert isinstance(module, nn.Conv2d) and module.bias is not None
            weight, bias = layer_of(layer)
            if layer.name == "h_a.stem":
                module.weight.copy_(torch.cat([weight, 0 * weight], 1)[:, :, None, None])
            elif layer.name == "h_a.stem_positive":  # the next one: of max(a, 0) = (a + |a|) / 2
                module.weight += torch.cat([weight, weight], 1)[:, :, None, None] / 2
                continue
            else:
                module.weight.copy_(_to_torch(weight, layer, module.weight.shape))
            module.bias[_bias_order(layer, len(bias))] = bias.float()
        gain = floats("log_gain") / OCTAVE + bits["y"] * math.log(2)
        model.log_gain.copy_(gain)
        model.log_shrink.copy_(floats("log_unit") / OCTAVE - bits["y"] * math.log(2) + gain)
        model.index_offset.copy_(floats("index_offset") * 2.0**-INDEX_BITS)
        for name, source, result in GAINS:
            power = int(tensors[f"{name}_shift"]) + bits[result] - bits[source]
            model.get_parameter(name).copy_(floats(name) * 2.0**-power)
    return model
