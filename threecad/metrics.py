"""Streaming evaluation: feed anomaly maps, get every figure with a certified interval.

>>> evaluator = Evaluator()
>>> evaluator.update(maps, masks, scores, labels)  # as many batches as there are
>>> print(evaluator.compute())

Memory does not grow with the number of pixels. The state is integer and a function of what was
fed, not of how: batches, their order, processes and machines make no difference to any bit.
"""

from __future__ import annotations

import platform
from collections import defaultdict
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad import curves, kernels
from threecad.curves import Counts, Interval
from threecad.errors import EvaluationError, UsageError
from threecad.pixels import SIZES, PixelCounts, find_defects
from threecad.results import Figure, Result, Scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from threecad.histograms import Bins

__all__ = ["TOLERANCES", "Evaluator"]

TOLERANCES = {"auroc": 1e-6, "pro": 1e-6, "ap": 1e-5, "f1": 1e-5, "recall": 1e-5}
"""Widest interval of each kind of figure that counts as exact."""

DETAIL_BINS = 2**18
"""Budget of the histograms of one defect type or size."""

RECALL_RATES = (0.05, 0.01)
"""False positive rates at which region recall is given."""

ONLY_CATEGORY = "all"
"""Name of the category of images that were given without one."""


@dataclass
class Category:
    """All that is remembered of one category."""

    max_bins: int
    scores: list[float] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    types: list[str | None] = field(default_factory=list)
    pixels: PixelCounts = field(init=False)
    by_type: dict[str, PixelCounts] = field(default_factory=dict)
    by_size: dict[str, PixelCounts] = field(init=False)
    without_mask: int = 0

    def __post_init__(self) -> None:
        self.pixels = PixelCounts(self.max_bins)
        self.by_size = {size: PixelCounts(DETAIL_BINS) for size in SIZES}

    def add_pixels(
        self,
        scores: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_] | None,
        defect_type: str | None,
    ) -> None:
        defects = None if mask is None else find_defects(scores, mask)
        flat = np.ascontiguousarray(scores).reshape(-1)
        self.pixels.add(flat, defects)
        if defect_type is not None:
            if defect_type not in self.by_type:
                self.by_type[defect_type] = PixelCounts(DETAIL_BINS)
            self.by_type[defect_type].add(flat, defects)
        if defects is not None:
            for size in SIZES:
                if np.any(defects.size == size):
                    self.by_size[size].add_defects(defects.of_size(size))

    def merge(self, other: Category) -> None:
        self.scores += other.scores
        self.labels += other.labels
        self.types += other.types
        self.without_mask += other.without_mask
        self.pixels.merge(other.pixels)
        for name, counts in other.by_type.items():
            self.by_type.setdefault(name, PixelCounts(DETAIL_BINS)).merge(counts)
        for size in SIZES:
            self.by_size[size].merge(other.by_size[size])


