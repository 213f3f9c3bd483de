"""Why it matters that two images are the same: for a detector of one category, or of all.

3CAD's protocol is one detector for each category. It never sees the training images of another
category, so a photograph that two categories share is no leak for it, though it is one for a
detector of all categories.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from threecad.errors import MaskError
from threecad.images.masks import read_mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    from threecad.dataset.findings import Severity
    from threecad.dataset.samples import Sample
    from threecad.images.masks import MaskRule

__all__ = ["MEANINGS", "Meaning", "different_masks", "meanings", "union_mask"]


@dataclass(frozen=True)
class Meaning:
    """Why a duplicate matters.

    Attributes:
        exact: Severity where the pixels are equal.
        near: Severity where the images only look the same.
        title: What it is, for people.
        advice: What to do where the pixels are equal.
        near_advice: What to do where the images only look the same.
    """

    exact: Severity
    near: Severity
    title: str
    advice: str
    near_advice: str


MEANINGS: dict[str, Meaning] = {
    "contradiction": Meaning(
        "error",
        "warning",
        "good and defective at once",
        "One of the labels is wrong: no model can be right about both.",
        "Look at both: where the defect is to be seen in each, the good one is mislabelled.",
    ),
    "leak": Meaning(
        "error",
        "warning",
        "on both sides of a split",
        "A test image that was trained on is not a test: `threecad split --kind leak-free`, or "
        "`threecad audit --write-errata FILE` and `threecad evaluate --errata FILE`.",
        "Photographs of one part belong on one side: `threecad split --kind leak-free --near`, or "
        "`threecad audit --write-errata FILE` and `threecad evaluate --errata FILE`.",
    ),
    "types": Meaning(
        "warning",
        "info",
        "under several defect types",
        "The image shows all of these types, and its mask is the union; `threecad audit "
        "--write-errata FILE` makes it one sample.",
        "Look whether each shows the other's defect, too, and its mask lacks it.",
    ),
    "masks": Meaning(
        "warning",
        "info",
        "under one defect type with different masks",
        "At most one of the masks is right. Corrections leave them alone unless told which to "
        "take: `threecad audit --write-errata FILE --different-masks union`, or first, or exclude.",
        "Look whether one mask lacks what the other has.",
    ),
    "categories": Meaning(
        "warning",
        "info",
        "in several categories",
        "Detectors of one category are not concerned. For one of all categories take "
        "`threecad audit --across-categories` and `threecad split --across-categories`.",
        "Detectors of one category are not concerned. For one of all categories take "
        "`threecad audit --across-categories` and `threecad split --across-categories`.",
    ),
    "copy": Meaning(
        "info",
        "info",
        "twice in one folder",
        "It counts twice in every figure.",
        "Photographs of one part are no independent samples: intervals are too narrow.",
    ),
}
"""What a duplicate can mean, the gravest first."""


def meanings(samples: Sequence[Sample]) -> list[str]:
    """Return why it matters that samples are one picture: keys of ``MEANINGS``, gravest first.

    It is as for a detector of all categories; ``by_detector`` divides samples for detectors of one.
    Whether masks differ is another question: see ``different_masks``.
    """
    defective = [sample for sample in samples if sample.label]
    found = {
        "contradiction": 0 < len(defective) < len(samples),
        "leak": len({sample.split for sample in samples}) > 1,
        "types": len({sample.defect_type for sample in defective}) > 1,
        "categories": len({sample.category for sample in samples}) > 1,
    }
    return [name for name, present in found.items() if present] or ["copy"]


def different_masks(
    samples: Iterable[Sample], rule: MaskRule | None = None
) -> list[tuple[list[Sample], list[npt.NDArray[np.bool_]]]]:
    """Return, of samples that are one picture, those of one defect type whose masks differ.

    Each comes with its masks, decoded by ``rule``, as (H, W) bool. Under several types a
    picture has several masks by right. A mask that is missing or unreadable is left out of the
    comparison.
    """
    types: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.mask is not None:
            types[sample.category, sample.defect_type].append(sample)
    found = []
    for alike in types.values():
        readable = list(_readable(alike, rule)) if len(alike) > 1 else []
        if any(not np.array_equal(mask, readable[0][1]) for _, mask in readable[1:]):
            found.append(([sample for sample, _ in readable], [mask for _, mask in readable]))
    return found


def _readable(
    samples: Iterable[Sample], rule: MaskRule | None
) -> Iterator[tuple[Sample, npt.NDArray[np.bool_]]]:
    for sample in samples:
        try:
            yield sample, read_mask(sample.mask, rule=rule)  # type: ignore[arg-type]
        except MaskError:
            continue


def union_mask(
    samples: Sequence[Sample], rule: MaskRule | None = None
) -> npt.NDArray[np.bool_] | None:
    """Return the union of the samples' masks, decoded by ``rule``, as (H, W) bool.

    ``None`` if one of them is missing or unreadable, or their sizes differ.
    """
    union: npt.NDArray[np.bool_] | None = None
    for sample in samples:
        if sample.mask is None:
            return None
        try:
            mask = read_mask(sample.mask, rule=rule)
        except MaskError:
            return None
        if union is not None and union.shape != mask.shape:
            return None
        union = mask if union is None else union | mask
    return union
