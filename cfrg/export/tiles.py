"""Tiles inside the graph: an image of any size in; its blended map, score and decision out.

It computes what ``Predictor`` computes with a ``Tiling``. The tiles are cut and answered one after
the other in a loop of the runtime's, so that the network never holds more than one of them; their
maps are blended when all are there. Both are index arithmetic on free sizes: a number of tiles that
may be 1 must not become the length of an axis that something is broadcast along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from cfrg.export.graph import Postprocessing, upper_eight
from cfrg.export.resizing import ScaleAxis, asks_for_order, takes_height_first
from cfrg.images.tiling import Tiling, squared_sine
from cfrg.network import processing
from cfrg.runtimes.formats import MAX_SIDE
from cfrg.runtimes.network import Network

if TYPE_CHECKING:
    from cfrg.inference.loading import TrainedModel

__all__ = ["TiledGraph", "longest_side"]


def longest_side(tiling: Tiling) -> int:
    """Return the pixels of a side up to which the graph's whole numbers fit into 32 bits."""
    scale = max(1.0, *(side / tiling.tile for side in tiling.image_size))
    return min(MAX_SIDE, int(2**14 / scale))


class TiledGraph(nn.Module):
    """An image (1, H, W, 3) uint8 in, map (1, h, w), score (1,) and perhaps decision (1,) out.

    Args:
        model: The detector, whose configuration has tiles.
        image_threshold: A score above it makes the decision true; no decision when ``None``.
        half: Compute the network in half precision. All else stays in float32.
    """

    def __init__(
        self, model: TrainedModel, image_threshold: float | None, *, half: bool = False
    ) -> None:
        super().__init__()
        self.config = model.config
        self.tiling = Tiling.from_config(model.config)
        self.longest_side = longest_side(self.tiling)
        self.network = Network(model, half=half)
        self.postprocessing = Postprocessing(model.config, image_threshold)
        height, width = self.tiling.image_size
        self.rows = _Axis(-2, height, self.tiling)
        self.columns = _Axis(-1, width, self.tiling)
        self.asks_for_order = asks_for_order(self.tiling.image_size)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Cut, answer, blend, score and decide."""
        pixels = upper_eight(image, self.config)[0].permute(2, 0, 1)  # (3, H, W)
        height, width = self.rows.scaled(pixels.shape[1]), self.columns.scaled(pixels.shape[2])
        canvas = processing.normalize(self._place(pixels, height, width)[None], self.config)[0]
        maps = self._answer(canvas, height, width)
        blended = self._blend(maps, height, width)
        return self.postprocessing.judge(blended[None, None])

    def _place(self, pixels: Tensor, height: Any, width: Any) -> Tensor:
        """Pixels (3, H, W) on their canvas, continued by its mirror image up to a tile."""
        canvas = self.rows.place(self.columns.place(pixels, width), height)
        if self.asks_for_order:
            turned = self.columns.place(self.rows.place(pixels, height), width)
            canvas = torch.where(takes_height_first(pixels, height, width), turned, canvas)
        return canvas

    def _answer(self, canvas: Tensor, height: Any, width: Any) -> Tensor:
        """The smoothed maps of a canvas' tiles (tiles, h, w), row by row."""
        across = self.columns.count(width)
        number = torch.arange(_free(self.rows.count(height) * across))
        row = torch.div(number, across, rounding_mode="trunc")
        tops = self.rows.starts(row, height)
        lefts = self.columns.starts(number - row * across, width)

        def answer(canvas: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
            tile = canvas.index_select(1, start[0] + torch.arange(self.rows.side))
            tile = tile.index_select(2, start[1] + torch.arange(self.columns.side))
            return canvas.clone(), self.network(tile[None])[0, 0]

        _, maps = scan(answer, canvas, torch.stack([tops, lefts], 1))
        return processing.smooth(maps[:, None], self.config)[:, 0]

    def _blend(self, maps: Tensor, height: Any, width: Any) -> Tensor:
        """The map of the canvas, (H, W): at each pixel the weighted mean of its tiles."""
        area = self.rows.side * self.columns.side
        values = maps.reshape(-1)
        total: Any = 0
        for row, y, vertical in self.rows.covering(height):
            line = row * self.columns.count(width) * area + y * self.columns.side
            for column, x, horizontal in self.columns.covering(width):
                value = values[line[:, None] + (column * area + x)]
                total = total + vertical[:, None] * horizontal * value
        blended: Tensor = total
        for axis, length in enumerate((height, width)):
            blended = blended.index_select(axis, torch.arange(_free(length)))
        return blended


def _free(length: Any) -> Any:
    """Return a length that may be 1: torch.export denies it of all that it can compute itself."""
    read = torch.full((), length).item()
    torch._check(read >= 1)
    return read


class _Axis(nn.Module):
    """Tiles along one axis of images of any length.

    Args:
        axis: −1 for columns, −2 for rows.
        side: Pixels of a tile on the canvas.
        tiling: How images are cut.
    """

    def __init__(self, axis: int, side: int, tiling: Tiling) -> None:
        super().__init__()
        self.axis, self.side, self.tile, self.step = axis, side, tiling.tile, tiling.step(side)
        self.scale = None if side == tiling.tile else ScaleAxis(axis, side, tiling.tile)
        self.window: Tensor
        self.register_buffer("window", torch.from_numpy(squared_sine(side)).float())

    def scaled(self, length: Any) -> Any:
        """Return the pixels on the canvas for those of an image, as ``Tiling.canvas_size``."""
        halves = 2 * length * self.side + self.tile
        rounded = halves // (2 * self.tile)
        tie = 1 - torch.sym_min(1, halves % (2 * self.tile))  # is rounded to the even number
        return torch.sym_max(1, rounded - tie * (rounded % 2))

    def place(self, x: Tensor, length: Any) -> Tensor:
        """(3, H, W) float32 → the same with ``length``, or what a tile needs, along the axis."""
        place = torch.arange(torch.sym_max(length, self.side), dtype=torch.int32) % (2 * length)
        wanted = torch.minimum(place, 2 * length - 1 - place)
        if self.scale is None:
            return x.index_select(self.axis, wanted)
        scaled: Tensor = self.scale(x, length, wanted)
        return scaled

    def count(self, length: Any) -> Any:
        """Return the number of tiles."""
        return (torch.sym_max(length - self.side, 0) + self.step - 1) // self.step + 1

    def starts(self, number: Tensor, length: Any) -> Tensor:
        """Return where tiles begin; the last one ends with the axis."""
        return (number * self.step).clamp_max(torch.sym_max(length - self.side, 0))

    def covering(self, length: Any) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return the tiles that cover each place: their numbers, the place in them, its weight.

        As many triples of (length,) as tiles can overlap; a tile that is none weighs nothing.
        """
        place = torch.arange(torch.sym_max(length, self.side))
        first = torch.div(
            (place - self.side + self.step).clamp_min(0), self.step, rounding_mode="trunc"
        )
        last = self.count(length) - 1
        found, weights = [], []
        for further in range(-(-self.side // self.step) + 1):
            number = first + further
            offset = place - self.starts(number, length)
            inside = (offset >= 0) & (offset < self.side) & (number <= last)
            offset = offset.clamp(0, self.side - 1)
            half = offset < self.side // 2
            at_border = ((number == 0) & half) | ((number == last) & ~half)
            weight = torch.where(at_border, torch.ones(()), self.window[offset])
            weights.append(torch.where(inside, weight, torch.zeros(())))
            found.append((number.clamp_max(last), offset))
        total = torch.stack(weights).sum(0)
        return [(*tile, weight / total) for tile, weight in zip(found, weights, strict=True)]
