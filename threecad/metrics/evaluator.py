"""Streaming evaluation: feed anomaly maps, get every figure with a certified interval.

>>> evaluator = Evaluator()
>>> evaluator.update(maps, masks, scores, labels)  # as many batches as there are
>>> print(evaluator.compute())

Memory does not grow with the number of pixels. The state is integer and a function of what was
fed, not of how: batches, their order, processes and machines make no difference to any bit.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from threecad.errors import EvaluationError, UsageError
from threecad.metrics.maps import ArrayMap, as_array
from threecad.metrics.pages import PAGE_BITS
from threecad.metrics.paper_protocol import PAPER_SIZE
from threecad.metrics.scoring import CategoryScores, assemble
from threecad.metrics.tallies import CategoryTally
from threecad.samples import GOOD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from threecad.metrics.maps import AnomalyMap
    from threecad.metrics.results import Result

__all__ = ["ONLY_CATEGORY", "Evaluator"]

ONLY_CATEGORY = "all"
"""Name of the category of images that were given without one."""

POOLED = "pooled"
"""Name of all categories taken together."""

Protocol = Literal["full", "paper"]

FLOATS = ("float16", "bfloat16", "float32", "float64")

MIN_BINS = 1 << PAGE_BITS
"""The least budget: a page of bins."""

HOST_DEVICES = ("cpu", "mps")
"""Torch devices whose maps are counted by the processor. MPS has no float64."""


class Evaluator:
    """Computes image, pixel and region figures from batches of anomaly maps, in bounded memory.

    Feed every image to ``update`` once, in any batches and order; join the evaluators of
    several processes with ``merge`` or ``all_reduce``; ``compute`` then returns every
    figure with bounds that contain its exact value. Whoever can give the maps again can narrow
    these bounds to the tolerance with ``start_refinement``.

    Images with a category are evaluated within it, and the result's main figures are means over
    categories. ``compute`` changes nothing: more images may follow. There is no ``reset``: a
    new evaluator, or ``empty``, starts afresh. Evaluators can be pickled.

    Args:
        pro_limits: False positive rates up to which PRO is integrated.
        bootstrap: Number of bootstrap replicates over images; 0 gives no confidence intervals.
            Keeps about 4 KB of each image.
        seed: Seed of the bootstrap.
        protocol: ``full``, or ``paper``: PRO of each image alone, as in the code of the 3CAD paper,
            instead of our PRO, region recall and the breakdowns. Maps that have a mask must then
            be 256×256 like it, and the labels those of the masks.
        breakdowns: Count defect types and sizes apart.
        max_bins: Budget of a category: bins that scores are counted in. A bin takes 4 bytes and,
            where scores fall in it, 16 more once the counts are read or merged; those of defective
            pixels 24. Fewer bins give wider bounds; 256 is the least. With the default, float32
            maps whose scores are all different come to about twice the tolerance in one pass, and
            within it with ``2**23``, at twice the time.

    Raises:
        UsageError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        pro_limits: Sequence[float] = (0.3, 0.05),
        bootstrap: int = 0,
        seed: int = 0,
        protocol: Protocol = "full",
        breakdowns: bool = True,
        max_bins: int = 2**21,
    ) -> None:
        if len(pro_limits) == 0 or not all(0 < limit <= 1 for limit in pro_limits):
            raise UsageError(f"pro_limits is {pro_limits!r}; expected rates above 0 and up to 1.")
        if protocol not in ("full", "paper"):
            raise UsageError(f"protocol is {protocol!r}; expected 'full' or 'paper'.")
        if bootstrap < 0:
            raise UsageError(f"bootstrap is {bootstrap}; expected 0 or more replicates.")
        if seed < 0:
            raise UsageError(f"seed is {seed}; expected 0 or more.")
        if max_bins < MIN_BINS:
            raise UsageError(f"max_bins is {max_bins}; expected {MIN_BINS} or more.")
        self.pro_limits = tuple(float(limit) for limit in pro_limits)
        self.bootstrap = int(bootstrap)
        self.seed = int(seed)
        self.protocol = protocol
        self.breakdowns = breakdowns
        self.max_bins = int(max_bins)
        self._categories: dict[str, CategoryTally] = {}

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
            maps: Anomaly maps, ``(N, H, W)`` or N arrays ``(H, W)`` of any size; float16, float32,
                float64 or (torch) bfloat16, any finite range, higher is more anomalous. Torch
                tensors on a GPU are counted there; no map is copied to the host.
            masks: Ground truth of the same shapes, non-zero is defect. ``None``, for the batch or
                one image, where no mask is known: such an image counts at image level alone.
            scores: ``(N,)`` image scores, any finite range. They are not derived from the maps.
            labels: ``(N,)`` 0 for good, 1 for defective: the image's, whatever its mask.
            groups: ``{"category": …, "defect_type": …}``, either or both: one name per image.
                The defect type of good images is not used.

        Raises:
            EvaluationError: If lengths or shapes differ, a value is NaN or infinite, a label is
                neither 0 nor 1, a good image has defective pixels, or a map is not of the size of
                the protocol.
            UsageError: If a group is neither ``category`` nor ``defect_type``.
        """
        label_list = _read_numbers("labels", labels)
        n = len(label_list)
        map_list = [_check_map(value, i) for i, value in enumerate(maps)]
        mask_list = [None] * n if masks is None else list(masks)
        score_list = _read_numbers("scores", scores)
        for name, values in (("maps", map_list), ("masks", mask_list), ("scores", score_list)):
            if len(values) != n:
                raise EvaluationError(f"There are {len(values)} {name} for {n} labels.")
        categories, types = _read_groups(groups, n)
        size = PAPER_SIZE if self.protocol == "paper" else None
        checked = [
            _check_image(i, map_list[i], mask_list[i], score_list[i], label_list[i], size)
            for i in range(n)
        ]
        for i in range(n):
            if not self._is_counted(categories[i]):
                continue
            self._add(
                categories[i], types[i], map_list[i], checked[i], score_list[i], int(label_list[i])
            )

    def _add(
        self,
        category: str,
        defect_type: str | None,
        anomaly_map: AnomalyMap,
        mask: NDArray[np.bool_] | None,
        score: float,
        label: int,
    ) -> None:
        if label == 0 and defect_type is not None:
            defect_type = GOOD
        self._tally(category).add(anomaly_map, mask, score, label, defect_type)

    def _tally(self, category: str, *, detailed: bool = True) -> CategoryTally:
        if category not in self._categories:
            paper = self.protocol == "paper"
            self._categories[category] = CategoryTally(
                self.max_bins,
                keep_rows=self.bootstrap > 0,
                paper=paper,
                detailed=detailed and self.breakdowns and not paper,
            )
        return self._categories[category]

    def merge(self, other: Evaluator) -> None:
        """Add what ``other`` collected, from another batch, process or machine.

        Raises:
            UsageError: If the two were made with different settings, or are not in the same
                refinement.
        """
        for name, value in self.settings().items():
            if value != (theirs := other.settings()[name]):
                raise UsageError(f"These evaluators differ in {name}: {value} and {theirs}.")
        if other._categories and self.refining != other.refining:
            raise UsageError("Only one of these evaluators is in a refinement. See empty().")
        for name, tally in other._categories.items():
            if self._is_counted(name):
                self._tally(name).merge(tally)

    def empty(self) -> Evaluator:
        """Return an evaluator of the same settings that has collected nothing.

        It can be fed elsewhere and merged into this one. During a refinement it counts inside the
        same bins.
        """
        twin = Evaluator(**self.settings())
        if self.refining:
            twin._categories = {name: tally.empty() for name, tally in self._categories.items()}
        return twin

    @property
    def refining(self) -> bool:
        """Whether a refinement is waiting for the images."""
        return any(tally.pending for tally in self._categories.values())

    def _is_counted(self, category: str) -> bool:
        """Return whether images of a category count now: some need no second look."""
        waiting = [name for name, tally in self._categories.items() if tally.pending]
        return not waiting or category in waiting

    def start_refinement(self) -> bool:
        """Choose the bins that keep figures wider than their tolerance; return if there are any.

        Then the same images must be given to ``update`` once more, in any batches and order,
        and ``finish_refinement`` called; until all figures are within tolerance. Images that
        are added later undo it:

            while evaluator.start_refinement():
                for batch in batches():
                    evaluator.update(*batch)
                evaluator.finish_refinement()
        """
        started = [tally.start_refinement(self.pro_limits) for tally in self._categories.values()]
        return any(started)

    def finish_refinement(self) -> None:
        """End a refinement.

        Raises:
            EvaluationError: If other maps were given than the first time.
        """
        for tally in self._categories.values():
            tally.finish_refinement()

    def all_reduce(self) -> None:
        """Merge the evaluators of all ``torch.distributed`` processes, in every one of them.

        Does nothing where no process group is initialized. Every process must call it, and after it
        holds the images of all: call it once, before ``compute``.
        """
        from torch import distributed

        if not distributed.is_available() or not distributed.is_initialized():
            return
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, self)
        if self.refining:
            for tally in self._categories.values():
                tally.pending = tally.empty().pending
        else:
            self._categories = {}
        for other in gathered:
            self.merge(other)

    def settings(self) -> dict[str, Any]:
        """Return what decides the figures beside the data."""
        return {
            "pro_limits": list(self.pro_limits),
            "bootstrap": self.bootstrap,
            "seed": self.seed,
            "protocol": self.protocol,
            "breakdowns": self.breakdowns,
            "max_bins": self.max_bins,
        }

    def compute(self) -> Result:
        """Return all figures of the images added so far.

        Raises:
            EvaluationError: If no image was added.
            UsageError: If a refinement was started and not finished.
        """
        if not self._categories:
            raise EvaluationError("No image was added, so there is nothing to compute.")
        if self.refining:
            raise UsageError("A refinement is not finished: call finish_refinement() first.")
        parts = self.score_categories()
        pooled = parts[0]
        if len(parts) > 1:
            together = Evaluator(**self.settings())
            together.pool(self)
            pooled = together.score_categories()[0]
        return assemble(parts, pooled, protocol=self.protocol, settings=self.settings())

    def score_categories(self) -> list[CategoryScores]:
        """Return the scores of every category, for ``threecad.metrics.scoring.assemble``."""
        score = partial(
            CategoryScores.of,
            pro_limits=self.pro_limits,
            bootstrap=self.bootstrap,
            seed=self.seed,
        )
        return [score(name, tally) for name, tally in sorted(self._categories.items())]

    def pool(self, other: Evaluator) -> None:
        """Add what ``other`` collected as if it were all of one category, without breakdowns."""
        for tally in other._categories.values():
            self._tally(POOLED, detailed=False).merge_images(tally)


def _read_numbers(name: str, values: Any) -> list[float]:
    """Return a batch of numbers, ``(N,)`` or N scalars, NumPy, torch or plain."""
    if hasattr(values, "detach"):  # one transfer from a GPU, not N
        values = as_array(values)
    try:
        return [float(as_array(value).item()) for value in values]
    except (TypeError, ValueError):
        raise EvaluationError(f"The {name} are {values!r}; expected a number per image.") from None


def _check_map(value: Any, i: int) -> AnomalyMap:
    """Return one map of a batch, where it is."""
    kind = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
    if kind not in FLOATS or (kind == "bfloat16" and not hasattr(value, "detach")):
        raise EvaluationError(
            f"The anomaly map of image {i} is {kind}; expected float16, 32 or 64."
        )
    shape = tuple(np.shape(value))
    if len(shape) != 2 or 0 in shape:
        raise EvaluationError(f"The anomaly map of image {i} has shape {shape}; expected (H, W).")
    if hasattr(value, "detach") and value.device.type not in HOST_DEVICES:
        from threecad.metrics.device_maps import DeviceMap

        return DeviceMap(value)
    scores = as_array(value)
    return ArrayMap(scores.astype(np.float32) if scores.dtype == np.float16 else scores)


def _check_image(
    i: int,
    anomaly_map: AnomalyMap,
    mask: Any,
    score: float,
    label: float,
    size: tuple[int, int] | None,
) -> NDArray[np.bool_] | None:
    """Check one image of a batch, and return its mask as booleans.

    With a mask, the map must be of its size, and of ``size`` where one is given.
    """
    if label not in (0, 1):
        raise EvaluationError(f"The label of image {i} is {label:g}; expected 0 or 1.")
    if not anomaly_map.is_finite():
        raise EvaluationError(
            f"The anomaly map of image {i} holds NaN or infinite values; expected finite ones."
        )
    if not np.isfinite(score):
        raise EvaluationError(f"The score of image {i} is {score}; expected a finite number.")
    if mask is None:
        return None
    defect = as_array(mask)
    if defect.shape != anomaly_map.shape:
        raise EvaluationError(
            f"The mask of image {i} has shape {defect.shape} but its anomaly map "
            f"{anomaly_map.shape}. Resize the map to the mask first."
        )
    if size is not None and anomaly_map.shape != size:
        raise EvaluationError(
            f"The anomaly map of image {i} has shape {anomaly_map.shape}; the paper's protocol "
            f"takes {size}. Resize map and mask first, as threecad.evaluate does."
        )
    if defect.dtype != np.bool_:
        defect = defect != 0
    if label == 0 and defect.any():
        raise EvaluationError(
            f"Image {i} is labelled good but its mask has {int(defect.sum())} defective pixels."
        )
    return defect


def _read_groups(groups: Mapping[str, Any] | None, n: int) -> tuple[list[str], list[str | None]]:
    groups = groups or {}
    if unknown := sorted(set(groups) - {"category", "defect_type"}):
        raise UsageError(f"Unknown group {unknown[0]!r}; expected category or defect_type.")
    names: dict[str, list[str | None]] = {}
    for group in ("category", "defect_type"):
        values = as_array(groups.get(group, [None] * n)).reshape(-1).tolist()
        if len(values) != n:
            raise EvaluationError(f"There are {len(values)} names of {group!r} for {n} labels.")
        names[group] = [None if value is None else str(value) for value in values]
    return [name or ONLY_CATEGORY for name in names["category"]], names["defect_type"]
