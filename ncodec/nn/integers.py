"""Layers of floats <-> the integers of a weights file (specs/exact.md), whatever the family.

    largest magnitudes of tensors --fraction_bits--> bits --integer_layer--> weight, bias, shift --float_layer--> floats

A tensor's values are its integers times 2**-bits, with as many bits as keep the largest magnitude on photographs and
on `extremes` within 16 bits. A layer's weights have a power of two for each output
channel: 12 bits, or fewer where 32-bit sums could overflow (X3 of specs/exact.md).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.hooks import RemovableHandle

from ncodec.exact.network import LARGEST, LOG_BITS, Array, Layer
from ncodec.nn.blocks import DepthConvBlock

HALF = {"g_s.linear": 127.5}  # of the pixels' range: x is 1/2 below them
OCTAVE = 2**LOG_BITS / math.log(2)  # of natural logarithms
WEIGHT_MAX = 2**11 - 1  # 12 bits
BIAS_MAX = 2**30
ACCUMULATOR = 2**31 - 1
MAX_SHIFT = 30
GAIN_LEAST = 1e-4
HALVED = "h_a.stem"  # sees [a; |a|]: two layers of integers
STEPS = ("log_gain", "log_shrink", "index_offset")  # parameters of networks with latents y
Gains = Iterable[tuple[str, str, str]]  # name, of which tensor, with which result


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


def at_qualities(
    images: Iterable[Tensor], qualities: Iterable[float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x [1, 3, H, W] and q [1] of images, uint8 [3, H, W], each at all qualities."""
    for image in images:
        x = (image.float() / 255)[None].contiguous(memory_format=torch.channels_last)
        for q in qualities:
            yield x, torch.tensor([float(q)])


