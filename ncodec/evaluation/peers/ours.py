"""Our own models, shipped or from a weights file, with their encoders' options."""

import importlib.metadata
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ncodec.evaluation.peers.common import Pixels
from ncodec.models import weights
from ncodec.models.protocol import options_of
from ncodec.quality import QUALITY_STEPS


def chosen_options(model: str, tune: str, given: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what a model's family makes of options: checked, those that change nothing left out.

    Raises:
        InputError: the model has no such tune; the family has no such option, or not with that value.
    """
    family = weights.family_of(weights.find_by_name(model or None, tune or None))
    kind = family.load().Options
    chosen = options_of(kind, model or "ncodec", given)
    changed = {
        option.name: getattr(chosen, option.name)
        for option in fields(kind)
        if getattr(chosen, option.name) != option.default
    }
    return tuple(
        (name, str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in changed.items()
    )


@dataclass(frozen=True)
class Ncodec:
    """A model of ours: a shipped one by its name, or a weights file by `ncodec:model=FILE`."""

    model: str = ""  # the first shipped one
    tune: str = ""  # the model's usual one
    device: str = "cpu"
    # Of the family's encoder, such as ("transform", "angle").
    options: tuple[tuple[str, str], ...] = ()

    WORST: ClassVar[float] = 1
    BEST: ClassVar[float] = 8
    STEP: ClassVar[float] = 1 / QUALITY_STEPS
    QUALITIES: ClassVar[tuple[float, ...]] = (1, 2, 3, 4, 5, 6, 7, 8)

    @property
    def LOW(self) -> tuple[float, ...]:
        """All of a tokenizer, whose rates are all low; the first three of others."""
        family = weights.family_of(weights.find_by_name(self.model or None, self.tune or None))
        return self.QUALITIES if family.has_tokens else self.QUALITIES[:3]

    def versions(self) -> dict[str, str]:
        from ncodec import __version__
        from ncodec.models.load import load_by_name

        loaded = load_by_name(self.model or None, self.device, self.tune or None)
        found = {"ncodec": __version__, "weights": loaded.digest.hex()}
        if self.device == "cuda":
            found["torch"] = importlib.metadata.version("torch")
        return found

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        from ncodec import codec

        chosen: dict[str, Any] = dict(self.options)  # as text: the family knows their types
        return codec.encode(
            pixels, quality, self.model or None, self.device, tune=self.tune or None, **chosen
        )

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        from ncodec import codec

        return codec.decode(data, "numpy", self.model or None, self.device)
