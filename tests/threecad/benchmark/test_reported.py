"""What others reported on 3CAD: kept apart, cited, and shown in the book as it is kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from threecad.benchmark.reported import reported_protocols, tabulate
from threecad.benchmark.tables import make_report
from threecad.cli import main
from threecad.dataset.catalog import CATEGORIES
from threecad.errors import UsageError

CODES = {category.code for category in CATEGORIES.values()}
PAGE = Path(__file__).parents[3] / "docs" / "reported.md"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["compare", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_figure_is_a_percentage_of_a_known_category_with_a_name() -> None:
    for protocol in reported_protocols():
        assert re.fullmatch(r"[\w-]+/[\w-]+", protocol.repository)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", protocol.read)
        assert protocol.edition in ("english", "pinyin")
        for method in protocol.methods:
            assert re.fullmatch(r"([\w/.]+@[0-9a-f]{8})?", method.source), method.source
            assert set(method.results) <= CODES | {"Mean"}
            for figures in method.results.values():
                assert set(figures) <= set(protocol.figures)
                assert all(0 <= value <= 100 for value in figures.values())


def test_means_are_those_of_the_categories() -> None:
    """Their Mean column, as reported, against the mean of their rounded columns."""
    checked = 0
    for protocol in reported_protocols():
        for method in protocol.methods:
            for key, mean in method.results.get("Mean", {}).items():
                columns = [method.results[code][key] for code in CODES]
                assert mean == pytest.approx(sum(columns) / 8, abs=0.011), (method.name, key)
                checked += 1
    assert checked == 44


def test_the_figures_that_matter_most() -> None:
    memory = reported_protocols(["M3R2T2L2/bovw_forensics"])[0].methods[0]
    assert memory.name == "patch_knn (full memory)"
    assert memory.results["Mean"]["image_auroc"] == 84.69
    assert memory.results["Mean"]["pro_30"] == 71.31


def test_the_command_keeps_what_others_reported_apart() -> None:
    text = run("--published", "all")
    papers, others = text.split("**Image AUROC, percent; DINOv2", 1)
    assert "| CFRG (published) |" in papers
    assert "patch_knn" not in papers
    assert "CFRG" not in others
    assert "| patch_knn (full memory) | 96.6 |" in others
    assert "(+" not in others, "no difference is taken with them"
    assert others.count("Comparable with nothing outside these rows.") == 4
    assert "patch_knn" not in run("--published", "CFRG")


def test_one_repository_can_be_named(tmp_path: Path) -> None:
    table = tmp_path / "table.tex"
    text = run("--published", "VanNam-2501/SurfaceDefectSeg", "--latex", str(table))
    assert text.count("**") == 2
    assert "| VMamba-T | 94.6 |" in text
    assert "trained with defects" in text
    assert r"VMamba-T & 94.6 & -- & -- & 91.2" in table.read_text(encoding="utf-8")
    plain = json.loads(run("--published", "VanNam-2501/SurfaceDefectSeg", "--json"))
    assert plain["reported"][0]["methods"][0]["results"]["ANI"]["image_auroc"] == 94.58
    plain = json.loads(run("--published", "all", "--json"))
    assert plain["schema"] == "threecad.comparison/1"
    assert len(plain["reported"]) == len(reported_protocols())


def test_an_unknown_repository_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"'some/body' are known\. Known are: M3R2"):
        reported_protocols(["some/body"])
    result = CliRunner().invoke(main, ["compare", "--published", "some/body"])
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_categories_that_were_not_run_are_left_out() -> None:
    report = tabulate(reported_protocols(), {"CS"})
    assert {table.header for table in report.tables} == {("Method", "CS")}
    assert len(report.notes) == 1
    assert not tabulate(reported_protocols(), set()).tables
    assert not make_report([]).tables


def test_the_page_of_the_book_holds_every_table_and_source() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for protocol in reported_protocols():
        assert f"https://github.com/{protocol.repository}" in page
        assert protocol.protocol in page
        assert protocol.read in page
        for table in protocol.tables():
            assert table.to_markdown().split("\n\n", 1)[1].strip() in page, table.title
        for method in protocol.methods:
            assert method.source in page, method.source
            assert method.note in page, method.note


def test_comparing_needs_no_torch() -> None:
    code = "import sys, threecad.benchmark.reported; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
