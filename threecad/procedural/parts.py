"""The eight parts of 3CAD, drawn from distances to outlines (design units, 0 in mid-image)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from threecad.procedural.fields import (
    Field,
    Stream,
    direction,
    dome,
    lattice_noise,
    length,
    noise,
    ramp,
    turns,
    unit,
    wave,
)
from threecad.procedural.scene import Colour, Scene, blank, box, circle

Part = Callable[[Stream, tuple[int, int], float], Scene]

_ALUMINIUM: Colour = (0.40, 0.41, 0.42)
_STEEL: Colour = (0.30, 0.31, 0.33)
_FIVE = range(-2, 3)


def camera_cover(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """A blasted plate with three turned lens seats, a flash and a microphone hole."""
    scene = blank(stream, shape, scale, _ALUMINIUM)
    if min(shape) < 200 * scale:  # a small image shows one seat
        scene.move(28.0, 30.0)
    x, y = scene.x, scene.y
    outline = box(x, y, 112.0, 112.0, 40.0)
    scene.blast(stream, 0.10)
    scene.cut(outline)
    scene.chamfer(outline, 4.0, 0.7)
    bevel = scene.cover(outline) * (1.0 - scene.cover(outline + 4.0))
    scene.paint(bevel, (0.55, 0.56, 0.57))
    for cx, cy in ((-44.0, -46.0), (-44.0, 46.0), (46.0, 0.0)):
        _lens_seat(stream, scene, cx, cy)
    flash, microphone = circle(x - 50.0, y + 64.0, 10.0), circle(x - 50.0, y - 66.0, 4.0)
    for hole, middle, radius in (
        (flash, (50.0, -64.0), 10.0),
        (microphone, (50.0, 66.0), 4.0),
    ):
        scene.sink(hole - 3.0, 2.0, 2.0)
        scene.drill(hole, middle, radius=radius)
    return scene


def _lens_seat(stream: Stream, scene: Scene, cx: float, cy: float) -> None:
    x, y = scene.x - cx, scene.y - cy
    radius = length(x, y)
    rim = radius - 38.0
    scene.height += ramp(0.5 - rim / 3.0) * (3.0 * scene.scale)
    scene.height -= ramp(0.5 - (radius - 33.0) / 5.0) * (5.0 * scene.scale)
    turned = scene.cover(rim)
    scene.paint(turned, (0.47, 0.48, 0.49))
    turn = turns(x, y)
    groove = wave(radius * 0.4) * 0.03 + 0.10 * lattice_noise(stream, turn * 6.0, radius * 1.1)
    glint = 0.16 * wave(turn * 2.0 + 0.18)  # a turned face reflects in two opposite fans
    scene.tint(1.0 + turned * (groove + glint))
    scene.gloss += turned * 0.35
    ledge = scene.cover(radius - 30.0)
    scene.paint(ledge, (0.10, 0.10, 0.105))
    scene.drill(radius - 25.0, (cx, cy), radius=25.0)


def tablet(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """The brushed long side of a tablet housing: speaker holes, connector slot, inner ledge."""
    scene = blank(stream, shape, scale, (0.38, 0.385, 0.39))
    if shape[0] > shape[1]:
        scene.x, scene.y = scene.y, -scene.x
    x, y = scene.x, scene.y
    scene.brush(stream, 0.13)
    outline = np.abs(y + 6.0) - 72.0
    scene.cut(outline)
    rounding = unit((y + 78.0) * (-1.0 / 26.0) + 1.0)  # the outer side is a quarter round
    scene.height -= rounding * rounding * (13.0 * scene.scale)
    scene.gloss += 0.5 * rounding
    scene.tint(1.0 + 0.25 * wave(y * 0.012 + 0.08))  # a lamp stretched along the brushing
    scene.sink(22.0 - y, 3.0, 1.5)
    scene.sink(48.0 - y, 4.0, 1.5)
    scene.paint(scene.cover(48.0 - y), (0.20, 0.205, 0.21))
    for middle in (-73.0, 73.0):
        hole = circle(x - middle - _cell((x - middle) / 13.0, 3) * 13.0, y + 24.0, 3.6)
        scene.sink(hole - 1.2, 0.8, 1.0)
        scene.drill(hole, *((middle + 13.0 * i, -24.0) for i in range(-3, 4)), radius=3.6)
    slot = box(x, y + 24.0, 15.0, 5.5, 5.5)
    scene.sink(slot - 2.0, 1.2, 1.5)
    scene.drill(slot, (0.0, -24.0), radius=5.5)
    for cx in (-88.0, 0.0, 88.0):
        pad = circle(x - cx, y - 38.0, 11.0)
        scene.height += ramp(0.5 - pad / 1.5) * (3.0 * scene.scale)
        scene.drill(pad + 6.5, (cx, 38.0), radius=4.5)
    return scene


def middle_frame(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """A milled frame: windows with ledges, screw bosses, cutter paths."""
    scene = blank(stream, shape, scale, (0.36, 0.37, 0.385))
    x, y = scene.x, scene.y
    scene.brush(stream, 0.08, 25.0)
    outline = box(x, y, 114.0, 160.0, 16.0)
    scene.cut(outline)
    scene.chamfer(outline, 3.0)
    windows = (
        (-34.0, -34.0, 58.0, 40.0),
        (70.0, -50.0, 24.0, 24.0),
        (-62.0, 62.0, 30.0, 34.0),
        (40.0, 62.0, 54.0, 34.0),
        (70.0, 3.0, 24.0, 12.0),
    )
    for cx, cy, half_width, half_height in windows:
        window = box(x - cx, y - cy, half_width, half_height, 9.0)
        ledge = window - 6.0
        scene.sink(ledge, 3.5, 1.5)
        shelf = scene.cover(ledge)
        scene.paint(shelf, (0.27, 0.275, 0.285))
        path = wave(window * 0.42) * 0.05 + 0.06 * lattice_noise(stream, x * 0.05, window * 1.2)
        scene.tint(1.0 + shelf * path)
        scene.cut(-window)
    for cx, cy in ((-100.0, -88.0), (34.0, 17.0), (-24.0, 18.0), (104.0, -88.0), (-24.0, 108.0)):
        boss = circle(x - cx, y - cy, 10.0)
        top = scene.cover(boss)
        scene.height += ramp(0.5 - boss / 1.6) * (3.0 * scene.scale)
        scene.join(boss)
        scene.paint(top, (0.45, 0.46, 0.47))
        scene.tint(1.0 + top * (0.12 * wave(turns(x - cx, y - cy) * 2.0 + 0.2)))
        scene.drill(boss + 5.5, (cx, cy), radius=4.5)
    return scene


def new_tablet(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """The blasted back corner of a tablet: polished bevel, camera, connector contacts."""
    scene = blank(stream, shape, scale, (0.255, 0.27, 0.30))
    scene.move(0.5 * shape[1] / scale - 26.0, 24.0 - 0.5 * shape[0] / scale)  # upper right corner
    x, y = scene.x, scene.y
    scene.blast(stream, 0.11)
    outline = box(x + 200.0, y - 200.0, 200.0, 200.0, 52.0)
    scene.cut(outline)
    scene.chamfer(outline, 5.0, 0.55)
    bevel = scene.cover(outline) * (1.0 - scene.cover(outline + 5.0))
    scene.paint(bevel, (0.55, 0.57, 0.60))
    scene.gloss += bevel * 0.5
    camera = circle(x + 62.0, y - 62.0, 22.0)
    scene.sink(camera - 7.0, -2.0, 2.0)
    ring = scene.cover(camera - 5.5)
    scene.paint(ring, (0.50, 0.51, 0.53))
    scene.tint(1.0 + ring * 0.2 * wave(turns(x + 62.0, y - 62.0) * 2.0 + 0.2))
    scene.drill(camera, (-62.0, 62.0), radius=22.0)
    scene.drill(circle(x + 104.0, y - 62.0, 3.0), (-104.0, 62.0), radius=3.0)
    for i in range(3):  # contacts: sunk plastic, not holes
        contact = circle(x + 172.0 - 17.0 * i, y - 146.0, 5.5)
        scene.sink(contact - 1.0, 1.0, 1.0)
        scene.paint(scene.cover(contact), (0.62, 0.58, 0.47))
    groove = np.abs(y - 182.0) - 1.3
    scene.sink(groove, 1.2, 1.0)
    scene.paint(scene.cover(groove), (0.12, 0.125, 0.14))
    return scene


def new_middle_frame(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """The corner of a tinted phone frame: antenna bands, key slot, inner ledge and tabs."""
    scene = blank(stream, shape, scale, (0.50, 0.42, 0.325))
    scene.move(0.5 * shape[1] / scale - 20.0, 20.0 - 0.5 * shape[0] / scale)  # upper right corner
    x, y = scene.x, scene.y
    scene.blast(stream, 0.07)
    outline = box(x + 240.0, y - 240.0, 240.0, 240.0, 74.0)
    depth = -outline
    scene.cut(outline)
    rounding = unit(1.0 - depth / 18.0)
    scene.height -= rounding * rounding * (9.0 * scene.scale)
    scene.gloss += 0.35
    scene.tint(1.0 + 0.10 * wave(depth * 0.03))
    scene.sink(30.0 - depth, 3.0, 1.5)
    scene.paint(scene.cover(30.0 - depth), (0.31, 0.30, 0.285))
    path = 0.05 * wave(depth * 0.4) + 0.06 * lattice_noise(
        stream, turns(x + 240.0, y - 240.0) * 90.0, depth
    )
    scene.tint(1.0 + scene.cover(30.0 - depth) * path)
    scene.sink(43.0 - depth, 2.5, 1.5)
    for band in (np.abs(x + 108.0) - 3.0, np.abs(y - 118.0) - 3.0):
        share = scene.cover(np.maximum(band, depth - 43.0))
        scene.paint(share, (0.56, 0.55, 0.52))
        scene.gloss *= 1.0 - 0.7 * share
    inside = 56.0 - depth
    tabs = ((-74.0, 74.0), (-62.0, 190.0), (-200.0, 62.0))
    for cx, cy in tabs:
        inside = np.maximum(inside, 13.0 - length(x - cx, y - cy))
    scene.cut(-inside)
    for cx, cy in tabs:
        hole = circle(x - cx, y - cy, 4.5)
        scene.sink(hole - 2.5, 1.5, 1.5)
        scene.drill(hole, (cx, cy), radius=4.5)
    slot = box(x + 15.0, y - 170.0, 4.0, 22.0, 4.0)
    scene.sink(slot - 1.5, 1.0, 1.0)
    scene.drill(slot, (-15.0, 170.0), radius=4.0)
    return scene


def laptop(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """The top of a laptop housing: key openings, speaker slots, touch-pad recess."""
    scene = blank(stream, shape, scale, (0.46, 0.465, 0.47))
    # The rear edge is the axis; a narrow image shows the slots and the keys beside them.
    scene.move(-46.0 if shape[1] < 200 * scale else 0.0, 16.0 - 0.5 * shape[0] / scale)
    x, y = scene.x, scene.y
    scene.blast(stream, 0.085)
    scene.cut(-y)
    scene.chamfer(-y, 4.0, 0.6)
    well = box(x + 60.0, y - 80.0, 112.0, 62.0, 6.0)
    scene.sink(well, 2.5, 1.5)
    scene.paint(scene.cover(well), (0.40, 0.405, 0.41))
    column, row = _cell((x + 42.0) / 36.0, 2), _cell((y - 80.0) / 36.0, 1)
    key = box(x + 42.0 - column * 36.0, y - 80.0 - row * 36.0, 14.5, 14.5, 4.0)
    scene.sink(key - 1.5, 0.8, 1.0)
    scene.cut(-key)
    column, row = _cell((x - 92.0) / 12.0, 2), _cell((y - 80.0) / 27.0, 2)
    slot = box(x - 92.0 - column * 12.0, y - 80.0 - row * 27.0, 2.6, 9.5, 2.6)
    scene.sink(slot - 1.0, 0.8, 1.0)
    scene.drill(
        slot,
        *((92.0 + 12.0 * i, 80.0 + 27.0 * j) for i in _FIVE for j in _FIVE),
        radius=4.5,
    )
    pad = box(x + 42.0, y - 246.0, 78.0, 86.0, 8.0)
    scene.sink(pad, 1.6, 1.5)
    scene.paint(scene.cover(pad), (0.36, 0.365, 0.37))
    scene.tint(1.0 + 0.06 * scene.cover(pad) * wave(y * 0.01 + 0.3))
    return scene


def _cell(position: Field, reach: int) -> Field:
    """The nearest integer within [-reach, reach]."""
    return np.minimum(np.maximum(np.floor(position + 0.5), float(-reach)), float(reach))


def copper_stator(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """A ring of braided copper winding in its steel core, seen along the axis."""
    scene = blank(stream, shape, scale, (0.07, 0.07, 0.075))
    x, y = scene.x, scene.y
    radius, turn = length(x, y), turns(x, y) + stream.real()
    scene.cut(radius - 122.0)
    core = 0.5 + 0.5 * wave(radius * 0.45)
    scene.tint(1.0 + core + 0.5 * lattice_noise(stream, turn * 100.0, radius * 0.8))
    scene.chamfer(radius - 122.0, 3.0)
    tooth = turn * 36.0
    gap = np.abs(tooth - np.floor(tooth) - 0.5) * radius * (6.2832 / 36.0) - 2.2
    gap = np.maximum(gap, np.maximum(radius - 62.0, 40.0 - radius))
    scene.paint(scene.cover(radius - 60.0), (0.20, 0.20, 0.21))
    scene.paint(scene.cover(gap), (0.012, 0.012, 0.014))
    scene.sink(gap, 3.0, 2.0)
    _winding(stream, scene, radius, turn)
    knot = turn * 9.0
    cord = np.abs(knot - np.floor(knot) - 0.5) * radius * (6.2832 / 9.0) - 2.6
    cord = np.maximum(cord, np.abs(radius - 84.0) - 27.0)
    share = scene.cover(cord)
    scene.paint(share, (0.58, 0.55, 0.46))
    scene.height += share * (2.0 + 0.4 * wave(radius * 0.3)) * scene.scale
    scene.gloss *= 1.0 - 0.9 * share
    scene.drill(radius - 40.0, (0.0, 0.0), radius=40.0)
    scene.openings.clear()
    return scene


def _winding(stream: Stream, scene: Scene, radius: Field, turn: Field) -> None:
    """Two families of strands, one twisting outwards, one inwards, that pass over and under."""
    bundle = np.abs(radius - 84.0) - 25.0
    share = scene.cover(bundle)
    bow = unit(-bundle / 25.0)
    around, outward = turn * 52.0, (radius - 84.0) / 10.5
    wobble = 0.25 * lattice_noise(stream, turn * 40.0, radius * 0.06)
    first, second = around + outward + wobble, around - outward + wobble
    upper = (np.floor(first) + np.floor(second)) * 0.5
    over = upper == np.floor(upper)
    strand = np.where(over, first, second)
    along = np.where(over, second, first)
    across = strand - np.floor(strand) - 0.5
    bulge = np.sqrt(np.maximum(1.0 - 3.6 * across * across, 0.0))
    crest = along - np.floor(along)
    arch = 4.0 * crest * (1.0 - crest)
    wires = wave(across * 4.0 + 0.25)
    relief = (2.0 * bulge + 1.3 * arch + 0.22 * wires) * scene.scale
    scene.height = scene.height * (1.0 - share) + share * (relief + scene.scale * 5.0 * dome(bow))
    tone = 0.75 + 0.25 * arch + 0.12 * wires
    tone = tone * (0.35 + 0.65 * bulge) * (0.45 + 0.55 * ramp(bow * 2.2))
    tone = tone * (1.0 + 0.18 * lattice_noise(stream, np.floor(strand), np.floor(along) * 0.2))
    scene.paint(share, np.stack([tone * level for level in (0.70, 0.315, 0.13)]))
    scene.gloss += share * 0.55


def iron_stator(stream: Stream, shape: tuple[int, int], scale: float) -> Scene:
    """A laminated iron ring with twelve green-coated teeth."""
    scene = blank(stream, shape, scale, _STEEL)
    x, y = scene.x, scene.y
    start, count = stream.real(0.0, 1.0 / 12.0), 12
    radius, turn = length(x, y), turns(x, y)
    spokes = [direction(start + i / count) for i in range(count)]
    index = np.floor((turn - start) * count + 0.5).astype(np.int64) % count
    c = np.asarray([spoke[0] for spoke in spokes]).take(index)
    s = np.asarray([spoke[1] for spoke in spokes]).take(index)
    outward, sideways = x * c + y * s, y * c - x * s
    neck = box(outward - 68.0, sideways, 34.0, 7.2)
    tip = box(radius - 43.0, sideways, 4.0, 10.2, 1.0)
    yoke = np.abs(radius - 106.0) - 14.0
    outline = np.minimum(np.minimum(neck, tip), yoke)
    for turn_of_notch in (0.125, 0.458, 0.792):
        nx, ny = direction(turn_of_notch + start)
        outline = np.maximum(outline, 6.0 - length(x - nx * 121.0, y - ny * 121.0))
    scene.edge[...] = outline * scene.scale
    scene.matter[...] = scene.cover(outline)
    sheets = wave(radius * 0.3) * 0.16
    scene.tint(1.0 + sheets + 0.10 * lattice_noise(stream, turn * 60.0, radius * 1.3))
    coat = np.maximum(np.minimum(neck, np.abs(radius - 98.5) - 7.0), 48.5 - radius)
    share = scene.cover(coat)
    cloud = noise(stream, shape, 12.0 * scene.scale)
    tone = 1.0 + 0.12 * cloud
    scene.paint(share, np.stack([tone * level for level in (0.045, 0.235, 0.105)]))
    ridges = wave(outward * 0.28) * 0.14 * ramp((92.0 - radius) / 4.0)
    scene.height += share * (2.0 + ridges) * scene.scale
    between = np.maximum(radius - 92.0, 48.0 - radius)
    scene.chamfer(np.maximum(np.abs(sideways) - 7.2, between), 5.0, 0.5)
    scene.chamfer(np.minimum(tip, yoke), 1.5, 0.6)
    scene.gloss += share * 0.25
    scene.blast(stream, 0.05)
    for i in range(4):
        hx, hy = direction(start + (i + 0.5) / 4.0)
        hole = circle(x - hx * 111.0, y - hy * 111.0, 4.5)
        scene.sink(hole - 2.0, 1.5, 1.5)
        scene.drill(hole, (hx * 111.0, hy * 111.0), radius=4.5)
    return scene


PARTS: dict[str, Part] = {
    "Aluminum_Camera_Cover": camera_cover,
    "Aluminum_Ipad": tablet,
    "Aluminum_Middle_Frame": middle_frame,
    "Aluminum_New_Ipad": new_tablet,
    "Aluminum_New_Middle_Frame": new_middle_frame,
    "Aluminum_Pc": laptop,
    "Copper_Stator": copper_stator,
    "Iron_Stator": iron_stator,
}
"""How each category of 3CAD is drawn."""

FORMATS: dict[str, tuple[tuple[int, int], ...]] = {
    "Aluminum_Camera_Cover": ((16, 16), (14, 14), (11, 11), (16, 12)),
    "Aluminum_Ipad": ((12, 16), (16, 12), (14, 16)),
    "Aluminum_Middle_Frame": ((16, 15), (14, 15), (11, 13)),
    "Aluminum_New_Ipad": ((16, 16), (12, 16), (10, 13)),
    "Aluminum_New_Middle_Frame": ((16, 16), (16, 11), (10, 16)),
    "Aluminum_Pc": ((16, 16), (11, 16), (16, 10)),
    "Copper_Stator": ((16, 16),),
    "Iron_Stator": ((16, 16),),
}
"""Heights and widths of a category's images, in sixteenths of the longest side."""
