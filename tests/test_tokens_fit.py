"""The model of tokens that is fitted: its decisions are the coder's, its integers say what it says, and it saves."""

import numpy as np
import pytest
import reference_tokenizer as reference
import torch

from ncodec.entropy.tokens import Stage, TokenCoder
from ncodec.nn import tokens as nn_tokens
from ncodec.nn.tokens import (
    Field,
    StageModel,
    coded_bits,
    decisions_of,
    fit,
    fit_stage,
    static_bits,
)

STAGES = [Stage((5, 4)), Stage(bits=4, channels=3), Stage((2, 2, 2))]


def table_of(stage, seed=0):
    """Values of a tree: leaves anywhere, nodes in the middle of their children."""
    rng = np.random.default_rng(seed)
    rows = [rng.integers(-127, 128, (stage.size, stage.channels))]
    while len(rows[0]) > 1:
        rows.insert(0, (rows[0][::2] + rows[0][1::2]) // 2)
    return np.concatenate(rows).astype(np.int16)


def smooth_tokens(n=30, side=10, seed=0):
    """Tokens of all stages, made of smooth fields and each other."""
    noise = np.random.default_rng(seed).normal(size=(n, 3, side + 4, side + 4))
    for axis in (2, 3):
        noise = np.stack([noise.take(range(k, k + side), axis) for k in range(5)]).mean(0)
    a, b, c = np.moveaxis(noise / noise.std(), 1, 0)

    def quantise(field, levels):
        return np.clip(field * levels / 4 + levels / 2, 0, levels - 1).astype(int)

    first = quantise(a, 5) + 5 * quantise(b, 4)
    third = quantise(c, 2) + 2 * quantise(a + c, 2) + 4 * quantise(b - a, 2)
    return np.stack([first, quantise(a + b + c, 16), third], 1).astype(np.int32)


@pytest.mark.parametrize(
    "stage", [*STAGES, *(Stage((n,)) for n in range(2, 10)), Stage((9, 2, 6, 3)), Stage((128,))]
)
def test_decisions_are_the_coders(stage, monkeypatch):
    """Those that the reference asks for, of every token."""
    asked = []

    def decide(model, coder, value, node, mixer, own):
        asked.append((node, value))
        return value

    monkeypatch.setattr(reference.StageModel, "decide", decide)
    monkeypatch.setattr(reference.StageModel, "__init__", lambda *_: None)
    monkeypatch.setattr(reference.StageModel, "enter", lambda *_: None)
    kind = stage.levels or stage.bits
    plain = object.__new__(reference.Tokens)
    plain.stages, plain.tensors = [kind], [{} if stage.levels else {"values": table_of(stage)}]
    nodes, bins, units = decisions_of(stage, np.arange(stage.size))
    assert nodes.shape == bins.shape == (stage.size, len(units))
    for depth in range(1, stage.units + 1):
        for token in range(stage.size):
            asked.clear()
            plain._code(plain, np.full((1, 1, 1), token), 0, depth, 0, 1)
            known = (nodes[token] >= 0) & (units < depth)
            assert list(zip(nodes[token][known], bins[token][known], strict=True)) == asked


def test_values_are_the_coders():
    tokens = smooth_tokens(2)
    tokens[:, :, 2, 3] = -1
    tensors = fit(STAGES, tokens, {1: table_of(STAGES[1])}, width=3, steps=1)
    coder = TokenCoder(STAGES, tensors)
    for n, stage in enumerate(STAGES, 1):
        for depth in range(stage.units + 1):
            known = coder.values(tokens[0, :n], depth)
            first = sum(s.n_values for s in STAGES[: n - 1])
            table = None if stage.levels else table_of(stage)
            found = nn_tokens.values_of(stage, table, tokens[0, n - 1], depth)
            assert np.array_equal(known[..., first : first + stage.n_values], found)


def random_model(s, scale):
    tokens = smooth_tokens(3)[:, : s + 1]
    field = Field(STAGES[: s + 1], tokens, {1: table_of(STAGES[1])})
    torch.manual_seed(0)
    model = StageModel(STAGES[s], field.table, field.before.shape[1], 7)
    for parameter in model.parameters():
        parameter.data = scale * torch.randn_like(parameter)
    model.unit[:] = 1 / (field.inputs(np.arange(99), STAGES[s].units)[0].abs().mean(0) + 0.5)
    return field, model


@pytest.mark.parametrize("s", range(3))
def test_integers_say_what_the_model_says(s):
    """Logits differ by what rounding makes of them, under 1/50 nat."""
    field, model = random_model(s, 0.3)
    arrays = {name: value.astype(np.int64) for name, value in model.to_arrays().items()}
    which, units = np.arange(len(field.places)), STAGES[s].units
    x, own = field.inputs(which, units)
    nodes = field.nodes.clip(0)
    with torch.no_grad():
        wanted = 256 * model(x, own, torch.from_numpy(nodes)).numpy()
    hidden_shift, head_shift = arrays["shifts"].tolist()
    sums = x.numpy().astype(int) @ arrays["hidden.weight"].T + arrays["hidden.bias"]
    hidden = reference.rounded(sums, hidden_shift).clip(0, 32767)
    sums = hidden @ arrays["head.weight"].T + arrays["head.bias"]
    if "own.weight" in arrays:
        sums = sums + own.numpy().astype(int) @ arrays["own.weight"].T
    found = np.take_along_axis(reference.rounded(sums, head_shift), nodes, 1)
    assert np.abs(wanted).max() > 200 and np.abs(found - wanted).max() < 5


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 50.0])
@pytest.mark.parametrize("s", range(3))
def test_any_model_is_accepted(s, scale):
    """Weights of any size become tensors that the coder takes; small ones keep their precision."""
    _, model = random_model(s, scale)
    tokens = smooth_tokens(3)[:, : s + 1]
    tensors = fit(STAGES[:s], tokens[:, :s], {1: table_of(STAGES[1])}, width=3, steps=1)
    tensors |= {f"tokens.{s}.{name}": array for name, array in model.to_arrays().items()}
    if s == 1:
        tensors["tokens.1.values"] = table_of(STAGES[1])
    assert coded_bits(TokenCoder(STAGES[: s + 1], tensors), tokens).shape == (s + 1,)


