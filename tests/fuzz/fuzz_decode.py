"""ncodec.decode of whole small files on the CPU: an error about the file, or an image of the declared size.

    mutate: | header fields, chunks | sections' bytes, lengths kept right | any latents or tokens, coded well |
            (families dct and jpeg: | header fields, chunks | bytes of payloads |)

Damaged rANS sections nearly always fail the final states, so one mutation writes a valid payload of
latents no encoder would choose: those reach the networks. Anything but an error about the file, over 5 s, or
256 MiB more memory than before is a finding. Run by `python tests/fuzz/run.py --only decode`.
"""

import random
import sys
import time

import numpy as np
import reference_hyperprior as reference
from fuzz import structure
from numpy.typing import NDArray

import ncodec
from ncodec import container
from ncodec.bytestream import varint
from ncodec.coder import Writer
from ncodec.container import Container, Header, Limits
from ncodec.errors import FormatError, LimitError, ModelError, NcodecError, UnknownModelError
from ncodec.models import weights
from ncodec.models.hyperprior.codec import HyperpriorCodec, z_size
from ncodec.models.hyperprior.layers import R_MAX, Z_MAX
from ncodec.models.load import load_file, load_for
from ncodec.models.masked.codec import MaskedCodec
from ncodec.models.tokenizer.codec import TokenizerCodec
from ncodec.models.tokenizer.stages import depth_of_last, n_stages
from ncodec.nn import STRIDE
from ncodec.quality import QUALITY_STEPS

LIMITS = Limits(side=256, pixels=1 << 14, tiles=8, metadata_bytes=1024, chunks=16)
MAX_LEN = 4096
HYPERPRIOR, TOKENIZER, MASKED, FTIC = 4, 5, 6, 7  # wire ids
LONGEST_S = 5.0
MOST_MEMORY = 256 << 20  # bytes, above what the process had before


def peak_memory() -> int:
    """Return the process's largest memory so far (bytes), 0 where the system does not say."""
    if not sys.platform.startswith("linux"):
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def check(data: bytes) -> bool:
    """Return whether the file is decoded.

    Raises:
        AssertionError, anything but an error about the file: a bug.
    """
    for model in weights.list_models():
        load_file(model.path, "cpu")  # cached: not a cost of this file
    memory, start = peak_memory(), time.monotonic()
    try:
        pixels = ncodec.decode(data, "numpy", device="cpu", limits=LIMITS)
    except (FormatError, LimitError, ModelError) as error:  # InputError blames the caller
        assert str(error), "an error says what is wrong"
        return False
    finally:
        took, grown = time.monotonic() - start, peak_memory() - memory
        assert took < LONGEST_S, f"{took:.1f} s"
        assert grown < MOST_MEMORY, f"{grown} bytes"
    parsed = container.read(data, LIMITS)
    header = parsed.header
    channels = header.channels + (parsed.alpha is not None)
    shape = (header.height, header.width) + ((channels,) if channels > 1 else ())
    dtype = "uint8" if header.bit_depth <= 8 else "uint16"
    assert pixels.shape == shape and pixels.dtype.name == dtype, (pixels.shape, shape)
    assert int(pixels.max()) < 1 << header.bit_depth, "values have the depth"
    return True


def _family(parts: structure.Parts) -> int:
    return structure.varint_value(parts.fields["family"])


def _mutate_sections(payload: bytes, rng: random.Random, change: structure.Change) -> bytes:
    length, start = structure.take_varint(payload, 0)
    end = start + structure.varint_value(length)
    z, y = payload[start:end], payload[end:]
    if rng.random() < 0.5:
        z = change(z, 1024)
    else:
        y = change(y, 2048)
    return varint(len(z)) + z + y


def _random_symbols(shape: tuple[int, ...], bound: int, rng: random.Random) -> NDArray[np.int64]:
    generator = np.random.default_rng(rng.getrandbits(31))
    edge = rng.choice([0, 1, 3, bound, bound, bound + 1, 2**31 - 1])
    kept = generator.random(shape) < rng.choice([0.01, 0.1, 1.0])
    if rng.random() < 0.5:
        return generator.choice([-edge, edge], shape) * kept
    return generator.integers(-edge, edge, shape, endpoint=True) * kept


def _section_z(codec: HyperpriorCodec, z: NDArray[np.int64], code: int) -> bytes:
    """Return the section of z [h, w, Z], past its bound too."""
    offset = codec.z_offset(code)
    if int(abs(z).max()) <= Z_MAX:
        return codec.neighbours.encode(z, offset)
    tables = [row[row > 0].tolist() for row in codec.neighbours.tables.frequencies]
    return reference.Neighbours(codec.tensors).encode(z, tables, offset.astype(np.int64))


