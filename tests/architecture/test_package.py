"""What the packages offer: public names and their documents, dependencies, import cost."""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import cfrg
import threecad

PACKAGES = {"threecad": threecad, "cfrg": cfrg}
ROOT = Path(threecad.__file__).parent.parent


def modules(package: str) -> list[str]:
    found = pkgutil.walk_packages(PACKAGES[package].__path__, prefix=f"{package}.")
    return [package, *(module.name for module in found)]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_sorted_and_are_what_they_were(package: str) -> None:
    module = PACKAGES[package]
    assert len(module.__all__) == len(set(module.__all__))  # ruff keeps them sorted
    assert "__version__" in module.__all__
    before = {name: getattr(module, name) for name in module.__all__}
    for name in modules(package):
        importlib.import_module(name)
    for name, value in before.items():
        assert getattr(module, name) is value, f"{package}.{name} is hidden by a module"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_function_and_class_is_documented(package: str) -> None:
    module = PACKAGES[package]
    for name in module.__all__:
        value = getattr(module, name)
        if callable(value):
            assert value.__doc__, f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_lists_what_it_offers(package: str) -> None:
    for name in modules(package):
        module = importlib.import_module(name)
        assert module.__doc__, f"{name} has no docstring"
        for public in getattr(module, "__all__", ()):
            assert hasattr(module, public), f"{name}.{public}"


def test_every_package_that_is_imported_is_declared() -> None:
    """As a dependency or an extra, rather than left to what others bring with them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    declared = {name.replace("_", "-").lower() for name in re.findall(r'"([\w-]+)[^"]*>=', text)}
    # By fastapi, anomalib and torch, as part of what these offer.
    brought = {"starlette", "lightning"}
    offered = packages_distributions()
    for path in (path for package in PACKAGES for path in sources(package)):
        for top in {name.partition(".")[0] for name in imports(path)} - {*PACKAGES}:
            names = {name.replace("_", "-").lower() for name in offered.get(top, ())}
            if names and top not in sys.stdlib_module_names:
                assert names & (declared | brought), f"{path} imports {top}"


@pytest.mark.parametrize(
    "statement",
    ["import threecad", "import cfrg", "import threecad.cli", "import cfrg.cli"],
)
def test_import_is_light(statement: str) -> None:
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    heavy = {"torch", "torchvision", "datasets", "cv2", "matplotlib", "pandas", "numba", "pyarrow"}
    assert heavy.isdisjoint(json.loads(output))


def test_the_network_loads_no_torchvision() -> None:
    code = "import sys; from cfrg import CFRG, Predictor; print('torchvision' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert output == "False\n"


def test_commands_that_compute_nothing_load_no_torch(sample_tree: Path) -> None:
    code = (
        "import sys; from threecad.cli import main\n"
        "for command in ('info', 'verify', 'audit', 'stats'):\n"
        "    try: main([command, sys.argv[1]], standalone_mode=False)\n"
        "    except SystemExit: pass\n"
        "    print(command, 'torch' in sys.modules)"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(sample_tree)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for command in ("info", "verify", "audit", "stats"):
        assert f"{command} False" in output


def test_unknown_public_name_is_an_attribute_error() -> None:
    for module in PACKAGES.values():
        with pytest.raises(AttributeError, match=r"attribute.*nope"):
            module.nope  # noqa: B018
