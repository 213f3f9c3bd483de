"""A result as one HTML file that needs nothing else: it can be mailed."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from threecad.errors import UsageError
from threecad.evaluation.results import FIGURE_NAMES, Result
from threecad.pages.rendering import render_template
from threecad.system import atomic

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from threecad.evaluation.scores import Figure, Scores

__all__ = ["GalleryRow", "render_report", "write_report"]

PANELS = ("Image", "Ground truth", "Heat map", "Overlay")


@dataclass(frozen=True)
class GalleryRow:
    """One image of the gallery, seen in several ways.

    Attributes:
        caption: A line above the pictures.
        pictures: PNG, JPEG or SVG files as bytes.
        names: What each picture shows.
    """

    caption: str
    pictures: Sequence[bytes]
    names: Sequence[str] = PANELS


def write_report(
    path: str | os.PathLike[str],
    *,
    title: str,
    result: Result,
    paragraphs: Sequence[str] = (),
    curves: Sequence[bytes] = (),
    gallery: Sequence[GalleryRow] = (),
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write a result as a self-contained HTML page, atomically.

    Args:
        path: The HTML file.
        title: Heading of the page.
        result: What to show: metrics with intervals, breakdowns, undefined figures, provenance.
        paragraphs: Text below the heading.
        curves: Pictures (PNG, JPEG or SVG files as bytes), such as training curves.
        gallery: Rows of pictures.
        facts: Further lines for the section on how this was computed.
    """
    page = render_report(
        title=title,
        result=result,
        paragraphs=paragraphs,
        curves=curves,
        gallery=gallery,
        facts=facts,
    )
    atomic.write_text(path, page)


def render_report(
    *,
    title: str,
    result: Result,
    paragraphs: Sequence[str] = (),
    curves: Sequence[bytes] = (),
    gallery: Sequence[GalleryRow] = (),
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Return the page that ``write_report`` writes."""
    all_facts = {
        "protocol": result.protocol,
        **result.settings,
        **result.provenance,
        **(facts or {}),
    }
    return render_template(
        "report.html",
        title=title,
        paragraphs=paragraphs,
        tables=_tables(result),
        undefined=result.undefined(),
        warnings=result.warnings,
        curves=[_data_uri(curve) for curve in curves],
        gallery=[_gallery_row(row) for row in gallery],
        facts=[(name.replace("_", " "), value) for name, value in all_facts.items()],
    )


def _tables(result: Result) -> list[dict[str, Any]]:
    everything = dict(result.by_category)
    if len(everything) > 1:
        everything["Mean"] = result.mean
    note = "Percent."
    if any(figure.confidence for figure in result.mean.figures.values()):
        note += " In brackets: 95 % bootstrap interval over images."
    tables = [_table("Figures per category", everything, note)]
    if by_defect_type := result.breakdown("by_defect_type"):
        note = "Images of one defect type against all good images of the category. Percent."
        tables.append(_table("Figures per defect type", by_defect_type, note))
    if by_size := result.breakdown("by_size"):
        note = (
            "Regions under 0.05 %, from 0.05 to 0.5 %, and over 0.5 % of the image, against all "
            "defect-free pixels of the category. Percent."
        )
        tables.append(_table("Figures per size of defect", by_size, note))
    return tables


def _table(title: str, groups: Mapping[str, Scores], note: str) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for scores in groups.values() for key in scores.figures))
    counts = list(dict.fromkeys(key for scores in groups.values() for key in scores.counts))
    counts = [key for key in counts if key in ("good", "defective", "regions")]
    rows = [
        {
            "name": name,
            "mean": name == "Mean",
            "cells": [_cell(scores.figures[key]) for key in keys if key in scores.figures]
            + [_plain_cell(f"{scores.counts.get(key, 0):,}") for key in counts],
        }
        for name, scores in groups.items()
    ]
    header = ["", *(FIGURE_NAMES.get(key, key) for key in keys), *map(str.capitalize, counts)]
    return {"title": title, "note": note, "header": header, "rows": rows}


def _cell(figure: Figure) -> dict[str, str]:
    if figure.value is None:
        return _plain_cell("–", reason=figure.reason or "")
    interval = ""
    if figure.confidence is not None:
        low, high = figure.confidence
        interval = f"[{100 * low:.1f}, {100 * high:.1f}]"
    return _plain_cell(f"{100 * figure.value:.2f}", interval=interval)


def _plain_cell(text: str, *, interval: str = "", reason: str = "") -> dict[str, str]:
    return {"text": text, "interval": interval, "reason": reason}


def _gallery_row(row: GalleryRow) -> dict[str, Any]:
    if len(row.pictures) > len(row.names):
        raise UsageError(f"{len(row.pictures)} pictures but {len(row.names)} names for them.")
    panels = [
        {"name": name, "source": _data_uri(picture)}
        for name, picture in zip(row.names, row.pictures, strict=False)
    ]
    return {"caption": row.caption, "panels": panels}


def _data_uri(picture: bytes) -> str:
    if picture.startswith(b"\x89PNG"):
        kind = "png"
    elif picture.startswith(b"\xff\xd8"):
        kind = "jpeg"
    elif b"<svg" in picture[:1000]:
        kind = "svg+xml"
    else:
        raise UsageError("A picture of the report is neither PNG, JPEG nor SVG.")
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"
