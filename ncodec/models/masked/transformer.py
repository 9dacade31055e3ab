"""The masked transformer of a tile, step by step: what it is asked of places, and told of what was decoded there.

Kept     M2T: keys and values of what is decoded are kept, for each shape of window; every latent passes once
Passes   MT: all places of a window pass in each step
"""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ncodec.exact.network import LARGEST, Array, Network, Tensors
from ncodec.models.masked import graphs
from ncodec.models.masked.layers import MaskedConfig
from ncodec.models.masked.schedule import Batch, batches, groups

Int16 = NDArray[np.int16]


class Run(Protocol):
    """Runs a network with the vectors of a tile's quality."""

    def __call__(self, network: Network, *wanted: str, **feeds: Array) -> list[Any]: ...


class Tile(Protocol):
    """The transformer in one tile."""

    def ask(self, batch: Batch, step: int, near: Int16, content: Int16) -> Int16:
        """Return f [W, n, D] of places that are decoded in `step`.

        Args:
            batch: the places.
            step: which.
            near: of the tile [h, w, D], in this step.
            content: of the tile [h, w, D], so far.
        """
        ...

    def tell(self, batch: Batch, near: Int16, y_hat: Int16) -> Int16:
        """Return the content [W, n, D] of decoded latents [W, n, M]."""
        ...


class Kept:
    """M2T."""

    def __init__(self, tensors: Tensors, c: MaskedConfig) -> None:
        self.tensors = tensors
        self.asking = graphs.asking(tensors, c)
        self.null = graphs.telling(tensors, c, is_first=True)
        self.telling = graphs.telling(tensors, c, is_first=False)
        self.names = [f"{part}.{k}" for k in range(c.layers) for part in ("keys", "values")]

    def start(self, run: Run, size: tuple[int, ...]) -> Tile:
        """Return the transformer in a tile of latents h, w."""
        return KeptTile(self, run)


class KeptTile:
    """A `Tile` of `Kept`."""

    def __init__(self, networks: Kept, run: Run) -> None:
        self.networks, self.run = networks, run
        null = networks.tensors["null"].reshape(1, 1, -1)
        self.null = run(networks.null, *networks.names, places=null)  # [1, 1, D] each
        self.kept: dict[int, dict[str, Int16]] = {}  # [windows, so far, D] each, by shape

    def ask(self, batch: Batch, step: int, near: Int16, content: Int16) -> Int16:
        tensors, n_windows = self.networks.tensors, len(batch.rows)
        if batch.shape not in self.kept:
            start = [np.repeat(rows, n_windows, 0) for rows in self.null]
            self.kept[batch.shape] = dict(zip(self.networks.names, start, strict=True))
        places = saturated(tensors["unknown_places"][batch.places], tensors["group"][step])
        (f,) = self.run(
            self.networks.asking, "f", near=near[batch.rows, batch.columns],
            places=np.repeat(places[None], n_windows, 0), **self.kept[batch.shape],
        )  # fmt: skip
        return f

    def tell(self, batch: Batch, near: Int16, y_hat: Int16) -> Int16:
        names, places = self.networks.names, self.networks.tensors["known_places"][batch.places]
        content, *kept = self.run(
            self.networks.telling, "content", *names, near=near[batch.rows, batch.columns],
            places=np.repeat(places[None], len(batch.rows), 0), y_hat=y_hat, **self.kept[batch.shape],
        )  # fmt: skip
        self.kept[batch.shape] = dict(zip(names, kept, strict=True))
        return content


class Passes:
    """MT."""

    def __init__(self, tensors: Tensors, c: MaskedConfig) -> None:
        self.tensors, self.group = tensors, groups(c.steps)
        self.passing, self.content = graphs.passing(tensors, c), graphs.content(tensors, c)

    def start(self, run: Run, size: tuple[int, ...]) -> Tile:
        """Return the transformer in a tile of latents h, w."""
        return PassesTile(self, run, size)


class PassesTile:
    """A `Tile` of `Passes`."""

    def __init__(self, networks: Passes, run: Run, size: tuple[int, ...]) -> None:
        self.networks, self.run = networks, run
        self.windows = {whole.shape: whole for whole in batches(size[0], size[1], 1)[0]}

    def ask(self, batch: Batch, step: int, near: Int16, content: Int16) -> Int16:
        tensors, whole = self.networks.tensors, self.windows[batch.shape]
        unknown = saturated(tensors["unknown_places"], tensors["group"][step])
        is_known = self.networks.group[:, None] < step
        places = np.where(is_known, tensors["known_places"], unknown)[whole.places]
        here = whole.rows, whole.columns
        (f,) = self.run(
            self.networks.passing, "f", near=near[here], content=content[here],
            places=np.repeat(places[None], len(whole.rows), 0),
        )  # fmt: skip
        return np.ascontiguousarray(f[:, np.isin(whole.places, batch.places)])

    def tell(self, batch: Batch, near: Int16, y_hat: Int16) -> Int16:
        (content,) = self.run(self.networks.content, "content", y_hat=y_hat)
        return content


def saturated(x: Array, y: Array) -> Int16:
    """Return x + y within ±32767."""
    return np.clip(x.astype(np.int32) + y, -LARGEST, LARGEST).astype(np.int16)
