"""Shapes of synthetic defects: Perlin noise, blobs, lines, regions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from threecad.system.compiling import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = [
    "blob_mask",
    "coarse_mask",
    "draw_angles",
    "line_mask",
    "perlin_mask",
    "perlin_noise",
    "random_periods",
    "region_mask",
]


PERLIN_EXPONENTS = (0, 6)
"""Of the numbers of lattice cells, powers of two; the upper end is exclusive."""

PERLIN_THRESHOLD = 0.5
"""Noise above it is defect."""


def perlin_noise(
    rng: np.random.Generator, shape: tuple[int, int], periods: tuple[int, int]
) -> Floats:
    """Return Perlin's gradient noise, (H, W) float32 in about [−1, 1].

    Args:
        rng: Draws the lattice; see ``draw_angles``.
        shape: Height and width.
        periods: Lattice cells along the height and the width.
    """
    angles = draw_angles(rng, periods)
    y, x = (
        np.arange(length, dtype=np.float32) * np.float32(cells / length)
        for length, cells in zip(shape, periods, strict=True)
    )
    return _noise_at(y, x, np.sin(angles), np.cos(angles))


def draw_angles(rng: np.random.Generator, periods: tuple[int, int]) -> Floats:
    """Return the directions of a lattice's gradients, row by row.

    Returns:
        (cells along the height + 1, cells along the width + 1) float32 in [0, 2π).
    """
    cells_y, cells_x = periods
    turns = rng.random((cells_y + 1, cells_x + 1), dtype=np.float32)
    return np.asarray(turns * np.float32(2 * math.pi), np.float32)


def perlin_mask(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    exponents: tuple[int, int] = PERLIN_EXPONENTS,
    threshold: float = PERLIN_THRESHOLD,
    degrees: float | None = None,
) -> npt.NDArray[np.bool_]:
    """Return thresholded Perlin noise, rotated; never empty.

    The lattice has 2^a × 2^b cells with a and b drawn from ``exponents`` (upper end exclusive). The
    angle is drawn in ±90° unless ``degrees`` are given.
    """
    while True:
        noise = perlin_noise(rng, shape, random_periods(rng, *exponents))
        angle = rng.uniform(-90, 90) if degrees is None else degrees
        mask = np.asarray(_rotate(noise, angle) > threshold)
        if mask.any():
            return mask


def coarse_mask(
    rng: np.random.Generator, shape: tuple[int, int], *, degrees: float | None = None
) -> npt.NDArray[np.bool_]:
    """Return larger, connected Perlin patches."""
    return perlin_mask(rng, shape, exponents=(1, 4), threshold=0.25, degrees=degrees)


def blob_mask(
    rng: np.random.Generator, shape: tuple[int, int], *, smallest: float = 1.0
) -> npt.NDArray[np.bool_]:
    """Return an uneven ellipse with a radius from ``smallest`` pixels to 0.22 of the image."""
    height, width = shape
    largest = max(0.22 * max(shape), smallest)
    radius = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
    stretch = math.exp(rng.uniform(-0.9, 0.9))
    centre_y, centre_x, angle = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y - centre_y, x - centre_x
    along = (x * math.cos(angle) + y * math.sin(angle)) / (radius * stretch)
    across = (y * math.cos(angle) - x * math.sin(angle)) / (radius / stretch)
    distance = np.hypot(along, across)
    if radius > 3:
        distance *= 1 + 0.8 * rng.uniform(0, 1) * perlin_noise(
            rng, shape, random_periods(rng, 2, 5)
        )
    mask = np.asarray(distance < 1)
    mask[int(centre_y), int(centre_x)] = True
    return mask


def line_mask(
    rng: np.random.Generator, shape: tuple[int, int], *, smallest: float = 1.0
) -> npt.NDArray[np.bool_]:
    """Return a wandering line, one to four pixels wide, but no thinner than ``smallest``."""
    height, width = shape
    pieces = int(rng.integers(2, 7))
    length = max(shape) * math.exp(rng.uniform(math.log(0.06), math.log(0.9)))
    angle, wander = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.7)
    points = [np.array([rng.uniform(0, width), rng.uniform(0, height)])]
    for _ in range(pieces):
        angle += rng.normal(0, wander)
        points.append(points[-1] + length / pieces * np.array([np.cos(angle), np.sin(angle)]))
    mask = np.zeros(shape, np.uint8)
    fixed_point = np.round(np.array(points) * 8).astype(np.int32)
    thickness = max(int(rng.choice([1, 1, 1, 2, 2, 3, 4])), round(smallest))
    cv2.polylines(mask, [fixed_point], False, 1, thickness, cv2.LINE_8, 3)
    mask[int(points[0][1]), int(points[0][0])] = 1
    return mask.astype(bool)


def region_mask(rng: np.random.Generator, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return a half-plane or a band with a wavy border, as uneven lighting or wear has."""
    height, width = shape
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    y, x = y / height - 0.5, x / width - 0.5
    place = x * math.cos(angle) + y * math.sin(angle)
    place += 0.25 * rng.uniform(0, 1) * perlin_noise(rng, shape, random_periods(rng, 0, 4))
    start = rng.uniform(-0.1, 0.55)
    if rng.random() < 0.5:
        return np.asarray(place > start)
    return np.asarray(np.abs(place - start + 0.2) < rng.uniform(0.05, 0.25))


def random_periods(rng: np.random.Generator, lowest: int, stop: int) -> tuple[int, int]:
    """Return lattice cells along height and width: powers of two, exponents below ``stop``."""
    down, right = rng.integers(lowest, stop, 2)
    return 2 ** int(down), 2 ** int(right)


@compiled
def _noise_at(y: Floats, x: Floats, gradients_y: Floats, gradients_x: Floats) -> Floats:
    """Return the noise at rows ``y`` and columns ``x``, both in lattice cells, (H, W) float32."""
    noise = np.empty((y.size, x.size), np.float32)
    for i in range(y.size):
        row = int(y[i])
        in_y = y[i] - row
        fade = _fade(in_y)
        for j in range(x.size):
            top = _on_row(gradients_y[row], gradients_x[row], in_y, x[j])
            bottom = _on_row(gradients_y[row + 1], gradients_x[row + 1], in_y - 1, x[j])
            noise[i, j] = math.sqrt(2) * (top * (1 - fade) + bottom * fade)
    return noise


@compiled
def _on_row(gradients_y: Floats, gradients_x: Floats, below: float, x: float) -> float:
    """Return what one row of the lattice, so far above, says of a place."""
    column = int(x)
    in_x = x - column
    left = np.float32(gradients_x[column] * in_x + gradients_y[column] * below)
    right = np.float32(gradients_x[column + 1] * (in_x - 1) + gradients_y[column + 1] * below)
    fade = _fade(in_x)
    return float(left * (1 - fade) + right * fade)


@compiled
def _fade(t: float) -> float:
    """Perlin's smooth step, 6t⁵ − 15t⁴ + 10t³."""
    return t * t * t * (t * (t * 6 - 15) + 10)


def _rotate(noise: Floats, degrees: float) -> Floats:
    height, width = noise.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(noise, turn, (width, height)), np.float32)
