"""Train one variable-rate network within a budget of minutes or steps; one process a core or GPU.

    ImageStore --draw_batch--> x, q, noise --network--> TrainingOutput --loss.py--> gradients --optimizer.py--> network
           \\--Kept: lessons--^                                                                       \\--> EMA

q is uniform in [1, 8] per sample. Step s draws its whole batch from (seed, s), and the noise of sample i from
(seed, s, i); a process takes its share of the samples. So neither a resumed run nor, up to rounding, the number of
processes changes what is learned. With a budget in steps the learning rate depends on the step alone and a resumed
run ends with the same weights to the bit (CPU); with a budget in minutes it follows the clock.
"""

import math
import os
import time
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ncodec.nn.training import Lessons
from ncodec.quality import MAX_QUALITY, MIN_QUALITY
from ncodec.training.config import TrainingOptions
from ncodec.training.data import MEMORY_SHARE, ImageStore, memory, to_device
from ncodec.training.loss import rate_distortion_loss
from ncodec.training.optimizer import learning_rate_factor
from ncodec.training.rehearsal import Rehearsal, rehearse
from ncodec.training.run import Run

EMA_DECAY = 0.999
LESSONS = 3  # kept, an image, where memory has room
MAX_GRADIENT_NORM = 2.0


def _draw(
    store: ImageStore, options: TrainingOptions, rng: np.random.Generator, count: int, part: slice
) -> tuple[Tensor, Tensor]:
    x = store.random_crops(options.crop, rng, count, part)
    q = torch.from_numpy(rng.uniform(MIN_QUALITY, MAX_QUALITY, count)[part]).float()
    return x.contiguous(memory_format=torch.channels_last), to_device(q, store.device)


class Kept:
    """Lessons of crops, which are drawn as any are, but made once, when they are first wanted, and kept in memory.

    Args:
        of: makes a lesson.
        store: images.
        options: of the run.
    """

    def __init__(self, of: Callable[[Tensor, Tensor], Sequence[Tensor]], store: ImageStore,
                 options: TrainingOptions) -> None:  # fmt: skip
        self._of, self._store, self._options = of, store, options
        self._made: dict[int, tuple[Sequence[Tensor], Tensor]] = {}
        room = memory() * MEMORY_SHARE / int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        size = sum(part.nbytes for part in self._lesson(0)[0])
        self.count = max(1, min(LESSONS * len(store.starts), int(room / size)))

    def _lesson(self, number: int) -> tuple[Sequence[Tensor], Tensor]:
        if number not in self._made:
            seed = np.random.SeedSequence(self._options.seed, spawn_key=(number,))
            rng = np.random.default_rng(seed)
            x, q = _draw(self._store, self._options, rng, 1, slice(1))
            lesson = self._of(x, q)
            self._made[number] = lesson._make(part.cpu() for part in lesson), q  # type: ignore[attr-defined]
        return self._made[number]

    def lessons(self, numbers: list[int]) -> tuple[Sequence[Tensor], Tensor]:
        """Return a batch of lessons, and its qualities [B]."""
        lessons, q = zip(*(self._lesson(number) for number in numbers), strict=True)
        parts = (
            to_device(torch.cat(part), self._store.device) for part in zip(*lessons, strict=True)
        )
        return lessons[0]._make(parts), torch.cat(q)


def draw_batch(
    store: ImageStore,
    options: TrainingOptions,
    step: int,
    rank: int,
    world: int,
    kept: Kept | None = None,
) -> tuple[Tensor | Sequence[Tensor], Tensor, list[torch.Generator]]:
    """Return a process's share of step `step`: crops [B, 3, crop, crop], or lessons, qualities [B], noise generators."""
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, step]))
    share = options.batch // world
    part = slice(rank * share, (rank + 1) * share)
    x: Tensor | Sequence[Tensor]
    if kept is None:
        x, q = _draw(store, options, rng, options.batch, part)
    else:
        x, q = kept.lessons(rng.integers(kept.count, size=options.batch)[part].tolist())
    noise = []
    for i in range(part.start, part.stop):
        seed = np.random.SeedSequence([options.seed, step, i]).generate_state(1, np.uint64)[0]
        noise.append(torch.Generator(store.device).manual_seed(int(seed >> np.uint64(1))))
    return x, q, noise


