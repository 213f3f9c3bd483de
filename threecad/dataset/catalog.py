"""Published facts about 3CAD as frozen data.

Source: the public repository EnquanYang2022/3CAD (state of 2025-04-22) and Yang et al., "3CAD: A
Large-Scale Real-World 3C Product Dataset for Unsupervised Anomaly Detection", AAAI 2025. What its
authors do not state but others found in the archive (names and counts of the defect types,
duplicates) is in ``archive_facts``; where it differs from the published table, it goes first. Size
and hash of the archive are published by nobody.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from threecad.dataset.archive_facts import ArchiveCategory, Edition, archive_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CATEGORIES",
    "CITATIONS",
    "DRIVE_ARCHIVES",
    "DTD_URL",
    "LICENSE_NOTICE",
    "Category",
    "KnownDifference",
    "find_category",
    "is_multiple_defects",
    "published_results",
]


@dataclass(frozen=True)
class KnownDifference:
    """Where the published table and the archive do not agree.

    Attributes:
        archive: What the archive holds.
        published: What the table says.
        source: Who found it, and where it is to be read.
    """

    archive: Any
    published: Any
    source: str


@dataclass(frozen=True)
class Category:
    """One of the eight parts with its published counts.

    Ranges are inclusive ``(lowest, highest)``; heights and widths are in pixels.
    """

    name: str
    code: str
    description: str
    train: int
    test_good: int
    test_defective: int
    defect_types: int
    heights: tuple[int, int]
    widths: tuple[int, int]
    regions_per_image: tuple[int, int]
    types_per_image: tuple[int, int]

    @property
    def test(self) -> int:
        """Number of test images, good and defective."""
        return self.test_good + self.test_defective

    @property
    def archive(self) -> ArchiveCategory:
        """What others found in the archive."""
        return archive_facts().categories[self.name]

    def archive_types(self, edition: Edition = "english") -> Mapping[str, int]:
        """Return the test images of each defect folder of the archive, meta-label included.

        The pinyin names of most categories are not published; it is empty for them.
        """
        if edition == "english":
            return self.archive.types
        return {name: self.archive.types[own] for name, own in self.archive.pinyin.items()}

    @property
    def known_differences(self) -> Mapping[str, KnownDifference]:
        """Field of this table -> how the archive differs from it."""
        archive = self.archive
        known: dict[str, KnownDifference] = {}
        types = sum(not is_multiple_defects(name) for name in archive.types)
        if types != self.defect_types:
            known["defect_types"] = KnownDifference(
                types, self.defect_types, archive.sources["types"]
            )
        if archive.widths is not None and archive.widths != self.widths:
            known["widths"] = KnownDifference(
                archive.widths, self.widths, archive.sources["widths"]
            )
        return known

    def expected(self, field: str) -> Any:
        """Return what a field of this table is in the archive: as published, if no one differs."""
        known = self.known_differences.get(field)
        return getattr(self, field) if known is None else known.archive


CATEGORIES: dict[str, Category] = {
    category.name: category
    for category in (
        Category(
            "Aluminum_Camera_Cover", "ACC", "camera cover, aluminium", 784, 369, 1077, 10,
            (288, 1024), (288, 1024), (1, 6), (1, 1),
        ),
        Category(
            "Aluminum_Ipad", "AI", "tablet housing, aluminium", 2096, 913, 1134, 3,
            (760, 1024), (600, 1024), (1, 10), (1, 2),
        ),
        Category(
            "Aluminum_Middle_Frame", "AMF", "middle frame, aluminium", 1548, 731, 748, 5,
            (540, 1024), (800, 950), (1, 9), (1, 4),
        ),
        Category(
            "Aluminum_New_Ipad", "ANI", "new tablet housing, aluminium", 2233, 999, 3937, 4,
            (420, 1024), (580, 1024), (1, 23), (1, 2),
        ),
        Category(
            "Aluminum_New_Middle_Frame", "ANMF", "new middle frame, aluminium", 1072, 670, 736, 6,
            (400, 1024), (430, 1024), (1, 6), (1, 2),
        ),
        Category(
            "Aluminum_Pc", "AP", "laptop housing, aluminium", 1698, 911, 2250, 14,
            (430, 1024), (409, 1024), (1, 12), (1, 3),
        ),
        Category(
            "Copper_Stator", "CS", "stator winding, copper", 409, 196, 763, 1,
            (1024, 1024), (1024, 1024), (1, 9), (1, 1),
        ),
        Category(
            "Iron_Stator", "IS", "stator lamination, iron", 653, 295, 817, 4,
            (1024, 1024), (1024, 1024), (1, 12), (1, 2),
        ),
    )
}  # fmt: skip

DRIVE_ARCHIVES: dict[str, str] = {
    "english": "1BIX0H8TZp0wmrAnXPw8_aCAIX1j1Fzwz",
    "pinyin": "1zhCHL6oH8_IuEkU72F-9bltroiBHmmcH",
}
"""Google Drive file ids of the two editions; they differ in the spelling of the defect names."""

DTD_URL = "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"
"""The Describable Textures Dataset (Cimpoi et al., CVPR 2014), used to draw synthetic defects."""

LICENSE_NOTICE = (
    "The 3CAD dataset states no licence. Without one, its authors keep all rights: ask them before "
    "any use beyond your own research, do not publish copies, and cite the paper "
    "(`threecad cite`). threecad itself is Apache-2.0; that licence does not cover the images."
)

CITATIONS: dict[str, str] = {
    "3CAD": """@inproceedings{yang2025threecad,
  title     = {3CAD: A Large-Scale Real-World 3C Product Dataset for Unsupervised Anomaly
               Detection},
  author    = {Yang, Enquan and Xing, Peng and Sun, Hanyang and Guo, Wenbo and Ma, Yuanwei and
               Li, Zechao and Zeng, Dan},
  booktitle = {Proceedings of the AAAI Conference on Artificial Intelligence},
  year      = {2025}
}""",
    "DTD": """@inproceedings{cimpoi2014describing,
  title     = {Describing Textures in the Wild},
  author    = {Cimpoi, Mircea and Maji, Subhransu and Kokkinos, Iasonas and Mohamed, Sammy and
               Vedaldi, Andrea},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  year      = {2014}
}""",
}


def _spelling(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_BY_SPELLING = {
    _spelling(alias): category
    for category in CATEGORIES.values()
    for alias in (category.name, category.code)
}


def find_category(name: str) -> Category | None:
    """Return the published category of a folder name or code, whatever its case and separators.

    >>> find_category("Aluminum_Middle-Frame").name
    'Aluminum_Middle_Frame'
    """
    return _BY_SPELLING.get(_spelling(name))


def is_multiple_defects(defect_type: str) -> bool:
    """Whether a folder name is the meta-label for images with several defect types.

    >>> is_multiple_defects("Multiple-defects"), is_multiple_defects("multiple_defect")
    (True, True)
    """
    return _spelling(defect_type) in ("multipledefects", "multipledefect")


@lru_cache(maxsize=1)
def published_results() -> dict[str, Any]:
    """Return the paper's result tables: ``["results"][method][code][metric]``, in percent."""
    text = (
        files("threecad.dataset")
        .joinpath("data/published_results.json")
        .read_text(encoding="utf-8")
    )
    results: dict[str, Any] = json.loads(text)
    return results
