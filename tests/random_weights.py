"""Weights of any sizes, from the tables of a family's specification: its layers and tensors, random layers; and their mutations.

| layer | in → out | k | which |          | tensor | type, shape | meaning |
"""

import json
import re

import numpy as np
from safetensors.numpy import save_file

import ncodec
from ncodec.errors import InputError, WeightsMismatchError


def rows(first, text):
    """Return the table with this heading, its cells as text."""
    table = text.split(f"\n| {first} |")[1].split("\n\n")[0]
    return [line[1:-1].split("|") for line in table.splitlines()[2:]]


def layers(config, text, heading="layer"):
    """Yield name and the weight's shape."""
    for name, channels, kernel, which in rows(heading, text):
        name, sides = name.strip(" `"), channels.replace("·", "*").split("→")
        first, last = 0, 0
        if found := re.search(r"s = (\d) … (?:(\d)|(\w+) − 1)", which):
            first, last = int(found[1]), int(found[2] or config[found[3]] - 1)
        for s in range(first, last + 1):
            inputs, outputs = (eval(side, {**config, "s": s}) for side in sides)
            full = re.sub(r"\bs$|\bs\.", lambda m, s=s: m[0].replace("s", str(s)), name)
            if kernel.strip() == "block":
                yield f"{full}.depth", [inputs, 3, 3]
                yield f"{full}.expand", [2 * inputs, inputs]
                yield f"{full}.project", [inputs, 2 * inputs]
            else:
                yield full, [outputs, 5, 5] if "depthwise" in kernel else [outputs, inputs]


def evaluated(kind, names):
    """Return type and shape of a cell like "I16 [8, 2·N]"."""
    dtype, shape = kind.strip().split(" ", 1)
    return dtype, eval(shape.replace("·", "*"), dict(names))


def tensors_of(config, text):
    """Return {name: (type, shape)}; "any" is 0."""
    found = {}
    for name, shape in layers(config, text):
        found[f"{name}.weight"] = ("I16", shape)
        found[f"{name}.bias"] = ("I32", shape[:1])
        found[f"{name}.shift"] = ("U8", shape[:1])
    for name, kind, _ in rows("tensor", text):
        found[name.strip(" `")] = evaluated(kind, {**config, "any": 0})
    return found


def random_layer(rng, name, shape, bound=32767, usual=4000, result=4000):
    """Return weight, bias and shift by name: sums that just fit.

    Args:
        bound, usual: of the magnitudes of the input.
        result: magnitude.
    """
    n = int(np.prod(shape[1:]))
    total = min((1 << 30) / bound, 12_000 * n)  # of a row's magnitudes
    weight = rng.normal(size=(shape[0], n))
    weight = np.rint(weight * (total / np.abs(weight).sum(1, keepdims=True))).clip(-32767, 32767)
    power = round(np.log2(total / np.sqrt(n) * usual / result))
    shift = (power + rng.integers(-1, 2, shape[0])).clip(1, 30)
    bias = rng.normal(size=shape[0]) * result / 4 * 2.0**shift
    parts = weight.reshape(shape), bias.clip(-(2**29), 2**29), shift
    return {f"{name}.{part}": x for part, x in zip(("weight", "bias", "shift"), parts, strict=True)}


def random_neighbours(rng, shapes):
    """Means of some steps of z and widths of every row, most of them from neighbours."""
    spread = {"hidden.weight": 3000, "hidden.bias": 9000, "head.weight": 150, "own.weight": 300, "offset": 600}  # fmt: skip
    values = {f"neighbours.{name}": rng.normal(size=shapes[f"neighbours.{name}"]) * size for name, size in spread.items()}  # fmt: skip
    values["neighbours.offset"] += np.repeat([0, 4000], shapes["neighbours.offset"][1] // 2)
    return values | {"neighbours.shifts": np.array([3, 11, 2])}


def random_tables(rng, n):
    """Return n rows of up to 40 frequencies."""
    tables = np.zeros((n, 40), np.uint16)
    for row in tables:
        shares = np.exp(-np.arange(rng.integers(1, 41)) / rng.integers(1, 20))
        row[: len(shares)] = np.maximum(16384 * shares / shares.sum(), 1)
        row[0] += 16384 - row.sum(dtype=int)
    return tables


def mutate(tensors, about, rng):
    """Change one thing of a weights file: values, a shape, a kind, what is there, or what it says of itself."""
    name = str(rng.choice(sorted(tensors)))
    tensor = tensors[name]
    information = np.iinfo(tensor.dtype)
    kind = rng.integers(8)
    if kind <= 2:  # one value, many, all
        share = (1 / tensor.size, 0.1, 1.1)[kind]
        edges = [information.min, information.min + 1, -1, 0, 1, 15, 30, 31, 2**14, information.max]
        edges = np.array(
            [edge for edge in edges if information.min <= edge <= information.max], tensor.dtype
        )
        tensor = np.where(rng.random(tensor.shape) < share, rng.choice(edges), tensor)
    elif kind == 3:  # noise
        tensor = rng.integers(
            information.min, information.max, tensor.shape, tensor.dtype, endpoint=True
        )
    elif kind == 4:
        shapes = [
            tensor[None],
            tensor.reshape(-1),
            tensor[..., None],
            tensor.T,
            tensor.reshape(-1)[:0],
        ]
        shapes += [tensor[:-1], tensor[..., :-1]] if tensor.ndim else []
        tensor = shapes[rng.integers(len(shapes))]
    elif kind == 5:
        tensor = tensor.astype(
            rng.choice(["int8", "uint8", "int16", "uint16", "int32", "int64", "float32", "float64"])
        )
    elif kind == 6:
        del tensors[name]
        if rng.random() < 0.5:
            tensors[f"{name}.more"] = tensor
        return
    else:
        value = rng.choice(
            np.array([-1, 0, 1, 2, 63, 64, 65, 2**31, 2**70, 1.5, "8", None, True, [4]], object)
        )
        key = str(rng.choice([*{"skip_below"} & about.keys(), *about["config"]]))
        (about if key == "skip_below" else about["config"])[key] = value
        return
    tensors[name] = np.array(tensor, order="C")


def outcomes_of_mutations(good, said, pixels, folder, count, **choices):
    """Return, of so many changes to weights, whether a model came of it that codes; the others end in an error about them."""
    outcomes = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        tensors, about = dict(good), json.loads(json.dumps(said))
        for _ in range(rng.integers(1, 3)):
            mutate(tensors, about, rng)
        path = folder / f"{seed}.safetensors"
        save_file(tensors, path, {"ncodec": json.dumps(about)})
        try:
            data = ncodec.encode(pixels, 4.5, path, **choices)
            assert ncodec.decode(data, "numpy", path).shape == pixels.shape
            outcomes.append(True)
        except (WeightsMismatchError, InputError) as error:
            assert str(error)
            outcomes.append(False)
        path.unlink()
    return outcomes


def damaged(payload, rng):
    """Return a payload with one to three changes: a byte, an end cut off, bytes more, bytes others."""
    data = bytearray(payload)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(data) or 1))
        kind = rng.integers(4)
        if kind == 0 and data:
            data[place] = rng.integers(256)
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            data[place:place] = rng.bytes(2)
        else:
            data[place : place + 3] = rng.bytes(3)
    return bytes(data)
