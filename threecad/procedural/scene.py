"""A part under a lamp and a camera: relief, colour and coverage, and how they become an image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from threecad.procedural.fields import (
    Field,
    Stream,
    blur,
    direction,
    fractal,
    lattice_noise,
    length,
    noise,
    ramp,
    slopes,
    unit,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = tuple[float, float, float]

DESIGN = 256.0
"""Parts are drawn in design units: the longer side of the largest image is 256 of them."""


@dataclass
class Scene:
    """What the camera sees, one value a pixel.

    Attributes:
        scale: Pixels per design unit.
        x: Design coordinate across the part, rotated with it; 0 near the middle unless moved.
        y: Design coordinate down the part.
        edge: Distance in pixels to the nearest outline of the part, negative on the part.
        matter: Share of the pixel that the part covers, 0 to 1.
        height: Relief in pixels.
        albedo: Linear colour, (3, H, W).
        gloss: Strength of the mirror-like share of the reflected light.
        openings: Middles (row, column) and radii in pixels of the holes.
    """

    scale: float
    x: Field
    y: Field
    edge: Field
    matter: Field
    height: Field
    albedo: Field
    gloss: Field
    openings: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.edge.shape[0], self.edge.shape[1]

    def copy(self) -> Scene:
        """A scene whose appearance can change without changing this one's."""
        return replace(
            self,
            edge=self.edge.copy(),
            matter=self.matter.copy(),
            height=self.height.copy(),
            albedo=self.albedo.copy(),
            gloss=self.gloss.copy(),
        )

    def move(self, x: float, y: float) -> None:
        """Make the design position (x, y) the origin."""
        self.x, self.y = self.x - x, self.y - y

    def cover(self, distance: Field) -> Field:
        """Share of each pixel inside the outline `distance` (design units, negative inside)."""
        return unit(0.5 - distance * self.scale)

    def paint(self, share: Field, colour: Sequence[float] | Field) -> None:
        """Lay `colour`, one or one a pixel (3, H, W), over the share (H, W) of each pixel."""
        for channel, level in zip(self.albedo, colour, strict=True):
            channel += share * (level - channel)

    def tint(self, factor: Field) -> None:
        """Multiply the colour by `factor` (H, W)."""
        self.albedo *= factor

    def cut(self, distance: Field) -> None:
        """Keep only the part inside the outline `distance` (design units)."""
        self.matter *= self.cover(distance)
        self.edge = np.maximum(self.edge, distance * self.scale)

    def join(self, distance: Field) -> None:
        """Add to the part what lies inside the outline `distance` (design units)."""
        self.matter = np.maximum(self.matter, self.cover(distance))
        self.edge = np.minimum(self.edge, distance * self.scale)

    def chamfer(self, distance: Field, width: float, drop: float = 1.0) -> None:
        """Bevel the inside of the outline `distance` over `width` design units."""
        self.height -= unit(1.0 + distance / width) * (width * self.scale * drop)

    def sink(self, distance: Field, depth: float, wall: float = 1.0) -> None:
        """Lower what lies inside the outline `distance` by `depth`; the wall is `wall` wide."""
        self.height -= ramp(0.5 - distance / wall) * (depth * self.scale)

    def drill(self, distance: Field, *middles: tuple[float, float], radius: float) -> None:
        """Cut the holes inside the outline `distance`, about the design positions `middles`."""
        self.cut(-distance)
        for middle in middles:
            self.openings.append((*self.pixel(*middle), radius * self.scale))

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Row and column of the design position (x, y)."""
        c = float(self.x[0, 1] - self.x[0, 0]) * self.scale
        s = float(self.x[1, 0] - self.x[0, 0]) * self.scale
        x, y = (x - float(self.x[0, 0])) * self.scale, (y - float(self.y[0, 0])) * self.scale
        return s * x + c * y, c * x - s * y

    def brush(self, stream: Stream, strength: float, streak: float = 60.0) -> None:
        """Draw the streaks of brushed metal along x."""
        along = self.x / streak + 32.0
        fine = lattice_noise(stream, along, self.y * (self.scale / 1.1) + 7.0)
        broad = lattice_noise(stream, along * 0.4, self.y * 0.45)
        self.tint(1.0 + strength * (fine * 0.7 + broad))
        self.height += fine * (strength * 0.9)

    def blast(self, stream: Stream, strength: float) -> None:
        """Draw the grain of blasted metal."""
        grain = stream.normal(*self.shape) * 0.6
        grain = grain + blur(grain)
        cloud = noise(stream, self.shape, 16.0 * self.scale)
        self.tint(1.0 + strength * (grain + 0.35 * cloud))
        self.height += grain * (strength * 0.8)


def blank(stream: Stream, shape: tuple[int, int], scale: float, colour: Colour) -> Scene:
    """An endless flat plate of one colour, slightly shifted, turned and scaled by chance."""
    c, s = direction(stream.real(-0.008, 0.008))
    zoom = stream.real(0.975, 1.025) / scale
    shift_x, shift_y = stream.real(-4.0, 4.0), stream.real(-4.0, 4.0)
    across = (np.arange(shape[1], dtype=np.float64) - (shape[1] - 1) * 0.5)[None, :] * zoom
    down = (np.arange(shape[0], dtype=np.float64) - (shape[0] - 1) * 0.5)[:, None] * zoom
    return Scene(
        scale=1.0 / zoom,
        x=c * across + s * down + shift_x,
        y=c * down - s * across + shift_y,
        edge=np.full(shape, -1e4),
        matter=np.ones(shape),
        height=np.zeros(shape),
        albedo=np.ones((3, *shape)) * np.asarray(colour)[:, None, None],
        gloss=np.full(shape, 0.3),
    )


def circle(x: Field, y: Field, radius: float) -> Field:
    """Distance to a circle about the origin, negative inside."""
    return length(x, y) - radius


def box(x: Field, y: Field, half_width: float, half_height: float, corner: float = 0.0) -> Field:
    """Distance to a rectangle about the origin with rounded corners, negative inside."""
    across = np.abs(x) - (half_width - corner)
    down = np.abs(y) - (half_height - corner)
    outside = length(np.maximum(across, 0.0), np.maximum(down, 0.0))
    return outside + np.minimum(np.maximum(across, down), 0.0) - corner


@dataclass(frozen=True)
class Exposure:
    """Lamp, lens and sensor of one photograph; everything that varies but belongs to no defect."""

    light: tuple[float, float, float]
    illumination: Field
    backdrop: Field
    grain: Field

    @classmethod
    def draw(cls, stream: Stream, scene: Scene, backdrop: float = 0.004) -> Exposure:
        """Set up the photograph of `scene`."""
        turn = stream.real(0.58, 0.67)  # from the upper left
        lx, ly = direction(turn)
        tilt = stream.real(0.55, 0.75)
        norm = 1.0 / math.sqrt(1.0 + tilt * tilt)
        shape, reach = scene.shape, DESIGN * scene.scale
        rows = (np.arange(shape[0], dtype=np.float64) / reach - 0.25)[:, None]
        columns = (np.arange(shape[1], dtype=np.float64) / reach - 0.25)[None, :]
        slope_x, slope_y = stream.real(-0.25, 0.1), stream.real(-0.25, 0.1)
        cloud = noise(stream, shape, 90.0 * scene.scale)
        illumination = stream.real(0.9, 1.08) * (
            1.0 + slope_x * columns + slope_y * rows + 0.05 * cloud
        )
        luminance = stream.normal(*shape) * stream.real(0.8, 1.5)
        grain = luminance + stream.normal(3, *shape) * 0.7
        glow = backdrop * (1.0 + 0.5 * fractal(stream, shape, 60.0 * scene.scale, 2))
        return cls((lx * tilt * norm, ly * tilt * norm, norm), illumination, glow, grain)

    def take(self, scene: Scene) -> npt.NDArray[np.uint8]:
        """Photograph `scene`: (H, W, 3) uint8."""
        gx, gy = slopes(scene.height)
        steepness = 1.0 / np.sqrt(1.0 + gx * gx + gy * gy)
        lx, ly, lz = self.light
        facing = (lz - gx * lx - gy * ly) * steepness
        diffuse = 0.3 + (0.7 / lz) * np.maximum(facing, 0.0)
        mirror = _mirror(self.light, gx, gy, steepness)
        flat = (diffuse + scene.gloss * mirror) * self.illumination
        linear = scene.albedo * (flat * scene.matter) + (1.0 - scene.matter) * self.backdrop
        levels = np.sqrt(unit(blur(linear))) * 255.0 + self.grain
        pixels = (np.minimum(np.maximum(levels, 0.0), 255.0) + 0.5).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))


def _mirror(light: tuple[float, float, float], gx: Field, gy: Field, steepness: Field) -> Field:
    """Blinn's highlight to the 16th power, 0 on the flat."""
    lx, ly, lz = light[0], light[1], light[2] + 1.0
    norm = 1.0 / math.sqrt(lx * lx + ly * ly + lz * lz)
    highlight = np.maximum((lz - gx * lx - gy * ly) * norm * steepness, 0.0)
    level = lz * norm
    for _ in range(4):
        highlight, level = highlight * highlight, level * level
    return highlight - level
