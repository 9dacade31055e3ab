"""A trained checkpoint -> a weights file: integer scale network, integer tables, float16 networks.

`ncodec train` exports to its run folder. To ship what lies there:
`python -m ncodec.training.export RUN weights/NAME.safetensors`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import typer
from safetensors.torch import save
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ncodec import container
from ncodec.codec import decode, encode
from ncodec.entropy import FREQ_BITS, FrequencyTables
from ncodec.errors import InputError
from ncodec.files import write_whole
from ncodec.metrics import bd_rate, bpp, psnr
from ncodec.models.hyperprior import (
    STRIDE,
    Hyperprior,
    HyperpriorCodec,
    HyperpriorConfig,
    Latents,
    from_tensors,
    to_tensors,
)
from ncodec.selftest import make_self_test
from ncodec.training.validation import validate

LONGEST_ROW = 511  # symbols; wider ones are escapes
TAIL = 2.0**-FREQ_BITS


def decode_kmac_per_pixel(codec: HyperpriorCodec) -> float:
    """Return thousands of multiply-accumulates that decoding takes per pixel, counted while running."""
    side = 16
    c = codec.model.config
    device = codec.index_offset.device
    z = torch.zeros(1, c.Z, side // 2, side // 2, dtype=torch.int32, device=device)
    r = torch.zeros(1, c.M, side, side, dtype=torch.int32, device=device)
    with FlopCounterMode(display=False) as counter:
        codec.indexes(z.long(), 0, (side, side))
        codec.synthesise(Latents(z, r), 0)
    return counter.get_total_flops() / 2 / (side * STRIDE) ** 2 / 1000


def export(checkpoint: Path, out: Path) -> None:
    """Write the EMA weights of a checkpoint as `out`, and its entry in an index.json beside it.

    Args:
        checkpoint: written by `Run.save`; a run.json beside it says on what device.
        out: weights file.

    Raises:
        InputError: the checkpoint cannot be read.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        config = state["config"]
        model = Hyperprior(HyperpriorConfig(**config["model"]))
        model.load_state_dict(state["ema"])
    except Exception as error:  # torch.load raises anything on damaged files
        raise InputError(f"{checkpoint}: not a checkpoint of ncodec train ({error})") from error
    tables_r = FrequencyTables.from_pmf(
        [p.numpy() for p in model.prior_r.pmf_rows(LONGEST_ROW, TAIL)]
    )
    tables_z = FrequencyTables.from_pmf(
        [p.numpy() for p in model.prior_z.pmf_rows(LONGEST_ROW, TAIL)]
    )
    about = {
        "name": config["name"],
        "family": config["family"],
        "config": config["model"],
        "skip_below": model.prior_r.rows_that_skip(),
    }
    tensors = to_tensors(model, tables_r, tables_z)
    write_whole(out, save(tensors, {"ncodec": json.dumps(about)}))
    facts: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "kmac_per_pixel": round(decode_kmac_per_pixel(from_tensors(tensors, about, "cpu")), 2),
        "training_steps": state["step"],
        "training_minutes": round(state["elapsed_s"] / 60, 1),
    }
    starts = checkpoint.parent / "run.json"
    if starts.exists():
        last = json.loads(starts.read_text())[-1]
        facts["training_device"] = f"{last['processes']} x {last['device']}"
    entry = {
        "name": about["name"],
        "family": about["family"],
        "file": out.name,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "about": facts,
        "self_test": make_self_test(out),
    }
    write_json(out.parent / "index.json", {"models": [entry]})


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    write_whole(path, (json.dumps(value, indent=2) + "\n").encode())


def check_export(model: Hyperprior, weights: Path, images: list[Tensor]) -> dict[str, Any]:
    """Compare real files of exported weights with the float model.

    Args:
        model: what was exported, float.
        weights: the exported file.
        images: uint8 [3, H, W], sides multiples of 32.

    Returns:
        "float" and "files", the curves (quality, bpp, psnr; means over the images): the float model's
        estimate with every residual coded, and the files' payload; "bd_rate_percent" of the second over the
        first (None where the curves are flat); "size_percent", the largest difference at one quality between the mean payload and its
        estimate; "container_bytes", the mean of what a file holds beyond its payload, in neither; and
        "ok": both within 1 %.
    """
    qualities = tuple(map(float, range(1, 9)))
    skip_below = model.prior_r.rows_that_skip()
    estimate = validate(model, images, qualities, skip_below)
    everything = validate(model, images, qualities)
    files, container_bytes = [], []
    for quality in qualities:
        rates, psnrs = [], []
        for image in images:
            data = encode(image, quality, weights)
            payload = sum(len(tile) for tile in container.read(data, container.Limits()).tiles)
            container_bytes.append(len(data) - payload)
            rates.append(bpp(payload, image.shape[2], image.shape[1]))
            decoded = decode(data, "numpy", model=weights)
            psnrs.append(psnr(image.permute(1, 2, 0).numpy(), decoded))
        n = len(images)
        files.append({"quality": quality, "bpp": sum(rates) / n, "psnr": sum(psnrs) / n})
    curves = ([(p["bpp"], p["psnr"]) for p in curve] for curve in (everything, files))
    try:
        rate = bd_rate(*curves)[0]
    except InputError:  # flat curves: nothing learned, or images of one colour
        rate = None
    size = max(
        (100 * (f["bpp"] / e["bpp"] - 1) for e, f in zip(estimate, files, strict=True)), key=abs
    )
    return {
        "bd_rate_percent": rate,
        "size_percent": size,
        "ok": rate is not None and abs(rate) <= 1 and abs(size) <= 1,
        "skip_below": skip_below,
        "container_bytes": sum(container_bytes) / len(container_bytes),
        "float": everything,
        "files": files,
    }


def ship(run: Path, out: Path) -> None:
    """Copy a run's model.safetensors to `out`, and its entry, under that name, into the index beside it."""
    try:
        (entry,) = json.loads((run / "index.json").read_text())["models"]
        data = (run / entry["file"]).read_bytes()
        index = out.parent / "index.json"
        models = json.loads(index.read_text())["models"] if index.exists() else []
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(
            f"ncodec: {run}: not a finished run, or no index to ship to ({error})"
        ) from error
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise SystemExit(f"ncodec: {run}: index.json speaks of other weights than {entry['file']}")
    entry |= {"name": out.stem, "file": out.name}
    names = [m["name"] for m in models]
    place = names.index(out.stem) if out.stem in names else len(models)
    write_whole(out, data)
    write_json(index, {"models": [*models[:place], entry, *models[place + 1 :]]})


if __name__ == "__main__":
    typer.run(ship)
