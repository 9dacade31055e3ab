"""specs/exact.md in numpy, int64: what the executors of ncodec/exact are held against. Imports nothing of ncodec.

    run([(kind, inputs, numbers, arrays), …], feeds, wanted)    tensors [h, w, C], vectors [C], in the order of `wanted`
    bounds(operations)                                          X19, of every tensor
    largest_sum(x's bound, weight, bias, shift)                 X3, for every output

An operation's inputs are numbers of earlier ones; `numbers` and `arrays` are those of `ncodec.exact.Operation`.
"""

import math

import numpy as np

LARGEST = 32767
ORDER = np.array([[0, 2], [3, 1]])  # X18: p


def sat(a):
    return np.minimum(np.maximum(a, -LARGEST), LARGEST)


def rounded(a, s):
    s = np.asarray(s, np.int64)
    return np.where(s >= 1, (a + (1 << np.maximum(s - 1, 0))) >> s, a)


def windows(x, k, mode):
    """Yield u, v and what every place has at (i + u − p, j + v − p)."""
    p, (h, w, _) = k // 2, x.shape
    outside = np.pad(x, ((p, p), (p, p), (0, 0)), mode=mode)
    for u in range(k):
        for v in range(k):
            yield u, v, outside[u : u + h, v : v + w]


def conv(x, weight, bias, shift):
    return sat(rounded(bias + np.einsum("ijc,oc->ijo", x, weight), shift))  # X1


def depthwise(x, replicate, weight, bias, shift):
    mode = "edge" if replicate else "constant"
    seen = windows(x, weight.shape[1], mode)
    return sat(rounded(bias + sum(weight[:, u, v] * part for u, v, part in seen), shift))  # X2


