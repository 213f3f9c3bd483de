"""One image of the dataset, and an ordered collection of them."""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from threecad.dataset.catalog import is_multiple_defects
from threecad.errors import DataError, LayoutError, MaskError, UsageError
from threecad.images.hashing import hash_files
from threecad.images.masks import MaskRule, read_mask
from threecad.system import atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from threecad.dataset.findings import Finding

__all__ = ["GOOD", "Index", "Sample", "Split", "read_sample_mask", "relative_path"]

Split = Literal["train", "val", "test"]

GOOD = "good"
"""Folder name and defect type of defect-free images."""


@dataclass(frozen=True)
class Sample:
    """One image of the dataset.

    Attributes:
        id: ``<category>/<split>/<defect_type>/<stem>`` as in the tree, Unicode NFC.
        category: Name of the category folder.
        split: ``train``, ``val`` or ``test``.
        defect_type: Name of the defect folder; ``"good"`` for a defect-free image.
        defect_types: The types of defect seen in the image; empty for a good image and where the
            folder does not tell (``Multiple-defects``).
        label: 0 for good, 1 for defective.
        image: The image file.
        mask: The mask file; ``None`` for a good image, or where no mask was found.
    """

    id: str
    category: str
    split: Split
    defect_type: str
    defect_types: tuple[str, ...]
    label: int
    image: Path
    mask: Path | None


