"""A `.nc` file taken apart for mutation, and put together again with every length and CRC-32C right.

    bytes -> Parts(signature, fields, chunks) -> mutate -> bytes that pass the checksums

Lenient where the container is strict: fields are kept as bytes, so a file that breaks a rule keeps
breaking it. No fuzzer is needed here: `havoc` stands in for atheris.Mutate in the tests.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from ncodec.bytestream import varint
from ncodec.container import SIGNATURE
from ncodec.entropy import crc32c

Change = Callable[[bytes, int], bytes]  # of some bytes, to at most so many
KINDS = [b"TILE", b"ALPH", b"iCCP", b"eXIF", b"xMPm", b"cICP", b"pHYs", b"abcD", b"ABCD", b"tIL3"]
NUMBERS = [0, 1, 2, 63, 64, 65, 127, 128, 255, 256, 2048, 16_383, 65_535, 65_536, 2**28, 2**32 - 1, 2**35 - 1]  # fmt: skip
FIELDS = [
    "flags",
    "width",
    "height",
    "family",
    "digest",
    "quality",
    "format",
    "tile",
    "overlap",
    "layers",
    "ranges",
]


@dataclass
class Parts:
    """A file's parts; `fields` by name, as their bytes."""

    signature: bytes
    fields: dict[str, bytes]
    chunks: list[tuple[bytes, bytes]]
    rest: bytes = b""


def take_varint(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the bytes of a varint (six at most) and their end; whole or not."""
    end = at
    while end < len(data) and end - at < 6:
        end += 1
        if data[end - 1] < 0x80:
            break
    return data[at:end], end


def varint_value(data: bytes) -> int:
    """Return the number that `take_varint`'s bytes stand for."""
    return sum((byte & 0x7F) << 7 * i for i, byte in enumerate(data))


def take_apart(data: bytes) -> Parts | None:
    """Return the parts of a file, or None where there is no header to speak of."""
    if len(data) < 22:
        return None
    fields, at = {"flags": data[8:9]}, 9
    for name in ("width", "height", "family"):
        fields[name], at = take_varint(data, at)
    fields["digest"], fields["quality"], at = data[at : at + 8], data[at + 8 : at + 9], at + 9
    if fields["flags"][0] & 16:
        fields["format"], at = data[at : at + 1], at + 1
    if fields["flags"][0] & 2:
        for name in ("tile", "overlap"):
            fields[name], at = take_varint(data, at)
    if fields["flags"][0] & 4:
        for name in ("layers", "ranges"):
            fields[name], at = take_varint(data, at)
    at += 4
    chunks = []
    while at + 5 <= len(data):
        length, start = take_varint(data, at + 4)
        end = start + varint_value(length)
        if end > len(data):
            break
        chunks.append((data[at : at + 4], data[start:end]))
        at = end + 4
    return Parts(data[:8], fields, chunks, data[at:])


def put_together(parts: Parts) -> bytes:
    """Return a file whose lengths and checksums are right, whatever the parts say."""
    header = parts.signature + b"".join(parts.fields.get(name, b"") for name in FIELDS)
    out = [header, crc32c(header).to_bytes(4, "little")]
    for kind, payload in parts.chunks:
        crc = crc32c(payload, crc32c(kind))
        out += [kind, varint(len(payload)), payload, crc.to_bytes(4, "little")]
    return b"".join([*out, parts.rest])


def havoc(rng: random.Random) -> Change:
    """Return a change of a few bytes at random places: what atheris.Mutate does, without atheris."""

    def change(data: bytes, size: int) -> bytes:
        out = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            at, kind = rng.randint(0, len(out)), rng.randrange(4)
            if kind == 0:
                out[at:at] = rng.randbytes(rng.randint(1, 4))
            elif kind == 1:
                del out[at : at + rng.randint(1, 4)]
            elif kind == 2 and at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            elif at < len(out):
                out[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
        return bytes(out[:size])

    return change


def mutate_fields(parts: Parts, rng: random.Random, change: Change) -> None:
    """Change one header field."""
    name = rng.choice(FIELDS)
    if name == "flags":
        parts.fields["flags"] = bytes(
            [rng.choice([0, 1, 2, 3, 4, 7, 16, 17, 18, rng.randrange(256)])]
        )
        for bit, field, value in (
            (2, "tile", varint(64)),
            (2, "overlap", varint(rng.choice([0, 32, 64]))),
            (4, "layers", varint(rng.randint(1, 3))),
            (4, "ranges", varint(rng.randint(1, 3))),
            (16, "format", bytes([rng.choice([8, 15, 23, 31, rng.randrange(256)])])),
        ):
            if parts.fields["flags"][0] & bit:
                parts.fields.setdefault(field, value)
            else:
                parts.fields.pop(field, None)
    elif name == "quality":
        parts.fields[name] = bytes(
            [rng.randrange(256) if rng.random() < 0.2 else rng.randrange(141)]
        )
    elif name == "format" and name in parts.fields:
        parts.fields[name] = bytes([rng.randrange(40)])
    elif name == "digest":
        parts.fields[name] = change(parts.fields[name], 8)
    elif name in parts.fields:
        value = rng.choice(NUMBERS) if rng.random() < 0.4 else rng.randint(1, 200)
        parts.fields[name] = varint(value)
        if rng.random() < 0.1:
            parts.fields[name] = change(parts.fields[name], 6)


def mutate_chunks(parts: Parts, rng: random.Random, change: Change) -> None:
    """Change, repeat, drop, move or insert one chunk."""
    kind = rng.randrange(6)
    at = rng.randrange(len(parts.chunks)) if parts.chunks else 0
    if kind == 0 or not parts.chunks:
        parts.chunks.insert(at, (rng.choice(KINDS), change(b"profile", 64)))
    elif kind == 1:
        parts.chunks.insert(rng.randint(0, len(parts.chunks)), parts.chunks[at])
    elif kind == 2:
        del parts.chunks[at]
    elif kind == 3:
        rng.shuffle(parts.chunks)
    elif kind == 4:
        name = change(parts.chunks[at][0], 4).ljust(4, b"A")
        parts.chunks[at] = (rng.choice([*KINDS, name]), parts.chunks[at][1])
    else:
        parts.chunks[at] = (parts.chunks[at][0], change(parts.chunks[at][1], 2048))


def mutate_file(data: bytes, size: int, rng: random.Random, change: Change) -> bytes:
    """Return a file with a few parts changed and, nine times in ten, everything else repaired."""
    parts = take_apart(data)
    if parts is None:
        return change(data or SIGNATURE, size)
    for _ in range(rng.randint(1, 3)):
        rng.choice([mutate_fields, mutate_chunks])(parts, rng, change)
    if rng.random() < 0.05:
        parts.rest = change(parts.rest, 16)
    elif rng.random() < 0.5:
        parts.rest = b""
    if rng.random() < 0.9:
        parts.signature = SIGNATURE
    out = put_together(parts)
    return (out if rng.random() < 0.9 else change(out, size))[:size]