def shuffle(x, f):
    h, w, c = x.shape
    parts = x.reshape(h, w, f, f, c // f**2)  # i, j, u, v, c
    return parts.transpose(0, 2, 1, 3, 4).reshape(f * h, f * w, c // f**2)  # X5


def unshuffle(x, f):
    h, w, c = x.shape
    parts = x.reshape(h // f, f, w // f, f, c)  # i, u, j, v, c
    return parts.transpose(0, 2, 1, 3, 4).reshape(h // f, w // f, f**2 * c)  # X6


def pad(x, f):
    h, w, _ = x.shape
    return np.pad(x, ((0, -h % f), (0, -w % f), (0, 0)), mode="edge")  # X7


def fold(x, k, heads):
    h, w, channels = x.shape
    e, across = channels // heads, -(-w // k)
    made = np.zeros((-(-h // k) * across, e, heads * k * k), np.int64)
    i, j, g, c = np.indices((h, w, heads, e))
    made[i // k * across + j // k, c, (g * k + i % k) * k + j % k] = x[i, j, g * e + c]
    return made  # X24


def unfold(x, like, k, heads):
    h, w, channels = like.shape
    e, across = channels // heads, -(-w // k)
    assert x.shape == (-(-h // k) * across, e, heads * k * k)
    i, j, g, c = np.indices((h, w, heads, e))
    made = x[i // k * across + j // k, c, (g * k + i % k) * k + j % k]
    return made.reshape(h, w, channels)  # X25


def merge(x, y, step, steps):
    i, j, c = np.indices(x.shape)
    return np.where((ORDER[i % 2, j % 2] + c) % 4 * steps // 4 == step, y, x)  # X18


EXP = (32767 * 2.0 ** (np.arange(1024) / -64) + 0.5).astype(np.int64)  # X23
EXP[1023] = 0


def norm(x, bits):
    made = np.empty_like(x)
    for place in np.ndindex(x.shape[:2]):
        m = max(1, math.isqrt(int((x[place] ** 2).sum()) * 2**16 // x.shape[2]))
        s, r = 0, LARGEST
        for shift in range(31):
            if (fits := 2 ** (bits + 8 + shift) // m) < 2**15:
                s, r = shift, fits
        made[place] = sat(rounded(x[place] * r, s))
    return made  # X22


def attention(q, k, v, heads, shift):
    made = np.empty_like(q)
    e = q.shape[2] // heads
    for i in range(len(q)):
        for c in range(0, q.shape[2], e):
            scores = q[i, :, c : c + e] @ k[i, :, c : c + e].T
            made[i, :, c : c + e] = mean(scores, v[i, :, c : c + e], shift)
    return made  # X23


def mean(scores, v, shift):
    assert np.abs(scores).max() < 2**31
    w = EXP[np.minimum((scores.max(1, keepdims=True) - scores) >> shift, 1023)]
    p = w * (2**31 // w.sum(1, keepdims=True)) >> 16
    assert p.sum(1).max() <= 2**15
    return (p @ v + 2**14) >> 15


def window_attention(q, k, v, shift, windows, bias):
    made = np.empty_like(q)
    (h, w, _), e = q.shape, q.shape[2] // len(windows)
    i, j = np.indices((h, w))
    for g, (a, b, dy, dx) in enumerate(windows):
        own = slice(g * e, g * e + e)
        table, bias = bias[: (2 * a - 1) * (2 * b - 1)], bias[(2 * a - 1) * (2 * b - 1) :]
        number = (i + dy) // a * (w + dx) + (j + dx) // b
        for window in np.unique(number):
            rows, columns = np.nonzero(number == window)
            down, right = rows - rows[:, None], columns - columns[:, None]  # [queries, keys]
            scores = q[rows, columns, own] @ k[rows, columns, own].T
            scores = scores + table[(down + a - 1) * (2 * b - 1) + right + b - 1]
            made[rows, columns, own] = mean(scores, v[rows, columns, own], shift)
    assert not len(bias)
    return made  # X26


def cosines(k):
    f, t = np.indices((k, k))
    norms = np.sqrt(np.where(f, 2, 1) / k)
    exact = 2**13 * norms * np.cos(np.pi * (2 * t + 1) * f / (2 * k))
    return np.floor(exact + 0.5).astype(np.int64)


def modulate(x, bits, weight):
    (h, w, _), k = x.shape, len(weight)
    d, made = cosines(k), pad(x, k)
    for i in range(0, h, k):
        for j in range(0, w, k):
            block = made[i : i + k, j : j + k]
            u = sat(rounded(np.einsum("ft,tuc->fuc", d, block), 15))
            v = sat(rounded(np.einsum("fuc,gu->fgc", u, d), 15))
            s = sat(rounded(v * weight, bits))
            p = sat(rounded(np.einsum("ft,fgc->tgc", d, s), 11))
            r = sat(rounded(np.einsum("tgc,gu->tuc", p, d), 11))
            block[:] = sat(block + r)
    return made[:h, :w]  # X27


OPERATIONS = {  # (tensors, then numbers, then arrays)
    "conv": conv,
    "depthwise": depthwise,
    "patches": lambda x: np.concatenate([part for _, _, part in windows(x, 3, "constant")], 2),  # X4
    "shuffle": shuffle,
    "unshuffle": unshuffle,
    "pad": pad,
    "crop": lambda x, like: x[: like.shape[0], : like.shape[1]],  # X8
    "add": lambda x, y: sat(x + y),  # X9
    "subtract": lambda x, y: sat(x - y),  # X10
    "offset": lambda x, v: sat(x + v),  # X11
    "scale": lambda x, m, t: sat(rounded(x * m, t)),  # X12
    "shift": lambda x, s: rounded(x, s),  # X13
    "leaky": lambda x, a: np.where(x >= 0, x, rounded(x * a, 15)),  # X14
    "clamp": lambda x, low, high: np.minimum(np.maximum(x, low), high),  # X15
    "table": lambda x, table: table[x + 32768],  # X16
    "gate": lambda x, y, least: np.where(y >= least, x, 0),  # X17
    "merge": merge,
    "embed": lambda x, table: table[np.clip(x[:, :, 0], 0, len(table) - 1)],  # X20
    "join": lambda x, y: np.concatenate([x, y], 1),  # X21
    "norm": norm,
    "attention": attention,
    "fold": fold,
    "unfold": unfold,
    "window_attention": window_attention,
    "modulate": modulate,
}  # fmt: skip


def run(operations, feeds, wanted):
    values = {}

    def value(number):
        if number not in values:
            kind, inputs, numbers, arrays = operations[number]
            if kind in ("input", "vector"):
                values[number] = np.asarray(feeds[number], np.int64)
            else:
                integers = [np.asarray(array, np.int64) for array in arrays]
                values[number] = OPERATIONS[kind](*map(value, inputs), *numbers, *integers)
        return values[number]

    return [value(number) for number in wanted]


def largest_sum(bound, weight, bias, shift):
    weight, bias, shift = (np.asarray(array, np.int64) for array in (weight, bias, shift))
    total = np.abs(weight).reshape(len(weight), -1).sum(1)
    return np.abs(bias) + bound * total + (1 << (shift - 1))  # X3


def channels_of(kind, n, numbers, arrays):
    if kind in ("shuffle", "unshuffle"):
        return n * numbers[0] ** 2 if kind == "unshuffle" else n // numbers[0] ** 2
    if kind == "fold":
        return numbers[1] * numbers[0] ** 2
    if kind in ("conv", "embed"):
        return arrays[0].shape[kind == "embed"]
    return 9 * n if kind == "patches" else n


def bounds(operations):
    found, channels = [], []
    for kind, inputs, numbers, arrays in operations:
        x, *others = [found[number] for number in inputs] or [LARGEST]
        n = channels[inputs[kind == "unfold"]] if inputs else numbers[0]
        channels.append(channels_of(kind, n, numbers, arrays))
        if kind == "input":
            bound = numbers[1]
        elif kind in ("conv", "depthwise"):
            bound = min(LARGEST, (largest_sum(x, *arrays) >> arrays[2].astype(np.int64)).max())
        elif kind in ("add", "subtract"):
            bound = min(LARGEST, x + others[0])
        elif kind in ("vector", "offset", "scale", "modulate"):
            bound = LARGEST
        elif kind == "shift":
            bound = int(rounded(x, numbers[0]))
        elif kind == "clamp":
            bound = max(map(abs, numbers))
        elif kind in ("table", "embed"):
            bound = np.abs(arrays[0].astype(np.int64)).max()
        elif kind in ("merge", "join"):
            bound = max(x, others[0])
        elif kind == "norm":
            m = math.isqrt(2**16 // n)
            bound = min(LARGEST, math.isqrt(n * 4 ** numbers[0] * (m + 1) ** 2 // m**2) + 1)
        elif kind in ("attention", "window_attention"):
            bound = others[1]
        else:  # patches, shuffle, unshuffle, pad, crop, fold, unfold, gate, leaky
            bound = x
        found.append(int(bound))
    return found
