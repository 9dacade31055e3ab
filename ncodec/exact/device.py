"""A graph computed by PyTorch, on any device that it knows: the same integers as in C++ (specs/exact.md).

conv, depthwise    float64 matrix product, float64 sums of shifted images; below 2**31 (X3), so exact in any order.
                   No convolution of torch's: no Winograd or FFT can be chosen, and float64 knows no TF32
attention          float64 matrix products too, and int64 between them; window_attention likewise
modulate           float64 matrix products, sums below 2**31
norm               int64; a square root of float64, put right
all others         int32: |x·m| + 2**29 < 2**31
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ncodec.errors import InputError
from ncodec.exact import COSINES, EXP, Array, Graph, Operation
from ncodec.exact.network import Network

LARGEST = 32767
MAX_KEYS = 32768  # of X23
SAME_SIZE = ("add", "subtract", "gate", "merge")
ORDER = ((0, 2), (3, 1))  # X18: p


def run_on_device(graph: Graph, feeds: Mapping[int, Tensor], wanted: Sequence[int]) -> list[Tensor]:
    """Return the values of some tensors, on the device of the feeds; only what they need is computed.

    Args:
        feeds: integers [B, h, w, channels] for every input and [channels] for every vector that is needed.
        wanted: tensors.

    Returns:
        int32 [B, h, w, channels] each, equal to what `graph.run` returns.

    Raises:
        InputError: one is missing, of the wrong shape, beyond its bound, or sizes of tensors do not fit.
    """
    for number in wanted:
        if not 0 <= number < len(graph.operations) or graph.operations[number].kind == "vector":
            raise InputError(f"wanted: there is no tensor {number}")
    users = Counter(wanted)
    for number in range(max(wanted, default=-1), -1, -1):
        if users[number]:
            users.update(graph.operations[number].inputs)
    values: dict[int, Tensor] = {}
    for number in sorted(users):
        operation = graph.operations[number]
        if operation.kind in ("input", "vector"):
            values[number] = _feed(operation, number, feeds)
        else:
            inputs = [values[i] for i in operation.inputs]
            values[number] = _compute(operation, inputs, _arrays(graph, number, inputs[0].device))
        for i in operation.inputs:  # memory is kept for what is still needed
            users[i] -= 1
            if not users[i]:
                del values[i]
    return [values[number] for number in wanted]


def run_arrays(
    network: Network, feeds: Mapping[str, Array], wanted: Sequence[str], device: torch.device
) -> list[Array]:
    """Return what `network.run` returns, computed on a device."""
    numbered = {}
    for name, number in network.inputs.items():
        if name in feeds:
            there = torch.from_numpy(feeds[name].astype(np.int32)).to(device)
            numbered[number] = there[None] if there.ndim == 3 else there
    found = run_on_device(network.graph, numbered, [network.outputs[name] for name in wanted])
    return [tensor[0].to(torch.int16).cpu().numpy() for tensor in found]


def _feed(operation: Operation, number: int, feeds: Mapping[int, Tensor]) -> Tensor:
    place = f"{operation.kind} {operation.name}"
    if number not in feeds:
        raise InputError(f"{place}: missing")
    fed = feeds[number]
    if fed.is_floating_point() or fed.is_complex():
        raise InputError(f"{place}: expected integers, found {fed.dtype}")
    dimensions = 4 if operation.kind == "input" else 1
    if fed.ndim != dimensions or fed.shape[-1] != operation.channels or not fed.numel():
        expected = "[B, h, w, {}]" if dimensions == 4 else "[{}]"
        raise InputError(
            f"{place}: expected {expected.format(operation.channels)}, found {list(fed.shape)}"
        )
    values = fed.long()
    found = max(int(values.max()), -int(values.min()))
    if found > operation.bound:
        raise InputError(
            f"{place}: expected values within ±{operation.bound}, found one of ±{found}"
        )
    return values.int()


def _arrays(graph: Graph, number: int, device: torch.device) -> list[Tensor]:
    """Return an operation's parameters on a device, where they stay: what is summed in float64, all others int32."""
    key = (number, device)
    if key not in graph.kept:
        arrays = [torch.from_numpy(a.astype(np.int32)) for a in graph.operations[number].arrays]
        if len(arrays) == 3:  # weight, bias, shift
            arrays[:2] = arrays[0].double(), arrays[1].double()
        graph.kept[key] = [array.to(device) for array in arrays]
    kept: list[Tensor] = graph.kept[key]
    return kept


