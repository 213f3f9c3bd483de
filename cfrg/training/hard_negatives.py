"""Good parts that a detector has wrongly stopped, as good training images of the next one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cfrg.images.cache import join_errors
from cfrg.images.sources import find_images, is_tree
from threecad.dataset.duplicates.copies import find_originals
from threecad.dataset.samples import GOOD, Sample
from threecad.errors import DataError, UsageError

if TYPE_CHECKING:
    import os

    from threecad.dataset.samples import Index

__all__ = ["FOLDER", "HardNegatives", "read_hard_negatives"]

FOLDER = "hard-negatives"
"""Third part of their ids, where samples of a tree have their defect type."""


class HardNegatives(NamedTuple):
    """The images of a folder that join the good ones.

    Attributes:
        samples: Those that join, with ids ``<category>/train/hard-negatives/<name>``.
        known: Number of those left out, as copies of training images or of each other.
    """

    samples: list[Sample]
    known: int

    def __str__(self) -> str:
        """Return a sentence for people."""
        left_out = f"; {self.known:,} more are copies and left out" if self.known else ""
        return f"{len(self.samples):,} hard negatives join the good images{left_out}."


def read_hard_negatives(
    index: Index, folder: str | os.PathLike[str], category: str
) -> HardNegatives:
    """Return the images of a folder as good samples of a category.

    Args:
        index: The tree that they join.
        folder: Photographs of good parts.
        category: A category of the tree.

    Raises:
        UsageError: If the folder is a tree, or no single category is named.
        DataError: If the folder holds no image, or copies of test images, whatever their encoding
            or size: the test could not be trusted any more.
    """
    if category == "all":
        raise UsageError("Hard negatives belong to one category: name it with `category`.")
    if is_tree(Path(folder)):
        raise UsageError(
            f"{folder} is a tree in the 3CAD layout, whose defective images would be taken for "
            "good. Name a folder of good parts that were wrongly stopped."
        )
    found = [
        Sample(_name(name, category), category, "train", GOOD, (), 0, path, None)
        for name, path in find_images([folder])
    ]
    there = list(index.select(category=category))
    # Without slashes all are compared with all, as photographs of one kind of part.
    files = [(sample.id.replace("/", ":"), sample.image) for sample in [*there, *found]]
    originals = find_originals(files, progress=True)
    groups: dict[str, list[Sample]] = {}
    for sample in there:
        groups.setdefault(originals[sample.id.replace("/", ":")], []).append(sample)
    kept, copies = [], []
    for sample in found:
        alike = groups.setdefault(originals[sample.id.replace("/", ":")], [])
        if tests := [other for other in alike if other.split == "test"]:
            copies.append(f"{sample.image} shows the same photograph as {tests[0].id}.")
        if not alike:
            kept.append(sample)
        alike.append(sample)
    if copies:
        raise DataError(
            f"{join_errors(copies)}\nWho trains on a test image cannot be tested with it: remove "
            f"what shows one from {folder}."
        )
    return HardNegatives(kept, len(found) - len(kept))


def _name(name: str, category: str) -> str:
    return f"{category}/train/{FOLDER}/{name.replace('/', '__')}"
