"""A trained checkpoint -> a weights file: integer scale network, integer tables, float16 networks.

`python -m ncodec.training.export RUN/checkpoint.pt weights/hyperprior-s.safetensors` also writes the
model's entry into index.json beside it.
"""

import hashlib
import json
from pathlib import Path

import torch
import typer
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from ncodec.entropy import FREQ_BITS, FrequencyTables
from ncodec.models.hyperprior import (
    STRIDE,
    Hyperprior,
    HyperpriorCodec,
    HyperpriorConfig,
    Latents,
    from_tensors,
    to_tensors,
)

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


def export(checkpoint: Path, out: Path, skip_below: int) -> None:
    """Write the EMA weights of a checkpoint as `out` and its entry in `out`'s index.json."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    model = Hyperprior(HyperpriorConfig(**state["config"]))
    model.load_state_dict(state["ema"])
    tables_r = FrequencyTables.from_pmf(
        [p.numpy() for p in model.prior_r.pmf_rows(LONGEST_ROW, TAIL)]
    )
    tables_z = FrequencyTables.from_pmf(
        [p.numpy() for p in model.prior_z.pmf_rows(LONGEST_ROW, TAIL)]
    )
    about = {
        "name": out.stem,
        "family": "hyperprior",
        "config": state["config"],
        "skip_below": skip_below,
    }
    temporary = out.with_suffix(".tmp")
    tensors = to_tensors(model, tables_r, tables_z)
    save_file(tensors, temporary, {"ncodec": json.dumps(about)})
    temporary.chmod(0o644)
    temporary.replace(out)
    index = out.parent / "index.json"
    models = json.loads(index.read_text())["models"] if index.exists() else []
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_steps": state["step"],
        "training_minutes": round(state["elapsed_s"] / 60, 1),
        "kmac_per_pixel": round(decode_kmac_per_pixel(from_tensors(tensors, about, "cpu")), 2),
    }
    entry = {
        "name": out.stem,
        "family": "hyperprior",
        "file": out.name,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "about": facts,
    }
    models = [m for m in models if m["name"] != out.stem] + [entry]
    index.write_text(json.dumps({"models": models}, indent=2) + "\n")
    print(json.dumps(entry, indent=2))


def main(
    checkpoint: Path,
    out: Path,
    skip_below: int = typer.Option(0, help="table rows not coded: their residuals are 0"),
) -> None:
    """Turn a checkpoint into a weights file."""
    export(checkpoint, out, skip_below)


if __name__ == "__main__":
    typer.run(main)
