"""The tensors of a tokenizer's weights file: layers, their shapes, what their integers stand for. No torch."""

from collections.abc import Iterator

import numpy as np

from ncodec.entropy.tokens import VALUE_MAX
from ncodec.exact.network import (
    PIXEL_BITS,
    X_BITS,
    Known,
    Layer,
    Tensors,
    block_layers,
    check_tensors,
    known_of,
    known_of_gains,
    layer_of_x,
    layer_to_pixels,
)
from ncodec.models.tokenizer import masked
from ncodec.models.tokenizer.masked import MaskedConfig
from ncodec.models.tokenizer.stages import BLOCK_DIMENSION, STRIDE, TokenizerConfig

DIGIT_BITS = 1  # of c, in steps of a digit's levels; those of code vectors are in the weights file
V_BITS = 10  # of v, in steps
FIXED_BITS = {"x": X_BITS, "c": DIGIT_BITS, "v": V_BITS, "pixels": PIXEL_BITS}
GAINS = (  # of which tensor, with which result
    ("g_s.deep_gain", "g_s.deep_stem", "g_s.deep"),
    ("g_s.gain", "g_s.stem", "g_s.blocks"),
)


def layers(c: TokenizerConfig) -> Iterator[Layer]:
    """Yield the layers of specs/tokenizer.md."""
    D = sum(stage.n_values for stage in c.stages)

    def of_c(name: str, out: int, result: str, shuffled: int = 1) -> Layer:
        return Layer(name, (out, D), "c", result, shuffled=shuffled, bound=VALUE_MAX)

    yield layer_of_x("g_a.linear", (D, BLOCK_DIMENSION), "v", STRIDE)
    yield layer_of_x("g_a.stem", (c.N, 192), "g_a.blocks", 8)
    yield from block_layers("g_a.blocks", c.N, c.analysis_blocks, "g_a.blocks")
    yield Layer("g_a.head", (D, 4 * c.N), "g_a.blocks", "v", unshuffled=2)
    yield Layer("g_a.down", (c.H, 4 * c.N), "g_a.blocks", "g_a.deep", unshuffled=2)
    yield from block_layers("g_a.deep", c.H, c.deep_blocks, "g_a.deep")
    yield Layer("g_a.deep_head", (D, c.H), "g_a.deep", "v")
    yield layer_to_pixels("g_s.linear", (BLOCK_DIMENSION, D), "c", STRIDE, bound=VALUE_MAX)
    yield of_c("g_s.stem", 4 * c.N, "g_s.stem", 2)
    yield of_c("g_s.deep_stem", c.H, "g_s.deep_stem")
    yield from block_layers("g_s.deep", c.H, c.deep_blocks, "g_s.deep")
    yield Layer("g_s.up", (4 * c.N, c.H), "g_s.deep", "g_s.stem", shuffled=2)
    yield from block_layers("g_s.blocks", c.N, c.synthesis_blocks, "g_s.blocks")
    yield layer_to_pixels("g_s.head", (192, c.N), "g_s.blocks", 8)


def known_of_tokens(c: TokenizerConfig) -> Known:
    """Return the tensors of the coder of tokens (entropy/tokens.py)."""
    known: Known = {}
    before = 0
    for s, stage in enumerate(c.stages):
        n = stage.n_values
        ours: Known = {
            "hidden.weight": (np.int16, (c.B, 4 * n + 9 * before)),
            "hidden.bias": (np.int32, (c.B,)),
            "head.weight": (np.int16, (stage.nodes, c.B)),
            "head.bias": (np.int32, (stage.nodes,)),
            "shifts": (np.int32, (2,)),
        }
        if stage.levels:
            ours["own.weight"] = (np.int16, (stage.nodes, n))
        else:
            ours["values"] = (np.int16, (2 * stage.size - 1, n))
        known |= {f"tokens.{s}.{name}": expected for name, expected in ours.items()}
        before += n
    return known


def check_tokenizer(tensors: Tensors, c: TokenizerConfig, more: MaskedConfig | None = None) -> None:
    """Raise ValueError unless the tensors are those of specs/tokenizer.md, with a masked transformer of these sizes."""
    D = sum(stage.n_values for stage in c.stages)
    known: Known = {"feedback": (np.int32, (D, D)), "value_bits": (np.uint8, ())}
    if c.quantiser != "vq":
        known["thresholds"] = (np.int16, (sum(stage.nodes for stage in c.stages),))
    if more is not None:
        known |= masked.known_of(more, c.stages)
    gains = known_of_gains({"g_s.deep_gain": c.H, "g_s.gain": c.N})
    check_tensors(tensors, known | gains | known_of(layers(c)) | known_of_tokens(c))
    if tensors["value_bits"] > V_BITS:
        raise ValueError(f"value_bits: expected at most {V_BITS}, found {tensors['value_bits']}")
