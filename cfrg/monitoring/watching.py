"""Production against the calibration: which statistic changed, since when, and what to look at.

Tested are the parts that the detector calls good, against the calibration's images that it would:
how many parts are defective nobody promised, so those stopped are counted apart. Given the
threshold, one of the calibration's own scores, the good images below it are as exchangeable as all
were before. Each of the K statistics has the share α/K of the false-alarm rate (Bonferroni).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cfrg.monitoring.martingale import bet_on_ranks, bet_on_rate, find_change, rank
from cfrg.monitoring.streams import WATCHED, read_reference, read_stream
from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from cfrg.monitoring.golden import Golden

    Values = npt.NDArray[np.float64]

__all__ = ["SCHEMA", "Report", "Watched", "monitor"]

SCHEMA = "cfrg.monitor/1"

STOPPED = "stopped"
"""Name of the share of parts that are stopped, the last of the statistics."""

_NOTICED = {
    "brightness": ("images are darker", "images are brighter"),
    "contrast": ("images have less contrast", "images have more contrast"),
    "sharpness": ("images are less sharp", "images are sharper or noisier"),
    "x": ("parts lie further left", "parts lie further right"),
    "y": ("parts lie higher", "parts lie lower"),
}

_ADVICE = {
    "brightness": "look at the lamp and the exposure",
    "contrast": "look at the lamp, and at dust or haze on the lens",
    "sharpness": "look at focus, motion and the camera's gain",
    "x": "look at the fixture and the trigger",
    "y": "look at the fixture and the trigger",
}


@dataclass(frozen=True)
class Watched:
    """One statistic over time.

    Attributes:
        name: ``score``, one of ``cfrg.images.appearance.STATISTICS``, or ``stopped``.
        parts: Positions of the parts tested, counted from 1 over all that were read.
        values: Their values; of ``stopped``, 0 and 1.
        usual: Median at calibration; of ``stopped``, the share that is accepted.
        capital: Natural logarithm of the capital after each part.
        needed: Logarithm of the capital at which it alarms.
        alarm: The part at which it did; ``None`` if it did not.
        since: About the part from which on it differs; ``None`` without an alarm.
        rises: Whether it has risen since; ``None`` without an alarm.
    """

    name: str
    parts: npt.NDArray[np.intp]
    values: Values
    usual: float
    capital: Values
    needed: float
    alarm: int | None
    since: int | None
    rises: bool | None

    @property
    def now(self) -> float:
        """Median, or share of those stopped, from the change to the alarm; of all without one."""
        seen = self.parts <= (self.alarm or np.inf)
        chosen = self.values[seen & (self.parts >= (self.since or 0))]
        if not len(chosen):
            return math.nan
        return float(chosen.mean() if self.name == STOPPED else np.median(chosen))

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-able data, capital as its decimal logarithm."""
        capital = float(self.capital.max()) / math.log(10) if len(self.capital) else 0.0
        return {
            "name": self.name,
            "tested": len(self.parts),
            "usual": self.usual,
            "now": None if math.isnan(self.now) else self.now,
            "log10_capital": capital,
            "log10_capital_needed": self.needed / math.log(10),
            "alarm": self.alarm,
            "since": self.since,
            "rises": self.rises,
        }


