"""The figures of the statistics: sizes, shapes, positions, types and contrast of defects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.images.regions import SIZES
from threecad.pages.figures import PALETTE, styled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from threecad.statistics.collecting import DefectStatistics
    from threecad.statistics.overview import CoOccurrence
    from threecad.statistics.summaries import DefectGroup, DefectRecord, Unit

__all__ = ["CAPTIONS", "draw_figures"]

CAPTIONS = {
    "area-ratio": "Defect area as a share of the image. Dashed: the limits between small, medium "
    "and large (0.05 % and 0.5 %); triangle: the median.",
    "aspect-ratio": "Long over short side of the smallest rectangle, in any direction, round a "
    "defect. Triangle: the median.",
    "sizes": "Small (under 0.05 % of the image), medium, and large (over 0.5 %) defects.",
    "positions": "Where on the part defects sit: the share of each cell of a 32 × 32 grid over "
    "the image that is defect, on average over the images.",
    "types": "Images and regions of each defect type, and their areas (box: quartiles; whiskers: "
    "5 % to 95 %).",
    "contrast": "Brightness of a defect less that of its surround, in standard deviations of the "
    "surround (box: quartiles; whiskers: 5 % to 95 %). Between the dotted lines a defect differs "
    "less than its surround varies.",
    "co-occurrence": "Images that show two types of defect together; on the diagonal, all images "
    "of the type.",
}
"""Figure -> what it shows."""

_SIZE_COLOURS = dict(zip(SIZES, ("#56B4E9", "#0072B2", "#08306B"), strict=True))
_BINS_PER_DECADE = 6
_COLUMNS = 4


def draw_figures(statistics: DefectStatistics, per: Unit = "region") -> dict[str, Figure]:
    """Return every figure that the data allow, by name; none if no mask has a defect pixel.

    Panels are the categories, or the defect types where there is but one category.

    Args:
        statistics: What to draw.
        per: Whether a region or an image (the union of its regions) is counted as one.
    """
    records = statistics.records(per)
    if not records:
        return {}
    panels = _panels(records)
    types = statistics.groups("defect_type", per)
    drawn: dict[str, Callable[[], Figure]] = {
        "area-ratio": lambda: _draw_area_ratios(panels, per),
        "aspect-ratio": lambda: _draw_aspect_ratios(panels, per),
        "sizes": lambda: _draw_sizes(panels, per),
        "positions": lambda: _draw_positions(statistics),
        "types": lambda: _draw_types(types),
    }
    if any(group.contrast_ratio for group in types):
        drawn["contrast"] = lambda: _draw_contrast(types)
    together = [statistics.co_occurrence(row.name) for row in statistics.overview]
    if together := [table for table in together if _has_pairs(table)]:
        drawn["co-occurrence"] = lambda: _draw_co_occurrence(together)
    with styled():
        return {name: draw() for name, draw in drawn.items()}


def _panels(records: Sequence[DefectRecord]) -> dict[str, list[DefectRecord]]:
    """Return the records by category, or by defect type where there is but one category."""
    one = len({record.image.category for record in records}) == 1
    panels: dict[str, list[DefectRecord]] = {}
    for record in records:
        name = record.image.defect_type if one else record.image.category
        panels.setdefault(name, []).append(record)
    return dict(sorted(panels.items()))


def _grid(count: int, *, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``count`` panels in rows of up to four."""
    from matplotlib.figure import Figure

    columns = 3 if count in (5, 6) else min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(max(3.4, 1.9 * columns), height * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for axis in axes[count:]:
        axis.set_visible(False)
    # A panel without one below shows its own numbers.
    for axis in axes[max(0, count - columns) : count]:
        axis.tick_params(labelbottom=True)
    return figure, axes[:count]


def _title(axis: Axes, name: str, count: int) -> None:
    axis.set_title(name.replace("_", " "), fontsize=7.5)
    axis.annotate(
        f"n = {count:,}", (1, 1), (0, -2), xycoords="axes fraction", textcoords="offset points",
        ha="right", va="top", fontsize=7, color="0.35",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip


def _draw_histograms(
    panels: dict[str, list[DefectRecord]],
    values: Callable[[DefectRecord], float],
    bins: np.typing.NDArray[np.float64],
    per: Unit,
) -> tuple[Figure, list[Axes]]:
    figure, axes = _grid(len(panels), height=1.35, sharex=True, sharey=True)
    for axis, (name, records) in zip(axes, panels.items(), strict=True):
        numbers = np.clip([values(record) for record in records], bins[0], bins[-1])
        weights = np.full(len(numbers), 100 / len(numbers))
        axis.hist(numbers, bins=bins.tolist(), weights=weights, color=PALETTE[0], linewidth=0)
        axis.plot(
            np.median(numbers), 0, marker=(3, 0, 180), markersize=6, color=PALETTE[3],
            clip_on=False, transform=axis.get_xaxis_transform(), zorder=5,
        )  # fmt: skip
        axis.set_xscale("log")
        _title(axis, name, len(records))
    figure.supylabel(f"share of {per}s, %", fontsize=9)
    return figure, axes


def _draw_area_ratios(panels: dict[str, list[DefectRecord]], per: Unit) -> Figure:
    ratios = [record.area_ratio for records in panels.values() for record in records]
    first = int(np.clip(np.floor(np.log10(min(ratios))), -6, -4))  # whole decades, and the limits
    last = int(np.clip(np.ceil(np.log10(max(ratios))), -2, 0))
    bins = np.logspace(first, last, _BINS_PER_DECADE * (last - first) + 1)
    figure, axes = _draw_histograms(panels, lambda record: 100 * record.area_ratio, 100 * bins, per)
    for axis in axes:
        for limit in (0.05, 0.5):
            axis.axvline(limit, color="0.3", linewidth=0.8, linestyle=(0, (3, 2)))
        axis.xaxis.set_major_formatter(_plain)
        axis.xaxis.set_minor_formatter("")
    figure.supxlabel("defect area, % of the image", fontsize=9)
    return figure


def _draw_aspect_ratios(panels: dict[str, list[DefectRecord]], per: Unit) -> Figure:
    highest = max(record.aspect_ratio for records in panels.values() for record in records)
    bins = np.geomspace(1, max(10, highest), 31)
    figure, axes = _draw_histograms(panels, lambda record: record.aspect_ratio, bins, per)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= bins[-1]]
    for axis in axes:
        axis.set_xticks(ticks)
        axis.xaxis.set_major_formatter(_plain)
        axis.minorticks_off()
    figure.supxlabel("aspect ratio of the smallest rectangle", fontsize=9)
    return figure


def _plain(value: float, _: float) -> str:
    """Format a tick as a plain number: 0.01, 1, 100."""
    return f"{value:g}" if value >= 0.0001 else f"{value:.0e}"


def _plain_signed(value: float, _: float) -> str:
    return f"{value:g}".replace("-", "−")


def _draw_sizes(panels: dict[str, list[DefectRecord]], per: Unit) -> Figure:
    from matplotlib.figure import Figure

    names = list(panels)
    figure = Figure(figsize=(6.2, 0.30 * len(names) + 1.0), layout="constrained")
    axis = figure.subplots()
    left = np.zeros(len(names))
    for size in SIZES:
        shares = np.array(
            [100 * sum(r.size == size for r in panels[n]) / len(panels[n]) for n in names]
        )
        bars = axis.barh(
            names, shares, left=left, color=_SIZE_COLOURS[size], label=size, height=0.72,
            edgecolor="white", linewidth=0.6,
        )  # fmt: skip
        labels = [f"{share:.0f}" if share >= 5 else "" for share in shares]
        colour = "black" if size == "small" else "white"
        axis.bar_label(bars, labels, label_type="center", color=colour, fontsize=7)
        left += shares
    axis.set_yticks(range(len(names)), [n.replace("_", " ") for n in names])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.grid(visible=False)
    axis.set_xlabel(f"share of {per}s, %")
    axis.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return figure


def _draw_positions(statistics: DefectStatistics) -> Figure:
    categories = sorted({image.category for image in statistics.images})
    if len(categories) == 1:
        names = sorted({image.defect_type for image in statistics.images})
        maps = {name: statistics.positions(defect_type=name) for name in names}
        counts = {n: sum(i.defect_type == n for i in statistics.images) for n in names}
    else:
        maps = {name: statistics.positions(name) for name in categories}
        counts = {n: sum(i.category == n for i in statistics.images) for n in categories}
    figure, axes = _grid(len(maps), height=1.75)
    for axis, (name, cells) in zip(axes, maps.items(), strict=True):
        picture = axis.imshow(
            100 * cells, cmap="inferno", vmin=0, extent=(0, 1, 1, 0), interpolation="nearest"
        )
        axis.set_xticks([])
        axis.set_yticks([])
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.set_title(name.replace("_", " ") + "\n", fontsize=7.5)
        axis.annotate(
            f"n = {counts[name]:,}", (0, 1), (0, 3), xycoords="axes fraction",
            textcoords="offset points", fontsize=7, color="0.35",
        )  # fmt: skip
        bar = figure.colorbar(picture, ax=axis, shrink=0.8, aspect=14, pad=0.03)
        bar.ax.tick_params(labelsize=6, length=2)
        bar.locator = _ticks()
        bar.update_ticks()
    figure.supxlabel("share of the cell that is defect, %, mean over the images", fontsize=8)
    return figure


def _ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)


