"""Pillow opens and saves `.nc` files once this is imported: format "NCODEC", image/x-ncodec.

    Image.open -----------------> NcodecImageFile: size, mode and `info`, from what stands ahead of the tiles
        .draft, .thumbnail -----> a scale, 1/2 … 1/16
        .load ------------------> codec.decode_picture(scale=…)
        .verify ----------------> checksums alone
    image.save("x.nc") ---------> codec.encode

`.nc` is NetCDF's suffix, too: files are told by their first bytes. What Pillow has no mode for, more than 8 bits in
colour or with alpha, opens as 8 bits; `info["bit_depth"]` says what the file has. JPEG files that were made smaller
have their metadata in `info` once they are loaded.

>>> import ncodec.pillow
>>> from io import BytesIO
>>> from PIL import Image
>>> Image.new("RGB", (300, 200)).save(file := BytesIO(), "NCODEC", quality=3)
>>> image = Image.open(file)
>>> image.thumbnail((128, 128))
>>> image.format, image.size
('NCODEC', (128, 85))
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import IO, Any
from warnings import warn

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ncodec import codec, container
from ncodec.errors import NcodecError, TruncatedError
from ncodec.families import family_by_id
from ncodec.image import Picture, from_pillow, to_pillow
from ncodec.metadata.pictures import of_image, options_for

FORMAT = "NCODEC"
HEAD = 1 << 16  # bytes that are read at first: most files' tiles begin before
OPTIONS = [*signature(codec.encode).parameters][1:-1]  # of `encode`, which `save` takes, too
# Of metadata the colours are saved unasked, as of PNG and AVIF; all else where `save` is given it.
GIVEN = ("icc_profile", "exif", "xmp", "dpi")


@contextmanager
def _raised_as(kind: type[OSError]) -> Iterator[None]:
    """Turn our errors into those that Pillow's users expect."""
    try:
        yield
    except NcodecError as error:
        raise kind(str(error)) from error


def _shown(picture: Picture) -> Image.Image:
    """Return a picture in a mode that Pillow has, with all metadata that has a name in `info`."""
    image = to_pillow(picture)
    # Those of a JPEG file have "dpi", too, and a profile of what CICP says.
    image.info.update(options_for(picture, "JPEG"))
    return image


class NcodecImageFile(ImageFile.ImageFile):
    """An `.nc` file, decoded when its pixels are asked for."""

    format = FORMAT
    format_description = "ncodec image"
    _is_waiting = False  # to be decoded, at 1/_factor
    _factor = 1
    _is_file = False  # that holds a JPEG file

    def _open(self) -> None:
        """Read size, mode and metadata.

        Raises:
            SyntaxError: not an `.nc` file.
            UnidentifiedImageError: one that is damaged ahead of its tiles, or made by a newer ncodec.
        """
        assert self.fp is not None
        head = self.fp.read(HEAD)
        if not _accept(head):
            raise SyntaxError("not an .nc file")
        with _raised_as(UnidentifiedImageError):
            try:
                parsed = container.read(head, layers=0)
            except TruncatedError:
                parsed = container.read(head + self.fp.read(), layers=0)
            h = parsed.header
            self._is_file = family_by_id(h.family).holds == "file"
        channels = (1 if h.is_grey else 3) + bool(h.has_alpha or parsed.alpha)
        dot = np.zeros(
            (1, 1, channels)[: 2 + (channels > 1)], np.uint8 if h.bit_depth <= 8 else np.uint16
        )
        like = _shown(Picture(dot, parsed.metadata, h.bit_depth).with_planes(dot))
        self._size, self._mode, self.info = (h.width, h.height), like.mode, like.info
        self._is_waiting = True

    def draft(
        self, mode: str | None, size: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int, float, float]] | None:
        """Choose the smallest scale at which the image has at least `size`; `mode` stays what it is.

        Returns:
            mode, and where the whole picture lies in what `load` will give (pixels); None: nothing to choose.
        """
        if not self._is_waiting or self._factor > 1 or not size:
            return None
        width, height = self.size
        most = min(width // max(size[0], 1), height // max(size[1], 1))
        self._factor = factor = max(scale for scale in codec.SCALES if scale <= max(most, 1))
        self._size = -(-width // factor), -(-height // factor)
        return self.mode, (0, 0, width / factor, height / factor)

    def load(self) -> Any:
        """Decode. Where `ImageFile.LOAD_TRUNCATED_IMAGES` is set, what is left of a damaged file.

        Raises:
            OSError: damaged, too large, or of a model that is not there.
        """
        if self._is_waiting:
            conceal, scale = ImageFile.LOAD_TRUNCATED_IMAGES, 1 / self._factor
            with _raised_as(OSError):
                picture = codec.decode_picture(self._whole(), conceal=conceal, scale=scale)
            image = _shown(picture)
            self.im, self._mode, self._size = image.im, image.mode, image.size
            self.info |= image.info
            self._is_waiting, self.readonly = False, 0
            if self._exclusive_fp and self.fp:
                self.fp.close()
            self.fp = None
        return super().load()

    def getexif(self) -> Image.Exif:
        """Return the EXIF data; a JPEG file that was made smaller is loaded for it."""
        if self._is_file:
            self.load()
        return super().getexif()

    def verify(self) -> None:
        """Raise OSError unless every checksum in the file is right; then it must be opened again, as of any format."""
        with _raised_as(OSError):
            container.read(self._whole())
        super().verify()

    def _whole(self) -> bytes:
        """Return the bytes of the file."""
        if self.fp is None:
            raise ValueError("Operation on closed image")
        self.fp.seek(0)
        return self.fp.read()


def _accept(prefix: bytes) -> bool:
    """Return whether a file is an `.nc` file, of whichever version."""
    signature = container.SIGNATURE
    return prefix[:3] == signature[:3] and prefix[4:8] == signature[4:]


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Write an image; options are those of `ncodec.encode`, and icc_profile, exif, xmp and dpi.

    Raises:
        OSError: an image of a mode that `.nc` files do not carry.
        InputError: an option that is wrong; a ValueError, as other formats raise.
    """
    given = image.encoderinfo
    colours = of_image(image)[0].get("icc")
    info = {"transparency": image.info.get("transparency"), "icc_profile": colours}
    info |= {name: given[name] for name in GIVEN if name in given}
    if isinstance(exif := info.get("exif"), Image.Exif):
        info["exif"] = exif.tobytes()
    bare = image.copy()  # one frame, and of its `info` what is saved
    bare.info = {name: value for name, value in info.items() if value is not None}
    with _raised_as(OSError):
        picture = from_pillow(bare)
    for notice in picture.notices:
        warn(notice, stacklevel=4)  # of who called `save`
    file.write(codec.encode(picture, **{name: given[name] for name in OPTIONS if name in given}))


def _save_all(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    raise ValueError("an .nc file holds one image: leave save_all and append_images out")


Image.register_open(FORMAT, NcodecImageFile, _accept)
Image.register_save(FORMAT, _save)
Image.register_save_all(FORMAT, _save_all)
Image.register_extension(FORMAT, ".nc")
Image.register_mime(FORMAT, "image/x-ncodec")


def main() -> None:
    """`ncodec-thumbnailer IN OUT SIZE`: write a PNG of SIZE by SIZE pixels at most, for desktops (share/thumbnailers)."""
    source, target, size = sys.argv[1:]
    Image.MAX_IMAGE_PIXELS = None  # our own limits decide
    with Image.open(source, formats=[FORMAT]) as image:
        image.thumbnail((int(size), int(size)))
        ImageOps.exif_transpose(image).save(target, "PNG")
