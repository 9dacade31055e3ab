"""Trains the networks of ncodec/dct/enc_worth.hpp: `python -m ncodec.training.dct.splits PACK... --weights FILE`.

    crops --encode, trials at random and as the networks say--> trials: features, cost, work
          --> what each saves in the whole square, its time --> networks by gradient descent (torch)
          --> again with these networks, ROUNDS times       --> ncodec/dct/enc_worth_table.hpp

A trial is worth its time where it saves more than price x time; the network says log(saved / time), and errs by
|saved - price x time|. So that is what the loss weighs a wrong decision by, at prices drawn at random.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ncodec.dct import _dct
from ncodec.models.dct.codec import Options
from ncodec.training.dct.program import crops

TABLE = Path(_dct.__file__).parent / "enc_worth_table.hpp"
NETWORKS, FEATURES, HIDDEN = _dct.WORTH_SHAPE
KINDS = np.array([0, 1, 2, 2, 3, 3])  # of leaf and splits
LOG_WEIGHT = 6  # the feature that tells the quality
PRICES = (1, 200)  # millionths of a picture's cost for a millisecond
ROUNDS = 3

Floats = NDArray[np.float32]


@dataclass
class Trials:
    """Of one encoding: features [n, FEATURES], and by trial kind, what it saves and its time."""

    features: Floats
    kinds: NDArray[np.int64]
    saved: Floats  # of the cost of the picture
    milliseconds: Floats
    odds: Floats  # 1 / the probability of its being made
    price: float
    cost: float


def saved_by(about: NDArray[np.int32], cost: Floats) -> tuple[Floats, float]:
    """Return how much more the picture would cost without each trial, and its cost.

    A trial saves what it costs less than the best other one of its node, but no more than each trial
    that it is a part of.
    """
    _, node = np.unique(about[:, [0, 2, 3, 4, 5]], axis=0, return_inverse=True)
    order = np.lexsort((cost, node))
    first = np.flatnonzero(np.diff(node[order], prepend=-1))
    best = order[first]
    second = order[np.minimum(first + 1, len(order) - 1)]
    has_second = np.append(np.diff(first), len(order) - first[-1]) > 1
    most = np.float32(0.1) * cost[best]  # where there is no other
    saved = np.zeros(len(cost), np.float32)
    saved[best] = np.where(has_second, np.minimum(cost[second] - cost[best], most), most)
    saved[cost > 1e37] = 0
    parents = about[:, 0].tolist()
    values = saved.tolist()
    for i, parent in enumerate(parents):
        if parent >= 0:
            values[i] = min(values[i], values[parent])
    roots = best[about[best, 0] < 0]
    return np.array(values, np.float32), float(cost[roots].sum())


def try_splits(
    pixels: NDArray[np.uint8], weights: _dct.Parameters, code: int, networks: Floats, price: float, seed: int
) -> Trials:
    """Encode a crop and return its trials; price 0: at random."""
    options = Options(cuts=3, thirds=True).for_encoder(code)
    options.price = price
    began = time.thread_time()
    features, about, results = _dct.split_trials(
        pixels, weights, code, options, networks, 0.1 if price else 0.3, 1.02, seed
    )
    seconds = time.thread_time() - began
    probability, cost, work = results.T
    saved, total = saved_by(about, cost)
    milliseconds = work * (1000 * seconds / work[about[:, 0] < 0].sum())
    kept = probability < 1
    return Trials(
        features[kept], KINDS[about[kept, 1]], saved[kept], milliseconds[kept], 1 / probability[kept], price, total
    )


def fit(network: torch.nn.Sequential, kind: int, trials: list[Trials], usual_cost: Floats, steps: int) -> float:
    """Train a network on trials of its kind; return the last loss."""
    chosen = [t.kinds == kind for t in trials]
    x = torch.from_numpy(np.concatenate([t.features[c] for t, c in zip(trials, chosen, strict=True)]))
    saved = np.concatenate([1e6 * t.saved[c] / u for t, c, u in zip(trials, chosen, usual_cost, strict=True)])
    times = np.concatenate([t.milliseconds[c] for t, c in zip(trials, chosen, strict=True)])
    odds = torch.from_numpy(np.concatenate([t.odds[c] for t, c in zip(trials, chosen, strict=True)]))
    prices = np.concatenate([np.full(c.sum(), t.price) for t, c in zip(trials, chosen, strict=True)])
    # Those of a random round for any price.
    low, high = np.log(PRICES)
    drawn = np.random.default_rng(0).uniform(low, high, len(prices))
    log_price = torch.from_numpy(np.where(prices > 0, np.log(np.maximum(prices, 1e-9)), drawn).astype(np.float32))
    gain, cost = torch.from_numpy(saved.astype(np.float32)), torch.from_numpy(times)
    mean, deviation = x.mean(0), x.std(0) + 1e-3
    x = (x - mean) / deviation
    optimiser = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    loss = torch.zeros(())
    for _ in range(steps):
        i = torch.randint(len(x), (8192,))
        price = log_price[i] + 1.2 * (torch.rand(len(i)) - 0.5)
        more = gain[i] - price.exp() * cost[i]
        wrong = torch.nn.functional.softplus(-more.sign() * (network(x[i])[:, 0] - price))
        loss = (odds[i] * more.abs() * (-price / 2).exp() * wrong).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        first = network[0]
        assert isinstance(first, torch.nn.Linear)
        return float(loss), mean, deviation


def folded(network: torch.nn.Sequential, mean: torch.Tensor, deviation: torch.Tensor) -> Floats:
    """Return a network of plain features as enc_worth_network.hpp's `Network` has it."""
    first, last = network[0], network[2]
    w = (first.weight / deviation).detach()
    bias = first.bias.detach() - w @ mean
    parts = (w.T.flatten(), bias, last.weight.detach().flatten(), last.bias.detach())
    return torch.cat(parts).numpy().astype(np.float32)


