"""Predictions that cannot be evaluated, all of them found before anything is computed."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.errors import EvaluationError
from threecad.evaluation.counting import kernels
from threecad.evaluation.counting.maps import as_array, as_number
from threecad.evaluation.plausibility import MapFacts, find_transposed
from threecad.evaluation.predictions import FLOATS, PredictionFolder
from threecad.system import parallel

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from threecad.dataset.samples import Index, Sample

__all__ = ["list_problems", "map_values", "screen_predictions"]

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
) -> dict[str, MapFacts]:
    """Refuse predictions that are missing, left over, misshapen, transposed or not finite.

    Every map of a folder or mapping is read once. A function is not called: to ask a model for all
    maps twice would cost more than it saves.

    Args:
        index: All samples that predictions may be for.
        samples: Those to be evaluated: each needs a prediction.
        predictions: A predictions folder, or sample id → anomaly map as a mapping or a function.
        scores: Sample id → image score, if scores come from a table.
        workers: Worker processes, see ``threecad.system.parallel.map``.
        progress: Show a progress bar on stderr.

    Returns:
        Sample id → what ``threecad.evaluation.plausibility`` asks of its map; empty for a function.

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
    facts: dict[str, MapFacts] = {}
    if isinstance(maps, Mapping):
        in_folder = maps is not predictions
        there = [sample.id for sample in samples if sample.id in maps]
        found = parallel.map(
            partial(_examine, predictions=predictions),
            there,
            workers=workers if in_folder else 0,  # maps in memory are not sent to processes
            batch_size=64,
            description="check" if progress else None,
        )
        for sample_id, outcome in zip(there, found, strict=True):
            if isinstance(outcome, MapFacts):
                facts[sample_id] = outcome
            else:
                unusable.append(outcome)
        unusable += find_transposed(samples, facts)
    if unusable:
        complaints.append(list_problems("not usable", unusable))
    if complaints:
        raise EvaluationError("\n".join(complaints))
    return facts


def map_values(anomaly_map: Any) -> NDArray[np.floating[Any]]:
    """Return an anomaly map, NumPy or torch, as an array ``(H, W)`` of floats.

    Raises:
        EvaluationError: If it is something else.
    """
    values = as_array(anomaly_map)
    if values.ndim != 2 or values.size == 0:
        raise EvaluationError(f"The map has shape {values.shape}; expected (H, W).")
    if values.dtype not in FLOATS:
        raise EvaluationError(f"The map is {values.dtype}; expected float16, 32 or 64.")
    return values


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


def _examine(sample_id: str, predictions: Any) -> MapFacts | str:
    """Return the facts of a sample's map, or what is wrong with it."""
    try:
        values = map_values(predictions[sample_id])
    except EvaluationError as error:
        return f"{sample_id}: {error}"
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if not kernels.scan(np.ascontiguousarray(values).reshape(-1))[1]:
        return f"{sample_id}: The map holds NaN or infinite values."
    return MapFacts.of(values)
