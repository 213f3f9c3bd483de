"""``3cad``: the layout of 3CAD itself, masks named like their images."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from threecad.errors import LayoutError
from threecad.formats.items import Item, make_id
from threecad.formats.placing import Tally, place_image, place_mask, work_through
from threecad.indexing import find_root, scan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.formats.placing import WriteOptions
    from threecad.formats.reading import ReadOptions

__all__ = ["looks_like", "read", "write"]


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    try:
        root = find_root(source)
    except LayoutError:
        return None
    return f"{root} holds folders with train and test"


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the samples of a 3CAD tree."""
    index = scan(
        source,
        categories=options.categories or None,
        errata=options.errata,
        split_file=options.split_file,
    )
    return [Item.of_sample(sample) for sample in index]


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write ``<Category>/<train|test>/<defect_type>/`` and ``<Category>/ground_truth/``."""
    tally = Tally()
    place = partial(_place, folder=folder, options=options)
    for part in work_through(place, items, options, "writing"):
        tally.add(part)
    return tally


def _place(item: Item, folder: Path, options: WriteOptions) -> Tally:
    tally = Tally()
    # Errata may have moved the item to another defect type than its id says.
    place = make_id(item.category, item.folder, item.defect_type, item.stem)
    place_image(item, folder, f"{place}{item.image.suffix}", options, tally)
    if item.label and item.mask is not None:
        mask = folder / item.category / "ground_truth" / item.defect_type / f"{item.stem}.png"
        place_mask(item, mask, options, tally)
    return tally
