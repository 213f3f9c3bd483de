"""The page to look at a dataset: what it holds, that it is inert, and that it works."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import shapely
from browser import console_errors, open_browser, requested_addresses
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from threecad import PredictionWriter, mask_to_polygons, polygons_to_mask, read_mask, regions, scan
from threecad.dataset.samples import Index
from threecad.errors import EvaluationError, UsageError
from threecad.images.regions import SIZES, size_of
from threecad.pages.figures import scale_of_good
from threecad.pages.gallery import BLOCK, write_gallery
from threecad.pages.thumbnails import reduce_map, svg_path
from threecad.system.caching import FileCache


class Page(HTMLParser):
    """The scripts of a page by id, and the addresses its elements name."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.scripts: dict[str, str] = {}
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._open: str | None = None
        self.feed(self.text)
        self.data: dict[str, Any] = json.loads(self.scripts["index"])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        values = dict(attrs)
        self.addresses += [str(values[name]) for name in ("src", "href") if values.get(name)]
        if tag == "script":
            self._open = values.get("id") or "program"
            self.scripts[self._open] = ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self.scripts[self._open] += data

    def pieces(self, kind: str) -> list[str]:
        found: list[str] = []
        while (name := f"{kind}-{len(found) // BLOCK}") in self.scripts:
            found += json.loads(self.scripts[name])
            if len(found) % BLOCK:
                break
        return found

    def pictures(self, kind: str) -> list[Image.Image | None]:
        return [
            Image.open(io.BytesIO(base64.b64decode(text))) if text else None
            for text in self.pieces(kind)
        ]


def write(index: Index, path: Path, **options: Any) -> Page:
    return Page(write_gallery(index, path, workers=0, **options))


@pytest.fixture
def predictions(tree: Path, tmp_path: Path) -> Path:
    """Maps and scores of the test images: maps rise from 0 to the score."""
    folder = tmp_path / "predictions"
    with PredictionWriter(folder) as writer:
        for place, sample in enumerate(scan(tree).select(split="test")):
            score = 1.0 + place
            values = np.linspace(0, score, 32 * 40, dtype=np.float32).reshape(32, 40)
            writer.add(sample.id, values, score)
    return folder


def test_every_image_is_there_with_its_facts(tree: Path, tmp_path: Path) -> None:
    index = scan(tree)
    page = write(index, tmp_path / "gallery.html")
    data = page.data
    assert data["id"] == [sample.id for sample in index]
    assert [data["categories"][k] for k in data["category"]] == [s.category for s in index]
    assert [data["types"][k] for k in data["type"]] == [s.defect_type for s in index]
    assert [data["splits"][k] for k in data["split"]] == [s.split for s in index]
    assert data["score"] is None
    assert not any(data["problem"])
    for place, (sample, picture) in enumerate(zip(index, page.pictures("thumbnails"), strict=True)):
        with Image.open(sample.image) as image:
            assert (data["width"][place], data["height"][place]) == image.size
        assert picture is not None
        assert max(picture.size) == 96  # the images are smaller than a thumbnail may be
        if sample.mask is None:
            assert data["regions"][place] == []
        else:
            mask = read_mask(sample.mask)
            assert data["regions"][place] == [
                [r.area, *r.bbox, SIZES.index(size_of(r.area, mask.size))] for r in regions(mask)
            ]


def test_outlines_are_those_of_the_masks(tree: Path, tmp_path: Path) -> None:
    index = scan(tree)
    page = write(index, tmp_path / "gallery.html")
    for sample, path in zip(index, page.pieces("outlines"), strict=True):
        if sample.mask is None:
            assert path == ""
            continue
        mask = read_mask(sample.mask)
        drawn = polygons_to_mask(parse_path(path), mask.shape)
        assert np.count_nonzero(drawn != mask) <= 0.1 * mask.sum()  # 0.05 % of 96 pixels stray


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12)))
def test_a_path_keeps_every_pixel_of_an_exact_outline(mask: np.ndarray) -> None:
    rings = parse_path(svg_path(mask_to_polygons(mask)))
    assert np.array_equal(polygons_to_mask(rings, mask.shape), mask)


