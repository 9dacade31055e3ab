"""Encodes and decodes tiles by a trained hyperprior, in integers from end to end: every machine decodes the same pixels.

    encode   pixels --analysis--> y, z --closing--> indexes, r --code(Writer)--> payload
    decode   payload --code(Reader)--> z --indexing--> indexes --code(Reader)--> r;  z, r --synthesis--> pixels

The networks are graphs.py's; specs/hyperprior.md has all of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncodec.coder import Coder, Reader, Writer
from ncodec.container import Parts
from ncodec.entropy import FrequencyTables
from ncodec.entropy.neighbours import NAMES, NeighbourCoder
from ncodec.errors import CorruptPayloadError, InputError, named, needing
from ncodec.exact.network import (
    LARGEST,
    PIXEL_BITS,
    Array,
    Layer,
    Network,
    at_quality,
    checked_bits,
    image_input,
    in_colour,
)
from ncodec.image.picture import to_depth
from ncodec.models.hyperprior import graphs
from ncodec.models.hyperprior.layers import (
    R_MAX,
    Z_STRIDE,
    HyperpriorConfig,
    check_hyperprior,
    layers,
)
from ncodec.models.protocol import EncodeOptions, TileFormat, only_payload
from ncodec.models.weights import checked_skip
from ncodec.nn import STRIDE
from ncodec.threads import get_num_threads

if TYPE_CHECKING:
    from ncodec.models.hyperprior.device import DeviceCodec
    from ncodec.models.hyperprior.network import Hyperprior

REFINEMENTS = {1: 0, 2: 5, 3: 20}  # steps of anneal.py, by effort
USUAL_EFFORT = 1


@dataclass(frozen=True)
class Options(EncodeOptions):
    """Efforts above 1 refine the latents, with torch."""

    EFFORTS: ClassVar[tuple[int, ...]] = tuple(REFINEMENTS)


class Latents(NamedTuple):
    """The integers of a file, and what they are coded with."""

    z: NDArray[np.int16]  # [ceil(h/2), ceil(w/2), Z]
    indexes: NDArray[np.int16]  # [h, w, M], rows of the tables of r
    r: NDArray[np.int16]  # [h, w, M], residuals in latent steps


class HyperpriorCodec:
    """A trained model. A `protocol.Codec`.

    Args:
        tensors: of the weights file.
        config: sizes of the networks.
        skip_below: residuals with a smaller index are not coded, they are 0.
        fraction_bits: of the tensors (layers.py); empty: no efforts above 1.
        tune: of the weights, which efforts above 1 follow.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    graphs: ClassVar[Any] = graphs  # the networks
    SECTIONS = ("z", "y")
    OVERLAP = 32  # pixels
    ONE_THREAD = False
    batch_pixels = 0

    def __init__(
        self,
        tensors: Mapping[str, Array],
        config: HyperpriorConfig,
        skip_below: int,
        fraction_bits: Mapping[str, int],
        tune: str = "psnr",
    ) -> None:
        self.tensors, self.config, self.skip_below = tensors, config, skip_below
        self.fraction_bits, self.tune = fraction_bits, tune
        self.tables_r = FrequencyTables(tensors["tables.r"])
        own = {name: tensors[f"neighbours.{name}"] for name in NAMES}
        self.neighbours = NeighbourCoder(own, FrequencyTables(tensors["tables.z"]))
        self._indexing = self.graphs.indexing(tensors, config)
        self._synthesis = self.graphs.synthesis(tensors, config)

    @cached_property
    def _analysis(self) -> Network:
        with named("weights: "):
            return self.graphs.analysis(self.tensors, self.config)

    @cached_property
    def _closing(self) -> Network:
        with named("weights: "):
            return self.graphs.closing(self.tensors, self.config, self.skip_below)

    def _run(self, network: Network, quality_code: int, *wanted: str, **feeds: Any) -> list[Any]:
        known = graphs.vectors(self.tensors, quality_code) | feeds
        return network.run(known, wanted, get_num_threads())

    def on_device(self, device: str) -> "DeviceCodec":
        """Return the codec that decodes on a device. Needs torch."""
        from ncodec.models.hyperprior.device import DeviceCodec

        return DeviceCodec(
            self.tensors, self.config, self.skip_below, self.fraction_bits, device, self.tune
        )

    def layout(self, quality_code: int, options: EncodeOptions) -> tuple[int, int]:
        """Return (1, 1): one layer and range."""
        return 1, 1

    def encode_tile(
        self,
        pixels: NDArray[Any],
        quality_code: int,
        options: EncodeOptions,
        bit_depth: int = 8,
    ) -> Parts:
        """Return the payload of a tile [h, w, 3] or, grey, [h, w], which is coded as three equal channels."""
        latents = self.analyse(pixels, quality_code, options.effort or USUAL_EFFORT, bit_depth)
        writer = Writer()
        self.code(writer, latents, latents.r.shape[:2], quality_code)
        return [[writer.payload()]]

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size: integers, or float32, in 1/64, if they will be faded. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        tiles = []
        for parts in payloads:
            payload = only_payload(parts)
            latents = self.decode_latents(payload, quality_code, format.width, format.height)
            pixels = self.synthesise(latents, quality_code, format.is_rounded)
            tiles.append(format.finished(pixels[: format.height, : format.width], PIXEL_BITS))
        return tiles

    def decode_latents(self, payload: bytes, quality_code: int, width: int, height: int) -> Latents:
        """Return the latents of a tile (pixels).

        Raises:
            TruncatedError, CorruptPayloadError: the payload is damaged.
        """
        size = (-(-height // STRIDE), -(-width // STRIDE))
        return self.code(Reader(payload, len(self.SECTIONS)), None, size, quality_code)

    def analyse(
        self,
        pixels: NDArray[Any],
        quality_code: int,
        effort: int = USUAL_EFFORT,
        bit_depth: int = 8,
    ) -> Latents:
        """Return the latents of an image [h, w, 3] or [h, w].

        Raises:
            InputError: an effort above 1 where torch or `fraction_bits` are missing.
        """
        y, z = self._run(self._analysis, quality_code, "y", "z", x=image_input(pixels, bit_depth))
        indexes, r = self._run(self._closing, quality_code, "indexes", "r", y=y, z=z)
        if steps := REFINEMENTS[effort]:
            if not self.fraction_bits:
                raise InputError(f"effort {effort}: the weights file has no fraction_bits")
            with needing(f"effort {effort}", "torch"):
                from ncodec.models.hyperprior import anneal
            unit = np.float32(2.0 ** self.fraction_bits["y"])
            padding = [(0, -side % STRIDE) for side in pixels.shape[:2]]
            padded = np.pad(in_colour(to_depth(pixels, bit_depth, 8)), [*padding, (0, 0)], "edge")
            y = anneal.refine(
                self._floats, padded, quality_code, y / unit, z, indexes, self.tables_r, self.skip_below, steps, self.tune
            )  # fmt: skip
            y = np.rint(np.nan_to_num(y * unit)).clip(-LARGEST, LARGEST).astype(np.int16)
            indexes, r = self._run(self._closing, quality_code, "indexes", "r", y=y, z=z)
        return Latents(z, indexes, r)

    @cached_property
    def _floats(self) -> "Hyperprior":
        """The float network of these integers."""
        import torch

        model = self._from_integers().eval().requires_grad_(False)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _from_integers(self) -> "Hyperprior":
        from ncodec.models.hyperprior.quantise import from_integers

        return from_integers(self.tensors, self.config, self.fraction_bits)

    def code(
        self, coder: Coder, latents: Latents | None, size: tuple[int, ...], quality_code: int
    ) -> Latents:
        """Code the latents of a tile: with a Writer those given, with a Reader those of the file.

        Args:
            coder: Writer or Reader.
            latents: to write; None to read.
            size: h and w of y.
            quality_code: (quality - 1) * 20.

        Raises:
            TruncatedError, CorruptPayloadError: the payload is damaged, or |z| exceeds 127, or |r| 32767.
        """
        z = coder.code_grid(
            "z", latents and latents.z, z_size(size), self.neighbours, self.z_offset(quality_code)
        )
        indexes = latents.indexes if latents else self.indexes(z, quality_code, size)
        r = latents and latents.r.astype(np.int32)
        r = coder.code("y", r, indexes, self.tables_r, self.skip_below)
        check_r(max(int(r.max()), -int(r.min())))
        return Latents(z, indexes, r.astype(np.int16))

    def z_offset(self, quality_code: int) -> NDArray[np.int16]:
        """Return what the quality adds to means and widths of z."""
        return at_quality(self.tensors["neighbours.offset"], quality_code).astype(np.int16)

    def indexes(self, z: Any, quality_code: int, size: tuple[int, ...]) -> Any:
        """Return the table row of every residual [h, w, M]; `size` is h and w."""
        grid = np.zeros((*size, 1), np.int16)
        return self._run(self._indexing, quality_code, "indexes", z=z, grid=grid)[0]

    def synthesise(self, latents: Latents, quality_code: int, is_rounded: bool = True) -> Any:
        """Return pixels [16 h, 16 w, 3] int16: 0 … 255, or, not rounded, in 1/64 of these."""
        wanted = "pixels" if is_rounded else "unrounded"
        return self._run(self._synthesis, quality_code, wanted, z=latents.z, r=latents.r)[0]


def z_size(size: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of z, of those of y."""
    height, width = size
    return -(-height // Z_STRIDE), -(-width // Z_STRIDE)


def check_r(largest: int) -> None:
    """Raise CorruptPayloadError unless the largest |r| of a section is one that the networks take."""
    if largest > R_MAX:
        raise CorruptPayloadError(f"section 'y': expected |r| <= {R_MAX}, found {largest}")


def make_codec(tensors: dict[str, Array], about: dict[str, Any], device: str) -> HyperpriorCodec:
    """Return the codec of a weights file (specs/hyperprior.md); `about` has "config" and "skip_below".

    Without "fraction_bits" there are no efforts above 1.

    Raises:
        ValueError, KeyError, TypeError: tensors are missing or of the wrong shape.
        InputError: sizes that no model has.
        WeightsMismatchError: integers that specs/exact.md forbids.
    """
    config = HyperpriorConfig(**about["config"])
    check_hyperprior(tensors, config)
    return loaded(HyperpriorCodec, tensors, config, layers(config), about, device)


def loaded(
    kind: "type[HyperpriorCodec]",
    tensors: dict[str, Array],
    config: HyperpriorConfig,
    layers: Iterator[Layer],
    about: dict[str, Any],
    device: str,
) -> HyperpriorCodec:
    """Return a codec of tensors that have been checked, after what the file says beside them."""
    fraction_bits = checked_bits(about["fraction_bits"], layers) if "fraction_bits" in about else {}
    codec = kind(tensors, config, checked_skip(about), fraction_bits, about.get("tune", "psnr"))
    return codec if device == "cpu" else codec.on_device(device)
