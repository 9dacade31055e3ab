"""specs/tokenizer.md in numpy and plain Python, and of the file what leads to the payloads, written from the specifications.

    decode(file, weights) -> pixels        bytes in; imports neither ncodec nor torch nor safetensors

Tensors are those of a weights file; a stage is its levels, (5, 5, 3), or its bits, 10.
"""

import hashlib
import math

import numpy as np
from reference_hyperprior import Network, boxes, check_tensors, join, read_file, read_tensors
from reference_rans import read_varint, require

SQUASH = [
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581,
    57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
]  # fmt: skip
LEFT = [(0, -1), (-1, -1), (-1, 0), (-1, 1)]
AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]


def clip(v, low, high):
    return max(low, min(int(v), high))


def squash(d):
    i = d + 2048
    a, b = SQUASH[i // 128], SQUASH[i // 128 + 1]
    return a + ((b - a) * (i % 128) + 64) // 128


SQUASHED = [squash(d) for d in range(-2048, 2048)]
STRETCHED = [
    clip(next((i for i, v in enumerate(SQUASHED) if v >= 16 * p + 8), 4095) - 2048, -2047, 2047)
    for p in range(4096)
]


def rounded(x, s):
    return (x + (1 << (s - 1))) >> s


class Context:
    def __init__(self):
        self.p, self.n = 32768, 0

    def adapt(self, bin_):
        self.p += (65535 * bin_ - self.p) * (131072 // (2 * self.n + 3)) >> 16
        self.n += self.n < 120


class RangeEncoder:
    """specs/binary.md with shares from elsewhere."""

    def __init__(self):
        self.low, self.range, self.shifts, self.any = 0, 1 << 32, 0, False

    def bin(self, value, share):
        upper = self.range * share >> 17
        self.low += value * (self.range - upper)
        self.range = upper if value else self.range - upper
        self.any = True
        while self.range < 1 << 24:
            self.low, self.range, self.shifts = self.low << 8, self.range << 8, self.shifts + 1
        return value

    def finish(self):
        if not self.any:
            return b""
        return (self.low + (1 << 24) - 1 >> 24).to_bytes(self.shifts + 1, "big")


class RangeDecoder:
    """ValueError where the payload breaks a rule."""

    def __init__(self, payload):
        self.payload, self.offset, self.position = payload, 0, 0
        self.range, self.any = 1 << 32, False
        if payload:
            for _ in range(4):
                self.shift()

    def shift(self):
        if self.position >= len(self.payload) + 3:
            raise ValueError("truncated")
        byte = self.payload[self.position] if self.position < len(self.payload) else 0
        self.offset, self.position = self.offset << 8 | byte, self.position + 1

    def bin(self, _, share):
        if not self.payload:
            raise ValueError("truncated")
        upper = self.range * share >> 17
        value = int(self.offset >= self.range - upper)
        self.offset -= value * (self.range - upper)
        self.range = upper if value else self.range - upper
        self.any = True
        while self.range < 1 << 24:
            self.range <<= 8
            self.shift()
        return value

    def finish(self):
        if not self.any:
            if self.payload:
                raise ValueError("left over")
        elif self.position != len(self.payload) + 3:
            raise ValueError("left over")
        elif self.offset >= 1 << 24:
            raise ValueError("bad end")


class Tokens:
    """Payloads of tokens [n, h, w] of a model, its stages and its tensors; ValueError if these do not fit."""

    def __init__(self, stages, tensors):
        self.stages = stages
        self.tensors = [
            {k.split(".", 2)[2]: v for k, v in tensors.items() if k.startswith(f"tokens.{s}.")}
            for s in range(len(stages))
        ]
        for stage, arrays in zip(stages, self.tensors, strict=True):
            self._check(stage, {k: v.astype(object) for k, v in arrays.items()})

    @staticmethod
    def _check(stage, arrays):
        """T4, T5: no sum leaves 32 bits."""
        shifts = arrays["shifts"]
        if not all(1 <= s <= 30 for s in shifts):
            raise ValueError("shifts")
        hidden = abs(arrays["hidden.bias"]) + 127 * abs(arrays["hidden.weight"]).sum(1)
        head = abs(arrays["head.bias"]) + 32767 * abs(arrays["head.weight"]).sum(1)
        if isinstance(stage, tuple):
            head = head + 127 * abs(arrays["own.weight"]).sum(1)
        elif abs(arrays["values"]).max() > 127:
            raise ValueError("values")
        for sums, s in ((hidden, shifts[0]), (head, shifts[1])):
            if max(sums) + 2 ** (int(s) - 1) >= 2**31:
                raise ValueError("sums")

    def units(self, s):
        return len(self.stages[s]) if isinstance(self.stages[s], tuple) else self.stages[s]

    def channels(self, s):
        return (
            len(self.stages[s])
            if isinstance(self.stages[s], tuple)
            else self.tensors[s]["values"].shape[1]
        )

    def value(self, s, token, depth):
        """T7 to T9: the values of a token."""
        if token < 0:
            return [0] * self.channels(s)
        stage = self.stages[s]
        if not isinstance(stage, tuple):
            return self.tensors[s]["values"][2**depth - 1 + (token >> (stage - depth))].tolist()
        digits = [token // math.prod(stage[:k]) % stage[k] for k in range(len(stage))]
        return [
            2 * d - (n - 1) if k < depth else 0
            for k, (d, n) in enumerate(zip(digits, stage, strict=True))
        ]

    def values(self, tokens, depth):
        """[h, w, D] of tokens of the first stages. T10."""
        n, height, width = tokens.shape
        channels = [
            [
                [self.value(s, int(t), depth if s == n - 1 else self.units(s)) for t in row]
                for row in tokens[s]
            ]
            if s < n
            else np.zeros((height, width, self.channels(s)), int)
            for s in range(len(self.stages))
        ]
        return np.concatenate([np.array(c).reshape(height, width, -1) for c in channels], 2)

    def encode(self, tokens, s, depth, first, end, given=None):
        coder = RangeEncoder()
        self._code(coder, tokens, s, depth, first, end, given)
        return coder.finish()

    def decode(self, payload, tokens, s, depth, first, end, given=None):
        """Return rows `first` to `end` of stage s; logits [rows, columns, nodes] may be given (T37)."""
        coder = RangeDecoder(payload)
        rows = self._code(coder, tokens, s, depth, first, end, given)
        coder.finish()
        return rows

    def _code(self, coder, tokens, s, depth, first, end, given=None):
        width, arrays = tokens.shape[2], self.tensors[s]
        self.model = StageModel(arrays, isinstance(self.stages[s], tuple))
        coded = np.full((end - first, width), -1)
        before = [[[] for _ in range(width)] for _ in range(first, end)]
        for i in range(end - first):
            for j in range(width):
                for k in range(s):
                    before[i][j] += self.value(k, int(tokens[k, first + i, j]), self.units(k))
        n_before = sum(self.channels(k) for k in range(s))

        def at(i, j):
            return 0 <= i < end - first and 0 <= j < width

        for i in range(end - first):
            for j in range(width):
                x = []
                for di, dj in LEFT:  # T13
                    inside = at(i + di, j + dj)
                    x += self.value(s, int(coded[i + di, j + dj]) if inside else -1, depth)
                for di, dj in AROUND:
                    x += before[i + di][j + dj] if at(i + di, j + dj) else [0] * n_before
                self.model.enter(x, None if given is None else given[i, j])
                token = int(tokens[s, first + i, j])
                code = self._digits if isinstance(self.stages[s], tuple) else self._path
                coded[i, j] = code(coder, s, depth, token)
        return coded

    def _digits(self, coder, s, depth, token):
        """T12: each digit's decisions; the node of each."""
        coded, radix, node, own = 0, 1, 0, [0] * self.channels(s)
        for k, n in enumerate(self.stages[s][:depth]):
            level, side = token // radix % n, n // 2

            def ask(fact, at, own=own):
                return self.model.decide(coder, int(fact), at, at, own)

            zero = n % 2
            above = node + zero
            if zero and not ask(level != side, node):
                found = side
            elif ask(level > (n - 1) / 2, above):
                found = n - side
                while found < n - 1 and ask(level > found, above + side + found - (n - side)):
                    found += 1
            else:
                found = side - 1
                while found > 0 and ask(level < found, above + 1 + side - 1 - found):
                    found -= 1
            own[k] = 2 * found - (n - 1)
            coded += found * radix
            radix *= n
            node += n - 1
        return coded

    def _path(self, coder, s, depth, token):
        """T12."""
        bits, prefix = self.stages[s], 0
        for t in range(depth):
            bit = token >> (bits - 1 - t) & 1
            prefix = 2 * prefix + self.model.decide(coder, bit, 2**t - 1 + prefix, t, None)
        return prefix << (bits - depth)


class StageModel:
    """T14 to T18: the network, contexts, mixers."""

    def __init__(self, arrays, is_digits):
        self.arrays = {k: v.astype(np.int64) for k, v in arrays.items()}
        self.is_digits = is_digits
        self.contexts, self.bands, self.mixers = {}, {}, {}

    def enter(self, x, given):
        a = self.arrays
        self.given = given
        sums = a["hidden.bias"] + a["hidden.weight"] @ np.array(x, np.int64)
        self.hidden = rounded(sums, int(a["shifts"][0])).clip(0, 32767)

    def decide(self, coder, value, node, mixer, own):
        a = self.arrays
        total = int(a["head.bias"][node] + a["head.weight"][node] @ self.hidden)
        if self.is_digits:
            seen = np.array([*own, *map(abs, own)])[: a["own.weight"].shape[1]]
            total += int(a["own.weight"][node] @ seen)
        added = 0 if self.given is None else int(self.given[node])
        logit = clip(rounded(total, int(a["shifts"][1])) + added, -2047, 2047)
        context = self.contexts.setdefault(node, Context())
        band = self.bands.setdefault((node, (logit + 2048) // 256), Context())
        w = self.mixers.setdefault(mixer, [65536, 0, 0])
        s = [logit, STRETCHED[context.p >> 4], STRETCHED[band.p >> 4]]
        d = clip(sum(map(int.__mul__, w, s)) >> 16, -2048, 2047)
        p = clip(SQUASHED[d + 2048], 64, 65472)
        found = coder.bin(value, 2 * p)
        for k in range(3):
            w[k] = clip(w[k] + ((s[k] * (65535 * found - p) + 2**12) >> 13), -(2**18), 2**18)
        context.adapt(found)
        band.adapt(found)
        return found


# ---------------------------------------------------------------- weights file, section 1

STAGES = {
    "fsq": [(16, 8, 8)] + [(5, 5, 3, 3, 3)] * 2 + [(3,) * 8] * 5,
    "bsq": [(2,) * 10] * 8,
    "vq": [10] * 8,
}
CHANNELS = 8  # of a tree's token
DEFAULTS = {"quantiser": "fsq", "N": 128, "M": 320, "H": 192, "B": 64}  # section 8
DEFAULTS |= {"analysis_blocks": 6, "synthesis_blocks": 10, "deep_blocks": 3}


def shapes_of(c):
    """Return {name: (type, shape)}. T3."""
    n, h, b, stages = c["N"], c["H"], c["B"], STAGES[c["quantiser"]]
    is_vq = c["quantiser"] == "vq"
    sizes = [CHANNELS if is_vq else len(stage) for stage in stages]
    nodes = [2**stage - 1 if is_vq else sum(stage) - len(stage) for stage in stages]
    d = sum(sizes)
    weights = {
        "g_s.linear": (768, d), "g_s.stem": (4 * n, d), "g_s.deep_stem": (h, d), "g_s.up": (4 * n, h), "g_s.head": (192, n),
        "g_a.linear": (d, 768), "g_a.stem": (n, 192), "g_a.head": (d, 4 * n), "g_a.down": (h, 4 * n), "g_a.deep_head": (d, h),
    }  # fmt: skip
    for name, width, count in [
        ("g_s.deep", h, c["deep_blocks"]), ("g_s.blocks", n, c["synthesis_blocks"]),
        ("g_a.deep", h, c["deep_blocks"]), ("g_a.blocks", n, c["analysis_blocks"]),
    ]:  # fmt: skip
        for s in range(count):
            weights[f"{name}.{s}.depth"] = (width, 3, 3)
            weights[f"{name}.{s}.expand"] = (2 * width, width)
            weights[f"{name}.{s}.project"] = (width, 2 * width)
    found = {"feedback": ("<i4", (d, d)), "value_bits": ("u1", ())}
    if not is_vq:
        found["thresholds"] = ("<i2", (sum(nodes),))
    for name, width in (("g_s.deep_gain", h), ("g_s.gain", n)):
        found |= {name: ("<i2", (8, width)), f"{name}_shift": ("u1", ())}
    for name, shape in weights.items():
        found |= {f"{name}.weight": ("<i2", shape), f"{name}.bias": ("<i4", shape[:1]), f"{name}.shift": ("u1", shape[:1])}  # fmt: skip
    for s, (size, count) in enumerate(zip(sizes, nodes, strict=True)):
        tensors = {
            "hidden.weight": ("<i2", (b, 4 * size + 9 * sum(sizes[:s]))), "hidden.bias": ("<i4", (b,)),
            "head.weight": ("<i2", (count, b)), "head.bias": ("<i4", (count,)), "shifts": ("<i4", (2,)),
            "values" if is_vq else "own.weight": ("<i2", (2 * count + 1 if is_vq else count, size)),
        }  # fmt: skip
        found |= {f"tokens.{s}.{name}": what for name, what in tensors.items()}
    return found


# ---------------------------------------------------------------- the masked transformer, section 10

MASKED = {"d": 160, "blocks": 3, "layers": 3, "near": 64, "fill": 96}


def shapes_of_masked(c, m):
    """Return {name: (type, shape)}. T32."""
    d, near, stages = m["d"], m["near"], STAGES[c["quantiser"]]
    is_vq = c["quantiser"] == "vq"
    sizes = [CHANNELS if is_vq else len(stage) for stage in stages]
    nodes = [2**stage - 1 if is_vq else sum(stage) - len(stage) for stage in stages]
    weights, fill = {"stem": (d, 2 * sum(sizes) + 8)}, m["fill"]
    weights |= {"fill.stem": (fill, sum(sizes) + 8), "fill.out": (sum(sizes), fill)}
    for name, width, count in (("", d, m["blocks"]), ("fill.", fill, 4)):
        for s in range(count):
            weights |= {f"{name}blocks.{s}.depth": (width, 5, 5), f"{name}blocks.{s}.expand": (2 * width, width), f"{name}blocks.{s}.project": (width, 2 * width)}  # fmt: skip
    for s in range(m["layers"]):
        weights |= {f"layers.{s}.{part}": (d, d) for part in "qkvo"}
        weights |= {f"layers.{s}.up": (2 * d, d), f"layers.{s}.down": (d, 2 * d)}
    for s in range(8):
        weights |= {f"heads.{s}.hidden": (d, d), f"heads.{s}.out": (nodes[s], d)}
    found = {"positions": ("<i2", (144, d))}
    found |= {f"layers.{s}.shift": ("u1", ()) for s in range(m["layers"])}
    for name, shape in weights.items():
        found |= {f"{name}.weight": ("<i2", shape), f"{name}.bias": ("<i4", shape[:1]), f"{name}.shift": ("u1", shape[:1])}  # fmt: skip
    for s, (size, count) in enumerate(zip(sizes, nodes, strict=True)):
        tensors = {
            "hidden.weight": ("<i2", (near, 4 * size + 9 * sum(sizes[:s]))), "hidden.bias": ("<i4", (near,)),
            "head.weight": ("<i2", (count, near)), "head.bias": ("<i4", (count,)), "shifts": ("<i4", (2,)),
        }  # fmt: skip
        if not is_vq:
            tensors["own.weight"] = ("<i2", (count, 2 * size))
        found |= {f"tokens.{s}.{name}": what for name, what in tensors.items()}
    return {f"masked.{name}": what for name, what in found.items()}


def windows_of(n):
    """Return the places of each window along n places. T34."""
    count = -(-n // 12)
    sides = [n // count + (i >= count - n % count) for i in range(count)]
    return [list(range(sum(sides[:i]), sum(sides[: i + 1]))) for i in range(count)]


def between(c, known, size):
    """Fill in the first channels of c [h, w, D] where they are not known. T31."""
    for i, j in np.argwhere(~known).tolist():
        rows = np.flatnonzero(known[:, j]).tolist()
        above, below = [a for a in rows if a < i], [b for b in rows if b > i]
        if above and below:
            a, b = above[-1], below[0]
            line = 2 * (c[a, j, :size] * (b - i) + c[b, j, :size] * (i - a)) + b - a
            c[i, j, :size] = line // (2 * (b - a))
        elif rows:
            c[i, j, :size] = c[above[-1] if above else below[0], j, :size]


class Transformer:
    """T32 to T39."""

    def __init__(self, stages, tensors, config):
        self.stages = stages
        ours = {k.removeprefix("masked."): v for k, v in tensors.items() if "masked.tokens" in k}
        values = {k: v for k, v in tensors.items() if k.endswith(".values")}
        self.coder = Tokens(stages, ours | values)
        self.channels = sum(map(self.coder.channels, range(8)))
        net = self.plane = Network(tensors)
        f = net.layer(net.input("x", 2 * self.channels + 8, 127), "masked.stem")
        self.f = net.blocks(f, "masked.blocks", config["blocks"])
        net.check()
        net = self.windows = Network(tensors)
        place = net.input("places", 1, 32767)
        position = net.add("embed", place, arrays=[tensors["masked.positions"]])
        f = net.add("add", net.input("f", config["d"], 32767), position)
        for k in range(config["layers"]):
            name = f"masked.layers.{k}"
            x = net.add("norm", f, numbers=(10,))
            q, key = (net.add("clamp", net.layer(x, f"{name}.{part}"), numbers=(-8190, 8190)) for part in "qk")  # fmt: skip
            shift = int(tensors[f"{name}.shift"])
            require(shift <= 24, "a shift of attention")
            a = net.add("attention", q, key, net.layer(x, f"{name}.v"), numbers=(config["d"] // 32, shift))  # fmt: skip
            f = net.add("add", f, net.layer(a, f"{name}.o"))
            x = net.layer(net.add("norm", f, numbers=(10,)), f"{name}.up")
            f = net.add("add", f, net.layer(net.add("leaky", x, numbers=(3277,)), f"{name}.down"))
        f = net.add("norm", f, numbers=(10,))
        self.outputs = []
        for s in range(8):
            x = net.add("leaky", net.layer(f, f"masked.heads.{s}.hidden"), numbers=(3277,))
            self.outputs.append(net.layer(x, f"masked.heads.{s}.out"))
        net.check()
        net = self.fill = Network(tensors)
        f = net.layer(net.input("x", self.channels + 8, 127), "masked.fill.stem")
        self.added = net.layer(net.blocks(f, "masked.fill.blocks", 4), "masked.fill.out")
        net.check()

    def logits(self, values, s):
        """Return [h, w, nodes] of values [h, w, D]. T34 to T36."""
        h, w, _ = values.shape
        flags = np.zeros((h, w, 8), int)
        flags[..., s] = 1
        f = self.plane.run({"x": np.concatenate([values, abs(values), flags], 2)}, self.f)[0]
        found = [[None] * w for _ in range(h)]
        for rows in windows_of(h):
            for columns in windows_of(w):
                inside = np.array([f[i, j] for i in rows for j in columns])[None]
                places = np.array([[[i * 12 + j] for i in range(len(rows)) for j in range(len(columns))]])  # fmt: skip
                logits = self.windows.run({"f": inside, "places": places}, self.outputs[s])[0][0]
                for k, logit in enumerate(logits):
                    found[rows[k // len(columns)]][columns[k % len(columns)]] = logit
        return np.array(found)

    def decode(self, payload, tokens, s, depth, first, end):
        """T37: as Tokens.decode."""
        given = None
        if end > first:
            before = np.zeros((end - first, tokens.shape[2], self.channels), int)
            if s:
                before = self.coder.values(tokens[:s, first:end], self.coder.units(s - 1))
            given = self.logits(before, s)
        return self.coder.decode(payload, tokens, s, depth, first, end, given)

    def filled(self, c, tokens, n):
        """Return values c [h, w, D] of tokens, absent ones of the first n stages filled in. T38, T39."""
        known = np.zeros((8, *tokens.shape[1:]), int)
        known[: len(tokens)] = tokens >= 0
        x = np.concatenate([c, known.transpose(1, 2, 0)], 2)
        added, c, first = self.fill.run({"x": x}, self.added)[0], c.copy(), 0
        for s in range(n):
            last = first + self.coder.channels(s)
            for i, j in np.argwhere(known[s] == 0).tolist():
                there = [*map(int, c[i, j, first:last] + added[i, j, first:last])]
                c[i, j, first:last] = [max(-127, min(v, 127)) for v in there]
            first = last
        return c


class Model:
    """A weights file: what turns payloads into tokens, and tokens into pixels."""

    def __init__(self, data):
        self.digest = hashlib.sha256(data).digest()[:8]
        self.tensors, about = read_tensors(data, "tokenizer")
        self.config = DEFAULTS | about["config"]
        self.stages = STAGES[self.config["quantiser"]]
        shapes, self.masked = shapes_of(self.config), None
        if "masked" in about:
            shapes |= shapes_of_masked(self.config, MASKED | about["masked"])
        check_tensors(self.tensors, shapes)
        if "masked" in about:
            self.masked = Transformer(self.stages, self.tensors, MASKED | about["masked"])
        require(self.tensors["value_bits"] <= 10, "value_bits")  # T6
        for name in ("g_s.deep_gain", "g_s.gain"):
            require(self.tensors[f"{name}_shift"] <= 30, "a shift of a gain")
        self.coder = Tokens(self.stages, self.tensors)
        self.net = Network(self.tensors)
        self.pixels_number = self._pixels(self.net)
        self.net.check()

    def _pixels(self, net):
        """T25, B(c) as T6 says."""
        c = net.input("c", sum(map(self.coder.channels, range(8))), 127)
        deep = net.scaled(net.layer(c, "g_s.deep_stem"), "g_s.deep_gain", self.config["H"])
        deep = net.blocks(deep, "g_s.deep", self.config["deep_blocks"])
        f = net.add("add", net.layer(c, "g_s.stem"), net.layer(deep, "g_s.up"))
        f = net.scaled(net.add("shuffle", f, numbers=(2,)), "g_s.gain", self.config["N"])
        f = net.layer(net.blocks(f, "g_s.blocks", self.config["synthesis_blocks"]), "g_s.head")
        linear = net.add("shuffle", net.layer(c, "g_s.linear"), numbers=(16,))
        u = net.add("add", linear, net.add("shuffle", f, numbers=(8,)))
        return net.add("clamp", u, numbers=(0, 255 * 64))

    def at(self, name, code):
        """T23: a vector."""
        k = min(code // 20, 6)
        g = code - 20 * k
        low, high = self.tensors[name].astype(np.int64)[k : k + 2]
        return (low * (20 - g) + high * g) // 20

    def depth(self, s, code):
        """T21."""
        units, part = self.coder.units(s), code % 20
        return -(-units * part // 20) if part and s == -(-code // 20) else units

    def tokens(self, parts, code, width, height, is_second=False):
        """Return [layers, h, w] of the payloads [layers][ranges] of a tile; -1 of those that are None. T19 to T22, T30."""
        h, w = -(-height // 16), -(-width // 16)
        coder = self.masked if is_second else self.coder
        require(coder is not None, "no transformer")  # T33
        require(len(parts) <= 1 - (-code // 20), "layers")
        tokens = np.full((len(parts), h, w), -1)
        for s, payloads in enumerate(parts):
            for i, payload in enumerate(payloads):
                first, end = (k * h // len(payloads) for k in (i, i + 1))
                if payload is not None and (s == 0 or (tokens[s - 1, first:end] >= 0).all()):
                    depth = self.depth(s, code)
                    rows = coder.decode(payload, tokens, s, depth, first, end)
                    tokens[s, first:end] = rows
        return tokens

    def values(self, tokens, code):
        """Return c [h, w, D]. T10, T31, T38."""
        n, depth = len(tokens), self.depth(len(tokens) - 1, code)
        c = self.coder.values(tokens, depth)
        between(c, tokens[0] >= 0, self.coder.channels(0))
        if self.masked is not None and (tokens < 0).any():
            c = self.masked.filled(c, tokens, n if depth == self.coder.units(n - 1) else n - 1)
        return c

    def pixels(self, tokens, code):
        """Return [16 h, 16 w, 3] in 1/64."""
        if len(tokens) < 1 - (-code // 20):
            code = 20 * (len(tokens) - 1)  # T29
        feeds = {"c": self.values(tokens, code)}
        for name in ("g_s.deep_gain", "g_s.gain"):
            m = self.at(name, code)
            feeds |= {f"{name}.m": m, f"{name}.t": 0 * m + self.tensors[f"{name}_shift"]}
        return self.net.run(feeds, self.pixels_number)[0]


# ---------------------------------------------------------------- the file, specs/format.md


def tiles(data, model, layers=64, lost=()):
    """Return for each tile of a file its left and top, tokens and pixels.

    `layers` are decoded at most; numbers of `lost` payloads are concealed. Chunks may be missing at the end.
    """
    file, chunks = read_file(data)
    require((file["family"], file["digest"]) == (5, model.digest), "family or digest")
    payloads = {}
    for chunk in chunks:
        number, start = read_varint(chunk, 0)
        payloads[number] = chunk[start:]
    layers, ranges, places = min(layers, file["layers"]), file["ranges"], boxes(file)
    require(set(range(layers * ranges * len(places))) - set(lost) <= payloads.keys(), "truncated")
    found = []
    for t, (left, top, width, height) in enumerate(places):
        numbers = [
            [(s * len(places) + t) * ranges + i for i in range(ranges)] for s in range(layers)
        ]
        parts = [[None if k in lost else payloads[k] for k in row] for row in numbers]
        tokens = model.tokens(parts, file["code"], width, height, file["is_second"])
        pixels = model.pixels(tokens, file["code"])[:height, :width]
        found.append((left, top, tokens, pixels))
    return file, found


def decode(data, weights):
    """Return the pixels of a file, made with these weights."""
    return join(*tiles(data, Model(weights)))
