"""Whole files: a header, metadata, alpha, TILE chunks (specs/format.md, section 3), and what is left of damaged ones.

TILE chunks: one a tile; in layered files, for each layer, for each tile, for each range
payload of a TILE in layered files: | its number in that order, varint | what the family codes |
payload of ALPH: | family, varint | weights digest | quality code | length of each tile's payload but the last | payloads |
"""

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ncodec.bytestream import ByteReader, Bytes, varint
from ncodec.container.header import DIGEST_BYTES, Box, Header, header_bytes, read_header
from ncodec.container.limits import Limits, check_limits
from ncodec.entropy import crc32c
from ncodec.errors import (
    ChecksumError,
    CorruptPayloadError,
    FormatError,
    InputError,
    LimitError,
    TruncatedError,
    UnsupportedVersionError,
)
from ncodec.metadata.packing import packed, unpacked
from ncodec.quality import MAX_QUALITY_CODE

METADATA = {"icc": b"iCCP", "exif": b"eXIF", "xmp": b"xMPm", "cicp": b"cICP", "phys": b"pHYs"}
ALPHA = b"ALPH"
NAMES = {kind: name for name, kind in METADATA.items()}
MARKS = re.compile(b"TILE|ALPH|" + b"|".join(NAMES))
MOST_VAIN = 32  # times the file's bytes: of what only looks like chunks, looked at

Parts = list[list[bytes | None]]
"""What a tile is coded in: a payload for each layer and range; [[payload]] in unlayered files. None: lost."""


@dataclass(frozen=True)
class Container:
    """A parsed file, or the alpha within one: header, the tiles' payloads, metadata by name (METADATA's)."""

    header: Header
    tiles: list[Parts]  # of as many layers as were read
    metadata: dict[str, bytes] = field(default_factory=dict)
    skipped_bytes: int = 0  # bytes that belong to no sound chunk, where that was forgiven
    alpha: "Container | None" = (
        None  # one grey plane, in tiles of the same grid that do not overlap
    )
    region: Box | None = None  # that was asked for: tiles beyond it are None
    packed_bytes: dict[str, int] = field(
        default_factory=dict, compare=False
    )  # of metadata, in the file

    @property
    def payloads(self) -> list[bytes | None]:
        """Those of all tiles, in the order of the file."""
        layers = zip(*self.tiles, strict=True)
        return [payload for layer in layers for ranges in layer for payload in ranges]

    @property
    def lost(self) -> int:
        """How many payloads are lost, of those that were asked for."""
        chosen = [self.tiles[number] for number in self.chosen]
        return sum(payload is None for parts in chosen for row in parts for payload in row)

    @property
    def chosen(self) -> list[int]:
        """The numbers of the tiles that were asked for."""
        if self.region is None:
            return list(range(len(self.tiles)))
        return self.header.tiles_in(self.region)


def _chunk(kind: bytes, payload: bytes) -> bytes:
    crc = crc32c(payload, crc32c(kind))
    return kind + varint(len(payload)) + payload + crc.to_bytes(4, "little")


def write(container: Container, limits: Limits = Limits()) -> bytes:
    """Return the file's bytes.

    Raises:
        LimitError: the image or its metadata is larger than a decoder with `limits` would accept.
    """
    header = container.header
    check_limits(header, limits)
    assert len(container.tiles) == header.n_tiles
    assert {(len(parts), *map(len, parts)) for parts in container.tiles} == {
        (header.layers, *[header.ranges] * header.layers)
    }
    assert set(container.metadata) <= set(METADATA)
    out = [header_bytes(header)]
    for name, kind in METADATA.items():
        if value := container.metadata.get(name):
            if len(value) >= limits.metadata_bytes:  # a byte is for its form
                raise LimitError(
                    f"{name}: {len(value)} bytes, limited to {limits.metadata_bytes - 1}"
                )
            out.append(_chunk(kind, packed(name, value)))
    if container.alpha is not None:
        out.append(_chunk(ALPHA, _alpha_bytes(container.alpha)))
    for number, coded in enumerate(container.payloads):
        assert coded is not None
        out.append(_chunk(b"TILE", (varint(number) if header.is_layered else b"") + coded))
    return b"".join(out)


def alpha_header(header: Header, family: int, digest: bytes, quality_code: int) -> Header:
    """Return the header that alpha would have as a file of its own: grey, with the grid of its picture."""
    return Header(
        header.width, header.height, family, digest, quality_code, is_grey=True, tile=header.tile,
        bit_depth=header.bit_depth,
    )  # fmt: skip


