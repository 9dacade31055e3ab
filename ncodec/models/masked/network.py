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

Beyond the paper: the 5x5 latents around are seen directly, across windows; channels are decoded in slices, from the dearest
on, each knowing those before at its place; and a residual's mean is subtracted before rounding, as in hyperprior.
All of it is float here; files are made by its integers (quantise.py, graphs.py).
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad

from ncodec.models.masked.layers import INDEX_UNIT, NEAR, MaskedConfig
from ncodec.models.masked.lessons import LATENT_BITS, Lesson, cost_of_opinions
from ncodec.models.masked.schedule import PLACES, WINDOW, batches, groups, side_of
from ncodec.nn import N_SCALES, STRIDE
from ncodec.nn.gain import at_quality
from ncodec.nn.priors import ScaleMixture
from ncodec.nn.quantize import bound, round_ste
from ncodec.nn.training import TrainingOutput
from ncodec.nn.transformer import SLOPE, TransformerLayer, norm
from ncodec.nn.trunk import Analysis, Synthesis
from ncodec.quality import N_QUALITIES

REACH = NEAR // 2
LESSONS_SHARE = 0.7  # of a budget
TAPS = [divmod(tap, NEAR) for tap in range(NEAR**2)]


class Window(NamedTuple):
    """The n = a · b places of a window, by group."""

    sides: tuple[int, int]  # a, b
    step: Tensor  # [a, b], in which each place is decoded
    around: Tensor  # [a + 4, b + 4]: the same, with those of the windows around
    order: Tensor  # [n], of the places in rows of b
    places: Tensor  # [n], row · WINDOW + column
    group: Tensor  # [n]
    sooner: Tensor  # [n, 1 + n], 0 or -inf: what places attend to, the null token first
    no_later: Tensor  # [1 + n, 1 + n]: what contents attend to


class Coded(NamedTuple):
    """What coding latents of windows takes, [B, n, M] each, places by group."""

    bits: Tensor
    y_hat: Tensor
    mean: Tensor
    row: Tensor  # of the table, real-valued where there is noise


@lru_cache(maxsize=256)
def window_of(sides: tuple[int, int], usual: tuple[int, int], steps: int) -> Window:
    """Return the places of a window [a, b]; those above and to the left are of the usual sides."""
    a, b = sides
    whole = torch.from_numpy(groups(steps)).view(WINDOW, WINDOW)
    step = whole[:a, :b]
    rows, columns = (
        torch.cat([torch.arange(-REACH, 0) % n, torch.arange(side), torch.arange(REACH) % side])
        for side, n in zip(sides, usual, strict=True)
    )
    around = whole[rows[:, None], columns]
    order = step.flatten().argsort(stable=True)
    group = step.flatten()[order]
    key = torch.cat([torch.tensor([-1]), group])  # the null token, then the places by group
    infinity = torch.tensor(-math.inf)
    sooner = torch.where(key < group[:, None], 0.0, infinity)
    no_later = torch.where(key <= key[:, None], 0.0, infinity)
    places = torch.arange(PLACES).view(WINDOW, WINDOW)[:a, :b].flatten()[order]
    return Window(sides, step, around, order, places, group, sooner, no_later)


class Head(nn.Module):
    """A slice of channels: what the layers say and the slices before at the same place -> means, table rows."""

    def __init__(self, c: MaskedConfig, a: int) -> None:
        super().__init__()
        before = c.slice(a).start
        self.f = nn.Linear(c.D, c.H)
        self.around = nn.Linear(c.slices[a], c.H, bias=False)
        self.own = nn.Linear(2 * before, c.H) if before else None
        self.out = nn.Linear(c.H, 2 * c.slices[a])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, f: Tensor, energy: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.f(f) + self.around(energy)
        if self.own is not None:
            hidden = hidden + self.own(torch.cat([before, before.abs()], -1))
        mean, index = self.out(leaky_relu(hidden, SLOPE)).float().chunk(2, -1)
        return mean, INDEX_UNIT * (index + energy)


