"""What there is to compare: the calibration's good images, and production's lines."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.images.appearance import STATISTICS
from cfrg.inference.thresholds import Threshold
from cfrg.run_folder import RunFolder
from threecad.errors import DataError, ModelError, UsageError
from threecad.system.json_files import read_object

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Values = npt.NDArray[np.float64]

__all__ = ["WATCHED", "Stream", "read_reference", "read_stream"]

WATCHED = ("score", *STATISTICS)
"""What is compared, by its name in files."""


@dataclass(frozen=True)
class Stream:
    """Parts in their order.

    Attributes:
        values: (number of parts,) float64 by name of the statistic; those that some line lacks are
            left out.
        broken: Number of images that could not be read.
    """

    values: dict[str, Values]
    broken: int = 0

    def __len__(self) -> int:
        return len(self.values["score"])


def read_reference(run: str | os.PathLike[str]) -> tuple[Threshold, Stream]:
    """Return the thresholds of a run, and the good images that they were found on.

    Raises:
        UsageError: If the run was not calibrated, or by a version that kept no values.
        ModelError: If ``calibration.json`` is damaged.
    """
    path = RunFolder(run).calibration
    again = "Run `cfrg calibrate` again."
    try:
        content = read_object(path)
    except FileNotFoundError:
        raise UsageError(f"{run} has no calibration to compare with. {again}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {error}. {again}") from None
    threshold = Threshold.from_dict(content, str(path))
    if "reference" not in content:
        raise UsageError(f"{path} was written before values of good images were kept. {again}")
    kept = content["reference"]
    try:
        values = {name: _finite(kept[name]) for name in WATCHED}
        if {len(v) for v in values.values()} != {threshold.images}:
            raise ValueError(f"its lists are not of {threshold.images} images")
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ModelError(f"{path}, reference: {reason}. {again}") from None
    return threshold, Stream(values)


def read_stream(files: Sequence[str | os.PathLike[str]]) -> Stream:
    """Return the parts of files that ``cfrg predict`` wrote or is writing, one after another.

    A last line that has no end yet is left for the next time.

    Raises:
        DataError: If a file cannot be read, or a line is none of a prediction's.
    """
    rows: list[dict[str, float]] = []
    broken = 0
    for file in files:
        for where, line in _lines(Path(file)):
            row = _read_line(line, where)
            if row is None:
                broken += 1
            else:
                rows.append(row)
    names = [name for name in WATCHED if all(name in row for row in rows)]
    return Stream({n: np.array([row[n] for row in rows], np.float64) for n in names}, broken)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.endswith("\n") and line.strip():
                    yield f"{path}, line {number}", line
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path} cannot be read: {reason}. Name a predictions.jsonl that `cfrg predict` wrote."
        ) from None


def _read_line(line: str, where: str) -> dict[str, float] | None:
    """Return the values of a line; ``None`` for an image that could not be read."""
    try:
        content = json.loads(line)
        if "error" in content:
            return None
        found = {"score": content["score"], **(content.get("appearance") or {})}
        return {name: float(_finite([found[name]])[0]) for name in WATCHED if name in found}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise DataError(
            f"{where}: {line.strip()[:60]!r} is no line of a prediction. Expected what `cfrg "
            "predict` writes to predictions.jsonl."
        ) from None


def _finite(values: Any) -> Values:
    """Return a list of finite numbers as an array.

    Raises:
        TypeError: If it is no list of numbers.
        ValueError: If one is not finite.
    """
    if not isinstance(values, list):
        raise TypeError("expected a list of numbers")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{str(value)[:40]!r} is no number")
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            raise ValueError(f"{str(value)[:40]!r} is no finite number")
    return np.array(values, np.float64)
