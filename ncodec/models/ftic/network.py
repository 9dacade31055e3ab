"""The trainable network of family `ftic`: frequency-aware transforms, channel-autoregressive means and table indexes.

    x --g_a--> y --+--------- r = round((y - mean) * gain), of a slice ------> [rANS] -> r of the slice --+
                   |                           ^                                  ^                       |
                  h_a                          | mean                             | indexes               |
                   |                           |                                  |                       v
                   +--> z --> [rANS] --> z_hat +--h_m--> context + T-CA, slice by slice <------------- y_hat --g_s--> x_hat
                                               +--h_s---------------------------> +

Frequency-aware transformer (FTIC, https://arxiv.org/abs/2310.16387) around the trunk of hyperprior (nn/trunk.py): FAT blocks
at 1/8 between its residual blocks, and at 1/16 on a branch beside them. T-CA (`nn/frequency.ChannelAttention`) sees four slices of the channels,
at every place others: those of the steps of hyperprior's context (`step_masks`). It starts as hyperprior is: whatever is new is silent.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ncodec.models.ftic.layers import STEPS, FticConfig
from ncodec.nn import N_SCALES, STRIDE
from ncodec.nn.blocks import zero_
from ncodec.nn.frequency import Kept, channel_attention, fat_blocks
from ncodec.nn.gain import at_quality
from ncodec.nn.hyper import ContextStep, HyperAnalysis, HyperMean, HyperScale, step_masks
from ncodec.nn.priors import FactorizedPrior, ScaleMixture
from ncodec.nn.quantize import bound, round_ste, uniform_noise
from ncodec.nn.training import TrainingOutput
from ncodec.nn.trunk import Analysis, Synthesis
from ncodec.quality import N_QUALITIES

EXACT_FROM = 2 / 3  # of a budget: from here on table indexes are rounded


def interleaved(f: Tensor, blocks: nn.Sequential, fat: nn.Sequential) -> Tensor:
    """Return f after residual blocks, a FAT block after each equal share of them."""
    share = -(-len(blocks) // len(fat))
    for k, block in enumerate(fat):
        f = block(blocks[k * share : (k + 1) * share](f))
    return f


class Deep(nn.Module):
    """A branch at 1/16: FAT blocks of width D, silent at first."""

    def __init__(self, inputs: int, outputs: int, c: FticConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(inputs, c.D, 1)
        self.fat = fat_blocks(c.D, c.deep_fat)
        self.head = zero_(nn.Conv2d(c.D, outputs, 1))

    def forward(self, f: Tensor) -> Tensor:
        return self.head(self.fat(self.stem(f)))


class FrequencyAnalysis(Analysis):
    """g_a: x [B, 3, H, W] -> y [B, M, H/16, W/16]."""

    def __init__(self, c: FticConfig) -> None:
        super().__init__(c.N, c.M, c.analysis_blocks)
        self.fat = fat_blocks(c.N, c.fat)
        self.deep = Deep(4 * c.N, c.M, c)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        x = x - 0.5
        f = self.stem(pixel_unshuffle(x, 8)) * at_quality(self.gain, q)  # [B, N, H/8, W/8]
        f = pixel_unshuffle(interleaved(f, self.blocks, self.fat), 2)  # [B, 4N, H/16, W/16]
        return self.linear(pixel_unshuffle(x, STRIDE)) + self.head(f) + self.deep(f)


class FrequencySynthesis(Synthesis):
    """g_s: y_hat [B, M, H/16, W/16] -> x_hat [B, 3, H, W]."""

    def __init__(self, c: FticConfig) -> None:
        super().__init__(c.N, c.M, c.synthesis_blocks)
        self.fat = fat_blocks(c.N, c.fat)
        self.deep = Deep(c.M, 4 * c.N, c)

    def forward(self, y_hat: Tensor, q: Tensor) -> Tensor:
        f = self.stem(y_hat) + self.deep(y_hat)  # [B, 4N, H/16, W/16]
        f = pixel_shuffle(f, 2) * at_quality(self.gain, q)
        f = self.head(interleaved(f, self.blocks, self.fat))
        x_hat = pixel_shuffle(self.linear(y_hat), STRIDE)  # [B, 3, H, W]
        x_hat += pixel_shuffle(f, 8)  # in place: memory is largest here
        return x_hat.add_(0.5)


class Slice(ContextStep):
    """A step of the context, with T-CA: y_hat so far and hyper features -> means, and what is added to table indexes."""

    def __init__(self, c: FticConfig, first: bool) -> None:
        super().__init__(c, first)
        self.channels = channel_attention(c.H, c.layers)
        self.rows = zero_(nn.Conv2d(c.H, c.M, 1))

    def forward(  # type: ignore[override]
        self, y_hat: Tensor, features: Tensor, kept: list[Kept]
    ) -> tuple[Tensor, Tensor]:
        """Return means and additions, [B, M, h, w]; `kept` are keys and values of each layer."""
        f = features if self.first else features + self.stem(self.neighbours(y_hat))
        f = self.blocks(f)
        for layer, of_layer in zip(self.channels, kept, strict=True):
            f = layer(f, of_layer)
        mean, rows = (head(f).to(head.weight.dtype) for head in (self.head, self.rows))
        return mean if self.first else mean + self.linear(y_hat), rows


class Ftic(nn.Module):
    """The trainable model, all float. See codec.py for what encodes and decodes."""

    def __init__(self, config: FticConfig) -> None:
        super().__init__()
        c = self.config = config
        self.g_a = FrequencyAnalysis(c)
        self.g_s = FrequencySynthesis(c)
        self.h_a = HyperAnalysis(c)
        self.h_m = HyperMean(c)
        self.h_s = HyperScale(c)
        self.context = nn.ModuleList(Slice(c, first=k == 0) for k in range(STEPS))
        self.prior_z = FactorizedPrior(c.Z)
        self.prior_r = ScaleMixture()
        self.log_gain = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # latent steps per unit of y
        self.log_shrink = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # of residuals, decoder only
        self.index_offset = nn.Parameter(torch.zeros(N_QUALITIES, c.M))

    def slice_by_slice(
        self,
        z_hat: Tensor,
        q: Tensor,
        size: tuple[int, int],
        residual: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """Return y_hat [B, M, h, w]: the slices one after the other, the same for encoder and decoder.

        Args:
            z_hat: [B, Z, ceil(h/2), ceil(w/2)], float.
            q: [B] qualities.
            size: h and w.
            residual: called as residual(mask, mean, rows) for each slice; returns the residuals of the masked
                latents in latent steps, [B, M, h, w]. Rows are table indexes, not rounded.
        """
        base = self.h_s(z_hat)[:, :, : size[0], : size[1]] + at_quality(self.index_offset, q)
        features = self.h_m(z_hat, q)[:, :, : size[0], : size[1]]
        unit = (at_quality(self.log_shrink, q) - at_quality(self.log_gain, q)).exp()
        masks = step_masks(STEPS, self.config.M, *size, z_hat.device)
        # Channels last: depthwise convolutions are several times slower on the other memory format.
        y_hat = torch.zeros_like(masks[0], dtype=unit.dtype).expand(len(z_hat), -1, -1, -1)
        kept: list[Kept] = [[] for _ in range(self.config.layers)]
        for mask, step in zip(masks, self.context, strict=True):
            mean, rows = step(y_hat, features, kept)
            y_hat = y_hat + mask * (mean + residual(mask, mean, base + rows) * unit)
        return y_hat

    def reconstruct_y(
        self,
        z_hat: Tensor,
        q: Tensor,
        size: tuple[int, int],
        residual: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """As `slice_by_slice`, for residuals that need no rows."""
        return self.slice_by_slice(z_hat, q, size, lambda mask, mean, rows: residual(mask, mean))

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
            noise: one generator per image, on the model's device; None: rates of rounded latents.
            progress: spent share of the budget.
        """
        return self._reconstruct(x, q, noise, is_exact=progress >= EXACT_FROM, skip_below=0)

    def estimate(self, x: Tensor, q: Tensor) -> TrainingOutput:
        """Return reconstruction and rate as in the files of the exported model."""
        return self._reconstruct(
            x, q, None, is_exact=True, skip_below=self.prior_r.rows_that_skip()
        )

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
        y = self.g_a(x, q)
        gain = at_quality(self.log_gain, q).exp()
        z = self.h_a(y * gain)
        z_hat = round_ste(z)
        r, index = torch.zeros_like(y), torch.zeros_like(y)

        def residual(mask: Tensor, mean: Tensor, rows: Tensor) -> Tensor:
            nonlocal r, index
            rows = bound(rows, 0, N_SCALES - 1)
            rows = round_ste(rows) if is_exact else rows
            own = (y - mean) * gain * (rows >= skip_below)
            r, index = r + mask * own, index + mask * rows
            return round_ste(own)

        y_hat = self.slice_by_slice(z_hat, q, (y.shape[2], y.shape[3]), residual)
        bits = self.prior_r.bits(r, index, noise)
        z = z_hat if noise is None else z + uniform_noise(z, noise)
        y_bits = ((index >= skip_below) * bits).flatten(1).sum(1)
        z_bits = -self.prior_z.likelihood(z, q).log2().flatten(1).sum(1)
        return TrainingOutput(self.g_s(y_hat, q).float(), {"y": y_bits, "z": z_bits})
