"""``yolo``: the segmentation layout of ultralytics' YOLO, one line for every defect region.

``images/<split>/<name>.<ext>``, ``labels/<split>/<name>.txt`` and ``data.yaml``. A line is a class
and the corners of an outline as fractions of width and height. Outlines run along pixel corners and
keep every pixel, but the format has no holes: they are filled, and counted. The parts of a region
that touch only at a corner become a line each.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from threecad.errors import ConversionError
from threecad.formats.annotations.drawings import Drawing, box_ring, outer_rings
from threecad.formats.contents import File
from threecad.formats.file_names import read_ids, with_flat_names, write_ids
from threecad.formats.reading.documents import Record, parse_yaml, whole_number
from threecad.formats.reading.options import foreign_id, item_of_id, type_of_shape
from threecad.formats.writing import Tally, place_image, read_item_mask, work_through, write_new

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from threecad.formats.annotations.drawings import Ring
    from threecad.formats.items import Item
    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source
    from threecad.formats.writing import WriteOptions

__all__ = ["looks_like", "read", "write"]

_FILE = "data.yaml"
_SPLITS = ("train", "val", "test")


_ALSO_CALLED = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_SLACK = 0.005
"""How far, in widths of the image, rounding may carry a corner over its edge."""


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    file = _description(source)
    return f"it has {source.relative(file)}" if file else None


def _description(source: Source) -> Path | None:
    """Return the file that names classes and splits: ``data.yaml``, whatever it is called."""
    for path in sorted(
        source.named(".yaml", ".yml"), key=lambda p: (len(p.parts), p.name != _FILE)
    ):
        try:
            content = parse_yaml(path.read_bytes(), path)
        except (OSError, ConversionError):
            content = None
        if path.name == _FILE or (isinstance(content, dict) and {"names", "train"} <= set(content)):
            return path
    return None


def write(items: Sequence[Item], folder: Path, options: WriteOptions) -> Tally:
    """Write images, labels and ``data.yaml``.

    Raises:
        ConversionError: If training or validation has no defects to learn from.
    """
    for split in ("train", "val"):
        if not any(item.split == split and item.label for item in items):
            raise ConversionError(
                f"YOLO learns from defects, but there is none in {split}. 3CAD's own split has "
                "only good images in train: use `supervised=True` to make a supervised one, or "
                "give one with `split_file` (`threecad split --kind supervised`)."
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


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images of all splits, the union of an image's outlines as its mask.

    In a folder from elsewhere an image with an empty label file is good, and class names are defect
    types. An image without a label file is not returned.

    Raises:
        ConversionError: If ``data.yaml`` or a label file is not as ultralytics describes it.
    """
    file = _description(source)
    if file is None:
        raise ConversionError(f"There is no {source.root / _FILE}.")
    document = Record.of(source.read_yaml(file), source.relative(file))
    known = _Known(_class_names(document), read_ids(source), options)
    splits = dict(_images_of_splits(document, file, source))
    items = []
    owners: dict[Path, Path] = {}
    for image, split in splits.items():
        labels = _label_file(image, source)
        if labels is not None and (other := owners.setdefault(labels, image)) is not image:
            source.fault(
                f"{source.relative(other)} and {source.relative(image)} both have the labels "
                f"{source.relative(labels)}. Rename one."
            )
        elif labels is not None:
            with source.collecting():
                items.append(_read_image(image, labels, split, known, source))
    _account_for_labels(source)
    return items


@dataclass(frozen=True)
class _Known:
    classes: Mapping[int, str]
    ids: Mapping[str, str]
    options: ReadOptions


def _class_names(document: Record) -> dict[int, str]:
    listed = document.get("names")
    pairs = listed.items() if isinstance(listed, dict) else enumerate(listed or [])
    names = {whole_number(number): str(name) for number, name in pairs}
    if not names or None in names:
        raise document.unexpected("names", "the names of the classes")
    return {number: name for number, name in names.items() if number is not None}


def _images_of_splits(document: Record, file: Path, source: Source) -> Iterator[tuple[Path, str]]:
    """Yield every image with its split; of an image in two splits the first is kept."""
    seen: set[Path] = set()
    for split, called in _ALSO_CALLED.items():
        named = next((document.get(name) for name in called if document.get(name)), None)
        places = named if isinstance(named, list) else [named] if named else []
        if not places:
            places = [
                p for p in (f"images/{split}", f"{split}/images") if (source.root / p).is_dir()
            ]
        images = [image for place in places for image in _images_at(place, document, file, source)]
        twice = [image for image in images if image in seen]
        if twice:
            source.findings.append(
                f"{document.where}: {len(twice)} images of {split} are in an earlier split too, "
                f"such as {source.relative(twice[0])}; they are kept there."
            )
        for image in images:
            if image not in seen:
                seen.add(image)
                yield image, split


