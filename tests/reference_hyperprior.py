"""The decoder of specs/hyperprior.md in plain numpy, and of the file around it, written from the specifications.

    decode(file, weights) -> pixels        bytes in; imports neither ncodec nor torch nor safetensors

Float networks run in float64, integers in int64. Of the container only what leads to the tiles is read: checksums
and chunks of other types are tests/test_container.py's.
"""

import hashlib
import json

import numpy as np
import reference_rans
from reference_rans import require

TYPES = {"F16": "<f2", "F32": "<f4", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U16": "<u2"}
DEFAULTS = {"N": 128, "M": 320, "Z": 64, "H": 160, "S": 128}  # section 7
DEFAULTS |= {"analysis_blocks": 6, "synthesis_blocks": 10, "context_steps": 4}
PHASE = np.array([[0, 2], [3, 1]])


# ---------------------------------------------------------------- weights file, section 1


def read_tensors(data):
    """Return the tensors of a weights file and the object under `ncodec`. H1, H2."""
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    about = json.loads(header.pop("__metadata__")["ncodec"])
    require(about["family"] == "hyperprior", "family")
    tensors = {}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        values = np.frombuffer(data[start + first : start + end], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors, about


def offset_rows(table, code):
    """Return the rows on both sides of a quality code, and how far it is from the first, of 20."""
    t = min(code // 20, 6)
    return table[t], table[t + 1], code - 20 * t


def shuffle(x, f):
    """H19: [f²·n, H, W] -> [n, f·H, f·W]."""
    channels, height, width = x.shape
    x = x.reshape(channels // f**2, f, f, height, width).transpose(0, 3, 1, 4, 2)
    return x.reshape(channels // f**2, f * height, f * width)


def windows(x, k):
    """Return [k, k, channels, height, width]: at (u, v) what each place has at (i + u − p, j + v − p), 0 outside."""
    p, (_, height, width) = k // 2, x.shape
    padded = np.pad(x, ((0, 0), (p, p), (p, p)))
    return np.array(
        [[padded[:, u : u + height, v : v + width] for v in range(k)] for u in range(k)]
    )


class Model:
    """The networks and tables of a weights file."""

    def __init__(self, data):
        self.digest = hashlib.sha256(data).digest()[:8]
        self.tensors, about = read_tensors(data)
        self.skip_below = about["skip_below"]
        self.config = DEFAULTS | about["config"]
        self.tables = {}
        for name in ("tables.r", "tables.z"):
            self.tables[name] = [row[row > 0].tolist() for row in self.tensors[name]]
            for row, full in zip(self.tables[name], self.tensors[name], strict=True):
                require(sum(row) == 1 << 14 and full[: len(row)].all(), "table")  # H4
        bound = 127
        for name in ("hidden", "head"):  # H5
            weight, bias, shift = self.integers(name)
            require(1 <= shift <= 30, "shift")
            sums = [
                bound * sum(map(abs, row)) + abs(b)
                for row, b in zip(weight.tolist(), bias.tolist(), strict=True)
            ]
            require(max(sums) + 2 ** (shift - 1) < 2**53, "2**53")
            bound = (max(sums) + 2 ** (shift - 1) >> shift) + 1

    # ------------------------------------------------------------ integers, sections 2 and 3

    def integers(self, name):
        weight, bias = (
            self.tensors[f"exact.{name}.{key}"].astype(np.int64) for key in ("weight", "bias")
        )
        return weight, bias, int(self.tensors[f"exact.{name}.shift"])

    def integer_layer(self, name, x):
        weight, bias, shift = self.integers(name)
        total = np.einsum("ok,kij->oij", weight, x) + bias[:, None, None]
        return total + (1 << shift - 1) >> shift

    def index(self, z, code, h, w):
        """Return the row of each residual [M, h, w]. H13 to H16."""
        channels, height, width = z.shape
        columns = windows(z, 3).transpose(2, 0, 1, 3, 4).reshape(9 * channels, height, width)
        a = self.integer_layer("hidden", columns)
        b = shuffle(self.integer_layer("head", np.maximum(a, 0)), 2)[:, :h, :w]
        low, high, g = offset_rows(self.tensors["exact.index_offset"].astype(np.int64), code)
        offset = (low * (20 - g) + high * g) // 20
        return np.clip(b + offset[:, None, None] + 128 >> 8, 0, 63)

    def latents(self, payload, code, width, height):
        """Return z and r of a tile of width x height pixels; ValueError where the payload breaks a rule."""
        h, w = -(-height // 16), -(-width // 16)
        shape = (self.config["Z"], -(-h // 2), -(-w // 2))
        length, start = reference_rans.read_varint(payload, 0)
        require(start + length <= len(payload), "truncated")  # H6
        rows = (code + 10) // 20 * shape[0] + np.arange(shape[0]).repeat(shape[1] * shape[2])  # H8
        section = payload[start : start + length]
        z = reference_rans.decode(section, rows.tolist(), self.tables["tables.z"])
        z = np.array(z, np.int64).reshape(shape)  # H7
        require(np.abs(z).max() <= 127, "z")  # H9
        index = self.index(z, code, h, w)
        rows, tables = index.flatten().tolist(), self.tables["tables.r"]
        r = reference_rans.decode(payload[start + length :], rows, tables, self.skip_below)  # H10
        r = np.array(r, np.int64).reshape(index.shape)
        require(np.abs(r).max() <= 32767, "r")  # H11
        return z, r

    # ------------------------------------------------------------ floats, sections 4 to 6

    def layer(self, name, x):
        """H17: a convolution or, where the weights have one input channel, a depthwise one."""
        weight, bias = (
            self.tensors[f"{name}.{key}"].astype(np.float64) for key in ("weight", "bias")
        )
        if weight.shape[1:] == (len(x), 1, 1):
            y = np.tensordot(weight[:, :, 0, 0], x, 1)
        else:
            y = np.einsum("ouv,uvoij->oij", weight[:, 0], windows(x, weight.shape[2]))
        return y + bias[:, None, None]

    def blocks(self, name, x, count=1):
        """H18."""
        for k in range(count):
            a = self.layer(f"{name}.{k}.expand", self.layer(f"{name}.{k}.depth", x))
            x = x + self.layer(f"{name}.{k}.project", np.where(a >= 0, a, 0.1 * a))
        return x

    def at(self, name, code):
        """H20: [channels, 1, 1]."""
        low, high, g = offset_rows(self.tensors[name].astype(np.float64), code)
        return (low + (high - low) * (g / 20))[:, None, None]

    def y_hat(self, z, code, h, w, residual):
        """Return y_hat [M, h, w], section 5; residual(mean) is r, which a decoder knows beforehand."""
        features = self.layer("h_m.up", self.blocks("h_m.blocks", self.layer("h_m.stem", z)))
        features = shuffle(features, 2)[:, :h, :w] * self.at("h_m.gain", code)
        unit = np.exp(self.at("log_shrink", code) - self.at("log_gain", code))
        steps, m = self.config["context_steps"], np.arange(self.config["M"])
        p = PHASE[np.arange(h)[:, None] % 2, np.arange(w) % 2]
        step_of = (p + m[:, None, None]) % 4 * steps // 4
        y_hat = np.zeros(step_of.shape)
        for s in range(steps):
            name, f, linear = f"context.{s}", features, 0
            if s > 0:  # H23
                f = f + self.layer(f"{name}.stem", self.layer(f"{name}.neighbours", y_hat))
                linear = self.layer(f"{name}.linear", y_hat)
            mean = linear + self.layer(f"{name}.head", self.blocks(f"{name}.blocks", f))
            y_hat = np.where(step_of == s, mean + residual(mean) * unit, y_hat)  # H21
        return y_hat

    def pixels(self, z, r, code, width, height):
        """Return a tile [3, height, width], of 0 ... 255, not rounded. H24, H25."""
        y_hat = self.y_hat(z, code, *r.shape[1:], lambda mean: r)
        f = shuffle(self.layer("g_s.stem", y_hat), 2) * self.at("g_s.gain", code)
        f = self.layer("g_s.head", self.blocks("g_s.blocks", f, self.config["synthesis_blocks"]))
        x_hat = 0.5 + shuffle(self.layer("g_s.linear", y_hat), 16) + shuffle(f, 8)
        return np.clip(255 * x_hat[:, :height, :width], 0, 255)


# ---------------------------------------------------------------- the file, specs/format.md


def read_file(data):
    """Return the header's fields and the payloads of the tiles."""
    require(data[:8] == b"\x89NC1\r\n\x1a\n" and data[8] < 4, "signature")
    numbers, at = [], 9
    for _ in range(3):
        number, at = reference_rans.read_varint(data, at)
        numbers.append(number)
    width, height, family = numbers
    require(family == 1, "family")
    file = {"width": width, "height": height, "is_grey": data[8] & 1 > 0, "overlap": 0}
    file |= {"digest": data[at : at + 8], "code": data[at + 8], "tile": max(width, height)}
    at += 9
    if data[8] & 2:
        file["tile"], at = reference_rans.read_varint(data, at)
        file["overlap"], at = reference_rans.read_varint(data, at)
    at, payloads = at + 4, []
    while at < len(data):
        length, start = reference_rans.read_varint(data, at + 4)
        payloads += [data[start : start + length]] if data[at : at + 4] == b"TILE" else []
        at = start + length + 4
    return file, payloads


def tiles(data, model):
    """Return for each tile of a file its left and top, z and r, and pixels."""
    file, payloads = read_file(data)
    require(file["digest"] == model.digest, "digest")
    width, height, side, code = (file[key] for key in ("width", "height", "tile", "code"))
    reach = side + file["overlap"]
    corners = [(left, top) for top in range(0, height, side) for left in range(0, width, side)]
    found = []
    for (left, top), payload in zip(corners, payloads, strict=True):
        size = (min(reach, width - left), min(reach, height - top))
        z, r = model.latents(payload, code, *size)
        found.append((left, top, z, r, model.pixels(z, r, code, *size)))
    return file, found


def ramp(length, start, overlap):
    fade = np.ones(length)
    if start > 0:
        fade[:overlap] = ((np.arange(overlap) + 0.5) / max(overlap, 1))[:length]
    return fade


def join(file, found):
    """Return the image [height, width, 3] or, grey, [height, width], uint8. F23, F26."""
    image = np.zeros((1 if file["is_grey"] else 3, file["height"], file["width"]))
    for left, top, _, _, tile in found:
        _, height, width = tile.shape
        if file["is_grey"]:  # H27
            tile = tile.mean(0) if file["overlap"] else (np.rint(tile).sum(0) + 1) // 3
        fade = ramp(height, top, file["overlap"])[:, None] * ramp(width, left, file["overlap"])
        area = image[:, top : top + height, left : left + width]
        area[:] = np.rint(area + (tile - area) * fade)
    pixels = image.astype(np.uint8).transpose(1, 2, 0)
    return pixels[:, :, 0] if file["is_grey"] else pixels


def decode(data, weights):
    """Return the pixels of a file, made with these weights."""
    return join(*tiles(data, Model(weights)))
