"""SSIMULACRA2 of training against the package that measures, and its gradient."""

from io import BytesIO

import numpy as np
import pytest
import torch
from conftest import SAMPLE
from PIL import Image

from ncodec import metrics
from ncodec.nn.ssimulacra2 import ssimulacra2


def tensor(pixels):
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize(("quality", "box"), [(3, (0, 0, 256, 227)), (50, (401, 100, 658, 367)), (97, (200, 200, 425, 481))])  # fmt: skip
def test_agrees_with_the_package(quality, box):
    """From bad to nearly equal, sides odd and even."""
    picture, file = Image.open(SAMPLE).crop(box), BytesIO()
    picture.save(file, "JPEG", quality=quality)
    a, b = (np.asarray(x) for x in (picture, Image.open(file)))
    expected = metrics.ssimulacra2(a, b)
    assert float(ssimulacra2(tensor(a), tensor(b))) == pytest.approx(expected, abs=0.05)


def test_equal_pictures_have_100_and_no_gradient():
    a = torch.rand(2, 3, 33, 40)
    b = a.clone().requires_grad_()
    score = ssimulacra2(a, b)
    assert (score > 99.9).all()
    score.sum().backward()
    assert torch.isfinite(b.grad).all() and b.grad.abs().max() < 1e-3


def test_gradient():
    """Along a random direction, against the difference of two scores; every picture of a batch for itself."""
    torch.manual_seed(0)
    a = torch.rand(2, 3, 48, 41, dtype=torch.float64)
    b = (a + 0.2 * torch.rand_like(a)).clamp(0, 1).requires_grad_()
    gradient = torch.autograd.grad(ssimulacra2(a, b)[1], b)[0]
    assert not gradient[0].any()
    step = 1e-6 * torch.randn_like(a)
    up, down = (ssimulacra2(a, b.detach() + s)[1] for s in (step, -step))
    torch.testing.assert_close((gradient * step).sum(), (up - down) / 2, rtol=1e-4, atol=0)
