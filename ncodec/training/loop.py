"""Train one variable-rate network within a budget of minutes or steps; one process a core or GPU.

    ImageStore --draw_batch--> x, q, noise --network--> TrainingOutput --loss.py--> gradients --optimizer.py--> network
                                                                                                   \\--> EMA

q is uniform in [1, 8] per sample. Step s draws its whole batch from (seed, s), and the noise of sample i from
(seed, s, i); a process takes its share of the samples. So neither a resumed run nor, up to rounding, the number of
processes changes what is learned. With a budget in steps the learning rate depends on the step alone and a resumed
run ends with the same weights to the bit (CPU); with a budget in minutes it follows the clock.
"""

import math
import os
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ncodec.quality import MAX_QUALITY, MIN_QUALITY
from ncodec.training.config import TrainingOptions
from ncodec.training.data import ImageStore
from ncodec.training.loss import rate_distortion_loss
from ncodec.training.optimizer import learning_rate_factor
from ncodec.training.run import Run

EMA_DECAY = 0.999
MAX_GRADIENT_NORM = 2.0


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


def training_step(
    run: Run,
    network: nn.Module,
    x: Tensor,
    q: Tensor,
    noise: list[torch.Generator],
    progress: float,
) -> dict[str, Tensor]:
    """Take one step and return what it measured: loss, bpp, MSE, gradient norm, bpp by part; on the device.

    Args:
        run: changed in place.
        network: `run.network`, or its DistributedDataParallel.
        x, q, noise: this process's share of the batch.
        progress: of the budget, the same in every process.
    """
    options = run.config.training
    with torch.autocast(x.device.type, torch.bfloat16, enabled=options.bfloat16):
        out = network(x, q, noise, progress)
        loss, parts = rate_distortion_loss(out, x, q, run.config.recipe.OBJECTIVE)
    run.network.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(run.network.parameters(), MAX_GRADIENT_NORM)
    if torch.isfinite(norm):  # gradients are averaged: all processes agree
        factor = learning_rate_factor(run.step - run.budget.first_step, progress)
        run.optimizer.step(options.learning_rate * factor)
        # A short memory at first, or the initial weights would stay in the average for long.
        decay = min(EMA_DECAY, (1 + run.step) / (10 + run.step))
        torch._foreach_lerp_(list(run.ema.parameters()), list(run.network.parameters()), 1 - decay)
    else:
        run.skipped += 1
    run.step += 1
    return {"loss": loss.detach(), "gradient_norm": norm} | parts


def train_until_spent(
    run: Run,
    store: ImageStore,
    rank: int,
    world: int,
    on_step: Callable[[Run, dict[str, Tensor]], None],
    stop: Callable[[], bool],
) -> None:
    """Take steps until the budget is spent, or `stop` (asked in the first process) says so.

    Under torchrun gradients are averaged over the processes. A step whose gradient is not finite is
    skipped and counted. `on_step` is told what each step measured.
    """
    network = run.network if world == 1 else DistributedDataParallel(run.network)
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
        measured = training_step(run, network, x, q, noise, float(progress))
        on_step(run, measured)


def process_group(device: torch.device) -> tuple[int, int]:
    """Join torchrun's processes, if it started this one; return rank and world size."""
    if not dist.is_torchelastic_launched():
        return 0, 1
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()
