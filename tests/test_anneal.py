"""Refined latents: the integer codec makes better files of them, the same ones each time, in windows too."""

import numpy as np
import pytest
import torch

from ncodec.coder import Writer
from ncodec.models import weights
from ncodec.models.hyperprior import anneal
from ncodec.models.hyperprior.codec import Latents, make_codec
from ncodec.models.hyperprior.quantise import from_integers
from ncodec.nn.gain import lmbda_at_quality
from ncodec.nn.ssimulacra2 import ssimulacra2
from ncodec.nn.training import VISUAL
from ncodec.quality import lmbda_of, quality_code, quality_of

NAMES = [model.name for model in weights.list_models() if model.family == "hyperprior"]
STEPS = 6


class Encoder:
    """A shipped model in integers, and its float network."""

    def __init__(self, name):
        tensors, about, _ = weights.read(weights.find_by_name(name))
        self.codec = make_codec(tensors, about, "cpu")
        self.unit = 2.0 ** about["fraction_bits"]["y"]
        model = from_integers(tensors, self.codec.config, about["fraction_bits"])
        self.model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def analysed(self, pixels, code):
        x = 2 * pixels.astype(np.int16) - 255
        return self.codec._run(self.codec._analysis, code, "y", "z", x=x)

    def closed(self, y, z, code):
        return Latents(z, *self.codec._run(self.codec._closing, code, "indexes", "r", y=y, z=z))

    def refined(self, pixels, code):
        """Return latents before and after."""
        y, z = self.analysed(pixels, code)
        plain = self.closed(y, z, code)
        better = anneal.refine(
            self.model, pixels, code, y / np.float32(self.unit), z,
            plain.indexes, self.codec.tables_r, self.codec.skip_below, STEPS, self.codec.tune,
        )  # fmt: skip
        assert better.shape == y.shape and better.dtype == np.float32
        y = np.rint(better * self.unit).clip(-32767, 32767).astype(np.int16)
        return plain, self.closed(y, z, code)

    def loss(self, latents, pixels, code):
        writer = Writer()
        self.codec.code(writer, latents, latents.r.shape[:2], code)
        decoded = self.codec.synthesise(latents, code)
        cost = lmbda_of(code) * np.square(decoded - pixels.astype(np.float64)).mean()
        if self.codec.tune == "visual":
            pair = (
                torch.from_numpy(x.astype(np.float32) / 255).permute(2, 0, 1)[None]
                for x in (pixels, decoded)
            )
            price = lmbda_at_quality(torch.tensor([quality_of(code)]), VISUAL.points)
            lost = float(price * (100 - ssimulacra2(*pair)))
            cost += VISUAL.ssimulacra2 * (lost - cost)
        return cost + 8 * len(writer.payload()) / (pixels.size / 3)


@pytest.fixture(scope="module", params=NAMES)
def encoder(request):
    return Encoder(request.param)


@pytest.mark.parametrize("quality", [1, 4.5, 8])
def test_files_cost_less(encoder, sample, quality):
    pixels = sample[160:288, 320:448]
    code = quality_code(quality)
    plain, better = (encoder.loss(r, pixels, code) for r in encoder.refined(pixels, code))
    assert better < 0.985 * plain


def test_windows(encoder, sample, monkeypatch):
    """Smaller than the image, which has an odd number of latents: nearly as good as all at once."""
    pixels = sample[160 : 160 + 11 * 16, 320 : 320 + 9 * 16]
    plain, whole = (encoder.loss(r, pixels, 60) for r in encoder.refined(pixels, 60))
    monkeypatch.setattr(anneal, "WINDOW", 4)
    _, windows = (encoder.loss(r, pixels, 60) for r in encoder.refined(pixels, 60))
    assert windows - whole < 0.2 * (plain - whole)


def test_same_each_time(encoder, sample):
    pixels = sample[160:224, 320:384]
    first, second = (encoder.refined(pixels, 60)[1].r for _ in range(2))
    assert np.array_equal(first, second)


def test_saturated(encoder):
    """What clamping forgives is not paid for: black and white, where it forgives much."""
    squares = np.indices((64, 64)).sum(0) // 8 % 2 * 255
    pixels = np.repeat(squares[:, :, None], 3, 2).astype(np.uint8)
    plain, better = (encoder.loss(r, pixels, 140) for r in encoder.refined(pixels, 140))
    assert better < {"psnr": 0.8, "visual": 0.95}[encoder.codec.tune] * plain


def test_one_latent(encoder):
    pixels = np.full((16, 16, 3), 90, np.uint8)
    plain, better = (encoder.loss(r, pixels, 140) for r in encoder.refined(pixels, 140))
    assert better <= plain


def test_slopes_are_those_of_the_tables(encoder):
    tables = encoder.codec.tables_r
    slopes = anneal._slopes(tables)
    half = slopes.shape[1] // 2
    for row, r in ((10, 0), (30, -3), (50, 7)):
        low, high = (
            tables.ideal_bits(np.array([symbol], np.int32), np.array([row], np.uint16)) for symbol in (r, r + 1)
        )  # fmt: skip
        assert slopes[row, r + half] == pytest.approx(high - low, abs=1e-4)