def _alpha_bytes(alpha: Container) -> bytes:
    """Return the payload of ALPH."""
    h, payloads = alpha.header, [payload or b"" for payload in alpha.payloads]
    head = varint(h.family) + h.weights_digest + bytes([h.quality_code])
    return b"".join([head, *(varint(len(payload)) for payload in payloads[:-1]), *payloads])


def _read_alpha(header: Header, payload: bytes, place: str) -> Container:
    """Return the alpha that a chunk holds.

    Raises:
        TruncatedError, CorruptPayloadError: the chunk ends early, or says what no header may.
    """
    source = ByteReader(payload)
    family = source.varint(f"{place} family")
    digest = source.take(DIGEST_BYTES, f"{place} weights digest")
    quality_code = source.take(1, f"{place} quality")[0]
    if header.has_alpha:
        raise CorruptPayloadError(f"{place}: in a file whose tiles hold alpha")
    if quality_code > MAX_QUALITY_CODE:
        raise CorruptPayloadError(
            f"{place}: quality code {quality_code} exceeds {MAX_QUALITY_CODE}"
        )
    lengths = [source.varint(f"{place} tile {i} length") for i in range(header.n_tiles - 1)]
    payloads = [source.take(length, f"{place} tile {i}") for i, length in enumerate(lengths)]
    payloads.append(source.take(len(payload) - source.offset, place))
    tiles: list[Parts] = [[[payload]] for payload in payloads]
    return Container(alpha_header(header, family, digest, quality_code), tiles)


def _read_chunk(
    source: ByteReader, number: int, progress: str, limits: Limits, is_wanted: bool = True
) -> tuple[bytes, bytes, str]:
    """Return the next chunk's type and payload, and the place that errors about it name.

    A TILE that is not wanted is passed over, its checksum not looked at, and has no payload.
    """
    kind = source.take(4, f"chunk {number} ({progress})")
    if not kind.isalpha():
        raise CorruptPayloadError(f"chunk {number}: type {kind!r} is not 4 letters")
    place = f"chunk {number} {kind.decode()!r}"
    length = source.varint(f"{place} length")
    if kind in NAMES and length > limits.metadata_bytes:
        raise LimitError(f"{place}: {length} bytes, limited to {limits.metadata_bytes}")
    if kind == b"TILE" and not is_wanted:
        source.skip(length + 4, place)
        return kind, b"", place
    payload = source.take(length, place)
    expected = crc32c(payload, crc32c(kind))
    found = int.from_bytes(source.take(4, f"{place} checksum"), "little")
    if found != expected:
        raise ChecksumError(f"{place}: CRC-32C is {expected:#010x}, file says {found:#010x}")
    return kind, payload, place


