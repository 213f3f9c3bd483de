"""Pictures of anomaly maps and of training, and the style all figures share.

Colours are safe for the colour-blind (Okabe & Ito's palette; the perceptually even map "inferno")
and scales are fixed by the caller: two pictures with the same ``vmin``, ``vmax`` and ``threshold``
can be compared by eye. Figures are matplotlib ``Figure`` objects that belong to no window system.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from threecad.errors import UsageError
from threecad.system.atomic import replacing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = [
    "PALETTE",
    "STYLE",
    "figure_bytes",
    "heatmap",
    "outline",
    "overlay",
    "save_figure",
    "scale_of_good",
    "styled",
    "training_curve",
]

PALETTE = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F", "#B8A800",
)  # fmt: skip
"""Okabe & Ito's colours, with a grey and a darker yellow that shows on white paper."""

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "figure.dpi": 110,
    "figure.titlesize": 10,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "pdf.fonttype": 42,
    "svg.hashsalt": "threecad",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
}
"""Matplotlib settings of every figure here."""


def styled(changes: Mapping[str, Any] | None = None) -> AbstractContextManager[None]:
    """Return the context in which figures are made and saved: ``STYLE`` with ``changes``."""
    import matplotlib as mpl

    settings: Any = {**STYLE, **(changes or {})}
    return mpl.rc_context(settings)


_MASK_COLOUR = (86, 180, 233)  # sky blue: seen on grey metal, copper and the warm heat map alike
_THRESHOLD_COLOUR = (255, 255, 255)


def heatmap(anomaly_map: NDArray[Any], *, vmin: float, vmax: float) -> NDArray[np.uint8]:
    """Colour an anomaly map on a fixed scale.

    Args:
        anomaly_map: ``(H, W)`` float, higher is more anomalous.
        vmin: This value and lower ones are black.
        vmax: This value and higher ones are pale yellow.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        UsageError: If ``vmin`` is not below ``vmax``, or the map is not 2-D or has NaN in it.
    """
    colours: NDArray[np.uint8] = _inferno()[_levels(anomaly_map, vmin, vmax)]
    return colours


def overlay(
    image: NDArray[np.uint8],
    anomaly_map: NDArray[Any],
    *,
    vmin: float,
    vmax: float,
    threshold: float | None = None,
) -> NDArray[np.uint8]:
    """Lay an anomaly map over its image: the higher the value, the less of the image shows.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        anomaly_map: ``(h, w)`` float, higher is more anomalous; brought to the image's size
            (bilinear, half-pixel centres) where it differs.
        vmin: Here and below only the image shows, in grey.
        vmax: Here and above the colour is at its strongest.
        threshold: Draw a white line round what lies above this value.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        UsageError: If a shape or type is another one, ``vmin`` is not below ``vmax``, or the map
            has NaN in it.
    """
    _check_image(image)
    height, width = image.shape[:2]
    values: NDArray[Any] = np.asarray(anomaly_map, np.float32)
    if values.ndim == 2 and values.shape != (height, width):
        values = cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR)
    levels = _levels(values, vmin, vmax)
    strength = (levels.astype(np.float32) / 255 * 0.65)[..., None]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    blended = (1 - strength) * grey + strength * _inferno()[levels]
    picture = np.rint(blended).astype(np.uint8)
    if threshold is not None:
        picture = outline(picture, values > threshold, colour=_THRESHOLD_COLOUR)
    return picture


def outline(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    *,
    colour: tuple[int, int, int] = _MASK_COLOUR,
) -> NDArray[np.uint8]:
    """Draw the outline of a mask on a copy of an image; the mask's own pixels stay untouched.

    Args:
        image: ``(H, W, 3)`` uint8 RGB.
        mask: ``(H, W)`` bool.
        colour: RGB.

    Returns:
        ``(H, W, 3)`` uint8 RGB.

    Raises:
        UsageError: If the sizes differ or the image is none.
    """
    _check_image(image)
    if image.shape[:2] != mask.shape:
        raise UsageError(
            f"The image is {image.shape[:2]}, its mask {mask.shape}: expected one size."
        )
    # The line lies round the mask and is as thick as it must be to survive in a small panel.
    reach = max(1, round(max(mask.shape) / 150))
    inside = mask.astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    picture: NDArray[np.uint8] = image.copy()
    picture[(cv2.dilate(inside, kernel) > 0) & ~mask] = colour
    return picture


