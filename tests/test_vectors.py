"""Committed streams decode for ever: the same integers, pixels within 1 (tests/vectors/README.md)."""

import json

import numpy as np
import pytest
from conftest import ROOT
from make_vectors import latents_digest
from PIL import Image

import ncodec

FOLDER = ROOT / "tests" / "vectors" / "v1"
EXPECTED = json.loads((FOLDER / "vectors.json").read_text())


def test_none_is_missing():
    files = {path.stem for path in FOLDER.glob("*.nc")}
    assert files == set(EXPECTED) and len(files) >= 9


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_vector(name, device):
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    data = (FOLDER / f"{name}.nc").read_bytes()
    assert latents_digest(data, device) == EXPECTED[name]["latents_sha256"]
    with Image.open(FOLDER / f"{name}.png") as picture:
        expected = np.asarray(picture).astype(int)
    decoded = ncodec.decode(data, "numpy", device=device).astype(int)
    assert np.abs(decoded - expected).max() <= 1
