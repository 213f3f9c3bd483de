"""Processes that are told to stop, that die, or that are forked: real ones, with their workers."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import small_training
import torch
from small_training import assert_same, fresh_model

import cfrg
from cfrg.images.workers import read_in_workers
from cfrg.training.loop import Interrupted, read_log
from cfrg.training.states import load_training_state
from threecad.errors import WorkerError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs process groups and forks")

TESTS = str(Path(__file__).parents[2])


def start(*command: object, **environment: str) -> subprocess.Popen[str]:
    """Start a process in a group of its own, as a batch system does."""
    # What a shell starts in the background ignores SIGINT, and so would this process.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"sys.path.insert(0, {TESTS!r}); sys.argv = sys.argv[1:]; exec(sys.argv.pop(0))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 300
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[1]


def end(process: subprocess.Popen[str]) -> str:
    """Return what the process wrote, once it and its whole group are gone."""
    output = "".join(process.communicate(timeout=120))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return output
        time.sleep(0.1)
    raise AssertionError("a worker was left behind")


TRAIN = """
import sys
from pathlib import Path
import small_training
from cfrg.training.loop import Interrupted
try:
    small_training.train(Path(sys.argv[1]), steps=400, checkpoint_every=400, workers=2)
except Interrupted as stop:
    print(stop.step)
"""


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param(["SIGTERM", "SIGTERM"], id="terminated twice, as timeout does"),
        pytest.param(["SIGINT"], id="interrupted"),
        pytest.param(["SIGHUP"], id="hung up", marks=pytest.mark.slow),
    ],
)
def test_a_group_told_to_stop_leaves_a_state_that_goes_on_bit_for_bit(
    tmp_path: Path, kinds: list[str]
) -> None:
    process = start(TRAIN, "train", tmp_path / "stopped")
    wait_for(lambda: len(read_log(tmp_path / "stopped" / "log.jsonl")) > 2, process)
    for kind in kinds:
        os.killpg(process.pid, signal.Signals[kind])
    output = end(process)
    assert "Traceback" not in output
    assert process.returncode == 0
    done = int(output.split("\n")[0])
    models = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in ("stopped", "whole"):
            with pytest.raises(Interrupted):
                small_training.train(tmp_path / name, resume=True, steps=400, stop_after=done + 2)
            models.append(model := fresh_model())
            trained = [p for p in model.parameters() if p.requires_grad]
            state = load_training_state(tmp_path / name, model, torch.optim.Adam(trained))
            assert state == done + 2
    finally:
        torch.set_num_threads(threads)
    assert_same(*models)


COMMAND = "from {0}.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="module")
def many(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with two thousand images, the same one again and again. Shared."""
    root = tmp_path_factory.mktemp("many") / "3cad"
    shutil.copytree(sample_tree / "Copper_Stator", root / "Copper_Stator")
    folder = root / "Copper_Stator" / "train" / "good"
    photo = min(folder.iterdir())
    for i in range(1000, 3000):
        os.link(photo, folder / f"{i:06}{photo.suffix}")
    return root


@pytest.mark.parametrize(("kind", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_prediction_told_to_stop_leaves_no_table_and_nothing_half_written(
    prepared_folder: Path, many: Path, tmp_path: Path, kind: str, code: int
) -> None:
    out = tmp_path / "found"
    words = ["predict", prepared_folder / "run", many, "--split", "train", "--out", out]
    process = start(COMMAND.format("cfrg"), "cfrg", *words, "--workers", 2, "--device", "cpu")
    lines = out / "predictions.jsonl"
    wait_for(lambda: lines.is_file() and lines.stat().st_size, process)
    os.killpg(process.pid, signal.Signals[kind])
    output = end(process)
    assert "Traceback" not in output
    assert process.returncode == code
    assert sorted(path.name for path in out.iterdir()) == ["maps", "predictions.jsonl"]
    assert not list(out.rglob(".threecad-tmp-*"))


@pytest.mark.parametrize(
    ("command", "kind", "code"),
    [
        pytest.param("audit", "SIGTERM", 143, id="audit"),
        pytest.param("convert", "SIGTERM", 143, id="convert"),
        pytest.param("stats", "SIGTERM", 143, id="stats"),
    ],
)
def test_commands_with_workers_end_when_their_group_is_told_to(
    many: Path, tmp_path: Path, command: str, kind: str, code: int
) -> None:
    words = {"convert": [tmp_path / "out", "--to", "coco"], "stats": ["--contrast"]}
    process = start(
        COMMAND.format("threecad"),
        *("threecad", command, many, *words.get(command, []), "--workers", 2),
        THREECAD_CACHE=str(tmp_path / "cache"),
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.is_file():
        process.kill()
        pytest.skip("cannot see when the workers are there")
    wait_for(lambda: len(children.read_text().split()) > 2, process)
    os.killpg(process.pid, signal.Signals[kind])
    output = end(process)
    assert "Traceback" not in output
    assert process.returncode == code
    assert not (tmp_path / "out").exists()


class Deadly(torch.utils.data.Dataset):
    """Kills the process that reads its third item, as the system does when memory is short."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, position: int) -> int:
        if position == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return position


def test_a_killed_worker_is_said_in_words() -> None:
    with pytest.raises(WorkerError, match=r"/dev/shm.*`workers`"):
        list(read_in_workers(Deadly(), 1, batch_size=None))


def test_all_workers_are_started_in_one_place() -> None:
    package = Path(cfrg.__file__).parent
    callers = {
        path.name
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DataLoader"
    }
    assert callers == {"workers.py"}


FORKED = """
import multiprocessing
import sys

import numpy as np

from cfrg import Predictor

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)


def score(predictor):
    return next(iter(predictor.predict([IMAGE]))).score


def load_and_score(run):
    return score(Predictor.from_pretrained(run, device="cpu"))


def forked_score(run):
    return score(predictor)


if __name__ == "__main__":
    run = sys.argv[1]
    predictor = Predictor.from_pretrained(run, device="cpu")
    print(score(predictor))
    with multiprocessing.get_context(kind := sys.argv[2]).Pool(1) as pool:
        print(pool.apply_async(load_and_score, [run]).get(120))
        if kind == "fork":
            print(pool.apply_async(forked_score, [run]).get(120))
"""


@pytest.mark.parametrize(
    "kind", ["fork", "spawn", pytest.param("forkserver", marks=pytest.mark.slow)]
)
def test_children_compute_whatever_way_they_were_started(
    prepared_folder: Path, tmp_path: Path, kind: str
) -> None:
    script = tmp_path / "children.py"
    script.write_text(FORKED, encoding="utf-8")
    process = subprocess.run(
        [sys.executable, str(script), str(prepared_folder / "run"), kind],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert process.returncode == 0, process.stderr
    scores = [float(line) for line in process.stdout.split()]
    assert len(scores) == (3 if kind == "fork" else 2)
    assert scores == pytest.approx([scores[0]] * len(scores), abs=1e-4)
