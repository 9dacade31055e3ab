"""How `ncodec train` trains family `hyperprior`: start, parameter groups, weights file. A `training.recipe.Recipe`.

    images --PCA--> linear path, gains, indexes \\
                                                 network --training/loop.py--> network --> weights file
    weights file --> network, priors fitted ----//
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ncodec.entropy import FREQ_BITS, FrequencyTables
from ncodec.models.hyperprior.codec import HyperpriorCodec, Latents, make_codec
from ncodec.models.hyperprior.network import STRIDE, Hyperprior, HyperpriorConfig
from ncodec.nn.blocks import zero_
from ncodec.nn.exact import FRACTION_BITS, fixed_point
from ncodec.nn.priors import index_of_scale
from ncodec.quality import LAMBDAS

def initialise_linear_path(model: Hyperprior, basis: Tensor, std: Tensor) -> None:
    """Set the linear path to a block transform, and gains and scales to match it.

    Channel c of y is the coefficient divided by sqrt(std[c]), a half whitening that keeps all
    channels within a factor of ten or so.

    Args:
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


def trainable(tensors: dict[str, Tensor], about: dict[str, Any]) -> Hyperprior:
    """Return the float model that `to_tensors` was given, as near as the integers tell.

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
    """
    codec = from_tensors(tensors, about, "cpu")
    model = codec.model.requires_grad_(True).train()
    with torch.no_grad():
        for layer, name, input_bits in (
            (model.h_s.hidden, "hidden", 0),
            (model.h_s.head, "head", FRACTION_BITS),
        ):
            bits = int(tensors[f"exact.{name}.shift"]) + FRACTION_BITS - input_bits
            weight = tensors[f"exact.{name}.weight"].double() * 2.0**-bits
            layer.weight.copy_(weight.view_as(layer.weight))
            layer.bias.copy_(tensors[f"exact.{name}.bias"].double() * 2.0 ** -(bits + input_bits))
        model.index_offset.copy_(codec.index_offset.double() * 2.0**-FRACTION_BITS)
    model.prior_r.fit(tensors["tables.r"])
    model.prior_z.fit(tensors["tables.z"])
    return model


def to_tensors(
    model: Hyperprior, tables_r: FrequencyTables, tables_z: FrequencyTables
) -> dict[str, Tensor]:
    """Return everything a weights file holds: float16 convolutions, float32 tables, integers."""
    tensors = {}
    for name, parameter in model.state_dict().items():
        if not name.startswith(("h_s.", "prior_", "index_offset")):
            tensors[name] = parameter.half() if name.endswith("weight") else parameter.float()
    for name, bits in (("hidden", 0), ("head", FRACTION_BITS)):
        layer = getattr(model.h_s, name)
        for key, value in fixed_point(layer.weight, layer.bias, bits).items():
            tensors[f"exact.{name}.{key}"] = value
    offset = torch.round(model.index_offset.double() * 2**FRACTION_BITS)
    tensors["exact.index_offset"] = offset.to(torch.int32)
    tensors["tables.r"] = torch.from_numpy(tables_r.frequencies)
    tensors["tables.z"] = torch.from_numpy(tables_z.frequencies)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
