"""The decoder of specs/hyperprior.md in plain numpy, and of the file around it, written from the specifications.

    decode(file, weights) -> pixels        bytes in; imports neither ncodec nor torch nor safetensors

Networks are lists of operations, which tests/reference_exact.py runs in int64. Of the container only what leads to the
tiles is read: checksums and chunks of other types are tests/test_container.py's.
"""

import hashlib
import json

import numpy as np
import reference_exact
import reference_rans
from reference_rans import require

TYPES = {"I16": "<i2", "I32": "<i4", "U8": "u1", "U16": "<u2"}
DEFAULTS = {"N": 128, "M": 320, "Z": 64, "H": 160, "S": 128, "B": 64}  # section 9
DEFAULTS |= {"analysis_blocks": 6, "synthesis_blocks": 10, "context_steps": 4}
POWERS = np.rint(2.0 ** (14 + np.arange(4096) / 4096)).astype(int)  # P of H14
PLACES = [(0, -1), (-1, -1), (-1, 0), (-1, 1)]  # of neighbours, H16


# ---------------------------------------------------------------- weights file, section 1


def read_tensors(data, family="hyperprior"):
    """Return the tensors of a weights file and the object under `ncodec`. H1, H2."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    about = json.loads(header.pop("__metadata__")["ncodec"])
    require(about["family"] == family, "family")
    tensors = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        values = np.frombuffer(data[start + first : start + end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors, about


def shapes_of(c):
    """Return {name: (type, shape)}; None is any."""
    m, n, h = c["M"], c["N"], c["H"]
    dense = {
        "h_s.hidden": (9 * c["Z"], c["S"]), "h_s.head": (c["S"], 4 * m), "h_m.stem": (c["Z"], h), "h_m.up": (h, 4 * h),
        "g_s.linear": (m, 768), "g_s.stem": (m, 4 * n), "g_s.head": (n, 192), "g_a.linear": (768, m), "g_a.stem": (192, n),
        "g_a.head": (4 * n, m), "h_a.stem": (m, h), "h_a.stem_positive": (m, h), "h_a.down": (4 * h, h), "h_a.head": (h, c["Z"]),
    }  # fmt: skip
    blocks = {"h_m.blocks.0": h, "h_a.before.0": h, "h_a.after.0": h}
    blocks |= {f"g_s.blocks.{s}": n for s in range(c["synthesis_blocks"])}
    blocks |= {f"g_a.blocks.{s}": n for s in range(c["analysis_blocks"])}
    weights = {}
    for s in range(c["context_steps"]):
        blocks[f"context.{s}.blocks.0"] = h
        dense[f"context.{s}.head"] = (h, m)
        if s > 0:
            dense[f"context.{s}.stem"] = (m, h)
            weights |= {f"context.{s}.{name}": (m, 5, 5) for name in ("neighbours", "linear")}
    for name, width in blocks.items():
        weights[f"{name}.depth"] = (width, 3, 3)
        dense |= {f"{name}.expand": (width, 2 * width), f"{name}.project": (2 * width, width)}
    weights |= {name: (outputs, inputs) for name, (inputs, outputs) in dense.items()}
    found = {
        "log_gain": ("<i4", (8, m)), "log_unit": ("<i4", (8, m)), "index_offset": ("<i2", (8, m)), "h_a.asinh": ("<i2", (65536,)),
        "tables.r": ("<u2", (64, None)), "tables.z": ("<u2", (256, None)), "tables.z_alone": ("<u2", (8 * c["Z"], None)),
        "neighbours.hidden.weight": ("<i2", (c["B"], 4 * c["Z"])), "neighbours.hidden.bias": ("<i4", (c["B"],)),
        "neighbours.head.weight": ("<i2", (2 * c["Z"], c["B"])), "neighbours.own.weight": ("<i2", (4, c["Z"])),
        "neighbours.shifts": ("<i4", (3,)), "neighbours.offset": ("<i2", (8, 2 * c["Z"])),
    }  # fmt: skip
    for name, width in (("g_a.gain", n), ("h_m.gain", h), ("g_s.gain", n)):
        found |= {name: ("<i2", (8, width)), f"{name}_shift": ("u1", ())}
    for name, shape in weights.items():
        found |= {f"{name}.weight": ("<i2", shape), f"{name}.bias": ("<i4", shape[:1]), f"{name}.shift": ("u1", shape[:1])}  # fmt: skip
    return found


def check_tensors(tensors, shapes):
    """H3."""
    require(tensors.keys() == shapes.keys(), "tensors")
    for name, (kind, shape) in shapes.items():
        tensor = tensors[name]
        require(tensor.dtype == kind and tensor.ndim == len(shape), name)
        require(all(n in (None, m) for n, m in zip(shape, tensor.shape, strict=True)), name)
        require(kind != "<i2" or tensor.min() >= -32767, name)


# ---------------------------------------------------------------- hyper-latents, section 4


class Neighbours:
    """What z says of its next position."""

    def __init__(self, tensors):
        names = ("hidden.weight", "hidden.bias", "head.weight", "own.weight", "shifts")
        self.hidden, self.bias, self.head, self.own, self.shifts = (
            tensors[f"neighbours.{name}"].astype(np.int64) for name in names
        )
        require(self.shifts.min() >= 1 and self.shifts.max() <= 30, "a shift")  # H6
        halves = 1 << self.shifts - 1
        most = (127 * abs(self.hidden).sum(1) + abs(self.bias)).max() + halves[0]
        require(max(most, 32767 * abs(self.head).sum(1).max() + halves[1]) < 1 << 31, "neighbours")

    def look(self, z, i, j, offset):
        """Return the rows and whole parts of position (i, j), [Z] each, of z [h', w', Z] as far as it is known."""
        columns, channels = z.shape[1:]
        x = np.zeros((4, channels), np.int64)
        for n, (u, v) in enumerate(PLACES):
            if i + u >= 0 and 0 <= j + v < columns:  # H16
                x[n] = z[i + u, j + v]
        s_hidden, s_head, s_own = self.shifts
        hidden = shifted(self.hidden @ x.flatten() + self.bias, s_hidden).clip(0, 32767)  # H17
        head = shifted(self.head @ hidden, s_head).clip(-32767, 32767)
        mean, width = head.reshape(2, channels) + offset.reshape(2, channels)  # H18
        mean = mean + shifted((self.own * x).sum(0), s_own)
        eighths = shifted(mean, 5).clip(-1016, 1016)
        whole = shifted(eighths, 3)
        return 8 * shifted(width, 8).clip(0, 31) + eighths - 8 * whole + 4, whole  # H19

    def decode(self, section, shape, tables, offset):
        """Return z [h', w', Z] of a section."""
        z, symbols = np.zeros(shape, np.int64), []

        def rows():
            for i, j in np.ndindex(shape[:2]):  # H8
                row, whole = self.look(z, i, j, offset)
                yield from row.tolist()
                z[i, j] = symbols[-shape[2] :] + whole  # H19
                require(abs(z[i, j]).max() <= 127, "z")  # H20

        require(len(section) > 0, "truncated")
        require(section[0] == 0, "lanes of z")  # H15
        reference_rans.decode_chunk(section[1:], rows(), tables, 1, symbols=symbols)
        return z

    def encode(self, z, tables, offset, **how):
        """Return the section of z [h', w', Z]; `how` are lanes and chunks that H15 forbids."""
        looks = [self.look(z, i, j, offset) for i, j in np.ndindex(z.shape[:2])]
        rows, whole = (np.array(part) for part in zip(*looks, strict=True))
        symbols, rows = (z.reshape(whole.shape) - whole).flatten().tolist(), rows.flatten().tolist()
        return reference_rans.encode(symbols, rows, tables, **how)


def shifted(a, s):
    """round of specs/exact.md."""
    return (a + (1 << s - 1)) >> s


# ---------------------------------------------------------------- networks, sections 5 to 7 and 10


class Network:
    """Operations of specs/exact.md: (kind, inputs, numbers, arrays), each known by its number."""

    def __init__(self, tensors):
        self.tensors, self.operations, self.names = tensors, [], {}

    def add(self, kind, *inputs, numbers=(), arrays=()):
        self.operations.append((kind, inputs, numbers, arrays))
        return len(self.operations) - 1

    def input(self, name, channels, bound):
        self.names[name] = self.add("input", numbers=(channels, bound))
        return self.names[name]

    def vector(self, name, channels):
        if name not in self.names:
            self.names[name] = self.add("vector", numbers=(channels,))
        return self.names[name]

    def layer(self, x, name):
        arrays = [self.tensors[f"{name}.{part}"] for part in ("weight", "bias", "shift")]
        if arrays[0].ndim == 2:
            return self.add("conv", x, arrays=arrays)
        return self.add("depthwise", x, numbers=(0,), arrays=arrays)

    def blocks(self, x, name, end=1, first=0):
        """H22."""
        for k in range(first, end):
            f = self.layer(self.layer(x, f"{name}.{k}.depth"), f"{name}.{k}.expand")
            f = self.layer(self.add("leaky", f, numbers=(3277,)), f"{name}.{k}.project")
            x = self.add("add", x, f)
        return x

    def scaled(self, x, name, channels):
        factors, shifts = (self.vector(f"{name}.{part}", channels) for part in "mt")
        return self.add("scale", x, factors, shifts)

    def check(self):
        """H5: the limits of specs/exact.md."""
        bounds = reference_exact.bounds(self.operations)
        for kind, inputs, _, arrays in self.operations:
            if kind in ("conv", "depthwise"):
                weight, bias, shift = (array.astype(np.int64) for array in arrays)
                require(abs(bias).max() <= 1 << 30, "a bias")
                require(shift.min() >= 1 and shift.max() <= 30, "a shift")
                most = reference_exact.largest_sum(bounds[inputs[0]], weight, bias, shift)
                require(most.max() < 1 << 31, "X3")

    def run(self, feeds, *wanted):
        numbers = {number: feeds[name] for name, number in self.names.items() if name in feeds}
        return reference_exact.run(self.operations, numbers, wanted)


class Model:
    """The networks and tables of a weights file."""

    family, wire_id, network = "hyperprior", 4, Network
    defaults, shapes_of = DEFAULTS, staticmethod(shapes_of)

    def __init__(self, data):
        self.digest = hashlib.sha256(data).digest()[:8]
        self.tensors, about = read_tensors(data, self.family)
        self.skip_below, self.config = about["skip_below"], self.defaults | about["config"]
        require(self.skip_below in range(65), "skip_below")  # H2
        check_tensors(self.tensors, self.shapes_of(self.config))
        self.tables = {}
        for name in ("tables.r", "tables.z"):
            self.tables[name] = [row[row > 0].tolist() for row in self.tensors[name]]
            for row, full in zip(self.tables[name], self.tensors[name], strict=True):
                require(sum(row) == 1 << 14 and full[: len(row)].all(), "table")  # H4
        for name in ("g_a.gain", "h_m.gain", "g_s.gain"):
            require(self.tensors[f"{name}_shift"] <= 30, "a shift of a gain")  # H5
        self.neighbours = Neighbours(self.tensors)
        self.build()

    def build(self):
        """Make the networks."""
        self.net = self.network(self.tensors)
        z, r = (
            self.net.input("z", self.config["Z"], 127),
            self.net.input("r", self.config["M"], 32767),
        )
        self.index_number = self.index_of(self.net, z, r)
        self.pixels_number = self.pixels_of(
            self.net, self.y_hat_of(self.net, z, r, lambda s, mean: r)
        )
        self.net.check()

    # ------------------------------------------------------------ quality, section 3

    def at(self, name, code):
        """H12: a vector."""
        t = min(code // 20, 6)
        low, high = self.tensors[name].astype(np.int64)[t : t + 2]
        return (low * (20 - (code - 20 * t)) + high * (code - 20 * t)) // 20

    def vectors(self, code):
        found = {"index_offset": self.at("index_offset", code)}
        for name in ("g_a.gain", "h_m.gain", "g_s.gain"):  # H13
            m = self.at(name, code)
            found |= {f"{name}.m": m, f"{name}.t": 0 * m + self.tensors[f"{name}_shift"]}
        gain = self.at("log_gain", code)
        logs = {"gain": gain, "steps": gain + 5 * 4096, "unit": self.at("log_unit", code)}
        for name, log in logs.items():  # H14
            e = 14 - (log >> 12)
            found[f"{name}.m"] = POWERS[log % 4096] >> np.clip(e - 30, 0, 15)
            found[f"{name}.t"] = np.clip(e, 0, 30)
        return found

    # ------------------------------------------------------------ graphs, sections 5 to 7

    def index_of(self, net, z, like):
        """H21."""
        a = net.layer(net.add("patches", z), "h_s.hidden")
        b = net.layer(net.add("leaky", a, numbers=(0,)), "h_s.head")
        b = net.add("crop", net.add("shuffle", b, numbers=(2,)), like)
        b = net.add("offset", b, net.vector("index_offset", self.config["M"]))
        b = net.add("shift", b, numbers=(8,))
        return net.add("clamp", b, numbers=(0, 63))

    def seen(self, net, f, s):
        """Return f of step s, which families that go on from here change."""
        return f

    def y_hat_of(self, net, z, like, residual):
        """Return y_hat, H23 to H25; residual(step, mean) is r, which a decoder knows beforehand."""
        features = net.blocks(net.layer(z, "h_m.stem"), "h_m.blocks")
        features = net.add("shuffle", net.layer(features, "h_m.up"), numbers=(2,))
        features = net.scaled(net.add("crop", features, like), "h_m.gain", self.config["H"])
        steps, y_hat = self.config["context_steps"], net.add("clamp", like, numbers=(0, 0))
        for s in range(steps):
            name, f = f"context.{s}", features
            if s > 0:
                seen = net.layer(net.layer(y_hat, f"{name}.neighbours"), f"{name}.stem")
                f = net.add("add", features, seen)
            mean = net.layer(self.seen(net, net.blocks(f, f"{name}.blocks"), s), f"{name}.head")
            if s > 0:
                mean = net.add("add", mean, net.layer(y_hat, f"{name}.linear"))
            r = net.scaled(residual(s, mean), "unit", self.config["M"])
            y_hat = net.add("merge", y_hat, net.add("add", mean, r), numbers=(s, steps))
        return y_hat

    def pixels_of(self, net, y_hat):
        """Return a tile in 1/64. H26."""
        f = net.add("shuffle", net.layer(y_hat, "g_s.stem"), numbers=(2,))
        f = net.scaled(f, "g_s.gain", self.config["N"])
        f = net.blocks(f, "g_s.blocks", self.config["synthesis_blocks"])
        return self.joined(net, y_hat, f)

    def joined(self, net, y_hat, f):
        """Return a tile in 1/64 of y_hat and what the blocks made of it. H26."""
        f = net.layer(f, "g_s.head")
        linear = net.add("shuffle", net.layer(y_hat, "g_s.linear"), numbers=(16,))
        x_hat = net.add("add", linear, net.add("shuffle", f, numbers=(8,)))
        return net.add("clamp", x_hat, numbers=(0, 255 * 64))

    # ------------------------------------------------------------ a tile

    def index(self, z, code, h, w):
        """Return the row of every residual [h, w, M]."""
        like = np.zeros((h, w, self.config["M"]), int)
        return self.net.run(self.vectors(code) | {"z": z, "r": like}, self.index_number)[0]

    def latents(self, payload, code, width, height):
        """Return z and r of a tile of width x height pixels; ValueError where the payload breaks a rule."""
        h, w = -(-height // 16), -(-width // 16)
        shape = (-(-h // 2), -(-w // 2), self.config["Z"])
        length, start = reference_rans.read_varint(payload, 0)
        require(start + length <= len(payload), "truncated")  # H7
        section, offset = payload[start : start + length], self.at("neighbours.offset", code)
        z = self.neighbours.decode(section, shape, self.tables["tables.z"], offset)
        index = self.index(z, code, h, w)
        rows, tables = index.flatten().tolist(), self.tables["tables.r"]
        r = reference_rans.decode(payload[start + length :], rows, tables, self.skip_below)  # H9
        r = np.array(r, np.int64).reshape(index.shape)
        require(np.abs(r).max() <= 32767, "r")  # H10
        return z, r

    def pixels(self, z, r, code, width, height):
        """Return a tile [height, width, 3] in 1/64."""
        (pixels,) = self.net.run(self.vectors(code) | {"z": z, "r": r}, self.pixels_number)
        return pixels[:height, :width]


# ---------------------------------------------------------------- the file, specs/format.md


def read_file(data):
    """Return the header's fields and the payloads of the TILE chunks."""
    require(data[:8] == b"\x89NC1\r\n\x1a\n" and data[8] < 16, "signature")
    numbers, at = [], 9
    for _ in range(3):
        number, at = reference_rans.read_varint(data, at)
        numbers.append(number)
    width, height, family = numbers
    file = {"width": width, "height": height, "is_grey": data[8] & 1 > 0, "overlap": 0}
    file["is_second"] = data[8] & 8 > 0
    file |= {
        "family": family,
        "digest": data[at : at + 8],
        "code": data[at + 8],
        "tile": max(width, height),
    }
    at += 9
    if data[8] & 2:
        file["tile"], at = reference_rans.read_varint(data, at)
        file["overlap"], at = reference_rans.read_varint(data, at)
    if data[8] & 4:
        file["layers"], at = reference_rans.read_varint(data, at)
        file["ranges"], at = reference_rans.read_varint(data, at)
    at, payloads = at + 4, []
    while at < len(data):
        length, start = reference_rans.read_varint(data, at + 4)
        payloads += [data[start : start + length]] if data[at : at + 4] == b"TILE" else []
        at = start + length + 4
    return file, payloads


