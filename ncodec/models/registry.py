"""Which decoder program a file needs: a literal table, equal to specs/registry.md by test.

The wire id names the program; the weights digest in the header names the parameters. Ids are never
reused. A family's module is imported on first use.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

from ncodec.errors import UnsupportedVersionError


@dataclass(frozen=True)
class Family:
    """One decoder program."""

    name: str
    wire_id: int
    module: str

    def load(self) -> ModuleType:
        """Return the family's module."""
        return importlib.import_module(self.module)


FAMILIES = (Family("hyperprior", 1, "ncodec.models.hyperprior"),)


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
