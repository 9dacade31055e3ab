"""Quantisation and its training proxies ("mixed", Minnen and Singh 2020, https://arxiv.org/abs/2007.08739).

The synthesis and the context see rounded values whose gradient passes straight through. The rate of y is
that of the rounded residuals: tables and indexes learn from the symbols that will be coded. Its gradient to
the residuals themselves, which rounding has none of, is that of the rate with additive uniform noise. (Noise
alone overstates the rate of nearly certain zeros, at quality 1 by half.) z sees noise only.
"""

import torch
from torch import Tensor


def round_ste(x: Tensor) -> Tensor:
    """Return `x` rounded to integers (half to even), with the gradient of the identity."""
    return x + (torch.round(x) - x).detach()


def with_gradient_of(value: Tensor, proxy: Tensor) -> Tensor:
    """Return `value` with its own gradient and that of `proxy`."""
    return value + (proxy - proxy.detach())


def uniform_noise(like: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Return noise in [-0.5, 0.5) shaped like a batch; image i's comes from generator i alone."""
    shape, device = like.shape[1:], like.device
    return torch.stack([torch.rand(shape, generator=g, device=device) for g in generators]) - 0.5


class _Bound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, low: float, high: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        ctx.low, ctx.high = low, high
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        # A descent step moves x against the gradient: stop only what would leave further.
        stays = ((x >= ctx.low) | (gradient < 0)) & ((x <= ctx.high) | (gradient > 0))
        return gradient * stays, None, None


def bound(x: Tensor, low: float, high: float) -> Tensor:
    """Return `x` clamped to [low, high]; outside, only gradients that lead back pass."""
    return _Bound.apply(x, low, high)  # type: ignore[no-untyped-call]
