import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from threecad.errors import UsageError
from threecad.metrics import Evaluator
from threecad.pages.evaluation_report import GalleryRow, render_report, write_report


@pytest.fixture(scope="module")
def result():
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 16, 16), bool)
    masks[3:, 4:8, 4:8] = True
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float32)
    evaluator = Evaluator()
    names = {"category": ["A<b>"] * 6, "defect_type": ["good"] * 3 + ["Scratch & dent"] * 3}
    evaluator.update(maps, masks, maps.max((1, 2)), [0, 0, 0, 1, 1, 1], names)
    return evaluator.compute()


def picture():
    stream = BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, "PNG")
    return stream.getvalue()


def test_report_is_self_contained_and_escaped(result, tmp_path):
    row = GalleryRow("<script>alert(1)</script>", [picture()] * 4)
    write_report(tmp_path / "report.html", title="T", result=result, gallery=[row])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    HTMLParser().feed(page)
    assert "<script" not in page
    assert "A&lt;b&gt;" in page
    assert "Scratch &amp; dent" in page
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert f"{100 * result['pixel_auroc'].value:.2f}" in page


def test_undefined_figures_say_why():
    evaluator = Evaluator()
    evaluator.update(np.zeros((1, 4, 4)), np.zeros((1, 4, 4), bool), [0.0], [0])
    page = render_report(title="T", result=evaluator.compute())
    assert "Pixel AUROC, Pixel AP, Pixel F1-max" in page
    assert "are undefined: no defective pixels" in page


def test_unknown_pictures_are_refused(result):
    with pytest.raises(UsageError, match="PNG"):
        render_report(title="T", result=result, curves=[b"GIF89a"])
