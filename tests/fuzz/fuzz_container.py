"""ncodec.container.read on any bytes: an error about the file, or a Container that survives writing and reading.

What is left of damaged files has the layout that their header says; of sound ones it is all of them.

Run by `python tests/fuzz/run.py --only container`; the mutator repairs checksums (structure.py).
"""

import random

from fuzz import structure

from ncodec import container
from ncodec.container import Limits
from ncodec.errors import FormatError, LimitError

LIMITS = Limits(tiles=256, metadata_bytes=1024, chunks=300)  # low enough for inputs to reach them
MAX_LEN = 4096


def check(data: bytes) -> bool:
    """Return whether the file is accepted.

    Raises:
        AssertionError, anything but an error about the file: a bug.
    """
    try:
        parsed = container.read(data, LIMITS)
    except (FormatError, LimitError) as error:  # InputError blames the caller
        assert str(error), "an error says what is wrong"
        _left_of(data)
        return False
    assert _left_of(data) == parsed and not parsed.lost, "a sound file needs no concealing"
    header = parsed.header
    assert len(parsed.tiles) == header.n_tiles == len(header.tile_boxes()) <= LIMITS.tiles
    assert (
        header.width * header.height <= header.coded_pixels <= LIMITS.pixels
        and 1 <= header.quality <= 8
    )
    written = container.write(parsed, LIMITS)
    again = container.read(written, LIMITS)
    # An empty metadata chunk is read as such but never written.
    kept = {name: payload for name, payload in parsed.metadata.items() if payload}
    assert again == container.Container(header, parsed.tiles, kept)
    assert container.write(again, LIMITS) == written
    return True


def _left_of(data: bytes) -> container.Container | None:
    """Return what is left of a file, None where that is nothing."""
    try:
        parsed = container.read(data, LIMITS, conceal=True)
    except (FormatError, LimitError):
        return None
    header = parsed.header
    assert len(parsed.payloads) == header.n_payloads > parsed.lost
    assert parsed.skipped_bytes < len(data)
    first = container.read(data, LIMITS, 1, True) if None not in parsed.payloads else parsed
    assert [parts[0] for parts in first.tiles] == [parts[0] for parts in parsed.tiles]
    return parsed


def mutate(data: bytes, size: int, seed: int, change: structure.Change | None = None) -> bytes:
    """Return a changed file of at most `size` bytes; `change` is atheris.Mutate while fuzzing."""
    rng = random.Random(seed)
    return structure.mutate_file(data, size, rng, change or structure.havoc(rng))
