"""What a run goes on from: a state in files of at most 16 MiB, easy to carry away, replaced as a whole.

    state --torch.save--> bytes --> checkpoint-00-of-07-1a2b3c4d.pt ...    one a shard, named by what it holds
                                --> checkpoint.json                        {name: SHA-256} in order, renamed into place last

Until checkpoint.json names the new shards, the old ones are all there; only then are they deleted.
"""

import hashlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from ncodec.errors import InputError
from ncodec.files import write_whole

SHARD_BYTES = 16 << 20
MANIFEST = "checkpoint.json"
KEYS = {"model", "ema", "optimizer", "config", "budget", "step", "elapsed_s", "skipped"}


def write_checkpoint(manifest: Path, state: dict[str, Any]) -> None:
    """Write a state; the old one stays whole until the new one is.

    Args:
        manifest: RUN/checkpoint.json; the shards lie beside it.
        state: tensors and plain values.

    Raises:
        InputError: it cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data, old = buffer.getbuffer(), _shards_beside(manifest)
    count = -(-len(data) // SHARD_BYTES)
    shards: dict[str, str] = {}
    try:
        for i in range(count):
            shard = bytes(data[i * SHARD_BYTES : (i + 1) * SHARD_BYTES])
            digest = hashlib.sha256(shard).hexdigest()
            name = f"{manifest.stem}-{i:02}-of-{count:02}-{digest[:8]}.pt"
            shards[name] = digest
            write_whole(manifest.parent / name, shard)
        write_whole(manifest, (json.dumps(shards, indent=1) + "\n").encode())
    except OSError as error:
        _delete(manifest.parent / name for name in shards.keys() - {path.name for path in old})
        raise InputError(f"{manifest}: cannot write ({error.strerror})") from error
    _delete(path for path in old if path.name not in shards)


def read_checkpoint(manifest: Path, device: torch.device) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote.

    Raises:
        InputError: the files are not that, or a shard is missing or damaged.
    """
    try:
        shards = dict(json.loads(manifest.read_text()))
        data = b"".join(_read_shard(manifest, *shard) for shard in shards.items())
        state: dict[str, Any] = torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        missing = KEYS - state.keys()
    except InputError:
        raise
    except Exception as error:  # torch.load raises anything on what it did not write
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{manifest}: not a checkpoint of ncodec train ({reason})") from error
    if missing:
        raise InputError(f"{manifest}: not a checkpoint of ncodec train (without {', '.join(missing)})")  # fmt: skip
    return state


def _read_shard(manifest: Path, name: str, expected: str) -> bytes:
    path = manifest.parent / Path(name).name
    if not path.is_file():
        raise InputError(f"{path}: missing; {manifest} names it")
    data = path.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        raise InputError(f"{path}: damaged: expected SHA-256 {expected}, found {found}")
    return data


def _shards_beside(manifest: Path) -> list[Path]:
    return list(manifest.parent.glob(f"{manifest.stem}-*-of-*.pt"))


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
