"""threecad: download, check, describe, convert and evaluate 3CAD, industrial surface defects."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Public name -> the module that defines it. Nothing is imported before it is asked for, so that
# `import threecad` loads neither torch nor datasets.
_EXPORTS: dict[str, str] = {
    "CATEGORIES": "threecad.catalog",
    "Category": "threecad.catalog",
    "Finding": "threecad.findings",
    "Index": "threecad.indexing",
    "Sample": "threecad.indexing",
    "ThreeCAD": "threecad.dataset",
    "ThreecadError": "threecad.errors",
    "scan": "threecad.indexing",
}

__all__ = [
    "CATEGORIES",
    "Category",
    "Finding",
    "Index",
    "Sample",
    "ThreeCAD",
    "ThreecadError",
    "__version__",
    "scan",
]

if TYPE_CHECKING:
    from threecad.catalog import CATEGORIES, Category
    from threecad.dataset import ThreeCAD
    from threecad.errors import ThreecadError
    from threecad.findings import Finding
    from threecad.indexing import Index, Sample, scan


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'threecad' has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
