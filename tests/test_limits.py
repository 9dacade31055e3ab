"""What the default limits are worth: memory of the largest image that a file of 1 KiB may be."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import ncodec
from ncodec import container
from ncodec.container import Limits

KIBIBYTE = 1024
WIDTH, HEIGHT = 1008, 512  # 516096 pixels and 8192 for the tile: 2**19
# Prints the peak (MiB) of decoding the second file beyond that of decoding the first.
PROGRAM = """
import sys, torch, ncodec
def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))
torch.set_num_threads(1)
one, large = (open(path, "rb").read() for path in sys.argv[1:])
ncodec.decode(one, device="cpu")
open("/proc/self/clear_refs", "w").write("5")  # VmHWM starts again
before = status("VmRSS")
ncodec.decode(large, device="cpu")
print(status("VmHWM") - before)
"""


def decode_peak(folder: Path, data: bytes) -> float:
    """Return MiB that decoding takes beyond the model and a pixel, in a process of its own."""
    one = ROOT / "tests" / "vectors" / "v1" / "one-pixel-f368b6a6.nc"
    (folder / "large.nc").write_bytes(data)
    (folder / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, folder / "program.py", one, folder / "large.nc"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
def test_memory_of_a_kibibyte(tmp_path):
    """A black image that declares what 1 KiB may. That it is itself larger makes no difference."""
    data = ncodec.encode(np.zeros((HEIGHT, WIDTH, 3), np.uint8), 1, device="cpu", tile=0)
    header = container.read(data).header
    assert container.bytes_needed(header, Limits()) == KIBIBYTE
    peak = decode_peak(tmp_path, data)
    assert 8 < peak < 64  # the pixels and their latents alone are 8 MiB
