"""A figure with its interval, and the figures of one group of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COARSE", "Figure", "Scores"]


COARSE = 5e-4
"""Width of an interval above which a second decimal of the percentage says nothing."""


@dataclass(frozen=True)
class Figure:
    """One figure, a fraction, or the reason why there is none.

    Attributes:
        value: The figure; ``None`` if it is undefined.
        low: The exact value is at least this (certified, not statistical).
        high: The exact value is at most this.
        confidence: Bounds of the 95 % bootstrap interval over images, if one was asked for.
        reason: Why the figure is undefined.
        n: For a mean over categories, the number of categories it is defined for.
        within_tolerance: Whether ``high - low`` is within the tolerance.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    confidence: tuple[float, float] | None = None
    reason: str | None = None
    n: int | None = None
    within_tolerance: bool = True

    @classmethod
    def undefined(cls, reason: str, n: int | None = None) -> Figure:
        """Return a figure that does not exist."""
        return cls(None, reason=reason, n=n)

    def to_dict(self) -> dict[str, Any]:
        """Return the figure as JSON values; what does not apply is left out."""
        if self.value is None:
            plain: dict[str, Any] = {"value": None, "reason": self.reason}
        else:
            plain = {"value": self.value, "low": self.low, "high": self.high}
            if not self.within_tolerance:
                plain["within_tolerance"] = False
        if self.confidence is not None:
            plain["confidence"] = list(self.confidence)
        if self.n is not None:
            plain["n"] = self.n
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Figure:
        """Return the figure that ``to_dict`` wrote."""
        value, low, high = plain["value"], plain.get("low"), plain.get("high")
        confidence = plain.get("confidence")
        return cls(
            value=None if value is None else float(value),
            low=None if low is None else float(low),
            high=None if high is None else float(high),
            confidence=None if confidence is None else (float(confidence[0]), float(confidence[1])),
            reason=plain.get("reason"),
            n=plain.get("n"),
            within_tolerance=plain.get("within_tolerance", True),
        )

    @property
    def decimals(self) -> int:
        """How many decimals of the percentage say something: two, or one."""
        return 1 if _width(self) > COARSE else 2

    def __str__(self) -> str:
        """Return the figure in percent, as tables show it."""
        return self.to_text(self.decimals)

    def to_text(self, decimals: int) -> str:
        """Return the figure in percent with so many decimals."""
        if self.value is None:
            return "–"
        text = f"{100 * self.value:.{decimals}f}"
        if self.confidence is not None:
            text += f" [{100 * self.confidence[0]:.1f}, {100 * self.confidence[1]:.1f}]"
        return text if self.within_tolerance else f"{text} ±{50 * _width(self):.2g}"


@dataclass(frozen=True)
class Scores:
    """The figures of one group of images.

    Attributes:
        figures: Key (see ``FIGURE_NAMES``) → figure.
        counts: How much the figures rest on: ``good``, ``defective`` (images), ``regions``,
            ``pixels``, ``defective_pixels``; only what applies.
    """

    figures: dict[str, Figure]
    counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        figures = {key: figure.to_dict() for key, figure in self.figures.items()}
        return {"counts": self.counts, "figures": figures}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Scores:
        """Return the scores that ``to_dict`` wrote."""
        figures = {key: Figure.from_dict(value) for key, value in plain["figures"].items()}
        return cls(figures, dict(plain["counts"]))


def _width(figure: Figure) -> float:
    return (figure.high or 0.0) - (figure.low or 0.0)
