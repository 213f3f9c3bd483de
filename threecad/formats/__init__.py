"""Every layout that threecad reads and writes, one module each."""

from __future__ import annotations

from threecad.formats.conversion import Conversion, convert, plan
from threecad.formats.planning import Plan
from threecad.formats.reading.account import Account
from threecad.formats.reading.decisions import Decisions
from threecad.formats.registry import FORMATS, Format, detect

__all__ = [
    "FORMATS",
    "Account",
    "Conversion",
    "Decisions",
    "Format",
    "Plan",
    "convert",
    "detect",
    "plan",
]
