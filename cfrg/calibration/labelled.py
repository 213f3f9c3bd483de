"""What a policy says of defects that people have labelled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from cfrg.calibration.tolerance import clopper_pearson
from cfrg.images.cache import join_errors
from cfrg.network.interest import decode_region
from threecad.dataset.samples import read_sample_mask
from threecad.errors import DataError
from threecad.images.areas import fit_area
from threecad.images.regions import label_regions, regions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfrg.inference.predictor import Predictor
    from threecad.dataset.samples import Sample

__all__ = ["LabelledDefects", "count_labelled"]


@dataclass(frozen=True)
class LabelledDefects:
    """How defective images are decided.

    Attributes:
        images: Number of defective images.
        good: Of these, how many are called good: missed.
        review: How many are to be reviewed.
        regions: Labelled regions in their masks.
        outside: Of these, how many lie outside the region of interest.
        hidden: Of the others, how many are smaller than the least area.
        least_area: In pixels of the full image.
    """

    images: int
    good: int
    review: int
    regions: int
    outside: int
    hidden: int
    least_area: int

    def to_dict(self) -> dict[str, Any]:
        """Return the counts, and the 95 % intervals of the shares, as JSON-able data."""
        return {
            **asdict(self),
            "good_interval": list(clopper_pearson(self.good, self.images)),
            "review_interval": list(clopper_pearson(self.review, self.images)),
        }

    def __str__(self) -> str:
        """Return a summary for people."""
        lines = [
            f"labelled         {_say(self.good, self.images)} defective images called good",
            f"                 {_say(self.review, self.images)} sent to review",
        ]
        if self.outside:
            lines.append(
                f"                 the region of interest hides {self.outside:,} of "
                f"{self.regions:,} labelled regions"
            )
        if self.least_area:
            lines.append(
                f"                 a least area of {self.least_area:,} px hides {self.hidden:,} of "
                f"{self.regions:,} labelled regions"
            )
        return "\n".join(lines)


def count_labelled(predictor: Predictor, samples: Sequence[Sample]) -> LabelledDefects:
    """Return how a predictor decides on defective images by its policy.

    Args:
        predictor: With a policy.
        samples: Defective ones; those without a mask count as images alone.

    Raises:
        DataError: If there is none, or one cannot be read.
    """
    if not samples:
        raise DataError("There is no labelled defect to count. Name a tree with defective images.")
    least_area = predictor.policy.least_area
    region = predictor.detector.config.region
    decisions, bad, areas, count = [], [], [], 0
    predictions = predictor.predict_files([(sample.id, sample.image) for sample in samples])
    progress = tqdm(predictions, total=len(samples), desc="labelled defects", unit="image")
    for sample, prediction in zip(samples, progress, strict=True):
        if prediction.error is not None:
            bad.append(f"{prediction.id}: {prediction.error}")
            continue
        decisions.append(prediction.decision)
        if sample.mask is not None:
            mask = read_sample_mask(sample, prediction.size)
            found = regions(mask)
            count += len(found)
            inside = np.ones(len(found), np.bool_)
            if region:
                seen = label_regions(mask)[fit_area(decode_region(region), prediction.size)]
                inside = np.isin(np.arange(1, len(found) + 1), seen)
            areas += [each.area for each, kept in zip(found, inside, strict=True) if kept]
    if bad:
        raise DataError(join_errors(bad))
    return LabelledDefects(
        images=len(samples),
        good=decisions.count("good"),
        review=decisions.count("review"),
        regions=count,
        outside=count - len(areas),
        hidden=sum(area < least_area for area in areas),
        least_area=least_area,
    )


def _say(count: int, number: int) -> str:
    low, high = clopper_pearson(count, number)
    return f"{count:,} of {number:,} ({count / number:.1%}, interval {low:.1%} to {high:.1%})"
