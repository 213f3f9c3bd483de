"""Every figure of the field, in one pass over the maps, exact within a certified interval."""

from __future__ import annotations

from threecad.evaluation.evaluator import ONLY_CATEGORY, Evaluator
from threecad.evaluation.results import Result

__all__ = ["ONLY_CATEGORY", "Evaluator", "Result"]
