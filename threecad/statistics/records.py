"""Records about files, made in parallel and remembered while the files are unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from threecad import parallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from threecad.caching import FileCache

__all__ = ["remembered"]

Job = TypeVar("Job")

_CHUNK = 1024
"""Records between two writes of the cache: a killed run loses at most these."""


def remembered(
    cache: FileCache,
    jobs: Mapping[Path, Job],
    function: Callable[[Job], Any],
    *,
    valid: Callable[[Path, Any], bool] | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    description: str | None = None,
) -> dict[Path, Any]:
    """Return ``function(job)`` for each file, from the cache where the file is unchanged.

    Args:
        cache: Where records are looked up first and kept.
        jobs: Per file what its record is made from.
        function: Picklable; returns JSON-able data.
        valid: Whether a record that was found still holds, for more than the file itself.
        workers: Worker processes; see ``threecad.parallel.map``.
        cluster: Where to run them, if not here.
        description: Title of the progress bar on stderr.
    """
    known = cache.get_many(jobs)
    if valid is not None:
        known = {path: record for path, record in known.items() if valid(path, record)}
    missing = [path for path in jobs if path not in known]
    if missing:
        made = parallel.map(
            function,
            [jobs[path] for path in missing],
            workers=workers,
            cluster=cluster,
            description=description,
        )
        for chunk in _chunks(zip(missing, made, strict=True)):
            known.update(chunk)
            cache.put_many(chunk)
    return {path: known[path] for path in jobs}


def _chunks(items: Iterable[tuple[Path, Any]]) -> Iterator[dict[Path, Any]]:
    chunk: dict[Path, Any] = {}
    for path, record in items:
        chunk[path] = record
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = {}
    yield chunk
