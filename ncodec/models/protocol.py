"""What codec.py needs of a family, and what a family is told: the whole contract between them.

    encode(image) --> tiles --encode_tile(pixels, quality_code, options, bit_depth)--> payloads
    decode(file)  <-- tiles <-decode_tiles(payloads, quality_code, format)-------- payloads

The payloads of a tile are its `Parts`, [layers][ranges]; in families that are not layered [[payload]]. Imports no torch.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from ncodec.container import Container, Limits, Parts
from ncodec.errors import InputError, named
from ncodec.image import Picture


@dataclass(frozen=True)
class EncodeOptions:
    """What an encoder is free to choose; a decoder takes whatever came of it.

    A family with more choices than these has a subclass with a field for each.
    """

    effort: int | None = None  # more: slower and smaller; None: the family's usual one

    EFFORTS: ClassVar[tuple[int, ...]] = ()  # those that the family has

    @classmethod
    def efforts(cls, about: Mapping[str, Any]) -> tuple[int, ...]:
        """Return those that weights have, by what their file says of itself."""
        return cls.EFFORTS

    @property
    def is_second(self) -> bool:
        """Whether files are coded the second way that the family has: what the header says of them."""
        return False


@dataclass(frozen=True)
class TileFormat:
    """What a tile decodes to."""

    width: int  # pixels
    height: int  # pixels
    channels: int  # 1 or 3, and one more where tiles hold alpha
    bit_depth: int = 8
    is_faded: bool = False  # it will be faded into its neighbours: float32 ahead of rounding, where the family has it
    is_second: bool = False  # it is coded the second way that its family has

    def coded_pixels(self, stride: int) -> int:
        """Return its area in whole strides: what is decoded."""
        return -(-self.width // stride) * -(-self.height // stride) * stride**2

    @property
    def shape(self) -> tuple[int, ...]:
        """[h, w] or [h, w, channels]."""
        return (self.height, self.width, *[self.channels] * (self.channels > 1))

    @property
    def is_rounded(self) -> bool:
        """Whether `finished` takes whole 8-bit values."""
        return not self.is_faded and self.bit_depth == 8

    @property
    def sample_max(self) -> int:
        """The largest value of a channel."""
        return (1 << self.bit_depth) - 1

    def finished(self, pixels: NDArray[np.int16], fraction_bits: int) -> NDArray[Any]:
        """Return pixels [h, w, 3] of 0 … 255 as a tile's, grey joined.

        Args:
            pixels: whole values, where `is_rounded`, else in 1/2**fraction_bits.
            fraction_bits: of these.

        Returns:
            of a faded tile float32 in 0 … sample_max, else integers.
        """
        if self.is_faded:
            faded = pixels.astype(np.float32) / np.float32(1 << fraction_bits)
            if self.bit_depth != 8:
                faded *= np.float32(self.sample_max / 255)
            return faded if self.channels == 3 else faded.sum(2) / np.float32(3)
        if self.bit_depth != 8:
            whole = 255 << fraction_bits  # the largest that `pixels` has
            summed = pixels.astype(np.int64)
            summed = summed if self.channels == 3 else summed.sum(2)
            whole *= 1 if self.channels == 3 else 3
            return ((summed * self.sample_max + whole // 2) // whole).astype(np.uint16)
        if self.channels == 3:
            return pixels.astype(np.uint8)
        return ((pixels.sum(2, dtype=np.int16) + 1) // 3).astype(np.uint8)


class Codec(Protocol):
    """A family with its parameters, ready to run."""

    OVERLAP: int  # pixels by which the tiles of an encoded image overlap
    ONE_THREAD: bool  # a tile keeps one thread busy, which holds no GIL: several are coded at once; otherwise the codec
    # itself uses all threads, a tile at a time

    @property
    def batch_pixels(self) -> int:
        """Tiles are decoded together up to so many pixels; 0: one by one."""
        ...

    def layout(self, quality_code: int, options: EncodeOptions) -> tuple[int, int]:
        """Return how many layers and ranges `encode_tile` makes of every tile; (1, 1) unless the family is layered."""
        ...

    def encode_tile(
        self,
        pixels: NDArray[Any],
        quality_code: int,
        options: EncodeOptions,
        bit_depth: int = 8,
    ) -> Parts:
        """Return the payloads [layers][ranges] of a tile [h, w, 3] or, grey, [h, w], of any size from 1x1.

        Args:
            pixels: of the tile; in families that hold alpha in tiles one channel more, of alpha, may be there.
            quality_code: (quality - 1) * 20; 0 in a family without qualities.
            options: an instance of the `Options` of the family's module.
            bit_depth: of the pixels: 8 of uint8, more of uint16.
        """
        ...

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size, shaped as `format` says: uint8, uint16 of more than 8 bits, or float32.

        Args:
            payloads: of the tiles, of equal layers and ranges; one tile, unless `batch_pixels` allows more. In
                layered families layers may be missing at the end, and a payload may be None: lost.
            quality_code: of all of them.
            format: of each tile.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        ...


class Tokenizer(Codec, Protocol):
    """A codec whose tiles are grids of tokens, int32 [stages, h, w]; h = ceil(H / 16), w = ceil(W / 16)."""

    @property
    def stages(self) -> tuple[Any, ...]:
        """All stages; `size` of each is its codebook's, `levels` are those of its tokens' digits, if they have any."""
        ...

    def analyse(self, pixels: NDArray[np.uint8], quality_code: int) -> NDArray[np.int32]:
        """Return the tokens of a picture [H, W, 3] or, grey, [H, W]: the stages that the quality has."""
        ...

    def synthesise(self, tokens: NDArray[np.int32], quality_code: int) -> NDArray[np.int16]:
        """Return pixels [16 h, 16 w, 3], 0 … 255, of tokens [n, h, w]; -1: absent. Exact."""
        ...

    def write(
        self, tokens: NDArray[np.int32], quality_code: int, ranges: int, is_second: bool = False
    ) -> Parts:
        """Return the payloads of tokens, none of them absent: [stages][ranges]."""
        ...

    def read(
        self, parts: Parts, quality_code: int, size: tuple[int, int], is_second: bool = False
    ) -> NDArray[np.int32]:
        """Return the tokens of payloads; `size` is h and w, in tokens.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        ...


