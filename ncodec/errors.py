"""The exception tree. The library raises nothing else on bad input.

NcodecError
├── FormatError (ValueError)          the bytes are not a file we can decode
│   ├── BadMagicError                 not an .nc file, or damaged by a text-mode transfer
│   ├── UnsupportedVersionError       made by a newer ncodec, or needs a feature we lack
│   ├── TruncatedError                the file ends early
│   ├── ChecksumError                 a chunk's CRC-32C does not match
│   └── CorruptPayloadError           the content breaks a rule of the specification
├── LimitError (ValueError)           larger than the decoder's limits allow
├── ModelError (LookupError)
│   ├── UnknownModelError             no such model, or no such family
│   └── WeightsMismatchError          the weights are not those the file was made with, or are damaged
└── InputError (ValueError)           an image or an argument we cannot work with
    └── WrongTypeError (TypeError)    an argument of another type
"""

from collections.abc import Iterator
from contextlib import contextmanager


class NcodecError(Exception):
    """Base of every error that ncodec raises on bad input."""


class FormatError(NcodecError, ValueError):
    """The bytes are not a file we can decode."""


class BadMagicError(FormatError):
    """Not an .nc file, or damaged by a text-mode transfer."""


class UnsupportedVersionError(FormatError):
    """Made by a newer ncodec, or needs a feature we lack."""


class TruncatedError(FormatError):
    """The file ends early."""


class ChecksumError(FormatError):
    """A chunk's CRC-32C does not match its content."""


class CorruptPayloadError(FormatError):
    """The content breaks a rule of the specification."""


class LimitError(NcodecError, ValueError):
    """Larger than the decoder's limits allow."""


class ModelError(NcodecError, LookupError):
    """A model or its weights cannot be had."""


class UnknownModelError(ModelError):
    """No such model, or no such family."""


class WeightsMismatchError(ModelError):
    """The weights are not those the file was made with, or are damaged."""


class InputError(NcodecError, ValueError):
    """An image or an argument that we cannot work with."""


class WrongTypeError(InputError, TypeError):
    """An argument of a type that we cannot work with."""


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """Turn the failed import of another package into an InputError: who needs it, and how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(f"{what} needs {error.name}: pip install 'ncodec[{extra}]'") from error


@contextmanager
def named(place: str) -> Iterator[None]:
    """Put `place` ahead of the messages of errors from within; "" leaves them as they are."""
    try:
        yield
    except NcodecError as error:
        if not place:
            raise
        raise type(error)(f"{place}{error}") from error
