"""Streaming evaluation: feed anomaly maps, get every figure with a certified interval.

>>> evaluator = Evaluator()
>>> evaluator.update(maps, masks, scores, labels)  # as many batches as there are
>>> print(evaluator.compute())

Memory does not grow with the number of pixels. The state is integer and a function of what was
fed, not of how: batches, their order, processes and machines make no difference to any bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from threecad.dataset.samples import GOOD
from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.arguments import (
    ONLY_CATEGORY,
    check_image,
    check_map,
    leave_out,
    read_groups,
    read_list,
    read_numbers,
)
from threecad.evaluation.counting.page_table import PAGE_BITS
from threecad.evaluation.counting.paper_protocol import PAPER_SIZE
from threecad.evaluation.definitions import PRO_LIMITS
from threecad.evaluation.operation.point import OperatingPoint
from threecad.evaluation.scoring import CategoryScores, assemble
from threecad.evaluation.tallies import CategoryTally

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from threecad.evaluation.counting.maps import AnomalyMap
    from threecad.evaluation.results import Result

__all__ = ["ONLY_CATEGORY", "Evaluator"]

POOLED = "pooled"
"""Name of all categories taken together."""

Protocol = Literal["full", "paper"]

MIN_BINS = 1 << PAGE_BITS
"""The least budget: a page of bins."""


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
        operation: Where the figures of decisions are taken: an ``OperatingPoint``.

    Raises:
        UsageError: If an argument is out of range.
    """

    def __init__(
        self,
        *,
        pro_limits: Sequence[float] = PRO_LIMITS,
        bootstrap: int = 0,
        seed: int = 0,
        protocol: Protocol = "full",
        breakdowns: bool = True,
        max_bins: int = 2**21,
        operation: OperatingPoint | Mapping[str, Any] | None = None,
    ) -> None:
        if not _are_rates(pro_limits):
            raise UsageError(f"pro_limits is {pro_limits!r}; expected rates above 0 and up to 1.")
        if protocol not in ("full", "paper"):
            raise UsageError(f"protocol is {protocol!r}; expected 'full' or 'paper'.")
        for name, value in (("bootstrap", bootstrap), ("seed", seed), ("max_bins", max_bins)):
            if not isinstance(value, Real) or isinstance(value, bool) or value != int(value):
                raise UsageError(f"{name} is {value!r}; expected a whole number.")
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
        self.operation = OperatingPoint.read(operation)
        self._categories: dict[str, CategoryTally] = {}

    def update(
        self,
        maps: Any,
        masks: Any,
        scores: Any,
        labels: Any,
        groups: Mapping[str, Sequence[str]] | None = None,
        *,
        ignore: Any = None,
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
            ignore: Masks like ``masks``, non-zero where pixels take no part in any figure; ``None``
                for the batch or an image of which all count. What is left of a region is the
                region. Such a map is counted by the processor. Scores are taken as they are.

        Raises:
            EvaluationError: If lengths or shapes differ, a value is no number, NaN or infinite, a
                label is neither 0 nor 1, a good image has defective pixels, a map is not of the
                size of the protocol, or all of an image is ignored.
            UsageError: If a group is neither ``category`` nor ``defect_type``, or pixels are to be
                ignored under the paper's protocol, in which all count.
        """
        label_list = read_numbers("labels", labels, truth=True)
        n = len(label_list)
        map_list = [check_map(value, i) for i, value in enumerate(read_list("maps", maps))]
        mask_list = [None] * n if masks is None else read_list("masks", masks)
        score_list = read_numbers("scores", scores)
        ignore_list = [None] * n if ignore is None else read_list("masks to ignore", ignore)
        if self.protocol == "paper" and any(ignored is not None for ignored in ignore_list):
            raise UsageError("All pixels count in the paper's protocol. Leave `ignore` out.")
        for name, values in (
            ("maps", map_list),
            ("masks", mask_list),
            ("scores", score_list),
            ("masks to ignore", ignore_list),
        ):
            if len(values) != n:
                raise EvaluationError(f"There are {len(values)} {name} for {n} labels.")
        map_list = [leave_out(i, each, ignore_list[i]) for i, each in enumerate(map_list)]
        categories, types = read_groups(groups, n)
        size = PAPER_SIZE if self.protocol == "paper" else None
        checked = [
            check_image(i, map_list[i], mask_list[i], score_list[i], label_list[i], size)
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
                reach=self.operation.reach,
            )
        return self._categories[category]

    def merge(self, other: Evaluator) -> None:
        """Add what ``other`` collected, from another batch, process or machine.

        Raises:
            UsageError: If the two were made with different settings, or are not in the same
                refinement.
        """
        if not isinstance(other, Evaluator):
            raise UsageError(f"{type(other).__name__} cannot be merged; expected an Evaluator.")
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
            "operation": self.operation.to_dict(),
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
        """Return the scores of every category, for ``threecad.evaluation.scoring.assemble``."""
        score = partial(
            CategoryScores.of,
            pro_limits=self.pro_limits,
            bootstrap=self.bootstrap,
            seed=self.seed,
            point=self.operation,
        )
        return [score(name, tally) for name, tally in sorted(self._categories.items())]

    def pool(self, other: Evaluator) -> None:
        """Add what ``other`` collected as if it were all of one category, without breakdowns."""
        for tally in other._categories.values():
            self._tally(POOLED, detailed=False).merge_images(tally)


def _are_rates(limits: Any) -> bool:
    if isinstance(limits, (str, bytes)) or not isinstance(limits, Iterable):
        return False
    rates = list(limits)
    return bool(rates) and all(isinstance(rate, Real) and 0 < float(rate) <= 1 for rate in rates)
