"""Residual blocks of any codec to bytes and back: learned matrices, adaptive coding. Decoding is exact.

    residuals --transform--> / step(quality, frequency) --RDOQ--> levels --mixed contexts--> payload
    payload --> levels --x step--> inverse transform --> residuals               (specs/dct_blocks.md)

After Duong et al., "Multi-rate adaptive transform coding for video compression" (arXiv 2210.14308): one
transform for every rate, quantisation matrices learned over the whole curve, a conditional entropy model.
The transform and the contexts are those of family `dct` (specs/dct_transforms.md).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

import ncodec.dct._dct as _dct
from ncodec.bytestream import ByteReader, varint
from ncodec.errors import (
    CorruptPayloadError,
    InputError,
    LimitError,
    TruncatedError,
    UnknownModelError,
    WeightsMismatchError,
)
from ncodec.quality import lmbda_of
from ncodec.weights import DIR

Parameters = Mapping[str, NDArray[np.generic]] | Path | str | None
Entropy = Literal["frequency", "conditional", "adaptive"]
Transform = Literal["dct", "dst", "angle"]
Matrix = Literal["learned", "flat"]
Plane = Literal["luma", "chroma"]

ENTROPIES: Final = ("frequency", "conditional", "adaptive")
TRANSFORMS: Final = ("dct", "dst", "angle")
SIDES: Final = (4, 8, 16, 32, 64)
MAX_SAMPLES: Final = 1 << 28  # of a payload, 512 MiB: what `decode` allocates


class BlockCoder:
    """A coder of arrays of residual blocks at one quality.

    Args:
        q: 1 (small) … 8 (good), steps of 1/20.
        parameters: tensors of a weights file of family `dct`, its path, or None: the shipped ones.
            A payload decodes only with those it was made with, which it does not name.
        matrix: "learned" steps of each frequency, or "flat": one step for all of them.
        entropy: "adaptive": contexts adapt and are mixed; "conditional": the same as training left
            them, fixed; "frequency": a fixed probability for each frequency, no contexts.
        transform: "dct", "dst" (sides to 16; residuals that grow to the right and downwards), or
            "angle", of small integers.
        bit_depth: 8 … 10, of the samples; the steps of a quality are the same part of full scale.
        plane: "luma" or "chroma", the steps and contexts to use.
        lmbda: bits that a squared error of one sample (on the 8-bit scale) is worth to the encoder;
            None: as the quality is tuned for.
        optimised: choose levels by rate and distortion, not by rounding.

    Raises:
        InputError: an argument is not among those above.
        UnknownModelError: no weights of family `dct` are installed, or there is no such file.
        WeightsMismatchError: the parameters are not those of family `dct`.

    >>> from ncodec.dct.parameters import initial
    >>> coder = BlockCoder(q=8, parameters=initial())
    >>> blocks = np.zeros((6, 8, 8), np.int16)
    >>> blocks[2] = 40
    >>> data = coder.encode(blocks, width=3)
    >>> decoded = coder.decode(data)
    >>> decoded.shape, decoded[2, 0, :3].tolist()
    ((6, 8, 8), [40, 40, 40])
    >>> coder.quantise(blocks)[2, :2, :2].tolist()
    [[92, 0], [0, 0]]
    """

    def __init__(
        self,
        q: float = 4,
        parameters: Parameters = None,
        *,
        matrix: Matrix = "learned",
        entropy: Entropy = "adaptive",
        transform: Transform = "dct",
        bit_depth: int = 8,
        plane: Plane = "luma",
        lmbda: float | None = None,
        optimised: bool = True,
    ) -> None:
        if not isinstance(q, (int, float, np.number)):
            raise InputError(f"q: expected a number, found {type(q).__name__}")
        code = round((q - 1) * 20) if 1 <= q <= 8 else -1
        for name, value, expected in (
            ("matrix", matrix, ("learned", "flat")),
            ("entropy", entropy, ENTROPIES),
            ("transform", transform, TRANSFORMS),
            ("bit_depth", bit_depth, (8, 9, 10)),
            ("plane", plane, ("luma", "chroma")),
        ):
            if value not in expected:
                raise InputError(f"{name}: expected one of {expected}, found {value!r}")
        if code < 0 or abs(code - (q - 1) * 20) > 1e-6:
            raise InputError(f"q: expected 1 to 8 in steps of 1/20, found {q}")
        if lmbda is not None and not (
            isinstance(lmbda, (int, float, np.number)) and 0 < lmbda < 1e6
        ):
            raise InputError(f"lmbda: expected a positive number, found {lmbda}")
        self._parameters = _parameters_of(parameters)
        self._quality_code = code
        self._flags = (
            ENTROPIES.index(entropy)
            | (matrix == "flat") << 2
            | TRANSFORMS.index(transform) << 3
            | (plane == "chroma") << 5
            | (bit_depth - 8) << 6
        )
        self._lmbda = lmbda_of(code) if lmbda is None else lmbda
        self._optimised = optimised

    def encode(self, blocks: NDArray[np.int16], width: int | None = None) -> bytes:
        """Return the payload of residual blocks.

        Args:
            blocks: [n, side, side] int16, contiguous, side 4, 8, 16, 32 or 64; magnitudes below
                2**bit_depth. Of 64x64 the low 32x32 frequencies are coded.
            width: blocks a row, in raster order, where they lie side by side: neighbours give context.
                None: one row.

        Raises:
            InputError: of another shape, or a value is too large.
            LimitError: more than MAX_SAMPLES samples.
            TypeError: not contiguous, or of another type.
        """
        return self._run(blocks, width)[0]

    def quantise(self, blocks: NDArray[np.int16], width: int | None = None) -> NDArray[np.int16]:
        """Return the levels [n, side, side] that `encode` codes; arguments and errors as there."""
        return self._run(blocks, width)[1]

    def transform(self, blocks: NDArray[np.int16]) -> NDArray[np.float32]:
        """Return the coefficients [n, side, side] of an orthonormal transform (samples); errors as `encode`."""
        return _dct.transform_blocks(blocks, self._parameters, self._format(*_shape(blocks)[1:]))

    def reconstruct(self, levels: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the residuals [n, side, side] that levels stand for. Exact.

        Raises:
            InputError: the levels are of another shape than `quantise` gives.
            TypeError: not contiguous, or of another type.
        """
        return _dct.reconstruct_blocks(levels, self._parameters, self._format(*_shape(levels)[1:]))

    def decode(self, data: bytes, max_samples: int = MAX_SAMPLES) -> NDArray[np.int16]:
        """Return the residuals [n, side, side] of a payload. Exact: the same on every platform.

        What the payload says of quality and options overrides this coder's; the parameters are its own.

        Raises:
            TruncatedError: the payload ends early.
            CorruptPayloadError: it is not what `encode` makes.
            LimitError: it has more than `max_samples` samples.
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InputError(f"blocks: expected bytes, found {type(data).__name__}")
        data = bytes(data)
        source = ByteReader(data)
        flags, quality_code, log2 = source.take(3, "blocks: header")
        n, width = source.varint("blocks: number"), source.varint("blocks: width")
        kind = flags >> 3 & 3
        if (
            flags & 3 > 2
            or kind > 2
            or flags >> 6 > 2
            or quality_code > 140
            or not 2 <= log2 <= (4 if kind == 1 else 6)
        ):
            raise CorruptPayloadError("blocks: header: a field is out of range")
        if not 1 <= width <= max(n, 1):
            raise CorruptPayloadError(f"blocks: header: width {width} of {n} blocks")
        if n << (2 * log2) > max_samples:
            raise LimitError(
                f"blocks: {n} of {1 << log2}x{1 << log2}, limited to {max_samples} samples"
            )
        if n and source.offset == len(data):
            raise TruncatedError("blocks: there are no bins")
        return _dct.decode_blocks(
            data, source.offset, n, width, self._parameters, _format(flags, quality_code, log2)
        )

    def _format(self, side: int, _: int) -> _dct.BlockFormat:
        log2 = side.bit_length() - 1
        if log2 > 4 and self._flags >> 3 & 3 == 1:
            raise InputError(f"blocks: the sine transform has sides to 16, found {side}")
        return _format(self._flags, self._quality_code, log2)

    def _run(self, blocks: NDArray[np.int16], width: int | None) -> tuple[bytes, NDArray[np.int16]]:
        n, *sides = _shape(blocks)
        width = max(n, 1) if width is None else width
        if not 1 <= width <= max(n, 1):
            raise InputError(f"width: expected 1 to {max(n, 1)} blocks, found {width}")
        bins, levels = _dct.encode_blocks(
            blocks, width, self._parameters, self._format(*sides), self._lmbda, self._optimised
        )
        header = bytes([self._flags, self._quality_code, sides[0].bit_length() - 1])
        return header + varint(n) + varint(width) + bins, levels


def load_parameters(path: str | Path | None = None) -> dict[str, NDArray[np.generic]]:
    """Return the tensors of a weights file of family `dct`; None: the shipped one for PSNR.

    Raises:
        UnknownModelError: none is installed, or there is no such file.
        WeightsMismatchError: it is no weights file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if path is None:
        entries = json.loads((DIR / "index.json").read_text())["models"]
        ours = [entry for entry in entries if (entry["family"], entry["tune"]) == ("dct", "psnr")]
        if not ours:
            raise UnknownModelError("model: no weights of family 'dct', tune psnr, are installed")
        path = DIR / ours[0]["file"]
    if not Path(path).is_file():
        raise UnknownModelError(f"model {str(path)!r}: expected a weights file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsMismatchError(f"{path}: not a weights file: {error}") from error


def _parameters_of(parameters: Parameters) -> _dct.Parameters:
    tensors = parameters if isinstance(parameters, Mapping) else load_parameters(parameters)
    try:
        return _dct.Parameters(dict(tensors))
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise WeightsMismatchError(f"parameters: not those of family 'dct': {error}") from error


def _shape(blocks: NDArray[np.int16]) -> tuple[int, int, int]:
    shape = tuple(int(side) for side in getattr(blocks, "shape", ()))
    if len(shape) != 3 or shape[1] != shape[2] or shape[1] not in SIDES:
        raise InputError(f"blocks: expected [n, side, side], side in {SIDES}, found {shape}")
    if shape[0] * shape[1] * shape[2] > MAX_SAMPLES:
        raise LimitError(f"blocks: {shape}, limited to {MAX_SAMPLES} samples")
    return shape[0], shape[1], shape[2]


def _format(flags: int, quality_code: int, log2: int) -> _dct.BlockFormat:
    return _dct.BlockFormat(
        log2,
        quality_code,
        8 + (flags >> 6),
        flags & 3,
        flags >> 3 & 3,
        bool(flags & 4),
        bool(flags & 32),
    )
