"""How fast files become pixels in a device's memory, alone and together.

    bytes --container--> payloads --CPU--> z --indexing--> rows --coder--> r;  z, r --synthesis--> pixels [B, h, w, 3]

All by torch (models/hyperprior/device.py), on a GPU or, the same program, on the CPU. Medians of wall times after a run to
warm up; of whole decodes with one wait at the end, of the stages with a wait after each, which is why only their shares are told.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

import ncodec
from ncodec import container
from ncodec.errors import InputError
from ncodec.evaluation.bench import NETWORK, Row, check_tile, machine, median_seconds
from ncodec.models.hyperprior.codec import HyperpriorCodec
from ncodec.models.hyperprior.device import DeviceCodec
from ncodec.models.load import find_device, load_by_name
from ncodec.tiles import format_of

QUALITIES = (1, 4, 8)
BATCHES = {"cuda": (1, 24), "cpu": (1, 2)}  # files decoded together
KODAK_PIXELS = 768 * 512
STAGE_RUNS = 5


def bench_image(
    pixels: NDArray[np.uint8], device: str, model: str | None, report: Callable[[Row], None]
) -> Row:
    """Return seconds from the bytes of files to pixels on a device, in images of Kodak's size a second, and the stages' shares.

    Args:
        pixels: [H, W, 3] uint8, small enough for one tile; files decoded together are of it and its flips.
        device: "cpu" or "cuda".
        model: of family hyperprior or ftic; None: `hyperprior-s`.
        report: called with each row as it comes.

    Raises:
        InputError: there is no such device, another family's model, or the image is larger than a tile may be.
    """
    check_tile(pixels)
    where = torch.device(find_device(device))
    model = model or NETWORK
    net = load_by_name(model).codec
    if not isinstance(net, HyperpriorCodec):
        raise InputError(f"model {model}: expected one of family hyperprior or ftic")
    codec = net.on_device(str(where))
    flips = [np.ascontiguousarray(pixels[::v, ::h]) for v in (1, -1) for h in (1, -1)]
    rows = []
    for quality in QUALITIES:
        files = [ncodec.encode(flip, quality, model, tile=0) for flip in flips]
        for batch in BATCHES[where.type]:
            rows.append(_row(codec, [files[i % len(files)] for i in range(batch)], quality, model))
            report(rows[-1])
    return {"machine": machine(), "device": str(where), "image": list(pixels.shape), "rows": rows}


def _row(codec: DeviceCodec, files: list[bytes], quality: float, model: str | None) -> Row:
    def decode(done: Callable[[str], None] = lambda stage: None) -> torch.Tensor:
        parsed = [container.read(data) for data in files]
        header = parsed[0].header
        format = format_of(header, (0, 0, header.width, header.height))
        done("container")
        payloads = [file.tiles[0] for file in parsed]
        found = codec.pixels_on_device(payloads, header.quality_code, format, done)
        _wait(codec.device)
        return found

    for found, data in zip(decode().cpu().numpy(), files, strict=True):
        assert np.array_equal(found, ncodec.decode(data, "numpy", model))
    seconds = median_seconds(decode)
    pixels = np.prod(found.shape[:2])
    return {
        "quality": quality,
        "batch": len(files),
        "bytes": sum(map(len, files)),
        "seconds": seconds,
        "kodak_images_s": len(files) * pixels / KODAK_PIXELS / seconds,
        "share_percent": _shares(decode, codec.device),
    }


def _shares(decode: Callable[[Callable[[str], None]], object], device: torch.device) -> Row:
    """Return the share (percent) of each stage in a decode that waits after each."""
    spent: dict[str, list[float]] = {}
    before = 0.0

    def done(stage: str) -> None:
        nonlocal before
        _wait(device)
        now = time.perf_counter()
        spent.setdefault(stage, []).append(now - before)
        before = now

    for _ in range(STAGE_RUNS if device.type == "cuda" else 1):
        before = time.perf_counter()
        decode(done)
    medians = {stage: float(np.median(seconds)) for stage, seconds in spent.items()}
    return {stage: 100 * s / sum(medians.values()) for stage, s in medians.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
