"""Procedural textures: material for synthetic defects where no texture folder is at hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from threecad.errors import UsageError
from threecad.procedural.fields import (
    Field,
    Stream,
    direction,
    fractal,
    lattice_noise,
    length,
    noise,
    ramp,
    unit,
    wave,
)

__all__ = ["texture"]

Pattern = Callable[[Stream, int], Field]


def texture(index: int, side: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draw one of an endless series of textures of varied structure, scale, hue and contrast.

    Args:
        index: Which texture, from 0. Successive ones differ in structure.
        side: Height and width in pixels.
        seed: Random seed.

    Returns:
        (side, side, 3) uint8, the same on every machine.

    Raises:
        UsageError: If ``index`` is negative or ``side`` is below 8.
    """
    if index < 0 or side < 8:
        raise UsageError(
            f"texture({index}, {side}): expected an index of 0 or more and a side of 8 or more."
        )
    stream = Stream("3cad texture 1", seed, index)
    level = PATTERNS[index % len(PATTERNS)](stream, side)
    if stream.chance(0.3):  # two structures in one picture
        other = stream.choice(PATTERNS)(stream, side)
        level = level + stream.real(0.2, 0.6) * other
    low, high = float(np.min(level)), float(np.max(level))
    level = (level - low) * (1.0 / max(high - low, 1e-9))
    colours = _palette(stream)
    image = _coloured(level, colours)
    image *= 1.0 + stream.real(0.0, 0.25) * noise(stream, (side, side), 0.45 * side)[:, :, None]
    image += stream.real(0.0, 0.05) * stream.normal(side, side)[:, :, None]
    return np.floor(unit(image) * 255.0 + 0.5).astype(np.uint8)


def _palette(stream: Stream) -> list[Field]:
    """Two to four colours: greys, shades of one hue, or any."""
    kind, count = stream.integer(0, 4), stream.integer(2, 5)
    base, span = stream.uniform(3) * 0.5 + 0.5, stream.real(0.25, 1.0)
    colours = []
    for i in range(count):
        level = 0.5 + span * ((i / (count - 1)) - 0.5) + stream.real(-0.1, 0.1)
        if kind == 0:
            colour = np.full(3, level)
        elif kind == 1:
            colour = level * (0.35 + base)
        else:
            colour = level + span * 0.7 * stream.uniform(3)
        colours.append(unit(colour))
    return colours if stream.chance(0.5) else colours[::-1]


def _coloured(level: Field, colours: list[Field]) -> Field:
    """Colours between those of the palette, (H, W, 3) in [0, 1]."""
    image = np.zeros((*level.shape, 3)) + colours[0]
    steps = len(colours) - 1
    for i in range(steps):
        share = unit(level * steps - i)[:, :, None]
        image += share * (colours[i + 1] - colours[i])
    return image


def _axes(stream: Stream, side: int, cell: float) -> tuple[Field, Field]:
    """Coordinates in cells of `cell` pixels, turned by chance."""
    c, s = direction(stream.real())
    across = np.arange(side, dtype=np.float64)[None, :] / cell
    down = np.arange(side, dtype=np.float64)[:, None] / cell
    shift = stream.real(64.0, 100.0)
    return c * across + s * down + shift, c * down - s * across + shift


def _cell(stream: Stream, side: int, low: float, high: float) -> float:
    """A cell side in pixels between two shares of the picture, more often a small one."""
    chance = stream.real()
    return max(side * (low + (high - low) * chance * chance), 2.0)


def _clouds(stream: Stream, side: int) -> Field:
    return fractal(stream, (side, side), _cell(stream, side, 0.06, 0.4), 4)


def _grains(stream: Stream, side: int) -> Field:
    fine = noise(stream, (side, side), stream.real(1.0, 3.0))
    return fine + stream.real(0.2, 1.0) * noise(stream, (side, side), 0.12 * side)


def _stripes(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, _cell(stream, side, 0.02, 0.15))
    warp = stream.real(0.0, 0.8) * lattice_noise(stream, u * 0.2, v * 0.2)
    return ramp(0.5 + stream.real(0.6, 4.0) * wave(u + warp))


def _brushed(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, stream.real(1.0, 2.5))
    return lattice_noise(stream, u * stream.real(0.01, 0.06), v)


def _distances(stream: Stream, u: Field, v: Field) -> tuple[Field, Field, Field]:
    """Distance to the nearest and second random point, and a random value of the nearest."""
    points = stream.uniform(3, 4096)
    left, top = np.floor(u), np.floor(v)
    nearest = np.full(u.shape, 9.0)
    second, value = nearest.copy(), np.zeros(u.shape)
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            column, row = left + i, top + j
            index = ((row.astype(np.int64) & 63) << 6) | (column.astype(np.int64) & 63)
            px, py = points[0].take(index), points[1].take(index)
            far = length(column + 0.5 + 0.45 * px - u, row + 0.5 + 0.45 * py - v)
            closer = far < nearest
            second = np.where(closer, nearest, np.minimum(second, far))
            value = np.where(closer, points[2].take(index), value)
            nearest = np.where(closer, far, nearest)
    return nearest, second, value


