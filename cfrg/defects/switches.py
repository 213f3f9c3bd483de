"""What may depart from the paper in the recipes of synthetic defects."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Switches"]


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What may depart from the paper in either recipe of synthetic defects.

    Attributes:
        clean_share: Share of training images that get no defect.
        structural: Let patches cut from good training images be defects, too.
        several_scales: Draw defects of all scales, blobs and lines from ``smallest_defect`` up to
            large regions, beside the paper's Perlin patches.
        smallest_defect: Least radius of blobs and least width of lines, in pixels that the network
            sees.
        augment_textures: Crop, turn and recolour textures at random.
        fixed_textures: Give an image the same texture in every epoch, the one whose number is the
            image's modulo the count, as the authors' code does.
        repeat_rotations: Go through the same sequence of rotations of the Perlin noise in every
            epoch, as the authors' code does.
    """

    clean_share: float = 0.0
    structural: bool = False
    several_scales: bool = False
    smallest_defect: float = 1.0
    augment_textures: bool = False
    fixed_textures: bool = False
    repeat_rotations: bool = False
