"""Trains the networks of ncodec/dct/enc_worth.hpp: `python -m ncodec.training.dct.splits PACK... --weights FILE`.

    crops --encode, every split tried--> trials: features, cost, time
          --> what an encoder would try that asks the networks --> what each trial saves, its time
          --> networks by gradient descent (torch), again, ROUNDS times --> ncodec/dct/enc_worth_table.hpp

A split is worth its time if it saves more than price x time; a wrong decision costs |saved - price x time|. That
is what the loss weighs decisions by, at many prices; the network says log(saved / time).
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ncodec.dct import _dct
from ncodec.models.dct.codec import Options
from ncodec.training.dct.program import crops

TABLE = Path(_dct.__file__).parent / "enc_worth_table.hpp"
NETWORKS, FEATURES, HIDDEN = _dct.WORTH_SHAPE
LEAF, QUAD, VERTICAL_HALVES, HORIZONTAL_HALVES, VERTICAL_THIRDS, HORIZONTAL_THIRDS = range(6)
ORDER = (QUAD, VERTICAL_HALVES, VERTICAL_THIRDS, HORIZONTAL_HALVES, HORIZONTAL_THIRDS)
KIND = {QUAD: 0, VERTICAL_HALVES: 1, HORIZONTAL_HALVES: 1, VERTICAL_THIRDS: 2, HORIZONTAL_THIRDS: 2}
LOG_WEIGHT = 5  # the feature that tells the quality
STATE = 27  # the first feature that depends on what was tried before
PRICES = np.log([0.3, 1, 3, 6, 12, 25])  # logarithms
ROUNDS = 3
SLACK = 1.03

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Says = Callable[[int, Floats], Mask]  # is a split worth trying, by features [n, FEATURES]?


class Picture:
    """The trials of an encoding as a tree of nodes; a node's are its leaf and its splits, [nodes, 6]."""

    def __init__(self, features: Floats, about: NDArray[np.int32], results: Floats) -> None:
        _, node = np.unique(np.delete(about, 1, 1), axis=0, return_inverse=True)
        split, around, n = about[:, 1], about[:, 0], int(node.max()) + 1
        within = around >= 0
        inside = np.bincount(around[within], results[within, 2], minlength=len(node))
        own = np.maximum(results[:, 2] - inside, 0)  # without the nodes within
        # The machine does other things too: no more than five times the usual.
        sizes = 2 * about[:, 4:].sum(1) + (split == LEAF)
        for size in np.unique(sizes):
            own[sizes == size] = own[sizes == size].clip(
                max=5 * np.median(own[sizes == size]) + 0.01
            )
        never = np.finfo(np.float32).max
        costs = np.where(results[:, 1] < never, results[:, 1], np.inf)

        def by_node(values: NDArray[Any], usual: float, dtype: type) -> NDArray[Any]:
            out = np.full((n, 6, *values.shape[1:]), usual, dtype)
            out[node, split] = values
            return out

        self.cost, self.time = by_node(costs, np.inf, float), by_node(own, 0, float)
        self.features = by_node(features, 0, np.float32)
        self.allowed = by_node(np.ones(len(node), bool), False, bool)
        self.limit, self.node, self.split, self.depth = (
            np.zeros(n, t) for t in (float, int, int, int)
        )
        self.limit[node] = np.where(results[:, 0] < never, results[:, 0], np.inf)
        self.node[node] = np.where(within, node[around], -1)  # around
        self.split[node] = np.where(within, split[around], 0)
        depth = np.zeros(len(node), int)
        for i in np.flatnonzero(within):
            depth[i] = depth[around[i]] + 1
        self.depth[node] = depth
        self.levels = [np.flatnonzero(self.depth == d) for d in range(depth.max() + 1)]
        self.total = float(self.cost[self.levels[0]].min(1).sum())
        self.log_weight = float(features[0, LOG_WEIGHT])

    def decide(self, says: Says) -> Mask:
        """Return what an encoder tries, [nodes, 6]; set the features that depend on it."""
        tried = np.zeros_like(self.allowed)
        tried[:, LEAF] = self.allowed[:, LEAF]
        best = np.where(tried[:, LEAF], self.cost[:, LEAF], np.inf)
        for split in ORDER:
            i = np.flatnonzero(self.allowed[:, split])
            self.features[i, split, STATE:] = self.state(i, split, best[i], tried[i])
            must = np.isinf(best[i]) & np.isinf(self.limit[i])
            i = i[must | says(split, self.features[i, split])]
            tried[i, split] = True
            best[i] = np.minimum(best[i], self.cost[i, split])
        return tried

    def state(self, i: NDArray[np.int64], split: int, best: NDArray[Any], tried: Mask) -> Floats:
        """Return the features from STATE on of nodes i, as `Worth::features` has them."""
        cost, limit, has_best = self.cost[i], self.limit[i], np.isfinite(best)
        with np.errstate(invalid="ignore", divide="ignore"):
            by_leaf = np.log2((best + 1e-3) / (cost[:, LEAF] + 1e-3))
            by_limit = np.log2((best + 1e-3) / np.maximum(limit, 1e-3)).clip(-2, 1)
            results = np.log2((cost + 1e-3) / (best[:, None] + 1e-3)).clip(0, 0.4)
        by_leaf[~(has_best & np.isfinite(cost[:, LEAF]))] = 0
        by_limit[~has_best] = 0
        results = np.where(np.isfinite(cost), results, 0.2)
        own, other = VERTICAL_HALVES, HORIZONTAL_HALVES
        if split in (HORIZONTAL_HALVES, HORIZONTAL_THIRDS):
            own, other = other, own
        columns = [by_leaf, by_limit, has_best]
        for s in (QUAD, other, own):
            columns += [tried[:, s], np.where(tried[:, s], results[:, s], 0)]
        return np.stack(columns, 1).astype(np.float32)

    def settle(self, tried: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return costs and times [nodes, 6] where only these are tried, in the nodes within too."""
        cost, spent = self.cost.copy(), self.time.copy()
        for level in self.levels[:0:-1]:
            before, now = (
                self.cost[level].min(1),
                np.where(tried[level], cost[level], np.inf).min(1),
            )
            at = self.node[level], self.split[level]
            np.add.at(cost, at, now - before)
            np.add.at(spent, at, np.where(tried[level], spent[level], 0).sum(1))
        return cost, spent

    def savings(self, tried: Mask, cost: NDArray[np.float64]) -> tuple[NDArray[np.float64], Mask]:
        """Return what each trial saves [nodes, 6] if these are tried, and which nodes are reached.

        One that is tried saves what it costs less than the node's best other one, but no more than a
        trial around it; one that is not may make a trial around it the best.
        """
        of_tried = np.where(tried, cost, np.inf)
        least, second = np.sort(of_tried, 1)[:, :2].T
        is_best = np.arange(6) == of_tried.argmin(1)[:, None]
        others = np.where(is_best, second[:, None], least[:, None])
        with np.errstate(invalid="ignore"):
            margin = np.where(np.isfinite(others), others - cost, cost / 10)
        margin[~np.isfinite(cost)] = -np.inf
        most, lacks = np.full(len(cost), np.inf), np.zeros(len(cost))
        reached = np.ones(len(cost), bool)
        for level in self.levels[1:]:
            node, at = self.node[level], (self.node[level], self.split[level])
            most[level] = np.minimum(most[node], np.maximum(margin[at], 0))
            lacks[level] = lacks[node] + np.minimum(margin[at], 0)
            reached[level] = reached[node] & tried[at]
        own = np.maximum(margin, 0)
        would = np.maximum(own + lacks[:, None], 0)
        return np.where(tried, np.minimum(own, most[:, None]), would), reached


def usual_cost(pictures: list[Picture]) -> tuple[float, float]:
    """Return (slope, constant) of the logarithm of a picture's cost by that of the weight."""
    slope, constant = np.polyfit(
        [p.log_weight for p in pictures], np.log([p.total for p in pictures]), 1
    )
    return float(slope), float(constant)


def train(network: torch.nn.Sequential, examples: list[Floats], steps: int) -> None:
    """Train on (features, saved, milliseconds, log price) of trials; the first features are scaled already."""
    x, saved, times, log_price = (torch.from_numpy(e) for e in examples)
    optimiser = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=steps)
    for _ in range(steps):
        i = torch.randint(len(x), (8192,))
        price = log_price[i] + 1.2 * (torch.rand(len(i)) - 0.5)
        gain = saved[i] - price.exp() * times[i]
        wrong = torch.nn.functional.softplus(-gain.sign() * (network(x[i])[:, 0] - price))
        # By the root of the price: else high ones or low ones count alone.
        loss = (gain.abs() * (-price / 2).exp() * wrong).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def says_of(networks: Floats, log_price: float) -> Says:
    """Return what networks [NETWORKS, numbers of `Network`] say at a price."""

    def says(split: int, x: Floats) -> Mask:
        of_kind = networks[KIND[split]]
        rows = of_kind[:-1].reshape(FEATURES + 2, HIDDEN)
        hidden = np.maximum(x @ rows[:FEATURES] + rows[FEATURES], 0)
        found: Mask = hidden @ rows[FEATURES + 1] + of_kind[-1] > log_price
        return found

    return says