def _any_latents(header: Header, width: int, height: int, rng: random.Random) -> bytes:
    """Return a payload for one tile, of latents at or past their bounds: valid where they are not past them."""
    codec = load_for(header, None, "cpu").codec
    size, code = (-(-height // STRIDE), -(-width // STRIDE)), header.quality_code
    if isinstance(codec, MaskedCodec):
        y = _random_symbols((*size, codec.config.M), R_MAX, rng).clip(-R_MAX, R_MAX)
        writer = Writer()
        codec.code(writer, y.astype(np.int16), size, code)  # r within its bound
        return writer.payload()
    if not isinstance(codec, HyperpriorCodec):
        raise UnknownModelError("weights of another family")
    z = _random_symbols((*z_size(size), codec.config.Z), Z_MAX, rng)
    # Past its bound z has no indexes; the decoder must refuse it before it needs any.
    rows = codec.indexes(z.clip(-Z_MAX, Z_MAX).astype(np.int16), code, size)
    r = _random_symbols(rows.shape, R_MAX, rng) * (rows >= codec.skip_below)
    writer = Writer()
    writer.code("y", r.astype(np.int32), rows, codec.tables_r, codec.skip_below)
    section = _section_z(codec, z, code)
    return varint(len(section)) + section + writer.sections[0]


def _any_tokens(header: Header, rng: random.Random) -> list[bytes]:
    """Return the payloads of all TILE chunks, of any tokens."""
    codec = load_for(header, None, "cpu").codec
    n = header.layers
    if not isinstance(codec, TokenizerCodec) or n > n_stages(header.quality_code):
        raise UnknownModelError("weights of another family, or other layers")
    generator = np.random.default_rng(rng.getrandbits(31))
    code = header.quality_code if n == n_stages(header.quality_code) else QUALITY_STEPS * (n - 1)
    depth, tiles = depth_of_last(code, codec.stages), []
    for left, top, right, bottom in header.tile_boxes():
        size = (-(-(bottom - top) // STRIDE), -(-(right - left) // STRIDE))
        grids = [generator.integers(0, stage.size, size) for stage in codec.stages[:n]]
        grids[-1] = codec.stages[n - 1].cut(grids[-1].astype(np.int32), depth)
        tiles.append(codec.write(np.stack(grids).astype(np.int32), code, header.ranges))
    return [varint(i) + part for i, part in enumerate(Container(header, tiles).payloads)]


def _any_payloads(header: Header, rng: random.Random) -> list[bytes]:
    if header.family == TOKENIZER:
        return _any_tokens(header, rng)
    boxes = header.tile_boxes()
    return [_any_latents(header, right - left, bottom - top, rng) for left, top, right, bottom in boxes]  # fmt: skip


def mutate(data: bytes, size: int, seed: int, change: structure.Change | None = None) -> bytes:
    """Return a changed file of at most `size` bytes; `change` is atheris.Mutate while fuzzing."""
    rng = random.Random(seed)
    change = change or structure.havoc(rng)
    kind = rng.random()
    parts = structure.take_apart(data)
    if parts is None or kind < 0.3:
        return structure.mutate_file(data, size, rng, change)
    tiles = [i for i, (name, _) in enumerate(parts.chunks) if name == b"TILE"]
    if kind < 0.65:
        if tiles:
            i = rng.choice(tiles)
            payload = parts.chunks[i][1]
            if _family(parts) == TOKENIZER:
                number, start = structure.take_varint(payload, 0)
                payload = number + change(payload[start:], 2048)
            elif _family(parts) in (HYPERPRIOR, FTIC):
                payload = _mutate_sections(payload, rng, change)
            else:
                payload = change(payload, 2048)
            parts.chunks[i] = (b"TILE", payload)
        return structure.put_together(parts)[:size]
    has_latents = _family(parts) in (HYPERPRIOR, TOKENIZER, MASKED, FTIC)
    if rng.random() < 0.5 or not has_latents:
        structure.mutate_fields(parts, rng, change)
    repaired = structure.put_together(parts)[:size]
    if not has_latents:
        return repaired
    try:  # as many tiles as the header says; what cannot be made is left to `check`
        header = container.peek_header(repaired)
        if header is None:
            return repaired
        container.check_limits(header, LIMITS)
        made = [(b"TILE", payload) for payload in _any_payloads(header, rng)]
    except NcodecError:
        return repaired
    parts.chunks = [chunk for chunk in parts.chunks if chunk[0] != b"TILE"] + made
    parts.rest = b""
    out = structure.put_together(parts)
    return out if len(out) <= size else repaired
