"""What the default limits are worth: decoding takes no more memory than `check_memory` counts."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ncodec
from ncodec import container
from ncodec.families import FAMILIES
from ncodec.models.load import load_by_name

WIDTH, HEIGHT = 1008, 512
MODELS = [model.name for model in ncodec.list_models()]
# Decodes the second file where no more than so many bytes can be allocated beyond what the first took.
PROGRAM = """
import resource, sys, threading, ncodec
threading.stack_size(1 << 20)
one, large = (open(path, "rb").read() for path in sys.argv[1:3])
ncodec.decode(one, device="cpu")
lines = open("/proc/self/status").read().splitlines()
allocated = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (allocated + int(sys.argv[3]),) * 2)
ncodec.decode(large, device="cpu", limits=ncodec.Limits(memory_bytes=int(sys.argv[4])))
"""


def decodes_within(
    folder: Path, model: str, data: bytes, size: int, limit: int = 4 << 30, threads: int = 1
) -> bool:
    """Return whether decoding takes no more bytes beyond the model and a pixel, in a process of its own."""
    quality = None if model == "lossless" else 1
    one = ncodec.encode(np.zeros((1, 1, 3), np.uint8), quality, model)
    (folder / "one.nc").write_bytes(one)
    (folder / "large.nc").write_bytes(data)
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", "one.nc", "large.nc", str(size), str(limit)]
    # Large blocks by mmap: what glibc keeps of those that it takes from its heap is a matter of luck.
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0 or "alloc" in done.stderr.lower(), done.stderr
    return done.returncode == 0


def counted(data: bytes) -> int:
    """Return the least `memory_bytes` with which a file is decoded."""
    header = container.peek_header(data)
    family = next(f for f in FAMILIES if f.wire_id == header.family)
    tile = header.largest_tile(family.stride) * family.bytes_a_pixel
    return container.memory_of_image(header) + tile


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")
@pytest.mark.parametrize("model", MODELS)
def test_memory(tmp_path, model, sample):
    pixels = np.tile(sample, (1, 2, 1))[:HEIGHT, :WIDTH]
    data = ncodec.encode(pixels, 8, model, device="cpu", tile=0)
    assert decodes_within(tmp_path, model, data, counted(data))
    assert not decodes_within(tmp_path, model, data, WIDTH * HEIGHT * 3)  # the pixels alone


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("model", "height", "width", "tile", "overlap"),
    [("dct", 1200, 1200, 400, 400), ("hyperprior-s", 768, 768, 256, 256), ("hyperprior-s", 1, 16_384, 0, 0),
     ("fsq-s", 768, 768, 256, 256), ("masked-s", 768, 768, 256, 256),
     *[("ftic-s", 768, 768, 256, 256)] * ("ftic-s" in MODELS)],
)  # fmt: skip
def test_memory_of_tiles(tmp_path, model, height, width, tile, overlap):
    """Overlaps as wide as the tiles, all of which could be decoded together; sides of a pixel."""
    whole = ncodec.encode(np.zeros((height, width, 3), np.uint8), 4, model, device="cpu", tile=tile)
    header = replace(container.read(whole).header, overlap=overlap)
    loaded = load_by_name(model, "cpu")
    options = loaded.family.load().Options()
    tiles = [
        loaded.codec.encode_tile(np.zeros((bottom - top, right - left, 3), np.uint8), 60, options)
        for left, top, right, bottom in header.tile_boxes()
    ]
    data = container.write(container.Container(header, tiles))
    limit = max(counted(data), 4 << 20)  # what Python and torch take for themselves
    assert decodes_within(tmp_path, model, data, limit, limit)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")
@pytest.mark.parametrize("model", ["dct", "lossless"])
def test_memory_of_tiles_at_once(tmp_path, model):
    """On four threads as many tiles as there is memory for: two, three."""
    data = ncodec.encode(np.zeros((1024, 4096, 3), np.uint8), model=model, effort=1, tile=1024)
    header = container.peek_header(data)
    family = next(f for f in FAMILIES if f.wire_id == header.family)
    tile = header.largest_tile(family.stride) * family.bytes_a_pixel
    for n in (2, 3):
        limit = counted(data) + (n - 1) * tile
        size = limit + (4 << 20)  # what Python takes for itself, and the threads' stacks
        assert decodes_within(tmp_path, model, data, size, limit, threads=4)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's /proc")
@pytest.mark.parametrize("kind", ["rgba16", "palette", "strip"])
def test_memory_of_lossless(tmp_path, kind, sample):
    """Four channels of 16 bits; many colours that repeat; a row of pixels."""
    if kind == "rgba16":
        pixels = np.dstack([sample, sample[:, :, :1]])[:400, :400].astype(np.uint16) * 257
    elif kind == "palette":
        pixels = (sample[:256, :256] // 24 * 24).repeat(2, 0).repeat(2, 1)
    else:
        pixels = np.tile(sample[:1], (1, 20, 1))[:, :16_000]
    data = ncodec.encode(pixels, lossless=True, effort=1, exact=True, tile=0)
    header = container.peek_header(data)
    limit = max(counted(data), 4 << 20)
    assert header.has_alpha == (kind == "rgba16")
    assert decodes_within(tmp_path, "lossless", data, limit, limit)
