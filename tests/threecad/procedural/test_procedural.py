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
from threecad.dataset.archive_facts import archive_facts
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
from threecad.procedural.defects import DRAWINGS
from threecad.procedural.fields import Stream
from threecad.procedural.planning import plan_archive, plan_sample
from threecad.procedural.published import AREAS, SIZES, draw_area, stand_in_sizes
from threecad.procedural.rendering import folders, render_pair

# SHA-256 of the decoded pixels of every folder's first image at 96 pixels and seed 0, made once and
# the same with Python 3.10 and NumPy 1.26 as with Python 3.13 and the newest NumPy.
GOLDEN = {
    "Aluminum_Camera_Cover": "1a1f39d86bf191ec6676a0c2933254f61a7a44f80fd73236ab6770c5cbd297fc",
    "Aluminum_Ipad": "788070ae92837207421880a245f1c371001ad2f417c6cc7007b35d136b934671",
    "Aluminum_Middle_Frame": "badbe4670714699068e34f444c4a8de351554414908e4329c5b8093cfe9cb075",
    "Aluminum_New_Ipad": "a8743fc666c5dc0f3c0e1b1964c8049c962583cdfe399c4dbfa173a48eb4e6c7",
    "Aluminum_New_Middle_Frame": "debb5bb9d140a5c3b698937aa0db7b0a487f86af7157d659b85af1db1f315783",
    "Aluminum_Pc": "b6451c8a10dc266e4b754c1c22952b4a837723387a3b0b1a046c7debd4cfea9a",
    "Copper_Stator": "a187548b1eef16b389f5b4cf7a2a9e378326aa5771877ba39589d42e915a4c02",
    "Iron_Stator": "311f3ffd9bae52eb60a73ae90ce458ef4b2f3764e2e6a20d681a3427e7de3509",
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
        "count_nonzero", "empty_like", "flatnonzero", "float64", "floor", "full", "int64", "max",
        "maximum", "min", "minimum", "ones", "roll", "sqrt", "stack", "uint64", "uint8", "where",
        "zeros",
    }  # fmt: skip
    for path in Path(threecad.procedural.__file__).parent.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("random.") == text.count("np.random.Philox(")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if node.value.id == "np" and node.attr != "random":
                    assert node.attr in allowed, f"{path}: np.{node.attr}"
                if node.value.id == "math":
                    assert node.attr in {"floor", "inf", "prod", "sqrt"}, (
                        f"{path}: math.{node.attr}"
                    )
            if isinstance(node, ast.BinOp):
                assert not isinstance(node.op, ast.MatMult | ast.Pow), path


def test_types_are_those_of_the_archive() -> None:
    for name, category in CATEGORIES.items():
        assert set(folders(name)) == set(category.archive_types())
        assert set(folders(name)) - set(DEFECT_TYPES[name]) <= {MULTIPLE_DEFECTS}
        keys = [DRAWINGS[name][0] for name in DEFECT_TYPES[name]]
        assert len(set(keys)) == len(keys), "two types would be the same images"
    assert "scratche" in DEFECT_TYPES["Aluminum_Ipad"]
    assert len({name for types in DEFECT_TYPES.values() for name in types}) == 24


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
    root = write_sample(tmp_path / "s", per_category=15, size=64, categories=["AP"], workers=0)
    found = {path.name for path in (root / "Aluminum_Pc" / "ground_truth").iterdir()}
    assert found == set(folders("Aluminum_Pc"))


def test_more_images_change_none_and_workers_do_not_matter(tmp_path: Path) -> None:
    few = write_sample(tmp_path / "few", per_category=6, size=64, categories=["IS"], workers=0)
    many = write_sample(tmp_path / "many", per_category=9, size=64, categories=["IS"], workers=2)
    few_pixels, many_pixels = pixels(few), pixels(many)
    assert few_pixels.items() < many_pixels.items()
    image, mask = render("Iron_Stator", "test", "inner warping", 1, size=64)
    assert many_pixels["Iron_Stator/test/inner warping/000001.png"] == digest(image)
    assert many_pixels["Iron_Stator/ground_truth/inner warping/000001.png"] == digest(mask)


def test_an_earlier_sample_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "s"
    write_sample(out, per_category=1, size=64, categories=["CS"], workers=0)
    before = pixels(out)
    with pytest.raises(UsageError, match="`force=True`"):
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
        return render_pair(*arguments, **options)

    monkeypatch.setattr(writing, "render_pair", fail)
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


def test_types_come_in_the_proportions_of_the_archive() -> None:
    for name, category in CATEGORIES.items():
        counts = category.archive_types()
        types = [job.defect_type for job in plan_sample(name, 60) if job.defect_type]
        for kind, number in counts.items():
            share = 60 * number / sum(counts.values())
            # The types that are there once take from the frequent ones.
            assert share - len(counts) < types.count(kind) < share + 2, (name, kind)


def test_a_stand_in_has_every_name_of_the_archive() -> None:
    images, masks = set(), 0
    for name, category in CATEGORIES.items():
        jobs = list(plan_archive(name))
        names = {f"{job.category}/{job.split}/{job.folder}/{job.number:06d}" for job in jobs}
        assert len(names) == len(jobs)
        images |= names
        masks += sum(job.defect_type is not None for job in jobs)
        for folder, count in category.archive_types().items():
            stems = {
                int(n.rsplit("/")[-1]) for n in names if n.startswith(f"{name}/test/{folder}/")
            }
            assert stems == set(range(count))
    assert (len(images), masks, len(images) + masks) == (27_039, 11_462, 38_501)
    for group in archive_facts().duplicates:
        assert images >= set(group.ids)


