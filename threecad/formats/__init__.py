"""Every layout that threecad reads and writes, one module each."""

from __future__ import annotations

from threecad.formats.conversion import FORMATS, Conversion, Format, convert, detect

__all__ = ["FORMATS", "Conversion", "Format", "convert", "detect"]