def _compute(operation: Operation, inputs: list[Tensor], arrays: list[Tensor]) -> Tensor:
    x, *others = inputs
    if operation.kind in SAME_SIZE and x.shape != others[0].shape:
        raise InputError(
            f"{operation.kind}: expected tensors of one size, found {list(x.shape)} and {list(others[0].shape)}"
        )
    return OPERATIONS[operation.kind](*inputs, *operation.numbers, *arrays)


def _sat(a: Tensor) -> Tensor:
    return a.clamp(-LARGEST, LARGEST)


def _round(a: Tensor, s: Tensor | int) -> Tensor:
    """X: (a + 2^(s−1)) >> s, a for s = 0. `a` int32, `s` a number or [channels]."""
    shift = torch.as_tensor(s, dtype=torch.int32, device=a.device)
    half = torch.bitwise_left_shift(torch.ones_like(shift), shift) >> 1  # 0 for s = 0
    return torch.bitwise_right_shift(a + half, shift)


def _conv(x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor) -> Tensor:
    total = torch.nn.functional.linear(x.double(), weight, bias)
    return _sat(_round(total.int(), shift))


def _windows(x: Tensor, k: int, replicate: int) -> list[Tensor]:
    """Return [B, h, w, C] for every (u, v): what each place has at (i + u − p, j + v − p)."""
    p, (height, width) = k // 2, x.shape[1:3]
    if replicate:
        rows, columns = (torch.arange(-p, n + p, device=x.device).clamp(0, n - 1) for n in (height, width))  # fmt: skip
        x = x[:, rows][:, :, columns]
    else:
        x = torch.nn.functional.pad(x, (0, 0, p, p, p, p))
    return [x[:, u : u + height, v : v + width] for u in range(k) for v in range(k)]


def _depthwise(x: Tensor, replicate: int, weight: Tensor, bias: Tensor, shift: Tensor) -> Tensor:
    total = bias.expand(x.shape).clone()
    taps = weight.flatten(1).T
    for tap, part in zip(taps, _windows(x.double(), weight.shape[1], replicate), strict=True):
        total.addcmul_(part, tap)
    return _sat(_round(total.int(), shift))


