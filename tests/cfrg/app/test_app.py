"""The page to try a detector: what it decides and shows, and that it keeps to itself."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import console_errors, open_browser, requested_addresses
from page_visitors import served
from PIL import Image

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.app.inspector import EXAMPLES, SHOWN, Inspection, Inspector, load_inspectors
from cfrg.app.page import (
    ROWS,
    describe_detector,
    describe_verdict,
    list_regions,
    make_app,
)
from cfrg.app.server import MAX_UPLOAD, serve
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.regions import find_regions
from cfrg.inference.thresholds import Threshold, digest_weights
from threecad import scan
from threecad.errors import ImageError, ModelError, UsageError
from threecad.images.files import write_png
from threecad.pages.figures import heatmap

CATEGORY = "Copper_Stator"


@pytest.fixture(scope="module")
def model() -> CFRG:
    torch.manual_seed(0)
    return CFRG(CFRGConfig.preset("lite", image_size=64)).eval()


def save_run(model: CFRG, folder: Path, category: str = CATEGORY) -> Path:
    model.save_pretrained(folder)
    record = {"schema": "cfrg.run/1", "category": category}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def run(model: CFRG, tmp_path: Path) -> Path:
    return save_run(model, tmp_path / "run")


def calibrate(run: Path, image_threshold: float, pixel_threshold: float) -> None:
    threshold = Threshold(
        image_threshold=image_threshold,
        pixel_threshold=pixel_threshold,
        false_alarm_rate=0.01,
        interval=(0.001, 0.012),
        images=300,
        source="held-out",
        data_fingerprint="0" * 64,
        weights_digest=digest_weights(CFRG.from_pretrained(run)),
        tile=0,
        version="0.1.0",
    )
    (run / "calibration.json").write_text(json.dumps(threshold.to_dict()))


def found(score: float = 5.0, size: tuple[int, int] = (40, 60)) -> Inspection:
    """An inspection with a hot square in the middle of a map that is 0 elsewhere."""
    values = np.zeros(size, np.float32)
    values[10:20, 30:40] = score
    image = np.full((*size, 3), 90, np.uint8)
    return Inspection(image, values, score, size)


@pytest.fixture(scope="module")
def inspector(model: CFRG) -> Inspector:
    return Inspector("Part", Predictor(model, device="cpu"), 4.0, 2.0, "For a test.", True)


def test_a_run_of_several_categories_is_asked_by_category(run: Path, sample_tree: Path) -> None:
    calibrate(run, 3.0, 2.0)
    stored = json.loads((run / "calibration.json").read_text())
    own = DecisionPolicy(
        defective=4.5, review=3.5, pixel_threshold=2.5, least_area=7, false_alarm_rate=0.02
    )
    stored["policy"]["categories"] = {CATEGORY: own.to_dict()}
    (run / "calibration.json").write_text(json.dumps(stored))
    whole, of_category = load_inspectors([run], root=sample_tree, device="cpu")
    assert whole.threshold == 3.0
    assert (of_category.threshold, of_category.pixel_threshold) == (4.5, 2.5)
    assert of_category.name == f"{whole.name}: {CATEGORY}"
    assert "2.00%" in of_category.origin
    assert {sample.category for sample in of_category.examples} == {CATEGORY}
    assert "Review" in describe_verdict(of_category, found(4.0), 4.5)
    assert "Defective" in describe_verdict(whole, found(4.0), 3.0)


def test_what_is_too_small_has_no_line_round_it(model: CFRG) -> None:
    drawn = []
    for least_area in (0, 100, 101):
        predictor = Predictor(model, device="cpu")
        predictor.policy = DecisionPolicy(defective=4.0, pixel_threshold=2.0, least_area=least_area)
        inspector = Inspector("Part", predictor, 4.0, 2.0, "For a test.", True)
        drawn.append(int((inspector.draw(found(), 2.0) == 255).all(-1).sum()))
    assert drawn[0] == drawn[1] > 0
    assert drawn[2] == 0


def test_an_inspection_is_a_prediction(run: Path, sample_tree: Path) -> None:
    (inspector,) = load_inspectors([run], device="cpu")
    sample = scan(sample_tree).select(category=CATEGORY).samples[-1]
    inspection = inspector.inspect(sample.image)
    (prediction,) = Predictor.from_pretrained(run, device="cpu").predict([sample.image])
    assert inspection.score == pytest.approx(prediction.score, rel=1e-5)
    assert np.allclose(inspection.map, prediction.map, atol=1e-5)
    assert inspection.size == prediction.size


def test_large_images_are_shown_smaller_and_measured_in_their_own_pixels(
    run: Path, tmp_path: Path
) -> None:
    (inspector,) = load_inspectors([run], device="cpu")
    noise = np.random.default_rng(0).integers(0, 255, (300, 2 * SHOWN, 3), np.uint8)
    write_png(tmp_path / "wide.png", noise)
    inspection = inspector.inspect(tmp_path / "wide.png")
    assert inspection.image.shape == (150, SHOWN, 3)
    assert inspection.size == (300, 2 * SHOWN)
    everything = inspection.regions(float(inspection.map.min()) - 1)
    assert everything[0].box == (0, 0, 2 * SHOWN, 300)


def test_thresholds_are_those_of_the_calibration(run: Path) -> None:
    calibrate(run, 3.5, 2.5)
    (inspector,) = load_inspectors([run], device="cpu")
    assert (inspector.threshold, inspector.pixel_threshold) == (3.5, 2.5)
    assert inspector.decides
    assert "300 good images" in inspector.origin
    assert "1.00%" in inspector.origin


def test_thresholds_given_win(run: Path) -> None:
    calibrate(run, 3.5, 2.5)
    (inspector,) = load_inspectors([run], threshold=9.0, pixel_threshold=8.0, device="cpu")
    assert (inspector.threshold, inspector.pixel_threshold) == (9.0, 8.0)
    assert "given" in inspector.origin


def test_thresholds_of_other_weights_are_refused(run: Path, tmp_path: Path) -> None:
    calibrate(run, 3.5, 2.5)
    torch.manual_seed(1)
    other = save_run(CFRG(CFRGConfig.preset("lite", image_size=64)), tmp_path / "other")
    (run / "calibration.json").rename(other / "calibration.json")
    with pytest.raises(ModelError):
        load_inspectors([other], device="cpu")


def test_without_calibration_nothing_is_decided_until_the_threshold_moves(
    run: Path, sample_tree: Path
) -> None:
    (bare,) = load_inspectors([run], device="cpu")
    assert not bare.decides
    assert "not calibrated" in bare.origin
    assert "No decision" in describe_verdict(bare, found(), bare.threshold)
    assert "Defective" in describe_verdict(bare, found(5.0), 4.0)

    (inspector,) = load_inspectors([run], root=sample_tree, device="cpu")
    good = scan(sample_tree).select(category=CATEGORY, split="test", label=0)
    predictions = list(Predictor.from_pretrained(run, device="cpu").predict(s.image for s in good))
    assert inspector.threshold == pytest.approx(max(p.score for p in predictions), rel=1e-4)
    assert f"{len(good)} good images" in inspector.origin


def test_examples_are_test_images_of_the_category(run: Path, sample_tree: Path) -> None:
    (inspector,) = load_inspectors([run], root=sample_tree, device="cpu")
    assert 0 < len(inspector.examples) <= EXAMPLES
    assert {(s.category, s.split) for s in inspector.examples} == {(CATEGORY, "test")}
    assert {s.label for s in inspector.examples} == {0, 1}


def test_runs_of_one_category_have_names_of_their_own(
    model: CFRG, run: Path, tmp_path: Path
) -> None:
    other = save_run(model, tmp_path / "other")
    everything = save_run(model, tmp_path / "everything", "all")
    inspectors = load_inspectors([run, other, everything], device="cpu")
    assert [each.name for each in inspectors] == [CATEGORY, f"{CATEGORY} (other)", "everything"]
    with pytest.raises(UsageError, match="at least one run"):
        load_inspectors([])


@pytest.mark.parametrize(
    ("score", "threshold", "decision"),
    [(5.0, 4.9, "Defective"), (5.0, 5.0, "Good"), (5.0, 5.1, "Good")],
)
def test_above_the_threshold_is_defective(
    inspector: Inspector, score: float, threshold: float, decision: str
) -> None:
    text = describe_verdict(inspector, found(score), threshold)
    assert f"<strong>{decision}</strong>" in text


@pytest.mark.parametrize(
    ("score", "decision"), [(5.5, "Defective"), (5.0, "Review"), (4.5, "Review"), (4.0, "Good")]
)
def test_between_both_thresholds_is_for_review(model: CFRG, score: float, decision: str) -> None:
    predictor = Predictor(model, policy=DecisionPolicy(defective=5.0, review=4.0))
    inspector = Inspector("Copper", predictor, 5.0, 4.0, "", True)
    assert f"<strong>{decision}</strong>" in describe_verdict(inspector, found(score), 5.0)
    moved = describe_verdict(inspector, found(score), 3.0)  # review never begins above
    assert "<strong>Defective</strong>" in moved


def test_the_table_lists_regions_and_counts_what_it_leaves_out() -> None:
    (row,) = list_regions(found(5.0), 1.0)
    (region,) = find_regions(found(5.0).map, (40, 60), 1.0)
    assert row == [1, "5", *region.box, region.area, "4.167"]
    assert list_regions(found(5.0), 5.0) == []
    dots = np.zeros((200, 200), np.float32)
    dots[::10, ::10] = 1
    many = Inspection(np.zeros((200, 200, 3), np.uint8), dots, 1.0, (200, 200))
    rows = list_regions(many, 0.5)
    assert len(rows) == ROWS + 1
    assert rows[-1][0] == f"and {400 - ROWS} more"


def test_colours_stay_when_the_threshold_moves(inspector: Inspector) -> None:
    inspection = found(3.0)
    low, high = inspector.scale
    assert low < inspector.pixel_threshold < high
    heat = inspector.draw(inspection, 1.0, "Heat map")
    assert np.array_equal(heat, heatmap(inspection.map, vmin=low, vmax=high))
    assert np.array_equal(heat, inspector.draw(inspection, 2.9, "Heat map"))
    marked, plain = (inspector.draw(inspection, at) for at in (1.0, 3.5))
    changed = (marked != plain).any(axis=2)
    assert changed.any()
    assert (marked[changed] == 255).all()  # the white line, nothing else
    assert np.array_equal(inspector.draw(inspection, 1.0, "Image"), inspection.image)


ODD = ("cmyk.jpg", "deep.png", "dot.png", "moving.gif", "huge.png")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8))
    paths = {name: folder / name for name in ODD}
    noise.convert("CMYK").save(paths["cmyk.jpg"])
    Image.fromarray(np.arange(3500, dtype=np.uint16).reshape(50, 70)).save(paths["deep.png"])
    noise.resize((1, 1)).save(paths["dot.png"])
    noise.save(paths["moving.gif"], save_all=True, append_images=[noise.rotate(90)])
    Image.new("L", (10_000, 10_000), 153).save(paths["huge.png"])
    return paths


@pytest.mark.parametrize("name", ODD)
def test_odd_images_are_inspected(
    inspector: Inspector, pictures: dict[str, Path], name: str
) -> None:
    inspection = inspector.inspect(pictures[name])
    assert np.isfinite(inspection.map).all()
    assert inspector.draw(inspection, 1.0).shape == inspection.image.shape


def test_what_is_no_image_is_refused(inspector: Inspector, tmp_path: Path) -> None:
    write_png(tmp_path / "cut.png", np.zeros((300, 300, 3), np.uint8))
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    (tmp_path / "page.png").write_text("<svg onload='alert(1)'>")
    for name in ("cut.png", "page.png"):
        with pytest.raises(ImageError, match="cannot be read"):
            inspector.inspect(tmp_path / name)


def test_names_are_never_markup(inspector: Inspector) -> None:
    name = "<img src=x onerror=alert(1)>"
    text = describe_detector(replace(inspector, name=name, origin=name))
    assert "<img" not in text
    assert text.count("&lt;img") == 2


def test_a_taken_port_is_named(inspector: Inspector) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UsageError, match=f"Cannot listen on 127.0.0.1:{port}"):
            serve([inspector], port=port)


def test_without_gradio_the_extra_is_named(
    inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UsageError, match=r"pip install 'threecad\[app\]'"):
        make_app([inspector])


# The served page, as a process of its own -----------------------------------------------------


def fetch(address: str, data: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
    request = urllib.request.Request(address, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def upload(address: str, size: int) -> tuple[int, bytes]:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
    body = head + b"Content-Type: image/png\r\n\r\n" + b"\0" * size + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    status, _, answer = fetch(f"{address}gradio_api/upload", body, **kind)
    return status, answer


def test_the_server_keeps_to_itself(run: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    place = tmp_path / "place"
    with served(run, place=place) as address:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        status, headers, text = fetch(address)
        assert status == 200
        assert "default-src 'self'" in headers["content-security-policy"]
        assert b"googleapis" not in text
        assert json.loads(fetch(f"{address}config")[2])["analytics_enabled"] is False
        # No endpoints for programs, and no files but the page's own.
        assert json.loads(fetch(f"{address}gradio_api/info")[2])["named_endpoints"] == {}
        for path in (secret, "/etc/passwd", run / "run.json"):
            assert fetch(f"{address}gradio_api/file={path}")[0] in (403, 404)
        # Uploads are limited, and lie in the temporary folder.
        assert upload(address, MAX_UPLOAD + 1000)[0] == 413
        status, answer = upload(address, 1000)
        assert status == 200
        assert Path(json.loads(answer)[0]).is_relative_to(place / "tmp")
    assert list((place / "tmp").iterdir()) == []
    assert list((place / "home").iterdir()) == []


@pytest.mark.slow
def test_in_a_browser(run: Path, sample_tree: Path, tmp_path: Path) -> None:
    calibrate(run, -1.0, -1.0)  # every score and pixel is above
    place = tmp_path / "place"
    with served(run, "--root", sample_tree, place=place) as address:
        try_page(address, sample_tree, tmp_path)
    assert list((place / "tmp").iterdir()) == []
    assert list((place / "home").iterdir()) == []


@pytest.mark.slow
def test_several_runs_are_chosen_from(model: CFRG, sample_tree: Path, tmp_path: Path) -> None:
    runs = [save_run(model, tmp_path / name) for name in ("strict", "lenient")]
    calibrate(runs[0], -1.0, -1.0)
    calibrate(runs[1], 99.0, 99.0)
    sample = scan(sample_tree).select(category=CATEGORY, split="test", label=1).samples[0]
    with served(*runs, place=tmp_path / "place") as address, open_browser() as driver:
        driver.get(address)
        wait_for(driver, ".verdict", "Drop an image")
        drop(driver, sample.image)
        wait_for(driver, ".verdict", "Defective")
        driver.find_element("css selector", "input[aria-label=Detector]").click()
        wait_until(lambda: driver.find_elements("css selector", "[role=option]"))
        driver.find_elements("css selector", "[role=option]")[1].click()
        wait_for(driver, ".head", "lenient")
        wait_for(driver, ".verdict", "not above the threshold 99")


def try_page(address: str, tree: Path, folder: Path) -> None:
    """Use the page as a person does; the thresholds are so low that everything is defective."""
    sample = scan(tree).select(category=CATEGORY, split="test", label=1).samples[0]
    broken = folder / "broken.png"
    broken.write_bytes(sample.image.read_bytes()[:300])
    with open_browser(1280, 1100) as driver:
        driver.get(address)
        wait_for(driver, ".verdict", "Drop an image")
        drop(driver, sample.image)
        wait_for(driver, ".verdict", "Defective")
        wait_until(lambda: driver.find_elements("css selector", "#picture img"))
        number = driver.find_element("css selector", "#threshold input[type=number]")
        number.clear()
        number.send_keys("-1.5\t")
        wait_for(driver, ".verdict", "threshold -1.5")
        driver.find_element("css selector", "#reset").click()
        wait_for(driver, ".verdict", "threshold -1. ")
        # An example replaces the upload.
        driver.find_elements("css selector", "#examples button.thumbnail-item")[0].click()
        wait_for(driver, ".verdict", "Score")
        # What is no image is said to be none; the page goes on.
        text = folder / "text.png"
        text.write_text("no image at all")
        for path in (broken, text):
            remove = "#upload button[aria-label='Remove Image']"
            driver.find_element("css selector", remove).click()
            wait_for(driver, ".verdict", "Drop an image")
            drop(driver, path)
            wait_for(driver, ".verdict", f"{path.name} cannot be read")
        # On the screen of a phone nothing sticks out.
        driver.set_window_size(500, 900)
        width = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
        wait_until(lambda: driver.execute_script(width) == 0, "a narrow page")
        own = "Method not implemented"  # what gradio's script says of itself
        assert [error for error in console_errors(driver) if own not in error] == []
        foreign = [
            each
            for each in requested_addresses(driver)
            if not each.startswith((address, "data:", "blob:"))
        ]
        assert foreign == []


def drop(driver: Any, path: Path) -> None:
    field = "#upload input[type=file]"
    wait_until(lambda: driver.find_elements("css selector", field))
    driver.find_element("css selector", field).send_keys(str(path))


def wait_for(driver: Any, selector: str, text: str) -> None:
    wait_until(lambda: text in driver.find_element("css selector", selector).text, text)


def wait_until(condition: Any, what: str = "the page") -> None:
    from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

    for _ in range(300):
        try:
            if condition():
                return
        except (NoSuchElementException, StaleElementReferenceException):
            pass
        time.sleep(0.2)
    pytest.fail(f"waited in vain for {what}")
