"""Speed of the entropy coders, ours and others', and their share of a whole encode and decode.

    streams   1.5 M symbols under the shipped model's 64 tables, rows drawn like real latents' or evenly;
              the latents of an image, where one is given
    coders    rANS, each variant, 1 and more threads; the adaptive binary coder;
              constriction and CompressAI's coder, where they are installed; CUDA, where there is a device

All of it in one process, one after the other; run it on an idle machine. Medians of wall times.
"""

import contextlib
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import time
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ncodec
from ncodec import container
from ncodec.entropy import FrequencyTables, decode_symbols, encode_symbols, variants
from ncodec.entropy.binary import BYPASS, BinaryDecoder, BinaryEncoder
from ncodec.errors import InputError
from ncodec.models.hyperprior.codec import HyperpriorCodec
from ncodec.models.load import load_by_name
from ncodec.models.protocol import only_payload
from ncodec.parallel import cpu_name
from ncodec.threads import cores, get_num_threads, set_num_threads
from ncodec.tiles import tile_for

NETWORK = "hyperprior-s"  # the model whose latents are coded
N_SYMBOLS = 1_500_000  # about those of a 1920x1080 image at 1/16, 192 channels
MAX_TILE = 1 << 24  # pixels
N_LARGE = 16 * N_SYMBOLS  # enough chunks for threads to share evenly
Row = dict[str, Any]


def median_seconds(work: Callable[[], object], budget_s: float = 1.0) -> float:
    """Return the median wall time (s) of at least 3 runs after one to warm up, within some budget."""
    work()
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < budget_s and len(seconds) < 50):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def machine() -> Row:
    """Return what the figures depend on: processor, versions, load."""
    found = {}
    for package in ("torch", "numpy", "constriction", "compressai", "triton", "onnxruntime"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "cores": cores(),
        "variants": variants(),
        "gpu": torch.cuda.get_device_name() if (torch := _torch_with_cuda()) else None,
        "threads": get_num_threads(),
        "load_average_1min": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "ncodec": ncodec.__version__,
        **found,
    }  # fmt: skip


def _torch_with_cuda() -> Any:
    """Return the package torch, or None where it or a CUDA device is missing."""
    with contextlib.suppress(ImportError):
        import torch

        return torch if torch.cuda.is_available() else None
    return None


