from __future__ import annotations

import csv
import io
import json
import os
import shutil
from contextlib import redirect_stdout
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label, regionprops

from threecad import CATEGORIES, read_mask, scan, stats, verify
from threecad.cli import main
from threecad.pages.statistics_figures import CAPTIONS, draw_figures
from threecad.pages.statistics_page import render_page
from threecad.pages.statistics_tables import format_percent
from threecad.statistics import contrast, measurement
from threecad.statistics.contrast import contrast_of_regions
from threecad.statistics.summaries import Quantiles


def write_image(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def add_defect(
    root: Path,
    defect_type: str,
    stem: str,
    mask: np.ndarray,
    *,
    category: str = "Part",
    image: np.ndarray | None = None,
) -> None:
    """Add a defective image: brightness 199 and 201 by turns, the defect 100, unless given."""
    mask = np.asarray(mask, bool)
    background = 199 + 2 * (np.indices(mask.shape).sum(axis=0) % 2)
    pixels = np.where(mask, 100, background).astype(np.uint8) if image is None else image
    write_image(root / category / "test" / defect_type / f"{stem}.png", pixels)
    ground_truth = root / category / "ground_truth" / defect_type / f"{stem}.png"
    write_image(ground_truth, mask.astype(np.uint8) * 255)


def block(y: int, x: int, height: int, width: int, size: int = 100) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[y : y + height, x : x + width] = True
    return mask


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A category with two types: two dents of 1 % and 4 %, a scratch of two regions."""
    root = tmp_path / "parts"
    for split in ("train", "test"):
        write_image(root / "Part" / split / "good" / "0.png", np.full((80, 90), 200, np.uint8))
    add_defect(root, "dent", "0", block(10, 10, 10, 10))
    add_defect(root, "dent", "1", block(50, 50, 20, 20))
    add_defect(root, "scratch", "0", block(10, 10, 2, 20) | block(90, 99, 1, 1))
    return root


def test_the_overview(part: Path) -> None:
    (row,) = stats(scan(part), workers=0).overview
    assert (row.train, row.test_good, row.test_defective, row.defect_types) == (1, 1, 3, 2)
    assert (row.heights, row.widths) == ((80, 100), (90, 100))
    assert row.regions_per_image == (1, 2)
    assert row.types_per_image == (1, 1)
    assert row.published is None
    assert row.differences == {}


def test_regions_and_images_are_counted_apart(part: Path) -> None:
    statistics = stats(scan(part), workers=0)
    dents, scratches = statistics.groups("defect_type", "region")
    assert (dents.defect_type, dents.images, dents.regions) == ("dent", 2, 2)
    assert (scratches.defect_type, scratches.images, scratches.regions) == ("scratch", 1, 2)
    assert dents.area.median == 250
    assert dents.area_ratio.maximum == 0.04
    assert dents.sizes == {"small": 0, "medium": 0, "large": 2}
    assert scratches.sizes == {"small": 1, "medium": 1, "large": 0}
    assert scratches.aspect_ratio.maximum == 10
    assert scratches.border == 1
    _, scratch_images = statistics.groups("defect_type", "image")
    assert scratch_images.count == 1
    assert scratch_images.area.median == 41
    # The rectangle round both regions of the image, not round either.
    assert scratch_images.aspect_ratio.median < 10


def test_groups_by_size_have_every_size(part: Path) -> None:
    groups = stats(scan(part), workers=0).groups("size")
    assert [(group.size, group.regions) for group in groups] == [
        ("small", 1),
        ("medium", 1),
        ("large", 2),
    ]


def test_the_statistics_agree_with_scikit_image(sample_tree: Path) -> None:
    index = scan(sample_tree)
    statistics = stats(index, contrast=False, workers=0)
    defective = index.select(label=1)
    assert len(statistics.images) == len(defective)
    for image in statistics.images:
        expected = regionprops(label(read_mask(index[image.id].mask), connectivity=2))
        assert [region.area for region in image.regions] == [other.area for other in expected]
    total = statistics.total()
    assert total.regions == sum(len(image.regions) for image in statistics.images)
    for row in statistics.overview:
        mine = [i for i in statistics.images if i.category == row.name]
        counts = [len(image.regions) for image in mine]
        assert row.regions_per_image == (min(counts), max(counts))
        assert row.train == len(index.select(category=row.name, split="train"))


def test_the_published_values_stand_beside(sample_tree: Path) -> None:
    for row in stats(scan(sample_tree), contrast=False, workers=0).overview:
        published = CATEGORIES[row.name]
        assert row.code == published.code
        assert row.differences["train"] == (row.train, published.train)
        assert "train" in row.to_dict()["differences"]


def test_types_are_unknown_under_the_label_for_several(part: Path) -> None:
    add_defect(part, "Multiple-defects", "0", block(30, 30, 5, 5))
    statistics = stats(scan(part), workers=0)
    (row,) = statistics.overview
    assert row.types_per_image is None
    assert (row.defect_types, row.multiple_defects) == (2, 1)
    together = statistics.co_occurrence("Part")
    assert together.types == ("dent", "scratch")
    assert together.images == ((2, 0), (0, 1))
    assert together.unknown == 1
    assert statistics.groups("defect_type")[-1].defect_type == "Multiple-defects"


def test_copies_in_other_folders_tell_the_types(part: Path) -> None:
    mask = block(30, 30, 5, 5)
    image = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    for defect_type in ("Multiple-defects", "dent", "scratch"):
        add_defect(part, defect_type, "7", mask, image=image)
    statistics = stats(scan(part), workers=0)
    assert statistics.overview[0].types_per_image == (1, 2)
    assert statistics.co_occurrence("Part").images == ((5, 3), (3, 4))
    # Without decoding images nothing tells.
    assert stats(scan(part), contrast=False, workers=0).overview[0].types_per_image is None


def test_a_label_map_tells_how_many_types(part: Path) -> None:
    add_defect(part, "Multiple-defects", "0", block(30, 30, 5, 5))
    labels = block(30, 30, 5, 5).astype(np.uint8) + block(60, 60, 5, 5) * np.uint8(2)
    write_image(part / "Part" / "ground_truth" / "Multiple-defects" / "0.png", labels)
    statistics = stats(scan(part), workers=0)
    assert statistics.overview[0].types_per_image == (1, 2)
    assert statistics.rules == {"binary": 3, "labels": 1}


def test_positions_say_where_defects_sit(part: Path) -> None:
    positions = stats(scan(part), workers=0).positions("Part", "dent")
    assert positions.shape == (32, 32)
    # A cell is 100 / 32 pixels wide; rows 10 to 20 of one of two images are the cells 3 to 6.
    assert positions[4, 4] == 0.5
    assert positions[20, 20] == 0.5
    assert positions[0, 0] == 0
    assert positions.mean() == pytest.approx((0.01 + 0.04) / 2, abs=1e-6)


def test_contrast_is_that_of_region_and_surround() -> None:
    mask = block(40, 40, 10, 10) | block(10, 10, 3, 3)
    brightness = np.where(mask, 0.25, 0.75).astype(np.float32)
    brightness[0, 0] = 1  # outside every surround
    differences, ratios = contrast_of_regions(brightness, mask)
    assert differences == [-0.5, -0.5]
    assert ratios == [None, None]  # the surround does not vary
    brightness[35:40, 40:50] = 0.70
    ratio = contrast_of_regions(brightness, mask)[1][1]
    assert ratio is not None
    assert ratio < -10


def test_a_full_mask_has_no_surround() -> None:
    assert contrast_of_regions(np.ones((9, 9), np.float32), np.ones((9, 9), bool)) == (
        [None],
        [None],
    )


def test_no_contrast_without_images(part: Path) -> None:
    (group, *_) = stats(scan(part), contrast=False, workers=0).groups()
    assert group.contrast is None
    (group, *_) = stats(scan(part), workers=0).groups()
    assert group.contrast.median == pytest.approx(-100 / 255, abs=1e-3)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the masks decoded in this process."""
    decoded: list[str] = []
    for module in (measurement, contrast):
        original = module.decode_mask

        def counted(path: Path, original=original, **options: object) -> object:
            decoded.append(path.name)
            return original(path, **options)

        monkeypatch.setattr(module, "decode_mask", counted)
    return decoded


def test_an_unchanged_tree_is_not_measured_again(part: Path, calls: list[str]) -> None:
    first = stats(scan(part), workers=0)
    assert len(calls) == 6  # each mask for its regions and for the contrast
    second = stats(scan(part), workers=0)
    assert len(calls) == 6
    assert second == first


def test_a_changed_mask_is_measured_again(part: Path, calls: list[str]) -> None:
    stats(scan(part), workers=0)
    calls.clear()
    add_defect(part, "dent", "0", block(10, 10, 5, 5))
    changed = stats(scan(part), workers=0)
    assert calls == ["0.png", "0.png"]
    assert changed.groups("defect_type")[0].area.minimum == 25
    copy = shutil.copytree(part, part.parent / "copy", ignore=shutil.ignore_patterns(".threecad"))
    assert changed.images == stats(scan(copy), workers=0).images


def test_a_changed_image_has_its_contrast_measured_again(part: Path, calls: list[str]) -> None:
    stats(scan(part), workers=0)
    calls.clear()
    path = part / "Part" / "test" / "dent" / "0.png"
    write_image(path, np.where(block(10, 10, 10, 10), 250, 200).astype(np.uint8))
    changed = stats(scan(part), workers=0)
    assert calls == ["0.png"]
    assert changed.groups("defect_type")[0].contrast.maximum == pytest.approx(50 / 255, abs=1e-5)


def test_the_same_size_and_an_older_time_are_a_change(part: Path, calls: list[str]) -> None:
    stats(scan(part), contrast=False, workers=0)
    path = part / "Part" / "ground_truth" / "dent" / "0.png"
    os.utime(path, ns=(1, 1))
    calls.clear()
    stats(scan(part), contrast=False, workers=0)
    assert calls == ["0.png"]


def test_workers_change_nothing(sample_tree: Path, tmp_path: Path) -> None:
    trees = [shutil.copytree(sample_tree, tmp_path / str(k) / "3cad") for k in range(2)]
    for tree in trees:
        shutil.rmtree(tree / ".threecad" / "cache", ignore_errors=True)
    alone, together = (
        stats(scan(tree), workers=workers) for tree, workers in zip(trees, (0, 2), strict=True)
    )
    assert alone.images == together.images
    assert alone.overview == together.overview


def test_bad_masks_are_findings(part: Path) -> None:
    ground_truth = part / "Part" / "ground_truth" / "dent"
    (ground_truth / "0.png").write_bytes(b"\x89PNG\r\n")
    write_image(ground_truth / "1.png", np.zeros((50, 100), np.uint8))
    write_image(
        part / "Part" / "ground_truth" / "scratch" / "0.png", np.zeros((100, 100), np.uint8)
    )
    statistics = stats(scan(part), workers=0)
    found = {finding.code: finding for finding in statistics.findings}
    assert set(found) == {"mask-unreadable", "mask-size", "mask-empty"}
    assert found["mask-unreadable"].severity == found["mask-size"].severity == "error"
    assert found["mask-size"].message == (
        "Part/ground_truth/dent/1.png is 100 × 50 pixels, but its image Part/test/dent/1.png "
        "is 100 × 100."
    )
    assert [image.id for image in statistics.images] == ["Part/test/scratch/0"]
    assert statistics.records() == []
    assert statistics.total().area is None


def test_an_unreadable_image_keeps_its_regions(part: Path) -> None:
    path = part / "Part" / "test" / "dent" / "1.png"
    path.write_bytes(path.read_bytes()[:-30])
    statistics = stats(scan(part), workers=0)
    (finding,) = statistics.findings
    assert (finding.code, finding.severity) == ("image-unreadable", "error")
    assert finding.id == "Part/test/dent/1"
    assert statistics.groups("defect_type")[0].regions == 2


def test_quantiles_are_numpys() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    quantiles = Quantiles.of(values)
    assert quantiles is not None
    assert (quantiles.n, quantiles.mean, quantiles.minimum, quantiles.maximum) == (4, 4, 1, 10)
    assert quantiles.median == np.median(values)
    assert quantiles.q95 == np.quantile(values, 0.95)
    assert Quantiles.of([]) is None


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0"), (0.000012, "0.0012"), (0.0467, "4.7"), (0.83, "83"), (1, "100")],
)
def test_percent_has_two_digits(fraction: float, text: str) -> None:
    assert format_percent(fraction) == text