class Evaluator:
    """Collects anomaly maps and scores, and computes all figures of METRICS in ``Result``.

    Args:
        pro_limits: False positive rates up to which PRO is integrated.
        bootstrap: Number of bootstrap replicates over images; 0 gives no confidence intervals.
        seed: Seed of the bootstrap.
        max_bins: Memory budget: bins per category; each takes 8 to 24 bytes once it is used.

    Raises:
        UsageError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        pro_limits: Sequence[float] = (0.3, 0.05),
        bootstrap: int = 0,
        seed: int = 0,
        max_bins: int = 2**22,
    ) -> None:
        if not pro_limits or not all(0 < limit <= 1 for limit in pro_limits):
            raise UsageError(f"pro_limits is {pro_limits!r}; expected rates above 0 and up to 1.")
        if bootstrap < 0:
            raise UsageError(f"bootstrap is {bootstrap}; expected 0 or more replicates.")
        self.pro_limits = tuple(pro_limits)
        self.bootstrap = bootstrap
        self.seed = seed
        self.max_bins = max_bins
        self._categories: dict[str, Category] = {}

    def update(
        self,
        maps: Any,
        masks: Any,
        scores: Any,
        labels: Any,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Add a batch of images.

        Nothing is added when an error is raised.

        Args:
            maps: Anomaly maps, ``(N, H, W)`` or N arrays ``(H, W)`` of any size; float16, float32
                or float64, any finite range, higher is more anomalous. NumPy or torch.
            masks: Ground truth of the same shapes, non-zero is defect. ``None``, for the batch or
                one image, where no mask is known: such an image counts at image level alone.
            scores: ``(N,)`` image scores, any finite range.
            labels: ``(N,)`` 0 for good, 1 for defective: the image's, whatever its mask.
            groups: ``{"category": …, "defect_type": …}``, either or both: one name per image.
                The defect type of good images is not used.

        Raises:
            EvaluationError: If lengths or shapes differ, a value is NaN or infinite, a label is
                neither 0 nor 1, or a good image has defective pixels.
            UsageError: If a group is neither ``category`` nor ``defect_type``.
        """
        label_list = [int(label) for label in _to_numpy(labels).reshape(-1)]
        n = len(label_list)
        map_list = [_check_map(value, i) for i, value in enumerate(maps)]
        mask_list = [None] * n if masks is None else list(masks)
        score_list = [float(score) for score in _to_numpy(scores).reshape(-1)]
        for name, values in (("maps", map_list), ("masks", mask_list), ("scores", score_list)):
            if len(values) != n:
                raise EvaluationError(f"There are {len(values)} {name} for {n} labels.")
        categories, types = _read_groups(groups, n)
        checked = [
            _check_image(i, map_list[i], mask_list[i], score_list[i], label_list[i])
            for i in range(n)
        ]
        for i in range(n):
            self._add(
                categories[i], types[i], map_list[i], checked[i], score_list[i], label_list[i]
            )

    def _add(
        self,
        category: str,
        defect_type: str | None,
        scores: NDArray[np.floating[Any]],
        mask: NDArray[np.bool_] | None,
        score: float,
        label: int,
    ) -> None:
        if category not in self._categories:
            self._categories[category] = Category(self.max_bins)
        state = self._categories[category]
        if label == 0 and defect_type is not None:
            defect_type = "good"
        state.scores.append(score)
        state.labels.append(label)
        state.types.append(defect_type)
        if mask is None:
            state.without_mask += 1
        else:
            state.add_pixels(scores, mask, defect_type)

    def merge(self, other: Evaluator) -> None:
        """Add what ``other`` collected, from another batch, process or machine.

        Raises:
            UsageError: If the two were made with different settings.
        """
        if self.settings() != other.settings():
            raise UsageError(f"These evaluators differ: {self.settings()} and {other.settings()}.")
        for name, state in other._categories.items():
            if name not in self._categories:
                self._categories[name] = Category(self.max_bins)
            self._categories[name].merge(state)

    def all_reduce(self) -> None:
        """Merge the evaluators of all ``torch.distributed`` processes, in every one of them."""
        from torch import distributed

        if not distributed.is_available() or not distributed.is_initialized():
            return
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, self)
        self._categories = {}
        for other in gathered:
            self.merge(other)

    def settings(self) -> dict[str, Any]:
        """Return what decides the figures beside the data."""
        return {
            "pro_limits": list(self.pro_limits),
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "max_bins": self.max_bins,
        }

    def compute(self) -> Result:
        """Return all figures.

        Raises:
            EvaluationError: If no image was added.
        """
        if not self._categories:
            raise EvaluationError("No image was added, so there is nothing to compute.")
        by_category: dict[str, Scores] = {}
        by_type: dict[str, Scores] = {}
        sizes: dict[str, dict[str, Scores]] = defaultdict(dict)
        for name in sorted(self._categories):
            state = self._categories[name]
            background = state.pixels.background()
            by_category[name] = self._scores(state, state.pixels, background)
            for defect_type in sorted(state.by_type):
                if defect_type != "good":
                    by_type[f"{name}/{defect_type}"] = self._type_scores(state, defect_type)
            for size in SIZES:
                sizes[size][name] = self._size_scores(state, state.by_size[size], background)
        by_size = {size: mean_scores(sizes[size].values()) for size in SIZES}
        for name in by_category:
            by_size |= {f"{name}/{size}": sizes[size][name] for size in SIZES}
        return Result(
            mean=mean_scores(by_category.values()),
            by_category=by_category,
            by_defect_type=by_type,
            by_size=by_size,
            pooled=self._pooled(),
            settings=self.settings(),
            provenance=describe_software(),
        )

    def _pooled(self) -> Scores:
        pooled = Category(self.max_bins)
        for state in self._categories.values():
            pooled.merge(state)
        return self._scores(pooled, pooled.pixels, pooled.pixels.background())

    def _type_scores(self, state: Category, defect_type: str) -> Scores:
        """Compute the scores of all good images and those of one defect type."""
        part = Category(DETAIL_BINS)
        for score, label, kind in zip(state.scores, state.labels, state.types, strict=True):
            if kind in ("good", defect_type):
                part.scores.append(score)
                part.labels.append(label)
        for kind in ("good", defect_type):
            if kind in state.by_type:
                part.pixels.merge(state.by_type[kind])
        return self._scores(part, part.pixels, part.pixels.background())

    def _scores(self, state: Category, pixels: PixelCounts, background: Bins) -> Scores:
        figures = image_figures(state.scores, state.labels)
        figures |= self._pixel_figures(pixels, background, None, state.without_mask)
        defective = sum(state.labels)
        return Scores(
            figures,
            {
                "good": len(state.labels) - defective,
                "defective": defective,
                "regions": pixels.found.total,
                "pixels": pixels.every.total,
                "defective_pixels": pixels.defective.total,
            },
        )

    def _size_scores(self, state: Category, pixels: PixelCounts, background: Bins) -> Scores:
        figures = self._pixel_figures(pixels, background, background, state.without_mask)
        for key in ("pixel_ap", "pixel_f1_max"):  # depend on how many regions have the size
            del figures[key]
        counts = {"regions": pixels.found.total, "defective_pixels": pixels.defective.total}
        return Scores(figures, counts)

    def _pixel_figures(
        self, pixels: PixelCounts, background: Bins, against: Bins | None, without_mask: int
    ) -> dict[str, Figure]:
        keys = ["pixel_auroc", "pixel_ap", "pixel_f1_max"]
        keys += [pro_key(limit) for limit in self.pro_limits]
        keys += [recall_key(rate) for rate in RECALL_RATES]
        negatives, positives = int(background.counts.sum()), pixels.defective.total
        if not negatives or not positives:
            missing = "defective" if not positives else "defect-free"
            reason = f"no {missing} pixels"
            if without_mask:
                reason += f" ({without_mask} images have no mask)"
            return {key: Figure.undefined(reason) for key in keys}
        counts = pixels.counts(against)
        figures = {
            "pixel_auroc": to_figure(curves.auroc(counts), "auroc"),
            "pixel_ap": to_figure(curves.average_precision(counts), "ap"),
            "pixel_f1_max": to_figure(curves.f1_max(counts), "f1"),
        }
        for limit in self.pro_limits:
            figures[pro_key(limit)] = to_figure(curves.pro(counts, limit), "pro")
        regions = pixels.region_counts(background)
        for rate in RECALL_RATES:
            figures[recall_key(rate)] = to_figure(curves.recall_at(regions, rate), "recall")
        return figures


