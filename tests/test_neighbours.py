"""z by its neighbours: the coder equals the integers of specs/hyperprior.md, and rates are those of the prior fitted."""

import numpy as np
import pytest
import torch
from reference_hyperprior import Neighbours

from ncodec.coder import Reader, Writer
from ncodec.entropy import FrequencyTables
from ncodec.entropy.neighbours import NeighbourCoder
from ncodec.errors import CorruptPayloadError, FormatError, TruncatedError, WeightsMismatchError
from ncodec.nn.neighbours import NeighbourPrior, fit, neighbours_of

Z, S = 5, 7


def random_prior(seed=0):
    torch.manual_seed(seed)
    prior = NeighbourPrior(torch.randn(8, Z), torch.rand(8, Z) + 0.1, S)
    for parameter in prior.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return prior


def random_coder(seed=0):
    prior = random_prior(seed)
    arrays = prior.to_arrays()
    return NeighbourCoder(arrays, prior.tables()), arrays


def reference_of(arrays):
    return Neighbours({f"neighbours.{name}": array for name, array in arrays.items()})


def section_of(z, coder, arrays, offset):
    """What the decoder of specs/hyperprior.md in numpy expects."""
    tables = [row[row > 0].tolist() for row in coder.tables.frequencies]
    return reference_of(arrays).encode(z.astype(int), tables, offset.astype(int))


def random_grid(height, width, seed=0, spread=3.0):
    z = np.random.default_rng(seed).standard_t(2, (height, width, Z)) * spread
    return np.rint(z).clip(-127, 127).astype(np.int16)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (5, 1), (7, 9)])
@pytest.mark.parametrize("quality", [0, 7])
def test_same_bytes_as_reference(height, width, quality):
    coder, arrays = random_coder(quality)
    z, offset = random_grid(height, width, quality), arrays["offset"][quality]
    payload = coder.encode(z, offset)
    assert payload == section_of(z, coder, arrays, offset)
    assert np.array_equal(coder.decode(payload, (height, width), offset), z)


def test_extremes():
    coder, arrays = random_coder()
    z = np.where(np.arange(8 * 6 * Z).reshape(8, 6, Z) % 3 == 0, -127, 127).astype(np.int16)
    offset = arrays["offset"][3]
    assert np.array_equal(coder.decode(coder.encode(z, offset), (8, 6), offset), z)


def test_neighbours_are_those_of_training():
    """Only the four places decoded before are seen, in the order of the weights."""
    z = np.arange(1, 3 * 4 * Z + 1).reshape(1, 3, 4, Z)
    x = neighbours_of(z).reshape(3, 4, 4, Z)
    assert np.array_equal(x[1, 1], [z[0, 1, 0], z[0, 0, 0], z[0, 0, 1], z[0, 0, 2]])
    assert not x[0, 0].any() and not x[1, 3, 3].any() and not x[2, 0, :2].any()


def test_every_truncation():
    coder, arrays = random_coder()
    offset = arrays["offset"][0]
    payload = coder.encode(random_grid(4, 4), offset)
    for size in range(len(payload)):
        with pytest.raises(FormatError):
            coder.decode(payload[:size], (4, 4), offset)
    with pytest.raises(TruncatedError):
        coder.decode(b"", (4, 4), offset)
    with pytest.raises(CorruptPayloadError, match="left over"):
        coder.decode(payload + b"\0\0", (4, 4), offset)
    with pytest.raises(CorruptPayloadError, match="lanes"):
        coder.decode(b"\1" + payload[1:], (4, 4), offset)


def test_flipped_bytes_raise_or_decode():
    coder, arrays = random_coder()
    offset = arrays["offset"][0]
    payload = coder.encode(random_grid(6, 6), offset)
    for k in range(len(payload)):
        for bit in range(8):
            damaged = bytearray(payload)
            damaged[k] ^= 1 << bit
            try:
                assert np.abs(coder.decode(bytes(damaged), (6, 6), offset)).max() <= 127
            except FormatError:
                pass


def test_magnitude_refused():
    coder, arrays = random_coder()
    offset = arrays["offset"][0]
    for value, is_good in ((127, True), (128, False), (-127, True), (-128, False)):
        payload = section_of(np.full((1, 1, Z), value), coder, arrays, offset)
        if is_good:
            assert (coder.decode(payload, (1, 1), offset) == value).all()
        else:
            with pytest.raises(CorruptPayloadError, match="magnitude"):
                coder.decode(payload, (1, 1), offset)


def test_weights_refused():
    _, arrays = random_coder()
    tables = random_prior().tables()
    assert NeighbourCoder(arrays, tables)
    for name, value in {
        "shifts": np.array([0, 8, 4]),
        "hidden.bias": np.full(S, 2**31 - 1),
        "head.weight": np.full((2 * Z, S), 2**15 - 1),
        "own.weight": np.zeros((3, Z)),
        "hidden.weight": np.zeros((S, 3 * Z)),
    }.items():
        with pytest.raises(WeightsMismatchError):
            NeighbourCoder(arrays | {name: value}, tables)


