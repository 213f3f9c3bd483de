"""Corrections to a dataset: a small JSON file of what to exclude, relabel or mask anew.

    {
      "schema": "threecad.errata/1",
      "entries": [
        {"id": "Copper_Stator/train/good/000028", "action": "exclude",
         "reason": "same pixels as Copper_Stator/test/good/000113"},
        {"id": "Copper_Stator/test/Scratch/000007", "action": "relabel", "defect_type": "good",
         "reason": "no scratch to be seen"},
        {"id": "Copper_Stator/test/Scratch/000009", "action": "replace-mask",
         "mask": "masks/000009.png", "reason": "the mask lacks the second scratch"}
      ]
    }

The data themselves are never changed: ``scan(errata=…)`` and every command with ``--errata`` apply
the corrections while reading, and results record the digest of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

from threecad.dataset.catalog import is_multiple_defects
from threecad.dataset.samples import GOOD, Index
from threecad.errors import DataError
from threecad.images.hashing import hash_file
from threecad.system import atomic
from threecad.system.json_files import read_json

if TYPE_CHECKING:
    import os

    from threecad.dataset.findings import Finding
    from threecad.dataset.samples import Sample

__all__ = ["Action", "Errata", "Erratum", "apply_errata", "read_errata"]

SCHEMA = "threecad.errata/1"

Action = Literal["exclude", "relabel", "replace-mask"]


@dataclass(frozen=True)
class Erratum:
    """One correction.

    Attributes:
        id: The sample it is about.
        action: What to do with it.
        reason: Why, for people.
        defect_type: For ``relabel``: the right defect type, or ``"good"``.
        defect_types: For ``relabel`` and ``replace-mask``: all types seen in the image, where that
            is more than ``defect_type`` says.
        mask: For ``replace-mask`` (and ``relabel`` of a good image): the mask file, relative to the
            errata file.
    """

    id: str
    action: Action
    reason: str
    defect_type: str | None = None
    defect_types: tuple[str, ...] = ()
    mask: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the correction as JSON-able data, without what is not set."""
        content: dict[str, Any] = {"id": self.id, "action": self.action}
        if self.defect_type is not None:
            content["defect_type"] = self.defect_type
        if self.defect_types:
            content["defect_types"] = list(self.defect_types)
        if self.mask is not None:
            content["mask"] = self.mask
        return {**content, "reason": self.reason}


