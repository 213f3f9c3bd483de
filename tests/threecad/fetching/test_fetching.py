"""The whole download, against a loopback Drive, with processes that are really killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import CATEGORIES, read_tree, tar_of, tree_files, zip_bytes
from click.testing import CliRunner
from servers import FILE_ID, QUOTA_PAGE, FileServer

from threecad.cli import main
from threecad.dataset.catalog import LICENSE_NOTICE
from threecad.dataset.provenance import Provenance
from threecad.dataset.scanning import scan
from threecad.errors import DataError, DownloadError, ExtractionError, UsageError
from threecad.fetching import download
from threecad.fetching.sources import parse_source
from threecad.fetching.textures import download_textures, textures_folder
from threecad.procedural import write_sample
from threecad.system import atomic
from threecad.system.locations import default_root

FILES = tree_files()
ARCHIVE = zip_bytes(FILES)
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
NAME = f"drive:{FILE_ID}"
KILLED = 1 if sys.platform == "win32" else -signal.SIGKILL  # the exit code
COMMAND = [sys.executable, "-c", "from threecad.cli import main; main()", "download"]


@pytest.fixture
def drive(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A Drive that holds the archive, used by everything in this test and its processes."""
    with FileServer(ARCHIVE, confirm_page=True) as server:
        monkeypatch.setenv("THREECAD_DRIVE_URL", server.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


def get(root: Path, **options: Any) -> Path:
    return download(root, progress=False, **options)


def own_files(root: Path) -> set[str]:
    own = root / ".threecad"
    files = {path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file()}
    return files - {"download.lock"}


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until ``condition`` holds or ``process`` ends."""
    while process.poll() is None and not condition():
        time.sleep(0.001)


def test_from_drive_to_a_tree(drive: FileServer, tmp_path: Path) -> None:
    assert get(tmp_path / "data") == tmp_path / "data"
    assert read_tree(tmp_path / "data") == FILES
    assert own_files(tmp_path / "data") == {"archives.lock.json"}
    lock = json.loads((tmp_path / "data" / ".threecad" / "archives.lock.json").read_text())
    assert (lock["archives"][NAME]["size"], lock["archives"][NAME]["sha256"]) == (
        len(ARCHIVE),
        DIGEST,
    )
    assert set(lock["unpacked"]) == set(CATEGORIES)


def test_the_first_contact_asks_to_report_what_nobody_has_published(
    drive: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download(tmp_path)
    said = capsys.readouterr().err
    assert f"{len(ARCHIVE)} bytes, SHA-256 {DIGEST}" in said
    assert f"{len(FILES)} images and masks and the top folder '3CAD'" in said
    assert "please report this line" in said
    lock = tmp_path / ".threecad" / "archives.lock.json"
    assert json.loads(lock.read_text())["archives"][NAME]["folder"] == "3CAD"
    (tmp_path / sorted(FILES)[0]).unlink()
    download(tmp_path)
    assert "please report" not in capsys.readouterr().err
    assert read_tree(tmp_path) == FILES


@pytest.mark.parametrize(("prefix", "folder"), [("", ""), ("a/b/", "a/b"), (".\\data\\", "data")])
def test_the_top_folder_is_written_down_however_deep_it_lies(
    tmp_path: Path, prefix: str, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.zip"
    path.write_bytes(zip_bytes(FILES, prefix))
    download(tmp_path / "data", source=str(path))
    assert "please report" not in capsys.readouterr().err, "two categories from a file: not 3CAD"
    (archive,) = Provenance.load(tmp_path / "data").archives.values()
    assert archive.folder == folder


def test_a_lock_file_of_an_earlier_version_is_read(drive: FileServer, tmp_path: Path) -> None:
    get(tmp_path)
    lock = tmp_path / ".threecad" / "archives.lock.json"
    content = json.loads(lock.read_text())
    del content["archives"][NAME]["folder"]
    lock.write_text(json.dumps(content))
    assert Provenance.load(tmp_path).archives[NAME].folder is None
    assert get(tmp_path) == tmp_path


def test_the_default_root_is_the_users_or_the_one_named(
    drive: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THREECAD_ROOT", str(tmp_path / "named"))
    assert download(progress=False) == tmp_path / "named" == default_root()
    monkeypatch.delenv("THREECAD_ROOT")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "user"))
    assert default_root().name == "3CAD"


def test_what_is_there_is_not_fetched_again(drive: FileServer, tmp_path: Path) -> None:
    get(tmp_path)
    drive.requests.clear()
    get(tmp_path)
    get(tmp_path, categories=["CS"])
    get(tmp_path, sha256=DIGEST)
    assert drive.requests == []
    (tmp_path / sorted(FILES)[0]).unlink()
    get(tmp_path)
    assert read_tree(tmp_path) == FILES


def test_one_category_and_then_the_rest(drive: FileServer, tmp_path: Path) -> None:
    get(tmp_path, categories=["ACC"], keep_archive=True)
    assert {path.partition("/")[0] for path in read_tree(tmp_path)} == {"Aluminum_Camera_Cover"}
    drive.requests.clear()
    get(tmp_path)
    assert read_tree(tmp_path) == FILES
    assert drive.requests == []  # the archive was kept
    assert own_files(tmp_path) == {"archives.lock.json", "archives/3CAD-english.zip"}


def test_the_archive_alone(drive: FileServer, tmp_path: Path) -> None:
    path = get(tmp_path, extract=False)
    assert path.read_bytes() == ARCHIVE
    assert read_tree(tmp_path) == {}


def test_the_licence_question_is_said_once_and_before_the_first_byte(
    drive: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive.behaviour.cuts = [1000]
    download(tmp_path)
    err = capsys.readouterr().err
    assert err.count(LICENSE_NOTICE) == 1
    assert err.index(LICENSE_NOTICE) < err.index("B/s")
    assert "states no licence" in LICENSE_NOTICE
    download(tmp_path)
    assert LICENSE_NOTICE not in capsys.readouterr().err


def test_progress_shows_bytes_rate_and_time_left(
    drive: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drive.payload = zip_bytes(tree_files(size=40_000))
    drive.behaviour.delay = 0.05
    download(tmp_path)
    assert re.search(r"\d+%\|.*\d[kM]/\d.*<\d\d:\d\d, .*B/s\]", capsys.readouterr().err)


def test_the_first_download_binds_the_next_ones(drive: FileServer, tmp_path: Path) -> None:
    get(tmp_path)
    (tmp_path / sorted(FILES)[0]).unlink()
    drive.payload = zip_bytes(tree_files(seed=1))
    with pytest.raises(DownloadError, match=r"expected .*`force=True`|expected"):
        get(tmp_path)
    assert Provenance.load(tmp_path).archives[NAME].sha256 == DIGEST
    get(tmp_path, force=True)
    assert read_tree(tmp_path) == tree_files(seed=1)
    assert Provenance.load(tmp_path).archives[NAME].sha256 != DIGEST


def test_a_hash_of_the_users_is_enforced(drive: FileServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"SHA-256 {DIGEST}; expected 111"):
        get(tmp_path, sha256="1" * 64)
    assert read_tree(tmp_path) == {}
    assert Provenance.load(tmp_path).archives == {}
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        get(tmp_path, sha256="abc")
    get(tmp_path, sha256=DIGEST.upper())
    assert read_tree(tmp_path) == FILES


def test_editions_are_not_mixed(drive: FileServer, tmp_path: Path) -> None:
    get(tmp_path)
    with pytest.raises(DownloadError, match="holds Aluminum_Camera_Cover from drive:"):
        get(tmp_path, edition="pinyin")
    other = tmp_path / "other.zip"
    other.write_bytes(zip_bytes(tree_files(seed=1)))
    with pytest.raises(DownloadError, match="not known to be the same data as other"):
        get(tmp_path, source=str(other))
    assert read_tree(tmp_path) == FILES | {"other.zip": other.read_bytes()}


def test_two_archives_of_one_name_are_not_mixed(tmp_path: Path) -> None:
    one, two = tmp_path / "1" / "3CAD.zip", tmp_path / "2" / "3CAD.zip"
    for path, seed in ((one, 0), (two, 1)):
        path.parent.mkdir()
        path.write_bytes(zip_bytes(tree_files(seed=seed)))
    root = get(tmp_path / "data", source=str(one))
    with pytest.raises(DownloadError, match=r"another archive named 3CAD\.zip.*`force=True`"):
        get(root, source=str(two))
    assert read_tree(root) == FILES
    get(root, source=str(two), force=True)
    assert read_tree(root) == tree_files(seed=1)


def test_files_of_the_users_own_are_no_reason_to_fetch_again(
    drive: FileServer, tmp_path: Path
) -> None:
    get(tmp_path)
    (tmp_path / "Copper_Stator" / "train" / "good" / "mine.png").write_bytes(b"mine")
    drive.requests.clear()
    get(tmp_path)
    assert drive.requests == []


def test_the_same_archive_from_elsewhere_is_welcome(drive: FileServer, tmp_path: Path) -> None:
    get(tmp_path / "data", categories=["CS"])
    mine = tmp_path / "by-hand.zip"
    mine.write_bytes(ARCHIVE)
    get(tmp_path / "data", source=str(mine))
    assert read_tree(tmp_path / "data") == FILES
    assert mine.is_file()


def test_from_a_web_address_and_a_share_link(drive: FileServer, tmp_path: Path) -> None:
    drive.behaviour.confirm_page = False
    get(tmp_path / "a", source=f"{drive.url}/mirror/3CAD.zip?signature=secret")
    assert read_tree(tmp_path / "a") == FILES
    assert "secret" not in (tmp_path / "a" / ".threecad" / "archives.lock.json").read_text()
    get(tmp_path / "b", source=f"https://drive.google.com/file/d/{FILE_ID}/view?usp=sharing")
    assert Provenance.load(tmp_path / "b").complete == NAME


def test_from_a_zip_that_was_downloaded_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "3CAD.zip"
    path.write_bytes(ARCHIVE)
    with pytest.raises(DownloadError, match=f"SHA-256 {DIGEST}; expected 000"):
        get(tmp_path / "data", source=str(path), sha256="0" * 64)
    get(tmp_path / "data", source=str(path))
    assert read_tree(tmp_path / "data") == FILES
    assert path.read_bytes() == ARCHIVE


@pytest.mark.parametrize(
    ("page", "status", "said"),
    [
        (QUOTA_PAGE, 200, r"quota.*too many users.*24 hours.*--source /path/to/3CAD\.zip"),
        ('{"reason": "downloadQuotaExceeded"}', 403, "quota.*too many users"),
        ("<title>Access denied</title>", 403, "does not show file"),
        ("<title>Not found</title>", 404, "has no file .*EnquanYang2022/3CAD"),
        ("<title>Sorry</title>", 200, 'web page where data was expected: "Sorry"'),
        (
            '<form id="download-form"><input name="id" value="x"></form>',
            200,
            "keeps asking to confirm",
        ),
    ],
)
def test_what_drive_says_instead_of_data(
    drive: FileServer, tmp_path: Path, page: str, status: int, said: str
) -> None:
    drive.behaviour.page, drive.behaviour.page_status = page, status
    with pytest.raises(DownloadError, match=said):
        get(tmp_path)
    assert len(drive.requests) <= 2
    assert read_tree(tmp_path) == {}
    drive.behaviour.page = None
    get(tmp_path)
    assert read_tree(tmp_path) == FILES


def test_an_interrupted_drive_transfer_goes_on_behind_the_confirmation(
    drive: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threecad.fetching.transfer.time.sleep", lambda seconds: None)
    drive.behaviour.cuts = [10_000, 20_000]
    get(tmp_path)
    assert read_tree(tmp_path) == FILES
    assert [bool(span) for _, span, _ in drive.requests] == [False, False, True, True, True, True]


def test_a_truncated_archive_without_a_length_is_not_believed(
    drive: FileServer, tmp_path: Path
) -> None:
    drive.payload = ARCHIVE[: len(ARCHIVE) // 2]
    with pytest.raises(DownloadError, match=r"only the beginning of one.*kept as .*\.rejected"):
        get(tmp_path)
    assert Provenance.load(tmp_path).archives == {}
    drive.payload = ARCHIVE
    get(tmp_path)
    assert read_tree(tmp_path) == FILES


def test_an_archive_damaged_on_this_disk_is_fetched_again(
    drive: FileServer, tmp_path: Path
) -> None:
    archive = get(tmp_path, extract=False)
    archive.write_bytes(ARCHIVE[:-1] + b"x")
    get(tmp_path)
    assert read_tree(tmp_path) == FILES


def test_a_misspelt_category_is_refused_before_the_first_byte(
    drive: FileServer, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no category 'Aluminium_Ipda'.*Aluminum_Ipad \(AI\)"):
        get(tmp_path, categories=["Aluminium_Ipda"])
    with pytest.raises(ExtractionError, match="Iron_Stator"):
        get(tmp_path, categories=["CS", "Iron_Stator"])
    assert len(drive.requests) == 2


@pytest.mark.parametrize(
    ("source", "said"),
    [("drvie", "no such file"), ("s3://bucket/3CAD.zip", "no such file"), ("hf:3cad", "no repos")],
)
def test_a_source_that_is_none(tmp_path: Path, source: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        get(tmp_path, source=source)


def test_sources_have_names_without_secrets() -> None:
    web = parse_source("https://me:pw@example.org/a/3CAD.zip?token=t")
    assert re.fullmatch(r"https://example\.org/a/3CAD\.zip\?[0-9a-f]{12}", web.name)
    assert web.archive_name == "3CAD.zip"
    assert parse_source("https://example.org/..%2f..%2fevil").archive_name == "evil.zip"
    assert parse_source("https://huggingface.co/datasets/a/b").name == "hf:a/b"
    assert parse_source("hf:a/b@v1").revision == "v1"
    with pytest.raises(UsageError, match="english, pinyin"):
        parse_source("drive", "latin")


def test_a_lock_file_that_is_damaged_is_said(drive: FileServer, tmp_path: Path) -> None:
    (tmp_path / ".threecad").mkdir()
    (tmp_path / ".threecad" / "archives.lock.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        get(tmp_path)


def test_a_root_that_cannot_be_written(drive: FileServer, read_only_disk: Path) -> None:
    with pytest.raises(DownloadError, match=r"cannot be written.*`root` or THREECAD_ROOT"):
        get(read_only_disk)
    assert drive.requests == []


def test_room_to_unpack_is_asked_for_before_the_download(
    drive: FileServer, small_disk: Callable[[int], Path]
) -> None:
    drive.payload = zip_bytes(tree_files(size=40_000))
    disk = small_disk(int(1.5 * len(drive.payload)))
    with pytest.raises(DownloadError, match="with room to unpack it, needs"):
        get(disk)
    get(disk, extract=False)


def test_killed_again_and_again_while_downloading(drive: FileServer, tmp_path: Path) -> None:
    files = tree_files(per_folder=8, size=40_000)
    drive.payload = zip_bytes(files)
    part = tmp_path / ".threecad" / "archives" / "3CAD-english.zip.part"
    for fraction in (0.1, 0.4, 0.8):
        held = int(fraction * len(drive.payload))
        drive.behaviour.hold_at, drive.behaviour.go_on = held, threading.Event()
        process = subprocess.Popen([*COMMAND, "--root", tmp_path], stderr=subprocess.DEVNULL)
        wait_for(lambda held=held: part.is_file() and part.stat().st_size == held, process)
        process.kill()
        assert process.wait() == KILLED
        assert part.read_bytes() == drive.payload[:held]
        assert read_tree(tmp_path) == {}
        drive.behaviour.go_on.set()
    drive.requests.clear()
    get(tmp_path)
    assert read_tree(tmp_path) == files
    assert drive.requests[0][1]  # a range: what was there was not fetched again
    assert own_files(tmp_path) == {"archives.lock.json"}


def test_killed_again_and_again_while_unpacking(tmp_path: Path) -> None:
    files = tree_files(per_folder=300, size=3000)
    archive = tmp_path / "3CAD.zip"
    archive.write_bytes(zip_bytes(files))
    root = tmp_path / "data"
    command = [*COMMAND, "--root", root, "--source", archive, "--workers", "2"]
    killed = 0
    for _ in range(3):
        before = len(read_tree(root))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(lambda before=before: count_files(root) > before + 200, process)
        process.kill()
        killed += process.wait() == KILLED
        for name, content in read_tree(root).items():
            if atomic.TEMPORARY_PREFIX not in name:
                assert content == files[name], name
    assert killed
    get(root, source=str(archive))
    assert read_tree(root) == files


def count_files(root: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(root))


def test_a_second_download_into_the_same_root_waits_and_finds_it_done(
    drive: FileServer, tmp_path: Path
) -> None:
    drive.behaviour.hold_at = len(ARCHIVE) // 2
    command = [*COMMAND, "--root", tmp_path]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    part = tmp_path / ".threecad" / "archives" / "3CAD-english.zip.part"
    wait_for(part.is_file, first)
    refused = subprocess.run([*command, "--no-wait"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert f"Another download into {tmp_path} is running" in refused.stderr
    assert "Traceback" not in refused.stderr
    second = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert second.stderr
    assert "waiting for it to end" in second.stderr.readline()
    drive.behaviour.go_on.set()
    assert "Nothing to do" in second.communicate()[1]
    assert (first.wait(), second.returncode) == (0, 0)
    assert read_tree(tmp_path) == FILES
    assert drive.sent == len(ARCHIVE)


def test_textures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"banded/banded_0002.jpg": b"\xff\xd8one", "dotted/dotted_0001.jpg": b"\xff\xd8two"}
    members = [(f"dtd/images/{name}", content) for name, content in images.items()]
    content = tar_of(("dtd/labels/test1.txt", b"x"), *members, ("dtd/imdb/imdb.mat", b"x"))
    with FileServer(content) as server:
        folder = download_textures(tmp_path, url=f"{server.url}/dtd.tar.gz", progress=False)
        assert folder == textures_folder(tmp_path)
        assert read_tree(folder) == images
        download_textures(tmp_path, url=f"{server.url}/dtd.tar.gz", progress=False)
        assert len(server.requests) == 1
    assert not (folder.parent / "dtd.tar.gz").exists()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("dtd/images/banded/link.jpg", "/etc/passwd", "is a link"),
        ("dtd/images/../../../evil.jpg", b"x", "climbs out"),
        ("/dtd/images/banded/1.jpg", b"x", "absolute"),
        ("other/file.txt", b"x", "holds no image"),
    ],
)
def test_textures_from_a_hostile_archive(
    tmp_path: Path, name: str, content: bytes | str, said: str
) -> None:
    with (
        FileServer(tar_of((name, content))) as server,
        pytest.raises(ExtractionError, match=said),
    ):
        download_textures(tmp_path, url=f"{server.url}/dtd.tar.gz", progress=False)
    assert not list(tmp_path.rglob("*.jpg"))


def test_textures_from_a_damaged_archive(tmp_path: Path) -> None:
    content = tar_of(*((f"dtd/images/a/{n}.jpg", os.urandom(9999)) for n in range(9)))
    with (
        FileServer(content[: len(content) // 2]) as server,
        pytest.raises(ExtractionError, match="is damaged"),
    ):
        download_textures(tmp_path, url=f"{server.url}/dtd.tar.gz", progress=False)


def test_the_command_prints_the_root_and_nothing_else_on_stdout(
    drive: FileServer, tmp_path: Path
) -> None:
    result = CliRunner().invoke(main, ["download", "--root", str(tmp_path), "--category", "CS"])
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}\n")


def test_the_examples_of_the_help_run(
    drive: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THREECAD_ROOT", str(tmp_path / "default"))
    (tmp_path / "3CAD.zip").write_bytes(ARCHIVE)
    lines = re.findall(r"\$ threecad (.*)", main.commands["download"].epilog or "")
    assert len(lines) == 3
    for line in lines:
        result = CliRunner().invoke(main, line.split())
        assert result.exit_code == 0, result.output
    assert read_tree(tmp_path / "default") == read_tree(tmp_path / "data") == FILES


def test_the_command_says_a_mistake_in_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["download", "--root", str(tmp_path), "--source", "nope"])
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: source is nope, and there")


def test_cite() -> None:
    result = CliRunner().invoke(main, ["cite"])
    assert result.exit_code == 0
    assert result.stdout.count("@inproceedings{") == 2
    assert "3C Product Dataset" in result.stdout


@pytest.mark.slow
def test_a_stand_in_of_the_whole_archive_is_fetched_checked_and_indexed(
    drive: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """38,501 members of 245 image sizes; the connection is cut and the process killed."""
    tree = write_sample(tmp_path / "tree", like="genuine")
    files = {path.relative_to(tree).as_posix(): path for path in tree.glob("*/*/*/*.png")}
    archive = tmp_path / "3CAD.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for name in sorted(files):
            out.write(files[name], f"3CAD/{name}")
    drive.payload = archive.read_bytes()
    size = len(drive.payload)
    drive.behaviour.hold_at = size // 2
    root = tmp_path / "data"
    part = root / ".threecad" / "archives" / "3CAD-english.zip.part"
    process = subprocess.Popen([*COMMAND, "--root", root], stderr=subprocess.DEVNULL)
    wait_for(lambda: part.is_file() and part.stat().st_size >= size // 2, process)
    process.kill()
    assert process.wait() == KILLED
    drive.behaviour.go_on.set()
    drive.requests.clear()
    drive.behaviour.cuts = [size // 8]
    download(root)
    spans = [span for path, span, _ in drive.requests if "uuid" in path]
    starts = [int(str(span).removeprefix("bytes=").removesuffix("-")) for span in spans]
    assert len(starts) == 2, "once after the kill, once after the cut"
    assert 0.49 * size < starts[0] <= size // 2
    assert 0.61 * size < starts[1] < 0.64 * size
    said = capsys.readouterr().err
    assert "38501 images and masks and the top folder '3CAD'" in said
    assert f"{size} bytes, SHA-256 {hashlib.sha256(drive.payload).hexdigest()}" in said
    assert sum(1 for _ in root.glob("*/*/*/*.png")) == len(files) == 38_501
    for name in sorted(files)[::997]:
        assert (root / name).read_bytes() == files[name].read_bytes()
    index = scan(root)
    assert len(index) == 27_039
    assert not index.findings
