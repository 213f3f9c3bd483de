"""The runs that a server answers for, by name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfrg.inference.predictor import Predictor
from cfrg.server.refusals import RefusedError
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ServedRun", "choose_run", "load_runs"]

_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


@dataclass(frozen=True)
class ServedRun:
    """A detector under the name it is asked by.

    Attributes:
        name: Letters, digits, ``.``, ``-`` and ``_``.
        predictor: The detector with its thresholds, if it has some.
    """

    name: str
    predictor: Predictor

    def to_dict(self) -> dict[str, Any]:
        """Return what the run is, as JSON-able data."""
        height, width = self.predictor.tiling.image_size
        return {
            "name": self.name,
            "category": self.predictor.category,
            "network_size": [width, height],
            "tile": self.predictor.tiling.tile,
        }


def load_runs(runs: Sequence[str | os.PathLike[str]], **options: Any) -> dict[str, ServedRun]:
    """Return the runs by name.

    Args:
        runs: Run folders, or ``owner/name`` on the Hub; ``NAME=RUN`` gives another name than that
            of the folder or repository.
        **options: Given to ``Predictor``.

    Raises:
        ModelError: If a run cannot be loaded.
        UsageError: If there is no run, or two have one name.
    """
    if not runs:
        raise UsageError("Name at least one run.")
    sources: dict[str, str] = {}
    for run in runs:
        name, source = _split_name(os.fspath(run))
        if name in sources:
            raise UsageError(
                f"{sources[name]} and {source} would both be called {name}. Give one of them "
                f"another name: `other={source}`."
            )
        sources[name] = source
    return {
        name: ServedRun(name, Predictor.from_pretrained(source, **options))
        for name, source in sources.items()
    }


def choose_run(runs: Mapping[str, ServedRun], name: str | None) -> ServedRun:
    """Return the run of a name, or the only one.

    Raises:
        RefusedError: If there is none of this name, or several and no name.
    """
    known = ", ".join(runs)
    if name is None:
        if len(runs) > 1:
            raise RefusedError(400, f"There are several runs; say which: {known}.")
        return next(iter(runs.values()))
    if name not in runs:
        raise RefusedError(404, f"There is no run of this name. There is {known}.")
    return runs[name]


def _split_name(run: str) -> tuple[str, str]:
    name, equals, source = run.partition("=")
    if not equals or Path(run).exists():
        source = run
        name = re.sub(r"[^\w.-]", "-", Path(run).resolve().name, flags=re.ASCII)[:64]
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a run. Expected up to 64 letters, digits, `.`, `-` and `_`."
        )
    return name, source
