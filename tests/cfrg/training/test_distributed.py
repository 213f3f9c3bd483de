"""Two processes train as one process that takes both halves of each step in turn."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cfrg.training.logs import read_log
from cfrg.training.states import state_path
from threecad import write_sample

_SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
import small_training
run, accumulate = Path(sys.argv[1]), int(sys.argv[2])
small_training.train(run, accumulate=accumulate, steps=3, checkpoint_every=1)
"""


def start(run: Path, *, accumulate: int, rank: int = 0, world: int = 1, port: int = 0):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    if world > 1:
        environment |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
    script = _SCRIPT.format(tests=str(Path(__file__).parents[2]))
    return subprocess.Popen(
        [sys.executable, "-c", script, str(run), str(accumulate)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error[-3000:]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates(tmp_path: Path) -> None:
    finish([start(tmp_path / "one", accumulate=2)])
    port = free_port()
    finish([start(tmp_path / "two", accumulate=1, rank=r, world=2, port=port) for r in (0, 1)])
    one, two = (load_file(state_path(tmp_path / name)) for name in ("one", "two"))
    # Running statistics of batch normalisation belong to each process and are not averaged.
    names = [name for name in one if name.startswith("model.") and "running_" not in name]
    assert len(names) > 50
    for name in names:
        if "num_batches_tracked" not in name:
            torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-5, msg=name)


@pytest.mark.slow
def test_accelerate_launches_the_command_in_two_processes(tmp_path: Path) -> None:
    """One run folder, with what one process alone has seen to be best."""
    tree = write_sample(tmp_path / "3cad", per_category=6, size=64, seed=0, workers=0)
    run = tmp_path / "run"
    line = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"),
        *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
        *("--main_process_port", str(free_port()), "-m", "cfrg.cli", "train", str(tree)),
        *("--category", "Copper_Stator", "--steps", "2", "--batch-size", "2", "--device", "cpu"),
        *("--image-size", "32", "--set", "validation_fraction=0.4", "--set", "validate_every=1"),
        *("--set", "select=best", "--out", str(run)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    state, model = load_file(state_path(run)), load_file(run / "model.safetensors")
    best = {name.removeprefix("best."): v for name, v in state.items() if name.startswith("best.")}
    assert len(best) > 50
    for name, value in best.items():
        if not name.startswith("calibration."):  # fitted once more at the end
            assert torch.equal(model[name], value), name
    assert len(read_log(run / "log.jsonl")) == 4
