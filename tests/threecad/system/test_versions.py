"""Versions of what computes: those that are there, and no others."""

from __future__ import annotations

import platform
from importlib.metadata import version

import threecad
from threecad.system.versions import find_version, find_versions


def test_installed_packages_are_named_and_others_left_out() -> None:
    assert find_versions(("numpy", "no-such-package")) == {
        "threecad": threecad.__version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
    }
    assert find_version("no-such-package") is None
