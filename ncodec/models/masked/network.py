"""The trainable network of family `masked`: the trunk of hyperprior, and a masked transformer as entropy model.

    x --g_a--> y ----------- r = round((y - mean) * gain) --> [rANS] --> r --> y_hat --g_s--> x_hat
                                         ^                                      |
                    mean, table row      |          what is decoded so far      |
               heads <-- layers <-- mask tokens  <-- keys, values <-- layers <--+

After M2T (https://arxiv.org/abs/2304.07313): windows of 16x16 latents are decoded in groups of a fixed schedule
(schedule.py). A latent is a token twice: as a mask, which asks what to expect, and, once decoded, as content, which
masks of later groups attend to. Contents attend to contents of their own and earlier groups alone, so that
their keys and values are kept: every token passes once, and one pass trains all groups ("m2t"). With passes="mt" (MT)
all tokens of a window pass in each step, and attend to each other whatever they are.

Beyond the paper: an embedding of the 5x5 latents around, across windows; channels are decoded in slices, from the dearest
on, each knowing those before at its place; and a residual's mean is subtracted before rounding, as in hyperprior.
All of it is float here; files are made by its integers (quantise.py, graphs.py).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad

from ncodec.models.masked.layers import HEAD, INDEX_UNIT, NEAR, MaskedConfig
from ncodec.models.masked.schedule import PLACES, WINDOW, groups
from ncodec.nn import N_SCALES
from ncodec.nn.gain import at_quality
from ncodec.nn.priors import ScaleMixture
from ncodec.nn.quantize import bound, uniform_noise, with_gradient_of
from ncodec.nn.trunk import Analysis, Synthesis
from ncodec.quality import N_QUALITIES

REACH = NEAR // 2
NORM_LEAST = 1e-6
ESCAPE_LIKELIHOOD = 2.0**-20  # as in hyperprior


class Coded(NamedTuple):
    """What coding latents of windows takes, [B, PLACES, M] each, places in the order of `groups`."""

    bits: Tensor
    error: Tensor  # (y - y_hat) in latent steps
    y_hat: Tensor


def norm(x: Tensor) -> Tensor:
    """Return x over its root mean square."""
    return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + NORM_LEAST)


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward network; starts as the identity."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        for layer in (self.o, self.down):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, kept: Tensor, mask: Tensor) -> Tensor:
        """Return x [B, n, D] that has attended to `kept` [B, t, D]; `mask` [B, 1, n, t] is 0 or -inf."""

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (-1, HEAD)).transpose(1, 2)  # [B, heads, n, HEAD]

        seen = norm(kept)
        q, k, v = heads(self.q(norm(x))), heads(self.k(seen)), heads(self.v(seen))
        score = (q @ k.mT).float() / math.sqrt(HEAD)
        share = (score + mask).softmax(-1)
        x = x + self.o((share.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return x + self.down(leaky_relu(self.up(norm(x)), 0.1))


class Head(nn.Module):
    """A slice of channels: what the layers say and the slices before at the same place -> means, table rows."""

    def __init__(self, c: MaskedConfig, a: int) -> None:
        super().__init__()
        before = c.slice(a).start
        self.f = nn.Linear(c.D, c.H)
        self.own = nn.Linear(2 * before, c.H) if before else None
        self.out = nn.Linear(c.H, 2 * c.slices[a])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, f: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.f(f)
        if self.own is not None:
            hidden = hidden + self.own(torch.cat([before, before.abs()], -1))
        mean, index = self.out(leaky_relu(hidden, 0.1)).float().chunk(2, -1)
        return mean, INDEX_UNIT * index


class Masked(nn.Module):
    """The trainable model, all float. See codec.py for what encodes and decodes."""

    group: Tensor
    by_group: Tensor
    sooner: Tensor
    no_later: Tensor

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        c = self.config = config
        self.g_a = Analysis(c.N, c.M, c.analysis_blocks)
        self.g_s = Synthesis(c.N, c.M, c.synthesis_blocks)
        self.content = nn.Linear(2 * c.M, c.D)
        self.near = nn.Parameter(0.2 * torch.randn(c.steps, NEAR**2, c.D))
        self.linear = nn.Parameter(torch.zeros(c.steps, NEAR**2, c.M))  # of y_hat, to the mean
        self.unknown_places = nn.Parameter(0.02 * torch.randn(PLACES, c.D))
        self.known_places = nn.Parameter(0.02 * torch.randn(PLACES, c.D))
        self.mode = nn.Parameter(torch.zeros(N_QUALITIES, c.D))
        self.step = nn.Parameter(0.02 * torch.randn(c.steps, c.D))
        self.null = nn.Parameter(0.5 * torch.randn(c.D))  # what there is to attend to at first
        self.layers = nn.ModuleList([TransformerLayer(c.D, c.U) for _ in range(c.layers)])
        self.heads = nn.ModuleList([Head(c, a) for a in range(len(c.slices))])
        self.prior_r = ScaleMixture()
        self.log_gain = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # latent steps per unit of y
        self.log_shrink = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # of residuals, decoder only
        self.index_offset = nn.Parameter(torch.zeros(N_QUALITIES, c.M))
        group = torch.from_numpy(groups(c.steps))
        order = group.argsort(stable=True)
        # Keys are the null token, then the places by group.
        of_key, of_place = torch.cat([torch.tensor([-1]), group[order]]), group[order][:, None]
        infinity = torch.tensor(-math.inf)
        self.register_buffer("group", group.view(WINDOW, WINDOW), persistent=False)
        self.register_buffer("by_group", order, persistent=False)
        sooner = torch.where(of_key < of_place, 0.0, infinity)
        of_content = torch.cat([torch.tensor([[-1]]), of_place])
        no_later = torch.where(of_key <= of_content, 0.0, infinity)
        self.register_buffer("sooner", sooner, persistent=False)
        self.register_buffer("no_later", no_later, persistent=False)

    def windows(self, plane: Tensor, corner: Tensor) -> Tensor:
        """Return windows with REACH latents around [B, 20, 20, C] of planes [B, h, w, C]; 0 outside the plane."""
        plane = pad(plane, (0, 0, REACH, REACH + WINDOW, REACH, REACH + WINDOW))
        side = torch.arange(WINDOW + 2 * REACH, device=plane.device)
        rows, columns = (corner[:, axis, None] + side for axis in (0, 1))
        image = torch.arange(len(plane), device=plane.device)[:, None, None]
        return plane[image, rows[:, :, None], columns[:, None]]

    def inner(self, windows: Tensor) -> Tensor:
        """Return [B, PLACES, C], by group, of windows [B, 20, 20, C]."""
        within = slice(REACH, REACH + WINDOW)
        return windows[:, within, within].flatten(1, 2)[:, self.by_group]

    def around(self, windows: Tensor, kernel: Tensor, step: int | None) -> Tensor:
        """Return a depthwise 5x5 convolution of what is decoded before each place, [B, PLACES, C] by group.

        Args:
            windows: [B, 20, 20, C].
            kernel: [steps, 25, C].
            step: which is decoded; None: of each place its own.
        """
        now = self.group if step is None else torch.full_like(self.group, step)
        taps = kernel[now]  # [16, 16, 25, C]
        side = torch.arange(WINDOW, device=windows.device)
        total = torch.zeros_like(windows[:, :WINDOW, :WINDOW])
        for tap in range(NEAR**2):
            u, v = divmod(tap, NEAR)
            there = self.group[(side + u - REACH) % WINDOW][:, (side + v - REACH) % WINDOW]
            weight = taps[:, :, tap] * (there < now)[:, :, None]
            total = total + windows[:, u : u + WINDOW, v : v + WINDOW] * weight
        return total.flatten(1, 2)[:, self.by_group]

    def code(
        self,
        y: Tensor,
        known: Tensor,
        corner: Tensor,
        q: Tensor,
        noise: list[torch.Generator] | None,
        step: int | None = None,
        skip_below: int = 0,
        within: Tensor | None = None,
    ) -> Coded:
        """Return what coding a window of each image takes.

        Args:
            y: latents [B, h, w, M].
            known: y_hat of them [B, h, w, M], as the decoder will have it, or nearly so; of each place only what is decoded
                before it is seen.
            corner: of the windows, int64 [B, 2].
            q: [B] qualities.
            noise: as in `forward`.
            step: with passes="mt": which one to compute for all places that are not decoded before.
            skip_below: residuals with a smaller index are 0 and cost nothing.
            within: bool [B, PLACES], by group: places that are within the image; None: all.
        """
        gain = at_quality(self.log_gain, q).exp().flatten(1)[:, None]  # [B, 1, M]
        known = self.windows(known, corner)
        steps = torch.asinh(known * gain[:, None])
        content = self.content(torch.cat([steps, steps.abs()], -1)).float()
        f = self._layers(content, q, step, within)
        mean = self.around(known, self.linear, step)
        steps = self.inner(steps)
        found = [head(f, steps[..., : self.config.slice(a).start]) for a, head in enumerate(self.heads)]  # fmt: skip
        mean = mean + torch.cat([mean for mean, _ in found], -1) * gain.rsqrt()
        index = torch.cat([index for _, index in found], -1)
        offset = at_quality(self.index_offset, q).flatten(1)[:, None]
        index = bound(index + offset, 0, N_SCALES - 1)
        if skip_below or noise is None:
            index = index.round()
        coded = index >= skip_below
        r = (self.inner(self.windows(y, corner)) - mean) * gain * coded
        level = r.detach().round()
        hard = self.prior_r.likelihood(level, index)
        if noise is None:
            bits = -hard.clamp_min(ESCAPE_LIKELIHOOD).log2()
        else:
            soft = self.prior_r.likelihood(r + uniform_noise(r, noise), index, learn=False)
            bits = with_gradient_of(-hard.log2(), -soft.log2())
        level = level * at_quality(self.log_shrink, q).exp().flatten(1)[:, None]
        return Coded(coded * bits, r - level, mean + level / gain)

    def _layers(
        self, content: Tensor, q: Tensor, step: int | None, within: Tensor | None
    ) -> Tensor:
        """Return what the heads see [B, PLACES, D], of contents with those around [B, 20, 20, D]."""
        near = self.around(content, self.near, step)
        mode = at_quality(self.mode, q).flatten(1)[:, None]
        content = self.inner(content)
        unknown, known = (p[self.by_group] for p in (self.unknown_places, self.known_places))
        group = self.group.flatten()[self.by_group]
        outside = torch.zeros(len(q), 1, 1, PLACES, device=q.device)  # of keys
        if within is not None:
            outside = outside.masked_fill(~within[:, None, None], -math.inf)
        if self.config.passes == "mt":
            is_known = (group < step)[:, None]
            x = near + mode + torch.where(is_known, content + known, unknown + self.step[step])
            for layer in self.layers:
                x = layer(x, x, outside)
            return norm(x)
        outside = pad(outside, (1, 0))  # the null token
        sooner, no_later = self.sooner + outside, self.no_later + outside
        x = near + mode + unknown + self.step[group]
        kept = torch.cat([(self.null + mode), near + mode + content + known], 1)
        for k, layer in enumerate(self.layers):
            x, before = layer(x, kept, sooner), kept
            if k + 1 < len(self.layers):
                kept = layer(before, before, no_later)
        return norm(x)

    def close(self, y: Tensor, q: Tensor, skip_below: int = 0) -> tuple[Tensor, Tensor]:
        """Return y_hat [B, h, w, M] and bits [B] of latents y [B, h, w, M], as files have them: step by step."""
        height, width = y.shape[1:3]
        corner = torch.cartesian_prod(*(torch.arange(0, n, WINDOW) for n in (height, width)))
        corner = corner.view(-1, 2).to(y.device)
        image = torch.arange(len(y), device=y.device).repeat_interleave(len(corner))
        corner = corner.repeat(len(y), 1)
        rows, columns = (
            corner[:, axis, None] + place
            for axis, place in enumerate((self.by_group // WINDOW, self.by_group % WINDOW))
        )
        within = (rows < height) & (columns < width)  # [windows, PLACES]
        y_hat, bits = torch.zeros_like(y), torch.zeros(len(y), device=y.device)
        group = self.group.flatten()[self.by_group]
        for step in range(self.config.steps):
            found = self.code(
                y[image], y_hat[image], corner, q[image], None, step, skip_below, within
            )
            now = within & (group == step)
            which = image[:, None].expand_as(rows)[now]
            y_hat[which, rows[now], columns[now]] = found.y_hat[now].to(y_hat.dtype)
            bits = bits.index_add(0, which, found.bits[now].sum(1))
        return y_hat, bits
