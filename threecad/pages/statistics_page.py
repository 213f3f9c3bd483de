"""The statistics as one HTML page that needs nothing else: it can be mailed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from threecad.pages.figures import styled
from threecad.pages.rendering import render_template
from threecad.pages.statistics_figures import CAPTIONS, draw_figures
from threecad.pages.statistics_tables import (
    EXPLANATION,
    GROUP_COLUMNS,
    OVERVIEW_COLUMNS,
    group_cells,
    overview_cells,
)
from threecad.system import atomic
from threecad.version import __version__

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

    from threecad.statistics.collecting import DefectStatistics
    from threecad.statistics.summaries import Unit

__all__ = ["render_page", "write_page"]


def write_page(
    statistics: DefectStatistics, path: str | os.PathLike[str], per: Unit = "region"
) -> None:
    """Write the page of ``render_page`` to ``path``."""
    atomic.write_text(path, render_page(statistics, per))


def render_page(statistics: DefectStatistics, per: Unit = "region") -> str:
    """Return tables and figures as one self-contained HTML page.

    Args:
        statistics: What to show.
        per: Whether a region or an image (the union of its regions) is counted as one.
    """
    figures = {name: _svg(figure) for name, figure in draw_figures(statistics, per).items()}
    categories = statistics.groups("category", per)
    return render_template(
        "statistics.html",
        statistics=statistics,
        per=per,
        version=__version__,
        overview_columns=OVERVIEW_COLUMNS,
        overview=[(row, overview_cells(row)) for row in statistics.overview],
        group_columns=GROUP_COLUMNS,
        categories=[(group, group_cells(group)) for group in categories],
        total=group_cells(statistics.total(per)),
        sizes=[(group, group_cells(group)) for group in statistics.groups("size", per)],
        types=[(group, group_cells(group)) for group in statistics.groups("defect_type", per)],
        figures=figures,
        captions=CAPTIONS,
        explanation=EXPLANATION,
        one_category=len(categories) == 1,
    )


def _svg(figure: Figure) -> str:
    """Return a figure as an SVG element."""
    file = io.StringIO()
    with styled():
        figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]
