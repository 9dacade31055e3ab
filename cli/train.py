"""`ncodec train`: a model from your own images."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from ncodec.cli.batch import INTERRUPTED
from ncodec.cli.options import Device

MANY = ("--data", "--validation")  # options that take several paths


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG", help="TOML file, or the name of a config that comes with ncodec."
        ),
    ],
    data: Annotated[
        list[Path], typer.Option(metavar="PATH...", help="Folders or tar shards of images.")
    ] = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Run folder: weights, checkpoint, log.")] = None,
    validation: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH...", help="As --data, never trained on; default: some held out."
        ),
    ] = [],  # noqa: B006
    minutes: Annotated[
        float | None, typer.Option(help="Time budget; the learning rate follows the clock.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Budget in steps instead: repeatable to the bit on a CPU.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --out.")] = False,
    start_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="MODEL|FILE",
            help="Start from these weights (not the optimiser's state).",
        ),
    ] = None,
    device: Device = "cpu",
    assignments: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Such as training.batch=16.")
    ] = [],  # noqa: B006
    save_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 120,
    is_compiled: Annotated[
        bool, typer.Option("--compile", help="Let torch.compile have the network, where it can.")
    ] = False,
) -> None:
    """Train a model on your images; leaves OUT/model.safetensors to encode with.

    One process a core or GPU: OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 --no-python ncodec train ...
    """
    if not data:
        raise typer.BadParameter("folders or tar shards of images", param_hint="--data")
    out = out or Path(f"{Path(config).stem}-run")
    for value, name in ((minutes, "--minutes"), (steps, "--steps")):
        if value is not None and not 0 < value < float("inf"):
            raise typer.BadParameter(f"expected more than 0, found {value}", param_hint=name)
    if minutes is not None and steps is not None:
        raise typer.BadParameter("either --minutes or --steps", param_hint="--steps")
    if minutes is None and steps is None and not resume:
        minutes = 60
    from ncodec.training.config import read_config
    from ncodec.training.program import train as train_model
    from ncodec.training.run import Budget

    if resume and start_from is not None:
        raise typer.BadParameter("either --from or --resume", param_hint="--from")
    from ncodec.models.weights import find_start

    origin = None if start_from is None else find_start(start_from)
    settings, budget = read_config(config, assignments), Budget(minutes, steps)
    try:
        train_model(
            settings, data, validation, out, budget, resume, device, save_every, origin, is_compiled
        )
    except KeyboardInterrupt as error:
        print(f"ncodec: {str(error) or f'{out}: interrupted; --resume goes on'}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def repeat_options(arguments: list[str]) -> list[str]:
    """Return `--data A B` as `--data A --data B`, which is how typer wants it."""
    repeated: list[str] = []
    current = ""
    for word, before in zip(arguments, ["", *arguments], strict=False):
        if word.startswith("-"):
            current = word if word in MANY else ""
        elif current and before != current:
            repeated.append(current)
        repeated.append(word)
    return repeated
