"""What was measured, one JSON line per trial, appended as trials end."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from threecad.errors import EvaluationError
from threecad.evaluation.results import Result

__all__ = ["SCHEMA", "Key", "Record", "Store"]

SCHEMA = "threecad.trial/1"

Key = tuple[str, str, int]
"""Method, category and seed."""


@dataclass(frozen=True)
class Record:
    """The outcome of one trial.

    Attributes:
        method: Name of the method.
        category: Name of the category.
        seed: Random seed.
        error: Why it failed; ``None`` if it did not.
        results: Protocol → result on the test images of the category.
        fit_seconds: Wall-clock time of the training, decoding included; ``None`` where a model that
            had been trained before was used.
        fit_cpu_seconds: Processor time of the training, over all threads of the process: unlike the
            wall clock, hardly changed by what else the machine does.
        images_per_second: Test images per second from file to map, decoding included.
        peak_memory: Largest resident memory of the process until the last map, bytes, Python and
            torch included; ``None`` where the system does not tell or the model was trained before.
        peak_gpu_memory: Largest memory on a CUDA device, bytes.
        train_images: Number of good training images.
        test_images: Number of test images.
        facts: What the method says about itself.
        environment: Versions, processor, threads.
        finished: When it ended, UTC, ISO 8601.
    """

    method: str
    category: str
    seed: int
    error: str | None = None
    results: dict[str, Result] = field(default_factory=dict)
    fit_seconds: float | None = None
    fit_cpu_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory: int | None = None
    peak_gpu_memory: int | None = None
    train_images: int = 0
    test_images: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    finished: str = ""

    @property
    def key(self) -> Key:
        """Method, category and seed."""
        return self.method, self.category, self.seed

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        results = {protocol: result.to_dict() for protocol, result in self.results.items()}
        return {"schema": SCHEMA, **asdict(self), "results": results}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Record:
        """Return the record that ``to_dict`` wrote.

        Raises:
            EvaluationError: If it is no record, or of another schema.
        """
        if not isinstance(plain, dict) or plain.get("schema") != SCHEMA:
            raise EvaluationError(f"Expected a trial of schema {SCHEMA!r}.")
        try:
            values = {key: value for key, value in plain.items() if key != "schema"}
            values["results"] = {
                protocol: Result.from_dict(result) for protocol, result in plain["results"].items()
            }
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise EvaluationError(f"The trial is incomplete or damaged: {error!r}.") from None


class Store:
    """The records of a benchmark, in ``trials.jsonl``.

    A line that a crash cut off is passed over, and the trial is run again. Several processes may
    append. Of two records with one key the later counts.

    Args:
        path: The file; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> dict[Key, Record]:
        """Return the records by key.

        Raises:
            EvaluationError: If a line that is complete is no record.
        """
        if not self.path.is_file():
            return {}
        records: dict[Key, Record] = {}
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), 1):
            try:
                plain = json.loads(line)
            except ValueError:  # cut off by a crash, or empty
                continue
            try:
                record = Record.from_dict(plain)
            except EvaluationError as error:
                raise EvaluationError(f"{self.path}, line {number}: {error}") from None
            records[record.key] = record
        return records

    def append(self, record: Record) -> None:
        """Add a record, in one write that is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(record.to_dict(), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with FileLock(f"{self.path}.lock"), self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # what a crash left
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
