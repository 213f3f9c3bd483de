"""The one table of figures: what each is called, what it measures, and how exactly.

A new figure is one entry here and one function in ``curves``. Scores, refinement, bootstrap and
tables take it from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from threecad.evaluation import curves
from threecad.evaluation.operation import decisions
from threecad.evaluation.operation.point import Costs, OperatingPoint

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from numpy.typing import NDArray

    from threecad.evaluation.curves import Counts, Interval

__all__ = [
    "AUPIMO",
    "FIGURE_NAMES",
    "IMAGE_KEYS",
    "KEYS",
    "PAPER_PRO",
    "PRO_LIMITS",
    "RECALL_RATES",
    "SHORT_NAMES",
    "Definition",
    "Positives",
    "define_figures",
    "define_image_figures",
    "define_pixel_figures",
    "is_replaced",
]

Positives = Literal["images", "peaks", "pixels", "regions"]
"""What a figure ranks against good images (``images``, or ``peaks``: those whose regions are known,
with the credit of their highest point) or against defect-free pixels."""

PAPER_PRO = "pro_per_image"
"""The paper's PRO is a mean over images and no ranking; ``paper_protocol`` computes it."""

AUPIMO = "aupimo"
"""AUPIMO is a mean over images, too; ``operation.overlap`` computes it, where it is asked for."""

PRO_LIMITS = (0.3, 0.05)
"""False positive rates up to which PRO is integrated, unless others are asked for."""

RECALL_RATES = (0.05, 0.01)
"""False positive rates at which region recall is given."""

AREA_TOLERANCE, RATE_TOLERANCE = 1e-6, 1e-5

_COSTS = {
    "expected_cost": ("Expected cost", "expected cost"),
    "least_cost": ("Least cost", "least cost"),
}
"""Names of the figures that are given where costs are."""

DEFAULT_POINT = OperatingPoint()


@dataclass(frozen=True)
class Definition:
    """One figure.

    Attributes:
        key: Its key in results and their JSON.
        name: Its name in tables.
        short: Its name in narrow columns; it breaks at the space.
        positives: What it ranks.
        measure: Its value with certified bounds, from the counts per bin.
        tolerance: Widest interval that counts as exact.
        doubts: How much each bin leaves the figure open, ``(B,)``; ``None`` where the counts are
            of distinct scores and leave nothing open.
        replicate: Its value in each bootstrap replicate, ``(R,)``, where that is not the value of
            ``measure``.
        of_sizes: Whether it is given for regions of one size, too. Precision is not: it depends on
            how many regions have the size.
    """

    key: str
    name: str
    short: str
    positives: Positives
    measure: Callable[[Counts], Interval]
    tolerance: float
    doubts: Callable[[Counts], NDArray[Any]] | None = None
    replicate: Callable[[Counts], NDArray[Any]] | None = None
    of_sizes: bool = True

    def replicates(self, counts: Counts) -> Any:
        """Return the figure in each replicate of ``counts``, ``(R,)``."""
        if self.replicate is not None:
            return self.replicate(counts)
        return self.measure(counts).value


def define_figures(
    pro_limits: Sequence[float] = PRO_LIMITS, point: OperatingPoint = DEFAULT_POINT
) -> tuple[Definition, ...]:
    """Return all figures in the order of tables, with PRO up to each of the limits."""
    return (
        *IMAGE_FIGURES,
        *PIXEL_FIGURES,
        *(_define_pro(limit) for limit in pro_limits),
        *(_define_recall(rate) for rate in RECALL_RATES),
        *_define_decisions(point),
    )


def define_image_figures(point: OperatingPoint = DEFAULT_POINT) -> tuple[Definition, ...]:
    """Return the figures that rank images."""
    figures = define_figures(point=point)
    return tuple(figure for figure in figures if figure.positives in ("images", "peaks"))


def define_pixel_figures(pro_limits: Sequence[float]) -> tuple[Definition, ...]:
    """Return the figures that rank pixels or regions."""
    figures = define_figures(pro_limits)
    return tuple(figure for figure in figures if figure.positives in ("pixels", "regions"))


def _define_pro(limit: float) -> Definition:
    return Definition(
        f"pro_{_percent(limit)}",
        f"PRO@{limit:g}",
        f"PRO @{limit:g}",
        "pixels",
        partial(curves.pro, limit=limit),
        AREA_TOLERANCE,
        doubts=partial(curves.pro_doubts, limit=limit),
    )


