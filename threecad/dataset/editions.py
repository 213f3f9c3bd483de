"""Which edition of the archive some defect folders are of, and so how many images each should hold.

Both editions hold the same images under other names of the defect types. The pinyin names are
published for one category only.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from threecad.dataset.catalog import is_multiple_defects

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from threecad.dataset.catalog import Category

__all__ = ["expected_types", "looks_like_pinyin"]

_SYLLABLE = (
    r"(?:[bpmf]|[dtnl]|[gkh]|[jqx]|[zcs]h?|[ryw])?"
    r"(?:iang|iong|uang|ang|eng|ing|ong|iao|ian|uai|uan|ai|ei|ao|ou|an|en|in|un|ia|ie|iu|ua|uo|ui"
    r"|ue|er|a|o|e|i|u|v)"
)
_PINYIN = re.compile(rf"(?:{_SYLLABLE}){{2,}}")


def looks_like_pinyin(name: str) -> bool:
    """Whether a name can be read as two or more syllables of pinyin."""
    return bool(_PINYIN.fullmatch(name))


def expected_types(category: Category, found: Collection[str]) -> Mapping[str, int] | None:
    """Return how many images each defect folder of a category holds in the archive.

    Args:
        category: Which category.
        found: Its defect folders in a tree: they tell the edition, and how the label for several
            types is spelled.

    Returns:
        The folders of the edition that has more of these names, ``Multiple-defects`` included;
        ``None`` if they are names of the pinyin edition that nobody has published.
    """
    english, pinyin = category.archive_types("english"), category.archive_types("pinyin")
    shared = [len(types.keys() & set(found)) for types in (english, pinyin)]
    if not any(shared) and found and all(map(looks_like_pinyin, found)):
        return pinyin or None
    types = pinyin if shared[1] > shared[0] else english
    labels = [folder for folder in found if is_multiple_defects(folder)]
    if len(labels) != 1:
        return types
    return {
        labels[0] if is_multiple_defects(folder) else folder: number
        for folder, number in types.items()
    }