def read(
    data: Bytes,
    limits: Limits = Limits(),
    layers: int | None = None,
    conceal: bool = False,
    region: Box | None = None,
) -> Container:
    """Return the header, tile payloads and metadata of a file, everything checked.

    Args:
        data: the whole file.
        limits: what to accept.
        layers: how many to read, at most; what comes after them in the file, or does not, is not looked at. 0: what
            stands ahead of the tiles.
        conceal: put None in place of TILE chunks that are damaged or missing. Metadata that is damaged is left
            out. An error remains if the header is damaged, or nothing of the tiles is left.
        region: (left, top, right, bottom), cut to the picture: what is in other tiles is neither read nor checked.

    Raises:
        BadMagicError, UnsupportedVersionError, TruncatedError, ChecksumError, CorruptPayloadError,
        LimitError: each names the place, what was expected and what was found.
        InputError: `data` is not bytes, or nothing of the picture is in `region`.
    """
    if not isinstance(data, Bytes):
        raise InputError(f"data: expected bytes, found {type(data).__name__}")
    if not isinstance(limits, Limits):
        raise InputError(f"limits: expected ncodec.Limits, found {type(limits).__name__}")
    source = ByteReader(data)
    header = read_header(source)
    check_limits(header, limits)
    region = region and cut_to(header, region)
    n_layers = header.layers if layers is None else min(layers, header.layers)
    payloads: list[bytes | None] = [None] * (header.n_payloads // header.layers * n_layers)
    reading = _Reading(source, header, payloads, limits, None if conceal else region)
    if conceal:
        reading.read_what_is_left()
    else:
        reading.read_all()
    rest = len(source.data) - source.offset
    if rest and n_layers == header.layers:
        if not conceal:
            raise CorruptPayloadError(f"end: {rest} bytes after the last tile")
        reading.skipped_bytes += rest
    rows = [payloads[i : i + header.ranges] for i in range(0, len(payloads), header.ranges)]
    tiles = [rows[tile :: header.n_tiles] for tile in range(header.n_tiles)]
    alpha = reading.alpha and replace(reading.alpha, region=region)
    return Container(
        header, tiles, reading.metadata, reading.skipped_bytes, alpha, region, reading.packed_bytes
    )


def cut_to(header: Header, region: Box) -> Box:
    """Return the part of a region that is in the picture.

    Raises:
        InputError: there is none.
    """
    left, top, right, bottom = region
    cut = (max(left, 0), max(top, 0), min(right, header.width), min(bottom, header.height))
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise InputError(
            f"region: expected a part of {header.width}x{header.height} pixels, found columns {left} to {right}, "
            f"rows {top} to {bottom}"
        )
    return cut


class _Reading:
    """The chunks of one file, as they are read."""

    def __init__(
        self,
        source: ByteReader,
        header: Header,
        payloads: list[bytes | None],
        limits: Limits,
        region: Box | None,
    ) -> None:
        self.source, self.header, self.limits = source, header, limits
        self.wanted = None if region is None else set(header.tiles_in(region))
        self.alpha: Container | None = None
        self.payloads = payloads  # in the order of the file, to be filled
        self.metadata: dict[str, bytes] = {}
        self.packed_bytes: dict[str, int] = {}
        self.n_tiles = self.n_chunks = self.skipped_bytes = 0
        self.n_vain = self.vain = 0  # what looked like chunks, and their bytes

    def next_chunk(self) -> tuple[bytes, int | None, bytes, str]:
        """Return the next chunk's type, number if it is a TILE with one, payload, and the place that errors name."""
        what = "ranges of layers" if self.header.is_layered else "tiles"
        progress = f"have {self.n_tiles} of {len(self.payloads)} {what}"
        is_wanted = self.is_wanted(self.n_tiles)
        kind, payload, place = _read_chunk(
            self.source, self.n_chunks, progress, self.limits, is_wanted
        )
        if kind != b"TILE" or not self.header.is_layered or not is_wanted:
            return kind, None, payload, place
        inner = ByteReader(payload)
        number = inner.varint(f"{place} number")
        return kind, number, payload[inner.offset :], place

    def is_at_tile(self) -> bool:
        """Return whether the next chunk is a TILE."""
        start = self.source.offset
        return bytes(self.source.data[start : start + 4]) == b"TILE"

    def is_wanted(self, number: int) -> bool:
        """Return whether the payload of so many TILE chunks before is of a tile that is asked for."""
        tile = number // self.header.ranges % self.header.n_tiles
        return self.wanted is None or tile in self.wanted

    def count(self) -> None:
        """Count a chunk that was read; raise LimitError where they are too many."""
        self.n_chunks += 1
        if self.n_chunks > self.limits.chunks:
            raise LimitError(f"chunks: more than {self.limits.chunks}")

    def read_all(self) -> None:
        """Fill `payloads` and `metadata`, every chunk in its place.

        Raises:
            FormatError, LimitError: it is not so.
        """
        while self.n_tiles < len(self.payloads) or not (self.payloads or self.is_at_tile()):
            try:
                kind, number, payload, place = self.next_chunk()
            except (TruncatedError, ChecksumError) as error:
                if not (self.header.is_layered and self.n_tiles):
                    raise
                whole = self.n_tiles // (self.header.n_payloads // self.header.layers)  # layers
                stages = f" or --stages {whole}" if whole else ""
                hint = f"decode --conceal (conceal=True){stages} shows what is there"
                raise type(error)(f"{error}; {hint}") from error
            self.count()
            if kind == b"TILE":
                if number not in (None, self.n_tiles):
                    raise CorruptPayloadError(
                        f"{place}: expected number {self.n_tiles}, found {number}"
                    )
                if self.is_wanted(self.n_tiles):
                    self.payloads[self.n_tiles] = payload
                self.n_tiles += 1
            elif self.n_tiles:
                raise CorruptPayloadError(f"{place}: stands between or after TILE chunks")
            elif kind in NAMES:
                if NAMES[kind] in self.metadata:
                    raise CorruptPayloadError(f"{place}: appears twice")
                self.keep_metadata(NAMES[kind], payload, place)
            elif kind == ALPHA:
                if self.alpha is not None:
                    raise CorruptPayloadError(f"{place}: appears twice")
                self.alpha = _read_alpha(self.header, payload, place)
            elif kind[:1].isupper():
                raise UnsupportedVersionError(f"{place}: unknown critical chunk: update ncodec")

    def read_what_is_left(self) -> None:
        """Fill `payloads` and `metadata` as far as there are sound chunks; count the bytes between these.

        In layered files TILE chunks are known by their numbers, and after damage the next sound chunk is searched
        for. Others have only their order: a tile is passed over where its length seems to be right, and after worse
        damage all the rest is lost (specs/format.md, section 10).

        Raises:
            FormatError: nothing of the tiles is left; or an unknown critical chunk.
            LimitError: too many chunks.
        """
        trouble: FormatError | LimitError | None = None
        end, n_passed = len(self.source.data), 0  # tiles of an unlayered file, lost or not
        while self.n_tiles < len(self.payloads) and self.source.offset < end:
            start = self.source.offset
            try:
                kind, number, payload, place = self.next_chunk()
            except (FormatError, LimitError) as error:
                trouble = trouble or error
                n_passed += self.pass_damage(start, error)
                self.skipped_bytes += self.source.offset - start
                continue
            self.count()
            if kind == b"TILE":
                is_kept = self.keep_tile(n_passed if number is None else number, payload)
                n_passed += 1
            else:
                is_kept = self.keep_other(kind, payload, place)
            if not is_kept:
                self.skipped_bytes += self.source.offset - start
        if not self.n_tiles:
            raise trouble or TruncatedError(
                f"chunk {self.n_chunks}: need a TILE at offset {self.source.offset}, file has none"
            )

    def keep_tile(self, number: int, payload: bytes) -> bool:
        """Put a payload in its place; return whether there is one for it."""
        if number >= len(self.payloads):
            return number < self.header.n_payloads  # of a layer that is not asked for
        if self.payloads[number] is not None:
            return False
        self.payloads[number] = payload
        self.n_tiles += 1
        return True

    def keep_other(self, kind: bytes, payload: bytes, place: str) -> bool:
        """Keep what a chunk that is no TILE says, if it says something; return whether it has its place here."""
        if kind == ALPHA:
            if self.n_tiles or self.alpha is not None:
                return False
            with suppress(FormatError):
                self.alpha = _read_alpha(self.header, payload, place)
            return self.alpha is not None
        if kind not in NAMES:
            if kind[:1].isupper():
                raise UnsupportedVersionError(f"{place}: unknown critical chunk: update ncodec")
            return not self.n_tiles
        if self.n_tiles or NAMES[kind] in self.metadata:
            return False
        try:
            self.keep_metadata(NAMES[kind], payload, place)
        except (CorruptPayloadError, LimitError):
            return False
        return True

    def keep_metadata(self, name: str, payload: bytes, place: str) -> None:
        """Keep what a chunk holds, unpacked.

        Raises:
            CorruptPayloadError, LimitError: the payload is not sound, or unpacks to too much.
        """
        self.metadata[name] = unpacked(name, payload, place, self.limits.metadata_bytes - 1)
        self.packed_bytes[name] = len(payload)

    def pass_damage(self, start: int, error: Exception) -> bool:
        """Go where a sound chunk may be, past one at `start` that is not; return whether that was surely a tile.

        What only looks like chunks takes linear time: so many tries, and so many bytes of them all.
        """
        data, end = self.source.data, self.source.offset
        self.n_vain, self.vain = self.n_vain + 1, self.vain + end - start
        is_vain = self.n_vain > self.limits.chunks or self.vain > MOST_VAIN * len(data)
        self.source.offset = len(data)
        if self.header.is_layered:
            if not is_vain and (mark := MARKS.search(data, start + 1)):
                self.source.offset = mark.start()
            return False
        is_whole = isinstance(error, ChecksumError) and not MARKS.search(data, start + 4, end)
        if is_whole and MARKS.match(data, start) and (end == len(data) or MARKS.match(data, end)):
            self.source.offset = end
            return data[start : start + 4] == b"TILE"
        return False
