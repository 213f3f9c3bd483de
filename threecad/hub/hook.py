"""The one change to another library: ``datasets`` finds the name ``3cad``.

``datasets`` has neither loading scripts nor plug-ins any more. So that the literal
``datasets.load_dataset("3cad")`` works after ``import threecad``, the function of ``datasets`` that
finds a dataset by its name is wrapped: the name ``3cad`` leads to ``threecad.hub.builder``, every
other name to where it always led. ``datasets`` is not imported for that: where it is not there yet,
a finder waits for its import, and takes itself away when it has come.
"""

from __future__ import annotations

import functools
import importlib.abc
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["NAME", "install_hook", "is_on_hub"]

NAME = "3cad"
"""The name under which ``datasets.load_dataset`` finds us."""

_HUB = "hf://datasets/"


def install_hook() -> None:
    """Make ``datasets.load_dataset("3cad")`` work, now or as soon as ``datasets`` is imported."""
    if "datasets" in sys.modules:
        _wrap_factory()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def is_on_hub(data_dir: object) -> bool:
    """Return whether ``data_dir`` names a copy on the Hub, ``hf://datasets/OWNER/NAME``."""
    return str(data_dir).startswith(_HUB)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Lets ``datasets`` be imported as usual, and wraps its function right after."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the usual spec of ``datasets``, with a loader that goes on to wrap."""
        if fullname != "datasets":
            return None
        found = (
            finder.find_spec(fullname, path, target)
            for finder in sys.meta_path
            if finder is not self
        )
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_wrap(module: ModuleType) -> None:
                load(module)
                _wrap_factory()
                # Not before: whoever only asks for the spec imports nothing.
                if self in sys.meta_path:
                    sys.meta_path.remove(self)

            spec.loader.exec_module = load_and_wrap  # type: ignore[method-assign]
        return spec


def _wrap_factory() -> None:
    """Wrap ``dataset_module_factory``, in both modules of ``datasets`` that hold it."""
    modules = [sys.modules.get(name) for name in ("datasets.load", "datasets.inspect")]
    for module in modules:
        factory = getattr(module, "dataset_module_factory", None)
        if factory is None or hasattr(factory, "wrapped_by_threecad"):
            continue
        module.dataset_module_factory = _wrapped(factory)  # type: ignore[union-attr]


def _wrapped(factory: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(factory)
    def find(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path) != NAME:
            return factory(path, *arguments, **options)
        data_dir = options.pop("data_dir", None)
        if is_on_hub(data_dir):
            repository, _, revision = str(data_dir)[len(_HUB) :].strip("/").partition("@")
            if revision:
                options["revision"] = revision
            module = factory(repository, *arguments, **options)
            module.builder_kwargs["data_dir"] = None
            return module
        from threecad.hub.builder import describe_module

        return describe_module(data_dir)

    find.wrapped_by_threecad = True  # type: ignore[attr-defined]
    return find
