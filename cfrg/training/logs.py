"""What a training run says about itself while it goes on: ``log.jsonl``, and TensorBoard."""

from __future__ import annotations

import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from threecad.errors import ModelError, UsageError
from threecad.system import atomic
from threecad.system.disk import naming
from threecad.system.json_files import parse_object

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cfrg.training.trackers import Tracker

__all__ = ["TrainingLog", "read_log", "require_tensorboard"]


class TrainingLog:
    """One line per logged step; lines past the resumed step are dropped.

    Args:
        path: The file.
        start: The step that the run goes on from.
        tensorboard: Folder of an event file that gets the same values.
        trackers: Experiment trackers that get them, too.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        tensorboard: Path | None = None,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.path, self._trackers = path, trackers
        self._events = _open_events(tensorboard, start) if tensorboard else None
        kept = [line for line in read_log(path) if line["step"] <= start] if start else []
        atomic.write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append a line."""
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        for tracker in self._trackers:
            tracker.write(step, values)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._events:
            self._events.close()
        for tracker in self._trackers:
            tracker.close()


def require_tensorboard() -> None:
    """Raise ``UsageError`` if TensorBoard's event files cannot be written."""
    if find_spec("tensorboard") is None:
        raise UsageError(
            "`tensorboard=True`: the package tensorboard is not installed. "
            'Run: pip install "threecad[tensorboard]"'
        )


def _open_events(folder: Path, start: int) -> Any:
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start + 1 if start else None)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a ``log.jsonl``; a last line cut off by a crash is left out.

    Raises:
        ModelError: If another line is no step of a training.
    """
    if not path.is_file():
        return []
    texts = path.read_bytes().split(b"\n")
    lines = []
    for number, text in enumerate(texts, 1):
        try:
            line = parse_object(text.decode())
            if type(line.get("step")) is not int:
                raise ValueError(f'"step" is {str(line.get("step"))[:40]!r}, expected an integer')
        except ValueError as error:
            if number == len(texts):  # no newline after it
                break
            raise ModelError(
                f"{path}, line {number}: no step of a training ({error}). Remove the line, or "
                "start anew with `force=True`."
            ) from None
        lines.append(line)
    return lines
