"""Independent pieces of work on many processes of this machine, or on many machines with Ray.

    run_all(work, items, "local", jobs=2)   one process a job; one that dies loses only its piece
    run_all(work, items, "ray", jobs=0)     the cluster of RAY_ADDRESS, or one started here

`work` is a function of a module, `items` hold all that it needs (bytes, not names of files), so that
the machines need not share a disk. Both engines give the same results, each as soon as it is there.
"""

import os
import platform
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from ncodec.errors import InputError, NcodecError
from ncodec.threads import cores

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome = tuple[int, Result | NcodecError]  # number of the item, and what came of it

ENGINES = ("local", "ray")


def run_all(
    work: Callable[[Item], Result], items: Iterable[Item], engine: str = "local", jobs: int = 1
) -> Iterator[Outcome[Result]]:
    """Yield (number of the item, result or the NcodecError it ended in), in the order of completion.

    Every process works on one thread. Items are taken as they are needed.

    Args:
        work: a function of a module; an exception other than NcodecError is a bug and ends its process.
        items: picklable.
        engine: "local" or "ray".
        jobs: pieces in progress at once; 0: one a core of this process or of the cluster.

    Raises:
        InputError: no such engine, Ray is not installed, or `jobs` is negative.
    """
    if jobs < 0:
        raise InputError(f"jobs: expected 0 or more, found {jobs}")
    if engine == "local":
        return _run_local(work, items, jobs or cores())
    if engine == "ray":
        return _run_ray(work, items, jobs)
    raise InputError(f"engine: expected one of {', '.join(ENGINES)}, found {engine!r}")


def cpu_name() -> str:
    """Return the processor's name, as well as this system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def attempt(work: Callable[[Item], Result], item: Item) -> Result | NcodecError:
    """Return the result, or the NcodecError it ended in: returned, it travels between processes."""
    try:
        return work(item)
    except NcodecError as error:
        return error


def _attempt_in(folder: str, work: Callable[[Item], Result], item: Item) -> Result | NcodecError:
    """Attempt it in a folder, where that exists, so that relative names mean what they meant."""
    if os.path.isdir(folder):
        os.chdir(folder)
    return attempt(work, item)


def serve(handle: int) -> None:
    """Work on what comes through a socket: first the function, then items. Runs in a process of its own."""
    connection = Connection(handle)
    work = connection.recv()
    while True:
        try:
            item = connection.recv()
            connection.send(attempt(work, item))
        except (EOFError, OSError):
            return  # who asked is gone


class _Process:
    """A process that works on one item at a time, on one thread, and is replaced if it dies.

    Not a multiprocessing.Process: that would run the caller's script again, unless it guards itself.
    """

    def __init__(self, work: Callable[[Item], Result]) -> None:
        self._work = work
        self._connection: Any = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # `close` comes from another thread than `_start`
        self._is_closed = False

    def _start(self) -> None:
        with self._lock:
            if self._is_closed:
                raise EOFError
            ours, theirs = socket.socketpair()
            with theirs:
                handle = theirs.fileno()
                # Our own path, not the current folder's: what lies there must not be imported.
                program = f"import sys; sys.path[:] = {sys.path!r}; from ncodec.parallel import serve; serve({handle})"
                self._process = subprocess.Popen(
                    [sys.executable, "-c", program],
                    pass_fds=[handle],
                    env=os.environ | {"OMP_NUM_THREADS": "1"},
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # so that `_end` reaches the programs it runs, too
                )
        self._connection = Connection(ours.detach())
        self._connection.send(self._work)

    def __call__(self, item: Any) -> Any:
        try:
            if self._process is None:
                self._start()
            self._connection.send(item)
            return self._connection.recv()
        except (EOFError, OSError):
            code = self._end(patience_s=2)
            return InputError(f"the process died, code {code} (a crash, or out of memory)")

    def _end(self, patience_s: float = 0) -> int | None:
        """End it and the programs it runs; return its exit code, if it ended by itself in that time."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return None
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def close(self) -> None:
        """End it, whatever it is doing."""
        self._is_closed = True
        self._end()


def _run_local(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[Outcome[Result]]:
    """One thread a job feeds a process of its own, so that a process that dies names its item."""
    numbered = enumerate(items)
    lock = threading.Lock()
    outcomes: queue.Queue[Any] = queue.Queue(jobs)  # full: no new items until these are taken
    processes = [_Process(work) for _ in range(jobs)]
    stopped = threading.Event()

    def feed(process: _Process) -> None:
        try:
            while not stopped.is_set():
                with lock:
                    new = next(numbered, None)
                if new is None:
                    return
                outcomes.put((new[0], process(new[1])))
        except BaseException as error:
            outcomes.put(error)
        finally:
            outcomes.put(None)

    for process in processes:
        threading.Thread(target=feed, args=(process,), daemon=True).start()
    running = jobs
    try:
        while running:
            outcome = outcomes.get()
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is None:
                running -= 1
            else:
                yield outcome
    finally:
        stopped.set()
        for process in processes:
            process.close()
        while running:
            running -= outcomes.get() is None


def _run_ray(
    work: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Iterator[Outcome[Result]]:
    try:
        import ray
    except ImportError as error:
        raise InputError("engine ray needs Ray: pip install 'ncodec[ray]'") from error

    started_here = not ray.is_initialized()
    if started_here:
        address = os.environ.get("RAY_ADDRESS")
        cores = None if address else jobs or None
        folder = Path.cwd()
        try:
            os.chdir("/")  # Ray's workers import from the folder it was started in
            ray.init(address=address, log_to_driver=False, num_cpus=cores)
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            raise InputError(f"engine ray, cluster {address or 'here'}: {error}") from error
        finally:
            os.chdir(folder)
    try:
        one_thread = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        remote: Any = ray.remote(num_cpus=1, max_retries=0, runtime_env=one_thread)(_attempt_in)
        limit = jobs or int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        shared = ray.put(work)
        numbered = enumerate(items)
        running: dict[Any, int] = {}
        while True:
            while len(running) < limit and (new := next(numbered, None)) is not None:
                running[remote.remote(str(Path.cwd()), shared, new[1])] = new[0]
            if not running:
                return
            (done,), _ = ray.wait(list(running))
            number = running.pop(done)
            try:
                yield number, ray.get(done)
            except ray.exceptions.RayError as error:
                reason = str(error).strip().splitlines()[-1]
                yield number, InputError(f"Ray's worker failed: {type(error).__name__}: {reason}")
    finally:
        if started_here:
            ray.shutdown()
