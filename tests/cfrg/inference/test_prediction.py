"""From images of every kind to maps, scores, regions, decisions, and files of these."""

from __future__ import annotations

import csv
import json
import re
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from command_lines import run_line
from PIL import Image

from cfrg import CFRG, CFRGConfig, Predictor
from cfrg.images.sources import find_images
from cfrg.inference.folder import (
    FolderWriter,
    check_folder,
    clear_folder,
    predict_to_folder,
    write_predictions,
)
from cfrg.inference.overlays import LARGEST, colour_scale, draw_overlay
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.prediction import Prediction
from cfrg.inference.regions import find_regions, flag_pixels, without_small
from cfrg.network.processing import normalize, resize
from threecad import scan
from threecad.errors import DataError, ModelError, UsageError
from threecad.evaluation.predictions import PredictionFolder
from threecad.images.files import read_image
from threecad.images.regions import regions

CONFIG = CFRGConfig.preset("lite", image_size=64)


class Brightness:
    """A detector whose map is the image's brightness: what comes out can be said in advance."""

    def __init__(self, size: tuple[int, int] = (32, 32)) -> None:
        self.config = CFRGConfig(image_size=size, mean=(0, 0, 0), std=(1, 1, 1))
        self.batches: list[int] = []

    def predict_maps(self, image: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(image))
        return image.mean(1, keepdim=True)


