"""A detector whose network runs in ONNX Runtime or OpenVINO, with the maps of the one in PyTorch.

Its graph is made once, held against the network, and kept beside the run. The file begins with the
SHA-256 of the rest, and its name with what it was made from: another network, another version of
anything that had a hand in it, or a damaged file, and it is made anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from cfrg.network import processing
from cfrg.network.digest import digest_tensors
from cfrg.runtimes.formats import write_onnx
from cfrg.runtimes.network import Network
from cfrg.runtimes.parity import TOLERANCES, ModelAndGraph, compare
from cfrg.runtimes.sessions import check_device, open_graph
from threecad.errors import ModelError, ThreecadError, UsageError
from threecad.procedural.textures import texture
from threecad.system import atomic
from threecad.system.locations import user_cache
from threecad.system.versions import find_version, find_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfrg.memory.neighbours import NearestNeighbourMemory
    from cfrg.network.config import CFRGConfig
    from cfrg.network.model import CFRG
    from cfrg.runtimes.sessions import Session

    Detector = CFRG | NearestNeighbourMemory

__all__ = ["CHOICES", "CompiledDetector", "choose_runtime", "compile_detector"]

CHOICES = ("torch", "auto", "onnx", "openvino")
"""What a predictor can be asked to compute in."""

PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
"""Key of ``RUNTIMES`` by choice, the faster one first."""

COMPARED = 6  # pictures that a graph is held against the network on
DIGEST = 64  # characters of the SHA-256 that a file begins with


class CompiledDetector:
    """A detector in another runtime.

    Args:
        session: Its network with the smoothing: normalised images in, maps out.
        config: Of the detector.
    """

    def __init__(self, session: Session, config: CFRGConfig) -> None:
        self.session, self.config = session, config

    def predict_maps(self, image: Tensor) -> Tensor:
        """Return the smoothed maps (N, 1, H, W) of normalised images (N, 3, H, W), float32."""
        (maps,) = self.session.run(image.cpu().contiguous().numpy())
        return torch.from_numpy(maps)


def choose_runtime(choice: str, device: str | None) -> tuple[str, str | None]:
    """Return the runtime to compute in, ``torch``, ``onnx`` or ``openvino``, and its device.

    Args:
        choice: One of ``CHOICES``. ``auto`` takes the first of ONNX Runtime and OpenVINO that is
            installed with what writes a graph, and computes on the device; else PyTorch.
        device: As ``check_device`` takes it. ``None`` is CUDA where PyTorch has it and the runtime
            computes on it, else the CPU; ``auto`` rather takes PyTorch than leave CUDA unused.
            PyTorch's own device is returned as it is.

    Raises:
        UsageError: If there is no such choice, or it is not installed or lacks the device.
    """
    if choice not in CHOICES:
        raise UsageError(f"No runtime {choice!r}. There are: {', '.join(CHOICES)}.")
    if choice == "torch" or (choice == "auto" and find_version("onnxscript") is None):
        return "torch", device
    preferred = device or ("cuda" if torch.cuda.is_available() else "cpu")
    for name in PACKAGES if choice == "auto" else (choice,):
        if _computes_on(PACKAGES[name], preferred):
            return name, preferred
    if choice == "auto":
        return "torch", device
    check_device(PACKAGES[choice], device or "cpu")
    return choice, device or "cpu"


def _computes_on(package: str, device: str) -> bool:
    try:
        check_device(package, device)
    except UsageError:
        return False
    return True


def compile_detector(
    detector: Detector, runtime: str, device: str, folder: Path | None = None
) -> CompiledDetector | None:
    """Return a detector in another runtime; ``None``, with a warning, where its maps would differ.

    Args:
        detector: The model, in evaluation mode, on the CPU.
        runtime: ``onnx`` or ``openvino``.
        device: As ``check_device`` takes it.
        folder: Where the graph is kept; in the user's cache if ``None`` or if it cannot be written.

    Raises:
        UsageError: If the runtime, or what writes a graph, is not installed.
    """
    package = PACKAGES[runtime]
    path = _place(folder) / f"{_name(detector, package, device)}.graph"
    if (data := _read(path)) is not None:
        try:
            return CompiledDetector(open_graph(data, package, device), detector.config)
        except ModelError:
            pass  # whole, but of no use to this runtime: made anew
    try:
        data = _write_graph(detector)
        compiled = CompiledDetector(open_graph(data, package, device), detector.config)
        _hold_against(detector, compiled, f"The network in {package}")
    except UsageError:
        raise
    except ThreecadError as error:
        warnings.warn(f"{error}\nComputing with PyTorch instead.", stacklevel=3)
        return None
    _keep(path, data)
    return compiled


class _Maps(nn.Module):
    """(N, 3, h, w) float32 normalised → (N, 1, h, w) smoothed maps, as ``predict_maps``."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.network, self.config = Network(detector), detector.config

    def forward(self, image: Tensor) -> Tensor:
        return processing.smooth(self.network(image), self.config)


