"""How `ncodec train` trains family `masked`: start, parameter groups, weights file. A `training.recipe.Recipe`.

    hyperprior-s --its g_a, g_s, gains, tables--\\
    images --y--> channels by cost, offsets ------> network --training/loop.py--> network --> weights file
       |                                                              ^
       +--hyperprior-s: lessons (lessons.py), 70 % of the budget -----+
"""

import math
from dataclasses import asdict
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ncodec.errors import InputError
from ncodec.models import weights
from ncodec.models.hyperprior import recipe as hyperprior
from ncodec.models.masked.diagnosis import diagnose
from ncodec.models.masked.layers import MaskedConfig as Config
from ncodec.models.masked.layers import check_masked, layers
from ncodec.models.masked.lessons import Tutor, cost_of_errors, order_of
from ncodec.models.masked.network import LESSONS_SHARE, Masked
from ncodec.models.masked.quantise import from_integers, to_integers
from ncodec.models.masked.schedule import PLACES, groups
from ncodec.nn import STRIDE
from ncodec.nn.gain import at_quality
from ncodec.nn.priors import frequencies_of, index_of_scale
from ncodec.nn.training import Lessons, Objective, ParameterGroups, TrainingOutput
from ncodec.nn.training import as_it_is as as_start
from ncodec.quality import N_QUALITIES

__all__ = [
    "CROP_STRIDE", "EFFORT", "OBJECTIVES", "Config", "as_start", "build", "diagnose", "estimate", "from_weights", "kmac_per_pixel",
    "lessons", "parameter_groups", "start", "to_weights",
]  # fmt: skip

CROP_STRIDE = STRIDE
EFFORT = None
OBJECTIVES = {"psnr": Objective()}
TRUNK = "hyperprior-s"  # what training starts from
START_IMAGES = 64
CALIBRATION_IMAGES = 16
PROBED_IMAGES, PROBED_SIDE = 4, 320
FROZEN = "g_a."  # latents stay what they are
SLOWEST, SLOW, FAST = 0.04, 0.3, 3.0
FIRST_SCALE = 0.6  # of residuals, to the root mean square of latents


def build(config: Config) -> Masked:
    """Return a network with random weights."""
    return Masked(config)


@torch.no_grad()
def start(config: Config, images: list[Tensor]) -> Masked:
    """Return a network with the trunk of `hyperprior-s`, its channels in the order of what they cost, and a transformer that expects 0.

    Args:
        config: sizes, those of the trunk.
        images: uint8 [3, H, W].

    Raises:
        InputError: the trunk has other sizes.
    """
    trunk = hyperprior.from_weights(*weights.read(weights.find_start(TRUNK))[:2])
    for size in ("N", "M", "analysis_blocks", "synthesis_blocks"):
        found, expected = getattr(config, size), getattr(trunk.config, size)
        if found != expected:
            raise InputError(f"{size}: expected {expected}, that of {TRUNK}, found {found}")
    qualities = torch.arange(1.0, N_QUALITIES + 1)
    square, cost = torch.zeros(config.M), torch.zeros(config.M)
    for image in images[:START_IMAGES]:
        height, width = (side - side % STRIDE for side in image.shape[1:])
        x = image[None, :, :height, :width].float() / 255
        y = trunk.g_a(x.contiguous(memory_format=torch.channels_last), torch.tensor([4.0]))
        square += y.square().mean((0, 2, 3))
        steps = y * at_quality(trunk.log_gain, qualities).exp()
        cost += (1 + steps.abs()).log2().mean((0, 2, 3))
    order = cost.argsort(descending=True)
    network = Masked(config)
    for ours, theirs in ((network.g_a, trunk.g_a), (network.g_s, trunk.g_s)):
        ours.load_state_dict(theirs.state_dict())
    for name in ("linear", "head"):
        for parameter in network.g_a.get_submodule(name).parameters():  # weight, bias
            parameter.copy_(parameter[order])
    for layer in (network.g_s.linear, network.g_s.stem):
        layer.weight.copy_(layer.weight[:, order])
    network.log_gain.copy_(trunk.log_gain[:, order])
    network.log_shrink.copy_(trunk.log_shrink[:, order])
    network.prior_r.load_state_dict(trunk.prior_r.state_dict())
    scale = FIRST_SCALE * (square / min(len(images), START_IMAGES)).sqrt()[order]
    network.index_offset.copy_(index_of_scale(scale * network.log_gain.exp()).clamp(2, 60))
    return network