def test_fit_saves_and_costs_what_it_says():
    """Far less than fixed frequencies, on images it has not seen, and payloads are as long as the model says."""
    tables = {1: table_of(STAGES[1])}
    tokens, unseen = smooth_tokens(60), smooth_tokens(20, seed=1)
    tensors, said = {"tokens.1.values": tables[1]}, []
    for s, stage in enumerate(STAGES):
        known, other = (Field(STAGES[: s + 1], t[:, : s + 1], tables) for t in (tokens, unseen))
        model = fit_stage(known, width=12, steps=200, seed=0)
        with torch.no_grad():
            cost = other.cost(model, np.arange(len(other.places)), stage.units)
        said.append(float(cost) / np.log(2))
        tensors |= {f"tokens.{s}.{name}": array for name, array in model.to_arrays().items()}
    found = coded_bits(TokenCoder(STAGES, tensors), unseen)
    assert (found < 0.85 * static_bits(STAGES, unseen)[:, 0]).all()
    assert found == pytest.approx(said, rel=0.06)  # a byte's end each, and what adapts


def test_fit_is_repeatable():
    tokens, tables = smooth_tokens(4), {1: table_of(STAGES[1])}
    a, b = (fit(STAGES, tokens, tables, width=3, steps=3) for _ in range(2))
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_static_bits():
    """A digit that copies another costs whole tokens nothing."""
    digits = np.random.default_rng(0).integers(0, 2, (1, 1, 100, 100))
    ((whole, by_digit),) = static_bits([Stage((2, 2))], (3 * digits).astype(np.int32))
    assert whole == pytest.approx(1, abs=0.01) and by_digit == pytest.approx(2, abs=0.01)
    ((whole, by_digit),) = static_bits([Stage(bits=2, channels=1)], (3 * digits).astype(np.int32))
    assert whole == by_digit == pytest.approx(1, abs=0.01)
