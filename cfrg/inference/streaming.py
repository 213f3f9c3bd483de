"""Work that goes on while the network computes: reading ahead, and writing behind."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

__all__ = ["Later", "WriteBehind", "read_ahead", "read_in_threads"]

Item = TypeVar("Item")

PATIENCE = 0.1  # seconds after which the reader looks whether it is still wanted


def read_ahead(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Yield ``items``, which a thread fetches while the caller works on earlier ones.

    Args:
        items: May be endless, and may wait (a camera). What it raises is raised here.
        depth: Items that may lie ready.
    """
    ready: queue.Queue[tuple[Item | None, BaseException | None, bool]] = queue.Queue(depth)
    stopped = threading.Event()

    def offer(item: Item | None, error: BaseException | None, last: bool) -> None:
        while not stopped.is_set():
            try:
                ready.put((item, error, last), timeout=PATIENCE)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for item in items:
                offer(item, None, False)
                if stopped.is_set():
                    return
        except BaseException as error:  # it belongs to whoever asked for the items
            offer(None, error, True)
        else:
            offer(None, None, True)

    # A daemon: a source that never answers again must not keep the process alive.
    threading.Thread(target=read, name="read-ahead", daemon=True).start()
    try:
        while True:
            item, error, last = ready.get()
            if error is not None:
                raise error
            if last:
                return
            yield item  # type: ignore[misc]  # only the last one is None
    finally:
        stopped.set()


@dataclass(frozen=True)
class Later(Generic[Item]):
    """An item that a call makes, in any thread and at any time."""

    make: Callable[[], Item]


def read_in_threads(
    items: Iterable[Item | Later[Item]], depth: int, threads: int
) -> Iterator[Item]:
    """Yield ``items`` in order as ``read_ahead`` does; several threads make those that come later.

    Args:
        items: As for ``read_ahead``. What comes ready stays as it is.
        depth: Items that may lie ready or be on their way.
        threads: How many are made at a time.
    """
    pool = ThreadPoolExecutor(threads, "read")

    def begin(item: Item | Later[Item]) -> Item | Future[Item]:
        return pool.submit(item.make) if isinstance(item, Later) else item

    try:
        for item in read_ahead(map(begin, items), depth):
            yield item.result() if isinstance(item, Future) else item
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class WriteBehind:
    """One thread that does what it is told, in order, while the caller goes on.

    What a task raises is raised by a later call, or when the block ends.

    Args:
        depth: Tasks that may wait; more make the caller wait.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._thread = ThreadPoolExecutor(1, "write-behind")
        self._waiting: deque[Future[Any]] = deque()

    def __call__(self, task: Callable[..., Any], *arguments: Any) -> None:
        """Have ``task(*arguments)`` done."""
        self._waiting.append(self._thread.submit(task, *arguments))
        while len(self._waiting) > self.depth:
            self._waiting.popleft().result()

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=kind is not None)
        while kind is None and self._waiting:
            self._waiting.popleft().result()
