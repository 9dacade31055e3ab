"""The decoder of specs/ftic.md in plain numpy, written from the specification.

    decode(file, weights) -> pixels        bytes in; imports neither ncodec nor torch nor safetensors

All that is as in specs/hyperprior.md is as in tests/reference_hyperprior.py.
"""

import numpy as np
import reference_hyperprior as hyperprior
from reference_hyperprior import Network, join, tiles
from reference_rans import require

DEFAULTS = hyperprior.DEFAULTS | {"D": 128, "fat": 2, "deep_fat": 2, "layers": 2}  # section 7
SHAPES = [(4, 4), (16, 16), (4, 16), (16, 4)]  # of windows, A8


# ---------------------------------------------------------------- weights file, section 1


def fats_of(c):
    """Return {name: width} of the FAT blocks."""
    found = {}
    for side in ("g_a", "g_s"):
        found |= {f"{side}.fat.{s}": c["N"] for s in range(c["fat"])}
        found |= {f"{side}.deep.fat.{s}": c["D"] for s in range(c["deep_fat"])}
    return found


def shapes_of(c):
    """Return {name: (type, shape)}; None is any."""
    n, m, d, h = c["N"], c["M"], c["D"], c["H"]
    weights = {"g_a.deep.stem": (d, 4 * n), "g_a.deep.head": (m, d), "g_s.deep.stem": (d, m), "g_s.deep.head": (4 * n, d)}  # fmt: skip
    found, attentions = hyperprior.shapes_of(c), {}
    for name, width in fats_of(c).items():
        attentions[f"{name}.attention"] = width
        weights |= {f"{name}.up": (2 * width, width), f"{name}.down": (width, 2 * width)}
        found[f"{name}.attention.bias"] = ("<i4", (361 * width // 32,))
        found[f"{name}.modulation.weight"] = ("<i2", (16, 16, width))
        found[f"{name}.modulation.bits"] = ("u1", ())
    for s in range(c["context_steps"]):
        for k in range(c["layers"]):
            name = f"context.{s}.channels.{k}"
            attentions[name] = h
            weights |= {f"{name}.up": (2 * h, h), f"{name}.down": (h, 2 * h)}
    for name, width in attentions.items():
        weights |= {f"{name}.{part}": (width, width) for part in "qkvo"}
        found[f"{name}.score_bits"] = ("u1", ())
    for name, shape in weights.items():
        found |= {f"{name}.weight": ("<i2", shape), f"{name}.bias": ("<i4", shape[:1]), f"{name}.shift": ("u1", shape[:1])}  # fmt: skip
    return found


# ---------------------------------------------------------------- networks, sections 3 to 5


class Graph(Network):
    """A network; `kept` are the latest keys and values of T-CA's layers."""

    def __init__(self, tensors):
        super().__init__(tensors)
        self.kept = {}

    def score(self, seen, name):
        """A6."""
        return self.add("clamp", self.layer(seen, name), numbers=(-4095, 4095))

    def shift_of(self, name):
        return int(self.tensors[f"{name}.score_bits"]) - 6

    def forward(self, x, name):
        """A6."""
        up = self.layer(self.add("norm", x, numbers=(11,)), f"{name}.up")
        return self.layer(self.add("leaky", up, numbers=(3277,)), f"{name}.down")

    def fat(self, x, name, width, is_moved):
        """A7, A8."""
        inner, seen = f"{name}.attention", self.add("norm", x, numbers=(11,))
        q, k = (self.score(seen, f"{inner}.{part}") for part in "qk")
        heads = [(a, b, a // 2 * is_moved, b // 2 * is_moved) for a, b in SHAPES for _ in range(width // 128)]  # fmt: skip
        found = self.add(
            "window_attention", q, k, self.layer(seen, f"{inner}.v"), numbers=(self.shift_of(inner),),
            arrays=(np.array(heads), self.tensors[f"{inner}.bias"]),
        )  # fmt: skip
        x = self.add("add", x, self.layer(found, f"{inner}.o"))
        weight, bits = (self.tensors[f"{name}.modulation.{part}"] for part in ("weight", "bits"))
        found = self.add("modulate", self.forward(x, name), numbers=(int(bits),), arrays=(weight,))
        return self.add("add", x, found)

    def between(self, x, side, c, blocks):
        """A9."""
        share = -(-blocks // c["fat"])
        for s in range(c["fat"]):
            x = self.blocks(x, f"{side}.blocks", min((s + 1) * share, blocks), first=s * share)
            x = self.fat(x, f"{side}.fat.{s}", c["N"], s % 2)
        return x

    def deep(self, x, side, c):
        """A10."""
        x = self.layer(x, f"{side}.deep.stem")
        for s in range(c["deep_fat"]):
            x = self.fat(x, f"{side}.deep.fat.{s}", c["D"], s % 2)
        return self.layer(x, f"{side}.deep.head")

    def channels(self, x, s, k, heads):
        """A11, A12: layer k of step s."""
        name, seen = f"context.{s}.channels.{k}", self.add("norm", x, numbers=(11,))
        made = self.score(seen, f"{name}.q"), self.score(seen, f"{name}.k"), self.layer(seen, f"{name}.v")  # fmt: skip
        q, *kept = (self.add("fold", part, numbers=(8, heads)) for part in made)
        if s > 0:
            kept = [self.add("join", *parts) for parts in zip(self.kept[k], kept, strict=True)]
        self.kept[k] = kept
        found = self.add("attention", q, *kept, numbers=(heads, self.shift_of(name)))
        found = self.add("unfold", found, x, numbers=(8, heads))
        x = self.add("add", x, self.layer(found, f"{name}.o"))
        return self.add("add", x, self.forward(x, name))

    def check(self):
        """A4: the limits of specs/exact.md."""
        super().check()
        bounds = hyperprior.reference_exact.bounds(self.operations)
        for kind, inputs, _, arrays in self.operations:
            if kind == "window_attention":
                most = 32 * bounds[inputs[0]] * bounds[inputs[1]]
                require(most + abs(arrays[1].astype(np.int64)).max() < 1 << 31, "X26")


class Model(hyperprior.Model):
    """The networks and tables of a weights file."""

    family, wire_id, network = "ftic", 7, Graph
    defaults, shapes_of = DEFAULTS, staticmethod(shapes_of)

    def build(self):
        c = self.config
        require(max(c["M"] - 768, c["N"] % 128, c["D"] % 128, c["H"] % 32) <= 0, "sizes")
        require(c["fat"] <= min(c["analysis_blocks"], c["synthesis_blocks"]), "sizes")
        for name, tensor in self.tensors.items():  # A4
            require(not name.endswith("score_bits") or 6 <= tensor <= 30, name)
            require(not name.endswith("modulation.bits") or tensor <= 15, name)
        super().build()

    def seen(self, net, f, s):
        """A13."""
        for k in range(self.config["layers"]):
            f = net.channels(f, s, k, self.config["H"] // 32)
        return f

    def pixels_of(self, net, y_hat):
        """A14."""
        c = self.config
        f = net.add("add", net.layer(y_hat, "g_s.stem"), net.deep(y_hat, "g_s", c))
        f = net.scaled(net.add("shuffle", f, numbers=(2,)), "g_s.gain", c["N"])
        return self.joined(net, y_hat, net.between(f, "g_s", c, c["synthesis_blocks"]))


def decode(data, weights):
    """Return the pixels of a file, made with these weights."""
    return join(*tiles(data, Model(weights)))
