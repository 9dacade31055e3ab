"""Write tests/fuzz/seeds: `python tests/fuzz/make_seeds.py [WORD]`, those with WORD in their name. Few and small; see README.md.

C++ harnesses: inputs as harness.hpp reads them. decode: files made with the shipped models. The Python
targets also start from tests/attacks and the small files of tests/vectors, which are not copied.
"""

import random
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LARGEST, ALTOGETHER = 2048, 65_536  # bytes


def u16(value: int) -> bytes:
    """Return two bytes, little-endian."""
    return value.to_bytes(2, "little")


def generated(rng: random.Random) -> bytes:
    """Return a Stream that the harness makes itself from a seed."""
    return b"\0" + rng.randbytes(4)


def rans_seeds() -> dict[str, bytes]:
    """Valid payloads with all numbers of lanes and several of chunks, edited ones, and raw bytes."""
    seeds = {}
    for k in range(14):
        rng = random.Random(k)
        mode = 0 if k == 13 else 1 | (8 if k % 3 == 0 else 0)
        n = [0, 1, 7, 33, 500, 2000, 4096][k % 7]
        settings = bytes([mode, k % 7, [0, 1, 4, 15][k % 4], k % 3]) + u16(n)
        rows = bytes([k % 8]) + b"".join(
            bytes([rng.choice([0, 1, 2, 16, 255])]) + generated(rng) for _ in range(1 + k % 8)
        )
        edits = rng.randbytes(4) if 7 <= k < 13 else b""
        rest = rng.randbytes(200) if mode == 0 else edits
        seeds[f"{k:02d}"] = settings + rows + generated(rng) + rest
    return seeds


def tables_seeds() -> dict[str, bytes]:
    """A repaired row, a bad one, one of 16384 ones, an empty matrix."""
    return {
        "repaired": bytes([2, 8, 2, 5, 9, 8, 7, 6, 5, 2, 3, 1, 1, 1]),
        "raw": bytes([1, 4, 0, 3]) + u16(8192) + u16(8191) + u16(1),
        "hole": bytes([1, 4, 0, 3]) + u16(8192) + u16(0) + u16(8192),
        "ones": bytes([1, 255]) + u16(16383) + b"\x03" + u16(16383) + u16(0),
        "empty": b"",
    }


def binary_seeds() -> dict[str, bytes]:
    """Valid payloads of even and skewed bins, edited ones, and raw bytes."""
    seeds = {}
    for k, (mode, n, skew) in enumerate(
        [(1, 0, 128), (1, 8000, 128), (1, 8000, 2), (1, 8000, 254), (1, 3000, 0), (0, 500, 128)]
    ):
        rng = random.Random(k)
        rest = rng.randbytes(64) if mode == 0 else rng.randbytes(4) if k == 4 else b""
        seeds[f"{k:02d}"] = (
            bytes([mode]) + u16(n) + bytes([5]) + u16(700) + bytes([skew]) + generated(rng) + rest
        )
    return seeds