@pytest.mark.parametrize("name", ["hidden", "head"])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_just_fit(name, sign):
    """2^31 - 1 fits, and sums that large are the reference's; 2^31 is refused."""
    coder, arrays = random_coder()
    bias, shifts = arrays["hidden.bias"], arrays["shifts"]
    if name == "hidden":
        weight = arrays["hidden.weight"][0]
        weight[:], shifts[0] = sign * 32767, 28
        bias[0] = sign * (2**31 - 1 - 2**27 - 127 * 32767 * weight.size)
    else:
        bias[:] = 2**30  # hidden is 32767
        arrays["head.weight"][0], shifts[1] = sign * np.array([32767, 32767, 4, 0, 0, 0, 0]), 1
    coder = NeighbourCoder(arrays, coder.tables)
    for z in (np.full((3, 3, Z), 127), np.full((3, 3, Z), -127)):
        payload = coder.encode(z, arrays["offset"][0])
        assert payload == section_of(z, coder, arrays, arrays["offset"][0])
        assert np.array_equal(coder.decode(payload, (3, 3), arrays["offset"][0]), z)
    if name == "hidden":
        bias[0] += sign
    else:
        shifts[1] = 2
    with pytest.raises(WeightsMismatchError):
        NeighbourCoder(arrays, coder.tables)
    with pytest.raises(ValueError):
        reference_of(arrays)


@pytest.mark.parametrize("shifts", [1, 30])
def test_largest_means_and_widths(shifts):
    """Weights and offsets as large as 16 bits are: nothing overflows, everything saturates."""
    coder, arrays = random_coder()
    offset = np.repeat([32767, -32767], Z).astype(np.int16)
    for sign in (1, -1):
        arrays["own.weight"][:], arrays["shifts"][2] = 32767 * sign, shifts
        coder = NeighbourCoder(arrays, coder.tables)
        for value in (127, -127):
            z = np.full((2, 3, Z), value)
            for added in (offset, -offset):
                payload = coder.encode(z, added)
                assert payload == section_of(z, coder, arrays, added)
                assert np.array_equal(coder.decode(payload, (2, 3), added), z)


def correlated_grids(n=40, side=8):
    """z of eight qualities: smooth fields whose local spread varies, wider at higher quality."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(n, side + 8, side + 8, Z))
    for axis in (1, 2):
        noise = np.stack([noise.take(range(k, k + side + 8 - 4), axis) for k in range(5)]).mean(0)
    noise = noise[:, :side, :side] * 5 * np.exp(rng.normal(size=(n, 1, 1, 1)))
    return {20 * q: np.rint(noise * (q + 1)).clip(-127, 127).astype(np.int8) for q in range(8)}


def test_fit_saves_and_costs_what_it_says():
    """On grids with much to predict the fitted prior costs far less than their histogram, and files are as long as it says."""
    z = correlated_grids()
    prior = fit(z, width=8, steps=600)
    arrays = prior.to_arrays()
    coder = NeighbourCoder(arrays, prior.tables())
    for q in (0, 7):
        grids = z[20 * q]
        found = sum(8 * len(coder.encode(grid, arrays["offset"][q])) - 40 for grid in grids)
        with torch.no_grad():
            x = torch.from_numpy(neighbours_of(grids)).flatten(0, 2).float()
            target = torch.from_numpy(grids.reshape(-1, Z)).float()
            p = prior.likelihood(target, *prior(x, torch.full((len(x),), q + 1.0)))
        estimate = -float((p + 2.0**-14).log2().sum())
        counts = [np.unique(grids[..., c], return_counts=True)[1] for c in range(Z)]
        histogram = sum(-(n * np.log2(n / n.sum())).sum() for n in counts)
        assert found < 0.85 * histogram
        assert abs(found / estimate - 1) < 0.03


def test_tables_are_the_prior():
    prior = random_prior()
    tables = prior.tables()
    assert isinstance(tables, FrequencyTables) and len(tables.frequencies) == 256
    p = tables.frequencies / 2**14
    for row in (
        4,
        12 * 8 + 4,
        31 * 8 + 4,
    ):  # no fraction: symmetric, and wider with the row's number
        assert np.allclose(p[row, 1:9:2], p[row, 2:10:2], atol=2e-4)
    widths = p[4::8, 0]
    assert (np.diff(widths) < 0).all()
    assert p[8 * 12 + 7, 2] > p[8 * 12 + 7, 1] and p[8 * 12, 1] > p[8 * 12, 2]


def test_sections():
    """A grid is a section like any other, in both directions, and errors name it."""
    coder, arrays = random_coder()
    z, offset = random_grid(3, 4), arrays["offset"][5]
    writer = Writer()
    assert writer.code_grid("z", z, (3, 4), coder, offset) is z
    rows = np.zeros(6, np.uint16)
    writer.code("y", np.arange(6, dtype=np.int32), rows, coder.tables)
    reader = Reader(writer.payload(), 2)
    assert np.array_equal(reader.code_grid("z", None, (3, 4), coder, offset), z)
    assert reader.code("y", None, rows, coder.tables).tolist() == list(range(6))
    with pytest.raises(FormatError, match="section 'z': "):
        Reader(writer.payload(), 2).code_grid("z", None, (30, 40), coder, offset)


def test_other_quality_other_bytes():
    coder, arrays = random_coder()
    z = random_grid(4, 4)
    assert coder.encode(z, arrays["offset"][0]) != coder.encode(z, arrays["offset"][7])
