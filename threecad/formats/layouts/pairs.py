"""``pairs``: folders in which every image has its mask beside it, or in a folder beside its own.

``<Type>/.../<stem>.jpg`` is an image and ``<stem>.png`` its mask, or ``<stem>.png`` and
``<stem>_mask.png`` (also ``_label``, ``-gt`` …), or ``images/<stem>.*`` and ``masks/<stem>.*``,
above or below the folders of types and of splits. The outermost folder names the defect type; what
all names begin with (``MT_``) is dropped. A folder called good, free, normal or ok holds
defect-free images. Where no folder names a type, an empty mask says that an image is good: so it is
where the folders are numbers or numbered parts, as ``kos01`` … of KolektorSDD.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from threecad.dataset.naming import (
    good_among,
    is_image_folder,
    is_mask_folder,
    mask_owner,
    split_of_name,
)
from threecad.dataset.samples import GOOD
from threecad.errors import ConversionError
from threecad.formats.contents import File, MaskImage
from threecad.formats.items import Item, make_id
from threecad.formats.reading.options import BAD, category_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from threecad.formats.reading.options import ReadOptions
    from threecad.formats.reading.source import Source

__all__ = ["looks_like", "read"]

_LOSSY = frozenset({".jpg", ".jpeg"})

_SERIES = re.compile(
    r"(kos|batch|camera|day|image|item|lot|object|part|piece|sample|series)?[ _-]?\d+",
    re.IGNORECASE,
)
"""Folders that number what was photographed, and name no defect type."""


@dataclass(frozen=True)
class _Pair:
    image: Path
    mask: Path | None
    folders: tuple[str, ...]
    split: str


def looks_like(source: Source) -> str | None:
    """Return why ``source`` looks like this layout, or ``None``."""
    try:
        pairs = _pair(source)
    except ConversionError:
        return None
    with_mask = sum(pair.mask is not None for pair in pairs)
    if not with_mask:
        return None
    return f"{with_mask} of its {len(pairs)} images have a mask of the same stem beside them"


def read(source: Source, options: ReadOptions) -> list[Item]:
    """Return the images with their masks; the split is left open where no folder names it.

    Raises:
        ConversionError: If a file could be an image as well as a mask, or nothing says what an
            image shows.
    """
    category = category_name(source.root, options)
    pairs = _pair(source)
    types = _defect_types(pairs)
    typed = GOOD in types.values()
    items: list[Item] = []
    for pair, stem in zip(pairs, _stems(pairs, types), strict=True):
        defect_type = types[pair.folders[:1]]
        if pair.mask is None and not defect_type:
            continue  # nothing says what it is
        name = make_id(category, pair.split or "test", defect_type or BAD, stem)
        items.append(
            Item(
                id=name,
                category=category,
                split=pair.split,
                defect_type=defect_type or BAD,
                image=File(pair.image),
                mask=MaskImage(File(pair.mask)) if pair.mask is not None else None,
                # Without a folder of good images, a good one may be among those with empty masks.
                judged_by_mask=pair.mask is not None and (not defect_type or not typed),
            )
        )
    return items


@lru_cache(maxsize=1)  # it is asked for when the layout is found out, and again to read it
def _pair(source: Source) -> list[_Pair]:
    """Return every image with its mask."""
    groups: dict[tuple[tuple[str, ...], str], list[Path]] = defaultdict(list)
    for path in source.images:
        groups[_place(path, source)].append(path)
    pairs = []
    places = {tuple(_folders(path, source)) for path in source.images}
    apart = any(is_mask_folder(name) for folders in places for name in folders)
    for (folders, _), files in groups.items():
        masks = [path for path in files if _is_mask(path, source)]
        images = [path for path in files if path not in masks]
        if len(images) == 1 and len(masks) <= 1:
            image, mask = images[0], masks[0] if masks else None
        elif len(images) == 2 and not masks and not apart:
            image, mask = _image_and_mask(images)
        elif not images and len(masks) == 1:
            continue  # its image is gone
        else:
            listed = ", ".join(source.relative(path) for path in files)
            raise ConversionError(
                f"Of {listed} it cannot be told which is the mask of which. Expected one image and "
                "one mask of a stem, the mask called <stem>_mask."
            )
        split = next(filter(None, map(split_of_name, reversed(folders))), "")
        kept = tuple(name for name in folders if not split_of_name(name))
        pairs.append(_Pair(image, mask, kept, split))
    return pairs


def _folders(path: Path, source: Source) -> list[str]:
    return source.relative(path).split("/")[:-1]


def _is_mask(path: Path, source: Source) -> bool:
    if any(map(is_mask_folder, _folders(path, source))):
        return True
    return mask_owner(path.stem) is not None


def _place(path: Path, source: Source) -> tuple[tuple[str, ...], str]:
    """Return what an image and its mask have in common: folders that mean something, and a stem."""
    folders = _folders(path, source)
    kept = [name for name in folders if not (is_mask_folder(name) or is_image_folder(name))]
    return tuple(kept), mask_owner(path.stem) or path.stem


def _image_and_mask(files: list[Path]) -> tuple[Path, Path]:
    lossy = [path for path in files if path.suffix.casefold() in _LOSSY]
    lossless = [path for path in files if path not in lossy]
    if len(lossy) == 1 and files[0].parent == files[1].parent:
        return lossy[0], lossless[0]
    raise ConversionError(
        f"{' and '.join(path.name for path in files)} in {files[0].parent} have the same stem, and "
        "which of them is the mask cannot be told. Expected one .jpg (the image) and one lossless "
        "file (the mask), or a mask called <stem>_mask."
    )


def _defect_types(pairs: Sequence[_Pair]) -> dict[tuple[str, ...], str]:
    """Return the type that the outermost folder of each image names, ``""`` where there is none."""
    names = sorted({pair.folders[0] for pair in pairs if pair.folders})
    if all(map(_SERIES.fullmatch, names)):
        return dict.fromkeys([(), *((name,) for name in names)], "")
    start = _common_start(names)
    short = {name: name[len(start) :] or name for name in names}
    good = good_among(short.values()) | good_among(names)
    types: dict[tuple[str, ...], str] = {
        (name,): GOOD if {name, short[name]} & good else short[name] for name in names
    }
    return {(): "", **types}


def _stems(pairs: Sequence[_Pair], types: dict[tuple[str, ...], str]) -> list[str]:
    """Return a stem for every image, with the folders within its type where several have it."""
    places = [(types[pair.folders[:1]], pair.split, pair.image.stem) for pair in pairs]
    counts = Counter(places)
    return [
        pair.image.stem
        if counts[place] == 1
        else "_".join([*pair.folders[1 if place[0] else 0 :], pair.image.stem])
        for pair, place in zip(pairs, places, strict=True)
    ]


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
