"""Images that are there twice: exactly (by pixels) or nearly (by a perceptual hash)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from threecad.dataset.duplicates.near import find_near, survey_near
from threecad.images.facts import inspect_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from threecad.dataset.scanning import Index, Sample
    from threecad.images.facts import ImageFacts

__all__ = ["by_detector", "duplicate_groups", "find_exact", "find_near", "merge"]


def duplicate_groups(
    index: Index,
    *,
    near: bool = False,
    across_categories: bool = False,
    workers: int | None = None,
    cluster: str | None = None,
    progress: bool = False,
) -> dict[str, str]:
    """Return, for each sample id, the smallest id among its duplicates (its own if it has none).

    Near duplicates are followed from one to the next, so a group may hold two images that are not
    themselves near; where a category looks alike, only the closest are (see ``survey_near``). An
    image that does not decode has no duplicates.

    Args:
        index: What to look at.
        near: Whether images that look the same are duplicates, too.
        across_categories: Whether images of two categories can be.
        workers: Worker processes.
        cluster: Where to run them, if not here; see ``threecad.system.parallel.map``.
        progress: Show a progress bar on stderr.
    """
    facts = inspect_images(
        index.root,
        [sample.image for sample in index],
        workers=workers,
        cluster=cluster,
        description="looking for duplicates" if progress else None,
    )
    links: list[tuple[str, str]] = []
    for samples in by_detector(index, across_categories=across_categories):
        groups = find_exact(samples, facts)
        if near:
            survey = survey_near(samples, facts)
            groups += [*(group.ids for group in survey.groups), *survey.closer]
        links += [(group[0], other) for group in groups for other in group[1:]]
    return merge((sample.id for sample in index), links)


def by_detector(samples: Iterable[Sample], *, across_categories: bool) -> Iterator[list[Sample]]:
    """Yield the samples that one detector can meet: of each category, or all of them."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        members["" if across_categories else sample.category].append(sample)
    yield from members.values()


def find_exact(
    samples: Iterable[Sample], facts: Mapping[Path, ImageFacts]
) -> list[tuple[str, ...]]:
    """Return the groups of two or more ids whose images have equal pixels, sorted."""
    groups: dict[str, list[str]] = defaultdict(list)
    for sample in samples:
        if pixels := facts[sample.image].pixels:
            groups[pixels].append(sample.id)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)


def merge(ids: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return, for each id, the smallest id it is connected with through ``pairs``."""
    parent = {sample_id: sample_id for sample_id in ids}

    def find(sample_id: str) -> str:
        while parent[sample_id] != sample_id:
            parent[sample_id] = parent[parent[sample_id]]
            sample_id = parent[sample_id]
        return sample_id

    for first, second in pairs:
        low, high = sorted((find(first), find(second)))
        parent[high] = low
    return {sample_id: find(sample_id) for sample_id in parent}
