"""Train one variable-rate model within a time budget; resumable; one process a core under torchrun.

    loss = (lambda(q) * 255**2 * MSE + bits / pixels) / sqrt(lambda(q))

with q uniform in [1, 8] per sample. Dividing by sqrt(lambda) keeps any one rate from dominating.
Every step draws its data and noise from a generator seeded by (seed, rank, step), so a resumed run
continues as if it had never stopped.
"""

import json
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ncodec.models.hyperprior import STRIDE, Hyperprior, HyperpriorConfig
from ncodec.nn.gain import LAMBDAS, MAX_QUALITY, MIN_QUALITY, lmbda_at_quality
from ncodec.training.data import block_pca, load_images, random_crops

EMA_DECAY = 0.999
WARM_UP_STEPS = 300
FINAL_RATE = 0.01  # of the learning rate, at the end of the cosine
MAX_GRADIENT_NORM = 2.0
LOG_EVERY_S, SAVE_EVERY_S, VALIDATE_EVERY_S = 20.0, 120.0, 480.0
VALIDATION_QUALITIES = (1.0, 3.0, 5.0, 8.0)
VALIDATION_IMAGES, VALIDATION_SIDE = 16, 320  # at most so many, cut to so many pixels


@dataclass(frozen=True)
class TrainingOptions:
    """How to train; `batch` is per process."""

    minutes: float
    batch: int = 4
    crop: int = 192  # pixels, a multiple of 32
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = "cpu"
    bfloat16: bool = True


def rate_distortion_loss(model: nn.Module, x: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of a batch, and per image bpp [B] and MSE [B] (unit interval)."""
    out = model(x, q)
    bpp = (out.y_bits + out.z_bits) / (x.shape[2] * x.shape[3])
    mse = (out.x_hat - x).square().flatten(1).mean(1)
    lmbda = lmbda_at_quality(q)
    return ((lmbda * 255**2 * mse + bpp) / lmbda.sqrt()).mean(), bpp, mse


def parameter_groups(model: Hyperprior, learning_rate: float) -> list[dict[str, object]]:
    """Return Adam's groups: the PCA path starts nearly right, the tables of 8 rows learn faster."""
    slow, fast, rest = [], [], []
    for name, parameter in model.named_parameters():
        if name.startswith(("g_a.linear", "g_s.linear")):
            slow.append(parameter)
        elif name.startswith(("log_", "index_offset", "prior_")):
            fast.append(parameter)
        else:
            rest.append(parameter)
    return [
        {"params": group, "lr": learning_rate * factor, "base": learning_rate * factor}
        for group, factor in ((slow, 0.04), (fast, 3.0), (rest, 1.0))
    ]


def average_over_processes(model: nn.Module, progress: float) -> float:
    """Average the gradients over all processes; return the mean progress, so that all agree."""
    if not dist.is_initialized():
        return progress
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor([progress])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = torch.split(flat[:-1], [g.numel() for g in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    return float(flat[-1])


@torch.no_grad()
def validate(
    model: Hyperprior, images: list[Tensor], qualities: tuple[float, ...]
) -> list[dict[str, float]]:
    """Return estimated bpp, PSNR (dB) and loss of whole images, one point per quality."""
    model.eval()
    points = []
    for quality in qualities:
        bpps, psnrs, losses = [], [], []
        for image in images:
            x = image[None].float().to(next(model.parameters()).device) / 255
            q = torch.full((1,), quality, device=x.device)
            loss, bpp, mse = rate_distortion_loss(model, x, q)
            bpps.append(float(bpp))
            psnrs.append(-10 * math.log10(float(mse)))
            losses.append(float(loss))
        mean = [sum(v) / len(v) for v in (bpps, psnrs, losses)]
        points.append(dict(zip(("bpp", "psnr", "loss"), mean, strict=True), quality=quality))
    model.train()
    return points


@dataclass
class Run:
    """Everything a checkpoint keeps: what changes from step to step, and how it was started."""

    model: Hyperprior
    ema: Hyperprior
    optimizer: torch.optim.Optimizer
    options: TrainingOptions
    step: int = 0
    elapsed_s: float = 0.0  # in steps; saving and validating do not count
    skipped: int = 0

    def save(self, path: Path) -> None:
        """Write the checkpoint; the old one stays whole until the new one is."""
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "config": asdict(self.model.config),
            "options": asdict(self.options),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
            "skipped": self.skipped,
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint, with this run's options: a longer budget resumes a run."""
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]
        self.skipped = state["skipped"]


@dataclass
class Log:
    """A JSON line per event, in a file and on the screen; losses are means since the last line."""

    path: Path | None  # None: another process writes
    last_s: float  # elapsed_s of the run at the last line of losses
    sums: Tensor = field(default_factory=lambda: torch.zeros(3))  # loss, bpp, MSE
    counted: int = 0

    def write(self, **fields: object) -> None:
        if self.path is not None:
            line = json.dumps(fields)
            with self.path.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)

    def add(self, run: Run, measured: Tensor) -> None:
        """Count what `training_step` returned; write a line when one is due."""
        self.sums += measured[:3]
        self.counted += 1
        seconds = run.elapsed_s - self.last_s
        if seconds < LOG_EVERY_S:
            return
        loss, bpp, mse = (self.sums / self.counted).tolist()
        self.write(
            step=run.step,
            minutes=run.elapsed_s / 60,
            loss=loss,
            bpp=bpp,
            mse=mse,
            gradient_norm=float(measured[3]),
            crops_per_s=self.counted * run.options.batch / seconds,
            skipped=run.skipped,
        )
        self.sums, self.counted, self.last_s = torch.zeros(3), 0, run.elapsed_s


def start_run(config: HyperpriorConfig, options: TrainingOptions) -> Run:
    """Return a run at step 0 with seeded random weights, the same in every process."""
    torch.manual_seed(options.seed)
    # The EMA draws its own weights: `initialise` or `Run.load` replaces them.
    model, ema = (
        Hyperprior(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for _ in range(2)
    )
    model, ema = model.to(options.device), ema.to(options.device).requires_grad_(False)
    optimizer = torch.optim.Adam(
        parameter_groups(model, options.learning_rate), betas=(0.9, 0.99), fused=True
    )
    return Run(model, ema, optimizer, options)


def initialise(run: Run, images: list[Tensor]) -> None:
    """Start the linear path at the PCA of `images`, and the EMA at the model."""
    device = run.options.device
    basis, std = block_pca(images, STRIDE, run.model.config.M)
    run.model.initialise_linear_path(
        basis.to(device), std.to(device), torch.tensor(LAMBDAS).to(device)
    )
    run.ema.load_state_dict(run.model.state_dict())


def draw_batch(
    images: list[Tensor], options: TrainingOptions, rank: int, step: int
) -> tuple[Tensor, Tensor]:
    """Return crops [B, 3, crop, crop] and qualities [B] of a step; seed torch for its noise too."""
    seeds = np.random.SeedSequence([options.seed, rank, step])
    rng = np.random.default_rng(seeds)
    torch.manual_seed(int(seeds.generate_state(1)[0]))
    x = random_crops(images, options.batch, options.crop, rng).to(options.device)
    q = torch.from_numpy(rng.uniform(MIN_QUALITY, MAX_QUALITY, options.batch)).float()
    return x.contiguous(memory_format=torch.channels_last), q.to(options.device)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, progress: float) -> None:
    """Warm up over the first steps, then follow a cosine over the time budget."""
    cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * cosine * min(1.0, (step + 1) / WARM_UP_STEPS)


def training_step(run: Run, x: Tensor, q: Tensor) -> Tensor | None:
    """Take one step; return its loss, bpp, MSE and gradient norm [4], or None at the end.

    The end is looked for here, after the gradients: their average carries the progress, so that
    every process stops at the same step.
    """
    options = run.options
    with torch.autocast(x.device.type, torch.bfloat16, enabled=options.bfloat16):
        loss, bpp, mse = rate_distortion_loss(run.model, x, q)
    run.optimizer.zero_grad(set_to_none=False)
    loss.backward()  # type: ignore[no-untyped-call]
    progress = average_over_processes(run.model, run.elapsed_s / (options.minutes * 60))
    if progress >= 1:
        return None
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), MAX_GRADIENT_NORM)
    if torch.isfinite(norm):
        set_learning_rate(run.optimizer, run.step, progress)
        run.optimizer.step()
        # A short memory at first, or the initial weights would stay in the average for long.
        decay = min(EMA_DECAY, (1 + run.step) / (10 + run.step))
        torch._foreach_lerp_(list(run.ema.parameters()), list(run.model.parameters()), 1 - decay)
    else:
        run.skipped += 1
    run.step += 1
    return torch.tensor([float(v.detach()) for v in (loss, bpp.mean(), mse.mean(), norm)])


