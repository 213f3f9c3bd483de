"""The model card: what a model is, how good it is and on what, and what is not known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cfrg.teachers.backbones import TEACHERS
from threecad.evaluation.results import FIGURE_NAMES, Result
from threecad.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfrg.network.config import CFRGConfig
    from threecad.evaluation.scores import Figure

__all__ = ["MARKER", "describe_teacher", "make_card"]

MARKER = "<!-- Written by threecad. Remove this line to keep your own changes. -->"
"""Line that tells a generated card from one that a person looks after."""

CARD = """\
---
library_name: threecad
pipeline_tag: image-segmentation
license: other
tags:
- 3cad
- anomaly-detection
- anomaly-segmentation
- industrial-inspection
- model_hub_mixin
- pytorch_model_hub_mixin
---
{marker}

# {kind}{category}

An anomaly detector made from good images only: it returns a map that shows where a part deviates
from them, and a score that says how much. Method: {method}, for images of {height}×{width} pixels.

## How to use it

```
cfrg predict RUN photograph.png --out DIR
```

or in Python, on tensors already resized and normalised with `config.mean` and `config.std`:

```python
from cfrg import {class_name}

model = {class_name}.from_pretrained("RUN_OR_REPOSITORY")
maps, scores = model.predict(images)  # (N, 1, H, W) and (N,), higher = more anomalous
```

## How good it is

{figures}

## Data

{data}

The licence of the 3CAD images is not stated by those who published them; ask them before you use
weights trained on them for more than research. {teacher}

## Limits

The model knows the parts, the camera and the light it was trained with. A score is not a
probability; choose a threshold on good parts of your own. Defects smaller than a few pixels after
resizing to {height}×{width} can be missed.

## Configuration

```json
{configuration}
```
"""


METHODS = {
    "CFRG": (
        "[CFRG](https://arxiv.org/abs/2502.05761), with `{teacher}` as teacher and `{student}` as "
        "student"
    ),
    "NearestNeighbourMemory": (
        "the distance to the nearest of {vectors:,} feature vectors of good images under "
        "`{teacher}` (as [PatchCore](https://arxiv.org/abs/2106.08265), drawn at random){by_place}"
    ),
}
"""What a class of models does, in a sentence."""


def make_card(config: CFRGConfig, companions: Mapping[str, Any]) -> str:
    """The Markdown of ``README.md``, with the Hub's YAML header.

    Args:
        config: The model's configuration.
        companions: Content of ``run.json`` and ``result.json``, by file name, where known.
    """
    run = companions.get("run.json", {})
    height, width = config.image_size
    category = run.get("category")
    class_name = "NearestNeighbourMemory" if config.is_memory else "CFRG"
    method = METHODS[class_name].format(
        teacher=config.teacher,
        student=config.student,
        vectors=config.memory,
        by_place=", measured by what is usual at its place" if config.by_place else "",
    )
    return CARD.format(
        marker=MARKER,
        kind="Memory of good images" if config.is_memory else "CFRG",
        category=f" for {category}" if category else "",
        method=method,
        class_name=class_name,
        height=height,
        width=width,
        figures=_describe_result(companions.get("result.json")),
        data=_describe_run(run),
        teacher=describe_teacher(config.teacher, run),
        configuration=json.dumps(config.to_dict(), indent=2),
    )


def describe_teacher(name: str, record: Mapping[str, Any]) -> str:
    """Where a teacher's weights are from and under which terms, in a few sentences.

    Args:
        name: Key of ``TEACHERS``.
        record: Content of ``run.json``, which may say what file was read.
    """
    teacher = TEACHERS[name]
    said = f"Weights of the teacher {name}: {teacher.origin}. Licence: {teacher.licence}."
    if not teacher.measured:
        said += " Not measured here yet."
    if read := record.get("teacher_weights"):
        file, digest = str(read.get("file")), str(read.get("sha256"))
        said += f" Read from {file}, SHA-256 {digest}"
        if teacher.sha256 and digest.startswith(teacher.sha256):
            said += ", the published file"
        elif teacher.sha256:
            said += ", which is another file than the published one and may be under other terms"
        said += "."
    return said


def _describe_result(content: Mapping[str, Any] | None) -> str:
    if content is None:
        return "It has not been evaluated. `cfrg evaluate RUN ROOT` does that."
    result = Result.from_dict(content)
    lines = ["| figure | value in % | 95 % interval |", "|---|---|---|"]
    for key, figure in result.mean.figures.items():
        lines.append(f"| {FIGURE_NAMES.get(key, key)} | {_percent(figure)} | {_interval(figure)} |")
    counts = ", ".join(f"{count:,} {name}" for name, count in result.mean.counts.items())
    lines += [
        "",
        f"Protocol: `{result.protocol}`; mean over {len(result.by_category) or 1} categories"
        + (f"; {counts}." if counts else "."),
    ]
    return "\n".join(lines)


def _percent(figure: Figure) -> str:
    return "–" if figure.value is None else f"{100 * figure.value:.2f}"


def _interval(figure: Figure) -> str:
    if figure.confidence is None:
        return "–"
    low, high = figure.confidence
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _describe_run(run: Mapping[str, Any]) -> str:
    named = {
        "category": "Category",
        "data_fingerprint": "Data fingerprint",
        "seed": "Seed",
        "split_file": "Split file",
        "fold": "Fold held out",
        "errata_digest": "Corrections (digest)",
        "imported_from": "Converted from",
        "weights_digest": "Weights (SHA-256 of tensors and configuration)",
    }
    lines = [
        f"- {label}: {_plain(run[key])}" for key, label in named.items() if run.get(key) is not None
    ]
    lines.append(f"- Written by threecad {__version__}")
    return "\n".join(lines)


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
