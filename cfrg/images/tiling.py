"""Overlapping tiles: a large image at the scale that its small defects need.

The image is resized to a canvas on which a tile has the network's input size, so that a tile is a
crop of the canvas and neighbouring tiles see the same pixels where they overlap. The maps of the
tiles are blended on the canvas: every pixel is a weighted mean of the tiles that cover it, with
weights that fall smoothly to almost nothing at a tile's edge, where the network knows least.

An image that is not tiled is the same thing with one tile: its canvas is the network's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from cfrg.network import processing
from threecad.errors import ImageError, UsageError
from threecad.images.files import MAX_PIXELS, open_rgb

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy.typing as npt
    from PIL import Image

    from cfrg.network.config import CFRGConfig

    Floats = npt.NDArray[np.float32]

__all__ = ["Mosaic", "Tiling", "squared_sine"]

STRIDE = 32
"""The network halves an image five times: tiles that start on multiples see the same grids."""


@dataclass(frozen=True)
class Tiling:
    """How images of any size meet a network of one input size.

    Attributes:
        image_size: Height and width of the network's input.
        tile: Side of a tile, in pixels of the full image; 0 resizes the whole image instead.
        overlap: Pixels of the full image that neighbouring tiles share, at least.
        bits: Of 16 that images have a channel, how many are used; 8 for any image.

    Raises:
        UsageError: If the overlap is not smaller than the tile.
    """

    image_size: tuple[int, int]
    tile: int = 0
    overlap: int = 0
    bits: int = 8

    def __post_init__(self) -> None:
        if self.tile < 0 or self.overlap < 0 or self.overlap >= max(self.tile, 1):
            raise UsageError(
                f"Tiles of {self.tile} pixels with an overlap of {self.overlap} are impossible. "
                "Expected an overlap from 0 to less than the tile."
            )

    @classmethod
    def from_config(
        cls, config: CFRGConfig, tile: int | None = None, overlap: int | None = None
    ) -> Tiling:
        """Return the tiling of a configuration, or another one.

        Args:
            config: Gives the input size, and what is not given here.
            tile: Side of a tile; 0 for whole images.
            overlap: Of neighbouring tiles; a quarter of a ``tile`` that is given here.
        """
        if overlap is None:
            overlap = config.tile_overlap if tile is None else tile // 4
        tile = config.tile if tile is None else tile
        return cls(config.image_size, tile, overlap, config.bits)

    def open(self, path: str | os.PathLike[str]) -> Image.Image:
        """Return an image file, decoded, of mode RGB, the upper eight of the bits used.

        Raises:
            ImageError: If it is no such image.
        """
        return open_rgb(path, self.bits)

    def read(self, path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
        """Return the same as (H, W, 3) uint8."""
        return np.array(self.open(path))

    def canvas_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return height and width that an image of ``size`` is resized to, 1 × 1 or more.

        Raises:
            ImageError: If that is more than ``threecad.images.files.MAX_PIXELS``.
        """
        if not self.tile:
            return self.image_size
        scaled = zip(size, self.image_size, strict=True)
        height, width = (max(1, round(length * side / self.tile)) for length, side in scaled)
        if height * width > MAX_PIXELS:
            raise ImageError(
                f"In tiles of {self.tile} pixels an image of {size[1]} × {size[0]} would be "
                f"computed as {width} × {height}, more than {MAX_PIXELS} pixels. "
                "Choose larger tiles."
            )
        return height, width

    def place(self, image: npt.NDArray[np.uint8] | Image.Image) -> npt.NDArray[np.uint8]:
        """Return an image on its canvas, (h, w, 3) uint8.

        Args:
            image: (H, W, 3) uint8, or what ``open`` returns.

        Raises:
            ImageError: If it is no such image, or its canvas would be too large.
        """
        size = image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)
        return processing.resize(image, self.canvas_size((size[0], size[1])))

    def starts(self, canvas: tuple[int, int]) -> tuple[list[int], list[int]]:
        """Return the first rows and the first columns of the tiles of a canvas."""
        axes = zip(canvas, self.image_size, strict=True)
        rows, columns = (_starts(length, side, self.step(side)) for length, side in axes)
        return rows, columns

    def step(self, side: int) -> int:
        """Return how far apart tiles of ``side`` canvas pixels begin, along an axis."""
        step = side - (-(-self.overlap * side // self.tile) if self.tile else 0)
        return step - step % STRIDE if step > STRIDE else step

    def count(self, canvas: tuple[int, int]) -> int:
        """Return the number of tiles of a canvas."""
        rows, columns = self.starts(canvas)
        return len(rows) * len(columns)

    def cut(self, canvas: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the tiles of a canvas (3, H, W), row by row, each (3, *image_size).

        A canvas smaller than a tile is continued by its mirror image.
        """
        height, width = self.image_size
        rows, columns = self.starts((canvas.shape[1], canvas.shape[2]))
        canvas = _mirror(canvas, self.image_size)
        for top in rows:
            for left in columns:
                yield canvas[:, top : top + height, left : left + width]


class Mosaic:
    """The maps of an image's tiles, blended on its canvas.

    Args:
        tiling: How the canvas was cut.
        canvas: Its height and width.
    """

    def __init__(self, tiling: Tiling, canvas: tuple[int, int]) -> None:
        self.size = canvas
        rows, columns = tiling.starts(canvas)
        self._rows = _weights(rows, tiling.image_size[0], canvas[0])
        self._columns = _weights(columns, tiling.image_size[1], canvas[1])
        self._places = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
        self._tops, self._lefts = rows, columns
        self._blended: Floats | None = None
        self._added = 0

    @property
    def complete(self) -> bool:
        """Whether every tile has been added."""
        return self._added == len(self._places)

    @property
    def blended(self) -> Floats:
        """The canvas' map, (H, W) float32, once it is complete."""
        assert self.complete
        assert self._blended is not None
        return self._blended

    def add(self, tile: Floats) -> None:
        """Add the map of the next tile, (h, w) float32, in the order of ``Tiling.cut``."""
        i, j = self._places[self._added]
        self._added += 1
        rows, columns = self._rows[i], self._columns[j]
        tile = tile[: len(rows), : len(columns)]  # without what the mirror continued
        if len(self._places) == 1:
            self._blended = tile
            return
        if self._blended is None:
            self._blended = np.zeros(self.size, np.float32)
        top, left = self._tops[i], self._lefts[j]
        place = self._blended[top : top + len(rows), left : left + len(columns)]
        place += rows[:, None] * columns * tile


def squared_sine(side: int) -> npt.NDArray[np.float64]:
    """Return the weight of a tile by place along an axis: a squared sine."""
    return np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2


def _starts(length: int, side: int, step: int) -> list[int]:
    """Return where tiles begin along an axis; the last one ends with the axis."""
    last = max(length - side, 0)
    return [*range(0, last, step), last]


def _weights(starts: list[int], side: int, length: int) -> list[Floats]:
    """Return the weights of each tile along an axis; they sum to 1 at each pixel.

    A tile's weight is a squared sine, and stays at its maximum towards the image's own border:
    what lies behind that no tile knows better. The weights of a tile in the plane are products of
    two of these, and sum to 1, too.
    """
    windows = np.tile(squared_sine(side), (len(starts), 1))
    windows[0, : side // 2] = 1
    windows[-1, side // 2 :] = 1
    total = np.zeros(max(length, side))
    for start, window in zip(starts, windows, strict=True):
        total[start : start + side] += window
    weights = (
        window / total[start : start + side] for start, window in zip(starts, windows, strict=True)
    )
    return [weight[:length].astype(np.float32) for weight in weights]


def _mirror(canvas: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return the canvas (3, H, W), at least of ``size``, the last pixel repeated in the mirror."""
    height, width = canvas.shape[1:]
    missing = (max(size[0] - height, 0), max(size[1] - width, 0))
    if not any(missing):
        return canvas
    padding = ((0, 0), (0, missing[0]), (0, missing[1]))
    return torch.from_numpy(np.pad(canvas.numpy(), padding, mode="symmetric"))
