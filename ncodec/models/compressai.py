"""Checkpoints of CompressAI, in layers of our own and coded by our own coder: for measuring, not for keeping.

    x --g_a--> y --------------> round(y - means) --> [rANS] --> y_hat = symbols + means --g_s--> x_hat
               |                        ^ means          ^ row of a Gaussian's table, by its scale
              h_a                       |                |
               |                        +-----------+----+
               +--> z --> round(z - medians) --> [rANS] --> z_hat --h_s--+

    bmshj2018-factorized    no z: y is coded as z is, each channel by its own density; -relu: ReLU instead of GDN
    bmshj2018-hyperprior    h_a takes |y|, h_s tells scales, means are 0      https://arxiv.org/abs/1802.01436
    mbt2018-mean            h_a takes y, h_s tells scales and means           https://arxiv.org/abs/1809.02736

Names and shapes of tensors are CompressAI's (of all its versions), its package is not needed. What users do not get:

- Not exact. Everything here is float32 by torch, and the tables are computed when a checkpoint is loaded: a file decodes
  in the process that wrote it (on one thread), and need not decode with another machine or version of torch: where a scale
  falls into another row, the coder's final state all but surely shows it, and that is an error.
- Not CompressAI's bytes. The pixels are those of its forward pass up to float rounding; the payload has our tables (14 bits
  instead of 16, made of the densities, not of the checkpoint's `_quantized_cdf`) and our coder.
- Not a format: no checksum, no weights' digest. Family `hyperprior` has all of that.
"""

import math
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, softplus

from ncodec.bytestream import ByteReader, varint
from ncodec.coder import Coder, Reader, Writer
from ncodec.entropy import FREQ_BITS, FrequencyTables
from ncodec.errors import CorruptPayloadError, InputError, UnknownModelError, WeightsMismatchError
from ncodec.nn.threads import one_thread

KNOWN = "bmshj2018-factorized, bmshj2018-factorized-relu, bmshj2018-hyperprior or mbt2018-mean"
STRIDE = 64  # what sides are padded to, in all models, as CompressAI's evaluation does
SCALES = torch.linspace(
    math.log(0.11), math.log(256), 64
).exp()  # of the Gaussians that have tables
TAIL = 2.0**-FREQ_BITS  # a table's row ends where less than this is outside
LONGEST = 4095  # symbols of a row; others are escapes
LARGEST = 2**24  # symbols are smaller: floats below are exact
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # what weights may be


# ---------------------------------------------------------------- layers


class Gdn(nn.Module):
    """Generalised divisive normalisation: x / sqrt(beta + gamma x²), its inverse multiplies. Both parameters are kept as roots."""

    PEDESTAL = 2.0**-36
    BETA_MIN = 1e-6

    def __init__(self, channels: int, is_inverse: bool = False) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.eye(channels) * math.sqrt(0.1))
        self.is_inverse = is_inverse

    def forward(self, x: Tensor) -> Tensor:
        beta = self.beta.clamp_min(math.sqrt(self.BETA_MIN + self.PEDESTAL)) ** 2 - self.PEDESTAL
        gamma = self.gamma.clamp_min(math.sqrt(self.PEDESTAL)) ** 2 - self.PEDESTAL
        norm = conv2d(x**2, gamma[:, :, None, None], beta)
        return x * (norm.sqrt() if self.is_inverse else norm.rsqrt())


class Densities(nn.Module):
    """A density a channel: its cumulative is a monotone network 1-3-3-3-3-1 behind a sigmoid (1802.01436, appendix 6.1)."""

    WIDTHS = (1, 3, 3, 3, 3, 1)

    def __init__(self, channels: int) -> None:
        super().__init__()
        pairs = list(zip(self.WIDTHS, self.WIDTHS[1:], strict=False))

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(channels, *shape))

        self.matrices = nn.ParameterList([zeros(out, n) for n, out in pairs])
        self.biases = nn.ParameterList([zeros(out, 1) for _, out in pairs])
        self.factors = nn.ParameterList([zeros(out, 1) for _, out in pairs[:-1]])
        self.quantiles = zeros(1, 3)  # low, median, high

    @property
    def medians(self) -> Tensor:
        """[1, C, 1, 1], what symbols are counted from."""
        return self.quantiles[:, 0, 1].reshape(1, -1, 1, 1)

    def logits(self, v: Tensor) -> Tensor:
        """Return the logits of the cumulative at v [C, 1, n], in the precision of v."""
        for k, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            v = softplus(matrix.to(v.dtype)) @ v + bias.to(v.dtype)
            if k < len(self.factors):
                v = v + self.factors[k].to(v.dtype).tanh() * v.tanh()
        return v

    def mass(self, v: Tensor) -> Tensor:
        """Return the mass on [v - 0.5, v + 0.5], shaped like v [C, 1, n]: accurate in both tails."""
        low, high = self.logits(v - 0.5), self.logits(v + 0.5)
        sign = torch.where(low + high > 0, -1.0, 1.0)
        return ((sign * high).sigmoid() - (sign * low).sigmoid()).abs()


