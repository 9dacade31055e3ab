"""The trainable network of family `hyperprior`: variable-rate transform, scale hyperprior, context means.

    x --g_a--> y --+------------- r = round((y - mean) * gain) --------> [rANS] -> r --+
                   |                          ^                            ^           |
                  h_a                         | mean                       | indexes   |
                   |                          |                            |           v
                   +--> z --> [rANS] --> z_hat +--h_m--> context x 4 <------|------- y_hat --g_s--> x_hat
                                              +--h_s ---------------------+

Decoupled as in JPEG AI (ISO/IEC 6048-1): the table index of a residual depends on z and on the quality
alone, so all of y decodes in one call. The means come afterwards, in two or four steps over 2x2 positions and
channel groups. All of it is float here; files are made by its integers (quantise.py, graphs.py).

g_a and g_s are nn/trunk.py's.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from ncodec.models.hyperprior.layers import HyperpriorConfig
from ncodec.nn import N_SCALES
from ncodec.nn.blocks import LinearPath, depth_conv_blocks, zero_
from ncodec.nn.gain import at_quality
from ncodec.nn.priors import FactorizedPrior, ScaleMixture
from ncodec.nn.quantize import bound, round_ste, uniform_noise
from ncodec.nn.training import TrainingOutput
from ncodec.nn.trunk import Analysis, Synthesis
from ncodec.quality import N_QUALITIES

EXACT_FROM = 2 / 3  # of a budget: from here on the table indexes are rounded


class HyperAnalysis(nn.Module):
    """h_a: y in latent steps [B, M, h, w], h and w even -> z [B, Z, h/2, w/2]."""

    def __init__(self, c: HyperpriorConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2 * c.M, c.H, 1)
        self.before = depth_conv_blocks(c.H, 1)
        self.down = nn.Conv2d(c.H, c.H, 2, stride=2)
        self.after = depth_conv_blocks(c.H, 1)
        self.head = nn.Conv2d(c.H, c.Z, 1)
        with torch.no_grad():
            self.head.weight *= 4.0  # z starts with a spread of about one step, not all zero

    def forward(self, y_steps: Tensor) -> Tensor:
        y_steps = torch.asinh(y_steps)
        f = self.before(self.stem(torch.cat([y_steps, y_steps.abs()], 1)))
        return self.head(self.after(self.down(f))).to(self.head.weight.dtype)


class HyperMean(nn.Module):
    """h_m: z_hat [B, Z, h/2, w/2] -> features for the means [B, H, h, w]."""

    def __init__(self, c: HyperpriorConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(c.Z, c.H, 1)
        self.blocks = depth_conv_blocks(c.H, 1)
        self.up = nn.Conv2d(c.H, 4 * c.H, 1)
        self.gain = nn.Parameter(torch.ones(N_QUALITIES, c.H))

    def forward(self, z_hat: Tensor, q: Tensor) -> Tensor:
        return pixel_shuffle(self.up(self.blocks(self.stem(z_hat))), 2) * at_quality(self.gain, q)


class HyperScale(nn.Module):
    """h_s: z_hat [B, Z, h/2, w/2] -> table indexes, less an offset for the quality [B, M, h, w]."""

    def __init__(self, c: HyperpriorConfig) -> None:
        super().__init__()
        self.hidden = LinearPath(c.Z, c.S, 3, padding=1)
        self.head = zero_(LinearPath(c.S, 4 * c.M, 1))

    def forward(self, z_hat: Tensor) -> Tensor:
        return pixel_shuffle(self.head(torch.relu(self.hidden(z_hat))), 2)


class ContextStep(nn.Module):
    """One step of the context: y_hat so far and hyper features -> means [B, M, h, w]."""

    def __init__(self, c: HyperpriorConfig, first: bool) -> None:
        super().__init__()
        self.first = first
        if not first:
            self.neighbours = LinearPath(c.M, c.M, 5, padding=2, groups=c.M)
            self.stem = nn.Conv2d(c.M, c.H, 1)
            self.linear = zero_(LinearPath(c.M, c.M, 5, padding=2, groups=c.M))
        self.blocks = depth_conv_blocks(c.H, 1)
        self.head = zero_(nn.Conv2d(c.H, c.M, 1))

    def forward(
        self, y_hat: Tensor, features: Tensor, see: Callable[[Tensor], Tensor] = lambda f: f
    ) -> Tensor:
        """Return means; `see` is what more is made of the block's features [B, H, h, w]."""
        if self.first:  # nothing decoded yet: y_hat is zero
            return self.head(see(self.blocks(features))).to(self.head.weight.dtype)
        f = features + self.stem(self.neighbours(y_hat))
        return self.linear(y_hat) + self.head(see(self.blocks(f)))


