"""The coder of specs/entropy.md in plain Python, written from the specification to check the C++.

Does not import ncodec. `trace`, where given, collects the coder's state around every symbol.
"""

LOW = 1 << 16


def encode(symbols, indexes, frequencies, skip_below=0, lanes=1, trace=None) -> bytes:
    """Return the payload of one section.

    >>> encode([-1, 100, 0], [0, 0, 0], [[8192, 8191, 1]]).hex(" ")
    '00 04 20 01 00 ff 3f 01 c6'
    """
    coded = [(s, r) for s, r in zip(symbols, indexes, strict=True) if r >= skip_below]
    if not coded:
        return b""
    states, words, escapes = [LOW] * lanes, [], []
    for j, (symbol, r) in reversed(list(enumerate(coded))):
        row = [f for f in frequencies[r] if f > 0]
        entry = 2 * symbol if symbol >= 0 else -2 * symbol - 1
        if entry >= len(row) - 1:
            rest, entry = entry - (len(row) - 1), len(row) - 1
            leb128 = []
            while rest >= 128:
                leb128.append(rest % 128 + 128)
                rest //= 128
            escapes += reversed([*leb128, rest])
        f, start = row[entry], sum(row[:entry])
        before = x = states[j % lanes]
        if x >= f << 18:
            words.append(x % LOW)
            x //= LOW
        x = (x // f << 14) + x % f + start
        states[j % lanes] = x
        if trace is not None:
            trace.append((before, x))
    head = bytes([lanes.bit_length() - 1]) + b"".join(x.to_bytes(4, "little") for x in states)
    return head + b"".join(w.to_bytes(2, "little") for w in reversed(words)) + bytes(escapes)


def decode(payload, indexes, frequencies, skip_below=0, trace=None) -> list[int]:
    """Return the symbols of one section; ValueError where the payload breaks a rule.

    >>> decode(bytes.fromhex("00 04 20 01 00 ff 3f 01 c6"), [0, 0, 0], [[8192, 8191, 1]])
    [-1, 100, 0]
    """
    if all(r < skip_below for r in indexes):
        require(payload == b"", "left over")
        return [0] * len(indexes)
    require(len(payload) > 0 and payload[0] <= 5, "lanes")
    lanes = 1 << payload[0]
    word, end, j, symbols = 1 + 4 * lanes, len(payload), 0, []
    require(word <= end, "truncated")
    states = [int.from_bytes(payload[p : p + 4], "little") for p in range(1, word, 4)]
    require(min(states) >= LOW, "initial state")
    for r in indexes:
        if r < skip_below:
            symbols.append(0)
            continue
        require(r < len(frequencies), "index")
        row = [f for f in frequencies[r] if f > 0]
        before = x = states[j % lanes]
        entry, start, slot = 0, 0, x % (1 << 14)
        while start + row[entry] <= slot:
            start, entry = start + row[entry], entry + 1
        x = row[entry] * (x >> 14) + slot - start
        if x < LOW:
            require(end - word >= 2, "truncated")
            x = x * LOW + int.from_bytes(payload[word : word + 2], "little")
            word += 2
        states[j % lanes], j = x, j + 1
        if trace is not None:
            trace.append((before, x))
        if entry == len(row) - 1:
            for k in range(6):
                require(k < 5 and end > word, "escape")
                end -= 1
                entry += payload[end] % 128 << 7 * k
                require(payload[end] > 0 or k == 0, "escape not in shortest form")
                if payload[end] < 128:
                    break
            require(entry < 1 << 32, "escape")
        symbols.append(entry // 2 if entry % 2 == 0 else -(entry + 1) // 2)
    require(word == end, "left over")
    require(states == [LOW] * lanes, "final state")
    return symbols


def require(fact, what):
    if not fact:
        raise ValueError(what)