def parse_path(path: str) -> list[shapely.Polygon]:
    """Return the area an SVG path encloses by the even-odd rule."""
    area = shapely.Polygon()
    for ring in re.findall(r"M([^Mz]*)z", path):
        start, _, steps = ring.partition("l")
        numbers = np.array([*start.split(), *steps.split()], float).reshape(-1, 2)
        area = area.symmetric_difference(shapely.Polygon(np.cumsum(numbers, axis=0)))
    return [part for part in shapely.get_parts(area) if isinstance(part, shapely.Polygon)]


def test_files_are_linked_relative_to_the_page(tree: Path, tmp_path: Path) -> None:
    page = write(scan(tree), tmp_path / "pages" / "gallery.html")
    for sample, image, mask in zip(scan(tree), page.data["image"], page.data["mask"], strict=True):
        assert (tmp_path / "pages" / unquote(image)).resolve() == sample.image.resolve()
        if sample.mask is not None:
            assert (tmp_path / "pages" / unquote(mask)).resolve() == sample.mask.resolve()


def test_nothing_is_loaded_from_elsewhere(tree: Path, predictions: Path, tmp_path: Path) -> None:
    page = write(scan(tree), tmp_path / "gallery.html", predictions=predictions)
    assert set(page.addresses) == {"#grid", "data:,"}
    assert "default-src &#39;none&#39;" in page.text
    assert set(re.findall(r"https?://[^\s\"'`)]+", page.text)) == {"http://www.w3.org/2000/svg"}


HOSTILE = "<img src=x onerror=alert(1)>&\"'<!--<script>"


def hostile_tree(tree: Path) -> None:
    """Give a category, a defect type and a file names that would be HTML."""
    (tree / "Copper_Stator").rename(tree / HOSTILE)
    for folder in ("test", "ground_truth"):
        for path in sorted((tree / HOSTILE / folder).iterdir()):
            if path.name != "good":
                path.rename(path.with_name(f"{path.name} {HOSTILE}"))
    (image,) = sorted((tree / HOSTILE / "train" / "good").iterdir())[:1]
    image.rename(image.with_name(f"javascript:{HOSTILE}{image.suffix}"))


def test_names_of_files_are_never_markup(tree: Path, tmp_path: Path) -> None:
    plain = write(scan(tree), tmp_path / "plain.html")
    hostile_tree(tree)
    page = write(scan(tree), tmp_path / "gallery.html", title=HOSTILE)
    assert page.tags == plain.tags
    assert HOSTILE in page.data["categories"]
    assert "<img src=x" not in page.text
    assert not any(address.startswith("javascript:") for address in page.data["image"])


def test_what_cannot_be_read_is_shown_as_such(tree: Path, tmp_path: Path) -> None:
    index = scan(tree)
    good = index.select(label=0).samples[0]
    small, missing, broken = [s for s in index if s.mask is not None][:3]
    good.image.write_bytes(good.image.read_bytes()[:200])
    Image.new("L", (7, 5), 255).save(str(small.mask))
    Path(str(missing.mask)).unlink()
    Path(str(broken.mask)).write_bytes(b"no image")
    index = scan(tree)
    page = write(index, tmp_path / "gallery.html")
    problems = dict(zip(page.data["id"], page.data["problem"], strict=True))
    assert "cannot be read as an image" in problems[good.id]
    with Image.open(small.image) as image:
        width, height = image.size
    assert f"The mask has 7 × 5 pixels, the image {width} × {height}." in problems[small.id]
    assert "has no mask" in problems[missing.id]
    assert "cannot be decoded" in problems[broken.id]
    assert sum(map(bool, problems.values())) == 4
    assert not any(str(tmp_path) in problem for problem in problems.values())
    place = page.data["id"].index(small.id)
    assert page.data["regions"][place] == []
    assert page.pieces("outlines")[place] == ""


