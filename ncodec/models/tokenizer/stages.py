"""Sizes of a tokenizer and the stages of its tokens. No torch."""

from dataclasses import dataclass, fields

from ncodec.entropy.tokens import Stage
from ncodec.errors import InputError
from ncodec.quality import QUALITY_STEPS

STRIDE = 16  # pixels per token
BLOCK_DIMENSION = 3 * STRIDE**2  # of the linear path's blocks
N_STAGES = 8  # one a quality
STAGES = {  # what a token of each stage is
    "fsq": (
        Stage(levels=(16, 8, 8)),
        *[Stage(levels=(5, 5, 3, 3, 3))] * 2,
        *[Stage(levels=(3,) * 8)] * 5,
    ),
    "bsq": (Stage(levels=(2,) * 10),) * N_STAGES,
    "vq": (Stage(bits=10, channels=8),) * N_STAGES,
}


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of one model. The defaults are those of all that were trained.

    Raises:
        InputError: there is no such model.
    """

    quantiser: str = "fsq"  # or "bsq", "vq"
    N: int = 128  # width of the trunk at 1/8
    M: int = 320  # channels of y at 1/16, in training
    H: int = 192  # width of the trunk at 1/16
    B: int = 64  # width of the networks that know a token's neighbours
    analysis_blocks: int = 6
    synthesis_blocks: int = 10
    deep_blocks: int = 3  # at 1/16, on either side

    def __post_init__(self) -> None:
        if self.quantiser not in STAGES:
            raise InputError(f"quantiser: expected {', '.join(STAGES)}, found {self.quantiser!r}")
        for size in (field.name for field in fields(self) if field.name != "quantiser"):
            value = getattr(self, size)
            most = 256 if size.endswith("_blocks") else 1024
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{size}: expected 1 to {most}, found {value!r}")

    @property
    def stages(self) -> tuple[Stage, ...]:
        """What a token of each stage is."""
        return STAGES[self.quantiser]


def n_stages(quality_code: int) -> int:
    """Return how many stages a file has at a quality: the last in part, where the quality has a fraction."""
    return 1 + -(-quality_code // QUALITY_STEPS)


def depth_of_last(quality_code: int, stages: tuple[Stage, ...]) -> int:
    """Return to how many of its units the last stage is coded."""
    units = stages[n_stages(quality_code) - 1].units
    fraction = quality_code % QUALITY_STEPS
    return -(-units * fraction // QUALITY_STEPS) if fraction else units
