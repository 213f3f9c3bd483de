"""Predictions that cannot be evaluated, all of them named at once."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from threecad.errors import EvaluationError
from threecad.evaluation.counting.maps import as_array, as_number
from threecad.evaluation.plausibility import MapFacts, find_transposed
from threecad.evaluation.predictions import FLOATS, PredictionFolder
from threecad.system import parallel

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from threecad.dataset.samples import Index, Sample

__all__ = ["examine_map", "list_problems", "screen_predictions"]

LISTED = 10
"""Problems of one kind that a message lists."""


def screen_predictions(
    index: Index,
    samples: Sequence[Sample],
    predictions: Any,
    scores: Mapping[str, float] | None,
    *,
    workers: int | None = 0,
    progress: bool = False,
) -> None:
    """Refuse predictions that are missing or left over, and scores that are no numbers.

    Maps are read only where something is to be said already: what is wrong with them is said, too.
    Otherwise whoever counts them examines them (``examine_map``), so that each is read once. A
    function is not called.

    Args:
        index: All samples that predictions may be for.
        samples: Those to be evaluated: each needs a prediction.
        predictions: A predictions folder, or sample id → anomaly map as a mapping or a function.
        scores: Sample id → image score, if scores come from a table.
        workers: Worker processes, see ``threecad.system.parallel.map``.
        progress: Show a progress bar on stderr.

    Raises:
        EvaluationError: If there are such predictions: it names them, by kind.
    """
    known = {sample.id for sample in index}
    complaints = []
    maps = predictions.maps if isinstance(predictions, PredictionFolder) else predictions
    for kind, table in (("map", maps), ("score", scores)):
        if not isinstance(table, Mapping):
            continue
        if missing := [sample.id for sample in samples if sample.id not in table]:
            complaints.append(list_problems(f"without a {kind}", missing))
        if extra := _find_strangers(index, set(table) - known):
            complaints.append(list_problems(f"whose {kind} belongs to no sample", extra))
    unusable = _unusable_scores(samples, {} if scores is None else scores)
    if not complaints and not unusable:
        return
    if isinstance(maps, Mapping):
        in_folder = maps is not predictions
        unusable += _find_unusable(
            [sample for sample in samples if sample.id in maps],
            predictions,
            workers=workers if in_folder else 0,  # maps in memory are not sent to processes
            progress=progress,
        )
    if unusable:
        complaints.append(list_problems("not usable", unusable))
    raise EvaluationError("\n".join(complaints))


def examine_map(anomaly_map: Any) -> tuple[NDArray[np.floating[Any]], MapFacts]:
    """Return the values of an anomaly map, NumPy or torch, and what the later checks ask of it.

    Returns:
        The map, ``(H, W)`` float16, 32 or 64, and its facts.

    Raises:
        EvaluationError: If it is something else, or not finite.
    """
    values = as_array(anomaly_map)
    if values.ndim != 2 or values.size == 0:
        raise EvaluationError(f"The map has shape {values.shape}; expected (H, W).")
    if values.dtype not in FLOATS:
        raise EvaluationError(f"The map is {values.dtype}; expected float16, 32 or 64.")
    facts = MapFacts.of(values)
    if not math.isfinite(facts.low) or not math.isfinite(facts.high):  # NumPy hands on NaN
        raise EvaluationError("The map holds NaN or infinite values.")
    return values, facts


def list_problems(kind: str, lines: Sequence[str]) -> str:
    """Return the first few lines below their number."""
    count = "1 prediction" if len(lines) == 1 else f"{len(lines):,} predictions"
    listed = "".join(f"\n  {line}" for line in lines[:LISTED])
    more = f"\n  … and {len(lines) - LISTED:,} more" if len(lines) > LISTED else ""
    return f"{count} {kind}:{listed}{more}"


def _find_strangers(index: Index, sample_ids: Collection[str]) -> list[str]:
    """Return which of the predictions are for no image of the tree.

    The others are of another category, or left out by errata or a split file: the same predictions
    serve with and without them.
    """
    folders = {sample_id.rpartition("/")[0] for sample_id in sample_ids}
    there = {
        f"{folder}/{unicodedata.normalize('NFC', path.stem)}"
        for folder in folders
        if folder.partition("/")[0] in index.categories and _is_folder(index.root / folder)
        for path in (index.root / folder).glob("*.*")
    }
    return sorted(
        sample_id
        for sample_id in sample_ids
        if sample_id not in there and not _is_of_another_category(index, sample_id)
    )


def _is_of_another_category(index: Index, sample_id: str) -> bool:
    category, _, rest = sample_id.partition("/")
    named = bool(rest) and category not in index.categories and category.strip(".") != ""
    return named and _is_folder(index.root / category)


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112  (Path.is_dir raises where a name is too long)


def _unusable_scores(samples: Sequence[Sample], scores: Mapping[str, float]) -> list[str]:
    return [
        f"{sample.id}: The score is {_show(scores[sample.id])}; expected a finite number."
        for sample in samples
        if sample.id in scores and not _is_finite(scores[sample.id])
    ]


def _is_finite(score: Any) -> bool:
    try:
        return math.isfinite(as_number(score))
    except TypeError:
        return False


def _show(score: Any) -> str:
    return str(score) if isinstance(score, float) else repr(score)[:100]


def _find_unusable(
    samples: Sequence[Sample], predictions: Any, *, workers: int | None, progress: bool
) -> list[str]:
    """Return a line for each sample whose map cannot be used."""
    outcomes = parallel.map(
        partial(_examine, predictions=predictions),
        [sample.id for sample in samples],
        workers=workers,
        batch_size=64,
        description="check" if progress else None,
    )
    facts: dict[str, MapFacts] = {}
    unusable: list[str] = []
    for sample, outcome in zip(samples, outcomes, strict=True):
        if isinstance(outcome, MapFacts):
            facts[sample.id] = outcome
        else:
            unusable.append(f"{sample.id}: {outcome}")
    return unusable + find_transposed(samples, facts)


def _examine(sample_id: str, predictions: Any) -> MapFacts | str:
    """Return the facts of a sample's map, or what is wrong with it."""
    try:
        return examine_map(predictions[sample_id])[1]
    except EvaluationError as error:
        return str(error)
