"""The main job end to end, as a user would do it: data, training, evaluation, report."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.dataset.scanning import scan
from threecad.errors import ThreecadError, UsageError
from threecad.evaluation.evaluables import resize_map
from threecad.evaluation.predictions import PredictionFolder
from threecad.evaluation.results import Result
from threecad.images.files import png_bytes, read_image
from threecad.images.masks import read_mask
from threecad.pages.evaluation_report import GalleryRow, write_report
from threecad.pages.figures import (
    figure_bytes,
    heatmap,
    outline,
    overlay,
    scale_of_good,
    training_curve,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from threecad.dataset.samples import Index, Sample

__all__ = ["DemoError", "run_demo"]

CATEGORY = "Aluminum_Ipad"
GALLERY_ROWS = 6


class DemoError(ThreecadError):
    """A step of the demo failed; it has said why above."""


def run_demo(
    out: str | os.PathLike[str],
    *,
    categories: Sequence[str] = (),
    per_category: int = 30,
    steps: int = 250,
    seed: int = 0,
    force: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Draw a sample dataset, train a small detector on it, evaluate it, write a report.

    Every step is a command that could be typed, and is shown before it runs. Nothing is downloaded.

    Args:
        out: Folder for everything.
        categories: Categories to train on, one detector each; one of them by default.
        per_category: Images of each kind in the sample.
        steps: Training steps of each detector.
        seed: Seed of the sample and of the training.
        force: Replace what an earlier demo left.
        say: Called with each line to show.

    Returns:
        The HTML report.

    Raises:
        UsageError: If ``out`` is not empty and ``force`` is not given.
        DemoError: If a step fails.
    """
    out = Path(out)
    if out.is_dir() and any(out.iterdir()) and not force:
        raise UsageError(f"{out} is not empty. Name another --out, or replace it with --force.")
    began = time.perf_counter()
    root = out / "3cad"
    say("1. A dataset: the embedded sample, eight drawn parts in the layout of 3CAD")
    _run(say, "threecad", "sample", root, "--per-category", per_category, "--seed", seed, "--force")
    say("\n2. What is in it")
    _run(say, "threecad", "info", root)
    reports = []
    for number, category in enumerate(categories or [CATEGORY], start=3):
        say(f"\n{number}. A detector for {category}, trained on {per_category} good images")
        run, predictions = out / "runs" / category, out / "predictions" / category
        _run(
            say, "cfrg", "train", root, "--category", category, "--preset", "lite",
            "--steps", steps, "--seed", seed, "--device", "cpu", "--out", run, "--force",
        )  # fmt: skip
        _run(say, "cfrg", "predict", run, root, "--out", predictions, "--device", "cpu", "--force")
        result = out / "results" / f"{category}.json"
        _run(
            say, "threecad", "evaluate", root, predictions, "--category", category,
            "--bootstrap", 500, "--out", result,
        )  # fmt: skip
        reports.append(_report(out, root, category, result))
    seconds = time.perf_counter() - began
    say(f"\nDone in {seconds:.0f} s. Look at:")
    for report in reports:
        say(f"  {report}")
    say(NEXT)
    return reports[0]


NEXT = """
Next, on the real data (no licence is stated: `threecad cite` and docs/download.md):
  threecad download
  threecad verify
  cfrg train --category Copper_Stator --preset lite --out runs/Copper_Stator
  cfrg evaluate runs/Copper_Stator
or on your own photographs:
  threecad import PHOTOS mine --good PHOTOS/good --bad PHOTOS/bad --category Part"""


def _run(say: Callable[[str], None], *words: object) -> None:
    """Show a command and run it with this Python."""
    line = [str(word) for word in words]
    say(f"$ {shlex.join(line)}")
    sys.stdout.flush()
    process = subprocess.run([sys.executable, "-m", f"{line[0]}.cli", *line[1:]], check=False)
    if process.returncode:
        raise DemoError(f"`{shlex.join(line)}` ended with exit code {process.returncode}.")


def _report(out: Path, root: Path, category: str, result: Path) -> Path:
    """Write the HTML report of one detector; return its path."""
    lines = (out / "runs" / category / "log.jsonl").read_text(encoding="utf-8").splitlines()
    curve = figure_bytes(training_curve([json.loads(line) for line in lines]))
    index = scan(root, categories=[category]).select(split="test")
    report = out / f"{category}.html"
    write_report(
        report,
        title=f"CFRG lite on {category.replace('_', ' ')}",
        paragraphs=[
            "Data: the embedded, drawn sample. These figures show that everything works; they say "
            "nothing about the real 3CAD.",
        ],
        result=Result.from_json(result),
        curves=[curve],
        gallery=_gallery(index, PredictionFolder(out / "predictions" / category)),
    )
    return report


def _gallery(index: Index, predictions: PredictionFolder) -> list[GalleryRow]:
    """Return a good image and defective ones, from the highest score to the lowest.

    One colour scale serves all: from the median of the good images' maps to twice their highest
    value, so that a good image stays dark and colours can be compared between images.
    """
    scores = predictions.scores or {}
    good, defective = (
        sorted(index.select(label=label), key=lambda sample: -scores[sample.id]) for label in (0, 1)
    )
    scale = scale_of_good(predictions[sample.id] for sample in good)
    shown = [good[len(good) // 2], *_spread(defective, GALLERY_ROWS)]
    return [_row(sample, scores[sample.id], predictions[sample.id], *scale) for sample in shown]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return ``count`` samples at even steps of the order, first and last included."""
    places = np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int)
    return [samples[place] for place in places]


def _row(
    sample: Sample, score: float, anomaly_map: NDArray[np.floating[Any]], vmin: float, vmax: float
) -> GalleryRow:
    image = read_image(sample.image)
    mask = read_mask(sample.mask) if sample.mask else np.zeros(image.shape[:2], bool)
    anomaly_map = resize_map(anomaly_map, image.shape[:2])
    pictures = [
        image,
        outline(image, mask),
        heatmap(anomaly_map, vmin=vmin, vmax=vmax),
        overlay(image, anomaly_map, vmin=vmin, vmax=vmax),
    ]
    return GalleryRow(f"{sample.id} · score {score:.2f}", [png_bytes(each) for each in pictures])
