"""How `ncodec train` trains family `hyperprior`: start, parameter groups, weights file. A `training.recipe.Recipe`.

    images --PCA--> linear path, gains, indexes \\
                                                 network --training/loop.py--> network --> weights file
    weights file --> network, priors fitted ----//
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pixel_unshuffle

from ncodec.exact.network import Layer, Network, image_input
from ncodec.models.hyperprior.diagnosis import diagnose
from ncodec.models.hyperprior.graphs import analysis, vectors
from ncodec.models.hyperprior.layers import Z_STRIDE, check_hyperprior, layers
from ncodec.models.hyperprior.layers import HyperpriorConfig as Config
from ncodec.models.hyperprior.network import Hyperprior
from ncodec.models.hyperprior.quantise import from_integers, to_integers
from ncodec.nn import STRIDE
from ncodec.nn.blocks import zero_
from ncodec.nn.neighbours import fit
from ncodec.nn.priors import frequencies_of, index_of_scale
from ncodec.nn.training import VISUAL, Objective, ParameterGroups, TrainingOutput
from ncodec.nn.training import as_it_is as as_start
from ncodec.nn.training import no_lessons as lessons
from ncodec.quality import LAMBDAS, N_QUALITIES, QUALITY_STEPS

__all__ = [
    "CROP_STRIDE", "EFFORT", "OBJECTIVES", "Config", "as_start", "build", "diagnose", "estimate", "from_weights", "kmac_per_pixel",
    "lessons", "parameter_groups", "start", "to_weights",
]  # fmt: skip

CROP_STRIDE = STRIDE * Z_STRIDE  # pixels per latent of z
EFFORT = None
OBJECTIVES = {"psnr": Objective(), "visual": VISUAL}
PCA_IMAGES = 4096
BLOCKS_AN_IMAGE = 64
# The linear path starts nearly right and learns slowly; tables of 8 rows and priors learn fast.
SLOW, FAST = 0.04, 3.0
CALIBRATION_IMAGES = 32
DECODER_STRIDES = {  # pixels per result of a layer, by the start of its name; the encoder's are absent
    "h_s.": 32, "h_m.": 32, "context.": 16, "g_s.linear": 16, "g_s.stem": 16, "g_s.deep.": 16, "g_s.": 8,
}  # fmt: skip


def build(config: Config) -> Hyperprior:
    """Return a network with random weights."""
    return Hyperprior(config)


def start(config: Config, images: list[Tensor]) -> Hyperprior:
    """Return a network with random weights, but the linear path at the PCA of the images [3, H, W] uint8."""
    model = Hyperprior(config)
    initialise_linear_path(model, *block_pca(images[:PCA_IMAGES], STRIDE, config.M))
    return model


def block_pca(
    images: list[Tensor], block: int, components: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Return the principal components of image blocks and their root mean squares.

    Args:
        images: uint8 [3, H, W].
        block: side of the blocks (pixels).
        components: how many to keep, the largest first.

    Returns:
        basis [components, 3·block²], orthonormal rows in the order of `pixel_unshuffle`; std [components].
    """
    rng = np.random.default_rng(seed)
    moments = torch.zeros(3 * block**2, 3 * block**2, dtype=torch.float64)
    n_blocks = 0
    for image in images:
        height, width = (side - side % block for side in image.shape[1:])
        rows = pixel_unshuffle(image[:, :height, :width].float() / 255 - 0.5, block).flatten(1).T
        rows = rows[torch.from_numpy(rng.permutation(len(rows))[:BLOCKS_AN_IMAGE])]
        moments += (rows.T @ rows).double()
        n_blocks += len(rows)
    power, vectors = torch.linalg.eigh(moments / n_blocks)
    order = power.argsort(descending=True)[:components]
    return vectors[:, order].T.float(), power[order].clamp_min(1e-12).sqrt().float()


def initialise_linear_path(model: Any, basis: Tensor, std: Tensor) -> None:
    """Set the linear path to a block transform, and gains and scales to match it.

    Channel c of y is the coefficient divided by sqrt(std[c]), a half whitening that keeps all
    channels within a factor of ten or so.

    Args:
        model: a network with latents y and z, changed in place.
        basis: [M, 768] orthonormal rows, for `pixel_unshuffle(x - 0.5, 16)`.
        std: [M] root mean square of each coefficient.
    """
    root = std.sqrt()
    # High-rate optimum of lambda * 255**2 * step**2 / (12 * 3) - log2(step) per coefficient.
    step = (6 / (torch.tensor(LAMBDAS) * 255**2 / 3 * 0.6931)).sqrt()  # [8]
    zero_(model.g_a.linear)
    zero_(model.g_s.linear)
    with torch.no_grad():
        model.g_a.linear.weight.copy_((basis / root[:, None])[:, :, None, None])
        model.g_s.linear.weight.copy_((basis * root[:, None]).T[:, :, None, None])
        model.log_gain.copy_((root[None] / step[:, None]).log())
        model.index_offset.copy_(index_of_scale(0.7 * std[None] / step[:, None]).clamp(min=0))


