"""How many threads there are; and the same bytes from many of them, after a fork, and in pools of processes."""

import os
import subprocess
import sys

import numpy as np
import pytest

import ncodec
from ncodec import threads
from ncodec.errors import InputError


@pytest.fixture(autouse=True)
def not_chosen(monkeypatch):
    monkeypatch.setattr(threads, "_chosen", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3),
        ("5,2", 5),
        (" 4 ", 4),
        ("", None),
        ("0", None),
        ("-2", None),
        ("all", None),
        ("9" * 30, 1024),
    ],
)
def test_environment(text, expected, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert ncodec.get_num_threads() == (expected or threads.cores())
    for n, used in ((7, 7), (np.int64(3), 3), (2**40, 1024)):
        ncodec.set_num_threads(n)
        assert ncodec.get_num_threads() == used


def test_cores_of_the_process(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS")
    program = "import ncodec, os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(ncodec.get_num_threads())"
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process to cores")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"1\n"


@pytest.mark.parametrize("wrong", [0, -1, 2.5, "2", None, True])
def test_bad_numbers(wrong):
    with pytest.raises(InputError, match="threads: expected an integer of at least 1"):
        ncodec.set_num_threads(wrong)


PROGRAM = """
import hashlib, multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np

import ncodec


def digest(seed):
    blocks = np.random.default_rng(seed).integers(0, 256, (20, 25, 3))
    pixels = np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)
    data = ncodec.encode(pixels, 1 + seed, sys.argv[1])
    return hashlib.sha256(data + ncodec.decode(data, "numpy").tobytes()).hexdigest()


if __name__ == "__main__":
    ncodec.set_num_threads(3)  # a call; spawned processes have OMP_NUM_THREADS
    seeds = range(4)
    with ThreadPoolExecutor(4) as pool:  # the first calls of this process, all at once
        together = list(pool.map(digest, seeds))
    assert together == [digest(seed) for seed in seeds], "threads"
    for seed in seeds:
        child = os.fork()
        if child == 0:
            os._exit(digest(seed) != together[seed])
        assert os.waitpid(child, 0)[1] == 0, "fork"
    for way in ("fork", "spawn", "forkserver"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(way)) as pool:
            assert list(pool.map(digest, seeds)) == together, way
"""


MODELS = [entry.name for entry in ncodec.list_models()]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")
@pytest.mark.parametrize("model", MODELS)
def test_same_bytes_whoever_works(model, tmp_path):
    """Worker threads that a fork does not take along would leave the child waiting for ever."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "program.py", model]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
