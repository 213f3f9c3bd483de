"""The one parallel map: worker processes here, Dask or Ray where the data is on many machines."""

from __future__ import annotations

import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from threecad.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["map", "worker_count"]

Item = TypeVar("Item")
Value = TypeVar("Value")


def worker_count(workers: int | None = None) -> int:
    """Return how many processes to use: ``workers``, or one per usable core when ``None``."""
    if workers is None:
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1
    if workers < 0:
        raise UsageError(f"workers is {workers}; expected 0 (this process) or more.")
    return max(workers, 1)


def map(  # noqa: A001  (used as parallel.map)
    function: Callable[[Item], Value],
    items: Sequence[Item],
    *,
    workers: int | None = None,
    cluster: str | None = None,
    batch_size: int = 16,
    description: str | None = None,
    unit: str = "image",
) -> Iterator[Value]:
    """Yield ``function(item)`` for every item, in order, as results come in.

    Results are produced lazily with a bounded number in flight, so memory does not grow with the
    number of items. The result does not depend on ``workers`` or ``cluster``.

    Args:
        function: A picklable function. What it raises is raised here.
        items: What to map over.
        workers: Number of processes; ``None`` is one per core, 0 and 1 run in this process.
        cluster: ``"dask://host:port"`` or ``"ray"`` (``"ray://host:port"``) to run elsewhere.
        batch_size: Items handed to a worker at a time.
        description: Shown with a progress bar on stderr; no bar when ``None``.
        unit: Name of one item in the progress bar.

    Raises:
        UsageError: If ``cluster`` is none of the known kinds or its extra is not installed.
    """
    batches = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
    with tqdm(
        total=len(items), desc=description, unit=unit, disable=description is None or not items
    ) as progress:
        for results in _map_batches(function, batches, worker_count(workers), cluster):
            progress.update(len(results))
            yield from results


def _map_batches(
    function: Callable[[Item], Value],
    batches: list[Sequence[Item]],
    workers: int,
    cluster: str | None,
) -> Iterator[list[Value]]:
    if cluster is None and (workers == 1 or len(batches) <= 1):
        for batch in batches:
            yield _apply(function, batch)
        return
    import joblib

    # Workers outlive a call, and with it the folder they were started in.
    apply = joblib.delayed(partial(_apply_in, os.getpid(), Path.cwd(), function))
    with _backend(cluster):
        if cluster is not None and cluster.startswith("ray"):
            yield from _take_turns(apply, batches)
            return
        # Under a cluster n_jobs=-1 means every worker it has.
        jobs = joblib.Parallel(
            n_jobs=-1 if cluster else workers, return_as="generator", pre_dispatch="3*n_jobs"
        )
        yield from jobs(apply(batch) for batch in batches)


def _take_turns(apply: Callable[..., Any], batches: list[Any]) -> Iterator[list[Any]]:
    """Yield results for a backend that returns nothing before everything given to it is done."""
    import joblib

    turn = 8 * joblib.effective_n_jobs(-1)
    with joblib.Parallel(n_jobs=-1) as jobs:
        for start in range(0, len(batches), turn):
            yield from jobs(apply(batch) for batch in batches[start : start + turn])


def _apply_in(
    caller: int, folder: Path, function: Callable[[Item], Value], batch: Sequence[Item]
) -> list[Value]:
    """Apply in the caller's working folder, so that relative paths mean what they say."""
    _end_with(caller)
    if folder.is_dir():  # on another machine of a cluster it may not be
        os.chdir(folder)
    return _apply(function, batch)


@cache
def _end_with(caller: int) -> None:
    """End this worker when the process that started it was killed, so that none is left behind."""
    if os.name != "posix" or os.getppid() != caller:  # a cluster's workers are not ours to end
        return

    def watch() -> None:
        while os.getppid() == caller:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _apply(function: Callable[[Item], Value], batch: Sequence[Item]) -> list[Value]:
    return [function(item) for item in batch]


def _backend(cluster: str | None) -> AbstractContextManager[Any]:
    """Return the context in which joblib runs its jobs."""
    import joblib

    if cluster is None:
        return nullcontext()
    kind, _, address = cluster.partition("://")
    try:
        if kind == "dask" and address:
            from dask.distributed import Client

            client = Client(  # type: ignore[no-untyped-call]
                f"tcp://{address}"
            )
            return _closing(joblib.parallel_config(backend="dask"), client)
        if kind == "ray":
            import ray
            from ray.util.joblib import register_ray

            if not ray.is_initialized():
                ray.init(address=f"ray://{address}" if address else None)
            register_ray()
            return joblib.parallel_config(backend="ray")  # type: ignore[no-any-return]
    except ImportError as error:
        raise UsageError(
            f"`cluster={cluster!r}` needs the package {error.name!r}: "
            "pip install 'threecad[cluster]'"
        ) from None
    except OSError as error:
        raise UsageError(
            f"No cluster answers at {cluster}: {error}. Start it, or check host and port."
        ) from error
    raise UsageError(
        f"{cluster!r} is no cluster address. Expected dask://HOST:PORT, ray or ray://HOST:PORT."
    )


class _closing(AbstractContextManager[Any]):  # noqa: N801  (reads as contextlib.closing)
    """Enter ``config``; on exit leave it and close the client behind it."""

    def __init__(self, config: Any, client: Any) -> None:
        self.config, self.client = config, client

    def __enter__(self) -> Any:
        return self.config.__enter__()

    def __exit__(self, *exception: object) -> None:
        try:
            self.config.__exit__(*exception)
        finally:
            self.client.close()
