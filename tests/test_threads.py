"""How many threads there are; tiles side by side; the same bytes from many threads, after a fork, and in pools of processes."""

import os
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest

import ncodec
from ncodec import codec, container, threads
from ncodec.codec import decode_picture, encode_picture
from ncodec.container import Header, Limits
from ncodec.errors import CorruptPayloadError, InputError, TruncatedError
from ncodec.families import FAMILIES
from ncodec.image import Picture
from ncodec.models.load import load_by_name
from ncodec.threads import side_by_side


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


def test_side_by_side():
    """In order, several at once, no more ahead than asked; alone on the caller's thread."""
    ncodec.set_num_threads(2)
    meeting, begun, seen = threading.Barrier(2, timeout=60), [], []

    def work(n):
        begun.append(n)
        meeting.wait()
        return -n

    for n, result in enumerate(side_by_side(work, range(8), 3)):
        seen.append(result)
        assert len(begun) <= n + 3
    assert seen == [-n for n in range(8)]
    assert list(side_by_side(work, [], 3)) == []
    for n_threads, most, items in ((1, 9, "abc"), (9, 1, "abc"), (9, 9, "a")):
        ncodec.set_num_threads(n_threads)
        found = list(side_by_side(lambda _: threading.current_thread(), items, most))
        assert set(found) == {threading.current_thread()}


@pytest.mark.parametrize("wrong", [ValueError, KeyboardInterrupt])
def test_the_first_error_ends_it(wrong):
    """Errors come in the order of their items, and what has not started never does."""
    ncodec.set_num_threads(2)
    n_threads, begun, failed = threading.active_count(), [], threading.Event()

    def work(n):
        begun.append(n)
        if n == 1:
            assert failed.wait(60)
        if n == 2:
            failed.set()
        if n:
            raise wrong(n)

    with pytest.raises(wrong, match="1"):
        list(side_by_side(work, range(100), 4))
    assert len(begun) <= 5 and threading.active_count() == n_threads
    begun.clear()
    some = side_by_side(begun.append, range(100), 4)
    next(some)
    some.close()  # as Ctrl-C does
    assert len(begun) <= 4 and threading.active_count() == n_threads


@pytest.fixture
def pairs(monkeypatch):
    """Make tiles of dct and of lossless wait for another one that is begun at the same time."""

    def meet(model):
        kind = type(load_by_name(model).codec)
        for name in ("encode_tile", "decode_tiles"):
            meeting, real = threading.Barrier(2, timeout=60), getattr(kind, name)

            def waiting(*given, meeting=meeting, real=real):
                meeting.wait()
                return real(*given)

            monkeypatch.setattr(kind, name, waiting)

    return meet


@pytest.mark.parametrize("model", ["dct", "lossless"])
def test_tiles_side_by_side(model, sample, pairs):
    """The same bytes and pixels, told of in order and on the caller's thread; tiles of several rows at once."""
    pixels, seen = sample[:100, :64], []

    def progress(*done):
        assert threading.current_thread() is threading.main_thread()
        seen.append(done)

    ncodec.set_num_threads(1)
    data = ncodec.encode(sample[:200, :300], model=model, tile=64)
    ways = ({}, {"region": (70, 10, 150, 150)}, {"scale": 1 / 2})
    alone = [ncodec.decode(data, "numpy", **way) for way in ways]
    column = encode_picture(Picture(pixels), model=model, tile=64)
    small = [ncodec.encode(sample[:n, :n], model=model) for n in (9, 10, 11, 12)]
    singles = [ncodec.decode(file, "numpy") for file in small]
    ncodec.set_num_threads(3)
    assert ncodec.encode(sample[:200, :300], model=model, tile=64) == data
    for way, expected in zip(ways, alone, strict=True):
        assert np.array_equal(ncodec.decode(data, "numpy", **way), expected)
    pairs(model)
    ncodec.set_num_threads(2)
    assert encode_picture(Picture(pixels), model=model, tile=64, progress=progress) == column
    decode_picture(column, progress=progress)
    assert seen == [(1, 2), (2, 2)] * 2
    batch = ncodec.decode_batch(small, "numpy")  # of four sizes
    assert all(np.array_equal(a, b) for a, b in zip(batch, singles, strict=True))


@pytest.mark.parametrize("alpha_quality", [None, 3])
def test_alpha_side_by_side(sample, alpha_quality):
    rgba = np.dstack([sample[:150, :200], sample[:150, 100:300, :1]])
    found = set()
    for n in (1, 3):
        ncodec.set_num_threads(n)
        data = ncodec.encode(rgba, 3, tile=64, alpha_quality=alpha_quality)
        found.add((data, ncodec.decode(data, "numpy").tobytes()))
    assert len(found) == 1


def test_the_first_tile_that_fails_is_named(sample):
    parsed = container.read(ncodec.encode(sample[:200, :300], 4, tile=64))
    tiles = [[[part + b"\1"]] if n == 7 else [[part]] for n, ((part,),) in enumerate(parsed.tiles)]
    cases = [(container.write(replace(parsed, tiles=tiles)), CorruptPayloadError)]
    tiles[5] = [[b""]]
    cases.append((container.write(replace(parsed, tiles=tiles)), TruncatedError))
    for data, error in cases:
        for n in (1, 2, 8):
            ncodec.set_num_threads(n)
            with pytest.raises(error, match=r"^section 'dct'"):
                ncodec.decode(data)
            with pytest.raises(error, match=r"^file 1: section 'dct'"):
                ncodec.decode_batch([ncodec.encode(sample[:9, :9], 4), data])


def test_memory_of_tiles_at_once():
    """As many as fit beside the pictures, of colour and alpha each; not more than twice the threads; at least one."""
    dct, lossless = (next(f for f in FAMILIES if f.name == name) for name in ("dct", "lossless"))
    colour = Header(1000, 1000, dct.wire_id, bytes(8), 0, tile=256)
    alpha = Header(1000, 1000, lossless.wire_id, bytes(8), 0, is_grey=True, tile=256)
    tile = 256 * 256 * dct.bytes_a_pixel, 256 * 256 * lossless.bytes_a_pixel
    held = container.memory_of_image(colour), container.memory_of_image(alpha)
    ncodec.set_num_threads(4)
    for headers, n in (([colour], 1), ([colour, alpha], 2)):
        for at_once in (1, 2, 5, 8):
            memory = sum(held[:n]) + at_once * sum(tile[:n])
            assert codec._at_once(headers, Limits(memory_bytes=memory)) == at_once
            assert codec._at_once(headers, Limits(memory_bytes=memory - 1)) == max(at_once - 1, 1)
        assert codec._at_once(headers, Limits()) == 8
        assert codec._at_once(headers, Limits(memory_bytes=0)) == 1


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
