from __future__ import annotations

import ast
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import threecad.procedural
from threecad.dataset.catalog import CATEGORIES
from threecad.errors import UsageError
from threecad.procedural import (
    DEFECT_TYPES,
    MULTIPLE_DEFECTS,
    SAMPLE_MARKER,
    render,
    texture,
    write_sample,
    writing,
)
from threecad.procedural.rendering import folders, render_pair

# SHA-256 of the decoded pixels of every folder's first image at 96 pixels and seed 0, made once and
# the same with Python 3.10 and NumPy 1.26 as with Python 3.13 and the newest NumPy.
GOLDEN = {
    "Aluminum_Camera_Cover": "981d7e7373ff5bc7b9ea3363b963e079a6e5e10a2197d738ad5a78ce286e265d",
    "Aluminum_Ipad": "acdd03af54958293c108dcc869fff4af9ee75714d7764bb1a092d9e8e1d02c8a",
    "Aluminum_Middle_Frame": "d913f379e79c6317022a77961970caf3b3350e9306ef0f84e1eb63b79bc6b2a6",
    "Aluminum_New_Ipad": "cfe3283ad36e64feadb2cc0fe6839254380b7a7c06c57674ea94c0806861fd27",
    "Aluminum_New_Middle_Frame": "c7a662a17d67d5656290e7bde93713b3a76293f0295d385cb8bd6d1dade7a3f1",
    "Aluminum_Pc": "e591e35cd3a30e12ae8e098b27482f41d0b3911f40a485584b966e65bbe92411",
    "Copper_Stator": "a187548b1eef16b389f5b4cf7a2a9e378326aa5771877ba39589d42e915a4c02",
    "Iron_Stator": "f27962721865b507c394f84839b0151b503d569b7c3815ec2f9621a85f530ed9",
}
GOLDEN_TEXTURES = "09fd2d3440da4f5f2e0d0a7dad82be53e42cfada8ca12238987a452ec5f5ad08"

EVERY_FOLDER = [(category, folder) for category in CATEGORIES for folder in folders(category)]


