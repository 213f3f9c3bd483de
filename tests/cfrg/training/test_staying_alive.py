"""What is taken from under a training: its cache, its precision, its disk."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch
from command_lines import run_line
from small_training import weights
from test_runs import CONFIG, options, start

import cfrg.training.runs
from cfrg import CFRG
from cfrg.images.cache import ImageCache
from cfrg.images.tiling import Tiling
from cfrg.training.loop import Interrupted
from cfrg.training.runs import train
from cfrg.training.states import state_path
from threecad import ThreeCAD, scan
from threecad.errors import ModelError
from threecad.images.hashing import hash_file
from threecad.system.caching import clear_caches, mark_used
from threecad.system.locations import user_cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREECAD_CACHE", str(tmp_path / "user"))


def clear_from_outside() -> None:
    code = "from threecad.cli import main; main(['cache', 'clear', '.'])"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def decoded(tree: Path) -> ImageCache:
    index = scan(tree).select(category="Copper_Stator", split="train")
    return ImageCache(ThreeCAD(index), Tiling((32, 32)))


def test_images_in_use_outlive_clearing_by_another_process(tree: Path) -> None:
    images = decoded(tree)
    clear_from_outside()
    assert images.path.is_file()
    copy = pickle.loads(pickle.dumps(images))  # what a spawned worker gets
    assert np.array_equal(copy[0], images[0])
    del images, copy
    clear_from_outside()
    assert not list(user_cache().rglob("*.arrays"))


def test_images_that_were_removed_by_hand_are_decoded_again(tree: Path) -> None:
    images = decoded(tree)
    expected, copy = images[0], pickle.loads(pickle.dumps(images))
    images.path.unlink()
    assert np.array_equal(images[1], decoded(tree)[1])
    images.path.unlink()
    assert np.array_equal(copy[0], expected)


@pytest.mark.skipif(os.name != "posix", reason="file locks")
def test_what_a_killed_process_held_can_be_cleared(tmp_path: Path) -> None:
    held = user_cache() / "images" / "held.arrays"
    held.parent.mkdir(parents=True)
    held.write_bytes(bytes(100))
    code = "import sys, time; from threecad.system.caching import hold\n"
    code += "with open(sys.argv[1], 'rb') as file: hold(file); print(1, flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code, held], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert clear_caches() == 0
        assert held.is_file()
        process.send_signal(signal.SIGKILL)
    assert clear_caches() == 100
    assert not held.exists()


def test_what_is_being_written_stays_and_left_overs_go() -> None:
    written, left = (user_cache() / f".threecad-tmp-{name}.arrays" for name in ("new", "old"))
    written.parent.mkdir(parents=True)
    for path in (written, left):
        path.write_bytes(bytes(10))
    os.utime(left, (time.time() - 3600,) * 2)
    assert clear_caches() == 10
    assert written.is_file()


def test_a_cache_of_no_size_trains_the_same_model(
    sample_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"options": options(validation_fraction=0.4, foreground=True, workers=2)}
    whole = start(sample_tree, tmp_path / "whole", **changes)
    clear_caches()
    complete = cfrg.training.runs.fit

    def fit_and_lose(*arguments: object, **keywords: object) -> int:
        steps = complete(*arguments, **keywords)
        for path in user_cache().rglob("*.arrays"):
            path.unlink()  # before calibration and baseline read them
        return steps

    monkeypatch.setattr(cfrg.training.runs, "fit", fit_and_lose)
    monkeypatch.setenv("THREECAD_CACHE_LIMIT", "0")
    small = start(sample_tree, tmp_path / "small", **changes)
    assert hash_file(small / "model.safetensors") == hash_file(whole / "model.safetensors")


def test_eviction_by_another_run_passes_what_is_held(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.name != "posix":
        pytest.skip("file locks")
    images = decoded(tree)
    old, new = user_cache() / "old.arrays", user_cache() / "new.arrays"
    for path in (old, new):
        path.write_bytes(bytes(10))
    monkeypatch.setenv("THREECAD_CACHE_LIMIT", "0")
    mark_used(new)
    assert [path.exists() for path in (images.path, old, new)] == [True, False, True]


ALONE = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import small_training, torch
torch.set_num_threads(1)
model = small_training.train(Path(sys.argv[1]) / "alone", steps=2, precision="bf16")
torch.save(small_training.weights(model), Path(sys.argv[1]) / "alone.pt")
"""


