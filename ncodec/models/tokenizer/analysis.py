"""Pixels to tokens: the transform, then a stage at a time. What an encoder does; integers, so that every machine does the same.

pixels --analysis--> v;  stage s: u = v_s - feedback of c_1 ... c_{s-1} --> nearest token --> its values c_s
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncodec.entropy.tokens import Stage
from ncodec.errors import named
from ncodec.exact.network import Array, Tensors, image_input
from ncodec.models.tokenizer.graphs import analysis
from ncodec.models.tokenizer.layers import V_BITS
from ncodec.models.tokenizer.stages import TokenizerConfig, depth_of_last, n_stages
from ncodec.threads import get_num_threads


class Analyser:
    """The encoder of a model.

    Args:
        tensors: of the weights file; those of the coder of tokens are not needed.
        config: sizes of the networks.

    Raises:
        WeightsMismatchError: integers that specs/exact.md forbids.
    """

    def __init__(self, tensors: Tensors, config: TokenizerConfig) -> None:
        self.tensors, self.stages = tensors, config.stages
        with named("weights: "):
            self._network = analysis(tensors, config)

    def tokens(
        self, pixels: NDArray[Any], quality_code: int, bit_depth: int = 8
    ) -> NDArray[np.int32]:
        """Return the tokens [n, h, w] of an image [H, W, 3] or [H, W]: n stages, the last to its depth."""
        v = self._network.run({"x": image_input(pixels, bit_depth)}, ("v",), get_num_threads())[0]
        n = n_stages(quality_code)
        tokens = np.zeros((n, *v.shape[:2]), np.int32)
        c = np.zeros(v.shape)  # float64: whole numbers below 2**53, so products are exact
        channel = node = 0
        for s, stage in enumerate(self.stages[:n]):
            end = channel + stage.n_values
            feedback = self.tensors["feedback"][channel:end, :channel].astype(np.float64)
            u = v[:, :, channel:end] - c[:, :, :channel] @ feedback.T
            units = depth_of_last(quality_code, self.stages) if s == n - 1 else stage.units
            if stage.levels:
                within = self.tensors["feedback"][channel:end, channel:end]
                tokens[s], c[:, :, channel:end] = self._digits(u, within, stage, node, units)
                node += stage.nodes
            else:
                tokens[s], c[:, :, channel:end] = self._nearest(u, s, units)
            channel = end
        return tokens

    def _digits(
        self, u: Array, within: Array, stage: Stage, node: int, units: int
    ) -> tuple[Array, Array]:
        """Return the tokens [h, w] and values [h, w, D_s] of u [h, w, D_s].

        Args:
            u: after the stages before.
            within: [D_s, D_s], feedback of its values to those after them; 0 but for BSQ.
            stage: which.
            node: its first threshold.
            units: how many digits.
        """
        tokens, values, place = np.zeros(u.shape[:2], np.int32), np.zeros(u.shape), 1
        for k, levels in enumerate(stage.levels[:units]):
            edges = self.tensors["thresholds"][node : node + levels - 1]
            level = np.searchsorted(edges, u[:, :, k] - values[:, :, :k] @ within[k, :k]).astype(
                np.int32
            )
            tokens += place * level
            values[:, :, k] = 2 * level - (levels - 1)
            place, node = place * levels, node + levels - 1
        return tokens, values

    def _nearest(self, u: Array, s: int, depth: int) -> tuple[Array, Array]:
        """Return the nearest nodes of a depth of a tree to u [h, w, D_s], as indices of whole depth, and their values."""
        first = (1 << depth) - 1
        nodes = self.tensors[f"tokens.{s}.values"][first : 2 * first + 1].astype(np.float64)
        scaled = nodes * 2.0 ** (V_BITS - int(self.tensors["value_bits"]))
        score = (scaled**2).sum(1) - 2 * (u.reshape(-1, u.shape[2]) @ scaled.T)
        index = score.argmin(1).reshape(u.shape[:2])
        return (index << (self.stages[s].bits - depth)).astype(np.int32), nodes[index]
