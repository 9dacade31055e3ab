"""Bins (0 or 1) to bytes and back: adaptive binary arithmetic coding (specs/binary.md). Exact.

The coder is C++ (binary.hpp); this file holds the Python side of it. Both directions keep their state
between calls, so that what was decoded may choose the contexts of what comes next.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

import ncodec.entropy._rans as _rans

BYPASS: Final = 0xFFFF  # instead of a context: P(1) is 1/2, nothing adapts
MAX_CONTEXTS: Final = BYPASS


class BinaryEncoder:
    """An encoder with its contexts, all at P(1) = 1/2.

    Args:
        n_contexts: contexts 0 to `n_contexts` - 1 may be used; at most `MAX_CONTEXTS`.

    Raises:
        InputError: `n_contexts` is negative or too large.

    >>> encoder = BinaryEncoder(2)
    >>> contexts = np.array([0, 1, 1, BYPASS], np.uint16)
    >>> encoder.encode(np.array([0, 1, 1, 0], np.uint8), contexts)
    >>> payload = encoder.finish()
    >>> decoder = BinaryDecoder(payload, 2)
    >>> decoder.decode(contexts).tolist()
    [0, 1, 1, 0]
    >>> decoder.finish()
    """

    def __init__(self, n_contexts: int) -> None:
        self._coder = _rans.BinaryEncoder(n_contexts)

    def encode(self, bins: NDArray[np.uint8], contexts: NDArray[np.uint16]) -> None:
        """Code bins in order. After an error none of them is coded.

        Args:
            bins: [n] uint8, 0 or 1, contiguous, numpy or torch (CPU).
            contexts: [n] uint16, the context of each bin, or `BYPASS`.

        Raises:
            InputError: lengths differ, a bin is not 0 or 1, there is no such context, the encoder is
                finished, or another thread is using it.
            TypeError: an array is not contiguous or of another type.
        """
        self._coder.encode(bins, contexts)

    def finish(self) -> bytes:
        """Return the payload, empty if no bin was coded. The encoder cannot be used again.

        Raises:
            InputError: it is finished, or another thread is using it.
        """
        return self._coder.finish()


class BinaryDecoder:
    """A decoder with its contexts, all at P(1) = 1/2.

    Args:
        payload: as `BinaryEncoder.finish` returned it.
        n_contexts: as the encoder's.

    Raises:
        InputError: `n_contexts` is negative or too large.
    """

    def __init__(self, payload: bytes, n_contexts: int) -> None:
        self._coder = _rans.BinaryDecoder(payload, n_contexts)

    def decode(self, contexts: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return the next [n] bins, each 0 or 1.

        Args:
            contexts: [n] uint16, the context of each bin, or `BYPASS`.

        Raises:
            TruncatedError: the payload ends before bin n; every later call raises it too.
            InputError: there is no such context (no bin is decoded then), the decoder is finished, or
                another thread is using it.
            TypeError: `contexts` is not contiguous or of another type.
        """
        return self._coder.decode(contexts)

    def finish(self) -> None:
        """Check that the payload is the one that the encoder makes of the bins decoded.

        Raises:
            TruncatedError: the payload ended before the last bin.
            CorruptPayloadError: bytes are left over, or the last byte is not the encoder's.
            InputError: the decoder is finished, or another thread is using it.
        """
        self._coder.finish()
