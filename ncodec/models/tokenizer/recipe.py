"""How `ncodec train` trains family `tokenizer`: start, parameter groups, weights file. A `training.recipe.Recipe`.

    hyperprior-s --its g_a, g_s----\\
    images --y--> PCA of each stage --> network --training/loop.py--> network --> weights file
    a tokenizer --its trunk--------/
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ncodec.models import weights
from ncodec.models.hyperprior import recipe as hyperprior
from ncodec.models.tokenizer.analysis import Analyser
from ncodec.models.tokenizer.diagnosis import diagnose
from ncodec.models.tokenizer.layers import check_tokenizer, layers
from ncodec.models.tokenizer.network import Tokenizer, nearest
from ncodec.models.tokenizer.quantise import from_integers, to_integers
from ncodec.models.tokenizer.stages import N_STAGES, STRIDE
from ncodec.models.tokenizer.stages import TokenizerConfig as Config
from ncodec.nn.tokens import fit
from ncodec.nn.training import Objective, ParameterGroups, TrainingOutput
from ncodec.nn.training import as_it_is as as_start
from ncodec.nn.training import no_lessons as lessons
from ncodec.quality import MAX_QUALITY_CODE

__all__ = [
    "CROP_STRIDE", "EFFORT", "OBJECTIVES", "Config", "as_start", "build", "diagnose", "estimate", "from_weights", "kmac_per_pixel",
    "lessons", "parameter_groups", "start", "to_weights",
]  # fmt: skip

CROP_STRIDE = STRIDE
EFFORT = None
LAMBDAS = tuple(0.00018 * 64 ** (k / 7) for k in range(8))
OBJECTIVES = {"ms-ssim": Objective(LAMBDAS, empty_bpp=0.01, ms_ssim=0.5)}
TRUNKS = {"fsq": "hyperprior-s", "bsq": "fsq-s", "vq": "fsq-s"}  # what training starts from
START_IMAGES = 400
CALIBRATION_IMAGES = 32
SLOW, FAST = 0.04, 3.0


def build(config: Config) -> Tokenizer:
    """Return a network with random weights."""
    return Tokenizer(config)


def start(config: Config, images: list[Tensor]) -> Tokenizer:
    """Return a network with the trunk of a shipped model, and stages that are principal components of what is left.

    Args:
        config: sizes, those of the trunk.
        images: uint8 [3, H, W].
    """
    network = Tokenizer(config)
    take_trunk(network, TRUNKS[config.quantiser])
    initialise_stages(network, images[:START_IMAGES])
    return network


@torch.no_grad()
def take_trunk(network: Tokenizer, name: str) -> None:
    """Give a network g_a and g_s of a shipped model: another tokenizer's, or those of `hyperprior-s` at quality 1."""
    tensors, about, _ = weights.read(weights.find_start(name))
    if about["family"] == "tokenizer":
        other = from_weights(tensors, about)
        network.g_a.load_state_dict(other.g_a.state_dict())
        network.g_s.load_state_dict(other.g_s.state_dict())
        return
    trunk = hyperprior.from_weights(tensors, about)
    for ours, theirs in ((network.g_a, trunk.g_a), (network.g_s, trunk.g_s)):
        state = {name: value for name, value in theirs.state_dict().items() if name != "gain"}
        ours.load_state_dict(state, strict=False)
    gain = trunk.g_a.gain[0]
    network.g_a.stem.weight *= gain[:, None, None, None]
    assert network.g_a.stem.bias is not None
    network.g_a.stem.bias *= gain
    network.g_s.gain.copy_(trunk.g_s.gain[:1].expand_as(network.g_s.gain))


@torch.no_grad()
def initialise_stages(network: Tokenizer, images: list[Tensor]) -> None:
    """Set E, D and codebooks: each stage takes the largest components, in pixels, of what those before leave.

    Args:
        network: with a trunk; changed in place.
        images: uint8 [3, H, W].
    """
    network.eval()
    rows = []
    for image in images:
        height, width = (side - side % STRIDE for side in image.shape[1:])
        x = image[None, :, :height, :width].float() / 255
        rows.append(network.g_a(x.contiguous(memory_format=torch.channels_last))[0].flatten(1).T)
    y = torch.cat(rows)
    network.centre.copy_(y.mean(0))
    left = y - network.centre  # [P, M]
    to_pixels = network.g_s.linear.weight[:, :, 0, 0].double()  # [768, M]
    power, basis = torch.linalg.eigh(to_pixels.T @ to_pixels)
    root = power.clamp_min(1e-6 * power.max()).sqrt()
    start = 0
    for s, size in enumerate(network.sizes):
        # Signs come one after the other, each of what those before leave.
        for size_ in [1] * size if network.config.quantiser == "bsq" else [size]:
            end = start + size_
            pixels = (
                left[:: 8 if size_ == 1 else 1].double() @ basis * root
            )  # |.|^2 is squared error in pixels
            variance, directions = torch.linalg.eigh(pixels.T @ pixels / len(pixels))
            std, directions = variance[-size_:].flip(0).sqrt(), directions[:, -size_:].flip(1)
            unit = _units(network, s, start, std)
            network.encode[start:end] = ((directions / unit).T * root @ basis.T).float()
            network.decode[:, start:end] = (basis / root @ (directions * unit)).float()
            u = left @ network.encode[start:end].T
            if network.config.quantiser == "vq":
                network.codebooks[s] = k_means(u, network.codebooks.shape[1])
            if network.config.quantiser == "bsq":
                c = torch.where(u > 0, 0.5, -0.5)
            else:
                c = network.quantise(u.T[None, :, :, None], s)[0][0, :, :, 0].T
            left -= c @ network.decode[:, start:end].T
            start = end
    network.train()