def boxes(file):
    """Return left, top, width and height of every tile."""
    width, height, side = (file[key] for key in ("width", "height", "tile"))
    reach = side + file["overlap"]
    corners = [(left, top) for top in range(0, height, side) for left in range(0, width, side)]
    return [(x, y, min(reach, width - x), min(reach, height - y)) for x, y in corners]


def tiles(data, model):
    """Return for each tile of a file its left and top, z and r, and pixels."""
    file, payloads = read_file(data)
    require((file["family"], file["digest"]) == (model.wire_id, model.digest), "family or digest")
    code, found = file["code"], []
    for (left, top, *size), payload in zip(boxes(file), payloads, strict=True):
        z, r = model.latents(payload, code, *size)
        found.append((left, top, z, r, model.pixels(z, r, code, *size)))
    return file, found


def ramp(length, start, overlap):
    fade = np.ones(length, np.float32)
    if start > 0:
        columns = (np.arange(overlap, dtype=np.float32) + np.float32(0.5)) / np.float32(
            overlap or 1
        )
        fade[:overlap] = columns[:length]
    return fade


def faded(image, tile, fade):
    """F26: image and tile float32 [height, width, channels], fade float32 [height, width]."""
    fade = fade[:, :, None]
    difference = tile - image
    low = image + fade.astype(np.float64) * difference
    high = tile + (fade - np.float32(1)).astype(np.float64) * difference
    return np.rint(np.where(fade < 0.5, low, high).astype(np.float32))