@dataclass(frozen=True)
class Errata:
    """A file of corrections.

    Attributes:
        entries: The corrections, at most one for each sample.
        folder: Where the paths of new masks begin.
    """

    entries: tuple[Erratum, ...]
    folder: Path

    @property
    def excluded(self) -> frozenset[str]:
        """The ids of the samples to leave out."""
        return frozenset(entry.id for entry in self.entries if entry.action == "exclude")

    @property
    def digest(self) -> str:
        """SHA-256 over the corrections, sorted by id, and the new masks' own SHA-256.

        It does not depend on the layout of the JSON text.
        """
        total = hashlib.sha256(SCHEMA.encode())
        for entry in sorted(self.entries, key=lambda entry: entry.id):
            content = entry.to_dict()
            if entry.mask is not None:
                content["mask"] = hash_file(self.folder / entry.mask)
            total.update(json.dumps(content, sort_keys=True, ensure_ascii=False).encode())
        return total.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the corrections to ``path``."""
        entries = sorted(self.entries, key=lambda entry: entry.id)
        atomic.write_json(
            path, {"schema": SCHEMA, "entries": [entry.to_dict() for entry in entries]}
        )


def read_errata(path: str | os.PathLike[str]) -> Errata:
    """Read a file of corrections.

    Raises:
        DataError: If it is not such a file; the first wrong entry is named.
    """
    path = Path(path)
    try:
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise ValueError(f'"schema" is not "{SCHEMA}"')
        entries = content.get("entries")
        if not isinstance(entries, list):
            raise ValueError('"entries" is not a list')
        errata = Errata(
            tuple(_parse(entry, number) for number, entry in enumerate(entries)), path.parent
        )
        repeated = [name for name, n in Counter(e.id for e in errata.entries).items() if n > 1]
        if repeated:
            raise ValueError(f"there are two entries for {repeated[0]}")
        for entry in errata.entries:
            if entry.mask is not None and not (errata.folder / entry.mask).is_file():
                raise ValueError(f"there is no mask {errata.folder / entry.mask} (for {entry.id})")
    except FileNotFoundError:
        raise DataError(
            f"There is no errata file {path}. `threecad audit --write-errata` makes one."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not an errata file: {error}. See docs/audit.md.") from error
    return errata


_FIELDS: dict[str, tuple[set[str], set[str]]] = {  # action -> (required, allowed)
    "exclude": (set(), set()),
    "relabel": ({"defect_type"}, {"defect_types", "mask"}),
    "replace-mask": ({"mask"}, {"defect_types"}),
}


def _parse(entry: Any, number: int) -> Erratum:
    where = f"entry {number + 1}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is not an object")
    for name in ("id", "action", "reason"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise ValueError(f'{where} has no "{name}"')
    if entry["id"].count("/") < 3:
        raise ValueError(
            f"the id {entry['id']!r} of {where} is not <Category>/<split>/<defect_type>/<stem>"
        )
    if entry["action"] not in get_args(Action):
        raise ValueError(
            f"action {entry['action']!r} of {where} is none of {', '.join(get_args(Action))}"
        )
    required, allowed = _FIELDS[entry["action"]]
    given = set(entry) - {"id", "action", "reason"}
    if missing := sorted(required - given):
        raise ValueError(f'{where} ({entry["action"]}) has no "{missing[0]}"')
    if unknown := sorted(given - required - allowed):
        raise ValueError(
            f'{where} ({entry["action"]}) has "{unknown[0]}", which means nothing here'
        )
    types = entry.get("defect_types", [])
    if not isinstance(types, list) or not all(isinstance(name, str) and name for name in types):
        raise ValueError(f'"defect_types" of {where} is not a list of names')
    for name in ("defect_type", "mask"):
        if name in entry and (not isinstance(entry[name], str) or not entry[name]):
            raise ValueError(f'"{name}" of {where} is not a text')
    if "mask" in entry:
        _check_inside(entry["mask"], where)
    return Erratum(
        entry["id"],
        entry["action"],
        entry["reason"],
        entry.get("defect_type"),
        tuple(types),
        entry.get("mask"),
    )


def _check_inside(mask: str, where: str) -> None:
    path = PurePosixPath(mask)
    if path.is_absolute() or ".." in path.parts or ":" in mask or "\\" in mask:
        raise ValueError(f"mask {mask!r} of {where} is not below the errata file's own folder")


def apply_errata(index: Index, errata: Errata) -> Index:
    """Return the corrected index; it carries the digest of the corrections.

    Corrections of categories that the index does not hold are passed over. Ids stay as they are in
    the tree, even where the defect type changes.

    Raises:
        DataError: If a correction is about a sample that is not there.
    """
    entries = {
        entry.id: entry for entry in errata.entries if entry.id.split("/")[0] in index.categories
    }
    if unknown := sorted(set(entries) - {sample.id for sample in index}):
        raise DataError(
            f"The errata name {len(unknown):,} sample(s) that are not in {index.root}, such as "
            f"{unknown[0]}. They may be of another edition of the data; remove these entries."
        )
    corrected = [
        _correct(sample, entries[sample.id], errata.folder) if sample.id in entries else sample
        for sample in index
        if sample.id not in errata.excluded
    ]
    return Index(
        index.root, corrected, findings=_open_findings(index, entries), errata_digest=errata.digest
    )


def _correct(sample: Sample, entry: Erratum, folder: Path) -> Sample:
    if entry.action == "replace-mask":
        types = entry.defect_types or sample.defect_types
        return replace(sample, mask=folder / str(entry.mask), defect_types=types)
    name = str(entry.defect_type)
    if name == GOOD:
        return replace(sample, defect_type=GOOD, defect_types=(), label=0, mask=None)
    known = () if is_multiple_defects(name) else (name,)
    mask = folder / entry.mask if entry.mask is not None else sample.mask
    return replace(
        sample, defect_type=name, defect_types=entry.defect_types or known, label=1, mask=mask
    )


def _open_findings(index: Index, entries: dict[str, Erratum]) -> list[Finding]:
    """Return the findings of ``scan`` that the corrections leave standing."""
    return [finding for finding in index.findings if finding.id not in entries]