def run(*arguments: object, code: int = 0) -> str:
    """Run the command; return what it prints on stdout."""
    command = ["stats", *map(str, arguments), "--workers", "0"]
    with redirect_stdout(io.StringIO()) as stdout, pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == code
    return stdout.getvalue()


def test_json_on_stdout_is_the_statistics(part: Path) -> None:
    data = json.loads(run(part, "--json", "--by", "defect_type", "--per", "image"))
    expected = stats(scan(part), workers=0).to_dict("defect_type", "image")
    assert data == json.loads(json.dumps(expected))
    assert data["schema"] == "threecad.statistics/1"
    assert [group["defect_type"] for group in data["groups"]] == ["dent", "scratch"]


def test_the_tables_name_groups_and_differences(sample_tree: Path, part: Path) -> None:
    text = run(part, "--by", "defect_type")
    assert "dent" in text
    assert "scratch" in text
    assert "published" not in text
    assert "published" in run(sample_tree, "--no-contrast", "--category", "Iron_Stator")


def test_csv_has_a_row_per_region_or_image(part: Path, tmp_path: Path) -> None:
    run(part, "--csv", tmp_path / "regions.csv")
    run(part, "--csv", tmp_path / "images.csv", "--per", "image")
    with (tmp_path / "regions.csv").open() as file:
        regions = list(csv.DictReader(file))
    with (tmp_path / "images.csv").open() as file:
        images = list(csv.DictReader(file))
    assert [(row["id"], row["region"]) for row in regions] == [
        ("Part/test/dent/0", "1"),
        ("Part/test/dent/1", "1"),
        ("Part/test/scratch/0", "1"),
        ("Part/test/scratch/0", "2"),
    ]
    assert regions[2]["aspect_ratio"] == "10.0"
    assert [row["regions"] for row in images] == ["1", "1", "2"]
    assert images[2]["area"] == "41"


