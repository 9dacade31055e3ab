"""The networks of family `tokenizer` as exact integer graphs (specs/tokenizer.md, specs/exact.md). No torch.

    x --analysis--> v --stages.py's tokens--> c --synthesis--> pixels

Tensors are [h, w, channels], int16.
"""

from ncodec.entropy.tokens import VALUE_MAX
from ncodec.exact.network import PIXEL_BITS, X_MAX, Network, Tensors
from ncodec.models.tokenizer.stages import STRIDE, TokenizerConfig


def analysis(tensors: Tensors, c: TokenizerConfig) -> Network:
    """x [H, W, 3], twice the 8-bit values less 255 -> v [h, w, D]."""
    net = Network(tensors)
    g = net.graph
    x = g.pad(net.input("x", 3, X_MAX), STRIDE)
    f = net.blocks(net.conv(g.unshuffle(x, 8), "g_a.stem"), "g_a.blocks", c.analysis_blocks)
    f = g.unshuffle(f, 2)  # [h, w, 4 N]
    v = g.add(net.conv(g.unshuffle(x, STRIDE), "g_a.linear"), net.conv(f, "g_a.head"))
    deep = net.blocks(net.conv(f, "g_a.down"), "g_a.deep", c.deep_blocks)
    net.outputs = {"v": g.add(v, net.conv(deep, "g_a.deep_head"))}
    return net


def synthesis(tensors: Tensors, c: TokenizerConfig) -> Network:
    """c [h, w, D] -> pixels [16 h, 16 w, 3]: 0 … 255, and "unrounded" in 1/64 of them."""
    net = Network(tensors)
    g = net.graph
    values = net.input("c", sum(stage.n_values for stage in c.stages), VALUE_MAX)
    deep = net.scaled(net.conv(values, "g_s.deep_stem"), "g_s.deep_gain", c.H)
    deep = net.blocks(deep, "g_s.deep", c.deep_blocks)  # [h, w, H]
    f = g.shuffle(g.add(net.conv(values, "g_s.stem"), net.conv(deep, "g_s.up")), 2)
    f = net.scaled(f, "g_s.gain", c.N)  # [2h, 2w, N]
    f = net.conv(net.blocks(f, "g_s.blocks", c.synthesis_blocks), "g_s.head")
    x_hat = g.add(g.shuffle(net.conv(values, "g_s.linear"), STRIDE), g.shuffle(f, 8))
    x_hat = g.clamp(x_hat, 0, 255 << PIXEL_BITS)
    net.outputs = {"unrounded": x_hat, "pixels": g.shift(x_hat, PIXEL_BITS)}
    return net
