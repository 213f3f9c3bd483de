"""One image of the sample and its mask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from threecad.dataset.catalog import CATEGORIES, is_multiple_defects
from threecad.errors import UsageError
from threecad.procedural.defects import DRAWINGS
from threecad.procedural.fields import Field, Stream
from threecad.procedural.parts import FORMATS, PARTS
from threecad.procedural.published import AREAS, LARGEST, SIZES, Size, draw_area, draw_size
from threecad.procedural.scene import DESIGN, Exposure, Scene

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DEFAULT_SIZE", "DEFECT_TYPES", "MULTIPLE_DEFECTS", "render"]

DEFAULT_SIZE = 256
"""Longer side in pixels of the largest images."""

MULTIPLE_DEFECTS = "Multiple-defects"
"""Folder of the images with several defect types, spelt as in the archive."""

COVERED = 0.2
"""Share of a pixel from which a defect counts as being there."""

_ATTEMPTS, _CLOSE = 6, 1.2
"""How often a defect is drawn again to meet its area, and the factor it may be off."""

_LEAST, _MOST, _TRIES = 0.05, 12.0, 8
"""Bounds of how much smaller or larger than usual it is drawn for that, and of tries at a place."""

DEFECT_TYPES: dict[str, tuple[str, ...]] = {
    name: tuple(t for t in category.archive_types() if not is_multiple_defects(t))
    for name, category in CATEGORIES.items()
}
"""The defect types of each category of the archive, spelt as there (``scratche``)."""


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
    category: str,
    split: str,
    defect_type: str | None,
    number: int,
    *,
    seed: int,
    size: int,
    sizes: Mapping[Size, int] | None = None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """As `render`, and with it the same photograph of the part before it was damaged.

    `sizes` are the ones to choose from, in pixels of the archive, with their frequencies.
    """
    _check(category, split, defect_type, size)
    folder = defect_type or "good"
    key = DRAWINGS[folder][0] if folder in DRAWINGS else folder
    stream = Stream("3cad sample 1", seed, category, split, key, number)
    shape = _draw_shape(stream, category, sizes or SIZES.get(category, {}).get(folder), size)
    scene = PARTS[category](stream, shape, size / DESIGN)
    exposure = Exposure.draw(stream, scene)
    clean = exposure.take(scene)
    mask = np.zeros(shape, dtype=np.bool_)
    image = clean
    while defect_type is not None and not np.any(mask):
        damaged, share = _damage(scene, stream, category, defect_type)
        covered = share > COVERED
        image = np.where(covered[:, :, None], exposure.take(damaged), clean)
        # A region that nothing shows of is none: keep what lies at a pixel that changed.
        mask = covered & grown(np.any(image != clean, axis=2))
    return image, mask.astype(np.uint8) * np.uint8(255), clean


def _draw_shape(
    stream: Stream, category: str, sizes: Mapping[Size, int] | None, size: int
) -> tuple[int, int]:
    """Height and width of an image, the largest of all having `size` pixels."""
    if sizes is None:
        height, width = stream.choice(FORMATS[category])
        return size * height // 16, size * width // 16
    width, height = draw_size(stream, sizes)
    return size * height // LARGEST, size * width // LARGEST


def grown(area: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of `area` and their eight neighbours."""
    for axis in (0, 1):
        area = area | np.roll(area, 1, axis) | np.roll(area, -1, axis)
    return area


def _damage(scene: Scene, stream: Stream, category: str, defect_type: str) -> tuple[Scene, Field]:
    """The scene with one or several defects, and the share of each pixel that they cover."""
    facts, types = CATEGORIES[category], [defect_type]
    if is_multiple_defects(defect_type):
        most = min(facts.types_per_image[1], len(DEFECT_TYPES[category]))
        types = stream.draw(DEFECT_TYPES[category], stream.integer(2, most + 1))
    else:
        for _ in range(stream.choice((0, 0, 0, 0, 1, 1, 2, 4))):
            types.append(defect_type)
    quantiles = AREAS.get(category, {}).get(defect_type)
    if quantiles is None:
        damaged = scene.copy()
        return damaged, _cover(damaged, stream, types)
    return _damage_area(scene, stream.integer(0, 1 << 62), types, draw_area(stream, quantiles))


def _damage_area(
    scene: Scene, seed: int, types: Sequence[str], wanted: float
) -> tuple[Scene, Field]:
    """As `_damage`, with defects of such a size that together they cover about the share wanted."""
    best = (math.inf, scene, np.zeros(scene.shape))
    reach = 1.0
    for _ in range(_ATTEMPTS):
        damaged = scene.copy()
        damaged.scale *= reach
        covered = _cover(damaged, Stream(seed), types, _TRIES)
        damaged.scale = scene.scale
        pixels = int(np.count_nonzero(covered > COVERED))
        ratio = max(pixels, 0.25) / (wanted * covered.size)
        miss = max(ratio, 1.0 / ratio)
        if pixels and miss < best[0]:
            best = (miss, damaged, covered)
        if miss < _CLOSE or (pixels == 1 and ratio > 1.0):
            break
        reach = min(max(reach / math.sqrt(ratio), _LEAST), _MOST)
    return best[1:]


def _cover(scene: Scene, stream: Stream, types: Sequence[str], tries: float = math.inf) -> Field:
    """Add defects to the scene; the share of each pixel that they cover."""
    covered = np.zeros(scene.shape)
    for name in types:
        strength = stream.choice((0.15, 0.3, 0.5, 0.75, 1.0))
        draw, failed = DRAWINGS[name][1], 0
        while not np.any((share := draw(scene, stream, strength)) > COVERED) and failed < tries:
            failed += 1  # it fell beside the part, or is too small to be seen
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
    """The folders of defective images: the types, and `Multiple-defects` where there is one."""
    return tuple(CATEGORIES[category].archive_types())
