"""From good images that were not trained on to thresholds, and to what these will miss."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from cfrg.calibration.labelled import LabelledDefects, count_labelled
from cfrg.calibration.policies import check_numbers, check_rates, find_interval, find_policy
from cfrg.calibration.report import Calibration, _say_images, draw_scores
from cfrg.calibration.tolerance import (
    CONFIDENCE,
    average_rank,
    needed,
    tolerance_rank,
)
from cfrg.defects.pairs import PairKey, random_stream
from cfrg.images.cache import join_errors
from cfrg.images.sources import find_images, is_tree
from cfrg.inference.predictor import Predictor, Prepared
from cfrg.inference.thresholds import Threshold, digest_weights
from cfrg.network.interest import decode_region, encode_region, stretch_region
from cfrg.network.processing import to_tensor
from cfrg.run_folder import RunFolder, writes_run
from cfrg.training.hard_negatives import FOLDER, read_hard_negatives
from cfrg.training.options import TrainingOptions
from cfrg.training.recipes import make_defects
from cfrg.training.runs import read_run, read_trained_on
from threecad.dataset.duplicates.copies import find_originals
from threecad.dataset.scanning import Selection
from threecad.errors import DataError, UsageError
from threecad.images.areas import read_area
from threecad.images.hashing import hash_file
from threecad.pages.figures import save_figure
from threecad.system import atomic
from threecad.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from cfrg.images.appearance import Appearance
    from cfrg.inference.policy import DecisionPolicy
    from threecad.dataset.samples import Index

    Values = npt.NDArray[np.float64]

__all__ = ["calibrate"]

LEAST_DEFECTS = 200
"""Synthetic defects drawn at least; more where there are more images."""

CALIBRATION_STREAM = 100
"""First number of the key of the random draws here; training has others."""


WARNINGS = {
    "test-good": "The good test images have been used up: false alarms counted on them from now on "
    "are too few.",
    "train-good": "The model was trained on these images. Unseen good images score higher: expect "
    "more false alarms than asked for.",
}


@writes_run
def calibrate(
    run: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    false_alarm_rate: float = 0.01,
    review_rate: float | None = None,
    least_area: int = 0,
    roi: str | os.PathLike[str] | None = None,
    per_category: bool = False,
    defects: bool = False,
    on: str = "held-out",
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    hard_negatives: str | os.PathLike[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> Calibration:
    """Find a run's thresholds; write ``RUN/calibration.json`` and ``RUN/figures/calibration.png``.

    Copies of a photograph (see ``threecad.dataset.duplicates.copies``) count once.

    Args:
        run: The run folder.
        root: The tree; the default root when ``None``. Not looked at where ``on`` is a path.
        false_alarm_rate: Largest share of good images that may be called defective.
        review_rate: Largest share of good images that may be sent to review, beside those called
            defective; no image is reviewed when ``None``.
        least_area: Regions of fewer pixels of the full image do not count: an image without a
            larger one is good.
        roi: The region of interest, a file as ``threecad.images.areas.read_area`` takes it; it
            becomes the run's own, and nothing outside it is looked at from then on. ``"none"``
            looks at all of the image again; ``None`` leaves the run's region as it is.
        per_category: Find the thresholds of each category on its own good images.
        defects: Count, too, what is said of the defective test images of the tree.
        on: Which good images: ``"held-out"``, those that training held out, or the split ``val``
            of a split file; ``"test-good"`` or ``"train-good"``, at the price of a warning; or a
            file, folder or pattern of other good images, of which those that the run was trained
            on are left out.
        split_file: Take the splits from this file.
        errata: Apply the corrections in this file.
        fold: Held-out fold, for a k-fold split file.
        hard_negatives: The folder that the run was trained with, where some of it was held out.
        seed: Seed of the synthetic defects.
        **options: Given to ``Predictor``: device, batch size, tiles.

    Raises:
        UsageError: If all good images were trained on, too few of them, or of a category, are
            different for the rates, the rates exceed 1 together, or the run folder cannot be
            written.
        BusyError: If another process trains, calibrates or evaluates the run.
        DataError: If an image cannot be read, is no longer there, or has another shape than the
            one that the region was drawn on, or if that cannot be read.
    """
    # What is impossible is said before anything takes time.
    check_rates(false_alarm_rate, review_rate)
    selection = Selection(root, split_file=split_file, errata=errata, fold=fold)
    chosen = _choose_images(Path(run), on, selection, hard_negatives)
    originals = find_originals(chosen.files, progress=True)
    files = [(name, path) for name, path in chosen.files if originals[name] == name]
    copies = len(chosen.files) - len(files)
    rank = tolerance_rank(len(files), false_alarm_rate)
    if rank is None:
        raise UsageError(_say_too_few(len(files), copies, false_alarm_rate))
    groups: list[str | None] = [None] * len(files)
    if per_category:
        groups = [_category_of(name) for name, _ in files]
    check_numbers(groups, false_alarm_rate, review_rate)
    atomic.check_writable(run)
    predictor = Predictor.from_pretrained(run, calibrated=False, **options)
    model: Any = predictor.detector
    if roi is not None:
        region = "" if roi == "none" else encode_region(read_area(roi))
        model.config = replace(model.config, region=region)
    digest = digest_weights(model)
    scores, peaks, appearance = _measure(predictor, files)
    ordered = np.sort(scores), np.sort(peaks)
    policy = find_policy(
        groups,
        scores,
        peaks,
        false_alarm_rate=false_alarm_rate,
        review_rate=review_rate,
        least_area=least_area,
    )
    assert policy.defective is not None
    assert policy.pixel_threshold is not None
    enough = average_rank(len(files), false_alarm_rate)
    calibration = Calibration(
        threshold=Threshold(
            image_threshold=policy.defective,
            pixel_threshold=policy.pixel_threshold,
            false_alarm_rate=false_alarm_rate,
            interval=find_interval(groups, false_alarm_rate),
            images=len(files),
            copies=copies,
            source=chosen.source,
            data_fingerprint=chosen.fingerprint,
            weights_digest=digest,
            tile=predictor.tiling.tile,
            tile_overlap=predictor.tiling.overlap,
            region=model.config.region,
            version=__version__,
            policy=policy,
        ),
        average=None
        if enough is None
        else (float(ordered[0][enough - 1]), float(ordered[1][enough - 1])),
        scores=scores,
        peaks=peaks,
        appearance=appearance,
        defect_scores=_score_defects(predictor, files, seed),
        warning=chosen.warning,
        hard_negatives=sum(f"/{FOLDER}/" in name for name, _ in files),
        labelled=_count_defects(predictor, policy, selection, run) if defects else None,
    )
    folder = RunFolder(run)
    if roi is not None:
        atomic.write_json(folder.config, model.config.to_dict())
    atomic.write_json(folder.calibration, calibration.to_dict())
    save_figure(draw_scores(calibration), folder.figures, "calibration", formats=("png",))
    return calibration


class _Chosen(NamedTuple):
    """The good images, by (id, file), and what they are."""

    files: list[tuple[str, Path]]
    fingerprint: str
    source: str
    warning: str | None = None


def _choose_images(
    run: Path, on: str, selection: Selection, hard_negatives: str | os.PathLike[str] | None
) -> _Chosen:
    record = read_run(run)
    if on not in ("held-out", *WARNINGS):
        if is_tree(Path(on)):
            raise UsageError(
                f"{on} is a tree in the 3CAD layout, whose defective images would be taken for "
                "good. Give it as `root` with `on=test-good`, or name a folder of good images."
            )
        return _choose_others(run, on)
    index = selection.scan()
    if on == "held-out":
        if hard_negatives is not None:
            joined = read_hard_negatives(index, hard_negatives, record["category"])
            index = index.with_samples([*index, *joined.samples])
        chosen, source = _find_held_out(run, record, index)
    else:
        category = None if record["category"] == "all" else record["category"]
        chosen = index.select(category=category, split=on.removesuffix("-good"), label=0)
        source = on
    files = [(sample.id, sample.image) for sample in chosen]
    return _Chosen(files, chosen.fingerprint, source, WARNINGS.get(on))


def _choose_others(run: Path, on: str) -> _Chosen:
    """Return the images of a file, folder or pattern that the run was not trained on."""
    found = find_images([on])
    trained_on = read_trained_on(run)
    hashed = [(name, path, hash_file(path)) for name, path in found]
    unseen = [entry for entry in hashed if entry[2] not in trained_on]
    if not unseen:
        raise UsageError(
            f"{run} was trained on every image of {on}, and these score too low to find a "
            "threshold. Name other good images."
        )
    digest = hashlib.sha256()
    for name, _, sha256 in unseen:
        digest.update(f"{name}\t{sha256}\t\n".encode())
    warning = None
    if seen := len(found) - len(unseen):
        warning = f"{seen} of the {len(found)} images of {on} were trained on, and left out."
    files = [(name, path) for name, path, _ in unseen]
    return _Chosen(files, digest.hexdigest(), on, warning)


def _find_held_out(run: Path, record: dict[str, Any], index: Index) -> tuple[Index, str]:
    if ids := record.get("held_out"):
        if missing := [name for name in ids if name not in index]:
            if f"/{FOLDER}/" in missing[0]:
                raise DataError(
                    f"The training of {run} held out {len(missing)} hard negatives that are not "
                    f"here, first {missing[0]}. Name their folder: `hard_negatives=FOLDER`."
                )
            raise DataError(
                f"{index.root} lacks {len(missing)} of the {len(ids)} images that the training of "
                f"{run} held out, first {missing[0]}. Name the tree that it was trained on."
            )
        return index.with_samples(index[name] for name in ids), "held-out"
    category = None if record["category"] == "all" else record["category"]
    good = index.select(category=category, label=0)
    validation = [sample for sample in good if sample.split == "val"]
    if validation and record.get("split_file"):
        return index.with_samples(validation), "val"
    raise UsageError(
        f"The training of {run} held no good image out, and images that were trained on score too "
        "low to find a threshold. Train with `validation_fraction=0.2` or a split file with a "
        "split 'val', or name other good images: `on=FOLDER`; `on=test-good`, which uses these up; "
        "`on=train-good`, which gives more false alarms than asked for."
    )


def _count_defects(
    predictor: Predictor, policy: DecisionPolicy, selection: Selection, run: str | os.PathLike[str]
) -> LabelledDefects:
    record = read_run(Path(run))
    category = None if record["category"] == "all" else record["category"]
    predictor.policy = policy
    return count_labelled(
        predictor, list(selection.scan().select(category=category, split="test", label=1))
    )


def _category_of(name: str) -> str:
    """Return the category in a sample id.

    Raises:
        UsageError: If it is no sample id.
    """
    category, separator, _ = name.partition("/")
    if not separator:
        raise UsageError(
            f"The category of {name} is not known. Thresholds of each category need a tree."
        )
    return category


def _say_too_few(number: int, copies: int, rate: float) -> str:
    if not number:
        return "There is no good image to calibrate on."
    reachable = np.ceil((1 - (1 - CONFIDENCE) ** (1 / number)) * 1e4) / 1e4
    once = " (copies of a photograph count once)" if copies else ""
    return (
        f"{_say_images(number, copies)} are too few{once} for a false-alarm rate of {rate:.2%}: "
        f"{needed(rate)} are needed. These can show a rate of {reachable:.2%} "
        f"(`false_alarm_rate={reachable:.4f}`). Others can be named: `on=FOLDER`, `on=test-good`."
    )


def _measure(
    predictor: Predictor, files: Sequence[tuple[str, Path]]
) -> tuple[Values, Values, list[Appearance]]:
    """Return the score of each file, the highest value of its map, and what it looks like."""
    bad: list[str] = []
    values, appearance = [], []
    predictions = predictor.predict_files(files)
    for prediction in tqdm(predictions, total=len(files), desc="good images", unit="image"):
        if prediction.map is None or prediction.appearance is None:
            bad.append(f"{prediction.id}: {prediction.error}")
            continue
        values.append((prediction.score, float(prediction.map.max())))
        appearance.append(prediction.appearance)
    if bad:
        raise DataError(join_errors(bad))
    scores, peaks = np.array(values, np.float64).T
    return scores, peaks, appearance


class _Canvases:
    """The images as the network sees them, (h, w, 3) uint8 by position; read when asked for."""

    def __init__(self, predictor: Predictor, files: Sequence[tuple[str, Path]]) -> None:
        self.predictor, self.files = predictor, files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, position: int, /) -> npt.NDArray[np.uint8]:
        return self.predictor.prepare(self.predictor.tiling.read(self.files[position][1]))


def _score_defects(predictor: Predictor, files: Sequence[tuple[str, Path]], seed: int) -> Values:
    """Return the scores of synthetic defects, drawn on the images in turn."""
    images = _Canvases(predictor, files)
    total = max(len(files), LEAST_DEFECTS)
    # Always the recipe of `lite`, whatever the run was trained with: misses can then be compared.
    options = TrainingOptions.preset("lite", clean_share=0.0, seed=seed)
    make_defect = make_defects(options, images)
    region = predictor.detector.config.region

    def draw() -> Iterator[Prepared]:
        for i in range(total):
            image = images[i % len(images)]
            size = image.shape[0], image.shape[1]
            inside = stretch_region(region, size)
            for attempt in range(100):  # what nobody could see, or nobody looks at, is drawn again
                rng = random_stream(CALIBRATION_STREAM, seed, i, attempt)
                defective, mask = make_defect(image, rng, PairKey(0, i), None)
                if mask[inside].any():
                    break
            if region:  # of the shape that it was drawn on: canvases may be stretched
                size = decode_region(region).shape
            yield Prepared(str(i), to_tensor(defective), size, 0.0)

    predictions = predictor.predict_prepared(draw())
    progress = tqdm(predictions, total=total, desc="synthetic defects", unit="image")
    return np.array([prediction.score for prediction in progress])
