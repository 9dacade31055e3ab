"""Alpha: pictures laid on a colour, pictures that have none, and colour where nothing is seen of it."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncodec.errors import InputError
from ncodec.image.picture import Picture


def flattened(picture: Picture, background: tuple[int, int, int]) -> Picture:
    """Return a picture without alpha, laid on a colour (RGB of 8 bits); colour where grey lies on what is not grey."""
    if picture.alpha is None:
        return picture
    most = (1 << picture.bit_depth) - 1
    wide: Any = np.uint32 if picture.bit_depth == 8 else np.uint64
    pixels, alpha = picture.pixels, picture.alpha[:, :, None].astype(wide)
    colour = pixels[:, :, None] if pixels.ndim == 2 else pixels
    if colour.shape[2] == 1 and len(set(background)) > 1:
        colour = colour.repeat(3, 2)
    # In 255ths, as is what follows.
    ground = (np.array(background[: colour.shape[2]]) * most).astype(wide)
    mixed = (colour * alpha * 255 + ground * (most - alpha) + most * 255 // 2) // (most * 255)
    flat = mixed.astype(pixels.dtype)
    return replace(picture, pixels=flat[:, :, 0] if flat.shape[2] == 1 else flat, alpha=None)


def plain(picture: Picture, what: str) -> Picture:
    """Return a picture of 8 bits without alpha as it is.

    Raises:
        InputError: it has more, which `what` cannot work with.
    """
    if picture.alpha is not None:
        raise InputError(f"has transparency, which {what} cannot work with: flatten it first")
    if picture.bit_depth != 8:
        raise InputError(
            f"has {picture.bit_depth} bits a channel, {what} works with 8: convert it first"
        )
    return picture


def filled(picture: Picture) -> Picture:
    """Return a picture with colour that costs little where alpha is 0: what its surroundings fade into.

    From coarse to fine: means of squares of what is seen, at sides of 2, 4, …, fill what is not.
    """
    assert picture.alpha is not None
    seen = picture.alpha > 0
    if seen.all():
        return picture
    colour = picture.pixels.astype(np.float32).reshape(*seen.shape, -1)
    means = _filled(colour, seen.astype(np.float32)[:, :, None])
    mixed = np.where(seen[:, :, None], colour, means)
    return replace(
        picture, pixels=np.rint(mixed).astype(picture.pixels.dtype).reshape(picture.pixels.shape)
    )


def _filled(colour: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return colours [h, w, c], weighed by `weights` [h, w, 1] in 0 … 1; where these are low, those of a coarser plane."""
    height, width = weights.shape[:2]
    if max(height, width) == 1:
        return colour * (weights > 0)
    padding = [(0, height % 2), (0, width % 2), (0, 0)]
    weighed, sums = (
        np.pad(plane, padding).reshape(-(-height // 2), 2, -(-width // 2), 2, -1).sum((1, 3))
        for plane in (colour * weights, weights)
    )
    coarse = _filled(weighed / np.maximum(sums, 1e-6), np.minimum(sums, 1))
    fine = coarse.repeat(2, 0).repeat(2, 1)[:height, :width]
    return colour * weights + fine * (1 - weights)
