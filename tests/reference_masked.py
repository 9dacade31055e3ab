"""The decoder of specs/masked.md in plain numpy, written from the specification.

    decode(file, weights) -> pixels        bytes in; imports neither ncodec nor torch nor safetensors

Networks are lists of operations, as in tests/reference_hyperprior.py, whose weights file, vectors, trunk and container are these, too.
A window is decoded by itself: tensors are [1, places, channels].
"""

import hashlib
from functools import cache
from itertools import pairwise, product

import numpy as np
import reference_hyperprior as hyperprior
import reference_rans
from reference_hyperprior import POWERS, Network, boxes, join, read_file, read_tensors
from reference_rans import require

DEFAULTS = {
    "N": 128,
    "M": 320,
    "analysis_blocks": 6,
    "synthesis_blocks": 10,
    "passes": "m2t",
}  # section 10
DEFAULTS |= {"steps": 8, "D": 192, "layers": 4, "U": 384, "H": 192, "slices": [4, 8, 20, 32, 32, 96, 128]}  # fmt: skip
R2 = (3242174889, 2447445414)


# ---------------------------------------------------------------- weights file, section 1


def shapes_of(c):
    """Return {name: (type, shape)}; None is any."""
    m, n, d, h = c["M"], c["N"], c["D"], c["H"]
    weights = {"content": (d, m), "content_positive": (d, m)}
    for s in range(c["steps"]):
        weights |= {f"near.{s}": (d, 5, 5), f"linear.{s}": (m, 5, 5), f"energy.{s}": (m, 5, 5)}
    for k in range(c["layers"]):
        weights |= {f"layers.{k}.{name}": (d, d) for name in "qkvo"}
        weights |= {f"layers.{k}.up": (c["U"], d), f"layers.{k}.down": (d, c["U"])}
    for a, channels in enumerate(c["slices"]):
        weights |= {f"heads.{a}.f": (h, d), f"heads.{a}.around": (h, channels), f"heads.{a}.mean": (channels, h), f"heads.{a}.index": (channels, h)}  # fmt: skip
        if a > 0:
            before = sum(c["slices"][:a])
            weights |= {f"heads.{a}.{name}": (h, before) for name in ("own", "own_positive")}
    weights |= {"g_s.linear": (768, m), "g_s.stem": (4 * n, m), "g_s.head": (192, n)}
    weights |= {"g_a.linear": (m, 768), "g_a.stem": (n, 192), "g_a.head": (m, 4 * n)}
    blocks = [f"g_s.blocks.{s}" for s in range(c["synthesis_blocks"])]
    for name in (*blocks, *(f"g_a.blocks.{s}" for s in range(c["analysis_blocks"]))):
        weights |= {f"{name}.depth": (n, 3, 3), f"{name}.expand": (2 * n, n), f"{name}.project": (n, 2 * n)}  # fmt: skip
    found = {name: ("<i4", (8, m)) for name in ("log_gain", "log_unit", "log_mean")}
    found |= {name: ("<i2", (65536,)) for name in ("asinh", "asinh_beyond")}
    found |= {name: ("<i2", (256, d)) for name in ("unknown_places", "known_places")}
    found |= {
        "index_offset": ("<i2", (8, m)), "score_bits": ("u1", (c["layers"],)), "mode": ("<i2", (8, d)),
        "group": ("<i2", (c["steps"], d)), "null": ("<i2", (d,)), "tables.r": ("<u2", (64, None)),
    }  # fmt: skip
    for name in ("g_a.gain", "g_s.gain"):
        found |= {name: ("<i2", (8, n)), f"{name}_shift": ("u1", ())}
    for name, shape in weights.items():
        found |= {f"{name}.weight": ("<i2", shape), f"{name}.bias": ("<i4", shape[:1]), f"{name}.shift": ("u1", shape[:1])}  # fmt: skip
    return found


# ---------------------------------------------------------------- schedule, section 2


@cache
def order():
    """K6: places, 16·row + column."""
    found, n = [], 0
    while len(found) < 256:
        n += 1
        row, column = ((a * n + 2**31) % 2**32 >> 28 for a in R2)
        if 16 * row + column not in found:
            found.append(16 * row + column)
    return found


