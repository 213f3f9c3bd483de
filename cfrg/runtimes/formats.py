"""The three formats an exported graph is written in.

ONNX and OpenVINO files carry the metadata as one JSON text under the key ``cfrg``; a ``.pt2`` as an
extra file ``cfrg.json``. OpenVINO's is made from ONNX, so that one graph serves both.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import torch

from cfrg.runtimes.sessions import METADATA_KEY, import_extra
from threecad.system import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

__all__ = [
    "MAX_SIDE",
    "move_into_place",
    "onnx_to_openvino",
    "write_onnx",
    "write_torch_export",
]

MAX_BATCH = 1024  # of a graph whose input is free

MAX_SIDE = 2**16
"""Pixels of a side up to which a graph whose input is free resizes exactly; JPEG ends one below."""


def write_torch_export(
    graph: nn.Module,
    example: Tensor,
    path: Path,
    metadata: dict[str, Any],
    free: tuple[str, ...] = (),
) -> None:
    """Write a ``.pt2`` for ``torch.export.load``.

    Args:
        graph: The network to export.
        example: An input of it.
        path: The file.
        metadata: What to keep in it.
        free: Axes of the input that may have any length: names in order, ``""`` for a fixed one.
    """
    program = _trace(graph, example, free)
    extra = {f"{METADATA_KEY}.json": json.dumps(metadata)}
    torch.export.save(program, path, extra_files=extra)


def write_onnx(
    graph: nn.Module,
    example: Tensor,
    path: Path,
    metadata: dict[str, Any],
    free: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
) -> None:
    """Write an ``.onnx`` file.

    Args:
        graph: The network to export.
        example: An input of it.
        path: The file.
        metadata: What to keep in it.
        free: As for ``write_torch_export``.
        outputs: Names of the outputs.

    Raises:
        UsageError: If the extra ``onnx`` is not installed.
    """
    import_extra("onnxscript", "onnx")
    program = torch.onnx.export(
        _trace(graph, example, free),
        dynamo=True,
        input_names=["image"],
        output_names=list(outputs) or None,
        verbose=False,
        external_data=False,
    )
    assert program is not None  # it is with dynamo
    program.model.metadata_props[METADATA_KEY] = json.dumps(metadata)
    program.save(path, external_data=False)


def onnx_to_openvino(source: Path, path: Path, metadata: dict[str, Any], *, half: bool) -> None:
    """Write an ``.xml`` and the ``.bin`` beside it from an ``.onnx`` file.

    Args:
        source: The ONNX file.
        path: The ``.xml``.
        metadata: What to keep in it.
        half: Store the weights in half precision.

    Raises:
        UsageError: If the extra ``openvino`` is not installed.
    """
    openvino = import_extra("openvino", "openvino")
    model = openvino.convert_model(str(source))
    model.set_rt_info(json.dumps(metadata), METADATA_KEY)
    openvino.save_model(model, str(path), compress_to_fp16=half)


def move_into_place(written: Path, path: Path) -> None:
    """Move an exported file, and the ``.bin`` that belongs to an ``.xml``, to its final name.

    A reader sees the old files or the new ones, and never weights of one with the graph of the
    other: the old ``.xml`` goes first, the new one comes last.
    """
    if path.suffix == ".xml":
        path.unlink(missing_ok=True)
        _copy(written.with_suffix(".bin"), path.with_suffix(".bin"))
    _copy(written, path)


def _copy(source: Path, target: Path) -> None:
    with atomic.replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _trace(
    graph: nn.Module, example: Tensor, free: tuple[str, ...]
) -> torch.export.ExportedProgram:
    longest = getattr(graph, "longest_side", MAX_SIDE)
    dimensions = {
        axis: torch.export.Dim(name, min=1, max=MAX_BATCH if name == "batch" else longest)
        for axis, name in enumerate(free)
        if name
    }
    with torch.no_grad():
        return torch.export.export(
            graph, (example,), dynamic_shapes=(dimensions or None,), strict=False
        )
