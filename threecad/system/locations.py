"""Where data and our own files live."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

__all__ = ["MARKERS", "OWN_FOLDER", "default_root", "is_marked", "own_folder", "user_cache"]

OWN_FOLDER = ".threecad"
"""Folder inside a root that holds our manifest, caches, locks and markers."""

MARKERS = ("sample.json", "import.json")
"""Files in ``OWN_FOLDER`` that tell the drawn sample and imported data from 3CAD itself."""


def default_root() -> Path:
    """Return the root used when none is named: ``THREECAD_ROOT``, or the per-user data folder."""
    if named := os.environ.get("THREECAD_ROOT"):
        return Path(named).expanduser()
    return Path(platformdirs.user_data_dir("threecad", appauthor=False)) / "3CAD"


def user_cache() -> Path:
    """Return the folder for caches that belong to no root: ``THREECAD_CACHE``, or the user's."""
    if named := os.environ.get("THREECAD_CACHE"):
        return Path(named).expanduser()
    return Path(platformdirs.user_cache_dir("threecad", appauthor=False))


def own_folder(root: str | os.PathLike[str]) -> Path:
    """Return the folder for our files about ``root``: inside it, or in the user cache if read-only.

    The folder is not made.
    """
    root = Path(root).resolve()
    inside = root / OWN_FOLDER
    writable = os.access(inside if inside.is_dir() else root, os.W_OK)
    if writable or not root.exists():
        return inside
    return user_cache() / "roots" / hashlib.sha256(os.fsencode(root)).hexdigest()[:16]


def is_marked(root: str | os.PathLike[str]) -> bool:
    """Whether ``root`` is the drawn sample or imported data: no published count applies."""
    return any((own_folder(root) / marker).is_file() for marker in MARKERS)
