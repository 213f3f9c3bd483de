"""The outcome of an evaluation: figures with intervals, printable, storable, comparable."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Literal

from threecad.errors import EvaluationError
from threecad.evaluation.definitions import (
    FIGURE_NAMES,
    KEYS,
    PAPER_PRO,
    SHORT_NAMES,
    is_replaced,
)
from threecad.evaluation.scores import Figure, Scores
from threecad.evaluation.tables import WIDTH, list_figures, tabulate
from threecad.system import atomic
from threecad.system.json_files import read_json

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["FIGURE_NAMES", "KEYS", "SCHEMA", "Result"]

SCHEMA = "threecad.result/1"

DETAILS = ("pixel_auroc", "pro_30", "pro_05", "region_recall_05", "region_recall_01")
"""What is shown of defect types and sizes; the rest is in the JSON and the HTML page."""


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
        images: Sample id → ``score`` and ``label`` of each image and, where it was asked for, the
            ``aupimo`` of defective ones.
        quantiles: Category → AUPIMO of its images at some percents, such as ``"50"``.
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
    images: dict[str, dict[str, float]] = field(default_factory=dict)
    quantiles: dict[str, dict[str, float]] = field(default_factory=dict)

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
            **({"images": self.images} if self.images else {}),
            **({"quantiles": self.quantiles} if self.quantiles else {}),
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
            groups: dict[str, Any] = {
                name: {group: Scores.from_dict(scores) for group, scores in plain[name].items()}
                for name in ("by_category", "by_defect_type", "by_size")
            }
            for name in ("images", "quantiles"):
                groups[name] = {
                    group: {key: float(value) for key, value in values.items()}
                    for group, values in plain.get(name, {}).items()
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
        """Return all figures, categories or defect types, and sizes as tables of 80 columns.

        They are in percent; reasons of undefined figures stand below. Of several categories, the
        figures are the means, and defect types are left out.
        """
        several = len(self.by_category) > 1
        name = (
            f"mean of {len(self.by_category)} categories" if several else "".join(self.by_category)
        )
        blocks = [[f"Protocol {self.protocol}, {name}, percent", "", *list_figures(self.mean)]]
        if several:
            categories = {**self.by_category, "Mean": self.mean}
            keys = [key for key in SHORT_NAMES if key in KEYS or key == PAPER_PRO]
            blocks.append(tabulate("Category", categories, keys))
        else:
            blocks.append(tabulate("Defect type", self.breakdown("by_defect_type"), DETAILS))
        sizes = {each: scores for each, scores in self.by_size.items() if "/" not in each}
        blocks.append(tabulate("Defect size", sizes, DETAILS))
        blocks += [self._distributions(), self._costs()]
        lines = [
            *self._ignored(),
            *self.undefined(),
            *(f"Warning: {line}" for line in self.warnings),
        ]
        blocks.append([fill(line, WIDTH, subsequent_indent="  ") for line in lines])
        return "\n\n".join("\n".join(block) for block in blocks if block)

    def write_images(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV of the images: id, label, score and, where it was computed, AUPIMO."""
        columns = ("label", "score", "aupimo")
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["id", *columns])
        for sample_id, values in self.images.items():
            table.writerow([sample_id, *(values.get(column, "") for column in columns)])
        atomic.write_text(path, text.getvalue())

    def breakdown(self, name: Literal["by_defect_type", "by_size"]) -> dict[str, Scores]:
        """Return the scores of every type or size; a category that is the only one is not named."""
        groups: dict[str, Scores] = getattr(self, name)
        if len(self.by_category) > 1:
            return groups
        return {group.partition("/")[2]: scores for group, scores in groups.items() if "/" in group}

    def _distributions(self) -> list[str]:
        """Return a line for each category: how AUPIMO spreads over its images."""
        return [
            f"{category}: AUPIMO of images, "
            + ", ".join(f"{100 * value:.1f} ({percent} %)" for percent, value in spread.items())
            for category, spread in self.quantiles.items()
        ]

    def _costs(self) -> list[str]:
        """Return what a part costs in the unit that costs were given in."""
        costs = self.settings.get("operation", {}).get("costs")
        figures = [self.mean.figures.get(key) for key in ("expected_cost", "least_cost")]
        if costs is None or any(figure is None or figure.value is None for figure in figures):
            return []
        unit = max(costs["miss"], costs["alarm"])
        expected, least = (unit * (figure.value or 0) for figure in figures if figure is not None)
        blind = min(
            costs["defect_rate"] * costs["miss"], (1 - costs["defect_rate"]) * costs["alarm"]
        )
        line = (
            f"A part costs {expected:.4g} at the threshold, {least:.4g} at the best one, and "
            f"{blind:.4g} without a detector (a miss costs {costs['miss']:g}, a false alarm "
            f"{costs['alarm']:g}, {100 * costs['defect_rate']:g} % of parts are defective)."
        )
        return [fill(line, WIDTH, subsequent_indent="  ")]

    def _ignored(self) -> list[str]:
        """Return what the ignored areas hide, where there are some."""
        hidden = self.settings.get("ignore")
        if hidden is None:
            return []
        line = (
            f"The ignored areas hide {hidden['regions']:,} of {hidden['of_regions']:,} labelled "
            "regions"
        )
        if hidden["images"]:
            line += f"; {hidden['images']:,} defective images that have no other are left out"
        return [f"{line}."]

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
