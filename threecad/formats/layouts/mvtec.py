"""``mvtec``: the layout of MVTec-AD, masks called ``<stem>_mask.png``.

Programs such as anomalib pair images and masks by their sorted position, so stems are padded where
the two orders would differ.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.samples import GOOD
from threecad.dataset.scanning import category_folders
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.file_names import read_ids, with_padded_names, write_ids
from threecad.formats.items import Item, make_id
from threecad.formats.reading.options import category_name, image_files, is_good_name, item_of_id
from threecad.formats.writing import Tally, note_split, place_image, place_mask, work_through

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_ENDING = "_mask"

_SPLITS = {"train": "train", "val": "val", "validation": "val", "test": "test"}
"""Folder → split; ``validation`` is that of MVTec's later datasets."""


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    if _is_category(source):
        return "it is a single category, with train and test"
    for category in _categories(source):
        for mask in sorted((category / "ground_truth").glob(f"*/*{_ENDING}.*")):
            return f"{mask.relative_to(source).as_posix()} ends with {_ENDING}"
    return None


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images of every category below ``source``, or of ``source`` if it is one.

    Raises:
        ConversionError: If there is no category, or a mask fits no image.
    """
    categories = _categories(source)
    if not categories:
        raise ConversionError(f"{source} holds no folder with train/good and test. Check the path.")
    ids = read_ids(source)
    items: list[Item] = []
    for folder in categories:
        name = category_name(folder, options) if folder == source else folder.name
        if not options.categories or name in options.categories:
            items += _read_category(folder, source, name, ids)
    return items


def _categories(source: Path) -> list[Path]:
    if _is_category(source):
        return [source]
    return [folder for _, folder in sorted(category_folders(source).items())]


def _is_category(source: Path) -> bool:
    return (source / "train").is_dir() and (source / "test").is_dir()


def _read_category(folder: Path, source: Path, category: str, ids: Mapping[str, str]) -> list[Item]:
    masks = {
        (path.parent.name, path.stem.removesuffix(_ENDING)): path
        for path in _images_below(folder / "ground_truth")
    }
    items = []
    for place, split in _SPLITS.items():
        for path in _images_below(folder / place):
            defect_type = GOOD if is_good_name(path.parent.name) else path.parent.name
            mask = masks.pop((path.parent.name, path.stem), None) if split == "test" else None
            own_id = ids.get(path.relative_to(source).as_posix())
            items.append(
                item_of_id(
                    own_id or make_id(category, split, defect_type, path.stem),
                    image=File(path),
                    mask=MaskImage(File(mask)) if mask is not None else None,
                    split=split,
                )
            )
    if masks:
        orphan = min(masks.values())
        raise ConversionError(
            f"{len(masks)} masks in {folder / 'ground_truth'} fit no image of the same stem, the "
            f"first is {orphan.relative_to(folder).as_posix()}. Expected test/{orphan.parent.name}/"
            f"{orphan.stem.removesuffix(_ENDING)}.png. Restore the images or remove the masks."
        )
    return items


def _images_below(folder: Path) -> list[Path]:
    return list(image_files(folder)) if folder.is_dir() else []


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
