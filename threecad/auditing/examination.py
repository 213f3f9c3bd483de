"""Can figures measured on this tree be trusted? Duplicates across every boundary, and odd masks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threecad.auditing.known import compare_with_published
from threecad.auditing.meanings import MEANINGS, different_masks, meanings, union_mask
from threecad.auditing.wording import (
    describe_across,
    describe_alike,
    describe_exact,
    describe_near,
    describe_undecidable,
)
from threecad.dataset.duplicates.exact import by_detector, find_exact
from threecad.dataset.duplicates.near import (
    NEAR_FRACTION,
    NearGroup,
    NearPair,
    find_near_across,
    survey_near,
)
from threecad.dataset.file_checks import check_depths, check_images, check_masks, suspect_masks
from threecad.dataset.findings import FindingsReport
from threecad.dataset.samples import Index
from threecad.dataset.scanning import scan
from threecad.images.facts import inspect_images, inspect_masks

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from threecad.dataset.samples import Sample
    from threecad.images.facts import ImageFacts
    from threecad.images.masks import MaskRule

__all__ = ["MEANINGS", "Audit", "Duplicate", "audit", "meanings", "union_mask"]


@dataclass(frozen=True)
class Duplicate:
    """Samples that are one picture, or look like one, and why it matters.

    Attributes:
        ids: Their ids, sorted.
        meanings: Keys of ``MEANINGS``, the gravest first.
        pairs: Of samples that only look the same, those that are near each other, closest first.
    """

    ids: tuple[str, ...]
    meanings: tuple[str, ...]
    pairs: tuple[NearPair, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        index: What was looked at.
        report: The findings, with figures in ``summary``.
        exact: Groups of ids whose images have equal pixels, in whatever categories they are.
        near: Pairs of ids whose images look the same, closest first. Where a category looks alike
            there are none.
        duplicates: What equal pixels mean: of each group the part in each category, and the whole
            where it is in several; just the whole if ``across_categories``.
        near_duplicates: The same of images that look the same.
        across_categories: Whether pictures in several categories count as for a detector of all.
        mask_rule: The rule by which all masks were decoded, if one was given.
    """

    index: Index
    report: FindingsReport
    exact: tuple[tuple[str, ...], ...]
    near: tuple[NearPair, ...]
    duplicates: tuple[Duplicate, ...] = ()
    near_duplicates: tuple[Duplicate, ...] = ()
    across_categories: bool = False
    mask_rule: MaskRule | None = None


def audit(
    root: str | os.PathLike[str] | Index | None = None,
    *,
    near: bool = False,
    fraction: float = NEAR_FRACTION,
    across_categories: bool = False,
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
        across_categories: Take a picture in several categories as a detector of all categories
            meets it: as a leak or a contradiction. Otherwise it is only said to be there.
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
    duplicates = [
        duplicate
        for group in exact
        for duplicate in _interpret(_samples(index, group), across_categories, mask_rule)
    ]
    report = FindingsReport(str(index.root), list(index.findings))
    report.findings += check_images(index, images)
    report.findings += check_depths(index)
    report.findings += check_masks(index, images, masks)
    report.findings += suspect_masks(index, masks)
    for duplicate in duplicates:
        report.findings += describe_exact(
            _samples(index, duplicate.ids), duplicate.meanings, mask_rule
        )
    report.summary = {
        "images": len(index),
        "masks": len(masks),
        "errata": index.errata_digest,
        "mask_rule": mask_rule,
        "across_categories": across_categories,
        "duplicate_groups": len(exact),
        "duplicate_images": sum(map(len, exact)),
        "meanings": _count_meanings(duplicates),
    }
    if published := compare_with_published(index, exact):
        report.findings.append(published.describe())
        report.summary["published_duplicates"] = published.to_dict()
    near_duplicates: list[Duplicate] = []
    if near:
        near_duplicates = _look_for_near(index, images, fraction, across_categories, report)
    return Audit(
        index,
        report,
        tuple(exact),
        tuple(
            sorted(
                (pair for duplicate in near_duplicates for pair in duplicate.pairs),
                key=lambda pair: (pair.distance, pair.first, pair.second),
            )
        ),
        tuple(duplicates),
        tuple(near_duplicates),
        across_categories,
        mask_rule,
    )


def _interpret(
    samples: Sequence[Sample], across_categories: bool, rule: MaskRule | None
) -> Iterator[Duplicate]:
    """Yield what equal pixels mean to each detector that meets more than one of them."""
    for part in by_detector(samples, across_categories=across_categories):
        if len(part) > 1:
            names = meanings(part)
            if different_masks(part, rule):
                names = [name for name in names if name != "copy"] + ["masks"]
            yield Duplicate(tuple(sample.id for sample in part), tuple(names))
    if not across_categories and "categories" in meanings(samples):
        yield Duplicate(tuple(sample.id for sample in samples), ("categories",))


def _look_for_near(
    index: Index,
    images: Mapping[Path, ImageFacts],
    fraction: float,
    across_categories: bool,
    report: FindingsReport,
) -> list[Duplicate]:
    """Return what looks the same, and put it into the report."""
    groups: list[NearGroup] = []
    pairs, alike = 0, {}
    for samples in by_detector(index, across_categories=across_categories):
        survey = survey_near(samples, images, fraction=fraction)
        groups += survey.groups
        pairs += survey.pairs
        if survey.alike:
            name = "All categories" if across_categories else samples[0].category
            alike[name] = len(survey.alike)
            report.findings.append(describe_alike(name, survey, len(samples)))
    duplicates = [
        Duplicate(group.ids, tuple(meanings(_samples(index, group.ids))), group.pairs)
        for group in groups
    ]
    for duplicate in duplicates:
        report.findings += describe_near(duplicate.ids, duplicate.meanings, duplicate.pairs)
    report.summary["near"] = {
        "fraction": fraction,
        "pairs": pairs,
        "groups": len(groups),
        "meanings": _count_meanings(duplicates),
        "alike": alike,
    }
    if not across_categories and len(index.categories) > 1:
        across = find_near_across(index, images, fraction=fraction)
        report.findings += describe_across(across)
        report.summary["near"]["across"] = sum(found.pairs for found in across.values())
    undecidable, limits = describe_undecidable(index, images, fraction)
    report.findings += undecidable
    report.summary["near"]["limits"] = limits
    return duplicates


def _count_meanings(duplicates: Sequence[Duplicate]) -> dict[str, int]:
    return dict(Counter(name for duplicate in duplicates for name in duplicate.meanings))


def _samples(index: Index, ids: Sequence[str]) -> list[Sample]:
    return [index[sample_id] for sample_id in ids]
