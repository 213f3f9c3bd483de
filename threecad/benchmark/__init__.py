"""Methods side by side on the same images: fitted, timed and evaluated by the same rules.

``run_benchmark`` runs every (method, category, seed) in a process of its own and remembers it; the
tables put the methods beside each other and beside the published figures. A method is anything that
fits ``threecad.benchmark.interface.Detector``. See ``docs/benchmark.md``.
"""

from __future__ import annotations

import lazy_loader

# The names stand in `__init__.pyi`. Nothing is imported before it is asked for, so that importing
# the package loads neither torch nor datasets.
__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = _names
