"""The duplicates that others found in the archive, and how many of them are in a tree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threecad.auditing.wording import list_ids
from threecad.dataset.archive_facts import archive_facts
from threecad.dataset.catalog import find_category
from threecad.dataset.findings import Finding
from threecad.system.locations import is_marked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from threecad.dataset.archive_facts import PublishedTotal
    from threecad.dataset.samples import Index

__all__ = ["PublishedDuplicates", "compare_with_published"]


@dataclass(frozen=True)
class PublishedDuplicates:
    """How what others found compares with what is here.

    Attributes:
        groups: Published groups of equal images whose images are all here.
        groups_found: Those of them whose pixels are equal here.
        copies: Training images that are published as copies, and are here.
        copies_found: Those of them that repeat another training image here.
        missing: Images of the groups and copies that were not found to be equal to another.
        equal_groups: Groups of equal images here.
        across_categories: Those in several categories.
        trained_on: Training images here that are equal to a test image of any category.
        totals: What others counted, of the whole archive.
    """

    groups: int
    groups_found: int
    copies: int
    copies_found: int
    missing: tuple[str, ...]
    equal_groups: int
    across_categories: int
    trained_on: int
    totals: tuple[PublishedTotal, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON-able data."""
        return {
            "groups": self.groups,
            "groups_found": self.groups_found,
            "copies": self.copies,
            "copies_found": self.copies_found,
            "missing": list(self.missing),
            "equal_groups": self.equal_groups,
            "equal_groups_across_categories": self.across_categories,
            "training_images_equal_to_a_test_image": self.trained_on,
            "totals": [vars(total) for total in self.totals],
        }

    def describe(self) -> Finding:
        """Return the comparison as a finding."""
        published = "; ".join(
            f"{total.number} {total.what} ({total.edition} edition)" for total in self.totals
        )
        missing = f" Not equal to another here: {list_ids(self.missing)}." if self.missing else ""
        return Finding(
            "duplicates-published",
            "info",
            f"Of {self.groups} published groups of equal images {self.groups_found} are equal "
            f"here; of {self.copies} training images published as copies, {self.copies_found}."
            f"{missing} In all there are {self.equal_groups:,} groups of equal images here, "
            f"{self.across_categories:,} of them across categories, and {self.trained_on:,} "
            f"training images equal a test image of some category. Counted by others: {published}.",
            advice="`threecad/dataset/data/archive.json` names who published what. The pinyin "
            "edition was compared byte by byte; whether the English one holds the same bytes is "
            "not known.",
        )


def compare_with_published(
    index: Index, groups: Sequence[tuple[str, ...]]
) -> PublishedDuplicates | None:
    """Compare groups of equal images with the published ones.

    Returns:
        The comparison; ``None`` for the sample, imported data, or a tree of other categories.
    """
    if is_marked(index.root) or not any(map(find_category, index.categories)):
        return None
    facts = archive_facts()
    place = {sample_id: number for number, group in enumerate(groups) for sample_id in group}
    here = frozenset(sample.id for sample in index)
    published = [group.ids for group in facts.duplicates if here.issuperset(group.ids)]
    copies = [sample_id for sample_id in facts.copies if sample_id in here]
    found = [ids for ids in published if len({place.get(one, one) for one in ids}) == 1]
    copied = [one for one in copies if one in place and _trains_twice(groups[place[one]])]
    missing = {one for ids in published if ids not in found for one in ids}
    return PublishedDuplicates(
        groups=len(published),
        groups_found=len(found),
        copies=len(copies),
        copies_found=len(copied),
        missing=tuple(sorted(missing | (set(copies) - set(copied)))),
        equal_groups=len(groups),
        across_categories=sum(len({one.split("/")[0] for one in group}) > 1 for group in groups),
        trained_on=sum(_trained_on(index, group) for group in groups),
        totals=facts.totals,
    )


def _trains_twice(group: Sequence[str]) -> bool:
    return sum(sample_id.split("/")[1] == "train" for sample_id in group) > 1


def _trained_on(index: Index, group: Sequence[str]) -> int:
    """Return how many of equal images are for training, if another is for testing."""
    splits = [index[sample_id].split for sample_id in group]
    return splits.count("train") if "test" in splits else 0
