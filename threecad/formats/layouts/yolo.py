"""``yolo``: the segmentation layout of ultralytics' YOLO, one line for every defect region.

``images/<split>/<name>.<ext>``, ``labels/<split>/<name>.txt`` and ``data.yaml``. A line is a class
and the corners of an outline as fractions of width and height. Outlines run along pixel corners and
keep every pixel, but the format has no holes: they are filled, and counted. The parts of a region
that touch only at a corner become a line each.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import yaml

from threecad.errors import ConversionError
from threecad.formats.contents import File, read_image_size
from threecad.formats.drawings import Drawing, outer_rings
from threecad.formats.file_names import read_ids, with_flat_names, write_ids
from threecad.formats.reading.options import foreign_id, image_files, item_of_id
from threecad.formats.writing import Tally, place_image, read_item_mask, work_through, write_new

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from threecad.formats.drawings import Ring
    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_FILE = "data.yaml"
_SPLITS = ("train", "val", "test")


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    return f"it has {_FILE}" if (source / _FILE).is_file() else None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write images, labels and ``data.yaml``.

    Raises:
        ConversionError: If training or validation has no defects to learn from.
    """
    for split in ("train", "val"):
        if not any(item.split == split and item.label for item in items):
            raise ConversionError(
                f"YOLO learns from defects, but there is none in {split}. 3CAD's own split has "
                "only good images in train: use --split to make a supervised one, or give one with "
                "--split-file (`threecad split --kind supervised`)."
            )
    items = with_flat_names(items)
    classes = sorted({item.class_name for item in items if item.label})
    tally = Tally()
    place = partial(_place, classes=classes, folder=folder, options=options)
    for part in work_through(place, items, options, "writing yolo"):
        tally.add(part)
    splits = {s: f"images/{s}" for s in _SPLITS if any(item.split == s for item in items)}
    description = {**splits, "names": dict(enumerate(classes))}
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    write_new(folder / _FILE, text.encode())
    write_ids(folder, {_image_path(item): item.id for item in items})
    return tally


def _image_path(item: Item) -> str:
    return f"images/{item.split}/{item.name}{item.image.suffix}"


def _place(
    item: Item,
    classes: Sequence[str],
    folder: Path,
    options: WriteOptions,
) -> Tally:
    tally = Tally()
    place_image(item, folder, _image_path(item), options, tally)
    lines = []
    if item.label:
        mask = read_item_mask(item, options.mask_rule, tally)
        number = classes.index(item.class_name)
        for rings, holes in outer_rings(mask):
            tally.notes.update({"holes filled": holes} if holes else {})
            lines += [_line(number, ring, mask.shape[0], mask.shape[1]) for ring in rings]
    # An empty file says that there is nothing to find.
    text = "".join(f"{line}\n" for line in lines)
    write_new(folder / f"labels/{item.split}/{item.name}.txt", text.encode())
    return tally


def _line(number: int, ring: Ring, height: int, width: int) -> str:
    sides = (width, height) * (len(ring) // 2)
    corners = (f"{value / side:.7g}" for value, side in zip(ring, sides, strict=True))
    return f"{number} {' '.join(corners)}"


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images of all splits, the union of an image's outlines as its mask.

    In a folder from elsewhere an image without labels is good, and class names are defect types.

    Raises:
        ConversionError: If ``data.yaml`` or a label file is not as ultralytics describes it.
    """
    try:
        description = yaml.safe_load((source / _FILE).read_text(encoding="utf-8"))
        listed = description["names"]
        classes = dict(listed.items() if isinstance(listed, dict) else enumerate(listed))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ConversionError(
            f"{source / _FILE} is not a data set description of ultralytics: {error!r}."
        ) from error
    ids = read_ids(source)
    items = []
    for split in _SPLITS:
        folder = source / "images" / split
        if folder.is_dir():
            read_one = partial(_read_image, source, split, classes, ids, options)
            items += [read_one(path) for path in image_files(folder)]
    return items


def _read_image(
    source: Path,
    split: str,
    classes: Mapping[int, str],
    ids: Mapping[str, str],
    options: ReadOptions,
    path: Path,
) -> Item:
    inner = path.relative_to(source / "images")
    labels = (source / "labels" / inner).with_suffix(".txt")
    lines = labels.read_text(encoding="utf-8").splitlines() if labels.is_file() else []
    height, width = read_image_size(File(path))
    rings, kinds = [], set()
    for number, line in enumerate(filter(str.strip, lines), start=1):
        try:
            kind, *values = line.split()
            kinds.add(classes[int(kind)])
            rings.append(_ring([float(value) for value in values], height, width))
        except (ValueError, KeyError) as error:
            raise ConversionError(
                f"{labels}, line {number}: {error!r}. Expected a class of {_FILE} and the corners "
                "of an outline as fractions of width and height."
            ) from error
    sample_id = ids.get(path.relative_to(source).as_posix())
    if sample_id is None:
        sample_id = foreign_id(map(str, kinds), split, path.stem, source, options)
    return item_of_id(
        sample_id, image=File(path), mask=Drawing(height, width, rings=tuple(rings)), split=split
    )


def _ring(values: list[float], height: int, width: int) -> Ring:
    if len(values) < 6 or len(values) % 2:
        raise ValueError(f"{len(values)} numbers are no outline")
    sides = (width, height) * (len(values) // 2)
    return tuple(value * side for value, side in zip(values, sides, strict=True))
