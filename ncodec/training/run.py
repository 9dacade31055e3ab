"""A training run: what it is made of, how it starts, what a checkpoint keeps of it.

    images --------recipe--> network --\\
    weights file --recipe--> network ---> Run --save--> checkpoint.json, its shards --resume_run--> Run
"""

import json
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ncodec.errors import InputError, named
from ncodec.models import weights
from ncodec.training.checkpoint import read_checkpoint, write_checkpoint
from ncodec.training.config import Config
from ncodec.training.optimizer import Muon


@dataclass
class Budget:
    """How long one cosine lasts, from where: minutes of the clock, or steps."""

    minutes: float | None
    steps: int | None
    first_step: int = 0
    first_second: float = 0.0

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return how much of the budget is spent, 0 … 1 and beyond."""
        if self.steps is not None:
            return (step - self.first_step) / self.steps
        assert self.minutes is not None
        return (elapsed_s - self.first_second) / (60 * self.minutes)


@dataclass
class Run:
    """Everything a checkpoint keeps: what changes from step to step, and how it was started."""

    config: Config
    network: nn.Module
    ema: nn.Module
    optimizer: Muon
    budget: Budget
    device: torch.device
    step: int = 0
    elapsed_s: float = 0.0  # of training, saving and validating
    skipped: int = 0
    origin: dict[str, str] = field(
        default_factory=dict
    )  # of a run that starts: not in a checkpoint

    @property
    def progress(self) -> float:
        """How much of the budget is spent."""
        return self.budget.progress(self.step, self.elapsed_s)

    def save(self, manifest: Path) -> None:
        """Write the checkpoint that resume_run goes on from: RUN/checkpoint.json, its shards beside it.

        Raises:
            InputError: it cannot be written.
        """
        state = {
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "config": self.config.to_dict(),
            "budget": vars(self.budget),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "skipped": self.skipped,
        }
        write_checkpoint(manifest, state)


def _placed(network: nn.Module, device: torch.device) -> nn.Module:
    return network.to(memory_format=torch.channels_last).to(device)  # type: ignore[call-overload]


def _optimizer(config: Config, network: nn.Module) -> Muon:
    return Muon(config.recipe.parameter_groups(network), config.training.learning_rate)


def read_network(config: Config, path: Path) -> tuple[nn.Module, dict[str, str]]:
    """Return the network of a weights file, and which weights they are, for log.jsonl and run.json.

    Raises:
        InputError: no such file, or not of the config's family and model.
        WeightsMismatchError: it is damaged, or not a weights file of ncodec.
    """
    tensors, about, digest = weights.read(path)
    with named(f"{path}: "):
        about = config.recipe.as_start(config.model, tensors, about)
    model = json.loads(json.dumps(asdict(config.model)))  # as files have it: lists, not tuples
    expected = {"family": config.family, "model": model}
    found = {"family": about["family"], "model": about.get("config")}
    if found != expected:
        raise InputError(
            f"{path}: start from the config's model: expected {expected}, found {found}"
        )
    with weights.reading(path):
        network = config.recipe.from_weights(tensors, about)
    return network, {"weights": about["name"], "sha256": digest.hex(), "optimizer": "new"}


def start_run(
    config: Config,
    budget: Budget,
    device: torch.device,
    images: list[Tensor],
    start: tuple[nn.Module, dict[str, str]] | None = None,
) -> Run:
    """Return a run at step 0, its optimiser anew.

    Args:
        config: what to train.
        budget: how long.
        device: where.
        images: uint8 [3, H, W], those to train on, from which the recipe starts.
        start: what `read_network` returned, to start from instead.
    """
    torch.manual_seed(config.training.seed)
    network, origin = start or (config.recipe.start(config.model, images), {})
    network = _placed(network, device)
    ema = deepcopy(network).requires_grad_(False)
    optimizer = _optimizer(config, network)
    return Run(config, network, ema, optimizer, budget, device, origin=origin)


def resume_run(config: Config, budget: Budget, device: torch.device, checkpoint: Path) -> Run:
    """Return the run of a checkpoint, to go on with; once its budget is spent, `budget` starts a new cosine.

    Args:
        config: as the run was started; [training] may differ.
        budget: without minutes and steps, the rest of the run's own, be it nothing.
        device: where to train.
        checkpoint: RUN/checkpoint.json, written by `Run.save`.

    Raises:
        InputError: the checkpoint cannot be read, or holds another model.
    """
    state = read_checkpoint(checkpoint, device)
    saved = Budget(**state["budget"])
    step, elapsed_s = state["step"], state["elapsed_s"]
    expected, found = (
        {key: table[key] for key in ("family", "model")}
        for table in (state["config"], config.to_dict())
    )
    if found != expected:
        raise InputError(
            f"{checkpoint}: resume with the same model: expected {expected}, found {found}"
        )
    if budget.minutes is None and budget.steps is None:
        budget = saved
    elif saved.progress(step, elapsed_s) >= 1:
        budget = Budget(budget.minutes, budget.steps, step, elapsed_s)
    else:
        budget = Budget(budget.minutes, budget.steps, saved.first_step, saved.first_second)
    network, ema = (_placed(config.recipe.build(config.model), device) for _ in range(2))
    network.load_state_dict(state["model"])
    ema.load_state_dict(state["ema"])
    ema.requires_grad_(False)
    optimizer = _optimizer(config, network)
    if set(state["optimizer"]) != set(optimizer.state_dict()):
        raise InputError(f"{checkpoint}: of an older ncodec, which trained with another optimiser")
    optimizer.load_state_dict(state["optimizer"])
    skipped = state["skipped"]
    return Run(config, network, ema, optimizer, budget, device, step, elapsed_s, skipped)
