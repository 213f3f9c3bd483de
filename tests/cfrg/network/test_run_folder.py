"""A run is one thing: replaced whole, written by one process, bound to its weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from command_lines import run_words
from safetensors.torch import load_file

from cfrg import CFRG, CFRGConfig
from cfrg.evaluation.accuracy import evaluate_run
from cfrg.inference.thresholds import digest_weights, read_threshold
from cfrg.network.pretrained import write_card
from cfrg.run_folder import RunFolder
from cfrg.training.runs import read_run, train
from threecad.errors import BusyError, ModelError
from threecad.system import atomic

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and fork")

CONFIG = {"image_size": 32}
OPTIONS = {"steps": 2, "area": 0, "batch_size": 2, "checkpoint_every": 1, "device": "cpu"}

SCRIPT = """
import os, shutil, signal, sys
import torch
from cfrg import CFRG, CFRGConfig, TrainingOptions
torch.set_num_threads(1)

def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)

def dying(module, name, calls=1):
    "Let the process die before a call of a function."
    complete, left = getattr(module, name), [calls]
    def replacement(*arguments, **options):
        left[0] -= 1
        if not left[0]:
            die()
        return complete(*arguments, **options)
    setattr(module, name, replacement)

def train(run, seed, **flags):
    from cfrg.training.runs import train
    config = CFRGConfig.preset("lite", **{config})
    options = TrainingOptions.preset("lite", seed=seed, **{options})
    train({root!r}, run, category="Copper_Stator", config=config, options=options, **flags)

{body}
"""


def run_script(root: Path, body: str, **popen: object) -> subprocess.Popen[bytes]:
    text = SCRIPT.replace("{config}", repr(CONFIG)).replace("{options}", repr(OPTIONS))
    text = text.replace("{root!r}", repr(str(root))).replace("{body}", body)
    return subprocess.Popen(
        [sys.executable, "-c", text], env={**os.environ, "OMP_NUM_THREADS": "1"}, **popen
    )


def start(root: Path, run: Path, seed: int = 0, **flags: bool) -> Path:
    from cfrg import TrainingOptions

    return train(
        root,
        run,
        category="Copper_Stator",
        config=CFRGConfig.preset("lite", **CONFIG),
        options=TrainingOptions.preset("lite", seed=seed, **OPTIONS),
        **flags,
    )


@pytest.fixture(scope="module")
def old(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was evaluated and calibrated, with a note of its owner. Shared."""
    run = start(sample_tree, tmp_path_factory.mktemp("runs") / "run")
    evaluate_run(run, sample_tree, device="cpu")
    assert not run_words("cfrg", calibration(run, sample_tree)).exit_code
    (run / "notes").mkdir()
    (run / "notes" / "mine.txt").write_text("mine")
    return run


