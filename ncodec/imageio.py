"""imageio reads and writes `.nc` files once this is imported, with 16 bits and alpha. Needs the extra `imageio`.

    imageio.v3.imread("x.nc", scale=1/4), imiter ----> NcodecPlugin.read --> ncodec.decode
    imageio.v3.imwrite("x.nc", array, quality=5) ----> NcodecPlugin.write -> ncodec.encode
    imageio.v3.improps, immeta ----------------------> what the file says of itself

`.nc` is NetCDF's suffix, too: files are told by their first bytes, and others are left to other plugins.
"""

from collections.abc import Iterator
from dataclasses import asdict
from io import BytesIO
from types import EllipsisType
from typing import Any

import numpy as np
from imageio.config import (
    FileExtension,
    PluginConfig,
    extension_list,
    known_extensions,
    known_plugins,
)
from imageio.core.request import URI_BYTES, InitializationError, IOMode, Request
from imageio.core.v3_plugin_api import ImageProperties, PluginV3
from numpy.typing import NDArray

from ncodec import codec, container, inspection
from ncodec.errors import InputError
from ncodec.pillow import NcodecImageFile

NAME, SUFFIX = "ncodec", ".nc"
Index = int | EllipsisType | None


def _check_index(index: Index) -> None:
    if index not in (0, None, ...):
        raise InputError(f"index: expected 0, the only image of an .nc file, found {index}")


class NcodecPlugin(PluginV3):
    """An `.nc` file that is read or written: one image."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if request.mode.io_mode is IOMode.write:
            if request.extension != SUFFIX:
                raise InitializationError(f"expected extension {SUFFIX}, found {request.extension}")
        elif not request.firstbytes.startswith(container.SIGNATURE):
            raise InitializationError(f"not an {SUFFIX} file")
        else:
            self._data: bytes = request.get_file().read()

    def read(self, *, index: Index = None, **options: Any) -> NDArray[Any]:
        """Return the pixels, uint8 or uint16, [H, W] or [H, W, C], C = 2, 3 or 4 with alpha last; turned as stored.

        Args:
            index: 0 or None; `...` puts an axis of one image ahead.
            options: of `ncodec.decode`, such as `region` and `scale`.

        Raises:
            NcodecError: as `ncodec.decode`, mostly a ValueError; another index.
        """
        _check_index(index)
        pixels = codec.decode(self._data, "numpy", **options)
        return pixels[None] if index is ... else pixels

    def iter(self, **options: Any) -> Iterator[NDArray[Any]]:
        """Yield the only image."""
        yield self.read(**options)

    def write(self, ndimage: Any, *, is_batch: bool = False, **options: Any) -> bytes | None:
        """Write an image, shaped as `read` gives it; return its bytes where the target is "<bytes>".

        Args:
            ndimage: the image; or a list of it, or, where `is_batch`, [1, H, W, C].
            is_batch: whether the first axis is of images.
            options: of `ncodec.encode`, such as `quality` and `lossless`.

        Raises:
            NcodecError: as `ncodec.encode`, mostly a ValueError; more than one image.
        """
        file = self.request.get_file()
        images = ndimage if is_batch or isinstance(ndimage, list) else [ndimage]
        if len(images) != 1 or file.tell():
            raise InputError(f"an {SUFFIX} file holds one image: write others elsewhere")
        data = codec.encode(np.asarray(images[0]), **options)
        if self.request._uri_type == URI_BYTES:
            return data
        file.write(data)
        return None

    def properties(self, index: Index = None) -> ImageProperties:
        """Return the shape and type that `read` gives; nothing is decoded."""
        _check_index(index)
        parsed = container.read(self._data, layers=0)
        h = parsed.header
        channels = (1 if h.is_grey else 3) + bool(h.has_alpha or parsed.alpha)
        shape = (h.height, h.width, *[channels] * (channels > 1))
        dtype = np.dtype(np.uint8 if h.bit_depth <= 8 else np.uint16)
        if index is ...:
            return ImageProperties((1, *shape), dtype, n_images=1, is_batch=True)
        return ImageProperties(shape, dtype)

    def metadata(self, index: Index = None, exclude_applied: bool = True) -> dict[str, Any]:
        """Return what `ncodec.info` says, and icc_profile, exif, xmp and dpi; `read` applies none of them."""
        _check_index(index)
        facts = asdict(inspection.info(self._data))
        del facts["metadata"]  # how many bytes
        with NcodecImageFile(BytesIO(self._data)) as image:
            image.getexif()  # of a JPEG file that was made smaller, loads the rest as well
            return facts | {str(name): value for name, value in image.info.items()}


# First of all: ours is told at once, and Pillow's plugin, which may know it as well, has no 16-bit colour.
others = dict(known_plugins)
known_plugins.clear()
known_plugins[NAME] = PluginConfig(NAME, "NcodecPlugin", "ncodec.imageio", install_name="ncodec")
known_plugins.update(others)
extension_list.append(FileExtension(extension=SUFFIX, priority=[NAME], name="ncodec image"))
known_extensions.setdefault(SUFFIX, []).insert(0, extension_list[-1])
