"""What an import would make of a folder, as a page."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
from click.testing import CliRunner

from threecad import scan
from threecad.cli import main
from threecad.images.files import open_image


def import_page(tree: Path, out: Path) -> str:
    line = ["import", str(tree), "--dry-run", "--html", str(out)]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 0, result.output
    return out.read_text("utf-8")


def test_the_page_shows_counts_account_and_outlined_examples(tree: Path, tmp_path: Path) -> None:
    page = import_page(tree, tmp_path / "plan.html")
    assert "Copper_Stator test" in page
    assert f"{len(scan(tree))} images" in page
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == 3
    for picture in pictures:
        image = np.asarray(open_image("picture", base64.b64decode(picture)))
        red, green, blue = (image[..., channel].astype(int) for channel in range(3))
        assert (abs(red - green) + abs(green - blue) > 60).any()  # the outline has a colour


def test_the_page_needs_nothing_else_and_names_are_no_markup(tree: Path, tmp_path: Path) -> None:
    defects = tree / "Aluminum_Ipad" / "test" / "bruise"
    masks = tree / "Aluminum_Ipad" / "ground_truth" / "bruise"
    defects.rename(defects.with_name("<b>x"))
    masks.rename(masks.with_name("<b>x"))
    page = import_page(tree, tmp_path / "plan.html")
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)


def test_without_a_dry_run_there_is_no_page(tree: Path, tmp_path: Path) -> None:
    line = ["import", str(tree), str(tmp_path / "out"), "--html", str(tmp_path / "plan.html")]
    result = CliRunner().invoke(main, line)
    assert result.exit_code == 2
    assert "Give both" in result.output
    assert not (tmp_path / "out").exists()


def test_nothing_but_the_page_is_written(tree: Path, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if ".threecad" not in path.parts}
    import_page(tree, tmp_path / "plan.html")
    after = {path for path in tmp_path.rglob("*") if ".threecad" not in path.parts}
    assert after - before == {tmp_path / "plan.html"}
