"""One image of the sample and its mask."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from threecad.dataset.catalog import CATEGORIES, is_multiple_defects
from threecad.errors import UsageError
from threecad.procedural.defects import DEFECTS
from threecad.procedural.fields import Field, Stream
from threecad.procedural.parts import FORMATS, PARTS
from threecad.procedural.scene import DESIGN, Exposure, Scene

__all__ = ["DEFAULT_SIZE", "DEFECT_TYPES", "MULTIPLE_DEFECTS", "render"]

DEFAULT_SIZE = 256
"""Longer side in pixels of the largest images."""

MULTIPLE_DEFECTS = "Multiple-defects"
"""Folder of the images with several defect types."""

COVERED = 0.2
"""Share of a pixel from which a defect counts as being there."""

DEFECT_TYPES: dict[str, tuple[str, ...]] = {
    "Aluminum_Camera_Cover": (
        "abrasion", "blocked-hole", "chip", "dent", "discolouration", "foreign-matter", "pit",
        "residue", "scratch", "stain",
    ),
    "Aluminum_Ipad": ("dent", "scratch", "stain"),
    "Aluminum_Middle_Frame": ("burr", "chip", "scratch", "stain", "tool-mark"),
    "Aluminum_New_Ipad": ("dent", "pit", "scratch", "stain"),
    "Aluminum_New_Middle_Frame": (
        "deformation", "dent", "discolouration", "foreign-matter", "pit", "scratch",
    ),
    "Aluminum_Pc": (
        "abrasion", "blocked-slot", "bulge", "burr", "chip", "crack", "deformation", "dent",
        "discolouration", "fingerprint", "foreign-matter", "oxidation", "scratch", "stain",
    ),
    "Copper_Stator": ("damaged-wire",),
    "Iron_Stator": ("chip", "coating-loss", "foreign-matter", "scratch"),
}  # fmt: skip
"""The sample's defect types: as many a category as 3CAD has, under names of our own."""


def render(
    category: str,
    split: str,
    defect_type: str | None,
    number: int,
    *,
    seed: int = 0,
    size: int = DEFAULT_SIZE,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Draw one image of the sample; the same arguments give the same pixels on every machine.

    Args:
        category: One of the eight folder names of 3CAD.
        split: ``"train"`` or ``"test"``; each has its own images.
        defect_type: One of ``DEFECT_TYPES[category]``, ``"Multiple-defects"``, or ``None`` for a
            good part.
        number: Which image, from 0.
        seed: Random seed.
        size: Longer side of the largest images, in pixels; stands for the 1024 of the real data.

    Returns:
        The image, (H, W, 3) uint8, and its mask, (H, W) uint8: 255 where the defect may have
        changed a pixel, 0 where the image is what it would be without the defect.

    Raises:
        UsageError: If there is no such category, split or defect type, or ``size`` is below 64.
    """
    image, mask, _ = render_pair(category, split, defect_type, number, seed=seed, size=size)
    return image, mask


def render_pair(
    category: str, split: str, defect_type: str | None, number: int, *, seed: int, size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """As `render`, and with it the same photograph of the part before it was damaged."""
    _check(category, split, defect_type, size)
    stream = Stream("3cad sample 1", seed, category, split, defect_type or "good", number)
    height, width = stream.choice(FORMATS[category])
    shape = (size * height // 16, size * width // 16)
    scene = PARTS[category](stream, shape, size / DESIGN)
    exposure = Exposure.draw(stream, scene)
    clean = exposure.take(scene)
    mask = np.zeros(shape, dtype=np.bool_)
    image = clean
    while defect_type is not None and not np.any(mask):
        damaged = scene.copy()
        covered = _damage(damaged, stream, category, defect_type) > COVERED
        image = np.where(covered[:, :, None], exposure.take(damaged), clean)
        # A region that nothing shows of is none: keep what lies at a pixel that changed.
        mask = covered & _grown(np.any(image != clean, axis=2))
    return image, mask.astype(np.uint8) * np.uint8(255), clean


def _grown(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of `area` and their eight neighbours."""
    for axis in (0, 1):
        area = area | np.roll(area, 1, axis) | np.roll(area, -1, axis)
    return area


def _damage(scene: Scene, stream: Stream, category: str, defect_type: str) -> Field:
    """Add one or several defects; the share of each pixel that they cover."""
    facts, types = CATEGORIES[category], [defect_type]
    if is_multiple_defects(defect_type):
        most = min(facts.types_per_image[1], len(DEFECT_TYPES[category]))
        types = stream.draw(DEFECT_TYPES[category], stream.integer(2, most + 1))
    else:
        for _ in range(stream.choice((0, 0, 0, 0, 1, 1, 2, 4))):
            types.append(defect_type)
    covered = np.zeros(scene.shape)
    for name in types:
        strength = stream.choice((0.15, 0.3, 0.5, 0.75, 1.0))
        while not np.any((share := DEFECTS[name](scene, stream, strength)) > COVERED):
            pass  # it fell beside the part
        covered = np.maximum(covered, share)
    return covered


def _check(category: str, split: str, defect_type: str | None, size: int) -> None:
    if category not in PARTS:
        raise UsageError(f"No category {category!r} in the sample. Categories: {', '.join(PARTS)}.")
    if split not in ("train", "test"):
        raise UsageError(f"split is {split!r}; expected 'train' or 'test'.")
    known = folders(category)
    if defect_type is not None and defect_type not in known:
        raise UsageError(
            f"No defect type {defect_type!r} in the sample's {category}. Types: {', '.join(known)}."
        )
    check_size(size)


def check_size(size: int) -> None:
    """Raise a UsageError if images cannot be drawn at `size`."""
    if size < 64:
        raise UsageError(f"size is {size} pixels; expected 64 or more.")


def folders(category: str) -> tuple[str, ...]:
    """The folders of defective images: the types, and `Multiple-defects` where 3CAD has such."""
    several = CATEGORIES[category].types_per_image[1] > 1
    return DEFECT_TYPES[category] + ((MULTIPLE_DEFECTS,) if several else ())
