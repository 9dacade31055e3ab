"""Integer networks: equal to Python integers, bounded when built."""

import numpy as np
import pytest
import torch

from ncodec.errors import WeightsMismatchError
from ncodec.nn.exact import (
    IntegerLayer,
    IntegerNetwork,
    fake_integer_layer,
    fixed_point,
    interpolate_integers,
)


def random_layers(seed=0, inputs=5, width=7, outputs=4):
    rng = torch.Generator().manual_seed(seed)
    hidden = fixed_point(
        torch.randn(width, inputs, 3, 3, generator=rng), torch.randn(width, generator=rng), 0
    )
    head = fixed_point(
        torch.randn(outputs, width, 1, 1, generator=rng), torch.randn(outputs, generator=rng), 8
    )
    return hidden, head


def layer(parts, kernel):
    return IntegerLayer(parts["weight"], parts["bias"], int(parts["shift"]), kernel)


def python_layer(x, parts, kernel):
    """The layer in Python's unbounded integers. x: [C, h, w] nested ints."""
    weight, bias, shift = parts["weight"].tolist(), parts["bias"].tolist(), int(parts["shift"])
    channels, height, width = len(x), len(x[0]), len(x[0][0])
    reach = kernel // 2
    out = []
    for row, b in zip(weight, bias, strict=True):
        plane = []
        for i in range(height):
            line = []
            for j in range(width):
                total = b
                for k, w in enumerate(row):
                    c, di, dj = k // kernel**2, k // kernel % kernel - reach, k % kernel - reach
                    if 0 <= i + di < height and 0 <= j + dj < width:
                        total += w * x[c][i + di][j + dj]
                line.append((total + (1 << shift - 1)) >> shift)
            plane.append(line)
        out.append(plane)
    assert channels * kernel**2 == len(weight[0])
    return out


def test_reference():
    hidden, head = random_layers()
    network = IntegerNetwork(layer(hidden, 3), layer(head, 1), input_bound=127)
    z = torch.from_numpy(np.random.default_rng(1).integers(-127, 128, (1, 5, 4, 6)))
    inner = python_layer(z[0].tolist(), hidden, 3)
    inner = [[[max(v, 0) for v in line] for line in plane] for plane in inner]
    assert network(z)[0].tolist() == python_layer(inner, head, 1)


def test_training_sees_what_the_integers_will_compute():
    torch.manual_seed(3)
    hidden, head = torch.nn.Conv2d(5, 7, 3, padding=1), torch.nn.Conv2d(7, 4, 1)
    z = torch.randint(-20, 21, (2, 5, 6, 4)).float().requires_grad_()
    inner = torch.relu(fake_integer_layer(hidden, z, 0))
    trained = fake_integer_layer(head, inner, 8)
    parts = [fixed_point(c.weight, c.bias, bits) for c, bits in ((hidden, 0), (head, 8))]
    network = IntegerNetwork(layer(parts[0], 3), layer(parts[1], 1), input_bound=127)
    exact = network(z.detach().long())
    assert (trained.detach() * 256 - exact).abs().max() < 0.01
    trained.sum().backward()
    assert z.grad.abs().sum() > 0 and hidden.weight.grad.abs().sum() > 0
    rough = torch.nn.functional.conv2d(z, hidden.weight, hidden.bias, padding=1)
    assert 0 < (rough - fake_integer_layer(hidden, z, 0)).abs().max() < 0.05


def test_any_order_of_summation():
    hidden, head = random_layers(inputs=64, width=128, outputs=16)
    network = IntegerNetwork(layer(hidden, 3), layer(head, 1), input_bound=127)
    z = torch.randint(-127, 128, (2, 64, 9, 9), generator=torch.Generator().manual_seed(2))
    expected = network(z)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    shuffled = {**hidden, "weight": hidden["weight"].reshape(128, 64, 9)[:, order].reshape(128, -1)}
    other = IntegerNetwork(layer(shuffled, 3), layer(head, 1), input_bound=127)
    assert torch.equal(other(z[:, order]), expected)
    assert torch.equal(network(z[1:]), expected[1:])


def test_close_to_float():
    rng = torch.Generator().manual_seed(4)
    weight, bias = torch.randn(3, 8, 1, 1, generator=rng), torch.randn(3, generator=rng)
    x = torch.randint(-100, 100, (1, 8, 5, 5), generator=rng)
    exact = layer(fixed_point(weight, bias, 0), 1)(x.double()) / 256
    expected = torch.nn.functional.conv2d(x.float(), weight, bias)
    assert (exact - expected).abs().max() < 0.06  # 8 x 100 x 2**-14 of weights, 2**-9 of output


def test_bound_is_checked_when_built():
    hidden, head = random_layers()
    with pytest.raises(WeightsMismatchError, match="limit is 2\\*\\*53"):
        IntegerNetwork(layer(hidden, 3), layer(head, 1), input_bound=2**36)
    network = IntegerNetwork(layer(hidden, 3), layer(head, 1), input_bound=127)
    extreme = torch.where(network.hidden.weight[0].reshape(1, 5, 3, 3) > 0, 127.0, -127.0).double()
    reached = (network.hidden.weight @ extreme.reshape(-1, 1) + network.hidden.bias).abs().max()
    assert float(reached) <= network.bounds[0] < 2**53


def test_interpolation():
    table = torch.tensor([[0, -10], [100, -11]])
    rows = [interpolate_integers(table, code, 20).tolist() for code in (0, 1, 19, 20)]
    assert rows == [[0, -10], [5, -11], [95, -11], [100, -11]]
