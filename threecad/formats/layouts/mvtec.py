"""``mvtec``: the layout of MVTec-AD, masks called ``<stem>_mask.png``, and of its kin.

MVTec LOCO has a folder of masks for every image, which are united. MVTec AD 2 has ``test_public``
with its own ``ground_truth``, and private tests that nobody has labelled. BTAD calls good ``ok``.

Programs such as anomalib pair images and masks by their sorted position, so stems are padded where
the two orders would differ.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from threecad.dataset.naming import good_among, is_mask_folder, mask_owner
from threecad.dataset.samples import GOOD
from threecad.dataset.scanning import category_folders, holds_types
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.file_names import read_ids, with_padded_names, write_ids
from threecad.formats.items import Item, MaskImages, make_id
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

_SPLITS = {
    "train": "train", "val": "val", "validation": "val", "test": "test", "test_public": "test",
}  # fmt: skip
"""Folder → split; ``validation`` and ``test_public`` are those of MVTec's later datasets."""

_MASKS = ("ground_truth", "test_public/ground_truth")
_PRIVATE = ("test_private", "test_private_mixed")


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    if _is_category(source.root) and holds_types(source.root):
        return "it is a single category, with train and test"
    for category in _categories(source.root):
        if source.images_below(category / "test_public"):
            return f"{source.relative(category)} has test_public"
        for mask in source.images_below(category / "ground_truth"):
            if mask.stem.casefold().endswith(_ENDING):
                return f"{source.relative(mask)} ends with {_ENDING}"
            owner = _owner_of_folder(mask, category / "ground_truth")
            if owner is not None and _is_shown(owner, category, source):
                return f"{source.relative(mask.parent)} is a folder of masks of one image"
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
    return (source / "train").is_dir() and any(
        (source / test).is_dir() for test in ("test", "test_public")
    )


def _read_category(
    folder: Path, source: Source, category: str, ids: Mapping[str, str]
) -> Iterator[Item]:
    masks = _masks(folder, source)
    images = [
        (path, split, _type_of(path, folder / place))
        for place, split in _SPLITS.items()
        for path in source.images_below(folder / place)
        if not any(map(is_mask_folder, path.relative_to(folder / place).parts[:-1]))
        and not _is_mask_of_another(path)
    ]
    for place in _PRIVATE:
        for path in source.images_below(folder / place):
            source.leave_out(path, f"of {place}, which has no labels")
    names: dict[str, set[str]] = defaultdict(set)
    for _, split, kind in images:
        names[split].add(kind)
    good = {(split, name) for split, found in names.items() for name in good_among(found)}
    owners: dict[MaskImages | MaskImage, Path] = {}
    for path, split, kind in images:
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
            mask=mask,
            split=split,
            as_stored=True,
        )


def _type_of(path: Path, split: Path) -> str:
    """Return the folder directly below the split, however deep in it an image lies."""
    return path.relative_to(split if path.parent != split else split.parent).parts[0]


def _masks(folder: Path, source: Source) -> dict[tuple[str, str], MaskImage | MaskImages]:
    """Return the mask of every type and stem, of several images where they have a folder."""
    found: dict[tuple[str, str], MaskImage | MaskImages] = {}
    parts: dict[tuple[str, str], list[MaskImage]] = defaultdict(list)
    for place in _MASKS:
        for path in source.images_below(folder / place):
            mask = MaskImage(File(path))
            owner = _owner_of_folder(path, folder / place)
            if owner is not None:
                parts[owner].append(mask)
            else:
                found[path.parent.name, mask_owner(path.stem) or path.stem] = mask
    for masks in parts.values():
        _check_complete(masks, source)
    return {**found, **{owner: MaskImages(tuple(masks)) for owner, masks in parts.items()}}


def _check_complete(masks: Sequence[MaskImage], source: Source) -> None:
    """Add a fault where the numbers of an image's masks tell that one of them is missing."""
    files = [mask.content.path for mask in masks if isinstance(mask.content, File)]
    numbers = {int(path.stem) for path in files if path.stem.isdecimal()}
    if lost := set(range(max(numbers, default=-1))) - numbers:
        source.fault(
            f"{source.relative(files[0].parent)} has mask {max(numbers)} of its image, but not "
            f"mask {min(lost)}. Restore it."
        )


def _owner_of_folder(mask: Path, folder: Path) -> tuple[str, str] | None:
    """Return type and stem of the image of which ``folder`` holds several masks, if it does."""
    names = mask.relative_to(folder).parts
    return (names[0], names[1]) if len(names) == 3 else None


def _is_shown(owner: tuple[str, str], category: Path, source: Source) -> bool:
    """Return whether there is a test image of that type and stem."""
    kind, stem = owner
    return any(path.stem == stem for path in source.images_below(category / "test" / kind))


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