def _fixed(ticks: Sequence[float]) -> Any:
    from matplotlib.ticker import FixedLocator

    return FixedLocator(ticks)


def _box(
    axis: Axes, groups: Sequence[DefectGroup], quantity: str, scale: float, colour: str
) -> None:
    """Draw horizontal boxes from the groups' quantiles, one a row."""
    for row, group in enumerate(groups):
        quantiles = getattr(group, quantity)
        if quantiles is None:
            continue
        low, q25, q50, q75, high = (
            scale * getattr(quantiles, name) for name in ("q05", "q25", "median", "q75", "q95")
        )
        axis.plot([low, high], [row, row], color=colour, linewidth=1)
        axis.barh(row, q75 - q25, left=q25, height=0.56, color=colour, alpha=0.35, linewidth=0)
        axis.plot([q50, q50], [row - 0.28, row + 0.28], color=colour, linewidth=1.8)


def _label_rows(axis: Axes, groups: Sequence[DefectGroup]) -> None:
    """Name the rows after the types, and a line between categories."""
    one = len({group.category for group in groups}) == 1
    labels = []
    for row, group in enumerate(groups):
        new = row == 0 or groups[row - 1].category != group.category
        name = str(group.defect_type).replace("_", " ")
        prefix = f"{str(group.category).replace('_', ' ')}  ·  " if new and not one else ""
        labels.append(prefix + name)
        if new and row and not one:
            axis.axhline(row - 0.5, color="0.6", linewidth=0.6)
    axis.set_yticks(range(len(groups)), labels)
    axis.tick_params(axis="y", length=0, labelsize=7)


