"""How many threads there may be: one number for the process; and work on several. No result depends on it."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from numbers import Integral
from typing import Any, TypeVar

from ncodec.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST = 1024  # threads that are worth having
_chosen: int | None = None


def set_num_threads(n: int) -> None:
    """Let tiles, coders and networks use at most n threads, whatever OMP_NUM_THREADS says.

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


def side_by_side(
    work: Callable[[Item], Result], items: Sequence[Item], most: int
) -> Iterator[Result]:
    """Yield what work makes of items, in their order; an error, too, comes when it is its item's turn.

    Args:
        work: called on threads of the pool, unless there is one only: then on the caller's.
        items: taken as they are needed.
        most: items that are begun and not yielded.
    """
    n_threads = min(get_num_threads(), most, len(items))
    if n_threads <= 1:
        yield from map(work, items)
        return
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    pool = ThreadPoolExecutor(n_threads)
    begun: deque[Any] = deque()
    try:
        for item in items:
            if len(begun) == most:
                yield begun.popleft().result()
            begun.append(pool.submit(work, item))
        while begun:
            yield begun.popleft().result()
    finally:  # of an error or Ctrl-C: what has not started never does
        pool.shutdown(cancel_futures=True)
