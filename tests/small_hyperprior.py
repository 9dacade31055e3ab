"""A small network of family hyperprior with random weights, as a weights file has it."""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ncodec.entropy import FrequencyTables
from ncodec.models.hyperprior.layers import HyperpriorConfig
from ncodec.models.hyperprior.network import Hyperprior
from ncodec.models.hyperprior.recipe import to_weights

SKIP_BELOW = 12


@cache
def small_network() -> Hyperprior:
    """Return a network whose table indexes are of all kinds, and whose layers all matter."""
    torch.manual_seed(0)
    c = HyperpriorConfig(N=8, M=8, Z=4, H=8, S=6, analysis_blocks=1, synthesis_blocks=1)
    model = Hyperprior(c)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and not parameter.any():
                parameter.normal_(std=0.02)
        model.h_s.hidden.weight.normal_()
        model.h_s.head.weight.normal_(std=0.02)
        model.index_offset.uniform_(0, 60)
    return model


@cache
def small_weights() -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return tensors and metadata; the tables are random, of five symbols a row."""
    tensors, about = to_weights(small_network(), [])
    rng = np.random.default_rng(0)
    for name, rows in (("r", 64), ("z", 8 * about["config"]["Z"])):
        tables = FrequencyTables.from_pmf(list(rng.random((rows, 5)) + 0.1))
        tensors[f"tables.{name}"] = tables.frequencies
    return tensors, {"name": "small", "family": "hyperprior"} | about | {"skip_below": SKIP_BELOW}
