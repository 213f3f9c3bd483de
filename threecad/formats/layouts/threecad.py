"""``3cad``: the layout of 3CAD itself, masks named like their images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.scanning import category_folders, find_root, holds_types, scan
from threecad.errors import LayoutError
from threecad.formats.items import Item, make_id
from threecad.formats.writing import Tally, note_split, place_image, place_mask, work_through

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.dataset.findings import Finding
    from threecad.dataset.samples import Index
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    try:
        root = find_root(source.root)
    except LayoutError:
        return None
    if not any(map(holds_types, category_folders(root).values())):
        return None
    return f"{root} holds folders with train and test"


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the samples of a 3CAD tree.

    A sample that errata have relabelled gets the id of where it belongs now: in most layouts the id
    is all that says so.
    """
    whole = scan(source.root)
    index = scan(
        source.root, errata=options.errata, split_file=options.split_file, fold=options.fold
    )
    chosen = {path for sample in index for path in (sample.image, sample.mask)}
    for sample in whole:
        for path in (sample.image, sample.mask):
            if path is not None and path not in chosen:
                source.leave_out(path, "not in the split, or corrected by the errata")
    for finding in whole.findings:
        _report(finding, whole.root, source)
    return [_moved(Item.of_sample(sample), taken=index) for sample in index]


def _report(finding: Finding, root: Path, source: Source) -> None:
    """Pass on what the scan found; what is doubtful about it is for the settling to say."""
    path = root / (finding.path or "")
    match finding.code:
        case "mask-orphan":
            source.orphan_file(path, "has no image of its stem")
        case "mask-unexpected" | "mask-shared":
            source.fault(f"{finding.message} {finding.advice}")
        case "mask-misplaced":
            source.orphan_file(path, "is a mask among the photographs")
        case "file-unexpected":
            pass  # it is left out as whatever else is neither image nor annotation
        case _:
            source.findings.append(f"{finding.message} {finding.advice}".strip())


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
