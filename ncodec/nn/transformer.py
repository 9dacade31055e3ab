"""The layer of the transformers: attention and a network of each place, pre-norm (https://arxiv.org/abs/2002.04745)."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ncodec.nn import HEAD

SLOPE = 0.1  # of leaky ReLU
LEAST = 1e-6  # mean square


def norm(x: Tensor) -> Tensor:
    """Return x [..., d], each place over its root mean square."""
    return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + LEAST)


class TransformerLayer(nn.Module):
    """Attention and a feed-forward network, both added; starts as the identity. Heads have HEAD channels."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        for layer in (self.o, self.down):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, kept: Tensor, mask: Tensor | None) -> Tensor:
        """Return x [B, n, width] that has attended to `kept` [B, t, width]; `mask` [n, t] is 0 or -inf."""

        def heads(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], -1, HEAD).transpose(1, 2)  # [B, heads, n, HEAD]

        seen = norm(kept)
        q, k, v = heads(self.q(norm(x))), heads(self.k(seen)), heads(self.v(seen))
        score = (q @ k.mT).float() / math.sqrt(HEAD)
        share = (score if mask is None else score + mask).softmax(-1)
        x = x + self.o((share.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return x + self.down(leaky_relu(self.up(norm(x)), SLOPE))
