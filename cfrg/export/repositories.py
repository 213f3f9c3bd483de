"""Model repositories: a run as OpenVINO Model Server and Triton Inference Server take it.

    OUT/NAME/1/model.xml, .bin     OUT/config.json           for OpenVINO Model Server
    OUT/NAME/1/model.onnx          OUT/NAME/config.pbtxt     for Triton, by its ONNX Runtime

Both speak the Open Inference Protocol; the input ``image`` is pixels UINT8 (N, H, W, 3), RGB.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cfrg.export.writing import FORMATS, ExportReport, Format, export_run
from cfrg.runtimes.sessions import import_extra
from threecad.errors import UsageError
from threecad.system import atomic
from threecad.system.json_files import read_object

if TYPE_CHECKING:
    import os

__all__ = ["SERVERS", "ModelServer", "Repository", "export_for_server"]

ModelServer = Literal["ovms", "triton"]

SERVERS: dict[str, Format] = {"ovms": "openvino", "triton": "onnx"}
"""Format of the file by server."""

VERSION = "1"

_TYPES = {"uint8": "TYPE_UINT8", "float": "TYPE_FP32", "bool": "TYPE_BOOL", "int64": "TYPE_INT64"}
"""Triton's names of ONNX Runtime's types."""


@dataclass(frozen=True)
class Repository:
    """What was written for a server.

    Attributes:
        report: Of the model's file.
        name: By which clients ask for the model.
        configuration: The server's file.
    """

    report: ExportReport
    name: str
    configuration: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data, with ``name`` and ``configuration``."""
        extra = {"name": self.name, "configuration": str(self.configuration)}
        return {**self.report.to_dict(), **extra}


def export_for_server(
    run: str | os.PathLike[str],
    server: ModelServer,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    **options: Any,
) -> Repository:
    """Write a run into a model repository, checked as any export.

    Other models of the repository stay, and so do other settings of ``config.json``.

    Args:
        run: The run folder.
        server: Which server it is for.
        out: The repository; ``RUN/export/<server>`` when ``None``.
        name: Of the model; the run folder's when ``None``.
        **options: Of ``export_run``.

    Raises:
        UsageError: If the arguments do not go together, or the place cannot be written.
        ModelError: If the run cannot be read, or the graph differs from it.
    """
    run = Path(run)
    name = re.sub(r"[^\w.-]", "-", run.resolve().name, flags=re.ASCII) if name is None else name
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]{0,63}", name, re.ASCII):
        raise UsageError(
            f"`name={name}`: expected up to 64 letters, digits, `.`, `-` and `_`, no `.` first."
        )
    root = Path(out) if out else run / "export" / server
    model = root / name / VERSION / f"model{FORMATS[SERVERS[server]]}"
    configuration = root / ("config.json" if server == "ovms" else f"{name}/config.pbtxt")
    known = _read_configuration(configuration) if server == "ovms" else {}
    report = export_run(run, SERVERS[server], out=model, **options)
    if server == "ovms":
        atomic.write_json(configuration, _add_model(known, name))
    else:
        atomic.write_text(configuration, _describe_for_triton(model, name))
    return Repository(report, name, configuration)


def _read_configuration(path: Path) -> dict[str, Any]:
    """Return what an OpenVINO Model Server is already told."""
    try:
        known = read_object(path)
    except FileNotFoundError:
        return {"model_config_list": []}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}. Name another `out`.") from None
    if not isinstance(known.get("model_config_list"), list):
        raise UsageError(f"{path} holds no `model_config_list`. Name another `out`.")
    return known


def _add_model(known: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the configuration with our model in it; one of this name keeps its settings."""
    models = known["model_config_list"]
    for entry in models:
        config = entry.get("config") if isinstance(entry, dict) else None
        if isinstance(config, dict) and config.get("name") == name:
            return known
    ours = {
        "name": name,
        "base_path": name,  # beside config.json
        # Processors with bfloat16 would otherwise compute in it, and scores change.
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    return {**known, "model_config_list": [*models, {"config": ours}]}


def _describe_for_triton(model: Path, name: str) -> str:
    """Return ``config.pbtxt``, with the tensors that the file itself says it has.

    The batch axis is one of the tensors' own (``max_batch_size: 0``): the outputs have no others.
    """
    onnxruntime = import_extra("onnxruntime", "onnx")
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    tensors = [("input", each) for each in session.get_inputs()]
    tensors += [("output", each) for each in session.get_outputs()]
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        "max_batch_size: 0",
    ]
    for kind, tensor in tensors:
        dims = ", ".join(str(n) if isinstance(n, int) else "-1" for n in tensor.shape)
        element = _TYPES[tensor.type.removeprefix("tensor(").removesuffix(")")]
        lines += [
            f"{kind} [",
            "  {",
            f"    name: {json.dumps(tensor.name)}",
            f"    data_type: {element}",
            f"    dims: [ {dims} ]",
            "  }",
            "]",
        ]
    return "\n".join(lines) + "\n"
