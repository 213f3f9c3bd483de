"""Figures as text: lines and tables that fit a terminal of 80 columns, Markdown and LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from threecad.evaluation.definitions import FIGURE_NAMES, SHORT_NAMES, is_replaced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from threecad.evaluation.scores import Scores

__all__ = ["Table", "escape_latex", "list_figures", "tabulate"]

WIDTH = 80
NAME_WIDTH = 30


def list_figures(scores: Scores) -> list[str]:
    """Return a line for each figure, in percent, with its interval."""
    lines = []
    for key, figure in scores.figures.items():
        if is_replaced(key, scores.figures):
            continue
        lines.append(f"  {FIGURE_NAMES.get(key, key):<22}  {figure}")
    if any(figure.confidence for figure in scores.figures.values()):
        lines += ["", "  [95 % bootstrap interval over images]"]
    return lines


def tabulate(title: str, groups: Mapping[str, Scores], keys: Sequence[str]) -> list[str]:
    """Return the lines of a table in percent that fits ``WIDTH`` columns.

    Args:
        title: Head of the first column.
        groups: A row for each, by name.
        keys: A column for each of these figures that any group has.
    """
    keys = [key for key in keys if any(_is_defined(scores, key) for scores in groups.values())]
    if not keys:
        return []
    longest = max(map(cell_len, groups))
    gap = 2 if longest + 7 * len(keys) < WIDTH else 1
    table = RichTable(box=None, padding=(0, gap, 0, 0), pad_edge=False)
    table.add_column(f"\n{title}", max_width=NAME_WIDTH, no_wrap=True, overflow="ellipsis")
    for key in keys:
        table.add_column(SHORT_NAMES[key].replace(" ", "\n"), justify="right")
    counted = len(keys) < 6 and all("regions" in scores.counts for scores in groups.values())
    if counted:
        table.add_column("\nregions", justify="right")
    for name, scores in groups.items():
        cells = [_percent(scores, key) for key in keys]
        if counted:
            cells.append(f"{scores.counts['regions']:,}")
        table.add_row(Text(name), *cells)
    console = Console(width=WIDTH, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return [line.rstrip() for line in capture.get().splitlines()]


def _is_defined(scores: Scores, key: str) -> bool:
    return key in scores.figures and scores.figures[key].value is not None


def _percent(scores: Scores, key: str) -> str:
    if not _is_defined(scores, key):
        return "–"
    return f"{100 * (scores.figures[key].value or 0):.2f}"


def escape_latex(text: str) -> str:
    """Return text as LaTeX prints it."""
    return text.translate(_LATEX)


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%_#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "†": r"$^\dagger$",
        "±": r"$\pm$",
        "×": r"$\times$",
        "–": "--",
    }
)


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


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"
