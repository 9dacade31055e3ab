"""A trained masked transformer <-> the integers of its weights file (specs/masked.md, section 1).

network, images --ranges--> fraction bits of every tensor --nn/integers.py--> weights, biases, shifts
weights file --floats--> network
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ncodec.exact.network import LARGEST, LOG_BITS, Array, Layer, tensors_of
from ncodec.models.masked.layers import (
    ASINH_BITS,
    FINE_BITS,
    FIXED_BITS,
    NEAR,
    OCTAVES,
    SCORE_MAX,
    STEPS_BITS,
    MaskedConfig,
    layers,
)
from ncodec.models.masked.network import Masked
from ncodec.models.trunk import GAINS
from ncodec.nn.integers import (
    HALF,
    OCTAVE,
    Watch,
    at_qualities,
    extremes,
    float_layer,
    floats,
    fraction_bits,
    halves,
    integer_gains,
    integer_layer,
    integer_steps,
    load_gains,
    load_layer,
    load_steps,
    rounded,
)

SURROUNDINGS = ("near", "linear", "energy")
RANGE_QUALITIES = (1.0, 4.0, 8.0)  # magnitudes grow and fall with quality: its ends, and the middle
LEAST_BITS, MOST_BITS = 3, 12  # of q and k
STREAM_ROOM = 1.5  # times what was seen: the residual stream must not saturate
TABLES = {  # parameters in units of the stream
    "mode": "mode", "group": "step", "unknown_places": "unknown_places", "known_places": "known_places", "null": "null",
}  # fmt: skip


@torch.no_grad()
def ranges(model: Masked, images: list[Tensor]) -> dict[str, float]:
    """Return the largest magnitude of every tensor of `layers` on images.

    Args:
        model: float.
        images: uint8 [3, H, W], sides multiples of 16.
    """

    def of_y(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        watch.see("y", output if module is model.g_a else inputs[0])

    def of_stream(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        watch.see("stream", inputs[0], inputs[1], output)

    def of_part(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        watch.see("stream", output)

    def of_halves(name: str) -> Callable[..., None]:
        def hook(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            a, (plain, positive) = inputs[0].chunk(2, -1)[0], halves(module.weight)
            watch.see(name, linear(a, plain), linear(a.relu(), positive), output)

        return hook

    def of_head(name: str) -> Callable[..., None]:
        def hook(module: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            watch.see(name, inputs[0])
            watch.see("mean", output.chunk(2, -1)[0])

        return hook

    watch = Watch(model, lambda name: name)
    with watch:
        watch.hook(model.g_a, of_y)
        watch.hook(model.g_s, of_y)
        watch.hook(model.content, of_halves("stream"))
        modules = dict(model.named_modules())
        for k, layer in enumerate(model.layers):
            watch.hook(layer, of_stream)
            for name in ("o", "down"):
                watch.hook(modules[f"layers.{k}.{name}"], of_part)
        for a in range(len(model.heads)):
            name = f"heads.{a}"
            for last in ("f", "around"):
                look = partial(lambda name, _, inputs, output: watch.see(name, output), name)
                watch.hook(modules[f"{name}.{last}"], look)
            watch.hook(modules[f"{name}.out"], of_head(name))
            if f"{name}.own" in modules:
                watch.hook(modules[f"{name}.own"], of_halves(name))
        for x, q in at_qualities(images, RANGE_QUALITIES):
            model.estimate(x, q)
    for name in TABLES.values():
        watch.see("stream", model.get_parameter(name))
    found = watch.found
    found["stream"] *= STREAM_ROOM
    for k in range(len(model.layers)):
        found[f"layers.{k}.q"] *= OCTAVES
        for part in "qk":  # clamped to 12 bits
            found[f"layers.{k}.{part}"] *= LARGEST / SCORE_MAX
    return found


def _module(model: Masked, name: str) -> nn.Linear | nn.Conv2d:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear | nn.Conv2d), name
    return module


def _floats(model: Masked, layer: Layer) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a layer; what sees [a; |a|] is two (`halves`)."""
    name, _, last = layer.name.rpartition(".")
    if name in SURROUNDINGS:
        kernel = model.get_parameter(name)[int(last)]  # [25, C]
        return kernel.T.contiguous().view(-1, 1, NEAR, NEAR), torch.zeros(kernel.shape[1])
    if last in ("mean", "index"):
        out = _module(model, f"{name}.out")
        part = slice(layer.shape[0]) if last == "mean" else slice(layer.shape[0], None)
        return out.weight[part, :, None, None], out.get_parameter("bias")[part]
    module = _module(model, layer.name.removesuffix("_positive"))
    bias = module.bias if module.bias is not None else torch.zeros(layer.shape[0])
    if isinstance(module, nn.Conv2d):
        return module.weight, bias
    weight = module.weight
    if layer.source == "asinh":
        weight, positive = halves(weight)
        if last.endswith("_positive"):
            weight, bias = positive, torch.zeros_like(bias)
    return weight[:, :, None, None], bias


