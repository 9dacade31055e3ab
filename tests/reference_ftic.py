"""The decoder of specs/ftic.md in plain numpy, written from the specification.

    decode(file, weights) -> pixels        bytes in; imports neither ncodec nor torch nor safetensors

Networks are lists of operations, as in tests/reference_hyperprior.py, whose weights file, vectors, z and container are these, too.
"""

import numpy as np
import reference_hyperprior as hyperprior
import reference_rans
from reference_hyperprior import Network, boxes, join, read_file
from reference_masked import run
from reference_rans import require

DEFAULTS = {"N": 128, "M": 320, "D": 128, "Z": 64, "H": 160, "S": 128, "B": 64}  # section 8
DEFAULTS |= {"analysis_blocks": 6, "synthesis_blocks": 10, "fat": 2, "deep_fat": 2, "layers": 2}
SHAPES = [(4, 4), (16, 16), (4, 16), (16, 4)]  # of windows, A14
ORDER = np.array([[0, 2], [3, 1]])  # X18: p


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
    found, attentions = hyperprior.shapes_of(c | {"context_steps": 4}), {}
    for name, width in fats_of(c).items():
        attentions[f"{name}.attention"] = width
        weights |= {f"{name}.up": (2 * width, width), f"{name}.down": (width, 2 * width)}
        found[f"{name}.attention.bias"] = ("<i4", (361 * width // 32,))
        found[f"{name}.modulation.weight"] = ("<i2", (16, 16, width))
        found[f"{name}.modulation.bits"] = ("u1", ())
    for s in range(4):
        weights[f"context.{s}.rows"] = (m, h)
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


# ---------------------------------------------------------------- networks, sections 3 to 6


class Graph(Network):
    """A network and the numbers of what is wanted of it."""

    wanted = ()

    def score(self, seen, name):
        """A13."""
        return self.add("clamp", self.layer(seen, name), numbers=(-4095, 4095))

    def shift_of(self, name):
        return int(self.tensors[f"{name}.score_bits"]) - 6

    def forward(self, x, name):
        """A13."""
        up = self.layer(self.add("norm", x, numbers=(11,)), f"{name}.up")
        return self.layer(self.add("leaky", up, numbers=(3277,)), f"{name}.down")

    def fat(self, x, name, width, is_moved):
        """A14, A15."""
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
        """A16."""
        share = -(-blocks // c["fat"])
        for s in range(c["fat"]):
            x = self.blocks(x, f"{side}.blocks", min((s + 1) * share, blocks), first=s * share)
            x = self.fat(x, f"{side}.fat.{s}", c["N"], s % 2)
        return x

    def deep(self, x, side, c):
        """A17."""
        x = self.layer(x, f"{side}.deep.stem")
        for s in range(c["deep_fat"]):
            x = self.fat(x, f"{side}.deep.fat.{s}", c["D"], s % 2)
        return self.layer(x, f"{side}.deep.head")

    def channels(self, x, name, heads, before):
        """A19. Return x, keys and values; `before` are those of the slices before, if there are."""
        seen = self.add("norm", x, numbers=(11,))
        made = self.score(seen, f"{name}.q"), self.score(seen, f"{name}.k"), self.layer(seen, f"{name}.v")  # fmt: skip
        q, *kept = (self.add("fold", part, numbers=(8, heads)) for part in made)
        if before:
            kept = [self.add("join", *parts) for parts in zip(before, kept, strict=True)]
        found = self.add("attention", q, *kept, numbers=(heads, self.shift_of(name)))
        found = self.add("unfold", found, x, numbers=(8, heads))
        x = self.add("add", x, self.layer(found, f"{name}.o"))
        return self.add("add", x, self.forward(x, name)), kept

    def check(self):
        """A5: the limits of specs/exact.md."""
        super().check()
        bounds = hyperprior.reference_exact.bounds(self.operations)
        for kind, inputs, _, arrays in self.operations:
            if kind == "window_attention":
                most = 32 * bounds[inputs[0]] * bounds[inputs[1]]
                require(most + abs(arrays[1].astype(np.int64)).max() < 1 << 31, "X26")


class Model(hyperprior.Model):
    """The networks and tables of a weights file."""

    family, defaults, shapes_of = "ftic", DEFAULTS, staticmethod(shapes_of)

    def build(self):
        c = self.config
        require(max(c["M"] - 768, c["N"] % 128, c["D"] % 128, c["H"] % 32) <= 0, "sizes")
        require(c["fat"] <= min(c["analysis_blocks"], c["synthesis_blocks"]), "sizes")
        for name, tensor in self.tensors.items():  # A5
            require(not name.endswith("score_bits") or 6 <= tensor <= 30, name)
            require(not name.endswith("modulation.bits") or tensor <= 15, name)
        self.knowing, self.closing = self.knowing_of(), self.closing_of()
        self.slicing = [self.slicing_of(s) for s in range(4)]
        self.opening = [self.opening_of(s) for s in range(4)]
        self.synthesis = self.synthesis_of()
        for net in (self.knowing, *self.slicing, *self.opening, self.synthesis):
            net.check()

    def knowing_of(self):
        """A20: features, base."""
        net = Graph(self.tensors)
        z, grid = net.input("z", self.config["Z"], 127), net.input("grid", 1, 32767)
        net.wanted = [self.features_of(net, z, grid), self.unrounded_of(net, z, grid)]
        return net

    def slicing_of(self, s):
        """A21, A22: mean, index, keys and values."""
        net, c, name = Graph(self.tensors), self.config, f"context.{s}"
        f, base = net.input("features", c["H"], 32767), net.input("base", c["M"], 32767)
        if s > 0:
            y_hat = net.input("y_hat", c["M"], 32767)
            seen = net.layer(net.layer(y_hat, f"{name}.neighbours"), f"{name}.stem")
            f = net.add("add", f, seen)
        f, heads, kept = net.blocks(f, f"{name}.blocks"), c["H"] // 32, []
        for k in range(c["layers"]):
            before = [net.input(f"keys.{k}", 64 * heads, 4095), net.input(f"values.{k}", 64 * heads, 32767)] if s else []  # fmt: skip
            f, parts = net.channels(f, f"{name}.channels.{k}", heads, before)
            kept += parts
        mean = net.layer(f, f"{name}.head")
        if s > 0:
            mean = net.add("add", mean, net.layer(y_hat, f"{name}.linear"))
        rows = net.add("shift", net.add("add", base, net.layer(f, f"{name}.rows")), numbers=(8,))
        net.wanted = [mean, net.add("clamp", rows, numbers=(0, 63)), *kept]
        return net

    def opening_of(self, s):
        """A23: y_hat."""
        net, m = Graph(self.tensors), self.config["M"]
        mean, r, y_hat = (net.input(name, m, 32767) for name in ("mean", "r", "y_hat"))
        y = net.add("add", mean, net.scaled(r, "unit", m))
        net.wanted = [net.add("merge", y_hat, y, numbers=(s, 4))]
        return net

    def closing_of(self):
        """Section 9: r."""
        net, m = Graph(self.tensors), self.config["M"]
        y, mean, index = (net.input(name, m, 32767) for name in ("y", "mean", "index"))
        r = net.scaled(net.add("subtract", y, mean), "gain", m)
        net.wanted = [net.add("gate", r, index, numbers=(self.skip_below,))]
        return net

    def synthesis_of(self):
        """A24: a tile in 1/64."""
        net, c = Graph(self.tensors), self.config
        y_hat = net.input("y_hat", c["M"], 32767)
        f = net.add("add", net.layer(y_hat, "g_s.stem"), net.deep(y_hat, "g_s", c))
        f = net.scaled(net.add("shuffle", f, numbers=(2,)), "g_s.gain", c["N"])
        f = net.between(f, "g_s", c, c["synthesis_blocks"])
        net.wanted = [self.joined(net, y_hat, f)]
        return net

    # ------------------------------------------------------------ a tile

    def rows(self, code, z, y_hat, symbols, y=None):
        """Yield the row of each coded residual, in the order of A9, and fill y_hat [h, w, M], which is 0.

        `symbols` has those decoded so far; where y is given, what an encoder would have is taken instead.
        """
        vectors, kept = self.vectors(code), {}
        features, base = run(self.knowing, vectors, z=z, grid=y_hat[:, :, :1])
        i, j, m = np.indices(y_hat.shape)
        step = (ORDER[i % 2, j % 2] + m) % 4  # A9
        names = [f"{part}.{k}" for k in range(self.config["layers"]) for part in ("keys", "values")]
        for s in range(4):
            known = {"features": features, "base": base, "y_hat": y_hat} | kept
            mean, index, *parts = run(self.slicing[s], vectors, **known)
            kept = dict(zip(names, parts, strict=True))
            if y is None:
                is_coded = (step == s) & (index >= self.skip_below)  # A10
                yield from index[is_coded].tolist()
                r = np.zeros(index.shape, np.int64)
                r[is_coded] = symbols[len(symbols) - is_coded.sum() :]
            else:
                (r,) = run(self.closing, vectors, y=y, mean=mean, index=index)
            require(abs(r).max() <= 32767, "r")  # A11
            (y_hat[:],) = run(self.opening[s], vectors, mean=mean, r=r, y_hat=y_hat)

    def latents(self, payload, code, width, height):
        """Return z and y_hat of a tile of width x height pixels; ValueError where the payload breaks a rule."""
        y_hat, symbols = self.zeros(width, height), []
        z, section = self.z_of(payload, code, *y_hat.shape[:2])
        rows = self.rows(code, z, y_hat, symbols)
        if not section:
            require(not list(rows), "truncated")
            return z, y_hat
        require(section[0] <= 5, "chunks")  # A9, E20
        table, lanes = self.tables["tables.r"], 1 << section[0]
        reference_rans.decode_chunk(section[1:], rows, table, lanes, symbols=symbols)
        require(symbols, "left over")
        return z, y_hat

    def zeros(self, width, height):
        return np.zeros((-(-height // 16), -(-width // 16), self.config["M"]), np.int64)

    def pixels(self, y_hat, code, width, height):
        """Return a tile [height, width, 3] in 1/64."""
        (pixels,) = run(self.synthesis, self.vectors(code), y_hat=y_hat)
        return pixels[:height, :width]


def tiles(data, model):
    """Return for each tile of a file its left and top, z and y_hat, and pixels."""
    file, payloads = read_file(data)
    require((file["family"], file["digest"]) == (7, model.digest), "family or digest")
    code, found = file["code"], []
    for (left, top, *size), payload in zip(boxes(file), payloads, strict=True):
        z, y_hat = model.latents(payload, code, *size)
        found.append((left, top, z, y_hat, model.pixels(y_hat, code, *size)))
    return file, found


def decode(data, weights):
    """Return the pixels of a file, made with these weights."""
    return join(*tiles(data, Model(weights)))
