"""Predictions as files, written while the next ones are computed.

    OUT/predictions.jsonl          a line per image: score, decision, regions, times; or its error
    OUT/maps/<id>.npy              the anomaly maps
    OUT/scores.csv                 ids and scores, once all are there
    OUT/masks/<id>.png             0 and 255 at the size of the image, where asked for
    OUT/overlays/<id>.jpg          the map over the image, where asked for
    OUT/annotations/               outlines of the regions for an annotation tool, where asked for

Maps and scores are what ``threecad evaluate`` reads.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from cfrg.images.frames import to_rgb
from cfrg.images.sources import find_images
from cfrg.inference.outlines import outline_regions
from cfrg.inference.overlays import draw_overlay
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.predictor import Predictor
from cfrg.inference.regions import flag_pixels, without_small
from cfrg.inference.streaming import WriteBehind
from threecad.errors import UsageError
from threecad.evaluation.predictions import MapFormat, PredictionWriter
from threecad.formats.suggestions import SuggestionWriter
from threecad.images.files import write_png
from threecad.system import atomic
from threecad.system.locking import is_leftover, writing_alone

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from types import TracebackType

    import numpy.typing as npt

    from cfrg.inference.prediction import Prediction
    from threecad.formats.suggestions import Tool

__all__ = [
    "FolderWriter",
    "MapFormat",
    "Written",
    "check_folder",
    "clear_folder",
    "predict_to_folder",
    "write_predictions",
]

WAITING = 8  # predictions that may wait for the writer

NAMES = (
    *("maps", "masks", "overlays", "annotations"),
    *("predictions.jsonl", "scores.csv", "scores.jsonl", "meta.json"),
)


@dataclass
class Written:
    """What has been written.

    Attributes:
        images: Number of images predicted.
        defective: Number of those called defective; ``None`` without a threshold.
        review: Number of those to be reviewed; ``None`` without a threshold.
        broken: The images that could not be read.
    """

    images: int = 0
    defective: int | None = None
    review: int | None = None
    broken: list[Prediction] = field(default_factory=list)


class FolderWriter:
    """Writes what a predictor says, one prediction after another, in a thread of its own.

    Maps and scores are ``PredictionWriter``'s; masks, overlays and ``predictions.jsonl`` are added.

    Args:
        folder: Where to write; made if missing.
        map_format: As ``PredictionWriter`` takes it.
        masks: Whether to write masks.
        overlays: Whether to write overlays; then ``add`` needs the images.
        annotations: The annotation tool to write outlines for; then ``add`` needs image files.
        policy: Has the pixel threshold and the least area of masks, overlays and outlines, those of
            the image's category where they differ.
        bits: Of 16 that the images have a channel, how many are used; 8 for any image.

    Raises:
        UsageError: If masks, overlays or outlines are asked for without a threshold.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        map_format: MapFormat = "npy",
        masks: bool = False,
        overlays: bool = False,
        annotations: Tool | None = None,
        policy: DecisionPolicy | None = None,
        bits: int = 8,
    ) -> None:
        self.policy = policy or DecisionPolicy()
        if (masks or overlays or annotations) and self.policy.pixel_threshold is None:
            raise UsageError(
                "Masks, overlays and annotations need a threshold for pixels. Run `cfrg "
                "calibrate`, or give `pixel_threshold`."
            )
        self.folder = Path(folder)
        self.masks, self.overlays = masks, overlays
        self.bits = bits
        self.written = Written()
        self._suggestions = None
        if annotations:
            self._suggestions = SuggestionWriter(self.folder / "annotations", annotations)
        self._predictions = PredictionWriter(folder, map_format=map_format)

    def add(
        self, prediction: Prediction, image: Path | npt.NDArray[np.uint8] | None = None
    ) -> None:
        """Have a prediction written.

        Args:
            prediction: What the predictor said.
            image: The image or its file; only looked at for overlays and outlines.

        Raises:
            UsageError: If the id of an earlier one leads out of the folder or was there before.
        """
        if prediction.map is None:
            self.written.broken.append(prediction)
        else:
            self.written.images += 1
            if (decision := prediction.decision) is not None:
                self.written.defective = (self.written.defective or 0) + (decision == "defective")
                self.written.review = (self.written.review or 0) + (decision == "review")
        self._behind(self._write, prediction, image)

    def __enter__(self) -> FolderWriter:
        self._open = ExitStack()
        self._open.enter_context(self._predictions)
        lines = self.folder / "predictions.jsonl"
        self._lines = self._open.enter_context(lines.open("w", encoding="utf-8"))
        self._behind = self._open.enter_context(WriteBehind(WAITING))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if self._suggestions and kind is None:
            self._suggestions.write()

    def _write(self, prediction: Prediction, image: Path | npt.NDArray[np.uint8] | None) -> None:
        anomaly_map = prediction.map
        if anomaly_map is not None:
            self._predictions.add(prediction.id, anomaly_map, prediction.score)
            own = self.policy.of(self.policy.category_of(prediction.id))
            threshold = own.pixel_threshold or 0.0
            if self.masks or self.overlays or self._suggestions:
                anomaly_map = without_small(anomaly_map, prediction.size, threshold, own.least_area)
            if self.masks:
                flagged = flag_pixels(anomaly_map, prediction.size, threshold)
                path = self.folder / "masks" / f"{prediction.id}.png"
                write_png(path, flagged.astype(np.uint8) * np.uint8(255))
            if self.overlays and image is not None:
                pixels = to_rgb(image, self.bits)
                picture = draw_overlay(pixels, anomaly_map, threshold)
                path = self.folder / "overlays" / f"{prediction.id}.jpg"
                with atomic.replacing(path, durable=False) as temporary:
                    Image.fromarray(picture).save(temporary, quality=92)
            if self._suggestions and isinstance(image, Path):
                outlines = outline_regions(anomaly_map, prediction.size, threshold)
                self._suggestions.add(prediction.id, image, outlines)
        line = json.dumps(prediction.to_dict(), ensure_ascii=False, allow_nan=False)
        self._lines.write(f"{line}\n")
        self._lines.flush()


