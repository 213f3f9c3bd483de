"""The one parallel map: order, errors, laziness, clusters."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from threecad.errors import ImageError, UsageError
from threecad.system import parallel


def square(value: int) -> int:
    return value * value


def slow_first(value: int) -> int:
    time.sleep(0.2 if value == 0 else 0)
    return value


def fail_on_three(value: int) -> int:
    if value == 3:
        raise ImageError("image 3 is broken")
    return value


def process_id(value: int) -> int:
    time.sleep(0.01)
    return os.getpid()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(parallel.map(square, range(50), workers=workers, batch_size=3)) == [
        value * value for value in range(50)
    ]
    assert list(parallel.map(slow_first, range(8), workers=workers, batch_size=1)) == list(range(8))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_function_raises_is_raised_here(workers: int) -> None:
    with pytest.raises(ImageError, match="image 3"):
        list(parallel.map(fail_on_three, range(6), workers=workers, batch_size=1))


def test_nothing_is_computed_before_it_is_asked_for() -> None:
    seen: list[int] = []
    results = parallel.map(seen.append, range(100), workers=0, batch_size=2)
    next(results)
    assert len(seen) <= 2


def test_workers_are_other_processes() -> None:
    ids = set(parallel.map(process_id, range(20), workers=2, batch_size=1))
    assert os.getpid() not in ids
    assert os.getpid() in set(parallel.map(process_id, range(3), workers=0))


def read(name: str) -> str:
    return Path(name).read_text()


def test_relative_paths_mean_what_they_say_in_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        found = parallel.map(read, ["file"] * 6, workers=2, batch_size=1)
        assert set(found) == {name}


def test_empty_input_gives_nothing() -> None:
    assert list(parallel.map(square, [])) == []


def test_negative_workers_are_refused() -> None:
    with pytest.raises(UsageError, match="workers is -1"):
        list(parallel.map(square, [1], workers=-1))


@pytest.mark.parametrize("address", ["spark://here", "dask", "dask://"])
def test_unknown_cluster_says_what_is_expected(address: str) -> None:
    with pytest.raises(UsageError, match="dask://HOST:PORT"):
        list(parallel.map(square, [1, 2], cluster=address))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # what the client warns about on its way is not ours
def test_a_cluster_that_is_not_there_is_said() -> None:
    pytest.importorskip("distributed")
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UsageError, match="No cluster answers at dask://"),
    ):
        list(parallel.map(square, range(40), cluster="dask://127.0.0.1:9"))


def test_progress_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    list(parallel.map(square, range(4), workers=0, description="squares"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "squares" in captured.err


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and parents")
def test_a_killed_caller_leaves_no_worker(tmp_path: Path) -> None:
    (tmp_path / "work_here.py").write_text(KILLED, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "work_here.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        workers = {int(process.stdout.readline()) for _ in range(2)}
        process.kill()
    deadline = time.monotonic() + 60
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, workers))


KILLED = """
import os
import time

from threecad.system import parallel


def work(value):
    time.sleep(0.05)
    return os.getpid()


if __name__ == "__main__":
    for worker in parallel.map(work, range(10_000), workers=2, batch_size=1):
        print(worker, flush=True)
"""


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")  # what nobody waits for stays a zombie
    return not (state.is_file() and state.read_text().rpartition(")")[2].split()[0] == "Z")
