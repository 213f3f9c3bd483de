"""The report of a benchmark: tables as text, in three formats, and the files it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from threecad import atomic
from threecad.comparison import escape_latex
from threecad.html import render_template

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from threecad.metrics.results import Result

__all__ = ["Report", "Table"]


@dataclass(frozen=True)
class Table:
    """A table as text: its first column names the rows."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_markdown(self) -> str:
        """Return it as Markdown."""
        lines = [f"**{self.title}**", ""]
        lines.append("| " + " | ".join(self.header) + " |")
        lines.append("|---|" + "---:|" * (len(self.header) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])

    def to_latex(self) -> str:
        """Return it as a LaTeX ``tabular``; needs the package ``booktabs``."""
        lines = [f"% {self.title}", r"\begin{tabular}{l" + "r" * (len(self.header) - 1) + "}"]
        lines += [r"\toprule", _latex_row(self.header), r"\midrule"]
        lines += map(_latex_row, self.rows)
        lines += [r"\bottomrule", r"\end{tabular}", *([f"% {self.note}"] if self.note else []), ""]
        return "\n".join(lines)


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


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"
