"""Shared fixtures: the bundled photograph, the shipped models."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # ahead of whoever imports Triton first

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "kodak_eval" / "kodim23.png"


@pytest.fixture(scope="session")
def sample() -> np.ndarray:
    """The bundled Kodak photograph, [512, 768, 3] uint8."""
    return np.asarray(Image.open(SAMPLE))


@pytest.fixture(scope="session")
def crop(sample: np.ndarray) -> np.ndarray:
    """A piece of it with odd sides, [135, 201, 3]."""
    return sample[150:285, 300:501].copy()