def asinh_tables() -> dict[str, Array]:
    """Return asinh of fine steps, -32768 to 32767, and what it lacks of that of coarse ones, where the fine saturate."""
    integers = np.arange(-LARGEST - 1, LARGEST + 1)
    most = LARGEST / 2**FINE_BITS
    fine = np.arcsinh(integers / 2**FINE_BITS)
    steps = integers / 2**STEPS_BITS
    beyond = np.arcsinh(steps) - np.arcsinh(np.clip(steps, -most, most))
    return {
        name: np.rint(table * 2**ASINH_BITS).astype(np.int16)
        for name, table in (("asinh", fine), ("asinh_beyond", beyond))
    }


def to_integers(model: Masked, images: list[Tensor]) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the networks' tensors of a weights file, and the fraction bits that they were made with.

    Args:
        model: float, on the CPU.
        images: to calibrate on, uint8 [3, H, W], sides multiples of 16.

    Raises:
        ValueError: weights that integers cannot hold.
    """
    bits = fraction_bits(ranges(model, [*images, *extremes()]), FIXED_BITS)
    n_layers = len(model.layers)
    for k in range(n_layers):
        for part in "qk":
            name = f"layers.{k}.{part}"
            bits[name] = min(max(bits[name], LEAST_BITS), MOST_BITS)
    tensors: dict[str, Array] = {}
    with torch.no_grad():
        for layer in layers(model.config):
            tensors |= integer_layer(*_floats(model, layer), layer, bits, HALF.get(layer.name, 0.0))
    scores = [bits[f"layers.{k}.q"] + bits[f"layers.{k}.k"] for k in range(n_layers)]
    tensors["score_bits"] = np.array(scores, np.uint8)
    tensors |= asinh_tables()
    tensors |= integer_steps(model, bits) | integer_gains(model, GAINS, bits)
    mean, power = -model.log_gain.double() / 2, bits["y"] - bits["mean"]
    tensors["log_mean"] = rounded(mean * OCTAVE + power * 2**LOG_BITS, np.int32)
    for name, parameter in TABLES.items():
        table = model.get_parameter(parameter) * 2.0 ** bits["stream"]
        tensors[name] = rounded(table.clamp(-LARGEST, LARGEST), np.int16)
    return tensors, {name: bits[name] for name in sorted(tensors_of(layers(model.config)))}


def from_integers(
    tensors: Mapping[str, Array], config: MaskedConfig, bits: Mapping[str, int]
) -> Masked:
    """Return the float network whose integers these are, as near as they tell.

    Raises:
        KeyError, ValueError, RuntimeError: tensors or fraction bits are missing or of the wrong shape.
    """
    model = Masked(config)

    with torch.no_grad():
        for layer in layers(config):
            weight, bias = float_layer(tensors, layer, bits, HALF.get(layer.name, 0.0))
            name, _, last = layer.name.rpartition(".")
            if name in SURROUNDINGS:
                model.get_parameter(name)[int(last)] = weight.reshape(len(weight), -1).T.float()
                continue
            if last in ("mean", "index"):
                out = _module(model, f"{name}.out")
                part = slice(len(weight)) if last == "mean" else slice(len(weight), None)
                out.weight[part] = weight.float()
                out.get_parameter("bias")[part] = bias.float()
                continue
            module = _module(model, layer.name.removesuffix("_positive"))
            if isinstance(module, nn.Conv2d):
                load_layer(module, weight, bias, layer)
            elif layer.source != "asinh":
                module.weight.copy_(weight)
                if module.bias is not None:
                    module.bias.copy_(bias)
            elif last.endswith("_positive"):  # the later one: of max(a, 0) = (a + |a|) / 2
                module.weight += torch.cat([weight, weight], 1) / 2
            else:
                module.weight.copy_(torch.cat([weight, 0 * weight], 1))
                if module.bias is not None:
                    module.bias.copy_(bias)
        load_steps(model, tensors, bits)
        load_gains(model, GAINS, tensors, bits)
        for name, parameter in TABLES.items():
            model.get_parameter(parameter).copy_(floats(tensors[name]) * 2.0 ** -bits["stream"])
    return model
