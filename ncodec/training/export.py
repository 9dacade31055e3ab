"""A trained checkpoint -> a weights file, its entry for an index.json, and a check that real files are what was trained.

`ncodec train` exports to its run folder; ship.py puts what lies there among the shipped models.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save
from torch import Tensor

from ncodec import container
from ncodec.codec import decode, encode
from ncodec.errors import InputError
from ncodec.files import write_whole
from ncodec.metrics import bd_rate, bpp, psnr
from ncodec.models import weights
from ncodec.selftest import make_self_test
from ncodec.training.checkpoint import read_checkpoint
from ncodec.training.recipe import load_recipe
from ncodec.training.record import write_json
from ncodec.training.run import Run
from ncodec.training.validation import EVERY_QUALITY, validate

WITHIN_PERCENT = 1.0  # of rate: what exporting may change


def export(checkpoint: Path, out: Path, images: list[Tensor]) -> None:
    """Write the EMA weights of a checkpoint as `out`, and its entry in an index.json beside it.

    Args:
        checkpoint: RUN/checkpoint.json, written by `Run.save`; a run.json beside it says on what device.
        out: weights file.
        images: uint8 [3, H, W], of those it was trained on, sides multiples of the recipe's CROP_STRIDE: they tell
            what integers have to hold.

    Raises:
        InputError: the checkpoint cannot be read.
    """
    state = read_checkpoint(checkpoint, torch.device("cpu"))
    config = state["config"]
    recipe = load_recipe(config["family"])
    try:
        network = recipe.build(recipe.Config(**config["model"]))
        network.load_state_dict(state["ema"])
    except (TypeError, RuntimeError) as error:
        raise InputError(f"{checkpoint}: of another version of ncodec ({error})") from error
    tensors, about = recipe.to_weights(network, images)
    tune = config.get("tune", next(iter(recipe.OBJECTIVES)))  # of older runs
    about = {"name": config["name"], "family": config["family"], "tune": tune} | about
    write_whole(out, save(tensors, {"ncodec": json.dumps(about)}))
    facts = facts_of(out) | {
        "training_steps": state["step"],
        "training_minutes": round(state["elapsed_s"] / 60, 1),
    }
    starts = checkpoint.parent / "run.json"
    if starts.exists():
        last = json.loads(starts.read_text())[-1]
        facts["training_device"] = f"{last['processes']} x {last['device']}"
    write_json(out.parent / "index.json", {"models": [index_entry(out, facts)]})


def facts_of(file: Path) -> dict[str, Any]:
    """Return what a weights file tells people, the "about" of an index entry: size, cost of decoding."""
    family = weights.family_of(file)
    if not family.recipe:
        return {"parameters_bytes": file.stat().st_size}
    tensors, about, _ = weights.read(file)
    recipe = load_recipe(family.name)
    with weights.reading(file):
        network = recipe.build(recipe.Config(**about["config"]))
        kmac = recipe.kmac_per_pixel(tensors, about)
    return {
        "parameters": sum(p.numel() for p in network.parameters()),
        "kmac_per_pixel": round(kmac, 2),
    }


def index_entry(file: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a weights file in an index.json beside it: its "about" is `facts` and the efforts that it has."""
    _, about, digest = weights.read(file)
    efforts = weights.family_named(about["family"]).load().Options.efforts(about)
    return {
        "name": about["name"],
        "family": about["family"],
        "tune": weights.tune_of(file),
        "file": file.name,
        "sha256": digest.hex(),
        "about": facts | ({"efforts": list(efforts)} if efforts else {}),
        "self_test": make_self_test(file),
    }


def _code(image: Tensor, quality: float, model: Path, effort: int | None) -> tuple[int, int, float]:
    """Return the bytes of an image's payload and of the container around it, and the PSNR (dB)."""
    data = encode(image, quality, model, effort=effort)
    payload = sum(len(payload or b"") for payload in container.read(data).payloads)
    decoded = decode(data, "numpy", model=model)
    return payload, len(data) - payload, psnr(image.permute(1, 2, 0).numpy(), decoded)


def check_export(run: Run, file: Path, images: list[Tensor]) -> dict[str, Any]:
    """Compare real files of exported weights with the network.

    Args:
        run: whose EMA was exported.
        file: the exported weights.
        images: uint8 [3, H, W], sides multiples of the recipe's CROP_STRIDE.

    Returns:
        "float" and "files", the curves (quality, bpp, psnr; means over the images): the network as trained, and
        the files' payload; "bd_rate_percent" of the second over the first (None where the curves are flat);
        "size_percent", the largest difference at one quality between the mean payload and the recipe's estimate
        of it; "container_bytes", the mean of what a file holds beyond its payload, in neither; and "ok": neither
        costs more than 1 % (an export may code better than training knew).
    """
    recipe = run.config.recipe
    trained = validate(run.ema, images, EVERY_QUALITY, run.device, run.config.objective)
    in_files = partial(recipe.estimate, run.ema)
    estimate = validate(in_files, images, EVERY_QUALITY, run.device, run.config.objective)
    files, container_bytes = [], 0
    for quality in EVERY_QUALITY:
        rates, psnrs = [], []
        for image in images:
            payload, around, decibels = _code(image, quality, file, recipe.EFFORT)
            rates.append(bpp(payload, image.shape[2], image.shape[1]))
            psnrs.append(decibels)
            container_bytes += around
        n = len(images)
        files.append({"quality": quality, "bpp": sum(rates) / n, "psnr": sum(psnrs) / n})
    curves = ([(p["bpp"], p["psnr"]) for p in curve] for curve in (trained, files))
    try:
        rate = bd_rate(*curves)[0]
    except InputError:  # flat curves: nothing learned, or images of one colour
        rate = None
    pairs = zip(estimate, files, strict=True)
    size = max((100 * (f["bpp"] / e["bpp"] - 1) for e, f in pairs), key=abs)
    return {
        "bd_rate_percent": rate,
        "size_percent": size,
        "ok": rate is not None and max(rate, size) <= WITHIN_PERCENT,
        "container_bytes": container_bytes / (len(images) * len(EVERY_QUALITY)),
        "float": trained,
        "files": files,
    }
