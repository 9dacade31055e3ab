"""A trained frequency-aware transformer <-> the integers of its weights file (specs/ftic.md, section 1).

network, images --ranges--> fraction bits of every tensor --nn/integers.py--> weights, biases, shifts
weights file --floats--> network
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ncodec.exact.network import LARGEST, Array
from ncodec.models.ftic.layers import (
    CHANNEL_OCTAVES,
    FIXED_BITS,
    MOST_BIAS,
    OCTAVES,
    SCORE_MAX,
    FticConfig,
    all_fat,
    channel_layers,
    layers,
)
from ncodec.models.ftic.network import Ftic
from ncodec.models.hyperprior.quantise import integers_of, load_integers
from ncodec.nn.integers import Watch, at_qualities, extremes, floats, fraction_bits, rounded

RANGE_QUALITIES = (1.0, 4.0, 8.0)  # magnitudes grow and fall with quality: its ends, and the middle
STREAM_ROOM = 1.25  # times what was seen: residual streams must not saturate
LEAST_BITS, MOST_BITS = 3, 12  # of q and k


def _streams(c: FticConfig) -> dict[str, str]:
    """Return which tensor a module's output is, or is added to, by the module's name."""
    found = {f"{side}.deep.stem": f"{side}.deep" for side in ("g_a", "g_s")}
    for fat in all_fat(c):
        parts = (fat.name, f"{fat.name}.attention.o", f"{fat.name}.down", f"{fat.name}.modulation")
        found |= dict.fromkeys(parts, fat.stream)
    for name in channel_layers(c):
        found |= dict.fromkeys((name, f"{name}.o", f"{name}.down"), "features")
    return found


def _attentions(c: FticConfig) -> dict[str, float]:
    """Return the octaves of a score of every attention, by its name."""
    found = dict.fromkeys((f"{fat.name}.attention" for fat in all_fat(c)), OCTAVES)
    return found | dict.fromkeys(channel_layers(c), CHANNEL_OCTAVES)


@torch.no_grad()
def ranges(model: Ftic, images: list[Tensor]) -> dict[str, float]:
    """Return the largest magnitude of every tensor of `layers` on images.

    Args:
        model: float.
        images: uint8 [3, H, W], sides multiples of 32.
    """
    streams = _streams(model.config)

    def rename(name: str) -> str:
        if name.startswith("context.") and name.endswith(".blocks"):
            return "features"
        return streams.get(name, name)

    watch = Watch(model, rename)
    with watch:
        watch.hook_latents(model.g_a, model.g_s, *model.context)
        watch.hook_halved(model.h_a.stem)
        for x, q in at_qualities(images, RANGE_QUALITIES):
            model.estimate(x, q)
    found = watch.found
    found["g_s.stem"] += found["g_s.deep.head"]
    for stream in set(streams.values()):
        found[stream] *= STREAM_ROOM
    for name, octaves in _attentions(model.config).items():
        found[f"{name}.q"] *= octaves
        for part in "qk":  # clamped
            found[f"{name}.{part}"] *= LARGEST / SCORE_MAX
    return found


def to_integers(model: Ftic, images: list[Tensor]) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the networks' tensors of a weights file, and the fraction bits that they were made with.

    Args:
        model: float, on the CPU.
        images: to calibrate on, uint8 [3, H, W], sides multiples of 32.

    Raises:
        ValueError: weights that integers cannot hold.
    """
    bits = fraction_bits(ranges(model, [*images, *extremes()]), FIXED_BITS)
    scores = {}
    for name in _attentions(model.config):
        for part in (f"{name}.q", f"{name}.k"):
            bits[part] = min(max(bits[part], LEAST_BITS), MOST_BITS)
        scores[name] = bits[f"{name}.q"] + bits[f"{name}.k"]
    tensors, kept = integers_of(model, list(layers(model.config)), bits)
    tensors |= {f"{name}.score_bits": np.array(score, np.uint8) for name, score in scores.items()}
    for fat in all_fat(model.config):
        name = f"{fat.name}.attention"
        bias = (
            model.get_parameter(f"{name}.bias").double() * math.log2(math.e) * 2.0 ** scores[name]
        )
        tensors[f"{name}.bias"] = rounded(bias.clamp(-MOST_BIAS, MOST_BIAS), np.int32)
        name = f"{fat.name}.modulation"
        weight = model.get_parameter(f"{name}.weight").detach().double()
        room = math.floor(math.log2(LARGEST / max(float(weight.abs().max()), 1.0)))
        tensors[f"{name}.weight"] = rounded(weight * 2.0**room, np.int16)
        tensors[f"{name}.bits"] = np.array(room, np.uint8)
    return tensors, kept


@torch.no_grad()
def from_integers(
    tensors: Mapping[str, Array], config: FticConfig, bits: Mapping[str, int]
) -> Ftic:
    """Return the float network whose integers these are, as near as they tell.

    Raises:
        KeyError, ValueError, RuntimeError: tensors or fraction bits are missing or of the wrong shape.
    """
    model = Ftic(config)
    load_integers(model, layers(config), tensors, bits)
    for fat in all_fat(config):
        name = f"{fat.name}.attention"
        unit = 2.0 ** -int(tensors[f"{name}.score_bits"]) / math.log2(math.e)
        model.get_parameter(f"{name}.bias").copy_(floats(tensors[f"{name}.bias"]) * unit)
        name = f"{fat.name}.modulation"
        weight = floats(tensors[f"{name}.weight"]) * 2.0 ** -int(tensors[f"{name}.bits"])
        model.get_parameter(f"{name}.weight").copy_(weight)
    return model