def check_folder(folder: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse a folder that new predictions must not be written to.

    Args:
        folder: Where to write.
        force: Whether predictions that are there may be replaced.

    Raises:
        UsageError: If it is not empty and ``force`` is not given, holds anything else, or cannot be
            written.
    """
    folder = Path(folder)
    atomic.check_writable(folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file. Name another `out`.")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    there = sorted(name for name in names if not is_leftover(name))
    if there and not force:
        raise UsageError(
            f"{folder} is not empty. Name another `out`, or replace it with `force=True`."
        )
    if foreign := [name for name in there if name not in NAMES]:
        raise UsageError(f"{folder} holds more than predictions: {foreign[0]}. Name another `out`.")


def clear_folder(folder: str | os.PathLike[str]) -> None:
    """Remove the predictions in a folder, if any, and what a killed one left; other files stay."""
    folder = Path(folder)
    leftovers = folder.glob(f"{atomic.TEMPORARY_PREFIX}*")
    for path in (*(folder / name for name in NAMES), *leftovers):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_predictions(
    predictor: Predictor,
    files: Sequence[tuple[str, Path]],
    folder: str | os.PathLike[str],
    *,
    map_format: MapFormat = "npy",
    masks: bool = False,
    overlays: bool = False,
    annotations: Tool | None = None,
) -> Written:
    """Predict (id, file) pairs and write what is found; reading, computing and writing overlap.

    Args:
        predictor: The model, with its thresholds.
        files: From ``find_images``, say.
        folder: The predictions folder.
        map_format: Format of the maps.
        masks: Whether to write masks.
        overlays: Whether to write overlays.
        annotations: The annotation tool to write outlines of the regions for.

    Raises:
        UsageError: If masks, overlays or outlines are asked for without a threshold.
    """
    writer = FolderWriter(
        folder,
        map_format=map_format,
        masks=masks,
        overlays=overlays,
        annotations=annotations,
        policy=predictor.policy,
        bits=predictor.tiling.bits,
    )
    predictions = tqdm(
        predictor.predict_files(files), total=len(files), desc="predict", unit="image"
    )
    with writer:
        for (_, path), prediction in zip(files, predictions, strict=True):
            writer.add(prediction, path)
    return writer.written


def predict_to_folder(
    model: str | os.PathLike[str],
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    revision: str | None = None,
    category: str | None = None,
    split: str = "test",
    split_file: str | os.PathLike[str] | None = None,
    errata: str | os.PathLike[str] | None = None,
    fold: int | None = None,
    map_format: MapFormat = "npy",
    masks: bool = False,
    overlays: bool = False,
    annotations: Tool | None = None,
    force: bool = False,
    **options: Any,
) -> Written:
    """Write the predictions folder of a model for trees, folders, patterns and files.

    Args:
        model: A run folder, or ``owner/name`` on the Hub.
        paths: Trees in the 3CAD layout, other folders, patterns, image files.
        out: The predictions folder.
        revision: Branch, tag or commit of the Hub repository.
        category: Of a tree, only this category; the model's own when ``None``.
        split: Of a tree, only this split.
        split_file: Of a tree, take the splits from this file.
        errata: Of a tree, apply the corrections in this file.
        fold: Of a tree, the held-out fold of a k-fold split file.
        map_format: Format of the maps.
        masks: Whether to write masks.
        overlays: Whether to write overlays.
        annotations: The annotation tool to write outlines of the regions for: ``"coco"``,
            ``"labelme"``, ``"label-studio"``, ``"cvat"``.
        force: Replace predictions that are there.
        **options: Given to ``Predictor``.

    Returns:
        How many there were, and the images that could not be read; these are left out.

    Raises:
        UsageError: If ``out`` is not empty and ``force`` is not given.
        BusyError: If another process is writing ``out``.
        DataError: If there is no image.
    """
    atomic.check_writable(out)
    with writing_alone(Path(out)):
        check_folder(out, force=force)
        predictor = Predictor.from_pretrained(model, revision=revision, **options)
        files = find_images(
            paths,
            category=category or predictor.category,
            split=split,
            split_file=split_file,
            errata=errata,
            fold=fold,
            besides=out,  # overlays of an earlier prediction are no photographs
        )
        if category is not None:
            predictor.policy = predictor.policy.of(category)
        clear_folder(out)  # now that nothing but the images themselves can be wrong
        return write_predictions(
            predictor,
            files,
            out,
            map_format=map_format,
            masks=masks,
            overlays=overlays,
            annotations=annotations,
        )