def test_maps_are_on_one_scale(tree: Path, predictions: Path, tmp_path: Path) -> None:
    index = scan(tree)
    page = write(index, tmp_path / "a.html", predictions=predictions, scale=(1.0, 5.0))
    scores = dict(zip(page.data["id"], page.data["score"], strict=True))
    for sample, picture in zip(index, page.pictures("heat"), strict=True):
        if sample.split == "train":
            assert picture is None
            assert scores[sample.id] is None
            continue
        assert picture is not None
        score = scores[sample.id]
        values = np.linspace(0, score, 32 * 40).reshape(32, 40)
        expected = np.clip((values - 1) / 4, 0, 1) * 255
        shown = np.asarray(picture.convert("L"), float)
        assert np.abs(shown - expected).mean() < 4  # the picture is lossy


def test_the_scale_comes_from_good_images(tree: Path, predictions: Path, tmp_path: Path) -> None:
    index = scan(tree)
    page = write(index, tmp_path / "a.html", predictions=predictions)
    good = [s.id for s in index.select(split="test", label=0)]
    scores = dict(zip(page.data["id"], page.data["score"], strict=True))
    low, high = scale_of_good(
        np.linspace(0, scores[name], 32 * 40, dtype=np.float32) for name in good
    )
    assert f"Colours from {low:.4g} to {high:.4g}" in page.text


def test_a_scale_leaves_good_images_dark() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.normal(3, 0.1, (50, 60)).astype(np.float32) for _ in range(5)]
    low, high = scale_of_good(maps)
    assert low == pytest.approx(3, abs=0.02)
    assert high - low == pytest.approx(2 * (max(m.max() for m in maps) - low))
    assert scale_of_good([np.full((4, 4), 2.0)]) == (2.0, 3.0)


def test_without_a_table_the_score_is_the_highest_value(
    tree: Path, predictions: Path, tmp_path: Path
) -> None:
    with_table = write(scan(tree), tmp_path / "a.html", predictions=predictions)
    (predictions / "scores.csv").unlink()
    without = write(scan(tree), tmp_path / "b.html", predictions=predictions)
    assert without.data["score"] == with_table.data["score"]


def test_maps_that_cannot_be_shown_do_not_stop_the_others(
    tree: Path, predictions: Path, tmp_path: Path
) -> None:
    first, second, *_ = sorted((predictions / "maps").rglob("*.npy"))
    first.write_bytes(b"broken")
    np.save(second, np.full((4, 4), np.nan, np.float32))
    page = write(scan(tree), tmp_path / "a.html", predictions=predictions)
    problems = [problem for problem in page.data["problem"] if problem]
    assert len(problems) == 2
    assert "cannot be read as an anomaly map" in problems[0]
    assert "not finite" in problems[1]


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40),
        elements=st.floats(-10, 10, width=32),
    ),
    st.integers(1, 50),
)
def test_a_reduced_map_keeps_its_highest_value(values: np.ndarray, side: int) -> None:
    reduced = reduce_map(values, side)
    assert reduced.max() == values.max()
    assert max(reduced.shape) == min(side, max(values.shape))


