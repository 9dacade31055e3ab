"""The tensors of weights of family masked: layers, their shapes, what their integers stand for. No torch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ncodec.errors import InputError
from ncodec.exact.network import (
    EXPONENT_BITS,
    MOST_SCORE_BITS,
    PIXEL_BITS,
    X_BITS,
    Known,
    Layer,
    Tensors,
    check_tensors,
    known_of,
    known_of_gains,
    octaves,
)
from ncodec.models.masked.schedule import PLACES
from ncodec.models.trunk import GAINS, analysis_layers, synthesis_layers
from ncodec.nn import BLOCK_DIMENSION, HEAD, N_SCALES
from ncodec.quality import N_QUALITIES

NEAR = 5  # places a side that the embedding sees
NORM_BITS = 11  # of what a layer sees: the root of HEAD · 8 channels is 16
SCORE_MAX = 4095  # q and k are clamped to it
OCTAVES = octaves(HEAD)  # of a score q·k
INDEX_BITS = 8  # of a table row
INDEX_UNIT = 4.0  # rows per unit of a head's output
FINE_BITS, STEPS_BITS = 9, 5  # of a latent step: within ±64 steps, and ±1024
ASINH_BITS = 12  # asinh of 1024 steps is 7.6
FIXED_BITS = {
    "x": X_BITS, "index": INDEX_BITS, "pixels": PIXEL_BITS, "asinh": ASINH_BITS, "norm": NORM_BITS,
}  # fmt: skip


@dataclass(frozen=True)
class MaskedConfig:
    """Sizes of one model. The defaults are `masked-s`.

    Raises:
        InputError: there is no such model.
    """

    N: int = 128  # width of the trunk at 1/8
    M: int = 320  # channels of y at 1/16
    analysis_blocks: int = 6
    synthesis_blocks: int = 10
    passes: str = (
        "m2t"  # every latent passes once, activations are kept; or "mt": all pass in every step
    )
    steps: int = 8
    D: int = 192  # width of the transformer
    layers: int = 4
    U: int = 384  # width within a layer
    H: int = 192  # width of the heads
    slices: tuple[int, ...] = (4, 8, 20, 32, 32, 96, 128)  # channels of y that are decoded together

    def __post_init__(self) -> None:
        for size in (
            "N",
            "M",
            "D",
            "U",
            "H",
            "analysis_blocks",
            "synthesis_blocks",
            "steps",
            "layers",
        ):
            value = getattr(self, size)
            most = {"steps": 64, "layers": 64}.get(size, 256 if size.endswith("_blocks") else 1024)
            if type(value) is not int or not 1 <= value <= most:
                raise InputError(f"{size}: expected 1 to {most}, found {value!r}")
        slices = self.slices
        if not isinstance(slices, list | tuple) or not all(
            type(n) is int and n > 0 for n in slices
        ):
            raise InputError(f"slices: expected channels, found {slices!r}")
        object.__setattr__(self, "slices", tuple(slices))
        for name, holds, expected in (
            ("M", self.M <= BLOCK_DIMENSION, f"at most {BLOCK_DIMENSION}, the dimension of a 16x16 RGB block"),
            ("passes", self.passes in ("m2t", "mt"), "m2t or mt"),
            ("D", self.D % HEAD == 0 and self.D <= 8 * HEAD, f"a multiple of {HEAD} up to {8 * HEAD}"),
            ("slices", sum(slices) == self.M and len(slices) <= 16, f"at most 16, together {self.M}"),
        ):  # fmt: skip
            if not holds:
                raise InputError(f"{name}: expected {expected}, found {getattr(self, name)!r}")

    def slice(self, a: int) -> slice:
        """Return the channels of slice `a`."""
        return slice(sum(self.slices[:a]), sum(self.slices[: a + 1]))


def layers(c: MaskedConfig) -> Iterator[Layer]:
    """Yield the layers of specs/masked.md."""
    yield from analysis_layers(c)
    yield Layer("content", (c.D, c.M), "asinh", "stream")
    yield Layer("content_positive", (c.D, c.M), "asinh", "stream")
    for step in range(c.steps):
        yield Layer(f"near.{step}", (c.D, NEAR, NEAR), "stream", "stream")
        yield Layer(f"linear.{step}", (c.M, NEAR, NEAR), "y", "y")
        yield Layer(f"energy.{step}", (c.M, NEAR, NEAR), "asinh", "index", result_unit=INDEX_UNIT)
    for k in range(c.layers):
        name = f"layers.{k}"
        yield Layer(f"{name}.q", (c.D, c.D), "norm", f"{name}.q", result_unit=OCTAVES)
        yield Layer(f"{name}.k", (c.D, c.D), "norm", f"{name}.k")
        yield Layer(f"{name}.v", (c.D, c.D), "norm", f"{name}.v")
        yield Layer(f"{name}.o", (c.D, c.D), f"{name}.v", "stream")
        yield Layer(f"{name}.up", (c.U, c.D), "norm", f"{name}.up")
        yield Layer(f"{name}.down", (c.D, c.U), f"{name}.up", "stream")
    for a, channels in enumerate(c.slices):
        name, before = f"heads.{a}", c.slice(a).start
        yield Layer(f"{name}.f", (c.H, c.D), "norm", name)
        yield Layer(f"{name}.around", (c.H, channels), "index", name, unit=1 / INDEX_UNIT)
        if before:
            yield Layer(f"{name}.own", (c.H, before), "asinh", name)
            yield Layer(f"{name}.own_positive", (c.H, before), "asinh", name)
        yield Layer(f"{name}.mean", (channels, c.H), name, "mean")
        yield Layer(f"{name}.index", (channels, c.H), name, "index", result_unit=INDEX_UNIT)
    yield from synthesis_layers(c)


def check_masked(tensors: Tensors, c: MaskedConfig) -> None:
    """Raise ValueError unless the tensors are those of specs/masked.md."""
    by_quality = (N_QUALITIES, c.M)
    known: Known = {
        "log_gain": (np.int32, by_quality),
        "log_unit": (np.int32, by_quality),
        "log_mean": (np.int32, by_quality),
        "index_offset": (np.int16, by_quality),
        "asinh": (np.int16, (1 << 16,)),
        "asinh_beyond": (np.int16, (1 << 16,)),
        "score_bits": (np.uint8, (c.layers,)),
        "tables.r": (np.uint16, (N_SCALES, None)),
        "mode": (np.int16, (N_QUALITIES, c.D)),
        "group": (np.int16, (c.steps, c.D)),
        "unknown_places": (np.int16, (PLACES, c.D)),
        "known_places": (np.int16, (PLACES, c.D)),
        "null": (np.int16, (c.D,)),
    }
    gains = {gain: c.N for gain, _, _ in GAINS}
    check_tensors(tensors, known | known_of_gains(gains) | known_of(layers(c)))
    bits = tensors["score_bits"]
    if bits.min() < EXPONENT_BITS or bits.max() > MOST_SCORE_BITS:
        raise ValueError(f"score_bits: expected {EXPONENT_BITS} to {MOST_SCORE_BITS}, found {bits}")
