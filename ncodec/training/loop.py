"""Train one variable-rate model within a budget of minutes or steps; resumable; one process a core or GPU.

    J = lambda(q) * 255**2 * MSE + bits / pixels        loss = log(J + 0.03)

with q uniform in [1, 8] per sample. The logarithm makes the loss relative: a crop counts by how much of its own
cost it saves, so neither one rate nor busy crops dominate; 0.03 bits a pixel keep empty ones from doing so.

Step s draws its whole batch from (seed, s), and the noise of sample i from (seed, s, i); a process takes
its share of the samples. So neither a resumed run nor, up to rounding, the number of processes changes
what is learned. With a budget in steps the learning rate depends on the step alone and a resumed run ends with the same
weights to the bit (CPU); with a budget in minutes it follows the clock.
"""

import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ncodec.errors import InputError
from ncodec.models.hyperprior import STRIDE, Hyperprior, TrainingOutput, trainable
from ncodec.models.weights import read_tensors
from ncodec.nn.gain import LAMBDAS, MAX_QUALITY, MIN_QUALITY, lmbda_at_quality
from ncodec.training.config import Config, TrainingOptions
from ncodec.training.data import ImageStore, block_pca

EMA_DECAY = 0.999
WARM_UP_STEPS = 300
FINAL_RATE = 0.01  # of the learning rate, at the end of the cosine
EXACT_FROM = 2 / 3  # of the budget: from here on the table indexes are those of the integer network
MAX_GRADIENT_NORM = 2.0
PCA_IMAGES = 4096


