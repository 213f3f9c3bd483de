"""What others reported on 3CAD, each under a protocol of its own, and none of it ranked.

The figures stand in ``data/reported_results.json`` with the repository, file and commit they were
read from. They were computed on other splits, at other sizes and by other definitions than the
paper's or ours, so they get tables of their own, and no difference or rank is taken with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from threecad.benchmark.reports import Report
from threecad.dataset.catalog import CATEGORIES
from threecad.errors import UsageError
from threecad.evaluation.tables import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

__all__ = ["ReportedMethod", "ReportedProtocol", "reported_protocols", "tabulate"]

_CODES = tuple(category.code for category in CATEGORIES.values())
_MEAN = "Mean"


@dataclass(frozen=True)
class ReportedMethod:
    """One row of somebody's table.

    Attributes:
        name: The method's name there.
        source: File and commit the figures were read from; empty where that was not noted.
        note: What else to know.
        results: Category code or ``Mean`` → figure → percent.
    """

    name: str
    source: str
    note: str
    results: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ReportedProtocol:
    """Methods that somebody evaluated alike, hence comparable with each other alone.

    Attributes:
        name: What was evaluated.
        repository: ``OWNER/NAME`` on GitHub.
        read: The day on which the figures were read there.
        edition: Edition of the dataset, ``english`` or ``pinyin``.
        protocol: How it was evaluated.
        figures: Figure → its name in tables.
        methods: The rows.
    """

    name: str
    repository: str
    read: str
    edition: str
    protocol: str
    figures: Mapping[str, str]
    methods: tuple[ReportedMethod, ...]

    @property
    def note(self) -> str:
        """Where it is from and why it stands apart, in a few sentences."""
        return (
            f"{self.name}, as reported by github.com/{self.repository} (read {self.read}): "
            f"{self.protocol} {self.edition.capitalize()} edition. Comparable with nothing outside "
            "these rows."
        )

    def tables(self, codes: Collection[str] | None = None) -> list[Table]:
        """Return the figures in percent, of the categories with these codes; of all if ``None``.

        One table for a single category, else one for each figure. The mean is that over all
        categories, so it is left out beside fewer.
        """
        reported = {code for method in self.methods for code in method.results}
        columns = [code for code in _CODES if code in reported and (codes is None or code in codes)]
        if not columns:
            return []
        apart = f"reported by {self.repository}"
        if len(reported) == 1:
            heading = f"{self.name}, {columns[0]}, percent; {apart}"
            rows = {m.name: m.results.get(columns[0], {}) for m in self.methods}
            return [_table(heading, self.figures, rows)]
        if set(columns) == set(_CODES):
            columns.append(_MEAN)
        heads = {column: column for column in columns}
        return [
            _table(
                f"{name}, percent; {self.name}, {apart}",
                heads,
                {
                    m.name: {c: row[key] for c, row in m.results.items() if key in row}
                    for m in self.methods
                },
            )
            for key, name in self.figures.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**vars(self), "methods": [vars(method) for method in self.methods]}


def reported_protocols(
    repositories: Collection[str] | None = None,
) -> tuple[ReportedProtocol, ...]:
    """Return what is known to be reported on 3CAD outside its paper.

    Args:
        repositories: Only what these report, each ``OWNER/NAME``; everything if ``None``.

    Raises:
        UsageError: If no figures of one of them are known.
    """
    known = _load()
    names = dict.fromkeys(protocol.repository for protocol in known)
    for name in repositories or ():
        if name not in names:
            raise UsageError(
                f"No figures reported by {name!r} are known. Known are: {', '.join(names)}."
            )
    return tuple(p for p in known if repositories is None or p.repository in repositories)


def tabulate(protocols: Iterable[ReportedProtocol], codes: Collection[str] | None = None) -> Report:
    """Return protocols as tables, each with a note that says why it stands apart.

    Args:
        protocols: What to show.
        codes: Only categories with these codes; all if ``None``.
    """
    shown = [(protocol.tables(codes), protocol.note) for protocol in protocols]
    return Report(
        tuple(table for tables, _ in shown for table in tables),
        tuple(note for tables, note in shown if tables),
    )


@lru_cache(maxsize=1)
def _load() -> tuple[ReportedProtocol, ...]:
    text = (
        files("threecad.dataset").joinpath("data/reported_results.json").read_text(encoding="utf-8")
    )
    content: dict[str, Any] = json.loads(text)
    return tuple(
        ReportedProtocol(
            name=row["name"],
            repository=row["repository"],
            read=content["read"],
            edition=row["edition"],
            protocol=row["protocol"],
            figures=row["figures"],
            methods=tuple(map(_method, row["methods"])),
        )
        for row in content["protocols"]
    )


def _method(row: Mapping[str, Any]) -> ReportedMethod:
    source = f"{row['file']}@{row['commit']}" if row["file"] else ""
    return ReportedMethod(row["name"], source, row["note"], row["results"])


def _table(
    title: str, columns: Mapping[str, str], rows: Mapping[str, Mapping[str, float]]
) -> Table:
    return Table(
        title,
        ("Method", *columns.values()),
        tuple(
            (name, *(f"{row[key]:.1f}" if key in row else "–" for key in columns))
            for name, row in rows.items()
            if row
        ),
    )
