"""Files written whole or not at all."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename.

    A link stays a link, and a file that was there keeps its mode.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    path = path.resolve()
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".ncodec-", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, path.stat().st_mode if path.exists() else 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
        raise
