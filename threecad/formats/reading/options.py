"""What the readers share: their options, the files of a folder, which good image is for testing."""

from __future__ import annotations

import json
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from threecad.dataset.samples import GOOD
from threecad.dataset.scanning import IMAGE_SUFFIXES, is_stray
from threecad.errors import ConversionError
from threecad.formats.items import Item, make_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from threecad.formats.contents import Content, Mask

__all__ = [
    "ReadOptions",
    "category_name",
    "foreign_id",
    "hub_split",
    "image_files",
    "inside",
    "is_good_name",
    "is_sample_id",
    "item_of_id",
    "load_json",
    "split_of_hub",
]

_OTHER_PICTURES = frozenset({
    ".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".gif", ".heic", ".heif", ".jfif", ".jp2",
    ".jxl", ".nef", ".orf", ".pbm", ".pgm", ".ppm", ".psd", ".raf", ".raw", ".rw2", ".tga",
})  # fmt: skip

_GOOD_NAMES = frozenset({"defectfree", "free", "good", "nodefect", "normal", "ok", "nondefective"})


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may be told.

    Attributes:
        category: Name of the category, for layouts that name none.
        categories: Only these categories; all of them when empty.
        good: Folder of defect-free photographs, for ``photographs``.
        bad: Folder of defective photographs, for ``photographs``.
        split_file: Says which image belongs to which split.
        fold: The fold of it to hold out, if it has folds.
        errata: Corrections to apply to a 3CAD tree.
    """

    category: str | None = None
    categories: tuple[str, ...] = ()
    good: Path | None = None
    bad: Path | None = None
    split_file: Path | None = None
    fold: int | None = None
    errata: Path | None = None


def image_files(folder: Path, *, all_must_be_read: bool = False) -> Iterator[Path]:
    """Yield the images below ``folder``, sorted, leaving out stray and hidden files.

    Args:
        folder: The folder.
        all_must_be_read: Do not leave out pictures in formats that are not read either.

    Raises:
        ConversionError: If there is no such folder, or it holds such a picture.
    """
    if not folder.is_dir():
        raise ConversionError(f"There is no folder {folder}. Check the path.")
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_stray(name))
        for name in sorted(names):
            path = Path(parent, name)
            suffix = path.suffix.casefold()
            if suffix in IMAGE_SUFFIXES and not is_stray(name):
                yield path
            elif all_must_be_read and suffix in _OTHER_PICTURES and not is_stray(name):
                raise ConversionError(
                    f"{path} is in a format that is not read here. Save it and its like as .png, "
                    "or move them away."
                )


def category_name(source: Path, options: ReadOptions) -> str:
    """Return the category asked for, or the name of the source folder, Unicode NFC."""
    return unicodedata.normalize("NFC", options.category or source.resolve().name)


def is_good_name(name: str) -> bool:
    """Whether a folder of this name holds defect-free images.

    >>> is_good_name("Free"), is_good_name("defect-free"), is_good_name("Scratch")
    (True, True, False)
    """
    return "".join(filter(str.isalnum, name.casefold())) in _GOOD_NAMES


def inside(folder: Path, name: str, where: str) -> Path:
    """Return the file ``name`` below ``folder``, as an index file names it.

    Raises:
        ConversionError: If it leads out of the folder or is not there; ``where`` says who names it.
    """
    if not isinstance(name, str) or not name:
        raise ConversionError(f"{where} names {name!r}; expected the path of a file.")
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        raise ConversionError(f"{where} names {name!r}, which leads out of {folder}.")
    if not path.is_file():
        raise ConversionError(f"{where} names {name!r}, which is not in {folder}.")
    return path


def is_sample_id(value: object) -> TypeGuard[str]:
    """Whether ``value`` has the form of a sample id."""
    if not isinstance(value, str):
        return False
    parts = value.split("/")
    return len(parts) == 4 and all(parts) and parts[1] in ("train", "val", "test")


def load_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ConversionError: If it is none.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConversionError(f"There is no file {path}. Check the path.") from None
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"{path} is not JSON: {error}. Get it again.") from error


def item_of_id(sample_id: str, *, image: Content, mask: Mask | None, split: str) -> Item:
    """Return the item of a sample id.

    Raises:
        ConversionError: If it is no sample id.
    """
    if not is_sample_id(sample_id):
        raise ConversionError(
            f"{sample_id!r} is no sample id. Expected <category>/<train|test>/<defect_type>/<stem>."
        )
    parts = sample_id.split("/")
    category, _, defect_type, _ = parts
    return Item(
        id=make_id(*parts),
        category=category,
        split=split,
        defect_type=defect_type,
        image=image,
        mask=mask if defect_type != GOOD else None,
    )


def foreign_id(
    classes: Iterable[str], split: str, stem: str, source: Path, options: ReadOptions
) -> str:
    """Return a sample id for an image of a layout that has none.

    Args:
        classes: What is to be seen in it, each a defect type or ``<Category>/<defect_type>``. None
            makes it a good image, several one with ``Multiple-defects``.
        split: ``train``, ``val``, ``test``, or ``""`` where that is not known.
        stem: File name without suffix.
        source: The folder that is read: it names the category if ``options`` do not.
        options: What the reader was told.
    """
    kinds = sorted({name.split("/")[-1] for name in classes} - {""})
    defect_type = GOOD if not kinds else kinds[0] if len(kinds) == 1 else "Multiple-defects"
    folder = "train" if split == "train" else "test"
    return make_id(category_name(source, options), folder, defect_type, stem)


def hub_split(split: str) -> str:
    """Return what Hugging Face calls a split: ``val`` is ``validation`` there."""
    return "validation" if split == "val" else split


def split_of_hub(name: str) -> str:
    """Return our name of a split that Hugging Face has named."""
    return "val" if name == "validation" else name
