"""Windows of frequency-aware transformers, and the blocks of their modulation. No torch."""

WINDOWS = ((4, 4), (16, 16), (4, 16), (16, 4))  # height and width: of a quarter of the heads each
MODULATED = 16  # places a side of the blocks whose frequencies are weighted
CHANNEL_WINDOW = 8  # places a side within which channels attend to channels

Window = tuple[int, int, int, int]  # height, width, and by how much it is moved


def windows_of(heads: int, is_moved: bool) -> list[Window]:
    """Return the window of each head; `heads` is a multiple of four, `is_moved` by half of a window."""
    return [
        (a, b, a // 2 * is_moved, b // 2 * is_moved)
        for a, b in WINDOWS
        for _ in range(heads // len(WINDOWS))
    ]


def bias_sizes(windows: list[Window]) -> list[int]:
    """Return how many differences of places a window of each head has."""
    return [(2 * a - 1) * (2 * b - 1) for a, b, _, _ in windows]
