"""Where a detector is operated: rates, a threshold, and how near a highest point must lie."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Costs", "OperatingPoint"]


@dataclass(frozen=True)
class Costs:
    """What mistakes cost, in any unit.

    Attributes:
        miss: Of a defective part that is passed.
        alarm: Of a good part that is stopped.
        defect_rate: Share of defective parts where the detector works, above 0 and below 1; that of
            a test set is far too high.

    Raises:
        UsageError: If one is out of range, or both mistakes cost nothing.
    """

    miss: float
    alarm: float
    defect_rate: float

    def __post_init__(self) -> None:
        for name in ("miss", "alarm"):
            if not _is_number(cost := getattr(self, name)) or cost < 0:
                raise UsageError(f"The cost of {name} is {cost!r}; expected 0 or more.")
        if not _is_number(self.defect_rate) or not 0 < self.defect_rate < 1:
            raise UsageError(
                f"defect_rate is {self.defect_rate!r}; expected a share above 0 and below 1."
            )
        if not self.dearer:
            raise UsageError("Both mistakes cost nothing; give the cost of a miss or of an alarm.")

    @property
    def dearer(self) -> float:
        """Cost of the dearer mistake: the unit of the figures."""
        return max(self.miss, self.alarm)


@dataclass(frozen=True)
class OperatingPoint:
    """What the figures at a threshold are asked for.

    Attributes:
        alarm_rate: Share of good images that may be stopped, above 0 and below 1.
        miss_rate: Share of defective images that may be missed, above 0 and below 1.
        threshold: Image score above which an image is decided defective; ``None`` is the one that
            the good images set at ``alarm_rate``.
        reach: How far from a labelled region the highest point of a map may lie, as a part of the
            image's diagonal.
        costs: What mistakes cost, if the expected cost is asked for.

    Raises:
        UsageError: If one is out of range.
    """

    alarm_rate: float = 0.05
    miss_rate: float = 0.05
    threshold: float | None = None
    reach: float = 0.02
    costs: Costs | None = None

    def __post_init__(self) -> None:
        for name in ("alarm_rate", "miss_rate"):
            if not _is_number(rate := getattr(self, name)) or not 0 < rate < 1:
                raise UsageError(f"{name} is {rate!r}; expected a rate above 0 and below 1.")
        if self.threshold is not None and not _is_number(self.threshold):
            raise UsageError(f"threshold is {self.threshold!r}; expected a finite number.")
        if not _is_number(self.reach) or not 0 <= self.reach <= 1:
            raise UsageError(f"reach is {self.reach!r}; expected 0 to 1 image diagonals.")

    @classmethod
    def read(cls, value: OperatingPoint | Mapping[str, Any] | None) -> OperatingPoint:
        """Return the point that ``to_dict`` wrote, the one given, or the default."""
        if isinstance(value, OperatingPoint):
            return value
        plain = dict(value or {})
        if isinstance(costs := plain.get("costs"), dict):
            plain["costs"] = Costs(**costs)
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(float(value))
