"""CFRG as one of the methods that ``threecad benchmark`` puts side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfrg.inference.predictor import Predictor
from cfrg.network.config import CFRGConfig
from cfrg.run_folder import RunFolder
from cfrg.training.loop import TrainingOptions
from cfrg.training.runs import read_run, train
from threecad.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from threecad.benchmark.interface import Trial
    from threecad.dataset.pytorch import ThreeCAD

__all__ = ["CFRGDetector"]


class CFRGDetector:
    """Trains a run in ``<trial's folder>/run``, or uses the one that is there.

    Options (``--set cfrg.KEY=VALUE``): ``preset`` (``lite``; ``dino``, ``memory``, ``paper``);
    ``run``, a finished run folder, in which ``{category}`` and ``{seed}`` are replaced;
    ``teacher``; anything else is one of ``TrainingOptions``.

    Args:
        trial: What to run.
    """

    def __init__(self, trial: Trial) -> None:
        options: dict[str, Any] = {"area": 0, **trial.options}  # the trial's size for all methods
        preset = options.pop("preset", "lite")
        given = options.pop("run", None)
        network = {"image_size": trial.image_size, "teacher": options.pop("teacher", None)}
        self.trial = trial
        self.config = CFRGConfig.preset(
            preset, **{key: value for key, value in network.items() if value is not None}
        )
        self.options = TrainingOptions.preset(
            preset, **{**options, "seed": trial.seed, "device": trial.device}
        )
        self.run = trial.folder / "run"
        if given is not None:
            self.run = Path(str(given).format(category=trial.category, seed=trial.seed))
            if not RunFolder(self.run).weights.is_file():
                raise ModelError(f"{self.run} is no finished run: it has no model.safetensors.")
        self.facts: dict[str, Any] = {}

    def fit(self, images: ThreeCAD) -> None:
        """Train, or load what was trained before."""
        trained_before = RunFolder(self.run).weights.is_file()
        if trained_before:
            self._check_run(images)
        else:
            weights = self.trial.backbone_weights
            train(
                images.index,
                self.run,
                category=self.trial.category,
                config=self.config,
                options=self._limit_steps(len(images)),
                textures=self.trial.textures,
                teacher_weights=_find_weights(weights, self.config.teacher),
                resume=RunFolder(self.run).record.is_file(),
            )
        record = read_run(self.run)
        self.predictor = Predictor.from_pretrained(
            self.run, device=self.trial.device, calibrated=False
        )
        model: Any = self.predictor.detector
        height, width = model.config.image_size
        self.facts = {
            "parameters": sum(p.numel() for p in model.parameters()),
            "input": f"{height} × {width}",
            "backbone": model.config.teacher,
            "steps": record["options"]["steps"],
            "batch_size": record["options"]["batch_size"],
            "trained_before": trained_before,
        }

    def predict(self, paths: Sequence[Path]) -> Iterator[tuple[NDArray[np.floating[Any]], float]]:
        """Yield a smoothed map of the input size and a score for every file."""
        for prediction in self.predictor.predict_files([(path.name, path) for path in paths]):
            if prediction.map is None:
                raise DataError(f"{prediction.id}: {prediction.error}")
            yield prediction.map, prediction.score

    def _limit_steps(self, images: int) -> TrainingOptions:
        """Return the options with no more steps than the trial allows; a memory takes none."""
        if self.config.is_memory:
            return self.options
        batch = self.options.batch_size * self.options.accumulate
        own = self.options.steps or -(-self.options.epochs * images // batch)
        return replace(self.options, steps=min(own, self.trial.max_steps or own))

    def _check_run(self, images: ThreeCAD) -> None:
        record = read_run(self.run)
        expected = {
            "category": self.trial.category,
            "seed": self.trial.seed,
            "data_fingerprint": images.index.fingerprint,
        }
        if wrong := [key for key, value in expected.items() if record.get(key) != value]:
            raise ModelError(
                f"{self.run} was trained with another {', '.join(wrong)}: "
                f"{record.get(wrong[0])!r}, expected {expected[wrong[0]]!r}."
            )


def _find_weights(folder: Path | None, teacher: str) -> Path | None:
    """Return the teacher's file in a folder of weights, if it has one."""
    if folder is None:
        return None
    names = (f"{teacher}.safetensors", f"{teacher}.pth")
    return next((folder / name for name in names if (folder / name).is_file()), None)
