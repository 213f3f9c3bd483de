"""How the images of each folder, and their names, compare with what is known of the archive.

In the archive each folder numbers its images from 000000 in six digits, so that of a missing image
its name can be said. Both editions hold the same images under other names of the defect types; the
pinyin names are published for one category, so those of the others are compared by size alone.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from threecad.dataset.editions import expected_types
from threecad.dataset.findings import Finding
from threecad.dataset.samples import GOOD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from threecad.dataset.catalog import Category
    from threecad.dataset.findings import Severity

__all__ = ["Stems", "check_folders", "is_numbered", "name_differences"]

Stems = dict[tuple[str, str], frozenset[str]]
"""``(split, defect folder)`` -> stems of its images."""

_NUMBERED = 0.9
"""Share of six-digit numbers from 000000 at which a category is named as the archive names it."""

_SHOWN = 4


def check_folders(name: str, stems: Stems, category: Category, severity: Severity) -> list[Finding]:
    """Compare the defect folders and the names of all images with the archive's.

    Args:
        name: The category's folder.
        stems: What is in it.
        category: What the archive holds.
        severity: Of a count or name that differs.
    """
    types = {
        folder: len(found) for (split, folder), found in stems.items() if _is_defect(split, folder)
    }
    expected = expected_types(category, types)
    findings: list[Finding] = []
    if expected is None:
        findings += _compare_sizes(name, types, category, severity)
    else:
        findings += _compare_types(name, stems, types, expected, severity)
    wanted = {("train", GOOD): category.train, ("test", GOOD): category.test_good}
    if expected is not None:
        wanted |= {("test", folder): number for folder, number in expected.items()}
    findings += _compare_names(name, stems, wanted, severity)
    return findings


def _is_defect(split: str, folder: str) -> bool:
    return split == "test" and folder != GOOD


def _compare_types(
    name: str,
    stems: Stems,
    found: Mapping[str, int],
    expected: Mapping[str, int],
    severity: Severity,
) -> Iterator[Finding]:
    for folder in sorted(found.keys() | expected.keys()):
        have, should = found.get(folder, 0), expected.get(folder, 0)
        if have == should:
            continue
        names = stems.get(("test", folder), frozenset())
        what = f"{have:,} images" if have else "no image"
        archive = f"the archive has {should:,}" if should else "the archive has no such folder"
        yield Finding(
            "type-count-differs",
            severity,
            f"{name}/test/{folder} has {what}; {archive}."
            + (name_differences(names, should) if have and should else ""),
            path=f"{name}/test/{folder}",
            advice="Look for the image in the other folders; if it is in none, run `threecad "
            "download` again.",
        )


def _compare_sizes(
    name: str, found: Mapping[str, int], category: Category, severity: Severity
) -> Iterator[Finding]:
    """Compare folders whose names are unknown by the numbers of their images."""
    english = category.archive_types("english")
    if len(found) != len(english):
        yield Finding(
            "types-unknown",
            "info",
            f"{name} has {len(found)} defect folders, the English edition {len(english)}; the "
            "names of this edition are not published, so their counts are compared with nothing.",
            path=name,
        )
        return
    surplus = _without(found, Counter(english.values()))
    lacking = _without(english, Counter(found.values()))
    if surplus:
        yield Finding(
            "type-count-differs",
            severity,
            f"{name} has {_sizes(surplus)}; the English edition has {_sizes(lacking)} instead.",
            path=name,
            advice="Which folder is which is not published: they are told apart by their size. Run "
            "`threecad download` again if files are missing.",
        )


def _without(sizes: Mapping[str, int], there: Counter[int]) -> dict[str, int]:
    """Return the folders whose size has no partner in ``there``."""
    left = there.copy()
    alone = {}
    for folder, size in sorted(sizes.items()):
        if left[size]:
            left[size] -= 1
        else:
            alone[folder] = size
    return alone


def _sizes(folders: Mapping[str, int]) -> str:
    ordered = sorted(folders.items(), key=lambda item: item[1])
    return ", ".join(f"{number:,} images in {folder}" for folder, number in ordered)


# Names


def is_numbered(stems: Stems) -> bool:
    """Whether a category numbers its images as the archive does: in six digits from 000000."""
    fitting = sum(len(found & _numbers(len(found))) for found in stems.values())
    return fitting >= _NUMBERED * sum(map(len, stems.values())) > 0


def _numbers(count: int) -> frozenset[str]:
    return frozenset(f"{number:06d}" for number in range(count))


def name_differences(stems: frozenset[str], number: int) -> str:
    """Say which of 000000 … ``number`` − 1 are not there and what is there instead; "" if nothing.

    It is a sentence with a space before it.
    """
    parts = [
        f"{title}: {_list(names)}"
        for title, names in (
            ("not there", _numbers(number) - stems),
            ("not in the archive", stems - _numbers(number)),
        )
        if names
    ]
    said = "; ".join(parts)
    return f" {said[0].upper()}{said[1:]}." if said else ""


def _compare_names(
    name: str, stems: Stems, wanted: Mapping[tuple[str, str], int], severity: Severity
) -> Iterator[Finding]:
    """Name the images of folders of the right size that are not called as in the archive."""
    if not is_numbered(stems):
        return
    for (split, folder), found in sorted(stems.items()):
        number = wanted.get((split, folder), len(found))
        said = name_differences(found, len(found))
        if number == len(found) and said:
            yield Finding(
                "name-differs",
                severity,
                f"{name}/{split}/{folder} has images of other names than the archive.{said}",
                path=f"{name}/{split}/{folder}",
                advice="Restore the names: ids, split files and results of others rely on them.",
            )


def _list(names: Collection[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _SHOWN:,} more" if len(ordered) > _SHOWN else ""
    return ", ".join(ordered[:_SHOWN]) + more
