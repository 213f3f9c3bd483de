"""The report of a benchmark: tables as text, in three formats, and the files it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from threecad.pages.rendering import render_template
from threecad.system import atomic

if TYPE_CHECKING:
    import os

    from threecad.evaluation.results import Result
    from threecad.evaluation.tables import Table

__all__ = ["Report"]


@dataclass(frozen=True)
class Report:
    """All tables of a benchmark, and what has to be known beside them."""

    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    results: dict[str, Result] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        parts = [table.to_markdown() for table in self.tables]
        return "\n".join([*parts, *(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    def to_latex(self) -> str:
        """Return the tables as LaTeX, with the notes as comments."""
        parts = [table.to_latex() for table in self.tables]
        return "\n".join([*parts, *(f"% {note}" for note in self.notes)]).rstrip() + "\n"

    def to_html(self, title: str) -> str:
        """Return one page that needs nothing else."""
        return render_template("benchmark.html", title=title, tables=self.tables, notes=self.notes)

    def write(self, out: str | os.PathLike[str]) -> None:
        """Write ``report.md``, ``report.tex`` and ``report.html`` to a folder, and the results.

        These are ``results/METHOD-PROTOCOL-SEED.json``, which ``threecad compare`` reads.
        """
        out = Path(out)
        atomic.write_text(out / "report.md", self.to_markdown())
        atomic.write_text(out / "report.tex", self.to_latex())
        atomic.write_text(out / "report.html", self.to_html(f"Benchmark {out.name}"))
        for name, result in self.results.items():
            result.to_json(out / "results" / f"{name.replace(':', '.')}.json")