def _cells(stream: Stream, side: int) -> Field:
    nearest, _, value = _distances(stream, *_axes(stream, side, _cell(stream, side, 0.05, 0.25)))
    return value + stream.real(0.0, 1.0) * nearest


def _cracks(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, _cell(stream, side, 0.08, 0.3))
    warp = 0.25 * lattice_noise(stream, u * 2.0, v * 2.0)
    nearest, second, value = _distances(stream, u + warp, v - warp)
    return ramp((second - nearest) * stream.real(3.0, 12.0)) + 0.2 * value


def _bubbles(stream: Stream, side: int) -> Field:
    nearest, _, value = _distances(stream, *_axes(stream, side, _cell(stream, side, 0.05, 0.2)))
    radius = 0.32 + 0.12 * value
    return np.asarray(ramp((radius - nearest) * 8.0) * (0.5 + nearest))


def _blotches(stream: Stream, side: int) -> Field:
    cloud = fractal(stream, (side, side), _cell(stream, side, 0.08, 0.35), 3)
    levels = stream.integer(2, 5)
    return np.floor(unit(0.5 + 0.5 * cloud) * levels) + 0.15 * cloud


def _weave(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, _cell(stream, side, 0.03, 0.12))
    across, down = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
    half = (np.floor(u) + np.floor(v)) * 0.5
    over = (half == np.floor(half)) * 1.0
    thread = over * across + (1.0 - over) * down
    along = over * down + (1.0 - over) * across
    weave: Field = (1.0 - 4.0 * thread * thread) * (1.0 - 2.0 * along * along) + 0.2 * over
    return weave


def _bricks(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, _cell(stream, side, 0.06, 0.2))
    row = np.floor(v)
    u = u * 0.5 + 0.5 * (row - 2.0 * np.floor(row * 0.5))
    across, down = u - np.floor(u), v - row
    border = np.minimum(np.minimum(across, 1.0 - across) * 2.0, np.minimum(down, 1.0 - down))
    return ramp(border * 10.0) + 0.4 * lattice_noise(stream, np.floor(u), row)


def _rings(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, _cell(stream, side, 0.3, 0.8))
    warp = stream.real(0.1, 0.5) * lattice_noise(stream, u * 2.0, v * 2.0)
    u, v = u - stream.real(64.0, 100.0), v - stream.real(64.0, 100.0)
    return wave((length(u, v * stream.real(0.1, 1.0)) + warp) * stream.real(2.0, 7.0))


def _marble(stream: Stream, side: int) -> Field:
    u, _ = _axes(stream, side, _cell(stream, side, 0.1, 0.4))
    veins = wave(u + stream.real(0.5, 1.5) * fractal(stream, (side, side), 0.3 * side, 4))
    return 1.0 - np.sqrt(np.abs(veins))


def _dots(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, _cell(stream, side, 0.04, 0.15))
    far = length(u - np.floor(u) - 0.5, v - np.floor(v) - 0.5)
    return ramp((stream.real(0.2, 0.45) - far) * stream.real(3.0, 15.0))


def _chequers(stream: Stream, side: int) -> Field:
    u, v = _axes(stream, side, _cell(stream, side, 0.06, 0.25))
    bend = stream.real(0.0, 0.3)
    u = u + bend * lattice_noise(stream, u * 0.5, v * 0.5)
    return ramp(0.5 + 6.0 * wave(u * 0.5) * wave(v * 0.5))


def _hatching(stream: Stream, side: int) -> Field:
    lines = np.zeros((side, side))
    for _ in range(stream.integer(2, 5)):
        u, v = _axes(stream, side, _cell(stream, side, 0.03, 0.12))
        near = np.abs(u - np.floor(u) - 0.5) + 0.08 * lattice_noise(stream, u, v * 0.2)
        lines = np.maximum(lines, ramp((0.2 - near) * 8.0))
    return lines


def _scratches(stream: Stream, side: int) -> Field:
    lines = 0.3 * fractal(stream, (side, side), 0.2 * side, 2)
    rows = np.arange(side, dtype=np.float64)[:, None]
    columns = np.arange(side, dtype=np.float64)[None, :]
    for _ in range(stream.integer(8, 30)):
        c, s = direction(stream.real())
        x, y = columns - stream.real(0.0, side), rows - stream.real(0.0, side)
        along, across = c * x + s * y, c * y - s * x
        bow = across - along * along * (stream.real(-0.8, 0.8) / side)
        line = unit(stream.real(0.6, 2.0) - np.abs(bow))
        lines = lines + line * (np.abs(along) < stream.real(0.05, 0.5) * side) * stream.real(0.4, 1)
    return lines


PATTERNS: tuple[Pattern, ...] = (
    _clouds, _stripes, _cells, _grains, _weave, _blotches, _cracks, _rings, _dots, _brushed,
    _marble, _bricks, _bubbles, _chequers, _hatching, _scratches,
)  # fmt: skip
"""The structures, in the order in which successive indices use them."""
