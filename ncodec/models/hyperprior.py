"""Family `hyperprior`: variable-rate convolutional transform, scale hyperprior, context means.

    x --g_a--> y --+------------- r = round((y - mean) * gain) --------> [rANS] -> r --+
                   |                          ^                            ^           |
                  h_a                         | mean (float)               | indexes   |
                   |                          |                            | (exact)   v
                   +--> z --> [rANS] --> z_hat +--h_m--> context x 4 <------|------- y_hat --g_s--> x_hat
                                              +--h_s (integer) ------------+

Decoupled as in JPEG AI (ISO/IEC 6048-1): the table index of a residual depends on z and on the quality
alone, by exact integer arithmetic (nn/exact.py), so all of y decodes in one call. The means come from
a float network afterwards, in two or four steps over 2x2 positions and channel groups; they reach pixels only.

Transform in the style of DCVC-UF-Intra (https://github.com/microsoft/DCVC): pixel-unshuffle, 1x1 and
depthwise convolutions, gain vectors per quality; plus a linear path, a 16x16 block transform that
starts as the PCA of the training images, added to the non-linear branch on both sides
(cf. AuxT, https://arxiv.org/abs/2502.13000).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from ncodec.coder import Coder, Reader, Writer
from ncodec.container import QUALITY_STEPS
from ncodec.entropy import FrequencyTables
from ncodec.errors import CorruptPayloadError
from ncodec.nn.blocks import LinearPath, depth_conv_blocks, zero_
from ncodec.nn.exact import (
    FRACTION_BITS,
    IntegerLayer,
    IntegerNetwork,
    fake_integer_layer,
    fixed_point,
    interpolate_integers,
)
from ncodec.nn.gain import N_QUALITIES, at_quality
from ncodec.nn.priors import N_SCALES, FactorizedPrior, ScaleMixture, index_of_scale
from ncodec.nn.quantize import bound, round_ste, uniform_noise, with_gradient_of

STRIDE = 16  # pixels per latent of y
Z_STRIDE = 2  # latents of y per latent of z
Z_MAX = 127  # bound of |z|, for the integer network
R_MAX = 2**15 - 1  # bound of |r|
ESCAPE_LIKELIHOOD = (
    2.0**-20
)  # of a residual far outside its row: 14 bits of the table and some 6 of value

# Memory grows with what is decoded together, 70 to 130 bytes a pixel on the CPU (specs/format.md, section 5).
BATCH_PIXELS = {"cpu": 1 << 22, "cuda": 1 << 25}


@dataclass(frozen=True)
class HyperpriorConfig:
    """Sizes of one model. The defaults are `hyperprior-s`."""

    N: int = 128  # width of the trunk at 1/8
    M: int = 320  # channels of y at 1/16
    Z: int = 64  # channels of z at 1/32
    H: int = 160  # width of the hyper and context networks
    S: int = 128  # width of the integer scale network
    analysis_blocks: int = 6
    synthesis_blocks: int = 10
    context_steps: int = 4  # or 2


class Analysis(nn.Module):
    """g_a: x [B, 3, H, W] -> y [B, M, H/16, W/16]."""

    def __init__(self, c: HyperpriorConfig) -> None:
        super().__init__()
        self.linear = LinearPath(3 * STRIDE**2, c.M, 1)
        self.stem = nn.Conv2d(3 * 64, c.N, 1)
        self.gain = nn.Parameter(torch.ones(N_QUALITIES, c.N))
        self.blocks = depth_conv_blocks(c.N, c.analysis_blocks)
        self.head = zero_(nn.Conv2d(4 * c.N, c.M, 1))

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        x = x - 0.5
        f = self.stem(pixel_unshuffle(x, 8)) * at_quality(self.gain, q)  # [B, N, H/8, W/8]
        f = self.blocks(f)
        return self.linear(pixel_unshuffle(x, STRIDE)) + self.head(pixel_unshuffle(f, 2))


class Synthesis(nn.Module):
    """g_s: y_hat [B, M, H/16, W/16] -> x_hat [B, 3, H, W]."""

    def __init__(self, c: HyperpriorConfig) -> None:
        super().__init__()
        self.linear = LinearPath(c.M, 3 * STRIDE**2, 1)
        self.stem = nn.Conv2d(c.M, 4 * c.N, 1)
        self.gain = nn.Parameter(torch.ones(N_QUALITIES, c.N))
        self.blocks = depth_conv_blocks(c.N, c.synthesis_blocks)
        self.head = zero_(nn.Conv2d(c.N, 3 * 64, 1))

    def forward(self, y_hat: Tensor, q: Tensor) -> Tensor:
        f = pixel_shuffle(self.stem(y_hat), 2) * at_quality(self.gain, q)  # [B, N, H/8, W/8]
        f = self.head(self.blocks(f))
        x_hat = pixel_shuffle(self.linear(y_hat), STRIDE)  # [B, 3, H, W]
        x_hat += pixel_shuffle(f, 8)  # in place: memory is largest here
        return x_hat.add_(0.5)


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
    """h_s in float, for training: z_hat [B, Z, h/2, w/2] -> index offsets [B, M, h, w].

    `nn.exact.IntegerNetwork` is built from these weights at export and replaces it in the codec.
    """

    def __init__(self, c: HyperpriorConfig) -> None:
        super().__init__()
        self.hidden = LinearPath(c.Z, c.S, 3, padding=1)
        self.head = zero_(LinearPath(c.S, 4 * c.M, 1))

    def forward(self, z_hat: Tensor, exact: bool) -> Tensor:
        """Return index offsets; `exact` as the integers will compute them (straight-through)."""
        if not exact:
            return pixel_shuffle(self.head(torch.relu(self.hidden(z_hat))), 2)
        hidden = torch.relu(fake_integer_layer(self.hidden, z_hat, 0))
        return pixel_shuffle(fake_integer_layer(self.head, hidden, FRACTION_BITS), 2)


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

    def forward(self, y_hat: Tensor, features: Tensor) -> Tensor:
        if self.first:  # nothing decoded yet: y_hat is zero
            return self.head(self.blocks(features)).to(self.head.weight.dtype)
        f = features + self.stem(self.neighbours(y_hat))
        return self.linear(y_hat) + self.head(self.blocks(f))


def step_masks(steps: int, channels: int, height: int, width: int, device: torch.device) -> Tensor:
    """Return which latents each context step decodes, [steps, channels, height, width], bool.

    Channel c takes the four positions of each 2x2 cell in the order (0,0), (1,1), (0,1), (1,0),
    started c mod 4 places later, in equal shares: with four steps (the quadtree partition of DCVC-DC)
    every step sees every position of the cell in some channel, with two it is a checkerboard.
    """
    order = torch.tensor([[0, 2], [3, 1]], device=device)
    row = torch.arange(height, device=device) % 2
    column = torch.arange(width, device=device) % 2
    phase = order[row[:, None], column[None, :]]
    step = (phase[:, :, None] + torch.arange(channels, device=device)) % 4 * steps // 4
    return torch.stack([step == k for k in range(steps)]).permute(0, 3, 1, 2)  # channels last


class TrainingOutput(NamedTuple):
    """What the loss needs: reconstruction and the bits of each image."""

    x_hat: Tensor  # [B, 3, H, W]
    y_bits: Tensor  # [B]
    z_bits: Tensor  # [B]


class Hyperprior(nn.Module):
    """The trainable model, all float. See `HyperpriorCodec` for what encodes and decodes."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.g_a = Analysis(c)
        self.g_s = Synthesis(c)
        self.h_a = HyperAnalysis(c)
        self.h_m = HyperMean(c)
        self.h_s = HyperScale(c)
        self.context = nn.ModuleList([ContextStep(c, first=k == 0) for k in range(c.context_steps)])
        self.prior_z = FactorizedPrior(c.Z)
        self.prior_r = ScaleMixture()
        self.log_gain = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # latent steps per unit of y
        self.log_shrink = nn.Parameter(torch.zeros(N_QUALITIES, c.M))  # of residuals, decoder only
        self.index_offset = nn.Parameter(torch.zeros(N_QUALITIES, c.M))

    def initialise_linear_path(self, basis: Tensor, std: Tensor, lmbdas: Tensor) -> None:
        """Set the linear path to a block transform, and gains and scales to match it.

        Channel c of y is the coefficient divided by sqrt(std[c]), a half whitening that keeps all
        channels within a factor of ten or so.

        Args:
            basis: [M, 768] orthonormal rows, for `pixel_unshuffle(x - 0.5, 16)`.
            std: [M] root mean square of each coefficient.
            lmbdas: [8] rate-distortion trade-off of each quality.
        """
        root = std.sqrt()
        # High-rate optimum of lambda * 255**2 * step**2 / (12 * 3) - log2(step) per coefficient.
        step = (6 / (lmbdas * 255**2 / 3 * 0.6931)).sqrt()  # [8]
        zero_(self.g_a.linear)
        zero_(self.g_s.linear)
        with torch.no_grad():
            self.g_a.linear.weight.copy_((basis / root[:, None])[:, :, None, None])
            self.g_s.linear.weight.copy_((basis * root[:, None]).T[:, :, None, None])
            self.log_gain.copy_((root[None] / step[:, None]).log())
            self.index_offset.copy_(index_of_scale(0.7 * std[None] / step[:, None]).clamp(min=0))

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
        for mask, step in zip(masks, self.context, strict=True):
            mean = step(y_hat, features)
            y_hat = y_hat + mask * (mean + residual(mask, mean) * unit)
        return y_hat

    def forward(
        self,
        x: Tensor,
        q: Tensor,
        noise: list[torch.Generator] | None = None,
        exact: bool = True,
        skip_below: int = 0,
    ) -> TrainingOutput:
        """Return reconstruction and rate of images [B, 3, H, W] at qualities [B].

        Args:
            x: H and W multiples of 32.
            q: in [1, 8].
            noise: one generator per image, on the model's device: rates to train with, that of z with
                noise, that of y with noise in its gradient (nn/quantize.py); None: those of the file.
            exact: table indexes as the integer network will compute them, with straight-through gradients.
            skip_below: residuals with a smaller index are 0 and cost nothing, as in the codec.
        """
        y = self.g_a(x, q)
        gain = at_quality(self.log_gain, q).exp()
        z = self.h_a(y * gain)
        z_hat = round_ste(z)
        index = bound(self.h_s(z_hat, exact) + at_quality(self.index_offset, q), 0, N_SCALES - 1)
        index = round_ste(index) if exact else index
        coded = index >= skip_below
        observed = torch.zeros_like(y)

        def residual(mask: Tensor, mean: Tensor) -> Tensor:
            nonlocal observed
            r = (y - mean) * gain * coded
            observed = observed + mask * r
            return round_ste(r)

        y_hat = self.reconstruct_y(z_hat, q, (y.shape[2], y.shape[3]), residual)
        hard = self.prior_r.likelihood(observed.detach().round(), index)
        if noise is None:
            z = z_hat
            bits = -hard.clamp_min(ESCAPE_LIKELIHOOD).log2()
        else:
            soft = self.prior_r.likelihood(observed + uniform_noise(y, noise), index, learn=False)
            bits = with_gradient_of(-hard.log2(), -soft.log2())
            z = z + uniform_noise(z, noise)
        y_bits = (coded * bits).flatten(1).sum(1)
        z_bits = -self.prior_z.likelihood(z, q).log2().flatten(1).sum(1)
        return TrainingOutput(self.g_s(y_hat, q).float(), y_bits, z_bits)


