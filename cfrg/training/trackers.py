"""Experiment trackers that get what ``log.jsonl`` gets, through Accelerate's classes.

A tracker is a convenience. What it needs is asked for before a training begins; what goes wrong
later, as when its server is out of reach, ends the tracker and not the training.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["TRACKERS", "Tracker", "require_trackers"]

PROJECT = "cfrg"
"""What the trackers call the project, or experiment, that the runs are in."""

TRACKERS = {
    "comet": ("comet_ml", "comet-ml"),
    "mlflow": ("mlflow", "mlflow"),
    "tensorboard": ("tensorboard", '"threecad[tensorboard]"'),
    "trackio": ("trackio", "trackio"),
    "wandb": ("wandb", "wandb"),
}
"""The module of each tracker, and what pip calls it."""

_LOGGER = logging.getLogger(__name__)


def require_trackers(names: Iterable[str]) -> None:
    """Raise ``UsageError`` if a tracker is unknown or its package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"No tracker {name!r}. There are: {', '.join(TRACKERS)}.")
        module, package = TRACKERS[name]
        if find_spec(module) is None:
            raise UsageError(
                f"log_with {name!r}: the package {module} is not installed. "
                f"Run: pip install {package}"
            )


class Tracker:
    """One tracker during one training; silent from its first failure on, of which it warns.

    Args:
        name: One of ``TRACKERS`` but TensorBoard, which writes event files beside the log.
        run: What the run is called.
        facts: Options and configuration.
    """

    def __init__(self, name: str, run: str, facts: Mapping[str, Any]) -> None:
        self.name = name
        self._tracker: Any = None
        try:
            self._tracker = _start(name, run)
            self._tracker.store_init_configuration(_flat(facts))
        except Exception as error:
            self._give_up(error)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Hand on the values of a step."""
        if self._tracker is not None:
            try:
                self._tracker.log(values, step=step)
            except Exception as error:
                self._give_up(error)

    def close(self) -> None:
        """Send what is left, and end the tracker's run."""
        if self._tracker is not None:
            try:
                self._tracker.finish()
            except Exception as error:
                self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._tracker = None
        said = (str(error) or type(error).__name__).splitlines()[0]
        _LOGGER.warning("%s gets nothing more of this training: %s", self.name, said)


def _start(name: str, run: str) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind = LOGGER_TYPE_TO_CLASS[TRACKERS[name][0]]
    if name == "mlflow":
        tracker = kind(experiment_name=PROJECT, run_name=run)
    elif name == "comet":
        tracker = kind(PROJECT)
    elif name == "trackio":
        tracker = kind(PROJECT, name=run, resume="allow")
    else:
        tracker = kind(PROJECT, name=run)
    if hasattr(tracker, "start"):  # older releases of Accelerate start it at once
        tracker.start()
    return tracker


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as the trackers take them: numbers, words and nothing."""
    simple = (bool, int, float, str)
    return {
        name: value if isinstance(value, simple) else str(value) for name, value in facts.items()
    }