def gaussian_mass(r: Tensor, scales: Tensor) -> Tensor:
    """Return the mass of N(0, scales²) on [r - 0.5, r + 0.5]: |r| keeps the tails accurate."""
    a, c = r.abs(), math.sqrt(0.5) / scales.clamp_min(0.11)
    return 0.5 * (torch.erfc((a - 0.5) * c) - torch.erfc((a + 0.5) * c))


def _zigzag() -> Tensor:
    """Return the symbols 0, -1, 1, -2, 2, … in the order of `FrequencyTables`."""
    n = torch.arange(LONGEST)
    return torch.where(n % 2 == 0, n // 2, -(n + 1) // 2).double()


def _tables(rows: Tensor) -> FrequencyTables:
    """Return tables of probabilities [k, LONGEST] in zigzag order, each cut where little is left, for the escape."""
    rest = 1 - rows.cumsum(1)
    ends = (rest >= TAIL).sum(1).clamp(max=LONGEST - 1) + 1
    pmfs: list[Any] = [
        np.append(row[:end], max(float(left[end - 1]), TAIL / 2))
        for row, left, end in zip(rows.numpy(), rest.numpy(), ends.tolist(), strict=True)
    ]
    return FrequencyTables.from_pmf(pmfs)


def _conv(n: int, out: int, kernel: int = 5, stride: int = 2) -> nn.Module:
    return nn.Conv2d(n, out, kernel, stride, padding=kernel // 2)


def _deconv(n: int, out: int) -> nn.Module:
    return nn.ConvTranspose2d(n, out, 5, 2, padding=2, output_padding=1)


# ---------------------------------------------------------------- models


class Network(nn.Module):
    """One of the models in `KNOWN`, its parameters named as CompressAI names them."""

    def __init__(self, name: str, N: int, M: int) -> None:
        super().__init__()
        self.name, self.N, self.M = name, N, M
        self.has_z, self.has_means = "factorized" not in name, name == "mbt2018-mean"
        has_gdn = not name.endswith("-relu")

        def norm(is_inverse: bool) -> nn.Module:
            return Gdn(N, is_inverse) if has_gdn else nn.ReLU()

        def act() -> nn.Module:
            return nn.LeakyReLU() if self.has_means else nn.ReLU()

        down = [_conv(3, N), norm(False), _conv(N, N), norm(False), _conv(N, N), norm(False)]
        up = [_deconv(M, N), norm(True), _deconv(N, N), norm(True), _deconv(N, N), norm(True)]
        self.g_a = nn.Sequential(*down, _conv(N, M))
        self.g_s = nn.Sequential(*up, _deconv(N, 3))
        self.entropy_bottleneck = Densities(N if self.has_z else M)
        if self.has_z:
            wide, wider, out = (M, M * 3 // 2, 2 * M) if self.has_means else (N, N, M)
            last = [] if self.has_means else [nn.ReLU()]  # scales are not negative
            self.h_a = nn.Sequential(_conv(M, N, 3, 1), act(), _conv(N, N), act(), _conv(N, N))
            self.h_s = nn.Sequential(
                _deconv(N, wide), act(), _deconv(wide, wider), act(), _conv(wider, out, 3, 1), *last
            )

    def gaussian(self, z_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return scales and means [1, M, 4h, 4w] that z_hat [1, N, h, w] tells."""
        told: Tensor = self.h_s(z_hat)
        if not self.has_means:
            return told, torch.zeros_like(told)
        scales, means = told.chunk(2, 1)
        return scales, means


class FileCodec:
    """A network with the tables of its densities, which are floats before they are tables: so of this machine."""

    @torch.inference_mode()
    def __init__(self, network: Network) -> None:
        densities, symbols = network.entropy_bottleneck, _zigzag()
        self.network, self.medians = network.eval(), densities.medians
        around = symbols + self.medians.reshape(-1, 1, 1).double()
        self.density_tables = _tables(densities.mass(around)[:, 0])
        self.gaussian_tables = _tables(gaussian_mass(symbols, SCALES.double()[:, None]))

    def _code_by_density(self, coder: Coder, section: str, v: Tensor | None, size: tuple[int, int]) -> Tensor:  # fmt: skip
        """Return v [1, C, h, w] quantised: given to a Writer, None with a Reader."""
        shape = (self.medians.shape[1], *size)
        rows = np.broadcast_to(np.arange(shape[0])[:, None, None], shape)
        symbols = None if v is None else _integers(v - self.medians, section)
        return _floats(coder.code(section, symbols, rows, self.density_tables)) + self.medians

    def code(self, coder: Coder, y: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Return y_hat [1, M, h, w]; y is given with a Writer, None with a Reader. `size` is h and w, multiples of 4."""
        network = self.network
        if not network.has_z:
            return self._code_by_density(coder, "y", y, size)
        z = None if y is None else network.h_a(y if network.has_means else y.abs())
        z_hat = self._code_by_density(coder, "z", z, (size[0] // 4, size[1] // 4))
        scales, means = network.gaussian(z_hat)
        rows = torch.bucketize(scales[0], SCALES[:-1]).numpy()
        symbols = None if y is None else _integers(y - means, "y")
        return _floats(coder.code("y", symbols, rows, self.gaussian_tables)) + means

    @one_thread()
    @torch.inference_mode()
    def encode(self, pixels: NDArray[np.uint8]) -> bytes:
        """Return the file of an RGB image [H, W, 3]: width and height (varints), then the coder's payload.

        Raises:
            InputError: latents that no coder takes: weights of something else.
        """
        height, width = pixels.shape[:2]
        x = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255
        y = self.network.g_a(pad(x, _margins(width, height)))
        writer = Writer()
        self.code(writer, y, (y.shape[2], y.shape[3]))
        return varint(width) + varint(height) + writer.payload()

    @one_thread()
    @torch.inference_mode()
    def decode(self, data: bytes, shape: tuple[int, int]) -> NDArray[np.uint8]:
        """Return the RGB image [H, W, 3] of a file that this network wrote, in this process.

        Raises:
            TruncatedError, CorruptPayloadError: damage that shows, or another size than `shape` (H, W). Not all shows.
        """
        source = ByteReader(data)
        width, height = source.varint("width"), source.varint("height")
        if (height, width) != tuple(shape):
            raise CorruptPayloadError(f"size: expected {shape[1]}x{shape[0]}, found {width}x{height}")  # fmt: skip
        left, right, top, bottom = _margins(width, height)
        size = ((top + height + bottom) // 16, (left + width + right) // 16)
        reader = Reader(data[source.offset :], 2 if self.network.has_z else 1)
        x_hat = self.network.g_s(self.code(reader, None, size))[0]
        x_hat = x_hat[:, top : top + height, left : left + width].clamp(0, 1)
        return np.ascontiguousarray((x_hat * 255).round().byte().permute(1, 2, 0).numpy())


def _integers(values: Tensor, section: str) -> NDArray[np.int32]:
    """Return values [1, C, h, w] rounded, [C, h, w]."""
    rounded = values[0].round()
    if not (rounded.abs() < LARGEST).all():  # NaN neither
        raise InputError(f"section {section!r}: latents are not finite, or beyond {LARGEST}")
    return rounded.int().numpy()


def _floats(symbols: NDArray[np.int32]) -> Tensor:
    return torch.from_numpy(symbols)[None].float()


def _margins(width: int, height: int) -> tuple[int, int, int, int]:
    """Return the columns left and right and the rows above and below (all 0) that make sides multiples of 64."""
    across, down = -width % STRIDE, -height % STRIDE
    return across // 2, across - across // 2, down // 2, down - down // 2


# ---------------------------------------------------------------- checkpoints

# entropy_bottleneck.matrices.0 today, ._matrix0 up to 1.2.6, ._matrices.0 in the zoo's files
_OF_DENSITIES = re.compile(r"entropy_bottleneck\._?(matri|bias|factor)[a-z]*\.?(\d)")
_PLURAL = {"matri": "matrices", "bias": "biases", "factor": "factors"}
# Constants, and tables that are made anew.
_IGNORED = re.compile(
    r"(entropy_bottleneck|gaussian_conditional)\.(_\w+|target|scale_table|.*bound)|g_[as]\.\d\.(beta|gamma)_reparam\..*"
)


def load(path: Path) -> Network:
    """Return the network of a checkpoint.

    Args:
        path: of what `torch.save` wrote (a state dict, or one under "state_dict", "model_state_dict", "network" or "model"),
            or of safetensors. The model and its N and M are told from the tensors.

    Raises:
        InputError: the file cannot be read, is not a checkpoint, or has tensors that are not dense floats of its own bytes.
        UnknownModelError: of another model.
        WeightsMismatchError: tensors are missing, of the wrong shape, or not finite.
    """
    state = _read(path)
    name, N, M = _architecture(path, state)
    state = _floats_of(path, state)
    with torch.device("meta"):  # shapes alone: N and M are no more than a claim yet
        network = Network(name, N, M)
    expected = network.state_dict()
    more = sorted(set(state) - set(expected))
    missing = sorted(set(expected) - set(state))
    if missing:
        raise WeightsMismatchError(f"{path}: {network.name} lacks {len(missing)} tensors: {_some(missing)}")  # fmt: skip
    if more:
        raise UnknownModelError(f"{path}: expected {KNOWN}, found {network.name} and besides {_some(more)}")  # fmt: skip
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            raise WeightsMismatchError(
                f"{path}: {name}: expected {list(tensor.shape)} of {network.name} with N={network.N}, M={network.M}, "
                f"found {list(state[name].shape)}"
            )
        if not state[name].isfinite().all():
            raise WeightsMismatchError(f"{path}: {name}: expected finite numbers, found others")
    network.load_state_dict(state, assign=True)
    return network


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file as they are, under today's names, without those that are not needed."""
    try:
        _refuse_inflation(path)
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # torch.load raises anything on what torch.save did not write
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch's text says how to run what is in it
            reason = "holds more than tensors, or is damaged"
        raise InputError(f"{path}: not a checkpoint that loads as data alone ({reason})") from error
    for key in ("state_dict", "model_state_dict", "network", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    is_state = isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor) and not v.is_nested} if is_state else {}  # fmt: skip
    if not tensors:
        inside = f" of {_some(sorted(map(str, found)))}" if isinstance(found, Mapping) else ""
        raise InputError(f"{path}: expected a state dict, found {type(found).__name__}{inside}")
    first = next((name for name in tensors if name.endswith("g_a.0.weight")), "g_a.0.weight")
    prefix = first.removesuffix("g_a.0.weight")  # "module." of DataParallel, or another
    state = {}
    for name, tensor in tensors.items():
        name = _OF_DENSITIES.sub(lambda m: f"entropy_bottleneck.{_PLURAL[m[1]]}.{m[2]}", name.removeprefix(prefix))  # fmt: skip
        if not _IGNORED.fullmatch(name):
            state[name] = tensor
    return state


def _refuse_inflation(path: Path) -> None:
    """Raise BadZipFile where a zip file's entries can be larger than the file: torch.save stores them, one behind the other."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # how torch.load tells them
            return
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or total > size:
        raise zipfile.BadZipFile(f"entries are compressed or overlap: {total} bytes in {size}")


def _floats_of(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors as float32, contiguous; refuse, ahead of any arithmetic, what is not plain or more than the file holds."""
    left = size = path.stat().st_size
    for name, tensor in state.items():
        place = f"{path}: {name}"
        kind = f"{tensor.layout}, {tensor.device}, {tensor.dtype}".replace("torch.", "")
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in FLOATS:  # fmt: skip
            raise InputError(f"{place}: expected a dense tensor of floats, found {kind}")
        left -= math.prod(tensor.shape) * tensor.element_size()
        if left < 0 or not tensor.numel():  # expanded, or a view of what others view
            raise InputError(
                f"{place}: expected what a file of {size} bytes holds, found {list(tensor.shape)} {kind}"
            )
    return {name: tensor.float().contiguous() for name, tensor in state.items()}


def _architecture(path: Path, state: dict[str, Tensor]) -> tuple[str, int, int]:
    """Return the model's name, N and M."""
    modules = sorted({name.split(".")[0] for name in state})
    autoregressive = [m for m in modules if "context" in m or m == "entropy_parameters"]
    ends = [state.get(f"g_a.{k}.weight", torch.zeros(0)) for k in (0, 6)]
    if autoregressive:
        raise UnknownModelError(
            f"{path}: expected {KNOWN}, found {', '.join(autoregressive)}: an autoregressive one, as mbt2018 or cheng2020"
        )
    if any(weight.ndim != 4 for weight in ends):
        raise UnknownModelError(
            f"{path}: expected {KNOWN}, found modules {_some(modules)} without convolutions g_a.0 and g_a.6"
        )
    N, M = (weight.shape[0] for weight in ends)
    if not {"h_a", "h_s"} & set(modules):
        is_relu = not any(".beta" in name for name in state)
        return "bmshj2018-factorized" + ("-relu" if is_relu else ""), N, M
    last = state.get("h_s.4.weight", torch.zeros(0))
    return ("mbt2018-mean" if last.shape[:1] == (2 * M,) else "bmshj2018-hyperprior"), N, M
