"""Exported files in the runtimes that can run them, behind one call."""

from __future__ import annotations

import json
import threading
from abc import ABC, abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from threecad.errors import ModelError, ThreecadError, UsageError
from threecad.system.versions import find_version

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

__all__ = [
    "METADATA_KEY",
    "RUNTIMES",
    "Session",
    "check_device",
    "find_runtime",
    "import_extra",
    "open_graph",
    "open_session",
]

METADATA_KEY = "cfrg"
"""Where an exported file keeps what is known of it, as JSON."""

RUNTIMES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
"""Package by runtime."""


class Session(ABC):
    """An exported file, ready to run.

    Attributes:
        metadata: What the export kept in the file.
        outputs: Names of the outputs.
    """

    metadata: dict[str, Any]
    outputs: Sequence[str]

    @abstractmethod
    def run(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return the outputs for a batch of images."""


class _TorchSession(Session):
    outputs = ("anomaly_map", "score", "decision")

    def __init__(self, path: Path) -> None:
        import torch

        extra = {f"{METADATA_KEY}.json": ""}
        self._module = torch.export.load(path, extra_files=extra).module()
        self._torch = torch
        self.metadata: dict[str, Any] = json.loads(extra[f"{METADATA_KEY}.json"])

    def run(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        with self._torch.inference_mode():
            outputs = self._module(self._torch.from_numpy(image))
        return [output.numpy() for output in _as_tuple(outputs)]


class _OnnxSession(Session):
    def __init__(
        self, source: Path | bytes, threads: int | None, device: str = "cpu", *, spin: bool = True
    ) -> None:
        onnxruntime = import_extra("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        if threads:
            options.intra_op_num_threads = threads
        if not spin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else str(source),
            options,
            providers=[_find_provider(onnxruntime.get_available_providers(), device)],
        )
        self._input = self._session.get_inputs()[0].name
        self.outputs = [output.name for output in self._session.get_outputs()]
        properties = self._session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = json.loads(properties.get(METADATA_KEY, "{}"))

    def run(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        return [np.asarray(output) for output in self._session.run(None, {self._input: image})]


class _OpenVinoSession(Session):
    def __init__(self, source: Path | bytes, threads: int | None, device: str = "cpu") -> None:
        openvino = import_extra("openvino", "openvino")
        core = openvino.Core()
        name = _find_openvino_device(core.available_devices, device)
        model = core.read_model(source if isinstance(source, bytes) else str(source))
        # Processors with bfloat16 would otherwise compute in it.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads and name == "CPU":
            options["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(model, name, options)
        # One request computes for one caller: threads that share a session have one each.
        self._requests = threading.local()
        self.outputs = [output.any_name for output in model.outputs]
        text = model.get_rt_info(METADATA_KEY).value if model.has_rt_info(METADATA_KEY) else "{}"
        self.metadata: dict[str, Any] = json.loads(text)

    def run(self, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        request = getattr(self._requests, "own", None)
        if request is None:
            request = self._requests.own = self._compiled.create_infer_request()
        results = request.infer([image])
        return [np.array(results[i]) for i in range(len(self.outputs))]


def open_session(path: Path, runtime: str | None = None, *, threads: int | None = None) -> Session:
    """Open an exported file.

    Args:
        path: ``.onnx``, ``.xml`` (its ``.bin`` beside it) or ``.pt2``.
        runtime: Key of ``RUNTIMES``; by default the one the format is made for. OpenVINO reads
            ONNX files, too.
        threads: Of ONNX Runtime and OpenVINO; their own choice when ``None``.

    Raises:
        UsageError: If the runtime is not installed.
        ModelError: If the file cannot be read.
    """
    default = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}.get(path.suffix)
    runtime = runtime or default
    if not path.is_file() or runtime is None:
        raise ModelError(f"{path} is no exported model. Expected an .onnx, .xml or .pt2 file.")
    try:
        if runtime == "torch":
            return _TorchSession(path)
        return (_OnnxSession if runtime == "onnxruntime" else _OpenVinoSession)(path, threads)
    except ThreecadError:
        raise
    except Exception as error:  # each runtime raises its own types
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path} cannot be opened by {runtime}: {first}") from error


def open_graph(data: bytes, runtime: str, device: str = "cpu") -> Session:
    """Open an ONNX file that is in memory, for a process that does other work at the same time.

    Args:
        data: The content of the file.
        runtime: ``onnxruntime`` or ``openvino``.
        device: As ``check_device`` takes it.

    Raises:
        UsageError: If the runtime is not installed, or has no such device.
        ModelError: If it cannot run the file.
    """
    try:
        if runtime == "openvino":
            return _OpenVinoSession(data, None, device)
        # Threads that spin while they wait would take the processor from those that read images.
        return _OnnxSession(data, None, device, spin=False)
    except ThreecadError:
        raise
    except Exception as error:  # each runtime raises its own types
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"The network cannot be opened by {runtime}: {first}") from error


def check_device(runtime: str, device: str) -> None:
    """Refuse a device on which an installed runtime does not compute here.

    Args:
        runtime: ``onnxruntime`` or ``openvino``.
        device: For ONNX Runtime ``cpu``, ``cuda`` or ``cuda:1``; for OpenVINO ``cpu``, ``gpu`` or
            ``gpu:1``, the graphics processors of Intel.

    Raises:
        UsageError: If the runtime is not installed, or has no such device.
    """
    if runtime == "openvino":
        _find_openvino_device(import_extra("openvino", "openvino").Core().available_devices, device)
    else:
        found = import_extra("onnxruntime", "onnx").get_available_providers()
        _find_provider(found, device)


def _find_provider(available: Sequence[str], device: str) -> str | tuple[str, dict[str, str]]:
    kind, _, number = device.partition(":")
    if device == "cpu":
        return "CPUExecutionProvider"
    if kind != "cuda" or not (number or "0").isdecimal():
        raise UsageError(
            f"`device={device}`: ONNX Runtime is used on cpu, cuda, cuda:1, … Choose one of these, "
            "or `runtime=torch`."
        )
    if "CUDAExecutionProvider" not in available:
        raise UsageError(
            f"`device={device}`: the installed ONNX Runtime computes on the CPU alone. Install "
            "onnxruntime-gpu in place of onnxruntime, or use `device=cpu` or `runtime=torch`."
        )
    return "CUDAExecutionProvider", {"device_id": number or "0", "use_tf32": "0"}


def _find_openvino_device(available: Sequence[str], device: str) -> str:
    kind, _, number = device.partition(":")
    if device == "cpu":
        return "CPU"
    if kind != "gpu" or not (number or "0").isdecimal():
        raise UsageError(
            f"`device={device}`: OpenVINO is used on cpu, gpu, gpu:1, … Choose one of these, or "
            "`runtime=torch`."
        )
    name = f"GPU.{number}" if number else "GPU"
    if not any(found == name or found.startswith(f"{name}.") for found in available):
        raise UsageError(
            f"`device={device}`: OpenVINO finds no such device here, only "
            f"{', '.join(available).lower()}. Use `device=cpu`, or `runtime=torch`."
        )
    return name


def import_extra(module: str, extra: str) -> Any:
    """Import a module that an optional dependency brings.

    Raises:
        UsageError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"This needs {error.name or module}: pip install 'threecad[{extra}]'."
        ) from error


def find_runtime(runtime: str) -> str | None:
    """Return the installed version of a runtime, ``None`` if it is not installed."""
    return find_version(RUNTIMES[runtime])


def _as_tuple(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
