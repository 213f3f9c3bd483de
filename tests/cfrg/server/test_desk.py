"""Runs, names, tokens, and the desk where requests wait."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from command_lines import run_line
from detector_servers import write_run
from PIL import Image

from cfrg import Predictor
from cfrg.server.desk import Desk
from cfrg.server.photographs import Photograph
from cfrg.server.refusals import RefusedError
from cfrg.server.runs import ServedRun, load_runs
from threecad.errors import UsageError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "part")


def photograph(seed: int) -> Photograph:
    pixels = np.random.default_rng(seed).integers(0, 255, (50, 70, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return Photograph(str(seed), buffer.getvalue())


class Noting(Predictor):
    """A predictor that notes how many images it is given at a time."""

    batches: list[int]

    def predict_prepared(self, images):  # type: ignore[no-untyped-def]
        given = list(images)
        self.batches.append(len(given))
        return super().predict_prepared(given)


@pytest.fixture
def desk() -> Desk:
    return Desk(workers=1, queue=8, max_pixels=1 << 20)


def test_waiting_requests_of_one_run_share_a_batch(run: Path, desk: Desk) -> None:
    noting = Noting.from_pretrained(run, device="cpu", batch_size=4)
    noting.batches = []
    served = ServedRun("part", noting)
    until = time.monotonic() + 60
    # One in front, so that the others wait.
    asked = [desk.ask(served, [photograph(n)], until) for n in range(6)]
    asked.append(desk.ask(ServedRun("other", noting), [photograph(6)], until))
    found = [answer.result(60)[0] for answer in asked]
    assert sum(noting.batches) == 7
    assert max(noting.batches) == 4
    alone = Predictor.from_pretrained(run, device="cpu", batch_size=1)
    for number, prediction in enumerate(found):
        (expected,) = alone.predict([np.array(Image.open(io.BytesIO(photograph(number).content)))])
        assert prediction.id == str(number)
        np.testing.assert_allclose(prediction.map, expected.map, rtol=0, atol=2e-5)
    desk.end()


def test_what_is_cancelled_or_too_late_is_not_computed(run: Path, desk: Desk) -> None:
    noting = Noting.from_pretrained(run, device="cpu", batch_size=1)
    noting.batches = []
    served = ServedRun("part", noting)
    until = time.monotonic() + 60
    first = desk.ask(served, [photograph(n) for n in range(8)], until)
    late = desk.ask(served, [photograph(1)], time.monotonic())
    cancelled = desk.ask(served, [photograph(2)], until)
    assert cancelled.cancel()
    with pytest.raises(TimeoutError):
        late.result(60)
    assert len(first.result(60)) == 8
    desk.end()
    assert noting.batches == [8]


def test_places_are_few_and_end(desk: Desk) -> None:
    with pytest.raises(RefusedError, match="Too many") as refusal:
        _hold(desk, 10)
    assert (refusal.value.status, refusal.value.headers) == (429, {"Retry-After": "1"})
    assert desk.accepted == 0
    desk.close()
    with pytest.raises(RefusedError, match="about to end"), desk.place():
        pass
    desk.end()


def _hold(desk: Desk, number: int) -> None:
    if number:
        with desk.place():
            _hold(desk, number - 1)


def test_a_fault_belongs_to_its_own_request(run: Path, desk: Desk) -> None:
    served = ServedRun("part", Predictor.from_pretrained(run, device="cpu", batch_size=1))
    broken = ServedRun("broken", None)  # type: ignore[arg-type]
    until = time.monotonic() + 60
    with pytest.raises(AttributeError):
        desk.ask(broken, [photograph(0)], until).result(60)
    assert desk.ask(served, [photograph(0)], until).result(60)[0].error is None
    desk.end()


def test_runs_have_names_of_their_own(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "part")
    with pytest.raises(UsageError, match="would both be called part"):
        load_runs([run, other], device="cpu")
    runs = load_runs([run, f"second={other}"], device="cpu")
    assert [*runs] == ["part", "second"]
    spaced = write_run(tmp_path / "a part=1")
    assert [*load_runs([spaced], device="cpu")] == ["a-part-1"]
    with pytest.raises(UsageError, match="is no name"):
        load_runs([f"a b={other}"], device="cpu")
    with pytest.raises(UsageError, match="at least one"):
        load_runs([])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--token-file short.txt", "16 or more"),
        ("--token-file missing.txt", "No token can be read"),
        ("--token-file spaced.txt", "without spaces"),
        ("--root-path parts", "expected a --root-path"),
        ("--workers 0", "0 is not in the range"),
        ("--timeout 0", "0"),
    ],
)
def test_wrong_options_are_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("short.txt").write_text("abc\n")
    Path("spaced.txt").write_text("abc def ghi jkl mno\n")
    result = run_line(f"cfrg serve {run} {options}")
    assert (result.exit_code, sentence in result.output) == (2, True), result.output


def test_the_extra_is_named_where_it_is_missing(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = run_line(f"cfrg serve {run}")
    assert result.exit_code == 2
    assert "pip install 'threecad[serve]'" in result.output
