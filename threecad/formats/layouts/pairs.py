"""``pairs``: folders in which every image has its mask beside it.

``<Type>/.../<stem>.jpg`` is an image and ``<stem>.png`` its mask, or ``<stem>.png`` and
``<stem>_mask.png`` (also ``_label`` and ``_gt``). The folder names the defect type; what all folder
names begin with (``MT_``) is dropped. A folder called good, free, normal or ok holds defect-free
images, whose masks are ignored.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import TYPE_CHECKING

from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import Item, make_id
from threecad.formats.reading.options import category_name, image_files, is_good_name

if TYPE_CHECKING:
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions

__all__ = ["looks_like", "read"]

_MASK_ENDINGS = ("_mask", "_label", "_gt")
_PLAIN_FOLDERS = frozenset({"image", "images", "img", "imgs"})
_LOSSY = frozenset({".jpg", ".jpeg"})


def looks_like(source: Path) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    try:
        pairs = _pair(source)
    except ConversionError:
        return None
    with_mask = sum(mask is not None for mask in pairs.values())
    if with_mask:
        return f"{with_mask} of its {len(pairs)} images have a mask of the same stem beside them"
    return None


def read(source: Path, options: ReadOptions) -> list[Item]:
    """Return the images with their masks; the split is left open.

    Raises:
        ConversionError: If a file could be an image as well as a mask, or two images of one defect
            type have the same stem.
    """
    category = category_name(source, options)
    pairs = _pair(source)
    types = _defect_types(source, {image.parent for image in pairs})
    items: dict[str, Item] = {}
    for image, mask in pairs.items():
        defect_type = types[image.parent]
        good = defect_type == GOOD
        name = make_id(category, "test", defect_type, image.stem)
        if name in items:
            raise ConversionError(
                f"{items[name].image} and {image} have the same defect type and stem. "
                "Rename one of them."
            )
        items[name] = Item(
            id=name,
            category=category,
            split="",
            defect_type=defect_type,
            image=File(image),
            mask=MaskImage(File(mask)) if mask is not None and not good else None,
        )
    return list(items.values())


def _pair(source: Path) -> dict[Path, Path | None]:
    """Return the mask of every image."""
    groups: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for path in image_files(source, all_must_be_read=True):
        groups[path.parent, path.stem].append(path)
    pairs: dict[Path, Path | None] = {}
    for (folder, stem), files in groups.items():
        base = next((stem.removesuffix(end) for end in _MASK_ENDINGS if stem.endswith(end)), stem)
        if base != stem and (folder, base) in groups:
            continue
        beside = [f for end in _MASK_ENDINGS for f in groups.get((folder, stem + end), [])]
        image, mask = _image_and_mask(files) if not beside else (files[0], beside[0])
        if len(beside) > 1 or (beside and len(files) > 1):
            raise ConversionError(
                f"{image} has several masks: {', '.join(map(str, beside + files))}."
            )
        pairs[image] = mask
    return pairs


def _image_and_mask(files: list[Path]) -> tuple[Path, Path | None]:
    if len(files) == 1:
        return files[0], None
    lossy = [path for path in files if path.suffix.casefold() in _LOSSY]
    lossless = [path for path in files if path not in lossy]
    if len(files) == 2 and len(lossy) == 1:
        return lossy[0], lossless[0]
    raise ConversionError(
        f"{' and '.join(path.name for path in files)} in {files[0].parent} have the same stem, and "
        "which of them is the mask cannot be told. Expected one .jpg (the image) and one lossless "
        "file (the mask), or a mask called <stem>_mask."
    )


def _defect_types(source: Path, folders: set[Path]) -> dict[Path, str]:
    names = {}
    for folder in folders:
        parts = [p for p in folder.relative_to(source).parts if p.casefold() not in _PLAIN_FOLDERS]
        names[folder] = parts[-1] if parts else ""
    start = _common_start(sorted(set(names.values())))
    types = {}
    for folder, name in names.items():
        short = name[len(start) :]
        if not short:
            raise ConversionError(
                f"{folder} holds images but no folder names their defect type. Expected "
                f"{source.name}/<defect type>/*.jpg with the masks beside them, defect-free images "
                "in a folder called 'good'."
            )
        types[folder] = GOOD if is_good_name(short) or is_good_name(name) else short
    return types


def _common_start(names: list[str]) -> str:
    """Return what all names begin with, up to and including an underscore or hyphen.

    >>> _common_start(["MT_Break", "MT_Free"]), _common_start(["Break", "Bruise"])
    ('MT_', '')
    """
    if len(names) < 2:
        return ""
    same = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    start = "".join(letters[0] for letters in same)
    return start[: max(start.rfind("_"), start.rfind("-")) + 1]
