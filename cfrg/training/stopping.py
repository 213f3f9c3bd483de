"""Being told to stop: a signal is noted, and the training ends after the current step."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cfrg.images.workers import STOPPING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["asked_to_stop"]

_ONE_SIGNAL = 1.0
"""Seconds within which signals of a kind are one."""


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether the process was asked to stop; Ctrl-C again acts at once.

    Launchers and ``timeout`` send one signal twice, to the process and to its group: a second one
    is a person's only when it comes later, and never SIGTERM.
    """
    asked: float | None = None

    def note(number: int, frame: object) -> None:  # noqa: ARG001
        nonlocal asked
        if asked is None:
            asked = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() > asked + _ONE_SIGNAL:
            raise KeyboardInterrupt

    before: dict[int, Any] = {}
    try:
        for kind in STOPPING:
            if kind == signal.SIGINT or signal.getsignal(kind) != signal.SIG_IGN:  # nohup
                before[kind] = signal.signal(kind, note)
    except ValueError:  # not in the main thread: the caller keeps its own handling
        before = {}
    try:
        yield lambda: asked is not None
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
