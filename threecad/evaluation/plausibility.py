"""Predictions that can be scored and still cannot be right: transposed, normalised, mixed up.

Each check is made for one category and asks for a pattern over all of its maps that no model
comes to by chance, since a false alarm teaches to overlook alarms. ``docs/evaluation.md`` lists
what is asked and what goes unnoticed.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from threecad.images.files import read_size
from threecad.images.hashing import hash_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from threecad.dataset.samples import Sample
    from threecad.evaluation.scores import Scores

__all__ = ["MapFacts", "find_background", "find_doubts", "find_inverted", "find_transposed"]

LEAST_MAPS = 5
"""Maps of a category below which a pattern over all of them may be chance."""

NAMED = 3
"""Ids that a warning names."""

CLEAR_ASPECT = 1.2
"""Longer to shorter side of an image above which a map of another size can be told to be turned."""

TOLERANCE = 1e-3
"""Relative difference within which a figure is the same for all maps: normalising adds epsilons."""

CLEARLY_BELOW = 4.0
"""Standard deviations below an image AUROC of 0.5 at which no chance is left."""

RANKED_WELL = 0.9
"""Image AUROC from which scores seem to have found the defects."""

LEAST_DECIDED = 10
"""Defective images of a category below which reasons may be wrong by chance."""

MOSTLY_ELSEWHERE = 0.5
"""Share of right reasons below which most decisions rest on something else."""

INVERTED_PIXELS = 0.25
"""Pixel AUROC at or below which defects score low."""


@dataclass(frozen=True)
class MapFacts:
    """What the checks need of one anomaly map.

    Attributes:
        shape: ``(H, W)``.
        low: Its least value.
        high: Its highest.
        mean: The mean.
        deviation: The standard deviation.
        checksum: Of the values; equal for equal maps.
    """

    shape: tuple[int, int]
    low: float
    high: float
    mean: float
    deviation: float
    checksum: int

    @classmethod
    def of(cls, values: NDArray[np.floating[Any]]) -> MapFacts:
        """Return the facts of a map ``(H, W)`` of finite floats."""
        values = np.ascontiguousarray(values)
        if values.dtype == np.float16:
            values = values.astype(np.float32)
        mean, deviation = cv2.meanStdDev(values)
        return cls(
            (values.shape[0], values.shape[1]),
            float(values.min()),
            float(values.max()),
            float(mean.item()),
            float(deviation.item()),
            zlib.crc32(values.data),
        )


def find_transposed(samples: Sequence[Sample], facts: Mapping[str, MapFacts]) -> list[str]:
    """Return a line for each sample whose map lies across its image, width for height.

    A network of one input size sees images of other proportions, so that a map across its image
    proves nothing by itself. It does where all maps of a category lie so whose images are not
    square, or where every map is of the size of its image, but some turned.
    """
    found: list[str] = []
    for members in _by_category(samples, facts).values():
        lines, exact, others = [], True, 0
        for sample in members:
            shape = facts[sample.id].shape
            # A square map cannot tell; the header of its image need not be read.
            size = shape if shape[0] == shape[1] else read_size(sample.image)
            if size[0] == size[1]:
                exact = exact and size == shape
                others += shape[0] != shape[1]
            elif _is_turned(shape, size):
                exact = exact and shape == size[::-1]
                lines.append(
                    f"{sample.id}: The map is transposed: {shape[0]} × {shape[1]} (height × width) "
                    f"for an image of {size[0]} × {size[1]}. Give maps as (H, W). Should the "
                    "network see images so, resize its maps to their size first."
                )
            else:
                exact = exact and shape == size
                others += 1
        shapes = {facts[sample.id].shape for sample in members}
        if not others or (exact and len(shapes) > 1):
            found += lines
    return found


def find_doubts(
    samples: Sequence[Sample],
    facts: Mapping[str, MapFacts],
    scores: Mapping[str, float] | None,
) -> Iterator[str]:
    """Yield what is doubtful about maps and scores, a sentence for each category and reason.

    Args:
        samples: Those that are evaluated.
        facts: Sample id → what is known of its map.
        scores: Sample id → image score, where scores come from a table.
    """
    for category, members in _by_category(samples, facts).items():
        maps = [facts[sample.id] for sample in members]
        ids = [sample.id for sample in members]
        if len(members) >= LEAST_MAPS:
            if reason := _describe_pinned(maps):
                yield f"{category}: {reason} {_name(ids)}"
            if scores is not None and (wrong := _find_swapped(members, facts, scores)):
                yield (
                    f"{category}: The image scores are the highest values of the maps, but of "
                    f"other images: maps or scores belong to other ids. {_name(wrong)}"
                )
        for same in _find_identical(members, facts):
            yield (
                f"{category}: {len(same)} images that differ have one and the same map. "
                f"{_name(same)}"
            )


def find_inverted(category: str, scores: Scores) -> Iterator[str]:
    """Yield what says that good scores higher than defective.

    Args:
        category: Named in the sentence.
        scores: The category's figures and counts.
    """
    good, defective = scores.counts.get("good", 0), scores.counts.get("defective", 0)
    below: list[str] = []
    image, pixel = (scores.figures.get(key) for key in ("image_auroc", "pixel_auroc"))
    if image is not None and image.value is not None:
        # Of a rank sum without any difference (Mann & Whitney, 1947).
        deviation = math.sqrt((good + defective + 1) / (12 * good * defective))
        if image.value < 0.5 - CLEARLY_BELOW * deviation:
            below.append(f"image AUROC {image.value:.2f}")
    enough = defective >= LEAST_MAPS
    if enough and pixel is not None and pixel.value is not None and pixel.value <= INVERTED_PIXELS:
        below.append(f"pixel AUROC {pixel.value:.2f}")
    if below:
        yield (
            f"{category}: {' and '.join(below)}: good scores higher than defective. Higher must be "
            "more anomalous; is the sign inverted, or are ids mixed up?"
        )


def find_background(category: str, scores: Scores) -> Iterator[str]:
    """Yield what says that images are told apart by something beside their defects.

    Args:
        category: Named in the sentence.
        scores: The category's figures and counts.
    """
    image, reason = (scores.figures.get(key) for key in ("image_auroc", "right_reason"))
    if image is None or reason is None or image.value is None or reason.value is None:
        return
    if scores.counts.get("defective", 0) < LEAST_DECIDED or image.value < RANKED_WELL:
        return
    if reason.value < MOSTLY_ELSEWHERE:
        yield (
            f"{category}: image AUROC {image.value:.2f}, but of the images decided defective only "
            f"{100 * reason.value:.0f} % have the highest point of their map in or near a labelled "
            "region: the scores come from the background. Look at the maps before you trust them."
        )


def _by_category(
    samples: Sequence[Sample], facts: Mapping[str, MapFacts]
) -> dict[str, list[Sample]]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.id in facts:
            groups[sample.category].append(sample)
    return groups


def _is_turned(shape: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether a map has the proportions (W, H) of an image (H, W), and not its own."""
    (rows, columns), (height, width) = shape, size
    if (rows, columns) == (width, height):
        return True
    across, upright = abs(columns - rows * height / width), abs(columns - rows * width / height)
    clear = max(height, width) >= CLEAR_ASPECT * min(height, width)
    return clear and across <= 1 < 2 < upright