def parameter_groups(network: Hyperprior) -> ParameterGroups:
    """Return the 1x1 convolutions, three quarters of the weights, as matrices; and the others by how fast they learn."""
    dense = {
        id(module.weight)
        for module in network.modules()
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1)
    }
    matrices, slow, fast, rest = [], [], [], []
    for name, parameter in network.named_parameters():
        if id(parameter) in dense:
            matrices.append(parameter)
        elif name.startswith(("g_a.linear", "g_s.linear")):
            slow.append(parameter)
        elif name.startswith(("log_", "index_offset", "prior_")):
            fast.append(parameter)
        else:
            rest.append(parameter)
    return ParameterGroups([(1.0, matrices)], [(SLOW, slow), (FAST, fast), (1.0, rest)])


def estimate(network: Hyperprior, x: Tensor, q: Tensor) -> TrainingOutput:
    """Return reconstruction and rate as in the files of the exported network."""
    return network.estimate(x, q)


def from_weights(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> Hyperprior:
    """Return the float network that `to_weights` was given, as near as the integers tell.

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
    """
    config = Config(**about["config"])
    check_hyperprior(tensors, config)
    model = from_integers(tensors, config, about["fraction_bits"])
    fit_priors(model, tensors)
    return model


def fit_priors(model: Any, tensors: dict[str, NDArray[Any]]) -> None:
    """Give a network with latents y and z the densities of its weights file's tables."""
    model.prior_r.fit(torch.from_numpy(tensors["tables.r"]))
    model.prior_z.fit(torch.from_numpy(tensors["tables.z_alone"]))


def to_weights(
    network: Hyperprior, images: list[Tensor]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the integers of specs/hyperprior.md, section 1, and what the file says beside them."""
    tensors, fraction_bits = to_integers(network, images[:CALIBRATION_IMAGES])
    tensors |= tables_of(network, analysis(tensors, network.config), images)
    about = {
        "config": asdict(network.config),
        "skip_below": network.prior_r.rows_that_skip(),
        "fraction_bits": fraction_bits,
    }
    return tensors, about


def tables_of(network: Any, analysis: Network, images: list[Tensor]) -> dict[str, NDArray[Any]]:
    """Return tables and the network of z's neighbours, of a float network with latents y and z.

    Args:
        network: with priors.
        analysis: its integers, which make z.
        images: some that it was trained on.
    """
    neighbours = fit(grids_of_z(analysis, images), network.config.B)
    tensors = {f"neighbours.{name}": array for name, array in neighbours.to_arrays().items()}
    tensors["tables.z"] = neighbours.tables().frequencies
    for name, prior in (("r", network.prior_r), ("z_alone", network.prior_z)):
        tensors[f"tables.{name}"] = frequencies_of(prior)
    return tensors


def grids_of_z(analysis: Network, images: list[Tensor]) -> dict[int, NDArray[np.int8]]:
    """Return z [n, h, w, Z] of those images that have the commonest size, by quality code, half qualities too."""
    common, _ = Counter(image.shape for image in images).most_common(1)[0]
    inputs = [
        image_input(image.permute(1, 2, 0).numpy()) for image in images if image.shape == common
    ]
    grids = {}
    for code in range(0, QUALITY_STEPS * (N_QUALITIES - 1) + 1, QUALITY_STEPS // 2):
        known = vectors(analysis.tensors, code)
        tiles = [analysis.run({"x": x} | known, ("z",), 1)[0] for x in inputs]
        grids[code] = np.stack(tiles).astype(np.int8)
    return grids


def kmac_per_pixel(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> float:
    """Return thousands of multiply-accumulates that decoding takes per pixel of an image of whole 32x32 squares."""
    config = Config(**about["config"])
    return kmac_of(layers(config), config)


def kmac_of(layers: Iterable[Layer], c: Config) -> float:
    """Return what z's neighbours and those of the layers that decode take."""
    total = (6 * c.B + 4) * c.Z / CROP_STRIDE**2  # hidden, head, own
    for layer in layers:
        for start, stride in DECODER_STRIDES.items():
            if layer.name.startswith(start):
                total += math.prod(layer.shape) / stride**2
                break
    return total / 1000
