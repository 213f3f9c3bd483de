"""Which images files, folders, patterns and trees stand for."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from cfrg.images.sources import find_images
from threecad import scan
from threecad.errors import DataError


def test_a_tree_gives_the_samples_of_a_split(sample_tree: Path) -> None:
    test = scan(sample_tree).select(split="test")
    assert find_images([sample_tree]) == sorted((s.id, s.image) for s in test)
    chosen = find_images([sample_tree], category="Copper_Stator", split="train")
    assert chosen
    assert all(name.startswith("Copper_Stator/train/") for name, _ in chosen)


def test_a_folder_gives_its_images_by_relative_path(tmp_path: Path) -> None:
    (tmp_path / "line 1").mkdir()
    for name in ("line 1/a.PNG", ".hidden.png", "b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert [name for name, _ in find_images([tmp_path])] == ["b", "line 1/a"]
    assert find_images([tmp_path / "b.png"]) == [("b", tmp_path / "b.png")]


def test_images_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file or folder"):
        find_images([tmp_path / "nowhere"])
    with pytest.raises(DataError, match="There is no image in"):
        find_images([tmp_path])
    with pytest.raises(DataError, match="There is no image in"):
        find_images([tmp_path / "*.png"])


def test_patterns_are_followed(tmp_path: Path) -> None:
    (tmp_path / "line 1").mkdir()
    for name in ("line 1/a.png", "line 1/b.jpg", "c.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert [name for name, _ in find_images([tmp_path / "**" / "*.png"])] == ["c", "line 1/a"]
    assert [name for name, _ in find_images([tmp_path / "line*" / "*"])] == ["line 1/a", "line 1/b"]


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (40, 40)).save(tmp_path / folder / "a.png")
    with pytest.raises(DataError, match="both have the id 'a'"):
        find_images([tmp_path / "x", tmp_path / "y"])


def test_the_same_file_twice_is_one_image(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    assert find_images([tmp_path, tmp_path / "a.png"]) == [("a", tmp_path / "a.png")]


@pytest.mark.parametrize("name", ["a.webp", "a.gif", "a.TIFF"])
def test_what_pillow_reads_is_an_image(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert find_images([tmp_path]) == [("a", tmp_path / name)]


def test_a_single_category_is_refused_as_its_masks_would_pass_for_photographs(
    sample_tree: Path,
) -> None:
    with pytest.raises(DataError, match=r"is a single category\. Name the folder that holds it"):
        find_images([sample_tree / "Copper_Stator"])


def test_what_lies_in_the_folder_besides_is_passed_over(tmp_path: Path) -> None:
    for name in ("a.png", "found/overlays/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert [name for name, _ in find_images([tmp_path])] == ["a", "found/overlays/a"]
    assert [name for name, _ in find_images([tmp_path], besides=tmp_path / "found")] == ["a"]