def test_errors_set_the_exit_code(part: Path) -> None:
    (part / "Part" / "ground_truth" / "dent" / "0.png").unlink()
    assert json.loads(run(part, "--json", code=1))["findings"][0]["code"] == "mask-missing"


def test_figures_are_written_as_png_and_pdf(part: Path, tmp_path: Path) -> None:
    run(part, "--figures", tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    drawn = set(CAPTIONS) - {"co-occurrence"}  # no image of this tree shows two types
    assert names == {f"{name}.{kind}" for name in drawn for kind in ("png", "pdf")}


def test_types_that_come_together_are_drawn(part: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100), np.uint8)
    for defect_type in ("dent", "scratch"):
        add_defect(part, defect_type, "7", block(1, 1, 2, 2), image=image)
    assert "co-occurrence" in draw_figures(stats(scan(part), workers=0))


class References(HTMLParser):
    """The addresses a page would load, and its headings."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and value and value[0] != "#":
                self.loaded.append(value)


def test_the_page_needs_nothing_else(part: Path, tmp_path: Path) -> None:
    run(part, "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    references = References()
    references.feed(page)
    assert all(address.startswith("data:") for address in references.loaded)
    assert references.tags.count("svg") == len(CAPTIONS) - 1  # all but co-occurrence
    assert "script" not in references.tags


def test_names_cannot_inject_html(part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("threecad.pages.statistics_page.draw_figures", lambda *_: {})
    add_defect(part, "<script>x", "0", block(1, 1, 2, 2))
    page = render_page(stats(scan(part), workers=0))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_tree_without_defects_is_no_mistake(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_image(tmp_path / "Part" / split / "good" / "0.png", np.full((9, 9), 9, np.uint8))
    statistics = stats(scan(tmp_path), workers=0)
    assert statistics.groups() == ()
    assert draw_figures(statistics) == {}
    assert "no mask with a defect pixel" in render_page(statistics)
    assert "no mask with a defect pixel" in run(tmp_path)


def test_a_forced_rule_is_remembered_apart(part: Path) -> None:
    path = part / "Part" / "ground_truth" / "dent" / "0.png"
    write_image(path, block(10, 10, 10, 10).astype(np.uint8) * 60)
    decided = stats(scan(part), workers=0)
    forced = stats(scan(part), mask_rule="threshold", workers=0)
    assert decided.groups("defect_type")[0].regions == 2
    assert forced.groups("defect_type")[0].regions == 1
    assert stats(scan(part), workers=0) == decided


def test_measures_survive_the_cache(part: Path) -> None:
    masks = [sample.mask for sample in scan(part) if sample.mask is not None]
    made = measurement.measure_masks(part, masks, workers=0)
    assert measurement.measure_masks(part, masks, workers=0) == made
    assert all(asdict(measures) for measures in made.values())


def test_the_real_masks(test_data: Path, tmp_path: Path) -> None:
    source = test_data / "magnetic_tile" / "MT_Fray" / "Imgs"
    for path in sorted(source.glob("*.png")):
        for folder, suffix in (("ground_truth", ".png"), ("test", ".jpg")):
            target = tmp_path / "Tile" / folder / "Fray" / path.with_suffix(suffix).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path.with_suffix(suffix), target)
    (group,) = stats(scan(tmp_path), workers=0).groups()
    labels = [label(read_mask(path), connectivity=2) for path in sorted(source.glob("*.png"))]
    assert group.images == 32
    assert group.regions == sum(int(image.max()) for image in labels)
    assert group.area.mean * group.regions == pytest.approx(sum((i > 0).sum() for i in labels))


def test_an_odd_mask_is_told_of_as_the_check_of_files_tells_of_it(part: Path) -> None:
    add_defect(part, "dent", "empty", np.zeros((40, 60), np.uint8))
    add_defect(part, "dent", "full", np.full((40, 60), 255, np.uint8))
    index, odd = scan(part), {"mask-empty", "mask-full"}
    counted = {f.message for f in stats(index).findings if f.code in odd}
    checked = {f.message for f in verify(part, deep=True).findings if f.code in odd}
    assert len(counted) == 2
    assert counted == checked