def tokens_seeds() -> dict[str, bytes]:
    """One to three stages of both kinds, every depth; edits; raw bytes."""
    seeds = {}
    for k in range(12):
        rng = random.Random(k)
        n_stages = k % 3
        mode = (k < 10) | n_stages << 1
        stages = b"".join(
            bytes([rng.randrange(8), rng.randrange(16), rng.randrange(20), 4 + k % 7, 8, 11])
            for _ in range(1 + n_stages)
        )
        rows = bytes([8 - k % 3, 3 + k % 6, 59 - k % 2, 8 - k % 3, k % 4 // 3])
        rest = rng.randbytes(4) if 6 <= k < 10 else rng.randbytes(40) if k >= 10 else b""
        seeds[f"{k:02d}"] = bytes([mode]) + generated(rng) + stages + rows + rest
    return seeds


def dct_seeds() -> dict[str, bytes]:
    """Pictures of every style, grey and colour, both transforms and subsamplings, any parameters; edits; raw bytes; tunings."""
    seeds = {}
    for k in range(22):
        rng = random.Random(k)
        mode = 1 | (k % 2) << 4 | (k % 3 == 0) << 3 | (k % 5 == 0) << 2 | (9 < k < 19) << 1
        is_raw = 14 <= k < 16
        if is_raw:
            mode = rng.choice([0, 2, 4, 8])
        mode |= (k >= 16) << 5
        sides = bytes([[63, 0, 95, 8, 41][k % 5], [47, 0, 8, 79][k % 4]])
        settings = bytes([mode, 10 * k]) + sides + bytes([rng.choice([160, 128, 24, 0, 4])])
        parameters = generated(rng) if mode & 2 else b""
        tuning = generated(rng) if mode & 32 else b""
        picture = bytes([rng.randrange(16)]) + generated(rng)
        edits = rng.randbytes(4) if 6 <= k < 10 else b""
        rest = rng.choice([b"", bytes(1)]) + rng.randbytes(200) if is_raw else edits
        seeds[f"{k:02d}"] = settings + parameters + tuning + (picture if mode & 1 else b"") + rest
    seeds["22"] = bytes([0, 60, 95, 79, 0, 8]) + random.Random(22).randbytes(200)  # offsets
    for k in range(23, 27):  # networks
        rng = random.Random(k)
        settings = bytes([65 | (k % 2) << 4 | (k == 25) << 2, 5 * k, 70 + k, 99 - k, 160, k])
        seeds[f"{k:02d}"] = settings + generated(rng) + bytes([rng.randrange(16)]) + generated(rng)
    return seeds


def lossless_seeds() -> dict[str, bytes]:
    """Pictures of every style, number of channels and depth; edits; raw bytes."""
    seeds = {}
    for k in range(20):
        rng = random.Random(k)
        mode = k % 4 | (k < 16) << 2 | (k // 4 % 2) << 3 | (k % 3) << 4
        settings = bytes([mode, 39 - k, 5 + k, (7, 15, 0, 11)[k % 4 if k % 5 else 0]])
        picture = bytes([rng.randrange(64)]) + generated(rng)
        edits = rng.randbytes(4) if 12 <= k < 16 else b""
        seeds[f"{k:02d}"] = settings + (picture + edits if mode & 4 else rng.randbytes(60))
    return seeds


def jpeg_file(marker: int, factors: list[int], interval: int, scans: list[bytes]) -> bytes:
    """Return a file of 24 x 16 pixels whose blocks have no coefficients: every bit of its scans is 0."""

    def segment(code: int, content: bytes) -> bytes:
        return bytes([0xFF, code]) + (len(content) + 2).to_bytes(2, "big") + content

    numbers = range(1, len(factors) + 1)
    frame = b"".join(bytes([i, f, 0]) for i, f in zip(numbers, factors, strict=True))
    dc = bytes([0, 1, 1, 2, *bytes(13)]) + bytes([0, 1, 2, 3])
    ac = bytes([0x10, 1, 1, 1, 1, 2, *bytes(11)]) + bytes([0, 1, 0xF0, 0x11, 2, 0x10])
    head = b"\xff\xd8" + segment(0xDB, bytes([0]) + bytes(range(3, 67)))
    head += segment(marker, bytes([8, 0, 16, 0, 24, len(factors)]) + frame)
    head += segment(0xC4, dc) + segment(0xC4, ac)
    if interval:
        head += segment(0xDD, bytes([0, interval]))
    # 6 blocks of a component: 12 bits in sequence, 6 of DC alone; a run of 1 block is 0 too.
    return head + b"".join(scans) + b"\xff\xd9"


def jpeg_seeds() -> dict[str, bytes]:
    """Files: grey, colour, restart intervals, progressive; payloads of their skeletons."""

    def scan(parts: list[int], spectrum: tuple[int, int, int], bits: int) -> bytes:
        names = b"".join(bytes([i, 0]) for i in parts)
        head = (6 + 2 * len(parts)).to_bytes(2, "big") + bytes([len(parts)]) + names
        data = ((1 << -bits % 8) - 1).to_bytes(-(-bits // 8), "big")  # padded with 1s
        return b"\xff\xda" + head + bytes(spectrum) + data

    grey = scan([1], (0, 63, 0), 12)
    progressive = [scan([1], (0, 0, 1), 6), scan([1], (1, 63, 2), 6), scan([1], (1, 63, 0x21), 6)]
    progressive.append(scan([1], (0, 0, 0x10), 6))
    interval = scan([1], (0, 63, 0), 4) + b"\xff\xd0\x0f\xff\xd1\x0f"
    files = {
        "grey": jpeg_file(0xC0, [0x11], 0, [grey]),
        "colour": jpeg_file(0xC0, [0x22, 0x11, 0x11], 0, [scan([1, 2, 3], (0, 63, 0), 24)]),
        "intervals": jpeg_file(0xC0, [0x11], 2, [interval]),
        "progressive": jpeg_file(0xC2, [0x11], 0, progressive),
        "components": jpeg_file(
            0xC1, [0x11] * 3, 0, [scan([i], (0, 63, 0), 12) for i in (1, 2, 3)]
        ),
    }
    seeds = {name: b"\1" + data for name, data in files.items()}
    rng = random.Random(0)
    for name, data in files.items():
        skeleton = data[: data.index(b"\xff\xda") + 10]
        seeds[f"payload-{name}"] = (
            b"\0" + u16(100) + u16(len(skeleton)) + b"\0" + skeleton + rng.randbytes(40)
        )
    return seeds


def exact_seeds() -> dict[str, bytes]:
    """Graphs of any operations."""
    return {f"{k:02d}": random.Random(k).randbytes(200 + 20 * k) for k in range(12)}


def container_seeds() -> dict[str, bytes]:
    """Layered files: two layers of two ranges, tiled or not; one cut, one without its third chunk."""
    from ncodec import container
    from ncodec.container import Container, Header

    seeds = {}
    for name, width, tile in (("layers", 40, 0), ("layers-tiles", 100, 64)):
        header = Header(width, 40, 5, bytes(8), 15, tile=tile, is_layered=True, layers=2, ranges=2)
        parts = [[b"first", b"second"], [b"", b"fourth"]]
        seeds[name] = container.write(Container(header, [parts] * header.n_tiles, {"xmp": b"<x/>"}))
    seeds["layers-cut"] = seeds["layers-tiles"][:-30]
    third = seeds["layers"].index(b"TILE\x01\x02")
    seeds["layers-gap"] = seeds["layers"][:third] + seeds["layers"][third + 10 :]
    return {f"{name}.nc": data for name, data in seeds.items()}


def decode_seeds() -> dict[str, bytes]:
    """Files of few pixels: extremes of quality, grey, four tiles, ranges, metadata."""
    import ncodec
    from ncodec import container
    from ncodec.container import Container
    from ncodec.metadata.profiles import known

    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (40, 24, 3), np.uint8)
    ramp = np.add.outer(np.arange(66), np.arange(70)).astype(np.uint8)
    seeds = {
        "noise-q1": ncodec.encode(noise, 1, "hyperprior-s", device="cpu"),
        "noise-q8": ncodec.encode(noise[:16, :16], 8, "hyperprior-s", device="cpu"),
        "grey-tiles": ncodec.encode(ramp, 3, "hyperprior-s", device="cpu", tile=64),
        "dct-noise": ncodec.encode(noise[:16, :16], 8, "dct"),
        "dct-grey-tiles": ncodec.encode(ramp, 3, "dct", tile=64),
        "tokens-noise": ncodec.encode(noise, 4.3, "fsq-s", device="cpu", ranges=2),
        "tokens-grey-tiles": ncodec.encode(ramp, 2, "fsq-s", device="cpu", tile=64),
    }
    if "masked-s" in [model.name for model in ncodec.list_models()]:
        seeds["masked-noise"] = ncodec.encode(noise[:16, :16], 8, "masked-s", device="cpu")
        seeds["masked-grey-tiles"] = ncodec.encode(ramp, 3, "masked-s", device="cpu", tile=64)
    if "ftic-s" in [model.name for model in ncodec.list_models()]:
        seeds["ftic-noise"] = ncodec.encode(noise[:16, :16], 8, "ftic-s", device="cpu")
        seeds["ftic-grey-tiles"] = ncodec.encode(ramp, 3, "ftic-s", device="cpu", tile=64)
    plain = container.read(seeds["noise-q1"])
    metadata = {"icc": known()[-1], "exif": b"Exif", "xmp": b"<x/> " * 9, "phys": bytes(9)}
    seeds["metadata"] = container.write(Container(plain.header, plain.tiles, metadata))
    return {f"{name}.nc": data for name, data in seeds.items()}


def main() -> None:
    """Write the seeds, and hold all of them to their sizes."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    made = {
        "rans": rans_seeds(),
        "tables": tables_seeds(),
        "binary": binary_seeds(),
        "tokens": tokens_seeds(),
        "dct": dct_seeds(),
        "jpeg": jpeg_seeds(),
        "lossless": lossless_seeds(),
        "container": container_seeds(),
        "decode": decode_seeds(),
        "exact": exact_seeds(),
    }
    for harness, seeds in made.items():
        folder = HERE / "seeds" / harness
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            assert len(data) <= LARGEST, (harness, name, len(data))
            if word in f"{harness}/{name}":
                (folder / name).write_bytes(data)
    assert sum(len(data) for seeds in made.values() for data in seeds.values()) <= ALTOGETHER


if __name__ == "__main__":
    main()
