"""One image of a dataset with what a model said about it, ready to be counted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from threecad.dataset.samples import read_sample_mask
from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.counting.paper_protocol import PAPER_SIZE
from threecad.evaluation.screening import examine_map
from threecad.images.areas import fit_area, same_shape
from threecad.images.files import read_size
from threecad.images.regions import label_regions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from threecad.dataset.samples import Sample
    from threecad.evaluation.evaluator import Protocol
    from threecad.evaluation.plausibility import MapFacts
    from threecad.images.areas import Areas
    from threecad.images.masks import MaskRule

__all__ = ["Evaluable", "Ignored", "read_evaluable", "resize_map", "score_image", "top_fraction"]


class Ignored(NamedTuple):
    """What the ignored areas hide."""

    regions: int = 0  # labelled ones of which nothing is left
    of_regions: int = 0
    images: int = 0  # defective ones of which no region is left

    def __add__(self, other: Any) -> Ignored:
        return Ignored(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@dataclass(frozen=True)
class Evaluable:
    """One sample, ready to be counted."""

    scores: NDArray[np.floating[Any]]  # (H, W) of the mask's size
    mask: NDArray[np.bool_] | None
    score: float
    label: int
    facts: MapFacts  # of the map as it was given
    hidden: NDArray[np.bool_] | None = None  # (H, W), what takes no part
    ignored: Ignored = field(default_factory=Ignored)

    @property
    def counted_scores(self) -> NDArray[np.floating[Any]]:
        """The scores of the pixels that count."""
        return self.scores if self.hidden is None else self.scores[~self.hidden]


def read_evaluable(
    sample: Sample,
    source: Any,
    scores: Mapping[str, float] | None,
    rule: str,
    mask_rule: MaskRule | None,
    protocol: Protocol,
    areas: Areas | None,
) -> Evaluable:
    """Read the map, the mask and the image score of a sample.

    Args:
        sample: The sample.
        source: Sample id → map, as a mapping or a function.
        scores: Sample id → image score, where ``rule`` is ``table``.
        rule: ``table``, ``max`` or ``top:F``.
        mask_rule: Decode the mask by this rule.
        protocol: ``full`` or ``paper``.
        areas: What is ignored.

    Raises:
        DataError: If an area cannot be used.
        EvaluationError: If the map cannot be used, or all of it is ignored.
        ImageError: If the image cannot be read.
        MaskError: If the mask cannot be used.
    """
    values, facts = examine_map(source(sample.id) if callable(source) else source[sample.id])
    shape, label = read_size(sample.image), sample.label
    hidden = None if areas is None else areas.of(sample.id, shape)
    if rule == "table" and scores:
        score = scores[sample.id]
    else:
        score = score_image(values if hidden is None else _uncovered(values, hidden), rule)
    if label and sample.mask is None:
        return Evaluable(values, None, score, label, facts)
    mask = read_sample_mask(sample, shape, rule=mask_rule)
    if protocol == "paper":
        shape = PAPER_SIZE
        picture = Image.fromarray(mask.astype(np.uint8))
        mask = np.asarray(picture.resize(shape[::-1], Image.Resampling.NEAREST)) > 0
        label = int(mask.any())
    ignored = Ignored()
    if areas is not None:
        ignored = _count_ignored(mask, hidden)
    if hidden is not None:
        mask = mask & ~hidden
    return Evaluable(resize_map(values, shape), mask, score, label, facts, hidden, ignored)


def resize_map(
    anomaly_map: NDArray[np.floating[Any]], size: tuple[int, int]
) -> NDArray[np.floating[Any]]:
    """Resize a map to ``(height, width)``: bilinear, half-pixel centres, without antialiasing.

    A map of that size already is returned as it is.
    """
    if anomaly_map.shape == size:
        return anomaly_map
    values = np.ascontiguousarray(anomaly_map)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    resized = cv2.resize(values, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized)


def score_image(anomaly_map: NDArray[np.floating[Any]], rule: str) -> float:
    """Return the image score of a map by ``max`` or ``top:F``.

    Raises:
        UsageError: If ``rule`` is neither.
    """
    if rule == "max":
        return float(anomaly_map.max())
    fraction = top_fraction(rule)
    values = anomaly_map.astype(np.float64).reshape(-1)
    chosen = max(1, math.ceil(fraction * values.size))
    return float(np.partition(values, values.size - chosen)[values.size - chosen :].mean())


def top_fraction(rule: str) -> float:
    """Return F of the rule ``top:F``.

    Raises:
        UsageError: If it is another rule.
    """
    kind, _, number = rule.partition(":")
    try:
        fraction = float(number)
    except ValueError:
        fraction = -1.0
    if kind != "top" or not 0 < fraction <= 1:
        raise UsageError(
            f"The image-score rule is {rule!r}; expected auto, table, max or top:F with a "
            "fraction F above 0 and up to 1, such as top:0.01."
        )
    return fraction


def _uncovered(
    values: NDArray[np.floating[Any]], hidden: NDArray[np.bool_]
) -> NDArray[np.floating[Any]]:
    """Return the pixels of a map, (P,), that are not ignored.

    Raises:
        EvaluationError: If there is none.
    """
    size = values.shape[0], values.shape[1]
    left = values[~fit_area(hidden, size)] if same_shape(hidden.shape, size) else values[:0]
    if not left.size:
        left = resize_map(values, hidden.shape)[~hidden]
    if not left.size:
        raise EvaluationError("all of it is ignored. Draw a smaller area.")
    return left


def _count_ignored(mask: NDArray[np.bool_], hidden: NDArray[np.bool_] | None) -> Ignored:
    """Count the regions of a mask, and those of which nothing is left."""
    labels = label_regions(mask)
    regions = int(labels.max(initial=0))
    if hidden is None or not regions:
        return Ignored(0, regions)
    left = np.unique(labels[~hidden])
    gone = regions - int((left > 0).sum())
    return Ignored(gone, regions, int(gone == regions))
