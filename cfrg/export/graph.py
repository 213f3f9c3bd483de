"""The whole way from camera image to decision as one network, for export.

It computes what ``Predictor`` computes for whole images, with operations that every runtime has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cfrg.export.resizing import (
    ResizeAxis,
    asks_for_order,
    reduces_height_first,
    takes_height_first,
)
from cfrg.network import processing
from cfrg.runtimes.network import Network

if TYPE_CHECKING:
    from cfrg.inference.loading import TrainedModel
    from cfrg.network.config import CFRGConfig

__all__ = ["DetectionGraph", "Postprocessing", "Preprocessing", "upper_eight"]

Size = tuple[int, int]


class DetectionGraph(nn.Sequential):
    """Images (N, H, W, 3) uint8 in, map (N, h, w), score (N,) and perhaps decision (N,) out.

    Args:
        model: The detector; a copy of it is used, with the batch normalisations folded.
        image_threshold: A score above it makes the decision true; no decision when ``None``.
        input_size: Height and width of the images; any size when ``None``.
        half: Compute the network in half precision. All else stays in float32.
    """

    def __init__(
        self,
        model: TrainedModel,
        image_threshold: float | None,
        *,
        input_size: Size | None,
        half: bool = False,
    ) -> None:
        super().__init__(
            Preprocessing(model.config, input_size),
            Network(model, half=half),
            Postprocessing(model.config, image_threshold),
        )
        self.requires_grad_(False).eval()


class Preprocessing(nn.Module):
    """(N, H, W, 3) uint8 → (N, 3, h, w) float32: Pillow's bilinear resize, then normalisation.

    The resize is exact to the last bit. Some versions of Pillow reduce the height first where it
    shrinks by more than twice as many pixels as the width; under them a graph for any size computes
    both orders and takes the right one.
    """

    def __init__(self, config: CFRGConfig, input_size: Size | None) -> None:
        super().__init__()
        self.config = config
        passes: list[nn.Module] = []
        if input_size != config.image_size:
            height, width = input_size or (None, None)
            passes = [
                ResizeAxis(-1, width, config.image_size[1]),
                ResizeAxis(-2, height, config.image_size[0]),
            ]
            if input_size and reduces_height_first(input_size, config.image_size):
                passes.reverse()
        self.resize = nn.Sequential(*passes)
        self.asks_for_order = input_size is None and asks_for_order(config.image_size)

    def forward(self, image: Tensor) -> Tensor:
        """Resize and normalise."""
        pixels = upper_eight(image, self.config).permute(0, 3, 1, 2)  # (N, 3, H, W)
        resized = self.resize(pixels)
        if self.asks_for_order:
            columns, rows = self.resize
            height_first = takes_height_first(pixels, *self.config.image_size)
            resized = torch.where(height_first, columns(rows(pixels)), resized)
        return processing.normalize(resized, self.config)


def upper_eight(image: Tensor, config: CFRGConfig) -> Tensor:
    """Return images, uint8 or uint16 of more bits, as float32 from 0 to 255."""
    if config.bits == 8:
        return image.float()
    return torch.floor(image.float() * 2.0 ** (8 - config.bits))


class Postprocessing(nn.Module):
    """Smoothing, score and decision: (N, 1, h, w) → (N, h, w), (N,), (N,) bool."""

    def __init__(self, config: CFRGConfig, image_threshold: float | None) -> None:
        super().__init__()
        self.config, self.image_threshold = config, image_threshold

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Smooth, score and decide; without a threshold there are two outputs."""
        return self.judge(processing.smooth(raw, self.config))

    def judge(self, smoothed: Tensor) -> tuple[Tensor, ...]:
        """Score and decide, once tiles are blended."""
        maps, scores = processing.finish(smoothed, self.config)
        if self.image_threshold is None:
            return maps[:, 0], scores
        return maps[:, 0], scores, processing.decide(scores, self.image_threshold)
