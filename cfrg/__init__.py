"""cfrg: the CFRG anomaly detector of 3CAD: training, prediction, evaluation, export."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from threecad.version import __version__

# Public name -> the module that defines it. Nothing is imported before it is asked for, so that
# `import cfrg` and `cfrg --help` do not load torch.
_EXPORTS: dict[str, str] = {
    "CFRG": "cfrg.network.model",
    "CFRGConfig": "cfrg.network.config",
    "CFRGOutput": "cfrg.network.model",
    "NearestNeighbourMemory": "cfrg.memory.neighbours",
    "Predictor": "cfrg.inference.predictor",
    "TrainingOptions": "cfrg.training.loop",
    "fit": "cfrg.training.loop",
}

__all__ = [
    "CFRG",
    "CFRGConfig",
    "CFRGOutput",
    "NearestNeighbourMemory",
    "Predictor",
    "TrainingOptions",
    "__version__",
    "fit",
]

if TYPE_CHECKING:
    from cfrg.inference.predictor import Predictor
    from cfrg.memory.neighbours import NearestNeighbourMemory
    from cfrg.network.config import CFRGConfig
    from cfrg.network.model import CFRG, CFRGOutput
    from cfrg.training.loop import TrainingOptions, fit


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'cfrg' has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