def train_until_spent(
    run: Run, log: Log, images: list[Tensor], watched: list[Tensor], rank: int, checkpoint: Path
) -> None:
    """Take steps until the budget is spent; the first process saves and validates on the way."""
    run.model.train()
    last_save = last_validation = run.elapsed_s
    while True:
        begin = time.monotonic()
        x, q = draw_batch(images, run.options, rank, run.step)
        measured = training_step(run, x, q)
        if measured is None:
            break
        run.elapsed_s += time.monotonic() - begin
        log.add(run, measured)
        if rank == 0 and run.elapsed_s - last_save >= SAVE_EVERY_S:
            run.save(checkpoint)
            last_save = run.elapsed_s
        if rank == 0 and watched and run.elapsed_s - last_validation >= VALIDATE_EVERY_S:
            log.write(step=run.step, validation=validate(run.ema, watched, VALIDATION_QUALITIES))
            last_validation = run.elapsed_s
    if rank == 0:
        run.save(checkpoint)


def train(
    config: HyperpriorConfig,
    options: TrainingOptions,
    data: list[Path],
    validation: list[Path],
    run: Path,
    resume: bool,
) -> None:
    """Train and leave `checkpoint.pt` (with the EMA weights under "ema") and `log.jsonl` in `run`.

    Under torchrun every process trains on its own crops and gradients are averaged. A step whose
    loss or gradient is not finite is skipped and counted.

    Raises:
        InputError: no usable image under `data`.
    """
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if options.device == "cuda" else "gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    run.mkdir(parents=True, exist_ok=True)
    checkpoint = run / "checkpoint.pt"
    images = load_images(data, options.crop)
    state = start_run(config, options)
    if resume and checkpoint.exists():
        state.load(checkpoint)
    else:
        initialise(state, images)
    watched = load_images(validation, VALIDATION_SIDE)[:VALIDATION_IMAGES] if validation else []
    watched = [image[:, :VALIDATION_SIDE, :VALIDATION_SIDE] for image in watched]
    log = Log(run / "log.jsonl" if rank == 0 else None, state.elapsed_s)
    log.write(event="start", images=len(images), config=asdict(config), options=asdict(options),
              step=state.step)  # fmt: skip
    train_until_spent(state, log, images, watched, rank, checkpoint)
    log.write(event="end", step=state.step, minutes=state.elapsed_s / 60, skipped=state.skipped)
    if dist.is_initialized():
        dist.destroy_process_group()
