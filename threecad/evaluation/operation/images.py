"""AUPIMO of the images of a category, which are read once more for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from threecad.evaluation.counting.maps import ArrayMap
from threecad.evaluation.counting.pixels import find_defects
from threecad.evaluation.definitions import AUPIMO
from threecad.evaluation.operation.overlap import AUPIMO_BOUNDS, GoodTail, resample_overlaps
from threecad.evaluation.scoring import CategoryScores, ImageName

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from threecad.dataset.samples import Sample

__all__ = ["add_aupimo"]


class Overlaps(NamedTuple):
    """The scores of a category with AUPIMO, that of each image, and what is doubtful."""

    scores: CategoryScores
    by_image: dict[str, float]
    warnings: list[str]


def add_aupimo(
    scores: CategoryScores,
    samples: Sequence[Sample],
    read: Callable[[Sample], Any],
    *,
    bootstrap: int = 0,
    seed: int = 0,
) -> Overlaps:
    """Add AUPIMO to the scores of a category.

    Args:
        scores: The scores.
        samples: Its samples: each is read once.
        read: Sample → its map (``scores``), which pixels of it count (``counted``), and ``mask``.
        bootstrap: Number of bootstrap replicates.
        seed: Seed of the bootstrap.
    """
    good = [sample for sample in samples if not sample.label]
    tail = GoodTail(len(good))
    for sample in good:
        tail.add(read(sample).counted_scores)
    values: dict[ImageName, float] = {}
    overlaps: list[NDArray[np.float64]] = []
    chosen = tail.coarse()[0] if good and bootstrap else np.empty(0, np.intp)
    for sample in samples if good else []:
        found = _read_defects(sample, read)
        if found is None:
            continue
        pixels, sizes = found
        values[ImageName(sample.id, sample.defect_type, sizes)] = tail.score(pixels)
        overlaps.append(tail.overlap(pixels)[chosen])
    moved = None
    if bootstrap and values:
        moved = resample_overlaps(tail, overlaps, bootstrap, np.random.default_rng(seed))
    reason = "no defective pixels" if good else "no good images"
    warnings = []
    if values and not tail.resolved:
        least = AUPIMO_BOUNDS[0]
        warnings.append(
            f"{scores.name}: AUPIMO starts at a false positive rate of {least:g}, which is "
            f"{least * tail.pixels:.2g} of the {tail.pixels:,} pixels of good images: too few to "
            "tell. Evaluate on larger maps or on more good images."
        )
    return Overlaps(
        scores.add_image_figure(AUPIMO, values, moved, reason),
        {name.sample_id: value for name, value in values.items()},
        warnings,
    )


def _read_defects(
    sample: Sample, read: Callable[[Sample], Any]
) -> tuple[NDArray[np.floating[Any]], tuple[str, ...]] | None:
    if not sample.label:
        return None
    image = read(sample)
    defects = None if image.mask is None else find_defects(ArrayMap(image.scores), image.mask)
    return None if defects is None else (defects.scores, tuple(defects.sizes))
