"""``load_dataset("3cad")``: 3CAD as a Hugging Face dataset.

``datasets`` has neither loading scripts nor plug-ins any more. So that the literal
``datasets.load_dataset("3cad")`` works after ``import threecad``, the function of ``datasets`` that
finds a dataset by its name is wrapped: the name ``3cad`` leads to ``threecad.hub.builder``, every
other name to where it always led. ``datasets`` is not imported for that: if it is not there yet,
the wrapping waits for its import.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from threecad.images.masks import MaskRule

__all__ = ["NAME", "install_hook", "load_dataset"]

NAME = "3cad"
"""The name under which ``datasets.load_dataset`` finds us."""

_HUB = "hf://datasets/"


def load_dataset(
    path: str = NAME,
    name: str | None = None,
    *,
    split: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    streaming: bool = False,
    split_file: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    errata: str | os.PathLike[str] | None = None,
    with_stats: bool = False,
    mask_rule: MaskRule | None = None,
    **options: Any,
) -> Any:
    """Load a 3CAD tree as a Hugging Face dataset.

    Images are not copied: the dataset holds their paths. The columns are ``image_id``, ``image``,
    ``mask`` (``None`` for a good image), ``label``, ``category``, ``defect_type`` and
    ``defect_types``; the names of the defect types are ``good`` and the sorted folder names of the
    whole tree, in every configuration.

    Args:
        path: Always ``"3cad"``.
        name: ``"all"`` or a category; all of them by default.
        split: ``"train"``, ``"validation"``, ``"test"`` or a slice such as ``"test[:10%]"``; a
            dictionary of all splits by default.
        data_dir: The tree; ``default_root()`` of ``threecad.system.locations`` by default. A copy
            on the Hub is ``"hf://datasets/OWNER/NAME"``.
        streaming: Iterate without writing a cache.
        split_file: Take the splits from this file (see ``threecad split``).
        fold: Held-out fold, for a k-fold split file.
        errata: Apply the corrections in this file (see ``threecad audit``); the dataset's
            ``info.description`` names their SHA-256.
        with_stats: Add the region statistics of every mask (see
            ``threecad.formats.columns.describe_regions``).
        mask_rule: Decode the masks by this rule for the statistics (see
            ``threecad.decode_mask``); the column ``mask`` is the file as it is.
        **options: Anything else ``datasets.load_dataset`` takes, such as ``num_proc``.

    Returns:
        A ``datasets.Dataset`` or ``DatasetDict``, or their iterable kin with ``streaming``.

    Raises:
        UsageError: If ``path`` is another dataset, an option is for trees only and ``data_dir`` is
            on the Hub, or ``mask_rule`` is given without ``with_stats``.
        LayoutError: If there is no tree; the message says how to get it.
    """
    from threecad.errors import UsageError

    if path != NAME:
        raise UsageError(
            f"threecad.load_dataset loads {NAME!r}, not {path!r}. Use datasets.load_dataset."
        )
    install_hook()
    import datasets

    # Options that are left out must stay out: datasets makes them part of the cache's name.
    if split_file is not None:
        options["split_file"] = str(split_file)
    if fold is not None:
        options["fold"] = fold
    if errata is not None:
        options["errata"] = str(errata)
    if with_stats:
        options["with_stats"] = True
    if mask_rule is not None:
        if not with_stats:
            raise UsageError("mask_rule decides the region statistics: give with_stats=True too.")
        options["mask_rule"] = mask_rule
    own = {"split_file", "fold", "errata", "with_stats", "mask_rule"} & set(options)
    if own and _on_hub(data_dir):
        raise UsageError(
            f"{', '.join(sorted(own))} are for a tree on disk; a copy on the Hub is as it was "
            "pushed. Fetch it with `threecad download --source hf:OWNER/NAME` first."
        )
    return datasets.load_dataset(
        path,
        name,
        split=split,
        data_dir=str(data_dir) if data_dir is not None else None,
        streaming=streaming,
        **options,
    )


def _on_hub(data_dir: object) -> bool:
    return str(data_dir).startswith(_HUB)


def install_hook() -> None:
    """Make ``datasets.load_dataset("3cad")`` work, now or as soon as ``datasets`` is imported."""
    if "datasets" in sys.modules:
        _wrap_factory()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport(importlib.abc.MetaPathFinder):
    """Lets ``datasets`` be imported as usual and wraps its function right after."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the usual spec of ``datasets``, with a loader that goes on to wrap."""
        del path, target
        if fullname != "datasets":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_wrap(module: ModuleType) -> None:
                load(module)
                _wrap_factory()

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
        if _on_hub(data_dir):
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
