"""A step ahead of a run, which leaves the run as it was: are loss and gradients finite, how much arithmetic is it, does it compile?

    batch --network--> loss --backward--> gradients, thrown away
              |
              +-- counted, then compiled if asked for and compared, then timed          --> log.jsonl

FLOPs are the network's: two for each multiply-accumulate of matrix products and convolutions, forward and back. Nothing is
counted of what is computed beside them, or by the optimiser. Divided by what the device can do at most they are its
"model FLOPs utilisation" (Chowdhery 2022, https://arxiv.org/abs/2204.02311, appendix B).
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from ncodec.errors import InputError

COMPILER = "inductor"
REASON = 200  # characters of a compiler's message
SAME_LOSS = 0.02  # what compiling may change: sums in bfloat16, in another order
# FLOP/s of bfloat16 matrix products, dense, by what the device's name has in it (datasheets; the first that fits).
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H200 NVL": 835e12,
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
}
Gradients = Callable[[], Tensor]  # makes those of the next step's batch; returns its loss


class Rehearsal(NamedTuple):
    """What a step is: of this process's share of a batch, without the optimiser."""

    loss: float
    flops: int
    seconds: float
    memory_bytes: int | None  # the most that was allocated on a GPU
    is_compiled: bool


def peak_flops(device: torch.device) -> float | None:
    """Return the FLOP/s of bfloat16 that a device is built for; None where that is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAKS.items() if part in name), None)


def rehearse(
    network: nn.Module, gradients: Gradients, device: torch.device, is_compiled: bool
) -> Rehearsal:
    """Return what a step is; if asked to, compile the network in place, its state_dict as it was.

    Where compiling fails, or changes the loss, that is said in one line on stderr, and the network computes as before.

    Raises:
        InputError: the loss, or a gradient, is not finite.
    """
    with _unchanged(network):
        counter = FlopCounterMode(
            display=False, custom_mapping={torch.ops.aten.convolution_backward: _conv_backward}
        )
        with counter:
            loss = float(gradients())
        _check_finite(network, loss)
        if is_compiled:
            is_compiled = _compile(network, gradients, loss)
        _wait(device)
        begin = time.perf_counter()
        gradients()
        _wait(device)
        seconds = time.perf_counter() - begin
    memory = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Rehearsal(loss, counter.get_total_flops(), seconds, memory, is_compiled)


@contextmanager
def _unchanged(network: nn.Module) -> Iterator[None]:
    """Put back what steps change in a network, and torch's own random numbers."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.random.fork_rng():
        yield
    network.load_state_dict(before)
    network.zero_grad(set_to_none=True)


def _check_finite(network: nn.Module, loss: float) -> None:
    values = {"loss": torch.tensor(loss)} | {
        f"gradient of {name}": parameter.grad
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    for name, value in values.items():
        if not torch.isfinite(value).all():
            raise InputError(f"rehearsal: expected a finite {name}, found one that is not (loss {loss:g})")  # fmt: skip


def _parts(network: nn.Module) -> Iterator[nn.Module]:
    """The children of a network, those of its lists one by one: rates and noise between them are left as they are."""
    for child in network.children():
        yield from child if isinstance(child, nn.ModuleList) else [child]


def _compile(network: nn.Module, gradients: Gradients, expected: float) -> bool:
    """Compile what a network is made of, in place; return whether that worked."""
    for part in _parts(network):
        part.compile(backend=COMPILER)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a compiler's, of its own doings
            loss = float(gradients())
        if abs(loss - expected) <= SAME_LOSS * max(1.0, abs(expected)):
            return True
        reason = f"expected a loss of {expected:g}, found {loss:g}"
    except Exception as error:  # a compiler's: anything
        reason = " ".join(str(error).split())[:REASON] or type(error).__name__
    for part in _parts(network):
        part._compiled_call_impl = None
    print(f"ncodec: --compile: torch.compile fails here, training goes on without ({reason})", file=sys.stderr)  # fmt: skip
    return False


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _conv_backward(
    grad_out: Any, x: Any, weight: Any, _bias: Any, _stride: Any, _padding: Any, _dilation: Any,
    transposed: bool, _output_padding: Any, _groups: int, wanted: list[bool], **_: Any,
) -> int:  # fmt: skip
    """FLOPs of a convolution's gradients, from shapes: torch's own formula takes depthwise ones for dense."""
    forward = conv_flop_count(x, weight, grad_out, transposed)
    return forward * (wanted[0] + wanted[1])
