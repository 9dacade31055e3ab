"""Exact integer networks: whatever selects a probability table runs here, and nowhere else.

Integers are carried in float64. Every partial sum stays below 2**53 (checked from the weights when the
network is built), so any order of summation, on any device, gives the same integer. A convolution is
a gather (`unfold`) and a matrix product: no Winograd or FFT algorithm can be chosen behind our back,
and float64 knows no TF32.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, unfold

from ncodec.errors import WeightsMismatchError

EXACT_BOUND = 2**53  # float64 holds every integer below it
FRACTION_BITS = 8  # of activations and outputs
WEIGHT_MAX = 2**15 - 1


def fixed_point(weight: Tensor, bias: Tensor, input_bits: int) -> dict[str, Tensor]:
    """Return a float convolution as integers, as accurate as 16-bit weights allow.

    Args:
        weight: [out, in, k, k] float.
        bias: [out] float.
        input_bits: fraction bits of the layer's input.

    Returns:
        "weight" int16 [out, in·k·k], "bias" int64 [out], and "shift", the bits to drop afterwards.
    """
    weight, bias = weight.detach(), bias.detach()
    largest = float(weight.abs().max())
    bits = 14
    while round(largest * 2**bits) > WEIGHT_MAX:
        bits -= 1
    scaled = torch.round(weight.double().flatten(1) * 2**bits)
    return {
        "weight": scaled.to(torch.int16),
        "bias": torch.round(bias.double() * 2 ** (bits + input_bits)).to(torch.int64),
        "shift": torch.tensor(bits + input_bits - FRACTION_BITS),
    }


def fake_integer_layer(layer: nn.Conv2d, x: Tensor, input_bits: int) -> Tensor:
    """Return what the `IntegerLayer` made from a convolution will, in float, for training.

    Weights, bias and result lie on the integers' grid (up to float32 rounding); gradients are those of
    the convolution itself (straight-through).
    """
    assert layer.bias is not None
    integers = fixed_point(layer.weight, layer.bias, input_bits)
    bits = int(integers["shift"]) + FRACTION_BITS - input_bits
    weight = (integers["weight"].double() * 2.0**-bits).to(x.dtype).view_as(layer.weight)
    bias = (integers["bias"].double() * 2.0 ** -(bits + input_bits)).to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):
        y = conv2d(
            x,
            layer.weight + (weight - layer.weight).detach(),
            layer.bias + (bias - layer.bias).detach(),
            padding=layer.padding,
        )
    on_grid = torch.floor(y.detach() * 2**FRACTION_BITS + 0.5) * 2.0**-FRACTION_BITS
    return y + (on_grid - y).detach()


class IntegerLayer(nn.Module):
    """A k x k convolution (zero padding) on integers: floor((W x + b + half) / 2**shift). Exact."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, shift: int, kernel: int) -> None:
        super().__init__()
        self.register_buffer("weight", weight.double())
        self.register_buffer("bias", bias.double()[:, None])
        self.kernel, self.shift = kernel, shift
        if not 1 <= shift <= 30 or weight.shape[1] % kernel**2:
            raise WeightsMismatchError(
                f"integer layer: bad shift {shift} or weight shape {tuple(weight.shape)}"
            )

    def bound(self, input_bound: int) -> int:
        """Return the largest |accumulator| for inputs within ±`input_bound`."""
        # In float64: what it cannot hold exactly is beyond the bound anyway.
        total = self.weight.abs().sum(1) * input_bound + self.bias[:, 0].abs()
        return int(total.max()) + 2 ** (self.shift - 1)

    def forward(self, x: Tensor) -> Tensor:  # [B, C, h, w] float64 integers
        batch, _, height, width = x.shape
        columns = unfold(x, self.kernel, padding=self.kernel // 2)  # [B, C·k·k, h·w]
        accumulator = self.weight @ columns + self.bias  # |acc| < 2**53: exact in any order
        # Multiplying by a power of two and floor are exact.
        y = torch.floor((accumulator + 2.0 ** (self.shift - 1)) * 2.0**-self.shift)
        return y.reshape(batch, -1, height, width)


class IntegerNetwork(nn.Module):
    """Two integer layers with ReLU between: [B, C, h, w] integers -> [B, D, h, w]. Exact.

    Raises:
        WeightsMismatchError: some input within ±`input_bound` could reach 2**53.
    """

    def __init__(self, hidden: IntegerLayer, head: IntegerLayer, input_bound: int) -> None:
        super().__init__()
        self.hidden, self.head, self.input_bound = hidden, head, input_bound
        inner = hidden.bound(input_bound)
        self.bounds = (inner, head.bound((inner >> hidden.shift) + 1))
        if max(self.bounds) >= EXACT_BOUND:
            raise WeightsMismatchError(
                f"integer network: accumulators reach {max(self.bounds)}, limit is 2**53"
            )

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return outputs as int64, in units of 2**-8."""
        assert not x.is_floating_point(), "integer networks take integer tensors"
        return self.head(torch.relu(self.hidden(x.double()))).long()


def interpolate_integers(table: Tensor, code: int, steps: int) -> Tensor:
    """Return the row at `code` / `steps`, between rows of integers, rounded down. Exact.

    Args:
        table: [n, C] integers.
        code: position in [0, (n - 1) * steps].
        steps: positions between two rows.
    """
    low = min(code // steps, len(table) - 2)
    fraction = code - low * steps
    blend = table[low].long() * (steps - fraction) + table[low + 1].long() * fraction
    return torch.div(blend, steps, rounding_mode="floor")
