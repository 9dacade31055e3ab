"""Tokens and their coding, sections 2 and 3 of specs/tokenizer.md: the C++ equals tests/reference_tokenizer.py."""

import numpy as np
import pytest
import reference_tokenizer as reference

from ncodec.entropy.tokens import Stage, TokenCoder
from ncodec.errors import (
    CorruptPayloadError,
    FormatError,
    InputError,
    TruncatedError,
    WeightsMismatchError,
)

WIDTH = 5
KINDS = {
    "fsq": [Stage((5, 5, 3, 3, 3))] * 3,
    "bsq": [Stage((2,) * 6)] * 3,
    "vq": [Stage(bits=4, channels=3)] * 3,
    "mixed": [Stage((4, 3)), Stage(bits=6, channels=2), Stage((16, 2, 7)), Stage((128,))],
}


def random_tensors(stages, rng, spread=1.0):
    """Weights of any size whose logits are about 1 nat."""
    tensors, before = {}, 0
    for s, stage in enumerate(stages):
        inputs = 4 * stage.n_values + 9 * before
        shapes = {
            "hidden.weight": (WIDTH, inputs),
            "hidden.bias": (WIDTH,),
            "head.weight": (stage.nodes, WIDTH),
            "head.bias": (stage.nodes,),
            "own.weight" if stage.levels else "values": (
                stage.nodes if stage.levels else 2 * stage.size - 1,
                stage.n_values,
            ),
        }
        sizes = {"hidden.weight": 300, "hidden.bias": 5000, "head.weight": 600, "head.bias": 9000}
        for name, shape in shapes.items():
            most = 127 if name == "values" else int(spread * sizes.get(name, 600))
            kind = np.int32 if name.endswith("bias") else np.int16
            tensors[f"tokens.{s}.{name}"] = rng.integers(-most, most + 1, shape).astype(kind)
        tensors[f"tokens.{s}.shifts"] = rng.integers([6, 6], [9, 9]).astype(np.int32)
        before += stage.n_values
    return tensors


def random_case(kind, seed=0, height=5, width=6):
    stages, rng = KINDS[kind], np.random.default_rng(seed)
    tensors = random_tensors(stages, rng)
    tokens = np.stack([rng.integers(0, stage.size, (height, width)) for stage in stages])
    return stages, tensors, tokens.astype(np.int32)


def reference_of(stages, tensors):
    return reference.Tokens([stage.levels or stage.bits for stage in stages], tensors)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (5, 1), (7, 9)])
