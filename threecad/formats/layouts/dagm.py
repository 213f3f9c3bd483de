"""``dagm``: DAGM 2007, ``Class<n>/{Train,Test}/*.PNG`` with ``Label/Labels.txt``.

Every line of ``Labels.txt`` names an image, whether it is defective and, if so, its mask in
``Label``: an ellipse round the defect, which is taken as it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from threecad.dataset.naming import split_of_name
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import make_id
from threecad.formats.reading.documents import read_label
from threecad.formats.reading.options import BAD, category_name, item_of_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["looks_like", "read"]


def _lists(source: Source) -> list[Path]:
    return [path for path in source.named("labels.txt") if path.parent.name.casefold() == "label"]


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    lists = _lists(source)
    return f"it has {source.relative(lists[0])}" if lists else None


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images that the lists name, with the ellipses as masks.

    The category is the folder above ``Train`` and ``Test``.

    Raises:
        ConversionError: If there is no list.
    """
    lists = _lists(source)
    if not lists:
        raise ConversionError(f"{source.root} holds no Label/Labels.txt.")
    items: list[Item] = []
    for path in lists:
        items += _read_list(path, source, options)
    return items


def _read_list(path: Path, source: Source, options: ReadOptions) -> Iterator[Item]:
    folder = path.parent.parent
    split = split_of_name(folder.name)
    home = folder.parent if split else folder
    category = home.name if source.root in home.parents else category_name(home, options)
    for number, line in source.read_lines(path):
        cells = line.split()
        if number == 1 and len(cells) == 1:
            continue  # a head line
        with source.collecting():
            where = f"{source.relative(path)}, line {number}"
            yield _item(cells, folder, category, split, where, path, source)


def _item(
    cells: list[str],
    folder: Path,
    category: str,
    split: str,
    where: str,
    path: Path,
    source: Source,
) -> Item:
    if len(cells) != 5:
        raise ConversionError(
            f"{where}: expected number, label, image, number and mask, not {' '.join(cells)!r}."
        )
    label = read_label(cells[1], where)
    image = source.find(cells[2], path, where, bases=[folder])
    mask = source.find(cells[4], path, where, bases=[path.parent]) if cells[4] != "0" else None
    source.use_entry()
    if label and mask is None:
        source.fault(f"{where}: a defective image without the name of its mask.")
    return item_of_id(
        make_id(category, split or "test", BAD if label else GOOD, image.stem),
        image=File(image),
        mask=MaskImage(File(mask)) if mask is not None else None,
        split=split,
    )
