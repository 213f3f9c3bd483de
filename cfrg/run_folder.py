"""A run folder: the names of its files, who may write it, and what belongs to its weights.

``run.json``, ``result.json`` and ``calibration.json`` name the weights that they belong to by
``weights_digest``. Older ones without it are taken at their word, as they lie beside the weights.
A run is replaced as a whole: its successor is made in ``.<name>.partial`` beside it and changes
places with it when it is finished.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from threecad.errors import ModelError, UsageError
from threecad.system import atomic
from threecad.system.json_files import read_object
from threecad.system.locking import is_leftover, writing_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "CALIBRATION",
    "RECORD",
    "RESULT",
    "RunFolder",
    "check_record",
    "digest_of",
    "writes_run",
]

F = TypeVar("F", bound="Callable[..., Any]")

RECORD, RESULT, CALIBRATION = "run.json", "result.json", "calibration.json"

_TYPES: dict[str, tuple[type, ...]] = {
    "schema": (str,),
    "category": (str,),
    "seed": (int, type(None)),
    "images": (int,),
    "data_fingerprint": (str, type(None)),
    "errata_digest": (str, type(None)),
    "split_file": (str, type(None)),
    "fold": (int, type(None)),
    "held_out": (list,),
    "hard_negatives": (int,),
    "config": (dict,),
    "options": (dict,),
    "versions": (dict,),
    "imported_from": (dict,),
    "teacher_weights": (dict,),
    "weights_digest": (str,),
}
"""The fields of ``run.json`` that are looked at, where they are there."""

_JSON_NAMES = {
    str: "a text", int: "an integer", list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip

_MARK = f"{atomic.TEMPORARY_PREFIX}successor"
"""File in a folder that is to replace a run; one without it beside a run is what was replaced."""


class RunFolder:
    """The files of a run.

    Args:
        path: The folder; it need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.weights = self.path / "model.safetensors"
        self.card = self.path / "README.md"
        self.record = self.path / RECORD
        self.result = self.path / RESULT
        self.calibration = self.path / CALIBRATION
        self.trained_on = self.path / "trained_on.sha256"
        self.log = self.path / "log.jsonl"
        self.state = self.path / "checkpoints" / "last.safetensors"
        self.events = self.path / "tensorboard"
        self.figures = self.path / "figures"
        self.exports = self.path / "export"
        self.runtimes = self.path / "runtimes"

    @property
    def successor(self) -> RunFolder:
        """What is to replace this run once it is finished."""
        path = self.path.resolve()
        return RunFolder(path.with_name(f".{path.name}.partial"))

    @property
    def has_successor(self) -> bool:
        """Whether one is being made, or was when its process ended."""
        return (self.successor.path / _MARK).is_file()

    def discard_successor(self) -> None:
        """Throw away what was to replace this run. Call it while ``writing``."""
        if self.successor.path.exists():
            shutil.rmtree(self.successor.path)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there but what a killed process left."""
        return not self.path.is_dir() or all(is_leftover(p.name) for p in self.path.iterdir())

    @property
    def holds_run(self) -> bool:
        """Whether a model or a training is there, finished or not."""
        return self.record.is_file() or self.weights.is_file()

    def read_record(self) -> dict[str, Any]:
        """Return what ``run.json`` says.

        Raises:
            ModelError: If it is not there or cannot be used.
        """
        try:
            return check_record(read_object(self.record))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"{self.path} is not a run folder: {self.record} cannot be read ({error}). "
                "Name a folder that `cfrg train --out` has written, or train it anew."
            ) from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the right to write the folder; first tidy up after a process that was killed.

        Raises:
            BusyError: If another process trains, calibrates or evaluates this run.
        """
        with writing_alone(self.path):
            atomic.recover_folder(self.path.resolve())
            (self.path / _MARK).unlink(missing_ok=True)
            if not self.has_successor:
                self.discard_successor()
            yield

    @contextmanager
    def writing_if_possible(self) -> Iterator[None]:
        """As ``writing``; a folder that cannot be written needs no protection."""
        if self.path.is_dir() and os.access(self.path, os.W_OK):
            with self.writing():
                yield
        else:
            yield

    def begin_successor(self) -> RunFolder:
        """Return an empty folder that is to replace this run; throw away one begun before.

        Call it while ``writing``.

        Raises:
            UsageError: If the folder cannot be replaced as a whole.
        """
        path, successor = self.path.resolve(), self.successor
        if os.path.ismount(path):
            raise UsageError(
                f"{path} is a disk of its own, so the run in it cannot be replaced in one step. "
                "Choose another `run`, such as a folder inside it."
            )
        atomic.check_writable(path.parent)
        self.discard_successor()
        successor.path.mkdir()
        (successor.path / _MARK).touch()
        return successor

    def finish_successor(self) -> None:
        """Put the successor in the place of this run, in one step.

        Files that are none of a run's are carried over.
        """
        successor = self.successor
        for entry in self.path.iterdir() if self.path.is_dir() else ():
            if not self._is_ours(entry) and not (successor.path / entry.name).exists():
                _carry_over(entry, successor.path / entry.name)
        atomic.replace_folder(successor.path, self.path.resolve())
        (self.path / _MARK).unlink(missing_ok=True)

    def _is_ours(self, entry: Path) -> bool:
        ours = {
            path.relative_to(self.path).parts[0]
            for path in vars(self).values()
            if path != self.path
        }
        return entry.name in ours or is_leftover(entry.name)


def writes_run(function: F) -> F:
    """Let a function whose first argument is a run folder hold the right to write it, if it can."""

    @wraps(function)
    def alone(run: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        with RunFolder(run).writing_if_possible():
            return function(run, *args, **kwargs)

    return cast("F", alone)


def check_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a ``run.json`` if it can be used.

    Raises:
        ValueError: If a field is missing or of another type.
    """
    if "category" not in record:
        raise ValueError('"category" is missing')
    for name, value in record.items():
        kinds = _TYPES.get(name)
        if kinds and (not isinstance(value, kinds) or isinstance(value, bool)):
            expected = " or ".join(_JSON_NAMES[kind] for kind in kinds)
            raise ValueError(f'"{name}" is {str(value)[:40]!r}, expected {expected}')
    if not all(isinstance(name, str) for name in record.get("held_out", ())):
        raise ValueError('"held_out" is not a list of ids')
    return record


def digest_of(name: str, content: Mapping[str, Any]) -> str | None:
    """Return the digest of the weights that the content of a companion file belongs to.

    Args:
        name: ``run.json``, ``result.json`` or ``calibration.json``.
        content: What it holds.

    Returns:
        ``None`` in files of versions that did not write it.
    """
    if name == RESULT:
        run = _object(content.get("provenance")).get("run")
        content = _object(run)
    digest = content.get("weights_digest")
    return digest if isinstance(digest, str) else None


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _carry_over(entry: Path, target: Path) -> None:
    """Copy a file or folder, by links where the disk has them: the original stays whole."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.copytree(entry, target, symlinks=True, copy_function=_link)
    else:
        _link(str(entry), str(target))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)