@dataclass(frozen=True)
class Report:
    """What a look at production found.

    Attributes:
        run: The run folder.
        files: The files that were read.
        parts: Number of parts in them.
        broken: Number of images that could not be read, which do not count as parts.
        reference: Number of good images that parts are compared with.
        false_alarm_rate: Greatest chance that anything ever alarms without a change.
        watched: The statistics.
        missing: Names of those that the files do not hold.
        warning: What is questionable about the comparison.
        golden: The spread of one part photographed repeatedly, where it was asked for.
    """

    run: str
    files: tuple[str, ...]
    parts: int
    broken: int
    reference: int
    false_alarm_rate: float
    watched: tuple[Watched, ...]
    missing: tuple[str, ...] = ()
    warning: str | None = None
    golden: Golden | None = None

    @property
    def alarms(self) -> bool:
        """Whether something has changed, or the golden part spreads too far."""
        return any(w.alarm for w in self.watched) or bool(self.golden and self.golden.notable)

    @property
    def sentences(self) -> list[str]:
        """What to tell a person: what changed, since when, and what to look at."""
        alarmed = {w.name: w for w in self.watched if w.alarm}
        said = [
            f"Since about part {w.since:,} {_NOTICED[name][bool(w.rises)]}: {_ADVICE[name]}."
            for name, w in alarmed.items()
            if name in _NOTICED
        ]
        alone = not said
        if score := alarmed.get("score"):
            said.append(_say_scores(score, alone=alone))
        if stopped := alarmed.get(STOPPED):
            advice = (
                "check the parts; if they are good, train again with them among the good ones"
                if alone
                else "mend that first, or train again with images as they are now"
            )
            said.append(
                f"Since about part {stopped.since:,} {stopped.now:.0%} of the parts are stopped, "
                f"more than the {stopped.usual:.0%} accepted: {advice}."
            )
        if self.watched and not said:
            said = [f"No change in {self.parts:,} parts."]
        return said + ([str(self.golden)] if self.golden else [])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-able data."""
        return {
            "schema": SCHEMA,
            "run": self.run,
            "files": list(self.files),
            "parts": self.parts,
            "broken": self.broken,
            "reference_images": self.reference,
            "false_alarm_rate": self.false_alarm_rate,
            "alarm": self.alarms,
            "sentences": self.sentences,
            "statistics": [w.to_dict() for w in self.watched],
            "missing": list(self.missing),
            "warning": self.warning,
            "golden": self.golden and self.golden.to_dict(),
        }


def monitor(
    run: str | os.PathLike[str],
    predictions: Sequence[str | os.PathLike[str]] = (),
    *,
    false_alarm_rate: float = 0.01,
    most_stopped: float = 0.1,
    golden: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Report:
    """Compare the parts of predictions with the good images that a run was calibrated on.

    The same files give the same answer, and longer ones the same answer for what was there before:
    ``predictions`` may be looked at again whenever they have grown.

    Args:
        run: The run folder, calibrated.
        predictions: Files ``predictions.jsonl``, in the order of time.
        false_alarm_rate: Greatest chance that anything *ever* alarms while parts stay exchangeable
            with the calibration's and no more than ``most_stopped`` of them are stopped.
        most_stopped: Share of stopped parts that is accepted.
        golden: Folder of repeated photographs of one part, for ``measure_golden``.
        **options: Given to ``Predictor``, for ``golden``.

    Raises:
        UsageError: If there is nothing to compare, or the run's calibration kept no values.
        DataError: If a file cannot be read, or holds something else.
    """
    for name, value in (("false_alarm_rate", false_alarm_rate), ("most_stopped", most_stopped)):
        if not 0 < value < 1:
            raise UsageError(f"`{name}` is {value}; expected between 0 and 1.")
    if not predictions and golden is None:
        raise UsageError("Name predictions, or photographs of one part with `golden`.")
    threshold, reference = read_reference(run)
    stream = read_stream(predictions)
    if predictions and not len(stream):
        raise UsageError(f"{predictions[0]} holds no parts yet.")
    limit = threshold.image_threshold
    below = reference.values["score"] < limit
    report = Report(
        run=os.fspath(run),
        files=tuple(os.fspath(file) for file in predictions),
        parts=len(stream),
        broken=stream.broken,
        reference=int(below.sum()),
        false_alarm_rate=false_alarm_rate,
        watched=(),
        missing=tuple(name for name in WATCHED if name not in stream.values),
    )
    if predictions:
        needed = math.log((len(WATCHED) + 1) / false_alarm_rate)
        passed = stream.values["score"] < limit
        parts = np.flatnonzero(passed) + 1
        watched = [
            _watch(name, reference.values[name][below], values[passed], parts, needed, seed)
            for seed, name in enumerate(WATCHED)
            if (values := stream.values.get(name)) is not None
        ]
        watched.append(_watch_stopped(~passed, most_stopped, needed))
        report = replace(report, watched=tuple(watched))
    if threshold.source == "train-good":
        report = replace(
            report,
            warning="The run was calibrated on images that it was trained on, which score lower "
            "than others: scores of good parts will seem to rise.",
        )
    if golden is not None:
        from cfrg.monitoring.golden import measure_golden

        usual = float(np.median(reference.values["score"]))
        report = replace(report, golden=measure_golden(run, golden, usual, **options))
    return report


def _watch(
    name: str,
    reference: Values,
    values: Values,
    parts: npt.NDArray[np.intp],
    needed: float,
    seed: int,
) -> Watched:
    ranks = rank(reference, values, seed)
    capital = bet_on_ranks(ranks)
    alarm = since = rises = None
    if (first := _first(capital, needed)) is not None:
        change = find_change(ranks[: first + 1], 0.5, math.sqrt(1 / 12))
        alarm, since = int(parts[first]), int(parts[change])
        rises = bool(ranks[change : first + 1].mean() > 0.5)
    usual = float(np.median(reference)) if len(reference) else math.nan
    return Watched(name, parts, values, usual, capital, needed, alarm, since, rises)


def _watch_stopped(stopped: npt.NDArray[np.bool_], most: float, needed: float) -> Watched:
    capital = bet_on_rate(stopped, most)
    values = stopped.astype(np.float64)
    parts = np.arange(1, len(stopped) + 1)
    alarm = since = rises = None
    if (first := _first(capital, needed)) is not None:
        change = find_change(values[: first + 1], most, math.sqrt(most * (1 - most)))
        alarm, since, rises = first + 1, change + 1, True
    return Watched(STOPPED, parts, values, most, capital, needed, alarm, since, rises)


def _first(capital: Values, needed: float) -> int | None:
    reached = np.flatnonzero(capital >= needed)
    return int(reached[0]) if len(reached) else None


def _say_scores(score: Watched, *, alone: bool) -> str:
    direction = "rise" if score.rises else "fall"
    if not alone:
        return f"Since about part {score.since:,} scores {direction}, too."
    advice = (
        "check the parts; if they are good, train again with them among the good ones"
        if score.rises
        else "defects may be missed; send some to a person, and calibrate again"
    )
    return (
        f"Since about part {score.since:,} scores {direction} while images look the same: {advice}."
    )
