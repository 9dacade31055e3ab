"""Metrics against their definitions, and BD-rate against published pairs."""

import json

import numpy as np
import pytest
from conftest import ROOT

from ncodec.errors import InputError
from ncodec.metrics import bd_rate, bpp, psnr


def curve(name):
    published = json.loads((ROOT / "kodak_eval" / "anchors" / f"{name}.json").read_text())
    return list(zip(published["bpp"], published["psnr"], strict=True))


def test_psnr():
    a = np.zeros((4, 4, 3), np.uint8)
    assert psnr(a, a) == float("inf")
    assert psnr(a, a + 255) == 0
    assert psnr(a, a + 1) == pytest.approx(48.1308, abs=1e-4)


def test_bpp():
    assert bpp(100, 20, 10) == 4


def test_bd_rate_of_half_the_rate():
    halved = [(rate / 2, quality) for rate, quality in curve("vtm")]
    percent, overlap = bd_rate(curve("vtm"), halved)
    assert percent == pytest.approx(-50)
    assert overlap == (curve("vtm")[0][1], curve("vtm")[-1][1])


def test_bd_rate_without_overlap():
    with pytest.raises(InputError, match="do not overlap"):
        bd_rate([(0.1, 20.0), (0.2, 22.0)], [(1.0, 30.0), (2.0, 33.0)])


def test_bd_rate_of_a_flat_curve():
    with pytest.raises(InputError, match="different qualities"):
        bd_rate([(0.1, 20.0), (0.2, 20.0)], [(0.1, 19.0), (0.2, 33.0)])
