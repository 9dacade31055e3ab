"""The `.nc` container, version 1: bytes <-> header and chunks (specs/format.md).

    | signature, 8 | header fields, varints | CRC-32C | ancillary chunks ... | TILE chunks ... |
    chunk: | type, 4 letters | length, varint | payload | CRC-32C of type and payload |

    header.py   the fields, and where tiles lie
    limits.py   what a decoder accepts
    chunks.py   whole files, and what is left of damaged ones

Everything is validated, limits included, before anything is allocated or decoded. Little-endian. Knows no
family. Standard library only, but for the CRC, which is in the C++ extension.
"""

from ncodec.container.chunks import METADATA, Container, Parts, alpha_header, cut_to, read, write
from ncodec.container.header import (
    MAX_HEADER,
    MAX_LAYERS,
    MAX_RANGES,
    MIN_TILE,
    NO_WEIGHTS,
    SIGNATURE,
    Box,
    Header,
    peek_header,
)
from ncodec.container.limits import Limits, check_limits, check_memory, memory_of_image

__all__ = [
    "MAX_HEADER",
    "MAX_LAYERS",
    "MAX_RANGES",
    "METADATA",
    "MIN_TILE",
    "NO_WEIGHTS",
    "SIGNATURE",
    "Box",
    "Container",
    "Header",
    "Limits",
    "Parts",
    "alpha_header",
    "check_limits",
    "check_memory",
    "cut_to",
    "memory_of_image",
    "peek_header",
    "read",
    "write",
]
