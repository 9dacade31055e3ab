"""Files read where they are looked at, and written whole or not at all."""

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeGuard

from ncodec.bytestream import Bytes
from ncodec.errors import InputError

Source = Bytes | str | os.PathLike[str] | IO[bytes]

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


def is_source(thing: Any) -> TypeGuard[Source]:
    """Return whether a thing is bytes, a path or an open file."""
    return isinstance(thing, (Bytes, str, os.PathLike)) or hasattr(thing, "read")


@contextmanager
def reading(source: Source) -> Iterator[Bytes]:
    """Give the bytes of a file: themselves, or of a path or open file, which are read where they are looked at.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    if not is_source(source):
        raise InputError(
            f"data: expected bytes, a path or an open file, found {type(source).__name__}"
        )
    if isinstance(source, Bytes):
        yield source
        return
    try:
        if not isinstance(source, (str, os.PathLike)):
            yield source.read()
            return
        with open(source, "rb") as file:
            if not os.fstat(file.fileno()).st_size:
                yield b""
                return
            try:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError):  # a pipe
                yield file.read()
                return
            with mapped:
                yield mapped
    except OSError as error:
        raise InputError(f"{source}: {error.strerror or error}") from error
