"""The decoder of specs/dct.md in plain Python and numpy, written from the specification to check the C++.

Does not import ncodec. The numbers of the specification's `table` blocks are read from its text. `decode_bins` takes
bins from any source: the tests also give it random ones, and write them down as a payload.
"""

import struct
from bisect import bisect_left
from math import isqrt, prod
from pathlib import Path

import numpy as np

SPEC = Path(__file__).parent.parent / "specs" / "dct.md"
PLANAR, DC, LINEAR = 0, 1, 1


def read_tables(text):
    """Return the numbers of all blocks marked `table`, by name."""
    tables, name = {}, None
    for block in text.split("```table\n")[1:]:
        for line in block.split("```")[0].splitlines():
            if not line.startswith(" "):
                name = "mix " + line.split()[1] if line.startswith("mix ") else line.split()[0]
                line, tables[name] = line[len(name) :], []
            tables[name] += map(int, line.split())
    return tables


TABLES = read_tables(SPEC.read_text(encoding="utf-8"))
SQUASH, ANGLE = TABLES["SQUASH"], TABLES["ANGLE"]
CUBIC = np.array(TABLES["CUBIC"]).reshape(32, 4)
PAIRS = [tuple(TABLES["PAIRS"][i : i + 2]) for i in range(0, 24, 2)]


def number_places():
    """Return {name: (first, dimensions)} of contexts and mixers, and how many there are of both."""
    names = list(TABLES)
    contexts = names[names.index("SIG_A") : names.index("WIENER_WEIGHT") + 1]
    places, counts = {}, []
    for group in (contexts, [name for name in names if name.startswith("mix ")]):
        n = 0
        for name in group:
            places[name] = (n, TABLES[name])
            n += prod(TABLES[name])
        counts.append(n)
    return places, counts


PLACES, (N_CONTEXTS, N_MIXERS) = number_places()


def at(name, *indexes):
    """Return the number of a context or mixer."""
    first, dimensions = PLACES[name]
    number = 0
    for index, dimension in zip(indexes, dimensions, strict=True):
        assert 0 <= index < dimension, (name, indexes)
        number = number * dimension + index
    return first + number


def clip(v, low, high):
    return max(low, min(v, high))


def towards_zero(a, b):
    return a // b if (a < 0) == (b < 0) else -(-a // b)


