"""Fixtures that several test files share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_lines import run_line
from hypothesis import HealthCheck, settings

from cfrg.devices import suit_process_to_tensors
from threecad.procedural import write_sample

# Before torch is loaded: tests that run side by side share the cores, and do not spin on them.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))
suit_process_to_tensors()

# Property tests take the same examples every time, however long a busy machine needs for one;
# --hypothesis-profile=explore looks for new ones.
_PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("explore", **_PATIENT)
settings.register_profile("threecad", **_PATIENT, derandomize=True)
settings.load_profile("threecad")


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's data, caches and settings out of the tests."""
    monkeypatch.delenv("THREECAD_ROOT", raising=False)
    cache = tmp_path_factory.getbasetemp() / "user-cache"
    monkeypatch.setenv("THREECAD_CACHE", str(cache))
    monkeypatch.setenv("HF_HOME", str(cache / "huggingface"))
    if "datasets" in sys.modules:  # which has read the variable
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache / "huggingface" / "datasets")
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
def prepared_folder(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which examples run. Shared: copy it before you change it.

    It holds a tree ``3cad``, a ``run`` of all categories and ``runs/stator`` of one (two steps
    each), ``predictions`` with their ``result.json``, an ``other.json`` like it, and a
    checkpoint of the authors' kind.
    """
    import reference_network  # and with it torch, once its threads are settled

    folder = tmp_path_factory.mktemp("prepared")
    shutil.copytree(sample_tree, folder / "3cad")
    reference_network.write_blank(folder / "model_Copper_Stator.pth")
    train = "cfrg train 3cad --steps 2 --batch-size 2 --device cpu --image-size 64 --workers 0"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            f"{train} --category all --out run",
            f"{train} --category Copper_Stator --out runs/stator",
            "cfrg predict run 3cad --out predictions --device cpu",
            "threecad evaluate 3cad predictions --bootstrap 0 --workers 0 --out result.json",
        ):
            result = run_line(line)
            assert result.exit_code == 0, result.output
    shutil.copy(folder / "result.json", folder / "other.json")
    return folder


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photographs, with ``magnetic_tile/`` and ``dtd_subset/`` in it."""
    folder = os.environ.get("THREECAD_TEST_DATA")
    if not folder:
        pytest.skip("THREECAD_TEST_DATA does not name a folder of real photographs")
    return Path(folder)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount file systems of a few bytes; skipped where that is not allowed."""
    mounted: list[Path] = []

    def mount(size: int, options: str = "rw") -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size},{options}", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        # Lazily: weights read from there may still be mapped.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def read_only_disk(small_disk: Callable[..., Path]) -> Path:
    """A mounted file system that cannot be written."""
    return small_disk(1 << 20, "ro")
