"""Where a defect lies: places on the part, coordinates round them, outlines of defects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from threecad.procedural.fields import Field, Stream, direction, length, noise, unit

if TYPE_CHECKING:
    import numpy.typing as npt

    from threecad.procedural.scene import Scene


def thickness(scene: Scene) -> float:
    """Pixels per design unit, never so few that a line would vanish."""
    return max(scene.scale, 0.9)


def offsets(scene: Scene, row: float, column: float) -> tuple[Field, Field]:
    """Pixel distances across and down from a place."""
    rows = np.arange(scene.shape[0], dtype=np.float64)[:, None] - row
    columns = np.arange(scene.shape[1], dtype=np.float64)[None, :] - column
    return columns + 0.0 * rows, rows + 0.0 * columns


def axes(scene: Scene, stream: Stream, spot: tuple[float, float]) -> tuple[Field, Field]:
    """Pixel distances along and across a random direction through `spot`."""
    across, down = offsets(scene, *spot)
    c, s = direction(stream.real())
    return c * across + s * down, c * down - s * across


def blob(
    scene: Scene, stream: Stream, spot: tuple[float, float], radius: float, rough: float
) -> Field:
    """1 at `spot`, 0 at about `radius` pixels from it, negative outside; an irregular oval."""
    u, v = axes(scene, stream, spot)
    stretch = stream.real(0.75, 1.35)
    ragged = noise(stream, scene.shape, max(radius * 0.8, 2.0))
    return 1.0 - length(u * stretch, v / stretch) / radius * (1.0 + rough * ragged)


def segment(
    scene: Scene,
    row: float,
    column: float,
    heading: tuple[float, float],
    reach: float,
    width: float,
) -> Field:
    """Share of each pixel within `width` of a straight line."""
    across, down = offsets(scene, row, column)
    along = np.minimum(np.maximum(across * heading[0] + down * heading[1], 0.0), reach)
    return unit(width - length(across - along * heading[0], down - along * heading[1]) + 0.5)


def on_part(
    scene: Scene, stream: Stream, margin: float, *, coloured: bool = False
) -> tuple[float, float]:
    """A random pixel of the part, `margin` pixels from its outlines where there is such a one."""
    inner = _inner(scene.shape)
    surface = inner & (scene.matter > 0.9)
    if coloured:  # on the copper or on the coat, not on the steel
        red, green, blue = scene.albedo
        hue = np.maximum(red, green) > 1.35 * blue + 0.03
        surface = (surface & hue) if np.any(surface & hue) else surface
    for limit in (margin, 2.0, 0.0):
        if np.any(place := surface & (scene.edge < -limit)):
            return _pick(place, stream)
    return _pick(inner, stream)


def on_edge(scene: Scene, stream: Stream) -> tuple[float, float]:
    """A random pixel on an outline of the part."""
    inner = _inner(scene.shape)
    outline = inner & (np.abs(scene.edge) < 0.8)
    return _pick(outline if np.any(outline) else inner, stream)


def _inner(shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels at least a sixteenth of the image away from its border."""
    inner = np.zeros(shape, dtype=np.bool_)
    rows, columns = shape[0] // 16, shape[1] // 16
    inner[rows : shape[0] - rows, columns : shape[1] - columns] = True
    return inner


def _pick(place: npt.NDArray[np.bool_], stream: Stream) -> tuple[float, float]:
    """A random pixel of `place`; about the same spot of the part at every image size."""
    rows, columns = place.shape
    for _ in range(32):
        row, column = stream.real(0.0, rows), stream.real(0.0, columns)
        if place[int(row), int(column)]:
            return float(int(row)), float(int(column))
    candidates = np.flatnonzero(place)
    across = (candidates % columns) - column
    down = (candidates // columns) - row
    nearest = int(candidates[np.argmin(across * across + down * down)])
    return float(nearest // columns), float(nearest % columns)


def displaced(shape: tuple[int, int], down: Field, right: Field) -> tuple[Field, Field]:
    """Rows and columns from which pixels come when the picture moves `down` and `right`."""
    rows = np.arange(shape[0], dtype=np.float64)[:, None] - down
    columns = np.arange(shape[1], dtype=np.float64)[None, :] - right
    return (
        np.minimum(np.maximum(rows, 0.0), shape[0] - 1.001),
        np.minimum(np.maximum(columns, 0.0), shape[1] - 1.001),
    )


def sampled(field: Field, source: tuple[Field, Field]) -> Field:
    """Bilinear samples of `field` at rows and columns `source`."""
    top, left = np.floor(source[0]), np.floor(source[1])
    down, right = source[0] - top, source[1] - left
    first = top.astype(np.int64) * field.shape[1] + left.astype(np.int64)
    flat = field.ravel()
    above = flat[first] * (1.0 - right) + flat[first + 1] * right
    first = first + field.shape[1]
    below = flat[first] * (1.0 - right) + flat[first + 1] * right
    return np.asarray(above * (1.0 - down) + below * down)
