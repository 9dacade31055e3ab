"""Trains the neural filter of family `dct`: `python -m ncodec.training.dct.network encode|train|export` (specs/training.md).

    decoded planes -> DCT of 4x4 cells -> / sigma(quality) -> clip -> head -+-> x + conv3x3(relu(FiLM(squeeze x))), four times -> relu(FiLM(x))
    blocks' sizes, borders, energies -------------------------------> head -+        -> tail -> x sigma(quality) = what is to be added

Everything is linear in cells but the clipping and relu, so that the network sees and makes coefficients and the error is
theirs. FiLM (Perez et al. 2018): a factor and an offset of each channel, interpolated between the eight qualities. Muon for
`squeeze` and the 3x3 convolutions, AdamW for the rest; the weights' moving average is what a run exports.
"""

import argparse
import json
import math
import time
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from ncodec.dct import _dct
from ncodec.dct.parameters import Tensors, Tuning
from ncodec.models.dct.codec import Options
from ncodec.training.dct.program import crops, read

QUALITIES, QUALITY_STEPS = 8, 20
COEFFICIENTS, SIDES, WIDTH, SQUEEZED, BLOCKS = 48, 12, 64, 32, 4
CLIP = 8.0  # sigmas
PARTS = ("decoded", "error", "sides", "code")  # of a chunk
SIDE = 320  # of the pack's crops
OTHER_SIDES = (1, 0, 4, 5, 2, 3, *range(6, SIDES))  # side inputs where x and y are swapped
GREY = 0.05  # share of pairs of which luma alone is seen
RATE = 3e-3
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


Batch = tuple[
    Tensor, ...
]  # coefficients and errors [n, 48, h, w], side inputs [n, 12, h, w], qualities [n], 0 ... 7


