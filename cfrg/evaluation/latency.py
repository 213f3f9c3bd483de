"""Times of one detector in one runtime, measured in a process of its own.

Nothing here imports torch unless torch is measured, so that the memory of a runtime is its own.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.runtimes.sessions import RUNTIMES, find_runtime, open_session
from threecad.errors import ThreecadError
from threecad.images.files import read_image
from threecad.system.memory import peak_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["STAGES", "VARIANTS", "Task", "Timing", "Variation", "measure"]

STAGES = ("decode", "preprocess", "model", "post", "whole")

VARIANTS = {
    "torch": "torch",
    "torch-compile": "torch",
    "onnxruntime": "onnxruntime",
    "onnxruntime-int8": "onnxruntime",
    "openvino": "openvino",
    "openvino-int8": "openvino",
}
"""What can be measured, and the runtime it needs."""

WARM_UP = 3  # calls that do not count


@dataclass(frozen=True)
class Timing:
    """Milliseconds an image over the repetitions."""

    minimum: float
    p50: float
    p95: float


@dataclass(frozen=True)
class Task:
    """What to measure.

    Attributes:
        variant: Key of ``VARIANTS``.
        run: The run folder, for torch.
        graphs: Exported file by stage, for the other runtimes.
        files: Images.
        repetitions: Of each stage.
        threads: Of the runtime.
    """

    variant: str
    run: Path
    graphs: dict[str, Path]
    files: tuple[Path, ...]
    repetitions: int
    threads: int


@dataclass(frozen=True)
class Variation:
    """One variant's times.

    Attributes:
        name: Key of ``VARIANTS``.
        version: Of its runtime; ``None`` if it is not installed.
        stages: By name of ``STAGES``. ``decode`` is from file to pixels; ``whole`` from pixels to
            score, which an exported graph does in one piece.
        throughput: Images a second from file to score, one after the other.
        peak_memory: Largest resident size of the process, bytes; ``None`` where it is not told.
        problem: Why there are no times.
    """

    name: str
    version: str | None
    stages: dict[str, Timing]
    throughput: float | None = None
    peak_memory: int | None = None
    problem: str | None = None


def measure(task: Task) -> Variation:
    """Time each stage of a variant, image after image."""
    runtime = VARIANTS[task.variant]
    version = find_runtime(runtime)
    if version is None:
        return Variation(task.variant, None, {}, problem=f"{RUNTIMES[runtime]} is not installed")
    try:
        stages = _open_torch(task) if runtime == "torch" else _open_graphs(task, runtime)
        return _measure_stages(task, version, stages)
    except (ThreecadError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        return Variation(task.variant, version, {}, problem=reason)


def _measure_stages(task: Task, version: str, stages: dict[str, Callable[[Any], Any]]) -> Variation:
    images = [read_image(path) for path in task.files]
    times = {"decode": _time(read_image, task.files, task.repetitions)}
    values: list[Any] = images
    for name in ("preprocess", "model", "post"):
        times[name] = _time(stages[name], values, task.repetitions)
        values = [stages[name](value) for value in values]
    times["whole"] = _time(stages["whole"], images, task.repetitions)
    return Variation(
        task.variant,
        version,
        times,
        throughput=1e3 / (times["decode"].p50 + times["whole"].p50),
        peak_memory=peak_memory(),
    )


def _open_graphs(task: Task, runtime: str) -> dict[str, Callable[[Any], Any]]:
    def open_stage(name: str) -> Callable[[Any], Any]:
        session = open_session(task.graphs[name], runtime, threads=task.threads)
        return lambda value: session.run(value)[0]

    preprocess, whole = open_stage("preprocess"), open_stage("whole")
    return {
        "preprocess": lambda image: preprocess(image[None]),
        "model": open_stage("model"),
        "post": open_stage("post"),
        "whole": lambda image: whole(image[None]),
    }


def _open_torch(task: Task) -> dict[str, Callable[[Any], Any]]:
    import torch

    from cfrg.inference.loading import load_model
    from cfrg.network import processing

    torch.set_num_threads(task.threads)
    model = load_model(task.run)
    config = model.config
    forward: Callable[[Any], Any] = model
    if task.variant == "torch-compile":
        forward = torch.compile(model)

    def preprocess(image: Any) -> Any:
        return processing.prepare(image, config)

    def post(raw: Any) -> Any:
        return processing.finish(processing.smooth(raw, config), config)

    def network(image: Any) -> Any:
        return forward(image).anomaly_map

    stages = {
        "preprocess": preprocess,
        "model": network,
        "post": post,
        "whole": lambda image: post(network(preprocess(image))),
    }
    return {name: torch.inference_mode()(stage) for name, stage in stages.items()}


def _time(call: Callable[[Any], Any], values: Iterable[Any], repetitions: int) -> Timing:
    values = list(values)
    times = []
    for i in range(-WARM_UP, repetitions):
        value = values[i % len(values)]
        start = time.perf_counter()
        call(value)
        if i >= 0:
            times.append(1e3 * (time.perf_counter() - start))
    p50, p95 = np.percentile(times, [50, 95])
    return Timing(min(times), float(p50), float(p95))