def deepened(tile, is_grey, bit_depth):
    """Return a tile in 1/64 that does not fade, in other depths than 8: F50."""
    largest, whole = (1 << bit_depth) - 1, 255 * 64 * (3 if is_grey else 1)
    tile = tile.astype(np.int64)
    tile = tile.sum(2, keepdims=True) if is_grey else tile
    return (tile * largest + whole // 2) // whole


def finished(file, tile):
    """Return a tile [height, width, 3 or, grey, 1] as it is drawn: float32 if it is faded. H27, H28, F23."""
    if file["overlap"]:
        tile = tile.astype(np.float32) / np.float32(64)
        return tile.sum(2, keepdims=True) / np.float32(3) if file["is_grey"] else tile
    tile = tile + 32 >> 6
    tile = (tile.sum(2, keepdims=True) + 1) // 3 if file["is_grey"] else tile
    return tile.astype(np.uint8)


def join(file, found):
    """Return the image [height, width, 3] or, grey, [height, width], uint8. F26."""
    shape = file["height"], file["width"], 1 if file["is_grey"] else 3
    image = np.zeros(shape, np.float32)
    for left, top, *_, tile in found:
        tile = finished(file, tile)
        height, width, _ = tile.shape
        area = image[top : top + height, left : left + width]
        fade = ramp(height, top, file["overlap"])[:, None] * ramp(width, left, file["overlap"])
        area[:] = faded(area, tile, fade)
    pixels = image.astype(np.uint8)
    return pixels[:, :, 0] if file["is_grey"] else pixels


def decode(data, weights):
    """Return the pixels of a file, made with these weights."""
    return join(*tiles(data, Model(weights)))
