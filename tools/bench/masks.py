"""Speed of masks, regions and encodings against other libraries, on one core, answers compared.

    python tools/bench/masks.py [--masks FOLDER] [--count N] [--rounds K]

Without ``--masks``, N masks of 1024 × 1024 pixels with one to six defects each (blobs, scratches
and pits) are drawn and written as PNG. Every row is the best of K rounds over all files, in
milliseconds of processor time a file, and as a multiple of the bare decode of the same files in the
same run. Then the same masks become a tree, and ``threecad stats --no-contrast`` is timed by the
clock: first with one worker and with two, then again from its cache. supervision is compared where
it is installed.
"""

# ruff: noqa: E402  (threads are limited before NumPy is imported)

from __future__ import annotations

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import shapely
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage
from skimage.measure import label, regionprops

from threecad import (
    mask_to_polygons,
    mask_to_rle,
    polygons_to_mask,
    read_mask,
    regions,
    scan,
    stats,
)

try:
    import supervision
except ImportError:
    supervision = None  # type: ignore[assignment]

SIDE = 1024


def draw_masks(folder: Path, count: int) -> list[Path]:
    """Write ``count`` masks of 0 and 255 with one to six defects each."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        for _ in range(random.integers(1, 7)):
            x, y = (int(value) for value in random.integers(60, SIDE - 60, 2))
            kind = random.integers(3)
            if kind == 0:  # a stain with a ragged outline
                angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
                radii = random.integers(8, 55) * random.uniform(0.7, 1.3, 40)
                points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
                cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 255)
            elif kind == 1:  # a scratch
                dx, dy = (int(value) for value in random.integers(-150, 150, 2))
                cv2.line(mask, (x, y), (x + dx, y + dy), 255, int(random.integers(1, 5)))
            else:  # a pit
                cv2.circle(mask, (x, y), int(random.integers(1, 6)), 255, -1)
        path = folder / f"{number:04}.png"
        Image.fromarray(mask).save(path)
        paths.append(path)
    return paths


def decode(path: Path) -> np.ndarray:
    """The bare decode: the file as an array, nothing else."""
    with Image.open(path) as image:
        return np.asarray(image)


def load(path: Path) -> None:
    with Image.open(path) as image:
        image.load()


def with_threecad(path: Path) -> list[tuple[Any, ...]]:
    return [(region.area, region.bbox, region.holes) for region in regions(read_mask(path))]


def with_scikit_image(path: Path) -> list[tuple[Any, ...]]:
    found = []
    for region in regionprops(label(decode(path) >= 128, connectivity=2)):
        top, left, bottom, right = region.bbox
        box = (left, top, right - left, bottom - top)
        _ = region.centroid
        found.append((int(region.area), box, 1 - region.euler_number))
    return found


def with_opencv(path: Path) -> list[tuple[Any, ...]]:
    """Components and minAreaRect (on pixel centres); holes are not counted."""
    mask = (decode(path) >= 128).astype(np.uint8)
    count, labels, figures, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in figures[number])
        window = (labels[y : y + height, x : x + width] == number).astype(np.uint8)
        outlines, _ = cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.minAreaRect(np.concatenate(outlines))
        found.append((area, (x, y, width, height), None))
    return found


def with_scipy_and_shapely(path: Path) -> list[tuple[Any, ...]]:
    """The loop one would write: label, find_objects, minimum_rotated_rectangle."""
    labels, _ = ndimage.label(decode(path) >= 128, structure=np.ones((3, 3)))
    found = []
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        y, x = np.nonzero(labels[window] == number)
        corners = [(x + i, y + j) for i in (0, 1) for j in (0, 1)]
        points = np.concatenate([np.stack(corner, axis=1) for corner in corners])
        shapely.minimum_rotated_rectangle(shapely.MultiPoint(points))
        box = (window[1].start, window[0].start, int(np.ptp(x)) + 1, int(np.ptp(y)) + 1)
        found.append((len(x), box, None))
    return found


def pillow_and_pycocotools(path: Path) -> str:
    encoded = coco.encode(np.asfortranarray(decode(path) >= 128, dtype=np.uint8))
    return str(encoded["counts"].decode())


def best_of(rounds: int, function: Callable[[Path], Any], paths: list[Path]) -> float:
    """Return the processor seconds a file of the best round."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        for path in paths:
            function(path)
        times.append((time.process_time() - begin) / len(paths))
    return min(times)


