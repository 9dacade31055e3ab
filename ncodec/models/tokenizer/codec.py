"""Encodes and decodes tiles as grids of tokens, in integers from end to end: every machine decodes the same pixels.

    encode   pixels --analysis--> v --quantised stage by stage--> tokens --coder--> a payload for each stage and range
    decode   payloads --coder--> tokens --values--> c --synthesis--> pixels         lost ranges: filling.py

The networks are graphs.py's; specs/tokenizer.md has all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ncodec.container import Parts
from ncodec.entropy.tokens import TokenCoder
from ncodec.errors import CorruptPayloadError, InputError, named
from ncodec.exact.network import PIXEL_BITS, Array, checked_bits, gain_at
from ncodec.models.protocol import EncodeOptions, TileFormat
from ncodec.models.tokenizer import graphs
from ncodec.models.tokenizer.analysis import Analyser
from ncodec.models.tokenizer.filling import conceal
from ncodec.models.tokenizer.layers import GAINS, check_tokenizer, layers
from ncodec.models.tokenizer.masked import Masked, MaskedConfig
from ncodec.models.tokenizer.stages import STRIDE, TokenizerConfig, depth_of_last, n_stages
from ncodec.quality import QUALITY_STEPS, quality_of
from ncodec.threads import get_num_threads

MOST_RANGES = 256


@dataclass(frozen=True)
class Options(EncodeOptions):
    """Rows of tokens travel in ranges, each of which can be lost without the others."""

    ranges: int = 1

    EFFORTS: ClassVar[tuple[int, ...]] = (1, 2)  # 2: P from the masked transformer

    def __post_init__(self) -> None:
        if not 1 <= self.ranges <= MOST_RANGES:
            raise InputError(f"ranges: expected 1 to {MOST_RANGES}, found {self.ranges}")

    @classmethod
    def efforts(cls, about: Mapping[str, Any]) -> tuple[int, ...]:
        """Return (1, 2) of weights that have a masked transformer."""
        return cls.EFFORTS if "masked" in about else (1,)

    @property
    def is_second(self) -> bool:
        """Whether P is the masked transformer's."""
        return self.effort == 2


