"""The embedded procedural sample: all eight categories of 3CAD, drawn, and a series of textures.

For demonstrations, tests and first steps without the real archive. See ``docs/sample.md``.
"""

from __future__ import annotations

from threecad.procedural.rendering import DEFAULT_SIZE, DEFECT_TYPES, MULTIPLE_DEFECTS, render
from threecad.procedural.textures import texture
from threecad.procedural.writing import SAMPLE_MARKER, write_sample

__all__ = [
    "DEFAULT_SIZE",
    "DEFECT_TYPES",
    "MULTIPLE_DEFECTS",
    "SAMPLE_MARKER",
    "render",
    "texture",
    "write_sample",
]
