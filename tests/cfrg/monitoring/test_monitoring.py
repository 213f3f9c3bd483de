"""Production against the calibration: alarms that hold their rate, and what they say."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from command_lines import run_line
from PIL import Image
from scipy import stats

from cfrg.images.appearance import describe
from cfrg.monitoring.golden import Golden
from cfrg.monitoring.martingale import bet_on_ranks, bet_on_rate, find_change, rank
from cfrg.monitoring.page import write_report
from cfrg.monitoring.streams import WATCHED
from cfrg.monitoring.watching import Report, monitor
from threecad.errors import DataError, ModelError, UsageError

USUAL = {"score": 1.0, "brightness": 0.4, "contrast": 0.3, "sharpness": 0.8, "x": 0.5, "y": 0.5}
THRESHOLD = 2.0

Rows = dict[str, npt.NDArray[np.float64]]


def _draw(number: int, seed: int, **shifts: float) -> Rows:
    """Return statistics of parts; shifts are in standard deviations."""
    rng = np.random.default_rng(seed)
    return {
        name: mean * (1 + 0.1 * (rng.normal(size=number) + shifts.get(name, 0.0)))
        for name, mean in USUAL.items()
    }


def _run(folder: Path, number: int = 200, **changes: Any) -> Path:
    run = folder / "run"
    run.mkdir()
    content = {
        "schema": "cfrg.calibration/1",
        "image_threshold": THRESHOLD,
        "pixel_threshold": THRESHOLD,
        "false_alarm_rate": 0.05,
        "interval": [0.0, 0.05],
        "images": number,
        "source": "held-out",
        "data_fingerprint": "0" * 64,
        "weights_digest": "1" * 64,
        "tile": 0,
        "tile_overlap": 0,
        "version": "0.1.0",
        "reference": {name: values.tolist() for name, values in _draw(number, 0).items()},
    }
    (run / "calibration.json").write_text(json.dumps(content | changes))
    return run


def _write(path: Path, *groups: Rows) -> Path:
    lines = []
    for rows in groups:
        for i in range(len(rows["score"])):
            appearance = {name: rows[name][i] for name in WATCHED[1:]}
            line = {"id": str(i), "score": rows["score"][i], "appearance": appearance}
            lines.append(json.dumps(line) + "\n")
    path.write_text("".join(lines))
    return path


def test_ranks_of_exchangeable_values_are_uniform_and_independent() -> None:
    rng = np.random.default_rng(1)
    draws = [(rng.integers(9, size=40), rng.integers(9, size=60)) for _ in range(50)]
    ranks = np.concatenate([rank(*pair, seed) for seed, pair in enumerate(draws)])
    assert stats.kstest(ranks, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(ranks[:-1], ranks[1:])[0, 1]) < 0.06


def test_alarms_without_a_change_are_as_rare_as_stated() -> None:
    rng = np.random.default_rng(2)
    needed, streams = math.log(10), 150
    alarms = 0
    for seed in range(streams):
        values = rng.permutation(rng.gamma(2, size=360))
        alarms += bet_on_ranks(rank(values[:60], values[60:], seed)).max() >= needed
    assert stats.binomtest(int(alarms), streams, 0.1, alternative="greater").pvalue > 0.01


def test_capital_has_a_mean_of_one() -> None:
    """A martingale neither wins nor loses on average, checked where its variance is small."""
    rng = np.random.default_rng(3)
    final = [np.exp(bet_on_ranks(rng.random(4))[-1]) for _ in range(4000)]
    assert abs(np.mean(final) - 1) < 5 * np.std(final) / math.sqrt(len(final))


def test_a_share_within_what_is_accepted_does_not_alarm_and_a_larger_one_does() -> None:
    rng = np.random.default_rng(4)
    needed = math.log(100)
    assert sum(bet_on_rate(rng.random(400) < 0.1, 0.1).max() >= needed for _ in range(60)) <= 3
    assert all(bet_on_rate(rng.random(200) < 0.4, 0.1).max() >= needed for _ in range(20))


def test_capital_survives_a_very_long_change() -> None:
    capital = bet_on_ranks(np.full(3000, 0.001))
    assert np.isfinite(capital).all()
    assert capital[-1] > 1000


def test_find_change_finds_the_place() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.random(300), 0.3 * rng.random(60)])
    assert abs(find_change(values, 0.5, math.sqrt(1 / 12)) - 300) < 15


def test_nothing_changed(tmp_path: Path) -> None:
    report = monitor(_run(tmp_path), [_write(tmp_path / "p.jsonl", _draw(300, 7))])
    assert not report.alarms
    assert report.sentences == ["No change in 300 parts."]


@pytest.mark.parametrize(
    ("shift", "said"),
    [
        ({"brightness": -2.0}, "images are darker: look at the lamp and the exposure"),
        ({"sharpness": -2.0}, "images are less sharp: look at focus"),
        ({"x": 2.0}, "parts lie further right: look at the fixture"),
        ({"score": 2.0}, "scores rise while images look the same: check the parts"),
        ({"score": -2.0}, "scores fall while images look the same: defects may be missed"),
    ],
)
def test_says_what_changed_and_since_when(
    shift: dict[str, float], said: str, tmp_path: Path
) -> None:
    lines = _write(tmp_path / "p.jsonl", _draw(240, 7), _draw(60, 8, **shift))
    report = monitor(_run(tmp_path), [lines])
    assert report.alarms
    (sentence,) = report.sentences
    assert said in sentence
    (watched,) = (w for w in report.watched if w.alarm)
    assert watched.since is not None
    assert watched.alarm is not None
    assert abs(watched.since - 241) < 25
    assert 241 < watched.alarm < 290


def test_defective_parts_are_no_change_until_there_are_too_many(tmp_path: Path) -> None:
    run = _run(tmp_path)
    stream = _draw(300, 7)
    stream["score"][::20] = 9.0  # defective, and bright where the defect is
    stream["brightness"][::20] *= 2
    assert not monitor(run, [_write(tmp_path / "few.jsonl", stream)]).alarms
    stream["score"][150:] = 9.0
    report = monitor(run, [_write(tmp_path / "many.jsonl", stream)])
    (sentence,) = report.sentences
    assert "of the parts are stopped, more than the 10% accepted" in sentence


def test_a_growing_file_keeps_its_answers(tmp_path: Path) -> None:
    run, path = _run(tmp_path), tmp_path / "p.jsonl"
    _write(path, _draw(100, 7), _draw(80, 8, brightness=-2.0))
    whole = path.read_text()
    after = monitor(run, [path])
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:120]) + lines[120][:30])  # the writer is in the middle of a line
    before = monitor(run, [path])
    assert before.parts == 120
    for early, late in zip(before.watched, after.watched, strict=True):
        assert (late.capital[: len(early.capital)] == early.capital).all()


def test_several_files_are_one_stream(tmp_path: Path) -> None:
    run, a, b = _run(tmp_path), _draw(100, 7), _draw(100, 8)
    one = monitor(run, [_write(tmp_path / "one.jsonl", a, b)])
    two = monitor(run, [_write(tmp_path / "a.jsonl", a), _write(tmp_path / "b.jsonl", b)])
    assert one.to_dict()["statistics"] == two.to_dict()["statistics"]


def test_lines_of_older_versions_are_tested_by_their_scores(tmp_path: Path) -> None:
    lines = [json.dumps({"id": "a", "score": 1.0 + i / 100}) + "\n" for i in range(30)]
    lines.insert(3, json.dumps({"id": "b", "error": "damaged"}) + "\n")
    (tmp_path / "p.jsonl").write_text("".join(lines))
    report = monitor(_run(tmp_path), [tmp_path / "p.jsonl"])
    assert [w.name for w in report.watched] == ["score", "stopped"]
    assert report.missing == WATCHED[1:]
    assert (report.parts, report.broken) == (30, 1)


@pytest.mark.parametrize(
    "line",
    ["no json", "[]", "3", '{"id": "a"}', '{"score": "1"}', '{"score": NaN}', '{"score": true}',
     '{"score": 1, "appearance": 3}', '{"score": 1, "appearance": {"x": null}}', "[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_none_is_named(line: str, tmp_path: Path) -> None:
    path = _write(tmp_path / "p.jsonl", _draw(2, 7))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match="line 3"):
        monitor(_run(tmp_path), [path])


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    run, lines = _run(tmp_path), _write(tmp_path / "p.jsonl", _draw(5, 7))
    with pytest.raises(DataError, match=r"no\.jsonl"):
        monitor(run, [tmp_path / "no.jsonl"])
    with pytest.raises(UsageError, match="no calibration"):
        monitor(tmp_path, [lines])
    with pytest.raises(UsageError, match="Name predictions"):
        monitor(run)
    with pytest.raises(UsageError, match="false_alarm_rate"):
        monitor(run, [lines], false_alarm_rate=1.0)
    path = run / "calibration.json"
    content = json.loads(path.read_text())
    reference = content.pop("reference")
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="again"):
        monitor(run, [lines])
    for damage in ({"score": [1.0]}, {"x": None}, {"y": [float("inf")] * 200}, {"x": ["a"] * 200}):
        path.write_text(json.dumps({**content, "reference": {**reference, **damage}}))
        with pytest.raises(ModelError, match=r"calibration\.json"):
            monitor(run, [lines])


def test_command_prints_draws_and_exits_with_one_on_an_alarm(tmp_path: Path) -> None:
    run = _run(tmp_path)
    calm = _write(tmp_path / "calm.jsonl", _draw(60, 7))
    dark = _write(tmp_path / "dark.jsonl", _draw(60, 7), _draw(60, 8, brightness=-3.0))
    result = run_line(f"cfrg monitor {run} {calm}")
    assert result.exit_code == 0, result.output
    assert "No change in 60 parts." in result.output
    result = run_line(
        f"cfrg monitor {run} {dark} --json --html {tmp_path}/m.html --figures {tmp_path}/figures"
    )
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["alarm"] is True
    assert content["schema"] == "cfrg.monitor/1"
    page = (tmp_path / "m.html").read_text()
    assert "images are darker" in page
    assert "<svg" in page
    assert not any(outside in page for outside in ("<script", "<link", " src=", "url(http"))
    assert (tmp_path / "figures" / "monitor.png").is_file()


def test_a_page_escapes_what_it_is_given(tmp_path: Path) -> None:
    report = Report("<script>", (), 0, 0, 0, 0.01, (), warning="<b>")
    write_report(report, tmp_path / "m.html")
    assert "<script>" not in (tmp_path / "m.html").read_text()


def test_each_statistic_moves_with_its_own_cause() -> None:
    rng = np.random.default_rng(6)
    rows, columns = np.mgrid[:120, :160]
    part = (rows - 60) ** 2 + (columns - 70) ** 2 < 900
    grey = np.where(part, 120, 40) + rng.integers(0, 20, (120, 160))
    image = np.repeat(grey.astype(np.uint8)[..., None], 3, 2)
    usual = describe(image)
    dark = describe((image * 0.5).astype(np.uint8))
    assert dark.brightness < 0.55 * usual.brightness
    assert abs(dark.contrast / usual.contrast - 1) < 0.05
    assert abs(dark.sharpness / usual.sharpness - 1) < 0.05
    moved = describe(np.roll(image, (10, 32), (0, 1)))
    assert moved.x - usual.x == pytest.approx(0.2 * 0.7, abs=0.06)
    assert moved.brightness == pytest.approx(usual.brightness)
    blurred = describe(np.asarray(Image.fromarray(image).resize((80, 60)).resize((160, 120))))
    assert blurred.sharpness < 0.7 * usual.sharpness
    flat = describe(np.zeros((1, 1, 3), np.uint8))
    assert flat.to_dict() == {"brightness": 0, "contrast": 0, "sharpness": 0, "x": 0.5, "y": 0.5}


def test_golden_part_says_how_much_of_the_distance_is_noise() -> None:
    steady = Golden("g", 10, 1.0, 0.01, 0.1, 1.0, 0)
    assert not steady.notable
    assert "good repeatability" in str(steady)
    shaky = Golden("g", 10, 1.0, 0.1, 0.1, 1.0, 0)
    assert shaky.notable
    assert "60%" in str(shaky)
    assert Golden("g", 10, 1.0, 0.001, 0.1, 1.0, 3).notable  # not always the same answer
    assert Golden("g", 10, 1.0, 0.001, 0.1, 0.0, 0).to_dict()["share"] is None


def test_calibration_keeps_what_monitor_reads(prepared_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(prepared_folder / "run", run)
    tree = prepared_folder / "3cad"
    for line in (
        f"cfrg calibrate {run} {tree} --false-alarm-rate 0.3 --on test-good --device cpu",
        f"cfrg predict {run} {tree}/Copper_Stator/test/good --out {tmp_path}/found --device cpu",
        f"cfrg monitor {run} {tmp_path}/found/predictions.jsonl",
    ):
        result = run_line(line)
        assert result.exit_code == 0, result.output
    line = json.loads((tmp_path / "found" / "predictions.jsonl").read_text().splitlines()[0])
    assert set(line["appearance"]) == set(WATCHED[1:])
    golden = tmp_path / "golden"
    golden.mkdir()
    photograph = next((tree / "Copper_Stator" / "test" / "good").iterdir())
    pixels = np.asarray(Image.open(photograph).convert("RGB")).astype(np.int16)
    for i in range(5):
        Image.fromarray(np.clip(pixels + i, 0, 255).astype(np.uint8)).save(golden / f"{i}.png")
    result = run_line(f"cfrg monitor {run} --golden {golden} --device cpu --json")
    content = json.loads(result.stdout)["golden"]
    assert content["images"] == 5
    assert content["deviation"] > 0
    assert content["map_deviation"] > 0
    (golden / "4.png").unlink()
    assert run_line(f"cfrg monitor {run} --golden {golden} --device cpu").exit_code == 2
