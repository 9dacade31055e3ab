"""Checkpoints as CompressAI writes them, with small random weights."""

import numpy as np
import torch
from torch import Tensor

from ncodec.models.compressai import Network

N, M = 8, 12
GAINS = {
    "g_a.6.weight": 2.0,
    "h_a.4.weight": 1.2,
    "g_s.6.weight": 0.2,
}  # y and z of some steps, x_hat within 0 to 1


def random_state(name: str) -> dict[str, Tensor]:
    """Return a state dict under today's names, the same everywhere: every tensor matters, symbols are of all sizes."""
    rng = np.random.default_rng(0)
    state = {}
    for key, tensor in sorted(Network(name, N, M).state_dict().items()):
        v = rng.standard_normal(tensor.shape)
        if key.endswith(".beta"):
            v = 1 + 0.2 * v
        elif key.endswith(".gamma"):  # some below 0: the bound
            v = 0.2 * v
        elif ".matrices." in key:
            v = 0.4 * v - 1.2  # as wide as y and z
        elif key.endswith("weight"):
            v = v * GAINS.get(key, 0.8 if "_s." in key else 2.5) / np.sqrt(tensor[0].numel())
        elif key == "g_s.6.bias":
            v = 0.5 + 0.1 * v
        elif key == "h_s.4.bias":
            v[:M] += 8.0
        state[key] = torch.from_numpy(v).float()
    return state
