"""A folder that appears whole or not at all, and whose making can be taken up again.

The work goes on in ``.<name>.partial`` beside the target. Only when everything is written is it
renamed. A killed conversion leaves the partial folder, and the same command goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from threecad.errors import ConversionError, UsageError
from threecad.system import atomic
from threecad.system.locations import OWN_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["RECORD", "partial_folder", "staged_folder"]

RECORD = "conversion.jsonl"
"""File in ``.threecad`` that says what a folder was converted from: one line of JSON."""

_RECIPE = "recipe.json"


def partial_folder(target: Path) -> Path:
    """Return where ``target`` is being made."""
    return target.with_name(f".{target.name}.partial")


@contextmanager
def staged_folder(target: Path, recipe: dict[str, Any], *, force: bool = False) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` when the block ends well.

    When the block raises or the process dies, what was done stays in ``partial_folder(target)``; it
    is yielded again to a call with the same ``recipe`` and thrown away by one with another.

    Args:
        target: The folder to make. An empty folder in its place counts as absent.
        recipe: JSON-able description of the work: same recipe, same result.
        force: Replace ``target`` if threecad wrote it. Any other folder is refused.

    Raises:
        ConversionError: If ``target`` is there, or another process is making it.
    """
    partial = partial_folder(target)
    partial.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(partial.with_name(f"{partial.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConversionError(
            f"Another process is writing {target}. Wait for it, or choose another folder."
        ) from None
    try:
        # Under the lock: another process may have finished the same folder a moment ago.
        check_replaceable(target, force=force)
        own = partial / OWN_FOLDER
        own.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()
        if _recipe_of(own) != digest:
            shutil.rmtree(partial)
            own.mkdir(parents=True)
            atomic.write_json(own / _RECIPE, {"recipe": digest})
        _remove_leftovers(partial)
        yield partial
        (own / _RECIPE).unlink()
        if hasattr(os, "sync"):
            os.sync()
        atomic.replace_folder(partial, target)
    finally:
        with suppress(OSError):  # Windows keeps an open file
            Path(lock.lock_file).unlink()
        lock.release()


def check_replaceable(target: Path, *, force: bool) -> None:
    """Raise unless ``target`` is absent, empty, or ours and to be replaced.

    Raises:
        ConversionError: If it must not be replaced.
    """
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConversionError(f"{target} is in the way: it is no folder. Choose another name.")
    if not target.exists() or not any(target.iterdir()):
        return
    if not force:
        raise ConversionError(
            f"{target} is not empty. Choose another folder, or replace it with `force=True`."
        )
    ours = target / OWN_FOLDER
    if not ((ours / RECORD).is_file() or (ours / "import.json").is_file()):
        raise UsageError(
            f"{target} was not written by `threecad convert` or `threecad import`, so "
            "`force=True` does not remove it. Remove it yourself, or choose another folder."
        )


def _recipe_of(own: Path) -> str | None:
    try:
        digest = json.loads((own / _RECIPE).read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(digest)


def _remove_leftovers(folder: Path) -> None:
    """Remove the files that a killed process was just writing."""
    for path in folder.rglob(f"{atomic.TEMPORARY_PREFIX}*"):
        path.unlink()
