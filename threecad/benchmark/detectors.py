"""What the benchmark asks of a method, and where methods are found.

A method's name is one of anomalib's models (``MODELS`` in ``anomalib_models``), the name of an
entry point in the group ``threecad.detectors`` (``cfrg`` is one), or ``module:Class``.
"""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from threecad.benchmark.anomalib_models import MODELS, AnomalibDetector
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from threecad.dataset import ThreeCAD

__all__ = [
    "GROUP",
    "PUBLISHED_NAMES",
    "UNAVAILABLE",
    "Detector",
    "Trial",
    "check_method",
    "find_detector",
    "list_methods",
]

GROUP = "threecad.detectors"
"""The group of entry points with which other packages offer detectors."""

PUBLISHED_NAMES = {
    "cfrg": "CFRG",
    "padim": "PaDiM",
    "fastflow": "FastFlow",
    "rd": "RD",
    "rdpp": "RD++",
    "simplenet": "SimpleNet",
    "draem": "DRAEM",
    "destseg": "DeSTSeg",
    "realnet": "RealNet",
    "uniad": "UniAD",
    "crad": "CRAD",
}
"""Method → its name in the published tables."""

_ABSENT = (
    "anomalib does not offer {} and it is not written again here: score a folder of its maps "
    "(`threecad evaluate`, then --results), or give an adapter as module:Class"
)

UNAVAILABLE = {
    name: _ABSENT.format(PUBLISHED_NAMES[name])
    for name in ("rdpp", "simplenet", "destseg", "realnet", "uniad", "crad")
}
"""Known method → why the benchmark cannot run it."""


@dataclass(frozen=True)
class Trial:
    """One method on one category with one seed: what a detector is made from.

    Attributes:
        method: Name of the method.
        category: Name of the category.
        seed: Random seed; Python's, NumPy's and torch's generators are seeded with it already.
        folder: Folder of this trial, for whatever the detector wants to keep.
        image_size: Height and width of the network's input, pixels.
        device: ``cpu``, ``cuda``, …
        max_steps: At most so many optimiser steps; ``None`` for the method's own budget.
        backbone: Backbone instead of the method's own, for methods that let it be chosen.
        backbone_weights: Folder with files of pretrained weights.
        textures: Folder of texture photographs, for methods that draw synthetic defects.
        options: What was given with ``--set METHOD.KEY=VALUE``.
    """

    method: str
    category: str
    seed: int
    folder: Path
    image_size: int = 256
    device: str = "cpu"
    max_steps: int | None = None
    backbone: str | None = None
    backbone_weights: Path | None = None
    textures: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Trial:
        """Return the trial that ``to_dict`` wrote."""
        paths = {
            key: Path(plain[key])
            for key in ("folder", "backbone_weights", "textures")
            if plain[key] is not None
        }
        return cls(**{**plain, **paths})


class Detector(Protocol):
    """A method under test: a class that is called with a ``Trial``.

    It may have an attribute ``facts``, a dict of JSON values that say how it was run, such as
    ``parameters``, ``steps``, ``backbone`` or ``input``; it is read after ``fit``.
    """

    def fit(self, images: ThreeCAD) -> None:
        """Learn from the good training images of one category.

        Whatever a method selects or calibrates, it does on these images; it never sees others.

        Args:
            images: Gives dicts with ``image`` (3, H, W) uint8, of any size; ``images.index`` names
                the files.
        """
        ...

    def predict(
        self, paths: Sequence[Path]
    ) -> Iterable[tuple[NDArray[np.floating[Any]], float | None]]:
        """Yield an anomaly map and an image score for every file, in order.

        The map is (h, w) float of any size and finite range, higher is more anomalous; it stands
        for the whole image. A score of ``None`` is the maximum of the map.
        """
        ...


def list_methods() -> dict[str, str]:
    """Return every method by name, with what it is or why it cannot be run."""
    with_anomalib = find_spec("anomalib") is not None
    hint = "" if with_anomalib else " (needs: pip install 'threecad[bench]')"
    methods = {
        point.name: f"entry point {point.value}"
        for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)
    }
    methods |= {name: f"{model.title}, by anomalib{hint}" for name, model in MODELS.items()}
    return methods | {name: f"not available: {reason}" for name, reason in UNAVAILABLE.items()}


def check_method(name: str) -> None:
    """Refuse a name that means nothing.

    Raises:
        UsageError: If it is no known method; close ones are named.
    """
    known = list(list_methods())
    if ":" not in name and name not in known:
        close = get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise UsageError(
            f"There is no method {name!r}.{hint} There are: {', '.join(known)}, and your own as "
            "module:Class."
        )
    if ":" in name and not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name):
        raise UsageError(f"{name!r} is no detector. Expected module:Class, as in Python.")


def find_detector(name: str) -> Callable[[Trial], Detector]:
    """Return the class (or function) that makes the detector of a trial.

    Raises:
        UsageError: If there is none of that name, or it cannot be imported.
    """
    check_method(name)
    if name in UNAVAILABLE:
        raise UsageError(f"{name} is not available: {UNAVAILABLE[name]}.")
    if name in MODELS:
        return AnomalibDetector
    if ":" in name:
        module, _, attribute = name.partition(":")
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            found: Callable[[Trial], Detector] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UsageError(
                f"{name} cannot be imported: {error}. Expected module:Class, with the module in "
                "this folder or installed."
            ) from error
        return found
    (point,) = entry_points(group=GROUP, name=name)
    offered: Callable[[Trial], Detector] = point.load()
    return offered
