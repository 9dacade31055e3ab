"""Files written whole or not at all."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

WRITE_BITS = 0o222


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename.

    A link stays a link, and a file that was there keeps its mode. Where the folder takes no new files but
    the file itself may be written, it is written in place, and restored if that fails (not if the process is killed).

    Raises:
        OSError: it cannot be written, or is read-only; what was there is as it was.
    """
    path = path.resolve()
    is_there = path.exists()
    # A rename asks for the folder's permission only, and root has every permission: so the mode decides.
    if is_there and not (path.stat().st_mode & WRITE_BITS and os.access(path, os.W_OK)):
        raise PermissionError(errno.EACCES, "the file is read-only", str(path))
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".ncodec-", suffix=".tmp")
    except PermissionError:
        if not is_there:
            raise
        _write_in_place(path, data)
        return
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, path.stat().st_mode if is_there else 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _write_in_place(path: Path, data: bytes) -> None:
    """Replace a file's content; what was in it is kept in memory meanwhile, and put back if that fails."""
    with open(path, "r+b", buffering=0) as file:
        before = file.read()
        try:
            _replace_content(file.fileno(), data)
        except BaseException:
            _replace_content(file.fileno(), before)
            raise


def _replace_content(handle: int, data: bytes) -> None:
    os.lseek(handle, 0, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.ftruncate(handle, len(data))