class FileFamily(Protocol):
    """The module of a family whose only TILE holds a file of another format."""

    def picture_of(self, parsed: Container, limits: Limits) -> Picture:
        """Return the pixels and metadata of the file within."""
        ...

    def unpack(self, parsed: Container, limits: Limits) -> bytes:
        """Return the file within, byte for byte."""
        ...


def only_payload(parts: Parts) -> bytes:
    """Return the payload of a tile of an unlayered family."""
    ((payload,),) = parts
    assert payload is not None
    return payload


Options = TypeVar("Options", bound=EncodeOptions)


def options_of(kind: type[Options], model: str, given: Mapping[str, Any]) -> Options:
    """Return a family's options, checked.

    Args:
        kind: the family's `Options`.
        model: whose they are, for the message.
        given: by name; None is as if it were not given. Text is converted to the option's type.

    Raises:
        InputError: the family has no such option, or not with that value.
    """
    known = {f.name: f.type for f in fields(kind)}
    offered = [name for name in known if name != "effort" or kind.EFFORTS]
    chosen = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in offered:
            has = f"it has {', '.join(offered)}" if offered else "it has no options"
            raise InputError(f"model {model}: no option {name!r}; {has}")
        chosen[name] = _typed(value, known[name], f"model {model}, {name}")
    if "effort" in chosen and chosen["effort"] not in kind.EFFORTS:
        efforts = ", ".join(map(str, kind.EFFORTS))
        raise InputError(f"model {model}, effort: expected {efforts}, found {chosen['effort']!r}")
    with named(f"model {model}, "):
        return kind(**chosen)


def _typed(value: Any, kind: Any, place: str) -> Any:
    """Return a value as an option of type `kind`, such as `int | None`; text is converted."""
    wanted = (get_args(kind) or (kind,))[0]
    if wanted is bool and str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    if wanted is not bool and not isinstance(value, bool):
        with suppress(TypeError, ValueError, OverflowError):
            if isinstance(value, str) or wanted(value) == value:
                return wanted(value)
    raise InputError(f"{place}: expected {wanted.__name__}, found {value!r}")