def image_figures(scores: Sequence[float], labels: Sequence[int]) -> dict[str, Figure]:
    """Return AUROC, AP and F1-max over image scores; they are exact."""
    defective = sum(labels)
    if defective in (0, len(labels)):
        reason = "no defective images" if defective == 0 else "no good images"
        return {
            key: Figure.undefined(reason) for key in ("image_auroc", "image_ap", "image_f1_max")
        }
    values, bins = np.unique(-np.asarray(scores, np.float64), return_inverse=True)
    positive = np.bincount(bins[np.asarray(labels) == 1], minlength=values.size)
    negative = np.bincount(bins, minlength=values.size) - positive
    counts = Counts(negative, positive, positive, np.ones(values.size, np.bool_))
    return {
        "image_auroc": to_figure(curves.auroc(counts), "auroc"),
        "image_ap": to_figure(curves.average_precision(counts), "ap"),
        "image_f1_max": to_figure(curves.f1_max(counts), "f1"),
    }


def to_figure(interval: Interval, kind: str) -> Figure:
    """Return ``interval`` as a figure of the kind."""
    return Figure(
        interval.value,
        interval.low,
        interval.high,
        within_tolerance=interval.width <= TOLERANCES[kind],
    )


def mean_scores(parts: Iterable[Scores]) -> Scores:
    """Return the unweighted mean of each figure over the parts for which it is defined."""
    parts = list(parts)
    figures = {key: _mean_figure([part.figures[key] for part in parts]) for key in parts[0].figures}
    counts = {key: sum(part.counts[key] for part in parts) for key in parts[0].counts}
    return Scores(figures, counts)


