"""How much the defects of an image stand out from what surrounds them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from threecad.errors import ImageError, MaskError
from threecad.images.files import open_image
from threecad.images.hashing import pixel_hash
from threecad.images.masks import decode_mask
from threecad.images.regions import find_runs, label_regions, measure
from threecad.system.caching import FileCache, remembered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL import Image

    from threecad.images.masks import MaskRule

__all__ = ["SURROUND", "Contrast", "contrast_of_regions", "measure_contrasts"]

SURROUND = 0.02
"""Width of the surround of a region, as a part of the longer side of the image."""

_VERSION = 2


@dataclass(frozen=True)
class Contrast:
    """How much the defects of an image stand out, and what identifies the image.

    Attributes:
        differences: Per region, mean brightness of the region less that of its surround, in
            ``[-1, 1]``: negative for a dark defect. ``None`` where there is no surround.
        ratios: Per region, the same over the standard deviation of the surround; ``None`` where
            that is 0.
        pixels: Hash of the decoded pixels, equal for copies of one image.
        problem: Why there is no contrast; ``None`` if there is.
    """

    differences: tuple[float | None, ...] = ()
    ratios: tuple[float | None, ...] = ()
    pixels: str = ""
    problem: str | None = None


def measure_contrasts(
    root: Path,
    pairs: Sequence[tuple[Path, Path]],
    *,
    rule: MaskRule | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> dict[Path, Contrast]:
    """Return the contrasts of each pair (image, mask), by image.

    A pair is measured again when either file has changed.
    """
    jobs = {pair[0]: pair for pair in pairs}
    name = f"contrast-{rule}" if rule else "contrast"
    records = remembered(
        FileCache(root, name, version=_VERSION),
        jobs,
        _MeasureContrast(rule),
        valid=lambda image, record: record["mask"] == _state(jobs[image][1]),
        workers=workers,
        cluster=cluster,
        description="contrast" if progress else None,
    )
    return {
        image: Contrast(
            tuple(record["differences"]),
            tuple(record["ratios"]),
            record["pixels"],
            record["problem"],
        )
        for image, record in records.items()
    }


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


@dataclass(frozen=True)
class _MeasureContrast:
    rule: MaskRule | None

    def __call__(self, pair: tuple[Path, Path]) -> dict[str, Any]:
        image, mask = pair
        state = _state(mask)
        try:
            contrast = _contrast(image, decode_mask(mask, rule=self.rule).mask)
        except MaskError as error:
            contrast = Contrast(problem=str(error))
        return {"mask": state, **asdict(contrast)}


def _contrast(path: Path, mask: NDArray[np.bool_]) -> Contrast:
    try:
        image = open_image(path)
        brightness, pixels = _brightness(image), pixel_hash(image)
    except (ImageError, ValueError) as error:
        reason = error.reason if isinstance(error, ImageError) else error
        return Contrast(problem=f"it cannot be decoded ({reason})")
    if brightness.shape != mask.shape:
        return Contrast(pixels=pixels, problem="it and its mask differ in size")
    differences, ratios = contrast_of_regions(brightness, mask)
    return Contrast(tuple(differences), tuple(ratios), pixels)


def _brightness(image: Image.Image) -> NDArray[np.float32]:
    """Return ``(H, W)`` float32 in [0, 1]: BT.601 luma, unscaled 16-bit values over 65535."""
    if image.mode.startswith("I"):
        values, top = np.asarray(image), 65535
    else:
        values, top = np.asarray(image.convert("L")), 255
    brightness: NDArray[np.float32] = values.astype(np.float32) / np.float32(top)
    return brightness


def contrast_of_regions(
    brightness: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[list[float | None], list[float | None]]:
    """Compare each region with its surround.

    The surround of a region is every background pixel within ``SURROUND`` of the image's longer
    side (at least 3 pixels) of it.

    Args:
        brightness: ``(H, W)`` float32 in [0, 1].
        mask: ``(H, W)`` bool.

    Returns:
        Per region of ``regions(mask)`` the difference of the means, and the same over the standard
        deviation of the surround (see ``Contrast``).
    """
    height, width = mask.shape
    reach = max(3, round(SURROUND * max(height, width)))
    labels = label_regions(mask)
    differences: list[float | None] = []
    ratios: list[float | None] = []
    for number, region in enumerate(measure(find_runs(mask))[0], start=1):
        x, y, w, h = region.bbox
        window = (
            slice(max(0, y - reach), min(height, y + h + reach)),
            slice(max(0, x - reach), min(width, x + w + reach)),
        )
        inside = labels[window] == number
        distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
        around = (distance <= reach) & (labels[window] == 0)
        values = brightness[window]
        if not around.any():
            differences.append(None)
            ratios.append(None)
            continue
        surround = values[around].astype(np.float64)
        difference = float(values[inside].mean(dtype=np.float64) - surround.mean())
        spread = float(surround.std())
        differences.append(round(difference, 6))
        ratios.append(round(difference / spread, 4) if spread > 0 else None)
    return differences, ratios
