"""One trial, in a process of its own: ``python -m threecad.benchmark.trials JOB.json``.

A process per trial makes time and memory the method's own, and lets a crash, or a system that ends
a process for its memory, take away nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sys
import threading
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from threecad.benchmark.detectors import find_detector
from threecad.benchmark.interface import Trial
from threecad.benchmark.store import Record
from threecad.dataset.pytorch import ThreeCAD
from threecad.dataset.scanning import Selection
from threecad.errors import ThreecadError, UsageError
from threecad.evaluation.evaluables import score_image
from threecad.evaluation.pipeline import evaluate
from threecad.evaluation.predictions import PredictionWriter
from threecad.system import atomic
from threecad.system.memory import peak_memory
from threecad.system.versions import find_versions

if TYPE_CHECKING:
    from threecad.benchmark.interface import Detector
    from threecad.dataset.samples import Index
    from threecad.evaluation.evaluator import Protocol
    from threecad.evaluation.results import Result
    from threecad.images.masks import MaskRule

__all__ = ["Job", "attempt_trial", "run_trial", "select_images"]

PROTOCOLS: tuple[Protocol, ...] = ("full", "paper")


@dataclass(frozen=True)
class Job:
    """A trial and the data it is run on.

    Attributes:
        trial: What to run.
        selection: The images of the trial's category.
        mask_rule: Decode all masks by this rule (see ``threecad.decode_mask``).
        bootstrap: Replicates for the confidence intervals.
        keep_predictions: Leave maps and scores in the trial's folder.
    """

    trial: Trial
    selection: Selection
    mask_rule: MaskRule | None = None
    bootstrap: int = 0
    keep_predictions: bool = False

    def save(self, path: Path) -> None:
        """Write the job as JSON."""
        chosen = self.selection.arguments()
        selection = {k: str(v) if isinstance(v, Path) else v for k, v in chosen.items()}
        plain = {**asdict(self), "trial": self.trial.to_dict(), "selection": selection}
        atomic.write_json(path, plain)

    @classmethod
    def load(cls, path: Path) -> Job:
        """Read the job that ``save`` wrote."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        plain["trial"] = Trial.from_dict(plain["trial"])
        plain["selection"] = Selection(**plain["selection"])
        return cls(**plain)


def attempt_trial(job: Job) -> Record:
    """Run a trial; if it raises, return a record that says why, and print where."""
    trial = job.trial
    try:
        return run_trial(job)
    except ThreecadError as error:
        message = str(error)
    except Exception as error:  # the methods are other people's code
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
    return Record(trial.method, trial.category, trial.seed, error=message)


def run_trial(job: Job) -> Record:
    """Fit, predict, measure and evaluate.

    Raises:
        ThreecadError: If the method cannot be run; whatever else it raises comes through.
    """
    trial = job.trial
    index = job.selection.scan()
    training, test = select_images(index, trial.category)
    _seed(trial.seed)
    detector = find_detector(trial.method)(trial)
    started, started_cpu = time.perf_counter(), time.process_time()
    detector.fit(ThreeCAD(training))
    fit_seconds, fit_cpu_seconds = (
        time.perf_counter() - started,
        time.process_time() - started_cpu,
    )
    facts = dict(getattr(detector, "facts", {}))
    if trial.options:
        facts["options"] = trial.options
    folder = trial.folder / "predictions"
    try:
        predict_seconds = _predict(detector, test, folder)
        memory, gpu_memory = peak_memory(), _peak_gpu_memory()
        results: dict[str, Result] = {
            protocol: evaluate(
                test,
                folder,
                mask_rule=job.mask_rule,
                protocol=protocol,
                bootstrap=job.bootstrap,
                seed=0,
                workers=0,
            )
            for protocol in PROTOCOLS
        }
    finally:
        if not job.keep_predictions:
            _remove(folder)
    trained_before = bool(facts.get("trained_before"))
    return Record(
        method=trial.method,
        category=trial.category,
        seed=trial.seed,
        results=results,
        fit_seconds=None if trained_before else fit_seconds,
        fit_cpu_seconds=None if trained_before else fit_cpu_seconds,
        images_per_second=len(test) / predict_seconds,
        peak_memory=None if trained_before else memory,
        peak_gpu_memory=gpu_memory,
        train_images=len(training),
        test_images=len(test),
        facts=json.loads(json.dumps(facts, default=str)),
        environment=_describe_environment(trial.device),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def select_images(index: Index, category: str) -> tuple[Index, Index]:
    """Return the good training images of a category, and its test images.

    Raises:
        UsageError: If there are none of either.
    """
    training = index.select(category=category, split="train", label=0)
    test = index.select(category=category, split="test")
    if not len(training) or not len(test):
        raise UsageError(
            f"{category} in {index.root} has {len(training)} good training images and {len(test)} "
            "test images; a trial needs both."
        )
    return training, test


def _predict(detector: Detector, test: Index, folder: Path) -> float:
    """Write the predictions folder; return the seconds the detector took."""
    paths = [sample.image for sample in test]
    seconds = 0.0
    _remove(folder)
    with PredictionWriter(folder) as writer:
        started = time.perf_counter()  # a detector may do all its work before the first map
        predictions = iter(detector.predict(paths))
        for sample in test:
            try:
                anomaly_map, score = next(predictions)
            except StopIteration:
                raise UsageError(
                    f"predict() yielded {writer.count} predictions for {len(paths)} images."
                ) from None
            seconds += time.perf_counter() - started
            values = np.asarray(anomaly_map)
            score = score_image(values, "max") if score is None else float(score)
            writer.add(sample.id, values, score)
            started = time.perf_counter()
        if next(predictions, None) is not None:
            raise UsageError(f"predict() yielded more predictions than the {len(paths)} images.")
    return seconds


def _remove(folder: Path) -> None:
    import shutil

    if folder.is_dir():
        shutil.rmtree(folder)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  (libraries draw from the global generator)
    torch.manual_seed(seed)


def _peak_gpu_memory() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _describe_environment(device: str) -> dict[str, Any]:
    environment: dict[str, Any] = {
        **find_versions(("torch", "anomalib", "timm")),
        "system": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        environment["gpu"] = torch.cuda.get_device_name()
    return environment


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: the pipe to it closes."""

    def wait() -> None:
        # Not through sys.stdin: a thread that holds its lock upsets Python's shutdown.
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    job = Job.load(Path(sys.argv[1]))
    atomic.write_json(job.trial.folder / "record.json", attempt_trial(job).to_dict())
