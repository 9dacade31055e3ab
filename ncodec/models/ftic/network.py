"""The trainable network of family `ftic`: hyperprior with frequency-aware transforms and channel-autoregressive means.

    x --g_a--> y --+------------- r = round((y - mean) * gain) --------> [rANS] -> r --+
                   |                          ^                            ^           |
                  h_a                         | mean                       | indexes   |
                   |                          |                            |           v
                   +--> z --> [rANS] --> z_hat +--h_m--> (context, T-CA) x 4 <-|---- y_hat --g_s--> x_hat
                                              +--h_s ---------------------+

Frequency-aware transformer (FTIC, https://arxiv.org/abs/2310.16387) around what hyperprior has (models/hyperprior/network.py): FAT
blocks at 1/8 between its residual blocks, and at 1/16 on a branch beside them. T-CA (`nn/frequency.ChannelAttention`) sees four
slices of the channels, at every place others: those of the steps of hyperprior's context (`step_masks`). It starts as hyperprior is:
whatever is new is silent.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ncodec.models.ftic.layers import FticConfig
from ncodec.models.hyperprior.network import ContextStep, Hyperprior
from ncodec.nn import STRIDE
from ncodec.nn.blocks import zero_
from ncodec.nn.frequency import Kept, channel_attention, fat_blocks
from ncodec.nn.gain import at_quality
from ncodec.nn.trunk import Analysis, Synthesis


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
    """A step of the context, with T-CA: y_hat so far and hyper features -> means [B, M, h, w] of a slice."""

    def __init__(self, c: FticConfig, first: bool) -> None:
        super().__init__(c, first)
        self.channels = channel_attention(c.H, c.layers)

    def means(self, kept: list[Kept], y_hat: Tensor, features: Tensor) -> Tensor:
        """Return means; `kept` are keys and values of each layer, of the slices before."""

        def see(f: Tensor) -> Tensor:
            for layer, of_layer in zip(self.channels, kept, strict=True):
                f = layer(f, of_layer)
            return f

        return self.forward(y_hat, features, see)


class Ftic(Hyperprior):
    """The trainable model, all float. See codec.py for what encodes and decodes."""

    config: FticConfig

    def __init__(self, config: FticConfig) -> None:
        super().__init__(config)
        self.g_a = FrequencyAnalysis(config)
        self.g_s = FrequencySynthesis(config)
        self.context = nn.ModuleList(
            Slice(config, first=k == 0) for k in range(config.context_steps)
        )

    def steps(self) -> list[Callable[[Tensor, Tensor], Tensor]]:
        """Return the slices in turn; each keeps keys and values for those after it."""
        kept: list[Kept] = [[] for _ in range(self.config.layers)]
        return [partial(cast(Slice, step).means, kept) for step in self.context]