def _shuffle(x: Tensor, f: int) -> Tensor:
    b, h, w, c = x.shape
    parts = x.reshape(b, h, w, f, f, c // f**2)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(b, f * h, f * w, c // f**2)


def _unshuffle(x: Tensor, f: int) -> Tensor:
    b, h, w, c = x.shape
    if h % f or w % f:
        raise InputError(f"unshuffle: expected multiples of {f} rows and columns, found {h}x{w}")
    parts = x.reshape(b, h // f, f, w // f, f, c)
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(b, h // f, w // f, f**2 * c)


def _pad(x: Tensor, f: int) -> Tensor:
    rows, columns = (torch.arange(n + -n % f, device=x.device).clamp(max=n - 1) for n in x.shape[1:3])  # fmt: skip
    return x[:, rows][:, :, columns]


def _crop(x: Tensor, like: Tensor) -> Tensor:
    (height, width), (h, w) = x.shape[1:3], like.shape[1:3]
    if height < h or width < w:
        raise InputError(f"crop: expected at least {h}x{w}, found {height}x{width}")
    return x[:, :h, :w]


def _fold(x: Tensor, k: int, heads: int) -> Tensor:
    b, h, w, c = x.shape
    x = torch.nn.functional.pad(x, (0, 0, 0, -w % k, 0, -h % k))
    x = x.reshape(b, -(-h // k), k, -(-w // k), k, heads, c // heads)  # B, p, u, r, v, g, c
    return x.permute(0, 1, 3, 6, 5, 2, 4).reshape(b, -1, c // heads, heads * k * k)


def _unfold(x: Tensor, like: Tensor, k: int, heads: int) -> Tensor:
    b, h, w, c = like.shape
    rows, columns = -(-h // k), -(-w // k)
    if x.shape[1:3] != (rows * columns, c // heads):
        raise InputError(f"unfold: expected {rows * columns}x{c // heads}, found {list(x.shape)}")
    x = x.reshape(b, rows, columns, c // heads, heads, k, k)  # B, p, r, c, g, u, v
    return x.permute(0, 1, 5, 2, 6, 4, 3).reshape(b, rows * k, columns * k, c)[:, :h, :w]


def _scale(x: Tensor, factors: Tensor, shifts: Tensor) -> Tensor:
    if int(shifts.min()) < 0 or int(shifts.max()) > 30:
        raise InputError(f"scale: expected shifts 0 to 30, found {int(shifts.min())} to {int(shifts.max())}")  # fmt: skip
    return _sat(_round(x * factors, shifts))


def _merge(x: Tensor, y: Tensor, step: int, steps: int) -> Tensor:
    i, j, c = (torch.arange(n, device=x.device) for n in x.shape[1:])
    order = torch.tensor(ORDER, device=x.device)
    place = (order[i[:, None, None] % 2, j[:, None] % 2] + c) % 4
    return torch.where(place * steps // 4 == step, y, x)


def _join(x: Tensor, y: Tensor) -> Tensor:
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"join: expected tensors of as many rows, found {list(x.shape)} and {list(y.shape)}"
        )
    return torch.cat((x, y), 2)


def _embed(x: Tensor, table: Tensor) -> Tensor:
    return table[x[..., 0].clamp(0, len(table) - 1)]


def _norm(x: Tensor, bits: int) -> Tensor:
    wide = x.long()
    square = (wide.square().sum(3, keepdim=True) << 16) // x.shape[3]
    root = square.double().sqrt().long()  # at most 1 from the truth
    root = root - (root * root > square).long()
    root = (root + ((root + 1) * (root + 1) <= square).long()).clamp(min=1)
    shifts = torch.arange(31, device=x.device)
    candidates = torch.bitwise_left_shift(torch.full_like(shifts, 1 << bits + 8), shifts) // root
    shift = ((candidates <= LARGEST).sum(3, keepdim=True) - 1).clamp(min=0)  # they grow
    factor = candidates.gather(3, shift).clamp(max=LARGEST)
    return _sat(_round((wide * factor).int(), shift.int()))


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int, shift: int) -> Tensor:
    if q.shape[1] != k.shape[1] or k.shape != v.shape or k.shape[2] > MAX_KEYS:
        raise InputError(f"attention: expected keys and values for {q.shape[1]} rows, at most {MAX_KEYS} each, found {list(k.shape)} and {list(v.shape)}")  # fmt: skip
    q, k, v = (x.double().reshape(*x.shape[:3], heads, -1).transpose(2, 3) for x in (q, k, v))
    scores = (q @ k.transpose(3, 4)).long()  # [B, h, heads, n, t]
    return _mean(scores, v, shift).transpose(2, 3).flatten(3)


def _mean(scores: Tensor, v: Tensor, shift: int) -> Tensor:
    """X23's y [..., n, e] of scores [..., n, t], int64, and values [..., t, e], float64."""
    below = (scores.amax(-1, keepdim=True) - scores) >> shift
    weight = torch.from_numpy(EXP).to(scores.device).long()[below.clamp(max=1023)]
    p = weight * (2**31 // weight.sum(-1, keepdim=True)) >> 16
    total = (p.double() @ v).long()
    return ((total + 2**14) >> 15).int()


def _window_attention(q: Tensor, k: Tensor, v: Tensor, shift: int, windows: Tensor, bias: Tensor) -> Tensor:  # fmt: skip
    if not q.shape == k.shape == v.shape:
        raise InputError(f"window_attention: expected tensors of one size, found {list(q.shape)}, {list(k.shape)} and {list(v.shape)}")  # fmt: skip
    sizes = [(2 * a - 1) * (2 * b - 1) for a, b, _, _ in windows.tolist()]
    heads = (x.double().chunk(len(windows), 3) for x in (q, k, v))
    of_each = zip(windows.tolist(), torch.split(bias.long(), sizes), *heads, strict=True)
    return torch.cat([_attend_head(shift, *of_head) for of_head in of_each], 3)


def _attend_head(
    shift: int, window: list[int], table: Tensor, q: Tensor, k: Tensor, v: Tensor
) -> Tensor:
    a, b, dy, dx = window
    batch, h, w, e = q.shape
    rows, columns = -(-(h + dy) // a), -(-(w + dx) // b)

    def places(x: Tensor) -> Tensor:  # [B, windows, a·b, e], 0 where there is none
        x = torch.nn.functional.pad(x, (0, 0, dx, columns * b - dx - w, dy, rows * a - dy - h))
        x = x.reshape(len(x), rows, a, columns, b, -1).transpose(2, 3)
        return x.reshape(len(x), rows * columns, a * b, -1)

    i = torch.arange(a * b, device=q.device) // b
    j = torch.arange(a * b, device=q.device) % b
    place = (i - i[:, None] + a - 1) * (2 * b - 1) + j - j[:, None] + b - 1  # [queries, keys]
    scores = (places(q) @ places(k).transpose(2, 3)).long() + table[place]
    is_there = places(torch.ones_like(q[:1, ..., :1])) > 0  # [1, windows, a·b, 1]
    scores = torch.where(is_there.transpose(2, 3), scores, -(2**48))  # EXP of that is 0
    made = _mean(scores, places(v), shift).reshape(batch, rows, columns, a, b, e)
    made = made.transpose(2, 3).reshape(batch, rows * a, columns * b, e)
    return made[:, dy : dy + h, dx : dx + w]


def _modulate(x: Tensor, bits: int, weight: Tensor) -> Tensor:
    b, h, w, c = x.shape
    k = len(weight)
    cosines = torch.from_numpy(COSINES[k]).to(x.device).double()

    def mixed(matrix: Tensor, blocks: Tensor, s: int) -> Tensor:  # [B, rows, k, columns, k, C]
        for axes in ("ft,brtcuk->brfcuk", "gu,brtcuk->brtcgk"):
            blocks = _sat(_round(torch.einsum(axes, matrix, blocks.double()).int(), s))
        return blocks

    blocks = _pad(x, k).reshape(b, -(-h // k), k, -(-w // k), k, c)
    blocks = _sat(_round(mixed(cosines, blocks, 15) * weight[:, None], bits))
    blocks = mixed(cosines.T, blocks, 11)
    return _sat(x + blocks.flatten(3, 4).flatten(1, 2)[:, :h, :w])


OPERATIONS: dict[str, Callable[..., Tensor]] = {  # of tensors, then numbers, then arrays
    "conv": _conv,
    "depthwise": _depthwise,
    "patches": lambda x: torch.cat(_windows(x, 3, 0), 3),
    "shuffle": _shuffle,
    "unshuffle": _unshuffle,
    "pad": _pad,
    "crop": _crop,
    "add": lambda x, y: _sat(x + y),
    "subtract": lambda x, y: _sat(x - y),
    "offset": lambda x, v: _sat(x + v),
    "scale": _scale,
    "shift": _round,
    "leaky": lambda x, a: torch.where(x >= 0, x, _round(x * a, 15)),
    "clamp": lambda x, low, high: x.clamp(low, high),
    "table": lambda x, table: table[x + 32768],
    "gate": lambda x, y, least: torch.where(y >= least, x, 0),
    "merge": _merge,
    "fold": _fold,
    "unfold": _unfold,
    "join": _join,
    "embed": _embed,
    "norm": _norm,
    "attention": _attention,
    "window_attention": _window_attention,
    "modulate": _modulate,
}