def scale_of_good(maps: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """Return a colour scale under which good images stay dark and images can be compared.

    Args:
        maps: Anomaly maps of good images, float; at least one. Held one at a time.

    Returns:
        ``(vmin, vmax)``: the median of some 16,000 values of each, and as far again above their
        highest value as that is above the median.
    """
    some, highest = [], -np.inf
    for each in maps:
        some.append(np.ravel(each)[:: max(1, each.size // 16384)])
        highest = max(highest, float(each.max()))
    low = float(np.median(np.concatenate(some)))
    return low, low + 2 * (highest - low) if highest > low else low + 1.0


def _check_image(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(
            f"An image of shape {image.shape} and type {image.dtype} was given; expected "
            "(H, W, 3) uint8."
        )


def _levels(anomaly_map: NDArray[Any], vmin: float, vmax: float) -> NDArray[np.uint8]:
    """Return the map as 256 levels between ``vmin`` and ``vmax``."""
    if not vmin < vmax:
        raise UsageError(f"The colour scale goes from {vmin} to {vmax}; expected vmin below vmax.")
    values = np.asarray(anomaly_map, np.float32)
    if values.ndim != 2:
        raise UsageError(f"An anomaly map of shape {values.shape} was given; expected (H, W).")
    if np.isnan(values).any():
        raise UsageError("The anomaly map has NaN in it; expected numbers.")
    levels: NDArray[np.uint8] = np.rint(
        np.clip((values - vmin) / (vmax - vmin), 0, 1) * 255
    ).astype(np.uint8)
    return levels


@lru_cache(maxsize=1)
def _inferno() -> NDArray[np.uint8]:
    """Return the colour map as ``(256, 3)`` uint8 RGB."""
    from matplotlib import colormaps

    colours: NDArray[np.uint8] = np.rint(
        np.asarray(colormaps["inferno"](np.arange(256)))[:, :3] * 255
    ).astype(np.uint8)
    return colours


def training_curve(log: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot the losses of a training log, and the learning rate where it is logged.

    Args:
        log: Records in order. ``step`` (else ``epoch``, else the position) is the x axis; every
            number whose key has ``loss`` in it is a curve. Below are drawn, where they are logged,
            the figures whose keys begin with ``validation_``, and ``lr`` or ``learning_rate``.

    Raises:
        UsageError: If no record has a loss.
    """
    from matplotlib.figure import Figure

    logged = {key for record in log for key, value in record.items() if _is_number(value)}
    names = sorted((key for key in logged if "loss" in key), key=lambda key: (key != "loss", key))
    validated = sorted(key for key in logged - {*names} if key.startswith("validation_"))
    if not names:
        raise UsageError("The training log has no loss; expected records such as {step, loss}.")
    rate = next((key for key in ("lr", "learning_rate") if key in logged), None)
    heights = [3.0, *([2.0] if validated else []), *([1.0] if rate else [])]
    with styled():
        figure = Figure(figsize=(5.2, 2 + 0.8 * sum(heights[1:]) + 0.8), layout="constrained")
        axes = figure.subplots(len(heights), 1, squeeze=False, sharex=True,
                               height_ratios=heights)[:, 0]  # fmt: skip
        for name, colour in zip(names, PALETTE, strict=False):
            x, y = _series(log, name)
            _draw_curve(axes[0], x, y, name.replace("_", " "), colour)
        axes[0].set_ylabel("loss")
        if min(min(_series(log, name)[1]) for name in names) > 0:
            axes[0].set_yscale("log")
        if len(names) > 1:
            axes[0].legend(ncols=2)
        for name, colour in zip(validated, PALETTE[4:], strict=False):
            label = name.removeprefix("validation_").replace("_", " ")
            axes[1].plot(*_series(log, name), color=colour, marker=".", label=label)
        if validated:
            axes[1].set_ylabel("validation")
            axes[1].legend(ncols=2)
        if rate:
            axes[-1].plot(*_series(log, rate), color=PALETTE[6])
            axes[-1].set_ylabel("learning rate")
            axes[-1].ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        axes[-1].set_xlabel(_progress_key(log) or "record")
    return figure


def _draw_curve(axis: Axes, x: list[float], y: list[float], label: str, colour: str) -> None:
    """Draw a curve; a long one pale, with its running mean on top."""
    window = len(y) // 25
    if window < 2:
        axis.plot(x, y, color=colour, label=label, marker="o" if len(y) < 30 else "", markersize=3)
        return
    summed = np.cumsum([0.0, *y])
    mean = (summed[window:] - summed[:-window]) / window
    axis.plot(x, y, color=colour, alpha=0.25, linewidth=0.7)
    axis.plot(x[window // 2 :][: len(mean)], mean, color=colour, label=label)


def _progress_key(log: Sequence[Mapping[str, Any]]) -> str | None:
    return next((key for key in ("step", "epoch") if all(key in record for record in log)), None)


def _series(log: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    key = _progress_key(log)
    points = [
        (float(record[key] if key else position), float(record[name]))
        for position, record in enumerate(log)
        if _is_number(record.get(name))
    ]
    return [x for x, _ in points], [y for _, y in points]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def save_figure(
    figure: Figure,
    folder: str | os.PathLike[str],
    name: str,
    *,
    formats: Sequence[str] = ("png", "pdf"),
) -> list[Path]:
    """Write a figure as ``<folder>/<name>.<format>`` in each format, 200 dpi where it matters.

    The files say nothing about when they were made: the same figure gives the same bytes.
    """
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    paths = [Path(folder) / f"{name}.{kind}" for kind in formats]
    for path, kind in zip(paths, formats, strict=True):
        with styled(), replacing(path, durable=False) as temporary:
            figure.savefig(temporary, format=kind, dpi=200, metadata=undated.get(kind))
    return paths


def figure_bytes(figure: Figure, *, format: str = "svg") -> bytes:  # noqa: A002  (matplotlib's)
    """Return a figure as an SVG or PNG file in memory; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    undated = {"svg": {"Date": None}}
    with styled({"svg.hashsalt": "threecad"}):
        figure.savefig(buffer, format=format, dpi=200, metadata=undated.get(format))
    return buffer.getvalue()
