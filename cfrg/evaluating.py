"""A run against a tree: its predictions folder, and its figures beside a baseline's."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cfrg.hub import write_card
from cfrg.prediction import Prediction, Predictor, find_images
from cfrg.runs import fit_memory, read_run
from threecad.errors import UsageError
from threecad.evaluation import evaluate
from threecad.indexing import scan
from threecad.predictions import PredictionWriter

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from threecad.evaluation import Protocol
    from threecad.metrics.results import Result
    from threecad.predictions import MapFormat
    from threecad.samples import Index

__all__ = ["evaluate_run", "predict_to_folder", "write_predictions"]


def predict_to_folder(
    run: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    category: str | None = None,
    split: str = "test",
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    map_format: MapFormat = "npy",
    force: bool = False,
    **options: Any,
) -> list[Prediction]:
    """Write the predictions folder of a run for trees, folders and files.

    Args:
        run: The run folder.
        paths: Trees in the 3CAD layout, other folders, image files.
        out: The predictions folder.
        category: Of a tree, only this category; the run's own when ``None``.
        split: Of a tree, only this split.
        split_file: Of a tree, take the splits from this file.
        errata: Of a tree, apply the corrections in this file.
        fold: Of a tree, the held-out fold of a k-fold split file.
        map_format: Format of the maps.
        force: Replace a folder that is there.
        **options: Given to ``Predictor``.

    Returns:
        The images that could not be read; they are left out.

    Raises:
        UsageError: If ``out`` is not empty and ``force`` is not given.
    """
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        if not force:
            raise UsageError(f"{out} is not empty. Name another --out, or replace it with --force.")
        shutil.rmtree(out)
    predictor = Predictor.from_run(run, **options)
    files = find_images(
        paths,
        category=category or _own_category(run),
        split=split,
        split_file=split_file,
        errata=errata,
        fold=fold,
    )
    return write_predictions(predictor, files, out, map_format=map_format)


def write_predictions(
    predictor: Predictor,
    files: Sequence[tuple[str, Path]],
    out: str | os.PathLike[str],
    *,
    map_format: MapFormat = "npy",
) -> list[Prediction]:
    """Write maps and scores of (id, file) pairs to ``out``; return those that could not be read."""
    broken = []
    with PredictionWriter(out, map_format=map_format) as writer:
        predictions = predictor.predict_files(files)
        for prediction in tqdm(predictions, total=len(files), desc="predict", unit="image"):
            if prediction.map is None:
                broken.append(prediction)
            else:
                writer.add(prediction.id, prediction.map, prediction.score)
    return broken


def evaluate_run(
    run: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    *,
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    protocol: Protocol = "full",
    baseline: bool = False,
    bootstrap: int = 0,
    seed: int = 0,
    **options: Any,
) -> dict[str, Result]:
    """Score a run on the test images of its category.

    Args:
        run: The run folder.
        root: The tree; the default root when ``None``.
        split_file: Take the splits from this file.
        errata: Apply the corrections in this file.
        fold: Held-out fold, for a k-fold split file.
        protocol: ``"full"`` or ``"paper"``.
        baseline: Also fit and score a nearest-neighbour memory on the run's training images, with
            the run's teacher, input size and smoothing.
        bootstrap: Resamples for the confidence intervals.
        seed: Seed of the resamples and of the memory.
        **options: Given to ``Predictor``.

    Returns:
        ``{"model": …}``, and ``"memory"`` with ``baseline``. The first is also kept as
        ``RUN/result.json`` and shown by the run's model card, where the folder can be written.
    """
    record = read_run(run)
    category = _own_category(run)
    index = scan(root, split_file=split_file, errata=errata, fold=fold)
    index = index.select(category=category)
    predictors = {"model": Predictor.from_run(run, **options)}
    if baseline:
        model: Any = predictors["model"].detector
        memory = fit_memory(model, index, category=record["category"], seed=seed)
        predictors["memory"] = Predictor(memory, **options)
    results = {
        name: _evaluate(predictor, index, record, protocol, bootstrap, seed)
        for name, predictor in predictors.items()
    }
    with suppress(OSError):  # a read-only run can be evaluated all the same
        results["model"].to_json(Path(run) / "result.json")
        write_card(Path(run))
    return results


def _evaluate(
    predictor: Predictor,
    index: Index,
    record: dict[str, Any],
    protocol: Protocol,
    bootstrap: int,
    seed: int,
) -> Result:
    test = index.select(split="test")
    with tempfile.TemporaryDirectory(prefix="cfrg-") as folder:
        broken = write_predictions(predictor, [(s.id, s.image) for s in test], folder)
        if broken:
            raise UsageError(
                f"{len(broken)} test images cannot be read, first {broken[0].id}: {broken[0].error}"
            )
        result = evaluate(
            test, folder, protocol=protocol, bootstrap=bootstrap, seed=seed, progress=True
        )
    model = {key: record[key] for key in ("category", "seed", "data_fingerprint")}
    return replace(result, provenance={**result.provenance, "run": model})


def _own_category(run: str | os.PathLike[str]) -> str | None:
    category = read_run(run)["category"]
    return None if category == "all" else str(category)
