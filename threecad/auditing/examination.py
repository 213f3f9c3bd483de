"""Can figures measured on this tree be trusted? Duplicates across every boundary, and odd masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.dataset.duplicates import (
    LEAST_DISTANCE,
    NEAR_FRACTION,
    NearPair,
    find_exact,
    find_near,
    typical_distance,
)
from threecad.dataset.file_checks import check_images, check_masks, suspect_masks
from threecad.dataset.findings import Finding, FindingsReport
from threecad.dataset.samples import Index
from threecad.dataset.scanning import scan
from threecad.errors import MaskError
from threecad.images.facts import inspect_images, inspect_masks
from threecad.images.masks import read_mask
from threecad.images.regions import regions

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from threecad.dataset.findings import Severity
    from threecad.dataset.samples import Sample
    from threecad.images.facts import ImageFacts
    from threecad.images.masks import MaskRule

__all__ = ["MEANINGS", "Audit", "audit", "meanings", "union_mask"]


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
        "--write-errata and evaluate with --errata.",
        "Photographs of one part belong on one side: `threecad split --kind leak-free --near`, or "
        "--write-errata and evaluate with --errata.",
    ),
    "types": Meaning(
        "warning",
        "info",
        "under several defect types",
        "The image shows all of these types, and its mask is the union; --write-errata makes it "
        "one sample.",
        "Look whether each shows the other's defect, too, and its mask lacks it.",
    ),
    "categories": Meaning(
        "warning",
        "info",
        "in several categories",
        "One of the folders may be the wrong one.",
        "One of the folders may be the wrong one.",
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


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        index: What was looked at.
        report: The findings, with figures in ``summary``.
        exact: Groups of ids whose images have equal pixels.
        near: Pairs of ids whose images look the same, closest first.
        mask_rule: The rule by which all masks were decoded, if one was given.
    """

    index: Index
    report: FindingsReport
    exact: tuple[tuple[str, ...], ...]
    near: tuple[NearPair, ...]
    mask_rule: MaskRule | None = None


