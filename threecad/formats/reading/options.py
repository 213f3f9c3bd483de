"""What the readers share: their options, and how an image comes to its label and id."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from threecad.dataset.naming import is_good_name
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.items import Item, make_id
from threecad.formats.reading.decisions import Decisions

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from threecad.formats.contents import Content, Mask
    from threecad.formats.reading.source import Source
    from threecad.images.masks import MaskRule

__all__ = [
    "BAD",
    "ReadOptions",
    "category_name",
    "foreign_id",
    "hub_split",
    "is_sample_id",
    "item_of_id",
    "split_of_hub",
    "type_of_shape",
]

BAD = "bad"
"""Defect type of what is defective in a source that does not say how."""

_VOID = frozenset({"__ignore__", "_background_", "background", "ignore", "void"})


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may be told.

    Attributes:
        category: Name of the category, for layouts that name none.
        good: Folder of defect-free photographs, for ``photographs``.
        bad: Folder of defective photographs, for ``photographs``.
        split_file: Says which image belongs to which split.
        fold: The fold of it to hold out, if it has folds.
        errata: Corrections to apply to a 3CAD tree.
        mask_rule: Overrides how masks are binarised.
        decisions: What to do with what is in doubt.
    """

    category: str | None = None
    good: Path | None = None
    bad: Path | None = None
    split_file: Path | None = None
    fold: int | None = None
    errata: Path | None = None
    mask_rule: MaskRule | None = None
    decisions: Decisions = field(default_factory=Decisions)


def category_name(source: Path, options: ReadOptions) -> str:
    """Return the category asked for, or the name of the source folder, Unicode NFC."""
    return unicodedata.normalize("NFC", options.category or source.resolve().name)


def is_sample_id(value: object) -> TypeGuard[str]:
    """Whether ``value`` has the form of a sample id."""
    if not isinstance(value, str):
        return False
    parts = value.split("/")
    return len(parts) == 4 and all(parts) and parts[1] in ("train", "val", "test")


def item_of_id(
    sample_id: str, *, image: Content, mask: Mask | None, split: str, as_stored: bool = False
) -> Item:
    """Return the item of a sample id.

    A mask is kept for a good image, too: that it is empty is made sure of later, for all layouts.
    ``as_stored`` says that it lies over the pixels as they are stored, whatever viewers show.

    Raises:
        ConversionError: If it is no sample id.
    """
    if not is_sample_id(sample_id):
        raise ConversionError(
            f"{sample_id!r} is no sample id. Expected <category>/<train|test>/<defect_type>/<stem>."
        )
    parts = sample_id.split("/")
    category, _, defect_type, _ = parts
    return Item(
        id=make_id(*parts),
        category=category,
        split=split,
        defect_type=defect_type,
        image=image,
        mask=mask,
        as_stored=as_stored,
    )


def foreign_id(
    classes: Iterable[str], split: str, stem: str, source: Path, options: ReadOptions
) -> str:
    """Return a sample id for an image of a layout that has none.

    Args:
        classes: What is to be seen in it, each a defect type or ``<Category>/<defect_type>``. None
            makes it a good image, several one with ``Multiple-defects``.
        split: ``train``, ``val``, ``test``, or ``""`` where that is not known.
        stem: File name without suffix.
        source: The folder that is read: it names the category if ``options`` do not.
        options: What the reader was told.
    """
    kinds = sorted({name.split("/")[-1].strip() for name in classes} - {""})
    defect_type = GOOD if not kinds else kinds[0] if len(kinds) == 1 else "Multiple-defects"
    return make_id(category_name(source, options), split or "test", defect_type, stem)


def type_of_shape(label: object, source: Source, image: Path, where: str) -> str | None:
    """Return the defect type of a shape that is drawn on an image, ``None`` if it is no defect.

    Args:
        label: What the annotation calls it.
        source: The source, which counts it, or refuses one that is called good or nothing.
        image: The image that it is drawn on.
        where: How messages name the shape.
    """
    text = str(label).strip() if isinstance(label, (str, int, float)) else ""
    name = text.split("/")[-1].strip()
    if name.casefold() in _VOID:
        source.leave_out_entry(where, "void, not a defect")
        return None
    if name and not is_good_name(name):
        source.use_entry()
        return text
    called = f"is called {text!r}" if text else "has no label"
    match source.decisions.conflicts:
        case "mask":
            source.use_entry()
            return BAD
        case "label":
            source.leave_out_entry(where, called)
        case "skip":
            source.leave_out_entry(where, called)
            source.skipped[image] = f"a shape on it {called}"
        case _:
            source.doubts.add(
                f"{where}: a shape is drawn on {source.relative(image)}, but it {called}",
                switch="conflicts",
            )
    return None


def hub_split(split: str) -> str:
    """Return what Hugging Face calls a split: ``val`` is ``validation`` there."""
    return "validation" if split == "val" else split


def split_of_hub(name: str) -> str:
    """Return our name of a split that Hugging Face has named."""
    return "val" if name == "validation" else name
