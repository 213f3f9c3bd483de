"""threecad: download, check, describe, convert and evaluate 3CAD, industrial surface defects."""

from __future__ import annotations

import lazy_loader

from threecad.hub import install_hook
from threecad.version import __version__

# The names stand in `__init__.pyi`. Nothing is imported before it is asked for, so that importing
# the package loads neither torch nor datasets.
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__"]
__all__ += _names

# From here on the literal datasets.load_dataset("3cad") works; datasets is not imported for it.
install_hook()
