"""The whole way from camera image to decision as one network, for export.

It computes what ``Predictor`` computes for whole images, with operations that every runtime has.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cfrg.network import processing
from cfrg.network.folding import fold_batch_norms
from cfrg.runtimes.formats import MAX_SIDE

if TYPE_CHECKING:
    from cfrg.inference.loading import TrainedModel
    from cfrg.network.config import CFRGConfig

__all__ = ["DetectionGraph", "Network", "Postprocessing", "Preprocessing"]

Size = tuple[int, int]

WEIGHT_BITS = 22  # of Pillow's weights
BLOCK = 16  # output pixels that are computed from one band of input pixels


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
                _ResizeAxis(-1, width, config.image_size[1]),
                _ResizeAxis(-2, height, config.image_size[0]),
            ]
            if input_size and _reduces_height_first(input_size, config.image_size):
                passes.reverse()
        self.resize = nn.Sequential(*passes)
        height, width = config.image_size
        self.asks_for_order = input_size is None and _reduces_height_first(
            (height + 9, width + 1), config.image_size
        )

    def forward(self, image: Tensor) -> Tensor:
        """Resize and normalise."""
        pixels = image.permute(0, 3, 1, 2).float()  # (N, 3, H, W)
        resized = self.resize(pixels)
        if self.asks_for_order:
            columns, rows = self.resize
            taller, wider = (
                size - target
                for size, target in zip(pixels.shape[-2:], self.config.image_size, strict=True)
            )
            excess: Any = taller - torch.sym_max(0, 2 * wider)
            height_first = torch.full((), excess) > 0
            resized = torch.where(height_first, columns(rows(pixels)), resized)
        return processing.normalize(resized, self.config)


class Network(nn.Module):
    """(N, 3, h, w) float32 → (N, 1, h, w) float32, the maps before smoothing."""

    def __init__(self, model: TrainedModel, *, half: bool = False) -> None:
        super().__init__()
        self.model = fold_batch_norms(model)
        self.dtype = torch.float16 if half else torch.float32
        self.model.to(self.dtype)
        # torch.export.save takes weights in another memory format for parts of a larger tensor.
        self.model.to(memory_format=torch.contiguous_format)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the anomaly map of ``forward``."""
        anomaly_map: Tensor = self.model(x.to(self.dtype)).anomaly_map
        return anomaly_map.float()


