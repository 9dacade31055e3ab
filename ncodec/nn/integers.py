"""Layers of floats <-> the integers of a weights file (specs/exact.md), whatever the family.

    largest magnitudes of tensors --fraction_bits--> bits --integer_layer--> weight, bias, shift --float_layer--> floats

A tensor's values are its integers times 2**-bits, with as many bits as keep the largest magnitude on photographs and
on `extremes` within 16 bits. A layer's weights have a power of two for each output
channel: 12 bits, or fewer where 32-bit sums could overflow (X3 of specs/exact.md).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ncodec.exact.network import LARGEST, LOG_BITS, Array, Layer
from ncodec.nn.blocks import DepthConvBlock

HALF = {"g_s.linear": 127.5}  # of the pixels' range: x is 1/2 below them
OCTAVE = 2**LOG_BITS / math.log(2)  # of natural logarithms
WEIGHT_MAX = 2**11 - 1  # 12 bits
BIAS_MAX = 2**30
ACCUMULATOR = 2**31 - 1
MAX_SHIFT = 30
GAIN_LEAST = 1e-4


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


class Watch:
    """The largest magnitude of tensors, by name, seen while a network runs.

    Args:
        network: whose modules' outputs are seen, blocks as the trunk they are added to.
        rename: called with the name of a module: the tensor that it adds to, or the name itself.
    """

    def __init__(self, network: nn.Module, rename: Callable[[str], str]) -> None:
        self.found: dict[str, float] = {}
        self._network, self._rename = network, rename

    def see(self, name: str, *tensors: Tensor) -> None:
        """Take note of tensors."""
        most = max(float(x.detach().abs().max()) for x in tensors)
        self.found[name] = max(self.found.get(name, 0.0), most)

    def __enter__(self) -> "Watch":
        def watch(name: str) -> Any:
            parent = name.rpartition(".")[0]

            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
                if isinstance(module, DepthConvBlock):
                    self.see(self._rename(parent), inputs[0], output)
                elif isinstance(output, Tensor) and name:
                    self.see(self._rename(name), output)

            return hook

        self._handles = [
            m.register_forward_hook(watch(name)) for name, m in self._network.named_modules()
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()


def fraction_bits(found: Mapping[str, float], fixed: Mapping[str, int]) -> dict[str, int]:
    """Return the fraction bits of tensors by their largest magnitudes; `fixed` has those that are given."""
    bits = {name: math.floor(math.log2(LARGEST / max(most, 1e-6))) for name, most in found.items()}
    return bits | dict(fixed)


def rounded(x: Tensor, kind: Any) -> Array:
    """Return the nearest integers."""
    return torch.round(x.detach().double()).numpy().astype(kind)


def integer_layer(
    weight: Tensor, bias: Tensor, layer: Layer, bits: Mapping[str, int], half: float = 0.0
) -> dict[str, Array]:
    """Return the tensors of a layer: weight [O, ...], bias [O], shift [O], by their full names.

    Args:
        weight: as torch has it.
        bias: [O].
        layer: which.
        bits: of its source and result.
        half: what is added to the bias, in units of the result.

    Raises:
        ValueError: no shift of 1 … 30 turns its sums into its result.
    """
    weight = _to_ours(weight.detach(), layer).double() * layer.unit * layer.result_unit
    bias = bias.detach()[bias_order(layer, len(bias))].double() * layer.result_unit + half
    source, result = bits[layer.source], bits[layer.result]
    whole, offset = torch.zeros_like(weight), torch.zeros_like(bias)
    shift = np.zeros(len(weight), np.uint8)
    # Small inputs leave more for weights.
    largest = WEIGHT_MAX if layer.bound == LARGEST else LARGEST
    for o, (row, b) in enumerate(zip(weight, bias, strict=True)):
        power = math.floor(math.log2(largest / max(float(row.abs().max()), 1e-30)))
        power = min(power, MAX_SHIFT + result - source)
        while True:
            if power + source - result < 1:
                raise ValueError(
                    f"{layer.name}: row {o}: its result needs more bits than its weights leave"
                )
            shift[o] = power + source - result
            whole[o] = torch.round(row * 2.0**power)
            offset[o] = torch.round(b * 2.0 ** (power + source))
            most = whole[o].abs().sum() * layer.bound + offset[o].abs() + 2.0 ** (shift[o] - 1.0)
            if most <= ACCUMULATOR and offset[o].abs() <= BIAS_MAX:
                break
            power -= 1
    return {
        f"{layer.name}.weight": whole.contiguous().numpy().astype(np.int16),
        f"{layer.name}.bias": offset.numpy().astype(np.int32),
        f"{layer.name}.shift": shift,
    }


def float_layer(
    tensors: Mapping[str, NDArray[Any]], layer: Layer, bits: Mapping[str, int], half: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return weight and bias that `integer_layer` was given, the weight in the order of specs/exact.md."""
    weight, bias, shift = (
        torch.from_numpy(tensors[f"{layer.name}.{part}"].astype(np.float64))
        for part in ("weight", "bias", "shift")
    )
    power = shift - bits[layer.source] + bits[layer.result]  # of the weights [O]
    weight = weight * 2.0 ** -power.view(-1, *[1] * (weight.dim() - 1))
    bias = bias * 2.0 ** -(power + bits[layer.source]) - half
    return weight / layer.unit / layer.result_unit, bias / layer.result_unit


def load_layer(module: nn.Conv2d, weight: Tensor, bias: Tensor, layer: Layer) -> None:
    """Give a module what `float_layer` returned."""
    assert module.bias is not None
    with torch.no_grad():
        module.weight.copy_(to_torch(weight, layer, module.weight.shape))
        module.bias[bias_order(layer, len(bias))] = bias.float()


def integer_gain(table: Tensor, power: int) -> tuple[Array, Array]:
    """Return a gain [8, channels] times 2**power as integers, and their shift."""
    table = table.detach().double() * 2.0**power
    shift = math.floor(math.log2(LARGEST / max(float(table.abs().max()), GAIN_LEAST)))
    return rounded(table * 2.0**shift, np.int16), np.array(shift, np.uint8)


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


def to_torch(weight: Tensor, layer: Layer, shape: torch.Size) -> Tensor:
    """Return a layer's weight with torch's shape and order."""
    out, fan_in, kernel = shape[:3]
    if fan_in == 1 and kernel > 1:
        return weight[:, None]
    f = layer.shuffled**2
    weight = weight.reshape(f, -1, weight.shape[1]).transpose(0, 1).reshape(out, -1)
    f = layer.unshuffled**2
    weight = weight.view(out, f, -1).transpose(1, 2).reshape(out, -1)
    return weight.view(out, kernel, shape[3], fan_in).permute(0, 3, 1, 2)


def bias_order(layer: Layer, n: int) -> Tensor:
    """Return which of torch's output channels each of ours is."""
    return torch.arange(n).view(-1, layer.shuffled**2).T.flatten()
