"""Decodes tiles of a hyperprior on a GPU: the integers of codec.py, so the same pixels. Needs torch.

payloads --DeviceReader--> z --indexing--> indexes --DeviceReader--> r;  z, r --synthesis--> pixels     [B, h, w, C]
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ncodec.coder.device import DeviceReader
from ncodec.container import Parts
from ncodec.exact.device import run_on_device
from ncodec.exact.network import PIXEL_BITS, Network
from ncodec.models.hyperprior import graphs
from ncodec.models.hyperprior.codec import HyperpriorCodec, check_r, z_size
from ncodec.models.hyperprior.layers import HyperpriorConfig
from ncodec.models.protocol import TileFormat, only_payload
from ncodec.nn import STRIDE

BATCH_PIXELS = 1 << 24


class DeviceCodec(HyperpriorCodec):
    """As `HyperpriorCodec`; tiles of one size are decoded together on `device`. Encoding is the CPU's."""

    batch_pixels = BATCH_PIXELS

    def __init__(
        self,
        tensors: Mapping[str, NDArray[Any]],
        config: HyperpriorConfig,
        skip_below: int,
        fraction_bits: Mapping[str, int],
        device: str,
        tune: str = "psnr",
    ) -> None:
        super().__init__(tensors, config, skip_below, fraction_bits, tune)
        self.device = torch.device(device)

    def decode_tiles(
        self, payloads: list[Parts], quality_code: int, format: TileFormat
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size; see `HyperpriorCodec.decode_tiles`."""
        pixels = self.pixels_on_device(payloads, quality_code, format)
        tiles = pixels.to(torch.int16).cpu().numpy()
        return [format.finished(tile, PIXEL_BITS) for tile in tiles]

    def pixels_on_device(
        self,
        payloads: list[Parts],
        quality_code: int,
        format: TileFormat,
        done: Callable[[str], None] = lambda stage: None,
    ) -> Tensor:
        """Return the pixels of tiles of one size, int32 [B, h, w, 3] on the device; of those that are not rounded in 2^-PIXEL_BITS.

        Args:
            payloads: of the tiles.
            quality_code: (quality - 1) * 20.
            format: theirs.
            done: told after each stage: "z", which the CPU decodes, "indexing", "coder", "synthesis". A GPU may still be at it.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        reader = DeviceReader([only_payload(parts) for parts in payloads], len(self.SECTIONS))
        height, width = -(-format.height // STRIDE), -(-format.width // STRIDE)
        offset = self.z_offset(quality_code)
        known = reader.code_grid("z", None, z_size((height, width)), self.neighbours, offset)
        z = torch.from_numpy(known).to(self.device)
        done("z")
        grid = torch.zeros(len(payloads), height, width, 1, dtype=torch.int32, device=self.device)
        index = self._on_device(self._indexing, quality_code, "indexes", z=z, grid=grid)
        done("indexing")
        r = reader.code("y", None, index, self.tables_r, self.skip_below)
        check_r(int(r.long().abs().max()))
        done("coder")
        wanted = "pixels" if format.is_rounded else "unrounded"
        pixels = self._on_device(self._synthesis, quality_code, wanted, z=z, r=r)
        pixels = pixels[:, : format.height, : format.width]
        done("synthesis")
        return pixels

    def _on_device(
        self, network: Network, quality_code: int, wanted: str, **feeds: Tensor
    ) -> Tensor:
        vectors = graphs.vectors(self.tensors, quality_code)
        known: dict[str, Tensor] = {
            name: torch.from_numpy(vector.astype(np.int32)).to(self.device)
            for name, vector in vectors.items()
        } | feeds
        numbered = {number: known[name] for name, number in network.inputs.items() if name in known}
        return run_on_device(network.graph, numbered, [network.outputs[wanted]])[0]
