"""From a dataset and a model's predictions to a ``Result``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from tqdm import tqdm

from threecad.errors import EvaluationError, UsageError
from threecad.evaluation.definitions import AUPIMO
from threecad.evaluation.evaluables import Evaluable, Ignored, read_evaluable, top_fraction
from threecad.evaluation.evaluator import Evaluator
from threecad.evaluation.operation.images import add_aupimo
from threecad.evaluation.operation.overlap import describe
from threecad.evaluation.plausibility import find_doubts, find_transposed
from threecad.evaluation.predictions import PredictionFolder
from threecad.evaluation.scoring import assemble
from threecad.evaluation.screening import list_problems, screen_predictions
from threecad.images.areas import Areas
from threecad.system import parallel

if TYPE_CHECKING:
    from threecad.dataset.samples import Index, Sample
    from threecad.evaluation.evaluator import Protocol
    from threecad.evaluation.operation.point import OperatingPoint
    from threecad.evaluation.plausibility import MapFacts
    from threecad.evaluation.results import Result
    from threecad.evaluation.scoring import CategoryScores
    from threecad.images.masks import MaskRule

__all__ = ["evaluate"]

Predictions = Union[
    "str | os.PathLike[str]", Mapping[str, Any], Callable[[str], Any], PredictionFolder
]


def evaluate(
    index: Index,
    predictions: Predictions,
    *,
    protocol: Protocol = "full",
    split: str | None = "test",
    scores: Mapping[str, float] | None = None,
    image_score: str = "auto",
    mask_rule: MaskRule | None = None,
    ignore: str | os.PathLike[str] | Areas | None = None,
    bootstrap: int = 0,
    seed: int = 0,
    operation: OperatingPoint | None = None,
    aupimo: bool = False,
    workers: int | None = 0,
    passes: int = 6,
    progress: bool = False,
) -> Result:
    """Score a model's predictions on a dataset.

    Args:
        index: The samples, from ``threecad.scan``.
        predictions: A predictions folder, or sample id → anomaly map ``(H, W)`` as a mapping or a
            function. Maps may be asked for more than once.
        protocol: ``full``: maps are resized to the mask's size; ``paper``: as the authors of 3CAD
            evaluate, see ``docs/evaluation.md``.
        split: Evaluate the samples of this split; ``None`` for all of ``index``.
        scores: Sample id → image score, instead of the folder's table.
        image_score: ``table`` (the scores given), ``max`` of the map, ``top:F`` (mean of the
            highest fraction F of the map's pixels), or ``auto``: ``table`` where there is one,
            else ``max``.
        mask_rule: Decode all masks by this rule (see ``threecad.decode_mask``).
        ignore: Areas that take no part in any figure (see ``threecad.images.areas``): a file for
            all images, or a folder. Image scores that are read from maps are read from the rest of
            them. A region of which nothing is left is none, and a defective image without another
            is left out; ``result.settings["ignore"]`` counts both.
        bootstrap: Number of bootstrap replicates over images for confidence intervals.
        seed: Seed of the bootstrap.
        operation: Rates and threshold of the figures of decisions.
        aupimo: Compute AUPIMO, too; every map is read once more.
        workers: Worker processes; 0 runs in this process, ``None`` is one per core.
        passes: How often the maps may be read to bring every figure within its tolerance; most
            maps need one pass.
        progress: Show a progress bar on stderr.

    Raises:
        EvaluationError: If predictions are missing, left over, misshapen, transposed or not finite:
            all of them are listed, and nothing is reported. What can be scored and is doubtful is
            in the result's ``warnings``.
        DataError: If an area cannot be used, or belongs to no image.
        ImageError: If an image of the dataset cannot be read.
        MaskError: If a mask cannot be read, is not of the size of its image, or does not suit
            ``mask_rule``.
        UsageError: If an argument is out of range.
    """
    if protocol not in ("full", "paper"):
        raise UsageError(f"protocol is {protocol!r}; expected 'full' or 'paper'.")
    samples = [sample for sample in index if split is None or sample.split == split]
    if not samples:
        raise EvaluationError(f"{index.root} has no images of split {split!r} to evaluate.")
    in_folder = isinstance(predictions, (str, os.PathLike))
    source = PredictionFolder(predictions) if in_folder else predictions  # type: ignore[arg-type]
    if not (isinstance(source, (PredictionFolder, Mapping)) or callable(source)):
        raise UsageError(
            f"predictions is {type(source).__name__}; expected a folder, or a mapping or function "
            "from sample id to anomaly map."
        )
    if scores is not None and not isinstance(scores, Mapping):
        raise UsageError(
            f"scores is {type(scores).__name__}; expected a mapping from sample id to image score."
        )
    if scores is None and isinstance(source, PredictionFolder):
        scores = source.scores
    areas = Areas(ignore) if isinstance(ignore, (str, os.PathLike)) else ignore
    if areas is not None and protocol == "paper":
        raise UsageError("All pixels count in the paper's protocol. Leave `ignore` out.")
    if areas is not None:
        areas.check(sample.id for sample in samples)
    rule = _choose_rule(image_score, scores)
    table = scores if rule == "table" else None
    screen_predictions(index, samples, source, table, workers=workers, progress=progress)
    facts: dict[str, MapFacts] = {}
    read = partial(
        read_evaluable,
        source=source,
        scores=scores,
        rule=rule,
        mask_rule=mask_rule,
        protocol=protocol,
        areas=areas,
    )
    ignored = Ignored()
    count = partial(_count_category, read=read, workers=workers)
    pooled = Evaluator(bootstrap=bootstrap, seed=seed, protocol=protocol, operation=operation)
    finished: list[CategoryScores] = []
    problems: list[str] = []
    unresolved: list[str] = []
    images: dict[str, dict[str, float]] = {}
    quantiles: dict[str, dict[str, float]] = {}
    groups = [list(group) for _, group in groupby(samples, key=lambda sample: sample.category)]
    with tqdm(total=len(samples), desc="evaluate", unit="image", disable=not progress) as bar:
        for group in groups:
            evaluator = pooled.empty()
            found, seen = count(evaluator, group)
            facts |= {sample_id: image.facts for sample_id, image in seen.items()}
            ignored += sum((image.ignored for image in seen.values()), Ignored())
            seen = {name: image for name, image in seen.items() if not image.ignored.images}
            images |= {
                sample_id: {"score": image.score, "label": image.label}
                for sample_id, image in seen.items()
            }
            problems += found + find_transposed(group, facts)
            bar.update(len(group))
            if problems:
                continue  # only to name them all
            for _ in range(passes - 1):
                if not evaluator.start_refinement():
                    break
                count(evaluator, group)
                evaluator.finish_refinement()
            scored = evaluator.score_categories()[0]
            if aupimo:
                left = [sample for sample in group if sample.id in seen]
                overlaps = add_aupimo(scored, left, read, bootstrap=bootstrap, seed=seed)
                scored = overlaps.scores
                unresolved += overlaps.warnings
                if overlaps.by_image:
                    quantiles[scored.name] = describe(list(overlaps.by_image.values()))
                for sample_id, value in overlaps.by_image.items():
                    images[sample_id][AUPIMO] = value
            finished.append(scored)
            if len(groups) > 1:
                pooled.pool(evaluator)
    if problems:
        raise EvaluationError(list_problems("not usable", problems))
    everything = pooled.score_categories() if len(groups) > 1 else finished
    result = assemble(
        finished,
        everything[0],
        protocol=protocol,
        settings={
            **pooled.settings(),
            "image_score": rule,
            "mask_rule": mask_rule,
            "split": split,
            **({} if areas is None else {"ignore": {"digest": areas.digest, **ignored._asdict()}}),
        },
        provenance={
            "fingerprint": index.with_samples(samples).fingerprint,
            "errata": index.errata_digest,
        },
        warnings=[*find_doubts(samples, facts, table), *unresolved],
    )
    return replace(result, images=images, quantiles=quantiles)


class Seen(NamedTuple):
    """What is kept of a sample that was counted, or left out."""

    facts: MapFacts
    score: float
    label: int
    ignored: Ignored


Read = Callable[["Sample"], Evaluable]


def _choose_rule(rule: str, scores: Mapping[str, float] | None) -> str:
    if rule == "auto":
        return "max" if scores is None else "table"
    if rule == "table" and scores is None:
        raise UsageError("The image scores shall come from a table, but there is none.")
    if rule not in ("table", "max"):
        top_fraction(rule)
    return rule


def _count_category(
    evaluator: Evaluator, samples: list[Sample], read: Read, workers: int | None
) -> tuple[list[str], dict[str, Seen]]:
    """Count the samples of a category; return a line for each that cannot be used, and the rest."""
    chunk = -(-len(samples) // parallel.worker_count(workers))
    chunks = [samples[i : i + chunk] for i in range(0, len(samples), chunk)]
    problems: list[str] = []
    usable: dict[str, Seen] = {}
    count = partial(_count_samples, empty=evaluator.empty(), read=read)
    for part, found, seen in parallel.map(count, chunks, workers=workers, batch_size=1):
        problems += found
        usable |= seen
        evaluator.merge(part)
    return problems, usable


def _count_samples(
    samples: list[Sample], empty: Evaluator, read: Read
) -> tuple[Evaluator, list[str], dict[str, Seen]]:
    evaluator = empty.empty()
    problems: list[str] = []
    usable: dict[str, Seen] = {}
    for sample in samples:
        try:
            prediction = read(sample)
            if not prediction.ignored.images:
                evaluator.update(
                    [prediction.scores],
                    [prediction.mask],
                    [prediction.score],
                    [prediction.label],
                    {"category": [sample.category], "defect_type": [sample.defect_type]},
                    ignore=[prediction.hidden],
                )
            usable[sample.id] = Seen(
                prediction.facts,
                float(prediction.score),
                int(prediction.label),
                prediction.ignored,
            )
        except EvaluationError as error:
            problems.append(f"{sample.id}: {error}")
    return evaluator, problems, usable
