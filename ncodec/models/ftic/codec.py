"""Encodes and decodes tiles by a trained frequency-aware transformer: as hyperprior does, with networks of its own.

The networks are graphs.py's, all else is models/hyperprior/codec.py's; specs/ftic.md has all of it.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from ncodec.exact.network import Array
from ncodec.models.ftic import graphs
from ncodec.models.ftic.layers import FticConfig, check_ftic, layers
from ncodec.models.hyperprior.codec import HyperpriorCodec, Options, loaded

if TYPE_CHECKING:
    from ncodec.models.ftic.device import DeviceCodec

__all__ = ["FticCodec", "Options", "make_codec"]


class FticCodec(HyperpriorCodec):
    """A trained model. A `protocol.Codec`; arguments are those of `HyperpriorCodec`."""

    graphs: ClassVar[Any] = graphs
    config: FticConfig

    def on_device(self, device: str) -> "DeviceCodec":
        """Return the codec that decodes on a device. Needs torch."""
        from ncodec.models.ftic.device import DeviceCodec

        return DeviceCodec(
            self.tensors, self.config, self.skip_below, self.fraction_bits, device, self.tune
        )

    def _from_integers(self) -> Any:
        from ncodec.models.ftic.quantise import from_integers

        return from_integers(self.tensors, self.config, self.fraction_bits)


def make_codec(tensors: dict[str, Array], about: dict[str, Any], device: str) -> HyperpriorCodec:
    """Return the codec of a weights file (specs/ftic.md); `about` has "config" and "skip_below".

    Without "fraction_bits" there are no efforts above 1.

    Raises:
        ValueError, KeyError, TypeError: tensors are missing or of the wrong shape.
        InputError: sizes that no model has.
        WeightsMismatchError: integers that specs/exact.md forbids.
    """
    config = FticConfig(**about["config"])
    check_ftic(tensors, config)
    return loaded(FticCodec, tensors, config, layers(config), about, device)
