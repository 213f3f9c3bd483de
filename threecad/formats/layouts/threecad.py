"""``3cad``: the layout of 3CAD itself, masks named like their images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.scanning import find_root, scan
from threecad.errors import LayoutError
from threecad.formats.items import Item, make_id
from threecad.formats.writing import Tally, note_split, place_image, place_mask, work_through

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.dataset.samples import Index
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    try:
        root = find_root(source)
    except LayoutError:
        return None
    return f"{root} holds folders with train and test"


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the samples of a 3CAD tree.

    A sample that errata have relabelled gets the id of where it belongs now: in most layouts the id
    is all that says so.
    """
    index = scan(
        source,
        categories=options.categories or None,
        errata=options.errata,
        split_file=options.split_file,
        fold=options.fold,
    )
    return [_moved(Item.of_sample(sample), taken=index) for sample in index]


def _moved(item: Item, taken: Index) -> Item:
    former = item.id.split("/")[2]
    if item.defect_type == former:
        return item
    new = make_id(item.category, item.folder, item.defect_type, item.stem)
    if new in taken:  # stems are counted anew in every folder
        new = f"{new}-{former}"
    return replace(item, id=new)


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write ``<Category>/<train|test>/<defect_type>/`` and ``<Category>/ground_truth/``."""
    tally = Tally()
    place = partial(_place, folder=folder, options=options)
    for part in work_through(place, items, options, "writing"):
        tally.add(part)
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> Tally:
    tally = Tally()
    place_image(item, folder, f"{item.id}{item.image.suffix}", options, tally)
    note_split(item, tally)
    if item.label and item.mask is not None:
        mask = folder / item.category / "ground_truth" / item.defect_type / f"{item.stem}.png"
        place_mask(item, mask, options, tally)
    return tally
