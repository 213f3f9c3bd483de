"""A run against a tree: its figures, beside a baseline's."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfrg.inference.folder import write_predictions
from cfrg.inference.predictor import Predictor
from cfrg.inference.thresholds import digest_weights
from cfrg.network.interest import decode_region
from cfrg.network.pretrained import write_card
from cfrg.run_folder import RunFolder, writes_run
from cfrg.training.remembering import fit_baseline
from cfrg.training.runs import good_images, read_run
from threecad.dataset.scanning import scan
from threecad.errors import UsageError
from threecad.evaluation.pipeline import evaluate
from threecad.images.encodings import mask_to_rle
from threecad.system import atomic

if TYPE_CHECKING:
    import os

    from threecad.dataset.samples import Index
    from threecad.evaluation.evaluator import Protocol
    from threecad.evaluation.results import Result
    from threecad.images.masks import MaskRule

__all__ = ["evaluate_run"]


@writes_run
def evaluate_run(
    run: str | os.PathLike[str],
    root: str | os.PathLike[str] | None,
    *,
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    mask_rule: MaskRule | None = None,
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
        mask_rule: Decode all masks by this rule (see ``threecad.decode_mask``).
        protocol: ``"full"`` or ``"paper"``.
        baseline: Also fit and score a nearest-neighbour memory on the run's training images, with
            the run's teacher, input size and smoothing.
        bootstrap: Resamples for the confidence intervals.
        seed: Seed of the resamples and of the memory.
        **options: Given to ``Predictor``: device, batch size, tiles.

    Returns:
        ``{"model": …}``, and ``"memory"`` with ``baseline``. The first is also kept as
        ``RUN/result.json`` and shown by the run's model card, where the folder can be written.
    """
    record = read_run(run)
    category = None if record["category"] == "all" else record["category"]
    index = scan(root, split_file=split_file, errata=errata, fold=fold)
    index = index.select(category=category)
    predictors = {"model": Predictor.from_pretrained(run, calibrated=False, **options)}
    model: Any = predictors["model"].detector
    if model.config.region and protocol == "paper":
        raise UsageError(
            f"{run} has a region of interest, and in the paper's protocol all pixels count. Take "
            "it away (`roi='none'` of calibrate), or evaluate with `protocol='full'`."
        )
    record = {**record, "weights_digest": digest_weights(model)}
    if baseline:
        memory = fit_baseline(model, good_images(index, record["category"]), seed=seed)
        predictors["memory"] = Predictor(memory, **options)
    results = {
        name: _evaluate(predictor, index, record, mask_rule, protocol, bootstrap, seed)
        for name, predictor in predictors.items()
    }
    with suppress(OSError):  # a read-only run can be evaluated all the same
        results["model"].to_json(RunFolder(run).result)
        write_card(Path(run))
    return results


def _evaluate(
    predictor: Predictor,
    index: Index,
    record: dict[str, Any],
    mask_rule: MaskRule | None,
    protocol: Protocol,
    bootstrap: int,
    seed: int,
) -> Result:
    test = index.select(split="test")
    with (
        tempfile.TemporaryDirectory(prefix="cfrg-") as folder,
        tempfile.TemporaryDirectory(prefix="cfrg-") as apart,
    ):
        broken = write_predictions(predictor, [(s.id, s.image) for s in test], folder).broken
        if broken:
            raise UsageError(
                f"{len(broken)} test images cannot be read, first {broken[0].id}: {broken[0].error}"
            )
        result = evaluate(
            test,
            folder,
            mask_rule=mask_rule,
            protocol=protocol,
            ignore=_write_outside(predictor.detector.config.region, Path(apart)),
            bootstrap=bootstrap,
            seed=seed,
            progress=True,
        )
    tiling = predictor.tiling
    bound = ("category", "seed", "data_fingerprint", "weights_digest")
    model = {key: record.get(key) for key in bound}
    model |= {"tile": tiling.tile, "tile_overlap": tiling.overlap}
    return replace(result, provenance={**result.provenance, "run": model})


def _write_outside(region: str, folder: Path) -> Path | None:
    """Write what lies outside a region of interest as an area; return its file."""
    if not region:
        return None
    outside = mask_to_rle(~decode_region(region))
    height, width = outside["size"]
    path = folder / "outside.json"
    drawing = {
        "images": [{"height": height, "width": width}],
        "annotations": [{"segmentation": outside}],
    }
    atomic.write_json(path, drawing)
    return path
