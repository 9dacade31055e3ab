"""Runs the networks of a masked transformer on a GPU: the integers of codec.py, so the same pixels. Needs torch.

payload --coder, on the CPU--> r of a slice --networks--> mean, index of the next     [1, windows, tokens, C]
"""

from collections.abc import Mapping
from typing import Any

import torch

from ncodec.exact.device import run_arrays
from ncodec.exact.network import Array, Network
from ncodec.models.masked.codec import MaskedCodec
from ncodec.models.masked.layers import MaskedConfig


class DeviceCodec(MaskedCodec):
    """As `MaskedCodec`; the networks run on `device`. The coder is the CPU's."""

    def __init__(
        self, tensors: Mapping[str, Array], config: MaskedConfig, skip_below: int, device: str
    ) -> None:
        super().__init__(tensors, config, skip_below)
        self.device = torch.device(device)

    def _run(self, network: Network, known: Mapping[str, Array], *wanted: str) -> list[Any]:
        return run_arrays(network, known, wanted, self.device)
