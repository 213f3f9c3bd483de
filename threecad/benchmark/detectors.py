"""What the benchmark asks of a method, and where methods are found.

A method's name is one of anomalib's models (``MODELS`` in ``anomalib_models``), the name of an
entry point in the group ``threecad.detectors`` (``cfrg`` is one), or ``module:Class``.
"""

from __future__ import annotations

import importlib
import re
import sys
from difflib import get_close_matches
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from threecad.benchmark.anomalib_models import MODELS, AnomalibDetector
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from threecad.benchmark.interface import Detector, Trial


__all__ = [
    "GROUP",
    "PUBLISHED_NAMES",
    "UNAVAILABLE",
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
    "(`threecad evaluate ROOT MAPS --out FILE`, then `threecad benchmark --results FILE`), or give "
    "an adapter as module:Class"
)

UNAVAILABLE = {
    name: _ABSENT.format(PUBLISHED_NAMES[name])
    for name in ("rdpp", "simplenet", "destseg", "realnet", "uniad", "crad")
}
"""Known method → why the benchmark cannot run it."""


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
