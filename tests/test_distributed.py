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

from cfrg.states import state_path

_SCRIPT = """
import sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
import test_training
run, accumulate = Path(sys.argv[1]), int(sys.argv[2])
test_training.train(run, accumulate=accumulate, steps=3, checkpoint_every=1)
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
    script = _SCRIPT.format(tests=str(Path(__file__).parent))
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