def test_unchanged_files_are_not_read_again(tree: Path, tmp_path: Path) -> None:
    before = write(scan(tree), tmp_path / "a.html")
    victim = next(iter(scan(tree))).image
    status = victim.stat()
    victim.write_bytes(b"x" * status.st_size)
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert write(scan(tree), tmp_path / "b.html").text == before.text
    os.utime(victim, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert "cannot be read" in write(scan(tree), tmp_path / "c.html").data["problem"][0]


def test_a_damaged_cache_is_made_anew(tree: Path, tmp_path: Path) -> None:
    before = write(scan(tree), tmp_path / "a.html")
    (cache,) = (tree / ".threecad" / "cache").glob("thumbnails-*.sqlite")
    cache.write_bytes(b"no database" * 1000)
    assert write(scan(tree), tmp_path / "b.html").text == before.text
    assert FileCache(tree, "thumbnails-160").known([s.image for s in scan(tree)]) == {
        s.image for s in scan(tree)
    }


def test_more_images_than_a_block_holds(tree: Path, tmp_path: Path) -> None:
    folder = tree / "Copper_Stator" / "train" / "good"
    source = next(folder.iterdir())
    for number in range(2 * BLOCK + 1):
        shutil.copy(source, folder / f"more-{number:03d}.png")
    page = write(scan(tree), tmp_path / "gallery.html")
    assert len(page.pieces("thumbnails")) == len(page.data["id"]) > 2 * BLOCK
    assert len(page.pieces("outlines")) == len(page.data["id"])


def test_mistakes_are_named(tree: Path, predictions: Path, tmp_path: Path) -> None:
    index, path = scan(tree), tmp_path / "gallery.html"
    with pytest.raises(UsageError, match="no image to show"):
        write_gallery(index.with_samples([]), path)
    with pytest.raises(UsageError, match="16 to 1024"):
        write_gallery(index, path, thumbnail=3)
    with pytest.raises(UsageError, match="expected low, high"):
        write_gallery(index, path, predictions=predictions, scale=(2, 1))
    with pytest.raises(EvaluationError, match="There is no folder"):
        write_gallery(index, path, predictions=tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="about none of"):
        write_gallery(index.select(split="train"), path, predictions=predictions)
    assert not path.exists()


@pytest.mark.slow
def test_in_a_browser(tree: Path, predictions: Path, tmp_path: Path) -> None:
    hostile_tree(tree)
    path = write_gallery(scan(tree), tmp_path / "gallery.html", workers=0)
    with open_browser() as driver:
        driver.get(path.as_uri())
        cards = driver.find_elements("css selector", ".card")
        assert len(cards) == len(scan(tree))
        widths = driver.execute_script(
            "return [...document.querySelectorAll('.thumb')].map((image) => image.naturalWidth)"
        )
        assert widths == Page(path).data["width"]  # as small as thumbnails
        outlines = driver.find_elements("css selector", ".card svg")
        assert len(outlines) == len([s for s in scan(tree) if s.mask])
        # A filter, by mouse.
        label = driver.find_element("xpath", "//label[span='defective']")
        label.click()
        shown = len(driver.find_elements("css selector", ".card"))
        assert shown == sum(sample.label for sample in scan(tree))
        assert "label=defective" in driver.current_url
        # A closer look, by keyboard.
        from selenium.webdriver.common.keys import Keys

        driver.execute_script("document.querySelector('.card').focus()")
        driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        driver.switch_to.active_element.send_keys(Keys.ENTER)
        defective = [sample for sample in scan(tree) if sample.label]
        assert driver.find_element("id", "viewer-id").text == defective[1].id
        driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
        assert driver.find_element("id", "viewer-id").text == defective[0].id
        driver.switch_to.active_element.send_keys("o")
        assert not driver.find_element("css selector", "#stage svg").is_displayed()
        driver.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert not driver.find_element("id", "viewer").is_displayed()
        # The address brings the same view back.
        driver.refresh()
        assert len(driver.find_elements("css selector", ".card")) == shown
        assert console_errors(driver) == []
        schemes = {address.split(":")[0] for address in requested_addresses(driver)}
        assert schemes <= {"file", "data"}


@pytest.mark.slow
def test_misses_and_false_alarms_in_a_browser(
    tree: Path, predictions: Path, tmp_path: Path
) -> None:
    path = write_gallery(scan(tree), tmp_path / "a.html", predictions=predictions, workers=0)
    page = Page(path)
    scores = dict(zip(page.data["id"], page.data["score"], strict=True))
    by_score = sorted(scan(tree).select(split="test"), key=lambda sample: scores[sample.id])
    with open_browser() as driver:
        for sort, expected in (
            ("misses", [s.id for s in by_score if s.label]),
            ("alarms", [s.id for s in reversed(by_score) if not s.label]),
        ):
            driver.get("about:blank")
            driver.get(f"{path.as_uri()}#sort={sort}&heat=1")
            cards = driver.find_elements("css selector", ".card")
            assert [card.get_attribute("title") for card in cards] == expected
            assert all(m.is_displayed() for m in driver.find_elements("css selector", ".heat"))
        assert console_errors(driver) == []
