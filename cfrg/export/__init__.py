"""A trained run as one file for a runtime: an image in; anomaly map, score and decision out.

``graph`` is what is exported, ``formats`` writes it, ``quantization`` turns it to integers,
``parity`` holds it against the model it came from, and ``writing`` does all that in turn.
"""

from __future__ import annotations

from cfrg.export.parity import TOLERANCES, Parity, compare
from cfrg.export.writing import FORMATS, ExportReport, export_run, print_report

__all__ = [
    "FORMATS",
    "TOLERANCES",
    "ExportReport",
    "Parity",
    "compare",
    "export_run",
    "print_report",
]