def _mean_figure(parts: list[Figure]) -> Figure:
    defined = [part for part in parts if part.value is not None]
    n = len(defined)
    if not n:
        reasons = sorted({part.reason or "" for part in parts})
        return Figure.undefined("; ".join(reasons), n=0)
    return Figure(
        sum(part.value for part in defined if part.value is not None) / n,
        sum(part.low for part in defined if part.low is not None) / n,
        sum(part.high for part in defined if part.high is not None) / n,
        n=n,
        within_tolerance=all(part.within_tolerance for part in defined),
    )


def pro_key(limit: float) -> str:
    """Return the key of PRO up to ``limit``: ``pro_30`` for 0.3, ``pro_05`` for 0.05."""
    return f"pro_{_percent(limit)}"


def recall_key(rate: float) -> str:
    """Return the key of region recall at ``rate``."""
    return f"region_recall_{_percent(rate)}"


def describe_software() -> dict[str, Any]:
    """Return the versions that a result depends on."""
    import threecad

    return {
        "threecad": threecad.__version__,
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "numba": version("numba"),
    }


def _percent(rate: float) -> str:
    percent = 100 * rate
    digits = f"{percent:.6g}"
    return f"{round(percent):02d}" if float(digits).is_integer() else digits.replace(".", "p")


def _to_numpy(values: Any) -> NDArray[Any]:
    """Return an array or a torch tensor as a NumPy array, without a copy where possible."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        return values.numpy()  # type: ignore[no-any-return]
    return np.asarray(values)


def _check_map(value: Any, i: int) -> NDArray[np.floating[Any]]:
    scores = _to_numpy(value)
    if scores.dtype == np.float16:
        scores = scores.astype(np.float32)
    if scores.dtype not in (np.float32, np.float64):
        raise EvaluationError(
            f"The anomaly map of image {i} is {scores.dtype}; expected float16, 32 or 64."
        )
    if scores.ndim != 2 or scores.size == 0:
        raise EvaluationError(
            f"The anomaly map of image {i} has shape {scores.shape}; expected (H, W)."
        )
    return scores


def _check_image(
    i: int, scores: NDArray[np.floating[Any]], mask: Any, score: float, label: int
) -> NDArray[np.bool_] | None:
    """Check one image of a batch, and return its mask as booleans."""
    if label not in (0, 1):
        raise EvaluationError(f"The label of image {i} is {label}; expected 0 or 1.")
    if not np.isfinite(score):
        raise EvaluationError(f"The score of image {i} is {score}; expected a finite number.")
    if not kernels.scan(np.ascontiguousarray(scores).reshape(-1))[1]:
        raise EvaluationError(
            f"The anomaly map of image {i} holds NaN or infinite values; expected finite ones."
        )
    if mask is None:
        return None
    defect = _to_numpy(mask)
    if defect.shape != scores.shape:
        raise EvaluationError(
            f"The mask of image {i} has shape {defect.shape} but its anomaly map {scores.shape}. "
            "Resize the map to the mask first."
        )
    if defect.dtype != np.bool_:
        defect = defect != 0
    if label == 0 and defect.any():
        raise EvaluationError(
            f"Image {i} is labelled good but its mask has {int(defect.sum())} defective pixels."
        )
    return defect


def _read_groups(
    groups: Mapping[str, Sequence[str]] | None, n: int
) -> tuple[list[str], list[str | None]]:
    groups = groups or {}
    if unknown := sorted(set(groups) - {"category", "defect_type"}):
        raise UsageError(f"Unknown group {unknown[0]!r}; expected category or defect_type.")
    for name, values in groups.items():
        if len(values) != n:
            raise EvaluationError(f"There are {len(values)} names of {name!r} for {n} labels.")
    return (
        list(groups.get("category", [ONLY_CATEGORY] * n)),
        list(groups.get("defect_type", [None] * n)),
    )
