"""Trains the neural filter of family `dct`: `python -m ncodec.training.dct.network DATA RUN` (specs/training.md).

    decoded planes -> DCT of 4x4 cells -> / sigma(quality) -> clip -> head -+-> x + conv3x3(relu(FiLM(x))), twice -> tail -> x sigma(quality)
    blocks' sizes, borders, energies -------------------------------> head -+                                         = what is to be added

Everything is linear in cells but the clipping and relu, so that the network sees and makes coefficients and the error is
theirs. FiLM (Perez et al. 2018): a factor and an offset of each channel, interpolated between the eight qualities. Muon for the
3x3 convolutions, AdamW for the rest; the weights' moving average is what a run exports.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ncodec.dct.parameters import Tensors

QUALITIES, QUALITY_STEPS = 8, 20
COEFFICIENTS, SIDES, WIDTH, BLOCKS = 48, 12, 64, 2
CLIP = 8.0  # sigmas
PLANE_WEIGHT = (1.0, 1.086, 0.825)  # enc_residual.hpp
SHARES = (1.0, 0.3, 0.06)  # of the learning rate, of the 3x3 convolutions, all else, the tail
# Of integers: fractions of coefficients, of what is clipped, of what the tail makes, of samples; the most that relu leaves.
COEFFICIENT_BITS, Z_BITS, TAIL_BITS, SAMPLE_BITS, LARGEST_H = 3, 9, 10, 2, 8191
MEANS = (0, 16, 32)  # coefficients that are means: only their differences from those around matter


def dct_matrix(n: int = 4) -> NDArray[np.float64]:
    """Return the orthonormal DCT-II, [frequency, sample]."""
    k, t = np.arange(n)[:, None], np.arange(n)
    d = np.sqrt(2 / n) * np.cos(np.pi * (2 * t + 1) * k / (2 * n))
    d[0] /= math.sqrt(2)
    return d


def cells(planes: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the DCTs of cells of 4x4, [16 planes, h / 4, w / 4] in the order of (plane, v, u), of planes [planes, h, w]."""
    p, h, w = planes.shape
    d = dct_matrix().astype(np.float32)
    x = (planes.astype(np.float32) - 512).reshape(p, h // 4, 4, w // 4, 4)
    return np.einsum("vj,pyjxi,ui->pvuyx", d, x, d, optimize=True).reshape(16 * p, h // 4, w // 4)


class Network(nn.Module):
    """Of coefficients [n, 48, h, w], side inputs [n, 12, h, w] and qualities [n], 0 ... 7, what is to be added."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.ones(QUALITIES, COEFFICIENTS))
        self.register_buffer("mean", torch.zeros(COEFFICIENTS + SIDES))
        self.register_buffer("whitening", torch.eye(COEFFICIENTS + SIDES))
        self.head = nn.Conv2d(COEFFICIENTS + SIDES, WIDTH, 1)
        nn.init.orthogonal_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.convs = nn.ParameterList(torch.randn(WIDTH, WIDTH * 9) / math.sqrt(WIDTH * 9) for _ in range(BLOCKS))
        self.biases = nn.ParameterList(torch.zeros(WIDTH) for _ in range(BLOCKS))
        self.factors = nn.ParameterList(torch.ones(QUALITIES, WIDTH) for _ in range(BLOCKS + 1))
        self.offsets = nn.ParameterList(torch.zeros(QUALITIES, WIDTH) for _ in range(BLOCKS + 1))
        self.tail = nn.Conv2d(WIDTH, COEFFICIENTS, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def features(self, decoded: Tensor, sides: Tensor, quality: Tensor) -> Tensor:
        """Return what the head sees, ahead of whitening."""
        high = decoded.clone()
        means = decoded[:, MEANS]
        high[:, MEANS] = means - F.avg_pool2d(F.pad(means, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return torch.cat([(high * at(1 / self.sigma, quality)).clamp(-CLIP, CLIP), sides], 1)

    def forward(self, decoded: Tensor, sides: Tensor, quality: Tensor) -> Tensor:
        x = self.trunk(decoded, sides, quality)[-1]
        return self.tail(self.activate(BLOCKS, x, quality)) * at(self.sigma, quality)

    def trunk(self, decoded: Tensor, sides: Tensor, quality: Tensor) -> list[Tensor]:
        """Return what the head makes, and that after each block."""
        z = self.features(decoded, sides, quality)
        weight = self.head.weight[:, :, 0, 0] @ self.whitening
        x = [F.conv2d(z, weight[:, :, None, None], self.head.bias - weight @ self.mean)]
        for k, (conv, bias) in enumerate(zip(self.convs, self.biases, strict=True)):
            x.append(x[k] + F.conv2d(self.activate(k, x[k], quality), conv.view(WIDTH, WIDTH, 3, 3), bias, padding=1))
        return x

    def activate(self, k: int, x: Tensor, quality: Tensor) -> Tensor:
        return F.relu(x * at(self.factors[k], quality) + at(self.offsets[k], quality))

    @torch.no_grad()
    def measure(self, batches: list[tuple[Tensor, ...]]) -> None:
        """Set what is fixed: sigmas of the errors, mean and whitening of the features."""
        squares, weights = torch.zeros(QUALITIES, COEFFICIENTS), torch.zeros(QUALITIES, 1)
        for decoded, error, sides, quality in batches:
            near = torch.arange(QUALITIES)[:, None] - quality
            near = (1 - near.abs()).clamp(min=0)  # [8, n]
            squares += near @ error.square().mean((2, 3)).clamp(max=1e6)
            weights += near.sum(1, keepdim=True)
        self.sigma.copy_((squares / weights).sqrt().clamp(min=0.5))
        z = torch.cat([self.features(d, s, q).movedim(1, 0).flatten(1)[:, ::7] for d, _, s, q in batches], 1)
        self.mean.copy_(z.mean(1))
        values, vectors = torch.linalg.eigh(torch.cov(z))
        self.whitening.copy_(vectors @ torch.diag((values + 0.02).rsqrt()) @ vectors.T)


def at(table: Tensor, quality: Tensor) -> Tensor:
    """Return rows [n, C, 1, 1] of a table [8, C] at qualities [n], linear between."""
    low = quality.long().clamp(0, QUALITIES - 2)
    part = (quality - low)[:, None]
    return (table[low] * (1 - part) + table[low + 1] * part)[:, :, None, None]


def loss_of(network: Network, decoded: Tensor, error: Tensor, sides: Tensor, quality: Tensor, is_grey: Tensor) -> Tensor:
    """Return [n], the part of the weighted squared error that is left; of grey only luma is known and counts.

    A tenth of what is usual at the quality is added to both, lest crops that have hardly any error decide.
    """
    weight = torch.tensor(PLANE_WEIGHT).repeat_interleave(16)[None, :, None, None].repeat(len(error), 1, 1, 1)
    weight[is_grey, 16:] = 0
    if is_grey.any():
        decoded, sides = decoded.clone(), sides.clone()
        decoded[is_grey, 16:] = 0
        sides[is_grey, 7:9], sides[is_grey, 10:] = 0, 1
    left = error - network(decoded, sides, quality).float()
    usual = 0.1 * (weight * at(network.sigma, quality).square()).sum((1, 2, 3)) * error[0, 0].numel()
    return ((weight * left.square()).sum((1, 2, 3)) + usual) / ((weight * error.square()).sum((1, 2, 3)) + usual)


# ---------------------------------------------------------------- integers


def layer(
    weight: NDArray[np.float64], bias: NDArray[np.float64] | float, bits: int, result_bits: int, bound: int
) -> Tensors:
    """Return weights of 12 bits [O, C], biases and shifts of a convolution of integers (specs/exact.md).

    `bits` and `result_bits`: fractions of its input and of its result; `bound`: of its input.
    """
    largest, total = np.abs(weight).max(1), np.abs(weight).sum(1)
    b = np.broadcast_to(bias, largest.shape)
    fraction = np.floor(np.log2(np.minimum(2047 / largest, 2.0**30 / (bound * total + np.abs(b) * 2.0**bits + 1))))
    fraction = np.clip(fraction, result_bits - bits + 1, result_bits - bits + 30)
    return {
        "weight": np.round(weight * 2 ** fraction[:, None]).astype(np.int16),
        "bias": np.round(b * 2 ** (fraction + bits)).astype(np.int32),
        "shift": (fraction + bits - result_bits).astype(np.uint8),
    }


@torch.no_grad()
def integers(network: "Network", batches: list[tuple[Tensor, ...]]) -> Tensors:
    """Return the tensors of a weights file (specs/dct.md, section 12); `batches` show how large values are."""
    seen: list[list[float]] = [[], []]  # largest of what stays, of what relu makes
    for decoded, _, sides, quality in batches:
        for k, x in enumerate(network.trunk(decoded, sides, quality)):
            seen[0].append(float(x.abs().max()))
            seen[1].append(float(network.activate(k, x, quality).max()))
    x_bits, h_bits = (math.floor(math.log2(most / max(s))) for most, s in zip((20000, LARGEST_H), seen, strict=True))
    p = {name: v.double().numpy() for name, v in network.state_dict().items()}
    d = np.kron(np.eye(3), np.kron(dct_matrix(), dct_matrix()))  # [(plane, v, u), (plane, y, x)]
    head = p["head.weight"][:, :, 0, 0] @ p["whitening"]
    high = np.zeros((COEFFICIENTS, 3, 3), np.int16)
    high[:, 1, 1] = 1 << 11
    high[MEANS, :, :] = -455  # 2^12 / 9
    high[MEANS, 1, 1] = 8 * 455
    layers = {
        "forward": layer(d, 0.0, 0, COEFFICIENT_BITS, 512),
        "high": {
            "weight": high,
            "bias": np.zeros(COEFFICIENTS, np.int32),
            "shift": np.array([12 if c in MEANS else 11 for c in range(COEFFICIENTS)], np.uint8),
        },
        "head": layer(head[:, :COEFFICIENTS], 0.0, Z_BITS, x_bits, round(CLIP * 2**Z_BITS)),
        "sides": layer(head[:, COEFFICIENTS:], p["head.bias"] - head @ p["mean"], 0, x_bits, 7),
        "tail": layer(p["tail.weight"][:, :, 0, 0], p["tail.bias"], h_bits, TAIL_BITS, LARGEST_H),
        "inverse": layer(np.ascontiguousarray(d.T), 0.0, COEFFICIENT_BITS, SAMPLE_BITS, 32767),
    }
    for k in range(BLOCKS):  # a row of patches is (u, v, channel)
        w = p[f"convs.{k}"].reshape(WIDTH, WIDTH, 9).transpose(0, 2, 1).reshape(WIDTH, 9 * WIDTH)
        layers[f"conv.{k}"] = layer(w, p[f"biases.{k}"], h_bits, x_bits, LARGEST_H)
    tables = {
        "scale": 2.0 ** (Z_BITS + 8 - COEFFICIENT_BITS) / p["sigma"],
        "gain": 2.0 ** (COEFFICIENT_BITS + 15 - TAIL_BITS) * p["sigma"],
    }
    for k in range(BLOCKS + 1):
        tables[f"factor.{k}"] = 2.0 ** (12 + h_bits - x_bits) * p[f"factors.{k}"]
        tables[f"offset.{k}"] = 2.0**h_bits * p[f"offsets.{k}"]
    made: Tensors = {f"network.{name}.{part}": v for name, of in layers.items() for part, v in of.items()}
    return made | {f"network.{n}": np.round(v).clip(-32767, 32767).astype(np.int16) for n, v in tables.items()}


# ---------------------------------------------------------------- training


@torch.no_grad()
def average_weights(average: list[Tensor], current: list[Tensor], steps: Tensor) -> None:
    """A moving average of a thousand steps, at first of a tenth of those done."""
    torch._foreach_lerp_(average, current, max(0.001, 10 / (10 + float(steps))))


def load(path: Path) -> tuple[Tensor, ...]:
    """Return a chunk: coefficients, errors (of 1/8), side inputs, qualities."""
    with np.load(path) as f:
        return tuple(torch.from_numpy(f[name]) for name in ("decoded", "error", "sides", "code"))


def batch_of(chunk: tuple[Tensor, ...], chosen: Tensor) -> tuple[Tensor, ...]:
    decoded, error, sides, code = (t[chosen].float() for t in chunk)
    return decoded / 8, error / 8, sides, code / QUALITY_STEPS


@torch.no_grad()
def gain(network: Network, folder: Path, count: int = 32) -> float:
    """Return the mean gain, dB, over pairs of a folder."""
    total, n = 0.0, 0
    for path in sorted(folder.glob("*.npz")):
        chunk = load(path)
        for i in range(min(len(chunk[0]), count - n)):
            batch = batch_of(chunk, torch.tensor([i]))
            total += float(-10 * torch.log10(loss_of(network, *batch, torch.tensor([False]))))
            n += 1
    return total / max(n, 1)


def main() -> None:
    """Train until stopped, or for --minutes with the rate falling to 0; go on from RUN's checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of chunks")
    parser.add_argument("run", type=Path)
    parser.add_argument("--val", type=Path)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from, where RUN has none")
    parser.add_argument("--minutes", type=float, help="to the end, the learning rate falling to 0")
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed + int(time.time()))
    arguments.run.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.run / "checkpoint.pt"
    network = Network().to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=average_weights)
    muon = torch.optim.Muon(list(network.convs), weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    tail = list(network.tail.parameters())
    others = [p for p in network.parameters() if not any(p is c for c in (*network.convs, *tail))]
    adamw = torch.optim.AdamW([{"params": others}, {"params": tail}], weight_decay=0.0, betas=(0.9, 0.99))
    steps = 0
    found = checkpoint if checkpoint.exists() else arguments.start
    if found:
        state = torch.load(found, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        muon.load_state_dict(state["muon"])
        adamw.load_state_dict(state["adamw"])
        steps = state["steps"]
    else:
        chunk = load(sorted(arguments.data.glob("*.npz"))[0])
        more = [load(p) for p in sorted(arguments.data.glob("*.npz"))[1:6]]
        network.measure([batch_of(c, torch.arange(0, len(c[0]), 2)) for c in (chunk, *more)])
        average.module.load_state_dict(network.state_dict())
    began = saved = time.monotonic()
    first, logged = steps, []

    def save() -> None:
        state = {"network": network.state_dict(), "average": average.state_dict(), "muon": muon.state_dict(),
                 "adamw": adamw.state_dict(), "steps": steps}
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").rename(checkpoint)
        text = f"{steps} steps, {(time.monotonic() - began) / 60:.1f} min, {time.process_time() / 60:.1f} of the processor"
        text += f": train {np.mean(logged):.4f} dB"
        if arguments.val and len(logged) >= 300:
            text += f", val {gain(average.module, arguments.val):.4f} dB"
            logged.clear()
        print(text, flush=True)

    while True:
        paths = sorted(arguments.data.glob("*.npz"))
        chosen = torch.randperm(len(paths))[:6].tolist()
        chunk = tuple(torch.cat(parts) for parts in zip(*(load(paths[i]) for i in chosen), strict=True))
        order = torch.randperm(len(chunk[0]))
        for i in range(0, len(order) - arguments.batch + 1, arguments.batch):
            progress = (time.monotonic() - began) / 60 / arguments.minutes if arguments.minutes else 0.0
            rate = arguments.rate * max(1 - progress, 0.0) * min(1.0, (steps - first + 1) / 100)
            for group, share in zip((*muon.param_groups, *adamw.param_groups), SHARES, strict=True):
                group["lr"] = rate * share
            batch = batch_of(chunk, order[i : i + arguments.batch])
            is_grey = torch.rand(arguments.batch) < 0.05
            loss = loss_of(network, *batch, is_grey)
            muon.zero_grad()
            adamw.zero_grad()
            loss.log().mean().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            muon.step()
            adamw.step()
            average.update_parameters(network)
            logged.append(float(-10 * loss.detach().log10().mean()))
            steps += 1
            if time.monotonic() - saved > 120 or progress >= 1:
                save()
                saved = time.monotonic()
            if progress >= 1:
                return


if __name__ == "__main__":
    main()
