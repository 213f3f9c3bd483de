"""Archives: deep, foreign, broken and hostile ones."""

from __future__ import annotations

import contextlib
import io
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from archives import CATEGORIES, read_tree, tree_files, zip_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from threecad.errors import DownloadError, ExtractionError
from threecad.fetching.extraction import Extraction, extract, sweep
from threecad.fetching.member_names import Claims, is_wanted, safe_parts, tree_path
from threecad.system import atomic

FILES = tree_files()
GOOD = "3CAD/Copper_Stator/train/good/000001.png"


def unpack(content: bytes, folder: Path, **options: object) -> Extraction:
    path = folder / "archive.zip"
    path.write_bytes(content)
    return extract(path, folder / "root", progress=False, **options)  # type: ignore[arg-type]


def refused(content: bytes, folder: Path, match: str) -> None:
    """Check that ``content`` is refused with a sentence and that nothing at all was written."""
    with pytest.raises(ExtractionError, match=match):
        unpack(content, folder)
    assert read_tree(folder / "root") == {}
    assert {path.name for path in folder.iterdir()} == {"archive.zip", "root"}


def zip_of(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("prefix", ["", "3CAD/", "a/b/test/train/3CAD_english/", "./x/"])
def test_categories_are_found_however_deep(tmp_path: Path, prefix: str) -> None:
    done = unpack(zip_bytes(FILES, prefix), tmp_path)
    assert read_tree(tmp_path / "root") == FILES
    assert set(done.files) == set(CATEGORIES)
    assert (done.written, done.skipped) == (len(FILES), 0)
    assert sum(done.bytes.values()) == sum(map(len, FILES.values()))


@pytest.mark.parametrize("asked", ["Copper_Stator", "copper-stator", "CS"])
def test_only_the_categories_asked_for(tmp_path: Path, asked: str) -> None:
    unpack(zip_bytes(FILES), tmp_path, categories=[asked])
    wanted = {path: content for path, content in FILES.items() if path.startswith("Copper_Stator")}
    assert read_tree(tmp_path / "root") == wanted


def test_no_such_category_is_said(tmp_path: Path) -> None:
    with pytest.raises(ExtractionError, match="no image of the categories Iron_Stator"):
        unpack(zip_bytes(FILES), tmp_path, categories=["Iron_Stator"])


def test_workers_do_not_matter(tmp_path: Path) -> None:
    unpack(zip_bytes(FILES), tmp_path, workers=7)
    assert read_tree(tmp_path / "root") == FILES


def test_what_is_there_and_right_is_left_alone_and_what_is_wrong_is_replaced(
    tmp_path: Path,
) -> None:
    unpack(zip_bytes(FILES), tmp_path)
    root = tmp_path / "root"
    untouched, same_size, shorter, missing = sorted(FILES)[:4]
    (root / same_size).write_bytes(bytes(len(FILES[same_size])))
    (root / shorter).write_bytes(FILES[shorter][:10])
    (root / missing).unlink()
    before = (root / untouched).stat()
    done = unpack(zip_bytes(FILES), tmp_path)
    assert (done.written, done.skipped) == (3, len(FILES) - 3)
    assert read_tree(root) == FILES
    after = (root / untouched).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_left_overs_of_a_killed_process_are_swept(tmp_path: Path) -> None:
    folder = tmp_path / "Copper_Stator" / "train" / "good"
    folder.mkdir(parents=True)
    (folder / f"{atomic.TEMPORARY_PREFIX}0123.png").write_bytes(b"half")
    (folder / "000001.png").write_bytes(b"whole")
    assert sweep(tmp_path) == 1
    assert read_tree(tmp_path) == {"Copper_Stator/train/good/000001.png": b"whole"}


def test_what_systems_leave_behind_is_not_unpacked(tmp_path: Path) -> None:
    junk = {
        "__MACOSX/3CAD/Copper_Stator/train/good/._000001.png": b"x",
        "__MACOSX/Copper_Stator/train/good/000001.png": b"x",
        "Copper_Stator/train/good/._000001.png": b"x",
        "Copper_Stator/train/good/.DS_Store": b"x",
        "Copper_Stator/train/good/Thumbs.db": b"x",
        "Copper_Stator/train/good/setup.exe": b"x",
        "README.md": b"x",
    }
    done = unpack(zip_bytes(FILES | junk, ""), tmp_path)
    assert read_tree(tmp_path / "root") == FILES
    assert (done.ignored, done.left_out) == (len(junk), 0)


def test_images_outside_the_layout_are_counted(tmp_path: Path) -> None:
    outside = {"Copper_Stator/ground truth/dent/000001.png": b"x", "cover.jpg": b"x"}
    done = unpack(zip_bytes(FILES | outside, ""), tmp_path)
    assert read_tree(tmp_path / "root") == FILES
    assert done.left_out == 2


@pytest.mark.parametrize("encoding", ["gbk", "utf-8"])
def test_chinese_names_without_the_utf8_flag(tmp_path: Path, encoding: str) -> None:
    name = "三星/Copper_Stator/test/凹凸/000001.png"
    stand_in = "X" * len(name.encode(encoding))
    content = zip_of((stand_in, b"image")).replace(stand_in.encode(), name.encode(encoding))
    unpack(content, tmp_path)
    assert read_tree(tmp_path / "root") == {"Copper_Stator/test/凹凸/000001.png": b"image"}


def test_backslashes_of_old_windows_tools(tmp_path: Path) -> None:
    unpack(zip_of((GOOD.replace("/", "\\"), b"image")), tmp_path)
    assert read_tree(tmp_path / "root") == {"Copper_Stator/train/good/000001.png": b"image"}


def test_zip64(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open(GOOD, "w", force_zip64=True) as file:
        file.write(b"image")
    unpack(buffer.getvalue(), tmp_path)
    assert read_tree(tmp_path / "root") == {"Copper_Stator/train/good/000001.png": b"image"}


def test_one_archive_per_category_inside_the_archive(tmp_path: Path) -> None:
    inner = {
        f"{category}.zip": zip_bytes(
            {path: c for path, c in FILES.items() if path.startswith(category)}, ""
        )
        for category in CATEGORIES
    }
    unpack(zip_bytes(inner), tmp_path)
    assert read_tree(tmp_path / "root") == FILES
    assert not list((tmp_path / "root" / ".threecad").rglob("*.zip"))


def test_an_inner_archive_of_another_category_is_not_even_opened(tmp_path: Path) -> None:
    inner = {"Iron_Stator.zip": b"damaged", "CS.zip": zip_bytes(FILES, "")}
    unpack(zip_bytes(inner), tmp_path, categories=["Copper_Stator"])
    assert all(path.startswith("Copper_Stator") for path in read_tree(tmp_path / "root"))


def test_archives_nested_too_deep(tmp_path: Path) -> None:
    content = zip_bytes(FILES)
    for _ in range(3):
        content = zip_of(("inner.zip", content))
    refused(content, tmp_path, "nested more than 2 deep")


@pytest.mark.parametrize(
    "name",
    [
        "../evil/train/good/1.png",
        "3CAD/../../evil/train/good/1.png",
        "Copper_Stator/train/good/..\\..\\..\\1.png",
        "/etc/train/good/1.png",
        "\\\\server\\share\\train\\good\\1.png",
        "C:/Windows/train/good/1.png",
        "c:\\Windows\\train\\good\\1.png",
        "Copper_Stator/train/good/1.png:stream.png",
        "Copper_Stator/train/good/\x1b[2J.png",
        "../outside.txt",
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    info = zipfile.ZipInfo("X")
    info.filename = name
    refused(zip_of((GOOD, b"x"), (info, b"evil")), tmp_path, "Refused: .*not an archive to trust")


def test_names_too_long_for_most_systems(tmp_path: Path) -> None:
    content = zip_of((GOOD, b"x"), ("3CAD/Copper_Stator/train/good/" + "n" * 300 + ".png", b"y"))
    refused(content, tmp_path, "the name 'nnn.* has 304 bytes.*unpack it yourself")


@pytest.mark.parametrize("path", ["dent./1.png", "dent /1.png", "dent/1.png.", "dent/1.png "])
def test_names_that_windows_would_shorten(tmp_path: Path, path: str) -> None:
    content = zip_of((GOOD, b"x"), (f"3CAD v1./Copper_Stator/test/{path}", b"y"))
    refused(content, tmp_path, "ends in a dot or space")


@pytest.mark.parametrize("path", ["good/CON.png", "good/nul.tar.png", "lpt1/1.png", "Aux /1.png"])
def test_names_of_windows_devices(tmp_path: Path, path: str) -> None:
    content = zip_of((GOOD, b"x"), (f"3CAD/Copper_Stator/test/{path}", b"y"))
    refused(content, tmp_path, "is a device on Windows")


def test_names_that_only_begin_like_devices(tmp_path: Path) -> None:
    unpack(zip_of(("3CAD/Copper_Stator/test/contact/com10.png", b"y")), tmp_path)
    assert read_tree(tmp_path / "root") == {"Copper_Stator/test/contact/com10.png": b"y"}


def test_a_path_too_long_for_the_system(tmp_path: Path) -> None:
    (tmp_path / "archive.zip").write_bytes(zip_of((GOOD, b"x")))
    root = tmp_path.joinpath(*["d" * 200] * 25)
    with pytest.raises(DownloadError, match=r"longer than this system takes.*`root`"):
        extract(tmp_path / "archive.zip", root, progress=False)


@pytest.mark.parametrize(
    ("kind", "said"),
    [(stat.S_IFLNK, "is a link"), (stat.S_IFIFO, "neither file nor"), (stat.S_IFCHR, "neither")],
)
def test_links_and_devices(tmp_path: Path, kind: int, said: str) -> None:
    info = zipfile.ZipInfo("3CAD/Copper_Stator/train/good/000002.png")
    info.external_attr = (kind | 0o777) << 16
    refused(zip_of((GOOD, b"x"), (info, b"/etc/passwd")), tmp_path, said)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice(tmp_path: Path) -> None:
    refused(zip_of((GOOD, b"one"), (GOOD, b"two")), tmp_path, "would be one file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_file_twice_is_no_harm(tmp_path: Path) -> None:
    done = unpack(zip_of((GOOD, b"one"), (GOOD, b"one")), tmp_path)
    assert done.written == 1


@pytest.mark.parametrize(
    ("one", "two", "said"),
    [
        ("Copper_Stator/test/dent/a.png", "Copper_Stator/test/dent/A.PNG", "would be one file"),
        ("Copper_Stator/test/dent/é.png", "Copper_Stator/test/dent/e\u0301.png", "be one file"),
        ("Copper_Stator/test/dent/1.png", "Copper_Stator/test/Dent/2.png", "are one folder"),
        ("Copper_Stator/test/dent/1.png", "Copper_Stator/test/dent /2.png", "are one folder"),
        ("x/Copper_Stator/test/dent/1.png", "y/Copper_Stator/test/dent/1.png", "be one file"),
    ],
)
def test_names_that_collide_on_other_systems(tmp_path: Path, one: str, two: str, said: str) -> None:
    refused(zip_of((one, b"one"), (two, b"two")), tmp_path, said)


def test_an_encrypted_archive(tmp_path: Path) -> None:
    content = bytearray(zip_of((GOOD, b"x")))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    refused(bytes(content), tmp_path, "is encrypted")


def test_a_compression_method_we_do_not_read(tmp_path: Path) -> None:
    content = bytearray(zip_of((GOOD, b"x")))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + offset] = 9  # Deflate64
    refused(bytes(content), tmp_path, "compressed with method 9")


def test_a_member_that_claims_what_deflate_cannot_do(tmp_path: Path) -> None:
    content = bytearray(zip_of((GOOD, b"x" * 100)))
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 24, 200_000_000)
    refused(bytes(content), tmp_path, "as in a zip bomb")


def test_a_bomb_by_ratio(tmp_path: Path) -> None:
    zeros = bytes(20 << 20)
    members = [(f"3CAD/Copper_Stator/train/good/{n:06d}.png", zeros) for n in range(14)]
    refused(zip_of(*members), tmp_path, "as in a zip bomb")


def test_an_image_too_large_to_be_one(tmp_path: Path) -> None:
    content = bytearray(zip_of((GOOD, random.Random(0).randbytes(1 << 20))))
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 24, 300 << 20)
    refused(bytes(content), tmp_path, "no image of 3CAD is that large")


def test_members_that_overlap(tmp_path: Path) -> None:
    content = bytearray(zip_of((GOOD, random.Random(0).randbytes(5000))))
    directory = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    entry = content[directory:end]
    entries = b""
    for number in range(2, 6):  # many names for the same bytes
        entries += entry.replace(b"000001.png", b"00000%d.png" % number)
    tail = bytearray(content[end:])
    struct.pack_into("<HHLL", tail, 8, 5, 5, len(entry) + len(entries), directory)
    refused(bytes(content[:end] + entries + tail), tmp_path, "members overlap")


def test_an_archive_larger_than_the_disk(tmp_path: Path, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(1 << 20)
    path = tmp_path / "archive.zip"
    path.write_bytes(zip_bytes(tree_files(per_folder=20, size=20_000)))
    with pytest.raises(DownloadError, match=r"free, but unpacking needs 2\.\d MB"):
        extract(path, disk / "root", progress=False)
    assert read_tree(disk) == {}


def test_a_disk_that_fills_up_leaves_whole_files_and_the_next_run_goes_on(
    tmp_path: Path, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tree_files(per_folder=20, size=20_000)
    path = tmp_path / "archive.zip"
    path.write_bytes(zip_bytes(files))
    disk = small_disk(4 << 20)
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(3 << 20))
    with monkeypatch.context() as patch:  # as if the ballast came after the check
        patch.setattr("threecad.fetching.archives.require_room", lambda *_: None)
        with pytest.raises(DownloadError, match=r"is full. Nothing is lost"):
            extract(path, disk, progress=False, workers=2)
    ballast.unlink()
    there = read_tree(disk)
    assert 0 < len(there) < len(files)
    assert all(files[name] == content for name, content in there.items())
    done = extract(path, disk, progress=False)
    assert done.skipped == len(there)
    assert read_tree(disk) == files


def test_a_root_that_cannot_be_written(tmp_path: Path, read_only_disk: Path) -> None:
    path = tmp_path / "archive.zip"
    path.write_bytes(zip_bytes(FILES))
    with pytest.raises(DownloadError, match="cannot be written"):
        extract(path, read_only_disk, progress=False)


@settings(max_examples=30, deadline=None)
@given(keep=st.floats(0, 0.999))
def test_truncated_anywhere(tmp_path_factory: pytest.TempPathFactory, keep: float) -> None:
    content = zip_bytes(FILES)
    folder = tmp_path_factory.mktemp("truncated")
    with pytest.raises(ExtractionError, match="not a zip, or only the beginning of one"):
        unpack(content[: int(keep * len(content))], folder)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever a few wrong bytes do, every file that is there is whole and where it belongs."""
    content = bytearray(zip_bytes(FILES))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    with contextlib.suppress(ExtractionError):
        unpack(bytes(content), folder)
    there = read_tree(folder / "root")
    contents = set(FILES.values())
    for name, value in there.items():
        assert value in contents
        assert len(PurePosixPath(name).parts) == 4


def test_a_damaged_member_is_left_out_and_named(tmp_path: Path) -> None:
    content = bytearray(zip_bytes(FILES))
    damaged = "Copper_Stator/train/good/000002.png"
    with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
        info = archive.getinfo(f"3CAD/{damaged}")
    content[info.header_offset + 30 + len(info.filename) + 50] ^= 0xFF
    with pytest.raises(ExtractionError, match=f"1 of {len(FILES)} files .* damaged.*{damaged}"):
        unpack(bytes(content), tmp_path)
    expected = {name: value for name, value in FILES.items() if name != damaged}
    assert read_tree(tmp_path / "root") == expected


def test_something_else_than_a_zip_and_nothing_at_all(tmp_path: Path) -> None:
    refused(b"<html>", tmp_path, "not a zip")
    with pytest.raises(ExtractionError, match="There is no file"):
        extract(tmp_path / "none.zip", tmp_path / "root")
    with pytest.raises(ExtractionError, match="is a folder"):
        extract(tmp_path, tmp_path / "root")


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    refused(zip_of(("holiday/beach.png", b"x")), tmp_path, "holds no image")


@given(st.text(max_size=60))
def test_safe_names_never_leave_their_folder(name: str) -> None:
    try:
        parts = safe_parts(name)
    except ExtractionError:
        return
    path = PurePosixPath("/root").joinpath(*parts)
    assert path.is_relative_to("/root")
    assert ".." not in path.parts
    assert len(path.parts) == len(parts) + 2


@given(st.lists(st.text("aAäÄ. /", min_size=1, max_size=6), max_size=8))
def test_claimed_paths_are_different_files_on_every_system(names: list[str]) -> None:
    claims, taken = Claims(), []
    for number, name in enumerate(names):
        path = PurePosixPath("c") / name.strip("/")
        try:
            claims.add(path, f"{number}:{name}", number)
        except ExtractionError:
            continue
        taken.append(path)
    folded = [str(path).casefold() for path in taken]
    assert len(set(folded)) == len(folded)


def test_where_an_image_belongs() -> None:
    assert tree_path(("3CAD", "X", "Test", "dent", "1.PNG")) == PurePosixPath("X/test/dent/1.PNG")
    assert tree_path(("X", "train", "1.png")) is None
    assert tree_path(("X", "other", "good", "1.png")) is None
    assert is_wanted("anything", None)
    assert is_wanted("My_Part", ("My_Part",))
    assert not is_wanted("My_Part", ("Iron_Stator",))
