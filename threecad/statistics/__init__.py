"""Statistics of the defects of a tree: sizes, shapes, positions and contrast, per type."""

from __future__ import annotations

from threecad.statistics.collecting import DefectStatistics, stats
from threecad.statistics.overview import CategoryOverview, CoOccurrence
from threecad.statistics.summaries import DefectGroup, DefectiveImage, DefectRecord, Quantiles

__all__ = [
    "CategoryOverview",
    "CoOccurrence",
    "DefectGroup",
    "DefectRecord",
    "DefectStatistics",
    "DefectiveImage",
    "Quantiles",
    "stats",
]
