"""Encodes and decodes tiles by a trained frequency-aware transformer, in integers: every machine decodes the same pixels.

    z --knowing--> features, base
    slice 0 … 3:   features, base, y_hat so far --slicing--> mean, indexes --> code r --> y_hat with the slice
    y_hat --synthesis--> pixels

encode and decode are one text, `code`: with a Writer it writes the residuals of y, with a Reader it reads them. The
networks are graphs.py's; specs/ftic.md has all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ncodec.coder import Coder, Reader, Writer
from ncodec.container import Parts
from ncodec.entropy import FrequencyTables
from ncodec.errors import named
from ncodec.exact.network import PIXEL_BITS, Array, Network, checked_bits, image_input
from ncodec.models.ftic import graphs
from ncodec.models.ftic.layers import STEPS, FticConfig, check_ftic, layers
from ncodec.models.hyper import (
    REFINEMENTS,
    USUAL_EFFORT,
    check_r,
    checked_skip,
    hyper_vectors,
    neighbour_coder,
    refined,
    z_offset,
    z_size,
)
from ncodec.models.protocol import EncodeOptions, TileFormat, only_payload
from ncodec.nn import STRIDE
from ncodec.threads import get_num_threads

if TYPE_CHECKING:
    from ncodec.models.ftic.network import Ftic

Int16 = NDArray[np.int16]
ORDER = np.array([[0, 2], [3, 1]])  # X18: p


@dataclass(frozen=True)
class Options(EncodeOptions):
    """Efforts above 1 refine the latents, with torch; the networks were trained for squared error."""

    EFFORTS: ClassVar[tuple[int, ...]] = tuple(REFINEMENTS)
    TUNES: ClassVar[tuple[str, ...]] = ("psnr",)


class FticCodec:
    """A trained model. A `protocol.Codec`.

    Args:
        tensors: of the weights file.
        config: sizes of the networks.
        skip_below: residuals with a smaller index are not coded, they are 0.
        fraction_bits: of the tensors (layers.py); empty: no efforts above 1.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    SECTIONS = ("z", "y")
    OVERLAP = 32  # pixels
    batch_pixels = 0

    def __init__(
        self,
        tensors: Mapping[str, Array],
        config: FticConfig,
        skip_below: int,
        fraction_bits: Mapping[str, int],
    ) -> None:
        c = self.config = config
        self.tensors, self.skip_below = tensors, skip_below
        self.fraction_bits = fraction_bits
        self.tables_r = FrequencyTables(tensors["tables.r"])
        self.neighbours = neighbour_coder(tensors)
        self._knowing = graphs.knowing(tensors, c)
        self._slicing = [graphs.slicing(tensors, c, step) for step in range(STEPS)]
        self._opening = [graphs.opening(tensors, c, step) for step in range(STEPS)]
        self._synthesis = graphs.synthesis(tensors, c)

    @cached_property
    def _analysis(self) -> Network:
        with named("weights: "):
            return graphs.analysis(self.tensors, self.config)

    @cached_property
    def _closing(self) -> Network:
        with named("weights: "):
            return graphs.closing(self.tensors, self.config, self.skip_below)

    def _run(self, network: Network, known: Mapping[str, Array], *wanted: str) -> list[Any]:
        return network.run(known, wanted, get_num_threads())

    def layout(self, quality_code: int, options: EncodeOptions) -> tuple[int, int]:
        """Return (1, 1): one layer and range."""
        return 1, 1

    def encode_tile(
        self, pixels: NDArray[np.uint8], quality_code: int, options: EncodeOptions
    ) -> Parts:
        """Return the payload of a tile [h, w, 3] or, grey, [h, w], which is coded as three equal channels."""
        y, z = self.analyse(pixels, quality_code, options.effort or USUAL_EFFORT)
        writer = Writer()
        self.code(writer, (y, z), y.shape[:2], quality_code)
        return [[writer.payload()]]

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size: uint8, or float32, in 1/64, if they will be faded. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        size = (-(-format.height // STRIDE), -(-format.width // STRIDE))
        tiles = []
        for parts in payloads:
            reader = Reader(only_payload(parts), len(self.SECTIONS))
            y_hat, _ = self.code(reader, None, size, quality_code)
            pixels = self.synthesise(y_hat, quality_code, not format.is_faded)
            tiles.append(format.finished(pixels[: format.height, : format.width], PIXEL_BITS))
        return tiles

    def analyse(
        self, pixels: NDArray[np.uint8], quality_code: int, effort: int = USUAL_EFFORT
    ) -> tuple[Int16, Int16]:
        """Return y [h, w, M] and z [h/2, w/2, Z] of an image [H, W, 3] or [H, W].

        Raises:
            InputError: an effort above 1 where torch or `fraction_bits` are missing.
        """
        known = hyper_vectors(self.tensors, quality_code) | {"x": image_input(pixels)}
        y, z = self._run(self._analysis, known, "y", "z")
        if REFINEMENTS[effort]:
            _, indexes = self.code(Writer(), (y, z), y.shape[:2], quality_code)
            y = refined(
                lambda: self._floats, self.fraction_bits.get("y"), effort, pixels, quality_code, (y, z, indexes),
                self.tables_r, self.skip_below,
            )  # fmt: skip
        return y, z

    @cached_property
    def _floats(self) -> "Ftic":
        """The float network of these integers."""
        import torch

        from ncodec.models.ftic.quantise import from_integers

        model = from_integers(self.tensors, self.config, self.fraction_bits)
        model = model.eval().requires_grad_(False)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def synthesise(self, y_hat: Int16, quality_code: int, is_rounded: bool = True) -> Any:
        """Return pixels [16 h, 16 w, 3] int16: 0 … 255, or, not rounded, in 1/64 of these."""
        known = hyper_vectors(self.tensors, quality_code) | {"y_hat": y_hat}
        return self._run(self._synthesis, known, "pixels" if is_rounded else "unrounded")[0]

    def code(
        self,
        coder: Coder,
        latents: tuple[Int16, Int16] | None,
        size: tuple[int, ...],
        quality_code: int,
    ) -> tuple[Int16, Int16]:
        """Code the latents of a tile, with a Writer those given, with a Reader those of the file; return y_hat and indexes [h, w, M].

        Args:
            coder: Writer or Reader.
            latents: y [h, w, M] and z, to write; None to read.
            size: h and w.
            quality_code: (quality - 1) * 20.

        Raises:
            TruncatedError, CorruptPayloadError: the payload is damaged, or |z| exceeds 127, or |r| 32767.
        """
        vectors = hyper_vectors(self.tensors, quality_code)
        y, z = latents or (None, None)
        z = coder.code_grid("z", z, z_size(size), self.neighbours, self.z_offset(quality_code))
        known = vectors | {"z": z, "grid": np.zeros((*size, 1), np.int16)}
        features, base = self._run(self._knowing, known, "features", "base")
        known = vectors | {"features": features, "base": base}
        if y is not None:
            known["y"] = y
        shape = (*size, self.config.M)
        indexes = np.empty(shape, np.int16)
        coded = coder.code_steps("y", int(np.prod(shape)), self.tables_r, self.skip_below)
        for step, places in enumerate(places_of(shape)):
            slicing = self._slicing[step]
            found = dict(
                zip(slicing.outputs, self._run(slicing, known, *slicing.outputs), strict=True)
            )
            known |= found  # mean, indexes, keys, values
            rows, symbols = found["indexes"].ravel()[places], None
            if y is not None:
                (r,) = self._run(self._closing, known, "r")
                symbols = r.ravel()[places].astype(np.int32)
            symbols = coded.code(symbols, rows)
            check_r(max(int(symbols.max(initial=0)), -int(symbols.min(initial=0))))
            r = np.zeros(shape, np.int16)
            r.ravel()[places], indexes.ravel()[places] = symbols, rows
            (known["y_hat"],) = self._run(self._opening[step], known | {"r": r}, "y_hat")
        coded.finish()
        return known["y_hat"], indexes

    def z_offset(self, quality_code: int) -> NDArray[np.int16]:
        """Return what the quality adds to means and widths of z."""
        return z_offset(self.tensors, quality_code)


def places_of(shape: tuple[int, ...]) -> list[NDArray[np.intp]]:
    """Return which latents of y [h, w, M] each slice has, as indexes of y flattened, ascending: those of X18's steps."""
    i, j, c = (np.arange(side) for side in shape)
    step = (ORDER[i[:, None] % 2, j % 2][:, :, None] + c) % STEPS
    return [np.flatnonzero(step == k) for k in range(STEPS)]


def make_codec(tensors: dict[str, Array], about: dict[str, Any], device: str) -> FticCodec:
    """Return the codec of a weights file (specs/ftic.md); `about` has "config" and "skip_below".

    Raises:
        ValueError, KeyError, TypeError: tensors are missing or of the wrong shape.
        InputError: sizes that no model has.
        WeightsMismatchError: integers that specs/exact.md forbids.
    """
    config = FticConfig(**about["config"])
    check_ftic(tensors, config)
    fraction_bits = (
        checked_bits(about["fraction_bits"], layers(config)) if "fraction_bits" in about else {}
    )
    skip_below = checked_skip(about)
    if device == "cpu":
        return FticCodec(tensors, config, skip_below, fraction_bits)
    from ncodec.models.ftic.device import DeviceCodec  # needs torch

    return DeviceCodec(tensors, config, skip_below, fraction_bits, device)
