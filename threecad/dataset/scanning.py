"""A tree of images and masks as an index of samples.

The layout is 3CAD's (and MVTec-AD's):

    ROOT/<Category>/train/good/<stem>.png
    ROOT/<Category>/test/good/<stem>.png
    ROOT/<Category>/test/<defect_type>/<stem>.png
    ROOT/<Category>/ground_truth/<defect_type>/<stem>.png

Images and masks are paired by stem, never by position.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad.dataset import tree_findings
from threecad.dataset.catalog import is_multiple_defects
from threecad.dataset.naming import good_among, is_image_folder, is_mask_folder, mask_owner
from threecad.dataset.samples import GOOD, Index, Sample, Split
from threecad.errors import LayoutError, UsageError
from threecad.system.json_files import read_object
from threecad.system.locations import default_root, own_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from threecad.dataset.findings import Finding

__all__ = [
    "GOOD",
    "IMAGE_SUFFIXES",
    "Index",
    "Sample",
    "Selection",
    "Split",
    "category_folders",
    "find_root",
    "holds_types",
    "is_category",
    "is_stray",
    "masks_expected",
    "scan",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Suffixes of images and masks, compared without case."""

_STRAY_NAMES = frozenset({"__macosx", "__pycache__", "desktop.ini", "thumbs.db"})


def scan(
    root: str | os.PathLike[str] | None = None,
    *,
    categories: Collection[str] | None = None,
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
) -> Index:
    """Index the tree at ``root``.

    Nothing is decoded: only names are read. Stray files (``.DS_Store``, ``Thumbs.db``,
    ``.ipynb_checkpoints``, ``__MACOSX``, hidden files) are ignored. What is wrong but does not stop
    the work (a defective image without a mask, a mask without an image or of two, an unknown kind
    of file, a link to nowhere) is in ``Index.findings``. What the good folder may be called,
    ``threecad.dataset.naming`` says; in ids and as a defect type it is ``good``.

    Args:
        root: The folder that holds the category folders, or its parent; ``default_root()`` if
            ``None``.
        categories: Only these category folders.
        split_file: Take the splits from this file (see ``threecad split``).
        errata: Apply the corrections in this file (see ``threecad audit``).
        fold: Held-out fold, for a k-fold split file.

    Raises:
        LayoutError: If the folder is missing, holds no category, or two files in one folder differ
            only in their suffix.
        UsageError: If a category asked for is not there.
    """
    folder = find_root(root)
    found = category_folders(folder)
    if categories is not None:
        if missing := sorted(set(categories) - set(found)):
            raise UsageError(
                f"No category {missing[0]!r} in {folder}. There are: {', '.join(sorted(found))}."
            )
        found = {name: path for name, path in found.items() if name in categories}
    findings: list[Finding] = []
    samples: list[Sample] = []
    for name, path in sorted(found.items()):
        of_category = list(_scan_category(folder, name, path, findings))
        if not of_category:
            findings.append(tree_findings.category_empty(folder, path))
        samples += of_category
    index = Index(folder, samples, findings=findings)
    excluded: Collection[str] = ()
    if errata is not None:
        from threecad.dataset.errata import apply_errata, read_errata

        corrections = read_errata(errata)
        index, excluded = apply_errata(index, corrections), corrections.excluded
    if split_file is not None:
        from threecad.dataset.split_files import apply_split, read_split

        index = apply_split(index, read_split(split_file), fold=fold, excluded=excluded)
    elif fold is not None:
        raise UsageError(
            "`fold` needs a split file that was made with `threecad split --kind k-fold`."
        )
    return index


@dataclass(frozen=True)
class Selection:
    """What ``scan`` is asked for, as one value to hand on.

    How masks are decoded is no part of it: that does not decide which images are meant.

    Attributes:
        root: The folder that holds the category folders, or its parent; ``default_root()`` if
            ``None``.
        categories: Only these category folders.
        split_file: Take the splits from this file.
        fold: Held-out fold, for a k-fold split file.
        errata: Apply the corrections in this file.
    """

    root: str | os.PathLike[str] | None = None
    categories: Collection[str] | None = None
    split_file: str | os.PathLike[str] | None = None
    fold: int | None = None
    errata: str | os.PathLike[str] | None = None

    def scan(self) -> Index:
        """Return the index of what is selected; raises what ``scan`` raises."""
        return scan(**self.arguments())

    def arguments(self) -> dict[str, Any]:
        """Return ``root`` and what is set besides, as arguments of a function that takes them."""
        chosen = {name: value for name, value in vars(self).items() if value is not None}
        return {"root": self.root, **chosen}


def find_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that holds the category folders: ``root`` itself or its only such child.

    Raises:
        LayoutError: If there is no such folder.
    """
    folder = Path(root) if root is not None else default_root()
    if not folder.is_dir():
        advice = (
            "Run `threecad download` to get 3CAD, or name the folder that holds it."
            if root is None
            else "Check the path, or run `threecad sample` or `threecad download` to make one."
        )
        raise LayoutError(f"There is no folder {folder}. {advice}")
    if category_folders(folder):
        return folder
    holders = [child for child in _folders(folder).values() if category_folders(child)]
    if len(holders) == 1:
        return holders[0]
    if is_category(folder):
        raise LayoutError(
            f"{folder} is a single category. Name the folder that holds it: {folder.parent}."
        )
    if (folder / "maps").is_dir():
        raise LayoutError(
            f"{folder} holds predictions, not images. Name the folder of images first, then the "
            "predictions."
        )
    raise LayoutError(
        f"{folder} holds no category folder. "
        "Expected <Category>/train/good/*.png and <Category>/test/<defect type>/*.png in it. "
        "For another layout run `threecad import`."
    )


def masks_expected(root: str | os.PathLike[str]) -> bool:
    """Whether the defective images of ``root`` should have masks.

    False only for a tree that was imported from photographs without masks, as its import marker
    says.
    """
    marker = own_folder(root) / "import.json"
    try:
        return bool(read_object(marker).get("masks") != "none")
    except (OSError, ValueError):
        return True


def _folders(folder: Path) -> dict[str, Path]:
    """Return the sub-folders that can hold data, by NFC name.

    Raises:
        LayoutError: If the name of one cannot be part of a sample id.
    """
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if entry.is_dir() and not is_stray(entry.name)]
    for entry in found:
        if not is_text(entry.name):
            raise LayoutError(f"{folder} holds a folder {entry.name!a}, no UTF-8. Rename it.")
    return {unicodedata.normalize("NFC", entry.name): Path(entry.path) for entry in found}


def is_stray(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left by the system rather than data."""
    return name.startswith(".") or name.casefold() in _STRAY_NAMES