def gradients(
    run: Run,
    network: nn.Module,
    x: Tensor | Sequence[Tensor],
    q: Tensor,
    noise: list[torch.Generator],
    progress: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Give the parameters of `run.network` the gradients of a batch; return its loss, and what that is made of.

    Args:
        run: what is trained.
        network: `run.network`, or its DistributedDataParallel.
        x, q, noise: this process's share of the batch.
        progress: of the budget, the same in every process.
    """
    with torch.autocast(q.device.type, torch.bfloat16, enabled=run.config.training.bfloat16):
        out = network(x, q, noise, progress)
        images = x if isinstance(x, Tensor) else None
        loss, parts = rate_distortion_loss(out, images, q, run.config.objective)
    run.network.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), parts


def training_step(
    run: Run,
    network: nn.Module,
    x: Tensor | Sequence[Tensor],
    q: Tensor,
    noise: list[torch.Generator],
    progress: float,
) -> dict[str, Tensor]:
    """Take one step, as `gradients` has it, and return what it measured: loss, bpp, MSE, gradient norm, bpp by part; on the device."""
    loss, parts = gradients(run, network, x, q, noise, progress)
    norm = nn.utils.clip_grad_norm_(run.network.parameters(), MAX_GRADIENT_NORM)
    # Gradients are averaged: all processes agree. All that a step reads back from a GPU.
    if torch.isfinite(norm):
        factor = learning_rate_factor(run.step - run.budget.first_step, progress)
        run.optimizer.step(run.config.training.learning_rate * factor)
        # A short memory at first, or the initial weights would stay in the average for long.
        decay = min(EMA_DECAY, (1 + run.step) / (10 + run.step))
        torch._foreach_lerp_(list(run.ema.parameters()), list(run.network.parameters()), 1 - decay)
    else:
        run.skipped += 1
    run.step += 1
    return {"loss": loss, "gradient_norm": norm} | parts


def train_until_spent(
    run: Run,
    store: ImageStore,
    lessons: Lessons | None,
    rank: int,
    world: int,
    on_rehearsal: Callable[[Rehearsal], None],
    on_step: Callable[[Run, dict[str, Tensor]], None],
    stop: Callable[[], bool],
    is_compiled: bool = False,
) -> None:
    """Rehearse, then take steps until the budget is spent, or `stop` (asked in the first process) says so.

    Under torchrun gradients are averaged over the processes. A step whose gradient is not finite is
    skipped and counted. `on_step` is told what each step measured, `on_rehearsal` what a step is, at first and when
    images follow lessons. With `is_compiled` torch.compile has the network, where it can.

    Raises:
        InputError: loss or gradients of the first step are not finite.
    """
    kept = Kept(lessons.of, store, run.config.training) if lessons else None
    network = (
        run.network
        if world == 1
        else DistributedDataParallel(run.network, find_unused_parameters=lessons is not None)
    )
    # Of channels-last weights; it speaks of speed, and costs nothing measurable here.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")

    def rehearsed(progress: float) -> Rehearsal:
        def once() -> Tensor:
            batch = draw_batch(store, run.config.training, run.step, rank, world, kept)
            return gradients(run, run.network, *batch, progress)[0]

        return rehearse(run.network, once, run.device, is_compiled)

    if (progress := run.progress) < 1:
        on_rehearsal(rehearsed(progress))
    begin = time.monotonic() - run.elapsed_s
    while True:
        run.elapsed_s = time.monotonic() - begin
        progress = math.inf if stop() else run.progress
        if world > 1:
            clock = torch.tensor([progress], dtype=torch.float64, device=run.device)
            dist.broadcast(clock, 0)  # one clock for all
            progress = float(clock)
        if progress >= 1:
            break
        if kept and lessons and progress >= lessons.share:
            kept = None
            on_rehearsal(rehearsed(progress))
        x, q, noise = draw_batch(store, run.config.training, run.step, rank, world, kept)
        measured = training_step(run, network, x, q, noise, progress)
        on_step(run, measured)


def process_group(device: torch.device) -> tuple[int, int]:
    """Join torchrun's processes, if it started this one; return rank and world size."""
    if not dist.is_torchelastic_launched():
        return 0, 1
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return dist.get_rank(), dist.get_world_size()