def _units(network: Tokenizer, stage: int, start: int, std: Tensor) -> Tensor:
    """Return what one step of u is, of components from value `start` on with standard deviations `std`."""
    if network.config.quantiser == "vq":
        return std.max().expand_as(std)
    if network.config.quantiser == "bsq":
        return 1.6 * std  # a sign is half of it either way: the means of a Gaussian's halves
    # High-rate optimum of lambda * 255**2 * step**2 / (12 * 3) - log2(step), if the levels reach.
    step = math.sqrt(6 / (LAMBDAS[stage] * 255**2 / 3 * math.log(2)))
    reach = network.reach[start : start + len(std)].clamp_max(4)
    return torch.maximum(torch.full_like(std, step), std / reach * 1.4)


def k_means(rows: Tensor, count: int, steps: int = 12) -> Tensor:
    """Return centres [count, d] of rows [P, d]; those that lose their rows start again from others."""
    rows = rows[torch.randperm(len(rows))[:60000]]
    centres = rows[torch.arange(count) % len(rows)]
    for _ in range(steps):
        of = nearest(rows.T[None, :, :, None], centres)[0, :, 0]
        n = torch.bincount(of, minlength=count)
        centres.zero_().index_add_(0, of, rows)
        centres /= n.clamp_min(1)[:, None]
        empty = (n == 0).nonzero().flatten()
        centres[empty] = rows[torch.randperm(max(len(rows), len(empty)))[: len(empty)] % len(rows)]
    return centres


def parameter_groups(network: Tokenizer) -> ParameterGroups:
    """Return the 1x1 convolutions of the trunk as matrices; and the others by how fast they learn; none that stay."""
    dense = {
        id(module.weight)
        for name, module in network.named_modules()
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1) and name.startswith("g_")
    }
    matrices, slow, fast, rest = [], [], [], []
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if id(parameter) in dense:
            matrices.append(parameter)
        elif name.startswith(("g_a.linear", "g_s.linear")):
            slow.append(parameter)
        elif name.startswith(("prior", "codebooks")):
            fast.append(parameter)
        else:
            rest.append(parameter)
    return ParameterGroups([(1.0, matrices)], [(SLOW, slow), (FAST, fast), (1.0, rest)])


def estimate(network: Tokenizer, x: Tensor, q: Tensor) -> TrainingOutput:
    """Return reconstruction and rate, of whole stages as in the files of the exported network."""
    return network(x, q)


def without_transformer(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors but those of masked_recipe.py."""
    return {name: part for name, part in tensors.items() if not name.startswith("masked.")}


def from_weights(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> Tokenizer:
    """Return the float network that `to_weights` was given, as near as the integers tell; its rates are learned anew.

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
    """
    config = Config(**about["config"])
    tensors = without_transformer(tensors)
    check_tokenizer(tensors, config)
    return from_integers(tensors, config, about["fraction_bits"])


def to_weights(
    network: Tokenizer, images: list[Tensor]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the integers of specs/tokenizer.md, section 1, and what the file says beside them."""
    tensors, fraction_bits = to_integers(network, images[:CALIBRATION_IMAGES])
    tokens = grids_of_tokens(tensors, network.config, images)
    trees = {s: tensors[name] for s in range(N_STAGES) if (name := f"tokens.{s}.values") in tensors}
    tensors |= fit(network.config.stages, tokens, trees, network.config.B)
    return tensors, {"config": asdict(network.config), "fraction_bits": fraction_bits}


def grids_of_tokens(
    tensors: dict[str, NDArray[Any]], config: Config, images: list[Tensor]
) -> NDArray[np.int32]:
    """Return tokens [n, 8, h, w] of those images that have the commonest size."""
    common, _ = Counter(image.shape for image in images).most_common(1)[0]
    pictures = [image.permute(1, 2, 0).numpy() for image in images if image.shape == common]
    analyser = Analyser(tensors, config)
    return np.stack([analyser.tokens(picture, MAX_QUALITY_CODE) for picture in pictures])


def kmac_per_pixel(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> float:
    """Return thousands of multiply-accumulates that decoding takes per pixel of an image of whole 16x16 squares."""
    config = Config(**about["config"])
    total = 0.0
    for layer in layers(config):
        if layer.name.startswith("g_s."):
            at_eighth = layer.name.startswith(("g_s.blocks", "g_s.head"))
            total += math.prod(layer.shape) / (8 if at_eighth else STRIDE) ** 2
    for name, tensor in tensors.items():
        if name.startswith("tokens.") and name.endswith("hidden.weight"):
            total += tensor.size / STRIDE**2
    return total / 1000
