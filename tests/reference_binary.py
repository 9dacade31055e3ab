"""The coder of specs/binary.md in plain Python, written from the specification to check the C++.

Does not import ncodec. `trace`, where given, collects the coder's values around every bin. `low` is
one large integer here: carries happen by themselves.
"""

BYPASS = 65535


def encode(bins, contexts, n_contexts, trace=None) -> bytes:
    """Return the payload.

    >>> encode([1, 1, 0, 1], [0, 0, BYPASS, 0], 1).hex(" ")
    'ce'
    """
    estimates = [[1 << 15, 1 << 15] for _ in range(n_contexts)]
    low, width, shifts = 0, 1 << 32, 0
    for value, k in zip(bins, contexts, strict=True):
        require(value in (0, 1), "bin")
        before, share = (low, width), share_of_one(estimates, k)
        upper = width * share >> 17
        low, width = (low + width - upper, upper) if value else (low, width - upper)
        adapt(estimates, k, value)
        while width < 1 << 24:
            low, width, shifts = low << 8, width << 8, shifts + 1
        if trace is not None:
            trace.append((*before, share, upper, low, width, shifts))
    if len(bins) == 0:
        return b""
    return (low + (1 << 24) - 1 >> 24).to_bytes(shifts + 1, "big")


def decode(payload, contexts, n_contexts, trace=None) -> list[int]:
    """Return one bin for each context; ValueError where the payload breaks a rule.

    >>> decode(bytes.fromhex("ce"), [0, 0, BYPASS, 0], 1)
    [1, 1, 0, 1]
    """
    if len(contexts) == 0:
        require(payload == b"", "left over")
        return []
    require(len(payload) > 0, "truncated")
    padded = payload + bytes(3)
    estimates = [[1 << 15, 1 << 15] for _ in range(n_contexts)]
    offset, width, position, bins = int.from_bytes(padded[:4], "big"), 1 << 32, 4, []
    for k in contexts:
        before, share = (offset, width), share_of_one(estimates, k)
        upper = width * share >> 17
        value = int(offset >= width - upper)
        offset, width = (offset - (width - upper), upper) if value else (offset, width - upper)
        adapt(estimates, k, value)
        while width < 1 << 24:
            require(position < len(padded), "truncated")
            offset, width = offset << 8 | padded[position], width << 8
            position += 1
        bins.append(value)
        if trace is not None:
            trace.append((*before, share, upper, value, offset, width))
    require(position == len(padded), "left over")
    require(offset < 1 << 24, "bad end")
    return bins


def share_of_one(estimates, k) -> int:
    """Return the model's P(1) in 1 / 2^17."""
    require(k == BYPASS or k < len(estimates), "context")
    return 1 << 16 if k == BYPASS else sum(estimates[k])


def adapt(estimates, k, value):
    if k != BYPASS:
        quick, slow = estimates[k]
        quick += 4095 * value - (quick >> 4)
        slow += 511 * value - (slow >> 7)
        estimates[k] = [quick, slow]


def require(fact, what):
    if not fact:
        raise ValueError(what)
