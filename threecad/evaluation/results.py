"""The outcome of an evaluation: figures with intervals, printable, storable, comparable."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threecad.errors import EvaluationError
from threecad.evaluation.definitions import FIGURE_NAMES, KEYS, is_replaced
from threecad.evaluation.tables import render_result
from threecad.system import atomic
from threecad.system.json_files import read_json

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["FIGURE_NAMES", "KEYS", "SCHEMA", "Figure", "Result", "Scores"]

SCHEMA = "threecad.result/1"

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


@dataclass(frozen=True)
class Result:
    """The outcome of an evaluation. All figures are fractions; ``print`` shows them in percent.

    ``result["pixel_auroc"]`` is the mean over categories as a ``Figure``: its ``value``, the
    certified bounds ``low`` and ``high``, and the ``confidence`` interval of a bootstrap.

    Attributes:
        mean: Unweighted mean over the categories for which a figure is defined.
        by_category: Category → scores.
        by_defect_type: ``Category/defect type`` → scores of that type's images and all good ones.
        by_size: ``small``, ``medium``, ``large`` → mean over categories of the scores of regions
            of that size; ``Category/small`` … → the scores themselves.
        pooled: All images as if they were one category.
        protocol: ``full`` or ``paper``.
        settings: What else decides the figures: image-score rule, tolerance, bootstrap, seed …
        provenance: Versions, and the fingerprint of the dataset where it is known.
        warnings: What is doubtful about the predictions, such as maps normalised one by one.
    """

    mean: Scores
    by_category: dict[str, Scores] = field(default_factory=dict)
    by_defect_type: dict[str, Scores] = field(default_factory=dict)
    by_size: dict[str, Scores] = field(default_factory=dict)
    pooled: Scores | None = None
    protocol: str = "full"
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __getitem__(self, key: str) -> Figure:
        return self.mean.figures[key]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values: the bare figures by key, the rest beside them."""
        groups = {
            name: {group: scores.to_dict() for group, scores in getattr(self, name).items()}
            for name in ("by_category", "by_defect_type", "by_size")
        }
        return {
            "schema": SCHEMA,
            "protocol": self.protocol,
            **{key: figure.value for key, figure in self.mean.figures.items()},
            "mean": self.mean.to_dict(),
            **groups,
            "pooled": None if self.pooled is None else self.pooled.to_dict(),
            "settings": self.settings,
            "provenance": self.provenance,
            "warnings": self.warnings,
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the result as JSON, and write it to ``path`` if one is given."""
        plain = self.to_dict()
        if path is not None:
            atomic.write_json(path, plain)
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Result:
        """Return the result that ``to_dict`` wrote.

        Raises:
            EvaluationError: If ``plain`` is no result, or of another schema version.
        """
        if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
            found = plain.get("schema") if isinstance(plain, dict) else type(plain).__name__
            raise EvaluationError(
                f"Expected a result of schema {SCHEMA!r}, found {found!r}. Write one with "
                "`threecad evaluate ROOT PREDICTIONS --out FILE`."
            )
        try:
            groups = {
                name: {group: Scores.from_dict(scores) for group, scores in plain[name].items()}
                for name in ("by_category", "by_defect_type", "by_size")
            }
            return cls(
                mean=Scores.from_dict(plain["mean"]),
                pooled=Scores.from_dict(plain["pooled"]) if plain["pooled"] else None,
                protocol=plain["protocol"],
                settings=dict(plain["settings"]),
                provenance=dict(plain["provenance"]),
                warnings=[str(line) for line in plain.get("warnings", [])],
                **groups,
            )
        except (
            KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError,
        ) as error:  # fmt: skip
            raise EvaluationError(f"The result is incomplete or damaged: {error!r}.") from None

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Result:
        """Read the result in the file ``path``.

        Raises:
            EvaluationError: If the file holds no result.
        """
        try:
            plain = read_json(Path(path))
        except ValueError as error:
            raise EvaluationError(f"{path} is not JSON: {error}.") from None
        try:
            return cls.from_dict(plain)
        except EvaluationError as error:
            raise EvaluationError(f"{path}: {error}") from None

    def __str__(self) -> str:
        """Return tables in percent that fit 80 columns; reasons of undefined figures below."""
        return render_result(self)

    def undefined(self) -> list[str]:
        """Return what is undefined in categories, and why: a line for each reason."""
        places: dict[tuple[str, str], list[str]] = {}
        for category, scores in self.by_category.items():
            reasons: dict[str, list[str]] = {}
            for key, figure in scores.figures.items():
                if figure.value is None and not is_replaced(key, scores.figures):
                    reasons.setdefault(str(figure.reason), []).append(FIGURE_NAMES.get(key, key))
            for reason, names in reasons.items():
                places.setdefault((", ".join(names), reason), []).append(category)
        return [
            f"{', '.join(categories)}: {names} {verb} undefined: {reason}"
            for (names, reason), categories in places.items()
            for verb in ["are" if "," in names else "is"]
        ]


def _width(figure: Figure) -> float:
    return (figure.high or 0.0) - (figure.low or 0.0)
