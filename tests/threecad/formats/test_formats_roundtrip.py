"""From 3CAD to every format and back, with nothing lost."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_trees import content, write_hard_tree
from scipy import ndimage

from threecad import scan
from threecad.errors import ConversionError
from threecad.formats import FORMATS, Conversion, Decisions, convert, detect

BOTH_WAYS = sorted(name for name, layout in FORMATS.items() if layout.read and layout.write)


@pytest.fixture(scope="module")
def hard_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hard_tree(tmp_path_factory.mktemp("hard") / "3cad")


# What a format needs before it can be written.
NEEDS: dict[str, dict[str, bool]] = {"yolo": {"supervised": True}}


def _write(tree: Path, folder: Path, name: str, **options: Any) -> Conversion:
    return convert(tree, folder, to=name, **{"workers": 0, **NEEDS.get(name, {}), **options})


def _files(folder: Path) -> dict[str, bytes]:
    """Return every file but the record of the conversion, which names its folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("conversion.jsonl", "import.json")
    }


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_there_and_back_keeps_every_id_pixel_and_mask(
    name: str, hard_tree: Path, tmp_path: Path
) -> None:
    _write(hard_tree, tmp_path / "there", name)
    assert detect(tmp_path / "there")[0] == name
    convert(tmp_path / "there", tmp_path / "back", from_=name, workers=0)
    expected = content(hard_tree)
    if name == "yolo":  # it has no holes: they come back filled, and nothing else changes
        expected = {key: (*image, _filled(mask)) for key, (*image, mask) in expected.items()}
    assert content(tmp_path / "back") == expected


def _filled(mask: bytes | None) -> bytes | None:
    if mask is None:
        return None
    pixels = np.frombuffer(mask, np.bool_).reshape(40, 50)
    return ndimage.binary_fill_holes(pixels).tobytes()


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_result_does_not_depend_on_the_number_of_workers(
    name: str, hard_tree: Path, tmp_path: Path
) -> None:
    for workers in (0, 2):
        convert(
            hard_tree,
            tmp_path / str(workers) / "out",
            to=name,
            workers=workers,
            **NEEDS.get(name, {}),
        )
    one, two = (_files(tmp_path / workers / "out") for workers in ("0", "2"))
    assert one == two


@pytest.mark.parametrize("name", BOTH_WAYS)
def test_linked_images_share_their_bytes(name: str, hard_tree: Path, tmp_path: Path) -> None:
    result = convert(
        hard_tree, tmp_path / "there", to=name, placement="link", workers=0, **NEEDS.get(name, {})
    )
    if "embedded" in result.images:
        pytest.skip(f"{name} embeds its images")
    anew = result.notes.get("images encoded as PNG", 0)  # Croissant knows no BMP
    assert result.images["linked"] == len(scan(hard_tree)) - anew
    sources = {
        sample.image.stat().st_ino
        for sample in scan(hard_tree)
        if not (anew and sample.image.suffix == ".bmp")
    }
    files = {path.stat().st_ino for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert sources <= files


def test_any_format_becomes_any_other(hard_tree: Path, tmp_path: Path) -> None:
    names = [name for name in BOTH_WAYS if name not in ("3cad", "yolo")]
    last, last_name = hard_tree, "3cad"
    for first, second in itertools.pairwise(["3cad", *names, "3cad"]):
        target = tmp_path / f"{first}-{second}"
        convert(last, target, from_=last_name, to=second, workers=0)
        last, last_name = target, second
    assert content(last) == content(hard_tree)


def test_one_category_only(hard_tree: Path, tmp_path: Path) -> None:
    convert(hard_tree, tmp_path / "there", to="coco", categories=["Iron_Stator"], workers=0)
    convert(tmp_path / "there", tmp_path / "back", from_="coco", workers=0)
    expected = scan(hard_tree, categories=["Iron_Stator"])
    assert [sample.id for sample in scan(tmp_path / "back")] == [sample.id for sample in expected]


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_lost_parquet_shard_is_not_passed_over(
    hard_tree: Path, tmp_path: Path, damage: str
) -> None:
    convert(hard_tree, tmp_path / "written", to="parquet", shard_bytes=2000, workers=0)
    shards = sorted((tmp_path / "written").rglob("train-00000-of-*.parquet"))
    assert not shards[0].name.endswith("of-00001.parquet")
    if damage == "cut":
        shards[0].write_bytes(shards[0].read_bytes()[:200])
    else:
        shards[0].unlink()
    with pytest.raises(ConversionError, match=r"Get (it again|the others)"):
        convert(tmp_path / "written", tmp_path / "back", to="3cad", workers=0)
    assert not (tmp_path / "back").exists()


def test_rows_that_were_lost_on_the_way_are_counted(hard_tree: Path, tmp_path: Path) -> None:
    convert(hard_tree, tmp_path / "written", to="anomalib", workers=0)
    table = sorted((tmp_path / "written").glob("*.csv"))[0]
    table.write_bytes(b"".join(table.read_bytes().splitlines(keepends=True)[:-2]))
    with pytest.raises(ConversionError, match=r"Not said to be good or defective \(2\)"):
        convert(tmp_path / "written", tmp_path / "back", to="3cad", workers=0)
    skip = Decisions(unlabelled="skip")
    back = convert(tmp_path / "written", tmp_path / "back", to="3cad", decisions=skip, workers=0)
    assert back.notes["images-lost"] == 2
    other = [name for name in back.counts if name != table.stem]
    part = convert(
        tmp_path / "written",
        tmp_path / "part",
        to="3cad",
        categories=other,
        decisions=skip,
        workers=0,
    )
    assert "images-lost" not in part.notes
