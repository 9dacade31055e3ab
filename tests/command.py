"""The command line, run in this process: what a test asserts is what a user sees."""

import io
import sys

from ncodec.cli.main import main


class Stream(io.TextIOWrapper):
    """A standard stream that keeps its bytes; a terminal, if it is told so."""

    def __init__(self, data=b"", is_terminal=False):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal

    def bytes(self):
        self.flush()
        return self.buffer.getvalue()


class Done:
    """What came of a command."""

    def __init__(self, code, out, err):
        self.code, self.data, self.err = code, out, err.decode()

    @property
    def out(self):
        return self.data.decode()


def ncodec(*arguments, code=0, data=b"", terminals=()):
    """Return what `ncodec ARGUMENTS` prints; it must end with `code` and without a traceback.

    Args:
        arguments: the command's.
        code: expected exit code.
        data: standard input.
        terminals: of "out" and "err", those that are terminals.
    """
    saved = sys.argv, sys.stdin, sys.stdout, sys.stderr
    out, err = (Stream(is_terminal=name in terminals) for name in ("out", "err"))
    sys.argv = ["ncodec", *map(str, arguments)]
    sys.stdin, sys.stdout, sys.stderr = Stream(data), out, err
    try:
        main()
        found = 0
    except SystemExit as end:
        found = end.code or 0
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr = saved
    done = Done(found, out.bytes(), err.bytes())
    assert found == code, (found, done.data[-500:], done.err[-2000:])
    assert "Traceback" not in done.err
    return done