def main() -> None:
    """Train and write the table, after each round."""
    from safetensors.numpy import load_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
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
    table = np.zeros((NETWORKS, FEATURES * HIDDEN + 2 * HIDDEN + 1), np.float32)
    trials: list[Trials] = []
    for number in range(ROUNDS):
        began = time.monotonic()
        recent: list[Trials] = []
        for i, image in enumerate(images[number :: ROUNDS]):
            price = float(np.exp(rng.uniform(*np.log(PRICES)))) if number else 0.0
            recent.append(try_splits(image, weights, int(rng.integers(0, 141)), table, price, i + 1))
        trials = recent + (trials if number > 1 else [])
        # The cost of a usual picture at each quality.
        quality = np.array([t.features[0, LOG_WEIGHT] for t in trials])
        line = np.polyfit(quality, np.log([t.cost for t in trials]), 1)
        usual = np.exp(np.polyval(line, quality)).astype(np.float32)
        print(f"round {number}: {sum(len(t.kinds) for t in trials)} trials, {time.monotonic() - began:.0f} s", flush=True)
        for kind in range(NETWORKS):
            network = torch.nn.Sequential(
                torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)
            )
            loss, mean, deviation = fit(network, kind, trials, usual, arguments.steps)
            table[kind] = folded(network, mean, deviation)
            print(f"round {number}: network {kind}, loss {loss:.3f}, {time.monotonic() - began:.0f} s", flush=True)
        arguments.out.write_text(header(table))


def header(table: Floats) -> str:
    """Return the text of enc_worth_table.hpp."""

    def row(values: Floats) -> str:
        return "{" + ", ".join(f"{v:.4g}" for v in values) + "}"

    networks = []
    for of_kind in table:
        rows = of_kind[:-1].reshape(FEATURES + 2, HIDDEN)
        inputs = ",\n       ".join(row(r) for r in rows[:FEATURES])
        networks.append(
            f"    {{{{{{{inputs}}}}},\n     {{{row(rows[-2])}}},\n     {{{row(rows[-1])}}},\n     {of_kind[-1]:.4g}}}"
        )
    return (
        "// The networks of enc_worth.hpp. Written by ncodec/training/dct/splits.py: not to be edited.\n\n"
        '#pragma once\n\n#include "enc_worth_network.hpp"\n\nnamespace ncodec::dct::worth {\n\n'
        "constexpr Networks NETWORKS = {{\n" + ",\n".join(networks) + "}};\n\n}  // namespace ncodec::dct::worth\n"
    )


if __name__ == "__main__":
    main()