class _Around(torch.autograd.Function):
    """Images [B, a + 4, b + 4, C] and kernels of each place [a, b, 25, C] -> [B, a, b, C]; in place, which autograd alone is not."""

    @staticmethod
    def forward(ctx, x: Tensor, taps: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, taps)
        a, b = taps.shape[:2]
        total = torch.zeros_like(x[:, :a, :b])
        for tap, (u, v) in enumerate(TAPS):
            total.addcmul_(x[:, u : u + a, v : v + b], taps[:, :, tap])
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[no-untyped-def]
        x, taps = ctx.saved_tensors
        a, b = taps.shape[:2]
        of_x, of_taps = (
            torch.zeros_like(part) if wanted else None
            for part, wanted in zip((x, taps), ctx.needs_input_grad, strict=True)
        )
        for tap, (u, v) in enumerate(TAPS):
            if of_x is not None:
                of_x[:, u : u + a, v : v + b].addcmul_(gradient, taps[:, :, tap])
            if of_taps is not None:
                of_taps[:, :, tap] = (gradient * x[:, u : u + a, v : v + b]).sum(0)
        return of_x, of_taps


def _with_windows(x: Tensor, windows: Tensor, corner: Tensor) -> Tensor:
    """Return images x [B, 3, H, W] with windows [B, 3, a, b] in them, their corners at [B, 2]."""
    rows, columns = (
        corner[:, axis, None] + torch.arange(side, device=x.device)
        for axis, side in enumerate(windows.shape[2:])
    )
    image = torch.arange(len(x), device=x.device)[:, None, None]
    here = image, rows[:, :, None], columns[:, None]
    return x.permute(0, 2, 3, 1).index_put(here, windows.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Masked(nn.Module):
    """The trainable model, all float. See codec.py for what encodes and decodes."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        c = self.config = config
        self.g_a = Analysis(c.N, c.M, c.analysis_blocks)
        self.g_s = Synthesis(c.N, c.M, c.synthesis_blocks)
        self.content = nn.Linear(2 * c.M, c.D, bias=False)  # 0 of what is not there
        self.near = nn.Parameter(0.2 * torch.randn(c.steps, NEAR**2, c.D))
        self.linear = nn.Parameter(torch.zeros(c.steps, NEAR**2, c.M))  # of y_hat, to the mean
        self.energy = nn.Parameter(torch.zeros(c.steps, NEAR**2, c.M))  # of magnitudes, to the row
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

    def window(self, sides: tuple[int, int], usual: tuple[int, int] | None = None) -> Window:
        """Return the places of a window [a, b], where the network is; windows before it are as large, or of the usual sides."""
        found = window_of(sides, usual or sides, self.config.steps)
        return Window(sides, *(part.to(self.near.device) for part in found[1:]))

    def cut(self, plane: Tensor, corner: Tensor, window: Window) -> Tensor:
        """Return windows with REACH latents around [B, a + 4, b + 4, C] of planes [B, h, w, C]; 0 outside the plane."""
        plane = pad(plane, (0, 0, REACH, REACH, REACH, REACH))
        rows, columns = (
            corner[:, axis, None] + torch.arange(side + 2 * REACH, device=plane.device)
            for axis, side in enumerate(window.sides)
        )
        image = torch.arange(len(plane), device=plane.device)[:, None, None]
        return plane[image, rows[:, :, None], columns[:, None]]

    def inner(self, x: Tensor, window: Window) -> Tensor:
        """Return [B, n, C], by group, of windows [B, a + 4, b + 4, C]."""
        return x[:, REACH:-REACH, REACH:-REACH].flatten(1, 2)[:, window.order]

    def around(self, x: Tensor, kernel: Tensor, window: Window, step: int | None) -> Tensor:
        """Return a depthwise 5x5 convolution of what is decoded before each place, [B, n, C] by group.

        Args:
            x: [B, a + 4, b + 4, C]; where a step is given, 0 where not decoded.
            kernel: [steps, 25, C].
            window: of x.
            step: which is decoded; None: of each place its own.
        """
        now = window.step if step is None else torch.full_like(window.step, step)
        taps = kernel[now]  # [a, b, 25, C]
        if step is None:
            a, b = window.sides
            there = torch.stack([window.around[u : u + a, v : v + b] for u, v in TAPS], 2)
            taps = taps * (there < now[..., None])[..., None]
        total: Tensor = _Around.apply(x.float(), taps)  # type: ignore[no-untyped-call]
        return total.flatten(1, 2)[:, window.order]

    def code(
        self,
        y: Tensor,
        known: Tensor,
        corner: Tensor,
        sides: tuple[int, int],
        q: Tensor,
        noise: list[torch.Generator] | None,
        step: int | None = None,
        skip_below: int = 0,
        usual: tuple[int, int] | None = None,
    ) -> Coded:
        """Return what coding a window of each image takes.

        Args:
            y: latents [B, h, w, M].
            known: y_hat of them [B, h, w, M], as the decoder will have it, or nearly so. Without a step, of each place only
                what is decoded before it is seen; with one, it is 0 where not decoded.
            corner: of the windows, int64 [B, 2].
            sides: of the windows.
            q: [B] qualities.
            noise: as in `forward`.
            step: with passes="mt", the only one whose places matter; with "m2t" None, for contents are kept as their own
                steps saw them.
            skip_below: residuals with a smaller index are 0 and cost nothing.
            usual: sides of the windows above and to the left; None: these windows'.
        """
        window = self.window(sides, usual)
        gain = at_quality(self.log_gain, q).exp().flatten(1)[:, None]  # [B, 1, M]
        known = self.cut(known, corner, window)
        steps = torch.asinh(known * gain[:, None])  # [B, a + 4, b + 4, M]
        content = self.content(torch.cat([steps, steps.abs()], -1)).float()
        f = self._layers(content, window, q, step)
        mean = self.around(known, self.linear, window, step)
        energy = self.around(steps.abs(), self.energy, window, step)
        there = self.inner(self.cut(y, corner, window), window)
        offset = at_quality(self.index_offset, q).flatten(1)[:, None]
        shrink = at_quality(self.log_shrink, q).exp().flatten(1)[:, None]
        slices, own = [], [torch.zeros_like(there[..., :0])]
        for a, head in enumerate(self.heads):
            part = self.config.slice(a)
            step_of = gain[..., part]  # latent steps per unit
            expected, index = head(f, energy[..., part], torch.cat(own, -1))
            expected = expected * step_of.rsqrt() + mean[..., part]
            index = bound(index + offset[..., part], 0, N_SCALES - 1)
            if noise is None:
                index = index.round()
            r = (there[..., part] - expected) * step_of * (index >= skip_below)
            bits = self.prior_r.bits(r, index, noise) * (index >= skip_below)
            y_hat = expected + round_ste(r) * (shrink[..., part] / step_of)
            own.append(torch.asinh(y_hat.detach() * step_of))
            slices.append(Coded(bits, y_hat, expected, index))
        return Coded(*(torch.cat(parts, -1) for parts in zip(*slices, strict=True)))

    def _layers(self, content: Tensor, window: Window, q: Tensor, step: int | None) -> Tensor:
        """Return what the heads see [B, n, D], of contents with those around [B, a + 4, b + 4, D]."""
        near = self.around(content, self.near, window, step)
        mode = at_quality(self.mode, q).flatten(1)[:, None]
        content = self.inner(content, window)
        unknown, known = (p[window.places] for p in (self.unknown_places, self.known_places))
        if self.config.passes == "mt":
            assert step is not None
            is_known = (window.group < step)[:, None]
            x = near + mode + torch.where(is_known, content + known, unknown + self.step[step])
            for layer in self.layers:
                x = layer(x, x, None)
            return norm(x)
        assert step is None
        x = near + mode + unknown + self.step[window.group]
        # Nothing attends to the last group.
        told = 1 + int((window.group < window.group.max()).sum())
        kept = torch.cat([self.null + mode, near + mode + content + known], 1)[:, :told]
        for k, layer in enumerate(self.layers):
            x, before = layer(x, kept, window.sooner[:, :told]), kept
            if k + 1 < len(self.layers):
                kept = layer(before, before, window.no_later[:told, :told])
        return norm(x)

    def forward(
        self,
        x: Tensor | Lesson,
        q: Tensor,
        noise: list[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> TrainingOutput:
        """Return reconstruction and rate of images [B, 3, H, W], sides multiples of 16, at qualities [B].

        Args:
            x: images, or lessons of them, which have no reconstruction.
            q: in [1, 8].
            noise: a generator for each image: one window of each is coded, and costs; all else is as it was. None: as
                `estimate`.
            progress: spent share of the budget: the less is left, the less is taught.
        """
        if isinstance(x, Lesson):
            assert noise is not None
            return self._learn(x, q, noise, max(0.0, 1 - progress / LESSONS_SHARE))
        if noise is None:
            return self.estimate(x, q)
        with torch.no_grad():
            y = self.g_a(x, q).permute(0, 2, 3, 1)
        window, corner = self._random_window(y, noise[0])
        step, counts = self._random_step(window, noise[0])
        a, b = window.sides
        rows = (corner[:, :1] + torch.arange(a, device=x.device))[:, :, None]
        columns = (corner[:, 1:] + torch.arange(b, device=x.device))[:, None]
        here = torch.arange(len(x), device=x.device)[:, None, None], rows, columns
        # What decoders will know of the window comes of a first pass, which knows rounded latents.
        gain = at_quality(self.log_gain, q).exp().flatten(1)[:, None, None]
        y_hat = (y * gain).round() / gain
        with torch.no_grad():
            coded = self.code(
                y, self._before(y_hat, window, corner, step), corner, (a, b), q, None, step
            )
            y_hat[here] = coded.y_hat.float()[:, window.order.argsort()].view(len(x), a, b, -1)
        coded = self.code(
            y, self._before(y_hat, window, corner, step), corner, (a, b), q, noise, step
        )
        known = counts.bool().view(1, -1, 1)
        found = coded.y_hat.float().where(
            known, self.inner(self.cut(y_hat, corner, window), window)
        )
        y_hat = y_hat.index_put(here, found[:, window.order.argsort()].view(len(x), a, b, -1))
        part = self.cut(y_hat, corner, window).permute(0, 3, 1, 2)
        edge = STRIDE * REACH
        pixels = self.g_s(part, q).float()[:, :, edge:-edge, edge:-edge]
        x_hat = _with_windows(x, pixels, corner * STRIDE)
        return TrainingOutput(x_hat, {"y": (coded.bits.sum(2) * counts).sum(1)})

    def _learn(
        self, lesson: Lesson, q: Tensor, noise: list[torch.Generator], taught: float
    ) -> TrainingOutput:
        """Return what a window of each lesson takes, per pixel: bits, and as a penalty errors of y_hat and other opinions.

        Args:
            lesson: of crops.
            q, noise: as in `forward`.
            taught: what opinions weigh, 0 … 1.
        """
        window, corner = self._random_window(lesson.y, noise[0])
        step, counts = self._random_step(window, noise[0])
        gain = at_quality(self.log_gain, q).exp().flatten(1)[:, None]
        y = lesson.y.float() * 2.0**-LATENT_BITS
        rounded = (y * gain[:, None]).round() / gain[:, None]
        before = self._before(rounded, window, corner, step)
        coded = self.code(y, before, corner, window.sides, q, noise, step)
        y_hat, mean, row = (
            self.inner(self.cut(part, corner, window), window) for part in lesson[1:4]
        )
        of_row, of_mean = (cost[row.long()] for cost in cost_of_opinions(self.prior_r))
        opinions = of_row * (coded.row - row).square()
        opinions += of_mean * ((coded.mean - mean * 2.0**-LATENT_BITS) * gain).square()
        errors = lesson.cost[:, None] * (coded.y_hat - y_hat * 2.0**-LATENT_BITS).square()
        penalty = errors + taught * opinions
        share = counts / (len(counts) * STRIDE**2)  # [n], of the window
        bits, penalty = ((part.sum(2) * share).sum(1) for part in (coded.bits, penalty))
        return TrainingOutput(None, {"y": bits}, penalty)

    def _random_step(self, window: Window, noise: torch.Generator) -> tuple[int | None, Tensor]:
        """Return the step to learn, None: all, and what each place counts [n], 1 in the mean: MT learns all that is not decoded."""
        if self.config.passes == "m2t":
            return None, torch.ones_like(window.group)
        u = torch.rand((), generator=noise, device=window.group.device)
        step = min(int(u * self.config.steps), int(window.group.max()))
        counts = window.group >= step
        return step, counts * len(counts) / counts.sum()

    def _random_window(self, y: Tensor, noise: torch.Generator) -> tuple[Window, Tensor]:
        """Return a window, and where it lies in each image [B, 2]: as large as can be, half as large and more, or of any size."""
        u = torch.rand(len(y) + 2, 2, generator=noise, device=y.device)
        most = torch.tensor([min(side, WINDOW) for side in y.shape[1:3]], device=y.device)
        least = most if u[1, 0] < 0.5 else (most + 1) // 2 if u[1, 0] < 0.9 else 1
        sides = least + (u[0] * (most - least + 1)).long()
        room = torch.tensor(y.shape[1:3], device=y.device) - sides + 1
        return self.window((int(sides[0]), int(sides[1]))), (u[2:] * room).long()

    def _before(self, y_hat: Tensor, window: Window, corner: Tensor, step: int | None) -> Tensor:
        """Return y_hat [B, h, w, M], 0 where it is not decoded before a step; None: as it is."""
        if step is None:
            return y_hat
        rows, columns = (
            (torch.arange(side, device=y_hat.device) - corner[:, axis, None]) % window.sides[axis]
            for axis, side in enumerate(y_hat.shape[1:3])
        )
        return y_hat * (window.step[rows[:, :, None], columns[:, None]] < step)[..., None]

    def close(self, y: Tensor, q: Tensor, skip_below: int = 0) -> tuple[Tensor, Tensor]:
        """Return y_hat [B, h, w, M] and bits [B] of latents y [B, h, w, M], as files have them: step by step."""
        y_hat, bits = torch.zeros_like(y), torch.zeros(len(y), device=y.device)
        height, width = y.shape[1:3]
        usual = side_of(height), side_of(width)
        for step, plan in enumerate(batches(height, width, self.config.steps)):
            before = y_hat.clone()
            seen = step if self.config.passes == "mt" else None
            for batch in plan:
                window = self.window(batch.sides)
                image = torch.arange(len(y)).repeat_interleave(len(batch.corners))
                corners, rows, columns = (
                    torch.from_numpy(part).repeat(len(y), 1)
                    for part in (batch.corners, batch.rows, batch.columns)
                )
                windows = y[image], before[image], corners, batch.sides, q[image]
                found = self.code(*windows, None, seen, skip_below, usual)
                now = window.group == step  # as in the batch: both are by rows
                y_hat[image[:, None], rows, columns] = found.y_hat[:, now].to(y_hat.dtype)
                bits = bits.index_add(0, image, found.bits[:, now].sum((1, 2)))
        return y_hat, bits

    @torch.no_grad()
    def estimate(self, x: Tensor, q: Tensor) -> TrainingOutput:
        """Return reconstruction and rate of images [B, 3, H, W] as in the files of the exported model."""
        y = self.g_a(x, q).permute(0, 2, 3, 1)
        y_hat, bits = self.close(y, q, self.prior_r.rows_that_skip())
        x_hat = self.g_s(y_hat.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last), q)
        return TrainingOutput(x_hat.float(), {"y": bits})
