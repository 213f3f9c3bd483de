"""From a score to a decision that somebody answers for: good, to be reviewed, or defective."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cfrg.network import processing
from threecad.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfrg.inference.regions import FlaggedRegion

__all__ = ["Decision", "DecisionPolicy"]

Decision = Literal["good", "review", "defective"]

SCHEMA = "cfrg.policy/1"


@dataclass(frozen=True, kw_only=True)
class DecisionPolicy:
    """What is decided about an image, and the rates that this was promised to keep.

    An image whose score is above ``defective`` is defective, one above ``review`` is to be looked
    at, any other is good. Where there is a least area, an image without a region of at least that
    area is good, whatever its score: fewer images are stopped than without, so the rates hold.

    Attributes:
        defective: Threshold of image scores; nothing is decided when ``None``.
        review: Lower threshold of image scores; two answers, good and defective, when ``None``.
        pixel_threshold: For anomaly maps; no regions when ``None``.
        least_area: Regions of fewer pixels of the full image do not count.
        false_alarm_rate: Largest share of good images that are called defective.
        review_rate: Largest share of good images that are sent to review.
        confidence: With which both rates hold.
        categories: The policy of each category, where they differ. What lies above it is then the
            strictest of them, for images of no known category.

    Raises:
        UsageError: If a threshold is not finite, ``review`` is above ``defective`` or alone, or
            there is a least area and no pixel threshold.
    """

    defective: float | None = None
    review: float | None = None
    pixel_threshold: float | None = None
    least_area: int = 0
    false_alarm_rate: float | None = None
    review_rate: float | None = None
    confidence: float | None = None
    categories: Mapping[str, DecisionPolicy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (
            ("threshold", self.defective),
            ("review threshold", self.review),
            ("pixel threshold", self.pixel_threshold),
        ):
            if value is not None and not math.isfinite(value):
                raise UsageError(f"A {name} of {value} decides nothing. Expected a finite number.")
        if self.review is not None and (self.defective is None or self.review > self.defective):
            raise UsageError(
                f"A review threshold of {self.review:g} needs a threshold of at least that, above "
                f"which images are defective; it is {self.defective}."
            )
        if self.least_area < 0:
            raise UsageError(f"A least area of {self.least_area} is impossible: expected pixels.")
        if self.least_area and self.defective is not None and self.pixel_threshold is None:
            raise UsageError("A least area needs a pixel threshold, above which regions are found.")

    def decide(
        self,
        score: float,
        category: str | None = None,
        regions: Sequence[FlaggedRegion] | None = None,
    ) -> Decision:
        """Return the decision about an image.

        Args:
            score: The image score. One that lies on a threshold is below it.
            category: Of the image; the strictest policy is used where it is not known.
            regions: Those that ``count`` left. Needed where there is a least area.

        Raises:
            UsageError: If there is no threshold, or regions are needed and not given.
        """
        policy = self.of(category)
        if policy.defective is None:
            raise UsageError("There is no threshold to decide by. Run `cfrg calibrate`.")
        if policy.least_area:
            if regions is None:
                raise UsageError("With a least area, the regions decide, too. Give `regions`.")
            if not policy.count(regions):
                return "good"
        if processing.decide(score, policy.defective):
            return "defective"
        if policy.review is not None and processing.decide(score, policy.review):
            return "review"
        return "good"

    def of(self, category: str | None) -> DecisionPolicy:
        """Return the policy of a category; this one if it is not known."""
        return self if category is None else self.categories.get(category, self)

    def category_of(self, name: str) -> str | None:
        """Return the category in a sample id, ``Category/split/type/name``, if it has a policy."""
        first = name.partition("/")[0]
        return first if first in self.categories else None

    def count(self, regions: Sequence[FlaggedRegion]) -> tuple[FlaggedRegion, ...]:
        """Return the regions that are large enough to count."""
        return tuple(region for region in regions if region.area >= self.least_area)

    def with_given(self, threshold: float | None, pixel_threshold: float | None) -> DecisionPolicy:
        """Return this policy with thresholds that somebody gave in place of its own.

        A threshold given for scores replaces both of them and those of all categories: there are
        two answers, and no rates that anybody promised.
        """
        policy = self
        if threshold is not None:
            policy = DecisionPolicy(
                defective=threshold,
                pixel_threshold=self.pixel_threshold
                if pixel_threshold is None
                else pixel_threshold,
                least_area=self.least_area,
            )
        if pixel_threshold is not None:
            policy = dataclasses.replace(
                policy,
                pixel_threshold=pixel_threshold,
                categories={
                    name: dataclasses.replace(own, pixel_threshold=pixel_threshold)
                    for name, own in policy.categories.items()
                },
            )
        return policy

    @classmethod
    def strictest(cls, categories: Mapping[str, DecisionPolicy]) -> DecisionPolicy:
        """Return the policies of several categories as one; the lowest thresholds for the rest.

        Raises:
            UsageError: If there is none.
        """
        if not categories:
            raise UsageError("There is no category to take thresholds from.")
        policies = list(categories.values())
        reviews = [p.review for p in policies]
        return dataclasses.replace(
            policies[0],
            defective=_lowest([p.defective for p in policies]),
            review=None if None in reviews else _lowest(reviews),
            pixel_threshold=_lowest([p.pixel_threshold for p in policies]),
            least_area=min(p.least_area for p in policies),
            categories=dict(categories),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the policy as JSON-able data."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["categories"] = {name: own.to_dict() for name, own in self.categories.items()}
        return {"schema": SCHEMA, **values}

    @classmethod
    def from_dict(cls, values: Any, where: str = "The policy") -> DecisionPolicy:
        """Return what ``to_dict`` gave; keys of later versions are passed over.

        Args:
            values: The parsed JSON.
            where: Named in errors.

        Raises:
            ModelError: If it is no policy.
        """
        try:
            if values["schema"] != SCHEMA:
                raise ValueError(f"its schema is {values['schema']!r}, expected {SCHEMA!r}")
            least_area = values.get("least_area", 0)
            if isinstance(least_area, bool) or not isinstance(least_area, int):
                raise ValueError(f"{str(least_area)[:40]!r} is no number of pixels")
            numbers = {
                name: _read_number(values.get(name))
                for name in (
                    *("defective", "review", "pixel_threshold"),
                    *("false_alarm_rate", "review_rate", "confidence"),
                )
            }
            categories = values.get("categories", {})
            if not isinstance(categories, Mapping):
                raise ValueError("its categories are no object")
            return cls(
                **numbers,
                least_area=least_area,
                categories={
                    str(name): cls.from_dict(own, f"{where}, {name}")
                    for name, own in categories.items()
                },
            )
        except (AttributeError, KeyError, TypeError, ValueError, UsageError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ModelError(f"{where} is no policy of decisions: {reason}") from None


def _lowest(values: Sequence[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _read_number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{str(value)[:40]!r} is no number")
    try:
        return float(value)
    except OverflowError:  # an integer beyond all floats
        raise ValueError(f"{str(value)[:40]!r} is no finite number") from None
