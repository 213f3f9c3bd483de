"""A result as text that fits a terminal of 80 columns."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from threecad.evaluation.definitions import FIGURE_NAMES, SHORT_NAMES, is_replaced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from threecad.evaluation.results import Result, Scores

__all__ = ["Table", "breakdown", "escape_latex", "render_result"]

WIDTH = 80
NAME_WIDTH = 30

DETAILS = ("pixel_auroc", "pro_30", "pro_05", "region_recall_05", "region_recall_01")
"""What is shown of defect types and sizes; the rest is in the JSON and the HTML page."""


def render_result(result: Result) -> str:
    """Return a result as tables in percent: all figures, categories, defect types and sizes.

    Of several categories, the figures are the means, and defect types are left out.
    """
    several = len(result.by_category) > 1
    name = (
        f"mean of {len(result.by_category)} categories" if several else "".join(result.by_category)
    )
    blocks = [[f"Protocol {result.protocol}, {name}, percent", "", *_list_figures(result.mean)]]
    if several:
        categories = {**result.by_category, "Mean": result.mean}
        keys = [key for key in SHORT_NAMES if not key.startswith("region_")]
        blocks.append(_tabulate("Category", categories, keys))
    else:
        blocks.append(_tabulate("Defect type", breakdown(result, "by_defect_type"), DETAILS))
    sizes = {size: scores for size, scores in result.by_size.items() if "/" not in size}
    blocks.append(_tabulate("Defect size", sizes, DETAILS))
    lines = [*result.undefined(), *(f"Warning: {line}" for line in result.warnings)]
    blocks.append([fill(line, WIDTH, subsequent_indent="  ") for line in lines])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def breakdown(result: Result, name: str) -> dict[str, Scores]:
    """Return ``by_defect_type`` or ``by_size``; a category that is the only one is not named."""
    groups: dict[str, Scores] = getattr(result, name)
    if len(result.by_category) > 1:
        return groups
    return {group.partition("/")[2]: scores for group, scores in groups.items() if "/" in group}


def _list_figures(scores: Scores) -> list[str]:
    """Return a line for each figure, with its interval."""
    lines = []
    for key, figure in scores.figures.items():
        if is_replaced(key, scores.figures):
            continue
        lines.append(f"  {FIGURE_NAMES.get(key, key):<22}  {figure}")
    if any(figure.confidence for figure in scores.figures.values()):
        lines += ["", "  [95 % bootstrap interval over images]"]
    return lines


def _tabulate(title: str, groups: Mapping[str, Scores], keys: Sequence[str]) -> list[str]:
    """Return a table with a row for each group and a column for each figure that any has."""
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
