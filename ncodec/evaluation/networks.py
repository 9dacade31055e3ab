"""Speed of integer networks (specs/exact.md), in every variant, beside PyTorch's and ONNX Runtime's float32.

    block      x + project(leaky(expand(depthwise(x)))), C -> 2C -> C: what hyperprior's networks are made of
    attention  of each row to itself, queries, keys and values being x
    norm       by the root mean square

One thread, one process, one after the other, the same layers with the same weights: run it on an idle machine.
Medians of wall times; a multiplication and its addition are one MAC.
"""

import importlib.util
from collections.abc import Callable
from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d, leaky_relu, linear, rms_norm, scaled_dot_product_attention

from ncodec.evaluation.bench import Row, machine, median_seconds
from ncodec.exact import Graph, variants

HEIGHT, WIDTH = 64, 96  # a Kodak image at 1/8
INPUT_BOUND = 2000
SCORE_SHIFT = 12  # of attention
NORM_BITS = 10
SLOPE = 3277  # of leaky, 0.1
BUDGET_S = 0.5  # of one figure
# "conv", inputs, outputs; "depthwise", channels, side; "block", channels, 1; "attention", channels, heads; "norm", channels, 1
Layer = tuple[str, int, int]
NETWORKS: dict[str, list[Layer]] = {
    "conv 128 -> 256": [("conv", 128, 256)],
    "conv 256 -> 128": [("conv", 256, 128)],
    "conv 320 -> 768": [("conv", 320, 768)],
    "conv 768 -> 320": [("conv", 768, 320)],
    "depthwise 3x3, 128": [("depthwise", 128, 3)],
    "depthwise 5x5, 320": [("depthwise", 320, 5)],
    "attention of 96 to 96, 192 in 6 heads": [("attention", 192, 6)],
    "norm, 192": [("norm", 192, 1)],
    "residual block, 128": [("block", 128, 1)],
    "ten residual blocks, 128": [("block", 128, 1)] * 10,
}
Weights = tuple[NDArray[np.int16], NDArray[np.int32], NDArray[np.uint8]]


def _weights(rng: np.random.Generator, outputs: int, *taps: int) -> Weights:
    """Return parameters that halve the magnitude of what they see, as large as X3 allows whatever the bound."""
    n = int(np.prod(taps))
    size = min(500, 55000 / n)
    weight = np.clip(rng.normal(0, size, (outputs, *taps)), -2047, 2047).astype(np.int16)
    shift = round(np.log2(2 * size * np.sqrt(n)))
    bias = rng.integers(-20 << shift, 20 << shift, outputs)
    return weight, bias.astype(np.int32), np.full(outputs, shift, np.uint8)


def parameters_of(network: list[Layer], seed: int = 0) -> list[list[Weights]]:
    """Return the parameters of each layer: one set, or a block's three."""
    rng = np.random.default_rng(seed)
    made = []
    for kind, first, second in network:
        if kind == "conv":
            made.append([_weights(rng, second, first)])
        elif kind == "depthwise":
            made.append([_weights(rng, first, second, second)])
        elif kind in ("attention", "norm"):
            made.append([])
        else:
            sizes = ((first, 3, 3), (2 * first, first), (first, 2 * first))
            made.append([_weights(rng, *size) for size in sizes])
    return made


def macs_of(network: list[Layer]) -> int:
    """Return multiplications a pixel; a norm's are its squares and factors."""
    weights = (weight for layer in parameters_of(network) for weight, _, _ in layer)
    others = {"attention": 2 * WIDTH, "norm": 2}
    return sum(weight.size for weight in weights) + sum(
        others.get(kind, 0) * channels for kind, channels, _ in network
    )


def exact_graph(network: list[Layer]) -> tuple[Graph, int, int]:
    """Return a network as a graph, its input and its result."""
    graph = Graph()
    first = x = graph.input("x", network[0][1], INPUT_BOUND)
    for (kind, _, second), weights in zip(network, parameters_of(network), strict=True):
        if kind == "conv":
            x = graph.conv(x, *weights[0])
        elif kind == "attention":
            x = graph.attention(x, x, x, second, SCORE_SHIFT)
        elif kind == "norm":
            x = graph.norm(x, NORM_BITS)
        elif kind == "depthwise":
            x = graph.depthwise(x, *weights[0])
        else:
            y = graph.conv(graph.depthwise(x, *weights[0]), *weights[1])
            x = graph.add(x, graph.conv(graph.leaky(y, SLOPE), *weights[2]))
    return graph, first, x


