"""Trains the networks of ncodec/dct/enc_worth.hpp: `python -m ncodec.training.dct.splits PACK... --weights FILE`.

    crops --encode, some trials left out and some more made at random--> trials: features, cost, work
          --> what each saves of the picture's cost, its time --> networks by gradient descent (torch)
          --> again, with the trials that these promise       --> ncodec/dct/enc_worth_table.hpp

A trial is worth its time if it saves more than price x time; a wrong decision costs |saved - price x time|. That
is what the loss weighs decisions by, at many prices; the network says log(saved / time).
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ncodec.dct import _dct
from ncodec.models.dct.codec import Options
from ncodec.training.dct.program import crops

TABLE = Path(_dct.__file__).parent / "enc_worth_table.hpp"
NETWORKS, FEATURES, HIDDEN = _dct.WORTH_SHAPE
KINDS = np.array([0, 1, 2, 2, 3, 3])  # the network of leaves and of each split
LOG_WEIGHT = 6  # the feature that tells the quality
PRICES = np.log([1, 200])  # logarithms, of millionths of a picture's cost for a millisecond
ROUNDS = 3

_NEVER = np.finfo(np.float32).max  # the cost of what was given up

Floats = NDArray[np.float32]


@dataclass
class Trials:
    """Of one encoding, n that might have been left out."""

    features: Floats  # [n, FEATURES]
    kinds: NDArray[np.int64]
    saved: Floats  # bits and weighted error
    milliseconds: Floats
    odds: Floats  # 1 / the probability of its being made
    log_prices: Floats  # of the encoding, or, where that is at random, any
    cost: float  # of the picture


def savings(about: NDArray[np.int32], cost: Floats) -> tuple[Floats, float]:
    """Return how much more the picture would cost without each trial, and what it costs.

    A trial saves what it costs less than the best other one of its node, but no more than any trial
    that it is a part of; a tenth of its cost where there is no other.

    Args:
        about: by trial, those around before those within: (trial around or -1, split, block).
        cost: of the trials.
    """
    _, node = np.unique(np.delete(about, 1, 1), axis=0, return_inverse=True)
    order = np.lexsort((cost, node))
    places = np.flatnonzero(np.diff(node[order], prepend=-1))
    best, next_best = order[places], order[np.minimum(places + 1, len(order) - 1)]
    is_other = (next_best != best) & (node[next_best] == node[best]) & (cost[next_best] < _NEVER)
    saved = np.zeros(len(cost), np.float32)
    saved[best] = np.where(is_other, cost[next_best] - cost[best], cost[best] / 10)
    saved[cost == _NEVER] = 0
    for i, around in enumerate(about[:, 0]):
        if around >= 0:
            saved[i] = min(saved[i], saved[around])
    return saved, float(cost[best[about[best, 0] < 0]].sum(dtype=np.float64))


def try_splits(
    pixels: NDArray[np.uint8],
    weights: _dct.Parameters,
    quality_code: int,
    networks: Floats,
    log_price: float | None,
    seed: int,
) -> Trials:
    """Encode a picture and return its trials; without a price three of ten are left out at random."""
    options = Options(cuts=3, thirds=True).for_encoder(quality_code)
    options.price = 0 if log_price is None else float(np.exp(log_price))
    exploration, slack = (0.3 if log_price is None else 0.1), 1.02
    began = time.thread_time()
    features, about, results = _dct.split_trials(
        pixels, weights, quality_code, options, networks, exploration, slack, seed
    )
    seconds = time.thread_time() - began
    probability, cost, work = results.T
    saved, total = savings(about, cost)
    milliseconds = work * np.float32(1000 * seconds / work[about[:, 0] < 0].sum())
    free = probability < 1
    n = int(free.sum())
    prices = (
        np.random.default_rng(seed).uniform(*PRICES, n) if log_price is None else [log_price] * n
    )
    return Trials(
        features[free], KINDS[about[free, 1]], saved[free], milliseconds[free], 1 / probability[free],
        np.float32(prices), total,
    )  # fmt: skip


def relative(trials: list[Trials]) -> list[Trials]:
    """Return them with savings in millionths of what a usual picture costs at their quality."""
    quality = [t.features[0, LOG_WEIGHT] for t in trials]
    line = np.polyfit(quality, np.log([t.cost for t in trials]), 1)
    usual = np.exp(np.polyval(line, quality))
    return [
        replace(t, saved=t.saved * np.float32(1e6 / u)) for t, u in zip(trials, usual, strict=True)
    ]


def fit(trials: list[Trials], kind: int, steps: int) -> Floats:
    """Return a network, as `Network` of enc_worth_network.hpp has it, for trials of a kind."""
    features, saved, times, odds, log_prices = (
        torch.from_numpy(np.concatenate([getattr(t, name)[t.kinds == kind] for t in trials]))
        for name in ("features", "saved", "milliseconds", "odds", "log_prices")
    )
    mean, deviation = features.mean(0), features.std(0) + 1e-3
    features = (features - mean) / deviation
    first, last = torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Linear(HIDDEN, 1)
    optimiser = torch.optim.Adam([*first.parameters(), *last.parameters()])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for _ in range(steps):
        i = torch.randint(len(features), (8192,))
        price = log_prices[i] + 1.2 * (torch.rand(len(i)) - 0.5)
        gain = saved[i] - price.exp() * times[i]
        margin = gain.sign() * (last(first(features[i]).relu())[:, 0] - price)
        wrong = torch.nn.functional.softplus(-margin)
        # By the root of the price: else those of large or of small ones count alone.
        loss = (odds[i] * gain.abs() * (-price / 2).exp() * wrong).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    weight = first.weight / deviation
    parts = (weight.T.flatten(), first.bias - weight @ mean, last.weight.flatten(), last.bias)
    return torch.cat(parts).detach().numpy()


def header(networks: Floats) -> str:
    """Return the text of enc_worth_table.hpp."""

    def braces(values: Floats) -> str:
        return "{" + ", ".join(f"{v:.3g}" for v in values) + "}"

    def of_kind(network: Floats) -> str:
        *inputs, bias, output = network[:-1].reshape(FEATURES + 2, HIDDEN)
        rows = ",\n       ".join(braces(row) for row in inputs)
        return f"    {{{{{{{rows}}}}},\n     {{{braces(bias)}}},\n     {{{braces(output)}}},\n     {network[-1]:.3g}}}"

    kinds = ",\n".join(of_kind(network) for network in networks)
    return f"""// The networks of enc_worth.hpp. Written by ncodec/training/dct/splits.py: not to be edited.

