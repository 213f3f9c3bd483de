"""Results side by side, with the paper's published ones, and what must not be compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threecad.dataset.catalog import CATEGORIES, published_results
from threecad.errors import UsageError
from threecad.evaluation.definitions import IMAGE_KEYS, PAPER_PRO
from threecad.evaluation.results import FIGURE_NAMES, Result
from threecad.evaluation.scores import Figure, Scores
from threecad.evaluation.tables import escape_latex

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Comparison", "compare", "published_methods", "published_result", "shared_figures"]

MEAN = "Mean"

PUBLISHED_KEYS = {
    "image_auroc": "image_auroc",
    "pixel_auroc": "pixel_auroc",
    "pixel_ap": "pixel_ap",
    "pixel_pro": PAPER_PRO,
}
"""Name in the published tables → our key."""

PUBLISHED_COUNTS = {
    name: {"good": category.test_good, "defective": category.test_defective}
    for name, category in CATEGORIES.items()
}
PUBLISHED_COUNTS[MEAN] = {
    kind: sum(counts[kind] for counts in PUBLISHED_COUNTS.values())
    for kind in ("good", "defective")
}

ABSENT = "not reported"

ROUNDING = 0.0005
"""The published figures are percent with one decimal."""


@dataclass(frozen=True)
class ComparedFigure:
    """One figure of one result.

    Attributes:
        figure: The figure.
        difference: Its value less that of the first result, where the two can be compared.
        obstacle: Why they cannot be compared.
    """

    figure: Figure
    difference: float | None = None
    obstacle: str | None = None

    def to_text(self, decimals: int) -> str:
        """Return the figure in percent, marked where it cannot be compared."""
        marked = self.obstacle is not None and self.figure.value is not None
        text = self.figure.to_text(decimals)
        return f"{text} †" if marked else text

    def __str__(self) -> str:
        """Return the cell as tables show it, with the difference."""
        text = self.to_text(self.figure.decimals)
        return text if self.difference is None else f"{text} ({100 * self.difference:+.2f})"


@dataclass(frozen=True)
class Comparison:
    """Results side by side.

    Attributes:
        names: Names of the results; differences are to the first.
        columns: Categories, and ``Mean`` last.
        cells: Figure key → result name → column → cell.
    """

    names: list[str]
    columns: list[str]
    cells: dict[str, dict[str, dict[str, ComparedFigure]]]

    def obstacles(self) -> list[str]:
        """Return a line for each reason why something cannot be compared, with the results."""
        found: dict[str, dict[str, None]] = {}
        for rows in self.cells.values():
            for name, row in rows.items():
                for cell in row.values():
                    if cell.obstacle is not None and cell.figure.value is not None:
                        found.setdefault(cell.obstacle, {})[name] = None
        others = len(self.names) - 1
        return [
            f"{'all others' if 1 < others == len(names) else ', '.join(names)}: {reason}"
            for reason, names in found.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "schema": "threecad.comparison/1",
            "reference": self.names[0],
            "figures": {
                key: {
                    name: {
                        column: {
                            **cell.figure.to_dict(),
                            "difference": cell.difference,
                            "not_comparable": cell.obstacle,
                        }
                        for column, cell in row.items()
                    }
                    for name, row in rows.items()
                }
                for key, rows in self.cells.items()
            },
        }

    def to_markdown(self) -> str:
        """Return one Markdown table per figure, in percent, categories by their codes."""
        lines: list[str] = []
        for key, columns, rows in self._tables():
            lines += [f"**{FIGURE_NAMES.get(key, key)}** (percent)", ""]
            lines.append("| | " + " | ".join(map(_head, columns)) + " |")
            lines.append("|---|" + "---:|" * len(columns))
            for name, row in rows.items():
                cells = [name.replace("|", r"\|"), *(str(row[column]) for column in columns)]
                lines.append("| " + " | ".join(cells) + " |")
            lines.append("")
        lines += [f"† not comparable with {self.names[0]}: {line}  " for line in self.obstacles()]
        return "\n".join(lines).rstrip() + "\n"

    def to_latex(self) -> str:
        """Return one LaTeX ``tabular`` per figure, in percent, categories by their codes.

        Differences are left out, as in the tables of papers, and all figures of a table have as
        many decimals as the coarsest: one beside published figures. Needs the package ``booktabs``.
        """
        lines = [r"% Needs \usepackage{booktabs}.", ""]
        for key, columns, rows in self._tables():
            lines += [f"% {FIGURE_NAMES.get(key, key)}, percent"]
            lines.append(r"\begin{tabular}{l" + "r" * len(columns) + "}")
            lines.append(r"\toprule")
            heads = [escape_latex(_head(column)) for column in columns]
            lines.append(" & ".join(["", *heads]) + r" \\")
            lines.append(r"\midrule")
            decimals = min(
                row[column].figure.decimals for row in rows.values() for column in columns
            )
            for name, row in rows.items():
                cells = [escape_latex(row[column].to_text(decimals)) for column in columns]
                lines.append(" & ".join([escape_latex(name), *cells]) + r" \\")
            lines += [r"\bottomrule", r"\end{tabular}", ""]
        lines += [f"% not comparable with {self.names[0]}: {line}" for line in self.obstacles()]
        return "\n".join(lines).rstrip() + "\n"

    def _tables(self) -> Iterator[tuple[str, list[str], dict[str, dict[str, ComparedFigure]]]]:
        """Yield key, columns and rows of each table.

        Left out are rows and columns without any figure, and the mean of a single category.
        """
        every = self.columns[:1] if len(self.columns) == 2 else self.columns
        for key, cells in self.cells.items():
            rows = {
                name: row
                for name, row in cells.items()
                if any(row[column].figure.reason != ABSENT for column in every)
            }
            columns = [c for c in every if any(r[c].figure.reason != ABSENT for r in rows.values())]
            yield key, columns, rows


def _head(column: str) -> str:
    """Return the code of a category of 3CAD; of others, the name."""
    return CATEGORIES[column].code if column in CATEGORIES else column


def compare(results: Mapping[str, Result], *, keys: Sequence[str] | None = None) -> Comparison:
    """Put results side by side; differences are to the first.

    Two figures are compared only if they were computed by one protocol, by the same rule for image
    scores and for masks, from the same data as far as their fingerprints tell and, for means, over
    the same categories. Otherwise the cell says why not.

    Args:
        results: Name → result; ``published_result`` gives those of the paper.
        keys: The figures to show, such as ``pixel_auroc``; all that any result reports if ``None``.

    Raises:
        UsageError: If there is nothing to compare, or no result has one of ``keys``.
    """
    if not results:
        raise UsageError("There are no results to compare.")
    names = list(results)
    reported = dict.fromkeys(
        key
        for result in results.values()
        for key, figure in result.mean.figures.items()
        if figure.value is not None
    )
    if keys is not None and (unknown := [key for key in keys if key not in reported]):
        raise UsageError(f"No result has {unknown[0]!r}. There are: {', '.join(reported)}.")
    categories = list(dict.fromkeys(c for result in results.values() for c in result.by_category))
    columns = [*sorted(categories), MEAN]
    reference = results[names[0]]
    return Comparison(
        names,
        columns,
        {
            key: {
                name: {column: _cell(key, column, result, reference) for column in columns}
                for name, result in results.items()
            }
            for key in (keys or reported)
        },
    )


def shared_figures(results: Mapping[str, Result]) -> list[str] | None:
    """Return the keys of the figures that several results report; ``None`` if there are none."""
    reported = [
        key
        for result in results.values()
        for key, figure in result.mean.figures.items()
        if figure.value is not None
    ]
    return [key for key in dict.fromkeys(reported) if reported.count(key) > 1] or None


def published_methods() -> list[str]:
    """Return the names of the methods in the paper's tables."""
    return list(published_results()["results"])


