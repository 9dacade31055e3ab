"""Decodes tiles of tokens on a GPU: the integers of codec.py, so the same pixels. Needs torch.

payloads --coder, on the CPU--> tokens --values--> c --synthesis--> pixels     [1, h, w, C]
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ncodec.exact.device import run_on_device
from ncodec.exact.network import Array, Tensors
from ncodec.models.tokenizer.codec import TokenizerCodec
from ncodec.models.tokenizer.masked import MaskedConfig
from ncodec.models.tokenizer.stages import TokenizerConfig


class DeviceCodec(TokenizerCodec):
    """As `TokenizerCodec`; the network runs on `device`. Tokens are the CPU's."""

    def __init__(
        self,
        tensors: Tensors,
        config: TokenizerConfig,
        device: str,
        more: MaskedConfig | None = None,
    ) -> None:
        super().__init__(tensors, config, more)
        self.device = torch.device(device)

    def _pixels(self, feeds: dict[str, Array], wanted: str) -> NDArray[np.int16]:
        numbered = {}
        for name, array in feeds.items():
            there = torch.from_numpy(array.astype(np.int32)).to(self.device)
            numbered[self._synthesis.inputs[name]] = there[None] if name == "c" else there
        outputs = [self._synthesis.outputs[wanted]]
        pixels = run_on_device(self._synthesis.graph, numbered, outputs)[0]
        return pixels[0].to(torch.int16).cpu().numpy()