def test_a_stand_in_has_as_many_image_sizes_as_the_archive() -> None:
    sizes = stand_in_sizes()
    assert len({size for some in sizes.values() for size in some}) == 245
    assert len({(w // 16, h // 16) for some in sizes.values() for w, h in some}) == 245
    for name, category in CATEGORIES.items():
        widths, heights = ({size[axis] for size in sizes[name]} for axis in (0, 1))
        assert (min(widths), max(widths)) == category.expected("widths")
        assert (min(heights), max(heights)) == category.heights


def test_areas_have_the_published_quantiles() -> None:
    stream = Stream("areas")
    for types in AREAS.values():
        for name, quantiles in types.items():
            areas = [100 * draw_area(stream, quantiles) for _ in range(4000)]
            assert quantiles[0] <= min(areas)
            assert max(areas) <= quantiles[4]
            for part, expected in zip((0.25, 0.5, 0.75), quantiles[1:4], strict=True):
                assert np.mean(np.array(areas) < expected) == pytest.approx(part, abs=0.03), name


@pytest.mark.parametrize(
    ("category", "folder"),
    [
        ("Aluminum_Camera_Cover", "scratche"),
        ("Aluminum_Camera_Cover", "whitening"),
        ("Aluminum_New_Ipad", "bump"),
    ],
)
def test_drawn_defects_have_about_the_published_areas_and_sizes(category: str, folder: str) -> None:
    masks = [render(category, "test", folder, number, size=128)[1] for number in range(48)]
    shares = [100 * np.count_nonzero(mask) / mask.size for mask in masks]
    least, low, median, high, most = AREAS[category][folder]
    assert low / 1.5 < np.median(shares) < high * 1.5
    assert median / 3 < np.median(shares) < 3 * median
    assert min(shares) > least / 2
    assert max(shares) < 1.5 * most
    known = {(h // 8, w // 8) for w, h in SIZES[category][folder]}
    assert {mask.shape for mask in masks} <= known
    assert masks[0].shape in known


def test_the_pinyin_edition_is_the_same_under_other_names(tmp_path: Path) -> None:
    options = {"per_category": 10, "size": 64, "workers": 0}
    pinyin = write_sample(tmp_path / "pinyin", edition="pinyin", **options)
    english = write_sample(tmp_path / "english", categories=["ACC"], **options)
    names = CATEGORIES["Aluminum_Camera_Cover"].archive.pinyin
    assert [path.name for path in pinyin.iterdir() if path.is_dir()].count("Copper_Stator") == 0
    for own, name in names.items():
        for part in ("test", "ground_truth"):
            one, other = (
                root / "Aluminum_Camera_Cover" / part / folder / "000000.png"
                for root, folder in ((pinyin, own), (english, name))
            )
            assert digest(read(one)) == digest(read(other)), own
    with pytest.raises(UsageError, match="pinyin names of the defect types of Copper_Stator"):
        write_sample(tmp_path / "s", categories=["CS"], edition="pinyin", workers=0)


def test_like_says_how_many_images_there_are(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from threecad.cli import main

    line = ["sample", str(tmp_path / "s"), "--like", "genuine", "--per-category", "3"]
    run = CliRunner().invoke(main, line)
    assert run.exit_code == 2
    assert "leave --per-category out" in run.output


def test_known_duplicates_are_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in of the few images that are known to be equal, and of nothing else."""
    wanted = {name for group in archive_facts().duplicates for name in group.ids}

    def few(category: str, **options: object) -> list[object]:
        jobs = plan_archive(category)
        return [j for j in jobs if f"{j.category}/{j.split}/{j.folder}/{j.number:06d}" in wanted]

    monkeypatch.setattr(writing, "plan_archive", few)
    root = write_sample(tmp_path / "s", like="genuine", workers=0)
    assert json.loads((root / SAMPLE_MARKER).read_text())["like"] == "genuine"
    for group in archive_facts().duplicates:
        contents = {(root / f"{name}.png").read_bytes() for name in group.ids}
        assert len(contents) == 1, group.ids
    masks = [
        read(root / "Aluminum_New_Ipad" / "ground_truth" / "bump" / f"{stem}.png")
        for stem in ("001540", "001541")
    ]
    assert masks[0].shape == masks[1].shape
    assert np.count_nonzero(masks[0]) < np.count_nonzero(masks[1])


@pytest.mark.slow
def test_a_stand_in_of_the_whole_archive(tmp_path: Path) -> None:
    from threecad.dataset.scanning import scan

    root = write_sample(tmp_path / "3cad", like="genuine")
    files = list(root.glob("*/*/*/*.png"))
    assert len(files) == 38_501
    assert sum(path.stat().st_size for path in files) < 1 << 30
    index = scan(root)
    assert len(index) == 27_039
    assert not index.findings
    sizes = set()
    for sample in index:
        with Image.open(sample.image) as image:
            sizes.add(image.size)
    assert len(sizes) == 245