class Index:
    """An ordered, immutable collection of samples with unique ids.

    Args:
        root: The folder that holds the category folders.
        samples: The samples, in any order; kept sorted by id.
        findings: What ``scan`` found wrong with the tree.
        errata_digest: SHA-256 of the errata file that was applied, if any.

    Raises:
        LayoutError: If two samples have the same id.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        samples: Iterable[Sample],
        *,
        findings: Iterable[Finding] = (),
        errata_digest: str | None = None,
    ) -> None:
        self.root = Path(root)
        self.samples = tuple(sorted(samples, key=lambda sample: sample.id))
        self.findings = tuple(findings)
        self.errata_digest = errata_digest
        self._by_id = {sample.id: sample for sample in self.samples}
        if len(self._by_id) != len(self.samples):
            twice = next(
                a.id for a, b in zip(self.samples, self.samples[1:], strict=False) if a.id == b.id
            )
            raise LayoutError(f"Two samples have the id {twice!r}. Rename one of the files.")

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __contains__(self, sample_id: object) -> bool:
        return sample_id in self._by_id

    def __getitem__(self, sample_id: str) -> Sample:
        try:
            return self._by_id[sample_id]
        except KeyError:
            raise DataError(
                f"No sample {sample_id!r} in {self.root}. "
                "An id is <Category>/<split>/<defect_type>/<stem>, without a suffix."
            ) from None

    def __repr__(self) -> str:
        return f"Index({str(self.root)!r}, {len(self)} samples, categories={self.categories})"

    @cached_property
    def categories(self) -> list[str]:
        """The names of the categories, sorted."""
        return sorted({sample.category for sample in self})

    @cached_property
    def defect_types(self) -> list[str]:
        """The names of the defect folders, sorted, without ``good`` and the label for several."""
        return sorted(
            {s.defect_type for s in self if s.label and not is_multiple_defects(s.defect_type)}
        )

    def select(
        self,
        *,
        category: str | Collection[str] | None = None,
        split: str | Collection[str] | None = None,
        defect_type: str | Collection[str] | None = None,
        label: int | None = None,
    ) -> Index:
        """Return the samples that satisfy every given condition.

        Raises:
            UsageError: If a category, split or defect type is not in the index.
        """
        conditions = {"category": category, "split": split, "defect_type": defect_type}
        samples: Iterable[Sample] = self.samples
        for field, wanted in conditions.items():
            if wanted is None:
                continue
            names = {wanted} if isinstance(wanted, str) else set(wanted)
            self._check_known(field, names)
            samples = [sample for sample in samples if getattr(sample, field) in names]
        if label is not None:
            samples = [sample for sample in samples if sample.label == label]
        return self.with_samples(samples)

    def with_samples(self, samples: Iterable[Sample]) -> Index:
        """Return an index of the same root with other samples."""
        return Index(self.root, samples, findings=self.findings, errata_digest=self.errata_digest)

    def _check_known(self, field: str, names: set[str]) -> None:
        known = {"train", "val", "test"} if field == "split" else set[str]()
        known |= {getattr(sample, field) for sample in self}
        if unknown := sorted(names - known):
            raise UsageError(
                f"Unknown {field.replace('_', ' ')} {unknown[0]!r} in {self.root}. "
                f"There are: {', '.join(sorted(known)) or 'none'}."
            )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (id, SHA-256 of the image file, SHA-256 of the mask file).

        Hashes of unchanged files are remembered in ``ROOT/.threecad``, so only the first call on
        a tree reads every file.
        """
        files = {sample.image for sample in self} | {s.mask for s in self if s.mask is not None}
        digests = hash_files(self.root, sorted(files))
        total = hashlib.sha256()
        for sample in self:
            mask = digests[sample.mask] if sample.mask else ""
            total.update(f"{sample.id}\t{digests[sample.image]}\t{mask}\n".encode())
        return total.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index as CSV with paths relative to the root."""
        with (
            atomic.replacing(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(self._row(sample) for sample in self)

    @classmethod
    def load(cls, path: str | os.PathLike[str], root: str | os.PathLike[str]) -> Index:
        """Read an index written by ``save``; ``root`` is where its relative paths begin.

        Raises:
            DataError: If the file is not such a table.
        """
        root = Path(root)
        try:
            with Path(path).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return cls(root, [_parse_row(row, root) for row in rows])
        except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
            raise DataError(
                f"{path} is not an index with the columns {', '.join(_COLUMNS)}: {error!r}. "
                "Write it anew with Index.save."
            ) from error

    def _row(self, sample: Sample) -> list[str]:
        return [
            sample.id,
            sample.category,
            sample.split,
            sample.defect_type,
            "|".join(sample.defect_types),
            str(sample.label),
            relative_path(sample.image, self.root),
            relative_path(sample.mask, self.root) if sample.mask else "",
        ]


_COLUMNS = ("id", "category", "split", "defect_type", "defect_types", "label", "image", "mask")


def _parse_row(row: dict[str, str], root: Path) -> Sample:
    split = row["split"]
    if split not in ("train", "val", "test"):
        raise ValueError(f"split {split!r}")
    return Sample(
        id=row["id"],
        category=row["category"],
        split=split,  # type: ignore[arg-type]
        defect_type=row["defect_type"],
        defect_types=tuple(filter(None, row["defect_types"].split("|"))),
        label=int(row["label"]),
        image=root / row["image"],
        mask=root / row["mask"] if row["mask"] else None,
    )


def relative_path(path: Path, root: Path) -> str:
    """Return ``path`` relative to ``root``, with ``/`` on every system."""
    return Path(os.path.relpath(path, root)).as_posix()


def read_sample_mask(
    sample: Sample, shape: tuple[int, int], *, rule: MaskRule | None = None
) -> NDArray[np.bool_]:
    """Return the mask of a sample, ``(H, W)`` bool, all false where it has none.

    Args:
        sample: The sample.
        shape: ``(height, width)`` of its image.
        rule: Use this rule instead of the first that fits (see ``decode_mask``).

    Raises:
        MaskError: If the mask cannot be decoded, is not of that shape, or does not suit ``rule``.
    """
    if sample.mask is None:
        return np.zeros(shape, np.bool_)
    mask = read_mask(sample.mask, rule=rule)
    if mask.shape != shape:
        raise MaskError(
            f"{sample.mask} is {mask.shape[1]} × {mask.shape[0]} pixels, but its image "
            f"{sample.image} is {shape[1]} × {shape[0]}. Replace one of them."
        )
    return mask
