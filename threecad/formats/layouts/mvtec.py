"""``mvtec``: the layout of MVTec-AD, masks called ``<stem>_mask.png``.

Programs such as anomalib pair images and masks by their sorted position, so stems are padded where
the two orders would differ.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.naming import good_among, is_mask_folder, mask_owner
from threecad.dataset.samples import GOOD
from threecad.dataset.scanning import category_folders, holds_types
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.file_names import read_ids, with_padded_names, write_ids
from threecad.formats.items import Item, make_id
from threecad.formats.reading.options import category_name, item_of_id
from threecad.formats.writing import Tally, note_split, place_image, place_mask, work_through

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_ENDING = "_mask"

_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
"""Folder → split; ``validation`` is that of MVTec's later datasets."""


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    if _is_category(source.root) and holds_types(source.root):
        return "it is a single category, with train and test"
    for category in _categories(source.root):
        for mask in source.images_below(category / "ground_truth"):
            if mask.stem.casefold().endswith(_ENDING):
                return f"{source.relative(mask)} ends with {_ENDING}"
    return None


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of every category below the source, or of the source if it is one.

    Raises:
        ConversionError: If there is no category.
    """
    categories = _categories(source.root)
    if not categories:
        raise ConversionError(
            f"{source.root} holds no folder with train/good and test. Check the path."
        )
    ids = read_ids(source)
    items: list[Item] = []
    for folder in categories:
        name = category_name(folder, options) if folder == source.root else folder.name
        items += _read_category(folder, source, name, ids)
    return items


def _categories(source: Path) -> list[Path]:
    if _is_category(source):
        return [source]
    return [folder for _, folder in sorted(category_folders(source).items())]


def _is_category(source: Path) -> bool:
    return (source / "train").is_dir() and (source / "test").is_dir()


def _read_category(
    folder: Path, source: Source, category: str, ids: Mapping[str, str]
) -> Iterator[Item]:
    masks = {
        (path.parent.name, mask_owner(path.stem) or path.stem): path
        for path in source.images_below(folder / "ground_truth")
    }
    images = [
        (path, split)
        for place, split in _SPLITS.items()
        for path in source.images_below(folder / place)
        if not is_mask_folder(path.parent.name) and not _is_mask_of_another(path)
    ]
    names = {split: {p.parent.name for p, other in images if other == split} for _, split in images}
    good = {(split, name) for split, found in names.items() for name in good_among(found)}
    owners: dict[Path, Path] = {}
    for path, split in images:
        kind = path.parent.name
        defect_type = GOOD if (split, kind) in good else kind
        # train/good shares its stems with test/good, so there a mask would be somebody else's.
        mine = split == "test" or defect_type != GOOD
        mask = masks.get((kind, path.stem)) if mine else None
        if mask is not None and owners.setdefault(mask, path) != path:
            source.fault(
                f"{mask} may be the mask of {owners[mask]} or of {path}. Rename one of them."
            )
        own_id = ids.get(source.relative(path))
        yield item_of_id(
            own_id or make_id(category, split, defect_type, path.stem),
            image=File(path),
            mask=MaskImage(File(mask)) if mask is not None else None,
            split=split,
            as_stored=True,
        )


def _is_mask_of_another(path: Path) -> bool:
    owner = mask_owner(path.stem)
    return owner is not None and path.with_stem(owner).is_file()


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write ``<Category>/{train,test,ground_truth}/<type>/``."""
    items = with_padded_names(items)
    tally = Tally()
    place = partial(_place, folder=folder, options=options)
    for part in work_through(place, items, options, "writing mvtec"):
        tally.add(part)
    write_ids(folder, {_image_path(item): item.id for item in items})
    return tally


def _image_path(item: Item) -> str:
    parts = (item.category, item.folder, item.defect_type, item.name + item.image.suffix)
    return "/".join(parts)


def _place(item: Item, folder: Path, options: WriteOptions) -> Tally:
    tally = Tally()
    place_image(item, folder, _image_path(item), options, tally)
    note_split(item, tally)
    if item.label and item.mask is not None:
        mask = f"{item.category}/ground_truth/{item.defect_type}/{item.name}{_ENDING}.png"
        place_mask(item, folder / mask, options, tally)
    return tally
