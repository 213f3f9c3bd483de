"""Which images are meant by files, folders, patterns and trees."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfrg.images.frames import is_one_image
from threecad.dataset.scanning import IMAGE_SUFFIXES, Selection, find_root, is_category
from threecad.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["each_image", "find_images", "is_tree"]

SUFFIXES = IMAGE_SUFFIXES | {".gif"}
"""What is taken for an image in a folder that is no tree."""


def find_images(
    paths: Sequence[str | os.PathLike[str]],
    *,
    category: str | None = None,
    split: str = "test",
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    besides: str | os.PathLike[str] | None = None,
) -> list[tuple[str, Path]]:
    """Return (id, file) of every image under ``paths``, sorted by id.

    A tree in the 3CAD layout gives the samples of ``split`` (and ``category``) under their sample
    ids; any other folder all its images under their relative paths without suffix; a pattern
    (``photos/**/*.png``) the images that match; a file itself. What is in the folder ``besides`` is
    passed over.

    Raises:
        DataError: If a path does not exist, nothing is found, or two files get one id.
    """
    selection = Selection(split_file=split_file, errata=errata, fold=fold)
    left_out = None if besides is None else Path(besides).resolve()
    found: dict[str, Path] = {}
    for name, path in _walk(paths, category, split, selection):
        if left_out is not None and path.resolve().is_relative_to(left_out):
            continue
        if name in found and not path.samefile(found[name]):
            raise DataError(
                f"{found[name]} and {path} both have the id {name!r}. Rename one, predict them "
                "separately, or name a folder that holds both: ids are paths below it."
            )
        found[name] = path
    if not found:
        raise DataError(f"There is no image in {', '.join(map(str, paths)) or 'nothing'}.")
    return sorted(found.items())


def each_image(images: Any, category: str | None = None) -> Iterator[Any]:
    """Yield images one by one, folders and patterns as the (id, file) pairs they stand for.

    Args:
        images: One image, file, folder or pattern, or an iterable of them.
        category: Of a tree, only this category.

    Raises:
        UsageError: If it is nothing to iterate over, or a mapping.
    """
    if is_one_image(images):
        images = [images]
    elif isinstance(images, Mapping) or not isinstance(images, Iterable):
        raise UsageError(
            f"A {type(images).__name__} is no source of images. Expected an image, a file, a "
            "folder, a pattern, or a list or generator of these or of pairs (id, image)."
        )
    for image in images:
        if isinstance(image, (str, os.PathLike)) and _stands_for_many(Path(image)):
            yield from find_images([image], category=category)
        else:
            yield image


def is_tree(path: Path) -> bool:
    """Return whether a folder is a tree in the 3CAD layout, or holds one.

    Raises:
        DataError: If it is a single category, whose masks would be taken for photographs.
    """
    try:
        find_root(path)
    except DataError:
        if is_category(path):
            raise  # it names the folder to give instead
        return False
    return True


def _stands_for_many(path: Path) -> bool:
    # os.path, as a name may be none that the system takes; its reader says so
    is_folder, exists = os.path.isdir(path), os.path.exists(path)  # noqa: PTH110, PTH112
    return is_folder or (glob.has_magic(str(path)) and not exists)


def _walk(
    paths: Sequence[str | os.PathLike[str]],
    category: str | None,
    split: str,
    selection: Selection,
) -> Iterator[tuple[str, Path]]:
    for path in map(Path, paths):
        if path.is_file():
            yield path.stem, path
        elif not path.is_dir() and glob.has_magic(str(path)):
            yield from _match(path)
        elif not path.is_dir():
            raise DataError(f"There is no file or folder {path}.")
        elif is_tree(path):
            index = replace(selection, root=path).scan()
            for sample in index.select(category=category, split=split):
                yield sample.id, sample.image
        else:
            yield from _name_images(path.rglob("*"), path)


def _match(pattern: Path) -> Iterator[tuple[str, Path]]:
    """Yield what a pattern such as ``photos/**/*.png`` finds, named from where wildcards begin."""
    fixed = takewhile(lambda part: not glob.has_magic(part), pattern.parts)
    found = map(Path, glob.iglob(str(pattern), recursive=True))  # noqa: PTH207 (absolute, too)
    yield from _name_images(found, Path(*fixed))


def _name_images(files: Iterable[Path], folder: Path) -> Iterator[tuple[str, Path]]:
    for file in sorted(files):
        if file.suffix.casefold() in SUFFIXES and not file.name.startswith("."):
            yield file.relative_to(folder).with_suffix("").as_posix(), file
