"""Encodes and decodes tiles by a trained masked transformer, in integers from end to end: every machine decodes the same.

    step 0 … S-1, groups of places of all windows:
        surroundings --> asking --f--> head 0 --mean, index--> code r --> y_hat ... head 1 ... head 2
                                         ^                                                 |
                                         +---- keys, values ---- telling <-----------------+

encode and decode are one text, `code`: with a Writer it writes the residuals of y, with a Reader it reads them. The
networks are graphs.py's, the schedule is schedule.py's; specs/masked.md has all of it.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncodec.coder import Coder, Reader, Writer
from ncodec.container import Parts
from ncodec.entropy import FrequencyTables
from ncodec.errors import CorruptPayloadError, named
from ncodec.exact.network import (
    LARGEST,
    PIXEL_BITS,
    Array,
    Network,
    checked_bits,
    image_input,
)
from ncodec.models.masked import graphs
from ncodec.models.masked.layers import MaskedConfig, check_masked, layers
from ncodec.models.masked.schedule import batches
from ncodec.models.masked.transformer import Kept, Passes
from ncodec.models.protocol import EncodeOptions, TileFormat, only_payload
from ncodec.models.weights import checked_skip
from ncodec.nn import STRIDE
from ncodec.threads import get_num_threads

Int16 = NDArray[np.int16]


Options = EncodeOptions  # none: there is one effort


class MaskedCodec:
    """A trained model. A `protocol.Codec`.

    Args:
        tensors: of the weights file.
        config: sizes of the networks.
        skip_below: residuals with a smaller index are not coded, they are 0.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    OVERLAP = 32  # pixels
    ONE_THREAD = False
    batch_pixels = 0

    def __init__(self, tensors: Mapping[str, Array], config: MaskedConfig, skip_below: int) -> None:
        c = self.config = config
        self.tensors, self.skip_below = tensors, skip_below
        self.tables_r = FrequencyTables(tensors["tables.r"])
        self._surroundings = [graphs.surroundings(tensors, c, step) for step in range(c.steps)]
        self._heads = [graphs.head(tensors, c, a) for a in range(len(c.slices))]
        self._opening = [graphs.opening(tensors, c, a) for a in range(len(c.slices))]
        self._synthesis = graphs.synthesis(tensors, c)
        self._transformer = (Passes if c.passes == "mt" else Kept)(tensors, c)

    @cached_property
    def _analysis(self) -> Network:
        with named("weights: "):
            return graphs.analysis(self.tensors, self.config)

    @cached_property
    def _closing(self) -> list[Network]:
        with named("weights: "):
            slices = range(len(self.config.slices))
            return [graphs.closing(self.tensors, self.config, a, self.skip_below) for a in slices]

    def _run(self, network: Network, known: Mapping[str, Array], *wanted: str) -> list[Any]:
        return network.run(known, wanted, get_num_threads())

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
        y = self.analyse(pixels, quality_code, bit_depth)
        writer = Writer()
        self.code(writer, y, y.shape[:2], quality_code)
        return [[writer.payload()]]

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size: integers, or float32, in 1/64, if they will be faded. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        size = (-(-format.height // STRIDE), -(-format.width // STRIDE))
        tiles = []
        for parts in payloads:
            y_hat = self.code(Reader(only_payload(parts), 1), None, size, quality_code)
            pixels = self.synthesise(y_hat, quality_code, format.is_rounded)
            tiles.append(format.finished(pixels[: format.height, : format.width], PIXEL_BITS))
        return tiles

    def analyse(self, pixels: NDArray[Any], quality_code: int, bit_depth: int = 8) -> Int16:
        """Return y [h, w, M] of an image [H, W, 3] or [H, W]."""
        known = graphs.vectors(self.tensors, self.config, quality_code)
        return self._run(self._analysis, known | {"x": image_input(pixels, bit_depth)}, "y")[0]

    def synthesise(self, y_hat: Int16, quality_code: int, is_rounded: bool = True) -> Int16:
        """Return pixels [16 h, 16 w, 3]: 0 … 255, or, not rounded, in 1/64 of these."""
        known = graphs.vectors(self.tensors, self.config, quality_code) | {"y_hat": y_hat}
        return self._run(self._synthesis, known, "pixels" if is_rounded else "unrounded")[0]

    def code(
        self, coder: Coder, y: Int16 | None, size: tuple[int, ...], quality_code: int
    ) -> Int16:
        """Code the latents of a tile, with a Writer those given, with a Reader those of the file; return y_hat [h, w, M].

        Args:
            coder: Writer or Reader.
            y: [h, w, M], to write; None to read.
            size: h and w.
            quality_code: (quality - 1) * 20.

        Raises:
            TruncatedError, CorruptPayloadError: the payload is damaged, or |r| exceeds 32767.
        """
        c, height, width = self.config, *size
        vectors = graphs.vectors(self.tensors, c, quality_code)

        def run(network: Network, *wanted: str, **feeds: Array) -> list[Any]:
            return self._run(network, vectors | feeds, *wanted)

        n_symbols = height * width * c.M
        coded = coder.code_steps("y", n_symbols, self.tables_r, self.skip_below)
        y_hat = np.zeros((height, width, c.M), np.int16)
        content = np.zeros((height, width, c.D), np.int16)
        transformer = self._transformer.start(run, size)
        for step, plan in enumerate(batches(height, width, c.steps)):
            near, *around = run(
                self._surroundings[step], "near", "linear", "energy", content=content, y_hat=y_hat
            )
            for batch in plan:
                f = transformer.ask(batch, step, near, content)
                here = batch.rows, batch.columns
                known = np.empty((*batch.rows.shape, c.M), np.int16)
                linear, energy = (plane[here] for plane in around)  # [W, n, M]
                for a in range(len(c.slices)):
                    channels = c.slice(a)
                    before = np.ascontiguousarray(known[..., : channels.start])
                    mean, index = run(
                        self._heads[a], "mean", "index", f=f, y_hat=before,
                        linear=np.ascontiguousarray(linear[..., channels]),
                        energy=np.ascontiguousarray(energy[..., channels]),
                    )  # fmt: skip
                    r = None
                    if y is not None:
                        there = np.ascontiguousarray(y[here][..., channels])
                        (r,) = run(self._closing[a], "r", y=there, mean=mean, index=index)
                    r = check_r(coded.code(r, index))
                    (known[..., channels],) = run(self._opening[a], "y_hat", mean=mean, r=r)
                y_hat[here] = known
                if step + 1 < c.steps:
                    content[here] = transformer.tell(batch, near, known)
        coded.finish()
        return y_hat


def check_r(r: NDArray[np.int32]) -> Int16:
    """Return residuals as the networks take them; CorruptPayloadError unless they are within ±32767."""
    largest = max(int(r.max()), -int(r.min()))
    if largest > LARGEST:
        raise CorruptPayloadError(f"section 'y': expected |r| <= {LARGEST}, found {largest}")
    return r.astype(np.int16)


def make_codec(tensors: dict[str, Array], about: dict[str, Any], device: str) -> MaskedCodec:
    """Return the codec of a weights file (specs/masked.md); `about` has "config" and "skip_below".

    Raises:
        ValueError, KeyError, TypeError: tensors are missing or of the wrong shape.
        InputError: sizes that no model has.
        WeightsMismatchError: integers that specs/exact.md forbids.
    """
    config = MaskedConfig(**about["config"])
    check_masked(tensors, config)
    if "fraction_bits" in about:
        checked_bits(about["fraction_bits"], layers(config))
    skip_below = checked_skip(about)
    if device == "cpu":
        return MaskedCodec(tensors, config, skip_below)
    from ncodec.models.masked.device import DeviceCodec  # needs torch

    return DeviceCodec(tensors, config, skip_below, device)
