"""The quality that meets a target: on curves that are known, in few encodes; of pictures by PSNR and SSIMULACRA2."""

import math
import sys

import numpy as np
import pytest

from ncodec import metrics, search
from ncodec.errors import InputError
from ncodec.image import Picture
from ncodec.search import Target, encode_to_target, find_quality

CODES = range(141)
CURVES = {  # of 141 qualities
    "exponential": lambda code: 2000 * math.exp(code / 60),
    "steep, then flat": lambda code: 2000 + 90_000 * (1 - math.exp(-code / 25)),
    "flat, then steep": lambda code: 9000 + 1e-4 * code**4,
    "stages": lambda code: 4000 * (1 + code // 20),
}


class Encoder:
    """Files of a curve's sizes; counts them."""

    def __init__(self, curve):
        self.curve, self.codes = curve, []

    def __call__(self, code):
        self.codes.append(code)
        return bytes([code]) * int(self.curve(code))


@pytest.mark.parametrize("name", CURVES)
def test_a_size_is_a_ceiling(name):
    """What is found keeps to it, and is within 1 % of it or the last quality that does; no quality is encoded twice."""
    counts = []
    for wanted in np.geomspace(CURVES[name](0), CURVES[name](140) * 1.1, 40).astype(int):
        encode = Encoder(CURVES[name])
        data, code = encode_to_target(encode, len, Target(int(wanted), "size"))
        assert data[0] == code and len(data) <= wanted
        better = [c for c in CODES if c > code and int(CURVES[name](c)) <= wanted]
        assert len(data) >= 0.99 * wanted or not better
        assert len(set(encode.codes)) == len(encode.codes)
        counts.append(len(encode.codes))
    assert np.mean(counts) < (4.5 if name == "exponential" else 7) and max(counts) <= 12


@pytest.mark.parametrize("noise", [0, 0.3])
def test_a_score_is_a_floor(noise):
    """The smallest file tried that reaches it; also where the curve is not quite monotone."""

    def score(code):
        return 28 + 0.08 * code + noise * math.sin(7 * code)

    for wanted in np.linspace(score(0), score(140), 40):
        encode = Encoder(CURVES["exponential"])
        _, code = encode_to_target(
            encode, lambda data: score(data[0]), Target(float(wanted), "psnr")
        )
        assert score(code) >= wanted
        if not noise:
            assert code == 0 or score(code - 1) < wanted
        assert len(encode.codes) <= 9


def test_a_target_out_of_reach_says_what_is_in_reach():
    encode = Encoder(CURVES["exponential"])
    with pytest.raises(
        InputError,
        match="target_size: expected at least 2000 bytes, which quality 1 has, found 900",
    ):
        encode_to_target(encode, len, Target(900, "size"))
    assert encode_to_target(encode, len, Target(10**6, "size"))[1] == 140
    psnr = Target(60, "psnr")
    with pytest.raises(
        InputError, match="target_psnr: expected at most 42 dB, which quality 8 has, found 60"
    ):
        encode_to_target(encode, lambda data: 28 + data[0] / 10, psnr)
    assert encode_to_target(encode, lambda data: 70.0, psnr)[1] == 0


def test_targets_that_are_none():
    for values, message in (
        ({"size": 9, "bpp": 1}, "expected one target, found target_size and target_bpp"),
        ({"size": 0}, "target_size: expected more than 0, found 0"),
        ({"psnr": float("nan")}, "target_psnr: .*nan"),
    ):
        with pytest.raises(InputError, match=message):
            search.target_of(**values)
    assert search.target_of(ssimulacra2=-3) == Target(-3, "ssimulacra2")


@pytest.mark.parametrize(
    ("worst", "best", "step"), [(1, 100, 1), (63, 0, 1), (25, 0.05, 0), (1, 8, 0.05)]
)
def test_the_nearest_quality_of_any_scale(worst, best, step):
    """Of other codecs: scales that fall, or are continuous."""
    asked = []

    def rate(quality):
        asked.append(quality)
        way = (quality - worst) / (best - worst)
        return 0.1 * math.exp(3 * way + way**2)

    found = find_quality(rate, Target(1, "bpp"), worst, best, step)
    others = np.linspace(worst, best, round(abs(best - worst) / step) + 1) if step else [found]
    n_asked = len(asked)
    assert abs(rate(found) - 1) <= min(abs(rate(q) - 1) for q in others) + 1e-9
    assert abs(rate(found) - 1) < (0.03 if step else 0.001) and n_asked <= 6


def test_scores_of_pictures(crop):
    """PSNR where something is to be seen, at the peak of the depth; SSIMULACRA2 at 8 bits, grey as RGB."""
    noisy = (crop.astype(int) + np.random.default_rng(0).integers(-9, 10, crop.shape)).clip(0, 255)
    a, b = Picture(crop), Picture(noisy.astype(np.uint8))
    expected = metrics.psnr(a.pixels, b.pixels)
    assert metrics.of_pictures("psnr", a, b) == pytest.approx(expected, abs=1e-9)
    assert metrics.of_pictures("psnr", a, a) == float("inf")
    deep = [Picture(p.pixels.astype(np.uint16) * 257, bit_depth=16) for p in (a, b)]
    assert metrics.of_pictures("psnr", *deep) == pytest.approx(expected, abs=1e-9)
    score = metrics.ssimulacra2(a.pixels, b.pixels)
    assert metrics.of_pictures("ssimulacra2", a, b) == score
    assert metrics.of_pictures("ssimulacra2", *deep) == score
    alpha = np.zeros(crop.shape[:2], np.uint8)
    unseen = [Picture(p.pixels, alpha=alpha) for p in (a, b)]
    assert metrics.of_pictures("psnr", *unseen) == float("inf")
    assert metrics.of_pictures("ssimulacra2", *unseen) == pytest.approx(100, abs=1e-6)
    alpha[:, ::2] = 255
    half = metrics.psnr(a.pixels[:, ::2], b.pixels[:, ::2])
    unseen = [Picture(p.pixels, alpha=alpha) for p in (a, b)]
    assert metrics.of_pictures("psnr", *unseen) == pytest.approx(half, abs=1e-9)


def test_ssimulacra2_without_its_package(sample, monkeypatch):
    """Our own, in torch, says nearly the same; without torch, what to install."""
    pixels = sample[100:356, 300:556]
    a, b = Picture(pixels), Picture(pixels & 0xF0)
    package = metrics.of_pictures("ssimulacra2", a, b)
    monkeypatch.setattr(metrics.importlib.util, "find_spec", lambda name: None)
    assert metrics.of_pictures("ssimulacra2", a, b) == pytest.approx(package, abs=0.3)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"SSIMULACRA2 needs torch: pip install 'ncodec\[eval\]'"):
        metrics.of_pictures("ssimulacra2", a, b)