@pytest.fixture(scope="module")
def run(sample_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that nobody has trained, as a run folder. Shared: do not change it."""
    torch.manual_seed(0)
    model = CFRG(CONFIG)
    model.load_teacher()
    model.companions["run.json"] = {"category": "Copper_Stator"}
    folder = tmp_path_factory.mktemp("runs") / "run"
    model.eval().save_pretrained(folder)
    return folder


def grey(value: int, height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def write_photos(folder: Path, number: int = 3) -> Path:
    folder.mkdir()
    for i in range(number):
        Image.fromarray(grey(40 * i)).save(folder / f"{i}.png")
    return folder


def test_batches_workers_and_sources_give_the_same_maps(run: Path, sample_tree: Path) -> None:
    files = find_images([sample_tree], category="Copper_Stator")
    one = list(Predictor.from_pretrained(run, device="cpu", batch_size=1).predict_files(files))
    many = Predictor.from_pretrained(run, device="cpu", batch_size=4, workers=2)
    arrays = many.predict(read_image(path) for _, path in files)
    images = many.predict(Image.open(path) for _, path in files)
    for a, b, c, d in zip(one, many.predict_files(files), arrays, images, strict=True):
        assert a.id == b.id
        for other in (b, c, d):
            # Untrained maps reach hundreds, where float32 itself is no finer than 1.5e-5.
            np.testing.assert_allclose(other.map, a.map, atol=2e-5, rtol=5e-7)
            assert other.score == pytest.approx(a.score, abs=2e-5, rel=5e-7)


def test_prediction_is_that_of_the_model(run: Path, sample_tree: Path) -> None:
    name, path = find_images([sample_tree], category="Copper_Stator")[0]
    model = CFRG.from_pretrained(run)
    pixels = torch.from_numpy(resize(read_image(path), CONFIG.image_size)).permute(2, 0, 1)
    maps, scores = model.predict(normalize(pixels[None], CONFIG))
    prediction = next(Predictor(model, device="cpu").predict_files([(name, path)]))
    np.testing.assert_allclose(prediction.map, maps[0, 0].numpy(), rtol=5e-6, atol=5e-6)
    assert prediction.score == pytest.approx(float(scores[0]), rel=5e-6, abs=5e-6)
    assert prediction.size == read_image(path).shape[:2]


def test_predictions_folder_is_what_evaluate_reads(
    run: Path, sample_tree: Path, tmp_path: Path
) -> None:
    written = predict_to_folder(run, [sample_tree], tmp_path / "p", device="cpu")
    test = scan(sample_tree).select(category="Copper_Stator", split="test")
    assert (written.images, written.defective, written.broken) == (len(test), None, [])
    folder = PredictionFolder(tmp_path / "p")
    assert sorted(folder.maps) == [sample.id for sample in test]
    lines = (tmp_path / "p" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    for sample, line in zip(test, map(json.loads, lines), strict=True):
        assert folder[sample.id].shape == CONFIG.image_size
        assert line["id"] == sample.id
        assert line["score"] == folder.scores[sample.id]  # type: ignore[index]
        assert line["decision"] is None
        assert line["regions"] is None
        assert set(line["milliseconds"]) == {"read", "network", "regions"}


def test_predictions_replace_only_predictions(run: Path, sample_tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    photos = write_photos(tmp_path / "photos", 1)
    predict_to_folder(run, [photos], out, device="cpu")
    with pytest.raises(UsageError, match="is not empty"):
        predict_to_folder(run, [photos], out, device="cpu")
    predict_to_folder(run, [photos], out, force=True, device="cpu")
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"more than predictions: thesis\.txt"):
        predict_to_folder(run, [photos], out, force=True, device="cpu")
    clear_folder(out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="is a file"):
        check_folder(out / "thesis.txt")


def test_a_camera_that_never_ends_is_followed() -> None:
    taken = []

    def camera():
        for i in count():
            taken.append(i)
            yield grey(i % 200)

    predictor = Predictor(Brightness(), device="cpu", batch_size=2)
    scores = [p.score for p in islice(predictor.predict(camera()), 50)]
    np.testing.assert_allclose(scores, np.arange(50) / 255, atol=1e-6)
    assert len(taken) <= 50 + 2 + 2 * 2 + 2, "it reads a bounded number of images ahead"


def test_a_source_that_fails_says_so() -> None:
    def camera():
        yield grey(10)
        raise ConnectionError("the camera has gone")

    predictor = Predictor(Brightness(), device="cpu", batch_size=1)
    predictions = predictor.predict(camera())
    assert next(predictions).id == "0"
    with pytest.raises(ConnectionError, match="the camera has gone"):
        next(predictions)


def test_ids_are_positions_names_or_what_is_given(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    sources = [grey(1), folder / "1.png", ("part-7", grey(3)), Image.fromarray(grey(4))]
    predictions = list(Predictor(Brightness(), device="cpu").predict(sources))
    assert [p.id for p in predictions] == ["0", "1.png", "part-7", "3"]


def test_folders_patterns_and_single_images_are_sources(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    predictor = Predictor(Brightness(), device="cpu")

    def ids(images: object) -> list[str]:
        return [prediction.id for prediction in predictor.predict(images)]  # type: ignore[arg-type]

    assert ids(str(folder)) == ids(folder / "*.png") == ["0", "1"]
    assert ids([folder, folder / "1.png", grey(3)]) == ["0", "1", "1.png", "3"]
    assert ids(folder / "1.png") == ["1.png"]
    assert ids(grey(3)) == ids(Image.fromarray(grey(3))) == ["0"]
    with pytest.raises(DataError, match="There is no image in"):
        ids(folder / "*.jpg")


@pytest.mark.parametrize("name", ["gpu", "cuda", "cuda:99"])
def test_a_device_that_is_not_there_is_said(name: str) -> None:
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UsageError, match=f"`device={name}`"):
        Predictor(Brightness(), device=name)


@pytest.mark.parametrize("name", ["threshold", "pixel_threshold"])
def test_a_threshold_that_decides_nothing_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="decides nothing"):
        Predictor(Brightness(), device="cpu", **{name: float("nan")})  # type: ignore[arg-type]


def test_batches_are_filled_across_images() -> None:
    detector = Brightness()
    predictor = Predictor(detector, device="cpu", batch_size=4)
    assert len(list(predictor.predict(grey(i) for i in range(10)))) == 10
    assert detector.batches == [4, 4, 2]


def test_unusual_images_are_predicted_or_reported(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 90, 3)).astype("uint8"))
    whole.save(folder / "whole.png")
    (folder / "truncated.png").write_bytes((folder / "whole.png").read_bytes()[:500])
    (folder / "text.png").write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not looked at")
    Image.new("RGB", (1, 1), (200, 200, 200)).save(folder / "pixel.png")
    Image.new("CMYK", (50, 50), (0, 0, 0, 0)).save(folder / "cmyk.jpg")
    Image.fromarray(np.full((40, 40), 51 << 8, np.uint16)).save(folder / "deep.png")
    frames = [Image.new("L", (30, 30), value) for value in (102, 0)]
    frames[0].save(folder / "animated.png", save_all=True, append_images=frames[1:])
    Image.new("L", (10_000, 10_000), 153).save(folder / "large.png")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    predictor = Predictor(Brightness(), device="cpu")
    found = {p.id: p for p in predictor.predict_files(find_images([folder]))}
    scores = {name: round(p.score, 2) for name, p in found.items() if p.error is None}
    scores.pop("whole")
    assert scores == {"pixel": 0.78, "cmyk": 1.0, "deep": 0.2, "animated": 0.4, "large": 0.6}
    errors = {name: p.error for name, p in found.items() if p.error is not None}
    assert set(errors) == {"truncated", "text", "empty", "bomb"}
    assert all(f"{name}." in str(error) for name, error in errors.items())
    assert found["large"].size == (10_000, 10_000)


@pytest.mark.parametrize("number", [3, 4, 7])
def test_a_camera_that_fails_loses_none_of_the_frames_it_gave(number: int) -> None:
    def camera():
        yield from (grey(i) for i in range(number))
        raise ConnectionError("the camera has gone")

    predictions = Predictor(Brightness(), device="cpu", batch_size=4).predict(camera())
    assert [next(predictions).id for _ in range(number)] == [str(i) for i in range(number)]
    with pytest.raises(ConnectionError, match="the camera has gone"):
        next(predictions)


IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(IMAGE)
GREY = IMAGE[..., 0]
BROKEN = {
    "dropped": (None, "None came instead"),
    "bytes": (b"\xff\xd8", "A bytes is no image"),
    "number": (7, "A int is no image"),
    "list": (IMAGE.tolist(), "A list is no image"),
    "triple": (("a", 1, IMAGE), "A tuple is no image"),
    "answer": ((True, IMAGE), "A tuple is no image"),
    "floats": (IMAGE / 255, r"\(40, 60, 3\) and type float64"),
    "deep": (IMAGE.astype(np.uint16), "type uint16"),
    "booleans": (GREY > 7, "type bool"),
    "objects": (IMAGE.astype(object), "type object"),
    "channels first": (IMAGE.transpose(2, 0, 1), r"\(3, 40, 60\)"),
    "four channels": (np.zeros((40, 60, 4), np.uint8), r"\(40, 60, 4\)"),
    "batch in a stream": (IMAGE[None], r"\(1, 40, 60, 3\)"),
    "scalar": (np.uint8(3), "A uint8 is no image"),
    "normalised": (TENSOR.float() / 127 - 1, "floats from -1 to"),
    "not divided": (TENSOR.float(), "floats from 0 to 255"),
    "not a number": (torch.full((3, 8, 8), float("nan")), "floats from nan"),
    "integers": (TENSOR.int(), "A tensor of shape .* type torch.int32"),
    "either way": (torch.zeros(3, 8, 3), "channels first or last"),
    "sparse": (torch.zeros(3, 8, 8).to_sparse(), "tensor cannot be read"),
    "on no device": (torch.zeros(3, 8, 8, device="meta"), "tensor cannot be read"),
    "nothing": (torch.zeros(3, 0, 8), r"\(3, 0, 8\)"),
    "name too long": ("x" * 5000, "cannot be read"),
}


def test_what_is_no_image_is_named_and_the_stream_goes_on() -> None:
    frames = [frame for frame, _ in BROKEN.values()]
    predictor = Predictor(Brightness(), device="cpu", batch_size=3)
    found = list(predictor.predict(image for frame in frames for image in (frame, IMAGE)))
    assert len(found) == 2 * len(frames)
    for (name, (_, message)), prediction in zip(BROKEN.items(), found[::2], strict=True):
        assert prediction.map is None
        assert re.search(message, str(prediction.error)), (name, prediction.error)
        assert prediction.to_dict()["error"] == prediction.error
    assert len({prediction.score for prediction in found[1::2]}) == 1


@pytest.mark.parametrize("images", [None, 7, {"a": IMAGE}], ids=str)
def test_what_is_no_source_is_named(images: object) -> None:
    with pytest.raises(UsageError, match="no source of images"):
        list(Predictor(Brightness(), device="cpu").predict(images))  # type: ignore[arg-type]


def test_arrays_and_tensors_of_every_kind_give_the_same_map() -> None:
    def predict(image: object) -> list:
        return list(Predictor(Brightness(), device="cpu").predict(image))  # type: ignore[arg-type]

    first = TENSOR.permute(2, 0, 1)
    kinds = [IMAGE, Image.fromarray(IMAGE), TENSOR, first, first / 255, first.double() / 255]
    kinds += [(first / 255).requires_grad_(), IMAGE[::-1][::-1], np.asfortranarray(IMAGE)]
    flat = [GREY, GREY[..., None], Image.fromarray(GREY), TENSOR[..., 0], TENSOR[None, ..., 0]]
    for images in (kinds, flat):
        (expected,) = predict(images[0])
        for image in images:
            (found,) = predict(image)
            assert (found.error, found.size) == (None, (40, 60))
            np.testing.assert_array_equal(found.map, expected.map)
    several = [IMAGE[None].repeat(2, 0), first[None].repeat(2, 1, 1, 1)]
    assert [[p.size for p in predict(batch)] for batch in several] == [[(40, 60)] * 2] * 2


def test_a_camera_may_write_its_next_frame_over_the_last_one() -> None:
    def camera():
        buffer = np.zeros((3, 32, 32), np.uint8)  # channels first, of the network's own size
        for i in range(6):
            buffer[:] = 40 * i
            yield buffer.transpose(1, 2, 0)

    scores = [
        p.score for p in Predictor(Brightness(), device="cpu", batch_size=4).predict(camera())
    ]
    np.testing.assert_allclose(scores, np.arange(6) * 40 / 255, atol=1e-6)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3), np.float32), np.zeros((0, 8, 3), np.uint8)],
    ids=["float", "empty"],
)
def test_arrays_that_are_no_images_are_reported(image: np.ndarray) -> None:
    broken, good = Predictor(Brightness(), device="cpu").predict([image, grey(51)])
    assert "Expected (height, width, 3), uint8" in str(broken.error)
    assert good.score == pytest.approx(0.2)


def test_what_is_not_a_number_is_no_prediction(tmp_path: Path) -> None:
    class Lost(Brightness):
        def predict_maps(self, image: torch.Tensor) -> torch.Tensor:
            return super().predict_maps(image) / 0  # black pixels become not a number

    files = find_images([write_photos(tmp_path / "photos", 1)])
    written = write_predictions(Predictor(Lost(), device="cpu"), files, tmp_path / "found")
    assert [p.error for p in written.broken] == [
        "The network's answer is not a number. Its weights may be damaged."
    ]
    assert json.loads((tmp_path / "found" / "predictions.jsonl").read_text())["id"] == "0"


def test_broken_images_are_left_out_of_the_folder(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 2)
    (folder / "x.png").write_text("no image")
    predictor = Predictor(Brightness(), device="cpu", threshold=0.1, pixel_threshold=0.1)
    with FolderWriter(tmp_path / "p") as writer:
        for prediction in predictor.predict_files(find_images([folder])):
            writer.add(prediction)
    assert [p.id for p in writer.written.broken] == ["x"]
    assert (writer.written.images, writer.written.defective) == (2, 1)
    assert sorted(PredictionFolder(tmp_path / "p").maps) == ["0", "1"]
    lines = (tmp_path / "p" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line).get("decision") for line in lines] == ["good", "defective", None]
    assert "x.png" in json.loads(lines[2])["error"]


def test_results_stream(tmp_path: Path) -> None:
    """What is predicted can be read before the last image is."""
    predictor = Predictor(Brightness(), device="cpu", batch_size=1)
    with FolderWriter(tmp_path / "p") as writer:
        for prediction in predictor.predict(grey(i) for i in range(20)):
            writer.add(prediction)
            writer._behind.depth = 0  # wait for the writer each time
            if prediction.id != "0":
                lines = (tmp_path / "p" / "predictions.jsonl").read_text().splitlines()
                assert len(lines) == int(prediction.id) + 1
        assert not (tmp_path / "p" / "scores.csv").exists()
    with (tmp_path / "p" / "scores.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 20


def test_a_full_disk_ends_the_run_with_its_own_error(tmp_path: Path, small_disk) -> None:
    out = small_disk(200_000) / "p"
    predictor = Predictor(Brightness((128, 128)), device="cpu", batch_size=1)
    predictions = list(predictor.predict(grey(i) for i in range(60)))

    def write() -> None:
        with FolderWriter(out) as writer:
            for prediction in predictions:
                writer.add(prediction)

    with pytest.raises(OSError, match="No space left"):
        write()
    assert not (out / "scores.csv").exists()


def test_a_folder_that_cannot_be_written_is_said(
    run: Path, tmp_path: Path, read_only_disk: Path
) -> None:
    photos = write_photos(tmp_path / "photos")
    result = run_line(f"cfrg predict {run} {photos} --out {read_only_disk / 'found'} --device cpu")
    assert result.exit_code == 2
    assert f"Error: {read_only_disk} cannot be written" in result.output


@pytest.mark.parametrize("map_format", ["npy", "npz", "tiff", "png16"])
def test_every_format_gives_the_maps_back(tmp_path: Path, map_format) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (32, 32, 3), np.uint8) for _ in range(4)]
    predictions = list(Predictor(Brightness(), device="cpu").predict(images))
    with FolderWriter(tmp_path / "p", map_format=map_format) as writer:
        for prediction in predictions:
            writer.add(prediction)
    folder = PredictionFolder(tmp_path / "p")
    values = np.concatenate([p.map.ravel() for p in predictions])
    atol = (values.max() - values.min()) / 65535 if map_format == "png16" else 0
    for prediction in predictions:
        np.testing.assert_allclose(folder[prediction.id], prediction.map, rtol=0, atol=atol)
    suffixes = {path.suffix for path in folder.maps.values()}
    assert suffixes == {".png" if map_format == "png16" else f".{map_format}"}


@pytest.mark.parametrize("name", ["../x", "a//b", "/x", "a\\b", ""])
def test_ids_do_not_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (prediction,) = Predictor(Brightness(), device="cpu").predict([(name, grey(1))])
    with pytest.raises(UsageError, match="leads out"), FolderWriter(tmp_path / "p") as writer:
        writer.add(prediction)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["predictions.jsonl"]


def test_regions_are_in_pixels_of_the_image() -> None:
    image = grey(0, 320, 640)
    image[100:140, 200:280] = 255  # twice as many pixels a side as the network sees
    image[10:20, 600:620] = 128
    predictor = Predictor(Brightness((160, 320)), device="cpu", threshold=0.9, pixel_threshold=0.25)
    (prediction,) = predictor.predict([image])
    assert prediction.defective
    assert prediction.regions is not None
    first, second = prediction.regions
    assert first.box == pytest.approx((200, 100, 80, 40), abs=2)
    assert first.area == pytest.approx(80 * 40, rel=0.1)
    assert (first.score, second.score) == pytest.approx((1, 128 / 255), abs=1e-3)
    assert second.box == pytest.approx((600, 10, 20, 10), abs=2)


def test_regions_are_those_of_the_mask() -> None:
    rng = np.random.default_rng(3)
    values = rng.random((40, 50), np.float32)
    found = find_regions(values, (80, 130), 0.6)
    expected = regions(flag_pixels(values, (80, 130), 0.6))
    assert sorted((r.box, r.area) for r in found) == sorted((r.bbox, r.area) for r in expected)
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)
    assert find_regions(values, (80, 130), 1.0) == ()
    assert not flag_pixels(values, (80, 130), 1.0).any()


def test_masks_and_overlays_have_the_size_of_the_image(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    image = grey(20, 300, 200)
    image[100:200, 50:100] = 250
    Image.fromarray(image).save(folder / "a.png")
    predictor = Predictor(Brightness(), device="cpu", threshold=0.5, pixel_threshold=0.5)
    policy = DecisionPolicy(pixel_threshold=0.5)
    with FolderWriter(tmp_path / "p", masks=True, overlays=True, policy=policy) as writer:
        for prediction in predictor.predict_files(find_images([folder])):
            writer.add(prediction, folder / "a.png")
    mask = np.asarray(Image.open(tmp_path / "p" / "masks" / "a.png"))
    assert mask.shape == (300, 200)
    assert set(np.unique(mask)) == {0, 255}
    assert (mask > 0).sum() == prediction.regions[0].area  # type: ignore[index]
    with Image.open(tmp_path / "p" / "overlays" / "a.jpg") as overlay:
        assert overlay.size == (200, 300)


def test_marks_need_a_threshold(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cfrg calibrate"):
        FolderWriter(tmp_path / "p", overlays=True)


def test_colours_mean_the_same_in_every_image() -> None:
    """The same value gets the same colour, whatever else is in its map."""
    calm = np.full((20, 20), 0.4, np.float32)
    wild = calm.copy()
    wild[:5, :5] = 9
    image = grey(100, 20, 20)
    pictures = [draw_overlay(image, values, 2.0) for values in (calm, wild)]
    np.testing.assert_array_equal(pictures[0][15:, 15:], pictures[1][15:, 15:])
    assert (pictures[1][:3, :3] != pictures[0][:3, :3]).any()


@pytest.mark.parametrize("threshold", [3.0, 0.01, 0.0, -2.0])
def test_threshold_is_half_way_on_the_colour_scale(threshold: float) -> None:
    low, high = colour_scale(threshold)
    assert low < high
    assert (low + high) / 2 == threshold


def test_overlays_of_huge_images_are_scaled_down() -> None:
    picture = draw_overlay(grey(9, 10, 2 * LARGEST), np.zeros((4, 4), np.float32), 1.0)
    assert picture.shape == (5, LARGEST, 3)


def test_model_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such"):
        Predictor.from_pretrained(tmp_path / "nowhere")


def two_regions() -> np.ndarray:
    values = np.zeros((40, 60), np.float32)
    values[5:7, 5:8] = 1.0  # 6 pixels
    values[20:30, 30:40] = 2.0  # 100 pixels
    return values


@pytest.mark.parametrize(("least_area", "left"), [(0, 106), (6, 106), (7, 100), (101, 0)])
def test_small_regions_are_cut_down_to_the_threshold(least_area: int, left: int) -> None:
    values = two_regions()
    counted = without_small(values, (40, 60), 0.5, least_area)
    assert (counted > 0.5).sum() == left
    assert (counted[values <= 0.5] == values[values <= 0.5]).all()
    large = without_small(values, (80, 120), 0.5, 4 * least_area)
    assert (large > 0.5).any() == (left > 0)


def test_masks_overlays_and_outlines_keep_to_the_policy_of_the_category(tmp_path: Path) -> None:
    policy = DecisionPolicy(
        defective=0.5,
        pixel_threshold=0.5,
        categories={"Part": DecisionPolicy(defective=0.5, pixel_threshold=1.5)},
        least_area=7,
    )
    image = tmp_path / "a.png"
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8)).save(image)
    out = tmp_path / "p"
    with FolderWriter(out, masks=True, overlays=True, annotations="coco", policy=policy) as writer:
        for name in ("Part/test/good/1", "other"):
            values = two_regions()
            values[20:30, 30:35] = 1.0
            writer.add(Prediction(name, values, 2.0, size=(40, 60)), image)
    for name, pixels in (("Part/test/good/1", 50), ("other", 100)):
        mask = np.asarray(Image.open(out / "masks" / f"{name}.png"))
        assert (mask > 0).sum() == pixels
    (written,) = (out / "annotations").glob("*.json")
    assert len(json.loads(written.read_text())["annotations"]) == 2
