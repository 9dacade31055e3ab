"""The families as literal facts; equal to the table of specs/registry.md by test.

The wire id names the decoder *program*, the weights digest in a header the *parameters*. Ids are never
reused. A module is imported on first use.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

from ncodec.errors import UnsupportedVersionError


@dataclass(frozen=True)
class Family:
    """One decoder program.

    `module` has `Options`, a `protocol.EncodeOptions`, and `make_codec(tensors, about, device)`, which returns a
    `protocol.Codec`; or, where a file holds another format's, what `protocol.FileFamily` says. `recipe`: how it is trained by `ncodec train`.
    """

    name: str
    wire_id: int
    module: str
    recipe: str = ""
    holds: Literal["tiles", "file"] = "tiles"  # of pixels; or one file of another format, whole
    has_weights: bool = True  # otherwise its name is its model's, and the header's digest is 0
    has_quality: bool = True  # otherwise the header's quality code is 0
    has_tokens: bool = False  # its codec is a `protocol.Tokenizer`, too
    tune: str = "psnr"  # what errors are weighed by in weights that do not say
    has_alpha: bool = (
        False  # its tiles hold alpha as their last channel; of others a chunk of its own does
    )
    has_second: bool = False  # a second way of coding, which a flag of the header tells
    is_layered: bool = (
        False  # a tile is coded in layers, each refining those before, and these in ranges
    )
    stride: int = 1  # pixels: tiles are decoded in whole multiples of it
    bytes_a_pixel: int = (
        8  # memory that decoding takes for each pixel of what it decodes at once (measured)
    )

    def load(self) -> ModuleType:
        """Return the family's module."""
        return importlib.import_module(self.module)


FAMILIES = (
    Family("dct", 2, "ncodec.models.dct.codec", stride=8, bytes_a_pixel=58),
    Family(
        "jpeg", 3, "ncodec.models.jpeg.codec", holds="file", has_weights=False, has_quality=False,
        stride=8, bytes_a_pixel=20,
    ),
    Family(
        "hyperprior", 4, "ncodec.models.hyperprior.codec", "ncodec.models.hyperprior.recipe",
        stride=16, bytes_a_pixel=48,
    ),
    Family(
        "tokenizer", 5, "ncodec.models.tokenizer.codec", "ncodec.models.tokenizer.recipe", is_layered=True, has_tokens=True,
        tune="ms-ssim", has_second=True, stride=16, bytes_a_pixel=64,
    ),
    Family(
        "masked", 6, "ncodec.models.masked.codec", "ncodec.models.masked.recipe",
        stride=16, bytes_a_pixel=40,
    ),
    Family("ftic", 7, "ncodec.models.ftic.codec", "ncodec.models.ftic.recipe", stride=16, bytes_a_pixel=48),
    Family("lossless", 8, "ncodec.models.lossless.codec", has_weights=False, has_quality=False, has_alpha=True, bytes_a_pixel=48),
)  # fmt: skip

RECIPES = (
    {family.name: family.recipe for family in FAMILIES if family.recipe}
    | {
        "tokenizer-masked": "ncodec.models.tokenizer.masked_recipe",  # adds a transformer to weights of family tokenizer
    }
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