def check_regions(paths: list[Path]) -> str:
    """Compare every region of every mask with the other libraries."""
    compared = 0
    worst = 0.0
    for path in paths:
        ours, theirs = with_threecad(path), with_scikit_image(path)
        assert ours == theirs, f"{path}: scikit-image differs"
        found = sorted((area, box) for area, box, _ in ours)
        for other in (with_opencv, with_scipy_and_shapely):
            assert found == sorted((area, box) for area, box, _ in other(path)), path
        mask = read_mask(path)
        for region, outline in zip(regions(mask), mask_to_polygons(mask), strict=True):
            long, short = region.rotated_rect.sides
            smallest = shapely.minimum_rotated_rectangle(outline).area
            worst = max(worst, abs(long * short / smallest - 1))
            assert outline.area == region.area
            assert outline.length == region.perimeter
            compared += 1
    assert worst < 1e-9, worst
    return (
        f"{compared} regions: area, box and holes equal scikit-image's, area and box OpenCV's and "
        f"SciPy's; rectangles within {worst:.1e} of shapely's smallest."
    )


def check_encodings(paths: list[Path]) -> list[str]:
    masks = [read_mask(path) for path in paths]
    for path, mask in zip(paths, masks, strict=True):
        assert mask_to_rle(mask)["counts"] == pillow_and_pycocotools(path)
        assert np.array_equal(polygons_to_mask(mask_to_polygons(mask), mask.shape), mask)
    lines = [f"{len(masks)} masks: run lengths equal pycocotools'; polygons give back every pixel."]
    if supervision is not None:
        overlaps = []
        for mask in masks:
            drawn = np.zeros(mask.shape, np.uint8)
            for polygon in supervision.mask_to_polygons(mask):
                cv2.fillPoly(drawn, [polygon.astype(np.int32)], 1)
            overlaps.append((mask & (drawn > 0)).sum() / (mask | (drawn > 0)).sum())
        lines.append(
            f"supervision {supervision.__version__}: filled again, its polygons overlap the masks "
            f"with IoU {min(overlaps):.3f} at worst, {np.mean(overlaps):.3f} on average."
        )
    return lines


def time_stats(paths: list[Path], folder: Path) -> list[str]:
    """Time the statistics of a tree of these masks, by the clock."""
    lines = []
    for workers in (1, 2):
        root = folder / f"tree-{workers}"
        for part in ("test", "ground_truth"):
            (root / "Part" / part / "dent").mkdir(parents=True)
            for path in paths:
                os.link(path, root / "Part" / part / "dent" / path.name)
        index = scan(root)
        for run in ("first", "second"):
            begin = time.perf_counter()
            stats(index, contrast=False, workers=workers)
            seconds = time.perf_counter() - begin
            lines.append(f"| {run}, {workers} worker{'s'[: workers - 1]} | {seconds:.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--masks", type=Path, help="folder of masks, searched through")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = (
            sorted(options.masks.rglob("*.png"))[: options.count]
            if options.masks
            else draw_masks(Path(folder), options.count)
        )
        jobs: dict[str, Callable[[Path], Any]] = {
            "Pillow: bare decode": decode,
            "Pillow: the same, not as an array": load,
            "threecad: read_mask": read_mask,
            "threecad: read_mask + regions": with_threecad,
            "OpenCV: components + minAreaRect": with_opencv,
            "scikit-image: label + regionprops": with_scikit_image,
            "SciPy + shapely: a loop": with_scipy_and_shapely,
            "threecad: read_mask + mask_to_rle": lambda path: mask_to_rle(read_mask(path)),
            "pycocotools: encode": pillow_and_pycocotools,
            "threecad: read_mask + mask_to_polygons": lambda p: mask_to_polygons(read_mask(p)),
        }
        if supervision is not None:
            jobs["supervision: mask_to_rle"] = lambda path: supervision.mask_to_rle(
                decode(path) >= 128
            )
            jobs["supervision: mask_to_polygons"] = lambda path: supervision.mask_to_polygons(
                decode(path) >= 128
            )
        times = {name: best_of(options.rounds, job, paths) for name, job in jobs.items()}
        bare = times["Pillow: bare decode"]
        print(f"{len(paths)} masks, best of {options.rounds} rounds, one core\n")
        print("| what | ms a mask | × bare decode |\n|---|---:|---:|")
        for name, seconds in times.items():
            print(f"| {name} | {1e3 * seconds:.2f} | {seconds / bare:.2f} |")
        if options.masks is None:
            print("\n| stats --no-contrast of these masks | s |\n|---|---:|")
            print("\n".join(time_stats(paths, Path(folder))))
        print()
        print(check_regions(paths))
        print("\n".join(check_encodings(paths)))


if __name__ == "__main__":
    main()
