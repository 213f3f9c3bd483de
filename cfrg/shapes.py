"""Shapes of synthetic defects: Perlin noise, blobs, lines, regions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = [
    "blob_mask",
    "coarse_mask",
    "line_mask",
    "perlin_mask",
    "perlin_noise",
    "random_periods",
    "region_mask",
]


def perlin_noise(
    rng: np.random.Generator, shape: tuple[int, int], periods: tuple[int, int]
) -> Floats:
    """Return Perlin's gradient noise, (H, W) float32 in about [−1, 1].

    Args:
        rng: Draws one angle for each lattice point, row by row.
        shape: Height and width.
        periods: Lattice cells along the height and the width.
    """
    (height, width), (cells_y, cells_x) = shape, periods
    angles = rng.random((cells_y + 1, cells_x + 1), dtype=np.float32) * np.float32(2 * math.pi)
    gradients_y, gradients_x = np.sin(angles), np.cos(angles)
    y = np.arange(height, dtype=np.float32) * np.float32(cells_y / height)
    x = np.arange(width, dtype=np.float32) * np.float32(cells_x / width)
    row, column = y.astype(np.int64), x.astype(np.int64)
    in_y, in_x = (y - row)[:, None], (x - column)[None]

    def corner(down: int, right: int) -> Floats:
        at = np.ix_(row + down, column + right)
        return np.asarray(
            gradients_x[at] * (in_x - right) + gradients_y[at] * (in_y - down), np.float32
        )

    fade_y, fade_x = _fade(in_y), _fade(in_x)
    top = corner(0, 0) * (1 - fade_x) + corner(0, 1) * fade_x
    bottom = corner(1, 0) * (1 - fade_x) + corner(1, 1) * fade_x
    return np.asarray(math.sqrt(2) * (top * (1 - fade_y) + bottom * fade_y), np.float32)


def perlin_mask(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    exponents: tuple[int, int] = (0, 6),
    threshold: float = 0.5,
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


def _fade(t: Floats) -> Floats:
    """Perlin's smooth step, 6t⁵ − 15t⁴ + 10t³."""
    return t * t * t * (t * (t * 6 - 15) + 10)


def _rotate(noise: Floats, degrees: float) -> Floats:
    height, width = noise.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(noise, turn, (width, height)), np.float32)