def rate_distortion_loss(
    out: TrainingOutput, x: Tensor, q: Tensor, kind: str = "relative"
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of a batch, and per image bpp [B] and MSE [B] (unit interval)."""
    bpp = (out.y_bits + out.z_bits) / (x.shape[2] * x.shape[3])
    mse = (out.x_hat - x).square().flatten(1).mean(1)
    lmbda = lmbda_at_quality(q)
    cost = lmbda * 255**2 * mse + bpp
    if kind == "absolute":
        return (cost / lmbda.sqrt()).mean(), bpp, mse
    return (cost + 0.03).log().mean(), bpp, mse


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


class Muon:
    """Muon (https://kellerjordan.github.io/posts/muon) for the 1x1 convolutions, AdamW for all else.

    Three quarters of the weights are matrices of 1x1 convolutions: their steps follow the orthogonalised momentum,
    scaled to the size of AdamW's (https://arxiv.org/abs/2502.16982), so that one learning rate serves both.
    The linear path starts at the PCA, nearly right, and learns slowly; the tables of 8 rows learn fast.
    """

    def __init__(self, model: Hyperprior, learning_rate: float) -> None:
        self._convolutions = [
            module.weight
            for module in model.modules()
            if type(module) is nn.Conv2d and module.kernel_size == (1, 1)
        ]
        # torch.optim.Muon takes matrices: views [out, in] of the weights [out, in, 1, 1].
        self._matrices = [nn.Parameter(weight.data[:, :, 0, 0]) for weight in self._convolutions]
        taken = set(map(id, self._convolutions))
        slow, fast, rest = [], [], []
        for name, parameter in model.named_parameters():
            if id(parameter) in taken:
                continue
            if name.startswith(("g_a.linear", "g_s.linear")):
                slow.append(parameter)
            elif name.startswith(("log_", "index_offset", "prior_")):
                fast.append(parameter)
            else:
                rest.append(parameter)
        groups = [
            {"params": group, "lr": learning_rate * factor, "factor": factor}
            for group, factor in ((slow, 0.04), (fast, 3.0), (rest, 1.0))
        ]
        matrices = [{"params": self._matrices, "lr": learning_rate, "factor": 1.0}]
        # No decay: models this small do not overfit.
        self._adamw = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        self._muon = torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups; a group's "factor" is its share of the learning rate."""
        return self._adamw.param_groups + self._muon.param_groups

    def step(self) -> None:
        """Take one step along the gradients of the model's parameters."""
        for matrix, weight in zip(self._matrices, self._convolutions, strict=True):
            assert weight.grad is not None
            matrix.grad = weight.grad[:, :, 0, 0]
        self._adamw.step()
        self._muon.step()  # type: ignore[no-untyped-call]

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"adamw": self._adamw.state_dict(), "muon": self._muon.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self._adamw.load_state_dict(state["adamw"])
        self._muon.load_state_dict(state["muon"])


@dataclass
class Run:
    """Everything a checkpoint keeps: what changes from step to step, and how it was started."""

    config: Config
    model: Hyperprior
    ema: Hyperprior
    optimizer: Muon
    budget: Budget
    device: torch.device
    step: int = 0
    elapsed_s: float = 0.0  # of training, saving and validating
    skipped: int = 0

    @property
    def progress(self) -> float:
        """How much of the budget is spent."""
        return self.budget.progress(self.step, self.elapsed_s)

    def save(self, path: Path) -> None:
        """Write the checkpoint; the old one stays whole until the new one is.

        Raises:
            InputError: it cannot be written.
        """
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "config": self.config.to_dict(),
            "budget": vars(self.budget),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "skipped": self.skipped,
        }
        temporary = path.with_suffix(".tmp")
        try:
            torch.save(state, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch.save: RuntimeError on a full disk
            temporary.unlink(missing_ok=True)
            raise InputError(f"{path}: cannot write ({str(error).splitlines()[0]})") from error


def start_run(
    config: Config,
    budget: Budget,
    device: torch.device,
    images: list[Tensor],
    weights: Path | None = None,
) -> Run:
    """Return a run at step 0, its optimiser anew.

    Args:
        config: what to train.
        budget: how long.
        device: where.
        images: uint8 [3, H, W]: seeded random weights, and the linear path at the PCA of these.
        weights: a weights file to start from instead.

    Raises:
        InputError, WeightsMismatchError: `weights` cannot be had, or is of another model.
    """
    torch.manual_seed(config.training.seed)
    if weights is None:
        model = Hyperprior(config.model)
        basis, std = block_pca(images[:PCA_IMAGES], STRIDE, config.model.M)
        model.initialise_linear_path(basis, std, torch.tensor(LAMBDAS))
    else:
        tensors, about = read_tensors(weights)
        if about["config"] != asdict(config.model):
            raise InputError(f"{weights}: expected the config's model {asdict(config.model)}, "
                             f"found {about['config']}")  # fmt: skip
        model = trainable(tensors, about)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = Hyperprior(config.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema.load_state_dict(model.state_dict())
    model, ema = model.to(device), ema.to(device).requires_grad_(False)
    return Run(config, model, ema, Muon(model, config.training.learning_rate), budget, device)


def resume_run(config: Config, budget: Budget, device: torch.device, checkpoint: Path) -> Run:
    """Return the run of a checkpoint, to go on with; once its budget is spent, `budget` starts a new cosine.

    Args:
        config: as the run was started; [training] may differ.
        budget: without minutes and steps, the rest of the run's own, be it nothing.
        device: where to train.
        checkpoint: written by `Run.save`.

    Raises:
        InputError: the checkpoint cannot be read, or holds another model.
    """
    try:
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        saved = Budget(**state["budget"])
        step, elapsed_s, skipped = state["step"], state["elapsed_s"], state["skipped"]
    except Exception as error:  # torch.load raises anything on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{checkpoint}: not a checkpoint of ncodec train ({reason})") from error
    expected, found = state["config"]["model"], config.to_dict()["model"]
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
    model, ema = (
        Hyperprior(config.model).to(memory_format=torch.channels_last).to(device)  # type: ignore[call-overload]
        for _ in range(2)
    )
    model.load_state_dict(state["model"])
    ema.load_state_dict(state["ema"])
    optimizer = Muon(model, config.training.learning_rate)
    if set(state["optimizer"]) != set(optimizer.state_dict()):
        raise InputError(f"{checkpoint}: of an older ncodec, which trained with another optimiser")
    optimizer.load_state_dict(state["optimizer"])
    return Run(
        config,
        model,
        ema.requires_grad_(False),
        optimizer,
        budget,
        device,
        step,
        elapsed_s,
        skipped,
    )


def draw_batch(
    store: ImageStore, options: TrainingOptions, step: int, rank: int, world: int
) -> tuple[Tensor, Tensor, list[torch.Generator]]:
    """Return a process's share of step `step`: crops [B, 3, crop, crop], qualities [B], noise generators."""
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, step]))
    share = options.batch // world
    part = slice(rank * share, (rank + 1) * share)
    x = store.random_crops(options.crop, rng, options.batch, part)
    q = torch.from_numpy(rng.uniform(MIN_QUALITY, MAX_QUALITY, options.batch)[part]).float()
    noise = []
    for i in range(part.start, part.stop):
        seed = np.random.SeedSequence([options.seed, step, i]).generate_state(1, np.uint64)[0]
        noise.append(torch.Generator(store.device).manual_seed(int(seed >> np.uint64(1))))
    return x.contiguous(memory_format=torch.channels_last), q.to(store.device), noise


