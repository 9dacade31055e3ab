"""ncodec: a neural image codec with shipped weights and exact decoding.

>>> import ncodec, numpy as np
>>> image = np.full((40, 60, 3), 128, np.uint8)
>>> data = ncodec.encode(image, quality=4)
>>> ncodec.info(data).width, ncodec.decode(data, kind="numpy").shape
(60, (40, 60, 3))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncodec.codec import decode, decode_batch, decode_jpeg, encode, encode_batch, encode_jpeg
    from ncodec.container import Limits
    from ncodec.inspection import info, list_models
    from ncodec.shards import Tokens, read_shards
    from ncodec.threads import get_num_threads, set_num_threads
    from ncodec.tokens import detokenize, file_of, tokenize, tokens_of

__version__ = "0.1.0"
__all__ = [
    "Limits",
    "Tokens",
    "decode",
    "decode_batch",
    "decode_jpeg",
    "detokenize",
    "encode",
    "encode_batch",
    "encode_jpeg",
    "file_of",
    "get_num_threads",
    "info",
    "list_models",
    "read_shards",
    "set_num_threads",
    "tokenize",
    "tokens_of",
]

_HOMES = {
    "Limits": "ncodec.container",
    "Tokens": "ncodec.shards",
    "decode": "ncodec.codec",
    "decode_batch": "ncodec.codec",
    "decode_jpeg": "ncodec.codec",
    "detokenize": "ncodec.tokens",
    "encode": "ncodec.codec",
    "encode_batch": "ncodec.codec",
    "encode_jpeg": "ncodec.codec",
    "file_of": "ncodec.tokens",
    "get_num_threads": "ncodec.threads",
    "info": "ncodec.inspection",
    "list_models": "ncodec.inspection",
    "read_shards": "ncodec.shards",
    "set_num_threads": "ncodec.threads",
    "tokenize": "ncodec.tokens",
    "tokens_of": "ncodec.tokens",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import public names on first use: `import ncodec` imports nothing else."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ncodec' has no attribute {name!r}")