def published_result(method: str) -> Result:
    """Return the paper's published figures of a method, as a result of ``protocol="paper"``.

    Raises:
        UsageError: If the paper has no such method.
    """
    tables = published_results()["results"]
    if method not in tables:
        raise UsageError(f"The paper has no {method!r}. It has: {', '.join(tables)}.")
    names = {category.code: name for name, category in CATEGORIES.items()}
    scores = {
        names.get(code, MEAN): Scores(
            {
                ours: _published_figure(figures.get(theirs))
                for theirs, ours in PUBLISHED_KEYS.items()
            },
            PUBLISHED_COUNTS[names.get(code, MEAN)],
        )
        for code, figures in tables[method].items()
    }
    return Result(
        mean=scores.pop(MEAN),
        by_category=scores,
        protocol="paper",
        provenance={"source": published_results()["source"]},
    )


def _published_figure(percent: float | None) -> Figure:
    if percent is None:
        return Figure.undefined(ABSENT)
    value = percent / 100
    return Figure(value, max(value - ROUNDING, 0.0), min(value + ROUNDING, 1.0))


def _cell(key: str, column: str, result: Result, reference: Result) -> ComparedFigure:
    figure = _figure(result, key, column)
    if result is reference or figure.value is None:
        return ComparedFigure(figure)
    other = _figure(reference, key, column)
    if column != MEAN and column not in reference.by_category:
        return ComparedFigure(figure, obstacle="the first lacks some of their categories")
    if other.value is None:
        return ComparedFigure(figure, obstacle=f"the reference has no {FIGURE_NAMES.get(key, key)}")
    if obstacle := _obstacle(key, column, result, reference):
        return ComparedFigure(figure, obstacle=obstacle)
    return ComparedFigure(figure, difference=figure.value - other.value)


def _figure(result: Result, key: str, column: str) -> Figure:
    scores = result.mean if column == MEAN else result.by_category.get(column)
    absent = Figure.undefined(ABSENT)
    return absent if scores is None else scores.figures.get(key, absent)


def _obstacle(key: str, column: str, result: Result, reference: Result) -> str | None:
    if result.protocol != reference.protocol:
        return f"protocol {result.protocol}, not {reference.protocol}"
    prints = {r.provenance.get("fingerprint") for r in (result, reference)} - {None}
    if len(prints) > 1:
        return "other data: the fingerprints differ"
    images = [count for r in (result, reference) if (count := _count_images(r, column)) is not None]
    if len(set(images)) > 1:
        return "other data: the numbers of test images differ"
    areas = {(r.settings.get("ignore") or {}).get("digest") for r in (result, reference)}
    if len(areas) > 1:
        return "other areas of the images are ignored"
    rules = {r.settings.get("image_score") for r in (result, reference)} - {None}
    if key in IMAGE_KEYS and len(rules) > 1:
        return f"image scores by {' and '.join(sorted(map(str, rules)))}"
    masks = {r.settings["mask_rule"] for r in (result, reference) if "mask_rule" in r.settings}
    if len(masks) > 1:
        return f"masks read by {' and by '.join(sorted(m or 'their values' for m in masks))}"
    if column == MEAN and set(result.by_category) != set(reference.by_category):
        return "the mean is over other categories"
    return None


def _count_images(result: Result, column: str) -> int | None:
    scores = result.mean if column == MEAN else result.by_category[column]
    if not {"good", "defective"} <= scores.counts.keys():
        return None
    return scores.counts["good"] + scores.counts["defective"]
