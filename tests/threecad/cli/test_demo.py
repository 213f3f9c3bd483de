"""The demo: every step, offline, to a report that needs nothing else."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_lines import run_words

from threecad.cli.demonstration import run_demo
from threecad.errors import UsageError


def run_here(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``python -m PROGRAM.cli WORDS`` in this process: starting five takes long."""
    _, _, module, *words = command
    result = run_words(module.removesuffix(".cli"), words)
    return subprocess.CompletedProcess(command, result.exit_code)


def test_demo_goes_from_nothing_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threecad.cli.demonstration.subprocess.run", run_here)
    said: list[str] = []
    report = run_demo(tmp_path / "demo", per_category=2, steps=2, say=said.append)
    page = report.read_text(encoding="utf-8")
    assert "Image AUROC" in page
    assert page.count("data:image/") > 10
    assert not re.search(r"""(src|href)=["']?https?:""", page)
    shown = "\n".join(said)
    assert "$ threecad sample" in shown
    assert "$ cfrg train" in shown
    assert str(report) in shown
    assert "threecad download" in shown


def test_demo_does_not_overwrite(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        run_demo(tmp_path)