def header(networks: Floats) -> str:
    """Return the text of enc_worth_table.hpp."""

    def braces(values: Floats) -> str:
        return "{" + ", ".join(f"{v + 0:.3g}" for v in values) + "}"

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


def learn(pictures: list[Picture], steps: int, rng: np.random.Generator) -> Floats:
    """Return the networks [NETWORKS, numbers of `Network`]."""
    torch.manual_seed(0)
    slope, constant = usual_cost(pictures)
    print(f"a usual picture costs exp({slope:.3f} log2(weight) + {constant:.2f})", flush=True)
    networks = [
        torch.nn.Sequential(
            torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)
        )
        for _ in range(NETWORKS)
    ]
    scales: list[tuple[Floats, Floats]] = []
    table = np.zeros((NETWORKS, (FEATURES + 2) * HIDDEN + 1), np.float32)
    for number in range(ROUNDS):
        gathered: list[list[list[Floats]]] = [[] for _ in networks]
        for picture in pictures:
            log_price = float(rng.choice(PRICES))
            asked = says_of(table, log_price)

            def says(split: int, x: Floats, asked: Says = asked, number: int = number) -> Mask:
                turned = rng.random(len(x)) < (
                    0.05 if number else 0.3
                )  # sees what it did not ask for too
                return (asked(split, x) if number else np.ones(len(x), bool)) ^ turned

            tried = picture.decide(says)
            cost, spent = picture.settle(tried)
            saved, reached = picture.savings(tried, cost)
            usual = np.exp(slope * picture.log_weight + constant) / 1e6
            for split, kind in KIND.items():
                i = np.flatnonzero(picture.allowed[:, split] & reached)
                prices = np.full(len(i), log_price)
                found = (
                    picture.features[i, split],
                    saved[i, split] / usual,
                    spent[i, split],
                    prices,
                )
                gathered[kind].append([f.astype(np.float32) for f in found])
        for kind, network in enumerate(networks):
            x, *others = (np.concatenate(parts) for parts in zip(*gathered[kind], strict=True))
            if not number:
                deviation = x.std(0)
                scales.append((x.mean(0), np.where(deviation > 1e-3, deviation, np.inf)))
            mean, deviation = scales[kind]
            train(network, [(x - mean) / deviation, *others], steps)
            first, last = network[0], network[2]
            assert isinstance(first, torch.nn.Linear) and isinstance(last, torch.nn.Linear)
            with torch.no_grad():
                weight = (first.weight.numpy() / deviation).T
                bias = first.bias.numpy() - mean @ weight
                output = last.weight.numpy()[0]
                table[kind] = np.concatenate([weight.ravel(), bias, output, last.bias.numpy()])
        print(f"round {number}", flush=True)
    return table


def main() -> None:
    """Encode, train, write the table after each round."""
    from safetensors.numpy import load_file

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("packs", nargs="+", type=Path, help="tar files of images")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=int, default=42)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    weights = _dct.Parameters(load_file(arguments.weights))
    rng = np.random.default_rng(0)
    began, pictures = time.monotonic(), []
    for image in crops(arguments.packs, arguments.images):
        code = int(rng.integers(141))
        options = Options(cuts=3, thirds=True).for_encoder(code)
        options.price = 0
        pictures.append(Picture(*_dct.split_trials(image, weights, code, options, SLACK)))
    print(f"{len(pictures)} pictures, {time.monotonic() - began:.0f} s", flush=True)
    arguments.out.write_text(header(learn(pictures, arguments.steps, rng)))


if __name__ == "__main__":
    main()
