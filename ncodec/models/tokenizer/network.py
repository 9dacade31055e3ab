"""The trainable network of family `tokenizer`: residual stages of tokens around one transform.

    x --g_a--> y --E--> v --> stage 1 --> c_1 --+--> stage 2 --> c_2 --+-- ...      u_s = v_s - E_s D (c_1 ... c_{s-1})
                                                |                      |            c_s = quantised u_s
    x_hat <--g_s-- y_hat = D c <----------------+----------------------+-- ...

A stage is a token a place: FSQ digits (https://arxiv.org/abs/2309.15505), BSQ signs on the sphere
(https://arxiv.org/abs/2406.07548), each of what the signs before it leave, or a VQ index. E and D are linear, so are the stages' corrections of each other
(residual quantisation): what ships has them folded into the layers around them (quantise.py). A picture at quality q
is made of floor(q) stages and a part of the next; what is missing is 0.

The trunk is that of family `hyperprior`, with more blocks at 1/16; its rates while it learns are those of a
small network of each token's neighbours, like that of the coder (entropy/tokens.hpp).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, logsigmoid, pixel_shuffle, pixel_unshuffle

from ncodec.models.tokenizer.stages import BLOCK_DIMENSION, STRIDE, TokenizerConfig
from ncodec.nn.blocks import LinearPath, depth_conv_blocks, zero_
from ncodec.nn.gain import at_quality
from ncodec.nn.quantize import uniform_noise, with_gradient_of
from ncodec.nn.training import TrainingOutput
from ncodec.quality import N_QUALITIES

ROOM = 0.45  # of a step, beyond the outermost level, where u saturates
LEAST_LIKELIHOOD = 2.0**-12
PRIOR_WIDTH = 48  # hidden units a stage of the rates in training
COMMITMENT = 0.1  # of (u - code)^2, beside bits a pixel
REVIVED_BELOW = 0.03  # of its fair share: a code that is used less is moved


class Analysis(nn.Module):
    """g_a: x [B, 3, H, W] -> y [B, M, H/16, W/16]."""

    def __init__(self, c: TokenizerConfig) -> None:
        super().__init__()
        self.linear = LinearPath(BLOCK_DIMENSION, c.M, 1)
        self.stem = nn.Conv2d(3 * 64, c.N, 1)
        self.blocks = depth_conv_blocks(c.N, c.analysis_blocks)
        self.head = zero_(nn.Conv2d(4 * c.N, c.M, 1))
        self.down = nn.Conv2d(4 * c.N, c.H, 1)
        self.deep = depth_conv_blocks(c.H, c.deep_blocks)
        self.deep_head = zero_(nn.Conv2d(c.H, c.M, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x - 0.5
        f = self.blocks(self.stem(pixel_unshuffle(x, 8)))  # [B, N, H/8, W/8]
        f = pixel_unshuffle(f, 2)
        y = self.linear(pixel_unshuffle(x, STRIDE)) + self.head(f)
        return (y + self.deep_head(self.deep(self.down(f)))).float()


class Synthesis(nn.Module):
    """g_s: y_hat [B, M, H/16, W/16] -> x_hat [B, 3, H, W]."""

    def __init__(self, c: TokenizerConfig) -> None:
        super().__init__()
        self.linear = LinearPath(c.M, BLOCK_DIMENSION, 1)
        self.stem = nn.Conv2d(c.M, 4 * c.N, 1)
        self.deep_stem = nn.Conv2d(c.M, c.H, 1)
        self.deep_gain = nn.Parameter(torch.ones(N_QUALITIES, c.H))
        self.deep = depth_conv_blocks(c.H, c.deep_blocks)
        self.up = zero_(nn.Conv2d(c.H, 4 * c.N, 1))
        self.gain = nn.Parameter(torch.ones(N_QUALITIES, c.N))
        self.blocks = depth_conv_blocks(c.N, c.synthesis_blocks)
        self.head = zero_(nn.Conv2d(c.N, 3 * 64, 1))

    def forward(self, y_hat: Tensor, q: Tensor) -> Tensor:
        deep = self.deep(self.deep_stem(y_hat) * at_quality(self.deep_gain, q))  # [B, H, h, w]
        f = pixel_shuffle(self.stem(y_hat) + self.up(deep), 2) * at_quality(self.gain, q)
        f = self.head(self.blocks(f))  # [B, N, 2h, 2w]
        x_hat = pixel_shuffle(self.linear(y_hat), STRIDE)  # [B, 3, H, W]
        return (x_hat + pixel_shuffle(f, 8) + 0.5).float()


class Prior(nn.Module):
    """Values c [B, D, h, w] -> what is expected of each from its neighbours [B, 2, D, h, w].

    Of its own stage a value knows those to the left and above, and those before it in its token; of coarser
    stages all at the 3x3 places around.
    """

    hidden_mask: Tensor
    own_mask: Tensor

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__()
        D, S = sum(sizes), len(sizes)
        self.sizes, self.width = sizes, width
        self.hidden = nn.Conv2d(D, S * width, 3, padding=1)
        self.heads = nn.ModuleList([zero_(nn.Conv2d(width, 2 * size, 1)) for size in sizes])
        self.own = nn.Parameter(torch.zeros(D, D))
        self.scale = nn.Parameter(torch.zeros(D))
        mask, own = torch.zeros(S * width, D, 3, 3), torch.zeros(D, D)
        start = 0
        for s, size in enumerate(sizes):
            of_stage = slice(s * width, (s + 1) * width)
            mask[of_stage, :start] = 1
            mask[of_stage, start : start + size, 0] = 1
            mask[of_stage, start : start + size, 1, 0] = 1
            own[start : start + size, start : start + size] = 1
            start += size
        self.register_buffer("hidden_mask", mask, persistent=False)
        self.register_buffer("own_mask", own.tril(-1), persistent=False)

    def forward(self, c: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(c.device.type, enabled=False):
            f = conv2d(c, self.hidden.weight * self.hidden_mask, self.hidden.bias, padding=1)
            parts = f.relu().split(self.width, 1)  # type: ignore[no-untyped-call]
            out = [head(part) for head, part in zip(self.heads, parts, strict=True)]
            mean = torch.cat([part[:, : part.shape[1] // 2] for part in out], 1)
            scale = torch.cat([part[:, part.shape[1] // 2 :] for part in out], 1)
            mean = mean + conv2d(c, (self.own * self.own_mask)[:, :, None, None])
            return mean, scale + self.scale[None, :, None, None]


class Tokenizer(nn.Module):
    """The trainable model, all float. See codec.py for what encodes and decodes."""

    reach: Tensor
    used: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        c = self.config = config
        self.sizes = [stage.n_values for stage in c.stages]
        D = sum(self.sizes)
        self.g_a = Analysis(c)
        self.g_s = Synthesis(c)
        self.encode = nn.Parameter(torch.zeros(D, c.M))  # E
        self.decode = nn.Parameter(torch.zeros(c.M, D))  # D
        self.centre = nn.Parameter(torch.zeros(c.M))  # of y
        if c.quantiser == "vq":
            codes, channels = c.stages[0].size, c.stages[0].channels
            self.codebooks = nn.Parameter(torch.randn(len(c.stages), codes, channels))
            self.register_buffer("used", torch.ones(len(c.stages), codes))  # share · codes
            # Codes follow the vectors; vectors that follow codes as well ran away.
            self.g_a.requires_grad_(False)
            self.encode.requires_grad_(False)
            self.centre.requires_grad_(False)
        else:
            self.prior = Prior(self.sizes, PRIOR_WIDTH)
            half = [(level - 1) / 2 for stage in c.stages for level in stage.levels]
            self.register_buffer("reach", torch.tensor(half), persistent=False)

    def quantise(self, u: Tensor, stage: int) -> tuple[Tensor, Tensor]:
        """Return the values of a stage, with gradients, and u within their bounds. u [B, D_s, h, w]."""
        start = sum(self.sizes[:stage])
        if self.config.quantiser == "vq":
            u = u.detach()
            code = nearest(u, self.codebooks[stage])
            values = self.codebooks[stage].T[:, code].transpose(0, 1)
            if self.training and torch.is_grad_enabled():
                self._count(u, code, stage)
            return values, values
        half = self.reach[start : start + self.sizes[stage], None, None]
        if self.config.quantiser == "bsq":
            on_sphere = u * (u.square().mean(1, keepdim=True) + 1e-6).rsqrt()
            signs = torch.where(u > 0, 0.5, -0.5)
            return on_sphere / 2 + (signs - on_sphere / 2).detach(), on_sphere / 2
        bounded = (half + ROOM) * torch.tanh(u / (half + ROOM))
        level = (bounded + half).round() - half
        return bounded + (level - bounded).detach(), bounded

    @torch.no_grad()
    def _count(self, u: Tensor, code: Tensor, stage: int) -> None:
        """Keep how much each code is used; move those that hardly are to vectors of this batch."""
        n = self.codebooks.shape[1]
        share = torch.bincount(code.flatten(), minlength=n) * (n / code.numel())
        self.used[stage].lerp_(share, 0.01)
        dead = (self.used[stage] < REVIVED_BELOW).nonzero().flatten()
        if len(dead):
            rows = u.permute(0, 2, 3, 1).flatten(0, 2)
            dead = dead[torch.randperm(len(dead), device=u.device)[: len(rows) // 8]]
            self.codebooks.data[stage, dead] = rows[
                torch.randperm(len(rows), device=u.device)[: len(dead)]
            ]
            self.used[stage, dead] = 1.0

    def coded(self, q: Tensor) -> Tensor:
        """Return which values there are at qualities [B], [B, D, 1, 1] of 0 and 1."""
        rows, tree = [], self.config.quantiser == "vq"
        for s, size in enumerate(self.sizes):
            part = (q - 1 - (s - 1)).clamp(0, 1) if s else torch.ones_like(q)
            units = torch.arange(size, device=q.device)
            present = (part[:, None] * (1 if tree else size) - 1e-4).ceil() > units * (not tree)
            rows.append(present & (part[:, None] >= 1) if tree else present)
        return torch.cat(rows, 1)[:, :, None, None].float()

    def values(self, y: Tensor, coded: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values c, bounded u and u [B, D, h, w] of y [B, M, h, w]; 0 where not coded."""
        v = conv2d(y - self.centre[:, None, None], self.encode[:, :, None, None])
        fed = self.encode @ self.decode  # [D, D]
        values: list[Tensor] = []
        bounded, inputs = [], []
        start = 0
        for s, size in enumerate(self.sizes):
            u = v[:, start : start + size]
            if s:
                before = torch.cat(values, 1)
                u = u - conv2d(before, fed[start : start + size, :start, None, None])
            if self.config.quantiser == "bsq":
                u = after_signs(u, fed[start : start + size, start : start + size])
            c, b = self.quantise(u, s)
            values.append(c * coded[:, start : start + size])
            bounded.append(b)
            inputs.append(u)
            start += size
        return torch.cat(values, 1), torch.cat(bounded, 1), torch.cat(inputs, 1)

    def forward(
        self,
        x: Tensor,
        q: Tensor,
        noise: list[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> TrainingOutput:
        """Return reconstruction and rate of images [B, 3, H, W], sides multiples of 16, at qualities [B] in [1, 8]."""
        coded = self.coded(q)
        y = self.g_a(x)
        with torch.autocast(x.device.type, enabled=False):
            c, bounded, u = self.values(y, coded)
            y_hat = conv2d(c, self.decode[:, :, None, None], self.centre)
            bits, penalty = self._cost(c, bounded, u, coded, noise)
        return TrainingOutput(self.g_s(y_hat, q), {"tokens": bits}, penalty)

    def _cost(
        self,
        c: Tensor,
        bounded: Tensor,
        u: Tensor,
        coded: Tensor,
        noise: list[torch.Generator] | None,
    ) -> tuple[Tensor, Tensor]:
        """Return bits and penalty [B] of an image."""
        if self.config.quantiser == "vq":
            size = self.sizes[0]
            bits = coded[:, ::size].sum((1, 2, 3)) * self.config.stages[0].bits * c[0, 0].numel()
            codes = bounded  # with the codebook's gradient
            distance = (u.detach() - codes).square() * coded
            return bits, COMMITMENT * distance.mean((1, 2, 3))
        mean, log_scale = self.prior(c)
        if self.config.quantiser == "bsq":
            p = torch.sigmoid(3 * 2 * bounded)  # of 1, as the sign's gradient sees it
            hard = -logsigmoid(4 * c.detach() * mean)
            soft = -p * logsigmoid(2 * mean.detach()) - (1 - p) * logsigmoid(-2 * mean.detach())
            each = (hard if noise is None else with_gradient_of(hard, soft)) / math.log(2)
        else:
            hard = self._likelihood(c.detach(), mean, log_scale)
            if noise is None:
                each = -hard.log2()
            else:
                soft = self._likelihood(
                    bounded + uniform_noise(bounded, noise), mean.detach(), log_scale.detach()
                )
                each = with_gradient_of(-hard.log2(), -soft.log2())
        return (each * coded).sum((1, 2, 3)), torch.zeros(len(c), device=c.device)

    def _likelihood(self, value: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """Return the logistic's mass within half a step of a value; the outermost levels have the tails."""
        half = self.reach[:, None, None]
        narrow = torch.exp(-log_scale.clamp(-4, 3))
        above = torch.where(value + 0.5 > half, 100.0, (value + 0.5 - mean) * narrow)
        below = torch.where(value - 0.5 < -half, -100.0, (value - 0.5 - mean) * narrow)
        sign = torch.where(above + below > 0, -1.0, 1.0)  # the tail that is not near 1
        p = (torch.sigmoid(sign * above) - torch.sigmoid(sign * below)).abs()
        return p.clamp_min(LEAST_LIKELIHOOD)


def after_signs(u: Tensor, fed: Tensor) -> Tensor:
    """Return what each of a stage's values u [B, D_s, h, w] is when the signs before it are known; `fed` [D_s, D_s]."""
    left = [u[:, :1]]
    for k in range(1, u.shape[1]):
        signs = torch.where(torch.cat(left, 1).detach() > 0, 0.5, -0.5)
        left.append(u[:, k : k + 1] - conv2d(signs, fed[k : k + 1, :k, None, None]))
    return torch.cat(left, 1)


def nearest(u: Tensor, codebook: Tensor) -> Tensor:
    """Return the nearest codes [B, h, w] of u [B, d, h, w] in a codebook [K, d]."""
    rows = u.detach().permute(0, 2, 3, 1)
    return (codebook.square().sum(1) - 2 * rows @ codebook.T).argmin(-1)
