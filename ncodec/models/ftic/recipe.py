"""How `ncodec train` trains family `ftic`: start, parameter groups, weights file. A `training.recipe.Recipe`.

hyperprior-s --all it has--> network, what is new silent --training/loop.py--> network --> weights file
images --PCA, for other sizes-----//
weights file --> network, priors fitted -----//
"""

from dataclasses import asdict
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from ncodec.models import weights
from ncodec.models.ftic.graphs import analysis
from ncodec.models.ftic.layers import FticConfig as Config
from ncodec.models.ftic.layers import all_fat, check_ftic, layers
from ncodec.models.ftic.network import Ftic
from ncodec.models.ftic.quantise import from_integers, to_integers
from ncodec.models.hyperprior import recipe as hyperprior
from ncodec.models.hyperprior.diagnosis import diagnose
from ncodec.models.hyperprior.recipe import (
    CROP_STRIDE,
    PCA_IMAGES,
    SLOW,
    block_pca,
    estimate,
    fit_priors,
    initialise_linear_path,
    kmac_of,
    tables_of,
)
from ncodec.nn import HEAD, STRIDE
from ncodec.nn.training import ParameterGroups
from ncodec.nn.training import as_it_is as as_start
from ncodec.nn.training import no_lessons as lessons
from ncodec.nn.windows import MODULATED, windows_of

__all__ = [
    "CROP_STRIDE", "EFFORT", "OBJECTIVES", "Config", "as_start", "build", "diagnose", "estimate", "from_weights", "kmac_per_pixel",
    "lessons", "parameter_groups", "start", "to_weights",
]  # fmt: skip

EFFORT = None
OBJECTIVES = hyperprior.OBJECTIVES
CALIBRATION_IMAGES, Z_IMAGES = 16, 192
TRUNK = "hyperprior-s"  # what training starts from
NEW = (".fat.", ".deep.", ".channels.")  # in names of parameters that hyperprior has not
OLD, FAST = (
    0.25,
    3.0,
)  # shares of the learning rate: of what is trained already; of biases, frequencies, tables and priors


def build(config: Config) -> Ftic:
    """Return a network with random weights."""
    return Ftic(config)


def start(config: Config, images: list[Tensor]) -> Ftic:
    """Return the network of `hyperprior-s`, with what is new in it silent; of other sizes, one that begins as hyperprior does: the PCA of images."""
    network = Ftic(config)
    tensors, about, _ = weights.read(weights.find_start(TRUNK))
    if has_trunk(config, about):
        trunk = hyperprior.from_weights(tensors, about)
        network.load_state_dict(trunk.state_dict(), strict=False)
    else:
        initialise_linear_path(network, *block_pca(images[:PCA_IMAGES], STRIDE, config.M))
    return network


def has_trunk(config: Config, about: dict[str, Any]) -> bool:
    """Say whether the trunk's weights, which say this of themselves, are of the config's sizes."""
    return bool(about["config"].items() <= asdict(config).items())


def parameter_groups(network: Ftic) -> ParameterGroups:
    """Return the 1x1 convolutions as matrices, and the others; what hyperprior-s knows already learns slowly."""
    old = OLD if has_trunk(network.config, weights.read(weights.find_start(TRUNK))[1]) else 1.0
    dense = {
        id(module.weight)
        for module in network.modules()
        if type(module) is nn.Conv2d and module.kernel_size == (1, 1)
    }
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        is_matrix = id(parameter) in dense
        share = old
        if any(part in f".{name}" for part in NEW):
            share = FAST if name.endswith(("attention.bias", "modulation.weight")) else 1.0
        elif name.startswith(("g_a.linear", "g_s.linear")):
            share = SLOW * old
        elif name.startswith(("log_", "index_offset", "prior_")):
            share = FAST * old
        groups.setdefault((is_matrix, share), []).append(parameter)
    matrices, others = (
        [(share, group) for (is_matrix, share), group in groups.items() if is_matrix == wanted]
        for wanted in (True, False)
    )
    return ParameterGroups(matrices, others)


def from_weights(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> Ftic:
    """Return the float network that `to_weights` was given, as near as the integers tell.

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
    """
    config = Config(**about["config"])
    check_ftic(tensors, config)
    model = from_integers(tensors, config, about["fraction_bits"])
    fit_priors(model, tensors)
    return model


def to_weights(
    network: Ftic, images: list[Tensor]
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the integers of specs/ftic.md, section 1, and what the file says beside them."""
    tensors, fraction_bits = to_integers(network, images[:CALIBRATION_IMAGES])
    tensors |= tables_of(network, analysis(tensors, network.config), images[:Z_IMAGES])
    about = {
        "config": asdict(network.config),
        "skip_below": network.prior_r.rows_that_skip(),
        "fraction_bits": fraction_bits,
    }
    return tensors, about


def kmac_per_pixel(tensors: dict[str, NDArray[Any]], about: dict[str, Any]) -> float:
    """Return thousands of multiply-accumulates that decoding takes per pixel of an image of whole windows."""
    c = Config(**about["config"])
    total = 1000 * kmac_of(layers(c), c)
    for fat in all_fat(c):
        if fat.name.startswith("g_s."):
            places = [a * b for a, b, _, _ in windows_of(fat.width // HEAD, fat.is_moved)]
            own = 2 * HEAD * sum(places) + 4 * MODULATED * fat.width  # scores and values; cosines
            total += own / (16 if ".deep." in fat.name else 8) ** 2
    slices = c.context_steps * (c.context_steps + 1) // 2  # that slices attend to
    total += 2 * slices * c.layers * c.H * HEAD / 16**2
    return total / 1000