class Postprocessing(nn.Module):
    """Smoothing, score and decision: (N, 1, h, w) → (N, h, w), (N,), (N,) bool."""

    def __init__(self, config: CFRGConfig, image_threshold: float | None) -> None:
        super().__init__()
        self.config, self.image_threshold = config, image_threshold

    def forward(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Smooth, score and decide; without a threshold there are two outputs."""
        maps, scores = processing.finish(processing.smooth(raw, self.config), self.config)
        if self.image_threshold is None:
            return maps[:, 0], scores
        return maps[:, 0], scores, processing.decide(scores, self.image_threshold)


class _ResizeAxis(nn.Module):
    """One of the two passes of Pillow's resize, rounded to whole values as there.

    Args:
        axis: −1 for columns, −2 for rows.
        inputs: Pixels before; any number up to ``MAX_SIDE`` when ``None``.
        outputs: Pixels after.
    """

    def __init__(self, axis: int, inputs: int | None, outputs: int) -> None:
        super().__init__()
        self.axis, self.inputs, self.outputs = axis, inputs, outputs
        self.digits, self.bits = _choose_digits(inputs or MAX_SIDE, outputs)
        self.starts: list[int] = []
        if inputs is None:
            return
        # A row of the matrix is zero outside a short band, so rows are taken a few at a time.
        weights = _resizing_weights(inputs, outputs)
        for first in range(0, outputs, BLOCK):
            rows = weights[first : first + BLOCK]
            used = rows.sum(0).nonzero().flatten()
            start, stop = int(used[0]), int(used[-1]) + 1
            block = self._split(rows[:, start:stop]).contiguous()
            self.register_buffer(f"block_{len(self.starts)}", block)
            self.starts.append(start)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float32 with whole values → the same with ``outputs`` along the axis."""
        if self.inputs is None:
            weights = _resizing_weights(x.shape[self.axis], self.outputs)
            return self._multiply(self._split(weights), x)
        blocks = [self.get_buffer(f"block_{i}") for i in range(len(self.starts))]
        bands = [
            x.narrow(self.axis, start, block.shape[1])
            for start, block in zip(self.starts, blocks, strict=True)
        ]
        pairs = zip(blocks, bands, strict=True)
        return torch.cat([self._multiply(block, band) for block, band in pairs], self.axis)

    def _split(self, weights: Tensor) -> Tensor:
        """Weights (rows, inputs) int32 → digits (digits · rows, inputs) float32, low ones first."""
        base = 2**self.bits
        digits = []
        for _ in range(self.digits - 1):
            rest = torch.div(weights, base, rounding_mode="trunc")
            digits.append(weights - rest * base)
            weights = rest
        return torch.cat([*digits, weights]).float()

    def _multiply(self, digits: Tensor, x: Tensor) -> Tensor:
        sums = digits @ x if self.axis == -2 else x @ digits.T
        *lower, highest = sums.chunk(self.digits, self.axis)
        carry: Tensor | int = 0
        for digit in lower:
            carry = torch.floor((digit + carry) / 2**self.bits)
        left = WEIGHT_BITS - self.bits * len(lower)
        return torch.floor((highest + carry + 2 ** (left - 1)) / 2**left)  # to nearest


def _choose_digits(inputs: int, outputs: int) -> tuple[int, int]:
    """How many digits of how many bits the weights need for sums to be exact in float32.

    A sum of ``taps`` eight-bit pixels times such digits, and what is carried over from the digit
    below, must stay within 2²⁴.
    """
    taps = max(2, math.ceil(2 * inputs / outputs))
    digits = 2
    while 255 * taps * 2 ** (bits := math.ceil(WEIGHT_BITS / digits)) > 2**24:
        digits += 1
    return digits, bits


def _resizing_weights(inputs: int, outputs: int) -> Tensor:
    """Pillow's weights of ``inputs`` pixels for each of ``outputs``, in units of 2⁻²².

    The triangle filter's weight of pixel i for output o is in proportion to the whole number
    ``2·max(inputs, outputs) − |(2i + 1)·outputs − (2o + 1)·inputs|``. Pillow keeps its share of the
    output's sum in fixed point, 22 bits; a long division yields them, two at a time, so that no
    number leaves 32 bits (runtimes compute in no wider ones) up to ``MAX_SIDE`` pixels.

    Returns:
        (outputs, inputs) int32.
    """
    i = torch.arange(inputs, dtype=torch.int32)
    o = torch.arange(outputs, dtype=torch.int32)[:, None]
    distance = ((2 * i + 1) * outputs - (2 * o + 1) * inputs).abs()
    larger: Any = torch.sym_max(inputs, outputs)
    rest = (2 * larger - distance).clamp_min(0)
    total = rest.sum(1, keepdim=True, dtype=torch.int32)
    share = torch.zeros_like(rest)
    for _ in range(WEIGHT_BITS // 2):
        rest = 4 * rest
        digit = torch.div(rest, total, rounding_mode="trunc")
        share, rest = 4 * share + digit, rest - digit * total
    weights: Tensor = share + (2 * rest >= total).int()  # to nearest
    return weights


def _reduces_height_first(source: Size, target: Size) -> bool:
    """Whether the installed Pillow reduces the height before the width.

    Values are rounded in between, so the order shows; Pillow's versions choose it by different
    rules, so it is asked rather than one of them repeated.
    """
    noise = np.random.default_rng(0).integers(0, 256, source, dtype=np.uint8)
    resized = Image.fromarray(noise).resize(target[::-1], Image.Resampling.BILINEAR)
    columns, rows = _ResizeAxis(-1, source[1], target[1]), _ResizeAxis(-2, source[0], target[0])
    columns_first = rows(columns(torch.from_numpy(noise)[None, None].float()))
    return not np.array_equal(columns_first[0, 0].numpy(), np.asarray(resized))
