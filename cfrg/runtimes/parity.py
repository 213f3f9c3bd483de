"""An exported graph against the model it came from, on images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.network import processing
from threecad.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    Decide = Callable[[str, npt.NDArray[np.float32], float], str]

__all__ = ["TOLERANCES", "ModelAndGraph", "Parity", "Tolerance", "compare"]


@dataclass(frozen=True)
class Tolerance:
    """What may differ.

    Attributes:
        error: Largest difference of a map's pixel or of a score, as a fraction of the range
            (maximum − minimum) of all the model's maps.
        changed: Fraction of decisions that may change.
    """

    error: float
    changed: float


TOLERANCES = {
    "float32": Tolerance(error=1e-4, changed=0.0),
    "float16": Tolerance(error=2e-2, changed=0.0),
    "int8": Tolerance(error=0.25, changed=0.05),
}
"""By precision."""


@dataclass(frozen=True)
class ModelAndGraph:
    """One image: what the model gives and what the exported graph gives."""

    id: str
    expected: npt.NDArray[np.float32]
    found: npt.NDArray[np.float32]
    expected_score: float
    found_score: float
    decision: bool | None


@dataclass(frozen=True)
class Parity:
    """How an exported graph differs from the model.

    Attributes:
        images: Number of images compared.
        map_range: Smallest and largest value of the model's maps.
        map_error: Largest difference of two maps at a pixel, in the maps' units.
        score_error: Largest difference of two scores.
        decisions_changed: Images that are decided otherwise; ``None`` without threshold.
        undecidable: Images that are decided otherwise, and so near a threshold that the tolerance
            of float32 covers it. They do not count as changed.
        worst: Id of the image with the largest map error.
        worst_pixel: Row and column in its map.
        worst_values: The model's and the graph's value there.
    """

    images: int
    map_range: tuple[float, float]
    map_error: float
    score_error: float
    decisions_changed: int | None
    undecidable: int
    worst: str
    worst_pixel: tuple[int, int]
    worst_values: tuple[float, float]

    @property
    def relative_error(self) -> float:
        """The larger of map and score error as a fraction of the maps' range."""
        low, high = self.map_range
        return max(self.map_error, self.score_error) / max(high - low, 1e-12)

    def check(
        self,
        tolerance: Tolerance,
        what: str,
        *,
        advice: str = "\nNothing was written. Try another precision or format.",
    ) -> None:
        """Refuse a graph that differs too much.

        Args:
            tolerance: What may differ.
            what: Names the graph in the error.
            advice: Ends the error.

        Raises:
            ModelError: Says where it differs.
        """
        problems = []
        if not self.relative_error <= tolerance.error:  # not a number is wrong, too
            row, column = self.worst_pixel
            expected, found = self.worst_values
            problems.append(
                f"map or score off by {self.relative_error:.2g} of the maps' range, allowed "
                f"{tolerance.error:g}; worst map: {self.worst}, row {row}, column {column}: "
                f"{found:.6g} instead of {expected:.6g}; largest difference of scores "
                f"{self.score_error:.3g}"
            )
        if self.decisions_changed and self.decisions_changed > tolerance.changed * self.images:
            problems.append(
                f"{self.decisions_changed} of {self.images} decisions changed, allowed "
                f"{tolerance.changed:.0%}"
            )
        if problems:
            raise ModelError(
                f"{what} does not compute what the model computes:\n  "
                + "\n  ".join(problems)
                + advice
            )

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-able data."""
        return {**asdict(self), "relative_error": self.relative_error}


def compare(
    comparisons: Iterable[ModelAndGraph],
    image_threshold: float | None,
    decide: Decide | None = None,
) -> Parity:
    """Return the largest differences.

    Args:
        comparisons: Both answers, image by image.
        image_threshold: Of the graph's own decision.
        decide: What is decided by the policy beside the graph, from id, map (h, w) and score.

    Raises:
        ModelError: If there is no image.
    """
    low, high, map_error, score_error = np.inf, -np.inf, -1.0, 0.0
    worst, worst_pixel, worst_values = "", (0, 0), (0.0, 0.0)
    changed: list[ModelAndGraph] = []
    count = 0
    for pair in comparisons:
        count += 1
        low, high = min(low, float(pair.expected.min())), max(high, float(pair.expected.max()))
        errors = np.nan_to_num(np.abs(pair.found - pair.expected), nan=np.inf)
        if (largest := float(errors.max())) > map_error:
            row, column = np.unravel_index(int(errors.argmax()), errors.shape)
            map_error, worst, worst_pixel = largest, pair.id, (int(row), int(column))
            worst_values = (float(pair.expected[row, column]), float(pair.found[row, column]))
        difference = abs(pair.found_score - pair.expected_score)
        score_error = max(score_error, np.inf if np.isnan(difference) else difference)
        if _found(pair, decide) != _expected(pair, image_threshold, decide):
            changed.append(pair)
    if not count:
        raise ModelError("There is no image to compare the exported graph on.")
    covered = TOLERANCES["float32"].error * (high - low)
    undecidable = 0
    for pair in changed:
        around = [_expected(pair, image_threshold, decide, by) for by in (-covered, covered)]
        answers = zip(_found(pair, decide), *around, strict=True)
        undecidable += all(found in near for found, *near in answers)
    return Parity(
        images=count,
        map_range=(low, high),
        map_error=map_error,
        score_error=score_error,
        decisions_changed=None
        if image_threshold is None and decide is None
        else len(changed) - undecidable,
        undecidable=undecidable,
        worst=worst,
        worst_pixel=worst_pixel,
        worst_values=worst_values,
    )


def _found(pair: ModelAndGraph, decide: Decide | None) -> tuple[bool | None, str | None]:
    """Return what the graph says itself, and what the policy makes of its map and score."""
    by_policy = None if decide is None else decide(pair.id, pair.found, pair.found_score)
    return pair.decision, by_policy


def _expected(
    pair: ModelAndGraph, image_threshold: float | None, decide: Decide | None, by: float = 0.0
) -> tuple[bool | None, str | None]:
    """Return the same of the model, its map and score higher ``by`` something."""
    own = None
    if image_threshold is not None and pair.decision is not None:
        own = processing.decide(pair.expected_score + by, image_threshold)
    by_policy = None
    if decide is not None:
        by_policy = decide(pair.id, pair.expected + np.float32(by), pair.expected_score + by)
    return own, by_policy
