"""Which images a sample holds, and what their folders are called in either edition."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from threecad.dataset.catalog import CATEGORIES, find_category
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from threecad.dataset.archive_facts import Edition

__all__ = ["Job", "Like", "choose_categories", "plan_archive", "plan_sample"]

Like = Literal["genuine"]
"""What a sample may be a stand-in for: the genuine archive, with all its file names."""


class Job(NamedTuple):
    """One image to draw: the arguments of `render`, and its folder in the edition asked for."""

    category: str
    split: str
    defect_type: str | None
    number: int
    folder: str


def choose_categories(categories: Sequence[str] | None, edition: Edition) -> list[str]:
    """Return the folder names of the categories, in the order of the catalogue, each once.

    Raises:
        UsageError: If there is no such category, or its names in this edition are not known.
    """
    known = [name for name, category in CATEGORIES.items() if category.archive_types(edition)]
    chosen = set()
    for name in known if categories is None else categories:
        category = find_category(name)
        if category is None:
            raise UsageError(f"No category {name!r}. Categories: {', '.join(CATEGORIES)}.")
        if category.name not in known:
            raise UsageError(
                f"The {edition} names of the defect types of {category.name} are not published. "
                f"They are known for: {', '.join(known)}."
            )
        chosen.add(category.name)
    if not chosen:
        raise UsageError("No category is named. Leave categories out to get all of them.")
    return [name for name in CATEGORIES if name in chosen]


def plan_sample(category: str, count: int, edition: Edition = "english") -> Iterator[Job]:
    """Yield `count` good images for training, and as many good and defective ones for testing."""
    return _plan(category, count, count, count, edition)


def plan_archive(category: str, edition: Edition = "english") -> Iterator[Job]:
    """Yield an image for each one that the archive holds."""
    facts = CATEGORIES[category]
    return _plan(category, facts.train, facts.test_good, facts.test_defective, edition)


def _plan(category: str, train: int, good: int, defective: int, edition: Edition) -> Iterator[Job]:
    for split, count in (("train", train), ("test", good)):
        for number in range(count):
            yield Job(category, split, None, number, "good")
    folders = _folders(category, edition)
    numbers = dict.fromkeys(folders, 0)
    for defect_type in islice(_in_proportion(category), defective):
        number, numbers[defect_type] = numbers[defect_type], numbers[defect_type] + 1
        yield Job(category, "test", defect_type, number, folders[defect_type])


def _folders(category: str, edition: Edition) -> dict[str, str]:
    """Return English name → folder in the edition."""
    facts = CATEGORIES[category]
    if edition == "english":
        return {name: name for name in facts.archive_types()}
    return {english: own for own, english in facts.archive.pinyin.items()}


def _in_proportion(category: str) -> Iterator[str]:
    """Yield types without end, each once and then in proportion to their images in the archive.

    By Webster's method: after as many as the archive has, each type has come as often as there.
    """
    counts = CATEGORIES[category].archive_types()
    given = dict.fromkeys(sorted(counts, key=lambda name: (-counts[name], name)), 1)
    yield from given
    while True:
        name = max(given, key=lambda name: counts[name] / (2 * given[name] + 1))
        given[name] += 1
        yield name