def draw(
    tables: FrequencyTables, indexes: NDArray[np.uint16], rng: np.random.Generator
) -> NDArray[np.int32]:
    """Return one symbol per index, drawn from its row; escapes become the next symbol."""
    symbols = np.zeros(len(indexes), np.int32)
    for row in np.unique(indexes):
        at = np.flatnonzero(indexes == row)
        ends = np.cumsum(tables.frequencies[row].astype(np.int64))
        entries = np.searchsorted(ends, rng.integers(0, ends[-1], len(at)), "right")
        symbols[at] = np.where(entries % 2, -(entries + 1) // 2, entries // 2)
    return symbols


def bench_rans(
    tables: FrequencyTables,
    symbols: NDArray[np.int32],
    indexes: NDArray[np.uint16],
    skip_below: int = 0,
    threads: int = 1,
    variant: str | None = None,
) -> Row:
    """Return speed and size of our coder on one stream."""
    options = {"skip_below": skip_below, "threads": threads, "variant": variant}
    payload = encode_symbols(symbols, indexes, tables, **options)  # type: ignore[arg-type]
    decoded = decode_symbols(payload, indexes, tables, **options)  # type: ignore[arg-type]
    assert np.array_equal(decoded, symbols)
    coded = indexes >= skip_below
    ideal = tables.ideal_bits(symbols[coded], indexes[coded]) / 8
    return _row(
        f"ncodec rANS {variant or variants()[-1]}, {threads} thread{'s'[: threads > 1]}",
        len(symbols),
        median_seconds(lambda: encode_symbols(symbols, indexes, tables, **options)),  # type: ignore[arg-type]
        median_seconds(lambda: decode_symbols(payload, indexes, tables, **options)),  # type: ignore[arg-type]
        len(payload),
        ideal,
        coded_symbols=int(coded.sum()),
    )


def _row(
    coder: str,
    n: int,
    encode_s: float | None,
    decode_s: float,
    size: int,
    ideal: float | None,
    **more: object,
) -> Row:
    return {
        "coder": coder,
        "symbols": n,
        "encode_msymbols_s": n / encode_s / 1e6 if encode_s else None,
        "decode_msymbols_s": n / decode_s / 1e6,
        "bytes": size,
        "overhead_percent": 100 * (size / ideal - 1) if ideal else None,
        **more,
    }


def bench_constriction(
    tables: FrequencyTables, symbols: NDArray[np.int32], indexes: NDArray[np.uint16]
) -> list[Row]:
    """Return constriction's ANS on one stream: all rows' symbols in one call a row, as it wants them for speed, and
    a Gaussian per symbol, its way to have parameters per symbol (models of its own, so no ideal size)."""
    try:
        import constriction
    except ImportError:
        return []
    model = constriction.stream.model
    ans = constriction.stream.stack.AnsCoder
    rows = np.unique(indexes)
    at = [np.flatnonzero(indexes == row) for row in rows]
    entries = np.where(symbols >= 0, 2 * symbols.astype(np.int64), -2 * symbols.astype(np.int64) - 1)  # fmt: skip
    escapes = int((entries >= tables.sizes[indexes] - 1).sum())  # one byte each with us, none here
    ideal = tables.ideal_bits(symbols, indexes) / 8 - escapes
    groups = [entries[place].astype(np.int32) for place in at]
    models = [
        model.Categorical(
            tables.frequencies[row, : tables.sizes[row]].astype(np.float32) / 2**14, perfect=False
        )
        for row in rows
    ]

    def encode() -> Any:
        coder = ans()
        for group, categorical in zip(reversed(groups), reversed(models), strict=True):
            coder.encode_reverse(group, categorical)
        return coder.get_compressed()

    def decode() -> list[Any]:
        coder = ans(payload)
        return [
            coder.decode(categorical, len(group))
            for group, categorical in zip(groups, models, strict=True)
        ]

    payload = encode()
    assert all(np.array_equal(a, b) for a, b in zip(decode(), groups, strict=True))
    grouped = _row(
        "constriction ANS, one call a table", len(symbols), median_seconds(encode), median_seconds(decode),
        4 * len(payload), ideal,
    )  # fmt: skip
    scales = (0.11 * np.exp(indexes * (np.log(128 / 0.11) / 63))).astype(np.float64)
    means = np.zeros(len(symbols))
    bound = int(np.abs(symbols).max()) + 1
    gaussian = model.QuantizedGaussian(-bound, bound)

    def encode_gaussian() -> Any:
        coder = ans()
        coder.encode_reverse(symbols, gaussian, means, scales)
        return coder.get_compressed()

    payload_gaussian = encode_gaussian()
    per_symbol = _row(
        "constriction ANS, Gaussian a symbol",
        len(symbols),
        median_seconds(encode_gaussian),
        median_seconds(lambda: ans(payload_gaussian).decode(gaussian, means, scales)),
        4 * len(payload_gaussian),
        None,  # its Gaussians are not our tables
    )
    return [grouped, per_symbol]


def _compressai_ans() -> Any:
    """Return CompressAI's coder, loaded from its shared object, which needs none of its other packages; or None."""
    with contextlib.suppress(ImportError, ValueError):  # one for another Python is as good as none
        found = importlib.util.find_spec("compressai")
        for folder in (found and found.submodule_search_locations) or []:
            for path in Path(folder).glob("ans.*"):
                if path.suffix in (".so", ".pyd"):
                    spec = importlib.util.spec_from_loader(
                        "compressai.ans", ExtensionFileLoader("compressai.ans", str(path))
                    )
                    assert spec and spec.loader
                    module = importlib.util.module_from_spec(spec)
                    spec.loader.exec_module(module)
                    return module
    return None


def bench_compressai(
    tables: FrequencyTables, symbols: NDArray[np.int32], indexes: NDArray[np.uint16]
) -> list[Row]:
    """Return CompressAI's rANS on one stream, with the lists that it takes made beforehand."""
    ans = _compressai_ans()
    if ans is None:
        return []
    # Its tables: 16 bits, symbols in ascending order from an offset, the escape last.
    cdfs, offsets = [], []
    for row, size in zip(tables.frequencies, tables.sizes, strict=True):
        ascending = sorted(range(int(size) - 1), key=lambda e: e // 2 if e % 2 == 0 else -(e + 1) // 2)  # fmt: skip
        frequencies = [int(row[e]) << 2 for e in [*ascending, int(size) - 1]]
        cdfs.append([0, *np.cumsum(frequencies).tolist()])
        offsets.append(-((int(size) - 1) // 2))
    lengths = [len(cdf) for cdf in cdfs]
    s, i = symbols.tolist(), indexes.tolist()
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()
    payload = encoder.encode_with_indexes(s, i, cdfs, lengths, offsets)
    assert decoder.decode_with_indexes(payload, i, cdfs, lengths, offsets) == s
    return [
        _row(
            "CompressAI rANS",
            len(symbols),
            median_seconds(lambda: encoder.encode_with_indexes(s, i, cdfs, lengths, offsets)),
            median_seconds(lambda: decoder.decode_with_indexes(payload, i, cdfs, lengths, offsets)),
            len(payload),
            tables.ideal_bits(symbols, indexes) / 8,
        )
    ]


def bench_cuda(
    tables: FrequencyTables, symbols: NDArray[np.int32], indexes: NDArray[np.uint16]
) -> list[Row]:
    """Return decoding on the GPU, from and to its memory."""
    torch = _torch_with_cuda()
    if torch is None:
        return []
    from ncodec.coder.device import decode_resident, place, read_directory
    from ncodec.coder.lanes import device_tables

    device = torch.device("cuda")
    payload = encode_symbols(symbols, indexes, tables)
    resident = place([payload], [read_directory(payload, len(symbols))], device)
    on_device = torch.from_numpy(indexes.astype(np.int32)).to(device)[None]
    rows = device_tables(tables, device)

    def decode() -> Any:
        decoded = decode_resident(resident, on_device, rows, 0)[0]
        torch.cuda.synchronize()
        return decoded

    assert np.array_equal(decode()[0].cpu().numpy(), symbols)
    ideal = tables.ideal_bits(symbols, indexes) / 8
    return [_row("ncodec rANS CUDA", len(symbols), None, median_seconds(decode), len(payload), ideal)]  # fmt: skip


def bench_binary(n: int = 10_000_000) -> Row:
    """Return the adaptive binary coder: 64 contexts with P(1) from 0.01 to 0.5, a tenth of the bins bypass."""
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, 64, n).astype(np.uint16)
    p = np.geomspace(0.01, 0.5, 64)[contexts]
    bypass = rng.random(n) < 0.1
    bins = (rng.random(n) < np.where(bypass, 0.5, p)).astype(np.uint8)
    contexts[bypass] = BYPASS

    def encode() -> bytes:
        encoder = BinaryEncoder(64)
        encoder.encode(bins, contexts)
        return encoder.finish()

    def decode() -> NDArray[np.uint8]:
        decoder = BinaryDecoder(payload, 64)
        decoded = decoder.decode(contexts)
        decoder.finish()
        return decoded

    payload = encode()
    assert np.array_equal(decode(), bins)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    ideal = (
        float(np.where(bypass, 1, entropy).sum()) / 8
    )  # of the source, so learning and noise are in the overhead
    return _row("ncodec adaptive binary (bins)", n, median_seconds(encode), median_seconds(decode), len(payload), ideal)  # fmt: skip


def _hyperprior_codec() -> HyperpriorCodec:
    codec = load_by_name(NETWORK).codec
    assert isinstance(codec, HyperpriorCodec)
    return codec


def bench_coder(report: Callable[[str, Row], None]) -> Row:
    """Return all figures of the coders; `report` is called with each stream's name and row as it comes."""
    tables = _hyperprior_codec().tables_r
    rng = np.random.default_rng(0)
    realistic = np.minimum(63, rng.exponential(10, N_SYMBOLS)).astype(np.uint16)
    evenly = rng.integers(0, 64, N_SYMBOLS).astype(np.uint16)
    results: dict[str, list[Row]] = {}

    def add(stream: str, *rows: Row) -> None:
        for row in rows:
            results.setdefault(stream, []).append(row)
            report(stream, row)

    for name, indexes in (("rows as in latents", realistic), ("rows drawn evenly", evenly)):
        symbols = draw(tables, indexes, rng)
        small = float((np.abs(symbols) <= 1).mean())
        stream = f"{name}: {N_SYMBOLS / 1e6:g} M symbols, {small:.0%} of them 0 or ±1"
        for variant in reversed(variants()):
            add(stream, bench_rans(tables, symbols, indexes, variant=variant))
        add(stream, *bench_cuda(tables, symbols, indexes))
        add(stream, *bench_constriction(tables, symbols, indexes))
        add(stream, *bench_compressai(tables, symbols, indexes))
    for name, indexes in (
        ("evenly", rng.integers(0, 64, N_LARGE // 4).astype(np.uint16)),
        ("as in latents", np.minimum(63, rng.exponential(10, N_LARGE)).astype(np.uint16)),
    ):
        symbols = draw(tables, indexes, rng)
        stream = f"threads: {len(indexes) / 1e6:g} M symbols, rows {name}"
        for threads in (1, 2, 4, 8):
            if threads <= cores():
                add(stream, bench_rans(tables, symbols, indexes, threads=threads))
        add(stream, *bench_cuda(tables, symbols, indexes))
    for size in (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20):
        n = round(size * N_LARGE / results[stream][0]["bytes"])
        add("size of the payload", bench_rans(tables, symbols[:n], indexes[:n]))
    add("binary decisions", bench_binary())
    return {"machine": machine(), "streams": results}


def check_tile(pixels: NDArray[np.uint8]) -> None:
    """Raise InputError unless an image is small enough for one tile."""
    height, width = pixels.shape[:2]
    if height * width > MAX_TILE:
        raise InputError(
            f"image: expected at most {MAX_TILE} pixels, one tile, found {width}x{height}"
        )


def bench_image(pixels: NDArray[np.uint8], report: Callable[[str, Row], None]) -> Row:
    """Return seconds of a whole encode and decode of an image at qualities 1, 4 and 8, by hyperprior-s, with
    the coder's share, and by model `dct`.

    Args:
        pixels: [H, W, 3] uint8, small enough for one tile.
        report: called with each quality's name and row as it comes.

    Raises:
        InputError: the image is larger than a tile may be.
    """
    check_tile(pixels)
    height, width = pixels.shape[:2]
    codec = _hyperprior_codec()
    results = {}
    for quality in (1, 4, 8):
        data = ncodec.encode(pixels, quality, NETWORK, tile=0)
        parsed = container.read(data)
        code = parsed.header.quality_code
        latents = codec.decode_latents(only_payload(parsed.tiles[0]), code, width, height)
        row = bench_rans(
            codec.tables_r,
            latents.r.astype(np.int32).ravel(),
            latents.indexes.astype(np.uint16).ravel(),
            codec.skip_below,
            get_num_threads(),
        )
        encode_s = median_seconds(lambda q=quality: ncodec.encode(pixels, q, NETWORK, tile=0))  # type: ignore[misc]
        decode_s = median_seconds(lambda d=data: ncodec.decode(d, "numpy", device="cpu"))  # type: ignore[misc]
        row |= {
            "file_bytes": len(data),
            "encode_s": encode_s,
            "decode_s": decode_s,
            "coder_share_of_encode_percent": 100 * row["symbols"] / row["encode_msymbols_s"] / 1e6 / encode_s,
            "coder_share_of_decode_percent": 100 * row["symbols"] / row["decode_msymbols_s"] / 1e6 / decode_s,
        }  # fmt: skip
        results[f"quality {quality}"] = row
        report(f"quality {quality}", row)
        row["dct"] = bench_dct(pixels, quality)
        for of_threads in row["dct"]:
            report(f"quality {quality}", of_threads)
    return {"machine": machine(), "image": list(pixels.shape), "qualities": results}


def bench_dct(pixels: NDArray[np.uint8], quality: float) -> list[Row]:
    """Return seconds of a whole encode and decode by model `dct`: on one thread and, if it has tiles, on all."""
    usual, rows = get_num_threads(), []
    has_tiles = tile_for(pixels.shape[1], pixels.shape[0], None) > 0
    for threads in sorted({1, usual if has_tiles else 1}):
        set_num_threads(threads)
        data = ncodec.encode(pixels, quality, "dct")
        rows.append(
            {
                "coder": f"model dct, {threads} thread{'s'[: threads > 1]}",
                "bytes": len(data),
                "encode_s": median_seconds(lambda: ncodec.encode(pixels, quality, "dct")),
                "decode_s": median_seconds(lambda d=data: ncodec.decode(d, "numpy")),  # type: ignore[misc]
            }
        )
    set_num_threads(usual)
    return rows
