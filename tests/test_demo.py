"""The demo: every step, offline, to a report that needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from threecad.demo import run_demo
from threecad.errors import UsageError


@pytest.mark.slow
def test_demo_goes_from_nothing_to_a_report(tmp_path: Path) -> None:
    said: list[str] = []
    report = run_demo(tmp_path / "demo", per_category=4, steps=2, say=said.append)
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