#pragma once

#include "enc_worth_network.hpp"

namespace ncodec::dct::worth {{

// clang-format off
constexpr Networks NETWORKS = {{{{
{kinds}}}}};
// clang-format on

}}  // namespace ncodec::dct::worth
"""


def main() -> None:
    """Train round by round; write the table after each."""
    from safetensors.numpy import load_file

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("packs", nargs="+", type=Path, help="tar files of images")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=int, default=40, help="of each round")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images = crops(arguments.packs, ROUNDS * arguments.images)
    weights = _dct.Parameters(load_file(arguments.weights))
    networks = np.zeros((NETWORKS, (FEATURES + 2) * HIDDEN + 1), np.float32)
    trials: list[Trials] = []
    began = time.monotonic()
    for number in range(ROUNDS):
        if number < 2:
            trials = []  # made at random, they are of no use once there are better ones
        for seed, image in enumerate(images[number::ROUNDS], 1):
            price = rng.uniform(*PRICES) if number else None
            code = int(rng.integers(141))
            trials.append(try_splits(image, weights, code, networks, price, seed))
        ready = relative(trials)
        networks = np.stack([fit(ready, kind, arguments.steps) for kind in range(NETWORKS)])
        arguments.out.write_text(header(networks))
        print(f"round {number}: {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
