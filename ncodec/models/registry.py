"""Which decoder program a file needs: a literal table, equal to specs/registry.md by test.

The wire id names the program; the weights digest in the header names the parameters. Ids are never
reused. A family's module is imported on first use; its `from_tensors` returns a `Codec`, where it has weights.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncodec.errors import UnsupportedVersionError


class Codec(Protocol):
    """What codec.py needs of a family: tiles of pixels <-> their payloads."""

    OVERLAP: int  # pixels by which the tiles of an encoded image overlap
    CODES_GREY: bool  # False: grey is coded as three equal channels (specs/format.md, F23)

    @property
    def batch_pixels(self) -> int:
        """Tiles are decoded together up to so many pixels; 0: one by one."""
        ...

    def encode_tile(self, pixels: NDArray[np.uint8], quality_code: int) -> bytes:
        """Return the payload of a tile [h, w, 3] or, grey, [h, w], of any size from 1x1."""
        ...

    def decode_tiles(
        self,
        payloads: list[bytes],
        width: int,
        height: int,
        quality_code: int,
        is_grey: bool,
        is_faded: bool,
    ) -> list[NDArray[Any]]:
        """Return the pixels of tiles of one size, [h, w, 3], or [h, w] if `is_grey`.

        Args:
            payloads: of the tiles; one, unless `batch_pixels` allows more.
            width: of each tile (pixels).
            height: of each tile (pixels).
            quality_code: (quality - 1) * 20.
            is_grey: never set where the family does not code grey.
            is_faded: the tiles will be faded into each other: float32 in 0 … 255, ahead of rounding,
                where the family has it. Otherwise uint8.

        Raises:
            TruncatedError, CorruptPayloadError: a payload is damaged.
        """
        ...


@dataclass(frozen=True)
class Family:
    """One decoder program."""

    name: str
    wire_id: int
    module: str
    needs_torch: bool = False  # tensors are torch's, pixels float; otherwise numpy's, pixels exact
    has_weights: bool = True  # otherwise the module has no Codec; codec.py knows it by name

    def load(self) -> ModuleType:
        """Return the family's module."""
        return importlib.import_module(self.module)


FAMILIES = (
    Family("hyperprior", 1, "ncodec.models.hyperprior", needs_torch=True),
    Family("dct", 2, "ncodec.models.dct"),
    Family("jpeg", 3, "ncodec.models.jpeg", has_weights=False),
)


def family_by_id(wire_id: int) -> Family:
    """Return the family with a wire id.

    Raises:
        UnsupportedVersionError: no such family in this version of ncodec.
    """
    for family in FAMILIES:
        if family.wire_id == wire_id:
            return family
    known = ", ".join(f"{family.wire_id} ({family.name})" for family in FAMILIES)
    raise UnsupportedVersionError(
        f"header: model family {wire_id} is unknown, expected {known}: update ncodec"
    )