def _images_at(place: object, document: Record, file: Path, source: Source) -> list[Path]:
    """Return the images of a folder or list, however ``data.yaml`` comes to it."""
    parts = str(place).replace("\\", "/").split("/")
    base = str(document.get("path") or "").replace("\\", "/")
    kept = [part for part in parts if part not in ("", ".", "..")]
    homes = (file.parent / base, file.parent, source.root, file.parent.parent)
    for home in homes:
        for names in (parts, kept):
            target = Path(os.path.normpath(home.joinpath(*names)))
            if found := source.images_below(target):
                return found
            if target in source.all_files and target.suffix == ".txt":
                return [
                    source.find(line.strip(), target, f"{source.relative(target)}, line {number}")
                    for number, line in source.read_lines(target, "index")
                ]
    raise ConversionError(
        f"{document.where} names {place!r}, but no folder of images is there. Correct the path."
    )


def _label_file(image: Path, source: Source) -> Path | None:
    """Return the label file of an image: in ``labels`` for ``images``, or beside it."""
    name = f"{image.stem}.txt"
    folders = [image.parent, image.parent / "labels", image.parent.parent / "labels"]
    parts = list(image.parent.parts)
    for place in range(len(parts) - 1, -1, -1):
        if parts[place].casefold() == "images":
            folders.insert(0, Path(*parts[:place], "labels", *parts[place + 1 :]))
            break
    places = (source.at(source.relative(folder / name)) for folder in folders)
    return next((place for place in places if place is not None), None)


def _account_for_labels(source: Source) -> None:
    """Leave out, or refuse, what is among the labels but belongs to no image."""
    for path in source.named(".txt"):
        if path in source.uses or "labels" not in source.relative(path).casefold().split("/")[:-1]:
            continue
        if path.stem in ("classes", "names", "labels"):
            source.claim(path, "index")
        else:
            source.orphan_file(path, f"belongs to no image: there is no {path.stem}.*")


def _read_image(image: Path, labels: Path, split: str, known: _Known, source: Source) -> Item:
    height, width = source.header(image).upright_size
    rings: list[Ring] = []
    kinds = []
    for number, line in source.read_lines(labels):
        where = f"{source.relative(labels)}, line {number}"
        with source.collecting():
            kind, ring = _outline(line, known.classes, where)
            named = type_of_shape(kind, source, image, where)
            if named is None or (len(ring) == 4 and not source.only_box(where)):
                continue
            kinds.append(named)
            rings.append(_in_pixels(ring, height, width))
    sample_id = known.ids.get(source.relative(image))
    if sample_id is None:
        sample_id = foreign_id(kinds, split, image.stem, source.root, known.options)
    mask = Drawing(height, width, rings=tuple(rings)) if rings else None
    return item_of_id(sample_id, image=File(image), mask=mask, split=split)


def _outline(line: str, classes: Mapping[int, str], where: str) -> tuple[str, tuple[float, ...]]:
    """Return the class of a line and its numbers: four of a box, or x and y of every corner."""
    kind, *texts = line.split()
    try:
        name = classes[whole_number(kind)]  # type: ignore[index]
        values = tuple(float(text) for text in texts)
    except (ValueError, KeyError, OverflowError):
        values = ()
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ConversionError(
            f"{where}: expected a class of {_FILE} and x and y of three or more corners."
        )
    if not all(-_SLACK <= value <= 1 + _SLACK for value in values):
        raise ConversionError(
            f"{where}: the numbers reach from {min(values):g} to {max(values):g}; expected "
            "fractions of width and height, from 0 to 1."
        )
    return name, values


def _in_pixels(ring: tuple[float, ...], height: int, width: int) -> Ring:
    if len(ring) == 4:
        x, y, w, h = ring
        ring = box_ring(x - w / 2, y - h / 2, x + w / 2, y + h / 2)
    sides = (width, height) * (len(ring) // 2)
    return tuple(value * side for value, side in zip(ring, sides, strict=True))
