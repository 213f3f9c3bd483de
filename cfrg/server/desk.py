"""The desk: a bounded number of requests waits here for threads that compute.

A place is taken before a request's body is read, so that what waits is bounded in bytes, too.
Threads are enough: decoding, resizing and the network let go of Python's lock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cfrg.inference.deadlines import ending
from cfrg.server.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfrg.inference.prediction import Prediction
    from cfrg.server.photographs import Photograph
    from cfrg.server.runs import ServedRun

__all__ = ["Desk"]


@dataclass
class _Job:
    run: ServedRun
    photographs: list[Photograph]
    until: float
    answer: Future[list[Prediction]] = field(default_factory=Future)


class Desk:
    """Takes requests and has them answered by threads; full, it says so at once.

    Args:
        workers: Threads that decode and compute.
        queue: Requests that may wait beside those being computed.
        max_pixels: Of an image.
    """

    def __init__(self, *, workers: int = 1, queue: int = 64, max_pixels: int) -> None:
        self.places = workers + queue
        self.max_pixels = max_pixels
        self.accepted = 0
        self.computing = 0
        self.closed = False
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._threads = [
            threading.Thread(target=self._work, name=f"detector-{n}", daemon=True)
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests that no thread has taken yet."""
        return len(self._waiting)

    def check_open(self) -> None:
        """Refuse requests once the server is to end.

        Raises:
            RefusedError: 503.
        """
        if self.closed:
            raise RefusedError(503, "The server is about to end.", retry_after=5)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for a request, from before its body is read until it is answered.

        Raises:
            RefusedError: 429 if all are taken, 503 once the server is to end.
        """
        with self._changed:
            self.check_open()
            if self.accepted >= self.places:
                raise RefusedError(429, "Too many requests are waiting.", retry_after=1)
            self.accepted += 1
        try:
            yield
        finally:
            with self._changed:
                self.accepted -= 1

    def ask(
        self, run: ServedRun, photographs: list[Photograph], until: float
    ) -> Future[list[Prediction]]:
        """Have images looked at.

        Args:
            run: By which detector.
            photographs: The images.
            until: When nobody waits any more, by ``time.monotonic``.

        Returns:
            The predictions, in order; a ``TimeoutError`` if there was no time. Cancelled, it is
            not begun.
        """
        job = _Job(run, photographs, until)
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        return job.answer

    def close(self) -> None:
        """Take no more requests; those that have a place are answered."""
        with self._changed:
            self.closed = True

    def end(self) -> None:
        """End the threads, once they have done what they do."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            self._compute(jobs)
            with self._changed:
                self.computing -= len(jobs)

    def _next(self) -> list[_Job]:
        """Return the request whose turn it is, and others that fit into its batch."""
        with self._changed:
            while True:
                jobs = self._take()
                if jobs or self._ended:
                    self.computing += len(jobs)
                    return jobs
                self._changed.wait()

    def _take(self) -> list[_Job]:
        jobs: list[_Job] = []
        images = 0
        for job in list(self._waiting):
            if jobs and (
                job.run is not jobs[0].run
                or images + len(job.photographs) > job.run.predictor.batch_size
            ):
                continue
            self._waiting.remove(job)
            if job.answer.set_running_or_notify_cancel():
                jobs.append(job)
                images += len(job.photographs)
        return jobs

    def _compute(self, jobs: list[_Job]) -> None:
        run = jobs[0].run
        latest = max(job.until for job in jobs)
        try:
            if time.monotonic() > latest:
                raise TimeoutError
            predictor = ending(run.predictor, latest)
            images = (
                photograph.prepare(predictor, self.max_pixels)
                for job in jobs
                for photograph in job.photographs
            )
            predictions = list(predictor.predict_prepared(images))
        except Exception as error:  # it belongs to whoever asked
            for job in jobs:
                job.answer.set_exception(error)
            return
        for job in jobs:
            count = len(job.photographs)
            own, predictions = predictions[:count], predictions[count:]
            job.answer.set_result(own)