def learning_rate_factor(steps_done: int, progress: float) -> float:
    """Return the share of the learning rate: warm-up, then a cosine over the budget."""
    cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return cosine * min(1.0, (steps_done + 1) / WARM_UP_STEPS)


def training_step(
    run: Run, model: nn.Module, x: Tensor, q: Tensor, noise: list[torch.Generator], progress: float
) -> Tensor:
    """Take one step and return its loss, bpp, MSE and gradient norm, [4] on the device.

    Args:
        run: changed in place.
        model: `run.model`, or its DistributedDataParallel.
        x, q, noise: this process's share of the batch.
        progress: of the budget, the same in every process.
    """
    options = run.config.training
    with torch.autocast(x.device.type, torch.bfloat16, enabled=options.bfloat16):
        out = model(x, q, noise, progress >= EXACT_FROM)
        loss, bpp, mse = rate_distortion_loss(out, x, q, options.loss)
    run.model.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), MAX_GRADIENT_NORM)
    if torch.isfinite(norm):  # gradients are averaged: all processes agree
        factor = learning_rate_factor(run.step - run.budget.first_step, progress)
        for group in run.optimizer.param_groups:
            group["lr"] = options.learning_rate * group["factor"] * factor
        run.optimizer.step()
        # A short memory at first, or the initial weights would stay in the average for long.
        decay = min(EMA_DECAY, (1 + run.step) / (10 + run.step))
        torch._foreach_lerp_(list(run.ema.parameters()), list(run.model.parameters()), 1 - decay)
    else:
        run.skipped += 1
    run.step += 1
    return torch.stack([v.detach().float() for v in (loss, bpp.mean(), mse.mean(), norm)])


def train_until_spent(
    run: Run,
    store: ImageStore,
    rank: int,
    world: int,
    on_step: Callable[[Run, Tensor], None],
    stop: Callable[[], bool],
) -> None:
    """Take steps until the budget is spent, or `stop` (asked in the first process) says so.

    Under torchrun gradients are averaged over the processes. A step whose gradient is not finite is
    skipped and counted. `on_step` is told what each step measured: loss, bpp, MSE, gradient norm [4].
    """
    model = run.model if world == 1 else DistributedDataParallel(run.model)
    # Of channels-last weights; it speaks of speed, and costs nothing measurable here.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    begin = time.monotonic() - run.elapsed_s
    while True:
        run.elapsed_s = time.monotonic() - begin
        clock = math.inf if stop() else run.progress
        progress = torch.tensor([clock], dtype=torch.float64, device=run.device)
        if world > 1:
            dist.broadcast(progress, 0)  # one clock for all
        if float(progress) >= 1:
            break
        x, q, noise = draw_batch(store, run.config.training, run.step, rank, world)
        measured = training_step(run, model, x, q, noise, float(progress))
        on_step(run, measured)


def process_group(device: torch.device) -> tuple[int, int]:
    """Join torchrun's processes, if it started this one; return rank and world size."""
    if not dist.is_torchelastic_launched():
        return 0, 1
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()