def _define_recall(rate: float) -> Definition:
    return Definition(
        f"region_recall_{_percent(rate)}",
        f"Region recall@{rate:g}",
        f"recall @{rate:g}",
        "regions",
        partial(curves.recall_at, rate=rate),
        RATE_TOLERANCE,
        doubts=partial(curves.recall_doubts, rate=rate),
        replicate=partial(curves.interpolated_recall, rate=rate),
    )


def _define_decisions(point: OperatingPoint) -> tuple[Definition, ...]:
    return (
        Definition(
            f"defects_found_{_percent(point.alarm_rate)}",
            f"Defects found@{point.alarm_rate:g}",
            f"found @{point.alarm_rate:g}",
            "images",
            partial(curves.recall_at, rate=point.alarm_rate),
            RATE_TOLERANCE,
        ),
        Definition(
            f"good_passed_{_percent(point.miss_rate)}",
            f"Good passed@{point.miss_rate:g}",
            f"passed @{point.miss_rate:g}",
            "images",
            partial(decisions.good_passed, rate=point.miss_rate),
            RATE_TOLERANCE,
        ),
        Definition(
            "right_reason",
            "Right for the reason",
            "right reason",
            "peaks",
            partial(decisions.right_reason, rate=point.alarm_rate, threshold=point.threshold),
            RATE_TOLERANCE,
        ),
        *([] if point.costs is None else _define_costs(point, point.costs)),
    )


def _define_costs(point: OperatingPoint, costs: Costs) -> list[Definition]:
    at_threshold = partial(
        decisions.expected_cost, costs=costs, rate=point.alarm_rate, threshold=point.threshold
    )
    least = partial(decisions.least_cost, costs=costs)
    return [
        Definition(key, *_COSTS[key], "images", measure, RATE_TOLERANCE)
        for key, measure in (("expected_cost", at_threshold), ("least_cost", least))
    ]


def _percent(rate: float) -> str:
    percent = 100 * rate
    if abs(percent - round(percent)) < 1e-9:
        return f"{round(percent):02d}"
    return f"{percent:.6g}".replace(".", "p")


IMAGE_FIGURES = (
    Definition("image_auroc", "Image AUROC", "image AUROC", "images", curves.auroc, AREA_TOLERANCE),
    Definition(
        "image_ap", "Image AP", "image AP", "images", curves.average_precision, RATE_TOLERANCE
    ),
    Definition("image_f1_max", "Image F1-max", "image F1", "images", curves.f1_max, RATE_TOLERANCE),
)

PIXEL_FIGURES = (
    Definition(
        "pixel_auroc",
        "Pixel AUROC",
        "pixel AUROC",
        "pixels",
        curves.auroc,
        AREA_TOLERANCE,
        doubts=curves.auroc_doubts,
    ),
    Definition(
        "pixel_ap",
        "Pixel AP",
        "pixel AP",
        "pixels",
        curves.average_precision,
        RATE_TOLERANCE,
        doubts=curves.precision_doubts,
        of_sizes=False,
    ),
    Definition(
        "pixel_f1_max",
        "Pixel F1-max",
        "pixel F1",
        "pixels",
        curves.f1_max,
        RATE_TOLERANCE,
        doubts=partial(curves.f1_doubts, tolerance=RATE_TOLERANCE),
        of_sizes=False,
    ),
)

IMAGE_KEYS = tuple(figure.key for figure in IMAGE_FIGURES)

KEYS = tuple(
    figure.key
    for figure in (*IMAGE_FIGURES, *PIXEL_FIGURES, *(_define_pro(limit) for limit in PRO_LIMITS))
)
"""The figures every result has at its top level."""

_PAPER = {PAPER_PRO: ("PRO per image (paper)", "PRO paper")}
_NAMES = {
    **{figure.key: (figure.name, figure.short) for figure in define_figures()[: len(KEYS)]},
    **_PAPER,
    **{figure.key: (figure.name, figure.short) for figure in define_figures()[len(KEYS) :]},
    AUPIMO: ("AUPIMO", "AUPIMO"),
    **_COSTS,
}

FIGURE_NAMES: dict[str, str] = {key: name for key, (name, _) in _NAMES.items()}
"""Every figure a result can hold under the default settings, and its name in tables."""

SHORT_NAMES: dict[str, str] = {key: short for key, (_, short) in _NAMES.items()}
"""Names for narrow columns."""


def is_replaced(key: str, figures: Container[str]) -> bool:
    """Return whether the paper's PRO stands among ``figures`` in the place of this one."""
    return key.startswith("pro_") and key != PAPER_PRO and PAPER_PRO in figures
