"""Encodes and decodes tiles by a trained hyperprior: its exact part, and the float networks around it.

    encode   x --g_a--> y --h_a--> z   --code(Writer)--> payload        y_hat by the same steps as the decoder
    decode   payload --code(Reader)--> z, r  (exact) --h_m, context--> y_hat --g_s--> x_hat  (float)

Exact: sections, table indexes (an integer network of z and the quality), tables. specs/hyperprior.md has all of it.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad, pixel_shuffle

from ncodec import coder
from ncodec.coder import Coder
from ncodec.coder.device import DeviceReader
from ncodec.entropy import FrequencyTables
from ncodec.errors import CorruptPayloadError
from ncodec.models.hyperprior.network import STRIDE, Hyperprior, HyperpriorConfig
from ncodec.models.protocol import EncodeOptions, TileFormat
from ncodec.nn.exact import FRACTION_BITS, IntegerLayer, IntegerNetwork, interpolate_integers
from ncodec.nn.gain import at_quality
from ncodec.nn.priors import N_SCALES
from ncodec.quality import N_QUALITIES, QUALITY_STEPS, quality_of

Z_STRIDE = 2  # latents of y per latent of z
Z_MAX = 127  # bound of |z|, for the integer network
R_MAX = 2**15 - 1  # bound of |r|
IN_TRAINING_ONLY = ("h_s.", "prior_", "index_offset")  # the file has integers and tables instead
# Memory grows with what is decoded together (specs/format.md, section 5).
BATCH_PIXELS = {"cpu": 1 << 22, "cuda": 1 << 25}


@dataclass(frozen=True)
class Options(EncodeOptions):
    """No choices yet: the networks were trained for squared error."""

    TUNES: ClassVar[tuple[str, ...]] = ("psnr",)


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


class Writer(coder.Writer):
    """Of tensors, one tile's."""

    batch = 1

    def code(self, section: str, symbols: Any, indexes: Any, *rest: Any) -> Any:
        super().code(section, symbols.int().cpu().numpy(), indexes.cpu().numpy(), *rest)
        return symbols


class Reader(DeviceReader):
    """Of tensors: those of the CPU one tile after the other."""

    def __init__(self, payloads: list[bytes], n_sections: int) -> None:
        super().__init__(payloads, n_sections)
        self.readers = [coder.Reader(payload, n_sections) for payload in payloads]

    def code(self, section: str, symbols: Any, indexes: Tensor, *rest: Any) -> Tensor:
        if indexes.is_cuda:
            return super().code(section, symbols, indexes, *rest)
        pairs = zip(self.readers, indexes.numpy(), strict=True)
        found = [reader.code(section, None, rows, *rest) for reader, rows in pairs]
        return torch.from_numpy(np.stack(found))


