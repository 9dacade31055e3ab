"""Many files, one after the other or on many processes: what is done, what is printed, what the exit code is.

    items --read--> bytes --work, here or on other processes--> bytes, report --write--> lines or a bar

A file that cannot be done is named on standard error and the others go on.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ncodec.cli.files import Item, read_bytes, shown, write_output

from ncodec.errors import FormatError, InputError, LimitError, ModelError, NcodecError

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

EXIT_CODES = ((FormatError, 3), (LimitError, 4), (ModelError, 5), (InputError, 6))
INTERRUPTED = 130
FEW = 10  # files: so many have a line each, even beside a bar


class Report(NamedTuple):
    """What came of a file, for programs and for people."""

    facts: dict[str, Any]
    text: str


Work = Callable[..., tuple[bytes, Report]]  # from the input's name and bytes, and maybe `progress`
Outcome = Report | NcodecError
Progress = Callable[[int, int], None]  # told how many tiles are done, and of how many
Task = tuple[str, bytes | NcodecError]  # an input's name and bytes, or why there are none
Result = TypeVar("Result")


def no_progress(done: int, total: int) -> None:
    """Tell nobody."""


def exit_code(error: NcodecError) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def print_aside(text: str) -> None:
    """Print on standard error; nowhere if that is closed, least of all among the data on standard output."""
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def print_error(error: NcodecError) -> None:
    """Print what an error says, on standard error."""
    print_aside(prefixed(error))


def prefixed(error: NcodecError) -> str:
    """Return what an error says, line by line as the command's."""
    return "\n".join(f"ncodec: {line}" for line in str(error).splitlines())


def run(items: list[Item], work: Work, jobs: int, engine: str, quiet: bool, as_json: bool) -> None:
    """Work on files and write what comes of them; print a line each, or a bar.

    Args:
        items: what to read and where to write.
        work: a function of a module, or a partial of one, so that it can go to another process; of a single file it is
            told whom to tell of its progress.
        jobs: pieces in progress at once; 0: one a core.
        engine: "local" or "ray".
        quiet: print errors only.
        as_json: print an object a line.

    Raises:
        SystemExit: some could not be done, with the largest of their codes; or it was interrupted.
    """
    has_bar = sys.stderr is not None and sys.stderr.isatty() and not quiet
    is_seen = sys.stdout is not None and sys.stdout.isatty()
    has_lines = not quiet and (as_json or not (has_bar and is_seen and len(items) > FEW))
    label = items[0].source if len(items) == 1 else ""
    begin = time.perf_counter()
    codes: list[int] = []
    n_done = n_skipped = size_bytes = 0
    try:
        with Screen(len(items), has_bar, label) as screen:
            if has_bar and len(items) == 1 and jobs == 1 and engine == "local":
                work = partial(work, progress=screen.show_tiles)
            for item, outcome in _outcomes(items, work, jobs, engine):
                if isinstance(outcome, NcodecError):
                    screen.print(prefixed(outcome), True, "red")
                    codes.append(exit_code(outcome))
                else:
                    n_skipped += item.is_skipped
                    n_done += not item.is_skipped
                    size_bytes += outcome.facts.get("size_bytes", 0)
                    notices = outcome.facts.get("notices", [])
                    if not (quiet or as_json):
                        for notice in notices:
                            place = shown(item.source)
                            screen.print(f"ncodec: {place}: note: {notice}", True)
                    if has_lines:
                        text = json.dumps(outcome.facts) if as_json else outcome.text
                        screen.print(text, item.target == "-")
                screen.advance()
    except KeyboardInterrupt:
        print_aside(f"ncodec: interrupted; {n_done} of {len(items)} done")
        raise SystemExit(INTERRUPTED) from None
    if has_bar and not has_lines:
        counts = [f"{n_done} of {len(items)} done"]
        counts += [f"{n_skipped} skipped"] * bool(n_skipped) + [f"{len(codes)} failed"] * bool(
            codes
        )
        size = f"{size_bytes} bytes, " if size_bytes else ""
        print_aside(f"{', '.join(counts)}: {size}{time.perf_counter() - begin:.1f} s")
    if codes:
        raise SystemExit(max(codes))