def _describe_pinned(maps: Sequence[MapFacts]) -> str:
    """Say which figure is the same for every map, as if each had been brought to it."""
    span = max(m.high for m in maps) - min(m.low for m in maps)
    if not span:
        return "Every map has the same value everywhere: the figures of pixels say nothing."
    varied = [m for m in maps if m.high > m.low]
    if not varied:
        return "Every map has one value everywhere: the figures of pixels say nothing."
    if len({m.checksum for m in varied}) < LEAST_MAPS:
        return ""

    def agree(figure: Callable[[MapFacts], float], unit: float) -> bool:
        values = [figure(m) for m in varied]
        return max(values) - min(values) <= TOLERANCE * unit

    widest = max(m.high - m.low for m in varied)
    if agree(lambda m: m.high, widest):
        ends = f"ends at {varied[0].high:.4g}"
        if agree(lambda m: m.low, widest):
            ends = f"runs from {varied[0].low:.4g} to {varied[0].high:.4g}"
    elif agree(lambda m: m.mean, widest) and agree(lambda m: m.deviation, varied[0].deviation):
        ends = f"has mean {varied[0].mean:.4g} and deviation {varied[0].deviation:.4g}"
    else:
        return ""
    return (
        f"Each map {ends}, as if normalised on its own: maps and scores of different images can no "
        "longer be compared. Write them as the model gives them."
    )


def _find_swapped(
    members: Sequence[Sample], facts: Mapping[str, MapFacts], scores: Mapping[str, float]
) -> list[str]:
    """Return the ids whose score is another map's highest value, if scores are such values."""
    given = np.array([float(scores[sample.id]) for sample in members])
    peaks = np.array([facts[sample.id].high for sample in members])
    unit = 1e-5 * max(float(np.abs(peaks).max()), 1e-12)
    if np.ptp(peaks) <= unit or np.abs(np.sort(given) - np.sort(peaks)).max() > unit:
        return []
    return [m.id for m, there in zip(members, np.abs(given - peaks) > unit, strict=True) if there]


def _find_identical(
    members: Sequence[Sample], facts: Mapping[str, MapFacts]
) -> Iterator[list[str]]:
    """Yield ids of one map that is not constant, whose images are not all the same file."""
    groups: dict[MapFacts, list[Sample]] = defaultdict(list)
    for sample in members:
        if facts[sample.id].high > facts[sample.id].low:
            groups[facts[sample.id]].append(sample)
    for group in groups.values():
        if len(group) > 1 and len({hash_file(sample.image) for sample in group}) > 1:
            yield [sample.id for sample in group]


def _name(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return f"({', '.join(ids[:NAMED])}{more})"
