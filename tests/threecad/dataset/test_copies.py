"""Copies are found among photographs that look alike, and only copies."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from threecad.dataset.duplicates.copies import find_originals

DATA = Path(os.environ.get("THREECAD_TEST_DATA", "nowhere"))


def part(seed: int, size: int = 256) -> Image.Image:
    """A part in a fixture: always the same outline, hole and light; a surface of its own."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:size, :size] / size
    radius = np.hypot(row - 0.5, column - 0.5)
    pixels = 40 + 120 * (radius < 0.42) - 90 * (radius < 0.12) + 30 * column
    surface = cv2.GaussianBlur(rng.normal(size=(size, size)), (0, 0), 4)
    pixels += 6 * surface / surface.std() * (radius < 0.42) + rng.normal(size=(size, size))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def write(folder: Path, images: dict[str, Image.Image]) -> list[tuple[str, Path]]:
    files = []
    for name, image in images.items():
        path = folder / f"{name}.png"
        image.save(path)
        files.append((name, path))
    return files


def encoded(image: Image.Image, folder: Path, quality: int) -> Image.Image:
    image.save(folder / "encoded.jpg", quality=quality)
    with Image.open(folder / "encoded.jpg") as opened:
        opened.load()
        return opened


def test_parts_in_a_fixture_are_different_photographs(tmp_path: Path) -> None:
    files = write(tmp_path, {f"{i:02d}": part(i) for i in range(30)})
    assert len(set(find_originals(files).values())) == 30


@pytest.mark.parametrize("others", [0, 20])
def test_copies_are_found_among_few_and_among_many(tmp_path: Path, others: int) -> None:
    image = part(0)
    copies = {
        "a": image,
        "same": image,
        "colour": image.convert("RGB"),
        "jpeg-80": encoded(image, tmp_path, 80),
        "jpeg-40": encoded(image, tmp_path, 40),
        "half": image.resize((128, 128), Image.Resampling.BICUBIC),
        "cropped": image.crop((0, 1, 255, 256)),
        "brighter": image.point(lambda value: value * 1.05 + 3),
    }
    more = {f"x{i:02d}": part(100 + i) for i in range(others)}
    found = find_originals(write(tmp_path, {**copies, **more}))
    assert {name: found[name] for name in copies} == dict.fromkeys(copies, "a")
    assert len(set(found.values())) == 1 + others


def test_what_shows_nothing_or_does_not_decode_has_no_copies(tmp_path: Path) -> None:
    flat = {f"{i}": Image.new("L", (64, 64), 100 + i) for i in range(3)}
    files = write(tmp_path, flat)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files += [(name, tmp_path / "broken.png") for name in ("b1", "b2")]
    assert find_originals(files) == {name: name for name, _ in files}
    assert find_originals([]) == {}


@pytest.mark.parametrize(
    ("folder", "number", "least"),
    [("foreign/metal_plate/train/good", 45, 45), ("foreign/bottle/train/good", 120, 118)],
)
def test_photographs_of_like_parts_are_not_taken_for_copies(
    folder: str, number: int, least: int
) -> None:
    if not (DATA / folder).is_dir():
        pytest.skip(f"{folder} is not there")
    files = [(path.stem, path) for path in sorted((DATA / folder).iterdir())]
    assert len(files) == number
    assert len(set(find_originals(files).values())) >= least
