"""One part photographed again and again: how much of the decision is the camera's noise?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.images.cache import join_errors
from cfrg.images.sources import find_images
from cfrg.inference.predictor import Predictor
from threecad.errors import DataError, UsageError

if TYPE_CHECKING:
    import os

__all__ = ["FAIR", "LEAST_REPEATS", "POOR", "Golden", "measure_golden"]

LEAST_REPEATS = 5
"""Photographs without which nothing is said about a spread."""

FAIR, POOR = 0.1, 0.3
"""Shares of the distance that six standard deviations may take: the limits that gauge studies use
for good and for unusable (AIAG, Measurement Systems Analysis)."""


@dataclass(frozen=True)
class Golden:
    """The repeatability of scores and maps.

    Attributes:
        folder: The photographs.
        images: Their number.
        mean: Mean of the scores.
        deviation: Standard deviation of the scores.
        map_deviation: The largest standard deviation of a place of the map.
        distance: Image threshold less the median score of the calibration's good images.
        stopped: How many of them are called defective.
    """

    folder: str
    images: int
    mean: float
    deviation: float
    map_deviation: float
    distance: float
    stopped: int

    @property
    def share(self) -> float:
        """Six standard deviations as a share of the distance; infinite without a distance."""
        return 6 * self.deviation / self.distance if self.distance > 0 else float("inf")

    @property
    def notable(self) -> bool:
        """Whether the spread is more than 30 % of the distance, or the answer is not always one."""
        return self.share > POOR or 0 < self.stopped < self.images

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able data."""
        share = self.share if self.distance > 0 else None
        return {**asdict(self), "share": share, "notable": self.notable}

    def __str__(self) -> str:
        """Return a sentence for people."""
        kind = "good" if self.share <= FAIR else "fair" if self.share <= POOR else "poor"
        mixed = ""
        if 0 < self.stopped < self.images:
            mixed = f" {self.stopped} of them are called defective and the others good."
        look = ""
        if self.notable:
            look = " Look at lamp, exposure and fixture before anything else."
        return (
            f"{self.images} photographs of one part: scores {self.mean:.4g} ± {self.deviation:.2g};"
            f" six standard deviations are {self.share:.0%} of the distance from good parts to the "
            f"threshold: {kind} repeatability.{mixed}{look}"
        )


def measure_golden(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    usual: float,
    **options: Any,
) -> Golden:
    """Return how far a detector's answers spread over photographs of one part.

    Args:
        run: The run folder, calibrated.
        folder: The photographs, all of one size.
        usual: Median score of good images.
        **options: Given to ``Predictor``.

    Raises:
        UsageError: If there are fewer than ``LEAST_REPEATS``, or the run has no threshold.
        DataError: If one cannot be read, or is of another size.
    """
    files = find_images([folder])
    if len(files) < LEAST_REPEATS:
        raise UsageError(
            f"{folder} holds {len(files)} photographs; {LEAST_REPEATS} or more of one part are "
            "needed to say how far they spread."
        )
    predictor = Predictor.from_pretrained(run, **options)
    if predictor.threshold is None:
        raise UsageError(f"{run} has no threshold. Run `cfrg calibrate`.")
    scores, bad, stopped = [], [], 0
    first: tuple[int, int] | None = None
    total = squares = np.zeros(1)
    for prediction in predictor.predict_files(files):
        if prediction.map is None:
            bad.append(f"{prediction.id}: {prediction.error}")
            continue
        if first not in (None, prediction.size):
            bad.append(
                f"{prediction.id} is {prediction.size[1]} × {prediction.size[0]} pixels, others "
                "are not: photographs of one part are of one size."
            )
            continue
        first = prediction.size
        scores.append(prediction.score)
        stopped += bool(prediction.defective)
        if len(scores) == 1:
            shift = prediction.map.astype(np.float64)  # keeps the squares exact
        away = prediction.map - shift
        total, squares = total + away, squares + away**2
    if bad:
        raise DataError(join_errors(bad))
    number = len(scores)
    variance = np.maximum(squares - total**2 / number, 0) / (number - 1)
    return Golden(
        folder=str(folder),
        images=number,
        mean=float(np.mean(scores)),
        deviation=float(np.std(scores, ddof=1)),
        map_deviation=float(np.sqrt(variance.max())),
        distance=predictor.threshold - usual,
        stopped=stopped,
    )
