"""The table of faults names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS.parent / "docs" / "faults.md"


def _find(file: str) -> Path:
    """Return the one test file of that name, whatever room it is in."""
    (path,) = TESTS.rglob(file)
    return path


def named_tests() -> list[tuple[str, str]]:
    """Return (file, test) for every test the table names; a bare name is in the file before it."""
    named, file = [], ""
    for path, test in re.findall(r"`(?:(test_\w+\.py)::)?(test_\w+)`", TABLE.read_text("utf-8")):
        file = path or file
        named.append((file, test))
    return named


@pytest.mark.parametrize("file", sorted({file for file, _ in named_tests()}))
def test_every_test_the_table_names_exists(file: str) -> None:
    tree = ast.parse(_find(file).read_text("utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    missing = {test for named_in, test in named_tests() if named_in == file} - defined
    assert not missing


def test_every_fault_has_a_test_and_both_are_counted() -> None:
    text = TABLE.read_text("utf-8")
    faults = [row for row in text.splitlines() if re.match(r"\| (?!fault \|)", row)]
    assert all("`test_" in row for row in faults)
    assert f"{len(faults)} faults, {len(set(named_tests()))} tests." in text
