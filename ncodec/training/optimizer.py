"""One optimiser of two: Muon for matrices, AdamW for all else; and how the learning rate rises and falls."""

import math
from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import nn

from ncodec.nn.training import ParameterGroups

WARM_UP_STEPS = 300
FINAL_RATE = 0.01  # of the learning rate, at the end of the cosine


def learning_rate_factor(steps_done: int, progress: float) -> float:
    """Return the share of the learning rate: warm-up, then a cosine over the budget."""
    cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return cosine * min(1.0, (steps_done + 1) / WARM_UP_STEPS)


class Muon:
    """Muon (https://kellerjordan.github.io/posts/muon) for the matrices, AdamW for all else.

    A matrix's steps follow the orthogonalised momentum, scaled to the size of AdamW's
    (https://arxiv.org/abs/2502.16982), so that one learning rate serves both.
    """

    def __init__(self, parameters: ParameterGroups, learning_rate: float) -> None:
        self._weights = [weight for _, group in parameters.matrices for weight in group]
        # torch.optim.Muon takes matrices: views [out, in] of the weights [out, in, 1, 1].
        self._matrices = [nn.Parameter(w.data.view(w.shape[:2])) for w in self._weights]
        rest = iter(self._matrices)

        def groups(found: Iterable[tuple[float, Iterable[nn.Parameter]]]) -> list[dict[str, Any]]:
            return [
                {"params": list(group), "lr": learning_rate * factor, "factor": factor}
                for factor, group in found
            ]

        matrices = groups((factor, islice(rest, len(own))) for factor, own in parameters.matrices)
        # No decay: models this small do not overfit.
        self._adamw = torch.optim.AdamW(
            groups(parameters.others), betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self._muon = torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")

    def step(self, learning_rate: float) -> None:
        """Take one step along the gradients of the network's parameters."""
        for group in self._adamw.param_groups + self._muon.param_groups:
            group["lr"] = learning_rate * group["factor"]
        for matrix, weight in zip(self._matrices, self._weights, strict=True):
            grad = weight.grad  # None: no sample of this step has a part for it
            matrix.grad = None if grad is None else grad.view(weight.shape[:2])
        self._adamw.step()
        self._muon.step()  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"adamw": self._adamw.state_dict(), "muon": self._muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self._adamw.load_state_dict(state["adamw"])
        self._muon.load_state_dict(state["muon"])
