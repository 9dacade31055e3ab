"""Our own models, shipped or from a weights file, with their encoders' options."""

import importlib.metadata
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ncodec import families
from ncodec.evaluation.peers.common import Pixels
from ncodec.families import Family
from ncodec.models import load, weights
from ncodec.models.protocol import options_of
from ncodec.quality import QUALITY_STEPS


def our_names() -> list[str]:
    """Return what a codec of ours is called: models with weights by name and tune, families without by theirs."""
    weightless = [f.name for f in families.FAMILIES if not f.has_weights and f.holds == "tiles"]
    return [*weights.models_by_name(), *weightless]


def _family(model: str, tune: str) -> Family:
    found = load.find(model or None, tune or None)
    return found if isinstance(found, Family) else weights.family_of(found)


def chosen_options(model: str, tune: str, given: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Return what a model's family makes of options: checked, those that change nothing left out.

    Raises:
        InputError: the model has no such tune; the family has no such option, or not with that value.
    """
    kind = _family(model, tune).load().Options
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
        family = _family(self.model, self.tune)
        return self.QUALITIES if family.has_tokens else self.QUALITIES[:3]

    @property
    def lossless(self) -> bool:
        """Whether its family knows no qualities, and so loses nothing."""
        return not _family(self.model, self.tune).has_quality

    def versions(self) -> dict[str, str]:
        from ncodec import __version__

        loaded = load.load_by_name(self.model or None, self.device, self.tune or None)
        found = {"ncodec": __version__, "weights": loaded.digest.hex()}
        if self.device == "cuda":
            found["torch"] = importlib.metadata.version("torch")
        return found

    def encode(self, pixels: Pixels, quality: float) -> bytes:
        from ncodec import codec

        chosen: dict[str, Any] = dict(self.options)  # as text: the family knows their types
        if not self.lossless:
            chosen["quality"] = quality
        return codec.encode(
            pixels, model=self.model or None, device=self.device, tune=self.tune or None, **chosen
        )

    def decode(self, data: bytes, shape: tuple[int, int]) -> Pixels:
        from ncodec import codec

        return codec.decode(data, "numpy", self.model or None, self.device)