class TokenizerCodec:
    """A trained model. A `protocol.Codec`.

    Args:
        tensors: of the weights file.
        config: sizes of the networks.
        more: of the masked transformer, if the weights have one.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    OVERLAP = 32  # pixels
    ONE_THREAD = False
    batch_pixels = 0

    def __init__(
        self,
        tensors: Mapping[str, Array],
        config: TokenizerConfig,
        more: MaskedConfig | None = None,
    ) -> None:
        self.tensors, self.config = tensors, config
        self.stages = config.stages
        self.coder = TokenCoder(config.stages, tensors)
        self._synthesis = graphs.synthesis(tensors, config)
        self._masked = Masked(tensors, more, config.stages) if more else None

    @cached_property
    def _analyser(self) -> Analyser:
        return Analyser(self.tensors, self.config)

    def layout(self, quality_code: int, options: EncodeOptions) -> tuple[int, int]:
        """Return the layers of a file, its stages, and the ranges of each."""
        assert isinstance(options, Options)
        if options.is_second and self._masked is None:
            raise InputError(
                "effort: expected 1, as these weights have no masked transformer, found 2"
            )
        return n_stages(quality_code), options.ranges

    def encode_tile(
        self,
        pixels: NDArray[Any],
        quality_code: int,
        options: EncodeOptions,
        bit_depth: int = 8,
    ) -> Parts:
        """Return the payloads of a tile [h, w, 3] or, grey, [h, w], which is coded as three equal channels."""
        assert isinstance(options, Options)
        tokens = self.analyse(pixels, quality_code, bit_depth)
        return self.write(tokens, quality_code, options.ranges, options.is_second)

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size: integers, or float32, in 1/64, if they will be faded. Exact.

        Payloads may be of the first stages only; of those that are None, tokens are filled in.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        size = (-(-format.height // STRIDE), -(-format.width // STRIDE))
        tiles = []
        for parts in payloads:
            tokens = self.read(parts, quality_code, size, format.is_second)
            pixels = self.synthesise(tokens, quality_code, format.is_rounded)
            tiles.append(format.finished(pixels[: format.height, : format.width], PIXEL_BITS))
        return tiles

    def analyse(
        self, pixels: NDArray[Any], quality_code: int, bit_depth: int = 8
    ) -> NDArray[np.int32]:
        """Return the tokens [n, h, w] of an image [H, W, 3] or [H, W]: n stages, the last to its depth."""
        return self._analyser.tokens(pixels, quality_code, bit_depth)

    def synthesise(
        self, tokens: NDArray[np.int32], quality_code: int, is_rounded: bool = True
    ) -> NDArray[np.int16]:
        """Return pixels [16 h, 16 w, 3]: 0 … 255, or, not rounded, in 1/64 of these. Exact.

        Args:
            tokens: [n, h, w], of any n first stages; -1 is absent and filled in.
            quality_code: of the file; where there are fewer stages, the picture is that of a lower quality.
            is_rounded: whether pixels are whole.
        """
        is_whole = len(tokens) == n_stages(quality_code)
        known = quality_code if is_whole else QUALITY_STEPS * (len(tokens) - 1)
        depth = depth_of_last(known, self.stages)
        c, is_known = self.coder.values(tokens, depth), tokens >= 0
        if not is_known.all():
            conceal(is_known[0], c[:, :, : self.stages[0].n_values])
            if self._masked:  # a last stage in part is not filled in
                n_filled = len(tokens) - (depth < self.stages[len(tokens) - 1].units)
                self._masked.filling.fill(c, is_known, n_filled)
        feeds: dict[str, Array] = {"c": c}
        for name, _, _ in GAINS:
            feeds |= gain_at(self.tensors, name, known)
        return self._pixels(feeds, "pixels" if is_rounded else "unrounded")

    def _pixels(self, feeds: dict[str, Array], wanted: str) -> NDArray[np.int16]:
        return self._synthesis.run(feeds, (wanted,), get_num_threads())[0]

    def write(
        self,
        tokens: NDArray[np.int32],
        quality_code: int,
        ranges: int = 1,
        is_second: bool = False,
    ) -> Parts:
        """Return the payloads of tokens [n, h, w], [n][ranges]; what each holds is spread over the rows evenly.

        Args:
            tokens: none of them absent.
            quality_code: of the file.
            ranges: of rows.
            is_second: whether P is the masked transformer's.

        Raises:
            InputError: a token is out of range, or goes deeper than the quality.
        """
        depth = depth_of_last(quality_code, self.stages)
        if (deeper := tokens[-1] != self.stages[len(tokens) - 1].cut(tokens[-1], depth)).any():
            found = int(tokens[-1][deeper][0])
            raise InputError(
                f"tokens: stage {len(tokens)} of quality {quality_of(quality_code):g} has {depth} of "
                f"{self.stages[len(tokens) - 1].units} digits, found a token with more, {found}"
            )
        coder = self._second if is_second else self.coder
        return [
            [
                coder.encode(tokens, s, self._depth(s, len(tokens), depth), first, end)
                for first, end in rows_of(tokens.shape[1], ranges)
            ]
            for s in range(len(tokens))
        ]

    def read(
        self, parts: Parts, quality_code: int, size: tuple[int, int], is_second: bool = False
    ) -> NDArray[np.int32]:
        """Return the tokens [n, h, w] of a file's payloads; -1 in ranges that are lost, or whose coarser ones are.

        Args:
            parts: [n][ranges], of the first n stages.
            quality_code: of the file.
            size: h and w.
            is_second: whether P is the masked transformer's.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        coder = self._second if is_second else self.coder
        tokens = np.full((len(parts), *size), -1, np.int32)
        n, depth = n_stages(quality_code), depth_of_last(quality_code, self.stages)
        if len(parts) > n:
            raise CorruptPayloadError(
                f"header: expected at most {n} layers at quality {quality_of(quality_code):g}, found {len(parts)}"
            )
        for s, stage in enumerate(parts):
            for (first, end), payload in zip(rows_of(size[0], len(stage)), stage, strict=True):
                if payload is None or (s and (tokens[s - 1, first:end] < 0).any()):
                    continue
                with named(f"stage {s + 1}: "):
                    coder.decode(payload, tokens, s, self._depth(s, n, depth), first, end)
        return tokens

    @property
    def _second(self) -> Masked:
        if self._masked is None:
            raise CorruptPayloadError(
                "header: expected tokens coded by neighbours, as these weights have no masked transformer"
            )
        return self._masked

    def _depth(self, s: int, n: int, depth: int) -> int:
        return depth if s == n - 1 else self.stages[s].units


def rows_of(height: int, ranges: int) -> list[tuple[int, int]]:
    """Return first and end rows of each range of a grid; some are empty where it has fewer rows."""
    edges = [i * height // ranges for i in range(ranges + 1)]
    return list(pairwise(edges))


def make_codec(tensors: dict[str, Array], about: dict[str, Any], device: str) -> TokenizerCodec:
    """Return the codec of a weights file (specs/tokenizer.md); `about` has "config".

    Raises:
        ValueError, KeyError, TypeError: tensors are missing or of the wrong shape.
        InputError: sizes that no model has.
        WeightsMismatchError: integers that specs/exact.md forbids.
    """
    config = TokenizerConfig(**about["config"])
    more = MaskedConfig(**about["masked"]) if "masked" in about else None
    check_tokenizer(tensors, config, more)
    if "fraction_bits" in about:
        checked_bits(about["fraction_bits"], layers(config))
    if device == "cpu":
        return TokenizerCodec(tensors, config, more)
    from ncodec.models.tokenizer.device import DeviceCodec  # needs torch

    return DeviceCodec(tensors, config, device, more)
