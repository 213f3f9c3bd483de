"""Versions of what computes a result, for whoever wants to repeat it."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import TYPE_CHECKING

from threecad.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["find_version", "find_versions"]


def find_version(package: str) -> str | None:
    """Return the installed version of a distribution, ``None`` where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def find_versions(packages: Iterable[str] = ()) -> dict[str, str]:
    """Return the versions of threecad, of Python and of those packages that are installed."""
    found = {name: find_version(name) for name in packages}
    return {
        "threecad": __version__,
        "python": platform.python_version(),
        **{name: version for name, version in found.items() if version is not None},
    }
