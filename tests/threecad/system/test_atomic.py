"""Files are whole or not there, whatever happens to the process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from threecad.errors import UsageError
from threecad.system import atomic


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(atomic.TEMPORARY_PREFIX)]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic.write_text(path, "old")

    def fail_while_writing() -> None:
        with atomic.replacing(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_while_writing()
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_refused_write_names_the_file_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "never-written.txt"
    with pytest.raises(FileNotFoundError) as caught, atomic.replacing(path):
        pass
    assert caught.value.filename == str(path)


def test_temporary_name_keeps_the_suffix_and_lies_beside(tmp_path: Path) -> None:
    with atomic.replacing(tmp_path / "new" / "map.npy") as temporary:
        assert temporary.suffix == ".npy"
        assert temporary.parent == tmp_path / "new"
        temporary.write_bytes(b"1")
    assert (tmp_path / "new" / "map.npy").read_bytes() == b"1"


def test_json_refuses_what_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        atomic.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_by_its_own_name(read_only_disk: Path) -> None:
    atomic.check_writable(read_only_disk.parent / "new" / "folder")
    with pytest.raises(UsageError, match=f"{read_only_disk} cannot be written"):
        atomic.check_writable(read_only_disk / "new" / "folder")
    with pytest.raises(OSError, match="Read-only") as caught:
        atomic.write_text(read_only_disk / "file.txt", "x")
    assert caught.value.filename == str(read_only_disk / "file.txt")


_WRITER = """
import sys
from threecad.system import atomic
print("ready", flush=True)
number = 0
while True:
    number += 1
    atomic.write_bytes(sys.argv[1], (b"%09d" % number) * 50_000)
"""


@pytest.mark.parametrize("delay", [0.0, 0.013, 0.037, 0.1])
def test_killed_writer_leaves_a_whole_file(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "file"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    while not path.is_file():
        time.sleep(0.001)
    time.sleep(delay)
    process.kill()
    process.wait()
    process.stdout.close()
    data = path.read_bytes()
    assert len(data) == 450_000
    assert data == data[:9] * 50_000
