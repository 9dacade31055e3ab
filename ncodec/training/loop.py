"""Train one variable-rate model within a time budget; resumable; one process a core under torchrun.

    loss = (lambda(q) * 255**2 * MSE + bits / pixels) / sqrt(lambda(q)),   q uniform in [1, 8] per sample

Dividing by sqrt(lambda) keeps any one rate from dominating. Every step draws its data and noise from a
generator seeded by (seed, rank, step), so a resumed run continues as if it had never stopped.
"""

import json
import math
import os
import time
from dataclasses import asdict, dataclass
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
    """Return Adam's groups: the PCA path is nearly right at the start, the tables of 8 rows learn faster."""
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
    """Average the gradients over all processes; return the mean progress, so that all agree on it."""
    if not dist.is_initialized():
        return progress
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients] + [gradients[0].new_tensor([progress])])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(
        gradients,
        flat[:-1].split([g.numel() for g in gradients]),
        strict=True,  # type: ignore[no-untyped-call]
    ):
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


def train(
    config: HyperpriorConfig,
    options: TrainingOptions,
    data: list[Path],
    validation: list[Path],
    run: Path,
    resume: bool,
) -> None:
    """Train and leave `checkpoint.pt` (with the EMA weights under "ema") and `log.jsonl` in `run`.

    Under torchrun every process trains on its own crops and gradients are averaged. A step whose loss
    or gradient is not finite is skipped and counted.

    Raises:
        InputError: no usable image under `data`.
    """
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if options.device == "cuda" else "gloo")
    rank = dist.get_rank() if dist.is_initialized() else 0
    run.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    images = load_images(data, options.crop)
    torch.manual_seed(options.seed)
    model, ema = (Hyperprior(config).to(memory_format=torch.channels_last) for _ in range(2))  # type: ignore[call-overload]
    model, ema = model.to(device), ema.to(device).requires_grad_(False)
    optimizer = torch.optim.Adam(
        parameter_groups(model, options.learning_rate), betas=(0.9, 0.99), fused=True
    )
    step, elapsed, skipped = 0, 0.0, 0
    checkpoint = run / "checkpoint.pt"
    if resume and checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        step, elapsed, skipped = state["step"], state["elapsed_s"], state["skipped"]
    else:
        basis, std = block_pca(images, STRIDE, config.M)
        model.initialise_linear_path(
            basis.to(device), std.to(device), torch.tensor(LAMBDAS).to(device)
        )
        ema.load_state_dict(model.state_dict())
    validation_images = (
        [i[:, :320, :320] for i in load_images(validation, 320)[:16]] if validation else []
    )

    def record(**fields: object) -> None:
        if rank == 0:
            with (run / "log.jsonl").open("a") as log:
                log.write(json.dumps(fields) + "\n")
            print(json.dumps(fields), flush=True)

    def save() -> None:
        if rank == 0:
            state = {
                "model": model.state_dict(),
                "ema": ema.state_dict(),
                "optimizer": optimizer.state_dict(),
                "config": asdict(config),
                "options": asdict(options),
                "step": step,
                "elapsed_s": elapsed,
                "skipped": skipped,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)

    record(
        event="start", images=len(images), config=asdict(config), options=asdict(options), step=step
    )
    model.train()
    budget = options.minutes * 60
    sums, counted = torch.zeros(3), 0
    last_log = last_save = last_validation = elapsed
    while True:
        begin = time.monotonic()
        seeds = np.random.SeedSequence([options.seed, rank, step])
        rng = np.random.default_rng(seeds)
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        x = random_crops(images, options.batch, options.crop, rng).to(device)
        x = x.contiguous(memory_format=torch.channels_last)
        q = (
            torch.from_numpy(rng.uniform(MIN_QUALITY, MAX_QUALITY, options.batch))
            .float()
            .to(device)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bfloat16):
            loss, bpp, mse = rate_distortion_loss(model, x, q)
        optimizer.zero_grad(set_to_none=False)
        loss.backward()  # type: ignore[no-untyped-call]
        progress = average_over_processes(model, elapsed / budget)
        if progress >= 1:
            break
        norm = nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        if torch.isfinite(norm):
            cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = group["base"] * cosine * min(1.0, (step + 1) / WARM_UP_STEPS)
            optimizer.step()
            decay = min(EMA_DECAY, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)
        else:
            skipped += 1
        step += 1
        sums += torch.tensor(
            [float(loss.detach()), float(bpp.mean().detach()), float(mse.mean().detach())]
        )
        counted += 1
        elapsed += time.monotonic() - begin
        if elapsed - last_log >= LOG_EVERY_S:
            mean = sums / counted
            speed = counted * options.batch / (elapsed - last_log)
            record(step=step, minutes=elapsed / 60, loss=float(mean[0]), bpp=float(mean[1]),
                   mse=float(mean[2]), gradient_norm=float(norm), crops_per_s=speed, skipped=skipped)  # fmt: skip
            sums, counted, last_log = torch.zeros(3), 0, elapsed
        if elapsed - last_save >= SAVE_EVERY_S:
            save()
            last_save = elapsed
        if validation_images and rank == 0 and elapsed - last_validation >= VALIDATE_EVERY_S:
            record(step=step, validation=validate(ema, validation_images, (1.0, 3.0, 5.0, 8.0)))
            last_validation = elapsed
    save()
    record(event="end", step=step, minutes=elapsed / 60, skipped=skipped)
    if dist.is_initialized():
        dist.destroy_process_group()