def _floats(weights: Weights) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the integers stand for: weight [O, C, k, k] and bias."""
    weight, bias, shift = weights
    scale = 2.0 ** -shift.astype(np.float64)
    if weight.ndim == 2:
        scaled = (weight * scale[:, None])[:, :, None, None]
    else:
        scaled = (weight * scale[:, None, None])[:, None]
    return scaled.astype(np.float32), (bias * scale).astype(np.float32)


class TorchNetwork(nn.Module):
    """A network in float32, [1, C, h, w] in channels_last; its 1x1 convolutions by conv2d, or as matrix products."""

    def __init__(self, network: list[Layer], by_matrix: bool) -> None:
        super().__init__()
        self.network, self.by_matrix = network, by_matrix
        self.layers = [
            [tuple(map(torch.from_numpy, _floats(weights))) for weights in layer]
            for layer in parameters_of(network)
        ]

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        if not self.by_matrix:
            return conv2d(x, weight, bias)
        return linear(x.permute(0, 2, 3, 1), weight[:, :, 0, 0], bias).permute(0, 3, 1, 2)

    def depthwise(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

    def attention(self, x: Tensor, heads: int) -> Tensor:
        _, channels, h, w = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(h, w, heads, channels // heads).transpose(1, 2)
        scale = log(2) / 2 ** (SCORE_SHIFT + 6)
        made = scaled_dot_product_attention(rows, rows, rows, scale=scale).transpose(1, 2)
        return made.reshape(1, h, w, channels).permute(0, 3, 1, 2)

    def norm(self, x: Tensor) -> Tensor:
        made: Tensor = rms_norm(x.permute(0, 2, 3, 1), x.shape[1:2])
        return (made * (1 << NORM_BITS)).permute(0, 3, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        for (kind, _, second), layer in zip(self.network, self.layers, strict=True):
            if kind in ("attention", "norm"):
                x = self.norm(x) if kind == "norm" else self.attention(x, second)
            elif kind == "block":
                y = self.conv(self.depthwise(x, *layer[0]), *layer[1])
                x = x + self.conv(leaky_relu(y, SLOPE / 2**15), *layer[2])
            else:
                x = self.conv(x, *layer[0]) if kind == "conv" else self.depthwise(x, *layer[0])
        return x


def onnx_session(network: list[Layer]) -> Any:
    """Return a network in ONNX Runtime, one thread, [1, C, h, w] float32; None where it or `onnx` is not installed, or of convolutions it is not."""
    if any(kind in ("attention", "norm") for kind, _, _ in network):
        return None
    if importlib.util.find_spec("onnx") is None or importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnx
    import onnxruntime

    nodes, constants, names = [], [], (f"t{i}" for i in range(10_000))

    def conv(x: str, weights: Weights) -> str:
        weight, bias = _floats(weights)
        inputs = [x]
        for array in (weight, bias):
            constants.append(onnx.numpy_helper.from_array(array, next(names)))
            inputs.append(constants[-1].name)
        pad = weight.shape[-1] // 2
        return node(
            "Conv", *inputs, group=len(weight) if weights[0].ndim == 3 else 1, pads=[pad] * 4
        )

    def node(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(onnx.helper.make_node(kind, inputs, [next(names)], **attributes))
        return str(nodes[-1].output[0])

    x = "x"
    for (kind, _, _), layer in zip(network, parameters_of(network), strict=True):
        if kind == "block":
            y = node("LeakyRelu", conv(conv(x, layer[0]), layer[1]), alpha=SLOPE / 2**15)
            x = node("Add", x, conv(y, layer[2]))
        else:
            x = conv(x, layer[0])
    shape = [1, network[0][1], HEIGHT, WIDTH]
    fed, made = (onnx.helper.make_tensor_value_info(name, 1, dims) for name, dims in (("x", shape), (x, None)))  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "network", [fed], [made], constants)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])  # fmt: skip


def runs_of(network: list[Layer]) -> dict[str, Callable[[], NDArray[Any]]]:
    """Return what computes a network of the same input, [h, w, C] each, by name."""
    graph, fed, last = exact_graph(network)
    shape = (HEIGHT, WIDTH, network[0][1])
    x = np.random.default_rng(1).integers(-INPUT_BOUND, INPUT_BOUND + 1, shape).astype(np.int16)
    runs: dict[str, Callable[[], NDArray[Any]]] = {
        f"ncodec {name}": lambda name=name: graph.run({fed: x}, [last], variant=name)[0]  # type: ignore[misc]
        for name in variants()
    }
    image = torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None]  # channels_last

    def by_torch(by_matrix: bool) -> Callable[[], NDArray[Any]]:
        module = TorchNetwork(network, by_matrix)
        return lambda: module(image)[0].permute(1, 2, 0).numpy()

    kinds = {kind for kind, _, _ in network}
    runs["PyTorch float32, conv2d" if kinds - {"attention", "norm"} else "PyTorch float32"] = by_torch(False)  # fmt: skip
    if kinds & {"conv", "block"}:
        runs["PyTorch float32, matrix product"] = by_torch(True)
    if (session := onnx_session(network)) is not None:
        planes = np.ascontiguousarray(image.numpy())
        runs["ONNX Runtime float32"] = lambda: session.run(None, {"x": planes})[0][0].transpose(1, 2, 0)  # fmt: skip
    return runs


def bench_networks(report: Callable[[str, Row], None]) -> Row:
    """Return all figures; `report` is called with each network's name and row as it comes."""
    results: dict[str, list[Row]] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, network in NETWORKS.items():
            macs = macs_of(network) * HEIGHT * WIDTH
            with torch.inference_mode():
                runs = runs_of(network)
                for executor, run in runs.items():
                    seconds = median_seconds(run, BUDGET_S)
                    row = {"executor": executor, "seconds": seconds, "gmac_s": macs / seconds / 1e9}
                    results.setdefault(name, []).append(row)
                    report(name, row)
        facts = machine()
    finally:
        torch.set_num_threads(threads)
    absent = [] if "ONNX Runtime float32" in runs else ["onnxruntime and onnx"]
    return {"machine": facts, "pixels": [HEIGHT, WIDTH], "absent": absent, "networks": results}
