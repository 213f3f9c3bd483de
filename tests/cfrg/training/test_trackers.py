"""Experiment trackers get what the log gets, and never end a training."""

from pathlib import Path

import pytest
from small_training import train

from cfrg.training.logs import read_log
from cfrg.training.trackers import require_trackers
from threecad.errors import UsageError

pytestmark = pytest.mark.filterwarnings("default")  # the trackers' own


def test_mlflow_gets_losses_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    store = f"sqlite:///{tmp_path / 'runs.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "run", log_with=("mlflow",))
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name("cfrg")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run"
    assert run.data.params["seed"]
    for line in read_log(tmp_path / "run" / "log.jsonl"):
        history = {m.step: m.value for m in client.get_metric_history(run.info.run_id, "loss")}
        assert history[line["step"]] == line["loss"]


def test_trackio_gets_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="trackio is not installed")
    train(tmp_path / "run", log_with=("trackio",))
    (run,) = trackio.Api().runs("cfrg")
    assert run.name == "run"
    assert list((tmp_path / "trackio").rglob("cfrg*"))


def test_a_tracker_out_of_reach_does_not_end_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def __init__(self, project: str, **options: object) -> None:
            pass

        def start(self) -> None:
            pass

        def store_init_configuration(self, values: dict[str, object]) -> None:
            pass

        def log(self, values: dict[str, float], step: int) -> None:
            raise ConnectionError("nobody answers")

        def finish(self) -> None:
            raise AssertionError("was given up before")

    monkeypatch.setattr("accelerate.tracking.LOGGER_TYPE_TO_CLASS", {"wandb": Broken})
    train(tmp_path / "run", log_with=("wandb",))
    assert [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")][-1] == 4
    (said,) = [record.getMessage() for record in caplog.records if "wandb" in record.getMessage()]
    assert "nobody answers" in said


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfrg.training.trackers.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install comet-ml"):
        require_trackers(["comet"])
    with pytest.raises(UsageError, match="No tracker 'tensorbored'"):
        require_trackers(["tensorbored"])
