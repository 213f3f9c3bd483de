"""What a calibration found: thresholds, what they will miss, and a figure of the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.calibration.tolerance import CONFIDENCE, clopper_pearson
from cfrg.images.appearance import STATISTICS
from cfrg.network import processing
from cfrg.network.interest import decode_region
from threecad.pages.figures import PALETTE, styled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.figure import Figure

    from cfrg.calibration.labelled import LabelledDefects
    from cfrg.images.appearance import Appearance
    from cfrg.inference.thresholds import Threshold

    Values = npt.NDArray[np.float64]

__all__ = ["METHOD", "Calibration", "draw_scores"]


METHOD = (
    "order statistic of the values of good images: distribution-free one-sided tolerance limit, "
    "95 % confidence"
)


@dataclass(frozen=True)
class Calibration:
    """Thresholds and what they were read from.

    Attributes:
        threshold: The thresholds.
        average: Lower thresholds for scores and for pixels, which hold on average over many
            calibrations and not with confidence; ``None`` where there are too few images.
        scores: Image scores of the good images.
        peaks: The highest values of their maps.
        defect_scores: Image scores of synthetic defects drawn on these images.
        warning: What is questionable about the images.
        hard_negatives: How many of them an earlier detector had wrongly stopped.
        appearance: What the good images look like; ``cfrg monitor`` compares production with it.
        labelled: What the policy says of labelled defects, where some were given.
    """

    threshold: Threshold
    average: tuple[float, float] | None
    scores: Values
    peaks: Values
    defect_scores: Values
    warning: str | None
    hard_negatives: int = 0
    appearance: Sequence[Appearance] = ()
    labelled: LabelledDefects | None = None

    @property
    def missed(self) -> int:
        """How many synthetic defects do not score above the threshold."""
        found = processing.decide(self.defect_scores, self.threshold.image_threshold)
        return int((~found).sum())

    def to_dict(self) -> dict[str, Any]:
        """Return what ``calibration.json`` holds."""
        low, high = clopper_pearson(self.missed, len(self.defect_scores))
        average = self.average and dict(
            zip(("image_threshold", "pixel_threshold"), self.average, strict=True)
        )
        return {
            **self.threshold.to_dict(),
            "confidence": CONFIDENCE,
            "method": METHOD,
            "on_average": average,
            "hard_negatives": self.hard_negatives,
            "synthetic_defects": {
                "drawn": len(self.defect_scores),
                "missed": self.missed,
                "interval": [low, high],
            },
            "labelled_defects": self.labelled and self.labelled.to_dict(),
            "warning": self.warning,
            "reference": {
                "score": self.scores.tolist(),
                **{name: [look.to_dict()[name] for look in self.appearance] for name in STATISTICS},
            },
        }

    def __str__(self) -> str:
        """Return a summary for people."""
        threshold, drawn = self.threshold, len(self.defect_scores)
        low, high = threshold.interval
        least, most = clopper_pearson(self.missed, drawn)
        image, pixel = ("–", "–") if not self.average else map("{:.5g}".format, self.average)
        policy = threshold.policy
        lines = [] if self.labelled is None else [str(self.labelled)]
        if policy.review is not None:
            lines.append(
                f"review           scores above {policy.review:.5g}: at most "
                f"{policy.review_rate:.2%} of good images with {CONFIDENCE:.0%} confidence"
            )
        if threshold.region:
            share = decode_region(threshold.region).mean()
            lines.append(f"looked at        {share:.1%} of the image: the region of interest")
        if policy.least_area:
            lines.append(f"least area       {policy.least_area:,} px; smaller regions stop no part")
        lines += [
            f"{name}: defective above {own.defective:.5g}"
            + ("" if own.review is None else f", review above {own.review:.5g}")
            for name, own in policy.categories.items()
        ]
        return "\n".join(
            [
                f"{_say_images(threshold.images, threshold.copies)} ({threshold.source})"
                + (f", {self.hard_negatives:,} hard negatives" if self.hard_negatives else ""),
                f"image threshold  {threshold.image_threshold:.5g}  (on average enough: {image})",
                f"pixel threshold  {threshold.pixel_threshold:.5g}  (on average enough: {pixel})",
                f"false alarms     at most {threshold.false_alarm_rate:.2%} with "
                f"{CONFIDENCE:.0%} confidence (interval {low:.2%} to {high:.2%})",
                f"missed           {self.missed:,} of {drawn:,} synthetic defects, "
                f"{self.missed / drawn:.1%} (interval {least:.1%} to {most:.1%})",
                *lines,
            ]
        )


def draw_scores(calibration: Calibration) -> Figure:
    """Show how good images and synthetic defects score, and where the thresholds lie."""
    from matplotlib.figure import Figure

    threshold, good = calibration.threshold, f"{len(calibration.scores):,} good images"
    drawn = f"{len(calibration.defect_scores):,} with synthetic defects"
    with styled():
        figure = Figure(figsize=(5.6, 4.4), layout="constrained")
        score_axis, peak_axis = figure.subplots(2, 1)
        groups = {good: calibration.scores, drawn: calibration.defect_scores}
        _draw_histograms(score_axis, groups, threshold.image_threshold)
        score_axis.set_xlabel("image score")
        if (review := threshold.policy.review) is not None:
            score_axis.axvline(
                review, color="black", linewidth=1, linestyle="--", label=f"review {review:.4g}"
            )
            score_axis.legend(frameon=True, framealpha=0.9, edgecolor="none")
        _draw_histograms(peak_axis, {good: calibration.peaks}, threshold.pixel_threshold)
        peak_axis.set_xlabel("highest value of the anomaly map")
        score_axis.set_title(
            f"At most {threshold.false_alarm_rate:.2%} false alarms: {calibration.missed:,} of "
            f"{len(calibration.defect_scores):,} synthetic defects are missed"
        )
    return figure


def _draw_histograms(axis: Any, groups: dict[str, Values], threshold: float) -> None:
    # Defects can score many times higher than the threshold; what matters happens around it.
    lowest = min(float(values.min()) for values in groups.values())
    highest = max(float(values.max()) for values in groups.values())
    edges = _edges(lowest, min(highest, threshold + 2 * (threshold - lowest)), threshold)
    beyond = 0
    for (name, values), colour in zip(groups.items(), PALETTE, strict=False):
        beyond += int((values > edges[-1]).sum())
        shown = np.minimum(values, edges[-1])
        axis.hist(shown, edges, color=colour, alpha=0.6, label=name)
    axis.axvline(threshold, color="black", linewidth=1, label=f"threshold {threshold:.4g}")
    axis.set_ylabel("images")
    axis.margins(y=0.9)  # the legend may take nearly half of the height
    title = f"{beyond:,} beyond the axis, in the last bar" if beyond else None
    axis.legend(title=title, frameon=True, framealpha=0.9, edgecolor="none")


def _edges(lowest: float, highest: float, threshold: float) -> Values:
    """Return the edges of about 40 bars, one edge just above the threshold, which is still good."""
    middle = float(np.nextafter(threshold, np.inf))
    width = max(highest - lowest, 1e-6 * max(1.0, abs(threshold))) / 40
    below, above = (middle - lowest) / width, (highest - middle) / width
    return middle + width * np.arange(-max(np.ceil(below), 1), max(np.ceil(above), 1) + 1)


def _say_images(number: int, copies: int) -> str:
    different = f"{number + copies:,} good images, {number:,} of them different"
    return different if copies else f"{number:,} good images"
