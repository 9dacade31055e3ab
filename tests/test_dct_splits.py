"""Which leaves and splits the encoder of family `dct` tries: the networks' table, their training."""

import numpy as np
import pytest
from conftest import ROOT

from ncodec.dct import _dct
from ncodec.models.dct.codec import Options
from ncodec.models.weights import find_by_name

torch = pytest.importorskip("torch")
from safetensors.numpy import load_file  # noqa: E402

from ncodec.training.dct import splits  # noqa: E402

PARAMETERS = _dct.Parameters(load_file(find_by_name("dct", "psnr")))


def test_the_table_is_what_is_compiled():
    text = (ROOT / "ncodec" / "dct" / "enc_worth_table.hpp").read_text()
    assert text == splits.header(_dct.worth_networks())


def trials(pixels, price):
    options = Options(cuts=3, thirds=True).for_encoder(60)
    options.price = price
    return _dct.split_trials(pixels, PARAMETERS, 60, options, 1)


def test_a_higher_price_leaves_out_more(sample):
    counts = [len(trials(sample[:96, :96], price)[0]) for price in (0, 4, 16, 64)]
    assert counts == sorted(counts, reverse=True) and counts[0] > 4 * counts[-1]


@pytest.mark.parametrize("grey", [False, True])
def test_features_of_what_was_tried(sample, grey):
    """They are computed in training as in the encoder, here where all is tried."""
    picture = splits.Picture(
        *trials(sample[:64, :128].mean(2).astype(np.uint8) if grey else sample[:64, :128], 0)
    )
    logged = picture.features.copy()
    tried = picture.decide(lambda split, x: np.ones(len(x), bool))
    assert (tried == picture.allowed).all()
    np.testing.assert_allclose(
        picture.features[:, splits.QUAD :], logged[:, splits.QUAD :], atol=1e-3
    )


def test_networks_say_less_at_a_higher_price(sample):
    picture = splits.Picture(*trials(sample[:96, :96], 0))
    says = [splits.says_of(_dct.worth_networks(), np.log(price)) for price in (0.1, 10, 1000)]
    counts = [picture.decide(s)[:, splits.QUAD :].sum() for s in says]
    assert counts == sorted(counts, reverse=True) and counts[0] > 3 * counts[-1]


def test_savings():
    never = np.finfo(np.float32).max
    rows = np.array(
        [  # trial around, split, block; cost
            [-1, 0, 0, 0, 6, 6, 100],
            [-1, 1, 0, 0, 6, 6, 90],  # quarters: 5 less than the next best, halves
            [1, 0, 0, 0, 5, 5, 60],
            [1, 2, 0, 0, 5, 5, 30],  # 30 less, but the quarters that it is a part of only save 5
            [1, 0, 32, 0, 5, 5, 40],  # a tenth: the other one was given up
            [1, 1, 32, 0, 5, 5, never],
            [-1, 2, 0, 0, 6, 6, 95],
            [6, 0, 0, 0, 5, 6, 40],  # of halves that are not chosen
        ]
    )
    about, cost = rows[:, :6].astype(np.int32), rows[:, 6]
    results = np.stack([np.full(8, never), cost, np.ones(8)], 1).astype(np.float32)
    picture = splits.Picture(np.zeros((8, splits.FEATURES), np.float32), about, results)
    root = picture.levels[0][0]
    assert picture.total == 90
    tried = picture.allowed.copy()
    saved, reached = picture.savings(tried, picture.settle(tried)[0])
    assert reached.all() and saved[root].tolist() == [0, 5, 0, 0, 0, 0]
    assert sorted(saved[saved > 0]) == [4, 5, 5]
    # Without the halves of a quarter, quarters cost 30 more; with them they would save 5.
    quarter = np.flatnonzero(picture.allowed[:, 2] & (picture.node >= 0))
    tried[quarter, 2] = False
    cost, _ = picture.settle(tried)
    assert cost[root, :3].tolist() == [100, 120, 95]
    saved, _ = picture.savings(tried, cost)
    assert saved[quarter, 2] == 5 and saved[root, 1] == 0
