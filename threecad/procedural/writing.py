"""The sample as a folder in the layout of 3CAD."""

from __future__ import annotations

import secrets
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from threecad.dataset.catalog import CATEGORIES, find_category
from threecad.errors import UsageError
from threecad.procedural.rendering import DEFAULT_SIZE, check_size, folders, render
from threecad.system import atomic, parallel
from threecad.system.locations import OWN_FOLDER
from threecad.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

__all__ = ["SAMPLE_MARKER", "write_sample"]

SAMPLE_MARKER = f"{OWN_FOLDER}/sample.json"
"""The file, relative to the root, that tells a sample from real data."""


class Job(NamedTuple):
    """One image to draw: the arguments of `render`."""

    category: str
    split: str
    defect_type: str | None
    number: int


def write_sample(
    out: str | os.PathLike[str],
    *,
    per_category: int = 12,
    size: int | None = None,
    seed: int = 0,
    categories: Sequence[str] | None = None,
    workers: int | None = None,
    force: bool = False,
    progress: bool = False,
) -> Path:
    """Write a procedural miniature of 3CAD: drawn images, real layout, exact masks.

    Each category gets ``per_category`` good images for training, as many good and as many defective
    ones for testing. The defective ones take the category's types in turn, so each occurs once
    ``per_category`` reaches their number. A larger ``per_category`` adds images and changes none.

    The folder appears whole, its marker ``.threecad/sample.json`` inside, or not at all.

    Args:
        out: The folder to make. It may exist if it is empty.
        per_category: Number of images of each kind a category, at least 1.
        size: Longer side in pixels of the largest images, at least 64; ``None`` is 256.
        seed: Random seed. The same seed gives the same pixels on every machine.
        categories: Names or codes of 3CAD's categories; ``None`` is all eight.
        workers: Processes; ``None`` is one per core. The pixels do not depend on it.
        force: Replace an earlier sample. Folders that hold anything else are never replaced.
        progress: Show a progress bar on stderr.

    Returns:
        The folder, the root of the tree.

    Raises:
        UsageError: If an argument is out of range or ``out`` may not be written to.
    """
    size = DEFAULT_SIZE if size is None else size
    check_size(size)
    if per_category < 1:
        raise UsageError(f"per_category is {per_category}; expected 1 or more.")
    names = _category_names(categories)
    root = Path(out).expanduser().resolve()
    _check_replaceable(root, force)
    root.parent.mkdir(parents=True, exist_ok=True)
    staging = root.with_name(f"{atomic.TEMPORARY_PREFIX}{secrets.token_hex(6)}")
    try:
        jobs = [job for name in names for job in _jobs(name, per_category)]
        write = partial(_write_image, staging, seed, size)
        description = "sample" if progress else None
        for _ in parallel.map(write, jobs, workers=workers, description=description):
            pass
        marker = {
            "schema": 1,
            "kind": "sample",
            "threecad": __version__,
            "seed": seed,
            "size": size,
            "per_category": per_category,
            "categories": names,
        }
        atomic.write_json(staging / SAMPLE_MARKER, marker)
        atomic.replace_folder(staging, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return root


def _category_names(categories: Sequence[str] | None) -> list[str]:
    """The folder names of `categories`, in the order of the catalogue, each once."""
    chosen = set()
    for name in CATEGORIES if categories is None else categories:
        category = find_category(name)
        if category is None:
            raise UsageError(f"No category {name!r}. Categories: {', '.join(CATEGORIES)}.")
        chosen.add(category.name)
    if not chosen:
        raise UsageError("No category is named. Leave categories out to get all eight.")
    return [name for name in CATEGORIES if name in chosen]


def _jobs(category: str, count: int) -> Iterator[Job]:
    for split in ("train", "test"):
        for number in range(count):
            yield Job(category, split, None, number)
    types = folders(category)
    for i in range(count):
        yield Job(category, "test", types[i % len(types)], i // len(types))


def _write_image(root: Path, seed: int, size: int, job: Job) -> None:
    image, mask = render(*job, seed=seed, size=size)
    folder = job.defect_type or "good"
    _save(image, root / job.category / job.split / folder / f"{job.number:06d}.png")
    if job.defect_type is not None:
        _save(mask, root / job.category / "ground_truth" / folder / f"{job.number:06d}.png")


def _save(pixels: npt.NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)  # four times as fast, 8 % larger


def _check_replaceable(root: Path, force: bool) -> None:
    if root == Path.cwd():
        raise UsageError(f"{root} is the current folder. Name a folder inside it instead.")
    if root.is_file():
        raise UsageError(f"{root} is a file. Name a folder that does not exist yet.")
    if not root.exists() or not any(root.iterdir()):
        return
    if not (root / SAMPLE_MARKER).is_file():
        raise UsageError(
            f"{root} is not empty and is no earlier sample (it has no {SAMPLE_MARKER}), so it is "
            "left as it is. Name another folder."
        )
    if not force:
        raise UsageError(
            f"{root} already holds a sample. Replace it with --force (force=True), or name "
            "another folder."
        )
