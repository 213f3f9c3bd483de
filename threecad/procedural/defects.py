"""Defects: each changes a scene in place and returns the share of each pixel it covers.

The types are those of the archive; how they look is not published beyond their names, and drawn
after these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from threecad.procedural.fields import (
    Field,
    Stream,
    direction,
    dome,
    length,
    noise,
    ramp,
    unit,
    wave,
)
from threecad.procedural.placement import (
    axes,
    blob,
    displaced,
    offsets,
    on_edge,
    on_part,
    sampled,
    segment,
    thickness,
)

if TYPE_CHECKING:
    from threecad.procedural.scene import Colour, Scene

Defect = Callable[["Scene", Stream, float], Field]

_RUST: Colour = (0.20, 0.085, 0.03)
_DUST: tuple[Colour, ...] = (
    (0.75, 0.74, 0.70),
    (0.015, 0.015, 0.015),
    (0.10, 0.17, 0.42),
    (0.42, 0.06, 0.05),
    (0.30, 0.19, 0.09),
)


def scratch(scene: Scene, stream: Stream, strength: float) -> Field:
    """A thin curved groove, bright or dark."""
    reach = stream.real(8.0, 46.0) * scene.scale
    u, v = axes(scene, stream, on_part(scene, stream, 3.0))
    bend = stream.real(-0.25, 0.25) / reach
    width = stream.real(0.45, 0.6 + 0.5 * strength) * thickness(scene)
    taper = unit(2.2 * (1.0 - np.abs(u) / reach))
    share = unit(width * taper - np.abs(v - bend * u * u) + 0.5) * (np.abs(u) < reach)
    share = share * ramp(scene.matter)
    scene.height -= share * (0.6 + 0.8 * strength)
    scene.tint(1.0 + share * (stream.choice((0.9, 0.7, -0.5)) * strength))
    return share


def dent(scene: Scene, stream: Stream, strength: float) -> Field:
    """A smooth hollow without sharp border, seen by its shading only."""
    radius = stream.real(4.0, 15.0) * scene.scale
    bowl = blob(scene, stream, on_part(scene, stream, 0.6 * radius), radius, 0.12)
    bowl = bowl * scene.matter
    scene.height -= ramp(bowl) * radius * (0.12 + 0.42 * strength)
    return ramp(bowl * 2.5)


def bulge(scene: Scene, stream: Stream, strength: float) -> Field:
    """A smooth raised spot."""
    radius = stream.real(3.0, 9.0) * scene.scale
    top = blob(scene, stream, on_part(scene, stream, 0.6 * radius), radius, 0.12)
    top = top * scene.matter
    scene.height += ramp(top) * radius * (0.12 + 0.42 * strength)
    return ramp(top * 2.5)


def pit(scene: Scene, stream: Stream, strength: float) -> Field:
    """One to five small dark holes, some of only a few pixels."""
    row, column = on_part(scene, stream, 3.0)
    covered = np.zeros(scene.shape)
    for _ in range(stream.integer(1, 6)):
        radius = stream.real(0.7, 1.0 + 1.6 * strength) * thickness(scene)
        u, v = offsets(scene, row, column)
        far = length(u, v)
        share = unit(radius - far + 0.5) * ramp(scene.matter)
        scene.height -= share * (0.5 + strength) + dome(1.0 - far / radius) * radius * 0.7
        scene.tint(1.0 - share * (0.35 + 0.5 * strength))
        covered = np.maximum(covered, share)
        row += stream.real(-14.0, 14.0) * scene.scale
        column += stream.real(-14.0, 14.0) * scene.scale
    return covered


def chip(scene: Scene, stream: Stream, strength: float) -> Field:
    """A piece broken off an edge, with a bright fracture."""
    radius = stream.real(2.5, 4.5 + 6.0 * strength) * scene.scale
    bite = blob(scene, stream, on_edge(scene, stream), radius, 0.35)
    share = unit(bite * radius + 0.5) * (scene.matter > 0.05)
    loss = unit((bite - 0.35) * radius + 0.5)
    scene.tint(1.0 + share * (0.3 + 0.8 * strength))
    scene.height -= ramp(bite * 2.0) * radius * 0.4
    scene.matter *= 1.0 - loss
    return share


def burr(scene: Scene, stream: Stream, strength: float) -> Field:
    """Ragged slivers of metal that stand over an edge."""
    radius = stream.real(5.0, 14.0) * scene.scale
    near = blob(scene, stream, on_edge(scene, stream), radius, 0.2)
    ragged = noise(stream, scene.shape, 3.2 * scene.scale) + 0.4
    reach = (0.8 + 2.6 * strength) * scene.scale
    fringe = unit((reach * ragged * ramp(near * 2.0) - np.abs(scene.edge)) + 0.5) * (near > 0)
    scene.paint(fringe * 0.8, (0.62, 0.62, 0.62))
    scene.matter = np.maximum(scene.matter, fringe)
    scene.height += fringe * (1.0 + noise(stream, scene.shape, 1.5))
    return fringe


def stain(scene: Scene, stream: Stream, strength: float) -> Field:
    """A dried drop: a tinted film, darker at its rim."""
    radius = stream.real(5.0, 18.0) * scene.scale
    film = blob(scene, stream, on_part(scene, stream, 0.4 * radius), radius, 0.5)
    inside = unit(film * radius + 0.5) * scene.matter
    rim = unit(1.0 - np.abs(film * radius - 1.0) * 0.5)
    share = inside * (0.16 + 0.34 * strength) * (0.6 + 0.8 * rim)
    scene.paint(unit(share), stream.choice(((0.13, 0.09, 0.04), (0.07, 0.08, 0.09), _RUST)))
    return inside


def discolouration(scene: Scene, stream: Stream, strength: float) -> Field:
    """A soft cloud of another hue, as anodising leaves it."""
    radius = stream.real(14.0, 34.0) * scene.scale
    cloud = blob(scene, stream, on_part(scene, stream, 0.3 * radius), radius, 0.5)
    share = ramp(cloud * 2.0) * scene.matter
    hue = stream.choice(((0.12, 0.0, -0.24), (-0.20, -0.04, 0.15), (0.06, -0.14, 0.08)))
    for channel, shift in zip(scene.albedo, hue, strict=True):
        channel *= 1.0 + shift * (0.4 + 0.9 * strength) * share
    return unit(1.5 * share)


def bright_shadow(scene: Scene, stream: Stream, strength: float) -> Field:
    """A soft cloud that reflects more light."""
    radius = stream.real(14.0, 34.0) * scene.scale
    cloud = blob(scene, stream, on_part(scene, stream, 0.3 * radius), radius, 0.4)
    share = ramp(cloud * 2.0) * scene.matter
    scene.tint(1.0 + share * (0.10 + 0.35 * strength))
    return unit(1.5 * share)


def whitening(scene: Scene, stream: Stream, strength: float) -> Field:
    """A pale veil with ragged borders."""
    radius = stream.real(10.0, 30.0) * scene.scale
    veil = blob(scene, stream, on_part(scene, stream, 0.3 * radius), radius, 0.6)
    share = ramp(veil * 3.0) * scene.matter
    scene.paint(share * (0.12 + 0.3 * strength), (0.72, 0.72, 0.70))
    return unit(1.5 * share)


def spot(scene: Scene, stream: Stream, strength: float) -> Field:
    """A dark blot with a sharp border."""
    radius = stream.real(1.2, 3.0 + 4.0 * strength) * scene.scale
    blot = blob(scene, stream, on_part(scene, stream, radius), radius, 0.35)
    share = unit(blot * radius + 0.5) * scene.matter
    scene.paint(share * (0.35 + 0.6 * strength), (0.012, 0.012, 0.014))
    return share


def scrape(scene: Scene, stream: Stream, strength: float) -> Field:
    """A broad band of parallel scratches."""
    u, v = axes(scene, stream, on_part(scene, stream, 4.0))
    reach, half = stream.real(8.0, 30.0) * scene.scale, stream.real(1.5, 5.0) * scene.scale
    share = unit(half - np.abs(v) + 0.5) * unit((reach - np.abs(u)) * 0.5 + 0.5) * scene.matter
    lines = np.maximum(wave(v / stream.real(1.7, 2.8)), -0.3)
    scene.tint(1.0 + share * lines * (0.3 + 0.7 * strength))
    scene.height -= share * lines * (0.3 + 0.5 * strength)
    return share


def foreign_matter(scene: Scene, stream: Stream, strength: float) -> Field:
    """A fibre or a crumb that lies on the part."""
    row, column = on_part(scene, stream, 4.0)
    colour = stream.choice(_DUST)
    if stream.chance(0.55):
        u, v = axes(scene, stream, (row, column))
        reach = stream.real(5.0, 20.0) * scene.scale
        curl = stream.real(1.0, 4.0) * scene.scale * wave(u / (reach * stream.real(1.5, 3.0)))
        width = stream.real(0.5, 0.9) * thickness(scene)
        share = unit(width - np.abs(v - curl) * 0.8 + 0.5) * (np.abs(u) < reach)
        lift = 1.0
    else:
        radius = stream.real(1.5, 3.0 + 3.0 * strength) * scene.scale
        crumb = blob(scene, stream, (row, column), radius, 0.5)
        share = unit(crumb * radius + 0.5)
        lift = radius * 0.5
    opacity = share * (0.45 + 0.55 * strength)
    scene.paint(opacity, colour)
    scene.matter = np.maximum(scene.matter, opacity)
    scene.height += share * lift
    return share


def residue(scene: Scene, stream: Stream, strength: float) -> Field:
    """A clear drop of glue: a dome with a highlight."""
    radius = stream.real(2.5, 8.0) * scene.scale
    drop = blob(scene, stream, on_part(scene, stream, radius), radius, 0.2)
    share = unit(drop * radius + 0.5) * scene.matter
    scene.height += dome(drop) * radius * (0.10 + 0.20 * strength) * scene.matter
    scene.gloss += share * (0.6 + 0.8 * strength)
    scene.paint(share * 0.25, (0.36, 0.31, 0.16))
    return share


def abrasion(scene: Scene, stream: Stream, strength: float) -> Field:
    """A rubbed patch of fine parallel scuffs."""
    spot = on_part(scene, stream, 5.0)
    radius = stream.real(7.0, 20.0) * scene.scale
    patch = blob(scene, stream, spot, radius, 0.35)
    u, v = axes(scene, stream, spot)
    lines = np.maximum(wave(v / stream.real(2.2, 3.6) + 0.3 * wave(u / (radius * 3.0))), -0.2)
    share = ramp(patch * 3.0) * scene.matter
    scene.tint(1.0 + share * lines * (0.18 + 0.5 * strength))
    scene.height -= share * lines * (0.15 + 0.3 * strength)
    return ramp(patch * 8.0) * scene.matter


def oxidation(scene: Scene, stream: Stream, strength: float) -> Field:
    """Islands of rust or white bloom."""
    radius = stream.real(8.0, 18.0) * scene.scale
    near = blob(scene, stream, on_part(scene, stream, 5.0), radius, 0.2)
    islands = noise(stream, scene.shape, 6.0 * scene.scale) + near * 1.2 - 0.55
    share = unit(islands * 3.0 * scene.scale) * (near > 0) * scene.matter
    colour = stream.choice((_RUST, (0.62, 0.62, 0.57), (0.10, 0.13, 0.09)))
    rough = 1.0 + 0.25 * stream.normal(*scene.shape)
    scene.paint(share * (0.3 + 0.55 * strength), _shaded(colour, rough))
    return share


def tool_mark(scene: Scene, stream: Stream, strength: float) -> Field:
    """Chatter: short parallel ripples that a vibrating cutter leaves."""
    spot = on_part(scene, stream, 4.0)
    u, v = axes(scene, stream, spot)
    reach, half = stream.real(8.0, 26.0) * scene.scale, stream.real(2.5, 6.0) * scene.scale
    bow = u + v * v * (0.04 / scene.scale)
    share = unit(half - np.abs(v) + 0.5) * unit((reach - np.abs(u)) * 0.5) * scene.matter
    ripple = wave(bow / (stream.real(3.4, 5.0) * max(scene.scale, 0.7)))
    scene.height += share * ripple * (0.15 + 0.4 * strength)
    scene.tint(1.0 + share * ripple * (0.08 + 0.3 * strength))
    return share


def crack(scene: Scene, stream: Stream, strength: float) -> Field:
    """A dark jagged line, often branched."""
    row, column = on_part(scene, stream, 3.0)
    turn = stream.real()
    trunk, width = stream.integer(4, 9), (0.3 + 0.35 * strength) * thickness(scene)
    covered = np.zeros(scene.shape)
    fork = None
    for step in range(trunk + stream.integer(0, 4)):
        if step == trunk and fork is not None:
            row, column, turn = fork
        heading = direction(turn + stream.real(-0.13, 0.13))
        reach = stream.real(2.5, 6.0) * scene.scale
        covered = np.maximum(covered, segment(scene, row, column, heading, reach, width))
        row, column = row + heading[1] * reach, column + heading[0] * reach
        if step == trunk // 2:
            fork = (row, column, turn + stream.sign() * 0.14)
    covered *= ramp(scene.matter)
    scene.tint(1.0 - covered * (0.45 + 0.5 * strength))
    scene.height -= covered * (0.5 + strength)
    return covered


def deformation(scene: Scene, stream: Stream, strength: float) -> Field:
    """An edge pushed out of its place."""
    row, column = on_edge(scene, stream)
    radius = stream.real(10.0, 20.0) * scene.scale
    u, v = offsets(scene, row, column)
    weight = ramp(1.0 - length(u, v) / radius)
    heading = direction(stream.real())
    push = (1.5 + 4.0 * strength) * scene.scale
    before = scene.matter.copy()
    source = displaced(scene.shape, heading[1] * push * weight, heading[0] * push * weight)
    for field in (scene.matter, scene.height, scene.edge, scene.gloss, *scene.albedo):
        field[...] = sampled(field, source)
    scene.height -= weight * weight * push * (0.5 + 0.5 * strength)
    band = unit((0.45 * radius - np.abs(scene.edge)) * 0.5)
    moved = np.maximum(scene.matter, before) * band * (weight > 0.12)
    return unit(np.maximum(moved, np.abs(scene.matter - before)))


def damaged_wire(scene: Scene, stream: Stream, strength: float) -> Field:
    """A strand of the winding that is lifted, cut, crushed or burnt."""
    spot = on_part(scene, stream, 2.0, coloured=True)
    kind = stream.integer(0, 4)
    if kind == 0:  # lifted: a loose strand across the others
        u, v = axes(scene, stream, spot)
        reach, width = stream.real(7.0, 18.0) * scene.scale, stream.real(1.3, 2.2) * scene.scale
        bow = v - u * u * (stream.real(-0.3, 0.3) / reach)
        share = unit(width - np.abs(bow) + 0.5) * unit(reach - np.abs(u) + 0.5)
        profile = dome(unit(1.0 - np.abs(bow) / (width + 0.5)))
        colour = _shaded((0.80, 0.38, 0.17), 0.35 + 0.65 * profile)
        scene.paint(share * (0.55 + 0.45 * strength), colour)
        scene.height += share * (2.0 + 2.0 * profile) * scene.scale
        return share
    radius = stream.real(2.0, 4.0 + 6.0 * strength) * scene.scale
    wound = blob(scene, stream, spot, radius, 0.4)
    share = unit(wound * radius + 0.5) * scene.matter
    if kind == 1:  # cut: a dark gap with bright ends
        scene.tint(1.0 - share * (0.35 + 0.5 * strength) + 1.2 * share * (wound < 0.25) * strength)
        scene.height -= ramp(wound * 2.0) * 2.0 * scene.scale
    elif kind == 2:  # crushed: the braid is smeared flat
        scene.height = scene.height * (1.0 - share) + share * 4.0 * scene.scale
        streaks = 0.8 + 0.25 * noise(stream, scene.shape, 1.2, 5.0)
        scene.paint(share * (0.4 + 0.6 * strength), _shaded((0.62, 0.30, 0.14), streaks))
    else:  # burnt enamel
        scene.paint(share * (0.3 + 0.5 * strength), (0.05, 0.025, 0.02))
        scene.gloss *= 1.0 - share * 0.8
    return share


DRAWINGS: dict[str, tuple[str, Defect]] = {
    "abrasion": ("abrasion", abrasion),
    "black spot": ("spot", spot),
    "bright shadow": ("bright-shadow", bright_shadow),
    "bruise": ("dent", dent),
    "bump": ("chip", chip),
    "deformation": ("deformation", deformation),
    "dirt": ("stain", stain),
    "discoloration": ("discolouration", discolouration),
    "fluff": ("foreign-matter", foreign_matter),
    "fracture": ("chip", chip),
    "ink": ("spot", spot),
    "inner warping": ("deformation", deformation),
    "knife mark": ("tool-mark", tool_mark),
    "outer warping": ("burr", burr),
    "overwashing": ("oxidation", oxidation),
    "paint nodule": ("residue", residue),
    "pinhole": ("pit", pit),
    "scrape": ("scrape", scrape),
    "scratche": ("scratch", scratch),
    "uneven": ("bulge", bulge),
    "watermark": ("stain", stain),
    "wear crack": ("crack", crack),
    "whitening": ("whitening", whitening),
    "wire damage": ("damaged-wire", damaged_wire),
}
"""Defect type → how it is drawn, and the name that keys its random numbers.

No two types of a category are drawn alike.
"""


def _shaded(colour: Colour, tone: Field) -> Field:
    """`colour` times the brightness of each pixel, (3, H, W)."""
    return np.stack([tone * level for level in colour])
