"""Runs the networks of family ftic on a GPU: the integers of codec.py, so the same pixels. Needs torch.

payload --coder, on the CPU--> r of a slice --networks--> mean, indexes of the next     [1, h, w, C]
"""

from collections.abc import Mapping
from typing import Any

import torch

from ncodec.exact.device import run_arrays
from ncodec.exact.network import Array, Network
from ncodec.models.ftic.codec import FticCodec
from ncodec.models.ftic.layers import FticConfig


class DeviceCodec(FticCodec):
    """As `FticCodec`; the networks run on `device`. The coder is the CPU's."""

    def __init__(
        self,
        tensors: Mapping[str, Array],
        config: FticConfig,
        skip_below: int,
        fraction_bits: Mapping[str, int],
        device: str,
    ) -> None:
        super().__init__(tensors, config, skip_below, fraction_bits)
        self.device = torch.device(device)

    def _run(self, network: Network, known: Mapping[str, Array], *wanted: str) -> list[Any]:
        return run_arrays(network, known, wanted, self.device)
