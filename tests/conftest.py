"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from threecad.procedural import write_sample


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's data, caches and settings out of the tests."""
    monkeypatch.delenv("THREECAD_ROOT", raising=False)
    monkeypatch.setenv("THREECAD_CACHE", str(tmp_path_factory.getbasetemp() / "user-cache"))
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.fixture(scope="session")
def sample_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sample of all eight categories. Shared: do not change it."""
    return write_sample(
        tmp_path_factory.mktemp("sample") / "3cad", per_category=3, size=96, seed=0, workers=0
    )


@pytest.fixture
def tree(sample_tree: Path, tmp_path: Path) -> Path:
    """A copy of two categories of the sample, to change at will."""
    root = tmp_path / "3cad"
    for category in ("Aluminum_Ipad", "Copper_Stator"):
        shutil.copytree(sample_tree / category, root / category)
    return root


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photographs, with ``magnetic_tile/`` and ``dtd_subset/`` in it."""
    folder = os.environ.get("THREECAD_TEST_DATA")
    if not folder:
        pytest.skip("THREECAD_TEST_DATA does not name a folder of real photographs")
    return Path(folder)