def _outcomes(
    items: list[Item], work: Work, jobs: int, engine: str
) -> Iterator[tuple[Item, Outcome]]:
    """Yield what came of each item; those that will not be worked on first, the others as they are done."""
    from ncodec.parallel import attempt

    todo = []
    for item in items:
        if item.trouble is not None:
            yield item, item.trouble
        elif item.is_skipped:
            facts = {"input": item.source, "output": item.target, "skipped": True}
            yield item, Report(facts, f"{item.target}: exists already, skipped")
        else:
            todo.append(item)
    tasks = ((item.source, attempt(read_bytes, item.source)) for item in todo)
    for number, result in spread(work, len(items) > 1, tasks, jobs, engine):
        item = todo[number]
        if not isinstance(result, NcodecError):
            data, report = result
            try:
                write_output(item.target, data)
                result = Report({**report.facts, "output": item.target}, report.text)
                result = result._replace(text=f"{item.target}: {report.text}")
            except NcodecError as error:
                result = error
        yield item, result


def spread(
    work: Callable[[str, bytes], Result],
    is_batch: bool,
    tasks: Iterable[Task],
    jobs: int,
    engine: str,
) -> Iterator[tuple[int, Any]]:
    """Yield (number of the task, result or NcodecError): one after the other here, or as they are done elsewhere."""
    from ncodec.parallel import attempt, run_all

    step = partial(_work_on, work, is_batch)
    if jobs == 1 and engine == "local":
        return ((number, attempt(step, task)) for number, task in enumerate(tasks))
    return run_all(step, tasks, engine, jobs)


def _work_on(work: Callable[[str, bytes], Result], is_batch: bool, task: Task) -> Result:
    """Return what `work` makes of an input. An exception that nobody foresaw must not end a batch."""
    source, read = task
    if isinstance(read, NcodecError):
        raise read
    try:
        return work(source, read)
    except NcodecError:
        raise
    except Exception as error:
        if not is_batch:
            raise
        raise InputError(f"{source}: {type(error).__name__}: {error}") from error


class Screen:
    """What is seen while files are worked on: lines on standard output; errors and a bar on standard error."""

    def __init__(self, n_items: int, has_bar: bool, label: str = "") -> None:
        self._bar = _bar(n_items) if has_bar else None
        if self._bar is not None:
            self._task = self._bar.add_task(label, total=n_items, tiles="")

    def __enter__(self) -> "Screen":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def print(self, text: str, is_aside: bool, style: str | None = None) -> None:
        """Print a line, `is_aside` on standard error; above the bar where that is on the same terminal."""
        if self._bar is not None and (is_aside or (sys.stdout is not None and sys.stdout.isatty())):
            self._bar.console.print(
                text, style=style, markup=False, highlight=False, soft_wrap=True
            )
        elif is_aside:
            print_aside(text)
        else:
            print(text, flush=True)

    def advance(self) -> None:
        """One more is done."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def show_tiles(self, done: int, total: int) -> None:
        """So many tiles of the only file are done."""
        if self._bar is not None and total > 1:
            self._bar.update(self._task, tiles=f"{done} of {total} tiles")


def _bar(n_items: int) -> "Bar":
    """Return a bar, or for a single file a sign of life, its tiles and the seconds."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    name, tiles = (
        TextColumn(f"{{task.{t}}}", markup=False) for t in ("description", "fields[tiles]")
    )
    many = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(
        *((SpinnerColumn(), name, tiles, TimeElapsedColumn()) if n_items == 1 else many),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,  # lines into a file must not end up beside the bar
        redirect_stderr=False,
    )