def is_category(folder: Path) -> bool:
    """Return whether a folder is a category: holds ``train`` or ``test``."""
    return (folder / "train").is_dir() or (folder / "test").is_dir()


def holds_types(category: Path) -> bool:
    """Whether the splits of a category hold folders of types, not just images and masks."""
    if is_mask_folder(category.name) or is_image_folder(category.name):
        return False
    names = {
        name
        for split in ("train", "val", "test")
        if (category / split).is_dir()
        for name in _folders(category / split)
    }
    return any(not (is_mask_folder(name) or is_image_folder(name)) for name in names)


def category_folders(folder: Path) -> dict[str, Path]:
    """Return the folders that hold a category (``train`` or ``test``), by NFC name."""
    return {name: path for name, path in _folders(folder).items() if is_category(path)}


def _scan_category(
    root: Path, category: str, folder: Path, findings: list[Finding]
) -> Iterator[Sample]:
    masks = _scan_masks(root, folder / "ground_truth", findings)
    expected = masks_expected(root)
    splits = [split for split in ("train", "val", "test") if (folder / split).is_dir()]
    types = {split: _types(root, folder / split, findings) for split in splits}
    good = {(split, name) for split, found in types.items() for name in good_among(found)}
    samples = [
        # A mask of test/good is looked up too: it is a finding. train/good shares its stems with
        # test/good, so there a mask would be somebody else's.
        (
            _sample(category, split, GOOD if (split, name) in good else name, stem, image),
            (name, stem) if (split == "test" or (split, name) not in good) else None,
        )
        for split, found in types.items()
        for name, path in sorted(found.items())
        for stem, image in _photographs(root, path, findings).items()
    ]
    owners = Counter(place for _, place in samples if place is not None)
    for sample, place in samples:
        mask = masks.get(place) if place is not None else None
        if place is not None and mask is not None and owners[place] > 1:
            findings.append(tree_findings.mask_shared(root, sample, mask))
        elif sample.label and mask is None and expected:
            findings.append(tree_findings.mask_missing(root, sample))
        elif sample.label == 0 and mask is not None:
            findings.append(tree_findings.mask_of_good(root, sample, mask))
        else:
            yield replace(sample, mask=mask)
            continue
        yield sample
    for place, mask in sorted(masks.items()):
        if place not in owners:
            findings.append(tree_findings.mask_orphan(root, mask))


def _types(root: Path, folder: Path, findings: list[Finding]) -> dict[str, Path]:
    """Return the folders of defect types; one of masks or annotations never is one."""
    found = _folders(folder)
    masks = [name for name in found if is_mask_folder(name)]
    findings += [tree_findings.not_a_type(root, found.pop(name)) for name in masks]
    return found


def _photographs(root: Path, folder: Path, findings: list[Finding]) -> dict[str, Path]:
    """Return the image files of a folder by stem, without masks that stand beside their image."""
    files = _files(root, folder, findings)
    masks = [stem for stem in files if mask_owner(stem) in files]
    findings += [tree_findings.mask_misplaced(root, files.pop(stem)) for stem in masks]
    return files


def _sample(category: str, split: str, defect_type: str, stem: str, image: Path) -> Sample:
    good = defect_type == GOOD
    known = not good and not is_multiple_defects(defect_type)
    return Sample(
        id=f"{category}/{split}/{defect_type}/{stem}",
        category=category,
        split=split,  # type: ignore[arg-type]
        defect_type=defect_type,
        defect_types=(defect_type,) if known else (),
        label=int(not good),
        image=image,
        mask=None,
    )


def _scan_masks(root: Path, folder: Path, findings: list[Finding]) -> dict[tuple[str, str], Path]:
    if not folder.is_dir():
        return {}
    return {
        (defect_type, stem): path
        for defect_type, child in _folders(folder).items()
        for stem, path in _files(root, child, findings).items()
    }


def _files(root: Path, folder: Path, findings: list[Finding]) -> dict[str, Path]:
    """Return the image files of a folder by NFC stem, sorted.

    Raises:
        LayoutError: If two of them have one stem.
    """
    files: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if is_stray(entry.name):
            continue
        path = Path(entry.path)
        if not is_text(entry.name):
            findings.append(tree_findings.not_text(root, path))
            continue
        if not entry.is_file():
            findings.append(tree_findings.not_a_file(root, path))
            continue
        if path.suffix.casefold() not in IMAGE_SUFFIXES:
            findings.append(tree_findings.no_image(root, path))
            continue
        stem = unicodedata.normalize("NFC", path.stem)
        if stem in files:
            raise LayoutError(
                f"{files[stem].name} and {path.name} in {folder} have the same stem, and so the "
                "same sample id. Rename or remove one of them."
            )
        files[stem] = path
    return files


def is_text(name: str) -> bool:
    """Whether the name of a file can be written down: in UTF-8, that is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
