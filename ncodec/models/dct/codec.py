"""Family `dct`: adaptive block transforms, intra prediction, learned parameters. Integers throughout, no torch.

    pixels --> planes --> 64x64 squares --> partition --> prediction from decoded samples --> residual
            the picture's own   a quadtree, 64 ... 4, chosen by bits + lambda x error              |
            colours; Y, Cb, Cr                                                                     v
    payload <-- binary coder <-- mixed contexts <-- levels <-- steps x learned matrices <-- integer DCT, or its
                                                                                            angle-similarity kin
    decoder: levels --> steps, inverse transform, prediction --> deblocking --> filter by class --> neural filter
             --> filter whose weights are sent --> pixels

After "Multi-rate adaptive transform coding for video compression" (https://arxiv.org/abs/2210.14308): one set
of parameters for the whole curve, its quantisation matrices interpolated between qualities, block sizes
chosen per block. The C++ in ncodec/dct does the work; specs/dct.md says what a payload is. Exact: every machine
decodes the same pixels.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ncodec.container import Parts
from ncodec.dct import _dct
from ncodec.dct.parameters import Tensors, Tuning
from ncodec.errors import InputError
from ncodec.image.picture import to_depth
from ncodec.models.protocol import EncodeOptions, TileFormat, only_payload
from ncodec.quality import lmbda_of

TRANSFORMS = {"dct": 0, "angle": 2}  # of the payload's first byte, specs/dct.md
SUBSAMPLINGS = {"4:4:4": 0, "4:2:0": 1}  # log2 of chroma's stride
SIZES = (4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Search:
    """How much an encoder looks at."""

    trials: int  # modes in full, of luma with either transform
    cuts: int = 3  # splits in two or three within each other, 0 … 3
    thirds: bool = True
    price: float = 0  # of time: splits that promise less than it are not tried; 0: all are
    least: int = 4  # sides of blocks, in samples of luma
    most: int = 64
    is_quick: bool = False  # few luma modes, one with transforms; luma is chosen before chroma
    is_thorough: bool = False  # many luma modes


SEARCHES = {
    1: Search(trials=1, cuts=0, price=6, is_quick=True, least=8, most=32),
    2: Search(trials=1, price=25),
    3: Search(trials=2, price=7),
    4: Search(trials=2, price=3),
    5: Search(trials=3, price=2.2),
    6: Search(trials=3, price=2, is_thorough=True),
    7: Search(trials=4, price=1.4, is_thorough=True),
    8: Search(trials=6, price=0.6, is_thorough=True),
    9: Search(trials=8, price=0.3, is_thorough=True),
}
USUAL_EFFORT = 4


@dataclass(frozen=True)
class Options(EncodeOptions):
    """What an encoder is free to choose. `effort` names a set of the others, which each may still be set.

    Subsampling "auto" takes twice the time and saves 0.02 % of the cost in the mean: of 64 validation crops 4:2:0 won in
    2, 2, 0, 1, 0, 0 and 3 at qualities 1, 1.25, 1.5, 2, 2.5, 3 and 4. So it is not the default.

    Raises:
        InputError: a value that no encoder knows.
    """

    transform: str = "dct"  # "angle": the angle-similarity approximation
    subsampling: str = "4:4:4"  # "4:2:0"; "auto": whichever costs less
    # Of what is None `effort` says what it is.
    least: int | None = None  # sides of blocks, in samples of luma
    most: int | None = None
    rdoq: bool = True  # levels chosen by bits + lambda x error
    trials: int | None = None  # modes tried in full, 1 … 16
    cuts: int | None = None  # splits in two or three within each other, 0 … 3
    thirds: bool | None = None  # splits in three
    network: bool = True  # the neural filter, where the weights have one
    turned: bool = True  # planes turned to the picture's own colours, but for eyes or 4:2:0
    wiener: bool = True  # the last filter, whose weights are sent, but for eyes

    EFFORTS: ClassVar[tuple[int, ...]] = tuple(SEARCHES)

    def __post_init__(self) -> None:
        for name, known in (
            ("effort", (None, *SEARCHES)),
            ("transform", tuple(TRANSFORMS)),
            ("subsampling", ("auto", *SUBSAMPLINGS)),
            ("least", (None, *SIZES)),
            ("most", (None, *SIZES[1:])),  # chroma has no blocks of 2
            ("trials", (None, *range(1, 17))),
            ("cuts", (None, 0, 1, 2, 3)),
            ("thirds", (None, False, True)),
        ):
            if getattr(self, name) not in known:
                raise InputError(
                    f"dct: expected {name} among {', '.join(str(k) for k in known if k is not None)}, "
                    f"found {getattr(self, name)!r}"
                )
        search = self.search()
        if search.least > search.most:
            raise InputError(f"dct: least {search.least} is more than most {search.most}")

    def search(self) -> Search:
        """Return what `effort` means, with what is set beside it."""
        names = ("least", "most", "trials", "cuts", "thirds")
        chosen = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(SEARCHES[self.effort or USUAL_EFFORT], **chosen)

    def for_encoder(self, quality_code: int, tuning: Tuning | None = None) -> _dct.EncoderOptions:
        """Return them as the C++ takes them; `tuning`: of the weights."""
        options = _dct.EncoderOptions()
        options.lmbda = lmbda_of(quality_code)
        if tuning is not None:
            options.lmbda *= tuning.lmbda
            options.tuning = tuning.for_encoder()
        search = self.search()
        options.least_log2 = search.least.bit_length() - 1
        options.most_log2 = search.most.bit_length() - 1
        options.optimised_levels = self.rdoq
        options.full_trials = search.trials
        options.is_quick = search.is_quick
        options.is_thorough = search.is_thorough
        options.binary_depth = search.cuts
        options.ternary = search.thirds
        options.price = search.price
        options.network = self.network
        options.turned = self.turned
        options.wiener = self.wiener
        return options


class DctCodec:
    """A `protocol.Codec` of learned parameters."""

    OVERLAP = 0  # pixels: a tile's border is predicted and filtered like any picture's
    ONE_THREAD = True
    batch_pixels = 0

    def __init__(self, parameters: _dct.Parameters, tuning: Tuning | None = None) -> None:
        self.parameters, self.tuning = parameters, tuning

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
        """Return the payload of a tile [h, w, 3] or [h, w]."""
        assert isinstance(options, Options)
        wanted = options.subsampling if pixels.ndim == 3 else "4:4:4"
        if wanted != "auto":
            return [[self._encode(pixels, quality_code, options, wanted, bit_depth)]]
        payloads = [
            self._encode(pixels, quality_code, options, name, bit_depth) for name in SUBSAMPLINGS
        ]
        rounded = to_depth(pixels, bit_depth, 8)
        return [[min(payloads, key=lambda payload: self._cost(payload, rounded, quality_code))]]

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size. Exact.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        return [
            _dct.decode(
                only_payload(parts), self.parameters, quality_code, format.width, format.height,
                format.channels == 1, format.bit_depth,
            )
            for parts in payloads
        ]  # fmt: skip

    def _encode(
        self,
        pixels: NDArray[Any],
        quality_code: int,
        options: Options,
        subsampling: str,
        bit_depth: int,
    ) -> bytes:
        kind, shift = TRANSFORMS[options.transform], SUBSAMPLINGS[subsampling]
        if pixels.ndim == 3 and pixels.strides[2] != pixels.itemsize:
            pixels = np.ascontiguousarray(pixels)
        chosen = options.for_encoder(quality_code, self.tuning)
        return _dct.encode(pixels, self.parameters, quality_code, kind, shift, chosen, bit_depth)

    def _cost(self, payload: bytes, pixels: NDArray[np.uint8], quality_code: int) -> float:
        """Return bits + lambda x mean squared error x pixels."""
        height, width = pixels.shape[:2]
        decoded = _dct.decode(payload, self.parameters, quality_code, width, height, False)
        error = np.square(decoded.astype(np.int32) - pixels).sum() / 3
        lmbda = Options().for_encoder(quality_code, self.tuning).lmbda
        return 8 * len(payload) + lmbda * float(error)


def make_codec(tensors: Tensors, about: dict[str, Any], device: str) -> DctCodec:
    """Return the codec of a weights file's tensors; `device` changes nothing.

    Raises:
        KeyError, ValueError: a tensor is missing, or not what this version expects.
    """
    return DctCodec(_dct.Parameters(tensors), Tuning.of(about))
