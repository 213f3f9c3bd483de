"""Which images are meant by files, folders, patterns and trees."""

from __future__ import annotations

import glob
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from threecad.errors import DataError
from threecad.indexing import IMAGE_SUFFIXES, find_root, scan

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["find_images"]


def find_images(
    paths: Sequence[str | os.PathLike[str]],
    *,
    category: str | None = None,
    split: str = "test",
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
) -> list[tuple[str, Path]]:
    """Return (id, file) of every image under ``paths``, sorted by id.

    A tree in the 3CAD layout gives the samples of ``split`` (and ``category``) under their sample
    ids; any other folder all its images under their relative paths without suffix; a pattern
    (``photos/**/*.png``) the images that match; a file itself.

    Raises:
        DataError: If a path does not exist, nothing is found, or two files get one id.
    """
    found: dict[str, Path] = {}
    for name, path in _walk(paths, category, split, split_file, errata, fold):
        if name in found:
            raise DataError(f"{found[name]} and {path} both have the id {name!r}. Rename one.")
        found[name] = path
    if not found:
        raise DataError(f"There is no image in {', '.join(map(str, paths)) or 'nothing'}.")
    return sorted(found.items())


def _walk(
    paths: Sequence[str | os.PathLike[str]],
    category: str | None,
    split: str,
    split_file: str | os.PathLike[str] | None,
    errata: str | os.PathLike[str] | None,
    fold: int | None,
) -> Iterator[tuple[str, Path]]:
    for path in map(Path, paths):
        if path.is_file():
            yield path.stem, path
        elif not path.is_dir() and glob.has_magic(str(path)):
            yield from _match(path)
        elif not path.is_dir():
            raise DataError(f"There is no file or folder {path}.")
        elif _is_tree(path):
            for sample in scan(path, split_file=split_file, errata=errata, fold=fold).select(
                category=category, split=split
            ):
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
        if file.suffix.casefold() in IMAGE_SUFFIXES and not file.name.startswith("."):
            yield file.relative_to(folder).with_suffix("").as_posix(), file


def _is_tree(path: Path) -> bool:
    try:
        find_root(path)
    except DataError:
        return False
    return True
