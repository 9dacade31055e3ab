"""Many processes, or Ray: the same results, and one bad piece loses only itself."""

import os
import signal

import pytest

from ncodec.errors import InputError
from ncodec.parallel import run_all


def work(item: int) -> int:
    """Square; 3 is bad input, 5 kills its process."""
    if item == 3:
        raise InputError("three")
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def threads(_: int) -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("jobs", [1, 2])
def test_local(jobs):
    outcomes = dict(run_all(work, iter(range(8)), "local", jobs))
    assert sorted(outcomes) == list(range(8))
    assert {n: r for n, r in outcomes.items() if n not in (3, 5)} == {
        n: n * n for n in (0, 1, 2, 4, 6, 7)
    }
    assert isinstance(outcomes[3], InputError) and str(outcomes[3]) == "three"
    assert isinstance(outcomes[5], InputError) and "died" in str(outcomes[5])


def test_processes_work_on_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert dict(run_all(threads, [0])) == {0: "1"}
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_items_are_taken_as_needed():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number * 10

    outcomes = run_all(work, items(), "local", 1)
    next(outcomes)
    outcomes.close()
    assert len(taken) < 20


def test_an_error_among_the_items_is_raised():
    def items():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(run_all(work, items(), "local", 2))


def test_bad_arguments():
    with pytest.raises(InputError, match=r"local, ray.*'slurm'"):
        run_all(work, [1], "slurm")
    with pytest.raises(InputError, match="-1"):
        run_all(work, [1], "local", -1)
