"""What a person at a page asks of a detector: one image, its regions, its picture."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from cfrg.inference.deadlines import ending
from cfrg.inference.overlays import colour_scale
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.predictor import Predictor
from cfrg.inference.regions import find_regions, without_small
from cfrg.inference.thresholds import Threshold
from threecad.dataset.samples import GOOD
from threecad.errors import ImageError, UsageError
from threecad.images.files import read_size
from threecad.pages.figures import heatmap, overlay

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from cfrg.inference.regions import FlaggedRegion
    from threecad.dataset.samples import Index, Sample

__all__ = ["VIEWS", "Inspection", "Inspections", "Inspector", "load_inspectors", "shrink"]

SHOWN = 1280
"""Longer side of a picture on the page, pixels."""

MAX_PIXELS = 1 << 25
"""Pixels of the largest image of a visitor, some 33 million.

At this size, the preset ``lite`` at 256 pixels takes 0.4 GB (PNG, JPEG, TIFF) to 0.75 GB (WebP)
beyond its own and 0.6 to 1.4 s of one core; cut into tiles, as long as ``PATIENCE`` allows.
"""

PATIENCE = 60
"""Seconds a visitor waits for an inspection, which ends soon after."""

REMEMBERED = 16
REMEMBERED_BYTES = 1 << 28
"""Inspections at hand, so that a slider moves without the network; the last one always is."""

EXAMPLES = 8
GUESSED = 16
"""Images of a tree to try a detector on."""

VIEWS = ("Overlay", "Heat map", "Image")
"""What a picture of an inspection can show."""


@dataclass(frozen=True)
class Inspection:
    """One image and what the network said about it; thresholds come later.

    Attributes:
        image: (h, w, 3) uint8 RGB, its longer side at most ``SHOWN``.
        map: (h, w) float32 anomaly map, as ``Prediction.map``.
        score: The image score.
        size: Height and width of the image itself.
    """

    image: npt.NDArray[np.uint8]
    map: npt.NDArray[np.float32]
    score: float
    size: tuple[int, int]

    def regions(self, pixel_threshold: float) -> tuple[FlaggedRegion, ...]:
        """Return the regions above a threshold, the highest score first."""
        return find_regions(self.map, self.size, pixel_threshold)


@dataclass(frozen=True)
class Inspector:
    """A detector with its thresholds and some images to try it on.

    Attributes:
        name: The run's category, or its folder's name.
        predictor: The detector.
        threshold: For image scores: where the page starts.
        pixel_threshold: For anomaly maps: where the page starts; fixes the colours.
        origin: Where the thresholds come from, a sentence for people.
        decides: Whether they were calibrated or given; else the page decides nothing by itself.
        examples: Images of the category.
    """

    name: str
    predictor: Predictor
    threshold: float
    pixel_threshold: float
    origin: str
    decides: bool
    examples: tuple[Sample, ...] = ()

    @property
    def scale(self) -> tuple[float, float]:
        """The values that are black and pale yellow."""
        return colour_scale(self.pixel_threshold)

    def policy(self, threshold: float, pixel_threshold: float | None = None) -> DecisionPolicy:
        """Return what decides where the page's thresholds have been moved to.

        Args:
            threshold: For image scores. Review begins where it was calibrated, or there if lower.
            pixel_threshold: For anomaly maps; the inspector's own when ``None``.
        """
        own = self.predictor.policy
        return DecisionPolicy(
            defective=threshold,
            review=None if own.review is None else min(own.review, threshold),
            pixel_threshold=self.pixel_threshold if pixel_threshold is None else pixel_threshold,
            least_area=own.least_area,
        )

    def inspect(self, path: str | os.PathLike[str], until: float = math.inf) -> Inspection:
        """Return what the detector says about an image file.

        Args:
            path: The file.
            until: When to give up, by ``time.monotonic``: before the next tile.

        Raises:
            ImageError: If the file is no image, is damaged or is too large.
            TimeoutError: If there are tiles left to compute then.
        """
        predictor = ending(self.predictor, until)
        image = predictor.tiling.read(path)
        predictor.tiling = replace(predictor.tiling, bits=8)  # those of the image by now
        (prediction,) = predictor.predict([image])
        if prediction.map is None:
            raise ImageError(str(prediction.error))
        return Inspection(shrink(image), prediction.map, prediction.score, prediction.size)

    def draw(
        self, inspection: Inspection, pixel_threshold: float, view: str = "Overlay"
    ) -> npt.NDArray[np.uint8]:
        """Return a picture of an inspection, (h, w, 3) uint8 RGB.

        Args:
            inspection: What to draw.
            pixel_threshold: In the overlay, a white line runs round what is above and large enough
                to count. The colours do not move with it.
            view: One of ``VIEWS``.
        """
        low, high = self.scale
        if view == "Image":
            return inspection.image
        if view == "Heat map":
            height, width = inspection.image.shape[:2]
            values = cv2.resize(inspection.map, (width, height), interpolation=cv2.INTER_LINEAR)
            return heatmap(np.asarray(values), vmin=low, vmax=high)
        counted = without_small(
            inspection.map, inspection.size, pixel_threshold, self.predictor.policy.least_area
        )
        return overlay(inspection.image, counted, vmin=low, vmax=high, threshold=pixel_threshold)


class Inspections:
    """What visitors may ask of detectors: one image at a time, none too large, none for ever.

    Args:
        inspectors: By name.
    """

    def __init__(self, inspectors: Mapping[str, Inspector]) -> None:
        self.inspectors = inspectors
        self._recent: OrderedDict[tuple[str, str], Inspection] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, "inspection")

    def find(self, name: str, path: str) -> Inspection:
        """Return what a detector says about an image file; of recent ones, what it said.

        Raises:
            ImageError: If the file is no image, is damaged, has more than ``MAX_PIXELS`` or takes
                longer than ``PATIENCE``.
        """
        key = (name, path)
        found = self._recent.get(key)
        if found is None:
            task = self._worker.submit(self._inspect, name, path, time.monotonic() + PATIENCE)
            try:
                found = task.result(PATIENCE)
            except (FutureTimeoutError, TimeoutError):
                task.cancel()
                raise ImageError(
                    f"{path} takes longer than {PATIENCE} s. Try a smaller image, or later."
                ) from None
        self._recent[key] = found
        self._recent.move_to_end(key)
        while len(self._recent) > 1 and not self._are_few():
            self._recent.popitem(last=False)
        return found

    def _are_few(self) -> bool:
        kept = sum(each.image.nbytes + each.map.nbytes for each in self._recent.values())
        return len(self._recent) <= REMEMBERED and kept <= REMEMBERED_BYTES

    def _inspect(self, name: str, path: str, until: float) -> Inspection:
        height, width = read_size(path)
        if height * width > MAX_PIXELS:
            raise ImageError(
                f"{path} has {width} × {height} pixels, more than the {MAX_PIXELS:,} of the page. "
                "Scale it down, or use `cfrg predict`."
            )
        return self.inspectors[name].inspect(path, until)


def load_inspectors(
    runs: Sequence[str | os.PathLike[str]],
    *,
    root: str | os.PathLike[str] | None = None,
    threshold: float | None = None,
    pixel_threshold: float | None = None,
    **options: Any,
) -> list[Inspector]:
    """Return an inspector for each run, and for each category that has thresholds of its own.

    Thresholds are those given, else those of ``cfrg calibrate``. A run without takes the highest
    values of the good images at hand, and says so; without images it takes a guess.

    Args:
        runs: Run folders, or ``owner/name`` on the Hub.
        root: A tree to take examples from.
        threshold: For image scores.
        pixel_threshold: For anomaly maps.
        **options: Given to ``Predictor``.

    Raises:
        ModelError: If a run cannot be loaded.
        DataError: If ``root`` is no tree.
        UsageError: If there is no run.
    """
    if not runs:
        raise UsageError("Name at least one run.")
    index = None
    if root is not None:
        from threecad.dataset.scanning import scan

        index = scan(root)
    inspectors: list[Inspector] = []
    for run in runs:
        predictor = Predictor.from_pretrained(
            run, threshold=threshold, pixel_threshold=pixel_threshold, batch_size=1, **options
        )
        taken = {inspector.name for inspector in inspectors}
        name = predictor.category or Path(run).name
        name = f"{name} ({Path(run).name})" if name in taken else name
        test = () if index is None else _test_images(index, predictor.category)
        inspectors.append(_make_inspector(name, predictor, test, given=threshold is not None))
        for category, own in predictor.policy.categories.items():
            twin = copy(predictor)
            twin.policy = own
            of_category = [sample for sample in test if sample.category == category]
            inspectors.append(_of_category(f"{name}: {category}", twin, of_category))
    return inspectors


def _of_category(name: str, predictor: Predictor, test: Sequence[Sample]) -> Inspector:
    """Return the inspector of one category of a run that has thresholds for each."""
    own = predictor.policy
    assert own.defective is not None
    assert own.pixel_threshold is not None
    origin = "The thresholds of this category."
    if own.false_alarm_rate is not None:
        origin = (
            "The thresholds of this category, calibrated on its good images for a false-alarm "
            f"rate of {own.false_alarm_rate:.2%}."
        )
    examples = _choose_examples(test)
    return Inspector(name, predictor, own.defective, own.pixel_threshold, origin, True, examples)


def _make_inspector(
    name: str, predictor: Predictor, test: Sequence[Sample], *, given: bool
) -> Inspector:
    """Return the inspector with the predictor's thresholds, or with a guess in their place."""
    examples = _choose_examples(test)
    score, pixel = predictor.threshold, predictor.pixel_threshold
    if score is not None and pixel is not None:
        return Inspector(name, predictor, score, pixel, _origin(predictor, given), True, examples)
    guess, origin = _guess(predictor, [sample for sample in test if not sample.label][:GUESSED])
    return Inspector(
        name,
        predictor,
        guess[0] if score is None else score,
        guess[1] if pixel is None else pixel,
        origin,
        score is not None,
        examples,
    )


