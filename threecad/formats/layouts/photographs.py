"""``photographs``: a folder of good parts and, if there is one, a folder of bad ones; no masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from threecad.dataset.naming import is_mask_folder, mask_owner
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError, UsageError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import Item, make_id
from threecad.formats.reading.options import BAD, category_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["read"]


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the photographs, with the masks called ``<stem>_mask`` if there are any beside them.

    The split is left open.

    Folders below the one of bad parts name defect types. If one of the two holds the other, what
    is in the inner one belongs to it alone.

    Raises:
        UsageError: If no folder of good parts is given, or it is that of the bad ones, too.
        ConversionError: If a folder holds no image.
    """
    if options.good is None:
        raise UsageError("Photographs need `good`, the folder of defect-free parts.")
    if options.bad is not None and options.bad.resolve() == options.good.resolve():
        raise UsageError(f"{options.good} is named as the folder of good parts and of bad ones.")
    category = category_name(source.root, options)
    folders = [(options.good, True), (options.bad, False)]
    items: list[Item] = []
    for folder, good in folders:
        if folder is None:
            continue
        besides = options.bad if good else options.good
        found = list(_read_folder(folder, source, category, good=good, besides=besides))
        if not found:
            raise ConversionError(
                f"{folder} holds no image. Expected .png, .jpg, .bmp, .tif or .webp files."
            )
        items += found
    return items


def _read_folder(
    folder: Path, source: Source, category: str, *, good: bool, besides: Path | None
) -> Iterator[Item]:
    inner = besides is not None and besides.resolve().is_relative_to(folder.resolve())
    images = source.images_below(folder)
    masks = dict(_masks(images))
    stems = {(path.parent, path.stem) for path in images}
    owned = {path for place, path in masks.items() if place in stems}
    for path in images:
        if path in owned or any(map(is_mask_folder, path.relative_to(folder).parts[:-1])):
            continue
        if besides is not None and inner and path.resolve().is_relative_to(besides.resolve()):
            continue
        *parents, _ = path.relative_to(folder).parts
        if good:
            defect_type = GOOD
        else:
            defect_type, parents = (parents[0], parents[1:]) if parents else (BAD, [])
            defect_type = BAD if defect_type == GOOD else defect_type
        stem = "_".join([*parents, path.stem])
        mask = masks.get((path.parent, path.stem))
        yield Item(
            id=make_id(category, "test", defect_type, stem),
            category=category,
            split="",
            defect_type=defect_type,
            image=File(path),
            mask=MaskImage(File(mask)) if mask is not None else None,
        )


def _masks(images: Sequence[Path]) -> Iterator[tuple[tuple[Path, str], Path]]:
    """Yield folder and stem of the photograph that each mask, by its name or folder, belongs to."""
    for path in images:
        owner = mask_owner(path.stem)
        if is_mask_folder(path.parent.name):
            yield (path.parent.parent, owner or path.stem), path
        elif owner is not None:
            yield (path.parent, owner), path
