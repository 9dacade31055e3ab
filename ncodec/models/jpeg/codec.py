"""Family `jpeg`: a JPEG file, smaller, and restored byte for byte. No weights, no qualities, no torch.

    file --> ncodec/jpeg: skeleton, coefficients by our own model --> payload of the only TILE
    file <-- the same, backwards <-----------------------------------/
     |
     Pillow --> pixels and metadata, as of any JPEG file

The header has the JPEG's width and height, the grey flag where it has one component, and zeros for the
weights digest and the quality code (specs/format.md, section 9; specs/jpeg.md says what a payload is).
"""

from io import BytesIO

from ncodec import container, image, jpeg
from ncodec.container import NO_WEIGHTS, Container, Header, Limits
from ncodec.errors import (
    CorruptPayloadError,
    InputError,
    LimitError,
    UnsupportedVersionError,
    named,
)
from ncodec.families import FAMILIES
from ncodec.image import Picture
from ncodec.models.protocol import only_payload

FAMILY = next(family for family in FAMILIES if family.module == __name__)
# A progressive file has about 10 scans. Each takes the time of the whole image, however few its bytes are.
MAX_SCANS = 256
BYTES_A_PIXEL = 16  # of a JPEG file, at most: four components of coefficients that are all escaped


def _most_bytes(header: Header, limits: Limits) -> int:
    """Return how large a JPEG file of these sides may be: its scans, and as much again as metadata may be."""
    return BYTES_A_PIXEL * _whole(header.width) * _whole(header.height) + limits.metadata_bytes


def _most_blocks(header: Header) -> int:
    """Return how many blocks a picture may have: each component one for each 8x8 pixels of whole MCUs."""
    return 4 * (_whole(header.width) // 8) * (_whole(header.height) // 8)


def _whole(side: int) -> int:
    """Return a side in whole MCUs, which are of 32 pixels at most."""
    return -(-side // 32) * 32


def pack(data: bytes) -> bytes:
    """Return a JPEG file as the bytes of an `.nc` file; see `codec.encode_jpeg`."""
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InputError(f"JPEG: expected bytes, found {type(data).__name__}")
    data = bytes(data)
    found = jpeg.header(data)
    if not (found.width and found.height):
        raise InputError(f"JPEG: expected at least 1x1 pixels, found {found.width}x{found.height}")
    header = Header(
        found.width, found.height, FAMILY.wire_id, NO_WEIGHTS, 0, is_grey=found.n_components == 1
    )
    container.check_limits(header, Limits())
    if len(data) > (most := _most_bytes(header, Limits())):
        raise LimitError(f"JPEG: {len(data)} bytes for its sides, limited to {most}")
    payload = jpeg.compress(data, _most_blocks(header))
    return container.write(Container(header, [[[payload]]]))


def unpack(parsed: Container, limits: Limits) -> bytes:
    """Return the JPEG file in a container of this family.

    Raises:
        TruncatedError, CorruptPayloadError, LimitError: the payload is damaged, or of another image.
    """
    h = parsed.header
    if (
        h.weights_digest != NO_WEIGHTS
        or h.quality_code
        or h.tile
        or h.is_layered
        or h.has_alpha
        or h.bit_depth != 8
        or parsed.metadata
        or parsed.alpha
    ):
        raise CorruptPayloadError(
            "header: expected no weights digest, quality, tiles, layers or metadata, alpha or depth of family jpeg"
        )
    with named("section 'jpeg': "):
        data = jpeg.restore(only_payload(parsed.tiles[0]), _most_bytes(h, limits), _most_blocks(h))
    try:
        found = jpeg.header(data)
    except InputError as error:
        raise CorruptPayloadError(f"section 'jpeg': {error}") from error
    expected = (h.width, h.height, h.is_grey)
    if (found.width, found.height, found.n_components == 1) != expected:
        raise CorruptPayloadError(
            f"section 'jpeg': expected {h.width}x{h.height}{' grey' * h.is_grey}, "
            f"found {found.width}x{found.height} of {found.n_components} components"
        )
    return data


def picture_of(parsed: Container, limits: Limits) -> Picture:
    """Return the pixels and metadata of the JPEG file in a container, as Pillow decodes them.

    Raises:
        UnsupportedVersionError: they are of a kind that this version does not decode, such as CMYK.
        TruncatedError, CorruptPayloadError, LimitError: as `unpack`; too many scans.
    """
    data, h = unpack(parsed, limits), parsed.header
    try:
        scans = jpeg.count_scans(data)
    except InputError as error:
        raise CorruptPayloadError(f"section 'jpeg': {error}") from error
    if scans > MAX_SCANS:
        raise CorruptPayloadError(f"section 'jpeg': {scans} scans, limited to {MAX_SCANS}")
    try:
        picture = image.read(BytesIO(data), "section 'jpeg'")
    except InputError as error:
        kind = jpeg.header(data).kind
        of_kind = f" ({kind})" if kind else ""
        raise UnsupportedVersionError(
            f"{error}{of_kind}; the JPEG file itself can be restored"
        ) from error
    shape = (h.height, h.width) if h.is_grey else (h.height, h.width, 3)
    if picture.pixels.shape != shape:
        raise CorruptPayloadError(
            f"section 'jpeg': expected {list(shape)}, found {list(picture.pixels.shape)}"
        )
    return picture


def read(data: bytes, limits: Limits) -> bytes:
    """Return the JPEG file in an `.nc` file; see `codec.decode_jpeg`."""
    parsed = container.read(data, limits)
    if parsed.header.family != FAMILY.wire_id:
        raise InputError("not a JPEG file recompressed by ncodec: use decode")
    container.check_memory(parsed.header, FAMILY.stride, FAMILY.bytes_a_pixel, limits)
    return unpack(parsed, limits)