def test_same_bytes_as_reference(kind, height, width):
    stages, tensors, tokens = random_case(kind, height, height, width)
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    for s, stage in enumerate(stages):
        for depth in {1, stage.units // 2, stage.units}:
            payload = coder.encode(tokens, s, depth, 0, height)
            assert payload == plain.encode(tokens, s, depth, 0, height)
            decoded = tokens.copy()
            decoded[s] = -1
            coder.decode(payload, decoded, s, depth, 0, height)
            assert np.array_equal(decoded[s], plain.decode(payload, tokens, s, depth, 0, height))
            known = coder.values(tokens[: s + 1], depth)
            assert np.array_equal(coder.values(decoded[: s + 1], depth), known)
            if depth == stage.units:
                assert np.array_equal(decoded, tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_long_payloads(kind):
    """Where contexts and mixers have come to rest, and weights are so large that everything saturates."""
    stages, rng = KINDS[kind], np.random.default_rng(3)
    tensors = random_tensors(stages, rng, spread=20)
    tokens = np.stack([rng.integers(0, stage.size, (24, 20)) for stage in stages]).astype(np.int32)
    tokens[:, 12:] = tokens[:, 12:13, :1]
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    s = len(stages) - 1
    payload = coder.encode(tokens, s, stages[s].units, 0, 24)
    assert payload == plain.encode(tokens, s, stages[s].units, 0, 24)
    decoded = tokens.copy()
    coder.decode(payload, decoded, s, stages[s].units, 0, 24)
    assert np.array_equal(decoded, tokens)


def test_order_of_decisions():
    """The picture of T12, for one digit of 3 to 8 levels: nodes and answers of every level."""
    wanted = {
        (2, 0): [(0, 0)], (2, 1): [(0, 1)],
        (3, 0): [(0, 1), (1, 0)], (3, 1): [(0, 0)], (3, 2): [(0, 1), (1, 1)],
        (4, 0): [(0, 0), (1, 1)], (4, 1): [(0, 0), (1, 0)], (4, 3): [(0, 1), (2, 1)],
        (5, 0): [(0, 1), (1, 0), (2, 1)], (5, 1): [(0, 1), (1, 0), (2, 0)],
        (5, 3): [(0, 1), (1, 1), (3, 0)], (5, 4): [(0, 1), (1, 1), (3, 1)],
        (8, 0): [(0, 0), (1, 1), (2, 1), (3, 1)], (8, 2): [(0, 0), (1, 1), (2, 0)],
        (8, 5): [(0, 1), (4, 1), (5, 0)],
    }  # fmt: skip
    for (n, level), decisions in wanted.items():
        asked = []

        class Coder:
            def bin(self, value, share, asked=asked):
                asked.append((share, value))
                return value

        stage = [(n,)]
        # Each node's logit is its own: the bias tells which was asked.
        tensors = random_tensors([Stage((n,))], np.random.default_rng(0), 0)
        tensors["tokens.0.head.bias"][:] = 64 * 64 * (1 + np.arange(n - 1))
        tensors["tokens.0.shifts"][:] = 6
        plain = reference.Tokens(stage, tensors)
        plain._code(Coder(), np.full((1, 1, 1), level, np.int32), 0, 1, 0, 1)
        shares = [2 * reference.squash(64 * (1 + node)) for node in range(n - 1)]
        assert [(shares.index(share), value) for share, value in asked] == decisions


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_are_independent(kind):
    """A payload depends on its rows alone, and decoding it changes no others."""
    stages, tensors, tokens = random_case(kind, 2, 8, 5)
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    other = random_case(kind, 3, 8, 5)[2]
    other[:, 3:6] = tokens[:, 3:6]
    for s, stage in enumerate(stages):
        payload = coder.encode(tokens, s, stage.units, 3, 6)
        assert payload == coder.encode(other, s, stage.units, 3, 6)
        assert payload == plain.encode(tokens, s, stage.units, 3, 6)
        assert payload == coder.encode(np.ascontiguousarray(tokens[:, 3:6]), s, stage.units, 0, 3)
        decoded = np.full_like(tokens, -1)
        decoded[:s, 3:6] = tokens[:s, 3:6]
        coder.decode(payload, decoded, s, stage.units, 3, 6)
        assert np.array_equal(decoded[s, 3:6], tokens[s, 3:6])
        assert (decoded[:, :3] == -1).all() and (decoded[:, 6:] == -1).all()
        assert (decoded[s + 1 :] == -1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_empty(kind):
    stages, tensors, tokens = random_case(kind)
    coder = TokenCoder(stages, tensors)
    assert coder.encode(tokens, 0, stages[0].units, 2, 2) == b""
    assert coder.encode(tokens, 0, 0, 0, 5) == b""
    decoded = np.full_like(tokens, -1)
    coder.decode(b"", decoded, 0, stages[0].units, 2, 2)
    assert (decoded == -1).all()
    coder.decode(b"", decoded, 0, 0, 0, 5)
    assert (decoded[0] == 0).all()
    for depth, end in ((0, 5), (1, 0)):
        with pytest.raises(CorruptPayloadError, match="left over"):
            coder.decode(b"\0", decoded, 0, depth, 0, end)


@pytest.mark.parametrize("kind", KINDS)
def test_values(kind):
    stages, tensors, tokens = random_case(kind)
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    tokens[np.random.default_rng(0).random(tokens.shape) < 0.3] = -1
    for n in range(1, len(stages) + 1):
        for depth in range(stages[n - 1].units + 1):
            assert np.array_equal(coder.values(tokens[:n], depth), plain.values(tokens[:n], depth))
    none = coder.values(tokens[:0], 0)
    assert none.shape == (5, 6, coder.n_values) and not none.any()


def test_values_by_hand():
    coder = TokenCoder(
        [Stage((5, 2, 4))], random_tensors([Stage((5, 2, 4))], np.random.default_rng(0))
    )
    tokens = np.array([[[0, 2, 4 + 5 + 30, -1]]], np.int32)
    wanted = [[-4, -1, -3], [0, -1, -3], [4, 1, 3], [0, 0, 0]]
    assert coder.values(tokens, 3)[0].tolist() == wanted
    assert coder.values(tokens, 1)[0].tolist() == [[row[0], 0, 0] for row in wanted]


@pytest.mark.parametrize("kind", KINDS)
def test_refused(kind):
    """Every truncation and any bytes left over."""
    stages, tensors, tokens = random_case(kind, 1)
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    units = stages[1].units
    payload = coder.encode(tokens, 1, units, 0, 5)
    decoded = tokens.copy()
    for size in range(len(payload)):
        with pytest.raises(FormatError):
            coder.decode(payload[:size], decoded, 1, units, 0, 5)
    with pytest.raises(TruncatedError, match="before the last token"):
        coder.decode(b"", decoded, 1, units, 0, 5)
    for left_over in (b"\0", b"\0\0\0\0", b"\xff"):
        with pytest.raises(CorruptPayloadError, match="left over"):
            coder.decode(payload + left_over, decoded, 1, units, 0, 5)
    with pytest.raises(ValueError):
        plain.decode(payload + b"\0", tokens, 1, units, 0, 5)
    with pytest.raises(CorruptPayloadError, match="last byte"):
        for last in range(payload[-1] + 1, 256):  # still these tokens, until it is others
            coder.decode(payload[:-1] + bytes([last]), decoded, 1, units, 0, 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, 3])
def test_damaged(kind, side):
    """Any bytes are refused, or are the payload of the tokens they decode to; and the reference says the same."""
    stages, tensors, tokens = random_case(kind, 4, side, side)
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    s, rng, accepted = len(stages) - 1, np.random.default_rng(0), 0
    units = stages[s].units
    payload = coder.encode(tokens, s, units, 0, side)
    for _ in range(200):
        damaged = bytearray(payload)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        damaged = bytes(damaged) if side > 1 else rng.bytes(rng.integers(1, 3))
        decoded = tokens.copy()
        try:
            coder.decode(damaged, decoded, s, units, 0, side)
        except FormatError:
            with pytest.raises(ValueError):
                plain.decode(damaged, tokens, s, units, 0, side)
            continue
        finally:
            assert (decoded[s] >= 0).all() and (decoded[s] < stages[s].size).all()
        accepted += 1
        assert coder.encode(decoded, s, units, 0, side) == damaged
        assert np.array_equal(decoded[s], plain.decode(damaged, tokens, s, units, 0, side))
    assert accepted or side > 1


def test_arguments_refused():
    stages, tensors, tokens = random_case("mixed")
    coder = TokenCoder(stages, tensors)
    decoded = tokens.copy()
    for stage, depth, first, end in [
        (4, 1, 0, 5), (-1, 1, 0, 5), (0, 3, 0, 5), (0, -1, 0, 5), (0, 1, 3, 2), (0, 1, -1, 2), (0, 1, 0, 6),
    ]:  # fmt: skip
        with pytest.raises(InputError):
            coder.encode(tokens, stage, depth, first, end)
        with pytest.raises(InputError):
            coder.decode(b"", decoded, stage, depth, first, end)
    with pytest.raises(InputError, match="depth"):
        coder.values(tokens[:1], 3)
    with pytest.raises(InputError, match="stage 2: expected one of 4"):
        coder.encode(tokens[:2], 2, 1, 0, 5)
    for bad in (-1, 64):
        wrong = tokens.copy()
        wrong[1, 2, 3] = bad
        message = f"stage 1, row 2, column 3: expected a token of 0 to 63, found {bad}"
        with pytest.raises(InputError, match=message):
            coder.encode(wrong, 2, 1, 0, 5)
        with pytest.raises(InputError, match=message):
            coder.decode(b"", wrong, 2, 1, 0, 5)
        coder.encode(wrong, 2, 1, 3, 5)  # of other rows
    with pytest.raises(InputError, match="expected a token of -1 to 63, found 64"):
        coder.values(wrong, 1)
    for wrong in (tokens.astype(np.int64), tokens[0]):
        with pytest.raises(TypeError):
            coder.encode(wrong, 0, 1, 0, 5)
    with pytest.raises(TypeError):
        coder.decode(b"", tokens[:, :, ::2], 0, 1, 0, 5)


def test_weights_refused():
    stages, tensors, _ = random_case("mixed")
    assert TokenCoder(stages, tensors)
    for name in tensors:
        rest = {other: value for other, value in tensors.items() if other != name}
        with pytest.raises(WeightsMismatchError, match=r"tokens\.\d: .*found none"):
            TokenCoder(stages, rest)
        with pytest.raises(WeightsMismatchError, match="expected int"):
            TokenCoder(stages, tensors | {name: tensors[name].astype(np.float32)})
        for wrong in (tensors[name][:-1], np.stack([tensors[name]] * 2)):
            with pytest.raises(WeightsMismatchError, match="tokens"):
                TokenCoder(stages, tensors | {name: wrong})
        if tensors[name].ndim == 2:
            with pytest.raises(WeightsMismatchError, match="tokens"):
                TokenCoder(stages, tensors | {name: tensors[name][:, :-1]})
    for shifts in ([0, 8], [8, 0], [31, 8], [8, 31], [-(2**31), 8]):
        with pytest.raises(WeightsMismatchError, match="1 to 30"):
            TokenCoder(stages, tensors | {"tokens.1.shifts": np.array(shifts, np.int32)})
    for value in (128, -128, -32768):
        values = tensors["tokens.1.values"].copy()
        values[5, 1] = value
        with pytest.raises(WeightsMismatchError, match="127"):
            TokenCoder(stages, tensors | {"tokens.1.values": values})
        with pytest.raises(ValueError):
            reference_of(stages, tensors | {"tokens.1.values": values})


@pytest.mark.parametrize("name", ["hidden", "head"])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_just_fit(name, sign):
    """2^31 - 1 fits, and sums that large are the reference's; 2^31 is refused."""
    stages = [Stage((128, 128, 2))]
    tensors = random_tensors(stages, np.random.default_rng(0))
    bias = tensors[f"tokens.0.{name}.bias"]
    if name == "hidden":
        tensors["tokens.0.hidden.weight"][:], tensors["tokens.0.shifts"][0] = sign * 32767, 28
        rest = 127 * 32767 * 12 + 2**27
    else:
        tensors["tokens.0.hidden.bias"][:] = 2**30  # hidden is 32767
        tensors["tokens.0.head.weight"][:], tensors["tokens.0.shifts"][1] = sign * 13000, 24
        tensors["tokens.0.own.weight"][:] = sign * 20
        rest = 32767 * 13000 * WIDTH + 127 * 60 + 2**23
    bias[:] = sign * (2**31 - 1 - rest)
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    for token in (0, 128 * 128 * 2 - 1):
        tokens = np.full((1, 3, 3), token, np.int32)
        payload = coder.encode(tokens, 0, 3, 0, 3)
        assert payload == plain.encode(tokens, 0, 3, 0, 3)
        decoded = np.full_like(tokens, -1)
        coder.decode(payload, decoded, 0, 3, 0, 3)
        assert np.array_equal(decoded, tokens)
    bias[-1] += sign
    with pytest.raises(WeightsMismatchError, match=r"2\^31"):
        TokenCoder(stages, tensors)
    with pytest.raises(ValueError):
        reference_of(stages, tensors)


@pytest.mark.parametrize(
    "stage",
    [{}, {"levels": (1,)}, {"levels": (129,)}, {"levels": (5,), "bits": 3}, {"bits": 3}, {"bits": 17, "channels": 1},
     {"levels": (128,) * 5}, {"levels": (3,), "channels": 1}, {"bits": -1, "channels": 1}],
)  # fmt: skip
def test_stages_refused(stage):
    with pytest.raises(WeightsMismatchError, match="a stage of tokens"):
        Stage(**stage)


def test_facts_of_stages():
    stage = Stage((128, 128, 128, 128, 7))  # 2^31 - 2^28
    assert (stage.size, stage.units, stage.n_values, stage.nodes) == (7 * 2**28, 5, 5, 514)
    stage = Stage(bits=16, channels=3)
    assert (stage.size, stage.units, stage.n_values, stage.nodes) == (65536, 16, 3, 65535)


def test_largest_stages():
    """Tokens near 2^31, and a tree of 16 bits: round trips."""
    stages = [Stage((128, 128, 128, 128, 7)), Stage(bits=16, channels=1)]
    rng = np.random.default_rng(0)
    coder = TokenCoder(stages, random_tensors(stages, rng))
    tokens = np.stack([rng.integers(0, stage.size, (4, 4)) for stage in stages]).astype(np.int32)
    tokens[:, 0, 0] = [stage.size - 1 for stage in stages]
    decoded = np.full_like(tokens, -1)
    for s, stage in enumerate(stages):
        coder.decode(coder.encode(tokens, s, stage.units, 0, 4), decoded, s, stage.units, 0, 4)
    assert np.array_equal(decoded, tokens)


# ---------------------------------------------------------------- logits from elsewhere


@pytest.mark.parametrize("kind", KINDS)
def test_given_logits(kind):
    """Added to the network's; own values count with their magnitudes. Section 10."""
    stages, tensors, tokens = random_case(kind, 5, 4, 6)
    rng = np.random.default_rng(5)
    for name, array in tensors.items():
        if name.endswith("own.weight"):
            more = rng.integers(-600, 601, array.shape).astype(np.int16)
            tensors[name] = np.concatenate([array, more], 1)
    coder, plain = TokenCoder(stages, tensors), reference_of(stages, tensors)
    for s, stage in enumerate(stages):
        given = rng.normal(size=(2 * 6, stage.nodes)) * 400
        given[rng.random(given.shape) < 0.1] = 32767  # beyond any logit
        given = given.astype(np.int16)
        for depth in {1, stage.units}:
            payload = coder.encode(tokens, s, depth, 1, 3, given)
            grid = given.reshape(2, 6, -1)
            assert payload == plain.encode(tokens, s, depth, 1, 3, grid)
            assert payload != coder.encode(tokens, s, depth, 1, 3)
            decoded = tokens.copy()
            decoded[s, 1:3] = -1
            coder.decode(payload, decoded, s, depth, 1, 3, given)
            assert np.array_equal(decoded[s, 1:3], stage.cut(tokens[s, 1:3], depth))
    with pytest.raises(InputError, match="logits: expected"):
        coder.encode(tokens, 0, 1, 0, 2, np.zeros((3, stages[0].nodes), np.int16))