def _place(folder: Path | None) -> Path:
    if folder is not None:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if there.is_dir() and os.access(there, os.W_OK):
            return folder
    return user_cache() / "runtimes"


def _name(detector: Detector, package: str, device: str) -> str:
    """Everything that a graph, and its right to be used, depends on."""
    versions = find_versions(("torch", "onnx", "onnxscript", package, f"{package}-gpu"))
    weights = digest_tensors(detector.config, detector.state_dict())
    size = detector.config.image_size
    key = hashlib.sha256(repr((weights, size, sorted(versions.items()), device)).encode())
    return f"{package}-{key.hexdigest()[:24]}"


def _read(path: Path) -> bytes | None:
    """Return a kept graph; ``None`` if there is none, or a damaged one."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, data = content[:DIGEST], content[DIGEST:]
    return data if hashlib.sha256(data).hexdigest().encode() == digest else None


def _keep(path: Path, data: bytes) -> None:
    digest = hashlib.sha256(data).hexdigest().encode()
    try:
        atomic.write_bytes(path, digest + data)
    except OSError as error:
        warnings.warn(f"{path} cannot be written ({error}); made anew next time.", stacklevel=4)


def _write_graph(detector: Detector) -> bytes:
    example = torch.zeros(2, 3, *detector.config.image_size)
    with tempfile.TemporaryDirectory(prefix="cfrg-runtime-") as folder:
        path = Path(folder, "network.onnx")
        try:
            write_onnx(_Maps(detector), example, path, {}, ("batch",), ("anomaly_map",))
        except ThreecadError:
            raise
        except Exception as error:  # whatever an exporter raises
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"The network cannot be written as a graph: {first}.") from error
        return path.read_bytes()


def _hold_against(detector: Detector, compiled: CompiledDetector, what: str) -> None:
    """Refuse a graph whose maps or scores are not the network's.

    Raises:
        ModelError: Says where they differ.
    """
    try:
        parity = compare(_pairs(detector, compiled), None)
    except ThreecadError:
        raise
    except Exception as error:  # each runtime raises its own types
        raise ModelError(f"{what} fails: {str(error).splitlines()[0]}.") from error
    parity.check(TOLERANCES["float32"], what, advice="")


@torch.inference_mode()
def _pairs(detector: Detector, compiled: CompiledDetector) -> Iterator[ModelAndGraph]:
    config = detector.config
    pictures = _draw(config)
    for first in range(0, COMPARED, 2):  # in batches, as they will come
        images = processing.normalize(pictures[first : first + 2], config)
        both: list[Any] = [d.predict_maps(images) for d in (detector, compiled)]
        scores = [processing.finish(maps, config)[1] for maps in both]
        for i in range(len(images)):
            yield ModelAndGraph(
                id=f"texture {first + i}",
                expected=both[0][i, 0].numpy(),
                found=both[1][i, 0].numpy(),
                expected_score=float(scores[0][i]),
                found_score=float(scores[1][i]),
                decision=None,
            )


def _draw(config: CFRGConfig) -> Tensor:
    """Return textures, and noise last, as (N, 3, h, w) uint8."""
    height, width = config.image_size
    side = max(height, width, 8)
    drawn = [texture(i, side)[:height, :width] for i in range(COMPARED - 1)]
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return torch.stack([processing.to_tensor(image) for image in (*drawn, noise)])