class Network(nn.Module):
    """Of coefficients [n, 48, h, w], side inputs [n, 12, h, w] and qualities [n], 0 ... 7, what is to be added."""

    sigma: Tensor  # [8, 48], of errors
    mean: Tensor  # [60], of features
    whitening: Tensor  # [60, 60]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.ones(QUALITIES, COEFFICIENTS))
        self.register_buffer("mean", torch.zeros(COEFFICIENTS + SIDES))
        self.register_buffer("whitening", torch.eye(COEFFICIENTS + SIDES))
        self.head = nn.Conv2d(COEFFICIENTS + SIDES, WIDTH, 1)
        nn.init.orthogonal_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        self.squeezes = nn.ParameterList(
            torch.randn(SQUEEZED, WIDTH) / math.sqrt(SQUEEZED) for _ in range(BLOCKS)
        )
        self.convs = nn.ParameterList(
            torch.randn(WIDTH, SQUEEZED * 9) / math.sqrt(SQUEEZED * 9) for _ in range(BLOCKS)
        )
        self.biases = nn.ParameterList(torch.zeros(WIDTH) for _ in range(BLOCKS))
        channels = BLOCKS * (SQUEEZED,) + (WIDTH,)
        self.factors = nn.ParameterList(torch.ones(QUALITIES, n) for n in channels)
        self.offsets = nn.ParameterList(torch.zeros(QUALITIES, n) for n in channels)
        self.tail = nn.Conv2d(WIDTH, COEFFICIENTS, 1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    def features(self, decoded: Tensor, sides: Tensor, quality: Tensor) -> Tensor:
        """Return what the head sees, ahead of whitening."""
        high = decoded.clone()
        means = decoded[:, MEANS]
        high[:, MEANS] = means - F.avg_pool2d(F.pad(means, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return torch.cat([(high * at(1 / self.sigma, quality)).clamp(-CLIP, CLIP), sides], 1)

    def forward(self, decoded: Tensor, sides: Tensor, quality: Tensor) -> Tensor:
        x = self.trunk(decoded, sides, quality)[0][-1]
        return self.tail(self.activate(BLOCKS, x, quality)) * at(self.sigma, quality)

    def trunk(
        self, decoded: Tensor, sides: Tensor, quality: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return what the head makes and that after each block; what relu makes within them."""
        z = self.features(decoded, sides, quality)
        assert self.head.bias is not None
        weight = self.head.weight[:, :, 0, 0] @ self.whitening
        x = [F.conv2d(z, weight[:, :, None, None], self.head.bias - weight @ self.mean)]
        h = []
        for k, (conv, bias) in enumerate(zip(self.convs, self.biases, strict=True)):
            h.append(self.activate(k, F.conv2d(x[k], self.squeezes[k][:, :, None, None]), quality))
            x.append(x[k] + F.conv2d(h[k], conv.view(WIDTH, SQUEEZED, 3, 3), bias, padding=1))
        return x, h

    def matrices(self) -> list[nn.Parameter]:
        """Return what Muon trains."""
        return [*self.squeezes, *self.convs]

    def activate(self, k: int, x: Tensor, quality: Tensor) -> Tensor:
        return F.relu(x * at(self.factors[k], quality) + at(self.offsets[k], quality))

    @torch.no_grad()
    def measure(self, batches: list[Batch]) -> None:
        """Set what is fixed: sigmas of the errors, mean and whitening of the features."""
        squares, weights = torch.zeros_like(self.sigma), torch.zeros_like(self.sigma[:, :1])
        for _, error, _, quality in batches:
            near = torch.arange(QUALITIES, device=quality.device)[:, None] - quality
            near = (1 - near.abs()).clamp(min=0)  # [8, n]
            squares += near @ error.square().mean((2, 3)).clamp(max=1e6)
            weights += near.sum(1, keepdim=True)
        self.sigma.copy_((squares / weights).sqrt().clamp(min=0.5))
        z = torch.cat(
            [self.features(d, s, q).movedim(1, 0).flatten(1)[:, ::7] for d, _, s, q in batches], 1
        )
        self.mean.copy_(z.mean(1))
        values, vectors = torch.linalg.eigh(torch.cov(z))
        self.whitening.copy_(vectors @ torch.diag((values + 0.02).rsqrt()) @ vectors.T)


def at(table: Tensor, quality: Tensor) -> Tensor:
    """Return rows [n, C, 1, 1] of a table [8, C] at qualities [n], linear between."""
    low = quality.long().clamp(0, QUALITIES - 2)
    part = (quality - low)[:, None]
    return (table[low] * (1 - part) + table[low + 1] * part)[:, :, None, None]


def loss_of(network: Network, batch: Batch, is_grey: Tensor) -> Tensor:
    """Return [n], the part of the squared error that is left; of grey only luma is known and counts.

    A tenth of what is usual at the quality is added to both, lest crops that have hardly any error decide.
    """
    decoded, error, sides, quality = batch
    weight = torch.ones(len(error), COEFFICIENTS, 1, 1)
    weight[is_grey, 16:] = 0
    weight = weight.to(error.device)
    if is_grey.any():
        decoded, sides = decoded.clone(), sides.clone()
        decoded[is_grey, 16:] = 0
        sides[is_grey, 7:9], sides[is_grey, 10:] = 0, 1
    left = error - network(decoded, sides, quality).float()
    usual = (
        0.1 * (weight * at(network.sigma, quality).square()).sum((1, 2, 3)) * error[0, 0].numel()
    )
    return ((weight * left.square()).sum((1, 2, 3)) + usual) / (
        (weight * error.square()).sum((1, 2, 3)) + usual
    )


# ---------------------------------------------------------------- integers


def layer(
    weight: NDArray[np.float64],
    bias: NDArray[np.float64] | float,
    bits: int,
    result_bits: int,
    bound: int,
) -> Tensors:
    """Return weights of 12 bits [O, C], biases and shifts of a convolution of integers (specs/exact.md).

    `bits` and `result_bits`: fractions of its input and of its result; `bound`: of its input.
    """
    largest, total = np.abs(weight).max(1), np.abs(weight).sum(1)
    b = np.broadcast_to(bias, largest.shape)
    fraction = np.floor(
        np.log2(np.minimum(2047 / largest, 2.0**30 / (bound * total + np.abs(b) * 2.0**bits + 1)))
    )
    fraction = np.clip(fraction, result_bits - bits + 1, result_bits - bits + 30)
    return {
        "weight": np.round(weight * 2 ** fraction[:, None]).astype(np.int16),
        "bias": np.round(b * 2 ** (fraction + bits)).astype(np.int32),
        "shift": (fraction + bits - result_bits).astype(np.uint8),
    }


@torch.no_grad()
def integers(network: nn.Module, batches: list[Batch]) -> Tensors:
    """Return the tensors of a weights file (specs/dct.md, section 12); `batches` show how large values are."""
    assert isinstance(network, Network)
    seen: list[list[float]] = [[], []]  # largest of what stays, of what relu makes
    for decoded, _, sides, quality in batches:
        x, h = network.trunk(decoded, sides, quality)
        squeezed = [F.conv2d(x[k], s[:, :, None, None]) for k, s in enumerate(network.squeezes)]
        seen[0].extend(float(v.abs().max()) for v in (*x, *squeezed))
        seen[1].extend(float(v.max()) for v in (*h, network.activate(BLOCKS, x[-1], quality)))
    x_bits, h_bits = (
        math.floor(math.log2(most / max(s)))
        for most, s in zip((20000, LARGEST_H), seen, strict=True)
    )
    p = {name: v.double().numpy() for name, v in network.state_dict().items()}
    d = np.kron(np.eye(3), np.kron(dct_matrix(), dct_matrix()))  # [(plane, v, u), (plane, y, x)]
    head = p["head.weight"][:, :, 0, 0] @ p["whitening"]
    high = np.zeros((COEFFICIENTS, 3, 3), np.int16)
    high[:, 1, 1] = 1 << 11
    high[MEANS, :, :] = -455  # 2^12 / 9
    high[MEANS, 1, 1] = 8 * 455
    layers: dict[str, Tensors] = {
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
        w = p[f"convs.{k}"].reshape(WIDTH, SQUEEZED, 9).transpose(0, 2, 1).reshape(WIDTH, -1)
        layers[f"conv.{k}"] = layer(w, p[f"biases.{k}"], h_bits, x_bits, LARGEST_H)
        layers[f"squeeze.{k}"] = layer(p[f"squeezes.{k}"], 0.0, x_bits, x_bits, 32767)
    tables = {
        "scale": 2.0 ** (Z_BITS + 8 - COEFFICIENT_BITS) / p["sigma"],
        "gain": 2.0 ** (COEFFICIENT_BITS + 15 - TAIL_BITS) * p["sigma"],
    }
    for k in range(BLOCKS + 1):
        tables[f"factor.{k}"] = 2.0 ** (12 + h_bits - x_bits) * p[f"factors.{k}"]
        tables[f"offset.{k}"] = 2.0**h_bits * p[f"offsets.{k}"]
    made: Tensors = {
        f"network.{name}.{part}": v for name, of in layers.items() for part, v in of.items()
    }
    return made | {
        f"network.{n}": np.round(v).clip(-32767, 32767).astype(np.int16) for n, v in tables.items()
    }


# ---------------------------------------------------------------- data


def pair(work: tuple[NDArray[np.uint8], int], tensors: Tensors, tuning: Tuning | None) -> list[Any]:
    """Return what a chunk has of a crop, encoded at a quality code; in any process."""
    image, code = work
    decoded, source, sides = _dct.reconstruct(
        image, _dct.Parameters(tensors), code, Options(wiener=False).for_encoder(code, tuning)
    )
    of_decoded = cells(decoded)
    numbers = (of_decoded * 8, (cells(source) - of_decoded) * 8, sides.transpose(2, 0, 1))
    return [n.round().astype(np.int16) for n in numbers] + [np.int16(code)]


def encode(arguments: argparse.Namespace) -> None:
    """Encode crops, turned by quarters, at random qualities, once, to chunks of 32 in a folder."""
    tensors, about = read(arguments.weights)
    tensors = {k: v for k, v in tensors.items() if not k.startswith("network.")}
    of_one = partial(pair, tensors=tensors, tuning=Tuning.of(json.loads(about["ncodec"])))
    rng = np.random.default_rng(arguments.seed)
    arguments.data.mkdir(parents=True, exist_ok=True)
    chunk: list[list[Any]] = []
    images = [x for x in crops(arguments.packs, arguments.images) if x.shape == (SIDE, SIDE, 3)]
    codes = rng.integers(0, QUALITY_STEPS * (QUALITIES - 1) + 1, len(images)).tolist()
    turns = rng.integers(0, 4, len(images)).tolist()
    images = [np.ascontiguousarray(np.rot90(x, k)) for x, k in zip(images, turns, strict=True)]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        for made_of_one in pool.map(of_one, zip(images, codes, strict=True)):
            chunk.append(made_of_one)
            if len(chunk) < 32:
                continue
            made = (np.stack(part) for part in zip(*chunk, strict=True))
            path = arguments.data / f"{arguments.seed}-{time.time_ns()}.npz"
            with path.with_suffix(".new").open("wb") as file:
                np.savez(file, **dict(zip(PARTS, made, strict=True)))  # type: ignore[arg-type]
            path.with_suffix(".new").rename(path)
            chunk.clear()
            print(path, flush=True)


def load(path: Path, device: str = "cpu") -> Batch:
    """Return a chunk: coefficients and errors (of 1/8), side inputs, quality codes."""
    with np.load(path) as file:
        return tuple(torch.from_numpy(file[name]).to(device) for name in PARTS)


def batch_of(chunk: Batch, chosen: Tensor) -> Batch:
    """Return some pairs of a chunk as `loss_of` takes them."""
    decoded, error, sides, code = (part[chosen].float() for part in chunk)
    return decoded / 8, error / 8, sides, code / QUALITY_STEPS


def transposed(decoded: Tensor, error: Tensor, sides: Tensor, quality: Tensor) -> Batch:
    """Return pairs as they would be with x and y swapped: the codec hardly prefers either."""
    other = torch.arange(COEFFICIENTS).view(3, 4, 4).mT.flatten()
    return decoded[:, other].mT, error[:, other].mT, sides[:, OTHER_SIDES].mT, quality


def batches_of(folder: Path, most: int = 64, device: str = "cpu") -> list[Batch]:
    """Return the first pairs of a folder, in batches of 4."""
    every = torch.arange(32).split(4)  # type: ignore[no-untyped-call]
    return [
        batch_of(load(path, device), few)
        for path in sorted(folder.glob("*.npz"))[: most // 32]
        for few in every
    ]


# ---------------------------------------------------------------- training


@torch.no_grad()
def average_weights(average: Any, current: Any, steps: Tensor | int) -> None:
    """Move an average on: of a thousand steps, at first of a tenth of those done."""
    torch._foreach_lerp_(average, current, max(0.001, 10 / (10 + float(steps))))


@torch.no_grad()
def gain(network: nn.Module, batches: list[Batch]) -> float:
    """Return the mean gain, dB."""
    assert isinstance(network, Network)
    is_grey = torch.zeros(4, dtype=torch.bool)
    left = torch.cat([loss_of(network, batch, is_grey) for batch in batches])
    return float(-10 * left.log10().mean())


def train(arguments: argparse.Namespace) -> None:
    """Train until stopped, or for some minutes with the rate falling to 0; go on from a checkpoint if there is one."""
    torch.set_num_threads(1)
    torch.manual_seed(time.time_ns())
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    device = arguments.device
    arguments.run.mkdir(parents=True, exist_ok=True)
    network = Network().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(network, multi_avg_fn=average_weights)
    matrices, tail = network.matrices(), list(network.tail.parameters())
    others = [p for p in network.parameters() if not any(p is q for q in (*matrices, *tail))]
    muon = torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [{"params": others}, {"params": tail}], weight_decay=0.0, betas=(0.9, 0.99)
    )
    parts = {"network": network, "average": average, "muon": muon, "adamw": adamw}
    val = batches_of(arguments.val, device=device) if arguments.val else []
    checkpoint, steps, logged = arguments.run / "checkpoint.pt", 0, list[Tensor]()
    began = saved = time.monotonic()
    kept = lru_cache(maxsize=0 if device == "cpu" else None)(partial(load, device=device))

    def save() -> None:
        state = {name: part.state_dict() for name, part in parts.items()} | {"steps": steps}
        torch.save(state, checkpoint.with_suffix(".new"))
        checkpoint.with_suffix(".new").rename(checkpoint)
        gains = f"{-10 * torch.stack(logged).mean():.4f}" if logged else "?"
        gains += f", val {gain(average.module, val):.4f}" if val else ""
        seconds = time.process_time()
        print(f"{steps} steps, {seconds:.0f} s of a processor: gain {gains} dB", flush=True)
        logged.clear()

    found = checkpoint if checkpoint.exists() else arguments.start
    if found:
        state = torch.load(found, weights_only=True, map_location=device)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        steps = state["steps"]
    else:
        network.measure(batches_of(arguments.data, 192, device))
        average.module.load_state_dict(network.state_dict())
    progress, first = 0.0, steps
    while progress < 1:
        paths = sorted(arguments.data.glob("*.npz"))
        chosen = [kept(paths[i]) for i in torch.randperm(len(paths))[:8].tolist()]
        chunk = tuple(torch.cat(part) for part in zip(*chosen, strict=True))
        for few in torch.randperm(len(chunk[0])).split(arguments.batch):  # type: ignore[no-untyped-call]
            if arguments.minutes is not None:
                progress = (time.monotonic() - began) / (60 * max(arguments.minutes, 1e-9))
            if progress >= 1:
                break
            rate = RATE * (1 - progress) * min(1.0, (steps - first + 1) / 100)
            groups = (*muon.param_groups, *adamw.param_groups)
            for group, share in zip(groups, SHARES, strict=True):
                group["lr"] = rate * share
            batch = batch_of(chunk, few)
            if steps % 4 == 0 and progress < 0.6:
                batch = transposed(*batch)
            loss = loss_of(network, batch, torch.rand(len(few)) < GREY)
            network.zero_grad()
            loss.log().mean().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            muon.step()  # type: ignore[no-untyped-call]
            adamw.step()
            average.update_parameters(network)
            logged.append(loss.detach().log10().mean())
            steps += 1
            if time.monotonic() - saved > 120:
                save()
                saved = time.monotonic()
    save()


def export(arguments: argparse.Namespace) -> None:
    """Write the network of a run into a weights file."""
    average = AveragedModel(Network())
    average.load_state_dict(
        torch.load(arguments.run / "checkpoint.pt", weights_only=True, map_location="cpu")[
            "average"
        ]
    )
    tensors, about = read(arguments.weights)
    save_file(
        tensors | integers(average.module, batches_of(arguments.data)), arguments.weights, about
    )


def main() -> None:
    """Run what the command says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("encode")
    command.set_defaults(run_command=encode)
    command.add_argument("packs", nargs="+", type=Path, help="tar files of images")
    command.add_argument("--weights", type=Path, required=True)
    command.add_argument("--data", type=Path, required=True, help="folder of chunks")
    command.add_argument("--images", type=int, default=1000)
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--jobs", type=int, default=1, help="processes")
    command = commands.add_parser("train")
    command.set_defaults(run_command=train)
    command.add_argument("data", type=Path)
    command.add_argument("run", type=Path)
    command.add_argument("--val", type=Path, help="folder of chunks to log by")
    command.add_argument(
        "--start", type=Path, help="checkpoint to go on from, where the run has none"
    )
    command.add_argument("--minutes", type=float, help="to the end; else until stopped")
    command.add_argument("--batch", type=int, default=4)
    command.add_argument("--device", default="cpu", help="cuda: the pairs stay in its memory")
    command = commands.add_parser("export")
    command.set_defaults(run_command=export)
    command.add_argument("data", type=Path, help="shows how large values are")
    command.add_argument("run", type=Path)
    command.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    arguments.run_command(arguments)


if __name__ == "__main__":
    main()