def digest(*arrays: np.ndarray) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(f"{array.shape}{array.dtype.name}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def pixels(root: Path) -> dict[str, str]:
    """The digest of the decoded pixels of every image below `root`."""
    return {
        path.relative_to(root).as_posix(): digest(read(path))
        for path in sorted(root.rglob("*.png"))
    }


@pytest.mark.parametrize("category", CATEGORIES)
def test_pixels_are_the_golden_ones(category: str) -> None:
    drawn = [render(category, split, None, 0, size=96) for split in ("train", "test")]
    drawn += [render(category, "test", folder, 0, size=96) for folder in folders(category)]
    assert digest(*(array for pair in drawn for array in pair)) == GOLDEN[category]


def test_textures_are_the_golden_ones() -> None:
    assert digest(*(texture(index, 48) for index in range(32))) == GOLDEN_TEXTURES


def test_only_correctly_rounded_operations_are_used() -> None:
    """No sine, power or sum whose last bit depends on the C library, the CPU or NumPy's version."""
    allowed = {
        "abs", "any", "arange", "argmin", "asarray", "ascontiguousarray", "bool_", "concatenate",
        "empty_like", "flatnonzero", "float64", "floor", "full", "int64", "max", "maximum", "min",
        "minimum", "ones", "roll", "sqrt", "stack", "uint64", "uint8", "where", "zeros",
    }  # fmt: skip
    for path in Path(threecad.procedural.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("random.") == text.count("np.random.Philox(")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "np" and node.attr != "random":
                    assert node.attr in allowed, f"{path}: np.{node.attr}"
                if node.value.id == "math":
                    assert node.attr in {"floor", "prod", "sqrt"}, f"{path}: math.{node.attr}"
            if isinstance(node, ast.BinOp):
                assert not isinstance(node.op, ast.MatMult | ast.Pow), path


def test_number_of_types_is_the_published_one() -> None:
    for name, category in CATEGORIES.items():
        assert len(set(DEFECT_TYPES[name])) == category.defect_types
        assert (MULTIPLE_DEFECTS in folders(name)) == (category.types_per_image[1] > 1)


@pytest.mark.parametrize("category", CATEGORIES)
def test_images_of_a_category_differ_and_have_several_sizes(category: str) -> None:
    images = [
        render(category, split, None, number, seed=seed, size=64)[0]
        for split in ("train", "test")
        for number in range(6)
        for seed in (0, 1)
    ]
    assert len({image.tobytes() for image in images}) == len(images)
    shapes = {image.shape for image in images}
    assert max(max(shape) for shape in shapes) == 64
    fixed = CATEGORIES[category].heights[0] == CATEGORIES[category].heights[1]
    assert (len(shapes) == 1) == fixed


@pytest.mark.parametrize(("category", "folder"), EVERY_FOLDER)
def test_mask_is_where_the_image_differs_from_the_undamaged_one(category: str, folder: str) -> None:
    for number in range(2):
        image, mask, clean = render_pair(category, "test", folder, number, seed=3, size=96)
        assert image.shape == (*mask.shape, 3)
        assert set(np.unique(mask)) == {0, 255}
        changed = np.any(image != clean, axis=2)
        assert not np.any(changed & (mask == 0))
        assert np.mean(changed[mask > 0]) > 0.5


def test_every_region_of_a_mask_holds_a_changed_pixel() -> None:
    from threecad.images.regions import label_regions

    for category, folder in EVERY_FOLDER[::4]:
        image, mask, clean = render_pair(category, "test", folder, 5, seed=1, size=96)
        labels = label_regions(mask > 0)
        changed = np.any(image != clean, axis=2)
        assert set(labels[changed]) == set(range(1, labels.max() + 1))


def test_good_images_have_empty_masks() -> None:
    image, mask = render("Iron_Stator", "test", None, 0, size=64)
    assert mask.shape == image.shape[:2]
    assert not mask.any()


def test_defects_are_tiny_and_large_faint_and_plain() -> None:
    shares, steps = [], []
    for category, folder in EVERY_FOLDER:
        image, mask, clean = render_pair(category, "test", folder, 0, seed=2, size=128)
        shares.append(np.count_nonzero(mask) / mask.size)
        steps.append(np.mean(np.abs(image.astype(int) - clean).max(axis=2)[mask > 0]))
    assert min(shares) < 0.0025
    assert max(shares) > 0.03
    assert min(steps) < 6  # of 255; the noise of the sensor is about 1.5
    assert max(steps) > 40


def test_some_images_hold_several_regions() -> None:
    from threecad.images.regions import label_regions

    counts = [
        label_regions(render(category, "test", folder, 1, size=96)[1] > 0).max()
        for category, folder in EVERY_FOLDER
    ]
    assert 1 in counts
    assert max(counts) > 3


def test_the_same_part_shows_at_every_size() -> None:
    small, _ = render("Aluminum_Ipad", "test", None, 1, size=64)
    large, _ = render("Aluminum_Ipad", "test", None, 1, size=128)
    assert large.shape[:2] == (2 * small.shape[0], 2 * small.shape[1])
    halved = large.reshape(small.shape[0], 2, small.shape[1], 2, 3).mean(axis=(1, 3))
    assert np.corrcoef(halved.ravel(), small.ravel())[0, 1] > 0.95


def test_sample_has_the_layout_of_3cad(tmp_path: Path) -> None:
    names = ["Aluminum_Ipad", "Copper_Stator"]
    root = write_sample(tmp_path / "3cad", per_category=5, size=64, seed=7, categories=["CS", "AI"])
    assert root == (tmp_path / "3cad").resolve()
    assert sorted(path.name for path in root.iterdir()) == [".threecad", *names]
    stems = [f"{number:06d}.png" for number in range(5)]
    for name in names:
        for split in ("train", "test"):
            assert sorted(p.name for p in (root / name / split / "good").iterdir()) == stems
        assert [path.name for path in (root / name / "train").iterdir()] == ["good"]
        defective = sorted((root / name / "test").glob("*/*.png"))
        defective = [path for path in defective if path.parent.name != "good"]
        assert len(defective) == 5
        assert {path.parent.name for path in defective} == set(folders(name))
        for path in defective:
            image = read(path)
            mask = read(root / name / "ground_truth" / path.relative_to(root / name / "test"))
            assert (image.dtype, mask.dtype) == (np.uint8, np.uint8)
            assert image.shape == (*mask.shape, 3)
            assert set(np.unique(mask)) == {0, 255}
        assert len(list((root / name / "ground_truth").rglob("*.png"))) == 5
    marker = json.loads((root / SAMPLE_MARKER).read_text())
    assert marker["seed"] == 7
    assert marker["size"] == 64
    assert marker["categories"] == names


def test_every_defect_type_occurs_once_there_are_enough_images(tmp_path: Path) -> None:
    root = write_sample(tmp_path / "s", per_category=14, size=64, categories=["AP"], workers=0)
    found = {path.name for path in (root / "Aluminum_Pc" / "ground_truth").iterdir()}
    assert found == set(DEFECT_TYPES["Aluminum_Pc"])


def test_more_images_change_none_and_workers_do_not_matter(tmp_path: Path) -> None:
    few = write_sample(tmp_path / "few", per_category=6, size=64, categories=["IS"], workers=0)
    many = write_sample(tmp_path / "many", per_category=9, size=64, categories=["IS"], workers=2)
    few_pixels, many_pixels = pixels(few), pixels(many)
    assert few_pixels.items() < many_pixels.items()
    image, mask = render("Iron_Stator", "test", "chip", 1, size=64)
    assert many_pixels["Iron_Stator/test/chip/000001.png"] == digest(image)
    assert many_pixels["Iron_Stator/ground_truth/chip/000001.png"] == digest(mask)


def test_an_earlier_sample_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "s"
    write_sample(out, per_category=1, size=64, categories=["CS"], workers=0)
    before = pixels(out)
    with pytest.raises(UsageError, match="--force"):
        write_sample(out, per_category=1, size=64, seed=1, categories=["CS"], workers=0)
    assert pixels(out) == before
    write_sample(out, per_category=1, size=64, seed=1, categories=["CS"], workers=0, force=True)
    assert pixels(out).keys() == before.keys()
    assert pixels(out) != before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_foreign_files_are_never_touched(tmp_path: Path) -> None:
    real = tmp_path / "3CAD"
    (real / "Copper_Stator").mkdir(parents=True)
    (real / "Copper_Stator" / "photo.png").write_bytes(b"precious")
    with pytest.raises(UsageError, match="not empty and is no earlier sample"):
        write_sample(real, per_category=1, size=64, workers=0, force=True)
    assert (real / "Copper_Stator" / "photo.png").read_bytes() == b"precious"
    with pytest.raises(UsageError, match="is a file"):
        write_sample(real / "Copper_Stator" / "photo.png", workers=0, force=True)


def test_an_empty_folder_is_filled_and_the_current_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    monkeypatch.chdir(out)
    with pytest.raises(UsageError, match="current folder"):
        write_sample(".", per_category=1, size=64, workers=0)
    monkeypatch.chdir(tmp_path)
    write_sample(out, per_category=1, size=64, categories=["ACC"], workers=0)
    assert (out / SAMPLE_MARKER).is_file()


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        if arguments[3] == 1:
            raise OSError(28, "No space left on device")
        return render(*arguments, **options)

    monkeypatch.setattr(writing, "render", fail)
    with pytest.raises(OSError, match="No space left"):
        write_sample(tmp_path / "s", per_category=2, size=64, categories=["CS"], workers=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_leaves_no_half_sample(tmp_path: Path) -> None:
    out = tmp_path / "s"
    code = f"from threecad.procedural import write_sample; write_sample({str(out)!r}, workers=0)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3])
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob("*.png")):
            assert process.poll() is None, "the process ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not out.exists()
    write_sample(out, per_category=1, size=64, categories=["CS"], workers=0)
    assert (out / SAMPLE_MARKER).is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_category": 0}, "per_category is 0"),
        ({"size": 63}, "size is 63"),
        ({"categories": ["Bottle"]}, "'Bottle'"),
        ({"categories": []}, "No category is named"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        write_sample(tmp_path / "s", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Bottle", "test", None, 0), "No category 'Bottle'"),
        (("Iron_Stator", "val", None, 0), "split is 'val'"),
        (("Iron_Stator", "test", "dent", 0), "No defect type 'dent'"),
        (("Copper_Stator", "test", MULTIPLE_DEFECTS, 0), "No defect type"),
    ],
)
def test_images_that_do_not_exist_are_refused(
    arguments: tuple[str, str, str | None, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        render(*arguments)


def test_textures_vary_in_hue_contrast_and_scale() -> None:
    images = [texture(index, 64) for index in range(64)]
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in images)
    assert len({image.tobytes() for image in images}) == 64
    assert texture(3, 64, seed=1).tobytes() != images[3].tobytes()
    contrasts = [image.std() for image in images]
    colourful = [np.ptp(image.mean(axis=(0, 1))) for image in images]
    steps = [np.abs(np.diff(image.astype(float), axis=1)).mean() / image.std() for image in images]
    assert min(contrasts) > 2
    assert max(contrasts) > 4 * min(contrasts)
    assert min(colourful) < 5
    assert max(colourful) > 80
    assert max(steps) > 5 * min(steps)
    with pytest.raises(UsageError, match=r"texture\(-1, 64\)"):
        texture(-1, 64)


def test_command_writes_a_sample(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from threecad.cli import main

    out = tmp_path / "s"
    arguments = ["sample", str(out), "--per-category", "1", "--size", "64", "--category", "CS"]
    first = CliRunner().invoke(main, [*arguments, "--workers", "0", "--seed", "5"])
    assert first.exit_code == 0, first.output
    assert json.loads((out / SAMPLE_MARKER).read_text())["seed"] == 5
    second = CliRunner().invoke(main, arguments)
    assert second.exit_code == 2
    assert "--force" in second.output
    assert "Traceback" not in second.output


def test_sample_is_read_by_scan(tmp_path: Path) -> None:
    from threecad.dataset.scanning import scan

    root = write_sample(tmp_path / "s", per_category=2, size=64, categories=["AI"], workers=0)
    index = scan(root)
    assert len(index) == 6
    assert not index.findings
    assert sum(sample.mask is not None for sample in index) == 2