class HyperpriorCodec:
    """A trained model with its exact part. A `protocol.Codec`.

    Args:
        model: float networks; its `h_s` and priors are not used.
        h_s: the exact scale network.
        index_offset: [8, M] integers, in units of 2**-8 of a table row.
        tables_r: one row per scale.
        tables_z: row (integer quality - 1) * Z + channel.
        skip_below: residuals with a smaller index are not coded, they are 0.
    """

    SECTIONS = ("z", "y")
    OVERLAP = 32  # pixels

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

    def encode_tile(
        self, pixels: NDArray[np.uint8], quality_code: int, options: EncodeOptions
    ) -> bytes:
        """Return the payload of a tile [h, w, 3] or, grey, [h, w], which is coded as three equal channels."""
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
        self, payloads: list[bytes], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size: uint8, or float32 if they will be faded.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        latents = self.decode_latents(payloads, quality_code, format.width, format.height)
        x_hat = self.synthesise(latents, quality_code)[:, :, : format.height, : format.width]
        pixels = x_hat.clamp_(0, 1).mul_(255).permute(0, 2, 3, 1)
        pixels.nan_to_num_()  # hostile latents or weights may overflow
        if format.is_faded:
            pixels = pixels.mean(3) if format.channels == 1 else pixels
            return list(pixels.cpu().numpy())
        rounded = pixels.round().to(torch.uint8)
        if format.channels == 1:
            rounded = (rounded.sum(3, dtype=torch.int16) + 1).div(3, rounding_mode="floor").byte()
        return list(rounded.cpu().numpy())

    def exact_symbols(self, payload: bytes, quality_code: int, format: TileFormat) -> bytes:
        """Return z and r, int32 little-endian, in coding order."""
        latents = self.decode_latents([payload], quality_code, format.width, format.height)
        return b"".join(part.cpu().numpy().astype("<i4").tobytes() for part in latents)

    def decode_latents(
        self, payloads: list[bytes], quality_code: int, width: int, height: int
    ) -> Latents:
        """Return the latents of tiles of one size (pixels) and quality. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        size = (-(-height // STRIDE), -(-width // STRIDE))
        return self.code(Reader(payloads, len(self.SECTIONS)), None, size, quality_code)

    def _quality(self, quality_code: int, batch: int) -> Tensor:
        gain = self.model.log_gain
        return torch.full((batch,), quality_of(quality_code), dtype=gain.dtype, device=gain.device)

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
        z_shape = (
            coder.batch,  # type: ignore[attr-defined]
            c.Z,
            -(-size[0] // Z_STRIDE),
            -(-size[1] // Z_STRIDE),
        )
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


def _check_tensors(
    tensors: dict[str, Tensor], state: dict[str, Tensor], c: HyperpriorConfig
) -> None:
    """Raise ValueError unless the tensors are those of specs/hyperprior.md, H3; `state` is the networks' own."""
    known: dict[
        str, tuple[torch.dtype | None, tuple[int | None, ...]]
    ]  # None: any float; any length
    known = {name: (None, tuple(tensor.shape)) for name, tensor in state.items()}
    known |= {
        "exact.hidden.weight": (torch.int16, (c.S, 9 * c.Z)),
        "exact.hidden.bias": (torch.int64, (c.S,)),
        "exact.hidden.shift": (torch.int64, ()),
        "exact.head.weight": (torch.int16, (4 * c.M, c.S)),
        "exact.head.bias": (torch.int64, (4 * c.M,)),
        "exact.head.shift": (torch.int64, ()),
        "exact.index_offset": (torch.int32, (N_QUALITIES, c.M)),
        "tables.r": (torch.uint16, (N_SCALES, None)),
        "tables.z": (torch.uint16, (N_QUALITIES * c.Z, None)),
    }
    if strange := sorted(tensors.keys() ^ known.keys()):
        raise ValueError(f"{strange[0]}: {'unknown' if strange[0] in tensors else 'missing'}")
    for name, (kind, shape) in known.items():
        tensor = tensors[name]
        if not (tensor.dtype == kind if kind else tensor.is_floating_point()):
            raise ValueError(f"{name}: expected {kind or 'floats'}, found {tensor.dtype}")
        sides = zip(shape, tensor.shape, strict=False)
        if tensor.dim() != len(shape) or any(side not in (None, found) for side, found in sides):
            raise ValueError(f"{name}: expected {list(shape)}, found {list(tensor.shape)}")


def make_codec(tensors: dict[str, Any], about: dict[str, Any], device: str) -> HyperpriorCodec:
    """Return the codec of a weights file (specs/hyperprior.md); `about` has "config" and "skip_below".

    Raises:
        ValueError, KeyError, RuntimeError: tensors are missing or of the wrong shape.
        WeightsMismatchError: the integer network could leave float64's exact range.
    """
    tensors = {name: torch.as_tensor(tensor, device=device) for name, tensor in tensors.items()}
    model = Hyperprior(HyperpriorConfig(**about["config"])).to(device)
    own = {k: t for k, t in model.state_dict().items() if not k.startswith(IN_TRAINING_ONLY)}
    _check_tensors(tensors, own, model.config)
    model.load_state_dict({name: tensors[name].float() for name in own}, strict=False)
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
        _skip_below(about["skip_below"]),
    )


def _skip_below(found: Any) -> int:
    if type(found) is not int or not 0 <= found <= N_SCALES:
        raise ValueError(f"skip_below: expected 0 to {N_SCALES}, found {found!r}")
    return found