def lessons(network: Masked, images: list[Tensor]) -> Lessons | None:
    """Return how crops become lessons of hyperprior-s; None: g_a is not its own.

    Args:
        network: where its parameters are.
        images: some to measure on what errors of y_hat cost.
    """
    device = network.log_gain.device
    teacher = hyperprior.from_weights(*weights.read(weights.find_start(TRUNK))[:2]).to(device)
    ours, theirs = (part.g_a.linear.weight.flatten(1) for part in (network, teacher))
    order = order_of(ours, theirs) if ours.shape == theirs.shape else None
    if order is None:
        return None
    side = min(PROBED_SIDE, *(min(image.shape[1:]) for image in images)) // STRIDE * STRIDE
    x = torch.stack([image[:, :side, :side] for image in images[:PROBED_IMAGES]]).to(device) / 255
    cost = cost_of_errors(teacher.g_s, lambda q: teacher.g_a(x, q.expand(len(x))), device)
    tutor = Tutor(teacher, order, cost[:, order])
    return Lessons(tutor.lesson, LESSONS_SHARE)


def parameter_groups(network: Masked) -> ParameterGroups:
    """Return the matrices, and the others by how fast they learn; not those of g_a, which stay."""
    dense = {
        id(module.weight)
        for module in network.modules()
        if type(module) is nn.Linear or (type(module) is nn.Conv2d and module.kernel_size == (1, 1))
    }
    matrices: list[nn.Parameter] = []
    slowest: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    fast: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if name.startswith(FROZEN) or name == "log_gain":
            parameter.requires_grad_(False)
        elif name.startswith("g_s."):  # trained already
            (slowest if name.startswith("g_s.linear") else slow).append(parameter)
        elif id(parameter) in dense:
            matrices.append(parameter)
        elif name.startswith("index_offset"):
            fast.append(parameter)
        elif name.startswith(("log_shrink", "prior_r")):
            slow.append(parameter)
        else:
            rest.append(parameter)
    return ParameterGroups(
        [(1.0, matrices)], [(SLOWEST, slowest), (SLOW, slow), (FAST, fast), (1.0, rest)]
    )


def estimate(network: Masked, x: Tensor, q: Tensor) -> TrainingOutput:
    """Return reconstruction and rate as in the files of the exported network."""
    return network.estimate(x, q)


def from_weights(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> Masked:
    """Return the float network that `to_weights` was given, as near as the integers tell.

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
    """
    config = Config(**about["config"])
    check_masked(tensors, config)
    model = from_integers(tensors, config, about["fraction_bits"])
    model.prior_r.fit(torch.from_numpy(tensors["tables.r"]))
    return model


def to_weights(
    network: Masked, images: list[Tensor]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the integers of specs/masked.md, section 1, and what the file says beside them."""
    tensors, fraction_bits = to_integers(network, images[:CALIBRATION_IMAGES])
    tensors["tables.r"] = frequencies_of(network.prior_r)
    about = {
        "config": asdict(network.config),
        "skip_below": network.prior_r.rows_that_skip(),
        "fraction_bits": fraction_bits,
    }
    return tensors, about


def kmac_per_pixel(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> float:
    """Return thousands of multiply-accumulates that decoding takes per pixel of an image of whole windows."""
    c = Config(**about["config"])
    sizes = [int((groups(c.steps) == step).sum()) for step in range(c.steps)]
    told = sum(sizes[:-1])  # places that pass as content, too
    total = 0.0
    for layer in layers(c):
        part = layer.name.split(".")[0]
        macs = math.prod(layer.shape)
        if part == "g_s":
            at_eighth = layer.name.startswith(("g_s.blocks", "g_s.head"))
            total += macs * PLACES * (4 if at_eighth else 1)
        elif part in ("near", "linear", "energy", "heads"):
            total += macs * PLACES
        elif part.startswith("content"):
            total += macs * told
        elif part == "layers":
            k, name = layer.name.split(".")[1:]
            asks_again = int(k) + 1 < c.layers  # of contents, the last layer wants keys and values
            if c.passes == "mt":
                total += macs * PLACES * c.steps
            elif name in ("k", "v"):
                total += macs * told
            else:
                total += macs * (PLACES + told * asks_again)
    if c.passes == "mt":
        pairs = c.layers * c.steps * PLACES**2
    else:
        known = [1 + sum(sizes[:step]) for step in range(c.steps + 1)]  # with the null token
        pairs = c.layers * sum(n * known[k] for k, n in enumerate(sizes))  # of masks
        pairs += (c.layers - 1) * sum(n * known[k + 1] for k, n in enumerate(sizes[:-1]))
    total += 2 * c.D * pairs
    return total / PLACES / STRIDE**2 / 1000
