"""How many threads the C++ may use: one number for the process. No result depends on it."""

import os
from numbers import Integral

from ncodec.errors import InputError

MOST = 1024  # threads that are worth having
_chosen: int | None = None


def set_num_threads(n: int) -> None:
    """Let coders and networks use at most n threads, whatever OMP_NUM_THREADS says.

    Raises:
        InputError: n is not an integer of at least 1.
    """
    global _chosen
    if not isinstance(n, Integral) or isinstance(n, bool) or n < 1:
        raise InputError(f"threads: expected an integer of at least 1, found {n!r}")
    _chosen = min(int(n), MOST)


def get_num_threads() -> int:
    """Return what was set last, else the first number of OMP_NUM_THREADS, else `cores()`."""
    if _chosen is not None:
        return _chosen
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(int(first), MOST) if first.isdecimal() and int(first) else cores()


def cores() -> int:
    """Return how many of the machine's cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
