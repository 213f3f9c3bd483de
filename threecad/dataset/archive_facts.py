"""What others found in the archive of 3CAD and published: types, sizes, duplicates.

Nothing of it is in the paper. ``data/archive.json`` names, for each fact, the public repository,
file and commit it comes from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ArchiveCategory",
    "ArchiveFacts",
    "Edition",
    "PublishedGroup",
    "PublishedTotal",
    "archive_facts",
]

Edition = Literal["english", "pinyin"]


@dataclass(frozen=True)
class ArchiveCategory:
    """One category as it stands in the archive.

    Attributes:
        types: Test images per defect folder of the English edition, ``Multiple-defects`` included.
        pinyin: Folder of the pinyin edition -> folder of the English one; empty where unknown.
        widths: Lowest and highest width in pixels; ``None`` where nobody measured them.
        sources: Name of each of these facts -> where it was published.
    """

    types: Mapping[str, int]
    pinyin: Mapping[str, str] = field(default_factory=dict)
    widths: tuple[int, int] | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedGroup:
    """Images that somebody found to be equal.

    Attributes:
        ids: Their sample ids, as in the English edition.
        source: Where it was published.
        mask_pixels: Where their masks differ: defect pixels of each, in the order of ``ids``.
    """

    ids: tuple[str, ...]
    source: str
    mask_pixels: tuple[int, ...] = ()


@dataclass(frozen=True)
class PublishedTotal:
    """How many duplicates somebody counted in one edition; which images is not published."""

    edition: Edition
    what: str
    number: int
    source: str


@dataclass(frozen=True)
class ArchiveFacts:
    """All that is known of the archive beyond the paper.

    Attributes:
        categories: Its categories, by folder name.
        duplicates: Groups of equal images that are published with their names.
        copies: Ids of training images that repeat another training image; which, is not published.
        copies_source: Where ``copies`` were published.
        totals: Counts of duplicates without names.
    """

    categories: Mapping[str, ArchiveCategory]
    duplicates: tuple[PublishedGroup, ...]
    copies: tuple[str, ...]
    copies_source: str
    totals: tuple[PublishedTotal, ...]


@lru_cache(maxsize=1)
def archive_facts() -> ArchiveFacts:
    """Return what is known of the archive."""
    text = files("threecad.dataset").joinpath("data/archive.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    sources, duplicates = content["sources"], content["duplicates"]
    return ArchiveFacts(
        {name: _category(row, sources) for name, row in content["categories"].items()},
        tuple(
            PublishedGroup(
                tuple(group["ids"]),
                sources[group["source"]],
                tuple(group.get("mask_pixels", ())),
            )
            for group in duplicates["groups"]
        ),
        tuple(duplicates["copies"]["ids"]),
        sources[duplicates["copies"]["source"]],
        tuple(
            PublishedTotal(row["edition"], row["what"], row["number"], sources[row["source"]])
            for row in duplicates["totals"]
        ),
    )


def _category(row: dict[str, Any], sources: dict[str, str]) -> ArchiveCategory:
    lowest, highest = row["widths"]["range"] if "widths" in row else (0, 0)
    return ArchiveCategory(
        types=row["types"]["counts"],
        pinyin=row["pinyin"]["names"] if "pinyin" in row else {},
        widths=(lowest, highest) if highest else None,
        sources={fact: sources[content["source"]] for fact, content in row.items()},
    )
