"""The sample as a folder in the layout of 3CAD."""

from __future__ import annotations

import secrets
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from threecad.dataset.archive_facts import archive_facts
from threecad.errors import UsageError
from threecad.images.masks import read_mask
from threecad.procedural.planning import choose_categories, plan_archive, plan_sample
from threecad.procedural.published import SIZED_TYPES, stand_in_sizes
from threecad.procedural.rendering import DEFAULT_SIZE, check_size, grown, render_pair
from threecad.system import atomic, parallel
from threecad.system.locations import OWN_FOLDER
from threecad.version import __version__

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import numpy.typing as npt

    from threecad.dataset.archive_facts import Edition
    from threecad.procedural.planning import Job, Like

__all__ = ["SAMPLE_MARKER", "write_sample"]

SAMPLE_MARKER = f"{OWN_FOLDER}/sample.json"
"""The file, relative to the root, that tells a sample from real data."""


STAND_IN_SIZE = 64
"""Longer side of the largest images of a stand-in for the archive, pixels."""


def write_sample(
    out: str | os.PathLike[str],
    *,
    per_category: int = 12,
    size: int | None = None,
    seed: int = 0,
    categories: Sequence[str] | None = None,
    edition: Edition = "english",
    like: Like | None = None,
    workers: int | None = None,
    force: bool = False,
    progress: bool = False,
) -> Path:
    """Write a procedural miniature of 3CAD: drawn images, real layout, exact masks.

    Each category gets ``per_category`` good images for training, as many good and as many defective
    ones for testing. Each of the archive's defect types occurs once ``per_category`` reaches their
    number, and from there on they come in proportion to their images in the archive. A larger
    ``per_category`` adds images and changes none.

    With ``like="genuine"`` there is an image for each of the archive, under its name: 27,039 of
    them and 11,462 masks in all, small, of 245 sizes, the equal images whose names are published
    being equal. It is for trying pipelines at full size.

    The folder appears whole, its marker ``.threecad/sample.json`` inside, or not at all.

    Args:
        out: The folder to make. It may exist if it is empty.
        per_category: Number of images of each kind a category, at least 1; without ``like`` only.
        size: Longer side in pixels of the largest images, at least 64; ``None`` is 256, and 64 for
            ``like``.
        seed: Random seed. The same seed gives the same pixels on every machine.
        categories: Names or codes of 3CAD's categories; ``None`` is all whose names are known.
        edition: Names of the defect folders: ``english``, or ``pinyin`` where they are known.
        like: ``"genuine"`` for a stand-in of the whole archive.
        workers: Processes; ``None`` is one per core. The pixels do not depend on it.
        force: Replace an earlier sample. Folders that hold anything else are never replaced.
        progress: Show a progress bar on stderr.

    Returns:
        The folder, the root of the tree.

    Raises:
        UsageError: If an argument is out of range or ``out`` may not be written to.
    """
    if size is None:
        size = DEFAULT_SIZE if like is None else STAND_IN_SIZE
    check_size(size)
    if per_category < 1:
        raise UsageError(f"per_category is {per_category}; expected 1 or more.")
    names = choose_categories(categories, edition)
    root = Path(out).expanduser().resolve()
    _check_replaceable(root, force)
    root.parent.mkdir(parents=True, exist_ok=True)
    staging = root.with_name(f"{atomic.TEMPORARY_PREFIX}{secrets.token_hex(6)}")
    try:
        plan = partial(plan_sample, count=per_category) if like is None else plan_archive
        jobs = [job for name in names for job in plan(name, edition=edition)]
        write = partial(_write_image, staging, seed, size, like)
        description = "sample" if progress else None
        for _ in parallel.map(write, jobs, workers=workers, description=description):
            pass
        if like is not None:
            _plant_duplicates(staging, names)
        marker = {
            "schema": 1,
            "kind": "sample",
            "threecad": __version__,
            "seed": seed,
            "size": size,
            "per_category": per_category if like is None else None,
            "edition": edition,
            "like": like,
            "categories": names,
        }
        atomic.write_json(staging / SAMPLE_MARKER, marker)
        atomic.replace_folder(staging, root)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return root


def _write_image(root: Path, seed: int, size: int, like: Like | None, job: Job) -> None:
    sizes = None
    if like is not None and (job.category, job.defect_type) not in SIZED_TYPES:
        sizes = stand_in_sizes()[job.category]
    image, mask, _ = render_pair(*job[:4], seed=seed, size=size, sizes=sizes)
    file = f"{job.number:06d}.png"
    _save(image, root / job.category / job.split / job.folder / file)
    if job.defect_type is not None:
        _save(mask, root / job.category / "ground_truth" / job.folder / file)


def _plant_duplicates(root: Path, categories: Sequence[str]) -> None:
    """Make the images equal that are known to be equal in the archive."""
    for group in archive_facts().duplicates:
        first, *others = (root / f"{name}.png" for name in group.ids)
        if first.relative_to(root).parts[0] not in categories:
            continue
        for path in others:
            shutil.copyfile(first, path)
            if group.mask_pixels:
                _widen_mask(_mask_of(first), _mask_of(path))


def _mask_of(path: Path) -> Path:
    return path.parents[2] / "ground_truth" / path.parent.name / path.name


def _widen_mask(source: Path, target: Path) -> None:
    """Write a mask that is a pixel wider than the source: equal images, different masks."""
    _save(grown(read_mask(source)).astype(np.uint8) * np.uint8(255), target)


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
            f"{root} already holds a sample. Replace it with `force=True`, or name another folder."
        )
