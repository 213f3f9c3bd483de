"""Caches: valid while the file is, harmless when damaged, bounded, listed and cleared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from threecad.cli import main
from threecad.errors import UsageError
from threecad.system import caching
from threecad.system.caching import FileCache, cache_limit, clear_caches, list_caches, mark_used
from threecad.system.locations import own_folder, user_cache


@pytest.fixture(autouse=True)
def _empty_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREECAD_CACHE", str(tmp_path / "user"))


def write(path: Path, size: int, used: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (used, used))
    return path


def files(root: Path, number: int) -> list[Path]:
    return [write(root / f"{n}.png", n + 1, used=1000) for n in range(number)]


@settings(max_examples=20)
@given(
    records=st.dictionaries(
        st.integers(0, 9), st.recursive(st.none() | st.text() | st.integers(-9, 9), st.lists)
    ),
    changed=st.sets(st.integers(0, 9)),
)
def test_a_record_lives_as_long_as_its_file_is_unchanged(
    tmp_path_factory: pytest.TempPathFactory, records: dict[int, object], changed: set[int]
) -> None:
    root = tmp_path_factory.mktemp("root")
    paths = files(root, 10)
    FileCache(root, "test").put_many({paths[n]: record for n, record in records.items()})
    for n in changed:
        os.utime(paths[n], (2000, 2000))
    found = FileCache(root, "test").get_many(paths)
    assert found == {paths[n]: record for n, record in records.items() if n not in changed}
    assert FileCache(root, "test", version=2).get_many(paths) == {}


def test_a_file_of_the_same_age_but_another_size_is_another_file(tmp_path: Path) -> None:
    [path] = files(tmp_path, 1)
    FileCache(tmp_path, "test").put_many({path: "small"})
    write(path, 500, used=1000)
    assert FileCache(tmp_path, "test").get_many([path]) == {}


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\x00" + bytes(5000)])
def test_a_damaged_cache_remembers_nothing_and_then_works_again(
    tmp_path: Path, damage: bytes
) -> None:
    [path] = files(tmp_path, 1)
    cache = FileCache(tmp_path, "test")
    cache.put_many({path: 1})
    cache.path.write_bytes(damage)
    assert cache.get_many([path]) == {}
    cache.put_many({path: 2})
    cache.put_many({path: 2})
    assert cache.get_many([path]) == {path: 2}


def test_a_cache_that_cannot_be_written_is_no_error(read_only_disk: Path) -> None:
    path = read_only_disk / "x.png"
    cache = FileCache(read_only_disk, "test")
    cache.path = read_only_disk / "cache.sqlite"
    cache.put_many({Path(__file__): 1})
    assert cache.get_many([path]) == {}


def test_a_read_only_root_is_remembered_in_the_users_cache(read_only_disk: Path) -> None:
    assert own_folder(read_only_disk).is_relative_to(user_cache())


def test_several_processes_may_write_at_once(tmp_path: Path) -> None:
    paths = files(tmp_path, 40)
    code = (
        "import sys; from pathlib import Path; from threecad.system.caching import FileCache\n"
        "root, start = Path(sys.argv[1]), int(sys.argv[2])\n"
        "for n in range(start, start + 20):\n"
        "    FileCache(root, 'test').put_many({root / f'{n}.png': n})\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path, str(start)]) for start in (0, 20)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert FileCache(tmp_path, "test").get_many(paths) == {p: n for n, p in enumerate(paths)}


def test_records_are_bounded_and_the_oldest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "_RECORDS_LIMIT", 200_000)
    paths = files(tmp_path, 60)
    cache = FileCache(tmp_path, "test")
    for path in paths:
        cache.put_many({path: "x" * 10_000})
    assert cache.path.stat().st_size <= 250_000
    found = list(cache.get_many(paths))
    assert found == paths[-len(found) :]
    assert found


def test_records_of_files_that_are_gone_go_before_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, 20)
    cache = FileCache(tmp_path, "test")
    cache.put_many(dict.fromkeys(paths, "x" * 10000))
    for path in paths[10:]:
        path.unlink()
    monkeypatch.setattr(caching, "_RECORDS_LIMIT", 150_000)
    cache.put_many({paths[0]: "new"})
    assert set(cache.get_many(paths[:10])) == set(paths[:10])


def test_the_users_cache_is_bounded_and_what_was_used_last_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("THREECAD_CACHE_LIMIT", "0.00001")  # 10,000 bytes
    folder = user_cache() / "images"
    old, older, new = (
        write(folder / "old.npy", 4000, 2000),
        write(folder / "older.npy", 4000, 1000),
        write(folder / "new.npy", 4000, 3000),
    )
    mark_used(old)
    assert (old.exists(), older.exists(), new.exists()) == (True, False, True)
    huge = write(folder / "huge.npy", 50_000, 500)
    mark_used(huge)
    assert [file.path for file in list_caches()] == [huge]


def test_files_elsewhere_are_not_the_caches_business(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREECAD_CACHE_LIMIT", "0")
    mine = write(user_cache() / "a.npy", 10, 0)
    mark_used(write(tmp_path / "elsewhere.npy", 10, 0))
    assert mine.exists()


@pytest.mark.parametrize("text", ["much", "nan", "inf"])
def test_a_limit_that_is_no_number(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("THREECAD_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match="THREECAD_CACHE_LIMIT"):
        cache_limit()


def test_caches_are_listed_and_cleared_and_nothing_else_is(tmp_path: Path) -> None:
    root = tmp_path / "root"
    [image] = files(root, 1)
    FileCache(root, "test").put_many({image: 1})
    write(user_cache() / "images" / "a.npy", 9000, used=0)
    manifest = write(root / ".threecad" / "manifest.csv", 5, used=0)
    run = CliRunner().invoke
    listed = json.loads(run(main, ["cache", "list", str(root), "--json"]).stdout)
    assert {Path(file["path"]).name for file in listed["files"]} == {"test-v1.sqlite", "a.npy"}
    assert listed["bytes"] == sum(file.bytes for file in list_caches(root))
    assert "a.npy" in run(main, ["cache", "list", str(root)]).stdout
    assert run(main, ["cache", "clear", str(root)]).stdout.endswith("freed.\n")
    assert list_caches(root) == []
    assert clear_caches(root) == 0
    assert image.exists()
    assert manifest.exists()
