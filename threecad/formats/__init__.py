"""Every layout that threecad reads and writes, one module each."""

from __future__ import annotations

from threecad.formats.conversion import Conversion, convert
from threecad.formats.registry import FORMATS, Format, detect

__all__ = ["FORMATS", "Conversion", "Format", "convert", "detect"]
