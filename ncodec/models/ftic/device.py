"""Decodes tiles of family ftic on a GPU, as models/hyperprior/device.py does: the same pixels. Needs torch."""

from ncodec.models.ftic.codec import FticCodec
from ncodec.models.hyperprior import device


class DeviceCodec(FticCodec, device.DeviceCodec):
    """As `FticCodec`; tiles of one size are decoded together on a device. Encoding is the CPU's."""
