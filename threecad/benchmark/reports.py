"""The files that a benchmark leaves: tables in three formats, and results to go on with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad import atomic
from threecad.benchmark.tables import make_report

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from threecad.benchmark.store import Record
    from threecad.benchmark.tables import Report

__all__ = ["write_reports"]


def write_reports(out: str | os.PathLike[str], records: Iterable[Record], **options: Any) -> Report:
    """Write the report of a benchmark to its folder, and return it.

    Writes ``report.md``, ``report.tex``, ``report.html`` and, for every method, protocol and seed,
    a result that ``threecad compare`` reads.

    Args:
        out: The folder.
        records: The trials.
        **options: Given to ``threecad.benchmark.tables.make_report``.
    """
    out = Path(out)
    report = make_report(records, **options)
    atomic.write_text(out / "report.md", report.to_markdown())
    atomic.write_text(out / "report.tex", report.to_latex())
    atomic.write_text(out / "report.html", report.to_html(f"Benchmark {out.name}"))
    for name, result in report.results.items():
        result.to_json(out / "results" / f"{name.replace(':', '.')}.json")
    return report
