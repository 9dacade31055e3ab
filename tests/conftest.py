"""Shared fixtures: the bundled photograph, the shipped models."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # of the processes that tests start, and of these, two side by side
torch.set_num_threads(1)

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
