from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from threecad.benchmark.comparison import compare, published_methods, published_result
from threecad.cli import main
from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.results import Result
from threecad.metrics import Evaluator


def make(seed, protocol="full", category="Copper_Stator"):
    rng = np.random.default_rng(seed)
    masks = np.zeros((6, 256, 256), bool)
    masks[3:, 64:128, 64:128] = True
    maps = (rng.normal(size=masks.shape) + masks).astype(np.float32)
    evaluator = Evaluator(protocol=protocol)
    names = {"category": [category] * 6}
    evaluator.update(maps, masks, maps.max((1, 2)), [0, 0, 0, 1, 1, 1], names)
    return evaluator.compute()


def test_differences_are_to_the_first():
    a, b = make(0), make(1)
    comparison = compare({"a": a, "b": b}, keys=["pixel_auroc"])
    cell = comparison.cells["pixel_auroc"]["b"]["Mean"]
    assert cell.difference == pytest.approx(b["pixel_auroc"].value - a["pixel_auroc"].value)
    assert comparison.cells["pixel_auroc"]["a"]["Mean"].difference is None
    assert f"({100 * cell.difference:+.2f})" in comparison.to_markdown()


@pytest.mark.parametrize(
    ("other", "obstacle"),
    [
        (make(1, "paper"), "protocol paper, not full"),
        (replace(make(1), provenance={"fingerprint": "b"}), "other data"),
        (make(1, category="Iron_Stator"), "over other categories|no Pixel AUROC"),
        (replace(make(1), settings={"mask_rule": "binary"}), "masks read by binary and by their"),
    ],
)
def test_what_cannot_be_compared_says_why(other, obstacle):
    mine = replace(make(0), provenance={"fingerprint": "a"}, settings={"mask_rule": None})
    comparison = compare({"a": mine, "b": other}, keys=["pixel_auroc"])
    cell = comparison.cells["pixel_auroc"]["b"]["Mean"]
    assert cell.difference is None
    assert any(part in cell.obstacle for part in obstacle.split("|"))
    assert "†" in comparison.to_markdown()
    assert r"^\dagger" in comparison.to_latex()


def test_published_results():
    cfrg = published_result("CFRG")
    assert cfrg.protocol == "paper"
    assert cfrg["image_auroc"].value == pytest.approx(0.865)
    assert cfrg["pro_per_image"].value == pytest.approx(0.820)
    assert len(cfrg.by_category) == 8
    assert published_result("PaDiM")["pixel_ap"].value is None
    for method in published_methods():
        published = published_result(method)
        assert Result.from_dict(published.to_dict()) == published
    with pytest.raises(UsageError, match="SimpleNet"):
        published_result("nothing")


def test_latex_tables_are_those_of_papers():
    latex = compare({"mine": make(0), "PaDiM": published_result("PaDiM")}).to_latex()
    auroc = latex[: latex.index(r"\end{tabular}")]
    assert " & ACC & AI & AMF & ANI & ANMF & AP & CS & IS & Mean" in auroc
    assert r"66.4 $^\dagger$" in auroc  # published with one decimal
    assert f"{make(0)['image_auroc'].value * 100:.1f} & " in auroc  # and so are the others then
    assert latex.startswith(r"% Needs \usepackage{booktabs}.")
    two = compare({"a": make(0), "b": make(1)}, keys=["pixel_auroc"])
    assert "(+" in two.to_markdown() or "(-" in two.to_markdown()
    assert "(" not in two.to_latex()


def test_rows_without_a_figure_are_left_out():
    comparison = compare({name: published_result(name) for name in ("CFRG", "PaDiM")})
    tables = comparison.to_markdown().split("**")
    assert "PaDiM" in tables[tables.index("Pixel AUROC") + 1]
    assert "PaDiM" not in tables[tables.index("Pixel AP") + 1]


def test_figures_of_other_images_are_not_compared():
    comparison = compare({"a": make(0, "paper"), "CFRG": published_result("CFRG")})
    cell = comparison.cells["pixel_auroc"]["CFRG"]["Copper_Stator"]
    assert cell.obstacle == "other data: the numbers of test images differ"


def test_a_reason_is_given_once():
    named = {name: published_result(name) for name in ("CFRG", "RD++")}
    comparison = compare({"a": make(0, "paper"), **named}, keys=["pixel_auroc"])
    assert "all others: other data: the numbers of test images differ" in comparison.obstacles()
    comparison = compare({"a": make(0, "paper"), "b": make(1, "paper"), **named})
    assert any(line.startswith("CFRG, RD++: ") for line in comparison.obstacles())


def test_by_default_the_command_shows_what_two_results_have(tmp_path):
    make(0, "paper").to_json(tmp_path / "mine.json")
    line = ["compare", str(tmp_path / "mine.json")]
    assert "Image AP" in CliRunner().invoke(main, line).output
    run = CliRunner().invoke(main, [*line, "--published", "CFRG"])
    assert "Image AP" not in run.output
    assert "PRO per image" in run.output


def test_command_line(tmp_path):
    make(0, "paper").to_json(tmp_path / "mine.json")
    options = ["--figure", "pixel_auroc", "--latex", str(tmp_path / "table.tex")]
    run = CliRunner().invoke(
        main,
        ["compare", str(tmp_path / "mine.json"), "--published", "CFRG", *options],
    )
    assert run.exit_code == 0, run.output
    assert "CFRG (published)" in run.output
    assert r"\begin{tabular}" in (tmp_path / "table.tex").read_text(encoding="utf-8")
    (tmp_path / "bad.json").write_text("{}")
    run = CliRunner().invoke(main, ["compare", str(tmp_path / "bad.json")])
    assert run.exit_code == 1
    assert "bad.json" in run.output


def test_names_survive_tables():
    result = make(0)
    comparison = compare({"a|b_{c}~$^\\": result}, keys=["pixel_auroc"])
    assert r"| a\|b_{c}~$^\ |" in comparison.to_markdown()
    escaped = r"a|b\_\{c\}\textasciitilde{}\$\textasciicircum{}\textbackslash{} &"
    assert escaped in comparison.to_latex()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mean", None),
        ("mean", {"counts": {}, "figures": {"pixel_ap": {"value": "high"}}}),
        ("mean", {"counts": {}, "figures": {"pixel_ap": {"value": 1.0, "confidence": [1]}}}),
        ("by_category", [1]),
        ("settings", [1]),
        ("provenance", None),
    ],
)
def test_damaged_results_are_refused(key, value):
    plain = {**make(0).to_dict(), key: value}
    with pytest.raises(EvaluationError, match="incomplete or damaged"):
        Result.from_dict(plain)


@pytest.mark.parametrize("text", ["", '{"value": NaN}', "[" * 100_000])
def test_files_that_are_no_json_are_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(EvaluationError, match=r"a\.json is not JSON"):
        Result.from_json(tmp_path / "a.json")


def test_results_survive_json(tmp_path):
    result = make(0)
    result.to_json(tmp_path / "r.json")
    assert Result.from_json(tmp_path / "r.json") == result
    plain = result.to_dict()
    assert plain["schema"] == "threecad.result/1"
    assert plain["pixel_auroc"] == result["pixel_auroc"].value
    del plain["mean"]
    with pytest.raises(EvaluationError, match="incomplete"):
        Result.from_dict(plain)
