"""The decoder of specs/lossless.md in plain Python, written to check the C++. Does not import ncodec.

Pictures are lists of rows; slots, weights and refinements are made when they are first used, so small pictures are quick.
"""

from bisect import bisect_left
from collections import defaultdict

SQUASH = [
    22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743, 32768, 40793, 47911, 53581,
    57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514,
]  # fmt: skip
OWN = [(-1, 0), (0, -1), (-1, -1), (1, -1), (-2, 0), (0, -2), (2, -1), (-2, -1), (1, -2), (-1, -2), (-3, 0), (2, -2)]  # fmt: skip
OTHER = [(0, 0), (-1, 0), (0, -1), (1, 0), (0, 1), (1, -1), (-1, -1)]
NOTHING = 65535
WORD = 1 << 32


class Damaged(ValueError):
    """A payload that breaks a rule."""


def require(fact, what):
    if not fact:
        raise Damaged(what)


def clip(v, low, high):
    return max(low, min(v, high))


def log2(v):
    return max(v, 1).bit_length() - 1


def squash(d):
    a, b, i = SQUASH[(d + 2048) // 128], SQUASH[(d + 2048) // 128 + 1], (d + 2048) % 128
    return a + ((b - a) * i + 64) // 128


SQUASHED = [squash(d) for d in range(-2048, 2048)]
STRETCHED = [clip(bisect_left(SQUASHED, 16 * i + 8) - 2048, -2047, 2047) for i in range(4096)]


# ---------------------------------------------------------------- bins (sections 1 and 3)


class Bins:
    """The range decoder of specs/binary.md, sections 2 and 4."""

    def __init__(self, payload):
        require(payload, "truncated")
        self.padded, self.position, self.width = payload + bytes(3), 4, WORD
        self.offset = int.from_bytes(self.padded[:4], "big")

    def decode(self, share):
        upper = self.width * share >> 17
        bin = int(self.offset >= self.width - upper)
        self.offset, self.width = (
            (self.offset - (self.width - upper), upper) if bin else (self.offset, self.width - upper)
        )  # fmt: skip
        while self.width < 1 << 24:
            require(self.position < len(self.padded), "truncated")
            self.offset = self.offset << 8 | self.padded[self.position]
            self.width, self.position = self.width << 8, self.position + 1
        return bin

    def finish(self):
        require(self.position == len(self.padded), "left over")
        require(self.offset < 1 << 24, "bad end")


class Slot:
    def __init__(self):
        self.p, self.n = 1 << 15, 0

    def update(self, bin):
        self.p += (65535 * bin - self.p) * (131072 // (2 * self.n + 3)) >> 16
        self.n = min(self.n + 1, 255)


def refinement():
    return [SQUASHED[clip((i - 16) * 128, -2047, 2047) + 2048] for i in range(33)]


def alone(bins, slot):
    bin = bins.decode(2 * clip(slot.p, 64, 65472))
    slot.update(bin)
    return bin


def mixed(bins, slots, first, second, refined, rate):
    """Return a bin of nine slots; `first` and `second` are ten weights each."""
    s = [STRETCHED[slot.p >> 4] for slot in slots] + [256]
    dots = [
        clip(sum((w >> 4) * v for w, v in zip(weights, s, strict=True)) >> 14, -2047, 2047)
        for weights in (first, second)
    ]
    mean = sum(dots) >> 1
    at, rest = divmod(mean + 2048, 128)
    r = (refined[at] * (128 - rest) + refined[at + 1] * rest) >> 7
    bin = bins.decode(2 * clip((SQUASHED[mean + 2048] + r + 1) >> 1, 64, 65472))
    for weights, dot in zip((first, second), dots, strict=True):
        error = 65535 * bin - SQUASHED[dot + 2048]
        for i in range(10):
            moved = weights[i] + ((s[i] * error + (1 << (rate - 1))) >> rate)
            weights[i] = clip(moved, 1 - 2**20, 2**20 - 1)
    near = at + (rest >= 64)
    refined[near] += (65535 * bin - refined[near]) >> 6
    for slot in slots:
        slot.update(bin)
    return bin


def weights():
    return [(3 << 17) // 9] * 9 + [0]


class Numbers:
    def __init__(self):
        self.lengths, self.bits = defaultdict(Slot), defaultdict(Slot)

    def decode(self, bins):
        length = 0
        while length < 16 and alone(bins, self.lengths[length]):
            length += 1
        v = 1
        for i in range(length - 1, -1, -1):
            v = 2 * v + alone(bins, self.bits[length, i])
        return v - 1


# ---------------------------------------------------------------- least squares (section 4)


def eliminate(a, n):
    """Bring the first n rows of symmetric a, [n + 1, n + 1], into triangular form."""
    ridge = (sum(a[i][i] for i in range(n)) // n >> 14) + 64
    for i in range(n):
        a[i][i] += ridge
    up = 29 - log2(max(a[i][i] for i in range(n + 1)))
    for i in range(n):
        for j in range(i, n + 1):
            a[i][j] = a[i][j] << up if up >= 0 else a[i][j] >> -up
    for j in range(n):
        a[j][j] = max(a[j][j], 256)
        bits = log2(a[j][j])
        inverse = (1 << (bits + 30)) // a[j][j]
        for i in range(j + 1, n):
            factor = clip(a[j][i] * inverse >> (bits + 14), -(2**31), 2**31 - 1)
            for k in range(i, n + 1):
                moved = a[i][k] - (factor * a[j][k] >> 16)
                a[i][k] = (moved + 2**31) % WORD - 2**31


def solve(a, taps, n):
    w = [0] * taps
    for i in range(taps - 1, -1, -1):
        b = (a[i][n] << 16) - sum(w[k] * a[i][k] for k in range(i + 1, taps))
        quotient = abs(b) // a[i][i]
        w[i] = clip(quotient if b >= 0 else -quotient, -(2**19), 2**19)
    return w


# ---------------------------------------------------------------- a plane (sections 5 and 6)


def level(v, steps, most=99):
    bits = log2(v + 1)
    return min(bits * steps + (((((v + 1) << 8) >> bits) - 256) * steps >> 8), most)


def first_of_class(k):
    return k if k < 4 else (2 + k % 2) << (k // 2 - 1)


class Plane:
    """Samples [h][w]; `at` knows those outside."""

    def __init__(self, w, h, outside):
        self.w, self.h, self.outside = w, h, outside
        self.rows = [[outside] * w for _ in range(h)]

    def at(self, x, y):
        if y == self.h:
            y -= 1
        if y >= 0 and x < 0:
            x, y = 0, y - 1
            return self.rows[y][0] if y >= 0 else self.outside
        return self.rows[y][min(x, self.w - 1)] if y >= 0 else self.outside


class PlaneDecoder:
    def __init__(self, bins, plane, most, cell, others, state):
        self.bins, self.x, self.most, self.cell = bins, plane, most, cell
        self.others, self.state = others, state  # [(samples, residuals)], nearest first
        self.e = Plane(plane.w, plane.h, 0)
        self.errors = [Plane(plane.w, plane.h, 0) for _ in range(8)]
        self.slots = defaultdict(Slot)
        self.by_energy, self.by_other = defaultdict(weights), defaultdict(weights)
        self.refined, self.low = defaultdict(refinement), defaultdict(Slot)
        self.bias = defaultdict(lambda: [0, 0])
        bits = log2(most) + 1
        self.tap_shift, self.value_shift = max(0, bits - 9), max(0, bits - 8)
        self.depth_shift, self.n_bins = max(0, bits - 12), 16 if most < 256 else 32
        k = len(others)
        taps = [(-1, p) for p in OWN[:4]] + [(o, p) for o in range(k) for p in OTHER[:3]]
        self.few = len(taps)
        taps += [(-1, p) for p in OWN[4:6]] if k == 0 else [(o, p) for o in range(k) for p in OTHER[3:5]]  # fmt: skip
        self.more = len(taps)
        taps += [(-1, p) for p in (OWN[6:12], OWN[4:10], OWN[4:8])[k]]
        taps += [(o, p) for o in range(k) for p in OTHER[5 : 7 if k == 1 else 6]]
        self.taps = taps

    def decode(self):
        w, h, n, cell = self.x.w, self.x.h, len(self.taps), self.cell
        zeros = [[0] * (n + 1) for _ in range(n + 1)]
        moments = [[row[:] for row in zeros] for _ in range(-(-w // cell))]
        whole, weights_of_all = [row[:] for row in zeros], [1 << 15, 1 << 15] + [0] * (n - 2)
        all_shift = max(0, log2(w) - 4)
        for y in range(h):
            if y > 0:
                a = [row[:] for row in whole]
                eliminate(a, n)
                weights_of_all = solve(a, n, n)
                for row in whole:
                    row[:] = [v - (v >> 5) for v in row]
            for c in range(len(moments)):
                xs = range(c * cell, min(w, (c + 1) * cell))
                if any(self.state[y][x] == "coded" for x in xs):
                    near = [(c + d, f) for d, f in zip(range(-2, 3), (1, 2, 2, 2, 1), strict=True)]
                    near = [(moments[i], f) for i, f in near if 0 <= i < len(moments)]
                    a = [
                        [sum(m[i][j] * f for m, f in near) for j in range(n + 1)]
                        for i in range(n + 1)
                    ]
                    eliminate(a, n)
                    found = [solve(a, k, n) for k in (self.few, self.more, n)] + [weights_of_all]
                sums = [row[:] for row in zeros]
                for x in xs:
                    if self.state[y][x] != "coded":
                        if self.state[y][x] == "hidden":
                            self.x.rows[y][x] = (self.x.at(x - 1, y) + self.x.at(x, y - 1)) >> 1
                        for errors in self.errors:
                            errors.rows[y][x] = 0
                        continue
                    z = self.pixel(x, y, found)
                    for i in range(n + 1):
                        for j in range(n + 1):
                            sums[i][j] += z[i] * z[j]
                for i in range(n + 1):
                    for j in range(n + 1):
                        m = moments[c][i][j]
                        moments[c][i][j] = m - (m >> 2) + sums[i][j]
                        whole[i][j] += sums[i][j] >> all_shift

    def pixel(self, x, y, found):
        """Decode a pixel; return z."""
        at = [lambda dx, dy: self.x.at(x + dx, y + dy)]
        at += [lambda dx, dy, s=s: s.at(x + dx, y + dy) for s, _ in self.others]
        W, N, NW, NE = (at[0](*p) for p in OWN[:4])
        WW, NN, NNE = at[0](-2, 0), at[0](0, -2), at[0](1, -2)
        k = len(self.others)
        base = [a(-1, 0) + a(0, -1) for a in at]
        t = [2 * at[o + 1](*p) - base[o + 1] for o, p in self.taps]

        def moved(v, plane, dx, dy):
            return v + at[plane](0, 0) - at[plane](dx, dy) if k else v

        first, last = k, min(k, 1)  # planes before: the first that was coded, the last
        Wc, Nc, NWc = moved(W, first, -1, 0), moved(N, first, 0, -1), moved(NW, first, -1, -1)
        NEc, WWc, NNc = moved(NE, first, 1, -1), moved(WW, first, -2, 0), moved(NN, first, 0, -2)
        Wd, Nd = moved(W, last, -1, 0), moved(N, last, 0, -1)

        bound = self.most << 6
        dots = [sum(a * b for a, b in zip(w, t, strict=False)) for w in found]
        p = [clip((d >> 11) + 32 * base[0], 0, bound) for d in dots]
        low, high = min(W, N), max(W, N)
        gradient = 64 * (low if NW >= high else high if NW <= low else W + N - NW)
        p.append(clip((Wc + Nc) * 32, 0, bound) if k else gradient)
        p += [clip(v, 0, bound) for v in ((2 * N - NN + 2 * W - WW) * 32, Nc * 64, Wc * 64)]

        around = [(-1, 0), (-1, 0), (0, -1), (0, -1), (-2, 0), (-1, -1), (1, -1)]
        levels = [level(sum(e.at(x + i, y + j) for i, j in around) + 7, 4) for e in self.errors]
        shares = [4096 >> min(v - min(levels), 31) for v in levels]
        mu = sum(a * b for a, b in zip(shares, p, strict=True)) // sum(shares)

        def e(dx, dy):
            return self.e.at(x + dx, y + dy)

        def size(*places, of=e):
            return sum(abs(of(*place)) for place in places)

        energy = 3 * size((-1, 0), (0, -1)) + 2 * size((-1, -1), (1, -1))
        energy += size((-2, 0), (0, -2), (2, -1), (1, -2))
        ec = ed = 0
        if k:
            of = lambda i: lambda dx, dy: self.others[i][1].at(x + dx, y + dy)  # noqa: E731
            ec = of(k - 1)(0, 0)
            other = 4 * abs(ec) + 2 * size((-1, 0), (1, 0), (0, -1), (0, 1), of=of(k - 1))
            if k > 1:
                ed = of(0)(0, 0)
                other += 2 * abs(ed) + size((1, 0), (0, 1), of=of(0))
        else:
            pairs = ((W, NW), (N, NW), (N, NE), (W, WW), (N, NN), (NE, NNE))
            other = 2 * sum(abs(a - b) for a, b in pairs)
        shift = self.depth_shift
        by_energy, by_other = level(energy >> shift, 2, 23), level(other >> shift, 2, 23)
        coarse = min(by_energy * 2 // 3, 15)

        def signed(v):
            s = level(abs(v) >> shift, 1, 8)
            return 8 - s if v < 0 else 8 + s

        m = mu >> 6
        bits = (Wc, Nc, NWc, NEc, WWc, NNc, 2 * Nc - NNc, 2 * Wc - WWc)
        texture = sum((v > m) << i for i, v in enumerate(bits))
        neighbours, others_here = signed(e(-1, 0)) * 17 + signed(e(0, -1)), signed(ec) * 17 + signed(ed)  # fmt: skip
        places = (0, texture * 8 + by_energy // 3), (1, others_here), (2, neighbours)
        biases = [self.bias[place] for place in places]
        total = sum(b[0] for b in biases)
        centre = clip(mu + (total // 3 if total >= 0 else -(-total // 3)), 0, bound)
        whole = min((centre + 32) >> 6, self.most)
        eighth = clip((centre - 64 * whole + 32) >> 3, 0, 7)
        quarter = eighth >> 1

        def pair(a, b):
            return (signed(a) * 17 + signed(b)) * 4 + quarter

        spread = max(p[:4]) - min(p[:4])
        contexts = [
            by_other * 24 + by_energy,
            others_here * 16 + coarse if k else (signed(e(1, -1)) * 17 + signed(e(-1, -1))) * 16,
            pair(Wc - whole, Nc - whole),
            pair(Wd - whole, Nd - whole) if k > 1 else pair(2 * Wc - WWc - whole, 2 * Nc - NNc - whole),
            pair(NWc - whole, NEc - whole),
            pair((p[0] - centre) >> 3, (p[3] - centre) >> 3),
            texture * 4 + min(by_energy // 5, 3),
            (level(spread >> (2 + shift), 2, 16) * 17 + coarse) * 8 + eighth,
            (whole >> self.value_shift) * 8 + by_energy // 3,
        ]  # fmt: skip
        sets = (by_energy, by_other // 3 * 4 + quarter, by_other)
        residual = self.residual(contexts, sets, -whole, self.most - whole)
        value = whole + residual
        self.x.rows[y][x] = value
        self.e.rows[y][x] = clip(residual, -32767, 32767)

        for b in biases:
            b[0] += (64 * value - mu - b[0]) * (131072 // (2 * b[1] + 3)) >> 16
            b[1] = min(b[1] + 1, 60)
        for errors, predicted in zip(self.errors, p, strict=True):
            errors.rows[y][x] = abs(predicted - 64 * value) >> 2
        return [clip(v >> self.tap_shift, -1023, 1023) for v in [*t, 2 * value - base[0]]]

    def residual(self, contexts, sets, low, high):
        def bin(j):
            slots = [self.slots[i, context, j] for i, context in enumerate(contexts)]
            first, second = self.by_energy[sets[0], j], self.by_other[sets[1], j]
            return mixed(self.bins, slots, first, second, self.refined[sets[2], j], 13)

        if low == high or bin(0):
            return 0
        negative = high == 0 or (low < 0 and bin(1))
        most, k = (-low if negative else high) - 1, 0
        while first_of_class(k + 1) <= most and bin(min(k + 2, self.n_bins - 1)):
            k += 1
        out, node = first_of_class(k), 1
        for i in range(k // 2 - 2 if k >= 4 else -1, -1, -1):
            if out + (1 << i) <= most:
                bit = alone(self.bins, self.low[k, min(node, 15)])
                out, node = out + (bit << i), 2 * node + bit
        return -out - 1 if negative else out + 1


# ---------------------------------------------------------------- indexes (section 7)


def hashed(number, *pixels):
    h = number * 0x27D4EB2F % WORD
    for p in pixels:
        h = (h + p + 1) * 0x2C1B3C6D % WORD
        h ^= h >> 13
    return h ^ h >> 16


def decode_indexes(bins, w, h, n):
    """Return [h][w] numbers of colours, below n."""
    n_bits, mask = (n - 1).bit_length(), (1 << clip((w * h - 1).bit_length(), 12, 20)) - 1
    slots, followers = defaultdict(Slot), defaultdict(lambda: NOTHING)
    by_node, by_pattern, refined = (
        defaultdict(weights), defaultdict(weights), defaultdict(refinement),
    )  # fmt: skip
    plane = Plane(w, h, 0)
    for y in range(h):
        for x in range(w):
            at = [
                plane.at(x + dx, y + dy)
                for dy, dxs in ((0, (-1, -2, -3)), (-1, range(-2, 3)), (-2, (-1, 0, 1)))
                for dx in dxs
            ]
            W, WW, WWW, NWW, NW, N, NE, NEE, NNW, NN, NNE = at
            hashes = [
                hashed(0, W), hashed(1, N), hashed(2, W, N), hashed(3, W, N, NW), hashed(4, W, N, NW, NE),
                hashed(5, W, N, NW, NE, WW, NN), hashed(6, W, N, NW, NE, WW, NN, NNE, NWW, NEE, WWW, NNW),
                hashed(7, N, NE, NN), hashed(8, W, WW, WWW),
            ]  # fmt: skip
            far, near = followers[hashes[6] & mask], followers[hashes[4] & mask]
            new = far == NOTHING
            guess = far if not new else near if near != NOTHING else W
            pattern = (W == N) + 2 * (N == NW) + 4 * (N == NE) + 8 * (W == WW) + 16 * (N == NN) + 32 * new  # fmt: skip

            def bin(node, by, i, hashes=hashes, pattern=pattern):
                places = []
                for hash in hashes:
                    v = (hash + node * 0x9E3779B1) % WORD
                    v = (v ^ v >> 15) * 0x85EBCA6B % WORD
                    places.append(v >> 7 & mask)
                chosen = [slots[place] for place in enumerate(places)]
                return mixed(bins, chosen, by_node[by], by_pattern[pattern, i], refined[by], 11)

            if not bin(0xFFFF0000 + guess, ("guess", guess == W, guess == N, new), 0):
                guess = 1
                for i in range(n_bits - 1, -1, -1):
                    guess = 2 * guess + bin(guess, guess, 1 + i)
                guess -= 1 << n_bits
            plane.rows[y][x] = followers[hashes[6] & mask] = followers[hashes[4] & mask] = guess
    require(all(v < n for row in plane.rows for v in row), "index")
    return plane.rows


# ---------------------------------------------------------------- a tile (section 2)


def decode(payload, w, h, channels, bit_depth):
    """Return [h][w] tuples of `channels` values; Damaged where the payload breaks a rule."""
    bins = Bins(payload)
    flags = defaultdict(Slot)
    cell = 4 << (2 * alone(bins, flags[1]) + alone(bins, flags[0]))
    alpha = channels - 1 if channels % 2 == 0 else None
    order = ([] if alpha is None else [alpha]) + ([0] if channels < 3 else [1, 0, 2])
    hides = alpha is not None and alone(bins, flags[2])
    values = [decode_values(bins, bit_depth) for _ in range(channels)]
    palette = indexes = None
    rest = 0
    if alone(bins, flags[3]):
        rest = alone(bins, flags[4])
        palette = decode_palette(bins, order, values, alpha is not None)
        require(len(palette) + rest > 0, "palette")
        indexes = decode_indexes(bins, w, h, len(palette) + rest)

    planes = [Plane(w, h, len(v) // 2) for v in values]
    state = [["coded"] * w for _ in range(h)]
    for y in range(h if palette is not None else 0):
        for x in range(w):
            if indexes[y][x] >= rest:
                state[y][x] = "known"
                for c, v in zip(order, palette[indexes[y][x] - rest], strict=True):
                    planes[c].rows[y][x] = v
    others = []
    if any("coded" in row for row in state):
        for c in order:
            decoder = PlaneDecoder(bins, planes[c], len(values[c]) - 1, cell, others, state)
            if len(values[c]) > 1:
                decoder.decode()
            if c == alpha:
                for y in range(h if hides else 0):
                    for x in range(w):
                        if state[y][x] == "coded" and values[c][planes[c].rows[y][x]] == 0:
                            state[y][x] = "hidden"
            else:
                others = [(planes[c], decoder.e), *others]
    bins.finish()
    picture = [
        [tuple(values[c][planes[c].rows[y][x]] for c in range(channels)) for x in range(w)]
        for y in range(h)
    ]
    if hides:
        picture = [[p if p[alpha] else (0,) * channels for p in row] for row in picture]
    return picture


def decode_values(bins, bit_depth):
    """Return the values that occur in a channel."""
    if not alone(bins, Slot()):
        return range(1 << bit_depth)
    same, gaps, values, next, gap = Slot(), Numbers(), [], 0, 0
    n = Numbers().decode(bins) + 1
    require(n <= 1 << bit_depth, "values")
    for _ in range(n):
        if not alone(bins, same):
            gap = gaps.decode(bins)
        require(next + gap < 1 << bit_depth, "values")
        values.append(next + gap)
        next += gap + 1
    return values


def decode_palette(bins, order, values, lead):
    """Return colours, each in the order of coding."""
    steps, n = [Numbers() for _ in order], Numbers().decode(bins)
    require(n <= 4095, "palette")
    colours, before = [], [0] * len(order)
    for _ in range(n):
        colour, change = [], 0
        for k, c in enumerate(order):
            most = len(values[c]) - 1
            expected = before[k] if k <= lead else clip(before[k] + change, 0, most)
            v = steps[k].decode(bins)
            value = expected + (-(v + 1) // 2 if v % 2 else v // 2)
            require(0 <= value <= most, "palette")
            if k == lead:
                change = value - before[k]
            colour.append(value)
        colours.append(colour)
        before = colour
    return colours
