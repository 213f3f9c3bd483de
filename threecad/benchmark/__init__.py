"""Methods side by side on the same images: fitted, timed and evaluated by the same rules.

``run_benchmark`` runs every (method, category, seed) in a process of its own and remembers it; the
tables put the methods beside each other and beside the published figures. A method is anything that
fits ``threecad.benchmark.interface.Detector``. See ``docs/benchmark.md``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from threecad.benchmark.interface import Detector, Trial
    from threecad.benchmark.reports import Report
    from threecad.benchmark.running import Plan, run_benchmark
    from threecad.benchmark.store import Record, Store
    from threecad.benchmark.tables import make_report

__all__ = [
    "Detector",
    "Plan",
    "Record",
    "Report",
    "Store",
    "Trial",
    "make_report",
    "run_benchmark",
]

# Imported when used: whoever only compares results needs no torch.
_EXPORTS = {
    "Detector": "interface",
    "Plan": "running",
    "Record": "store",
    "Report": "reports",
    "Store": "store",
    "Trial": "interface",
    "make_report": "tables",
    "run_benchmark": "running",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value
