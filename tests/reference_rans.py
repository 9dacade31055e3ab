"""The coder of specs/entropy.md in plain Python, written from the specification to check the C++.

Does not import ncodec. `trace`, where given, collects the coder's state around every symbol.
"""

from itertools import pairwise

LOW = 1 << 16
CHUNKED = 8  # in byte 0


def encode(symbols, indexes, frequencies, skip_below=0, lanes=1, trace=None, chunks=1) -> bytes:
    """Return the payload of one section.

    >>> encode([-1, 100, 0], [0, 0, 0], [[8192, 8191, 1]]).hex(" ")
    '00 04 20 01 00 ff 3f 01 c6'
    >>> encode([-1, 100, 0], [0, 0, 0], [[8192, 8191, 1]], chunks=2).hex(" ")
    '08 02 04 08 20 02 00 ff 3f 00 80 01 c6'
    """
    coded = [(s, r) for s, r in zip(symbols, indexes, strict=True) if r >= skip_below]
    if not coded:
        return b""
    bodies = [
        encode_chunk(coded[first:last], frequencies, lanes, trace)
        for first, last in pairwise(bounds(len(coded), chunks))
    ]
    head = bytes([lanes.bit_length() - 1 + (CHUNKED if chunks > 1 else 0)])
    if chunks > 1:
        head += varint(chunks) + b"".join(varint(len(body)) for body in bodies[:-1])
    return head + b"".join(bodies)


def bounds(n, chunks) -> list[int]:
    """Return where each chunk's symbols start, and n."""
    return [c * n // chunks for c in range(chunks + 1)]


def encode_chunk(coded, frequencies, lanes, trace=None) -> bytes:
    """Return the states, words and escape bytes of (symbol, row) pairs."""
    states, words, escapes = [LOW] * lanes, [], []
    for j, (symbol, r) in reversed(list(enumerate(coded))):
        row = [f for f in frequencies[r] if f > 0]
        entry = 2 * symbol if symbol >= 0 else -2 * symbol - 1
        if entry >= len(row) - 1:
            rest, entry = entry - (len(row) - 1), len(row) - 1
            escapes += reversed(varint(rest))
        f, start = row[entry], sum(row[:entry])
        before = x = states[j % lanes]
        if x >= f << 18:
            words.append(x % LOW)
            x //= LOW
        x = (x // f << 14) + x % f + start
        states[j % lanes] = x
        if trace is not None:
            trace.append((before, x))
    body = b"".join(x.to_bytes(4, "little") for x in states)
    return body + b"".join(w.to_bytes(2, "little") for w in reversed(words)) + bytes(escapes)


def varint(value) -> bytes:
    """Return LEB128: 7 bits a byte, the lowest first."""
    leb128 = []
    while value >= 128:
        leb128.append(value % 128 + 128)
        value //= 128
    return bytes([*leb128, value])


def decode(payload, indexes, frequencies, skip_below=0, trace=None) -> list[int]:
    """Return the symbols of one section; ValueError where the payload breaks a rule.

    >>> decode(bytes.fromhex("00 04 20 01 00 ff 3f 01 c6"), [0, 0, 0], [[8192, 8191, 1]])
    [-1, 100, 0]
    """
    rows = [r for r in indexes if r >= skip_below]
    if not rows:
        require(payload == b"", "left over")
        return [0] * len(indexes)
    require(len(payload) > 0, "truncated")
    require(payload[0] % 8 <= 5 and payload[0] < 16, "lanes")
    lanes, position, chunks, sizes = 1 << payload[0] % 8, 1, 1, []
    if payload[0] >= CHUNKED:
        chunks, position = read_varint(payload, position)
        require(2 <= chunks <= len(rows), "chunks")
        for _ in range(chunks - 1):
            size, position = read_varint(payload, position)
            sizes.append(size)
        require(position + sum(sizes) <= len(payload), "truncated")
    decoded = []
    ends = [position + sum(sizes[:c]) for c in range(chunks)] + [len(payload)]
    for (first, last), (start, end) in zip(
        pairwise(bounds(len(rows), chunks)), pairwise(ends), strict=True
    ):
        decoded += decode_chunk(payload[start:end], rows[first:last], frequencies, lanes, trace)
    following = iter(decoded)
    return [next(following) if r >= skip_below else 0 for r in indexes]


def read_varint(payload, position) -> tuple[int, int]:
    """Return a LEB128 integer in its shortest form, and where the next byte is."""
    value = 0
    for k in range(5):
        require(position < len(payload), "truncated")
        byte = payload[position]
        require(byte > 0 or k == 0, "varint not in shortest form")
        value, position = value + (byte % 128 << 7 * k), position + 1
        if byte < 128:
            return value, position
    raise ValueError("varint")


def decode_chunk(body, rows, frequencies, lanes, trace=None, symbols=None) -> list[int]:
    """Return the symbols of one chunk; rows has the table row of each.

    Rows may be an iterator that looks at `symbols`, a list that has those decoded so far.
    """
    word, end, symbols = 4 * lanes, len(body), [] if symbols is None else symbols
    require(word <= end, "truncated")
    states = [int.from_bytes(body[p : p + 4], "little") for p in range(0, word, 4)]
    require(min(states) >= LOW, "initial state")
    for j, r in enumerate(rows):
        require(r < len(frequencies), "index")
        row = [f for f in frequencies[r] if f > 0]
        before = x = states[j % lanes]
        entry, start, slot = 0, 0, x % (1 << 14)
        while start + row[entry] <= slot:
            start, entry = start + row[entry], entry + 1
        x = row[entry] * (x >> 14) + slot - start
        if x < LOW:
            require(end - word >= 2, "truncated")
            x = x * LOW + int.from_bytes(body[word : word + 2], "little")
            word += 2
        states[j % lanes] = x
        if trace is not None:
            trace.append((before, x))
        if entry == len(row) - 1:
            for k in range(6):
                require(end > word, "truncated")
                require(k < 5, "escape")
                end -= 1
                entry += body[end] % 128 << 7 * k
                require(body[end] > 0 or k == 0, "escape not in shortest form")
                if body[end] < 128:
                    break
            require(entry < 1 << 32, "escape")
        symbols.append(entry // 2 if entry % 2 == 0 else -(entry + 1) // 2)
    require(word == end, "left over")
    require(states == [LOW] * lanes, "final state")
    return symbols


def require(fact, what):
    if not fact:
        raise ValueError(what)