def audit(
    root: str | os.PathLike[str] | Index | None = None,
    *,
    near: bool = False,
    fraction: float = NEAR_FRACTION,
    mask_rule: MaskRule | None = None,
    categories: Collection[str] | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> Audit:
    """Decode every image and mask once and say what is there twice and which masks are odd.

    Facts of unchanged files are remembered in ``ROOT/.threecad``: a second audit takes seconds.

    Args:
        root: A tree, or an index of one (with a split file or errata applied); the default root if
            ``None``.
        near: Look for images that look the same, too.
        fraction: How alike: the share of their category's typical distance that counts as near.
        mask_rule: Decode all masks by this rule; see ``threecad.decode_mask``.
        categories: Only these categories.
        workers: Worker processes.
        cluster: Where to run them, if not here; see ``threecad.system.parallel.map``.
        progress: Show progress bars on stderr.

    Raises:
        LayoutError: If ``root`` holds no such tree.
    """
    index = root if isinstance(root, Index) else scan(root, categories=categories)
    if isinstance(root, Index) and categories is not None:
        index = index.select(category=categories)
    options: dict[str, Any] = {"workers": workers, "cluster": cluster}
    images = inspect_images(
        index.root,
        [sample.image for sample in index],
        description="decoding images" if progress else None,
        **options,
    )
    masks = inspect_masks(
        index.root,
        [sample.mask for sample in index if sample.mask],
        rule=mask_rule,
        description="checking masks" if progress else None,
        **options,
    )
    exact = find_exact(index, images)
    pairs = find_near(index, images, fraction=fraction) if near else []
    report = FindingsReport(str(index.root), list(index.findings))
    report.findings += check_images(index, images)
    report.findings += check_masks(index, images, masks)
    report.findings += suspect_masks(index, masks)
    report.findings += _describe_groups(index, exact, mask_rule)
    report.findings += _describe_pairs(index, pairs)
    report.summary = {
        "images": len(index),
        "masks": len(masks),
        "errata": index.errata_digest,
        "mask_rule": mask_rule,
        "duplicate_groups": len(exact),
        "duplicate_images": sum(map(len, exact)),
        "meanings": dict(Counter(m for group in exact for m in meanings(_samples(index, group)))),
    }
    if near:
        report.findings += _undecidable(index, images)
        report.summary["near"] = {
            "fraction": fraction,
            "pairs": len(pairs),
            "meanings": dict(
                Counter(m for p in pairs for m in meanings(_samples(index, (p.first, p.second))))
            ),
            "limits": {
                name: int(fraction * distance) for name, distance in _distances(index, images)
            },
        }
    return Audit(index, report, tuple(exact), tuple(pairs), mask_rule)


def meanings(samples: Sequence[Sample]) -> list[str]:
    """Return why it matters that samples are one picture: keys of ``MEANINGS``, gravest first."""
    defective = [sample for sample in samples if sample.label]
    found = {
        "contradiction": 0 < len(defective) < len(samples),
        "leak": len({sample.split for sample in samples}) > 1,
        "types": len({sample.defect_type for sample in defective}) > 1,
        "categories": len({sample.category for sample in samples}) > 1,
    }
    return [name for name, present in found.items() if present] or ["copy"]


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


def _samples(index: Index, ids: Sequence[str]) -> list[Sample]:
    return [index[sample_id] for sample_id in ids]


def _describe_groups(
    index: Index, groups: Sequence[tuple[str, ...]], rule: MaskRule | None
) -> Iterator[Finding]:
    for group in groups:
        samples = _samples(index, group)
        for name in meanings(samples):
            message = f"The same pixels are {MEANINGS[name].title}: {_list(group)}."
            if name == "types":
                message += f" {_describe_types(samples, rule)}"
            yield Finding(
                f"duplicate-{name}",
                MEANINGS[name].exact,
                message,
                id=group[0],
                advice=MEANINGS[name].advice,
            )


def _describe_types(samples: Sequence[Sample], rule: MaskRule | None) -> str:
    defective = [sample for sample in samples if sample.label]
    types = sorted({name for sample in defective for name in sample.defect_types})
    union = union_mask(defective, rule)
    if union is None:
        masks = "its masks cannot be joined (missing, unreadable or of several sizes)"
    else:
        masks = (
            f"the union of its masks has {np.count_nonzero(union):,} pixels in "
            f"{len(regions(union))} region(s)"
        )
    return f"Its types are {', '.join(types) or 'unknown'}; {masks}."


def _describe_pairs(index: Index, pairs: Sequence[NearPair]) -> Iterator[Finding]:
    for pair in pairs:
        for name in meanings(_samples(index, (pair.first, pair.second))):
            yield Finding(
                f"near-{name}",
                MEANINGS[name].near,
                f"{pair.first} and {pair.second} look the same, {MEANINGS[name].title} "
                f"({pair.distance} bits apart, limit {pair.limit}).",
                id=pair.first,
                advice=MEANINGS[name].near_advice,
            )


def _undecidable(index: Index, images: Mapping[Path, ImageFacts]) -> Iterator[Finding]:
    for name, distance in _distances(index, images):
        if distance < LEAST_DISTANCE:
            yield Finding(
                "near-undecidable",
                "info",
                f"The images of {name} are too alike ({distance:.0f} bits apart on average) for "
                "near duplicates to stand out; only equal pixels were looked for.",
                path=name,
            )


def _distances(index: Index, images: Mapping[Path, ImageFacts]) -> Iterator[tuple[str, float]]:
    for name in index.categories:
        yield name, typical_distance(index.select(category=name), images)


def _list(ids: Sequence[str], shown: int = 4) -> str:
    more = f" and {len(ids) - shown} more" if len(ids) > shown else ""
    return ", ".join(ids[:shown]) + more
