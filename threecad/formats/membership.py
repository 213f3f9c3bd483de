"""Which image is for training, validation and test, where the layout read leaves it open."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

from threecad.dataset.samples import GOOD, Index, Sample
from threecad.errors import ConversionError, UsageError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.reading.options import BAD, item_of_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.dataset.samples import Split
    from threecad.dataset.split_files import SplitFile, SplitRow
    from threecad.formats.items import Item

__all__ = ["apply_split_file", "assign_splits", "divide"]


def assign_splits(items: Sequence[Item], *, test_fraction: float, seed: int) -> list[Item]:
    """Return the items with every undecided split decided.

    Defective images are for testing. Of the good ones the given fraction, rounded, is for testing:
    those whose SHA-256 of seed and bytes is lowest, so that the choice depends on the content alone
    and copies of one image stay together.

    Raises:
        UsageError: If ``test_fraction`` is not in [0, 1].
    """
    if not 0 <= test_fraction <= 1:
        raise UsageError(f"The test fraction is {test_fraction}; expected 0 to 1.")
    undecided = [item for item in items if not item.split and not item.label]
    digests = {item.id: _digest(item, seed) for item in undecided}
    chosen: set[str] = set()
    for category in {item.category for item in undecided}:
        ranked = sorted(digests[item.id] for item in undecided if item.category == category)
        chosen.update(ranked[: round(test_fraction * len(ranked))])
    return [
        item
        if item.split
        else _with_split(item, "test" if item.label or digests[item.id] in chosen else "train")
        for item in items
    ]


def _digest(item: Item, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n".encode() + item.image.read_bytes()).hexdigest()


def _with_split(item: Item, split: str) -> Item:
    return replace(item, split=split, id=make_id(item.category, split, item.defect_type, item.stem))


def apply_split_file(items: Sequence[Item], split_file: SplitFile, source: Path) -> list[Item]:
    """Return the items that a split file names, as it names them.

    Images are found by their path. Where a row has an id, category, defect type and id are its;
    where it has none, an image that the layout leaves without split gets the id of its place.

    Raises:
        ConversionError: If it names an image or mask that the source has not.
    """
    by_path = {item.image.path.resolve(): item for item in items if isinstance(item.image, File)}
    chosen, missing = [], []
    for row in split_file.rows:
        item = by_path.get((source / row.image).resolve())
        mask = source / row.mask
        if item is None or (row.mask and not mask.is_file()):
            missing.append(row.image if item is None else row.mask)
        else:
            chosen.append(_item_of_row(item, row, mask if row.mask else None))
    if missing:
        raise ConversionError(
            f"{split_file.path} names {len(missing)} files that are not among the images of "
            f"{source}, the first is {missing[0]!r}. Is it the split file of this folder?"
        )
    return chosen


def _item_of_row(item: Item, row: SplitRow, mask: Path | None) -> Item:
    if not row.id and item.split:
        return replace(item, split=row.split)
    other_mask = None if row.id else item.mask
    return item_of_id(
        row.id or _id_of_place(item, row),
        image=item.image,
        mask=MaskImage(File(mask)) if mask is not None else other_mask,
        split=row.split,
    )


def _id_of_place(item: Item, row: SplitRow) -> str:
    found = item.defect_type if item.label else BAD
    defect_type = GOOD if row.label == "normal" else row.defect_type or found
    return make_id(row.object, row.split, defect_type, item.stem)


def divide(items: Sequence[Item], *, seed: int, workers: int | None) -> list[Item]:
    """Return the items in a supervised split (see ``threecad.dataset.splitting``).

    The images must be files, for duplicates are looked for. Ids stay as they are.

    Raises:
        UsageError: If an image is no file of its own.
    """
    from threecad.dataset.splitting import split

    # The source may be anybody's folder: what is remembered of its images goes elsewhere.
    with TemporaryDirectory(prefix="threecad-") as folder:
        index = Index(folder, map(_sample, items))
        made = split(index, "supervised", seed=seed, workers=workers)
    splits = {row.id: row.split for row in made.rows}
    return [replace(item, split=splits[item.id]) for item in items if item.id in splits]


def _sample(item: Item) -> Sample:
    if not isinstance(item.image, File):
        raise UsageError(
            f"`supervised=True` compares the images, but {item.image} is no file of its own. "
            "Convert to the 3CAD layout first (`to='3cad'`), and that with `supervised=True`."
        )
    return Sample(
        id=item.id,
        category=item.category,
        split=cast("Split", item.split),
        defect_type=item.defect_type,
        defect_types=(),
        label=item.label,
        image=item.image.path,
        mask=None,
    )
