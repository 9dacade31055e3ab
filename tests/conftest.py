"""Shared fixtures: the bundled photograph, the shipped models."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from ncodec.dct.parameters import Tensors, Tuning
from ncodec.models.weights import find_by_name
from ncodec.training.dct.visual import Knobs

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # of the processes that tests start, and of these, two side by side
torch.set_num_threads(1)

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # ahead of whoever imports Triton first

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "kodak_eval" / "kodim23.png"


@cache
def tuned_dct() -> tuple[Tensors, Tuning]:
    """Weights of family dct whose encoder is tuned for eyes, more than those that ship."""
    sensitivity = np.tile([1, 1.5, 1.5, 1, 0.5, -0.5, -1.5], (3, 1))
    start = load_file(find_by_name("dct", "psnr"))
    return Knobs(offset_slope=0.4).apply(start, sensitivity)


@pytest.fixture(scope="session")
def sample() -> np.ndarray:
    """The bundled Kodak photograph, [512, 768, 3] uint8."""
    return np.asarray(Image.open(SAMPLE))


@pytest.fixture(scope="session")
def crop(sample: np.ndarray) -> np.ndarray:
    """A piece of it with odd sides, [135, 201, 3]."""
    return sample[150:285, 300:501].copy()