class Latents(NamedTuple):
    """The integers of a file."""

    z: Tensor  # [B, Z, ceil(h/2), ceil(w/2)] int32
    r: Tensor  # [B, M, h, w] int32, residuals in latent steps


def check_magnitude(section: str, symbols: Tensor, largest: int) -> None:
    """Raise CorruptPayloadError where a symbol of a section exceeds ±`largest`."""
    found = int(symbols.long().abs().max())  # of int64: -2**31 has no int32 magnitude
    if found > largest:
        raise CorruptPayloadError(
            f"section {section!r}: expected |{section}| <= {largest}, found {found}"
        )


class HyperpriorCodec:
    """A trained model with its exact part. A `registry.Codec`.

    Args:
        model: float networks; its `h_s` and priors are not used.
        h_s: the exact scale network.
        index_offset: [8, M] integers, in units of 2**-8 of a table row.
        tables_r: one row per scale.
        tables_z: row (integer quality - 1) * Z + channel.
        skip_below: residuals with a smaller index are not coded, they are 0.
    """

    SECTIONS = ("z", "y")
    STRIDE = STRIDE
    OVERLAP = 32  # pixels
    CODES_GREY = False

    def __init__(
        self,
        model: Hyperprior,
        h_s: IntegerNetwork,
        index_offset: Tensor,
        tables_r: FrequencyTables,
        tables_z: FrequencyTables,
        skip_below: int,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.h_s, self.index_offset = h_s, index_offset
        self.tables_r, self.tables_z, self.skip_below = tables_r, tables_z, skip_below

    @property
    def batch_pixels(self) -> int:
        """Tiles are decoded together up to so many pixels."""
        return BATCH_PIXELS[self.index_offset.device.type]

    def encode_tile(self, pixels: NDArray[np.uint8], quality_code: int) -> bytes:
        """Return the payload of a tile [h, w, 3] or, grey, [h, w]."""
        x = torch.from_numpy(pixels.copy()).to(self.index_offset.device)
        x = x[None].expand(3, -1, -1) if x.dim() == 2 else x.permute(2, 0, 1)
        height, width = x.shape[1:]
        x = x[None].float() / 255
        x = pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        latents = self.analyse(x, quality_code)
        writer = Writer()
        self.code(writer, latents, (x.shape[2] // STRIDE, x.shape[3] // STRIDE), quality_code)
        return writer.payload()

    def decode_tiles(
        self,
        payloads: list[bytes],
        width: int,
        height: int,
        quality_code: int,
        is_grey: bool,
        is_faded: bool,
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size, [h, w, 3]: uint8, or float32 if `is_faded`.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        latents = self.decode_latents(payloads, width, height, quality_code)
        x_hat = self.synthesise(latents, quality_code)[:, :, :height, :width]
        pixels = x_hat.clamp_(0, 1).mul_(255).permute(0, 2, 3, 1)
        if is_faded:
            pixels.nan_to_num_()  # hostile latents or weights may overflow
        else:
            pixels = pixels.round().to(torch.uint8)
        return list(pixels.cpu().numpy())

    def decode_latents(
        self, payloads: list[bytes], width: int, height: int, quality_code: int
    ) -> Latents:
        """Return the latents of tiles of one size (pixels) and quality. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        size = (-(-height // STRIDE), -(-width // STRIDE))
        return self.code(Reader(payloads, len(self.SECTIONS)), None, size, quality_code)

    def _quality(self, quality_code: int, batch: int) -> Tensor:
        gain = self.model.log_gain
        return torch.full(
            (batch,), 1 + quality_code / QUALITY_STEPS, dtype=gain.dtype, device=gain.device
        )

    def indexes(self, z: Tensor, quality_code: int, size: tuple[int, int]) -> Tensor:
        """Return the table row of every residual, [B, M, h, w] int64. Exact."""
        offset = interpolate_integers(self.index_offset, quality_code, QUALITY_STEPS)
        index = pixel_shuffle(self.h_s(z), 2)[:, :, : size[0], : size[1]] + offset[:, None, None]
        return ((index + 2 ** (FRACTION_BITS - 1)) >> FRACTION_BITS).clamp(0, N_SCALES - 1)

    @torch.no_grad()
    def analyse(self, x: Tensor, quality_code: int) -> Latents:
        """Return the latents of images [B, 3, H, W] in [0, 1]; H and W multiples of 16."""
        q = self._quality(quality_code, len(x))
        y = self.model.g_a(x, q)
        size = (y.shape[2], y.shape[3])
        gain = at_quality(self.model.log_gain, q).exp()
        even = pad(y * gain, (0, size[1] % 2, 0, size[0] % 2), mode="replicate")
        z = self.model.h_a(even).round().clamp(-Z_MAX, Z_MAX)
        coded = self.indexes(z.long(), quality_code, size) >= self.skip_below
        r = torch.zeros_like(y)

        def residual(mask: Tensor, mean: Tensor) -> Tensor:
            nonlocal r
            step = ((y - mean) * gain).round().clamp(-R_MAX, R_MAX) * coded
            r = r + mask * step
            return step

        self.model.reconstruct_y(z, q, size, residual)
        return Latents(z.int(), r.int())

    def code(
        self, coder: Coder, latents: Latents | None, size: tuple[int, int], quality_code: int
    ) -> Latents:
        """Code latents: encodes one image's with a Writer, decodes a batch with a Reader. Exact.

        Args:
            coder: Writer, or Reader of images of one size and quality.
            latents: with batch size 1 to write, None to read.
            size: h and w of y.
            quality_code: (quality - 1) * 20.

        Raises:
            TruncatedError, CorruptPayloadError: the payload is damaged, or |z| exceeds 127.
        """
        c, device = self.model.config, self.index_offset.device
        z_shape = (coder.batch, c.Z, -(-size[0] // Z_STRIDE), -(-size[1] // Z_STRIDE))
        nearest = (quality_code + QUALITY_STEPS // 2) // QUALITY_STEPS
        rows = nearest * c.Z + torch.arange(c.Z, device=device)
        z = coder.code(
            "z", latents and latents.z, rows[None, :, None, None].expand(z_shape), self.tables_z
        )
        check_magnitude("z", z, Z_MAX)
        indexes = self.indexes(z.long(), quality_code, size)
        r = coder.code("y", latents and latents.r, indexes, self.tables_r, self.skip_below)
        check_magnitude("y", r, R_MAX)
        return Latents(z, r)

    @torch.no_grad()
    def synthesise(self, latents: Latents, quality_code: int) -> Tensor:
        """Return images [B, 3, 16 h, 16 w], nominally in [0, 1]. Float: pixels only."""
        q = self._quality(quality_code, len(latents.z))
        z, r = latents.z.to(q.dtype), latents.r.to(q.dtype)
        y_hat = self.model.reconstruct_y(z, q, (r.shape[2], r.shape[3]), lambda mask, mean: r)
        return self.model.g_s(y_hat, q)


def to_tensors(
    model: Hyperprior, tables_r: FrequencyTables, tables_z: FrequencyTables
) -> dict[str, Tensor]:
    """Return everything a weights file holds: float16 convolutions, float32 tables, integers."""
    tensors = {}
    for name, parameter in model.state_dict().items():
        if not name.startswith(("h_s.", "prior_", "index_offset")):
            tensors[name] = parameter.half() if name.endswith("weight") else parameter.float()
    for name, bits in (("hidden", 0), ("head", FRACTION_BITS)):
        layer = getattr(model.h_s, name)
        for key, value in fixed_point(layer.weight, layer.bias, bits).items():
            tensors[f"exact.{name}.{key}"] = value
    offset = torch.round(model.index_offset.double() * 2**FRACTION_BITS)
    tensors["exact.index_offset"] = offset.to(torch.int32)
    tensors["tables.r"] = torch.from_numpy(tables_r.frequencies)
    tensors["tables.z"] = torch.from_numpy(tables_z.frequencies)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def trainable(tensors: dict[str, Tensor], about: dict[str, Any]) -> Hyperprior:
    """Return the float model that `to_tensors` was given, as near as the integers tell.

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
    """
    codec = from_tensors(tensors, about, "cpu")
    model = codec.model.requires_grad_(True).train()
    with torch.no_grad():
        for layer, name, input_bits in (
            (model.h_s.hidden, "hidden", 0),
            (model.h_s.head, "head", FRACTION_BITS),
        ):
            bits = int(tensors[f"exact.{name}.shift"]) + FRACTION_BITS - input_bits
            weight = tensors[f"exact.{name}.weight"].double() * 2.0**-bits
            layer.weight.copy_(weight.view_as(layer.weight))
            layer.bias.copy_(tensors[f"exact.{name}.bias"].double() * 2.0 ** -(bits + input_bits))
        model.index_offset.copy_(codec.index_offset.double() * 2.0**-FRACTION_BITS)
    model.prior_r.fit(tensors["tables.r"])
    model.prior_z.fit(tensors["tables.z"])
    return model


def from_tensors(tensors: dict[str, Tensor], about: dict[str, Any], device: str) -> HyperpriorCodec:
    """Return the codec that `to_tensors` wrote; `about` has "config" and "skip_below".

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
        WeightsMismatchError: the integer network could leave float64's exact range.
    """
    model = Hyperprior(HyperpriorConfig(**about["config"])).to(device)
    state = {
        name: t.float() for name, t in tensors.items() if not name.startswith(("exact.", "tables."))
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or any(
        not name.startswith(("h_s.", "prior_", "index_offset")) for name in missing
    ):
        raise ValueError(f"missing tensors {missing}, unexpected {unexpected}")
    hidden, head = (
        IntegerLayer(
            tensors[f"exact.{name}.weight"],
            tensors[f"exact.{name}.bias"],
            int(tensors[f"exact.{name}.shift"]),
            kernel,
        )
        for name, kernel in (("hidden", 3), ("head", 1))
    )
    return HyperpriorCodec(
        model.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        IntegerNetwork(hidden, head, input_bound=Z_MAX).to(device),
        tensors["exact.index_offset"].long(),
        FrequencyTables(tensors["tables.r"].cpu().numpy()),
        FrequencyTables(tensors["tables.z"].cpu().numpy()),
        int(about["skip_below"]),
    )