def test_another_precision_in_the_same_process_is_that_of_a_process_of_its_own(
    tmp_path: Path,
) -> None:
    code = ALONE.format(tests=str(Path(__file__).parents[2]))
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = [
            weights(small_training.train(tmp_path / name, steps=2, precision=precision))
            for name, precision in (("a", "no"), ("b", "bf16"), ("c", "no"))
        ]
    finally:
        torch.set_num_threads(threads)
    alone = torch.load(tmp_path / "alone.pt", weights_only=True)
    name = "unet.up1.conv1.weight"
    assert not torch.equal(models[0][name], models[1][name])
    assert all(torch.equal(models[1][name], value) for name, value in alone.items())
    assert all(torch.equal(models[0][name], value) for name, value in models[2].items())


@pytest.mark.parametrize(
    ("left", "named"),
    [
        pytest.param(100_000, "last.safetensors", id="state"),
        pytest.param(0, "log.jsonl", id="log", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_names_the_file_and_leaves_the_last_state_whole(
    sample_tree: Path,
    tmp_path: Path,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    left: int,
    named: str,
) -> None:
    disk = small_disk(300 << 20)
    run = disk / "run"
    complete = cfrg.training.runs.fit
    with monkeypatch.context() as patch:
        patch.setattr(cfrg.training.runs, "fit", lambda *a, **k: complete(*a, **k, stop_after=1))
        with pytest.raises(Interrupted):
            start(sample_tree, run, options=options(steps=3, checkpoint_every=1))
    before = hash_file(state_path(run))
    size = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - left

    def fill_and_fit(*arguments: object, **keywords: object) -> int:
        (disk / "filler").write_bytes(bytes(size))
        return complete(*arguments, **keywords)

    line = f"cfrg train {sample_tree} --category Copper_Stator --out {run} --resume --image-size 64"
    line += " --steps 3 --checkpoint-every 1 --batch-size 2 --device cpu --set memory=100"
    with monkeypatch.context() as patch:
        patch.setattr(cfrg.training.runs, "fit", fill_and_fit)
        result = run_line(line)
    assert result.exit_code == 1
    assert named in result.output
    assert "No space left on device. Make room" in result.output
    assert "--resume" in result.output
    assert hash_file(state_path(run)) == before
    (disk / "filler").unlink()
    assert run_line(line).exit_code == 0
    whole = start(sample_tree, tmp_path / "whole", options=options(steps=3, checkpoint_every=1))
    assert hash_file(run / "model.safetensors") == hash_file(whole / "model.safetensors")
    assert CFRG.from_pretrained(run).config == CONFIG


def test_a_full_disk_of_the_cache_says_how_to_make_room(
    sample_tree: Path,
    tmp_path: Path,
    small_disk: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THREECAD_CACHE", str(small_disk(8192)))
    with pytest.raises(ModelError, match=r"\.arrays: No space left.*threecad cache clear"):
        train(
            sample_tree,
            tmp_path / "run",
            category="Copper_Stator",
            config=CONFIG,
            options=options(),
        )


def test_a_bad_image_ends_a_training_with_workers(tree: Path, tmp_path: Path) -> None:
    bad = sorted((tree / "Copper_Stator" / "train" / "good").iterdir())[-1]
    bad.write_bytes(bad.read_bytes()[:300])
    command = [sys.executable, "-m", "cfrg.cli", "train", tree, "--category", "Copper_Stator"]
    options = ["--steps", 2, "--image-size", 64, "--workers", 1, "--device", "cpu"]
    ended = subprocess.run(
        [*map(str, [*command, *options]), "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert f"{bad} cannot be read as an image: the file is cut short" in ended.stderr
    assert "Traceback" not in ended.stderr
