"""What the server counts, for Prometheus."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfrg.inference.prediction import Prediction
    from cfrg.server.desk import Desk

__all__ = ["Meters"]

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Meters:
    """Counts requests and answers. Every label has few values, whatever is asked.

    Args:
        desk: Says how many requests wait.
    """

    def __init__(self, desk: Desk) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._requests = Counter(
            "cfrg_requests",
            "Requests by address and status.",
            ("address", "status"),
            registry=self.registry,
        )
        self._seconds = Histogram(
            "cfrg_request_seconds",
            "Seconds from a request's header to the end of its answer.",
            ("address",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._predictions = Counter(
            "cfrg_predictions",
            "Images by run and decision; none without thresholds, error if it cannot be used.",
            ("run", "decision"),
            registry=self.registry,
        )
        self._steps = Histogram(
            "cfrg_step_seconds",
            "Seconds an image takes by run and step.",
            ("run", "step"),
            buckets=SECONDS,
            registry=self.registry,
        )
        for name, said, value in (
            ("cfrg_requests_waiting", "Requests that no thread has taken.", "waiting"),
            ("cfrg_requests_computing", "Requests being computed.", "computing"),
            ("cfrg_requests_accepted", "Requests that hold a place.", "accepted"),
            ("cfrg_places", "Requests that may hold a place.", "places"),
        ):
            gauge = Gauge(name, said, registry=self.registry)
            gauge.set_function(partial(getattr, desk, value))

    def count_request(self, address: str, status: int, seconds: float) -> None:
        """Count a request to one of the server's addresses."""
        self._requests.labels(address, str(status)).inc()
        self._seconds.labels(address).observe(seconds)

    def count_predictions(self, run: str, predictions: Iterable[Prediction]) -> None:
        """Count what a run said."""
        for prediction in predictions:
            said = prediction.to_dict()
            decision = "error" if "error" in said else said["decision"] or "none"
            self._predictions.labels(run, decision).inc()
            for step, seconds in prediction.seconds:
                self._steps.labels(run, step).observe(seconds)

    def render(self) -> bytes:
        """Return all figures as Prometheus reads them (text format 0.0.4)."""
        text: bytes = generate_latest(self.registry)
        return text