@pytest.fixture(scope="module")
def new(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of another seed. Shared."""
    return start(sample_tree, tmp_path_factory.mktemp("runs") / "run", seed=1)


def calibration(run: Path, root: Path) -> list[str]:
    rate = ["--false-alarm-rate", "0.7", "--on", "test-good"]
    return ["calibrate", str(run), str(root), *rate, "--device", "cpu"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def same_weights(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "model.safetensors") for run in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def assert_whole(run: Path, old: Path, new: Path) -> None:
    """Either the old run with all of its files, or the new one with none of them."""
    kept = contents(run)
    kept.pop(f"{atomic.TEMPORARY_PREFIX}successor", None)
    if same_weights(run, old):
        assert kept == contents(old)
        return
    assert same_weights(run, new)
    assert set(kept) == {*contents(new), "notes/mine.txt"}
    assert read_run(run)["seed"] == 1
    assert "has not been evaluated" in kept["README.md"].decode()
    assert CFRG.from_pretrained(run).companions.keys() == {"run.json"}


POINTS = {
    "first checkpoint": "import cfrg.training.loop as m; dying(m, 'save_training_state', 2)",
    "before the weights": "import cfrg.network.pretrained as m; dying(m, 'write_safetensors')",
    "before the swap": "import threecad.system.atomic as m; dying(m, 'replace_folder')",
    "after the swap": "import threecad.system.atomic as m; dying(m.shutil, 'rmtree')",
}

REPLACE = """
for name, point in {points!r}.items():
    run = os.path.join({folder!r}, name, "run")
    shutil.copytree({old!r}, run)
    process = os.fork()
    if not process:
        exec(point)
        {act}
        die()
    os.waitpid(process, 0)
"""


def test_a_training_that_replaces_a_run_is_killed_at_any_moment(
    sample_tree: Path, old: Path, new: Path, tmp_path: Path
) -> None:
    body = REPLACE.format(
        points=POINTS, folder=str(tmp_path), old=str(old), act="train(run, 1, force=True)"
    )
    assert run_script(sample_tree, body, stderr=subprocess.DEVNULL).wait(300) == 0
    swapped = 0
    for name in POINTS:
        run = tmp_path / name / "run"
        assert_whole(run, old, new)
        swapped += same_weights(run, new)
        if name in ("before the weights", "after the swap"):  # two resumptions are enough
            continue
        start(sample_tree, run, seed=1, resume=True, force=True)
        assert same_weights(run, new), name
        assert_whole(run, old, new)
        assert {path.name for path in run.parent.iterdir()} == {"run"}
    assert swapped == 1


def test_saving_and_importing_over_a_run_is_killed_at_any_moment(
    sample_tree: Path, old: Path, new: Path, tmp_path: Path
) -> None:
    points = {name: POINTS[name] for name in list(POINTS)[1:]}
    act = f"CFRG.from_pretrained({str(new)!r}).save_pretrained(run)"
    body = REPLACE.format(points=points, folder=str(tmp_path), old=str(old), act=act)
    assert run_script(sample_tree, body, stderr=subprocess.DEVNULL).wait(300) == 0
    kinds = set()
    for name in points:
        run = tmp_path / name / "run"
        threshold = read_threshold(run)
        model = CFRG.from_pretrained(run)
        kinds.add(same_weights(run, new))
        if same_weights(run, old):
            assert_whole(run, old, new)
        else:
            assert digest_weights(model) == digest_weights(CFRG.from_pretrained(new))
            assert threshold is None
            assert "has not been evaluated" in (run / "README.md").read_text()
            assert not (run / "result.json").exists()
            assert (run / "notes" / "mine.txt").is_file()
        CFRG.from_pretrained(new).save_pretrained(run)
        assert {path.name for path in run.parent.iterdir()} == {"run"}
    assert kinds == {False, True}


def test_a_system_without_the_swap_puts_the_old_run_back(
    sample_tree: Path, old: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = (
        "import threecad.system.atomic as m; m._swap = lambda *names: False\n"
        "    move = m.Path.replace\n"
        "    m.Path.replace = lambda *names: (move(*names), str(names[1]).endswith('.old') "
        "and die())[0]"
    )
    body = REPLACE.format(
        points={"between": "pass"},
        folder=str(tmp_path),
        old=str(old),
        act=f"CFRG.from_pretrained({str(new)!r}).save_pretrained(run)",
    ).replace("exec(point)", point.replace("\n", "\n    "))
    assert run_script(sample_tree, body).wait(300) == 0
    run = tmp_path / "between" / "run"
    assert not run.exists()
    with RunFolder(run).writing():
        assert_whole(run, old, new)
    monkeypatch.setattr(atomic, "_swap", lambda *names: False)
    CFRG.from_pretrained(new).save_pretrained(run)
    assert same_weights(run, new)
    assert {path.name for path in run.parent.iterdir()} == {"run"}


@contextmanager
def held(root: Path, body: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stops at ``wait()`` in its script and is killed at the end."""
    wait = "def wait(*arguments, **options):\n    print('here', flush=True)\n    sys.stdin.read()\n"
    process = run_script(
        root, wait + body, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == b"here\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def words(run: Path, root: Path, *more: str) -> list[str]:
    return [
        *("train", str(root), "--category", "Copper_Stator", "--out", str(run)),
        *("--image-size", "32", "--steps", "2", "--batch-size", "2", "--checkpoint-every", "1"),
        *("--seed", "0", "--device", "cpu", *more),
    ]


def refused(program_words: list[str]) -> None:
    result = run_words("cfrg", program_words)
    assert result.exit_code == 1, result.output
    assert "Another process is writing" in result.output


def test_one_process_trains_into_a_folder_and_a_killed_one_can_be_resumed(
    sample_tree: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    body = f"""
import cfrg.training.loop as m
save, left = m.save_training_state, [2]
def saving(*arguments):
    save(*arguments)
    wait()
m.save_training_state = saving
train({str(run)!r}, 0)
"""
    with held(sample_tree, body):
        with monkeypatch.context() as patched:  # the model is not even loaded
            patched.setattr(CFRG, "__init__", lambda *arguments: pytest.fail("loaded"))
            refused(words(run, sample_tree))
            refused(words(run, sample_tree, "--resume"))
            refused(words(run, sample_tree, "--force"))
            refused(["evaluate", str(run), str(sample_tree)])
            refused(calibration(run, sample_tree))
            refused(calibration(tmp_path / "." / "run", sample_tree))
        with pytest.raises(BusyError):
            CFRG.from_pretrained(new).save_pretrained(run)
    assert (run / "checkpoints" / "last.safetensors").is_file()
    result = run_words("cfrg", words(run, sample_tree, "--resume"))
    assert result.exit_code == 0, result.output
    start(sample_tree, tmp_path / "whole")
    assert same_weights(run, tmp_path / "whole")


def test_one_process_predicts_into_a_folder_and_a_killed_one_can_be_replaced(
    sample_tree: Path, new: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    body = f"""
import cfrg.inference.folder as m
m.FolderWriter.add = wait
m.predict_to_folder({str(new)!r}, [{str(sample_tree)!r}], {str(out)!r}, device="cpu")
"""
    line = ["predict", str(new), str(sample_tree), "--out", str(out), "--device", "cpu"]
    with held(sample_tree, body):
        refused(line)
        refused([*line, "--force"])
    assert list(out.glob(f"{atomic.TEMPORARY_PREFIX}*"))
    assert run_words("cfrg", line).exit_code == 2
    result = run_words("cfrg", [*line, "--force"])
    assert result.exit_code == 0, result.output
    assert not list(out.glob(f"{atomic.TEMPORARY_PREFIX}*"))
    (out / "mine.txt").write_text("mine")
    assert run_words("cfrg", [*line, "--force"]).exit_code == 2


def test_a_run_that_is_being_replaced_is_not_evaluated_and_still_predicts(
    sample_tree: Path, old: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(old, tmp_path / "run")
    out = tmp_path / "found"
    body = f"import cfrg.training.runs as m\nm.fit = wait\ntrain({str(run)!r}, 1, force=True)"
    with held(sample_tree, body):
        refused(["evaluate", str(run), str(sample_tree)])
        line = ["predict", str(run), str(sample_tree), "--out", str(out), "--device", "cpu"]
        assert run_words("cfrg", line).exit_code == 0
    assert contents(run) == contents(old)
    lines = (out / "predictions.jsonl").read_text().splitlines()
    assert all(json.loads(line)["decision"] for line in lines)


def test_a_card_of_the_owner_survives_and_his_files_too(
    sample_tree: Path, old: Path, new: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(old, tmp_path / "run")
    (run / "README.md").write_text("# Mine\n")
    (run / "export").mkdir()
    (run / "export" / "model.onnx").write_text("of the old weights")
    start(sample_tree, run, seed=1, force=True)
    assert (run / "README.md").read_text() == "# Mine\n"
    assert (run / "notes" / "mine.txt").read_text() == "mine"
    assert not (run / "export").exists()
    assert same_weights(run, new)


def test_every_file_names_its_weights(old: Path) -> None:
    digest = digest_weights(CFRG.from_pretrained(old))
    result = json.loads((old / "result.json").read_text())
    assert read_run(old)["weights_digest"] == digest
    assert result["provenance"]["run"]["weights_digest"] == digest
    assert json.loads((old / "calibration.json").read_text())["weights_digest"] == digest
    assert digest in (old / "README.md").read_text()


def test_files_of_other_weights_are_refused_or_left_out(
    old: Path, new: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(old, tmp_path / "run")
    shutil.copy(new / "run.json", run / "run.json")
    shutil.copy(new / "model.safetensors", run / "model.safetensors")
    with pytest.warns(UserWarning, match=r"result\.json belongs to other weights"):
        model = CFRG.from_pretrained(run)
    assert set(model.companions) == {"run.json", "calibration.json"}
    with pytest.warns(UserWarning, match=r"result\.json belongs to other weights"):
        write_card(run)
    assert "has not been evaluated" in (run / "README.md").read_text()
    with pytest.warns(UserWarning, match=r"calibration\.json belongs to other weights"):
        model.save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy" / "calibration.json").exists()
    shutil.copy(old / "run.json", run / "run.json")
    with pytest.raises(ModelError, match=re.escape("run.json describes the training of other")):
        CFRG.from_pretrained(run)


def test_runs_of_versions_without_digests_are_read(
    sample_tree: Path, old: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(old, tmp_path / "run")
    record, result = (json.loads((run / name).read_text()) for name in ("run.json", "result.json"))
    del record["weights_digest"], result["provenance"]["run"]["weights_digest"]
    (run / "run.json").write_text(json.dumps(record))
    (run / "result.json").write_text(json.dumps(result))
    assert CFRG.from_pretrained(run).companions["result.json"] == result
    write_card(run)
    assert "Image AUROC" in (run / "README.md").read_text()
    start(sample_tree, run, resume=True)
    assert same_weights(run, old)
    assert read_run(run)["weights_digest"] == read_run(old)["weights_digest"]