def squash(d):
    a, b, i = SQUASH[(d + 2048) // 128], SQUASH[(d + 2048) // 128 + 1], (d + 2048) % 128
    return a + ((b - a) * i + 64) // 128


SQUASHED = [squash(d) for d in range(-2048, 2048)]
STRETCHED = [clip(bisect_left(SQUASHED, 16 * i + 8) - 2048, -2047, 2047) for i in range(4096)]


# ---------------------------------------------------------------- parameters


def mid(tensor, code):
    """Return a parameter between qualities, its first axis."""
    t = min(code // 20, 6)
    tensor = tensor.astype(int)
    total = tensor[t] * (20 - code + 20 * t) + tensor[t + 1] * (code - 20 * t)
    return np.where(total >= 0, (total + 10) // 20, -((10 - total) // 20))


def exp2(v):
    v = np.clip(v, 0, 28671)
    f, k = (v % 2048) << 19, 26 - (v >> 11)
    m = 2**30 + ((f * (747247505 + ((f * (241534262 + ((f * 84960057) >> 30))) >> 30))) >> 30)
    return (m + (1 << (k - 1))) >> k


def log2_side(width, height):
    return (width * height).bit_length() // 2


def is_odd(width, height):
    return (width * height).bit_length() % 2 == 0


def grid_places(n, side):
    """Return what the frequencies of n samples lie between in the matrix of `side`: [3, K]."""
    grid, places = TABLES[f"GRID_{clip(side, 8, 32)}"], []
    for u in range(min(n, 32)):
        f = u * 16 * side // n
        g = max(i for i in range(8) if 16 * grid[i] <= f)
        after = min(g + 1, 7)
        places.append((g, after, (f - 16 * grid[g]) // (grid[after] - grid[g]) if g < 7 else 0))
    return np.array(places).T


def steps(tensors, code, plane, width, height, offset):
    """Return [K_h, K_w] steps as the inverse transform takes them; `offset`: quarters of an octave."""
    side = log2_side(width, height)
    base = 8 * int(mid(tensors["log_step"], code)[plane]) + 512 * offset + 1024 * is_odd(width, height)  # fmt: skip
    m = 64 * mid(tensors["matrix"], code)[int(plane > 0), side - 2].reshape(8, 8)
    g, after, f = grid_places(width, 1 << side)
    rows = m[:, g] * (16 - f) + m[:, after] * f
    g, after, f = grid_places(height, 1 << side)
    return exp2(base + ((rows[g] * (16 - f)[:, None] + rows[after] * f[:, None]) >> 8))


# ---------------------------------------------------------------- bins


class RangeDecoder:
    """specs/binary.md with given shares."""

    def __init__(self, payload):
        require(len(payload) > 0, "truncated")
        self.bytes = payload + bytes(3)
        self.offset, self.position, self.width = int.from_bytes(self.bytes[:4], "big"), 4, 1 << 32

    def decode(self, share):
        upper = self.width * share >> 17
        lower = self.width - upper
        value = int(self.offset >= lower)
        self.offset, self.width = (self.offset - lower, upper) if value else (self.offset, lower)
        while self.width < 1 << 24:
            require(self.position < len(self.bytes), "truncated")
            self.offset = self.offset << 8 | self.bytes[self.position]
            self.width, self.position = self.width << 8, self.position + 1
        return value

    def finish(self):
        require(self.position == len(self.bytes), "left over")
        require(self.offset < 1 << 24, "bad end")


class Bins:
    """The model of section 3 in front of a source of bins, which has decode(share)."""

    def __init__(self, source, tensors, code):
        self.source = source
        low, high = tensors["start"].astype(int)
        stretches = [towards_zero(16 * int(v), 140) for v in low * (140 - code) + high * code]
        self.p = [SQUASHED[d + 2048] for d in stretches]
        self.n = tensors["confidence"].tolist()
        self.w = [[4 * v for v in row] for row in tensors["weights"].tolist()]

    def mixed(self, name, mixer, *indexes, ends=("_A", "_B", "_C")):
        """Return a bin with the mixer `name` and the contexts of the same name, one with each end."""
        contexts = [at(name + end, *i) for end, i in zip(ends, indexes, strict=True)]
        s = [STRETCHED[self.p[k] >> 4] for k in contexts]
        w = self.w[at("mix " + name, *mixer)]
        dot = (w[0] * s[0] + w[1] * s[1] + w[2] * s[2]) >> 16
        p = clip(SQUASHED[clip(dot, -2048, 2047) + 2048], 64, 65472)
        value = self.source.decode(2 * p)
        for i in range(3):
            moved = w[i] + ((s[i] * (65535 * value - p) + 32768) >> 16)
            w[i] = clip(moved, -(2**18), 2**18)
            self.adapt(contexts[i], value)
        return value

    def single(self, k):
        value = self.source.decode(2 * clip(self.p[k], 64, 65472))
        self.adapt(k, value)
        return value

    def bypass(self, count):
        number = 0
        for _ in range(count):
            number = 2 * number + self.source.decode(1 << 16)
        return number

    def adapt(self, k, value):
        p, n = self.p[k], self.n[k]
        self.p[k] = p + (((65535 * value - p) * (131072 // (2 * n + 3))) >> 16)
        self.n[k] = n + (n < 120)


# ---------------------------------------------------------------- transforms


def matrix(kind, size):
    """Return [N, N], row k the basis vector k."""
    k, n = np.arange(size)[:, None], np.arange(size)[None]
    if kind == "dct":
        quarter = TABLES["COSINES"]
        half = quarter + [-v for v in quarter[-2::-1]]
        return np.array(half + half[-2:0:-1])[64 // size * k * (2 * n + 1) % 256]
    if kind == "dst":
        quarter = TABLES[f"SINES_{size}"]
        half = quarter + quarter[:0:-1]
        return np.array(half + [-v for v in half])[(2 * k + 1) * (n + 1) % (4 * size + 2)]
    if size == 1:
        return np.ones((1, 1), int)
    half = matrix("angle", size // 2)
    odd = np.array(TABLES[f"ODD_{size}"]).reshape(half.shape) if size in (4, 8, 16) else half
    out = np.zeros((size, size), int)
    out[::2], out[1::2] = np.hstack([half, half[:, ::-1]]), np.hstack([odd, -odd[:, ::-1]])
    return out


MATRICES = {(k, 1 << i): matrix(k, 1 << i) for k in ("dct", "angle") for i in range(2, 7)}
MATRICES |= {("dst", n): matrix("dst", n) for n in (4, 8, 16)}


def scale(kind, size):
    if kind == "dct":
        return np.full(size, 2**14)
    norms = (MATRICES[kind, size] ** 2).sum(1)
    return np.array([(isqrt(4 * size * 2**28 // int(n)) + 1) // 2 for n in norms])


def inverse(coefficients, kind_h, kind_v):
    height, width = coefficients.shape
    first, second = (1, 4) if kind_h == "angle" else (7, 10)
    middle = MATRICES[kind_v, height].T @ coefficients
    middle = np.clip((middle + (1 << (first - 1))) >> first, -32768, 32767)
    out = middle @ MATRICES[kind_h, width]
    return np.clip((out + (1 << (second - 1))) >> second, -32768, 32767)


# ---------------------------------------------------------------- prediction


def nearest(angle):
    """Return the steps from vertical or horizontal whose angle is nearest."""
    steps = min(range(17), key=lambda s: (abs(ANGLE[s] - abs(angle)), s))
    return steps if angle >= 0 else -steps


def derived_modes(luma, x, y, w, h):
    counters = [0] * 67
    centres = [(x + i, y - 2) for i in range(-1 if x else 1, w - 1)] if y else []
    centres += [(x - 2, y + j) for j in range(0 if y else 1, h - 1)] if x else []
    for cx, cy in centres:
        (a, b, c), (d, _, f), (g, h, i) = luma[cy - 1 : cy + 2, cx - 1 : cx + 2].tolist()
        gx, gy = c + 2 * f + i - a - 2 * d - g, g + 2 * h + i - a - 2 * b - c
        if not (gx or gy):
            continue
        if abs(gx) >= abs(gy):
            mode = 50 + nearest(towards_zero(32 * gy, gx))
        else:
            mode = 18 - nearest(towards_zero(32 * gx, gy))
        counters[mode] += abs(gx) + abs(gy)
    modes = []
    for _ in range(2):
        best = counters.index(max(counters))
        modes.append(best if counters[best] else DC)
        counters[best] = 0
    return modes


def likely_modes(left, above, derived):
    candidates = [left, above, derived[0], PLANAR, derived[1], DC]
    for m in (derived[0], left, above):
        if m >= 2:
            candidates += [2 + (m + 61) % 64, 2 + (m - 1) % 64]
    return list(dict.fromkeys([*candidates, 50, 18, 34, 2, 66]))[:6]


def border_weights(n, reach):
    return np.array([32 >> ((2 * v) >> reach) if v < 3 << reach else 0 for v in range(n)])


def predict(top, left, mode, w, h):
    """Return [h, w] from references [2w + 1] and [2h + 1]."""
    if mode >= 2:
        return predict_direction(top, left, mode, w, h)
    i, j = np.arange(w), np.arange(h)[:, None]
    above, beside = top[1 : w + 1], left[1 : h + 1, None]
    if mode == PLANAR:
        across = (w - 1 - i) * beside + (i + 1) * top[w + 1]
        down = (h - 1 - j) * above + (j + 1) * left[h + 1]
        p = (across * h + down * w + w * h) >> (w * h).bit_length()
    else:
        border = ([*above] if w >= h else []) + ([*left[1 : h + 1]] if h >= w else [])
        p = np.full((h, w), (sum(border) + len(border) // 2) // len(border))
    reach = ((w * h).bit_length() - 3) // 4
    of_x, of_y = border_weights(w, reach), border_weights(h, reach)[:, None]
    return p + ((of_x * (beside - p) + of_y * (above - p) + 32) >> 6)


def shape_number(w, h):
    least, most = sorted((w.bit_length() - 3, h.bit_length() - 3))
    return least * (5 - least) // 2 + most


def predict_learned(top, left, matrices, mode, w, h):
    """As `predict`; matrices [6, 8, 16, 16]."""
    if w < h or mode >= 75:
        return predict_learned(left, top, matrices, 67 + (mode - 67) % 8, h, w).T
    mean = (sum(top[1 : w + 1]) + sum(left[1 : h + 1]) + (w + h) // 2) // (w + h)
    inputs = []
    for line, n in ((top, w), (left, h)):
        line = np.array(line[1 : n + 1])
        inputs += [*((line[::2] + line[1::2] + 1) >> 1 if n == 16 else line) - mean]
    matrix = matrices[shape_number(w, h), mode - 67, :, : len(inputs)].astype(int)
    frequencies = np.zeros((h, w), int)
    frequencies[:4, :4] = np.clip((matrix @ inputs + 512) >> 10, -32768, 32767).reshape(4, 4)
    kind_h, kind_v = ("dst" if n == 4 else "dct" for n in (w, h))
    return np.clip(mean + inverse(frequencies, kind_h, kind_v), 0, 1023)


def predict_direction(top, left, mode, w, h):
    log2 = ((w * h).bit_length() - 1) // 2
    turned = (0, 6, 10, 12, 14)[abs(w.bit_length() - h.bit_length())]
    if w > h and mode < 2 + turned:
        mode += 65
    elif w < h and mode > 66 - turned:
        mode -= 65
    steps = mode - 50 if mode >= 34 else 18 - mode
    if mode < 34:
        top, left, w, h = left, top, h, w
    angle = ANGLE[steps] if steps >= 0 else -ANGLE[-steps]
    inverse = (16384 + abs(angle) // 2) // abs(angle) if angle else 0
    line = np.concatenate([np.zeros(h, int), top, np.full(4, top[2 * w])])  # line[i] at h + i
    for k in range(-1, ((h * angle) >> 5) - 1, -1):
        line[h + k] = left[min((256 - k * inverse) >> 9, h)]
    p = np.empty((h, w), int)
    for y in range(h):
        o, f = h + (((y + 1) * angle) >> 5), ((y + 1) * angle) % 32
        g = f // 2
        is_sharp = abs(steps) <= {2: 16, 3: 14, 4: 2}.get(log2, 0)
        taps = CUBIC[f] if is_sharp else (16 - g, 32 - g, 16 + g, g)
        p[y] = np.clip((sum(t * line[o + i : o + i + w] for i, t in enumerate(taps)) + 32) >> 6, 0, 1023)  # fmt: skip
    if angle == 0:
        weights = border_weights(w, ((w * h).bit_length() - 3) // 4)
        p = np.clip(p + ((weights * (left[1 : h + 1, None] - left[0]) + 32) >> 6), 0, 1023)
    elif angle > 0:
        reach = next((r for r in (2, 1, 0) if inverse * 3 << r <= 512 * h), None)
        for x in range(min(w, 3 << reach) if reach is not None else 0):
            met = left[1 + (((x + 1) * inverse + 256) >> 9) :][:h]
            p[:, x] += (border_weights(w, reach)[x] * (met - p[:, x]) + 32) >> 6
    return p if mode >= 34 else p.T


def predict_linear(luma, cb, beside):
    """`beside` [3, n]: luma, Cb and the plane beside the block; Cb is 0 where that is the plane."""
    n = beside.shape[1]
    if n == 0:
        return np.full(luma.shape, 512)
    sums = beside.sum(1)
    (a, m, p), (_, b, q), _ = (beside @ beside.T - np.outer(sums, sums) // n).tolist()
    a, b = a + 4 * n, b + 4 * n
    f, g = (
        clip(towards_zero(256 * v, a * b - m * m), -1024, 1024)
        for v in (p * b - q * m, q * a - p * m)
    )
    mean_l, mean_b, mean = sums // n
    return np.clip(mean + ((f * (luma - mean_l) + g * (cb - mean_b) + 128) >> 8), 0, 1023)


# ---------------------------------------------------------------- blocks


def diagonals(w, h):
    """Return places (x, y) diagonal by diagonal."""
    return [(d - y, y) for d in range(w + h - 1) for y in range(h - 1, -1, -1) if 0 <= d - y < w]


ORDERS = {(w, h): diagonals(w, h) for w in (1, 2, 4, 8) for h in (1, 2, 4, 8)}
NEAR = [s if s < 5 else 5 if s < 7 else 6 if s < 11 else 7 for s in range(36)]
FAR = [0, 1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 4] + [5] * 51
COARSE = [0, 1, 2, 3, 4, 4, 5, 5, 5, 5] + [6] * 6 + [7] * 16


class Tile:
    """Planes and maps of a tile that is being decoded."""

    def __init__(self, bins, tensors, code, width, height, is_grey, is_halved, kind, has_offsets):
        self.bins, self.kind, self.is_halved = bins, kind, is_halved
        self.tensors, self.code, self.has_offsets = tensors, code, has_offsets
        self.width, self.height = -(-width // 8) * 8, -(-height // 8) * 8
        self.planes = [np.zeros((self.height >> s, self.width >> s), int)
                       for s in ([0] if is_grey else [0, is_halved, is_halved])]  # fmt: skip
        self.units = {}  # (x // 4, y // 4) of what is decoded: facts
        self.levels = [None] * 3  # of the planes' last blocks, [K][K] half-steps; None if not coded
        self.offsets = {}  # (x // 32, y // 32)
        self.steps = {}
        for y in range(0, self.height, 64):
            for x in range(0, self.width, 64):
                self.tree(x, y, 64, 64, 0, 0, len(self.planes) == 3)

    def scaled_steps(self, plane, w, h, offset):
        key = plane, w, h, offset
        if key not in self.steps:
            across, down = (scale(self.kind, n)[:32] for n in (w, h))
            scaled = steps(self.tensors, self.code, *key) * down[:, None] * across[None]
            self.steps[key] = (scaled + 2**23) >> 24
        return self.steps[key]

    def offset(self, x, y):
        return self.offsets.get((x // 32, y // 32), 0)

    def decode_offset(self, x, y, n):
        if not self.has_offsets:
            return
        beside = [self.offset(*place) for place in ((x - 1, y), (x, y - 1)) if min(place) >= 0]
        a, b = (beside or [0])[0], (beside or [0])[-1]
        expected, signed = (a + b + 1) >> 1, 0

        def bin_of(i):
            j = min(i, 7)
            k = [j, min(abs(a - b), 2)], [j, 1 + (expected > 0) - (expected < 0)], [j, int(n == 64)]
            return self.bins.mixed("OFFSET", [j], *k)

        if bin_of(0):
            is_above, size = bin_of(1), 1
            while size < 24 and bin_of(1 + size):
                size += 1
            signed = size if is_above else -size
        value = clip(expected + signed, -12, 12)
        for j in range(y, y + n, 32):
            for i in range(x, x + n, 32):
                self.offsets[i // 32, j // 32] = value

    def unit(self, x, y):
        absent = {
            "mode": DC,
            "sine": 0,
            "chroma": 0,
            "whole": 0,
            "energy": [0] * 3,
            "last": [None] * 3,
        }
        return self.units[x // 4, y // 4] if x >= 0 and y >= 0 else absent

    def beside(self, x, y):
        return self.unit(x - 1, y), self.unit(x, y - 1)

    def around(self, plane, x, y, w, h):
        units = [self.unit(x - 1, y + i) for i in range(0, h, 4) if y + i < self.height] if x else []  # fmt: skip
        units += [self.unit(x + i, y - 1) for i in range(0, w, 4) if x + i < self.width] if y else []  # fmt: skip
        m = len(units)
        return (2 * sum(u["energy"][plane] for u in units) + m) // (2 * m) if m else 0

    def tree(self, x, y, w, h, depth, cuts, has_chroma):
        """`cuts`: binary and ternary splits so far."""
        if x >= self.width or y >= self.height:
            return
        if w == 32 and cuts == 0:
            self.decode_offset(x, y, w)
        is_free = x + w <= self.width and y + h <= self.height
        split = self.split(x, y, w, h, cuts) if is_free else "quad"
        if depth == 0 and split != "quad":
            self.decode_offset(x, y, w)
        if split is None:
            self.luma(x, y, w, h)
            if has_chroma:
                self.chroma(x, y, w, h, is_whole=False)
            return
        parts = parts_of(x, y, w, h, split)
        is_whole = has_chroma and (
            any(min(part[2:]) == 4 for part in parts)
            or (is_free and self.whole(x, y, w, h, split, cuts))
        )
        for part in parts:
            self.tree(*part, depth + 1, cuts + (split != "quad"), has_chroma and not is_whole)
        if is_whole:
            self.chroma(x, y, w, h, is_whole=True)

    def whole(self, x, y, w, h, split, cuts):
        area, energies = (w * h).bit_length() - 6, [self.around(p, x, y, w, h) for p in (1, 2)]
        both = sum(u["whole"] for u in self.beside(x, y))
        form = 0 if split == "quad" else int(split[1]) - 1
        k = [area, form], [area, (sum(energies) + 1) >> 1], [cuts, both]
        return self.bins.mixed("WHOLE", [0], *k)

    def split(self, x, y, w, h, cuts):
        may = {"quad": cuts == 0 and w == h > 4, "v2": cuts < 3 and w > 4, "h2": cuts < 3 and h > 4,
               "v3": cuts < 3 and w > 8, "h3": cuts < 3 and h > 8}  # fmt: skip
        if not any(may.values()):
            return None
        log2_w, log2_h = w.bit_length() - 1, h.bit_length() - 1
        left, above = self.beside(x, y)
        left, above = left.get("log2_h", log2_h), above.get("log2_w", log2_w)
        smaller = (left < log2_h) + (above < log2_w)
        beside = [clip(left - log2_h, -2, 2) + 2, clip(above - log2_w, -2, 2) + 2]
        area, size, energy = log2_w + log2_h - 5, log2_side(w, h) - 2, self.around(0, x, y, w, h)
        k = [area, cuts, smaller], [area, energy], [area, *beside]
        if not self.bins.mixed("SPLIT", [0], *k):
            return None
        if may["quad"]:
            z = log2_w - 3
            if self.bins.mixed("QUAD", [0], [z, smaller], [z, energy], [z, *beside]):
                return "quad"
        vertical, elongation = int(may["v2"]), log2_w - log2_h + 4
        if may["v2"] and may["h2"]:
            kinds = [kind_of(u["mode"]) for u in self.beside(x, y)]
            vertical = self.bins.mixed("VERTICAL", [0], [elongation, cuts], [size, *beside], kinds)
        ternary = may["hv"[vertical] + "3"] and self.bins.mixed(
            "TERNARY", [0], [vertical, cuts, size], [vertical, elongation], [vertical, energy]
        )
        return "hv"[vertical] + "23"[bool(ternary)]

    def for_units(self, x, y, w, h):
        return [((x + i) // 4, (y + j) // 4) for j in range(0, h, 4) for i in range(0, w, 4)]

    def luma(self, x, y, w, h):
        derived = derived_modes(self.planes[0], x, y, w, h)
        mode = self.luma_mode(x, y, w, h, derived)
        facts = {"log2_w": w.bit_length() - 1, "log2_h": h.bit_length() - 1, "mode": mode, "sine": 0,
                 "chroma": 0, "whole": 0, "luma": (x, y)}  # fmt: skip
        references = self.references(0, x, y, w, h)
        for place in self.for_units(x, y, w, h):
            self.units[place] = facts.copy() | {"energy": [0] * 3, "last": [None] * 3}
        if mode >= 67:
            prediction = predict_learned(*references, self.tensors["learned"], mode, w, h)
        else:
            prediction = predict(*references, mode, w, h)
        self.residual(0, x, y, w, h, False, prediction)

    def luma_mode(self, x, y, w, h, derived):
        beside = [u["mode"] for u in self.beside(x, y)]
        left, above = map(usual, beside)
        likely, z = likely_modes(left, above, derived), log2_side(w, h) - 2
        energy = self.around(0, x, y, w, h)
        votes = [
            8 * min(m, 2) + 4 * (m == derived[0]) + 2 * (m == left) + (m == above) for m in likely
        ]
        if max(w, h) <= 16:
            s, n = shape_number(w, h), sum(m >= 67 for m in beside)
            if self.bins.mixed("LEARNED", [0], [s, n], [s, energy], [s, votes[0]]):
                node = 1
                for _ in range(3 + (w == h)):
                    node = 2 * node + self.bins.single(at("LEARNED_MODE", s, node))
                return node + (51 if w == h else 59)
        for i, m in enumerate(likely):
            if self.bins.mixed("LIKELY", [i], [i, z], [i, votes[i]], [i, energy]):
                return m
        node = 1
        for _ in range(6):
            node = 2 * node + self.bins.single(at("REST", node))
        return [m for m in range(67) if m not in likely][min(node - 64, 60)]

    def chroma(self, x, y, w, h, is_whole):
        here, beside, z = self.unit(x, y), self.beside(x, y), log2_side(w, h) - 2
        linear, mode = sum(u["chroma"] == LINEAR for u in beside), 2
        for i, choice in enumerate((LINEAR, 0, 3)):
            if self.bins.mixed("CHROMA", [i], [i, z], [i, kind_of(here["mode"])], [i, linear]):
                mode = choice
                break
        for place in self.for_units(x, y, w, h):
            self.units[place] |= {"chroma": mode, "whole": is_whole, "chroma at": (x, y)}
        s = self.is_halved
        for plane in (1, 2):
            top, left = self.references(plane, x, y, w, h)
            if mode == LINEAR:
                prediction = self.linear(plane, x >> s, y >> s, w >> s, h >> s, top, left)
            else:
                chosen = {0: usual(here["mode"]), 2: PLANAR, 3: DC}[mode]
                prediction = predict(top, left, chosen, w >> s, h >> s)
            self.residual(plane, x, y, w, h, not is_whole, prediction)

    def linear(self, plane, x, y, w, h, top, left):
        s, luma = self.is_halved, self.planes[0]
        if s:
            luma = (luma[::2, ::2] + luma[::2, 1::2] + luma[1::2, ::2] + luma[1::2, 1::2] + 2) >> 2
        cb = self.planes[1] if plane == 2 else np.zeros_like(luma)
        above, to_left = np.s_[y - 1, x : x + w], np.s_[y : y + h, x - 1]
        triples = [(luma[above], cb[above], top[1 : w + 1])] if y else []
        triples += [(luma[to_left], cb[to_left], left[1 : h + 1])] if x else []
        beside = np.concatenate([np.empty((3, 0), int), *map(np.array, triples)], 1)
        return predict_linear(luma[y : y + h, x : x + w], cb[y : y + h, x : x + w], beside)

    def references(self, plane, x, y, w, h):
        s, samples = self.is_halved if plane else 0, self.planes[plane]
        right, below = w, h
        while right < 2 * w and ((x + right) // 4, (y - 1) // 4) in self.units:
            right += 4
        while below < 2 * h and ((x - 1) // 4, (y + below) // 4) in self.units:
            below += 4
        x, y = x >> s, y >> s
        top = samples[y - 1, x : x + (right >> s)] if y else samples[:0, 0]
        left = samples[y : y + (below >> s), x - 1] if x else samples[0, :0]
        corner = samples[y - 1, x - 1] if x and y else left[0] if x else top[0] if y else 512
        out = []
        for there, n in ((top, 2 * w >> s), (left, 2 * h >> s)):
            line = np.concatenate([[corner], there])
            out.append(np.concatenate([line, np.full(n + 1 - len(line), line[-1])]))
        return out

    def residual(self, plane, x, y, w, h, has_luma, prediction):
        """Decode a block's levels; set its samples."""
        z, here, beside = log2_side(w, h) - 2, self.unit(x, y), self.beside(x, y)
        s = self.is_halved if plane else 0
        own_w, own_h, energy = w >> s, h >> s, self.around(plane, x, y, w, h)
        coded = sum(u["energy"][plane] > 0 for u in beside)
        mode = kind_of(here["mode"])
        kappa = (
            (here["energy"][0] > 0) + 2 * (plane == 2 and here["energy"][1] > 0) if plane else mode
        )
        k = [plane, z]
        is_coded = self.bins.mixed("CODED", [plane], [*k, coded], [*k, energy], [*k, kappa])
        if is_coded and plane == 0 and 4 < max(w, h) <= 16 and self.kind == "dct":
            both = sum(u["sine"] for u in beside)
            is_sine = self.bins.mixed("SINE", [0], [z - 1, energy], [z - 1, mode], [both])
            for place in self.for_units(x, y, w, h):
                self.units[place]["sine"] = is_sine
        self.levels[plane] = None
        if is_coded:
            others = [self.levels[0] if plane and has_luma else None, self.levels[1] if plane == 2 else None]  # fmt: skip
            if plane:
                reaches = [
                    [1 + c // 2 for c in here["last"][p] or []] or [0, 0] for p in range(plane)
                ]
            else:
                reaches = [reach(u, w, h) for u in beside]
            reaches = (*reaches, [0, 0])[:2]
            halves, total, order = decode_levels(self.bins, plane, own_w, own_h, energy, reaches, here["mode"], others)  # fmt: skip
            last = [sum(s <= v for s in TABLES["CLASS_START"]) - 1 for v in order[0]]
            step, shift = self.scaled_steps(plane, own_w, own_h, self.offset(x, y)), log2_side(own_w, own_h) + 4  # fmt: skip

            def dequantise(levels, steps):
                return np.clip((levels * steps + (1 << (shift - 1))) >> shift, -32768, 32767)

            is_sine = plane == 0 and self.kind == "dct"
            kinds = ["dst" if is_sine and (n == 4 or here["sine"]) else self.kind for n in (w, h)]
            halves = np.array(halves)
            first = max(int(dequantise(2, step[0, 0])), 1)
            sides = self.sides(plane, x >> s, y >> s, prediction, kinds, dequantise(halves, step), first)  # fmt: skip
            other = 4 if plane else mode
            k = [plane, int("dst" in kinds)], [log2_side(own_w, own_h) - 2, (y > 0) + 2 * (x > 0)], other  # fmt: skip
            self.levels[plane] = decode_signs(self.bins, halves.tolist(), order[::-1], sides, k, others[1])  # fmt: skip
            coefficients = np.zeros((own_h, own_w), int)
            coefficients[: len(halves), : len(halves[0])] = dequantise(np.array(self.levels[plane]), step)  # fmt: skip
            prediction = prediction + inverse(coefficients, *kinds)
            density = total * 64 // (own_w * own_h)
            energy = next(e for e in range(1, 8) if e == 7 or 2 << e > density + 2)
        for place in self.for_units(x, y, w, h):
            self.units[place]["energy"][plane] = energy if is_coded else 0
            self.units[place]["last"][plane] = last if is_coded else None
        x, y = x >> s, y >> s
        self.planes[plane][y : y + own_h, x : x + own_w] = np.clip(prediction, 0, 1023)

    def sides(self, plane, x, y, prediction, kinds, coefficients, first):
        """Return what the top and left sides say of signs, each if it is there: X, R, the parts P, k by place."""
        out, samples = [], self.planes[plane]
        h, w = prediction.shape
        across, down = (MATRICES["dst" if kind == "dst" else "dct", n] for kind, n in zip(kinds, (w, h), strict=True))  # fmt: skip
        rows, columns = np.indices(coefficients.shape)
        for there, n, near, far, inside, along, other, k, v in (
            (y, w, samples[y - 1, x : x + w], samples[y - 2, x : x + w], prediction[0], across, down, columns, rows),
            (x, h, samples[y : y + h, x - 1], samples[y : y + h, x - 2], prediction[:, 0], down, across, rows, columns),
        ):  # fmt: skip
            if there:
                expected = along @ (3 * near - far - 2 * inside)
                noise = 4 * n * w * h * first**2 + (int(((near - far) ** 2).sum()) << 16)
                parts = (coefficients * other[v, 0] * n) >> 4
                out.append((expected.tolist(), noise, parts.tolist(), k.tolist()))
        return out


def decode_signs(bins, levels, order, sides, contexts, cb):
    """Return levels with signs; `contexts`: the first indexes of SIGN_A, SIGN_B and SIGN_C."""
    a, b, other = contexts
    unknown = [[0] * len(expected) for expected, *_ in sides]
    for (_, _, parts, k), sums in zip(sides, unknown, strict=True):
        for x, y in order:
            sums[k[y][x]] += parts[y][x] ** 2
    for x, y in order:
        hypothesis = 0
        for (expected, noise, parts, k), sums in zip(sides, unknown, strict=True):
            f, part = k[y][x], parts[y][x]
            sums[f] -= part**2
            hypothesis += towards_zero(32 * part * expected[f], noise + 4 * sums[f])
        is_expected, strength = hypothesis < 0, min(abs(hypothesis).bit_length(), 8)
        seen = cb[y][x] if cb else 0
        c = other + (1 + ((seen < 0) == is_expected) if seen else 0)
        is_negative = bins.mixed("SIGN", a[:1], [*a, strength], [*b, strength], [c, strength]) != is_expected  # fmt: skip
        if is_negative:
            levels[y][x] = -levels[y][x]
        for expected, _, parts, k in sides:
            expected[k[y][x]] -= -parts[y][x] if is_negative else parts[y][x]
    return levels


def parts_of(x, y, w, h, split):
    """Return the blocks (x, y, w, h) that a split makes."""
    if split == "quad":
        w, h = w // 2, h // 2
        return [(x, y, w, h), (x + w, y, w, h), (x, y + h, w, h), (x + w, y + h, w, h)]
    n = w if split[0] == "v" else h
    sizes, parts, at = [n // 2, n // 2] if split[1] == "2" else [n // 4, n // 2, n // 4], [], 0
    for size in sizes:
        parts.append((x + at, y, size, h) if split[0] == "v" else (x, y + at, w, size))
        at += size
    return parts


def reach(unit, w, h):
    """How far luma's levels there lie out along x and y, as a block of w x h sees it."""
    if not unit["last"][0]:
        return [0, 0]
    theirs = unit["log2_w"], unit["log2_h"]
    shifts = [min(n.bit_length() - 1, 5) - min(t, 5) for n, t in zip((w, h), theirs, strict=True)]
    return [1 + clip(c + 2 * s, 0, 9) // 2 for c, s in zip(unit["last"][0], shifts, strict=True)]


def usual(mode):
    return mode if mode < 67 else PLANAR


def kind_of(mode):
    mode = usual(mode)
    return mode if mode < 2 else 2 if mode < 34 else 3


def decode_coordinate(bins, axis, plane, z, n, energy, reaches, other):
    """Return a coordinate's class, and itself."""
    c, k, log2 = 0, [axis, int(plane > 0)], n.bit_length() - 1
    b = [axis, plane, *(r[axis] for r in reaches)]
    while c < 2 * min(log2, 5) - 1 and bins.mixed(
        "LAST", k, [*k, log2 - 2, energy, c], [*b, c], [*k, z, other, c]
    ):
        c += 1
    return c, TABLES["CLASS_START"][c] + bins.bypass(TABLES["CLASS_BITS"][c])


def decode_levels(bins, plane, w, h, energy, reaches, mode, others):
    """Return [K_h][K_w] levels in half-steps without signs, the sum that the energy is made of, the order (x, y)."""
    z, chroma = log2_side(w, h) - 2, int(plane > 0)
    direction = 0 if chroma else 1 if 10 <= mode <= 26 else 2 if 42 <= mode <= 58 else 0
    cx, last_x = decode_coordinate(bins, 0, plane, z, w, energy, reaches, direction)
    _, last_y = decode_coordinate(bins, 1, plane, z, h, energy, reaches, min(cx, 6) // 2)
    coded_w, coded_h = min(w, 32), min(h, 32)
    k = [[0] * (coded_w + 2) for _ in range(coded_h + 2)]  # magnitudes; a border of zeros
    halves = [[0] * coded_w for _ in range(coded_h)]
    groups, coded, state, earlier, total, order = ORDERS[coded_w // 4, coded_h // 4], set(), 0, 0, 0, []  # fmt: skip
    first = groups.index((last_x // 4, last_y // 4))
    for g in range(first, -1, -1):
        gx, gy = groups[g]
        if 0 < g < first:
            both = ((gx + 1, gy) in coded) + ((gx, gy + 1) in coded)
            place = [chroma, z, min(gx, 3) + 4 * min(gy, 3)]
            if not bins.mixed("GROUP", [chroma], [chroma, z, both], place, [chroma, energy, both]):
                continue
        coded.add((gx, gy))
        places = [(4 * gx + i, 4 * gy + j) for i, j in ORDERS[4, 4]]
        start = places.index((last_x, last_y)) if g == first else 15
        is_inferred = 0 < g < first
        for number in range(start, -1, -1):
            x, y = places[number]
            near_by = k[y][x + 1], k[y][x + 2], k[y + 1][x], k[y + 1][x + 1], k[y + 2][x]
            near, far = NEAR[sum(min(m, 7) for m in near_by)], FAR[x + y]
            is_known = (g == first and number == start) or (number == 0 and is_inferred)
            if not is_known and not decode_significance(
                bins, plane, z, w, h, energy, direction, state, x, y, near, far, others
            ):
                state = TABLES["NEXT"][2 * state]
                continue
            is_inferred = False
            m = decode_magnitude(bins, chroma, z, energy, state, x, y, near, far, earlier)
            k[y][x] = m
            halves[y][x] = 2 * m - state % 2
            order.append((x, y))
            state = TABLES["NEXT"][2 * state + m % 2]
            earlier, total = earlier + (m > 1), total + min(m, 255)
    return halves, total, order


def decode_significance(bins, plane, z, w, h, energy, direction, state, x, y, near, far, others):
    px, py = (min(v, 7) if n <= 8 else COARSE[v] for v, n in ((x, w), (y, h)))
    place, form, k = px + 8 * py, (w > h) + 2 * (w < h), [state, int(plane > 0), z]
    if plane == 0:
        c, ends = [z, energy, min(near, 4), min(far // 2, 2)], ("_A", "_B_LUMA", "_C_LUMA")
        return bins.mixed("SIG", k, [*k, far, near], [z, form, place, direction], c, ends=ends)
    luma, cb = (min((abs(block[y][x]) + 1) // 2, 2) if block else 0 for block in others)
    other, ends = 4 * luma + (plane - 1) * (1 + cb), ("_A", "_B_CHROMA", "_C_CHROMA")
    c = [min(z, 2), energy // 2, other, min(near, 3)]
    return bins.mixed("SIG", k, [*k, far, near], [z, form, place], c, ends=ends)


def decode_magnitude(bins, chroma, z, energy, state, x, y, near, far, earlier):
    for i in range(3):
        a = [i, chroma, int(z < 2), state % 2, min(far, 3), near]
        b, c = [i, chroma, z, min(x, 3) + 4 * min(y, 3)], [i, chroma, energy, min(earlier, 3)]
        if not bins.mixed("BIG", [i, chroma], a, b, c):
            return 1 + i
    for i in range(11):
        if not bins.single(at("UNARY", near, i)):
            return 4 + i
    length = 0
    while length < 15 and bins.bypass(1):
        length += 1
    return min(15 + 2**length - 1 + bins.bypass(length), 16383)


# ---------------------------------------------------------------- filters


def deblock(tile, plane, thresholds):
    """`thresholds`: (beta, tc) by the sum of the offsets on either side."""
    samples, s = tile.planes[plane], tile.is_halved if plane else 0
    for is_vertical in (True, False):
        p = samples if is_vertical else samples.T  # a view: edges at columns 8, 16, ...
        for y in range(0, p.shape[0], 4):
            for x in range(8, p.shape[1], 8):
                places = [(x << s, y << s), ((x - 1) << s, y << s)]
                if not is_vertical:
                    places = [place[::-1] for place in places]
                beta, tc = thresholds[sum(tile.offset(*place) for place in places)]
                unit, i = tile.unit(*places[0]), int(not is_vertical)
                starts = unit["chroma at" if plane else "luma"][i] == places[0][i]
                if tc and starts:
                    lines = p[y : y + 4, x - 4 : x + 4]
                    lines[:] = deblock_edge(lines.tolist(), beta, tc)


def deblock_edge(lines, beta, tc):
    """`lines`: four times p3 p2 p1 p0 q0 q1 q2 q3."""
    dp = [abs(v[1] - 2 * v[2] + v[3]) for v in lines]
    dq = [abs(v[6] - 2 * v[5] + v[4]) for v in lines]
    if dp[0] + dp[3] + dq[0] + dq[3] >= beta:
        return lines
    is_strong = all(
        2 * (dp[i] + dq[i]) < beta >> 2
        and abs(lines[i][0] - lines[i][3]) + abs(lines[i][4] - lines[i][7]) < beta >> 3
        and abs(lines[i][3] - lines[i][4]) < (5 * tc + 1) >> 1
        for i in (0, 3)
    )
    b, h, out = (beta + (beta >> 1)) >> 3, tc >> 1, []
    for p3, p2, p1, p0, q0, q1, q2, q3 in lines:
        old = [p3, p2, p1, p0, q0, q1, q2, q3]
        new = old.copy()
        delta = (9 * (q0 - p0) - 3 * (q1 - p1) + 8) >> 4
        if is_strong:
            new[1:7] = [
                (2 * p3 + 3 * p2 + p1 + p0 + q0 + 4) >> 3, (p2 + p1 + p0 + q0 + 2) >> 2,
                (p2 + 2 * p1 + 2 * p0 + 2 * q0 + q1 + 4) >> 3, (q2 + 2 * q1 + 2 * q0 + 2 * p0 + p1 + 4) >> 3,
                (q2 + q1 + q0 + p0 + 2) >> 2, (2 * q3 + 3 * q2 + q1 + q0 + p0 + 4) >> 3,
            ]  # fmt: skip
            new = [clip(v, o - 2 * tc, o + 2 * tc) for v, o in zip(new, old, strict=True)]
        elif abs(delta) < 10 * tc:
            d = clip(delta, -tc, tc)
            new[3], new[4] = p0 + d, q0 - d
            if dp[0] + dp[3] < b:
                new[2] = p1 + clip((((p2 + p0 + 1) >> 1) - p1 + d) >> 1, -h, h)
            if dq[0] + dq[3] < b:
                new[5] = q1 + clip((((q2 + q0 + 1) >> 1) - q1 - d) >> 1, -h, h)
        out.append([clip(v, 0, 1023) for v in new])
    return out


def shifted(plane, dx, dy):
    """The plane's sample at (x + dx, y + dy), the nearest inside it."""
    height, width = plane.shape
    rows = np.clip(np.arange(height) + dy, 0, height - 1)
    return plane[rows[:, None], np.clip(np.arange(width) + dx, 0, width - 1)]


def difference(plane, pair, limit):
    dx, dy = PAIRS[pair]
    ends = (shifted(plane, dx, dy), shifted(plane, -dx, -dy))
    return sum(np.clip(end - plane, -limit, limit) for end in ends)


def classify(luma, step):
    """Return the classes, and what is swapped and mirrored, of the 4x4 blocks; `step` [h / 4, w / 4]."""
    rows, columns = np.indices(luma.shape)
    sums = []
    for dx, dy in ((0, 1), (1, 0), (1, 1), (-1, 1)):
        second = np.abs(2 * luma - shifted(luma, dx, dy) - shifted(luma, -dx, -dy))
        second *= (rows + columns) % 2 == 0
        blocks = second.reshape(luma.shape[0] // 4, 4, -1, 4).sum((1, 3))
        around = [shifted(blocks, *place) for place in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        sums.append(2 * blocks + sum(around))
    v, h, d, a = sums
    hv, low, diagonal, low_d = np.maximum(v, h), np.minimum(v, h), np.maximum(d, a), np.minimum(d, a)  # fmt: skip
    is_diagonal = diagonal * low > hv * low_d
    strong, weak = np.where(is_diagonal, diagonal, hv), np.where(is_diagonal, low_d, low)
    direction = np.where(strong > 2 * weak, np.where(is_diagonal, 1, 3) + (2 * strong > 9 * weak), 0)  # fmt: skip
    activity = np.searchsorted([12, 28, 60, 130], (v + h) * 16 // step, side="right")
    return 5 * activity + direction, h > v, a > d


def spread(blocks, side):
    return blocks.repeat(side, 0).repeat(side, 1)


def filter_tile(tile, tensors, code):
    planes, bins, s = tile.planes, tile.bins, tile.is_halved
    halves = np.arange(-24, 25)  # sums of two offsets
    sigma = exp2(8 * mid(tensors["log_step"], code)[:, None] + 256 * halves)  # [plane][sum + 24]
    q = mid(tensors["strength"], code).tolist()
    for plane in range(len(planes)):
        beta, tc = ((sigma[plane] * q[2 * (plane > 0) + i]) >> 10 for i in (0, 1))
        thresholds = zip(beta.tolist(), tc.tolist(), strict=True)
        deblock(tile, plane, dict(zip(halves.tolist(), thresholds, strict=True)))
    clip_luma, clip_chroma = (clip((int(sigma[i, 24]) * q[4 + i]) >> 10, 1, 1023) for i in (0, 1))
    luma = planes[0].copy()
    offsets = [[tile.offset(x, y) for x in range(0, tile.width, 4)] for y in range(0, tile.height, 4)]  # fmt: skip
    classes, swapped, mirrored = classify(luma, sigma[0][24 + 2 * np.array(offsets)])
    weights, total = mid(tensors["luma_filter"], code), 0
    for i in range(12):
        j = np.where(mirrored, TABLES["MIRRORED"][i], i)
        j = np.where(swapped, np.array(TABLES["SWAPPED"])[j], j)
        total = total + spread(weights[classes, j], 4) * difference(luma, i, clip_luma)
    take(bins, tile, [(0, np.clip(luma + ((total + 64) >> 7), 0, 1023))])
    if len(planes) == 1:
        return
    every, outs = np.s_[:: 1 << s, :: 1 << s], []
    weights, activity = mid(tensors["chroma_filter"], code), classes // 5
    for plane in (1, 2):
        w = [spread(weights[plane - 1, :, i][activity], 4 >> s) for i in range(11)]
        total = w[10] * (planes[0] - luma)[every]
        total += sum(w[i] * difference(planes[plane], i, clip_chroma) for i in range(6))
        total += sum(w[6 + i] * difference(luma, i, clip_luma)[every] for i in range(4))
        outs.append((plane, np.clip(planes[plane] + ((total + 64) >> 7), 0, 1023)))
    take(bins, tile, outs)


def take(bins, tile, filtered, context="FILTERED"):
    """Take the filtered planes in the squares whose bin says so; return where in luma."""
    taken = np.zeros((tile.height, tile.width), int)
    for y in range(0, tile.height, 64):
        for x in range(0, tile.width, 64):
            if not bins.single(at(context, int(filtered[0][0] > 0))):
                continue
            taken[y : y + 64, x : x + 64] = 1
            for plane, samples in filtered:
                s = tile.is_halved if plane else 0
                square = np.s_[y >> s : (y + 64) >> s, x >> s : (x + 64) >> s]
                tile.planes[plane][square] = samples[square]
    return taken


# ---------------------------------------------------------------- network


def sat(a):
    return np.clip(a, -32767, 32767)


def around(x, mode):
    """Return what each place has at the nine places around it, [(u, v), h, w, c]."""
    h, w, _ = x.shape
    outside = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode=mode)
    return np.stack([outside[u : u + h, v : v + w] for u in range(3) for v in range(3)])


def network_tile(tile, tensors, code):
    """All planes once more, by a network that sees cells of 4x4. Return what it added."""
    planes, (h, w) = tile.planes, (tile.height // 4, tile.width // 4)

    def rounded(sums, shift):
        return sat((sums + (1 << (shift.astype(np.int64) - 1))) >> shift)

    def layer(name, x):  # [h, w, c] and weights [o, c], or [9, h, w, c] and [c, 3, 3]
        w, b, s = (
            tensors[f"network.{name}.{part}"].astype(np.int64)
            for part in ("weight", "bias", "shift")
        )
        sums = x @ w.T if w.ndim == 2 else np.einsum("khwc,ck->hwc", x, w.reshape(-1, 9))
        return rounded(b + sums, s)

    def table(name):
        return mid(tensors[f"network.{name}"], code).astype(np.int64)

    def activated(x, k):
        scaled = rounded(x * table(f"factor.{k}"), np.array(12))
        return np.clip(sat(scaled + table(f"offset.{k}")), 0, 8191)

    cells = np.zeros((h, w, 48), np.int64)
    for p, plane in enumerate(planes):
        of_plane = plane.reshape(h, 4, w, 4).swapaxes(1, 2).reshape(h, w, 16)
        cells[:, :, 16 * p : 16 * p + 16] = of_plane - 512
    sides = [[side_inputs(tile, 4 * x, 4 * y) for x in range(w)] for y in range(h)]
    z = layer("high", around(layer("forward", cells), "edge"))
    z = np.clip(rounded(z * table("scale"), np.array(8)), -4096, 4096)
    x = sat(layer("head", z) + layer("sides", np.array(sides)))
    for k in range(4):
        squeezed = activated(layer(f"squeeze.{k}", x), k)
        patches = np.moveaxis(around(squeezed, "constant"), 0, 2).reshape(h, w, -1)
        x = sat(x + layer(f"conv.{k}", patches))
    y = rounded(layer("tail", activated(x, 4)) * table("gain"), np.array(15))
    added = (
        layer("inverse", y).reshape(h, w, 3, 4, 4).transpose(2, 0, 3, 1, 4).reshape(3, 4 * h, 4 * w)
    )
    for plane in planes:
        plane *= 4
    filtered = [(p, np.clip(plane + added[p], 0, 4092)) for p, plane in enumerate(planes)]
    return added * take(tile.bins, tile, filtered, "NETWORK")


def side_inputs(tile, x, y):
    def starts(cx, cy, axis):
        return (cx, cy)[axis] == (tile.width, tile.height)[axis] or tile.unit(cx, cy)["luma"][
            axis
        ] == (cx, cy)[axis]

    unit = tile.unit(x, y)
    edges = [starts(x, y, 0), starts(x + 4, y, 0), starts(x, y, 1), starts(x, y + 4, 1)]
    is_zero = [e == 0 for e in unit["energy"]]
    return [unit["log2_w"] - 2, unit["log2_h"] - 2, *edges, *unit["energy"], *is_zero]


# ---------------------------------------------------------------- last filter


def last_filter(tile, added, largest):
    """`added`: by the network, None if there is none."""

    def ring(plane, i):
        a, b = ((1, 0), (1, 1), (2, 0), (3, 0))[i]
        places = ((a, b), (-b, a), (-a, -b), (b, -a))
        return sum(shifted(plane, *place) for place in places) - 4 * plane

    planes, bins = tile.planes, tile.bins
    others = (1, 2) if len(planes) == 3 and not tile.is_halved else ()
    weights = []
    for p in range(len(planes)):
        is_filtered = bins.single(at("WIENER", p))
        present = (0, 1, 2, 3, *(3 + k for k in others), *[6] * (added is not None))
        weights.append([decode_weight(bins, i) for i in present] if is_filtered else [])
    outs = []
    for p, w in enumerate(weights):
        inputs = [ring(planes[p], i) for i in range(4)]
        inputs += [ring(planes[(p + k) % 3], 0) for k in others]
        if added is not None:
            inputs.append(8 * np.clip(added[p], -4095, 4095))
        total = sum(v * r for v, r in zip(w, inputs, strict=True)) if w else 0
        outs.append(np.clip(planes[p] + ((total + 64) >> 7), 0, largest))
    tile.planes[:] = outs


def decode_weight(bins, i):
    n = 0
    while n < 8 and bins.single(at("WIENER_WEIGHT", i, n)):
        n += 1
    if n == 0:
        return 0
    sign = 1 - 2 * bins.bypass(1)
    return sign * ((1 << n - 1) + bins.bypass(n - 1))


# ---------------------------------------------------------------- pixels


def upsample(plane):
    i, j = (np.arange(2 * n) for n in plane.shape)
    rows, columns = (
        (k >> 1, np.clip((k >> 1) + np.where(k % 2, 1, -1), 0, len(k) // 2 - 1)) for k in (i, j)
    )
    parts = [plane[a[:, None], b] for a in rows for b in columns]
    return (9 * parts[0] + 3 * parts[1] + 3 * parts[2] + parts[3] + 8) >> 4


def turned(colour, turn):
    a, (b, c, d) = 128, turn
    n = a * a + b * b + c * c + d * d
    rotation = [
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d],
    ]
    return (colour.astype(np.int64) @ np.array(rotation).T + n // 2) // n


def to_pixels(planes, is_halved, colour, width, height, bit_depth=8, extra=0):
    """`colour`: [R, G, B][plane]; `extra`: bits of samples beyond ten."""
    largest, white = (1 << bit_depth) - 1, 255 << (18 + extra)
    if len(planes) == 1 and bit_depth != 8:
        most = 1020 << extra
        grey = np.minimum(planes[0].astype(np.int64), most) * largest + most // 2
        return (grey // most)[:height, :width].astype(np.uint16)
    if len(planes) == 1:
        return np.minimum((planes[0] + (2 << extra)) >> (2 + extra), 255)[:height, :width].astype(
            np.uint8
        )
    full = [upsample(p) if is_halved and i else p for i, p in enumerate(planes)]
    k = 18 + extra
    v = (np.stack(full, -1).astype(np.int64) - (512 << extra)) @ colour.T
    if bit_depth != 8:
        v = np.clip(v + (128 << k), 0, white)
        return ((v * largest + white // 2) // white)[:height, :width].astype(np.uint16)
    v = 128 + ((v + (1 << k - 1)) >> k)
    return np.clip(v, 0, 255)[:height, :width].astype(np.uint8)


def head_of(payload):
    """Return flags, turn and the rest."""
    require(len(payload) > 0, "truncated")
    n = 4 if payload[0] & 32 else 1
    require(len(payload) >= n, "truncated")
    turn = struct.unpack("3b", payload[1:n]) if n > 1 else (0, 0, 0)
    return payload[0], turn, payload[n:]


def decode_bins(bins, flags, turn, tensors, code, width, height, is_grey, bit_depth=8):
    """Return the pixels that bins make, [height, width, 3] or [height, width]."""
    require(flags < 64 and flags >> 1 & 3 in (0, 2) and not (flags & 33 and is_grey), "flags")
    require(not flags & 16 or ("network.gain" in tensors and not flags & 1), "flags")
    kind, is_halved, has_offsets = "angle" if flags & 4 else "dct", flags & 1, bool(flags & 8)
    tile = Tile(bins, tensors, code, width, height, is_grey, is_halved, kind, has_offsets)
    filter_tile(tile, tensors, code)
    added = network_tile(tile, tensors, code) if flags & 16 else None
    colour, extra = turned(tensors["colour"], turn), 2 if flags & 16 else 0
    last_filter(tile, added, 1023 << extra)
    return to_pixels(tile.planes, is_halved, colour, width, height, bit_depth, extra)


def decode(payload, tensors, code, width, height, is_grey, bit_depth=8):
    """Return the pixels of a tile; ValueError where the payload breaks a rule."""
    flags, turn, rest = head_of(payload)
    source = RangeDecoder(rest)
    bins = Bins(source, tensors, code)
    pixels = decode_bins(bins, flags, turn, tensors, code, width, height, is_grey, bit_depth)
    source.finish()
    return pixels


def require(fact, what):
    if not fact:
        raise ValueError(what)