@cache
def step_of_places(steps):
    """K7: of each place."""
    ends = [max(i, round(256 * (i / steps) ** 2.2)) for i in range(1, steps + 1)]
    step = {place: sum(end <= p for end in ends) for p, place in enumerate(order())}
    return [step[place] for place in range(256)]


def spans(length):
    """K8: first latent and side of windows along an axis."""
    count = -(-length // 16)
    side = -(-length // count)
    return [(first, min(side, length - first)) for first in range(0, length, side)]


def batches(h, w):
    """K9: lists of windows: top, left, height, width."""
    rows, columns, found = spans(h), spans(w), {}
    for (top, height), (left, width) in product(rows, columns):
        kind = height < rows[0][1], width < columns[0][1]
        found.setdefault(kind, []).append((top, left, height, width))
    return [found[kind] for kind in sorted(found)]


class Window:
    """Places of a window, [n] each, and what it keeps."""

    def __init__(self, box, kept):
        self.top, self.left, height, width = box
        self.places = [p for p in range(256) if p // 16 < height and p % 16 < width]
        self.kept = dict(kept)

    def at(self, plane, places):
        """Return [1, n, C] of a plane [h, w, C]."""
        return plane[self.here(places)][None]

    def here(self, places):
        places = np.array(places)
        return self.top + places // 16, self.left + places % 16


# ---------------------------------------------------------------- networks, sections 4 to 8


class Graph(Network):
    """A network and the numbers of what is wanted of it."""

    wanted = ()

    def steps(self, v, channels):
        """K15: steps and positive."""
        fine, coarse = (self.scaled(v, f"{name}.{channels}", channels) for name in ("fine", "steps"))  # fmt: skip
        fine = self.add("table", fine, arrays=(self.tensors["asinh"],))
        coarse = self.add("table", coarse, arrays=(self.tensors["asinh_beyond"],))
        a = self.add("add", fine, coarse)
        return a, self.add("leaky", a, numbers=(0,))

    def both(self, v, channels, name):
        """K15."""
        a, positive = self.steps(v, channels)
        return self.add("add", self.layer(a, name), self.layer(positive, f"{name}_positive"))

    def score(self, seen, name):
        return self.add("clamp", self.layer(seen, name), numbers=(-4095, 4095))

    def block(self, x, k, attend):
        """K17; attend(normed, k) gives keys and values."""
        name, seen = f"layers.{k}", self.add("norm", x, numbers=(11,))
        keys, values = attend(seen, k)
        query, d = self.score(seen, f"{name}.q"), self.tensors["null"].size
        numbers = (d // 32, int(self.tensors["score_bits"][k]) - 6)
        found = self.add("attention", query, keys, values, numbers=numbers)
        x = self.add("add", x, self.layer(found, f"{name}.o"))
        f = self.layer(self.add("norm", x, numbers=(11,)), f"{name}.up")
        return self.add("add", x, self.layer(self.add("leaky", f, numbers=(3277,)), f"{name}.down"))

    def own(self, seen, k):
        """Return keys and values of x itself."""
        return self.score(seen, f"layers.{k}.k"), self.layer(seen, f"layers.{k}.v")


class Model(hyperprior.Model):
    """The networks and tables of a weights file. at and pixels_of are hyperprior's, H12 and H26."""

    def __init__(self, data):
        self.digest = hashlib.sha256(data).digest()[:8]
        self.tensors, about = read_tensors(data, "masked")
        self.skip_below, c = about["skip_below"], DEFAULTS | about["config"]
        self.config = c
        require(self.skip_below in range(65), "skip_below")  # K2
        hyperprior.check_tensors(self.tensors, shapes_of(c))  # K3
        self.table = [row[row > 0].tolist() for row in self.tensors["tables.r"]]
        for row, full in zip(self.table, self.tensors["tables.r"], strict=True):
            require(sum(row) == 1 << 14 and full[: len(row)].all(), "table")  # K4
        bits = self.tensors["score_bits"]
        require(bits.min() >= 6 and bits.max() <= 30, "score_bits")  # K5
        for name in ("g_a.gain", "g_s.gain"):
            require(self.tensors[f"{name}_shift"] <= 30, "a shift of a gain")
        ends = np.cumsum([0, *c["slices"]]).tolist()
        self.slices = [slice(first, end) for first, end in pairwise(ends)]
        self.steps = step_of_places(c["steps"])
        self.around = [self.around_of(s) for s in range(c["steps"])]
        self.null, self.asking, self.telling = self.null_of(), self.asking_of(), self.telling_of()
        self.passing, self.content = self.passing_of(), self.content_of()
        self.heads = [self.head_of(a) for a in range(len(self.slices))]
        self.opening = [self.opening_of(a) for a in range(len(self.slices))]
        self.closing = [self.closing_of(a) for a in range(len(self.slices))]
        self.synthesis = Graph(self.tensors)
        y_hat = self.synthesis.input("y_hat", c["M"], 32767)
        self.synthesis.wanted = [self.pixels_of(self.synthesis, y_hat)]
        by_pass = [self.passing, self.content] if c["passes"] == "mt" else [self.null, self.asking, self.telling]  # fmt: skip
        for net in (*self.around, *by_pass, *self.heads, *self.opening, self.synthesis):
            net.check()

    def around_of(self, s):
        """K16: near, linear, energy."""
        net, c = Graph(self.tensors), self.config
        content, y_hat = net.input("content", c["D"], 32767), net.input("y_hat", c["M"], 32767)
        a, positive = net.steps(y_hat, c["M"])
        magnitude = net.add("subtract", positive, net.add("subtract", a, positive))
        seen = {"near": content, "linear": y_hat, "energy": magnitude}
        net.wanted = [net.layer(x, f"{name}.{s}") for name, x in seen.items()]
        return net

    def kept_names(self):
        return [f"{part}.{k}" for k in range(self.config["layers"]) for part in ("keys", "values")]

    def null_of(self):
        """K19: keys and values."""
        net, d = Graph(self.tensors), self.config["D"]
        x = net.add("offset", net.input("places", d, 32767), net.vector("mode", d))
        kept = []

        def attend(seen, k):
            kept.extend(net.own(seen, k))
            return kept[-2:]

        for k in range(self.config["layers"]):
            x = net.block(x, k, attend)
        net.wanted = kept
        return net

    def asking_of(self):
        """K20: f."""
        net, d = Graph(self.tensors), self.config["D"]
        x = net.add("add", net.input("near", d, 32767), net.input("places", d, 32767))
        x = net.add("offset", x, net.vector("mode", d))

        def attend(_, k):
            return net.input(f"keys.{k}", d, 4095), net.input(f"values.{k}", d, 32767)

        for k in range(self.config["layers"]):
            x = net.block(x, k, attend)
        net.wanted = [net.add("norm", x, numbers=(11,))]
        return net

    def telling_of(self):
        """K21: content, then keys and values."""
        net, c = Graph(self.tensors), self.config
        d = c["D"]
        content = net.both(net.input("y_hat", c["M"], 32767), c["M"], "content")
        x = net.add("offset", net.input("places", d, 32767), net.vector("mode", d))
        x = net.add("add", net.add("add", x, net.input("near", d, 32767)), content)
        kept = []

        def attend(seen, k):
            before = net.input(f"keys.{k}", d, 4095), net.input(f"values.{k}", d, 32767)
            now = net.own(seen, k)
            kept.extend(net.add("join", x, y) for x, y in zip(before, now, strict=True))
            return kept[-2:]

        for k in range(c["layers"]):
            x = net.block(x, k, attend)
        net.wanted = [content, *kept]
        return net

    def passing_of(self):
        """K22: f."""
        net, d = Graph(self.tensors), self.config["D"]
        x = net.add("add", net.input("near", d, 32767), net.input("places", d, 32767))
        x = net.add("offset", x, net.vector("mode", d))
        x = net.add("add", x, net.input("content", d, 32767))
        for k in range(self.config["layers"]):
            x = net.block(x, k, net.own)
        net.wanted = [net.add("norm", x, numbers=(11,))]
        return net

    def content_of(self):
        net, m = Graph(self.tensors), self.config["M"]
        net.wanted = [net.both(net.input("y_hat", m, 32767), m, "content")]
        return net

    def head_of(self, a):
        """K23: mean, index."""
        net, channels, name = Graph(self.tensors), self.config["slices"][a], f"heads.{a}"
        before = self.slices[a].start
        energy = net.input("energy", channels, 32767)
        g = net.layer(net.input("f", self.config["D"], 32767), f"{name}.f")
        g = net.add("add", g, net.layer(energy, f"{name}.around"))
        if a > 0:
            own = net.both(net.input("y_hat", before, 32767), before, f"{name}.own")
            g = net.add("add", g, own)
        m = net.add("leaky", g, numbers=(3277,))
        mean = net.scaled(net.layer(m, f"{name}.mean"), "mean", channels)
        mean = net.add("add", mean, net.input("linear", channels, 32767))
        index = net.add("add", net.layer(m, f"{name}.index"), energy)
        index = net.add("offset", index, net.vector("index_offset", channels))
        index = net.add("clamp", net.add("shift", index, numbers=(8,)), numbers=(0, 63))
        net.wanted = mean, index
        return net

    def opening_of(self, a):
        """K24: y_hat."""
        net, channels = Graph(self.tensors), self.config["slices"][a]
        mean, r = net.input("mean", channels, 32767), net.input("r", channels, 32767)
        net.wanted = [net.add("add", mean, net.scaled(r, "unit", channels))]
        return net

    def closing_of(self, a):
        """Section 11: r."""
        net, channels = Graph(self.tensors), self.config["slices"][a]
        y, mean, index = (net.input(name, channels, 32767) for name in ("y", "mean", "index"))
        r = net.scaled(net.add("subtract", y, mean), "gain", channels)
        net.wanted = [net.add("gate", r, index, numbers=(self.skip_below,))]
        return net

    # ------------------------------------------------------------ quality

    def vectors(self, code):
        """Return what formulas see of the quality, of all channels."""
        found = {"index_offset": self.at("index_offset", code), "mode": self.at("mode", code)}
        for name in ("g_a.gain", "g_s.gain"):  # H13
            m = self.at(name, code)
            found |= {f"{name}.m": m, f"{name}.t": 0 * m + self.tensors[f"{name}_shift"]}
        gain = self.at("log_gain", code)
        logs = {"gain": gain, "unit": self.at("log_unit", code), "mean": self.at("log_mean", code)}
        logs |= {"fine": gain + 9 * 4096, "steps": gain + 5 * 4096}
        for name, log in logs.items():  # H14
            e = 14 - (log >> 12)
            found[f"{name}.m"] = POWERS[log % 4096] >> np.clip(e - 30, 0, 15)
            found[f"{name}.t"] = np.clip(e, 0, 30)
        return found

    def vectors_of(self, code, channels):
        """Return those of a slice of channels, and those of `both`."""
        found = {name: vector[channels] for name, vector in self.vectors(code).items() if name.split(".")[0] in ("index_offset", "gain", "unit", "mean")}  # fmt: skip
        return found | self.vectors_of_first(code, channels.start)

    def vectors_of_first(self, code, n):
        found = self.vectors(code)
        names = [f"{name}.{part}" for name in ("fine", "steps") for part in "mt"]
        return {f"{name[:-2]}.{n}.{name[-1]}": found[name][:n] for name in names}

    # ------------------------------------------------------------ a tile

    def rows(self, code, y_hat, symbols, y=None):
        """Yield the row of each coded residual, in the order of K11, and fill y_hat [h, w, M].

        `symbols` has those decoded so far; where y is given, what an encoder would have is taken instead.
        """
        (h, w, m), c = y_hat.shape, self.config
        whole = self.vectors(code) | self.vectors_of_first(code, m)
        of_slice = [self.vectors_of(code, channels) for channels in self.slices]
        content, is_mt = np.zeros((h, w, c["D"]), np.int64), c["passes"] == "mt"
        kept = {}
        if not is_mt:
            null = self.tensors["null"].reshape(1, 1, -1)
            values = run(self.null, whole, places=null)
            kept = dict(zip(self.kept_names(), values, strict=True))
        plan = [[Window(box, kept) for box in batch] for batch in batches(h, w)]
        for s in range(c["steps"]):
            near, linear, energy = run(self.around[s], whole, content=content, y_hat=y_hat)
            for batch in plan:
                places = [p for p in batch[0].places if self.steps[p] == s]
                if not places:
                    continue
                f = [self.ask(window, places, s, near, content, whole) for window in batch]
                known = [np.zeros((1, len(places), m), np.int64) for _ in batch]
                for a, channels in enumerate(self.slices):
                    for window, seen, v in zip(batch, f, known, strict=True):
                        feeds = {"f": seen, "y_hat": v[..., : channels.start]}
                        for name, plane in (("linear", linear), ("energy", energy)):
                            feeds[name] = window.at(plane, places)[..., channels]
                        mean, index = run(self.heads[a], of_slice[a], **feeds)
                        if y is None:
                            is_coded = index >= self.skip_below
                            yield from index[is_coded].tolist()
                            r = np.zeros(index.shape, np.int64)
                            r[is_coded] = symbols[len(symbols) - is_coded.sum() :]  # K12
                        else:
                            there = window.at(y, places)[..., channels]
                            (r,) = run(self.closing[a], of_slice[a], y=there, mean=mean, index=index)  # fmt: skip
                        require(abs(r).max() <= 32767, "r")  # K13
                        (v[..., channels],) = run(self.opening[a], of_slice[a], mean=mean, r=r)
                for window, v in zip(batch, known, strict=True):
                    y_hat[window.here(places)] = v[0]
                    if s + 1 < c["steps"]:
                        told = self.tell(window, places, near, v, whole)
                        content[window.here(places)] = told[0]

    def ask(self, window, places, s, near, content, vectors):
        """Return f [1, n, D] of places."""
        asked = self.tensors["unknown_places"].astype(np.int64) + self.tensors["group"][s]  # K18
        asked, told = np.clip(asked, -32767, 32767), self.tensors["known_places"]
        if self.config["passes"] == "m2t":
            feeds = {"near": window.at(near, places), "places": asked[places][None]}
            return run(self.asking, vectors, **feeds, **window.kept)[0]
        every = window.places
        x = np.stack([told[p] if self.steps[p] < s else asked[p] for p in every])[None]
        here = {"near": window.at(near, every), "content": window.at(content, every)}
        (f,) = run(self.passing, vectors, **here, places=x)
        return f[:, [every.index(p) for p in places]]

    def tell(self, window, places, near, y_hat, vectors):
        """Return content [1, n, D] of places."""
        if self.config["passes"] == "mt":
            return run(self.content, vectors, y_hat=y_hat)[0]
        told = self.tensors["known_places"][places][None]
        feeds = {"near": window.at(near, places), "places": told, "y_hat": y_hat}
        content, *kept = run(self.telling, vectors, **feeds, **window.kept)
        window.kept = dict(zip(self.kept_names(), kept, strict=True))
        return content

    def latents(self, payload, code, width, height):
        """Return y_hat of a tile of width x height pixels; ValueError where the payload breaks a rule."""
        y_hat, symbols = self.zeros(width, height), []
        rows = self.rows(code, y_hat, symbols)
        if not payload:
            require(not list(rows), "truncated")
            return y_hat
        require(payload[0] <= 5, "chunks")  # K10, E20
        reference_rans.decode_chunk(payload[1:], rows, self.table, 1 << payload[0], symbols=symbols)
        require(symbols, "left over")
        return y_hat

    def zeros(self, width, height):
        return np.zeros((-(-height // 16), -(-width // 16), self.config["M"]), np.int64)

    def pixels(self, y_hat, code, width, height):
        """Return a tile [height, width, 3] in 1/64."""
        (pixels,) = run(self.synthesis, self.vectors(code), y_hat=y_hat)
        return pixels[:height, :width]


def run(net, vectors, **feeds):
    """Return what is wanted of a network; more may be fed than it takes."""
    known = vectors | feeds
    numbers = {number: known[name] for name, number in net.names.items() if name in known}
    return hyperprior.reference_exact.run(net.operations, numbers, net.wanted)


def tiles(data, model):
    """Return for each tile of a file its left and top, y_hat and pixels."""
    file, payloads = read_file(data)
    require((file["family"], file["digest"]) == (6, model.digest), "family or digest")
    code, found = file["code"], []
    for (left, top, *size), payload in zip(boxes(file), payloads, strict=True):
        y_hat = model.latents(payload, code, *size)
        found.append((left, top, y_hat, model.pixels(y_hat, code, *size)))
    return file, found


def decode(data, weights):
    """Return the pixels of a file, made with these weights."""
    return join(*tiles(data, Model(weights)))
