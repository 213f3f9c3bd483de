"""Random numbers and fields over the image plane, the same to the last bit on every machine.

Only operations that IEEE 754 rounds correctly are used (``+ - * / sqrt``, comparisons, floor),
never sine, exponential or a sum whose order is open. The only source of chance is the raw 64-bit
output of Philox, which NumPy promises not to change (its distributions it may).
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Field = npt.NDArray[np.float64]
T = TypeVar("T")


class Stream:
    """A counter-based stream of random numbers named by its key.

    Streams of different keys are independent, so an image does not depend on the images before it.
    Single numbers and arrays come from different counters, so that single ones, which say what is
    where, are the same at every image size.
    """

    def __init__(self, *key: object) -> None:
        digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
        self._single = np.random.Philox(key=int.from_bytes(digest[:16], "big"))
        self._arrays = np.random.Philox(key=int.from_bytes(digest[16:], "big"))

    def _raw(self, count: int) -> npt.NDArray[np.uint64]:
        return np.asarray(self._arrays.random_raw(count), dtype=np.uint64)

    def real(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        return low + (high - low) * ((int(self._single.random_raw()) >> 11) / 9007199254740992.0)

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high)."""
        return low + ((int(self._single.random_raw()) * (high - low)) >> 64)

    def sign(self) -> float:
        """1 or -1."""
        return 1.0 if self.chance(0.5) else -1.0

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.real() < probability

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.integer(0, len(items))]

    def draw(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items, in random order."""
        left = list(items)
        return [left.pop(self.integer(0, len(left))) for _ in range(count)]

    def uniform(self, *shape: int) -> Field:
        """Independent numbers in [-1, 1)."""
        bits = self._raw(math.prod(shape)) >> np.uint64(11)
        numbers: Field = bits.astype(np.float64) * (1.0 / 4503599627370496.0) - 1.0
        return numbers.reshape(shape)

    def normal(self, *shape: int) -> Field:
        """Independent numbers of mean 0 and variance 1: the sum of four uniform ones."""
        bits, low = self._raw(math.prod(shape)), np.uint64(0xFFFF)
        total = bits & low
        for shift in (16, 32, 48):
            total = total + ((bits >> np.uint64(shift)) & low)
        numbers: Field = (total.astype(np.float64) - 131070.0) * (1.0 / 37837.2)
        return numbers.reshape(shape)


def direction(turn: float) -> tuple[float, float]:
    """The unit vector near the angle `turn` (in turns), by the rational parametrisation."""
    quarter = math.floor(turn * 4.0)
    part = turn * 4.0 - quarter
    half = part * (0.7854 + 0.2146 * part * part)  # tan(pi/4 part), within 0.6 %
    scale = 1.0 / (1.0 + half * half)
    c, s = (1.0 - half * half) * scale, 2.0 * half * scale
    return ((c, s), (-s, c), (-c, -s), (s, -c))[quarter % 4]


def turns(x: Field, y: Field) -> Field:
    """The angle of each (x, y) in turns, in [0, 1], within 0.0003."""
    across, up = np.abs(x), np.abs(y)
    z = np.minimum(across, up) / np.maximum(np.maximum(across, up), 1e-9)
    angle = z * (0.125 + (1.0 - z) * (0.038945 + 0.010552 * z))
    angle = np.where(up > across, 0.25 - angle, angle)
    angle = np.where(x < 0, 0.5 - angle, angle)
    return np.where(y < 0, 1.0 - angle, angle)


def wave(t: Field) -> Field:
    """Bhaskara's approximation of sin(2 pi t)."""
    phase = 2.0 * (t - np.floor(t))
    half = np.where(phase < 1.0, phase, phase - 1.0)
    product = half * (1.0 - half)
    arch = 16.0 * product / (5.0 - 4.0 * product)
    return np.where(phase < 1.0, arch, -arch)


def ramp(t: Field) -> Field:
    """Smooth step: 0 below 0, 1 above 1."""
    t = np.minimum(np.maximum(t, 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def unit(t: Field) -> Field:
    """`t` limited to [0, 1]."""
    return np.minimum(np.maximum(t, 0.0), 1.0)


def dome(t: Field) -> Field:
    """Height of a round top: 0 at its border, t = 0, and 1 in its middle, t = 1."""
    return np.sqrt(unit(t * (2.0 - t)))


def length(x: Field, y: Field) -> Field:
    """The length of each vector (x, y)."""
    return np.sqrt(x * x + y * y)  # np.hypot is the C library's, hence not the same everywhere


def noise(stream: Stream, shape: tuple[int, int], cell: float, stretch: float = 1.0) -> Field:
    """Smooth noise about [-1, 1]: a random lattice under a quadratic B-spline.

    Cells are `cell` pixels high and `cell * stretch` pixels wide.
    """
    down, weights_down, rows = _spline(shape[0], cell, stream.real())
    right, weights_right, columns = _spline(shape[1], cell * stretch, stream.real())
    lattice = stream.uniform(rows, columns)
    tall = _mix(lattice[down + i] * weights_down[i][:, None] for i in range(3))
    return 1.7 * _mix(tall[:, right + i] * weights_right[i] for i in range(3))


def fractal(stream: Stream, shape: tuple[int, int], cell: float, octaves: int = 3) -> Field:
    """Noise of halving cells and amplitudes."""
    total = noise(stream, shape, cell)
    for octave in range(1, octaves):
        scale = 1.0 / (1 << octave)
        total = total + scale * noise(stream, shape, max(cell * scale, 1.0))
    return total


def lattice_noise(stream: Stream, u: Field, v: Field) -> Field:
    """Noise in [-1, 1] at the coordinates (u, v), one lattice cell a unit (repeats after 128)."""
    lattice = stream.uniform(128, 128).ravel()
    left, top = np.floor(u), np.floor(v)
    across, down = ramp(u - left), ramp(v - top)
    column, row = left.astype(np.int64), top.astype(np.int64)
    first, second = column & 127, (column + 1) & 127
    upper, lower = (row & 127) << 7, ((row + 1) & 127) << 7
    above = lattice[upper | first] * (1.0 - across) + lattice[upper | second] * across
    below = lattice[lower | first] * (1.0 - across) + lattice[lower | second] * across
    return np.asarray(above * (1.0 - down) + below * down)


def blur(field: Field) -> Field:
    """The 3x3 binomial filter over the last two axes; the border repeats the edge pixel."""
    for axis in (-2, -1):
        before, after = _neighbours(field, axis)
        field = (before + after) * 0.25 + field * 0.5
    return field


def slopes(field: Field) -> tuple[Field, Field]:
    """Central differences along x and y."""
    up, down = _neighbours(field, -2)
    left, right = _neighbours(field, -1)
    return (right - left) * 0.5, (down - up) * 0.5


def _neighbours(field: Field, axis: int) -> tuple[Field, Field]:
    """The fields of the pixels before and after along `axis`."""

    def part(start: int | None, stop: int | None) -> Field:
        index = [slice(None)] * field.ndim
        index[axis] = slice(start, stop)
        return field[tuple(index)]

    before = np.concatenate([part(None, 1), part(None, -1)], axis)
    after = np.concatenate([part(1, None), part(-1, None)], axis)
    return before, after


def _spline(side: int, cell: float, phase: float) -> tuple[npt.NDArray[np.int64], list[Field], int]:
    position = np.arange(side, dtype=np.float64) * (1.0 / cell) + phase
    index = np.floor(position)
    t = position - index
    weights = [0.5 * (1.0 - t) * (1.0 - t), 0.75 - (t - 0.5) * (t - 0.5), 0.5 * t * t]
    return index.astype(np.int64), weights, int(index[-1]) + 3


def _mix(terms: Iterable[Field]) -> Field:
    first, second, third = terms
    return first + second + third
