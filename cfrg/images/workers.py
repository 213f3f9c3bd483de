"""Processes that read and draw images while this one computes.

They end when the process that started them ends, and only then: what tells a whole group to stop
(Slurm, systemd, Ctrl-C in a terminal) is for the process that can save its state.
"""

from __future__ import annotations

import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from threecad.errors import ThreecadError, WorkerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.data import Dataset

__all__ = ["STOPPING", "explaining_deaths", "read_in_workers"]

STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""The signals that ask a process to stop."""


def read_in_workers(dataset: Dataset[Any], workers: int, **options: Any) -> Iterator[Any]:
    """Yield what a ``DataLoader`` reads with so many worker processes; 0 reads in this one.

    Args:
        dataset: What to read.
        workers: Number of processes.
        **options: Of the ``DataLoader``.

    Raises:
        WorkerError: If a worker was killed.
    """
    loader = DataLoader(dataset, num_workers=workers, worker_init_fn=_settle, **options)
    with explaining_deaths():
        with _signals_waiting():
            items = iter(loader)
        try:
            yield from items
        finally:
            # An error keeps the iterator alive, and at its end Python would wait for workers that
            # hear no signal.
            getattr(items, "_shutdown_workers", lambda: None)()


def _settle(worker: int) -> None:  # noqa: ARG001
    """Leave stopping, and talking about it, to the process that started this one."""
    for kind in STOPPING:
        signal.signal(kind, signal.SIG_IGN)
    # Only the thread that hands tensors over uses it, when the other side has gone in the middle;
    # errors in reading are handed over themselves.
    sys.excepthook = lambda *_: None


@contextmanager
def _signals_waiting() -> Iterator[None]:
    """Let what is started here be born deaf to signals; those that come in between wait."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def explaining_deaths() -> Iterator[None]:
    """Say in words what torch says when a worker is gone, which it says anywhere, at any time.

    Of an error of ours in a worker, torch makes one with the worker's traceback for a message; the
    message alone is given back.

    Raises:
        WorkerError: If a worker was killed.
    """
    try:
        yield
    except ThreecadError as error:
        kind = type(error)
        _, mark, message = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")
        if not (mark and str(error).startswith("Caught ")):
            raise
        raise kind(message.strip()) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise WorkerError(
            f"{str(error).splitlines()[0].rstrip('.')}. A worker that is killed has usually met "
            "the limit of the memory, or of /dev/shm in a container. Use fewer `workers`, or a "
            "smaller `batch_size`."
        ) from error
