"""What the names of files and folders say: what is good, what is a mask, what is a split.

One rule each, for every layout and for the scan of a tree.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "good_among",
    "is_good_name",
    "is_image_folder",
    "is_mask_folder",
    "mask_owner",
    "split_of_name",
]

_GOOD = frozenset({
    "anomalyfree", "defectfree", "faultless", "flawless", "free", "good", "healthy", "intact", "io",
    "noanomalies", "noanomaly", "nodefect", "nodefects", "nondefect", "nondefective", "normal",
    "ok", "okay", "undamaged", "withoutdefect", "withoutdefects",
})  # fmt: skip

_THINGS = re.compile(r"(images?|imgs?|parts?|photos?|pictures?|pieces?|products?|samples?)$")

_MASK_FOLDERS = frozenset({
    "annotation", "annotations", "groundtruth", "groundtruths", "gt", "gts", "label", "labels",
    "labelmask", "labelmasks", "mask", "maskimages", "masks", "segmentation",
    "segmentationclass", "segmentationobject", "segmentations",
})  # fmt: skip

_IMAGE_FOLDERS = frozenset({
    "data", "image", "images", "img", "imgs", "jpegimages", "photo", "photos", "picture",
    "pictures", "rgb",
})  # fmt: skip

_MASK_ENDING = re.compile(
    r"[ ._-](masks?|gt|ground[ _-]?truth|labels?|label[ _-]?ground[ _-]?truth|seg|segmentation)$",
    re.IGNORECASE,
)

_SPLIT = re.compile(r"(train|training|val|valid|validation|test|testing)[ _-]?(\d{4})?")


@lru_cache(maxsize=4096)
def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


def is_good_name(name: str) -> bool:
    """Whether a folder, class or label of this name means free of defects.

    >>> [is_good_name(name) for name in ("Good", "defect-free", "OK", "0_normal", "Scratch", "ko")]
    [True, True, True, True, False, False]
    """
    plain = _plain(name).strip("0123456789")
    return plain in _GOOD or _THINGS.sub("", plain) in _GOOD


def good_among(names: Iterable[str]) -> frozenset[str]:
    """Return which of the folders that stand side by side hold defect-free images.

    Where one is called good, a neighbour called normal or free is a type of its own.

    >>> sorted(good_among(["OK", "dent"])), sorted(good_among(["good", "free", "dent"]))
    (['OK'], ['good'])
    """
    found = [name for name in names if is_good_name(name)]
    return frozenset([name for name in found if name.casefold() == "good"] or found)


def is_mask_folder(name: str) -> bool:
    """Whether a folder of this name holds masks or annotations, and is never a defect type.

    >>> is_mask_folder("Ground_Truth"), is_mask_folder("masks"), is_mask_folder("Scratch")
    (True, True, False)
    """
    return _plain(name) in _MASK_FOLDERS


def is_image_folder(name: str) -> bool:
    """Whether a folder of this name says only that images are in it."""
    return _plain(name) in _IMAGE_FOLDERS


def mask_owner(stem: str) -> str | None:
    """Return the stem of the image whose mask has this stem; ``None`` if it is no mask's name.

    >>> mask_owner("000_mask"), mask_owner("a-GT"), mask_owner("Part0_label"), mask_owner("000")
    ('000', 'a', 'Part0', None)
    """
    owner = _MASK_ENDING.sub("", stem)
    return owner if owner and owner != stem else None


def split_of_name(name: str) -> str:
    """Return the split that a folder or file of this name stands for, ``""`` if for none.

    >>> [split_of_name(name) for name in ("train2017", "valid", "Testing", "trainer")]
    ['train', 'val', 'test', '']
    """
    match = _SPLIT.fullmatch(name.casefold())
    if match is None:
        return ""
    return next(split for split in ("train", "val", "test") if match[1].startswith(split))
