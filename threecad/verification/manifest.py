"""A list of every file of a tree with its size and hash, written once and compared ever after."""

from __future__ import annotations

import csv
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad.dataset.findings import Finding
from threecad.errors import DataError, UsageError
from threecad.system import atomic

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["ManifestRow", "check_suffix", "compare", "read_manifest", "write_manifest"]

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class ManifestRow:
    """One image or mask.

    Attributes:
        path: Path relative to the root, with ``/``.
        length: Bytes.
        sha256: SHA-256, 64 hexadecimal digits; empty where it was not computed.
        width: Pixels.
        height: Pixels.
    """

    path: str
    length: int
    sha256: str
    width: int
    height: int


_COLUMNS = ("path", "size", "sha256", "width", "height")
"""The columns of the file, in the order of the fields of a row."""


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise unless the name says how the manifest is written.

    Raises:
        UsageError: If ``path`` ends neither in ``.csv`` nor in ``.parquet``.
    """
    if Path(path).suffix not in SUFFIXES:
        raise UsageError(f"A manifest is a {' or a '.join(SUFFIXES)} file, not {path}. Rename it.")


def write_manifest(path: str | os.PathLike[str], rows: Iterable[ManifestRow]) -> None:
    """Write rows, sorted by path, as CSV or Parquet, as the suffix says.

    Raises:
        UsageError: If the suffix is another one.
    """
    check_suffix(path)
    ordered = sorted(rows, key=lambda row: row.path)
    with atomic.replacing(path) as temporary:
        if temporary.suffix == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            columns = {
                name: [astuple(row)[i] for row in ordered] for i, name in enumerate(_COLUMNS)
            }
            parquet.write_table(pa.table(columns), temporary)
        else:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(_COLUMNS)
                writer.writerows(astuple(row) for row in ordered)


def read_manifest(path: str | os.PathLike[str]) -> list[ManifestRow]:
    """Read what ``write_manifest`` wrote.

    Raises:
        DataError: If the file is no manifest.
    """
    path = Path(path)
    try:
        return [_parse(record) for record in _read_records(path)]
    except FileNotFoundError:
        raise DataError(f"There is no manifest {path}.") from None
    except (
        OSError, ValueError, KeyError, TypeError, OverflowError, NotImplementedError, csv.Error,
    ) as error:  # fmt: skip
        raise DataError(
            f"{path} is not a manifest with the columns {', '.join(_COLUMNS)}: {error}. "
            "Write it anew with `threecad verify --manifest FILE --force`."
        ) from error


def _read_records(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        from pyarrow import parquet

        yield from parquet.read_table(path, columns=list(_COLUMNS)).to_pylist()
        return
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"column {missing[0]!r} is missing")
        yield from reader


def _parse(record: dict[str, Any]) -> ManifestRow:
    if len(record["sha256"]) != 64:
        raise ValueError(f"{record['sha256']!r} is no SHA-256 (of {record['path']})")
    return ManifestRow(
        record["path"],
        int(record["size"]),
        record["sha256"],
        int(record["width"]),
        int(record["height"]),
    )


def compare(
    expected: Iterable[ManifestRow],
    found: Iterable[ManifestRow],
    *,
    concerns: Callable[[str], bool] = lambda _: True,
) -> list[Finding]:
    """Name the files that changed, are missing or are extra.

    Args:
        expected: The rows of the manifest.
        found: The rows of the tree as it is; an empty ``sha256`` is not compared.
        concerns: Whether a path of the manifest is among those that were looked at.
    """
    then = {row.path: row for row in expected if concerns(row.path)}
    now = {row.path: row for row in found}
    findings = [
        Finding(
            "file-missing",
            "error",
            f"{path} is in the manifest but not in the tree.",
            path=path,
            advice="Restore it from the archive: `threecad download` only adds what is missing.",
        )
        for path in sorted(then.keys() - now.keys())
    ]
    findings += [
        Finding(
            "file-extra",
            "warning",
            f"{path} is not in the manifest.",
            path=path,
            advice="Remove it, or write the manifest anew with `renew=True` if it belongs there.",
        )
        for path in sorted(now.keys() - then.keys())
    ]
    for path in sorted(then.keys() & now.keys()):
        if difference := _difference(then[path], now[path]):
            findings.append(
                Finding(
                    "file-changed",
                    "error",
                    f"{path} is not the file of the manifest: {difference}.",
                    path=path,
                    advice="Restore it, or write the manifest anew with `renew=True` if the "
                    "change is meant.",
                )
            )
    return findings


def _difference(then: ManifestRow, now: ManifestRow) -> str:
    if then.length != now.length:
        return f"{now.length:,} bytes, expected {then.length:,}"
    if now.sha256 and then.sha256 != now.sha256:
        return f"SHA-256 {now.sha256[:12]}…, expected {then.sha256[:12]}…"
    return ""
