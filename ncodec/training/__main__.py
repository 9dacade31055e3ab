"""`python -m ncodec.training --data SHARD … --out RUN --minutes M`: train `hyperprior-s`.

On a CPU, one process a core: `torchrun --nproc-per-node 2 -m ncodec.training …` with OMP_NUM_THREADS=1.
"""

from pathlib import Path

import typer

from ncodec.models.hyperprior import HyperpriorConfig
from ncodec.training.loop import TrainingOptions, train


def main(
    data: list[Path] = typer.Option(..., help="tar shards or folders of images"),
    validation: list[Path] = typer.Option([], help="shards or folders to watch, never trained on"),
    out: Path = typer.Option(..., help="run folder: checkpoint.pt, log.jsonl"),
    minutes: float = typer.Option(..., help="time budget; the learning rate follows it"),
    batch: int = typer.Option(4, help="crops per process and step"),
    crop: int = typer.Option(192, help="side of a crop (pixels), a multiple of 32"),
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str = typer.Option("cpu", help="cpu or cuda"),
    bfloat16: bool = typer.Option(True, help="autocast the transforms"),
    resume: bool = typer.Option(False, help="continue the run in --out"),
) -> None:
    """Train one variable-rate model within a time budget."""
    options = TrainingOptions(minutes, batch, crop, learning_rate, seed, device, bfloat16)
    train(HyperpriorConfig(), options, data, validation, out, resume)


typer.run(main)