class Watch:
    """The largest magnitude of tensors, by name, seen while a network runs, not in training.

    Args:
        network: whose modules' outputs are seen, blocks as the trunk they are added to.
        rename: called with the name of a module: the tensor that it adds to, or the name itself.
    """

    def __init__(self, network: nn.Module, rename: Callable[[str], str]) -> None:
        self.found: dict[str, float] = {}
        self._handles: list[RemovableHandle] = []
        self._network, self._rename = network, rename

    def see(self, name: str, *tensors: Tensor) -> None:
        """Take note of tensors."""
        most = max(float(x.detach().abs().max()) for x in tensors)
        self.found[name] = max(self.found.get(name, 0.0), most)

    def hook(self, module: nn.Module, look: Callable[..., None]) -> None:
        """Have `look` called with a module, its inputs and its output until the end."""
        self._handles.append(module.register_forward_hook(look))

    def hook_latents(self, analysis: nn.Module, *others: nn.Module) -> None:
        """See y: what `analysis` returns, and what `others` take."""
        self.hook(analysis, lambda _, inputs, output: self.see("y", output))
        for module in others:
            self.hook(module, lambda _, inputs, output: self.see("y", inputs[0]))

    def hook_halved(self, stem: nn.Conv2d) -> None:
        """See both halves of what the layer HALVED makes."""

        def look(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            a, (plain, positive) = inputs[0].chunk(2, 1)[0], halves(stem.weight)
            self.see("h_a.before", conv2d(a, plain), conv2d(a.relu(), positive))

        self.hook(stem, look)

    def __enter__(self) -> "Watch":
        def watch(name: str) -> Any:
            parent = name.rpartition(".")[0]

            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
                if isinstance(module, DepthConvBlock):
                    self.see(self._rename(parent), inputs[0], output)
                elif isinstance(output, Tensor) and name:
                    self.see(self._rename(name), output)

            return hook

        for name, module in self._network.named_modules():
            self.hook(module, watch(name))
        self._was_training = self._network.training
        self._network.eval()
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._network.train(self._was_training)


def fraction_bits(found: Mapping[str, float], fixed: Mapping[str, int]) -> dict[str, int]:
    """Return the fraction bits of tensors by their largest magnitudes; `fixed` has those that are given."""
    bits = {name: math.floor(math.log2(LARGEST / max(most, 1e-6))) for name, most in found.items()}
    return bits | dict(fixed)


def floats(integers: Array) -> Tensor:
    """Return integers as float64."""
    return torch.from_numpy(integers.astype(np.float64))


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
        floats(tensors[f"{layer.name}.{part}"]) for part in ("weight", "bias", "shift")
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


def integer_gains(network: nn.Module, gains: Gains, bits: Mapping[str, int]) -> dict[str, Array]:
    """Return gains [8, channels] as integers, and their shifts."""
    tensors: dict[str, Array] = {}
    for name, source, result in gains:
        table = network.get_parameter(name).detach().double() * 2.0 ** (bits[result] - bits[source])
        shift = math.floor(math.log2(LARGEST / max(float(table.abs().max()), GAIN_LEAST)))
        tensors[name] = rounded(table * 2.0**shift, np.int16)
        tensors[f"{name}_shift"] = np.array(shift, np.uint8)
    return tensors


@torch.no_grad()
def load_gains(
    network: nn.Module, gains: Gains, tensors: Mapping[str, Array], bits: Mapping[str, int]
) -> None:
    """Give a network the gains that `integer_gains` was given."""
    for name, source, result in gains:
        power = int(tensors[f"{name}_shift"]) + bits[result] - bits[source]
        network.get_parameter(name).copy_(floats(tensors[name]) * 2.0**-power)


def integer_steps(network: nn.Module, bits: Mapping[str, int]) -> dict[str, Array]:
    """Return what turns latents y into steps, residuals r into latents, and rows into those of the quality, [8, M] each."""
    gain, shrink, offset = (network.get_parameter(name).detach().double() for name in STEPS)
    octaves = bits["y"] * 2**LOG_BITS
    return {
        "log_gain": rounded(gain * OCTAVE - octaves, np.int32),
        "log_unit": rounded((shrink - gain) * OCTAVE + octaves, np.int32),
        "index_offset": rounded(offset * 2.0 ** bits["index"], np.int16),
    }


@torch.no_grad()
def load_steps(network: nn.Module, tensors: Mapping[str, Array], bits: Mapping[str, int]) -> None:
    """Give a network what `integer_steps` was given."""
    gain = floats(tensors["log_gain"]) / OCTAVE + bits["y"] * math.log(2)
    shrink = floats(tensors["log_unit"]) / OCTAVE - bits["y"] * math.log(2) + gain
    offset = floats(tensors["index_offset"]) * 2.0 ** -bits["index"]
    for name, table in zip(STEPS, (gain, shrink, offset), strict=True):
        network.get_parameter(name).copy_(table)


def halves(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights of a and of max(a, 0) of a layer that sees [a; |a|], [O, 2 C, ...]: |a| = 2 max(a, 0) - a."""
    plain, magnitude = weight.chunk(2, 1)
    return plain - magnitude, 2 * magnitude


def float_of(named: Mapping[str, nn.Module], layer: Layer) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer, of a network's modules by name."""
    module = named[layer.name.removesuffix("_positive")]
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    if not layer.name.startswith(HALVED):
        return module.weight, module.bias
    plain, positive = halves(module.weight)
    if layer.name == HALVED:
        return plain, module.bias
    return positive, torch.zeros_like(module.bias)


@torch.no_grad()
def load_float(named: Mapping[str, nn.Module], weight: Tensor, bias: Tensor, layer: Layer) -> None:
    """Give a network what `float_layer` returned; HALVED before its positive half."""
    module = named[layer.name.removesuffix("_positive")]
    assert isinstance(module, nn.Conv2d) and module.bias is not None
    if layer.name == HALVED:
        module.weight.copy_(torch.cat([weight, 0 * weight], 1)[:, :, None, None])
    elif layer.name.startswith(HALVED):  # of max(a, 0) = (a + |a|) / 2
        module.weight += torch.cat([weight, weight], 1)[:, :, None, None] / 2
        return
    else:
        load_layer(module, weight, bias, layer)
    module.bias[bias_order(layer, len(bias))] = bias.float()


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