def _guess(predictor: Predictor, good: Sequence[Sample]) -> tuple[tuple[float, float], str]:
    """Return an image and a pixel threshold for a run without, and where they come from."""
    origin = "This run is not calibrated. Its thresholds are a guess"
    advice = "cfrg calibrate finds real ones."
    predictions = [p for p in predictor.predict(s.image for s in good) if p.map is not None]
    if predictions:
        scores = (prediction.score for prediction in predictions)
        peaks = (float(p.map.max()) for p in predictions if p.map is not None)
        source = f"the highest values of {len(predictions)} good images"
        return (max(scores), max(peaks)), f"{origin}, {source}; {advice}"
    # With calibrate_maps, maps are in standard deviations over good images.
    calibrated = getattr(predictor.detector.config, "calibrate_maps", False)
    return (10.0, 10.0) if calibrated else (1.0, 1.0), f"{origin}; {advice}"


def _origin(predictor: Predictor, given: bool) -> str:
    if given:
        return "The threshold was given on the command line."
    companions = getattr(predictor.detector, "companions", {})
    stored = Threshold.from_dict(companions["calibration.json"])
    low, high = stored.interval
    return (
        f"Calibrated on {stored.images:,} good images for a false-alarm rate of "
        f"{stored.false_alarm_rate:.2%} (95% interval {low:.2%} to {high:.2%})."
    )


def _test_images(index: Index, category: str | None) -> list[Sample]:
    return [s for s in index if s.split == "test" and category in (None, s.category)]


def _choose_examples(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """Return some images: two good ones, the others spread over the defect types."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.defect_type, []).append(sample)
    good = groups.pop(GOOD, [])[:2]
    spread = (s for group in zip_longest(*groups.values()) for s in group if s is not None)
    return (*good, *islice(spread, EXAMPLES - len(good)))


def shrink(image: npt.NDArray[np.uint8], side: int = SHOWN) -> npt.NDArray[np.uint8]:
    """Return an image (H, W, 3) uint8 with its longer side at most ``side`` pixels."""
    height, width = image.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
