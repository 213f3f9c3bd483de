"""From a run folder to a checked file for a runtime."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from tqdm import tqdm

from cfrg.export.comparing import compare_each
from cfrg.export.graph import DetectionGraph
from cfrg.export.material import Material, gather
from cfrg.export.quantization import quantize
from cfrg.export.tiles import TiledGraph, longest_side
from cfrg.images.tiling import Tiling
from cfrg.inference.loading import TrainedModel, load_model
from cfrg.inference.policy import DecisionPolicy
from cfrg.inference.regions import find_regions
from cfrg.inference.thresholds import Threshold, digest_weights, read_threshold
from cfrg.network.interest import find_misfit
from cfrg.runtimes.formats import (
    MAX_SIDE,
    move_into_place,
    onnx_to_openvino,
    write_onnx,
    write_torch_export,
)
from cfrg.runtimes.parity import TOLERANCES, ModelAndGraph, Parity, compare
from cfrg.runtimes.sessions import open_session
from threecad.errors import ModelError, UsageError
from threecad.system import atomic
from threecad.system.json_files import read_object
from threecad.system.versions import find_version

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from threecad.dataset.samples import Index

__all__ = [
    "FORMATS",
    "ExportReport",
    "Format",
    "Precision",
    "decider",
    "export_run",
    "policy_file",
    "read_policy_of",
]

Format = Literal["onnx", "openvino", "torch-export"]
Precision = Literal["float32", "float16", "int8"]
Size = tuple[int, int]

FORMATS: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
"""Suffix by format."""

OUTPUTS = ("anomaly_map", "score", "decision")
CALIBRATION_IMAGES = 200
FIGURES = ("image_auroc", "pixel_ap")


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how it compares with the model.

    Attributes:
        path: The file.
        length: Its length in bytes, weights included.
        format: Of the file.
        precision: Of the network.
        input_size: Height and width of the images; ``None`` for any.
        image_threshold: Of the decision in the graph; ``None`` where there is none.
        parity: The differences on images.
        figures: With test images that have labels and a precision below float32: image AUROC and
            pixel AP (fractions) of the model and of the exported graph.
    """

    path: Path
    length: int
    format: Format
    precision: Precision
    input_size: Size | None
    image_threshold: float | None
    parity: Parity
    figures: dict[str, dict[str, float]] | None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-able data."""
        said = asdict(self)
        size = said.pop("length")
        return {**said, "size": size, "path": str(self.path), "parity": self.parity.to_dict()}


def export_run(
    run: str | os.PathLike[str],
    to: Format,
    *,
    out: str | os.PathLike[str] | None = None,
    images: str | os.PathLike[str] | None = None,
    precision: Precision = "float32",
    input_size: Size | None = None,
    dynamic: bool = False,
    limit: int = 200,
    force: bool = False,
) -> ExportReport:
    """Write a run as one file that takes an image and gives map, score and decision.

    The file is written only after it has been run and found to compute what the model computes.

    Args:
        run: The run folder. Without ``calibration.json`` the graph has no decision.
        to: The format.
        out: The file; ``RUN/export/model-<precision>`` and the format's suffix when ``None``.
        images: A tree in the 3CAD layout, of which the test images of the run's category are used,
            or a folder of images. Drawn ones when ``None``.
        precision: Of the network; ``int8`` needs ``images``, in a tree the good training images,
            in a folder all, to measure the range of its activations.
        input_size: Height and width of the camera's images; the network's own when ``None``.
        dynamic: Take any number of images, and of any size unless ``input_size`` is given. The
            graph of a run with tiles takes one image, of any size unless that is given.
        limit: Compare at most this many images, spread evenly; 0 for all.
        force: Replace files.

    Raises:
        UsageError: If the arguments do not go together, an extra is not installed, or the place
            cannot be written.
        ModelError: If the run cannot be read, or the graph differs from it.
    """
    run = Path(run)
    path = Path(out) if out else run / "export" / f"model-{precision}{FORMATS[to]}"
    _check_arguments(path, to, precision, images, input_size, force)
    model = load_model(run)
    if model.config.is_memory and precision != "float32":
        raise UsageError(
            f"{run} is a memory, whose distances are small differences of large numbers: in "
            f"{precision} they would be lost. Export it in float32."
        )
    threshold = _read_valid_threshold(run, model)
    _check_tiles(model, precision, input_size)
    if input_size and (reason := find_misfit(model.config.region, input_size)):
        raise UsageError(f"{run}: {reason}")
    free = dynamic or model.config.tile
    size = input_size or (None if free else model.config.image_size)
    with tempfile.TemporaryDirectory(prefix="cfrg-export-") as folder:
        material = gather(images, run, model, Path(folder), limit)
        written = Path(folder, "graph").with_suffix(FORMATS[to])
        _write(model, threshold, to, precision, size, dynamic, material, written)
        session = open_session(written)
        limits = _graph_threshold(threshold)
        compared = material.read(size)
        if model.config.tile and not size:
            compared = chain(compared, material.read_sizes(model.config.tile))
        pairs = compare_each(session, model, tqdm(compared, "compare", len(material.files)))
        kept: list[ModelAndGraph] = []
        seen = _keep(pairs, kept, precision != "float32" and material.index)
        parity = compare(seen, limits, None if threshold is None else decider(threshold.policy))
        parity.check(TOLERANCES[precision], f"The {to} graph in {precision}")
        figures = _score(material.index, kept) if kept and material.index else None
        move_into_place(written, path)
        if threshold is not None:
            atomic.write_json(policy_file(path), threshold.policy.to_dict())
        else:  # that of an earlier export
            policy_file(path).unlink(missing_ok=True)
    return ExportReport(
        path=path,
        length=sum(p.stat().st_size for p in (path, path.with_suffix(".bin")) if p.exists()),
        format=to,
        precision=precision,
        input_size=size,
        image_threshold=limits,
        parity=parity,
        figures=figures,
    )


def _check_arguments(
    path: Path,
    to: Format,
    precision: Precision,
    images: Any,
    input_size: Size | None,
    force: bool,
) -> None:
    if path.suffix != FORMATS[to]:
        raise UsageError(f"{path}: a file for {to} ends in {FORMATS[to]}.")
    if path.exists() and not force:
        raise UsageError(
            f"{path} is there already. Name another `out`, or replace it (`force=True`)."
        )
    if input_size is not None and not all(1 <= side <= MAX_SIDE for side in input_size):
        raise UsageError(
            f"Images of {input_size[0]}×{input_size[1]} cannot be resized exactly in a graph. "
            f"Expected sides from 1 to {MAX_SIDE:,} pixels; crop, or cut lines into shorter images."
        )
    atomic.check_writable(path.parent)
    if precision == "int8" and to == "torch-export":
        raise UsageError("Eight-bit integers are for onnx and openvino, not for torch-export.")
    if precision == "int8" and images is None:
        raise UsageError(
            "Eight-bit integers need good images of the product to measure the range of the "
            "network's values: give a tree or a folder as `images`."
        )


def _check_tiles(model: TrainedModel, precision: Precision, size: Size | None) -> None:
    """Refuse what the graph of a run with tiles cannot be.

    Raises:
        UsageError: Says what instead.
    """
    if not model.config.tile:
        return
    if precision == "int8":
        raise UsageError("A run with tiles is exported in float32 or float16, not in integers.")
    most = longest_side(Tiling.from_config(model.config))
    if size and max(size) > most:
        raise UsageError(
            f"Images of {size[0]}×{size[1]} are too large for the graph of this run with tiles. "
            f"Expected sides of at most {most:,} pixels."
        )


def _read_valid_threshold(run: Path, model: TrainedModel) -> Threshold | None:
    if model.config.tile and model.config.score_fraction:
        raise UsageError(
            f"{run} scores an image by a share of its pixels (score_fraction), which the graph of "
            "a run with tiles does not do. Set it to 0 in config.json, and calibrate again."
        )
    threshold = read_threshold(run)
    if threshold is not None:
        config = model.config
        digest = digest_weights(model)
        threshold.check(digest, config.tile, config.tile_overlap, config.region)
    return threshold


def _write(
    model: TrainedModel,
    threshold: Threshold | None,
    to: Format,
    precision: Precision,
    size: Size | None,
    dynamic: bool,
    material: Material,
    path: Path,
) -> None:
    half = precision == "float16"
    limit = _graph_threshold(threshold)
    network_half = half and to != "openvino"  # which converts by itself
    tile = model.config.tile
    graph: nn.Module
    if tile:
        graph = TiledGraph(model, limit, half=network_half)
        height, width = size or (2 * tile + 37, 3 * tile + 67)  # several tiles along both axes
    else:
        graph = DetectionGraph(model, limit, input_size=size, half=network_half)
        height, width = size or (model.config.image_size[0] + 32, model.config.image_size[1] + 64)
    many = dynamic and not tile
    pixel = torch.uint8 if model.config.bits == 8 else torch.uint16
    example = torch.zeros(2 if many else 1, height, width, 3, dtype=pixel)
    free = ("batch" if many else "", *(("", "") if size else ("height", "width")))
    metadata = _describe(model, threshold, precision, size)
    if to == "torch-export":
        write_torch_export(graph, example, path, metadata, free)
        return
    onnx = path if to == "onnx" else path.with_name("source.onnx")
    outputs = OUTPUTS if _graph_threshold(threshold) is not None else OUTPUTS[:2]
    if precision == "int8" and model.config.bits > 8:
        raise UsageError("A run of more than 8 bits is exported in float32 or float16.")
    if precision == "int8":
        source = path.with_name("float32.onnx")
        write_onnx(graph, example, source, metadata, free, outputs)
        if not material.good:
            raise UsageError("There is no good training image to measure the range of values on.")
        good = material.read_good(size, CALIBRATION_IMAGES)
        quantize(source, onnx, (image[None] for image in good))
    else:
        write_onnx(graph, example, onnx, metadata, free, outputs)
    if to == "openvino":
        onnx_to_openvino(onnx, path, metadata, half=half)


def policy_file(path: Path) -> Path:
    """Return where the policy of an exported file lies: thresholds can be changed there."""
    return path.with_suffix(".policy.json")


def read_policy_of(path: str | os.PathLike[str]) -> DecisionPolicy | None:
    """Return the policy that lies beside an exported file; ``None`` if there is none.

    Raises:
        ModelError: If it is damaged.
    """
    beside = policy_file(Path(path))
    try:
        values = read_object(beside)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{beside} cannot be read: {error}. Export the run again.") from None
    return DecisionPolicy.from_dict(values, str(beside))


def decider(policy: DecisionPolicy) -> Callable[[str, npt.NDArray[np.float32], float], str]:
    """Return how a policy decides by id, map and score: with review, categories, least area."""

    def decide(name: str, anomaly_map: npt.NDArray[np.float32], score: float) -> str:
        own = policy.of(policy.category_of(name))
        regions = None
        if own.least_area and own.pixel_threshold is not None:
            size = anomaly_map.shape[0], anomaly_map.shape[1]
            regions = find_regions(anomaly_map, size, own.pixel_threshold)
        return own.decide(score, regions=regions)

    return decide


def _graph_threshold(threshold: Threshold | None) -> float | None:
    """Return what the graph itself decides by; with a least area it takes regions, too."""
    if threshold is None or threshold.policy.least_area:
        return None
    return threshold.policy.defective


def _describe(
    model: TrainedModel, threshold: Threshold | None, precision: Precision, size: Size | None
) -> dict[str, Any]:
    record = model.companions.get("run.json", {})
    return {
        "schema": "cfrg.export/1",
        "precision": precision,
        "input_size": size and list(size),
        "config": model.config.to_dict(),
        "threshold": None if threshold is None else threshold.to_dict(),
        "weights_digest": digest_weights(model),
        "run": {key: record.get(key) for key in ("category", "seed", "data_fingerprint")},
        "versions": {name: find_version(name) for name in ("threecad", "torch", "pillow")},
    }


def _score(index: Index, pairs: Sequence[ModelAndGraph]) -> dict[str, dict[str, float]]:
    """Figures of the model and of the exported graph; those that are not defined are left out."""
    from threecad.evaluation.pipeline import evaluate

    found = {}
    for name in ("expected", "found"):
        maps = {pair.id: getattr(pair, name) for pair in pairs}
        scores = {pair.id: getattr(pair, f"{name}_score") for pair in pairs}
        result = evaluate(index, maps, scores=scores).to_dict()
        found[name] = {key: result[key] for key in FIGURES if result.get(key) is not None}
    return {"model": found["expected"], "exported": found["found"]}


def _keep(
    pairs: Iterator[ModelAndGraph], kept: list[ModelAndGraph], wanted: object
) -> Iterator[ModelAndGraph]:
    for pair in pairs:
        if wanted:
            kept.append(pair)
        yield pair
