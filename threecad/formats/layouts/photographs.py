"""``photographs``: a folder of good parts and, if there is one, a folder of bad ones; no masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError, UsageError
from threecad.formats.contents import File
from threecad.formats.items import Item, make_id
from threecad.formats.reading.options import category_name, image_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions

__all__ = ["BAD", "read"]

BAD = "bad"
"""Defect type of photographs that stand in the folder of bad parts itself."""


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the photographs without masks; the split is left open.

    Folders below the one of bad parts name defect types. If one of the two holds the other, what
    is in the inner one belongs to it alone.

    Raises:
        UsageError: If no folder of good parts is given, or it is that of the bad ones, too.
        ConversionError: If a folder holds no image, or one in a format that is not read, or two
            images come to the same id.
    """
    if options.good is None:
        raise UsageError("Photographs need --good, the folder of defect-free parts.")
    if options.bad is not None and options.bad.resolve() == options.good.resolve():
        raise UsageError(f"{options.good} is named as the folder of good parts and of bad ones.")
    category = category_name(source, options)
    folders = [(options.good, True), (options.bad, False)]
    items: dict[str, Item] = {}
    for folder, good in folders:
        if folder is None:
            continue
        besides = options.bad if good else options.good
        found = list(_read_folder(folder, category, good=good, besides=besides))
        if not found:
            raise ConversionError(
                f"{folder} holds no image. Expected .png, .jpg, .bmp, .tif or .webp files."
            )
        for item in found:
            if item.id in items:
                raise ConversionError(
                    f"{items[item.id].image} and {item.image} both come to {item.id}. "
                    "Rename one of them. If one is the mask of the other, leave out --good: "
                    "folders of images with their masks beside them are read as they are."
                )
            items[item.id] = item
    return list(items.values())


def _read_folder(
    folder: Path, category: str, *, good: bool, besides: Path | None
) -> Iterator[Item]:
    inner = besides is not None and besides.resolve().is_relative_to(folder.resolve())
    for path in image_files(folder, all_must_be_read=True):
        if besides is not None and inner and path.resolve().is_relative_to(besides.resolve()):
            continue
        *parents, _ = path.relative_to(folder).parts
        if good:
            defect_type = GOOD
        else:
            defect_type, parents = (parents[0], parents[1:]) if parents else (BAD, [])
            defect_type = BAD if defect_type == GOOD else defect_type
        stem = "_".join([*parents, path.stem])
        yield Item(
            id=make_id(category, "test", defect_type, stem),
            category=category,
            split="",
            defect_type=defect_type,
            image=File(path),
        )
