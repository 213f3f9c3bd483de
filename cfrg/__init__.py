"""cfrg: the CFRG anomaly detector of 3CAD: training, prediction, evaluation, export."""

from __future__ import annotations

import lazy_loader

from threecad.version import __version__

# The names stand in `__init__.pyi`. Nothing is imported before it is asked for, so that importing
# the package loads neither torch nor datasets.
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__"]
__all__ += _names
