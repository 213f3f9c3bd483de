"""Pillow's bilinear resize, exact to the last bit, in operations that every runtime has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from cfrg.runtimes.formats import MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ResizeAxis",
    "ScaleAxis",
    "asks_for_order",
    "reduces_height_first",
    "takes_height_first",
]

Size = tuple[int, int]

WEIGHT_BITS = 22  # of Pillow's weights
BLOCK = 16  # output pixels that are computed from one band of input pixels


class ResizeAxis(nn.Module):
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
            block = torch.cat(_split(rows[:, start:stop], self.digits, self.bits))
            self.register_buffer(f"block_{len(self.starts)}", block)
            self.starts.append(start)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) float32 with whole values → the same with ``outputs`` along the axis."""
        if self.inputs is None:
            weights = _resizing_weights(x.shape[self.axis], self.outputs)
            return self._multiply(torch.cat(_split(weights, self.digits, self.bits)), x)
        blocks = [self.get_buffer(f"block_{i}") for i in range(len(self.starts))]
        bands = [
            x.narrow(self.axis, start, block.shape[1])
            for start, block in zip(self.starts, blocks, strict=True)
        ]
        pairs = zip(blocks, bands, strict=True)
        return torch.cat([self._multiply(block, band) for block, band in pairs], self.axis)

    def _multiply(self, digits: Tensor, x: Tensor) -> Tensor:
        sums = digits @ x if self.axis == -2 else x @ digits.T
        return _join(sums.chunk(self.digits, self.axis), self.bits)


class ScaleAxis(nn.Module):
    """One of the two passes of Pillow's resize of any length to a multiple of it.

    Both lengths are free, so the weights come as a band round each output instead of a matrix.

    Args:
        axis: −1 for columns, −2 for rows.
        outputs: Pixels after, of every ``inputs`` before; rounded to whole pixels, 1 or more.
        inputs: Pixels before.
    """

    def __init__(self, axis: int, outputs: int, inputs: int) -> None:
        super().__init__()
        self.axis = axis
        # A length of 1.49 is rounded to 1: the most inputs that an output can have.
        self.most = math.ceil(3 * inputs / outputs)
        self.taps = max(2, self.most)
        self.digits, self.bits = _choose_digits(self.most, 2)

    def forward(self, x: Tensor, length: int, wanted: Tensor) -> Tensor:
        """Return some of the outputs.

        Args:
            x: (3, H, W) float32 with whole values.
            length: Pixels after.
            wanted: (n,) int32, which outputs, each from 0 to ``length`` − 1.

        Returns:
            The same with n along the axis.
        """
        inputs = x.shape[self.axis]
        larger: Any = torch.sym_max(inputs, length)
        centre = (2 * wanted + 1) * inputs
        first = torch.div(
            (centre + length - 2 * larger).clamp_min(0), 2 * length, rounding_mode="trunc"
        )
        taps = first[:, None] + torch.arange(self.taps, dtype=torch.int32)  # (n, taps)
        distance = ((2 * taps + 1) * length - centre[:, None]).abs()
        parts = (2 * larger - distance).clamp_min(0)
        weights = _shares(torch.where(taps < inputs, parts, torch.zeros_like(parts)))
        digits = _split(weights if self.axis == -1 else weights[..., None], self.digits, self.bits)
        sums: list[Any] = [0] * self.digits
        for tap in range(self.taps):
            pixels = x.index_select(self.axis, taps[:, tap].clamp_max(inputs - 1))
            sums = [total + d[:, tap] * pixels for total, d in zip(sums, digits, strict=True)]
        return _join(sums, self.bits)


def _split(weights: Tensor, digits: int, bits: int) -> list[Tensor]:
    """Weights int32 → their digits, float32, low ones first."""
    base = 2**bits
    parts = []
    for _ in range(digits - 1):
        rest = torch.div(weights, base, rounding_mode="trunc")
        parts.append((weights - rest * base).float())
        weights = rest
    return [*parts, weights.float()]


def _join(sums: Sequence[Tensor], bits: int) -> Tensor:
    """Sums of pixels times each digit, low ones first → the rounded pixels."""
    *lower, highest = sums
    carry: Tensor | int = 0
    for digit in lower:
        carry = torch.floor((digit + carry) / 2**bits)
    left = WEIGHT_BITS - bits * len(lower)
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
    return _shares(rest)


def _shares(parts: Tensor) -> Tensor:
    """Each of some whole numbers (rows, n) int32 as its share of the row's sum, times 2²²."""
    rest = parts
    total = rest.sum(1, keepdim=True, dtype=torch.int32)
    share = torch.zeros_like(rest)
    for _ in range(WEIGHT_BITS // 2):
        rest = 4 * rest
        digit = torch.div(rest, total, rounding_mode="trunc")
        share, rest = 4 * share + digit, rest - digit * total
    weights: Tensor = share + (2 * rest >= total).int()  # to nearest
    return weights


def asks_for_order(target: Size) -> bool:
    """Whether the installed Pillow reduces the height first in some images, not in others."""
    height, width = target
    return reduces_height_first((height + 9, width + 1), target)


def takes_height_first(pixels: Tensor, height: Any, width: Any) -> Tensor:
    """Whether such a Pillow does so for pixels (…, H, W), as a tensor of one truth value."""
    taller, wider = pixels.shape[-2] - height, pixels.shape[-1] - width
    excess: Any = taller - torch.sym_max(0, 2 * wider)
    return torch.full((), excess) > 0


def reduces_height_first(source: Size, target: Size) -> bool:
    """Whether the installed Pillow reduces the height before the width.

    Values are rounded in between, so the order shows; Pillow's versions choose it by different
    rules, so it is asked rather than one of them repeated.
    """
    noise = np.random.default_rng(0).integers(0, 256, source, dtype=np.uint8)
    resized = Image.fromarray(noise).resize(target[::-1], Image.Resampling.BILINEAR)
    columns, rows = ResizeAxis(-1, source[1], target[1]), ResizeAxis(-2, source[0], target[0])
    columns_first = rows(columns(torch.from_numpy(noise)[None, None].float()))
    return not np.array_equal(columns_first[0, 0].numpy(), np.asarray(resized))
