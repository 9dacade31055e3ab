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


def options_at(price):
    options = Options().for_encoder(60)
    options.price = price
    return options


def test_the_table_is_what_is_compiled():
    text = (ROOT / "ncodec" / "dct" / "enc_worth_table.hpp").read_text()
    assert text == splits.header(_dct.worth_networks())


def test_a_higher_price_leaves_out_more(sample):
    networks = _dct.worth_networks()
    trials = [
        len(
            _dct.split_trials(sample[:96, :96], PARAMETERS, 60, options_at(p), networks, 0, 1, 1)[0]
        )
        for p in (0, 1, 10, 100)
    ]
    assert trials == sorted(trials, reverse=True) and trials[0] > 4 * trials[-1]


def test_only_what_promises_enough_is_tried(sample):
    """By what the compiled networks say, computed here."""
    networks = _dct.worth_networks()
    found = _dct.split_trials(sample[:64, :64], PARAMETERS, 60, options_at(8), networks, 0, 1, 1)
    features, about, _ = found
    n, f, h = _dct.WORTH_SHAPE
    rows = networks[:, :-1].reshape(n, f + 2, h)[splits.KINDS[about[:, 1]]]
    sums = np.einsum("nf,nfh->nh", features, rows[:, :f]) + rows[:, f]
    said = (np.maximum(sums, 0) * rows[:, f + 1]).sum(1) + networks[splits.KINDS[about[:, 1]], -1]
    # All but blocks that cannot be split, and splits where something must be chosen.
    assert (said > np.log(8)).mean() > 0.5


def test_savings():
    never = np.finfo(np.float32).max
    about = np.array(
        [
            [-1, 0, 0, 0, 6, 6],  # a leaf
            [-1, 1, 0, 0, 6, 6],  # quarters: less by 10
            [1, 0, 0, 0, 5, 5],
            [1, 2, 0, 0, 5, 5],  # halves of the first: less by 30, but the quarters save 5
            [1, 0, 32, 0, 5, 5],  # the other one is given up
            [1, 1, 32, 0, 5, 5],
            [-1, 2, 0, 0, 6, 6],
            [6, 0, 0, 0, 5, 6],  # of a split that is not chosen
        ],
        np.int32,
    )
    cost = np.array([100, 90, 60, 30, 40, never, 95, 40], np.float32)
    saved, total = splits.savings(about, cost)
    assert total == 90
    np.testing.assert_allclose(saved, [0, 5, 0, 5, 4, 0, 0, 0])
