"""The file that says which image is for training, validation and test.

A CSV table with the columns ``object,split,label,image,mask,defect_type,id,fold``. Its first five
are those of VisA's split files, which can be read too. Paths are relative to the root, with ``/``.
A file ``<name>.json`` beside it says how the table was made.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, get_args

from threecad.dataset.samples import Split, relative_path
from threecad.errors import DataError, UsageError
from threecad.system import atomic
from threecad.system.json_files import read_json

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Iterable

    from threecad.dataset.samples import Index, Sample

__all__ = ["SplitFile", "SplitRow", "apply_split", "read_split"]

SCHEMA = "threecad.split/1"


@dataclass(frozen=True)
class SplitRow:
    """One image in a split file.

    Attributes:
        object: Category.
        split: ``train``, ``val`` or ``test``.
        label: ``normal`` or ``anomaly``.
        image: Path relative to the root.
        mask: Path relative to the root; empty for a normal image.
        defect_type: ``good`` for a normal image; may be empty in a file from elsewhere.
        id: Sample id; may be empty in a file from elsewhere.
        fold: The fold in which the image is held out; ``None`` outside k-fold splits.
    """

    object: str
    split: Split
    label: str
    image: str
    mask: str = ""
    defect_type: str = ""
    id: str = ""
    fold: int | None = None

    @classmethod
    def of(cls, sample: Sample, root: Path, split: Split, fold: int | None = None) -> SplitRow:
        """Return the row that puts ``sample`` into ``split``."""
        return cls(
            object=sample.category,
            split=split,
            label="anomaly" if sample.label else "normal",
            image=relative_path(sample.image, root),
            mask=relative_path(sample.mask, root) if sample.mask else "",
            defect_type=sample.defect_type,
            id=sample.id,
            fold=fold,
        )


_COLUMNS = tuple(field.name for field in fields(SplitRow))
_REQUIRED = ("object", "split", "label", "image")


@dataclass(frozen=True)
class SplitFile:
    """A split: its rows and how they came about.

    Attributes:
        rows: One for each image that is used, sorted by id.
        kind: How it was made; empty for a file from elsewhere.
        seed: Random seed.
        options: What else it was made with.
        fingerprint: Fingerprint of the data it was made from.
        left_out: Why an image of those data is in no row, by sample id.
        notes: What could not be done as asked.
        path: Where the file was read from.
    """

    rows: tuple[SplitRow, ...]
    kind: str = ""
    seed: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    fingerprint: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def folds(self) -> list[int]:
        """The folds that can be held out, ascending; empty outside k-fold splits."""
        return sorted({row.fold for row in self.rows if row.fold is not None})

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images per category and ``"<split> <label>"``."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for row in self.rows:
            counts[row.object][f"{row.split} {row.label}"] += 1
        return {name: dict(sorted(counter.items())) for name, counter in sorted(counts.items())}

    def with_fold(self, fold: int | None) -> SplitFile:
        """Return the split with ``fold`` held out: its training images become test images.

        A split without folds is returned as it is.

        Raises:
            UsageError: If ``fold`` is missing for a k-fold split, or is none of its folds.
        """
        folds = self.folds
        if fold is None and folds:
            raise UsageError(
                f"{_name(self)} has the folds {_list(folds)}. Choose the one to hold out with "
                "`fold`."
            )
        if fold is not None and fold not in folds:
            there = f"its folds are {_list(folds)}" if folds else "it has no folds"
            raise UsageError(f"{_name(self)} cannot hold out fold {fold}: {there}.")
        if fold is None:
            return self
        rows = (
            replace(row, split="test" if row.fold == fold else row.split, fold=None)
            for row in self.rows
        )
        return replace(self, rows=tuple(rows))

    def describe(self) -> dict[str, Any]:
        """Return all but the rows as JSON-able data: the content of the file beside the table."""
        return {
            "schema": SCHEMA,
            "kind": self.kind,
            "seed": self.seed,
            "options": self.options,
            "fingerprint": self.fingerprint,
            "counts": self.counts(),
            "left_out": dict(sorted(self.left_out.items())),
            "notes": list(self.notes),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table to ``path`` and its description to ``path`` + ``.json``."""
        atomic.write_json(_sidecar(path), self.describe())
        with (
            atomic.replacing(path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows(astuple(row) for row in self.rows)


def read_split(path: str | os.PathLike[str]) -> SplitFile:
    """Read a split file, and the description beside it where there is one.

    Raises:
        DataError: If it is not such a table; the first wrong line is named.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in _REQUIRED if name not in (reader.fieldnames or ())]:
                raise ValueError(f"column {missing[0]!r} is missing")
            rows = tuple(_parse_row(row, reader.line_num) for row in reader)
        if not rows:
            raise ValueError("it has no rows")
    except FileNotFoundError:
        raise DataError(f"There is no split file {path}. `threecad split` makes one.") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"{path} is not a split file: {error}. Expected a CSV table with the columns "
            f"{','.join(_COLUMNS)}."
        ) from error
    return SplitFile(rows, path=path, **_read_description(path))


def _parse_row(row: dict[str, Any], line: int) -> SplitRow:
    if None in row or None in row.values():
        raise ValueError(f"line {line} has more or fewer cells than the first line")
    if row["split"] not in get_args(Split):
        raise ValueError(f"split {row['split']!r} in line {line} is none of train, val and test")
    if row["label"] not in ("normal", "anomaly"):
        raise ValueError(f"label {row['label']!r} in line {line} is neither normal nor anomaly")
    fold = row.get("fold") or None
    if fold is not None and not fold.isdecimal():
        raise ValueError(f"fold {fold!r} in line {line} is not a number")
    known = {name: row[name] for name in _COLUMNS if name in row and name != "fold"}
    return SplitRow(**known, fold=None if fold is None else int(fold))


_DESCRIPTION: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "seed": (int, type(None)),
    "options": (dict,),
    "fingerprint": (str, type(None)),
    "left_out": (dict,),
    "notes": (list,),
}


def _read_description(path: Path) -> dict[str, Any]:
    """Return what the file beside the table says; nothing if it is missing or somebody else's.

    Raises:
        DataError: If it is damaged.
    """
    sidecar = _sidecar(path)
    try:
        content = read_json(sidecar)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            return {}
        for name, kinds in _DESCRIPTION.items():
            if name in content and type(content[name]) not in kinds:
                raise ValueError(f'"{name}" is {str(content[name])[:40]!r}')
        texts = (*content.get("notes", ()), *content.get("left_out", {}).values())
        if not all(isinstance(text, str) for text in texts):
            raise ValueError('"notes" or "left_out" holds something else than texts')
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(
            f"{sidecar} does not describe the split file beside it: {error}. Restore it, or remove "
            "it: the split can be used without."
        ) from None
    kept = {
        name: content[name]
        for name in ("kind", "seed", "options", "fingerprint", "left_out")
        if name in content
    }
    return {**kept, "notes": tuple(content.get("notes", ()))}


def _sidecar(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path.with_name(f"{path.name}.json")


def apply_split(
    index: Index,
    split_file: SplitFile,
    *,
    fold: int | None = None,
    excluded: Collection[str] = (),
) -> Index:
    """Return the samples that ``split_file`` names, with the splits it gives them.

    A row finds its sample by id, else by the path of its image, else by category, defect type and
    stem where no other row shares them: a split made on another copy of the data works whatever
    folders its images stand in. Ids stay as they are in the tree. Rows of categories that the index
    does not hold are passed over.

    Args:
        index: The samples to choose from.
        split_file: The split.
        fold: The fold to hold out: its training images become test images. Needed for, and only
            for, a k-fold split.
        excluded: Ids that were taken out of the index on purpose; their rows are passed over.

    Raises:
        DataError: If a row of a category that is there finds no sample, or two rows find the same
            one, or a row could mean several; how many and which is said.
        UsageError: If ``fold`` does not fit the file.
    """
    split_file = split_file.with_fold(fold)
    rows = [row for row in split_file.rows if row.object in index.categories]
    if not rows:
        there = ", ".join(index.categories) or "none"
        named = ", ".join(sorted({row.object for row in split_file.rows}))
        raise DataError(
            f"{_name(split_file)} is about other data: it names {named}; the categories in "
            f"{index.root} are: {there}."
        )
    finder = _Finder(index, rows)
    gone = {_loose_key(*_parts(sample_id)) for sample_id in excluded}
    chosen: dict[str, Sample] = {}
    problems: dict[str, list[str]] = {"missing": [], "ambiguous": [], "repeated": []}
    for row in rows:
        found = finder.find(row)
        if len(found) == 1 and found[0].id not in chosen:
            sample = found[0]
            chosen[sample.id] = replace(sample, split=row.split)
        elif not found and (row.id in excluded or _row_key(row) in gone):
            continue
        else:
            kind = "repeated" if len(found) == 1 else "ambiguous" if found else "missing"
            problems[kind].append(row.id or row.image)
    _raise_for(problems, split_file, index, len(rows))
    return index.with_samples(chosen.values())


class _Finder:
    """Looks up the samples that a row may mean."""

    def __init__(self, index: Index, rows: Iterable[SplitRow]) -> None:
        self.index = index
        self.rows_of_key = Counter(map(_row_key, rows))
        self.by_path = {relative_path(sample.image, index.root): sample for sample in index}
        self.by_key: dict[tuple[str, str, str], list[Sample]] = defaultdict(list)
        for sample in index:
            self.by_key[_loose_key(*_parts(sample.id))].append(sample)

    def find(self, row: SplitRow) -> list[Sample]:
        if row.id in self.index:
            return [self.index[row.id]]
        if row.image in self.by_path:
            return [self.by_path[row.image]]
        # Stems repeat across folders: with train/good/7 and test/good/7 both in the file, neither
        # may stand in for the other when it is missing.
        key = _row_key(row)
        return self.by_key.get(key, []) if self.rows_of_key[key] == 1 else []


def _parts(sample_id: str) -> tuple[str, str, str]:
    """Return category, defect type and stem of a sample id."""
    category, _, defect_type, stem = sample_id.split("/", 3)
    return category, defect_type, stem


def _row_key(row: SplitRow) -> tuple[str, str, str]:
    if row.id.count("/") >= 3:
        return _loose_key(*_parts(row.id))
    stem = PurePosixPath(row.image).stem
    defect_type = row.defect_type or PurePosixPath(row.image).parent.name
    return _loose_key(row.object, defect_type, stem)


def _loose_key(category: str, defect_type: str, stem: str) -> tuple[str, str, str]:
    return category, defect_type.casefold(), stem


def _raise_for(
    problems: dict[str, list[str]], split_file: SplitFile, index: Index, total: int
) -> None:
    meaning = {
        "missing": "have no image in",
        "ambiguous": "could mean several images in",
        "repeated": "name an image a second time in",
    }
    said = [
        f"{len(names):,} of its {total:,} rows {meaning[kind]} {index.root} (such as "
        f"{_list(names[:3])})"
        for kind, names in problems.items()
        if names
    ]
    if said:
        raise DataError(
            f"{_name(split_file)} does not fit the data: {'; '.join(said)}. "
            "Complete the data, or make a split for what is there with `threecad split`."
        )


def _name(split_file: SplitFile) -> str:
    return str(split_file.path) if split_file.path else "The split"


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
