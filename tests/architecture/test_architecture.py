"""The laws of the house hold, and each is seen to fail where it is broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from laws import (
    LAWS,
    MOST_FILES,
    MOST_LINES,
    MOST_LOOSE,
    MOST_ROOMS,
    circles,
    crowded,
    drawers,
    imports_upwards,
    speaks_command_line,
    unlisted,
    unmirrored,
)

import threecad

ROOT = Path(threecad.__file__).parents[1]

Law = Callable[[Path], list[str]]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_house_is_in_order(law: Law) -> None:
    assert law(ROOT) == []


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the sources, to break laws in."""
    for folder in ("threecad", "cfrg", "tests"):
        shutil.copytree(
            ROOT / folder,
            tmp_path / folder,
            ignore=shutil.ignore_patterns("__pycache__", "*.json", "*.html"),
        )
    shutil.copy(ROOT / "CONTRIBUTING.md", tmp_path)
    return tmp_path


def add(house: Path, file: str, text: str = "") -> None:
    path = house / file
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text("utf-8") if path.exists() else ""
    path.write_text(before + text, encoding="utf-8")


TYPE_ONLY = "\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "


@pytest.mark.parametrize(
    ("law", "file", "text", "said"),
    [
        (
            imports_upwards,
            "threecad/images/masks.py",
            "\nfrom threecad.dataset.samples import Sample\n",
            "threecad.images.masks imports threecad.dataset.samples, which is not below it",
        ),
        (
            imports_upwards,
            "threecad/images/masks.py",
            f"{TYPE_ONLY}from threecad.dataset import samples\n",
            "threecad.images.masks imports threecad.dataset.samples, which is not below it",
        ),
        (
            imports_upwards,
            "threecad/images/__init__.py",
            "\ndef late():\n    from ..dataset import samples\n",
            "threecad.images imports threecad.dataset.samples, which is not below it",
        ),
        (
            imports_upwards,
            "threecad/auditing/corrections.py",
            "\nfrom threecad.verification import checking\n",
            "threecad.auditing.corrections imports threecad.verification.checking, "
            "which is not below it",
        ),
        (
            imports_upwards,
            "threecad/system/disk.py",
            "\nimport threecad\n",
            "threecad.system.disk imports the root of threecad",
        ),
        (
            imports_upwards,
            "threecad/cli/info.py",
            "\nfrom cfrg.network.model import CFRG\n",
            "threecad.cli.info imports cfrg.network.model: threecad knows nothing of cfrg",
        ),
        (
            imports_upwards,
            "cfrg/attic/__init__.py",
            "\nfrom threecad import errors\n",
            "cfrg.attic is no room of the plan",
        ),
        (
            circles,
            "threecad/evaluation/tables.py",
            f"{TYPE_ONLY}from threecad.evaluation.results import Result\n",
            "threecad.evaluation.results → threecad.evaluation.tables → "
            "threecad.evaluation.results",
        ),
        (crowded, "cfrg/losses.py", "", "cfrg has {loose} loose modules"),
        (crowded, "threecad/images/files.py", "\n" * MOST_LINES, "threecad.images.files has "),
        (drawers, "cfrg/network/helpers.py", "", "cfrg.network.helpers"),
        (unmirrored, "threecad/attic/__init__.py", "", "threecad/attic has no tests"),
        (unmirrored, "tests/threecad/attic/test_x.py", "", "tests/threecad/attic is no room"),
        (unmirrored, "tests/test_x.py", "", "test_x.py is in no room"),
        (
            unlisted,
            "threecad/attic/__init__.py",
            "",
            "threecad/attic is in no tree of CONTRIBUTING.md",
        ),
        (
            speaks_command_line,
            "cfrg/devices.py",
            '\n\ndef late(name):\n    return f"{name}: try --device cpu."\n',
            "cfrg.devices, line ",
        ),
        (
            speaks_command_line,
            "threecad/auditing/meanings.py",
            '\n\nADVICE = "Correct it with --errata; `threecad audit --near` finds more."\n',
            "threecad.auditing.meanings, line ",
        ),
    ],
)
def test_a_planted_fault_is_found(house: Path, law: Law, file: str, text: str, said: str) -> None:
    if file == "cfrg/losses.py":
        for number in range(MOST_LOOSE):
            add(house, f"cfrg/loose_{number}.py")
    add(house, file, text)
    loose = len(list((house / "cfrg").glob("*.py"))) - 1
    found = law(house)
    assert any(fault.startswith(said.format(loose=loose)) for fault in found), found


def test_a_crowded_package_and_a_crowded_room_are_found(house: Path) -> None:
    for number in range(MOST_ROOMS + 1):
        add(house, f"cfrg/room_{number}/__init__.py")
    for number in range(MOST_FILES):
        add(house, f"cfrg/network/part_{number}.py")
    found = "\n".join(crowded(house))
    assert "cfrg has 31 rooms" in found
    assert "rooms" in found
    assert "cfrg/network has " in found


def test_a_room_that_says_another_thing_than_contributing_is_found(house: Path) -> None:
    door = house / "cfrg/memory/__init__.py"
    door.write_text('"""Forgetting."""\n', encoding="utf-8")
    assert unlisted(house) == ["CONTRIBUTING.md has no line '  memory/        Forgetting.'"]