def _draw_types(groups: Sequence[DefectGroup]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 0.21 * len(groups) + 1.1), layout="constrained")
    bars, areas = figure.subplots(1, 2, sharey=True)
    rows = np.arange(len(groups))
    images, regions = [group.images for group in groups], [group.regions for group in groups]
    bars.barh(rows - 0.2, images, height=0.38, color=PALETTE[0], label="images")
    bars.barh(rows + 0.2, regions, height=0.38, color=PALETTE[5], label="regions")
    bars.set_xlabel("number")
    bars.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    _label_rows(bars, groups)
    _label_rows(areas, groups)
    _box(areas, groups, "area_ratio", 100, PALETTE[3])
    areas.set_xscale("log")
    areas.xaxis.set_major_formatter(_plain)
    areas.xaxis.set_minor_formatter("")
    areas.set_xlabel("defect area, % of the image")
    bars.set_ylim(len(groups) - 0.4, -0.6)
    return figure


def _draw_contrast(groups: Sequence[DefectGroup]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 0.21 * len(groups) + 0.9), layout="constrained")
    axis = figure.subplots()
    for limit in (-1, 1):
        axis.axvline(limit, color="0.4", linewidth=0.8, linestyle=":")
    axis.axvline(0, color="0.4", linewidth=0.8)
    _box(axis, groups, "contrast_ratio", 1, PALETTE[2])
    _label_rows(axis, groups)
    axis.set_ylim(len(groups) - 0.4, -0.6)
    axis.set_xscale("symlog", linthresh=1, linscale=0.7)
    axis.xaxis.set_major_locator(_fixed((-50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10, 20, 50)))
    axis.xaxis.set_major_formatter(_plain_signed)
    axis.minorticks_off()
    axis.set_xlabel("contrast, standard deviations of the surround (negative: darker)")
    return figure


def _has_pairs(table: CoOccurrence) -> bool:
    return any(count for i, row in enumerate(table.images) for j, count in enumerate(row) if i != j)


def _draw_co_occurrence(tables: Sequence[CoOccurrence]) -> Figure:
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    most = max(len(table.types) for table in tables)
    side = 0.34 * most + 1.4
    columns = min(len(tables), 2)
    rows = math.ceil(len(tables) / columns)
    figure = Figure(figsize=(side * columns + 0.4, side * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(tables) :]:
        axis.set_visible(False)
    for axis, table in zip(axes, tables, strict=False):
        counts = np.array(table.images)
        norm = LogNorm(1, max(2, counts.max()))
        axis.imshow(np.where(counts, counts, np.nan), cmap="Blues", norm=norm)
        for (i, j), count in np.ndenumerate(counts):
            if count:
                dark = norm(count) > 0.6
                axis.text(j, i, str(count), ha="center", va="center", fontsize=6.5,
                          color="white" if dark else "black")  # fmt: skip
        names = [name.replace("_", " ") for name in table.types]
        axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axis.set_yticks(range(len(names)), names)
        axis.grid(visible=False)
        axis.set_title(table.category.replace("_", " "))
    return figure
