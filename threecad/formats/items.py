"""One image on its way from one layout to another, and where its bytes are.

Readers return items, writers take them. An item is small: it says where the image and its mask are
and how to get at them, so that a list of all of them is cheap and goes to worker processes.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError, MaskError
from threecad.formats.contents import Content, File, Mask, MaskImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from threecad.dataset.samples import Sample
    from threecad.images.masks import MaskRule

__all__ = ["Item", "MaskImages", "make_id", "relative_posix"]


@dataclass(frozen=True)
class MaskImages:
    """A mask that is the union of several images; every value but 0 is defect.

    Attributes:
        parts: The images, of one size.
    """

    parts: tuple[MaskImage, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` from the header of the first."""
        return self.parts[0].shape

    def decode(self, rule: MaskRule | None) -> tuple[NDArray[np.bool_], str, tuple[str, ...]]:
        """Return the mask, ``(H, W) bool``, the rule used and the codes of what is odd."""
        masks = [part.decode(rule or "binary")[0] for part in self.parts]
        if odd := [
            part
            for part, mask in zip(self.parts, masks, strict=True)
            if mask.shape != masks[0].shape
        ]:
            raise MaskError(
                f"{self.parts[0]} and {odd[0]} belong to one image but are of different sizes."
            )
        mask = np.logical_or.reduce(masks)
        return mask, rule or "binary", () if mask.any() else ("mask-empty",)

    def stamp(self) -> str:
        """Return the stamps of the images."""
        return "|".join(part.stamp() for part in self.parts)

    def __str__(self) -> str:
        """Return how messages name it."""
        first = str(self.parts[0])
        return first if len(self.parts) == 1 else f"{first} and {len(self.parts) - 1} more"


@dataclass(frozen=True)
class Item:
    """One image to convert.

    Attributes:
        id: The sample id, ``<category>/<train|test>/<defect_type>/<stem>``.
        category: Name of the category.
        split: The split it is used in: ``train``, ``val`` or ``test``; ``""`` while undecided.
        defect_type: ``good`` for a defect-free image.
        image: Where the image is.
        mask: Where its mask is; ``None`` for a good image and where there is none.
        name: What a layout calls it that has no room for the id, without a suffix.
        judged_by_mask: Whether nothing but the mask says if it is good: an empty one does.
        as_stored: Whether the mask lies over the pixels as they are stored, where a photograph's
            orientation turns what viewers show.
    """

    id: str
    category: str
    split: str
    defect_type: str
    image: Content
    mask: Mask | None = None
    name: str = ""
    judged_by_mask: bool = False
    as_stored: bool = False

    @property
    def label(self) -> int:
        """0 for good, 1 for defective."""
        return int(self.defect_type != GOOD)

    @property
    def stem(self) -> str:
        """The last part of the id."""
        return self.id.rsplit("/", 1)[1]

    @property
    def class_name(self) -> str:
        """``<Category>/<defect_type>``: what layouts with one list of classes call the defect."""
        return f"{self.category}/{self.defect_type}"

    @property
    def folder(self) -> str:
        """The split that the id names: where the image stands in a 3CAD tree."""
        return self.id.split("/")[1]

    @classmethod
    def of_sample(cls, sample: Sample) -> Item:
        """Return the item of an indexed sample."""
        return cls(
            id=sample.id,
            category=sample.category,
            split=sample.split,
            defect_type=sample.defect_type,
            image=File(sample.image),
            mask=MaskImage(File(sample.mask)) if sample.mask is not None else None,
            as_stored=True,
        )


def make_id(category: str, split: str, defect_type: str, stem: str) -> str:
    """Return the sample id, Unicode NFC.

    Raises:
        ConversionError: If a part is empty, leads out of the tree or has characters that a file
            name cannot have.
    """
    parts = [unicodedata.normalize("NFC", part) for part in (category, split, defect_type, stem)]
    for part in parts:
        if not part or part.startswith(".") or set(part) & set('/\\\0:*?"<>|\n\r\t'):
            raise ConversionError(
                f"{part!r} (from {'/'.join(parts)!r}) cannot be part of a file name. "
                "Rename the file, folder or class it comes from."
            )
    return "/".join(parts)


def relative_posix(path: Path, start: Path) -> str:
    """Return ``path`` seen from ``start``, with forward slashes."""
    return Path(os.path.relpath(path, start)).as_posix()