def step_masks(steps: int, channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return which latents each context step decodes, [steps, channels, height, width], bool.

    Channel c takes the four positions of each 2x2 cell in the order (0,0), (1,1), (0,1), (1,0),
    started c mod 4 places later, in equal shares: with four steps (the quadtree partition of DCVC-DC)
    every step sees every position of the cell in some channel, with two it is a checkerboard.
    """
    row = torch.arange(height, device=device)[:, None] % 2
    column = torch.arange(width, device=device) % 2
    phase = (3 * row + 2 * column) % 4
    step = (phase[:, :, None] + torch.arange(channels, device=device)) % 4 * steps // 4
    return torch.stack([step == k for k in range(steps)]).permute(0, 3, 1, 2)  # channels last


class Hyperprior(nn.Module):
    """The trainable model, all float. See codec.py for what encodes and decodes."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.g_a = Analysis(c.N, c.M, c.analysis_blocks)
        self.g_s = Synthesis(c.N, c.M, c.synthesis_blocks)
        self.h_a = HyperAnalysis(c)
        self.h_m = HyperMean(c)
        self.h_s = HyperScale(c)
        self.context = nn.ModuleList([ContextStep(c, first=k == 0) for k in range(c.context_steps)])
        self.prior_z = FactorizedPrior(c.Z)
        self.prior_r = ScaleMixture()
        self.log_gain = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # latent steps per unit of y
        self.log_shrink = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # of residuals, decoder only
        self.index_offset = nn.Parameter(torch.zeros(N_QUALITIES, c.M))

    def analyse(self, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return y [B, M, h, w], z [B, Z, h/2, w/2], not rounded, and the real-valued table indexes of y that rounded z tells."""
        y = self.g_a(x, q)
        z = self.h_a(y * at_quality(self.log_gain, q).exp())
        index = self.h_s(round_ste(z)) + at_quality(self.index_offset, q)
        return y, z, bound(index, 0, N_SCALES - 1)

    def close(self, y: Tensor, z_hat: Tensor, q: Tensor, coded: Tensor) -> tuple[Tensor, Tensor]:
        """Return y_hat and the residuals in latent steps, not rounded, [B, M, h, w] as is y.

        Args:
            y, z_hat, q: latents, and of which quality.
            coded: [B, M, h, w], bool: where residuals are not 0.
        """
        gain = at_quality(self.log_gain, q).exp()
        observed = torch.zeros_like(y)

        def residual(mask: Tensor, mean: Tensor) -> Tensor:
            nonlocal observed
            r = (y - mean) * gain * coded
            observed = observed + mask * r
            return round_ste(r)

        return self.reconstruct_y(z_hat, q, (y.shape[2], y.shape[3]), residual), observed

    def steps(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        """Return what gives means of y_hat so far and of features, step by step; used once."""
        return list(self.context)

    def reconstruct_y(
        self,
        z_hat: Tensor,
        q: Tensor,
        size: tuple[int, int],
        residual: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return y_hat [B, M, h, w]: the context's steps, the same for encoder and decoder.

        Args:
            z_hat: [B, Z, ceil(h/2), ceil(w/2)], float.
            q: [B] qualities.
            size: h and w.
            residual: called as residual(mask, mean) in each step; returns the residual of the masked
                latents in latent steps, [B, M, h, w].
        """
        features = self.h_m(z_hat, q)[:, :, : size[0], : size[1]]
        unit = (at_quality(self.log_shrink, q) - at_quality(self.log_gain, q)).exp()
        masks = step_masks(self.config.context_steps, self.config.M, *size, z_hat.device)
        # Channels last: depthwise convolutions are several times slower on the other memory format.
        y_hat = torch.zeros_like(masks[0], dtype=unit.dtype).expand(len(z_hat), -1, -1, -1)
        for mask, step in zip(masks, self.steps(), strict=True):
            mean = step(y_hat, features)
            y_hat = y_hat + mask * (mean + residual(mask, mean) * unit)
        return y_hat

    def forward(
        self,
        x: Tensor,
        q: Tensor,
        noise: list[torch.Generator] | None = None,
        progress: float = 1.0,
    ) -> TrainingOutput:
        """Return reconstruction and rate of images [B, 3, H, W] at qualities [B], as training sees them.

        Args:
            x: H and W multiples of 32.
            q: in [1, 8].
            noise: one generator per image, on the model's device: rates to train with, that of z with
                noise, that of y with noise in its gradient (nn/quantize.py); None: those of rounded latents.
            progress: spent share of the budget.
        """
        return self._reconstruct(x, q, noise, is_exact=progress >= EXACT_FROM, skip_below=0)

    def estimate(self, x: Tensor, q: Tensor) -> TrainingOutput:
        """Return reconstruction and rate as in the files of the exported model."""
        skip_below = self.prior_r.rows_that_skip()
        return self._reconstruct(x, q, None, is_exact=True, skip_below=skip_below)

    def _reconstruct(
        self,
        x: Tensor,
        q: Tensor,
        noise: list[torch.Generator] | None,
        is_exact: bool,
        skip_below: int,
    ) -> TrainingOutput:
        """Return what `forward` and `estimate` do.

        Args:
            x, q, noise: as in `forward`.
            is_exact: table indexes are rounded, with straight-through gradients.
            skip_below: residuals with a smaller index are 0 and cost nothing, as in the codec.
        """
        y, z, index = self.analyse(x, q)
        z_hat = round_ste(z)
        index = round_ste(index) if is_exact else index
        coded = index >= skip_below
        y_hat, r = self.close(y, z_hat, q, coded)
        bits = self.prior_r.bits(r, index, noise)
        z = z_hat if noise is None else z + uniform_noise(z, noise)
        y_bits = (coded * bits).flatten(1).sum(1)
        z_bits = -self.prior_z.likelihood(z, q).log2().flatten(1).sum(1)
        return TrainingOutput(self.g_s(y_hat, q).float(), {"y": y_bits, "z": z_bits})
